//! What the ledger keeps of a run over time: samples, each with the latencies of one interval.
//!
//! Pure. When a sample is taken, and how many a run has, is decided in `run/timeline.rs`.

use std::time::Duration;

use super::model::RequestCounts;
use crate::latency::Latencies;

/// What happened in one interval.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Since the run began.
    pub from: Duration,
    /// Since the run began.
    pub to: Duration,
    /// Rows settled as created, existing, unchanged, changed or updated.
    pub succeeded: u64,
    /// Rows settled as duplicate, invalid or rejected: they have to be corrected.
    pub faulty: u64,
    /// Rows settled as failed: they may pass another time.
    pub failed: u64,
    /// What was sent.
    pub figures: RequestCounts,
    /// The most requests in flight that were seen.
    pub in_flight: u64,
    /// The rate held under a limit that nobody told, at its end.
    pub held_rate: Option<f64>,
    /// How long requests took that ended in it.
    pub latencies: Latencies,
}

impl Sample {
    /// Seconds; never zero, so that it can be divided by.
    pub fn seconds(&self) -> f64 {
        (self.to.saturating_sub(self.from)).as_secs_f64().max(0.001)
    }

    /// Rows settled.
    pub fn rows(&self) -> u64 {
        self.succeeded + self.faulty + self.failed
    }

    /// Whether nothing happened in the interval.
    pub(crate) fn is_idle(&self) -> bool {
        self.rows() == 0 && self.figures == RequestCounts::default()
    }

    /// Adds the sample that follows.
    pub(crate) fn join(&mut self, next: &Sample) {
        self.to = next.to;
        self.succeeded += next.succeeded;
        self.faulty += next.faulty;
        self.failed += next.failed;
        self.figures.requests += next.figures.requests;
        self.figures.retries += next.figures.retries;
        self.figures.throttled += next.figures.throttled;
        self.in_flight = self.in_flight.max(next.in_flight);
        self.held_rate = next.held_rate;
        self.latencies.add(&next.latencies);
    }
}

/// Joins neighbouring samples until there are at most so many.
pub(crate) fn condensed(samples: &[Sample], most: usize) -> Vec<Sample> {
    let joined = |group: &[Sample]| {
        let (first, rest) = group.split_first()?;
        let mut joined = first.clone();
        rest.iter().for_each(|next| joined.join(next));
        Some(joined)
    };
    samples.chunks(samples.len().div_ceil(most.max(1)).max(1)).filter_map(joined).collect()
}
