//! Renders the report of a ledger as one self-contained HTML page, with the template `history.html`.
//!
//! The size of the page is bounded: the page for a year of nightly runs is as small as that for one migration.

use askama::Template;

use super::{
    format::{counted, date, grouped, requests},
    headline::is_open,
    history::{History, ListedRuns, together},
    html::{
        ERRORS_SHOWN, OutcomeShare, Progress, ReasonCard, Tile, not_shown, outcome_shares, reasons, render,
        shares_of, state_class, tile_of,
    },
    rescue::effects,
    run_timeline::RunTimeline,
    status::{outcome_words, took},
};
use crate::{
    error::Error,
    ledger::{Outcome, RunRecord, RunState},
};

#[derive(Template)]
#[template(path = "history.html")]
struct Page<'a> {
    history: &'a History<'a>,
    period: String,
    is_running: bool,
    progress: Option<Progress>,
    tiles: Vec<Tile>,
    outcomes: Vec<OutcomeShare>,
    reasons: Vec<ReasonCard<'a>>,
    rescues: Vec<(&'a str, String)>,
    reasons_left: usize,
    not_shown: Option<String>,
    timeline: Option<RunTimeline>,
    runs: Vec<RunsLine<'a>>,
    version: &'static str,
}

/// A line of the table of runs.
enum RunsLine<'a> {
    Run(ListedRun<'a>),
    /// Runs that are not listed, with their totals.
    Between(String),
}

/// A run in the table.
struct ListedRun<'a> {
    number: String,
    began: String,
    command: &'a str,
    source: &'a str,
    outcomes: Vec<OutcomeShare>,
    state: &'static str,
    state_class: &'static str,
    outcome_words: String,
    sent: String,
    stop_reason: Option<&'a str>,
}

/// Renders the report of a ledger as an HTML page; `now` is in UTC milliseconds.
///
/// # Errors
/// Only a bug of the template.
pub fn history_html(history: &History<'_>, now: i64) -> Result<String, Error> {
    let is_running = history.is_running();
    let succeeded = history.tally.sum(Outcome::is_success);
    let ListedRuns { first, between, latest } = history.listed();
    let between = (!between.is_empty()).then(|| RunsLine::Between(together(between)));
    let runs = first.iter().map(listed).chain(between).chain(latest.iter().map(listed));
    render(&Page {
        history,
        period: history.period(),
        is_running,
        progress: history.live.as_ref().map(Progress::of),
        tiles: tiles(history),
        outcomes: outcome_shares(history.tally, is_running),
        reasons: reasons(&history.errors, history.rows),
        rescues: effects(&history.rescue, history.rows),
        reasons_left: history.errors.len().saturating_sub(ERRORS_SHOWN),
        not_shown: not_shown(history.errors_not_shown, history.errors.is_empty()),
        timeline: RunTimeline::of(history.records, succeeded, now),
        runs: runs.collect(),
        version: env!("CARGO_PKG_VERSION"),
    })
}

fn tiles(history: &History<'_>) -> Vec<Tile> {
    let shares = shares_of(history.tally);
    let open = if history.is_running() { "under way" } else { "to run again" };
    let runs = history.records.len() as u64;
    vec![
        Tile {
            number: grouped(history.rows),
            label: if history.rows == 1 { "row" } else { "rows" },
            note: format!("in {}", counted(runs, "run")),
        },
        tile_of("in Juspay", &shares, Outcome::is_success),
        tile_of("to correct", &shares, Outcome::is_to_correct),
        tile_of(open, &shares, is_open),
        Tile {
            number: grouped(history.requests()),
            label: if history.requests() == 1 { "request" } else { "requests" },
            note: "over all runs".into(),
        },
    ]
}

fn listed(run: &RunRecord) -> RunsLine<'_> {
    let took = took(run).map_or_else(String::new, |took| format!(", {took}"));
    RunsLine::Run(ListedRun {
        number: run.run.to_string(),
        began: date(run.started_at),
        command: &run.command,
        source: &run.source,
        outcomes: outcome_shares(&run.tally, run.state == RunState::Running),
        state: run.state.name(),
        state_class: state_class(run.state, run.exit_code),
        outcome_words: outcome_words(&run.tally),
        sent: format!("{}{took}", requests(run.request_counts.requests)),
        stop_reason: run.stop_reason.as_deref(),
    })
}
