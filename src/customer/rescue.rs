//! Determines which invalid rows an option would make valid.
//!
//! Each option that is not given is tried alone on the rows that break a rule, while the file is read: valid rows
//! cost next to nothing, and memory does not grow with the file. The region of phone numbers is never guessed: a region is
//! suggested only if all numbers with a country code are of one country, and if it does not spoil most valid rows.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{Cells, Fault, Faults, Field, PhoneRegion, Rule, Rules, Validation, spreadsheet::NEGATIVE};

/// The number of phone numbers kept until one with a country code shows the region.
const WAITING_MAX: usize = 1000;

/// How many numbers of valid rows are kept, to see what a region would make of them.
const VALID_MAX: usize = 1000;

/// Maximum length in bytes of a kept cell: longer than any spelling of a number.
const WAITING_CELL_MAX_BYTES: usize = 64;

/// The region of a number without a country code, as the API reads it; from the Create Customer page.
const DEFAULT_REGION: &str = "IN";

/// The options that are tried.
const TRIED: [&str; 3] = [DROPPING, LENIENT, REGION];

const DROPPING: &str = "--drop-invalid-optional";

const LENIENT: &str = "--validation lenient";

/// With a region that the user must know.
const REGION: &str = "--phone-region CC";

/// An option that is not given, with its effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescue {
    /// The option as on the command line; `CC` stands for a region that the user must know.
    pub option: String,
    /// Number of rows that are invalid now and would be valid with this option alone. With `CC`, the rows that are
    /// invalid only because of the spelling of the number or its country code.
    pub rows: u64,
}

impl Rescue {
    /// The option to suggest for a kind of fault whose general one is `option`: an option that is tried must have made
    /// rows valid, and then its value is known.
    pub fn suggested<'a>(rescues: &'a [Rescue], option: &'a str) -> Option<&'a str> {
        if !TRIED.into_iter().any(|tried| is_same_option(option, tried)) {
            return Some(option);
        }
        rescues.iter().map(|rescue| rescue.option.as_str()).find(|tried| is_same_option(option, tried))
    }

    /// Adds up what the options would do in several files; in the order of [`Rescues::list`].
    pub fn sum(of_files: impl IntoIterator<Item = Rescue>) -> Vec<Rescue> {
        let mut rows_by_option: BTreeMap<String, u64> = BTreeMap::new();
        for Rescue { option, rows } in of_files {
            *rows_by_option.entry(option).or_default() += rows;
        }
        let mut list: Vec<_> =
            rows_by_option.into_iter().map(|(option, rows)| Rescue { option, rows }).collect();
        sort(&mut list);
        list
    }
}

fn sort(rescues: &mut [Rescue]) {
    let rank = |rescue: &Rescue| TRIED.iter().position(|tried| is_same_option(&rescue.option, tried));
    rescues.sort_by_key(|rescue| (Reverse(rescue.rows), rank(rescue)));
}

/// Whether both are the same option, whatever their values.
fn is_same_option(one: &str, other: &str) -> bool {
    one.split(' ').next() == other.split(' ').next()
}

/// Tries options on the invalid rows of a file.
#[derive(Debug)]
pub struct Rescues {
    dropping: Option<Trial>,
    lenient: Option<Trial>,
    region: Option<RegionTrial>,
}

/// An option that is not given, tried on rows that break a rule.
#[derive(Debug)]
struct Trial {
    option: &'static str,
    /// The given rules, with the option.
    rules: Rules,
    /// Number of rows that are valid by these rules.
    valid: u64,
}

/// Tries to parse phone numbers with the region that other numbers of the file show.
#[derive(Debug)]
struct RegionTrial {
    rules: Rules,
    /// The rules with the region of the first number that has a country code.
    regional: Option<Rules>,
    /// Rows that are invalid only because of the spelling of the number or its code.
    spelled: u64,
    /// The countries of numbers with a country code.
    countries: BTreeMap<String, u64>,
    /// Number and country code of rows before the first number with a country code.
    waiting: Vec<[String; 2]>,
    /// The numbers of the first valid rows without a country code.
    valid_numbers: Vec<String>,
    /// Whether every row was tried.
    is_complete: bool,
    /// Number of rows that are valid with the region.
    valid: u64,
}

impl Rescues {
    /// The options that these rules do not have yet.
    pub fn new(rules: &Rules) -> Rescues {
        let dropping = Rules { drop_invalid_optional: true, ..rules.clone() };
        let lenient = Rules { validation: Some(Validation::Lenient), ..rules.clone() };
        let trial = |option, rules| Trial { option, rules, valid: 0 };
        Rescues {
            dropping: (!rules.drop_invalid_optional).then(|| trial(DROPPING, dropping)),
            lenient: (rules.validation() == Validation::Documented).then(|| trial(LENIENT, lenient)),
            region: rules.phone_region.is_none().then(|| RegionTrial::new(rules)),
        }
    }

    /// Tries every option on the cells of a row that breaks a rule.
    pub fn try_row(&mut self, cells: &Cells<'_>, faults: &Faults) {
        if let Some(Trial { rules, valid, .. }) = &mut self.dropping {
            let cure = |fault: &Fault| cure_by_dropping(rules, cells, fault);
            *valid += u64::from(is_valid(rules, cells, faults, cure));
        }
        if let Some(Trial { rules, valid, .. }) = &mut self.lenient {
            *valid += u64::from(is_valid(rules, cells, faults, cure_by_leniency));
        }
        if let Some(region) = &mut self.region {
            let of_spelling = faults.list.iter().filter(|fault| is_of_spelling(fault)).count();
            if of_spelling == faults.list.len() {
                region.try_row(cells);
            } else if of_spelling > 0 {
                region.add_country(cells);
            }
        }
    }

    /// Looks at the number of a row that breaks no rule: an option must not spoil it.
    pub fn try_valid(&mut self, cells: &Cells<'_>) {
        if let Some(region) = &mut self.region {
            region.try_valid(cells);
        }
    }

    /// Adds what the same options would do with other rows of the file.
    pub fn merge(&mut self, other: Rescues) {
        for (all, other) in [(&mut self.dropping, other.dropping), (&mut self.lenient, other.lenient)] {
            if let (Some(trial), Some(other)) = (all, other) {
                trial.valid += other.valid;
            }
        }
        if let (Some(region), Some(other)) = (&mut self.region, other.region) {
            region.merge(other);
        }
    }

    /// The options that would make rows valid, the one for most rows first; those for equally many in the order in which
    /// they are tried.
    pub fn list(&self) -> Vec<Rescue> {
        let trials = [&self.dropping, &self.lenient].into_iter().flatten();
        let mut list: Vec<_> =
            trials.map(|trial| Rescue { option: trial.option.into(), rows: trial.valid }).collect();
        list.extend(self.region.as_ref().map(RegionTrial::rescue));
        list.retain(|rescue| rescue.rows > 0);
        sort(&mut list);
        list
    }
}

/// Whether other rules would remove a fault, as far as the fault alone shows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cure {
    Never,
    /// Unknown; the row must be validated again.
    Perhaps,
    Always,
}

/// Whether a row breaks none of these rules. Most rows need no second validation.
fn is_valid(rules: &Rules, cells: &Cells<'_>, faults: &Faults, cure: impl Fn(&Fault) -> Cure) -> bool {
    match faults.list.iter().map(cure).min() {
        Some(Cure::Always) => true,
        Some(Cure::Perhaps) => rules.check(cells).is_ok(),
        Some(Cure::Never) | None => false,
    }
}

/// Whether a row without the field has no such fault.
fn cure_by_dropping(rules: &Rules, cells: &Cells<'_>, fault: &Fault) -> Cure {
    match fault.field {
        Some(Field::MobileCountryCode) => Cure::Perhaps,
        Some(field) => {
            let value = rules.value(field, cells[field as usize]).unwrap_or_default();
            if rules.may_drop(field, value) { Cure::Always } else { Cure::Never }
        }
        None => Cure::Never,
    }
}

/// Whether the lenient rules accept what was seen.
fn cure_by_leniency(fault: &Fault) -> Cure {
    match fault.rule {
        Rule::Character | Rule::Edge | Rule::AtSign => Cure::Always,
        Rule::Digits | Rule::TooLong | Rule::Impossible | Rule::Invisible | Rule::CountryCode => {
            Cure::Perhaps
        }
        _ => Cure::Never,
    }
}

/// Whether accepting any spelling of the number may remove a fault.
fn is_of_spelling(fault: &Fault) -> bool {
    matches!(fault.field, Some(Field::MobileNumber | Field::MobileCountryCode))
        && matches!(fault.rule, Rule::Digits | Rule::TooLong | Rule::Invisible | Rule::Spreadsheet)
        && fault.seen != NEGATIVE
}

impl RegionTrial {
    fn new(rules: &Rules) -> RegionTrial {
        RegionTrial {
            rules: rules.clone(),
            regional: None,
            spelled: 0,
            countries: BTreeMap::new(),
            waiting: Vec::new(),
            valid_numbers: Vec::new(),
            is_complete: true,
            valid: 0,
        }
    }

    fn try_valid(&mut self, cells: &Cells<'_>) {
        if self.valid_numbers.len() >= VALID_MAX {
            return;
        }
        let value = |field| self.rules.value(field, cells[field as usize]);
        if let (Some(number), None) = (value(Field::MobileNumber), value(Field::MobileCountryCode))
            && number.len() <= WAITING_CELL_MAX_BYTES
        {
            self.valid_numbers.push(number.to_owned());
        }
    }

    /// Whether the region spares most of the valid rows whose numbers are numbers of the API's default country.
    fn spares_valid_rows(&self, regional: &Rules) -> bool {
        let in_region = |region| {
            let validation = Some(Validation::Documented);
            Rules { validation, phone_region: region, ..self.rules.clone() }
        };
        let default = in_region(PhoneRegion::parse(DEFAULT_REGION).ok());
        let regional = in_region(regional.phone_region.clone());
        let of_default = self.valid_numbers.iter().filter(|number| is_read(&default, number, ""));
        let (spared, spoiled): (Vec<_>, Vec<_>) =
            of_default.partition(|number| is_read(&regional, number, ""));
        spared.len() >= spoiled.len()
    }

    /// Counts the country of a number in a row that has other faults too: it says as much about the file.
    fn add_country(&mut self, cells: &Cells<'_>) {
        let number = self.rules.value(Field::MobileNumber, cells[Field::MobileNumber as usize]);
        if let Some(region) = number.and_then(PhoneRegion::of_number) {
            *self.countries.entry(region.into()).or_default() += 1;
        }
    }

    fn try_row(&mut self, cells: &Cells<'_>) {
        let [number, code] = [Field::MobileNumber, Field::MobileCountryCode]
            .map(|field| self.rules.value(field, cells[field as usize]));
        let (number, code) = (number.unwrap_or_default(), code.unwrap_or_default());
        if !PhoneRegion::is_spelled(number, code) {
            return;
        }
        self.spelled += 1;
        if let Some(region) = PhoneRegion::of_number(number) {
            *self.countries.entry(region.clone().into()).or_default() += 1;
            let region = Some(region);
            self.regional.get_or_insert_with(|| Rules { phone_region: region, ..self.rules.clone() });
        }
        if let Some(regional) = &self.regional {
            self.valid += u64::from(is_read(regional, number, code));
            self.try_waiting();
        } else if self.waiting.len() < WAITING_MAX && number.len() + code.len() <= WAITING_CELL_MAX_BYTES {
            self.waiting.push([number.to_owned(), code.to_owned()]);
        } else {
            self.is_complete = false;
        }
    }

    /// Tries the rows that wait for a region, if there is one now.
    fn try_waiting(&mut self) {
        if let Some(regional) = &self.regional {
            let waiting = std::mem::take(&mut self.waiting);
            self.valid +=
                waiting.iter().filter(|[number, code]| is_read(regional, number, code)).count() as u64;
        }
    }

    /// Adds the results for other rows of the file.
    fn merge(&mut self, other: RegionTrial) {
        let RegionTrial {
            rules: _,
            regional,
            spelled,
            countries,
            waiting,
            valid_numbers,
            is_complete,
            valid,
        } = other;
        self.regional = self.regional.take().or(regional);
        self.spelled += spelled;
        for (country, numbers) in countries {
            *self.countries.entry(country).or_default() += numbers;
        }
        self.waiting.extend(waiting);
        self.valid_numbers.extend(valid_numbers);
        self.is_complete &= is_complete;
        self.valid += valid;
        self.try_waiting();
    }

    fn rescue(&self) -> Rescue {
        match (self.countries.keys().next(), &self.regional) {
            (Some(region), Some(regional))
                if self.countries.len() == 1 && self.is_complete && self.spares_valid_rows(regional) =>
            {
                Rescue { option: format!("--phone-region {region}"), rows: self.valid }
            }
            _ => Rescue { option: REGION.into(), rows: self.spelled },
        }
    }
}

/// Whether a number and a country code break no rule. Faults of other fields do not count.
fn is_read(rules: &Rules, number: &str, code: &str) -> bool {
    let mut cells: Cells<'_> = [None; Field::COUNT];
    for (field, cell) in
        [(Field::Reference, "reference"), (Field::MobileNumber, number), (Field::MobileCountryCode, code)]
    {
        cells[field as usize] = Some(cell);
    }
    let faults = rules.check(&cells).err();
    let is_of_phone =
        |fault: &Fault| matches!(fault.field, Some(Field::MobileNumber | Field::MobileCountryCode));
    !faults.is_some_and(|faults| faults.list.iter().any(is_of_phone))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The suggestions for rows of number, country code and first name.
    fn rescues(rules: &Rules, rows: &[[&str; 3]]) -> Vec<(String, u64)> {
        list(&tried(rules, rows))
    }

    fn list(rescues: &Rescues) -> Vec<(String, u64)> {
        rescues.list().into_iter().map(|Rescue { option, rows }| (option, rows)).collect()
    }

    fn tried(rules: &Rules, rows: &[[&str; 3]]) -> Rescues {
        let mut rescues = Rescues::new(rules);
        for [number, code, name] in rows {
            let mut cells: Cells<'_> = [Some(""); Field::COUNT];
            cells[Field::Reference as usize] = Some("customer-1");
            cells[Field::MobileNumber as usize] = Some(number);
            cells[Field::MobileCountryCode as usize] = Some(code);
            cells[Field::FirstName as usize] = Some(name);
            match rules.check(&cells) {
                Ok(_) => rescues.try_valid(&cells),
                Err(faults) => rescues.try_row(&cells, &faults),
            }
        }
        rescues
    }

    #[test]
    fn rows_may_be_tried_in_two_parts() {
        let rules = Rules::default();
        let rows = [
            ["99887 76655", "", "Asha"],
            ["9988776655", "", "Mary Ann"],
            ["9988-776655", "", "Asha"],
            ["+91 99887-76655", "", "Asha"],
            ["99887 76656", "", "Asha"],
            ["+44 7911 123456", "", "Asha"],
        ];
        for rows in [&rows[..5], &rows[..]] {
            for at in 0..=rows.len() {
                let mut first = tried(&rules, &rows[..at]);
                first.merge(tried(&rules, &rows[at..]));
                assert_eq!(list(&first), rescues(&rules, rows), "{at}");
            }
        }
    }

    #[test]
    fn options_for_equally_many_rows_keep_their_order_in_a_sum() {
        let tried = tried(&Rules::default(), &[["9988776655", "+91", "Asha"], ["9988776656", "+91", "Asha"]]);
        let list = tried.list();
        let options: Vec<&str> = list.iter().map(|rescue| rescue.option.as_str()).collect();
        assert_eq!((options, list[0].rows, list[2].rows), (TRIED.to_vec(), 2, 2));
        assert_eq!(Rescue::sum(list.clone()), list);
    }

    #[test]
    fn every_option_is_tried_by_itself() {
        let rows = [
            ["9988776655", "", "Mary Ann"],
            ["9988776655", "", "O'Neil"],
            ["9988776655", "", "#N/A"],
            ["99887 76655", "", "Asha"],
            ["+91 99887-76655", "+91", "Asha"],
            ["99887 76655", "", "Mary Ann"],
            ["not a number", "", "Asha"],
            ["-9988776655", "", "Asha"],
            ["9988776655", "", "Asha"],
        ];
        let suggestion = |option: &str, rows| (option.to_owned(), rows);
        let lenient = suggestion("--validation lenient", 6);
        let dropping = suggestion("--drop-invalid-optional", 3);
        let expected = [lenient, dropping, suggestion("--phone-region IN", 2)];
        assert_eq!(rescues(&Rules::default(), &rows), expected);
        let given = Rules {
            validation: Some(Validation::Lenient),
            drop_invalid_optional: true,
            phone_region: PhoneRegion::parse("IN").ok(),
            ..Rules::default()
        };
        assert_eq!(rescues(&given, &rows), []);
    }

    #[test]
    fn a_region_is_named_only_if_the_numbers_agree_on_it() {
        let strict = Rules { require: vec![Field::Reference], ..Rules::default() };
        let region = |rows: &[[&str; 3]]| {
            let list = rescues(&strict, rows);
            list.into_iter().find(|(option, _)| option.starts_with("--phone-region"))
        };
        let suggestion = |option: &str, rows| Some((option.to_owned(), rows));
        assert_eq!(region(&[["99887 76655", "", ""]]), suggestion("--phone-region CC", 1));
        let mixed = [["+91 99887 76655", "", ""], ["+44 7911 123456", "", ""]];
        assert_eq!(region(&mixed), suggestion("--phone-region CC", 2));
        let with_name = [["+91 99887 76655", "", "Mary Ann"], ["+44 7911 123456", "", ""]];
        assert_eq!(region(&with_name), suggestion("--phone-region CC", 1));
        let british = [["07911 123456", "", ""], ["99887 76655", "", ""], ["+44 7911 123456", "", ""]];
        assert_eq!(region(&british), suggestion("--phone-region GB", 2));
        // Most numbers without a code are of another country.
        let plain = [["9988776655", "", ""], ["9988776656", "", ""], ["7911123456", "", ""]];
        let abroad = [["+44 7911 123456", "", ""]];
        assert_eq!(region(&[&plain[..], &abroad].concat()), suggestion("--phone-region CC", 1));
        assert_eq!(region(&[&plain[1..], &abroad].concat()), suggestion("--phone-region GB", 1));
        assert_eq!(region(&[["9988776655", "", "Mary Ann"]]), None);
        let many = vec![["99887 76655", "", ""]; WAITING_MAX + 1];
        let many = [&many[..], &[["+91 99887 76655", "", ""]]].concat();
        assert_eq!(region(&many), suggestion("--phone-region CC", WAITING_MAX as u64 + 2));
    }
}
