//! Compares the parser of responses with a simple evaluation of the same JSON.
//!
//! An input is three bytes for the head (the status, the other headers, the clock) and a body. Whatever a server
//! sends: only an id in an object under a 2xx without an error is a customer; a response without the API's shape is
//! foreign; texts that are kept are bounded and have no control characters; and what was parsed is in the body.

#![no_main]

mod date;

use std::{fmt, time::Duration};

use customer_import::{
    api::{Answer, Created, Found, Head, Reply, Whose, parse},
    customer::visible,
};
use libfuzzer_sys::fuzz_target;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};

const STATUSES: [u16; 24] = [
    200, 400, 401, 403, 404, 409, 422, 429, 500, 502, 503, 504, 100, 199, 201, 202, 204, 299, 300, 302, 308,
    511, 599, 999,
];

/// The maximum difference of two dates, in milliseconds.
const AGES: i64 = 253_402_300_799_000;

/// The requested reference.
const ASKED: &str = "cust-0001";

const AHEAD: [i64; 6] = [0, 2_001, -2_001, 86_400_000, AGES, -AGES];

fuzz_target!(|input: &[u8]| {
    if let [status, flags, ahead, body @ ..] = input {
        let head = Head {
            status: STATUSES[usize::from(*status) % STATUSES.len()],
            retry_after: (flags & 1 != 0).then(|| Duration::from_secs(30)),
            response_id: (flags & 2 != 0).then(|| "response-0001".to_owned()),
            clock_ahead: (flags & 4 == 0).then(|| AHEAD[usize::from(*ahead) % AHEAD.len()]),
        };
        check(&head, body);
    }
});

fn check(head: &Head, body: &[u8]) {
    let reply = parse(head, body, ASKED);
    harmless(&reply, head);
    if let Some(expected) = expected(head, body) {
        assert_eq!(told(&reply, head), expected);
    }
}

fn harmless(reply: &Reply, head: &Head) {
    let is_short = |text: &str| text.chars().count() <= 500 && !text.chars().any(char::is_control);
    match reply {
        Reply::Customer(Found { customer_id, .. }) => {
            assert!((200..300).contains(&head.status));
            assert!(!customer_id.trim().is_empty() && !customer_id.chars().any(char::is_control));
        }
        Reply::Answer(answer) | Reply::Foreign(answer) => {
            let Answer { status, code, message, fields, request_id, retry_after, .. } = answer;
            assert_eq!((*status, *retry_after), (head.status, head.retry_after));
            assert!([code, message, fields, request_id].into_iter().flatten().all(|text| is_short(text)));
            assert!(matches!(reply, Reply::Answer(_)) || !(200..300).contains(&head.status));
        }
        Reply::Unknown { status, why, request_id } => {
            assert!((200..300).contains(&head.status), "other answers are understood, whatever they say");
            assert_eq!(*status, Some(head.status));
            assert!(is_short(why) && request_id.as_deref().is_none_or(is_short));
        }
        Reply::NotSent(_) | Reply::ProxyLogin(_) => {}
    }
}

/// The texts of a reply, whatever its kind.
#[derive(Debug, PartialEq)]
struct Told {
    kind: &'static str,
    /// The id and the reference, or the code and the message.
    words: [Option<String>; 2],
    request_id: Option<String>,
    created_at: Option<i64>,
}

fn told(reply: &Reply, head: &Head) -> Told {
    match reply {
        Reply::Customer(Found { customer_id, whose, created, .. }) => Told {
            kind: "customer",
            words: [Some(customer_id.to_string()), Some(name(whose).to_owned())],
            request_id: None,
            created_at: created.map(|Created { at, .. }| at + head.clock_ahead.unwrap_or(0)),
        },
        Reply::Answer(answer) | Reply::Foreign(answer) => Told {
            kind: if matches!(reply, Reply::Answer(_)) { "answer" } else { "foreign" },
            words: [answer.code.clone(), answer.message.clone()],
            request_id: answer.request_id.clone(),
            created_at: None,
        },
        Reply::Unknown { request_id, .. } => {
            Told { kind: "unknown", words: [None, None], request_id: request_id.clone(), created_at: None }
        }
        Reply::NotSent(_) | Reply::ProxyLogin(_) => panic!("an answer to what was not sent"),
    }
}

/// None if two parsers may differ: a repeated key, a number out of range, invalid text in a member that is not read,
/// or a time with text after its Z (which humantime ignores).
fn expected(head: &Head, body: &[u8]) -> Option<Told> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let (object, is_object) = match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => (Some(object).filter(|_| keys_are_single(body))?, true),
        // Anything but an object has no members.
        Ok(_) => (Map::new(), false),
        Err(_) if serde_json::from_slice::<IgnoredAny>(body).is_ok() => return None,
        Err(_) => (Map::new(), false),
    };
    let text = |key: &str| object.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let short = |key: &str| {
        let spaced = |c| if c == '\n' || c == '\t' { ' ' } else { c };
        let cut = |text: &str| {
            text.trim().chars().map(spaced).filter(|c| !c.is_control()).take(500).collect::<String>()
        };
        text(key).map(|text| visible(&cut(text)).chars().take(500).collect::<String>())
    };
    let has_more = |time: &str| time.len() > 20 && time.as_bytes()[19] == b'Z';
    if text("date_created").is_some_and(has_more) {
        return None;
    }
    // The error object is parsed separately.
    if object.contains_key("error_info") {
        return None;
    }
    let is_success = head.status / 100 == 2;
    let request_id = short("juspay_request_id").or(head.response_id.clone());
    let says_error = text("error_code").is_some()
        || text("error_message").is_some()
        || text("status").is_some_and(|status| status.to_lowercase().contains("error"));
    let plain = |kind, request_id| Some(Told { kind, words: [None, None], request_id, created_at: None });
    if is_success && is_object && !says_error {
        let is_customer = text("object").is_none_or(|object| object == "customer");
        let id = ["id", "customer_id", "Customer_id"].into_iter().filter_map(text).find(|id| is_id(id));
        let Some(id) = id.filter(|_| is_customer) else { return plain("unknown", request_id) };
        return Some(Told {
            kind: "customer",
            words: [Some(id.to_owned()), Some(whose(text("object_reference_id"), id).to_owned())],
            request_id: None,
            created_at: text("date_created").and_then(created_at),
        });
    }
    let members = ["status", "error_code", "error_message", "user_message", "juspay_request_id"];
    let is_there = |name: &&str| object.get(*name).is_some_and(|it| it.is_null() || it.is_string());
    if is_object && (object.is_empty() || members.iter().any(is_there)) {
        let message = short("error_message").or(short("user_message"));
        return Some(Told {
            kind: "answer",
            words: [short("error_code"), message],
            request_id,
            created_at: None,
        });
    }
    plain(if is_success { "unknown" } else { "foreign" }, head.response_id.clone())
}

fn is_id(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(char::is_control)
}

fn whose(reference: Option<&str>, id: &str) -> &'static str {
    match reference {
        None => "unnamed",
        Some(reference) if reference == ASKED => "requested",
        Some(reference) if reference.trim().to_lowercase() == ASKED => "respelled",
        Some(_) if id == ASKED => "id of another",
        Some(_) => "another",
    }
}

fn name(whose: &Whose) -> &'static str {
    match whose {
        Whose::Requested => "requested",
        Whose::Unnamed => "unnamed",
        Whose::Respelled(_) => "respelled",
        Whose::IdOfAnother => "id of another",
        Whose::Another => "another",
    }
}

/// Milliseconds of `2020-03-17T14:16:31Z`, also with a blank for the `T`, with a fraction, or with `+00:00`, `+0000`
/// or nothing for the `Z`.
fn created_at(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = bytes.get(from..to)?;
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0')))
    };
    let signs = [(4, b"--"), (7, b"--"), (10, b"T "), (13, b"::"), (16, b"::")];
    let has_signs = signs.iter().all(|(at, of)| bytes.get(*at).is_some_and(|byte| of.contains(byte)));
    // A leap second counts as the second before.
    let time = [number(11, 13)?, number(14, 16)?, number(17, 19)?];
    let leap = u64::from(time[2] == 60);
    let seconds =
        date::seconds(number(0, 4)?, number(5, 7)?, number(8, 10)?, [time[0], time[1], time[2] - leap])?;
    let (fraction, zone) = match bytes.get(19) {
        Some(b'.') => {
            let digits = bytes[20..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            (&text[20..20 + digits], &text[20 + digits..])
        }
        _ => ("", text.get(19..)?),
    };
    let milliseconds =
        (0..3).fold(0, |n, at| n * 10 + fraction.as_bytes().get(at).map_or(0, |d| i64::from(d - b'0')));
    let is_utc = ["", "Z", "+00:00", "+0000"].contains(&zone);
    (has_signs && is_utc).then_some(seconds as i64 * 1000 + milliseconds)
}

fn keys_are_single(object: &[u8]) -> bool {
    serde_json::from_slice::<Keys>(object).is_ok_and(|Keys(mut keys)| {
        let all = keys.len();
        keys.sort_unstable();
        keys.dedup();
        keys.len() == all
    })
}

/// The keys of an object, including repetitions.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Keys, D::Error> {
        deserializer.deserialize_map(Keys(Vec::new()))
    }
}

impl<'de> Visitor<'de> for Keys {
    type Value = Keys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Keys, A::Error> {
        while let Some((key, IgnoredAny)) = map.next_entry()? {
            self.0.push(key);
        }
        Ok(self)
    }
}
