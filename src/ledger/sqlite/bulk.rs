//! Turns the many rows of a commit into the parameters of statements.
//!
//! Executing a statement sends a message to SQLite's thread and back, and both wake a thread: one statement per row
//! would be most of the cost of a row. So data that every row has goes through [`Bulk`]: each bulk statement is
//! prepared in a few sizes, and the rows are cut into few pieces. A piece that does not fill its statement is padded
//! with nulls, which the statement filters out itself (`where column1 is not null`). Data that few rows have goes as
//! one JSON array ([`json_rows`](super::super::json_rows)), which is simpler and slower.
//!
//! Pure: the store decides what is executed, and when.

use std::{borrow::Cow, sync::Arc};

use sqlx::{Arguments as _, error::BoxDynError, sqlite::SqliteArguments};

use super::{
    super::{
        batch::{SettledWithId, Unsendable},
        checkpoint::Checkpoint,
        claim::{IdSource, RowError},
        json_rows::{json_outcomes, json_rows, signed},
        model::{Heartbeat, Outcome, RowId, RunCounts, RunId, Tally},
    },
    fault_ids::FaultStorage,
    rows::Query,
    statements::{COUNT_OUTCOMES, COUNT_RUN, SET_CHECKPOINT, SET_HEARTBEAT},
};
use crate::customer::{Record, Reference};

/// Number of rows of a statement.
const SIZES: [usize; 4] = [512, 256, 64, 8];

/// Padding with this many nulls costs no more than another piece.
const NULLS_MAX: usize = 40;

/// The statement in each of its [`SIZES`].
#[derive(Clone)]
pub(super) struct Bulk {
    texts: [Arc<str>; SIZES.len()],
    /// Number of columns of one row.
    columns: usize,
}

impl Bulk {
    /// Repeats the statement's first row of values. Its parameters have no numbers, because SQLite finds a numbered
    /// parameter by name, searching from the beginning of the list each time.
    pub(super) fn new(sql: &'static str) -> Bulk {
        let (head, rest) = sql.split_once("(values ").unwrap_or((sql, ""));
        let (row, tail) = rest.split_once(')').unwrap_or((rest, ""));
        let text = |rows| format!("{head}(values {}{tail}", vec![format!("{row})"); rows].join(", ")).into();
        Bulk { texts: SIZES.map(text), columns: row.matches('?').count() }
    }

    /// The statement for one of the [`pieces`], and its parameters: the constants, the rows, and nulls.
    pub(super) fn fill<T>(
        &self,
        constants: &[i64],
        rows: &[T],
        add: impl Fn(&mut SqliteArguments, &T) -> Result<(), BoxDynError>,
    ) -> (Arc<str>, Result<SqliteArguments, BoxDynError>) {
        let at = SIZES.iter().rposition(|size| *size >= rows.len()).unwrap_or(0);
        let fill = || {
            let mut arguments = SqliteArguments::default();
            arguments.reserve(constants.len() + self.columns * SIZES[at], 0);
            constants.iter().try_for_each(|constant| arguments.add(*constant))?;
            rows.iter().try_for_each(|row| add(&mut arguments, row))?;
            let nulls = self.columns * SIZES[at].saturating_sub(rows.len());
            (0..nulls).try_for_each(|_| arguments.add(None::<i64>))?;
            Ok(arguments)
        };
        (Arc::clone(&self.texts[at]), fill())
    }
}

/// The rows in order, cut so that there are few pieces and little padding.
pub(super) fn pieces<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let count = rows.len();
        let is_near = SIZES.iter().any(|size| (count..=count + NULLS_MAX).contains(size));
        let filled = SIZES.into_iter().find(|size| *size <= count);
        let (piece, rest) = rows.split_at(filled.filter(|_| !is_near).unwrap_or(count));
        rows = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

pub(super) fn add_created(
    arguments: &mut SqliteArguments,
    row: &SettledWithId<'_>,
) -> Result<(), BoxDynError> {
    arguments.add(row.id.0)?;
    arguments.add(row.line as i64)?;
    arguments.add(row.reference.shared())?;
    arguments.add(signed(row.reference.key()))?;
    arguments.add(row.fingerprint.as_bytes())?;
    arguments.add(Arc::clone(row.customer_id))?;
    arguments.add(row.attempts)?;
    arguments.add(row.claimed_at)
}

pub(super) fn add_with_id(
    arguments: &mut SqliteArguments,
    row: &SettledWithId<'_>,
) -> Result<(), BoxDynError> {
    let (found, created_at, is_uncertain) = match row.id_source {
        IdSource::Answer => (false, None, false),
        IdSource::Found { created_at, is_uncertain, .. } => (true, created_at, is_uncertain),
    };
    add_created(arguments, row)?;
    arguments.add(row.outcome.name())?;
    arguments.add(found)?;
    arguments.add(created_at)?;
    arguments.add(is_uncertain)?;
    arguments.add(row.api_reference.map(Reference::as_str))
}

/// An invalid row or a duplicate.
pub(super) fn add_unsendable(
    arguments: &mut SqliteArguments,
    (row, fault): &(&Unsendable, FaultStorage),
) -> Result<(), BoxDynError> {
    let key = row.reference.as_ref().map(Reference::key);
    let fault = match fault {
        FaultStorage::Table(id) | FaultStorage::NewInTable(id) => Some(*id),
        FaultStorage::Row => None,
    };
    arguments.add(row.row.id.0)?;
    arguments.add(row.line as i64)?;
    arguments.add(row.outcome == Outcome::Duplicate)?;
    arguments.add(row.reference.as_ref().map(Reference::shared))?;
    arguments.add(Some(row.row.content).filter(|content| Some(*content) != key).map(signed))?;
    arguments.add(row.row.content_without_reference.map(signed))?;
    arguments.add(fault)?;
    arguments.add(row.record.as_ref().map(|record| json_rows(record.cells())))
}

/// The words of the rows that are in no table of faults, as a JSON array.
pub(super) fn own_words(rows: &[(&Unsendable, FaultStorage)]) -> Option<String> {
    let own = rows.iter().filter(|(_, storage)| *storage == FaultStorage::Row);
    let mut own = own.map(|(row, _)| {
        let RowError { field, code, message, .. } = &*row.error;
        (row.row.id, field, code, message)
    });
    let first = own.next()?;
    Some(json_rows(std::iter::once(first).chain(own)))
}

/// The raw cells of a row, as a JSON array.
pub(super) fn add_record(
    arguments: &mut SqliteArguments,
    (row, record): &(RowId, Cow<'_, Record>),
) -> Result<(), BoxDynError> {
    arguments.add(row.0)?;
    arguments.add(json_rows(record.cells()))
}

pub(super) fn add_key(arguments: &mut SqliteArguments, (key, row): &(i64, RowId)) -> Result<(), BoxDynError> {
    arguments.add(*key)?;
    arguments.add(row.0)
}

pub(super) fn count_run(run: RunId, counts: &RunCounts) -> Query<'static> {
    let RunCounts { requests, last_line, .. } = counts;
    sqlx::query(COUNT_RUN)
        .bind(run.0)
        .bind(requests.requests as i64)
        .bind(requests.retries as i64)
        .bind(requests.throttled as i64)
        .bind(*last_line as i64)
}

pub(super) fn count_outcomes(run: RunId, tally: &Tally) -> Query<'static> {
    sqlx::query(COUNT_OUTCOMES).bind(json_outcomes(tally)).bind(run.0)
}

pub(super) fn set_checkpoint(run: RunId, reached: &Checkpoint) -> Query<'static> {
    let Checkpoint { position, tally, whole_file_only, chain_start } = reached;
    let prefix = position.prefix_hash;
    sqlx::query(SET_CHECKPOINT)
        .bind(run.0)
        .bind(position.bytes as i64)
        .bind(position.line as i64)
        .bind(prefix.map(|prefix| prefix.bytes as i64))
        .bind(prefix.map(|prefix| format!("{:032x}", prefix.hash)))
        .bind(tally.to_json())
        .bind(*whole_file_only)
        .bind(chain_start.0)
}

pub(super) fn set_heartbeat(heartbeat: &Heartbeat, run: RunId, now: i64) -> Query<'static> {
    sqlx::query(SET_HEARTBEAT)
        .bind(run.0)
        .bind(now)
        .bind(heartbeat.activity.name())
        .bind(heartbeat.total.map(|total| total as i64))
        .bind(heartbeat.is_exact)
        .bind(heartbeat.rows_per_second)
        .bind(heartbeat.in_flight as i64)
        .bind(heartbeat.retrying as i64)
        .bind(heartbeat.in_doubt as i64)
        .bind(heartbeat.rate.map(|rate| rate.per_second))
        .bind(heartbeat.cause.as_deref().map(str::to_owned))
        .bind(heartbeat.rate.map(|rate| rate.set_by.name()))
        .bind(heartbeat.pauses as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_every_row_once_and_fit_a_statement() {
        for count in 0..2_000 {
            let rows: Vec<usize> = (0..count).collect();
            assert_eq!(pieces(&rows).flatten().copied().collect::<Vec<_>>(), rows);
            for piece in pieces(&rows) {
                let size = SIZES.into_iter().rfind(|size| *size >= piece.len()).unwrap();
                assert!(size - piece.len() <= NULLS_MAX, "{} of {size}", piece.len());
            }
        }
        let lengths = |count: usize| pieces(&vec![(); count]).map(<[()]>::len).collect::<Vec<_>>();
        assert_eq!(lengths(570), [512, 58], "a batch at full speed");
        assert_eq!(lengths(50), [50], "a batch at the default rate");
        assert_eq!(lengths(1), [1]);
        assert_eq!(lengths(300), [256, 44]);
    }

    #[test]
    fn a_statement_is_filled_to_its_size() {
        let bulk =
            Bulk::new("insert into t (c, a, b) select ?, given.* from (values (?, ?)) given where column1");
        let add = |arguments: &mut SqliteArguments, row: &i64| {
            arguments.add(*row)?;
            arguments.add("text")
        };
        let (text, arguments) = bulk.fill(&[7], &[1_i64, 2, 3], add);
        let arguments = arguments.unwrap();
        assert_eq!(text.matches('?').count(), 1 + 2 * 8);
        assert_eq!(arguments.len(), 1 + 2 * 8);
        assert!(text.ends_with("(?, ?)) given where column1"), "{text}");
    }
}
