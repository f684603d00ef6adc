//! The questions, in the order in which they are asked, each beside its request and what is relied on.
//!
//! One request at a time: later questions are about the customers of earlier ones. Each reference begins with
//! `probe-`, so that a probe's customers are known for what they are. A question is put even where an earlier one went
//! wrong, as long as there are answers at all.

use super::{
    Asker, Finding, Relied, Stop,
    answer::{Meaning, Reading, shape_of_id, shape_of_time},
};
use crate::api::{KeyForm, ProbeRequest};

const MOBILE: &str = "9900000001";
const EMAIL: &str = "a@example.com";
const NAME_IN_DEVANAGARI: &str = "\u{930}\u{93e}\u{92e}";

/// The ways in which times are written that are understood.
const TIMES: [&str; 4] = [
    "9999-99-99T99:99:99Z",
    "9999-99-99T99:99:99.999Z",
    "9999-99-99T99:99:99+0000",
    "9999-99-99T99:99:99+00:00",
];

/// A request and what came back.
pub(super) struct Heard {
    pub(super) finding: Finding,
    pub(super) reading: Result<Reading, String>,
}

impl Heard {
    fn id(&self) -> Option<&str> {
        self.reading.as_ref().ok()?.id()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.reading.as_ref().ok()?.text(name)
    }

    /// Something about a customer; where the answer is none, the answer itself.
    fn fact(&self, tell: impl FnOnce(&Reading) -> String) -> String {
        match &self.reading {
            Ok(reading) if reading.meaning == Meaning::Customer => tell(reading),
            Ok(reading) => reading.words.clone(),
            Err(why) => format!("no answer ({why})"),
        }
    }

    /// Whether it is about the customer of this id.
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

/// The fields of a customer of this reference.
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

impl Asker<'_> {
    /// All of it; stops where there are no answers to be had.
    pub(super) async fn ask_all(&mut self) -> Result<(), Stop> {
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
        self.tell_of_rates();
        Ok(())
    }

    fn reference(&self, name: &str) -> String {
        format!("probe-{}-{name}", self.run)
    }

    /// A Create of a customer of its own.
    async fn make(&mut self, name: &str, more: &[(&'static str, &str)]) -> Result<Heard, Stop> {
        let reference = self.reference(name);
        self.ask(create(&reference, more)).await
    }

    /// Without it there is nothing to ask about.
    async fn ask_about_the_first(&mut self, first: &str) -> Result<String, Stop> {
        let heard = self.ask(create(first, &[("email_address", EMAIL), ("first_name", "Ann")])).await?;
        let Some(id) = heard.id().map(str::to_owned) else { return Err(Stop::at_first(&heard)) };
        self.put("create", "Create a customer", Relied::On(Meaning::Customer), &heard);
        let text = |name: &str| heard.text(name).unwrap_or("absent");
        let echo = match heard.text("object_reference_id") {
            Some(reference) if reference == first => "as it was sent",
            Some(reference) if reference.eq_ignore_ascii_case(first) => "in other letters",
            Some(_) => "another",
            None => "absent",
        };
        let facts = [
            ("id", "What its id looks like", Relied::Anything("any text"), shape_of_id(&id)),
            ("object", "Its object", Relied::OneOf(&["customer", "absent"]), text("object").into()),
            ("reference", "Its reference", Relied::OneOf(&["as it was sent", "absent"]), echo.into()),
            (
                "date",
                "How its time of creation is written",
                Relied::OneOf(&TIMES),
                shape_of_time(text("date_created")),
            ),
            (
                "country_code",
                "The country code, where none is sent",
                Relied::Nothing,
                text("mobile_country_code").into(),
            ),
        ];
        for (question, asks, relied, fact) in facts {
            self.tell(question, asks, relied, &fact, &heard);
        }
        Ok(id)
    }

    async fn ask_again(&mut self, first: &str, id: &str) -> Result<(), Stop> {
        let heard = self.ask(create(first, &[("mobile_number", "9900000002")])).await?;
        self.put("create_again", "Create it again, with another number", Relied::On(Meaning::Exists), &heard);
        let heard = self.ask(get(first, first)).await?;
        let changed = heard.fact(|reading| yes(reading.text("mobile_number") != Some(MOBILE)));
        self.tell("create_again_changes", "Did that change it?", Relied::OneOf(&["no"]), &changed, &heard);
        let same = &["the same customer"];
        self.tell(
            "get_by_reference",
            "Get it by its reference",
            Relied::OneOf(same),
            &heard.same(id),
            &heard,
        );
        let heard = self.ask(get(id, first)).await?;
        self.tell("get_by_id", "Get it by its id", Relied::OneOf(same), &heard.same(id), &heard);
        let nobody = self.reference("nobody");
        let heard = self.ask(get(&nobody, &nobody)).await?;
        self.put("get_unknown", "Get one that is not there", Relied::On(Meaning::NotFound), &heard);
        Ok(())
    }

    async fn ask_in_other_letters(&mut self, first: &str, id: &str) -> Result<(), Stop> {
        let other = self.reference("FIRST");
        let heard = self.ask(get(&other, &other)).await?;
        self.tell(
            "get_other_case",
            "Get it by its reference in other letters",
            Relied::Open,
            &heard.same(id),
            &heard,
        );
        let heard = self.ask(create(&other, &[])).await?;
        self.put(
            "create_other_case",
            "Create one whose reference differs in letter case",
            Relied::Open,
            &heard,
        );
        let heard = self.ask(ProbeRequest { routing_id: None, ..get(first, first) }).await?;
        self.put("get_without_routing_id", "Get it without x-routing-id", Relied::Open, &heard);
        let heard = self.ask(get(first, "somebody-else")).await?;
        self.put("get_other_routing_id", "Get it with another x-routing-id", Relied::Nothing, &heard);
        Ok(())
    }

    async fn ask_with_other_headers(&mut self, first: &str) -> Result<(), Stop> {
        let ask = |asker: &Asker<'_>, name: &str| create(&asker.reference(name), &[]);
        let unrouted = ProbeRequest { routing_id: None, ..ask(self, "unrouted") };
        let heard = self.ask(unrouted).await?;
        self.put("create_without_routing_id", "Create one without x-routing-id", Relied::Open, &heard);
        let heard = self.ask(ProbeRequest { key: KeyForm::WithoutColon, ..ask(self, "nocolon") }).await?;
        self.put("key_without_colon", "Create one with the key without its colon", Relied::Nothing, &heard);
        let heard = self.ask(ProbeRequest { key: KeyForm::Wrong, ..get(first, first) }).await?;
        self.put("wrong_key", "Get it with a wrong key", Relied::On(Meaning::Credentials), &heard);
        let heard = self.ask(ProbeRequest { is_json: true, ..ask(self, "json") }).await?;
        self.put("json_body", "Create one by a JSON body", Relied::Nothing, &heard);
        let question = "merchant_other_case";
        let asks = "Create one with the merchant id in other letters";
        match self.merchant_in_other_letters() {
            Some(id) => {
                let heard = self.ask(ProbeRequest { merchant_id: Some(id), ..ask(self, "mcase") }).await?;
                self.put(question, asks, Relied::NoCustomer, &heard);
            }
            None => self.skip(question, asks, "not asked: the merchant id has no letters"),
        }
        Ok(())
    }

    async fn ask_about_numbers(&mut self) -> Result<(), Stop> {
        let (longest, longer) = ("9".repeat(16), "9".repeat(17));
        let refused = Relied::On(Meaning::Refused);
        for (question, asks, relied, name, number) in [
            ("mobile_empty", "Create one with an empty number", refused, "nomobile", ""),
            (
                "mobile_with_plus",
                "Create one with a + and the country code",
                Relied::Nothing,
                "plus",
                "+919900000001",
            ),
            ("mobile_negative", "Create one with a negative number", refused, "minus", "-5"),
            (
                "mobile_16",
                "Create one with a number of 16 digits",
                Relied::On(Meaning::Customer),
                "m16",
                &longest,
            ),
            ("mobile_17", "Create one with a number of 17 digits", refused, "m17", &longer),
        ] {
            let heard = self.make(name, &[("mobile_number", number)]).await?;
            self.put(question, asks, relied, &heard);
        }
        Ok(())
    }

    async fn ask_about_names(&mut self) -> Result<(), Stop> {
        let heard = self.make("quote", &[("first_name", "Mary Ann"), ("last_name", "O'Brien")]).await?;
        self.put("name_with_space_and_quote", "Create Mary Ann O'Brien", Relied::Open, &heard);
        let heard = self.make("deva", &[("first_name", NAME_IN_DEVANAGARI)]).await?;
        self.put("name_in_devanagari", "Create one with a name in Devanagari", Relied::Open, &heard);
        let kept = heard.fact(|reading| yes(reading.text("first_name") == Some(NAME_IN_DEVANAGARI)));
        self.tell("name_in_devanagari_kept", "Is that name as it was sent?", Relied::Open, &kept, &heard);
        let heard = self.make("n64", &[("first_name", &"n".repeat(64))]).await?;
        self.put("name_64", "Create one with a name of 64 letters", Relied::On(Meaning::Customer), &heard);
        let heard = self.make("n65", &[("first_name", &"n".repeat(65))]).await?;
        self.put("name_65", "Create one with a name of 65 letters", Relied::On(Meaning::Refused), &heard);
        Ok(())
    }

    async fn ask_about_references(&mut self) -> Result<(), Stop> {
        let room = 128_usize.saturating_sub(self.reference("").len());
        let heard = self.make(&"r".repeat(room), &[]).await?;
        self.put(
            "reference_128",
            "Create one with a reference of 128",
            Relied::On(Meaning::Customer),
            &heard,
        );
        let heard = self.make(&"r".repeat(room + 1), &[]).await?;
        self.put("reference_129", "Create one with a reference of 129", Relied::On(Meaning::Refused), &heard);
        let heard = self.ask(create("probe-7", &[])).await?;
        self.put("reference_7", "Create one with a reference of 7", Relied::On(Meaning::Refused), &heard);
        let slashed = self.reference("a/b c+d");
        let heard = self.ask(create(&slashed, &[])).await?;
        let asks = "Create one with / blank + in its reference";
        self.put("reference_with_slash", asks, Relied::On(Meaning::Customer), &heard);
        let id = heard.id().unwrap_or_default().to_owned();
        let heard = self.ask(get(&slashed, &slashed)).await?;
        let same = Relied::OneOf(&["the same customer"]);
        self.tell("get_with_slash", "Get that one by its reference", same, &heard.same(&id), &heard);
        Ok(())
    }

    async fn ask_to_update(&mut self, first: &str, id: &str) -> Result<(), Stop> {
        let sent = [("first_name", "Bea"), ("mobile_country_code", "65")];
        let heard = self.ask(update(id, first, &sent)).await?;
        self.put("update", "Update it by its id", Relied::On(Meaning::Customer), &heard);
        let heard = self.ask(get(first, first)).await?;
        let changed = heard.fact(|it| yes(sent.iter().all(|(name, value)| it.text(name) == Some(value))));
        self.tell(
            "update_changes",
            "Did that change what was sent?",
            Relied::OneOf(&["yes"]),
            &changed,
            &heard,
        );
        let kept = heard.fact(|it| {
            yes(it.text("mobile_number") == Some(MOBILE) && it.text("email_address") == Some(EMAIL))
        });
        self.tell("update_keeps", "Is what was not sent as it was?", Relied::OneOf(&["yes"]), &kept, &heard);
        let nobody = self.reference("nobody");
        let heard = self.ask(update(&nobody, &nobody, &[("first_name", "Bea")])).await?;
        self.put("update_unknown", "Update one that is not there", Relied::On(Meaning::NotFound), &heard);
        let heard = self.ask(update(first, first, &[("last_name", "Cee")])).await?;
        self.put("update_by_reference", "Update it by its reference", Relied::Nothing, &heard);
        Ok(())
    }

    async fn ask_to_empty(&mut self, first: &str, id: &str) -> Result<(), Stop> {
        let emptied = [("email_address", ""), ("mobile_country_code", "")];
        let heard = self.ask(update(id, first, &emptied)).await?;
        self.put("update_empty", "Update it with an empty e-mail and country code", Relied::Open, &heard);
        let heard = self.ask(get(first, first)).await?;
        for (question, asks, name) in [
            ("update_clears_email", "What the e-mail is then", "email_address"),
            ("update_clears_country_code", "What the country code is then", "mobile_country_code"),
        ] {
            let now = heard.fact(|it| it.text(name).unwrap_or("empty").to_owned());
            self.tell(question, asks, Relied::Open, &now, &heard);
        }
        let heard = self.ask(update(id, first, &[("mobile_number", "")])).await?;
        self.put("update_mobile_empty", "Update it with an empty number", Relied::Nothing, &heard);
        Ok(())
    }

    async fn ask_for_tokens(&mut self, first: &str) -> Result<(), Stop> {
        const ASKED: (&str, &str) = ("options.get_client_auth_token", "true");
        let token = |heard: &Heard| {
            heard.fact(|reading| if reading.has_token() { "a token" } else { "no token" }.into())
        };
        let heard = self.make("token", &[ASKED]).await?;
        let relied = Relied::OneOf(&["a token"]);
        self.tell("token_on_create", "Create one and ask for a token", relied, &token(&heard), &heard);
        let query = Some("options.get_client_auth_token=true");
        let heard = self.ask(ProbeRequest { query, ..get(first, first) }).await?;
        self.tell("token_on_get", "Get it and ask for a token", Relied::Nothing, &token(&heard), &heard);
        Ok(())
    }

    async fn ask_for_other_calls(&mut self, first: &str) -> Result<(), Stop> {
        let reference = self.reference("vtwo");
        let v2 = |mobile: &str| ProbeRequest {
            path: vec!["v2".into(), "customers".into(), reference.clone()],
            fields: Some(vec![("mobile_number", mobile.to_owned())]),
            is_json: true,
            routing_id: Some(reference.clone()),
            ..ProbeRequest::default()
        };
        let heard = self.ask(v2(MOBILE)).await?;
        self.put("v2_create", "Create one at /v2/customers", Relied::Open, &heard);
        let again = "v2_create_again";
        let asks = "Create that one again";
        match heard.id().map(str::to_owned) {
            Some(id) => {
                let heard = self.ask(v2("9900000003")).await?;
                self.tell(again, asks, Relied::Open, &heard.same(&id), &heard);
            }
            None => self.skip(again, asks, "not asked: it was not created"),
        }
        let list =
            ProbeRequest { path: vec!["customers".into()], query: Some("count=1"), ..get(first, first) };
        let heard = self.ask(list).await?;
        self.put("list", "List customers", Relied::Nothing, &heard);
        Ok(())
    }

    /// Of all answers together.
    fn tell_of_rates(&mut self) {
        let names: Vec<&str> = self.rate_headers.iter().map(String::as_str).collect();
        let told = if names.is_empty() { "none".into() } else { names.join(", ") };
        self.skip("rate_headers", "Headers that tell of a rate limit", &told);
    }
}
