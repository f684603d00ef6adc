//! Renders the figures of runs as text, JSON and HTML.
//!
//! Every figure is a committed count. Texts fit 80 columns and contain no customer's field. Never accesses files, the
//! network or the terminal: `cli` prints.

mod format;

mod summary;

mod error_summary;

mod history;

mod history_page;

mod run_timeline;

mod shares;

mod headline;

mod redact;

mod rescue;

mod text;

mod chart;

mod html;

mod live_status;

mod status;

mod validation;

mod verification;

mod mapping;

mod plan;

use std::time::Duration;

use serde::Serialize;

pub use self::{
    error_summary::ErrorSummary,
    format::{
        counted, date, grouped, requests, rfc3339, row_count, rows, time, visible_text, wrap_parts,
        wrap_words,
    },
    history::{History, history_text},
    history_page::history_html,
    html::report_html,
    live_status::{LiveRun, LiveStatus, progress_line, progress_lines},
    mapping::{
        ColumnWarning, MappedField, column_warnings, mapped_fields, mapping_lines, short_name, unused_columns,
    },
    plan::{AskedToReport, PlanSummary, PlanToReport, asking_words, plan_text},
    status::{Status, old_transaction_text, status_text, workers_text},
    summary::{
        AdjustedRows, End, RunContext, SourceReading, Summary, adjusted_list, changed_list, dropped_list,
        pruned_text, run_table,
    },
    text::report_text,
    validation::{ValidationSummary, validation_text},
    verification::{Verification, VerificationSummary, verification_table, verification_words},
};
use self::{
    error_summary::errors_of,
    headline::Standing,
    rescue::{RescueJson, rescue_list},
};
use crate::{
    customer::Rescue,
    latency::Latencies,
    ledger::{RunDetails, RunState, Sample, Setting, SettingOrigin, Tally, condensed, sustained_rate},
};

/// One run in detail.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// The state of the import in one or two sentences.
    headline: String,
    #[serde(flatten)]
    summary: Summary<'a>,
    command: &'a str,
    base_url: Option<&'a str>,
    merchant_id: Option<&'a str>,
    /// RFC 3339.
    started_at: String,
    ended_at: Option<String>,
    latency_ms: Percentiles,
    /// The first lines whose reference the API spells differently, with its spelling.
    respelled_lines: &'a [(u64, String)],
    errors: Vec<ErrorSummary>,
    errors_not_shown: u64,
    /// What each option that was not given would make of the invalid rows.
    rescue: Vec<RescueJson>,
    samples: Vec<SampleJson>,
    options: &'a [Setting],
    /// The current status, while the run is in progress.
    live: Option<LiveStatus>,
    #[serde(skip)]
    tally: &'a Tally,
    #[serde(skip)]
    over_time: &'a [Sample],
}

/// Latency percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Percentiles {
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

impl Percentiles {
    fn of(latencies: &Latencies) -> Percentiles {
        // Rounded to the precision of the histogram.
        let millis = |time: Duration| (time.as_secs_f64() * 1e4).round() / 10.0;
        let at = |share| latencies.percentile(share).map(millis);
        Percentiles { p50: at(0.5), p95: at(0.95), p99: at(0.99) }
    }
}

/// A sample in the JSON report.
#[derive(Debug, Serialize)]
struct SampleJson {
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

impl SampleJson {
    fn of(sample: &Sample) -> SampleJson {
        SampleJson {
            from_seconds: sample.from.as_secs_f64(),
            to_seconds: sample.to.as_secs_f64(),
            succeeded: sample.succeeded,
            faulty: sample.faulty,
            failed: sample.failed,
            requests: sample.request_counts.requests,
            retries: sample.request_counts.retries,
            throttled: sample.request_counts.throttled,
            in_flight: sample.in_flight,
            held_rate: sample.held_rate,
            latency_ms: Percentiles::of(&sample.latencies),
        }
    }
}

impl<'a> Report<'a> {
    /// Builds the report of a run; `rescues` says what options would make of its invalid rows, `now` is in UTC
    /// milliseconds.
    pub fn new(details: &'a RunDetails, rescues: &[Rescue], now: i64) -> Report<'a> {
        let RunDetails {
            target,
            run,
            settings,
            samples,
            groups,
            invalid,
            heartbeat,
            dropped,
            changed,
            absent,
            existing,
            respelled,
        } = details;
        let elapsed = run.duration(now).or(run.sampled).unwrap_or_default();
        let exit_code = run.exit_code.and_then(|code| u8::try_from(code).ok());
        let end = End { state: run.state, exit_code, stop_reason: run.stop_reason.as_deref() };
        let summary = Summary::new(run.run, end, &run.source, &run.tally, &run.request_counts, elapsed);
        let errors = errors_of(&run.tally, run.state == RunState::Running, groups, invalid, rescues);
        let live = heartbeat.as_ref().map(|last| LiveRun::new(run, last, now).status());
        let standing = Standing {
            command: &run.command,
            state: run.state,
            tally: &run.tally,
            errors: &errors.list,
            characters: &invalid.characters,
            live: live.as_ref(),
            is_of_ledger: false,
        };
        Report {
            headline: standing.headline(),
            summary: Summary {
                dropped: dropped_list(dropped),
                held_rate: sustained_rate(samples),
                changed_fields: changed_list(changed),
                absent: *absent,
                ..summary.with_existing(existing)
            },
            command: &run.command,
            base_url: target.as_ref().map(|target| target.base_url.as_str()),
            merchant_id: target.as_ref().map(|target| target.merchant_id.as_str()),
            started_at: rfc3339(run.started_at),
            ended_at: run.ended_at.map(rfc3339),
            latency_ms: Percentiles::of(&condensed(samples, 1).pop().unwrap_or_default().latencies),
            respelled_lines: respelled,
            errors: errors.list,
            errors_not_shown: errors.rows_not_shown,
            rescue: rescue_list(rescues),
            live,
            samples: samples.iter().map(SampleJson::of).collect(),
            options: settings,
            tally: &run.tally,
            over_time: samples,
        }
    }

    /// When the run began: `2026-11-28 07:12:31 UTC`.
    fn began(&self) -> String {
        self.started_at.replace('T', " ").replace('Z', " UTC")
    }

    /// The options that were set explicitly.
    fn given(&self) -> impl Iterator<Item = &Setting> {
        self.options.iter().filter(|setting| setting.origin != SettingOrigin::Default)
    }
}
