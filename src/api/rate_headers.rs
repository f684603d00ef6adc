//! Parses the headers in which a server reports how many requests are left: → [`RemainingQuota`].
//!
//! There is no standard. Supported are `RateLimit`, and `RateLimit-Remaining` with `RateLimit-Reset`, of the IETF
//! drafts (draft-ietf-httpapi-ratelimit-headers), and the older `X-RateLimit-…` and `X-Rate-Limit-…` of gateways. The
//! reset is a number of seconds from now; in the older headers it may also be a time in seconds or milliseconds since
//! 1970. A header that cannot be parsed counts as absent. Pure.

use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;

use super::response::ArrivalTime;
use crate::throttle::RemainingQuota;

/// The beginnings of all names below.
const PREFIXES: [&str; 2] = ["ratelimit", "x-rate"];

const PAIRS: [[&str; 2]; 3] = [
    ["ratelimit-remaining", "ratelimit-reset"],
    ["x-ratelimit-remaining", "x-ratelimit-reset"],
    ["x-rate-limit-remaining", "x-rate-limit-reset"],
];

/// A reset of at least this many seconds is a time since 1970, not a number of seconds from now.
const EPOCH_MIN: f64 = 1e9;
const EPOCH_MS_MIN: f64 = 1e12;

/// The tightest quota in the headers of a response.
pub(super) fn remaining_quota(headers: &HeaderMap, arrival: ArrivalTime) -> Option<RemainingQuota> {
    // Most servers send no such header, and looking up each name takes longer than reading all names once.
    if !headers.keys().any(|name| PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))) {
        return None;
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let structured = headers
        .get_all("ratelimit")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(of_structured_field);
    let pairs = PAIRS.into_iter().filter_map(|[remaining, reset]| {
        let remaining = number(text(remaining)?)?;
        quota(remaining, seconds_until(number(text(reset)?)?, arrival.by_server()))
    });
    structured.chain(pairs).min_by(|a, b| a.per_second().total_cmp(&b.per_second()))
}

/// `"default";r=50;t=30`, or several of these separated by commas, or `limit=100, remaining=50, reset=30`.
fn of_structured_field(value: &str) -> Vec<RemainingQuota> {
    let parameter = |text: &str, names: [&str; 2]| {
        text.split([';', ',']).find_map(|part| {
            let (name, value) = part.split_once('=')?;
            names.contains(&name.trim()).then(|| number(value)).flatten()
        })
    };
    let read = |text: &str| quota(parameter(text, ["r", "remaining"])?, parameter(text, ["t", "reset"])?);
    if value.contains("remaining=") { vec![value] } else { value.split(',').collect() }
        .into_iter()
        .filter_map(read)
        .collect()
}

fn quota(requests: f64, seconds: f64) -> Option<RemainingQuota> {
    let reset = Duration::try_from_secs_f64(seconds).ok()?;
    Some(RemainingQuota { requests: requests as u64, reset })
}

/// The first number of a list such as `50, 50;w=60`; negative numbers become zero.
fn number(text: &str) -> Option<f64> {
    let number = text.split([',', ';']).next()?.trim();
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_number { number.parse().ok() } else { None }
}

fn seconds_until(reset: f64, now: SystemTime) -> f64 {
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    if reset >= EPOCH_MS_MIN {
        (reset / 1000.0 - since_1970).max(0.0)
    } else if reset >= EPOCH_MIN {
        (reset - since_1970).max(0.0)
    } else {
        reset
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderName;

    use super::*;

    #[test]
    fn every_spelling_is_read_and_the_tightest_counts() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let read = |headers: &[(&'static str, &'static str)]| {
            let headers =
                headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
            let quota = remaining_quota(&HeaderMap::from_iter(headers), ArrivalTime::new(now, None));
            quota.map(|quota| (quota.requests, quota.reset.as_secs()))
        };
        for (headers, expected) in [
            (&[("ratelimit", "\"default\";r=50;t=30")][..], Some((50, 30))),
            (&[("ratelimit", "\"minute\";r=50;t=30, \"day\";r=70;t=3600")], Some((70, 3600))),
            (&[("ratelimit", "limit=100, remaining=50, reset=30")], Some((50, 30))),
            (&[("ratelimit-remaining", "5"), ("ratelimit-reset", "60")], Some((5, 60))),
            (&[("x-ratelimit-remaining", "7, 7;w=60"), ("x-ratelimit-reset", "12")], Some((7, 12))),
            (&[("x-rate-limit-remaining", "0"), ("x-rate-limit-reset", "1700000009")], Some((0, 9))),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1700000009000")], Some((0, 9))),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1600000000")], Some((0, 0))),
            (&[("x-ratelimit-remaining", "-1"), ("x-ratelimit-reset", "9")], None),
            (&[("x-ratelimit-remaining", "9")], None),
            (&[("ratelimit", "soon")], None),
            (&[("ratelimit-remaining", ""), ("ratelimit-reset", "9")], None),
        ] {
            assert_eq!(read(headers), expected, "{headers:?}");
        }
    }
}
