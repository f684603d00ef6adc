//! Formats the findings of `verify` as text and JSON: counts, fields and lines, never a value.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde::Serialize;

use super::{
    format::{count_line, grouped, requests, rows, seconds, time, visible_text, wrapped},
    summary::{AdjustedRows, adjusted_list, changed_list},
};
use crate::{
    ledger::{RequestCounts, RunState},
    source::Adjustments,
    verify::ComparisonResult,
};

/// How many lines the text lists per group.
const LINES_SHOWN: usize = 10;

/// A verification to report.
#[derive(Clone, Copy, Debug)]
pub struct Verification<'a> {
    /// The source as given.
    pub source: &'a str,
    /// The state in which it ended.
    pub state: RunState,
    /// The exit code.
    pub exit_code: u8,
    /// Why it stopped by itself, if it did.
    pub stop_reason: Option<&'a str>,
    /// Counts of what was read differently from how it is written in the source.
    pub adjustments: &'a Adjustments,
    /// The counts of the comparison.
    pub found: &'a ComparisonResult,
    /// Rows of the ledger that the file does not have.
    pub not_in_file: u64,
    /// Rows marked as changed in the ledger; none without `--mark`.
    pub marked: Option<u64>,
    /// Requests.
    pub request_counts: RequestCounts,
    /// Wall time.
    pub elapsed: Duration,
}

/// The JSON object. Its names are a contract with scripts.
#[derive(Debug, Serialize)]
pub struct VerificationSummary<'a> {
    state: RunState,
    exit_code: u8,
    source: &'a str,
    rows: u64,
    same: u64,
    different: u64,
    missing: u64,
    unanswered: u64,
    not_imported: u64,
    not_in_file: u64,
    different_fields: BTreeMap<&'static str, u64>,
    different_id: u64,
    marked: Option<u64>,
    different_lines: Vec<u64>,
    missing_lines: &'a [u64],
    requests: u64,
    retries: u64,
    throttled: u64,
    elapsed_seconds: f64,
    stop_reason: Option<&'a str>,
    adjustments: Vec<AdjustedRows>,
}

impl<'a> VerificationSummary<'a> {
    /// The object of a verification.
    pub fn of(verification: &Verification<'a>) -> VerificationSummary<'a> {
        let Verification { source, state, exit_code, stop_reason, found, request_counts, .. } = *verification;
        VerificationSummary {
            state,
            exit_code,
            source,
            rows: found.rows,
            same: found.same,
            different: found.different,
            missing: found.missing,
            unanswered: found.unanswered,
            not_imported: found.not_imported,
            not_in_file: verification.not_in_file,
            different_fields: changed_list(&found.fields),
            different_id: found.other_id,
            marked: verification.marked,
            different_lines: found.first_different.iter().map(|(line, _)| *line).collect(),
            missing_lines: &found.first_missing,
            requests: request_counts.requests,
            retries: request_counts.retries,
            throttled: request_counts.throttled,
            elapsed_seconds: seconds(verification.elapsed),
            stop_reason,
            adjustments: adjusted_list(verification.adjustments),
        }
    }
}

/// A verification as a table.
pub fn verification_table(verification: &Verification<'_>) -> String {
    let Verification { source, state, found, request_counts, .. } = *verification;
    let mut text = format!("\nVerify {}: {}\n\n", state.name(), visible_text(source));
    for (word, count, meaning) in [
        ("same", found.same, "the API has what the file says"),
        ("different", found.different, "the API has something else"),
        ("missing", found.missing, "the API has no such customer"),
        ("unanswered", found.unanswered, "no answer in all attempts"),
    ] {
        if count > 0 || word == "same" {
            text.push_str(&count_line(word, count, meaning));
        }
    }
    let _ = write!(
        text,
        "\n  {} checked in {}: {}",
        rows(found.looked_up()),
        time(verification.elapsed),
        requests(request_counts.requests),
    );
    for (count, what) in
        [(request_counts.retries, "repeated"), (request_counts.throttled, "refused by the API's limit")]
    {
        if count > 0 {
            let _ = write!(text, ", {} {what}", grouped(count));
        }
    }
    text.push('\n');
    if found.not_imported > 0 {
        let _ = writeln!(
            text,
            "  not imported with this ledger, so not checked: {} of the file",
            rows(found.not_imported)
        );
    }
    if verification.not_in_file > 0 && state == RunState::Completed {
        let _ = writeln!(
            text,
            "  not in this file, so not checked: {} of the ledger",
            rows(verification.not_in_file)
        );
    }
    for adjusted in adjusted_list(verification.adjustments) {
        text.push_str(&wrapped(&adjusted.to_string(), 2));
    }
    if found.different > 0 {
        let fields = changed_list(&found.fields).into_iter();
        let mut parts: Vec<String> =
            fields.map(|(field, rows)| format!("{field} {}", grouped(rows))).collect();
        if found.other_id > 0 {
            parts.push(format!("customer id {}", grouped(found.other_id)));
        }
        let _ = writeln!(text, "\n  different: {}", parts.join(", "));
        for (line, what) in found.first_different.iter().take(LINES_SHOWN) {
            let _ = writeln!(text, "    line {line}: {what}");
        }
        text.push_str(&more(found.different));
        text.push_str(&repair(verification));
    }
    if found.missing > 0 {
        text.push_str("\n  missing:\n");
        for line in found.first_missing.iter().take(LINES_SHOWN) {
            let _ = writeln!(text, "    line {line}");
        }
        text.push_str(&more(found.missing));
    }
    text
}

/// How to send the file's fields to the API. An import compares the file with the ledger, so a change made at the API
/// must first be marked in the ledger.
fn repair(verification: &Verification<'_>) -> String {
    let source = visible_text(verification.source);
    let unnoticed = verification.found.unnoticed;
    let mut text = String::new();
    match verification.marked {
        Some(marked) => {
            let _ = writeln!(text, "  marked as changed in the ledger: {}", rows(marked));
        }
        None if unnoticed > 0 => {
            let _ = writeln!(
                text,
                "  not recorded in the ledger, so an import would not repair them: {}\n  to mark them, first:\n    customer-import verify {source} --mark",
                rows(unnoticed)
            );
        }
        None => {}
    }
    let _ = writeln!(
        text,
        "  to repair (with the options of the import):\n    customer-import import {source} --update-changed"
    );
    text
}

fn more(count: u64) -> String {
    match count.saturating_sub(LINES_SHOWN as u64) {
        0 => String::new(),
        more => format!("    and {} more (-vv names each line)\n", grouped(more)),
    }
}

/// The text in the progress after the number of rows.
pub fn verification_words(found: &ComparisonResult) -> Vec<String> {
    let parts =
        [("different", found.different), ("missing", found.missing), ("unanswered", found.unanswered)];
    let parts = parts.into_iter().filter(|(_, count)| *count > 0);
    parts.map(|(word, count)| format!("{} {word}", grouped(count))).collect()
}
