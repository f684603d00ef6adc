//! The documented rules: turns the cells of a record into a `Customer` or all of its `Faults`.
//!
//! The rules are those of the Create Customer page. A rule that the page does not state (control characters, lengths,
//! the longest reference that fits into a URL) says so.
//!
//! Contains no advice: what to do about a fault is in `fault`.
//!
//! Every row is validated here. A valid row of plain ASCII allocates nothing but its reference and its form body:
//! characters are looked up in one table, and texts are built only for faults.

use memchr::memchr;
use serde::{Deserialize, Serialize};

use super::{
    Cells, Customer, Doubt, Field, FieldKind, FieldSet, Fingerprint, Reference, Respelling,
    content::{Content, DIGIT, EMAIL, NAME, PRINTABLE, is_char_in},
    count::counted,
    fault::{Fault, Faults, Rule},
    invisible::{self, Accepted},
    null_marker,
    phone::{ParsedNumber, PhoneCheck, PhoneError, PhoneErrorKind, PhoneRegion, is_code, prefix_of},
    spreadsheet::{self, NEGATIVE},
    stray_line,
};

/// The country code that the API assumes if it is empty; from the Create Customer page.
const DEFAULT_COUNTRY_CODE: &str = "91";

/// Minimum length of a reference in characters; from the Create Customer page.
pub(crate) const REFERENCE_MIN_CHARS: usize = 8;

/// Maximum length of a reference in bytes, also under `Validation::Lenient`. Not from the page: the Get call carries the
/// reference in its URL, and three times this length (percent-encoded) stays below what HTTP servers accept in a request
/// line.
const REFERENCE_MAX_BYTES: usize = 2048;

/// Maximum length of a field in characters, if it has one. Not from the page, which is silent, but the lengths of the
/// platform's own columns: the platform refuses or truncates anything longer.
fn max_chars(field: Field) -> Option<usize> {
    match field.kind() {
        FieldKind::Reference | FieldKind::EmailAddress => Some(128),
        FieldKind::PersonName => Some(64),
        FieldKind::MobileNumber => Some(16),
        FieldKind::CountryCode => Some(4),
        FieldKind::Boolean => None,
    }
}

/// How strictly rows are validated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Validation {
    /// Every rule of the Create Customer page.
    #[default]
    Documented,
    /// Only the rules without which no API could accept the row (required, too short, control and invisible
    /// characters, a negative number, a value rewritten by a spreadsheet, a word for a missing value); the API
    /// decides about the rest.
    Lenient,
}

/// How cells are validated: the page's rules and the user's options.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rules {
    /// How strictly rows are validated. `None` is the default, and in an override keeps the earlier setting.
    pub validation: Option<Validation>,
    /// Optional fields that are required nevertheless.
    pub require: Vec<Field>,
    /// Words that stand for a missing value: a cell that is one of them is read as empty.
    pub null_markers: Vec<String>,
    /// Constants for fields whose column is missing or whose cell is empty.
    #[serde(rename = "set")]
    pub constants: Vec<(Field, String)>,
    /// Fields that an empty cell does not state: the rows of a failed export come from files of which some have no column
    /// for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unstated_if_empty: Vec<Field>,
    /// Whether to send a row without an optional field that breaks a rule, unless that would change the meaning of
    /// another field.
    pub drop_invalid_optional: bool,
    /// The region for phone numbers in any spelling; `None` accepts digits only.
    pub phone_region: Option<PhoneRegion>,
}

/// Faults and dropped fields of a row that is being validated.
#[derive(Default)]
struct RowFindings {
    faults: Vec<Fault>,
    /// None for almost every row.
    notes: Option<Box<Notes>>,
}

/// What is reported about fields of a valid row.
#[derive(Default)]
struct Notes {
    dropped: Vec<(Field, Rule)>,
    respelled: Vec<(Field, Respelling)>,
    doubts: Vec<(Field, Doubt)>,
}

impl RowFindings {
    fn notes(&mut self) -> &mut Notes {
        self.notes.get_or_insert_default()
    }

    fn has_fault(&self, field: Field) -> bool {
        self.faults.iter().any(|fault| fault.field == Some(field))
    }

    fn add_in_order(&mut self, fault: Option<Fault>) {
        self.faults.extend(fault);
        self.faults.sort_by_key(|fault| fault.field);
    }
}

impl Rules {
    /// Validates one record and builds its customer. Blanks around a cell are not part of its value, and an empty optional
    /// field is not sent.
    ///
    /// # Errors
    /// Every fault of the row.
    pub fn read(&self, cells: &Cells<'_>) -> Result<Customer, Faults> {
        self.check(cells).map(|valid| valid.customer())
    }

    /// Validates one record without building its customer.
    ///
    /// # Errors
    /// Every fault of the row.
    pub fn check<'a>(&'a self, cells: &Cells<'a>) -> Result<ValidRecord<'a>, Faults> {
        let mut found = RowFindings::default();
        let mut values: Cells<'_> = [None; Field::COUNT];
        for field in Field::ALL {
            values[field as usize] = self.validate_field(field, cells[field as usize], &mut found);
        }
        let phone = match &self.phone_region {
            Some(phones) => self.read_phone(phones, cells, &values, &mut found),
            None => None,
        };
        match values[Field::Reference as usize] {
            Some(_) if found.faults.is_empty() => {
                let mut is_stated = cells.map(|cell| cell.is_some());
                self.unstated_if_empty.iter().for_each(|field| is_stated[*field as usize] = false);
                Ok(ValidRecord { values, is_stated, phone, notes: found.notes })
            }
            reference => Err(Faults { list: found.faults, reference: reference.map(str::to_owned) }),
        }
    }

    /// The value of a field, with its fault recorded; none if the field is empty or dropped.
    fn validate_field<'a>(
        &'a self,
        field: Field,
        cell: Option<&'a str>,
        found: &mut RowFindings,
    ) -> Option<&'a str> {
        let Some(value) = self.value(field, cell) else {
            // With a phone region, the number fills an empty country code.
            let filled = field == Field::MobileCountryCode && self.phone_region.is_some();
            if !filled && (field.is_mandatory() || self.require.contains(&field)) {
                found.faults.push(Fault::of_field(field, Rule::Required, "empty"));
            }
            return None;
        };
        let content = Content::of(value);
        if let Some(doubt) = Doubt::of(field, value, content) {
            found.notes().doubts.push((field, doubt));
        }
        if self.passes_byte_scan(field, value, content) {
            return Some(value);
        }
        match self.check_cell(field, value) {
            None => Some(value),
            Some(fault) if self.may_drop(field, value) => {
                let notes = found.notes();
                notes.doubts.retain(|(other, _)| *other != field);
                notes.dropped.push((field, fault.rule));
                None
            }
            Some(fault) => {
                found.faults.push(fault);
                Some(value)
            }
        }
    }

    /// The cell, or an empty one if it is one of the user's null markers.
    pub fn without_marker<'a>(&self, cell: &'a str) -> &'a str {
        if self.is_null_marker(cell) { "" } else { cell }
    }

    /// Whether a cell is one of the user's null markers.
    pub fn is_null_marker(&self, cell: &str) -> bool {
        !self.null_markers.is_empty() && self.null_markers.iter().any(|word| word == trimmed(cell))
    }

    /// The value of a field: the cell without the blanks around it or, instead of an empty one, the constant.
    pub(super) fn value<'a>(&'a self, field: Field, cell: Option<&'a str>) -> Option<&'a str> {
        let constant = || self.constants.iter().find(|(of, _)| *of == field).map(|(_, value)| value.trim());
        cell.map(trimmed).filter(|cell| !cell.is_empty()).or_else(constant).filter(|value| !value.is_empty())
    }

    /// The first of the options that decide which values are sent for a row, if it differs from that of others.
    pub fn differing_values(&self, other: &Rules) -> Option<&'static str> {
        let differing = [
            ("--set", self.constants != other.constants),
            ("--null-marker", self.null_markers != other.null_markers),
            ("--phone-region", self.phone_region != other.phone_region),
        ];
        differing.into_iter().find_map(|(option, differs)| differs.then_some(option))
    }

    /// Takes these options over from others where they are not given: a number without the country of its run would be
    /// another number.
    pub fn fill_values_from(&mut self, other: &Rules) {
        let is_given = |field| self.constants.iter().any(|(of, _)| *of == field);
        let more: Vec<_> = other.constants.iter().filter(|(field, _)| !is_given(*field)).cloned().collect();
        self.constants.extend(more);
        if self.null_markers.is_empty() {
            self.null_markers.clone_from(&other.null_markers);
        }
        if self.phone_region.is_none() {
            self.phone_region.clone_from(&other.phone_region);
        }
    }

    /// Whether an option named by [`Rule::advice`] is already given.
    pub fn has(&self, option: &str) -> bool {
        match option.split(' ').next() {
            Some("--phone-region") => self.phone_region.is_some(),
            Some("--validation") => self.validation() == Validation::Lenient,
            Some("--drop-invalid-optional") => self.drop_invalid_optional,
            _ => false,
        }
    }

    pub(super) fn validation(&self) -> Validation {
        self.validation.unwrap_or_default()
    }

    /// Whether the row may be sent without the field. Dropping a country code would change the number: the API would
    /// take it for a number of the default country.
    pub(super) fn may_drop(&self, field: Field, value: &str) -> bool {
        let says_more = field == Field::MobileCountryCode
            && (self.phone_region.is_some() || !is_code(value, DEFAULT_COUNTRY_CODE))
            && null_marker::detect(field, value).is_none();
        self.drops(field) && !says_more
    }

    /// Whether the user allows the field to be dropped.
    fn drops(&self, field: Field) -> bool {
        self.drop_invalid_optional && !field.is_mandatory() && !self.require.contains(&field)
    }

    /// The phone number that the two cells form, if they form one.
    fn read_phone<'a>(
        &'a self,
        phones: &'a PhoneRegion,
        cells: &Cells<'_>,
        values: &Cells<'a>,
        found: &mut RowFindings,
    ) -> Option<ParsedNumber<'a>> {
        let [mobile, code] = [Field::MobileNumber, Field::MobileCountryCode].map(|of| values[of as usize]);
        let text = mobile.filter(|_| !found.has_fault(Field::MobileNumber))?;
        let check = match self.validation() {
            Validation::Documented => PhoneCheck::NumberingPlan,
            Validation::Lenient => PhoneCheck::Length,
        };
        if found.has_fault(Field::MobileCountryCode) {
            // The country is unknown, so only the spelling can be checked.
            let fault = PhoneRegion::read_spelling(text).err();
            found.add_in_order(fault.map(Fault::from));
            return None;
        }
        let mut read = phones.read(text, code, check);
        // A constant is not part of the row, so it does not contradict a number that contains its own country code.
        let is_constant =
            cells[Field::MobileCountryCode as usize].is_none_or(|cell| trimmed(cell).is_empty());
        if let Err(PhoneError { kind: PhoneErrorKind::OtherCountryCode, .. }) = read
            && is_constant
            && self.drops(Field::MobileCountryCode)
            && PhoneRegion::is_international(text)
        {
            found.notes().dropped.push((Field::MobileCountryCode, Rule::CountryCode));
            read = phones.read(text, None, check);
        }
        match read {
            Ok(number) => {
                if number.national != text {
                    found.notes().respelled.push((Field::MobileNumber, Respelling::NationalDigits));
                }
                if !is_constant && code.is_some_and(|code| code != number.country_code) {
                    found.notes().respelled.push((Field::MobileCountryCode, Respelling::CountryCode));
                }
                Some(number)
            }
            Err(error) => {
                found.add_in_order(Some(error.into()));
                None
            }
        }
    }

    /// Whether a scan of the bytes proves the cell valid, as it does for almost every cell of a valid file.
    fn passes_byte_scan(&self, field: Field, value: &str, content: Content) -> bool {
        // The length in bytes is never less than the length in characters.
        if max_chars(field).is_some_and(|most| value.len() > most) {
            return false;
        }
        match field.kind() {
            FieldKind::Reference => {
                value.len() >= REFERENCE_MIN_CHARS
                    && content.is_all(PRINTABLE)
                    && is_unaltered(field, value, content)
            }
            FieldKind::MobileNumber | FieldKind::CountryCode => content.is_all(DIGIT),
            FieldKind::PersonName => content.is_all(NAME) && is_unaltered(field, value, content),
            FieldKind::EmailAddress => {
                content.is_all(EMAIL)
                    && check_at_sign(field, value).is_none()
                    && spreadsheet::detect(field, value, content).is_none()
            }
            FieldKind::Boolean => is_boolean(value),
        }
    }

    /// The fault of the value of a cell.
    fn check_cell(&self, field: Field, value: &str) -> Option<Fault> {
        let accepted = match field.kind() {
            // Only the digits are sent.
            FieldKind::MobileNumber | FieldKind::CountryCode if self.phone_region.is_some() => {
                Accepted::Everything
            }
            FieldKind::PersonName if self.validation() == Validation::Lenient => Accepted::Joiners,
            FieldKind::Reference | FieldKind::EmailAddress => Accepted::Nothing,
            _ => Accepted::Blanks,
        };
        match &self.phone_region {
            Some(phones) if field == Field::MobileCountryCode => {
                let fault = phones.read_code(value).err()?.into();
                check_text(field, value, value, accepted).or(Some(fault))
            }
            Some(_) if field == Field::MobileNumber => {
                let bare = &value[prefix_of(value).len()..];
                check_text(field, value, bare, accepted).or_else(|| self.check_value(field, bare))
            }
            _ => check_text(field, value, value, accepted).or_else(|| self.check_value(field, value)),
        }
    }

    /// The fault of a text by the rules of its field.
    fn check_value(&self, field: Field, value: &str) -> Option<Fault> {
        match field.kind() {
            FieldKind::Reference => return check_reference(field, value, self.validation()),
            FieldKind::Boolean => {
                return (!is_boolean(value)).then(|| Fault::of_field(field, Rule::Boolean, "another word"));
            }
            // The result of a subtraction: its digits are not those of the intended number.
            FieldKind::MobileNumber if is_negative(value) => {
                return Some(Fault::of_field(field, Rule::Digits, NEGATIVE));
            }
            _ if self.validation() == Validation::Lenient => return None,
            // Validated later, together with the country code.
            FieldKind::MobileNumber if self.phone_region.is_some() => return None,
            _ => {}
        }
        let content = match field.kind() {
            FieldKind::EmailAddress => {
                check_set(field, value, EMAIL, Rule::Character).or_else(|| check_at_sign(field, value))
            }
            FieldKind::PersonName => check_set(field, value, NAME, Rule::Character),
            _ => check_set(field, value, DIGIT, Rule::Digits),
        };
        content.or_else(|| check_length(field, value))
    }
}

/// Whether a value is a minus followed by digits: what a spreadsheet makes of 080-1234567.
fn is_negative(value: &str) -> bool {
    let digits = value.strip_prefix(['-', '\u{2212}']);
    digits.is_some_and(|digits| !digits.is_empty() && Content::of(digits).is_all(DIGIT))
}

/// The value without the blanks around it. Most values have none, which two bytes show.
fn trimmed(cell: &str) -> &str {
    let is_kept = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_graphic);
    let bytes = cell.as_bytes();
    if is_kept(bytes.first()) && is_kept(bytes.last()) { cell } else { cell.trim() }
}

/// Whether no program has replaced the value by something else.
fn is_unaltered(field: Field, value: &str, content: Content) -> bool {
    spreadsheet::detect(field, value, content).is_none()
        && null_marker::detect(field, value).is_none()
        && (field != Field::Reference || stray_line::detect(value, content).is_none())
}

/// Checks for faults that no rule of a field covers: characters that are not text, a value rewritten by a
/// spreadsheet, and a word for a missing value. `bare` is the value without an accepted prefix.
fn check_text(field: Field, value: &str, bare: &str, accepted: Accepted) -> Option<Fault> {
    let content = Content::of(bare);
    if !Content::of(value).is_all(PRINTABLE)
        && let Some(unreadable) = check_characters(field, value, accepted)
    {
        return Some(unreadable);
    }
    if field == Field::Reference
        && let Some(seen) = stray_line::detect(bare, content)
    {
        return Some(Fault::of_field(field, Rule::StrayLine, seen));
    }
    if let Some(seen) = spreadsheet::detect(field, bare, content) {
        return Some(Fault::of_field(field, Rule::Spreadsheet, seen));
    }
    let word = null_marker::detect(field, bare)?;
    Some(Fault::of_field(field, Rule::NullMarker, format!("`{word}`, which stands for a missing value")))
}

/// What the byte order mark of UTF-8 becomes in windows-1252: a file in UTF-8 was appended to one in another encoding.
const MISREAD_MARK: &str = "\u{ef}\u{bb}\u{bf}";

fn check_characters(field: Field, value: &str, accepted: Accepted) -> Option<Fault> {
    // Checked first: a control character makes any other message unreadable.
    if let Some((at, c)) = value.chars().enumerate().find(|(_, c)| c.is_control()) {
        let (code, position) = (u32::from(c), at + 1);
        let seen = format!("a control character (U+{code:04X}) at position {position}");
        return Some(Fault::of_field(field, Rule::Control, seen));
    }
    // Another program has replaced bytes that it could not decode by this character.
    if let Some(at) = value.chars().position(|c| c == char::REPLACEMENT_CHARACTER) {
        let seen = format!("a replacement character at position {}", at + 1);
        return Some(Fault::of_field(field, Rule::Encoding, seen));
    }
    if value.starts_with(MISREAD_MARK) {
        let seen = "a byte order mark of UTF-8, read in another encoding";
        return Some(Fault::of_field(field, Rule::Encoding, seen));
    }
    let (c, position) = invisible::find(value, accepted)?;
    Some(Fault::of_field(field, Rule::Invisible, invisible::describe(c, position)))
}

fn check_reference(field: Field, value: &str, validation: Validation) -> Option<Fault> {
    let chars = value.chars().take(REFERENCE_MIN_CHARS).count();
    if chars < REFERENCE_MIN_CHARS {
        return Some(Fault::of_field(field, Rule::TooShort, counted(chars, "character")));
    }
    if value.len() > REFERENCE_MAX_BYTES {
        return Some(Fault::of_field(field, Rule::TooLong, counted(value.len(), "byte")));
    }
    if validation == Validation::Lenient { None } else { check_length(field, value) }
}

fn check_length(field: Field, value: &str) -> Option<Fault> {
    let most = max_chars(field).filter(|most| value.len() > *most)?;
    let chars = value.chars().count();
    let seen = || format!("{}, and {most} fit", counted(chars, "character"));
    (chars > most).then(|| Fault::of_field(field, Rule::TooLong, seen()))
}

/// Checks that every character is in the set, which is that of the rule.
fn check_set(field: Field, value: &str, set: u8, rule: Rule) -> Option<Fault> {
    let (at, c) = value.chars().enumerate().find(|(_, c)| !is_char_in(*c, set))?;
    Some(Fault::of_field(field, rule, format!("{} at position {}", invisible::shown(c), at + 1)))
}

/// Checks what stands before and after the `@`.
fn check_at_sign(field: Field, value: &str) -> Option<Fault> {
    let at = memchr(b'@', value.as_bytes()).unwrap_or(value.len());
    let (local, domain) = (&value[..at], value.get(at + 1..).unwrap_or_default());
    if local.is_empty() || domain.is_empty() || memchr(b'@', domain.as_bytes()).is_some() {
        let count = value.bytes().filter(|b| *b == b'@').count();
        let seen = if count == 1 { "nothing before or after the @".into() } else { format!("{count} @") };
        return Some(Fault::of_field(field, Rule::AtSign, seen));
    }
    let edges = [
        (local.bytes().next(), "at the beginning"),
        (local.bytes().next_back(), "before the @"),
        (domain.bytes().next(), "after the @"),
        (domain.bytes().next_back(), "at the end"),
    ];
    edges.into_iter().find_map(|(byte, edge)| {
        let byte = byte.filter(|byte| matches!(byte, b'_' | b'.'))?;
        Some(Fault::of_field(field, Rule::Edge, format!("`{}` {edge}", char::from(byte))))
    })
}

fn is_boolean(value: &str) -> bool {
    value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false")
}

/// A record that breaks no rule, not yet built into a customer.
pub struct ValidRecord<'a> {
    values: Cells<'a>,
    /// Whether the absence of a value means that the field is empty.
    is_stated: [bool; Field::COUNT],
    /// The number read from the two phone cells; replaces their values.
    phone: Option<ParsedNumber<'a>>,
    notes: Option<Box<Notes>>,
}

impl ValidRecord<'_> {
    /// The identity of the row.
    pub fn reference(&self) -> &str {
        self.values[Field::Reference as usize].unwrap_or_default()
    }

    /// Optional fields that broke a rule and are not sent.
    pub fn dropped(&self) -> &[(Field, Rule)] {
        self.notes.as_deref().map_or(&[], |notes| &notes.dropped)
    }

    /// Fields that are sent in another spelling than that of their cells.
    pub fn respelled(&self) -> &[(Field, Respelling)] {
        self.notes.as_deref().map_or(&[], |notes| &notes.respelled)
    }

    /// Fields that are sent although their values may not be the intended ones.
    pub fn doubts(&self) -> &[(Field, Doubt)] {
        self.notes.as_deref().map_or(&[], |notes| &notes.doubts)
    }

    /// Builds the customer, with its form body.
    pub fn customer(self) -> Customer {
        let reference = self.reference();
        let mut values: Cells<'_> = self.values;
        if let Some(number) = &self.phone {
            values[Field::MobileNumber as usize] = Some(&number.national);
            values[Field::MobileCountryCode as usize] = Some(&number.country_code);
        }
        let length: usize = values.iter().flatten().map(|value| value.len() + 24).sum();
        let mut form = form_urlencoded::Serializer::new(String::with_capacity(length));
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
        let is_unstated = |field: &Field| {
            let is_dropped = || self.dropped().iter().any(|(dropped, _)| dropped == field);
            values[*field as usize].is_none() && (!self.is_stated[*field as usize] || is_dropped())
        };
        Customer {
            reference: Reference(reference.into()),
            body: form.finish().into(),
            fingerprint: Fingerprint::of_cells(reference, &values),
            unstated: FieldSet::FACTS.into_iter().filter(is_unstated).collect(),
            dropped: self.notes.map(|notes| notes.dropped).unwrap_or_default().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a valid row with these `field=value` changes; an empty value empties the cell.
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
            (Reference, &"r".repeat(128), ""),
            (Reference, &"é".repeat(128), ""),
            (Reference, &"r".repeat(129), "object_reference_id:too-long:129 characters, and 128 fit"),
            (Reference, &"é".repeat(1025), "object_reference_id:too-long:2050 bytes"),
            (
                Reference,
                "cust\u{0}0001",
                "object_reference_id:control:a control character (U+0000) at position 5",
            ),
            (MobileNumber, "", "mobile_number:required:empty"),
            (MobileNumber, "  ", "mobile_number:required:empty"),
            (MobileNumber, "+919988776655", "mobile_number:digits:`+` at position 1"),
            (MobileNumber, "99887 76655", "mobile_number:digits:a space at position 6"),
            (MobileNumber, "٣٣٣٣", "mobile_number:digits:`٣` (U+0663) at position 1"),
            (MobileNumber, " 99887766 ", ""),
            (MobileNumber, "9988776655443322", ""),
            (MobileNumber, "99887766554433221", "mobile_number:too-long:17 characters, and 16 fit"),
            (MobileNumber, "-1234487", &format!("mobile_number:digits:{NEGATIVE}")),
            (MobileNumber, "\u{2212}1234487", &format!("mobile_number:digits:{NEGATIVE}")),
            (MobileNumber, "-", "mobile_number:digits:`-` at position 1"),
            (EmailAddress, &format!("{}@example.com", "a".repeat(116)), ""),
            (
                EmailAddress,
                &format!("{}@example.com", "a".repeat(117)),
                "email_address:too-long:129 characters, and 128 fit",
            ),
            (FirstName, &"a".repeat(64), ""),
            (FirstName, &"a".repeat(65), "first_name:too-long:65 characters, and 64 fit"),
            (LastName, &"a".repeat(65), "last_name:too-long:65 characters, and 64 fit"),
            (MobileCountryCode, "1684", ""),
            (MobileCountryCode, "16840", "mobile_country_code:too-long:5 characters, and 4 fit"),
            (EmailAddress, "", ""),
            (EmailAddress, "a.b_c@example.com", ""),
            (EmailAddress, "!#$%&'*+-/=?^x{|}~`@example.com", ""),
            (EmailAddress, "a b@example.com", "email_address:character:a space at position 2"),
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
            (FirstName, "John Paul", "first_name:character:a space at position 5"),
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
        let rules = Rules { validation: Some(Validation::Lenient), ..Rules::default() };
        for (field, value) in [
            (Field::MobileNumber, "+91 99887-76655"),
            (Field::EmailAddress, "no mail"),
            (Field::FirstName, "José María"),
            (Field::MobileCountryCode, "+91"),
        ] {
            assert!(read(&rules, &[(field, value)]).is_ok(), "{field}");
        }
        let long = "r".repeat(REFERENCE_MAX_BYTES);
        for field in [Field::Reference, Field::EmailAddress, Field::FirstName, Field::MobileCountryCode] {
            assert!(read(&rules, &[(field, &long)]).is_ok(), "{field}");
        }
        assert_eq!(words(read(&rules, &[(Field::Reference, &format!("{long}r"))])).len(), 1);
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
    fn what_a_spreadsheet_broke_is_called_so_in_both_modes() {
        for validation in [Validation::Documented, Validation::Lenient] {
            let rules = Rules { validation: Some(validation), ..Rules::default() };
            for (field, value) in [
                (Field::MobileNumber, "9.98877E+09"),
                (Field::Reference, "1.23457E+12"),
                (Field::Reference, "2024-03-01"),
                (Field::EmailAddress, "#N/A"),
                (Field::FirstName, "#REF!"),
                (Field::MobileCountryCode, "=\"091\""),
            ] {
                let got = words(read(&rules, &[(field, value)])).join(";");
                assert!(got.starts_with(&format!("{field}:spreadsheet:")), "{value}: {got}");
            }
        }
    }

    #[test]
    fn what_nobody_sees_is_a_fault_in_both_modes() {
        use Field::*;
        for validation in [Validation::Documented, Validation::Lenient] {
            let rules = Rules { validation: Some(validation), ..Rules::default() };
            for (field, value, seen) in [
                (Reference, "cust\u{200b}_0001", "U+200B, a zero width space, at position 5"),
                (Reference, "cust_0001\u{feff}", "U+FEFF, a byte order mark, at position 10"),
                (Reference, "علی\u{200c}رضا-0001", "U+200C, a joiner, at position 4"),
                (MobileNumber, "\u{202a}9988776655\u{202c}", "U+202A, a mark of direction, at position 1"),
                (EmailAddress, "a\u{ad}@example.com", "U+00AD, a soft hyphen, at position 2"),
                (FirstName, "Some\u{2060}One", "U+2060, a word joiner, at position 5"),
                (LastName, "Rao\u{3164}", "U+3164, which is invisible, at position 4"),
                (MobileCountryCode, "91\u{200e}", "U+200E, a mark of direction, at position 3"),
            ] {
                let got = words(read(&rules, &[(field, value)]));
                assert_eq!(got, [format!("{field}:invisible:{seen}")]);
            }
        }
        let lenient = Rules { validation: Some(Validation::Lenient), ..Rules::default() };
        for name in ["രാജന്\u{200d}", "علی\u{200c}رضا", "❤\u{fe0f}"] {
            assert!(read(&lenient, &[(FirstName, name)]).is_ok(), "{name:?}");
        }
        let phones = Rules { phone_region: Some(PhoneRegion::parse("IN").unwrap()), ..Rules::default() };
        let changes = [(MobileNumber, "\u{202a}+91 9988776655\u{202c}"), (MobileCountryCode, "\u{200e}+91")];
        let customer = read(&phones, &changes).unwrap();
        assert!(customer.body.ends_with(b"&mobile_number=9988776655&mobile_country_code=91"));
    }

    #[test]
    fn a_negative_number_is_none_however_it_is_read() {
        let region = || PhoneRegion::parse("IN").ok();
        for (validation, phone_region) in [
            (Validation::Documented, None),
            (Validation::Documented, region()),
            (Validation::Lenient, None),
            (Validation::Lenient, region()),
        ] {
            let rules = Rules { validation: Some(validation), phone_region, ..Rules::default() };
            let got = words(read(&rules, &[(Field::MobileNumber, "-9988776655")]));
            assert_eq!(got, [format!("mobile_number:digits:{NEGATIVE}")]);
        }
    }

    #[test]
    fn with_a_region_numbers_are_read_and_codes_filled() {
        let rules = Rules { phone_region: Some(PhoneRegion::parse("IN").unwrap()), ..Rules::default() };
        let body = |changes: &[(Field, &str)]| {
            let customer = read(&rules, changes).unwrap();
            String::from_utf8(customer.body.to_vec()).unwrap()
        };
        let plain = "object_reference_id=cust_0001&mobile_number=9988776655&mobile_country_code=91";
        assert_eq!(body(&[]), plain);
        assert_eq!(body(&[(Field::MobileNumber, "+91 99887-76655")]), plain);
        assert_eq!(body(&[(Field::MobileNumber, "099887 76655"), (Field::MobileCountryCode, "91")]), plain);
        let spelled = read(&rules, &[(Field::MobileNumber, "0091 99887 76655")]).unwrap();
        assert_eq!(spelled.fingerprint, read(&rules, &[]).unwrap().fingerprint);
        let rules = Rules { require: vec![Field::MobileCountryCode], ..rules };
        assert!(read(&rules, &[]).is_ok());
        let got = words(read(
            &rules,
            &[(Field::MobileNumber, "12"), (Field::MobileCountryCode, "+91"), (Field::FirstName, "a b")],
        ));
        assert_eq!(
            got,
            [
                "mobile_number:impossible:2 digits, too few for IN",
                "first_name:character:a space at position 2",
            ]
        );
    }

    #[test]
    fn invalid_optional_fields_are_dropped_and_others_are_not() {
        let drops = |rules: &Rules, changes: &[(Field, &str)]| {
            let customer = read(rules, changes).unwrap();
            let dropped: Vec<String> =
                customer.dropped.iter().map(|(field, rule)| format!("{field}:{rule}")).collect();
            (dropped.join(";"), customer)
        };
        let rules = Rules { drop_invalid_optional: true, ..Rules::default() };
        let changes =
            [(Field::FirstName, "Mary Ann"), (Field::EmailAddress, "#N/A"), (Field::LastName, "Roy")];
        let (dropped, customer) = drops(&rules, &changes);
        assert_eq!(dropped, "email_address:spreadsheet;first_name:character");
        let without = read(&rules, &[(Field::LastName, "Roy")]).unwrap();
        assert_eq!((customer.body, customer.fingerprint), (without.body, without.fingerprint));
        assert!(without.dropped.is_empty());
        for (field, value) in [(Field::MobileNumber, "x"), (Field::Reference, "x")] {
            assert_eq!(words(read(&rules, &[(field, value)])).len(), 1);
        }
        // The API assumes India for a number without a country code.
        for (code, expected) in
            [("+91", true), ("91.0", true), ("+44", false), ("44.0", false), ("GB", false)]
        {
            let read = read(&rules, &[(Field::MobileCountryCode, code)]);
            assert_eq!(read.is_ok_and(|customer| customer.dropped.len() == 1), expected, "{code}");
        }
        let phones = Rules { phone_region: Some(PhoneRegion::parse("IN").unwrap()), ..rules.clone() };
        for (number, code, fault) in [
            ("7911123456", "GB", "mobile_country_code:digits:`G` at position 1 cannot be in a country code"),
            ("7911123456", "999", "mobile_country_code:country-code:not the code of any country"),
            ("7911123456", "#N/A", "mobile_country_code:spreadsheet:a formula's error, not a value"),
            ("+44 7911 123456", "91", "mobile_country_code:country-code:not the +44 of the number"),
        ] {
            let changes = [(Field::MobileNumber, number), (Field::MobileCountryCode, code)];
            assert_eq!(words(read(&phones, &changes)), [fault]);
        }
        // A constant is not part of the row.
        let phones = Rules { constants: vec![(Field::MobileCountryCode, "91".into())], ..phones };
        let (dropped, customer) = drops(&phones, &[(Field::MobileNumber, "+44 7911 123456")]);
        assert_eq!(dropped, "mobile_country_code:country-code");
        assert!(customer.body.ends_with(b"mobile_number=7911123456&mobile_country_code=44"));
        let phones = Rules { constants: vec![(Field::MobileCountryCode, "999".into())], ..phones };
        assert_eq!(
            words(read(&phones, &[])),
            ["mobile_country_code:country-code:not the code of any country"]
        );
        let rules = Rules { require: vec![Field::EmailAddress], ..rules };
        assert_eq!(words(read(&rules, &[(Field::EmailAddress, "x")])), ["email_address:at-sign:0 @"]);
    }
}
