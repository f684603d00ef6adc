//! Reads rows of the ledger ahead in the order of their ids: a merge join with a source in the same order.
//!
//! A nightly file usually has its rows in the same order as the night before, which is also the order of the ledger.
//! Looking each reference up by its hash would read a page of the index and a page of rows for each; in order, one
//! page serves all its rows. If the file has another order, or none, rows are looked up by hash.
//!
//! Pure: the store reads the rows.

use std::{borrow::Cow, collections::VecDeque};

use serde::Deserialize;

use super::model::{KnownRow, Outcome, RowId, RunId};
use crate::customer::{Fingerprint, Reference};

/// Number of rows read at a time.
pub(super) const READ_ROWS: usize = 2048;

/// Maximum number of consecutive rows of the ledger that the file may have omitted.
const GAP_MAX: usize = 32;

/// A row and the reference that it owns.
pub(crate) type Owner = (Reference, KnownRow);

/// The rows expected next.
#[derive(Default)]
pub(crate) struct OrderedScan {
    rows: VecDeque<Owner>,
    /// The id to continue reading from; none while the order of the file is unknown.
    next_id: Option<RowId>,
}

impl OrderedScan {
    /// The id to continue reading from, if a chunk may need more rows than were read.
    pub(crate) fn wants_rows_from(&self) -> Option<RowId> {
        self.next_id.filter(|_| self.rows.len() < READ_ROWS / 2)
    }

    /// Adds the rows read from that id.
    pub(crate) fn extend(&mut self, rows: Vec<Owner>) {
        // Without rows, this is the end of the ledger.
        self.next_id = rows.last().map(|(_, last)| RowId(last.id.0 + 1));
        self.rows.extend(rows);
    }

    /// The row that owns the reference, if it is among the next ones.
    pub(crate) fn find(&mut self, reference: &Reference) -> Option<KnownRow> {
        let at = self.rows.iter().take(GAP_MAX).position(|(of, _)| of == reference)?;
        let found = self.rows.drain(..=at).next_back();
        found.map(|(_, known)| known)
    }

    /// Updates the scan after a chunk, of which `looked_up` rows had to be looked up: if most of these are known and
    /// in order, the scan continues after the last of them.
    pub(crate) fn follow(&mut self, chunk: &[Option<KnownRow>], looked_up: usize) {
        let owned = chunk.iter().flatten().count();
        if looked_up <= chunk.len() / 2 || owned <= chunk.len() / 2 {
            return;
        }
        self.rows.clear();
        let mut ids = chunk.iter().flatten().map(|known| known.id.0);
        let first = ids.next().unwrap_or(0);
        let (last, is_ordered) = ids.fold((first, true), |(last, is), id| (id, is && last < id));
        let is_dense = (last - first) as usize <= GAP_MAX * chunk.len();
        self.next_id = (is_ordered && is_dense).then_some(RowId(last + 1));
    }
}

/// A row of `READ_ORDERED`.
#[derive(Deserialize)]
pub(super) struct OrderedRow<'a>(
    RowId,
    RunId,
    u64,
    &'a str,
    #[serde(borrow)] Cow<'a, str>,
    Option<&'a str>,
    i64,
    Option<i64>,
    i64,
);

impl OrderedRow<'_> {
    /// None if the outcome is unknown.
    pub(super) fn read(self) -> Option<Owner> {
        let OrderedRow(id, run, line, outcome, reference, fingerprint, in_doubt, claimed_at, may_have_landed) =
            self;
        let known = KnownRow {
            id,
            run,
            line,
            fingerprint: fingerprint.and_then(Fingerprint::from_hex),
            outcome: Outcome::from_name(outcome)?,
            in_doubt: in_doubt != 0,
            may_have_landed: may_have_landed != 0,
            claimed_at,
        };
        Some((Reference::recorded(&reference), known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(id: i64) -> Owner {
        let known = KnownRow {
            id: RowId(id),
            run: RunId(1),
            line: id as u64,
            fingerprint: None,
            outcome: Outcome::Created,
            in_doubt: false,
            may_have_landed: false,
            claimed_at: None,
        };
        (reference(id), known)
    }

    fn reference(id: i64) -> Reference {
        Reference::recorded(&format!("reference-{id}"))
    }

    fn found(scan: &mut OrderedScan, id: i64) -> Option<i64> {
        scan.find(&reference(id)).map(|known| known.id.0)
    }

    #[test]
    fn a_file_in_the_ledgers_order_is_followed_over_gaps_and_strangers() {
        let mut scan = OrderedScan::default();
        assert_eq!(scan.wants_rows_from(), None, "no order is known yet");
        let chunk: Vec<_> = (10..20).map(|id| Some(owner(id).1)).collect();
        scan.follow(&chunk, 10);
        assert_eq!(scan.wants_rows_from(), Some(RowId(20)));
        scan.extend((20..200).map(owner).collect());
        assert_eq!(found(&mut scan, 20), Some(20));
        assert_eq!(found(&mut scan, 1_000), None, "a row that is new");
        assert_eq!(found(&mut scan, 25), Some(25), "four are gone");
        assert_eq!(found(&mut scan, 22), None, "gone by");
        assert_eq!(found(&mut scan, 199), None, "too far");
        scan.extend(Vec::new());
        assert_eq!(scan.wants_rows_from(), None, "the ledger has no more");
    }

    #[test]
    fn without_an_order_nothing_is_read_ahead() {
        let mut scan = OrderedScan::default();
        let shuffled: Vec<_> = [7, 3, 9, 1].map(|id| Some(owner(id).1)).into();
        scan.follow(&shuffled, 4);
        assert_eq!(scan.wants_rows_from(), None);
        let sparse: Vec<_> = [1, 100_000, 200_000].map(|id| Some(owner(id).1)).into();
        scan.follow(&sparse, 3);
        assert_eq!(scan.wants_rows_from(), None);
        scan.follow(&[None, None, Some(owner(5).1)], 3);
        assert_eq!(scan.wants_rows_from(), None, "most are new");
    }
}
