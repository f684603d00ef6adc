//! Where a run stands, in figures: how fast, how much is left, what is under way.
//!
//! What the progress display, the metrics and `status` in another terminal show is made here and
//! nowhere else, so that they cannot disagree. Counts are committed; what is under way is as of now.
//!
//! The speed is that of the last seconds: a mean over a whole run says nothing about now, and what was
//! waited for in an outage an hour ago is not what is left to wait for.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;
use tracing::info;

use super::Run;
use crate::ledger::{Activity, Heartbeat, Outcome, RequestCounts, Settlement, Tally};

/// How often the ledger is told where the run stands.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// The last seconds: long enough that a slow run's few rows make a rate, short enough to see it change.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// How far apart what the speed is made of is taken; a fortieth of [`RATE_WINDOW`].
const RATE_SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// A pause is worth a word while more than this is left of it; shorter ones come and go all the time.
const PAUSE_SHOWN_MIN: Duration = Duration::from_secs(1);

/// How much there is to do, as far as it is known beforehand.
#[derive(Clone, Copy, Debug, Default)]
pub struct SourceSize {
    /// Bytes of the source.
    pub bytes: Option<u64>,
    /// No more rows than these are read.
    pub rows: Option<u64>,
}

impl SourceSize {
    /// Rows in the whole source, as far as the rows and bytes read tell.
    fn total(&self, rows: u64, bytes: u64) -> Option<u64> {
        let size = self.bytes.filter(|_| bytes > 0 && rows > 0)?;
        let total = (rows as f64 * (size as f64 / bytes as f64)).round() as u64;
        Some(total.min(self.rows.unwrap_or(u64::MAX)).max(rows))
    }
}

/// What is shown while a run goes on.
#[derive(Clone, Copy, Debug)]
pub struct RunSnapshot {
    /// Rows by outcome.
    pub tally: Tally,
    /// Requests.
    pub figures: RequestCounts,
    /// Where it stands besides.
    pub live: Heartbeat,
}

/// What the run keeps in order to say where it stands.
pub(super) struct Progress {
    extent: SourceSize,
    rate: RateMeter,
    next_heartbeat: Instant,
    /// Whether everyone waited for the API when it was last looked.
    outage: bool,
    /// Rows.
    in_doubt: u64,
}

impl Progress {
    pub(super) fn new(extent: SourceSize, in_doubt: usize, now: Instant) -> Progress {
        Progress {
            extent,
            rate: RateMeter::new(now),
            next_heartbeat: now + HEARTBEAT_INTERVAL,
            outage: false,
            in_doubt: in_doubt as u64,
        }
    }

    /// Whether the ledger is to be told.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.next_heartbeat
    }

    pub(super) fn count(&mut self, settlement: &Settlement) {
        let (was, is) = settlement.in_doubt();
        self.in_doubt = (self.in_doubt + u64::from(is)).saturating_sub(u64::from(was));
    }
}

impl Run {
    /// Where the run stands, for the ledger.
    pub(super) fn heartbeat(&mut self) -> Heartbeat {
        self.progress.next_heartbeat = Instant::now() + HEARTBEAT_INTERVAL;
        self.live()
    }

    pub(super) fn update_rate(&mut self) {
        self.progress.rate.record(self.settled_rows(), Instant::now());
    }

    /// Says when an outage begins and ends.
    pub(super) fn log_outage_change(&mut self) {
        let outage = self.sender.throttle().in_outage();
        match (self.progress.outage, outage) {
            (false, true) => info!("no good answer from the API; everyone waits until it is back"),
            (true, false) => info!("the API is back"),
            _ => {}
        }
        self.progress.outage = outage;
    }

    pub(super) fn snapshot(&self) -> RunSnapshot {
        RunSnapshot { tally: self.tally, figures: self.sender.figures(), live: self.live() }
    }

    fn live(&self) -> Heartbeat {
        let throttle = self.sender.throttle();
        let is_exact = self.source_ended && self.read.is_empty() && !self.is_stopping();
        let rows = self.tally.rows();
        let total = self.progress.extent.total(rows, self.read.bytes());
        Heartbeat {
            activity: self.doing(),
            total: if is_exact { Some(rows) } else { total },
            is_exact,
            rows_per_second: self.progress.rate.per_second(self.settled_rows(), Instant::now()),
            in_flight: throttle.in_flight() as u64,
            retrying: self.sender.retrying(),
            in_doubt: self.progress.in_doubt,
            throttled_to: throttle.rate(),
        }
    }

    fn doing(&self) -> Activity {
        let throttle = self.sender.throttle();
        match () {
            () if self.is_stopping() => Activity::Finishing,
            () if throttle.in_outage() => Activity::Waiting,
            () if throttle.pause_left() > PAUSE_SHOWN_MIN => Activity::Paused,
            () if self.doubts.is_some() => Activity::Asking,
            () => Activity::Sending,
        }
    }

    fn settled_rows(&self) -> u64 {
        self.tally.rows() - self.tally.get(Outcome::Pending)
    }
}

/// Rows a second, over the last seconds.
struct RateMeter {
    /// When so many rows were settled, the oldest first; never empty.
    samples: VecDeque<(Instant, u64)>,
}

impl RateMeter {
    fn new(now: Instant) -> RateMeter {
        RateMeter { samples: VecDeque::from([(now, 0)]) }
    }

    fn record(&mut self, settled: u64, now: Instant) {
        if self.samples.back().is_some_and(|(at, _)| now - *at < RATE_SAMPLE_INTERVAL) {
            return;
        }
        self.samples.push_back((now, settled));
        while self.samples.get(1).is_some_and(|(at, _)| now - *at >= RATE_WINDOW) {
            self.samples.pop_front();
        }
    }

    fn per_second(&self, settled: u64, now: Instant) -> f64 {
        let (since, before) = self.samples.front().copied().unwrap_or((now, settled));
        // Right at the beginning a handful of rows would make any speed.
        settled.saturating_sub(before) as f64 / (now - since).max(RATE_SAMPLE_INTERVAL).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_is_that_of_the_last_seconds() {
        let began = Instant::now();
        let mut rate = RateMeter::new(began);
        assert_eq!(rate.per_second(0, began), 0.0);
        let mut settled = 0;
        for tick in 1..=400_u64 {
            let now = began + Duration::from_millis(50 * tick);
            settled += if tick <= 200 { 500 } else { 5 };
            rate.record(settled, now);
            let seen = rate.per_second(settled, now);
            match tick {
                10..=200 => assert_eq!(seen.round(), 10_000.0, "{tick}"),
                201..400 => assert!(seen < 10_000.0, "{tick}"),
                _ => {}
            }
        }
        let end = began + Duration::from_secs(20);
        assert!((99.0..150.0).contains(&rate.per_second(settled, end)), "{}", rate.per_second(settled, end));
        assert!(rate.samples.len() <= 42, "{}", rate.samples.len());
    }

    #[test]
    fn the_total_is_an_estimate_within_its_bounds() {
        let of = |bytes, rows| SourceSize { bytes, rows };
        assert_eq!(of(None, None).total(10, 100), None, "a stream");
        assert_eq!(of(Some(1000), None).total(0, 0), None, "nothing read yet");
        assert_eq!(of(Some(1000), None).total(10, 100), Some(100));
        assert_eq!(of(Some(1000), Some(30)).total(10, 100), Some(30));
        assert_eq!(of(Some(50), None).total(10, 100), Some(10), "a file that grew is no less than was read");
    }
}
