//! Turns a claimed row into a settlement: sends its requests and decides what their replies mean for the row.
//!
//! [`Sender::send`] is the door: `attempts` takes a claim through slot, throttle and API until the table in `verdict`
//! gives the row an outcome, and settles it. This file has what all rows of a run share.
//!
//! The governing rule: Create is not idempotent, so after a Create that may have landed, only Get is sent for the row
//! until Get has been answered. A row is `failed` only if it surely was not created; otherwise it stays `pending`, in
//! doubt, and the next run looks it up.
//!
//! Never accesses the ledger (a settlement is a value until the run commits it) and never logs anything of a row but
//! its line.

mod attempts;

mod endpoint;

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

use self::{attempts::Attempts, endpoint::Endpoint, throttled_series::ReplyCounts};
pub use self::{
    endpoint::Contact,
    lookup::{Lookup, lookup},
    verdict::Halt,
};
use crate::{
    api::{Api, ApiMetrics},
    customer::Reference,
    ledger::{Claim, RequestCounts, Settlement},
    throttle::{Slot, Throttle, UpcomingWrites},
};

/// A reference that no merchant uses; the probe of the service looks it up.
const PROBE_REFERENCE: &str = "customer-import-probe-of-nobody";

/// The attempts of a row, and their intervals.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Maximum number of failed writes per row, and maximum number of Gets in succession.
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

/// The phase of the shutdown, for rows in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShutdownPhase {
    /// No shutdown.
    Running,
    /// Finish the request in flight, send no other.
    Draining,
    /// Abandon the request in flight.
    Aborting,
}

/// The last reply that was not a success.
#[derive(Default)]
struct LastFailure {
    /// For the reason of a stop.
    description: String,
    /// For a log and for displays: without the API's message, which may repeat a field.
    cause: Arc<str>,
}

/// Sends the rows of one run.
pub struct Sender {
    api: Api,
    throttle: Throttle,
    policy: Policy,
    jitter: Mutex<StdRng>,
    shutdown: watch::Sender<ShutdownPhase>,
    last_failure: Mutex<LastFailure>,
    probe_reference: Reference,
    retries: AtomicU64,
    throttled: AtomicU64,
    replies: ReplyCounts,
    /// Number of rows waiting for their next attempt.
    retrying: AtomicU64,
    endpoint: Endpoint,
    /// Number of failed rows whose last response came from an intermediary.
    refused_by_intermediary: AtomicU64,
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
            last_failure: Mutex::default(),
            probe_reference: Reference::recorded(PROBE_REFERENCE),
            retries: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
            replies: ReplyCounts::default(),
            retrying: AtomicU64::new(0),
            endpoint: Endpoint::default(),
            refused_by_intermediary: AtomicU64::new(0),
        }
    }

    /// The throttle of the run.
    pub fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    /// Announces a phase of the shutdown to every row in flight; a phase is never revoked.
    pub fn advance_shutdown(&self, phase: ShutdownPhase) {
        self.shutdown.send_if_modified(|current| {
            let is_later = phase > *current;
            *current = phase.max(*current);
            is_later
        });
    }

    /// Counts of requests and replies.
    pub fn api_metrics(&self) -> &ApiMetrics {
        self.api.metrics()
    }

    /// A description of the last reply that was not a success, or of why there was none.
    pub fn last_failure(&self) -> String {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).description.clone()
    }

    /// As [`Self::last_failure`], without the API's message.
    pub fn last_cause(&self) -> Arc<str> {
        Arc::clone(&self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).cause)
    }

    /// How far any request has got so far.
    pub fn contact(&self) -> Contact {
        self.endpoint.contact()
    }

    /// Why no row can succeed, if only intermediaries have responded.
    pub fn wrong_endpoint(&self) -> Option<Halt> {
        self.endpoint.halt()
    }

    /// Which rows are still to be sent for the first time. If there are none, failing writes are those of the last
    /// rows.
    pub fn set_upcoming_writes(&self, upcoming: UpcomingWrites) {
        self.throttle.set_upcoming_writes(upcoming);
    }

    /// The counts of the requests so far.
    pub fn request_counts(&self) -> RequestCounts {
        RequestCounts {
            requests: self.api.metrics().started(),
            retries: self.retries.load(Relaxed),
            throttled: self.throttled.load(Relaxed),
        }
    }

    /// Number of rows waiting for their next attempt.
    pub fn retrying(&self) -> u64 {
        self.retrying.load(Relaxed)
    }

    /// Sends one row until it has an outcome. Releases the slot while the row waits for its next attempt, and returns
    /// it for the next row if the last request still holds it.
    pub async fn send(&self, claim: Claim, slot: Slot) -> (SendResult, Option<Slot>) {
        Attempts::settle(self, claim, slot).await
    }

    /// Waits until the shutdown has reached this phase.
    async fn reached(&self, phase: ShutdownPhase) {
        let mut phases = self.shutdown.subscribe();
        // Fails only if the sender of phases is dropped, but it is part of `self`.
        drop(phases.wait_for(|current| *current >= phase).await);
    }

    /// Full jitter: a random delay up to the interval, so that rows that failed together are not retried together.
    fn jittered(&self, interval: Duration) -> Duration {
        let share: f64 = self.jitter.lock().unwrap_or_else(PoisonError::into_inner).random();
        interval.mul_f64(share)
    }
}
