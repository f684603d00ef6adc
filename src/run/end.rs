//! The end of a run: its reason, its counts, its limits, and the record in the ledger.
//!
//! The loop and its stages decide when a run ends. The exit code and the final message belong to the command line, so
//! [`RunResult::record`] receives the exit code and writes it to the ledger with the end.

use std::time::Duration;

use crate::{
    customer::{Dropped, FieldCounts},
    error::Error,
    ledger::{
        Committed, EndConcerns, ErrorGroups, ExistingCounts, Ledger, RequestCounts, RunEnd, RunState,
        SentCounts, Tally, WorkerShare,
    },
    sender::Halt,
    source,
};

/// The number of rows from which a percentage of failures applies.
const PERCENT_FROM_ROWS: u64 = 100;

/// The limit of failed and rejected rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaxFailures {
    /// The run stops after more failures than this.
    Rows(u64),
    /// The run stops if more than this percentage of the rows sent has failed, from the hundredth row on.
    Percent(f64),
}

impl MaxFailures {
    /// The number of failures, if it exceeds the limit.
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

/// A signal by which the user ends a run: its number (1, 2 or 15).
pub type Signal = u8;

/// Why the program ends a run.
#[derive(Clone, Debug, PartialEq)]
pub enum StopReason {
    /// No row can succeed.
    Halt(Halt),
    /// No successful response for this long.
    Outage {
        /// How long.
        limit: Duration,
        /// The last failure.
        last_failure: String,
    },
    /// No response at all since the run began, for this long.
    NoAnswer {
        /// How long.
        limit: Duration,
        /// The last failure.
        last_failure: String,
    },
    /// The first replies were all the same refusal.
    Canary {
        /// Number of these replies.
        rows: u64,
        /// What they have in common.
        refusal: String,
    },
    /// More failures than allowed.
    TooManyFailures(u64),
    /// Another worker of the run has stopped it, for this reason.
    OtherWorker(String),
    /// The other workers of the run read another source.
    OtherSource {
        /// What is wrong.
        text: String,
        /// What to do.
        hint: &'static str,
    },
}

/// How a run ended.
#[derive(Debug)]
pub enum EndReason {
    /// The source was read to its end and every claim is settled.
    Completed,
    /// The user ended the run; rows in flight are settled.
    Interrupted(Signal),
    /// The program ended the run; rows in flight are settled.
    Stopped(StopReason),
    /// The source could not be read to its end; the rows before the error are settled.
    SourceFailed(source::Error),
}

impl EndReason {
    /// Whom the reason concerns.
    fn concerns(&self) -> EndConcerns {
        match self {
            EndReason::Stopped(StopReason::OtherSource { .. })
            | EndReason::Completed
            | EndReason::Interrupted(_)
            | EndReason::SourceFailed(_) => EndConcerns::ThisWorker,
            EndReason::Stopped(_) => EndConcerns::AllWorkers,
        }
    }

    /// The state to record in the ledger.
    pub fn state(&self) -> RunState {
        match self {
            EndReason::Completed => RunState::Completed,
            EndReason::Interrupted(_) => RunState::Interrupted,
            EndReason::Stopped(_) | EndReason::SourceFailed(_) => RunState::Stopped,
        }
    }
}

/// The committed counts of a run.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Rows by outcome.
    pub tally: Tally,
    /// Those that this process has counted.
    pub(super) own_tally: Tally,
    /// Requests of all workers of the run; none if no other process can work on it.
    pub(super) shared_requests: Option<RequestCounts>,
    /// Number of other workers of the run.
    pub(super) other_workers: u64,
    /// Optional fields that were dropped from rows, by field.
    pub dropped: Dropped,
    /// Number of imported rows in which each field differs.
    pub changed: FieldCounts,
    /// Counts of customers that existed before.
    pub existing: ExistingCounts,
}

impl Totals {
    /// Adds one commit.
    pub(super) fn add(&mut self, committed: &Committed) {
        self.tally = committed.tally;
        self.own_tally = committed.own_tally;
        self.dropped.merge(&committed.dropped);
        self.existing.merge(&committed.existing);
        for (_, fields) in &committed.changed {
            self.changed.add(*fields);
        }
    }
}

/// The result of a run.
pub struct RunResult {
    /// How it ended.
    pub reason: EndReason,
    /// Committed counts.
    pub totals: Totals,
    /// Requests of this process.
    pub request_counts: RequestCounts,
    /// Requests of all workers of the run; none if no other process can work on it.
    pub(super) shared_requests: Option<RequestCounts>,
    /// Number of other workers of the run that continue.
    pub other_workers: u64,
    /// What this process has done of the run; none if no other process can work on it.
    pub worker: Option<WorkerShare>,
    /// Number of pauses that the API requested.
    pub pauses: u64,
    /// The best rate sustained below a limit of the API, in requests per second; none if no limit was found.
    pub sustained_rate: Option<f64>,
    /// `None` if the user did not wait for the end: nothing further is recorded, as after a crash.
    pub(super) ledger: Option<Ledger>,
    pub(super) scope: SourceScope,
    pub(super) empty_run: EmptyRun,
}

/// What is known of a run when its end is recorded.
#[derive(Debug, Default)]
pub struct RecordedEnd {
    /// The number of imported rows that are absent from the source, if it is known.
    pub absent: Option<u64>,
    /// What is wrong with the rows that cannot be sent, if all of them were counted.
    pub unsendable: Option<ErrorGroups>,
    /// False if the user did not wait for the end, or there was nothing to record.
    pub is_recorded: bool,
}

impl RunResult {
    /// Requests of the run, over all its workers.
    pub fn run_requests(&self) -> RequestCounts {
        self.shared_requests.unwrap_or(self.request_counts)
    }

    /// Whether the run did nothing and is not to be kept.
    pub fn is_discarded(&self) -> bool {
        let did_nothing = self.totals.tally.rows() == 0 && self.request_counts.requests == 0;
        self.empty_run == EmptyRun::Discard && did_nothing && self.reason.state() == RunState::Completed
    }

    /// Records the end of the run.
    ///
    /// # Errors
    /// If the ledger cannot be read or written.
    pub async fn record(&mut self, exit_code: u8, stop_reason: Option<&str>) -> Result<RecordedEnd, Error> {
        let Some(mut ledger) = self.ledger.take() else { return Ok(RecordedEnd::default()) };
        if self.is_discarded() {
            ledger.discard_run().await?;
            return Ok(RecordedEnd::default());
        }
        let state = self.reason.state();
        let mut absent = None;
        if self.scope == SourceScope::Whole && state == RunState::Completed {
            absent = Some(ledger.finish_source().await?);
        }
        let end = RunEnd { state, exit_code, stop_reason, concerns: self.reason.concerns() };
        let unsendable = ledger.end_run(end, &self.request_counts).await?;
        Ok(RecordedEnd { absent, unsendable, is_recorded: true })
    }
}

/// Whether a source contains every customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceScope {
    /// An imported row that is not in the source is absent.
    Whole,
    /// The source contains some of the rows: an export, a retry, or a file with a limit.
    Part,
}

/// What to do with a run that had no rows and sent no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmptyRun {
    /// Keep it like any other run: that a file had no rows is worth recording.
    Keep,
    /// Delete it from the ledger.
    Discard,
}

/// The limits within which a run sends requests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum number of requests in flight.
    pub concurrency: usize,
    /// The run stops after this long without a successful response.
    pub outage_limit: Duration,
    /// How long requests in flight may take after the run has stopped.
    pub shutdown_grace: Duration,
}
