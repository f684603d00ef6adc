//! What `validate` found, as text and JSON: what an import would do with the file, and what to correct first.
//!
//! Faults are grouped by field and rule, with a count and the first few lines, so that memory is the same
//! for ten faults and ten million. Holds no customer's field: what was seen names characters and counts.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde::Serialize;

use super::{DroppedField, dropped_list, grouped, harmless, paragraph, rows, time};
use crate::customer::{Dropped, Fault, Field, Rule};

/// How many lines of each group of faults are named.
const LINES_SHOWN: usize = 5;

pub(super) const DUPLICATE_REMEDY: &str =
    "only the first row of each reference is imported; remove the others";

const ALIKE: &str = "differ from an earlier reference in letter case or blanks only";

const ALIKE_REMEDY: &str = "each becomes a customer of its own, or, where the API ignores letter case, the later ones are \
                            existing under the first one's id; make the references equal if one is meant";

/// What was found so far.
#[derive(Debug, Default)]
pub struct Validation {
    rows: u64,
    invalid: u64,
    duplicates: Lines,
    alike: Lines,
    groups: BTreeMap<(Option<Field>, Rule), Group>,
    dropped: Dropped,
}

/// A number of rows and where the first of them stand.
#[derive(Debug, Default, Serialize)]
struct Lines {
    rows: u64,
    first_lines: Vec<u64>,
}

impl Lines {
    fn add(&mut self, line: u64) {
        self.rows += 1;
        if self.first_lines.len() < LINES_SHOWN {
            self.first_lines.push(line);
        }
    }

    fn join(&mut self, other: Lines) {
        self.rows += other.rows;
        self.first_lines.extend(other.first_lines);
        self.first_lines.sort_unstable();
        self.first_lines.truncate(LINES_SHOWN);
    }

    fn text(&self) -> String {
        let lines: Vec<String> = self.first_lines.iter().map(u64::to_string).collect();
        format!("{}, first on line {}", rows(self.rows), lines.join(", "))
    }
}

#[derive(Debug, Default)]
struct Group {
    count: u64,
    first: Vec<Seen>,
}

#[derive(Debug, Serialize)]
struct Seen {
    line: u64,
    seen: String,
}

/// The JSON object; its names are what scripts rely on.
#[derive(Serialize)]
struct Json<'a> {
    source: &'a str,
    rows: u64,
    valid: u64,
    invalid: u64,
    duplicate: u64,
    faults: Vec<JsonGroup<'a>>,
    duplicates: &'a Lines,
    warnings: Vec<JsonWarning<'a>>,
    dropped: Vec<DroppedField>,
    import: JsonImport,
}

#[derive(Serialize)]
struct JsonGroup<'a> {
    field: &'a str,
    rule: &'a str,
    rows: u64,
    first: &'a [Seen],
    remedy: &'a str,
    option: Option<&'a str>,
}

#[derive(Serialize)]
struct JsonWarning<'a> {
    field: &'a str,
    warning: &'a str,
    #[serde(flatten)]
    lines: &'a Lines,
    remedy: &'a str,
}

#[derive(Serialize)]
struct JsonImport {
    rows: u64,
    rate: Option<f64>,
    seconds: Option<f64>,
}

impl Validation {
    /// A row that breaks nothing, and what it goes without.
    pub fn valid(&mut self, dropped: &[(Field, Rule)]) {
        self.rows += 1;
        self.dropped.add(dropped);
    }

    /// A row that breaks nothing; its reference is like an earlier one, and another.
    pub fn alike(&mut self, line: u64, dropped: &[(Field, Rule)]) {
        self.valid(dropped);
        self.alike.add(line);
    }

    /// A row whose reference an earlier one has.
    pub fn duplicate(&mut self, line: u64) {
        self.rows += 1;
        self.duplicates.add(line);
    }

    /// A row with faults.
    pub fn invalid(&mut self, line: u64, faults: &[Fault]) {
        self.rows += 1;
        self.invalid += 1;
        for fault in faults {
            let group = self.groups.entry((fault.field, fault.rule)).or_default();
            group.count += 1;
            if group.first.len() < LINES_SHOWN {
                group.first.push(Seen { line, seen: fault.seen.clone() });
            }
        }
    }

    /// Takes in what was found of other rows.
    pub fn join(&mut self, other: Validation) {
        self.rows += other.rows;
        self.invalid += other.invalid;
        self.duplicates.join(other.duplicates);
        self.alike.join(other.alike);
        for (of, group) in other.groups {
            let joined = self.groups.entry(of).or_default();
            joined.count += group.count;
            joined.first.extend(group.first);
            joined.first.sort_by_key(|seen| seen.line);
            joined.first.truncate(LINES_SHOWN);
        }
        self.dropped.merge(&other.dropped);
    }

    /// Whether every row can be sent.
    pub fn is_clean(&self) -> bool {
        self.invalid == 0 && self.duplicates.rows == 0
    }

    fn valid_rows(&self) -> u64 {
        self.rows - self.invalid - self.duplicates.rows
    }

    /// How long an import takes at least, at so many requests per second.
    fn estimate(&self, rate: Option<f64>) -> Option<Duration> {
        Duration::try_from_secs_f64(self.valid_rows() as f64 / rate?).ok()
    }

    /// The faults grouped by rule: counts, first lines, remedy.
    pub fn text(&self, source: &str, rate: Option<f64>) -> String {
        let mut text = format!(
            "{}: {}, {} valid, {} invalid, {} duplicate\n",
            harmless(source),
            rows(self.rows),
            grouped(self.valid_rows()),
            grouped(self.invalid),
            grouped(self.duplicates.rows),
        );
        let _ = write!(text, "import would send {}", rows(self.valid_rows()));
        if let (Some(rate), Some(least)) = (rate, self.estimate(rate)) {
            let _ = write!(text, ", in {} at {rate} requests per second", time(least));
        }
        text.push('\n');
        self.add_groups(&mut text);
        if self.duplicates.rows > 0 {
            let lines = self.duplicates.text();
            let _ = writeln!(text, "\nobject_reference_id duplicate: {lines}\n  remedy: {DUPLICATE_REMEDY}");
        }
        if self.alike.rows > 0 {
            let lines = self.alike.text();
            let _ = writeln!(
                text,
                "\nwarning: object_reference_id alike: {lines}\n  {ALIKE}\n  remedy: {ALIKE_REMEDY}"
            );
        }
        text.push_str(&paragraph(
            &dropped_list(&self.dropped).iter().map(ToString::to_string).collect::<Vec<_>>(),
        ));
        text
    }

    fn add_groups(&self, text: &mut String) {
        for ((field, rule), group) in &self.groups {
            let _ = writeln!(text, "\n{} {rule}: {}", field.map_or("record", Field::name), rows(group.count));
            for Seen { line, seen } in &group.first {
                let _ = writeln!(text, "  line {line}: {seen}");
            }
            if group.count > group.first.len() as u64 {
                let _ = writeln!(text, "  and {} more", grouped(group.count - group.first.len() as u64));
            }
            let _ = writeln!(text, "  remedy: {}", rule.remedy(*field));
            if let Some(option) = rule.option(*field) {
                let _ = writeln!(text, "  option: {option}");
            }
        }
    }

    /// The same as one JSON object.
    pub fn json<'a>(&'a self, source: &'a str, rate: Option<f64>) -> impl Serialize + 'a {
        let faults = self.groups.iter().map(|((field, rule), group)| JsonGroup {
            field: field.map_or("record", Field::name),
            rule: rule.name(),
            rows: group.count,
            first: &group.first,
            remedy: rule.remedy(*field),
            option: rule.option(*field),
        });
        let field = Field::Reference.name();
        let alike = JsonWarning { field, warning: "alike", lines: &self.alike, remedy: ALIKE_REMEDY };
        Json {
            source,
            rows: self.rows,
            valid: self.valid_rows(),
            invalid: self.invalid,
            duplicate: self.duplicates.rows,
            faults: faults.collect(),
            duplicates: &self.duplicates,
            warnings: Some(alike).filter(|alike| alike.lines.rows > 0).into_iter().collect(),
            dropped: dropped_list(&self.dropped),
            import: JsonImport {
                rows: self.valid_rows(),
                rate,
                seconds: self.estimate(rate).map(|least| least.as_secs_f64()),
            },
        }
    }
}
