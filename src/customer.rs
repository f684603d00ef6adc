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
//! Sources of the rules: the Create Customer page. Where it is silent (control characters,
//! the longest reference that still fits into a URL) the rule says so.

use std::fmt;

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The fewest characters of a reference; from the Create Customer page.
const REFERENCE_MIN_CHARS: usize = 8;

/// The most bytes of a reference. Not the page's: the Get call carries it in the URL, and
/// three times this (percent-encoded) stays below what HTTP servers accept in a request line.
const REFERENCE_MAX_BYTES: usize = 2048;

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
}

impl fmt::Debug for Customer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Customer(…)")
    }
}

/// How strictly a row is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validation {
    /// Every rule of the Create Customer page.
    #[default]
    Documented,
    /// Only what no API could accept (missing, too short, control characters); the API judges the rest.
    Lenient,
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
            (Rule::Digits, _) => "write the number as digits only, without country code, + or blanks",
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

/// The raw cells of one line, exactly as read, in one allocation each for text and bounds.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Record {
    text: Box<str>,
    ends: Box<[u32]>,
}

impl Record {
    /// A record of these cells.
    pub fn new<'a>(cells: impl IntoIterator<Item = &'a str>) -> Record {
        let (mut text, mut ends) = (String::new(), Vec::new());
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

/// How cells are judged: the page's rules and what the user asked beyond them.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// How strictly.
    pub validation: Validation,
    /// Optional fields that must be there all the same.
    pub require: Vec<Field>,
    /// Constants for fields whose column is missing or whose cell is empty.
    pub constants: Vec<(Field, String)>,
}

impl Rules {
    /// Reads one record. Blanks around a cell are not part of its value, and an empty
    /// optional field is not sent at all.
    ///
    /// # Errors
    /// Every fault of the row.
    pub fn read(&self, cells: &Cells<'_>) -> Result<Customer, Faults> {
        let mut faults = Vec::new();
        let mut values: Cells<'_> = [None; Field::COUNT];
        for field in Field::ALL {
            let value = self.value(field, cells[field as usize]);
            match value {
                None if field.is_mandatory() || self.require.contains(&field) => {
                    faults.push(Fault { field: Some(field), rule: Rule::Required, seen: "empty".into() });
                }
                None => {}
                Some(value) => {
                    if let Some((rule, seen)) = self.judge(field, value) {
                        faults.push(Fault { field: Some(field), rule, seen });
                    }
                }
            }
            values[field as usize] = value;
        }
        match values[Field::Reference as usize] {
            Some(reference) if faults.is_empty() => Ok(customer(reference, &values)),
            reference => Err(Faults { list: faults, reference: reference.map(str::to_owned) }),
        }
    }

    fn value<'a>(&'a self, field: Field, cell: Option<&'a str>) -> Option<&'a str> {
        let constant = || self.constants.iter().find(|(of, _)| *of == field).map(|(_, value)| value.trim());
        cell.map(str::trim)
            .filter(|cell| !cell.is_empty())
            .or_else(constant)
            .filter(|value| !value.is_empty())
    }

    fn judge(&self, field: Field, value: &str) -> Option<(Rule, String)> {
        // Before everything else: a control character makes any other message unreadable.
        if let Some(at) = value.chars().position(char::is_control) {
            return Some((Rule::Control, format!("a control character at position {}", at + 1)));
        }
        // Nor does anybody mean this one: it stands where bytes could not be read before.
        if let Some(at) = value.chars().position(|c| c == char::REPLACEMENT_CHARACTER) {
            return Some((Rule::Encoding, format!("a replacement character at position {}", at + 1)));
        }
        match field {
            Field::Reference => judge_reference(value),
            Field::GetClientAuthToken => (!is_boolean(value)).then(|| (Rule::Boolean, "another word".into())),
            _ if self.validation == Validation::Lenient => None,
            Field::MobileNumber | Field::MobileCountryCode => {
                outside(value, |c| c.is_ascii_digit()).map(|seen| (Rule::Digits, seen))
            }
            Field::EmailAddress => judge_email(value),
            Field::FirstName | Field::LastName => {
                outside(value, |c| c.is_ascii_alphanumeric() || "().-_".contains(c))
                    .map(|seen| (Rule::Character, seen))
            }
        }
    }
}

fn judge_reference(value: &str) -> Option<(Rule, String)> {
    let chars = value.chars().take(REFERENCE_MIN_CHARS).count();
    if chars < REFERENCE_MIN_CHARS {
        return Some((Rule::TooShort, format!("{chars} characters")));
    }
    (value.len() > REFERENCE_MAX_BYTES).then(|| (Rule::TooLong, format!("{} bytes", value.len())))
}

fn judge_email(value: &str) -> Option<(Rule, String)> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_.{|}~`@".contains(c);
    if let Some(seen) = outside(value, allowed) {
        return Some((Rule::Character, seen));
    }
    let count = value.bytes().filter(|b| *b == b'@').count();
    let (local, domain) = value.split_once('@').unwrap_or((value, ""));
    if count != 1 || local.is_empty() || domain.is_empty() {
        let seen = if count == 1 { "nothing before or after the @".into() } else { format!("{count} @") };
        return Some((Rule::AtSign, seen));
    }
    let edges = [
        (local.chars().next(), "at the beginning"),
        (local.chars().next_back(), "before the @"),
        (domain.chars().next(), "after the @"),
        (domain.chars().next_back(), "at the end"),
    ];
    edges.into_iter().find_map(|(c, place)| {
        c.filter(|c| matches!(c, '_' | '.')).map(|c| (Rule::Edge, format!("`{c}` {place}")))
    })
}

fn is_boolean(value: &str) -> bool {
    value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false")
}

/// The first character that is not allowed, with its place.
fn outside(value: &str, allowed: impl Fn(char) -> bool) -> Option<String> {
    let (at, c) = value.chars().enumerate().find(|(_, c)| !allowed(*c))?;
    let shown = if c == ' ' { "a blank".into() } else { format!("`{c}`") };
    Some(format!("{shown} at position {}", at + 1))
}

fn customer(reference: &str, values: &Cells<'_>) -> Customer {
    let length: usize = values.iter().flatten().map(|value| value.len() + 24).sum();
    let mut form = form_urlencoded::Serializer::new(String::with_capacity(length));
    let mut fingerprint = [0; Fingerprint::BYTES];
    let seed = xxh3_64(reference.as_bytes());
    let facts = &Field::ALL[Field::MobileNumber as usize..=Field::MobileCountryCode as usize];
    for (field, hash) in facts.iter().zip(fingerprint.chunks_exact_mut(4)) {
        // An absent field must differ from an empty one of another kind: absent is all zero.
        if let Some(value) = values[*field as usize] {
            hash.copy_from_slice(&(xxh3_64_with_seed(value.as_bytes(), seed) as u32).to_le_bytes());
        }
    }
    for field in Field::ALL {
        match (field, values[field as usize]) {
            (Field::GetClientAuthToken, Some(value)) => {
                form.append_pair(field.name(), &value.to_ascii_lowercase());
            }
            (_, Some(value)) => {
                form.append_pair(field.name(), value);
            }
            (_, None) => {}
        }
    }
    Customer {
        reference: Reference(reference.into()),
        body: form.finish().into(),
        fingerprint: Fingerprint(fingerprint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `field=value` pairs on top of a valid row; an empty value empties the cell.
    fn read(rules: &Rules, changes: &[(Field, &str)]) -> Result<Customer, Faults> {
        let mut cells: Cells<'_> = [Some(""); Field::COUNT];
        cells[Field::Reference as usize] = Some("cust_0001");
        cells[Field::MobileNumber as usize] = Some("9988776655");
        for (field, value) in changes {
            cells[*field as usize] = Some(value);
        }
        rules.read(&cells)
    }

    fn words(reading: Result<Customer, Faults>) -> Vec<String> {
        match reading {
            Ok(_) => Vec::new(),
            Err(faults) => {
                faults.list.iter().map(|f| format!("{}:{}:{}", f.field_name(), f.rule, f.seen)).collect()
            }
        }
    }

    #[test]
    fn each_documented_rule() {
        use Field::*;
        let table: &[(Field, &str, &str)] = &[
            (Reference, "", "object_reference_id:required:empty"),
            (Reference, "1234567", "object_reference_id:too-short:7 characters"),
            (Reference, "12345678", ""),
            (Reference, "éééééééé", ""),
            (Reference, "ééééééé", "object_reference_id:too-short:7 characters"),
            (Reference, "cust\u{0}0001", "object_reference_id:control:a control character at position 5"),
            (MobileNumber, "", "mobile_number:required:empty"),
            (MobileNumber, "  ", "mobile_number:required:empty"),
            (MobileNumber, "+919988776655", "mobile_number:digits:`+` at position 1"),
            (MobileNumber, "99887 76655", "mobile_number:digits:a blank at position 6"),
            (MobileNumber, "٣٣٣٣", "mobile_number:digits:`٣` at position 1"),
            (MobileNumber, " 99887766 ", ""),
            (EmailAddress, "", ""),
            (EmailAddress, "a.b_c@example.com", ""),
            (EmailAddress, "!#$%&'*+-/=?^x{|}~`@example.com", ""),
            (EmailAddress, "a b@example.com", "email_address:character:a blank at position 2"),
            (EmailAddress, "josé@example.com", "email_address:character:`é` at position 4"),
            (EmailAddress, "a,b@example.com", "email_address:character:`,` at position 2"),
            (EmailAddress, "example.com", "email_address:at-sign:0 @"),
            (EmailAddress, "a@b@example.com", "email_address:at-sign:2 @"),
            (EmailAddress, "@example.com", "email_address:at-sign:nothing before or after the @"),
            (EmailAddress, "a@", "email_address:at-sign:nothing before or after the @"),
            (EmailAddress, ".a@example.com", "email_address:edge:`.` at the beginning"),
            (EmailAddress, "a_@example.com", "email_address:edge:`_` before the @"),
            (EmailAddress, "a@.example.com", "email_address:edge:`.` after the @"),
            (EmailAddress, "a@example.com_", "email_address:edge:`_` at the end"),
            (FirstName, "John-Paul_(Jr.)", ""),
            (FirstName, "John Paul", "first_name:character:a blank at position 5"),
            (LastName, "O'Brien", "last_name:character:`'` at position 2"),
            (LastName, "Núñez", "last_name:character:`ú` at position 2"),
            (MobileCountryCode, "91", ""),
            (MobileCountryCode, "+91", "mobile_country_code:digits:`+` at position 1"),
            (GetClientAuthToken, "TRUE", ""),
            (GetClientAuthToken, "maybe", "options.get_client_auth_token:boolean:another word"),
        ];
        for (field, value, expected) in table {
            let got = words(read(&Rules::default(), &[(*field, value)])).join(";");
            assert_eq!(&got, expected, "{field} = {value:?}");
        }
    }

    #[test]
    fn all_faults_of_a_row_are_named() {
        let got = words(read(
            &Rules::default(),
            &[(Field::Reference, "x"), (Field::MobileNumber, ""), (Field::LastName, "a b")],
        ));
        assert_eq!(got.len(), 3, "{got:?}");
    }

    #[test]
    fn lenient_leaves_the_content_to_the_api() {
        let rules = Rules { validation: Validation::Lenient, ..Rules::default() };
        for (field, value) in [
            (Field::MobileNumber, "+91 99887-76655"),
            (Field::EmailAddress, "no mail"),
            (Field::FirstName, "José María"),
            (Field::MobileCountryCode, "+91"),
        ] {
            assert!(read(&rules, &[(field, value)]).is_ok(), "{field}");
        }
        assert_eq!(words(read(&rules, &[(Field::Reference, "short")])).len(), 1);
        assert_eq!(words(read(&rules, &[(Field::FirstName, "a\nb")])).len(), 1);
    }

    #[test]
    fn required_fields_and_constants() {
        let mut rules = Rules { require: vec![Field::EmailAddress], ..Rules::default() };
        assert_eq!(words(read(&rules, &[])), ["email_address:required:empty"]);
        rules.constants = vec![(Field::EmailAddress, "a@example.com".into())];
        let customer = read(&rules, &[]).unwrap();
        assert!(customer.body.ends_with(b"email_address=a%40example.com"));
        let own = read(&rules, &[(Field::EmailAddress, "b@example.com")]).unwrap();
        assert!(own.body.ends_with(b"email_address=b%40example.com"));
    }

    #[test]
    fn the_body_has_the_fields_in_order_and_no_empty_ones() {
        let customer = read(
            &Rules::default(),
            &[
                (Field::Reference, "a+b c@x.org"),
                (Field::LastName, "Smith"),
                (Field::GetClientAuthToken, "True"),
            ],
        )
        .unwrap();
        assert_eq!(
            customer.body,
            "object_reference_id=a%2Bb+c%40x.org&mobile_number=9988776655&last_name=Smith\
             &options.get_client_auth_token=true"
        );
    }

    #[test]
    fn a_fingerprint_tells_which_fields_differ_and_ignores_instructions() {
        let base = read(&Rules::default(), &[]).unwrap().fingerprint;
        let token = read(&Rules::default(), &[(Field::GetClientAuthToken, "true")]).unwrap().fingerprint;
        assert_eq!(base, token);
        let named = read(&Rules::default(), &[(Field::FirstName, "Asha")]).unwrap().fingerprint;
        let other = read(&Rules::default(), &[(Field::LastName, "Asha")]).unwrap().fingerprint;
        assert_ne!(base, named);
        assert_ne!(named, other);
        assert_eq!(base.as_bytes()[..8], named.as_bytes()[..8]);
    }

    #[test]
    fn a_record_keeps_its_cells() {
        let cells = ["", "a,b", "", "é\n"];
        assert_eq!(Record::new(cells).cells().collect::<Vec<_>>(), cells);
        assert_eq!(Record::new([]).cells().count(), 0);
    }
}
