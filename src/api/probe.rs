//! Requests that an import never makes: without a routing id, with another form of the key, as JSON, to another path.
//!
//! Owns how such a request is put together and what of its answer is kept. A request is described as it is sent, so
//! that it can be shown, but the description has neither the key nor the merchant id; and what an answer repeats of
//! the key is withheld before anybody reads it. Nothing is judged here, and nothing counts as an import's request.

use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD};
use percent_encoding::utf8_percent_encode;
use reqwest::{
    Method, Request, Response, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use url::Position;

use super::{
    Api, BODY_MAX_BYTES, MERCHANT_ID, RESPONSE_ID, ROUTING_ID, SEGMENT, describe, parse_retry_after, repeats,
    root_cause, short,
};

/// The key as it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Key {
    /// The documented way: `key:`.
    #[default]
    Documented,
    /// As Juspay's Node SDK sends it: without the colon.
    WithoutColon,
    /// A key that nobody has.
    Wrong,
}

/// One request.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// The segments of the path below the base URL, as text.
    pub path: Vec<String>,
    /// What stands behind `?`.
    pub query: Option<&'static str>,
    /// What is posted; a request without it is a GET.
    pub fields: Option<Vec<(&'static str, String)>>,
    /// Whether it is posted as JSON instead of a form.
    pub is_json: bool,
    /// The value of `x-routing-id`.
    pub routing_id: Option<String>,
    /// How the key is sent.
    pub key: Key,
    /// Another merchant id than the one that was told.
    pub merchant_id: Option<String>,
}

/// A request as it was sent, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Sent {
    /// `GET` or `POST`.
    pub method: String,
    /// With the query.
    pub path: String,
    /// Each with its value, where that is no secret.
    pub headers: Vec<String>,
    /// The body, where there is one.
    pub body: Option<String>,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The HTTP status.
    pub status: u16,
    /// The body, where it is a JSON object.
    pub body: Option<Map<String, Value>>,
    /// The names of all headers, in lower case.
    pub headers: Vec<String>,
    /// `x-response-id`; support asks for it.
    pub response_id: Option<String>,
    /// How long the server asks everyone to wait.
    pub retry_after: Option<Duration>,
}

impl Api {
    /// Sends one request as it stands; how it looked, and what came back or why nothing did.
    pub async fn ask(&self, ask: &Ask) -> (Sent, Result<Told, String>) {
        let (request, sent) = self.put_together(ask);
        let told = match self.client.execute(request).await {
            Ok(response) => read(response, &self.secrets).await,
            Err(error) if error.is_connect() || error.is_builder() => Err(root_cause(&error)),
            Err(error) => Err(describe(&error)),
        };
        (sent, told)
    }

    fn put_together(&self, ask: &Ask) -> (Request, Sent) {
        let method = if ask.fields.is_some() { Method::POST } else { Method::GET };
        let body = ask.fields.as_ref().map(|fields| encode(fields, ask.is_json));
        let mut request = Request::new(method, self.below_base(ask));
        // Without a value of its own, a header has that of every request of this program.
        let (key, key_shown) = self.authorization(ask.key);
        let merchant_shown =
            if ask.merchant_id.is_some() { "(hidden, in other letters)" } else { "(hidden)" };
        let mut headers: Vec<(HeaderName, Option<&str>, &str)> = vec![
            (AUTHORIZATION, key.as_deref(), key_shown),
            (MERCHANT_ID, ask.merchant_id.as_deref(), merchant_shown),
        ];
        headers.extend(ask.routing_id.as_deref().map(|id| (ROUTING_ID, Some(id), id)));
        if body.is_some() {
            let kind = if ask.is_json { "application/json" } else { "application/x-www-form-urlencoded" };
            headers.push((CONTENT_TYPE, Some(kind), kind));
        }
        let shown = headers.iter().map(|(name, _, shown)| format!("{name}: {shown}")).collect();
        for (name, value, _) in headers {
            let value = value.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
            if let Some(mut value) = value {
                value.set_sensitive(true);
                request.headers_mut().insert(name, value);
            }
        }
        let sent = Sent {
            method: request.method().to_string(),
            path: request.url()[Position::BeforePath..].to_owned(),
            headers: shown,
            body: body.clone(),
        };
        *request.body_mut() = body.map(Into::into);
        (request, sent)
    }

    fn below_base(&self, ask: &Ask) -> Url {
        let mut url = self.create.url().clone();
        let base = url.path().strip_suffix("/customers").unwrap_or_default();
        let segments = ask.path.iter().map(|segment| utf8_percent_encode(segment, SEGMENT).to_string());
        let path = format!("{base}/{}", segments.collect::<Vec<_>>().join("/"));
        url.set_path(&path);
        url.set_query(ask.query);
        url
    }

    /// The header's value where it is not the usual one, and how it is shown.
    fn authorization(&self, key: Key) -> (Option<String>, &'static str) {
        let basic = |credentials: &str| Some(format!("Basic {}", STANDARD.encode(credentials)));
        match key {
            Key::Documented => (None, "Basic (hidden; the key and a colon)"),
            Key::WithoutColon => {
                (basic(self.secrets[0].expose_secret()), "Basic (hidden; the key without a colon)")
            }
            Key::Wrong => (basic("wrong-key-of-a-probe:"), "Basic (a key that nobody has)"),
        }
    }
}

fn encode(fields: &[(&'static str, String)], as_json: bool) -> String {
    if as_json {
        let members = fields.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str())));
        return Value::Object(members.collect()).to_string();
    }
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

async fn read(mut response: Response, secrets: &[SecretString]) -> Result<Told, String> {
    let headers = response.headers();
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    #[expect(clippy::disallowed_methods, reason = "dates in headers can only be compared with the clock")]
    let now = SystemTime::now();
    let mut told = Told {
        status: response.status().as_u16(),
        body: None,
        headers: headers.keys().map(ToString::to_string).collect(),
        response_id: header(RESPONSE_ID).map(short),
        retry_after: header(RETRY_AFTER).and_then(|value| parse_retry_after(value, now)),
    };
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| describe(&error))? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > BODY_MAX_BYTES {
            return Err(format!("an answer of more than {} KiB", BODY_MAX_BYTES / 1024));
        }
    }
    if let Ok(Value::Object(mut body)) = serde_json::from_slice(&bytes) {
        body.values_mut().for_each(|value| withhold(value, secrets));
        told.body = Some(body);
    }
    let said = told.response_id.iter_mut();
    said.for_each(|id| withhold_text(id, secrets));
    Ok(told)
}

fn withhold(value: &mut Value, secrets: &[SecretString]) {
    match value {
        Value::String(text) => withhold_text(text, secrets),
        Value::Array(values) => values.iter_mut().for_each(|value| withhold(value, secrets)),
        Value::Object(members) => members.values_mut().for_each(|value| withhold(value, secrets)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn withhold_text(text: &mut String, secrets: &[SecretString]) {
    if secrets.iter().any(|secret| repeats(text, secret.expose_secret())) {
        *text = "(withheld: it repeats the API key)".into();
    }
}
