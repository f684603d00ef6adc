//! How many requests to have in flight: fewer where more of them only wait.
//!
//! Pure: time comes in as `now`, and nothing here waits. A server that is at its end answers each request
//! later the more of them there are, and not one more a second. So rounds of answers are compared: where they
//! take much longer than they once did, and the crowd was as large as it may be, it shrinks, to no less than
//! twice what the throughput needs at the usual latency. If the throughput shrinks with it, then the answers
//! do take that long by now, and the crowd was needed: it comes back.
//!
//! # Why these constants
//!
//! What is compared are means of at least [`ROUND_ANSWERS`] answers, which leaves a fifth of the spread of
//! one. Latency counts as grown from [`GROWN`] times the usual and [`GROWN_BY`] on: below that a request that
//! waits costs nobody anything, and a busy machine of our own is no news about the server. [`LOST`] is what
//! throughput varies by anyhow.

use std::time::Duration;

use tokio::time::Instant;

const ROUND_ANSWERS: u32 = 25;

/// The usual latency is the shortest mean of so many: a run that begins fast has a crowd that waits before its
/// first round is over, and only the very first answers show how long one takes without it.
const FEW_ANSWERS: u32 = 10;

const ROUND_MIN: Duration = Duration::from_millis(500);

const GROWN: f64 = 2.0;
const GROWN_BY: f64 = 0.1;

/// Where latency is below this times the usual, more may be in flight again.
const SHORT: f64 = 1.5;

/// The share of the throughput that shows that the crowd was needed.
const LOST: f64 = 0.9;

/// What remains of the crowd at one step.
const STEP: f64 = 0.7;

const LEAST: f64 = 4.0;

/// The requests in flight.
pub(super) struct Crowd {
    /// What the user allows.
    most: usize,
    limit: usize,
    in_flight: usize,
    /// The shortest mean latency that was seen, in seconds.
    usual: f64,
    /// The last few answers: how many, and their seconds.
    few: (u32, f64),
    round: Round,
    /// Limit and throughput before the last step down.
    before: Option<(usize, f64)>,
}

struct Round {
    began: Instant,
    answers: u32,
    seconds: f64,
    peak: usize,
}

impl Round {
    fn new(began: Instant) -> Round {
        Round { began, answers: 0, seconds: 0.0, peak: 0 }
    }
}

impl Crowd {
    pub(super) fn new(most: usize, now: Instant) -> Crowd {
        Crowd {
            most,
            limit: most,
            in_flight: 0,
            usual: f64::INFINITY,
            few: (0, 0.0),
            round: Round::new(now),
            before: None,
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight < self.limit
    }

    pub(super) fn enter(&mut self) {
        self.in_flight += 1;
        self.round.peak = self.round.peak.max(self.in_flight);
    }

    /// A request is no longer in flight; how long a good answer took.
    pub(super) fn leave(&mut self, took: Option<Duration>, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(took) = took else { return };
        self.few = (self.few.0 + 1, self.few.1 + took.as_secs_f64());
        if self.few.0 == FEW_ANSWERS {
            self.usual = self.usual.min(self.few.1 / f64::from(FEW_ANSWERS));
            self.few = (0, 0.0);
        }
        self.round.answers += 1;
        self.round.seconds += took.as_secs_f64();
        if self.round.answers as usize >= self.limit.max(ROUND_ANSWERS as usize)
            && now - self.round.began >= ROUND_MIN
        {
            let round = std::mem::replace(&mut self.round, Round::new(now));
            self.compare(&round, now);
        }
    }

    fn compare(&mut self, round: &Round, now: Instant) {
        let latency = round.seconds / f64::from(round.answers);
        let throughput = f64::from(round.answers) / (now - round.began).as_secs_f64();
        let is_full = round.peak >= self.limit;
        match self.before.take() {
            Some((limit, before)) if is_full && throughput < LOST * before => {
                (self.limit, self.usual) = (limit, latency);
            }
            _ if is_full && latency > (GROWN * self.usual).max(self.usual + GROWN_BY) => {
                let needed = 2.0 * throughput * self.usual;
                let limit = (STEP * self.limit as f64).max(needed).max(LEAST) as usize;
                if limit < self.limit {
                    self.before = Some((self.limit, throughput));
                    self.limit = limit;
                }
            }
            _ if is_full && latency < SHORT * self.usual => {
                self.limit = (self.limit + self.limit.div_ceil(10)).min(self.most);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many seconds against a server that takes `base` seconds for an answer and works off `capacity` a
    /// second; each round's latency and throughput follow from how many are in flight.
    fn run(crowd: &mut Crowd, now: &mut Instant, seconds: f64, base: f64, capacity: f64) -> f64 {
        let end = *now + Duration::from_secs_f64(seconds);
        let mut throughput = 0.0;
        while *now < end {
            while crowd.has_room() {
                crowd.enter();
            }
            let in_flight = crowd.in_flight as f64;
            throughput = (in_flight / base).min(capacity);
            *now += Duration::from_secs_f64(1.0 / throughput);
            crowd.leave(Some(Duration::from_secs_f64(in_flight / throughput)), *now);
        }
        throughput
    }

    #[test]
    fn a_crowd_that_only_waits_shrinks_and_loses_nothing() {
        let mut now = Instant::now();
        let mut crowd = Crowd::new(10, now);
        run(&mut crowd, &mut now, 5.0, 0.05, 200.0);
        assert_eq!(crowd.limit, 10, "at its end, but not slow");
        // The same latency was seen before the crowd came.
        crowd = Crowd { most: 200, limit: 200, ..crowd };
        let throughput = run(&mut crowd, &mut now, 20.0, 0.05, 200.0);
        assert!((10..=45).contains(&crowd.limit), "{}", crowd.limit);
        assert!(throughput > 199.0, "{throughput}");
    }

    #[test]
    fn a_server_that_is_slow_by_itself_keeps_its_crowd() {
        let mut now = Instant::now();
        let mut crowd = Crowd::new(100, now);
        run(&mut crowd, &mut now, 5.0, 0.05, 1e9);
        assert_eq!(crowd.limit, 100);
        run(&mut crowd, &mut now, 60.0, 1.0, 1e9);
        assert!(crowd.limit >= 90, "{}", crowd.limit);
    }

    #[test]
    fn a_crowd_comes_back_with_the_server() {
        let mut now = Instant::now();
        let mut crowd = Crowd::new(100, now);
        run(&mut crowd, &mut now, 5.0, 0.05, 1e9);
        run(&mut crowd, &mut now, 30.0, 0.05, 100.0);
        assert!(crowd.limit < 40, "{}", crowd.limit);
        run(&mut crowd, &mut now, 30.0, 0.05, 1e9);
        assert_eq!(crowd.limit, 100);
    }
}
