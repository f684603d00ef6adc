//! Reading beside the writer: status and exports, also while a run goes on.
//!
//! Sees what is committed and nothing else; takes no lock that a run would wait for. Rows are
//! given one by one, so that memory does not grow with them.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use futures_util::TryStreamExt;
use serde::Deserialize;
use sqlx::{
    ConnectOptions, Row as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteRow},
};

use super::{
    super::{Error, Outcome, RequestCounts, RowError, RunState, Tally, Target},
    lock_file::{check_ours, has_log},
    open::BUSY_TIMEOUT,
    statements::SELECT_TARGET,
    store::Query,
};
use crate::customer::Field;

const SELECT_RUNS: &str = "
    select id, command, source, state, exit_code, stop_reason, started_at, ended_at,
           created, existing, unchanged, changed, updated, duplicate, invalid, rejected, failed,
           pending, requests, retries, throttled
    from run where id > 0 order by id";

const SELECT_COLUMNS: &str = "
    select id, columns, reference_column from run
    where (?1 is null or id = ?1 or id in (
        select record.run from record join row on row.id = record.row where row.run = ?1))
    -- The stand-in for pruned runs, where it has rows to correct.
    and (id > 0 or exists (select 1 from row where run = 0 and customer_id is null))
    order by id = 0, id";

const SELECT_ROWS_OF_RUN: &str = "
    select every_row.id, every_row.run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id, cells, coalesce(record.run, every_row.run),
           (select api_reference from row where row.id = every_row.id)
    from every_row left join record on record.row = every_row.id
    where every_row.run = ?1 order by every_row.id";

/// Each once.
const SELECT_ROWS: &str = "
    select row.id, row.run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id, null, row.run, api_reference
    from row where customer_id is not null
    union all
    select id, run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id, null, run, null
    from to_correct where customer_id is null
    order by 1";

/// A page of them as one value: a value for each row and column costs several times as much, and these are the
/// rows of which there are many.
const SELECT_ROWS_WITH_ID: &str = "
    select json_group_array(json_array(id, run, line, outcome, reference, customer_id, attempts))
    from (select * from row where id > ?2 and customer_id is not null and (?1 is null or run = ?1)
          order by id limit ?3)";

/// Rows of a page: some hundred kilobytes.
const PAGE_ROWS: usize = 2048;

const SELECT_ROWS_WITHOUT_ID: &str = "
    select to_correct.id, to_correct.run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id, cells, coalesce(record.run, to_correct.run), null
    from to_correct left join record on record.row = to_correct.id order by 1";

/// As that run settled them, whatever became of them since.
const SELECT_ROWS_WITHOUT_ID_OF_RUN: &str = "
    select every_row.id, every_row.run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id, cells, coalesce(record.run, every_row.run), null
    from every_row left join record on record.row = every_row.id
    where customer_id is null and every_row.run = ?1
    -- ImportedIndex, and an update was refused, failed, or is under way.
    union all
    select outdated.row, outdated.run, outdated.line, outdated.outcome, reference, customer_id, outdated.attempts, null,
           outdated.error_code, outdated.error_message, outdated.http_status, outdated.request_id, cells,
           coalesce(record.run, outdated.run), null
    from outdated join row on row.id = outdated.row left join record on record.row = outdated.row
    where outdated.run = ?1
    order by 1";

const LAST_SUCCESS: &str = "
    select max(ended_at) from run where state = 'completed' and exit_code in (0, 3) and id > 0";

/// As the exports have them: an imported row whose update did not come to its end counts as what that came to.
const COUNT_OUTCOMES: &str = "
    select outcome, sum(rows) from (
        select outcome, count(*) as rows from row where customer_id is not null group by outcome
        union all
        select row.outcome, -1 from outdated cross join row on row.id = outdated.row
        where row.reference not in (select reference from invalid_now)
        union all
        select outcome, count(*) from to_correct group by outcome)
    group by outcome";

/// A run as the ledger knows it.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// Its number, from 1.
    pub run: i64,
    /// `import` or `retry`.
    pub command: String,
    /// The source as given.
    pub source: String,
    /// How it ended. A dead run is `Running` until the next one begins.
    pub state: RunState,
    /// Its exit code, once it ended.
    pub exit_code: Option<i64>,
    /// Why it ended itself.
    pub stop_reason: Option<String>,
    /// UTC milliseconds.
    pub started_at: i64,
    /// UTC milliseconds.
    pub ended_at: Option<i64>,
    /// Rows by outcome.
    pub tally: Tally,
    /// Requests.
    pub figures: RequestCounts,
}

/// The header of a run's source.
#[derive(Clone, Debug)]
pub struct SourceHeader {
    /// The run.
    pub run: i64,
    /// Its columns in order.
    pub names: Vec<String>,
    /// The one that holds the references.
    pub reference: Option<String>,
}

/// A row as exports see it.
#[derive(Clone, Debug)]
pub struct RowRecord {
    /// The run that settled it last.
    pub run: i64,
    /// Physical line in that run's source.
    pub line: i64,
    /// Its outcome; rows of an import are never `Unchanged` or `Changed` here, those belong to runs.
    pub outcome: Outcome,
    /// The reference, where the row has one.
    pub reference: Option<String>,
    /// The customer id, exactly where the outcome is a success.
    pub customer_id: Option<String>,
    /// What went wrong.
    pub trouble: RowError,
    /// Requests sent for it.
    pub attempts: i64,
    /// The raw cells, where they are kept.
    pub cells: Option<Vec<String>>,
    /// The run whose columns the cells are by: a retry settles rows of many files.
    pub columns_of: i64,
    /// The API's spelling of the reference, where it is another one.
    pub api_reference: Option<String>,
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
    pub(crate) path: PathBuf,
    pub(crate) connection: SqliteConnection,
}

impl Reader {
    /// Opens an existing ledger for reading.
    ///
    /// # Errors
    /// Where there is none, or the file is not a ledger.
    pub async fn open(path: &Path) -> Result<Reader, Error> {
        if !check_ours(path)? {
            return Err(Error::Missing(path.into()));
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let opened = match options.connect().await {
            // Beside a file that is written to, SQLite needs to write too. On a disk that nobody can write
            // to, a ledger without a log does not change while it is read.
            Err(_) if !has_log(path) => options.immutable(true).connect().await,
            opened => opened,
        };
        let connection = opened.map_err(|error| Error::Sqlite { path: path.into(), error })?;
        Ok(Reader { path: path.into(), connection })
    }

    /// Whose customers it records.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn target(&mut self) -> Result<Option<Target>, Error> {
        let rows = self.all(sqlx::query(SELECT_TARGET)).await?;
        Ok(rows.first().map(|row| Target { base_url: row.get(0), merchant_id: row.get(1) }))
    }

    /// Refuses a ledger of another target.
    ///
    /// # Errors
    /// Where it is one, or the file cannot be read.
    pub async fn check_target(&mut self, asked: &Target) -> Result<(), Error> {
        match self.target().await? {
            Some(has) if has != *asked => {
                Err(Error::OtherTarget { path: self.path.clone(), has, asked: asked.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Every run, in order.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn runs(&mut self) -> Result<Vec<RunRecord>, Error> {
        Ok(self.all(sqlx::query(SELECT_RUNS)).await?.iter().map(read_run).collect())
    }

    /// When a run last came to the end of its source; UTC milliseconds.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn last_success(&mut self) -> Result<Option<i64>, Error> {
        Ok(self.all(sqlx::query(LAST_SUCCESS)).await?.first().and_then(|row| row.get(0)))
    }

    /// The header of each run's source, or of those that the rows of one run came from. Where no run is known any
    /// more there are no rows to correct, and the columns that every source has are named.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn source_headers(&mut self, run: Option<i64>) -> Result<Vec<SourceHeader>, Error> {
        let rows = self.all(sqlx::query(SELECT_COLUMNS).bind(run)).await?;
        let read = |row: &SqliteRow| SourceHeader {
            run: row.get(0),
            names: serde_json::from_str(row.get(1)).unwrap_or_default(),
            reference: row.get(2),
        };
        let columns: Vec<SourceHeader> = rows.iter().map(read).collect();
        if !columns.is_empty() || run.is_some() {
            return Ok(columns);
        }
        let names = [Field::Reference, Field::MobileNumber].map(|field| field.name().to_owned());
        Ok(vec![SourceHeader { run: 0, reference: Some(names[0].clone()), names: names.into() }])
    }

    /// How many rows stand at which outcome over all runs. `Unchanged` and `Changed` are words of
    /// runs, not of rows, so they are zero here.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn outcome_counts(&mut self) -> Result<Tally, Error> {
        let rows = self.all(sqlx::query(COUNT_OUTCOMES)).await?;
        let count = |row: &SqliteRow| Some((Outcome::from_name(row.get(0))?, row.get::<i64, _>(1) as u64));
        Ok(rows.iter().filter_map(count).collect())
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
        let query = match (selection, run) {
            (Selection::WithId, _) => return self.rows_with_id(run, each).await,
            (Selection::WithoutId, None) => sqlx::query(SELECT_ROWS_WITHOUT_ID),
            (Selection::WithoutId, run) => sqlx::query(SELECT_ROWS_WITHOUT_ID_OF_RUN).bind(run),
            (Selection::All, None) => sqlx::query(SELECT_ROWS),
            (Selection::All, run) => sqlx::query(SELECT_ROWS_OF_RUN).bind(run),
        };
        self.each(query, |row| each(read_row(row))).await
    }

    /// Gives each row to `take` until it says no; memory does not grow with them.
    pub(crate) async fn each(
        &mut self,
        query: Query<'_>,
        mut take: impl FnMut(&SqliteRow) -> bool,
    ) -> Result<(), Error> {
        let mut rows = query.fetch(&mut self.connection);
        loop {
            match rows.try_next().await {
                Ok(Some(row)) if take(&row) => {}
                Ok(_) => return Ok(()),
                Err(error) => {
                    return Err(Error::Sqlite { path: self.path.clone(), error });
                }
            }
        }
    }

    async fn rows_with_id(
        &mut self,
        run: Option<i64>,
        mut each: impl FnMut(RowRecord) -> bool,
    ) -> Result<(), Error> {
        let mut last = 0;
        loop {
            let query = sqlx::query(SELECT_ROWS_WITH_ID).bind(run).bind(last).bind(PAGE_ROWS as i64);
            let page = self.all(query).await?;
            let text = page.first().map_or("[]", |page| page.get(0));
            let rows: Vec<SettledWithId<'_>> =
                serde_json::from_str(text).map_err(|error| unreadable(&self.path, error))?;
            let is_last = rows.len() < PAGE_ROWS;
            last = rows.last().map_or(last, |row| row.0);
            if !rows.into_iter().all(|row| each(row.read())) || is_last {
                return Ok(());
            }
        }
    }

    pub(crate) async fn all(&mut self, query: Query<'_>) -> Result<Vec<SqliteRow>, Error> {
        let rows = query.fetch_all(&mut self.connection).await;
        rows.map_err(|error| Error::Sqlite { path: self.path.clone(), error })
    }
}

fn read_run(row: &SqliteRow) -> RunRecord {
    let count = |at: usize| row.get::<i64, _>(at) as u64;
    let tally = Outcome::ALL.into_iter().map(|outcome| (outcome, count(8 + outcome as usize))).collect();
    let state = match row.get(3) {
        "completed" => RunState::Completed,
        "interrupted" => RunState::Interrupted,
        "stopped" => RunState::Stopped,
        _ => RunState::Running,
    };
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
        figures: RequestCounts { requests: count(18), retries: count(19), throttled: count(20) },
    }
}

/// SQLite gave something else than was asked for: to go on would leave rows out.
pub(crate) fn unreadable(path: &Path, error: serde_json::Error) -> Error {
    Error::Sqlite { path: path.into(), error: sqlx::Error::Decode(error.into()) }
}

/// A row as it comes out of [`SELECT_ROWS_WITH_ID`].
#[derive(Deserialize)]
struct SettledWithId<'a>(
    i64,
    i64,
    i64,
    &'a str,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    i64,
);

impl SettledWithId<'_> {
    fn read(self) -> RowRecord {
        let SettledWithId(_, run, line, outcome, reference, customer_id, attempts) = self;
        RowRecord {
            run,
            line,
            outcome: Outcome::from_name(outcome).unwrap_or(Outcome::Pending),
            reference: Some(reference.into_owned()),
            customer_id: Some(customer_id.into_owned()),
            trouble: RowError::default(),
            attempts,
            cells: None,
            columns_of: run,
            api_reference: None,
        }
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
        trouble: RowError {
            field: row.get(7),
            code: row.get(8),
            message: row.get(9),
            http_status: row.get::<Option<u32>, _>(10).and_then(|status| status.try_into().ok()),
            request_id: row.get(11),
        },
        cells: cells.and_then(|cells| serde_json::from_str(cells).ok()),
        columns_of: row.get(13),
        api_reference: row.get(14),
    }
}
