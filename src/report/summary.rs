//! The summary of a run: counts by outcome, requests, time, and remarks for the user.
//!
//! The object of `--summary-json` is a contract with scripts, and a report contains the same object. Every figure is a
//! committed count.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde::Serialize;

use super::{
    error_summary::{ErrorSummary, error_lines, summarize_errors},
    format::{
        count_line, counted, first_lines, grouped, paragraph, rate, requests, rfc3339, rows, seconds, time,
        visible_text,
    },
    mapping::{MappedField, mapped_fields, unused_columns},
    rescue::{RescueJson, rescue_lines, rescue_list},
    status::outcome_counts,
};
use crate::{
    customer::{Dropped, Field, FieldCounts, Rescue, Rule},
    ledger::{
        ExistingCounts, Outcome, Pruned, RequestCounts, RunDetails, RunId, RunState, Tally, Target,
        WorkerShare,
    },
    source::{Adjustment, Adjustments, Mapping, RowSample},
};

/// How many kinds of errors the summary shows.
const REASONS_SHOWN: usize = 5;

/// The object of `--summary-json`. Its names are a contract with scripts.
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    /// The run's number.
    pub run: RunId,
    /// The state in which it ended.
    pub state: RunState,
    /// The exit code; none while the run is in progress.
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
    /// Requests that repeated an earlier request for the same row.
    pub retries: u64,
    /// 429 responses.
    pub throttled: u64,
    /// Pauses that the API requested; none in a report, because the ledger does not store them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pauses: Option<u64>,
    /// The best rate sustained below an undocumented limit of the API, in requests per second.
    pub held_rate: Option<f64>,
    /// Wall time.
    pub elapsed_seconds: f64,
    /// Why the run stopped by itself.
    pub stop_reason: Option<&'a str>,
    /// Dropped fields, by field and rule.
    pub dropped: Vec<DroppedField>,
    /// How the source was read; none for an earlier run.
    #[serde(flatten)]
    pub reading: Option<SourceReading>,
    /// Rows that differ from what was imported, by field.
    pub changed_fields: BTreeMap<&'static str, u64>,
    /// Imported rows that are absent from the source; none if the source may be incomplete.
    pub absent: Option<u64>,
    /// Rows whose customer existed with different fields.
    pub existing_differing_rows: u64,
    /// These rows by the field that differs.
    pub existing_differing: BTreeMap<&'static str, u64>,
    /// Existing rows whose customer may or may not have been created by a Create of this ledger.
    pub existing_uncertain: u64,
    /// Rows whose reference the API spells differently.
    pub respelled: u64,
    /// What the process has done of the run, if several processes can work on it.
    #[serde(flatten)]
    pub worker: Option<WorkerShare>,
    /// Identifies the run for other programs; none in a report, which has this data elsewhere.
    #[serde(flatten)]
    pub context: Option<RunContext<'a>>,
}

/// How a run ended, or that it has not ended.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The state.
    pub state: RunState,
    /// None while the run is in progress.
    pub exit_code: Option<u8>,
    /// Why the run stopped by itself, if it did.
    pub stop_reason: Option<&'a str>,
}

/// The context of a run: target, ledger, times and errors.
#[derive(Debug, Serialize)]
pub struct RunContext<'a> {
    /// The merchant's id.
    pub merchant: &'a str,
    /// The base URL.
    pub target: &'a str,
    /// The ledger's path.
    pub ledger: &'a str,
    /// RFC 3339. This and the following members are none if the ledger could not be read.
    pub started_at: Option<String>,
    /// RFC 3339; also none if the user did not wait for the end.
    pub ended_at: Option<String>,
    /// The errors, the most frequent first.
    pub reasons: Option<Vec<ErrorSummary>>,
    /// What each option that was not given would make of the invalid rows.
    pub rescue: Vec<RescueJson>,
}

/// How a source was read.
#[derive(Debug, Serialize)]
pub struct SourceReading {
    /// The fields and their columns; empty for a retry.
    pub columns: Vec<MappedField>,
    /// Columns that feed no field.
    pub unused_columns: Vec<String>,
    /// What was read differently from how it is written in the source.
    pub adjustments: Vec<AdjustedRows>,
}

impl SourceReading {
    /// The reading of a source with this mapping.
    pub fn new(mapping: &Mapping, adjustments: &Adjustments) -> SourceReading {
        SourceReading {
            columns: mapped_fields(mapping),
            unused_columns: unused_columns(mapping),
            adjustments: adjusted_list(adjustments),
        }
    }
}

impl<'a> RunContext<'a> {
    /// The context of a run, with the details from its ledger.
    pub fn new(
        target: &'a Target,
        ledger: &'a str,
        details: Option<&RunDetails>,
        rescues: &[Rescue],
    ) -> RunContext<'a> {
        let run = details.map(|details| &details.run);
        RunContext {
            merchant: &target.merchant_id,
            target: &target.base_url,
            ledger,
            started_at: run.map(|run| rfc3339(run.started_at)),
            ended_at: run.and_then(|run| run.ended_at).map(rfc3339),
            reasons: details.map(|details| summarize_errors(&details.groups, &details.invalid, rescues)),
            rescue: rescue_list(rescues),
        }
    }
}

impl<'a> Summary<'a> {
    /// The summary of a run, without what only some runs have.
    pub fn new(
        run: RunId,
        end: End<'a>,
        source: &'a str,
        tally: &Tally,
        request_counts: &RequestCounts,
        elapsed: Duration,
    ) -> Summary<'a> {
        let End { state, exit_code, stop_reason } = end;
        Summary {
            run,
            state,
            exit_code,
            source,
            rows: tally.rows(),
            outcomes: outcome_counts(tally),
            requests: request_counts.requests,
            retries: request_counts.retries,
            throttled: request_counts.throttled,
            pauses: None,
            held_rate: None,
            elapsed_seconds: seconds(elapsed),
            stop_reason,
            dropped: Vec::new(),
            reading: None,
            changed_fields: BTreeMap::new(),
            absent: None,
            existing_differing_rows: 0,
            existing_differing: BTreeMap::new(),
            existing_uncertain: 0,
            respelled: 0,
            worker: None,
            context: None,
        }
    }

    /// Adds the counts about customers that already existed.
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
    pub(super) fn rate(&self) -> String {
        rate(self.requests as f64 / self.elapsed_seconds.max(0.001))
    }

    /// The number of rows with this outcome.
    pub(super) fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(outcome.name()).copied().unwrap_or_default()
    }
}

/// The summary as a table: outcomes, time and rate, and errors.
pub fn run_table(summary: &Summary<'_>) -> String {
    let mut text =
        format!("\nRun {} {}: {}\n\n", summary.run, summary.state.name(), visible_text(summary.source));
    text.push_str(&outcome_lines(summary));
    if let Some(context) = &summary.context {
        let reasons = context.reasons.as_deref().unwrap_or_default();
        text.push_str(&error_lines(reasons, REASONS_SHOWN, "customer-import report shows them"));
        text.push_str(&rescue_lines(&context.rescue, summary.rows));
    }
    text.push_str(&remark_lines(summary));
    if let Some(held) = summary.held_rate {
        let _ = writeln!(text, "  about {held} requests/s held; give --rate {held} next time");
    }
    text
}

/// The outcomes that are not zero, the time, the requests.
pub(super) fn outcome_lines(summary: &Summary<'_>) -> String {
    let mut text = String::new();
    for outcome in Outcome::ALL.into_iter().filter(|outcome| summary.count(*outcome) > 0) {
        text.push_str(&count_line(outcome.name(), summary.count(outcome), outcome.explanation()));
    }
    let _ = writeln!(
        text,
        "  {:<10} {:>14}\n\n  {} in {}: {} ({} per second)",
        "rows",
        grouped(summary.rows),
        rows(summary.rows),
        time(Duration::from_secs_f64(summary.elapsed_seconds)),
        requests(summary.requests),
        summary.rate(),
    );
    let pauses = summary.pauses.unwrap_or_default();
    let counts = [(summary.retries, "repeated"), (pauses, if pauses == 1 { "pause" } else { "pauses" })];
    let some = counts.into_iter().filter(|(count, _)| *count > 0);
    let some: Vec<String> = some.map(|(count, what)| format!("{} {what}", grouped(count))).collect();
    if !some.is_empty() {
        let _ = writeln!(text, "  {}", some.join(", "));
    }
    if summary.throttled > 0 {
        let _ = writeln!(text, "  requests refused by the API: {}", grouped(summary.throttled));
    }
    text
}

/// The result of `prune` as text.
pub fn pruned_text(ledger: &str, pruned: &Pruned) -> String {
    let kib = |bytes: u64| grouped(bytes.div_ceil(1024));
    let Pruned { runs, records, unsendable, bytes_before, bytes_after } = *pruned;
    format!(
        "Pruned  {}\n        {}, the cells of {}, {} that were invalid or duplicates\n        {} KiB before, {} KiB now; ids stay\n",
        visible_text(ledger),
        counted(runs, "run"),
        rows(records),
        rows(unsendable),
        kib(bytes_before),
        kib(bytes_after),
    )
}

/// The number of rows without a field that broke a rule.
#[derive(Debug, Serialize)]
pub struct DroppedField {
    field: &'static str,
    rule: &'static str,
    rows: u64,
}

/// The dropped fields, by field and rule.
pub fn dropped_list(dropped: &Dropped) -> Vec<DroppedField> {
    let each = |(field, rule, rows): (Field, Rule, u64)| DroppedField {
        field: field.name(),
        rule: rule.name(),
        rows,
    };
    dropped.iter().map(each).collect()
}

/// The number of rows, or of lines between rows, with one kind of adjustment.
#[derive(Debug, Serialize)]
pub struct AdjustedRows {
    adjustment: &'static str,
    field: Option<&'static str>,
    #[serde(flatten)]
    sample: RowSample,
    #[serde(skip)]
    text: String,
}

/// What was read differently from how it is written in a source.
pub fn adjusted_list(adjustments: &Adjustments) -> Vec<AdjustedRows> {
    let each = |(adjustment, sample): (Adjustment, RowSample)| AdjustedRows {
        adjustment: adjustment.name(),
        field: adjustment.field().map(Field::name),
        sample,
        text: adjustment.to_string(),
    };
    adjustments.list().into_iter().map(each).collect()
}

impl std::fmt::Display for AdjustedRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}, {}", self.text, grouped(self.sample.rows), first_lines(&self.sample))
    }
}

/// The number of rows that differ, by field name.
pub fn changed_list(changed: &FieldCounts) -> BTreeMap<&'static str, u64> {
    changed.iter().map(|(field, rows)| (field.name(), rows)).collect()
}

impl std::fmt::Display for DroppedField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "dropped {} for {}: {}", self.field, self.rule, rows(self.rows))
    }
}

/// Remarks beyond the outcomes, one per line: dropped fields, changed fields, existing customers, absent rows.
pub(super) fn remarks(summary: &Summary<'_>) -> Vec<String> {
    let mut remarks: Vec<String> = summary.dropped.iter().map(ToString::to_string).collect();
    remarks.extend(summary.reading.iter().flat_map(|reading| &reading.adjustments).map(ToString::to_string));
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
        // A run with this option has no differing row that it left as it was.
        if summary.count(Outcome::Existing) > 0 && summary.count(Outcome::Updated) == 0 {
            remarks.push("  --update-changed sends the file's fields for them".into());
        }
    }
    if summary.existing_uncertain > 0 {
        let count = rows(summary.existing_uncertain);
        remarks.push(format!("existing, uncertain: {count} that this run or somebody else created"));
    }
    if summary.respelled > 0 {
        let count = rows(summary.respelled);
        remarks.push(format!("spelled differently by the API: {count} (export all shows how)"));
    }
    if let Some(absent @ 1..) = summary.absent {
        remarks.push(format!("absent: {} of earlier imports not in this file", rows(absent)));
    }
    remarks
}

/// The remarks as text; empty if there are none.
pub(super) fn remark_lines(summary: &Summary<'_>) -> String {
    paragraph(&remarks(summary))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_every_name_of_the_contract() {
        let end = End { state: RunState::Completed, exit_code: Some(0), stop_reason: None };
        let (tally, requests) = (Tally::default(), RequestCounts::default());
        let summary = Summary::new(RunId(1), end, "a.csv", &tally, &requests, Duration::from_secs(1));
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
