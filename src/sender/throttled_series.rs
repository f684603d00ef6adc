//! The throttled replies that one row gets in succession: whether chance explains them, or the server throttles the row
//! by a rule of its own.
//!
//! A throttled reply normally costs a row no attempt: the limit concerns all requests, and the row is sent again
//! later. But a server may throttle one row by a rule of its own, whatever the rate. Such a row would never get an
//! outcome, and its run would never end. So the row's replies are compared with those of all other rows in the same
//! time: if chance cannot explain the series, further throttled replies cost attempts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A series that is less likely than this, given the share of throttled replies among other rows, is not chance: a
/// thousandth of one row in a million.
const CHANCE_MAX: f64 = 1e-9;

/// Later replies of a series say more about its row than about the limit, so they are not counted among those of all
/// rows.
const COUNTED_MAX: u32 = 8;

/// The replies to all rows so far.
#[derive(Default)]
pub(super) struct ReplyCounts {
    accepted: AtomicU64,
    throttled: AtomicU64,
}

impl ReplyCounts {
    pub(super) fn on_accepted(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }
}

/// The throttled replies of a row in succession.
#[derive(Clone, Copy)]
pub(super) struct ThrottledSeries {
    pub(super) length: u32,
    accepted_before: u64,
    throttled_before: u64,
}

impl ThrottledSeries {
    /// A series before its first reply.
    pub(super) fn new(counts: &ReplyCounts) -> ThrottledSeries {
        ThrottledSeries {
            length: 0,
            accepted_before: counts.accepted.load(Relaxed),
            throttled_before: counts.throttled.load(Relaxed),
        }
    }

    /// Counts one more throttled reply.
    pub(super) fn on_throttled(&mut self, counts: &ReplyCounts) {
        self.length += 1;
        if self.length <= COUNTED_MAX {
            counts.throttled.fetch_add(1, Relaxed);
        }
    }

    /// Whether the limit concerns this row alone.
    pub(super) fn concerns_one_row(self, counts: &ReplyCounts) -> bool {
        let accepted = counts.accepted.load(Relaxed) - self.accepted_before;
        let own = u64::from(self.length.min(COUNTED_MAX));
        let throttled = (counts.throttled.load(Relaxed) - self.throttled_before).saturating_sub(own);
        let share = (throttled + 1) as f64 / (accepted + throttled + 2) as f64;
        share.powf(f64::from(self.length)) <= CHANCE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of replies from which a series concerns its row alone, if other rows got this many accepted and
    /// throttled replies in the same time.
    fn length_at(accepted: u64, throttled: u64) -> Option<u32> {
        let counts = ReplyCounts::default();
        let mut series = ThrottledSeries::new(&counts);
        counts.accepted.store(accepted, Relaxed);
        counts.throttled.store(throttled, Relaxed);
        (1..=1_000).find(|_| {
            series.on_throttled(&counts);
            series.concerns_one_row(&counts)
        })
    }

    #[test]
    fn a_series_that_chance_cannot_explain_concerns_its_row() {
        assert_eq!(length_at(1_000, 0), Some(3));
        assert_eq!(length_at(20, 0), Some(7));
        assert_eq!(length_at(950, 50), Some(7), "one in twenty");
        assert_eq!(length_at(500, 500), Some(30), "every other one");
        assert!(length_at(100, 900).is_none_or(|length| length > 190), "nine of ten");
        assert!(length_at(0, 0).is_none_or(|length| length >= 30), "nothing to compare with");
        assert!(length_at(2, 64).is_none_or(|length| length > 300), "a limit that has just fallen");
    }
}
