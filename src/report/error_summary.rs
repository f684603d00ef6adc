//! The errors of a run, grouped: the number of rows, the first lines, and what to do.
//!
//! Pure. A row that breaks several rules is counted in each of their groups.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use super::{
    format::{rows, visible_text, wrapped},
    redact::redact,
};
use crate::{
    customer::{Advice, CharacterKind, FaultReason, Field, FieldKind, InvalidCounts, Rescue, Rule, noun},
    ledger::{ErrorGroup, Outcome, RowError, Tally},
};

/// How many lines each group lists.
const LINES_SHOWN: usize = 5;

pub(super) const DUPLICATE_REMEDY: &str =
    "only the first row of each reference is imported; remove the others";

/// Rows with the same error.
#[derive(Debug, Serialize)]
pub struct ErrorSummary {
    /// Their outcome.
    pub(super) outcome: Outcome,
    /// The field at fault, for invalid rows.
    pub(super) field: Option<String>,
    /// The API's error code, the name of the rule, or a code of this program.
    pub(super) code: Option<String>,
    /// The error as a sentence for readers who do not know the rules.
    pub(super) reason: String,
    /// For disallowed characters, the number of rows with each kind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) characters: Vec<CharacterRows>,
    /// The HTTP status of the last reply.
    pub(super) http_status: Option<u16>,
    /// Number of rows.
    pub(super) rows: u64,
    /// The lines of the first rows; none for a whole ledger, whose rows come from many files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) first_lines: Vec<u64>,
    /// The message of the first row, redacted.
    pub(super) message: Option<String>,
    /// What the user can do about most of these rows.
    pub(super) remedy: &'static str,
    /// The option that may make them valid.
    pub(super) option: Option<String>,
    /// What the user can do about each of them.
    pub(super) remedies: Vec<RemedyRows>,
}

/// What the user can do about some rows with the same error.
#[derive(Clone, Debug, Serialize)]
pub(super) struct RemedyRows {
    pub(super) remedy: &'static str,
    pub(super) option: Option<String>,
    /// Number of rows.
    pub(super) rows: u64,
}

impl RemedyRows {
    /// The advice for faults of one kind, the one for most rows first; `suggested` is the option to suggest in place of
    /// the general one.
    pub(super) fn list<'a>(
        advice: &[(Advice, u64)],
        suggested: impl Fn(&'static str) -> Option<&'a str>,
    ) -> Vec<RemedyRows> {
        let each = |(Advice { remedy, option }, rows): &(Advice, u64)| RemedyRows {
            remedy,
            option: option.and_then(&suggested).map(str::to_owned),
            rows: *rows,
        };
        advice.iter().map(each).collect()
    }

    /// The remedies with an introduction: `to do: …`, or, if there are several, `to do for 12 rows: …`.
    pub(super) fn with_introduction<'a>(
        list: &'a [RemedyRows],
        introduction: &'a str,
    ) -> impl Iterator<Item = String> + 'a {
        let mut by_remedy: Vec<(&str, u64)> = Vec::new();
        for of in list {
            match by_remedy.iter_mut().find(|(remedy, _)| *remedy == of.remedy) {
                Some((_, rows)) => *rows += of.rows,
                None => by_remedy.push((of.remedy, of.rows)),
            }
        }
        let several = by_remedy.len() > 1;
        by_remedy.into_iter().map(move |(remedy, count)| match several {
            true => format!("{introduction} for {}: {remedy}", rows(count)),
            false => format!("{introduction}: {remedy}"),
        })
    }
}

/// Rows with one kind of disallowed character.
#[derive(Debug, Serialize)]
pub(super) struct CharacterRows {
    kind: CharacterKind,
    rows: u64,
}

impl ErrorSummary {
    /// Field or status, and code, on one line.
    pub(super) fn title(&self) -> String {
        if self.is_repeated() {
            return "an earlier row has the same object_reference_id".into();
        }
        let status = self.http_status.map(|status| format!("HTTP {status}"));
        let parts = [self.field.clone(), status, self.code.clone()];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() { "no answer is known".into() } else { parts.join(" ") }
    }

    /// Whether the title adds a field or a code to the reason.
    pub(super) fn has_title(&self) -> bool {
        !self.is_repeated() && (self.field.is_some() || self.code.is_some())
    }

    /// Whether these rows, valid or not, have the reference of an earlier row.
    fn is_repeated(&self) -> bool {
        self.invalid_because() == Some(FaultReason::Repeated)
    }

    /// The reason of rows that this program did not send, if this version knows it.
    fn invalid_because(&self) -> Option<FaultReason> {
        let (field, code) = (self.field.as_deref().unwrap_or_default(), self.code.as_deref()?);
        match self.outcome {
            Outcome::Invalid | Outcome::Duplicate => FaultReason::from_names(field, code),
            _ => None,
        }
    }

    /// The reason in a form that follows `because`.
    pub(super) fn because(&self) -> String {
        self.invalid_because().map_or_else(|| self.reason.clone(), FaultReason::because)
    }

    /// Whether the kinds of characters in names are the whole explanation of these rows.
    pub(super) fn is_explained_by_characters(&self) -> bool {
        let field = self.field.as_deref().and_then(Field::from_name);
        !self.characters.is_empty() && field.is_some_and(|field| field.kind() == FieldKind::PersonName)
    }

    /// `a space in 1,204 rows, an apostrophe in 1 row`; empty if no character is at fault.
    pub(super) fn characters_in_words(&self) -> String {
        let words = self.characters.iter().map(|of| format!("{} in {}", of.kind, rows(of.rows)));
        words.collect::<Vec<_>>().join(", ")
    }

    /// The introduction of the message: whether it is the API's or this program's.
    pub(super) fn message_source(&self) -> &'static str {
        if self.http_status.is_some() { "the API said" } else { "what happened" }
    }

    /// The number of rows, with its noun.
    pub(super) fn rows_in_words(&self) -> String {
        rows(self.rows)
    }

    /// The lines, after a comma; empty if they are unknown.
    pub(super) fn on_lines(&self) -> String {
        if self.first_lines.is_empty() { String::new() } else { format!(", {}", self.lines()) }
    }

    /// `first on line 2, 5`, or `on line 2` if those are all.
    pub(super) fn lines(&self) -> String {
        let lines: Vec<String> = self.first_lines.iter().map(u64::to_string).collect();
        let first = if self.rows > self.first_lines.len() as u64 { "first on line" } else { "on line" };
        format!("{first} {}", lines.join(", "))
    }
}

/// The errors of a run or of a ledger.
pub(super) struct Errors {
    /// The most frequent first.
    pub(super) list: Vec<ErrorSummary>,
    /// Rows without an id that are in none of the groups: a later run settled them, or there are too many kinds of errors
    /// to list.
    pub(super) rows_not_shown: u64,
}

/// The errors among the rows of `tally`. Rows that a current run has not settled yet are in progress, not errors.
pub(super) fn errors_of(
    tally: &Tally,
    is_running: bool,
    groups: &[ErrorGroup],
    invalid: &InvalidCounts,
    rescues: &[Rescue],
) -> Errors {
    let is_wrong = |outcome: Outcome| !(outcome.is_success() || is_running && outcome == Outcome::Pending);
    let groups = groups.iter().filter(|group| is_wrong(group.outcome));
    let shown: u64 = groups.clone().map(|group| group.rows).sum();
    Errors {
        list: summarize_errors(groups, invalid, rescues),
        rows_not_shown: tally.sum(is_wrong).saturating_sub(shown),
    }
}

/// Summarizes the groups, the most frequent first.
pub(super) fn summarize_errors<'a>(
    groups: impl IntoIterator<Item = &'a ErrorGroup>,
    invalid: &InvalidCounts,
    rescues: &[Rescue],
) -> Vec<ErrorSummary> {
    let (mut errors, mut faults) = (Vec::new(), BTreeMap::new());
    for group in groups {
        match group.outcome {
            Outcome::Invalid => add_faults(group, &mut faults),
            _ => errors.push(summary_of_group(group)),
        }
    }
    errors.extend(
        faults.into_iter().map(|((field, code), rows)| summary_of_fault(field, code, rows, invalid, rescues)),
    );
    errors.sort_by_key(|summary| std::cmp::Reverse(summary.rows));
    errors
}

/// The first `most` kinds of errors as text, under a heading; empty without errors. `others_in` says where the
/// remaining ones are.
pub(super) fn error_lines(errors: &[ErrorSummary], most: usize, others_in: &str) -> String {
    let mut text = String::from(if errors.is_empty() { "" } else { "\nWhat went wrong\n" });
    for error in errors.iter().take(most) {
        let (outcome, rows) = (error.outcome.name(), rows(error.rows));
        text.push_str(&wrapped(&format!("{outcome}, {}: {rows}{}", error.title(), error.on_lines()), 2));
        text.push_str(&wrapped(&error.reason, 4));
        if let Some(message) = &error.message {
            text.push_str(&wrapped(&format!("{}: {message}", error.message_source()), 4));
        }
        for remedy in RemedyRows::with_introduction(&error.remedies, "to do") {
            text.push_str(&wrapped(&remedy, 4));
        }
    }
    if let others @ 1.. = errors.len().saturating_sub(most) {
        let _ = writeln!(text, "  and {others} more {}: {others_in}", noun(others as u64, "kind"));
    }
    text
}

/// The rows with one fault.
#[derive(Default)]
struct FaultRows {
    count: u64,
    /// The first lines of each group, in any order.
    lines: Vec<u64>,
}

/// Counts the faults of a group separately, because a row may have several. The names are those of field and rule.
fn add_faults<'a>(group: &'a ErrorGroup, faults: &mut BTreeMap<(&'a str, &'a str), FaultRows>) {
    let fields = group.field.as_deref().unwrap_or_default().split(';');
    for fault in fields.zip(group.code.as_deref().unwrap_or_default().split(';')) {
        let rows = faults.entry(fault).or_default();
        rows.count += group.rows;
        rows.lines.extend(&group.first_lines);
    }
}

fn summary_of_fault(
    field: &str,
    code: &str,
    FaultRows { count: rows, lines: mut first_lines }: FaultRows,
    invalid: &InvalidCounts,
    rescues: &[Rescue],
) -> ErrorSummary {
    first_lines.sort_unstable();
    first_lines.truncate(LINES_SHOWN);
    let reason = FaultReason::from_names(field, code);
    let advice = match reason {
        Some(FaultReason::Broken(field, rule)) => invalid.advice(field, rule),
        Some(FaultReason::Repeated) => vec![(Advice { remedy: DUPLICATE_REMEDY, option: None }, rows)],
        None => Vec::new(),
    };
    let mut remedies = RemedyRows::list(&advice, |option| Rescue::suggested(rescues, option));
    if remedies.is_empty() {
        let remedy = "correct the cell, and import the file again";
        remedies.push(RemedyRows { remedy, option: None, rows });
    }
    ErrorSummary {
        outcome: Outcome::Invalid,
        field: Some(visible_text(field)),
        code: Some(visible_text(code)),
        reason: reason.map_or_else(
            || "A rule is broken that this version does not know".into(),
            |reason| reason.to_string(),
        ),
        characters: match reason {
            Some(FaultReason::Broken(Some(field), Rule::Character)) => {
                let kinds = invalid.characters.of(field).into_iter();
                kinds.map(|(kind, rows)| CharacterRows { kind, rows }).collect()
            }
            _ => Vec::new(),
        },
        http_status: None,
        rows,
        first_lines,
        message: None,
        remedy: remedies[0].remedy,
        option: remedies[0].option.clone(),
        remedies,
    }
}

fn summary_of_group(group: &ErrorGroup) -> ErrorSummary {
    let redacted = |text: &Option<String>| {
        let cells = group.cells.as_ref()?;
        Some(visible_text(&redact(text.as_deref()?, cells)))
    };
    let code = redacted(&group.code).or_else(|| plain_code(group));
    let remedy = remedy(group.outcome, group.code.as_deref());
    ErrorSummary {
        outcome: group.outcome,
        field: group.field.as_deref().map(visible_text),
        reason: reason(group, code.as_deref()),
        characters: Vec::new(),
        code,
        http_status: group.http_status,
        rows: group.rows,
        first_lines: group.first_lines.clone(),
        message: redacted(&group.message).filter(|_| group.outcome != Outcome::Duplicate),
        remedy,
        option: None,
        remedies: vec![RemedyRows { remedy, option: None, rows: group.rows }],
    }
}

/// The code of a group whose cells are unknown, if it cannot contain customer data.
fn plain_code(group: &ErrorGroup) -> Option<String> {
    let is_code = |code: &&str| code.chars().all(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '-' | ' '));
    group.code.as_deref().filter(is_code).map(str::to_owned)
}

/// The reason as a sentence, for rows that break no rule. `code` contains no customer data.
fn reason(group: &ErrorGroup, code: Option<&str>) -> String {
    let status = group.http_status.map(|status| format!("HTTP {status}"));
    let detail = code.map(str::to_owned).or(status.clone());
    let detail = detail.map_or_else(String::new, |detail| format!(" ({detail})"));
    match (group.outcome, group.http_status) {
        (Outcome::Duplicate, _) => FaultReason::Repeated.to_string(),
        (Outcome::Failed, _) if group.code.as_deref() == Some(RowError::NOT_THE_API) => {
            "A firewall or proxy in front of Juspay refused the request".into()
        }
        (Outcome::Rejected, _) => format!("Juspay refused the customer{detail}"),
        (Outcome::Failed, Some(_)) => {
            format!(
                "Juspay could not process the request{}",
                status.map_or_else(String::new, |s| format!(" ({s})"))
            )
        }
        (Outcome::Failed, None) => "Juspay gave no answer".into(),
        _ => "Not settled yet: not sent, or Juspay's answer is not known".into(),
    }
}

fn remedy(outcome: Outcome, code: Option<&str>) -> &'static str {
    match outcome {
        Outcome::Duplicate => DUPLICATE_REMEDY,
        Outcome::Failed if code == Some(RowError::NOT_THE_API) => {
            "a firewall or proxy before the API refuses these rows: have it let them through, then run the same \
             command again"
        }
        Outcome::Rejected => "export failed writes these rows as a file; correct and import it",
        Outcome::Failed => {
            "run the same command again; if they fail again, ask Juspay's support about the request ids \
             in export failed"
        }
        _ => "run the same command again: it continues with these rows",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(outcome: Outcome, field: &str, code: &str, rows: u64, lines: &[u64]) -> ErrorGroup {
        ErrorGroup {
            outcome,
            field: (!field.is_empty()).then(|| field.into()),
            code: (!code.is_empty()).then(|| code.into()),
            http_status: None,
            rows,
            first_lines: lines.into(),
            message: None,
            cells: None,
        }
    }

    #[test]
    fn each_fault_of_a_row_counts() {
        let errors = summarize_errors(
            &[
                group(Outcome::Invalid, "mobile_number", "digits", 7, &[2, 9, 11, 12, 13]),
                group(Outcome::Invalid, "email_address;mobile_number", "at-sign;digits", 2, &[3, 4]),
                group(Outcome::Rejected, "", "INVALID_INPUT", 8, &[5]),
                group(Outcome::Invalid, "odd", "unheard-of", 1, &[6]),
                group(Outcome::Pending, "", "", 1, &[8]),
            ],
            &InvalidCounts::default(),
            &[Rescue { option: "--phone-region IN".into(), rows: 9 }],
        );
        let shown: Vec<_> =
            errors.iter().map(|summary| (summary.title(), summary.rows, summary.lines())).collect();
        let expected = [
            ("mobile_number digits", 9, "first on line 2, 3, 4, 9, 11"),
            ("INVALID_INPUT", 8, "first on line 5"),
            ("email_address at-sign", 2, "on line 3, 4"),
            ("no answer is known", 1, "on line 8"),
            ("odd unheard-of", 1, "on line 6"),
        ];
        assert_eq!(shown, expected.map(|(title, rows, lines)| (title.into(), rows, lines.into())));
        assert!(errors.iter().all(|summary| !summary.remedy.is_empty()));
        assert_eq!(errors[0].option.as_deref(), Some("--phone-region IN"));
    }

    #[test]
    fn a_message_is_withheld_if_the_cells_are_unknown() {
        let unredactable = ErrorGroup {
            message: Some("Ada is unknown".into()),
            ..group(Outcome::Pending, "", "no-answer", 1, &[2])
        };
        let odd = group(Outcome::Pending, "", "Ada 9876", 1, &[2]);
        let errors = summarize_errors(&[unredactable, odd], &InvalidCounts::default(), &[]);
        assert_eq!((errors[0].title().as_str(), errors[0].message.is_none()), ("no-answer", true));
        assert_eq!(errors[1].title(), "no answer is known");
    }
}
