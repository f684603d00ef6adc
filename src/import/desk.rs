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
    sender::{Halt, Sent},
};

/// What lies on the desk.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// Claims that wait for a worker.
    pub(super) claims: usize,
    /// Rows that workers have.
    pub(super) open: usize,
    /// Settlements that wait for a commit.
    pub(super) settled: usize,
    /// When the oldest of them came.
    pub(super) since: Option<Instant>,
    /// Bytes of the rows of all three.
    pub(super) bytes: usize,
}

impl View {
    /// Whether everything that was claimed is settled and fetched.
    pub(super) fn is_clear(&self) -> bool {
        self.claims == 0 && self.open == 0 && self.settled == 0
    }
}

/// When the loop wants to be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wishes {
    /// So many settlements are worth a commit.
    pub(super) settled: usize,
    /// Fewer claims than this are left.
    pub(super) claims: usize,
}

impl Wishes {
    pub(super) const NONE: Wishes = Wishes { settled: usize::MAX, claims: 0 };
}

/// The one desk of a run.
pub(super) struct Desk {
    papers: Mutex<Papers>,
    news: Notify,
}

struct Papers {
    claims: VecDeque<Claim>,
    open: usize,
    settled: Vec<Settlement>,
    since: Option<Instant>,
    bytes: usize,
    halt: Option<Halt>,
    /// A row has ended the run: no other is begun, whenever the loop comes to look.
    is_closed: bool,
    wishes: Wishes,
}

impl Desk {
    /// An empty one.
    pub(super) fn new() -> Desk {
        let papers = Papers {
            claims: VecDeque::new(),
            open: 0,
            settled: Vec::new(),
            since: None,
            bytes: 0,
            halt: None,
            is_closed: false,
            wishes: Wishes::NONE,
        };
        Desk { papers: Mutex::new(papers), news: Notify::new() }
    }

    /// Claims for the workers, in their order.
    pub(super) fn lay(&self, claims: Vec<Claim>) {
        let mut papers = self.papers();
        papers.bytes += claims.iter().map(Claim::bytes).sum::<usize>();
        papers.claims.extend(claims);
    }

    /// The next claim, for a new worker.
    pub(super) fn take(&self) -> Option<Claim> {
        self.papers().take()
    }

    /// A worker's row is done; its next one, if it `wants` one and there is any.
    pub(super) fn swap(&self, sent: Sent, wants: bool) -> Option<Claim> {
        let mut papers = self.papers();
        papers.open -= 1;
        papers.settled.push(sent.settlement);
        papers.since.get_or_insert_with(Instant::now);
        let has_news = sent.halt.is_some();
        papers.is_closed |= has_news;
        papers.halt = papers.halt.take().or(sent.halt);
        let next = if wants { papers.take() } else { None };
        let Papers { claims, open, settled, wishes, .. } = &*papers;
        // The first one sets the time by which it is to be committed.
        let to_commit =
            wishes.settled < usize::MAX && (settled.len() == 1 || settled.len() >= wishes.settled);
        if has_news || to_commit || claims.len() < wishes.claims || *open == 0 {
            self.news.notify_one();
        }
        next
    }

    /// Gives back what no worker has begun.
    pub(super) fn withdraw(&self) {
        let mut papers = self.papers();
        let claims = std::mem::take(&mut papers.claims);
        if !claims.is_empty() {
            papers.since.get_or_insert_with(Instant::now);
        }
        papers.settled.extend(claims.into_iter().map(Claim::release));
    }

    /// Everything that is settled, to be committed.
    pub(super) fn fetch(&self) -> Vec<Settlement> {
        let mut papers = self.papers();
        papers.since = None;
        let settled = std::mem::take(&mut papers.settled);
        papers.bytes -= settled.iter().map(Settlement::bytes).sum::<usize>();
        settled
    }

    /// Settlements that were held back, to be committed.
    pub(super) fn give_back(&self, settled: Vec<Settlement>) {
        let mut papers = self.papers();
        papers.since.get_or_insert_with(Instant::now);
        papers.bytes += settled.iter().map(Settlement::bytes).sum::<usize>();
        papers.settled.extend(settled);
    }

    /// Why a row ended the run, told once.
    pub(super) fn halt(&self) -> Option<Halt> {
        self.papers().halt.take()
    }

    /// What lies here now.
    pub(super) fn view(&self) -> View {
        let papers = self.papers();
        View {
            claims: papers.claims.len(),
            open: papers.open,
            settled: papers.settled.len(),
            since: papers.since,
            bytes: papers.bytes,
        }
    }

    /// Returns when something came in that the loop wished for; cancel-safe.
    pub(super) async fn news(&self, wishes: Wishes) {
        self.papers().wishes = wishes;
        self.news.notified().await;
    }

    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Papers {
    fn take(&mut self) -> Option<Claim> {
        if self.is_closed {
            return None;
        }
        let claim = self.claims.pop_front();
        self.open += usize::from(claim.is_some());
        claim
    }
}
