//! Parses a request as the API would.
//!
//! Lenient where Juspay is (both forms of the key, form or JSON, any base path), strict where a client could otherwise get
//! away with a mistake: an id with an unencoded `/` is an unknown path. Only checks whether the request is a call of the
//! API; its content is not validated here.

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
    record::{Endpoint, SentFields},
};

const MERCHANT_ID: HeaderName = HeaderName::from_static("x-merchantid");
const ROUTING_ID: HeaderName = HeaderName::from_static("x-routing-id");

/// A parsed request.
pub(super) struct Call<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) merchant: Cow<'a, str>,
    /// The reference or id of the customer; empty if a Create lacks it.
    pub(super) name: Cow<'a, str>,
    pub(super) fields: SentFields,
    pub(super) key: Option<String>,
    /// Whether the request has a non-empty `x-routing-id`.
    pub(super) is_routed: bool,
    /// The response, if the request is not a call of this API.
    pub(super) protocol_error: Option<Answer>,
}

impl<'a> Call<'a> {
    /// Parses a request; a body of `None` was too large.
    pub(super) fn read(head: &'a Parts, body: Option<&[u8]>) -> Call<'a> {
        let header = |name| head.headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
        let (endpoint, name, mut protocol_error) = route(&head.method, head.uri.path());
        let mut fields = SentFields::default();
        match body {
            None => protocol_error = Some(answer::TOO_LARGE),
            Some(body) if matches!(endpoint, Endpoint::Create | Endpoint::Update) => {
                match read_fields(header(CONTENT_TYPE), body) {
                    Some(read) => fields = read,
                    None => protocol_error = Some(answer::NOT_JSON),
                }
            }
            Some(_) => fields.client_auth_token = asks_for_token(head.uri.query().unwrap_or_default()),
        }
        let name = match endpoint {
            Endpoint::Create => Cow::Owned(fields.object_reference_id.take().unwrap_or_default()),
            _ => name,
        };
        let merchant = String::from_utf8_lossy(header(MERCHANT_ID));
        let key = api_key(header(AUTHORIZATION));
        let is_routed = !header(ROUTING_ID).is_empty();
        Call { endpoint, merchant, name, fields, key, is_routed, protocol_error }
    }
}

/// Routes by the last segments of the path, so that any base path works.
fn route<'a>(method: &Method, path: &'a str) -> (Endpoint, Cow<'a, str>, Option<Answer>) {
    let mut backwards = path.rsplit('/');
    let (last, before) = (backwards.next().unwrap_or_default(), backwards.next());
    let none = Cow::Borrowed("");
    if before == Some("customers") && !last.is_empty() {
        let name = percent_decode_str(last).decode_utf8_lossy();
        return match *method {
            Method::GET => (Endpoint::Get, name, None),
            Method::POST => (Endpoint::Update, name, None),
            _ => (Endpoint::Other, none, Some(Answer::wrong_method("GET, POST"))),
        };
    }
    match (last, method) {
        ("customers", &Method::POST) => (Endpoint::Create, none, None),
        ("customers", _) => (Endpoint::Other, none, Some(Answer::wrong_method("POST"))),
        _ => (Endpoint::Other, none, Some(answer::NO_SUCH_PATH)),
    }
}

/// The key of a Basic authorization: the documented `key:` with an empty password, or the bare key that the Node SDK
/// sends.
fn api_key(authorization: &[u8]) -> Option<String> {
    let (scheme, code) = std::str::from_utf8(authorization).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut key = String::from_utf8(STANDARD.decode(code.trim()).ok()?).ok()?;
    if key.ends_with(':') {
        key.pop();
    }
    // A further colon would separate a password, but Juspay's password is empty.
    (!key.is_empty() && !key.contains(':')).then_some(key)
}

/// Parses a form, or a JSON object if the content type says so; `None` if the body is not one.
fn read_fields(content_type: &[u8], body: &[u8]) -> Option<SentFields> {
    let mut fields = SentFields::default();
    if !content_type.to_ascii_lowercase().starts_with(b"application/json") {
        for (name, value) in form_urlencoded::parse(body) {
            set_field(&mut fields, &name, value);
        }
        return Some(fields);
    }
    let Value::Object(members) = serde_json::from_slice(body).ok()? else {
        return None;
    };
    for (name, value) in members {
        match value {
            Value::Null | Value::Array(_) => {}
            Value::String(text) => set_field(&mut fields, &name, Cow::Owned(text)),
            // `{"options": {"get_client_auth_token": true}}` is `options.get_client_auth_token=true`.
            Value::Object(inner) => {
                for (suffix, value) in inner {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    set_field(&mut fields, &format!("{name}.{suffix}"), Cow::Owned(text));
                }
            }
            Value::Bool(_) | Value::Number(_) => set_field(&mut fields, &name, Cow::Owned(value.to_string())),
        }
    }
    Some(fields)
}

/// Whether the query of a Get requests a client token.
fn asks_for_token(query: &str) -> bool {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.any(|(name, value)| name == "options.get_client_auth_token" && value == "true")
}

fn set_field(fields: &mut SentFields, name: &str, value: Cow<'_, str>) {
    let field = match name {
        "object_reference_id" => &mut fields.object_reference_id,
        "mobile_country_code" => &mut fields.mobile_country_code,
        "mobile_number" => &mut fields.mobile_number,
        "email_address" => &mut fields.email_address,
        "first_name" => &mut fields.first_name,
        "last_name" => &mut fields.last_name,
        "options.get_client_auth_token" => {
            fields.client_auth_token = value == "true";
            return;
        }
        _ => return,
    };
    *field = Some(value.into_owned());
}
