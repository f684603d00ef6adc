//! Counts requests, by call and status, and their latencies.
//!
//! Every request passes here, so this is a handful of atomics and nothing else: no lock, no hash, no allocation. Counters
//! are read without a lock, so a snapshot may include a request in one counter and not yet in another; nothing is lost.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

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
    /// Its name, as metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Call::Create => "create",
            Call::Get => "get",
            Call::Update => "update",
        }
    }
}

/// Upper bounds of latency in seconds. The sandbox answers within tenths of a second and the default
/// timeout is 30 s; below a hundredth only a server on this machine answers. Counted here and not derived from the
/// histogram of all latencies, since no bucket of such a histogram ends at these bounds.
const BOUNDS_S: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

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
    /// One more than there are bounds, for longer latencies.
    by_latency: [AtomicU64; BOUNDS_S.len() + 1],
    nanoseconds: AtomicU64,
}

/// The latencies of one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency {
    /// Upper bounds in seconds, the last infinite, each with the number of latencies up to it and above the bound
    /// before.
    pub buckets: Vec<(f64, u64)>,
    /// The sum of all latencies.
    pub seconds: f64,
}

impl Default for ApiMetrics {
    fn default() -> ApiMetrics {
        let counts = || Counts {
            by_status: (0..STATUSES).map(|_| AtomicU64::new(0)).collect(),
            by_latency: std::array::from_fn(|_| AtomicU64::new(0)),
            nanoseconds: AtomicU64::new(0),
        };
        ApiMetrics { started: AtomicU64::new(0), ended: std::array::from_fn(|_| counts()) }
    }
}

impl ApiMetrics {
    pub(super) fn on_start(&self) {
        self.started.fetch_add(1, Relaxed);
    }

    pub(super) fn on_end(&self, call: Call, status: Option<u16>, latency: Duration) {
        let counts = &self.ended[call as usize];
        if let Some(count) = counts.by_status.get(usize::from(status.unwrap_or(0))) {
            count.fetch_add(1, Relaxed);
        }
        let seconds = latency.as_secs_f64();
        let bucket = BOUNDS_S.partition_point(|bound| *bound < seconds);
        counts.by_latency[bucket].fetch_add(1, Relaxed);
        // Five hundred years fit.
        counts.nanoseconds.fetch_add(latency.as_nanos() as u64, Relaxed);
    }

    /// All requests, those in flight included.
    pub fn started(&self) -> u64 {
        self.started.load(Relaxed)
    }

    /// The responses with each status that has occurred; `None` counts requests without a response.
    pub fn statuses(&self, call: Call) -> impl Iterator<Item = (Option<u16>, u64)> {
        let counts = self.ended[call as usize].by_status.iter().map(|count| count.load(Relaxed));
        let some = counts.zip(0_u16..).filter(|(count, _)| *count > 0);
        some.map(|(count, status)| ((status > 0).then_some(status), count))
    }

    /// The latencies of a call, also of requests without a response.
    pub fn latency(&self, call: Call) -> Latency {
        let counts = &self.ended[call as usize];
        let bounds = BOUNDS_S.into_iter().chain([f64::INFINITY]);
        let buckets = bounds.zip(counts.by_latency.iter().map(|count| count.load(Relaxed))).collect();
        Latency { buckets, seconds: counts.nanoseconds.load(Relaxed) as f64 / 1e9 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_counted_once() {
        let metrics = ApiMetrics::default();
        for (status, milliseconds) in
            [(Some(200), 1), (Some(200), 2), (Some(503), 29_999), (None, 30_001), (Some(999), 5)]
        {
            metrics.on_end(Call::Create, status, Duration::from_millis(milliseconds));
        }
        let seen: Vec<_> = metrics.statuses(Call::Create).collect();
        assert_eq!(seen, [(None, 1), (Some(200), 2), (Some(503), 1), (Some(999), 1)]);
        assert_eq!(metrics.statuses(Call::Get).count(), 0);
        let latency = metrics.latency(Call::Create);
        let some: Vec<_> = latency.buckets.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(some, [(0.001, 1), (0.0025, 1), (0.005, 1), (30.0, 1), (f64::INFINITY, 1)]);
        assert!((latency.seconds - 60.008).abs() < 1e-9, "{}", latency.seconds);
    }
}
