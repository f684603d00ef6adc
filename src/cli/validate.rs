//! `validate`: every row of a file is read and judged, nothing is sent and nothing is kept.
//!
//! Rows are only looked at: nothing is made of them but where they are to be written. What grows with the file is what finds
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
    customer::{Faults, Seen, Sighting, Vetted},
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
    while let Some(row) = source.next_row_if(|line, row| {
        let is_good = count(&mut found, &mut seen, line, row);
        !is_good && rows.is_some()
    })? {
        if let (Some(rows), Some(row)) = (&mut rows, row) {
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

/// Counts a row; whether an import would send it.
fn count(found: &mut Validation, seen: &mut Seen, line: u64, row: &Result<Vetted<'_>, Faults>) -> bool {
    match row {
        Err(faults) => {
            found.invalid(line, &faults.list);
            false
        }
        Ok(row) => {
            let sighting = seen.see(row.reference());
            match sighting {
                Sighting::Again => found.duplicate(line),
                Sighting::Alike => found.alike(line, row.dropped()),
                Sighting::New => found.valid(row.dropped()),
            }
            sighting != Sighting::Again
        }
    }
}
