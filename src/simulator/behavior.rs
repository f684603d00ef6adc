//! The options of the simulator, and the fate of a request that follows from them.
//!
//! Faults and latency are a pure function of `(seed, reference, attempt, kind)`. No generator is shared between requests, so
//! a failing seed can be replayed however requests interleave. Attempts are counted per reference, and only for requests
//! that passed the rate limit and the key check: a 429 depends on timing and must not shift later draws.

use std::{net::SocketAddr, str::FromStr, time::Duration};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{limiter::Limiter, profile::Profile, record::Endpoint};

/// The options of a simulator; the default is a well-behaved API on a free loopback port.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address to listen on; port 0 chooses a free port.
    pub listen: SocketAddr,
    /// Determines every id, token, fault and latency.
    pub seed: u64,
    /// Minimum and maximum latency of a response.
    pub latency: (Duration, Duration),
    /// Maximum requests per second; above it, 429 with `Retry-After`.
    pub rate_limit: Option<u32>,
    /// Faults with their probabilities; if several are drawn for a request, the first one applies.
    pub faults: Vec<(Fault, f64)>,
    /// The only accepted key; `None` accepts any non-empty key that does not begin with `wrong`.
    pub api_key: Option<String>,
    /// The only accepted merchant id; `None` accepts any.
    pub merchant_id: Option<String>,
    /// The variant of the API.
    pub profile: Profile,
    /// Whether the journal keeps an entry per request.
    pub record: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            seed: 1,
            latency: (Duration::ZERO, Duration::ZERO),
            rate_limit: None,
            faults: Vec::new(),
            api_key: None,
            merchant_id: None,
            profile: Profile::default(),
            record: true,
        }
    }
}

/// The options that may change while the simulator runs, and those that only tests use.
#[derive(Clone, Debug)]
pub struct Behavior {
    /// As in [`Options`].
    pub latency: (Duration, Duration),
    /// As in [`Options`].
    pub rate_limit: Option<u32>,
    /// How the rate limit counts.
    pub limiter: Limiter,
    /// The response to a request above the rate limit.
    pub limit_response: LimitResponse,
    /// Requests per second that the server can process, one after the other; further requests wait.
    pub capacity: Option<u32>,
    /// The `Retry-After` of a request above the rate limit and of a 429, verbatim (seconds or a date); if empty, the
    /// header is omitted.
    pub retry_after: String,
    /// As in [`Options`].
    pub faults: Vec<(Fault, f64)>,
    /// As in [`Options`].
    pub api_key: Option<String>,
    /// As in [`Options`].
    pub merchant_id: Option<String>,
    /// As in [`Options`]. Customers that exist keep their ids.
    pub profile: Profile,
    /// Refuses every key with 401, as after a revocation.
    pub key_revoked: bool,
    /// Refuses every request with 403, as from an address that is not on the allow-list.
    pub forbidden: bool,
    /// The current outage.
    pub outage: Option<Outage>,
    /// Redirects every request (302) to this address.
    pub redirect_to: Option<String>,
    /// As in [`Options`].
    pub record: bool,
}

impl Behavior {
    pub(super) fn new(options: &Options) -> Behavior {
        Behavior {
            latency: options.latency,
            rate_limit: options.rate_limit,
            limiter: Limiter::Sliding,
            limit_response: LimitResponse::Api429,
            capacity: None,
            retry_after: "1".to_owned(),
            faults: options.faults.clone(),
            api_key: options.api_key.clone(),
            merchant_id: options.merchant_id.clone(),
            profile: options.profile,
            key_revoked: false,
            forbidden: false,
            outage: None,
            redirect_to: None,
            record: options.record,
        }
    }
}

/// Who refuses a request above the rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitResponse {
    /// The API, with a JSON 429.
    Api429,
    /// The API, with a JSON 503.
    Api503,
    /// A proxy, with an HTML 503.
    Proxy503,
}

/// A state in which every request fails, or every write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// The process is down: open connections are cut, new ones refused. No other process can take the port.
    Refuse,
    /// Connections open, and are reset as soon as a request has arrived.
    Reset,
    /// Every request gets a JSON 500.
    Http500,
    /// Every request gets a proxy's HTML 503.
    Http503,
    /// Requests are read, but get no response.
    Hang,
    /// Only Get works: every Create and Update gets a JSON 500.
    Writes500,
    /// Only Get works: a Create or Update gets no response.
    WritesHang,
}

impl Outage {
    /// Whether Get still works.
    pub(super) fn spares_get(self) -> bool {
        matches!(self, Outage::Writes500 | Outage::WritesHang)
    }
}

/// A fault that can be injected into a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A JSON 500; half of the draws perform the call, half do not.
    Http500,
    /// A proxy's HTML 503; the call is not performed.
    Http503,
    /// A 429 independent of the rate; the call is not performed.
    Http429,
    /// The connection is reset; the call is not performed.
    ResetBefore,
    /// The connection is reset after the call was performed, so only the response is lost.
    ResetAfter,
    /// No response; half of the draws perform the call, half do not.
    Timeout,
    /// The call is performed; then a 200 whose body cannot be parsed.
    Garbage,
    /// The call is performed; then a 200 whose body is far too large.
    Flood,
    /// An error under a 200; the call is not performed.
    OkError,
    /// The call is performed; then a response about another reference.
    WrongReference,
    /// A 400 `DUPLICATE_REQUEST`, although the call is performed. Create and Update only.
    DuplicateRequest,
    /// Refused with a 400. Drawn by reference alone, so such a row never succeeds. Create and Update only.
    Reject,
    /// A JSON 500; the call is not performed. Drawn by reference alone, so such a row never succeeds.
    Always500,
    /// As `Always500`, for Create and Update only: Get works.
    WriteAlways500,
    /// A Get does not find an existing customer, because of replication lag. Get only.
    NotFound,
    // The draws depend on the order of the variants, and tests depend on the draws, so new kinds are added at the end.
    /// A JSON 503; the call is not performed.
    Api503,
    /// A JSON 429; the call is not performed. Drawn by reference alone, so such a row never succeeds.
    Always429,
}

/// Every fault with its name on the command line.
const KINDS: [(&str, Fault); 17] = [
    ("http500", Fault::Http500),
    ("http503", Fault::Http503),
    ("api503", Fault::Api503),
    ("http429", Fault::Http429),
    ("reset-before", Fault::ResetBefore),
    ("reset-after", Fault::ResetAfter),
    ("timeout", Fault::Timeout),
    ("garbage", Fault::Garbage),
    ("flood", Fault::Flood),
    ("ok-error", Fault::OkError),
    ("wrong-reference", Fault::WrongReference),
    ("duplicate-request", Fault::DuplicateRequest),
    ("reject", Fault::Reject),
    ("always500", Fault::Always500),
    ("always429", Fault::Always429),
    ("write-always500", Fault::WriteAlways500),
    ("not-found", Fault::NotFound),
];

impl Fault {
    /// Every fault.
    pub fn all() -> impl Iterator<Item = Fault> {
        KINDS.iter().map(|(_, fault)| *fault)
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(_, fault)| *fault == self).map_or("", |(name, _)| name)
    }

    /// Whether the fault is drawn by reference alone: it strikes every attempt for a reference, or none.
    fn by_reference_alone(self) -> bool {
        matches!(self, Fault::Reject | Fault::Always500 | Fault::Always429 | Fault::WriteAlways500)
    }

    /// Whether the API performs the call before it responds with this fault; `coin` decides if both are possible.
    pub(super) fn does_the_work(self, coin: u64) -> bool {
        use Fault::{DuplicateRequest, Flood, Garbage, Http500, ResetAfter, Timeout, WrongReference};
        match self {
            ResetAfter | Garbage | Flood | WrongReference | DuplicateRequest => true,
            Http500 | Timeout => coin & 1 == 1,
            _ => false,
        }
    }

    fn applies_to(self, endpoint: Endpoint) -> bool {
        match self {
            Fault::Reject | Fault::DuplicateRequest | Fault::WriteAlways500 => {
                matches!(endpoint, Endpoint::Create | Endpoint::Update)
            }
            Fault::NotFound => endpoint == Endpoint::Get,
            _ => endpoint != Endpoint::Other,
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Fault, String> {
        KINDS.iter().find(|(known, _)| *known == name).map(|(_, fault)| *fault).ok_or_else(|| {
            let known = KINDS.map(|(name, _)| name).join(", ");
            format!("unknown fault {name:?}, known are {known}")
        })
    }
}

/// Parses `KIND=PROBABILITY`, as in `http500=0.1`.
///
/// # Errors
/// If there is no such fault, or the number is not from 0 to 1.
pub fn parse_fault(text: &str) -> Result<(Fault, f64), String> {
    let Some((kind, probability)) = text.split_once('=') else {
        let known = KINDS.map(|(name, _)| name).join(", ");
        return Err(format!("give KIND=PROBABILITY, such as http500=0.05; the kinds are {known}"));
    };
    let fault = kind.trim().parse::<Fault>()?;
    match probability.trim().parse::<f64>() {
        Ok(probability) if (0.0..=1.0).contains(&probability) => Ok((fault, probability)),
        _ => Err(format!("{probability:?} is not a probability from 0 to 1 (fault {kind})")),
    }
}

/// The fate of one request: the pure function of seed, reference and attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Fate {
    pub(super) latency: Duration,
    /// Whether the call is performed before the latency or after it: if the client times out, the customer may or may
    /// not have been created.
    pub(super) works_first: bool,
    pub(super) fault: Option<Fault>,
    /// A random number, for faults that may or may not perform the call, and for the choice of a text.
    pub(super) coin: u64,
}

/// Draw numbers besides those of the faults, which are below 256.
const LATENCY: u64 = 256;
const WORKS_FIRST: u64 = 257;
const COIN: u64 = 258;

impl Fate {
    pub(super) fn of(
        behavior: &Behavior,
        seed: u64,
        endpoint: Endpoint,
        reference: &str,
        attempt: u32,
    ) -> Fate {
        let base = xxh3_64_with_seed(reference.as_bytes(), seed);
        let draw = |attempt: u32, number: u64| mix(base ^ mix(u64::from(attempt) << 16 | number));
        let hits = |fault: Fault, probability: f64| {
            let attempt = if fault.by_reference_alone() { 0 } else { attempt };
            fault.applies_to(endpoint) && fraction(draw(attempt, fault as u64)) < probability
        };
        // A request without a reference has no attempt number to draw from.
        let faults = if reference.is_empty() { &[][..] } else { &behavior.faults };
        let fault = faults.iter().find(|(fault, p)| hits(*fault, *p)).map(|(fault, _)| *fault);
        let coin_attempt = if fault.is_some_and(Fault::by_reference_alone) { 0 } else { attempt };
        let (least, most) = behavior.latency;
        let spread = most.saturating_sub(least);
        Fate {
            latency: least + spread.mul_f64(fraction(draw(attempt, LATENCY))),
            works_first: draw(attempt, WORKS_FIRST) & 1 == 1,
            fault,
            coin: draw(coin_attempt, COIN),
        }
    }
}

/// The finalizer of `SplitMix64`: neighboring inputs give uncorrelated outputs.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A draw as a number in 0..1; 53 bits are what an `f64` can hold.
fn fraction(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_back_by_its_name() {
        for fault in Fault::all() {
            assert_eq!(parse_fault(&format!("{}=0.25", fault.name())), Ok((fault, 0.25)));
        }
    }

    #[test]
    fn a_bad_fault_is_named_on_one_line() {
        for text in ["http500", "http501=0.1", "garbage=2", "garbage=-1", "garbage=x", "garbage=NaN", "=", ""]
        {
            let message = parse_fault(text).unwrap_err();
            assert!(!message.contains('\n'), "{message}");
        }
        assert!(parse_fault("http501=0.1").unwrap_err().contains("reset-before"));
        assert!(parse_fault("http501").unwrap_err().contains("reset-before"));
    }

    #[test]
    fn faults_come_as_often_as_asked_and_differ_between_seeds() {
        let behavior = Behavior::new(&Options { faults: vec![(Fault::Garbage, 0.25)], ..Options::default() });
        let hits = |seed: u64| -> Vec<bool> {
            (0..10_000)
                .map(|n| {
                    Fate::of(&behavior, seed, Endpoint::Create, &format!("row-{}", n / 4), n % 4 + 1)
                        .fault
                        .is_some()
                })
                .collect()
        };
        let one = hits(1);
        // Five standard deviations: 5 * sqrt(10000 * 0.25 * 0.75) = 217.
        assert!(one.iter().filter(|hit| **hit).count().abs_diff(2500) < 217);
        assert_eq!(one, hits(1));
        assert_ne!(one, hits(2));
    }

    #[test]
    fn probabilities_zero_and_one_are_exact() {
        let fate = |p: f64, n: u32| {
            let behavior =
                Behavior::new(&Options { faults: vec![(Fault::Http500, p)], ..Options::default() });
            Fate::of(&behavior, 7, Endpoint::Get, "reference", n).fault
        };
        for n in 0..1000 {
            assert_eq!(fate(0.0, n), None);
            assert_eq!(fate(1.0, n), Some(Fault::Http500));
        }
    }

    #[test]
    fn latency_stays_in_its_range_even_when_the_range_is_reversed() {
        let ms = Duration::from_millis;
        for (latency, bounds) in [((ms(5), ms(9)), ms(5)..=ms(9)), ((ms(9), ms(5)), ms(9)..=ms(9))] {
            let behavior = Behavior::new(&Options { latency, ..Options::default() });
            for attempt in 1..100 {
                let fate = Fate::of(&behavior, 1, Endpoint::Get, "reference", attempt);
                assert!(bounds.contains(&fate.latency));
            }
        }
    }

    #[test]
    fn a_refused_reference_is_refused_at_every_attempt() {
        let behavior = Behavior::new(&Options { faults: vec![(Fault::Reject, 0.5)], ..Options::default() });
        let of = |reference: &str, attempt| Fate::of(&behavior, 1, Endpoint::Create, reference, attempt);
        for n in 0..50 {
            let reference = format!("reference-{n}");
            let first = of(&reference, 1);
            for attempt in 2..20 {
                assert_eq!(of(&reference, attempt).fault, first.fault);
                assert!(first.fault.is_none() || of(&reference, attempt).coin == first.coin);
            }
        }
    }
}
