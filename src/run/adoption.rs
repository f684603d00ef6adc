//! Adopts rows of workers that have died or left, and tracks whether any worker of the run has work left.
//!
//! The ledger does not store the fields of an adopted row. So a separate thread reads the file again, up to the last
//! adopted row. If the source cannot be read again, adopted rows are only looked up.

use std::collections::HashSet;

use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::{
    customer::Row,
    ledger::{Committed, Ledger, Remaining},
    source::{Source, SourceOptions},
};

/// The adopted rows, and the state of the other workers.
pub(super) struct Adoption {
    /// The options for opening the source again; none if that is impossible.
    source: Option<SourceOptions>,
    /// The work that is left for all workers; none if the run cannot be shared.
    remaining: Option<Remaining>,
    /// Whether a commit has recorded that this worker has read the source to its end.
    is_end_recorded: bool,
    reread: Reread,
}

/// The adopted rows, which are read again. A worker adopts no others before these are claimed.
enum Reread {
    Nothing,
    Reading(JoinHandle<Vec<Row>>),
    /// They wait for the next commit.
    Read(Vec<Row>),
}

impl Adoption {
    pub(super) fn new(ledger: &Ledger, source: Option<SourceOptions>) -> Adoption {
        Adoption {
            source,
            remaining: ledger.is_shared().then_some(Remaining::Rows),
            is_end_recorded: false,
            reread: Reread::Nothing,
        }
    }

    /// Updates the state of the other workers after a commit, and begins to read adopted rows.
    pub(super) fn on_committed(&mut self, committed: &Committed) {
        if let Some(remaining) = committed.remaining {
            self.remaining = Some(remaining);
        }
        if committed.adopted.is_empty() {
            return;
        }
        info!(rows = committed.adopted.len(), "rows of a worker that has ended are taken over");
        let references: HashSet<String> = committed.adopted.iter().cloned().collect();
        self.reread = match self.source.clone() {
            None => Reread::Read(Vec::new()),
            Some(options) => {
                Reread::Reading(tokio::task::spawn_blocking(move || read_again(&options, references)))
            }
        };
    }

    /// Whether a commit must still record the end of the source.
    pub(super) fn is_end_due(&self) -> bool {
        self.remaining.is_some() && !self.is_end_recorded
    }

    /// Notes that a commit records the end of the source.
    pub(super) fn on_end_recorded(&mut self) {
        self.is_end_recorded = true;
    }

    /// Whether adopted rows wait for a commit.
    pub(super) fn has_read(&self) -> bool {
        matches!(self.reread, Reread::Read(_))
    }

    /// Takes the adopted rows that were read again.
    pub(super) fn take_read(&mut self) -> Option<Vec<Row>> {
        match std::mem::replace(&mut self.reread, Reread::Nothing) {
            Reread::Read(rows) => Some(rows),
            other => {
                self.reread = other;
                None
            }
        }
    }

    /// Whether no worker of the run has anything left to do.
    pub(super) fn is_over(&self) -> bool {
        let is_nothing_left = self.remaining.is_none_or(|remaining| remaining == Remaining::Nothing);
        is_nothing_left && matches!(self.reread, Reread::Nothing)
    }

    /// Waits until adopted rows are read again; never completes if none are being read. Cancel-safe.
    pub(super) async fn finished(&mut self) {
        match &mut self.reread {
            Reread::Nothing | Reread::Read(_) => std::future::pending().await,
            Reread::Reading(reading) => {
                // If the thread panicked, the rows are only looked up.
                self.reread = Reread::Read(reading.await.unwrap_or_default());
            }
        }
    }
}

fn read_again(options: &SourceOptions, references: HashSet<String>) -> Vec<Row> {
    match Source::read_again(options, references) {
        Ok(Some(rows)) => rows,
        Ok(None) => Vec::new(),
        Err(error) => {
            warn!(%error, "the source cannot be read again; rows of a worker that has ended are only looked up");
            Vec::new()
        }
    }
}
