//! What a reply means: [`classify`] reads it once, for the throttle; [`verdict`] is a pure table from (step, history,
//! reply) to what comes next for the row.
//!
//! The governing rule: Create is not idempotent, so after a Create that may have landed, only Get is sent for the row
//! until Get has been answered. A 200 can carry an error and a 500 can have created the customer; a reply about
//! another reference does not count. The response of an intermediary (a firewall, a router, a proxy) says nothing
//! about a row: the row is tried again, and is not rejected.
//!
//! Pure: nothing here waits, sends or counts. The verdict that no single reply allows, that the URL is not the API's, is
//! given in `endpoint`. The API's messages were truncated and freed of the key when the response was parsed.

use crate::{
    api::{Answer, Created, Found, Meaning, Reply, Whose},
    ledger::{ApiCustomer, IdSource, InsertResult, RowError, RowResult, UpdateResult},
    throttle::{RateSignal, ServiceSignal},
};

/// The tolerance in comparing our claim's time with the creation time that the API reports: its times and its `Date`
/// header have whole seconds.
const CLOCK_MARGIN_MS: i64 = 2_000;

/// The tolerance if the reply has no `Date` header, so that the difference of the two clocks is unknown.
const UNKNOWN_CLOCK_MARGIN_MS: i64 = 300_000;

/// Why no row can succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// 401, or a code with that meaning.
    Credentials(String),
    /// 403: because of this machine's address, or the key's permissions.
    Forbidden(String),
    /// A redirect, which is not followed.
    Redirect(u16),
    /// The URL is not the customers API.
    WrongUrl(u16),
    /// An intermediary responds to everything, with this status, and the API never has.
    NotTheApi(u16),
    /// A proxy requires credentials of its own.
    Proxy,
}

/// The next request of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Create,
    Get {
        /// The API has reported that the customer exists, so "not found" only means that Get lags behind.
        already_exists: bool,
    },
    /// Idempotent.
    Update,
}

impl Step {
    pub(super) fn is_write(self) -> bool {
        !matches!(self, Step::Get { .. })
    }
}

/// What to do after a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Settle(RowResult),
    /// Take this step at once.
    Next(Step),
    /// Wait, then this step.
    Retry(Step),
    /// Throttled: repeat the step after the shared pause; costs no attempt.
    Pause,
    Halt(Halt),
}

/// Whether a Create of ours may have landed at some time, whatever Get has returned since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CreateSent {
    #[default]
    Never,
    /// In an earlier run.
    Earlier,
    /// In this run.
    Now,
}

/// The known history of a row, in addition to the reply.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct History {
    pub(super) create: CreateSent,
    /// Whether a write may have landed, and Get has not been answered since.
    pub(super) in_doubt: bool,
    /// Whether Get has been answered in this run with "does not exist".
    pub(super) was_absent: bool,
    /// When the row was first claimed; UTC milliseconds.
    pub(super) first_claimed_at: i64,
    /// Whether the API itself has responded in this run: then the address is right, and an intermediary's response is
    /// temporary.
    pub(super) api_has_answered: bool,
}

impl History {
    /// Whether an existing customer may have been created by a Create of ours.
    pub(super) fn may_be_ours(self) -> bool {
        self.create != CreateSent::Never
    }

    /// Records that a request is being sent, which may land.
    pub(super) fn on_send(&mut self, step: Step) {
        self.in_doubt |= step.is_write();
        if step == Step::Create {
            self.create = CreateSent::Now;
        }
    }
}

/// The meaning of a reply, apart from its meaning for the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Classification {
    pub(super) service: ServiceSignal,
    pub(super) rate: RateSignal,
    /// Whether a write with this reply may have taken effect.
    pub(super) may_have_landed: bool,
}

impl Classification {
    pub(super) fn is_throttled(self) -> bool {
        matches!(self.service, ServiceSignal::Throttled | ServiceSignal::RefusedByProxy)
    }

    pub(super) fn is_success(self) -> bool {
        matches!(self.service, ServiceSignal::Up | ServiceSignal::WriteConfirmed)
    }
}

/// Reads a reply once, for everything except the row.
pub(super) fn classify(reply: &Reply) -> Classification {
    use ServiceSignal::{Down, RefusedByProxy, Throttled, Up};
    let (service, may_have_landed) = match reply {
        Reply::Customer(_) => (Up, true),
        Reply::NotSent(_) | Reply::ProxyLogin(_) => (Down, false),
        Reply::Unknown { .. } => (Down, true),
        Reply::Answer(answer) => {
            let is_failure = answer.meaning == Meaning::InternalError || !(200..500).contains(&answer.status);
            let is_refusal = is_about_the_row(answer.status) || (300..=399).contains(&answer.status);
            let may_have_landed = !is_refusal || answer.meaning == Meaning::InternalError;
            (if is_failure { Down } else { Up }, may_have_landed)
        }
        // These responses show that the request was not passed on; others do not.
        Reply::Foreign(answer) => {
            let is_refusal =
                matches!(answer.status, 300..=399 | 401 | 404 | 405 | 407 | 413 | 414 | 429 | 431);
            (Down, !is_refusal)
        }
    };
    let (Reply::Answer(answer) | Reply::Foreign(answer)) = reply else {
        return Classification { service, rate: RateSignal::Accepted, may_have_landed };
    };
    // "Now", or a date in the past, is throttling nevertheless.
    let retry_after = answer.retry_after.filter(|pause| !pause.is_zero());
    if is_throttled(answer) {
        let rate = RateSignal::Throttled { retry_after };
        return Classification { service: Throttled, rate, may_have_landed };
    }
    if answer.meaning == Meaning::NotPassedOn {
        let rate = RateSignal::RefusedByProxy { retry_after };
        return Classification { service: RefusedByProxy, rate, may_have_landed: false };
    }
    let is_unavailable = answer.status == 503 || answer.status >= 500 && retry_after.is_some();
    let rate = if is_unavailable { RateSignal::Unavailable { retry_after } } else { RateSignal::Accepted };
    Classification { service, rate, may_have_landed }
}

/// Too many requests: by status, by code, or, with some limiters, by a 403 with `Retry-After`.
fn is_throttled(answer: &Answer) -> bool {
    let is_forbidden_for_a_time = answer.status == 403 && answer.retry_after.is_some();
    answer.status == 429 || answer.meaning == Meaning::Throttled || is_forbidden_for_a_time
}

/// The verdict on a reply.
pub(super) fn verdict(
    step: Step,
    history: History,
    reply: &Reply,
    classification: Classification,
) -> Verdict {
    match reply {
        Reply::Customer(found) => verdict_on_customer(step, history, found),
        Reply::NotSent(_) => Verdict::Retry(step),
        Reply::ProxyLogin(_) => Verdict::Halt(Halt::Proxy),
        Reply::Unknown { .. } => unclear(step),
        Reply::Answer(answer) | Reply::Foreign(answer) => {
            if let Some(halt) = halt(step, history, answer) {
                return Verdict::Halt(halt);
            }
            match reply {
                _ if classification.is_throttled() => Verdict::Pause,
                Reply::Answer(answer) => verdict_on_answer(step, answer),
                // The response of an intermediary.
                _ => unclear(step),
            }
        }
    }
}

fn insert(result: InsertResult) -> Verdict {
    Verdict::Settle(RowResult::Insert(result))
}

fn verdict_on_customer(step: Step, history: History, found: &Found) -> Verdict {
    match (&found.whose, step) {
        (Whose::IdOfAnother, Step::Get { .. }) => {
            return insert(InsertResult::Rejected(taken_as_an_id()));
        }
        // A reply about another customer is never recorded.
        (Whose::Another | Whose::IdOfAnother, _) => return unclear(step),
        // No Create of ours led to this customer, and the API has not reported that it exists.
        (Whose::Respelled(_), Step::Get { already_exists: false }) if !history.may_be_ours() => {
            return unclear(step);
        }
        _ => {}
    }
    let located = |id_source| ApiCustomer {
        customer_id: found.customer_id.clone(),
        id_source,
        api_fields: found.facts,
        api_reference: match &found.whose {
            Whose::Respelled(spelling) => Some(spelling.clone()),
            _ => None,
        },
    };
    let found_by_get = |author| IdSource::Found {
        created_at: found.created.map(|created| created.at),
        earlier: history.create != CreateSent::Now,
        is_uncertain: author == Author::Unclear,
    };
    insert(match step {
        // Create or fetch: the fields may be older ones from somebody else.
        Step::Create if found.facts.is_some() && is_older(found.created, history.first_claimed_at) => {
            InsertResult::Existing(located(found_by_get(Author::Others)))
        }
        Step::Create => InsertResult::Created(located(IdSource::Answer)),
        Step::Update => return Verdict::Settle(RowResult::Update(UpdateResult::Updated)),
        Step::Get { .. } => match author(history, found.created) {
            Author::Us => InsertResult::Created(located(found_by_get(Author::Us))),
            author => InsertResult::Existing(located(found_by_get(author))),
        },
    })
}

/// Who created a customer that Get found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Author {
    Us,
    Others,
    Unclear,
}

fn author(history: History, created: Option<Created>) -> Author {
    // Created at about the time of our claim or later.
    let is_new = created.map(|created| created.at + CLOCK_MARGIN_MS >= history.first_claimed_at);
    match (history.may_be_ours(), is_new) {
        // The customer did not exist before our Create, and exists now.
        (true, None) if history.was_absent => Author::Us,
        (true, None) => Author::Unclear,
        (true, Some(true)) => Author::Us,
        (true, Some(false)) if is_older(created, history.first_claimed_at) => Author::Others,
        (true, Some(false)) => Author::Unclear,
        // Our one Create was refused, and yet the customer is new: a proxy may have sent the Create twice.
        (false, Some(true)) => Author::Unclear,
        (false, None | Some(false)) => Author::Others,
    }
}

/// Whether the customer surely existed before the row was claimed.
fn is_older(created: Option<Created>, first_claimed_at: i64) -> bool {
    created.is_some_and(|created| {
        let margin = if created.is_clock_known { CLOCK_MARGIN_MS } else { UNKNOWN_CLOCK_MARGIN_MS };
        created.at + margin < first_claimed_at
    })
}

fn verdict_on_answer(step: Step, answer: &Answer) -> Verdict {
    match (answer.meaning, step) {
        (Meaning::InternalError, _) => unclear(step),
        _ if !is_about_the_row(answer.status) => unclear(step),
        // The API refuses a call that it accepted before: a temporary state.
        _ if step.is_write() && matches!(answer.status, 404 | 405) && answer.meaning != Meaning::NotFound => {
            unclear(step)
        }
        (Meaning::InProgress, Step::Update) => Verdict::Retry(step),
        // Includes a customer that no longer exists: that is this row's error.
        (_, Step::Update) => {
            let error = row_error_of_answer(answer);
            Verdict::Settle(RowResult::Update(UpdateResult::Rejected(error)))
        }
        (Meaning::Exists, Step::Create) => Verdict::Next(Step::Get { already_exists: true }),
        (Meaning::InProgress, Step::Create) => Verdict::Retry(Step::Get { already_exists: false }),
        (_, Step::Create) => insert(InsertResult::Rejected(row_error_of_answer(answer))),
        (meaning, Step::Get { already_exists: false })
            if meaning == Meaning::NotFound || answer.status == 404 =>
        {
            Verdict::Next(Step::Create)
        }
        (_, Step::Get { .. }) => Verdict::Retry(step),
    }
}

/// Why no row can succeed, if this answer shows that.
fn halt(step: Step, history: History, answer: &Answer) -> Option<Halt> {
    match (answer.status, answer.meaning) {
        (429 | 500.., _) if answer.status != 501 => None,
        (401, _) | (_, Meaning::Credentials) => Some(Halt::Credentials(describe_answer(answer))),
        (_, Meaning::BadOrigin) => Some(Halt::Forbidden(describe_answer(answer))),
        (407, _) => Some(Halt::Proxy),
        // An address at which the API has responded is the right one.
        _ if history.api_has_answered => None,
        (300..=399, _) => Some(Halt::Redirect(answer.status)),
        (404, _) if step == Step::Create => Some(Halt::WrongUrl(404)),
        (405 | 501, _) if step.is_write() => Some(Halt::WrongUrl(answer.status)),
        _ => None,
    }
}

/// Whether an answer of the API with this status is about the row. Other statuses are no answers (a protocol switch,
/// a redirect), or mean that the server gave up or postponed a request that it may have begun to process.
pub(super) fn is_about_the_row(status: u16) -> bool {
    matches!(status, 200..=299 | 400..=499) && !matches!(status, 408 | 425)
}

/// The verdict if the reply does not show the result of the request.
fn unclear(step: Step) -> Verdict {
    Verdict::Retry(match step {
        Step::Create => Step::Get { already_exists: false },
        // Get and Update are idempotent.
        other => other,
    })
}

/// The error that the ledger records for a reply that is not a success.
pub(super) fn row_error(reply: &Reply) -> RowError {
    let ours = |code: &str, why: &str| RowError {
        code: Some(code.into()),
        message: Some(why.into()),
        ..RowError::default()
    };
    match reply {
        Reply::Answer(answer) => row_error_of_answer(answer),
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
        Reply::NotSent(why) | Reply::ProxyLogin(why) => ours("not-sent", why),
        Reply::Unknown { status, why, request_id } => {
            RowError { http_status: *status, request_id: request_id.clone(), ..ours("no-answer", why) }
        }
        Reply::Customer(_) => ours("no-answer", "the answer was about another customer"),
    }
}

/// Get finds customers by id and by reference, so it can never distinguish this row from the other customer.
fn taken_as_an_id() -> RowError {
    RowError {
        field: Some("object_reference_id".into()),
        code: Some("reference-is-an-id".into()),
        message: Some("this object_reference_id is the customer id of another customer".into()),
        ..RowError::default()
    }
}

fn row_error_of_answer(answer: &Answer) -> RowError {
    RowError {
        field: answer.fields.clone(),
        code: answer.code.clone(),
        message: answer.message.clone(),
        http_status: Some(answer.status),
        request_id: answer.request_id.clone(),
    }
}

/// The status and the API's message.
fn describe_answer(answer: &Answer) -> String {
    let text = answer.message.as_deref().or(answer.code.as_deref());
    text.map_or_else(|| format!("HTTP {}", answer.status), |text| format!("HTTP {}, {text}", answer.status))
}

/// Describes the failure, for the reason of a stop.
pub(super) fn describe(reply: &Reply) -> String {
    let RowError { message, http_status, .. } = row_error(reply);
    match (http_status, message) {
        (Some(status), Some(message)) => format!("HTTP {status}, {message}"),
        (Some(status), None) => format!("HTTP {status}"),
        (None, message) => message.unwrap_or_default(),
    }
}

/// Describes the failure for a log or a status, without the API's message, which may repeat a field.
pub(super) fn cause(reply: &Reply) -> String {
    match reply {
        Reply::Answer(answer) => format!("HTTP {}", answer.status),
        Reply::Foreign(answer) => format!("HTTP {}, by something before the API", answer.status),
        Reply::NotSent(_) | Reply::ProxyLogin(_) | Reply::Unknown { .. } | Reply::Customer(_) => {
            describe(reply)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::customer::Reference;

    const CREATE: Step = Step::Create;
    const GET: Step = Step::Get { already_exists: false };
    const GET_EXISTING: Step = Step::Get { already_exists: true };
    const UPDATE: Step = Step::Update;

    const ANSWERED: History = History {
        create: CreateSent::Never,
        in_doubt: false,
        was_absent: false,
        first_claimed_at: 0,
        api_has_answered: true,
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

    fn judge(step: Step, history: History, reply: &Reply) -> Verdict {
        verdict(step, history, reply, classify(reply))
    }

    fn next(step: Step, history: History, reply: &Reply) -> &'static str {
        match judge(step, history, reply) {
            Verdict::Settle(result) => result.outcome().name(),
            Verdict::Next(CREATE) => "create",
            Verdict::Next(Step::Get { .. }) => "get",
            Verdict::Retry(CREATE) => "wait, create",
            Verdict::Retry(GET) => "wait, get",
            Verdict::Retry(GET_EXISTING) => "wait, get again",
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
        let ours = customer(Whose::Requested, None);
        let theirs = customer(Whose::Another, None);
        let respelled = customer(Whose::Respelled(Reference::recorded("CUST_0001")), None);
        let by_id = customer(Whose::IdOfAnother, None);
        let refused = Reply::NotSent("refused".into());
        let table: &[(Step, &Reply, &str)] = &[
            (CREATE, &ours, "created"),
            (CREATE, &customer(Whose::Unnamed, None), "created"),
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
            (GET, &ours, "existing"),
            (GET, &theirs, "wait, get"),
            (GET, &respelled, "wait, get"),
            (GET, &by_id, "rejected"),
            (GET, &answer(404, NotFound), "create"),
            (GET, &answer(400, NotFound), "create"),
            (GET, &answer(200, NotFound), "create"),
            (GET, &answer(404, Other), "create"),
            (GET, &answer(400, Other), "wait, get"),
            (GET, &answer(403, Other), "wait, get"),
            (GET, &answer(500, Other), "wait, get"),
            (GET, &foreign(404), "wait, get"),
            (GET, &foreign(302), "wait, get"),
            (GET, &refused, "wait, get"),
            (GET, &lost, "wait, get"),
            (GET_EXISTING, &respelled, "existing"),
            (GET_EXISTING, &answer(404, NotFound), "wait, get again"),
            (GET_EXISTING, &lost, "wait, get again"),
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
            assert_eq!(next(*step, ANSWERED, reply), *expected, "{step:?} {reply:?}");
        }
    }

    #[test]
    fn what_concerns_every_row() {
        for step in [CREATE, GET, GET_EXISTING, UPDATE] {
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
                assert_eq!(next(step, ANSWERED, &reply), expected, "{step:?} {reply:?}");
            }
            let at_first = |reply| next(step, History::default(), &reply);
            assert_eq!([at_first(foreign(301)), at_first(foreign(308))], ["halt"; 2]);
            if step.is_write() {
                assert_eq!([at_first(foreign(405)), at_first(answer(501, Meaning::Other))], ["halt"; 2]);
            }
        }
        for reply in [foreign(404), answer(404, Meaning::NotFound)] {
            assert_eq!(next(CREATE, History::default(), &reply), "halt", "a wrong URL");
        }
        let for_a_time =
            Answer { status: 403, retry_after: Some(std::time::Duration::from_secs(9)), ..Answer::default() };
        for reply in [Reply::Foreign(for_a_time.clone()), Reply::Answer(for_a_time)] {
            assert_eq!(next(CREATE, ANSWERED, &reply), "pause");
        }
    }

    #[test]
    fn whose_customer_it_is() {
        let author = |create: CreateSent, was_absent: bool, created: Option<Created>| {
            let history = History { create, was_absent, first_claimed_at: 500_500, ..ANSWERED };
            let found = Found { customer_id: "cth_1".into(), whose: Whose::Requested, created, facts: None };
            match judge(GET_EXISTING, history, &Reply::Customer(found)) {
                Verdict::Settle(RowResult::Insert(InsertResult::Created(_))) => "created",
                Verdict::Settle(RowResult::Insert(InsertResult::Existing(ApiCustomer {
                    id_source, ..
                }))) => match id_source {
                    IdSource::Found { is_uncertain: true, .. } => "uncertain",
                    _ => "existing",
                },
                other => panic!("{other:?}"),
            }
        };
        let at = |at, is_clock_known| Some(Created { at, is_clock_known });
        assert_eq!(author(CreateSent::Earlier, false, at(500_000, true)), "created");
        assert_eq!(author(CreateSent::Earlier, false, at(498_500, true)), "created", "whole seconds, twice");
        assert_eq!(author(CreateSent::Earlier, false, at(498_000, true)), "existing");
        assert_eq!(
            author(CreateSent::Earlier, false, at(498_000, false)),
            "uncertain",
            "the clocks may differ"
        );
        assert_eq!(author(CreateSent::Earlier, false, at(200_000, false)), "existing", "not by so much");
        assert_eq!(author(CreateSent::Earlier, false, None), "uncertain");
        assert_eq!(author(CreateSent::Earlier, true, None), "created", "it was not there before");
        assert_eq!(author(CreateSent::Never, false, at(400_000, true)), "existing");
        assert_eq!(author(CreateSent::Never, false, None), "existing");
        assert_eq!(
            author(CreateSent::Never, false, at(501_000, true)),
            "uncertain",
            "a proxy may have repeated it"
        );
    }

    #[test]
    fn a_create_that_is_answered_with_older_fields_has_created_nothing() {
        let history = History { first_claimed_at: 500_000, ..ANSWERED };
        let found = |at, facts| {
            let created = Some(Created { at, is_clock_known: true });
            Reply::Customer(Found { customer_id: "cth_1".into(), whose: Whose::Requested, created, facts })
        };
        let facts = Some(crate::customer::Fingerprint::default());
        assert_eq!(next(CREATE, history, &found(400_000, facts)), "existing");
        assert_eq!(next(CREATE, history, &found(499_000, facts)), "created");
        assert_eq!(next(CREATE, history, &found(400_000, None)), "created");
    }

    #[test]
    fn a_reply_is_classified_line_by_line() {
        use RateSignal::Accepted;
        use ServiceSignal::{Down, RefusedByProxy, Throttled, Up};
        let throttled = |retry_after| RateSignal::Throttled { retry_after };
        let pause = Some(std::time::Duration::from_secs(9));
        let asking_for = |status, seconds| Answer {
            status,
            retry_after: Some(std::time::Duration::from_secs(seconds)),
            ..Answer::default()
        };
        let unknown = |status| Reply::Unknown { status, why: String::new(), request_id: None };
        let unavailable = |retry_after| RateSignal::Unavailable { retry_after };
        let page =
            |seconds| Reply::Foreign(Answer { meaning: Meaning::NotPassedOn, ..asking_for(503, seconds) });
        for (reply, service, rate, may_have_landed) in [
            (customer(Whose::Requested, None), Up, Accepted, true),
            (customer(Whose::Another, None), Up, Accepted, true),
            (Reply::NotSent(String::new()), Down, Accepted, false),
            (unknown(None), Down, Accepted, true),
            (unknown(Some(200)), Down, Accepted, true),
            (answer(200, Meaning::Other), Up, Accepted, false),
            (answer(200, Meaning::InternalError), Down, Accepted, true),
            (answer(302, Meaning::Other), Up, Accepted, false),
            (answer(400, Meaning::Exists), Up, Accepted, false),
            (answer(400, Meaning::InternalError), Down, Accepted, true),
            (answer(400, Meaning::Throttled), Throttled, throttled(None), false),
            (answer(401, Meaning::Other), Up, Accepted, false),
            (answer(403, Meaning::Other), Up, Accepted, false),
            (Reply::Answer(asking_for(403, 9)), Throttled, throttled(pause), false),
            (Reply::Answer(asking_for(403, 0)), Throttled, throttled(None), false),
            (answer(408, Meaning::Other), Up, Accepted, true),
            (answer(429, Meaning::Other), Throttled, throttled(None), false),
            (Reply::Answer(asking_for(429, 9)), Throttled, throttled(pause), false),
            (answer(500, Meaning::Other), Down, Accepted, true),
            (answer(503, Meaning::Other), Down, unavailable(None), true),
            (Reply::Answer(asking_for(503, 9)), Down, unavailable(pause), true),
            (Reply::Answer(asking_for(500, 9)), Down, unavailable(pause), true),
            (answer(503, Meaning::Throttled), Throttled, throttled(None), true),
            (answer(504, Meaning::Other), Down, Accepted, true),
            (foreign(302), Down, Accepted, false),
            (foreign(400), Down, Accepted, true),
            (foreign(403), Down, Accepted, true),
            (Reply::Foreign(asking_for(403, 9)), Throttled, throttled(pause), true),
            (foreign(404), Down, Accepted, false),
            (foreign(413), Down, Accepted, false),
            (foreign(429), Throttled, throttled(None), false),
            (foreign(502), Down, Accepted, true),
            (foreign(503), Down, unavailable(None), true),
            (Reply::Foreign(asking_for(503, 9)), Down, unavailable(pause), true),
            (page(9), RefusedByProxy, RateSignal::RefusedByProxy { retry_after: pause }, false),
            (page(0), RefusedByProxy, RateSignal::RefusedByProxy { retry_after: None }, false),
        ] {
            let expected = Classification { service, rate, may_have_landed };
            assert_eq!(classify(&reply), expected, "{reply:?}");
        }
    }
}
