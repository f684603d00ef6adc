//! The values that every ledger keeps, whatever stores them: ids, outcomes, counts, and what is known of a row.
//!
//! Pure: no SQL, no file, no clock. The words of [`Outcome`], [`RunState`] and [`Activity`] are a contract: exports,
//! summaries and tables use them. Each class of outcomes is defined here and nowhere else, so that a new
//! outcome is added in one place.

use std::sync::Arc;

use crate::customer::{FieldCounts, FieldSet, Fingerprint, Reference};

/// The number of a row, given in file order and never given twice.
///
/// A type of its own because rows, runs and lines are all whole numbers, and SQLite would take one for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RowId(pub i64);

/// The number of a run, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RunId(pub i64);

impl RunId {
    /// The run that rows are handed to when their own is pruned. No list shows it.
    pub const PRUNED: RunId = RunId(0);
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The API and merchant whose customers a ledger records; another target is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The API's base URL, normalized.
    pub base_url: String,
    /// The merchant.
    pub merchant_id: String,
}

/// An option that a run was begun with; never a secret.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Setting {
    /// Its long name.
    pub name: String,
    /// As text.
    pub value: String,
    /// Where the value came from.
    pub origin: SettingOrigin,
}

/// Where the value of an option came from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(into = "String")]
pub enum SettingOrigin {
    /// The default.
    Default,
    /// The command line.
    Flag,
    /// A variable of the environment, or a file and its line.
    Named(String),
}

impl SettingOrigin {
    /// The text that the ledger stores and reports show.
    pub fn as_str(&self) -> &str {
        match self {
            SettingOrigin::Default => "default",
            SettingOrigin::Flag => "flag",
            SettingOrigin::Named(name) => name,
        }
    }
}

impl From<String> for SettingOrigin {
    fn from(text: String) -> SettingOrigin {
        match text.as_str() {
            "default" => SettingOrigin::Default,
            "flag" => SettingOrigin::Flag,
            _ => SettingOrigin::Named(text),
        }
    }
}

impl From<SettingOrigin> for String {
    fn from(origin: SettingOrigin) -> String {
        origin.as_str().to_owned()
    }
}

impl std::fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// The command that a run carries out, which decides what is sent for a row that was imported before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Command {
    /// Imported rows that differ are reported.
    #[default]
    Import,
    /// Imported rows that differ are updated, except where the API has refused the same fields.
    ImportAndUpdate,
    /// The rows are the ledger's own, and are sent again whatever became of them.
    Retry,
}

impl Command {
    /// The word of the ledger and of reports.
    pub fn name(self) -> &'static str {
        match self {
            Command::Import | Command::ImportAndUpdate => "import",
            Command::Retry => "retry",
        }
    }
}

/// What a run is when it begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRun<'a> {
    /// The command.
    pub command: Command,
    /// The source as given.
    pub source: &'a str,
    /// The canonical path of the source, if it is a file.
    pub source_path: Option<&'a str>,
    /// The header of the source.
    pub columns: &'a [String],
    /// The column of the references, or the template that makes them.
    pub reference_column: Option<&'a str>,
    /// A hash of every option that decides what the source's bytes mean. A run resumes at the checkpoint of an
    /// earlier one only if this is equal.
    pub parse_settings_hash: &'a str,
    /// How records become customers, kept for a later retry; none for a retry, whose rows bring their own.
    pub row_mapping: Option<&'a str>,
    /// The options of the run, without secrets.
    pub settings: &'a [Setting],
}

/// What became of a row; each data row of a source is in exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Created by this ledger's runs.
    Created,
    /// The merchant had the customer already.
    Existing,
    /// An earlier run imported it, with the same fields.
    Unchanged,
    /// An earlier run imported it; the fields differ now.
    Changed,
    /// Imported before with other fields; the API accepted the Update.
    Updated,
    /// An earlier row of the same source has this reference.
    Duplicate,
    /// The row breaks a rule.
    Invalid,
    /// The API refused this row.
    Rejected,
    /// Attempts used up on errors that may be temporary.
    Failed,
    /// Not settled yet.
    Pending,
}

impl Outcome {
    /// All ten, in the order in which they are shown.
    pub const ALL: [Outcome; 10] = [
        Outcome::Created,
        Outcome::Existing,
        Outcome::Unchanged,
        Outcome::Changed,
        Outcome::Updated,
        Outcome::Duplicate,
        Outcome::Invalid,
        Outcome::Rejected,
        Outcome::Failed,
        Outcome::Pending,
    ];

    /// The word for it, in the ledger and in every output.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Created => "created",
            Outcome::Existing => "existing",
            Outcome::Unchanged => "unchanged",
            Outcome::Changed => "changed",
            Outcome::Updated => "updated",
            Outcome::Duplicate => "duplicate",
            Outcome::Invalid => "invalid",
            Outcome::Rejected => "rejected",
            Outcome::Failed => "failed",
            Outcome::Pending => "pending",
        }
    }

    /// What the outcome means, in a few words.
    pub fn explanation(self) -> &'static str {
        match self {
            Outcome::Created => "created by this ledger's runs",
            Outcome::Existing => "the merchant had it already; id found",
            Outcome::Unchanged => "imported before, same fields; nothing sent",
            Outcome::Changed => "imported before, fields differ; nothing sent",
            Outcome::Updated => "imported before, differed; update accepted",
            Outcome::Duplicate => "an earlier row has this reference",
            Outcome::Invalid => "breaks a rule; nothing sent",
            Outcome::Rejected => "refused by the API",
            Outcome::Failed => "attempts used up; a rerun tries again",
            Outcome::Pending => "not settled yet; a rerun goes on",
        }
    }

    /// The outcome of that word.
    pub fn from_name(name: &str) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|outcome| outcome.name() == name)
    }

    /// What is to be done about rows with this outcome.
    pub fn class(self) -> OutcomeClass {
        match self {
            Outcome::Created
            | Outcome::Existing
            | Outcome::Unchanged
            | Outcome::Changed
            | Outcome::Updated => OutcomeClass::Imported,
            Outcome::Duplicate | Outcome::Invalid => OutcomeClass::Unsendable,
            Outcome::Rejected => OutcomeClass::Rejected,
            Outcome::Failed => OutcomeClass::Failed,
            Outcome::Pending => OutcomeClass::Pending,
        }
    }

    /// Whether the row's customer is at the API, with its id known.
    pub fn is_success(self) -> bool {
        self.class() == OutcomeClass::Imported
    }

    /// Whether the row's fields have to be corrected.
    pub fn is_to_correct(self) -> bool {
        matches!(self.class(), OutcomeClass::Unsendable | OutcomeClass::Rejected)
    }

    /// Whether the row was sent without success: `retry` sends it again.
    pub fn is_retryable(self) -> bool {
        matches!(self.class(), OutcomeClass::Rejected | OutcomeClass::Failed)
    }
}

/// What is to be done about a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeClass {
    /// Nothing: its customer is at the API, with its id known.
    Imported,
    /// Its fields have to be corrected; nothing was sent.
    Unsendable,
    /// Its fields have to be corrected; the API refused it.
    Rejected,
    /// A rerun tries it again.
    Failed,
    /// A rerun goes on with it.
    Pending,
}

/// Committed counts by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally(pub(super) [u64; Outcome::ALL.len()]);

impl Tally {
    /// How many rows have this outcome.
    pub fn get(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize]
    }

    /// All rows.
    pub fn rows(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Rows whose outcome satisfies the condition.
    pub fn sum(&self, condition: impl Fn(Outcome) -> bool) -> u64 {
        Outcome::ALL.into_iter().filter(|outcome| condition(*outcome)).map(|outcome| self.get(outcome)).sum()
    }

    /// The rows of both.
    pub(super) fn plus(&self, other: &Tally) -> Tally {
        Tally(std::array::from_fn(|at| self.0[at] + other.0[at]))
    }

    /// The counts of the same rows in a later run: what was imported then is unchanged now.
    pub(super) fn seen_again(&self) -> Tally {
        let mut again = Tally::default();
        for outcome in Outcome::ALL {
            let is_imported = outcome.is_success() && outcome != Outcome::Changed;
            let now = if is_imported { Outcome::Unchanged } else { outcome };
            again.0[now as usize] += self.get(outcome);
        }
        again
    }

    /// One more row.
    pub(super) fn add(&mut self, outcome: Outcome) {
        self.0[outcome as usize] += 1;
    }

    /// Moves a row from pending to its outcome.
    pub(super) fn settle(&mut self, outcome: Outcome) {
        self.0[Outcome::Pending as usize] -= 1;
        self.add(outcome);
    }
}

impl FromIterator<(Outcome, u64)> for Tally {
    fn from_iter<I: IntoIterator<Item = (Outcome, u64)>>(counts: I) -> Tally {
        let mut tally = Tally::default();
        for (outcome, count) in counts {
            tally.0[outcome as usize] = count;
        }
        tally
    }
}

/// The requests of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// Every HTTP request.
    pub requests: u64,
    /// Requests that repeated a step.
    pub retries: u64,
    /// Answers with status 429.
    pub throttled: u64,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// The run goes on, or its process died and the ledger does not know it yet.
    Running,
    /// Its process died: the ledger calls it running, and no process holds the lock. Never recorded.
    Died,
    /// The run reached the end of its source.
    Completed,
    /// The user ended the run.
    Interrupted,
    /// The run ended itself.
    Stopped,
}

impl RunState {
    /// The word for it, in the ledger and in every output.
    pub fn name(self) -> &'static str {
        match self {
            RunState::Running => "running",
            RunState::Died => "died",
            RunState::Completed => "completed",
            RunState::Interrupted => "interrupted",
            RunState::Stopped => "stopped",
        }
    }
}

/// What a run found out about customers that the API had already. Counts only, never a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExistingCounts {
    /// Rows whose customer has other fields at the API.
    pub differing: u64,
    /// By field: rows in which it differs.
    pub fields: FieldCounts,
    /// Rows for which it is unknown whether a Create of ours made the customer.
    pub uncertain: u64,
    /// Rows whose reference the API spells in another way.
    pub respelled: u64,
}

impl ExistingCounts {
    /// Counts a row whose customer has other values in these fields.
    pub(super) fn add(&mut self, fields: FieldSet) {
        self.differing += u64::from(!fields.is_empty());
        self.fields.add(fields);
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &ExistingCounts) {
        self.differing += other.differing;
        self.uncertain += other.uncertain;
        self.respelled += other.respelled;
        self.fields = self.fields.iter().chain(other.fields.iter()).collect();
    }
}

/// What a run is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    /// Rows are sent.
    #[default]
    Sending,
    /// Rows in doubt are looked up; no other row is sent yet.
    Asking,
    /// The API has asked for a pause.
    Paused,
    /// The API gives no good answer; every request waits for it.
    Waiting,
    /// No new request is started; those in flight may finish.
    Finishing,
}

impl Activity {
    pub(super) const ALL: [Activity; 5] =
        [Activity::Sending, Activity::Asking, Activity::Paused, Activity::Waiting, Activity::Finishing];

    /// The word of the ledger and of `status --format json`.
    pub fn name(self) -> &'static str {
        match self {
            Activity::Sending => "sending",
            Activity::Asking => "asking",
            Activity::Paused => "paused",
            Activity::Waiting => "waiting",
            Activity::Finishing => "ending",
        }
    }
}

/// Who has set the rate in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateSetter {
    /// The user, with `--rate`.
    User,
    /// The API: by its refusals, or by the quota that it names.
    Api,
}

impl RateSetter {
    pub(super) const ALL: [RateSetter; 2] = [RateSetter::User, RateSetter::Api];

    /// The word of the ledger and of `status --format json`.
    pub fn name(self) -> &'static str {
        match self {
            RateSetter::User => "user",
            RateSetter::Api => "api",
        }
    }
}

/// A rate in force.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurrentRate {
    /// Requests per second.
    pub per_second: f64,
    /// Who has set it.
    pub set_by: RateSetter,
}

/// Where a run stands at this moment, beside its committed counts.
///
/// The run writes it about once a second in a commit of its own making, so that `status` in another terminal shows
/// what the progress bar shows. Nothing is decided by it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heartbeat {
    /// What the run is doing.
    pub activity: Activity,
    /// Rows of the whole source; none where it is unknown.
    pub total: Option<u64>,
    /// Whether the source was read to its end, so that `total` is no estimate.
    pub is_exact: bool,
    /// Rows settled per second, over the last seconds.
    pub rows_per_second: f64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Rows that wait for their next attempt.
    pub retrying: u64,
    /// Rows whose customers an earlier run or this one may have created.
    pub in_doubt: u64,
    /// The rate in force; none without one.
    pub rate: Option<CurrentRate>,
    /// Pauses that the API has asked for so far.
    pub pauses: u64,
    /// Why everything waits, in words, while it does.
    pub cause: Option<Arc<str>>,
}

/// The counts of a run that each commit writes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RunCounts {
    pub(super) tally: Tally,
    pub(super) requests: RequestCounts,
    /// The physical line of the last row that was claimed.
    pub(super) last_line: u64,
}

/// The row that owns a reference.
#[derive(Clone, Debug)]
pub(super) struct KnownRow {
    pub(super) id: RowId,
    /// The run that settled it last.
    pub(super) run: RunId,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) outcome: Outcome,
    pub(super) in_doubt: bool,
    /// A Create may have landed at some time, whatever a later Get said.
    pub(super) may_have_landed: bool,
    pub(super) claimed_at: Option<i64>,
    /// The physical line in the source of `run`.
    pub(super) line: u64,
}

impl KnownRow {
    /// Whether these are the fields that were sent for the row.
    pub(super) fn has_fields(&self, fields: Fingerprint) -> bool {
        self.fingerprint.is_some_and(|sent| sent.is_same(fields))
    }
}

/// A row that an earlier run left in doubt.
#[derive(Debug)]
pub(super) struct OpenClaim {
    pub(super) id: RowId,
    pub(super) line: u64,
    pub(super) reference: Reference,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) claimed_at: Option<i64>,
}

/// An Update that was refused, failed, or has no answer yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingUpdate {
    /// The fields that were sent.
    pub(super) fingerprint: Fingerprint,
    pub(super) outcome: Outcome,
    pub(super) may_have_landed: bool,
}

/// The customer of an imported row that is to be updated.
#[derive(Clone, Debug, Default)]
pub(super) struct CustomerName {
    pub(super) customer_id: String,
    /// The API's spelling of the reference, where it differs from the row's.
    pub(super) api_reference: Option<Reference>,
}
