//! `validate`: every row of a file is read and judged, nothing is sent and nothing is kept.
//!
//! Good rows are only looked at: no customer is made of them. What grows with the file is what finds
//! duplicates, and nothing else.

use std::io;

use super::{
    args::{self, ValidateFormat},
    end::code,
    json,
    log::start_log,
    print,
    progress::Display,
    source_options,
};
use crate::{
    customer::{Seen, Sighting, Vetted},
    error::Error,
    export::Failed,
    report::Validation,
    source::Source,
};

pub(super) fn validate(args: &args::Validate) -> Result<u8, Error> {
    start_log(&args.log, Display::new(args::ProgressArg::Never).log_writer())?;
    let mut source = Source::open(&source_options(&args.input)?)?;
    let mut rows = (args.format == ValidateFormat::Csv)
        .then(|| Failed::new(source.columns(), source.reference_column(), io::stdout().lock()));
    let (mut found, mut seen) = (Validation::default(), Seen::default());
    while let Some(row) = source.next_row_if(|line, row| is_duplicate(&mut found, &mut seen, line, row))? {
        let Some(row) = row else { continue };
        if let Err(faults) = &row.reading {
            found.invalid(row.line, &faults.list);
        }
        if let Some(rows) = &mut rows {
            rows.write(&row);
        }
    }
    let rate = args.rate.0;
    match args.format {
        ValidateFormat::Text if args.log.quiet => {}
        ValidateFormat::Text => print(&found.text(source.name(), rate))?,
        ValidateFormat::Json => print(&json(&found.json(source.name(), rate))?)?,
        ValidateFormat::Csv => {}
    }
    if let Some(rows) = rows {
        rows.end()?;
    }
    Ok(if found.is_clean() { code::OK } else { code::ROWS_LEFT })
}

/// Counts a row that breaks no rule.
fn is_duplicate(found: &mut Validation, seen: &mut Seen, line: u64, row: &Vetted<'_>) -> bool {
    let sighting = seen.see(row.reference());
    match sighting {
        Sighting::Again => found.duplicate(line),
        Sighting::Alike => found.alike(line, row.dropped()),
        Sighting::New => found.valid(row.dropped()),
    }
    sighting == Sighting::Again
}
