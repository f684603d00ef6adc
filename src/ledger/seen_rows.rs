//! Records which rows a run has seen in its source, and loads those that an earlier run had seen.
//!
//! Most runs need this only in memory. It is stored if the source had rows whose references could not be read. Such a
//! row may come back corrected, with a reference that is imported: then it is either that customer's own row, or
//! another row of the same source, whose data must not overwrite the customer's. The two cases are distinguished by
//! whether the run that found the row invalid saw the owner of the reference elsewhere in the file. If that is
//! unknown, the row is treated as another one.
//!
//! Pure. Memory: one bit for each row of the ledger.

use std::collections::HashMap;

use super::model::{KnownRow, RowId, RunId};
use crate::customer::Correction;

/// One bit for each row, by id.
#[derive(Default)]
pub(super) struct SeenRows(Vec<u64>);

impl SeenRows {
    /// Whether the row was seen.
    pub(super) fn has(&self, id: RowId) -> bool {
        self.0.get(id.0 as usize / 64).is_some_and(|word| word & 1 << (id.0 % 64) != 0)
    }

    /// Marks the row as seen; true if it was seen before.
    pub(super) fn mark(&mut self, id: RowId) -> bool {
        let (word, bit) = (id.0 as usize / 64, 1 << (id.0 % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let was = self.0[word] & bit != 0;
        self.0[word] |= bit;
        was
    }

    /// Marks every row that `other` has.
    pub(super) fn join(&mut self, other: &SeenRows) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        self.0.iter_mut().zip(&other.0).for_each(|(word, more)| *word |= more);
    }

    /// The bits in the form that the ledger stores, lowest row first.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Parses the result of [`SeenRows::to_bytes`].
    pub(super) fn from_bytes(bytes: &[u8]) -> SeenRows {
        SeenRows(bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }
}

/// The rows that an earlier run had seen when it reached the end of its source.
pub(super) struct SeenBefore {
    /// The id of the next row at that time.
    pub(super) next_id: RowId,
    pub(super) seen: SeenRows,
}

impl SeenBefore {
    /// Whether the row existed when that run ended, but its reference was not in the run's source.
    fn lacked(&self, id: RowId) -> bool {
        id < self.next_id && !self.seen.has(id)
    }
}

/// By line, the runs that found a row with an unreadable reference there.
#[derive(Default)]
pub(super) struct UnreadableRuns(pub(super) HashMap<u64, Vec<RunId>>);

impl UnreadableRuns {
    /// Whether a corrected row may be another row than `known`, which owns its reference.
    pub(super) fn is_another_row(
        &self,
        correction: &Correction,
        known: &KnownRow,
        seen_before: &HashMap<RunId, Option<SeenBefore>>,
    ) -> bool {
        let Some(runs) = self.0.get(&correction.line) else { return true };
        let lacked = |run: &RunId| {
            let before = seen_before.get(run).and_then(Option::as_ref);
            known.run < *run && before.is_some_and(|before| before.lacked(known.id))
        };
        !runs.iter().all(lacked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_seen_once() {
        let mut seen = SeenRows::default();
        for id in [1, 63, 64, 100_000].map(RowId) {
            assert!(!seen.has(id) && !seen.mark(id), "{id:?}");
            assert!(seen.has(id) && seen.mark(id), "{id:?}");
        }
        assert!(!seen.mark(RowId(65)));
    }

    #[test]
    fn what_was_seen_is_kept_and_joined() {
        let of = |ids: &[i64]| {
            let mut seen = SeenRows::default();
            ids.iter().for_each(|id| _ = seen.mark(RowId(*id)));
            seen
        };
        let mut seen = SeenRows::from_bytes(&of(&[3, 64]).to_bytes());
        seen.join(&of(&[200]));
        assert_eq!((0..300).filter(|id| seen.has(RowId(*id))).collect::<Vec<_>>(), [3, 64, 200]);
        let before = SeenBefore { next_id: RowId(100), seen };
        assert_eq!([3, 4, 99, 100].map(|id| before.lacked(RowId(id))), [false, true, true, false]);
    }
}
