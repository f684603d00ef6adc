//! Counts requests, by call and status, and their latencies.
//!
//! Every request is counted here, so the counters are atomics: no lock, no hashing, no allocation. Counters are read
//! without a lock, so a snapshot may include a request in one counter and not yet in another; nothing is lost.

use std::{
    ops::RangeInclusive,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use histogram::{AtomicHistogram, SparseHistogram};

use crate::latency::{BUCKETS, Latencies};

/// A call of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `POST /customers`.
    Create,
    /// `GET /customers/{reference}`.
    Get,
    /// `POST /customers/{customer_id}`.
    Update,
}

/// All calls.
pub const CALLS: [Call; 3] = [Call::Create, Call::Get, Call::Update];

impl Call {
    /// The name in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Call::Create => "create",
            Call::Get => "get",
            Call::Update => "update",
        }
    }
}

/// Upper bounds of the latency metric: powers of two of a microsecond, from one millisecond to above the default
/// timeout of 30 s. Only a server on the same machine responds in less than a millisecond. Each bound is also the
/// bound of a bucket, so the metric is exact.
const BOUNDS_LOG2_MICROS: RangeInclusive<u32> = 10..=25;

/// Statuses have three digits; index 0 is for requests without a response.
const STATUSES: usize = 1000;

/// The counters of one run.
#[derive(Debug)]
pub struct ApiMetrics {
    started: AtomicU64,
    ended: [Counts; CALLS.len()],
}

#[derive(Debug)]
struct Counts {
    by_status: Vec<AtomicU64>,
    by_latency: AtomicHistogram,
    nanoseconds: AtomicU64,
}

/// The latencies of one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency {
    /// Upper bounds in seconds, the last one infinite, each with the number of latencies between the previous bound
    /// and this one.
    pub buckets: Vec<(f64, u64)>,
    /// The sum of all latencies.
    pub seconds: f64,
}

impl Default for ApiMetrics {
    fn default() -> ApiMetrics {
        let counts = || Counts {
            by_status: (0..STATUSES).map(|_| AtomicU64::new(0)).collect(),
            by_latency: AtomicHistogram::with_config(&BUCKETS),
            nanoseconds: AtomicU64::new(0),
        };
        ApiMetrics { started: AtomicU64::new(0), ended: std::array::from_fn(|_| counts()) }
    }
}

impl ApiMetrics {
    pub(super) fn count_start(&self) {
        self.started.fetch_add(1, Relaxed);
    }

    /// Counts a request that has ended. A request that was not sent has no latency: a refused connection is not a
    /// fast response.
    pub(super) fn count_end(&self, call: Call, status: Option<u16>, latency: Option<Duration>) {
        let counts = &self.ended[call as usize];
        if let Some(count) = counts.by_status.get(usize::from(status.unwrap_or(0))) {
            count.fetch_add(1, Relaxed);
        }
        let Some(latency) = latency else { return };
        // A `u64` of nanoseconds holds more than 500 years.
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        // A latency above the last bound counts in the last bucket.
        let micros = u32::try_from(nanoseconds.saturating_sub(1) / 1000).unwrap_or(u32::MAX);
        let counted = counts.by_latency.increment(u64::from(micros));
        debug_assert!(counted.is_ok(), "32 bits are in range");
        counts.nanoseconds.fetch_add(nanoseconds, Relaxed);
    }

    /// The number of requests started, including those in flight.
    pub fn started(&self) -> u64 {
        self.started.load(Relaxed)
    }

    /// The responses with each status that has occurred; `None` counts requests without a response.
    pub fn statuses(&self, call: Call) -> impl Iterator<Item = (Option<u16>, u64)> {
        let counts = self.ended[call as usize].by_status.iter().map(|count| count.load(Relaxed));
        let some = counts.zip(0_u16..).filter(|(count, _)| *count > 0);
        some.map(|(count, status)| ((status > 0).then_some(status), count))
    }

    /// The latencies of a call, including requests that were sent and have no response.
    pub fn latency(&self, call: Call) -> Latency {
        let counts = &self.ended[call as usize];
        let mut buckets: Vec<(f64, u64)> = BOUNDS_LOG2_MICROS
            .map(|log2| (f64::from(log2).exp2() / 1e6, 0))
            .chain([(f64::INFINITY, 0)])
            .collect();
        for (bound_micros, count) in counts.latencies().by_bound_micros() {
            let first = *BOUNDS_LOG2_MICROS.start();
            let log2 = bound_micros.next_power_of_two().ilog2().max(first);
            let at = (log2 - first) as usize;
            let last = buckets.len() - 1;
            buckets[at.min(last)].1 += count;
        }
        Latency { buckets, seconds: counts.nanoseconds.load(Relaxed) as f64 / 1e9 }
    }

    /// The latencies of all calls.
    pub fn latencies(&self) -> Latencies {
        let mut all = Latencies::default();
        self.ended.iter().for_each(|counts| all.add(&counts.latencies()));
        all
    }
}

impl Counts {
    fn latencies(&self) -> Latencies {
        SparseHistogram::from(&self.by_latency.load()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Metrics after one request for each latency.
    fn metrics(latencies: impl IntoIterator<Item = Duration>) -> ApiMetrics {
        let metrics = ApiMetrics::default();
        for latency in latencies {
            metrics.count_end(Call::Create, Some(200), Some(latency));
        }
        metrics
    }

    #[test]
    fn each_request_is_counted_once() {
        let metrics = ApiMetrics::default();
        let milliseconds =
            [(Some(200), 1), (Some(200), 2), (Some(503), 29_999), (None, 35_000), (Some(999), 5)];
        for (status, milliseconds) in milliseconds {
            metrics.count_end(Call::Create, status, Some(Duration::from_millis(milliseconds)));
        }
        metrics.count_end(Call::Create, None, None);
        let seen: Vec<_> = metrics.statuses(Call::Create).collect();
        assert_eq!(seen, [(None, 2), (Some(200), 2), (Some(503), 1), (Some(999), 1)]);
        assert_eq!(metrics.statuses(Call::Get).count(), 0);
        let latency = metrics.latency(Call::Create);
        let some: Vec<_> = latency.buckets.iter().filter(|(_, count)| *count > 0).copied().collect();
        let expected = [(0.001024, 1), (0.002048, 1), (0.008192, 1), (33.554432, 1), (f64::INFINITY, 1)];
        assert_eq!(some, expected);
        assert!((latency.seconds - 65.007).abs() < 1e-9, "{}", latency.seconds);
        metrics.count_end(Call::Get, Some(200), Some(Duration::from_millis(1)));
        assert_eq!(metrics.latencies().counts().map(|(_, count)| count).sum::<u64>(), 6);
    }

    #[test]
    fn a_latency_at_a_bound_counts_up_to_it_and_one_above_does_not() {
        let bounds = metrics([]).latency(Call::Create).buckets;
        assert_eq!(bounds.len(), 17);
        for (at, (bound, _)) in bounds.iter().enumerate() {
            let (inside, above) = if bound.is_finite() {
                let bound = Duration::from_micros((bound * 1e6) as u64);
                let nanosecond = Duration::from_nanos(1);
                (vec![bound, bound - nanosecond], vec![bound + nanosecond])
            } else {
                (vec![Duration::from_secs(60), Duration::from_secs(100_000), Duration::MAX], Vec::new())
            };
            let counts = |latencies: &[Duration]| -> Vec<u64> {
                let latency = metrics(latencies.iter().copied()).latency(Call::Create);
                latency.buckets.iter().map(|(_, count)| *count).collect()
            };
            assert_eq!(counts(&inside)[at], inside.len() as u64, "{bound}");
            assert_eq!(counts(&above)[..=at].iter().sum::<u64>(), 0, "{bound}");
        }
    }

    /// Existing ledgers store these indices.
    #[test]
    fn a_bucket_holds_what_it_says() {
        let index = |latency| metrics([latency]).latencies().counts().next().unwrap();
        let mut last = 0;
        for micros in (0..100_000).step_by(7).chain((17..32).map(|doubling| (1 << doubling) - 1)) {
            let duration = Duration::from_micros(micros);
            let (index, _) = index(duration);
            let middle = Latencies::from_counts([(index, 1)]).percentile(0.5).unwrap();
            let off = (middle.as_secs_f64() - duration.as_secs_f64()).abs();
            assert!(off <= 0.07 * duration.as_secs_f64() + 0.6e-6, "{micros} µs is off by {off}");
            assert!(index >= last, "{micros}");
            last = index;
        }
        let first_indices = [0, 1, 7, 8, 9, 16, 17, 18, 19, 1_000].map(Duration::from_micros);
        assert_eq!(first_indices.map(|latency| index(latency).0), [0, 0, 6, 7, 8, 15, 16, 16, 17, 63]);
        assert_eq!(index(Duration::MAX), (239, 1));
    }
}
