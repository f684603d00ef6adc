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

mod rules;

mod phone;

mod damage;

mod seen;

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

pub use self::{
    phone::Phones,
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
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Reference(Box<str>);

impl Reference {
    /// A reference that was valid when it was recorded, read back.
    pub(crate) fn recorded(text: &str) -> Reference {
        Reference(text.into())
    }

    /// The text as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A 64-bit hash with a stable definition (XXH3), for lookups that then compare the text.
    pub fn key(&self) -> u64 {
        xxh3_64(self.0.as_bytes())
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

    /// The fingerprint that was recorded as these bytes.
    pub(crate) fn recorded(bytes: &[u8]) -> Option<Fingerprint> {
        bytes.try_into().ok().map(Fingerprint)
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

/// One way in which a field can be wrong; the words are stable, scripts may rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A required field is empty.
    Required,
    /// The reference has fewer than eight characters.
    TooShort,
    /// The reference is longer than a URL can carry.
    TooLong,
    /// Something other than the digits 0 to 9.
    Digits,
    /// A character outside the documented set.
    Character,
    /// `_` or `.` first or last, before or after the `@`.
    Edge,
    /// Not exactly one `@` with something on both sides.
    AtSign,
    /// Neither `true` nor `false`.
    Boolean,
    /// A control character.
    Control,
    /// Bytes that are not text in the file's encoding.
    Encoding,
    /// The record has more or fewer fields than the header.
    Fields,
    /// A spreadsheet turned the value into something else.
    Spreadsheet,
    /// No phone number of its country.
    Impossible,
    /// The country code is not that of the phone number.
    CountryCode,
}

impl Rule {
    /// The rule's word.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Required => "required",
            Rule::TooShort => "too-short",
            Rule::TooLong => "too-long",
            Rule::Digits => "digits",
            Rule::Character => "character",
            Rule::Edge => "edge",
            Rule::AtSign => "at-sign",
            Rule::Boolean => "boolean",
            Rule::Control => "control",
            Rule::Encoding => "encoding",
            Rule::Fields => "fields",
            Rule::Spreadsheet => "spreadsheet",
            Rule::Impossible => "impossible",
            Rule::CountryCode => "country-code",
        }
    }

    /// The option that may let such a row pass, for the field in which it occurred.
    pub fn option(self, field: Option<Field>) -> Option<&'static str> {
        match (self, field) {
            (Rule::Encoding, _) => Some("--encoding LABEL"),
            (Rule::Fields, _) => Some("--delimiter CHAR"),
            (Rule::Required, _) => Some("--set FIELD=VALUE"),
            (Rule::Digits, Some(Field::MobileNumber)) => Some("--phone-region CC"),
            (Rule::Impossible, _) => Some("--validation lenient"),
            (_, Some(field)) if !field.is_mandatory() => Some("--drop-invalid-optional"),
            _ => None,
        }
    }

    /// What the user can do about it, for the field in which it occurred.
    pub fn remedy(self, field: Option<Field>) -> &'static str {
        match (self, field) {
            (Rule::Required, _) => "fill the cell, or give a constant with --set FIELD=VALUE",
            (Rule::TooShort, _) => "a reference needs at least 8 characters; a prefix such as cust_ helps",
            (Rule::TooLong, _) => "use a shorter id of the customer",
            (Rule::Digits, Some(Field::MobileCountryCode)) => {
                "write the country code as digits only, such as 91"
            }
            (Rule::Digits, _) => {
                "write the number as digits only, or give --phone-region CC (such as IN) to read any spelling"
            }
            (Rule::Character, Some(Field::EmailAddress)) => {
                "allowed are letters A-Z, digits and !#$%&'*+-/=?^_.{|}~`@"
            }
            (Rule::Character, _) => {
                "allowed are letters A-Z, digits and ().-_ ; --validation lenient lets the API judge"
            }
            (Rule::Edge, _) => "_ and . cannot stand first or last, neither before nor after the @",
            (Rule::AtSign, _) => "an e-mail address has one @ with something on both sides",
            (Rule::Boolean, _) => "write true or false",
            (Rule::Control, _) => "remove line breaks, tabs and other control characters from the cell",
            (Rule::Encoding, _) => "save the file as UTF-8; a replacement character must be typed anew",
            (Rule::Fields, _) => "quote cells that contain the delimiter, and give each row every column",
            (Rule::Spreadsheet, _) => {
                "export the data anew and let the spreadsheet read this column as text \
                 (Excel: Data > From Text/CSV, type Text) before it saves as CSV"
            }
            (Rule::Impossible, _) => {
                "correct the number, or give the region of these rows with --phone-region; \
                 --validation lenient looks at its length only"
            }
            (Rule::CountryCode, _) => "correct the code, or empty the cell: the number fills it",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One rule that a row breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field, or `None` where the whole record is at fault.
    pub field: Option<Field>,
    /// The rule.
    pub rule: Rule,
    /// What was seen: a character and its place, a length, a count; never the value.
    pub seen: String,
}

impl Fault {
    /// The field's name, or `record`.
    pub fn field_name(&self) -> &'static str {
        self.field.map_or("record", Field::name)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} breaks {}: {}", self.field_name(), self.rule, self.seen)
    }
}

/// All the faults of one row (at least one), and its reference where that is readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// In field order.
    pub list: Vec<Fault>,
    /// The reference as given, if the row has one; it need not be valid.
    pub reference: Option<String>,
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
            *self.0.entry((field, rule)).or_default() += rows;
        }
    }

    /// Field, rule and rows, in field order.
    pub fn iter(&self) -> impl Iterator<Item = (Field, Rule, u64)> {
        self.0.iter().map(|((field, rule), rows)| (*field, *rule, *rows))
    }
}

/// The raw cells of one line, exactly as read, in one allocation each for text and bounds.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Record {
    text: Box<str>,
    ends: Box<[u32]>,
}

impl Record {
    /// A record of these cells.
    pub fn new<'a>(cells: impl IntoIterator<Item = &'a str>) -> Record {
        // Enough for most, so that a row is not moved about while it is put together.
        let (mut text, mut ends) = (String::with_capacity(256), Vec::with_capacity(16));
        for cell in cells {
            text.push_str(cell);
            ends.push(text.len() as u32);
        }
        Record { text: text.into(), ends: ends.into() }
    }

    /// The cells in order.
    pub fn cells(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(self.ends.iter()).map(|(start, end)| &self.text[start as usize..*end as usize])
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({} cells)", self.ends.len())
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

/// What a failed export said of a row, come back with the corrected cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// The row's line in its own source.
    pub line: u64,
    /// `invalid` or `duplicate`; other rows are found by their references.
    pub outcome: String,
    /// The rules it broke.
    pub code: String,
}

/// The cells of one record by field; `None` where the source has no such column.
pub type Cells<'a> = [Option<&'a str>; Field::COUNT];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_its_cells() {
        let cells = ["", "a,b", "", "é\n"];
        assert_eq!(Record::new(cells).cells().collect::<Vec<_>>(), cells);
        assert_eq!(Record::new([]).cells().count(), 0);
    }
}
