//! Histogram of latencies, shared by the metrics, the samples of a run in the ledger, and the report.
//!
//! Pure. Stores counts per bucket instead of percentiles, because only counts can be added. `api/metrics.rs` does the
//! counting.

use std::time::Duration;

use histogram::{Config, Quantile, SparseHistogram};

/// Buckets of latencies in microseconds: eight per doubling, so a percentile is accurate to 7 %, up to the hour that
/// fits in 32 bits. A value *n* stands for latencies above *n* and up to *n* + 1 microseconds: the upper bound of a
/// bucket belongs to the bucket, as in Prometheus, and each power of two is such a bound. The ledger stores counts by
/// bucket index, so this is part of its format.
pub(crate) const BUCKETS: Config = match Config::new(3, 32) {
    Ok(buckets) => Some(buckets),
    Err(_) => None,
}
.expect("eight is less than 32 bits");

/// Number of latencies in each bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latencies(SparseHistogram);

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies(SparseHistogram::with_config(&BUCKETS))
    }
}

impl From<SparseHistogram> for Latencies {
    /// `counts` must be a histogram with `BUCKETS`.
    fn from(counts: SparseHistogram) -> Latencies {
        Latencies(counts)
    }
}

impl Latencies {
    /// Builds a histogram from counts by index, in ascending order. Unknown indices are skipped, because a ledger may
    /// be damaged.
    pub fn from_counts(counts: impl IntoIterator<Item = (u16, u64)>) -> Latencies {
        let valid = counts
            .into_iter()
            .filter(|(index, count)| usize::from(*index) < BUCKETS.total_buckets() && *count > 0);
        let (indices, counts) = valid.map(|(index, count)| (u32::from(index), count)).unzip();
        SparseHistogram::from_parts(BUCKETS, indices, counts).map_or_else(|_| Latencies::default(), Latencies)
    }

    /// Index and count of each non-empty bucket, in ascending order.
    pub fn counts(&self) -> impl Iterator<Item = (u16, u64)> {
        self.0.index().iter().zip(self.0.count()).map(|(index, count)| (*index as u16, *count))
    }

    /// The upper bound in microseconds and the count of each non-empty bucket, in ascending order.
    pub(crate) fn by_bound_micros(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|bucket| (bucket.end() + 1, bucket.count()))
    }

    /// The latency that this share of all latencies does not exceed: the middle of its bucket. `None` without
    /// latencies.
    pub fn percentile(&self, share: f64) -> Option<Duration> {
        let found = self.0.quantile(share).ok()??;
        let bucket = found.get(&Quantile::new(share).ok()?)?;
        Some(Duration::from_nanos((bucket.start() + bucket.end() + 1) * 500))
    }

    pub(crate) fn add(&mut self, other: &Latencies) {
        if let Ok(sum) = self.0.wrapping_add(&other.0) {
            self.0 = sum;
        }
    }

    /// The latencies counted after an earlier snapshot.
    pub(crate) fn since(&self, earlier: &Latencies) -> Latencies {
        self.0.checked_sub(&earlier.0).map_or_else(|_| Latencies::default(), Latencies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_list() {
        // The buckets of 10 ms, 1 s and 5 s.
        let latencies = Latencies::from_counts([(89, 98), (143, 1), (161, 1)]);
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

    #[test]
    fn a_hostile_ledger_is_no_panic() {
        assert_eq!(Latencies::from_counts([(u16::MAX, 1)]), Latencies::default());
    }
}
