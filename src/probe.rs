//! Asks a sandbox how it really behaves, and compares that with what this program relies on.
//!
//! Owns the questions, in the order in which they are put (`script`), how an answer is read (`answer`), and what it
//! means beside what is relied on, or beside an earlier probe. A probe creates customers, whose references begin with
//! `probe-`, and nothing can delete them: whoever calls this has made sure that no production is asked.
//!
//! It sends one request at a time through [`Api::ask`], prints nothing, and keeps neither the key nor a token. It uses
//! no ledger: its customers are nobody's rows.

mod answer;

mod script;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use self::{
    answer::{Meaning, Reading, short},
    script::Heard,
};
use crate::api::{Api, ProbeRequest, SentRequest};

/// So many requests in a row without an answer mean that there is nobody to ask.
const SILENCE: u32 = 3;

/// How often a request is sent again that came too early for the API (429).
const PATIENCE: u32 = 5;

/// The longest pause that is kept for the API's sake.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Where and how to ask.
pub struct Options<'a> {
    /// The merchant, to be spelled in other letters once.
    pub merchant_id: &'a str,
    /// Part of each reference, so that no two probes share customers.
    pub run: &'a str,
    /// Whether `x-routing-id` is sent where no question is about it.
    pub is_routed: bool,
    /// Requests a second at most; nothing is no limit but one request after the other.
    pub rate: Option<f64>,
}

/// What a question found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Its name, by which two probes are compared.
    pub question: &'static str,
    /// In words.
    pub asks: &'static str,
    /// The request, where there was one.
    pub request: Option<SentRequest>,
    /// The answer in a few words, the same for two probes of the same API.
    pub answer: String,
    /// The API's message.
    pub message: Option<String>,
    /// The API's name for the request.
    pub response_id: Option<String>,
    /// What this program relies on; none where it does not care.
    pub relied_on: Option<String>,
    /// Whether nobody knew the answer beforehand, and nothing is relied on.
    pub is_open: bool,
    /// Whether the answer is what is relied on; none where nothing is.
    pub is_as_relied_on: Option<bool>,
}

/// What a probe found.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// Part of its customers' references.
    pub run: String,
    /// Requests that were sent.
    pub requests: u32,
    /// Customers that it made; they stay.
    pub customers: usize,
    /// Question by question.
    pub questions: Vec<Finding>,
}

/// What is relied on.
#[derive(Clone, Copy, Debug)]
enum Relied {
    /// This answer.
    On(Meaning),
    /// Any answer but a customer.
    NoCustomer,
    /// One of these facts.
    OneOf(&'static [&'static str]),
    /// That there is something, whatever it is.
    Anything(&'static str),
    /// The program does not care.
    Nothing,
    /// Nobody knows; the program does not care either.
    Open,
}

impl Relied {
    fn words(self) -> Option<String> {
        Some(match self {
            Relied::On(Meaning::Customer) => "a customer".into(),
            Relied::On(Meaning::Exists) => "refused: it exists".into(),
            Relied::On(Meaning::NotFound) => "refused: not found".into(),
            Relied::On(Meaning::Credentials) => "refused: the key".into(),
            Relied::On(Meaning::Refused) => "refused".into(),
            Relied::On(Meaning::Unclear) | Relied::NoCustomer => "no customer".into(),
            Relied::OneOf(facts) => facts.first().map_or_else(String::new, ToString::to_string),
            Relied::Anything(what) => what.into(),
            Relied::Nothing | Relied::Open => return None,
        })
    }

    fn holds(self, answer: &str, reading: Option<Meaning>) -> Option<bool> {
        match self {
            Relied::On(meaning) => Some(reading == Some(meaning)),
            Relied::NoCustomer => Some(reading.is_some_and(|reading| reading != Meaning::Customer)),
            Relied::OneOf(facts) => Some(facts.contains(&answer)),
            Relied::Anything(_) => Some(reading.is_some()),
            Relied::Nothing | Relied::Open => None,
        }
    }
}

/// Why a probe came to nothing, and what to do about it.
#[derive(Clone, Debug)]
pub struct Stop {
    /// What happened.
    pub text: String,
    /// What to check.
    pub hint: &'static str,
}

impl Stop {
    /// The first customer was not created.
    fn at_first(heard: &Heard) -> Stop {
        const NETWORK: &str = "check the network, a proxy, --base-url and --ca-file, then probe again";
        const CREDENTIALS: &str =
            "check the API key, --merchant-id and the environment they belong to, then probe again";
        const ORIGIN: &str =
            "check that this machine's address is on the merchant's allow-list, then probe again";
        const URL: &str = "check --base-url (requests go to URL/customers), then probe again";
        const ROW: &str = "check with Juspay what this account asks for, then probe again";
        let (words, hint) = match &heard.reading {
            Err(why) => (format!("no answer: {why}"), NETWORK),
            Ok(reading) => {
                let told =
                    reading.message.as_ref().map_or_else(String::new, |message| format!(", {message}"));
                let hint = match (reading.status, reading.meaning) {
                    (403, _) => ORIGIN,
                    (_, Meaning::Credentials) => CREDENTIALS,
                    (300..=399 | 404 | 405, _) | (200..=299, Meaning::Unclear) => URL,
                    (500.., _) => "the API has trouble of its own: probe again later",
                    _ => ROW,
                };
                (format!("HTTP {}{told}", reading.words), hint)
            }
        };
        Stop { text: format!("the first customer was not created ({words})"), hint }
    }

    fn of_impatience() -> Stop {
        let text = "the API refuses a request for the rate, however long it is waited for (HTTP 429)".into();
        Stop { text, hint: "lower --rate, or wait until the limit has room, then probe again" }
    }

    fn of_silence(why: &str) -> Stop {
        let text = format!("the API no longer answers ({why})");
        Stop { text, hint: "check the network and the API's status, then probe again" }
    }
}

/// Puts the questions and keeps what was found.
struct Asker<'a> {
    api: &'a Api,
    merchant_id: &'a str,
    run: &'a str,
    is_routed: bool,
    pace: Option<Interval>,
    requests: u32,
    unanswered: u32,
    customers: BTreeSet<String>,
    rate_headers: BTreeSet<String>,
    questions: Vec<Finding>,
}

/// Puts all questions.
///
/// # Errors
/// The first customer could not be created, or there were no answers any more.
pub async fn run(api: &Api, options: &Options<'_>) -> Result<Findings, Stop> {
    let mut asker = Asker {
        api,
        merchant_id: options.merchant_id,
        run: options.run,
        is_routed: options.is_routed,
        pace: options.rate.map(|rate| pace(Duration::from_secs_f64(1.0 / rate))),
        requests: 0,
        unanswered: 0,
        customers: BTreeSet::new(),
        rate_headers: BTreeSet::new(),
        questions: Vec::new(),
    };
    asker.ask_all().await?;
    Ok(Findings {
        run: options.run.to_owned(),
        requests: asker.requests,
        customers: asker.customers.len(),
        questions: asker.questions,
    })
}

/// Ticks at once, and then never sooner than that after the tick before.
fn pace(period: Duration) -> Interval {
    let mut pace = interval_at(Instant::now(), period.max(Duration::from_nanos(1)));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

impl Asker<'_> {
    /// Sends one request, again where the API wants it later.
    async fn ask(&mut self, mut ask: ProbeRequest) -> Result<Heard, Stop> {
        ask.routing_id = ask.routing_id.filter(|_| self.is_routed);
        let mut patience = PATIENCE;
        let (sent, told) = loop {
            if let Some(pace) = &mut self.pace {
                pace.tick().await;
            }
            self.requests += 1;
            let (sent, told) = self.api.probe(&ask).await;
            let Some(told) = told.as_ref().ok().filter(|told| told.status == 429) else { break (sent, told) };
            let Some(left) = patience.checked_sub(1) else { return Err(Stop::of_impatience()) };
            patience = left;
            self.note_headers(&told.headers);
            let pause = told.retry_after.unwrap_or(Duration::from_secs(1)).min(PAUSE_MAX);
            // The API has named the moment from which it wants to be asked again.
            interval_at(Instant::now() + pause, PAUSE_MAX).tick().await;
        };
        match &told {
            Ok(told) => {
                self.unanswered = 0;
                self.note_headers(&told.headers);
            }
            Err(why) => {
                self.unanswered += 1;
                if self.unanswered >= SILENCE {
                    return Err(Stop::of_silence(why));
                }
            }
        }
        let response_id = told.as_ref().ok().and_then(|told| told.response_id.clone());
        let reading = told.map(|told| Reading::of(&told));
        self.customers.extend(reading.as_ref().ok().and_then(Reading::id).map(str::to_owned));
        let message = reading.as_ref().ok().and_then(|reading| reading.message.clone());
        Ok(Heard {
            finding: Finding { request: Some(sent), message, response_id, ..Finding::unasked() },
            reading,
        })
    }

    fn note_headers(&mut self, names: &[String]) {
        let tells = |name: &&String| ["rate", "retry", "limit"].iter().any(|word| name.contains(word));
        self.rate_headers.extend(names.iter().filter(tells).cloned());
    }

    /// A question whose answer is the API's.
    fn put(&mut self, question: &'static str, asks: &'static str, relied: Relied, heard: &Heard) {
        let answer = match &heard.reading {
            Ok(reading) => reading.words.clone(),
            Err(why) => format!("no answer ({why})"),
        };
        self.tell(question, asks, relied, &answer, heard);
    }

    /// A question whose answer is a fact behind the API's.
    fn tell(
        &mut self,
        question: &'static str,
        asks: &'static str,
        relied: Relied,
        answer: &str,
        heard: &Heard,
    ) {
        let meaning = heard.reading.as_ref().ok().map(|reading| reading.meaning);
        // A fact may be any text that the API has sent.
        let answer = short(answer);
        self.questions.push(Finding {
            question,
            asks,
            relied_on: relied.words(),
            is_open: matches!(relied, Relied::Open),
            is_as_relied_on: relied.holds(&answer, meaning),
            answer,
            ..heard.finding.clone()
        });
    }

    /// A question without a request of its own.
    fn skip(&mut self, question: &'static str, asks: &'static str, answer: &str) {
        let answer = answer.to_owned();
        self.questions.push(Finding { question, asks, answer, is_open: true, ..Finding::unasked() });
    }

    /// Nothing where it has no letters.
    fn merchant_in_other_letters(&self) -> Option<String> {
        let swap =
            |c: char| if c.is_ascii_uppercase() { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() };
        let swapped: String = self.merchant_id.chars().map(swap).collect();
        (swapped != self.merchant_id).then_some(swapped)
    }
}

impl Finding {
    fn unasked() -> Finding {
        Finding {
            question: "",
            asks: "",
            request: None,
            answer: String::new(),
            message: None,
            response_id: None,
            relied_on: None,
            is_open: false,
            is_as_relied_on: None,
        }
    }
}

/// What of an earlier probe's findings is compared.
#[derive(Clone, Debug, Deserialize)]
pub struct Earlier {
    questions: Vec<EarlierFinding>,
}

#[derive(Clone, Debug, Deserialize)]
struct EarlierFinding {
    question: String,
    answer: String,
}

/// A question that is answered otherwise than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name.
    pub question: String,
    /// The answer then; none where it was not asked.
    pub before: Option<String>,
    /// The answer now; none where it is no longer asked.
    pub now: Option<String>,
}

impl Findings {
    /// Those that are not what is relied on.
    pub fn differing(&self) -> impl Iterator<Item = &Finding> {
        self.questions.iter().filter(|finding| finding.is_as_relied_on == Some(false))
    }

    /// What has changed since, in the order of the questions.
    pub fn changes(&self, earlier: &Earlier) -> Vec<Change> {
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
