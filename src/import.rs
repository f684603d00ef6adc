//! The loop: claim, send, settle, stop; the only owner of a run's state.
//!
//! One task owns everything between the reader and the ledger: rows read, claims waiting, rows in
//! flight, settlements waiting, why we are stopping. Nobody else writes to any of it, so it holds
//! no lock.
//!
//! It never waits for a commit. While one is under way answers go on arriving and form the next
//! batch, so there is one transaction at a time, its size fits the load without a timer, and no
//! request waits for the disk. Its `select!` only receives, because arms are cancelled.
//!
//! What a dead run left in doubt comes first: its rows are asked about, and only when each has an answer,
//! or is known to get none now, is a row of the source claimed.
//!
//! What may be in doubt after a crash is bounded: at most [`LOOK_AHEAD_MAX`] claims wait and at
//! most [`open_rows_max`] rows are open.
//!
//! Must not know of HTTP, SQL, CSV or the terminal.

use std::{collections::VecDeque, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracing::{info, warn};

use crate::{
    customer::{Dropped, Row},
    error::Error,
    ledger::{Batch, Claim, Committed, Figures, Ledger, Outcome, Settlement, State, Tally},
    sender::{Halt, Phase, Sender, Sent, Slot},
    source::{self, Chunk},
};

/// The most claims that wait for a slot. At 20,000 rows a second it is what two commits take.
pub const LOOK_AHEAD_MAX: usize = 1024;

/// The most rows that are open: in flight, or waiting to be tried again.
pub fn open_rows_max(concurrency: usize) -> usize {
    // A row that waits holds no slot, so a few bad rows must not keep the good ones from theirs.
    concurrency + 1024
}

/// A commit is begun for so many settled rows at once, or when the oldest has waited for
/// [`SETTLED_WAIT_MAX`], or when claims run low. Without this there is a commit for each handful of
/// rows that came in during the last one, and its fixed cost (an fsync, and each page that the rows
/// share written again) was two thirds of the ledger's time.
const SETTLED_BATCH: usize = 256;

/// How long a settled row may wait for others to share a commit with.
const SETTLED_WAIT_MAX: Duration = Duration::from_millis(20);

/// How often limits in time are looked at and the progress is shown while nothing else happens.
const TICK: Duration = Duration::from_millis(200);

/// Below so many settled rows a percentage of failures says nothing.
const PERCENT_FROM_ROWS: u64 = 100;

/// When a run ends itself because of its rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaxFailures {
    /// More than so many rows rejected or failed.
    Rows(u64),
    /// More than this share of the settled rows, once a hundred are settled.
    Percent(f64),
}

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
}

/// The user's wish to end, as the signal's number (2 or 15).
pub type Signal = u8;

/// Why a run ended itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// No row can succeed.
    Halt(Halt),
    /// No good answer for so long; what the last one or its absence was.
    Outage(Duration, String),
    /// More failures than allowed.
    TooManyFailures(u64),
}

/// How a run ended.
#[derive(Debug)]
pub enum Ended {
    /// The source is at its end and every claim is settled.
    Completed,
    /// The user ended it; what was in flight is settled.
    Interrupted(Signal),
    /// It ended itself; what was in flight is settled.
    Stopped(Stop),
    /// The source could not be read to its end; what was read is settled.
    SourceFailed(source::Error),
}

impl Ended {
    /// The state to record.
    pub fn state(&self) -> State {
        match self {
            Ended::Completed => State::Completed,
            Ended::Interrupted(_) => State::Interrupted,
            Ended::Stopped(_) | Ended::SourceFailed(_) => State::Stopped,
        }
    }
}

/// What a run came to.
pub struct End {
    /// How it ended.
    pub ended: Ended,
    /// Committed counts.
    pub tally: Tally,
    /// Requests.
    pub figures: Figures,
    /// What rows go without, committed too.
    pub dropped: Dropped,
    /// The ledger, to record the end in; gone where the user did not want to wait for it.
    pub ledger: Option<Ledger>,
}

/// What is shown while a run goes on; all counts are committed.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Rows by outcome.
    pub tally: Tally,
    /// Requests.
    pub figures: Figures,
    /// Bytes of the source whose rows are claimed.
    pub bytes: u64,
    /// Rows open.
    pub open: usize,
    /// Whether rows that an earlier run left in doubt are asked about, and no other yet.
    pub doubts: bool,
    /// Whether everyone waits for the target.
    pub outage: bool,
    /// Whether the run is ending.
    pub stopping: bool,
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
    read: VecDeque<Row>,
    /// Rows of the last chunk, and the bytes of the source before and after it.
    chunk: (usize, u64, u64),
    source_ended: bool,
    claims: VecDeque<Claim>,
    open: JoinSet<Sent>,
    settled: Vec<Settlement>,
    /// When the oldest of them is to be committed.
    commit_at: Option<Instant>,
    /// Rows settled by the last commit; what the look-ahead goes by.
    last_batch: usize,
    tally: Tally,
    dropped: Dropped,
    ended: Option<Ended>,
    abandon_at: Option<Instant>,
    signals_seen: u32,
}

enum Event {
    Signal(Signal),
    Sent(Box<Sent>),
    Chunk(Option<Result<Chunk, source::Error>>),
    Committed(Box<Ledger>, Result<Committed, crate::ledger::Error>),
    Slot(Slot),
    Due,
    Tick,
}

/// Runs until the source is at its end, the user ends it or it ends itself. `show` is called after
/// each commit and now and then.
///
/// # Errors
/// Where the ledger cannot be written, or a bug ended a row's task. What was recorded stands; rows
/// in flight are in doubt.
pub async fn run(
    ledger: Ledger,
    mut source: mpsc::Receiver<Result<Chunk, source::Error>>,
    sender: Arc<Sender>,
    options: Options,
    signals: &mut mpsc::Receiver<Signal>,
    show: &mut dyn FnMut(&Progress),
) -> Result<End, Error> {
    let mut run = Run {
        sender,
        options,
        doubts: Some(ledger.doubts()),
        ledger: Some(ledger),
        committing: None,
        read: VecDeque::new(),
        chunk: (1, 0, 0),
        source_ended: false,
        claims: VecDeque::new(),
        open: JoinSet::new(),
        settled: Vec::new(),
        commit_at: None,
        last_batch: 0,
        tally: Tally::default(),
        dropped: Dropped::default(),
        ended: None,
        abandon_at: None,
        signals_seen: 0,
    };
    if let Some(rows @ 1..) = run.doubts {
        info!(rows, "an earlier run left rows in doubt; they are asked about first");
    }
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        run.send_what_has_a_slot();
        run.end_doubts();
        run.begin_commit();
        if run.is_done() {
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
                show(&run.progress());
            }
            event => run.handle(event)?,
        }
    }
    show(&run.progress());
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
        let wants_rows = self.read.is_empty() && !self.source_ended;
        let wants_slot = !self.claims.is_empty() && self.open.len() < open_rows_max(self.options.concurrency);
        let commit = async {
            match &mut self.committing {
                Some(commit) => commit.await,
                None => std::future::pending().await,
            }
        };
        let abandon_at = self.abandon_at;
        let commit_at = self.commit_at.filter(|_| self.ledger.is_some());
        let event = tokio::select! {
            biased;
            Some(signal) = signals.recv() => Event::Signal(signal),
            (ledger, result) = commit => Event::Committed(Box::new(ledger), result),
            Some(sent) = self.open.join_next() => match sent {
                Ok(sent) => Event::Sent(Box::new(sent)),
                Err(error) => return Err(Error::Bug(format!("a row's task ended without a result ({error})"))),
            },
            chunk = source.recv(), if wants_rows => Event::Chunk(chunk),
            slot = self.sender.throttle().slot(), if wants_slot => Event::Slot(slot),
            () = sleep_until(abandon_at.unwrap_or_else(Instant::now)), if abandon_at.is_some() => {
                self.abandon_at = None;
                warn!("requests in flight have used up their grace; their rows are in doubt");
                self.sender.enter_phase(Phase::Abandoning);
                Event::Tick
            }
            () = sleep_until(commit_at.unwrap_or_else(Instant::now)), if commit_at.is_some() => Event::Due,
            _ = ticks.tick() => Event::Tick,
        };
        Ok(event)
    }

    fn handle(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Signal(signal) => {
                self.signals_seen += 1;
                self.stop(Ended::Interrupted(signal));
            }
            Event::Sent(sent) => {
                self.take(*sent);
                // Others may have ended meanwhile: one round of the loop for all of them.
                while let Some(Ok(sent)) = self.open.try_join_next() {
                    self.take(sent);
                }
            }
            Event::Chunk(Some(Ok(chunk))) => {
                self.chunk = (chunk.rows.len().max(1), self.chunk.2, chunk.bytes);
                self.read.extend(chunk.rows);
            }
            Event::Chunk(Some(Err(error))) => {
                self.source_ended = true;
                self.ended.get_or_insert(Ended::SourceFailed(error));
            }
            Event::Chunk(None) => self.source_ended = true,
            Event::Committed(ledger, result) => {
                self.committing = None;
                self.ledger = Some(*ledger);
                let committed = result?;
                self.tally = committed.tally;
                self.dropped.merge(&committed.dropped);
                self.claims.extend(committed.claims);
                if self.is_stopping() {
                    self.release_claims();
                }
                self.check_failures();
            }
            Event::Slot(slot) => self.send_next(slot),
            // The next turn of the loop begins the commit.
            Event::Due => {}
            Event::Tick => self.check_outage(),
        }
        Ok(())
    }

    fn send_what_has_a_slot(&mut self) {
        while !self.claims.is_empty() && self.open.len() < open_rows_max(self.options.concurrency) {
            match self.sender.throttle().try_slot() {
                Some(slot) => self.send_next(slot),
                None => return,
            }
        }
    }

    fn send_next(&mut self, slot: Slot) {
        if let Some(claim) = self.claims.pop_front() {
            let sender = Arc::clone(&self.sender);
            self.open.spawn(async move { sender.send(claim, slot).await });
        }
    }

    fn take(&mut self, sent: Sent) {
        self.settled.push(sent.settlement);
        self.commit_at.get_or_insert_with(|| Instant::now() + SETTLED_WAIT_MAX);
        if let Some(halt) = sent.halt {
            self.stop(Ended::Stopped(Stop::Halt(halt)));
        }
    }

    /// Begins a commit of what has come in during the last one, if there is anything.
    fn begin_commit(&mut self) {
        let wanted = (2 * self.options.concurrency + 4 * self.last_batch).min(LOOK_AHEAD_MAX);
        let more = wanted.saturating_sub(self.claims.len()).min(self.doubts.unwrap_or(self.read.len()));
        // A claim for each settlement would be a commit for each row: wait until it is worth one.
        let claims_due = more > 0 && self.claims.len() <= wanted / 2;
        let nothing_else_comes = self.open.is_empty() && self.claims.is_empty();
        let settled_due = !self.settled.is_empty()
            && (self.settled.len() >= SETTLED_BATCH
                || nothing_else_comes
                || self.commit_at.is_none_or(|at| at <= Instant::now()));
        if !settled_due && !claims_due {
            return;
        }
        let Some(mut ledger) = self.ledger.take() else {
            return;
        };
        let claimed = if claims_due { more } else { 0 };
        let (doubts, rows) = match &mut self.doubts {
            Some(left) => {
                *left -= claimed;
                (claimed, Vec::new())
            }
            None => (0, self.read.drain(..claimed).collect()),
        };
        let settled = std::mem::take(&mut self.settled);
        self.commit_at = None;
        self.last_batch = settled.len();
        let batch = Batch { doubts, rows, settled, figures: self.sender.figures() };
        self.committing = Some(Box::pin(async move {
            let result = ledger.commit(batch).await;
            (ledger, result)
        }));
    }

    fn is_stopping(&self) -> bool {
        matches!(self.ended, Some(Ended::Interrupted(_) | Ended::Stopped(_)))
    }

    fn is_done(&self) -> bool {
        self.is_idle() && self.doubts.is_none() && self.read.is_empty() && self.source_ended
    }

    /// Whether everything that was claimed is settled.
    fn is_idle(&self) -> bool {
        self.committing.is_none() && self.open.is_empty() && self.claims.is_empty() && self.settled.is_empty()
    }

    fn end_doubts(&mut self) {
        if self.doubts == Some(0) && self.is_idle() {
            self.doubts = None;
        }
    }

    /// Ends reading and claiming; what is in flight gets its grace, and the rest is given back.
    /// The first reason stays.
    fn stop(&mut self, ended: Ended) {
        if self.is_stopping() {
            return;
        }
        info!(state = ended.state().name(), "the run ends; requests in flight are waited for");
        self.ended = Some(ended);
        self.source_ended = true;
        // Never claimed, so never counted: the next run reads them again.
        self.read.clear();
        self.doubts = self.doubts.and(Some(0));
        self.release_claims();
        self.sender.enter_phase(Phase::Draining);
        self.abandon_at = Some(Instant::now() + self.options.shutdown_grace);
    }

    fn release_claims(&mut self) {
        self.settled.extend(self.claims.drain(..).map(Claim::release));
    }

    fn check_failures(&mut self) {
        let failures = self.tally.get(Outcome::Rejected) + self.tally.get(Outcome::Failed);
        let settled = self.tally.rows() - self.tally.get(Outcome::Pending);
        let too_many = match self.options.max_failures {
            None => false,
            Some(MaxFailures::Rows(most)) => failures > most,
            Some(MaxFailures::Percent(most)) => {
                settled >= PERCENT_FROM_ROWS && failures as f64 * 100.0 > most * settled as f64
            }
        };
        if too_many {
            self.stop(Ended::Stopped(Stop::TooManyFailures(failures)));
        }
    }

    fn check_outage(&mut self) {
        let limit = self.options.outage_limit;
        if self.sender.throttle().trouble_for().is_some_and(|trouble| trouble >= limit) {
            let why = self.sender.last_trouble();
            self.stop(Ended::Stopped(Stop::Outage(limit, why)));
        }
    }

    fn progress(&self) -> Progress {
        Progress {
            tally: self.tally,
            figures: self.sender.figures(),
            bytes: self.claimed_bytes(),
            open: self.open.len(),
            doubts: self.doubts.is_some(),
            outage: self.sender.throttle().in_outage(),
            stopping: self.is_stopping(),
        }
    }

    /// Of the last chunk only some rows may be claimed yet; their share of its bytes is near enough.
    fn claimed_bytes(&self) -> u64 {
        let (rows, before, after) = self.chunk;
        after - (after - before) * self.read.len().min(rows) as u64 / rows as u64
    }

    fn end(self) -> End {
        End {
            ended: self.ended.unwrap_or(Ended::Completed),
            tally: self.tally,
            figures: self.sender.figures(),
            dropped: self.dropped,
            ledger: self.ledger,
        }
    }
}
