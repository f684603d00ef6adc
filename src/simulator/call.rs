//! What a request asks for, read as the API would read it.
//!
//! Generous where Juspay is (both forms of the key, form or JSON, any base path), strict where a
//! client could otherwise get away with a mistake: an id with an unencoded `/` is an unknown path.
//! Nothing is judged here but whether it is a call at all.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{
    Method,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue},
    http::request::Parts,
};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::{
    answer::{self, Answer},
    behavior::Step,
};

const MERCHANT_ID: HeaderName = HeaderName::from_static("x-merchantid");
const ROUTING_ID: HeaderName = HeaderName::from_static("x-routing-id");

/// What a request asks for, read as the API would.
pub(super) struct Call<'a> {
    pub(super) step: Step,
    pub(super) merchant: Cow<'a, str>,
    /// The reference or id it is about; empty where a Create lacks it.
    pub(super) name: Cow<'a, str>,
    pub(super) fields: Fields,
    pub(super) key: Option<String>,
    /// Whether a header says whom it is about; an empty one says nothing.
    pub(super) is_routed: bool,
    /// The answer where it is no call of this API at all.
    pub(super) misfit: Option<Answer>,
}

impl<'a> Call<'a> {
    /// No body means one that was too large to be read.
    pub(super) fn read(head: &'a Parts, body: Option<&[u8]>) -> Call<'a> {
        let header = |name| head.headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
        let (step, name, mut misfit) = route(&head.method, head.uri.path());
        let mut fields = Fields::default();
        match body {
            None => misfit = Some(answer::TOO_LARGE),
            Some(body) if matches!(step, Step::Create | Step::Update) => {
                match Fields::read(header(CONTENT_TYPE), body) {
                    Some(read) => fields = read,
                    None => misfit = Some(answer::NOT_JSON),
                }
            }
            Some(_) => fields.read_query(head.uri.query().unwrap_or_default()),
        }
        let name = match step {
            Step::Create => Cow::Owned(fields.object_reference_id.take().unwrap_or_default()),
            _ => name,
        };
        let merchant = String::from_utf8_lossy(header(MERCHANT_ID));
        let key = api_key(header(AUTHORIZATION));
        let is_routed = !header(ROUTING_ID).is_empty();
        Call { step, merchant, name, fields, key, is_routed, misfit }
    }
}

/// The last segments decide, so that any base path will do.
fn route<'a>(method: &Method, path: &'a str) -> (Step, Cow<'a, str>, Option<Answer>) {
    let mut backwards = path.rsplit('/');
    let (last, before) = (backwards.next().unwrap_or_default(), backwards.next());
    let none = Cow::Borrowed("");
    if before == Some("customers") && !last.is_empty() {
        let name = percent_decode_str(last).decode_utf8_lossy();
        return match *method {
            Method::GET => (Step::Get, name, None),
            Method::POST => (Step::Update, name, None),
            _ => (Step::Other, none, Some(Answer::wrong_method("GET, POST"))),
        };
    }
    match (last, method) {
        ("customers", &Method::POST) => (Step::Create, none, None),
        ("customers", _) => (Step::Other, none, Some(Answer::wrong_method("POST"))),
        _ => (Step::Other, none, Some(answer::NO_SUCH_PATH)),
    }
}

/// The key of a Basic authorization: the documented `key:` with its empty password, or the bare
/// key that the Node SDK sends.
fn api_key(authorization: &[u8]) -> Option<String> {
    let (scheme, code) = std::str::from_utf8(authorization).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut key = String::from_utf8(STANDARD.decode(code.trim()).ok()?).ok()?;
    if key.ends_with(':') {
        key.pop();
    }
    // What is left of a colon would be a password, and Juspay's is empty.
    (!key.is_empty() && !key.contains(':')).then_some(key)
}

/// The fields of a request; `None` was not sent, empty was sent empty.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) object_reference_id: Option<String>,
    pub(super) mobile_country_code: Option<String>,
    pub(super) mobile_number: Option<String>,
    pub(super) email_address: Option<String>,
    pub(super) first_name: Option<String>,
    pub(super) last_name: Option<String>,
    pub(super) client_auth_token: bool,
}

impl Fields {
    /// Reads a form, or a JSON object where the content type says so; `None` where it is not one.
    fn read(content_type: &[u8], body: &[u8]) -> Option<Fields> {
        let mut fields = Fields::default();
        if !content_type.to_ascii_lowercase().starts_with(b"application/json") {
            for (name, value) in form_urlencoded::parse(body) {
                fields.set(&name, value);
            }
            return Some(fields);
        }
        let Value::Object(members) = serde_json::from_slice(body).ok()? else {
            return None;
        };
        for (name, value) in members {
            match value {
                Value::Null | Value::Array(_) => {}
                Value::String(text) => fields.set(&name, Cow::Owned(text)),
                // `{"options": {"get_client_auth_token": true}}` is `options.get_client_auth_token=true`.
                Value::Object(inner) => {
                    for (suffix, value) in inner {
                        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                        fields.set(&format!("{name}.{suffix}"), Cow::Owned(text));
                    }
                }
                Value::Bool(_) | Value::Number(_) => fields.set(&name, Cow::Owned(value.to_string())),
            }
        }
        Some(fields)
    }

    /// A question has no fields, only what it asks for besides.
    fn read_query(&mut self, query: &str) {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        self.client_auth_token =
            pairs.any(|(name, value)| name == "options.get_client_auth_token" && value == "true");
    }

    fn set(&mut self, name: &str, value: Cow<'_, str>) {
        let field = match name {
            "object_reference_id" => &mut self.object_reference_id,
            "mobile_country_code" => &mut self.mobile_country_code,
            "mobile_number" => &mut self.mobile_number,
            "email_address" => &mut self.email_address,
            "first_name" => &mut self.first_name,
            "last_name" => &mut self.last_name,
            "options.get_client_auth_token" => {
                self.client_auth_token = value == "true";
                return;
            }
            _ => return,
        };
        *field = Some(value.into_owned());
    }
}
