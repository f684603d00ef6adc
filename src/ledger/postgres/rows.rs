//! The rows of results of Postgres, and the values that only a ledger in Postgres has.

use sqlx::{Row as _, postgres::PgRow};

use super::{
    super::{
        error::Error,
        location::Location,
        model::{RequestCounts, RowId, RunState, SentCounts, Tally},
        rows::ResultRow,
        shared_run::{Cursor, Remaining, RunView},
    },
    parameters::with_nul,
};

impl ResultRow for PgRow {
    fn integer(&self, at: usize) -> Option<i64> {
        self.get(at)
    }

    fn real(&self, at: usize) -> Option<f64> {
        self.get(at)
    }

    fn flag(&self, at: usize) -> bool {
        self.get(at)
    }

    fn word(&self, at: usize) -> Option<&str> {
        self.get(at)
    }

    fn text(&self, at: usize) -> Option<String> {
        self.get::<Option<String>, _>(at).map(with_nul)
    }

    fn bytes(&self, at: usize) -> Option<&[u8]> {
        self.get(at)
    }

    fn has(&self, at: usize) -> bool {
        at < self.len()
    }
}

/// Whether this worker may move the cursor of a run.
pub(super) enum CursorAccess {
    /// No worker takes it any more, because the run ends.
    Closed,
    /// This worker has taken it.
    Taken(Cursor),
    /// This worker can take it.
    Free,
    /// Another worker has taken it, or has asked for it earlier.
    Busy,
}

/// The columns of `SELECT_CURSOR`.
pub(super) fn read_cursor_access(row: &PgRow) -> CursorAccess {
    let (is_mine, is_open, is_free): (bool, bool, bool) = (row.get(5), row.get(6), row.get(7));
    match (is_open, is_mine, is_free) {
        (false, _, _) => CursorAccess::Closed,
        (true, true, _) => CursorAccess::Taken(read_cursor(row)),
        (true, false, true) => CursorAccess::Free,
        (true, false, false) => CursorAccess::Busy,
    }
}

/// The cursor, in the first columns of `SELECT_CURSOR`.
pub(super) fn read_cursor(row: &PgRow) -> Cursor {
    Cursor {
        rows: row.count(0),
        start: row.count(1),
        hash: row.get::<i64, _>(2).cast_unsigned(),
        next_row: RowId(row.get::<Option<i64>, _>(3).unwrap_or(1)),
        is_at_end: row.get(4),
    }
}

/// The columns of `SELECT_SHARED_RUN`.
pub(super) fn read_view(ledger: &Location, row: &PgRow) -> Result<RunView, Error> {
    let [requests, retries, throttled] = [1, 2, 3].map(|at| row.count(at));
    let (is_at_end, state, has_claims, has_orphans): (bool, &str, bool, bool) =
        (row.get(5), row.get(7), row.get(9), row.get(10));
    let is_done = is_at_end && !has_claims || state == RunState::Completed.name();
    let has_ended = state != RunState::Running.name() && state != RunState::Completed.name();
    let stopping: Option<String> = row.get(8);
    Ok(RunView {
        tally: Tally::from_json(row.get(0)).ok_or_else(|| Error::Newer(ledger.clone()))?,
        requests: RequestCounts { requests, retries, throttled },
        sent: SentCounts { rows: row.count(12), failures: row.count(13) },
        imported_seen: row.count(4),
        cursor_rows: row.count(6),
        remaining: match (has_orphans, is_done) {
            (true, _) => Remaining::Orphans,
            (false, true) => Remaining::Nothing,
            (false, false) => Remaining::Rows,
        },
        stopping: stopping.or_else(|| has_ended.then(|| "the run has ended".to_owned())),
        workers: row.count(11),
        all_workers: row.count(14),
    })
}
