//! The process that writes.
//!
//! A worker is alive as long as its row was touched within the lease, by the clock of the database; each of its commits
//! touches it, and about one commit a second is made while rows are sent.

use std::time::Duration;

use tokio::time::Instant;

/// For how long a worker that says nothing counts as alive.
pub(super) const LEASE: Duration = Duration::from_secs(20);

/// For how long after its last commit began a worker may send: while the ledger is away nothing is sent, and a process
/// that was stopped for a while sends nothing more before it has heard that it is still alive.
const SENDING_MAX: Duration = Duration::from_secs(5);

/// So often the row is touched at least, where a worker reads for long.
pub(super) const BEAT_EVERY: Duration = Duration::from_secs(4);

/// The process that writes.
pub(super) struct Worker {
    /// The number of its row.
    pub(super) id: i64,
    /// Its commits that are known to have arrived.
    pub(super) commits: i64,
    /// When the last of them began.
    pub(super) beat_at: Instant,
}

impl Worker {
    /// Until when it may send requests.
    pub(super) fn may_send_until(&self) -> Instant {
        self.beat_at + SENDING_MAX
    }
}
