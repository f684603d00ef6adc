//! The documented rules applied to one record: cells in, a `Customer` or all of its `Faults` out.
//!
//! Every row passes here, so a row of plain ASCII that breaks nothing allocates its reference and its
//! form body and nothing else: characters are looked up in one table, and words about what was seen are
//! made for what is wrong only.
//!
//! Sources of the rules: the Create Customer page. Where it is silent (control characters, lengths, the longest
//! reference that still fits into a URL) the rule says so.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{
    Cells, Customer, Fault, Faults, Field, Fields, Fingerprint, Reference, Rule,
    phone::{Misread, Number, Phones},
    spreadsheet,
};

/// The fewest characters of a reference; from the Create Customer page.
const REFERENCE_MIN_CHARS: usize = 8;

/// The most bytes of a reference, however leniently a row is read. Not the page's: the Get call carries it in the
/// URL, and three times this (percent-encoded) stays below what HTTP servers accept in a request line.
const REFERENCE_MAX_BYTES: usize = 2048;

/// The most characters of a field, where there is a bound. Not the page's either, which is silent: the lengths of
/// the platform's own columns. What is longer is refused there, or cut.
fn max_chars(field: Field) -> Option<usize> {
    match field {
        Field::Reference | Field::EmailAddress => Some(128),
        Field::FirstName | Field::LastName => Some(64),
        Field::MobileNumber => Some(16),
        Field::MobileCountryCode => Some(4),
        Field::GetClientAuthToken => None,
    }
}

/// How strictly a row is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validation {
    /// Every rule of the Create Customer page.
    #[default]
    Documented,
    /// Only what no API could accept (missing, too short, control characters, a negative number, what a
    /// spreadsheet broke); the API judges the rest.
    Lenient,
}

/// How cells are judged: the page's rules and what the user asked beyond them.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// How strictly.
    pub validation: Validation,
    /// Optional fields that must be there all the same.
    pub require: Vec<Field>,
    /// Constants for fields whose column is missing or whose cell is empty.
    pub constants: Vec<(Field, String)>,
    /// Whether a row goes without an optional field that breaks a rule.
    pub drop_invalid_optional: bool,
    /// How phone numbers are read that are not plain digits.
    pub phones: Option<Phones>,
}

/// What reading a row has come upon so far.
#[derive(Default)]
struct Found {
    faults: Vec<Fault>,
    dropped: Vec<(Field, Rule)>,
}

impl Found {
    fn blames(&self, field: Field) -> bool {
        self.faults.iter().any(|fault| fault.field == Some(field))
    }
}

impl Rules {
    /// Reads one record. Blanks around a cell are not part of its value, and an empty
    /// optional field is not sent at all.
    ///
    /// # Errors
    /// Every fault of the row.
    pub fn read(&self, cells: &Cells<'_>) -> Result<Customer, Faults> {
        self.vet(cells).map(|vetted| vetted.customer())
    }

    /// The same without making a customer of it.
    ///
    /// # Errors
    /// Every fault of the row.
    pub fn vet<'a>(&'a self, cells: &Cells<'a>) -> Result<Vetted<'a>, Faults> {
        let mut found = Found::default();
        let mut values: Cells<'_> = [None; Field::COUNT];
        for field in Field::ALL {
            values[field as usize] = self.take(field, cells[field as usize], &mut found);
        }
        let phone = match &self.phones {
            Some(phones) => self.read_phone(phones, &values, &mut found),
            None => None,
        };
        match values[Field::Reference as usize] {
            Some(_) if found.faults.is_empty() => Ok(Vetted { values, phone, dropped: found.dropped }),
            reference => Err(Faults { list: found.faults, reference: reference.map(str::to_owned) }),
        }
    }

    /// A field's value, its fault put down; none if it is dropped.
    fn take<'a>(&'a self, field: Field, cell: Option<&'a str>, found: &mut Found) -> Option<&'a str> {
        let Some(value) = self.value(field, cell) else {
            // What a phone number can fill is missing only where there is none.
            let filled = field == Field::MobileCountryCode && self.phones.is_some();
            if !filled && (field.is_mandatory() || self.require.contains(&field)) {
                found.faults.push(Fault { field: Some(field), rule: Rule::Required, seen: "empty".into() });
            }
            return None;
        };
        if self.is_plainly_good(field, value) {
            return Some(value);
        }
        match self.judge(field, value) {
            None => Some(value),
            Some((rule, _)) if self.may_drop(field) => {
                found.dropped.push((field, rule));
                None
            }
            Some((rule, seen)) => {
                found.faults.push(Fault { field: Some(field), rule, seen });
                Some(value)
            }
        }
    }

    fn value<'a>(&'a self, field: Field, cell: Option<&'a str>) -> Option<&'a str> {
        let constant = || self.constants.iter().find(|(of, _)| *of == field).map(|(_, value)| value.trim());
        cell.map(trimmed).filter(|cell| !cell.is_empty()).or_else(constant).filter(|value| !value.is_empty())
    }

    fn may_drop(&self, field: Field) -> bool {
        self.drop_invalid_optional && !field.is_mandatory() && !self.require.contains(&field)
    }

    /// The number, where the two cells make one.
    fn read_phone<'a>(
        &'a self,
        phones: &'a Phones,
        values: &Cells<'a>,
        found: &mut Found,
    ) -> Option<Number<'a>> {
        let [mobile, code] = [Field::MobileNumber, Field::MobileCountryCode].map(|of| values[of as usize]);
        let text = mobile.filter(|_| !found.blames(Field::MobileNumber))?;
        let code = code.filter(|_| !found.blames(Field::MobileCountryCode));
        let strict = self.validation == Validation::Documented;
        let mut read = phones.read(text, code, strict);
        if let Err(Misread { field: field @ Field::MobileCountryCode, rule, .. }) = read
            && self.may_drop(field)
        {
            found.dropped.push((field, rule));
            read = phones.read(text, None, strict);
        }
        match read {
            Ok(number) => Some(number),
            Err(Misread { field, rule, seen }) => {
                found.faults.push(Fault { field: Some(field), rule, seen });
                found.faults.sort_by_key(|fault| fault.field);
                None
            }
        }
    }

    /// Whether a look at the bytes is enough, as in nearly all cells of a good file.
    fn is_plainly_good(&self, field: Field, value: &str) -> bool {
        // In bytes, so what is short enough here is so in characters.
        if max_chars(field).is_some_and(|most| value.len() > most) {
            return false;
        }
        match field {
            Field::Reference => {
                value.len() >= REFERENCE_MIN_CHARS
                    && all(value, PRINTABLE)
                    && spreadsheet::detect(field, value).is_none()
            }
            Field::MobileNumber | Field::MobileCountryCode => all(value, DIGIT),
            Field::FirstName | Field::LastName => all(value, NAME),
            Field::EmailAddress => judge_email(value).is_none(),
            Field::GetClientAuthToken => is_boolean(value),
        }
    }

    fn judge(&self, field: Field, value: &str) -> Option<(Rule, String)> {
        if !all(value, PRINTABLE)
            && let Some(unreadable) = judge_characters(value)
        {
            return Some(unreadable);
        }
        match spreadsheet::detect(field, value) {
            Some(seen) => Some((Rule::Spreadsheet, seen.into())),
            None => self.breaks(field, value),
        }
    }

    fn breaks(&self, field: Field, value: &str) -> Option<(Rule, String)> {
        match field {
            Field::Reference => {
                return judge_reference(value, self.validation);
            }
            Field::GetClientAuthToken => {
                return (!is_boolean(value)).then(|| (Rule::Boolean, "another word".into()));
            }
            // Nobody writes a number like this, and its digits are not those of the number that it was.
            Field::MobileNumber if is_negative(value) => return Some((Rule::Digits, NEGATIVE.into())),
            _ if self.validation == Validation::Lenient => return None,
            // The number is read together with its country code.
            Field::MobileNumber if self.phones.is_some() => return None,
            _ => {}
        }
        let content = match field {
            Field::EmailAddress => judge_email(value),
            Field::FirstName | Field::LastName => outside(value, NAME).map(|seen| (Rule::Character, seen)),
            _ => outside(value, DIGIT).map(|seen| (Rule::Digits, seen)),
        };
        content.or_else(|| judge_length(field, value))
    }
}

/// What is said of a negative number.
const NEGATIVE: &str = "a negative number: the - was taken for a minus, and the digits were calculated with";

/// A minus and digits, and nothing else: what is left where 080-1234567 was subtracted.
fn is_negative(value: &str) -> bool {
    let digits = value.strip_prefix(['-', '\u{2212}']);
    digits.is_some_and(|digits| !digits.is_empty() && all(digits, DIGIT))
}

/// The value without the blanks around it; most have none, and that is seen at two bytes.
fn trimmed(cell: &str) -> &str {
    let is_kept = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_graphic);
    let bytes = cell.as_bytes();
    if is_kept(bytes.first()) && is_kept(bytes.last()) { cell } else { cell.trim() }
}

fn judge_characters(value: &str) -> Option<(Rule, String)> {
    // Before everything else: a control character makes any other message unreadable.
    if let Some(at) = value.chars().position(char::is_control) {
        return Some((Rule::Control, format!("a control character at position {}", at + 1)));
    }
    // Nor does anybody mean this one: it stands where bytes could not be read before.
    let at = value.chars().position(|c| c == char::REPLACEMENT_CHARACTER)?;
    Some((Rule::Encoding, format!("a replacement character at position {}", at + 1)))
}

fn judge_reference(value: &str, validation: Validation) -> Option<(Rule, String)> {
    let chars = value.chars().take(REFERENCE_MIN_CHARS).count();
    if chars < REFERENCE_MIN_CHARS {
        return Some((Rule::TooShort, format!("{chars} characters")));
    }
    if value.len() > REFERENCE_MAX_BYTES {
        return Some((Rule::TooLong, format!("{} bytes", value.len())));
    }
    if validation == Validation::Lenient { None } else { judge_length(Field::Reference, value) }
}

fn judge_length(field: Field, value: &str) -> Option<(Rule, String)> {
    let most = max_chars(field).filter(|most| value.len() > *most)?;
    let chars = value.chars().count();
    (chars > most).then(|| (Rule::TooLong, format!("{chars} characters, and {most} fit")))
}

fn judge_email(value: &str) -> Option<(Rule, String)> {
    if let Some(seen) = outside(value, EMAIL) {
        return Some((Rule::Character, seen));
    }
    let at = value.bytes().position(|byte| byte == b'@').unwrap_or(value.len());
    let (local, domain) = (&value[..at], value.get(at + 1..).unwrap_or_default());
    if local.is_empty() || domain.is_empty() || domain.bytes().any(|byte| byte == b'@') {
        let count = value.bytes().filter(|b| *b == b'@').count();
        let seen = if count == 1 { "nothing before or after the @".into() } else { format!("{count} @") };
        return Some((Rule::AtSign, seen));
    }
    let edges = [
        (local.bytes().next(), "at the beginning"),
        (local.bytes().next_back(), "before the @"),
        (domain.bytes().next(), "after the @"),
        (domain.bytes().next_back(), "at the end"),
    ];
    edges.into_iter().find_map(|(byte, place)| {
        let byte = byte.filter(|byte| matches!(byte, b'_' | b'.'))?;
        Some((Rule::Edge, format!("`{}` {place}", char::from(byte))))
    })
}

fn is_boolean(value: &str) -> bool {
    value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false")
}

/// A record that breaks no rule, not yet a customer.
pub struct Vetted<'a> {
    values: Cells<'a>,
    /// Stands for the two cells that it was read from.
    phone: Option<Number<'a>>,
    dropped: Vec<(Field, Rule)>,
}

impl Vetted<'_> {
    /// The identity of the row.
    pub fn reference(&self) -> &str {
        self.values[Field::Reference as usize].unwrap_or_default()
    }

    /// Optional fields that broke a rule and are not sent.
    pub fn dropped(&self) -> &[(Field, Rule)] {
        &self.dropped
    }

    /// The customer that it describes, its form body encoded.
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
        Customer {
            reference: Reference(reference.into()),
            body: form.finish().into(),
            fingerprint: fingerprint(reference, &values),
            dropped: self.dropped.into(),
        }
    }
}

impl Fingerprint {
    /// Of what somebody else says about a customer, as if a row had said it.
    pub fn of(reference: &str, facts: [Option<&str>; Fields::FACTS.len()]) -> Fingerprint {
        let mut values: Cells<'_> = [None; Field::COUNT];
        for (field, value) in Fields::FACTS.into_iter().zip(facts) {
            values[field as usize] = value;
        }
        fingerprint(reference, &values)
    }
}

fn fingerprint(reference: &str, values: &Cells<'_>) -> Fingerprint {
    let mut fingerprint = [0; Fingerprint::BYTES];
    let seed = xxh3_64(reference.as_bytes());
    for (field, hash) in Fields::FACTS.iter().zip(fingerprint.chunks_exact_mut(4)) {
        // An absent field must differ from an empty one of another kind: absent is all zero.
        if let Some(value) = values[*field as usize] {
            hash.copy_from_slice(&(xxh3_64_with_seed(value.as_bytes(), seed) as u32).to_le_bytes());
        }
    }
    Fingerprint(fingerprint)
}

/// The digits 0 to 9.
const DIGIT: u8 = 1;

/// What a name may hold.
const NAME: u8 = 2;

/// What an e-mail address may hold.
const EMAIL: u8 = 4;

/// ASCII that is no control character.
const PRINTABLE: u8 = 8;

/// For each byte, the sets that it is in. Every character beyond ASCII has bytes that are in none.
const SETS: [u8; 256] = {
    let mut sets = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        let alphanumeric = (byte as u8).is_ascii_alphanumeric();
        let digit = (byte as u8).is_ascii_digit();
        sets[byte] = (digit as u8 * DIGIT)
            | ((alphanumeric || is_in(byte as u8, b"().-_")) as u8 * NAME)
            | ((alphanumeric || is_in(byte as u8, b"!#$%&'*+-/=?^_.{|}~`@")) as u8 * EMAIL)
            | (!(byte as u8).is_ascii_control() as u8 * PRINTABLE);
        byte += 1;
    }
    sets
};

const fn is_in(byte: u8, set: &[u8]) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}

/// Whether all characters are in the set.
fn all(value: &str, set: u8) -> bool {
    value.bytes().fold(set, |sets, byte| sets & SETS[usize::from(byte)]) != 0
}

/// The first character that is not in the set, with its place.
fn outside(value: &str, set: u8) -> Option<String> {
    if all(value, set) {
        return None;
    }
    let is_in = |c: char| u8::try_from(c).is_ok_and(|byte| SETS[usize::from(byte)] & set != 0);
    let (at, c) = value.chars().enumerate().find(|(_, c)| !is_in(*c))?;
    let shown = if c == ' ' { "a blank".into() } else { format!("`{c}`") };
    Some(format!("{shown} at position {}", at + 1))
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
            (Reference, &"r".repeat(128), ""),
            (Reference, &"é".repeat(128), ""),
            (Reference, &"r".repeat(129), "object_reference_id:too-long:129 characters, and 128 fit"),
            (Reference, &"é".repeat(1025), "object_reference_id:too-long:2050 bytes"),
            (Reference, "cust\u{0}0001", "object_reference_id:control:a control character at position 5"),
            (MobileNumber, "", "mobile_number:required:empty"),
            (MobileNumber, "  ", "mobile_number:required:empty"),
            (MobileNumber, "+919988776655", "mobile_number:digits:`+` at position 1"),
            (MobileNumber, "99887 76655", "mobile_number:digits:a blank at position 6"),
            (MobileNumber, "٣٣٣٣", "mobile_number:digits:`٣` at position 1"),
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
            let rules = Rules { validation, ..Rules::default() };
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
    fn a_negative_number_is_none_however_it_is_read() {
        let region = || Phones::of("IN").ok();
        for (validation, phones) in [
            (Validation::Documented, None),
            (Validation::Documented, region()),
            (Validation::Lenient, None),
            (Validation::Lenient, region()),
        ] {
            let rules = Rules { validation, phones, ..Rules::default() };
            let got = words(read(&rules, &[(Field::MobileNumber, "-9988776655")]));
            assert_eq!(got, [format!("mobile_number:digits:{NEGATIVE}")]);
        }
    }

    #[test]
    fn with_a_region_numbers_are_read_and_codes_filled() {
        let rules = Rules { phones: Some(Phones::of("IN").unwrap()), ..Rules::default() };
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
                "first_name:character:a blank at position 2",
                "mobile_country_code:digits:`+` at position 1"
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
        let phones = Rules { phones: Some(Phones::of("IN").unwrap()), ..rules.clone() };
        let (dropped, customer) =
            drops(&phones, &[(Field::MobileNumber, "+44 7911 123456"), (Field::MobileCountryCode, "91")]);
        assert_eq!(dropped, "mobile_country_code:country-code");
        assert!(customer.body.ends_with(b"mobile_number=7911123456&mobile_country_code=44"));
        for (field, value) in [(Field::MobileNumber, "x"), (Field::Reference, "x")] {
            assert_eq!(words(read(&rules, &[(field, value)])).len(), 1);
        }
        let rules = Rules { require: vec![Field::EmailAddress], ..rules };
        assert_eq!(words(read(&rules, &[(Field::EmailAddress, "x")])), ["email_address:at-sign:0 @"]);
    }
}
