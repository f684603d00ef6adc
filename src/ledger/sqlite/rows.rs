//! Turns columns of the ledger into values, for the writer and the reader.
//!
//! The data may have been written by any SQLite client: a count out of range is zero, not a panic. An unknown outcome
//! is an error, because treating it as another outcome would send rows again.

use std::{path::Path, time::Duration};

use sqlx::{Row as _, sqlite::SqliteRow};

use super::super::{
    checkpoint::Checkpoint,
    error::Error,
    model::{ExistingCounts, KnownRow, Outcome, RequestCounts, RowId, RunId, Tally},
    timeline::Sample,
};
use crate::{
    customer::{Dropped, Field, Fingerprint, PrefixHash, Rule, SourcePosition},
    latency::Latencies,
};

pub(super) type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// A count.
pub(super) fn count(row: &SqliteRow, at: usize) -> u64 {
    row.get::<i64, _>(at).max(0).unsigned_abs()
}

/// The outcome with this name; an error if a later version wrote it.
pub(super) fn read_outcome(path: &Path, word: &str) -> Result<Outcome, Error> {
    Outcome::from_name(word).ok_or_else(|| Error::Newer(path.into()))
}

pub(super) fn read_known(path: &Path, row: &SqliteRow) -> Result<KnownRow, Error> {
    Ok(KnownRow {
        id: RowId(row.get(0)),
        fingerprint: row.get::<Option<&[u8]>, _>(2).and_then(Fingerprint::recorded),
        outcome: read_outcome(path, row.get(3))?,
        in_doubt: row.get(4),
        claimed_at: row.get(5),
        run: RunId(row.get(6)),
        line: count(row, 7),
        may_have_landed: row.get(8),
    })
}

/// None if the run has reached no checkpoint.
pub(super) fn read_checkpoint(row: &SqliteRow) -> Option<Checkpoint> {
    let bytes: i64 = row.get::<Option<i64>, _>(0)?;
    let proof_bytes: Option<i64> = row.get(2);
    let hash = row.get::<Option<&str>, _>(3).and_then(|hash| u128::from_str_radix(hash, 16).ok());
    let prefix_hash = proof_bytes.zip(hash).map(|(bytes, hash)| PrefixHash { bytes: bytes as u64, hash });
    let tally = Tally::from_json(row.get(4))?;
    let position = SourcePosition { bytes: bytes as u64, line: row.get::<i64, _>(1) as u64, prefix_hash };
    Some(Checkpoint { position, tally, whole_file_only: row.get(5), chain_start: RunId(row.get(6)) })
}

/// The number of rows by field and rule.
pub(super) fn read_dropped(rows: &[SqliteRow]) -> Dropped {
    let mut dropped = Dropped::default();
    for row in rows {
        if let (Some(field), Some(rule)) = (Field::from_name(row.get(0)), Rule::from_name(row.get(1))) {
            dropped.count(field, rule, count(row, 2));
        }
    }
    dropped
}

/// The number of rows by field.
pub(super) fn read_field_counts(rows: &[SqliteRow]) -> impl Iterator<Item = (Field, u64)> {
    rows.iter().filter_map(|row| Some((Field::from_name(row.get(0))?, count(row, 1))))
}

pub(super) fn read_existing(rows: &[SqliteRow]) -> ExistingCounts {
    ExistingCounts::of_notes(rows.iter().map(|row| (row.get(0), count(row, 1))))
}

pub(super) fn read_sample(row: &SqliteRow) -> Sample {
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
