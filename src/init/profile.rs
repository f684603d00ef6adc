//! Counts the properties of a column's cells: how many are filled, distinct, short, or look like a field.
//!
//! `assignment` decides by these counts. Keeps no cell, because the proposal must not contain one.

use std::collections::{BTreeMap, HashSet};

use crate::{
    customer::{Field, FieldKind, PhoneRegion, REFERENCE_MIN_CHARS, Record},
    source::{HeadingMatch, named_field},
};

/// The minimum and maximum number of digits of a phone number, with or without a country code.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 6..=15;

/// Maximum length of a country code with its separators.
const CODE_MAX_CHARS: usize = 6;

/// A column of a table.
pub(super) struct Column {
    /// The name in the header.
    pub(super) name: String,
    /// The field that the name suggests.
    pub(super) named: Option<(Field, HeadingMatch)>,
    /// The cells that are not empty.
    pub(super) filled: u64,
    /// For each field, the number of cells that look like it.
    pub(super) fits: [u64; Field::COUNT],
    /// Number of distinct cells.
    pub(super) distinct: u64,
    /// Cells with fewer characters than a reference must have.
    pub(super) short: u64,
    /// Cells that consist of digits only.
    pub(super) digits: u64,
    /// Cells with a blank between words.
    pub(super) spaced: u64,
    /// Whether `--map` can name the column.
    pub(super) is_mappable: bool,
}

impl Column {
    /// The column at index `at`.
    pub(super) fn of(header: &[String], at: usize, rows: &[Record]) -> Column {
        let name = header[at].clone();
        let is_only = header.iter().filter(|other| **other == name).count() == 1;
        let mut column = Column {
            named: named_field(&name),
            is_mappable: is_only && !name.is_empty() && !name.contains('{') && name.len() <= NAME_MAX_BYTES,
            name,
            filled: 0,
            fits: [0; Field::COUNT],
            distinct: 0,
            short: 0,
            digits: 0,
            spaced: 0,
        };
        let mut seen = HashSet::new();
        for cell in cells(rows, at) {
            column.filled += 1;
            column.short += u64::from(cell.chars().take(REFERENCE_MIN_CHARS).count() < REFERENCE_MIN_CHARS);
            column.digits += u64::from(is_digits(cell));
            column.spaced += u64::from(cell.contains(char::is_whitespace));
            column.distinct += u64::from(seen.insert(cell));
            for field in Field::ALL {
                column.fits[field as usize] += u64::from(resembles(field, cell));
            }
        }
        column
    }

    /// Whether at least this percentage of the cells look like the field.
    pub(super) fn fits(&self, field: Field, percent: u64) -> bool {
        self.filled > 0 && self.fits[field as usize] * 100 >= self.filled * percent
    }

    /// Whether almost every cell differs from all others, as in a column of ids.
    pub(super) fn is_unique(&self) -> bool {
        self.filled > 0 && self.distinct * 100 >= self.filled * 95
    }

    /// How the heading matches this field, if it does.
    pub(super) fn names(&self, field: Field) -> Option<HeadingMatch> {
        self.named.filter(|(of, _)| *of == field).map(|(_, how)| how)
    }
}

/// The maximum length of a column name that is written into settings; a longer heading is a text.
const NAME_MAX_BYTES: usize = 1000;

/// The non-empty cells of a column, without the blanks around them.
pub(super) fn cells(rows: &[Record], at: usize) -> impl Iterator<Item = &str> {
    rows.iter().filter_map(move |row| row.cells().nth(at)).map(str::trim).filter(|cell| !cell.is_empty())
}

fn is_digits(cell: &str) -> bool {
    cell.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a cell may be a value of the field. More tolerant than the rules: a faulty cell still belongs to its
/// column.
fn resembles(field: Field, cell: &str) -> bool {
    match field.kind() {
        FieldKind::Reference => cell.chars().any(char::is_alphanumeric),
        FieldKind::MobileNumber => {
            let digits = cell.chars().filter(|c| c.is_numeric()).count();
            PHONE_DIGITS.contains(&digits) && PhoneRegion::is_spelled(cell, "")
        }
        FieldKind::EmailAddress => cell
            .split_once('@')
            .is_some_and(|(local, domain)| !local.is_empty() && domain.contains('.') && !cell.contains(' ')),
        FieldKind::PersonName => {
            cell.chars().any(char::is_alphabetic) && !cell.contains('@') && !cell.contains(char::is_numeric)
        }
        FieldKind::CountryCode => cell.len() <= CODE_MAX_CHARS && PhoneRegion::of_code(cell).is_some(),
        FieldKind::Boolean => cell.eq_ignore_ascii_case("true") || cell.eq_ignore_ascii_case("false"),
    }
}

/// What the phone numbers and their country codes show about the region.
#[derive(Default)]
pub(super) struct PhoneEvidence {
    /// Number of phone numbers by the region of the country code that they contain.
    numbers: BTreeMap<String, u64>,
    /// Number of country codes by region.
    codes: BTreeMap<String, u64>,
    /// Numbers and codes with characters other than digits.
    pub(super) spelled: u64,
    /// Numbers without a country code.
    pub(super) national: u64,
    /// Numbers that begin with exactly one zero.
    pub(super) trunk_zeros: u64,
}

impl PhoneEvidence {
    /// Inspects the columns of the number and of the country code.
    pub(super) fn of(rows: &[Record], number: Option<usize>, code: Option<usize>) -> PhoneEvidence {
        let mut evidence = PhoneEvidence::default();
        for cell in number.into_iter().flat_map(|at| cells(rows, at)) {
            evidence.spelled += u64::from(!is_digits(cell));
            let international = cell.strip_prefix("00").map(|rest| format!("+{rest}"));
            evidence.trunk_zeros += u64::from(cell.starts_with('0') && international.is_none());
            let region = PhoneRegion::of_number(international.as_deref().unwrap_or(cell));
            evidence.national += u64::from(region.is_none());
            if let Some(region) = region.map(String::from) {
                *evidence.numbers.entry(region).or_default() += 1;
            }
        }
        for cell in code.into_iter().flat_map(|at| cells(rows, at)) {
            evidence.spelled += u64::from(!is_digits(cell));
            if let Some(region) = PhoneRegion::of_code(cell).map(String::from) {
                *evidence.codes.entry(region).or_default() += 1;
            }
        }
        evidence
    }

    /// The regions with the number of cells that show each, the most frequent first, and what kind of cells these
    /// are.
    pub(super) fn regions(&self) -> (Vec<(&str, u64)>, &'static str) {
        let (regions, what) = if self.numbers.is_empty() {
            (&self.codes, "cells with a country code")
        } else {
            (&self.numbers, "numbers with a country code")
        };
        let mut regions: Vec<(&str, u64)> = regions.iter().map(|(region, n)| (region.as_str(), *n)).collect();
        regions.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        (regions, what)
    }
}
