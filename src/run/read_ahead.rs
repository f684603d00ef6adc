//! The read-ahead buffer: rows that were read and are not claimed yet.
//!
//! Bounds how far ahead of the claims the source is read: half of the rows that one commit may claim, or all of them while
//! few rows need a claim; because rows can be large, a few chunks. Tracks how many bytes of the source the claimed rows
//! occupy.

use std::collections::VecDeque;

use super::CLAIMED_AHEAD_MAX;
use crate::{
    ledger::{ChunkEnd, SourceRows},
    source::{CHUNK_ROWS, Chunk},
};

/// Chunks of rows, in file order.
#[derive(Default)]
pub(super) struct ReadAhead {
    chunks: VecDeque<Chunk>,
    rows: usize,
    /// Number of rows of the first chunk that were taken.
    taken: usize,
    /// Bytes of the source before the first chunk.
    before: u64,
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

    /// Whether a further chunk should be read, if up to this many rows may wait.
    pub(super) fn wants_more(&self, rows_max: usize) -> bool {
        self.rows < rows_max && self.chunks.len() <= CLAIMED_AHEAD_MAX / CHUNK_ROWS
    }

    /// Takes at most `count` rows.
    pub(super) fn take(&mut self, count: usize) -> SourceRows {
        let rows = Vec::with_capacity(count.min(self.rows));
        let mut taken = SourceRows { rows, chunk_ends: Vec::new() };
        while taken.rows.len() < count {
            let Some(first) = self.chunks.front_mut() else { break };
            let part = first.rows.len().min(count - taken.rows.len());
            taken.rows.extend(first.rows.drain(..part));
            self.taken += part;
            if first.rows.is_empty() {
                taken.chunk_ends.push(ChunkEnd { rows_before: taken.rows.len(), position: first.position });
                self.taken = 0;
                self.before = first.position.bytes;
                self.chunks.pop_front();
            }
        }
        self.rows -= taken.rows.len();
        taken
    }

    /// Bytes of the source before the next row. Within a chunk they are estimated by the share of its rows.
    pub(super) fn bytes(&self) -> u64 {
        let Some(first) = self.chunks.front() else { return self.before };
        let taken = self.taken as u64;
        let rows = (self.taken + first.rows.len()).max(1) as u64;
        self.before + (first.position.bytes - self.before) * taken / rows
    }

    /// Drops the rows that were never claimed: the next run reads them again.
    pub(super) fn clear(&mut self) {
        self.before = self.bytes();
        self.rows = 0;
        self.taken = 0;
        self.chunks.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::customer::{Faults, Record, Row, SourcePosition};

    fn chunk(lines: std::ops::Range<u64>, bytes: u64) -> Chunk {
        let row = |line| Row {
            line,
            record: Record::default(),
            reading: Err(Faults { list: Vec::new(), reference: None }),
            corrects: None,
        };
        Chunk {
            rows: lines.map(row).collect(),
            position: SourcePosition { bytes, ..SourcePosition::default() },
        }
    }

    #[test]
    fn places_stand_where_chunks_end() {
        let mut ahead = ReadAhead::default();
        ahead.push(chunk(0..4, 400));
        ahead.push(chunk(4..6, 600));
        let first = ahead.take(3);
        assert_eq!((first.rows.len(), first.chunk_ends.len(), ahead.bytes()), (3, 0, 300));
        let second = ahead.take(2);
        let ends: Vec<_> =
            second.chunk_ends.iter().map(|end| (end.rows_before, end.position.bytes)).collect();
        assert_eq!((second.rows[0].line, ends, ahead.bytes()), (3, vec![(1, 400)], 500));
        assert_eq!(ahead.take(9).rows.len(), 1);
        assert_eq!((ahead.len(), ahead.bytes()), (0, 600));
    }

    #[test]
    fn it_holds_as_much_as_a_commit_takes() {
        let mut ahead = ReadAhead::default();
        for rows_max in [CLAIMED_AHEAD_MAX / 2, CLAIMED_AHEAD_MAX] {
            while ahead.wants_more(rows_max) {
                ahead.push(chunk(0..CHUNK_ROWS as u64, 1));
            }
            assert_eq!(ahead.len(), rows_max);
            ahead.clear();
            // With very large rows, each chunk has only one.
            let mut chunks = 0;
            while ahead.wants_more(rows_max) {
                ahead.push(chunk(0..1, 1));
                chunks += 1;
            }
            assert!(chunks <= 16, "{chunks}");
            ahead.clear();
        }
    }
}
