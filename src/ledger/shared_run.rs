//! A run that several workers share: decides which rows of the source this worker claims.
//!
//! The source is not divided: each worker reads all of it in order. The ledger stores a cursor for the run: the number of
//! rows that are claimed so far. The worker that holds the cursor claims the next rows. This worker skips rows that other
//! workers have claimed, and stores only their references, because a later row with the same reference is a duplicate.
//!
//! A chained hash of the claimed rows is stored with the cursor. Each worker compares it with the hash of the rows that
//! the worker has read itself, so that all workers surely read the same rows.
//!
//! When a worker dies or leaves, its open claims become orphaned rows. Another worker adopts these rows: it reads their
//! lines again and settles them.
//!
//! Pure: the store takes and moves the cursor. A ledger in a file has one worker and does not use this module.

use std::collections::HashMap;

use xxhash_rust::xxh3::Xxh3;

use super::{
    checkpoint::SourceRows,
    claim::{Claim, InDoubtClaim},
    error::Error,
    location::Location,
    model::{KnownRow, OpenClaim, RequestCounts, RowId, RunId, SentCounts, Tally},
    unsendable::reference_of,
};
use crate::customer::{Reference, Row, SeenReferences};

/// How far the source of a run is claimed, by all its workers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    /// Number of rows before the cursor.
    pub(super) rows: u64,
    /// Number of rows of the unchanged prefix, which are not claimed again.
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "a run in a file has one worker"))]
    pub(super) start: u64,
    /// Hash of the rows between.
    pub(super) hash: u64,
    /// The id of the next new row.
    pub(super) next_row: RowId,
    /// Whether the source has no row after the cursor.
    pub(super) is_at_end: bool,
}

/// The state of a run over all its workers, at the end of a commit.
#[derive(Clone, Debug)]
pub(super) struct RunView {
    pub(super) tally: Tally,
    pub(super) requests: RequestCounts,
    pub(super) sent: SentCounts,
    pub(super) imported_seen: u64,
    pub(super) cursor_rows: u64,
    pub(super) remaining: Remaining,
    /// Why another worker stops the run before the end of its source.
    pub(super) stopping: Option<String>,
    /// Number of workers that are alive, this one included.
    pub(super) workers: u64,
    /// Number of all workers, including those that have left or died.
    pub(super) all_workers: u64,
}

/// The work that is left for the workers of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remaining {
    /// Nothing: the source is claimed to its end, and every claim is settled.
    Nothing,
    /// Rows that are not claimed, or claims that are not settled.
    Rows,
    /// Rows whose worker has died or left.
    Orphans,
}

/// An orphaned row that this worker has adopted.
#[derive(Debug)]
pub(super) struct AdoptedRow {
    pub(super) reference: Reference,
    pub(super) known: KnownRow,
}

/// This worker's part in a shared run.
pub(super) struct SharedRun {
    run: RunId,
    ledger: Location,
    /// Number of rows of the source before the next row that the reader delivers.
    position: u64,
    /// The first row that is part of the hash.
    start: u64,
    hash: u64,
    /// Number of rows before the cursor, as of the last commit.
    pub(super) known_cursor: u64,
    /// The references of rows that other workers have claimed.
    others: SeenReferences,
    /// Whether another worker has claimed any row before this worker's position.
    pub(super) has_skipped: bool,
    /// Whether the cursor is known to be at the end of the source.
    pub(super) is_at_end: bool,
    /// Whether other workers can join. The worker that began the run opens it with the first claim from the source. Before
    /// that, this worker settles the rows that earlier runs left in doubt, and may skip an unchanged prefix.
    is_open: bool,
    /// Adopted rows that are not read again yet.
    adopted: HashMap<String, AdoptedRow>,
}

impl SharedRun {
    /// The part of the worker that begins the run.
    pub(super) fn beginning(run: RunId, ledger: Location) -> SharedRun {
        SharedRun {
            run,
            ledger,
            position: 0,
            start: 0,
            hash: 0,
            known_cursor: 0,
            others: SeenReferences::default(),
            has_skipped: false,
            is_at_end: false,
            is_open: false,
            adopted: HashMap::new(),
        }
    }

    /// The part of a worker that joins the run. The worker that began it may have skipped an unchanged prefix of `start`
    /// rows.
    pub(super) fn joining(run: RunId, ledger: Location, start: u64) -> SharedRun {
        SharedRun { start, known_cursor: start, is_open: true, ..SharedRun::beginning(run, ledger) }
    }

    /// Begins after an unchanged prefix of this many rows.
    pub(super) fn begin_after(&mut self, rows: u64) {
        self.position = rows;
        self.start = rows;
        self.known_cursor = rows;
    }

    /// How many of the next `rows` rows lie before the last known cursor.
    pub(super) fn claimed_by_others(&self, rows: usize) -> usize {
        usize::try_from(self.known_cursor.saturating_sub(self.position))
            .map_or(rows, |others| others.min(rows))
    }

    /// Removes the rows that other workers are known to have claimed from the next rows of the source.
    pub(super) fn skip_claimed(&mut self, source: &mut SourceRows) {
        let others = self.claimed_by_others(source.rows.len());
        source.drop_first(others, |row| self.skip(&row));
    }

    /// Passes a row that another worker has claimed.
    fn skip(&mut self, row: &Row) {
        if let Some(reference) = reference_of(row) {
            self.others.insert(reference.as_str());
        }
        self.has_skipped = true;
        self.pass(row);
    }

    /// Passes a row.
    pub(super) fn pass(&mut self, row: &Row) {
        if self.position >= self.start {
            let mut hash = Xxh3::with_seed(self.hash);
            for cell in row.record.cells() {
                hash.update(&(cell.len() as u64).to_le_bytes());
                hash.update(cell.as_bytes());
            }
            self.hash = hash.digest();
        }
        self.position += 1;
    }

    /// Accepts the cursor that the store has taken, and returns the cursor from which to claim. The worker that opens the
    /// run sets the cursor to its own position.
    pub(super) fn take(&mut self, cursor: Cursor) -> Cursor {
        let is_open = std::mem::replace(&mut self.is_open, true);
        let cursor =
            if is_open { cursor } else { Cursor { rows: self.position, start: self.start, ..cursor } };
        self.known_cursor = cursor.rows;
        cursor
    }

    /// Checks that this worker reads the same rows as the other workers. At the cursor, the hashes must be equal, and the
    /// source must end where it ended for the other workers. `line` is the next line of this worker's source.
    ///
    /// # Errors
    /// If this worker has read other rows.
    pub(super) fn accept(
        &mut self,
        cursor: &Cursor,
        line: Option<u64>,
        source_ended: bool,
    ) -> Result<(), Error> {
        self.is_at_end = cursor.is_at_end;
        let is_same = match self.is_at_cursor() {
            true => self.hash == cursor.hash && !(cursor.is_at_end && line.is_some()),
            false => !source_ended,
        };
        match is_same {
            true => Ok(()),
            false => Err(Error::OtherSource { ledger: self.ledger.clone(), run: self.run, line }),
        }
    }

    /// Whether this worker has read exactly the rows before the cursor.
    pub(super) fn is_at_cursor(&self) -> bool {
        self.position == self.known_cursor
    }

    /// The cursor after the rows that were passed.
    pub(super) fn moved(&self, next_row: RowId, is_at_end: bool) -> Cursor {
        Cursor { rows: self.position, start: self.start, hash: self.hash, next_row, is_at_end }
    }

    /// Whether another worker has claimed an earlier row with this reference.
    pub(super) fn has_other(&self, reference: &Reference) -> bool {
        self.has_skipped && self.others.has(reference.as_str())
    }

    /// Whether adopted rows wait to be read again.
    pub(super) fn has_adopted(&self) -> bool {
        !self.adopted.is_empty()
    }

    /// Adopts rows; returns their references, by which they are found in the source.
    pub(super) fn adopt(&mut self, rows: Vec<AdoptedRow>) -> Vec<String> {
        self.adopted = rows.into_iter().map(|row| (row.reference.as_str().to_owned(), row)).collect();
        self.adopted.keys().cloned().collect()
    }

    /// Combines each row that was read again with its data from the ledger.
    pub(super) fn take_adopted(&mut self, rows: Vec<Row>) -> Vec<(Row, KnownRow)> {
        let known = |row: Row| {
            let reference = &row.reading.as_ref().ok()?.reference;
            let known = self.adopted.remove(reference.as_str())?.known;
            Some((row, known))
        };
        rows.into_iter().filter_map(known).collect()
    }

    /// Claims of the adopted rows that could not be read again. Such a row can be looked up, but not sent.
    pub(super) fn claim_unread(&mut self, run: RunId, now: i64) -> Vec<Claim> {
        let claim = |(_, AdoptedRow { reference, known }): (String, AdoptedRow)| {
            let KnownRow { id, line, fingerprint, claimed_at, .. } = known;
            let open = OpenClaim { id, line, reference, fingerprint, claimed_at };
            Claim::in_doubt(open, InDoubtClaim::OfThisRun, run, now)
        };
        self.adopted.drain().map(claim).collect()
    }
}
