//! Requests counted: by step and status, and by how long their answers took.
//!
//! Each request passes here, so it is a handful of atomics and nothing else: no lock, no hash, no
//! allocation. What is read meanwhile may be a request ahead of itself; nothing is lost.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// To create a customer.
    Create,
    /// To ask for one.
    Get,
    /// To change one.
    Update,
}

/// All steps.
pub const STEPS: [Step; 3] = [Step::Create, Step::Get, Step::Update];

impl Step {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Step::Create => "create",
            Step::Get => "get",
            Step::Update => "update",
        }
    }
}

/// Upper bounds of latency in seconds. The sandbox answers within tenths of a second and the default
/// timeout is 30 s; below a hundredth only a server on this machine answers.
const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Statuses have three digits; what stands at 0 was answered with none.
const STATUSES: usize = 1000;

/// What was asked of the API, and how it was answered.
#[derive(Debug)]
pub struct Meter {
    steps: [Counts; STEPS.len()],
}

#[derive(Debug)]
struct Counts {
    by_status: Vec<AtomicU64>,
    /// One more than there are bounds, for what took longer.
    by_latency: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// How long the answers to one step took.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency {
    /// Upper bounds in seconds, the last infinite, each with how many took no longer and longer than the
    /// bound before.
    pub buckets: Vec<(f64, u64)>,
    /// All of them together.
    pub seconds: f64,
}

impl Default for Meter {
    fn default() -> Meter {
        let counts = || Counts {
            by_status: (0..STATUSES).map(|_| AtomicU64::new(0)).collect(),
            by_latency: std::array::from_fn(|_| AtomicU64::new(0)),
            nanoseconds: AtomicU64::new(0),
        };
        Meter { steps: std::array::from_fn(|_| counts()) }
    }
}

impl Meter {
    /// A request has come to its end.
    pub(super) fn note(&self, step: Step, status: Option<u16>, took: Duration) {
        let counts = &self.steps[step as usize];
        if let Some(count) = counts.by_status.get(usize::from(status.unwrap_or(0))) {
            count.fetch_add(1, Relaxed);
        }
        let seconds = took.as_secs_f64();
        let at = BOUNDS.partition_point(|bound| *bound < seconds);
        counts.by_latency[at].fetch_add(1, Relaxed);
        // Five hundred years of waiting fit.
        counts.nanoseconds.fetch_add(took.as_nanos() as u64, Relaxed);
    }

    /// How often each status was the answer, those that were at all; `None` where there was no answer.
    pub fn statuses(&self, step: Step) -> impl Iterator<Item = (Option<u16>, u64)> {
        let counts = self.steps[step as usize].by_status.iter().map(|count| count.load(Relaxed));
        let some = counts.zip(0_u16..).filter(|(count, _)| *count > 0);
        some.map(|(count, status)| ((status > 0).then_some(status), count))
    }

    /// How long answers took; also those that did not come.
    pub fn latency(&self, step: Step) -> Latency {
        let counts = &self.steps[step as usize];
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets = bounds.zip(counts.by_latency.iter().map(|count| count.load(Relaxed))).collect();
        Latency { buckets, seconds: counts.nanoseconds.load(Relaxed) as f64 / 1e9 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_counted_once() {
        let meter = Meter::default();
        for (status, milliseconds) in
            [(Some(200), 1), (Some(200), 2), (Some(503), 29_999), (None, 30_001), (Some(999), 5)]
        {
            meter.note(Step::Create, status, Duration::from_millis(milliseconds));
        }
        let seen: Vec<_> = meter.statuses(Step::Create).collect();
        assert_eq!(seen, [(None, 1), (Some(200), 2), (Some(503), 1), (Some(999), 1)]);
        assert_eq!(meter.statuses(Step::Get).count(), 0);
        let latency = meter.latency(Step::Create);
        let some: Vec<_> = latency.buckets.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(some, [(0.001, 1), (0.0025, 1), (0.005, 1), (30.0, 1), (f64::INFINITY, 1)]);
        assert!((latency.seconds - 60.008).abs() < 1e-9, "{}", latency.seconds);
    }
}
