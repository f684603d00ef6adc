//! Reads phone numbers in any spelling and checks them against the numbering plan of their country.
//!
//! The numbering plans are libphonenumber's. Its input is bounded to one `+` and [`DIGITS_MAX`] ASCII digits:
//! separators are removed here first, and any other character is a fault. So an extension, a second number or a word
//! is reported, never dropped silently.

use std::{borrow::Cow, fmt};

use rlibphonenumber::{
    NumberLengthType, PHONE_NUMBER_UTIL, ParseError, PhoneNumber, PhoneNumberUtil, Region, ValidationError,
};
use serde::{Deserialize, Serialize};

use super::{count::counted, invisible::shown, spreadsheet::is_date_for_number};

/// Maximum number of digits: the longest international number has fifteen, and dialing prefixes may precede it.
const DIGITS_MAX: usize = 24;

/// Maximum length of a spelling in bytes: several times the length of the digits with their separators.
const SPELLING_MAX: usize = 128;

/// The country code of the North American plan. Lists of country codes often give its islands with the area code, as
/// 1-242.
const NORTH_AMERICA: i32 = 1;

/// Number of digits of an area code of the North American plan.
const NORTH_AMERICAN_AREA_DIGITS: usize = 3;

/// Maximum number of digits after the country code in its cell: the longest area code in lists of country codes.
const AREA_DIGITS_MAX: usize = 5;

/// Prefixes that programs write before a number: link schemes, and the mark of lead exports.
const SCHEMES: [&str; 5] = ["tel:", "p:", "callto:", "sms:", "whatsapp:"];

/// The region whose rules apply to phone numbers without a country code.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PhoneRegion {
    region: Region,
    code: String,
    plans: &'static PhoneNumberUtil,
}

impl PartialEq for PhoneRegion {
    fn eq(&self, other: &PhoneRegion) -> bool {
        self.region == other.region
    }
}

impl fmt::Debug for PhoneRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PhoneRegion({})", self.region)
    }
}

impl TryFrom<String> for PhoneRegion {
    type Error = String;

    fn try_from(region: String) -> Result<PhoneRegion, String> {
        PhoneRegion::parse(&region)
    }
}

impl From<PhoneRegion> for String {
    fn from(region: PhoneRegion) -> String {
        region.region.to_string()
    }
}

/// A phone number in the form in which it is sent.
#[derive(Debug, PartialEq, Eq)]
pub struct ParsedNumber<'a> {
    /// The national digits, without country code and trunk prefix.
    pub national: Cow<'a, str>,
    /// The country code, without `+`.
    pub country_code: Cow<'a, str>,
}

/// Why the cells do not contain a phone number.
#[derive(Debug, PartialEq, Eq)]
pub struct PhoneError {
    /// What is wrong.
    pub kind: PhoneErrorKind,
    /// What was seen.
    pub seen: String,
}

/// What is wrong with a phone number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhoneErrorKind {
    /// The text is not a phone number of its country.
    Impossible,
    /// A spreadsheet has dropped the leading zero.
    ZeroDropped,
    /// The country code does not exist, or is not that of the number.
    CountryCode,
    /// The number is written with a country code that differs from the row's.
    OtherCountryCode,
    /// The country code contains something other than digits and separators.
    CountryCodeDigits,
}

/// How a number is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhoneCheck {
    /// Against the numbering plan of its country.
    NumberingPlan,
    /// By its length only.
    Length,
}

impl PhoneError {
    fn new(kind: PhoneErrorKind, seen: impl Into<String>) -> PhoneError {
        PhoneError { kind, seen: seen.into() }
    }
}

impl PhoneRegion {
    /// Parses a region code of two letters, such as `IN`.
    ///
    /// # Errors
    /// If there is no such region; the text says what to give instead.
    pub fn parse(region: &str) -> Result<PhoneRegion, String> {
        let wrong = || "give a region of two letters, such as IN, SG or US".to_owned();
        let region: Region = region.trim().to_ascii_uppercase().parse().map_err(|_| wrong())?;
        // An immutable table, built on first use and shared.
        let plans: &PhoneNumberUtil = &PHONE_NUMBER_UTIL;
        let code = plans.get_country_code_for_region(region).ok_or_else(wrong)?;
        Ok(PhoneRegion { region, code: code.to_string(), plans })
    }

    /// The names of all regions, in the order of the alphabet.
    pub fn names() -> Vec<String> {
        let mut names: Vec<String> =
            PHONE_NUMBER_UTIL.get_supported_regions().map(|region| region.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// Reads a number in any spelling: a national number of the country of `code`, or else of the region, or an
    /// international number. The code, too, may have any spelling.
    ///
    /// # Errors
    /// If the number is not one of its country, or belongs to another country than `code` says.
    pub fn read<'a>(
        &'a self,
        text: &'a str,
        code: Option<&'a str>,
        check: PhoneCheck,
    ) -> Result<ParsedNumber<'a>, PhoneError> {
        let dialed = dialed(text)?;
        let Some(code) = code.filter(|code| *code != self.code) else {
            return self.parse_dialed(text, &dialed, self.region, code.map(|_| self.own_country()), check);
        };
        let DialCode { country, region, area } = self.dial_code(code)?;
        let read = self.parse_dialed(text, &dialed, region, Some(country), check);
        if area.is_empty() || read.as_ref().is_ok_and(|number| number.national.starts_with(&area)) {
            return read;
        }
        // A local number lacks the area code that is in the cell of the country code.
        let whole = format!("{area}{dialed}");
        match self.parse_dialed(text, &whole, region, Some(country), check) {
            Ok(number) if country == NORTH_AMERICA && number.national == whole => Ok(ParsedNumber {
                national: whole.into(),
                country_code: number.country_code.into_owned().into(),
            }),
            _ => {
                let seen =
                    format!("an area code behind the +{country}, and the number does not begin with it");
                Err(PhoneError::new(PhoneErrorKind::CountryCode, seen))
            }
        }
    }

    /// The region of a number that begins with `+` and its country code.
    pub fn of_number(text: &str) -> Option<PhoneRegion> {
        let dialed = dialed(text).ok().filter(|dialed| dialed.starts_with('+'))?;
        let plans: &PhoneNumberUtil = &PHONE_NUMBER_UTIL;
        let country = plans.parse(&dialed, None).ok()?.country_code;
        let region = plans.get_region_for_country_code(country)?;
        Some(PhoneRegion { region, code: country.to_string(), plans })
    }

    /// The region of a country code in any spelling; the largest one if several share the code.
    pub fn of_code(code: &str) -> Option<PhoneRegion> {
        let plans: &PhoneNumberUtil = &PHONE_NUMBER_UTIL;
        let country = code_digits(code).ok()?.trim_start_matches('0').parse().ok()?;
        let region = plans.get_region_for_country_code(country)?;
        PhoneRegion::parse(&region.to_string()).ok()
    }

    /// Whether a number, and its country code if there is one, consist of digits and separators only, and the number is
    /// no date.
    pub fn is_spelled(number: &str, code: &str) -> bool {
        dialed(number).is_ok()
            && !is_date_for_number(number)
            && (code.is_empty() || code_digits(code).is_ok())
    }

    /// Checks only the spelling of a number whose country is unknown.
    ///
    /// # Errors
    /// If it contains a character other than digits and separators, or too many of them.
    pub fn read_spelling(text: &str) -> Result<(), PhoneError> {
        dialed(text).map(drop)
    }

    /// Whether a number contains its own country code, marked by a `+`, whatever the region.
    pub fn is_international(text: &str) -> bool {
        dialed(text).is_ok_and(|dialed| dialed.starts_with('+'))
    }

    /// Reads a country code in any spelling.
    ///
    /// # Errors
    /// If it is not the code of any country.
    pub fn read_code(&self, cell: &str) -> Result<(), PhoneError> {
        self.dial_code(cell).map(drop)
    }

    fn own_country(&self) -> i32 {
        self.code.parse().unwrap_or_default()
    }

    /// The country of a code, and the area code after it. No country code is a prefix of another.
    fn dial_code(&self, cell: &str) -> Result<DialCode, PhoneError> {
        let digits = code_digits(cell)?;
        let digits = digits.trim_start_matches('0');
        let found = (1..=digits.len().min(3)).find_map(|length| {
            let country = digits[..length].parse().ok()?;
            let region = self.plans.get_region_for_country_code(country)?;
            Some(DialCode { country, region, area: digits[length..].to_owned() })
        });
        let is_known = |DialCode { country, area, .. }: &DialCode| match (*country, area.len()) {
            (_, 0) | (NORTH_AMERICA, NORTH_AMERICAN_AREA_DIGITS) => true,
            (NORTH_AMERICA, _) => false,
            (_, area) => area <= AREA_DIGITS_MAX,
        };
        found
            .filter(is_known)
            .ok_or_else(|| PhoneError::new(PhoneErrorKind::CountryCode, "not the code of any country"))
    }

    /// Parses a number as it would be dialed in the region, for the country that the row names.
    fn parse_dialed<'a>(
        &'a self,
        text: &'a str,
        dialed: &str,
        region: Region,
        country: Option<i32>,
        check: PhoneCheck,
    ) -> Result<ParsedNumber<'a>, PhoneError> {
        let count = dialed.trim_start_matches('+').len();
        let number = match self.plans.parse(dialed, Some(region)) {
            Ok(number) => number,
            Err(error) => {
                return Err(PhoneError::new(PhoneErrorKind::Impossible, why_not(&error, count, region)));
            }
        };
        let country_code = if self.code.parse() == Ok(number.country_code) {
            Cow::from(&self.code)
        } else {
            number.country_code.to_string().into()
        };
        if country.is_some_and(|country| country != number.country_code) {
            return Err(PhoneError::new(
                PhoneErrorKind::OtherCountryCode,
                format!("not the +{country_code} of the number"),
            ));
        }
        if !self.is_valid(&number, check) {
            return Err(self.why_impossible(&number, dialed, region));
        }
        let national = number.get_national_significant_number();
        Ok(ParsedNumber {
            national: if national == text { text.into() } else { national.into() },
            country_code,
        })
    }

    fn is_valid(&self, number: &PhoneNumber, check: PhoneCheck) -> bool {
        if check == PhoneCheck::NumberingPlan {
            return self.plans.is_valid_number(number);
        }
        // A number that can be dialed only locally cannot be sent.
        let length = self.plans.is_possible_number_with_reason(number);
        length.is_ok_and(|length| length == NumberLengthType::IsPossible)
    }

    fn why_impossible(&self, number: &PhoneNumber, dialed: &str, region: Region) -> PhoneError {
        let with = |before: &str| {
            let other = self.plans.parse(format!("{before}{dialed}"), Some(region)).ok()?;
            self.plans.is_valid_number(&other).then_some(other)
        };
        if !dialed.starts_with(['+', '0']) {
            if with("0").is_some_and(|other| other.country_code == number.country_code) {
                let seen = "not a number as it is, but one with a 0 in front: a spreadsheet dropped the zero";
                return PhoneError::new(PhoneErrorKind::ZeroDropped, seen);
            }
            if let Some(other) = with("+") {
                let code = other.country_code;
                let seen = format!("no number of {region}, but one of +{code} with a + in front");
                return PhoneError::new(PhoneErrorKind::Impossible, seen);
            }
        }
        let count = number.get_national_significant_number().len();
        let region_name = if Some(number.country_code) == self.plans.get_country_code_for_region(region) {
            region.to_string()
        } else {
            format!("+{}", number.country_code)
        };
        let seen = match self.plans.is_possible_number_with_reason(number) {
            Err(ValidationError::TooShort) => {
                format!("{}, too few for {region_name}", counted(count, "digit"))
            }
            Err(ValidationError::TooLong) => {
                format!("{}, too many for {region_name}", counted(count, "digit"))
            }
            _ => format!("{}, which no number of {region_name} has", counted(count, "digit")),
        };
        PhoneError::new(PhoneErrorKind::Impossible, seen)
    }
}

fn why_not(error: &ParseError, count: usize, region: Region) -> String {
    match error {
        ParseError::InvalidCountryCode => "it does not begin with a country code".into(),
        ParseError::TooLongNsn => format!("{}, too many for {region}", counted(count, "digit")),
        _ => format!("{}, too few for {region}", counted(count, "digit")),
    }
}

/// A country code as spelled in its cell.
struct DialCode {
    country: i32,
    region: Region,
    /// Digits after the country's own code: `242` of `1-242`.
    area: String,
}

/// The digits of a country code: `44` of `+44`, `00 44`, `(44)` and `44.0`.
fn code_digits(cell: &str) -> Result<Cow<'_, str>, PhoneError> {
    if cell.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(cell.into());
    }
    let wrong = |at: usize, c: char| {
        let seen = format!("{} at position {at} cannot be in a country code", shown(c));
        Err(PhoneError::new(PhoneErrorKind::CountryCodeDigits, seen))
    };
    let unmarked = cell.trim_start_matches('\'');
    let marks = cell.len() - unmarked.len();
    // A number with a decimal: some program has treated the column as numbers.
    let whole = unmarked.split_once(['.', ',']).filter(|(_, decimals)| matches!(*decimals, "0" | "00"));
    let mut digits = String::new();
    let mut has_plus = false;
    for (at, c) in whole.map_or(unmarked, |(whole, _)| whole).chars().enumerate() {
        match (c, digit(c)) {
            (_, Some(digit)) => digits.push(digit),
            ('+' | '\u{ff0b}', _) if digits.is_empty() && !has_plus => has_plus = true,
            // A dash before the digits is a minus sign.
            _ if is_separator(c) && !(is_dash(c) && digits.is_empty()) => {}
            _ => return wrong(marks + at + 1, c),
        }
    }
    if digits.is_empty() {
        return Err(PhoneError::new(PhoneErrorKind::CountryCodeDigits, "no digit"));
    }
    Ok(digits.into())
}

/// Whether the cell spells this country code.
pub(super) fn is_code(cell: &str, code: &str) -> bool {
    code_digits(cell).is_ok_and(|digits| digits.trim_start_matches('0') == code)
}

/// The prefix of a number in its cell: the `'` with which a spreadsheet marks text, or a scheme. ASCII.
pub(super) fn prefix_of(text: &str) -> &str {
    let unmarked = text.trim_start_matches('\'');
    let is_scheme =
        |scheme: &&&str| unmarked.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let scheme = SCHEMES.iter().find(is_scheme).map_or(0, |scheme| scheme.len());
    &text[..text.len() - unmarked.len() + scheme]
}

/// Removes prefix and separators; digits remain, with a `+` before them if there was one.
fn dialed(text: &str) -> Result<Cow<'_, str>, PhoneError> {
    let impossible = |seen| Err(PhoneError::new(PhoneErrorKind::Impossible, seen));
    if text.len() > SPELLING_MAX {
        return impossible(format!("{} bytes, too many for a number", text.len()));
    }
    if text.len() <= DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(text.into());
    }
    let prefix = prefix_of(text).len();
    let mut dialed = String::with_capacity(DIGITS_MAX + 1);
    for (at, c) in text.chars().enumerate().skip(prefix) {
        match (c, digit(c)) {
            (_, Some(digit)) => dialed.push(digit),
            ('+' | '\u{ff0b}', _) if dialed.is_empty() => dialed.push('+'),
            _ if is_separator(c) => {}
            _ => return impossible(format!("{} at position {} cannot be in a number", shown(c), at + 1)),
        }
    }
    match dialed.trim_start_matches('+').len() {
        0 => impossible("no digit".into()),
        count if count > DIGITS_MAX => impossible(format!("{count} digits, too many for a number")),
        _ => Ok(dialed.into()),
    }
}

/// Blanks, dashes, dots, slashes, parentheses, and the invisible marks that phones and office programs copy along
/// with a number.
fn is_separator(c: char) -> bool {
    let is_mark = matches!(
        c,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    );
    let is_sign =
        matches!(c, '.' | '/' | '(' | ')' | '[' | ']' | '·' | '~' | '\u{ff08}' | '\u{ff09}' | '\u{ff0e}');
    c.is_whitespace() || is_dash(c) || is_sign || is_mark
}

fn is_dash(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe63}' | '\u{ff0d}' | '\u{30fc}')
}

/// The ASCII digit with the same value, for the scripts that phone keyboards and office programs use.
fn digit(c: char) -> Option<char> {
    const ZEROS: [char; 17] = [
        '0', '\u{660}', '\u{6f0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}', '\u{b66}', '\u{be6}',
        '\u{c66}', '\u{ce6}', '\u{d66}', '\u{e50}', '\u{ed0}', '\u{1040}', '\u{17e0}', '\u{ff10}',
    ];
    ZEROS.iter().find_map(|zero| {
        let value = u32::from(c).checked_sub(u32::from(*zero))?;
        char::from_digit(value, 10)
    })
}

#[cfg(test)]
mod tests {
    use super::{super::Fault, *};

    /// `code national`, or `field:rule:seen`.
    fn read(phones: &PhoneRegion, text: &str, code: Option<&str>, strict: bool) -> String {
        match phones.read(text, code, if strict { PhoneCheck::NumberingPlan } else { PhoneCheck::Length }) {
            Ok(ParsedNumber { national, country_code }) => format!("{country_code} {national}"),
            Err(error) => {
                let fault = Fault::from(error);
                format!("{}:{}:{}", fault.field_name(), fault.rule, fault.seen)
            }
        }
    }

    #[test]
    fn any_spelling_is_read_as_national_digits() {
        for (region, number, spellings) in [
            (
                "IN",
                "91 9988776655",
                &[
                    "9988776655",
                    "+91 99887-76655",
                    "099887 76655",
                    "0091 99887 76655",
                    "(+91) 99887.76655",
                    "919988776655",
                    "tel:+91-99887-76655",
                    "TEL: 09988776655",
                    "p:+919988776655",
                    "p:9988776655",
                    "whatsapp:+919988776655",
                    "'+91 9988776655",
                    "'9988776655",
                    "\u{202a}+91\u{a0}99887\u{2011}76655\u{202c}",
                    "९९८८७७६६५५",
                    "９９８８７７６６５５",
                    "+91 (0) 99887 76655",
                ][..],
            ),
            ("in", "44 7911123456", &["+44 7911 123456", "00447911123456"]),
            ("IT", "39 0236661300", &["02 3666 1300", "+39 02 3666 1300", "0039 0236661300"]),
            (
                "US",
                "1 2015550123",
                &["(201) 555-0123", "1-201-555-0123", "+1 201.555.0123", "011 1 201 555 0123"],
            ),
            ("DE", "49 15123456789", &["0151 23456789", "0151/23456789"]),
        ] {
            let phones = PhoneRegion::parse(region).unwrap();
            for spelling in spellings {
                assert_eq!(read(&phones, spelling, None, true), number, "{spelling}");
            }
        }
    }

    #[test]
    fn what_is_no_number_says_why() {
        let phones = PhoneRegion::parse("IN").unwrap();
        for (text, seen) in [
            ("12345", "5 digits, too few for IN"),
            ("99887766551", "11 digits, which no number of IN has"),
            ("+91 99887 766551111", "14 digits, too many for IN"),
            ("0123456789", "9 digits, which no number of IN has"),
            ("447911123456", "no number of IN, but one of +44 with a + in front"),
            ("9988776655 ext 12", "`e` at position 12 cannot be in a number"),
            ("9988776655, 9988776656", "`,` at position 11 cannot be in a number"),
            ("9988776655 / 9988776656", "20 digits, too many for IN"),
            ("tel:+919988776655;ext=12", "`;` at position 18 cannot be in a number"),
            ("q:+919988776655", "`q` at position 1 cannot be in a number"),
            ("tel:", "no digit"),
            ("99+88776655", "`+` at position 3 cannot be in a number"),
            ("+0 99887 76655", "it does not begin with a country code"),
            ("+", "no digit"),
            ("-", "no digit"),
            ("99\u{1b}88", "U+001B at position 3 cannot be in a number"),
            ("1", "1 digit, too few for IN"),
            ("9999999999999999999999999", "25 digits, too many for a number"),
        ] {
            let expected = format!("mobile_number:impossible:{seen}");
            assert_eq!(read(&phones, text, None, true), expected, "{text}");
        }
        assert!(read(&phones, &"9".repeat(100_000), None, true).contains("100000 bytes"));
        for wrong in ["", "I", "IND", "XX", "91", "ÍN"] {
            assert!(PhoneRegion::parse(wrong).unwrap_err().contains("such as IN"), "{wrong}");
        }
    }

    #[test]
    fn a_lost_zero_is_named_where_the_region_has_one() {
        let phones = PhoneRegion::parse("IT").unwrap();
        let got = read(&phones, "236661300", None, true);
        assert!(got.starts_with("mobile_number:spreadsheet:") && got.contains("dropped the zero"), "{got}");
        let phones = PhoneRegion::parse("CI").unwrap();
        assert!(read(&phones, "707070707", None, false).contains("dropped the zero"));
    }

    #[test]
    fn the_country_code_of_the_row_decides_and_must_fit() {
        let phones = PhoneRegion::parse("IN").unwrap();
        assert_eq!(read(&phones, "7911 123456", Some("44"), true), "44 7911123456");
        assert_eq!(read(&phones, "99887 76655", Some("91"), true), "91 9988776655");
        assert_eq!(
            read(&phones, "+44 7911 123456", Some("91"), true),
            "mobile_country_code:country-code:not the +44 of the number"
        );
        for code in ["999", "0", "4444444444444"] {
            let got = read(&phones, "9988776655", Some(code), true);
            assert_eq!(got, "mobile_country_code:country-code:not the code of any country", "{code}");
        }
    }

    #[test]
    fn a_country_code_is_read_in_any_spelling() {
        let phones = PhoneRegion::parse("IN").unwrap();
        for code in [
            "44",
            "+44",
            "0044",
            "00 44",
            "44.0",
            "44,00",
            "(44)",
            "(+44)",
            "+ 44",
            "\u{ff0b}44",
            "'+44",
            "'44",
            "+44-",
            "\u{a0}44\u{a0}",
            "\u{200e}+44",
            "٤٤",
            "044",
        ] {
            assert_eq!(read(&phones, "7911123456", Some(code), true), "44 7911123456", "{code:?}");
        }
        for code in ["1-242", "1242", "1 242", "+1-242", "+1 (242)", "001242", "1.242"] {
            for number in ["2423591234", "359 1234", "+1 242 359 1234", "1-242-359-1234"] {
                assert_eq!(read(&phones, number, Some(code), true), "1 2423591234", "{code:?} {number}");
            }
            let got = read(&phones, "(201) 555-0123", Some(code), true);
            assert!(got.starts_with("mobile_country_code:country-code:an area code behind the +1"), "{got}");
        }
        assert_eq!(read(&phones, "1534 456789", Some("44-1534"), true), "44 1534456789");
        let codes = [
            ("GB", "`G` at position 1 cannot be in a country code"),
            ("44x", "`x` at position 3 cannot be in a country code"),
            ("+44+", "`+` at position 4 cannot be in a country code"),
            ("-44", "`-` at position 1 cannot be in a country code"),
            ("'-44", "`-` at position 2 cannot be in a country code"),
            ("+", "no digit"),
        ];
        for (code, seen) in codes {
            let got = read(&phones, "7911123456", Some(code), true);
            assert!(got.starts_with(&format!("mobile_country_code:digits:{seen}")), "{code}: {got}");
        }
        for code in ["1-24", "1-2424", "9999", "44-123456", "0"] {
            let got = read(&phones, "7911123456", Some(code), true);
            assert_eq!(got, "mobile_country_code:country-code:not the code of any country", "{code}");
        }
    }

    #[test]
    fn lenient_goes_by_the_length() {
        let phones = PhoneRegion::parse("US").unwrap();
        assert_eq!(read(&phones, "555 555 5555", None, false), "1 5555555555");
        assert!(read(&phones, "555 555 5555", None, true).contains("which no number of US has"));
        assert!(read(&phones, "555 555", None, false).contains("too few"));
    }
}
