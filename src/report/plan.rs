//! Formats the result of `plan` as text and JSON: counts, fields, rules and lines, never a value.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde::Serialize;

use super::{
    format::{count_line, grouped, request_rate, requests, rows, seconds, time, visible_text},
    mapping::{MappedField, mapped_fields, unused_columns},
    rescue::{RescueJson, rescue_list},
    summary::{AdjustedRows, DroppedField, adjusted_list, changed_list, dropped_list},
    validation::{FaultJson, WarningJson, add_findings, fault_list, warnings},
};
use crate::{
    customer::{FieldCounts, Rules},
    ledger::{Command, RequestCounts, RunId, RunState},
    plan::{Asked, Plan, Share},
    source::{Adjustments, Mapping, RowSample},
};

/// A plan with its context.
#[derive(Clone, Copy, Debug)]
pub struct PlanToReport<'a> {
    /// The source as given.
    pub source: &'a str,
    /// The ledger as given.
    pub ledger: &'a str,
    /// Whether the ledger exists.
    pub ledger_exists: bool,
    /// The run in progress on this ledger.
    pub running: Option<RunId>,
    /// Rows of the ledger that the next run looks up first.
    pub ledger_in_doubt: u64,
    /// What an import would do.
    pub plan: &'a Plan,
    /// The rules that the rows were read by.
    pub rules: &'a Rules,
    /// Which column feeds which field.
    pub mapping: &'a Mapping,
    /// Counts of what was read differently from how it is written in the source.
    pub adjustments: &'a Adjustments,
    /// The rate of the import in requests per second; none without a limit.
    pub rate: Option<f64>,
    /// The command that is planned: it decides whether Updates are sent.
    pub command: Command,
    /// The result of the lookups at the API, if there were any.
    pub asked: Option<AskedToReport<'a>>,
}

/// What the API has of the rows that are new to the ledger.
#[derive(Clone, Copy, Debug)]
pub struct AskedToReport<'a> {
    /// The counts of the lookups.
    pub asked: &'a Asked,
    /// The state in which the lookups ended.
    pub state: RunState,
    /// Why the lookups stopped by themselves, if they did.
    pub stop_reason: Option<&'a str>,
    /// The requests of the lookups.
    pub request_counts: RequestCounts,
    /// Wall time.
    pub elapsed: Duration,
}

impl AskedToReport<'_> {
    /// The estimated share of `count` of the answers in all new rows. None if the lookups ended early: they are then
    /// those of the first rows, which are not a random sample.
    fn share(&self, count: u64, plan: &Plan) -> Option<Share> {
        let is_complete = self.state == RunState::Completed;
        Share::of(count, self.asked.answered(), plan.create).filter(|_| is_complete)
    }
}

impl PlanToReport<'_> {
    /// The number of requests of the import. Without lookups it is a minimum, because failed attempts and existing
    /// customers take more requests. With lookups, those for existing customers are included by estimate.
    fn requests(&self) -> u64 {
        let fewest = self.plan.sent() - self.plan.in_doubt + self.ledger_in_doubt;
        let Some(asked) = &self.asked else { return fewest };
        // A Create that is refused, a Get, and an Update if the fields differ.
        let updates = if self.command == Command::ImportAndUpdate { asked.asked.different } else { 0 };
        let more = [asked.asked.existing(), updates].map(|count| asked.share(count, self.plan));
        let estimate = |share: Share| (share.share * self.plan.create as f64).round() as u64;
        fewest + more.into_iter().flatten().map(estimate).sum::<u64>()
    }

    /// The minimum duration of the import.
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
    /// Whether the source was read to its end.
    complete: bool,
    rows: u64,
    create: u64,
    update: u64,
    changed: u64,
    changed_fields: BTreeMap<&'static str, u64>,
    unchanged: u64,
    try_again: u64,
    /// By the current outcome of the rows.
    try_again_outcomes: &'a BTreeMap<&'static str, u64>,
    in_doubt: u64,
    /// For the whole ledger.
    ledger_in_doubt: u64,
    rejected: u64,
    duplicate: u64,
    invalid: u64,
    faults: Vec<FaultJson<'a>>,
    rescue: Vec<RescueJson>,
    warnings: Vec<WarningJson<'a>>,
    duplicates: &'a RowSample,
    dropped: Vec<DroppedField>,
    adjustments: Vec<AdjustedRows>,
    columns: Vec<MappedField>,
    unused_columns: Vec<String>,
    import: ImportJson,
    asked: Option<AskedJson>,
}

/// The lookups of rows to create.
#[derive(Serialize)]
struct AskedJson {
    state: RunState,
    stop_reason: Option<String>,
    /// Number of rows looked up.
    rows: u64,
    new: u64,
    same: u64,
    different: u64,
    unanswered: u64,
    different_fields: BTreeMap<&'static str, u64>,
    existing_share: Option<ShareJson>,
    different_share: Option<ShareJson>,
    requests: u64,
    retries: u64,
    throttled: u64,
    elapsed_seconds: f64,
}

/// A share of all rows to create, with its 95 % interval, in per cent and in rows.
#[derive(Serialize)]
struct ShareJson {
    per_cent: f64,
    per_cent_low: f64,
    per_cent_high: f64,
    rows: u64,
    rows_low: u64,
    rows_high: u64,
}

impl ShareJson {
    fn of(Share { share, low, high }: Share, rows: u64) -> ShareJson {
        let per_cent = |share: f64| (share * 1000.0).round() / 10.0;
        let of_rows = |share: f64| (share * rows as f64).round() as u64;
        ShareJson {
            per_cent: per_cent(share),
            per_cent_low: per_cent(low),
            per_cent_high: per_cent(high),
            rows: of_rows(share),
            rows_low: of_rows(low),
            rows_high: of_rows(high),
        }
    }

    /// `51.2 % (95 % interval 48.1 to 54.3 %), about 512 of the rows to create (481 to 543)`; only the share and its rows if
    /// it is exact.
    fn text(&self) -> String {
        let ShareJson { per_cent, per_cent_low, per_cent_high, rows, rows_low, rows_high } = self;
        if rows_low == rows_high {
            return format!("{per_cent} % of the rows to create, {}", grouped(*rows));
        }
        format!(
            "{per_cent} % (95 % interval {per_cent_low} to {per_cent_high} %), about {} of the rows to create \
             ({} to {})",
            grouped(*rows),
            grouped(*rows_low),
            grouped(*rows_high),
        )
    }
}

impl AskedJson {
    fn of(of: &AskedToReport<'_>, plan: &Plan) -> AskedJson {
        let AskedToReport { asked, state, stop_reason, request_counts, elapsed } = *of;
        let share = |count| Some(ShareJson::of(of.share(count, plan)?, plan.create));
        AskedJson {
            state,
            stop_reason: stop_reason.map(str::to_owned),
            rows: asked.looked_up(),
            new: asked.new,
            same: asked.same,
            different: asked.different,
            unanswered: asked.unanswered,
            different_fields: changed_list(&asked.fields),
            existing_share: share(asked.existing()),
            different_share: share(asked.different),
            requests: request_counts.requests,
            retries: request_counts.retries,
            throttled: request_counts.throttled,
            elapsed_seconds: seconds(elapsed),
        }
    }
}

#[derive(Serialize)]
struct ImportJson {
    /// Rows for which requests are sent.
    rows: u64,
    /// The minimum number of requests; with lookups, including those for existing customers.
    requests: u64,
    rate: Option<f64>,
    seconds: Option<f64>,
}

impl<'a> PlanSummary<'a> {
    /// The object of a plan.
    pub fn of(planned: &PlanToReport<'a>, exit_code: u8) -> PlanSummary<'a> {
        let PlanToReport { source, plan, mapping, ledger, ledger_exists, .. } = *planned;
        PlanSummary {
            source,
            ledger,
            ledger_exists,
            running: planned.running,
            exit_code,
            complete: plan.is_whole,
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
            rescue: rescue_list(&plan.findings.rescues),
            warnings: warnings(&plan.findings, mapping),
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
            asked: planned.asked.as_ref().map(|asked| AskedJson::of(asked, plan)),
        }
    }
}

/// A plan as text.
pub fn plan_text(planned: &PlanToReport<'_>) -> String {
    let PlanToReport { source, plan, mapping, ledger, ledger_exists: exists, .. } = *planned;
    let is_new = if exists { "" } else { ", which does not exist yet" };
    let mut text = format!(
        "{}: {}, beside the ledger {}{is_new}\n",
        visible_text(source),
        rows(plan.findings.rows()),
        visible_text(ledger)
    );
    if let Some(run) = planned.running {
        let _ = writeln!(text, "run {run} is writing to the ledger: the counts are as of a moment ago");
    }
    if !plan.is_whole {
        text.push_str("the file was not read to its end: the counts cover the rows before\n");
    }
    text.push('\n');
    add_counts(plan, &mut text);
    if let Some(asked) = &planned.asked {
        add_asked(asked, plan, &mut text);
    }
    let about = if planned.asked.is_some() { "about" } else { "at least" };
    let _ = write!(text, "\nimport would send {about} {}", requests(planned.requests()));
    if let (Some(rate), Some(shortest)) = (planned.rate, planned.shortest()) {
        let _ = write!(text, ", in {} at {}", time(shortest), request_rate(rate));
    }
    text.push('\n');
    let elsewhere = planned.ledger_in_doubt.saturating_sub(plan.in_doubt);
    if elsewhere > 0 {
        let _ =
            writeln!(text, "  {} in doubt that this file does not have are looked up too", rows(elsewhere));
    }
    add_findings(&plan.findings, planned.rules, mapping, planned.adjustments, &mut text);
    text
}

/// Adds the results of the lookups of rows to create.
fn add_asked(of: &AskedToReport<'_>, plan: &Plan, text: &mut String) {
    let (asked, request_counts) = (of.asked, of.request_counts);
    let _ = writeln!(
        text,
        "\nthe API was asked about {} of {} to create, in {}: {}, {} repeated, {} throttled",
        grouped(asked.looked_up()),
        rows(plan.create),
        time(of.elapsed),
        requests(request_counts.requests),
        grouped(request_counts.retries),
        grouped(request_counts.throttled),
    );
    let fields = field_words(&asked.fields);
    for (word, count, meaning) in [
        ("new", asked.new, "the API does not have them".to_owned()),
        ("same", asked.same, "there already, same fields".into()),
        ("different", asked.different, format!("there already; they differ in {fields}")),
        ("unanswered", asked.unanswered, "no answer in all attempts".into()),
    ] {
        if count > 0 {
            text.push_str(&count_line(word, count, &meaning));
        }
    }
    for (words, count) in [("there already", asked.existing()), ("different", asked.different)] {
        if let Some(share) = of.share(count, plan) {
            let _ = writeln!(text, "  {words}: {}", ShareJson::of(share, plan.create).text());
        }
    }
}

/// `mobile_number 12, first_name 3`
fn field_words(fields: &FieldCounts) -> String {
    let words = changed_list(fields).into_iter().map(|(field, rows)| format!("{field} {}", grouped(rows)));
    words.collect::<Vec<_>>().join(", ")
}

/// One line for each kind of row in the file.
fn add_counts(plan: &Plan, text: &mut String) {
    let fields = field_words(&plan.fields);
    let outcomes: Vec<String> =
        plan.try_again.iter().map(|(outcome, rows)| format!("{outcome} {}", grouped(*rows))).collect();
    for (word, count, meaning) in [
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
            text.push_str(&count_line(word, count, &meaning));
        }
    }
}

/// The text in the progress after the number of rows looked up.
pub fn asking_words(asked: &Asked) -> Vec<String> {
    let parts = [("new", asked.new), ("same", asked.same), ("different", asked.different)];
    let parts = parts.into_iter().chain([("unanswered", asked.unanswered)]).filter(|(_, count)| *count > 0);
    parts.map(|(word, count)| format!("{} {word}", grouped(count))).collect()
}
