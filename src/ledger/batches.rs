//! The claims of new rows that are open, by the commit that made them.
//!
//! The table has one row for each such commit, to be deleted with the last of its claims; and of a row
//! that is claimed and not settled, the tables have no reference to be found by. Both are known here.
//!
//! Pure. Memory: the references of at most as many commits as there are open rows.

use std::collections::BTreeMap;

use crate::customer::Reference;

struct OpenBatch {
    /// In the order of their ids.
    references: Vec<(i64, Reference)>,
    open: usize,
}

/// By the id of their first row.
#[derive(Default)]
pub(super) struct OpenBatches(BTreeMap<i64, OpenBatch>);

impl OpenBatches {
    /// A commit has made these claims; ids ascend.
    pub(super) fn insert(&mut self, references: Vec<(i64, Reference)>) {
        if let Some((first, _)) = references.first() {
            let open = references.len();
            self.0.insert(*first, OpenBatch { references, open });
        }
    }

    /// A claim is settled; the batch, if it was its last.
    pub(super) fn settle(&mut self, id: i64) -> Option<i64> {
        let (first, batch) = self.0.range_mut(..=id).next_back()?;
        batch.open = batch.open.saturating_sub(1);
        let first = *first;
        (batch.open == 0).then(|| {
            self.0.remove(&first);
            first
        })
    }

    /// Whether this row was claimed by one of the open batches, for this reference.
    pub(super) fn has(&self, id: i64, reference: &Reference) -> bool {
        let batch = self.0.range(..=id).next_back().map(|(_, batch)| &batch.references);
        batch.is_some_and(|references| {
            references.binary_search_by_key(&id, |(id, _)| *id).is_ok_and(|at| references[at].1 == *reference)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_ends_with_its_last_claim() {
        let reference = |id: i64| Reference::recorded(&format!("reference-{id}"));
        let batch = |ids: &[i64]| ids.iter().map(|id| (*id, reference(*id))).collect();
        let mut batches = OpenBatches::default();
        batches.insert(batch(&[3, 5, 6]));
        batches.insert(batch(&[8]));
        batches.insert(Vec::new());
        assert!(batches.has(5, &reference(5)) && batches.has(8, &reference(8)));
        assert!(!batches.has(5, &reference(6)), "another reference with the same hash");
        assert!(!batches.has(4, &reference(4)) && !batches.has(1, &reference(1)));
        assert_eq!(batches.settle(8), Some(8));
        assert_eq!([batches.settle(6), batches.settle(3)], [None, None]);
        assert!(batches.has(3, &reference(3)), "its row may have been committed or not");
        assert_eq!(batches.settle(5), Some(3));
        assert!(!batches.has(5, &reference(5)));
    }
}
