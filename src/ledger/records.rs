//! The rows that the ledger gives its readers: `status`, `report`, `export`, `retry` and `verify`.
//!
//! Pure values, filled by the queries of a backend.

use super::{
    claim::RowError,
    model::{
        ExistingCounts, Heartbeat, Outcome, RequestCounts, RowId, RunId, RunState, Setting, Tally, Target,
    },
    timeline::Sample,
};
use crate::customer::{CharacterCounts, Dropped, FieldCounts, Fingerprint};

/// A run as the ledger knows it.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// The number of the run.
    pub run: RunId,
    /// `import` or `retry`.
    pub command: String,
    /// The source as given.
    pub source: String,
    /// How it ended. A run whose process died is `Running` until the next one begins.
    pub state: RunState,
    /// The exit code, once the run has ended.
    pub exit_code: Option<i64>,
    /// Why the run ended itself.
    pub stop_reason: Option<String>,
    /// UTC milliseconds.
    pub started_at: i64,
    /// UTC milliseconds.
    pub ended_at: Option<i64>,
    /// Rows by outcome.
    pub tally: Tally,
    /// Requests.
    pub request_counts: RequestCounts,
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
    /// Where the run that goes on stands: its number, when it said so (UTC milliseconds), and what.
    pub heartbeat: Option<(RunId, i64, Heartbeat)>,
}

/// What the ledger tells of all its runs together, for their report.
#[derive(Debug)]
pub struct LedgerHistory {
    /// The target, the runs, and where each row stands.
    pub overview: LedgerOverview,
    /// Why rows are not imported, as of now, the most frequent first; without lines, which are of many files.
    pub groups: Vec<ErrorGroup>,
    /// Which characters of invalid rows are not allowed.
    pub characters: CharacterCounts,
}

/// What the ledger tells of one run, for its report.
#[derive(Debug)]
pub struct RunDetails {
    /// The target of the ledger.
    pub target: Option<Target>,
    /// The run.
    pub run: RunRecord,
    /// The options that it was begun with, in the order of its help; none if it crashed before its first commit.
    pub settings: Vec<Setting>,
    /// How it went over time.
    pub samples: Vec<Sample>,
    /// What went wrong, the most frequent first.
    pub groups: Vec<ErrorGroup>,
    /// Which characters of its invalid rows are not allowed.
    pub characters: CharacterCounts,
    /// Where it stands and when it said so (UTC milliseconds), while it goes on.
    pub heartbeat: Option<(i64, Heartbeat)>,
    /// The optional values that its rows went without.
    pub dropped: Dropped,
    /// In which fields its rows differ from what was imported, and how many imported rows its source did not name;
    /// `None` where that is not known.
    pub differences: (FieldCounts, Option<u64>),
    /// What it found out about customers that existed.
    pub existing: ExistingCounts,
    /// The first rows whose reference the API spells in another way: line, and the API's spelling.
    pub respelled: Vec<(u64, String)>,
}

/// The header of a run's source.
#[derive(Clone, Debug)]
pub struct SourceHeader {
    /// The run.
    pub run: RunId,
    /// The columns in order.
    pub names: Vec<String>,
    /// The column of the references, or the template that makes them.
    pub reference: Option<String>,
}

/// A row as exports show it.
#[derive(Clone, Debug)]
pub struct RowRecord {
    /// The run that settled it last.
    pub run: RunId,
    /// The physical line in that run's source.
    pub line: i64,
    /// Its outcome; never `Unchanged` or `Changed`, which only runs count.
    pub outcome: Outcome,
    /// The reference, where the row has one.
    pub reference: Option<String>,
    /// The customer id, exactly where the outcome is a success.
    pub customer_id: Option<String>,
    /// What went wrong.
    pub error: RowError,
    /// Requests that were sent for it.
    pub attempts: i64,
    /// The raw cells, where they are kept.
    pub cells: Option<Vec<String>>,
    /// The run whose header names the cells: a retry settles rows of many files.
    pub columns_of: RunId,
    /// The API's spelling of the reference, where it differs.
    pub api_reference: Option<String>,
}

/// The rows that an export selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Rows with a customer id.
    WithId,
    /// Rows without one.
    WithoutId,
    /// Every row.
    All,
}

/// Rows that went wrong in the same way.
#[derive(Clone, Debug)]
pub struct ErrorGroup {
    /// Their outcome.
    pub outcome: Outcome,
    /// The fields at fault of an invalid row, joined by `;` as are their rules.
    pub field: Option<String>,
    /// The API's code, the names of the rules, or a code of ours.
    pub code: Option<String>,
    /// The HTTP status of the last answer.
    pub http_status: Option<u16>,
    /// How many rows.
    pub rows: u64,
    /// The first of their lines.
    pub first_lines: Vec<u64>,
    /// The message of the first row.
    pub message: Option<String>,
    /// The raw cells of the first row, where they are kept: the message may quote them.
    pub cells: Option<Vec<String>>,
}

/// The rows that `retry` selects among those that did not succeed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryFilter {
    /// Only failed rows, or only rejected ones.
    pub outcome: Option<Outcome>,
    /// Only rows with this code, in lower case: the case of codes does not count.
    pub error_code: Option<String>,
}

impl RetryFilter {
    /// Whether the rows of this count are selected.
    pub fn matches(&self, count: &RetryableCount) -> bool {
        self.outcome.is_none_or(|outcome| outcome == count.outcome)
            && self.error_code.as_ref().is_none_or(|code| *code == count.error_code.to_lowercase())
    }
}

/// How many rows may be retried, by outcome and code.
#[derive(Clone, Debug)]
pub struct RetryableCount {
    /// Failed or rejected.
    pub outcome: Outcome,
    /// The code; empty where there was none.
    pub error_code: String,
    /// How many rows.
    pub rows: u64,
    /// How many of them have their cells, without which a row cannot be sent.
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

/// How the records of a run became customers.
#[derive(Debug)]
pub struct RowMapping {
    /// The run.
    pub run: RunId,
    /// Its header.
    pub columns: Vec<String>,
    /// The column of the references, or the template that makes them.
    pub reference_column: Option<String>,
    /// The other options, as `source` writes them.
    pub options: Option<String>,
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
    /// The row to mark as changed: the file says what the ledger remembers, and the API has other fields. A row
    /// that the ledger remembers otherwise is found changed by the next run as it is.
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
    /// The fields that the ledger remembers, which are those of the file.
    pub(super) remembered: Fingerprint,
    /// The fields at the API.
    pub(super) at_api: Fingerprint,
}

/// What `prune` took out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Runs.
    pub runs: u64,
    /// Rows whose cells are gone.
    pub records: u64,
    /// Invalid rows and duplicates.
    pub rows: u64,
    /// The size of the file before and after, in bytes.
    pub bytes: (u64, u64),
}

impl Pruned {
    /// Whether there was nothing to take out.
    pub fn is_nothing(&self) -> bool {
        (self.runs, self.records, self.rows) == (0, 0, 0)
    }
}
