//! Recognizes a reference that has lost its leading zeros.
//!
//! A spreadsheet reads `0012345678` as a number and saves `12345678`. Nothing in that cell shows the damage, but the
//! ledger has the number with its zeros: without this check, the row would become a second customer of the same person.
//! Only a reference whose cell is a whole number is checked, and a reference that the ledger has is never one.
//!
//! A reference with zeros alone proves nothing, because two systems may number their customers differently. So the
//! row must also be the person whom the ledger has, by its mobile number or e-mail address and by its name. A row of a
//! failed export may have been given others; there it is enough that the reference with zeros belongs to a row that is
//! not imported, or to the line that the export names.
//!
//! Pure: [`Planning`](super::planning::Planning) looks the references up.

use super::model::KnownRow;
use crate::customer::{Customer, Fault, Faults, Field, LOST_ZEROS, Reference, Rule, reference_around_cell};

/// The longest number that is looked up, in digits. From the 16th digit on a spreadsheet changes a number visibly, so
/// what is longer consists of zeros for the most part.
const DIGITS_MAX: usize = 24;

/// How the references of the ledger are padded with zeros.
pub(super) struct LostZeros {
    /// The column with the references, or their template; none if it is unknown.
    column: Option<String>,
    /// Whether the source is a failed export.
    pub(super) is_of_export: bool,
    /// The lengths of the ledger's numbers with leading zeros, one bit each.
    lengths: u32,
}

impl LostZeros {
    pub(super) fn new(column: Option<&str>, is_of_export: bool) -> LostZeros {
        LostZeros { column: column.map(str::to_owned), is_of_export, lengths: 0 }
    }

    /// Learns the length of the ledger's numbers from one of its references.
    pub(super) fn learn(&mut self, reference: &Reference) {
        if let Some([_, cell, _]) = self.number(reference)
            && cell.starts_with('0')
            && cell.len() <= DIGITS_MAX
        {
            self.lengths |= 1 << cell.len();
        }
    }

    /// The references that may have become this one: with zeros up to a length that the ledger has, or for a row of a
    /// failed export up to any.
    pub(super) fn with_zeros(&self, reference: &Reference) -> Vec<Reference> {
        if self.lengths == 0 && !self.is_of_export {
            return Vec::new();
        }
        let Some([before, cell, after]) =
            self.number(reference).filter(|[_, cell, _]| !cell.starts_with('0'))
        else {
            return Vec::new();
        };
        let lengths = cell.len() + 1..=DIGITS_MAX;
        lengths
            .filter(|length| self.is_of_export || self.lengths >> length & 1 != 0)
            .map(|length| Reference::recorded(&format!("{before}{cell:0>length$}{after}")))
            .collect()
    }

    /// The reference as a spreadsheet would have saved it; none if it would not have changed it.
    pub(super) fn without_zeros(&self, reference: &Reference) -> Option<Reference> {
        let [before, cell, after] = self.number(reference)?;
        let number = cell.trim_start_matches('0');
        (number.len() < cell.len()).then(|| Reference::recorded(&format!("{before}{number}{after}")))
    }

    /// The cell of the reference with the text of the template around it, if the cell is a whole number.
    fn number<'a>(&self, reference: &'a Reference) -> Option<[&'a str; 3]> {
        let parts = reference_around_cell(self.column.as_deref()?, reference.as_str())?;
        (!parts[1].is_empty() && parts[1].bytes().all(|byte| byte.is_ascii_digit())).then_some(parts)
    }
}

/// Whether the ledger's row, which has this reference, is about the same person: the mobile number or the e-mail address
/// is the same, and no name is another one. Many rows of a file may have one placeholder for a number or an address.
pub(super) fn is_same_person(known: &KnownRow, reference: &Reference, customer: &Customer) -> bool {
    known.fingerprint.is_some_and(|sent| {
        let now = customer.fingerprint_under(reference);
        let differing = sent.differing(now);
        let is_reached_alike = now
            .fields()
            .without(differing)
            .iter()
            .any(|it| matches!(it, Field::MobileNumber | Field::EmailAddress));
        let of_one = now.fields().without(sent.fields()) | sent.fields().without(now.fields());
        let is_named_otherwise =
            differing.without(of_one).iter().any(|it| matches!(it, Field::FirstName | Field::LastName));
        is_reached_alike && !is_named_otherwise
    })
}

/// The fault of a row whose reference the ledger has with leading zeros.
pub(super) fn fault(reference: &Reference) -> Faults {
    let fault = Fault::of_field(Field::Reference, Rule::Spreadsheet, LOST_ZEROS);
    Faults { list: vec![fault], reference: Some(reference.as_str().to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(references: &[Reference]) -> Vec<String> {
        references.iter().map(|reference| reference.as_str().to_owned()).collect()
    }

    #[test]
    fn zeros_are_added_up_to_the_lengths_of_the_ledger() {
        let mut zeros = LostZeros::new(Some("id"), false);
        let of = |zeros: &LostZeros, text: &str| texts(&zeros.with_zeros(&Reference::recorded(text)));
        assert!(of(&zeros, "12345678").is_empty(), "no length is known");
        for reference in ["0012345678", "1234567890123", "00-1", "cust-007", "012345678901"] {
            zeros.learn(&Reference::recorded(reference));
        }
        assert_eq!(of(&zeros, "12345678"), ["0012345678", "000012345678"]);
        assert_eq!(of(&zeros, "12345678901"), ["012345678901"]);
        for whole in ["0012345678", "123456789012", "1234-5678", "cust-7"] {
            assert!(of(&zeros, whole).is_empty(), "{whole}");
        }
    }

    #[test]
    fn a_row_of_a_failed_export_is_looked_up_with_any_number_of_zeros() {
        let zeros = LostZeros::new(Some("cust_{id}_x"), true);
        let candidates = texts(&zeros.with_zeros(&Reference::recorded("cust_7_x")));
        assert_eq!(candidates.len(), DIGITS_MAX - 1);
        assert_eq!(candidates[..2], ["cust_07_x", "cust_007_x"]);
        let without = |text: &str| zeros.without_zeros(&Reference::recorded(text));
        assert_eq!(without("cust_007_x"), Some(Reference::recorded("cust_7_x")));
        assert_eq!((without("cust_7_x"), without("other_007")), (None, None));
        let of_two = LostZeros::new(Some("{shop}-{id}"), true);
        assert!(of_two.with_zeros(&Reference::recorded("1-7")).is_empty());
    }
}
