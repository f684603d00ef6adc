//! The bounded queue between the loop and the send tasks: claims out, settlements in.
//!
//! A finished row does not wake the loop: at 25,000 rows a second, two wake-ups and a task for each row cost a
//! quarter of the row's time. So a send task pops its next claim by itself, and the queue wakes the loop only at a
//! threshold: enough settlements for a commit, few claims left, no row in flight, or a reason to stop.
//!
//! Makes no other decision. The lock is held for a push or a pop, and never across an await.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    ledger::{Claim, Settlement},
    sender::{Halt, SendResult},
};

/// The number of rows in the queue, and the age of the oldest settlement.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueDepth {
    /// Claims waiting for a send task.
    pub(super) claims: usize,
    /// Rows that send tasks are sending.
    pub(super) open: usize,
    /// Settlements waiting for a commit.
    pub(super) settled: usize,
    /// When the oldest of these settlements arrived.
    pub(super) oldest_settled_at: Option<Instant>,
    /// Size of all these rows in bytes.
    pub(super) bytes: usize,
}

impl QueueDepth {
    /// Whether every claim is settled and every settlement taken.
    pub(super) fn is_clear(&self) -> bool {
        self.claims == 0 && self.open == 0 && self.settled == 0
    }
}

/// The depths at which the queue wakes the loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct WakeThresholds {
    /// Wake the loop at this many settlements.
    pub(super) settled: usize,
    /// Wake the loop below this many claims.
    pub(super) claims: usize,
}

impl WakeThresholds {
    /// While a commit is in progress: neither claims nor settlements wake the loop.
    pub(super) const NONE: WakeThresholds = WakeThresholds { settled: usize::MAX, claims: 0 };
}

/// The work queue of a run.
pub(super) struct WorkQueue {
    state: Mutex<QueueState>,
    wake: Notify,
}

struct QueueState {
    claims: VecDeque<Claim>,
    open: usize,
    settled: Vec<Settlement>,
    oldest_settled_at: Option<Instant>,
    bytes: usize,
    halting: Halting,
    thresholds: WakeThresholds,
}

/// Whether a row has halted the run. Once one has, no other row is started, even before the loop reacts.
enum Halting {
    No,
    /// The loop has not taken the reason yet.
    Found(Halt),
    Taken,
}

impl WorkQueue {
    /// An empty queue.
    pub(super) fn new() -> WorkQueue {
        let state = QueueState {
            claims: VecDeque::new(),
            open: 0,
            settled: Vec::new(),
            oldest_settled_at: None,
            bytes: 0,
            halting: Halting::No,
            thresholds: WakeThresholds::NONE,
        };
        WorkQueue { state: Mutex::new(state), wake: Notify::new() }
    }

    /// Adds claims, in the order in which send tasks pop them.
    pub(super) fn push(&self, claims: Vec<Claim>) {
        let mut state = self.state();
        state.bytes += claims.iter().map(Claim::bytes).sum::<usize>();
        state.claims.extend(claims);
    }

    /// The next claim, for a new send task.
    pub(super) fn pop(&self) -> Option<Claim> {
        self.state().pop()
    }

    /// Adds the result of a row, from a send task that releases its slot.
    pub(super) fn complete(&self, sent: SendResult) {
        self.complete_with(sent, |_| ());
    }

    /// Adds the result of a row and returns the send task's next claim, if there is one.
    pub(super) fn complete_and_pop(&self, sent: SendResult) -> Option<Claim> {
        self.complete_with(sent, QueueState::pop)
    }

    fn complete_with<T>(&self, sent: SendResult, then: impl FnOnce(&mut QueueState) -> T) -> T {
        let mut state = self.state();
        state.open -= 1;
        state.settled.push(sent.settlement);
        state.oldest_settled_at.get_or_insert_with(Instant::now);
        let has_halted = sent.halt.is_some();
        if let Some(halt) = sent.halt.filter(|_| state.may_start_rows()) {
            state.halting = Halting::Found(halt);
        }
        let result = then(&mut state);
        if has_halted || state.has_reached_threshold() {
            self.wake.notify_one();
        }
        result
    }

    /// Releases the claims that no send task has popped: they become settlements that leave their rows unchanged.
    pub(super) fn release_unstarted(&self) {
        let mut state = self.state();
        let claims = std::mem::take(&mut state.claims);
        if !claims.is_empty() {
            state.oldest_settled_at.get_or_insert_with(Instant::now);
        }
        state.settled.extend(claims.into_iter().map(Claim::release));
    }

    /// Takes all settlements, to commit them.
    pub(super) fn take_settled(&self) -> Vec<Settlement> {
        let mut state = self.state();
        state.oldest_settled_at = None;
        // As many will come in until the next commit.
        let room = state.settled.len();
        let settled = std::mem::replace(&mut state.settled, Vec::with_capacity(room));
        state.bytes -= settled.iter().map(Settlement::bytes).sum::<usize>();
        settled
    }

    /// Adds settlements that were held back.
    pub(super) fn push_settled(&self, settled: Vec<Settlement>) {
        let mut state = self.state();
        state.oldest_settled_at.get_or_insert_with(Instant::now);
        state.bytes += settled.iter().map(Settlement::bytes).sum::<usize>();
        state.settled.extend(settled);
    }

    /// Takes the first reason for which a row has halted the run, if one has.
    pub(super) fn take_halt(&self) -> Option<Halt> {
        let mut state = self.state();
        if state.may_start_rows() {
            return None;
        }
        match std::mem::replace(&mut state.halting, Halting::Taken) {
            Halting::Found(halt) => Some(halt),
            Halting::No | Halting::Taken => None,
        }
    }

    /// The current depth of the queue.
    pub(super) fn depth(&self) -> QueueDepth {
        let state = self.state();
        QueueDepth {
            claims: state.claims.len(),
            open: state.open,
            settled: state.settled.len(),
            oldest_settled_at: state.oldest_settled_at,
            bytes: state.bytes,
        }
    }

    /// Waits until the queue has reached a threshold. Cancel-safe.
    pub(super) async fn wait(&self, thresholds: WakeThresholds) {
        self.state().thresholds = thresholds;
        self.wake.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueState {
    fn pop(&mut self) -> Option<Claim> {
        if !self.may_start_rows() {
            return None;
        }
        let claim = self.claims.pop_front();
        self.open += usize::from(claim.is_some());
        claim
    }

    fn may_start_rows(&self) -> bool {
        matches!(self.halting, Halting::No)
    }

    /// Whether the loop has something to do after a finished row. The first settlement counts while no commit is in
    /// progress, because it determines when the next commit is due.
    fn has_reached_threshold(&self) -> bool {
        let WakeThresholds { settled, claims } = self.thresholds;
        let may_commit = settled < usize::MAX;
        (may_commit && (self.settled.len() == 1 || self.settled.len() >= settled))
            || self.claims.len() < claims
            || self.open == 0
    }
}
