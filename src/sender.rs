//! One claimed row → one settlement: its attempts, and what each reply means.
//!
//! `verdict` is the heart: a pure table from (step, reply) to what comes next. Around it,
//! [`Sender::send`] walks one row through slot, throttle and API until the table says that the
//! row's story is complete.
//!
//! The rule that everything here serves: Create is not idempotent, so after a Create that may
//! have landed nothing is sent for the row but Get, until Get has answered. A row is `failed` only
//! when it surely was not created; where that is not known it stays `pending`, in doubt, and the
//! next run asks.
//!
//! Never touches the ledger (a settlement is a value until the loop commits it) and never logs
//! more of a row than its line.

mod throttle;

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use backoff::{ExponentialBackoff, backoff::Backoff};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{sync::watch, time::sleep};
use tracing::{debug, info, warn};

use self::throttle::{Health, PAUSE_DEFAULT, PAUSE_MAX, Pass};
pub use self::throttle::{Rate, Slot, Throttle};
use crate::{
    api::{Answer, Api, Reply},
    customer::Reference,
    ledger::{Claim, Ending, Errand, Figures, Settlement, Trouble},
};

/// A reference that no merchant has, to probe with.
const NOBODY: &str = "customer-import-probe-of-nobody";

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

/// Why no row can succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// 401, or a code that says so.
    Credentials(String),
    /// 403: this machine's address, or what the key may do.
    Forbidden(String),
    /// A redirect, which is not followed.
    Redirect(u16),
    /// The URL is not the customers API.
    WrongUrl(u16),
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

/// The next request of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    /// `told` means that the API said that the customer exists, so that "not found" is only late.
    Get {
        told: bool,
    },
}

/// What to do after a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Settle(Ending),
    /// Go on at once.
    Next(Step),
    /// Wait, then this step.
    Retry(Step),
    /// Everyone waits, then the same step; costs no attempt.
    Pause(Option<Duration>),
    Halt(Halt),
}

/// What is known of a row besides the reply.
#[derive(Clone, Copy, Debug, Default)]
struct Past {
    /// A Create of ours, in this run or an earlier one, may have landed at some time.
    ours: bool,
    /// One may have landed and Get has not answered since.
    in_doubt: bool,
    /// This run sent the fields.
    sent: bool,
    /// When the row was first claimed; UTC milliseconds.
    claimed_at: i64,
}

/// Sends rows; shared by all of a run.
pub struct Sender {
    api: Api,
    throttle: Throttle,
    policy: Policy,
    jitter: Mutex<StdRng>,
    phase: watch::Sender<Phase>,
    /// The reference of the probe.
    nobody: Reference,
    requests: AtomicU64,
    retries: AtomicU64,
    throttled: AtomicU64,
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
            nobody: Reference::recorded(NOBODY),
            requests: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
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

    /// What was sent so far.
    pub fn figures(&self) -> Figures {
        Figures {
            requests: self.requests.load(Relaxed),
            retries: self.retries.load(Relaxed),
            throttled: self.throttled.load(Relaxed),
        }
    }

    /// Walks one row to its end. The slot is given back while the row waits to be tried again.
    pub async fn send(&self, claim: Claim, slot: Slot) -> Sent {
        let mut walk = Walk {
            sender: self,
            slot: Some(slot),
            past: Past {
                ours: claim.errand() == Errand::Confirm,
                in_doubt: claim.errand() == Errand::Confirm,
                sent: false,
                claimed_at: claim.claimed_at(),
            },
            requests: 0,
            bad_creates: 0,
            bad_gets: 0,
            refundable: None,
            outages: 0,
            again: false,
            backoff: None,
            trouble: Trouble::default(),
        };
        let (ending, halt) = walk.run(&claim).await;
        debug!(
            line = claim.line(),
            outcome = ending.outcome().name(),
            requests = walk.requests,
            "row settled"
        );
        Sent { settlement: claim.settle(ending, walk.requests), halt }
    }

    /// Waits until a row's request may leave; `None` if the run ends first. Whoever is let through to
    /// probe asks after a customer that no merchant has: any answer to that says that the service is
    /// back, while a row that fails whatever happens would say nothing.
    async fn enter(&self) -> Option<Pass<'_>> {
        loop {
            let pass = tokio::select! {
                biased;
                // First, so that a row that could leave at once does not after the run was told to end.
                () = self.reached(Phase::Draining) => return None,
                pass = self.throttle.enter() => pass,
            };
            if !pass.is_probe() {
                return Some(pass);
            }
            self.requests.fetch_add(1, Relaxed);
            let reply = tokio::select! {
                biased;
                reply = self.api.get(&self.nobody) => reply,
                () = self.reached(Phase::Draining) => return None,
            };
            let health = health(&reply);
            info!(back = health == Health::Good, "asked whether the API is back");
            if let Reply::Answer(Answer { status: 429, retry_after, .. }) = reply {
                self.pause_everyone(retry_after);
            }
            pass.leave(health);
        }
    }

    fn pause_everyone(&self, asked: Option<Duration>) {
        // A server that says "now", or whose date is past, has answered 429 all the same.
        let pause = asked.filter(|asked| !asked.is_zero()).unwrap_or(PAUSE_DEFAULT);
        self.throttled.fetch_add(1, Relaxed);
        if self.throttle.pause(pause) {
            let (seconds, capped) = (pause.as_secs_f64(), pause > PAUSE_MAX);
            warn!(seconds, capped, "the API asks to slow down; everyone waits");
        }
    }

    async fn exchange(&self, step: Step, claim: &Claim) -> Reply {
        match step {
            Step::Create => self.api.create(claim.customer()).await,
            Step::Get { .. } => self.api.get(&claim.customer().reference).await,
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
    /// The step whose attempt is given back if its failure turns out to belong to an outage.
    refundable: Option<Step>,
    /// Outages confirmed when the last request began.
    outages: u64,
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

impl Walk<'_> {
    async fn run(&mut self, claim: &Claim) -> (Ending, Option<Halt>) {
        let reference = &claim.customer().reference;
        let mut step = match claim.errand() {
            Errand::Create => Step::Create,
            Errand::Confirm => Step::Get { told: false },
        };
        loop {
            let reply = match self.ask(step, claim).await {
                Asked::Reply(reply) => reply,
                Asked::Ended => return (self.pending(), None),
                Asked::UsedUp if self.past.in_doubt => return (self.pending(), None),
                Asked::UsedUp => return (Ending::Failed(self.trouble.clone()), None),
            };
            match verdict(step, self.past, &reply, reference) {
                Verdict::Settle(ending) => return (ending, None),
                Verdict::Halt(halt) => {
                    self.trouble = trouble_of(&reply);
                    return (self.pending(), Some(halt));
                }
                Verdict::Next(next) => {
                    if next == Step::Create {
                        // Get has answered: nothing of ours is there.
                        (self.past.in_doubt, self.bad_gets, self.again) = (false, 0, true);
                    }
                    step = next;
                }
                Verdict::Pause(asked) => {
                    self.sender.pause_everyone(asked);
                    self.again = true;
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
    async fn ask(&mut self, step: Step, claim: &Claim) -> Asked {
        let sender = self.sender;
        let Some(pass) = sender.enter().await else { return Asked::Ended };
        if pass.outages > self.outages {
            self.refund();
        }
        if self.is_used_up(step) {
            return Asked::UsedUp;
        }
        self.outages = pass.outages;
        self.requests += 1;
        sender.requests.fetch_add(1, Relaxed);
        sender.retries.fetch_add(u64::from(self.again), Relaxed);
        let before = self.past;
        if step == Step::Create {
            (self.past.ours, self.past.in_doubt, self.past.sent) = (true, true, true);
        }
        let reply = tokio::select! {
            biased;
            reply = sender.exchange(step, claim) => reply,
            () = sender.reached(Phase::Abandoning) => return Asked::Ended,
        };
        pass.leave(health(&reply));
        if !may_have_landed(&reply) {
            self.past = before;
        }
        Asked::Reply(reply)
    }

    fn count(&mut self, step: Step) {
        match step {
            Step::Create => self.bad_creates += 1,
            Step::Get { .. } => self.bad_gets += 1,
        }
        self.refundable = Some(step);
    }

    /// The last failure was the outage's, not the row's.
    fn refund(&mut self) {
        match self.refundable.take() {
            Some(Step::Create) => self.bad_creates -= 1,
            Some(Step::Get { .. }) => self.bad_gets -= 1,
            None => {}
        }
    }

    fn is_used_up(&self, next: Step) -> bool {
        let bad = match next {
            Step::Create => self.bad_creates,
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
        tokio::select! {
            () = sender.reached(Phase::Draining) => return false,
            () = sleep(sender.jittered(interval)) => {}
        }
        tokio::select! {
            () = sender.reached(Phase::Draining) => false,
            slot = sender.throttle.slot() => {
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

/// What comes after a reply. The table of the architecture page, line by line.
fn verdict(step: Step, past: Past, reply: &Reply, asked: &Reference) -> Verdict {
    match reply {
        Reply::Customer { customer_id, reference, created_at } => {
            if reference.as_ref().is_some_and(|reference| reference != asked) {
                // About somebody else: never recorded.
                return unclear(step);
            }
            let customer_id = customer_id.clone();
            Verdict::Settle(match step {
                Step::Create => Ending::Created { customer_id, found: false },
                Step::Get { .. } if past.ours && !is_older(*created_at, past.claimed_at) => {
                    Ending::Created { customer_id, found: !past.sent }
                }
                Step::Get { .. } => Ending::Existing { customer_id },
            })
        }
        Reply::NotSent(_) => Verdict::Retry(step),
        Reply::Unknown { .. } => unclear(step),
        Reply::Answer(answer) => verdict_on_answer(step, answer),
    }
}

fn verdict_on_answer(step: Step, answer: &Answer) -> Verdict {
    let is = |codes: &[&str]| {
        answer.code.as_ref().is_some_and(|code| codes.iter().any(|c| c.eq_ignore_ascii_case(code)))
    };
    match (answer.status, step) {
        (429, _) => Verdict::Pause(answer.retry_after),
        (403, _) => Verdict::Halt(Halt::Forbidden(words(answer))),
        (401, _) => Verdict::Halt(Halt::Credentials(words(answer))),
        (300..=399, _) => Verdict::Halt(Halt::Redirect(answer.status)),
        // 408 and 425: the server gave up on, or put off, a request that it may have begun.
        (500.., _) | (408 | 425, _) if !matches!((answer.status, step), (501, Step::Create)) => unclear(step),
        _ if is(&["bad_origin"]) => Verdict::Halt(Halt::Forbidden(words(answer))),
        _ if is(&["access_denied", "unauthorized", "unauthenticated"]) => {
            Verdict::Halt(Halt::Credentials(words(answer)))
        }
        (404 | 405 | 501, Step::Create) => Verdict::Halt(Halt::WrongUrl(answer.status)),
        (_, Step::Create) if is(&["unique", "already_exists"]) => Verdict::Next(Step::Get { told: true }),
        (_, Step::Create) if is(&["duplicate_request"]) => Verdict::Retry(Step::Get { told: false }),
        (_, Step::Create) => Verdict::Settle(Ending::Rejected(trouble_of_answer(answer))),
        (status, Step::Get { told: false })
            if status == 404 || is(&["object_not_found", "resource_not_found"]) =>
        {
            Verdict::Next(Step::Create)
        }
        (_, Step::Get { .. }) => Verdict::Retry(step),
    }
}

/// A reply that does not say what became of the request.
fn unclear(step: Step) -> Verdict {
    Verdict::Retry(match step {
        Step::Create => Step::Get { told: false },
        get => get,
    })
}

/// Whether the customer was there before we first asked for it. The API's times have whole seconds.
fn is_older(created_at: Option<i64>, claimed_at: i64) -> bool {
    created_at.is_some_and(|created_at| created_at < claimed_at - claimed_at.rem_euclid(1000))
}

/// Whether a Create with this reply may have created the customer.
fn may_have_landed(reply: &Reply) -> bool {
    match reply {
        Reply::NotSent(_) => false,
        Reply::Answer(answer) => answer.status >= 500 || matches!(answer.status, 408 | 425),
        Reply::Customer { .. } | Reply::Unknown { .. } => true,
    }
}

fn health(reply: &Reply) -> Health {
    match reply {
        Reply::Answer(answer) if answer.status == 429 => Health::Throttled,
        Reply::Answer(answer) if answer.status >= 500 => Health::Bad,
        Reply::NotSent(_) | Reply::Unknown { .. } => Health::Bad,
        Reply::Answer(_) | Reply::Customer { .. } => Health::Good,
    }
}

fn trouble_of(reply: &Reply) -> Trouble {
    let ours = |code: &str, why: &str| Trouble {
        code: Some(code.into()),
        message: Some(why.into()),
        ..Trouble::default()
    };
    match reply {
        Reply::Answer(answer) => trouble_of_answer(answer),
        Reply::NotSent(why) => ours("not-sent", why),
        Reply::Unknown { status, why, request_id } => {
            Trouble { http_status: *status, request_id: request_id.clone(), ..ours("no-answer", why) }
        }
        Reply::Customer { .. } => ours("no-answer", "the answer was about another customer"),
    }
}

fn trouble_of_answer(answer: &Answer) -> Trouble {
    Trouble {
        field: None,
        code: answer.code.clone(),
        message: answer.message.clone(),
        http_status: Some(answer.status),
        request_id: answer.request_id.clone(),
    }
}

/// The API's own words for a halt.
fn words(answer: &Answer) -> String {
    let text = answer.message.as_deref().or(answer.code.as_deref());
    text.map_or_else(|| format!("HTTP {}", answer.status), |text| format!("HTTP {}, {text}", answer.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE: Step = Step::Create;
    const ASK: Step = Step::Get { told: false };
    const TOLD: Step = Step::Get { told: true };

    fn answer(status: u16, code: &str) -> Reply {
        Reply::Answer(Answer { status, code: (!code.is_empty()).then(|| code.into()), ..Answer::default() })
    }

    fn customer(reference: Option<&str>, created_at: Option<i64>) -> Reply {
        Reply::Customer {
            customer_id: "cst_1".into(),
            reference: reference.map(Reference::recorded),
            created_at,
        }
    }

    fn judge(step: Step, past: Past, reply: &Reply) -> Verdict {
        verdict(step, past, reply, &Reference::recorded("cust_0001"))
    }

    fn outcome(verdict: Verdict) -> &'static str {
        match verdict {
            Verdict::Settle(ending) => ending.outcome().name(),
            Verdict::Next(CREATE) => "create",
            Verdict::Next(Step::Get { .. }) => "get",
            Verdict::Retry(CREATE) => "wait, create",
            Verdict::Retry(ASK) => "wait, get",
            Verdict::Retry(TOLD) => "wait, get again",
            Verdict::Pause(_) => "pause",
            Verdict::Halt(_) => "halt",
        }
    }

    #[test]
    fn the_table_line_by_line() {
        let lost = Reply::Unknown { status: None, why: "reset".into(), request_id: None };
        let ours = customer(Some("cust_0001"), None);
        let theirs = customer(Some("cust_0002"), None);
        let refused = Reply::NotSent("refused".into());
        let table: &[(Step, &Reply, &str)] = &[
            (CREATE, &ours, "created"),
            (CREATE, &customer(None, None), "created"),
            (CREATE, &theirs, "wait, get"),
            (CREATE, &answer(400, "unique"), "get"),
            (CREATE, &answer(409, "ALREADY_EXISTS"), "get"),
            (CREATE, &answer(200, "Unique"), "get"),
            (CREATE, &answer(400, "DUPLICATE_REQUEST"), "wait, get"),
            (CREATE, &answer(400, "Mandatory fields are missing"), "rejected"),
            (CREATE, &answer(400, ""), "rejected"),
            (CREATE, &answer(422, "INVALID_INPUT"), "rejected"),
            (CREATE, &answer(200, "INVALID_REQUEST"), "rejected"),
            (CREATE, &answer(404, ""), "halt"),
            (CREATE, &answer(405, ""), "halt"),
            (CREATE, &answer(501, ""), "halt"),
            (CREATE, &answer(500, "INTERNAL_ERROR"), "wait, get"),
            (CREATE, &answer(502, ""), "wait, get"),
            (CREATE, &answer(408, ""), "wait, get"),
            (CREATE, &refused, "wait, create"),
            (CREATE, &lost, "wait, get"),
            (ASK, &ours, "existing"),
            (ASK, &theirs, "wait, get"),
            (ASK, &answer(404, "object_not_found"), "create"),
            (ASK, &answer(400, "object_not_found"), "create"),
            (ASK, &answer(404, ""), "create"),
            (ASK, &answer(400, "INVALID_INPUT"), "wait, get"),
            (ASK, &answer(500, ""), "wait, get"),
            (ASK, &refused, "wait, get"),
            (ASK, &lost, "wait, get"),
            (TOLD, &answer(404, "object_not_found"), "wait, get again"),
            (TOLD, &lost, "wait, get again"),
        ];
        for (step, reply, expected) in table {
            assert_eq!(outcome(judge(*step, Past::default(), reply)), *expected, "{step:?} {reply:?}");
        }
        for step in [CREATE, ASK, TOLD] {
            for (status, code, expected) in [
                (401, "access_denied", "halt"),
                (403, "bad_origin", "halt"),
                (200, "UNAUTHORIZED", "halt"),
                (400, "unauthenticated", "halt"),
                (400, "BAD_ORIGIN", "halt"),
                (301, "", "halt"),
                (308, "", "halt"),
                (429, "", "pause"),
            ] {
                assert_eq!(outcome(judge(step, Past::default(), &answer(status, code))), expected);
            }
        }
    }

    #[test]
    fn whose_customer_it_is() {
        let past = |ours, sent| Past { ours, in_doubt: ours, sent, claimed_at: 5_500 };
        let at = |time| customer(Some("cust_0001"), time);
        let created = |found| Verdict::Settle(Ending::Created { customer_id: "cst_1".into(), found });
        let existing = Verdict::Settle(Ending::Existing { customer_id: "cst_1".into() });
        assert_eq!(judge(TOLD, past(false, false), &at(Some(9_000))), existing);
        assert_eq!(judge(ASK, past(true, true), &at(None)), created(false));
        assert_eq!(judge(ASK, past(true, false), &at(Some(5_000))), created(true));
        assert_eq!(judge(ASK, past(true, true), &at(Some(4_000))), existing);
        assert_eq!(judge(TOLD, past(true, true), &at(Some(6_000))), created(false));
    }

    #[test]
    fn a_create_lands_unless_the_reply_says_that_it_did_not() {
        for (reply, landed) in [
            (Reply::NotSent(String::new()), false),
            (answer(400, "unique"), false),
            (answer(429, ""), false),
            (answer(401, ""), false),
            (answer(200, "INVALID_REQUEST"), false),
            (answer(500, ""), true),
            (answer(504, ""), true),
            (Reply::Unknown { status: Some(200), why: String::new(), request_id: None }, true),
            (customer(Some("other"), None), true),
        ] {
            assert_eq!(may_have_landed(&reply), landed, "{reply:?}");
        }
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
