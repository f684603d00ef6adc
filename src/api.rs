//! One HTTP exchange with the customers API: create, get or update → [`Reply`] and latency.
//!
//! Owns the form of a request on the wire and measures each exchange once; `response` parses the response. Success is
//! a customer id in the body of a 2xx response, never the status alone. A failed exchange is a reply too:
//! [`Reply::NotSent`] if the request surely did not arrive, [`Reply::Unknown`] if it may have.
//!
//! Never retries, never waits (one timeout per request aside), never follows a redirect (the row's data and the
//! credentials would be sent along), never reads more of a body than a customer needs, and never logs. The sender
//! decides what follows from a reply.

mod response;

mod metrics;

mod probe;

mod proxy;

mod tls;

mod key;

mod cause;

mod rate_headers;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Client, Method, Request, Response, Url,
    header::{
        ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
        USER_AGENT,
    },
    redirect,
};
use secrecy::SecretString;

pub(crate) use self::key::describe_character;
use self::{
    cause::NamedRoute,
    key::Keys,
    rate_headers::remaining_quota,
    response::{ArrivalTime, MESSAGE_MAX_CHARS, short},
};
pub use self::{
    key::{KeyFlaw, KeyNumber, KeyReader, KeyRenewal, check_key},
    metrics::{ApiMetrics, CALLS, Call, Latency},
    probe::{KeyForm, ProbeRequest, ProbeResponse, SentRequest, send_probe},
    proxy::{DirectReason, ProxyServer, Route},
    response::{Answer, Created, Found, Head, Meaning, Reply, Whose, parse, parse_retry_after},
    tls::ClientIdentity,
};
use crate::{
    clock,
    customer::{Customer, FieldSet, Reference},
    throttle::RemainingQuota,
};

/// The maximum size of a response body. The longest sample of the documentation has 500 bytes.
const BODY_MAX_BYTES: usize = 64 * 1024;

/// Everything but the unreserved characters of a URL, so that a reference is one path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const USER_AGENT_TEXT: &str = concat!("customer-import/", env!("CARGO_PKG_VERSION"));
const MERCHANT_ID: HeaderName = HeaderName::from_static("x-merchantid");
const ROUTING_ID: HeaderName = HeaderName::from_static("x-routing-id");
const RESPONSE_ID: HeaderName = HeaderName::from_static("x-response-id");

/// How to reach the API.
pub struct Options {
    /// Requests are sent to `{base_url}/customers`.
    pub base_url: Url,
    /// The merchant.
    pub merchant_id: String,
    /// The key; sent as the user name of Basic authorization.
    pub api_key: SecretString,
    /// Reads the key again when it is refused during a run; none if its source can be read only once.
    pub key_reader: Option<KeyReader>,
    /// Whether the header `x-routing-id` carries the reference.
    pub send_routing_id: bool,
    /// An extra root certificate.
    pub ca_file: Option<PathBuf>,
    /// The certificate that this program presents to a server that requests one.
    pub identity: Option<ClientIdentity>,
    /// The route to the base URL.
    pub route: Route,
    /// Timeout for the whole exchange, from connecting to the last byte of the response.
    pub timeout: Duration,
    /// Timeout for connecting.
    pub connect_timeout: Duration,
    /// Maximum idle connections.
    pub connections: usize,
}

/// Why no request can be sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The additional root certificate cannot be read.
    #[error("cannot read the certificate {}: {error}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: String,
    },
    /// The client certificate cannot be read.
    #[error("cannot read the client certificate {}: {error}", path.display())]
    ClientCertificate {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: String,
    },
    /// The private key of the client certificate cannot be read.
    #[error("cannot read the client key {}: {error}", path.display())]
    ClientKey {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: String,
    },
    /// The private key of the client certificate is encrypted with a passphrase.
    #[error("the client key {} is encrypted", path.display())]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// The private key belongs to another certificate.
    #[error("the client key {} is not that of the client certificate {}", key.display(), certificate.display())]
    KeyOfAnother {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
    /// A variable that names a proxy, or lists the exceptions, cannot be parsed. The message does not quote its
    /// value.
    #[error("{variable} {why}")]
    Proxy {
        /// The variable.
        variable: String,
        /// What is wrong with its value.
        why: String,
    },
    /// The key cannot be sent in a header. The message does not repeat it.
    #[error("the API key {0}")]
    Key(KeyFlaw),
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
            Error::ClientCertificate { .. } => "give the certificate in PEM with --client-cert",
            Error::ClientKey { .. } => "give the private key in PEM, without a passphrase, with --client-key",
            Error::EncryptedKey { .. } => "openssl pkey -in KEY -out PLAIN writes it without its passphrase",
            Error::KeyOfAnother { .. } => "give the two that were made together",
            Error::Proxy { variable, .. } if variable.eq_ignore_ascii_case("NO_PROXY") => {
                "write hosts, addresses or networks, separated by commas, or unset it"
            }
            Error::Proxy { .. } => {
                "write it as scheme://login:password@host:port, with http, https, socks5 or socks5h, and special \
                 characters of the login as %XX; or unset it"
            }
            Error::Key(flaw) => flaw.hint(),
            Error::MerchantId => "check --merchant-id",
            Error::Client(_) => {
                "check that the system's root certificates are installed, or give --ca-file PEM"
            }
        }
    }
}

/// One request with its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The response, or the reason why there is none.
    pub reply: Reply,
    /// From sending to the last byte of the response, or to the failure.
    pub latency: Duration,
    /// The number of requests left, if the response has headers about it.
    pub quota: Option<RemainingQuota>,
}

/// The API of one merchant.
pub struct Api {
    client: Client,
    /// The URL `{base_url}/customers`.
    customers: Url,
    /// All headers of a write. Default headers that a request lacks are added by reqwest one by one.
    headers: HeaderMap,
    route: NamedRoute,
    timeout: Duration,
    send_routing_id: bool,
    keys: Keys,
    metrics: ApiMetrics,
}

impl Api {
    /// Sets up the connection pool. Nothing is sent.
    ///
    /// # Errors
    /// If the certificate, the key or the system's TLS cannot be used.
    pub fn new(options: Options) -> Result<Api, Error> {
        let mut headers = headers(&options)?;
        let mut client = Client::builder()
            .redirect(redirect::Policy::none())
            // With any other maximum reqwest clones each request, for a retry that is never made.
            .retry(reqwest::retry::never().max_retries_per_request(0))
            .timeout(options.timeout)
            .connect_timeout(options.connect_timeout)
            .pool_max_idle_per_host(options.connections)
            .tcp_nodelay(true)
            .default_headers(headers.clone())
            .user_agent(USER_AGENT_TEXT)
            .tls_backend_preconfigured(tls::config(options.ca_file.as_deref(), options.identity.as_ref())?)
            // Without this, reqwest would read the proxy variables itself.
            .no_proxy();
        if let Some(proxy) = options.route.proxy() {
            let setup = |_| Error::Proxy {
                variable: proxy.variable().into(),
                why: "is not the URL of a proxy".into(),
            };
            client = client.proxy(proxy.setting().map_err(setup)?);
        }
        let client = client.build().map_err(|error| Error::Client(root_cause(&error)))?;
        let mut customers = options.base_url.clone();
        customers.set_path(&format!("{}/customers", options.base_url.path().trim_end_matches('/')));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_TEXT));
        headers.insert(CONTENT_TYPE, FORM);
        Ok(Api {
            client,
            customers,
            headers,
            route: NamedRoute::new(&options.base_url, &options.route),
            timeout: options.timeout,
            send_routing_id: options.send_routing_id,
            keys: Keys::new(&options.api_key, options.key_reader),
            metrics: ApiMetrics::default(),
        })
    }

    /// Create: `POST {base}/customers` with the encoded body. `timeout` replaces the configured one if it is shorter.
    pub async fn create(&self, customer: &Customer, timeout: Option<Duration>) -> Exchange {
        let mut request = self.post();
        *request.body_mut() = Some(customer.body.clone().into());
        self.exchange(Call::Create, request, &customer.reference, timeout).await
    }

    /// Get: `GET {base}/customers/{reference}`. `timeout` replaces the configured one if it is shorter.
    pub async fn get(&self, reference: &Reference, timeout: Option<Duration>) -> Exchange {
        let request = Request::new(Method::GET, self.customer(reference.as_str()));
        self.exchange(Call::Get, request, reference, timeout).await
    }

    /// Update: `POST {base}/customers/{customer_id}` with every field but the reference. A field without a value is
    /// sent empty. `timeout` replaces the configured one if it is shorter.
    pub async fn update(
        &self,
        customer: &Customer,
        customer_id: &str,
        emptied: FieldSet,
        timeout: Option<Duration>,
    ) -> Exchange {
        // The body of the Create call begins with the reference, which an Update must not send.
        let rest =
            customer.body.iter().position(|byte| *byte == b'&').map_or(customer.body.len(), |at| at + 1);
        let mut body = customer.body.slice(rest..);
        if !emptied.is_empty() {
            let empty: String = emptied.iter().map(|field| format!("&{field}=")).collect();
            body = [&body[..], empty.as_bytes()].concat().into();
        }
        let mut request = self.post();
        *request.url_mut() = self.customer(customer_id);
        *request.body_mut() = Some(body.into());
        self.exchange(Call::Update, request, &customer.reference, timeout).await
    }

    fn post(&self) -> Request {
        let mut request = Request::new(Method::POST, self.customers.clone());
        *request.headers_mut() = self.headers.clone();
        request
    }

    fn customer(&self, name: &str) -> Url {
        let mut url = self.customers.clone();
        url.set_path(&format!("{}/{}", url.path(), utf8_percent_encode(name, SEGMENT)));
        url
    }

    /// The number of the key that new requests use.
    pub fn key_number(&self) -> KeyNumber {
        self.keys.current().1
    }

    /// Reads the key again after the key `refused` was refused.
    pub fn renew_key(&self, refused: KeyNumber) -> KeyRenewal {
        self.keys.renew(refused)
    }

    /// The counters of requests and replies.
    pub fn metrics(&self) -> &ApiMetrics {
        &self.metrics
    }

    async fn exchange(
        &self,
        call: Call,
        mut request: Request,
        reference: &Reference,
        timeout: Option<Duration>,
    ) -> Exchange {
        if let Some(timeout) = timeout {
            *request.timeout_mut() = Some(timeout.min(self.timeout));
        }
        if self.send_routing_id {
            let value = HeaderValue::from_bytes(reference.as_str().as_bytes());
            // A reference has no control characters, so this cannot fail; if it did, a request without the header
            // would still be valid.
            if let Ok(mut value) = value {
                value.set_sensitive(true);
                request.headers_mut().insert(ROUTING_ID, value);
            }
        }
        let (authorization, _) = self.keys.current();
        if let Some(authorization) = authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        self.metrics.count_start();
        let began = Instant::now();
        let mut quota = None;
        let (status, reply) = match self.client.execute(request).await {
            Ok(response) => {
                let status = response.status().as_u16();
                let arrival = arrival_time(&response);
                quota = remaining_quota(response.headers(), arrival);
                let reply = self.withhold_secrets(read(response, arrival, reference, &self.route).await);
                // The page of a proxy that did not send the request is no response to it.
                (Some(status).filter(|_| !matches!(reply, Reply::NotSent(_))), reply)
            }
            Err(error) if error.is_connect() || error.is_builder() => (None, self.route.not_sent(&error)),
            Err(error) => {
                (None, Reply::Unknown { status: None, why: self.route.lost(&error), request_id: None })
            }
        };
        let latency = began.elapsed();
        let is_sent = !matches!(reply, Reply::NotSent(_) | Reply::ProxyLogin(_));
        self.metrics.count_end(call, status, is_sent.then_some(latency));
        Exchange { reply, latency, quota }
    }

    /// The API's texts are stored in the ledger and printed on terminals; the key must not be.
    fn withhold_secrets(&self, mut reply: Reply) -> Reply {
        let texts = match &mut reply {
            Reply::Answer(answer) | Reply::Foreign(answer) => {
                vec![&mut answer.code, &mut answer.message, &mut answer.fields, &mut answer.request_id]
            }
            Reply::Unknown { request_id, .. } => vec![request_id],
            Reply::Customer { .. } | Reply::NotSent(_) | Reply::ProxyLogin(_) => Vec::new(),
        };
        texts.into_iter().flatten().for_each(|text| self.keys.withhold(text));
        reply
    }
}

/// Whether a text contains the secret, or was truncated within the secret.
fn repeats(text: &str, secret: &str) -> bool {
    const BEGINNING_MIN: usize = 4;
    let beginnings =
        secret.char_indices().map(|(at, _)| &secret[..at]).filter(|part| part.len() >= BEGINNING_MIN);
    let is_truncated = text.chars().count() >= MESSAGE_MAX_CHARS;
    text.contains(secret) || (is_truncated && beginnings.into_iter().any(|part| text.ends_with(part)))
}

fn headers(options: &Options) -> Result<HeaderMap, Error> {
    let authorization = key::header(&options.api_key)?;
    let merchant_id = HeaderValue::from_str(&options.merchant_id).map_err(|_| Error::MerchantId)?;
    Ok(HeaderMap::from_iter([(AUTHORIZATION, authorization), (MERCHANT_ID, merchant_id)]))
}

/// Whether the URL can only mean this machine: plain HTTP is safe there, and no proxy is used.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The time of a response whose headers have just arrived.
fn arrival_time(response: &Response) -> ArrivalTime {
    ArrivalTime::new(clock::now(), response.headers().get(DATE).and_then(|value| value.to_str().ok()))
}

async fn read(
    mut response: Response,
    arrival: ArrivalTime,
    requested: &Reference,
    route: &NamedRoute,
) -> Reply {
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let response_id = response.headers().get(RESPONSE_ID).and_then(|value| value.to_str().ok()).map(short);
    let head = Head {
        status,
        retry_after: retry_after.and_then(|value| parse_retry_after(value, arrival.by_server())),
        response_id,
        clock_ahead: arrival.clock_ahead(),
    };
    let lost = |why| Reply::Unknown { status: Some(status), why, request_id: head.response_id.clone() };
    // Nearly every body comes in one piece.
    let (mut piece, mut pieces) = (Bytes::new(), Vec::new());
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if piece.len() + pieces.len() + chunk.len() > BODY_MAX_BYTES => {
                return lost(format!("an answer of more than {} KiB", BODY_MAX_BYTES / 1024));
            }
            Ok(Some(chunk)) => pieces.extend_from_slice(&std::mem::replace(&mut piece, chunk)),
            Ok(None) => break,
            Err(error) => return lost(route.lost(&error)),
        }
    }
    if !pieces.is_empty() {
        pieces.extend_from_slice(&piece);
        piece = pieces.into();
    }
    let is_json = piece.trim_ascii_start().starts_with(b"{");
    let page = if is_json { None } else { route.page_of_proxy(status, response.headers()) };
    page.unwrap_or_else(|| parse(&head, &piece, requested.as_str()))
}

/// The innermost cause; the outer ones repeat the URL, which contains the reference.
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

    #[test]
    fn a_secret_is_found_also_where_the_text_was_truncated() {
        let secret = "test_key_8d1f";
        assert!(repeats("test_key_8d1f is unknown", secret));
        assert!(repeats(&format!("{}test_k", "x".repeat(MESSAGE_MAX_CHARS - 6)), secret));
        assert!(!repeats("a short text that ends in test_k", secret));
        assert!(!repeats(&"x".repeat(MESSAGE_MAX_CHARS), secret));
    }
}
