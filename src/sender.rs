//! One claimed row → one settlement: sends its requests and decides what their replies mean for the row.
//!
//! [`Sender::send`] takes a claim through slot, throttle and API until the table in `verdict` gives the row an outcome.
//!
//! The rule that everything here serves: Create is not idempotent, so after a Create that may have landed nothing is sent
//! for the row but Get, until Get has answered. A row is `failed` only if it surely was not created; otherwise it stays
//! `pending`, in doubt, and the next run looks it up.
//!
//! Never touches the ledger (a settlement is a value until the run commits it) and never logs more of a row than its
//! line.

mod attempts;

mod lookup;

mod throttled_series;

mod verdict;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::sync::watch;
use tracing::warn;

use self::{
    attempts::Attempts,
    throttled_series::ReplyCounts,
    verdict::{CreateSent, Endpoint, History},
};
pub use self::{
    lookup::{Lookup, lookup},
    verdict::{Contact, Halt},
};
use crate::{
    api::{Api, ApiMetrics},
    customer::Reference,
    ledger::{Claim, Effort, Operation, RequestCounts, RowError, Settlement},
    throttle::{Slot, Throttle, UpcomingWrites},
};

/// A reference that no merchant has: the probe of the service looks it up.
const PROBE_REFERENCE: &str = "customer-import-probe-of-nobody";

/// At most this many rows that an intermediary rejects are logged.
const INTERMEDIARY_LOGGED_MAX: u64 = 20;

/// How often and at what intervals a row is tried.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Maximum writes of a row without an answer, and maximum successive Gets.
    pub max_attempts: u32,
    /// The upper bound of the first delay.
    pub retry_initial: Duration,
    /// The upper bound of every delay.
    pub retry_max: Duration,
    /// The seed of the jitter.
    pub seed: u64,
    /// What to do about a customer that exists with other fields than the row's.
    pub existing: ExistingPolicy,
}

/// What to do about a customer that exists with other fields than the row's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExistingPolicy {
    /// Report the difference.
    Keep,
    /// Send an Update with the row's fields.
    Update,
}

/// The result of sending a row.
#[derive(Debug)]
pub struct SendResult {
    /// To be committed.
    pub settlement: Settlement,
    /// Set if the run must end.
    pub halt: Option<Halt>,
}

/// How far the end of a run has come, for rows in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShutdownPhase {
    /// The run goes on.
    Running,
    /// Finish the request under way, begin no other.
    Draining,
    /// Abandon the request under way.
    Aborting,
}

/// Sends the rows of one run.
pub struct Sender {
    api: Api,
    throttle: Throttle,
    policy: Policy,
    jitter: Mutex<StdRng>,
    shutdown: watch::Sender<ShutdownPhase>,
    /// The last reply that was no success, for the reason of a stop, and for a log.
    last_failure: Mutex<(String, Arc<str>)>,
    probe_reference: Reference,
    retries: AtomicU64,
    throttled: AtomicU64,
    replies: ReplyCounts,
    /// Rows that wait for their next attempt.
    retrying: AtomicU64,
    endpoint: Endpoint,
    /// Rows that failed on the responses of an intermediary.
    rejected_by_intermediary: AtomicU64,
}

impl Sender {
    /// A sender to this API, through this throttle.
    pub fn new(api: Api, throttle: Throttle, policy: Policy) -> Sender {
        Sender {
            api,
            throttle,
            policy,
            jitter: Mutex::new(StdRng::seed_from_u64(policy.seed)),
            shutdown: watch::Sender::new(ShutdownPhase::Running),
            last_failure: Mutex::new((String::new(), "".into())),
            probe_reference: Reference::recorded(PROBE_REFERENCE),
            retries: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
            replies: ReplyCounts::default(),
            retrying: AtomicU64::new(0),
            endpoint: Endpoint::default(),
            rejected_by_intermediary: AtomicU64::new(0),
        }
    }

    /// The throttle of the run.
    pub fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    /// Tells every row in flight that the run ends; a phase is never taken back.
    pub fn advance_shutdown(&self, phase: ShutdownPhase) {
        self.shutdown.send_if_modified(|current| {
            let is_later = phase > *current;
            *current = phase.max(*current);
            is_later
        });
    }

    /// Requests and their replies, counted.
    pub fn api_metrics(&self) -> &ApiMetrics {
        self.api.metrics()
    }

    /// The last reply that was no success, or why there was none.
    pub fn last_failure(&self) -> String {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// The same without the API's words.
    pub fn last_cause(&self) -> Arc<str> {
        Arc::clone(&self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).1)
    }

    /// How far any request has come.
    pub fn contact(&self) -> Contact {
        self.endpoint.contact()
    }

    /// Why no row can succeed, if only intermediaries ever answered.
    pub fn wrong_endpoint(&self) -> Option<Halt> {
        self.endpoint.halt()
    }

    /// Which rows are still to be sent for the first time; without any, failing writes are those of the last rows.
    pub fn set_upcoming_writes(&self, upcoming: UpcomingWrites) {
        self.throttle.set_upcoming_writes(upcoming);
    }

    /// Requests so far.
    pub fn figures(&self) -> RequestCounts {
        RequestCounts {
            requests: self.api.metrics().started(),
            retries: self.retries.load(Relaxed),
            throttled: self.throttled.load(Relaxed),
        }
    }

    /// Rows that wait for their next attempt.
    pub fn retrying(&self) -> u64 {
        self.retrying.load(Relaxed)
    }

    /// Sends one row until it has an outcome. The slot is given back while the row waits for its next attempt, and
    /// returned for the next row if the last request still held it.
    pub async fn send(&self, claim: Claim, slot: Slot) -> (SendResult, Option<Slot>) {
        let history = History {
            create: if claim.may_have_landed() { CreateSent::Earlier } else { CreateSent::Never },
            in_doubt: matches!(claim.operation(), Operation::Confirm(_)),
            first_claimed_at: claim.claimed_at(),
            ..History::default()
        };
        let mut attempts = Attempts::new(self, slot, history);
        let (result, halt) = attempts.run(&claim).await;
        let may_have_landed = attempts.history.may_be_ours();
        let effort = Effort { requests: attempts.requests, may_have_landed };
        let slot = attempts.slot;
        (SendResult { settlement: claim.settle(result, effort), halt }, slot)
    }

    /// A row has failed. If the last response was an intermediary's, the user has to know of it.
    fn log_intermediary(&self, claim: &Claim, error: &RowError) {
        if error.code.as_deref() != Some(RowError::NOT_THE_API) {
            return;
        }
        if self.rejected_by_intermediary.fetch_add(1, Relaxed) < INTERMEDIARY_LOGGED_MAX {
            let (run, line, status) = (claim.run().0, claim.line(), error.http_status);
            warn!(run, line, status, "an intermediary rejects this row; the next run sends it again");
        }
    }

    /// Returns when the end of the run has come to this phase.
    async fn reached(&self, phase: ShutdownPhase) {
        let mut phases = self.shutdown.subscribe();
        // Fails only if the sender of phases is gone, and that is part of `self`.
        drop(phases.wait_for(|current| *current >= phase).await);
    }

    /// Full jitter: anything between zero and the interval, so that rows that failed together are not retried together.
    fn jittered(&self, interval: Duration) -> Duration {
        let share: f64 = self.jitter.lock().unwrap_or_else(PoisonError::into_inner).random();
        interval.mul_f64(share)
    }
}
