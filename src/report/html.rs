//! A report as one self-contained HTML page: it requests nothing and runs no script.
//!
//! The template `page.html` has the text and the layout. It escapes every value, and the page's policy also forbids scripts
//! and requests, because a ledger holds text from outside.

use std::time::Duration;

use askama::Template;

use super::{
    ErrorSummary, Percentiles, Report,
    chart::{Chart, CurveSpec, Scale, chart},
    format::{grouped, millis, rows, time},
    summary::{explain, remarks},
    text::{NOT_SHOWN, per_second},
};
use crate::{
    customer::visible_lines,
    error::Error,
    ledger::{Outcome, OutcomeClass, RunState, Sample, Setting, SettingOrigin, condensed},
};

/// Steps per curve: three pixels each on a phone.
const STEPS_SHOWN: usize = 120;

/// How many error groups are listed; the JSON has all of them.
const ERRORS_SHOWN: usize = 50;

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    report: &'a Report<'a>,
    state_class: &'static str,
    exit: Option<&'static str>,
    began: String,
    took: String,
    tiles: Vec<Tile>,
    outcomes: Vec<OutcomeShare>,
    remarks: Vec<String>,
    charts: Vec<ChartSection>,
    errors: &'a [ErrorSummary],
    errors_left: usize,
    not_shown: Option<String>,
    given: Vec<&'a Setting>,
    defaults: Vec<&'a Setting>,
    version: &'static str,
}

/// A headline figure.
struct Tile {
    number: String,
    label: &'static str,
    note: String,
}

/// An outcome's share of all rows.
struct OutcomeShare {
    name: &'static str,
    count: u64,
    shown: String,
    share: String,
    meaning: &'static str,
}

/// A chart with its caption; only a caption if there is nothing to draw.
struct ChartSection {
    title: &'static str,
    unit: &'static str,
    words: String,
    chart: Option<Chart>,
}

/// Renders a report as an HTML page.
///
/// # Errors
/// Only a bug of the template.
pub fn report_html(report: &Report<'_>) -> Result<String, Error> {
    let summary = &report.summary;
    let (given, defaults) =
        report.options.iter().partition(|setting| setting.origin != SettingOrigin::Default);
    let not_shown = (report.errors_not_shown > 0).then(|| rows(report.errors_not_shown));
    let page = Page {
        report,
        state_class: match summary.state {
            RunState::Completed if summary.exit_code == Some(0) => "good",
            RunState::Completed | RunState::Running => "fair",
            RunState::Interrupted | RunState::Stopped | RunState::Died => "bad",
        },
        exit: summary.exit_code.and_then(exit_in_words),
        began: report.started_at.replace('T', " ").replace('Z', " UTC"),
        took: time(Duration::from_secs_f64(summary.elapsed_seconds)),
        tiles: tiles(report),
        outcomes: outcome_shares(report),
        remarks: remarks(summary),
        charts: charts(report),
        errors: report.errors.get(..ERRORS_SHOWN).unwrap_or(&report.errors),
        errors_left: report.errors.len().saturating_sub(ERRORS_SHOWN),
        not_shown: not_shown.map(|rows| format!("{rows} more: {NOT_SHOWN}.")),
        given,
        defaults,
        version: env!("CARGO_PKG_VERSION"),
    };
    let page = page.render().map_err(|error| Error::Bug(format!("the page cannot be made ({error})")))?;
    Ok(visible_lines(&page).into_owned())
}

fn tiles(report: &Report<'_>) -> Vec<Tile> {
    let summary = &report.summary;
    let sum = |of: fn(Outcome) -> bool| {
        let counted = Outcome::ALL.into_iter().filter(|outcome| of(*outcome));
        counted.map(|outcome| summary.count(outcome)).sum::<u64>()
    };
    let succeeded = sum(Outcome::is_success);
    let faulty = sum(Outcome::is_to_correct);
    let open = sum(|outcome| matches!(outcome.class(), OutcomeClass::Failed | OutcomeClass::Pending));
    let tile = |number, label, note| Tile { number, label, note };
    let part = |count| share(count, summary.rows);
    vec![
        tile(grouped(summary.rows), "rows read", format!("in {}", time(elapsed(summary.elapsed_seconds)))),
        tile(grouped(succeeded), "succeeded", part(succeeded)),
        tile(grouped(faulty), "to correct", part(faulty)),
        tile(grouped(open), "to run again", part(open)),
        tile(grouped(summary.requests), "requests", format!("{} per second", summary.rate())),
    ]
}

fn outcome_shares(report: &Report<'_>) -> Vec<OutcomeShare> {
    let share_of = |outcome: Outcome| {
        let count = report.summary.count(outcome);
        OutcomeShare {
            name: outcome.name(),
            count,
            shown: grouped(count),
            share: share(count, report.summary.rows),
            meaning: explain(outcome),
        }
    };
    Outcome::ALL.into_iter().map(share_of).filter(|outcome| outcome.count > 0).collect()
}

fn charts(report: &Report<'_>) -> Vec<ChartSection> {
    let samples = condensed(report.over_time, STEPS_SHOWN);
    let summary = &report.summary;
    if samples.is_empty() {
        return Vec::new();
    }
    let Percentiles { p50, p95, p99 } = report.latency_ms;
    let [p50, p95, p99] = [p50, p95, p99].map(millis);
    let held = summary.held_rate.map(|rate| format!(" About {rate} requests/s were held at the end."));
    vec![
        ChartSection {
            title: "Throughput",
            unit: "per second",
            words: format!(
                "{} and {} requests in {}.{}",
                rows(summary.rows),
                grouped(summary.requests),
                time(elapsed(summary.elapsed_seconds)),
                held.unwrap_or_default()
            ),
            chart: chart(&samples, &THROUGHPUT, Scale::Linear, rate_label, throughput_words),
        },
        ChartSection {
            title: "Latency of requests",
            unit: "logarithmic",
            words: match summary.requests {
                0 => "No request was sent.".into(),
                _ => format!("Over the run: p50 {p50}, p95 {p95}, p99 {p99}."),
            },
            chart: chart(&samples, &LATENCY, Scale::Logarithmic, decade_label, latency_words),
        },
        ChartSection {
            title: "Repeated and throttled requests",
            unit: "per second",
            words: format!(
                "{} repeated a step, {} were answered with 429.",
                grouped(summary.retries),
                grouped(summary.throttled)
            ),
            chart: chart(&samples, &TROUBLE, Scale::Linear, rate_label, trouble_words),
        },
    ]
}

const THROUGHPUT: [CurveSpec; 3] = [
    ("rows", "rows", |sample| Some(sample.rows() as f64 / sample.seconds())),
    ("requests", "requests", |sample| Some(sample.figures.requests as f64 / sample.seconds())),
    ("held", "held rate", |sample| sample.held_rate.filter(|rate| *rate > 0.0)),
];

const LATENCY: [CurveSpec; 3] = [
    ("p99", "p99", |sample| Percentiles::of(&sample.latencies).p99),
    ("p95", "p95", |sample| Percentiles::of(&sample.latencies).p95),
    ("p50", "p50", |sample| Percentiles::of(&sample.latencies).p50),
];

const TROUBLE: [CurveSpec; 2] = [
    ("retries", "repeated", |sample| Some(sample.figures.retries as f64 / sample.seconds())),
    ("throttled", "429", |sample| Some(sample.figures.throttled as f64 / sample.seconds())),
];

fn throughput_words(sample: &Sample) -> String {
    format!(
        "until {}: {} rows/s, {} requests/s, {} in flight",
        time(sample.to),
        per_second(sample.rows(), sample),
        per_second(sample.figures.requests, sample),
        sample.in_flight
    )
}

fn latency_words(sample: &Sample) -> String {
    let Percentiles { p50, p95, p99 } = Percentiles::of(&sample.latencies);
    format!("until {}: p50 {}, p95 {}, p99 {}", time(sample.to), millis(p50), millis(p95), millis(p99))
}

fn trouble_words(sample: &Sample) -> String {
    let (until, figures) = (time(sample.to), sample.figures);
    format!("until {until}: {} repeated, {} answered with 429", figures.retries, figures.throttled)
}

/// A power of ten, in milliseconds.
fn decade_label(millis: f64) -> String {
    if millis < 1000.0 { format!("{millis} ms") } else { format!("{} s", grouped((millis / 1000.0) as u64)) }
}

fn rate_label(value: f64) -> String {
    if value < 10.0 && value.fract() != 0.0 {
        format!("{value:.2}").trim_end_matches('0').into()
    } else {
        grouped(value.round() as u64)
    }
}

fn elapsed(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Rounded down: all but one of a million is not all.
fn share(count: u64, all: u64) -> String {
    let thousandths = (u128::from(count) * 1000).checked_div(u128::from(all)).unwrap_or(0);
    match (count, thousandths) {
        (0, _) => "none".into(),
        (_, 0) => "< 0.1 %".into(),
        (_, 1000) => "100 %".into(),
        _ => format!("{}.{} %", thousandths / 10, thousandths % 10),
    }
}

fn exit_in_words(code: u8) -> Option<&'static str> {
    Some(match code {
        0 => "every row succeeded",
        1 => "an unexpected error",
        3 => "at least one row is duplicate, invalid, rejected or failed",
        4 => "it stopped before the end by itself",
        130 | 143 => "a signal ended it",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_one_is_not_all() {
        let told = [(0, 9), (1, 1_000_000), (999_999, 1_000_000), (9, 9), (1, 3), (0, 0)];
        let told = told.map(|(count, all)| share(count, all));
        assert_eq!(told, ["none", "< 0.1 %", "99.9 %", "100 %", "33.3 %", "none"]);
    }
}
