//! The one writer of a ledger in a SQLite file.
//!
//! WAL, `synchronous=FULL`, and transactions begun `immediate`: a deferred transaction that reads before it writes
//! fails at once if another process wrote in between, whatever the busy timeout.
//!
//! Promises: a commit is one transaction, and its data is on the disk when it returns. A new ledger is created under
//! another name and renamed when it is complete, so no incomplete ledger ever has the ledger's name.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::TryStreamExt;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Row as _, SqlSafeStr, SqliteConnection,
    error::BoxDynError,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous},
};

use super::{
    super::{
        batch::{CommitBatch, Unsendable, UpdateRows},
        checkpoint::Checkpoint,
        claim::RowError,
        error::Error,
        json_rows::{BatchJson, UpdatesJson, hex, json_ids, json_rows, json_samples, json_settings, signed},
        model::{
            CustomerName, KnownRow, NewRun, OpenClaim, PendingUpdate, RequestCounts, RowId, RunCounts,
            RunEnd, RunId, Setting, Target,
        },
        ordered_scan::{OrderedRow, Owner, READ_ROWS},
        records::{ChangedAtApi, Pruned},
        reference_index::ReferenceIndex,
        rows::{
            ResultRow as _, read_checkpoint, read_claim, read_dropped, read_field_counts, read_in_doubt,
            read_known, read_pending_update, read_run_times, read_seen_before, read_target,
        },
        run_times::RunTimes,
        seen_rows::{SeenBefore, SeenRows, UnreadableRuns},
        timeline::Sample,
        unsendable::{EarlierKind, EarlierRecord, UnsendableRows},
    },
    bulk::{
        Bulk, add_created, add_key, add_record, add_unsendable, add_with_id, count_outcomes, count_run,
        own_words, pieces, set_checkpoint, set_heartbeat,
    },
    disk::{LOG_BYTES_KEPT, LogWatch, keep_temporary_files_beside, options},
    fault_ids::{FAULTS_MAX, FaultIds, FaultStorage},
    lock_file::{Identity, beside, check_ours, identity, lock, missing, private_file},
    rows::Query,
    statements::*,
};
use crate::customer::{Dropped, FieldCounts, Reference};

/// The migrations: number, name and statements of each file of the folder. `sqlx::migrate!` is not used: the macro builds
/// SQLite a second time, for the compiler.
const MIGRATIONS: [(i64, &str, &str); 5] = [
    (FIRST_MIGRATION, "ledger", include_str!("../../../migrations/sqlite/0012_ledger.sql")),
    (13, "pace", include_str!("../../../migrations/sqlite/0013_pace.sql")),
    (14, "faults", include_str!("../../../migrations/sqlite/0014_faults.sql")),
    (UNSENDABLE_MIGRATION, "unsendable", include_str!("../../../migrations/sqlite/0015_unsendable.sql")),
    (16, "quick_check", include_str!("../../../migrations/sqlite/0016_quick_check.sql")),
];

/// The first SQLite without the WAL-reset bug that could corrupt a database.
const OLDEST_SQLITE: [u32; 3] = [3, 51, 3];

/// Lower numbers were development versions.
pub(super) const FIRST_MIGRATION: i64 = 12;

/// The one that moved invalid rows and duplicates to a table of their own.
pub(super) const UNSENDABLE_MIGRATION: i64 = 15;

/// How long a statement waits for another process, such as a backup, before it fails.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// A checkpoint of the write-ahead log every 16 MB instead of every 4 MB: fewer fsyncs of the main file.
const CHECKPOINT_PAGES: &str = "4096";

/// How many lines of a source one statement takes over.
const TAKE_OVER_LINES: u64 = 100_000;

/// Maximum number of ids per statement.
const IDS_MAX: usize = 10_000;

/// The one writer.
pub(crate) struct Store {
    path: PathBuf,
    /// The lock, which ends with the process, and the identity of the ledger's file when the lock was taken.
    held: Option<(File, Option<Identity>)>,
    connection: SqliteConnection,
    settle_created: Bulk,
    settle_with_id: Bulk,
    insert_unsendable: Bulk,
    keep_records: Bulk,
    merge_keys: Bulk,
    /// In memory what the table `reference_key` does not have yet.
    index: ReferenceIndex,
    faults: FaultIds,
    log: LogWatch,
    /// Data for the next transaction that is made anyway: samples cost no fsync of their own, and a crash loses at
    /// most the last one and the one in progress.
    settings: Vec<Setting>,
    samples: Vec<(usize, Vec<Sample>)>,
}

impl Store {
    /// Opens the ledger, or makes a new one where there is none, and takes its lock.
    pub(crate) async fn hold(path: &Path) -> Result<Store, Error> {
        // A ledger has one lock, whichever path leads to it.
        let real = path.canonicalize();
        if let (Err(error), true) = (&real, path.is_symlink()) {
            // Creating a ledger here would replace the link, and the ledger would not be where the link points.
            let error = match error.kind() {
                io::ErrorKind::NotFound => io::Error::other("it is a link to a file that does not exist"),
                kind => kind.into(),
            };
            return Err(Error::Open { path: path.into(), error });
        }
        let path = real.as_deref().unwrap_or(path);
        // Before the lock file is created: no lock file may be left beside another program's file.
        check_ours(path)?;
        let lock = lock(path)?;
        if !check_ours(path)? {
            create(path).await?;
        }
        Store::open_locked(path, lock).await
    }

    /// As [`Store::hold`], for an existing ledger only.
    pub(crate) async fn hold_existing(path: &Path) -> Result<Store, Error> {
        let real = path.canonicalize();
        let path = real.as_deref().unwrap_or(path);
        if !check_ours(path)? {
            return Err(missing(path));
        }
        Store::open_locked(path, lock(path)?).await
    }

    async fn open_locked(path: &Path, lock: File) -> Result<Store, Error> {
        let mut store = Store::open(path).await?;
        store.held = Some((lock, identity(path)));
        Ok(store)
    }

    /// SQLite would continue to write to a file that was moved or deleted, without an error.
    fn check_path(&self) -> Result<(), Error> {
        match &self.held {
            Some((_, held)) if identity(&self.path) != *held => Err(Error::Moved(self.path.clone())),
            _ => Ok(()),
        }
    }

    /// Opens the ledger; brings its tables up to date.
    async fn open(path: &Path) -> Result<Store, Error> {
        let connection = connect(path, SqliteJournalMode::Wal, SqliteSynchronous::Full).await?;
        let mut store = Store::of_connection(path.into(), connection);
        let version: String = store.one(SELECT_SQLITE_VERSION).await?.get(0);
        if parse_version(&version) < OLDEST_SQLITE {
            return Err(Error::OldSqlite(version));
        }
        migrate(path, &mut store.connection).await?;
        Ok(store)
    }

    /// An empty ledger in memory, in place of one that does not exist.
    pub(crate) async fn in_memory() -> Result<Store, Error> {
        let path = Path::new(":memory:");
        let options = SqliteConnectOptions::new().in_memory(true).disable_statement_logging();
        let connected = options.connect().await;
        let mut connection =
            connected.map_err(|error| Error::Sqlite { path: path.into(), error: error.into() })?;
        migrate(path, &mut connection).await?;
        Ok(Store::of_connection(path.into(), connection))
    }

    /// The ledger of a reader's connection, for lookups only: any write fails.
    pub(super) fn of_connection(path: PathBuf, connection: SqliteConnection) -> Store {
        Store {
            path,
            held: None,
            connection,
            settle_created: Bulk::new(SETTLE_CREATED),
            settle_with_id: Bulk::new(SETTLE_WITH_ID),
            insert_unsendable: Bulk::new(INSERT_UNSENDABLE),
            keep_records: Bulk::new(KEEP_RECORDS),
            merge_keys: Bulk::new(MERGE_KEYS),
            index: ReferenceIndex::default(),
            faults: FaultIds::default(),
            log: LogWatch::default(),
            settings: Vec::new(),
            samples: Vec::new(),
        }
    }

    /// Closes the ledger. SQLite then copies its log into the file, so that a finished ledger is a single file.
    pub(crate) async fn close(self) -> Result<(), Error> {
        let path = self.path;
        self.connection.close().await.map_err(|error| Error::Sqlite { path, error: error.into() })
    }

    // The beginning of a run

    /// Records the target in a new ledger; refuses another target in an old one.
    pub(crate) async fn keep_target(&mut self, requested: &Target, now: i64) -> Result<(), Error> {
        let rows = self.all(sqlx::query(SELECT_TARGET)).await?;
        match rows.first().map(read_target) {
            Some(has) => Error::check_target(self.path.clone().into(), has, requested),
            None => {
                let insert =
                    sqlx::query(INSERT_TARGET).bind(&requested.base_url).bind(&requested.merchant_id);
                self.execute(insert.bind(now)).await.map(drop)
            }
        }
    }

    /// Ends runs that crashed; their open claims become rows in doubt. Only the holder of the lock may call it.
    pub(crate) async fn recover_crashed_runs(&mut self, now: i64) -> Result<(), Error> {
        self.begin().await?;
        self.execute(sqlx::query(RECOVER_CLAIMS).bind(now)).await?;
        self.execute(sqlx::query(DELETE_CLAIM_BATCHES)).await?;
        self.execute(sqlx::query(EXPLAIN_RECOVERED_CLAIMS)).await?;
        self.execute(sqlx::query(END_CRASHED_RUNS).bind(now)).await?;
        self.commit().await
    }

    /// Begins a run; returns its number.
    pub(crate) async fn insert_run(&mut self, run: &NewRun<'_>, now: i64) -> Result<RunId, Error> {
        let columns = serde_json::to_string(run.columns.names).unwrap_or_default();
        let insert = sqlx::query(INSERT_RUN).bind(run.command.name()).bind(run.source).bind(run.source_path);
        let insert = insert.bind(columns);
        let insert = insert.bind(run.columns.reference).bind(now).bind(run.row_mapping);
        self.settings = run.settings.to_vec();
        Ok(RunId(self.all(insert).await?.first().map_or(0, |row| row.get(0))))
    }

    /// The rows that earlier runs left in doubt, in file order. Their number is bounded by what one crash can leave,
    /// because each run looks them up first.
    pub(crate) async fn rows_in_doubt(&mut self) -> Result<Vec<OpenClaim>, Error> {
        let rows = self.all(sqlx::query(SELECT_IN_DOUBT)).await?;
        Ok(rows.iter().map(read_in_doubt).collect())
    }

    /// The number of the next run.
    pub(crate) async fn next_run(&mut self) -> Result<RunId, Error> {
        Ok(RunId(self.one(SELECT_NEXT_RUN).await?.get(0)))
    }

    /// Open claims of new rows, by reference, as rows in doubt. They belong to a running or crashed run; bounded.
    pub(crate) async fn open_claims(&mut self) -> Result<HashMap<String, KnownRow>, Error> {
        let rows = self.all(sqlx::query(SELECT_CLAIMS)).await?;
        Ok(rows.iter().map(read_claim).collect())
    }

    // References

    /// Reads into the index of references what the table `reference_key` does not have yet.
    pub(crate) async fn read_index(&mut self) -> Result<(), Error> {
        let in_table: i64 = self.one(SELECT_INDEXED_UP_TO).await?.get(0);
        let mut index = ReferenceIndex::in_front_of(in_table as usize);
        self.pairs(sqlx::query(SELECT_UNINDEXED_KEYS), |key, id| index.insert(key, RowId(id))).await?;
        self.index = index;
        Ok(())
    }

    /// Adds rows that are new to the ledger to the index.
    pub(crate) fn index_new<'a>(&mut self, rows: impl Iterator<Item = (&'a Reference, RowId)>) {
        rows.for_each(|(reference, id)| self.index.insert(reference.key(), id));
    }

    /// The highest id ever assigned.
    pub(crate) async fn last_row(&mut self) -> Result<RowId, Error> {
        Ok(RowId(self.one(SELECT_LAST_ROW).await?.get(0)))
    }

    /// The rows that may have one of these references, because theirs has the same hash, by reference.
    pub(crate) async fn find(
        &mut self,
        references: impl Iterator<Item = &Reference>,
    ) -> Result<HashMap<String, KnownRow>, Error> {
        // Of a million duplicates many may have one reference.
        let mut keys: Vec<u64> = references.map(Reference::key).collect();
        keys.sort_unstable();
        keys.dedup();
        let ids: Vec<RowId> = keys.iter().flat_map(|key| self.index.get(*key)).collect();
        keys.retain(|key| self.index.may_be_in_table(*key));
        if ids.is_empty() && keys.is_empty() {
            return Ok(HashMap::new());
        }
        let keys = json_rows(keys.iter().map(|key| signed(*key)));
        let rows = self.all(sqlx::query(FIND_ROWS).bind(json_ids(&ids)).bind(keys)).await?;
        rows.iter().map(|row| Ok((row.get(1), read_known(&*self.path, row)?))).collect()
    }

    /// The next rows from this id on that own their references.
    pub(crate) async fn read_ordered(&mut self, from: RowId) -> Result<Vec<Owner>, Error> {
        let query = sqlx::query(READ_ORDERED).bind(from.0).bind(READ_ROWS as i64);
        let rows = self.all(query).await?;
        let text = rows.first().map_or("[]", |row| row.get::<&str, _>(0));
        let rows: Vec<OrderedRow<'_>> = serde_json::from_str(text)
            .map_err(|error| Error::Sqlite { path: self.path.clone(), error: error.into() })?;
        let newer = || Error::Newer(self.path.clone().into());
        rows.into_iter().map(|row| row.read().ok_or_else(newer)).collect()
    }

    /// The customers of these rows.
    pub(crate) async fn customer_names(
        &mut self,
        ids: &[RowId],
    ) -> Result<HashMap<RowId, CustomerName>, Error> {
        let rows = self.all(sqlx::query(FIND_CUSTOMER_NAMES).bind(json_ids(ids))).await?;
        let read = |row: &SqliteRow| CustomerName {
            customer_id: row.get(1),
            api_reference: row.get::<Option<&str>, _>(2).map(Reference::recorded),
        };
        Ok(rows.iter().map(|row| (RowId(row.get(0)), read(row))).collect())
    }

    /// Whether another row, whose reference the API spells differently, has the same customer.
    pub(crate) async fn has_other_row(&mut self, customer_id: &str, id: RowId) -> Result<bool, Error> {
        let rows = self.all(sqlx::query(HAS_OTHER_ROW).bind(customer_id).bind(id.0)).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// Writes all hashes to the table `reference_key`.
    pub(crate) async fn merge_index(&mut self, last_row: RowId) -> Result<(), Error> {
        self.check_path()?;
        self.begin().await?;
        let mut index = std::mem::take(&mut self.index);
        loop {
            let rest = index.slice_of_rest();
            if rest.is_empty() {
                break;
            }
            self.bulk(|store| &store.merge_keys, &[], rest, add_key).await?;
            self.slice_merged(&mut index).await?;
        }
        self.commit().await?;
        self.raise_indexed_up_to(last_row).await
    }

    /// Writes a slice of the hashes to the table, within a transaction.
    async fn merge_slice(&mut self) -> Result<(), Error> {
        // An error ends the run, and the index with it: the table has what is needed to read it again.
        let mut index = std::mem::take(&mut self.index);
        let slice = index.slice_to_merge();
        if !slice.is_empty() {
            self.bulk(|store| &store.merge_keys, &[], slice, add_key).await?;
            self.slice_merged(&mut index).await?;
        }
        self.index = index;
        Ok(())
    }

    async fn slice_merged(&mut self, index: &mut ReferenceIndex) -> Result<(), Error> {
        match index.slice_merged() {
            Some(highest) => self.raise_indexed_up_to(highest).await,
            None => Ok(()),
        }
    }

    async fn raise_indexed_up_to(&mut self, row: RowId) -> Result<(), Error> {
        self.execute(sqlx::query(RAISE_INDEXED_UP_TO).bind(row.0)).await.map(drop)
    }

    // Rows that cannot be sent

    /// The records of earlier runs about rows that cannot be sent.
    pub(crate) async fn unsendable_rows(&mut self, run: RunId) -> Result<UnsendableRows, Error> {
        let mut earlier = Vec::new();
        self.each(sqlx::query(SELECT_EARLIER_UNSENDABLE).bind(run.0), |row| {
            let content = row.get::<Option<i64>, _>(0).map_or_else(|| key_of(row.get(1)), |hash| hash as u64);
            let kind = EarlierKind::new(row.get(3), row.get(4));
            earlier.push((content, EarlierRecord::new(RowId(row.get(2)), kind)));
        })
        .await?;
        let mut contents = Vec::new();
        let query = sqlx::query(SELECT_CONTENTS_WITHOUT_REFERENCE).bind(run.0);
        self.pairs(query, |content, _| contents.push(content)).await?;
        let mut named = Vec::new();
        let query = sqlx::query(SELECT_NAMED_REFERENCES).bind(run.0);
        self.each(query, |row| named.push((key_of(row.get(0)), RowId(row.get(1))))).await?;
        Ok(UnsendableRows::new(earlier, contents, named))
    }

    /// The references of these rows.
    pub(crate) async fn references(&mut self, ids: &[RowId]) -> Result<HashSet<String>, Error> {
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let rows = self.all(sqlx::query(SELECT_REFERENCES).bind(json_ids(ids))).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Deletes records of earlier runs about rows that cannot be sent.
    pub(crate) async fn delete_unsendable(&mut self, ids: &[RowId], run: RunId) -> Result<(), Error> {
        for some in ids.chunks(IDS_MAX) {
            self.execute(sqlx::query(DELETE_UNSENDABLE).bind(json_ids(some)).bind(run.0)).await?;
        }
        Ok(())
    }

    /// The earlier runs that found a row with an unreadable reference on one of these lines.
    pub(crate) async fn unreadable_runs(
        &mut self,
        lines: &[u64],
        run: RunId,
    ) -> Result<UnreadableRuns, Error> {
        let mut unreadable = UnreadableRuns::default();
        let query = sqlx::query(SELECT_UNREADABLE).bind(json_rows(lines)).bind(run.0);
        self.pairs(query, |line, run| unreadable.0.entry(line).or_default().push(RunId(run))).await?;
        Ok(unreadable)
    }

    /// The rows that this run had seen when it reached the end of its source.
    pub(crate) async fn seen_by(&mut self, run: RunId) -> Result<Option<SeenBefore>, Error> {
        self.seen(sqlx::query(SELECT_SEEN).bind(run.0)).await
    }

    /// The rows that the previous run had seen.
    pub(crate) async fn seen_by_run_before(&mut self, run: RunId) -> Result<Option<SeenBefore>, Error> {
        self.seen(sqlx::query(SELECT_SEEN_BEFORE).bind(run.0)).await
    }

    async fn seen(&mut self, query: Query<'_>) -> Result<Option<SeenBefore>, Error> {
        Ok(self.all(query).await?.first().map(read_seen_before))
    }

    /// Whether this run found rows with unreadable references, so that the rows it has seen must be stored. Deletes
    /// what is stored for runs whose rows have all been corrected.
    pub(crate) async fn is_seen_needed(&mut self, run: RunId) -> Result<bool, Error> {
        self.execute(sqlx::query(DELETE_SEEN)).await?;
        Ok(!self.all(sqlx::query(HAS_UNREADABLE).bind(run.0)).await?.is_empty())
    }

    /// Stores which rows this run has seen.
    pub(crate) async fn keep_seen(
        &mut self,
        run: RunId,
        next_id: RowId,
        seen: &SeenRows,
    ) -> Result<(), Error> {
        let keep = sqlx::query(KEEP_SEEN).bind(run.0).bind(next_id.0).bind(seen.to_bytes());
        self.execute(keep).await.map(drop)
    }

    // Updates

    /// Whether the ledger has unsuccessful Updates.
    pub(crate) async fn has_pending_updates(&mut self) -> Result<bool, Error> {
        Ok(self.one(HAS_PENDING_UPDATES).await?.get(0))
    }

    /// The unsuccessful Updates of these rows.
    pub(crate) async fn pending_updates(
        &mut self,
        ids: &[RowId],
    ) -> Result<HashMap<RowId, PendingUpdate>, Error> {
        let rows = self.all(sqlx::query(FIND_PENDING_UPDATES).bind(json_ids(ids))).await?;
        rows.iter().map(|row| read_pending_update(&*self.path, row)).collect()
    }

    // Imported rows

    /// The number of imported rows.
    pub(crate) async fn count_imported(&mut self) -> Result<u64, Error> {
        Ok(self.one(COUNT_IMPORTED).await?.count(0))
    }

    /// The next references of rows that this run found invalid, and the line and row from which to go on.
    pub(crate) async fn invalid_references(
        &mut self,
        run: RunId,
        behind: (i64, RowId),
        max: usize,
    ) -> Result<(Vec<Reference>, (i64, RowId)), Error> {
        let query = sqlx::query(SELECT_INVALID_REFERENCES).bind(run.0).bind(behind.0).bind(behind.1.0);
        let rows = self.all(query.bind(max as i64)).await?;
        let last = rows.last().map_or(behind, |row| (row.get(0), RowId(row.get(1))));
        Ok((rows.iter().map(|row| Reference::recorded(row.get(2))).collect(), last))
    }

    /// The number of imported rows that the previous run's source did not contain; none if unknown.
    pub(crate) async fn absent_before(&mut self, run: RunId) -> Result<Option<u64>, Error> {
        let rows = self.all(sqlx::query(SELECT_ABSENT_BEFORE).bind(run.0)).await?;
        Ok(rows.first().map(|row| row.count(0)))
    }

    /// Stores the number of imported rows that this run's source did not contain.
    pub(crate) async fn set_absent(&mut self, run: RunId, absent: u64) -> Result<(), Error> {
        self.execute(sqlx::query(SET_ABSENT).bind(run.0).bind(signed(absent))).await.map(drop)
    }

    /// Marks the rows as changed if the ledger still has the fields that were compared; returns how many.
    pub(crate) async fn mark_changed(&mut self, rows: &[ChangedAtApi]) -> Result<u64, Error> {
        let mut marked = 0;
        self.begin().await?;
        for some in rows.chunks(IDS_MAX) {
            let json = json_rows(some.iter().map(|row| (row.id, hex(&row.remembered), hex(&row.at_api))));
            marked += self.execute(sqlx::query(MARK_CHANGED).bind(json)).await?;
        }
        self.execute(sqlx::query(FORGET_CHECKPOINTS)).await?;
        self.commit().await?;
        Ok(marked)
    }

    // Checkpoints

    /// The checkpoint of the last run, if it read the same source with the same settings.
    pub(crate) async fn last_checkpoint(&mut self, run: &NewRun<'_>) -> Result<Option<Checkpoint>, Error> {
        let query = sqlx::query(SELECT_LAST_CHECKPOINT).bind(run.command.name()).bind(run.source_path);
        Ok(self.all(query.bind(run.parse_settings_hash)).await?.first().and_then(read_checkpoint))
    }

    /// Adds a run without a checkpoint.
    pub(crate) async fn begin_checkpoint(
        &mut self,
        run: RunId,
        parse_settings_hash: &str,
    ) -> Result<(), Error> {
        self.execute(sqlx::query(INSERT_CHECKPOINT).bind(run.0).bind(parse_settings_hash)).await.map(drop)
    }

    /// The line that each run of the chain before this run reached.
    pub(crate) async fn checkpoint_lines(
        &mut self,
        chain_start: RunId,
        run: RunId,
    ) -> Result<HashMap<RunId, u64>, Error> {
        let rows = self.all(sqlx::query(SELECT_CHECKPOINT_LINES).bind(chain_start.0).bind(run.0)).await?;
        Ok(rows.iter().map(|row| (RunId(row.get(0)), row.count(1))).collect())
    }

    /// Records that the run resumes at this checkpoint; returns the counts by field of the previous run. The time is
    /// for the other backend, whose rows that cannot be sent have one.
    pub(crate) async fn resume(
        &mut self,
        run: RunId,
        reached: &Checkpoint,
        _now: i64,
    ) -> Result<(Dropped, FieldCounts), Error> {
        self.begin().await?;
        self.take_over_unsendable(run, reached).await?;
        self.execute(set_checkpoint(run, reached)).await?;
        let dropped = self.all(sqlx::query(COPY_DROPPED).bind(run.0)).await?;
        let changed = self.all(sqlx::query(COPY_CHANGED).bind(run.0)).await?;
        self.commit().await?;
        Ok((read_dropped(&dropped), read_field_counts(&changed).collect()))
    }

    /// Reassigns the rows of the skipped part that cannot be sent. Until a statement has ended, SQLite keeps the former
    /// state of each page that it changes in a temporary file, which is as large as the ledger if one statement
    /// changes all rows.
    async fn take_over_unsendable(&mut self, run: RunId, reached: &Checkpoint) -> Result<(), Error> {
        for (from, end) in line_ranges(reached.position.line) {
            let rows = sqlx::query(TAKE_OVER_UNSENDABLE).bind(run.0).bind(reached.chain_start.0);
            self.execute(rows.bind(from).bind(end)).await?;
        }
        Ok(())
    }

    // The commit of a run

    /// Writes these samples with the next transaction. They replace all from the index `from` on.
    pub(crate) fn add_samples(&mut self, from: usize, samples: Vec<Sample>) {
        self.samples.push((from, samples));
    }

    /// Writes the batch in one transaction, together with some hashes of the index, which only repeat what is in the
    /// rows.
    pub(crate) async fn write(&mut self, batch: &CommitBatch<'_>, counts: &RunCounts) -> Result<(), Error> {
        let json = BatchJson::of(batch);
        let (run, now) = (batch.run, batch.now);
        self.begin().await?;
        self.settle(batch, &json).await?;
        let ended = match &json.ended_claims {
            Some(ids) => self.execute(sqlx::query(END_CLAIM_BATCHES).bind(ids).bind(run.0)).await?,
            None => 0,
        };
        for (field, rule, rows) in batch.dropped.iter() {
            let count = sqlx::query(COUNT_DROPPED).bind(run.0).bind(field.name()).bind(rule.name());
            self.execute(count.bind(rows as i64)).await?;
        }
        self.write_updates(&batch.updates, &json.updates, run, now).await?;
        for (note, rows) in batch.existing.notes() {
            self.execute(sqlx::query(COUNT_EXISTING).bind(run.0).bind(note).bind(rows as i64)).await?;
        }
        if let (Some(first), Some(rows)) = (batch.new_claims.first(), &json.new_claims) {
            let insert = sqlx::query(INSERT_CLAIM_BATCH).bind(first.id.0).bind(run.0).bind(now);
            self.execute(insert.bind(rows)).await?;
        }
        if let Some(rows) = &json.repeated_claims {
            self.execute(sqlx::query(CLAIM_AGAIN).bind(rows).bind(run.0).bind(now)).await?;
        }
        if !batch.renewed.is_empty() {
            self.execute(sqlx::query(FORGET_BEFORE_CLAIM).bind(json_ids(&batch.renewed))).await?;
        }
        if let Some(reached) = &batch.checkpoint {
            self.execute(set_checkpoint(run, reached)).await?;
        }
        let counted = self.execute(count_run(run, counts)).await?;
        // The lock file was deleted, and another process took over the ledger: the state of this process is no longer
        // valid.
        if counted != 1 || ended != batch.ended_claims.len() as u64 {
            return Err(Error::TakenOver { path: self.path.clone(), run });
        }
        self.execute(count_outcomes(run, &counts.tally)).await?;
        if let Some(heartbeat) = &batch.heartbeat {
            self.execute(set_heartbeat(heartbeat, run, now)).await?;
        }
        self.write_settings_and_samples(run).await?;
        self.merge_slice().await?;
        self.commit().await?;
        if batch.heartbeat.is_some() {
            self.log.check(&self.path);
        }
        Ok(())
    }

    async fn settle(&mut self, batch: &CommitBatch<'_>, json: &BatchJson) -> Result<(), Error> {
        let (run, now) = (batch.run, batch.now);
        self.bulk(|store| &store.settle_created, &[run.0, now], &batch.created, add_created).await?;
        self.bulk(|store| &store.settle_with_id, &[run.0, now], &batch.with_id, add_with_id).await?;
        // Must precede the deletion of earlier runs' records, which show whether a row was corrected.
        if let Some(rows) = &json.corrected {
            for sql in [MARK_CORRECTED, MARK_UNSENDABLE_CORRECTED] {
                self.execute(sqlx::query(sql).bind(rows).bind(run.0)).await?;
            }
        }
        self.execute_with_rows(
            run,
            now,
            [
                (DELETE_SUPERSEDED_BY_ID, &json.superseded_by_id),
                (DELETE_SUPERSEDED_BY_LINE, &json.superseded_by_line),
                (DELETE_SUPERSEDED_BY_CELLS, &json.superseded_by_cells),
            ],
        )
        .await?;
        let unsendable = self.with_faults(&batch.unsendable).await?;
        self.bulk(|store| &store.insert_unsendable, &[run.0], &unsendable, add_unsendable).await?;
        if let Some(words) = own_words(&unsendable) {
            self.execute(sqlx::query(SET_OWN_WORDS).bind(words)).await?;
        }
        if let Some(rows) = &json.without_id {
            self.execute(sqlx::query(SETTLE_WITHOUT_ID).bind(rows).bind(run.0).bind(now)).await?;
            if batch.restores_rows {
                self.execute(sqlx::query(RESTORE_ROWS).bind(rows).bind(run.0)).await?;
            }
        }
        self.bulk(|store| &store.keep_records, &[run.0], &batch.records, add_record).await?;
        if !batch.erased.is_empty() {
            self.execute(sqlx::query(ERASE_RECORDS).bind(json_ids(&batch.erased))).await?;
        }
        Ok(())
    }

    /// The rows, each with the place where its fault is stored. A new fault is added to the table, in the transaction of
    /// its rows.
    async fn with_faults<'b>(
        &mut self,
        rows: &'b [Unsendable],
    ) -> Result<Vec<(&'b Unsendable, FaultStorage)>, Error> {
        if !rows.is_empty() && !self.faults.is_read() {
            let known = self.all(sqlx::query(SELECT_FAULTS).bind(FAULTS_MAX as i64)).await?;
            self.faults.read(known.iter().map(|row| (row.get(0), [row.get(1), row.get(2), row.get(3)])));
        }
        let mut placed = Vec::with_capacity(rows.len());
        for same in rows.chunk_by(|one, next| Arc::ptr_eq(&one.error, &next.error)) {
            let Some(first) = same.first() else { continue };
            let storage = self.faults.storage_of(&first.error);
            if let FaultStorage::NewInTable(id) = storage {
                let RowError { field, code, message, .. } = &*first.error;
                let insert = sqlx::query(INSERT_FAULT).bind(id).bind(field).bind(code).bind(message);
                self.execute(insert).await?;
            }
            placed.extend(same.iter().map(|row| (row, storage)));
        }
        Ok(placed)
    }

    /// Executes those of the statements that have rows.
    async fn execute_with_rows<const N: usize>(
        &mut self,
        run: RunId,
        now: i64,
        statements: [(&'static str, &Option<String>); N],
    ) -> Result<(), Error> {
        for (sql, rows) in statements {
            if let Some(rows) = rows {
                self.execute(sqlx::query(sql).bind(rows).bind(run.0).bind(now)).await?;
            }
        }
        Ok(())
    }

    async fn write_updates(
        &mut self,
        updates: &UpdateRows<'_>,
        json: &UpdatesJson,
        run: RunId,
        now: i64,
    ) -> Result<(), Error> {
        self.execute_with_rows(
            run,
            now,
            [
                (SETTLE_UPDATED, &json.updated),
                (SETTLE_UNFINISHED_UPDATES, &json.unfinished),
                (INSERT_UNFINISHED_UPDATES, &json.new_unfinished),
                (RESTORE_UPDATES, &json.restored),
                (DELETE_FINISHED_UPDATES, &json.finished),
                (BEGIN_UPDATES, &json.begun),
            ],
        )
        .await?;
        for (field, rows) in updates.changed_counts().iter() {
            let count = sqlx::query(COUNT_CHANGED).bind(run.0).bind(field.name());
            self.execute(count.bind(signed(rows))).await?;
        }
        Ok(())
    }

    /// Writes the pending settings and samples; inside a transaction.
    async fn write_settings_and_samples(&mut self, run: RunId) -> Result<(), Error> {
        let settings = std::mem::take(&mut self.settings);
        if !settings.is_empty() {
            let rows = json_settings(&settings);
            self.execute(sqlx::query(INSERT_SETTINGS).bind(rows).bind(run.0)).await?;
        }
        for (from, samples) in std::mem::take(&mut self.samples) {
            let from = from as i64;
            self.execute(sqlx::query(DELETE_SAMPLES).bind(run.0).bind(from)).await?;
            let rows = json_samples(&samples);
            self.execute(sqlx::query(INSERT_SAMPLES).bind(rows).bind(run.0).bind(from)).await?;
        }
        Ok(())
    }

    /// Ends the run.
    pub(crate) async fn end_run(
        &mut self,
        run: RunId,
        end: RunEnd<'_>,
        requests: &RequestCounts,
        now: i64,
    ) -> Result<(), Error> {
        let RunEnd { state, exit_code, stop_reason, .. } = end;
        self.check_path()?;
        self.begin().await?;
        self.execute(sqlx::query(DELETE_HEARTBEAT)).await?;
        let end = sqlx::query(END_RUN).bind(run.0).bind(state.name()).bind(exit_code).bind(stop_reason);
        let end = end.bind(now).bind(requests.requests as i64);
        self.execute(end.bind(requests.retries as i64).bind(requests.throttled as i64)).await?;
        self.write_settings_and_samples(run).await?;
        self.commit().await
    }

    /// Deletes the record of a run that has done nothing; its number is not reused.
    pub(crate) async fn discard_run(&mut self, run: RunId) -> Result<(), Error> {
        let gone = format!("[{run}]");
        self.check_path()?;
        self.begin().await?;
        self.execute(sqlx::query(DELETE_HEARTBEAT)).await?;
        self.execute(sqlx::query(INSERT_PRUNED_RUN)).await?;
        self.execute(sqlx::query(KEEP_RUN_NUMBERS).bind(&gone)).await?;
        self.execute(sqlx::query(DELETE_RUNS).bind(&gone)).await?;
        self.commit().await
    }

    // Pruning

    /// The beginning and the end of each run that has ended, in order.
    pub(crate) async fn run_times(&mut self) -> Result<Vec<(RunId, RunTimes)>, Error> {
        let runs = self.all(sqlx::query(SELECT_RUN_TIMES)).await?;
        Ok(runs.iter().map(read_run_times).collect())
    }

    /// Deletes runs, the data that belongs only to them, and the cells of their rows. Returns the space to the file
    /// system.
    pub(crate) async fn delete_runs(&mut self, old: &[RunId]) -> Result<Pruned, Error> {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |data| data.len());
        let size_before = size(&self.path);
        let old: Vec<i64> = old.iter().map(|run| run.0).collect();
        let pruned = self.delete_old_runs(&serde_json::to_string(&old).unwrap_or_default()).await?;
        if !pruned.is_nothing() {
            self.execute(sqlx::query(VACUUM)).await?;
        }
        Ok(Pruned { bytes_before: size_before, bytes_after: size(&self.path), ..pruned })
    }

    /// `old` is a list of runs in JSON.
    async fn delete_old_runs(&mut self, old: &str) -> Result<Pruned, Error> {
        self.begin().await?;
        let records = self.execute(sqlx::query(DELETE_OLD_RECORDS).bind(old)).await?;
        let unsendable = self.execute(sqlx::query(DELETE_OLD_UNSENDABLE).bind(old)).await?;
        let gone = self.all(sqlx::query(SELECT_RUNS_TO_DELETE).bind(old)).await?;
        let (gone, runs) = gone.first().map_or(("[]".to_owned(), 0), |row| (row.get(0), row.count(1)));
        // Each invalid row and duplicate is deleted with its cells.
        let pruned = Pruned { runs, records: records + unsendable, unsendable, ..Pruned::default() };
        if !pruned.is_nothing() {
            self.execute(sqlx::query(INSERT_PRUNED_RUN)).await?;
            self.execute(sqlx::query(HAND_OVER_EMPTIED).bind(old)).await?;
            for sql in [
                KEEP_RUN_NUMBERS,
                HAND_OVER_ROWS,
                HAND_OVER_CORRECTED,
                HAND_OVER_UNSENDABLE_CORRECTED,
                HAND_OVER_UPDATES,
            ] {
                self.execute(sqlx::query(sql).bind(&gone)).await?;
            }
            for deletion in self.all(sqlx::query(SELECT_DELETIONS)).await? {
                let sql: String = deletion.get(0);
                self.execute(sqlx::query(AssertSqlSafe(sql)).bind(&gone)).await?;
            }
            self.execute(sqlx::query(DELETE_CHECKPOINTS)).await?;
            self.execute(sqlx::query(DELETE_RUNS).bind(&gone)).await?;
        }
        self.commit().await?;
        Ok(pruned)
    }

    // Statements

    async fn begin(&mut self) -> Result<(), Error> {
        self.execute(sqlx::query(BEGIN)).await.map(drop)
    }

    /// Commits the transaction: everything written since `begin` is on the disk when this returns.
    async fn commit(&mut self) -> Result<(), Error> {
        #[cfg(feature = "crash-points")]
        super::super::crash_point::point();
        self.execute(sqlx::query(COMMIT)).await?;
        #[cfg(feature = "crash-points")]
        super::super::crash_point::point();
        Ok(())
    }

    /// Executes one statement for many rows; the constants precede the rows. While SQLite's thread executes it for one
    /// piece, this thread prepares the next.
    async fn bulk<T>(
        &mut self,
        statement: impl Fn(&Store) -> &Bulk,
        constants: &[i64],
        rows: &[T],
        add: impl Fn(&mut SqliteArguments, &T) -> Result<(), BoxDynError>,
    ) -> Result<(), Error> {
        let bulk = statement(self).clone();
        let mut pieces = pieces(rows);
        let mut fill = || pieces.next().map(|piece| bulk.fill(constants, piece, &add));
        let mut filled = fill();
        while let Some((text, arguments)) = filled {
            let arguments = arguments.map_err(|error| self.error(sqlx::Error::Encode(error)))?;
            let insert = self.execute(sqlx::query_with(AssertSqlSafe(text), arguments));
            let (inserted, next) = tokio::join!(insert, async { fill() });
            inserted?;
            filled = next;
        }
        Ok(())
    }

    async fn execute(&mut self, query: Query<'_>) -> Result<u64, Error> {
        let done = query.execute(&mut self.connection).await;
        done.map(|done| done.rows_affected()).map_err(|error| self.error(error))
    }

    async fn all(&mut self, query: Query<'_>) -> Result<Vec<SqliteRow>, Error> {
        let rows = query.fetch_all(&mut self.connection).await;
        rows.map_err(|error| self.error(error))
    }

    async fn one(&mut self, sql: &'static str) -> Result<SqliteRow, Error> {
        let row = sqlx::query(sql).fetch_one(&mut self.connection).await;
        row.map_err(|error| self.error(error))
    }

    /// Passes each pair of a hash or line and a number to `each`.
    async fn pairs(&mut self, query: Query<'_>, mut each: impl FnMut(u64, i64)) -> Result<(), Error> {
        self.each(query, |row| each(row.get::<i64, _>(0) as u64, row.get(1))).await
    }

    /// Passes each row to `each`; memory does not grow with the number of rows.
    async fn each(&mut self, query: Query<'_>, mut each: impl FnMut(&SqliteRow)) -> Result<(), Error> {
        let mut rows = query.fetch(&mut self.connection);
        loop {
            match rows.try_next().await {
                Ok(Some(row)) => each(&row),
                Ok(None) => return Ok(()),
                Err(error) => return Err(Error::Sqlite { path: self.path.clone(), error: error.into() }),
            }
        }
    }

    fn error(&self, error: sqlx::Error) -> Error {
        Error::Sqlite { path: self.path.clone(), error: error.into() }
    }
}

/// Creates a complete ledger under another name, then renames it, so that a crash never leaves half a ledger under
/// the ledger's name. Without a write-ahead log: on a full disk, closing would leave a part of the tables in the log,
/// which the rename would not move. The file is synced once, when it is complete: eight syncs for each migration took up
/// to a fifth of a second in all. Its name in the folder is on the disk before the first run begins, because SQLite syncs
/// the folder when it creates the write-ahead log.
async fn create(path: &Path) -> Result<(), Error> {
    let open_error = |error| Error::Open { path: path.into(), error };
    let new = beside(path, "-new");
    for stale in ["-new", "-new-journal", "-new-wal", "-new-shm"] {
        match std::fs::remove_file(beside(path, stale)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(open_error(error)),
            _ => {}
        }
    }
    drop(private_file(&new).map_err(open_error)?);
    let mut connection = connect(&new, SqliteJournalMode::Memory, SqliteSynchronous::Off).await?;
    migrate(path, &mut connection).await?;
    connection.close().await.map_err(|error| Error::Sqlite { path: path.into(), error: error.into() })?;
    File::open(&new).and_then(|file| file.sync_all()).map_err(open_error)?;
    std::fs::rename(&new, path).map_err(open_error)
}

async fn connect(
    path: &Path,
    journal: SqliteJournalMode,
    synchronous: SqliteSynchronous,
) -> Result<SqliteConnection, Error> {
    let options = options(path)
        .journal_mode(journal)
        .synchronous(synchronous)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("journal_size_limit", LOG_BYTES_KEPT)
        // Overwrites erased data: raw records are personal data.
        .pragma("secure_delete", "on")
        .disable_statement_logging();
    let connected = options.connect().await;
    let mut connection =
        connected.map_err(|error| Error::Sqlite { path: path.into(), error: error.into() })?;
    keep_temporary_files_beside(path, &mut connection).await;
    Ok(connection)
}

async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), Error> {
    let migrations = MIGRATIONS.map(|(version, name, statements)| {
        Migration::new(version, name.into(), MigrationType::Simple, statements.into_sql_str(), false)
    });
    let migrator = Migrator::with_migrations(migrations.into());
    migrator.run(connection).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) if version >= FIRST_MIGRATION => Error::Newer(path.into()),
        MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_) => Error::Development(path.into()),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            Error::Sqlite { path: path.into(), error: error.into() }
        }
        other => Error::Sqlite { path: path.into(), error: sqlx::Error::Migrate(Box::new(other)).into() },
    })
}

/// The hash of a reference.
fn key_of(reference: &str) -> u64 {
    Reference::recorded(reference).key()
}

fn parse_version(version: &str) -> [u32; 3] {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    [(); 3].map(|()| parts.next().unwrap_or(0))
}

/// All lines in ranges of [`TAKE_OVER_LINES`], each with the line after it. Few lines are after `last`, so the last range
/// has no end.
fn line_ranges(last: u64) -> impl Iterator<Item = (i64, i64)> {
    let ranges = last.div_ceil(TAKE_OVER_LINES).max(1);
    let begin = |range: u64| i64::try_from(range.saturating_mul(TAKE_OVER_LINES)).unwrap_or(i64::MAX);
    (0..ranges).map(move |at| (begin(at), if at + 1 == ranges { i64::MAX } else { begin(at + 1) }))
}

#[cfg(test)]
mod tests {
    use super::{super::super::model::Outcome, *};

    /// Migration 16 replaces two checks by others that must mean the same.
    #[tokio::test]
    async fn the_table_refuses_a_row_whose_outcome_contradicts_its_customer_id() {
        let mut store = Store::in_memory().await.unwrap();
        let run =
            "insert into run (id, command, source, columns, started_at) values (1, 'import', '-', '[]', 0)";
        store.execute(sqlx::query(run)).await.unwrap();
        // Runs count these, and no row has them.
        let of_runs = [Outcome::Unchanged, Outcome::Changed];
        let of_rows = Outcome::ALL.into_iter().filter(|outcome| !of_runs.contains(outcome));
        for outcome in of_rows {
            for customer_id in [Some("cst_1"), None] {
                let insert = "insert into row (run, line, outcome, customer_id, fingerprint, settled_at)
                              values (1, 1, ?, ?, x'01', 0)";
                let insert = sqlx::query(insert).bind(outcome.name()).bind(customer_id);
                let is_accepted = store.execute(insert).await.is_ok();
                assert_eq!(is_accepted, outcome.is_success() == customer_id.is_some(), "{outcome:?}");
            }
        }
    }

    #[test]
    fn ranges_of_lines_have_no_gap() {
        let of = |last| line_ranges(last).collect::<Vec<_>>();
        let (one, two) = (TAKE_OVER_LINES as i64, 2 * TAKE_OVER_LINES as i64);
        for last in [0, 1, TAKE_OVER_LINES] {
            assert_eq!(of(last), [(0, i64::MAX)]);
        }
        assert_eq!(of(TAKE_OVER_LINES + 1), [(0, one), (one, i64::MAX)]);
        assert_eq!(of(3 * TAKE_OVER_LINES), [(0, one), (one, two), (two, i64::MAX)]);
    }
}
