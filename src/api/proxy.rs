//! The route of the requests: directly to the target, or through the proxy that an environment variable names.
//!
//! The variables are read once, before anything is sent. reqwest does not read them: it would ignore a variable that
//! it cannot parse, and send the rows around the proxy.
//!
//! There is one target URL, so there is one decision: one proxy or none. A loopback target never goes through a
//! proxy: on the proxy's machine, a loopback address means that machine.
//!
//! No message and no `Debug` output contains a login: only the name of a variable and its error are shown, never its
//! value.

use std::{ffi::OsString, fmt, net::IpAddr};

use reqwest::Url;

use super::{Error, is_loopback};
use crate::customer::is_invisible;

/// The supported schemes of a proxy, with their default ports. With `socks5h` and `socks4a` the proxy resolves the
/// target's name.
const SCHEMES: [(&str, u16); 6] =
    [("http", 80), ("https", 443), ("socks5", 1080), ("socks5h", 1080), ("socks4", 1080), ("socks4a", 1080)];

/// Set in a CGI process, where the web server passes a request header `Proxy` on as `HTTP_PROXY`.
const CGI: &str = "REQUEST_METHOD";

/// The route to the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Without a proxy.
    Direct(DirectReason),
    /// Through a proxy.
    Through(ProxyServer),
}

/// Why no proxy is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectReason {
    /// No variable names one.
    NoVariable,
    /// The target is this machine.
    Loopback,
    /// The exceptions in this variable include the target.
    Excepted(String),
}

/// A proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyServer {
    /// The variable that names the proxy.
    variable: String,
    /// The URL, with a port, and with the login if there is one.
    url: Url,
}

impl Route {
    /// The route to this target. `environment` reads a variable; an empty one counts as unset.
    ///
    /// # Errors
    /// If the variable that applies cannot be parsed.
    pub fn to(target: &Url, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Route, Error> {
        if is_loopback(target) {
            return Ok(Route::Direct(DirectReason::Loopback));
        }
        let of_scheme = if target.scheme() == "https" { "HTTPS_PROXY" } else { "HTTP_PROXY" };
        let found = [of_scheme, "ALL_PROXY"].into_iter().find_map(|name| read(name, environment));
        let Some((variable, value)) = found else { return Ok(Route::Direct(DirectReason::NoVariable)) };
        if let Some((excepting, list)) = read("NO_PROXY", environment) {
            let is_excepted = text(&list).and_then(|list| excepts(list, target));
            if is_excepted.map_err(|why| Error::Proxy { variable: excepting.clone(), why })? {
                return Ok(Route::Direct(DirectReason::Excepted(excepting)));
            }
        }
        match text(&value).and_then(proxy_url) {
            Ok(url) => Ok(Route::Through(ProxyServer { variable, url })),
            Err(why) => Err(Error::Proxy { variable, why }),
        }
    }

    /// The proxy, if there is one.
    pub fn proxy(&self) -> Option<&ProxyServer> {
        match self {
            Route::Through(proxy) => Some(proxy),
            Route::Direct(_) => None,
        }
    }
}

impl ProxyServer {
    /// The variable that names the proxy.
    pub fn variable(&self) -> &str {
        &self.variable
    }

    /// The proxy's URL without the login.
    pub fn shown(&self) -> String {
        let has_login = !self.url.username().is_empty() || self.url.password().is_some();
        let login = if has_login { "(not shown)@" } else { "" };
        format!("{}://{login}{}", self.url.scheme(), self.address())
    }

    /// Host and port of the proxy.
    pub(super) fn address(&self) -> String {
        address(&self.url)
    }

    pub(super) fn setting(&self) -> reqwest::Result<reqwest::Proxy> {
        reqwest::Proxy::all(self.url.clone())
    }
}

impl fmt::Debug for ProxyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.shown(), self.variable)
    }
}

/// Host and port of a URL. The port of a proxy is always a number; that of a target has a default.
pub(super) fn address(url: &Url) -> String {
    let port = url.port_or_known_default().or_else(|| default_port(url.scheme()));
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    format!("{}{port}", url.host_str().unwrap_or_default())
}

fn default_port(scheme: &str) -> Option<u16> {
    SCHEMES.iter().find(|(known, _)| *known == scheme).map(|(_, port)| *port)
}

/// The value of a variable, in upper or lower case. Upper case wins, except where a request header may have set it.
fn read(name: &str, environment: &dyn Fn(&str) -> Option<OsString>) -> Option<(String, OsString)> {
    let is_forged = name == "HTTP_PROXY" && environment(CGI).is_some();
    let upper = Some(name.to_owned()).filter(|_| !is_forged);
    [upper, Some(name.to_ascii_lowercase())]
        .into_iter()
        .flatten()
        .find_map(|name| environment(&name).map(|value| (name, value)))
}

fn text(value: &OsString) -> Result<&str, String> {
    value.to_str().map(str::trim).ok_or_else(|| "is not text".into())
}

fn proxy_url(value: &str) -> Result<Url, String> {
    if value.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("has a blank in it".into());
    }
    // As in curl. Without the scheme, a host with a port would be parsed as a scheme.
    let value = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let mut url = Url::parse(&value).map_err(|error| format!("is not the URL of a proxy ({error})"))?;
    let Some(port) = default_port(url.scheme()) else {
        return Err("has an unknown scheme".into());
    };
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host".into());
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("has more than scheme, login, host and port".into());
    }
    if url.port_or_known_default().is_none() {
        url.set_port(Some(port)).map_err(|()| "names no host".to_owned())?;
    }
    Ok(url)
}

/// Whether a `NO_PROXY` list includes the target: by its host, by a domain above it, by its address or by a network,
/// with or without a port. The separators are commas, blanks and line breaks, and those of other systems: `;` (Windows)
/// and `|` (Java).
fn excepts(list: &str, target: &Url) -> Result<bool, String> {
    let is_separator = |c: char| matches!(c, ',' | ';' | '|') || c.is_whitespace();
    let entries = list.split(is_separator).filter(|entry| !entry.is_empty());
    // Every entry is parsed, so that a mistake is reported whatever the target is.
    let found: Result<Vec<bool>, String> = entries
        .enumerate()
        .map(|(index, entry)| {
            names(entry, target).ok_or_else(|| {
                format!("has an entry that is not a host, address or network (entry {})", index + 1)
            })
        })
        .collect();
    Ok(found?.contains(&true))
}

/// Whether an entry of `NO_PROXY` includes the target; `None` if the entry cannot be parsed.
fn names(entry: &str, target: &Url) -> Option<bool> {
    if entry == "*" {
        return Some(true);
    }
    let host = target.host_str().unwrap_or_default().trim_matches(['[', ']']).trim_end_matches('.');
    let address: Option<IpAddr> = host.parse().ok();
    let address_of = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    if let Some((network, length)) = entry.split_once('/') {
        return is_within(address, network.parse().ok()?, length.parse().ok()?);
    }
    if let Some(listed) = address_of(entry) {
        return Some(address == Some(listed));
    }
    let (name, port) = match entry.rsplit_once(':') {
        Some((name, port)) => (name, Some(port.parse::<u16>().ok()?)),
        None => (entry, None),
    };
    let has_port = port.is_none_or(|port| target.port_or_known_default() == Some(port));
    if let Some(listed) = address_of(name) {
        return Some(has_port && address == Some(listed));
    }
    let domain = ascii_domain(name.strip_prefix('*').unwrap_or(name).trim_matches('.'))?;
    let is_of_domain = host.strip_suffix(&*domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    Some(has_port && address.is_none() && is_of_domain)
}

/// A host or domain spelled as in a URL: in lower case, and in ASCII. `None` for anything else, such as a part of an
/// address.
fn ascii_domain(name: &str) -> Option<String> {
    let is_allowed = |c: char| match c.is_ascii() {
        true => c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'),
        false => !is_invisible(c),
    };
    let url = Url::parse(&format!("http://{name}")).ok().filter(|_| name.chars().all(is_allowed))?;
    // A wide comma has become a plain one.
    url.domain().filter(|domain| domain.chars().all(is_allowed)).map(str::to_owned)
}

/// Whether an address is in a network; `None` if the prefix length is impossible.
fn is_within(address: Option<IpAddr>, network: IpAddr, length: u32) -> Option<bool> {
    let same = |a: u128, b: u128, bits: u32| {
        let host_bits = bits.checked_sub(length)?;
        Some(a.checked_shr(host_bits).unwrap_or(0) == b.checked_shr(host_bits).unwrap_or(0))
    };
    match (address, network) {
        (Some(IpAddr::V4(a)), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
        (Some(IpAddr::V6(a)), IpAddr::V6(b)) => same(a.into(), b.into(), 128),
        (_, IpAddr::V4(_)) => (length <= 32).then_some(false),
        (_, IpAddr::V6(_)) => (length <= 128).then_some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(target: &str, variables: &[(&str, &str)]) -> Result<Route, Error> {
        let environment = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Route::to(&Url::parse(target).unwrap(), &environment)
    }

    /// The proxy and its variable, or why there is none.
    fn described(target: &str, variables: &[(&str, &str)]) -> String {
        match route(target, variables) {
            Ok(Route::Through(proxy)) => format!("{} {}", proxy.variable(), proxy.shown()),
            Ok(Route::Direct(reason)) => format!("{reason:?}"),
            Err(error) => format!("error: {error}"),
        }
    }

    const API: &str = "https://api.example.com";

    #[test]
    fn the_variable_of_the_scheme_comes_before_that_of_all() {
        for (target, variables, expected) in [
            (API, &[][..], "NoVariable"),
            (API, &[("HTTP_PROXY", "http://p:1")], "NoVariable"),
            (API, &[("https_proxy", "p:1")], "https_proxy http://p:1"),
            (API, &[("https_proxy", "p:1"), ("HTTPS_PROXY", "q:2")], "HTTPS_PROXY http://q:2"),
            (API, &[("ALL_PROXY", "p"), ("https_proxy", "q")], "https_proxy http://q:80"),
            (API, &[("all_proxy", "socks5h://p")], "all_proxy socks5h://p:1080"),
            ("http://a.example", &[("HTTP_PROXY", "https://p")], "HTTP_PROXY https://p:443"),
            ("http://a.example", &[("HTTP_PROXY", "p"), ("REQUEST_METHOD", "GET")], "NoVariable"),
            ("http://a.example", &[("http_proxy", "p"), ("REQUEST_METHOD", "GET")], "http_proxy http://p:80"),
            ("http://127.0.0.1:8080", &[("ALL_PROXY", "p")], "Loopback"),
            ("https://localhost", &[("ALL_PROXY", "ht tp")], "Loopback"),
            (API, &[("HTTPS_PROXY", " http://p:3128/\n")], "HTTPS_PROXY http://p:3128"),
            (API, &[("HTTPS_PROXY", "http://[::1]:3128")], "HTTPS_PROXY http://[::1]:3128"),
        ] {
            assert_eq!(described(target, variables), expected, "{target} {variables:?}");
        }
    }

    #[test]
    fn a_login_is_never_shown() {
        for value in ["http://user:pa@ss@p:1", "user:secret@p:1", "http://token@p:1", "socks5://u:s@p:1"] {
            let route = route(API, &[("HTTPS_PROXY", value)]).unwrap();
            let shown = format!("{} {route:?}", route.proxy().unwrap().shown());
            assert!(shown.contains("(not shown)@p:1"), "{shown}");
            for secret in ["user", "pa@ss", "secret", "token", "u:s"] {
                assert!(!shown.contains(secret), "{shown}");
            }
            assert!(route.proxy().unwrap().setting().is_ok());
        }
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_its_value() {
        for value in [
            "http://[bad",
            "htp://p:1",
            "http:/p:1",
            "http://",
            "http://p:99999",
            "http://user:12/34@p",
            "http://p:1/path",
            "http://p q:1",
            "ftp://p",
            "socks6://p",
            "://p",
            "http://user:se#cret@p:1",
        ] {
            let error = route(API, &[("HTTPS_PROXY", value)]).unwrap_err();
            let text = format!("{error}; {}", error.hint());
            assert!(text.starts_with("HTTPS_PROXY "), "{value}: {text}");
            assert!(!text.contains(value) && !text.contains("cret") && !text.contains("34"), "{text}");
        }
    }

    #[test]
    fn exceptions_are_hosts_domains_addresses_and_networks() {
        for (list, target, expected) in [
            ("example.com", API, true),
            (".example.com", API, true),
            ("*.EXAMPLE.com", API, true),
            ("other.test, api.example.com", API, true),
            ("other.test api.example.com.", API, true),
            ("api.example.com:443", API, true),
            ("api.example.com:8443", API, false),
            ("ample.com", API, false),
            ("*", API, true),
            ("10.0.0.0/8", "https://10.1.2.3", true),
            ("10.0.0.0/8", "https://11.1.2.3", false),
            ("10.0.0.0/8", API, false),
            ("0.0.0.0/0", "https://11.1.2.3", true),
            ("10.1.2.3", "https://10.1.2.3", true),
            ("fd00::/8", "https://[fd12::1]", true),
            ("[fd12::1]:443", "https://[fd12::1]", true),
            ("fd12::2", "https://[fd12::1]", false),
            ("other.test;api.example.com", API, true),
            ("other.test; .example.com ;", API, true),
            ("localhost|*.example.com", API, true),
            ("other.test\n\tapi.example.com\r\n", API, true),
            (",,;|", API, false),
            ("Bücher.example", "https://api.bücher.example", true),
            ("xn--bcher-kva.example", "https://bücher.example", true),
            ("api.example.com", "https://API.example.com.", true),
            ("*.example.com:443", API, true),
            ("[10.1.2.3]:443", "https://10.1.2.3", true),
            ("10.1.2.3:8443", "https://10.1.2.3", false),
            ("my_host", "https://my_host", true),
        ] {
            let found = described(target, &[("HTTPS_PROXY", "p:1"), ("no_proxy", list)]);
            let wanted = if expected { "Excepted(\"no_proxy\")" } else { "HTTPS_PROXY http://p:1" };
            assert_eq!(found, wanted, "{list} {target}");
        }
        for entry in [
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/8:443",
            "10.",
            "192.168.",
            "10.*",
            "3",
            "a*b.example",
            "http://a.example",
            "api.example.com/",
            "fd00::/129",
            "a:b",
            "a:b:80",
            "a.example:99999",
            "\"api.example.com\"",
            "<local>",
            "user@a.example",
            "api.example.com\u{200b}",
            "api\u{ff0c}example.com",
            ".",
            "**",
        ] {
            let list = format!("other.test,{entry}");
            let found = described(API, &[("HTTPS_PROXY", "p:1"), ("NO_PROXY", &list)]);
            let expected = "error: NO_PROXY has an entry that is not a host, address or network (entry 2)";
            assert_eq!(found, expected, "{entry}");
        }
        // A name that ends like an address is not above it.
        assert!(
            described("https://1.2.3.10", &[("HTTPS_PROXY", "p:1"), ("NO_PROXY", "10")]).starts_with("error")
        );
    }
}
