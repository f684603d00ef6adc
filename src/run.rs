//! The loop of a run: the only owner of its state. `import` and `retry` claim, send and settle rows with it
//! (`run/pipeline.rs`), `verify` looks rows up.
//!
//! One task decides which rows are claimed, what is committed, how many send tasks run, and when and why the run ends.
//! What a run is doing is one `Stage`; the table of all transitions is in `run/stage.rs`. The `select!` of `drive`
//! only receives, because its arms are cancelled: a signal, a finished piece of work, a chunk of rows, a slot, the
//! end of the grace, a tick. Everything that can begin without waiting begins before it, in `Workload::advance`.
//!
//! The loop never waits for a commit. Replies that arrive during a commit form the next batch. So at most one
//! transaction is in progress, its size adapts to the load without a timer, and no request waits for the disk.
//!
//! The number of rows in doubt after a crash is bounded: at most [`CLAIMED_AHEAD_MAX`] claims wait and at most
//! [`open_rows_max`] rows are open.
//!
//! Must not depend on HTTP, SQL, CSV or the terminal.

mod adoption;

mod stage;

mod commit_policy;

mod work_queue;

mod read_ahead;

mod ledger_handle;

mod pipeline;

mod systematic_refusal;

mod end;

mod lifecycle;

mod shared_rate;

mod progress;

mod outage;

mod timeline;

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

pub(crate) use self::shared_rate::share_rate;
use self::stage::Action;
pub use self::{
    end::{
        EmptyRun, EndReason, Limits, MaxFailures, RecordedEnd, RunResult, Signal, SourceScope, StopReason,
        Totals,
    },
    lifecycle::{ActiveRun, BegunRun, RowSource},
    outage::waiting_cause,
    pipeline::Options,
    progress::{RunPart, RunSnapshot, SourceSize},
};
pub(crate) use self::{
    outage::OutageLog,
    stage::{SourceEnd, Stage, StageEvent},
};
use crate::{
    error::Error,
    sender::{Contact, Sender, ShutdownPhase},
    source::{self, Chunk},
    throttle::Slot,
};

/// Maximum number of claims that wait for a slot. At 40,000 rows a second, two commits make this many.
pub const CLAIMED_AHEAD_MAX: usize = 2048;

/// Maximum number of open rows: in flight, or waiting for a retry.
pub fn open_rows_max(concurrency: usize) -> usize {
    // A row that waits for a retry holds no slot, so a few failing rows do not take the slots of the others.
    concurrency + 1024
}

/// The interval at which time limits are checked and the progress is shown.
const TICK: Duration = Duration::from_millis(200);

/// How long a run tries to reach an API that has never responded: the host is more likely wrong than temporarily
/// unavailable.
const UNANSWERED_MAX: Duration = Duration::from_secs(30);

/// The rows of a source, as its reader sends them.
pub type Chunks = mpsc::Receiver<Result<Chunk, source::Error>>;

/// What a run does with the rows of its source, apart from reading and stopping: it claims and sends them, or looks
/// them up.
pub(crate) trait Workload {
    /// The result of a finished piece of work.
    type Finished;

    /// Starts everything that can start without waiting. Returns the first event that arises; the loop calls again
    /// until there is none.
    fn advance(&mut self, stage: &Stage) -> Option<StageEvent>;

    /// Whether a further chunk of rows can be accepted.
    fn wants_rows(&self) -> bool;

    /// Whether a row waits for a slot.
    fn wants_slot(&self) -> bool;

    /// Waits for the next piece of work to finish. Cancel-safe: it only receives.
    ///
    /// # Errors
    /// If a task has ended without a result, which is a bug.
    async fn finished(&mut self, stage: &Stage) -> Result<Self::Finished, Error>;

    /// Handles a finished piece of work.
    ///
    /// # Errors
    /// If a commit has failed.
    fn on_finished(&mut self, finished: Self::Finished, stage: &Stage) -> Result<(), Error>;

    /// Handles a chunk of rows from the source. Cancelled by a signal, after which no further chunk comes: whatever the
    /// chunk changes must be changed after the last wait.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    async fn on_chunk(&mut self, chunk: Chunk) -> Result<(), Error>;

    /// Uses a slot that was requested by [`Self::wants_slot`].
    fn on_slot(&mut self, slot: Slot);

    /// Shows the progress.
    fn on_tick(&mut self, stage: &Stage);

    /// Stops the work: rows that are not in flight are released.
    fn drain(&mut self, reason: &EndReason);

    /// Abandons the requests in flight, because the shutdown grace is over.
    fn abandon(&mut self);
}

/// The result of the loop.
pub(crate) struct DriveEnd {
    /// The last stage.
    pub(crate) stage: Stage,
    /// Whether the user did not wait for the requests in flight; nothing further is recorded then.
    pub(crate) has_quit: bool,
}

/// An event received by the loop.
enum Received<F> {
    Signal(Signal),
    Finished(F),
    Chunk(Option<Result<Chunk, source::Error>>),
    Slot(Slot),
    GraceExpired,
    Tick,
}

/// Runs from the first stage until an action leaves the loop.
///
/// # Errors
/// If the workload cannot continue, or sent an event that its stage does not allow. Everything recorded stays valid;
/// rows in flight are in doubt.
pub(crate) async fn drive<W: Workload>(
    work: &mut W,
    mut stage: Stage,
    mut source: Chunks,
    signals: &mut mpsc::Receiver<Signal>,
    sender: &Sender,
    limits: Limits,
) -> Result<DriveEnd, Error> {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let event = match work.advance(&stage) {
            Some(event) => Some(event),
            None => match receive(work, &stage, &mut source, signals, sender, &mut ticks).await? {
                Received::Signal(signal) => Some(StageEvent::Signal(signal)),
                Received::Chunk(None) => Some(StageEvent::SourceEnded(SourceEnd::Reached)),
                Received::Chunk(Some(Err(error))) => Some(StageEvent::SourceEnded(SourceEnd::Failed(error))),
                // Reading a ledger on a server may take long, and a signal must not wait for it.
                Received::Chunk(Some(Ok(chunk))) => tokio::select! {
                    biased;
                    done = work.on_chunk(chunk) => done.map(|()| None)?,
                    Some(signal) = signals.recv() => Some(StageEvent::Signal(signal)),
                },
                Received::Finished(finished) => {
                    work.on_finished(finished, &stage)?;
                    None
                }
                Received::Slot(slot) => {
                    work.on_slot(slot);
                    None
                }
                Received::GraceExpired => Some(StageEvent::GraceExpired),
                Received::Tick => {
                    work.on_tick(&stage);
                    exceeded_limit(sender, limits).map(StageEvent::Stop)
                }
            },
        };
        let Some(event) = event else { continue };
        let action;
        (stage, action) = stage.on(event, Instant::now() + limits.shutdown_grace)?;
        match action {
            Action::Nothing => {}
            Action::Drain => {
                if let Some(reason) = stage.stop_reason() {
                    work.drain(reason);
                }
                sender.advance_shutdown(ShutdownPhase::Draining);
            }
            Action::Abandon => {
                work.abandon();
                sender.advance_shutdown(ShutdownPhase::Aborting);
            }
            Action::End => return Ok(DriveEnd { stage, has_quit: false }),
            Action::Quit => return Ok(DriveEnd { stage, has_quit: true }),
        }
    }
}

/// The only place in the loop that waits. Every arm only receives.
async fn receive<W: Workload>(
    work: &mut W,
    stage: &Stage,
    source: &mut Chunks,
    signals: &mut mpsc::Receiver<Signal>,
    sender: &Sender,
    ticks: &mut tokio::time::Interval,
) -> Result<Received<W::Finished>, Error> {
    let wants_rows = stage.reads_source() && work.wants_rows();
    let wants_slot = work.wants_slot();
    let abandon_at = stage.abandon_at();
    Ok(tokio::select! {
        biased;
        Some(signal) = signals.recv() => Received::Signal(signal),
        finished = work.finished(stage) => Received::Finished(finished?),
        chunk = source.recv(), if wants_rows => Received::Chunk(chunk),
        slot = sender.throttle().slot(), if wants_slot => Received::Slot(slot),
        () = sleep_until(abandon_at.unwrap_or_else(Instant::now)), if abandon_at.is_some() => Received::GraceExpired,
        _ = ticks.tick() => Received::Tick,
    })
}

/// The reason for which the run must stop regardless of its rows, if there is one.
fn exceeded_limit(sender: &Sender, limits: Limits) -> Option<StopReason> {
    let throttle = sender.throttle();
    let (limit, failing_for) = (limits.outage_limit, throttle.failing_for().unwrap_or_default());
    let unanswered_limit = limit.min(UNANSWERED_MAX);
    let last_failure = || sender.last_failure();
    let contact = sender.contact();
    // If requests can be sent, the first response may still belong to one in flight.
    let may_be_answered = contact == Contact::Unanswered && throttle.in_flight() > 0 && failing_for < limit;
    if contact < Contact::Answered && failing_for >= unanswered_limit && !may_be_answered {
        return Some(StopReason::NoAnswer { limit: unanswered_limit, last_failure: last_failure() });
    }
    if failing_for >= limit {
        return Some(StopReason::Outage { limit, last_failure: last_failure() });
    }
    sender.wrong_endpoint().map(StopReason::Halt)
}
