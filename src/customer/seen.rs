//! The references of a file that were seen so far: which come again, and which are only alike.
//!
//! This is all that grows with the file when it is checked, and it is kept small: at most 16 bytes a
//! reference, also while it grows. Hashes stand in for the references, in open addressing. The table is cut
//! into shards that grow one at a time and in turn: never more than one of them is there twice, and what
//! one after the other gives back lies together, so that the allocator can use it for the next ones. A
//! reference's shard is the first 12 bits of its hash, which therefore need not be stored. A slot of 8 bytes
//! has 44 more of them, of the reference without regard to case and blanks, and 20 of the reference as it is.
//!
//! Two references are taken for one where 76 bits agree by chance (in ten million rows: one in 10^9), and
//! for alike where 56 do (one in a thousand).

use xxhash_rust::xxh3::xxh3_64;

/// The shards, so many that one of them growing is nothing beside the rest.
const SHARDS: usize = 1 << SHARD_BITS;

const SHARD_BITS: u32 = 12;

/// The part of a slot that is from the reference as it is; the rest is without regard to case and blanks.
const EXACT: u64 = (1 << 20) - 1;

/// How many of the slots are taken, as a fraction: 12.8 bytes a reference, which leaves room for what an
/// allocator rounds up, and a free slot is near.
const TAKEN: (usize, usize) = (5, 8);

/// More than this of a shard is never taken: a small file may fill one before its turn comes.
const TAKEN_MAX: (usize, usize) = (7, 8);

/// How a reference stands to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// There was none like it.
    New,
    /// There was one that differs in letter case or blanks only.
    Alike,
    /// It was there before.
    Again,
}

/// A reference, as hashes.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    shard: u16,
    slot: u64,
}

impl Mark {
    /// The mark of a reference; `room` is where one with case or blanks is put without them.
    pub fn of(reference: &str, room: &mut String) -> Mark {
        let exact = xxh3_64(reference.as_bytes());
        let plain = if fold(reference, room) { xxh3_64(room.as_bytes()) } else { exact };
        // No slot is 0: that is the mark of a free one.
        let slot = ((plain << SHARD_BITS & !EXACT) | (exact & EXACT)).max(1);
        Mark { shard: (plain >> (64 - SHARD_BITS)) as u16, slot }
    }
}

/// Puts the reference without case and blanks into the room; false where it has neither.
fn fold(reference: &str, room: &mut String) -> bool {
    let changes = |byte: u8| byte.is_ascii_uppercase() | (byte == b' ') | !byte.is_ascii();
    if !reference.bytes().fold(false, |any, byte| any | changes(byte)) {
        return false;
    }
    room.clear();
    let kept = reference.chars().filter(|c| !c.is_whitespace());
    room.extend(kept.flat_map(char::to_lowercase));
    true
}

/// The references seen so far.
pub struct Seen {
    shards: Box<[Shard]>,
    /// Of all shards.
    taken: usize,
    slots: usize,
    /// The shard whose turn it is to grow.
    next: usize,
}

/// Slots, 0 where none is taken.
#[derive(Clone, Default)]
struct Shard {
    slots: Box<[u64]>,
    taken: usize,
}

impl Default for Seen {
    fn default() -> Seen {
        let shards = vec![Shard::default(); SHARDS].into();
        Seen { shards, taken: 0, slots: 0, next: 0 }
    }
}

impl Seen {
    /// Remembers the reference, and says whether it was there before.
    pub fn see(&mut self, mark: Mark) -> Sighting {
        let shard = &mut self.shards[usize::from(mark.shard)];
        if shard.taken * TAKEN_MAX.1 >= shard.slots.len() * TAKEN_MAX.0 {
            self.slots += shard.grow();
        }
        let sighting = shard.see(mark.slot);
        if sighting != Sighting::Again {
            self.taken += 1;
            if self.taken * TAKEN.1 > self.slots * TAKEN.0 {
                self.slots += self.shards[self.next].grow();
                self.next = (self.next + 1) % SHARDS;
            }
        }
        sighting
    }

    /// Fetches what a look at each of them will need. In a large table each look waits for memory; these
    /// do not wait for each other.
    pub fn fetch(&self, marks: impl Iterator<Item = Mark>) {
        let first = |mark: Mark| {
            let shard = &self.shards[usize::from(mark.shard)];
            shard.slots.get(shard.place(mark.slot)).copied().unwrap_or_default()
        };
        std::hint::black_box(marks.map(first).fold(0, |all, slot| all ^ slot));
    }
}

impl Shard {
    fn see(&mut self, slot: u64) -> Sighting {
        let mut alike = false;
        let mut at = self.place(slot);
        while self.slots[at] != 0 {
            if self.slots[at] == slot {
                return Sighting::Again;
            }
            alike |= (self.slots[at] ^ slot) & !EXACT == 0;
            at = self.after(at);
        }
        self.slots[at] = slot;
        self.taken += 1;
        if alike { Sighting::Alike } else { Sighting::New }
    }

    /// Where to look first; those that are alike begin at one place.
    fn place(&self, slot: u64) -> usize {
        ((u128::from(slot & !EXACT) * self.slots.len() as u128) >> 64) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }

    /// By a quarter; how many slots it has more.
    fn grow(&mut self) -> usize {
        let more = (self.slots.len() / 4).max(4);
        let grown = vec![0; self.slots.len() + more].into();
        let slots = std::mem::replace(&mut self.slots, grown);
        for slot in slots.into_iter().filter(|slot| *slot != 0) {
            let mut at = self.place(slot);
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

    fn see(seen: &mut Seen, reference: &str) -> Sighting {
        let mark = Mark::of(reference, &mut String::new());
        seen.fetch([mark].into_iter());
        seen.see(mark)
    }

    #[test]
    fn again_is_again_and_case_and_blanks_are_alike() {
        let mut seen = Seen::default();
        for (reference, sighting) in [
            ("cust-0001", Sighting::New),
            ("cust-0002", Sighting::New),
            ("cust-0001", Sighting::Again),
            ("CUST-0001", Sighting::Alike),
            ("CUST-0001", Sighting::Again),
            ("cust -0001", Sighting::Alike),
            ("cust\u{a0}-0001", Sighting::Alike),
            ("cust-0001", Sighting::Again),
            ("Über-0001", Sighting::New),
            ("über-0001", Sighting::Alike),
            ("uber-0001", Sighting::New),
        ] {
            assert_eq!(see(&mut seen, reference), sighting, "{reference}");
        }
    }

    #[test]
    fn it_says_what_a_plain_look_says() {
        let mut seen = Seen::default();
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
            let alike = plain.entry(format!("ref{number}")).or_default();
            let expected = match (exact.insert(reference.clone()), *alike) {
                (false, _) => Sighting::Again,
                (true, 0) => Sighting::New,
                (true, _) => Sighting::Alike,
            };
            *alike += 1;
            assert_eq!(see(&mut seen, &reference), expected, "{reference}");
        }
    }

    #[test]
    fn it_stays_below_sixteen_bytes_a_reference() {
        let mut seen = Seen::default();
        for number in 0..1_000_000 {
            assert_eq!(see(&mut seen, &format!("cust-{number}")), Sighting::New);
            if number >= 100_000 && number % 50_000 == 0 {
                let slots: usize = seen.shards.iter().map(|shard| shard.slots.len()).sum();
                let bytes = slots * size_of::<u64>() + SHARDS * size_of::<Shard>();
                assert!(bytes <= 16 * number, "{bytes} bytes for {number}");
            }
        }
    }
}
