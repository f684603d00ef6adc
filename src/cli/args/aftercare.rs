//! Commands that work on a ledger that is there already.

use std::time::SystemTime;

use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser};

use super::{Failures, Input, Ledger, Output, Sending, Target, delimiter, field, field_and_text, validation};
use crate::{
    customer::{Field, Phones, Validation},
    source::Encoding,
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Retry {
    /// Only rows that failed, or only rows that were rejected
    #[arg(long, value_enum, help_heading = "Rows")]
    pub(in crate::cli) only: Option<Only>,
    /// Only rows with this error code, as export failed and report have it
    #[arg(long, value_name = "CODE", value_parser = NonEmptyStringValueParser::new(), help_heading = "Rows")]
    pub(in crate::cli) error_code: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) target: Target,
    #[command(flatten)]
    pub(in crate::cli) input: Reinput,
    #[command(flatten)]
    pub(in crate::cli) sending: Sending,
    #[command(flatten)]
    pub(in crate::cli) failures: Failures,
    #[command(flatten)]
    pub(in crate::cli) ledger: Ledger,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Prune {
    /// Runs that ended before this day go, as UTC has it: 2026-01-31, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub(in crate::cli) before: SystemTime,
    #[command(flatten)]
    pub(in crate::cli) ledger: Ledger,
}

fn date(text: &str) -> Result<SystemTime, String> {
    let midnight = format!("{text}T00:00:00Z");
    let date = humantime::parse_rfc3339(&midnight).or_else(|_| humantime::parse_rfc3339(text));
    date.map_err(|_| "a day such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z".into())
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    #[command(flatten)]
    pub(in crate::cli) target: Target,
    #[command(flatten)]
    pub(in crate::cli) input: Input,
    #[command(flatten)]
    pub(in crate::cli) sending: Sending,
    /// Only so many rows, chosen at random [default: every imported row]
    #[arg(long, allow_hyphen_values = true, value_name = "N", value_parser = sample, help_heading = "Rows")]
    pub(in crate::cli) sample: Option<usize>,
    /// Mark rows that differ as changed in the ledger, so that import --update-changed repairs them
    #[arg(long, help_heading = "Rows")]
    pub(in crate::cli) mark: bool,
    #[command(flatten)]
    pub(in crate::cli) ledger: Ledger,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

fn sample(text: &str) -> Result<usize, String> {
    match text.parse::<u32>() {
        Ok(rows @ 1..) => Ok(rows as usize),
        _ => Err("a number of rows, such as 500".into()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Only {
    Failed,
    Rejected,
}

/// How rows of the ledger are read; what is not given is as in the run that they come from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Input")]
pub(in crate::cli) struct Reinput {
    /// Which column holds a field, where it shall be another one (repeatable)
    #[arg(long, value_name = "FIELD=COLUMN", value_parser = field_and_text)]
    pub(in crate::cli) map: Vec<(Field, String)>,
    /// A constant where there is no such column or the cell is empty (repeatable)
    #[arg(long, value_name = "FIELD=VALUE", value_parser = field_and_text)]
    pub(in crate::cli) set: Vec<(Field, String)>,
    /// Every documented rule, or only what no API could accept [default: as in the run]
    #[arg(long, value_name = "documented|lenient", value_parser = validation)]
    pub(in crate::cli) validation: Option<Validation>,
    /// Send a row without an optional field that breaks a rule
    #[arg(long)]
    pub(in crate::cli) drop_invalid_optional: bool,
    /// Read phone numbers in any spelling, as in this region; send national digits, fill the country code
    #[arg(long, value_name = "CC", value_parser = Phones::of)]
    pub(in crate::cli) phone_region: Option<Phones>,
    /// An optional field that must be there (repeatable)
    #[arg(long, value_name = "FIELD", value_parser = field)]
    pub(in crate::cli) require: Vec<Field>,
    /// Only the first N rows
    #[arg(long, allow_hyphen_values = true, value_name = "N")]
    pub(in crate::cli) limit: Option<u64>,
    /// Ask for a client auth token with each customer
    #[arg(long)]
    pub(in crate::cli) get_client_auth_token: bool,
    /// Taken so that import's options fit, and of no effect: the cells are in the ledger
    #[arg(long, value_name = "CHAR", value_parser = delimiter, hide = true)]
    pub(in crate::cli) delimiter: Option<u8>,
    /// Likewise
    #[arg(long, value_name = "LABEL", value_parser = Encoding::from_label, hide = true)]
    pub(in crate::cli) encoding: Option<Encoding>,
}
