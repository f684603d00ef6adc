//! The samples of a run over time, each with the latencies of one interval.
//!
//! Pure. `run/timeline.rs` decides when a sample is taken, and how many a run has.

use std::time::Duration;

use super::model::RequestCounts;
use crate::latency::Latencies;

/// The events of one interval.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Start of the interval, since the run began.
    pub from: Duration,
    /// End of the interval, since the run began.
    pub to: Duration,
    /// Rows settled as created, existing, unchanged, changed or updated.
    pub succeeded: u64,
    /// Rows settled as duplicate, invalid or rejected, which have to be corrected.
    pub faulty: u64,
    /// Rows settled as failed, which may succeed later.
    pub failed: u64,
    /// The requests of the interval.
    pub request_counts: RequestCounts,
    /// The maximum number of requests in flight that was observed.
    pub in_flight: u64,
    /// The rate held at the end of the interval, if the throttle has found a limit.
    pub held_rate: Option<f64>,
    /// The latencies of requests that ended in the interval.
    pub latencies: Latencies,
}

impl Sample {
    /// Length in seconds; never zero, so that it can be a divisor.
    pub fn seconds(&self) -> f64 {
        (self.to.saturating_sub(self.from)).as_secs_f64().max(0.001)
    }

    /// Number of rows settled.
    pub fn rows(&self) -> u64 {
        self.succeeded + self.faulty + self.failed
    }

    /// Whether nothing happened in the interval.
    pub(crate) fn is_idle(&self) -> bool {
        self.rows() == 0 && self.request_counts == RequestCounts::default()
    }

    /// Adds the next sample.
    pub(crate) fn join(&mut self, next: &Sample) {
        self.to = next.to;
        self.succeeded += next.succeeded;
        self.faulty += next.faulty;
        self.failed += next.failed;
        self.request_counts.requests += next.request_counts.requests;
        self.request_counts.retries += next.request_counts.retries;
        self.request_counts.throttled += next.request_counts.throttled;
        self.in_flight = self.in_flight.max(next.in_flight);
        self.held_rate = next.held_rate;
        self.latencies.add(&next.latencies);
    }
}

/// The samples of a run from those of its workers, each in order: the longest series, to which the others are added.
#[cfg(feature = "postgres")]
pub(super) fn merged(mut series: Vec<Vec<Sample>>) -> Vec<Sample> {
    series.sort_by_key(|samples| std::cmp::Reverse(samples.last().map(|last| last.to)));
    let mut series = series.into_iter();
    let mut run = series.next().unwrap_or_default();
    for sample in series.flatten() {
        let middle = (sample.from + sample.to) / 2;
        let at = run.partition_point(|of_run| of_run.to <= middle).min(run.len().saturating_sub(1));
        if let Some(of_run) = run.get_mut(at) {
            let (to, held, in_flight) = (of_run.to, of_run.held_rate, of_run.in_flight);
            of_run.join(&sample);
            of_run.to = to;
            of_run.held_rate = held.or(sample.held_rate);
            of_run.in_flight = in_flight + sample.in_flight;
        }
    }
    run
}

/// The minimum time over which a rate counts as sustained: within a shorter window, a limit per second may admit more
/// than its rate.
const SUSTAINED_FOR: Duration = Duration::from_secs(10);

/// The maximum share of throttled requests at a sustained rate.
const THROTTLED_SHARE_MAX: f64 = 0.01;

/// The share of a sustained rate that a later run can hold for longer: for a while, a token bucket admits somewhat more
/// than it is refilled with.
const LASTING_SHARE: f64 = 0.99;

/// The rate of accepted requests, per second, that a later run can hold: [`LASTING_SHARE`] of the best rate that the run
/// has sustained below a limit that it has found. If no rate was held for [`SUSTAINED_FOR`], the rate held at the end.
/// None if the run has found no limit.
///
/// Only the second half of the run counts (of a short run, its last [`SUSTAINED_FOR`]), because a limit may change
/// and the last one matters.
pub(crate) fn sustained_rate(samples: &[Sample]) -> Option<f64> {
    // If a run ends while slow requests are in flight, nothing is sent in its last seconds.
    let end = samples.iter().rfind(|sample| sample.request_counts.requests > 0)?.to;
    let since = (end / 2).min(end.saturating_sub(SUSTAINED_FOR));
    let recent: Vec<&Sample> =
        samples.iter().filter(|sample| sample.to > since && sample.to <= end).collect();
    let mut best: Option<f64> = None;
    let (mut first, mut requests, mut throttled) = (0, 0, 0);
    for last in &recent {
        requests += last.request_counts.requests;
        throttled += last.request_counts.throttled;
        // The shortest window that ends here and is long enough.
        while let [oldest, next, ..] = recent.get(first..).unwrap_or_default()
            && last.to.saturating_sub(next.from) >= SUSTAINED_FOR
        {
            requests -= oldest.request_counts.requests;
            throttled -= oldest.request_counts.throttled;
            first += 1;
        }
        let length = recent.get(first).map_or(Duration::ZERO, |oldest| last.to.saturating_sub(oldest.from));
        let is_sustained = throttled as f64 <= THROTTLED_SHARE_MAX * requests as f64;
        if length >= SUSTAINED_FOR && is_sustained && last.held_rate.is_some() {
            let rate = requests.saturating_sub(throttled) as f64 / length.as_secs_f64();
            best = Some(best.map_or(rate, |best| best.max(rate)));
        }
    }
    best.map(|rate| rounded_down(LASTING_SHARE * rate))
        .filter(|rate| *rate > 0.0)
        .or_else(|| samples.last()?.held_rate)
}

/// Rounds down, in steps that suit the size of the rate.
fn rounded_down(rate: f64) -> f64 {
    let steps = match rate {
        10.0.. => 1.0,
        1.0.. => 10.0,
        _ => 1000.0,
    };
    (rate * steps).floor() / steps
}

/// Joins neighboring samples until there are at most `most`.
pub(crate) fn condensed(samples: &[Sample], most: usize) -> Vec<Sample> {
    let joined = |group: &[Sample]| {
        let (first, rest) = group.split_first()?;
        let mut joined = first.clone();
        rest.iter().for_each(|next| joined.join(next));
        Some(joined)
    };
    samples.chunks(samples.len().div_ceil(most.max(1)).max(1)).filter_map(joined).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples of one second each, with this number of requests, of throttled requests, and held rate.
    fn samples(seconds: impl IntoIterator<Item = (u64, u64, Option<f64>)>) -> Vec<Sample> {
        let each = seconds.into_iter().zip(0_u64..);
        let sample = |((requests, throttled, held_rate), at): ((u64, u64, Option<f64>), u64)| Sample {
            from: Duration::from_secs(at),
            to: Duration::from_secs(at + 1),
            request_counts: RequestCounts { requests, throttled, ..RequestCounts::default() },
            held_rate,
            ..Sample::default()
        };
        each.map(sample).collect()
    }

    fn repeated(
        times: usize,
        second: (u64, u64, Option<f64>),
    ) -> impl Iterator<Item = (u64, u64, Option<f64>)> {
        std::iter::repeat_n(second, times)
    }

    #[test]
    fn the_best_rate_of_ten_seconds_counts_and_not_the_last() {
        let held = (1461, 0, Some(1461.0));
        let backed_off = (1122, 3, Some(1122.0));
        let run = || repeated(60, held).chain(repeated(9, backed_off));
        assert_eq!(sustained_rate(&samples(run())), Some(1446.0));
        let searching = repeated(30, (2000, 400, Some(1500.0)));
        assert_eq!(sustained_rate(&samples(searching.chain(run()))), Some(1446.0), "much was refused");
        let drained = repeated(20, held).chain(repeated(9, (0, 0, Some(1461.0))));
        assert_eq!(sustained_rate(&samples(drained)), Some(1446.0), "the end of slow requests");
        let short = repeated(6, (90, 9, Some(71.0)));
        assert_eq!(sustained_rate(&samples(short)), Some(71.0), "nothing was sustained for ten seconds");
    }

    #[test]
    fn a_limit_that_was_lowered_is_not_exceeded() {
        let lowered = repeated(40, (1000, 0, Some(1000.0))).chain(repeated(40, (485, 1, Some(485.0))));
        assert_eq!(sustained_rate(&samples(lowered)), Some(479.0));
    }

    #[test]
    fn no_limit_gives_no_rate() {
        assert_eq!(sustained_rate(&samples(repeated(60, (50, 0, None)))), None);
        assert_eq!(sustained_rate(&[]), None);
        assert_eq!(sustained_rate(&samples(repeated(60, (0, 0, Some(40.0))))), None, "nothing was sent");
    }

    #[test]
    fn low_rates_keep_their_decimals() {
        assert_eq!([1461.9, 4.87, 0.48571].map(rounded_down), [1461.0, 4.8, 0.485]);
    }
}
