//! Counts what is read differently from how it stands in the source: each kind with its number of rows and its first lines.
//!
//! Reading tolerates some departures from a plain CSV file, and an option may rewrite a value. Whatever does so adds to
//! [`Adjustments`], so that a run can report every kind once, at its end, with a count: nothing is read differently
//! without a message. The counts are shared between the thread that reads and the thread that reports. Values are never
//! kept.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use serde::Serialize;

use super::csv_reader::RawRecord;
use crate::customer::{Faults, Field, Respelling, ValidRecord};

/// How many lines are kept as examples of each kind.
const LINES_KEPT: usize = 5;

/// One way in which a row, or a line between rows, is read differently from how it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Adjustment {
    /// A byte order mark at the start of a line is skipped.
    ByteOrderMark,
    /// The value of a field is sent in another spelling.
    Value(Field, Respelling),
}

impl Adjustment {
    /// The name in JSON. A contract with scripts.
    pub fn name(self) -> &'static str {
        match self {
            Adjustment::ByteOrderMark => "byte-order-mark",
            Adjustment::Value(_, respelling) => respelling.name(),
        }
    }

    /// The field whose value is adjusted; none if the adjustment concerns a whole line.
    pub fn field(self) -> Option<Field> {
        match self {
            Adjustment::ByteOrderMark => None,
            Adjustment::Value(field, _) => Some(field),
        }
    }
}

/// Says what was done: `mobile_number read from another spelling`.
impl fmt::Display for Adjustment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Adjustment::ByteOrderMark => {
                f.write_str("byte order mark (U+FEFF) at the start of a line skipped")
            }
            Adjustment::Value(field, respelling) => write!(f, "{field} {respelling}"),
        }
    }
}

/// A number of rows and the first lines of them.
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

    /// Adds the counts about other rows of the same source.
    pub fn merge(&mut self, other: RowSample) {
        self.rows += other.rows;
        self.first_lines.extend(other.first_lines);
        self.first_lines.sort_unstable();
        self.first_lines.truncate(LINES_KEPT);
    }
}

/// The adjustments of one source, shared by its reader and by whoever reports them.
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

    /// Counts the values of a valid row that are sent in another spelling.
    pub(super) fn add_values(&self, reading: &Result<ValidRecord<'_>, Faults>, line: u64) {
        for (field, respelling) in reading.iter().flat_map(ValidRecord::respelled) {
            self.add(Adjustment::Value(*field, *respelling), line);
        }
    }

    /// Every kind that occurred so far.
    pub fn list(&self) -> Vec<(Adjustment, RowSample)> {
        self.lock().iter().map(|(adjustment, sample)| (*adjustment, sample.clone())).collect()
    }

    /// A panic elsewhere cannot leave the counts half changed.
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Adjustment, RowSample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
