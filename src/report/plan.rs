//! What `plan` found out, as text and JSON: counts, fields, rules and lines, never a value.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde::Serialize;

use super::{
    format::{grouped, paragraph, rows, time, visible_text},
    mapping::{MappedField, mapped_fields, unused_columns},
    summary::{AdjustedRows, DroppedField, adjusted_list, changed_list, dropped_list},
    validation::{FaultJson, add_faults, add_mapping, fault_list},
};
use crate::{
    customer::Rules,
    ledger::RunId,
    plan::Plan,
    source::{Adjustments, Mapping, RowSample},
};

/// A plan with what a reader needs to know beside it.
#[derive(Clone, Copy, Debug)]
pub struct PlanToReport<'a> {
    /// The source as given.
    pub source: &'a str,
    /// The ledger as given, and whether there is one.
    pub ledger: (&'a str, bool),
    /// The run that goes on in it.
    pub running: Option<RunId>,
    /// Rows of the ledger that the next run looks up before anything else.
    pub ledger_in_doubt: u64,
    /// What an import would do.
    pub plan: &'a Plan,
    /// How the rows were read.
    pub rules: &'a Rules,
    /// Which column feeds which field.
    pub mapping: &'a Mapping,
    /// What was read differently from how it stands in the source.
    pub adjustments: &'a Adjustments,
    /// Requests per second of the import; none where there is no limit.
    pub rate: Option<f64>,
}

impl PlanToReport<'_> {
    /// The fewest requests of the import. More are needed where an attempt fails or a customer exists.
    fn requests(&self) -> u64 {
        self.plan.sent() - self.plan.in_doubt + self.ledger_in_doubt
    }

    /// The shortest time of the import.
    fn shortest(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.requests() as f64 / self.rate?).ok()
    }
}

/// The JSON object. Its names are a contract with scripts.
#[derive(Serialize)]
pub struct PlanSummary<'a> {
    source: &'a str,
    ledger: &'a str,
    ledger_exists: bool,
    running: Option<RunId>,
    exit_code: u8,
    rows: u64,
    create: u64,
    update: u64,
    changed: u64,
    changed_fields: BTreeMap<&'static str, u64>,
    unchanged: u64,
    try_again: u64,
    /// By the outcome that the rows have.
    try_again_outcomes: &'a BTreeMap<&'static str, u64>,
    in_doubt: u64,
    /// Of the whole ledger.
    ledger_in_doubt: u64,
    rejected: u64,
    duplicate: u64,
    invalid: u64,
    faults: Vec<FaultJson<'a>>,
    duplicates: &'a RowSample,
    dropped: Vec<DroppedField>,
    adjustments: Vec<AdjustedRows>,
    columns: Vec<MappedField>,
    unused_columns: Vec<String>,
    import: ImportJson,
}

#[derive(Serialize)]
struct ImportJson {
    /// Rows for which something is sent.
    rows: u64,
    /// The fewest requests.
    requests: u64,
    rate: Option<f64>,
    seconds: Option<f64>,
}

impl<'a> PlanSummary<'a> {
    /// The object of a plan.
    pub fn of(planned: &PlanToReport<'a>, exit_code: u8) -> PlanSummary<'a> {
        let PlanToReport { source, plan, mapping, ledger: (ledger, ledger_exists), .. } = *planned;
        PlanSummary {
            source,
            ledger,
            ledger_exists,
            running: planned.running,
            exit_code,
            rows: plan.findings.rows(),
            create: plan.create,
            update: plan.update,
            changed: plan.changed,
            changed_fields: changed_list(&plan.fields),
            unchanged: plan.unchanged,
            try_again: plan.try_again_rows(),
            try_again_outcomes: &plan.try_again,
            in_doubt: plan.in_doubt,
            ledger_in_doubt: planned.ledger_in_doubt,
            rejected: plan.rejected,
            duplicate: plan.findings.duplicates.rows,
            invalid: plan.findings.invalid(),
            faults: fault_list(&plan.findings, planned.rules),
            duplicates: &plan.findings.duplicates,
            dropped: dropped_list(&plan.findings.dropped),
            adjustments: adjusted_list(planned.adjustments),
            columns: mapped_fields(mapping),
            unused_columns: unused_columns(mapping),
            import: ImportJson {
                rows: plan.sent(),
                requests: planned.requests(),
                rate: planned.rate,
                seconds: planned.shortest().map(|shortest| shortest.as_secs_f64()),
            },
        }
    }
}

/// A plan as text.
pub fn plan_text(planned: &PlanToReport<'_>) -> String {
    let PlanToReport { source, plan, mapping, ledger: (ledger, exists), .. } = *planned;
    let is_new = if exists { "" } else { ", which does not exist yet" };
    let mut text = format!(
        "{}: {}, beside the ledger {}{is_new}\n",
        visible_text(source),
        rows(plan.findings.rows()),
        visible_text(ledger)
    );
    if let Some(run) = planned.running {
        let _ = writeln!(text, "run {run} is writing to the ledger: the counts are of a moment ago");
    }
    text.push('\n');
    add_counts(plan, &mut text);
    let requests = planned.requests();
    let noun = if requests == 1 { "request" } else { "requests" };
    let _ = write!(text, "\nimport would send at least {} {noun}", grouped(requests));
    if let (Some(rate), Some(shortest)) = (planned.rate, planned.shortest()) {
        let _ = write!(text, ", in {} at {rate} requests per second", time(shortest));
    }
    text.push('\n');
    let elsewhere = planned.ledger_in_doubt.saturating_sub(plan.in_doubt);
    if elsewhere > 0 {
        let _ =
            writeln!(text, "  {} in doubt that this file does not have are looked up too", rows(elsewhere));
    }
    add_mapping(mapping, &mut text);
    add_faults(&plan.findings, planned.rules, &mut text);
    let (dropped, adjusted) = (dropped_list(&plan.findings.dropped), adjusted_list(planned.adjustments));
    let remarks = dropped.iter().map(ToString::to_string).chain(adjusted.iter().map(ToString::to_string));
    text.push_str(&paragraph(&remarks.collect::<Vec<_>>()));
    text
}

/// One line for each kind of row that the file has.
fn add_counts(plan: &Plan, text: &mut String) {
    let fields: Vec<String> = changed_list(&plan.fields)
        .into_iter()
        .map(|(field, rows)| format!("{field} {}", grouped(rows)))
        .collect();
    let fields = fields.join(", ");
    let outcomes: Vec<String> =
        plan.try_again.iter().map(|(outcome, rows)| format!("{outcome} {}", grouped(*rows))).collect();
    for (word, count, explained) in [
        ("create", plan.create, "new to the ledger".to_owned()),
        ("update", plan.update, format!("differ from the import: {fields}")),
        ("changed", plan.changed, format!("skipped without --update-changed: {fields}")),
        ("unchanged", plan.unchanged, "imported before, same fields; nothing is sent".into()),
        ("try again", plan.try_again_rows(), outcomes.join(", ")),
        ("in doubt", plan.in_doubt, "a run may have created them; the API is asked first".into()),
        ("rejected", plan.rejected, "refused before, same fields; only retry sends them".into()),
        ("duplicate", plan.findings.duplicates.rows, "an earlier row has the reference".into()),
        ("invalid", plan.findings.invalid(), "break a rule".into()),
    ] {
        if count > 0 {
            let _ = writeln!(text, "  {word:<10} {:>14}   {explained}", grouped(count));
        }
    }
}
