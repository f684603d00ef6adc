//! The target of requests: URL, merchant and key; and the confirmation before production.
//!
//! The key comes from the environment or a file, never from a flag, and is never part of a message.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::Path,
};

use reqwest::Url;
use secrecy::SecretString;

use super::{
    SIMULATOR,
    args::{self, Environment},
    simulate::embed_simulator,
    variable,
};
use crate::{
    api::{self, Api, ClientIdentity, DirectReason, KeyReader, Route},
    error::Error,
    ledger,
    report::{row_count, visible_text},
    simulator::Simulator,
    source::{Source, SourceOptions},
};

const SANDBOX: &str = "https://sandbox.juspay.in";
const PRODUCTION: &str = "https://api.juspay.in";

/// The target of requests.
pub(super) struct Target {
    /// `None` for the embedded simulator.
    pub(super) base_url: Option<Url>,
    pub(super) merchant_id: String,
    pub(super) api_key: SecretString,
    /// The route to the base URL.
    pub(super) route: Route,
}

impl Target {
    /// The host, with its port if the URL names one.
    pub(super) fn host(&self) -> String {
        let Some(url) = &self.base_url else { return SIMULATOR.into() };
        let host = url.host_str().unwrap_or_default();
        url.port().map_or_else(|| host.into(), |port| format!("{host}:{port}"))
    }

    /// The target as the ledger records it.
    pub(super) fn of_ledger(&self) -> ledger::Target {
        let base_url = self.base_url.as_ref().map_or(SIMULATOR, Url::as_str);
        ledger::Target {
            base_url: base_url.trim_end_matches('/').into(),
            merchant_id: self.merchant_id.clone(),
        }
    }
}

pub(super) fn find_target(args: &args::TargetOptions) -> Result<Target, Error> {
    if args.simulator {
        // Must not occur in the simulator's responses: text that repeats the key is withheld.
        let api_key = SecretString::from("key-of-the-simulator");
        let route = Route::Direct(DirectReason::Loopback);
        return Ok(Target { base_url: None, merchant_id: SIMULATOR.into(), api_key, route });
    }
    let base_url = base_url(args.base_url.as_deref(), args.environment)?;
    if base_url.scheme() == "http" && !api::is_loopback(&base_url) && !args.allow_insecure_http {
        return Err(Error::usage(
            "plain http:// would send the key and every row unencrypted",
            "use https://, or add --allow-insecure-http",
        ));
    }
    let merchant_id = merchant_id(args)?.ok_or_else(|| {
        Error::usage("no merchant id", "give --merchant-id ID or set JUSPAY_MERCHANT_ID, or try --simulator")
    })?;
    let route = Route::to(&base_url, &variable)?;
    Ok(Target {
        base_url: Some(base_url),
        merchant_id,
        api_key: find_key(args.api_key_file.as_deref())?,
        route,
    })
}

/// The target that a ledger must have in order to be read with these options. Nothing is sent, so neither a key nor a
/// merchant id is required.
pub(super) fn requested_target(args: &args::TargetOptions) -> Result<ledger::RequestedTarget, Error> {
    if args.simulator {
        return Ok(ledger::RequestedTarget {
            base_url: SIMULATOR.into(),
            merchant_id: Some(SIMULATOR.into()),
        });
    }
    let url = base_url(args.base_url.as_deref(), args.environment)?;
    Ok(ledger::RequestedTarget {
        base_url: url.as_str().trim_end_matches('/').into(),
        merchant_id: merchant_id(args)?,
    })
}

/// The merchant id as given, without trailing line breaks. A wrong one would be refused with a 401, and the ledger
/// would be bound to it.
fn merchant_id(args: &args::TargetOptions) -> Result<Option<String>, Error> {
    let Some(id) = args.merchant_id.as_deref().map(|id| id.trim_end_matches(['\n', '\r'])) else {
        return Ok(None);
    };
    let is_wrong = |c: char| !c.is_ascii_graphic() || matches!(c, '"' | '\'' | '=');
    match id.chars().enumerate().find(|(_, c)| is_wrong(*c)) {
        Some((at, c)) => Err(Error::usage(
            format!("the merchant id has {}", api::describe_character(c, at + 1)),
            "give the id alone, without quotes or spaces, with --merchant-id or JUSPAY_MERCHANT_ID",
        )),
        None => Ok(Some(id.to_owned()).filter(|id| !id.is_empty())),
    }
}

/// The base URL that these options select.
pub(super) fn base_url(given: Option<&str>, environment: Environment) -> Result<Url, Error> {
    url_of(given.unwrap_or(match environment {
        Environment::Sandbox => SANDBOX,
        Environment::Production => PRODUCTION,
    }))
}

/// The client certificate; its two options must be given together.
fn identity(args: &args::TargetOptions) -> Result<Option<ClientIdentity>, Error> {
    match (&args.client_cert, &args.client_key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            Ok(Some(ClientIdentity { certificate: certificate.clone(), key: key.clone() }))
        }
        (Some(_), None) => Err(Error::usage("--client-cert without its key", "give --client-key PEM too")),
        (None, Some(_)) => {
            Err(Error::usage("--client-key without its certificate", "give --client-cert PEM too"))
        }
    }
}

/// The API client for a target. Returns the simulator too, if it is the target, because it must outlive the client.
pub(super) async fn open_api(
    target: Target,
    args: &args::TargetOptions,
    timeouts: &args::Timeouts,
    connections: usize,
) -> Result<(Api, Option<Simulator>), Error> {
    let Target { base_url, merchant_id, api_key, route } = target;
    let (base_url, simulator) = match base_url {
        Some(url) => (url, None),
        None => {
            let simulator = embed_simulator().await?;
            (url_of(&format!("http://{}", simulator.address()))?, Some(simulator))
        }
    };
    let file = args.api_key_file.clone();
    let reader = file
        .filter(|_| simulator.is_none())
        .map(|file| -> KeyReader { Box::new(move || find_key(Some(&file)).ok()) });
    let api = Api::new(api::Options {
        base_url,
        merchant_id,
        api_key,
        key_reader: reader,
        send_routing_id: !args.no_routing_id,
        ca_file: args.ca_file.clone(),
        identity: identity(args)?,
        route,
        timeout: timeouts.timeout,
        connect_timeout: timeouts.connect_timeout,
        connections,
    })?;
    Ok((api, simulator))
}

/// Refuses production, for a command whose customers cannot be deleted.
pub(super) fn refuse_production(args: &args::TargetOptions) -> Result<(), Error> {
    let url = args.base_url.as_deref().map(url_of).transpose()?;
    let chosen = args.environment == Environment::Production;
    if args.simulator || !(chosen || url.as_ref().is_some_and(is_production)) {
        return Ok(());
    }
    Err(Error::usage(
        "production is not probed, since a probe creates customers and nothing can delete them",
        "give --environment sandbox, or the --base-url of a sandbox",
    ))
}

/// Domains whose hosts are production unless their name contains the label `sandbox`.
const JUSPAY: [&str; 3] = ["juspay.in", "juspay.io", "hyperpg.in"];

/// White-label domains of production.
const WHITE_LABEL: [&str; 1] = ["smartgateway.hdfcbank.com"];

/// Whether the host serves production.
fn is_production(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    // A host name may end with the dot of the DNS root.
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_under =
        |domain: &&str| host.strip_suffix(*domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let is_sandbox = host.split('.').any(|label| label == "sandbox");
    WHITE_LABEL.iter().any(is_under) || (JUSPAY.iter().any(is_under) && !is_sandbox)
}

/// Ends of a URL's path that are not part of a base URL. The customers API below `/v2` takes other requests: what is an
/// Update here would create a customer there.
const SURPLUS: [&str; 3] = ["/v2/customers", "/customers", "/v2"];

pub(super) fn url_of(given: &str) -> Result<Url, Error> {
    let wrong = |why: &str| {
        Error::usage(format!("--base-url: {why}"), "give a URL such as https://sandbox.juspay.in")
    };
    let url = match Url::parse(given) {
        Err(error) if given.contains("://") => return Err(wrong(&error.to_string())),
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
        _ => {
            let text = "--base-url: neither http:// nor https://";
            let meant = with_scheme(given).map(|url| format!("did you mean {url}?"));
            let hint = meant.unwrap_or_else(|| "give a URL such as https://sandbox.juspay.in".into());
            return Err(Error::usage(text, hint));
        }
    };
    if url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some()
    {
        return Err(wrong("a base URL has no query, no fragment and no user"));
    }
    let path = url.path().trim_end_matches('/');
    if let Some((surplus, base)) = SURPLUS.iter().find_map(|end| Some((end, path.strip_suffix(end)?))) {
        let mut meant = url.clone();
        meant.set_path(base);
        return Err(Error::usage(
            format!("--base-url ends with {surplus}, and requests go to URL/customers"),
            format!("leave it out: {}", meant.as_str().trim_end_matches('/')),
        ));
    }
    Ok(url)
}

/// The probable URL if a host was given without a scheme. None if it would show a password.
fn with_scheme(text: &str) -> Option<String> {
    if text.contains("://") || text.contains('@') {
        return None;
    }
    let url = Url::parse(&format!("https://{text}")).ok()?;
    let scheme = if api::is_loopback(&url) { "http" } else { "https" };
    Some(format!("{scheme}://{text}"))
}

pub(super) const KEY_VARIABLE: &str = "JUSPAY_API_KEY";

fn find_key(file: Option<&Path>) -> Result<SecretString, Error> {
    let (text, origin) = match file {
        Some(path) => (key_of_file(path)?, format!("the key file {}", path.display())),
        None => (key_of_environment()?, KEY_VARIABLE.into()),
    };
    // A file ends with a line break, and so does the output of some shells' command substitution and of secret
    // stores.
    let key = text.trim_end_matches(['\n', '\r']);
    if key.is_empty() {
        let (text, hint) = match file {
            Some(_) => (format!("{origin} is empty"), "write the API key into it, and nothing else"),
            None => {
                ("no API key".into(), "set JUSPAY_API_KEY or give --api-key-file FILE, or try --simulator")
            }
        };
        return Err(Error::usage(text, hint));
    }
    api::check_key(key)
        .map_err(|flaw| Error::usage(format!("the API key in {origin} {flaw}"), flaw.hint()))?;
    Ok(key.into())
}

fn key_of_environment() -> Result<String, Error> {
    let text = variable(KEY_VARIABLE).unwrap_or_default().into_string();
    text.map_err(|_| Error::usage(format!("{KEY_VARIABLE} is not text"), "set it to the key alone"))
}

fn key_of_file(path: &Path) -> Result<String, Error> {
    let wrong = |why: String| {
        let text = format!("cannot read the API key from {}: {why}", path.display());
        Error::usage(text, "give a file that holds the key and nothing else, as UTF-8")
    };
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let is_wide = matches!(error.as_bytes(), [0xff, 0xfe, ..] | [0xfe, 0xff, ..]);
        wrong(if is_wide { "it is UTF-16" } else { "it is not text" }.into())
    })?;
    // Editors append a line break, and some prepend a byte order mark; a key contains neither.
    Ok(text.trim_start_matches('\u{feff}').trim_ascii().to_owned())
}

/// The action that a confirmation describes.
pub(super) struct PlannedAction<'a> {
    /// `Import`, `Retry` or `Verify`.
    pub(super) verb: &'a str,
    /// The source.
    pub(super) file: &'a str,
    /// The number of rows as text; computed only if the confirmation is shown.
    pub(super) rows: &'a dyn Fn() -> Result<String, Error>,
    /// Which column feeds which field, as lines of text.
    pub(super) columns: &'a str,
}

/// The number of rows in a file as text, exact or estimated.
pub(super) fn count_rows(options: &SourceOptions) -> Result<String, Error> {
    Ok(Source::count(options)?.map_or_else(|| "rows not counted".into(), row_count))
}

/// The text of the confirmation.
fn question(action: &PlannedAction<'_>, sending: &args::Sending, target: &Target) -> Result<String, Error> {
    let rows = (action.rows)()?;
    let rate = sending.rate.0.map_or_else(|| "unlimited".into(), |rate| format!("{rate} requests/s"));
    let host = target.base_url.as_ref().and_then(Url::host_str).unwrap_or_default();
    let columns = action.columns;
    let (merchant, file, verb) = (visible_text(&target.merchant_id), visible_text(action.file), action.verb);
    Ok(format!(
        "This is production.\n  merchant  {merchant}\n  host      {host}\n  file      {file}, {rows}\n  \
         rate      {rate}\n{columns}{verb}? [y/N] "
    ))
}

/// Asks for confirmation before production, on a terminal; without one, `--yes` is required.
pub(super) fn confirm_production(
    args: &args::TargetOptions,
    sending: &args::Sending,
    target: &Target,
    action: &PlannedAction<'_>,
) -> Result<(), Error> {
    let chosen = !args.simulator && args.environment == Environment::Production;
    if args.yes || !(chosen || target.base_url.as_ref().is_some_and(is_production)) {
        return Ok(());
    }
    let stdin = io::stdin();
    if !stdin.is_terminal() || !io::stderr().is_terminal() {
        return Err(Error::usage(
            "sending to production requires confirmation, and stdin or stderr is not a terminal",
            "add --yes",
        ));
    }
    let question = question(action, sending, target)?;
    let mut answer = String::new();
    let shown =
        io::stderr().write_all(question.as_bytes()).and_then(|()| stdin.lock().read_line(&mut answer));
    if shown.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Error::usage("not confirmed, nothing was sent", "answer y, or add --yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_that_is_nearly_right_is_corrected() {
        for (given, meant) in [
            ("api.juspay.in", "did you mean https://api.juspay.in?"),
            ("api.juspay.in:443/x", "did you mean https://api.juspay.in:443/x?"),
            ("localhost:8080", "did you mean http://localhost:8080?"),
            ("127.0.0.1:8080", "did you mean http://127.0.0.1:8080?"),
            ("ftp://api.juspay.in", "give a URL such as https://sandbox.juspay.in"),
            ("user:secret@api.juspay.in", "give a URL such as https://sandbox.juspay.in"),
            ("https://api.juspay.in/customers", "leave it out: https://api.juspay.in"),
            ("https://example.com/a/customers/", "leave it out: https://example.com/a"),
            ("https://api.juspay.in/v2/customers", "leave it out: https://api.juspay.in"),
            ("https://example.com/a/v2/", "leave it out: https://example.com/a"),
        ] {
            let error = url_of(given).unwrap_err();
            assert_eq!(error.hint(), meant, "{given}: {error}");
        }
        for good in
            ["https://example.com/customers-of-x", "https://example.com/v2/api", "https://v2.example.com"]
        {
            assert!(url_of(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn production_is_known_by_its_host() {
        for (host, expected) in [
            ("api.juspay.in", true),
            ("API.Juspay.In.", true),
            ("payments.juspay.in", true),
            ("api-ns1.juspay.in", true),
            ("api.juspay.io", true),
            ("juspay.in", true),
            ("smartgateway.hdfcbank.com", true),
            ("api.hyperpg.in", true),
            ("sandboxes.juspay.in", true),
            ("sandbox.juspay.in", false),
            ("payments.sandbox.juspay.in", false),
            ("sandbox.juspay.io", false),
            ("api.sandbox.juspay.io", false),
            ("smartgatewayuat.hdfcbank.com", false),
            ("notjuspay.in", false),
            ("api.juspay.in.example.com", false),
            ("127.0.0.1", false),
        ] {
            let url = url_of(&format!("https://{host}/x")).unwrap();
            assert_eq!(is_production(&url), expected, "{host}");
        }
    }
}
