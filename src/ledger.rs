//! What is durable: which row got which outcome, and what a dead run left open.
//!
//! Promises:
//! * A [`Claim`] exists only after its commit: only [`Ledger::commit`] makes one, and
//!   [`Claim::settle`] consumes it. No claim, no request.
//! * Every count it returns is committed.
//! * A reference has one row for good. Duplicates within a source are found here, not by a set
//!   of references in memory.
//! * One writer. The lock file belongs to the run: whoever holds it knows that every earlier run
//!   is dead and that the claims still there are in doubt.
//! * The file is ours or it is not touched; it is readable by its owner alone.
//!
//! No SQL here: that is `sqlite`. What is here is the decision about each row of a chunk.
//!
//! References are found through 64-bit hashes: those of recent rows in memory, the others in a
//! table that is filled in bulk and in order (see the migration for why). Both only propose
//! rows; the text decides, so two references with one hash do no harm.

mod batch;
mod checkpoint;
mod claim;
mod error;
mod existing;
mod model;
mod open_claims;
mod plan;
mod reference_index;
mod seen_rows;
mod sqlite;
mod timeline;
mod unsendable;
mod update;

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
};

use tracing::{debug, trace};

use self::{
    batch::{CommitBatch, UnimportedRow},
    checkpoint::{Checkpoint, CheckpointTracker},
    open_claims::OpenClaims,
    plan::{RowPlan, apply, claim_doubt},
    reference_index::ReferenceIndex,
    seen_rows::SeenRows,
    sqlite::{
        lock_file::{Identity, check_ours, identity, lock},
        ordered_scan::OrderedScan,
        store::{OpenClaim, RunCounts, Store},
    },
    unsendable::UnsendableRows,
    update::Send,
};
pub use self::{
    claim::{
        ApiCustomer, Claim, CustomerUpdate, Effort, IdSource, Operation, RowError, RowResult, Settlement,
        UpdateResult,
    },
    error::Error,
    existing::ExistingCounts,
    model::{Outcome, RequestCounts, RunState, Tally},
    sqlite::{
        error_groups::ErrorGroup,
        imported_index::{ImportedIndex, ImportedRow},
        live::{Activity, Heartbeat},
        lock_file::is_in_use,
        mark_changed::{ChangedAtApi, mark_changed_at_api},
        notes::Setting,
        prune::{Pruned, prune},
        reader::{Reader, RowRecord, RunRecord, Selection, SourceHeader},
        retry_rows::{RetryFilter, RetryRow, RetryableCount, RowMapping},
    },
    timeline::{Latencies, Sample, Series, Standing, Unwritten, condensed},
};
pub(crate) use self::{
    claim::{ReferenceRepeat, describe_unsendable},
    sqlite::lock_file::private_file,
};
use crate::customer::{Changed, Dropped, Fields, Place, Row};

/// How long what only changes the run's counts may wait for a commit that has more to say, in milliseconds.
const PUT_OFF_MAX: i64 = 200;

/// Whose customers a ledger records; another target is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The API's base URL, normalized.
    pub base_url: String,
    /// The merchant.
    pub merchant_id: String,
}

/// What one commit carries.
#[derive(Debug, Default)]
pub struct Batch {
    /// How many of [`Ledger::doubts`] to claim.
    pub doubts: usize,
    /// Rows to claim or settle at once, in file order.
    pub rows: Vec<Row>,
    /// Where the source stands behind so many of them.
    pub places: Vec<(usize, Place)>,
    /// Claims that have ended.
    pub settled: Vec<Settlement>,
    /// What the run did on the wire so far.
    pub figures: RequestCounts,
    /// Nothing may be put off.
    pub flush: bool,
    /// Where the run stands, if it is time to say so.
    pub live: Option<Heartbeat>,
}

/// What one commit has made true.
#[derive(Debug)]
pub struct Committed {
    /// The doubts and the rows of the batch that are to be sent.
    pub claims: Vec<Claim>,
    /// The run's counts after it.
    pub tally: Tally,
    /// What the rows of the batch go without.
    pub dropped: Dropped,
    /// Rows were counted that are not in the tally, because that alone was not worth a commit yet.
    pub deferred: bool,
    /// Line and fields of the imported rows that differ.
    pub changed: Vec<(u64, Fields)>,
    /// What was found out about customers that existed.
    pub existing: ExistingCounts,
}

/// What a run says of itself when it begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRun<'a> {
    /// `import` or `retry`.
    pub command: &'a str,
    /// The source as given.
    pub source: &'a str,
    /// Where the file really is, if it is one.
    pub source_path: Option<&'a str>,
    /// Its header.
    pub columns: &'a [String],
    /// The column of the references.
    pub reference_column: Option<&'a str>,
    /// A hash of all that decides what the source's bytes mean: its way of being read.
    pub parse_settings_hash: &'a str,
    /// Whether imported rows that differ are updated.
    pub update_changed: bool,
    /// How its records become customers, for a later retry; none for a retry, whose rows have their own.
    pub row_mapping: Option<&'a str>,
    /// The options it runs with, without secrets.
    pub settings: &'a [Setting],
}

/// The ledger of one run, opened for writing.
pub struct Ledger {
    store: Store,
    /// Held, not used: the lock goes when the process does.
    _lock: File,
    run: i64,
    /// Committed, and when.
    tally: Tally,
    written_at: i64,
    /// What the next commit will say.
    count: RunCounts,
    recent: ReferenceIndex,
    sequence: OrderedScan,
    batches: OpenClaims,
    met: SeenRows,
    unowned: UnsendableRows,
    /// Of the source, and which of them holds the references.
    columns: Vec<String>,
    reference_at: Option<usize>,
    progress: CheckpointTracker,
    /// Where the run before came to, if this one reads the same source in the same way.
    before: Option<Checkpoint>,
    /// What this run did not read, because that one had.
    skipped: Option<Checkpoint>,
    /// The runs that read that, each with the line that it came to.
    skipped_lines: HashMap<i64, u64>,
    by_field: (Dropped, Changed),
    /// Imported rows that the file has named so far.
    met_imported: u64,
    /// Whether the rows are the ledger's own, to be sent again whatever became of them.
    is_retry: bool,
    send: Send,
    /// Whether the ledger had updates that did not come to their end.
    has_outdated: bool,
    /// What earlier runs left in doubt and this one has not claimed yet; the first comes last.
    doubts: Vec<OpenClaim>,
    next_id: i64,
    now: fn() -> i64,
    path: PathBuf,
    /// Which file that path was when the run began.
    identity: Option<Identity>,
}

impl Ledger {
    /// Opens or creates the ledger, takes its lock, and begins a run. What dead runs had claimed
    /// becomes `pending`, in doubt.
    ///
    /// # Errors
    /// Where the file is not ours, in use, for another target, or cannot be written.
    pub async fn begin_run(
        path: &Path,
        target: &Target,
        run: &NewRun<'_>,
        now: fn() -> i64,
    ) -> Result<Ledger, Error> {
        // One ledger has one lock, whatever path leads to it.
        let real = path.canonicalize();
        if let (Err(error), true) = (&real, path.is_symlink()) {
            // A new ledger would take the link's place, and whoever made the link would look elsewhere.
            return Err(Error::Open { path: path.into(), error: error.kind().into() });
        }
        let path = real.as_deref().unwrap_or(path);
        // Before the lock file is made: beside another program's file there shall be none of ours.
        check_ours(path)?;
        let lock = lock(path)?;
        let mut store = Store::open(path, check_ours(path)?).await?;
        if let Err(refused) = store.keep_target(target, now()).await {
            // Closed in order, so that a ledger that is not meant is left as it was found.
            store.close().await?;
            return Err(refused);
        }
        store.bury_dead_runs(now()).await?;
        let mut recent = ReferenceIndex::beside(store.watermark().await? as usize);
        store.recent_keys(|key, id| recent.insert(key, id)).await?;
        let mut doubts = store.doubts().await?;
        doubts.reverse();
        // They may be of another file, and count as this run's with the line that they have there.
        let is_only_whole = !doubts.is_empty();
        let next_id = store.last_row().await? + 1;
        let before = store.last_checkpoint(run).await?;
        let way = run.parse_settings_hash;
        let has_outdated = store.has_outdated().await?;
        let is_retry = run.command == "retry";
        let send = match (is_retry, run.update_changed) {
            (true, _) => Send::Again,
            (_, true) => Send::Changed,
            _ => Send::Nothing,
        };
        store.note_settings(run.settings);
        let columns = run.columns.to_vec();
        let reference_at = columns.iter().position(|name| Some(name.as_str()) == run.reference_column);
        let run = store.insert_run(run, now()).await?;
        store.begin_checkpoint(run, way).await?;
        Ok(Ledger {
            store,
            _lock: lock,
            run,
            progress: CheckpointTracker::new(
                run,
                Checkpoint { since: run, is_only_whole, ..Checkpoint::default() },
            ),
            before,
            skipped: None,
            skipped_lines: HashMap::new(),
            by_field: Default::default(),
            tally: Tally::default(),
            written_at: 0,
            count: RunCounts::default(),
            recent,
            sequence: OrderedScan::default(),
            batches: OpenClaims::default(),
            met: SeenRows::default(),
            unowned: UnsendableRows::default(),
            columns,
            reference_at,
            met_imported: 0,
            is_retry,
            send,
            has_outdated,
            doubts,
            next_id,
            now,
            path: path.into(),
            identity: identity(path),
        })
    }

    /// This run's number.
    pub fn run(&self) -> i64 {
        self.run
    }

    /// Where the run before came to in the same source, read in the same way, and how many rows it had read there;
    /// each of them would be met with nothing to do. Some places are of use only `at_end` of the source: no row that
    /// follows could be told from a duplicate, or what the report says of single fields is not known by row.
    pub fn resume_point(&self, at_end: bool) -> Option<(Place, u64)> {
        let before = self.before.filter(|before| at_end || !before.is_only_whole)?;
        Some((before.place, before.tally.rows()))
    }

    /// The rows before that place are not read again: they count as they would have. Before any other row.
    ///
    /// # Errors
    /// Where the ledger cannot be written.
    pub async fn resume(&mut self) -> Result<(), Error> {
        let Some(before) = self.before.take() else { return Ok(()) };
        let tally = before.tally.seen_again();
        let is_only_whole = before.is_only_whole || !self.doubts.is_empty();
        let reached = Checkpoint { tally, is_only_whole, ..before };
        self.skipped_lines = self.store.places(before.since, self.run).await?;
        self.by_field = self.store.skip(self.run, &reached, (self.now)()).await?;
        (self.progress, self.skipped) = (CheckpointTracker::new(self.run, reached), Some(reached));
        self.count.tally = tally;
        self.count.last_line = before.place.line.saturating_sub(1);
        self.met_imported = tally.sum(Outcome::is_success);
        self.commit(Batch { flush: true, ..Batch::default() }).await.map(drop)
    }

    /// How many rows earlier runs left in doubt that are still to be claimed: their customers may be at
    /// the API. They are to be asked about before any row of the source is claimed, and count as none of
    /// its rows.
    pub fn rows_in_doubt(&self) -> usize {
        self.doubts.len()
    }

    /// The run's committed counts.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// What is committed of single fields, when the run begins: rows go without them, and rows differ in them.
    pub fn field_counts(&self) -> (Dropped, Changed) {
        self.by_field.clone()
    }

    /// These samples go along with the next commit, or with the end of the run.
    pub fn add_samples(&mut self, samples: Unwritten) {
        self.store.note_samples(samples);
    }

    /// Makes the settlements durable, and claims the rows, in one transaction.
    ///
    /// # Errors
    /// Then nothing of the batch is durable and no claim exists.
    pub async fn commit(&mut self, batch: Batch) -> Result<Committed, Error> {
        let Batch { doubts, rows, places, settled, figures, flush, live } = batch;
        let mut write = CommitBatch::new(self.run, (self.now)());
        write.live = live;
        for settlement in &settled {
            if settlement.claim.customer().is_some() {
                self.count.tally.settle(settlement.ending.outcome());
            }
            write.settle(settlement);
            if let Some(chunk) = settlement.claim.chunk {
                self.progress.settled(chunk, settlement.ending.outcome(), settlement.is_settled_for_good());
            }
            // Imported, whatever became of its Update.
            self.met_imported += u64::from(matches!(settlement.ending, RowResult::ExistingThenUpdate(..)));
            if !settlement.claim.known
                && let Some(batch) = self.batches.settle(settlement.claim.id)
            {
                write.end_batch(batch);
            }
        }
        let claims = self.claim(doubts, rows, &places, &mut write).await?;
        self.count.figures = figures;
        let deferred = write.is_empty() && !flush && write.now < self.written_at + PUT_OFF_MAX;
        if !deferred {
            write.checkpoint = self.progress.news();
            self.store.write(&write, &self.count, &mut self.recent).await?;
            let new = settled.iter().filter(|settlement| !settlement.claim.known);
            new.for_each(|settlement| self.batches.written(settlement.claim.reference()));
            (self.tally, self.written_at) = (self.count.tally, write.now);
        }
        log_rows(&settled, &write.left_over);
        let (changed, existing) = (write.updates.changed, write.existing);
        Ok(Committed { claims, tally: self.tally, dropped: write.dropped, deferred, changed, existing })
    }

    /// The claims of the batch, and in `write` what is to be written for them and for the rows that need none.
    async fn claim(
        &mut self,
        doubts: usize,
        rows: Vec<Row>,
        places: &[(usize, Place)],
        write: &mut CommitBatch<'_>,
    ) -> Result<Vec<Claim>, Error> {
        self.count.last_line = rows.last().map_or(self.count.last_line, |row| row.line);
        let decisions = self.decide(&rows).await?;
        write.unowned.give_way(self.unowned.take_gone());
        let mut claims = Vec::with_capacity(rows.len() + doubts);
        let mut updates = Vec::new();
        let first = self.doubts.len().saturating_sub(doubts);
        claims.extend(self.doubts.drain(first..).rev().map(|doubt| claim_doubt(doubt, write.now)));
        let mut places = places.iter().peekable();
        for (at, (row, decision)) in rows.into_iter().zip(decisions).enumerate() {
            if let (Ok(customer), false) = (&row.reading, matches!(decision, RowPlan::UnsendableRows(_))) {
                write.dropped.add(&customer.dropped);
            }
            match apply(row, decision, write, &mut self.count.tally, &mut self.progress) {
                Some(claim) if claim.errand == Operation::Update => updates.push(claim),
                claim => claims.extend(claim),
            }
            if let Some((_, place)) = places.next_if(|(rows, _)| *rows == at + 1) {
                self.progress.chunk_ended(*place);
            }
        }
        claims.iter().for_each(|claim| write.claim(claim));
        let new = claims.iter().filter(|claim| !claim.known);
        self.batches.insert(new.map(|claim| (claim.id, claim.reference())));
        // Updates are no claims of the ledger's: they may be sent twice.
        claims.append(&mut updates);
        Ok(claims)
    }

    /// Ends the run: nothing may be claimed any more.
    ///
    /// # Errors
    /// Where the ledger cannot be written.
    pub async fn end_run(
        mut self,
        state: RunState,
        exit_code: u8,
        stop_reason: Option<&str>,
        figures: &RequestCounts,
    ) -> Result<(), Error> {
        // SQLite goes on writing to a file that nobody can find any more, and says nothing.
        if identity(&self.path) != self.identity {
            return Err(Error::Moved(self.path));
        }
        self.store.merge_keys(&mut self.recent).await?;
        self.store.raise_watermark(self.next_id - 1).await?;
        self.store.end_run(self.run, state, exit_code, stop_reason, figures, (self.now)()).await?;
        self.store.close().await
    }
}

/// One event for each row, once what it says is durable.
fn log_rows(settled: &[Settlement], left_over: &[UnimportedRow]) {
    for UnimportedRow { line, outcome, field, rule, http_status, requests } in left_over {
        debug!(line, outcome = outcome.name(), field, rule, http_status, requests, "row not imported");
    }
    for Settlement { claim, ending, effort } in settled {
        if ending.outcome().is_success() {
            let requests = effort.requests;
            trace!(line = claim.line, outcome = ending.outcome().name(), requests, "row imported");
        }
    }
}
