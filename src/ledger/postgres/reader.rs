//! Reads a ledger in Postgres beside its writer; see [`Reader`](super::super::reader::Reader).
//!
//! Each query is a transaction of its own, so that no old version of a row is kept for long on the server's side.

use std::{collections::HashMap, time::Duration};

use sqlx::{Row as _, postgres::PgRow};

use super::{
    super::{
        claim::RowError,
        error::Error,
        error_groups::{ErrorGroups, ErrorKind, ErrorMessage, ErrorRow},
        location::Location,
        model::{Heartbeat, Outcome, RequestCounts, RowId, RunId, RunState, Setting, Tally, Target},
        records::{
            ErrorGroup, LedgerHistory, LedgerOverview, OldTransaction, RetryFilter, RetryRow, RetryableCount,
            RowMapping, RowRecord, RunDetails, RunRecord, Selection, SourceHeader, WorkerRecord,
        },
        timeline::{Sample, merged},
    },
    connection::Connection,
    parameters::{Statement, with_nul},
    queries::*,
    rows::{
        count, read_dropped, read_existing, read_field_counts, read_heartbeat, read_outcome, read_sample,
        some_text,
    },
    schema,
    server::Server,
    statements::SELECT_TARGET,
};
use crate::customer::{Field, InvalidCounts};

/// A reader beside the writer; it sees what is committed.
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

    /// The connection, for the store to look into.
    pub(crate) fn into_connection(self) -> Connection {
        self.connection
    }

    pub(crate) async fn check_target(&mut self, asked: &Target) -> Result<(), Error> {
        match self.target().await? {
            Some(has) if has != *asked => {
                Err(Error::OtherTarget { ledger: self.connection.location(), has, asked: asked.clone() })
            }
            _ => Ok(()),
        }
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
            age_seconds: count(row, 3),
        });
        let outcomes = self.outcome_counts().await?;
        Ok(LedgerOverview { target, runs, outcomes, heartbeat, workers, old_transaction })
    }

    pub(crate) async fn history(&mut self) -> Result<LedgerHistory, Error> {
        let overview = self.overview().await?;
        let (mut groups, invalid) =
            self.error_groups(Statement::new(SELECT_OPEN_ERRORS), ErrorGroups::default()).await?;
        groups.iter_mut().for_each(|group| group.first_lines.clear());
        Ok(LedgerHistory { overview, groups, invalid })
    }

    pub(crate) async fn target(&mut self) -> Result<Option<Target>, Error> {
        let rows = self.all(SELECT_TARGET).await?;
        Ok(rows.first().map(|row| Target { base_url: row.get(0), merchant_id: row.get(1) }))
    }

    /// Every run, in order. A run that is recorded as running has died if its worker's lease has passed.
    async fn runs(&mut self) -> Result<Vec<RunRecord>, Error> {
        let rows = self.all(SELECT_RUNS).await?;
        let ledger = self.connection.location();
        rows.iter().map(|row| read_run(&ledger, row)).collect()
    }

    pub(crate) async fn live(&mut self) -> Result<Option<(RunRecord, Option<(i64, Heartbeat)>)>, Error> {
        let last = self.runs().await?.pop().filter(|last| last.state == RunState::Running);
        let Some(last) = last else { return Ok(None) };
        let said = self.heartbeat().await?.filter(|(run, ..)| *run == last.run);
        Ok(Some((last, said.map(|(_, at, heartbeat)| (at, heartbeat)))))
    }

    pub(crate) async fn running(&mut self) -> Result<Option<RunId>, Error> {
        let last = self.runs().await?.pop();
        Ok(last.filter(|last| last.state == RunState::Running).map(|last| last.run))
    }

    /// How many rows have which outcome over all runs. `Unchanged` and `Changed` are words of runs, not of rows, so they
    /// are zero here.
    async fn outcome_counts(&mut self) -> Result<Tally, Error> {
        let rows = self.all(COUNT_OUTCOMES).await?;
        let ledger = self.connection.location();
        rows.iter().map(|row| Ok((read_outcome(&ledger, row.get(0))?, count(row, 1)))).collect()
    }

    /// What the run that goes on, or the one that crashed last, said of itself: its number, and when (UTC
    /// milliseconds).
    async fn heartbeat(&mut self) -> Result<Option<(RunId, i64, Heartbeat)>, Error> {
        let rows = self.all(SELECT_HEARTBEAT).await?;
        Ok(rows.first().map(|row| (RunId(row.get("run")), row.get("at"), read_heartbeat(row))))
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
        let mut runs = self.runs().await?;
        let at =
            run.map_or(runs.len().checked_sub(1), |run| runs.iter().position(|record| record.run == run));
        let Some(at) = at else { return Ok(None) };
        let run = runs.swap_remove(at);
        let id = run.run;
        let settings = self.of_run(SELECT_SETTINGS, id).await?;
        let setting = |row: &PgRow| Setting {
            name: row.get(0),
            value: with_nul(row.get(1)),
            origin: row.get::<String, _>(2).into(),
        };
        let samples = self.of_run(SELECT_SAMPLES, id).await?;
        let dropped = self.of_run(SELECT_DROPPED, id).await?;
        let changed = self.of_run(SELECT_CHANGED, id).await?;
        let absent = self.of_run(SELECT_ABSENT, id).await?;
        let absent = absent.first().and_then(|row| row.get::<Option<i64>, _>(0));
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
            settings: settings.iter().map(setting).collect(),
            samples: merged(samples.chunk_by(is_of_one_worker).map(read_samples).collect()),
            groups,
            invalid,
            heartbeat: heartbeat.filter(|(of, ..)| *of == run.run).map(|(_, at, heartbeat)| (at, heartbeat)),
            dropped: read_dropped(&dropped),
            differences: (
                read_field_counts(&changed).collect(),
                absent.map(|absent| absent.max(0).unsigned_abs()),
            ),
            existing: read_existing(&existing),
            respelled: respelled
                .iter()
                .map(|row| (count(row, 0), some_text(row, 1).unwrap_or_default()))
                .collect(),
            run,
        }))
    }

    /// What went wrong with the selected rows and with those that are counted already, the most frequent first, and what
    /// the messages of invalid rows tell.
    async fn error_groups(
        &mut self,
        select: Statement,
        mut groups: ErrorGroups,
    ) -> Result<(Vec<ErrorGroup>, InvalidCounts), Error> {
        let add = |row: &PgRow| {
            let (outcome, field, code) = (row.get(2), some_text(row, 3), some_text(row, 4));
            let kind = ErrorKind { outcome, field, code, http_status: row.get(5) };
            let message = some_text(row, 6);
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
            (RowId(row.get(0)), ErrorMessage { text: some_text(row, 1), cells })
        };
        let messages: HashMap<_, _> = messages.iter().map(read).collect();
        Ok((ErrorGroups::describe(&self.connection.location(), groups, messages)?, invalid))
    }

    pub(crate) async fn source_headers(&mut self, run: Option<RunId>) -> Result<Vec<SourceHeader>, Error> {
        let select = Statement::new(SELECT_HEADERS).bind(run.map(|run| run.0));
        let read = |row: &PgRow| SourceHeader {
            run: RunId(row.get(0)),
            names: serde_json::from_str(row.get(1)).unwrap_or_default(),
            reference: some_text(row, 2),
        };
        let headers: Vec<SourceHeader> = self.connection.read(&select).await?.iter().map(read).collect();
        if !headers.is_empty() || run.is_some() {
            return Ok(headers);
        }
        let names = [Field::Reference, Field::MobileNumber].map(|field| field.name().to_owned());
        Ok(vec![SourceHeader { run: RunId::PRUNED, reference: Some(names[0].clone()), names: names.into() }])
    }

    pub(crate) async fn rows(
        &mut self,
        selection: Selection,
        run: Option<RunId>,
        mut each: impl FnMut(RowRecord) -> bool,
    ) -> Result<(), Error> {
        let id = run.map(|run| run.0);
        let (select, read): (_, fn(&Location, &PgRow) -> _) = match (selection, run) {
            (Selection::WithId, _) => (Statement::new(SELECT_ROWS_WITH_ID).bind(id), read_row_with_id),
            (Selection::WithoutId, None) => (Statement::new(SELECT_ROWS_WITHOUT_ID), read_row),
            (Selection::WithoutId, Some(_)) => {
                (Statement::new(SELECT_ROWS_WITHOUT_ID_OF_RUN).bind(id), read_row)
            }
            (Selection::Invalid, None) => (Statement::new(SELECT_INVALID_ROWS), read_row),
            (Selection::Invalid, Some(_)) => (Statement::new(SELECT_INVALID_ROWS_OF_RUN).bind(id), read_row),
            (Selection::All, None) => (Statement::new(SELECT_ROWS), read_row),
            (Selection::All, Some(_)) => (Statement::new(SELECT_ROWS_OF_RUN).bind(id), read_row),
        };
        let ledger = self.connection.location();
        self.connection.each(&select, |row| Ok(each(read(&ledger, row)?))).await
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
        let read = |row: &PgRow| RetryRow {
            id: RowId(row.get(0)),
            line: count(row, 1),
            columns_of: RunId(row.get(2)),
            cells: serde_json::from_str(row.get(3)).unwrap_or_default(),
        };
        Ok(rows.iter().map(read).collect())
    }

    pub(crate) async fn retryable_counts(&mut self) -> Result<Vec<RetryableCount>, Error> {
        let rows = self.all(COUNT_RETRYABLE).await?;
        let ledger = self.connection.location();
        let read = |row: &PgRow| {
            Ok(RetryableCount {
                outcome: read_outcome(&ledger, row.get(0))?,
                error_code: with_nul(row.get(1)),
                rows: count(row, 2),
                with_cells: count(row, 3),
            })
        };
        rows.iter().map(read).collect()
    }

    pub(crate) async fn row_mappings(&mut self) -> Result<Vec<RowMapping>, Error> {
        let rows = self.all(SELECT_ROW_MAPPINGS).await?;
        let read = |row: &PgRow| RowMapping {
            run: RunId(row.get(0)),
            columns: serde_json::from_str(row.get(1)).unwrap_or_default(),
            reference_column: some_text(row, 2),
            options: row.get(3),
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

fn read_run(ledger: &Location, row: &PgRow) -> Result<RunRecord, Error> {
    let state = match row.get(3) {
        "completed" => RunState::Completed,
        "interrupted" => RunState::Interrupted,
        "stopped" => RunState::Stopped,
        _ if row.get(12) => RunState::Running,
        _ => RunState::Died,
    };
    let counts: HashMap<&str, u64> = serde_json::from_str(row.get(11)).unwrap_or_default();
    let tally = counts.iter().map(|(word, rows)| Ok((read_outcome(ledger, word)?, *rows)));
    Ok(RunRecord {
        run: RunId(row.get(0)),
        command: row.get(1),
        source: with_nul(row.get(2)),
        state,
        exit_code: row.get(4),
        stop_reason: some_text(row, 5),
        started_at: row.get(6),
        ended_at: row.get(7),
        sampled: row.get::<Option<i64>, _>(13).map(|to| Duration::from_millis(to.max(0).unsigned_abs())),
        tally: tally.collect::<Result<_, Error>>()?,
        request_counts: RequestCounts {
            requests: count(row, 8),
            retries: count(row, 9),
            throttled: count(row, 10),
        },
    })
}

fn read_row_with_id(ledger: &Location, row: &PgRow) -> Result<RowRecord, Error> {
    let run = RunId(row.get(1));
    Ok(RowRecord {
        run,
        line: row.get(2),
        outcome: read_outcome(ledger, row.get(3))?,
        reference: some_text(row, 4),
        customer_id: some_text(row, 5),
        error: RowError::default(),
        attempts: row.get(6),
        cells: None,
        columns_of: run,
        api_reference: None,
    })
}

fn read_row(ledger: &Location, row: &PgRow) -> Result<RowRecord, Error> {
    let cells: Option<&str> = row.get(12);
    Ok(RowRecord {
        run: RunId(row.get(1)),
        line: row.get(2),
        outcome: read_outcome(ledger, row.get(3))?,
        reference: some_text(row, 4),
        customer_id: some_text(row, 5),
        attempts: row.get(6),
        error: RowError {
            field: some_text(row, 7),
            code: some_text(row, 8),
            message: some_text(row, 9),
            http_status: row.get::<Option<i64>, _>(10).and_then(|status| status.try_into().ok()),
            request_id: some_text(row, 11),
        },
        cells: cells.and_then(|cells| serde_json::from_str(cells).ok()),
        columns_of: RunId(row.get(13)),
        api_reference: some_text(row, 14),
    })
}

fn read_worker(row: &PgRow) -> WorkerRecord {
    WorkerRecord {
        worker: row.get(0),
        host: row.get(1),
        version: row.get(2),
        state: row.get(3),
        age_seconds: count(row, 4),
        rows_settled: count(row, 5),
        in_flight: count(row, 6),
        exit_code: row.get(7),
        stop_reason: some_text(row, 8),
    }
}

fn is_of_one_worker(one: &PgRow, next: &PgRow) -> bool {
    one.get::<i64, _>("worker") == next.get::<i64, _>("worker")
}

fn read_samples(rows: &[PgRow]) -> Vec<Sample> {
    rows.iter().map(read_sample).collect()
}
