//! Looks up rows by Get at the pace of a run: all rows offered, or a random sample of them.
//!
//! The caller interprets the customers found. The calls of the loop come from a [`Workload`](crate::run::Workload).

use std::{collections::VecDeque, future::pending, sync::Arc};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{task::JoinSet, time::Instant};
use tracing::info;

use crate::{
    customer::Reference,
    error::Error,
    run::{EndReason, Limits, OutageLog, Stage, StageEvent, StopReason, open_rows_max},
    sender::{self, Halt, Lookup, Sender},
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

/// The rows to look up, and those that are being looked up.
pub(crate) struct Lookups<R> {
    sender: Arc<Sender>,
    limits: Limits,
    choice: Choice,
    random: StdRng,
    /// Number of rows offered so far.
    offered: u64,
    sample: Vec<R>,
    waiting: VecDeque<R>,
    in_flight: JoinSet<(R, Lookup)>,
    /// A reason to stop that was found by a lookup and not yet returned to the loop.
    halt: Option<Halt>,
    outage: OutageLog,
}

impl<R: ToLookUp> Lookups<R> {
    pub(crate) fn new(sender: Arc<Sender>, limits: Limits, choice: Choice) -> Lookups<R> {
        let seed = match choice {
            Choice::All => 0,
            Choice::Sample { seed, .. } => seed,
        };
        Lookups {
            sender,
            limits,
            choice,
            random: StdRng::seed_from_u64(seed),
            offered: 0,
            sample: Vec::new(),
            waiting: VecDeque::new(),
            in_flight: JoinSet::new(),
            halt: None,
            outage: OutageLog::default(),
        }
    }

    /// Queues the row, or keeps a uniform sample of all rows so far (reservoir sampling).
    pub(crate) fn offer(&mut self, row: R) {
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

    pub(crate) fn advance(&mut self, stage: &Stage) -> Option<StageEvent> {
        if let Some(halt) = self.halt.take() {
            return Some(StageEvent::Stop(StopReason::Halt(halt)));
        }
        if stage.reads_source() {
            return None;
        }
        // The sample is known only at the end of the source.
        self.sample.sort_unstable_by_key(ToLookUp::line);
        self.waiting.extend(self.sample.drain(..));
        (self.waiting.is_empty() && self.in_flight.is_empty()).then_some(StageEvent::Settled)
    }

    pub(crate) fn wants_rows(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn wants_slot(&self) -> bool {
        !self.waiting.is_empty() && self.in_flight.len() < open_rows_max(self.limits.concurrency)
    }

    /// Waits for the next lookup to end. Cancel-safe.
    ///
    /// # Errors
    /// If a lookup's task has ended without a result, which is a bug.
    pub(crate) async fn finished(&mut self) -> Result<Box<(R, Lookup)>, Error> {
        match self.in_flight.join_next().await {
            Some(Ok(answered)) => Ok(Box::new(answered)),
            Some(Err(error)) => Err(Error::Bug(format!("a lookup's task ended without a result ({error})"))),
            None => pending().await,
        }
    }

    /// Handles a result that ends the loop.
    pub(crate) fn on_finished(&mut self, result: &Lookup) {
        if let Lookup::Halted(halt) = result {
            self.halt = Some(halt.clone());
        }
    }

    pub(crate) fn on_slot(&mut self, slot: Slot) {
        if let Some(row) = self.waiting.pop_front() {
            let sender = Arc::clone(&self.sender);
            self.in_flight.spawn(async move {
                let result = sender::lookup(&sender, row.reference(), slot).await;
                (row, result)
            });
        }
    }

    pub(crate) fn on_tick(&mut self) {
        self.outage.observe(&self.sender, Instant::now());
    }

    /// Starts no further lookup, because the loop is ending. Abandoning a lookup does no harm.
    pub(crate) fn drain(&mut self, reason: &EndReason) {
        info!(state = reason.state().name(), "the lookups are ending; waiting for those in flight");
        self.waiting.clear();
        self.sample.clear();
    }
}
