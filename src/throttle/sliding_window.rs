//! Counts the accepted requests of the last seconds by the time at which they were sent: the only figure that the
//! adaptive rate is chosen by.
//!
//! Stores bins and no single request, so its size is the same at any rate. Pure: time is an argument, in seconds since
//! the run began.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// How far back accepted requests are counted, and the length of the bins.
pub(super) const WINDOW_S: f64 = 10.0;
const BIN_S: f64 = 0.01;

/// The counts.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "StoredBins", into = "StoredBins")]
pub(super) struct SlidingWindowCounter {
    /// A ring buffer.
    bins: Vec<Bin>,
}

/// The requests of one interval of [`BIN_S`].
#[derive(Clone, Copy, Default)]
struct Bin {
    /// The number of the interval, from time zero.
    number: u64,
    count: i64,
}

/// The bins as they are stored: the counts of successive bins from a number on. Short, because they are stored for
/// every few requests.
#[derive(Serialize, Deserialize)]
struct StoredBins {
    first: u64,
    counts: Vec<i64>,
}

/// The level of a bucket.
pub(super) struct BucketLevel {
    pub(super) highest: f64,
    pub(super) last: f64,
}

impl From<SlidingWindowCounter> for StoredBins {
    fn from(counter: SlidingWindowCounter) -> StoredBins {
        let counted = counter.bins.iter().filter(|bin| bin.count != 0).map(|bin| bin.number);
        let last = counted.clone().max().unwrap_or(0);
        let first = counted.min().unwrap_or(0).max(last.saturating_sub(counter.bins.len() as u64 - 1));
        StoredBins { first, counts: (first..=last).map(|number| counter.count(number)).collect() }
    }
}

impl From<StoredBins> for SlidingWindowCounter {
    fn from(stored: StoredBins) -> SlidingWindowCounter {
        let mut counter = SlidingWindowCounter::default();
        for (number, count) in (stored.first..).zip(stored.counts) {
            let index = number as usize % counter.bins.len();
            counter.bins[index] = Bin { number, count };
        }
        counter
    }
}

impl Default for SlidingWindowCounter {
    fn default() -> SlidingWindowCounter {
        SlidingWindowCounter { bins: vec![Bin::default(); (WINDOW_S / BIN_S) as usize + 2] }
    }
}

impl SlidingWindowCounter {
    /// Adds to the bin of this time; ignores times before the window.
    pub(super) fn add(&mut self, at_s: f64, count: i64) {
        let number = (at_s / BIN_S) as u64;
        let index = number as usize % self.bins.len();
        let bin = &mut self.bins[index];
        if bin.number < number {
            *bin = Bin { number, count: 0 };
        }
        if bin.number == number {
            bin.count += count;
        }
    }

    /// The level of a bucket that drains at this rate, and that each of the requests between two times raises by one.
    /// Only the first `at_most` requests count.
    pub(super) fn bucket_level(
        &self,
        rate: f64,
        times_s: Range<f64>,
        level: f64,
        mut at_most: f64,
    ) -> BucketLevel {
        let mut bucket = BucketLevel { highest: 0.0, last: level };
        let number_at = |at_s: f64| (at_s / BIN_S) as u64;
        for number in number_at(times_s.start)..=number_at(times_s.end) {
            let (from_s, to_s) = (number as f64 * BIN_S, (number + 1) as f64 * BIN_S);
            let emptied = rate * (to_s.min(times_s.end) - from_s.max(times_s.start));
            let count = (self.count(number) as f64).min(at_most);
            at_most -= count;
            bucket.last = (bucket.last + count - emptied).max(0.0);
            bucket.highest = bucket.highest.max(bucket.last);
        }
        bucket
    }

    fn count(&self, number: u64) -> i64 {
        let bin = self.bins[number as usize % self.bins.len()];
        if bin.number == number { bin.count } else { 0 }
    }

    /// Number of requests between two times. A bin that is only partly in the range counts by that part.
    pub(super) fn sum_between(&self, from_s: f64, to_s: f64) -> f64 {
        let (from, to) = (from_s.max(0.0) / BIN_S, to_s.max(0.0) / BIN_S);
        let numbers = from as u64..=to as u64;
        numbers
            .map(|number| {
                let share = to.min((number + 1) as f64) - from.max(number as f64);
                self.count(number) as f64 * share
            })
            .sum()
    }
}
