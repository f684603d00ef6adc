//! Renders a report as one self-contained HTML page, which sends no requests and runs no script.
//!
//! The template `page.html` contains the text and the layout. It escapes every value, and the page's policy also
//! forbids scripts and requests, because a ledger contains text from outside.

use std::time::Duration;

use askama::Template;

use super::{
    ErrorSummary, LiveStatus, Percentiles, Report,
    chart::{Chart, CurveSpec, Scale, chart},
    error_summary::RemedyRows,
    format::{grouped, millis, requests, rows, time},
    headline::is_open,
    rescue::effects,
    shares::{Share, shares},
    summary::remarks,
    text::{not_listed, per_second},
};
use crate::{
    customer::visible_lines,
    error::Error,
    ledger::{Outcome, RunState, Sample, Setting, SettingOrigin, Tally, condensed},
};

/// Steps per curve: three pixels each on a phone.
const STEPS_SHOWN: usize = 120;

/// How many error groups are listed; the JSON has all of them.
pub(super) const ERRORS_SHOWN: usize = 50;

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    report: &'a Report<'a>,
    state_class: &'static str,
    is_running: bool,
    progress: Option<Progress>,
    exit: Option<&'static str>,
    began: String,
    took: String,
    tiles: Vec<Tile>,
    outcomes: Vec<OutcomeShare>,
    remarks: Vec<String>,
    charts: Vec<ChartSection>,
    reasons: Vec<ReasonCard<'a>>,
    rescues: Vec<(&'a str, String)>,
    reasons_left: usize,
    not_shown: Option<String>,
    given: Vec<&'a Setting>,
    defaults: Vec<&'a Setting>,
    version: &'static str,
}

/// The progress of a current run.
pub(super) struct Progress {
    /// In per cent; `None` if the number of rows is unknown.
    pub(super) percent: Option<u64>,
    pub(super) words: String,
}

impl Progress {
    pub(super) fn of(live: &LiveStatus) -> Progress {
        Progress { percent: live.percent(), words: live.words() }
    }
}

/// Why some rows are not in the API.
pub(super) struct ReasonCard<'a> {
    pub(super) error: &'a ErrorSummary,
    /// The share of all rows of the run.
    pub(super) share: String,
    pub(super) characters: String,
}

impl ReasonCard<'_> {
    pub(super) fn remedies(&self) -> impl Iterator<Item = String> {
        RemedyRows::with_introduction(&self.error.remedies, "To do")
    }
}

/// A headline figure.
pub(super) struct Tile {
    pub(super) number: String,
    pub(super) label: &'static str,
    pub(super) note: String,
}

/// An outcome's share of all rows.
pub(super) struct OutcomeShare {
    pub(super) name: &'static str,
    pub(super) count: u64,
    pub(super) shown: String,
    pub(super) share: String,
    pub(super) meaning: &'static str,
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
    render(&Page {
        report,
        state_class: state_class(summary.state, summary.exit_code.map(i64::from)),
        is_running: summary.state == RunState::Running,
        progress: report.live.as_ref().map(Progress::of),
        exit: summary.exit_code.and_then(exit_in_words),
        began: report.began(),
        took: time(elapsed(summary.elapsed_seconds)),
        tiles: tiles(report),
        outcomes: outcome_shares(report.tally, summary.state == RunState::Running),
        remarks: remarks(summary),
        charts: charts(report),
        reasons: reasons(&report.errors, summary.rows),
        rescues: effects(&report.rescue, summary.rows),
        reasons_left: report.errors.len().saturating_sub(ERRORS_SHOWN),
        not_shown: not_shown(report.errors_not_shown, report.errors.is_empty()),
        given,
        defaults,
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// Renders a page, with invisible characters shown by their code points.
pub(super) fn render(page: &impl Template) -> Result<String, Error> {
    let page = page.render().map_err(|error| Error::Bug(format!("the page cannot be made ({error})")))?;
    Ok(visible_lines(&page).into_owned())
}

/// The class of a state in the style sheet.
pub(super) fn state_class(state: RunState, exit_code: Option<i64>) -> &'static str {
    match state {
        RunState::Completed if exit_code == Some(0) => "good",
        RunState::Completed | RunState::Running => "fair",
        RunState::Interrupted | RunState::Stopped | RunState::Died => "bad",
    }
}

/// The number of rows without a card, with the reason.
pub(super) fn not_shown(count: u64, is_all: bool) -> Option<String> {
    (count > 0).then(|| not_listed(count, is_all) + ".")
}

pub(super) fn reasons(errors: &[ErrorSummary], all: u64) -> Vec<ReasonCard<'_>> {
    let shown = errors.iter().take(ERRORS_SHOWN);
    shown
        .map(|error| {
            let [share, _] = shares([error.rows, all.saturating_sub(error.rows)]);
            ReasonCard { error, share: share.words(), characters: error.characters_in_words() }
        })
        .collect()
}

/// The share of each outcome; the tiles and the table show the same.
pub(super) fn shares_of(tally: &Tally) -> Vec<(Outcome, Share)> {
    let shares = shares(Outcome::ALL.map(|outcome| tally.get(outcome)));
    Outcome::ALL.into_iter().zip(shares).collect()
}

/// The tile of the rows with such outcomes.
pub(super) fn tile_of(label: &'static str, shares: &[(Outcome, Share)], of: fn(Outcome) -> bool) -> Tile {
    let of_tile = shares.iter().filter(|(outcome, _)| of(*outcome));
    let share = of_tile.fold(Share::default(), |sum, (_, share)| sum.with(*share));
    Tile { number: grouped(share.count()), label, note: share.words() }
}

fn tiles(report: &Report<'_>) -> Vec<Tile> {
    let summary = &report.summary;
    let shares = shares_of(report.tally);
    let open = if summary.state == RunState::Running { "under way" } else { "to run again" };
    vec![
        Tile {
            number: grouped(summary.rows),
            label: if summary.state == RunState::Running { "rows read so far" } else { "rows read" },
            note: format!("in {}", time(elapsed(summary.elapsed_seconds))),
        },
        tile_of("in Juspay", &shares, Outcome::is_success),
        tile_of("to correct", &shares, Outcome::is_to_correct),
        tile_of(open, &shares, is_open),
        Tile {
            number: grouped(summary.requests),
            label: if summary.requests == 1 { "request" } else { "requests" },
            note: format!("{} per second", summary.rate()),
        },
    ]
}

pub(super) fn outcome_shares(tally: &Tally, is_running: bool) -> Vec<OutcomeShare> {
    let share_of = |(outcome, share): (Outcome, Share)| {
        let meaning = match outcome {
            Outcome::Pending if is_running => "read and not settled yet",
            outcome => outcome.explanation(),
        };
        let count = share.count();
        OutcomeShare { name: outcome.name(), count, shown: grouped(count), share: share.words(), meaning }
    };
    shares_of(tally).into_iter().map(share_of).filter(|outcome| outcome.count > 0).collect()
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
                "{} and {} in {}.{}",
                rows(summary.rows),
                requests(summary.requests),
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
            words: match summary.retries + summary.throttled {
                0 => "None.".into(),
                _ => format!(
                    "{} repeated a step; {} by the API's limit (429).",
                    requests(summary.retries),
                    match summary.throttled {
                        1 => "1 was refused".into(),
                        throttled => format!("{} were refused", grouped(throttled)),
                    }
                ),
            },
            chart: chart(&samples, &TROUBLE, Scale::Linear, rate_label, trouble_words),
        },
    ]
}

const THROUGHPUT: [CurveSpec; 3] = [
    CurveSpec { class: "rows", label: "rows", value: |sample| Some(sample.rows() as f64 / sample.seconds()) },
    CurveSpec {
        class: "requests",
        label: "requests",
        value: |sample| Some(sample.request_counts.requests as f64 / sample.seconds()),
    },
    CurveSpec {
        class: "held",
        label: "held rate",
        value: |sample| sample.held_rate.filter(|rate| *rate > 0.0),
    },
];

const LATENCY: [CurveSpec; 3] = [
    CurveSpec { class: "p99", label: "p99", value: |sample| Percentiles::of(&sample.latencies).p99 },
    CurveSpec { class: "p95", label: "p95", value: |sample| Percentiles::of(&sample.latencies).p95 },
    CurveSpec { class: "p50", label: "p50", value: |sample| Percentiles::of(&sample.latencies).p50 },
];

const TROUBLE: [CurveSpec; 2] = [
    CurveSpec {
        class: "retries",
        label: "repeated",
        value: |sample| Some(sample.request_counts.retries as f64 / sample.seconds()),
    },
    CurveSpec {
        class: "throttled",
        label: "429",
        value: |sample| Some(sample.request_counts.throttled as f64 / sample.seconds()),
    },
];

fn throughput_words(sample: &Sample) -> String {
    format!(
        "until {}: {} rows/s, {} requests/s, {} in flight",
        time(sample.to),
        per_second(sample.rows(), sample),
        per_second(sample.request_counts.requests, sample),
        sample.in_flight
    )
}

fn latency_words(sample: &Sample) -> String {
    let Percentiles { p50, p95, p99 } = Percentiles::of(&sample.latencies);
    format!("until {}: p50 {}, p95 {}, p99 {}", time(sample.to), millis(p50), millis(p95), millis(p99))
}

fn trouble_words(sample: &Sample) -> String {
    let (until, counts) = (time(sample.to), sample.request_counts);
    format!("until {until}: {} repeated, {} answered with 429", counts.retries, counts.throttled)
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

fn exit_in_words(code: u8) -> Option<&'static str> {
    Some(match code {
        0 => "every row succeeded",
        1 => "an unexpected error",
        3 => "at least one row is duplicate, invalid, rejected or failed",
        4 => "run it again",
        129 | 130 | 143 => "a signal ended it",
        _ => return None,
    })
}
