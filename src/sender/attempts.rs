//! One row on its way: its attempts, what they have used up, and how it waits.
//!
//! What a reply means is `verdict`'s to say; here the steps follow one another until the row's story is complete. A
//! row that waits holds no slot. This is the one place where `backoff` is used, as the policy of delays.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use backoff::{ExponentialBackoff, backoff::Backoff};
use tokio::time::sleep;
use tracing::info;

use super::{
    Halt, OnExisting, Phase, Sender,
    verdict::{Past, Step, Verdict, health, may_have_landed, trouble_of, verdict},
};
use crate::{
    api::{Reply, Whose},
    ledger::{ApiCustomer, Claim, Operation, RowError, RowResult, UpdateResult},
    throttle::{Health, Kind, Pass, Probe, Slot},
};

/// A row that is refused for the rate more often than this waits by itself, whatever the others do.
const REFUSALS: u32 = 2;

/// One row on its way.
pub(super) struct Walk<'a> {
    sender: &'a Sender,
    pub(super) slot: Option<Slot>,
    past: Past,
    pub(super) requests: u32,
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
    /// The customer that was there with other fields, while its Update is under way.
    amending: Option<ApiCustomer>,
    pub(super) trouble: RowError,
}

/// How asking the API went.
pub(super) enum Asked {
    Reply(Reply),
    /// The row has no attempts left.
    UsedUp,
    /// The run ends.
    Ended,
}

impl<'a> Walk<'a> {
    pub(super) fn new(sender: &'a Sender, slot: Slot, past: Past) -> Walk<'a> {
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
            amending: None,
            trouble: RowError::default(),
        }
    }

    pub(super) async fn run(&mut self, claim: &Claim) -> (RowResult, Option<Halt>) {
        let mut step = match claim.operation() {
            Operation::Create => Step::Create,
            Operation::Confirm => Step::Get { told: false },
            Operation::Update => Step::Update,
        };
        loop {
            let located = self.amending.clone();
            let reply = match self.ask(step, self.sender.exchange(step, claim, located.as_ref())).await {
                Asked::Reply(reply) => reply,
                Asked::Ended => return (self.pending(), None),
                Asked::UsedUp => return (self.used_up(step, claim), None),
            };
            match verdict(step, self.past, &reply) {
                Verdict::Settle(RowResult::Existing(located)) if self.amends(claim, &located) => {
                    (self.amending, self.bad_creates) = (Some(located), 0);
                    step = Step::Update;
                }
                Verdict::Settle(ending) => return (self.ended(ending), None),
                Verdict::Halt(halt) => {
                    self.trouble = trouble_of(&reply);
                    return (self.pending(), Some(halt));
                }
                Verdict::Next(Step::Create) if claim.customer().is_none() => {
                    let message = Some("an earlier run ended before it was created".into());
                    let trouble = RowError { message, ..RowError::default() };
                    return (RowResult::Pending { trouble, in_doubt: false }, None);
                }
                Verdict::Next(next) => {
                    if next == Step::Create && !self.is_absent().await {
                        return (self.pending(), None);
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

    /// Get has answered that nothing of ours is there; false if the run ends before the row may go on.
    async fn is_absent(&mut self) -> bool {
        (self.past.in_doubt, self.past.was_absent) = (false, true);
        (self.bad_gets, self.again) = (0, true);
        // A server may close each connection behind its answer and not say so: a Create right behind the Get would
        // be lost the same way, time after time. One that was answered has waited already.
        let was_lost = self.bad_creates > 0 && self.trouble.http_status.is_none();
        !was_lost || self.is_used_up(Step::Create) || self.wait().await
    }

    /// Whether an Update is to be sent for a customer that was there. Not where the API spells the reference in
    /// another way: the row may be one of two that it does not tell apart. Nor where it may be another row's customer.
    fn amends(&self, claim: &Claim, located: &ApiCustomer) -> bool {
        self.sender.policy.existing == OnExisting::Update
            && located.api_reference.is_none()
            && !claim.may_belong_to_another_row()
            && claim.customer().is_some_and(|customer| !located.differing(customer.fingerprint).is_empty())
    }

    fn used_up(&mut self, step: Step, claim: &Claim) -> RowResult {
        // An update that may have landed is done again and does no harm. A Create of ours may be what the API means
        // by a customer that exists and that it does not find.
        let is_in_doubt = match step {
            Step::Update => false,
            Step::Get { told: true } => self.past.ours,
            Step::Create | Step::Get { told: false } => self.past.in_doubt,
        };
        if is_in_doubt {
            self.past.in_doubt = true;
            return self.pending();
        }
        self.sender.set_aside(claim.line(), &self.trouble);
        self.ended(RowResult::Failed(self.trouble.clone()))
    }

    /// The row's end; that of its Update, where it exists with other fields.
    fn ended(&mut self, ending: RowResult) -> RowResult {
        let Some(located) = self.amending.take() else { return ending };
        let to = match ending {
            RowResult::Rejected(trouble) => UpdateResult::Rejected(trouble),
            RowResult::Failed(trouble) => UpdateResult::Failed(trouble),
            RowResult::Pending { trouble, .. } => UpdateResult::Pending(trouble),
            _ => UpdateResult::Updated,
        };
        RowResult::ExistingThenUpdate(located, to)
    }

    /// What is known besides the last reply.
    pub(super) fn past(&self) -> Past {
        self.past
    }

    /// Whether a Create of ours may have landed at some time, whatever was answered since.
    pub(super) fn may_have_landed(&self) -> bool {
        self.past.ours
    }

    /// One request and its reply.
    pub(super) async fn ask(&mut self, step: Step, exchange: impl Future<Output = Reply>) -> Asked {
        let sender = self.sender;
        let kind = match step {
            Step::Create | Step::Update => Kind::Write { fresh: !self.write_failed },
            Step::Get { .. } => Kind::Read,
        };
        let Some(pass) = self.enter(kind).await else { return Asked::Ended };
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
            (self.past.in_doubt, self.past.sent) = (true, true);
            self.past.ours |= step == Step::Create;
        }
        let reply = tokio::select! {
            biased;
            reply = self.in_time(exchange, pass.probe()) => reply,
            () = sender.reached(Phase::Abandoning) => return Asked::Ended,
        };
        let was_probe = pass.probe().is_some();
        sender.address.note(step, &reply);
        self.past.api_was_heard = sender.address.api_was_heard();
        let health = sender.leave(pass, &reply, self.health(step, &reply));
        if was_probe {
            info!(back = health == Health::Good, "tried whether the API creates customers again");
        }
        self.write_failed |= step.writes() && health == Health::Bad;
        if health != Health::Throttled {
            self.refusals = 0;
        }
        if step.writes() && !may_have_landed(&reply) {
            self.past = Past { api_was_heard: self.past.api_was_heard, ..before };
        }
        Asked::Reply(reply)
    }

    /// Waits until the row's request may leave; `None` if the run ends first. While writes are away, rows that have not
    /// failed try first: one that has waits without a slot, or such rows would hold all of them.
    async fn enter(&mut self, kind: Kind) -> Option<Pass<'a>> {
        let sender = self.sender;
        while kind == (Kind::Write { fresh: false }) && sender.throttle.are_writes_away() {
            self.slot = None;
            tokio::select! {
                () = sender.reached(Phase::Draining) => return None,
                () = sender.throttle.until_turn(kind) => {}
            }
            if !self.wait_for_slot(Duration::ZERO).await {
                return None;
            }
            if let Some(pass) = sender.try_turn(kind).await? {
                return Some(pass);
            }
        }
        sender.enter(kind).await
    }

    /// What the reply says of the service: a Get that finds what this run has sent shows that Creates work too.
    fn health(&self, step: Step, reply: &Reply) -> Health {
        let is_there = matches!(reply, Reply::Customer(found) if matches!(found.whose, Whose::Asked | Whose::Respelled(_)));
        let has_landed = !step.writes() && self.past.in_doubt && self.past.sent && is_there;
        if has_landed { Health::WriteLanded } else { health(reply) }
    }

    async fn in_time(&self, exchange: impl Future<Output = Reply>, probe: Option<Probe>) -> Reply {
        if probe.is_some() { self.sender.within_patience(exchange).await } else { exchange.await }
    }

    /// Refused for the rate; false if the run ends meanwhile. Everyone waits for that as a rule, and then the row need
    /// not. It does where nobody else waits, and where it is refused time after time.
    pub(super) async fn refused(&mut self) -> bool {
        self.again = true;
        self.refusals += 1;
        let waits = self.refusals > REFUSALS || self.sender.throttle.pause_left().is_zero();
        !waits || self.wait().await
    }

    pub(super) fn count(&mut self, step: Step) {
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
    pub(super) async fn wait(&mut self) -> bool {
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

    fn pending(&mut self) -> RowResult {
        self.ended(RowResult::Pending { trouble: self.trouble.clone(), in_doubt: self.past.in_doubt })
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
