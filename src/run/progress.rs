//! The progress of a run: one [`RunSnapshot`] for the terminal, the metrics and the heartbeat in the ledger.
//!
//! All three show the same figures because only this module computes them. Counts are committed counts; requests in
//! flight and rates are current values.
//!
//! The rate is that of the last few seconds. A mean over the whole run would not show the current rate, and an outage
//! an hour ago would make the estimated time left too long.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{
    end::Totals,
    outage::{OutageLog, is_waiting},
    read_ahead::ReadAhead,
    stage::Stage,
};
use crate::{
    ledger::{Activity, CurrentRate, Heartbeat, Outcome, RateSetter, RequestCounts, Settlement, Tally},
    sender::Sender,
    throttle::Throttle,
};

/// The interval at which a heartbeat is written to the ledger.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// The window of the rate: long enough to measure a slow run, short enough to show a change.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// The interval between the samples of the rate; a fortieth of [`RATE_WINDOW`].
const RATE_SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// A pause is shown while at least this much of it is left; shorter pauses are too frequent to read.
const PAUSE_SHOWN_MIN: Duration = Duration::from_secs(1);

/// The size of a source, as far as it is known beforehand.
#[derive(Clone, Copy, Debug, Default)]
pub struct SourceSize {
    /// Bytes of the source.
    pub bytes: Option<u64>,
    /// The limit of rows to read.
    pub rows: Option<u64>,
}

impl SourceSize {
    /// An estimate of the rows in the whole source, from the rows and bytes read so far.
    fn total(&self, rows: u64, bytes: u64) -> Option<u64> {
        let size = self.bytes.filter(|_| bytes > 0 && rows > 0)?;
        let total = (rows as f64 * (size as f64 / bytes as f64)).round() as u64;
        Some(total.min(self.rows.unwrap_or(u64::MAX)).max(rows))
    }
}

/// The state of a run at one moment, for every display.
#[derive(Clone, Debug)]
pub struct RunSnapshot {
    /// Rows by outcome, of all workers of the run.
    pub tally: Tally,
    /// Requests of all workers of the run.
    pub request_counts: RequestCounts,
    /// Rate, remaining work and requests in flight.
    pub heartbeat: Heartbeat,
    /// What this process has done of it; none if another process looks at the run.
    pub part: Option<RunPart>,
}

/// What one process has done of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunPart {
    /// Rows by outcome that the process has counted.
    pub tally: Tally,
    /// Number of processes that work on the run, this one included.
    pub workers: u64,
}

/// The data from which snapshots are made.
pub(super) struct Progress {
    source_size: SourceSize,
    rate: RateMeter,
    next_heartbeat: Instant,
    outage: OutageLog,
    /// Rows in doubt.
    in_doubt: u64,
}

impl Progress {
    pub(super) fn new(source_size: SourceSize, in_doubt: usize, now: Instant) -> Progress {
        Progress {
            source_size,
            rate: RateMeter::new(now),
            next_heartbeat: now + HEARTBEAT_INTERVAL,
            outage: OutageLog::default(),
            in_doubt: in_doubt as u64,
        }
    }

    /// Whether a heartbeat is due.
    pub(super) fn is_heartbeat_due(&self, now: Instant) -> bool {
        now >= self.next_heartbeat
    }

    /// Records that a heartbeat is about to be written.
    pub(super) fn on_heartbeat(&mut self, now: Instant) {
        self.next_heartbeat = now + HEARTBEAT_INTERVAL;
    }

    /// Updates the number of rows in doubt.
    pub(super) fn count(&mut self, settlement: &Settlement) {
        let (was, is) = (u64::from(settlement.was_in_doubt()), u64::from(settlement.is_in_doubt()));
        self.in_doubt = (self.in_doubt + is).saturating_sub(was);
    }

    /// Stores the committed counts, and logs changes of an outage.
    pub(super) fn record(&mut self, tally: &Tally, sender: &Sender, now: Instant) {
        self.rate.record(settled(tally), now);
        self.outage.observe(sender, now);
    }

    /// A snapshot of the current state.
    pub(super) fn snapshot(
        &self,
        stage: &Stage,
        totals: &Totals,
        read: &ReadAhead,
        sender: &Sender,
    ) -> RunSnapshot {
        let tally = totals.tally;
        let throttle = sender.throttle();
        let is_exact = !stage.reads_source() && !stage.is_stopping() && read.is_empty();
        let rows = tally.rows();
        let heartbeat = Heartbeat {
            activity: activity(stage, sender),
            total: if is_exact { Some(rows) } else { self.source_size.total(rows, read.bytes()) },
            is_exact,
            rows_per_second: self.rate.per_second(settled(&tally), Instant::now()),
            in_flight: throttle.in_flight() as u64,
            retrying: sender.retrying(),
            in_doubt: self.in_doubt,
            rate: current_rate(throttle),
            pauses: throttle.pauses(),
            cause: self.outage.cause(),
        };
        let request_counts = totals.shared_requests.unwrap_or_else(|| sender.request_counts());
        let part = RunPart { tally: totals.own_tally, workers: totals.other_workers + 1 };
        RunSnapshot { tally, request_counts, heartbeat, part: Some(part) }
    }
}

fn current_rate(throttle: &Throttle) -> Option<CurrentRate> {
    let set_by = |set_by| move |per_second| CurrentRate { per_second, set_by };
    let of_user = throttle.user_rate().map(set_by(RateSetter::User));
    throttle.api_rate().map(set_by(RateSetter::Api)).or(of_user)
}

fn activity(stage: &Stage, sender: &Sender) -> Activity {
    let throttle = sender.throttle();
    match () {
        () if stage.is_stopping() => Activity::Finishing,
        () if is_waiting(sender) => Activity::Waiting,
        () if throttle.pause_left() > PAUSE_SHOWN_MIN => Activity::Paused,
        () if stage.is_recovering() => Activity::Asking,
        () => Activity::Sending,
    }
}

fn settled(tally: &Tally) -> u64 {
    tally.rows() - tally.get(Outcome::Pending)
}

/// Rows per second over [`RATE_WINDOW`].
struct RateMeter {
    /// Time and number of settled rows, the oldest first; never empty.
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
        // At the start, a few rows would give an arbitrary rate.
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
