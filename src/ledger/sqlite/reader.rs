//! Reads a ledger in a file beside its writer. The methods are documented at [`Reader`](super::super::reader::Reader).
//!
//! Sees only committed data, and takes no lock that a run would wait for. Rows are returned one by one or page by
//! page, so that memory does not grow with their number, and SQLite's log does not grow during a long read.

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
    super::{
        claim::RowError,
        error::Error,
        error_groups::{ErrorGroups, ErrorKind, ErrorMessage, ErrorRow},
        location::Location,
        model::{Outcome, RowId, RunId, RunState, Tally, Target},
        records::{
            ErrorGroup, LedgerOverview, RecordedHeartbeat, RetryFilter, RetryRow, RetryableCount, RowMapping,
            RowRecord, RunDetails, RunRecord, Selection, SourceHeader,
        },
        rows::{
            ResultRow as _, choose_run, outcome_named, read_dropped, read_existing, read_field_counts,
            read_headers, read_heartbeat, read_retry_row, read_retryable_count, read_row, read_run,
            read_sample, read_setting, read_target,
        },
    },
    disk::{keep_temporary_files_beside, of_unchanging, options},
    lock_file::{check_ours, has_log, is_in_use, missing},
    queries::*,
    rows::Query,
    statements::SELECT_TARGET,
    store::{BUSY_TIMEOUT, FIRST_MIGRATION, Store, UNSENDABLE_MIGRATION},
};
use crate::customer::InvalidCounts;

/// Number of rows of a page: a few hundred kilobytes.
const PAGE_ROWS: usize = 2048;

/// A reader beside the writer; it reads only committed data.
pub(crate) struct Reader {
    path: PathBuf,
    connection: SqliteConnection,
}

impl Reader {
    /// Opens an existing ledger for reading.
    ///
    /// # Errors
    /// If there is none, or the file is not a ledger.
    pub(crate) async fn open(path: &Path) -> Result<Reader, Error> {
        if !check_ours(path)? {
            return Err(missing(path));
        }
        let opened = match Reader::connect(path, options(path)).await {
            // To read a file that is being written, SQLite must write too. On a read-only disk, a ledger without a
            // log cannot change while it is read.
            Err(_) if !has_log(path) => Reader::connect(path, of_unchanging(path)).await,
            opened => opened,
        };
        match opened? {
            (_, Some(version)) if version < FIRST_MIGRATION => Err(Error::Development(path.into())),
            (reader, _) => Ok(reader),
        }
    }

    /// Opens the ledger of a run that has just ended in this process. Nobody writes to it, so no files are created
    /// beside it: a read-only connection could not remove them afterwards.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub(crate) async fn open_ended(path: &Path) -> Result<Reader, Error> {
        if has_log(path) {
            return Reader::open(path).await;
        }
        Reader::connect(path, of_unchanging(path)).await.map(|(reader, _)| reader)
    }

    /// A connection, and the first migration of the ledger: SQLite opens the file only on the first query.
    async fn connect(path: &Path, options: SqliteConnectOptions) -> Result<(Reader, Option<i64>), Error> {
        let options = options.read_only(true).busy_timeout(BUSY_TIMEOUT).disable_statement_logging();
        let connected = options.connect().await;
        let mut connection =
            connected.map_err(|error| Error::Sqlite { path: path.into(), error: error.into() })?;
        keep_temporary_files_beside(path, &mut connection).await;
        let mut reader = Reader { path: path.into(), connection };
        let versions = reader.all(sqlx::query(SELECT_MIGRATIONS)).await?;
        let (first, last): (Option<i64>, Option<i64>) =
            versions.first().map_or((None, None), |row| (row.get(0), row.get(1)));
        if first.is_some_and(|first| first >= FIRST_MIGRATION) && last < Some(UNSENDABLE_MIGRATION) {
            for view in VIEWS_OF_OLDER_LEDGER {
                reader.all(sqlx::query(view)).await?;
            }
        }
        Ok((reader, first))
    }

    pub(crate) fn location(&self) -> Location {
        self.path.clone().into()
    }

    pub(crate) async fn overview(&mut self) -> Result<LedgerOverview, Error> {
        let (target, runs) = (self.target().await?, self.runs().await?);
        let goes_on = runs.last().is_some_and(|run| run.state == RunState::Running);
        let heartbeat = if goes_on { self.heartbeat().await? } else { None };
        Ok(LedgerOverview {
            target,
            runs,
            outcomes: self.outcome_counts().await?,
            heartbeat,
            workers: Vec::new(),
            old_transaction: None,
        })
    }

    /// The errors of the rows that are not imported currently, over all runs.
    pub(crate) async fn open_errors(&mut self) -> Result<(Vec<ErrorGroup>, InvalidCounts), Error> {
        self.error_groups(sqlx::query(SELECT_OPEN_ERRORS), ErrorGroups::default()).await
    }

    pub(crate) async fn target(&mut self) -> Result<Option<Target>, Error> {
        let rows = self.all(sqlx::query(SELECT_TARGET)).await?;
        Ok(rows.first().map(read_target))
    }

    /// Every run, in order. A run recorded as running has crashed if no process holds the ledger's lock.
    pub(crate) async fn runs(&mut self) -> Result<Vec<RunRecord>, Error> {
        let rows = self.all(sqlx::query(SELECT_RUNS)).await?;
        let mut runs = rows
            .iter()
            .map(|row| read_run(&*self.path, row, RunState::Running))
            .collect::<Result<Vec<_>, Error>>()?;
        let ended = if is_in_use(&self.path) { runs.len().saturating_sub(1) } else { runs.len() };
        for run in runs.iter_mut().take(ended).filter(|run| run.state == RunState::Running) {
            run.state = RunState::Died;
        }
        Ok(runs)
    }

    /// The ledger as a store, for lookups only: any write fails.
    pub(in crate::ledger) fn into_store(self) -> Store {
        Store::of_connection(self.path, self.connection)
    }

    /// The number of rows by outcome over all runs. `Unchanged` and `Changed` are outcomes within a run, not of a
    /// row, so they are zero here.
    async fn outcome_counts(&mut self) -> Result<Tally, Error> {
        let rows = self.all(sqlx::query(COUNT_OUTCOMES)).await?;
        rows.iter().map(|row| Ok((row.outcome(&*self.path, 0)?, row.get::<i64, _>(1) as u64))).collect()
    }

    /// The last heartbeat of the current run or of the last crashed one.
    pub(crate) async fn heartbeat(&mut self) -> Result<Option<RecordedHeartbeat>, Error> {
        let rows = self.all(sqlx::query(SELECT_HEARTBEAT)).await?;
        Ok(rows.first().map(read_heartbeat))
    }

    pub(crate) async fn last_success(&mut self) -> Result<Option<i64>, Error> {
        Ok(self.all(sqlx::query(SELECT_LAST_SUCCESS)).await?.first().and_then(|row| row.get(0)))
    }

    pub(crate) async fn run_details(
        &mut self,
        run: Option<RunId>,
        max_respelled: u32,
        unsendable: Option<ErrorGroups>,
    ) -> Result<Option<RunDetails>, Error> {
        let Some(run) = choose_run(self.runs().await?, run) else { return Ok(None) };
        let id = run.run.0;
        let settings = self.all(sqlx::query(SELECT_SETTINGS).bind(id)).await?;
        let samples = self.all(sqlx::query(SELECT_SAMPLES).bind(id)).await?;
        let dropped = self.all(sqlx::query(SELECT_DROPPED).bind(id)).await?;
        let changed = self.all(sqlx::query(SELECT_CHANGED).bind(id)).await?;
        let absent = self.all(sqlx::query(SELECT_ABSENT).bind(id)).await?;
        let existing = self.all(sqlx::query(SELECT_EXISTING).bind(id)).await?;
        let respelled = self.all(sqlx::query(SELECT_RESPELLED).bind(id).bind(max_respelled)).await?;
        let select_errors = if unsendable.is_some() { SELECT_SENT_ERRORS } else { SELECT_ERRORS };
        let (groups, invalid) =
            self.error_groups(sqlx::query(select_errors).bind(id), unsendable.unwrap_or_default()).await?;
        let heartbeat = if run.state == RunState::Running { self.heartbeat().await? } else { None };
        Ok(Some(RunDetails {
            target: self.target().await?,
            settings: settings.iter().map(read_setting).collect(),
            samples: samples.iter().map(read_sample).collect(),
            groups,
            invalid,
            heartbeat: heartbeat.filter(|heartbeat| heartbeat.run == run.run),
            dropped: read_dropped(&dropped),
            changed: read_field_counts(&changed).collect(),
            absent: absent.first().and_then(|row| row.integer(0)).map(|absent| absent.max(0).unsigned_abs()),
            existing: read_existing(&existing),
            respelled: respelled.iter().map(|row| (row.count(0), row.get(1))).collect(),
            run,
        }))
    }

    /// The errors of the selected rows and of those that are counted already, the most frequent first, and what the
    /// messages of invalid rows tell.
    async fn error_groups(
        &mut self,
        select: Query<'_>,
        mut groups: ErrorGroups,
    ) -> Result<(Vec<ErrorGroup>, InvalidCounts), Error> {
        self.each(select, |row| {
            let (outcome, field, code) = (row.get(2), row.get(3), row.get(4));
            let kind = ErrorKind { outcome, field, code, http_status: row.get(5) };
            groups.add(ErrorRow { id: row.get(0), line: row.get(1), kind, message: row.get(6) });
            Ok(true)
        })
        .await?;
        let (groups, invalid) = groups.into_sorted();
        let mut messages = Vec::with_capacity(groups.len());
        for id in groups.iter().filter_map(|(_, count)| count.first_row()) {
            messages.extend(self.all(sqlx::query(SELECT_ERROR_MESSAGE).bind(id.0)).await?);
        }
        let read = |row: &SqliteRow| {
            let cells = row.get::<Option<&str>, _>(2).and_then(|cells| serde_json::from_str(cells).ok());
            (RowId(row.get(0)), ErrorMessage { text: row.get(1), cells })
        };
        let messages = messages.iter().map(read).collect();
        Ok((ErrorGroups::describe(&self.path.as_path().into(), groups, messages)?, invalid))
    }

    pub(crate) async fn source_headers(&mut self, run: Option<RunId>) -> Result<Vec<SourceHeader>, Error> {
        let rows = self.all(sqlx::query(SELECT_HEADERS).bind(run.map(|run| run.0))).await?;
        Ok(read_headers(&rows, run))
    }

    pub(crate) async fn rows(
        &mut self,
        selection: Selection,
        run: Option<RunId>,
        mut each: impl FnMut(RowRecord) -> bool,
    ) -> Result<(), Error> {
        let id = run.map(|run| run.0);
        let query = match (selection, run) {
            (Selection::WithId, _) => return self.rows_with_id(run, each).await,
            (Selection::WithoutId, None) => sqlx::query(SELECT_ROWS_WITHOUT_ID),
            (Selection::WithoutId, Some(_)) => sqlx::query(SELECT_ROWS_WITHOUT_ID_OF_RUN).bind(id),
            (Selection::Invalid, None) => sqlx::query(SELECT_INVALID_ROWS),
            (Selection::Invalid, Some(_)) => sqlx::query(SELECT_INVALID_ROWS_OF_RUN).bind(id),
            (Selection::All, None) => sqlx::query(SELECT_ROWS),
            (Selection::All, Some(_)) => sqlx::query(SELECT_ROWS_OF_RUN).bind(id),
        };
        let path = self.path.clone();
        self.each(query, |row| Ok(each(read_row(path.as_path(), row)?))).await
    }

    async fn rows_with_id(
        &mut self,
        run: Option<RunId>,
        mut each: impl FnMut(RowRecord) -> bool,
    ) -> Result<(), Error> {
        let mut last = RowId(0);
        loop {
            let query = sqlx::query(SELECT_ROWS_WITH_ID).bind(run.map(|run| run.0)).bind(last.0);
            let page = self.all(query.bind(PAGE_ROWS as i64)).await?;
            let text = page.first().map_or("[]", |page| page.get(0));
            let rows: Vec<PageRow<'_>> = serde_json::from_str(text)
                .map_err(|error| Error::Sqlite { path: self.path.clone(), error: error.into() })?;
            let is_last = rows.len() < PAGE_ROWS;
            last = rows.last().map_or(last, |row| row.0);
            for row in rows {
                if !each(row.read(&self.path)?) {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    pub(crate) async fn retry_rows(
        &mut self,
        filter: &RetryFilter,
        after: RowId,
        max: u32,
    ) -> Result<Vec<RetryRow>, Error> {
        let query = sqlx::query(SELECT_RETRY_ROWS).bind(after.0).bind(filter.outcome.map(Outcome::name));
        let rows = self.all(query.bind(filter.error_code.clone()).bind(max)).await?;
        Ok(rows.iter().map(read_retry_row).collect())
    }

    pub(crate) async fn retryable_counts(&mut self) -> Result<Vec<RetryableCount>, Error> {
        let rows = self.all(sqlx::query(COUNT_RETRYABLE)).await?;
        rows.iter().map(|row| read_retryable_count(&*self.path, row)).collect()
    }

    pub(crate) async fn row_mappings(&mut self) -> Result<Vec<RowMapping>, Error> {
        let rows = self.all(sqlx::query(SELECT_ROW_MAPPINGS)).await?;
        let read = |row: &SqliteRow| RowMapping {
            run: RunId(row.get(0)),
            columns: serde_json::from_str(row.get(1)).unwrap_or_default(),
            reference_column: row.get(2),
            options: row.get(3),
            has_cells: row.get(4),
            source: row.get(5),
        };
        Ok(rows.iter().map(read).collect())
    }

    /// Passes each row to `take` until it returns false; memory does not grow with the number of rows.
    pub(super) async fn each(
        &mut self,
        query: Query<'_>,
        mut take: impl FnMut(&SqliteRow) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let mut rows = query.fetch(&mut self.connection);
        loop {
            match rows.try_next().await {
                Ok(Some(row)) if take(&row)? => {}
                Ok(_) => return Ok(()),
                Err(error) => {
                    return Err(Error::Sqlite { path: self.path.clone(), error: error.into() });
                }
            }
        }
    }

    pub(super) async fn all(&mut self, query: Query<'_>) -> Result<Vec<SqliteRow>, Error> {
        let rows = query.fetch_all(&mut self.connection).await;
        rows.map_err(|error| Error::Sqlite { path: self.path.clone(), error: error.into() })
    }
}

/// A row of [`SELECT_ROWS_WITH_ID`].
#[derive(Deserialize)]
struct PageRow<'a>(
    RowId,
    RunId,
    i64,
    &'a str,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    i64,
);

impl PageRow<'_> {
    fn read(self, path: &Path) -> Result<RowRecord, Error> {
        let PageRow(_, run, line, outcome, reference, customer_id, attempts) = self;
        Ok(RowRecord {
            run,
            line,
            outcome: outcome_named(path, outcome)?,
            reference: Some(reference.into_owned()),
            customer_id: Some(customer_id.into_owned()),
            error: RowError::default(),
            attempts,
            cells: None,
            columns_of: run,
            api_reference: None,
        })
    }
}
