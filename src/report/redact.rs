//! Removes customer data from a message of the API.
//!
//! A message may quote the customer that it is about, and reports are shared. `export failed` contains the full
//! message.

use crate::customer::visible;

/// A shorter cell is matched as a whole word only; as a substring it would match everywhere.
const SUBSTRING_MIN_CHARS: usize = 4;

/// This many consecutive digits may be a phone number, however it is spelled in the cell.
const PHONE_DIGITS_MIN: usize = 5;

/// Replaces redacted text.
const REDACTED: &str = "[…]";

/// Redacts everything in `text`, in the form of messages, that repeats one of `cells`, every word with an `@`, and
/// every long number.
pub(super) fn redact(text: &str, cells: &[String]) -> String {
    let cells: Vec<String> = cells
        .iter()
        .map(|cell| visible(cell.trim()).to_lowercase())
        .filter(|cell| !cell.is_empty())
        .collect();
    let mut text = visible(text).into_owned();
    for cell in cells.iter().filter(|cell| cell.chars().count() >= SUBSTRING_MIN_CHARS) {
        text = replace_ignoring_case(&text, cell);
    }
    let is_customer_data = |word: &str| {
        let is_a_cell = |bare: &str| cells.iter().any(|cell| *cell == bare.to_lowercase());
        word.contains('@')
            || word.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() >= PHONE_DIGITS_MIN)
            || word.split(|c: char| !c.is_alphanumeric()).any(is_a_cell)
    };
    let words = text.split(' ').map(|word| if is_customer_data(word) { REDACTED } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// Replaces every occurrence of `cell`, which is in lower case, whatever the case of the text.
fn replace_ignoring_case(text: &str, cell: &str) -> String {
    let (mut left, mut rest) = (String::new(), text);
    while let Some(first) = rest.chars().next() {
        match match_length(rest, cell) {
            Some(length) => {
                left.push_str(REDACTED);
                rest = &rest[length..];
            }
            None => {
                left.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    left
}

/// The length in bytes of the prefix of `text` that equals `cell`, ignoring case. Compares letter by letter, because a
/// letter may change its length in lower case.
fn match_length(text: &str, cell: &str) -> Option<usize> {
    let mut wanted = cell.chars().peekable();
    for (at, letter) in text.char_indices() {
        if wanted.peek().is_none() {
            return Some(at);
        }
        if !letter.to_lowercase().all(|lower| wanted.next() == Some(lower)) {
            return None;
        }
    }
    wanted.peek().is_none().then_some(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customer_data_in_a_message_is_redacted() {
        let cells =
            ["cust-0001", "+91 98765-43210", "Ada.L@Example.com", "Bo", "Ångström", "Ra\u{200d}vi", ""];
        let cells = cells.map(str::to_owned);
        for (message, redacted) in [
            ("Mandatory fields are missing", "Mandatory fields are missing"),
            ("no number: 9876543210!", "no number: […]"),
            ("Bo's or (bo) or Bob", "[…] or […] or Bob"),
            ("xADA.L@example.COMx is taken", "x[…]x is taken"),
            ("ÅNGSTRÖM has letters", "[…] has letters"),
            ("the name Ra\u{200d}vi is taken", "the name […] is taken"),
            ("the name Ra[U+200D]vi is taken", "the name […] is taken"),
            ("ref CUST-0001 and other@host", "ref […] and […]"),
            ("status 400, code 1234", "status 400, code 1234"),
        ] {
            assert_eq!(redact(message, &cells), redacted);
        }
    }
}
