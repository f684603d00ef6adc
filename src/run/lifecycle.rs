//! The life of a run: begin, resume, send, and return the result.
//!
//! `import` and `retry` differ only in their [`RowSource`] and their [`Options`]. The exit code and the final message
//! belong to the command line, so a run ends in two steps: [`ActiveRun::execute`] returns the result, and
//! [`RunResult::record`] receives the exit code and writes the end to the ledger.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::info;

use super::{
    drive,
    end::{RunResult, Signal},
    pipeline::{Options, Pipeline},
    progress::RunSnapshot,
    stage::Stage,
};
use crate::{
    error::Error,
    ledger::{
        Begun, Ledger, Location, NewRate, NewRun, RateReserver, ReservedMoments, RunId, StoredRate, Target,
    },
    sender::Sender,
    source::{ReplaySource, Source, SourceOptions},
    throttle::{Rate, RateRequest, Reserved, Timeline},
};

/// One request for moments is under way at a time; the others are reports.
const RATE_REQUESTS_MAX: usize = 8;

/// When a report is repeated that could not be stored.
const REPORT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The rows of a run.
pub enum RowSource {
    /// A file, and how it is opened again; a run resumes at the checkpoint of the previous run over it.
    File(Box<Source>, Box<SourceOptions>),
    /// Failed and rejected rows of the ledger.
    Ledger(ReplaySource),
}

/// A run that has begun in the ledger and has not ended.
pub struct ActiveRun {
    ledger: Ledger,
    has_joined: bool,
}

/// How a process begins to work on a run.
pub enum BegunRun {
    /// It sends rows of the run.
    Active(Box<ActiveRun>),
    /// The run of its name is completed, with this exit code.
    Completed(RunId, u8),
}

impl ActiveRun {
    /// Locks the ledger, records the run, and takes over the rows that crashed runs left in doubt; or joins the workers
    /// of the run that goes on.
    ///
    /// # Errors
    /// If the ledger cannot be opened, belongs to another target or is in use.
    pub async fn begin(
        ledger: &Location,
        target: &Target,
        run: &NewRun<'_>,
        clock: fn() -> i64,
    ) -> Result<BegunRun, Error> {
        let active = |ledger: Box<Ledger>, has_joined| {
            BegunRun::Active(Box::new(ActiveRun { ledger: *ledger, has_joined }))
        };
        Ok(match Ledger::begin_run(ledger, target, run, clock).await? {
            Begun::New(ledger) => active(ledger, false),
            Begun::Joined(ledger) => active(ledger, true),
            Begun::Completed(run, exit_code) => BegunRun::Completed(run, exit_code),
        })
    }

    /// Whether other workers of the run had begun it.
    pub fn has_joined(&self) -> bool {
        self.has_joined
    }

    /// The number of the run.
    pub fn id(&self) -> RunId {
        self.ledger.run()
    }

    /// Sends the rows of a source until the source ends, the user ends the run, or the run stops by itself. `show` is
    /// called after each commit and at each tick.
    ///
    /// # Errors
    /// If the source or the ledger cannot continue, or a bug ended a send task. Everything recorded stays valid; rows in
    /// flight are in doubt.
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
        let mut again = None;
        let chunks = match source {
            RowSource::File(mut source, options) => {
                again = Some(*options);
                resume(&mut self.ledger, &mut source).await?;
                source.stream()?
            }
            RowSource::Ledger(source) => {
                let (reader, chunks) = source.stream();
                readers.spawn(reader);
                chunks
            }
        };
        if let Some(reserver) = self.ledger.rate_reserver() {
            let (wanted, requests) = mpsc::channel(RATE_REQUESTS_MAX);
            let rate = sender.throttle().share_rate(wanted).await;
            readers.spawn(share_rate(reserver, rate, requests, Arc::clone(sender)));
        }
        let in_doubt = self.ledger.rows_in_doubt();
        if in_doubt > 0 {
            info!(rows = in_doubt, "an earlier run left rows in doubt; they are looked up first");
        }
        let mut pipeline = Pipeline::new(self.ledger, again, Arc::clone(sender), options, show);
        let stage = Stage::first(in_doubt);
        let end = drive(&mut pipeline, stage, chunks, signals, sender, options.limits).await?;
        pipeline.end(end)
    }
}

/// Reserves moments for the requests of this worker, and reports what happens to these requests, as long as the worker
/// is alive.
async fn share_rate(
    mut reserver: RateReserver,
    rate: Option<Rate>,
    mut requests: mpsc::Receiver<RateRequest>,
    sender: Arc<Sender>,
) {
    let (interval, burst) = rate.map_or((Duration::ZERO, 1), |rate| (rate.interval(), rate.burst.get()));
    // Nothing is sent before the first rate is stored.
    let mut report_after = report(&mut reserver, &sender).await;
    let mut report_at = Instant::now() + report_after;
    loop {
        let request = tokio::select! {
            request = requests.recv() => request,
            () = sleep_until(report_at) => Some(RateRequest::Report),
        };
        match request {
            None => return,
            Some(RateRequest::Moments(count, reply)) => {
                let reserved = reserver.reserve(count, interval, burst).await;
                let Some(ReservedMoments { moments, interval, workers }) = reserved else { return };
                // The request that waited may have been given up.
                let _ = reply.send(Reserved { moments, interval, workers });
            }
            Some(RateRequest::Report) => {
                if sender.throttle().has_report() {
                    report_after = report(&mut reserver, &sender).await;
                }
                report_at = Instant::now() + report_after;
            }
        }
    }
}

/// Replays what has happened to the requests of this worker on the rate that the workers have found. Returns when to
/// report again.
async fn report(reserver: &mut RateReserver, sender: &Sender) -> Duration {
    let throttle = sender.throttle();
    let mut last = None;
    let replayed = |stored: &StoredRate| {
        let timeline = Timeline { moment: stored.moment, seconds: stored.seconds };
        let replay = throttle.replay(stored.state.as_deref(), timeline, stored.reserved_until);
        let (state, interval) = (replay.state(), replay.interval());
        let new = NewRate { state, interval, paused_until: replay.paused_until() };
        last = Some(replay);
        new
    };
    let is_stored = reserver.store(replayed).await;
    match last.filter(|_| is_stored) {
        Some(replay) => {
            let report_after = replay.report_after();
            throttle.accept(replay);
            report_after
        }
        None => REPORT_AGAIN_AFTER,
    }
}

/// Skips the rows before the checkpoint of the previous run, if it used the same file and parse settings.
async fn resume(ledger: &mut Ledger, source: &mut Source) -> Result<(), Error> {
    let Some((place, rows)) = ledger.resume_point(source.size()) else { return Ok(()) };
    if source.skip_to(place, rows)? {
        info!(rows, line = place.line, "resuming after an unchanged prefix");
        ledger.resume().await?;
    }
    Ok(())
}
