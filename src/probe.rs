//! Tests how a sandbox behaves, and compares that with what this program relies on.
//!
//! Owns the questions and their order (`questions`), the parsing of a response (`answer`), and the comparison with
//! the relied-on behavior or with an earlier probe. A probe creates customers, whose references begin with `probe-`
//! and which cannot be deleted: the caller must make sure that the target is not production.
//!
//! Sends one request at a time, prints nothing, and keeps neither the key nor a token. Uses no ledger: its customers
//! are not rows.

mod answer;

mod questions;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::{
    answer::Meaning,
    questions::{ProbeAnswer, Prober},
};
use crate::api::{Api, SentRequest};

/// How to probe.
pub struct Options<'a> {
    /// The merchant id; one question sends it in another letter case.
    pub merchant_id: &'a str,
    /// Part of each reference, so that no two probes share customers.
    pub run: &'a str,
    /// Whether to send `x-routing-id` with questions that are not about it.
    pub is_routed: bool,
    /// Maximum requests per second; `None` is limited only by one request at a time.
    pub rate: Option<f64>,
}

/// The result of a question.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The name of the question, by which probes are compared.
    pub question: &'static str,
    /// The question as text.
    pub asks: &'static str,
    /// The request, if one was sent.
    pub request: Option<SentRequest>,
    /// The answer in a few words, which are the same for every probe of the same API.
    pub answer: String,
    /// The API's message.
    pub message: Option<String>,
    /// The API's id of the response.
    pub response_id: Option<String>,
    /// The answer that this program relies on, if any.
    pub relied_on: Option<String>,
    /// Whether the answer was unknown when the question was written, so that nothing is relied on.
    pub is_open: bool,
    /// Whether the answer is the one relied on; none if nothing is.
    pub is_as_relied_on: Option<bool>,
}

/// The results of a probe.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// Part of the references of its customers.
    pub run: String,
    /// Number of requests.
    pub requests: u32,
    /// Number of customers created; they stay.
    pub customers: usize,
    /// Results in the order of the questions.
    pub questions: Vec<Finding>,
}

/// What this program relies on in an answer.
#[derive(Clone, Copy, Debug)]
enum Expectation {
    /// The answer must have this meaning.
    On(Meaning),
    /// Any answer but a customer.
    NoCustomer,
    /// The answer must be one of these facts.
    OneOf(&'static [&'static str]),
    /// Any answer.
    Anything(&'static str),
    /// Nothing.
    Nothing,
    /// Nothing; the answer was unknown when the question was written.
    Open,
}

impl Expectation {
    /// The answer relied on, as text.
    fn words(self) -> Option<String> {
        Some(match self {
            Expectation::On(Meaning::Customer) => "a customer".into(),
            Expectation::On(Meaning::Exists) => "refused: it exists".into(),
            Expectation::On(Meaning::NotFound) => "refused: not found".into(),
            Expectation::On(Meaning::Credentials) => "refused: the key".into(),
            Expectation::On(Meaning::Refused) => "refused".into(),
            Expectation::On(Meaning::Unclear) | Expectation::NoCustomer => "no customer".into(),
            Expectation::OneOf(facts) => facts.first().map_or_else(String::new, ToString::to_string),
            Expectation::Anything(what) => what.into(),
            Expectation::Nothing | Expectation::Open => return None,
        })
    }

    /// Whether an answer is the one relied on; `meaning` is that of the response, none without one.
    fn holds(self, answer: &str, meaning: Option<Meaning>) -> Option<bool> {
        match self {
            Expectation::On(expected) => Some(meaning == Some(expected)),
            Expectation::NoCustomer => Some(meaning.is_some_and(|meaning| meaning != Meaning::Customer)),
            Expectation::OneOf(facts) => Some(facts.contains(&answer)),
            Expectation::Anything(_) => Some(meaning.is_some()),
            Expectation::Nothing | Expectation::Open => None,
        }
    }
}

/// Why a probe failed, and what to do.
#[derive(Clone, Debug)]
pub struct ProbeFailure {
    /// What happened.
    pub text: String,
    /// What to check.
    pub hint: &'static str,
}

impl ProbeFailure {
    /// The first customer could not be created.
    fn first_create(answer: &ProbeAnswer) -> ProbeFailure {
        const NETWORK: &str = "check the network, a proxy, --base-url and --ca-file, then probe again";
        const CREDENTIALS: &str =
            "check the API key, --merchant-id and the environment they belong to, then probe again";
        const ORIGIN: &str =
            "check that this machine's address is on the merchant's allow-list, then probe again";
        const URL: &str = "check --base-url (requests go to URL/customers), then probe again";
        const ROW: &str = "check with Juspay what this account asks for, then probe again";
        let (words, hint) = match &answer.reading {
            Err(why) => (format!("no answer: {why}"), NETWORK),
            Ok(reading) => {
                let response =
                    reading.message.as_ref().map_or_else(String::new, |message| format!(", {message}"));
                let hint = match (reading.status, reading.meaning) {
                    (403, _) => ORIGIN,
                    (_, Meaning::Credentials) => CREDENTIALS,
                    (300..=399 | 404 | 405, _) | (200..=299, Meaning::Unclear) => URL,
                    (500.., _) => "the API has trouble of its own: probe again later",
                    _ => ROW,
                };
                (format!("HTTP {}{response}", reading.words), hint)
            }
        };
        ProbeFailure { text: format!("the first customer was not created ({words})"), hint }
    }

    fn throttled() -> ProbeFailure {
        let text = "the API refuses a request for the rate, however long it is waited for (HTTP 429)".into();
        ProbeFailure { text, hint: "lower --rate, or wait until the limit has room, then probe again" }
    }

    fn unanswered(why: &str) -> ProbeFailure {
        let text = format!("the API no longer answers ({why})");
        ProbeFailure { text, hint: "check the network and the API's status, then probe again" }
    }
}

/// Asks all questions.
///
/// # Errors
/// If the first customer could not be created, or the API stopped responding.
pub async fn run(api: &Api, options: &Options<'_>) -> Result<Findings, ProbeFailure> {
    let mut prober = Prober::new(api, options);
    prober.ask_all().await?;
    Ok(prober.findings())
}

/// The part of an earlier probe's findings that is compared.
#[derive(Clone, Debug, Deserialize)]
pub struct EarlierProbe {
    questions: Vec<EarlierFinding>,
}

#[derive(Clone, Debug, Deserialize)]
struct EarlierFinding {
    question: String,
    answer: String,
}

/// A question whose answer has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The name of the question.
    pub question: String,
    /// The earlier answer; none if the question was not asked.
    pub before: Option<String>,
    /// The current answer; none if the question is no longer asked.
    pub now: Option<String>,
}

impl Findings {
    /// The answers that differ from what is relied on.
    pub fn differing(&self) -> impl Iterator<Item = &Finding> {
        self.questions.iter().filter(|finding| finding.is_as_relied_on == Some(false))
    }

    /// The answers that have changed since, in the order of the questions.
    pub fn changes(&self, earlier: &EarlierProbe) -> Vec<Change> {
        let mut before: BTreeMap<&str, &str> =
            earlier.questions.iter().map(|it| (it.question.as_str(), it.answer.as_str())).collect();
        let mut changes = Vec::new();
        for Finding { question, answer, .. } in &self.questions {
            let then = before.remove(question);
            if then != Some(answer) {
                let (question, now) = ((*question).to_owned(), Some(answer.clone()));
                changes.push(Change { question, before: then.map(str::to_owned), now });
            }
        }
        let gone = before.into_iter();
        changes.extend(gone.map(|(question, before)| Change {
            question: question.to_owned(),
            before: Some(before.to_owned()),
            now: None,
        }));
        changes
    }
}
