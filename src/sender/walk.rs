//! One row on its way: its attempts, what they have used up, and how it waits.
//!
//! What a reply means is `verdict`'s to say; here the steps follow one another until the row's story is complete. A
//! row that waits holds no slot. This is the one place where `backoff` is used, as the policy of delays.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use backoff::{ExponentialBackoff, backoff::Backoff};
use tokio::time::sleep;
use tracing::info;

use super::{
    Halt, Phase, Sender, Slot,
    gate::{Health, Kind, Probe},
    verdict::{Past, Step, Verdict, may_have_landed, trouble_of, verdict},
};
use crate::{
    api::Reply,
    ledger::{Claim, Ending, Errand, Trouble},
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
    pub(super) trouble: Trouble,
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
            trouble: Trouble::default(),
        }
    }

    pub(super) async fn run(&mut self, claim: &Claim) -> (Ending, Option<Halt>) {
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
    pub(super) async fn ask(&mut self, step: Step, exchange: impl Future<Output = Reply>) -> Asked {
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
