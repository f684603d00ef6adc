//! What went wrong in a run, by kind: how many rows, the first lines, what to do.
//!
//! Pure. A message of the API may quote the customer whom it is about, and a report is passed around: what
//! it quotes is taken out. The row's own account, `export failed`, has it in full.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{harmless, rows, validation::DUPLICATE_REMEDY};
use crate::{
    customer::{Field, Rule},
    ledger::{ErrorGroup, Outcome, RowError},
};

/// How many lines of each kind are named.
const LINES_SHOWN: usize = 5;

/// A cell with fewer characters is looked for as a word only: inside of words it would be everywhere.
const PART_OF_WORD_MIN: usize = 4;

/// So many digits in a row may be a telephone number, in whatever spelling the cell has it.
const DIGITS_MIN: usize = 5;

const TAKEN_OUT: &str = "[…]";

/// Rows that went wrong in the same way.
#[derive(Debug, Serialize)]
pub(super) struct Kind {
    /// What became of them.
    pub(super) outcome: Outcome,
    /// The field at fault of an invalid row.
    pub(super) field: Option<String>,
    /// The API's code, the rule's word, or ours.
    pub(super) code: Option<String>,
    /// The HTTP status of the last answer.
    pub(super) http_status: Option<u16>,
    /// How many rows; a row that breaks two rules is in two kinds.
    pub(super) rows: u64,
    /// Where the first of them stand.
    pub(super) first_lines: Vec<u64>,
    /// What was said of the first, without what it quotes.
    pub(super) message: Option<String>,
    /// What to do.
    pub(super) remedy: &'static str,
    /// The option that may help.
    pub(super) option: Option<&'static str>,
}

impl Kind {
    /// Field or status, and code: what it is, in a line.
    pub(super) fn title(&self) -> String {
        if self.outcome == Outcome::Duplicate {
            return "an earlier row has the same object_reference_id".into();
        }
        let status = self.http_status.map(|status| format!("HTTP {status}"));
        let parts = [self.field.clone(), status, self.code.clone()];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() { "no answer is known".into() } else { parts.join(" ") }
    }

    /// Whose words the message is in.
    pub(super) fn told_by(&self) -> &'static str {
        if self.http_status.is_some() { "the API said" } else { "what happened" }
    }

    /// How many, with the noun.
    pub(super) fn rows_in_words(&self) -> String {
        rows(self.rows)
    }

    /// `first on line 2, 5`, or `on line 2` where that is all.
    pub(super) fn lines(&self) -> String {
        let lines: Vec<String> = self.first_lines.iter().map(u64::to_string).collect();
        let first = if self.rows > self.first_lines.len() as u64 { "first on line" } else { "on line" };
        format!("{first} {}", lines.join(", "))
    }
}

/// The kinds of these groups, the most frequent first.
pub(super) fn kinds(groups: &[ErrorGroup]) -> Vec<Kind> {
    let (mut kinds, mut faults) = (Vec::new(), BTreeMap::new());
    for group in groups {
        match group.outcome {
            Outcome::Invalid => add_faults(group, &mut faults),
            _ => kinds.push(kind_of_group(group)),
        }
    }
    for ((field, rule), (rows, mut first_lines)) in faults {
        first_lines.sort_unstable();
        first_lines.truncate(LINES_SHOWN);
        kinds.push(kind_of_fault(field, rule, rows, first_lines));
    }
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.rows));
    kinds
}

type Faults<'a> = BTreeMap<(&'a str, &'a str), (u64, Vec<u64>)>;

/// Each fault of rows that have several counts.
fn add_faults<'a>(group: &'a ErrorGroup, faults: &mut Faults<'a>) {
    let fields = group.field.as_deref().unwrap_or_default().split(';');
    for fault in fields.zip(group.code.as_deref().unwrap_or_default().split(';')) {
        let (rows, lines) = faults.entry(fault).or_default();
        *rows += group.rows;
        lines.extend(&group.first_lines);
    }
}

fn kind_of_fault(field: &str, code: &str, rows: u64, first_lines: Vec<u64>) -> Kind {
    let (known, rule) = (Field::from_name(field), Rule::from_name(code));
    Kind {
        outcome: Outcome::Invalid,
        field: Some(harmless(field)),
        code: Some(harmless(code)),
        http_status: None,
        rows,
        first_lines,
        message: None,
        remedy: rule.map_or("correct the cell, and import the file again", |rule| rule.remedy(known)),
        option: rule.and_then(|rule| rule.option(known)),
    }
}

fn kind_of_group(group: &ErrorGroup) -> Kind {
    let quotable = |text: &Option<String>| {
        let cells = group.cells.as_ref()?;
        Some(harmless(&without_quotes(text.as_deref()?, cells)))
    };
    Kind {
        outcome: group.outcome,
        field: group.field.as_deref().map(harmless),
        code: quotable(&group.code).or_else(|| unquoted(group)),
        http_status: group.http_status,
        rows: group.rows,
        first_lines: group.first_lines.clone(),
        message: quotable(&group.message).filter(|_| group.outcome != Outcome::Duplicate),
        remedy: remedy(group.outcome, group.code.as_deref()),
        option: None,
    }
}

/// A code of a row whose cells nobody has: only what looks like one.
fn unquoted(group: &ErrorGroup) -> Option<String> {
    let is_code = |code: &&str| code.chars().all(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '-' | ' '));
    group.code.as_deref().filter(is_code).map(str::to_owned)
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
        _ => "run the same command again: it goes on with these rows",
    }
}

/// The text without anything that one of these cells says, without addresses and without long numbers.
fn without_quotes(text: &str, cells: &[String]) -> String {
    let cells: Vec<String> =
        cells.iter().map(|cell| cell.trim().to_lowercase()).filter(|cell| !cell.is_empty()).collect();
    let mut text = text.to_owned();
    for cell in cells.iter().filter(|cell| cell.chars().count() >= PART_OF_WORD_MIN) {
        text = take_out(&text, cell);
    }
    let is_quote = |word: &str| {
        let says_a_cell = |bare: &str| cells.iter().any(|cell| *cell == bare.to_lowercase());
        word.contains('@')
            || word.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() >= DIGITS_MIN)
            || word.split(|c: char| !c.is_alphanumeric()).any(says_a_cell)
    };
    let words = text.split(' ').map(|word| if is_quote(word) { TAKEN_OUT } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// Every place of the cell, which is in lower case, whatever the case there.
fn take_out(text: &str, cell: &str) -> String {
    let (mut left, mut rest) = (String::new(), text);
    while let Some(first) = rest.chars().next() {
        match length_of_match(rest, cell) {
            Some(length) => {
                left.push_str(TAKEN_OUT);
                rest = &rest[length..];
            }
            None => {
                left.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    left
}

/// How many bytes of the text's beginning say what the cell says. A letter in lower case may have another
/// length, so this goes letter by letter.
fn length_of_match(text: &str, cell: &str) -> Option<usize> {
    let mut wanted = cell.chars().peekable();
    for (at, letter) in text.char_indices() {
        if wanted.peek().is_none() {
            return Some(at);
        }
        if !letter.to_lowercase().all(|lower| wanted.next() == Some(lower)) {
            return None;
        }
    }
    wanted.peek().is_none().then_some(text.len())
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
        let kinds = kinds(&[
            group(Outcome::Invalid, "mobile_number", "digits", 7, &[2, 9, 11, 12, 13]),
            group(Outcome::Invalid, "email_address;mobile_number", "at-sign;digits", 2, &[3, 4]),
            group(Outcome::Rejected, "", "INVALID_INPUT", 8, &[5]),
            group(Outcome::Invalid, "odd", "unheard-of", 1, &[6]),
            group(Outcome::Pending, "", "", 1, &[8]),
        ]);
        let told: Vec<_> = kinds.iter().map(|kind| (kind.title(), kind.rows, kind.lines())).collect();
        let expected = [
            ("mobile_number digits", 9, "first on line 2, 3, 4, 9, 11"),
            ("INVALID_INPUT", 8, "first on line 5"),
            ("email_address at-sign", 2, "on line 3, 4"),
            ("no answer is known", 1, "on line 8"),
            ("odd unheard-of", 1, "on line 6"),
        ];
        assert_eq!(told, expected.map(|(title, rows, lines)| (title.into(), rows, lines.into())));
        assert!(kinds.iter().all(|kind| !kind.remedy.is_empty()));
        assert_eq!(kinds[0].option, Some("--phone-region CC"));
    }

    #[test]
    fn what_a_message_quotes_is_taken_out() {
        let cells = ["cust-0001", "+91 98765-43210", "Ada.L@Example.com", "Bo", "Ångström", ""];
        let cells = cells.map(str::to_owned);
        for (said, told) in [
            ("Mandatory fields are missing", "Mandatory fields are missing"),
            ("no number: 9876543210!", "no number: […]"),
            ("Bo's or (bo) or Bob", "[…] or […] or Bob"),
            ("xADA.L@example.COMx is taken", "x[…]x is taken"),
            ("ÅNGSTRÖM has letters", "[…] has letters"),
            ("ref CUST-0001 and other@host", "ref […] and […]"),
            ("status 400, code 1234", "status 400, code 1234"),
        ] {
            assert_eq!(without_quotes(said, &cells), told);
        }
    }

    #[test]
    fn whose_cells_nobody_has_is_not_quoted() {
        let told = ErrorGroup {
            message: Some("Ada is unknown".into()),
            ..group(Outcome::Pending, "", "no-answer", 1, &[2])
        };
        let odd = group(Outcome::Pending, "", "Ada 9876", 1, &[2]);
        let kinds = kinds(&[told, odd]);
        assert_eq!((kinds[0].title().as_str(), kinds[0].message.is_none()), ("no-answer", true));
        assert_eq!(kinds[1].title(), "no answer is known");
    }
}
