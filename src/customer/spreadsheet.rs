//! Detects cells that a spreadsheet has rewritten.
//!
//! A spreadsheet guesses a type for each cell and saves what it displays: a long number in scientific notation, an id
//! as a date, a formula or its error. Programs that store ids as floating-point numbers do the same. Such a cell
//! passes many rules or breaks an unrelated one; here it gets a fault of its own. A pattern must match exactly, so
//! that no intended value is reported. Most values are decided by their first byte, because every reference is
//! checked here.
//!
//! A phone number without its leading zero looks like any other number. Only `phone`, which has the numbering plans,
//! detects it.

use super::{Field, FieldKind, content::Content};

/// How a spreadsheet has rewritten the value, if it has. `content` is that of the value.
pub(super) fn detect(field: Field, value: &str, content: Content) -> Option<&'static str> {
    let bytes = value.as_bytes();
    let is_number = matches!(field.kind(), FieldKind::MobileNumber | FieldKind::CountryCode);
    let is_name = field.kind() == FieldKind::PersonName;
    if content.has_underscore() && has_escape(bytes) {
        return Some("a character that a workbook has as an escape, such as _x000D_ for a line break");
    }
    match bytes.first()? {
        b'#' => return error_or_fill(value),
        b'=' if bytes.starts_with(b"=\"") && bytes.len() > 2 => return Some(FORMULA),
        b'=' | b'@' if is_number => return Some(FORMULA),
        b'=' if is_name || is_call(&bytes[1..]) => return Some(FORMULA),
        b'\'' if !is_name && bytes.len() > 2 && bytes.ends_with(b"'") => return Some(OTHER_QUOTES),
        b'"' if !is_name && bytes.len() > 2 && bytes.ends_with(b"\"") => return Some(LITERAL_QUOTES),
        0xe2 | 0xc2 | 0xef => {
            if let Some(quotes) = in_typographic_quotes(field, value) {
                return Some(quotes);
            }
        }
        b'\'' if !is_name && !is_dutch(bytes) => {
            return Some("the ' with which a spreadsheet marks text was saved too");
        }
        b'E' if is_office_error(bytes) => return Some(ERROR),
        _ => {}
    }
    let of = match field.kind() {
        FieldKind::PersonName | FieldKind::Boolean => return None,
        FieldKind::EmailAddress if content.has_at() => return None,
        FieldKind::EmailAddress | FieldKind::Reference => Digits::Id,
        FieldKind::MobileNumber => Digits::Phone,
        FieldKind::CountryCode => Digits::Code,
    };
    let as_date = || is_date(bytes, of).then_some("a spreadsheet turned the value into a date");
    as_number(bytes, of).or_else(as_date)
}

const FORMULA: &str = "a formula where a spreadsheet showed its result";

/// The result of a subtraction: its digits are not the intended ones.
pub(super) const NEGATIVE: &str =
    "a negative number: a spreadsheet read the - as a minus sign and calculated with the digits";

/// Quotes that another quote character of the file would remove.
pub(super) const OTHER_QUOTES: &str = "the value is in unusual quotes";

/// The usual quotes as part of the value: they were doubled, or `--quote none` makes them text.
pub(super) const LITERAL_QUOTES: &str = "the value is in quotes, which are part of it";

/// The beginning of what is seen of a value in quotes that cannot be a quote character.
pub(super) const TYPOGRAPHIC: &str = "the value is between U+";

/// The command that puts straight quotes in place of typographic ones around cells. An apostrophe inside a cell stays.
pub(crate) const STRAIGHTEN: &str = r#"perl -CSD -pe 's/(?<![^,;|\t])[\x{ab}\x{bb}\x{2018}-\x{201e}\x{2039}\x{203a}\x{ff02}]|[\x{ab}\x{bb}\x{2018}-\x{201e}\x{2039}\x{203a}\x{ff02}](?![^,;|\t\r\n])/"/g' FILE | customer-import import -"#;

/// The number of pairs of typographic quotes.
const PAIRS: usize = 12;

/// How many of these pairs are double quotes.
const DOUBLE_PAIRS: usize = 7;

/// Quotes of text processors and of other scripts: opening, closing, and what is seen of a value in them. The double ones
/// come first; a single one may belong to a name.
const TYPOGRAPHIC_QUOTES: [(char, char, &str); PAIRS] = [
    ('\u{201c}', '\u{201d}', "the value is between U+201C and U+201D, which are not CSV quotes"),
    ('\u{201e}', '\u{201c}', "the value is between U+201E and U+201C, which are not CSV quotes"),
    ('\u{201d}', '\u{201d}', "the value is between U+201D and U+201D, which are not CSV quotes"),
    ('\u{201e}', '\u{201d}', "the value is between U+201E and U+201D, which are not CSV quotes"),
    ('\u{ab}', '\u{bb}', "the value is between U+00AB and U+00BB, which are not CSV quotes"),
    ('\u{bb}', '\u{ab}', "the value is between U+00BB and U+00AB, which are not CSV quotes"),
    ('\u{ff02}', '\u{ff02}', "the value is between U+FF02 and U+FF02, which are not CSV quotes"),
    ('\u{2018}', '\u{2019}', "the value is between U+2018 and U+2019, which are not CSV quotes"),
    ('\u{201a}', '\u{2018}', "the value is between U+201A and U+2018, which are not CSV quotes"),
    ('\u{2019}', '\u{2019}', "the value is between U+2019 and U+2019, which are not CSV quotes"),
    ('\u{2039}', '\u{203a}', "the value is between U+2039 and U+203A, which are not CSV quotes"),
    ('\u{203a}', '\u{2039}', "the value is between U+203A and U+2039, which are not CSV quotes"),
];

/// The opening and closing character of each pair of typographic quotes.
pub(crate) fn typographic_quotes() -> impl Iterator<Item = (char, char)> {
    TYPOGRAPHIC_QUOTES.into_iter().map(|(open, close, _)| (open, close))
}

const ERROR: &str = "a formula's error, not a value";

/// What is seen of a value that begins with `#`: the error of a formula, or the fill of a column that was too narrow.
fn error_or_fill(value: &str) -> Option<&'static str> {
    let rest = &value[1..];
    if !rest.is_empty() && rest.bytes().all(|byte| byte == b'#') {
        return Some("a spreadsheet's column was too narrow to show the value");
    }
    // Includes the spellings in other languages, some of which have no sign at the end.
    const MISSING: [&str; 11] = [
        "N/A",
        "N/D",
        "N/B",
        "I/T",
        "NV",
        "Н/Д",
        "YOK",
        "HIÁNYZIK",
        "PUUTTUU",
        "NENÍ_K_DISPOZICI",
        "GETTING_DATA",
    ];
    let word = rest.strip_suffix(['!', '?']).unwrap_or_default();
    let is_sign = |c| matches!(c, '/' | '0' | '¡' | '¿' | '_' | '.');
    let is_error = word.chars().count() > 2 && word.chars().all(|c| c.is_uppercase() || is_sign(c));
    (MISSING.contains(&rest) || is_error).then_some(ERROR)
}

/// What is seen of a value in typographic quotes: `“cust_0001”`.
fn in_typographic_quotes(field: Field, value: &str) -> Option<&'static str> {
    let pairs = if field.kind() == FieldKind::PersonName { DOUBLE_PAIRS } else { PAIRS };
    let (first, last) = (value.chars().next()?, value.chars().next_back()?);
    let is_around = |(open, close, _): &&(char, char, &str)| *open == first && *close == last;
    let found = TYPOGRAPHIC_QUOTES[..pairs].iter().find(is_around).filter(|_| value.chars().nth(1).is_some());
    found.map(|(.., seen)| *seen)
}

/// `Err:502`, as in `LibreOffice`.
fn is_office_error(bytes: &[u8]) -> bool {
    bytes.strip_prefix(b"Err:").is_some_and(|code| code.len() == 3 && digits(code) == 3)
}

/// `HYPERLINK(…`
fn is_call(bytes: &[u8]) -> bool {
    let name = bytes.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'.').count();
    name > 1 && bytes.get(name) == Some(&b'(')
}

/// `'s-Gravenhage` and `'t Zand`: Dutch names that begin with an apostrophe.
fn is_dutch(bytes: &[u8]) -> bool {
    matches!(bytes, [_, b's' | b't' | b'n', b' ' | b'-', ..])
}

/// `_x000D_`, the notation of workbooks for characters that XML does not allow or that need protection: controls,
/// blanks, characters without a shape, and the underscore of such an escape. Any other code may be part of an id.
fn has_escape(bytes: &[u8]) -> bool {
    bytes.windows(7).any(|window| {
        let [b'_', b'x', code @ .., b'_'] = window else { return false };
        let code =
            std::str::from_utf8(code).ok().filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let code = code.and_then(|code| u32::from_str_radix(code, 16).ok());
        matches!(
            code,
            Some(
                0..=0x20 | 0x5f | 0x7f..=0xa0 | 0x200b..=0x200f | 0x2028..=0x202e | 0xfeff | 0xfffe | 0xffff,
            )
        )
    })
}

/// The kind of field that a value of digits belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Digits {
    /// An id, which may look like any kind of number.
    Id,
    /// A phone number. A minus in it breaks another rule.
    Phone,
    /// A country code.
    Code,
}

/// The minimum number of digits that an id has before a decimal added by a program; shorter ones may be version
/// numbers.
const ID_DIGITS_MIN: usize = 8;

/// How a program has rewritten a cell that a template joins with others, if it has. Any number in a reference's cell is an
/// id, so that a short one, too, was rewritten: `8.0`, `1,234`. A minus before a part of a number would seem to separate
/// it from the part before.
pub(super) fn detect_part(field: Field, cell: &str) -> Option<&'static str> {
    let bytes = cell.as_bytes();
    let as_short = || {
        let whole = digits(bytes);
        let rest = &bytes[whole..];
        match whole {
            1.. if is_decimal(bytes) => Some(DECIMALS),
            1..=3 if rest.len() == 4 && rest[0] == b',' && digits(&rest[1..]) == 3 => Some(GROUPED),
            _ => None,
        }
    };
    let as_negative = || {
        let number = cell.strip_prefix(['-', '\u{2212}'])?.as_bytes();
        (!number.is_empty() && digits(number) == number.len()).then_some(NEGATIVE)
    };
    detect(field, cell, Content::of(cell)).or_else(|| match field {
        Field::Reference => as_short(),
        Field::MobileNumber => as_negative(),
        _ => None,
    })
}

const DECIMALS: &str = "a program read the column as numbers with decimals";

const GROUPED: &str = "a program read the value as a number and grouped its digits";

/// How a program has rewritten a value that it treated as a number.
fn as_number(bytes: &[u8], of: Digits) -> Option<&'static str> {
    let positive = bytes.strip_prefix(b"-").or_else(|| bytes.strip_prefix("\u{2212}".as_bytes()));
    let unsigned = positive.unwrap_or(bytes);
    if !unsigned.first()?.is_ascii_digit() {
        return None;
    }
    if is_scientific(unsigned) {
        return Some("a program read the value as a number, and its scientific notation has lost digits");
    }
    let whole = digits(unsigned);
    let is_plain = whole == unsigned.len();
    let (grouped, decimals) = (is_grouped(unsigned), is_decimal(unsigned));
    match of {
        _ if grouped => Some(GROUPED),
        Digits::Phone | Digits::Code if decimals => Some(DECIMALS),
        Digits::Id if decimals && whole >= ID_DIGITS_MIN => Some(DECIMALS),
        Digits::Id | Digits::Code if positive.is_some() && is_plain => Some(NEGATIVE),
        Digits::Phone if whole > 0 && unsigned[whole..] == *b"-" => {
            Some("a negative number, with the minus sign after it")
        }
        _ => None,
    }
}

/// `9.98877E+09`, `9,98877E+09`, `1E+10`; scripts write `9.98877e+09`, Java writes `9.98877E9`. Digits before an `E` without
/// a decimal or a `+` are an id.
fn is_scientific(bytes: &[u8]) -> bool {
    let whole = digits(bytes);
    let has_point = matches!(bytes.get(whole), Some(b'.' | b','));
    let mantissa = if has_point { whole + 1 + digits(&bytes[whole + 1..]) } else { whole };
    let Some([b'E' | b'e', exponent @ ..]) = bytes.get(mantissa..) else { return false };
    let (is_signed, exponent) = match exponent {
        [b'+', exponent @ ..] => (true, exponent),
        [b'-', exponent @ ..] => (whole == 1, exponent),
        exponent => (false, exponent),
    };
    (1..=3).contains(&whole)
        && (is_signed || has_point && mantissa > whole + 1)
        && (1..=3).contains(&exponent.len())
        && digits(exponent) == exponent.len()
}

/// `9988776655.0`
fn is_decimal(bytes: &[u8]) -> bool {
    match bytes.get(digits(bytes)..) {
        Some([b'.' | b',', decimals @ ..]) => {
            !decimals.is_empty() && decimals.iter().all(|byte| *byte == b'0')
        }
        _ => false,
    }
}

/// `9,876,500,110`, `9,87,65,00,110`, `9'876'500'110`, also with decimals. Dots and blanks are not included, because
/// they also group phone numbers.
fn is_grouped(bytes: &[u8]) -> bool {
    let Some(separator) = bytes.get(digits(bytes)).filter(|byte| matches!(byte, b',' | b'\'')) else {
        return false;
    };
    let bytes = match bytes.iter().position(|byte| *byte == b'.') {
        Some(point) if point + 1 < bytes.len() && bytes[point + 1..].iter().all(|byte| *byte == b'0') => {
            &bytes[..point]
        }
        _ => bytes,
    };
    let mut groups = bytes.rsplit(|byte| byte == separator);
    let is_group = |group: &[u8], lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&group.len()) && digits(group) == group.len()
    };
    groups.next().is_some_and(|last| is_group(last, 3..=3))
        && groups.all(|group| is_group(group, 1..=3))
        && bytes.iter().filter(|byte| *byte == separator).count() > 1
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Whether the cell of a phone number is a date, such as one of birth.
pub(super) fn is_date_for_number(cell: &str) -> bool {
    !cell.is_empty() && is_date(cell.as_bytes(), Digits::Phone)
}

/// `2024-03-01`, `01/03/2024`, `1-Mar`, `Mar-24`, `01-Mar-2024`. Day, month and two-digit year with dashes or dots may
/// also be an id, so they count as a date only in the columns of a phone number.
fn is_date(bytes: &[u8], of: Digits) -> bool {
    // A cheap check first: a date has an early separator and is followed by at most a time, and a date that begins
    // with a month is short.
    let (longest, head) = if bytes[0].is_ascii_digit() { (30, 5) } else { (12, 10) };
    if bytes.len() > longest || !bytes.iter().take(head).any(|byte| is_separator(*byte)) {
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
    // In some languages the abbreviated month ends with a dot.
    let strong = date.iter().copied().find(|byte| matches!(byte, b'-' | b'/'));
    let Some(separator) = strong.or_else(|| date.contains(&b'.').then_some(b'.')) else { return false };
    let mut parts = [&[][..]; 3];
    let mut count = 0;
    for part in date.split(|byte| *byte == separator) {
        match parts.get_mut(count) {
            Some(slot) => *slot = part,
            None => return false,
        }
        count += 1;
    }
    let may_be_id = of == Digits::Id;
    match &parts[..count] {
        [day, month] | [month, day] if is_month_name(month) => {
            number(day).is_some() || !may_be_id && is_year(day, false)
        }
        [day, month, year] if is_month_name(month) => is_day(day) && is_year(year, true),
        [year, month, day] if year.len() == 4 => is_year(year, false) && is_month(month) && is_day(day),
        [day, month, year] => {
            let short = !may_be_id || separator == b'/';
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

/// The abbreviated month names that spreadsheets write, in the languages of most users.
const MONTHS: [&str; 71] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "sept", "oct", "nov",
    "dec", // English
    "mär", "mrz", "mai", "okt", "dez", // German
    "janv", "févr", "mars", "avr", "juin", "juil", "août", "déc", // French
    "ene", "abr", "ago", "dic", // Spanish
    "fev", "set", "out", // Portuguese
    "gen", "mag", "giu", "lug", "ott", // Italian
    "mrt", "mei", // Dutch
    "maj", "des", // Scandinavian
    "sty", "lut", "kwi", "cze", "lip", "sie", "wrz", "paź", "lis", "gru", // Polish
    "oca", "şub", "nis", "haz", "tem", "ağu", "eyl", "eki", "kas", "ara", // Turkish
    "янв", "фев", "мар", "апр", "май", "июн", "авг", "сен", "окт", // Russian
];

fn is_month_name(part: &[u8]) -> bool {
    let name = part.strip_suffix(b".").unwrap_or(part);
    if !(3..=6).contains(&name.len()) || name[0].is_ascii_digit() {
        return false;
    }
    let Ok(name) = std::str::from_utf8(name) else { return false };
    MONTHS.iter().any(|month| name.eq_ignore_ascii_case(month))
        || !name.is_ascii() && MONTHS.contains(&name.to_lowercase().as_str())
}

fn is_year(part: &[u8], short: bool) -> bool {
    digits(part) == part.len()
        && (part.len() == 2 && short
            || part.len() == 4 && (part.starts_with(b"19") || part.starts_with(b"20")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(field: Field, value: &str) -> Option<&'static str> {
        super::detect(field, value, Content::of(value))
    }

    #[test]
    fn what_spreadsheets_leave_is_known() {
        let table = [
            (
                Field::MobileNumber,
                "scientific",
                "9.98877E+09 9,98877E+09 9.98877e+09 1E+10 9.8E9 98.77E+8 -9.9E+09",
            ),
            (
                Field::Reference,
                "scientific",
                "1.23457E+12 9.876501101E9 9,8765E+9 1.0E10 1E+10 98E+8 9.8E-05",
            ),
            (Field::EmailAddress, "scientific", "9.8E9"),
            (Field::MobileNumber, "decimals", "9988776655.0 9988776655.00 9988776655,000000"),
            (Field::MobileCountryCode, "decimals", "91.0"),
            (Field::Reference, "decimals", "12345678.0 9988776655,00"),
            (Field::Reference, "negative", "-9876500110 \u{2212}9876500110"),
            (Field::EmailAddress, "negative", "-9876500110"),
            (Field::MobileNumber, "negative", "9876500110-"),
            (Field::MobileCountryCode, "negative", "-44"),
            (Field::MobileNumber, "grouped", "9,876,500,110 9'876'500'110 -9,876,500,110 9,876,500,110.00"),
            (Field::Reference, "grouped", "9,876,500,110 9,87,65,00,110 1,234,567"),
            (Field::MobileNumber, "marks text", "'09988776655 '+919988776655 '"),
            (Field::Reference, "marks text", "'7000000000701 'cust_0001 '-1"),
            (Field::Reference, "unusual quotes", "'cust_0001'"),
            (Field::Reference, "quotes, which are part", "\"cust_0001\""),
            (Field::EmailAddress, "quotes, which are part", "\"a@example.com\""),
            (Field::MobileNumber, "quotes, which are part", "\"9876500101\""),
            (
                Field::Reference,
                "not CSV quotes",
                "“cust_0001” „cust_0001“ „cust_0001” »cust_0001« ‘cust_0001’ ‚cust_0001‘",
            ),
            (Field::FirstName, "U+201C and U+201D", "“Asha”"),
            (Field::MobileNumber, "unusual quotes", "'9876500101'"),
            (Field::MobileNumber, "U+00AB and U+00BB", "«9876500101»"),
            (Field::EmailAddress, "marks text", "'someone@example.com"),
            (Field::Reference, "escape", "cust_0001_x000D_ _x000d_cust0001 a_x005F_x000D_b"),
            (Field::EmailAddress, "escape", "a@example.com_x000D_"),
            (Field::MobileNumber, "escape", "9988776655_x000A_"),
            (Field::FirstName, "escape", "Asha_x0020_Rao"),
            (Field::MobileNumber, "formula", "=\"0123\" =A1+B2"),
            (Field::Reference, "formula", "=\"00012345\" =HYPERLINK(A1)"),
            (Field::FirstName, "formula", "=\"Asha\" =CONCAT(A1)"),
            (Field::Reference, "error", "#N/A #REF! #VALUE! #DIV/0! #NAME? #NULL! #NUM! #SPILL! #WERT! #NV"),
            (Field::EmailAddress, "error", "#N/A #¡VALOR! #¿NOMBRE? #YOK Err:502"),
            (Field::Reference, "error", "#GETTING_DATA #I/T #ДЕЛ/0! Err:509"),
            (Field::MobileNumber, "date", "Jan-98 jan-1998 98-Dez 1-févr. août-98 12-Şub янв-98 01-ago-2024"),
            (Field::EmailAddress, "date", "2024-03-01"),
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
    fn a_part_of_a_reference_is_an_id_however_short() {
        let of = |cell| detect_part(Field::Reference, cell);
        for (cell, seen) in [("8.0", DECIMALS), ("42.00", DECIMALS), ("7,0", DECIMALS), ("1,234", GROUPED)] {
            assert_eq!(of(cell), Some(seen), "{cell}");
        }
        for cell in ["8", "8.5", "v8.0", "1,23", "1234,567", "a,bcd", "8."] {
            assert_eq!(of(cell), None, "{cell}");
        }
        assert_eq!(detect(Field::Reference, "8.0"), None);
        assert_eq!(detect_part(Field::MobileNumber, "-9876500110"), Some(NEGATIVE));
        assert_eq!(detect_part(Field::MobileNumber, "-"), None);
        assert!(of("9.8E+05").is_some());
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
            "1234567.0",
            "12345678.5",
            "1.2.3.4.5",
            "1.234.567",
            "98E10765",
            "98765E10",
            "1E5ABC98",
            "9.8E9abc",
            "100E-123",
            "1,234,5678",
            "123,456",
            "12345678-",
            "-98765-0",
            "-cust0001",
            "'s-Gravenhage-1",
            "'t Zand 0001",
            "user_x0042_y",
            "user_x00_y_1",
            "user_xx000D_y",
            "Err:5020",
            "=ab(c)d1",
            "01-03-24",
            "2024-03-01-0007",
            "1998-07-16 north",
            "é-1-2024",
            "may-flower-01",
            "Total Energies",
            "totally-0001",
            "total00012",
            "Total-0001",
            "Subtotal-x",
            "«cust»_0001",
            "\"cust\"_0001",
            "###1",
            "1/2",
            "-",
            "1--2",
        ] {
            assert_eq!(detect(Field::Reference, value), None, "{value}");
        }
        for value in
            ["+91 99887-76655", "099887 76656", "044-1234", "9988", "20.24.03", "987.650.011", "(9876500110)"]
        {
            assert_eq!(detect(Field::MobileNumber, value), None, "{value}");
        }
        for value in [
            "=x@example.com",
            "o'neil@example.com",
            "9.8E9@example.com",
            "-98765@example.com",
            "#x@example.com",
            "#N/A@example.com",
            "2024-03-01@example.com",
        ] {
            assert_eq!(detect(Field::EmailAddress, value), None, "{value}");
        }
        for value in ["1-Mar", "'t Hooft", "'Abd", "-1"] {
            assert_eq!(detect(Field::LastName, value), None, "{value}");
        }
        assert_eq!(detect(Field::FirstName, ""), None);
    }
}
