//! The command that asks a sandbox how it behaves.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{Log, RateArg, Target, duration, rate};

#[derive(Debug, Args)]
pub(in crate::cli) struct Probe {
    #[command(flatten)]
    pub(in crate::cli) target: Target,
    /// Requests per second at most; they are sent one after the other
    #[arg(long, allow_hyphen_values = true, value_name = "N|unlimited", default_value = "50", value_parser = rate, help_heading = "Sending")]
    pub(in crate::cli) rate: RateArg,
    /// For one request, from connecting to the last byte of the answer
    #[arg(long, allow_hyphen_values = true, value_name = "DUR", default_value = "30s", value_parser = duration, help_heading = "Sending")]
    pub(in crate::cli) timeout: Duration,
    /// For the connection alone
    #[arg(long, allow_hyphen_values = true, value_name = "DUR", default_value = "5s", value_parser = duration, help_heading = "Sending")]
    pub(in crate::cli) connect_timeout: Duration,
    /// Write each request and its answer as JSON, without secrets
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub(in crate::cli) output: Option<PathBuf>,
    /// An earlier probe's --output: tell what is answered otherwise since
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(in crate::cli) compare: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) log: Log,
}
