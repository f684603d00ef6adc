//! The user's rate: a fixed limit, enforced by governor whatever the adaptive rate has found.
//!
//! In no window of one second are more requests sent than rate and burst allow, and on average nearly as many as the
//! rate allows, although timers are late ([`CATCH_UP_SHARE`]).

use std::{num::NonZeroU32, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock};
use tokio::time::{Instant, sleep_until};

/// The share of the rate that is given up to compensate for late timers.
///
/// A timer is late by about a millisecond. With burst 1 that time would be lost: at 5,000 requests a second, most of
/// the rate. So the limiter refills more slowly by this share, and may instead save this share of a second's tokens,
/// or one token if rounding leaves room for it. In total, no window of one second contains more than rate + burst,
/// and the mean stays above 0.99 of the rate.
pub(super) const CATCH_UP_SHARE: f64 = 0.008;

/// The share of the saved tokens that one sleep waits for, if at least two are saved. Each sleep costs a timer, a
/// wake-up and two system calls, which at 500 requests a second were a quarter of the CPU time. The other half
/// remains for late timers.
const BATCH_SHARE: f64 = 0.5;

/// The queue was idle if there was no request for this long: no timer is that late.
const IDLE_MIN: Duration = Duration::from_millis(100);

/// The user's rate limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Requests a second; above zero.
    pub per_second: f64,
    /// Requests that may be sent at once after idle time; at least one.
    pub burst: NonZeroU32,
}

impl Rate {
    /// The time between two requests: a little more than the rate says, see [`CATCH_UP_SHARE`].
    pub(crate) fn interval(self) -> Duration {
        Duration::from_secs_f64(1.0 / (self.per_second * (1.0 - CATCH_UP_SHARE)))
    }
}

/// The tokens of the user's rate.
pub(super) struct UserRate {
    limiter: DefaultDirectRateLimiter,
    /// How much longer a wait for a token takes than one token needs; see [`BATCH_SHARE`].
    batch_wait: Duration,
    /// Number of tokens that the limiter saves for late timers, in addition to the user's burst.
    saved_for_lateness: Option<NonZeroU32>,
    /// When the last token was taken.
    last_token: Option<Instant>,
}

impl UserRate {
    pub(super) fn new(rate: Rate) -> UserRate {
        UserRate {
            limiter: RateLimiter::direct(quota(rate)),
            batch_wait: batch_wait(rate),
            saved_for_lateness: NonZeroU32::new(saved(rate)),
            last_token: None,
        }
    }

    /// Waits for the next token. Sleeps on the runtime's own timer: governor's uses a thread, which would be woken for
    /// each request.
    pub(super) async fn wait(&mut self) {
        // After idle time no timer was late: the tokens saved meanwhile would be sent at once, in addition to the
        // burst.
        if let Some(saved) = self.saved_for_lateness
            && self.last_token.is_none_or(|last| last.elapsed() >= IDLE_MIN + self.batch_wait)
        {
            // Fails if there are fewer tokens; then there is nothing to take away.
            let _ = self.limiter.check_n(saved);
        }
        while let Err(early) = self.limiter.check() {
            let wait = early.wait_time_from(self.limiter.clock().now());
            sleep_until(Instant::now() + wait + self.batch_wait).await;
        }
        self.last_token = Some(Instant::now());
    }
}

/// The time in which the tokens arrive that one sleep waits for, in addition to the first.
fn batch_wait(rate: Rate) -> Duration {
    let others = (rate.per_second * CATCH_UP_SHARE * BATCH_SHARE).floor() - 1.0;
    Duration::from_secs_f64(others.max(0.0) / rate.per_second)
}

/// The number of tokens saved for late timers; see [`CATCH_UP_SHARE`].
fn saved(rate: Rate) -> u32 {
    let saved = (rate.per_second * CATCH_UP_SHARE).floor();
    // At 50 a second a window contains 49 of the slower tokens, so that one more makes no more than 50.
    let slower = rate.per_second * (1.0 - CATCH_UP_SHARE);
    if saved < 1.0 && slower.floor() + 1.0 <= rate.per_second { 1 } else { saved as u32 }
}

/// The limiter's quota: see [`CATCH_UP_SHARE`].
fn quota(rate: Rate) -> Quota {
    let slower = rate.per_second * (1.0 - CATCH_UP_SHARE);
    let saved = saved(rate);
    let per_second = if saved > 0 { slower } else { rate.per_second };
    let burst = rate.burst.saturating_add(saved);
    // Rounded up: a shorter period would be a higher rate. A period of zero is invalid.
    let period = Duration::from_nanos((1e9 / per_second).ceil().max(1.0) as u64);
    Quota::with_period(period).map_or(Quota::per_second(NonZeroU32::MAX), |quota| quota.allow_burst(burst))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: f64) -> Rate {
        Rate { per_second, burst: NonZeroU32::MIN }
    }

    #[test]
    fn no_second_holds_more_than_rate_and_burst() {
        for per_second in [0.5, 1.0, 1.5, 7.0, 10.0, 50.0, 300.0, 5_000.0, 20_000.0] {
            let quota = quota(rate(per_second));
            let refill = 1.0 / quota.replenish_interval().as_secs_f64();
            // A window that begins with a full bucket, which refills in whole tokens.
            let most = refill.floor() + f64::from(quota.burst_size().get());
            assert!(most <= per_second + 1.0 + 1e-3, "{per_second}: {most}");
            assert!(refill >= 0.99 * per_second, "{per_second}: {refill}");
        }
    }
}
