//! Detects invisible characters, and makes them visible in messages.
//!
//! Text copied from a chat, a web page or an office program often contains marks without a shape. With such a mark,
//! two references that look alike are two customers, and a message that prints the mark unchanged shows nothing, or
//! reverses the direction of the terminal's text. So a message shows every character without a shape of its own as
//! `[U+200B]`: [`visible_lines`] prepares what is printed, logged or put on a page, and [`visible`] a name or a value
//! in it.
//!
//! The tables are those of Unicode: `Default_Ignorable_Code_Point`, the general categories Cf, Zl, Zp and Co, and the
//! noncharacters. Unassigned characters are accepted, because every version of Unicode assigns some of them.

use std::{borrow::Cow, fmt::Write as _, ops::RangeInclusive};

/// Characters without a shape, in order: default ignorable characters, format controls, line separators, the Braille
/// blank, and the place of an object that was not copied (U+FFFC).
const INVISIBLE: [RangeInclusive<char>; 32] = [
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{fdd0}'..='\u{fdef}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffc}',
    '\u{fffe}'..='\u{ffff}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{1fffe}'..='\u{1ffff}',
    '\u{2fffe}'..='\u{2ffff}',
    '\u{3fffe}'..='\u{3ffff}',
    '\u{e0000}'..='\u{e0fff}',
    '\u{10fffe}'..='\u{10ffff}',
];

/// Whether a character has no shape and is not a blank.
pub(crate) fn is_invisible(c: char) -> bool {
    // Lower code points are letters, signs, and controls, which have a rule of their own.
    c >= '\u{ad}'
        && INVISIBLE
            .binary_search_by(|range| match range {
                range if *range.end() < c => std::cmp::Ordering::Less,
                range if *range.start() > c => std::cmp::Ordering::Greater,
                _ => std::cmp::Ordering::Equal,
            })
            .is_ok()
        || u32::from(c) & 0xfffe == 0xfffe
}

/// A short name of an invisible character.
fn kind(c: char) -> Option<&'static str> {
    Some(match c {
        '\u{ad}' => "a soft hyphen",
        '\u{200b}' => "a zero width space",
        '\u{200c}' | '\u{200d}' => "a joiner",
        '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            "a mark of direction"
        }
        '\u{2060}' => "a word joiner",
        '\u{a0}' | '\u{202f}' => "a blank without a line break",
        c if c.is_whitespace() => "an unusual blank",
        '\u{feff}' => "a byte order mark",
        '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => "a variation selector",
        _ => return None,
    })
}

/// Describes the invisible character at a position: `U+200B, a zero width space, at position 3`.
pub(crate) fn describe(c: char, position: usize) -> String {
    match kind(c) {
        Some(kind) => format!("{}, {kind}, at position {position}", code_point(c)),
        None => format!("{}, which is invisible, at position {position}", code_point(c)),
    }
}

/// Which invisible characters a value may contain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepted {
    /// None, and no blank but the usual one, which nobody can tell from it.
    Nothing,
    /// None. Other blanks are accepted.
    Blanks,
    /// Joiners and variation selectors, after a character of a script that needs them: Persian, the scripts of India,
    /// Mongolian, Han, emoji.
    Joiners,
    /// All, because none of them is sent.
    Everything,
}

/// The first invisible character that is not accepted, with its position.
pub(super) fn find(value: &str, accepted: Accepted) -> Option<(char, usize)> {
    let mut before = None;
    for (at, c) in value.chars().enumerate() {
        let joins = |before| is_joiner(before) || before >= FIRST_JOINED && !is_invisible(before);
        let is_accepted = match accepted {
            Accepted::Nothing | Accepted::Blanks => false,
            Accepted::Joiners => is_joiner(c) && before.is_some_and(joins),
            Accepted::Everything => true,
        };
        let is_unusual = accepted == Accepted::Nothing && c != ' ' && c.is_whitespace();
        if is_unusual || is_invisible(c) && !is_accepted {
            return Some((c, at + 1));
        }
        before = Some(c);
    }
    None
}

/// The first script that needs joiners. Latin, Greek, Cyrillic, Armenian and Hebrew, which do not, precede it.
const FIRST_JOINED: char = '\u{600}';

/// Whether a character modifies the shape of the one before it.
fn is_joiner(c: char) -> bool {
    matches!(
        c,
        '\u{200c}' | '\u{200d}' | '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{e0100}'..='\u{e01ef}'
    )
}

/// `U+200B`
fn code_point(c: char) -> String {
    format!("U+{:04X}", u32::from(c))
}

/// Whether a message must not show a character unchanged: it has no shape, or looks like an ordinary blank, or has a
/// shape only in private fonts.
fn is_unshown(c: char) -> bool {
    c.is_control()
        || c.is_whitespace() && c != ' '
        || is_invisible(c)
        || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}')
}

/// A name or value, from a file, the API or a user, for a message of one line. Each character without a shape is
/// replaced by its code point, `[U+200B]`.
pub fn visible(text: &str) -> Cow<'_, str> {
    shown_by_code_point(text, is_unshown)
}

/// A whole message, to be printed, logged or put on a page: like [`visible`], but line breaks are kept.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    shown_by_code_point(text, |c| c != '\n' && is_unshown(c))
}

fn shown_by_code_point(text: &str, is_unshown: impl Fn(char) -> bool + Copy) -> Cow<'_, str> {
    if !text.contains(is_unshown) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unshown(c) {
            let _ = write!(shown, "[{}]", code_point(c));
        } else {
            shown.push(c);
        }
    }
    shown.into()
}

/// The last Latin letter of European languages. Many later letters look like a Latin one.
const LATIN_LAST: char = '\u{24f}';

/// One character in the notation of faults: `` `é` ``, `a space`, `U+200B`, and `` `а` (U+0430) `` for a Cyrillic
/// letter.
pub(super) fn shown(c: char) -> String {
    match c {
        ' ' => "a space".into(),
        c if is_unshown(c) => code_point(c),
        c if c > LATIN_LAST => format!("`{c}` ({})", code_point(c)),
        c => format!("`{c}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        for (range, next) in INVISIBLE.iter().zip(&INVISIBLE[1..]) {
            assert!(range.start() <= range.end() && range.end() < next.start(), "{range:?}");
        }
    }

    #[test]
    fn invisible_characters_are_known_and_others_are_not() {
        for c in [
            '\u{ad}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{200f}',
            '\u{feff}',
            '\u{2060}',
            '\u{202a}',
            '\u{202e}',
            '\u{2066}',
            '\u{2069}',
            '\u{61c}',
            '\u{fe0f}',
            '\u{e0041}',
            '\u{e01ef}',
            '\u{3164}',
            '\u{115f}',
            '\u{34f}',
            '\u{180e}',
            '\u{fffe}',
            '\u{fdd0}',
            '\u{1fffe}',
            '\u{afffe}',
            '\u{2028}',
            '\u{2800}',
            '\u{fff9}',
        ] {
            assert!(is_invisible(c), "{c:?}");
        }
        for c in "aé ß\u{a0}\u{3000}अمी李😀\u{301}\u{e000}\u{378}".chars() {
            assert!(!is_invisible(c), "{c:?}");
        }
    }

    #[test]
    fn joiners_are_kept_where_a_script_needs_them() {
        for (value, found) in [
            ("क्\u{200d}ष", None),
            ("രാജന്\u{200d}", None),
            ("علی\u{200c}رضا", None),
            ("葛\u{e0100}城", None),
            ("❤\u{fe0f}\u{200d}🔥", None),
            ("Some\u{200d}One", Some(('\u{200d}', 5))),
            ("\u{200c}علی", Some(('\u{200c}', 1))),
            ("علی\u{200f}", Some(('\u{200f}', 4))),
            ("क\u{200b}ष", Some(('\u{200b}', 2))),
        ] {
            assert_eq!(find(value, Accepted::Joiners), found, "{value:?}");
        }
        assert_eq!(find("क्\u{200d}ष", Accepted::Nothing), Some(('\u{200d}', 3)));
    }

    #[test]
    fn a_message_shows_code_points_in_place_of_what_nobody_sees() {
        assert_eq!(visible("Zoë's file.csv"), "Zoë's file.csv");
        assert_eq!(visible("a\u{200b}b\u{1b}[2J\u{a0}\u{202e}"), "a[U+200B]b[U+001B][2J[U+00A0][U+202E]");
        assert_eq!(visible_lines("a\u{2066}\n\tb\r\n"), "a[U+2066]\n[U+0009]b[U+000D]\n");
        assert_eq!(
            [' ', '\u{feff}', 'é', 'а', '\n'].map(shown),
            ["a space", "U+FEFF", "`é`", "`а` (U+0430)", "U+000A"]
        );
        assert_eq!(describe('\u{200b}', 3), "U+200B, a zero width space, at position 3");
    }
}
