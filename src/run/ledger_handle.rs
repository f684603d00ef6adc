//! The ledger of a run, or the one commit that has it.

use std::{future::pending, mem::replace, pin::Pin};

use crate::ledger::{Batch, Committed, Error, Ledger};

/// The result of a commit, with the ledger.
pub(super) type CommitResult = (Box<Ledger>, Result<Committed, Error>);

/// A commit owns the ledger until it ends, so at most one is in progress and nothing else can write.
pub(super) enum LedgerHandle {
    Idle(Box<Ledger>),
    Committing(Pin<Box<dyn Future<Output = CommitResult> + Send>>),
}

impl LedgerHandle {
    pub(super) fn new(ledger: Ledger) -> LedgerHandle {
        LedgerHandle::Idle(Box::new(ledger))
    }

    /// The ledger, unless a commit has it.
    pub(super) fn idle(&mut self) -> Option<&mut Ledger> {
        match self {
            LedgerHandle::Idle(ledger) => Some(ledger),
            LedgerHandle::Committing(_) => None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self, LedgerHandle::Idle(_))
    }

    /// Begins a commit. While another one is in progress the batch would be lost: the caller checks [`Self::is_idle`]
    /// before it makes a batch.
    pub(super) fn begin(&mut self, batch: Batch) {
        let nothing = LedgerHandle::Committing(Box::pin(pending()));
        *self = match replace(self, nothing) {
            LedgerHandle::Idle(mut ledger) => LedgerHandle::Committing(Box::pin(async move {
                let result = ledger.commit(batch).await;
                (ledger, result)
            })),
            committing @ LedgerHandle::Committing(_) => committing,
        };
    }

    /// The end of the commit in progress; pending if there is none. Cancel-safe.
    pub(super) async fn committed(&mut self) -> CommitResult {
        match self {
            LedgerHandle::Idle(_) => pending().await,
            LedgerHandle::Committing(commit) => commit.await,
        }
    }

    /// Takes the ledger back after its commit.
    pub(super) fn end(&mut self, ledger: Box<Ledger>) {
        *self = LedgerHandle::Idle(ledger);
    }

    /// The ledger, unless a commit has it.
    pub(super) fn into_idle(self) -> Option<Ledger> {
        match self {
            LedgerHandle::Idle(ledger) => Some(*ledger),
            LedgerHandle::Committing(_) => None,
        }
    }
}
