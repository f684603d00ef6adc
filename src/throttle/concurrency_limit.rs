//! Adaptive concurrency limit: determines the number of requests that may be in flight from latency and throughput.
//!
//! Pure: time is an argument, and nothing here waits. The more requests are in flight to a saturated server, the
//! later it responds to each, without processing more of them per second. So sample windows of responses are
//! compared. If the mean latency of a window is far above the baseline while the limit was reached, the limit is
//! lowered, but not below twice what the throughput needs at the baseline latency. If the throughput falls with the
//! limit, the server has become slower and the limit was needed: it is restored, and the new latency becomes the
//! baseline.
//!
//! # Why these constants
//!
//! A window has at least [`WINDOW_SAMPLES_MIN`] responses: their mean has a fifth of the spread of one. Latency
//! counts as grown if it is at least [`GROWN_RATIO`] times the baseline and [`GROWN_BY_S`] above it: less than that
//! does no harm, and may be due to a busy client machine rather than the server. [`LOST_RATIO`] allows for the usual
//! variation of throughput.

use std::time::Duration;

use tokio::time::Instant;

const WINDOW_SAMPLES_MIN: u32 = 25;

/// The baseline is the lowest mean of this many successive responses. A run that starts fast saturates the server before
/// its first window is complete; only the very first responses show the latency without load.
const BASELINE_SAMPLES: u32 = 10;

const WINDOW_MIN: Duration = Duration::from_millis(500);

const GROWN_RATIO: f64 = 2.0;
const GROWN_BY_S: f64 = 0.1;

/// Below this multiple of the baseline latency the limit may grow again.
const NORMAL_RATIO: f64 = 1.5;

/// A decrease is undone if less than this share of the throughput remains after it.
const LOST_RATIO: f64 = 0.9;

/// The share of the limit that remains after one decrease.
const DECREASE_FACTOR: f64 = 0.7;

const LIMIT_MIN: f64 = 4.0;

/// The limit on requests in flight.
pub(super) struct ConcurrencyLimit {
    /// The user's maximum.
    max: usize,
    limit: usize,
    /// The lowest mean latency so far, in seconds.
    baseline_s: f64,
    /// Number of responses since the baseline was last compared, and the sum of their latencies in seconds.
    recent: (u32, f64),
    window: SampleWindow,
    /// Limit and throughput before the last decrease.
    before_decrease: Option<(usize, f64)>,
}

struct SampleWindow {
    started: Instant,
    samples: u32,
    /// The sum of the latencies, in seconds.
    total_s: f64,
    peak_in_flight: usize,
}

impl SampleWindow {
    fn new(started: Instant) -> SampleWindow {
        SampleWindow { started, samples: 0, total_s: 0.0, peak_in_flight: 0 }
    }
}

impl ConcurrencyLimit {
    pub(super) fn new(max: usize, now: Instant) -> ConcurrencyLimit {
        ConcurrencyLimit {
            max,
            limit: max,
            baseline_s: f64::INFINITY,
            recent: (0, 0.0),
            window: SampleWindow::new(now),
            before_decrease: None,
        }
    }

    pub(super) fn has_room(&self, in_flight: usize) -> bool {
        in_flight < self.limit
    }

    /// Records that a request was sent, which is one of `in_flight`.
    pub(super) fn on_send(&mut self, in_flight: usize) {
        self.window.peak_in_flight = self.window.peak_in_flight.max(in_flight);
    }

    /// Records the latency of a successful response. Other responses are not measured, because a refusal may be fast
    /// and a timeout slow.
    pub(super) fn on_success(&mut self, latency: Duration, now: Instant) {
        self.recent = (self.recent.0 + 1, self.recent.1 + latency.as_secs_f64());
        if self.recent.0 == BASELINE_SAMPLES {
            self.baseline_s = self.baseline_s.min(self.recent.1 / f64::from(BASELINE_SAMPLES));
            self.recent = (0, 0.0);
        }
        self.window.samples += 1;
        self.window.total_s += latency.as_secs_f64();
        if self.window.samples as usize >= self.limit.max(WINDOW_SAMPLES_MIN as usize)
            && now - self.window.started >= WINDOW_MIN
        {
            let window = std::mem::replace(&mut self.window, SampleWindow::new(now));
            self.adjust(&window, now);
        }
    }

    fn adjust(&mut self, window: &SampleWindow, now: Instant) {
        let latency_s = window.total_s / f64::from(window.samples);
        let throughput = f64::from(window.samples) / (now - window.started).as_secs_f64();
        let reached_limit = window.peak_in_flight >= self.limit;
        match self.before_decrease.take() {
            Some((limit, before)) if reached_limit && throughput < LOST_RATIO * before => {
                self.limit = limit;
                self.baseline_s = latency_s;
            }
            _ if reached_limit
                && latency_s > (GROWN_RATIO * self.baseline_s).max(self.baseline_s + GROWN_BY_S) =>
            {
                let needed = 2.0 * throughput * self.baseline_s;
                let limit = (DECREASE_FACTOR * self.limit as f64).max(needed).max(LIMIT_MIN) as usize;
                if limit < self.limit {
                    self.before_decrease = Some((self.limit, throughput));
                    self.limit = limit;
                }
            }
            _ if reached_limit && latency_s < NORMAL_RATIO * self.baseline_s => {
                self.limit = (self.limit + self.limit.div_ceil(10)).min(self.max);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends for this many seconds to a server that takes `base` seconds for a response and processes at most
    /// `capacity` requests per second. Latency and throughput follow from the requests in flight, which are always as
    /// many as the limit allows. Returns the throughput.
    fn run(limiter: &mut ConcurrencyLimit, now: &mut Instant, seconds: f64, base: f64, capacity: f64) -> f64 {
        let end = *now + Duration::from_secs_f64(seconds);
        let (mut throughput, mut in_flight) = (0.0, 0);
        while *now < end {
            while limiter.has_room(in_flight) {
                in_flight += 1;
                limiter.on_send(in_flight);
            }
            throughput = (in_flight as f64 / base).min(capacity);
            *now += Duration::from_secs_f64(1.0 / throughput);
            let latency = Duration::from_secs_f64(in_flight as f64 / throughput);
            in_flight -= 1;
            limiter.on_success(latency, *now);
        }
        throughput
    }

    #[test]
    fn a_limit_above_the_servers_capacity_shrinks_and_loses_no_throughput() {
        let mut now = Instant::now();
        let mut limiter = ConcurrencyLimit::new(10, now);
        run(&mut limiter, &mut now, 5.0, 0.05, 200.0);
        assert_eq!(limiter.limit, 10, "saturated, but not slow");
        // The baseline was measured before the load.
        limiter = ConcurrencyLimit { max: 200, limit: 200, ..limiter };
        let throughput = run(&mut limiter, &mut now, 20.0, 0.05, 200.0);
        assert!((10..=45).contains(&limiter.limit), "{}", limiter.limit);
        assert!(throughput > 199.0, "{throughput}");
    }

    #[test]
    fn a_server_that_is_slow_without_load_keeps_its_limit() {
        let mut now = Instant::now();
        let mut limiter = ConcurrencyLimit::new(100, now);
        run(&mut limiter, &mut now, 5.0, 0.05, 1e9);
        assert_eq!(limiter.limit, 100);
        run(&mut limiter, &mut now, 60.0, 1.0, 1e9);
        assert!(limiter.limit >= 90, "{}", limiter.limit);
    }

    #[test]
    fn a_limit_recovers_with_the_server() {
        let mut now = Instant::now();
        let mut limiter = ConcurrencyLimit::new(100, now);
        run(&mut limiter, &mut now, 5.0, 0.05, 1e9);
        run(&mut limiter, &mut now, 30.0, 0.05, 100.0);
        assert!(limiter.limit < 40, "{}", limiter.limit);
        run(&mut limiter, &mut now, 30.0, 0.05, 1e9);
        assert_eq!(limiter.limit, 100);
    }
}
