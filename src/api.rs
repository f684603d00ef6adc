//! One HTTP exchange with the customers API: create, get or update → [`Reply`].
//!
//! Owns how a request looks on the wire and how an answer is read. Success is a `cst_` id in the
//! body of a 2xx answer, never the status alone. Trouble on the way is a reply too:
//! [`Reply::NotSent`] where the request surely did not arrive, [`Reply::Unknown`] where it may
//! have.
//!
//! Never retries, never waits (one deadline per request aside), never follows a redirect (the row's
//! data and the credentials would go along), never reads more of a body than a customer can
//! need, and never logs: what to do about a reply is the sender's decision.

mod body;

mod meter;

mod probe;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Certificate, Client, Method, Request, Response, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect,
};
use secrecy::{ExposeSecret, SecretString};

use self::body::{Body, Text};
pub use self::{
    meter::{Latency, Meter, STEPS, Step},
    probe::{Ask, Key, Sent, Told},
};
use crate::customer::{Customer, Fields, Fingerprint, Reference};

/// The most bytes of an answer that are read. The longest sample of the page has 500.
const BODY_MAX_BYTES: usize = 64 * 1024;

/// The most characters of an API's message that are kept.
const MESSAGE_MAX_CHARS: usize = 500;

/// Everything but the unreserved characters of a URL, so that a reference is one path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const MERCHANT_ID: HeaderName = HeaderName::from_static("x-merchantid");
const ROUTING_ID: HeaderName = HeaderName::from_static("x-routing-id");
const RESPONSE_ID: HeaderName = HeaderName::from_static("x-response-id");

/// How to reach the API.
pub struct Options {
    /// Requests go to `{base_url}/customers`.
    pub base_url: Url,
    /// The merchant.
    pub merchant_id: String,
    /// The key; sent as the user name of Basic authorization.
    pub api_key: SecretString,
    /// Whether `x-routing-id` carries the reference.
    pub send_routing_id: bool,
    /// An extra root certificate.
    pub ca_file: Option<PathBuf>,
    /// From connecting to the last byte of the answer.
    pub timeout: Duration,
    /// For the connection alone.
    pub connect_timeout: Duration,
    /// Connections kept alive.
    pub connections: usize,
}

/// Why no request can be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The extra root cannot be read.
    #[error("cannot read the certificate {}: {error}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: String,
    },
    /// The key cannot be sent in a header. Its text is not repeated.
    #[error("the API key has a line break or another character that cannot be sent")]
    Key,
    /// The merchant id cannot be sent in a header.
    #[error("the merchant id has a line break or another character that cannot be sent")]
    MerchantId,
    /// TLS or the system's roots cannot be set up.
    #[error("cannot set up HTTP: {0}")]
    Client(String),
}

impl Error {
    /// What the user can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Error::CaFile { .. } => "give a PEM file with --ca-file",
            Error::Key => "check JUSPAY_API_KEY or the key file",
            Error::MerchantId => "check --merchant-id",
            Error::Client(_) => {
                "check that the system's root certificates are installed, or give --ca-file PEM"
            }
        }
    }
}

/// What one exchange told us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A customer with its id.
    Customer {
        /// The `cst_` id.
        customer_id: Arc<str>,
        /// The reference it is about, where the answer says so.
        reference: Option<Reference>,
        /// When it was created, UTC milliseconds of *our* clock, where the answer says so.
        created_at: Option<i64>,
        /// Its fields, where the answer says whose they are.
        facts: Option<Fingerprint>,
    },
    /// An answer that was understood and is no customer.
    Answer(Answer),
    /// The request surely did not arrive: refused, no such host, no TLS.
    NotSent(String),
    /// It may have arrived; its answer is lost or unreadable.
    Unknown {
        /// The status, where there was one.
        status: Option<u16>,
        /// What happened.
        why: String,
        /// The API's name for the request, where it was read.
        request_id: Option<String>,
    },
}

/// An answer without a customer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `error_code`.
    pub code: Option<String>,
    /// `error_message`.
    pub message: Option<String>,
    /// `juspay_request_id` or the `x-response-id` header; support asks for it.
    pub request_id: Option<String>,
    /// How long the server asks everyone to wait.
    pub retry_after: Option<Duration>,
}

/// The API of one merchant.
pub struct Api {
    client: Client,
    /// Create without its body; the others are made from it. To clone one is cheaper than to build one.
    create: Request,
    send_routing_id: bool,
    /// The key as it is and as it is sent: an answer may repeat either.
    secrets: [SecretString; 2],
    meter: Meter,
}

impl Api {
    /// Sets up the connection pool. Nothing is sent.
    ///
    /// # Errors
    /// Where the certificate, the key or the system's TLS cannot be used.
    pub fn new(options: &Options) -> Result<Api, Error> {
        let mut client = Client::builder()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .timeout(options.timeout)
            .connect_timeout(options.connect_timeout)
            .pool_max_idle_per_host(options.connections)
            .tcp_nodelay(true)
            .default_headers(headers(options)?)
            .user_agent(concat!("customer-import/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &options.ca_file {
            client = client.tls_certs_merge(read_roots(path)?);
        }
        if is_loopback(&options.base_url) {
            client = client.no_proxy();
        }
        let client = client.build().map_err(|error| Error::Client(root_cause(&error)))?;
        let mut customers = options.base_url.clone();
        customers.set_path(&format!("{}/customers", options.base_url.path().trim_end_matches('/')));
        let key = options.api_key.expose_secret();
        let secrets = [options.api_key.clone(), STANDARD.encode(format!("{key}:")).into()];
        let mut create = Request::new(Method::POST, customers);
        create.headers_mut().insert(CONTENT_TYPE, FORM);
        let meter = Meter::default();
        Ok(Api { client, create, send_routing_id: options.send_routing_id, secrets, meter })
    }

    /// Create: `POST {base}/customers` with the encoded body.
    pub async fn create(&self, customer: &Customer) -> Reply {
        let mut request = self.post();
        *request.body_mut() = Some(customer.body.clone().into());
        self.exchange(Step::Create, request, &customer.reference).await
    }

    /// Get: `GET {base}/customers/{reference}`.
    pub async fn get(&self, reference: &Reference) -> Reply {
        let request = Request::new(Method::GET, self.customer(reference.as_str()));
        self.exchange(Step::Get, request, reference).await
    }

    /// Update: `POST {base}/customers/{customer_id}` with every field but the reference; an emptied one is
    /// sent empty.
    pub async fn update(&self, customer: &Customer, customer_id: &str, emptied: Fields) -> Reply {
        // The reference comes first in the body of the Create call.
        let behind =
            customer.body.iter().position(|byte| *byte == b'&').map_or(customer.body.len(), |at| at + 1);
        let mut body = customer.body.slice(behind..);
        if !emptied.is_empty() {
            let empty: String = emptied.iter().map(|field| format!("&{field}=")).collect();
            body = [&body[..], empty.as_bytes()].concat().into();
        }
        let mut request = self.post();
        *request.url_mut() = self.customer(customer_id);
        *request.body_mut() = Some(body.into());
        self.exchange(Step::Update, request, &customer.reference).await
    }

    fn post(&self) -> Request {
        self.create.try_clone().expect("only a body that is a stream cannot be cloned, and there is none")
    }

    fn customer(&self, name: &str) -> Url {
        let mut url = self.create.url().clone();
        url.set_path(&format!("{}/{}", url.path(), utf8_percent_encode(name, SEGMENT)));
        url
    }

    /// What was asked so far, and how it was answered.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    async fn exchange(&self, step: Step, mut request: Request, reference: &Reference) -> Reply {
        if self.send_routing_id {
            let value = HeaderValue::from_bytes(reference.as_str().as_bytes());
            // A reference has no control characters, so this does not fail; without is still right.
            if let Ok(mut value) = value {
                value.set_sensitive(true);
                request.headers_mut().insert(ROUTING_ID, value);
            }
        }
        let began = Instant::now();
        let (status, reply) = match self.client.execute(request).await {
            Ok(response) => {
                let status = response.status().as_u16();
                (Some(status), self.withhold_secrets(read(response).await))
            }
            Err(error) if error.is_connect() || error.is_builder() => {
                (None, Reply::NotSent(root_cause(&error)))
            }
            Err(error) => (None, Reply::Unknown { status: None, why: describe(&error), request_id: None }),
        };
        self.meter.note(step, status, began.elapsed());
        reply
    }
}

impl Api {
    /// The API's words end up in the ledger and on terminals; the key must not.
    fn withhold_secrets(&self, mut reply: Reply) -> Reply {
        let words = match &mut reply {
            Reply::Answer(answer) => vec![&mut answer.code, &mut answer.message, &mut answer.request_id],
            Reply::Unknown { request_id, .. } => vec![request_id],
            Reply::Customer { .. } | Reply::NotSent(_) => Vec::new(),
        };
        for text in words.into_iter().flatten() {
            if self.secrets.iter().any(|secret| repeats(text, secret.expose_secret())) {
                *text = "(withheld: it repeats the API key)".into();
            }
        }
        reply
    }
}

/// Whether the secret stands in the text, or its beginning where a long text was cut.
fn repeats(text: &str, secret: &str) -> bool {
    const GIVES_AWAY: usize = 4;
    let beginnings =
        secret.char_indices().map(|(at, _)| &secret[..at]).filter(|part| part.len() >= GIVES_AWAY);
    let is_cut = text.chars().count() >= MESSAGE_MAX_CHARS;
    text.contains(secret) || (is_cut && beginnings.into_iter().any(|part| text.ends_with(part)))
}

fn headers(options: &Options) -> Result<HeaderMap, Error> {
    let key = options.api_key.expose_secret();
    if key.is_empty() || key.chars().any(char::is_control) {
        return Err(Error::Key);
    }
    let basic = format!("Basic {}", STANDARD.encode(format!("{key}:")));
    let mut authorization = HeaderValue::from_str(&basic).map_err(|_| Error::Key)?;
    authorization.set_sensitive(true);
    let merchant_id = HeaderValue::from_str(&options.merchant_id).map_err(|_| Error::MerchantId)?;
    Ok(HeaderMap::from_iter([(AUTHORIZATION, authorization), (MERCHANT_ID, merchant_id)]))
}

fn read_roots(path: &Path) -> Result<Vec<Certificate>, Error> {
    let error = |error: String| Error::CaFile { path: path.into(), error };
    let pem = std::fs::read(path).map_err(|cause| error(cause.to_string()))?;
    let roots = Certificate::from_pem_bundle(&pem).map_err(|cause| error(root_cause(&cause)))?;
    if roots.is_empty() { Err(error("no certificate in it".into())) } else { Ok(roots) }
}

/// Whether the URL can only mean this machine: plain HTTP is safe there, and no proxy between.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

async fn read(mut response: Response) -> Reply {
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    #[expect(clippy::disallowed_methods, reason = "dates in headers can only be compared with the clock")]
    let now = SystemTime::now();
    let date = response.headers().get(DATE).and_then(|value| value.to_str().ok());
    let response_id = response.headers().get(RESPONSE_ID).and_then(|value| value.to_str().ok()).map(short);
    let head = Head {
        status,
        retry_after: retry_after.and_then(|value| parse_retry_after(value, now)),
        response_id,
        clock_ahead: date.map_or(0, |date| clock_ahead(date, now)),
    };
    let lost = |why| Reply::Unknown { status: Some(status), why, request_id: head.response_id.clone() };
    // Nearly every answer comes in one piece.
    let (mut piece, mut pieces) = (Bytes::new(), Vec::new());
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if piece.len() + pieces.len() + chunk.len() > BODY_MAX_BYTES => {
                return lost(format!("an answer of more than {} KiB", BODY_MAX_BYTES / 1024));
            }
            Ok(Some(chunk)) => pieces.extend_from_slice(&std::mem::replace(&mut piece, chunk)),
            Ok(None) => break,
            Err(error) => return lost(describe(&error)),
        }
    }
    if !pieces.is_empty() {
        pieces.extend_from_slice(&piece);
        piece = pieces.into();
    }
    parse(&head, &piece)
}

/// What the headers of an answer say.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`, from now.
    pub retry_after: Option<Duration>,
    /// `x-response-id`.
    pub response_id: Option<String>,
    /// By how many milliseconds the server's clock is ahead of ours.
    pub clock_ahead: i64,
}

/// Makes a reply of a complete answer. Public for fuzzing; pure.
pub fn parse(head: &Head, body: &[u8]) -> Reply {
    let Head { status, retry_after, response_id, clock_ahead } = head.clone();
    // An array would be read as the fields in their order.
    let is_object = body.trim_ascii_start().starts_with(b"{");
    let body: Body<'_> =
        if is_object { serde_json::from_slice(body).unwrap_or_default() } else { Body::default() };
    let request_id = body.juspay_request_id.get().map(short).or(response_id);
    let is_success = (200..300).contains(&status);
    if is_success {
        // `id` in the page's samples, `Customer_id` in its table.
        let ids = [&body.id, &body.customer_id, &body.customer_id_of_table].into_iter().filter_map(Text::get);
        if let Some(id) = ids.into_iter().find(|id| is_customer_id(id)) {
            return Reply::Customer {
                customer_id: id.into(),
                reference: body.object_reference_id.get().map(Reference::recorded),
                facts: body
                    .object_reference_id
                    .get()
                    .map(|reference| Fingerprint::of(reference, body.facts())),
                created_at: body.date_created.get().and_then(parse_time).map(|time| time - clock_ahead),
            };
        }
    }
    let (code, message) = (body.error_code.get().map(short), body.error_message.get().map(short));
    let says_error = code.is_some()
        || message.is_some()
        || body.status.get().is_some_and(|status| status.to_ascii_lowercase().contains("error"));
    if is_success && !says_error {
        let why = format!("an answer {status} without a cst_ id");
        return Reply::Unknown { status: Some(status), why, request_id };
    }
    Reply::Answer(Answer { status, code, message, request_id, retry_after })
}

/// `cst_` or `cth_` and something printable behind it, of a length that an id can have.
fn is_customer_id(id: &str) -> bool {
    id.strip_prefix("cst_").or_else(|| id.strip_prefix("cth_")).is_some_and(|rest| {
        !rest.is_empty()
            && rest.len() <= 128
            && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    })
}

/// `Retry-After` in seconds or as an HTTP date. Public for fuzzing; pure.
pub fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// How far the clock behind a `Date` header is ahead of ours. A header has whole seconds, cut off, so
/// up to one second behind says nothing.
fn clock_ahead(date: &str, now: SystemTime) -> i64 {
    const CUT_OFF: std::ops::RangeInclusive<i64> = -1_000..=0;
    let milliseconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_millis()).ok())
    };
    let date = httpdate::parse_http_date(date).ok().and_then(milliseconds);
    let ahead = date.zip(milliseconds(now)).map_or(0, |(date, now)| date - now);
    if CUT_OFF.contains(&ahead) { 0 } else { ahead }
}

fn parse_time(text: &str) -> Option<i64> {
    // humantime takes any zone behind a fraction for UTC.
    let (_, clock) = text.split_once(['T', 't', ' '])?;
    if clock.contains(['+', '-']) && !clock.ends_with("+00:00") {
        return None;
    }
    let time = humantime::parse_rfc3339_weak(text).ok()?;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

/// The API's words, bounded and without control characters: they end up on terminals.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MESSAGE_MAX_CHARS).collect()
}

fn describe(error: &reqwest::Error) -> String {
    if error.is_timeout() { "no answer in time".into() } else { root_cause(error) }
}

/// The innermost reason; the outer ones repeat the URL, which holds the reference.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    short(&cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customer(reply: Reply) -> Option<(String, Option<Reference>)> {
        match reply {
            Reply::Customer { customer_id, reference, .. } => Some((customer_id.to_string(), reference)),
            _ => None,
        }
    }

    fn parsed(status: u16, body: &str) -> Reply {
        parse(&Head { status, ..Head::default() }, body.as_bytes())
    }

    #[test]
    fn success_is_an_id_and_never_the_status_alone() {
        let page = r#"{"id":"cst_pcxaymwoh9vbse97","object":"customer","object_reference_id":"a@example.com",
            "date_created":"2020-03-17T14:16:31Z"}"#;
        let (id, reference) = customer(parsed(200, page)).unwrap();
        assert_eq!((id.as_str(), reference.unwrap().as_str()), ("cst_pcxaymwoh9vbse97", "a@example.com"));
        assert!(matches!(parsed(200, page), Reply::Customer { created_at: Some(1584454591000), .. }));
        assert!(customer(parsed(200, r#"{"id":"abc","customer_id":"cst_x"}"#)).is_some());
        assert!(customer(parsed(400, r#"{"id":"cst_x"}"#)).is_none());
        assert!(customer(parsed(500, r#"{"id":"cst_x"}"#)).is_none());
        for unreadable in [
            "",
            "null",
            "[]",
            "<html>",
            "{}",
            r#"{"id":7}"#,
            r#"{"id":"abc"}"#,
            r#"{"id":"cst_"}"#,
            "{\"id\":\"cst_\0\"}",
        ] {
            assert!(matches!(parsed(200, unreadable), Reply::Unknown { .. }), "{unreadable}");
        }
    }

    #[test]
    fn times_are_told_in_our_clock() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(clock_ahead("Sun, 06 Nov 1994 08:50:37 GMT", now), 60_000);
        assert_eq!(clock_ahead("Sun, 06 Nov 1994 08:49:36 GMT", now), 0);
        assert_eq!(clock_ahead("Sun, 06 Nov 1994 08:49:35 GMT", now), -2_000);
        assert_eq!(clock_ahead("yesterday", now), 0);
        let body = br#"{"id":"cst_1","date_created":"2020-03-17T14:16:31Z"}"#;
        let reply = parse(&Head { status: 200, clock_ahead: 1_000, ..Head::default() }, body);
        assert!(matches!(reply, Reply::Customer { created_at: Some(1_584_454_590_000), .. }));
    }

    #[test]
    fn a_zone_is_never_taken_for_utc() {
        for text in
            ["2020-03-17T14:16:31.5+05:30", "2020-03-17T14:16:31.5-05:00", "2020-03-17T14:16:31-05:00"]
        {
            assert_eq!(parse_time(text), None, "{text}");
        }
        assert_eq!(parse_time("2020-03-17T14:16:31Z"), Some(1_584_454_591_000));
        assert_eq!(parse_time("2020-03-17T14:16:31.5Z"), Some(1_584_454_591_500));
    }

    #[test]
    fn a_secret_is_known_also_where_the_text_was_cut() {
        let secret = "test_key_8d1f";
        assert!(repeats("test_key_8d1f is unknown", secret));
        assert!(repeats(&format!("{}test_k", "x".repeat(MESSAGE_MAX_CHARS - 6)), secret));
        assert!(!repeats("a short text that ends in test_k", secret));
        assert!(!repeats(&"x".repeat(MESSAGE_MAX_CHARS), secret));
    }

    #[test]
    fn an_error_under_a_200_is_an_answer() {
        let body = r#"{"status":"ERROR","status_id":40,"error_message":"no","error_code":"INVALID_REQUEST"}"#;
        let Reply::Answer(answer) = parsed(200, body) else { panic!("not an answer") };
        assert_eq!((answer.status, answer.code.as_deref()), (200, Some("INVALID_REQUEST")));
        assert!(matches!(parsed(400, r#"{"status":null,"error_code":null}"#), Reply::Answer(_)));
        assert!(matches!(parsed(503, "<html>busy</html>"), Reply::Answer(Answer { status: 503, .. })));
    }

    #[test]
    fn messages_are_bounded_and_harmless() {
        let body = format!(r#"{{"error_message":"\u001b[31m{}"}}"#, "x".repeat(10_000));
        let Reply::Answer(answer) = parsed(400, &body) else { panic!("not an answer") };
        let message = answer.message.unwrap();
        assert!(message.starts_with("[31mx") && message.len() == MESSAGE_MAX_CHARS);
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
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(parse_retry_after(value, now), seconds.map(Duration::from_secs), "{value:?}");
        }
    }
}
