//! The documented rules: a record's cells in, a `Customer` or all of its `Faults` out.
//!
//! Pure: no clock, no files, no network, no CSV. A `Customer` can only be made by
//! `Rules::read`, so nothing downstream ever holds a row that breaks a rule, and the
//! form body is encoded once, here, for every attempt that follows.
//!
//! All faults of a row are returned, not only the first, because our user corrects files,
//! not forms. A fault names the field, the rule and what was seen (a character and its
//! place, a length), never the whole value: faults outlive the record in the ledger.
//!
//! Here are the words; how they are applied is in `rules`.

mod correction;

mod fault;

mod rules;

mod phone;

mod record;

mod spreadsheet;

mod seen;

use std::{
    collections::BTreeMap,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

pub use self::{
    correction::Correction,
    fault::{Fault, Faults, Rule},
    phone::Phones,
    record::Record,
    rules::{Rules, Validation, Vetted},
    seen::{Mark, Seen, Sighting},
};

/// The fields of the Create call, in the order in which they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `object_reference_id`, the merchant's own id; the identity of a row.
    Reference,
    /// `mobile_number`.
    MobileNumber,
    /// `email_address`.
    EmailAddress,
    /// `first_name`.
    FirstName,
    /// `last_name`.
    LastName,
    /// `mobile_country_code`.
    MobileCountryCode,
    /// `options.get_client_auth_token`, an instruction rather than a fact about the customer.
    GetClientAuthToken,
}

impl Field {
    /// How many fields there are.
    pub const COUNT: usize = 7;

    /// Every field, in the order of the form body.
    pub const ALL: [Field; Field::COUNT] = [
        Field::Reference,
        Field::MobileNumber,
        Field::EmailAddress,
        Field::FirstName,
        Field::LastName,
        Field::MobileCountryCode,
        Field::GetClientAuthToken,
    ];

    /// The name on the wire, which is also the default column name.
    pub fn name(self) -> &'static str {
        match self {
            Field::Reference => "object_reference_id",
            Field::MobileNumber => "mobile_number",
            Field::EmailAddress => "email_address",
            Field::FirstName => "first_name",
            Field::LastName => "last_name",
            Field::MobileCountryCode => "mobile_country_code",
            Field::GetClientAuthToken => "options.get_client_auth_token",
        }
    }

    /// The field of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Field> {
        Field::ALL.into_iter().find(|field| field.name() == name)
    }

    /// Whether the API demands it of every customer.
    pub fn is_mandatory(self) -> bool {
        matches!(self, Field::Reference | Field::MobileNumber)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The merchant's own id of a customer (`object_reference_id`), the identity of a row.
#[derive(Clone, PartialEq, Eq)]
pub struct Reference(Arc<str>);

impl Reference {
    /// A reference that was valid when it was recorded, read back.
    pub(crate) fn recorded(text: &str) -> Reference {
        Reference(text.into())
    }

    /// The text as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same text for whoever keeps it.
    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// A 64-bit hash with a stable definition (XXH3), for lookups that then compare the text.
    pub fn key(&self) -> u64 {
        xxh3_64(self.0.as_bytes())
    }
}

/// Its own hash, for maps that take hashes as they are.
impl Hash for Reference {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.key());
    }
}

/// Never shows the reference: it may be an e-mail address, and `Debug` ends up in logs.
impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reference(…)")
    }
}

/// Four bytes of hash for each field that describes the customer, seeded by the reference.
///
/// Equal fingerprints mean equal fields, but for one chance in four thousand million per
/// field; unequal ones say which fields differ without keeping any value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint([u8; Fingerprint::BYTES]);

impl Fingerprint {
    /// How many bytes a fingerprint has.
    pub const BYTES: usize = 20;

    /// The bytes as the ledger keeps them.
    pub fn as_bytes(&self) -> &[u8; Fingerprint::BYTES] {
        &self.0
    }

    /// The fields whose values differ.
    pub fn differing(self, other: Fingerprint) -> Fields {
        self.compare(|at| self.part(at) != other.part(at))
    }

    /// The fields that have a value.
    pub fn fields(self) -> Fields {
        self.compare(|at| self.part(at) != [0; 4])
    }

    /// What is the same in both; a field that is not has a value, and one that no text has, but for a rare chance.
    pub(crate) fn either(self, other: Fingerprint) -> Fingerprint {
        let mut either = self;
        let (parts, _) = either.0.as_chunks_mut::<4>();
        let (others, _) = other.0.as_chunks::<4>();
        parts
            .iter_mut()
            .zip(others)
            .filter(|(part, other)| part != other)
            .for_each(|(part, _)| *part = [0xff; 4]);
        either
    }

    /// The same row as the API has it, which told these facts: only fields that the row has count. One that the
    /// API did not tell is as in the row, or has no value there if `untold_is_empty` and the mobile number, which
    /// every customer has, was told.
    pub(crate) fn at_api(self, facts: Fingerprint, untold_is_empty: bool) -> Fingerprint {
        const NONE: &[u8] = &[0; 4];
        let untold_is_empty = untold_is_empty && facts.part(0) != NONE;
        let mut at_api = self;
        for (at, part) in at_api.0.chunks_exact_mut(4).enumerate() {
            let told = facts.part(at);
            if part != NONE && (told != NONE || untold_is_empty) {
                part.copy_from_slice(told);
            }
        }
        at_api
    }

    fn compare(self, is_in: impl Fn(usize) -> bool) -> Fields {
        Fields((0..Fields::FACTS.len()).filter(|at| is_in(*at)).fold(0, |bits, at| bits | 1 << at))
    }

    fn part(&self, at: usize) -> &[u8] {
        &self.0[4 * at..4 * at + 4]
    }

    /// The fingerprint that was recorded as these bytes.
    pub(crate) fn recorded(bytes: &[u8]) -> Option<Fingerprint> {
        bytes.try_into().ok().map(Fingerprint)
    }

    /// The same of two digits for each byte.
    pub(crate) fn from_hex(text: &str) -> Option<Fingerprint> {
        let digit = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut bytes = [0; Fingerprint::BYTES];
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Fingerprint(bytes))
    }
}

/// Some of the fields that describe the customer; their names, never their values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields(u8);

impl Fields {
    /// Those that there are, in the order of a fingerprint's parts.
    pub const FACTS: [Field; Fingerprint::BYTES / 4] = [
        Field::MobileNumber,
        Field::EmailAddress,
        Field::FirstName,
        Field::LastName,
        Field::MobileCountryCode,
    ];

    /// In field order.
    pub fn iter(self) -> impl Iterator<Item = Field> {
        Fields::FACTS
            .into_iter()
            .enumerate()
            .filter(move |(at, _)| self.0 & 1 << at != 0)
            .map(|(_, field)| field)
    }

    /// Those that are not among the others.
    #[must_use]
    pub fn without(self, others: Fields) -> Fields {
        Fields(self.0 & !others.0)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<(Field, u64)> for Changed {
    fn from_iter<T: IntoIterator<Item = (Field, u64)>>(counts: T) -> Changed {
        let mut changed = Changed::default();
        for (field, rows) in counts {
            if let Some(at) = Fields::FACTS.iter().position(|fact| *fact == field) {
                changed.0[at] += rows;
            }
        }
        changed
    }
}

impl std::ops::BitOr for Fields {
    type Output = Fields;

    fn bitor(self, other: Fields) -> Fields {
        Fields(self.0 | other.0)
    }
}

/// In how many rows each field differs from what was imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed([u64; Fields::FACTS.len()]);

impl Changed {
    /// Counts a row's.
    pub fn add(&mut self, of_row: Fields) {
        for (at, rows) in self.0.iter_mut().enumerate() {
            *rows += u64::from(of_row.0 >> at & 1);
        }
    }

    /// Field and rows, in field order, where there are any.
    pub fn iter(&self) -> impl Iterator<Item = (Field, u64)> {
        Fields::FACTS.into_iter().zip(self.0).filter(|(_, rows)| *rows > 0)
    }
}

/// With commas between them.
impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, field) in self.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            f.write_str(field.name())?;
        }
        Ok(())
    }
}

/// A valid row's content: who it is, what is sent, and how a later run recognizes a change.
#[derive(Clone)]
pub struct Customer {
    /// The identity of the row.
    pub reference: Reference,
    /// The form body of the Create call, encoded once.
    pub body: Bytes,
    /// What a later run compares.
    pub fingerprint: Fingerprint,
    /// Optional fields that broke a rule and are not sent, where the user wants that.
    pub dropped: Box<[(Field, Rule)]>,
}

impl fmt::Debug for Customer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Customer(…)")
    }
}

/// How many rows went without a field, by field and rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped(BTreeMap<(Field, Rule), u64>);

impl Dropped {
    /// Counts a row's.
    pub fn add(&mut self, of_row: &[(Field, Rule)]) {
        for pair in of_row {
            *self.0.entry(*pair).or_default() += 1;
        }
    }

    /// Counts the rows of both.
    pub fn merge(&mut self, other: &Dropped) {
        for (field, rule, rows) in other.iter() {
            self.count(field, rule, rows);
        }
    }

    /// Whether no row went without anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// So many more rows.
    pub fn count(&mut self, field: Field, rule: Rule, rows: u64) {
        *self.0.entry((field, rule)).or_default() += rows;
    }

    /// Field, rule and rows, in field order.
    pub fn iter(&self) -> impl Iterator<Item = (Field, Rule, u64)> {
        self.0.iter().map(|((field, rule), rows)| (*field, *rule, *rows))
    }
}

/// A record with its place in the source and its reading.
#[derive(Clone, Debug)]
pub struct Row {
    /// The physical line on which the record starts; the header is line 1.
    pub line: u64,
    /// The cells as read.
    pub record: Record,
    /// What the rules make of them.
    pub reading: Result<Customer, Faults>,
    /// The row of a failed export that this one is the correction of, by its own account.
    pub corrects: Option<Box<Correction>>,
}

/// How far a source has been read, at the end of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Bytes of the source up to there, as it lies on the disk; about, where it is compressed or in another encoding.
    pub bytes: u64,
    /// The physical line that follows.
    pub line: u64,
    /// What the bytes were, some of those behind the place included; none of a stream.
    pub proof: Option<Proof>,
}

/// The hash of a source's first bytes: what is the same then is the same now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// How many.
    pub bytes: u64,
    /// Their hash (XXH3, 128 bits).
    pub hash: u128,
}

/// The cells of one record by field; `None` where the source has no such column.
pub type Cells<'a> = [Option<&'a str>; Field::COUNT];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_in_two_fingerprints_is_neither() {
        let (one, two) = (Fingerprint([1; Fingerprint::BYTES]), {
            let mut bytes = [1; Fingerprint::BYTES];
            bytes[4..8].fill(0);
            Fingerprint(bytes)
        });
        let either = one.either(two);
        assert_eq!(either, two.either(one));
        assert_eq!(either.differing(one), one.differing(two));
        assert_eq!(either.differing(two), one.differing(two));
        // It may have a value there, so it is one to empty.
        assert_eq!(either.fields(), one.fields());
        assert_eq!(one.either(one), one);
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
    fn a_row_at_the_api_has_what_was_told_of_its_own_fields() {
        let of = |facts| Fingerprint::of("cust_0001", facts);
        let row = of([Some("99"), Some("a@b.c"), Some("Ann"), None, None]);
        let api = of([Some("99"), None, Some("Anna"), Some("Lee"), Some("91")]);
        let heard = row.at_api(api, false);
        assert_eq!(row.differing(heard).to_string(), "first_name");
        let asked = row.at_api(api, true);
        assert_eq!(row.differing(asked).to_string(), "email_address, first_name");
        assert_eq!(asked.fields().to_string(), "mobile_number, first_name");
        let bare = of([None, None, Some("Ann"), None, None]);
        assert_eq!(row.at_api(bare, true), row, "an answer without the number does not tell the fields");
    }
}
