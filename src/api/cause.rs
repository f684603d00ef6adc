//! Explains why there is no response, so that an operator can act: no route, connection refused, unknown host,
//! certificate, proxy.
//!
//! reqwest's own messages contain the URL, and with it the reference, and its innermost error often explains nothing
//! (`operation timed out`). The libraries below reqwest have no public error types for replies of a proxy, so those
//! are recognized by their text; tests with real proxies fail if the text changes.

use std::{error::Error as StdError, io};

use reqwest::{
    Url,
    header::{HeaderMap, SERVER},
};
use rustls::AlertDescription;

use super::{Reply, Route, proxy, response::short, tls::RefusedCertificate};

/// For a proxy of scheme `socks5` or `socks4`, this program resolves the target's name itself.
const SOCKS_LOOKUP: &str = "error resolving for socks proxy";

/// The route between this program and the API, as messages name it.
pub(super) struct NamedRoute {
    /// Host and port of the target.
    target: String,
    /// The proxy and its variable, if there is a proxy.
    proxy: Option<String>,
    /// Whether the proxy reads and forwards each request, because no tunnel leads through it.
    forwards: bool,
}

/// The part of the route at which a connection failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Target,
    Proxy,
}

impl NamedRoute {
    pub(super) fn new(target: &Url, route: &Route) -> NamedRoute {
        let named =
            |proxy: &super::ProxyServer| format!("the proxy {} ({})", proxy.address(), proxy.variable());
        let is_http = |proxy: &super::ProxyServer| proxy.shown().starts_with("http");
        NamedRoute {
            target: proxy::address(target),
            proxy: route.proxy().map(named),
            forwards: target.scheme() == "http" && route.proxy().is_some_and(is_http),
        }
    }

    /// The reply to a request that the proxy answered by a page of its own, in place of the API: as clear about a target
    /// that cannot be reached as a tunnel that is refused. `headers` are those of a response without JSON.
    pub(super) fn page_of_proxy(&self, status: u16, headers: &HeaderMap) -> Option<Reply> {
        let proxy = self.proxy.as_ref().filter(|_| self.forwards && status >= 400 && status != 407)?;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(code) = text(SQUID_ERROR) else {
            let server = text(SERVER.as_str())?.to_ascii_lowercase();
            let is_proxy = PROXY_NAMES.iter().any(|name| server.starts_with(name));
            let why =
                format!("{proxy} answered by a page of its own, asked for {}; see its log", self.target);
            return is_proxy.then_some(Reply::Unknown { status: Some(status), why, request_id: None });
        };
        let known = SQUID_ERRORS.iter().find(|(known, _)| code.split(' ').next() == Some(known));
        let code = short(code);
        Some(match known {
            Some((_, does)) => {
                Reply::NotSent(format!("{proxy} {} ({code})", does.replace("TARGET", &self.target)))
            }
            None => Reply::Unknown {
                status: Some(status),
                why: format!("{proxy} reports a failure, asked for {} ({code}); see its log", self.target),
                request_id: None,
            },
        })
    }

    /// The reply for a request that was surely not sent.
    pub(super) fn not_sent(&self, error: &reqwest::Error) -> Reply {
        let errors = chain(error);
        let says = |words: &str| errors.iter().any(|error| error.to_string().contains(words));
        if let Some(proxy) = &self.proxy {
            if says("proxy authorization required") || says("credentials not accepted") {
                return Reply::ProxyLogin(format!("{proxy} refuses the login, or requires one"));
            }
            if says("server does not support user/pass authentication") {
                return Reply::ProxyLogin(format!("{proxy} takes no login by name and password"));
            }
            if let Some((_, does)) = PROXY_ERRORS.into_iter().find(|(text, _)| says(text)) {
                return Reply::NotSent(format!("{proxy} {}", does.replace("TARGET", &self.target)));
            }
        }
        let peer = match (&self.proxy, stage(&errors)) {
            (Some(proxy), Stage::Proxy) => proxy,
            _ => &self.target,
        };
        Reply::NotSent(match words(&errors) {
            // These texts name the host themselves.
            Some(Words::Whole(text)) => text,
            Some(Words::Part(text)) => format!("no connection to {peer}: {text}"),
            None if error.is_timeout() => format!("no connection to {peer}: it does not answer"),
            None => format!("no connection to {peer}: {}", other_words(&errors)),
        })
    }

    /// Describes what happened to a request that may have arrived.
    pub(super) fn lost(&self, error: &reqwest::Error) -> String {
        let through = self.proxy.as_ref().map_or_else(String::new, |proxy| format!(" through {proxy}"));
        let peer = format!("{}{through}", self.target);
        if error.is_timeout() {
            return format!("no answer in time from {peer}");
        }
        let errors = chain(error);
        match words(&errors) {
            Some(Words::Whole(text)) => text,
            Some(Words::Part(text)) => format!("no whole answer from {peer}: {text}"),
            None => format!("no whole answer from {peer}: {}", other_words(&errors)),
        }
    }
}

/// The header of Squid's own pages: `ERR_CONNECT_FAIL 111`.
const SQUID_ERROR: &str = "x-squid-error";

/// The errors of Squid for requests that it did not send, each with our explanation.
const SQUID_ERRORS: [(&str, &str); 6] = [
    ("ERR_CONNECT_FAIL", "does not reach TARGET"),
    ("ERR_SECURE_CONNECT_FAIL", "does not reach TARGET by TLS"),
    ("ERR_DNS_FAIL", "does not find the name of TARGET"),
    ("ERR_CANNOT_FORWARD", "has no way to TARGET"),
    ("ERR_ACCESS_DENIED", "does not allow requests to TARGET; see its rules"),
    ("ERR_FORWARDING_DENIED", "does not allow requests to TARGET; see its rules"),
];

/// What proxies call themselves in the header `Server` of their own pages.
const PROXY_NAMES: [&str; 3] = ["squid", "tinyproxy", "privoxy"];

/// Texts of the proxy library, each with our explanation.
const PROXY_ERRORS: [(&str, &str); 17] = [
    ("tunnel error: unsuccessful", "refuses to connect to TARGET"),
    (
        "tunnel error: proxy response headers too long",
        "answers with more than a header; is it an HTTP proxy?",
    ),
    (
        "tunnel error: unexpected end of file",
        "closes the connection in place of a tunnel to TARGET; see its log",
    ),
    ("SOCKS error: general server failure", "reports a failure of its own, asked for TARGET; see its log"),
    ("SOCKS error: connection not allowed", "does not allow connections to TARGET; see its rules"),
    ("SOCKS error: network unreachable", "has no route to TARGET"),
    ("SOCKS error: host unreachable", "does not reach TARGET"),
    ("SOCKS error: ttl expired", "does not reach TARGET in time"),
    ("SOCKS error: connection refused", "is refused by TARGET"),
    ("SOCKS error: command not supported", "makes no connections for others; see its settings"),
    ("SOCKS error: address type not supported", "takes no such address; try socks5h:// or socks5://"),
    ("SOCKS error: IPV6 is not supported", "takes no IPv6 address; socks5h:// has it look the name up"),
    ("SOCKS error: could not resolve", "takes no such address; socks5h:// has it look the name up"),
    ("SOCKS error: server failed", "refuses or fails to connect to TARGET; see its log"),
    ("SOCKS error: server ident", "wants to know the user by ident, which this program does not answer"),
    ("SOCKS error: server implements", "does not answer the login as SOCKS has it; see its settings"),
    ("SOCKS error: failed parsing", "does not answer by SOCKS; see the scheme and the port of the variable"),
];

/// Texts of the connection's libraries, each with our explanation.
const CONNECTION_ERRORS: [(&str, &str); 11] = [
    ("SOCKS error: io error", "the SOCKS handshake was broken off; see the scheme and the port"),
    ("tunnel error: io error", "the connection broke before the tunnel was up"),
    ("connection closed before message", CLOSED),
    ("end of file before message length", CLOSED),
    ("unexpected EOF", CLOSED),
    ("unexpected end of file", CLOSED),
    ("message head is too large", "its headers are too long for an API; check what answers there"),
    ("invalid HTTP", "the server there does not speak HTTP as this program knows it (check scheme and port)"),
    ("received unexpected message", "it answered before it was asked; check what answers there"),
    ("http2 error", "it broke the rules of HTTP/2; check what is in between"),
    ("connection error", CLOSED),
];

const CLOSED: &str = "it closed the connection; check what is in between (a proxy, a firewall), and whether the server was restarted";

/// An explained error.
enum Words {
    /// A complete sentence.
    Whole(String),
    /// What is wrong with the connection, to be completed with the host.
    Part(String),
}

/// The error and its causes, the outermost first, including those inside an [`io::Error`].
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> Vec<&'a (dyn StdError + 'static)> {
    let mut errors = vec![error];
    let mut last = error;
    loop {
        let inside = last.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let next = match inside {
            Some(inside) => Some(inside as &(dyn StdError + 'static)),
            None => last.source(),
        };
        let Some(next) = next else { return errors };
        errors.push(next);
        last = next;
    }
}

/// Through a tunnel, an error before the tunnel is established comes from the proxy, and a later one from the target.
/// Without a tunnel, all connections are to the proxy.
fn stage(errors: &[&(dyn StdError + 'static)]) -> Stage {
    let is_about = |words: &str| errors.iter().any(|error| error.to_string().starts_with(words));
    let is_tls = errors.iter().any(|error| error.is::<rustls::Error>());
    let is_targets = (is_tls && !is_about("tunnel error")) || is_about(SOCKS_LOOKUP);
    if is_targets { Stage::Target } else { Stage::Proxy }
}

fn words(errors: &[&(dyn StdError + 'static)]) -> Option<Words> {
    if errors.iter().any(|error| error.to_string().starts_with(SOCKS_LOOKUP)) {
        return Some(Words::Part("the name is not found here; with socks5h:// the proxy looks it up".into()));
    }
    if errors.iter().any(|error| error.to_string() == "dns error") {
        return Some(Words::Part("the name is not found".into()));
    }
    errors.iter().find_map(|error| {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(tls_words(error));
        }
        io_words(error.downcast_ref::<io::Error>()?.kind()).map(|text| Words::Part(text.into()))
    })
}

fn tls_words(error: &rustls::Error) -> Words {
    use rustls::{
        CertificateError,
        Error::{AlertReceived, InvalidCertificate, InvalidMessage},
    };
    match error {
        InvalidCertificate(CertificateError::Other(other)) => {
            match other.0.downcast_ref::<RefusedCertificate>() {
                Some(refused) => Words::Whole(refused.to_string()),
                None => Words::Part(short(&error.to_string())),
            }
        }
        AlertReceived(alert) => Words::Part(match alert {
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateExpired
            | AlertDescription::AccessDenied => {
                format!(
                    "the server refuses this program's certificate or wants one ({alert:?}; see --client-cert)"
                )
            }
            _ => format!("the server ends the TLS handshake ({alert:?})"),
        }),
        InvalidMessage(_) => {
            Words::Part("the server there does not speak TLS (should it be http://?)".into())
        }
        _ => Words::Part(short(&error.to_string())),
    }
}

fn io_words(kind: io::ErrorKind) -> Option<&'static str> {
    use io::ErrorKind::*;
    Some(match kind {
        ConnectionRefused => "connection refused",
        NetworkUnreachable | HostUnreachable | NetworkDown => "no route to it",
        ConnectionReset => "connection reset",
        ConnectionAborted | BrokenPipe => "connection broken",
        UnexpectedEof => "the connection was closed",
        TimedOut => "it does not answer",
        AddrNotAvailable => "this machine has no free address or port for it",
        PermissionDenied => "this machine does not permit it",
        _ => return None,
    })
}

/// Explains a cause that has no error type; falls back to the library's own text.
fn other_words(errors: &[&(dyn StdError + 'static)]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let is_known = |known: &str| texts.iter().any(|text| text.starts_with(known));
    match CONNECTION_ERRORS.into_iter().find(|(known, _)| is_known(known)) {
        Some((_, words)) => words.into(),
        None => texts.last().map_or_else(String::new, |text| short(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_of_a_connection_is_left_in_the_words_of_a_library() {
        for (known, words) in CONNECTION_ERRORS {
            let error = io::Error::other(format!("{known} and more"));
            assert_eq!(other_words(&chain(&error)), words);
        }
        assert_eq!(other_words(&chain(&io::Error::other("another"))), "another");
    }
}
