//! The process that writes.
//!
//! A worker counts as alive if its row was updated within its lease, by the clock of the database. Each commit of the
//! worker updates the row, and while rows are sent there is about one commit per second.

use std::time::Duration;

use tokio::time::Instant;

/// The lease of a worker of a command without `--lease`.
pub(super) const LEASE: Duration = Duration::from_secs(20);

/// How long a worker may send after the beginning of its last commit, at most. So nothing is sent while the ledger is
/// unreachable, and a process that was stopped for a while sends nothing until a commit has confirmed that the process
/// still counts as alive.
const SENDING_MAX: Duration = Duration::from_secs(5);

/// The process that writes.
pub(super) struct Worker {
    /// The number of its row.
    pub(super) id: i64,
    /// The number of commits that are known to have arrived.
    pub(super) commits: i64,
    /// When the last of them began.
    pub(super) beat_at: Instant,
    /// How long the worker counts as alive after an update of its row.
    pub(super) lease: Duration,
}

impl Worker {
    /// The time until which the worker may send requests.
    pub(super) fn may_send_until(&self) -> Instant {
        self.beat_at + SENDING_MAX.min(self.lease / 2)
    }

    /// Whether the row has to be updated, as during a long read.
    pub(super) fn is_beat_due(&self) -> bool {
        self.beat_at.elapsed() >= self.lease / 5
    }
}
