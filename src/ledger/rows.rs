//! Turns rows of SQL results into values; the queries of both backends have the same columns in the same order.
//!
//! The data may have been written by any client of the database: a count out of range is zero, not a panic. An unknown
//! outcome is an error, because treating it as another outcome would send rows again.

use std::time::Duration;

use super::{
    checkpoint::Checkpoint,
    claim::RowError,
    error::Error,
    location::Location,
    model::{
        Activity, CurrentRate, ExistingCounts, Heartbeat, KnownRow, OpenClaim, Outcome, PendingUpdate,
        RateSetter, RequestCounts, RowId, RunId, RunState, Setting, Tally, Target,
    },
    records::{RecordedHeartbeat, RetryRow, RetryableCount, RowRecord, RunRecord, SourceHeader},
    run_times::RunTimes,
    seen_rows::{SeenBefore, SeenRows},
    timeline::Sample,
};
use crate::{
    customer::{Dropped, Field, Fingerprint, PrefixHash, Reference, Rule, SourcePosition},
    latency::Latencies,
};

/// One row of a result, whose columns are numbered from 0.
pub(super) trait ResultRow {
    /// A number, or null.
    fn integer(&self, at: usize) -> Option<i64>;
    /// A number that may have a fraction, or null.
    fn real(&self, at: usize) -> Option<f64>;
    fn flag(&self, at: usize) -> bool;
    /// A text that this program defines, such as an outcome or JSON, or null.
    fn word(&self, at: usize) -> Option<&str>;
    /// A text that comes from elsewhere, or null.
    fn text(&self, at: usize) -> Option<String>;
    fn bytes(&self, at: usize) -> Option<&[u8]>;
    /// Whether there is such a column: a ledger of an earlier version has fewer.
    fn has(&self, at: usize) -> bool;

    /// A number that is never negative.
    fn count(&self, at: usize) -> u64 {
        self.integer(at).unwrap_or_default().max(0).unsigned_abs()
    }

    fn number(&self, at: usize) -> i64 {
        self.integer(at).unwrap_or_default()
    }

    fn run(&self, at: usize) -> RunId {
        RunId(self.number(at))
    }

    fn fingerprint(&self, at: usize) -> Option<Fingerprint> {
        self.bytes(at).and_then(Fingerprint::recorded)
    }

    /// The outcome with the name in this column; an error if a later version wrote it.
    fn outcome(&self, ledger: impl Into<Location>, at: usize) -> Result<Outcome, Error> {
        outcome_named(ledger, self.word(at).unwrap_or_default())
    }
}

/// The outcome with this name; an error if a later version wrote it.
pub(super) fn outcome_named(ledger: impl Into<Location>, word: &str) -> Result<Outcome, Error> {
    Outcome::from_name(word).ok_or_else(|| Error::Newer(ledger.into()))
}

/// The target of a ledger, in its base URL and its merchant's id.
pub(super) fn read_target(row: &impl ResultRow) -> Target {
    Target { base_url: row.text(0).unwrap_or_default(), merchant_id: row.text(1).unwrap_or_default() }
}

/// A row with a reference that the ledger knows; column 1 is the reference.
pub(super) fn read_known(ledger: impl Into<Location>, row: &impl ResultRow) -> Result<KnownRow, Error> {
    Ok(KnownRow {
        id: RowId(row.number(0)),
        fingerprint: row.fingerprint(2),
        outcome: row.outcome(ledger, 3)?,
        in_doubt: row.flag(4),
        claimed_at: row.integer(5),
        run: row.run(6),
        line: row.count(7),
        may_have_landed: row.flag(8),
    })
}

/// An unsuccessful Update, with the row that it is for.
pub(super) fn read_pending_update(
    ledger: impl Into<Location>,
    row: &impl ResultRow,
) -> Result<(RowId, PendingUpdate), Error> {
    let update = PendingUpdate {
        fingerprint: row.fingerprint(1).unwrap_or_default(),
        outcome: row.outcome(ledger, 2)?,
        may_have_landed: row.flag(3),
    };
    Ok((RowId(row.number(0)), update))
}

/// The rows that a run had seen.
pub(super) fn read_seen_before(row: &impl ResultRow) -> SeenBefore {
    SeenBefore { next_id: RowId(row.number(0)), seen: SeenRows::from_bytes(row.bytes(1).unwrap_or_default()) }
}

/// A run, with its beginning and its end.
pub(super) fn read_run_times(row: &impl ResultRow) -> (RunId, RunTimes) {
    (row.run(0), RunTimes { began: row.number(1), ended: row.number(2) })
}

/// None if the run has reached no checkpoint.
pub(super) fn read_checkpoint(row: &impl ResultRow) -> Option<Checkpoint> {
    let (bytes, line) = (row.integer(0)? as u64, row.integer(1)? as u64);
    let hash = row.word(3).and_then(|hash| u128::from_str_radix(hash, 16).ok());
    let prefix_hash = row.integer(2).zip(hash).map(|(bytes, hash)| PrefixHash { bytes: bytes as u64, hash });
    Some(Checkpoint {
        position: SourcePosition { bytes, line, prefix_hash },
        tally: Tally::from_json(row.word(4)?)?,
        whole_file_only: row.flag(5),
        chain_start: RunId(row.integer(6)?),
    })
}

/// The requested run, or the last one.
pub(super) fn choose_run(mut runs: Vec<RunRecord>, requested: Option<RunId>) -> Option<RunRecord> {
    match requested {
        Some(requested) => runs.into_iter().find(|record| record.run == requested),
        None => runs.pop(),
    }
}

/// An option of a run.
pub(super) fn read_setting(row: &impl ResultRow) -> Setting {
    let [name, value, origin] = [0, 1, 2].map(|at| row.text(at).unwrap_or_default());
    Setting { name, value, origin: origin.into() }
}

/// The number of rows by field and rule.
pub(super) fn read_dropped(rows: &[impl ResultRow]) -> Dropped {
    let mut dropped = Dropped::default();
    for row in rows {
        let field = row.word(0).and_then(Field::from_name);
        if let Some((field, rule)) = field.zip(row.word(1).and_then(Rule::from_name)) {
            dropped.count(field, rule, row.count(2));
        }
    }
    dropped
}

/// The number of rows by field.
pub(super) fn read_field_counts(rows: &[impl ResultRow]) -> impl Iterator<Item = (Field, u64)> {
    rows.iter().filter_map(|row| Some((Field::from_name(row.word(0)?)?, row.count(1))))
}

/// The number of existing customers by note.
pub(super) fn read_existing(rows: &[impl ResultRow]) -> ExistingCounts {
    ExistingCounts::of_notes(rows.iter().map(|row| (row.word(0).unwrap_or_default(), row.count(1))))
}

pub(super) fn read_sample(row: &impl ResultRow) -> Sample {
    let latencies: Vec<(u16, u64)> =
        serde_json::from_str(row.word(10).unwrap_or_default()).unwrap_or_default();
    Sample {
        from: Duration::from_millis(row.count(0)),
        to: Duration::from_millis(row.count(1)),
        succeeded: row.count(2),
        faulty: row.count(3),
        failed: row.count(4),
        request_counts: request_counts(row, 5),
        in_flight: row.count(8),
        held_rate: row.real(9),
        latencies: Latencies::from_counts(latencies),
    }
}

/// A heartbeat; column 0 is its id. Two columns are missing in a ledger of an earlier version.
pub(super) fn read_heartbeat(row: &impl ResultRow) -> RecordedHeartbeat {
    let activity = Activity::ALL.into_iter().find(|activity| row.word(3) == Some(activity.name()));
    let set_by = RateSetter::ALL.into_iter().find(|by| row.has(12) && row.word(12) == Some(by.name()));
    let rate = |per_second| CurrentRate { per_second, set_by: set_by.unwrap_or(RateSetter::User) };
    let heartbeat = Heartbeat {
        activity: activity.unwrap_or_default(),
        total: row.integer(4).map(|total| total.max(0).unsigned_abs()),
        is_exact: row.flag(5),
        rows_per_second: row.real(6).unwrap_or_default(),
        in_flight: row.count(7),
        retrying: row.count(8),
        in_doubt: row.count(9),
        rate: row.real(10).map(rate),
        cause: row.text(11).map(Into::into),
        pauses: if row.has(13) { row.count(13) } else { 0 },
    };
    RecordedHeartbeat { run: row.run(1), at: row.number(2), heartbeat }
}

/// Requests, retries and throttled requests, in three columns.
fn request_counts(row: &impl ResultRow, at: usize) -> RequestCounts {
    RequestCounts { requests: row.count(at), retries: row.count(at + 1), throttled: row.count(at + 2) }
}

/// A run; `unended` is the state of a run whose end is not recorded.
pub(super) fn read_run(
    ledger: impl Into<Location>,
    row: &impl ResultRow,
    unended: RunState,
) -> Result<RunRecord, Error> {
    let ended = [RunState::Completed, RunState::Interrupted, RunState::Stopped];
    let state = ended.into_iter().find(|state| row.word(3) == Some(state.name()));
    let tally = row.word(11).and_then(Tally::from_json);
    Ok(RunRecord {
        run: row.run(0),
        command: row.text(1).unwrap_or_default(),
        source: row.text(2).unwrap_or_default(),
        state: state.unwrap_or(unended),
        exit_code: row.integer(4),
        stop_reason: row.text(5),
        started_at: row.number(6),
        ended_at: row.integer(7),
        sampled: row.integer(12).map(|to| Duration::from_millis(to.max(0).unsigned_abs())),
        tally: tally.ok_or_else(|| Error::Newer(ledger.into()))?,
        request_counts: request_counts(row, 8),
    })
}

/// A row with everything that the ledger says about it; column 0 is its id.
pub(super) fn read_row(ledger: impl Into<Location>, row: &impl ResultRow) -> Result<RowRecord, Error> {
    Ok(RowRecord {
        run: row.run(1),
        line: row.number(2),
        outcome: row.outcome(ledger, 3)?,
        reference: row.text(4),
        customer_id: row.text(5),
        attempts: row.number(6),
        error: RowError {
            field: row.text(7),
            code: row.text(8),
            message: row.text(9),
            http_status: row.integer(10).and_then(|status| status.try_into().ok()),
            request_id: row.text(11),
        },
        cells: row.word(12).and_then(|cells| serde_json::from_str(cells).ok()),
        columns_of: row.run(13),
        api_reference: row.text(14),
    })
}

/// The claim of a row that is in doubt.
pub(super) fn read_in_doubt(row: &impl ResultRow) -> OpenClaim {
    OpenClaim {
        id: RowId(row.number(0)),
        line: row.count(1),
        reference: Reference::recorded(&row.text(2).unwrap_or_default()),
        fingerprint: row.fingerprint(3),
        claimed_at: row.integer(4),
    }
}

/// The claim of a new row that is not settled yet, with its reference.
pub(super) fn read_claim(row: &impl ResultRow) -> (String, KnownRow) {
    let known = KnownRow {
        id: RowId(row.number(0)),
        run: row.run(1),
        line: row.count(2),
        fingerprint: row.word(4).and_then(Fingerprint::from_hex),
        outcome: Outcome::Pending,
        in_doubt: true,
        may_have_landed: false,
        claimed_at: row.integer(5),
    };
    (row.text(3).unwrap_or_default(), known)
}

pub(super) fn read_retry_row(row: &impl ResultRow) -> RetryRow {
    RetryRow {
        id: RowId(row.number(0)),
        line: row.count(1),
        columns_of: row.run(2),
        cells: row.word(3).and_then(|cells| serde_json::from_str(cells).ok()).unwrap_or_default(),
    }
}

pub(super) fn read_retryable_count(
    ledger: impl Into<Location>,
    row: &impl ResultRow,
) -> Result<RetryableCount, Error> {
    Ok(RetryableCount {
        outcome: row.outcome(ledger, 0)?,
        error_code: row.text(1).unwrap_or_default(),
        rows: row.count(2),
        with_cells: row.count(3),
    })
}

/// The headers of runs. If all runs are deleted, the one that rows have of which only the reference is left.
pub(super) fn read_headers(rows: &[impl ResultRow], requested: Option<RunId>) -> Vec<SourceHeader> {
    if !rows.is_empty() || requested.is_some() {
        return rows.iter().map(read_header).collect();
    }
    let names = [Field::Reference, Field::MobileNumber].map(|field| field.name().to_owned());
    vec![SourceHeader { run: RunId::PRUNED, reference: Some(names[0].clone()), names: names.into() }]
}

fn read_header(row: &impl ResultRow) -> SourceHeader {
    SourceHeader {
        run: row.run(0),
        names: row.word(1).and_then(|names| serde_json::from_str(names).ok()).unwrap_or_default(),
        reference: row.text(2),
    }
}
