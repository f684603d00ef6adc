//! Builds and sends the requests of a probe, which an import never sends: without a routing id, with another form of
//! the key, as JSON, to another path.
//!
//! Keeps a description of each request as it was sent, without the key and the merchant id, and the parts of the
//! response that a probe evaluates; a response that repeats the key is stored without it. Interprets nothing, and
//! does not count the requests in the metrics.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use percent_encoding::utf8_percent_encode;
use reqwest::{
    Method, Request, Response, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER},
};
use secrecy::ExposeSecret;
use serde_json::{Map, Value};
use url::Position;

use super::{
    Api, BODY_MAX_BYTES, Keys, MERCHANT_ID, NamedRoute, RESPONSE_ID, ROUTING_ID, Reply, SEGMENT,
    arrival_time, parse_retry_after, short,
};

/// How the key is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyForm {
    /// As documented: `key:`.
    #[default]
    Documented,
    /// As Juspay's Node SDK sends it: without the colon.
    WithoutColon,
    /// A key that does not exist.
    Wrong,
}

/// One request.
#[derive(Clone, Debug, Default)]
pub struct ProbeRequest {
    /// The segments of the path below the base URL, as text.
    pub path: Vec<String>,
    /// The text after `?`.
    pub query: Option<&'static str>,
    /// The fields to post; a request without them is a GET.
    pub fields: Option<Vec<(&'static str, String)>>,
    /// Whether the fields are posted as JSON instead of a form.
    pub is_json: bool,
    /// The value of `x-routing-id`.
    pub routing_id: Option<String>,
    /// How the key is sent.
    pub key: KeyForm,
    /// A merchant id to send instead of the configured one.
    pub merchant_id: Option<String>,
}

/// A request as it was sent, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SentRequest {
    /// `GET` or `POST`.
    pub method: String,
    /// The path with the query.
    pub path: String,
    /// The headers; a value is included unless it is a secret.
    pub headers: Vec<String>,
    /// The body of a POST.
    pub body: Option<String>,
}

/// The parts of a response that are kept.
#[derive(Clone, Debug, Default)]
pub struct ProbeResponse {
    /// The HTTP status.
    pub status: u16,
    /// The body, if it is a JSON object.
    pub body: Option<Map<String, Value>>,
    /// The names of all headers, in lower case.
    pub headers: Vec<String>,
    /// `x-response-id`; Juspay's support needs it.
    pub response_id: Option<String>,
    /// The wait that the server requests.
    pub retry_after: Option<Duration>,
}

/// Sends one request. Returns it as it was sent, and the response or why there was none.
pub async fn send_probe(api: &Api, request: &ProbeRequest) -> (SentRequest, Result<ProbeResponse, String>) {
    let (request, sent) = build(api, request);
    let response = match api.client.execute(request).await {
        Ok(response) => read(response, &api.keys, &api.route).await,
        Err(error) if error.is_connect() => match api.route.not_sent(&error) {
            Reply::NotSent(why) | Reply::ProxyLogin(why) => Err(why),
            _ => Err(api.route.lost(&error)),
        },
        Err(error) => Err(api.route.lost(&error)),
    };
    (sent, response)
}

fn build(api: &Api, probe: &ProbeRequest) -> (Request, SentRequest) {
    let method = if probe.fields.is_some() { Method::POST } else { Method::GET };
    let body = probe.fields.as_ref().map(|fields| encode(fields, probe.is_json));
    let mut request = Request::new(method, url_below_base(api, probe));
    // A header without a value here has its default value.
    let (key, key_shown) = authorization(api, probe.key);
    let merchant_shown = if probe.merchant_id.is_some() { "(hidden, in other letters)" } else { "(hidden)" };
    let mut headers: Vec<(HeaderName, Option<&str>, &str)> = vec![
        (AUTHORIZATION, key.as_deref(), key_shown),
        (MERCHANT_ID, probe.merchant_id.as_deref(), merchant_shown),
    ];
    headers.extend(probe.routing_id.as_deref().map(|id| (ROUTING_ID, Some(id), id)));
    if body.is_some() {
        let kind = if probe.is_json { "application/json" } else { "application/x-www-form-urlencoded" };
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
    let sent = SentRequest {
        method: request.method().to_string(),
        path: request.url()[Position::BeforePath..].to_owned(),
        headers: shown,
        body: body.clone(),
    };
    *request.body_mut() = body.map(Into::into);
    (request, sent)
}

fn url_below_base(api: &Api, probe: &ProbeRequest) -> Url {
    let mut url = api.customers.clone();
    let base = url.path().strip_suffix("/customers").unwrap_or_default();
    let segments = probe.path.iter().map(|segment| utf8_percent_encode(segment, SEGMENT).to_string());
    let path = format!("{base}/{}", segments.collect::<Vec<_>>().join("/"));
    url.set_path(&path);
    url.set_query(probe.query);
    url
}

/// The header's value if it differs from the default, and its description.
fn authorization(api: &Api, key: KeyForm) -> (Option<String>, &'static str) {
    let basic = |credentials: &str| Some(format!("Basic {}", STANDARD.encode(credentials)));
    match key {
        KeyForm::Documented => (None, "Basic (hidden; the key and a colon)"),
        KeyForm::WithoutColon => {
            (basic(api.keys.secret().expose_secret()), "Basic (hidden; the key without a colon)")
        }
        KeyForm::Wrong => (basic("wrong-key-of-a-probe:"), "Basic (a key that nobody has)"),
    }
}

fn encode(fields: &[(&'static str, String)], as_json: bool) -> String {
    if as_json {
        let members = fields.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str())));
        return Value::Object(members.collect()).to_string();
    }
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

async fn read(mut response: Response, keys: &Keys, route: &NamedRoute) -> Result<ProbeResponse, String> {
    let headers = response.headers();
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let mut kept = ProbeResponse {
        status: response.status().as_u16(),
        body: None,
        headers: headers.keys().map(ToString::to_string).collect(),
        response_id: header(RESPONSE_ID).map(short),
        retry_after: header(RETRY_AFTER)
            .and_then(|value| parse_retry_after(value, arrival_time(&response).by_server())),
    };
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| route.lost(&error))? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > BODY_MAX_BYTES {
            return Err(format!("an answer of more than {} KiB", BODY_MAX_BYTES / 1024));
        }
    }
    if let Ok(Value::Object(mut body)) = serde_json::from_slice(&bytes) {
        body.values_mut().for_each(|value| withhold(value, keys));
        kept.body = Some(body);
    }
    if let Some(id) = &mut kept.response_id {
        keys.withhold(id);
    }
    Ok(kept)
}

fn withhold(value: &mut Value, keys: &Keys) {
    match value {
        Value::String(text) => keys.withhold(text),
        Value::Array(values) => values.iter_mut().for_each(|value| withhold(value, keys)),
        Value::Object(members) => members.values_mut().for_each(|value| withhold(value, keys)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
