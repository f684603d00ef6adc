//! The attempts of one row: sends its requests in order, counts the attempts used up, delays the next one, and settles
//! the claim.
//!
//! `verdict` decides what a reply means; this module executes the steps until the row has an outcome
//! ([`Attempts::settle`]). A reply passes three stages: it is classified, reported to the throttle with its permit, and
//! judged by the table of `verdict`. A row that waits for its next attempt holds no slot. Only this module uses
//! `backoff`, which computes the delays.

use std::{
    sync::{PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use backoff::{ExponentialBackoff, backoff::Backoff};
use tokio::time::sleep;
use tracing::{info, warn};

use super::{
    ExistingPolicy, Halt, LastFailure, SendResult, Sender, ShutdownPhase,
    throttled_series::ThrottledSeries,
    verdict::{
        Classification, CreateSent, History, Step, Verdict, cause, classify, describe, row_error, verdict,
    },
};
use crate::{
    api::{Exchange, KeyNumber, KeyRenewal, Reply, Whose},
    customer::FieldSet,
    ledger::{ApiCustomer, Claim, Effort, InsertResult, Operation, RowError, RowResult, UpdateResult},
    throttle::{Permit, Probe, RequestClass, ServiceSignal, Slot},
};

/// After this many throttled replies in succession a row waits by itself, in addition to the shared pause.
const THROTTLED_WITHOUT_DELAY_MAX: u32 = 2;

/// Maximum number of log lines about rows that an intermediary refused.
const INTERMEDIARY_LOGGED_MAX: u64 = 20;

/// The attempts of one row.
pub(super) struct Attempts<'a> {
    sender: &'a Sender,
    /// `None` while the row waits.
    slot: Option<Slot>,
    pub(super) history: History,
    requests: u32,
    budget: Budget,
    /// The throttled replies since the last other reply, if any.
    throttled: Option<ThrottledSeries>,
    /// Number of failed probes of an outage when the last request was sent.
    failed_probes: u64,
    write_failed: bool,
    /// Whether the next request repeats a step.
    is_retry: bool,
    backoff: Option<ExponentialBackoff>,
    /// The customer that existed with other fields, while its Update is being sent.
    updating: Option<ApiCustomer>,
    last_error: RowError,
    /// The key of the last request.
    key: KeyNumber,
}

/// How an attempt ended.
pub(super) enum AttemptResult {
    Reply(Reply, Classification),
    /// The row has no attempts left.
    Exhausted,
}

/// The run is ending, and so does the sending of the row.
pub(super) struct RunEnded;

/// Failed attempts, counted separately for writes and Gets: each has the same maximum.
struct Budget {
    max_attempts: u32,
    failed_writes: u32,
    failed_gets: u32,
    /// The failure to be refunded if it turns out to belong to an outage.
    refundable: Option<Step>,
}

impl Budget {
    fn new(max_attempts: u32) -> Budget {
        Budget { max_attempts, failed_writes: 0, failed_gets: 0, refundable: None }
    }

    fn charge(&mut self, step: Step) {
        *self.failed(step) += 1;
        self.refundable = Some(step);
    }

    /// Refunds the last failure, because it belongs to an outage, not to the row.
    fn refund_last(&mut self) {
        if let Some(step) = self.refundable.take() {
            *self.failed(step) -= 1;
        }
    }

    /// Restores all attempts of this kind; nothing remains to be refunded then.
    fn renew(&mut self, step: Step) {
        *self.failed(step) = 0;
        self.refundable = self.refundable.filter(|refundable| refundable.is_write() != step.is_write());
    }

    fn is_exhausted(&mut self, next: Step) -> bool {
        *self.failed(next) >= self.max_attempts
    }

    fn failed(&mut self, step: Step) -> &mut u32 {
        if step.is_write() { &mut self.failed_writes } else { &mut self.failed_gets }
    }
}

impl<'a> Attempts<'a> {
    pub(super) fn new(sender: &'a Sender, slot: Slot, history: History) -> Attempts<'a> {
        Attempts {
            sender,
            slot: Some(slot),
            history,
            requests: 0,
            budget: Budget::new(sender.policy.max_attempts),
            throttled: None,
            failed_probes: 0,
            write_failed: false,
            is_retry: false,
            backoff: None,
            updating: None,
            last_error: RowError::default(),
            key: KeyNumber::default(),
        }
    }

    /// Sends requests until the row has an outcome, or stays pending because the run is ending, and settles its claim.
    /// Returns the slot if the last request still holds it.
    pub(super) async fn settle(sender: &Sender, claim: Claim, slot: Slot) -> (SendResult, Option<Slot>) {
        let history = History {
            create: if claim.may_have_landed() { CreateSent::Earlier } else { CreateSent::Never },
            in_doubt: matches!(claim.operation(), Operation::Confirm(_)),
            first_claimed_at: claim.claimed_at(),
            ..History::default()
        };
        let mut attempts = Attempts::new(sender, slot, history);
        let (result, halt) = match attempts.until_outcome(&claim).await {
            Ok(outcome) => outcome,
            Err(RunEnded) => (attempts.pending(&claim), None),
        };
        let may_have_landed = attempts.history.may_be_ours();
        let effort = Effort { requests: attempts.requests, may_have_landed };
        (SendResult { settlement: claim.settle(result, effort), halt }, attempts.slot)
    }

    async fn until_outcome(&mut self, claim: &Claim) -> Result<(RowResult, Option<Halt>), RunEnded> {
        let mut step = match claim.operation() {
            Operation::Create { .. } => Step::Create,
            Operation::Confirm(_) => Step::Get { already_exists: false },
            Operation::Update(_) => Step::Update,
        };
        loop {
            let (reply, classification) = match self.attempt(step, claim).await? {
                AttemptResult::Reply(reply, classification) => (reply, classification),
                AttemptResult::Exhausted => return Ok((self.exhausted(step, claim), None)),
            };
            match verdict(step, self.history, &reply, classification) {
                Verdict::Settle(RowResult::Insert(InsertResult::Existing(located)))
                    if self.is_to_be_updated(claim, &located) =>
                {
                    self.updating = Some(located);
                    self.budget.renew(Step::Update);
                    step = Step::Update;
                }
                Verdict::Settle(result) => return Ok((self.settled(result), None)),
                Verdict::Halt(Halt::Credentials(_)) if self.has_another_key() => self.is_retry = true,
                Verdict::Halt(halt) => {
                    self.last_error = row_error(&reply);
                    return Ok((self.pending(claim), Some(halt)));
                }
                Verdict::Next(Step::Create) if claim.customer().is_none() => {
                    let message = Some("an earlier run ended before it was created".into());
                    let error = RowError { message, ..RowError::default() };
                    return Ok((RowResult::Insert(InsertResult::Pending { error, in_doubt: false }), None));
                }
                Verdict::Next(next) => {
                    if next == Step::Create {
                        self.on_absent().await?;
                    }
                    step = next;
                }
                Verdict::Pause => self.after_throttled(step, &reply).await?,
                Verdict::Retry(next) => {
                    self.after_failure(step, &reply).await?;
                    step = next;
                }
            }
        }
    }

    /// Whether there is a key other than the refused one, with which the same step may succeed.
    pub(super) fn has_another_key(&self) -> bool {
        let renewal = self.sender.api.renew_key(self.key);
        if renewal == KeyRenewal::Renewed {
            warn!("the API refused the key, and its file has another one now: the run continues with that");
        }
        renewal != KeyRenewal::None
    }

    /// Handles that Get has found no customer of ours, so that Create comes next.
    async fn on_absent(&mut self) -> Result<(), RunEnded> {
        self.history.in_doubt = false;
        self.history.was_absent = true;
        self.budget.renew(Step::Get { already_exists: false });
        self.is_retry = true;
        // A server may close each connection after its response without saying so: a Create right after the Get would
        // then be lost every time. A Create that got a response has already waited.
        let was_lost = self.budget.failed_writes > 0 && self.last_error.http_status.is_none();
        if was_lost && !self.budget.is_exhausted(Step::Create) { self.back_off().await } else { Ok(()) }
    }

    /// Whether to send an Update for a customer that already existed. Not if the API spells the reference
    /// differently, because the row may be one of two that the API does not distinguish; nor if the customer may
    /// belong to another row.
    fn is_to_be_updated(&self, claim: &Claim, located: &ApiCustomer) -> bool {
        self.sender.policy.existing == ExistingPolicy::Update
            && located.api_reference.is_none()
            && !claim.may_belong_to_another_row()
            && claim.customer().is_some_and(|customer| !located.differing(customer.fingerprint).is_empty())
    }

    fn exhausted(&mut self, step: Step, claim: &Claim) -> RowResult {
        // An Update that may have landed is idempotent. If the API says that the customer exists, it may be our own
        // Create's, even though Get does not find it.
        let in_doubt = match step {
            Step::Update => false,
            Step::Get { already_exists: true } => self.history.may_be_ours(),
            Step::Create | Step::Get { already_exists: false } => self.history.in_doubt,
        };
        if in_doubt {
            self.history.in_doubt = true;
            return self.pending(claim);
        }
        self.log_intermediary(claim);
        let error = self.last_error.clone();
        self.settled(match step {
            Step::Update => RowResult::Update(UpdateResult::Failed(error)),
            Step::Create | Step::Get { .. } => RowResult::Insert(InsertResult::Failed(error)),
        })
    }

    /// Logs a failed row if its last response came from an intermediary, because the user has to act on that.
    fn log_intermediary(&self, claim: &Claim) {
        let error = &self.last_error;
        if error.code.as_deref() != Some(RowError::NOT_THE_API) {
            return;
        }
        if self.sender.refused_by_intermediary.fetch_add(1, Relaxed) < INTERMEDIARY_LOGGED_MAX {
            let (run, line, status) = (claim.run().0, claim.line(), error.http_status);
            warn!(run, line, status, "an intermediary refuses this row; the next run sends it again");
        }
    }

    /// The result of the row, with that of its Update if the customer existed with other fields.
    fn settled(&mut self, result: RowResult) -> RowResult {
        match (result, self.updating.take()) {
            (RowResult::Update(result), Some(located)) => {
                let result = match result {
                    UpdateResult::Pending { error, .. } => {
                        UpdateResult::Pending { error, may_have_landed: true }
                    }
                    result => result,
                };
                RowResult::Insert(InsertResult::ExistingThenUpdate(located, result))
            }
            (result, _) => result,
        }
    }

    fn pending(&mut self, claim: &Claim) -> RowResult {
        let (error, in_doubt) = (self.last_error.clone(), self.history.in_doubt);
        let is_update = self.updating.is_some() || matches!(claim.operation(), Operation::Update(_));
        self.settled(if is_update {
            RowResult::Update(UpdateResult::Pending { error, may_have_landed: in_doubt })
        } else {
            RowResult::Insert(InsertResult::Pending { error, in_doubt })
        })
    }

    /// Sends the request of a step for the claimed row.
    async fn attempt(&mut self, step: Step, claim: &Claim) -> Result<AttemptResult, RunEnded> {
        let api = &self.sender.api;
        // The customer that Get found in this run.
        let located = self.updating.clone();
        let target = match (claim.operation(), &located) {
            (Operation::Update(update), _) => Some((&*update.customer_id, update.emptied)),
            (_, Some(located)) => Some((&*located.customer_id, FieldSet::default())),
            (Operation::Create { .. } | Operation::Confirm(_), None) => None,
        };
        let exchange = async |timeout| match (step, claim.customer(), target) {
            (Step::Create, Some(customer), _) => api.create(customer, timeout).await,
            (Step::Update, Some(customer), Some((customer_id, emptied))) => {
                api.update(customer, customer_id, emptied, timeout).await
            }
            // Without fields to send, or a customer to update, only a lookup is possible.
            (Step::Get { .. } | Step::Create | Step::Update, ..) => api.get(claim.reference(), timeout).await,
        };
        self.request(step, exchange).await
    }

    /// Sends one request, with a timeout if it is a probe.
    pub(super) async fn request<E: Future<Output = Exchange>>(
        &mut self,
        step: Step,
        exchange: impl FnOnce(Option<Duration>) -> E,
    ) -> Result<AttemptResult, RunEnded> {
        let sender = self.sender;
        let class = match step {
            Step::Get { .. } => RequestClass::Read,
            Step::Create | Step::Update if self.write_failed => RequestClass::RepeatedWrite,
            Step::Create | Step::Update => RequestClass::FirstWrite,
        };
        let permit = self.permit(class).await?;
        if permit.failed_probes() > self.failed_probes {
            self.budget.refund_last();
        }
        if self.budget.is_exhausted(step) {
            return Ok(AttemptResult::Exhausted);
        }
        self.failed_probes = permit.failed_probes();
        self.requests += 1;
        sender.retries.fetch_add(u64::from(self.is_retry), Relaxed);
        let before = self.history;
        self.history.on_send(step);
        self.key = sender.api.key_number();
        let timeout = permit.probe().map(|_| sender.throttle.probe_timeout());
        let exchange = tokio::select! {
            biased;
            exchange = exchange(timeout) => exchange,
            () = sender.reached(ShutdownPhase::Aborting) => return Err(RunEnded),
        };

        let classification = self.observe_reply(step, &exchange.reply, before);
        let is_probe = permit.probe().is_some();
        self.report(permit, &exchange, classification);
        if is_probe {
            info!(recovered = classification.is_success(), "outage probe of writes");
        }
        Ok(AttemptResult::Reply(exchange.reply, classification))
    }

    /// Classifies a reply and updates the row's history. `before` is the history before the request.
    fn observe_reply(&mut self, step: Step, reply: &Reply, before: History) -> Classification {
        let mut classification = classify(reply);
        if step.is_write() && !classification.may_have_landed {
            self.history = before;
        }
        self.sender.endpoint.observe(step, reply);
        self.history.api_has_answered = self.sender.endpoint.api_has_answered();
        // If Get finds what this run has sent, Creates work.
        let has_landed = !step.is_write()
            && self.history.in_doubt
            && self.history.create == CreateSent::Now
            && matches!(reply, Reply::Customer(found) if matches!(found.whose, Whose::Requested | Whose::Respelled(_)));
        if has_landed {
            classification.service = ServiceSignal::WriteConfirmed;
        }
        self.write_failed |= step.is_write() && classification.service == ServiceSignal::Down;
        if !classification.is_throttled() {
            self.throttled = None;
            self.sender.replies.on_accepted();
        }
        classification
    }

    /// Counts a reply, and reports it to the throttle.
    fn report(&self, permit: Permit<'_>, exchange: &Exchange, classification: Classification) {
        let (sender, reply) = (self.sender, &exchange.reply);
        if !classification.is_success() {
            let failure = LastFailure { description: describe(reply), cause: cause(reply).into() };
            *sender.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        }
        sender.throttled.fetch_add(u64::from(classification.is_throttled()), Relaxed);
        if let Some(quota) = exchange.quota {
            permit.report_quota(quota);
        }
        permit.report(classification.service, classification.rate, exchange.latency);
    }

    /// Waits for a permit. While the circuit of writes is open, rows that have not failed probe first; a row that has
    /// failed waits without a slot, because such rows could occupy all slots.
    async fn permit(&mut self, class: RequestClass) -> Result<Permit<'a>, RunEnded> {
        let sender = self.sender;
        while class == RequestClass::RepeatedWrite && sender.throttle.are_only_writes_open() {
            self.slot = None;
            tokio::select! {
                () = sender.reached(ShutdownPhase::Draining) => return Err(RunEnded),
                () = sender.throttle.wait_for_breaker(class) => {}
            }
            self.wait_for_slot(Duration::ZERO).await?;
            if let Some(permit) = self.permit_at_once(class).await? {
                return Ok(permit);
            }
        }
        self.permit_in_queue(class).await
    }

    async fn permit_in_queue(&self, class: RequestClass) -> Result<Permit<'a>, RunEnded> {
        let sender = self.sender;
        loop {
            // Usually there is nothing to wait for; this shortcut saves a microsecond.
            let at_once = if *sender.shutdown.borrow() < ShutdownPhase::Draining {
                sender.throttle.try_acquire(class)
            } else {
                None
            };
            let permit = match at_once {
                Some(permit) => permit,
                None => tokio::select! {
                    biased;
                    // First, so that no row is sent after the shutdown has begun.
                    () = sender.reached(ShutdownPhase::Draining) => return Err(RunEnded),
                    permit = sender.throttle.acquire(class) => permit,
                },
            };
            if let Some(permit) = self.probe_service(permit).await? {
                return Ok(permit);
            }
        }
    }

    /// As `permit`, with a single wait in the queue; no permit if another row was quicker.
    async fn permit_at_once(&self, class: RequestClass) -> Result<Option<Permit<'a>>, RunEnded> {
        let sender = self.sender;
        let permit = tokio::select! {
            biased;
            () = sender.reached(ShutdownPhase::Draining) => return Err(RunEnded),
            permit = sender.throttle.wait_in_queue(class) => permit,
        };
        match permit {
            Some(permit) => self.probe_service(permit).await,
            None => Ok(None),
        }
    }

    /// Returns the permit, if it is one for the row. A permit for a probe of the service is used here, and the row
    /// continues to wait. The probe looks up a customer that no merchant has: any reply shows that the service works,
    /// whereas a row that fails in any case would show nothing.
    async fn probe_service(&self, permit: Permit<'a>) -> Result<Option<Permit<'a>>, RunEnded> {
        if permit.probe() != Some(Probe::Service) {
            return Ok(Some(permit));
        }
        let sender = self.sender;
        let timeout = Some(sender.throttle.probe_timeout());
        let exchange = tokio::select! {
            biased;
            exchange = sender.api.get(&sender.probe_reference, timeout) => exchange,
            () = sender.reached(ShutdownPhase::Draining) => return Err(RunEnded),
        };
        let classification = classify(&exchange.reply);
        sender.endpoint.observe(Step::Get { already_exists: false }, &exchange.reply);
        self.report(permit, &exchange, classification);
        info!(recovered = classification.is_success(), "outage probe of the service");
        Ok(None)
    }

    /// Handles a 429. Normally the shared pause delays every request, so the row does not wait by itself. It does if
    /// no shared pause is in effect, or after [`THROTTLED_WITHOUT_DELAY_MAX`] throttled replies in succession. The reply
    /// costs an attempt only if the row alone is throttled.
    pub(super) async fn after_throttled(&mut self, step: Step, reply: &Reply) -> Result<(), RunEnded> {
        let sender = self.sender;
        self.is_retry = true;
        self.last_error = row_error(reply);
        let series = self.throttled.get_or_insert_with(|| ThrottledSeries::new(&sender.replies));
        series.on_throttled(&sender.replies);
        if series.concerns_one_row(&sender.replies) {
            self.budget.charge(step);
        }
        let has_to_wait =
            series.length > THROTTLED_WITHOUT_DELAY_MAX || sender.throttle.pause_left().is_zero();
        if has_to_wait { self.back_off().await } else { Ok(()) }
    }

    /// Counts the failed attempt and waits for the next one.
    pub(super) async fn after_failure(&mut self, step: Step, reply: &Reply) -> Result<(), RunEnded> {
        self.last_error = row_error(reply);
        self.budget.charge(step);
        self.back_off().await
    }

    /// Waits without a slot.
    async fn back_off(&mut self) -> Result<(), RunEnded> {
        let sender = self.sender;
        let policy = &sender.policy;
        let backoff = self.backoff.get_or_insert_with(|| intervals(policy.retry_initial, policy.retry_max));
        let interval = backoff.next_backoff().unwrap_or(policy.retry_max);
        self.is_retry = true;
        self.slot = None;
        sender.retrying.fetch_add(1, Relaxed);
        let result = self.wait_for_slot(sender.jittered(interval)).await;
        sender.retrying.fetch_sub(1, Relaxed);
        result
    }

    async fn wait_for_slot(&mut self, delay: Duration) -> Result<(), RunEnded> {
        let sender = self.sender;
        tokio::select! {
            () = sender.reached(ShutdownPhase::Draining) => return Err(RunEnded),
            () = sleep(delay) => {}
        }
        tokio::select! {
            () = sender.reached(ShutdownPhase::Draining) => Err(RunEnded),
            slot = sender.throttle.slot_for_retry() => {
                self.slot = Some(slot);
                Ok(())
            }
        }
    }
}

/// The upper bounds of the delays: doubling from the first to the longest. The sender adds the jitter, because it is
/// derived from the run's seed.
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
    fn an_attempt_is_given_back_once_and_never_after_a_renewal() {
        let get = Step::Get { already_exists: true };
        let mut budget = Budget::new(2);
        budget.charge(Step::Create);
        budget.charge(Step::Update);
        assert!(budget.is_exhausted(Step::Create) && !budget.is_exhausted(get));
        budget.refund_last();
        budget.refund_last();
        assert_eq!((budget.failed_writes, budget.failed_gets), (1, 0));
        budget.charge(get);
        budget.renew(Step::Get { already_exists: false });
        budget.refund_last();
        assert_eq!((budget.failed_writes, budget.failed_gets), (1, 0));
        budget.charge(Step::Create);
        budget.renew(get);
        budget.refund_last();
        assert_eq!((budget.failed_writes, budget.failed_gets), (1, 0));
    }

    #[test]
    fn intervals_double_up_to_the_longest() {
        let mut backoff = intervals(Duration::from_millis(500), Duration::from_secs(3));
        let seen: Vec<_> = (0..5).filter_map(|_| backoff.next_backoff()).map(|d| d.as_millis()).collect();
        assert_eq!(seen, [500, 1000, 2000, 3000, 3000]);
        let mut short = intervals(Duration::from_secs(5), Duration::from_secs(1));
        assert_eq!(short.next_backoff(), Some(Duration::from_secs(1)));
    }
}
