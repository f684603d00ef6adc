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
    /// Until when no other worker counts as dead, and the number of commits when a delay last moved this time.
    pub(super) spares_until: Option<(Instant, i64)>,
}

impl Worker {
    /// The time until which the worker may send requests.
    pub(super) fn may_send_until(&self) -> Instant {
        self.beat_at + SENDING_MAX.min(self.lease / 2)
    }

    /// Whether another worker that has not updated its row may count as dead.
    pub(super) fn may_declare_dead(&self, now: Instant) -> bool {
        self.spares_until.is_none_or(|(until, _)| until <= now)
    }

    /// Notes that a commit has not arrived yet. If that lasts, the server is probably away for all workers, and each of them
    /// needs some time to come back. However often it happens, there is as much time in which workers count as dead.
    pub(super) fn on_delay(&mut self, now: Instant) {
        let goes_on = |(until, commits)| commits == self.commits || until + self.lease <= now;
        if now - self.beat_at > self.lease / 2 && self.spares_until.is_none_or(goes_on) {
            self.spares_until = Some((now + self.lease, self.commits));
        }
    }

    /// Whether the row has to be updated, as during a long read.
    pub(super) fn is_beat_due(&self) -> bool {
        self.beat_at.elapsed() >= self.lease / 5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_worker_is_dead_soon_after_an_outage_and_some_time_later_each_may_be() {
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let lease = Duration::from_secs(20);
        let mut worker = Worker { id: 1, commits: 7, beat_at: began, lease, spares_until: None };
        let commit = |worker: &mut Worker, at: Instant| {
            worker.commits += 1;
            worker.beat_at = at;
        };
        worker.on_delay(at(9));
        assert!(worker.may_declare_dead(at(9)), "a short one");
        (11..=70).for_each(|second| worker.on_delay(at(second)));
        commit(&mut worker, at(70));
        assert!(!worker.may_declare_dead(at(89)) && worker.may_declare_dead(at(90)), "one lease later");
        worker.on_delay(at(85));
        worker.on_delay(at(109));
        assert!(worker.may_declare_dead(at(109)), "many delays do not keep the dead alive");
        worker.on_delay(at(110));
        assert!(!worker.may_declare_dead(at(110)));
    }
}
