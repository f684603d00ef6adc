//! Turns the rows of a [`CommitBatch`] into the parameters of statements.
//!
//! Executing a statement sends a message to SQLite's thread and back, and both wake a thread: one statement per row
//! would be most of the cost of a row. So data that every row has goes through [`Bulk`]: each bulk statement is
//! prepared in a few sizes, and the rows are cut into few pieces. A piece that does not fill its statement is padded
//! with nulls, which the statement filters out itself (`where column1 is not null`). Data that few rows have goes as
//! one JSON array ([`json_rows`]), which is simpler and slower.
//!
//! Pure: the store decides what is executed, and when.

use std::{borrow::Cow, sync::Arc};

use serde::{Serialize, Serializer};
use sqlx::{Arguments as _, error::BoxDynError, sqlite::SqliteArguments};

use super::{
    super::{
        batch::{CommitBatch, SettledWithId, Unsendable, UpdateRows},
        checkpoint::Checkpoint,
        claim::{IdSource, RowError},
        model::{Heartbeat, Outcome, RequestCounts, RowId, RunCounts, RunId, Tally},
        timeline::Sample,
    },
    fault_ids::FaultPlace,
    rows::Query,
    statements::{COUNT_OUTCOMES, COUNT_RUN, SET_CHECKPOINT, SET_HEARTBEAT},
};
use crate::customer::{Fingerprint, Record, Reference};

/// Number of rows of a statement.
const SIZES: [usize; 4] = [512, 256, 64, 8];

/// Padding with this many nulls costs no more than another piece.
const NULLS_MAX: usize = 40;

/// Rows as one JSON array.
pub(super) fn json_rows(rows: impl IntoIterator<Item = impl Serialize>) -> String {
    let mut bytes = Vec::new();
    // Writing numbers and text to memory cannot fail.
    let written = serde_json::Serializer::new(&mut bytes).collect_seq(rows);
    debug_assert!(written.is_ok());
    String::from_utf8(bytes).unwrap_or_default()
}

/// Ids as one JSON array.
pub(super) fn json_ids(ids: &[RowId]) -> String {
    json_rows(ids)
}

/// SQLite's integers are signed; the bits stay the same.
pub(super) fn signed(key: u64) -> i64 {
    key as i64
}

/// Hexadecimal, because JSON has no bytes; SQLite converts it back with `unhex`.
pub(super) fn hex(fingerprint: &Fingerprint) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    fingerprint.as_bytes().iter().flat_map(digits).map(char::from).collect()
}

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

/// The rows of a batch as JSON arrays, prepared before the transaction begins.
pub(super) struct Given {
    pub(super) ended_claims: String,
    pub(super) new_claims: String,
    pub(super) repeated_claims: String,
    pub(super) without_id: String,
    pub(super) superseded_by_id: String,
    pub(super) superseded_by_line: String,
    pub(super) superseded_by_cells: String,
    pub(super) corrected: String,
    pub(super) updates: GivenUpdates,
}

pub(super) struct GivenUpdates {
    pub(super) begun: String,
    pub(super) updated: String,
    pub(super) unfinished: String,
    pub(super) new_unfinished: String,
    pub(super) restored: String,
    pub(super) finished: String,
}

impl Given {
    pub(super) fn of(batch: &CommitBatch<'_>) -> Given {
        let superseded = &batch.superseded;
        Given {
            ended_claims: json_ids(&batch.ended_claims),
            new_claims: json_rows(batch.new_claims.iter().map(|it| {
                let (reference, key) = (it.reference.as_str(), signed(it.reference.key()));
                (it.id, it.line, reference, key, hex(&it.fingerprint))
            })),
            repeated_claims: json_rows(
                batch.repeated_claims.iter().map(|it| (it.id, it.line, hex(&it.fingerprint), it.claimed_at)),
            ),
            without_id: json_rows(batch.without_id.iter().map(|it| {
                let RowError { field, code, message, http_status, request_id } = it.error;
                let (reference, key) = (it.reference.as_str(), signed(it.reference.key()));
                let fingerprint = hex(&it.fingerprint);
                (
                    it.id,
                    it.line,
                    it.outcome,
                    reference,
                    key,
                    fingerprint,
                    it.attempts,
                    it.claimed_at,
                    it.in_doubt,
                    field,
                    code,
                    message,
                    http_status,
                    request_id,
                    it.may_have_landed,
                )
            })),
            superseded_by_id: json_rows(&superseded.by_id),
            superseded_by_line: json_rows(
                superseded
                    .by_line
                    .iter()
                    .map(|(line, content, reference)| (line, signed(*content), reference)),
            ),
            superseded_by_cells: json_rows(
                superseded.by_cells.iter().map(|(line, content)| (line, signed(*content))),
            ),
            corrected: json_rows(batch.corrected.iter().map(|it| (it.line, it.outcome.name(), &it.code))),
            updates: GivenUpdates::of(&batch.updates),
        }
    }
}

impl GivenUpdates {
    fn of(updates: &UpdateRows<'_>) -> GivenUpdates {
        GivenUpdates {
            begun: json_rows(updates.begun.iter().map(|(id, line, sent)| (id, line, hex(sent)))),
            updated: json_rows(
                updates.updated.iter().map(|(id, line, sent, attempts)| (id, line, hex(sent), attempts)),
            ),
            unfinished: json_rows(updates.unfinished.iter().map(|it| {
                let RowError { code, message, http_status, request_id, .. } = it.error;
                let landed = i64::from(it.may_have_landed);
                (it.id, it.outcome, landed, it.attempts, code, message, http_status, request_id)
            })),
            new_unfinished: json_rows(updates.new_unfinished.iter().map(|it| {
                let RowError { code, message, http_status, request_id, .. } = it.error;
                let (sent, landed) = (hex(&it.fingerprint), i64::from(it.may_have_landed));
                let what = (it.id, it.line, it.outcome, sent, landed, it.attempts);
                let (id, line, outcome, sent, landed, attempts) = what;
                (id, line, outcome, sent, landed, attempts, code, message, http_status, request_id)
            })),
            restored: json_ids(&updates.restored),
            finished: json_ids(&updates.finished),
        }
    }
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
    (row, fault): &(&Unsendable, FaultPlace),
) -> Result<(), BoxDynError> {
    let key = row.reference.as_deref().map(|text| Reference::recorded(text).key());
    let fault = match fault {
        FaultPlace::Table(id) | FaultPlace::NewInTable(id) => Some(*id),
        FaultPlace::Row => None,
    };
    arguments.add(row.row.id.0)?;
    arguments.add(row.line as i64)?;
    arguments.add(row.reference.as_deref())?;
    arguments.add(key.map(signed))?;
    arguments.add(Some(row.row.content).filter(|content| Some(*content) != key).map(signed))?;
    arguments.add(row.row.content_without_reference.map(signed))?;
    arguments.add(fault)?;
    arguments.add(row.outcome == Outcome::Duplicate)
}

/// The words of the rows that are in no table of faults, as a JSON array.
pub(super) fn own_words(rows: &[(&Unsendable, FaultPlace)]) -> Option<String> {
    let own = rows.iter().filter(|(_, place)| *place == FaultPlace::Row);
    let mut own = own.map(|(row, _)| {
        let RowError { field, code, message, .. } = &row.error;
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
    // Only the count of pending rows can return to zero.
    let is_counted = |outcome: &Outcome| tally.get(*outcome) > 0 || *outcome == Outcome::Pending;
    let counts = Outcome::ALL.into_iter().filter(is_counted).map(|outcome| (outcome, tally.get(outcome)));
    sqlx::query(COUNT_OUTCOMES).bind(json_rows(counts)).bind(run.0)
}

pub(super) fn set_checkpoint(run: RunId, reached: &Checkpoint) -> Query<'static> {
    let Checkpoint { position, tally, whole_file_only, chain_start } = reached;
    let counts = Outcome::ALL.map(|outcome| (outcome.name(), tally.get(outcome)));
    let counts: serde_json::Map<_, _> =
        counts.into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
    let prefix = position.prefix_hash;
    sqlx::query(SET_CHECKPOINT)
        .bind(run.0)
        .bind(position.bytes as i64)
        .bind(position.line as i64)
        .bind(prefix.map(|prefix| prefix.bytes as i64))
        .bind(prefix.map(|prefix| format!("{:032x}", prefix.hash)))
        .bind(serde_json::Value::Object(counts).to_string())
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

/// A sample as a row of the bulk statement.
pub(super) fn sample_columns(sample: &Sample) -> impl serde::Serialize {
    let Sample { from, to, succeeded, faulty, failed, figures, in_flight, held_rate, latencies } = sample;
    let RequestCounts { requests, retries, throttled } = *figures;
    let latencies: Vec<_> = latencies.counts().collect();
    let (from, to) = (from.as_millis() as u64, to.as_millis() as u64);
    (from, to, *succeeded, *faulty, *failed, requests, retries, throttled, *in_flight, *held_rate, latencies)
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
            Bulk::new("insert into t (c, a, b) select ?, told.* from (values (?, ?)) told where column1");
        let add = |arguments: &mut SqliteArguments, row: &i64| {
            arguments.add(*row)?;
            arguments.add("text")
        };
        let (text, arguments) = bulk.fill(&[7], &[1_i64, 2, 3], add);
        let arguments = arguments.unwrap();
        assert_eq!(text.matches('?').count(), 1 + 2 * 8);
        assert_eq!(arguments.len(), 1 + 2 * 8);
        assert!(text.ends_with("(?, ?)) told where column1"), "{text}");
    }
}
