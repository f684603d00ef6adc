//! What a failed export says of a row that comes back with it: where it stood, what was wrong, and of a duplicate
//! under which reference it was one.
//!
//! An invalid row whose reference could not be read, or broke a rule, comes back with a reference that no ledger has seen
//! in its place. Whether that is its own or another row's is for the ledger to tell, which knows what its run met.
//!
//! A duplicate that comes back must be known for one as long as its reference is the same, also where no ledger knows
//! of it: it is another row's data, and would be written over that row's. So the export names the reference in what it
//! says of the row, in words that are read back here.

use super::{Field, Rule};

/// What a failed export said of a row, come back with the corrected cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// The row's line in its own source.
    pub line: u64,
    /// `invalid` or `duplicate`; other rows are found by their references.
    pub outcome: String,
    /// The rules it broke.
    pub code: String,
    /// Of a duplicate: whether it has the reference still by which it was one. None where the export does not tell.
    pub repeats: Option<bool>,
    /// Whether its reference was read then and broke no rule. False where the export does not tell.
    pub reference_was_read: bool,
}

/// What is said of a duplicate.
const REPEATED: &str = "an earlier row of the same source has this object_reference_id";

impl Correction {
    /// The word for a duplicate where rules have theirs.
    pub const DUPLICATE: &str = "duplicate";

    /// What is said of a duplicate. An export names the reference, so that it can be told when the row comes back
    /// whether it is still the same.
    pub fn words(reference: Option<&str>) -> String {
        reference.map_or_else(|| REPEATED.into(), |reference| format!("{REPEATED}: {reference}"))
    }

    /// Whether a row with this reference is the duplicate still that an export has said this of.
    pub fn repeats(message: &str, reference: Option<&str>) -> Option<bool> {
        let (_, named) = message.rsplit_once(REPEATED)?;
        let named = named.strip_prefix(": ")?.trim();
        Some(reference.is_some_and(|reference| reference.trim() == named))
    }

    /// Whether the reference of a row was read and broke no rule, of which an export has said these fields and codes.
    pub fn reference_was_read(fields: &str, codes: &str) -> bool {
        let mut faults = fields.split(';').zip(codes.split(';'));
        !fields.is_empty()
            && !faults.any(|(field, code)| match Field::from_name(field) {
                Some(Field::Reference) => code != Correction::DUPLICATE,
                Some(_) => false,
                // The record as a whole: its cells were not judged.
                None => [Rule::Fields, Rule::Encoding].into_iter().any(|rule| rule.name() == code),
            })
    }

    /// Whether it was a duplicate, perhaps beside breaking rules.
    pub fn is_of_duplicate(&self) -> bool {
        self.code.split(';').any(|code| code == Correction::DUPLICATE)
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
        let message = format!("first_name breaks character: x; {}", Correction::words(Some("cust: 1")));
        assert_eq!(Correction::repeats(&message, Some("cust: 1")), Some(true));
        assert_eq!(Correction::repeats(&message, Some("cust: 2")), Some(false));
        assert_eq!(Correction::repeats(&message, None), Some(false));
        assert_eq!(Correction::repeats(&Correction::words(None), Some("cust: 1")), None);
    }
}
