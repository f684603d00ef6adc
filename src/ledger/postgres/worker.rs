//! The process that writes.
//!
//! A worker is alive as long as its row was touched within the lease, by the clock of the database; each of its commits
//! touches it, and about one commit a second is made while rows are sent.

use std::time::Duration;

use tokio::time::Instant;

/// For how long a worker of a command without `--lease` counts as alive if it says nothing.
pub(super) const LEASE: Duration = Duration::from_secs(20);

/// For how long after its last commit began a worker may send, at most: while the ledger is away nothing is sent, and a
/// process that was stopped for a while sends nothing more before it has heard that it is still alive.
const SENDING_MAX: Duration = Duration::from_secs(5);

/// The process that writes.
pub(super) struct Worker {
    /// The number of its row.
    pub(super) id: i64,
    /// Its commits that are known to have arrived.
    pub(super) commits: i64,
    /// When the last of them began.
    pub(super) beat_at: Instant,
    /// For how long it counts as alive if it says nothing.
    pub(super) lease: Duration,
}

impl Worker {
    /// Until when it may send requests.
    pub(super) fn may_send_until(&self) -> Instant {
        self.beat_at + SENDING_MAX.min(self.lease / 2)
    }

    /// Whether the row is to be touched, if the worker reads for long.
    pub(super) fn is_beat_due(&self) -> bool {
        self.beat_at.elapsed() >= self.lease / 5
    }
}
