//! How a rate limit counts: the three ways that servers have.
//!
//! Requests that are turned away take no room themselves, or a client that knocks too fast would never be let
//! in again. A limit that changes while it counts applies from the next request on.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// A way to count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limiter {
    /// At most so many in any second.
    Sliding,
    /// At most so many in each second; the next one begins at once, full.
    Fixed,
    /// As many tokens a second flow into a bucket that holds what flows in so many seconds.
    Bucket(f64),
}

const SECOND: Duration = Duration::from_secs(1);

/// What has been counted.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// When the requests of the window were let through.
    let_through: VecDeque<Instant>,
    window: Option<Instant>,
    tokens: Option<(f64, Instant)>,
}

impl Account {
    /// Counts a request, if there is room for it.
    pub(super) fn has_room(&mut self, limiter: Limiter, limit: f64, now: Instant) -> bool {
        match limiter {
            Limiter::Sliding => self.has_room_since(now.checked_sub(SECOND), limit, now),
            Limiter::Fixed => {
                let first = *self.window.get_or_insert(now);
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

    fn has_room_since(&mut self, gone: Option<Instant>, limit: f64, now: Instant) -> bool {
        while let (Some(first), Some(gone)) = (self.let_through.front(), gone)
            && *first <= gone
        {
            self.let_through.pop_front();
        }
        let room = (self.let_through.len() as f64) < limit;
        if room {
            self.let_through.push_back(now);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of a hundred that come at these milliseconds are let through.
    fn let_through(limiter: Limiter, batches: &[u64]) -> Vec<usize> {
        let (start, mut account) = (Instant::now(), Account::default());
        let at = |ms| start + Duration::from_millis(ms);
        let mut batch = |ms| (0..100).filter(|_| account.has_room(limiter, 10.0, at(ms))).count();
        batches.iter().map(|ms| batch(*ms)).collect()
    }

    #[test]
    fn each_counts_in_its_own_way() {
        let batches = [0, 500, 999, 1000, 1500, 1999, 2000];
        assert_eq!(let_through(Limiter::Sliding, &batches), [10, 0, 0, 10, 0, 0, 10]);
        assert_eq!(let_through(Limiter::Sliding, &[600, 1000, 1599, 1600]), [10, 0, 0, 10]);
        assert_eq!(let_through(Limiter::Fixed, &[0, 1000, 1001, 2999, 3000]), [10, 10, 0, 10, 10]);
        assert_eq!(let_through(Limiter::Bucket(0.5), &[0, 100, 500, 1000, 9000]), [5, 1, 4, 5, 5]);
        assert_eq!(let_through(Limiter::Bucket(0.0), &[0, 99, 100, 5000]), [1, 0, 1, 1]);
    }
}
