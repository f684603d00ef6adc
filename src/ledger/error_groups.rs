//! Groups the errors of a run by kind: the number of rows, and the first of their lines.
//!
//! A row that a later run has settled belongs to that run and is not counted here. Rows are read one by one and counted
//! in memory: a database would sort all of them to find the first lines of each kind, and over a million rows that
//! query alone took 5.0 s in SQLite, reading them 1.4 s. Memory is bounded: an API that invents a code for each row gets no
//! more kinds than [`KINDS_MAX`].
//!
//! A run counts the rows that it cannot send while it commits them, so that its own report does not read millions of
//! them again.

use std::{collections::HashMap, sync::Arc};

use super::{
    batch::Unsendable,
    claim::RowError,
    error::Error,
    location::Location,
    model::{Outcome, OutcomeClass, RowId, Tally},
    records::ErrorGroup,
};
use crate::customer::InvalidCounts;

/// The maximum number of kinds; further ones are not counted.
const KINDS_MAX: usize = 1000;

/// The maximum number of messages that are counted before they are parsed: about two megabytes.
const MESSAGES_MAX: usize = 10_000;

/// How many lines of each kind are kept.
const FIRST_LINES: usize = 5;

/// The properties that two errors of one kind share.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ErrorKind {
    pub(super) outcome: String,
    pub(super) field: Option<String>,
    pub(super) code: Option<String>,
    pub(super) http_status: Option<i64>,
}

/// A row that went wrong.
pub(super) struct ErrorRow<'a> {
    pub(super) id: i64,
    pub(super) line: i64,
    pub(super) kind: ErrorKind,
    /// The message of an invalid row.
    pub(super) message: Option<&'a str>,
}

/// What the first row of a kind says.
#[derive(Default)]
pub(super) struct ErrorMessage {
    pub(super) text: Option<String>,
    pub(super) cells: Option<Vec<String>>,
}

#[derive(Debug, Default)]
pub(super) struct Count {
    rows: u64,
    /// Line and id of the first rows, in order.
    first: Vec<(i64, i64)>,
}

impl Count {
    fn add(&mut self, line: i64, id: i64) {
        self.rows += 1;
        if self.first.len() == FIRST_LINES && self.first.last().is_some_and(|last| *last < (line, id)) {
            return;
        }
        let at = self.first.partition_point(|earlier| *earlier < (line, id));
        self.first.insert(at, (line, id));
        self.first.truncate(FIRST_LINES);
    }

    /// The first row, whose message represents the group.
    pub(super) fn first_row(&self) -> Option<RowId> {
        self.first.first().map(|(_, id)| RowId(*id))
    }
}

/// Invalid rows with the same message, and so with the same fields and codes.
#[derive(Debug)]
struct SameMessage {
    fields: String,
    codes: String,
    rows: u64,
}

/// The kinds of errors found so far.
#[derive(Debug, Default)]
pub struct ErrorGroups {
    kinds: HashMap<ErrorKind, Count>,
    /// Invalid rows by their message: most rows have the same few.
    messages: HashMap<String, SameMessage>,
    invalid: InvalidCounts,
    /// Number of rows, including those whose kind is not counted.
    rows: u64,
}

impl ErrorGroups {
    /// Counts rows that cannot be sent. Neighbors mostly share one error, and its kind is looked up once for all of
    /// them.
    pub(super) fn add_unsendable(&mut self, rows: &[Unsendable]) {
        for same in rows.chunk_by(|one, next| Arc::ptr_eq(&one.error, &next.error)) {
            let Some(first) = same.first() else { continue };
            let RowError { field, code, message, .. } = &*first.error;
            let (outcome, field, code) = (first.outcome.name().to_owned(), field.clone(), code.clone());
            let kind = ErrorKind { outcome, field, code, http_status: None };
            if let Some(message) = message.as_deref().filter(|_| first.outcome == Outcome::Invalid) {
                self.add_message(message, &kind, same.len() as u64);
            }
            if let Some(count) = self.count_of(kind) {
                same.iter().for_each(|row| count.add(row.line as i64, row.row.id.0));
            }
            self.rows += same.len() as u64;
        }
    }

    /// Whether these are all rows of the run that cannot be sent. They are not if it resumed behind some of them.
    pub(super) fn has_all_unsendable(&self, tally: &Tally) -> bool {
        self.rows == tally.sum(|outcome| outcome.class() == OutcomeClass::Unsendable)
    }

    /// The count of a kind; none if there are too many kinds.
    fn count_of(&mut self, kind: ErrorKind) -> Option<&mut Count> {
        let has_room = self.kinds.len() < KINDS_MAX || self.kinds.contains_key(&kind);
        has_room.then(|| self.kinds.entry(kind).or_default())
    }

    /// Counts a row.
    pub(super) fn add(&mut self, row: ErrorRow<'_>) {
        let ErrorRow { id, line, kind, message } = row;
        if let Some(message) = message {
            self.add_message(message, &kind, 1);
        }
        self.rows += 1;
        if let Some(count) = self.count_of(kind) {
            count.add(line, id);
        }
    }

    fn add_message(&mut self, message: &str, kind: &ErrorKind, rows: u64) {
        if let Some(same) = self.messages.get_mut(message) {
            same.rows += rows;
            return;
        }
        let [fields, codes] = [&kind.field, &kind.code].map(|part| part.as_deref().unwrap_or_default());
        if self.messages.len() < MESSAGES_MAX {
            let same = SameMessage { fields: fields.into(), codes: codes.into(), rows };
            self.messages.insert(message.into(), same);
        } else {
            self.invalid.add(fields, codes, message, rows);
        }
    }

    /// The kinds, the most frequent first and in a stable order among equally frequent ones, and what the messages of
    /// invalid rows tell.
    pub(super) fn into_sorted(self) -> (Vec<(ErrorKind, Count)>, InvalidCounts) {
        let mut invalid = self.invalid;
        for (message, SameMessage { fields, codes, rows }) in self.messages {
            invalid.add(&fields, &codes, &message, rows);
        }
        let mut kinds: Vec<(ErrorKind, Count)> = self.kinds.into_iter().collect();
        kinds.sort_by(|(a, one), (b, other)| other.rows.cmp(&one.rows).then_with(|| a.cmp(b)));
        (kinds, invalid)
    }

    /// The groups with the messages and cells of their first rows.
    pub(super) fn describe(
        ledger: &Location,
        groups: Vec<(ErrorKind, Count)>,
        mut messages: HashMap<RowId, ErrorMessage>,
    ) -> Result<Vec<ErrorGroup>, Error> {
        let describe = |(kind, count): (ErrorKind, Count)| {
            let message = count.first_row().and_then(|id| messages.remove(&id)).unwrap_or_default();
            let outcome = Outcome::from_name(&kind.outcome).ok_or_else(|| Error::Newer(ledger.clone()))?;
            Ok(ErrorGroup {
                outcome,
                field: kind.field,
                code: kind.code,
                http_status: kind.http_status.and_then(|status| status.try_into().ok()),
                rows: count.rows,
                first_lines: count.first.iter().map(|(line, _)| line.max(&0).unsigned_abs()).collect(),
                message: message.text,
                cells: message.cells,
            })
        };
        groups.into_iter().map(describe).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_are_found_in_any_order() {
        for lines in [[1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1], [4, 7, 1, 6, 2, 5, 3]] {
            let mut count = Count::default();
            lines.iter().for_each(|line| count.add(*line, line + 100));
            assert_eq!((count.rows, count.first.len()), (7, FIRST_LINES));
            assert!(count.first.iter().zip(1..).all(|(first, line)| *first == (line, line + 100)));
        }
    }
}
