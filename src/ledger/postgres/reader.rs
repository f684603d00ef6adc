//! Reads a ledger in Postgres beside its writer. The methods are documented at [`Reader`](super::super::reader::Reader).
//!
//! Sees only committed data. Each query is a transaction of its own, so that the server need not keep old versions of rows for long.

use std::{collections::HashMap, time::Duration};

use sqlx::{Row as _, postgres::PgRow};

use super::{
    super::{
        claim::RowError,
        error::Error,
        error_groups::{ErrorGroups, ErrorKind, ErrorMessage, ErrorRow},
        location::Location,
        model::{Outcome, RowId, RunId, RunState, Tally, Target},
        records::{
            ErrorGroup, LedgerOverview, OldTransaction, RecordedHeartbeat, RetryFilter, RetryRow,
            RetryableCount, RowMapping, RowRecord, RunDetails, RunRecord, Selection, SourceHeader,
            WorkerRecord,
        },
        rows::{
            ResultRow as _, choose_run, read_dropped, read_existing, read_field_counts, read_headers,
            read_heartbeat, read_retry_row, read_retryable_count, read_row, read_run, read_sample,
            read_setting, read_target,
        },
        timeline::{Sample, merged},
    },
    connection::Connection,
    parameters::Statement,
    queries::*,
    schema,
    server::Server,
    statements::SELECT_TARGET,
};
use crate::customer::InvalidCounts;

/// A reader beside the writer; it reads only committed data.
pub(crate) struct Reader {
    pub(super) connection: Connection,
}

impl Reader {
    /// Opens an existing ledger for reading.
    pub(crate) async fn open(server: &Server) -> Result<Reader, Error> {
        let mut connection = Connection::open(server).await?;
        schema::check(&mut connection).await?;
        Ok(Reader { connection })
    }

    /// Repeats queries while the server is unreachable, for at most this long.
    pub(crate) fn outlast(&mut self, outage_limit: Duration) {
        self.connection.outage_limit = outage_limit;
    }

    /// The connection, for queries of the store.
    pub(crate) fn into_connection(self) -> Connection {
        self.connection
    }

    pub(crate) fn location(&self) -> Location {
        self.connection.location()
    }

    pub(crate) async fn overview(&mut self) -> Result<LedgerOverview, Error> {
        let (target, runs) = (self.target().await?, self.runs().await?);
        let goes_on = runs.last().is_some_and(|run| run.state == RunState::Running);
        let heartbeat = if goes_on { self.heartbeat().await? } else { None };
        let workers = match runs.last().filter(|_| goes_on) {
            Some(run) => self.of_run(SELECT_WORKERS, run.run).await?.iter().map(read_worker).collect(),
            None => Vec::new(),
        };
        let old_transaction = self.all(SELECT_OLD_TRANSACTION).await?.first().map(|row| OldTransaction {
            application: row.get(0),
            user: row.get(1),
            state: row.get(2),
            age_seconds: row.count(3),
        });
        let outcomes = self.outcome_counts().await?;
        Ok(LedgerOverview { target, runs, outcomes, heartbeat, workers, old_transaction })
    }

    /// The errors of the rows that are not imported currently, over all runs.
    pub(crate) async fn open_errors(&mut self) -> Result<(Vec<ErrorGroup>, InvalidCounts), Error> {
        self.error_groups(Statement::new(SELECT_OPEN_ERRORS), ErrorGroups::default()).await
    }

    pub(crate) async fn target(&mut self) -> Result<Option<Target>, Error> {
        let rows = self.all(SELECT_TARGET).await?;
        Ok(rows.first().map(read_target))
    }

    /// Every run, in order. A run recorded as running has died if the leases of its workers have expired.
    pub(crate) async fn runs(&mut self) -> Result<Vec<RunRecord>, Error> {
        let rows = self.all(SELECT_RUNS).await?;
        let ledger = self.connection.location();
        rows.iter().map(|row| read_run(&ledger, row, unended(row))).collect()
    }

    /// The number of rows by outcome, over all runs. `Unchanged` and `Changed` are outcomes in a run, not states of a row,
    /// so they are zero here.
    async fn outcome_counts(&mut self) -> Result<Tally, Error> {
        let rows = self.all(COUNT_OUTCOMES).await?;
        let ledger = self.connection.location();
        rows.iter().map(|row| Ok((row.outcome(&ledger, 0)?, row.count(1)))).collect()
    }

    /// The last heartbeat of the current run or of the last crashed one.
    pub(crate) async fn heartbeat(&mut self) -> Result<Option<RecordedHeartbeat>, Error> {
        let rows = self.all(SELECT_HEARTBEAT).await?;
        Ok(rows.first().map(read_heartbeat))
    }

    pub(crate) async fn last_success(&mut self) -> Result<Option<i64>, Error> {
        Ok(self.all(SELECT_LAST_SUCCESS).await?.first().and_then(|row| row.get(0)))
    }

    pub(crate) async fn run_details(
        &mut self,
        run: Option<RunId>,
        max_respelled: u32,
        unsendable: Option<ErrorGroups>,
    ) -> Result<Option<RunDetails>, Error> {
        let Some(run) = choose_run(self.runs().await?, run) else { return Ok(None) };
        let id = run.run;
        let settings = self.of_run(SELECT_SETTINGS, id).await?;
        let samples = self.of_run(SELECT_SAMPLES, id).await?;
        let dropped = self.of_run(SELECT_DROPPED, id).await?;
        let changed = self.of_run(SELECT_CHANGED, id).await?;
        let absent = self.of_run(SELECT_ABSENT, id).await?;
        let existing = self.of_run(SELECT_EXISTING, id).await?;
        let respelled = Statement::new(SELECT_RESPELLED).bind(id.0).bind(i64::from(max_respelled));
        let respelled = self.connection.read(&respelled).await?;
        let select_errors = if unsendable.is_some() { SELECT_SENT_ERRORS } else { SELECT_ERRORS };
        let (groups, invalid) = self
            .error_groups(Statement::new(select_errors).bind(id.0), unsendable.unwrap_or_default())
            .await?;
        let heartbeat = if run.state == RunState::Running { self.heartbeat().await? } else { None };
        Ok(Some(RunDetails {
            target: self.target().await?,
            settings: settings.iter().map(read_setting).collect(),
            samples: merged(samples.chunk_by(is_of_one_worker).map(read_samples).collect()),
            groups,
            invalid,
            heartbeat: heartbeat.filter(|heartbeat| heartbeat.run == run.run),
            dropped: read_dropped(&dropped),
            changed: read_field_counts(&changed).collect(),
            absent: absent.first().and_then(|row| row.integer(0)).map(|absent| absent.max(0).unsigned_abs()),
            existing: read_existing(&existing),
            respelled: respelled.iter().map(|row| (row.count(0), row.text(1).unwrap_or_default())).collect(),
            run,
        }))
    }

    /// The errors of the selected rows and of those in `groups`, the most frequent first, with the counts that the
    /// messages of invalid rows give.
    async fn error_groups(
        &mut self,
        select: Statement,
        mut groups: ErrorGroups,
    ) -> Result<(Vec<ErrorGroup>, InvalidCounts), Error> {
        let add = |row: &PgRow| {
            let (outcome, field, code) = (row.get(2), row.text(3), row.text(4));
            let kind = ErrorKind { outcome, field, code, http_status: row.get(5) };
            let message = row.text(6);
            let (id, line) = (row.get(0), row.get(1));
            groups.add(ErrorRow { id, line, kind, message: message.as_deref() });
            Ok(true)
        };
        self.connection.each(&select, add).await?;
        let (groups, invalid) = groups.into_sorted();
        let first: Vec<RowId> = groups.iter().filter_map(|(_, count)| count.first_row()).collect();
        let messages = self.connection.read(&Statement::new(SELECT_ERROR_MESSAGES).ids(&first)).await?;
        let read = |row: &PgRow| {
            let cells = row.get::<Option<&str>, _>(2).and_then(|cells| serde_json::from_str(cells).ok());
            (RowId(row.get(0)), ErrorMessage { text: row.text(1), cells })
        };
        let messages: HashMap<_, _> = messages.iter().map(read).collect();
        Ok((ErrorGroups::describe(&self.connection.location(), groups, messages)?, invalid))
    }

    pub(crate) async fn source_headers(&mut self, run: Option<RunId>) -> Result<Vec<SourceHeader>, Error> {
        let select = Statement::new(SELECT_HEADERS).bind(run.map(|run| run.0));
        Ok(read_headers(&self.connection.read(&select).await?, run))
    }

    pub(crate) async fn rows(
        &mut self,
        selection: Selection,
        run: Option<RunId>,
        mut each: impl FnMut(RowRecord) -> bool,
    ) -> Result<(), Error> {
        let select = match (selection, run) {
            (Selection::WithId, _) => SELECT_ROWS_WITH_ID,
            (Selection::WithoutId, None) => SELECT_ROWS_WITHOUT_ID,
            (Selection::WithoutId, Some(_)) => SELECT_ROWS_WITHOUT_ID_OF_RUN,
            (Selection::Invalid, None) => SELECT_INVALID_ROWS,
            (Selection::Invalid, Some(_)) => SELECT_INVALID_ROWS_OF_RUN,
            (Selection::All, None) => SELECT_ROWS,
            (Selection::All, Some(_)) => SELECT_ROWS_OF_RUN,
        };
        let select = match (selection, run) {
            (Selection::WithId, _) | (_, Some(_)) => Statement::new(select).bind(run.map(|run| run.0)),
            (_, None) => Statement::new(select),
        };
        let ledger = self.connection.location();
        let read = |row: &PgRow| match selection {
            Selection::WithId => read_row_with_id(&ledger, row),
            _ => read_row(&ledger, row),
        };
        self.connection.each(&select, |row| Ok(each(read(row)?))).await
    }

    pub(crate) async fn retry_rows(
        &mut self,
        filter: &RetryFilter,
        after: RowId,
        max: u32,
    ) -> Result<Vec<RetryRow>, Error> {
        let select = Statement::new(SELECT_RETRY_ROWS).bind(after.0);
        let select = select.bind(filter.outcome.map(Outcome::name)).some_text(filter.error_code.as_deref());
        let rows = self.connection.read(&select.bind(i64::from(max))).await?;
        Ok(rows.iter().map(read_retry_row).collect())
    }

    pub(crate) async fn retryable_counts(&mut self) -> Result<Vec<RetryableCount>, Error> {
        let rows = self.all(COUNT_RETRYABLE).await?;
        let ledger = self.connection.location();
        rows.iter().map(|row| read_retryable_count(&ledger, row)).collect()
    }

    pub(crate) async fn row_mappings(&mut self) -> Result<Vec<RowMapping>, Error> {
        let rows = self.all(SELECT_ROW_MAPPINGS).await?;
        let read = |row: &PgRow| RowMapping {
            run: RunId(row.get(0)),
            columns: serde_json::from_str(row.get(1)).unwrap_or_default(),
            reference_column: row.text(2),
            options: row.get(3),
            has_cells: row.get(4),
            source: row.text(5).unwrap_or_default(),
        };
        Ok(rows.iter().map(read).collect())
    }

    async fn all(&mut self, sql: &'static str) -> Result<Vec<PgRow>, Error> {
        self.connection.read(&Statement::new(sql)).await
    }

    async fn of_run(&mut self, sql: &'static str, run: RunId) -> Result<Vec<PgRow>, Error> {
        self.connection.read(&Statement::new(sql).bind(run.0)).await
    }
}

fn read_row_with_id(ledger: &Location, row: &PgRow) -> Result<RowRecord, Error> {
    let run = RunId(row.get(1));
    Ok(RowRecord {
        run,
        line: row.get(2),
        outcome: row.outcome(ledger, 3)?,
        reference: row.text(4),
        customer_id: row.text(5),
        error: RowError::default(),
        attempts: row.get(6),
        cells: None,
        columns_of: run,
        api_reference: None,
    })
}

fn read_worker(row: &PgRow) -> WorkerRecord {
    WorkerRecord {
        worker: row.get(0),
        host: row.get(1),
        version: row.get(2),
        state: row.get(3),
        age_seconds: row.count(4),
        rows_settled: row.count(5),
        in_flight: row.count(6),
        exit_code: row.get(7),
        stop_reason: row.text(8),
    }
}

fn is_of_one_worker(one: &PgRow, next: &PgRow) -> bool {
    one.get::<i64, _>("worker") == next.get::<i64, _>("worker")
}

fn read_samples(rows: &[PgRow]) -> Vec<Sample> {
    rows.iter().map(read_sample).collect()
}

/// The state of a run whose end is not recorded.
fn unended(row: &PgRow) -> RunState {
    if row.flag(13) { RunState::Running } else { RunState::Died }
}
