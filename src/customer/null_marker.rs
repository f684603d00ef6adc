//! Detects the words that programs write for a missing value: `NULL`, `None`, `\N`, `undefined`.
//!
//! Databases, scripts and spreadsheets export a missing value as a word, and such a word passes many rules: an import
//! would create a customer called `NULL`. In a reference, a number, an address or a code it is a fault in any letter
//! case.
//!
//! In a name, a word alone proves nothing, because people are called Null, Nan, Nil and Na. Only a spelling with a
//! punctuation mark (`\N`, `(null)`, `N/A`) is a fault there. A word in a program's spelling (`NULL`, `null`, `None`,
//! not `Null`) is sent and reported, even as one of several words: a script that joins two missing names writes
//! `undefined undefined`.

use super::{Field, FieldKind, content::Content};

/// The words, as shown in messages.
const WORDS: [&str; 14] = [
    "NULL",
    "None",
    "nil",
    "NaN",
    "NaT",
    "NA",
    "N.A.",
    "undefined",
    "unknown",
    "missing",
    "not available",
    "not applicable",
    "not provided",
    "no value",
];

/// Words with a punctuation mark, which are never intended as a value.
const SIGNED: [&str; 4] = ["\\N", "N/A", "#NULL", "[object Object]"];

/// Words in programs' spellings, which may nevertheless be names.
const NAME_WORDS: [&str; 18] = [
    "NULL",
    "null",
    "NONE",
    "None",
    "none",
    "NIL",
    "nil",
    "NAN",
    "NaN",
    "nan",
    "NA",
    "N.A.",
    "n.a.",
    "UNDEFINED",
    "undefined",
    "UNKNOWN",
    "Unknown",
    "unknown",
];

/// Length in bytes of the longest word, with two brackets around it.
const LONGEST: usize = 16;

/// The word for a missing value, if the value of this field is one.
pub(super) fn detect(field: Field, value: &str) -> Option<&'static str> {
    if value.len() > LONGEST {
        return None;
    }
    let first = *value.as_bytes().first()?;
    if !matches!(first, b'n' | b'N' | b'u' | b'U' | b'm' | b'M' | b'\\' | b'#' | b'<' | b'(' | b'[' | b'{') {
        return None;
    }
    let find = |words: &[&'static str], value: &str| {
        words.iter().copied().find(|word| word.eq_ignore_ascii_case(value))
    };
    if let Some(word) = find(&SIGNED, value) {
        return Some(word);
    }
    let close = match first {
        b'<' => Some('>'),
        b'(' => Some(')'),
        b'[' => Some(']'),
        b'{' => Some('}'),
        _ => None,
    };
    let inner = close.and_then(|close| value[1..].strip_suffix(close));
    match (inner, field.kind()) {
        (Some(inner), _) => find(&WORDS, inner.trim()),
        (None, FieldKind::PersonName) => None,
        // Namibia.
        (None, FieldKind::CountryCode) if value.eq_ignore_ascii_case("na") => None,
        (None, _) => find(&WORDS, value),
    }
}

/// The words that a script inserts into a text for a missing value, in the script's spelling.
const PARTS: [&str; 7] = ["null", "NULL", "undefined", "UNDEFINED", "None", "NaN", "[object Object]"];

/// Whether the first or the last part of a reference is a word for a missing value: `cust_null`, `undefined_7`.
pub(super) fn is_part_of(reference: &str) -> bool {
    let (Some(first), Some(last)) = (reference.as_bytes().first(), reference.as_bytes().last()) else {
        return false;
    };
    let is_end = |byte: u8| !byte.is_ascii_alphanumeric() && byte.is_ascii();
    let begins = matches!(first, b'n' | b'N' | b'u' | b'U')
        && PARTS.iter().any(|part| {
            reference.strip_prefix(part).is_some_and(|rest| rest.bytes().next().is_some_and(is_end))
        });
    let ends = || {
        matches!(last, b'l' | b'L' | b'd' | b'D' | b'e' | b'N' | b']')
            && PARTS.iter().any(|part| {
                reference.strip_suffix(part).is_some_and(|rest| rest.bytes().next_back().is_some_and(is_end))
            })
    };
    begins || ends()
}

/// Whether a name contains a word that may stand for a missing value, or consists of dashes and dots only.
/// `content` is that of the name.
pub(super) fn is_in_name(name: &str, content: Content) -> bool {
    let is_candidate = |byte: u8| matches!(byte, b'N' | b'n' | b'U' | b'u');
    match name.as_bytes().first() {
        None => false,
        Some(b'-' | b'.' | b'_' | b'?') => {
            name.bytes().all(|byte| matches!(byte, b'-' | b'.' | b'_' | b'?' | b' '))
        }
        // Most names are a single word, for which the first byte decides.
        Some(first) if !is_candidate(*first) && !content.has_blank() => false,
        Some(_) => name.split(' ').any(|word| NAME_WORDS.contains(&word)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_in_name(name: &str) -> bool {
        super::is_in_name(name, Content::of(name))
    }

    #[test]
    fn a_word_for_no_value_is_none_in_any_case_of_letters() {
        for field in [Field::Reference, Field::MobileNumber, Field::EmailAddress, Field::MobileCountryCode] {
            for value in [
                "NULL",
                "Null",
                "None",
                "nil",
                "NaN",
                "undefined",
                "UNDEFINED",
                "N/A",
                "n/a",
                "\\N",
                "<null>",
                "(null)",
                "[NULL]",
                "{none}",
                "<NA>",
                "Unknown",
                "Not Available",
                "[object Object]",
                "#NULL",
            ] {
                assert!(detect(field, value).is_some(), "{field} {value}");
            }
            for value in ["", "cust_NULL", "nullable", "null@example.com", "none-0001", "9988776655", "nul"] {
                assert_eq!(detect(field, value), None, "{field} {value}");
            }
        }
        assert_eq!(detect(Field::MobileCountryCode, "NA"), None, "Namibia");
    }

    #[test]
    fn a_name_is_at_fault_only_with_a_sign() {
        for value in ["\\N", "(null)", "<None>", "N/A", "[object Object]"] {
            assert!(detect(Field::FirstName, value).is_some(), "{value}");
        }
        for value in ["NULL", "Null", "Nan", "None", "undefined", "(Nick)", "Nil"] {
            assert_eq!(detect(Field::LastName, value), None, "{value}");
        }
    }

    #[test]
    fn a_name_is_reported_in_the_spelling_of_programs() {
        for name in [
            "NULL",
            "null",
            "None",
            "NaN",
            "undefined",
            "undefined undefined",
            "Asha NULL",
            "-",
            "--",
            ".",
            "N.A.",
        ] {
            assert!(is_in_name(name), "{name}");
        }
        for name in
            ["Null", "Nan", "Nil", "Na", "Nina", "nullius", "Jean-Luc", "", "U.", "-a", "Unn", "O. Nan"]
        {
            assert!(!is_in_name(name), "{name}");
        }
    }
}
