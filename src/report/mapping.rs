//! Formats which column feeds which field, as text and JSON, so that a user can check the mapping before anything is
//! sent.

use serde::Serialize;

use super::format::{visible_text, wrap_parts};
use crate::{
    customer::Field,
    source::{AbsentColumn, MappedFrom, Mapping, UnusedColumn},
};

/// Width of the lines of text, within the margin of their heading.
const WIDTH: usize = 76;

/// How many columns that feed no field are listed.
const SHOWN_MAX: usize = 20;

/// How many characters of a name are shown.
const NAME_MAX_CHARS: usize = 60;

/// A field and where it is read from. The names are a contract with scripts.
#[derive(Debug, Serialize)]
pub struct MappedField {
    field: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    constant: bool,
}

/// The fields that a source feeds, for JSON.
pub fn mapped_fields(mapping: &Mapping) -> Vec<MappedField> {
    let each = |(field, from): &(Field, MappedFrom)| {
        let (column, template) = match from {
            MappedFrom::Column(name) => (Some(name.clone()), None),
            MappedFrom::Template(text) => (None, Some(text.clone())),
            MappedFrom::Constant => (None, None),
        };
        MappedField { field: field.name(), column, template, constant: *from == MappedFrom::Constant }
    };
    mapping.fields.iter().map(each).collect()
}

/// The columns that feed no field, for JSON.
pub fn unused_columns(mapping: &Mapping) -> Vec<String> {
    mapping.unused.iter().map(|column| column.name.clone()).collect()
}

/// The name of a column, truncated if it is a text rather than a name.
pub fn short_name(name: &str) -> String {
    let shown = visible_text(name);
    match shown.char_indices().nth(NAME_MAX_CHARS) {
        None => shown,
        Some((at, _)) => format!("{}…", &shown[..at]),
    }
}

/// `FIELD ← COLUMN` for each field, and the columns that feed none; each line begins with two blanks.
pub fn mapping_lines(mapping: &Mapping) -> String {
    let each = |(field, from): &(Field, MappedFrom)| match from {
        MappedFrom::Column(name) => format!("{field} ← {}", short_name(name)),
        MappedFrom::Template(text) => format!("{field} ← {}", visible_text(text)),
        MappedFrom::Constant => format!("{field} ← --set"),
    };
    let mut lines = wrap_parts(&mapping.fields.iter().map(each).collect::<Vec<_>>(), WIDTH);
    let unused: Vec<String> =
        mapping.unused.iter().take(SHOWN_MAX).map(|column| short_name(&column.name)).collect();
    if !unused.is_empty() {
        let more = match mapping.unused.len() - unused.len() {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        lines.push(format!("not sent: {}{more}", unused.join(", ")));
    }
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

/// A warning about a column of the file or of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnWarning {
    /// The name in JSON. A contract with scripts.
    pub(super) name: &'static str,
    /// The field concerned, if there is one.
    pub(super) field: Option<Field>,
    /// What is wrong, and what to do about it.
    pub text: String,
}

/// The warnings about columns: columns named like a field in other systems that feed no field, and columns in
/// `--ignore` that the file does not have.
pub fn column_warnings(mapping: &Mapping) -> Vec<ColumnWarning> {
    let unmapped = mapping.unused.iter().filter_map(|UnusedColumn { name, likely }| {
        let (field, name) = ((*likely)?, visible_text(name));
        let text = format!(
            "column {name} feeds no field; give --map '{field}={name}' to send it, or --ignore '{name}'"
        );
        Some(ColumnWarning { name: "unmapped-column", field: Some(field), text })
    });
    let absent = mapping.absent.iter().map(|AbsentColumn { name, likely }| {
        let meant = match likely {
            Some(likely) => format!("did you mean --ignore '{}'?", visible_text(likely)),
            None => "leave the option out".into(),
        };
        let text = format!("--ignore '{}': the file has no such column; {meant}", visible_text(name));
        ColumnWarning { name: "unknown-ignored-column", field: None, text }
    });
    unmapped.chain(absent).collect()
}
