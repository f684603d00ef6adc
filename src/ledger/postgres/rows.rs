//! The rows of results of Postgres, and the values that only a ledger in Postgres has.

use sqlx::{Row as _, postgres::PgRow};

use super::{
    super::{
        error::Error,
        location::Location,
        model::{
            Activity, CurrentRate, Heartbeat, RateSetter, RequestCounts, RowId, RunState, SentCounts, Tally,
        },
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
}

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

pub(super) fn read_heartbeat(row: &PgRow) -> Heartbeat {
    let word: &str = row.get("activity");
    let activity = Activity::ALL.into_iter().find(|activity| activity.name() == word);
    let count = |name: &str| row.get::<i64, _>(name).max(0).unsigned_abs();
    let per_second: Option<f64> = row.get("throttled_to");
    let by: Option<&str> = row.get("throttled_by");
    let set_by = RateSetter::ALL.into_iter().find(|setter| Some(setter.name()) == by);
    let rate = |per_second| CurrentRate { per_second, set_by: set_by.unwrap_or(RateSetter::User) };
    Heartbeat {
        activity: activity.unwrap_or_default(),
        total: row.get::<Option<i64>, _>("total").map(|total| total.max(0).unsigned_abs()),
        is_exact: row.get("is_exact"),
        rows_per_second: row.get("per_second"),
        in_flight: count("in_flight"),
        retrying: count("retrying"),
        in_doubt: count("in_doubt"),
        rate: per_second.map(rate),
        pauses: count("pauses"),
        cause: row.get::<Option<&str>, _>("cause").map(Into::into),
    }
}
