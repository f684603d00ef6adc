//! `validate`: every row of a file is read and judged, nothing is sent and nothing is kept.
//!
//! Rows are only looked at: nothing is made of them but where they are to be written. What grows with the
//! file is what finds duplicates, and nothing else. To look a reference up is to wait for memory, so a
//! thread of its own does it, for many at once; where rows are written as they come, each is looked up first.

use std::{
    cell::Cell,
    io,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use super::{
    args::{self, ValidateFormat},
    exit_code::code,
    json,
    logging::start_log,
    print,
    progress_bar::ProgressDisplay,
    source_options,
};
use crate::{
    customer::{Correction, Faults, Field, Mark, Rule, Seen, Sighting, ValidRecord},
    error::Error,
    export::Failed,
    report::Validation,
    source::Source,
};

/// How many rows are looked up together: enough that memory is asked for many at once.
const TOGETHER: usize = 512;

/// How many times as many may wait: more would only hide that looking up is slower than reading.
const AHEAD: usize = 8;

/// A row with a reference on its way to be looked up: its line and its reference, and what it goes without if it is
/// a good one. Of an invalid one the reference is named, so that a later row with it is a duplicate.
type Marked = (u64, Mark, Option<Vec<(Field, Rule)>>);

pub(super) fn validate(args: &args::Validate) -> Result<u8, Error> {
    start_log(&args.log, ProgressDisplay::new(args::ProgressArg::Never).log_writer())?;
    let mut source = Source::open(&source_options(&args.input)?)?;
    let rate = args.rate.0;
    let (found, read) = match args.format {
        ValidateFormat::Csv => write_left_over(&mut source)?,
        ValidateFormat::Text | ValidateFormat::Json => look_at_all(&mut source)?,
    };
    match args.format {
        ValidateFormat::Text if args.log.quiet => {}
        ValidateFormat::Text => print(&found.text(source.name(), rate))?,
        ValidateFormat::Json => print(&json(&found.json(source.name(), rate))?)?,
        ValidateFormat::Csv => {}
    }
    // What was found until reading broke off is told all the same.
    read?;
    Ok(if found.is_clean() { code::OK } else { code::ROWS_LEFT })
}

/// What was found, and how the reading of the file ended.
type Look = (Validation, Result<(), Error>);

fn look_at_all(source: &mut Source) -> Result<Look, Error> {
    let (sender, receiver) = sync_channel(AHEAD);
    thread::scope(|scope| {
        let looked_up = scope.spawn(move || look_up(receiver));
        let (mut found, read) = judge_all(source, &sender);
        // The other thread ends when nothing more can come, also after an error.
        drop(sender);
        let looked_up = looked_up.join().map_err(|_| Error::Bug("no reference could be looked up".into()))?;
        found.join(looked_up);
        Ok((found, read))
    })
}

/// Counts bad rows, and hands on what is to be looked up.
fn judge_all(source: &mut Source, sender: &SyncSender<Vec<Marked>>) -> Look {
    let (mut found, mut room, mut batch) =
        (Validation::default(), String::new(), Vec::with_capacity(TOGETHER));
    let mut count = |line, row: &Result<ValidRecord<'_>, Faults>, own: Option<&Correction>| {
        match row {
            Ok(_) if is_uncorrected(own) => found.duplicate(line),
            Ok(row) => batch.push((line, Mark::of(row.reference(), &mut room), Some(row.dropped().to_vec()))),
            Err(faults) => {
                found.invalid(line, &faults.list);
                batch.extend(faults.named().map(|reference| (line, Mark::of(reference, &mut room), None)));
            }
        }
        if batch.len() == TOGETHER {
            // Nobody to take it means that joining the other thread says why.
            drop(sender.send(std::mem::replace(&mut batch, Vec::with_capacity(TOGETHER))));
        }
        false
    };
    let read = loop {
        match source.next_row_if(&mut count) {
            Ok(Some(_)) => {}
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.into()),
        }
    };
    drop(sender.send(batch));
    (found, read)
}

fn look_up(batches: Receiver<Vec<Marked>>) -> Validation {
    let (mut found, mut seen) = (Validation::default(), Seen::default());
    for batch in batches {
        seen.fetch(batch.iter().map(|(_, mark, _)| *mark));
        for (line, mark, dropped) in batch {
            match dropped {
                Some(dropped) => see(&mut found, &mut seen, line, mark, &dropped),
                None => seen.see(mark),
            };
        }
    }
    found
}

/// Writes the rows that an import would leave over, as its failed export would have them.
fn write_left_over(source: &mut Source) -> Result<Look, Error> {
    let mut rows = Failed::new(source.columns(), source.reference_column(), io::stdout().lock());
    let (mut found, mut seen, mut room) = (Validation::default(), Seen::default(), String::new());
    let is_again = Cell::new(false);
    let mut is_left_over = |line, row: &Result<ValidRecord<'_>, Faults>, own: Option<&Correction>| match row {
        Ok(_) if is_uncorrected(own) => {
            found.duplicate(line);
            true
        }
        Ok(row) => {
            let mark = Mark::of(row.reference(), &mut room);
            see(&mut found, &mut seen, line, mark, row.dropped()) == Sighting::Again
        }
        Err(faults) => {
            found.invalid(line, &faults.list);
            let seen = faults.named().map(|reference| seen.see(Mark::of(reference, &mut room)));
            is_again.set(seen == Some(Sighting::Again) || own.is_some_and(|own| own.repeats == Some(true)));
            true
        }
    };
    let read = loop {
        match source.next_row_if(&mut is_left_over) {
            Ok(Some(Some(row))) => rows.write(&row, is_again.get()),
            Ok(Some(None)) => {}
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.into()),
        }
    };
    rows.end()?;
    Ok((found, read))
}

/// Whether it was a duplicate in an earlier export and has the same reference still.
fn is_uncorrected(own: Option<&Correction>) -> bool {
    own.is_some_and(|own| own.is_of_duplicate() && own.repeats == Some(true))
}

/// Counts a good row by its reference.
fn see(
    found: &mut Validation,
    seen: &mut Seen,
    line: u64,
    mark: Mark,
    dropped: &[(Field, Rule)],
) -> Sighting {
    let sighting = seen.see(mark);
    match sighting {
        Sighting::Again => found.duplicate(line),
        Sighting::Alike => found.alike(line, dropped),
        Sighting::New => found.valid(dropped),
    }
    sighting
}
