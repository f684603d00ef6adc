//! The life of a run: begin, resume, send, count absent rows, record the end. And the reasons for which it ends.
//!
//! `import` and `retry` differ only in their [`RowSource`] and their [`Options`]. The exit code and the text of the end
//! belong to the command line, so a run is ended in two steps: [`ActiveRun::execute`] returns the result, and
//! [`RunResult::record`] writes the end with the code that the program exits with.
//!
//! When a run ends is decided by the loop and its stages, not here.

use std::{num::NonZeroU64, path::Path, sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::JoinSet};
use tracing::info;

use super::{
    drive,
    pipeline::Pipeline,
    progress::{RunSnapshot, SourceSize},
    stage::Stage,
};
use crate::{
    customer::{Changed, Dropped, SourcePosition},
    error::Error,
    ledger::{
        Committed, ExistingCounts, Ledger, NewRun, Outcome, RequestCounts, RunId, RunState, Settlement,
        Tally, Target,
    },
    sender::{Halt, Sender},
    source::{self, ReplaySource, Source},
};

/// A percentage of failures counts from so many rows.
const PERCENT_FROM_ROWS: u64 = 100;

/// The limit of failed and rejected rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaxFailures {
    /// The run stops after more than so many failures.
    Rows(u64),
    /// The run stops if more than this percentage of the rows sent has failed, from the hundredth row on.
    Percent(f64),
}

/// How many rows this run has sent, and how many of them have failed. Rows that an earlier run has settled are not
/// counted: they do not show how this run goes.
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
    /// No successful response for so long, and the last trouble.
    Outage(Duration, String),
    /// So many first replies were this same refusal.
    Canary(u64, String),
    /// More failures than allowed.
    TooManyFailures(u64),
}

/// How a run ended.
#[derive(Debug)]
pub enum EndReason {
    /// The source is at its end and every claim is settled.
    Completed,
    /// The user ended it; rows in flight are settled.
    Interrupted(Signal),
    /// The program ended it; rows in flight are settled.
    Stopped(StopReason),
    /// The source could not be read to its end; the rows before the error are settled.
    SourceFailed(source::Error),
}

impl EndReason {
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
    /// Optional fields that were dropped from rows, by field.
    pub dropped: Dropped,
    /// In how many imported rows each field differs.
    pub changed: Changed,
    /// Customers that existed before, by what is known of them.
    pub existing: ExistingCounts,
}

impl Totals {
    /// Adds one commit.
    pub(super) fn add(&mut self, committed: &Committed) {
        self.tally = committed.tally;
        self.dropped.merge(&committed.dropped);
        self.existing.merge(&committed.existing);
        for (_, fields) in &committed.changed {
            self.changed.add(*fields);
        }
    }
}

/// The rows of a run.
pub enum RowSource {
    /// A file; a run resumes at the checkpoint of the previous run over it.
    File(Source),
    /// Failed and rejected rows of the ledger.
    Ledger(ReplaySource),
}

/// A run that the ledger knows and that has not ended.
pub struct ActiveRun {
    ledger: Ledger,
}

impl ActiveRun {
    /// Locks the ledger, records the run, and takes over what crashed runs left in doubt.
    ///
    /// # Errors
    /// Where the ledger cannot be opened, belongs to another target or is in use.
    pub async fn begin(
        ledger: &Path,
        target: &Target,
        run: &NewRun<'_>,
        clock: fn() -> i64,
    ) -> Result<ActiveRun, Error> {
        let ledger = Ledger::begin_run(ledger, target, run, clock).await?;
        Ok(ActiveRun { ledger })
    }

    /// The number of the run.
    pub fn id(&self) -> RunId {
        self.ledger.run()
    }

    /// Sends the rows of a source until it is at its end, the user ends the run or it ends itself. `show` is called
    /// after each commit and at each tick.
    ///
    /// # Errors
    /// Where the source or the ledger cannot go on, or a bug ended a worker. What was recorded stands; rows in flight
    /// are in doubt.
    pub async fn execute(
        mut self,
        source: RowSource,
        sender: &Arc<Sender>,
        options: Options,
        signals: &mut mpsc::Receiver<Signal>,
        show: &mut dyn FnMut(&RunSnapshot),
    ) -> Result<RunResult, Error> {
        // The reader of a ledger is a task; it ends with this set.
        let mut readers = JoinSet::new();
        let chunks = match source {
            RowSource::File(mut source) => {
                resume(&mut self.ledger, &mut source).await?;
                source.stream()?
            }
            RowSource::Ledger(source) => {
                let (reader, chunks) = source.stream();
                readers.spawn(reader);
                chunks
            }
        };
        let in_doubt = self.ledger.rows_in_doubt();
        if in_doubt > 0 {
            info!(rows = in_doubt, "an earlier run left rows in doubt; they are looked up first");
        }
        let mut pipeline = Pipeline::new(self.ledger, Arc::clone(sender), options, show);
        let stage = Stage::first(in_doubt);
        let end = drive(&mut pipeline, stage, chunks, signals, sender, options.limits).await?;
        Ok(pipeline.end(end))
    }
}

/// Skips the rows before the checkpoint of the previous run, if it used the same file and parse settings.
async fn resume(ledger: &mut Ledger, source: &mut Source) -> Result<(), Error> {
    let is_whole = |place: &SourcePosition| Some(place.bytes) == source.size();
    let checkpoint =
        ledger.resume_point(true).filter(|(place, _)| is_whole(place)).or_else(|| ledger.resume_point(false));
    let Some((place, rows)) = checkpoint else { return Ok(()) };
    if source.skip_to(place, rows)? {
        info!(rows, line = place.line, "resuming after an unchanged prefix");
        ledger.resume().await?;
    }
    Ok(())
}

/// The result of a run.
pub struct RunResult {
    /// How it ended.
    pub reason: EndReason,
    /// Committed counts.
    pub totals: Totals,
    /// Requests.
    pub request_counts: RequestCounts,
    /// `None` if the user has quit: nothing further is recorded, as after a crash.
    pub(super) ledger: Option<Ledger>,
    pub(super) scope: SourceScope,
}

impl RunResult {
    /// Records the end of the run. Returns how many imported rows are absent from the source, where the run knows.
    ///
    /// # Errors
    /// Where the ledger cannot be read or written.
    pub async fn record(&mut self, exit_code: u8, stop_reason: Option<&str>) -> Result<Option<u64>, Error> {
        let Some(mut ledger) = self.ledger.take() else { return Ok(None) };
        let state = self.reason.state();
        let mut absent = None;
        if self.scope == SourceScope::Whole && state == RunState::Completed {
            absent = Some(ledger.finish_source().await?);
        }
        ledger.end_run(state, exit_code, stop_reason, &self.request_counts).await?;
        Ok(absent)
    }
}

/// Whether a source has every customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceScope {
    /// An imported row that is not in the source is absent.
    Whole,
    /// The source has some of the rows: an export, a retry, or a file with a limit.
    Part,
}

/// The limits within which a run sends requests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests in flight.
    pub concurrency: usize,
    /// Without a successful response for so long, the run stops.
    pub outage_limit: Duration,
    /// How long requests in flight may take after the run has stopped.
    pub shutdown_grace: Duration,
}

/// What a run that sends rows is given.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The limits of its requests.
    pub limits: Limits,
    /// Too many failures stop the run.
    pub max_failures: Option<MaxFailures>,
    /// How much there is to do.
    pub source_size: SourceSize,
    /// Whether the source has every customer.
    pub scope: SourceScope,
    /// So many first refusals that are all the same stop the run.
    pub canary: Option<NonZeroU64>,
}
