//! What a failed export says of a row that comes back with it: where it stood, what was wrong, and of a duplicate
//! under which reference it was one.
//!
//! A duplicate that comes back must be known for one as long as its reference is the same, also where no ledger knows
//! of it: it is another row's data, and would be written over that row's. So the export names the reference in what it
//! says of the row, in words that are read back here.

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

    /// Whether it was a duplicate, perhaps beside breaking rules.
    pub fn is_of_duplicate(&self) -> bool {
        self.code.split(';').any(|code| code == Correction::DUPLICATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uncorrected_duplicate_is_known() {
        let message = format!("first_name breaks character: x; {}", Correction::words(Some("cust: 1")));
        assert_eq!(Correction::repeats(&message, Some("cust: 1")), Some(true));
        assert_eq!(Correction::repeats(&message, Some("cust: 2")), Some(false));
        assert_eq!(Correction::repeats(&message, None), Some(false));
        assert_eq!(Correction::repeats(&Correction::words(None), Some("cust: 1")), None);
    }
}
