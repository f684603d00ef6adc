//! A run's figures as text and JSON.
//!
//! Everything here is made of committed counts. Texts fit 80 columns and hold no customer's field.
//! Must not touch files, the network or the terminal: `cli` prints.

mod validation;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use serde::Serialize;

pub use self::validation::Validation;
use crate::{
    customer::{Dropped, Field, Rule},
    ledger::{Figures, Outcome, RunRecord, State, Tally, Target},
};

/// `--summary-json`: the names are a contract.
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    /// The run's number.
    pub run: i64,
    /// How it ended.
    pub state: State,
    /// The exit code.
    pub exit_code: u8,
    /// The source as given.
    pub source: &'a str,
    /// Rows read.
    pub rows: u64,
    /// Counts by outcome, all ten.
    #[serde(flatten)]
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Every HTTP request sent.
    pub requests: u64,
    /// Requests that repeated a step.
    pub retries: u64,
    /// 429 answers.
    pub throttled: u64,
    /// Requests a second that were held under a limit that the API has and nobody told.
    pub held_rate: Option<f64>,
    /// Wall time.
    pub elapsed_seconds: f64,
    /// Why it ended itself.
    pub stop_reason: Option<&'a str>,
    /// What rows went without, by field and rule.
    pub dropped: Vec<DroppedField>,
}

impl<'a> Summary<'a> {
    /// The summary of a run.
    pub fn new(
        run: i64,
        (state, exit_code, stop_reason): (State, u8, Option<&'a str>),
        source: &'a str,
        (tally, dropped): (&Tally, &Dropped),
        figures: &Figures,
        elapsed: Duration,
    ) -> Summary<'a> {
        Summary {
            run,
            state,
            exit_code,
            source,
            rows: tally.rows(),
            outcomes: Outcome::ALL.map(|outcome| (outcome.name(), tally.get(outcome))).into(),
            requests: figures.requests,
            retries: figures.retries,
            throttled: figures.throttled,
            held_rate: None,
            elapsed_seconds: (elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
            stop_reason,
            dropped: dropped_list(dropped),
        }
    }
}

/// What a run did, as a table: the ten outcomes, the time, the rate.
pub fn run_table(summary: &Summary<'_>) -> String {
    let mut text =
        format!("\nRun {} {}: {}\n\n", summary.run, summary.state.name(), harmless(summary.source));
    for outcome in Outcome::ALL {
        let count = summary.outcomes.get(outcome.name()).copied().unwrap_or_default();
        // Zero is an answer too, but it must not draw the eye.
        let count = if count == 0 { "-".into() } else { grouped(count) };
        let _ = writeln!(text, "  {:<10} {count:>14}   {}", outcome.name(), explain(outcome));
    }
    let per_second = summary.requests as f64 / summary.elapsed_seconds.max(0.001);
    let _ = writeln!(
        text,
        "  {:<10} {:>14}\n\n  {} in {}: {} requests ({per_second:.1} per second), {} repeated, {} throttled",
        "rows",
        grouped(summary.rows),
        rows(summary.rows),
        time(Duration::from_secs_f64(summary.elapsed_seconds)),
        grouped(summary.requests),
        grouped(summary.retries),
        grouped(summary.throttled),
    );
    text.push_str(&dropped_lines(&summary.dropped));
    if let Some(held) = summary.held_rate {
        let _ = writeln!(text, "  about {held} requests/s held; give --rate {held} next time");
    }
    text
}

/// `status`: the target, what stands where over all runs, and each run.
pub fn status(target: Option<&Target>, standing: &Tally, runs: &[RunRecord], running: bool) -> String {
    let mut text = String::new();
    if let Some(target) = target {
        let _ = writeln!(text, "Target  {}, merchant {}", target.base_url, target.merchant_id);
    }
    let _ = writeln!(text, "Rows    {} in the ledger", grouped(standing.rows()));
    for outcome in Outcome::ALL {
        if standing.get(outcome) > 0 {
            let _ = writeln!(
                text,
                "        {:<10} {:>12}   {}",
                outcome.name(),
                grouped(standing.get(outcome)),
                explain(outcome)
            );
        }
    }
    let _ = writeln!(
        text,
        "\n{:>4}  {:<16}  {:<11}  {:>4}  {:>9}  {:>9}  {:>9}",
        "run", "began (UTC)", "state", "exit", "rows", "succeeded", "left"
    );
    for (at, run) in runs.iter().enumerate() {
        let is_last = at + 1 == runs.len();
        text.push_str(&run_line(run, is_last && running));
    }
    text
}

fn run_line(run: &RunRecord, running: bool) -> String {
    // A run whose process died says "running" until the next one begins.
    let state = if run.state == State::Running && !running { "died" } else { run.state.name() };
    let succeeded = run.tally.sum(Outcome::is_success);
    let mut text = format!(
        "{:>4}  {:<16}  {state:<11}  {:>4}  {:>9}  {:>9}  {:>9}\n      {} {}",
        run.run,
        date(run.started_at),
        run.exit_code.map_or_else(|| "-".into(), |code| code.to_string()),
        run.tally.rows(),
        succeeded,
        run.tally.rows() - succeeded,
        run.command,
        harmless(&run.source),
    );
    let parts: Vec<String> = Outcome::ALL
        .into_iter()
        .filter(|outcome| run.tally.get(*outcome) > 0)
        .map(|outcome| format!("{} {}", outcome.name(), run.tally.get(outcome)))
        .collect();
    if !parts.is_empty() {
        let _ = write!(text, "\n      {}; {} requests", parts.join(", "), run.figures.requests);
    }
    if let Some(reason) = &run.stop_reason {
        let _ = write!(text, "\n      {reason}");
    }
    text.push('\n');
    text
}

/// How many rows went without a field because of a rule.
#[derive(Debug, Serialize)]
pub struct DroppedField {
    field: &'static str,
    rule: &'static str,
    rows: u64,
}

fn dropped_list(dropped: &Dropped) -> Vec<DroppedField> {
    let each = |(field, rule, rows): (Field, Rule, u64)| DroppedField {
        field: field.name(),
        rule: rule.name(),
        rows,
    };
    dropped.iter().map(each).collect()
}

/// Nothing where nothing was dropped.
fn dropped_lines(dropped: &[DroppedField]) -> String {
    let mut text = String::from(if dropped.is_empty() { "" } else { "\n" });
    for DroppedField { field, rule, rows: count } in dropped {
        let _ = writeln!(text, "  dropped {field} for {rule}: {}", rows(*count));
    }
    text
}

/// What an outcome means, in few words.
fn explain(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Created => "created by this ledger's runs",
        Outcome::Existing => "the merchant had it already; id found",
        Outcome::Unchanged => "imported before, same fields; nothing sent",
        Outcome::Changed => "imported before, fields differ; nothing sent",
        Outcome::Updated => "imported before, differed; update accepted",
        Outcome::Duplicate => "an earlier row has this reference",
        Outcome::Invalid => "breaks a rule; nothing sent",
        Outcome::Rejected => "refused by the API",
        Outcome::Failed => "attempts used up; a rerun tries again",
        Outcome::Pending => "not settled yet; a rerun goes on",
    }
}

/// A count with its noun.
fn rows(count: u64) -> String {
    format!("{} {}", grouped(count), if count == 1 { "row" } else { "rows" })
}

/// A name without control characters: it goes to a terminal.
pub fn harmless(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration as people say it.
pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..=9 => format!("{:.1} s", duration.as_secs_f64()),
        10..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `2020-03-17 14:16`, from UTC milliseconds.
fn date(milliseconds: i64) -> String {
    let since = Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default());
    let text = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since).to_string();
    text.get(..16).unwrap_or(&text).replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_well() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1234567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(time(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(time(Duration::from_secs(100)), "100 s");
        assert_eq!(time(Duration::from_secs(3600)), "60 min 0 s");
        assert_eq!(time(Duration::from_secs(9000)), "2 h 30 min");
        assert_eq!(date(1_584_454_591_000), "2020-03-17 14:16");
    }

    #[test]
    fn a_summary_has_every_name_of_the_contract() {
        let end = (State::Completed, 0, None);
        let summary = Summary::new(
            1,
            end,
            "a.csv",
            (&Tally::default(), &Dropped::default()),
            &Figures::default(),
            Duration::from_secs(1),
        );
        let json = serde_json::to_value(&summary).unwrap();
        let names = ["run", "state", "exit_code", "source", "rows", "requests", "retries", "throttled"];
        for name in names.into_iter().chain(Outcome::ALL.map(Outcome::name)) {
            assert!(!json[name].is_null(), "{name}");
        }
        assert_eq!(json["state"], "completed");
        assert!(json.as_object().unwrap().contains_key("stop_reason"));
        assert_eq!(json["dropped"], serde_json::json!([]));
        assert!(json["elapsed_seconds"].is_number());
        assert!(!run_table(&summary).contains("--rate"), "{}", run_table(&summary));
        let summary = Summary { held_rate: Some(485.0), ..summary };
        assert!(run_table(&summary).contains("about 485 requests/s held; give --rate 485 next time"));
    }
}
