//! Reads a response: status, headers and body → [`Reply`].
//!
//! The only place where a response is parsed. A response of the API is a JSON object of the API's own shape. A
//! response without that shape comes from an intermediary (a proxy, a firewall, a router), whatever its status, and
//! becomes [`Reply::Foreign`]: it says nothing about a row.
//!
//! The error object `error_info` is read before the top level, since current accounts put the cause there and a general
//! text above it. Codes are compared without regard to case.
//!
//! Pure: the clock is an argument, in [`Head`]. Nothing here waits, sends or decides what to do.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::customer::{FieldSet, Fingerprint, Reference, visible};

/// The maximum length of a text of the API that is kept, in characters.
pub(super) const MESSAGE_MAX_CHARS: usize = 500;

/// The maximum number of faulty fields that are read. A customer has seven fields.
const FIELDS_MAX: usize = 16;

/// The result of one exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A customer with its id.
    Customer(Found),
    /// A response of the API without a customer.
    Answer(Answer),
    /// A response of an intermediary between this program and the API.
    Foreign(Answer),
    /// The request surely did not arrive: connection refused, unknown host, no TLS.
    NotSent(String),
    /// The proxy requires a login, or refuses the one that was sent; the request did not arrive.
    ProxyLogin(String),
    /// The request may have arrived; its response is lost or unreadable.
    Unknown {
        /// The HTTP status, if one was received.
        status: Option<u16>,
        /// A description of what happened.
        why: String,
        /// The API's name for the request, if it was received.
        request_id: Option<String>,
    },
}

/// A customer as a response describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The customer id: any text; its prefix and length are not documented.
    pub customer_id: Arc<str>,
    /// Whose customer it is, compared with the requested reference.
    pub whose: Whose,
    /// When the customer was created, if the response says so.
    pub created: Option<Created>,
    /// The fields, hashed like those of a row with the requested reference; none if the response has no fields or no
    /// reference.
    pub facts: Option<Fingerprint>,
}

/// Which customer a response describes, relative to the requested reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Its reference is the requested one, byte for byte.
    Requested,
    /// The response names no reference.
    Unnamed,
    /// The reference differs from the requested one only in letter case or in outer blanks, which the API ignores.
    /// Holds the API's spelling.
    Respelled(Reference),
    /// Another customer, whose *id* is the requested reference: Get finds customers by id and by reference.
    IdOfAnother,
    /// Another customer.
    Another,
}

/// When the API says that a customer was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// UTC milliseconds of *our* clock, accurate to about a second: the API's times and its `Date` header are whole
    /// seconds.
    pub at: i64,
    /// Whether the response has the server's time. If not, the server's clock is assumed to agree with ours.
    pub is_clock_known: bool,
}

/// What a response without a customer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The meaning of its codes.
    pub meaning: Meaning,
    /// The API's code: `error_info.code`, else `error_code`.
    pub code: Option<String>,
    /// The API's message: from `error_info`, or else from the top level.
    pub message: Option<String>,
    /// The fields that the API names as faulty, joined with `;`.
    pub fields: Option<String>,
    /// `juspay_request_id` or the `x-response-id` header; Juspay's support needs it.
    pub request_id: Option<String>,
    /// The wait that the server requests.
    pub retry_after: Option<Duration>,
}

/// The meaning of a response's codes, whatever its status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Meaning {
    /// `unique` or `ALREADY_EXISTS`: the customer exists.
    Exists,
    /// There is no such customer.
    NotFound,
    /// `DUPLICATE_REQUEST`: the same reference is being processed right now.
    InProgress,
    /// The key or the merchant id is refused.
    Credentials,
    /// This machine's address is refused.
    BadOrigin,
    /// The API failed while it processed the request; the result is unknown.
    InternalError,
    /// A code that means too many requests.
    Throttled,
    /// A proxy's own 503 page: the proxy did not pass the request on, because it limits requests or has no server
    /// behind it.
    NotPassedOn,
    /// Any other code, or none.
    #[default]
    Other,
}

/// The headers of a response.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`, relative to now.
    pub retry_after: Option<Duration>,
    /// `x-response-id`.
    pub response_id: Option<String>,
    /// The minimum number of milliseconds by which the server's clock is ahead of ours: the header has whole seconds,
    /// and the response took time to arrive. None without a `Date` header.
    pub clock_ahead: Option<i64>,
}

/// Parses a complete response to a request about `requested`. Public for fuzzing; pure.
pub fn parse(head: &Head, body: &[u8], requested: &str) -> Reply {
    // Some gateways prepend a byte order mark.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    // serde would accept an array as the fields in order.
    let members = if body.trim_ascii_start().starts_with(b"{") { members_of(body) } else { None };
    let is_success = (200..300).contains(&head.status);
    let request_id =
        |members: &Body<'_>| members.juspay_request_id.get().map(short).or(head.response_id.clone());
    let unreadable = |request_id, what: &str| Reply::Unknown {
        status: Some(head.status),
        why: format!("an answer {} {what}", head.status),
        request_id,
    };
    match members {
        Some(members) if is_success && !members.is_error() => match customer(head, &members, requested) {
            Some(found) => Reply::Customer(found),
            None => unreadable(request_id(&members), "without a customer id"),
        },
        Some(members) if members.has_api_shape() || is_empty_object(body) => {
            Reply::Answer(answer(head, &members, request_id(&members)))
        }
        _ if is_success => unreadable(head.response_id.clone(), "that is not the API's JSON"),
        _ => Reply::Foreign(Answer {
            status: head.status,
            meaning: if is_refusal_page(head.status, body) { Meaning::NotPassedOn } else { Meaning::Other },
            request_id: head.response_id.clone(),
            retry_after: head.retry_after,
            ..Answer::default()
        }),
    }
}

/// The members of a JSON object. A text is checked for UTF-8 once; of bytes, each member is checked separately, which
/// takes longer but tolerates other members that are not UTF-8.
fn members_of(object: &[u8]) -> Option<Body<'_>> {
    match str::from_utf8(object) {
        Ok(text) => serde_json::from_str(text).ok(),
        Err(_) => serde_json::from_slice(object).ok(),
    }
}

/// Whether this is a proxy's page for a request that it did not pass on.
///
/// `nginx`, `HAProxy` and cloud load balancers respond with a 503 page of their own if a limit is exceeded or no
/// server is available; a server that fails midway yields 502 or 504. Envoy, Varnish and some content delivery
/// networks also use 503 for that, as plain text or with a text about it in the page.
fn is_refusal_page(status: u16, body: &[u8]) -> bool {
    const OF_A_SERVER_THAT_FAILED: [&str; 7] =
        ["backend", "upstream", "origin", "timeout", "timed out", "fetch failed", "reset"];
    let body = String::from_utf8_lossy(body.trim_ascii_start()).to_ascii_lowercase();
    status == 503
        && body.starts_with('<')
        && !OF_A_SERVER_THAT_FAILED.iter().any(|words| body.contains(words))
}

/// The API may omit every member of an error.
fn is_empty_object(body: &[u8]) -> bool {
    body.trim_ascii().strip_prefix(b"{").is_some_and(|rest| rest.trim_ascii() == b"}")
}

fn customer(head: &Head, body: &Body<'_>, requested: &str) -> Option<Found> {
    if body.object.get().is_some_and(|object| object != "customer") {
        return None;
    }
    // The API's samples use `id`, its table `Customer_id`.
    let ids = [&body.id, &body.customer_id, &body.customer_id_of_table].into_iter().filter_map(Text::get);
    let id = ids.into_iter().find(|id| is_customer_id(id))?;
    let whose = whose(body.object_reference_id.get(), id, requested);
    let has_reference = matches!(whose, Whose::Requested | Whose::Respelled(_));
    let facts = body.facts();
    Some(Found {
        customer_id: id.into(),
        facts: (has_reference && facts.iter().any(Option::is_some))
            .then(|| Fingerprint::of(requested, facts)),
        created: body.date_created.get().and_then(parse_time).map(|time| Created {
            at: time.saturating_sub(head.clock_ahead.unwrap_or(0)),
            is_clock_known: head.clock_ahead.is_some(),
        }),
        whose,
    })
}

fn whose(reference: Option<&str>, id: &str, requested: &str) -> Whose {
    match reference {
        None => Whose::Unnamed,
        Some(reference) if reference == requested => Whose::Requested,
        Some(reference) if reference.trim().to_lowercase() == requested.trim().to_lowercase() => {
            Whose::Respelled(Reference::recorded(reference))
        }
        Some(_) if id == requested => Whose::IdOfAnother,
        Some(_) => Whose::Another,
    }
}

fn answer(head: &Head, body: &Body<'_>, request_id: Option<String>) -> Answer {
    let info = &body.error_info;
    Answer {
        status: head.status,
        meaning: meaning(body),
        code: info.code.get().or(body.error_code.get()).map(short),
        message: message(body),
        fields: fields(info),
        request_id,
        retry_after: head.retry_after,
    }
}

/// The most specific message, extended by the reasons for single fields that it does not contain.
fn message(body: &Body<'_>) -> Option<String> {
    let main = body.messages().next();
    let mut parts: Vec<String> = main.map(str::to_owned).into_iter().collect();
    for field in &body.error_info.fields {
        if let Some(reason) =
            field.reason.get().filter(|reason| main.is_none_or(|main| !main.contains(reason)))
        {
            parts.push(format!("{}: {reason}", field.field_name.get().unwrap_or("a field")));
        }
    }
    (!parts.is_empty()).then(|| short(&parts.join("; ")))
}

fn fields(info: &ErrorInfo<'_>) -> Option<String> {
    let mut names: Vec<&str> = info.fields.iter().filter_map(|field| field.field_name.get()).collect();
    names.dedup();
    (!names.is_empty()).then(|| short(&names.join(";")))
}

/// The meaning of the first known code of `error_info.code`, `error_code` and `status`, unless the message is more
/// specific.
fn meaning(body: &Body<'_>) -> Meaning {
    let codes = [&body.error_info.code, &body.error_code, &body.status].map(Text::get);
    let contains = |words: &str| body.messages().any(|text| text.to_ascii_lowercase().contains(words));
    // This error has the same general code as a failure, so the message is checked first.
    if contains("ip verification failed") || contains("bad origin") {
        return Meaning::BadOrigin;
    }
    // Some parts of the platform respond this way if the merchant id does not belong to the key.
    if contains("unauthorized access") {
        return Meaning::Credentials;
    }
    let mut meanings = codes.into_iter().flatten().map(meaning_of_code);
    if let Some(known) = meanings.find(|meaning| *meaning != Meaning::Other) {
        return known;
    }
    // The form under a 200: "Customer with customerId: X not found".
    let is_invalid = codes.into_iter().flatten().any(|code| code.eq_ignore_ascii_case("invalid_request"));
    if is_invalid && contains("not found") {
        return Meaning::NotFound;
    }
    // The documented text, whatever its code.
    let exists = ["object reference id already exist", "object_reference_id already exist"];
    if exists.into_iter().any(contains) { Meaning::Exists } else { Meaning::Other }
}

fn meaning_of_code(code: &str) -> Meaning {
    let plain: String =
        code.chars().filter(|c| c.is_ascii_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect();
    match plain.as_str() {
        "unique" | "alreadyexists" => Meaning::Exists,
        "objectnotfound" | "resourcenotfound" | "notfound" => Meaning::NotFound,
        "duplicaterequest" => Meaning::InProgress,
        "accessdenied"
        | "unauthorized"
        | "unauthorizedaccess"
        | "unauthenticated"
        | "missingauthentication" => Meaning::Credentials,
        "badorigin" => Meaning::BadOrigin,
        "internalerror" | "internalservererror" => Meaning::InternalError,
        "toomanyrequests" | "slowdown" | "requestlimitexceeded" => Meaning::Throttled,
        plain if plain.contains("throttl") || plain.contains("ratelimit") => Meaning::Throttled,
        _ => Meaning::Other,
    }
}

/// Whether a text can be a customer id: it can be shown, and sent in a path.
fn is_customer_id(id: &str) -> bool {
    !id.trim().is_empty() && !id.chars().any(char::is_control)
}

/// `Retry-After` in seconds, with or without a fraction, or as an HTTP date. `now` is the server's time. Public for
/// fuzzing; pure.
pub fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Duration::try_from_secs_f64(value.parse().ok()?).ok();
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// When a response arrived: by our clock, and by the server's.
#[derive(Clone, Copy, Debug)]
pub(super) struct ArrivalTime {
    ours: SystemTime,
    /// The `Date` header, whose seconds are truncated.
    date: Option<SystemTime>,
}

impl ArrivalTime {
    /// A `Date` header that cannot be parsed counts as absent.
    pub(super) fn new(ours: SystemTime, date: Option<&str>) -> ArrivalTime {
        ArrivalTime { ours, date: date.and_then(|date| httpdate::parse_http_date(date).ok()) }
    }

    /// The server's time, or else ours.
    pub(super) fn by_server(self) -> SystemTime {
        self.date.unwrap_or(self.ours)
    }

    /// The minimum number of milliseconds by which the server's clock is ahead of ours; none without a `Date` header.
    pub(super) fn clock_ahead(self) -> Option<i64> {
        let milliseconds = |time: SystemTime| {
            let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            i64::try_from(since.as_millis()).ok()
        };
        Some(milliseconds(self.date?)? - milliseconds(self.ours)?)
    }
}

/// Parses `2020-03-17T14:16:31Z`, or with `+0000` for the `Z`, into UTC milliseconds. Other zones are not supported.
fn parse_time(text: &str) -> Option<i64> {
    let local = ["+00:00", "+0000", "Z"].into_iter().find_map(|zone| text.strip_suffix(zone)).unwrap_or(text);
    let (_, clock) = local.split_once(['T', 't', ' '])?;
    // humantime would accept any zone after a fraction as UTC, and another zone after the one that was removed here.
    if !clock.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.')) {
        return None;
    }
    let time = humantime::parse_rfc3339_weak(local).ok()?;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

/// Truncates a text of the API and removes control characters, because it is shown on terminals. A line break or a tab
/// becomes a space, so that no two words are joined.
pub(super) fn short(text: &str) -> String {
    let spaced = text.trim().chars().map(|c| if matches!(c, '\n' | '\t') { ' ' } else { c });
    let text: String = spaced.filter(|c| !c.is_control()).take(MESSAGE_MAX_CHARS).collect();
    visible(&text).chars().take(MESSAGE_MAX_CHARS).collect()
}

/// The members of a response body that are read, for a customer or an error. An unexpected member must not make the
/// others unreadable: a member that is missing or is not text counts as absent.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    customer_id: Text<'a>,
    // An alias would make a body that has both members unreadable.
    #[serde(borrow, rename = "Customer_id")]
    customer_id_of_table: Text<'a>,
    #[serde(borrow)]
    object: Text<'a>,
    #[serde(borrow)]
    object_reference_id: Text<'a>,
    #[serde(borrow)]
    mobile_number: Text<'a>,
    #[serde(borrow)]
    email_address: Text<'a>,
    #[serde(borrow)]
    first_name: Text<'a>,
    #[serde(borrow)]
    last_name: Text<'a>,
    #[serde(borrow)]
    mobile_country_code: Text<'a>,
    #[serde(borrow)]
    date_created: Text<'a>,
    #[serde(borrow)]
    status: Text<'a>,
    #[serde(borrow)]
    error_code: Text<'a>,
    #[serde(borrow)]
    error_message: Text<'a>,
    #[serde(borrow)]
    user_message: Text<'a>,
    #[serde(borrow)]
    juspay_request_id: Text<'a>,
    #[serde(borrow)]
    error_info: ErrorInfo<'a>,
}

impl Body<'_> {
    /// The fields of the customer, in the order of a fingerprint.
    fn facts(&self) -> [Option<&str>; FieldSet::FACTS.len()] {
        [
            &self.mobile_number,
            &self.email_address,
            &self.first_name,
            &self.last_name,
            &self.mobile_country_code,
        ]
        .map(Text::get)
    }

    /// The API's messages, the most specific one first.
    fn messages(&self) -> impl Iterator<Item = &str> {
        let info = &self.error_info;
        [&info.developer_message, &info.user_message, &self.error_message, &self.user_message]
            .into_iter()
            .filter_map(Text::get)
    }

    /// Whether the body describes an error, whatever the HTTP status.
    fn is_error(&self) -> bool {
        let info = &self.error_info;
        let words =
            [&self.error_code, &self.error_message, &info.code, &info.developer_message, &info.user_message];
        words.into_iter().any(|text| text.get().is_some())
            || self.status.get().is_some_and(|status| status.to_ascii_lowercase().contains("error"))
    }

    /// Whether the body may come from the API: it has a member of the API's errors. A null member counts, because the
    /// API writes those; a number does not, because frameworks write `"status": 404`.
    fn has_api_shape(&self) -> bool {
        let members = [
            &self.status,
            &self.error_code,
            &self.error_message,
            &self.user_message,
            &self.juspay_request_id,
        ];
        members.into_iter().any(|text| matches!(text, Text::Null | Text::String(_)))
            || self.error_info.is_there
    }
}

/// The error object of current accounts.
#[derive(Default)]
struct ErrorInfo<'a> {
    is_there: bool,
    code: Text<'a>,
    user_message: Text<'a>,
    developer_message: Text<'a>,
    fields: Vec<ErrorField<'a>>,
}

/// One field that the API names as faulty.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorField<'a> {
    #[serde(borrow)]
    field_name: Text<'a>,
    #[serde(borrow)]
    reason: Text<'a>,
}

impl<'de: 'a, 'a> Deserialize<'de> for ErrorInfo<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ErrorInfo<'a>, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Members<'a> {
            #[serde(borrow)]
            code: Text<'a>,
            #[serde(borrow)]
            user_message: Text<'a>,
            #[serde(borrow)]
            developer_message: Text<'a>,
            #[serde(borrow)]
            fields: Option<&'a RawValue>,
        }
        let raw: &RawValue = Deserialize::deserialize(deserializer)?;
        // Anything but an object counts as absent; serde would accept an array as the members in order.
        if !raw.get().starts_with('{') {
            return Ok(ErrorInfo::default());
        }
        let members: Members<'a> = serde_json::from_str(raw.get()).unwrap_or_default();
        let fields =
            members.fields.and_then(|fields| serde_json::from_str::<Vec<&RawValue>>(fields.get()).ok());
        let fields = fields.unwrap_or_default().into_iter().filter(|field| field.get().starts_with('{'));
        Ok(ErrorInfo {
            is_there: true,
            code: members.code,
            user_message: members.user_message,
            developer_message: members.developer_message,
            fields: fields
                .filter_map(|field| serde_json::from_str(field.get()).ok())
                .take(FIELDS_MAX)
                .collect(),
        })
    }
}

/// A member that may be a text.
#[derive(Default)]
enum Text<'a> {
    /// The member is missing.
    #[default]
    Absent,
    /// `null`.
    Null,
    /// A JSON string.
    String(Cow<'a, str>),
    /// A value of another type.
    Other,
}

impl Text<'_> {
    /// The text, unless it is empty.
    fn get(&self) -> Option<&str> {
        match self {
            Text::String(text) => Some(&**text).filter(|text| !text.is_empty()),
            Text::Absent | Text::Null | Text::Other => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
        let raw: &RawValue = Deserialize::deserialize(deserializer)?;
        let raw = raw.get();
        // A raw value is well-formed JSON, so a quote at its beginning means a string.
        Ok(match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(plain) if !plain.as_bytes().contains(&b'\\') => Text::String(Cow::Borrowed(plain)),
            Some(_) => serde_json::from_str(raw).map_or(Text::Other, |text| Text::String(Cow::Owned(text))),
            None if raw == "null" => Text::Null,
            None => Text::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUESTED: &str = "a@example.com";

    fn parsed(status: u16, body: &str) -> Reply {
        parse(&Head { status, ..Head::default() }, body.as_bytes(), REQUESTED)
    }

    fn found(body: &str) -> Found {
        match parsed(200, body) {
            Reply::Customer(found) => found,
            reply => panic!("{body}: {reply:?}"),
        }
    }

    fn answered(status: u16, body: &str) -> Answer {
        match parsed(status, body) {
            Reply::Answer(answer) => answer,
            reply => panic!("{body}: {reply:?}"),
        }
    }

    #[test]
    fn success_is_an_id_of_any_look_and_never_the_status_alone() {
        let page = r#"{"id":"cst_pcxaymwoh9vbse97","object":"customer","object_reference_id":"a@example.com",
            "date_created":"2020-03-17T14:16:31Z"}"#;
        let page = found(page);
        assert_eq!((&*page.customer_id, page.whose), ("cst_pcxaymwoh9vbse97", Whose::Requested));
        assert_eq!(page.created, Some(Created { at: 1_584_454_591_000, is_clock_known: false }));
        for id in ["cth_AbCdEfGh12345678", "x", "C/12 3", "12345"] {
            assert_eq!(&*found(&format!(r#"{{"id":"{id}"}}"#)).customer_id, id);
        }
        assert_eq!(&*found(r#"{"id":"","customer_id":"cst_x","object":null}"#).customer_id, "cst_x");
        assert!(matches!(parsed(400, r#"{"id":"cst_x"}"#), Reply::Foreign(_)));
        assert!(matches!(parsed(500, r#"{"id":"cst_x"}"#), Reply::Foreign(_)));
        for unreadable in [
            "",
            "null",
            "[]",
            "<html>",
            "{}",
            r#"{"id":7}"#,
            r#"{"id":" "}"#,
            r#"{"id":"a\nb"}"#,
            r#"{"id":"ord_1","object":"order"}"#,
            "{\"id\":\"cst_\0\"}",
        ] {
            assert!(matches!(parsed(200, unreadable), Reply::Unknown { .. }), "{unreadable}");
        }
    }

    #[test]
    fn an_error_that_has_an_id_is_no_customer() {
        for body in [
            r#"{"id":"req_1","error_code":"INVALID_REQUEST"}"#,
            r#"{"id":"req_1","status":"ERROR"}"#,
            r#"{"id":"req_1","error_info":{"code":"INVALID_INPUT"}}"#,
        ] {
            answered(200, body);
        }
    }

    #[test]
    fn an_answer_says_whom_it_is_about() {
        let whose = |id: &str, reference: &str| {
            found(&format!(r#"{{"id":"{id}","object_reference_id":{reference}}}"#)).whose
        };
        let respelled = |text: &str| Whose::Respelled(Reference::recorded(text));
        assert_eq!(whose("cth_1", r#""a@example.com""#), Whose::Requested);
        assert_eq!(whose("cth_1", "null"), Whose::Unnamed);
        assert_eq!(whose("cth_1", r#""A@Example.com""#), respelled("A@Example.com"));
        assert_eq!(whose("cth_1", r#"" a@example.com ""#), respelled(" a@example.com "));
        assert_eq!(whose("cth_1", r#""b@example.com""#), Whose::Another);
        assert_eq!(whose("cth_1", r#""a@example.com\u0000""#), Whose::Another);
        assert_eq!(whose(REQUESTED, r#""b@example.com""#), Whose::IdOfAnother);
    }

    #[test]
    fn a_customer_has_fields_only_if_the_response_has_some() {
        assert_eq!(found(r#"{"id":"cth_1"}"#).facts, None);
        assert_eq!(found(r#"{"id":"cth_1","mobile_number":"99"}"#).facts, None, "it does not say whose");
        let customer = found(r#"{"id":"cth_1","mobile_number":"99","object_reference_id":"A@EXAMPLE.com"}"#);
        let hashed = Fingerprint::of(REQUESTED, [Some("99"), None, None, None, None]);
        assert_eq!(customer.facts, Some(hashed), "hashed as those of the requested reference");
        let another = found(r#"{"id":"cth_1","mobile_number":"99","object_reference_id":"b@example.com"}"#);
        assert_eq!(another.facts, None);
    }

    #[test]
    fn the_meaning_is_read_from_the_error_object_first() {
        for (status, body, meaning) in [
            (400, r#"{"status":"invalid_request_error","error_code":"unique"}"#, Meaning::Exists),
            (400, r#"{"status":"ERROR","error_info":{"code":"ALREADY_EXISTS"}}"#, Meaning::Exists),
            (400, r#"{"error_code":"INVALID","error_info":{"code":"already_exists"}}"#, Meaning::Exists),
            (404, r#"{"error_code":"object_not_found"}"#, Meaning::NotFound),
            (400, r#"{"error_info":{"code":"NOT_FOUND"}}"#, Meaning::NotFound),
            (
                200,
                r#"{"status":"ERROR","status_id":40,"error_code":"INVALID_REQUEST","error_message":"Customer with customerId: X not found"}"#,
                Meaning::NotFound,
            ),
            (200, r#"{"error_code":"INVALID_REQUEST","error_message":"no"}"#, Meaning::Other),
            (200, r#"{"status":"INTERNAL_ERROR","error_code":"INTERNAL_ERROR"}"#, Meaning::InternalError),
            (400, r#"{"status":"internal_error"}"#, Meaning::InternalError),
            (400, r#"{"status":"DUPLICATE_REQUEST"}"#, Meaning::InProgress),
            (401, r#"{"status":"error","error_code":"access_denied"}"#, Meaning::Credentials),
            (400, r#"{"error_message":"Unauthorized access"}"#, Meaning::Credentials),
            (
                403,
                r#"{"status":"Internal Server error.","user_message":"Bad Origin.","error_info":{"developer_message":"IP Verification Failed"}}"#,
                Meaning::BadOrigin,
            ),
            (400, r#"{"error_code":"ThrottlingException"}"#, Meaning::Throttled),
            (400, r#"{"status":null,"error_code":null,"error_message":null}"#, Meaning::Other),
            (400, "{ }", Meaning::Other),
        ] {
            assert_eq!(answered(status, body).meaning, meaning, "{body}");
        }
    }

    #[test]
    fn the_words_are_those_of_the_error_object() {
        let body = r#"{"status":"Bad Request","error_code":"top","error_message":"Something went wrong",
            "error_info":{"code":"INVALID_INPUT","user_message":"Invalid input","developer_message":"Invalid fields",
            "fields":[{"field_name":"mobile_number","reason":"is too long"},{"field_name":"first_name"},7]}}"#;
        let answer = answered(400, body);
        assert_eq!(answer.code.as_deref(), Some("INVALID_INPUT"));
        assert_eq!(answer.message.as_deref(), Some("Invalid fields; mobile_number: is too long"));
        assert_eq!(answer.fields.as_deref(), Some("mobile_number;first_name"));
        for odd in ["null", "[]", "7", "\"text\"", r#"{"fields":7,"code":[]}"#] {
            let body = format!(r#"{{"error_code":"x","error_info":{odd}}}"#);
            assert_eq!(answered(400, &body).code.as_deref(), Some("x"), "{odd}");
        }
    }

    #[test]
    fn what_has_not_the_shape_of_the_api_is_foreign() {
        for (status, body) in [
            (403, "<html><title>403 Forbidden</title></html>"),
            (404, "404 page not found\n"),
            (413, ""),
            (302, ""),
            (400, "null"),
            (403, r#"{"message":"Forbidden"}"#),
            (404, r#"{"timestamp":"now","status":404,"error":"Not Found","path":"/customers"}"#),
            (409, r#"{"error":{"code":"CONFLICT"}}"#),
            (503, "<html>busy</html>"),
        ] {
            let Reply::Foreign(answer) = parsed(status, body) else { panic!("{body}") };
            assert_eq!(answer.status, status);
        }
        assert!(
            matches!(
                parse(&Head { status: 200, ..Head::default() }, b"\xef\xbb\xbf{\"id\":\"x\"}", REQUESTED),
                Reply::Customer(_)
            ),
            "a byte order mark changes nothing"
        );
        assert!(
            matches!(
                parse(
                    &Head { status: 200, ..Head::default() },
                    b"{\"id\":\"x\",\"note\":\"\xff\"}",
                    REQUESTED
                ),
                Reply::Customer(_)
            ),
            "a member that is not read may be anything"
        );
    }

    #[test]
    fn times_are_those_of_our_clock() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let clock_ahead = |date| ArrivalTime::new(now, Some(date)).clock_ahead();
        assert_eq!(clock_ahead("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60_000));
        assert_eq!(clock_ahead("Sun, 06 Nov 1994 08:49:36 GMT"), Some(-1_000));
        assert_eq!(clock_ahead("yesterday"), None);
        let body = br#"{"id":"cst_1","date_created":"2020-03-17T14:16:31Z"}"#;
        let Reply::Customer(found) =
            parse(&Head { status: 200, clock_ahead: Some(1_000), ..Head::default() }, body, REQUESTED)
        else {
            panic!("no customer")
        };
        assert_eq!(found.created, Some(Created { at: 1_584_454_590_000, is_clock_known: true }));
    }

    #[test]
    fn a_zone_is_never_taken_for_utc() {
        for text in [
            "2020-03-17T14:16:31.5+05:30",
            "2020-03-17T14:16:31.5-05:00",
            "2020-03-17T14:16:31-05:00",
            "2020-03-17T14:16:31.5+05:30+00:00",
            "2020-03-17T14:16:31.5Z+00:00",
            "2020-03-17T14:16:31ZZ",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
        for text in ["2020-03-17T14:16:31Z", "2020-03-17T14:16:31+0000", "2020-03-17T14:16:31+00:00"] {
            assert_eq!(parse_time(text), Some(1_584_454_591_000), "{text}");
        }
        assert_eq!(parse_time("2020-03-17T14:16:31.5Z"), Some(1_584_454_591_500));
    }

    #[test]
    fn messages_are_bounded_and_harmless() {
        let body = format!(r#"{{"error_message":"\u001b[31m{}"}}"#, "x".repeat(10_000));
        let message = answered(400, &body).message.unwrap();
        assert!(message.starts_with("[31mx") && message.len() == MESSAGE_MAX_CHARS);
        let lines = r#"{"error_message":"not\r\ntwo\twords\n"}"#;
        assert_eq!(answered(400, lines).message.unwrap(), "not two words");
    }

    #[test]
    fn a_proxys_page_is_a_refusal_unless_it_speaks_of_a_server_that_failed() {
        let meaning = |status, body: &str| {
            let head = Head { status, ..Head::default() };
            match parse(&head, body.as_bytes(), "cust-0001") {
                Reply::Foreign(answer) => answer.meaning,
                other => panic!("{other:?}"),
            }
        };
        for page in [
            "<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>",
            "\n<!DOCTYPE html><h1>Service Unavailable</h1>",
            "<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n",
        ] {
            assert_eq!(meaning(503, page), Meaning::NotPassedOn, "{page}");
            assert_eq!(meaning(502, page), Meaning::Other, "{page}");
        }
        for body in [
            "",
            "Service Unavailable",
            "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
            "<html><title>503 Backend fetch failed</title><p>Guru Meditation:</p>",
            "<HTML><TITLE>503 First Byte Timeout</TITLE>",
        ] {
            assert_eq!(meaning(503, body), Meaning::Other, "{body}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", Some(0)),
            ("-1", None),
            ("1.5.2", None),
            (".", None),
            ("1e3", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(parse_retry_after(value, now), seconds.map(Duration::from_secs), "{value:?}");
        }
        assert_eq!(parse_retry_after("1.5", now), Some(Duration::from_millis(1_500)));
        assert_eq!(parse_retry_after(&"9".repeat(400), now), None);
    }
}
