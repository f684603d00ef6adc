//! Between the loop and the rows in flight: claims out, settlements in.
//!
//! A row that is done must not wake the loop: at 25,000 rows a second, waking it twice for each of them and
//! giving each a task of its own cost a quarter of a row's time. So a worker fetches its next claim here
//! by itself, and the loop is told only where something is worth its while: enough to commit, claims
//! that run low, a reason to end.
//!
//! Owns no decision. The lock is held for a push or a pop, and never while anything is waited for.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    ledger::{Claim, Settlement},
    sender::{Halt, SendResult},
};

/// How much the queue holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueDepth {
    /// Claims that wait for a worker.
    pub(super) claims: usize,
    /// Rows that workers have.
    pub(super) open: usize,
    /// Settlements that wait for a commit.
    pub(super) settled: usize,
    /// When the oldest of them came.
    pub(super) oldest_settled_at: Option<Instant>,
    /// Bytes of the rows of all three.
    pub(super) bytes: usize,
}

impl QueueDepth {
    /// Whether everything that was claimed is settled and fetched.
    pub(super) fn is_clear(&self) -> bool {
        self.claims == 0 && self.open == 0 && self.settled == 0
    }
}

/// When the loop wants to be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct WakeThresholds {
    /// So many settlements are worth a commit.
    pub(super) settled: usize,
    /// Fewer claims than this are left.
    pub(super) claims: usize,
}

impl WakeThresholds {
    pub(super) const NONE: WakeThresholds = WakeThresholds { settled: usize::MAX, claims: 0 };
}

/// The one work queue of a run.
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
    halt: Option<Halt>,
    /// A row has ended the run: no other is begun, whenever the loop comes to look.
    is_closed: bool,
    thresholds: WakeThresholds,
}

impl WorkQueue {
    /// An empty one.
    pub(super) fn new() -> WorkQueue {
        let state = QueueState {
            claims: VecDeque::new(),
            open: 0,
            settled: Vec::new(),
            oldest_settled_at: None,
            bytes: 0,
            halt: None,
            is_closed: false,
            thresholds: WakeThresholds::NONE,
        };
        WorkQueue { state: Mutex::new(state), wake: Notify::new() }
    }

    /// Claims for the workers, in their order.
    pub(super) fn push(&self, claims: Vec<Claim>) {
        let mut state = self.state();
        state.bytes += claims.iter().map(Claim::bytes).sum::<usize>();
        state.claims.extend(claims);
    }

    /// The next claim, for a new worker.
    pub(super) fn pop(&self) -> Option<Claim> {
        self.state().pop()
    }

    /// A worker's row is done; its next one, if it `wants` one and there is any.
    pub(super) fn complete_and_pop(&self, sent: SendResult, wants: bool) -> Option<Claim> {
        let mut state = self.state();
        state.open -= 1;
        state.settled.push(sent.settlement);
        state.oldest_settled_at.get_or_insert_with(Instant::now);
        let has_halted = sent.halt.is_some();
        state.is_closed |= has_halted;
        state.halt = state.halt.take().or(sent.halt);
        let next = if wants { state.pop() } else { None };
        let QueueState { claims, open, settled, thresholds, .. } = &*state;
        // The first one sets the time by which it is to be committed.
        let to_commit =
            thresholds.settled < usize::MAX && (settled.len() == 1 || settled.len() >= thresholds.settled);
        if has_halted || to_commit || claims.len() < thresholds.claims || *open == 0 {
            self.wake.notify_one();
        }
        next
    }

    /// Gives back what no worker has begun.
    pub(super) fn release_unstarted(&self) {
        let mut state = self.state();
        let claims = std::mem::take(&mut state.claims);
        if !claims.is_empty() {
            state.oldest_settled_at.get_or_insert_with(Instant::now);
        }
        state.settled.extend(claims.into_iter().map(Claim::release));
    }

    /// Everything that is settled, to be committed.
    pub(super) fn take_settled(&self) -> Vec<Settlement> {
        let mut state = self.state();
        state.oldest_settled_at = None;
        let settled = std::mem::take(&mut state.settled);
        state.bytes -= settled.iter().map(Settlement::bytes).sum::<usize>();
        settled
    }

    /// Settlements that were held back, to be committed.
    pub(super) fn push_settled(&self, settled: Vec<Settlement>) {
        let mut state = self.state();
        state.oldest_settled_at.get_or_insert_with(Instant::now);
        state.bytes += settled.iter().map(Settlement::bytes).sum::<usize>();
        state.settled.extend(settled);
    }

    /// Why a row ended the run, told once.
    pub(super) fn take_halt(&self) -> Option<Halt> {
        self.state().halt.take()
    }

    /// What lies here now.
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

    /// Returns when something came in that the loop wished for; cancel-safe.
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
        if self.is_closed {
            return None;
        }
        let claim = self.claims.pop_front();
        self.open += usize::from(claim.is_some());
        claim
    }
}
