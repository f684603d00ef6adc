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

mod gate;

mod pace;

mod accepted;

mod chance;

mod crowd;

mod throttle;

mod inquiry;

mod latency;

mod words;

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use backoff::{ExponentialBackoff, backoff::Backoff};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use self::{
    gate::{Health, Kind, Probe},
    latency::Latency,
    pace::Said,
    throttle::{Left, Pass},
    verdict::{Past, Step, Verdict, health, may_have_landed, said, trouble_of, verdict},
    words::{asked_in_words, trouble_in_words},
};
pub use self::{
    inquiry::Inquiry,
    throttle::{Rate, Slot, Throttle},
    verdict::Halt,
};
use crate::{
    api::{Api, Meter, Reply},
    customer::Reference,
    ledger::{Claim, Ending, Errand, Figures, Latencies, Settlement, Trouble},
};

/// A reference that no merchant has, to probe with.
const NOBODY: &str = "customer-import-probe-of-nobody";

/// A row that is refused for the rate more often than this waits by itself, whatever the others do.
const REFUSALS: u32 = 2;

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

    /// Takes in what a reply says of the service and of the rate.
    fn leave(&self, pass: Pass<'_>, reply: &Reply) -> Health {
        let (health, said) = (health(reply), said(reply));
        // What never left took no time; a connection refused in no time is no fast answer.
        if !matches!(reply, Reply::NotSent(_)) {
            self.latency.record(pass.took());
        }
        if health != Health::Good {
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
    pub fn figures(&self) -> Figures {
        Figures {
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
            ours: claim.errand() == Errand::Confirm,
            in_doubt: claim.errand() == Errand::Confirm,
            sent: false,
            claimed_at: claim.claimed_at(),
        };
        let mut walk = Walk::new(self, slot, past);
        let (ending, halt) = walk.run(&claim).await;
        let (requests, slot) = (walk.requests, walk.slot);
        (Sent { settlement: claim.settle(ending, requests), halt }, slot)
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
            if pass.probe() != Some(Probe::Service) {
                return Some(pass);
            }
            self.requests.fetch_add(1, Relaxed);
            let reply = tokio::select! {
                biased;
                reply = self.within_patience(self.api.get(&self.nobody)) => reply,
                () = self.reached(Phase::Draining) => return None,
            };
            let health = self.leave(pass, &reply);
            info!(back = health == Health::Good, "asked whether the API is back");
        }
    }

    /// A probe's reply; a late one is none.
    async fn within_patience(&self, exchange: impl Future<Output = Reply>) -> Reply {
        let late = |_| Reply::Unknown { status: None, why: "no answer in time".into(), request_id: None };
        timeout(self.throttle.probe_timeout(), exchange).await.unwrap_or_else(late)
    }

    async fn exchange(&self, step: Step, claim: &Claim) -> Reply {
        match (step, claim.customer(), claim.amendment()) {
            (Step::Create, Some(customer), _) => self.api.create(customer).await,
            (Step::Update, Some(customer), Some(amendment)) => {
                self.api.update(customer, &amendment.customer_id, amendment.emptied).await
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

/// One row on its way.
struct Walk<'a> {
    sender: &'a Sender,
    slot: Option<Slot>,
    past: Past,
    requests: u32,
    bad_creates: u32,
    bad_gets: u32,
    /// 429 answers since it last got another one.
    refusals: u32,
    /// The step whose attempt is given back if its failure turns out to belong to an outage.
    refundable: Option<Step>,
    /// Probes of an outage that had failed when the last request began.
    failed_probes: u64,
    /// Whether a write of the row has failed.
    write_failed: bool,
    /// Whether the next request repeats a step.
    again: bool,
    backoff: Option<ExponentialBackoff>,
    trouble: Trouble,
}

/// How asking the API went.
enum Asked {
    Reply(Reply),
    /// The row has no attempts left.
    UsedUp,
    /// The run ends.
    Ended,
}

impl<'a> Walk<'a> {
    fn new(sender: &'a Sender, slot: Slot, past: Past) -> Walk<'a> {
        Walk {
            sender,
            slot: Some(slot),
            past,
            requests: 0,
            bad_creates: 0,
            bad_gets: 0,
            refusals: 0,
            refundable: None,
            failed_probes: 0,
            write_failed: false,
            again: false,
            backoff: None,
            trouble: Trouble::default(),
        }
    }

    async fn run(&mut self, claim: &Claim) -> (Ending, Option<Halt>) {
        let reference = claim.reference();
        let mut step = match claim.errand() {
            Errand::Create => Step::Create,
            Errand::Confirm => Step::Get { told: false },
            Errand::Update => Step::Update,
        };
        loop {
            let reply = match self.ask(step, self.sender.exchange(step, claim)).await {
                Asked::Reply(reply) => reply,
                Asked::Ended => return (self.pending(), None),
                // An update that may have landed is done again and does no harm.
                Asked::UsedUp if self.past.in_doubt && step != Step::Update => return (self.pending(), None),
                Asked::UsedUp => return (Ending::Failed(self.trouble.clone()), None),
            };
            match verdict(step, self.past, &reply, reference) {
                Verdict::Settle(ending) => return (ending, None),
                Verdict::Halt(halt) => {
                    self.trouble = trouble_of(&reply);
                    return (self.pending(), Some(halt));
                }
                Verdict::Next(Step::Create) if claim.customer().is_none() => {
                    let message = Some("an earlier run ended before it was created".into());
                    let trouble = Trouble { message, ..Trouble::default() };
                    return (Ending::Pending { trouble, in_doubt: false }, None);
                }
                Verdict::Next(next) => {
                    if next == Step::Create {
                        // Get has answered: nothing of ours is there.
                        (self.past.in_doubt, self.bad_gets, self.again) = (false, 0, true);
                        // A server may close each connection behind its answer and not say so: a Create
                        // right behind the Get would be lost the same way, time after time.
                        if self.bad_creates > 0 && !self.is_used_up(next) && !self.wait().await {
                            return (self.pending(), None);
                        }
                    }
                    step = next;
                }
                Verdict::Pause => {
                    if !self.refused().await {
                        return (self.pending(), None);
                    }
                }
                Verdict::Retry(next) => {
                    self.trouble = trouble_of(&reply);
                    self.count(step);
                    if !self.wait().await {
                        return (self.pending(), None);
                    }
                    step = next;
                }
            }
        }
    }

    /// One request and its reply.
    async fn ask(&mut self, step: Step, exchange: impl Future<Output = Reply>) -> Asked {
        let sender = self.sender;
        let kind = match step {
            Step::Create | Step::Update => Kind::Write { fresh: !self.write_failed },
            Step::Get { .. } => Kind::Read,
        };
        let Some(pass) = sender.enter(kind).await else { return Asked::Ended };
        if pass.failed_probes() > self.failed_probes {
            self.refund();
        }
        if self.is_used_up(step) {
            return Asked::UsedUp;
        }
        self.failed_probes = pass.failed_probes();
        self.requests += 1;
        sender.requests.fetch_add(1, Relaxed);
        sender.retries.fetch_add(u64::from(self.again), Relaxed);
        let before = self.past;
        if step.writes() {
            (self.past.ours, self.past.in_doubt, self.past.sent) = (true, true, true);
        }
        let reply = tokio::select! {
            biased;
            reply = self.in_time(exchange, pass.probe()) => reply,
            () = sender.reached(Phase::Abandoning) => return Asked::Ended,
        };
        let was_probe = pass.probe().is_some();
        let health = sender.leave(pass, &reply);
        if was_probe {
            info!(back = health == Health::Good, "tried whether the API creates customers again");
        }
        self.write_failed |= step.writes() && health == Health::Bad;
        if health != Health::Throttled {
            self.refusals = 0;
        }
        if !may_have_landed(&reply) {
            self.past = before;
        }
        Asked::Reply(reply)
    }

    async fn in_time(&self, exchange: impl Future<Output = Reply>, probe: Option<Probe>) -> Reply {
        if probe.is_some() { self.sender.within_patience(exchange).await } else { exchange.await }
    }

    /// Refused for the rate; false if the run ends meanwhile. Everyone waits for that as a rule, and then the row need
    /// not. It does where nobody else waits, and where it is refused time after time.
    async fn refused(&mut self) -> bool {
        self.again = true;
        self.refusals += 1;
        let waits = self.refusals > REFUSALS || self.sender.throttle.pause_left().is_zero();
        !waits || self.wait().await
    }

    fn count(&mut self, step: Step) {
        match step {
            Step::Create | Step::Update => self.bad_creates += 1,
            Step::Get { .. } => self.bad_gets += 1,
        }
        self.refundable = Some(step);
    }

    /// The last failure was the outage's, not the row's.
    fn refund(&mut self) {
        match self.refundable.take() {
            Some(Step::Create | Step::Update) => self.bad_creates -= 1,
            Some(Step::Get { .. }) => self.bad_gets -= 1,
            None => {}
        }
    }

    fn is_used_up(&self, next: Step) -> bool {
        let bad = match next {
            Step::Create | Step::Update => self.bad_creates,
            Step::Get { .. } => self.bad_gets,
        };
        bad >= self.sender.policy.max_attempts
    }

    /// Waits without a slot; false if the run ends meanwhile.
    async fn wait(&mut self) -> bool {
        let sender = self.sender;
        let policy = &sender.policy;
        let backoff = self.backoff.get_or_insert_with(|| intervals(policy.retry_initial, policy.retry_max));
        let interval = backoff.next_backoff().unwrap_or(policy.retry_max);
        self.again = true;
        self.slot = None;
        sender.retrying.fetch_add(1, Relaxed);
        let goes_on = self.wait_for_slot(sender.jittered(interval)).await;
        sender.retrying.fetch_sub(1, Relaxed);
        goes_on
    }

    async fn wait_for_slot(&mut self, delay: Duration) -> bool {
        let sender = self.sender;
        tokio::select! {
            () = sender.reached(Phase::Draining) => return false,
            () = sleep(delay) => {}
        }
        tokio::select! {
            () = sender.reached(Phase::Draining) => false,
            slot = sender.throttle.wanted_slot() => {
                self.slot = Some(slot);
                true
            }
        }
    }

    fn pending(&self) -> Ending {
        Ending::Pending { trouble: self.trouble.clone(), in_doubt: self.past.in_doubt }
    }
}

/// The delays' upper bounds: doubling from the first to the longest. The jitter is ours, since it
/// must come from the run's seed.
fn intervals(first: Duration, longest: Duration) -> ExponentialBackoff {
    ExponentialBackoff {
        current_interval: first.min(longest),
        initial_interval: first.min(longest),
        max_interval: longest,
        multiplier: 2.0,
        randomization_factor: 0.0,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_double_up_to_the_longest() {
        let mut backoff = intervals(Duration::from_millis(500), Duration::from_secs(3));
        let seen: Vec<_> = (0..5).filter_map(|_| backoff.next_backoff()).map(|d| d.as_millis()).collect();
        assert_eq!(seen, [500, 1000, 2000, 3000, 3000]);
        let mut short = intervals(Duration::from_secs(5), Duration::from_secs(1));
        assert_eq!(short.next_backoff(), Some(Duration::from_secs(1)));
    }
}
