//! Adaptive rate: finds and holds a rate limit that is not configured, from accepted and throttled requests.
//!
//! Pure: time is an argument, and nothing here waits. A run begins at the user's rate or, without one, slowly, and
//! doubles its rate once per round trip until a request is throttled (slow start). A throttled request bounds the
//! limit on both sides: the limit is not above what was accepted in the second before, and not below what was
//! accepted on average since the previous throttling. A rate between the two is chosen and held. Then the rate grows,
//! slowly at first and then faster and faster, until the next throttling.
//!
//! A throttling in the first moments of a run says little about the limit: the requests accepted until then may be
//! the whole of a limit per second, or a token bucket's burst, which is many times the bucket's rate. So the rate is
//! raised quickly a second time, more slowly than the first: in a longer time a bucket admits more, whereas a limit
//! per second admits the same. The rate at which the bucket refills follows from the two measurements
//! ([`AdaptiveRate::bucket_rate`]).
//!
//! # Why these constants
//!
//! The goals contradict each other: to find a raised limit within five seconds, a higher rate has to be tried every
//! few seconds; each attempt is refused, and at most one request in a hundred may be. So a hold lasts until its
//! accepted requests dilute the refusals to [`REFUSED_SHARE`], which is a little below that hundredth, and at
//! least [`HOLD_MIN_S`]. The growth after it takes 2 s to double the rate ([`Increase::Maintain`]), which makes 2.5 +
//! 2 s. The growth begins so slowly (one hundredth in the first half second) that an unchanged limit refuses a rate
//! that is only a few hundredths too high. If the server sends `Retry-After`, nothing may be sent for that long: at
//! one second each, a refusal every five seconds would cost a fifth of the limit. A hold then lasts until pauses
//! are [`PAUSED_SHARE`] of the time, and a raised limit is found correspondingly later, because both goals cannot be
//! met at once. The held rate is [`TARGET_UTILIZATION`] of the limit. The rest allows for requests that the network
//! delivers closer together, for late timers that are compensated ([`LATENESS_MAX_S`]), and for windows of the server
//! whose start is unknown.

#[cfg(test)]
pub(super) mod tests;

use std::{mem, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    courtesy::{self, Courtesy},
    random_throttling::{Cycle, RandomThrottleDetector},
    sliding_window::{SlidingWindowCounter, WINDOW_S},
    unavailability::{Finding, Kind, Sent, Unavailability},
};

/// The maximum pause that the server's `Retry-After` can request.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(300);

/// Requests per second at the beginning of a run without a rate: what a merchant's smallest server can bear until it
/// first throttles.
const INITIAL_RATE: f64 = 100.0;

/// At a lower rate, a recovered limit would not be found again.
const MIN_RATE: f64 = 0.1;

/// Slow start doubles the rate once in this many latencies, within these bounds in seconds. The overshoot is what is
/// sent while the first refusal is on its way: a twentieth of what a limit per second allows in one second. Only a
/// nearby server has a short round, and every server has a round of at least the lower bound.
const ROUND_LATENCIES: f64 = 20.0;
const ROUND_MIN_S: f64 = 0.005;
const ROUND_MAX_S: f64 = 0.1;

/// The share of the limit at which the rate is held.
const TARGET_UTILIZATION: f64 = 0.97;

/// The share of the mean of two close bounds at which the rate is held: growth and refusal raise that mean, so the
/// result is again [`TARGET_UTILIZATION`] of the limit.
const TARGET_OF_BOUNDS: f64 = 0.985;

/// The share of a bucket's measured rate that is held after a pause requested by the server. The bucket is full then: a
/// rate that is a hundredth too high empties it in ten seconds or more, which reveals the rate better than any
/// measurement.
const TARGET_OF_BUCKET: f64 = 0.995;

/// After a pause of this length, requested by the server, a further refusal costs more than a somewhat lower rate.
const LONG_PAUSE: Duration = Duration::from_secs(4);
const TARGET_AFTER_LONG_PAUSE: f64 = 0.9;

/// Two bounds of the limit that differ by no more than this ratio count as one.
const CONVERGED_RATIO: f64 = 1.15;

/// The minimum time for which a rate is held.
const HOLD_MIN_S: f64 = 2.5;

/// The minimum time while the bounds of the limit are far apart.
const HOLD_SEARCHING_S: f64 = 0.8;

/// The maximum hold to dilute refusals. A limit that was halved while requests were in flight refuses many.
const HOLD_MAX_FOR_REFUSALS_S: f64 = 10.0;

/// The maximum hold to dilute pauses.
const HOLD_MAX_FOR_PAUSES_S: f64 = 600.0;

/// The share of requests that may be refused in search of a higher limit.
const REFUSED_SHARE: f64 = 0.006;

/// The share of the time that may be spent in pauses requested by the server.
const PAUSED_SHARE: f64 = 0.02;

/// A limit per second refuses within this time, if at all; a rate accepted for longer is confirmed.
const CONFIRM_AFTER_S: f64 = 1.5;

/// The share of a held rate that remains after one refusal.
const BACKOFF_FACTOR: f64 = 0.96;

/// If the server's window was empty at first and is full after this time, the limit is close to the held rate.
const WINDOW_NEARLY_SAME_S: f64 = 0.9;

/// If the window is full before this time, the limit would be far below the held rate; more likely it is not a
/// window.
const WINDOW_SMALLER_S: f64 = 0.45;

/// The maximum lateness of a request that the following requests make up for (the debt of a token bucket): the
/// lateness of timers on a busy machine. It adds two hundredths to the requests of any second.
const LATENESS_MAX_S: f64 = 0.02;

/// The first pause after a refusal without `Retry-After`, doubled with each refusal at the end of a pause, and
/// the longest one. If a window is full for less than a tenth of a second, the pause ends soon after the window
/// empties.
const OWN_PAUSE_FIRST: Duration = Duration::from_millis(75);
const OWN_PAUSE_MAX: Duration = Duration::from_secs(1);

/// A first throttling before this time bounds the limit too loosely: see [`Increase::Measure`].
const MEASURE_WITHIN_S: f64 = 2.0;

/// [`Increase::Measure`] begins at this multiple of what was accepted, and doubles the rate in at least this time.
const MEASURE_FROM: f64 = 1.5;
const MEASURE_DOUBLING_MIN_S: f64 = 0.15;

/// If at most this multiple was accepted in the longer one of two times, the limit is a limit per second.
const SAME_BURST: f64 = 1.15;

/// Minimum number of accepted requests before the first refusal; among fewer, a single late one is too large a
/// share.
const MEASURE_MIN: f64 = 15.0;

/// A bucket's rate is determined if a rate that differs by this factor would have filled the bucket differently by at
/// least this share.
const BUCKET_RATE_FACTOR: f64 = 1.3;
const BUCKET_FILLED_DIFFERENTLY: f64 = 0.1;

/// Number of bisections of a rate's logarithm: enough for a precision of a thousandth.
const BISECTIONS: u32 = 20;

/// At this multiple of the held rate, the limit that was found no longer exists.
const LIMIT_GONE_RATIO: f64 = 2.0;

/// Seconds over which accepted requests are averaged; somewhat less than [`WINDOW_S`].
const AVERAGE_WINDOW_S: f64 = 8.0;

/// At least this share of the held rate is reported, however much of that average was spent in pauses or an outage.
const REPORTED_SHARE_MIN: f64 = 0.8;

/// A held rate that differs by more than this share from the last reported one is reported again.
const REPORT_CHANGE_MIN: f64 = 0.2;

/// [`Increase::Maintain`] doubles the rate in this time.
const DOUBLING_S: f64 = 2.0;

/// A quota bounds the rate only if its reset is later than this: the reset is in whole seconds, and for a shorter one
/// too much would be lost to rounding. Shorter limits are found like those without headers.
const QUOTA_RESET_MIN: Duration = Duration::from_secs(5);
const QUOTA_PAUSE_MIN: Duration = Duration::from_secs(2);

/// Two refill intervals whose lengths differ by less than this say nothing about a bucket's refill rate.
const INTERVALS_DIFFER_S: f64 = 0.5;

/// When a request was sent, and its number in the run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct RequestStamp {
    at_s: f64,
    number: u64,
}

/// What a response says about the rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RateSignal {
    /// The request was accepted, whatever the content of its response.
    Accepted,
    /// Too many requests.
    Throttled {
        /// The wait that the server requests, if it requests one.
        retry_after: Option<Duration>,
    },
    /// 503 of a proxy that did not pass the request on: either it throttles, or the service is down.
    RefusedByProxy {
        /// The wait that the server requests, if it requests one.
        retry_after: Option<Duration>,
    },
    /// 503 of the service: it throttles or is broken.
    Unavailable {
        /// The wait that the server requests, if it requests one.
        retry_after: Option<Duration>,
    },
}

impl RateSignal {
    /// The pause that the server has requested.
    pub(super) fn retry_after(self) -> Option<Duration> {
        match self {
            RateSignal::Throttled { retry_after }
            | RateSignal::RefusedByProxy { retry_after }
            | RateSignal::Unavailable { retry_after } => retry_after,
            RateSignal::Accepted => None,
        }
    }
}

/// A response as the adaptive rate sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Response {
    pub(super) signal: RateSignal,
    /// The latency, if the response was a success.
    pub(super) success: Option<Duration>,
    /// Whether the service is down, as far as is known at this response.
    pub(super) is_outage: bool,
}

/// What a response changes for all requests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RateChange {
    /// How long nothing may be sent.
    pub(super) pause: Option<Duration>,
    /// The held rate, if it is to be reported.
    pub(super) held_rate: Option<f64>,
    /// The share of requests that is refused at random, if it is to be reported.
    pub(super) random_share: Option<f64>,
}

/// What a server reports about its quota: the number of requests left until the reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemainingQuota {
    /// Number of requests left.
    pub requests: u64,
    /// Time until the reset.
    pub reset: Duration,
}

impl RemainingQuota {
    /// The rate, in requests per second, at which the quota lasts until the reset.
    pub fn per_second(self) -> f64 {
        self.requests as f64 / self.reset.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// How long nothing may be sent.
    pub(super) fn pause(self) -> Option<Duration> {
        (self.requests == 0 && self.reset >= QUOTA_PAUSE_MIN).then_some(self.reset)
    }
}

/// The adaptive rate of one run. Times are seconds since the run began, rates are requests per second.
///
/// Can be stored, so that several workers share it: see `rate_log`. Where the seconds lie on the local clock is not
/// stored.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct AdaptiveRate {
    #[serde(skip, default = "Timeline::now")]
    timeline: Timeline,
    /// Within how many seconds other workers report their requests.
    #[serde(skip)]
    reported_within_s: f64,
    /// A choice that is made again because other workers have not reported all requests yet.
    provisional: Option<Provisional>,
    /// The user's rate, which a separate limiter enforces.
    #[serde(with = "infinite_as_null")]
    max_rate: f64,
    /// The rate at which the server's quota lasts, and the time of the reset.
    quota: Option<(f64, f64)>,
    #[serde(with = "infinite_as_null")]
    rate: f64,
    phase: Phase,
    next_send_s: f64,
    /// Whether the rate has delayed a request in this round of slow start; if not, a higher rate would change
    /// nothing.
    was_limiting: bool,
    sent: u64,
    accepted: SlidingWindowCounter,
    last_throttling: Option<ThrottleEvent>,
    /// A rate that was accepted for long enough; zero if none was.
    confirmed_rate: f64,
    /// Number of successive refusals of held rates.
    consecutive_backoffs: u32,
    random: RandomThrottleDetector,
    unavailability: Unavailability,
    /// Set if others use the same limit.
    courtesy: Option<Courtesy>,
    /// The rate before 503 responses lowered it, and whether it was in slow start.
    before_503: Option<RateBefore503>,
    availability: Availability,
    /// The held rate that was last reported.
    #[serde(with = "infinite_as_null")]
    last_reported: f64,
}

/// Where the seconds of a run lie on the local clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeline {
    /// Any moment.
    pub(crate) moment: Instant,
    /// The seconds of the run at that moment.
    pub(crate) seconds: f64,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct RateBefore503 {
    #[serde(with = "infinite_as_null")]
    rate: f64,
    was_slow_start: bool,
}

/// Whether the service answers.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Availability {
    Up,
    Down,
    /// It answers again after an outage.
    UpAgain {
        since_s: f64,
    },
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Phase {
    /// Doubles the rate, from the beginning of the run to the first throttling.
    SlowStart { round_start_s: f64 },
    /// Holds the rate between two times, and then increases it.
    Hold { from_s: f64, until_s: f64 },
}

/// A group of refusals: of requests that were in flight at the first one, and of later requests until the server
/// accepts one again.
#[derive(Clone, Serialize, Deserialize)]
struct ThrottleEvent {
    /// When the first refused request was sent.
    first_sent_s: f64,
    first_number: u64,
    /// From when on requests were sent with the refusals known.
    known_s: f64,
    /// The number of the first request that was sent after the refusals were known.
    next_number: u64,
    refused: u64,
    /// Number of refusals right after a pause.
    repeats: u32,
    resume_s: f64,
    had_retry_after: bool,
    /// The refill interval before the event.
    interval: RefillInterval,
    increase: Increase,
    /// Whether the following rate was taken from a measurement: its refusal is then no sign of random throttling.
    was_measured: bool,
}

/// The choice of a rate after a refusal, until all workers have reported what they had sent before.
#[derive(Clone, Serialize, Deserialize)]
struct Provisional {
    /// The rate before the choice.
    before: Box<AdaptiveRate>,
    first: RequestStamp,
    retry_after: Option<Duration>,
    until_s: f64,
}

/// The interval from a pause to the next refusal, in which a token bucket was emptied: its time and its requests.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct RefillInterval {
    seconds: f64,
    accepted: f64,
}

impl RefillInterval {
    /// The refill rate of a bucket that was equally full before both intervals and empty after them.
    fn refill_rate(&self, other: &RefillInterval) -> Option<f64> {
        let seconds = self.seconds - other.seconds;
        (other.seconds > 0.0 && seconds.abs() >= INTERVALS_DIFFER_S)
            .then(|| (self.accepted - other.accepted) / seconds)
    }
}

/// A rate that is chosen after a refusal.
#[derive(Clone, Copy)]
struct Choice {
    rate: f64,
    /// How the rate grows after its hold.
    increase: Increase,
    /// The refill interval before the refusal; zero if none was measured.
    interval: RefillInterval,
}

impl Choice {
    /// A choice without a refill interval before it.
    fn new(rate: f64, increase: Increase) -> Choice {
        Choice { rate, increase, interval: RefillInterval::default() }
    }
}

/// How the rate grows after a hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Increase {
    /// Only the number of requests accepted at once is known: the rate grows without a hold.
    Measure { doubling_s: f64 },
    /// The limit is anywhere above.
    Search,
    /// The limit is not far above.
    Approach,
    /// The limit is known, and may have been raised since.
    Maintain,
}

impl Increase {
    /// The number of doublings after this time.
    fn doublings(self, seconds: f64) -> f64 {
        match self {
            Increase::Measure { doubling_s } => seconds / doubling_s,
            Increase::Search => seconds,
            Increase::Approach => (seconds / 6.0).powf(1.2),
            Increase::Maintain => (seconds / DOUBLING_S).powf(2.5),
        }
    }
}

impl AdaptiveRate {
    pub(super) fn new(user_rate: Option<f64>, now: Instant) -> AdaptiveRate {
        AdaptiveRate {
            timeline: Timeline { moment: now, seconds: 0.0 },
            reported_within_s: 0.0,
            provisional: None,
            max_rate: user_rate.unwrap_or(f64::INFINITY),
            quota: None,
            rate: if user_rate.is_some() { f64::INFINITY } else { INITIAL_RATE },
            phase: Phase::SlowStart { round_start_s: 0.0 },
            next_send_s: 0.0,
            was_limiting: false,
            sent: 0,
            accepted: SlidingWindowCounter::default(),
            last_throttling: None,
            confirmed_rate: 0.0,
            consecutive_backoffs: 0,
            random: RandomThrottleDetector::default(),
            unavailability: Unavailability::default(),
            courtesy: None,
            before_503: None,
            availability: Availability::Up,
            last_reported: f64::INFINITY,
        }
    }

    /// Leaves room for other users of the same limit. Must be called before the first request.
    pub(super) fn be_polite(&mut self) {
        self.courtesy = Some(Courtesy::default());
        self.rate = courtesy::INITIAL_RATE;
    }

    /// A rate with the same options, which knows nothing yet.
    pub(super) fn afresh(&self, now: Instant) -> AdaptiveRate {
        let mut rate = AdaptiveRate::new(Some(self.max_rate).filter(|rate| rate.is_finite()), now);
        if self.courtesy.is_some() {
            rate.be_polite();
        }
        rate
    }

    /// Handles the response to a request.
    pub(super) fn on_response(
        &mut self,
        stamp: RequestStamp,
        response: Response,
        now: Instant,
    ) -> RateChange {
        let pause = self.on_signal(stamp, response.signal, now);
        let held_rate = self.take_rate_to_report();
        // Only accepted requests confirm a hypothesis.
        let random_share =
            if response.signal == RateSignal::Accepted { self.random.take_confirmed_share() } else { None };
        if response.is_outage {
            self.reset_after_outage();
        }
        self.availability = match (response.is_outage, self.availability) {
            (true, _) => Availability::Down,
            (false, Availability::Down) => Availability::UpAgain { since_s: self.timeline.seconds_at(now) },
            (false, other) => other,
        };
        if let Some(latency) = response.success {
            self.on_success(latency, now);
        }
        RateChange { pause, held_rate, random_share }
    }

    /// Records the latency of a successful response.
    fn on_success(&mut self, latency: Duration, now: Instant) {
        let now_s = self.timeline.seconds_at(now);
        if let Some(courtesy) = &mut self.courtesy {
            let rate = || self.accepted.sum_between(now_s - 1.0, now_s).max(1.0);
            courtesy.on_success(latency.as_secs_f64(), now_s, rate);
        }
    }

    /// Takes a token, or returns the time of the next one.
    pub(super) fn try_acquire(&mut self, now: Instant) -> Result<(), Instant> {
        let now_s = self.timeline.seconds_at(now);
        if now_s < self.next_send_s {
            self.was_limiting = true;
            // Rounded up; otherwise a waiting request would wake less than a nanosecond too early.
            return Err(self.timeline.moment_of(self.next_send_s) + Duration::from_nanos(1));
        }
        self.skip_unused(now_s);
        self.next_send_s += 1.0 / self.rate_in_effect(now);
        Ok(())
    }

    /// The rate at which requests may be sent now, apart from the user's.
    pub(super) fn rate_in_effect(&self, now: Instant) -> f64 {
        let slowed = self.courtesy.as_ref().and_then(Courtesy::bound);
        let bounds = [self.quota_rate(now), self.unavailability.trial_rate(), slowed].into_iter().flatten();
        bounds.fold(self.rate_at(self.timeline.seconds_at(now)), f64::min).max(MIN_RATE)
    }

    /// Accepts that the tokens up to this moment are taken, and whether the rate has delayed requests.
    pub(super) fn on_tokens_taken(&mut self, until: Instant, was_limiting: bool, now: Instant) {
        self.next_send_s = self.next_send_s.max(self.timeline.seconds_at(until));
        self.was_limiting |= was_limiting;
        self.skip_unused(self.timeline.seconds_at(now));
    }

    /// Places a rate of several workers, each of which reports its requests within this time, on the local clock.
    pub(super) fn set_shared(&mut self, timeline: Timeline, reported_within: Duration) {
        (self.timeline, self.reported_within_s) = (timeline, reported_within.as_secs_f64());
    }

    /// Makes a provisional choice again: more is known of the requests before the refusal.
    pub(super) fn choose_again(&mut self, now: Instant) {
        let Some(provisional) = self.provisional.take() else { return };
        let Provisional { before, first, retry_after, until_s } = &provisional;
        let mut again = (**before).clone();
        mem::swap(&mut again.accepted, &mut self.accepted);
        let choice = again.choose_rate(*first, *retry_after);
        let Choice { rate, increase, interval } = again.polite_rate(*first, choice);
        mem::swap(&mut again.accepted, &mut self.accepted);
        if let Some(last) = &mut self.last_throttling {
            (last.interval, last.increase) = (interval, increase);
        }
        self.rate = rate.max(MIN_RATE);
        (self.confirmed_rate, self.consecutive_backoffs) = (again.confirmed_rate, again.consecutive_backoffs);
        self.courtesy = again.courtesy;
        self.hold();
        if self.timeline.seconds_at(now) < *until_s {
            self.provisional = Some(provisional);
        }
    }

    /// What a choice depends on, but for the counted requests.
    fn without_counts(&self) -> AdaptiveRate {
        AdaptiveRate {
            accepted: SlidingWindowCounter::default(),
            random: RandomThrottleDetector::default(),
            unavailability: Unavailability::default(),
            provisional: None,
            last_throttling: self.last_throttling.clone(),
            courtesy: self.courtesy.clone(),
            ..*self
        }
    }

    fn skip_unused(&mut self, now_s: f64) {
        let unused_s = now_s - self.next_send_s - LATENESS_MAX_S;
        if unused_s > 0.0 {
            self.next_send_s += unused_s;
            // Idle time does not count towards the hold.
            if let Phase::Hold { until_s, .. } = &mut self.phase {
                *until_s += unused_s;
            }
        }
    }

    /// Records what is left of the server's quota.
    pub(super) fn on_quota(&mut self, quota: RemainingQuota, now: Instant) {
        if quota.reset >= QUOTA_RESET_MIN && quota.requests > 0 {
            let until_s = self.timeline.seconds_at(now) + quota.reset.as_secs_f64();
            self.quota = Some((quota.per_second(), until_s));
        }
    }

    /// The rate at which the server's quota lasts.
    pub(super) fn quota_rate(&self, now: Instant) -> Option<f64> {
        let (rate, until_s) = self.quota?;
        (self.timeline.seconds_at(now) < until_s).then_some(rate)
    }

    /// The number of the next request.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    pub(super) fn on_send(&mut self, now: Instant) -> RequestStamp {
        let stamp = RequestStamp { at_s: self.timeline.seconds_at(now), number: self.sent };
        self.sent += 1;
        self.accepted.add(stamp.at_s, 1);
        stamp
    }

    /// Returns how long nothing may be sent.
    fn on_signal(&mut self, stamp: RequestStamp, signal: RateSignal, now: Instant) -> Option<Duration> {
        let is_limit = self.is_limit_of_503(stamp, signal, self.timeline.seconds_at(now));
        let retry_after = signal.retry_after().map(|pause| pause.min(PAUSE_MAX));
        match signal {
            RateSignal::Accepted => {
                if self.unavailability.are_over() {
                    self.before_503 = None;
                }
                self.random.on_accepted();
                self.grow_in_slow_start(stamp, self.timeline.seconds_at(now));
                None
            }
            RateSignal::Throttled { .. } => self.on_throttled(stamp, retry_after, now),
            RateSignal::RefusedByProxy { .. } | RateSignal::Unavailable { .. } if is_limit => {
                self.on_503(stamp, retry_after, now)
            }
            RateSignal::RefusedByProxy { .. } | RateSignal::Unavailable { .. } => retry_after,
        }
    }

    fn is_limit_of_503(&mut self, stamp: RequestStamp, signal: RateSignal, now_s: f64) -> bool {
        let kind = match signal {
            RateSignal::Accepted | RateSignal::Throttled { .. } => Kind::Other,
            RateSignal::RefusedByProxy { .. } => Kind::RefusedByProxy,
            RateSignal::Unavailable { .. } => Kind::Unavailable,
        };
        let sent = Sent { number: stamp.number, next_number: self.sent, now_s };
        let rate = || self.accepted.sum_between(now_s - 1.0, now_s).max(1.0);
        let finding = self.unavailability.on_response(kind, sent, rate);
        if finding == Some(Finding::Unrelated) {
            self.restore_rate_before_503();
        }
        finding == Some(Finding::Limit)
    }

    /// Handles a 503: throttling, unless it turns out to be an outage.
    fn on_503(
        &mut self,
        stamp: RequestStamp,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Option<Duration> {
        let was_slow_start = matches!(self.phase, Phase::SlowStart { .. });
        let before = RateBefore503 { rate: self.rate, was_slow_start };
        let pause = self.on_throttled(stamp, retry_after, now);
        if self.rate < before.rate {
            self.before_503.get_or_insert(before);
        }
        pause
    }

    /// Handles that the 503 responses belong to an outage: they say nothing about the rate, so the rate is restored.
    fn reset_after_outage(&mut self) {
        self.unavailability = Unavailability::default();
        self.restore_rate_before_503();
    }

    fn restore_rate_before_503(&mut self) {
        if let Some(before) = self.before_503.take() {
            self.rate = before.rate;
            if before.was_slow_start {
                self.phase = Phase::SlowStart { round_start_s: self.next_send_s };
                self.last_throttling = None;
            }
        }
    }

    /// The rate held below a limit that was found; `None` if the limit seems to have gone. A token bucket may be
    /// emptied faster than it refills for a while, so the average of accepted requests bounds the reported rate.
    pub(super) fn held_rate(&self) -> Option<f64> {
        self.last_throttling.as_ref()?;
        let is_held =
            self.rate < self.max_rate && self.rate_at(self.next_send_s) < LIMIT_GONE_RATIO * self.rate;
        let from_s = self.next_send_s - AVERAGE_WINDOW_S;
        let average = self.accepted.sum_between(from_s, self.next_send_s) / AVERAGE_WINDOW_S;
        is_held.then(|| average.clamp(REPORTED_SHARE_MIN * self.rate, self.rate))
    }

    /// The held rate, once the limit is known well, and again after each significant change.
    fn take_rate_to_report(&mut self) -> Option<f64> {
        let held_rate = self.is_found().then(|| self.held_rate()).flatten()?;
        let is_new = (held_rate / self.last_reported - 1.0).abs() > REPORT_CHANGE_MIN;
        is_new.then(|| {
            self.last_reported = held_rate;
            held_rate
        })
    }

    fn grow_in_slow_start(&mut self, stamp: RequestStamp, now_s: f64) {
        if let Phase::SlowStart { round_start_s } = &mut self.phase
            && self.was_limiting
            && stamp.at_s >= *round_start_s
            && now_s - *round_start_s
                >= (ROUND_LATENCIES * (now_s - stamp.at_s)).clamp(ROUND_MIN_S, ROUND_MAX_S)
        {
            let doublings = match &self.courtesy {
                Some(_) => courtesy::doublings(now_s - *round_start_s),
                None => 1.0,
            };
            *round_start_s = now_s;
            self.was_limiting = false;
            self.rate *= doublings.exp2();
        }
    }

    fn on_throttled(
        &mut self,
        stamp: RequestStamp,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Option<Duration> {
        self.accepted.add(stamp.at_s, -1);
        let now_s = self.timeline.seconds_at(now);
        // With others on the same limit, refusals are caused by them, not by chance.
        if retry_after.is_none() && self.courtesy.is_none() && self.random.on_refused(now_s) {
            return None;
        }
        let mut pause = retry_after;
        match &mut self.last_throttling {
            Some(last) if stamp.at_s < last.known_s => last.refused += 1,
            Some(last)
                if stamp.number.saturating_sub(last.next_number) as f64 <= (self.rate / 100.0).max(1.0)
                    || retry_after.is_none() && stamp.at_s - last.first_sent_s < 1.0 =>
            {
                last.refused += 1;
                last.known_s = now_s.max(self.next_send_s);
                last.next_number = self.sent;
                last.repeats += 1;
                let doubled = OWN_PAUSE_FIRST * (1 << last.repeats.min(8));
                pause = retry_after.or(Some(doubled.min(OWN_PAUSE_MAX)));
            }
            last => {
                // A short pause leaves no room for others on the limit.
                let is_long = last.is_none() || self.courtesy.is_some();
                pause = retry_after.or(Some(if is_long { OWN_PAUSE_MAX } else { OWN_PAUSE_FIRST }));
                self.begin_event(stamp, retry_after, now_s);
            }
        }
        if let Some(last) = &mut self.last_throttling {
            let resume_s = now_s + pause.unwrap_or_default().as_secs_f64();
            last.had_retry_after |= retry_after.is_some();
            last.resume_s = last.resume_s.max(resume_s);
            self.next_send_s = self.next_send_s.max(last.resume_s);
        }
        self.hold();
        pause
    }

    /// Holds the rate from the end of the last pause on.
    fn hold(&mut self) {
        let Some(last) = &self.last_throttling else { return };
        let hold_s = last.hold_s(self.rate);
        let is_found = self.courtesy.is_some() && last.increase == Increase::Maintain;
        let hold_s = if is_found { hold_s.max(courtesy::HOLD_S) } else { hold_s };
        self.phase = Phase::Hold { from_s: last.resume_s, until_s: last.resume_s + hold_s };
    }

    /// The rate to restore if the last refusals were random.
    fn rate_given_up_at_random(&mut self, stamp: RequestStamp, now_s: f64) -> Option<f64> {
        let last = self.last_throttling.as_ref().filter(|_| self.courtesy.is_none())?;
        let cycle = Cycle {
            rate: self.rate_at(stamp.at_s),
            was_held: matches!(self.phase, Phase::Hold { until_s, .. } if stamp.at_s <= until_s)
                && !last.was_measured,
            requests: stamp.number.saturating_sub(last.first_number),
            refused: last.refused,
        };
        self.random.on_rate_refused(cycle, now_s)
    }

    /// Chooses a new rate between the lower and the upper bound of the limit.
    fn choose_rate(&mut self, refused: RequestStamp, retry_after: Option<Duration>) -> Choice {
        let upper = self.upper_bound(refused.at_s);
        let Phase::Hold { from_s, until_s } = self.phase else {
            return match &self.courtesy {
                Some(_) => Choice::new(courtesy::FIRST_SHARE * upper, Increase::Maintain),
                None => self.choose_after_slow_start(refused.at_s, retry_after, upper),
            };
        };
        match &self.last_throttling {
            Some(first) if self.is_measuring() => {
                self.choose_after_measuring(first, refused, retry_after, upper)
            }
            _ => self.choose_after_hold(from_s, until_s, refused.at_s, retry_after, upper),
        }
    }

    /// Chooses a new rate after a hold between two times, during which or after which a request was refused.
    fn choose_after_hold(
        &mut self,
        from_s: f64,
        until_s: f64,
        at_s: f64,
        retry_after: Option<Duration>,
        upper: f64,
    ) -> Choice {
        let previous = self.last_throttling.as_ref().filter(|last| at_s - last.first_sent_s < WINDOW_S);
        let cycle_rate = self.cycle_rate(at_s);
        let accepted = self.accepted.sum_between(from_s, at_s);
        let interval = RefillInterval { seconds: at_s - from_s, accepted };
        let was_searching =
            self.last_throttling.as_ref().is_some_and(|last| last.increase == Increase::Search);
        let (rate, increase) = if at_s > until_s && (was_searching || interval.seconds >= CONFIRM_AFTER_S) {
            // A higher rate was tried and refused.
            let is_confirmed = interval.seconds >= CONFIRM_AFTER_S;
            self.confirmed_rate = if is_confirmed { self.rate_at(at_s - 1.0) } else { 0.0 };
            self.consecutive_backoffs = 0;
            let known = self.confirmed_rate.max(cycle_rate.unwrap_or(0.0));
            // A pause may be longer than the window; then only the rate that was just held is known.
            let lower = if known > 0.0 { known } else { self.rate }.min(upper);
            let is_converged = upper < lower * CONVERGED_RATIO;
            let increase = if is_converged { Increase::Maintain } else { Increase::Approach };
            (TARGET_OF_BOUNDS * lower.powf(0.1) * upper.powf(0.9), increase)
        } else if retry_after.is_none() {
            // Of a rate that is not known to be too high, little is given up: if it is, that shows within a second.
            let lower = cycle_rate.map_or(self.rate, |rate| rate.clamp(self.rate / 4.0, self.rate));
            let is_converged = self.rate < lower * CONVERGED_RATIO;
            let increase = if is_converged { Increase::Maintain } else { Increase::Approach };
            (TARGET_OF_BOUNDS * (lower * self.rate).sqrt(), increase)
        } else if interval.seconds >= WINDOW_NEARLY_SAME_S && self.consecutive_backoffs < 2 {
            self.consecutive_backoffs += 1;
            let is_confirmed = self.confirmed_rate > 0.0 && interval.seconds < CONFIRM_AFTER_S;
            let known = if is_confirmed { self.confirmed_rate } else { self.rate };
            let refill = previous.and_then(|previous| interval.refill_rate(&previous.interval));
            let refill =
                refill.map_or(self.rate, |rate| rate.max(BACKOFF_FACTOR * BACKOFF_FACTOR * self.rate));
            (known.min(BACKOFF_FACTOR * self.rate).min(refill), Increase::Maintain)
        } else {
            let upper = if interval.seconds < WINDOW_SMALLER_S { self.rate } else { upper.min(self.rate) };
            let lower = cycle_rate.unwrap_or(0.0).clamp(upper / 8.0, upper);
            (TARGET_UTILIZATION * lower.powf(0.3) * upper.powf(0.7), Increase::Approach)
        };
        if retry_after >= Some(LONG_PAUSE) {
            // After such a pause, a bucket of one second's requests was full, and now it is empty.
            let was_held =
                at_s <= until_s && (CONFIRM_AFTER_S..=AVERAGE_WINDOW_S).contains(&interval.seconds);
            let refill = if was_held { interval.accepted / (interval.seconds + 1.0) } else { rate };
            let rate = TARGET_AFTER_LONG_PAUSE * rate.min(refill);
            return Choice { rate, increase: Increase::Maintain, interval };
        }
        Choice { rate, increase, interval }
    }

    /// The rate that was accepted on average since the previous throttling, or since the end of a later outage; `None` if
    /// both are longer ago than requests are counted.
    fn cycle_rate(&self, at_s: f64) -> Option<f64> {
        let throttled_s = self.last_throttling.as_ref().map(|last| last.first_sent_s);
        let up_again_s = match self.availability {
            Availability::UpAgain { since_s } => Some(since_s.min(at_s)),
            Availability::Up | Availability::Down => None,
        };
        let from_s = throttled_s.into_iter().chain(up_again_s).fold(f64::NEG_INFINITY, f64::max);
        let seconds = at_s - from_s;
        (seconds < WINDOW_S).then(|| self.accepted.sum_between(from_s, at_s) / seconds.max(f64::MIN_POSITIVE))
    }

    /// An upper bound of the limit, from the refusal of a request that was sent at this time.
    fn upper_bound(&self, at_s: f64) -> f64 {
        let second = |before_s: f64| self.accepted.sum_between(at_s - before_s - 1.0, at_s - before_s);
        // The two seconds before that count half, so that a server that refuses at random, or because of others, does
        // not stop the run.
        let accepted = second(0.0).max(second(1.0).max(second(2.0)) / 2.0).max(1.0);
        let was_down = match self.availability {
            Availability::Up => false,
            Availability::Down => true,
            Availability::UpAgain { since_s } => at_s - since_s < 1.0,
        };
        // In the part of the second that belongs to an outage, nothing can have been accepted.
        let is_held = matches!(self.phase, Phase::Hold { .. });
        if was_down && is_held { accepted.max(self.rate) } else { accepted }
    }

    fn choose_after_slow_start(&self, at_s: f64, retry_after: Option<Duration>, upper: f64) -> Choice {
        let known = TARGET_UTILIZATION * upper;
        // In a long pause a bucket of any size fills up, and measuring it would take too many requests.
        if upper < MEASURE_MIN || at_s >= MEASURE_WITHIN_S || retry_after >= Some(LONG_PAUSE) {
            return Choice::new(known, Increase::Search);
        }
        let doubling_s = at_s.max(MEASURE_DOUBLING_MIN_S);
        let rate = (MEASURE_FROM * upper).min(self.rate / 2.0).max(known);
        Choice::new(rate, Increase::Measure { doubling_s })
    }

    fn choose_after_measuring(
        &self,
        first: &ThrottleEvent,
        second: RequestStamp,
        retry_after: Option<Duration>,
        upper: f64,
    ) -> Choice {
        let known = TARGET_UTILIZATION * upper;
        if upper < SAME_BURST * self.accepted.sum_between(0.0, first.resume_s) {
            return Choice::new(known, Increase::Maintain);
        }
        let target = if retry_after.is_some() { TARGET_OF_BUCKET } else { TARGET_OF_BOUNDS };
        match self.bucket_rate(first, second) {
            Some(rate) if rate > upper => Choice::new(target * rate, Increase::Maintain),
            _ => Choice::new(known, Increase::Search),
        }
    }

    /// The refill rate of a bucket that was equally full at the first refusal and before this one. Of the requests
    /// that were sent before the first refusal was known, all that were accepted count, also those sent after the refused one:
    /// at the high rate of slow start a server handles requests in another order, and the bucket stays full. Before this
    /// refusal, only requests sent before the refused one count, although later ones may be in the same bin: their replies
    /// are not known yet.
    fn bucket_rate(&self, first: &ThrottleEvent, second: RequestStamp) -> Option<f64> {
        // The numbers of the requests of several workers are not in the order in which they were sent.
        let is_in_order = self.reported_within_s == 0.0;
        let at_most = |requests: u64| if is_in_order { requests as f64 } else { f64::INFINITY };
        let until_first_at_most = at_most(first.next_number.saturating_sub(first.refused));
        let before_second_at_most = at_most(second.number.saturating_sub(first.next_number));
        let second_to_first = |rate: f64| {
            let times_s = 0.0..first.known_s;
            let until_first = self.accepted.bucket_level(rate, times_s, 0.0, until_first_at_most);
            let left = until_first.last - rate * (first.resume_s - first.known_s);
            let times_s = first.resume_s..second.at_s;
            let before_second =
                self.accepted.bucket_level(rate, times_s, left.max(0.0), before_second_at_most);
            before_second.highest / until_first.highest.max(1.0)
        };
        let (mut low, mut high) = (1.0, self.rate_at(second.at_s));
        for _ in 0..BISECTIONS {
            let rate = f64::sqrt(low * high);
            if second_to_first(rate) > 1.0 { low = rate } else { high = rate }
        }
        let is_known = second_to_first(low / BUCKET_RATE_FACTOR) > 1.0 + BUCKET_FILLED_DIFFERENTLY
            && second_to_first(low * BUCKET_RATE_FACTOR) < 1.0 - BUCKET_FILLED_DIFFERENTLY;
        is_known.then_some(low)
    }

    /// The rate with others on the same limit: a share of the limit is held for a long time, despite occasional
    /// refusals.
    fn polite_rate(&mut self, first: RequestStamp, choice: Choice) -> Choice {
        let was_held = matches!(self.phase, Phase::Hold { until_s, .. } if first.at_s <= until_s);
        let (before, is_found) = (self.rate, self.is_found());
        match &mut self.courtesy {
            Some(courtesy) if was_held && is_found => {
                let rate = courtesy.rate_after_refusal(before, first.number);
                Choice { rate, increase: Increase::Maintain, ..choice }
            }
            Some(courtesy) if choice.increase == Increase::Maintain => {
                Choice { rate: courtesy.rate_for(choice.rate, first.number), ..choice }
            }
            _ => choice,
        }
    }

    fn is_measuring(&self) -> bool {
        self.last_throttling.as_ref().is_some_and(|last| matches!(last.increase, Increase::Measure { .. }))
    }

    /// Whether a limit is being searched for, so that each of the last requests counts.
    pub(super) fn is_searching(&self) -> bool {
        self.rate.is_finite() && !self.is_found()
    }

    /// Whether the rate is held below a limit that is known well.
    fn is_found(&self) -> bool {
        self.last_throttling.as_ref().is_some_and(|last| last.increase == Increase::Maintain)
    }

    /// Begins a new group of refusals, and chooses the rate that follows it.
    fn begin_event(&mut self, first: RequestStamp, retry_after: Option<Duration>, now_s: f64) {
        let restored = if retry_after.is_none() { self.rate_given_up_at_random(first, now_s) } else { None };
        let is_provisional = restored.is_none() && self.reported_within_s > 0.0;
        self.provisional = is_provisional.then(|| Provisional {
            before: Box::new(self.without_counts()),
            first,
            retry_after,
            until_s: now_s + self.reported_within_s,
        });
        let choice = match restored {
            Some(rate) => Choice::new(rate, Increase::Search),
            None => self.choose_rate(first, retry_after),
        };
        let Choice { rate, increase, interval } = self.polite_rate(first, choice);
        let was_measured = self.is_measuring();
        self.rate = rate.max(MIN_RATE);
        self.last_throttling = Some(ThrottleEvent {
            first_sent_s: first.at_s,
            first_number: first.number,
            known_s: now_s.max(self.next_send_s),
            next_number: self.sent,
            refused: 1,
            repeats: 0,
            resume_s: 0.0,
            had_retry_after: false,
            interval,
            increase,
            was_measured,
        });
    }

    /// The rate in effect at this time, which may be in the past.
    fn rate_at(&self, at_s: f64) -> f64 {
        match self.phase {
            Phase::Hold { until_s, .. } if at_s > until_s => {
                let increase = self.last_throttling.as_ref().map_or(Increase::Maintain, |last| last.increase);
                self.rate * increase.doublings(at_s - until_s).min(10.0).exp2()
            }
            _ => self.rate,
        }
    }
}

impl Timeline {
    /// A timeline that begins now.
    fn now() -> Timeline {
        Timeline { moment: Instant::now(), seconds: 0.0 }
    }

    /// The seconds of the run at this moment; zero before the run.
    fn seconds_at(self, moment: Instant) -> f64 {
        let after = moment.saturating_duration_since(self.moment).as_secs_f64();
        let before = self.moment.saturating_duration_since(moment).as_secs_f64();
        (self.seconds + after - before).max(0.0)
    }

    /// The moment of these seconds of the run, if it is not before the one that is known.
    fn moment_of(self, seconds: f64) -> Instant {
        self.moment + Duration::from_secs_f64((seconds - self.seconds).max(0.0))
    }
}

/// JSON has no infinite number.
mod infinite_as_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        Some(*number).filter(|number| number.is_finite()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::INFINITY))
    }
}

impl ThrottleEvent {
    /// How long to hold the rate chosen after the event.
    fn hold_s(&self, rate: f64) -> f64 {
        match self.increase {
            Increase::Measure { .. } => return 0.0,
            Increase::Search => return HOLD_SEARCHING_S / 2.0,
            Increase::Approach => return HOLD_SEARCHING_S,
            Increase::Maintain => {}
        }
        let for_refusals_s = (self.refused as f64 / (REFUSED_SHARE * rate)).min(HOLD_MAX_FOR_REFUSALS_S);
        let paused_s = if self.had_retry_after { self.resume_s - self.first_sent_s } else { 0.0 };
        HOLD_MIN_S.max(for_refusals_s).max((paused_s / PAUSED_SHARE).min(HOLD_MAX_FOR_PAUSES_S))
    }
}
