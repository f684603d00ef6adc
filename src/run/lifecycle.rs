//! Why a run ends, and what it came to.
//!
//! Pure values; when a run ends is decided by the loop.

use std::time::Duration;

use crate::{
    customer::{Changed, Dropped},
    ledger::{ExistingCounts, Ledger, Outcome, RequestCounts, RunState, Settlement, Tally},
    sender::Halt,
    source,
};

/// Below so many rows a percentage of failures says nothing.
const PERCENT_FROM_ROWS: u64 = 100;

/// When a run ends itself because of its rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaxFailures {
    /// More than so many rows rejected or failed.
    Rows(u64),
    /// More than this share of the rows that were sent, once a hundred were.
    Percent(f64),
}

/// What became of the rows that this run has sent. What an earlier run was refused, and this one left as it was,
/// says nothing of how this one goes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SentCounts {
    rows: u64,
    failures: u64,
}

impl SentCounts {
    pub(super) fn add(&mut self, settlement: &Settlement) {
        let outcome = settlement.result().outcome();
        self.rows += u64::from(outcome != Outcome::Pending);
        self.failures += u64::from(matches!(outcome, Outcome::Rejected | Outcome::Failed));
    }
}

impl MaxFailures {
    /// The failures, where they are too many.
    pub(super) fn exceeded_by(self, sent: SentCounts) -> Option<u64> {
        let SentCounts { rows, failures } = sent;
        let too_many = match self {
            MaxFailures::Rows(most) => failures > most,
            MaxFailures::Percent(most) => {
                rows >= PERCENT_FROM_ROWS && failures as f64 * 100.0 > most * rows as f64
            }
        };
        too_many.then_some(failures)
    }
}

/// The user's wish to end, as the signal's number (1, 2 or 15).
pub type Signal = u8;

/// Why a run ended itself.
#[derive(Clone, Debug, PartialEq)]
pub enum StopReason {
    /// No row can succeed.
    Halt(Halt),
    /// No good answer for so long; what the last one or its absence was.
    Outage(Duration, String),
    /// The first answers, so many, were this same refusal.
    Canary(u64, String),
    /// More failures than allowed.
    TooManyFailures(u64),
}

/// How a run ended.
#[derive(Debug)]
pub enum EndReason {
    /// The source is at its end and every claim is settled.
    Completed,
    /// The user ended it; what was in flight is settled.
    Interrupted(Signal),
    /// It ended itself; what was in flight is settled.
    Stopped(StopReason),
    /// The source could not be read to its end; what was read is settled.
    SourceFailed(source::Error),
}

impl EndReason {
    /// The state to record.
    pub fn state(&self) -> RunState {
        match self {
            EndReason::Completed => RunState::Completed,
            EndReason::Interrupted(_) => RunState::Interrupted,
            EndReason::Stopped(_) | EndReason::SourceFailed(_) => RunState::Stopped,
        }
    }
}

/// What a run came to.
pub struct RunResult {
    /// How it ended.
    pub ended: EndReason,
    /// Committed counts.
    pub tally: Tally,
    /// Requests.
    pub figures: RequestCounts,
    /// What rows go without, committed too.
    pub dropped: Dropped,
    /// Which fields of imported rows differ.
    pub changed: Changed,
    /// What was found out about customers that existed.
    pub existing: ExistingCounts,
    /// The ledger, to record the end in; gone where the user did not want to wait for it.
    pub ledger: Option<Ledger>,
}
