//! The records that the ledger returns to its readers: `status`, `report`, `export`, `retry` and `verify`.
//!
//! Plain values, filled by the queries of a backend.

use std::time::Duration;

use super::{
    claim::RowError,
    model::{
        ExistingCounts, Heartbeat, Outcome, RequestCounts, RowId, RunId, RunState, Setting, Tally, Target,
    },
    timeline::Sample,
};
use crate::customer::{Dropped, FieldCounts, Fingerprint, InvalidCounts};

/// A run as recorded in the ledger.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// The number of the run.
    pub run: RunId,
    /// `import` or `retry`.
    pub command: String,
    /// The source as given.
    pub source: String,
    /// The state. A run whose process crashed is `Running` until the next run begins.
    pub state: RunState,
    /// The exit code, once the run has ended.
    pub exit_code: Option<i64>,
    /// Why the run stopped by itself.
    pub stop_reason: Option<String>,
    /// UTC milliseconds.
    pub started_at: i64,
    /// UTC milliseconds.
    pub ended_at: Option<i64>,
    /// The end of the last sample, since the beginning of the run; `None` without samples.
    pub sampled: Option<Duration>,
    /// Rows by outcome.
    pub tally: Tally,
    /// Requests.
    pub request_counts: RequestCounts,
}

/// How much longer than its samples a run may have lasted; if the clock says more, it was set meanwhile.
const BEYOND_SAMPLES_MAX: Duration = Duration::from_secs(15 * 60);

impl RunRecord {
    /// How long the run lasted, or has lasted at `now` (UTC milliseconds). The samples are timed by the monotonic
    /// clock, so they are right if the wall clock was set during the run. `None` for a crashed run.
    pub fn duration(&self, now: i64) -> Option<Duration> {
        let by_clock =
            Duration::from_millis(self.end(now)?.saturating_sub(self.started_at).max(0).unsigned_abs());
        let was_set = |seen: &Duration| by_clock < *seen || by_clock > *seen + BEYOND_SAMPLES_MAX;
        Some(self.sampled.filter(was_set).unwrap_or(by_clock))
    }

    /// When the run ended, or `now` while it is in progress (UTC milliseconds). `None` for a crashed run: the ledger
    /// records only when the next run detected the crash.
    pub fn end(&self, now: i64) -> Option<i64> {
        match self.state {
            RunState::Running => Some(now),
            _ => self.ended_at.filter(|_| self.exit_code.is_some()),
        }
    }
}

/// The last heartbeat of a run.
#[derive(Clone, Debug)]
pub struct RecordedHeartbeat {
    /// The run.
    pub run: RunId,
    /// When the run wrote it; UTC milliseconds.
    pub at: i64,
    /// Its content.
    pub heartbeat: Heartbeat,
}

/// What `status` shows of a ledger.
#[derive(Debug)]
pub struct LedgerOverview {
    /// The target; `None` before the first run.
    pub target: Option<Target>,
    /// Every run, in order.
    pub runs: Vec<RunRecord>,
    /// Rows by outcome over all runs.
    pub outcomes: Tally,
    /// The last heartbeat of the current run.
    pub heartbeat: Option<RecordedHeartbeat>,
    /// The workers of the current run; empty if the ledger is in a file.
    pub workers: Vec<WorkerRecord>,
    /// The oldest transaction on the server that has been open for long, if there is one and it may be seen.
    pub old_transaction: Option<OldTransaction>,
}

impl LedgerOverview {
    /// The current run with its last heartbeat, if it has one.
    pub fn live(&self) -> Option<(&RunRecord, &RecordedHeartbeat)> {
        self.runs.last().zip(self.heartbeat.as_ref()).filter(|(run, last)| last.run == run.run)
    }
}

/// A transaction of whatever program that has been open for long. The server cannot clean up what it could still read.
#[derive(Debug, serde::Serialize)]
pub struct OldTransaction {
    /// The name that the program has given itself; may be empty.
    pub application: String,
    /// The user of the database.
    pub user: String,
    /// What the connection is doing, such as `idle in transaction`.
    pub state: String,
    /// Seconds since its beginning.
    pub age_seconds: u64,
}

/// A process that works or has worked on a run.
#[derive(Debug, serde::Serialize)]
pub struct WorkerRecord {
    /// Its number in the ledger.
    pub worker: i64,
    /// The host that it runs on.
    pub host: String,
    /// The version of the program.
    pub version: String,
    /// `alive`, `left` or `dead`.
    pub state: String,
    /// Seconds since its last commit.
    pub age_seconds: u64,
    /// Rows that it has settled.
    pub rows_settled: u64,
    /// Its requests in flight, as of its last heartbeat.
    pub in_flight: u64,
    /// Its exit code, once it has left.
    pub exit_code: Option<i64>,
    /// Why it ended before the run.
    pub stop_reason: Option<String>,
}

/// The ledger's records of all its runs, for the report on them.
#[derive(Debug)]
pub struct LedgerHistory {
    /// The target, the runs, and the number of rows by outcome.
    pub overview: LedgerOverview,
    /// Why rows are not imported currently, the most frequent reason first; without lines, because the rows come
    /// from many files.
    pub groups: Vec<ErrorGroup>,
    /// What the messages of invalid rows tell.
    pub invalid: InvalidCounts,
}

/// The ledger's records of one run, for its report.
#[derive(Debug)]
pub struct RunDetails {
    /// The target of the ledger.
    pub target: Option<Target>,
    /// The run.
    pub run: RunRecord,
    /// The options of the run, in the order of the help; none if it crashed before its first commit.
    pub settings: Vec<Setting>,
    /// The samples over time.
    pub samples: Vec<Sample>,
    /// The errors, the most frequent first.
    pub groups: Vec<ErrorGroup>,
    /// What the messages of its invalid rows tell.
    pub invalid: InvalidCounts,
    /// The last heartbeat, while the run is in progress.
    pub heartbeat: Option<RecordedHeartbeat>,
    /// The optional values that were dropped.
    pub dropped: Dropped,
    /// Number of imported rows in which each field differs from what was imported.
    pub changed: FieldCounts,
    /// The number of imported rows that the source did not contain, if it is known.
    pub absent: Option<u64>,
    /// What was found about customers that already existed.
    pub existing: ExistingCounts,
    /// The first rows whose reference the API spells differently: line, and the API's spelling.
    pub respelled: Vec<(u64, String)>,
}

/// The header of a run's source.
#[derive(Clone, Debug)]
pub struct SourceHeader {
    /// The run.
    pub run: RunId,
    /// The columns in order.
    pub names: Vec<String>,
    /// The column of the references, or the template that they are made of.
    pub reference: Option<String>,
}

/// A row as exported.
#[derive(Clone, Debug)]
pub struct RowRecord {
    /// The last run that settled it.
    pub run: RunId,
    /// The physical line in that run's source.
    pub line: i64,
    /// Its outcome; never `Unchanged` or `Changed`, which only runs count.
    pub outcome: Outcome,
    /// The reference, if the row has one.
    pub reference: Option<String>,
    /// The customer id; present exactly if the outcome is a success.
    pub customer_id: Option<String>,
    /// Why the row did not succeed.
    pub error: RowError,
    /// Number of requests sent for it.
    pub attempts: i64,
    /// The raw cells, if they are stored.
    pub cells: Option<Vec<String>>,
    /// The run whose header names the cells: a retry settles rows of many files.
    pub columns_of: RunId,
    /// The API's spelling of the reference, if it differs.
    pub api_reference: Option<String>,
}

/// The rows that a reader passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Rows with a customer id.
    WithId,
    /// Rows without a customer id.
    WithoutId,
    /// Invalid rows, in any order.
    Invalid,
    /// Every row.
    All,
}

/// Rows with the same kind of error.
#[derive(Clone, Debug)]
pub struct ErrorGroup {
    /// Their outcome.
    pub outcome: Outcome,
    /// The faulty fields of an invalid row, joined by `;`, like the rules.
    pub field: Option<String>,
    /// The API's code, the names of the rules, or a code of this program.
    pub code: Option<String>,
    /// The HTTP status of the last response.
    pub http_status: Option<u16>,
    /// The number of rows.
    pub rows: u64,
    /// The first of their lines.
    pub first_lines: Vec<u64>,
    /// The message of the first row.
    pub message: Option<String>,
    /// The raw cells of the first row, if they are stored: the message may quote them.
    pub cells: Option<Vec<String>>,
}

/// The rows that `retry` selects among those that did not succeed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryFilter {
    /// Only failed rows, or only rejected ones.
    pub outcome: Option<Outcome>,
    /// Only rows with this code, in lower case: codes are compared without regard to case.
    pub error_code: Option<String>,
}

impl RetryFilter {
    /// Whether the rows of this count are selected.
    pub fn matches(&self, count: &RetryableCount) -> bool {
        self.outcome.is_none_or(|outcome| outcome == count.outcome)
            && self.error_code.as_ref().is_none_or(|code| *code == count.error_code.to_lowercase())
    }
}

/// The number of rows that can be retried, by outcome and code.
#[derive(Clone, Debug)]
pub struct RetryableCount {
    /// Failed or rejected.
    pub outcome: Outcome,
    /// The code; empty if there was none.
    pub error_code: String,
    /// The number of rows.
    pub rows: u64,
    /// How many of them have stored cells, without which a row cannot be sent.
    pub with_cells: u64,
}

/// A row to retry.
#[derive(Debug)]
pub struct RetryRow {
    /// Its id in the ledger.
    pub id: RowId,
    /// The physical line in its own source.
    pub line: u64,
    /// The run whose header names the cells.
    pub columns_of: RunId,
    /// The raw cells.
    pub cells: Vec<String>,
}

/// The options by which the records of a run became customers.
#[derive(Debug)]
pub struct RowMapping {
    /// The run.
    pub run: RunId,
    /// Its header.
    pub columns: Vec<String>,
    /// The column of the references, or the template that they are made of.
    pub reference_column: Option<String>,
    /// The other options, as serialized by `source`.
    pub options: Option<String>,
    /// Whether the ledger has cells of its rows, to be sent again or exported.
    pub has_cells: bool,
    /// The name of its source.
    pub source: String,
}

/// An imported row that `verify` looks up.
#[derive(Clone, Debug)]
pub struct ImportedRow {
    pub(super) id: RowId,
    /// The customer id.
    pub customer_id: String,
    pub(super) remembered: Fingerprint,
}

impl ImportedRow {
    /// The change to record, if the file has the fields that the ledger stores and the API has others. If the ledger
    /// stores other fields than the file, the next run finds the row changed without a record.
    pub fn changed_at_api(&self, of_file: Fingerprint, api_fields: Fingerprint) -> Option<ChangedAtApi> {
        let at_api = of_file.at_api(api_fields, true);
        let is_changed = self.remembered.is_same(of_file) && !at_api.is_same(of_file);
        is_changed.then_some(ChangedAtApi { id: self.id, remembered: self.remembered, at_api })
    }
}

/// A row whose customer has other fields at the API than in the file.
#[derive(Clone, Copy, Debug)]
pub struct ChangedAtApi {
    pub(super) id: RowId,
    /// The fields stored in the ledger, which are those of the file.
    pub(super) remembered: Fingerprint,
    /// The fields at the API.
    pub(super) at_api: Fingerprint,
}

/// What `prune` deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Runs.
    pub runs: u64,
    /// Number of rows whose cells were deleted.
    pub records: u64,
    /// Number of invalid rows and duplicates, which were deleted with their runs.
    pub unsendable: u64,
    /// The size of the ledger before, in bytes.
    pub bytes_before: u64,
    /// The size of the ledger after, in bytes.
    pub bytes_after: u64,
}

impl Pruned {
    /// Whether nothing was deleted.
    pub fn is_nothing(&self) -> bool {
        (self.runs, self.records, self.unsendable) == (0, 0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_during_a_run_does_not_make_it_longer_or_shorter() {
        let took = |seconds: i64, sampled: Option<u64>| {
            let run = RunRecord {
                run: RunId(1),
                command: "import".into(),
                source: "users.csv".into(),
                state: RunState::Completed,
                exit_code: Some(0),
                stop_reason: None,
                started_at: 1_000_000,
                ended_at: Some(1_000_000 + seconds * 1000),
                sampled: sampled.map(Duration::from_secs),
                tally: Tally::default(),
                request_counts: RequestCounts::default(),
            };
            run.duration(0).unwrap().as_secs()
        };
        assert_eq!([31, 86_400, -3600].map(|seconds| took(seconds, Some(30))), [31, 30, 30]);
        assert_eq!([0, 31].map(|seconds| took(seconds, None)), [0, 31]);
    }
}
