//! What each reply means: a pure table from (step, what is known, reply) to what comes next.
//!
//! The rule that it serves: Create is not idempotent, so after a Create that may have landed nothing
//! is sent for the row but Get, until Get has answered. A 200 can carry an error and a 500 can have
//! created the customer; an answer about another reference is no answer.
//!
//! Codes are compared without regard to case. Nothing here waits, sends or counts.

use super::{gate::Health, pace::Said};
use crate::{
    api::{Answer, Reply},
    customer::Reference,
    ledger::{Ending, Evidence, Trouble},
};

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
    Settle(Ending),
    /// Go on at once.
    Next(Step),
    /// Wait, then this step.
    Retry(Step),
    /// Refused for the rate: the same step when it goes on; costs no attempt.
    Pause,
    Halt(Halt),
}

/// What is known of a row besides the reply.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Past {
    /// A Create of ours, in this run or an earlier one, may have landed at some time.
    pub(super) ours: bool,
    /// One may have landed and Get has not answered since.
    pub(super) in_doubt: bool,
    /// This run sent the fields.
    pub(super) sent: bool,
    /// When the row was first claimed; UTC milliseconds.
    pub(super) claimed_at: i64,
}

/// What comes after a reply. The table of the architecture page, line by line.
pub(super) fn verdict(step: Step, past: Past, reply: &Reply, asked: &Reference) -> Verdict {
    match reply {
        Reply::Customer { customer_id, reference, created_at, .. } => {
            if reference.as_ref().is_some_and(|reference| reference != asked) {
                // About somebody else: never recorded.
                return unclear(step);
            }
            let customer_id = customer_id.clone();
            let evidence = Evidence::Found { created_at: *created_at, earlier: !past.sent };
            Verdict::Settle(match step {
                Step::Create => Ending::Created { customer_id, evidence: Evidence::Answer },
                Step::Update => Ending::Updated,
                Step::Get { .. } if past.ours && !is_older(*created_at, past.claimed_at) => {
                    Ending::Created { customer_id, evidence }
                }
                Step::Get { .. } => Ending::Existing { customer_id, evidence },
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
        (429, _) => Verdict::Pause,
        (403, _) => Verdict::Halt(Halt::Forbidden(words(answer))),
        (401, _) => Verdict::Halt(Halt::Credentials(words(answer))),
        (407, _) => Verdict::Halt(Halt::Proxy),
        (300..=399, _) => Verdict::Halt(Halt::Redirect(answer.status)),
        // An answer that is none: a switch to another protocol.
        (..200, _) => unclear(step),
        // 408 and 425: the server gave up on, or put off, a request that it may have begun.
        (500.., _) | (408 | 425, _) if answer.status != 501 || !step.writes() => unclear(step),
        _ if is(&["bad_origin"]) => Verdict::Halt(Halt::Forbidden(words(answer))),
        _ if is(&["access_denied", "unauthorized", "unauthenticated"]) => {
            Verdict::Halt(Halt::Credentials(words(answer)))
        }
        (404 | 405 | 501, Step::Create) | (405 | 501, Step::Update) => {
            Verdict::Halt(Halt::WrongUrl(answer.status))
        }
        (_, Step::Update) if is(&["duplicate_request"]) => Verdict::Retry(step),
        // A customer that is gone too: that is this row's trouble.
        (_, Step::Update) => Verdict::Settle(Ending::Rejected(trouble_of_answer(answer))),
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
        // To ask is idempotent, and so is to update.
        other => other,
    })
}

/// Whether the customer was there before we first asked for it. The API's times have whole seconds.
fn is_older(created_at: Option<i64>, claimed_at: i64) -> bool {
    created_at.is_some_and(|created_at| created_at < claimed_at - claimed_at.rem_euclid(1000))
}

/// Whether a Create with this reply may have created the customer.
pub(super) fn may_have_landed(reply: &Reply) -> bool {
    match reply {
        Reply::NotSent(_) => false,
        Reply::Answer(answer) => !(200..500).contains(&answer.status) || matches!(answer.status, 408 | 425),
        Reply::Customer { .. } | Reply::Unknown { .. } => true,
    }
}

pub(super) fn health(reply: &Reply) -> Health {
    match reply {
        Reply::Answer(answer) if answer.status == 429 => Health::Throttled,
        Reply::Answer(answer) if !(200..500).contains(&answer.status) => Health::Bad,
        Reply::NotSent(_) | Reply::Unknown { .. } => Health::Bad,
        Reply::Answer(_) | Reply::Customer { .. } => Health::Good,
    }
}

/// What a reply says about the rate.
pub(super) fn said(reply: &Reply) -> Said {
    match reply {
        // A server that says "now", or whose date is past, has answered 429 all the same.
        Reply::Answer(answer) if answer.status == 429 => {
            Said::Refused(answer.retry_after.filter(|asked| !asked.is_zero()))
        }
        Reply::Answer(answer) if answer.status == 503 => Said::Unavailable,
        _ => Said::Taken,
    }
}

pub(super) fn trouble_of(reply: &Reply) -> Trouble {
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
    const UPDATE: Step = Step::Update;

    fn answer(status: u16, code: &str) -> Reply {
        Reply::Answer(Answer { status, code: (!code.is_empty()).then(|| code.into()), ..Answer::default() })
    }

    fn customer(reference: Option<&str>, created_at: Option<i64>) -> Reply {
        Reply::Customer {
            customer_id: "cst_1".into(),
            reference: reference.map(Reference::recorded),
            created_at,
            facts: None,
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
            Verdict::Next(UPDATE) => "update",
            Verdict::Retry(UPDATE) => "wait, update",
            Verdict::Pause => "pause",
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
            (CREATE, &answer(101, ""), "wait, get"),
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
            (UPDATE, &ours, "updated"),
            (UPDATE, &theirs, "wait, update"),
            (UPDATE, &answer(404, "object_not_found"), "rejected"),
            (UPDATE, &answer(404, ""), "rejected"),
            (UPDATE, &answer(405, ""), "halt"),
            (UPDATE, &answer(501, ""), "halt"),
            (UPDATE, &answer(400, "INVALID_INPUT"), "rejected"),
            (UPDATE, &answer(200, "INVALID_REQUEST"), "rejected"),
            (UPDATE, &answer(400, "unique"), "rejected"),
            (UPDATE, &answer(400, "DUPLICATE_REQUEST"), "wait, update"),
            (UPDATE, &answer(500, ""), "wait, update"),
            (UPDATE, &refused, "wait, update"),
            (UPDATE, &lost, "wait, update"),
        ];
        for (step, reply, expected) in table {
            assert_eq!(outcome(judge(*step, Past::default(), reply)), *expected, "{step:?} {reply:?}");
        }
        for step in [CREATE, ASK, TOLD, UPDATE] {
            for (status, code, expected) in [
                (401, "access_denied", "halt"),
                (403, "bad_origin", "halt"),
                (200, "UNAUTHORIZED", "halt"),
                (400, "unauthenticated", "halt"),
                (400, "BAD_ORIGIN", "halt"),
                (301, "", "halt"),
                (308, "", "halt"),
                (407, "", "halt"),
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
        let found = |created_at, earlier| Evidence::Found { created_at, earlier };
        let created = |created_at, earlier| {
            let evidence = found(created_at, earlier);
            Verdict::Settle(Ending::Created { customer_id: "cst_1".into(), evidence })
        };
        let existing = |created_at, earlier| {
            let evidence = found(Some(created_at), earlier);
            Verdict::Settle(Ending::Existing { customer_id: "cst_1".into(), evidence })
        };
        assert_eq!(judge(TOLD, past(false, false), &at(Some(9_000))), existing(9_000, true));
        assert_eq!(judge(ASK, past(true, true), &at(None)), created(None, false));
        assert_eq!(judge(ASK, past(true, false), &at(Some(5_000))), created(Some(5_000), true));
        assert_eq!(judge(ASK, past(true, true), &at(Some(4_000))), existing(4_000, false));
        assert_eq!(judge(TOLD, past(true, true), &at(Some(6_000))), created(Some(6_000), false));
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
}
