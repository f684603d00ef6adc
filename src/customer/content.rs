//! What kinds of bytes a value consists of, found in one pass.
//!
//! Every cell of every row is validated, and almost every one is decided by this: most searches for damage, for words
//! and for signs of another encoding need a byte that the value does not have.

/// The digits 0 to 9.
pub(super) const DIGIT: u8 = 1;

/// Characters of a name.
pub(super) const NAME: u8 = 2;

/// Characters of an e-mail address.
pub(super) const EMAIL: u8 = 4;

/// ASCII without control characters.
pub(super) const PRINTABLE: u8 = 8;

/// ASCII letters and digits, and `.`, `-`, `_`.
pub(super) const WORD: u8 = 16;

/// All but `_`.
const NO_UNDERSCORE: u8 = 32;

/// All but the blank.
const NO_BLANK: u8 = 64;

/// All but `@`.
const NO_AT: u8 = 128;

/// The sets that each byte belongs to. Every byte of a non-ASCII character belongs to none but the last three.
const SETS: [u8; 256] = {
    let mut sets = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        let alphanumeric = byte.is_ascii_alphanumeric();
        sets[at] = (byte.is_ascii_digit() as u8 * DIGIT)
            | ((alphanumeric || is_in(byte, b"().-_")) as u8 * NAME)
            | ((alphanumeric || is_in(byte, b"!#$%&'*+-/=?^_.{|}~`@")) as u8 * EMAIL)
            | ((byte.is_ascii() && !byte.is_ascii_control()) as u8 * PRINTABLE)
            | ((alphanumeric || is_in(byte, b".-_")) as u8 * WORD)
            | ((byte != b'_') as u8 * NO_UNDERSCORE)
            | ((byte != b' ') as u8 * NO_BLANK)
            | ((byte != b'@') as u8 * NO_AT);
        at += 1;
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

/// The sets to which all bytes of a value belong.
#[derive(Clone, Copy)]
pub(super) struct Content(u8);

impl Content {
    pub(super) fn of(value: &str) -> Content {
        Content(value.bytes().fold(u8::MAX, |sets, byte| sets & SETS[usize::from(byte)]))
    }

    /// Whether every character is in the set.
    pub(super) fn is_all(self, set: u8) -> bool {
        self.0 & set != 0
    }

    pub(super) fn has_underscore(self) -> bool {
        self.0 & NO_UNDERSCORE == 0
    }

    pub(super) fn has_blank(self) -> bool {
        self.0 & NO_BLANK == 0
    }

    pub(super) fn has_at(self) -> bool {
        self.0 & NO_AT == 0
    }
}

/// Whether a character is in the set.
pub(super) fn is_char_in(c: char, set: u8) -> bool {
    u8::try_from(c).is_ok_and(|byte| SETS[usize::from(byte)] & set != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_value_counts() {
        let sets = |value: &str| {
            let content = Content::of(value);
            [DIGIT, NAME, EMAIL, PRINTABLE, WORD].map(|set| content.is_all(set))
        };
        assert_eq!(sets("0123456789"), [true; 5]);
        assert_eq!(sets("cust_1.a-B"), [false, true, true, true, true]);
        assert_eq!(sets("(a)"), [false, true, false, true, false]);
        assert_eq!(sets("a+b@c.de"), [false, false, true, true, false]);
        assert_eq!(sets("Asha Rao"), [false, false, false, true, false]);
        for value in ["12é", "12\t", "\u{7f}12", "１２"] {
            assert_eq!(sets(value), [false; 5], "{value:?}");
        }
    }

    #[test]
    fn a_byte_is_found_wherever_it_stands() {
        for (value, expected) in [
            ("_abc", [true, false, false]),
            ("ab c", [false, true, false]),
            ("é@", [false, false, true]),
            ("a_ @é", [true, true, true]),
            ("é\u{a0}", [false; 3]),
            ("", [false; 3]),
        ] {
            let content = Content::of(value);
            assert_eq!(
                [content.has_underscore(), content.has_blank(), content.has_at()],
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn a_character_is_in_a_set_only_as_itself() {
        assert!(is_char_in('a', NAME) && is_char_in('7', DIGIT) && is_char_in(' ', PRINTABLE));
        assert!(!is_char_in(' ', NAME) && !is_char_in('é', PRINTABLE) && !is_char_in('\u{137}', DIGIT));
    }
}
