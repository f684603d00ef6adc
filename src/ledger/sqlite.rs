//! Every SQL statement that writes, or that the writer decides by.
//!
//! [`Store`] is the one writer: WAL, `synchronous=FULL`, transactions begun `immediate` (a
//! deferred one that reads before it writes fails at once when someone else wrote, whatever the
//! busy timeout).
//!
//! What every row passes through, its claim and its settlement with an id, is written by multi-row
//! `values`; what few rows need takes its rows as one JSON parameter, which is simpler and slower.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use sqlx::{
    AssertSqlSafe, Connection, Row as _, SqliteConnection,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::{
    Claim, Error, Evidence, Figures, NewRun, Outcome, State, Tally, Target,
    open::{connect, create, migrate},
    write::{WithId, Write, signed},
};
use crate::customer::{Fingerprint, Reference};

/// The first SQLite without the WAL-reset bug that could corrupt a database.
const OLDEST_SQLITE: [u32; 3] = [3, 51, 3];

/// Rows of one bulk statement: each size is prepared once, and a batch is cut into as few pieces as it
/// can be. One message to SQLite's thread and one statement for each piece, instead of one for each row.
const BULK_ROWS: [usize; 3] = [64, 8, 1];

const BEGIN: &str = "begin immediate";

const COMMIT: &str = "commit";

const INSERT_TARGET: &str = "
    insert into target (id, base_url, merchant_id, created_at) values (1, ?1, ?2, ?3)";

pub(super) const SELECT_TARGET: &str = "select base_url, merchant_id from target";

const BURY_CLAIMS: &str = "
    insert into row (id, run, line, outcome, reference, key, fingerprint, claimed_at, settled_at, in_doubt,
                     error_message)
    select id, run, line, 'pending', reference, key, fingerprint, claimed_at, ?1, 1,
           'the run ended before the answer was recorded'
    from claim where true
    on conflict (id) do update set
        run = excluded.run, line = excluded.line, outcome = excluded.outcome,
        fingerprint = excluded.fingerprint, claimed_at = excluded.claimed_at,
        settled_at = excluded.settled_at, in_doubt = 1, field = null, error_code = null,
        error_message = excluded.error_message, http_status = null, request_id = null";

const DELETE_CLAIMS: &str = "delete from claim";

const END_DEAD_RUNS: &str =
    "update run set state = 'interrupted', ended_at = ?1 where state = 'running' returning id";

const INSERT_RUN: &str = "
    insert into run (command, source, source_path, columns, reference_column, started_at)
    values (?1, ?2, ?3, ?4, ?5, ?6) returning id";

const RECENT_KEYS: &str = "
    select key, id from row
    where id > (select row from watermark) and outcome not in ('duplicate', 'invalid')";

/// An id is never given twice, also where the last rows were deleted: what is below the watermark counts
/// as being in `reference_key`.
const LAST_ROW: &str = "
    select max((select coalesce(max(id), 0) from row), (select row from watermark))";

const FIND: &str = "
    with candidate (id) as materialized (
        select value from json_each(?1)
        union
        select reference_key.row from json_each(?2) asked
        join reference_key on reference_key.key = asked.value
    )
    select id, reference, fingerprint, outcome, in_doubt, claimed_at, run
    from candidate join row using (id)
    union all
    select id, reference, fingerprint, 'pending', 1, claimed_at, run
    from candidate join claim using (id)";

const SELECT_DOUBTS: &str = "
    select id, line, reference, fingerprint, claimed_at from row
    where customer_id is null and outcome = 'pending' and in_doubt = 1 order by id";

const INSERT_CLAIMS: &str = "
    with told (id, line, reference, key, fingerprint, claimed_at) as (values (?, ?, ?, ?, ?, ?)),
        this (run, now) as (values (?, ?))
    insert into claim (id, run, line, reference, key, fingerprint, claimed_at)
    select id, run, line, reference, key, fingerprint, claimed_at from told, this";

const END_CLAIMS: &str = "
    delete from claim where run = ?2 and id in (select value from json_each(?1))";

const SETTLE_WITH_ID: &str = "
    with told (id, outcome, fingerprint, customer_id, attempts, found, date_created) as
            (values (?, ?, ?, ?, ?, ?, ?)),
        this (run, now) as (values (?, ?))
    insert into row (id, run, line, outcome, reference, key, fingerprint, customer_id, attempts,
                     found, date_created, claimed_at, settled_at)
    select claim.id, claim.run, claim.line, told.outcome, claim.reference, claim.key, told.fingerprint,
           told.customer_id, told.attempts, told.found, told.date_created, claim.claimed_at, this.now
    from told cross join claim on claim.id = told.id cross join this where claim.run = this.run
    on conflict (id) do update set
        run = excluded.run, line = excluded.line, outcome = excluded.outcome,
        fingerprint = excluded.fingerprint, customer_id = excluded.customer_id,
        attempts = excluded.attempts, found = excluded.found, date_created = excluded.date_created,
        claimed_at = excluded.claimed_at, settled_at = excluded.settled_at, in_doubt = 0, field = null, error_code = null,
        error_message = null, http_status = null, request_id = null";

const SETTLE_WITHOUT_ID: &str = "
    insert into row (id, run, line, outcome, reference, key, fingerprint, attempts, claimed_at,
                     settled_at, in_doubt, field, error_code, error_message, http_status, request_id)
    select value->>0, ?2, value->>1, value->>2, value->>3, value->>4, unhex(value->>5), value->>6,
           value->>7, ?3, value->>8, value->>9, value->>10, value->>11, value->>12, value->>13
    from json_each(?1) where true
    on conflict (id) do update set
        run = excluded.run, line = excluded.line, outcome = excluded.outcome,
        fingerprint = excluded.fingerprint, attempts = excluded.attempts,
        claimed_at = excluded.claimed_at, settled_at = excluded.settled_at,
        in_doubt = excluded.in_doubt, field = excluded.field, error_code = excluded.error_code,
        error_message = excluded.error_message, http_status = excluded.http_status,
        request_id = excluded.request_id";

const KEEP_RECORDS: &str = "
    insert into record (row, cells) select value->>0, value->1 from json_each(?1) where true
    on conflict (row) do update set cells = excluded.cells";

const ERASE_RECORDS: &str = "delete from record where row in (select value from json_each(?1))";

const MARK_CORRECTED: &str = "
    update row set corrected_by = ?2 where id in (
        select row.id from json_each(?1) told
        join row on row.customer_id is null and row.outcome = told.value->>1
            and row.line = told.value->>0 and row.error_code = told.value->>2
        where row.run < ?2 and row.corrected_by is null
        -- Where two files have such a row, it is not known which one came back.
        group by row.line, row.outcome, row.error_code having count(*) = 1)";

const COUNT_DROPPED: &str = "
    insert into dropped (run, field, rule, rows) values (?1, ?2, ?3, ?4)
    on conflict (run, field, rule) do update set rows = rows + excluded.rows";

const COUNT_RUN: &str = "
    update run set created = ?2, existing = ?3, unchanged = ?4, changed = ?5, updated = ?6,
        duplicate = ?7, invalid = ?8, rejected = ?9, failed = ?10, pending = ?11,
        requests = ?12, retries = ?13, throttled = ?14, last_line = ?15
    where id = ?1";

const MERGE_KEYS: &str = "
    insert or ignore into reference_key (key, row)
    select key, id from (
        select key, id from row
        where id > (select row from watermark) and outcome not in ('duplicate', 'invalid')
        union all
        select key, id from claim where id > (select row from watermark)
    ) order by key";

const RAISE_WATERMARK: &str = "
    update watermark set row = max(row, (select coalesce(max(id), 0) from row),
                                        (select coalesce(max(id), 0) from claim))";

const SUPERSEDE: &str = "
    delete from row where outcome in ('invalid', 'duplicate') and run in (
        select earlier.id from run earlier join run this on this.id = ?1
        where earlier.source_path = this.source_path and earlier.id < this.id
    ) and line <= (select last_line from run where id = ?1)";

const END_RUN: &str = "
    update run set state = ?2, exit_code = ?3, stop_reason = ?4, ended_at = ?5,
        requests = ?6, retries = ?7, throttled = ?8
    where id = ?1";

/// A row as [`Store::find`] sees it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) id: i64,
    /// The run that settled it last.
    pub(super) run: i64,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) outcome: Outcome,
    pub(super) in_doubt: bool,
    pub(super) claimed_at: Option<i64>,
}

/// A row that an earlier run left in doubt.
#[derive(Debug)]
pub(super) struct Doubt {
    pub(super) id: i64,
    pub(super) line: u64,
    pub(super) reference: Reference,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) claimed_at: Option<i64>,
}

/// The one writer.
pub(super) struct Store {
    path: PathBuf,
    connection: SqliteConnection,
    /// Whether `reference_key` has rows at all; if not, nobody asks it.
    has_keys: bool,
    insert_claims: Bulk,
    settle_with_id: Bulk,
}

impl Store {
    /// Opens the ledger, or makes a new one where there is none; brings its tables up to date.
    pub(super) async fn open(path: &Path, exists: bool) -> Result<Store, Error> {
        if !exists {
            create(path).await?;
        }
        let mut store = Store {
            path: path.into(),
            connection: connect(path).await?,
            has_keys: false,
            insert_claims: bulk(INSERT_CLAIMS),
            settle_with_id: bulk(SETTLE_WITH_ID),
        };
        let version: String = store.one("select sqlite_version()").await?.get(0);
        if parse_version(&version) < OLDEST_SQLITE {
            return Err(Error::OldSqlite(version));
        }
        migrate(path, &mut store.connection).await?;
        store.has_keys = store.one("select row from watermark").await?.get::<i64, _>(0) > 0;
        Ok(store)
    }

    /// Closing writes the log back into the file, so that a finished ledger is one file.
    pub(super) async fn close(self) -> Result<(), Error> {
        let path = self.path;
        self.connection.close().await.map_err(|error| Error::Sqlite { path, error })
    }

    /// Records the target in a new ledger; refuses another one in an old.
    pub(super) async fn keep_target(&mut self, asked: &Target, now: i64) -> Result<(), Error> {
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
    pub(super) async fn bury_dead_runs(&mut self, now: i64) -> Result<(), Error> {
        self.begin().await?;
        self.execute(sqlx::query(BURY_CLAIMS).bind(now)).await?;
        self.execute(sqlx::query(DELETE_CLAIMS)).await?;
        self.execute(sqlx::query(END_DEAD_RUNS).bind(now)).await?;
        self.commit().await
    }

    /// Hash and row of those that are not in `reference_key` yet.
    pub(super) async fn recent_keys(&mut self, mut each: impl FnMut(u64, i64)) -> Result<(), Error> {
        for row in self.all(sqlx::query(RECENT_KEYS)).await? {
            each(row.get::<i64, _>(0) as u64, row.get(1));
        }
        Ok(())
    }

    /// The rows that earlier runs left in doubt, in file order. There are as many as one crash leaves,
    /// which is bounded: each run begins by asking about them.
    pub(super) async fn doubts(&mut self) -> Result<Vec<Doubt>, Error> {
        let rows = self.all(sqlx::query(SELECT_DOUBTS)).await?;
        let read = |row: &SqliteRow| Doubt {
            id: row.get(0),
            line: row.get::<i64, _>(1) as u64,
            reference: Reference::recorded(row.get(2)),
            fingerprint: row.get::<Option<&[u8]>, _>(3).and_then(Fingerprint::recorded),
            claimed_at: row.get(4),
        };
        Ok(rows.iter().map(read).collect())
    }

    /// The highest id in use.
    pub(super) async fn last_row(&mut self) -> Result<i64, Error> {
        Ok(self.one(LAST_ROW).await?.get(0))
    }

    /// Begins a run; its number.
    pub(super) async fn insert_run(&mut self, run: &NewRun<'_>, now: i64) -> Result<i64, Error> {
        let columns = serde_json::to_string(run.columns).unwrap_or_default();
        let insert = sqlx::query(INSERT_RUN).bind(run.command).bind(run.source).bind(run.source_path);
        let insert = insert.bind(columns);
        let insert = insert.bind(run.reference_column).bind(now);
        Ok(self.all(insert).await?.first().map_or(0, |row| row.get(0)))
    }

    /// The rows with these ids, and those whose reference has one of these hashes, by reference.
    pub(super) async fn find(&mut self, keys: &[u64], ids: &[i64]) -> Result<HashMap<String, Known>, Error> {
        if ids.is_empty() && !self.has_keys {
            return Ok(HashMap::new());
        }
        let keys: Vec<i64> = keys.iter().map(|key| signed(*key)).collect();
        let json = |numbers: &[i64]| serde_json::to_string(numbers).unwrap_or_default();
        let rows = self.all(sqlx::query(FIND).bind(json(ids)).bind(json(&keys))).await?;
        Ok(rows.iter().map(|row| (row.get(1), read_known(row))).collect())
    }

    /// One transaction: the durable moment of everything in `write`.
    pub(super) async fn write(
        &mut self,
        write: &Write<'_>,
        claims: &[Claim],
        tally: &Tally,
        figures: &Figures,
        last_line: u64,
    ) -> Result<(), Error> {
        self.begin().await?;
        // From the claims, so before these go; a claim that is not there settles nothing.
        let (run, now) = (write.run, write.now);
        let settled =
            self.bulk(|store| &store.settle_with_id, (run, now), &write.with_id, bind_with_id).await?;
        let ended = sqlx::query(END_CLAIMS).bind(write.ended.text()).bind(run);
        let ended = if write.ended.is_empty() { 0 } else { self.execute(ended).await? };
        if settled != write.with_id.len() as u64 || ended != write.ended_count {
            return Err(Error::TakenOver { path: self.path.clone(), run });
        }
        if !write.without_id.is_empty() {
            let settle = sqlx::query(SETTLE_WITHOUT_ID).bind(write.without_id.text());
            self.execute(settle.bind(write.run).bind(write.now)).await?;
        }
        if !write.records.is_empty() {
            self.execute(sqlx::query(KEEP_RECORDS).bind(write.records.text())).await?;
        }
        if !write.erased.is_empty() {
            self.execute(sqlx::query(ERASE_RECORDS).bind(write.erased.text())).await?;
        }
        if !write.corrected.is_empty() {
            self.execute(sqlx::query(MARK_CORRECTED).bind(write.corrected.text()).bind(write.run)).await?;
        }
        for (field, rule, rows) in write.dropped.iter() {
            let count = sqlx::query(COUNT_DROPPED).bind(run).bind(field.name()).bind(rule.name());
            self.execute(count.bind(rows as i64)).await?;
        }
        self.bulk(|store| &store.insert_claims, (run, now), claims, bind_claim).await?;
        self.execute(count_run(write.run, tally, figures, last_line)).await?;
        self.commit().await
    }

    /// Moves the hashes of recent rows into the table, in order.
    pub(super) async fn merge_keys(&mut self) -> Result<(), Error> {
        self.begin().await?;
        self.has_keys |= self.execute(sqlx::query(MERGE_KEYS)).await? > 0;
        self.execute(sqlx::query(RAISE_WATERMARK)).await?;
        self.commit().await
    }

    /// The run's last words.
    pub(super) async fn end_run(
        &mut self,
        run: i64,
        state: State,
        exit_code: u8,
        stop_reason: Option<&str>,
        figures: &Figures,
        now: i64,
    ) -> Result<(), Error> {
        self.begin().await?;
        self.execute(sqlx::query(SUPERSEDE).bind(run)).await?;
        let end = sqlx::query(END_RUN).bind(run).bind(state.name()).bind(exit_code).bind(stop_reason);
        let end = end.bind(now).bind(figures.requests as i64);
        self.execute(end.bind(figures.retries as i64).bind(figures.throttled as i64)).await?;
        self.commit().await
    }

    /// One statement for many rows, in as few pieces as there are sizes for; rows written.
    async fn bulk<T>(
        &mut self,
        sql: impl Fn(&Store) -> &Bulk,
        (run, now): (i64, i64),
        mut rows: &[T],
        bind: impl for<'q> Fn(Query<'q>, &T) -> Query<'q>,
    ) -> Result<u64, Error> {
        let mut written = 0;
        for (at, size) in BULK_ROWS.into_iter().enumerate() {
            while let Some((piece, rest)) = rows.split_at_checked(size) {
                let query = sqlx::query(AssertSqlSafe(Arc::clone(&sql(self)[at])));
                let query = piece.iter().fold(query, &bind);
                written += self.execute(query.bind(run).bind(now)).await?;
                rows = rest;
            }
        }
        Ok(written)
    }

    async fn begin(&mut self) -> Result<(), Error> {
        self.execute(sqlx::query(BEGIN)).await.map(drop)
    }

    /// The durable moment: what was written since `begin` is true on disk when this returns.
    async fn commit(&mut self) -> Result<(), Error> {
        #[cfg(feature = "crash-points")]
        super::crash::point();
        self.execute(sqlx::query(COMMIT)).await?;
        #[cfg(feature = "crash-points")]
        super::crash::point();
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

    fn error(&self, error: sqlx::Error) -> Error {
        Error::Sqlite { path: self.path.clone(), error }
    }
}

pub(super) type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, SqliteArguments>;

/// A statement for each size of [`BULK_ROWS`].
type Bulk = [Arc<str>; BULK_ROWS.len()];

/// The statement's first row of values, repeated. Its parameters have no numbers, since SQLite looks for
/// a numbered one by its name, from the beginning of the list each time.
fn bulk(sql: &'static str) -> Bulk {
    BULK_ROWS.map(|rows| {
        let (head, rest) = sql.split_once("(values ").unwrap_or((sql, ""));
        let (row, tail) = rest.split_once(')').unwrap_or((rest, ""));
        format!("{head}(values {}{tail}", vec![format!("{row})"); rows].join(", ")).into()
    })
}

fn bind_with_id<'q>(query: Query<'q>, row: &WithId<'_>) -> Query<'q> {
    let fingerprint = row.fingerprint.as_bytes().as_slice();
    let (found, created_at) = match row.evidence {
        Evidence::Answer => (false, None),
        Evidence::Found { created_at, .. } => (true, created_at),
    };
    let query = query.bind(row.id).bind(row.outcome.name()).bind(fingerprint).bind(row.customer_id);
    query.bind(row.attempts).bind(found).bind(created_at)
}

fn bind_claim<'q>(query: Query<'q>, claim: &Claim) -> Query<'q> {
    let Claim { id, line, claimed_at, .. } = claim;
    let (reference, fingerprint) = (claim.reference(), claim.fingerprint());
    let query = query.bind(id).bind(*line as i64).bind(reference.as_str()).bind(signed(reference.key()));
    query.bind(fingerprint.as_bytes().as_slice()).bind(claimed_at)
}

fn count_run(run: i64, tally: &Tally, figures: &Figures, last_line: u64) -> Query<'static> {
    let mut query = sqlx::query(COUNT_RUN).bind(run);
    for outcome in Outcome::ALL {
        query = query.bind(tally.get(outcome) as i64);
    }
    query
        .bind(figures.requests as i64)
        .bind(figures.retries as i64)
        .bind(figures.throttled as i64)
        .bind(last_line as i64)
}

fn read_known(row: &SqliteRow) -> Known {
    Known {
        id: row.get(0),
        fingerprint: row.get::<Option<&[u8]>, _>(2).and_then(Fingerprint::recorded),
        // The table's check allows no other word.
        outcome: Outcome::from_name(row.get(3)).unwrap_or(Outcome::Pending),
        in_doubt: row.get(4),
        claimed_at: row.get(5),
        run: row.get(6),
    }
}

fn parse_version(version: &str) -> [u32; 3] {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    [(); 3].map(|()| parts.next().unwrap_or(0))
}
