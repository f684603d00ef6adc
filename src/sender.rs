//! One claimed row → one settlement: its attempts, and what each reply means.
//!
//! [`Sender::send`] walks one row through slot, throttle and API until the table in `verdict` says
//! that the row's story is complete.
//!
//! The rule that everything here serves: Create is not idempotent, so after a Create that may
//! have landed nothing is sent for the row but Get, until Get has answered. A row is `failed` only
//! when it surely was not created; where that is not known it stays `pending`, in doubt, and the
//! next run asks.
//!
//! Never touches the ledger (a settlement is a value until the loop commits it) and never logs
//! more of a row than its line.

mod verdict;

mod endpoint;

mod lookup;

mod latency;

mod attempts;

mod words;

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{sync::watch, time::timeout};
use tracing::{info, warn};

use self::{
    attempts::Walk,
    endpoint::Address,
    latency::Latency,
    verdict::{Past, Step, health, said},
    words::{asked_in_words, trouble_in_words},
};
pub use self::{lookup::Inquiry, verdict::Halt};
use crate::{
    api::{Api, Meter, Reply},
    customer::{Fields, Reference},
    ledger::{ApiCustomer, Claim, Effort, Latencies, Operation, RequestCounts, RowError, Settlement},
    throttle::{Health, Kind, Left, Pass, Probe, Said, Slot, Throttle},
};

/// A reference that no merchant has, to probe with.
const NOBODY: &str = "customer-import-probe-of-nobody";

/// Rows that something before the API refuses are named one by one up to so many.
const SET_ASIDE_NAMED: u64 = 20;

/// How often and how patiently a row is tried.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Creates that may end without an answer, and Gets in a row that may.
    pub max_attempts: u32,
    /// The first delay's upper bound.
    pub retry_initial: Duration,
    /// No delay is longer.
    pub retry_max: Duration,
    /// Of the jitter.
    pub seed: u64,
    /// What is done about a customer that exists with other fields than the row's.
    pub existing: OnExisting,
}

/// What is done about a customer that exists already and has other fields than the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExisting {
    /// It is left as it is, and said.
    Leave,
    /// An Update with the row's fields is sent.
    Update,
}

/// How a row left the sender.
#[derive(Debug)]
pub struct Sent {
    /// To be committed.
    pub settlement: Settlement,
    /// Set where the run must end.
    pub halt: Option<Halt>,
}

/// What rows in flight are told when a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing.
    Sending,
    /// Finish the request under way, begin no other.
    Draining,
    /// Give up the request under way.
    Abandoning,
}

/// Sends rows; shared by all of a run.
pub struct Sender {
    api: Api,
    throttle: Throttle,
    policy: Policy,
    jitter: Mutex<StdRng>,
    phase: watch::Sender<Phase>,
    /// In words, for who asks why nothing goes on.
    last_trouble: Mutex<String>,
    /// The reference of the probe.
    nobody: Reference,
    requests: AtomicU64,
    retries: AtomicU64,
    throttled: AtomicU64,
    latency: Latency,
    /// Rows that wait to be tried again.
    retrying: AtomicU64,
    address: Address,
    /// Rows that ended with answers of something before the API.
    set_aside: AtomicU64,
}

impl Sender {
    /// A sender to that API, at that pace.
    pub fn new(api: Api, throttle: Throttle, policy: Policy) -> Sender {
        Sender {
            api,
            throttle,
            policy,
            jitter: Mutex::new(StdRng::seed_from_u64(policy.seed)),
            phase: watch::Sender::new(Phase::Sending),
            last_trouble: Mutex::default(),
            nobody: Reference::recorded(NOBODY),
            requests: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
            latency: Latency::new(),
            retrying: AtomicU64::new(0),
            address: Address::default(),
            set_aside: AtomicU64::new(0),
        }
    }

    /// The pace.
    pub fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    /// Tells every row that the run ends; a phase is never taken back.
    pub fn enter_phase(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
    }

    /// What was asked so far, and how it was answered.
    pub fn meter(&self) -> &Meter {
        self.api.meter()
    }

    /// What the last bad answer was, or why there was none.
    pub fn last_trouble(&self) -> String {
        self.last_trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why no row can succeed, where nothing but others than the API ever answered.
    pub fn wrong_address(&self) -> Option<Halt> {
        self.address.halt()
    }

    /// The source has been read to its end; `all_begun` if each of its rows is at work as well, so that writes that
    /// fail now are those of the last rows.
    pub fn tell_source_ended(&self, all_begun: bool) {
        self.throttle.tell_source_ended(all_begun);
    }

    /// A row has used up its attempts on answers of something before the API.
    fn set_aside(&self, line: u64, trouble: &RowError) {
        if trouble.code.as_deref() != Some(RowError::NOT_THE_API) {
            return;
        }
        if self.set_aside.fetch_add(1, Relaxed) < SET_ASIDE_NAMED {
            let status = trouble.http_status;
            warn!(line, status, "something before the API refuses this row; it is set aside");
        }
    }

    /// Takes in what a reply says of the service and of the rate.
    fn leave(&self, pass: Pass<'_>, reply: &Reply, health: Health) -> Health {
        let said = said(reply);
        // What never left took no time; a connection refused in no time is no fast answer.
        if !matches!(reply, Reply::NotSent(_)) {
            self.latency.record(pass.took());
        }
        if !matches!(health, Health::Good | Health::WriteLanded) {
            *self.last_trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble_in_words(reply);
        }
        let is_refusal = matches!(said, Said::Refused(_));
        self.throttled.fetch_add(u64::from(is_refusal), Relaxed);
        let Left { pause, held, by_chance } = pass.leave(health, said);
        if let Some(pause) = pause {
            let (seconds, asked) = (pause.as_secs_f64(), is_refusal.then(|| asked_in_words(reply)));
            warn!(seconds, asked, "the API asks to slow down; everyone waits");
        }
        if let Some(held) = held {
            info!(per_second = held.floor(), "the API takes no more than this; it is held");
        }
        if let Some(share) = by_chance {
            warn!(
                share,
                "the API refuses this share of all requests, however few are sent; they are sent again"
            );
        }
        health
    }

    /// What was sent so far.
    pub fn figures(&self) -> RequestCounts {
        RequestCounts {
            requests: self.requests.load(Relaxed),
            retries: self.retries.load(Relaxed),
            throttled: self.throttled.load(Relaxed),
        }
    }

    /// How long the requests took that have ended.
    pub fn latencies(&self) -> Latencies {
        self.latency.so_far()
    }

    /// Rows that wait to be tried again.
    pub fn retrying(&self) -> u64 {
        self.retrying.load(Relaxed)
    }

    /// Walks one row to its end. The slot is given back while the row waits to be tried again, and kept
    /// for the next row if the walk ended with it.
    pub async fn send(&self, claim: Claim, slot: Slot) -> (Sent, Option<Slot>) {
        let past = Past {
            ours: claim.may_have_landed(),
            in_doubt: claim.operation() == Operation::Confirm,
            claimed_at: claim.claimed_at(),
            ..Past::default()
        };
        let mut walk = Walk::new(self, slot, past);
        let (ending, halt) = walk.run(&claim).await;
        let effort = Effort { requests: walk.requests, may_have_landed: walk.may_have_landed() };
        let slot = walk.slot;
        (Sent { settlement: claim.settle(ending, effort), halt }, slot)
    }

    /// Waits until a row's request may leave; `None` if the run ends first. Whoever is let through to
    /// see whether the service is back asks after a customer that no merchant has: any answer to that says
    /// that it is, while a row that fails whatever happens would say nothing.
    async fn enter(&self, kind: Kind) -> Option<Pass<'_>> {
        loop {
            // Nothing to wait for is the usual case, and worth a microsecond.
            let at_once =
                if *self.phase.borrow() < Phase::Draining { self.throttle.try_enter(kind) } else { None };
            let pass = match at_once {
                Some(pass) => pass,
                None => tokio::select! {
                    biased;
                    // First, so that a row that could leave at once does not after the run was told to end.
                    () = self.reached(Phase::Draining) => return None,
                    pass = self.throttle.enter(kind) => pass,
                },
            };
            if let Some(pass) = self.probe_service(pass).await? {
                return Some(pass);
            }
        }
    }

    /// The same for one turn alone, which may be lost to another row; none of the two if the run ends first.
    async fn try_turn(&self, kind: Kind) -> Option<Option<Pass<'_>>> {
        let pass = tokio::select! {
            biased;
            () = self.reached(Phase::Draining) => return None,
            pass = self.throttle.stand_in_line(kind) => pass,
        };
        match pass {
            Some(pass) => self.probe_service(pass).await,
            None => Some(None),
        }
    }

    /// A pass that is no probe of the service is the row's. Else the probe is sent, and the row goes on waiting;
    /// none of the two if the run ends first.
    async fn probe_service<'a>(&'a self, pass: Pass<'a>) -> Option<Option<Pass<'a>>> {
        if pass.probe() != Some(Probe::Service) {
            return Some(Some(pass));
        }
        self.requests.fetch_add(1, Relaxed);
        let reply = tokio::select! {
            biased;
            reply = self.within_patience(self.api.get(&self.nobody)) => reply,
            () = self.reached(Phase::Draining) => return None,
        };
        self.address.note(Step::Get { told: false }, &reply);
        let health = self.leave(pass, &reply, health(&reply));
        info!(back = health == Health::Good, "asked whether the API is back");
        Some(None)
    }

    /// A probe's reply; a late one is none.
    async fn within_patience(&self, exchange: impl Future<Output = Reply>) -> Reply {
        let late = |_| Reply::Unknown { status: None, why: "no answer in time".into(), request_id: None };
        timeout(self.throttle.probe_timeout(), exchange).await.unwrap_or_else(late)
    }

    /// `located`: the customer to update, where Get has found it in this run.
    async fn exchange(&self, step: Step, claim: &Claim, located: Option<&ApiCustomer>) -> Reply {
        match (step, claim.customer(), claim.update(), located) {
            (Step::Create, Some(customer), ..) => self.api.create(customer).await,
            (Step::Update, Some(customer), Some(amendment), _) => {
                self.api.update(customer, &amendment.customer_id, amendment.emptied).await
            }
            (Step::Update, Some(customer), None, Some(located)) => {
                self.api.update(customer, &located.customer_id, Fields::default()).await
            }
            _ => self.api.get(claim.reference()).await,
        }
    }

    /// Returns when the run has come to this phase.
    async fn reached(&self, phase: Phase) {
        let mut phases = self.phase.subscribe();
        // Fails only if the sender of phases is gone, and that is part of `self`.
        drop(phases.wait_for(|now| *now >= phase).await);
    }

    /// Full jitter: anything between nothing and the interval, so that rows that failed together
    /// do not come back together.
    fn jittered(&self, interval: Duration) -> Duration {
        let share: f64 = self.jitter.lock().unwrap_or_else(PoisonError::into_inner).random();
        interval.mul_f64(share)
    }
}
