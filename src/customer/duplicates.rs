//! Detects references that occur more than once in a file, and references that are merely similar.
//!
//! Nothing else grows with the file during `validate`, and the detector is kept small: at most 16 bytes per
//! reference, even while it grows. It stores hashes in open addressing. The table is split into shards that grow one
//! at a time, in turn: at most one shard exists twice, and the memory that shards release is contiguous, so that the
//! allocator can reuse it. The first 12 bits of a hash choose the shard and are not stored. A slot of 8 bytes stores
//! 44 more bits of it, computed from the folded reference, and 20 bits of the hash of the exact reference.
//!
//! Two references count as equal if 76 bits agree by chance (one in 10^9 for ten million rows), and as similar if 56 bits do
//! (one in a thousand).

use icu_normalizer::DecomposingNormalizerBorrowed;
use xxhash_rust::xxh3::xxh3_64;

use super::is_invisible;

/// Number of shards: so many that growing one of them costs little memory compared with the rest.
const SHARDS: usize = 1 << SHARD_BITS;

const SHARD_BITS: u32 = 12;

/// The bits of a slot that come from the exact reference; the others come from the folded one.
const EXACT: u64 = (1 << 20) - 1;

/// Maximum load of the table, as a fraction: 12.8 bytes per reference, which leaves room for the allocator's rounding and
/// keeps probe sequences short.
const LOAD_MAX: (usize, usize) = (5, 8);

/// Maximum load of one shard: a small file may fill a shard before its turn to grow comes.
const SHARD_LOAD_MAX: (usize, usize) = (7, 8);

/// How a reference relates to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occurrence {
    /// No earlier reference is equal or similar.
    First,
    /// An earlier reference differs only in what [`fold`] removes.
    Similar,
    /// An earlier reference is equal.
    Repeated,
}

/// A reference as the detector stores it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReferenceHash {
    shard: u16,
    slot: u64,
}

impl ReferenceHash {
    /// Hashes a reference; `scratch` receives its folded text, if that differs.
    pub(crate) fn of(reference: &str, scratch: &mut String) -> ReferenceHash {
        let exact = xxh3_64(reference.as_bytes());
        let folded = if fold(reference, scratch) { xxh3_64(scratch.as_bytes()) } else { exact };
        // 0 marks a free slot.
        let slot = ((folded << SHARD_BITS & !EXACT) | (exact & EXACT)).max(1);
        ReferenceHash { shard: (folded >> (64 - SHARD_BITS)) as u16, slot }
    }
}

/// Writes the reference to `scratch` without letter case, blanks, invisible characters, and variants of a character
/// (by NFKD: composed or not, wide, circled). Returns false if the reference contains none of these.
fn fold(reference: &str, scratch: &mut String) -> bool {
    let changes = |byte: u8| byte.is_ascii_uppercase() | (byte == b' ') | !byte.is_ascii();
    if !reference.bytes().fold(false, |any, byte| any | changes(byte)) {
        return false;
    }
    scratch.clear();
    let decomposed = DecomposingNormalizerBorrowed::new_nfkd().normalize_iter(reference.chars());
    let kept = decomposed.filter(|c| !c.is_whitespace() && !is_invisible(*c));
    // By way of upper case, so that `ß` equals `SS` and both lower-case sigmas are equal.
    scratch.extend(kept.flat_map(char::to_uppercase).flat_map(char::to_lowercase));
    true
}

/// The references of the rows so far.
pub(crate) struct DuplicateDetector {
    shards: Box<[Shard]>,
    /// Number of slots in use, over all shards.
    used: usize,
    /// Number of slots, over all shards.
    slots: usize,
    /// The next shard to grow.
    next: usize,
}

/// The references of the rows so far, looked up one at a time.
#[derive(Default)]
pub(crate) struct SeenReferences {
    detector: DuplicateDetector,
    /// Room for the folded text.
    scratch: String,
}

impl std::fmt::Debug for SeenReferences {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SeenReferences(…)")
    }
}

impl SeenReferences {
    /// Adds a reference and returns how it relates to the earlier ones.
    pub(crate) fn insert(&mut self, reference: &str) -> Occurrence {
        self.detector.insert(ReferenceHash::of(reference, &mut self.scratch))
    }

    /// Whether the reference was added.
    pub(crate) fn has(&self, reference: &str) -> bool {
        self.detector.has(ReferenceHash::of(reference, &mut String::new()))
    }
}

/// The slots; 0 marks a free one.
#[derive(Clone, Default)]
struct Shard {
    slots: Box<[u64]>,
    used: usize,
}

impl Default for DuplicateDetector {
    fn default() -> DuplicateDetector {
        let shards = vec![Shard::default(); SHARDS].into();
        DuplicateDetector { shards, used: 0, slots: 0, next: 0 }
    }
}

impl DuplicateDetector {
    /// Adds a reference and returns how it relates to the earlier ones.
    pub(crate) fn insert(&mut self, hash: ReferenceHash) -> Occurrence {
        let shard = &mut self.shards[usize::from(hash.shard)];
        if shard.used * SHARD_LOAD_MAX.1 >= shard.slots.len() * SHARD_LOAD_MAX.0 {
            self.slots += shard.grow();
        }
        let occurrence = shard.insert(hash.slot);
        if occurrence != Occurrence::Repeated {
            self.used += 1;
            if self.used * LOAD_MAX.1 > self.slots * LOAD_MAX.0 {
                self.slots += self.shards[self.next].grow();
                self.next = (self.next + 1) % SHARDS;
            }
        }
        occurrence
    }

    /// Whether an equal reference was added.
    fn has(&self, hash: ReferenceHash) -> bool {
        self.shards[usize::from(hash.shard)].has(hash.slot)
    }

    /// Prefetches the slots of these references. In a large table each lookup waits for memory; prefetched lookups do not
    /// wait for each other.
    pub(crate) fn prefetch(&self, hashes: impl Iterator<Item = ReferenceHash>) {
        let first = |hash: ReferenceHash| {
            let shard = &self.shards[usize::from(hash.shard)];
            shard.slots.get(shard.home(hash.slot)).copied().unwrap_or_default()
        };
        std::hint::black_box(hashes.map(first).fold(0, |all, slot| all ^ slot));
    }
}

impl Shard {
    fn insert(&mut self, slot: u64) -> Occurrence {
        let mut similar = false;
        let mut at = self.home(slot);
        while self.slots[at] != 0 {
            if self.slots[at] == slot {
                return Occurrence::Repeated;
            }
            similar |= (self.slots[at] ^ slot) & !EXACT == 0;
            at = self.after(at);
        }
        self.slots[at] = slot;
        self.used += 1;
        if similar { Occurrence::Similar } else { Occurrence::First }
    }

    fn has(&self, slot: u64) -> bool {
        if self.slots.is_empty() {
            return false;
        }
        // A shard grows before the next insertion, so that no slot of it may be free.
        let mut at = self.home(slot);
        for _ in 0..self.slots.len() {
            match self.slots[at] {
                0 => return false,
                found if found == slot => return true,
                _ => at = self.after(at),
            }
        }
        false
    }

    /// The first slot to probe; the same for similar references.
    fn home(&self, slot: u64) -> usize {
        ((u128::from(slot & !EXACT) * self.slots.len() as u128) >> 64) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }

    /// Grows by a quarter; returns the number of slots added.
    fn grow(&mut self) -> usize {
        let more = (self.slots.len() / 4).max(4);
        let grown = vec![0; self.slots.len() + more].into();
        let slots = std::mem::replace(&mut self.slots, grown);
        for slot in slots.into_iter().filter(|slot| *slot != 0) {
            let mut at = self.home(slot);
            while self.slots[at] != 0 {
                at = self.after(at);
            }
            self.slots[at] = slot;
        }
        more
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn insert(detector: &mut DuplicateDetector, reference: &str) -> Occurrence {
        let hash = ReferenceHash::of(reference, &mut String::new());
        detector.prefetch([hash].into_iter());
        detector.insert(hash)
    }

    /// Also in a shard without a free slot, which the first references of a file fill.
    #[test]
    fn a_reference_is_found_only_if_it_was_added() {
        let mut seen = SeenReferences::default();
        for number in 0..50_000 {
            assert!(!seen.has(&format!("cust-{number}")), "{number}");
            seen.insert(&format!("cust-{number}"));
            assert!(seen.has(&format!("cust-{number}")) && !seen.has(&format!("Cust-{number}")), "{number}");
        }
    }

    #[test]
    fn repeated_references_and_those_that_look_alike() {
        let mut detector = DuplicateDetector::default();
        for (reference, occurrence) in [
            ("cust-0001", Occurrence::First),
            ("cust-0002", Occurrence::First),
            ("cust-0001", Occurrence::Repeated),
            ("CUST-0001", Occurrence::Similar),
            ("CUST-0001", Occurrence::Repeated),
            ("cust -0001", Occurrence::Similar),
            ("cust\u{a0}-0001", Occurrence::Similar),
            ("cust-0001", Occurrence::Repeated),
            ("Über-0001", Occurrence::First),
            ("über-0001", Occurrence::Similar),
            ("uber-0001", Occurrence::First),
            ("U\u{308}ber-0001", Occurrence::Similar),
            ("über\u{200b}-0001", Occurrence::Similar),
            ("\u{ff43}ust\u{2010}0001", Occurrence::First),
            ("\u{ff43}ust-\u{ff10}001", Occurrence::Similar),
            ("Straße-0001", Occurrence::First),
            ("STRASSE-0001", Occurrence::Similar),
            ("рaul-0001", Occurrence::First),
            ("paul-0001", Occurrence::First),
        ] {
            assert_eq!(insert(&mut detector, reference), occurrence, "{reference}");
        }
    }

    #[test]
    fn the_detector_agrees_with_a_hash_set() {
        let mut detector = DuplicateDetector::default();
        let (mut exact, mut plain): (HashSet<String>, HashMap<String, u32>) = Default::default();
        let mut state = 7_u32;
        for _ in 0..200_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (number, spelling) = (state >> 15, state >> 12 & 7);
            let reference = match spelling {
                0 => format!("REF {number}"),
                1 => format!("Ref{number}"),
                _ => format!("ref{number}"),
            };
            let similar = plain.entry(format!("ref{number}")).or_default();
            let expected = match (exact.insert(reference.clone()), *similar) {
                (false, _) => Occurrence::Repeated,
                (true, 0) => Occurrence::First,
                (true, _) => Occurrence::Similar,
            };
            *similar += 1;
            assert_eq!(insert(&mut detector, &reference), expected, "{reference}");
        }
    }

    #[test]
    fn it_stays_below_sixteen_bytes_a_reference() {
        let mut detector = DuplicateDetector::default();
        for number in 0..1_000_000 {
            assert_eq!(insert(&mut detector, &format!("cust-{number}")), Occurrence::First);
            if number >= 100_000 && number % 50_000 == 0 {
                let slots: usize = detector.shards.iter().map(|shard| shard.slots.len()).sum();
                let bytes = slots * size_of::<u64>() + SHARDS * size_of::<Shard>();
                assert!(bytes <= 16 * number, "{bytes} bytes for {number}");
            }
        }
    }
}
