//! Detects values that are sent although they may not be the intended ones: a word for a missing value in a name, an
//! id with `undefined` as a part, text that was encoded twice.
//!
//! None of them breaks a rule, and a person may have such a name: a fault would refuse good rows. These values are
//! counted and reported once per run.

use std::fmt;

use super::{
    Field, FieldKind,
    content::{Content, WORD},
    null_marker,
};

/// Why a value that is sent may not be the intended one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// A name is, or contains, a word that may stand for a missing value.
    NullWord,
    /// A part of a reference is a word for a missing value: the id that the reference was made of is missing.
    NullPart,
    /// A name was decoded with another encoding than it was written in, or escaped or quoted for a web page or a script.
    DoubleEncoding,
    /// A phone number is one digit, repeated.
    RepeatedDigit,
    /// A reference ends with a long number of which only the first fifteen digits are not zeros.
    RoundedNumber,
}

impl Doubt {
    /// Why a value of this field is in doubt, if it is. For almost every value, its content and the first and last bytes
    /// decide.
    pub(super) fn of(field: Field, value: &str, content: Content) -> Option<Doubt> {
        match field.kind() {
            FieldKind::Reference if is_rounded(value.as_bytes()) => Some(Doubt::RoundedNumber),
            FieldKind::Reference => null_marker::is_part_of(value).then_some(Doubt::NullPart),
            FieldKind::MobileNumber => is_one_digit(value).then_some(Doubt::RepeatedDigit),
            FieldKind::PersonName if null_marker::is_in_name(value, content) => Some(Doubt::NullWord),
            FieldKind::PersonName if content.is_all(WORD) => None,
            FieldKind::PersonName => is_encoded_twice(value).then_some(Doubt::DoubleEncoding),
            _ => None,
        }
    }

    /// The name in JSON. A contract with scripts.
    pub fn name(self) -> &'static str {
        match self {
            Doubt::NullWord => "null-word",
            Doubt::NullPart => "null-part",
            Doubt::DoubleEncoding => "double-encoding",
            Doubt::RepeatedDigit => "repeated-digit",
            Doubt::RoundedNumber => "rounded-number",
        }
    }
}

/// Completes a sentence that begins with the field: `first_name has words such as NULL, …`.
impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Doubt::NullWord => {
                "has words such as NULL or -, sent as they are; --null-marker WORD reads one as empty"
            }
            Doubt::NullPart => {
                "has a part such as null or undefined, as a script writes it for a missing id; sent as it is"
            }
            Doubt::RoundedNumber => {
                "is a long number with zeros from its 16th digit on, as a spreadsheet rounds it; sent as it is"
            }
            Doubt::RepeatedDigit => "is one digit, repeated, as a placeholder is; sent as it is",
            Doubt::DoubleEncoding => {
                "has text that looks encoded twice, escaped or damaged, such as Ã©, &eacute;, O\\'Neil or J?rg; sent as it is"
            }
        })
    }
}

/// Length in digits from which a repeated digit is no short number.
const REPEATED_DIGITS: usize = 7;

/// `0000000000`
fn is_one_digit(number: &str) -> bool {
    let [first, second, ..] = number.as_bytes() else { return false };
    first == second
        && number.len() >= REPEATED_DIGITS
        && first.is_ascii_digit()
        && number.bytes().all(|byte| byte == *first)
}

/// How many digits of a number a spreadsheet keeps.
const DIGITS_KEPT: usize = 15;

/// `1234567890123450000`, for an id of 19 digits. With fewer than two zeros, it is too common.
fn is_rounded(reference: &[u8]) -> bool {
    if !reference.ends_with(b"00") {
        return false;
    }
    let digits = reference.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let number = &reference[reference.len() - digits..];
    digits >= DIGITS_KEPT + 2 && number[0] != b'0' && number[DIGITS_KEPT..].iter().all(|byte| *byte == b'0')
}

/// Whether a name shows signs of a second encoding: UTF-8 decoded with another encoding (`Ã©`), an HTML entity, an
/// escape of a script or a URL, or a `?` beside letters.
fn is_encoded_twice(name: &str) -> bool {
    is_quoted(name) || name.char_indices().any(|(at, c)| is_trace(c, &name[..at], &name[at + c.len_utf8()..]))
}

/// Whether a character with this text before and after it is a sign of a second encoding.
fn is_trace(c: char, before: &str, after: &str) -> bool {
    let is_next = |is: fn(char) -> bool| after.chars().next().is_some_and(is);
    let is_hex = |bytes: Option<&[u8]>| bytes.is_some_and(|bytes| bytes.iter().all(u8::is_ascii_hexdigit));
    let bytes = after.as_bytes();
    match c {
        // The first byte of a UTF-8 character, decoded as windows-1252, followed by the second one.
        'Â'..='ô' => is_next(is_second_byte),
        '&' => {
            let name = bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'#').count();
            (2..=8).contains(&name) && bytes.get(name) == Some(&b';')
        }
        '\\' => {
            is_next(|c| matches!(c, 'n' | 't' | 'r' | '\\' | '\'' | '"'))
                || is_next(|c| matches!(c, 'u' | 'x')) && is_hex(bytes.get(1..3))
        }
        '%' => is_hex(bytes.get(..2)),
        '?' => {
            before.chars().next_back().is_some_and(char::is_alphabetic)
                && is_next(|c| c.is_alphabetic() || c == '?')
        }
        _ => false,
    }
}

/// `'Asha'`
fn is_quoted(name: &str) -> bool {
    ['\'', '"', '`']
        .into_iter()
        .any(|quote| name.len() > 2 && name.starts_with(quote) && name.ends_with(quote))
}

/// Whether a character is a byte from 0x80 to 0xBF decoded as windows-1252, except for letters that occur in names.
fn is_second_byte(c: char) -> bool {
    matches!(c, '\u{80}'..='\u{bf}') || "€‚ƒ„…†‡ˆ‰‹‘’“”•–—˜™›".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(field: Field, value: &str) -> Option<Doubt> {
        Doubt::of(field, value, Content::of(value))
    }

    #[test]
    fn a_name_that_was_encoded_twice_is_told_from_one_in_any_language() {
        for name in [
            "ZoÃ«",
            "MÃ¼ller",
            "Jos&eacute;",
            "D&#39;Souza",
            "Jos\\u00e9",
            "Jos\\xe9",
            "Jos%C3%A9",
            "J?rg",
            "Jos??",
            "Lâ€™Oreal",
            "O\\'Neil",
            "Asha\\nRao",
            "'Asha'",
            "\"Asha\"",
        ] {
            assert_eq!(of(Field::FirstName, name), Some(Doubt::DoubleEncoding), "{name}");
        }
        for name in [
            "Zoë",
            "Müller",
            "João",
            "JOÃO",
            "Ângela",
            "Âme",
            "Étienne",
            "O’Brien",
            "अमित",
            "Smith & Sons",
            "R&D",
            "Who?",
            "100%",
            "AC\\DC",
            "Ønskeø",
            "Ñuñez",
        ] {
            assert_eq!(of(Field::LastName, name), None, "{name}");
        }
    }

    #[test]
    fn a_number_of_one_digit_is_in_doubt() {
        for (number, doubt) in [
            ("0000000000", Some(Doubt::RepeatedDigit)),
            ("9999999", Some(Doubt::RepeatedDigit)),
            ("999999", None),
            ("9999999998", None),
            ("9988776655", None),
            ("", None),
        ] {
            assert_eq!(of(Field::MobileNumber, number), doubt, "{number}");
        }
    }

    #[test]
    fn a_long_number_that_was_rounded_is_in_doubt() {
        for (reference, is_rounded) in [
            ("1234567890123450000", true),
            ("cust_12345678901234500", true),
            ("1234567890123451000", false),
            ("1234567890123450", false),
            ("00000000000000000", false),
            ("100000000", false),
        ] {
            let doubt = is_rounded.then_some(Doubt::RoundedNumber);
            assert_eq!(of(Field::Reference, reference), doubt, "{reference}");
        }
    }

    #[test]
    fn a_reference_with_a_part_for_no_value_is_in_doubt() {
        for reference in
            ["cust_null", "cust-undefined", "user:None", "undefined_1", "cust_NaN", "null@example.com"]
        {
            assert_eq!(of(Field::Reference, reference), Some(Doubt::NullPart), "{reference}");
        }
        for reference in
            ["nullable-1", "cust_nan", "annull", "jane-Null", "cust_nullx", "undefinedness", "cust_0001"]
        {
            assert_eq!(of(Field::Reference, reference), None, "{reference}");
        }
    }
}
