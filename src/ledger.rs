//! The durable record of runs and rows: which row got which outcome, and what a crashed run left open.
//!
//! Promises:
//! * A [`Claim`] exists only after its commit: only [`Ledger::commit`] makes one, and [`Claim::settle`] consumes it.
//!   No claim, no request.
//! * Every count it returns is committed.
//! * A reference has one row for good. Duplicates within a source are found here, not by a set of references in
//!   memory.
//! * One run at a time. In a file it has one writer, which holds the lock file. On a server several workers may share it;
//!   each writes as long as it keeps its lease. A run that begins can treat every earlier run as ended, and the claims
//!   still open as in doubt.
//! * Only a ledger is ever modified, never another program's file or schema; only the owner can read the file.
//!
//! The pure modules hold values and decisions: what a row is (`model`, `claim`), what to do about it (`plan`), what
//! one transaction writes (`batch`), how far the source is done (`checkpoint`), and where references are found
//! (`reference_index`). The backends, `sqlite` and `postgres`, alone contain SQL; `store` and `reader` choose between
//! them by the [`Location`]. [`Ledger`] connects all of them: it has each chunk planned (`planning` looks up what a plan
//! needs), and writes the plans.
//!
//! In a file, references are found by 64-bit hashes: those of recent rows in memory, the others in a table that is
//! filled in bulk and in order (the migration explains why). A hash only finds candidate rows and the texts are
//! compared, so two references with the same hash do no harm.

mod batch;
mod checkpoint;
mod claim;
#[cfg(feature = "crash-points")]
mod crash_point;
mod error;
mod error_groups;
mod forecast;
mod imported_index;
mod json_rows;
mod location;
mod lost_zeros;
mod mark_changed;
mod model;
mod ordered_scan;
mod plan;
mod planning;
#[cfg(feature = "postgres")]
mod postgres;
mod prune;
mod rate_reserver;
mod reader;
mod records;
mod reference_index;
mod rows;
mod run_times;
mod seen_rows;
mod shared_run;
mod sqlite;
mod store;
mod timeline;
mod unsendable;
mod url;

use tokio::time::Instant;

use self::{
    batch::CommitBatch,
    checkpoint::{Checkpoint, CheckpointTracker},
    claim::InDoubtClaim,
    model::{OpenClaim, RunCounts},
    planning::Planning,
    shared_run::{RunView, SharedRun},
    store::{Held, Store},
};
pub use self::{
    checkpoint::{ChunkEnd, SourceRows},
    claim::{ApiCustomer, Claim, Effort, InsertResult, RowResult, Settlement},
    error::Error,
    error_groups::ErrorGroups,
    forecast::{Forecast, RequestedTarget},
    location::Location,
    model::{
        Command, EndConcerns, NewRun, Outcome, RequestCounts, RunEnd, RunId, RunState, SentCounts, Setting,
        SettingOrigin, SourceColumns, Tally, Target, WorkerShare,
    },
    shared_run::Remaining,
    url::{Password, WrongUrl, is_connection_string, without_password},
};
pub(crate) use self::{
    claim::{IdSource, Operation, ReferenceRepeat, RowError, UpdateResult},
    forecast::RowForecast,
    imported_index::ImportedIndex,
    mark_changed::mark_changed_at_api,
    model::{Activity, CurrentRate, ExistingCounts, Heartbeat, OutcomeClass, RateSetter, RowId},
    prune::prune,
    rate_reserver::{NewRate, RateReserver, ReservedMoments, StoredRate},
    reader::Reader,
    records::{
        ChangedAtApi, ErrorGroup, ImportedRow, LedgerHistory, LedgerOverview, OldTransaction, Pruned,
        RecordedHeartbeat, RetryFilter, RetryRow, RetryableCount, RowMapping, RowRecord, RunDetails,
        RunRecord, Selection, SourceHeader, WorkerRecord,
    },
    run_times::RunTimes,
    sqlite::lock_file::private_file,
    timeline::{Sample, condensed, sustained_rate},
};
use crate::customer::{Dropped, FieldCounts, FieldSet, Row, SourcePosition};

/// How long a change of nothing but the run's counts may be deferred until a commit has more to write, in
/// milliseconds.
const DEFER_MAX_MS: i64 = 200;

/// Maximum number of orphaned rows that a worker adopts at once. Their source is read once for all of them.
const ADOPTED_MAX: usize = 4096;

/// Maximum number of references per lookup.
const LOOKUP_MAX: usize = 2048;

/// The content of one commit.
#[derive(Debug, Default)]
pub struct Batch {
    /// How many of [`Ledger::rows_in_doubt`] to claim.
    pub in_doubt: usize,
    /// Rows to claim or settle at once.
    pub source: SourceRows,
    /// Settled claims.
    pub settled: Vec<Settlement>,
    /// The requests of the run so far.
    pub requests: RequestCounts,
    /// Whether deferring is not allowed.
    pub flush: bool,
    /// The heartbeat, if one is due.
    pub heartbeat: Option<Heartbeat>,
    /// Whether the source has no row behind these.
    pub source_ended: bool,
    /// Whether this worker ends before its source does, so that its pending rows are left to other workers.
    pub is_leaving: bool,
    /// Adopted rows that were read again; empty if the source cannot be read again.
    pub reread: Option<Vec<Row>>,
}

/// The result of one commit.
#[derive(Debug)]
pub struct Committed {
    /// The claims of the rows to be sent.
    pub claims: Vec<Claim>,
    /// The counts of the run after the commit.
    pub tally: Tally,
    /// What this process has added to them.
    pub own_tally: Tally,
    /// The number of optional values that the rows of the batch are sent without.
    pub dropped: Dropped,
    /// Whether rows were counted that are not in the tally yet, because the counts alone were not worth a commit.
    pub deferred: bool,
    /// Line and fields of the imported rows that differ.
    pub changed: Vec<(u64, FieldSet)>,
    /// What was found about existing customers.
    pub existing: ExistingCounts,
    /// Number of the rows that other workers of the run have claimed.
    pub skipped: usize,
    /// Number of the next rows that other workers of the run are known to have claimed.
    pub claimed_ahead: usize,
    /// The rows that the other workers of the run have sent.
    pub sent_by_others: SentCounts,
    /// What all workers of the run have left to do; none if no other process can work on it.
    pub remaining: Option<Remaining>,
    /// Why another worker ends the run.
    pub stopping: Option<String>,
    /// The references of adopted rows, which are to be read again.
    pub adopted: Vec<String>,
    /// Why no row of the source was claimed, if this process reads another source than the other workers.
    pub refused: Option<Error>,
}

/// How a process begins to work on a run.
pub enum Begun {
    /// It has begun the run.
    New(Box<Ledger>),
    /// It has joined the workers of the run.
    Joined(Box<Ledger>),
    /// The run of its name is completed, with this exit code.
    Completed(RunId, u8),
}

impl Begun {
    /// The ledger, unless the run is completed.
    pub fn active(self) -> Option<Ledger> {
        match self {
            Begun::New(ledger) | Begun::Joined(ledger) => Some(*ledger),
            Begun::Completed(..) => None,
        }
    }
}

/// What this worker may claim of the rows that it has read.
enum TakenRows {
    /// These rows; the others are claimed already.
    Claimable(SourceRows),
    /// Nothing, because this worker reads another source than the others.
    OtherSource(Error),
}

/// The ledger of one run, opened for writing.
pub struct Ledger {
    planning: Planning,
    now: fn() -> i64,
    run: RunId,
    tracker: CheckpointTracker,
    /// The checkpoint of the previous run, if this run reads the same source with the same settings.
    resume_point: Option<Checkpoint>,
    /// The part of the source that this run skips.
    skipped: Option<Checkpoint>,
    /// The counts by field at the start of this run.
    field_counts: (Dropped, FieldCounts),
    /// Rows in doubt that are not claimed yet, in reverse order.
    in_doubt: Vec<OpenClaim>,
    /// The committed counts of the run.
    tally: Tally,
    /// The part of them that this worker has added.
    own_tally: Tally,
    /// The time of the last commit.
    committed_at: i64,
    /// The counts of this worker that the next commit will write.
    counts: RunCounts,
    /// The committed rows that cannot be sent, by what is wrong with them.
    unsendable: ErrorGroups,
    /// The run as all its workers have made it; none if no other process can work on it.
    view: Option<RunView>,
}

impl Ledger {
    /// Opens or creates the ledger, takes its lock, and begins a run. Open claims of crashed runs become `pending`,
    /// in doubt. On a server, joins the workers of the run in progress, if they have the same
    /// [`join_key`](NewRun::join_key).
    ///
    /// # Errors
    /// If the file is not a ledger, is in use, belongs to another target, or cannot be written.
    pub async fn begin_run(
        location: &Location,
        target: &Target,
        run: &NewRun<'_>,
        now: fn() -> i64,
    ) -> Result<Begun, Error> {
        let (mut store, joined) = match Store::hold_or_join(location, run).await? {
            Held::Alone(store) => (store, None),
            #[cfg(feature = "postgres")]
            Held::Joined(store, id) => (store, Some(id)),
            #[cfg(feature = "postgres")]
            Held::Completed(id, exit_code) => return Ok(Begun::Completed(id, exit_code)),
        };
        if let Err(refused) = store.keep_target(target, now()).await {
            // Closed in order, so that a ledger given by mistake is left unchanged.
            store.close().await?;
            return Err(refused);
        }
        if let Some(id) = joined {
            return Ledger::join_run(location, store, id, run, now).await.map(Box::new).map(Begun::Joined);
        }
        store.recover_crashed_runs(now()).await?;
        let mut in_doubt = store.rows_in_doubt().await?;
        in_doubt.reverse();
        let resume_point = store.last_checkpoint(run).await?;
        let id = store.insert_run(run, now()).await?;
        store.begin_checkpoint(id, run.parse_settings_hash).await?;
        let mut planning = Planning::new(store, id, run.command, run.columns).await?;
        let is_shared = run.join_key.is_some() && location.file().is_none();
        planning.planner.shared = is_shared.then(|| SharedRun::beginning(id, location.clone()));
        let ledger = Ledger { resume_point, ..Ledger::at_start(planning, id, in_doubt, now) };
        Ok(Begun::New(Box::new(ledger)))
    }

    /// Joins the workers of a run.
    async fn join_run(
        location: &Location,
        mut store: Store,
        id: RunId,
        run: &NewRun<'_>,
        now: fn() -> i64,
    ) -> Result<Ledger, Error> {
        let start = store.cursor_start(id).await?;
        let mut planning = Planning::new(store, id, run.command, run.columns).await?;
        planning.planner.shared = Some(SharedRun::joining(id, location.clone(), start));
        Ok(Ledger::at_start(planning, id, Vec::new(), now))
    }

    /// The ledger of a run that reads its source from the beginning, after these rows in doubt.
    fn at_start(planning: Planning, run: RunId, in_doubt: Vec<OpenClaim>, now: fn() -> i64) -> Ledger {
        Ledger {
            planning,
            now,
            run,
            // In-doubt rows may come from another file. They are counted in this run, under the line number of their
            // own file.
            tracker: CheckpointTracker::new(run, Checkpoint::at_start(run, !in_doubt.is_empty())),
            resume_point: None,
            skipped: None,
            field_counts: Default::default(),
            in_doubt,
            tally: Tally::default(),
            own_tally: Tally::default(),
            committed_at: 0,
            counts: RunCounts::default(),
            unsendable: ErrorGroups::default(),
            view: None,
        }
    }

    /// The number of this run.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// The checkpoint of the previous run over the same source with the same parse settings, and the number of rows
    /// before it. All of them are settled. A `whole_file_only` checkpoint may be used only if it is the end of the
    /// source, at `source_bytes`, because later rows could not be checked for duplicates.
    pub fn resume_point(&self, source_bytes: Option<u64>) -> Option<(SourcePosition, u64)> {
        let is_end = |point: &Checkpoint| Some(point.position.bytes) == source_bytes;
        let point = self.resume_point.filter(|point| !point.whole_file_only || is_end(point))?;
        Some((point.position, point.tally.rows()))
    }

    /// Resumes at the checkpoint: the rows before it are not read again, but counted with their outcomes. Must be
    /// called before any row is committed.
    ///
    /// # Errors
    /// If the ledger cannot be written.
    pub async fn resume(&mut self) -> Result<(), Error> {
        let Some(point) = self.resume_point.take() else { return Ok(()) };
        let tally = point.tally.seen_again();
        let whole_file_only = point.whole_file_only || !self.in_doubt.is_empty();
        let reached = Checkpoint { tally, whole_file_only, ..point };
        self.planning.planner.skipped_lines =
            self.planning.store.checkpoint_lines(point.chain_start, self.run).await?;
        self.field_counts = self.planning.store.resume(self.run, &reached, (self.now)()).await?;
        self.tracker = CheckpointTracker::new(self.run, reached);
        self.skipped = Some(reached);
        self.counts.tally = tally;
        self.counts.last_line = point.position.line.saturating_sub(1);
        self.planning.planner.imported_seen = tally.sum(Outcome::is_success);
        if let Some(shared) = &mut self.planning.planner.shared {
            shared.begin_after(tally.rows());
        }
        self.commit(Batch { flush: true, ..Batch::default() }).await.map(drop)
    }

    /// The number of rows that earlier runs left in doubt and that are not claimed yet: the API may have their
    /// customers. They are looked up before any row of the source is claimed, and do not count as rows of the source.
    pub fn rows_in_doubt(&self) -> usize {
        self.in_doubt.len()
    }

    /// Whether other processes can work on this run.
    pub fn is_shared(&self) -> bool {
        self.planning.planner.shared.is_some()
    }

    /// What reserves the moments at which requests of this run may be sent; none for a ledger in a file.
    pub(crate) fn rate_reserver(&self) -> Option<RateReserver> {
        self.planning.store.rate_reserver()
    }

    /// The requests of all workers of the run; none if no other process can work on it.
    pub fn shared_requests(&self) -> Option<RequestCounts> {
        self.view.as_ref().map(|view| view.requests)
    }

    /// What this process has done of the run; none if no other process can work on it.
    pub fn worker_share(&self) -> Option<WorkerShare> {
        let workers = self.view.as_ref()?.all_workers;
        let worker_rows = self.own_tally.sum(|outcome| outcome != Outcome::Pending);
        Some(WorkerShare { worker: self.planning.store.worker_id()?, workers, worker_rows })
    }

    /// Number of other workers of the run that are alive, as of the last commit.
    pub fn other_workers(&self) -> u64 {
        self.view.as_ref().map_or(0, |view| view.workers.saturating_sub(1))
    }

    /// The time until which requests may be sent, if no further commit succeeds: another process may then take over a
    /// ledger on a server. None if no other process can take the ledger over.
    pub fn may_send_until(&self) -> Option<Instant> {
        self.planning.store.may_send_until()
    }

    /// The counts at the start of the run: rows by outcome, dropped values, and fields that differ. All are zero
    /// unless the run resumes.
    pub fn initial_counts(&self) -> (Tally, Dropped, FieldCounts) {
        let (dropped, changed) = self.field_counts.clone();
        (self.tally, dropped, changed)
    }

    /// Writes these samples with the next commit, or with the end of the run. They replace all samples from index
    /// `from` on.
    pub fn add_samples(&mut self, from: usize, samples: Vec<Sample>) {
        self.planning.store.add_samples(from, samples);
    }

    /// Makes the settlements durable, and claims the rows, in one transaction.
    ///
    /// # Errors
    /// After an error, nothing of the batch is durable and no claim exists.
    pub async fn commit(&mut self, batch: Batch) -> Result<Committed, Error> {
        let Batch { in_doubt, source, settled, requests, flush, heartbeat, .. } = batch;
        let mut write = CommitBatch::new(self.run, (self.now)());
        write.heartbeat = heartbeat;
        write.hands_over_rows = batch.is_leaving;
        for settlement in &settled {
            self.settle(settlement, &mut write);
        }
        let mut claims = match batch.reread {
            Some(reread) => self.claim_adopted(reread, &mut write).await?,
            None => Vec::new(),
        };
        let read = source.rows.len();
        let (source, refused) = match self.take_rows(source, batch.source_ended, &mut write).await? {
            TakenRows::Claimable(rows) => (rows, None),
            TakenRows::OtherSource(error) => (SourceRows::default(), Some(error)),
        };
        let skipped = read - source.rows.len();
        claims.append(&mut self.claim(in_doubt, source, &mut write).await?);
        self.counts.requests = requests;
        let deferred = write.is_empty() && !flush && write.now < self.committed_at + DEFER_MAX_MS;
        if !deferred {
            write.checkpoint = self.tracker.take_if_advanced();
            self.write(&write).await?;
            for settlement in settled.iter().filter(|settlement| !settlement.claim.is_known()) {
                self.planning.planner.open_claims.written(settlement.claim.reference());
            }
            self.unsendable.add_unsendable(&write.unsendable);
        }
        write.log_rows(&settled);
        let (changed, existing, dropped) = (write.updates.changed, write.existing, write.dropped);
        let adopted = if batch.is_leaving { Vec::new() } else { self.adopt().await? };
        let remaining = self.view.as_ref().map(|view| view.remaining);
        let others = |view: &RunView| view.sent.without(self.counts.sent);
        let sent_by_others = self.view.as_ref().map(others).unwrap_or_default();
        let stopping = self.view.as_ref().and_then(|view| view.stopping.clone());
        let shared = self.planning.planner.shared.as_ref();
        let claimed_ahead = shared.map_or(0, |shared| shared.claimed_by_others(usize::MAX));
        let (tally, own_tally) = (self.tally, self.own_tally);
        Ok(Committed {
            claims,
            tally,
            own_tally,
            dropped,
            deferred,
            changed,
            existing,
            skipped,
            claimed_ahead,
            sent_by_others,
            remaining,
            stopping,
            adopted,
            refused,
        })
    }

    /// Writes a batch, with the counts of this worker.
    async fn write(&mut self, write: &CommitBatch<'_>) -> Result<(), Error> {
        self.counts.imported_seen = self.planning.planner.imported_seen;
        let view = self.planning.store.write(write, &self.counts).await?;
        let is_shared = self.planning.planner.shared.is_some();
        self.tally = view.as_ref().map_or(self.counts.tally, |view| view.tally);
        self.own_tally = self.counts.tally;
        self.view = view.filter(|_| is_shared);
        self.committed_at = write.now;
        if let (Some(view), Some(shared)) = (&self.view, &mut self.planning.planner.shared) {
            shared.known_cursor = shared.known_cursor.max(view.cursor_rows);
        }
        Ok(())
    }

    /// In a run that several workers share, takes the cursor and leaves out the rows that others have claimed.
    async fn take_rows(
        &mut self,
        mut source: SourceRows,
        source_ended: bool,
        write: &mut CommitBatch<'_>,
    ) -> Result<TakenRows, Error> {
        let Planning { store, planner, .. } = &mut self.planning;
        let Some(shared) = &mut planner.shared else { return Ok(TakenRows::Claimable(source)) };
        shared.skip_claimed(&mut source);
        if source.rows.is_empty() && (!source_ended || shared.is_at_end) {
            return Ok(TakenRows::Claimable(source));
        }
        let Some(cursor) = store.take_cursor(self.run, write.now).await? else {
            // The run ends: these rows are for another run.
            return Ok(TakenRows::Claimable(SourceRows::default()));
        };
        let cursor = shared.take(cursor);
        shared.skip_claimed(&mut source);
        write.cursor = Some(cursor);
        let next_line = source.rows.first().map(|row| row.line);
        if let Err(error) = shared.accept(&cursor, next_line, source_ended) {
            return Ok(TakenRows::OtherSource(error));
        }
        if shared.is_at_cursor() {
            source.rows.iter().for_each(|row| shared.pass(row));
            write.cursor = Some(shared.moved(cursor.next_row, source_ended));
        }
        if shared.has_skipped {
            self.tracker.stop();
        }
        planner.set_next_id(cursor.next_row);
        Ok(TakenRows::Claimable(source))
    }

    /// Adopts rows of workers that have died or left, if there are any and none wait for their lines.
    async fn adopt(&mut self) -> Result<Vec<String>, Error> {
        let has_orphans = self.view.as_ref().is_some_and(|view| view.remaining == Remaining::Orphans);
        let Planning { store, planner, .. } = &mut self.planning;
        let Some(shared) = planner.shared.as_mut().filter(|shared| has_orphans && !shared.has_adopted())
        else {
            return Ok(Vec::new());
        };
        let rows = store.adopt(ADOPTED_MAX).await?;
        store.count_adopted(rows.len());
        self.counts.tally.add_rows(Outcome::Pending, rows.len() as u64);
        Ok(shared.adopt(rows))
    }

    /// The claims of adopted rows, with the lines that were read again.
    async fn claim_adopted(
        &mut self,
        reread: Vec<Row>,
        write: &mut CommitBatch<'_>,
    ) -> Result<Vec<Claim>, Error> {
        let Some(shared) = &mut self.planning.planner.shared else { return Ok(Vec::new()) };
        let rows = shared.take_adopted(reread);
        let unread = shared.claim_unread(self.run, write.now);
        // What this worker claims is not in file order any more.
        self.tracker.stop();
        let plans = self.planning.plan_adopted(&rows).await?;
        let (mut claims, mut updates) = (unread, Vec::new());
        for ((row, known), plan) in rows.into_iter().zip(plans) {
            let mut tally = Tally::default();
            match write.add(row, plan, &mut tally, &mut self.tracker) {
                Some(claim) if matches!(claim.operation, Operation::Update(_)) => updates.push(claim),
                Some(claim) => claims.push(claim),
                // The worker before has counted the row as pending.
                None => {
                    write.released_updates.push(known.id);
                    let settled = Outcome::ALL.into_iter().filter(|outcome| tally.get(*outcome) > 0);
                    settled.for_each(|outcome| self.counts.tally.settle(outcome));
                }
            }
        }
        claims.iter().for_each(|claim| write.claim(claim));
        claims.append(&mut updates);
        // The worker before has counted these too.
        write.dropped = Dropped::default();
        write.updates.changed.clear();
        Ok(claims)
    }

    fn settle<'a>(&mut self, settlement: &'a Settlement, write: &mut CommitBatch<'a>) {
        let outcome = settlement.result.outcome();
        self.counts.sent.add(outcome);
        // Rows in doubt do not count as rows of the source.
        if settlement.claim.is_counted() {
            self.counts.tally.settle(outcome);
        }
        write.settle(settlement);
        if let Some(chunk) = settlement.claim.chunk() {
            self.tracker.settled(chunk, outcome, settlement.is_settled_for_good());
        }
        // The row is imported, whatever the result of its Update.
        let is_imported =
            matches!(settlement.result, RowResult::Insert(InsertResult::ExistingThenUpdate(..)));
        self.planning.planner.imported_seen += u64::from(is_imported);
        if !settlement.claim.is_known() {
            write.ended_claims.extend(self.planning.planner.open_claims.settle(settlement.claim.id));
        }
    }

    /// Makes the claims of the batch, and adds to `write` what is to be written for them and for rows that need no
    /// claim.
    async fn claim(
        &mut self,
        in_doubt: usize,
        source: SourceRows,
        write: &mut CommitBatch<'_>,
    ) -> Result<Vec<Claim>, Error> {
        let SourceRows { mut rows, chunk_ends } = source;
        self.counts.last_line = rows.last().map_or(self.counts.last_line, |row| row.line);
        let plans = self.planning.plan(&mut rows).await?;
        if let (Some(cursor), false) = (&mut write.cursor, rows.is_empty()) {
            cursor.next_row = self.planning.planner.next_id();
        }
        write.superseded = self.planning.planner.unsendable.take_superseded();
        let mut claims = Vec::with_capacity(rows.len() + in_doubt);
        let mut updates = Vec::new();
        let first = self.in_doubt.len().saturating_sub(in_doubt);
        claims.extend(
            self.in_doubt
                .drain(first..)
                .rev()
                .map(|open| Claim::in_doubt(open, InDoubtClaim::OfEarlierRun, self.run, write.now)),
        );
        let mut chunk_ends = chunk_ends.into_iter().peekable();
        for (at, (row, plan)) in rows.into_iter().zip(plans).enumerate() {
            match write.add(row, plan, &mut self.counts.tally, &mut self.tracker) {
                Some(claim) if matches!(claim.operation, Operation::Update(_)) => updates.push(claim),
                claim => claims.extend(claim),
            }
            if let Some(end) = chunk_ends.next_if(|end| end.rows_before == at + 1) {
                self.tracker.chunk_ended(end.position);
            }
        }
        claims.iter().for_each(|claim| write.claim(claim));
        let new = claims.iter().filter(|claim| !claim.is_known());
        self.planning.planner.open_claims.insert(new.map(|claim| (claim.id, claim.reference())));
        // An Update is idempotent, so it needs no claim in the ledger.
        claims.append(&mut updates);
        Ok(claims)
    }

    /// Records that the source has been read to its end. Counts the imported rows that the source did not contain,
    /// stores the count, and returns it; a row that is invalid now still counts as contained. Then deletes the
    /// records of earlier runs about references of the source that this run did not find again.
    ///
    /// # Errors
    /// If the ledger cannot be read or written.
    pub async fn finish_source(&mut self) -> Result<u64, Error> {
        let absent = match self.absent_as_before().await? {
            Some(absent) => absent,
            None => self.count_absent().await?,
        };
        self.planning.store.set_absent(self.run, absent).await?;
        self.keep_seen().await?;
        let remaining = self.planning.planner.unsendable.remaining();
        self.planning.store.delete_unsendable(&remaining, self.run).await?;
        Ok(absent)
    }

    /// The count of an unchanged file from the previous run: counting imported rows again would read the whole
    /// ledger.
    async fn absent_as_before(&mut self) -> Result<Option<u64>, Error> {
        if self.skipped.is_none_or(|skipped| skipped.tally.rows() != self.tally.rows()) {
            return Ok(None);
        }
        self.planning.store.absent_before(self.run).await
    }

    async fn count_absent(&mut self) -> Result<u64, Error> {
        let imported = self.planning.store.count_imported().await?;
        let seen = self.view.as_ref().map_or(self.planning.planner.imported_seen, |view| view.imported_seen);
        let mut present =
            seen + self.tally.sum(|outcome| matches!(outcome, Outcome::Created | Outcome::Existing));
        let mut behind = (i64::MIN, RowId(0));
        // Invalid rows can only add customers that are imported and not counted yet.
        while present < imported {
            let (some, last) = self.planning.store.invalid_references(self.run, behind, LOOKUP_MAX).await?;
            if some.is_empty() {
                break;
            }
            behind = last;
            let known = self.planning.store.find(some.iter()).await?;
            for found in some.iter().filter_map(|reference| known.get(reference.as_str())) {
                let is_imported = found.outcome.is_success();
                present += u64::from(is_imported && !self.planning.planner.seen.mark(found.id));
            }
        }
        Ok(imported.saturating_sub(present))
    }

    /// Stores which rows this run has seen, if a later run may need it. The rows of the skipped part are those that
    /// the previous run saw.
    async fn keep_seen(&mut self) -> Result<(), Error> {
        if !self.planning.store.is_seen_needed(self.run).await? {
            return Ok(());
        }
        // Which rows other workers have seen is not known, so a later run takes them for rows of others.
        if self.planning.planner.shared.as_ref().is_some_and(|shared| shared.has_skipped) {
            return Ok(());
        }
        if self.skipped.is_some() {
            let Some(before) = self.planning.store.seen_by_run_before(self.run).await? else { return Ok(()) };
            self.planning.planner.seen.join(&before.seen);
        }
        self.planning
            .store
            .keep_seen(self.run, self.planning.planner.next_id(), &self.planning.planner.seen)
            .await
    }

    /// Ends the run. No row can be claimed afterwards. Returns what is wrong with the rows of the run that cannot be
    /// sent, unless it counted only some of them because it resumed.
    ///
    /// # Errors
    /// If the ledger cannot be written.
    pub async fn end_run(
        mut self,
        end: RunEnd<'_>,
        requests: &RequestCounts,
    ) -> Result<Option<ErrorGroups>, Error> {
        let last_row = RowId(self.planning.planner.next_id().0 - 1);
        self.planning.store.merge_index(last_row).await?;
        self.planning.store.end_run(self.run, end, requests, (self.now)()).await?;
        self.planning.store.close().await?;
        Ok(Some(self.unsendable).filter(|groups| groups.has_all_unsendable(&self.tally)))
    }

    /// Ends a run without rows and requests, and deletes its record.
    ///
    /// # Errors
    /// If the ledger cannot be written.
    pub async fn discard_run(mut self) -> Result<(), Error> {
        self.planning.store.discard_run(self.run).await?;
        self.planning.store.close().await
    }
}
