//! What the ledger keeps of a run over time: samples, each with the latencies of one interval.
//!
//! Pure. Latencies are kept as counts by bucket and not as percentiles, since only counts can be added. When a sample is
//! taken, and how many a run has, is decided in `run/timeline.rs`.

use std::time::Duration;

use histogram::{AtomicHistogram, Config, Quantile, SparseHistogram};

use super::model::RequestCounts;

/// Buckets of latencies in microseconds: eight to each doubling, so a percentile is right to 7 %, up to the hour that
/// fits 32 bits. The ledger stores counts by the index of the bucket, so this is part of its format.
const BUCKETS: Config = match Config::new(3, 32) {
    Ok(buckets) => Some(buckets),
    Err(_) => None,
}
.expect("eight is less than 32 bits");

/// Latencies of the requests of a whole run, counted as they end: one atomic addition for each, without a lock.
pub(crate) struct LatencyRecorder(AtomicHistogram);

impl Default for LatencyRecorder {
    fn default() -> LatencyRecorder {
        LatencyRecorder(AtomicHistogram::with_config(&BUCKETS))
    }
}

impl LatencyRecorder {
    /// Counts one; whatever is longer than the last bucket counts in it.
    pub(crate) fn record(&self, latency: Duration) {
        let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        let recorded = self.0.increment(u64::from(micros));
        debug_assert!(recorded.is_ok(), "32 bits are in range");
    }

    /// All latencies so far.
    pub(crate) fn snapshot(&self) -> Latencies {
        Latencies(SparseHistogram::from(&self.0.load()))
    }
}

/// Counts of latencies by length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latencies(SparseHistogram);

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies(SparseHistogram::with_config(&BUCKETS))
    }
}

impl Latencies {
    /// From counts by index, in ascending order. Indices that do not exist are left out: a ledger may be damaged.
    pub fn from_counts(counts: impl IntoIterator<Item = (u16, u64)>) -> Latencies {
        let valid = counts
            .into_iter()
            .filter(|(index, count)| usize::from(*index) < BUCKETS.total_buckets() && *count > 0);
        let (indices, counts) = valid.map(|(index, count)| (u32::from(index), count)).unzip();
        SparseHistogram::from_parts(BUCKETS, indices, counts).map_or_else(|_| Latencies::default(), Latencies)
    }

    /// Index and count, the shortest first, without zeros.
    pub fn counts(&self) -> impl Iterator<Item = (u16, u64)> {
        self.0.index().iter().zip(self.0.count()).map(|(index, count)| (*index as u16, *count))
    }

    /// The duration that this share of all does not exceed: the middle of its bucket. `None` if there are none.
    pub fn percentile(&self, share: f64) -> Option<Duration> {
        let found = self.0.quantile(share).ok()??;
        let bucket = found.get(&Quantile::new(share).ok()?)?;
        Some(Duration::from_nanos((bucket.start() + bucket.end() + 1) * 500))
    }

    fn add(&mut self, other: &Latencies) {
        if let Ok(sum) = self.0.wrapping_add(&other.0) {
            self.0 = sum;
        }
    }

    /// What was counted after an earlier snapshot.
    pub(crate) fn since(&self, earlier: &Latencies) -> Latencies {
        self.0.checked_sub(&earlier.0).map_or_else(|_| Latencies::default(), Latencies)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of these latencies so many times.
    fn latencies(all: impl IntoIterator<Item = (Duration, u64)>) -> Latencies {
        let mut sum = Latencies::default();
        for (latency, count) in all {
            let recorder = LatencyRecorder::default();
            recorder.record(latency);
            let counts =
                recorder.snapshot().counts().map(|(index, one)| (index, one * count)).collect::<Vec<_>>();
            sum.add(&Latencies::from_counts(counts));
        }
        sum
    }

    /// The indices are those of ledgers that exist.
    #[test]
    fn a_bucket_holds_what_it_says() {
        let mut last = 0;
        for micros in (0..100_000).chain((17..32).map(|doubling| (1 << doubling) - 1)) {
            let duration = Duration::from_micros(micros);
            let recorded = latencies([(duration, 1)]);
            let (index, _) = recorded.counts().next().unwrap();
            let off = (recorded.percentile(0.5).unwrap().as_secs_f64() - duration.as_secs_f64()).abs();
            assert!(off <= 0.07 * duration.as_secs_f64() + 0.6e-6, "{micros} µs is off by {off}");
            assert!(index == last || index == last + 1 || micros >= 100_000 && index > last, "{micros}");
            last = index;
        }
        let first_indices = [0, 1, 7, 8, 15, 16, 17, 18, 1_000].map(Duration::from_micros);
        let indices = first_indices.map(|latency| latencies([(latency, 1)]).counts().next().unwrap().0);
        assert_eq!(indices, [0, 1, 7, 8, 15, 16, 16, 17, 63]);
        assert_eq!(latencies([(Duration::MAX, 1)]).counts().next(), Some((239, 1)));
        assert_eq!(
            Latencies::from_counts([(u16::MAX, 1)]),
            Latencies::default(),
            "a hostile ledger is no panic"
        );
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_list() {
        let millis = Duration::from_millis;
        let latencies = latencies([(millis(10), 98), (millis(1000), 1), (millis(5000), 1)]);
        let near = |share: f64, millis: f64| {
            let found = latencies.percentile(share).unwrap().as_secs_f64() * 1000.0;
            assert!((found / millis - 1.0).abs() < 0.07, "{share}: {found}");
        };
        near(0.5, 10.0);
        near(0.98, 10.0);
        near(0.99, 1000.0);
        near(1.0, 5000.0);
        assert_eq!(Latencies::default().percentile(0.5), None);
    }
}
