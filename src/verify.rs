//! Compares the customers at the API with the rows of a file that a ledger has imported.
//!
//! `lookups` looks the rows up by Get, for `plan` too. Nothing is recorded here, because the current state of the API
//! is not an outcome of a run. Fields are compared by their fingerprints, so no value is kept beyond its reply. A field
//! that the file does not have is not compared, because the API may fill it in.
//!
//! Must not depend on HTTP, SQL, CSV or the terminal.

mod lookups;

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::debug;

pub use self::lookups::Choice;
pub(crate) use self::lookups::{LookupCaller, ToLookUp, look_up};

use crate::{
    customer::{FieldCounts, Fingerprint, Reference, Row},
    error::Error,
    ledger::{ChangedAtApi, ImportedIndex, ImportedRow},
    run::{Chunks, EndReason, Limits, Signal},
    sender::{Lookup, Sender},
    source::Chunk,
};

/// How many lines of each kind are listed.
const LINES_MAX: usize = 20;

/// The options of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The limits of the run.
    pub limits: Limits,
    /// Which of the imported rows to look up.
    pub choice: Choice,
    /// Whether to keep the rows that differ, to be marked in the ledger.
    pub mark: bool,
}

/// The result so far.
#[derive(Clone, Debug, Default)]
pub struct ComparisonResult {
    /// Number of rows in the file.
    pub rows: u64,
    /// Rows of the file that the ledger has not imported, including invalid ones and duplicates.
    pub not_imported: u64,
    /// Rows of the file that the ledger has imported.
    pub imported: u64,
    /// Rows whose customer has the fields of the file.
    pub same: u64,
    /// Rows whose customer differs.
    pub different: u64,
    /// Rows without a customer.
    pub missing: u64,
    /// Rows whose lookup has used up its attempts.
    pub unanswered: u64,
    /// Number of rows in which each field differs.
    pub fields: FieldCounts,
    /// Number of rows in which the customer id differs.
    pub other_id: u64,
    /// The first lines that differ, each with the names of its fields.
    pub first_different: Vec<(u64, String)>,
    /// The first lines that are missing.
    pub first_missing: Vec<u64>,
    /// Rows that differ although the file has the imported fields: no import would find the difference.
    pub unnoticed: u64,
    /// The same rows, if they are to be marked.
    pub to_mark: Vec<ChangedAtApi>,
    /// Number of bytes of the source that were read.
    pub bytes: u64,
}

impl ComparisonResult {
    /// Rows whose lookup has ended.
    pub fn looked_up(&self) -> u64 {
        self.same + self.different + self.missing + self.unanswered
    }

    /// Adds the result of a lookup. With `mark`, keeps a row that differs, to be marked in the ledger.
    fn compare(&mut self, lookup: &LookupRow, result: Lookup, mark: bool) {
        match result {
            Lookup::Found { customer_id, facts } => {
                let ours = lookup.fingerprint;
                let fields = ours.differing(facts).without(facts.fields().without(ours.fields()));
                let other_id = customer_id != lookup.imported.customer_id;
                if let Some(differing) = lookup.imported.changed_at_api(ours, facts) {
                    self.unnoticed += 1;
                    self.to_mark.extend(mark.then_some(differing));
                }
                if fields.is_empty() && !other_id {
                    self.same += 1;
                    return;
                }
                let words = match (fields.is_empty(), other_id) {
                    (true, _) => "customer id".to_owned(),
                    (false, true) => format!("customer id, {fields}"),
                    (false, false) => fields.to_string(),
                };
                debug!(line = lookup.line, fields = %words, "the API has something else");
                self.different += 1;
                self.other_id += u64::from(other_id);
                self.fields.add(fields);
                insert_among_first(&mut self.first_different, (lookup.line, words));
            }
            Lookup::Missing => {
                debug!(line = lookup.line, "the API has no such customer");
                self.missing += 1;
                insert_among_first(&mut self.first_missing, lookup.line);
            }
            Lookup::Unanswered => self.unanswered += 1,
            Lookup::Ended | Lookup::Halted(_) => {}
        }
    }
}

/// Keeps the first lines in file order, because lookups do not end in that order.
fn insert_among_first<T: PartialOrd>(first: &mut Vec<T>, one: T) {
    let at = first.partition_point(|other| *other < one);
    first.insert(at, one);
    first.truncate(LINES_MAX);
}

/// Whether the row is a duplicate of a failed export. Its reference is that of an imported row, and its fields are not.
fn is_repeat(row: &Row) -> bool {
    row.corrects.as_ref().is_some_and(|own| own.repeats == Some(true))
}

/// A row to look up.
struct LookupRow {
    line: u64,
    reference: Reference,
    fingerprint: Fingerprint,
    imported: ImportedRow,
}

impl ToLookUp for LookupRow {
    fn line(&self) -> u64 {
        self.line
    }

    fn reference(&self) -> &Reference {
        &self.reference
    }
}

struct Comparison<'a> {
    imported: ImportedIndex,
    mark: bool,
    found: ComparisonResult,
    show: &'a mut dyn FnMut(&ComparisonResult),
}

/// Looks up every imported row of the source, until the source ends, the user ends the command, or it stops by
/// itself. `show` is called at each tick.
///
/// # Errors
/// If the ledger cannot be read, or a bug ended a lookup's task.
pub async fn run(
    imported: ImportedIndex,
    source: Chunks,
    sender: &Arc<Sender>,
    options: Options,
    signals: &mut mpsc::Receiver<Signal>,
    show: &mut dyn FnMut(&ComparisonResult),
) -> Result<(EndReason, ComparisonResult), Error> {
    let Options { limits, choice, mark } = options;
    let mut comparison = Comparison { imported, mark, found: ComparisonResult::default(), show };
    let reason = look_up(&mut comparison, source, sender, limits, choice, signals).await?;
    Ok((reason, comparison.found))
}

impl LookupCaller for Comparison<'_> {
    type Row = LookupRow;

    /// Offers the imported rows of the chunk; the others are only counted.
    async fn on_chunk(&mut self, chunk: Chunk, offer: &mut dyn FnMut(LookupRow)) -> Result<(), Error> {
        let rows = chunk.rows.iter().filter(|row| !is_repeat(row));
        let good = rows.filter_map(|row| row.reading.as_ref().ok());
        let mut imported = self.imported.find(good.map(|customer| &customer.reference)).await?;
        self.found.bytes = chunk.position.bytes;
        self.found.rows += chunk.rows.len() as u64;
        for row in chunk.rows {
            let is_repeat = is_repeat(&row);
            let found = row.reading.ok().filter(|_| !is_repeat).and_then(|customer| {
                let imported = imported.remove(customer.reference.as_str())?;
                let (reference, fingerprint) = (customer.reference, customer.fingerprint);
                Some(LookupRow { line: row.line, reference, fingerprint, imported })
            });
            match found {
                None => self.found.not_imported += 1,
                Some(lookup) => {
                    self.found.imported += 1;
                    offer(lookup);
                }
            }
        }
        Ok(())
    }

    fn on_result(&mut self, row: LookupRow, result: Lookup) {
        self.found.compare(&row, result, self.mark);
    }

    fn show(&mut self) {
        (self.show)(&self.found);
    }
}
