//! A run's figures as text, JSON and HTML.
//!
//! Everything here is made of committed counts. Texts fit 80 columns and hold no customer's field.
//! Must not touch files, the network or the terminal: `cli` prints.

mod live;

mod validation;

mod verification;

mod kinds;

mod run;

mod text;

mod chart;

mod html;

mod status;

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde::Serialize;

pub use self::{
    live::{LiveStatus, fill, going_on, progress, progress_line},
    run::Report,
    status::{Status, status_text},
    validation::Validation,
    verification::{Verification, VerificationSummary, verification_table, verification_words},
};
use crate::{
    customer::{Changed, Dropped, Field, Rule},
    ledger::{ExistingCounts, Outcome, Pruned, RequestCounts, RunId, RunState, Tally},
};

/// `--summary-json`: the names are a contract.
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    /// The run's number.
    pub run: RunId,
    /// How it ended.
    pub state: RunState,
    /// The exit code, once it has ended.
    pub exit_code: Option<u8>,
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
    /// In how many rows a field differs from what was imported.
    pub changed_fields: BTreeMap<&'static str, u64>,
    /// Rows that were imported and are not in the source; none where it is not known to be a whole one.
    pub absent: Option<u64>,
    /// Rows whose customer existed with other fields.
    pub existing_differing_rows: u64,
    /// In how many of them the API had something else, by field.
    pub existing_differing: BTreeMap<&'static str, u64>,
    /// Existing rows of which nothing tells whether a Create of this ledger's runs made the customer.
    pub existing_uncertain: u64,
    /// Rows whose reference the API spells in another way.
    pub respelled: u64,
}

impl<'a> Summary<'a> {
    /// The summary of a run.
    pub fn new(
        run: RunId,
        (state, exit_code, stop_reason): (RunState, impl Into<Option<u8>>, Option<&'a str>),
        source: &'a str,
        (tally, dropped): (&Tally, &Dropped),
        figures: &RequestCounts,
        elapsed: Duration,
    ) -> Summary<'a> {
        Summary {
            run,
            state,
            exit_code: exit_code.into(),
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
            changed_fields: BTreeMap::new(),
            absent: None,
            existing_differing_rows: 0,
            existing_differing: BTreeMap::new(),
            existing_uncertain: 0,
            respelled: 0,
        }
    }

    /// The same with what was found out about customers that existed.
    #[must_use]
    pub fn with_existing(self, existing: &ExistingCounts) -> Summary<'a> {
        Summary {
            existing_differing_rows: existing.differing,
            existing_differing: changed_list(&existing.fields),
            existing_uncertain: existing.uncertain,
            respelled: existing.respelled,
            ..self
        }
    }

    /// Requests per second over the whole run.
    fn rate(&self) -> String {
        rate(self.requests as f64 / self.elapsed_seconds.max(0.001))
    }

    /// Rows of this outcome.
    fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(outcome.name()).copied().unwrap_or_default()
    }
}

/// What a run did, as a table: the ten outcomes, the time, the rate.
pub fn run_table(summary: &Summary<'_>) -> String {
    let mut text =
        format!("\nRun {} {}: {}\n\n", summary.run, summary.state.name(), harmless(summary.source));
    text.push_str(&outcome_lines(summary));
    text.push_str(&remark_lines(summary));
    if let Some(held) = summary.held_rate {
        let _ = writeln!(text, "  about {held} requests/s held; give --rate {held} next time");
    }
    text
}

/// The outcomes, the time, the requests.
fn outcome_lines(summary: &Summary<'_>) -> String {
    let mut text = String::new();
    for outcome in Outcome::ALL {
        let count = summary.count(outcome);
        // Zero is an answer too, but it must not draw the eye.
        let count = if count == 0 { "-".into() } else { grouped(count) };
        let _ = writeln!(text, "  {:<10} {count:>14}   {}", outcome.name(), explain(outcome));
    }
    let _ = writeln!(
        text,
        "  {:<10} {:>14}\n\n  {} in {}: {} requests ({} per second)\n  {} repeated, {} throttled",
        "rows",
        grouped(summary.rows),
        rows(summary.rows),
        time(Duration::from_secs_f64(summary.elapsed_seconds)),
        grouped(summary.requests),
        summary.rate(),
        grouped(summary.retries),
        grouped(summary.throttled),
    );
    text
}

/// `prune`: what is gone.
pub fn pruned(ledger: &str, pruned: &Pruned) -> String {
    let kib = |bytes: u64| grouped(bytes.div_ceil(1024));
    let Pruned { runs, records, rows: unowned, bytes: (before, after) } = *pruned;
    format!(
        "Pruned  {}\n        {} {}, the cells of {}, {} that were invalid or duplicates\n        {} KiB before, {} KiB now; ids stay\n",
        harmless(ledger),
        grouped(runs),
        if runs == 1 { "run" } else { "runs" },
        rows(records),
        rows(unowned),
        kib(before),
        kib(after),
    )
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

/// Rows by the name of the field in which they differ.
pub fn changed_list(changed: &Changed) -> BTreeMap<&'static str, u64> {
    changed.iter().map(|(field, rows)| (field.name(), rows)).collect()
}

impl std::fmt::Display for DroppedField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "dropped {} for {}: {}", self.field, self.rule, rows(self.rows))
    }
}

/// What there is to say beyond the outcomes, a line each: what rows went without, where they differ from what was
/// imported, who is not in the source any more.
fn remarks(summary: &Summary<'_>) -> Vec<String> {
    let mut remarks: Vec<String> = summary.dropped.iter().map(ToString::to_string).collect();
    let by_field = |fields: &BTreeMap<&'static str, u64>| {
        let each = fields.iter().map(|(field, rows)| format!("{field} {}", grouped(*rows)));
        each.collect::<Vec<_>>().join(", ")
    };
    if !summary.changed_fields.is_empty() {
        remarks.push(format!("differ from the import: {}", by_field(&summary.changed_fields)));
    }
    if summary.existing_differing_rows > 0 {
        let (count, fields) = (rows(summary.existing_differing_rows), by_field(&summary.existing_differing));
        remarks.push(format!("existed with other fields: {count} ({fields})"));
        if summary.count(Outcome::Existing) > 0 {
            remarks.push("  --update-changed sends the file's fields for them".into());
        }
    }
    if summary.existing_uncertain > 0 {
        let count = rows(summary.existing_uncertain);
        remarks.push(format!("existing, uncertain: {count} that this run or somebody else created"));
    }
    if summary.respelled > 0 {
        let count = rows(summary.respelled);
        remarks.push(format!("spelled otherwise by the API: {count} (export all shows how)"));
    }
    if let Some(absent @ 1..) = summary.absent {
        remarks.push(format!("absent: {} of earlier imports not in this file", rows(absent)));
    }
    remarks
}

/// Nothing where there is nothing to remark.
fn remark_lines(summary: &Summary<'_>) -> String {
    paragraph(&remarks(summary))
}

/// Each on a line of its own, behind an empty one.
fn paragraph(lines: &[String]) -> String {
    let mut text = String::from(if lines.is_empty() { "" } else { "\n" });
    for line in lines {
        let _ = writeln!(text, "  {line}");
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
pub fn rows(count: u64) -> String {
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

/// How many a second: to a tenth where that is worth telling.
fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 99.95 {
        format!("{per_second:.1}")
    } else {
        grouped(per_second.round() as u64)
    }
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

/// How long it is from one time to another, both in UTC milliseconds.
fn time_between(from: i64, to: i64) -> String {
    time(Duration::from_millis(u64::try_from(to.saturating_sub(from)).unwrap_or(0)))
}

/// `2020-03-17 14:16`, from UTC milliseconds.
pub fn date(milliseconds: i64) -> String {
    let text = run::rfc3339(milliseconds);
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
        let end = (RunState::Completed, 0_u8, None);
        let summary = Summary::new(
            RunId(1),
            end,
            "a.csv",
            (&Tally::default(), &Dropped::default()),
            &RequestCounts::default(),
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
