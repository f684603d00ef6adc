//! Takes the samples of a run over time and passes them to the ledger.
//!
//! When there is no room for another sample, neighbors are joined and the interval doubles, so that a run of a second
//! and a run of a week both have hundreds. Time is counted from the beginning of the run, so setting the clock back
//! has no effect.
//!
//! Samples are written with commits that are made anyway; they get a commit of their own only while nothing else is
//! committed.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    latency::Latencies,
    ledger::{Ledger, Outcome, OutcomeClass, RequestCounts, Sample, Tally, condensed, sustained_rate},
    sender::Sender,
};

/// 300 to 600 samples draw a curve on any screen; with their latencies they take some 100 KB per run.
const SAMPLES_MAX: usize = 600;

/// The first interval; a run of ten seconds has fifty samples.
const INTERVAL_FIRST: Duration = Duration::from_millis(200);

/// The samples of a run.
pub(super) struct Timeline {
    began: Instant,
    series: SampleSeries,
}

impl Timeline {
    pub(super) fn new() -> Timeline {
        Timeline { began: Instant::now(), series: SampleSeries::default() }
    }

    /// Takes a sample if one is due.
    pub(super) fn sample(&mut self, tally: Tally, sender: &Sender) {
        let now = self.began.elapsed();
        if self.series.is_due(now) {
            self.series.take(now, CumulativeCounts::now(tally, sender));
        }
    }

    /// Takes the last sample.
    pub(super) fn end(&mut self, tally: Tally, sender: &Sender) {
        self.series.end(self.began.elapsed(), CumulativeCounts::now(tally, sender));
    }

    /// The rate that the run has sustained below a limit of the API.
    pub(super) fn sustained_rate(&self) -> Option<f64> {
        sustained_rate(&self.series.samples)
    }

    /// Whether samples have waited so long that they need a commit of their own.
    pub(super) fn is_overdue(&self) -> bool {
        self.series.is_overdue()
    }

    /// Passes new samples to the ledger, to be written with its next commit.
    pub(super) fn write_to(&mut self, ledger: &mut Ledger) {
        if let Some((from, samples)) = self.series.unwritten() {
            ledger.add_samples(from, samples);
        }
    }
}

/// Counts since the run began.
#[derive(Clone, Debug, Default)]
struct CumulativeCounts {
    /// Rows by outcome.
    tally: Tally,
    requests: RequestCounts,
    /// The latencies of these requests.
    latencies: Latencies,
    /// Requests in flight now.
    in_flight: u64,
    /// The rate held currently.
    held_rate: Option<f64>,
}

impl CumulativeCounts {
    fn now(tally: Tally, sender: &Sender) -> CumulativeCounts {
        let throttle = sender.throttle();
        CumulativeCounts {
            tally,
            requests: sender.request_counts(),
            latencies: sender.api_metrics().latencies(),
            in_flight: throttle.in_flight() as u64,
            held_rate: throttle.held_rate(),
        }
    }
}

/// At most [`SAMPLES_MAX`] samples, whatever the length of the run. Pure: time is the time since the run began.
#[derive(Debug)]
struct SampleSeries {
    samples: Vec<Sample>,
    interval: Duration,
    /// How many samples the ledger has in their current form.
    written: usize,
    until: Duration,
    last: CumulativeCounts,
}

impl Default for SampleSeries {
    fn default() -> SampleSeries {
        let (samples, until, last) = (Vec::new(), Duration::ZERO, CumulativeCounts::default());
        SampleSeries { samples, interval: INTERVAL_FIRST, written: 0, until, last }
    }
}

impl SampleSeries {
    /// Whether a sample is due. A tick that comes slightly early counts, or the interval would double.
    fn is_due(&self, now: Duration) -> bool {
        now >= self.until + self.interval.mul_f64(0.9)
    }

    /// Takes a sample.
    fn take(&mut self, now: Duration, counts: CumulativeCounts) {
        if self.samples.len() >= SAMPLES_MAX {
            self.samples = condensed(&self.samples, SAMPLES_MAX / 2);
            self.interval *= 2;
            self.written = 0;
        }
        self.samples.push(self.since_last(now, &counts));
        self.until = now;
        self.last = counts;
    }

    /// Takes the last sample at the end of the run. A short one is joined with the sample before it: three rows in a
    /// few milliseconds would look like a thousand per second.
    fn end(&mut self, now: Duration, counts: CumulativeCounts) {
        let rest = self.since_last(now, &counts);
        self.until = now;
        self.last = counts;
        match self.samples.last_mut() {
            Some(before) if rest.to.saturating_sub(rest.from) < self.interval / 2 => {
                before.join(&rest);
                self.written = self.written.min(self.samples.len() - 1);
            }
            None if rest.is_idle() => {}
            _ => self.samples.push(rest),
        }
    }

    /// The samples that the ledger does not have, with the index of the first: they replace all from that index on.
    /// Marks them as written.
    fn unwritten(&mut self) -> Option<(usize, Vec<Sample>)> {
        let from = std::mem::replace(&mut self.written, self.samples.len());
        let samples = self.samples.get(from..).filter(|samples| !samples.is_empty())?;
        Some((from, samples.to_vec()))
    }

    /// Whether a sample has waited for a whole interval, which means that nothing else is committed. A sample that
    /// was just taken waits for the next commit: a commit of its own would delay the claims after it.
    fn is_overdue(&self) -> bool {
        self.samples.len() - self.written > 1
    }

    fn since_last(&self, now: Duration, counts: &CumulativeCounts) -> Sample {
        let grown = |of: fn(Outcome) -> bool| counts.tally.sum(of).saturating_sub(self.last.tally.sum(of));
        let (requests, before) = (counts.requests, self.last.requests);
        Sample {
            from: self.until,
            to: now.max(self.until),
            succeeded: grown(Outcome::is_success),
            faulty: grown(Outcome::is_to_correct),
            failed: grown(|outcome| outcome.class() == OutcomeClass::Failed),
            request_counts: RequestCounts {
                requests: requests.requests.saturating_sub(before.requests),
                retries: requests.retries.saturating_sub(before.retries),
                throttled: requests.throttled.saturating_sub(before.throttled),
            },
            in_flight: counts.in_flight,
            held_rate: counts.held_rate,
            latencies: counts.latencies.since(&self.last.latencies),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = INTERVAL_FIRST;

    fn counts(requests: u64) -> CumulativeCounts {
        let latencies = Latencies::from_counts([(100, requests)]);
        let (retries, throttled, in_flight) = (requests / 2, requests / 4, requests % 7);
        let requests = RequestCounts { requests, retries, throttled };
        CumulativeCounts { requests, latencies, in_flight, ..CumulativeCounts::default() }
    }

    /// Takes samples for this many ticks and writes them in between; returns the samples that the ledger then has.
    fn ledger_after(ticks: u32) -> (SampleSeries, Vec<Sample>) {
        let (mut series, mut ledger) = (SampleSeries::default(), Vec::new());
        for tick in 1..=ticks {
            let now = TICK * tick;
            if series.is_due(now) {
                series.take(now, counts(u64::from(tick)));
            }
            if let Some((from, samples)) = series.unwritten() {
                ledger.truncate(from);
                ledger.extend(samples);
            }
        }
        (series, ledger)
    }

    #[test]
    fn however_long_a_run_is_its_samples_are_few_and_add_up() {
        for ticks in [1, 2, 599, 600, 601, 1201, 5_000, 100_000] {
            let (series, ledger) = ledger_after(ticks);
            assert_eq!(ledger, series.samples, "the ledger has what the run has, {ticks}");
            assert!(ledger.len() <= SAMPLES_MAX, "{ticks}: {}", ledger.len());
            assert!(ticks < 300 || ledger.len() >= SAMPLES_MAX / 2 - 1, "{ticks}: {}", ledger.len());
            assert!(ledger.windows(2).all(|pair| pair[0].to == pair[1].from), "{ticks}: no gaps");
            let mut series = series;
            series.end(TICK * ticks, counts(u64::from(ticks)));
            let requests: u64 = series.samples.iter().map(|sample| sample.request_counts.requests).sum();
            let counted: u64 =
                series.samples.iter().flat_map(|sample| sample.latencies.counts()).map(|(_, n)| n).sum();
            assert_eq!((requests, counted), (u64::from(ticks), u64::from(ticks)));
        }
    }

    #[test]
    fn the_end_is_no_peak() {
        let mut series = SampleSeries::default();
        series.end(Duration::from_millis(5), CumulativeCounts::default());
        assert_eq!(series.unwritten(), None, "nothing happened");

        let mut series = SampleSeries::default();
        series.end(Duration::from_millis(5), counts(3));
        assert_eq!(series.unwritten().unwrap().1.len(), 1, "a short run has one");

        let mut series = SampleSeries::default();
        series.take(TICK, counts(3));
        assert!(!series.is_overdue(), "the next commit takes it along");
        assert_eq!(series.unwritten().unwrap().1.len(), 1);
        series.end(TICK + Duration::from_millis(5), counts(6));
        let (from, samples) = series.unwritten().unwrap();
        assert_eq!((from, samples.len(), samples[0].request_counts.requests), (0, 1, 6), "the last one anew");
        series.end(TICK * 3, counts(9));
        assert_eq!(series.unwritten().unwrap().0, 1);
    }

    #[test]
    fn what_no_commit_takes_along_is_overdue() {
        let mut series = SampleSeries::default();
        series.take(TICK, counts(1));
        series.take(TICK * 2, counts(1));
        assert!(series.is_overdue());
        assert!(series.unwritten().is_some() && !series.is_overdue());
    }

    #[test]
    fn a_tick_that_is_early_counts() {
        let mut series = SampleSeries::default();
        assert!(!series.is_due(TICK / 2));
        assert!(series.is_due(TICK - Duration::from_millis(5)));
        series.take(TICK - Duration::from_millis(5), counts(1));
        assert!(!series.is_due(TICK) && series.is_due(TICK * 2));
    }

    #[test]
    fn condensing_keeps_sums_and_order() {
        let (_, ledger) = ledger_after(500);
        for most in [1, 2, 7, 120, 499, 500, 501, 0] {
            let few = condensed(&ledger, most);
            assert!(few.len() <= most.max(1), "{most}: {}", few.len());
            assert_eq!(few.iter().map(|sample| sample.request_counts.retries).sum::<u64>(), 250);
            assert_eq!((few[0].from, few[few.len() - 1].to), (Duration::ZERO, TICK * 500));
        }
        assert!(condensed(&[], 5).is_empty());
    }
}
