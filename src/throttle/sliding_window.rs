//! Counts accepted requests over the last seconds: the one figure by which a rate is chosen.
//!
//! Keeps bins of a hundredth of a second and no single request, so its size is the same at any rate.

/// A count of requests by the time at which they were sent.
pub(super) struct SlidingWindowCounter {
    /// A ring: the number of each bin since time zero, and its count.
    bins: Vec<(u64, i64)>,
}

const BIN_S: f64 = 0.01;

/// How far back the counter reaches.
pub(super) const WINDOW_S: f64 = 10.0;

impl Default for SlidingWindowCounter {
    fn default() -> SlidingWindowCounter {
        SlidingWindowCounter { bins: vec![(0, 0); (WINDOW_S / BIN_S) as usize + 2] }
    }
}

impl SlidingWindowCounter {
    /// Ignores times that the window has passed.
    pub(super) fn add(&mut self, at_s: f64, count: i64) {
        let number = (at_s / BIN_S) as u64;
        let index = number as usize % self.bins.len();
        let bin = &mut self.bins[index];
        if bin.0 < number {
            *bin = (number, 0);
        }
        if bin.0 == number {
            bin.1 += count;
        }
    }

    /// Requests between two times. A bin that lies only partly between them counts by that part.
    pub(super) fn sum_between(&self, from_s: f64, to_s: f64) -> f64 {
        let (from, to) = (from_s.max(0.0) / BIN_S, to_s.max(0.0) / BIN_S);
        let numbers = from as u64..=to as u64;
        numbers
            .map(|number| {
                let bin = self.bins[number as usize % self.bins.len()];
                let share = to.min((number + 1) as f64) - from.max(number as f64);
                if bin.0 == number { bin.1 as f64 * share } else { 0.0 }
            })
            .sum()
    }
}
