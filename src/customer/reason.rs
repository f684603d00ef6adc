//! Explains why a row is invalid to readers who do not know the fields, the rules or the options.
//!
//! A sentence says what is wrong, and [`Rule::advice`] says how to correct it. Neither contains a value.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{Correction, Fault, Field, FieldKind, Rule};

/// Why a row is invalid, as a sentence: `First name has a character that Juspay does not allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultReason {
    /// A rule is broken in a field; `None` stands for the whole record.
    Broken(Option<Field>, Rule),
    /// An earlier row has the same reference.
    Repeated,
}

impl FaultReason {
    /// The reason for a field and a code of the ledger; `None` for a code that this version does not know.
    pub fn from_names(field: &str, code: &str) -> Option<FaultReason> {
        match code {
            Correction::DUPLICATE => Some(FaultReason::Repeated),
            _ => Some(FaultReason::Broken(Field::from_name(field), Rule::from_name(code)?)),
        }
    }

    /// The sentence for use after `because`: `the first name has …`.
    pub fn because(self) -> String {
        match self {
            FaultReason::Broken(field, rule) => {
                let subject = subject(field).trim_start_matches("The ").to_lowercase();
                format!("the {subject} {}", rule.predicate())
            }
            FaultReason::Repeated => "an earlier row has the same customer reference".into(),
        }
    }
}

impl fmt::Display for FaultReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultReason::Broken(field, rule) => write!(f, "{} {}", subject(*field), rule.predicate()),
            FaultReason::Repeated => f.write_str("An earlier row has the same customer reference"),
        }
    }
}

fn subject(field: Option<Field>) -> &'static str {
    field.map_or("The row", Field::title)
}

/// The kind of a character that breaks [`Rule::Character`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CharacterKind {
    /// A space.
    Space,
    /// A straight or a typographic apostrophe.
    Apostrophe,
    /// A letter beyond A to Z.
    Letter,
    /// Anything else.
    Other,
}

impl CharacterKind {
    /// The kind that a fault's message names; `None` if the message is about another rule or field.
    pub fn in_message(message: &str, field: Field) -> Option<CharacterKind> {
        Fault::seen_in(message, field.name(), Rule::Character).map(CharacterKind::of_shown)
    }

    /// The kind of a character as `invisible::shown` writes it.
    fn of_shown(shown: &str) -> CharacterKind {
        // Earlier versions wrote `a blank`, and a ledger keeps their messages.
        if shown.starts_with("a space") || shown.starts_with("a blank") {
            return CharacterKind::Space;
        }
        match shown.strip_prefix('`').and_then(|rest| rest.chars().next()) {
            Some('\'' | '\u{2018}' | '\u{2019}' | '\u{2bc}' | '\u{b4}' | '`') => CharacterKind::Apostrophe,
            Some(c) if c.is_alphabetic() => CharacterKind::Letter,
            _ => CharacterKind::Other,
        }
    }
}

impl fmt::Display for CharacterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CharacterKind::Space => "a space",
            CharacterKind::Apostrophe => "an apostrophe",
            CharacterKind::Letter => "a letter other than A to Z",
            CharacterKind::Other => "another character",
        })
    }
}

/// The number of rows with each kind of disallowed character.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CharacterCounts {
    /// By field.
    pub by_field: BTreeMap<(Field, CharacterKind), u64>,
    /// In a first name, a last name or both; each row counts once.
    pub in_names: BTreeMap<CharacterKind, u64>,
}

impl CharacterCounts {
    /// Counts invalid rows with one message.
    pub(super) fn add(&mut self, message: &str, rows: u64) {
        let mut in_names: Vec<CharacterKind> = Vec::new();
        for field in Field::ALL {
            let Some(kind) = CharacterKind::in_message(message, field) else { continue };
            *self.by_field.entry((field, kind)).or_default() += rows;
            if field.kind() == FieldKind::PersonName && !in_names.contains(&kind) {
                *self.in_names.entry(kind).or_default() += rows;
                in_names.push(kind);
            }
        }
    }

    /// The kinds in one field, the most frequent first.
    pub fn of(&self, field: Field) -> Vec<(CharacterKind, u64)> {
        let of_field = self.by_field.iter().filter(|((other, _), _)| *other == field);
        let mut kinds: Vec<_> = of_field.map(|((_, kind), rows)| (*kind, *rows)).collect();
        kinds.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
        kinds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::customer::invisible::shown;

    #[test]
    fn every_code_of_an_invalid_row_is_a_sentence_in_every_field() {
        for code in Rule::ALL.map(Rule::name).into_iter().chain([Correction::DUPLICATE]) {
            for field in Field::ALL.map(Field::name).into_iter().chain(["record"]) {
                let reason = FaultReason::from_names(field, code);
                let reason = reason.unwrap_or_else(|| panic!("{field} {code} has no sentence"));
                let (sentence, because) = (reason.to_string(), reason.because());
                assert!(sentence.starts_with(|c: char| c.is_ascii_uppercase()), "{sentence}");
                assert!(because.starts_with("the ") || because.starts_with("an "), "{because}");
                assert!(!because.contains("the the"), "{because}");
                let is_technical = |word: &str| sentence.contains(word);
                assert!(!["_", "--", "U+"].into_iter().any(is_technical), "{sentence}");
            }
        }
        assert_eq!(FaultReason::from_names("first_name", "unheard-of"), None);
        let name = FaultReason::Broken(Some(Field::FirstName), Rule::Character);
        assert_eq!(name.to_string(), "First name has a character that Juspay does not allow");
        assert_eq!(name.because(), "the first name has a character that Juspay does not allow");
        let row = FaultReason::Broken(None, Rule::Fields);
        assert_eq!(row.because(), "the row has more or fewer cells than the header");
    }

    #[test]
    fn a_message_tells_the_kind_of_its_character() {
        let message = |field, c| {
            let seen = format!("{} at position 3", shown(c));
            Fault { field: Some(field), rule: Rule::Character, seen }.to_string()
        };
        for (c, kind) in [
            (' ', CharacterKind::Space),
            ('\'', CharacterKind::Apostrophe),
            ('’', CharacterKind::Apostrophe),
            ('`', CharacterKind::Apostrophe),
            ('é', CharacterKind::Letter),
            ('अ', CharacterKind::Letter),
            ('а', CharacterKind::Letter),
            (',', CharacterKind::Other),
            ('\u{a0}', CharacterKind::Other),
        ] {
            let message = message(Field::LastName, c);
            assert_eq!(CharacterKind::in_message(&message, Field::LastName), Some(kind), "{message}");
            assert_eq!(CharacterKind::in_message(&message, Field::FirstName), None);
        }
        let earlier =
            "email_address breaks at-sign: 0 @; x;first_name breaks character: `é` at position 2; allowed";
        assert_eq!(CharacterKind::in_message(earlier, Field::FirstName), Some(CharacterKind::Letter));
        let mut counts = CharacterCounts::default();
        let both =
            format!("{}; use A to Z;{}", message(Field::FirstName, ' '), message(Field::LastName, ' '));
        counts.add(&both, 1);
        counts.add(&message(Field::LastName, 'é'), 1);
        counts.add("mobile_number has something other than digits: `x` at position 1 (digits)", 1);
        assert_eq!(counts.of(Field::LastName), [(CharacterKind::Space, 1), (CharacterKind::Letter, 1)]);
        assert_eq!(
            counts.in_names.into_iter().collect::<Vec<_>>(),
            [(CharacterKind::Space, 1), (CharacterKind::Letter, 1)]
        );
    }
}
