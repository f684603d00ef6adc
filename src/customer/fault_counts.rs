//! Counts what to do about faults: rows with one kind of fault may need different remedies.
//!
//! `validate` counts the faults themselves; a report counts them by the messages that the ledger keeps.

use std::collections::BTreeMap;

use super::{Advice, CharacterCounts, Fault, Field, Rule};

/// The advice for rows with one kind of fault, with the number of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdviceCounts(BTreeMap<Advice, u64>);

impl AdviceCounts {
    /// Counts rows.
    pub fn add(&mut self, advice: Advice, rows: u64) {
        *self.0.entry(advice).or_default() += rows;
    }

    /// Adds the counts of other rows.
    pub fn merge(&mut self, other: AdviceCounts) {
        other.0.into_iter().for_each(|(advice, rows)| self.add(advice, rows));
    }

    /// Each advice with its rows, the one for most rows first.
    pub fn list(&self) -> Vec<(Advice, u64)> {
        let mut list: Vec<_> = self.0.iter().map(|(advice, rows)| (*advice, *rows)).collect();
        list.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
        list
    }
}

/// Invalid rows of a ledger, by what their messages tell.
#[derive(Clone, Debug, Default)]
pub struct InvalidCounts {
    /// The characters that are not allowed.
    pub characters: CharacterCounts,
    advice: BTreeMap<(Option<Field>, Rule), AdviceCounts>,
}

impl InvalidCounts {
    /// Counts invalid rows with one message. `fields` and `codes` are those of all their faults, as the ledger joins
    /// them.
    pub fn add(&mut self, fields: &str, codes: &str, message: &str, rows: u64) {
        self.characters.add(message, rows);
        for (name, code) in fields.split(';').zip(codes.split(';')) {
            let Some(rule) = Rule::from_name(code) else { continue };
            let field = Field::from_name(name);
            let seen = Fault::seen_in(message, name, rule).unwrap_or_default();
            self.advice.entry((field, rule)).or_default().add(rule.advice(field, seen), rows);
        }
    }

    /// The advice for rows with this fault, the one for most rows first. The general one if no message was read.
    pub fn advice(&self, field: Option<Field>, rule: Rule) -> Vec<(Advice, u64)> {
        match self.advice.get(&(field, rule)) {
            Some(counts) => counts.list(),
            None => vec![(rule.advice(field, ""), 0)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::customer::spreadsheet::NEGATIVE;

    #[test]
    fn the_message_in_the_ledger_leads_to_the_advice_of_each_fault() {
        let fault = |field, rule, seen: &str| Fault { field, rule, seen: seen.into() };
        let message = |faults: &[Fault]| {
            let words =
                |fault: &Fault| format!("{fault}; {}", fault.rule.advice(fault.field, &fault.seen).remedy);
            faults.iter().map(words).collect::<Vec<_>>().join(";")
        };
        let (number, name) = (Some(Field::MobileNumber), Some(Field::FirstName));
        let negative = fault(number, Rule::Digits, NEGATIVE);
        let plus = fault(number, Rule::Digits, "`+` at position 1");
        let semicolon = fault(name, Rule::Character, "`;` at position 1");
        let mut counts = InvalidCounts::default();
        let fields = "first_name;mobile_number";
        counts.add(fields, "character;digits", &message(&[semicolon.clone(), negative.clone()]), 2);
        counts.add(fields, "character;digits", &message(&[semicolon, plus.clone()]), 3);
        let of = |fault: &Fault| fault.rule.advice(fault.field, &fault.seen);
        assert_ne!(of(&negative), of(&plus));
        assert_eq!(counts.advice(number, Rule::Digits), [(of(&plus), 3), (of(&negative), 2)]);
        assert_eq!(counts.advice(name, Rule::Character), [(Rule::Character.advice(name, ""), 5)]);
        assert_eq!(counts.advice(None, Rule::Fields), [(Rule::Fields.advice(None, ""), 0)]);
    }
}
