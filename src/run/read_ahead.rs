//! Rows that were read and are not claimed yet.
//!
//! Owns how far ahead of the claims the source is read: as many rows as one commit may claim and, where rows are
//! large, no more than a few chunks of them. Knows at each moment how much of the source is used up.

use std::collections::VecDeque;

use super::LOOK_AHEAD_MAX;
use crate::{
    customer::{Place, Row},
    source::{CHUNK_ROWS, Chunk},
};

/// The one queue of a run.
#[derive(Default)]
pub(super) struct ReadAhead {
    chunks: VecDeque<Chunk>,
    rows: usize,
    /// How many rows of the first chunk are taken already.
    taken: usize,
    /// Bytes of the source before the first chunk.
    before: u64,
}

/// Rows to claim, in file order.
#[derive(Default)]
pub(super) struct RowsToClaim {
    pub(super) rows: Vec<Row>,
    /// Where the source stands behind so many of them.
    pub(super) places: Vec<(usize, Place)>,
}

impl ReadAhead {
    pub(super) fn push(&mut self, chunk: Chunk) {
        self.rows += chunk.rows.len();
        self.chunks.push_back(chunk);
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Whether more should be read.
    pub(super) fn wants_more(&self) -> bool {
        self.rows < LOOK_AHEAD_MAX / 2 && self.chunks.len() <= LOOK_AHEAD_MAX / CHUNK_ROWS
    }

    /// The next rows, as many as there are.
    pub(super) fn take(&mut self, count: usize) -> RowsToClaim {
        let mut taken = RowsToClaim { rows: Vec::with_capacity(count.min(self.rows)), places: Vec::new() };
        while taken.rows.len() < count {
            let Some(first) = self.chunks.front_mut() else { break };
            let part = first.rows.len().min(count - taken.rows.len());
            taken.rows.extend(first.rows.drain(..part));
            self.taken += part;
            if first.rows.is_empty() {
                taken.places.push((taken.rows.len(), first.place));
                (self.taken, self.before) = (0, first.place.bytes);
                self.chunks.pop_front();
            }
        }
        self.rows -= taken.rows.len();
        taken
    }

    /// Bytes of the source that are used up. Of the first chunk only some rows may be; their share of its bytes
    /// is near enough.
    pub(super) fn bytes(&self) -> u64 {
        let Some(first) = self.chunks.front() else { return self.before };
        let (taken, rows) = (self.taken as u64, (self.taken + first.rows.len()).max(1) as u64);
        self.before + (first.place.bytes - self.before) * taken / rows
    }

    /// Forgets what was never claimed: the next run reads it again.
    pub(super) fn clear(&mut self) {
        self.before = self.bytes();
        (self.rows, self.taken) = (0, 0);
        self.chunks.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::customer::{Faults, Record};

    fn chunk(lines: std::ops::Range<u64>, bytes: u64) -> Chunk {
        let row = |line| Row {
            line,
            record: Record::default(),
            reading: Err(Faults { list: Vec::new(), reference: None }),
            corrects: None,
        };
        Chunk { rows: lines.map(row).collect(), place: Place { bytes, ..Place::default() } }
    }

    #[test]
    fn places_stand_where_chunks_end() {
        let mut ahead = ReadAhead::default();
        ahead.push(chunk(0..4, 400));
        ahead.push(chunk(4..6, 600));
        let first = ahead.take(3);
        assert_eq!((first.rows.len(), first.places.len(), ahead.bytes()), (3, 0, 300));
        let second = ahead.take(2);
        let places: Vec<_> = second.places.iter().map(|(rows, place)| (*rows, place.bytes)).collect();
        assert_eq!((second.rows[0].line, places, ahead.bytes()), (3, vec![(1, 400)], 500));
        assert_eq!(ahead.take(9).rows.len(), 1);
        assert_eq!((ahead.len(), ahead.bytes()), (0, 600));
    }

    #[test]
    fn it_holds_as_much_as_a_commit_takes() {
        let mut ahead = ReadAhead::default();
        let mut chunks = 0;
        while ahead.wants_more() {
            ahead.push(chunk(0..CHUNK_ROWS as u64, 1));
            chunks += 1;
        }
        assert_eq!(chunks * CHUNK_ROWS, LOOK_AHEAD_MAX / 2);
        ahead.clear();
        // Very large rows: a chunk of one each.
        chunks = 0;
        while ahead.wants_more() {
            ahead.push(chunk(0..1, 1));
            chunks += 1;
        }
        assert!(chunks <= 16, "{chunks}");
    }
}
