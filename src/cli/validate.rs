//! `validate`: every row of a file is read and judged, nothing is sent and nothing is kept.
//!
//! Rows are only looked at: nothing is made of them but where they are to be written. What grows with the
//! file is what finds duplicates, and nothing else.

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
    customer::{Faults, Field, Mark, Rule, Seen, Sighting, Vetted},
    error::Error,
    export::Failed,
    report::Validation,
    source::Source,
};

/// How many good rows wait to be looked up together: enough that memory is asked for many at once.
const WAITING_MAX: usize = 256;

pub(super) fn validate(args: &args::Validate) -> Result<u8, Error> {
    start_log(&args.log, Display::new(args::ProgressArg::Never).log_writer())?;
    let mut source = Source::open(&source_options(&args.input)?)?;
    let mut rows = (args.format == ValidateFormat::Csv)
        .then(|| Failed::new(source.columns(), source.reference_column(), io::stdout().lock()));
    let mut check = Check::default();
    while let Some(row) = match &mut rows {
        None => source.next_row_if(|line, row| check.count(line, row))?,
        Some(_) => source.next_row_if(|line, row| check.is_left_over(line, row))?,
    } {
        if let (Some(rows), Some(row)) = (&mut rows, row) {
            rows.write(&row);
        }
    }
    check.look_up();
    let (found, rate) = (check.found, args.rate.0);
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

/// What was found so far, and the good rows that are still to be looked up.
#[derive(Default)]
struct Check {
    found: Validation,
    seen: Seen,
    waiting: Vec<(u64, Mark)>,
}

impl Check {
    /// Counts a row, sooner or later; nobody wants it.
    fn count(&mut self, line: u64, row: &Result<Vetted<'_>, Faults>) -> bool {
        match row {
            Ok(row) if row.dropped().is_empty() => {
                self.waiting.push((line, self.seen.mark(row.reference())));
                if self.waiting.len() == WAITING_MAX {
                    self.look_up();
                }
            }
            row => {
                // In file order: what waits was before it.
                if row.is_ok() {
                    self.look_up();
                }
                self.is_left_over(line, row);
            }
        }
        false
    }

    /// Counts a row at once; whether an import would leave it over.
    fn is_left_over(&mut self, line: u64, row: &Result<Vetted<'_>, Faults>) -> bool {
        match row {
            Ok(row) => {
                let mark = self.seen.mark(row.reference());
                self.see(line, mark, row.dropped()) == Sighting::Again
            }
            Err(faults) => {
                self.found.invalid(line, &faults.list);
                true
            }
        }
    }

    fn look_up(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        self.seen.fetch(waiting.iter().map(|(_, mark)| *mark));
        for (line, mark) in waiting.drain(..) {
            self.see(line, mark, &[]);
        }
        self.waiting = waiting;
    }

    fn see(&mut self, line: u64, mark: Mark, dropped: &[(Field, Rule)]) -> Sighting {
        let sighting = self.seen.see(mark);
        match sighting {
            Sighting::Again => self.found.duplicate(line),
            Sighting::Alike => self.found.alike(line, dropped),
            Sighting::New => self.found.valid(dropped),
        }
        sighting
    }
}
