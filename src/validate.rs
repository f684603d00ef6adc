//! Checks every row of a file against the rules; sends nothing and writes no ledger.
//!
//! Rows are inspected without being built, unless they are to be exported. Only the duplicate detector grows with the
//! file. Threads share the work, in chunks of rows: one reads records, two check rows, and one looks references up, because
//! each lookup waits for memory. With an export, one thread does all of it: each row is looked up before it is written.

use std::{
    cell::Cell,
    collections::BTreeMap,
    io::Write,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use serde::Serialize;

use crate::{
    customer::{
        AdviceCounts, Correction, Dropped, DuplicateDetector, Fault, Faults, Field, Occurrence,
        ReferenceHash, Rescue, Rule, SeenReferences, ValidRecord,
    },
    error::Error,
    export::{FailedExport, NamedWriter},
    source::{CHUNK_ROWS, RowSample, Source, UncheckedRows},
};

/// Threads that check rows, however many processors there are: the same file has the same findings everywhere.
const CHECKERS: usize = 2;

/// Batches that may wait for the detector's thread. More would only hide that lookups are slower than reading.
const BATCHES_AHEAD: usize = 8;

/// How many lines are kept as examples of each kind of finding.
const LINES_KEPT: usize = 5;

/// The findings about a file. Their size does not depend on the number of faults, which are grouped by field and
/// rule, with a count and the first lines.
#[derive(Debug, Default)]
pub struct Findings {
    rows: u64,
    invalid: u64,
    /// Rows with the reference of an earlier row.
    pub duplicates: RowSample,
    /// Rows whose reference differs from an earlier one only in letter case, blanks or forms of a character.
    pub similar: RowSample,
    /// Faults by field (`None`: the whole record) and rule.
    pub faults: BTreeMap<(Option<Field>, Rule), FaultGroup>,
    /// Optional fields that are dropped.
    pub dropped: Dropped,
    /// What each option that is not given would make of the invalid rows, if options were tried.
    pub rescues: Vec<Rescue>,
}

/// Rows that break one rule in one field.
#[derive(Debug, Default)]
pub struct FaultGroup {
    /// Number of rows.
    pub rows: u64,
    /// The first of them.
    pub first: Vec<FaultExample>,
    /// What to do about them.
    pub advice: AdviceCounts,
}

/// One fault of one row.
#[derive(Debug, Serialize)]
pub struct FaultExample {
    /// The line of the row.
    pub line: u64,
    /// What was seen; never the value.
    pub seen: String,
}

impl FaultGroup {
    fn add(&mut self, line: u64, fault: &Fault) {
        self.rows += 1;
        self.advice.add(fault.rule.advice(fault.field, &fault.seen), 1);
        if self.first.len() < LINES_KEPT {
            self.first.push(FaultExample { line, seen: fault.seen.clone() });
        }
    }

    fn merge(&mut self, other: FaultGroup) {
        self.rows += other.rows;
        self.advice.merge(other.advice);
        self.first.extend(other.first);
        self.first.sort_by_key(|example| example.line);
        self.first.truncate(LINES_KEPT);
    }
}

impl Findings {
    /// Number of rows read.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Number of rows that break a rule.
    pub fn invalid(&self) -> u64 {
        self.invalid
    }

    /// Number of rows that an import would send.
    pub fn valid(&self) -> u64 {
        self.rows - self.invalid - self.duplicates.rows
    }

    /// Whether an import would send every row.
    pub fn is_clean(&self) -> bool {
        self.invalid == 0 && self.duplicates.rows == 0
    }

    /// The groups of faults, those with the most rows first.
    pub(crate) fn faults_by_rows(&self) -> Vec<(&(Option<Field>, Rule), &FaultGroup)> {
        let mut groups: Vec<_> = self.faults.iter().collect();
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.rows));
        groups
    }

    fn add_valid(&mut self, line: u64, occurrence: Occurrence, dropped: &[(Field, Rule)]) {
        if occurrence == Occurrence::Repeated {
            return self.add_duplicate(line);
        }
        self.rows += 1;
        self.dropped.add(dropped);
        if occurrence == Occurrence::Similar {
            self.similar.add(line);
        }
    }

    /// Adds a row that breaks no rule and has a new reference. `occurrence` says whether a similar one came before.
    pub(crate) fn add_first(&mut self, line: u64, occurrence: Occurrence, dropped: &[(Field, Rule)]) {
        let is_similar = occurrence == Occurrence::Similar;
        self.add_valid(line, if is_similar { occurrence } else { Occurrence::First }, dropped);
    }

    /// Adds a row with the reference of an earlier row.
    pub(crate) fn add_duplicate(&mut self, line: u64) {
        self.rows += 1;
        self.duplicates.add(line);
    }

    /// Adds a row that breaks rules.
    pub(crate) fn add_invalid(&mut self, line: u64, faults: &[Fault]) {
        self.rows += 1;
        self.invalid += 1;
        for fault in faults {
            self.faults.entry((fault.field, fault.rule)).or_default().add(line, fault);
        }
    }

    /// Adds the findings about other rows of the same file.
    fn merge(&mut self, other: Findings) {
        self.rows += other.rows;
        self.invalid += other.invalid;
        self.duplicates.merge(other.duplicates);
        self.similar.merge(other.similar);
        for (of, group) in other.faults {
            self.faults.entry(of).or_default().merge(group);
        }
        self.dropped.merge(&other.dropped);
    }
}

/// The findings, and the read error if there was one. Findings before a read error are reported too.
pub type Validated = (Findings, Result<(), Error>);

/// A row on its way to the detector's thread.
struct HashedRow {
    line: u64,
    reference: ReferenceHash,
    /// The dropped fields of a valid row; `None` for an invalid one, which is already counted and is only needed to
    /// detect later duplicates of its reference.
    dropped: Option<Vec<(Field, Rule)>>,
}

/// Checks every row of the source.
///
/// # Errors
/// If the detector's thread failed; a read error is part of the result.
pub fn validate(source: &mut Source) -> Result<Validated, Error> {
    let tried = source.try_options();
    let (checkers, batches): (Vec<_>, Vec<_>) = (0..CHECKERS).map(|_| Checker::new()).unzip();
    thread::scope(|scope| {
        let detector = scope.spawn(move || detect_duplicates(&batches));
        let (checkers, read) = source.check_rows(checkers, Checker::check);
        let mut findings = Findings::default();
        // The detector's thread ends when the channels close, also after an error.
        checkers.into_iter().for_each(|checker| findings.merge(checker.findings));
        let counted = detector.join().map_err(|_| Error::Bug("no reference could be looked up".into()))?;
        findings.merge(counted);
        findings.rescues = tried.rescues();
        Ok((findings, read.map_err(Error::from)))
    })
}

/// Counts invalid rows and sends the others to the detector's thread, in a batch for each chunk.
struct Checker {
    findings: Findings,
    /// Room for the folded text of a reference.
    scratch: String,
    batches: SyncSender<Vec<HashedRow>>,
}

impl Checker {
    /// A checker, and its batches.
    fn new() -> (Checker, Receiver<Vec<HashedRow>>) {
        let (sender, receiver) = sync_channel(BATCHES_AHEAD);
        (Checker { findings: Findings::default(), scratch: String::new(), batches: sender }, receiver)
    }

    fn check(&mut self, rows: &UncheckedRows<'_>) {
        let Checker { findings, scratch, batches } = self;
        let mut batch = Vec::with_capacity(CHUNK_ROWS);
        rows.check_each(|line, row, correction| match row {
            Ok(_) if is_still_duplicate(correction) => findings.add_duplicate(line),
            Ok(row) => {
                let reference = ReferenceHash::of(row.reference(), scratch);
                batch.push(HashedRow { line, reference, dropped: Some(row.dropped().to_vec()) });
            }
            Err(faults) => {
                findings.add_invalid(line, &faults.list);
                let reference = faults.named().map(|reference| ReferenceHash::of(reference, scratch));
                batch.extend(reference.map(|reference| HashedRow { line, reference, dropped: None }));
            }
        });
        // If the detector's thread has ended, joining it reports why.
        drop(batches.send(batch));
    }
}

/// Looks up the references of all rows in file order: the checkers get the chunks in turn, and so they are asked for
/// their batches in turn.
fn detect_duplicates(checkers: &[Receiver<Vec<HashedRow>>]) -> Findings {
    let (mut findings, mut detector) = (Findings::default(), DuplicateDetector::default());
    for checker in checkers.iter().cycle() {
        let Ok(batch) = checker.recv() else { break };
        detector.prefetch(batch.iter().map(|row| row.reference));
        for HashedRow { line, reference, dropped } in batch {
            let occurrence = detector.insert(reference);
            if let Some(dropped) = dropped {
                findings.add_valid(line, occurrence, &dropped);
            }
        }
    }
    findings
}

/// Checks every row of the source and writes those that an import would not send, in the format of a failed export.
///
/// # Errors
/// If the output cannot be written; a read error is part of the result.
pub fn validate_and_export(source: &mut Source, output: NamedWriter<impl Write>) -> Result<Validated, Error> {
    let mut export = FailedExport::new(source.columns(), source.reference_column(), output);
    let (mut findings, mut seen) = (Findings::default(), SeenReferences::default());
    let is_repeated = Cell::new(false);
    let mut is_left_over =
        |line, row: &Result<ValidRecord<'_>, Faults>, correction: Option<&Correction>| match row {
            Ok(_) if is_still_duplicate(correction) => {
                findings.add_duplicate(line);
                true
            }
            Ok(row) => {
                let occurrence = seen.insert(row.reference());
                findings.add_valid(line, occurrence, row.dropped());
                occurrence == Occurrence::Repeated
            }
            Err(faults) => {
                findings.add_invalid(line, &faults.list);
                let occurrence = faults.named().map(|reference| seen.insert(reference));
                is_repeated.set(
                    occurrence == Some(Occurrence::Repeated)
                        || correction.is_some_and(|correction| correction.repeats == Some(true)),
                );
                true
            }
        };
    let read = loop {
        match source.next_row_if(&mut is_left_over) {
            Ok(Some(Some(row))) => export.write(&row, is_repeated.get()),
            Ok(Some(None)) => {}
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.into()),
        }
    };
    export.finish()?;
    Ok((findings, read))
}

/// Whether the row was a duplicate in an earlier failed export and still has the same reference.
fn is_still_duplicate(correction: Option<&Correction>) -> bool {
    correction.is_some_and(|correction| correction.is_of_duplicate() && correction.repeats == Some(true))
}
