//! Looks up rows by Get at the pace of a run: all rows that a caller offers, or a random sample of them.
//!
//! The loop is that of a run, with lookups in place of claims: same stages, limits and throttle. The caller chooses the
//! rows to offer and interprets the customers that are found; nothing is recorded here.

use std::{collections::VecDeque, future::pending, sync::Arc};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tracing::info;

use crate::{
    customer::Reference,
    error::Error,
    run::{
        Chunks, EndReason, Limits, OutageLog, Signal, SourceEnd, Stage, StageEvent, StopReason, Workload,
        drive, open_rows_max,
    },
    sender::{self, Halt, Lookup, Sender},
    source::Chunk,
    throttle::Slot,
};

/// Which of the offered rows to look up.
#[derive(Clone, Copy, Debug)]
pub enum Choice {
    /// Every one.
    All,
    /// This many, chosen at random.
    Sample {
        /// Maximum number of rows.
        rows: usize,
        /// The seed of the choice.
        seed: u64,
    },
}

/// A row that can be looked up.
pub(crate) trait ToLookUp: Send + 'static {
    /// The physical line.
    fn line(&self) -> u64;

    /// The reference to look up.
    fn reference(&self) -> &Reference;
}

/// What a command does with the rows of its source and with the customers that are found.
pub(crate) trait LookupCaller {
    /// A row to look up.
    type Row: ToLookUp;

    /// Takes a chunk of the source, and passes the rows to look up to `offer`. Cancelled by a signal, as
    /// [`Workload::on_chunk`].
    ///
    /// # Errors
    /// If the ledger cannot be read.
    async fn on_chunk(&mut self, chunk: Chunk, offer: &mut dyn FnMut(Self::Row)) -> Result<(), Error>;

    /// Takes the result of a lookup.
    fn on_result(&mut self, row: Self::Row, result: Lookup);

    /// Notes that the source was read to its end; may be called several times.
    fn on_source_read(&mut self) {}

    /// Shows the progress.
    fn show(&mut self);
}

/// Looks up the offered rows of a source, until the source ends, the user ends the command, or it stops by itself.
///
/// # Errors
/// If the caller cannot read the ledger, or a bug ended a lookup's task.
pub(crate) async fn look_up(
    caller: &mut impl LookupCaller,
    source: Chunks,
    sender: &Arc<Sender>,
    limits: Limits,
    choice: Choice,
    signals: &mut mpsc::Receiver<Signal>,
) -> Result<EndReason, Error> {
    let mut lookups = Lookups::new(caller, Arc::clone(sender), limits, choice);
    let end = drive(&mut lookups, Stage::first(0), source, signals, sender, limits).await?;
    lookups.caller.show();
    end.stage.end_reason()
}

/// The rows to look up, and those that are being looked up.
struct Lookups<'a, C: LookupCaller> {
    caller: &'a mut C,
    sender: Arc<Sender>,
    limits: Limits,
    rows: ChosenRows<C::Row>,
    in_flight: JoinSet<(C::Row, Lookup)>,
    /// A reason to stop that was found by a lookup and not yet returned to the loop.
    halt: Option<Halt>,
    outage: OutageLog,
}

/// The rows that wait for their lookup.
struct ChosenRows<R> {
    choice: Choice,
    random: StdRng,
    /// Number of rows offered so far.
    offered: u64,
    sample: Vec<R>,
    waiting: VecDeque<R>,
}

impl<R: ToLookUp> ChosenRows<R> {
    fn new(choice: Choice) -> ChosenRows<R> {
        let seed = match choice {
            Choice::All => 0,
            Choice::Sample { seed, .. } => seed,
        };
        ChosenRows {
            choice,
            random: StdRng::seed_from_u64(seed),
            offered: 0,
            sample: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Queues the row, or keeps a uniform sample of all rows so far (reservoir sampling).
    fn offer(&mut self, row: R) {
        self.offered += 1;
        let Choice::Sample { rows, .. } = self.choice else {
            return self.waiting.push_back(row);
        };
        if self.sample.len() < rows {
            return self.sample.push(row);
        }
        let at = (self.random.random::<f64>() * self.offered as f64) as usize;
        if let Some(replaced) = self.sample.get_mut(at) {
            *replaced = row;
        }
    }

    /// Queues the sample, which is known only at the end of the source.
    fn queue_sample(&mut self) {
        self.sample.sort_unstable_by_key(ToLookUp::line);
        self.waiting.extend(self.sample.drain(..));
    }

    fn clear(&mut self) {
        self.waiting.clear();
        self.sample.clear();
    }
}

impl<C: LookupCaller> Lookups<'_, C> {
    fn new(caller: &mut C, sender: Arc<Sender>, limits: Limits, choice: Choice) -> Lookups<'_, C> {
        Lookups {
            caller,
            sender,
            limits,
            rows: ChosenRows::new(choice),
            in_flight: JoinSet::new(),
            halt: None,
            outage: OutageLog::default(),
        }
    }
}

impl<C: LookupCaller> Workload for Lookups<'_, C> {
    type Finished = Box<(C::Row, Lookup)>;

    fn advance(&mut self, stage: &Stage) -> Option<StageEvent> {
        if matches!(stage, Stage::Finishing { source_end: SourceEnd::Reached }) {
            self.caller.on_source_read();
        }
        if let Some(halt) = self.halt.take() {
            return Some(StageEvent::Stop(StopReason::Halt(halt)));
        }
        if stage.reads_source() {
            return None;
        }
        self.rows.queue_sample();
        (self.rows.waiting.is_empty() && self.in_flight.is_empty()).then_some(StageEvent::Settled)
    }

    fn wants_rows(&self) -> bool {
        self.rows.waiting.is_empty()
    }

    fn wants_slot(&self) -> bool {
        !self.rows.waiting.is_empty() && self.in_flight.len() < open_rows_max(self.limits.concurrency)
    }

    async fn finished(&mut self, _: &Stage) -> Result<Self::Finished, Error> {
        match self.in_flight.join_next().await {
            Some(Ok(finished)) => Ok(Box::new(finished)),
            Some(Err(error)) => Err(Error::Bug(format!("a lookup's task ended without a result ({error})"))),
            None => pending().await,
        }
    }

    fn on_finished(&mut self, finished: Self::Finished, _: &Stage) -> Result<(), Error> {
        let (row, result) = *finished;
        if let Lookup::Halted(halt) = &result {
            self.halt = Some(halt.clone());
        }
        self.caller.on_result(row, result);
        Ok(())
    }

    async fn on_chunk(&mut self, chunk: Chunk) -> Result<(), Error> {
        let rows = &mut self.rows;
        self.caller.on_chunk(chunk, &mut |row| rows.offer(row)).await
    }

    fn on_slot(&mut self, slot: Slot) {
        if let Some(row) = self.rows.waiting.pop_front() {
            let sender = Arc::clone(&self.sender);
            self.in_flight.spawn(async move {
                let result = sender::lookup(&sender, row.reference(), slot).await;
                (row, result)
            });
        }
    }

    fn on_tick(&mut self, _: &Stage) {
        self.outage.observe(&self.sender, Instant::now());
        self.caller.show();
    }

    fn drain(&mut self, reason: &EndReason) {
        info!(state = reason.state().name(), "the lookups are ending; waiting for those in flight");
        self.rows.clear();
    }

    /// Abandoning a lookup does no harm.
    fn abandon(&mut self) {}
}
