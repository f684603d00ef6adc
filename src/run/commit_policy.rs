//! Decides when a commit is worth its fixed cost: an fsync, and rewriting every page that its rows share.
//!
//! Pure: counts and the time come in, a plan goes out. A commit begins
//!
//! * with [`SETTLED_BATCH`] settlements, or when the oldest has waited for [`SETTLED_WAIT_MAX`], or when no other
//!   settlement can join it;
//! * when claims run low and there are rows to claim: below half of the look-ahead, because one claim per settlement
//!   would mean one commit per row;
//! * for counts that the ledger has deferred, once they have waited for a tick or no rows are left;
//! * for a heartbeat or samples that are due.
//!
//! Without the thresholds, every commit would contain only the few rows that arrived during the previous one; its
//! fixed cost was two thirds of the ledger's time.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    CLAIMED_AHEAD_MAX,
    work_queue::{QueueDepth, WakeThresholds},
};

/// This many settlements are worth a commit.
const SETTLED_BATCH: usize = 512;

/// How long a settlement may wait for others to share a commit with.
pub(super) const SETTLED_WAIT_MAX: Duration = Duration::from_millis(100);

/// No further rows are claimed while the claimed rows that are not committed have more bytes than this: memory is
/// bounded whatever the size of a row. The bound is exceeded by at most one chunk.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// The state of the policy between commits.
#[derive(Debug)]
pub(super) struct CommitPolicy {
    concurrency: usize,
    deferred: DeferredCounts,
    /// Number of rows that the previous commit processed per claim that it made.
    rows_per_claim: usize,
    /// Rows that the current or previous commit processed.
    rows_taken: usize,
    /// The most settlements of the last commits; the look-ahead is proportional to them. A commit that begins because
    /// claims run low has few, whatever the rate.
    recently_settled: usize,
}

/// Rows that the ledger has counted without a commit, because counts alone are not worth one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeferredCounts {
    None,
    Waiting,
    /// They have waited for a tick.
    Overdue,
}

/// The state of the loop from which a plan is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct CommitInput {
    pub(super) depth: QueueDepth,
    /// Rows that may be claimed: those in doubt during recovery, those read ahead afterwards.
    pub(super) unclaimed: usize,
    /// Whether no row is read ahead, and none will be.
    pub(super) no_rows_left: bool,
    /// Whether a heartbeat or samples are due.
    pub(super) report_is_due: bool,
    pub(super) now: Instant,
}

/// The contents of a commit in addition to all settlements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CommitPlan {
    /// Number of rows to claim.
    pub(super) claim: usize,
    /// Whether counts must not be deferred.
    pub(super) flush: bool,
}

impl CommitPolicy {
    pub(super) fn new(concurrency: usize) -> CommitPolicy {
        CommitPolicy {
            concurrency,
            deferred: DeferredCounts::None,
            rows_per_claim: 1,
            rows_taken: 0,
            recently_settled: 0,
        }
    }

    /// The commit to begin now, if one is worth it.
    pub(super) fn plan(&self, input: &CommitInput) -> Option<CommitPlan> {
        let CommitInput { depth, unclaimed, no_rows_left, report_is_due, now } = *input;
        let target = self.claims_target();
        let room = if depth.bytes < BYTES_MAX { target.saturating_sub(depth.claims) } else { 0 };
        // Each of the rows may turn out to need a claim, whatever the rows before them were.
        let claims_max = CLAIMED_AHEAD_MAX.saturating_sub(depth.claims);
        let claimable = room.saturating_mul(self.rows_per_claim).min(unclaimed).min(claims_max);
        let claims_due = claimable > 0 && depth.claims <= target / 2;
        let no_more_replies = depth.open == 0 && depth.claims == 0;
        let settled_due = depth.oldest_settled_at.is_some_and(|oldest| {
            depth.settled >= SETTLED_BATCH || no_more_replies || oldest + SETTLED_WAIT_MAX <= now
        });
        let deferred_due = match self.deferred {
            DeferredCounts::None => false,
            DeferredCounts::Waiting => no_rows_left,
            DeferredCounts::Overdue => true,
        };
        let flush = deferred_due || report_is_due;
        (settled_due || claims_due || flush)
            .then_some(CommitPlan { claim: if claims_due { claimable } else { 0 }, flush })
    }

    /// The queue depths that make a commit worthwhile while none is in progress.
    pub(super) fn thresholds(&self, has_unclaimed: bool) -> WakeThresholds {
        let claims = if has_unclaimed { self.claims_target() / 2 + 1 } else { 0 };
        WakeThresholds { settled: SETTLED_BATCH, claims }
    }

    /// Number of rows to read ahead. Of rows that are mostly not sent, more are committed at once.
    pub(super) fn read_ahead(&self) -> usize {
        (CLAIMED_AHEAD_MAX / 2).saturating_mul(self.rows_per_claim).min(CLAIMED_AHEAD_MAX)
    }

    /// Records that a commit with this many rows and settlements has begun.
    pub(super) fn on_begin(&mut self, rows: usize, settled: usize) {
        if self.deferred == DeferredCounts::Overdue {
            self.deferred = DeferredCounts::Waiting;
        }
        self.rows_taken = rows;
        self.recently_settled = settled.max(self.recently_settled * 7 / 8);
    }

    /// Records that this many rows of the commit belong to other workers of the run: they say nothing about how many of the
    /// next rows are to be claimed.
    pub(super) fn on_skipped(&mut self, rows: usize) {
        self.rows_taken = self.rows_taken.saturating_sub(rows);
    }

    /// Records that the commit made this many claims. `deferred`: the ledger has counted rows without writing the
    /// counts.
    pub(super) fn on_committed(&mut self, claims: usize, deferred: bool) {
        self.deferred = match (deferred, self.deferred) {
            (false, _) => DeferredCounts::None,
            (true, DeferredCounts::None) => DeferredCounts::Waiting,
            (true, before) => before,
        };
        if self.rows_taken > 0 {
            self.rows_per_claim = self.rows_taken.div_ceil(claims.max(1));
        }
    }

    /// Counts deferred before this tick have waited long enough.
    pub(super) fn on_tick(&mut self) {
        if self.deferred == DeferredCounts::Waiting {
            self.deferred = DeferredCounts::Overdue;
        }
    }

    /// Whether the ledger has counted rows that are not committed.
    pub(super) fn has_uncommitted(&self) -> bool {
        self.deferred != DeferredCounts::None
    }

    /// The target number of claims in the queue.
    fn claims_target(&self) -> usize {
        (2 * self.concurrency + 4 * self.recently_settled).min(CLAIMED_AHEAD_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(claims: usize, open: usize, settled: usize, unclaimed: usize) -> CommitInput {
        let now = Instant::now();
        let oldest_settled_at = (settled > 0).then_some(now);
        let depth = QueueDepth { claims, open, settled, oldest_settled_at, bytes: 0 };
        CommitInput { depth, unclaimed, no_rows_left: false, report_is_due: false, now }
    }

    const fn claim(claim: usize) -> Option<CommitPlan> {
        Some(CommitPlan { claim, flush: false })
    }

    const FLUSH: Option<CommitPlan> = Some(CommitPlan { claim: 0, flush: true });

    #[test]
    fn claims_are_made_when_half_of_the_look_ahead_is_left() {
        let policy = CommitPolicy::new(10);
        assert_eq!(policy.plan(&input(0, 0, 0, 100)), claim(20), "the first commit");
        assert_eq!(policy.plan(&input(11, 10, 1, 100)), None, "enough claims");
        assert_eq!(policy.plan(&input(10, 10, 1, 100)), claim(10));
        assert_eq!(policy.plan(&input(10, 10, 0, 3)), claim(3), "no more than there are");
        assert_eq!(policy.plan(&input(10, 10, 0, 0)), None);
        let mut large = input(0, 10, 0, 100);
        large.depth.bytes = BYTES_MAX;
        assert_eq!(policy.plan(&large), None, "memory is bounded");
    }

    #[test]
    fn the_look_ahead_follows_the_rate_and_the_share_of_rows_that_are_sent() {
        let mut policy = CommitPolicy::new(10);
        policy.on_begin(20, 100);
        policy.on_committed(20, false);
        assert_eq!(policy.plan(&input(0, 0, 0, 10_000)), claim(420));
        policy.on_begin(420, 100);
        policy.on_committed(0, false);
        assert_eq!(policy.plan(&input(0, 0, 0, 1_000)), claim(1_000), "rows that are done already");
        assert_eq!(policy.plan(&input(0, 0, 0, 1_000_000)), claim(CLAIMED_AHEAD_MAX));
        assert_eq!(
            policy.plan(&input(210, 0, 0, 1_000_000)),
            claim(CLAIMED_AHEAD_MAX - 210),
            "all may need a claim"
        );
    }

    #[test]
    fn a_commit_with_few_settlements_does_not_shorten_the_look_ahead_at_once() {
        let mut policy = CommitPolicy::new(10);
        policy.on_begin(0, 160);
        policy.on_begin(0, 8);
        assert_eq!(policy.plan(&input(0, 0, 0, 10_000)), claim(20 + 4 * 140));
        (0..40).for_each(|_| policy.on_begin(0, 8));
        assert_eq!(policy.plan(&input(0, 0, 0, 10_000)), claim(20 + 4 * 8));
    }

    #[test]
    fn rows_of_other_workers_do_not_make_this_one_claim_more() {
        let mut policy = CommitPolicy::new(10);
        policy.on_begin(20, 0);
        policy.on_skipped(20);
        policy.on_committed(0, true);
        assert_eq!(policy.plan(&input(0, 0, 0, 1_000)), claim(20));
        policy.on_begin(20, 0);
        policy.on_skipped(15);
        policy.on_committed(5, false);
        assert_eq!(policy.plan(&input(0, 0, 0, 1_000)), claim(20));
    }

    #[test]
    fn settlements_share_a_commit() {
        let policy = CommitPolicy::new(10);
        assert_eq!(policy.plan(&input(15, 10, SETTLED_BATCH - 1, 0)), None);
        assert_eq!(policy.plan(&input(15, 10, SETTLED_BATCH, 0)), claim(0));
        assert_eq!(policy.plan(&input(0, 1, 1, 0)), None, "a row in flight may join it");
        assert_eq!(policy.plan(&input(0, 0, 1, 0)), claim(0), "none can");
        let mut waited = input(0, 1, 1, 0);
        waited.now += SETTLED_WAIT_MAX;
        assert_eq!(policy.plan(&waited), claim(0));
    }

    #[test]
    fn counts_that_were_put_off_are_committed_after_a_tick_or_with_the_last_rows() {
        let mut policy = CommitPolicy::new(10);
        let idle = input(0, 0, 0, 0);
        policy.on_tick();
        assert_eq!(policy.plan(&idle), None, "nothing was put off");
        policy.on_begin(20, 0);
        policy.on_committed(0, true);
        assert_eq!(policy.plan(&idle), None);
        assert_eq!(policy.plan(&CommitInput { no_rows_left: true, ..idle }), FLUSH);
        policy.on_tick();
        assert_eq!(policy.plan(&idle), FLUSH);
        policy.on_begin(0, 0);
        assert_eq!(policy.plan(&idle), None, "once");
        assert_eq!(policy.plan(&CommitInput { report_is_due: true, ..idle }), FLUSH);
    }

    #[test]
    fn rows_that_are_not_sent_are_read_further_ahead() {
        let mut policy = CommitPolicy::new(10);
        assert_eq!(policy.read_ahead(), CLAIMED_AHEAD_MAX / 2);
        policy.on_begin(20, 0);
        policy.on_committed(0, false);
        assert_eq!(policy.read_ahead(), CLAIMED_AHEAD_MAX);
        policy.on_begin(20, 0);
        policy.on_committed(20, false);
        assert_eq!(policy.read_ahead(), CLAIMED_AHEAD_MAX / 2);
    }

    #[test]
    fn the_queue_wakes_the_loop_where_a_plan_would_follow() {
        let policy = CommitPolicy::new(10);
        let WakeThresholds { settled, claims } = policy.thresholds(true);
        assert_eq!(policy.plan(&input(claims, 10, settled - 1, 100)), None);
        assert!(policy.plan(&input(claims - 1, 10, 0, 100)).is_some());
        assert!(policy.plan(&input(claims, 10, settled, 100)).is_some());
        assert_eq!(policy.thresholds(false).claims, 0);
    }
}
