//! Reading beside the writer: status and exports, also while a run goes on.
//!
//! Sees what is committed and nothing else; takes no lock that a run would wait for. Rows are
//! given one by one, so that memory does not grow with them.

use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use sqlx::{
    ConnectOptions, Row as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteRow},
};

use super::{
    Error, Figures, Outcome, State, Tally, Target, Trouble,
    file::{check_ours, has_log},
    open::BUSY_TIMEOUT,
    sqlite::{Query, SELECT_TARGET},
};

const SELECT_RUNS: &str = "
    select id, command, source, state, exit_code, stop_reason, started_at, ended_at,
           created, existing, unchanged, changed, updated, duplicate, invalid, rejected, failed,
           pending, requests, retries, throttled
    from run order by id";

const SELECT_COLUMNS: &str = "select id, columns, reference_column from run order by id";

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
    -- What was corrected since needs no correction any more: by its own account, or because a later
    -- run has imported the reference of an invalid row.
    and not (?1 is null and corrected_by is not null)
    and not (?1 is null and outcome = 'invalid' and exists (
        select 1 from reference_key join row later on later.id = reference_key.row
        where reference_key.key = every_row.key and later.reference = every_row.reference
        and later.customer_id is not null and later.run > every_row.run))
    order by every_row.id";

const COUNT_OUTCOMES: &str = "select outcome, count(*) from every_row group by outcome";

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
    pub state: State,
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
    pub figures: Figures,
}

/// The header of a run's source.
#[derive(Clone, Debug)]
pub struct Columns {
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
    /// The `cst_` id, exactly where the outcome is a success.
    pub customer_id: Option<String>,
    /// What went wrong.
    pub trouble: Trouble,
    /// Requests sent for it.
    pub attempts: i64,
    /// The raw cells, where they are kept, by the columns of its run.
    pub cells: Option<Vec<String>>,
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

    /// Every run, in order.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn runs(&mut self) -> Result<Vec<RunRecord>, Error> {
        Ok(self.all(sqlx::query(SELECT_RUNS)).await?.iter().map(read_run).collect())
    }

    /// The header of each run's source.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn columns(&mut self) -> Result<Vec<Columns>, Error> {
        let rows = self.all(sqlx::query(SELECT_COLUMNS)).await?;
        let read = |row: &SqliteRow| Columns {
            run: row.get(0),
            names: serde_json::from_str(row.get(1)).unwrap_or_default(),
            reference: row.get(2),
        };
        Ok(rows.iter().map(read).collect())
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
                    return Err(Error::Sqlite { path: self.path.clone(), error });
                }
            }
        }
    }

    async fn all(&mut self, query: Query<'_>) -> Result<Vec<SqliteRow>, Error> {
        let rows = query.fetch_all(&mut self.connection).await;
        rows.map_err(|error| Error::Sqlite { path: self.path.clone(), error })
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
        figures: Figures { requests: count(18), retries: count(19), throttled: count(20) },
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
            http_status: row.get::<Option<u32>, _>(10).and_then(|status| status.try_into().ok()),
            request_id: row.get(11),
        },
        cells: cells.and_then(|cells| serde_json::from_str(cells).ok()),
    }
}
