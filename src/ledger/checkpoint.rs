//! How far a run has come in its source with nothing left behind: where the next one may begin.
//!
//! Rows are settled in any order. A place of the source is reached once each row before it is settled for good:
//! whatever a later run made of the same bytes, it would send nothing for them. A row that failed or is pending
//! is sent again by the next run, and one whose customer existed with other fields is called changed by it, so no
//! place behind such a row is ever reached by this one.
//!
//! Pure. Memory: one entry for each chunk with open rows.

use std::collections::VecDeque;

use super::{Outcome, Tally};
use crate::customer::Place;

/// What stands before a place that was reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) place: Place,
    /// What became of the rows before it.
    pub(super) tally: Tally,
    /// Of use only if the place is the source's end. Some rows were left as an earlier run had settled them, perhaps
    /// of another file or in bytes that have changed, or rows were settled that stand in no part of the source; so the
    /// ledger does not tell which references stand before the place. Or rows count by single fields, which are counted
    /// for the whole run.
    pub(super) is_only_whole: bool,
    /// The first of the runs that went on one behind the other to come here.
    pub(super) since: i64,
}

/// The chunk of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkNumber(u64);

#[derive(Default)]
struct OpenChunk {
    /// Where it ends; not known while only a part of it is claimed.
    place: Option<Place>,
    open: usize,
    tally: Tally,
    is_only_whole: bool,
    is_stuck: bool,
}

/// The one of a run.
pub(super) struct CheckpointTracker {
    run: i64,
    reached: Checkpoint,
    /// None once a row will be sent again: no further place is reached.
    chunks: VecDeque<OpenChunk>,
    /// Number of the first of them.
    first: u64,
    /// Whether a place was reached that [`CheckpointTracker::news`] has not told.
    is_new: bool,
}

impl CheckpointTracker {
    /// Of that run, from the beginning, or from where an earlier one came to.
    pub(super) fn new(run: i64, reached: Checkpoint) -> CheckpointTracker {
        let chunks = VecDeque::from([OpenChunk::default()]);
        CheckpointTracker { run, reached, chunks, first: 0, is_new: false }
    }

    /// A row needs no claim: `run` has settled it, this one or an earlier one.
    pub(super) fn settled_at_once(&mut self, outcome: Outcome, run: i64) {
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.tally.add(outcome);
            chunk.is_only_whole |= run < self.run;
        }
    }

    /// A row was claimed; what its settlement is to name.
    pub(super) fn claimed(&mut self) -> ChunkNumber {
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.open += 1;
        }
        ChunkNumber(self.first + self.chunks.len().saturating_sub(1) as u64)
    }

    /// The rows of a chunk have all been told.
    pub(super) fn chunk_ended(&mut self, place: Place) {
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.place = Some(place);
            self.chunks.push_back(OpenChunk::default());
        }
        self.advance();
    }

    /// A claim has come to its end; `for_good` where a later run would have nothing to do for the row.
    pub(super) fn settled(&mut self, chunk: ChunkNumber, outcome: Outcome, for_good: bool) {
        let at = chunk.0.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(chunk) = at.and_then(|at| self.chunks.get_mut(at)) {
            chunk.open -= 1;
            chunk.tally.add(outcome);
            chunk.is_stuck |= !for_good;
        }
        self.advance();
    }

    /// The last place that was reached, if it was not told yet.
    pub(super) fn news(&mut self) -> Option<Checkpoint> {
        std::mem::take(&mut self.is_new).then_some(self.reached)
    }

    fn advance(&mut self) {
        while let Some(chunk) = self.chunks.front() {
            if chunk.is_stuck {
                self.chunks.clear();
                return;
            }
            let Some(place) = chunk.place.filter(|_| chunk.open == 0) else { return };
            let tally = self.reached.tally.plus(&chunk.tally);
            let is_only_whole = self.reached.is_only_whole || chunk.is_only_whole;
            self.reached = Checkpoint { place, tally, is_only_whole, ..self.reached };
            (self.first, self.is_new) = (self.first + 1, true);
            self.chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(bytes: u64) -> Place {
        Place { bytes, ..Place::default() }
    }

    #[test]
    fn a_place_is_reached_when_all_before_it_is_settled() {
        let mut progress = CheckpointTracker::new(2, Checkpoint::default());
        let first = progress.claimed();
        progress.settled_at_once(Outcome::Invalid, 2);
        progress.chunk_ended(place(100));
        let second = progress.claimed();
        progress.chunk_ended(place(200));
        progress.settled(second, Outcome::Created, true);
        assert_eq!(progress.news(), None, "the first is still open");
        progress.settled(first, Outcome::Rejected, true);
        let reached = progress.news().unwrap();
        assert_eq!((reached.place.bytes, reached.tally.rows()), (200, 3));
        assert_eq!(reached.tally.get(Outcome::Rejected), 1);
        assert_eq!(progress.news(), None, "told once");
    }

    #[test]
    fn nothing_behind_a_row_that_is_sent_again_is_reached() {
        for outcome in [Outcome::Failed, Outcome::Pending, Outcome::Existing] {
            let mut progress = CheckpointTracker::new(2, Checkpoint { since: 2, ..Checkpoint::default() });
            progress.settled_at_once(Outcome::Unchanged, 1);
            progress.chunk_ended(place(100));
            let stuck = progress.claimed();
            let other = progress.claimed();
            progress.settled(stuck, outcome, false);
            progress.settled(other, Outcome::Created, true);
            progress.chunk_ended(place(200));
            progress.chunk_ended(place(300));
            let reached = progress.news().unwrap();
            assert_eq!((reached.place.bytes, reached.is_only_whole), (100, true));
        }
    }
}
