//! Which rows may own a reference: the hashes that are not in the ledger's own index yet.
//!
//! The index, `reference_key`, is ordered by hash, and hashes come in no order: written one by one, each would
//! dirty a page of its own. So recent ones are kept here, and when there are many they are frozen, sorted, and
//! merged a slice at each commit: neighbours share a page, and no commit takes long.
//!
//! To look for a reference that is new is to read a page of that index for nothing, and a first import has no
//! others. So what has been merged since the index was empty is remembered in a [`BloomFilter`], roughly.
//!
//! Pure: no SQL. Two references may share a hash; whoever asks compares the text.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// How many recent hashes there are before they are merged: a quarter of what the table has, within these bounds.
/// Each page of the index is then touched once for several of them up to some ten million rows, and a small ledger
/// is not left with all of them at its run's end. Seven eighths of a power of two less some: one more would double
/// the map. About two megabytes, twice while a merge is under way.
const RECENT_MIN: usize = 16 * 1024;
const RECENT_MAX: usize = 110 * 1024;

/// How many are merged at one commit: more than it brings.
const SLICE: usize = 2048;

/// Hash → row, of the rows that are not in the table yet.
#[derive(Default)]
pub(super) struct ReferenceIndex {
    ids: HashMap<u64, i64, BuildHasherDefault<IdentityHasher>>,
    /// Further rows with a hash that `ids` has already; practically always empty.
    twins: Vec<(u64, i64)>,
    /// What is being merged, as SQLite orders it, and how much of it has been.
    frozen: Vec<(i64, i64)>,
    merged: usize,
    /// How many the table has, about.
    in_table: usize,
    /// Which ones; none if it had some before.
    filter: Option<BloomFilter>,
}

impl ReferenceIndex {
    /// None yet, beside a table that has about so many.
    pub(super) fn beside(in_table: usize) -> ReferenceIndex {
        let filter = (in_table == 0).then(BloomFilter::new);
        ReferenceIndex { in_table, filter, ..ReferenceIndex::default() }
    }

    /// Whether the table may have it: never false of one that it has and [`ReferenceIndex::get`] has not.
    pub(super) fn may_be_in_table(&self, key: u64) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.may_have(key))
    }

    pub(super) fn insert(&mut self, key: u64, id: i64) {
        if let Some(first) = self.ids.insert(key, id) {
            self.twins.push((key, first));
        }
    }

    pub(super) fn get(&self, key: u64) -> impl Iterator<Item = i64> {
        let twins = self.twins.iter().filter(move |(of, _)| *of == key).map(|(_, id)| *id);
        let signed = key as i64;
        let from = self.frozen.partition_point(|(of, _)| *of < signed);
        let frozen = self.frozen[from..].iter().take_while(move |(of, _)| *of == signed).map(|(_, id)| *id);
        self.ids.get(&key).copied().into_iter().chain(twins).chain(frozen)
    }

    /// What this commit is to merge; empty while it is not worth it, unless `all` is wanted.
    pub(super) fn slice(&mut self, all: bool) -> &[(i64, i64)] {
        if self.frozen.is_empty()
            && (all || self.ids.len() >= (self.in_table / 4).clamp(RECENT_MIN, RECENT_MAX))
        {
            let ids = std::mem::take(&mut self.ids).into_iter();
            let twins = std::mem::take(&mut self.twins).into_iter();
            self.frozen = ids.chain(twins).map(|(key, id)| (key as i64, id)).collect();
            self.frozen.sort_unstable();
        }
        let end = (self.merged + SLICE).min(self.frozen.len());
        &self.frozen[self.merged..end]
    }

    /// The slice is in the table. The highest row of a merge that is complete: up to it the table has all.
    pub(super) fn merged(&mut self) -> Option<i64> {
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

/// A Bloom filter of two bits a hash: says of a few that they may be there and are not. Of ten million it does of
/// one in five, of a million of one in three hundred.
struct BloomFilter(Box<[u64]>);

impl BloomFilter {
    /// Four megabytes, whatever the ledger's size.
    const BITS: u64 = 1 << 25;

    fn new() -> BloomFilter {
        BloomFilter(vec![0; BloomFilter::BITS as usize / 64].into())
    }

    fn insert(&mut self, key: u64) {
        for (word, bit) in BloomFilter::places(key) {
            self.0[word] |= bit;
        }
    }

    fn may_have(&self, key: u64) -> bool {
        BloomFilter::places(key).into_iter().all(|(word, bit)| self.0[word] & bit != 0)
    }

    fn places(key: u64) -> [(usize, u64); 2] {
        [key, key >> 32].map(|part| part % BloomFilter::BITS).map(|at| ((at / 64) as usize, 1 << (at % 64)))
    }
}

/// The keys are hashes already.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn found(keys: &ReferenceIndex, key: u64) -> Vec<i64> {
        let mut ids: Vec<i64> = keys.get(key).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn references_with_one_hash_are_all_found() {
        let mut keys = ReferenceIndex::default();
        for id in [1, 2, 3] {
            keys.insert(7, id);
        }
        keys.insert(8, 4);
        assert_eq!(found(&keys, 7), [1, 2, 3]);
        assert_eq!(found(&keys, 8), [4]);
        assert!(found(&keys, 9).is_empty());
        assert_eq!(keys.slice(true), [(7, 1), (7, 2), (7, 3), (8, 4)]);
        keys.insert(7, 5);
        assert_eq!(found(&keys, 7), [1, 2, 3, 5], "also while they are merged");
    }

    #[test]
    fn a_merge_is_sorted_complete_and_done_in_slices() {
        let mut keys = ReferenceIndex::beside(10_000_000);
        let key_of = |id: i64| (id as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for id in 1..RECENT_MAX as i64 {
            keys.insert(key_of(id), id);
        }
        assert!(keys.slice(false).is_empty(), "not worth it yet");
        keys.insert(key_of(RECENT_MAX as i64), RECENT_MAX as i64);
        let mut merged = Vec::new();
        let highest = loop {
            merged.extend_from_slice(keys.slice(false));
            if merged.len() == 2 * SLICE {
                keys.insert(0, 1_000_000);
                assert_eq!(found(&keys, key_of(1)), [1], "merged or not, it is found");
            }
            if let Some(highest) = keys.merged() {
                break highest;
            }
        };
        assert_eq!(highest, RECENT_MAX as i64, "what came in meanwhile is not part of it");
        assert!(merged.is_sorted());
        assert_eq!(merged.len(), RECENT_MAX);
        assert_eq!(found(&keys, 0), [1_000_000]);
        assert!(found(&keys, key_of(1)).is_empty(), "the table has it");
    }

    #[test]
    fn what_the_table_may_have_is_known_from_its_beginning() {
        let key_of = |id: i64| (id as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut keys = ReferenceIndex::beside(0);
        assert!(!keys.may_be_in_table(key_of(1)));
        for id in 0..100_000 {
            keys.insert(key_of(id), id);
        }
        while !keys.slice(true).is_empty() {
            keys.merged();
        }
        assert!((0..100_000).all(|id| keys.may_be_in_table(key_of(id))), "what it has");
        let wrong = (100_000..200_000).filter(|id| keys.may_be_in_table(key_of(*id))).count();
        assert!(wrong < 100, "{wrong} of 100,000");
        assert!(ReferenceIndex::beside(1).may_be_in_table(7), "nothing is known of what it had");
    }
}
