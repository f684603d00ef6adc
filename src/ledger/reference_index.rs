//! Finds the rows that may own a reference: holds the hashes that are not in the ledger's own index yet, and the
//! claims that are in no table yet.
//!
//! The ledger's index of references, `reference_key`, is ordered by hash, and hashes arrive in random order: if each
//! were written at once, each would dirty a page of its own. So recent hashes are kept in memory (a memtable). Once
//! there are enough, they are frozen, sorted, and merged one slice per commit: neighbours share a page, and no commit
//! takes long.
//!
//! Looking up a new reference would read a page of that index in vain, and a first import has only new references. So
//! a [`BloomFilter`] holds the hashes that were merged since the index was empty.
//!
//! A row that is claimed but not settled is in no table: only [`OpenClaims`] finds it by its reference, until the
//! commit that writes the row is done. Without that, a second row of the source with the same reference would be
//! treated as new and sent too.
//!
//! Pure: no SQL. Two references may have the same hash; the caller compares the texts.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use super::model::RowId;
use crate::customer::Reference;

/// Recent hashes are merged once they are a quarter of those in the table, within these bounds. Up to about ten
/// million rows, a merge then finds several hashes on each page of the index, and a small ledger has few left to
/// merge at the end of a run. The upper bound is just below seven eighths of a power of two, where the map would
/// double. Memory: about two megabytes, twice that during a merge.
const RECENT_MIN: usize = 16 * 1024;
const RECENT_MAX: usize = 110 * 1024;

/// Number of hashes merged per commit: more than a commit adds.
const SLICE: usize = 2048;

/// Hash → row, of the rows that are not in the table `reference_key` yet.
#[derive(Default)]
pub(super) struct ReferenceIndex {
    ids: HashMap<u64, RowId, BuildHasherDefault<IdentityHasher>>,
    /// Further rows with a hash that is already in `ids`; almost always empty.
    twins: Vec<(u64, RowId)>,
    /// The hashes being merged, in the order of the table (signed), and how many of them are already in the table.
    frozen: Vec<(i64, RowId)>,
    merged: usize,
    /// The approximate number of hashes in the table.
    in_table: usize,
    /// The hashes in the table; none if the table already had hashes before this run.
    filter: Option<BloomFilter>,
}

impl ReferenceIndex {
    /// An empty index in front of a table with approximately this many hashes.
    pub(super) fn in_front_of(in_table: usize) -> ReferenceIndex {
        let filter = (in_table == 0).then(BloomFilter::new);
        ReferenceIndex { in_table, filter, ..ReferenceIndex::default() }
    }

    /// Whether the table may have the hash. Never false for a hash that is only in the table.
    pub(super) fn may_be_in_table(&self, key: u64) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.may_have(key))
    }

    /// Adds a row.
    pub(super) fn insert(&mut self, key: u64, id: RowId) {
        if let Some(first) = self.ids.insert(key, id) {
            self.twins.push((key, first));
        }
    }

    /// The rows with this hash that are not in the table.
    pub(super) fn get(&self, key: u64) -> impl Iterator<Item = RowId> {
        let twins = self.twins.iter().filter(move |(of, _)| *of == key).map(|(_, id)| *id);
        let signed = key as i64;
        let from = self.frozen.partition_point(|(of, _)| *of < signed);
        let frozen = self.frozen[from..].iter().take_while(move |(of, _)| *of == signed).map(|(_, id)| *id);
        self.ids.get(&key).copied().into_iter().chain(twins).chain(frozen)
    }

    /// The hashes to merge in this commit; empty while a merge is not worth it.
    pub(super) fn slice_to_merge(&mut self) -> &[(i64, RowId)] {
        let is_worth_it = self.ids.len() >= (self.in_table / 4).clamp(RECENT_MIN, RECENT_MAX);
        self.next_slice(is_worth_it)
    }

    /// The next hashes to merge, until all are merged.
    pub(super) fn slice_of_rest(&mut self) -> &[(i64, RowId)] {
        self.next_slice(true)
    }

    fn next_slice(&mut self, may_freeze: bool) -> &[(i64, RowId)] {
        if self.frozen.is_empty() && may_freeze {
            let ids = std::mem::take(&mut self.ids).into_iter();
            let twins = std::mem::take(&mut self.twins).into_iter();
            self.frozen = ids.chain(twins).map(|(key, id)| (key as i64, id)).collect();
            self.frozen.sort_unstable();
        }
        let end = (self.merged + SLICE).min(self.frozen.len());
        &self.frozen[self.merged..end]
    }

    /// Records that the slice is in the table. Returns the highest row of a completed merge: the table has every row
    /// up to it.
    pub(super) fn slice_merged(&mut self) -> Option<RowId> {
        let end = (self.merged + SLICE).min(self.frozen.len());
        if let Some(filter) = &mut self.filter {
            self.frozen[self.merged..end].iter().for_each(|(key, _)| filter.insert(*key as u64));
        }
        self.merged = end;
        if self.merged < self.frozen.len() {
            return None;
        }
        self.in_table += self.merged;
        self.merged = 0;
        std::mem::take(&mut self.frozen).into_iter().map(|(_, id)| id).max()
    }
}

/// Bloom filter with two bits per key. False positives: 0.3 % at one million keys, 20 % at ten million.
struct BloomFilter(Box<[u64]>);

impl BloomFilter {
    /// Four megabytes, whatever the size of the ledger.
    const BITS: u64 = 1 << 25;

    fn new() -> BloomFilter {
        BloomFilter(vec![0; BloomFilter::BITS as usize / 64].into())
    }

    fn insert(&mut self, key: u64) {
        for (word, bit) in BloomFilter::bits(key) {
            self.0[word] |= bit;
        }
    }

    fn may_have(&self, key: u64) -> bool {
        BloomFilter::bits(key).into_iter().all(|(word, bit)| self.0[word] & bit != 0)
    }

    fn bits(key: u64) -> [(usize, u64); 2] {
        [key, key >> 32].map(|part| part % BloomFilter::BITS).map(|at| ((at / 64) as usize, 1 << (at % 64)))
    }
}

/// A hasher for keys that are already hashes.
#[derive(Default)]
pub(super) struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// The open claims of new rows, by the commits that made them.
///
/// The table `claim_batch` has one row for each such commit, deleted with the last of its claims. Memory: the
/// references of the open rows.
#[derive(Default)]
pub(super) struct OpenClaims {
    /// Number of open claims, by the id of the batch's first row.
    open: BTreeMap<RowId, usize>,
    /// References of rows that are in no table.
    references: HashSet<Reference, BuildHasherDefault<IdentityHasher>>,
}

impl OpenClaims {
    /// Adds the claims of one commit, in ascending order of their ids.
    pub(super) fn insert<'a>(&mut self, claims: impl Iterator<Item = (RowId, &'a Reference)>) {
        let mut batch: Option<(RowId, usize)> = None;
        for (id, reference) in claims {
            batch = Some(batch.map_or((id, 1), |(first, open)| (first, open + 1)));
            self.references.insert(reference.clone());
        }
        self.open.extend(batch);
    }

    /// Removes the claim of a row that is about to be written. Returns the batch if this was its last claim.
    pub(super) fn settle(&mut self, id: RowId) -> Option<RowId> {
        let (first, open) = self.open.range_mut(..=id).next_back()?;
        *open = open.saturating_sub(1);
        let first = *first;
        (*open == 0).then(|| {
            self.open.remove(&first);
            first
        })
    }

    /// Records that the row of a settled claim is in the table.
    pub(super) fn written(&mut self, reference: &Reference) {
        self.references.remove(reference);
    }

    /// Whether this reference is claimed in a batch that is not yet in table `row`.
    pub(super) fn has(&self, reference: &Reference) -> bool {
        self.references.contains(reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(keys: &ReferenceIndex, key: u64) -> Vec<i64> {
        let mut ids: Vec<i64> = keys.get(key).map(|id| id.0).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn references_with_one_hash_are_all_found() {
        let mut keys = ReferenceIndex::default();
        for id in [1, 2, 3] {
            keys.insert(7, RowId(id));
        }
        keys.insert(8, RowId(4));
        assert_eq!(found(&keys, 7), [1, 2, 3]);
        assert_eq!(found(&keys, 8), [4]);
        assert!(found(&keys, 9).is_empty());
        assert_eq!(keys.slice_of_rest(), [(7, 1), (7, 2), (7, 3), (8, 4)].map(|(key, id)| (key, RowId(id))));
        keys.insert(7, RowId(5));
        assert_eq!(found(&keys, 7), [1, 2, 3, 5], "also while they are merged");
    }

    #[test]
    fn a_merge_is_sorted_complete_and_done_in_slices() {
        let mut keys = ReferenceIndex::in_front_of(10_000_000);
        let key_of = |id: i64| (id as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for id in 1..RECENT_MAX as i64 {
            keys.insert(key_of(id), RowId(id));
        }
        assert!(keys.slice_to_merge().is_empty(), "not worth it yet");
        keys.insert(key_of(RECENT_MAX as i64), RowId(RECENT_MAX as i64));
        let mut merged = Vec::new();
        let highest = loop {
            merged.extend_from_slice(keys.slice_to_merge());
            if merged.len() == 2 * SLICE {
                keys.insert(0, RowId(1_000_000));
                assert_eq!(found(&keys, key_of(1)), [1], "merged or not, it is found");
            }
            if let Some(highest) = keys.slice_merged() {
                break highest;
            }
        };
        assert_eq!(highest, RowId(RECENT_MAX as i64), "what came in meanwhile is not part of it");
        assert!(merged.is_sorted());
        assert_eq!(merged.len(), RECENT_MAX);
        assert_eq!(found(&keys, 0), [1_000_000]);
        assert!(found(&keys, key_of(1)).is_empty(), "the table has it");
    }

    #[test]
    fn what_the_table_may_have_is_known_from_its_beginning() {
        let key_of = |id: i64| (id as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut keys = ReferenceIndex::in_front_of(0);
        assert!(!keys.may_be_in_table(key_of(1)));
        for id in 0..100_000 {
            keys.insert(key_of(id), RowId(id));
        }
        while !keys.slice_of_rest().is_empty() {
            keys.slice_merged();
        }
        assert!((0..100_000).all(|id| keys.may_be_in_table(key_of(id))), "what it has");
        let wrong = (100_000..200_000).filter(|id| keys.may_be_in_table(key_of(*id))).count();
        assert!(wrong < 100, "{wrong} of 100,000");
        assert!(ReferenceIndex::in_front_of(1).may_be_in_table(7), "nothing is known of what it had");
    }

    #[test]
    fn a_batch_ends_with_its_last_claim_and_a_reference_with_its_row() {
        let references: Vec<_> = (0..9).map(|id| Reference::recorded(&format!("reference-{id}"))).collect();
        let batch = |ids: &'static [i64]| ids.iter().map(|id| (RowId(*id), &references[*id as usize]));
        let mut batches = OpenClaims::default();
        batches.insert(batch(&[3, 5, 6]));
        batches.insert(batch(&[8]));
        batches.insert(batch(&[]));
        let has = |batches: &OpenClaims| -> Vec<usize> {
            (0..9).filter(|id| batches.has(&references[*id])).collect()
        };
        assert_eq!(has(&batches), [3, 5, 6, 8]);
        assert_eq!(batches.settle(RowId(8)), Some(RowId(8)));
        assert_eq!([batches.settle(RowId(6)), batches.settle(RowId(3))], [None, None]);
        assert_eq!(batches.settle(RowId(5)), Some(RowId(3)));
        assert_eq!(has(&batches), [3, 5, 6, 8], "settled, and not written yet");
        batches.written(&references[8]);
        batches.written(&references[5]);
        assert_eq!(has(&batches), [3, 6]);
    }
}
