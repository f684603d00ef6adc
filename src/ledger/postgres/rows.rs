//! How columns of a ledger in Postgres become values, for the writer and the reader alike.
//!
//! What is read may have been written by anyone with a client of Postgres: a count that does not fit is zero, no panic.
//! A word for an outcome that is not known is an error, since to take it for another outcome would send rows again.

use std::time::Duration;

use sqlx::{Row as _, postgres::PgRow};

use super::{
    super::{
        checkpoint::Checkpoint,
        error::Error,
        location::Location,
        model::{
            Activity, CurrentRate, ExistingCounts, Heartbeat, KnownRow, Outcome, RateSetter, RequestCounts,
            RowId, RunId, RunState, SentCounts, Tally,
        },
        shared_run::{Cursor, Remaining, RunView},
        timeline::Sample,
    },
    parameters::with_nul,
};
use crate::{
    customer::{Dropped, Field, Fingerprint, PrefixHash, Rule, SourcePosition},
    latency::Latencies,
};

/// A count.
pub(super) fn count(row: &PgRow, at: usize) -> u64 {
    row.get::<i64, _>(at).max(0).unsigned_abs()
}

/// A text of somebody else, as it was.
pub(super) fn text(row: &PgRow, at: usize) -> String {
    with_nul(row.get(at))
}

/// The same where it may be missing.
pub(super) fn some_text(row: &PgRow, at: usize) -> Option<String> {
    row.get::<Option<String>, _>(at).map(with_nul)
}

/// A fingerprint.
pub(super) fn fingerprint(row: &PgRow, at: usize) -> Option<Fingerprint> {
    row.get::<Option<&[u8]>, _>(at).and_then(Fingerprint::recorded)
}

/// The outcome of this word; an error where a later version wrote it.
pub(super) fn read_outcome(ledger: &Location, word: &str) -> Result<Outcome, Error> {
    Outcome::from_name(word).ok_or_else(|| Error::Newer(ledger.clone()))
}

pub(super) fn read_known(ledger: &Location, row: &PgRow) -> Result<KnownRow, Error> {
    Ok(KnownRow {
        id: RowId(row.get(0)),
        fingerprint: fingerprint(row, 2),
        outcome: read_outcome(ledger, row.get(3))?,
        in_doubt: row.get(4),
        claimed_at: row.get(5),
        run: RunId(row.get(6)),
        line: count(row, 7),
        may_have_landed: row.get(8),
    })
}

/// None where the run has reached no checkpoint.
pub(super) fn read_checkpoint(row: &PgRow) -> Option<Checkpoint> {
    let bytes: i64 = row.get::<Option<i64>, _>(0)?;
    let proof_bytes: Option<i64> = row.get(2);
    let hash = row.get::<Option<&str>, _>(3).and_then(|hash| u128::from_str_radix(hash, 16).ok());
    let prefix_hash = proof_bytes.zip(hash).map(|(bytes, hash)| PrefixHash { bytes: bytes as u64, hash });
    let tally = Tally::from_json(row.get::<Option<&str>, _>(4)?)?;
    let line = row.get::<Option<i64>, _>(1)?;
    let position = SourcePosition { bytes: bytes as u64, line: line as u64, prefix_hash };
    let chain_start = RunId(row.get::<Option<i64>, _>(6)?);
    Some(Checkpoint { position, tally, whole_file_only: row.get(5), chain_start })
}

pub(super) fn read_cursor(row: &PgRow) -> Cursor {
    Cursor {
        rows: count(row, 0),
        start: count(row, 1),
        hash: row.get::<i64, _>(2).cast_unsigned(),
        next_row: RowId(row.get::<Option<i64>, _>(3).unwrap_or(1)),
        is_at_end: row.get(4),
    }
}

/// The columns of `SELECT_SHARED_RUN`.
pub(super) fn read_view(ledger: &Location, row: &PgRow) -> Result<RunView, Error> {
    let [requests, retries, throttled] = [1, 2, 3].map(|at| count(row, at));
    let (is_at_end, state, has_claims, has_orphans): (bool, &str, bool, bool) =
        (row.get(5), row.get(7), row.get(9), row.get(10));
    let is_done = is_at_end && !has_claims || state == RunState::Completed.name();
    let has_ended = state != RunState::Running.name() && state != RunState::Completed.name();
    let stopping: Option<String> = row.get(8);
    Ok(RunView {
        tally: Tally::from_json(row.get(0)).ok_or_else(|| Error::Newer(ledger.clone()))?,
        requests: RequestCounts { requests, retries, throttled },
        sent: SentCounts { rows: count(row, 12), failures: count(row, 13) },
        imported_seen: count(row, 4),
        cursor_rows: count(row, 6),
        remaining: match (has_orphans, is_done) {
            (true, _) => Remaining::Orphans,
            (false, true) => Remaining::Nothing,
            (false, false) => Remaining::Rows,
        },
        stopping: stopping.or_else(|| has_ended.then(|| "the run has ended".to_owned())),
        workers: count(row, 11),
        all_workers: count(row, 14),
    })
}

/// Rows by field and rule.
pub(super) fn read_dropped(rows: &[PgRow]) -> Dropped {
    let mut dropped = Dropped::default();
    for row in rows {
        if let (Some(field), Some(rule)) = (Field::from_name(row.get(0)), Rule::from_name(row.get(1))) {
            dropped.count(field, rule, count(row, 2));
        }
    }
    dropped
}

/// Rows by field.
pub(super) fn read_field_counts(rows: &[PgRow]) -> impl Iterator<Item = (Field, u64)> {
    rows.iter().filter_map(|row| Some((Field::from_name(row.get(0))?, count(row, 1))))
}

pub(super) fn read_existing(rows: &[PgRow]) -> ExistingCounts {
    ExistingCounts::of_notes(rows.iter().map(|row| (row.get(0), count(row, 1))))
}

pub(super) fn read_sample(row: &PgRow) -> Sample {
    let latencies: Vec<(u16, u64)> = serde_json::from_str(row.get(10)).unwrap_or_default();
    let figures = RequestCounts { requests: count(row, 5), retries: count(row, 6), throttled: count(row, 7) };
    Sample {
        from: Duration::from_millis(count(row, 0)),
        to: Duration::from_millis(count(row, 1)),
        succeeded: count(row, 2),
        faulty: count(row, 3),
        failed: count(row, 4),
        figures,
        in_flight: count(row, 8),
        held_rate: row.get(9),
        latencies: Latencies::from_counts(latencies),
    }
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
