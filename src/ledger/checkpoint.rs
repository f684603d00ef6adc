//! The checkpoint of a run: the position up to which every row of the source is settled for good, where the next run
//! may resume.
//!
//! Rows are settled in any order. A position of the source is reached once each row before it is settled for good: a
//! later run over the same bytes would send nothing for these rows. A failed or pending row is sent again by the next
//! run, and a row whose customer existed with other fields is reported as changed by the next run, so this run
//! reaches no position after such a row.
//!
//! Pure. Memory: one entry for each chunk with open rows.

use std::collections::VecDeque;

use super::model::{Outcome, RunId, Tally};
use crate::customer::{Row, SourcePosition};

/// Consecutive rows of the source, in file order.
#[derive(Debug, Default)]
pub struct SourceRows {
    /// The rows.
    pub rows: Vec<Row>,
    /// The ends of the chunks that end among these rows: positions that a checkpoint may reach.
    pub chunk_ends: Vec<ChunkEnd>,
}

/// The end of a chunk among rows of the source.
#[derive(Clone, Copy, Debug)]
pub struct ChunkEnd {
    /// How many of the rows are before it.
    pub rows_before: usize,
    /// The position of the source.
    pub position: SourcePosition,
}

impl SourceRows {
    /// Removes the first `count` rows; passes each to `each`.
    pub(super) fn drop_first(&mut self, count: usize, each: impl FnMut(Row)) {
        self.rows.drain(..count).for_each(each);
        self.chunk_ends.retain_mut(|end| {
            let is_left = end.rows_before > count;
            end.rows_before = end.rows_before.saturating_sub(count);
            is_left
        });
    }
}

/// A reached position of the source, with the results of the rows before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) position: SourcePosition,
    /// The outcomes of the rows before the position.
    pub(super) tally: Tally,
    /// The checkpoint is valid only at the end of the file. Set when the ledger cannot list the references before it:
    /// rows were kept from a run over another file, or rows in doubt were settled that are not in this file, or
    /// counts by field exist, which are kept for the whole run only.
    pub(super) whole_file_only: bool,
    /// The first run of the chain of resumed runs that reached this position.
    pub(super) chain_start: RunId,
}

impl Checkpoint {
    /// The beginning of the source.
    pub(super) fn at_start(run: RunId, whole_file_only: bool) -> Checkpoint {
        Checkpoint {
            position: SourcePosition::default(),
            tally: Tally::default(),
            whole_file_only,
            chain_start: run,
        }
    }
}

/// The chunk that a claim belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkNumber(u64);

#[derive(Default)]
struct OpenChunk {
    /// The position of the chunk's end; none while only a part of the chunk is claimed.
    end: Option<SourcePosition>,
    /// Number of claimed rows that are not settled.
    open: usize,
    tally: Tally,
    whole_file_only: bool,
    /// Whether a row of the chunk will be sent again.
    is_stuck: bool,
}

/// Tracks the checkpoint of one run.
pub(super) struct CheckpointTracker {
    run: RunId,
    reached: Checkpoint,
    /// The chunks with open rows. Empty once a row will be sent again, because no further position can be reached.
    chunks: VecDeque<OpenChunk>,
    /// The number of the first chunk in `chunks`.
    first: u64,
    /// Whether `reached` has advanced since the last [`CheckpointTracker::take_if_advanced`].
    is_advanced: bool,
}

impl CheckpointTracker {
    /// A tracker for the run that starts at the checkpoint.
    pub(super) fn new(run: RunId, start: Checkpoint) -> CheckpointTracker {
        let chunks = VecDeque::from([OpenChunk::default()]);
        CheckpointTracker { run, reached: start, chunks, first: 0, is_advanced: false }
    }

    /// Counts a row that needs no claim. `run` is the run that settled it: this one or an earlier one.
    pub(super) fn settled_at_once(&mut self, outcome: Outcome, run: RunId) {
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.tally.add(outcome);
            chunk.whole_file_only |= run < self.run;
        }
    }

    /// Counts a claimed row. Its settlement must name the returned chunk.
    pub(super) fn claimed(&mut self) -> ChunkNumber {
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.open += 1;
        }
        ChunkNumber(self.first + (self.chunks.len() as u64).saturating_sub(1))
    }

    /// Sets the end of the chunk that is being claimed.
    pub(super) fn chunk_ended(&mut self, end: SourcePosition) {
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.end = Some(end);
            self.chunks.push_back(OpenChunk::default());
        }
        self.advance();
    }

    /// Counts a settled claim. `for_good`: a later run would have nothing to do for the row.
    pub(super) fn settled(&mut self, chunk: ChunkNumber, outcome: Outcome, for_good: bool) {
        let at = chunk.0.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(chunk) = at.and_then(|at| self.chunks.get_mut(at)) {
            chunk.open -= 1;
            chunk.tally.add(outcome);
            chunk.is_stuck |= !for_good;
        }
        self.advance();
    }

    /// Reaches no further position: other workers claim rows of the source too.
    pub(super) fn stop(&mut self) {
        self.chunks.clear();
    }

    /// The checkpoint, if it has advanced since the last call.
    pub(super) fn take_if_advanced(&mut self) -> Option<Checkpoint> {
        std::mem::take(&mut self.is_advanced).then_some(self.reached)
    }

    fn advance(&mut self) {
        while let Some(chunk) = self.chunks.front() {
            if chunk.is_stuck {
                self.chunks.clear();
                return;
            }
            let Some(position) = chunk.end.filter(|_| chunk.open == 0) else { return };
            let tally = self.reached.tally.plus(&chunk.tally);
            let whole_file_only = self.reached.whole_file_only || chunk.whole_file_only;
            self.reached = Checkpoint { position, tally, whole_file_only, ..self.reached };
            self.first += 1;
            self.is_advanced = true;
            self.chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: RunId = RunId(2);

    fn position(bytes: u64) -> SourcePosition {
        SourcePosition { bytes, ..SourcePosition::default() }
    }

    fn tracker() -> CheckpointTracker {
        CheckpointTracker::new(RUN, Checkpoint::at_start(RUN, false))
    }

    #[test]
    fn a_position_is_reached_when_all_before_it_is_settled() {
        let mut tracker = tracker();
        let first = tracker.claimed();
        tracker.settled_at_once(Outcome::Invalid, RUN);
        tracker.chunk_ended(position(100));
        let second = tracker.claimed();
        tracker.chunk_ended(position(200));
        tracker.settled(second, Outcome::Created, true);
        assert_eq!(tracker.take_if_advanced(), None, "the first is still open");
        tracker.settled(first, Outcome::Rejected, true);
        let reached = tracker.take_if_advanced().unwrap();
        assert_eq!((reached.position.bytes, reached.tally.rows()), (200, 3));
        assert_eq!(reached.tally.get(Outcome::Rejected), 1);
        assert_eq!(tracker.take_if_advanced(), None, "given once");
    }

    #[test]
    fn nothing_behind_a_row_that_is_sent_again_is_reached() {
        for outcome in [Outcome::Failed, Outcome::Pending, Outcome::Existing] {
            let mut tracker = tracker();
            tracker.settled_at_once(Outcome::Unchanged, RunId(1));
            tracker.chunk_ended(position(100));
            let stuck = tracker.claimed();
            let other = tracker.claimed();
            tracker.settled(stuck, outcome, false);
            tracker.settled(other, Outcome::Created, true);
            tracker.chunk_ended(position(200));
            tracker.chunk_ended(position(300));
            let reached = tracker.take_if_advanced().unwrap();
            assert_eq!((reached.position.bytes, reached.whole_file_only), (100, true));
        }
    }
}
