//! Formats the findings of `validate` as text and JSON, with what to correct first.
//!
//! Contains no customer's field: a fault names characters, positions and counts.

use std::{borrow::Cow, collections::BTreeSet, fmt::Write as _, time::Duration};

use serde::Serialize;

use super::{
    error_summary::{DUPLICATE_REMEDY, RemedyRows},
    format::{first_lines, grouped, paragraph, per_cent, request_rate, rows, share, time, visible_text},
    mapping::{MappedField, column_warnings, mapped_fields, mapping_lines, unused_columns},
    rescue::{RescueJson, rescue_lines, rescue_list},
    summary::{AdjustedRows, DroppedField, adjusted_list, dropped_list},
};
use crate::{
    customer::{Field, Rule, Rules},
    source::{Adjustments, Mapping, RowSample, Source},
    validate::{FaultExample, FaultGroup, Findings},
};

const SIMILAR: &str =
    "differ from an earlier reference only in letter case, blanks or the form of a character";

const SIMILAR_REMEDY: &str = "each becomes a customer of its own, or, where the API ignores letter case, the later ones are \
                              existing under the first one's id; make the references equal if one is meant";

/// The JSON object. Its names are a contract with scripts.
#[derive(Serialize)]
pub struct ValidationSummary<'a> {
    source: &'a str,
    rows: u64,
    valid: u64,
    invalid: u64,
    duplicate: u64,
    faults: Vec<FaultJson<'a>>,
    rescue: Vec<RescueJson>,
    duplicates: &'a RowSample,
    warnings: Vec<WarningJson<'a>>,
    dropped: Vec<DroppedField>,
    adjustments: Vec<AdjustedRows>,
    columns: Vec<MappedField>,
    unused_columns: Vec<String>,
    import: ImportJson,
}

#[derive(Serialize)]
pub(super) struct FaultJson<'a> {
    field: &'a str,
    rule: &'a str,
    rows: u64,
    per_cent: f64,
    first: &'a [FaultExample],
    remedy: &'a str,
    option: Option<String>,
    remedies: Vec<RemedyRows>,
}

#[derive(Serialize)]
pub(super) struct WarningJson<'a> {
    field: &'a str,
    warning: &'a str,
    #[serde(flatten)]
    lines: Option<&'a RowSample>,
    remedy: Cow<'a, str>,
}

#[derive(Serialize)]
struct ImportJson {
    rows: u64,
    rate: Option<f64>,
    seconds: Option<f64>,
}

impl<'a> ValidationSummary<'a> {
    /// The findings about a source, with the duration of an import at this rate.
    pub fn new(findings: &'a Findings, of: &'a Source, rate: Option<f64>) -> ValidationSummary<'a> {
        ValidationSummary {
            source: of.name(),
            rows: findings.rows(),
            valid: findings.valid(),
            invalid: findings.invalid(),
            duplicate: findings.duplicates.rows,
            faults: fault_list(findings, of.rules()),
            rescue: rescue_list(&findings.rescues),
            duplicates: &findings.duplicates,
            warnings: warnings(findings, of.mapping()),
            dropped: dropped_list(&findings.dropped),
            adjustments: adjusted_list(&of.adjustments()),
            columns: mapped_fields(of.mapping()),
            unused_columns: unused_columns(of.mapping()),
            import: ImportJson {
                rows: findings.valid(),
                rate,
                seconds: shortest_import(findings, rate).map(|shortest| shortest.as_secs_f64()),
            },
        }
    }
}

/// The warnings about references that look alike and about columns, for JSON.
pub(super) fn warnings<'a>(findings: &'a Findings, mapping: &Mapping) -> Vec<WarningJson<'a>> {
    let similar = Some(&findings.similar).filter(|similar| similar.rows > 0).map(|similar| WarningJson {
        field: Field::Reference.name(),
        warning: "alike",
        lines: Some(similar),
        remedy: SIMILAR_REMEDY.into(),
    });
    let of_columns = column_warnings(mapping).into_iter().map(|warning| WarningJson {
        field: warning.field.map_or("record", Field::name),
        warning: warning.name,
        lines: None,
        remedy: warning.text.into(),
    });
    similar.into_iter().chain(of_columns).collect()
}

/// The minimum duration of an import at this many requests per second.
fn shortest_import(findings: &Findings, rate: Option<f64>) -> Option<Duration> {
    Duration::try_from_secs_f64(findings.valid() as f64 / rate?).ok()
}

/// The findings about a source as text: faults by field and rule, each with a count, first lines and a remedy.
pub fn validation_text(findings: &Findings, of: &Source, rate: Option<f64>) -> String {
    let mut text = format!(
        "{}: {}, {} valid, {} invalid, {} duplicate\n",
        visible_text(of.name()),
        rows(findings.rows()),
        grouped(findings.valid()),
        grouped(findings.invalid()),
        grouped(findings.duplicates.rows),
    );
    let _ = write!(text, "import would send {}", rows(findings.valid()));
    if let (Some(rate), Some(shortest)) = (rate, shortest_import(findings, rate)) {
        let _ = write!(text, ", in {} at {}", time(shortest), request_rate(rate));
    }
    text.push('\n');
    add_findings(findings, of.rules(), of.mapping(), &of.adjustments(), &mut text);
    text
}

/// Adds the findings about a source: the effect of options, the columns, the faults, and the adjustments.
pub(super) fn add_findings(
    findings: &Findings,
    rules: &Rules,
    mapping: &Mapping,
    adjustments: &Adjustments,
    text: &mut String,
) {
    text.push_str(&rescue_lines(&rescue_list(&findings.rescues), findings.rows()));
    add_mapping(mapping, text);
    add_faults(findings, rules, text);
    if findings.similar.rows > 0 {
        let lines = sample_text(&findings.similar);
        let _ = writeln!(
            text,
            "\nwarning: object_reference_id alike: {lines}\n  {SIMILAR}\n  to do: {SIMILAR_REMEDY}"
        );
    }
    let dropped = dropped_list(&findings.dropped);
    let adjusted = adjusted_list(adjustments);
    let remarks = dropped.iter().map(ToString::to_string).chain(adjusted.iter().map(ToString::to_string));
    text.push_str(&paragraph(&remarks.collect::<Vec<_>>()));
}

/// Which column feeds which field, and the warnings about columns.
fn add_mapping(mapping: &Mapping, text: &mut String) {
    text.push_str(&mapping_lines(mapping));
    for warning in column_warnings(mapping) {
        let _ = writeln!(text, "\nwarning: {}", warning.text);
    }
}

/// The faults for JSON, those with the most rows first. An option that these rules already have is not suggested.
pub(super) fn fault_list<'a>(findings: &'a Findings, rules: &Rules) -> Vec<FaultJson<'a>> {
    let fault = |(of, group): (&'a (Option<Field>, Rule), &'a FaultGroup)| {
        let (field, rule) = of;
        let remedies = remedies(group, rules);
        FaultJson {
            field: field.map_or("record", Field::name),
            rule: rule.name(),
            rows: group.rows,
            per_cent: per_cent(group.rows, findings.rows()),
            first: &group.first,
            remedy: remedies.first().map_or("", |first| first.remedy),
            option: remedies.first().and_then(|first| first.option.clone()),
            remedies,
        }
    };
    findings.faults_by_rows().into_iter().map(fault).collect()
}

fn remedies(group: &FaultGroup, rules: &Rules) -> Vec<RemedyRows> {
    RemedyRows::list(&group.advice.list(), |option| Some(option).filter(|option| !rules.has(option)))
}

/// The faults and the duplicates as text.
fn add_faults(findings: &Findings, rules: &Rules, text: &mut String) {
    for ((field, rule), group) in findings.faults_by_rows() {
        let _ = writeln!(text, "\n{} {rule}: {}", field.map_or("record", Field::name), rows(group.rows));
        for FaultExample { line, seen } in &group.first {
            let _ = writeln!(text, "  line {line}: {seen}");
        }
        let share = share(group.rows, findings.rows());
        match group.rows - group.first.len() as u64 {
            0 => {
                let _ = writeln!(text, "  {share} of all rows");
            }
            more => {
                let _ = writeln!(text, "  and {} more, {share} of all rows", grouped(more));
            }
        }
        let remedies = remedies(group, rules);
        for remedy in RemedyRows::with_introduction(&remedies, "to do") {
            let _ = writeln!(text, "  {remedy}");
        }
        let is_named = |option: &str| remedies.iter().any(|of| of.remedy.contains(option));
        let options: BTreeSet<&str> = remedies.iter().filter_map(|of| of.option.as_deref()).collect();
        for option in options.into_iter().filter(|option| !is_named(option)) {
            let _ = writeln!(text, "  option: {option}");
        }
    }
    if findings.duplicates.rows > 0 {
        let lines = sample_text(&findings.duplicates);
        let _ = writeln!(text, "\nobject_reference_id duplicate: {lines}\n  to do: {DUPLICATE_REMEDY}");
    }
}

fn sample_text(sample: &RowSample) -> String {
    format!("{}, {}", rows(sample.rows), first_lines(sample))
}
