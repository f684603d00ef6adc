//! What a worker knows of the other workers of its run: whether they have anything left to do, and the rows that it
//! adopts from those that have died or left.
//!
//! The ledger has no fields of an adopted row, so the file is read again up to the last of them, on a thread of its own.
//! Rows of a source that cannot be read again are only looked up.

use std::collections::HashSet;

use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::{
    customer::Row,
    ledger::{Committed, Ledger, Remaining},
    source::{Source, SourceOptions},
};

/// The other workers' part of a run.
pub(super) struct Adoption {
    /// How the source is opened again.
    source: Option<SourceOptions>,
    /// What all workers have left to do; none if no other process can work on this run.
    remaining: Option<Remaining>,
    /// Whether the ledger knows that this worker has read the source to its end.
    is_end_told: bool,
    reading: Option<JoinHandle<Vec<Row>>>,
    /// Adopted rows that were read again and wait for the next commit.
    read: Option<Vec<Row>>,
}

impl Adoption {
    pub(super) fn new(ledger: &Ledger, source: Option<SourceOptions>) -> Adoption {
        Adoption {
            source,
            remaining: ledger.is_shared().then_some(Remaining::Rows),
            is_end_told: false,
            reading: None,
            read: None,
        }
    }

    /// Accepts what a commit has found out about the other workers.
    pub(super) fn on_committed(&mut self, committed: &Committed) {
        if let Some(remaining) = committed.remaining {
            self.remaining = Some(remaining);
        }
        if committed.adopted.is_empty() {
            return;
        }
        info!(rows = committed.adopted.len(), "rows of a worker that has ended are taken over");
        let references: HashSet<String> = committed.adopted.iter().cloned().collect();
        match self.source.clone() {
            None => self.read = Some(Vec::new()),
            Some(options) => {
                self.reading = Some(tokio::task::spawn_blocking(move || read_again(&options, references)));
            }
        }
    }

    /// Whether the end of the source is still to be told to the ledger.
    pub(super) fn is_end_due(&self) -> bool {
        self.remaining.is_some() && !self.is_end_told
    }

    /// Records that a commit tells it.
    pub(super) fn on_end_told(&mut self) {
        self.is_end_told = true;
    }

    /// Whether adopted rows wait for a commit.
    pub(super) fn has_read(&self) -> bool {
        self.read.is_some()
    }

    /// Takes the adopted rows that were read again.
    pub(super) fn take_read(&mut self) -> Option<Vec<Row>> {
        self.read.take()
    }

    /// Whether no worker of the run has anything left to do.
    pub(super) fn is_over(&self) -> bool {
        let is_nothing_left = self.remaining.is_none_or(|remaining| remaining == Remaining::Nothing);
        is_nothing_left && self.reading.is_none() && self.read.is_none()
    }

    /// Waits until adopted rows were read again; pending forever if none are. Cancel-safe.
    pub(super) async fn finished(&mut self) {
        match &mut self.reading {
            None => std::future::pending().await,
            Some(reading) => {
                // Without their lines, the rows are only looked up.
                self.read = Some(reading.await.unwrap_or_default());
                self.reading = None;
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
