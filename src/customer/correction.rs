//! A corrected row: links a row of a failed export that is imported again to the row that it corrects.
//!
//! A failed export has columns with the row's original line, its faults, and, for a duplicate, the reference that made it
//! one.
//!
//! An invalid row whose reference could not be read, or broke a rule, is imported again under a reference that the
//! ledger does not know. Only the ledger can tell whether that reference belongs to this row or to another one,
//! because it has the rows of the earlier run.
//!
//! A duplicate stays a duplicate as long as its reference is unchanged, even for a ledger without that row: importing
//! it would overwrite the data of the row that owns the reference. So the message in the export names the reference,
//! and [`Correction::repeats`] parses that message.

use super::{Field, Rule};

/// What a failed export states about a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// The line of the row in its original source.
    pub line: u64,
    /// What became of the row.
    pub outcome: CorrectedOutcome,
    /// The names of the rules that the row broke.
    pub code: String,
    /// For a duplicate: whether its reference is unchanged. None if the export does not name the reference.
    pub repeats: Option<bool>,
    /// Whether the original reference could be read and broke no rule. False if the export does not contain this
    /// information.
    pub reference_was_read: bool,
}

/// The outcome of a row that is found again by its line. Rows with other outcomes are found by their references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorrectedOutcome {
    /// The row broke a rule.
    Invalid,
    /// An earlier row of its source had its reference.
    Duplicate,
}

impl CorrectedOutcome {
    /// The word of exports and of the ledger.
    pub fn name(self) -> &'static str {
        match self {
            CorrectedOutcome::Invalid => "invalid",
            CorrectedOutcome::Duplicate => "duplicate",
        }
    }

    /// The outcome in a cell; `None` for a row that is found by its reference. If the cell has been rewritten, the code
    /// shows a duplicate.
    pub fn read(cell: &str, code: &str) -> Option<CorrectedOutcome> {
        const FOUND_BY_REFERENCE: [&str; 3] = ["rejected", "failed", "pending"];
        let word = cell.trim().to_ascii_lowercase();
        let is_duplicate = !FOUND_BY_REFERENCE.contains(&word.as_str()) && code == Correction::DUPLICATE;
        [CorrectedOutcome::Invalid, CorrectedOutcome::Duplicate]
            .into_iter()
            .find(|outcome| outcome.name() == word)
            .or(is_duplicate.then_some(CorrectedOutcome::Duplicate))
    }
}

/// The message of a duplicate.
const REPEATED: &str = "an earlier row of the same source has this object_reference_id";

impl Correction {
    /// The error code of a duplicate, in place of the name of a rule.
    pub const DUPLICATE: &str = "duplicate";

    /// The message of a duplicate. A failed export names the reference, so that [`Correction::repeats`] can compare it.
    pub fn message(reference: Option<&str>) -> String {
        reference.map_or_else(|| REPEATED.into(), |reference| format!("{REPEATED}: {reference}"))
    }

    /// Whether a row with this reference is still the duplicate that the message of the export describes.
    pub fn repeats(message: &str, reference: Option<&str>) -> Option<bool> {
        let (_, named) = message.rsplit_once(REPEATED)?;
        let named = named.strip_prefix(": ")?.trim();
        Some(reference.is_some_and(|reference| reference.trim() == named))
    }

    /// Whether the reference of a row could be read and broke no rule, by the fields and codes in the export.
    pub fn reference_was_read(fields: &str, codes: &str) -> bool {
        let mut faults = fields.split(';').zip(codes.split(';'));
        !fields.is_empty()
            && !faults.any(|(field, code)| match Field::from_name(field) {
                Some(Field::Reference) => code != Correction::DUPLICATE,
                Some(_) => false,
                // A fault of the whole record: its cells were not validated.
                None => Rule::is_of_layout(field, code) || code == Rule::Encoding.name(),
            })
    }

    /// Whether the row was a duplicate, possibly in addition to broken rules. The code or the message shows it.
    pub fn is_of_duplicate(&self) -> bool {
        self.repeats.is_some() || self.code.split(';').any(|code| code == Correction::DUPLICATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_that_was_at_fault_was_not_read() {
        let was_read = Correction::reference_was_read;
        assert!(was_read("mobile_number;object_reference_id", "digits;duplicate"));
        assert!(was_read("record;first_name", "control;encoding"));
        assert!(!was_read("object_reference_id;mobile_number", "too-short;digits"));
        assert!(!was_read("record", "fields") && !was_read("record", "encoding"));
        assert!(!was_read("", "digits"), "nothing tells");
    }

    #[test]
    fn an_uncorrected_duplicate_is_known() {
        let message =
            format!("first_name has a character: x (character); {}", Correction::message(Some("cust: 1")));
        assert_eq!(Correction::repeats(&message, Some("cust: 1")), Some(true));
        assert_eq!(Correction::repeats(&message, Some("cust: 2")), Some(false));
        assert_eq!(Correction::repeats(&message, None), Some(false));
        assert_eq!(Correction::repeats(&Correction::message(None), Some("cust: 1")), None);
    }
}
