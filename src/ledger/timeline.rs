//! A run over time: cumulative counts, looked at now and then → a bounded number of samples.
//!
//! Pure: time comes in as the time since the run began, so that a clock that is set back bends no curve.
//! Promises: at most [`SAMPLES_MAX`] samples whatever the run's length. When there is no room for another,
//! neighbours are joined and the interval doubles, so a run of a second and one of a week both have
//! hundreds. Latencies are kept as counts by length, not as percentiles, since only counts can be joined.

use std::time::Duration;

use histogram::{AtomicHistogram, Config, Quantile, SparseHistogram};

use super::model::{Outcome, OutcomeClass, RequestCounts, Tally};

/// Between 300 and 600 of them draw a curve on any screen; with their latencies some 100 KB a run.
const SAMPLES_MAX: usize = 600;

/// The first interval; a run of ten seconds has fifty samples.
const INTERVAL_FIRST: Duration = Duration::from_millis(200);

/// Buckets of latencies in microseconds: eight to each doubling, so a percentile is right to 7 %, up to the hour that
/// fits 32 bits. The ledger stores counts by the index of the bucket, so this is part of its format.
const BUCKETS: Config = match Config::new(3, 32) {
    Ok(buckets) => Some(buckets),
    Err(_) => None,
}
.expect("eight is less than 32 bits");

/// Latencies of the requests of a whole run, counted as they end: one atomic addition for each, without a lock.
pub(crate) struct LatencyRecorder(AtomicHistogram);

impl Default for LatencyRecorder {
    fn default() -> LatencyRecorder {
        LatencyRecorder(AtomicHistogram::with_config(&BUCKETS))
    }
}

impl LatencyRecorder {
    /// Counts one; whatever is longer than the last bucket counts in it.
    pub(crate) fn record(&self, latency: Duration) {
        let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        let recorded = self.0.increment(u64::from(micros));
        debug_assert!(recorded.is_ok(), "32 bits are in range");
    }

    /// All latencies so far.
    pub(crate) fn snapshot(&self) -> Latencies {
        Latencies(SparseHistogram::from(&self.0.load()))
    }
}

/// Counts of latencies by length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latencies(SparseHistogram);

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies(SparseHistogram::with_config(&BUCKETS))
    }
}

impl Latencies {
    /// From counts by index, in ascending order. Indices that do not exist are left out: a ledger may be damaged.
    pub fn from_counts(counts: impl IntoIterator<Item = (u16, u64)>) -> Latencies {
        let valid = counts
            .into_iter()
            .filter(|(index, count)| usize::from(*index) < BUCKETS.total_buckets() && *count > 0);
        let (indices, counts) = valid.map(|(index, count)| (u32::from(index), count)).unzip();
        SparseHistogram::from_parts(BUCKETS, indices, counts).map_or_else(|_| Latencies::default(), Latencies)
    }

    /// Index and count, the shortest first, without zeros.
    pub fn counts(&self) -> impl Iterator<Item = (u16, u64)> {
        self.0.index().iter().zip(self.0.count()).map(|(index, count)| (*index as u16, *count))
    }

    /// The duration that this share of all does not exceed: the middle of its bucket. `None` if there are none.
    pub fn percentile(&self, share: f64) -> Option<Duration> {
        let found = self.0.quantile(share).ok()??;
        let bucket = found.get(&Quantile::new(share).ok()?)?;
        Some(Duration::from_nanos((bucket.start() + bucket.end() + 1) * 500))
    }

    fn add(&mut self, other: &Latencies) {
        if let Ok(sum) = self.0.wrapping_add(&other.0) {
            self.0 = sum;
        }
    }

    fn since(&self, earlier: &Latencies) -> Latencies {
        self.0.checked_sub(&earlier.0).map_or_else(|_| Latencies::default(), Latencies)
    }
}

/// What happened in one interval.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Since the run began.
    pub from: Duration,
    /// Since the run began.
    pub to: Duration,
    /// Rows settled as created, existing, unchanged, changed or updated.
    pub succeeded: u64,
    /// Rows settled as duplicate, invalid or rejected: they have to be corrected.
    pub faulty: u64,
    /// Rows settled as failed: they may pass another time.
    pub failed: u64,
    /// What was sent.
    pub figures: RequestCounts,
    /// The most requests in flight that were seen.
    pub in_flight: u64,
    /// The rate held under a limit that nobody told, at its end.
    pub held_rate: Option<f64>,
    /// How long requests took that ended in it.
    pub latencies: Latencies,
}

impl Sample {
    /// Seconds; never zero, so that it can be divided by.
    pub fn seconds(&self) -> f64 {
        (self.to.saturating_sub(self.from)).as_secs_f64().max(0.001)
    }

    /// Rows settled.
    pub fn rows(&self) -> u64 {
        self.succeeded + self.faulty + self.failed
    }

    fn is_idle(&self) -> bool {
        self.rows() == 0 && self.figures == RequestCounts::default()
    }

    /// Takes in the next one.
    fn join(&mut self, next: &Sample) {
        self.to = next.to;
        self.succeeded += next.succeeded;
        self.faulty += next.faulty;
        self.failed += next.failed;
        self.figures.requests += next.figures.requests;
        self.figures.retries += next.figures.retries;
        self.figures.throttled += next.figures.throttled;
        self.in_flight = self.in_flight.max(next.in_flight);
        self.held_rate = next.held_rate;
        self.latencies.add(&next.latencies);
    }
}

/// The samples with neighbours joined, until there are no more than so many.
pub(crate) fn condensed(samples: &[Sample], most: usize) -> Vec<Sample> {
    let joined = |group: &[Sample]| {
        let (first, rest) = group.split_first()?;
        let mut joined = first.clone();
        rest.iter().for_each(|next| joined.join(next));
        Some(joined)
    };
    samples.chunks(samples.len().div_ceil(most.max(1)).max(1)).filter_map(joined).collect()
}

/// Where a run stands: counts since it began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// Rows by outcome.
    pub tally: Tally,
    /// Requests.
    pub figures: RequestCounts,
    /// How long they took.
    pub latencies: Latencies,
    /// Requests in flight now.
    pub in_flight: u64,
    /// The rate held now.
    pub held_rate: Option<f64>,
}

/// Samples that are not in the ledger yet. They stand in for all from the first of them on.
#[derive(Clone, Debug, PartialEq)]
pub struct Unwritten {
    /// The number of the first.
    pub from: usize,
    /// They, in order.
    pub samples: Vec<Sample>,
}

/// The samples of one run, as it goes on.
#[derive(Debug)]
pub(crate) struct Series {
    samples: Vec<Sample>,
    interval: Duration,
    /// How many of them are in the ledger as they are here.
    written: usize,
    until: Duration,
    last: Standing,
}

impl Default for Series {
    fn default() -> Series {
        let (samples, until, last) = (Vec::new(), Duration::ZERO, Standing::default());
        Series { samples, interval: INTERVAL_FIRST, written: 0, until, last }
    }
}

impl Series {
    /// Whether it is time for a sample; a little early is time too, or a tick that comes early would be
    /// passed by and its interval be as long as two.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        now >= self.until + self.interval.mul_f64(0.9)
    }

    /// Takes a sample.
    pub(crate) fn take(&mut self, now: Duration, standing: Standing) {
        if self.samples.len() >= SAMPLES_MAX {
            self.samples = condensed(&self.samples, SAMPLES_MAX / 2);
            self.interval *= 2;
            self.written = 0;
        }
        self.samples.push(self.since_last(now, &standing));
        (self.until, self.last) = (now, standing);
    }

    /// Takes what is left at the end of the run. What is short goes with the sample before it: over a few
    /// milliseconds three rows would look like a thousand in a second.
    pub(crate) fn end(&mut self, now: Duration, standing: Standing) {
        let rest = self.since_last(now, &standing);
        (self.until, self.last) = (now, standing);
        match self.samples.last_mut() {
            Some(before) if rest.to.saturating_sub(rest.from) < self.interval / 2 => {
                before.join(&rest);
                self.written = self.written.min(self.samples.len() - 1);
            }
            None if rest.is_idle() => {}
            _ => self.samples.push(rest),
        }
    }

    /// What the ledger does not have yet; from now on it counts as written.
    pub(crate) fn unwritten(&mut self) -> Option<Unwritten> {
        let from = std::mem::replace(&mut self.written, self.samples.len());
        let samples = self.samples.get(from..).filter(|samples| !samples.is_empty())?;
        Some(Unwritten { from, samples: samples.to_vec() })
    }

    /// Whether a sample has waited for a whole interval, so that no commit is made for anything else. One
    /// that has just been taken waits for the next commit: one of its own would hold up the claims behind it.
    pub(crate) fn is_overdue(&self) -> bool {
        self.samples.len() - self.written > 1
    }

    fn since_last(&self, now: Duration, standing: &Standing) -> Sample {
        let grown = |of: fn(Outcome) -> bool| standing.tally.sum(of).saturating_sub(self.last.tally.sum(of));
        let (figures, before) = (standing.figures, self.last.figures);
        Sample {
            from: self.until,
            to: now.max(self.until),
            succeeded: grown(Outcome::is_success),
            faulty: grown(|outcome| outcome.class() == OutcomeClass::ToCorrect),
            failed: grown(|outcome| outcome.class() == OutcomeClass::Failed),
            figures: RequestCounts {
                requests: figures.requests.saturating_sub(before.requests),
                retries: figures.retries.saturating_sub(before.retries),
                throttled: figures.throttled.saturating_sub(before.throttled),
            },
            in_flight: standing.in_flight,
            held_rate: standing.held_rate,
            latencies: standing.latencies.since(&self.last.latencies),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = INTERVAL_FIRST;

    fn standing(requests: u64) -> Standing {
        let latencies = latencies([(TICK, requests)]);
        let figures = RequestCounts { requests, retries: requests / 2, throttled: requests / 4 };
        Standing { figures, latencies, in_flight: requests % 7, ..Standing::default() }
    }

    /// A run of so many ticks, written as it goes on; what the ledger then has.
    fn ledger_after(ticks: u32) -> (Series, Vec<Sample>) {
        let (mut series, mut ledger) = (Series::default(), Vec::new());
        for tick in 1..=ticks {
            let now = TICK * tick;
            if series.is_due(now) {
                series.take(now, standing(u64::from(tick)));
            }
            if let Some(Unwritten { from, samples }) = series.unwritten() {
                ledger.truncate(from);
                ledger.extend(samples);
            }
        }
        (series, ledger)
    }

    /// Each of these latencies so many times.
    fn latencies(all: impl IntoIterator<Item = (Duration, u64)>) -> Latencies {
        let mut sum = Latencies::default();
        for (latency, count) in all {
            let recorder = LatencyRecorder::default();
            recorder.record(latency);
            let counts =
                recorder.snapshot().counts().map(|(index, one)| (index, one * count)).collect::<Vec<_>>();
            sum.add(&Latencies::from_counts(counts));
        }
        sum
    }

    /// The indices are those of ledgers that exist.
    #[test]
    fn a_bucket_holds_what_it_says() {
        let mut last = 0;
        for micros in (0..100_000).chain((17..32).map(|doubling| (1 << doubling) - 1)) {
            let duration = Duration::from_micros(micros);
            let recorded = latencies([(duration, 1)]);
            let (index, _) = recorded.counts().next().unwrap();
            let off = (recorded.percentile(0.5).unwrap().as_secs_f64() - duration.as_secs_f64()).abs();
            assert!(off <= 0.07 * duration.as_secs_f64() + 0.6e-6, "{micros} µs is off by {off}");
            assert!(index == last || index == last + 1 || micros >= 100_000 && index > last, "{micros}");
            last = index;
        }
        let first_indices = [0, 1, 7, 8, 15, 16, 17, 18, 1_000].map(Duration::from_micros);
        let indices = first_indices.map(|latency| latencies([(latency, 1)]).counts().next().unwrap().0);
        assert_eq!(indices, [0, 1, 7, 8, 15, 16, 16, 17, 63]);
        assert_eq!(latencies([(Duration::MAX, 1)]).counts().next(), Some((239, 1)));
        assert_eq!(
            Latencies::from_counts([(u16::MAX, 1)]),
            Latencies::default(),
            "a hostile ledger is no panic"
        );
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_list() {
        let millis = Duration::from_millis;
        let latencies = latencies([(millis(10), 98), (millis(1000), 1), (millis(5000), 1)]);
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
    fn however_long_a_run_is_its_samples_are_few_and_add_up() {
        for ticks in [1, 2, 599, 600, 601, 1201, 5_000, 100_000] {
            let (series, ledger) = ledger_after(ticks);
            assert_eq!(ledger, series.samples, "the ledger has what the run has, {ticks}");
            assert!(ledger.len() <= SAMPLES_MAX, "{ticks}: {}", ledger.len());
            assert!(ticks < 300 || ledger.len() >= SAMPLES_MAX / 2 - 1, "{ticks}: {}", ledger.len());
            assert!(ledger.windows(2).all(|pair| pair[0].to == pair[1].from), "{ticks}: no gaps");
            let mut series = series;
            series.end(TICK * ticks, standing(u64::from(ticks)));
            let requests: u64 = series.samples.iter().map(|sample| sample.figures.requests).sum();
            let counted: u64 =
                series.samples.iter().flat_map(|sample| sample.latencies.counts()).map(|(_, n)| n).sum();
            assert_eq!((requests, counted), (u64::from(ticks), u64::from(ticks)));
        }
    }

    #[test]
    fn the_end_is_no_peak() {
        let mut series = Series::default();
        series.end(Duration::from_millis(5), Standing::default());
        assert_eq!(series.unwritten(), None, "nothing happened");

        let mut series = Series::default();
        series.end(Duration::from_millis(5), standing(3));
        assert_eq!(series.unwritten().unwrap().samples.len(), 1, "a short run has one");

        let mut series = Series::default();
        series.take(TICK, standing(3));
        assert!(!series.is_overdue(), "the next commit takes it along");
        assert_eq!(series.unwritten().unwrap().samples.len(), 1);
        series.end(TICK + Duration::from_millis(5), standing(6));
        let Unwritten { from, samples } = series.unwritten().unwrap();
        assert_eq!((from, samples.len(), samples[0].figures.requests), (0, 1, 6), "the last one anew");
        series.end(TICK * 3, standing(9));
        assert_eq!(series.unwritten().unwrap().from, 1);
    }

    #[test]
    fn what_no_commit_takes_along_is_overdue() {
        let mut series = Series::default();
        series.take(TICK, standing(1));
        series.take(TICK * 2, standing(1));
        assert!(series.is_overdue());
        assert!(series.unwritten().is_some() && !series.is_overdue());
    }

    #[test]
    fn a_tick_that_is_early_counts() {
        let mut series = Series::default();
        assert!(!series.is_due(TICK / 2));
        assert!(series.is_due(TICK - Duration::from_millis(5)));
        series.take(TICK - Duration::from_millis(5), standing(1));
        assert!(!series.is_due(TICK) && series.is_due(TICK * 2));
    }

    #[test]
    fn condensing_keeps_sums_and_order() {
        let (_, ledger) = ledger_after(500);
        for most in [1, 2, 7, 120, 499, 500, 501, 0] {
            let few = condensed(&ledger, most);
            assert!(few.len() <= most.max(1), "{most}: {}", few.len());
            assert_eq!(few.iter().map(|sample| sample.figures.retries).sum::<u64>(), 250);
            assert_eq!((few[0].from, few[few.len() - 1].to), (Duration::ZERO, TICK * 500));
        }
        assert!(condensed(&[], 5).is_empty());
    }
}
