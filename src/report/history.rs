//! The report of a whole ledger: the customers by outcome, and all runs on one timeline.
//!
//! Each customer is counted once, however many runs have read it. Runs that `prune` has deleted are not on the timeline;
//! their customers are in the counts.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use super::{
    LiveStatus,
    error_summary::{ErrorSummary, errors_of},
    format::{count_line, counted, date, grouped, requests, visible_text, wrapped},
    headline::Standing,
    live_status::LiveRun,
    rescue::{RescueJson, rescue_lines, rescue_list},
    status::{RunJson, add_run, add_runs_heading, outcome_counts, outcome_words},
    text::add_errors,
};
use crate::{
    customer::Rescue,
    ledger::{LedgerHistory, LedgerOverview, Outcome, RunRecord, RunState, Tally},
};

/// How many runs a text or a page lists one by one: enough for a migration, or for a month of nightly runs.
const RUNS_LISTED: usize = 40;

/// How many of these are the first runs; the others are the latest.
const FIRST_LISTED: usize = 5;

/// A whole ledger in one report. The names of its JSON are a contract with scripts.
#[derive(Debug, Serialize)]
pub struct History<'a> {
    /// The state of the import in one or two sentences.
    pub(super) headline: String,
    pub(super) base_url: Option<&'a str>,
    pub(super) merchant_id: Option<&'a str>,
    /// Rows of the ledger, each counted once.
    pub(super) rows: u64,
    #[serde(flatten)]
    outcomes: BTreeMap<&'static str, u64>,
    /// Why customers are not imported currently.
    pub(super) errors: Vec<ErrorSummary>,
    pub(super) errors_not_shown: u64,
    /// What each option that was not given would make of the invalid rows.
    pub(super) rescue: Vec<RescueJson>,
    runs: Vec<RunJson<'a>>,
    /// The current run, if there is one.
    pub(super) live: Option<LiveStatus>,
    #[serde(skip)]
    pub(super) tally: &'a Tally,
    #[serde(skip)]
    pub(super) records: &'a [RunRecord],
}

/// The runs of a ledger as a text or a page lists them.
pub(super) struct ListedRuns<'a> {
    /// The first ones; all, if none is left out.
    pub(super) first: &'a [RunRecord],
    /// Those that are left out, of which only the totals are shown.
    pub(super) between: &'a [RunRecord],
    /// The latest.
    pub(super) latest: &'a [RunRecord],
}

impl<'a> History<'a> {
    /// Builds the report of a ledger; `rescues` says what options would make of its invalid rows, `now` is in UTC
    /// milliseconds.
    pub fn new(history: &'a LedgerHistory, rescues: &[Rescue], now: i64) -> History<'a> {
        let LedgerHistory { overview, groups, invalid } = history;
        let LedgerOverview { target, runs, outcomes, .. } = overview;
        let last = runs.last();
        let is_running = last.is_some_and(|run| run.state == RunState::Running);
        let errors = errors_of(outcomes, is_running, groups, invalid, rescues);
        let live = overview.live().map(|(run, last)| LiveRun::new(run, last, now).status());
        let headline = match last {
            None => "No run has begun yet.".into(),
            Some(last) if outcomes.rows() == 0 && last.state != RunState::Running => {
                "No customer has been read yet.".into()
            }
            Some(last) => Standing {
                command: &last.command,
                state: last.state,
                tally: outcomes,
                errors: &errors.list,
                characters: &invalid.characters,
                live: live.as_ref(),
                is_of_ledger: true,
            }
            .headline(),
        };
        History {
            headline,
            base_url: target.as_ref().map(|target| target.base_url.as_str()),
            merchant_id: target.as_ref().map(|target| target.merchant_id.as_str()),
            rows: outcomes.rows(),
            outcomes: outcome_counts(outcomes),
            errors: errors.list,
            errors_not_shown: errors.rows_not_shown,
            rescue: rescue_list(rescues),
            runs: runs.iter().map(RunJson::of).collect(),
            live,
            tally: outcomes,
            records: runs,
        }
    }

    /// The runs to list.
    pub(super) fn listed(&self) -> ListedRuns<'a> {
        let all = self.records;
        if all.len() <= RUNS_LISTED {
            return ListedRuns { first: all, between: &[], latest: &[] };
        }
        let (first, rest) = all.split_at(FIRST_LISTED);
        let (between, latest) = rest.split_at(all.len() - RUNS_LISTED);
        ListedRuns { first, between, latest }
    }

    /// Whether a run is in progress.
    pub(super) fn is_running(&self) -> bool {
        self.records.last().is_some_and(|run| run.state == RunState::Running)
    }

    /// How many requests all runs have sent.
    pub(super) fn requests(&self) -> u64 {
        self.records.iter().map(|run| run.request_counts.requests).sum()
    }

    /// `3 runs from 2026-11-28 07:12 to 2026-11-29 03:00 UTC`.
    pub(super) fn period(&self) -> String {
        match self.records {
            [] => "no run".into(),
            [run] => format!("1 run, started {} UTC", date(run.started_at)),
            [first, .., last] => format!(
                "{} runs, started from {} to {} UTC",
                grouped(self.records.len() as u64),
                date(first.started_at),
                date(last.started_at)
            ),
        }
    }
}

/// The totals of these runs: `326 runs: created 12, unchanged 3,000; 340 requests; 2 did not finish`.
pub(super) fn together(runs: &[RunRecord]) -> String {
    let sum = |outcome| runs.iter().map(|run| run.tally.get(outcome)).sum();
    let tally: Tally = Outcome::ALL.map(|outcome| (outcome, sum(outcome))).into_iter().collect();
    let sent = runs.iter().map(|run| run.request_counts.requests).sum();
    let mut text =
        format!("{}: {}; {}", counted(runs.len() as u64, "run"), outcome_words(&tally), requests(sent));
    let unfinished = runs.iter().filter(|run| run.state != RunState::Completed).count();
    if unfinished > 0 {
        let _ = write!(text, "; {} did not finish", grouped(unfinished as u64));
    }
    text
}

/// Renders the report of a ledger as text.
pub fn history_text(history: &History<'_>) -> String {
    let mut text = format!("All runs: {}\n", history.period());
    text.push_str(&wrapped(&history.headline, 2));
    if let (Some(base_url), Some(merchant)) = (history.base_url, history.merchant_id) {
        let _ = writeln!(text, "  target  {}, merchant {}", visible_text(base_url), visible_text(merchant));
    }
    if history.rows > 0 {
        let _ = writeln!(text, "\nWhere the customers stand\n  {:<10} {:>14}", "rows", grouped(history.rows));
    }
    for outcome in Outcome::ALL.into_iter().filter(|outcome| history.tally.get(*outcome) > 0) {
        text.push_str(&count_line(outcome.name(), history.tally.get(outcome), outcome.explanation()));
    }
    add_errors(&history.errors, history.errors_not_shown, &mut text);
    text.push_str(&rescue_lines(&history.rescue, history.rows));
    let ListedRuns { first, between, latest } = history.listed();
    if !first.is_empty() {
        add_runs_heading(&mut text);
    }
    first.iter().for_each(|run| add_run(run, &mut text));
    if !between.is_empty() {
        text.push_str(&wrapped(&format!("{}; --format json has each", together(between)), 2));
    }
    latest.iter().for_each(|run| add_run(run, &mut text));
    text
}
