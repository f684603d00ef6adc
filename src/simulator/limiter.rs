//! The rate limiters that servers use: sliding window, fixed window and token bucket.
//!
//! Refused requests do not count, or a client that is too fast would never be admitted again. A changed limit applies from
//! the next request on.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How a rate limit counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limiter {
    /// A sliding window of one second.
    Sliding,
    /// Fixed windows of one second.
    Fixed,
    /// A token bucket that holds the tokens of this many seconds.
    Bucket(f64),
}

const SECOND: Duration = Duration::from_secs(1);

/// The state of a rate limit.
#[derive(Debug, Default)]
pub(super) struct LimiterState {
    /// When the requests of the window were admitted.
    admitted_at: VecDeque<Instant>,
    /// When the first of the fixed windows began.
    first_window: Option<Instant>,
    /// The tokens in the bucket after the last request, and when that was.
    tokens: Option<(f64, Instant)>,
}

impl LimiterState {
    /// Admits and counts a request, if the limit allows it.
    pub(super) fn has_room(&mut self, limiter: Limiter, limit: f64, now: Instant) -> bool {
        match limiter {
            Limiter::Sliding => self.has_room_since(now.checked_sub(SECOND), limit, now),
            Limiter::Fixed => {
                let first = *self.first_window.get_or_insert(now);
                let into = (now - first).subsec_nanos();
                let begin = now - Duration::from_nanos(into.into());
                self.has_room_since(begin.checked_sub(Duration::from_nanos(1)), limit, now)
            }
            Limiter::Bucket(seconds) => {
                let depth = (limit * seconds).max(1.0);
                let (tokens, at) = self.tokens.unwrap_or((depth, now));
                let tokens = (tokens + limit * (now - at).as_secs_f64()).min(depth);
                let room = tokens >= 1.0;
                self.tokens = Some((if room { tokens - 1.0 } else { tokens }, now));
                room
            }
        }
    }

    /// Admits and counts a request in the window that begins after `gone`.
    fn has_room_since(&mut self, gone: Option<Instant>, limit: f64, now: Instant) -> bool {
        while let (Some(first), Some(gone)) = (self.admitted_at.front(), gone)
            && *first <= gone
        {
            self.admitted_at.pop_front();
        }
        let room = (self.admitted_at.len() as f64) < limit;
        if room {
            self.admitted_at.push_back(now);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of a hundred requests are admitted at each of these times, in milliseconds.
    fn admitted_at(limiter: Limiter, batches: &[u64]) -> Vec<usize> {
        let (start, mut account) = (Instant::now(), LimiterState::default());
        let at = |ms| start + Duration::from_millis(ms);
        let mut batch = |ms| (0..100).filter(|_| account.has_room(limiter, 10.0, at(ms))).count();
        batches.iter().map(|ms| batch(*ms)).collect()
    }

    #[test]
    fn each_counts_in_its_own_way() {
        let batches = [0, 500, 999, 1000, 1500, 1999, 2000];
        assert_eq!(admitted_at(Limiter::Sliding, &batches), [10, 0, 0, 10, 0, 0, 10]);
        assert_eq!(admitted_at(Limiter::Sliding, &[600, 1000, 1599, 1600]), [10, 0, 0, 10]);
        assert_eq!(admitted_at(Limiter::Fixed, &[0, 1000, 1001, 2999, 3000]), [10, 10, 0, 10, 10]);
        assert_eq!(admitted_at(Limiter::Bucket(0.5), &[0, 100, 500, 1000, 9000]), [5, 1, 4, 5, 5]);
        assert_eq!(admitted_at(Limiter::Bucket(0.0), &[0, 99, 100, 5000]), [1, 0, 1, 1]);
    }
}
