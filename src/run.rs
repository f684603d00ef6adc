//! The loop of a run: the only owner of its state. `import` and `retry` claim, send and settle rows with it
//! (`run/pipeline.rs`), `verify` looks rows up.
//!
//! One task decides which rows are claimed, what is committed, how many workers run, and when and why the run ends.
//! What a run is doing is one `Stage`; the table of all transitions stands in `run/stage.rs`. The `select!` of
//! `drive` only receives, because its arms are cancelled: a signal, a finished piece of work, a chunk of rows, a slot,
//! the end of the grace, a tick. Everything that can begin without waiting begins before it, in `Workload::advance`.
//!
//! The loop never waits for a commit. Replies that arrive during a commit form the next batch. So at most one
//! transaction is in progress, its size adapts to the load without a timer, and no request waits for the disk.
//!
//! What may be in doubt after a crash is bounded: at most [`LOOK_AHEAD_MAX`] claims wait and at most [`open_rows_max`]
//! rows are open.
//!
//! Must not know of HTTP, SQL, CSV or the terminal.

mod stage;

mod commit_policy;

mod work_queue;

mod read_ahead;

mod ledger_handle;

mod pipeline;

mod systematic_refusal;

mod end;

mod lifecycle;

mod progress;

mod outage;

mod timeline;

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use self::stage::Action;
pub use self::{
    end::{EmptyRun, EndReason, Limits, MaxFailures, RunResult, Signal, SourceScope, StopReason, Totals},
    lifecycle::{ActiveRun, RowSource},
    outage::waiting_cause,
    pipeline::Options,
    progress::{RunSnapshot, SourceSize},
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

/// The most claims that wait for a slot. At 40,000 rows a second it is what two commits take.
pub const LOOK_AHEAD_MAX: usize = 2048;

/// The most rows that are open: in flight, or waiting to be tried again.
pub fn open_rows_max(concurrency: usize) -> usize {
    // A row that waits holds no slot, so a few bad rows must not keep the good ones from theirs.
    concurrency + 1024
}

/// How often limits in time are checked and the progress is shown while nothing else happens.
const TICK: Duration = Duration::from_millis(200);

/// For how long a run tries to reach an API that has not answered once: the host is more likely wrong than away.
const UNANSWERED_MAX: Duration = Duration::from_secs(30);

/// The rows of a source, as its reader sends them.
pub type Chunks = mpsc::Receiver<Result<Chunk, source::Error>>;

/// What a run does with the rows of its source, apart from reading and stopping: claim and send them, or look them up.
pub(crate) trait Workload {
    /// A piece of work that has ended.
    type Finished;

    /// Begins everything that can begin without waiting. An event that arises is returned at once; the loop calls again
    /// until none does.
    fn advance(&mut self, stage: &Stage) -> Option<StageEvent>;

    /// Whether a further chunk of rows can be taken.
    fn wants_rows(&self) -> bool;

    /// Whether a row waits for a slot.
    fn wants_slot(&self) -> bool;

    /// Waits for the next piece of work that ends. Cancel-safe: it only receives.
    ///
    /// # Errors
    /// Where a task has ended without a result, which is a bug.
    async fn finished(&mut self, stage: &Stage) -> Result<Self::Finished, Error>;

    /// Takes in a piece of work that has ended.
    ///
    /// # Errors
    /// Where a commit has failed.
    fn on_finished(&mut self, finished: Self::Finished, stage: &Stage) -> Result<(), Error>;

    /// Takes in rows of the source.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    async fn on_chunk(&mut self, chunk: Chunk) -> Result<(), Error>;

    /// Uses a slot that [`Self::wants_slot`] asked for.
    fn on_slot(&mut self, slot: Slot);

    /// Shows the progress.
    fn on_tick(&mut self, stage: &Stage);

    /// The run stops: rows that are not in flight are given back.
    fn drain(&mut self, reason: &EndReason);

    /// The grace of the requests in flight is over.
    fn abandon(&mut self);
}

/// How the loop ended.
pub(crate) struct DriveEnd {
    /// The last stage.
    pub(crate) stage: Stage,
    /// The user did not wait for the requests in flight: nothing further is recorded.
    pub(crate) has_quit: bool,
}

/// What the loop has received.
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
/// Where the workload cannot go on, or has sent an event that its stage does not allow. What was recorded stands; rows in flight are in doubt.
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
                Received::Chunk(Some(Ok(chunk))) => {
                    work.on_chunk(chunk).await?;
                    None
                }
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

/// The one place of the loop that waits. Every arm only receives.
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

/// Why the run has to stop whatever its rows are, if it has to.
fn exceeded_limit(sender: &Sender, limits: Limits) -> Option<StopReason> {
    let throttle = sender.throttle();
    let (limit, failing_for) = (limits.outage_limit, throttle.failing_for().unwrap_or_default());
    let unanswered_limit = limit.min(UNANSWERED_MAX);
    let contact = sender.contact();
    // Where requests arrive, the answer to one in flight may be the first.
    let may_be_answered = contact == Contact::Unanswered && throttle.in_flight() > 0 && failing_for < limit;
    if contact < Contact::Answered && failing_for >= unanswered_limit && !may_be_answered {
        return Some(StopReason::NoAnswer(unanswered_limit, sender.last_failure()));
    }
    if failing_for >= limit {
        return Some(StopReason::Outage(limit, sender.last_failure()));
    }
    sender.wrong_endpoint().map(StopReason::Halt)
}
