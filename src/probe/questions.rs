//! The questions of a probe in their order, each with its request and the answer that is relied on.
//!
//! Questions are sent one at a time, because later ones are about the customers of earlier ones. Every reference
//! begins with `probe-`, so that a probe's customers can be recognized. A question is sent even if an earlier one
//! failed, as long as the API responds.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{
    Expectation, Finding, Findings, Options, ProbeFailure,
    answer::{Meaning, ParsedAnswer, shape_of_id, shape_of_time, short},
};
use crate::api::{Api, KeyForm, ProbeRequest, SentRequest, send_probe};

const MOBILE: &str = "9900000001";
const EMAIL: &str = "a@example.com";
const NAME_IN_DEVANAGARI: &str = "\u{930}\u{93e}\u{92e}";

/// The probe fails after this many requests in a row without a response.
const UNANSWERED_MAX: u32 = 3;

/// How often a throttled request (429) is repeated.
const THROTTLED_RETRIES_MAX: u32 = 5;

/// Maximum pause after a 429.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The supported formats of times.
const TIMES: [&str; 4] = [
    "9999-99-99T99:99:99Z",
    "9999-99-99T99:99:99.999Z",
    "9999-99-99T99:99:99+0000",
    "9999-99-99T99:99:99+00:00",
];

/// A request and its response.
pub(super) struct ProbeAnswer {
    request: SentRequest,
    response_id: Option<String>,
    /// The parsed response, or why there is none.
    pub(super) reading: Result<ParsedAnswer, String>,
}

impl ProbeAnswer {
    fn id(&self) -> Option<&str> {
        self.reading.as_ref().ok()?.id()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.reading.as_ref().ok()?.text(name)
    }

    /// A fact about the customer in the response, or the response itself if it is not a customer.
    fn fact(&self, tell: impl FnOnce(&ParsedAnswer) -> String) -> String {
        match &self.reading {
            Ok(reading) if reading.meaning == Meaning::Customer => tell(reading),
            Ok(reading) => reading.words.clone(),
            Err(why) => format!("no answer ({why})"),
        }
    }

    /// Whether the response is the customer with this id.
    fn same(&self, id: &str) -> String {
        self.fact(|reading| {
            let is_same = reading.id() == Some(id);
            if is_same { "the same customer" } else { "another customer" }.into()
        })
    }
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.into()
}

/// The fields of a customer with this reference.
fn fields(reference: &str, more: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let mut fields =
        vec![("object_reference_id", reference.to_owned()), ("mobile_number", MOBILE.to_owned())];
    for (name, value) in more {
        fields.retain(|(known, _)| known != name);
        fields.push((name, (*value).to_owned()));
    }
    fields
}

/// A Create as an import sends it.
fn create(reference: &str, more: &[(&'static str, &str)]) -> ProbeRequest {
    ProbeRequest {
        path: vec!["customers".into()],
        fields: Some(fields(reference, more)),
        routing_id: Some(reference.to_owned()),
        ..ProbeRequest::default()
    }
}

/// A Get by this name, routed to this reference.
fn get(name: &str, reference: &str) -> ProbeRequest {
    ProbeRequest {
        path: vec!["customers".into(), name.to_owned()],
        routing_id: Some(reference.to_owned()),
        ..ProbeRequest::default()
    }
}

fn update(name: &str, reference: &str, fields: &[(&'static str, &str)]) -> ProbeRequest {
    let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    ProbeRequest { fields: Some(fields), ..get(name, reference) }
}

/// Sends the questions and collects the findings.
pub(super) struct Prober<'a> {
    api: &'a Api,
    merchant_id: &'a str,
    run: &'a str,
    is_routed: bool,
    interval: Option<Interval>,
    requests: u32,
    unanswered: u32,
    customers: BTreeSet<String>,
    rate_headers: BTreeSet<String>,
    questions: Vec<Finding>,
}

impl<'a> Prober<'a> {
    /// A prober that has not sent anything yet.
    pub(super) fn new(api: &'a Api, options: &Options<'a>) -> Prober<'a> {
        Prober {
            api,
            merchant_id: options.merchant_id,
            run: options.run,
            is_routed: options.is_routed,
            interval: options.rate.map(|rate| interval(Duration::from_secs_f64(1.0 / rate))),
            requests: 0,
            unanswered: 0,
            customers: BTreeSet::new(),
            rate_headers: BTreeSet::new(),
            questions: Vec::new(),
        }
    }

    /// The findings of all questions.
    pub(super) fn findings(self) -> Findings {
        Findings {
            run: self.run.to_owned(),
            requests: self.requests,
            customers: self.customers.len(),
            questions: self.questions,
        }
    }
}

/// An interval that ticks immediately, and never sooner than `period` after the previous tick.
fn interval(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now(), period.max(Duration::from_nanos(1)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

impl Prober<'_> {
    /// Sends one request; repeats it if it is throttled.
    async fn ask(&mut self, mut ask: ProbeRequest) -> Result<ProbeAnswer, ProbeFailure> {
        ask.routing_id = ask.routing_id.filter(|_| self.is_routed);
        let mut retries_left = THROTTLED_RETRIES_MAX;
        let (sent, response) = loop {
            if let Some(interval) = &mut self.interval {
                interval.tick().await;
            }
            self.requests += 1;
            let (sent, response) = send_probe(self.api, &ask).await;
            let Some(response) = response.as_ref().ok().filter(|response| response.status == 429) else {
                break (sent, response);
            };
            let Some(left) = retries_left.checked_sub(1) else { return Err(ProbeFailure::throttled()) };
            retries_left = left;
            self.collect_rate_headers(&response.headers);
            let pause = response.retry_after.unwrap_or(Duration::from_secs(1)).min(PAUSE_MAX);
            // The first tick comes after the pause that the API requested.
            interval_at(Instant::now() + pause, PAUSE_MAX).tick().await;
        };
        match &response {
            Ok(response) => {
                self.unanswered = 0;
                self.collect_rate_headers(&response.headers);
            }
            Err(why) => {
                self.unanswered += 1;
                if self.unanswered >= UNANSWERED_MAX {
                    return Err(ProbeFailure::unanswered(why));
                }
            }
        }
        let response_id = response.as_ref().ok().and_then(|response| response.response_id.clone());
        let reading = response.map(|response| ParsedAnswer::of(&response));
        self.customers.extend(reading.as_ref().ok().and_then(ParsedAnswer::id).map(str::to_owned));
        Ok(ProbeAnswer { request: sent, response_id, reading })
    }

    fn collect_rate_headers(&mut self, names: &[String]) {
        let tells = |name: &&String| ["rate", "retry", "limit"].iter().any(|word| name.contains(word));
        self.rate_headers.extend(names.iter().filter(tells).cloned());
    }

    /// Records a question whose answer is the response itself.
    fn record(
        &mut self,
        question: &'static str,
        asks: &'static str,
        relied: Expectation,
        heard: &ProbeAnswer,
    ) {
        let answer = match &heard.reading {
            Ok(reading) => reading.words.clone(),
            Err(why) => format!("no answer ({why})"),
        };
        self.record_fact(question, asks, relied, &answer, heard);
    }

    /// Records a question whose answer is a fact about the response.
    fn record_fact(
        &mut self,
        question: &'static str,
        asks: &'static str,
        relied: Expectation,
        answer: &str,
        heard: &ProbeAnswer,
    ) {
        let reading = heard.reading.as_ref().ok();
        // A fact may be any text from the API.
        let answer = short(answer);
        self.questions.push(Finding {
            question,
            asks,
            request: Some(heard.request.clone()),
            message: reading.and_then(|reading| reading.message.clone()),
            response_id: heard.response_id.clone(),
            relied_on: relied.words(),
            is_open: matches!(relied, Expectation::Open),
            is_as_relied_on: relied.holds(&answer, reading.map(|reading| reading.meaning)),
            answer,
        });
    }

    /// Records a question without a request of its own.
    fn record_unasked(&mut self, question: &'static str, asks: &'static str, answer: &str) {
        self.questions.push(Finding {
            question,
            asks,
            request: None,
            answer: answer.to_owned(),
            message: None,
            response_id: None,
            relied_on: None,
            is_open: true,
            is_as_relied_on: None,
        });
    }

    /// The merchant id with the case of its letters swapped; none if it has no letters.
    fn merchant_in_other_letters(&self) -> Option<String> {
        let swap =
            |c: char| if c.is_ascii_uppercase() { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() };
        let swapped: String = self.merchant_id.chars().map(swap).collect();
        (swapped != self.merchant_id).then_some(swapped)
    }
}

impl Prober<'_> {
    /// Asks all questions; stops if the API does not respond.
    pub(super) async fn ask_all(&mut self) -> Result<(), ProbeFailure> {
        let first = self.reference("first");
        let id = self.ask_about_the_first(&first).await?;
        self.ask_again(&first, &id).await?;
        self.ask_in_other_letters(&first, &id).await?;
        self.ask_with_other_headers(&first).await?;
        self.ask_about_numbers().await?;
        self.ask_about_names().await?;
        self.ask_about_references().await?;
        self.ask_to_update(&first, &id).await?;
        self.ask_to_empty(&first, &id).await?;
        self.ask_for_tokens(&first).await?;
        self.ask_for_other_calls(&first).await?;
        self.record_rate_headers();
        Ok(())
    }

    fn reference(&self, name: &str) -> String {
        format!("probe-{}-{name}", self.run)
    }

    /// Creates a customer that no other question uses.
    async fn make(&mut self, name: &str, more: &[(&'static str, &str)]) -> Result<ProbeAnswer, ProbeFailure> {
        let reference = self.reference(name);
        self.ask(create(&reference, more)).await
    }

    /// Asks the questions about the first customer. Without that customer, no further question is possible.
    async fn ask_about_the_first(&mut self, first: &str) -> Result<String, ProbeFailure> {
        let heard = self.ask(create(first, &[("email_address", EMAIL), ("first_name", "Ann")])).await?;
        let Some(id) = heard.id().map(str::to_owned) else { return Err(ProbeFailure::first_create(&heard)) };
        self.record("create", "Create a customer", Expectation::On(Meaning::Customer), &heard);
        let text = |name: &str| heard.text(name).unwrap_or("absent");
        let echo = match heard.text("object_reference_id") {
            Some(reference) if reference == first => "as it was sent",
            Some(reference) if reference.eq_ignore_ascii_case(first) => "in other letters",
            Some(_) => "another",
            None => "absent",
        };
        let facts = [
            ("id", "What its id looks like", Expectation::Anything("any text"), shape_of_id(&id)),
            ("object", "Its object", Expectation::OneOf(&["customer", "absent"]), text("object").into()),
            ("reference", "Its reference", Expectation::OneOf(&["as it was sent", "absent"]), echo.into()),
            (
                "date",
                "How its time of creation is written",
                Expectation::OneOf(&TIMES),
                shape_of_time(text("date_created")),
            ),
            (
                "country_code",
                "The country code, where none is sent",
                Expectation::Nothing,
                text("mobile_country_code").into(),
            ),
        ];
        for (question, asks, relied, fact) in facts {
            self.record_fact(question, asks, relied, &fact, &heard);
        }
        Ok(id)
    }

    async fn ask_again(&mut self, first: &str, id: &str) -> Result<(), ProbeFailure> {
        let heard = self.ask(create(first, &[("mobile_number", "9900000002")])).await?;
        self.record(
            "create_again",
            "Create it again, with another number",
            Expectation::On(Meaning::Exists),
            &heard,
        );
        let heard = self.ask(get(first, first)).await?;
        let changed = heard.fact(|reading| yes(reading.text("mobile_number") != Some(MOBILE)));
        self.record_fact(
            "create_again_changes",
            "Did that change it?",
            Expectation::OneOf(&["no"]),
            &changed,
            &heard,
        );
        let same = &["the same customer"];
        self.record_fact(
            "get_by_reference",
            "Get it by its reference",
            Expectation::OneOf(same),
            &heard.same(id),
            &heard,
        );
        let heard = self.ask(get(id, first)).await?;
        self.record_fact("get_by_id", "Get it by its id", Expectation::OneOf(same), &heard.same(id), &heard);
        let nobody = self.reference("nobody");
        let heard = self.ask(get(&nobody, &nobody)).await?;
        self.record("get_unknown", "Get one that is not there", Expectation::On(Meaning::NotFound), &heard);
        Ok(())
    }

    async fn ask_in_other_letters(&mut self, first: &str, id: &str) -> Result<(), ProbeFailure> {
        let other = self.reference("FIRST");
        let heard = self.ask(get(&other, &other)).await?;
        self.record_fact(
            "get_other_case",
            "Get it by its reference in other letters",
            Expectation::Open,
            &heard.same(id),
            &heard,
        );
        let heard = self.ask(create(&other, &[])).await?;
        self.record(
            "create_other_case",
            "Create one whose reference differs in letter case",
            Expectation::Open,
            &heard,
        );
        let heard = self.ask(ProbeRequest { routing_id: None, ..get(first, first) }).await?;
        self.record("get_without_routing_id", "Get it without x-routing-id", Expectation::Open, &heard);
        let heard = self.ask(get(first, "somebody-else")).await?;
        self.record("get_other_routing_id", "Get it with another x-routing-id", Expectation::Nothing, &heard);
        Ok(())
    }

    async fn ask_with_other_headers(&mut self, first: &str) -> Result<(), ProbeFailure> {
        let ask = |prober: &Prober<'_>, name: &str| create(&prober.reference(name), &[]);
        let unrouted = ProbeRequest { routing_id: None, ..ask(self, "unrouted") };
        let heard = self.ask(unrouted).await?;
        self.record(
            "create_without_routing_id",
            "Create one without x-routing-id",
            Expectation::Open,
            &heard,
        );
        let heard = self.ask(ProbeRequest { key: KeyForm::WithoutColon, ..ask(self, "nocolon") }).await?;
        self.record(
            "key_without_colon",
            "Create one with the key without its colon",
            Expectation::Nothing,
            &heard,
        );
        let heard = self.ask(ProbeRequest { key: KeyForm::Wrong, ..get(first, first) }).await?;
        self.record("wrong_key", "Get it with a wrong key", Expectation::On(Meaning::Credentials), &heard);
        let heard = self.ask(ProbeRequest { is_json: true, ..ask(self, "json") }).await?;
        self.record("json_body", "Create one by a JSON body", Expectation::Nothing, &heard);
        let question = "merchant_other_case";
        let asks = "Create one with the merchant id in other letters";
        match self.merchant_in_other_letters() {
            Some(id) => {
                let heard = self.ask(ProbeRequest { merchant_id: Some(id), ..ask(self, "mcase") }).await?;
                self.record(question, asks, Expectation::NoCustomer, &heard);
            }
            None => self.record_unasked(question, asks, "not asked: the merchant id has no letters"),
        }
        Ok(())
    }

    async fn ask_about_numbers(&mut self) -> Result<(), ProbeFailure> {
        let (longest, longer) = ("9".repeat(16), "9".repeat(17));
        let refused = Expectation::On(Meaning::Refused);
        for (question, asks, relied, name, number) in [
            ("mobile_empty", "Create one with an empty number", refused, "nomobile", ""),
            (
                "mobile_with_plus",
                "Create one with a + and the country code",
                Expectation::Nothing,
                "plus",
                "+919900000001",
            ),
            ("mobile_negative", "Create one with a negative number", refused, "minus", "-5"),
            (
                "mobile_16",
                "Create one with a number of 16 digits",
                Expectation::On(Meaning::Customer),
                "m16",
                &longest,
            ),
            ("mobile_17", "Create one with a number of 17 digits", refused, "m17", &longer),
        ] {
            let heard = self.make(name, &[("mobile_number", number)]).await?;
            self.record(question, asks, relied, &heard);
        }
        Ok(())
    }

    async fn ask_about_names(&mut self) -> Result<(), ProbeFailure> {
        let heard = self.make("quote", &[("first_name", "Mary Ann"), ("last_name", "O'Brien")]).await?;
        self.record("name_with_space_and_quote", "Create Mary Ann O'Brien", Expectation::Open, &heard);
        let heard = self.make("deva", &[("first_name", NAME_IN_DEVANAGARI)]).await?;
        self.record("name_in_devanagari", "Create one with a name in Devanagari", Expectation::Open, &heard);
        let kept = heard.fact(|reading| yes(reading.text("first_name") == Some(NAME_IN_DEVANAGARI)));
        self.record_fact(
            "name_in_devanagari_kept",
            "Is that name as it was sent?",
            Expectation::Open,
            &kept,
            &heard,
        );
        let heard = self.make("n64", &[("first_name", &"n".repeat(64))]).await?;
        self.record(
            "name_64",
            "Create one with a name of 64 letters",
            Expectation::On(Meaning::Customer),
            &heard,
        );
        let heard = self.make("n65", &[("first_name", &"n".repeat(65))]).await?;
        self.record(
            "name_65",
            "Create one with a name of 65 letters",
            Expectation::On(Meaning::Refused),
            &heard,
        );
        Ok(())
    }

    async fn ask_about_references(&mut self) -> Result<(), ProbeFailure> {
        let room = 128_usize.saturating_sub(self.reference("").len());
        let heard = self.make(&"r".repeat(room), &[]).await?;
        self.record(
            "reference_128",
            "Create one with a reference of 128",
            Expectation::On(Meaning::Customer),
            &heard,
        );
        let heard = self.make(&"r".repeat(room + 1), &[]).await?;
        self.record(
            "reference_129",
            "Create one with a reference of 129",
            Expectation::On(Meaning::Refused),
            &heard,
        );
        let heard = self.ask(create("probe-7", &[])).await?;
        self.record(
            "reference_7",
            "Create one with a reference of 7",
            Expectation::On(Meaning::Refused),
            &heard,
        );
        let slashed = self.reference("a/b c+d");
        let heard = self.ask(create(&slashed, &[])).await?;
        let asks = "Create one with / blank + in its reference";
        self.record("reference_with_slash", asks, Expectation::On(Meaning::Customer), &heard);
        let id = heard.id().unwrap_or_default().to_owned();
        let heard = self.ask(get(&slashed, &slashed)).await?;
        let same = Expectation::OneOf(&["the same customer"]);
        self.record_fact("get_with_slash", "Get that one by its reference", same, &heard.same(&id), &heard);
        Ok(())
    }

    async fn ask_to_update(&mut self, first: &str, id: &str) -> Result<(), ProbeFailure> {
        let sent = [("first_name", "Bea"), ("mobile_country_code", "65")];
        let heard = self.ask(update(id, first, &sent)).await?;
        self.record("update", "Update it by its id", Expectation::On(Meaning::Customer), &heard);
        let heard = self.ask(get(first, first)).await?;
        let changed = heard.fact(|it| yes(sent.iter().all(|(name, value)| it.text(name) == Some(value))));
        self.record_fact(
            "update_changes",
            "Did that change what was sent?",
            Expectation::OneOf(&["yes"]),
            &changed,
            &heard,
        );
        let kept = heard.fact(|it| {
            yes(it.text("mobile_number") == Some(MOBILE) && it.text("email_address") == Some(EMAIL))
        });
        self.record_fact(
            "update_keeps",
            "Is what was not sent as it was?",
            Expectation::OneOf(&["yes"]),
            &kept,
            &heard,
        );
        let nobody = self.reference("nobody");
        let heard = self.ask(update(&nobody, &nobody, &[("first_name", "Bea")])).await?;
        self.record(
            "update_unknown",
            "Update one that is not there",
            Expectation::On(Meaning::NotFound),
            &heard,
        );
        let heard = self.ask(update(first, first, &[("last_name", "Cee")])).await?;
        self.record("update_by_reference", "Update it by its reference", Expectation::Nothing, &heard);
        Ok(())
    }

    async fn ask_to_empty(&mut self, first: &str, id: &str) -> Result<(), ProbeFailure> {
        let emptied = [("email_address", ""), ("mobile_country_code", "")];
        let heard = self.ask(update(id, first, &emptied)).await?;
        self.record(
            "update_empty",
            "Update it with an empty e-mail and country code",
            Expectation::Open,
            &heard,
        );
        let heard = self.ask(get(first, first)).await?;
        for (question, asks, name) in [
            ("update_clears_email", "What the e-mail is then", "email_address"),
            ("update_clears_country_code", "What the country code is then", "mobile_country_code"),
        ] {
            let now = heard.fact(|it| it.text(name).unwrap_or("empty").to_owned());
            self.record_fact(question, asks, Expectation::Open, &now, &heard);
        }
        let heard = self.ask(update(id, first, &[("mobile_number", "")])).await?;
        self.record("update_mobile_empty", "Update it with an empty number", Expectation::Nothing, &heard);
        Ok(())
    }

    async fn ask_for_tokens(&mut self, first: &str) -> Result<(), ProbeFailure> {
        const TOKEN_REQUESTED: (&str, &str) = ("options.get_client_auth_token", "true");
        let token = |heard: &ProbeAnswer| {
            heard.fact(|reading| if reading.has_token() { "a token" } else { "no token" }.into())
        };
        let heard = self.make("token", &[TOKEN_REQUESTED]).await?;
        let relied = Expectation::OneOf(&["a token"]);
        self.record_fact("token_on_create", "Create one and ask for a token", relied, &token(&heard), &heard);
        let query = Some("options.get_client_auth_token=true");
        let heard = self.ask(ProbeRequest { query, ..get(first, first) }).await?;
        self.record_fact(
            "token_on_get",
            "Get it and ask for a token",
            Expectation::Nothing,
            &token(&heard),
            &heard,
        );
        Ok(())
    }

    async fn ask_for_other_calls(&mut self, first: &str) -> Result<(), ProbeFailure> {
        let reference = self.reference("vtwo");
        let v2 = |mobile: &str| ProbeRequest {
            path: vec!["v2".into(), "customers".into(), reference.clone()],
            fields: Some(vec![("mobile_number", mobile.to_owned())]),
            is_json: true,
            routing_id: Some(reference.clone()),
            ..ProbeRequest::default()
        };
        let heard = self.ask(v2(MOBILE)).await?;
        self.record("v2_create", "Create one at /v2/customers", Expectation::Open, &heard);
        let again = "v2_create_again";
        let asks = "Create that one again";
        match heard.id().map(str::to_owned) {
            Some(id) => {
                let heard = self.ask(v2("9900000003")).await?;
                self.record_fact(again, asks, Expectation::Open, &heard.same(&id), &heard);
            }
            None => self.record_unasked(again, asks, "not asked: it was not created"),
        }
        let list =
            ProbeRequest { path: vec!["customers".into()], query: Some("count=1"), ..get(first, first) };
        let heard = self.ask(list).await?;
        self.record("list", "List customers", Expectation::Nothing, &heard);
        Ok(())
    }

    /// Records the rate limit headers of all responses.
    fn record_rate_headers(&mut self) {
        let names: Vec<&str> = self.rate_headers.iter().map(String::as_str).collect();
        let response = if names.is_empty() { "none".into() } else { names.join(", ") };
        self.record_unasked("rate_headers", "Headers that tell of a rate limit", &response);
    }
}
