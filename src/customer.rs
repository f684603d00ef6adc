//! A row and its customer: the fields of the API, and the rules that a record must satisfy.
//!
//! Pure: no clock, no files, no network, no CSV. Only `Rules::read` can make a `Customer`, so no later stage ever holds a
//! row that breaks a rule, and the form body is encoded once, here, for all attempts.
//!
//! All faults of a row are returned, not only the first, because users correct files, not forms. A fault names the field,
//! the rule and what was seen (a character and its position, a length), never the value: the ledger keeps faults longer
//! than the record.

mod validation;

mod fault;

mod fault_counts;

mod phone;

mod spreadsheet;

mod stray_line;

mod invisible;

mod null_marker;

mod doubt;

mod fingerprint;

mod record;

mod respelling;

mod reason;

mod rescue;

mod template;

mod correction;

mod content;

mod count;

mod duplicates;

use std::{
    collections::BTreeMap,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

pub use self::{
    correction::{CorrectedOutcome, Correction},
    count::{counted, noun},
    doubt::Doubt,
    fault::{Advice, Fault, Faults, Rule},
    fault_counts::{AdviceCounts, InvalidCounts},
    fingerprint::{FieldCounts, FieldSet, Fingerprint},
    invisible::{visible, visible_lines},
    phone::{PhoneCheck, PhoneErrorKind, PhoneRegion},
    reason::{CharacterCounts, CharacterKind, FaultReason},
    record::Record,
    rescue::{Rescue, Rescues},
    respelling::Respelling,
    template::{
        Template, cell_of_reference, check_template, mapped_columns, reference_around_cell, single_braces,
        with_braces,
    },
    validation::{Rules, ValidRecord, Validation},
};
pub(crate) use self::{
    duplicates::{DuplicateDetector, Occurrence, ReferenceHash, SeenReferences},
    fault::{
        BACKSLASH, COMMENT, CONFLICT, EXPORT_ENCODING, LINE_SEPARATOR, LOST_ZEROS, NULS, QUOTED_ROW,
        TEXT_QUOTES,
    },
    invisible::{describe as describe_invisible, is_invisible},
    spreadsheet::{STRAIGHTEN, typographic_quotes},
    stray_line::tool_message,
    validation::REFERENCE_MIN_CHARS,
};

/// The fields of the Create call, in the order in which they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
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
    /// Number of fields.
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

    /// The name in the API, which is also the default column name.
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

    /// The name in sentences.
    pub fn title(self) -> &'static str {
        match self {
            Field::Reference => "Customer reference",
            Field::MobileNumber => "Mobile number",
            Field::EmailAddress => "Email address",
            Field::FirstName => "First name",
            Field::LastName => "Last name",
            Field::MobileCountryCode => "Country code",
            Field::GetClientAuthToken => "Request for a client token",
        }
    }

    /// The kind of its values.
    pub fn kind(self) -> FieldKind {
        match self {
            Field::Reference => FieldKind::Reference,
            Field::MobileNumber => FieldKind::MobileNumber,
            Field::EmailAddress => FieldKind::EmailAddress,
            Field::FirstName | Field::LastName => FieldKind::PersonName,
            Field::MobileCountryCode => FieldKind::CountryCode,
            Field::GetClientAuthToken => FieldKind::Boolean,
        }
    }

    /// The field with that name, if there is one.
    pub fn from_name(name: &str) -> Option<Field> {
        Field::ALL.into_iter().find(|field| field.name() == name)
    }

    /// Whether the API requires the field.
    pub fn is_mandatory(self) -> bool {
        matches!(self, Field::Reference | Field::MobileNumber)
    }
}

/// The kind of a field's values. The rules, the signs of spreadsheet damage and the evidence for a column are the
/// same for all fields of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FieldKind {
    /// The merchant's own id.
    Reference,
    /// A phone number.
    MobileNumber,
    /// An e-mail address.
    EmailAddress,
    /// A name of a person.
    PersonName,
    /// A country calling code.
    CountryCode,
    /// `true` or `false`.
    Boolean,
}

impl TryFrom<String> for Field {
    type Error = String;

    fn try_from(name: String) -> Result<Field, String> {
        Field::from_name(&name).ok_or_else(|| format!("no field {name:?}"))
    }
}

impl From<Field> for &'static str {
    fn from(field: Field) -> &'static str {
        field.name()
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
    /// Restores a reference from the ledger; it was validated before it was stored.
    pub(crate) fn recorded(text: &str) -> Reference {
        Reference(text.into())
    }

    /// The text that is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, shared without a copy.
    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// A 64-bit hash with a stable definition (XXH3), for indexes that then compare the text.
    pub fn key(&self) -> u64 {
        xxh3_64(self.0.as_bytes())
    }
}

/// Writes [`Reference::key`], for maps with an identity hasher.
impl Hash for Reference {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.key());
    }
}

/// Hides the reference: it may be an e-mail address, and `Debug` output ends up in logs.
impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reference(…)")
    }
}

/// The content of a valid row: its identity, what is sent, and how a later run detects a change.
#[derive(Clone)]
pub struct Customer {
    /// The identity of the row.
    pub reference: Reference,
    /// The form body of the Create call, encoded once.
    pub body: Bytes,
    /// What a later run compares to detect a change.
    pub fingerprint: Fingerprint,
    /// Fields about which the row says nothing, because its source has no column for them or they were dropped. An
    /// empty cell says that there is no value.
    pub unstated: FieldSet,
    /// Optional fields that break a rule and are not sent, with `--drop-invalid-optional`.
    pub dropped: Box<[(Field, Rule)]>,
}

impl Customer {
    /// The fingerprint with the values that were `recorded` before, for the fields that the row does not state.
    pub fn fingerprint_over(&self, recorded: Fingerprint) -> Fingerprint {
        self.fingerprint.with(self.unstated, recorded)
    }

    /// The fingerprint that the customer would have with another reference.
    pub(crate) fn fingerprint_under(&self, reference: &Reference) -> Fingerprint {
        let sent: Vec<_> = form_urlencoded::parse(&self.body).collect();
        let value =
            |field: Field| sent.iter().find(|(name, _)| name == field.name()).map(|(_, value)| &**value);
        Fingerprint::of(reference.as_str(), FieldSet::FACTS.map(value))
    }
}

impl fmt::Debug for Customer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Customer(…)")
    }
}

/// The number of rows without a field, by field and by the rule that it breaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped(BTreeMap<(Field, Rule), u64>);

impl Dropped {
    /// Counts the dropped fields of one row.
    pub fn add(&mut self, of_row: &[(Field, Rule)]) {
        for (field, rule) in of_row {
            self.count(*field, *rule, 1);
        }
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Dropped) {
        for (field, rule, rows) in other.iter() {
            self.count(field, rule, rows);
        }
    }

    /// Whether no field was dropped.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a number of rows.
    pub fn count(&mut self, field: Field, rule: Rule, rows: u64) {
        *self.0.entry((field, rule)).or_default() += rows;
    }

    /// Each field and rule with its number of rows, in field order.
    pub fn iter(&self) -> impl Iterator<Item = (Field, Rule, u64)> {
        self.0.iter().map(|((field, rule), rows)| (*field, *rule, *rows))
    }
}

/// A record with its line and its reading.
#[derive(Clone, Debug)]
pub struct Row {
    /// The physical line on which the record starts; the header is line 1.
    pub line: u64,
    /// The cells as read.
    pub record: Record,
    /// The customer, or the faults of the record.
    pub reading: Result<Customer, Faults>,
    /// The row that this one corrects, if it comes from a failed export.
    pub corrects: Option<Box<Correction>>,
}

/// A position in a source, at the end of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourcePosition {
    /// Offset in the source as stored on disk; an estimate for a compressed or transcoded source.
    pub bytes: u64,
    /// The physical line after the position.
    pub line: u64,
    /// Hash of the bytes read so far, which may extend beyond the position; none for a stream.
    pub prefix_hash: Option<PrefixHash>,
}

/// The hash of a prefix of a source. An equal hash means an unchanged prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixHash {
    /// Length of the prefix.
    pub bytes: u64,
    /// XXH3, 128 bits.
    pub hash: u128,
}

/// The cells of one record by field; `None` if the source has no such column.
pub type Cells<'a> = [Option<&'a str>; Field::COUNT];
