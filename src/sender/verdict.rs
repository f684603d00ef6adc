//! What a reply means for a row: a pure table from (step, what is known, reply) to what comes next.
//!
//! The rule that it serves: Create is not idempotent, so after a Create that may have landed nothing
//! is sent for the row but Get, until Get has answered. A 200 can carry an error and a 500 can have
//! created the customer; an answer about another reference is no answer. What something in between
//! answers (a firewall, a router, a proxy) is no verdict on a row: the row is tried again, and nothing is
//! rejected by it.
//!
//! Nothing here waits, sends or counts.

use crate::{
    api::{Answer, Created, Found, Meaning, Reply, Whose},
    ledger::{ApiCustomer, IdSource, RowError, RowResult},
    throttle::{Health, Said},
};

/// How much earlier than our claim the API may say that it created a customer of ours, in milliseconds: its times
/// and its `Date` header have whole seconds.
const CLOCK_MARGIN: i64 = 2_000;

/// The same where the answer has no `Date` header, so that nothing tells by how much the two clocks differ.
const UNKNOWN_CLOCK_MARGIN: i64 = 300_000;

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
    /// Something in between answers everything, with this status, and the API was never heard.
    NotTheApi(u16),
    /// A proxy on the way wants credentials of its own.
    Proxy,
}

/// The next request of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Create,
    /// `told` means that the API said that the customer exists, so that "not found" is only late.
    Get {
        told: bool,
    },
    /// May be sent twice and comes to the same.
    Update,
}

impl Step {
    /// Whether it changes something at the API.
    pub(super) fn writes(self) -> bool {
        !matches!(self, Step::Get { .. })
    }
}

/// What to do after a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Settle(RowResult),
    /// Go on at once.
    Next(Step),
    /// Wait, then this step.
    Retry(Step),
    /// Refused for the rate: the same step when it goes on; costs no attempt.
    Pause,
    Halt(Halt),
}

/// What is known besides the reply.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Past {
    /// A Create of ours, in this run or an earlier one, may have landed at some time, whatever Get said since.
    pub(super) ours: bool,
    /// One may have landed and Get has not answered since.
    pub(super) in_doubt: bool,
    /// This run sent the fields.
    pub(super) sent: bool,
    /// Get has said in this run that the customer is not there.
    pub(super) was_absent: bool,
    /// When the row was first claimed; UTC milliseconds.
    pub(super) claimed_at: i64,
    /// The API itself has answered in this run, so the address is right and a stray answer passes.
    pub(super) api_was_heard: bool,
}

/// What comes after a reply. The table of the architecture page, line by line.
pub(super) fn verdict(step: Step, past: Past, reply: &Reply) -> Verdict {
    match reply {
        Reply::Customer(found) => verdict_on_customer(step, past, found),
        Reply::NotSent(_) => Verdict::Retry(step),
        Reply::Unknown { .. } => unclear(step),
        Reply::Answer(answer) => verdict_on_answer(step, past, answer),
        Reply::Foreign(answer) => {
            halt(step, past, answer).map_or_else(|| pause_or_unclear(step, answer), Verdict::Halt)
        }
    }
}

fn verdict_on_customer(step: Step, past: Past, found: &Found) -> Verdict {
    match (&found.whose, step) {
        (Whose::IdOfAnother, Step::Get { .. }) => {
            return Verdict::Settle(RowResult::Rejected(taken_as_an_id()));
        }
        // About somebody else: never recorded.
        (Whose::Another | Whose::IdOfAnother, _) => return unclear(step),
        // Nothing of ours led there, and nothing said that the customer exists.
        (Whose::Respelled(_), Step::Get { told: false }) if !past.ours => return unclear(step),
        _ => {}
    }
    let located = |id_source| ApiCustomer {
        customer_id: found.customer_id.clone(),
        id_source,
        api_fields: found.facts,
        api_reference: match &found.whose {
            Whose::Respelled(api_reference) => Some(api_reference.clone()),
            _ => None,
        },
    };
    let found_by_get = |is_uncertain| IdSource::Found {
        created_at: found.created.map(|created| created.at),
        earlier: !past.sent,
        is_uncertain,
    };
    Verdict::Settle(match step {
        // Create or fetch: the fields may be somebody's older ones.
        Step::Create if found.facts.is_some() && is_older(found.created, past.claimed_at) => {
            RowResult::Existing(located(found_by_get(false)))
        }
        Step::Create => RowResult::Created(located(IdSource::Answer)),
        Step::Update => RowResult::Updated,
        Step::Get { .. } => match author(past, found.created) {
            Author::Us => RowResult::Created(located(found_by_get(false))),
            Author::Others => RowResult::Existing(located(found_by_get(false))),
            Author::Unclear => RowResult::Existing(located(found_by_get(true))),
        },
    })
}

/// Who created a customer that Get found.
enum Author {
    Us,
    Others,
    Unclear,
}

fn author(past: Past, created: Option<Created>) -> Author {
    match created {
        // It was not there before our Create, and it is now.
        None if past.ours && past.was_absent => Author::Us,
        None if past.ours => Author::Unclear,
        None => Author::Others,
        Some(_) if past.ours && is_older(created, past.claimed_at) => Author::Others,
        Some(created) if past.ours && created.at + CLOCK_MARGIN >= past.claimed_at => Author::Us,
        Some(_) if past.ours => Author::Unclear,
        // Made about when we began or later, and our one Create was refused: a proxy may have sent it twice.
        Some(created) if created.at + CLOCK_MARGIN >= past.claimed_at => Author::Unclear,
        Some(_) => Author::Others,
    }
}

/// Whether the customer surely was there before the row was claimed.
fn is_older(created: Option<Created>, claimed_at: i64) -> bool {
    created.is_some_and(|created| {
        let margin = if created.is_clock_known { CLOCK_MARGIN } else { UNKNOWN_CLOCK_MARGIN };
        created.at + margin < claimed_at
    })
}

fn verdict_on_answer(step: Step, past: Past, answer: &Answer) -> Verdict {
    if let Some(halt) = halt(step, past, answer) {
        return Verdict::Halt(halt);
    }
    if is_throttled(answer) {
        return Verdict::Pause;
    }
    match (answer.meaning, step) {
        (Meaning::InternalError, _) => unclear(step),
        _ if !is_about_the_row(answer.status) => unclear(step),
        // The API has no such call here, which it had before: something passing.
        _ if step.writes() && matches!(answer.status, 404 | 405) && answer.meaning != Meaning::NotFound => {
            unclear(step)
        }
        (Meaning::InProgress, Step::Update) => Verdict::Retry(step),
        // A customer that is gone too: that is this row's trouble.
        (_, Step::Update) => Verdict::Settle(RowResult::Rejected(trouble_of_answer(answer))),
        (Meaning::Exists, Step::Create) => Verdict::Next(Step::Get { told: true }),
        (Meaning::InProgress, Step::Create) => Verdict::Retry(Step::Get { told: false }),
        (_, Step::Create) => Verdict::Settle(RowResult::Rejected(trouble_of_answer(answer))),
        (meaning, Step::Get { told: false }) if meaning == Meaning::NotFound || answer.status == 404 => {
            Verdict::Next(Step::Create)
        }
        (_, Step::Get { .. }) => Verdict::Retry(step),
    }
}

/// Why no row can succeed, if this answer says so.
fn halt(step: Step, past: Past, answer: &Answer) -> Option<Halt> {
    match (answer.status, answer.meaning) {
        (429 | 500.., _) if answer.status != 501 => None,
        (401, _) | (_, Meaning::Credentials) => Some(Halt::Credentials(words(answer))),
        (_, Meaning::BadOrigin) => Some(Halt::Forbidden(words(answer))),
        (407, _) => Some(Halt::Proxy),
        // An address that has answered before is the right one.
        _ if past.api_was_heard => None,
        (300..=399, _) => Some(Halt::Redirect(answer.status)),
        (404, _) if step == Step::Create => Some(Halt::WrongUrl(404)),
        (405 | 501, _) if step.writes() => Some(Halt::WrongUrl(answer.status)),
        _ => None,
    }
}

fn pause_or_unclear(step: Step, answer: &Answer) -> Verdict {
    if is_throttled(answer) { Verdict::Pause } else { unclear(step) }
}

/// Asked too often: by status, by code, or as some limiters have it by a 403 that says when to come back.
fn is_throttled(answer: &Answer) -> bool {
    let is_forbidden_for_a_time = answer.status == 403 && answer.retry_after.is_some();
    answer.status == 429 || answer.meaning == Meaning::Throttled || is_forbidden_for_a_time
}

/// Whether an answer of the API with this status judges the row. Others are no answers (a switch to another protocol,
/// a redirect), or say that the server gave up on, or put off, a request that it may have begun.
fn is_about_the_row(status: u16) -> bool {
    matches!(status, 200..=299 | 400..=499) && !matches!(status, 408 | 425)
}

/// A reply that does not say what became of the request.
fn unclear(step: Step) -> Verdict {
    Verdict::Retry(match step {
        Step::Create => Step::Get { told: false },
        // To ask is idempotent, and so is to update.
        other => other,
    })
}

/// Whether a Create with this reply may have created the customer.
pub(super) fn may_have_landed(reply: &Reply) -> bool {
    match reply {
        Reply::NotSent(_) => false,
        Reply::Answer(answer) => {
            let is_refusal = is_about_the_row(answer.status) || (300..=399).contains(&answer.status);
            !is_refusal || answer.meaning == Meaning::InternalError
        }
        // These say that the request was not passed on; of others nobody knows.
        Reply::Foreign(answer) => {
            !matches!(answer.status, 300..=399 | 401 | 404 | 405 | 407 | 413 | 414 | 429 | 431)
        }
        Reply::Customer(_) | Reply::Unknown { .. } => true,
    }
}

/// Whether it is the API itself that has answered. An answer to a question proves little: "not found" is what any
/// server says of a path that it does not know.
pub(super) fn is_of_the_api(step: Step, reply: &Reply) -> bool {
    match reply {
        Reply::Customer(_) => true,
        Reply::Answer(answer) => {
            let is_doorman = matches!(answer.status, 401 | 403 | 404 | 405 | 407 | 429);
            step.writes() && is_about_the_row(answer.status) && !is_doorman
        }
        Reply::Foreign(_) | Reply::NotSent(_) | Reply::Unknown { .. } => false,
    }
}

pub(super) fn health(reply: &Reply) -> Health {
    match reply {
        Reply::Answer(answer) | Reply::Foreign(answer) if is_throttled(answer) => Health::Throttled,
        Reply::Answer(answer) if answer.meaning == Meaning::InternalError => Health::Bad,
        Reply::Answer(answer) if !(200..500).contains(&answer.status) => Health::Bad,
        Reply::NotSent(_) | Reply::Unknown { .. } | Reply::Foreign(_) => Health::Bad,
        Reply::Answer(_) | Reply::Customer(_) => Health::Good,
    }
}

/// What a reply says about the rate.
pub(super) fn said(reply: &Reply) -> Said {
    match reply {
        // A server that says "now", or whose date is past, has refused all the same.
        Reply::Answer(answer) | Reply::Foreign(answer) if is_throttled(answer) => {
            Said::Refused(answer.retry_after.filter(|asked| !asked.is_zero()))
        }
        Reply::Answer(answer) | Reply::Foreign(answer) if answer.status == 503 => Said::Unavailable,
        _ => Said::Taken,
    }
}

pub(super) fn trouble_of(reply: &Reply) -> RowError {
    let ours = |code: &str, why: &str| RowError {
        code: Some(code.into()),
        message: Some(why.into()),
        ..RowError::default()
    };
    match reply {
        Reply::Answer(answer) => trouble_of_answer(answer),
        Reply::Foreign(answer) if answer.status >= 500 => RowError {
            http_status: Some(answer.status),
            request_id: answer.request_id.clone(),
            ..ours("no-answer", "an answer that is not the API's JSON")
        },
        Reply::Foreign(answer) => RowError {
            http_status: Some(answer.status),
            request_id: answer.request_id.clone(),
            ..ours(RowError::NOT_THE_API, "something between here and the API answered in its place")
        },
        Reply::NotSent(why) => ours("not-sent", why),
        Reply::Unknown { status, why, request_id } => {
            RowError { http_status: *status, request_id: request_id.clone(), ..ours("no-answer", why) }
        }
        Reply::Customer(_) => ours("no-answer", "the answer was about another customer"),
    }
}

/// Get finds by id and by reference, so this row can never be told from the other.
fn taken_as_an_id() -> RowError {
    RowError {
        field: Some("object_reference_id".into()),
        code: Some("reference-is-an-id".into()),
        message: Some("this object_reference_id is the customer id of another customer".into()),
        ..RowError::default()
    }
}

fn trouble_of_answer(answer: &Answer) -> RowError {
    RowError {
        field: answer.fields.clone(),
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
    use crate::customer::Reference;

    const CREATE: Step = Step::Create;
    const ASK: Step = Step::Get { told: false };
    const TOLD: Step = Step::Get { told: true };
    const UPDATE: Step = Step::Update;

    const HEARD: Past = Past {
        ours: false,
        in_doubt: false,
        sent: false,
        was_absent: false,
        claimed_at: 0,
        api_was_heard: true,
    };

    fn answer(status: u16, meaning: Meaning) -> Reply {
        Reply::Answer(Answer { status, meaning, ..Answer::default() })
    }

    fn foreign(status: u16) -> Reply {
        Reply::Foreign(Answer { status, ..Answer::default() })
    }

    fn customer(whose: Whose, created_at: Option<i64>) -> Reply {
        let created = created_at.map(|at| Created { at, is_clock_known: true });
        Reply::Customer(Found { customer_id: "cth_1".into(), whose, created, facts: None })
    }

    fn outcome(verdict: Verdict) -> &'static str {
        match verdict {
            Verdict::Settle(ending) => ending.outcome().name(),
            Verdict::Next(CREATE) => "create",
            Verdict::Next(Step::Get { .. }) => "get",
            Verdict::Retry(CREATE) => "wait, create",
            Verdict::Retry(ASK) => "wait, get",
            Verdict::Retry(TOLD) => "wait, get again",
            Verdict::Next(UPDATE) => "update",
            Verdict::Retry(UPDATE) => "wait, update",
            Verdict::Pause => "pause",
            Verdict::Halt(_) => "halt",
        }
    }

    #[test]
    fn the_table_line_by_line() {
        use Meaning::{Exists, InProgress, InternalError, NotFound, Other};
        let lost = Reply::Unknown { status: None, why: "reset".into(), request_id: None };
        let ours = customer(Whose::Asked, None);
        let theirs = customer(Whose::Another, None);
        let respelled = customer(Whose::Respelled(Reference::recorded("CUST_0001")), None);
        let by_id = customer(Whose::IdOfAnother, None);
        let refused = Reply::NotSent("refused".into());
        let table: &[(Step, &Reply, &str)] = &[
            (CREATE, &ours, "created"),
            (CREATE, &customer(Whose::Untold, None), "created"),
            (CREATE, &respelled, "created"),
            (CREATE, &theirs, "wait, get"),
            (CREATE, &by_id, "wait, get"),
            (CREATE, &answer(400, Exists), "get"),
            (CREATE, &answer(409, Exists), "get"),
            (CREATE, &answer(200, Exists), "get"),
            (CREATE, &answer(400, InProgress), "wait, get"),
            (CREATE, &answer(400, Other), "rejected"),
            (CREATE, &answer(422, Other), "rejected"),
            (CREATE, &answer(403, Other), "rejected"),
            (CREATE, &answer(200, Other), "rejected"),
            (CREATE, &answer(200, InternalError), "wait, get"),
            (CREATE, &answer(400, InternalError), "wait, get"),
            (CREATE, &answer(404, Other), "wait, get"),
            (CREATE, &answer(405, Other), "wait, get"),
            (CREATE, &answer(501, Other), "wait, get"),
            (CREATE, &answer(500, InternalError), "wait, get"),
            (CREATE, &answer(502, Other), "wait, get"),
            (CREATE, &answer(408, Other), "wait, get"),
            (CREATE, &answer(101, Other), "wait, get"),
            (CREATE, &foreign(400), "wait, get"),
            (CREATE, &foreign(403), "wait, get"),
            (CREATE, &foreign(404), "wait, get"),
            (CREATE, &foreign(413), "wait, get"),
            (CREATE, &foreign(302), "wait, get"),
            (CREATE, &foreign(503), "wait, get"),
            (CREATE, &refused, "wait, create"),
            (CREATE, &lost, "wait, get"),
            (ASK, &ours, "existing"),
            (ASK, &theirs, "wait, get"),
            (ASK, &respelled, "wait, get"),
            (ASK, &by_id, "rejected"),
            (ASK, &answer(404, NotFound), "create"),
            (ASK, &answer(400, NotFound), "create"),
            (ASK, &answer(200, NotFound), "create"),
            (ASK, &answer(404, Other), "create"),
            (ASK, &answer(400, Other), "wait, get"),
            (ASK, &answer(403, Other), "wait, get"),
            (ASK, &answer(500, Other), "wait, get"),
            (ASK, &foreign(404), "wait, get"),
            (ASK, &foreign(302), "wait, get"),
            (ASK, &refused, "wait, get"),
            (ASK, &lost, "wait, get"),
            (TOLD, &respelled, "existing"),
            (TOLD, &answer(404, NotFound), "wait, get again"),
            (TOLD, &lost, "wait, get again"),
            (UPDATE, &ours, "updated"),
            (UPDATE, &respelled, "updated"),
            (UPDATE, &theirs, "wait, update"),
            (UPDATE, &answer(404, NotFound), "rejected"),
            (UPDATE, &answer(404, Other), "wait, update"),
            (UPDATE, &answer(405, Other), "wait, update"),
            (UPDATE, &answer(501, Other), "wait, update"),
            (UPDATE, &foreign(404), "wait, update"),
            (UPDATE, &answer(400, Other), "rejected"),
            (UPDATE, &answer(200, Other), "rejected"),
            (UPDATE, &answer(400, Exists), "rejected"),
            (UPDATE, &answer(400, InProgress), "wait, update"),
            (UPDATE, &answer(500, Other), "wait, update"),
            (UPDATE, &refused, "wait, update"),
            (UPDATE, &lost, "wait, update"),
        ];
        for (step, reply, expected) in table {
            assert_eq!(outcome(verdict(*step, HEARD, reply)), *expected, "{step:?} {reply:?}");
        }
    }

    #[test]
    fn what_concerns_every_row() {
        for step in [CREATE, ASK, TOLD, UPDATE] {
            for (reply, expected) in [
                (answer(401, Meaning::Credentials), "halt"),
                (foreign(401), "halt"),
                (answer(403, Meaning::BadOrigin), "halt"),
                (answer(200, Meaning::Credentials), "halt"),
                (answer(400, Meaning::BadOrigin), "halt"),
                (foreign(407), "halt"),
                (answer(429, Meaning::Other), "pause"),
                (foreign(429), "pause"),
                (answer(400, Meaning::Throttled), "pause"),
            ] {
                assert_eq!(outcome(verdict(step, HEARD, &reply)), expected, "{step:?} {reply:?}");
            }
            let at_first = |reply| outcome(verdict(step, Past::default(), &reply));
            assert_eq!([at_first(foreign(301)), at_first(foreign(308))], ["halt"; 2]);
            if step.writes() {
                assert_eq!([at_first(foreign(405)), at_first(answer(501, Meaning::Other))], ["halt"; 2]);
            }
        }
        for reply in [foreign(404), answer(404, Meaning::NotFound)] {
            assert_eq!(outcome(verdict(CREATE, Past::default(), &reply)), "halt", "a wrong URL");
        }
        let for_a_time =
            Answer { status: 403, retry_after: Some(std::time::Duration::from_secs(9)), ..Answer::default() };
        for reply in [Reply::Foreign(for_a_time.clone()), Reply::Answer(for_a_time)] {
            assert_eq!(outcome(verdict(CREATE, HEARD, &reply)), "pause");
        }
    }

    #[test]
    fn whose_customer_it_is() {
        let judge = |ours: bool, was_absent: bool, created: Option<Created>| {
            let past = Past { ours, was_absent, claimed_at: 500_500, ..HEARD };
            let found = Found { customer_id: "cth_1".into(), whose: Whose::Asked, created, facts: None };
            match verdict(TOLD, past, &Reply::Customer(found)) {
                Verdict::Settle(RowResult::Created(_)) => "created",
                Verdict::Settle(RowResult::Existing(ApiCustomer { id_source, .. })) => match id_source {
                    IdSource::Found { is_uncertain: true, .. } => "uncertain",
                    _ => "existing",
                },
                other => panic!("{other:?}"),
            }
        };
        let at = |at, is_clock_known| Some(Created { at, is_clock_known });
        assert_eq!(judge(true, false, at(500_000, true)), "created");
        assert_eq!(judge(true, false, at(498_500, true)), "created", "whole seconds, twice");
        assert_eq!(judge(true, false, at(498_000, true)), "existing");
        assert_eq!(judge(true, false, at(498_000, false)), "uncertain", "the clocks may differ");
        assert_eq!(judge(true, false, at(200_000, false)), "existing", "not by so much");
        assert_eq!(judge(true, false, None), "uncertain");
        assert_eq!(judge(true, true, None), "created", "it was not there before");
        assert_eq!(judge(false, false, at(400_000, true)), "existing");
        assert_eq!(judge(false, false, None), "existing");
        assert_eq!(judge(false, false, at(501_000, true)), "uncertain", "a proxy may have repeated it");
    }

    #[test]
    fn a_create_that_is_answered_with_older_fields_has_created_nothing() {
        let past = Past { claimed_at: 500_000, ..HEARD };
        let found = |at, facts| {
            let created = Some(Created { at, is_clock_known: true });
            Reply::Customer(Found { customer_id: "cth_1".into(), whose: Whose::Asked, created, facts })
        };
        let facts = Some(crate::customer::Fingerprint::default());
        assert_eq!(outcome(verdict(CREATE, past, &found(400_000, facts))), "existing");
        assert_eq!(outcome(verdict(CREATE, past, &found(499_000, facts))), "created");
        assert_eq!(outcome(verdict(CREATE, past, &found(400_000, None))), "created");
    }

    #[test]
    fn a_create_lands_unless_the_reply_says_that_it_did_not() {
        for (reply, landed) in [
            (Reply::NotSent(String::new()), false),
            (answer(400, Meaning::Exists), false),
            (answer(429, Meaning::Other), false),
            (answer(401, Meaning::Other), false),
            (answer(200, Meaning::Other), false),
            (answer(400, Meaning::InternalError), true),
            (answer(500, Meaning::Other), true),
            (answer(504, Meaning::Other), true),
            (foreign(302), false),
            (foreign(404), false),
            (foreign(413), false),
            (foreign(400), true),
            (foreign(403), true),
            (foreign(502), true),
            (Reply::Unknown { status: Some(200), why: String::new(), request_id: None }, true),
            (customer(Whose::Another, None), true),
        ] {
            assert_eq!(may_have_landed(&reply), landed, "{reply:?}");
        }
    }
}
