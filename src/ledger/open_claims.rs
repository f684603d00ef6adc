//! The claims of new rows that are open, and the commits that made them.
//!
//! The table has one row for each such commit, to be deleted with the last of its claims. And a row that is claimed
//! and not settled stands in no table by its reference: whose rows these are is known here alone, until the
//! commit that writes the row is done. Without that a second row of the source with the same reference would be
//! taken for a new one, and sent too.
//!
//! Pure. Memory: the references of the open rows.

use std::{
    collections::{BTreeMap, HashSet},
    hash::BuildHasherDefault,
};

use super::reference_index::IdentityHasher;
use crate::customer::Reference;

/// Those of a run.
#[derive(Default)]
pub(super) struct OpenClaims {
    /// How many claims are not settled, by the id of the batch's first row.
    open: BTreeMap<i64, usize>,
    /// Whose rows no table has.
    references: HashSet<Reference, BuildHasherDefault<IdentityHasher>>,
}

impl OpenClaims {
    /// A commit makes these claims; ids ascend.
    pub(super) fn insert<'a>(&mut self, claims: impl Iterator<Item = (i64, &'a Reference)>) {
        let mut batch: Option<(i64, usize)> = None;
        for (id, reference) in claims {
            batch = Some(batch.map_or((id, 1), |(first, open)| (first, open + 1)));
            self.references.insert(reference.clone());
        }
        self.open.extend(batch);
    }

    /// A claim is settled, and its row is about to be written; the batch, if it was its last.
    pub(super) fn settle(&mut self, id: i64) -> Option<i64> {
        let (first, open) = self.open.range_mut(..=id).next_back()?;
        *open = open.saturating_sub(1);
        let first = *first;
        (*open == 0).then(|| {
            self.open.remove(&first);
            first
        })
    }

    /// The row of a settled claim is in the table.
    pub(super) fn written(&mut self, reference: &Reference) {
        self.references.remove(reference);
    }

    /// Whether this reference has a row that no table has.
    pub(super) fn has(&self, reference: &Reference) -> bool {
        self.references.contains(reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_ends_with_its_last_claim_and_a_reference_with_its_row() {
        let references: Vec<_> = (0..9).map(|id| Reference::recorded(&format!("reference-{id}"))).collect();
        let batch = |ids: &'static [i64]| ids.iter().map(|id| (*id, &references[*id as usize]));
        let mut batches = OpenClaims::default();
        batches.insert(batch(&[3, 5, 6]));
        batches.insert(batch(&[8]));
        batches.insert(batch(&[]));
        let has = |batches: &OpenClaims| -> Vec<usize> {
            (0..9).filter(|id| batches.has(&references[*id])).collect()
        };
        assert_eq!(has(&batches), [3, 5, 6, 8]);
        assert_eq!(batches.settle(8), Some(8));
        assert_eq!([batches.settle(6), batches.settle(3)], [None, None]);
        assert_eq!(batches.settle(5), Some(3));
        assert_eq!(has(&batches), [3, 5, 6, 8], "settled, and not written yet");
        batches.written(&references[8]);
        batches.written(&references[5]);
        assert_eq!(has(&batches), [3, 6]);
    }
}
