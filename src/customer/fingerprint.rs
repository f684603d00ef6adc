//! A fingerprint of a customer's fields, by which a later run detects which fields changed, without storing any
//! value.
//!
//! Four bytes of hash per field, seeded by the reference. Equal fingerprints mean equal fields, except for a collision of
//! one in 2³² per field. Instructions such as `options.get_client_auth_token` are not part of it.
//!
//! The first byte is the version, which determines the number of fields: a later version only appends fields. Two
//! fingerprints are compared over the fields that both have, so that a new field does not make every imported row
//! `changed`.

use std::fmt;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Cells, Field};

/// The number of fields in each version, from version 1.
const FIELDS_BY_VERSION: [usize; 1] = [FieldSet::FACTS.len()];

/// A version, and four bytes of hash for each field that describes the customer. All zero: the field has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; Fingerprint::BYTES]);

/// A fingerprint without any value.
impl Default for Fingerprint {
    fn default() -> Fingerprint {
        let mut fingerprint = [0; Fingerprint::BYTES];
        fingerprint[0] = Fingerprint::VERSION;
        Fingerprint(fingerprint)
    }
}

impl Fingerprint {
    /// Length in bytes.
    const BYTES: usize = 1 + 4 * FieldSet::FACTS.len();

    /// The version that this program writes.
    const VERSION: u8 = FIELDS_BY_VERSION.len() as u8;

    /// The fingerprint of a customer with these known facts, for example from a reply of the API.
    pub fn of(reference: &str, facts: [Option<&str>; FieldSet::FACTS.len()]) -> Fingerprint {
        let mut values: Cells<'_> = [None; Field::COUNT];
        for (field, value) in FieldSet::FACTS.into_iter().zip(facts) {
            values[field as usize] = value;
        }
        Fingerprint::of_cells(reference, &values)
    }

    /// The fingerprint of a row with these values.
    pub(super) fn of_cells(reference: &str, values: &Cells<'_>) -> Fingerprint {
        let mut fingerprint = Fingerprint::default();
        let seed = xxh3_64(reference.as_bytes());
        for (field, hash) in FieldSet::FACTS.iter().zip(fingerprint.parts_mut()) {
            // An absent field must differ from an empty one: absent is all zero.
            if let Some(value) = values[*field as usize] {
                hash.copy_from_slice(&(xxh3_64_with_seed(value.as_bytes(), seed) as u32).to_le_bytes());
            }
        }
        fingerprint
    }

    /// The bytes that the ledger stores.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0[..1 + 4 * self.field_count()]
    }

    /// The number of fields that the version has.
    fn field_count(&self) -> usize {
        let version = usize::from(self.0[0]);
        FIELDS_BY_VERSION.get(version.wrapping_sub(1)).copied().unwrap_or(0)
    }

    /// The fields whose values differ, of those that both versions have.
    pub fn differing(self, other: Fingerprint) -> FieldSet {
        let shared = self.field_count().min(other.field_count());
        self.fields_where(|at| at < shared && self.part(at) != other.part(at))
    }

    /// Whether every field that both versions have is equal.
    pub fn is_same(self, other: Fingerprint) -> bool {
        self.differing(other).is_empty()
    }

    /// The fields that have a value.
    pub fn fields(self) -> FieldSet {
        self.fields_where(|at| self.part(at) != [0; 4])
    }

    /// This fingerprint with the values that another has for these fields.
    pub(crate) fn with(self, fields: FieldSet, other: Fingerprint) -> Fingerprint {
        let mut mixed = self;
        for (at, part) in mixed.parts_mut().enumerate().filter(|(at, _)| fields.0 >> at & 1 != 0) {
            part.copy_from_slice(other.part(at));
        }
        mixed
    }

    /// Keeps the hash of each field that is equal in both. A field that differs becomes `0xffffffff`: present, and equal to
    /// no text except by a collision (1 in 2³²).
    pub(crate) fn either(self, other: Fingerprint) -> Fingerprint {
        let mut either = Fingerprint::default();
        for (at, part) in either.parts_mut().enumerate() {
            let is_equal = self.part(at) == other.part(at);
            part.copy_from_slice(if is_equal { self.part(at) } else { &[0xff; 4] });
        }
        either
    }

    /// The row's fingerprint with the values that the API reported in `facts`, for the fields that the row has. A
    /// field that the API did not report keeps the row's value. It becomes empty instead if `unreported_is_empty` and
    /// the API reported the mobile number, which every customer has.
    pub(crate) fn at_api(self, facts: Fingerprint, unreported_is_empty: bool) -> Fingerprint {
        const NONE: &[u8] = &[0; 4];
        let unreported_is_empty = unreported_is_empty && facts.part(0) != NONE;
        let mut at_api = self;
        for (at, part) in at_api.parts_mut().enumerate() {
            let reported = facts.part(at);
            if part != NONE && (reported != NONE || unreported_is_empty) {
                part.copy_from_slice(reported);
            }
        }
        at_api
    }

    /// The fields whose index satisfies the condition.
    fn fields_where(self, is_in: impl Fn(usize) -> bool) -> FieldSet {
        FieldSet((0..FieldSet::FACTS.len()).filter(|at| is_in(*at)).fold(0, |bits, at| bits | 1 << at))
    }

    fn part(&self, at: usize) -> &[u8] {
        &self.0[1 + 4 * at..5 + 4 * at]
    }

    fn parts_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.0[1..].chunks_exact_mut(4)
    }

    /// Parses a stored fingerprint. One of a later version is cut to the fields of this version.
    pub(crate) fn recorded(bytes: &[u8]) -> Option<Fingerprint> {
        let (version, fields) = bytes.split_first()?;
        let version = (*version).min(Fingerprint::VERSION);
        let mut fingerprint = Fingerprint::default();
        fingerprint.0[0] = version;
        let length = 4 * fingerprint.field_count();
        fingerprint.0[1..=length].copy_from_slice(fields.get(..length)?);
        (version > 0).then_some(fingerprint)
    }

    /// Reads a fingerprint from two hexadecimal digits per byte.
    pub(crate) fn from_hex(text: &str) -> Option<Fingerprint> {
        let digit = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let bytes: Option<Vec<u8>> =
            pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
        bytes.filter(|_| rest.is_empty()).and_then(|bytes| Fingerprint::recorded(&bytes))
    }
}

/// A set of the fields that describe a customer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(u8);

impl FieldSet {
    /// The fields that describe a customer, in the order of the fingerprint's parts.
    pub const FACTS: [Field; 5] = [
        Field::MobileNumber,
        Field::EmailAddress,
        Field::FirstName,
        Field::LastName,
        Field::MobileCountryCode,
    ];

    /// The fields of the set, in field order.
    pub fn iter(self) -> impl Iterator<Item = Field> {
        FieldSet::FACTS
            .into_iter()
            .enumerate()
            .filter(move |(at, _)| self.0 & 1 << at != 0)
            .map(|(_, field)| field)
    }

    /// The fields of this set that are not in the other.
    #[must_use]
    pub fn without(self, others: FieldSet) -> FieldSet {
        FieldSet(self.0 & !others.0)
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Field> for FieldSet {
    fn from_iter<T: IntoIterator<Item = Field>>(fields: T) -> FieldSet {
        let at = |field: Field| FieldSet::FACTS.iter().position(|fact| *fact == field);
        FieldSet(fields.into_iter().filter_map(at).fold(0, |bits, at| bits | 1 << at))
    }
}

impl std::ops::BitOr for FieldSet {
    type Output = FieldSet;

    fn bitor(self, other: FieldSet) -> FieldSet {
        FieldSet(self.0 | other.0)
    }
}

/// The field names, separated by commas.
impl fmt::Display for FieldSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, field) in self.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            f.write_str(field.name())?;
        }
        Ok(())
    }
}

/// The number of rows in which each field differs from what was imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldCounts([u64; FieldSet::FACTS.len()]);

impl FieldCounts {
    /// Counts the fields of one row.
    pub fn add(&mut self, of_row: FieldSet) {
        for (at, rows) in self.0.iter_mut().enumerate() {
            *rows += u64::from(of_row.0 >> at & 1);
        }
    }

    /// Fields with at least one row, and the number of rows, in field order.
    pub fn iter(&self) -> impl Iterator<Item = (Field, u64)> {
        FieldSet::FACTS.into_iter().zip(self.0).filter(|(_, rows)| *rows > 0)
    }
}

impl FromIterator<(Field, u64)> for FieldCounts {
    fn from_iter<T: IntoIterator<Item = (Field, u64)>>(counts: T) -> FieldCounts {
        let mut changed = FieldCounts::default();
        for (field, rows) in counts {
            if let Some(at) = FieldSet::FACTS.iter().position(|fact| *fact == field) {
                changed.0[at] += rows;
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Rules, *};

    #[test]
    fn a_field_that_differs_in_two_fingerprints_equals_neither() {
        let (one, two) = (Fingerprint([1; Fingerprint::BYTES]), {
            let mut bytes = [1; Fingerprint::BYTES];
            bytes[5..9].fill(0);
            Fingerprint(bytes)
        });
        let either = one.either(two);
        assert_eq!(either, two.either(one));
        assert_eq!(either.differing(one), one.differing(two));
        assert_eq!(either.differing(two), one.differing(two));
        // The field may have a value at the API, so an update may have to empty it.
        assert_eq!(either.fields(), one.fields());
        assert_eq!(one.either(one), one);
    }

    #[test]
    fn a_fingerprint_of_a_later_version_is_compared_over_the_fields_of_both() {
        let ours = Fingerprint::of("cust_0001", [Some("99"), Some("a@b.c"), None, None, Some("91")]);
        assert_eq!(Fingerprint::recorded(ours.as_bytes()), Some(ours));
        let mut later = ours.as_bytes().to_vec();
        later[0] += 1;
        later.extend([7; 4]);
        let later = Fingerprint::recorded(&later).unwrap();
        assert!(later.is_same(ours) && later.differing(ours).is_empty());
        let other = Fingerprint::of("cust_0001", [Some("98"), Some("a@b.c"), None, None, Some("91")]);
        assert_eq!(later.differing(other).to_string(), "mobile_number");
        let hex: String = ours.as_bytes().iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(Fingerprint::from_hex(&hex), Some(ours));
        for damaged in [&[][..], &[0; 21], &[1; 20]] {
            assert_eq!(Fingerprint::recorded(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn fingerprints_name_the_fields_that_differ() {
        let of = |email: Option<&'static str>, code: Option<&'static str>| {
            let mut cells: Cells<'_> = [None; Field::COUNT];
            (cells[0], cells[1]) = (Some("cust_0001"), Some("9988776655"));
            cells[Field::EmailAddress as usize] = email;
            cells[Field::MobileCountryCode as usize] = code;
            Rules::default().read(&cells).unwrap().fingerprint
        };
        let (one, two) = (of(Some("a@b.c"), None), of(Some("b@b.c"), Some("91")));
        assert_eq!(one.differing(one).to_string(), "");
        assert_eq!(one.differing(two).to_string(), "email_address, mobile_country_code");
        assert_eq!(one.fields().to_string(), "mobile_number, email_address");
        assert_eq!(two.fields().without(one.fields()).to_string(), "mobile_country_code");
        assert!(of(None, None).fields().without(one.fields()).is_empty());
    }

    #[test]
    fn a_row_at_the_api_has_the_values_reported_for_its_own_fields() {
        let of = |facts| Fingerprint::of("cust_0001", facts);
        let row = of([Some("99"), Some("a@b.c"), Some("Ann"), None, None]);
        let api = of([Some("99"), None, Some("Anna"), Some("Lee"), Some("91")]);
        let unreported_kept = row.at_api(api, false);
        assert_eq!(row.differing(unreported_kept).to_string(), "first_name");
        let unreported_empty = row.at_api(api, true);
        assert_eq!(row.differing(unreported_empty).to_string(), "email_address, first_name");
        assert_eq!(unreported_empty.fields().to_string(), "mobile_number, first_name");
        let bare = of([None, None, Some("Ann"), None, None]);
        assert_eq!(row.at_api(bare, true), row, "a reply without the number does not report the fields");
    }
}
