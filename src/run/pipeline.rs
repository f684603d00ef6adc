//! Claim, send, settle: what `import` and `retry` do with their rows.
//!
//! Claims come from the ledger's commits and wait in the work queue. For each free slot, a send task pops and sends
//! them; the settlements wait in the queue for the next commit. One commit carries the settlements that came in
//! during the previous one and the claims of the next rows.
//!
//! Rows that a crashed run left in doubt come first: no row of the source is claimed before each of them is settled.
//!
//! A send task pops its next claim by itself: waking the loop for each row would cost a quarter of the row's time.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::{debug, info, warn};

use super::{
    DriveEnd, SourceEnd, Stage, StageEvent, Workload,
    adoption::Adoption,
    commit_policy::{CommitInput, CommitPolicy, SETTLED_WAIT_MAX},
    end::{EmptyRun, EndReason, Limits, MaxFailures, RunResult, SourceScope, StopReason, Totals},
    ledger_handle::{CommitResult, LedgerHandle},
    open_rows_max,
    progress::{Progress, RunSnapshot, SourceSize},
    read_ahead::ReadAhead,
    systematic_refusal::SystematicRefusalDetector,
    timeline::Timeline,
    work_queue::{QueueDepth, WakeThresholds, WorkQueue},
};
use crate::{
    error::Error,
    ledger::{Batch, Claim, Ledger, RunId, SentCounts, SourceRows},
    sender::Sender,
    source::{Chunk, SourceOptions},
    throttle::{Slot, UpcomingWrites},
};

/// The options of a run that sends rows.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The limits of the run.
    pub limits: Limits,
    /// The run stops if there are more failures than this.
    pub max_failures: Option<MaxFailures>,
    /// The size of the source.
    pub source_size: SourceSize,
    /// Whether the source contains every customer.
    pub scope: SourceScope,
    /// What to do with a run without rows.
    pub empty_run: EmptyRun,
    /// This many first replies that are all the same refusal stop the run.
    pub canary: Option<NonZeroU64>,
}

/// The state of a run that sends rows.
pub(super) struct Pipeline<'a> {
    sender: Arc<Sender>,
    options: Options,
    // Ends before the ledger is closed: a worker that leaves sends nothing more.
    send_tasks: JoinSet<()>,
    ledger: LedgerHandle,
    read: ReadAhead,
    queue: Arc<WorkQueue>,
    policy: CommitPolicy,
    refusals: SystematicRefusalDetector,
    /// A reason to stop that was found by a commit and not yet returned to the loop.
    stop: Option<StopReason>,
    /// When the requests in flight were abandoned.
    abandoned_at: Option<Instant>,
    adoption: Adoption,
    totals: Totals,
    sent: SentCounts,
    /// Those that the other workers of the run have sent.
    sent_by_others: SentCounts,
    /// Number of the next rows that other workers of the run are known to have claimed.
    claimed_ahead: usize,
    timeline: Timeline,
    progress: Progress,
    show: &'a mut dyn FnMut(&RunSnapshot),
    run: RunId,
}

/// How long a run that has abandoned its requests waits for a ledger that does not commit.
const RECORDING_MAX: Duration = Duration::from_secs(10);

/// A finished piece of work.
pub(super) enum Finished {
    Commit(Box<CommitResult>),
    /// Adopted rows were read again.
    ReadAgain,
    /// The queue reached a threshold, or its oldest settlement has waited long enough.
    Wake,
}

impl<'a> Pipeline<'a> {
    pub(super) fn new(
        ledger: Ledger,
        source: Option<SourceOptions>,
        sender: Arc<Sender>,
        options: Options,
        show: &'a mut dyn FnMut(&RunSnapshot),
    ) -> Pipeline<'a> {
        let (tally, dropped, changed) = ledger.initial_counts();
        sender.throttle().hold_from(ledger.may_send_until());
        Pipeline {
            sender,
            options,
            read: ReadAhead::default(),
            queue: Arc::new(WorkQueue::new()),
            send_tasks: JoinSet::new(),
            policy: CommitPolicy::new(options.limits.concurrency),
            refusals: SystematicRefusalDetector::new(options.canary),
            stop: None,
            abandoned_at: None,
            adoption: Adoption::new(&ledger, source),
            totals: Totals { tally, own_tally: tally, dropped, changed, ..Totals::default() },
            sent: SentCounts::default(),
            sent_by_others: SentCounts::default(),
            claimed_ahead: 0,
            timeline: Timeline::new(),
            progress: Progress::new(options.source_size, ledger.rows_in_doubt(), Instant::now()),
            run: ledger.run(),
            ledger: LedgerHandle::new(ledger),
            show,
        }
    }

    /// Starts a send task for each free slot.
    fn fill_slots(&mut self) {
        while self.wants_slot() {
            match self.sender.throttle().try_slot() {
                Some(slot) => self.start_send_task(slot),
                None => return,
            }
        }
    }

    fn start_send_task(&mut self, slot: Slot) {
        if let Some(claim) = self.queue.pop() {
            self.send_tasks.spawn(send_rows(Arc::clone(&self.queue), Arc::clone(&self.sender), claim, slot));
        }
    }

    /// Number of rows that may be claimed now: those in doubt, or those that were read ahead.
    fn unclaimed(&self, stage: &Stage) -> usize {
        match stage {
            Stage::Recovering { unclaimed, .. } => *unclaimed,
            _ => self.read.len(),
        }
    }

    /// Begins a commit of everything that arrived during the previous one, if that is worth a commit.
    fn begin_commit(&mut self, stage: &Stage, depth: QueueDepth) -> Option<StageEvent> {
        let now = Instant::now();
        let heartbeat_is_due = self.progress.is_heartbeat_due(now);
        let input = CommitInput {
            depth,
            unclaimed: self.unclaimed(stage),
            no_rows_left: self.read.is_empty() && !stage.reads_source(),
            report_is_due: heartbeat_is_due || self.timeline.is_overdue() || self.shared_run_is_due(stage),
            now,
        };
        let plan = self.policy.plan(&input)?;
        let mut ledger = self.ledger.take()?;
        self.timeline.write_to(&mut ledger);
        let (in_doubt, source) = match stage {
            Stage::Recovering { .. } => (plan.claim, SourceRows::default()),
            // The rows of other workers come in addition; otherwise, the commit might claim none.
            _ => (0, self.read.take(plan.claim.saturating_add(self.claimed_ahead))),
        };
        let (settled, stop) = self.refusals.filter(self.queue.take_settled());
        self.stop = stop;
        self.policy.on_begin(source.rows.len().max(in_doubt), settled.len());
        for settlement in &settled {
            self.progress.count(settlement);
            self.sent.add(settlement.result().outcome());
        }
        let heartbeat = heartbeat_is_due.then(|| {
            self.progress.on_heartbeat(now);
            self.snapshot(stage).heartbeat
        });
        let batch = Batch {
            in_doubt,
            source,
            settled,
            requests: self.sender.request_counts(),
            flush: plan.flush,
            heartbeat,
            source_ended: self.has_read_all(stage),
            is_leaving: stage.is_stopping(),
            reread: if stage.is_stopping() { None } else { self.adoption.take_read() },
        };
        if batch.source_ended {
            self.adoption.on_end_recorded();
        }
        self.ledger.begin(ledger, batch);
        if in_doubt > 0 {
            return Some(StageEvent::Claimed(in_doubt));
        }
        self.take_stop()
    }

    /// Whether every row of the source was taken for a commit.
    fn has_read_all(&self, stage: &Stage) -> bool {
        matches!(stage, Stage::Finishing { source_end: SourceEnd::Reached }) && self.read.is_empty()
    }

    /// Whether the other workers of the run wait for a commit of this one.
    fn shared_run_is_due(&self, stage: &Stage) -> bool {
        let end_is_due = self.has_read_all(stage) && self.adoption.is_end_due();
        !stage.is_stopping() && (end_is_due || self.adoption.has_read())
    }

    fn take_stop(&mut self) -> Option<StageEvent> {
        self.stop.take().map(StageEvent::Stop)
    }

    /// Whether every claimed row is settled. That ends recovery; the run ends only if also every read row is claimed
    /// and every count is committed.
    fn is_settled(&self, stage: &Stage, depth: QueueDepth) -> bool {
        if !self.ledger.is_idle() || !depth.is_clear() {
            return false;
        }
        match stage {
            Stage::Recovering { unclaimed, .. } => *unclaimed == 0,
            Stage::Reading => false,
            Stage::Finishing { .. } | Stage::Stopping { .. } | Stage::Abandoning { .. } => {
                self.read.is_empty()
                    && !self.policy.has_uncommitted()
                    && !self.refusals.is_holding()
                    && (!self.has_read_all(stage) || self.adoption.is_over())
            }
        }
    }

    /// Handles that all rows are claimed: the open rows are the last, and once they are settled, no further reply can
    /// decide about the refusals that are held back.
    fn on_last_rows(&mut self, stage: &Stage, depth: QueueDepth) {
        if stage.reads_source() || stage.is_recovering() || !self.read.is_empty() || !self.ledger.is_idle() {
            return;
        }
        self.sender.set_upcoming_writes(if depth.claims == 0 {
            UpcomingWrites::None
        } else {
            UpcomingWrites::Few
        });
        if depth.is_clear() && self.refusals.is_holding() {
            self.queue.push_settled(self.refusals.close(!stage.is_stopping()));
        }
    }

    /// The reason to stop if there are too many failures and the run would send further rows. If only the last rows
    /// are in flight, there is nothing to stop.
    fn too_many_failures(&self, stage: &Stage) -> Option<StopReason> {
        if stage.is_stopping() || self.queue.depth().claims == 0 && self.read.is_empty() {
            return None;
        }
        let failures = self.options.max_failures?.exceeded_by(self.sent.plus(self.sent_by_others))?;
        Some(StopReason::TooManyFailures(failures))
    }

    /// Handles the result of a commit.
    fn on_committed(&mut self, (ledger, result): CommitResult, stage: &Stage) -> Result<(), Error> {
        self.sender.throttle().hold_from(ledger.may_send_until());
        self.totals.shared_requests = ledger.shared_requests();
        self.totals.other_workers = ledger.other_workers();
        self.ledger.end(ledger);
        let committed = result?;
        self.adoption.on_committed(&committed);
        self.sent_by_others = committed.sent_by_others;
        if let Some(refused) = committed.refused.as_ref().filter(|_| !stage.is_stopping()) {
            let (text, hint) = (refused.to_string(), refused.hint());
            self.stop.get_or_insert(StopReason::OtherSource { text, hint });
        }
        if let Some(reason) = committed.stopping.clone().filter(|_| !stage.is_stopping()) {
            self.stop.get_or_insert(StopReason::OtherWorker(reason));
        }
        self.policy.on_skipped(committed.skipped);
        self.claimed_ahead = committed.claimed_ahead;
        self.policy.on_committed(committed.claims.len(), committed.deferred);
        self.totals.add(&committed);
        for (line, fields) in committed.changed {
            debug!(run = self.run.0, line, %fields, "the row differs from what was imported");
        }
        self.queue.push(committed.claims);
        if stage.is_stopping() {
            self.queue.release_unstarted();
        }
        Ok(())
    }

    fn snapshot(&self, stage: &Stage) -> RunSnapshot {
        self.progress.snapshot(stage, &self.totals, &self.read, &self.sender)
    }

    /// Updates samples, rate and display.
    fn refresh(&mut self, stage: &Stage) {
        self.timeline.sample(self.totals.own_tally, &self.sender);
        self.progress.record(&self.totals.tally, &self.sender, Instant::now());
        let snapshot = self.snapshot(stage);
        (self.show)(&snapshot);
    }

    /// The result, after the last samples were passed to the ledger.
    ///
    /// # Errors
    /// If the run left the loop at a stage that is not an end, which is a bug.
    pub(super) fn end(mut self, end: DriveEnd) -> Result<RunResult, Error> {
        let snapshot = self.snapshot(&end.stage);
        (self.show)(&snapshot);
        self.send_tasks.abort_all();
        let mut ledger = self.ledger.into_idle().filter(|_| !end.has_quit);
        self.timeline.end(self.totals.own_tally, &self.sender);
        if let Some(ledger) = &mut ledger {
            self.timeline.write_to(ledger);
        }
        let reason = end.stage.end_reason()?;
        Ok(RunResult {
            reason,
            totals: self.totals,
            request_counts: self.sender.request_counts(),
            shared_requests: ledger.as_ref().and_then(Ledger::shared_requests),
            worker: ledger.as_ref().and_then(Ledger::worker_share),
            other_workers: ledger.as_ref().map_or(0, Ledger::other_workers),
            pauses: self.sender.throttle().pauses(),
            sustained_rate: self.timeline.sustained_rate(),
            ledger,
            scope: self.options.scope,
            empty_run: self.options.empty_run,
        })
    }
}

impl Workload for Pipeline<'_> {
    type Finished = Finished;

    fn advance(&mut self, stage: &Stage) -> Option<StageEvent> {
        if let Some(stop) = self.take_stop() {
            return Some(stop);
        }
        let waited = self.abandoned_at.map(|at| at.elapsed()).unwrap_or_default();
        if waited >= RECORDING_MAX && !self.ledger.is_idle() {
            return Some(StageEvent::LedgerUnreachable);
        }
        if let Some(halt) = self.queue.take_halt() {
            return Some(StageEvent::Stop(StopReason::Halt(halt)));
        }
        if let Some(reason) = self.too_many_failures(stage) {
            return Some(StageEvent::Stop(reason));
        }
        self.fill_slots();
        let depth = self.queue.depth();
        if self.is_settled(stage, depth) {
            return Some(StageEvent::Settled);
        }
        self.on_last_rows(stage, depth);
        self.begin_commit(stage, depth)
    }

    fn wants_rows(&self) -> bool {
        self.read.wants_more(self.policy.read_ahead())
    }

    fn wants_slot(&self) -> bool {
        let depth = self.queue.depth();
        depth.claims > 0 && depth.open < open_rows_max(self.options.limits.concurrency)
    }

    async fn finished(&mut self, stage: &Stage) -> Result<Finished, Error> {
        let is_idle = self.ledger.is_idle();
        // The end of a commit wakes the loop in any case.
        let thresholds = match is_idle {
            true => self.policy.thresholds(self.unclaimed(stage) > 0),
            false => WakeThresholds::NONE,
        };
        let oldest = self.queue.depth().oldest_settled_at.filter(|_| is_idle);
        let commit_at = oldest.map(|oldest| oldest + SETTLED_WAIT_MAX);
        Ok(tokio::select! {
            biased;
            commit = self.ledger.committed() => Finished::Commit(Box::new(commit)),
            () = self.adoption.finished() => Finished::ReadAgain,
            Some(ended) = self.send_tasks.join_next() => match ended {
                Ok(()) => Finished::Wake,
                Err(error) => return Err(Error::Bug(format!("a row's task ended without a result ({error})"))),
            },
            () = self.queue.wait(thresholds) => Finished::Wake,
            () = sleep_until(commit_at.unwrap_or_else(Instant::now)), if commit_at.is_some() => Finished::Wake,
        })
    }

    fn on_finished(&mut self, finished: Finished, stage: &Stage) -> Result<(), Error> {
        match finished {
            Finished::Commit(result) => {
                self.on_committed(*result, stage)?;
                self.refresh(stage);
            }
            Finished::Wake | Finished::ReadAgain => {}
        }
        Ok(())
    }

    async fn on_chunk(&mut self, chunk: Chunk) -> Result<(), Error> {
        self.read.push(chunk);
        Ok(())
    }

    fn on_slot(&mut self, slot: Slot) {
        self.start_send_task(slot);
    }

    fn on_tick(&mut self, stage: &Stage) {
        self.policy.on_tick();
        self.refresh(stage);
    }

    fn drain(&mut self, reason: &EndReason) {
        info!(state = reason.state().name(), "the run is ending; waiting for the requests in flight");
        // Rows that were never claimed are not counted: the next run reads them again.
        self.read.clear();
        self.queue.release_unstarted();
    }

    fn abandon(&mut self) {
        self.abandoned_at = Some(Instant::now());
        warn!("requests in flight have used up their grace; their rows are in doubt");
    }
}

/// A send task: sends one claimed row after another while there are any and no retry waits for the slot.
async fn send_rows(queue: Arc<WorkQueue>, sender: Arc<Sender>, mut claim: Claim, mut slot: Slot) {
    loop {
        let (sent, kept) = sender.send(claim, slot).await;
        // A row that is to be retried waits for a slot; without this, a send task could keep its slot forever.
        let kept = kept.filter(|_| !sender.throttle().is_slot_wanted());
        match kept {
            None => return queue.complete(sent),
            Some(kept) => match queue.complete_and_pop(sent) {
                None => return,
                Some(next) => {
                    claim = next;
                    slot = kept;
                }
            },
        }
    }
}
