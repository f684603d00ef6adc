//! Counts what is read differently from how it is written in the source: each kind with its number of rows and its
//! first lines.
//!
//! Reading tolerates some departures from a plain CSV file, and an option may rewrite a value. Any code that does so
//! adds to [`Adjustments`], so that a run can report every kind once, at its end, with a count: nothing is read
//! differently without a message. The counts are shared between the thread that reads and the thread that reports.
//! Values are never stored.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use serde::Serialize;

use super::csv_reader::RawRecord;
use crate::customer::{Cells, Doubt, Faults, Field, Respelling, ValidRecord};

/// How many lines are kept as examples of each kind.
const LINES_KEPT: usize = 5;

/// A way in which a row, or a line between rows, is read differently from how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Adjustment {
    /// A byte order mark at the start of a line is skipped.
    ByteOrderMark,
    /// The value of a field is sent in another spelling.
    Value(Field, Respelling),
    /// A value is sent that may not be the intended one.
    Doubt(Field, Doubt),
    /// A cell that feeds a field is a null marker, and is read as empty.
    NullMarker(Field),
    /// A cell that feeds a field has several lines.
    LineBreak(Field),
    /// The header occurs again and is skipped.
    RepeatedHeader,
    /// A separator line or a footer of a SQL tool is skipped.
    SeparatorLine,
    /// A row of nothing but delimiters and blanks is skipped.
    BlankRow,
    /// A row has fewer cells than the header, and the missing ones are read as empty.
    MissingCells,
    /// A row has more cells than the header, and the others, all empty, are ignored.
    ExtraCells,
    /// A cell that feeds no field is too long to be kept whole.
    CutCell,
    /// A line belongs to a record with malformed quotes, and is not read as a row.
    SwallowedLine,
    /// The last line has no line break: the file may be truncated.
    UnterminatedLastLine,
}

impl Adjustment {
    /// The name in JSON. A contract with scripts.
    pub fn name(self) -> &'static str {
        match self {
            Adjustment::ByteOrderMark => "byte-order-mark",
            Adjustment::Value(_, respelling) => respelling.name(),
            Adjustment::Doubt(_, doubt) => doubt.name(),
            Adjustment::NullMarker(_) => "null-marker",
            Adjustment::LineBreak(_) => "line-break",
            Adjustment::RepeatedHeader => "repeated-header",
            Adjustment::SeparatorLine => "separator-line",
            Adjustment::BlankRow => "blank-row",
            Adjustment::MissingCells => "missing-cells",
            Adjustment::ExtraCells => "extra-empty-cells",
            Adjustment::CutCell => "cut-cell",
            Adjustment::SwallowedLine => "swallowed-line",
            Adjustment::UnterminatedLastLine => "unterminated-last-line",
        }
    }

    /// The field whose value is adjusted; none if the adjustment concerns a whole line.
    pub fn field(self) -> Option<Field> {
        match self {
            Adjustment::Value(field, _)
            | Adjustment::Doubt(field, _)
            | Adjustment::NullMarker(field)
            | Adjustment::LineBreak(field) => Some(field),
            _ => None,
        }
    }
}

/// Describes what was done: `mobile_number read from another spelling`.
impl fmt::Display for Adjustment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Adjustment::ByteOrderMark => {
                f.write_str("byte order mark (U+FEFF) at the start of a line skipped")
            }
            Adjustment::Value(field, respelling) => write!(f, "{field} {respelling}"),
            Adjustment::Doubt(field, doubt) => write!(f, "warning: {field} {doubt}"),
            Adjustment::NullMarker(field) => write!(f, "{field} read as empty where it is a --null-marker"),
            Adjustment::LineBreak(field) => {
                write!(f, "warning: {field} has cells of several lines; a quote may have swallowed them")
            }
            Adjustment::RepeatedHeader => f.write_str("header again, skipped"),
            Adjustment::SeparatorLine => f.write_str("separator lines or footers, skipped"),
            Adjustment::BlankRow => f.write_str("rows of nothing but delimiters and blanks, skipped"),
            Adjustment::MissingCells => {
                f.write_str("rows with fewer cells than the header, the last ones read as empty")
            }
            Adjustment::ExtraCells => f.write_str("rows with more cells than the header, all empty, ignored"),
            Adjustment::CutCell => {
                f.write_str("rows with a cell that feeds no field and is too long to be kept whole")
            }
            Adjustment::SwallowedLine => {
                f.write_str("warning: lines swallowed by a quote that is at fault, not read as rows")
            }
            Adjustment::UnterminatedLastLine => {
                f.write_str("warning: the last line has no line break; check that the file is complete")
            }
        }
    }
}

/// A number of rows with the first of their lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowSample {
    /// Number of rows.
    pub rows: u64,
    /// The first lines, at most five.
    pub first_lines: Vec<u64>,
}

impl RowSample {
    /// Counts a row that starts on `line`.
    pub fn add(&mut self, line: u64) {
        self.rows += 1;
        if self.first_lines.len() < LINES_KEPT {
            self.first_lines.push(line);
        }
    }

    /// Counts the lines from `first` to `last`.
    fn add_lines(&mut self, first: u64, last: u64) {
        let room = LINES_KEPT.saturating_sub(self.first_lines.len());
        self.first_lines.extend((first..=last).take(room));
        self.rows += last + 1 - first;
    }

    /// Adds the counts about other rows of the same source.
    pub fn merge(&mut self, other: RowSample) {
        self.rows += other.rows;
        self.first_lines.extend(other.first_lines);
        self.first_lines.sort_unstable();
        self.first_lines.truncate(LINES_KEPT);
    }
}

/// The adjustments of one source, shared by its reader and its report.
#[derive(Debug, Default)]
pub struct Adjustments(Mutex<BTreeMap<Adjustment, RowSample>>);

impl Adjustments {
    /// Counts an adjustment on `line`.
    pub(super) fn add(&self, adjustment: Adjustment, line: u64) {
        self.lock().entry(adjustment).or_default().add(line);
    }

    /// Counts the byte order mark before a record.
    pub(super) fn add_mark(&self, record: &RawRecord<'_>) {
        if record.after_mark {
            self.add(Adjustment::ByteOrderMark, record.line);
        }
    }

    /// Counts an adjustment of each of these lines.
    pub(super) fn add_lines(&self, adjustment: Adjustment, first: u64, last: u64) {
        if first <= last {
            self.lock().entry(adjustment).or_default().add_lines(first, last);
        }
    }

    /// Counts the fields whose cells have several lines, in the row on `line`.
    pub(super) fn add_line_breaks(&self, cells: &Cells<'_>, line: u64) {
        let has_break = |cell: &str| cell.trim().contains(['\n', '\r']);
        for field in Field::ALL.into_iter().filter(|field| cells[*field as usize].is_some_and(has_break)) {
            self.add(Adjustment::LineBreak(field), line);
        }
    }

    /// Counts the fields that are read as empty because of a null marker.
    pub(super) fn add_null_markers(&self, fields: impl Iterator<Item = Field>, line: u64) {
        fields.for_each(|field| self.add(Adjustment::NullMarker(field), line));
    }

    /// Counts the values of a valid row that are sent in another spelling, or that are in doubt.
    pub(super) fn add_values(&self, reading: &Result<ValidRecord<'_>, Faults>, line: u64) {
        let Ok(valid) = reading else { return };
        for (field, respelling) in valid.respelled() {
            self.add(Adjustment::Value(*field, *respelling), line);
        }
        for (field, doubt) in valid.doubts() {
            self.add(Adjustment::Doubt(*field, *doubt), line);
        }
    }

    /// Adds the counts about other rows of the same source.
    pub(super) fn merge(&self, other: Adjustments) {
        let other = other.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.lock();
        for (adjustment, sample) in other {
            all.entry(adjustment).or_default().merge(sample);
        }
    }

    /// Every kind that occurred so far.
    pub fn list(&self) -> Vec<(Adjustment, RowSample)> {
        self.lock().iter().map(|(adjustment, sample)| (*adjustment, sample.clone())).collect()
    }

    /// A panic elsewhere cannot leave the counts inconsistent.
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Adjustment, RowSample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
