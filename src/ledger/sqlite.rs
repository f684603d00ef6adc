//! Every SQL statement of the crate.
//!
//! [`Store`] is the one writer: WAL, `synchronous=FULL`, transactions begun `immediate` (a
//! deferred one that reads before it writes fails at once when someone else wrote, whatever the
//! busy timeout). [`Reader`] is for status and exports, also while a run goes on.
//!
//! Bulk statements take their rows as one JSON parameter: one prepared statement for any number
//! of rows, and one message to SQLite's thread instead of one for each row.
//!
//! A ledger is born under another name and renamed when it is complete, so a file with a ledger's
//! name is either a whole ledger or not ours.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;
use sqlx::{
    ConnectOptions, Connection, Row as _, SqliteConnection,
    error::DatabaseError,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous},
};

use super::{
    Claim, Ending, Error, Figures, NewRun, Outcome, RowRecord, RunRecord, Settlement, State, Tally, Target,
    Trouble, private_file,
};
use crate::customer::{Fingerprint, Record, Reference};

static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// The first SQLite without the WAL-reset bug that could corrupt a database.
const OLDEST_SQLITE: [u32; 3] = [3, 51, 3];

/// How long a statement waits for another process, such as a backup, before it fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// A checkpoint each 16 MB of log instead of each 4: fewer fsyncs of the main file.
const CHECKPOINT_PAGES: &str = "4096";

const BEGIN: &str = "begin immediate";

const INSERT_TARGET: &str = "
    insert into target (id, base_url, merchant_id, created_at) values (1, ?1, ?2, ?3)
    on conflict (id) do nothing";

const SELECT_TARGET: &str = "select base_url, merchant_id from target";

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
    insert into run (command, source, columns, started_at) values (?1, ?2, ?3, ?4) returning id";

const RECENT_KEYS: &str = "
    select key, id from row
    where id > (select row from watermark) and outcome not in ('duplicate', 'invalid')";

const LAST_ROW: &str = "select coalesce(max(id), 0) from row";

const FIND: &str = "
    with candidate (id) as materialized (
        select value from json_each(?1)
        union
        select reference_key.row from json_each(?2) asked
        join reference_key on reference_key.key = asked.value
    )
    select id, reference, fingerprint, outcome, in_doubt, claimed_at
    from candidate join row using (id)
    union all
    select id, reference, fingerprint, 'pending', 1, claimed_at
    from candidate join claim using (id)";

const INSERT_CLAIMS: &str = "
    insert into claim (id, run, line, reference, key, fingerprint, claimed_at)
    select value->>0, ?2, value->>1, value->>2, value->>3, unhex(value->>4), value->>5
    from json_each(?1)";

const END_CLAIMS: &str = "
    delete from claim where run = ?2 and id in (select value from json_each(?1))";

const SETTLE_WITH_ID: &str = "
    insert into row (id, run, line, outcome, reference, key, fingerprint, customer_id, attempts,
                     claimed_at, settled_at)
    select value->>0, ?2, value->>1, value->>2, value->>3, value->>4, unhex(value->>5), value->>6,
           value->>7, value->>8, ?3
    from json_each(?1) where true
    on conflict (id) do update set
        run = excluded.run, line = excluded.line, outcome = excluded.outcome,
        fingerprint = excluded.fingerprint, customer_id = excluded.customer_id,
        attempts = excluded.attempts, claimed_at = excluded.claimed_at,
        settled_at = excluded.settled_at, in_doubt = 0, field = null, error_code = null,
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
        where earlier.source = this.source and earlier.source <> '-' and earlier.id < this.id
    ) and line <= (select last_line from run where id = ?1)";

const END_RUN: &str = "
    update run set state = ?2, exit_code = ?3, stop_reason = ?4, ended_at = ?5,
        requests = ?6, retries = ?7, throttled = ?8
    where id = ?1";

const SELECT_RUNS: &str = "
    select id, command, source, state, exit_code, stop_reason, started_at, ended_at,
           created, existing, unchanged, changed, updated, duplicate, invalid, rejected, failed,
           pending, requests, retries, throttled
    from run order by id";

const SELECT_COLUMNS: &str = "select id, columns from run order by id";

const SELECT_ROWS: &str = "
    select every_row.id, run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id, cells
    from every_row left join record on record.row = every_row.id
    where (?1 is null or run = ?1) order by every_row.id";

const SELECT_ROWS_WITH_ID: &str = "
    select id, run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id, null
    from row where customer_id is not null and (?1 is null or run = ?1) order by id";

const SELECT_ROWS_WITHOUT_ID: &str = "
    select every_row.id, run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id, cells
    from every_row left join record on record.row = every_row.id
    where customer_id is null and (?1 is null or run = ?1)
    -- An invalid row whose reference a later run has imported needs no correction any more.
    and not (?1 is null and outcome = 'invalid' and exists (
        select 1 from reference_key join row later on later.id = reference_key.row
        where reference_key.key = every_row.key and later.reference = every_row.reference
        and later.customer_id is not null and later.run > every_row.run))
    order by every_row.id";

const COUNT_OUTCOMES: &str = "select outcome, count(*) from every_row group by outcome";

/// What the user can do about SQLite's own trouble.
pub(super) fn hint(error: &sqlx::Error) -> &'static str {
    let code = error.as_database_error().and_then(DatabaseError::code);
    // The primary result code is the low byte of the extended one.
    match code
        .and_then(|code| code.parse::<u32>().ok())
        .map(|code| code & 0xff)
    {
        Some(5 | 6) => "another program holds the file; end it, then run the same command again",
        Some(8) => "make the file and its folder writable, then run the same command again",
        Some(10) => "check the disk, then run the same command again; what was recorded stands",
        Some(11) => "restore the file from a backup, or recover it with: sqlite3 FILE .recover",
        Some(13) => "make room on the disk, then run the same command again; what was recorded stands",
        Some(14) => "check the folder and its permissions, then run the same command again",
        Some(26) => "name a ledger with --ledger FILE; this file was left as it is",
        _ => "what was recorded stands; run the same command again",
    }
}

/// A row as [`Store::find`] sees it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) id: i64,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) outcome: Outcome,
    pub(super) in_doubt: bool,
    pub(super) claimed_at: Option<i64>,
}

/// Rows of a bulk statement as one JSON array.
struct JsonRows(Vec<u8>);

impl JsonRows {
    fn new() -> JsonRows {
        JsonRows(Vec::new())
    }

    fn push(&mut self, row: &impl Serialize) {
        self.0.push(if self.0.is_empty() { b'[' } else { b',' });
        // Writing numbers and strings to memory has nothing to fail with.
        let written = serde_json::to_writer(&mut self.0, row);
        debug_assert!(written.is_ok());
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The array as text; SQLite counts on valid UTF-8, which `serde_json` gives.
    fn text(&self) -> String {
        let mut bytes = self.0.clone();
        bytes.extend_from_slice(if bytes.is_empty() { b"[]" } else { b"]" });
        String::from_utf8(bytes).unwrap_or_default()
    }
}

/// The statements of one commit, collected before the transaction begins.
pub(super) struct Write {
    run: i64,
    now: i64,
    claims: JsonRows,
    ended: JsonRows,
    ended_count: u64,
    with_id: JsonRows,
    without_id: JsonRows,
    records: JsonRows,
    erased: JsonRows,
}

impl Write {
    pub(super) fn new(run: i64, now: i64) -> Write {
        Write {
            run,
            now,
            claims: JsonRows::new(),
            ended: JsonRows::new(),
            ended_count: 0,
            with_id: JsonRows::new(),
            without_id: JsonRows::new(),
            records: JsonRows::new(),
            erased: JsonRows::new(),
        }
    }

    pub(super) fn now(&self) -> i64 {
        self.now
    }

    pub(super) fn claim(&mut self, claim: &Claim) {
        let reference = &claim.customer.reference;
        self.claims.push(&(
            claim.id,
            claim.line,
            reference.as_str(),
            signed(reference.key()),
            hex(&claim.customer.fingerprint),
            claim.claimed_at,
        ));
    }

    pub(super) fn settle(&mut self, settlement: &Settlement) {
        let Settlement {
            claim,
            ending,
            attempts,
        } = settlement;
        let sent = claim.customer.fingerprint;
        self.ended.push(&claim.id);
        self.ended_count += 1;
        match ending {
            // What Get found is what an earlier run sent; its fields count, not today's.
            Ending::Created {
                customer_id,
                found: true,
            } => {
                self.settle_with_id(claim, ending, claim.prior.unwrap_or(sent), customer_id, *attempts);
            }
            Ending::Created {
                customer_id,
                found: false,
            }
            | Ending::Existing { customer_id } => {
                self.settle_with_id(claim, ending, sent, customer_id, *attempts);
            }
            Ending::Rejected(trouble) | Ending::Failed(trouble) => {
                self.settle_without_id(claim, ending, sent, trouble, *attempts, false);
            }
            Ending::Pending { trouble, in_doubt } => {
                let fingerprint = claim.prior.filter(|_| *in_doubt).unwrap_or(sent);
                self.settle_without_id(claim, ending, fingerprint, trouble, *attempts, *in_doubt);
            }
        }
    }

    /// A row that owns no reference: invalid or duplicate.
    pub(super) fn settle_unowned(
        &mut self,
        id: i64,
        line: u64,
        outcome: Outcome,
        reference: Option<String>,
        trouble: Trouble,
        record: &Record,
    ) {
        let Trouble {
            field, code, message, ..
        } = trouble;
        let none = None::<i64>;
        let key = reference
            .as_deref()
            .map(|reference| signed(Reference::recorded(reference).key()));
        self.without_id.push(&(
            id, line, outcome, reference, key, none, 0, none, false, field, code, message, none, none,
        ));
        self.keep_record(id, record);
    }

    fn settle_with_id(
        &mut self,
        claim: &Claim,
        ending: &Ending,
        fingerprint: Fingerprint,
        customer_id: &str,
        attempts: u32,
    ) {
        let reference = &claim.customer.reference;
        self.with_id.push(&(
            claim.id,
            claim.line,
            ending.outcome(),
            reference.as_str(),
            signed(reference.key()),
            hex(&fingerprint),
            customer_id,
            attempts,
            claim.claimed_at,
        ));
        if claim.known {
            self.erased.push(&claim.id);
        }
    }

    fn settle_without_id(
        &mut self,
        claim: &Claim,
        ending: &Ending,
        fingerprint: Fingerprint,
        trouble: &Trouble,
        attempts: u32,
        in_doubt: bool,
    ) {
        let reference = &claim.customer.reference;
        self.without_id.push(&(
            claim.id,
            claim.line,
            ending.outcome(),
            reference.as_str(),
            signed(reference.key()),
            hex(&fingerprint),
            attempts,
            claim.claimed_at,
            in_doubt,
            &trouble.field,
            &trouble.code,
            &trouble.message,
            trouble.http_status,
            &trouble.request_id,
        ));
        self.keep_record(claim.id, &claim.record);
    }

    fn keep_record(&mut self, id: i64, record: &Record) {
        self.records.push(&(id, record.cells().collect::<Vec<_>>()));
    }
}

/// SQLite's integers are signed; the bits are what counts.
fn signed(key: u64) -> i64 {
    key as i64
}

/// JSON has no bytes; SQLite turns this back with `unhex`.
fn hex(fingerprint: &Fingerprint) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    fingerprint
        .as_bytes()
        .iter()
        .flat_map(digits)
        .map(char::from)
        .collect()
}

/// The one writer.
pub(super) struct Store {
    path: PathBuf,
    connection: SqliteConnection,
    /// Whether `reference_key` has rows at all; if not, nobody asks it.
    has_keys: bool,
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
        self.connection
            .close()
            .await
            .map_err(|error| Error::Sqlite { path, error })
    }

    /// Records the target in a new ledger; refuses another one in an old.
    pub(super) async fn keep_target(&mut self, asked: &Target, now: i64) -> Result<(), Error> {
        let insert = sqlx::query(INSERT_TARGET)
            .bind(&asked.base_url)
            .bind(&asked.merchant_id)
            .bind(now);
        self.execute(insert).await?;
        let row = self.one(SELECT_TARGET).await?;
        let has = Target {
            base_url: row.get(0),
            merchant_id: row.get(1),
        };
        if has == *asked {
            return Ok(());
        }
        Err(Error::OtherTarget {
            path: self.path.clone(),
            has,
            asked: asked.clone(),
        })
    }

    /// Ends what crashed runs left open. Only the holder of the lock may call it.
    pub(super) async fn bury_dead_runs(&mut self, now: i64) -> Result<(), Error> {
        self.execute(sqlx::query(BEGIN)).await?;
        self.execute(sqlx::query(BURY_CLAIMS).bind(now)).await?;
        self.execute(sqlx::query(DELETE_CLAIMS)).await?;
        self.execute(sqlx::query(END_DEAD_RUNS).bind(now)).await?;
        self.execute(sqlx::query("commit")).await.map(drop)
    }

    /// Hash and row of those that are not in `reference_key` yet.
    pub(super) async fn recent_keys(&mut self, mut each: impl FnMut(u64, i64)) -> Result<(), Error> {
        for row in self.all(sqlx::query(RECENT_KEYS)).await? {
            each(row.get::<i64, _>(0) as u64, row.get(1));
        }
        Ok(())
    }

    /// The highest id in use.
    pub(super) async fn last_row(&mut self) -> Result<i64, Error> {
        Ok(self.one(LAST_ROW).await?.get(0))
    }

    /// Begins a run; its number.
    pub(super) async fn insert_run(&mut self, run: &NewRun<'_>, now: i64) -> Result<i64, Error> {
        let columns = serde_json::to_string(run.columns).unwrap_or_default();
        let insert = sqlx::query(INSERT_RUN)
            .bind(run.command)
            .bind(run.source)
            .bind(columns)
            .bind(now);
        Ok(self.all(insert).await?.first().map_or(0, |row| row.get(0)))
    }

    /// The rows with these ids, and those whose reference has one of these hashes, by reference.
    pub(super) async fn find(&mut self, keys: &[u64], ids: &[i64]) -> Result<HashMap<String, Found>, Error> {
        if ids.is_empty() && !self.has_keys {
            return Ok(HashMap::new());
        }
        let keys: Vec<i64> = keys.iter().map(|key| signed(*key)).collect();
        let json = |numbers: &[i64]| serde_json::to_string(numbers).unwrap_or_default();
        let rows = self
            .all(sqlx::query(FIND).bind(json(ids)).bind(json(&keys)))
            .await?;
        Ok(rows.iter().map(|row| (row.get(1), read_found(row))).collect())
    }

    /// One transaction: the durable moment of everything in `write`.
    pub(super) async fn write(
        &mut self,
        write: &Write,
        tally: &Tally,
        figures: &Figures,
        last_line: u64,
    ) -> Result<(), Error> {
        self.execute(sqlx::query(BEGIN)).await?;
        if !write.ended.is_empty() {
            let ended = sqlx::query(END_CLAIMS).bind(write.ended.text()).bind(write.run);
            if self.execute(ended).await? != write.ended_count {
                return Err(Error::TakenOver {
                    path: self.path.clone(),
                    run: write.run,
                });
            }
        }
        if !write.with_id.is_empty() {
            let settle = sqlx::query(SETTLE_WITH_ID).bind(write.with_id.text());
            self.execute(settle.bind(write.run).bind(write.now)).await?;
        }
        if !write.without_id.is_empty() {
            let settle = sqlx::query(SETTLE_WITHOUT_ID).bind(write.without_id.text());
            self.execute(settle.bind(write.run).bind(write.now)).await?;
        }
        if !write.records.is_empty() {
            self.execute(sqlx::query(KEEP_RECORDS).bind(write.records.text()))
                .await?;
        }
        if !write.erased.is_empty() {
            self.execute(sqlx::query(ERASE_RECORDS).bind(write.erased.text()))
                .await?;
        }
        if !write.claims.is_empty() {
            self.execute(
                sqlx::query(INSERT_CLAIMS)
                    .bind(write.claims.text())
                    .bind(write.run),
            )
            .await?;
        }
        self.execute(count_run(write.run, tally, figures, last_line))
            .await?;
        self.execute(sqlx::query("commit")).await.map(drop)
    }

    /// Moves the hashes of recent rows into the table, in order.
    pub(super) async fn merge_keys(&mut self) -> Result<(), Error> {
        self.execute(sqlx::query(BEGIN)).await?;
        self.has_keys |= self.execute(sqlx::query(MERGE_KEYS)).await? > 0;
        self.execute(sqlx::query(RAISE_WATERMARK)).await?;
        self.execute(sqlx::query("commit")).await.map(drop)
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
        self.execute(sqlx::query(BEGIN)).await?;
        self.execute(sqlx::query(SUPERSEDE).bind(run)).await?;
        let end = sqlx::query(END_RUN)
            .bind(run)
            .bind(state.name())
            .bind(exit_code)
            .bind(stop_reason);
        let end = end.bind(now).bind(figures.requests as i64);
        self.execute(end.bind(figures.retries as i64).bind(figures.throttled as i64))
            .await?;
        self.execute(sqlx::query("commit")).await.map(drop)
    }

    async fn execute(&mut self, query: Query<'_>) -> Result<u64, Error> {
        let done = query.execute(&mut self.connection).await;
        done.map(|done| done.rows_affected())
            .map_err(|error| self.error(error))
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
        Error::Sqlite {
            path: self.path.clone(),
            error,
        }
    }
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, SqliteArguments>;

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

fn read_found(row: &SqliteRow) -> Found {
    Found {
        id: row.get(0),
        fingerprint: row.get::<Option<&[u8]>, _>(2).and_then(Fingerprint::recorded),
        // The table's check allows no other word.
        outcome: Outcome::from_name(row.get(3)).unwrap_or(Outcome::Pending),
        in_doubt: row.get(4),
        claimed_at: row.get(5),
    }
}

/// Makes a whole ledger under another name, then gives it its own: whatever dies here, no half
/// ledger is left under a name that somebody will open.
async fn create(path: &Path) -> Result<(), Error> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let open_error = |error| Error::Open {
        path: path.into(),
        error,
    };
    let new = beside("-new");
    for stale in ["-new", "-new-wal", "-new-shm"] {
        match std::fs::remove_file(beside(stale)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(open_error(error)),
            _ => {}
        }
    }
    drop(private_file(&new).map_err(open_error)?);
    let mut connection = connect(&new).await?;
    migrate(path, &mut connection).await?;
    connection.close().await.map_err(|error| Error::Sqlite {
        path: path.into(),
        error,
    })?;
    std::fs::rename(&new, path).map_err(open_error)
}

async fn connect(path: &Path) -> Result<SqliteConnection, Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        // What is erased is overwritten: raw records are personal data.
        .pragma("secure_delete", "on")
        .disable_statement_logging();
    options.connect().await.map_err(|error| Error::Sqlite {
        path: path.into(),
        error,
    })
}

async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), Error> {
    MIGRATOR.run(connection).await.map_err(|error| match error {
        MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_) => Error::Newer(path.into()),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => Error::Sqlite {
            path: path.into(),
            error,
        },
        other => Error::Sqlite {
            path: path.into(),
            error: sqlx::Error::Migrate(Box::new(other)),
        },
    })
}

fn parse_version(version: &str) -> [u32; 3] {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    [(); 3].map(|()| parts.next().unwrap_or(0))
}

/// Which rows an export wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Those with a customer id.
    WithId,
    /// Those without.
    WithoutId,
    /// Every one.
    All,
}

/// A reader beside the writer; it sees what is committed.
pub struct Reader {
    path: PathBuf,
    connection: SqliteConnection,
}

impl Reader {
    /// Opens an existing ledger for reading.
    ///
    /// # Errors
    /// Where there is none, or the file is not a ledger.
    pub async fn open(path: &Path) -> Result<Reader, Error> {
        if !super::check_ours(path)? {
            return Err(Error::Missing(path.into()));
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let connection = options.connect().await.map_err(|error| Error::Sqlite {
            path: path.into(),
            error,
        })?;
        Ok(Reader {
            path: path.into(),
            connection,
        })
    }

    /// Whose customers it records.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn target(&mut self) -> Result<Option<Target>, Error> {
        let rows = self.all(sqlx::query(SELECT_TARGET)).await?;
        Ok(rows.first().map(|row| Target {
            base_url: row.get(0),
            merchant_id: row.get(1),
        }))
    }

    /// Every run, in order.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn runs(&mut self) -> Result<Vec<RunRecord>, Error> {
        Ok(self
            .all(sqlx::query(SELECT_RUNS))
            .await?
            .iter()
            .map(read_run)
            .collect())
    }

    /// The header of each run's source.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn columns(&mut self) -> Result<Vec<(i64, Vec<String>)>, Error> {
        let rows = self.all(sqlx::query(SELECT_COLUMNS)).await?;
        let columns = |row: &SqliteRow| serde_json::from_str(row.get(1)).unwrap_or_default();
        Ok(rows.iter().map(|row| (row.get(0), columns(row))).collect())
    }

    /// How many rows stand at which outcome over all runs. `Unchanged` and `Changed` are words of
    /// runs, not of rows, so they are zero here.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn standing(&mut self) -> Result<Tally, Error> {
        let mut tally = Tally::default();
        for row in self.all(sqlx::query(COUNT_OUTCOMES)).await? {
            if let Some(outcome) = Outcome::from_name(row.get(0)) {
                tally.0[outcome as usize] = row.get::<i64, _>(1) as u64;
            }
        }
        Ok(tally)
    }

    /// Gives each selected row to `each`, in the order in which rows were met, until it says no.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn rows(
        &mut self,
        selection: Selection,
        run: Option<i64>,
        mut each: impl FnMut(RowRecord) -> bool,
    ) -> Result<(), Error> {
        use futures_util::TryStreamExt;
        let sql = match selection {
            Selection::WithId => SELECT_ROWS_WITH_ID,
            Selection::WithoutId => SELECT_ROWS_WITHOUT_ID,
            Selection::All => SELECT_ROWS,
        };
        let mut rows = sqlx::query(sql).bind(run).fetch(&mut self.connection);
        loop {
            match rows.try_next().await {
                Ok(Some(row)) if each(read_row(&row)) => {}
                Ok(_) => return Ok(()),
                Err(error) => {
                    return Err(Error::Sqlite {
                        path: self.path.clone(),
                        error,
                    });
                }
            }
        }
    }

    async fn all(&mut self, query: Query<'_>) -> Result<Vec<SqliteRow>, Error> {
        let rows = query.fetch_all(&mut self.connection).await;
        rows.map_err(|error| Error::Sqlite {
            path: self.path.clone(),
            error,
        })
    }
}

fn read_run(row: &SqliteRow) -> RunRecord {
    let mut tally = Tally::default();
    for outcome in Outcome::ALL {
        tally.0[outcome as usize] = row.get::<i64, _>(8 + outcome as usize) as u64;
    }
    let state = match row.get(3) {
        "completed" => State::Completed,
        "interrupted" => State::Interrupted,
        "stopped" => State::Stopped,
        _ => State::Running,
    };
    let count = |at: usize| row.get::<i64, _>(at) as u64;
    RunRecord {
        run: row.get(0),
        command: row.get(1),
        source: row.get(2),
        state,
        exit_code: row.get(4),
        stop_reason: row.get(5),
        started_at: row.get(6),
        ended_at: row.get(7),
        tally,
        figures: Figures {
            requests: count(18),
            retries: count(19),
            throttled: count(20),
        },
    }
}

fn read_row(row: &SqliteRow) -> RowRecord {
    let cells: Option<&str> = row.get(12);
    RowRecord {
        run: row.get(1),
        line: row.get(2),
        outcome: Outcome::from_name(row.get(3)).unwrap_or(Outcome::Pending),
        reference: row.get(4),
        customer_id: row.get(5),
        attempts: row.get(6),
        trouble: Trouble {
            field: row.get(7),
            code: row.get(8),
            message: row.get(9),
            http_status: row
                .get::<Option<u32>, _>(10)
                .and_then(|status| status.try_into().ok()),
            request_id: row.get(11),
        },
        cells: cells.and_then(|cells| serde_json::from_str(cells).ok()),
    }
}
