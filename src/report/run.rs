//! One run in detail: its summary, how it went over time, what went wrong and what it was details.
//!
//! The JSON names are what scripts rely on: those of `--summary-json`, and more beside them.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::{
    Summary, changed_list,
    kinds::{Kind, kinds},
};
use crate::ledger::{Latencies, RunDetails, RunRecord, RunState, Sample, Setting, condensed};

/// One run in detail.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    #[serde(flatten)]
    pub(super) summary: Summary<'a>,
    pub(super) command: &'a str,
    pub(super) base_url: Option<&'a str>,
    pub(super) merchant_id: Option<&'a str>,
    /// RFC 3339.
    pub(super) started_at: String,
    pub(super) ended_at: Option<String>,
    pub(super) latency_ms: Percentiles,
    /// The first lines whose reference the API spells in another way, with its spelling.
    pub(super) respelled_lines: &'a [(u64, String)],
    pub(super) errors: Vec<Kind>,
    /// Rows without an id that are in none of the kinds: settled by a later run since, or of kinds that are
    /// too many to be details.
    pub(super) errors_not_shown: u64,
    pub(super) samples: Vec<Point>,
    pub(super) options: &'a [Setting],
    #[serde(skip)]
    pub(super) over_time: &'a [Sample],
}

/// Milliseconds that half, 95 and 99 of a hundred requests did not exceed.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50: Option<f64>,
    pub(super) p95: Option<f64>,
    pub(super) p99: Option<f64>,
}

impl Percentiles {
    pub(super) fn of(latencies: &Latencies) -> Percentiles {
        // Finer than a class is would be a lie.
        let millis = |time: Duration| (time.as_secs_f64() * 1e4).round() / 10.0;
        let at = |share| latencies.percentile(share).map(millis);
        Percentiles { p50: at(0.5), p95: at(0.95), p99: at(0.99) }
    }
}

/// A sample as JSON has it.
#[derive(Debug, Serialize)]
pub(super) struct Point {
    from_seconds: f64,
    to_seconds: f64,
    succeeded: u64,
    faulty: u64,
    failed: u64,
    requests: u64,
    retries: u64,
    throttled: u64,
    in_flight: u64,
    held_rate: Option<f64>,
    latency_ms: Percentiles,
}

impl Point {
    fn of(sample: &Sample) -> Point {
        Point {
            from_seconds: sample.from.as_secs_f64(),
            to_seconds: sample.to.as_secs_f64(),
            succeeded: sample.succeeded,
            faulty: sample.faulty,
            failed: sample.failed,
            requests: sample.figures.requests,
            retries: sample.figures.retries,
            throttled: sample.figures.throttled,
            in_flight: sample.in_flight,
            held_rate: sample.held_rate,
            latency_ms: Percentiles::of(&sample.latencies),
        }
    }
}

impl<'a> Report<'a> {
    /// The report of a run; `now` in UTC milliseconds.
    pub fn new(details: &'a RunDetails, now: i64) -> Report<'a> {
        let RunDetails {
            target,
            run,
            settings,
            samples,
            groups,
            dropped,
            differences: (changed, absent),
            existing,
            respelled,
        } = details;
        let elapsed = elapsed(run, samples, now);
        let exit_code = run.exit_code.and_then(|code| u8::try_from(code).ok());
        let ends = (run.state, exit_code, run.stop_reason.as_deref());
        let summary =
            Summary::new(run.run, ends, &run.source, (&run.tally, dropped), &run.request_counts, elapsed);
        let grouped: u64 = groups.iter().map(|group| group.rows).sum();
        Report {
            summary: Summary {
                held_rate: samples.last().and_then(|last| last.held_rate),
                changed_fields: changed_list(changed),
                absent: *absent,
                ..summary.with_existing(existing)
            },
            command: &run.command,
            base_url: target.as_ref().map(|target| target.base_url.as_str()),
            merchant_id: target.as_ref().map(|target| target.merchant_id.as_str()),
            started_at: rfc3339(run.started_at),
            ended_at: run.ended_at.map(rfc3339),
            latency_ms: whole(samples).map_or_else(
                || Percentiles::of(&Latencies::default()),
                |all| Percentiles::of(&all.latencies),
            ),
            respelled_lines: respelled,
            errors: kinds(groups),
            errors_not_shown: run.tally.sum(|outcome| !outcome.is_success()).saturating_sub(grouped),
            samples: samples.iter().map(Point::of).collect(),
            options: settings,
            over_time: samples,
        }
    }

    /// The options that were given, which is what one looks for first.
    pub(super) fn given(&self) -> impl Iterator<Item = &Setting> {
        self.options.iter().filter(|setting| setting.origin != "default")
    }
}

/// The whole run as one sample.
fn whole(samples: &[Sample]) -> Option<Sample> {
    condensed(samples, 1).pop()
}

/// How long the run took. When a dead one ended nobody knows but its samples: the ledger has the time at
/// which the next run found it.
fn elapsed(run: &RunRecord, samples: &[Sample], now: i64) -> Duration {
    let seen = samples.last().map_or(Duration::ZERO, |last| last.to);
    let until = match (run.state, run.ended_at, run.exit_code) {
        (RunState::Running, ..) => now,
        (_, Some(ended_at), Some(_)) => ended_at,
        _ => return seen,
    };
    Duration::from_millis(u64::try_from(until.saturating_sub(run.started_at)).unwrap_or(0))
}

/// A time as `2020-03-17T14:16:31Z`, from UTC milliseconds. Bounded: what another program wrote into the
/// ledger may be any number, and the year has four digits.
pub(super) fn rfc3339(milliseconds: i64) -> String {
    const LAST: u64 = 253_402_300_799_000;
    let since = Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default().min(LAST));
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since).to_string()
}
