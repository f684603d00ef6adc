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

    /// Takes the ledger out for [`Self::begin`], unless a commit has it.
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

    /// Begins a commit. Whoever has the ledger knows that no other commit is in progress: there is one ledger.
    pub(super) fn begin(&mut self, mut ledger: Box<Ledger>, batch: Batch) {
        *self = LedgerHandle::Committing(Box::pin(async move {
            let result = ledger.commit(batch).await;
            (ledger, result)
        }));
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
