//! Determines whether 503 responses depend on the rate.
//!
//! A 503 may come from a rate limit, or from a service that fails for other reasons. If it is treated as a limit,
//! random failures lower the rate without end, because they occur at any rate. So once a quarter of the responses are
//! 503, their share is measured at the current rate, and again at a quarter of it. A limit then admits four times the
//! share, or nearly all requests; random failures keep their share, and are then ignored for the rate until their
//! share grows or some time has passed. If nothing at all is admitted, nothing can be compared: this is treated as a
//! limit, and the circuit breaker decides whether it is an outage. A proxy's 503 is treated as a limit at once,
//! because proxies limit this way; it turns out not to be one if many 503 remain after the rate was lowered.
//!
//! Pure: time is an argument, in seconds since the run began, and nothing here waits.

use serde::{Deserialize, Serialize};

/// Weight of each response in the moving average of 503 responses: one in this many.
const AVERAGE_WINDOW: f64 = 16.0;

/// From this share on, 503 responses are examined; below it, single requests fail for their own reasons.
const EXAMINED_SHARE: f64 = 0.25;

/// Below this share, the 503 responses are over.
const OVER_SHARE: f64 = 0.02;

/// Up to this share, measured 503 responses are few.
const FEW_SHARE: f64 = 0.2;

/// Number of responses from which a share is measured.
const MEASURED_RESPONSES: u32 = 48;

/// Number of responses after which a measurement without an accepted one ends.
const NONE_ACCEPTED_RESPONSES: u32 = 16;

/// The share of the rate at which the second share is measured.
const TRIAL_RATE_SHARE: f64 = 0.25;

/// The ratio by which a limit must accept a larger share at a quarter of the rate: the geometric mean of one and
/// four.
const LIMIT_ACCEPTED_RATIO: f64 = 2.0;

/// At most this share of 503 at a quarter of the rate means that there is a limit between the two rates.
const LIMIT_TRIAL_SHARE: f64 = 0.1;

/// After this time and this many responses at lower rates, a limit is examined again, because the first shares are
/// small samples.
const LIMIT_S: f64 = 10.0;
const LIMIT_RESPONSES: u32 = 16;

/// How long 503 responses are ignored for the rate, and by how much their share may grow until then.
const UNRELATED_S: f64 = 60.0;
const UNRELATED_GROWTH: f64 = 0.25;

/// The state of the examination of 503 responses.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Unavailability {
    /// The share of 503 among recent responses.
    average: f64,
    stage: Stage,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
enum Stage {
    /// There are few 503 responses.
    #[default]
    Few,
    /// Counts at the current rate.
    AtFullRate(Counts),
    /// Counts at a lower rate, starting from a certain request.
    Trial { accepted_share: f64, rate: f64, first_number: u64, counts: Counts },
    /// The 503 responses depend on the rate.
    Limit { until_s: f64, counts: Counts, was_mixed: bool },
    /// The 503 responses do not depend on the rate, and have this share.
    Unrelated { until_s: f64, share: f64 },
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Counts {
    responses: u32,
    accepted: u32,
}

impl Counts {
    fn with(self, is_503: bool) -> Counts {
        Counts { responses: self.responses + 1, accepted: self.accepted + u32::from(!is_503) }
    }

    fn is_complete(self) -> bool {
        self.responses >= MEASURED_RESPONSES
            || self.accepted == 0 && self.responses >= NONE_ACCEPTED_RESPONSES
    }

    fn accepted_share(self) -> f64 {
        f64::from(self.accepted) / f64::from(self.responses.max(1))
    }
}

/// The kind of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Other,
    /// 503 of a proxy.
    RefusedByProxy,
    /// 503 of the service.
    Unavailable,
}

/// The state of the run's requests at a response.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    /// The number of the request.
    pub(super) number: u64,
    /// The number of the next request.
    pub(super) next_number: u64,
    /// Seconds since the run began.
    pub(super) now_s: f64,
}

/// What a response shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The response is a 503 that depends on the rate.
    Limit,
    /// The 503 responses up to this one did not depend on the rate.
    Unrelated,
}

impl Unavailability {
    /// Handles a response. `rate` is the number of requests sent in the last second.
    pub(super) fn on_response(
        &mut self,
        kind: Kind,
        sent: Sent,
        rate: impl FnOnce() -> f64,
    ) -> Option<Finding> {
        let is_503 = kind != Kind::Other;
        self.average += (f64::from(u8::from(is_503)) - self.average) / AVERAGE_WINDOW;
        let was_unrelated = matches!(self.stage, Stage::Unrelated { .. });
        self.stage = match self.stage {
            Stage::Few if kind == Kind::RefusedByProxy => Stage::limit(sent.now_s),
            _ => self.next_stage(is_503, sent, rate),
        };
        match self.stage {
            Stage::Limit { .. } if is_503 => Some(Finding::Limit),
            Stage::Unrelated { .. } if !was_unrelated => Some(Finding::Unrelated),
            _ => None,
        }
    }

    fn next_stage(&self, is_503: bool, sent: Sent, rate: impl FnOnce() -> f64) -> Stage {
        match self.stage {
            // During a trial there are few because of the lower rate.
            Stage::Trial { accepted_share, rate, first_number, counts } if sent.number >= first_number => {
                match counts.with(is_503) {
                    counts if counts.is_complete() => Stage::after_trial(accepted_share, counts, sent.now_s),
                    counts => Stage::Trial { accepted_share, rate, first_number, counts },
                }
            }
            Stage::Trial { .. } => self.stage,
            _ if self.are_over() => Stage::Few,
            Stage::Few if self.average > EXAMINED_SHARE => Stage::AtFullRate(Counts::default()),
            Stage::Few => Stage::Few,
            Stage::AtFullRate(counts) => match counts.with(is_503) {
                counts if counts.is_complete() => Stage::after_full_rate(counts, sent, rate),
                counts => Stage::AtFullRate(counts),
            },
            Stage::Limit { until_s, counts, was_mixed } => match counts.with(is_503) {
                counts if counts.responses < LIMIT_RESPONSES => Stage::Limit { until_s, counts, was_mixed },
                counts => Stage::after_limit(until_s, counts.accepted_share(), was_mixed, sent.now_s),
            },
            Stage::Unrelated { until_s, share } => {
                let have_grown = self.average > share + UNRELATED_GROWTH;
                if have_grown || sent.now_s >= until_s {
                    Stage::AtFullRate(Counts::default())
                } else {
                    self.stage
                }
            }
        }
    }

    /// The rate of the measurement in progress, if there is one.
    pub(super) fn trial_rate(&self) -> Option<f64> {
        match self.stage {
            Stage::Trial { rate, .. } => Some(rate),
            _ => None,
        }
    }

    /// Whether there are hardly any 503 responses.
    pub(super) fn are_over(&self) -> bool {
        self.average < OVER_SHARE
    }
}

impl Stage {
    fn after_full_rate(counts: Counts, sent: Sent, rate: impl FnOnce() -> f64) -> Stage {
        match counts.accepted_share() {
            0.0 => Stage::limit(sent.now_s),
            share if share > 1.0 - FEW_SHARE => Stage::Few,
            accepted_share => Stage::Trial {
                accepted_share,
                rate: TRIAL_RATE_SHARE * rate(),
                first_number: sent.next_number,
                counts: Counts::default(),
            },
        }
    }

    fn after_trial(accepted_at_full_rate: f64, counts: Counts, now_s: f64) -> Stage {
        let accepted = counts.accepted_share();
        let is_limit = accepted == 0.0
            || accepted >= 1.0 - LIMIT_TRIAL_SHARE
            || accepted >= LIMIT_ACCEPTED_RATIO * accepted_at_full_rate;
        if is_limit {
            return Stage::limit(now_s);
        }
        Stage::Unrelated { until_s: now_s + UNRELATED_S, share: 1.0 - accepted_at_full_rate.min(accepted) }
    }

    /// The stage after a limit was examined again. The rate has been lowered repeatedly since: a limit now admits
    /// nearly everything, or is closed. Two measurements are needed, because one is also mixed if a closed limit has
    /// just opened.
    fn after_limit(until_s: f64, accepted_share: f64, was_mixed: bool, now_s: f64) -> Stage {
        let is_mixed = accepted_share > 0.0 && accepted_share < 1.0 - FEW_SHARE;
        if is_mixed && was_mixed && now_s >= until_s {
            return Stage::Unrelated { until_s: now_s + UNRELATED_S, share: 1.0 - accepted_share };
        }
        Stage::Limit { until_s, counts: Counts::default(), was_mixed: is_mixed }
    }

    fn limit(now_s: f64) -> Stage {
        Stage::Limit { until_s: now_s + LIMIT_S, counts: Counts::default(), was_mixed: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends this many requests per second for this many seconds, or fewer if a trial requires it; a 503 that depends
    /// on the rate halves the rate. Returns the requests accepted per second in the second half.
    fn run(kind: Kind, rate: f64, seconds: f64, mut accepts: impl FnMut(f64, f64) -> bool) -> f64 {
        let mut unavailability = Unavailability::default();
        let (mut now_s, mut held, mut accepted) = (0.0, rate, 0);
        for number in 0.. {
            let sent_rate = unavailability.trial_rate().unwrap_or(held).min(held);
            now_s += 1.0 / sent_rate;
            if now_s > seconds {
                break;
            }
            let is_accepted = accepts(now_s, sent_rate);
            accepted += u32::from(is_accepted && now_s > seconds / 2.0);
            let sent = Sent { number, next_number: number + 1, now_s };
            let kind = if is_accepted { Kind::Other } else { kind };
            match unavailability.on_response(kind, sent, || sent_rate) {
                Some(Finding::Limit) => held = (held / 2.0).max(1.0),
                Some(Finding::Unrelated) => held = rate,
                None => {}
            }
        }
        f64::from(accepted) / (seconds / 2.0)
    }

    const KINDS: [Kind; 2] = [Kind::RefusedByProxy, Kind::Unavailable];

    /// A number between zero and one.
    fn dice(mut state: u64) -> impl FnMut() -> f64 {
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / f64::from(1 << 24)
        }
    }

    #[test]
    fn random_failures_do_not_lower_the_rate() {
        for (kind, share) in KINDS.into_iter().flat_map(|kind| [0.3, 0.5, 0.7].map(|share| (kind, share))) {
            for seed in 1..=20 {
                let mut random = dice(seed);
                let accepted = run(kind, 100.0, 400.0, |_, _| random() >= share);
                assert!(accepted >= 0.4 * (1.0 - share) * 100.0, "{kind:?} {share} {seed}: {accepted}");
            }
        }
    }

    #[test]
    fn a_limit_lowers_the_rate() {
        for (kind, limit) in KINDS.into_iter().flat_map(|kind| [5.0, 20.0, 60.0].map(|limit| (kind, limit))) {
            for seed in 1..=20 {
                let mut random = dice(seed);
                let mut refused = 0;
                run(kind, 100.0, 60.0, |now_s, rate| {
                    let is_accepted = random() < limit / rate;
                    refused += u32::from(!is_accepted && now_s > 30.0);
                    is_accepted
                });
                assert!(refused <= 30, "{kind:?} {limit} {seed}: {refused} refused in thirty seconds");
            }
        }
    }

    #[test]
    fn failures_that_become_more_are_examined_again() {
        let mut random = dice(3);
        let accepted = run(Kind::Unavailable, 100.0, 120.0, |now_s, rate| {
            if now_s < 60.0 { random() >= 0.4 } else { random() < 10.0 / rate }
        });
        assert!(accepted <= 10.0, "{accepted}");
    }
}
