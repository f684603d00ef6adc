//! The ledger of a run, or the commit in progress that owns it.

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

    /// Takes the ledger for [`Self::begin`]; none while a commit owns it.
    pub(super) fn take(&mut self) -> Option<Box<Ledger>> {
        match replace(self, LedgerHandle::Committing(Box::pin(pending()))) {
            LedgerHandle::Idle(ledger) => Some(ledger),
            committing @ LedgerHandle::Committing(_) => {
                *self = committing;
                None
            }
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self, LedgerHandle::Idle(_))
    }

    /// Begins a commit. Owning the ledger proves that no other commit is in progress, because there is only one
    /// ledger.
    pub(super) fn begin(&mut self, mut ledger: Box<Ledger>, batch: Batch) {
        *self = LedgerHandle::Committing(Box::pin(async move {
            let result = ledger.commit(batch).await;
            (ledger, result)
        }));
    }

    /// Waits for the commit in progress; pending forever if there is none. Cancel-safe.
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

    /// The ledger; none while a commit owns it.
    pub(super) fn into_idle(self) -> Option<Ledger> {
        match self {
            LedgerHandle::Idle(ledger) => Some(*ledger),
            LedgerHandle::Committing(_) => None,
        }
    }
}
