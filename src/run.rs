//! The loop: claim, send, settle, stop; the only owner of a run's state.
//!
//! One task owns everything between the reader and the ledger. It decides which rows are claimed, what is committed,
//! how many workers run, and when and why the run ends. Workers only pop claims from the work queue and push
//! settlements back.
//!
//! The loop never waits for a commit. Replies that arrive during a commit form the next batch. So at most one
//! transaction is under way, its size adapts to the load without a timer, and no request waits for the disk. The arms
//! of its `select!` only receive, because `select!` cancels them.
//!
//! Rows that a crashed run left in doubt come first: no row of the source is claimed before each of them is settled.
//!
//! What may be in doubt after a crash is bounded: at most [`LOOK_AHEAD_MAX`] claims wait and at
//! most [`open_rows_max`] rows are open.
//!
//! Must not know of HTTP, SQL, CSV or the terminal.

mod read_ahead;

mod work_queue;

mod lifecycle;

mod systematic_refusal;

mod timeline;

mod progress;

use std::{future::Future, num::NonZeroU64, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracing::{debug, info, warn};

use self::{
    lifecycle::SentCounts,
    progress::Progress,
    read_ahead::{ReadAhead, RowsToClaim},
    systematic_refusal::SystematicRefusalDetector,
    timeline::Timeline,
    work_queue::{QueueDepth, WakeThresholds, WorkQueue},
};
pub use self::{
    lifecycle::{EndReason, MaxFailures, RunResult, Signal, StopReason},
    progress::{RunSnapshot, SourceSize},
};
use crate::{
    customer::{Changed, Dropped},
    error::Error,
    ledger::{Batch, Claim, Committed, ExistingCounts, Ledger, Tally},
    sender::{Sender, ShutdownPhase},
    source::{self, Chunk},
    throttle::{Slot, UpcomingWrites},
};

/// The most claims that wait for a slot. At 40,000 rows a second it is what two commits take.
pub const LOOK_AHEAD_MAX: usize = 2048;

/// The most rows that are open: in flight, or waiting to be tried again.
pub fn open_rows_max(concurrency: usize) -> usize {
    // A row that waits holds no slot, so a few bad rows must not keep the good ones from theirs.
    concurrency + 1024
}

/// A commit is begun for so many settled rows at once, or when the oldest has waited for
/// [`SETTLED_WAIT_MAX`], or when claims run low. Without this there is a commit for each handful of
/// rows that came in during the last one, and its fixed cost (an fsync, and each page that the rows
/// share written again) was two thirds of the ledger's time.
const SETTLED_BATCH: usize = 512;

/// Rows that are claimed and not committed have no more bytes than this, by a chunk: whatever the file, memory is
/// bounded by more than their number.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long a settled row may wait for others to share a commit with.
const SETTLED_WAIT_MAX: Duration = Duration::from_millis(100);

/// How often limits in time are looked at and the progress is shown while nothing else happens.
const TICK: Duration = Duration::from_millis(200);

/// What a run is told.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Requests in flight.
    pub concurrency: usize,
    /// Without a good answer for so long, the run stops.
    pub outage_limit: Duration,
    /// Too many failures stop the run.
    pub max_failures: Option<MaxFailures>,
    /// How long requests in flight may still take once the run is to end.
    pub shutdown_grace: Duration,
    /// How much there is to do.
    pub extent: SourceSize,
    /// So many first refusals that are all the same stop the run.
    pub canary: Option<NonZeroU64>,
}

type Committing = Pin<Box<dyn Future<Output = (Ledger, Result<Committed, crate::ledger::Error>)> + Send>>;

struct Run {
    sender: Arc<Sender>,
    options: Options,
    /// `None` while a commit has it.
    ledger: Option<Ledger>,
    committing: Option<Committing>,
    /// Rows that earlier runs left in doubt, not claimed yet; `None` once all of them are settled.
    doubts: Option<usize>,
    read: ReadAhead,
    source_ended: bool,
    queue: Arc<WorkQueue>,
    refusals: SystematicRefusalDetector,
    workers: JoinSet<()>,
    /// Whether the ledger has counted rows that it has not committed yet.
    put_off: bool,
    /// Whether it has for long enough.
    overdue: bool,
    /// How many rows it took lately to make one claim.
    rows_per_claim: usize,
    /// Rows that the last commit took in.
    last_rows: usize,
    /// Rows settled by the last commit; what the look-ahead goes by.
    last_batch: usize,
    tally: Tally,
    /// What became of the rows that were sent, committed or about to be.
    sent: SentCounts,
    dropped: Dropped,
    changed: Changed,
    existing: ExistingCounts,
    timeline: Timeline,
    ended: Option<EndReason>,
    abandon_at: Option<Instant>,
    signals_seen: u32,
    progress: Progress,
}

enum Event {
    Signal(Signal),
    /// The work queue has something for the loop.
    Wake,
    Chunk(Option<Result<Chunk, source::Error>>),
    Committed(Box<Ledger>, Result<Committed, crate::ledger::Error>),
    Slot(Slot),
    Tick,
}

/// Runs until the source is at its end, the user ends it or it ends itself. `show` is called after
/// each commit and now and then.
///
/// # Errors
/// Where the ledger cannot be written, or a bug ended a row's task. What was recorded stands; rows
/// in flight are in doubt.
pub async fn drive(
    ledger: Ledger,
    mut source: mpsc::Receiver<Result<Chunk, source::Error>>,
    sender: Arc<Sender>,
    options: Options,
    signals: &mut mpsc::Receiver<Signal>,
    show: &mut dyn FnMut(&RunSnapshot),
) -> Result<RunResult, Error> {
    let (dropped, changed) = ledger.field_counts();
    let progress = Progress::new(options.extent, ledger.rows_in_doubt(), Instant::now());
    let mut run = Run {
        sender,
        options,
        doubts: Some(ledger.rows_in_doubt()),
        tally: ledger.tally(),
        ledger: Some(ledger),
        committing: None,
        read: ReadAhead::default(),
        source_ended: false,
        queue: Arc::new(WorkQueue::new()),
        refusals: SystematicRefusalDetector::new(options.canary),
        workers: JoinSet::new(),
        put_off: false,
        overdue: false,
        rows_per_claim: 1,
        last_rows: 0,
        last_batch: 0,
        sent: SentCounts::default(),
        dropped,
        changed,
        existing: ExistingCounts::default(),
        timeline: Timeline::new(),
        ended: None,
        abandon_at: None,
        signals_seen: 0,
        progress,
    };
    if let Some(rows @ 1..) = run.doubts {
        info!(rows, "an earlier run left rows in doubt; they are asked about first");
    }
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let depth = run.fill_slots();
        run.end_recovery(depth);
        run.settle_held_refusals(depth);
        run.begin_commit(depth);
        if run.is_done(depth) {
            break;
        }
        let event = run.next_event(&mut source, signals, &mut ticks).await?;
        match event {
            Event::Signal(_) if run.signals_seen > 0 => {
                // The second time: at once. Rows in flight and a commit under way are in doubt, no worse.
                run.ledger = None;
                break;
            }
            Event::Committed(..) | Event::Tick => {
                run.handle(event)?;
                run.timeline.sample(run.tally, &run.sender);
                run.update_rate();
                run.log_outage_change();
                show(&run.snapshot());
            }
            event => run.handle(event)?,
        }
    }
    show(&run.snapshot());
    Ok(run.end())
}

impl Run {
    /// The one place where anything is waited for. Every arm only receives.
    async fn next_event(
        &mut self,
        source: &mut mpsc::Receiver<Result<Chunk, source::Error>>,
        signals: &mut mpsc::Receiver<Signal>,
        ticks: &mut tokio::time::Interval,
    ) -> Result<Event, Error> {
        let wants_rows = self.read.wants_more() && !self.source_ended;
        let (depth, thresholds) = (self.queue.depth(), self.thresholds());
        let wants_slot = depth.claims > 0 && depth.open < open_rows_max(self.options.concurrency);
        let commit = async {
            match &mut self.committing {
                Some(commit) => commit.await,
                None => std::future::pending().await,
            }
        };
        let abandon_at = self.abandon_at;
        // While a commit is under way its end is when to look.
        let commit_at =
            depth.oldest_settled_at.map(|oldest| oldest + SETTLED_WAIT_MAX).filter(|_| self.ledger.is_some());
        let event = tokio::select! {
            biased;
            Some(signal) = signals.recv() => Event::Signal(signal),
            (ledger, result) = commit => Event::Committed(Box::new(ledger), result),
            Some(ended) = self.workers.join_next() => match ended {
                Ok(()) => Event::Wake,
                Err(error) => return Err(Error::Bug(format!("a row's task ended without a result ({error})"))),
            },
            () = self.queue.wait(thresholds) => Event::Wake,
            chunk = source.recv(), if wants_rows => Event::Chunk(chunk),
            slot = self.sender.throttle().slot(), if wants_slot => Event::Slot(slot),
            () = sleep_until(abandon_at.unwrap_or_else(Instant::now)), if abandon_at.is_some() => {
                self.abandon_at = None;
                warn!("requests in flight have used up their grace; their rows are in doubt");
                self.sender.advance_shutdown(ShutdownPhase::Aborting);
                Event::Tick
            }
            // The next turn of the loop begins the commit.
            () = sleep_until(commit_at.unwrap_or_else(Instant::now)), if commit_at.is_some() => Event::Wake,
            _ = ticks.tick() => Event::Tick,
        };
        Ok(event)
    }

    fn handle(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Signal(signal) => {
                self.signals_seen += 1;
                self.stop(EndReason::Interrupted(signal));
            }
            Event::Wake => {}
            Event::Chunk(Some(Ok(chunk))) => self.read.push(chunk),
            Event::Chunk(Some(Err(error))) => {
                self.source_ended = true;
                self.ended.get_or_insert(EndReason::SourceFailed(error));
            }
            Event::Chunk(None) => self.source_ended = true,
            Event::Committed(ledger, result) => {
                self.committing = None;
                self.ledger = Some(*ledger);
                let committed = result?;
                (self.tally, self.put_off) = (committed.tally, committed.deferred);
                self.dropped.merge(&committed.dropped);
                self.existing.merge(&committed.existing);
                for (line, fields) in committed.changed {
                    debug!(line, %fields, "the row differs from what was imported");
                    self.changed.add(fields);
                }
                if self.last_rows > 0 {
                    self.rows_per_claim = self.last_rows.div_ceil(committed.claims.len().max(1));
                }
                self.queue.push(committed.claims);
                if self.is_stopping() {
                    self.queue.release_unstarted();
                }
            }
            Event::Slot(slot) => self.start_worker(slot),
            Event::Tick => {
                self.overdue = self.put_off;
                self.check_outage();
                if let Some(halt) = self.sender.wrong_endpoint() {
                    self.stop(EndReason::Stopped(StopReason::Halt(halt)));
                }
            }
        }
        Ok(())
    }

    /// Takes in what workers have to say, and has as many at work as there are slots.
    fn fill_slots(&mut self) -> QueueDepth {
        if let Some(halt) = self.queue.take_halt() {
            self.stop(EndReason::Stopped(StopReason::Halt(halt)));
        }
        self.check_failures();
        loop {
            let depth = self.queue.depth();
            if depth.claims == 0 || depth.open >= open_rows_max(self.options.concurrency) {
                return depth;
            }
            match self.sender.throttle().try_slot() {
                Some(slot) => self.start_worker(slot),
                None => return depth,
            }
        }
    }

    fn start_worker(&mut self, slot: Slot) {
        if let Some(claim) = self.queue.pop() {
            self.workers.spawn(send_rows(Arc::clone(&self.queue), Arc::clone(&self.sender), claim, slot));
        }
    }

    /// How many claims should lie ready.
    fn wanted(&self) -> usize {
        (2 * self.options.concurrency + 4 * self.last_batch).min(LOOK_AHEAD_MAX)
    }

    /// Of what can be committed, what is worth it. While a commit is under way, nothing.
    fn thresholds(&self) -> WakeThresholds {
        let has_more = self.doubts.unwrap_or(self.read.len()) > 0;
        let claims = if has_more { self.wanted() / 2 + 1 } else { 0 };
        if self.ledger.is_some() {
            WakeThresholds { settled: SETTLED_BATCH, claims }
        } else {
            WakeThresholds::NONE
        }
    }

    /// Begins a commit of what has come in during the last one, if there is anything.
    fn begin_commit(&mut self, depth: QueueDepth) {
        let wanted = self.wanted();
        let left = self.doubts.unwrap_or(self.read.len());
        let room = if depth.bytes < BYTES_MAX { wanted.saturating_sub(depth.claims) } else { 0 };
        let more = room.saturating_mul(self.rows_per_claim).min(left);
        // A claim for each settlement would be a commit for each row: wait until it is worth one.
        let claims_due = more > 0 && depth.claims <= wanted / 2;
        let nothing_else_comes = depth.open == 0 && depth.claims == 0;
        let settled_due = depth.oldest_settled_at.is_some_and(|since| {
            depth.settled >= SETTLED_BATCH || nothing_else_comes || since + SETTLED_WAIT_MAX <= Instant::now()
        });
        let no_more_comes = self.read.is_empty() && (self.source_ended || self.is_stopping());
        let live_due = self.progress.is_due(Instant::now());
        let flush = self.put_off && (self.overdue || no_more_comes) || self.timeline.is_overdue() || live_due;
        if !settled_due && !claims_due && !flush {
            return;
        }
        let Some(mut ledger) = self.ledger.take() else {
            return;
        };
        self.timeline.write_to(&mut ledger);
        let claimed = if claims_due { more } else { 0 };
        let (doubts, RowsToClaim { rows, places }) = match &mut self.doubts {
            Some(left) => {
                *left -= claimed;
                (claimed, RowsToClaim::default())
            }
            None => (0, self.read.take(claimed)),
        };
        self.overdue = false;
        self.last_rows = rows.len().max(doubts);
        let (settled, stop) = self.refusals.pass(self.queue.take_settled());
        self.last_batch = settled.len();
        settled.iter().for_each(|settlement| self.progress.count(settlement));
        settled.iter().for_each(|settlement| self.sent.add(settlement));
        let live = if live_due { Some(self.heartbeat()) } else { None };
        let batch = Batch {
            in_doubt: doubts,
            rows,
            positions: places,
            settled,
            requests: self.sender.figures(),
            flush,
            heartbeat: live,
        };
        self.committing = Some(Box::pin(async move {
            let result = ledger.commit(batch).await;
            (ledger, result)
        }));
        if let Some(stop) = stop {
            self.stop(EndReason::Stopped(stop));
        }
    }

    /// Where all rows are claimed: those that are open are the last, and once they are settled nothing else will decide
    /// about the settlements that are held back.
    fn settle_held_refusals(&mut self, depth: QueueDepth) {
        let has_all = self.doubts.is_none() && self.read.is_empty() && self.source_ended;
        if !has_all || self.committing.is_some() {
            return;
        }
        let upcoming = if depth.claims == 0 { UpcomingWrites::None } else { UpcomingWrites::Few };
        self.sender.set_upcoming_writes(upcoming);
        if depth.is_clear() && self.refusals.is_holding() {
            self.queue.push_settled(self.refusals.close(!self.is_stopping()));
        }
    }

    fn is_stopping(&self) -> bool {
        matches!(self.ended, Some(EndReason::Interrupted(_) | EndReason::Stopped(_)))
    }

    fn is_done(&self, depth: QueueDepth) -> bool {
        let has_all = self.doubts.is_none() && self.read.is_empty() && self.source_ended;
        has_all && self.is_idle(depth) && !self.put_off && !self.refusals.is_holding()
    }

    /// Whether everything that was claimed is settled.
    fn is_idle(&self, depth: QueueDepth) -> bool {
        self.committing.is_none() && depth.is_clear()
    }

    fn end_recovery(&mut self, depth: QueueDepth) {
        if self.doubts == Some(0) && self.is_idle(depth) {
            self.doubts = None;
        }
    }

    /// Ends reading and claiming; what is in flight gets its grace, and the rest is given back.
    /// The first reason stays.
    fn stop(&mut self, ended: EndReason) {
        if self.is_stopping() {
            return;
        }
        info!(state = ended.state().name(), "the run ends; requests in flight are waited for");
        self.ended = Some(ended);
        self.source_ended = true;
        // Never claimed, so never counted: the next run reads them again.
        self.read.clear();
        self.doubts = self.doubts.and(Some(0));
        self.queue.release_unstarted();
        self.sender.advance_shutdown(ShutdownPhase::Draining);
        self.abandon_at = Some(Instant::now() + self.options.shutdown_grace);
    }

    /// Too many failures end the run where there is anything left that it would send; where its last rows are at
    /// work there is nothing to stop, and it comes to its end.
    fn check_failures(&mut self) {
        if self.is_stopping() || self.queue.depth().claims == 0 && self.read.is_empty() {
            return;
        }
        let limit = self.options.max_failures;
        if let Some(failures) = limit.and_then(|limit| limit.exceeded_by(self.sent)) {
            self.stop(EndReason::Stopped(StopReason::TooManyFailures(failures)));
        }
    }

    fn check_outage(&mut self) {
        let limit = self.options.outage_limit;
        if self.sender.throttle().failing_for().is_some_and(|trouble| trouble >= limit) {
            let why = self.sender.last_failure();
            self.stop(EndReason::Stopped(StopReason::Outage(limit, why)));
        }
    }

    fn end(mut self) -> RunResult {
        if let Some(ledger) = &mut self.ledger {
            self.timeline.end(self.tally, &self.sender);
            self.timeline.write_to(ledger);
        }
        RunResult {
            ended: self.ended.unwrap_or(EndReason::Completed),
            tally: self.tally,
            figures: self.sender.figures(),
            dropped: self.dropped,
            changed: self.changed,
            existing: self.existing,
            ledger: self.ledger,
        }
    }
}

/// Sends rows one after the other, for as long as there are any and nobody else needs the slot.
async fn send_rows(queue: Arc<WorkQueue>, sender: Arc<Sender>, mut claim: Claim, mut slot: Slot) {
    loop {
        let (sent, kept) = sender.send(claim, slot).await;
        // A row that waits to be tried again is in line for a slot, and whoever has one could keep it for ever.
        let kept = kept.filter(|_| !sender.throttle().is_slot_wanted());
        match (queue.complete_and_pop(sent, kept.is_some()), kept) {
            (Some(next), Some(kept)) => (claim, slot) = (next, kept),
            _ => return,
        }
    }
}
