//! The values that every ledger stores, whatever the backend: ids, outcomes, counts, and the known state of a row.
//!
//! Pure: no SQL, no file, no clock. The names of [`Outcome`], [`RunState`] and [`Activity`] are a contract: exports,
//! summaries and tables use them. Each class of outcomes is defined only here, so that a new outcome is added in one
//! place.

use std::{sync::Arc, time::Duration};

use crate::customer::{Customer, Field, FieldCounts, FieldSet, Fingerprint, Reference};

/// The number of a row, assigned in file order and never reused.
///
/// A type of its own, because rows, runs and lines are all whole numbers, and SQLite would accept one in place of
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RowId(pub i64);

/// The number of a run, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RunId(pub i64);

impl RunId {
    /// The run that owns the rows of pruned runs. No list shows it.
    pub const PRUNED: RunId = RunId(0);
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The API and merchant that a ledger is bound to; another target is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The API's base URL, normalized.
    pub base_url: String,
    /// The merchant.
    pub merchant_id: String,
}

/// An option of a run, with its value; never a secret.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Setting {
    /// The long name of the option.
    pub name: String,
    /// The value as text.
    pub value: String,
    /// The origin of the value.
    pub origin: SettingOrigin,
}

/// The origin of an option's value.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(into = "String")]
pub enum SettingOrigin {
    /// The default.
    Default,
    /// The command line.
    Flag,
    /// An environment variable, or a file and its line.
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

/// The command of a run, which decides what is sent for a row that was imported before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Command {
    /// Imported rows that differ are reported.
    #[default]
    Import,
    /// Imported rows that differ are updated, except where the API has refused the same fields.
    ImportAndUpdate,
    /// The rows come from the ledger, and are sent again whatever their outcome.
    Retry,
}

impl Command {
    /// The name in the ledger and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Command::Import | Command::ImportAndUpdate => "import",
            Command::Retry => "retry",
        }
    }
}

/// The properties of a run when it begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRun<'a> {
    /// The command.
    pub command: Command,
    /// The source as given.
    pub source: &'a str,
    /// The canonical path of the source, if it is a file.
    pub source_path: Option<&'a str>,
    /// The columns of the source.
    pub columns: SourceColumns<'a>,
    /// A hash of every option that affects how the source's bytes are parsed. A run resumes at the checkpoint of an
    /// earlier run only if the two hashes are equal.
    pub parse_settings_hash: &'a str,
    /// The options by which records become customers, stored for a later retry; none for a retry, which uses those of
    /// each row's run.
    pub row_mapping: Option<&'a str>,
    /// The options of the run, without secrets.
    pub settings: &'a [Setting],
    /// How long a ledger on a server may be unreachable before the run ends itself.
    pub outage_limit: Duration,
    /// What two processes must have in common to work on one run; none if the run belongs to one process.
    pub join_key: Option<&'a str>,
    /// How long a process without a commit keeps the rows that it has claimed, if the ledger is on a server.
    pub lease: Duration,
    /// The name by which the processes of one job find their run, also after it has ended.
    pub name: Option<&'a str>,
}

/// The columns of a source, as far as the ledger needs them.
#[derive(Clone, Copy, Debug, Default)]
pub struct SourceColumns<'a> {
    /// Its header, without the columns that a failed export adds.
    pub names: &'a [String],
    /// The column of the references, or the template that they are made of; none if it is unknown.
    pub reference: Option<&'a str>,
    /// Whether the source is a failed export.
    pub is_export: bool,
}

/// The result of a row; each data row of a source has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Created by a run of this ledger.
    Created,
    /// The merchant had the customer already.
    Existing,
    /// An earlier run imported it, with the same fields.
    Unchanged,
    /// An earlier run imported it; the fields differ now.
    Changed,
    /// Imported before with other fields; the API accepted the Update.
    Updated,
    /// An earlier row of the same source has the same reference.
    Duplicate,
    /// The row breaks a rule.
    Invalid,
    /// The API rejected this row.
    Rejected,
    /// All attempts were used up by errors that may be temporary.
    Failed,
    /// Not settled yet.
    Pending,
}

impl Outcome {
    /// All ten outcomes, in display order.
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

    /// The name, in the ledger and in every output.
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

    /// The outcome with this name.
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

/// Classes of outcomes, by what is to be done about the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeClass {
    /// Nothing: its customer is at the API, with its id known.
    Imported,
    /// Its fields have to be corrected; nothing was sent.
    Unsendable,
    /// Its fields have to be corrected; the API rejected it.
    Rejected,
    /// A rerun sends it again.
    Failed,
    /// A rerun continues with it.
    Pending,
}

/// Committed counts by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally(pub(super) [u64; Outcome::ALL.len()]);

impl Tally {
    /// The number of rows with this outcome.
    pub fn get(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize]
    }

    /// The number of all rows.
    pub fn rows(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The number of rows whose outcome satisfies the condition.
    pub fn sum(&self, condition: impl Fn(Outcome) -> bool) -> u64 {
        Outcome::ALL.into_iter().filter(|outcome| condition(*outcome)).map(|outcome| self.get(outcome)).sum()
    }

    /// What has been added since an earlier tally of the same rows, by outcome.
    #[cfg(feature = "postgres")]
    pub(super) fn since(&self, earlier: &Tally) -> impl Iterator<Item = (Outcome, i64)> {
        let (now, earlier) = (*self, *earlier);
        let difference = move |outcome| now.get(outcome).cast_signed() - earlier.get(outcome).cast_signed();
        Outcome::ALL.into_iter().map(move |outcome| (outcome, difference(outcome)))
    }

    /// The sum of both tallies.
    pub(super) fn plus(&self, other: &Tally) -> Tally {
        Tally(std::array::from_fn(|at| self.0[at] + other.0[at]))
    }

    /// The counts of the same rows in a later run: imported rows become unchanged.
    pub(super) fn seen_again(&self) -> Tally {
        let mut again = Tally::default();
        for outcome in Outcome::ALL {
            let is_imported = outcome.is_success() && outcome != Outcome::Changed;
            let now = if is_imported { Outcome::Unchanged } else { outcome };
            again.0[now as usize] += self.get(outcome);
        }
        again
    }

    /// All ten as a JSON object.
    pub(super) fn to_json(self) -> String {
        let counts = Outcome::ALL.map(|outcome| (outcome.name().to_owned(), self.get(outcome).into()));
        serde_json::Value::Object(counts.into_iter().collect()).to_string()
    }

    /// Parses the result of [`Tally::to_json`]; `None` for any other text, or if a later version wrote it.
    pub(super) fn from_json(text: &str) -> Option<Tally> {
        let counts: serde_json::Map<_, _> = serde_json::from_str(text).ok()?;
        counts.iter().map(|(name, count)| Some((Outcome::from_name(name)?, count.as_u64()?))).collect()
    }

    /// Counts rows with this outcome.
    pub(super) fn add_rows(&mut self, outcome: Outcome, rows: u64) {
        self.0[outcome as usize] += rows;
    }

    /// Counts a row with this outcome.
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

/// The request counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// All HTTP requests.
    pub requests: u64,
    /// Requests that repeated an earlier request for the same row.
    pub retries: u64,
    /// Responses that say that there are too many requests: 429, and the like.
    pub throttled: u64,
}

/// The state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// The run is in progress, or its process crashed and the ledger does not record that yet.
    Running,
    /// The process crashed: the run is recorded as running, but no process holds the lock. Never stored.
    Died,
    /// The run reached the end of its source.
    Completed,
    /// The user ended the run.
    Interrupted,
    /// The run stopped by itself.
    Stopped,
}

impl RunState {
    /// The name, in the ledger and in every output.
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

/// Notes about customers that existed which count rows; the other notes are names of fields.
const DIFFERING: &str = "differing";
const UNCERTAIN: &str = "uncertain";
const RESPELLED: &str = "respelled";

/// What a run found about customers that already existed at the API. Counts only, never a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExistingCounts {
    /// Rows whose customer has other fields at the API.
    pub differing: u64,
    /// Number of rows in which each field differs.
    pub fields: FieldCounts,
    /// Rows for which it is unknown whether a Create of ours created the customer.
    pub uncertain: u64,
    /// Rows whose reference the API spells differently.
    pub respelled: u64,
}

impl ExistingCounts {
    /// Counts a row whose customer has other values in these fields.
    pub(super) fn add(&mut self, fields: FieldSet) {
        self.differing += u64::from(!fields.is_empty());
        self.fields.add(fields);
    }

    /// As the ledger keeps them: notes with their rows, without zeros.
    pub(super) fn notes(&self) -> Vec<(&'static str, u64)> {
        let fields = self.fields.iter().map(|(field, rows)| (field.name(), rows));
        let totals = [(DIFFERING, self.differing), (UNCERTAIN, self.uncertain), (RESPELLED, self.respelled)];
        totals.into_iter().chain(fields).filter(|(_, rows)| *rows > 0).collect()
    }

    /// The counts of these notes.
    pub(super) fn of_notes<'a>(notes: impl Iterator<Item = (&'a str, u64)>) -> ExistingCounts {
        let mut counts = ExistingCounts::default();
        let mut fields = Vec::new();
        for (note, rows) in notes {
            match note {
                DIFFERING => counts.differing = rows,
                UNCERTAIN => counts.uncertain = rows,
                RESPELLED => counts.respelled = rows,
                name => fields.extend(Field::from_name(name).map(|field| (field, rows))),
            }
        }
        counts.fields = fields.into_iter().collect();
        counts
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &ExistingCounts) {
        self.differing += other.differing;
        self.uncertain += other.uncertain;
        self.respelled += other.respelled;
        self.fields = self.fields.iter().chain(other.fields.iter()).collect();
    }
}

/// The activity of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    /// Rows are sent.
    #[default]
    Sending,
    /// Rows in doubt are looked up; no other row is sent yet.
    Asking,
    /// The API has requested a pause.
    Paused,
    /// The circuit breaker is open: every request waits for the API to recover.
    Waiting,
    /// No new request is started; requests in flight may finish.
    Finishing,
}

impl Activity {
    pub(super) const ALL: [Activity; 5] =
        [Activity::Sending, Activity::Asking, Activity::Paused, Activity::Waiting, Activity::Finishing];

    /// The name, in the ledger and in `status --format json`.
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

/// Who has set the current rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateSetter {
    /// The user, with `--rate`.
    User,
    /// The API: by throttling, or by the quota in its headers.
    Api,
}

impl RateSetter {
    pub(super) const ALL: [RateSetter; 2] = [RateSetter::User, RateSetter::Api];

    /// The name, in the ledger and in `status --format json`.
    pub fn name(self) -> &'static str {
        match self {
            RateSetter::User => "user",
            RateSetter::Api => "api",
        }
    }
}

/// The current rate limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurrentRate {
    /// Requests per second.
    pub per_second: f64,
    /// Who has set it.
    pub set_by: RateSetter,
}

/// The current state of a run, in addition to its committed counts.
///
/// The run writes it about once a second, in a commit of its own if necessary, so that `status` in another terminal
/// shows the same as the progress bar. No decision depends on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heartbeat {
    /// What the run is doing.
    pub activity: Activity,
    /// Number of rows in the whole source; none if unknown.
    pub total: Option<u64>,
    /// Whether the source was read to its end, so that `total` is exact.
    pub is_exact: bool,
    /// Rows settled per second in the last few seconds.
    pub rows_per_second: f64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Rows waiting for their next attempt.
    pub retrying: u64,
    /// Rows whose customer may have been created, by this run or an earlier one.
    pub in_doubt: u64,
    /// The current rate limit; none if there is none.
    pub rate: Option<CurrentRate>,
    /// Number of pauses that the API has requested so far.
    pub pauses: u64,
    /// The reason for the wait, as text, while all requests wait.
    pub cause: Option<Arc<str>>,
}

/// Number of rows that a run has sent, and of those that failed. Rows settled by an earlier run are not counted, because
/// they say nothing about this run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentCounts {
    /// Rows with an outcome other than pending.
    pub rows: u64,
    /// Those that were rejected or failed.
    pub failures: u64,
}

impl SentCounts {
    /// Counts one settled row.
    pub(crate) fn add(&mut self, outcome: Outcome) {
        self.rows += u64::from(outcome != Outcome::Pending);
        self.failures += u64::from(outcome.is_retryable());
    }

    /// The sum of both.
    pub(crate) fn plus(self, other: SentCounts) -> SentCounts {
        SentCounts { rows: self.rows + other.rows, failures: self.failures + other.failures }
    }

    /// What remains without the others; zero at least.
    pub(super) fn without(self, other: SentCounts) -> SentCounts {
        let rows = self.rows.saturating_sub(other.rows);
        SentCounts { rows, failures: self.failures.saturating_sub(other.failures) }
    }
}

/// What one of several workers has done of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct WorkerShare {
    /// The worker's number in the ledger.
    pub worker: i64,
    /// Number of workers that have worked on the run, this one included.
    pub workers: u64,
    /// Rows that this worker has settled.
    pub worker_rows: u64,
}

/// The counts that each commit writes for its run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RunCounts {
    pub(super) tally: Tally,
    pub(super) requests: RequestCounts,
    pub(super) sent: SentCounts,
    /// The number of imported rows that the source has contained so far.
    pub(super) imported_seen: u64,
    /// The physical line of the last claimed row.
    pub(super) last_line: u64,
}

/// Whom the reason of an end concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndConcerns {
    /// This process alone: the other workers of the run continue.
    ThisWorker,
    /// All workers of the run.
    AllWorkers,
}

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub struct RunEnd<'a> {
    /// The state to record.
    pub state: RunState,
    /// The exit code of the command.
    pub exit_code: u8,
    /// Why the run stopped by itself.
    pub stop_reason: Option<&'a str>,
    /// Whom the reason concerns.
    pub concerns: EndConcerns,
}

/// A row that owns its reference.
#[derive(Clone, Debug)]
pub(super) struct KnownRow {
    pub(super) id: RowId,
    /// The last run that settled the row.
    pub(super) run: RunId,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) outcome: Outcome,
    pub(super) in_doubt: bool,
    /// Whether a Create may have landed at some time, whatever a later Get returned.
    pub(super) may_have_landed: bool,
    pub(super) claimed_at: Option<i64>,
    /// The physical line in the source of `run`.
    pub(super) line: u64,
}

impl KnownRow {
    /// Whether the row was sent with these fields.
    pub(super) fn has_fields(&self, fields: Fingerprint) -> bool {
        self.fingerprint.is_some_and(|sent| sent.is_same(fields))
    }

    /// Whether the row was sent with the same values of the fields that the customer states.
    pub(super) fn has_stated(&self, customer: &Customer) -> bool {
        self.fingerprint.is_some_and(|sent| sent.is_same(customer.fingerprint_over(sent)))
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

/// An Update that was rejected, failed, or has no response yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingUpdate {
    /// The fields that the Update sent.
    pub(super) fingerprint: Fingerprint,
    pub(super) outcome: Outcome,
    pub(super) may_have_landed: bool,
}

/// How the API names the customer of an imported row that is to be updated.
#[derive(Clone, Debug, Default)]
pub(super) struct CustomerName {
    pub(super) customer_id: String,
    /// The API's spelling of the reference, if it differs from the row's.
    pub(super) api_reference: Option<Reference>,
}
