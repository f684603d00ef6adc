//! The life of a run: begin, resume, send, and return the result.
//!
//! `import` and `retry` differ only in their [`RowSource`] and their [`Options`]. The exit code and the final message
//! belong to the command line, so a run ends in two steps: [`ActiveRun::execute`] returns the result, and
//! [`RunResult::record`] receives the exit code and writes the end to the ledger.

use std::sync::Arc;

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tracing::info;

use super::{
    drive,
    end::{RunResult, Signal},
    pipeline::{Options, Pipeline},
    progress::RunSnapshot,
    shared_rate::share_rate,
    stage::Stage,
};
use crate::{
    error::Error,
    ledger::{Begun, Ledger, Location, NewRun, RunId, Target},
    sender::Sender,
    source::{ReplaySource, Source, SourceOptions},
};

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
    /// of the run in progress.
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
        let (failed, failure) = oneshot::channel();
        if let Some(reserver) = self.ledger.rate_reserver() {
            let rate = share_rate(reserver, sender).await;
            readers.spawn(async move {
                if let Err(error) = rate.await {
                    drop(failed.send(error));
                }
            });
        }
        let in_doubt = self.ledger.rows_in_doubt();
        if in_doubt > 0 {
            info!(rows = in_doubt, "an earlier run left rows in doubt; they are looked up first");
        }
        let mut pipeline = Pipeline::new(self.ledger, again, Arc::clone(sender), options, show);
        let stage = Stage::first(in_doubt);
        let end = tokio::select! {
            biased;
            end = drive(&mut pipeline, stage, chunks, signals, sender, options.limits) => end?,
            // Nothing can be sent any more.
            Ok(error) = failure => return Err(error.into()),
        };
        pipeline.end(end)
    }
}

/// Skips the rows before the checkpoint of the previous run, if it used the same file and parse settings.
async fn resume(ledger: &mut Ledger, source: &mut Source) -> Result<(), Error> {
    let Some((position, rows)) = ledger.resume_point(source.size()) else { return Ok(()) };
    if source.skip_to(position, rows)? {
        info!(rows, line = position.line, "resuming after an unchanged prefix");
        ledger.resume().await?;
    }
    Ok(())
}
