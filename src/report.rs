//! A run's figures as text and JSON.
//!
//! Everything here is made of committed counts. Texts fit 80 columns and hold no customer's field.
//! Must not touch files, the network or the terminal: `cli` prints.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use crate::{
    customer::{Fault, Field, Rule},
    ledger::{Figures, Outcome, RunRecord, State, Tally, Target},
};

/// How many lines of each group of faults are named.
const LINES_SHOWN: usize = 5;

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
}

impl<'a> Summary<'a> {
    /// The summary of a run.
    pub fn new(
        run: i64,
        (state, exit_code, stop_reason): (State, u8, Option<&'a str>),
        source: &'a str,
        tally: &Tally,
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
        if summary.rows == 1 { "1 row".into() } else { format!("{} rows", grouped(summary.rows)) },
        time(Duration::from_secs_f64(summary.elapsed_seconds)),
        grouped(summary.requests),
        grouped(summary.retries),
        grouped(summary.throttled),
    );
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

/// What `validate` found.
#[derive(Debug, Default)]
pub struct Validation {
    rows: u64,
    invalid: u64,
    duplicates: u64,
    duplicate_lines: Vec<u64>,
    groups: BTreeMap<(Option<Field>, Rule), Group>,
}

#[derive(Debug, Default)]
struct Group {
    count: u64,
    first: Vec<(u64, String)>,
}

impl Validation {
    /// A row that breaks nothing.
    pub fn valid(&mut self) {
        self.rows += 1;
    }

    /// A row whose reference an earlier one has.
    pub fn duplicate(&mut self, line: u64) {
        self.rows += 1;
        self.duplicates += 1;
        if self.duplicate_lines.len() < LINES_SHOWN {
            self.duplicate_lines.push(line);
        }
    }

    /// A row with faults.
    pub fn invalid(&mut self, line: u64, faults: &[Fault]) {
        self.rows += 1;
        self.invalid += 1;
        for fault in faults {
            let group = self.groups.entry((fault.field, fault.rule)).or_default();
            group.count += 1;
            if group.first.len() < LINES_SHOWN {
                group.first.push((line, fault.seen.clone()));
            }
        }
    }

    /// Whether every row can be sent.
    pub fn is_clean(&self) -> bool {
        self.invalid == 0 && self.duplicates == 0
    }

    /// The faults grouped by rule: counts, first lines, remedy.
    pub fn text(&self, source: &str) -> String {
        let mut text = format!(
            "{}: {} {}, {} valid, {} invalid, {} duplicate\n",
            harmless(source),
            grouped(self.rows),
            if self.rows == 1 { "row" } else { "rows" },
            grouped(self.rows - self.invalid - self.duplicates),
            grouped(self.invalid),
            grouped(self.duplicates),
        );
        for ((field, rule), group) in &self.groups {
            let _ = writeln!(
                text,
                "\n{} {rule}: {} {}",
                field.map_or("record", Field::name),
                grouped(group.count),
                if group.count == 1 { "row" } else { "rows" },
            );
            for (line, seen) in &group.first {
                let _ = writeln!(text, "  line {line}: {seen}");
            }
            if group.count > group.first.len() as u64 {
                let _ = writeln!(text, "  and {} more", grouped(group.count - group.first.len() as u64));
            }
            let _ = writeln!(text, "  remedy: {}", rule.remedy(*field));
        }
        if self.duplicates > 0 {
            let lines: Vec<String> = self.duplicate_lines.iter().map(u64::to_string).collect();
            let _ = writeln!(
                text,
                "\nobject_reference_id duplicate: {} {}, first on line {}\n  \
                 remedy: only the first row of each reference is imported; remove the others",
                grouped(self.duplicates),
                if self.duplicates == 1 { "row" } else { "rows" },
                lines.join(", "),
            );
        }
        text
    }
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

/// A name without control characters: it goes to a terminal.
fn harmless(name: &str) -> String {
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
        let summary =
            Summary::new(1, end, "a.csv", &Tally::default(), &Figures::default(), Duration::from_secs(1));
        let json = serde_json::to_value(&summary).unwrap();
        let names = ["run", "state", "exit_code", "source", "rows", "requests", "retries", "throttled"];
        for name in names.into_iter().chain(Outcome::ALL.map(Outcome::name)) {
            assert!(!json[name].is_null(), "{name}");
        }
        assert_eq!(json["state"], "completed");
        assert!(json.as_object().unwrap().contains_key("stop_reason"));
        assert!(json["elapsed_seconds"].is_number());
        assert!(!run_table(&summary).contains("--rate"), "{}", run_table(&summary));
        let summary = Summary { held_rate: Some(485.0), ..summary };
        assert!(run_table(&summary).contains("about 485 requests/s held; give --rate 485 next time"));
    }
}
