//! Detects throttling that does not depend on the rate.
//!
//! A server may answer "too many requests" to one request in a hundred whatever the rate is, for instance because one
//! node of many is in trouble. If that is treated as a rate limit, the rate is lowered until hardly any request is
//! refused, and so to a few requests a second.
//!
//! A real limit refuses rates above it, and hardly ever a rate that is held. So if several rates were refused while
//! they were held, each lower than the one before, the first of them is tried again, under the hypothesis that the
//! observed share of requests is refused at random. From then on, a refusal counts as one of a limit only if
//! refusals come much closer together than that share explains (CUSUM). A wrong hypothesis would let many requests
//! be refused. So no large share is accepted as a hypothesis, an unconfirmed one is dropped with the third
//! refusal, and none lasts for long.
//!
//! A server that requests a pause with each refusal is not examined: a limit that admits many requests after a
//! pause refuses held rates too.
//!
//! Pure: time is an argument, in seconds since the run began, and nothing here waits.

use serde::{Deserialize, Serialize};

/// Rates refused while held must outnumber rates refused above the held rate by at least this much.
const DECREASES_MIN: usize = 4;

/// Evidence from more cycles than this is discarded.
const CYCLES_MAX: usize = 32;

/// A larger share is not considered: a limit that fell by much refuses more until it is found again.
const SHARE_MAX: f64 = 0.15;

const HYPOTHESIS_LIFETIME_S: f64 = 300.0;

/// Each refusal adds one to the cumulative sum, and each accepted request subtracts this many times the hypothetical
/// share.
const CUSUM_DRIFT: f64 = 2.0;

/// The sum from which a refusal does not count as random. Random refusals reach it once in several hundred.
const CUSUM_THRESHOLD: f64 = 6.0;

/// The sum for an unconfirmed hypothesis.
const CUSUM_THRESHOLD_UNCONFIRMED: f64 = 2.5;

/// A hypothesis is confirmed once it would predict this many refusals.
const CONFIRMED_AFTER_EXPECTED: f64 = 3.0;

/// The evidence of one run.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct RandomThrottleDetector {
    /// The refused rates since the last conclusion.
    cycles: Vec<Cycle>,
    /// How many more rates were refused while held than above the held rate.
    decreases: usize,
    hypothesis: Option<Hypothesis>,
}

/// The requests between two refusals.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Cycle {
    /// The rate at the refusal that ended the cycle.
    pub(super) rate: f64,
    /// Whether that rate was held, as opposed to a higher one that was being tried.
    pub(super) was_held: bool,
    pub(super) requests: u64,
    /// Number of refused requests at the beginning of the cycle.
    pub(super) refused: u64,
}

/// The assumption that this share of requests is refused at any rate.
#[derive(Clone, Serialize, Deserialize)]
struct Hypothesis {
    share: f64,
    expires_s: f64,
    /// Requests accepted since.
    requests: u64,
    cusum: f64,
    is_reported: bool,
}

impl Hypothesis {
    fn is_unconfirmed(&self) -> bool {
        self.requests as f64 * self.share < CONFIRMED_AFTER_EXPECTED
    }
}

impl RandomThrottleDetector {
    pub(super) fn on_accepted(&mut self) {
        if let Some(hypothesis) = &mut self.hypothesis {
            hypothesis.requests += 1;
            hypothesis.cusum = (hypothesis.cusum - CUSUM_DRIFT * hypothesis.share).max(0.0);
        }
    }

    /// Handles a refused request. Returns whether the refusal is random under the current hypothesis.
    pub(super) fn on_refused(&mut self, now_s: f64) -> bool {
        self.hypothesis = self.hypothesis.take().filter(|hypothesis| now_s < hypothesis.expires_s);
        let Some(hypothesis) = &mut self.hypothesis else {
            return false;
        };
        hypothesis.cusum += 1.0;
        let is_unconfirmed = hypothesis.is_unconfirmed();
        if hypothesis.cusum < if is_unconfirmed { CUSUM_THRESHOLD_UNCONFIRMED } else { CUSUM_THRESHOLD } {
            return true;
        }
        hypothesis.cusum = 0.0;
        self.hypothesis = self.hypothesis.take().filter(|_| !is_unconfirmed);
        false
    }

    /// Handles the refusal of a rate. Returns the highest rate given up since, if the refusals may be random.
    pub(super) fn on_rate_refused(&mut self, cycle: Cycle, now_s: f64) -> Option<f64> {
        self.decreases = if cycle.was_held { self.decreases + 1 } else { self.decreases.saturating_sub(1) };
        if self.decreases == 0 || self.cycles.len() == CYCLES_MAX {
            self.cycles.clear();
            self.decreases = 0;
            return None;
        }
        self.cycles.push(cycle);
        if self.decreases < DECREASES_MIN {
            return None;
        }
        let share = share(&self.cycles);
        if share > SHARE_MAX {
            return None;
        }
        let held = self.cycles.iter().filter(|cycle| cycle.was_held);
        let highest = held.map(|cycle| cycle.rate).fold(cycle.rate, f64::max);
        self.cycles.clear();
        self.decreases = 0;
        let expires_s = now_s + HYPOTHESIS_LIFETIME_S;
        self.hypothesis = Some(Hypothesis { share, expires_s, requests: 0, cusum: 0.0, is_reported: false });
        Some(highest)
    }

    /// The share of requests that is refused at random, returned once, when it is confirmed.
    pub(super) fn take_confirmed_share(&mut self) -> Option<f64> {
        let hypothesis = self.hypothesis.as_mut().filter(|one| !one.is_reported && !one.is_unconfirmed())?;
        hypothesis.is_reported = true;
        Some(hypothesis.share)
    }
}

fn share(cycles: &[Cycle]) -> f64 {
    let refused: u64 = cycles.iter().map(|cycle| cycle.refused).sum();
    let requests: u64 = cycles.iter().map(|cycle| cycle.requests).sum();
    refused as f64 / requests.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cycle with a held rate at which this share of requests was refused.
    fn cycle(rate: f64, share: f64) -> Cycle {
        Cycle { rate, was_held: true, requests: (1.0 / share) as u64, refused: 1 }
    }

    fn with_hypothesis(share: f64) -> RandomThrottleDetector {
        let mut detector = RandomThrottleDetector::default();
        let rates = [100.0, 80.0, 70.0, 60.0].map(|rate| detector.on_rate_refused(cycle(rate, share), 0.0));
        assert_eq!(rates, [None, None, None, Some(100.0)]);
        detector
    }

    /// Refuses this many times, with `every` accepted requests before each. Returns which refusals were random.
    fn refuse(detector: &mut RandomThrottleDetector, every: u64, times: u32) -> Vec<bool> {
        let mut one = |_| {
            (0..every).for_each(|_| detector.on_accepted());
            detector.on_refused(1.0)
        };
        (0..times).map(&mut one).collect()
    }

    #[test]
    fn the_hypothetical_share_is_random_and_more_than_that_is_a_limit() {
        let mut detector = with_hypothesis(0.02);
        assert!(refuse(&mut detector, 49, 500).iter().all(|is_random| *is_random));
        assert_eq!(detector.take_confirmed_share(), Some(0.02));
        assert_eq!(detector.take_confirmed_share(), None);
        assert_eq!(refuse(&mut detector, 0, 8).iter().filter(|is_random| !**is_random).count(), 1);
        assert!(detector.hypothesis.is_some(), "a limit does not refute it");
    }

    #[test]
    fn an_unconfirmed_hypothesis_is_dropped_with_the_third_refusal() {
        let mut detector = with_hypothesis(0.02);
        assert_eq!(refuse(&mut detector, 2, 3), [true, true, false]);
        assert!(detector.hypothesis.is_none());
        assert_eq!(refuse(&mut detector, 49, 1), [false]);
        assert_eq!(detector.take_confirmed_share(), None);
    }

    #[test]
    fn a_hypothesis_expires() {
        let mut detector = with_hypothesis(0.02);
        assert!(detector.on_refused(HYPOTHESIS_LIFETIME_S - 1.0));
        assert!(!detector.on_refused(HYPOTHESIS_LIFETIME_S));
    }

    #[test]
    fn limits_are_not_random() {
        // The limit fell by much.
        let mut detector = RandomThrottleDetector::default();
        for rate in [1000.0, 700.0, 500.0, 350.0, 250.0, 180.0] {
            assert_eq!(detector.on_rate_refused(cycle(rate, 0.3), 0.0), None);
        }
        // Higher rates are tried now and then, and a held rate is too high now and then.
        let mut detector = RandomThrottleDetector::default();
        for number in 0..100 {
            let cycle = Cycle { was_held: number % 2 == 0, ..cycle(500.0, 0.006) };
            assert_eq!(detector.on_rate_refused(cycle, 0.0), None);
        }
    }
}
