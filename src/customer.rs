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

mod validation;

mod phone;

mod spreadsheet;

mod fingerprint;

mod record;

mod correction;

mod seen;

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
    correction::Correction,
    fingerprint::{Changed, Fields, Fingerprint},
    phone::PhoneRegion,
    record::Record,
    seen::{Mark, Seen, Sighting},
    validation::{Fault, Faults, Rule, Rules, ValidRecord, Validation},
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
