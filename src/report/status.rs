//! Formats the status of a ledger as text and JSON: its target, its rows by outcome, and each run.
//!
//! The JSON is a contract with scripts. The report of a whole ledger lists its runs with the same lines.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde::Serialize;

use super::{
    LiveStatus,
    format::{date, grouped, requests, rfc3339, rows, time, visible_text, wrapped},
};
use crate::ledger::{
    LedgerOverview, OldTransaction, Outcome, RunId, RunRecord, RunState, Tally, Target, WorkerRecord,
};

/// The JSON object. Its names are a contract with scripts.
#[derive(Debug, Serialize)]
pub struct Status<'a> {
    ledger: &'a str,
    base_url: Option<&'a str>,
    merchant_id: Option<&'a str>,
    rows: u64,
    #[serde(flatten)]
    outcomes: BTreeMap<&'static str, u64>,
    runs: Vec<RunJson<'a>>,
    /// The current run, if there is one.
    live: Option<LiveStatus>,
    /// The workers of the current run, if several processes can work on it.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    workers: &'a [WorkerRecord],
    /// A transaction on the server that has been open for long, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    old_transaction: Option<&'a OldTransaction>,
}

/// A run in the JSON of a status or a history.
#[derive(Debug, Serialize)]
pub(super) struct RunJson<'a> {
    run: RunId,
    command: &'a str,
    source: &'a str,
    state: RunState,
    exit_code: Option<i64>,
    stop_reason: Option<&'a str>,
    started_at: String,
    ended_at: Option<String>,
    rows: u64,
    #[serde(flatten)]
    outcomes: BTreeMap<&'static str, u64>,
    requests: u64,
    retries: u64,
    throttled: u64,
}

impl<'a> Status<'a> {
    /// The status of a ledger.
    pub fn new(ledger: &'a str, overview: &'a LedgerOverview, live: Option<LiveStatus>) -> Status<'a> {
        let LedgerOverview { target, runs, outcomes, workers, old_transaction, .. } = overview;
        Status {
            ledger,
            base_url: target.as_ref().map(|target| target.base_url.as_str()),
            merchant_id: target.as_ref().map(|target| target.merchant_id.as_str()),
            rows: outcomes.rows(),
            outcomes: outcome_counts(outcomes),
            runs: runs.iter().map(RunJson::of).collect(),
            live,
            workers,
            old_transaction: old_transaction.as_ref(),
        }
    }
}

impl<'a> RunJson<'a> {
    pub(super) fn of(run: &'a RunRecord) -> RunJson<'a> {
        RunJson {
            run: run.run,
            command: &run.command,
            source: &run.source,
            state: run.state,
            exit_code: run.exit_code,
            stop_reason: run.stop_reason.as_deref(),
            started_at: rfc3339(run.started_at),
            ended_at: run.ended_at.map(rfc3339),
            rows: run.tally.rows(),
            outcomes: outcome_counts(&run.tally),
            requests: run.request_counts.requests,
            retries: run.request_counts.retries,
            throttled: run.request_counts.throttled,
        }
    }
}

/// The outcomes that are not zero, or the number of rows if all are: `created 12, invalid 3`.
pub(super) fn outcome_words(tally: &Tally) -> String {
    let some = Outcome::ALL.into_iter().filter(|outcome| tally.get(*outcome) > 0);
    let words: Vec<String> =
        some.map(|outcome| format!("{} {}", outcome.name(), grouped(tally.get(outcome)))).collect();
    if words.is_empty() { rows(0) } else { words.join(", ") }
}

/// The number of rows by the name of their outcome, all ten.
pub(super) fn outcome_counts(tally: &Tally) -> BTreeMap<&'static str, u64> {
    Outcome::ALL.map(|outcome| (outcome.name(), tally.get(outcome))).into()
}

/// The status of a ledger as text.
pub fn status_text(ledger: &str, overview: &LedgerOverview) -> String {
    let LedgerOverview { target, runs, outcomes, .. } = overview;
    let mut text = format!("Ledger  {}\n", visible_text(ledger));
    if let Some(Target { base_url, merchant_id }) = target {
        let _ = writeln!(text, "Target  {}, merchant {}", visible_text(base_url), visible_text(merchant_id));
    }
    let _ = writeln!(text, "Rows    {} in the ledger", grouped(outcomes.rows()));
    for outcome in Outcome::ALL.into_iter().filter(|outcome| outcomes.get(*outcome) > 0) {
        let count = grouped(outcomes.get(outcome));
        let _ = writeln!(text, "        {:<10} {count:>13}   {}", outcome.name(), outcome.explanation());
    }
    if runs.is_empty() {
        text.push_str("\nNo run has begun yet.\n");
        return text;
    }
    add_runs_heading(&mut text);
    for run in runs {
        add_run(run, &mut text);
    }
    text
}

/// A transaction that has been open for long, as text; empty if there is none.
pub fn old_transaction_text(transaction: Option<&OldTransaction>) -> String {
    let Some(OldTransaction { application, user, state, age_seconds }) = transaction else {
        return String::new();
    };
    let name = if application.is_empty() { "a program without a name" } else { application };
    let age = time(Duration::from_secs(*age_seconds));
    let text = format!(
        "On the server, {name} (user {user}, {state}) has had a transaction open for {age}; until it ends, the server \
         cannot clean up and becomes slower."
    );
    format!("\n{}", wrapped(&visible_text(&text), 0))
}

/// The workers of the current run as text; empty if only one process can work on it.
pub fn workers_text(workers: &[WorkerRecord]) -> String {
    let mut text = String::new();
    if !workers.is_empty() {
        let _ = writeln!(
            text,
            "\n{:>6}  {:<20}  {:<6}  {:>11}  {:>9}  {:>9}",
            "worker", "host", "state", "settled", "in flight", "last seen"
        );
    }
    for worker in workers {
        let _ = writeln!(
            text,
            "{:>6}  {:<20}  {:<6}  {:>11}  {:>9}  {:>5} ago",
            worker.worker,
            visible_text(&worker.host),
            visible_text(&worker.state),
            grouped(worker.rows_settled),
            grouped(worker.in_flight),
            time(Duration::from_secs(worker.age_seconds)),
        );
        let code = worker.exit_code.map(|code| format!("exit code {code}"));
        let end: Vec<String> = code.into_iter().chain(worker.stop_reason.clone()).collect();
        if !end.is_empty() {
            text.push_str(&wrapped(&visible_text(&end.join(": ")), 8));
        }
    }
    text
}

/// Adds the heading of the list that [`add_run`] extends.
pub(super) fn add_runs_heading(text: &mut String) {
    let _ = writeln!(
        text,
        "\n{:>4}  {:<16}  {:<11}  {:>4}  {:>11}  {:>11}  {:>9}",
        "run", "began (UTC)", "state", "exit", "rows", "succeeded", "left"
    );
}

/// The duration of a run that has ended, unless it crashed.
pub(super) fn took(run: &RunRecord) -> Option<String> {
    let has_ended = run.state != RunState::Running;
    run.duration(run.started_at).filter(|_| has_ended).map(time)
}

pub(super) fn add_run(run: &RunRecord, text: &mut String) {
    let succeeded = run.tally.sum(Outcome::is_success);
    let _ = writeln!(
        text,
        "{:>4}  {:<16}  {:<11}  {:>4}  {:>11}  {:>11}  {:>9}",
        run.run,
        date(run.started_at),
        run.state.name(),
        run.exit_code.map_or_else(|| "-".into(), |code| code.to_string()),
        grouped(run.tally.rows()),
        grouped(succeeded),
        grouped(run.tally.rows() - succeeded),
    );
    let took = took(run).map(|took| format!(", {took}"));
    let source = visible_text(&run.source);
    let _ = writeln!(text, "      {} {source}{}", run.command, took.unwrap_or_default());
    let counts = format!("{}; {}", outcome_words(&run.tally), requests(run.request_counts.requests));
    text.push_str(&wrapped(&counts, 6));
    if let Some(reason) = &run.stop_reason {
        text.push_str(&wrapped(&visible_text(reason), 6));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_transaction_is_named() {
        assert_eq!(old_transaction_text(None), "");
        let of = |application: &str| OldTransaction {
            application: application.into(),
            user: "reporting".into(),
            state: "idle in transaction".into(),
            age_seconds: 1500,
        };
        let text = old_transaction_text(Some(&of("psql\u{1b}[31m")));
        assert!(text.starts_with("\nOn the server, psql"), "{text:?}");
        assert!(
            text.contains("(user reporting, idle in transaction) has") && text.contains("25 min"),
            "{text:?}"
        );
        assert!(!text.contains('\u{1b}'), "{text:?}");
        assert!(old_transaction_text(Some(&of(""))).contains("a program without a name"));
    }
}
