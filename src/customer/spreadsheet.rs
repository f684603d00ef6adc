//! Detects cells that a spreadsheet has rewritten.
//!
//! A spreadsheet guesses a type for each cell and saves what it displays: a long number in scientific notation, an id as a
//! date, a formula or its error. Such a cell passes many rules or breaks an unrelated one; here it gets a fault of its own.
//! A shape must match exactly, so that no value that somebody means is reported. Most values are decided by their first
//! byte: every reference passes through here.
//!
//! A phone number without its leading zero looks like any other number. Only `phone`, which knows the numbering plans,
//! detects it.

use super::Field;

/// How a spreadsheet has rewritten the value, if it has.
pub(super) fn detect(field: Field, value: &str) -> Option<&'static str> {
    let bytes = value.as_bytes();
    let is_number = matches!(field, Field::MobileNumber | Field::MobileCountryCode);
    match bytes.first()? {
        b'#' => hash(value),
        b'=' if bytes.starts_with(b"=\"") && bytes.len() > 2 => Some(FORMULA),
        b'=' | b'@' if is_number => Some(FORMULA),
        b'=' if matches!(field, Field::FirstName | Field::LastName) => Some(FORMULA),
        b'\'' if is_number && bytes.get(1).is_some_and(u8::is_ascii_digit) => {
            Some("the ' by which a spreadsheet marks text came along")
        }
        _ if !(is_number || field == Field::Reference) => None,
        b'0'..=b'9' if is_scientific(bytes) => {
            Some("a spreadsheet shortened the number to scientific notation and lost digits")
        }
        b'0'..=b'9' if is_number && is_decimal(bytes) => {
            Some("a program read the column as numbers with decimals")
        }
        _ if is_date(bytes, is_number) => Some("a spreadsheet turned the value into a date"),
        _ => None,
    }
}

const FORMULA: &str = "a formula where a spreadsheet showed its result";

/// The error of a formula, or the fill characters of a column that was too narrow.
fn hash(value: &str) -> Option<&'static str> {
    let rest = &value[1..];
    if !rest.is_empty() && rest.bytes().all(|byte| byte == b'#') {
        return Some("a spreadsheet's column was too narrow to show the value");
    }
    // Includes its spelling in other languages.
    let is_missing = ["N/A", "N/D", "NV", "Н/Д"].contains(&rest);
    let word = rest.strip_suffix(['!', '?']).unwrap_or_default();
    let is_error =
        word.chars().count() > 2 && word.chars().all(|c| c.is_uppercase() || matches!(c, '/' | '0' | '¡'));
    (is_missing || is_error).then_some("the error of a formula, not a value")
}

/// `9.98877E+09`, `9,98877E+09`, `1E+10`, and scripts write `9.98877e+09`.
fn is_scientific(bytes: &[u8]) -> bool {
    let mantissa = match bytes.get(1) {
        Some(b'.' | b',') => 2 + digits(&bytes[2..]),
        _ => 1,
    };
    match bytes.get(mantissa..) {
        Some([b'E' | b'e', b'+' | b'-', exponent @ ..]) => {
            (1..=3).contains(&exponent.len()) && digits(exponent) == exponent.len()
        }
        _ => false,
    }
}

/// `9988776655.0`
fn is_decimal(bytes: &[u8]) -> bool {
    let whole = digits(bytes);
    match bytes.get(whole..) {
        Some([b'.' | b',', decimals @ ..]) => {
            !decimals.is_empty() && decimals.len() <= 2 && decimals.iter().all(|byte| *byte == b'0')
        }
        _ => false,
    }
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// `2024-03-01`, `01/03/2024`, `1-Mar`, `Mar-24`, `01-Mar-2024`. Day, month and two-digit year with dashes or dots may
/// also be an id, so they count as a date only in a phone column.
fn is_date(bytes: &[u8], is_number: bool) -> bool {
    // A cheap check first: a date has an early separator and is followed by at most a time, and one that begins with a
    // month is short.
    let longest = if bytes[0].is_ascii_digit() { 30 } else { "Mar-2024".len() };
    if bytes.len() > longest || !bytes.iter().take(5).any(|byte| is_separator(*byte)) {
        return false;
    }
    let (date, rest) = match bytes.iter().position(|byte| matches!(byte, b' ' | b'T')) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[][..]),
    };
    let is_time = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b':' | b'.' | b'+' | b'-' | b'Z');
    if !(rest.is_empty() || rest.contains(&b':') && rest.iter().all(is_time)) {
        return false;
    }
    let Some(separator) = date.iter().copied().find(|byte| is_separator(*byte)) else { return false };
    let mut parts = [&[][..]; 3];
    let mut count = 0;
    for part in date.split(|byte| *byte == separator) {
        match parts.get_mut(count) {
            Some(slot) => *slot = part,
            None => return false,
        }
        count += 1;
    }
    match &parts[..count] {
        [day, month] | [month, day] if is_month_name(month) => number(day).is_some(),
        [day, month, year] if is_month_name(month) => is_day(day) && is_year(year, true),
        [year, month, day] if year.len() == 4 => is_year(year, false) && is_month(month) && is_day(day),
        [day, month, year] => {
            let short = is_number || separator == b'/';
            let is_order = is_day(day) && is_month(month) || is_month(day) && is_day(month);
            is_order && is_year(year, short)
        }
        _ => false,
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'-' | b'/' | b'.')
}

/// A number of one or two digits.
fn number(part: &[u8]) -> Option<u8> {
    let is_number = matches!(part.len(), 1 | 2) && digits(part) == part.len();
    is_number.then(|| part.iter().fold(0, |number, digit| number * 10 + (digit - b'0')))
}

fn is_day(part: &[u8]) -> bool {
    number(part).is_some_and(|day| (1..=31).contains(&day))
}

fn is_month(part: &[u8]) -> bool {
    number(part).is_some_and(|month| (1..=12).contains(&month))
}

fn is_month_name(part: &[u8]) -> bool {
    const MONTHS: [&[u8; 3]; 12] =
        [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
    MONTHS.iter().any(|month| part.eq_ignore_ascii_case(*month))
}

fn is_year(part: &[u8], short: bool) -> bool {
    digits(part) == part.len()
        && (part.len() == 2 && short
            || part.len() == 4 && (part.starts_with(b"19") || part.starts_with(b"20")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_spreadsheets_leave_is_known() {
        let table = [
            (Field::MobileNumber, "scientific", "9.98877E+09 9,98877E+09 9.98877e+09 1E+10"),
            (Field::Reference, "scientific", "1.23457E+12"),
            (Field::MobileNumber, "decimals", "9988776655.0 9988776655.00"),
            (Field::MobileCountryCode, "decimals", "91.0"),
            (Field::MobileNumber, "marks text", "'09988776655"),
            (Field::MobileNumber, "formula", "=\"0123\" =A1+B2"),
            (Field::Reference, "formula", "=\"00012345\""),
            (Field::FirstName, "formula", "=\"Asha\" =CONCAT(A1)"),
            (Field::Reference, "error", "#N/A #REF! #VALUE! #DIV/0! #NAME? #NULL! #NUM! #SPILL! #WERT! #NV"),
            (Field::EmailAddress, "error", "#N/A #¡VALOR!"),
            (Field::LastName, "too narrow", "##### ########"),
            (
                Field::Reference,
                "date",
                "2024-03-01 01/03/2024 31.12.1999 12-31-2024 1/3/24 1-Mar Mar-24 01-Mar-2024",
            ),
            (Field::Reference, "date", "2024-03-01T10:00:00Z"),
            (Field::MobileNumber, "date", "01-03-24 1.3.24 16/07/1998"),
        ];
        for (field, word, values) in table {
            for value in values.split(' ') {
                assert!(detect(field, value).is_some_and(|seen| seen.contains(word)), "{field} {value}");
            }
        }
        assert!(detect(Field::Reference, "2024-03-01 10:00:00").is_some());
    }

    #[test]
    fn what_somebody_may_mean_is_left_alone() {
        for value in [
            "cust_0001",
            "9988776655",
            "20240301",
            "10-11-12",
            "12E45678",
            "1E+10000",
            "2024-13-01",
            "99-99-2024",
            "#1234567",
            "#Customer",
            "#",
            "=",
            "=ab",
            "a=b",
            "1-Mark",
            "2024-0001",
            "12345678.0",
            "01-03-24",
            "2024-03-01-0007",
            "1998-07-16 north",
            "é-1-2024",
            "may-flower-01",
            "###1",
            "1/2",
            "-",
            "1--2",
        ] {
            assert_eq!(detect(Field::Reference, value), None, "{value}");
        }
        for value in ["+91 99887-76655", "099887 76656", "044-1234", "9988", "20.24.03"] {
            assert_eq!(detect(Field::MobileNumber, value), None, "{value}");
        }
        for value in ["=x@example.com", "#x@example.com", "#N/A@example.com", "2024-03-01@example.com"] {
            assert_eq!(detect(Field::EmailAddress, value), None, "{value}");
        }
        assert_eq!(detect(Field::FirstName, "1-Mar"), None);
        assert_eq!(detect(Field::FirstName, ""), None);
    }
}
