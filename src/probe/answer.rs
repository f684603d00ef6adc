//! Parses a response to a probe: its meaning, and a short description of it.
//!
//! Pure. Probes are compared by the description, so it contains nothing that differs between two probes of the same API: no
//! id, no reference, no time, no token.

use serde_json::{Map, Value};

use crate::api::ProbeResponse;

/// Maximum number of characters of a code or a message in a description.
const TEXT_MAX: usize = 200;

/// The meaning of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A customer, with an id.
    Customer,
    /// Refused: the customer exists.
    Exists,
    /// Refused: the customer does not exist.
    NotFound,
    /// Refused: the key or the merchant.
    Credentials,
    /// Refused for another reason.
    Refused,
    /// None of these: a failure, a redirect, or not a response of this API.
    Unclear,
}

/// A parsed response.
#[derive(Clone, Debug)]
pub(super) struct ParsedAnswer {
    pub(super) meaning: Meaning,
    pub(super) status: u16,
    /// A short description.
    pub(super) words: String,
    pub(super) message: Option<String>,
    body: Map<String, Value>,
}

impl ParsedAnswer {
    pub(super) fn of(response: &ProbeResponse) -> ParsedAnswer {
        let body = response.body.clone().unwrap_or_default();
        let info = body.get("error_info").and_then(Value::as_object);
        let of_info = |name| info.and_then(|info| text(info, name));
        let codes =
            Codes { info: of_info("code"), error: text(&body, "error_code"), status: text(&body, "status") };
        let messages = ["developer_message", "user_message"]
            .map(of_info)
            .into_iter()
            .chain([text(&body, "error_message")]);
        let message = messages.flatten().next();
        let meaning = meaning(response, &body, &codes, message);
        let words = match meaning {
            Meaning::Customer => format!("{} customer", response.status),
            _ if response.body.is_none() => format!("{} without JSON", response.status),
            _ => {
                let mut words = vec![response.status.to_string()];
                let top = codes.error.or(codes.status);
                words.extend(top.map(short));
                words.extend(codes.info.filter(|code| Some(*code) != top).map(short));
                words.join(" ")
            }
        };
        let message = message.map(short);
        ParsedAnswer { meaning, status: response.status, words, message, body }
    }

    /// The customer id, if the response is a customer.
    pub(super) fn id(&self) -> Option<&str> {
        (self.meaning == Meaning::Customer).then(|| id(&self.body)).flatten()
    }

    /// A member of the body that is non-empty text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        text(&self.body, name)
    }

    /// Whether the response contains a client token.
    pub(super) fn has_token(&self) -> bool {
        let juspay = self.body.get("juspay").and_then(Value::as_object);
        juspay.is_some_and(|juspay| text(juspay, "client_auth_token").is_some())
    }
}

/// The codes of a response.
struct Codes<'a> {
    /// `error_info.code`.
    info: Option<&'a str>,
    /// `error_code`.
    error: Option<&'a str>,
    /// `status`, which a successful response may have too.
    status: Option<&'a str>,
}

fn meaning(
    response: &ProbeResponse,
    body: &Map<String, Value>,
    codes: &Codes<'_>,
    message: Option<&str>,
) -> Meaning {
    let Codes { info, error, status } = *codes;
    let is = |known: &[&str]| {
        let mut codes = [info, error, status].into_iter().flatten();
        codes.any(|code| known.iter().any(|known| known.eq_ignore_ascii_case(code)))
    };
    let says = |words: &str| message.is_some_and(|message| message.to_ascii_lowercase().contains(words));
    let has_error = info.or(error).is_some()
        || status.is_some_and(|status| status.to_ascii_lowercase().contains("error"));
    let is_success = (200..300).contains(&response.status);
    if is_success && !has_error && id(body).is_some() {
        return Meaning::Customer;
    }
    if response.body.is_none() || (is_success && !has_error) {
        return Meaning::Unclear;
    }
    if is(&["unique", "already_exists"]) {
        Meaning::Exists
    } else if is(&["object_not_found", "resource_not_found", "not_found"])
        || (is(&["invalid_request"]) && says("not found"))
    {
        Meaning::NotFound
    } else if response.status == 401
        || is(&["access_denied", "unauthorized", "unauthenticated", "missing_authentication"])
        || says("unauthorized access")
    {
        Meaning::Credentials
    } else if is_success || (400..500).contains(&response.status) {
        Meaning::Refused
    } else {
        Meaning::Unclear
    }
}

fn id(body: &Map<String, Value>) -> Option<&str> {
    let is_customer = text(body, "object").is_none_or(|object| object == "customer");
    let ids = ["id", "customer_id", "Customer_id"].into_iter().filter_map(|name| text(body, name));
    ids.into_iter().find(|id| is_customer && !id.chars().any(char::is_control))
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// Truncates a text and removes characters that would move a terminal's cursor.
pub(super) fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect()
}

/// The shape of an id: `cth_ and 16 of both cases`.
pub(super) fn shape_of_id(id: &str) -> String {
    let is_word = |prefix: &str| prefix.len() <= 8 && prefix.bytes().all(|byte| byte.is_ascii_alphabetic());
    // A prefix before `_` that is not a word is part of the id, and differs each time.
    let (prefix, rest) = match id.split_once('_') {
        Some((prefix, rest)) if is_word(prefix) => (format!("{prefix}_ and "), rest),
        _ => (String::new(), id),
    };
    let letters = match (rest.contains(char::is_uppercase), rest.contains(char::is_lowercase)) {
        (true, true) => "of both cases",
        (true, false) => "of upper case",
        (false, true) => "of lower case",
        (false, false) => "without letters",
    };
    format!("{prefix}{} characters {letters}", rest.chars().count())
}

/// The shape of a time: each digit replaced by 9, except in its zone.
pub(super) fn shape_of_time(time: &str) -> String {
    let time = short(time);
    let clock = time.find('T').unwrap_or(time.len());
    let zone = time[clock..].find(['+', '-']).map_or(time.len(), |at| clock + at);
    let (time, zone) = time.split_at(zone);
    time.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).chain(zone.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> ParsedAnswer {
        ParsedAnswer::of(&ProbeResponse {
            status,
            body: serde_json::from_str(body).ok(),
            ..ProbeResponse::default()
        })
    }

    #[test]
    fn an_answer_is_told_in_a_few_words() {
        for (status, body, meaning, words) in [
            (200, r#"{"id":"cth_1","object":"customer"}"#, Meaning::Customer, "200 customer"),
            (201, r#"{"customer_id":"c"}"#, Meaning::Customer, "201 customer"),
            (200, r#"{"id":"ord_1","object":"order"}"#, Meaning::Unclear, "200"),
            (
                200,
                r#"{"id":"x","status":"ERROR","error_code":"INVALID_REQUEST"}"#,
                Meaning::Refused,
                "200 INVALID_REQUEST",
            ),
            (
                400,
                r#"{"status":"invalid_request_error","error_code":"unique","error_info":{"code":"ALREADY_EXISTS"}}"#,
                Meaning::Exists,
                "400 unique ALREADY_EXISTS",
            ),
            (400, r#"{"error_info":{"code":"ALREADY_EXISTS"}}"#, Meaning::Exists, "400 ALREADY_EXISTS"),
            (404, r#"{"error_code":"object_not_found"}"#, Meaning::NotFound, "404 object_not_found"),
            (
                200,
                r#"{"status":"ERROR","error_code":"INVALID_REQUEST","error_message":"Customer X not found"}"#,
                Meaning::NotFound,
                "200 INVALID_REQUEST",
            ),
            (404, "<html>", Meaning::Unclear, "404 without JSON"),
            (401, r#"{"error_code":"access_denied"}"#, Meaning::Credentials, "401 access_denied"),
            (400, r#"{"error_message":"Unauthorized access"}"#, Meaning::Credentials, "400"),
            (400, r#"{"status":null}"#, Meaning::Refused, "400"),
            (500, r#"{"status":"internal_error"}"#, Meaning::Unclear, "500 internal_error"),
            (302, "", Meaning::Unclear, "302 without JSON"),
            (400, "[7]", Meaning::Unclear, "400 without JSON"),
        ] {
            let reading = read(status, body);
            assert_eq!((reading.meaning, reading.words.as_str()), (meaning, words), "{body}");
        }
        let long = read(400, &format!("{{\"error_code\":\"\\u001b{}\"}}", "x".repeat(9_999)));
        assert_eq!(long.words.len(), "400 ".len() + TEXT_MAX);
    }

    #[test]
    fn shapes_are_the_same_for_two_of_a_kind() {
        for (id, shape) in [
            ("cth_59Yibs1JauYP6WJP", "cth_ and 16 characters of both cases"),
            ("cst_pcxaymwoh9vbse97", "cst_ and 16 characters of lower case"),
            ("C_12", "C_ and 2 characters without letters"),
            ("0b9f-11", "7 characters of lower case"),
            ("A1_b", "4 characters of both cases"),
        ] {
            assert_eq!(shape_of_id(id), shape);
        }
        for (time, shape) in [
            ("2016-08-02T08:07:52+0000", "9999-99-99T99:99:99+0000"),
            ("2016-08-02T08:07:52.123Z", "9999-99-99T99:99:99.999Z"),
            ("2016-08-02 08:07", "9999-99-99 99:99"),
            ("é+T-", "é+T-"),
        ] {
            assert_eq!(shape_of_time(time), shape);
        }
    }
}
