//! The one writer: what a commit, a run's beginning and its end do in SQL.
//!
//! [`Store`] is the one writer: WAL, `synchronous=FULL`, transactions begun `immediate` (a
//! deferred one that reads before it writes fails at once when someone else wrote, whatever the
//! busy timeout).
//!
//! What every row passes through, the settlement with an id, is written by multi-row `values`, and its claim with
//! that of its neighbours as one value; what few rows need takes its rows as one JSON parameter, which is simpler
//! and slower.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::TryStreamExt;
use sqlx::{
    Arguments as _, AssertSqlSafe, Connection, Row as _, SqliteConnection,
    error::BoxDynError,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::{
    super::{
        Error, IdSource, NewRun, Outcome, RequestCounts, RunState, Tally, Target,
        batch::{CommitBatch, SettledWithId, signed},
        reference_index::ReferenceIndex,
    },
    bulk::{Bulk, pieces},
    live::{self, END_LIVE},
    notes::Notes,
    open::{connect, create, migrate},
    statements::*,
};
use crate::customer::{Fingerprint, Reference};

/// The first SQLite without the WAL-reset bug that could corrupt a database.
const OLDEST_SQLITE: [u32; 3] = [3, 51, 3];

/// A row as [`Store::find`] sees it.
#[derive(Clone, Debug)]
pub(crate) struct KnownRow {
    pub(crate) id: i64,
    /// The run that settled it last.
    pub(crate) run: i64,
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) outcome: Outcome,
    pub(crate) in_doubt: bool,
    /// A Create of ours may have landed at some time, whatever Get said since.
    pub(crate) was_sent: bool,
    pub(crate) claimed_at: Option<i64>,
    /// In the source of that run.
    pub(crate) line: u64,
}

/// A row that an earlier run left in doubt.
#[derive(Debug)]
pub(crate) struct OpenClaim {
    pub(crate) id: i64,
    pub(crate) line: u64,
    pub(crate) reference: Reference,
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) claimed_at: Option<i64>,
}

/// What a run says of itself with each commit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RunCounts {
    pub(crate) tally: Tally,
    pub(crate) figures: RequestCounts,
    /// Of the last row that was claimed.
    pub(crate) last_line: u64,
}

/// The one writer.
pub(crate) struct Store {
    path: PathBuf,
    connection: SqliteConnection,
    settle_created: Bulk,
    settle_with_id: Bulk,
    merge_keys: Bulk,
    pub(crate) notes: Notes,
}

impl Store {
    /// Opens the ledger, or makes a new one where there is none; brings its tables up to date.
    pub(crate) async fn open(path: &Path, exists: bool) -> Result<Store, Error> {
        if !exists {
            create(path).await?;
        }
        let mut store = Store {
            path: path.into(),
            connection: connect(path).await?,
            settle_created: Bulk::new(SETTLE_CREATED),
            settle_with_id: Bulk::new(SETTLE_WITH_ID),
            merge_keys: Bulk::new(MERGE_KEYS),
            notes: Notes::default(),
        };
        let version: String = store.one("select sqlite_version()").await?.get(0);
        if parse_version(&version) < OLDEST_SQLITE {
            return Err(Error::OldSqlite(version));
        }
        migrate(path, &mut store.connection).await?;
        Ok(store)
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Closing writes the log back into the file, so that a finished ledger is one file.
    pub(crate) async fn close(self) -> Result<(), Error> {
        let path = self.path;
        self.connection.close().await.map_err(|error| Error::Sqlite { path, error })
    }

    /// Records the target in a new ledger; refuses another one in an old.
    pub(crate) async fn keep_target(&mut self, asked: &Target, now: i64) -> Result<(), Error> {
        let rows = self.all(sqlx::query(SELECT_TARGET)).await?;
        let has = rows.first().map(|row| Target { base_url: row.get(0), merchant_id: row.get(1) });
        match has {
            Some(has) if has == *asked => Ok(()),
            Some(has) => Err(Error::OtherTarget { path: self.path.clone(), has, asked: asked.clone() }),
            None => {
                let insert = sqlx::query(INSERT_TARGET).bind(&asked.base_url).bind(&asked.merchant_id);
                self.execute(insert.bind(now)).await.map(drop)
            }
        }
    }

    /// Ends what crashed runs left open. Only the holder of the lock may call it.
    pub(crate) async fn bury_dead_runs(&mut self, now: i64) -> Result<(), Error> {
        self.begin().await?;
        self.execute(sqlx::query(BURY_CLAIMS).bind(now)).await?;
        self.execute(sqlx::query(DELETE_BATCHES)).await?;
        self.execute(sqlx::query(EXPLAIN_DEAD_CLAIMS)).await?;
        self.execute(sqlx::query(END_DEAD_RUNS).bind(now)).await?;
        self.commit().await
    }

    /// Hash and row of those that are not in `reference_key` yet.
    pub(crate) async fn recent_keys(&mut self, each: impl FnMut(u64, i64)) -> Result<(), Error> {
        self.pairs(sqlx::query(RECENT_KEYS), each).await
    }

    /// Each hash and row that the query gives, one by one.
    pub(crate) async fn pairs(
        &mut self,
        query: Query<'_>,
        mut each: impl FnMut(u64, i64),
    ) -> Result<(), Error> {
        let mut rows = query.fetch(&mut self.connection);
        loop {
            match rows.try_next().await {
                Ok(Some(row)) => each(row.get::<i64, _>(0) as u64, row.get(1)),
                Ok(None) => return Ok(()),
                Err(error) => return Err(Error::Sqlite { path: self.path.clone(), error }),
            }
        }
    }

    /// The rows that earlier runs left in doubt, in file order. There are as many as one crash leaves,
    /// which is bounded: each run begins by asking about them.
    pub(crate) async fn doubts(&mut self) -> Result<Vec<OpenClaim>, Error> {
        let rows = self.all(sqlx::query(SELECT_DOUBTS)).await?;
        let read = |row: &SqliteRow| OpenClaim {
            id: row.get(0),
            line: row.get::<i64, _>(1) as u64,
            reference: Reference::recorded(row.get(2)),
            fingerprint: row.get::<Option<&[u8]>, _>(3).and_then(Fingerprint::recorded),
            claimed_at: row.get(4),
        };
        Ok(rows.iter().map(read).collect())
    }

    /// Up to this row the table of hashes has all.
    pub(crate) async fn watermark(&mut self) -> Result<i64, Error> {
        Ok(self.one("select row from watermark").await?.get(0))
    }

    /// The highest id in use.
    pub(crate) async fn last_row(&mut self) -> Result<i64, Error> {
        Ok(self.one(LAST_ROW).await?.get(0))
    }

    /// Begins a run; its number.
    pub(crate) async fn insert_run(&mut self, run: &NewRun<'_>, now: i64) -> Result<i64, Error> {
        let columns = serde_json::to_string(run.columns).unwrap_or_default();
        let insert = sqlx::query(INSERT_RUN).bind(run.command).bind(run.source).bind(run.source_path);
        let insert = insert.bind(columns);
        let insert = insert.bind(run.reference_column).bind(now).bind(run.row_mapping);
        Ok(self.all(insert).await?.first().map_or(0, |row| row.get(0)))
    }

    /// The rows with these ids, and those whose reference has one of these hashes, by reference.
    pub(crate) async fn find(
        &mut self,
        keys: &[u64],
        ids: &[i64],
    ) -> Result<HashMap<String, KnownRow>, Error> {
        if ids.is_empty() && keys.is_empty() {
            return Ok(HashMap::new());
        }
        let keys: Vec<i64> = keys.iter().map(|key| signed(*key)).collect();
        let json = |numbers: &[i64]| serde_json::to_string(numbers).unwrap_or_default();
        let rows = self.all(sqlx::query(FIND).bind(json(ids)).bind(json(&keys))).await?;
        Ok(rows.iter().map(|row| (row.get(1), read_known(row))).collect())
    }

    /// One transaction: the durable moment of everything in `write`.
    /// Some hashes go along: they say nothing that is not in the rows.
    pub(crate) async fn write(
        &mut self,
        write: &CommitBatch<'_>,
        count: &RunCounts,
        recent: &mut ReferenceIndex,
    ) -> Result<(), Error> {
        self.begin().await?;
        let (run, now) = (write.run, write.now);
        self.settle(write).await?;
        let ended = sqlx::query(END_BATCHES).bind(write.ended.text()).bind(run);
        let ended = if write.ended.is_empty() { 0 } else { self.execute(ended).await? };
        for (field, rule, rows) in write.dropped.iter() {
            let count = sqlx::query(COUNT_DROPPED).bind(run).bind(field.name()).bind(rule.name());
            self.execute(count.bind(rows as i64)).await?;
        }
        self.write_updates(&write.updates, run, now).await?;
        self.count_existing(run, &write.existing).await?;
        if let Some(first) = write.claimed_first {
            let batch = sqlx::query(INSERT_BATCH).bind(first).bind(run).bind(now);
            self.execute(batch.bind(write.claimed.text())).await?;
        }
        if !write.claimed_again.is_empty() {
            let claim = sqlx::query(CLAIM_KNOWN).bind(write.claimed_again.text());
            self.execute(claim.bind(run).bind(now)).await?;
        }
        if !write.renewed.is_empty() {
            self.execute(sqlx::query(FORGET).bind(write.renewed.text())).await?;
        }
        if let Some(reached) = &write.checkpoint {
            self.keep_checkpoint(run, reached).await?;
        }
        let counted = self.execute(count_run(run, count)).await?;
        // The lock file was deleted, and another process took the ledger: what this one knows is void.
        if counted != 1 || ended != write.ended_count {
            return Err(Error::TakenOver { path: self.path.clone(), run });
        }
        if let Some(live) = &write.live {
            self.execute(live::keep(live, run, now)).await?;
        }
        self.write_notes(run).await?;
        self.merge_slice(recent, false).await?;
        self.commit().await
    }

    async fn settle(&mut self, write: &CommitBatch<'_>) -> Result<(), Error> {
        let (run, now) = (write.run, write.now);
        self.bulk(|store| &store.settle_created, &[run, now], &write.created, add_created).await?;
        self.bulk(|store| &store.settle_with_id, &[run, now], &write.with_id, add_with_id).await?;
        // Before those that come in the place of what goes, and behind what tells that a row was corrected.
        if !write.corrected.is_empty() {
            self.execute(sqlx::query(MARK_CORRECTED).bind(write.corrected.text()).bind(run)).await?;
        }
        self.write_unowned(&write.unowned, run, now).await?;
        if !write.without_id.is_empty() {
            let settle = sqlx::query(SETTLE_WITHOUT_ID).bind(write.without_id.text());
            self.execute(settle.bind(run).bind(now)).await?;
            if write.gives_back {
                self.execute(sqlx::query(RESTORE).bind(write.without_id.text()).bind(run)).await?;
            }
        }
        if !write.records.is_empty() {
            self.execute(sqlx::query(KEEP_RECORDS).bind(write.records.text()).bind(run)).await?;
        }
        if !write.erased.is_empty() {
            self.execute(sqlx::query(ERASE_RECORDS).bind(write.erased.text())).await?;
        }
        Ok(())
    }

    /// Puts a slice of the hashes into the table, inside a transaction. False if there was none.
    async fn merge_slice(&mut self, recent: &mut ReferenceIndex, all: bool) -> Result<bool, Error> {
        let slice = recent.slice(all);
        if slice.is_empty() {
            return Ok(false);
        }
        self.bulk(|store| &store.merge_keys, &[], slice, add_key).await?;
        if let Some(highest) = recent.merged() {
            self.raise_watermark(highest).await?;
        }
        Ok(true)
    }

    /// Puts all hashes into the table.
    pub(crate) async fn merge_keys(&mut self, recent: &mut ReferenceIndex) -> Result<(), Error> {
        self.begin().await?;
        while self.merge_slice(recent, true).await? {}
        self.commit().await
    }

    /// Up to this row the table of hashes has all.
    pub(crate) async fn raise_watermark(&mut self, row: i64) -> Result<(), Error> {
        self.execute(sqlx::query(RAISE_WATERMARK).bind(row)).await.map(drop)
    }

    /// The run's last words.
    pub(crate) async fn end_run(
        &mut self,
        run: i64,
        state: RunState,
        exit_code: u8,
        stop_reason: Option<&str>,
        figures: &RequestCounts,
        now: i64,
    ) -> Result<(), Error> {
        self.begin().await?;
        self.execute(sqlx::query(END_LIVE)).await?;
        let end = sqlx::query(END_RUN).bind(run).bind(state.name()).bind(exit_code).bind(stop_reason);
        let end = end.bind(now).bind(figures.requests as i64);
        self.execute(end.bind(figures.retries as i64).bind(figures.throttled as i64)).await?;
        self.write_notes(run).await?;
        self.commit().await
    }

    /// One statement for many rows, the constants before them.
    async fn bulk<T>(
        &mut self,
        statement: impl Fn(&Store) -> &Bulk,
        constants: &[i64],
        rows: &[T],
        add: impl Fn(&mut SqliteArguments, &T) -> Result<(), BoxDynError>,
    ) -> Result<(), Error> {
        for piece in pieces(rows) {
            let (text, arguments) = statement(self).fill(constants, piece, &add);
            let arguments = arguments.map_err(|error| self.error(sqlx::Error::Encode(error)))?;
            self.execute(sqlx::query_with(AssertSqlSafe(text), arguments)).await?;
        }
        Ok(())
    }

    pub(crate) async fn begin(&mut self) -> Result<(), Error> {
        self.execute(sqlx::query(BEGIN)).await.map(drop)
    }

    /// The durable moment: what was written since `begin` is true on disk when this returns.
    pub(crate) async fn commit(&mut self) -> Result<(), Error> {
        #[cfg(feature = "crash-points")]
        super::crash_point::point();
        self.execute(sqlx::query(COMMIT)).await?;
        #[cfg(feature = "crash-points")]
        super::crash_point::point();
        Ok(())
    }

    pub(crate) async fn execute(&mut self, query: Query<'_>) -> Result<u64, Error> {
        let done = query.execute(&mut self.connection).await;
        done.map(|done| done.rows_affected()).map_err(|error| self.error(error))
    }

    pub(crate) async fn all(&mut self, query: Query<'_>) -> Result<Vec<SqliteRow>, Error> {
        let rows = query.fetch_all(&mut self.connection).await;
        rows.map_err(|error| self.error(error))
    }

    pub(crate) async fn one(&mut self, sql: &'static str) -> Result<SqliteRow, Error> {
        let row = sqlx::query(sql).fetch_one(&mut self.connection).await;
        row.map_err(|error| self.error(error))
    }

    fn error(&self, error: sqlx::Error) -> Error {
        Error::Sqlite { path: self.path.clone(), error }
    }
}

pub(crate) type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, SqliteArguments>;

fn add_created(arguments: &mut SqliteArguments, row: &SettledWithId<'_>) -> Result<(), BoxDynError> {
    arguments.add(row.id)?;
    arguments.add(row.line)?;
    arguments.add(row.reference.shared())?;
    arguments.add(signed(row.reference.key()))?;
    arguments.add(row.fingerprint.as_bytes().as_slice())?;
    arguments.add(Arc::clone(row.customer_id))?;
    arguments.add(row.attempts)?;
    arguments.add(row.claimed_at)
}

fn add_with_id(arguments: &mut SqliteArguments, row: &SettledWithId<'_>) -> Result<(), BoxDynError> {
    let (found, created_at, is_uncertain) = match row.id_source {
        IdSource::Answer => (false, None, false),
        IdSource::Found { created_at, is_uncertain, .. } => (true, created_at, is_uncertain),
    };
    add_created(arguments, row)?;
    arguments.add(row.outcome.name())?;
    arguments.add(found)?;
    arguments.add(created_at)?;
    arguments.add(is_uncertain)?;
    arguments.add(row.api_reference.map(Reference::as_str))
}

fn add_key(arguments: &mut SqliteArguments, (key, row): &(i64, i64)) -> Result<(), BoxDynError> {
    arguments.add(*key)?;
    arguments.add(*row)
}

fn count_run(run: i64, count: &RunCounts) -> Query<'static> {
    let RunCounts { tally, figures, last_line } = count;
    let mut query = sqlx::query(COUNT_RUN).bind(run);
    for outcome in Outcome::ALL {
        query = query.bind(tally.get(outcome) as i64);
    }
    query
        .bind(figures.requests as i64)
        .bind(figures.retries as i64)
        .bind(figures.throttled as i64)
        .bind(*last_line as i64)
}

fn read_known(row: &SqliteRow) -> KnownRow {
    KnownRow {
        id: row.get(0),
        fingerprint: row.get::<Option<&[u8]>, _>(2).and_then(Fingerprint::recorded),
        // The table's check allows no other word.
        outcome: Outcome::from_name(row.get(3)).unwrap_or(Outcome::Pending),
        in_doubt: row.get(4),
        claimed_at: row.get(5),
        run: row.get(6),
        line: row.get::<i64, _>(7) as u64,
        was_sent: row.get(8),
    }
}

fn parse_version(version: &str) -> [u32; 3] {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    [(); 3].map(|()| parts.next().unwrap_or(0))
}
