//! Courtesy to other users of the same limit: the behavior of `--polite`.
//!
//! The server does not distinguish the users, so a refusal may affect any of them, and each refusal that is provoked
//! to find the limit costs the others. So a limit that was found is used to [`SHARE`] only, and a higher rate is
//! tried every [`HOLD_S`]. The service may also be short of something other than requests per second: if responses
//! take twice as long as before, fewer requests are sent until they no longer do.
//!
//! Pure: time is an argument, in seconds since the run began, and nothing here waits.

use serde::{Deserialize, Serialize};

/// The share of a found limit that is used.
const SHARE: f64 = 0.85;

/// The rate at the start, and the time in which it doubles until the first refusal, in seconds: the overshoot is
/// small while that refusal is on its way.
pub(super) const INITIAL_RATE: f64 = 10.0;
const DOUBLING_S: f64 = 2.5;

/// The share of what was accepted in the second before the first refusal that counts as the limit: the rate was still
/// growing, and a token bucket accepts a burst above it.
pub(super) const FIRST_SHARE: f64 = 0.85;

/// How long a rate is held before a higher one is tried.
pub(super) const HOLD_S: f64 = 600.0;

/// Refusals of a held rate lower the rate if they are more than this number, and more than this share.
const REFUSED_FEW: u64 = 1;
const REFUSED_SHARE: f64 = 0.0007;
const LOWERED_SHARE: f64 = 0.93;

/// Refusals within this time, in seconds, show that the limit was estimated too high, and lower the rate to this
/// share.
const SOON_S: f64 = 10.0;
const SOON_SHARE: f64 = 0.7;

/// Weight of each response in the current average, and in the long-term average: one in this many.
const PRESENT_RESPONSES: f64 = 16.0;
const USUAL_RESPONSES: f64 = 2_048.0;

/// Responses are slow from this multiple of the typical latency on, and no longer slow below this one.
const SLOW_RATIO: f64 = 2.0;
const NORMAL_RATIO: f64 = 1.3;

/// A difference below this is noise, in seconds.
const NOISE_S: f64 = 0.005;

/// The share of the rate that remains when responses are slow, applied once in this time, in seconds, and the lowest
/// share.
const SLOWED_SHARE: f64 = 0.8;
const STEP_S: f64 = 1.0;
const SLOWED_SHARE_MIN: f64 = 0.1;

/// The known latency of the service, and the bound on the rate that follows from it.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Courtesy {
    usual_s: f64,
    present_s: f64,
    responses: u64,
    bound: Option<Bound>,
    next_step_s: f64,
    /// Number of refusals of the held rate.
    refused: u64,
    /// The number of the first request sent at the held rate.
    first_number: u64,
}

/// A bound on the rate, and the rate at which responses became slow.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Bound {
    rate: f64,
    from: f64,
}

impl Courtesy {
    /// The rate to use below a limit that was found by a refusal of request `number`.
    pub(super) fn rate_for(&mut self, limit: f64, number: u64) -> f64 {
        self.count_refusals_from(number);
        SHARE * limit
    }

    /// The rate after a refusal of request `number`, which was sent at the held rate. Requests of others come in
    /// bursts, so some refusals are expected.
    pub(super) fn rate_after_refusal(&mut self, held: f64, number: u64) -> f64 {
        self.refused += 1;
        let sent = number.saturating_sub(self.first_number) as f64;
        if self.refused <= REFUSED_FEW || self.refused as f64 <= REFUSED_SHARE * sent {
            return held;
        }
        self.count_refusals_from(number);
        if sent < SOON_S * held { SOON_SHARE * held } else { LOWERED_SHARE * held }
    }

    /// Begins to hold a rate, at which request `number` is the first one.
    fn count_refusals_from(&mut self, number: u64) {
        (self.refused, self.first_number) = (0, number);
    }

    /// Records the latency of a successful response. `rate` is the number of requests sent in the last second.
    pub(super) fn on_success(&mut self, latency_s: f64, now_s: f64, rate: impl FnOnce() -> f64) {
        self.responses += 1;
        let weight = |window: f64| 1.0 / window.min(self.responses as f64);
        self.present_s += (latency_s - self.present_s) * weight(PRESENT_RESPONSES);
        // Slow responses do not change the typical latency.
        if self.bound.is_none() {
            self.usual_s += (latency_s - self.usual_s) * weight(USUAL_RESPONSES);
        }
        if now_s < self.next_step_s || (self.responses as f64) < PRESENT_RESPONSES {
            return;
        }
        let is_slow = self.present_s > SLOW_RATIO * self.usual_s + NOISE_S;
        let is_normal = self.present_s <= NORMAL_RATIO * self.usual_s + NOISE_S;
        self.bound = match self.bound {
            None if is_slow => Some(rate()).map(|from| Bound { rate: SLOWED_SHARE * from, from }),
            Some(Bound { rate, from }) if is_slow => {
                Some(Bound { rate: (SLOWED_SHARE * rate).max(SLOWED_SHARE_MIN * from), from })
            }
            Some(Bound { rate, from }) if is_normal => {
                Some(Bound { rate: rate / SLOWED_SHARE, from }).filter(|bound| bound.rate < from)
            }
            _ => return,
        };
        self.next_step_s = now_s + STEP_S;
    }

    /// The maximum rate at which responses are not slow.
    pub(super) fn bound(&self) -> Option<f64> {
        self.bound.map(|bound| bound.rate)
    }
}

/// How often the rate doubles in this time, before the first refusal; once at most, however long nothing was sent.
pub(super) fn doublings(seconds: f64) -> f64 {
    (seconds / DOUBLING_S).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends for this many seconds at this rate, or at the bound; the latency follows from the time and the rate.
    /// Returns the rate at the end of each second.
    fn rates(seconds: usize, mut latency_s: impl FnMut(f64, f64) -> f64) -> Vec<f64> {
        let mut courtesy = Courtesy::default();
        let (mut now_s, mut rates) = (0.0, Vec::new());
        while rates.len() < seconds {
            let rate = courtesy.bound().unwrap_or(100.0);
            now_s += 1.0 / rate;
            courtesy.on_success(latency_s(now_s, rate), now_s, || rate);
            if now_s >= (rates.len() + 1) as f64 {
                rates.push(rate);
            }
        }
        rates
    }

    #[test]
    fn the_rate_is_lowered_while_responses_are_slow_and_restored_after() {
        let rates = rates(60, |now_s, _| if (20.0..40.0).contains(&now_s) { 0.2 } else { 0.05 });
        assert!(rates[..20].iter().all(|rate| *rate == 100.0), "{rates:?}");
        assert!(rates[30..40].iter().all(|rate| *rate <= 20.0), "{rates:?}");
        assert_eq!(rates[59], 100.0, "{rates:?}");
    }

    #[test]
    fn a_service_that_is_slow_above_a_rate_is_used_below_it() {
        let rates = rates(120, |now_s, rate| if now_s > 20.0 && rate > 60.0 { 0.3 } else { 0.05 });
        let mean = rates[60..].iter().sum::<f64>() / 60.0;
        assert!((35.0..=75.0).contains(&mean), "{mean}: {rates:?}");
    }

    #[test]
    fn latency_that_scatters_changes_nothing() {
        let mut state = 1_u64;
        let rates = rates(300, |now_s, _| {
            state = state.wrapping_add((now_s * 1e6) as u64).wrapping_mul(6_364_136_223_846_793_005);
            0.05 + 0.05 * (state >> 40) as f64 / f64::from(1 << 24)
        });
        assert!(rates.iter().all(|rate| *rate == 100.0), "{rates:?}");
    }
}
