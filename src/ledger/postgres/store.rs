//! The writer of a ledger in Postgres: one process, beside which others may write.
//!
//! A commit is one transaction, takes effect exactly once, and is durable when the method returns. A process whose
//! claims were taken over writes nothing. The counts of a run are written as increments, because other processes add
//! to them too. The methods are documented at the SQLite store.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use sqlx::{Row as _, postgres::PgRow};
use tokio::time::{Instant, sleep};

use super::{
    super::{
        batch::{CommitBatch, SettledWithId},
        checkpoint::Checkpoint,
        claim::{IdSource, RowError},
        error::Error,
        json_rows::{BatchJson, UpdatesJson, hex, json_rows, json_samples, json_settings, signed},
        model::{
            CustomerName, EndConcerns, Heartbeat, KnownRow, NewRun, OpenClaim, Outcome, PendingUpdate,
            RequestCounts, RowId, RunCounts, RunEnd, RunId, Setting, Target,
        },
        ordered_scan::{OrderedRow, Owner, READ_ROWS},
        records::{ChangedAtApi, Pruned},
        rows::{
            ResultRow as _, read_checkpoint, read_claim, read_dropped, read_field_counts, read_in_doubt,
            read_known, read_pending_update, read_run_times, read_seen_before, read_target,
        },
        run_times::RunTimes,
        seen_rows::{SeenBefore, SeenRows, UnreadableRuns},
        shared_run::{AdoptedRow, Cursor, RunView},
        store::Held,
        timeline::Sample,
        unsendable::{EarlierKind, EarlierRecord, UnsendableRows},
    },
    connection::{BULK_MAX, COMMIT_MAX, Connection},
    lease::{self, Joined},
    parameters::{Statement, with_nul, without_nul},
    queries::{SELECT_CHANGED, SELECT_DROPPED},
    rate_limit::{Holder, RateReserver},
    rows::{CursorAccess, read_cursor, read_cursor_access, read_view},
    schema,
    server::Server,
    statements::*,
    worker::Worker,
};
use crate::customer::{Dropped, FieldCounts, Reference};

/// How long a server may be unreachable until the limit that the user allows is known, and in other commands that
/// write.
const OUTAGE_MAX: Duration = Duration::from_secs(5);

/// How often a worker that waits for the cursor checks whether the cursor is free.
const CURSOR_PAUSE: Duration = Duration::from_millis(5);

/// How often a worker that waits for the cursor updates its request: after a second without an update, the worker loses
/// its place in the queue.
const CURSOR_WAIT_MAX: Duration = Duration::from_millis(250);

/// Maximum number of rows per statement, in statements for very many rows.
const ROWS_MAX: usize = 10_000;

/// The writer.
pub(crate) struct Store {
    connection: Connection,
    /// Data for the next transaction that is made anyway, as in the SQLite store.
    settings: Vec<Setting>,
    samples: Vec<(usize, Vec<Sample>)>,
    /// The counts that this worker has added to those of the run.
    written: RunCounts,
    /// The age of the run when this worker joined.
    joined_after: Duration,
    /// The key that a process must share to join the run.
    join_key: Option<String>,
}

impl Store {
    /// Opens the ledger, or creates it if there is none, and holds it.
    pub(crate) async fn hold(server: &Server) -> Result<Store, Error> {
        let mut connection = Connection::open(server).await?;
        schema::migrate(&mut connection).await?;
        connection.outage_limit = OUTAGE_MAX;
        lease::join(&mut connection, None).await?;
        Ok(Store::for_queries(connection))
    }

    /// As [`Store::hold`], or joins the current run if it has the same source.
    pub(crate) async fn hold_or_join(server: &Server, run: &NewRun<'_>) -> Result<Held, Error> {
        let mut connection = Connection::open(server).await?;
        schema::migrate(&mut connection).await?;
        connection.outage_limit = run.outage_limit;
        let joined = lease::join(&mut connection, Some(run)).await?;
        connection.outage_limit = OUTAGE_MAX;
        let mut store = Store::for_queries(connection);
        Ok(match joined {
            Joined::Alone => Held::Alone(super::super::store::Store::Postgres(store.into())),
            Joined::Run(id, age) => {
                store.connection.outage_limit = run.outage_limit;
                store.joined_after = age;
                Held::Joined(super::super::store::Store::Postgres(store.into()), id)
            }
            Joined::Completed(id, exit_code) => Held::Completed(id, exit_code),
        })
    }

    /// As [`Store::hold`], for an existing ledger only.
    pub(crate) async fn hold_existing(server: &Server) -> Result<Store, Error> {
        let mut connection = Connection::open(server).await?;
        let checked = schema::check(&mut connection).await;
        connection.close().await;
        match checked {
            Err(missing @ Error::Missing { .. }) => Err(missing),
            _ => Store::hold(server).await,
        }
    }

    /// A store for queries only, with the connection of a reader.
    pub(crate) fn for_queries(connection: Connection) -> Store {
        Store {
            connection,
            settings: Vec::new(),
            samples: Vec::new(),
            written: RunCounts::default(),
            joined_after: Duration::ZERO,
            join_key: None,
        }
    }

    /// Releases the ledger.
    pub(crate) async fn close(mut self) -> Result<(), Error> {
        if let Some(id) = self.connection.worker.as_ref().map(|worker| worker.id) {
            let leave = Statement::new(LEAVE).bind(id).bind(None::<i64>).some_text(None);
            self.connection.commit(&[leave], COMMIT_MAX).await?;
            self.connection.worker = None;
        }
        self.connection.close().await;
        Ok(())
    }

    pub(crate) fn may_send_until(&self) -> Option<Instant> {
        self.connection.worker.as_ref().map(Worker::may_send_until)
    }

    // The beginning of a run

    pub(crate) async fn keep_target(&mut self, requested: &Target, now: i64) -> Result<(), Error> {
        let rows = self.all(SELECT_TARGET).await?;
        match rows.first().map(read_target) {
            Some(has) => Error::check_target(self.connection.location(), has, requested),
            None => {
                let set = Statement::new(SET_TARGET).text(&requested.base_url).text(&requested.merchant_id);
                self.write_all(&[set.bind(now)]).await
            }
        }
    }

    pub(crate) async fn recover_crashed_runs(&mut self, now: i64) -> Result<(), Error> {
        let recover = [
            Statement::new(RECOVER_CLAIMS).bind(now),
            Statement::new(DELETE_CLAIM_BATCHES),
            Statement::new(RELEASE_ROWS),
            Statement::new(RELEASE_UPDATES),
            Statement::new(EXPLAIN_RECOVERED_CLAIMS),
            Statement::new(END_CRASHED_RUNS).bind(now),
        ];
        self.write_all(&recover).await
    }

    pub(crate) async fn insert_run(&mut self, run: &NewRun<'_>, now: i64) -> Result<RunId, Error> {
        self.connection.outage_limit = run.outage_limit;
        let id = self.next_run().await?;
        let columns = serde_json::to_string(run.columns.names).unwrap_or_default();
        let insert = Statement::new(INSERT_RUN).bind(id.0).bind(run.command.name()).text(run.source);
        let insert = insert.some_text(run.source_path).text(&columns).some_text(run.columns.reference);
        let insert = insert.bind(now).some_text(run.row_mapping).some_text(run.name);
        let worker = self.connection.worker.as_ref().map_or(0, |worker| worker.id);
        let begin = [insert, Statement::new(SET_RUN).bind(worker).bind(id.0)];
        self.write_all(&begin).await?;
        self.settings = run.settings.to_vec();
        self.join_key = run.join_key.map(str::to_owned);
        Ok(id)
    }

    pub(crate) async fn rows_in_doubt(&mut self) -> Result<Vec<OpenClaim>, Error> {
        let rows = self.all(SELECT_IN_DOUBT).await?;
        Ok(rows.iter().map(read_in_doubt).collect())
    }

    pub(crate) async fn next_run(&mut self) -> Result<RunId, Error> {
        Ok(RunId(self.one(SELECT_NEXT_RUN).await?.get(0)))
    }

    pub(crate) async fn open_claims(&mut self) -> Result<HashMap<String, KnownRow>, Error> {
        let rows = self.all(SELECT_CLAIMS).await?;
        Ok(rows.iter().map(read_claim).collect())
    }

    // References

    pub(crate) async fn last_row(&mut self) -> Result<RowId, Error> {
        Ok(RowId(self.one(SELECT_LAST_ROW).await?.get(0)))
    }

    pub(crate) async fn find(
        &mut self,
        references: impl Iterator<Item = &Reference>,
    ) -> Result<HashMap<String, KnownRow>, Error> {
        let texts: Vec<_> = references.map(|reference| without_nul(reference.as_str())).collect();
        if texts.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = self.connection.read_by_index(&Statement::new(FIND_ROWS).bind(texts)).await?;
        let ledger = self.connection.location();
        rows.iter().map(|row| Ok((row.text(1).unwrap_or_default(), read_known(&ledger, row)?))).collect()
    }

    pub(crate) async fn read_ordered(&mut self, from: RowId) -> Result<Vec<Owner>, Error> {
        let select = Statement::new(READ_ORDERED).bind(from.0).bind(READ_ROWS as i64);
        let row = self.connection.read_one_by_index(&select).await?;
        let rows: Vec<OrderedRow<'_>> = serde_json::from_str(row.get(0))
            .map_err(|error| self.connection.error(sqlx::Error::Decode(error.into())))?;
        let newer = || Error::Newer(self.connection.location());
        rows.into_iter().map(|row| row.read().ok_or_else(newer)).collect()
    }

    pub(crate) async fn customer_names(
        &mut self,
        ids: &[RowId],
    ) -> Result<HashMap<RowId, CustomerName>, Error> {
        let rows = self.connection.read_by_index(&Statement::new(FIND_CUSTOMER_NAMES).ids(ids)).await?;
        let read = |row: &PgRow| CustomerName {
            customer_id: row.text(1).unwrap_or_default(),
            api_reference: row
                .get::<Option<String>, _>(2)
                .map(|reference| Reference::recorded(&with_nul(reference))),
        };
        Ok(rows.iter().map(|row| (RowId(row.get(0)), read(row))).collect())
    }

    pub(crate) async fn has_other_row(&mut self, customer_id: &str, id: RowId) -> Result<bool, Error> {
        let select = Statement::new(HAS_OTHER_ROW).text(customer_id).bind(id.0);
        Ok(self.connection.read_one_by_index(&select).await?.get(0))
    }

    // Rows that cannot be sent

    pub(crate) async fn unsendable_rows(&mut self, run: RunId) -> Result<UnsendableRows, Error> {
        let (mut earlier, mut contents, mut named) = (Vec::new(), Vec::new(), Vec::new());
        let select = Statement::new(SELECT_EARLIER_UNSENDABLE).bind(run.0);
        let each = |row: &PgRow| {
            let kind = EarlierKind::new(row.get(2), row.get(3));
            earlier.push((row.get::<i64, _>(0) as u64, EarlierRecord::new(RowId(row.get(1)), kind)));
            Ok(true)
        };
        self.connection.each(&select, each).await?;
        let select = Statement::new(SELECT_CONTENTS_WITHOUT_REFERENCE).bind(run.0);
        let each = |row: &PgRow| {
            contents.push(row.get::<i64, _>(0) as u64);
            Ok(true)
        };
        self.connection.each(&select, each).await?;
        let select = Statement::new(SELECT_NAMED_REFERENCES).bind(run.0);
        let each = |row: &PgRow| {
            named.push((Reference::recorded(&row.text(0).unwrap_or_default()).key(), RowId(row.get(1))));
            Ok(true)
        };
        self.connection.each(&select, each).await?;
        Ok(UnsendableRows::new(earlier, contents, named))
    }

    pub(crate) async fn references(&mut self, ids: &[RowId]) -> Result<HashSet<String>, Error> {
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let rows = self.connection.read_by_index(&Statement::new(SELECT_REFERENCES).ids(ids)).await?;
        Ok(rows.iter().map(|row| row.text(0).unwrap_or_default()).collect())
    }

    pub(crate) async fn delete_unsendable(&mut self, ids: &[RowId], run: RunId) -> Result<(), Error> {
        for some in ids.chunks(ROWS_MAX) {
            self.write_all(&[Statement::new(DELETE_UNSENDABLE).ids(some).bind(run.0)]).await?;
        }
        Ok(())
    }

    pub(crate) async fn unreadable_runs(
        &mut self,
        lines: &[u64],
        run: RunId,
    ) -> Result<UnreadableRuns, Error> {
        let lines: Vec<i64> = lines.iter().map(|line| signed(*line)).collect();
        let rows =
            self.connection.read_by_index(&Statement::new(SELECT_UNREADABLE).bind(lines).bind(run.0)).await?;
        let mut unreadable = UnreadableRuns::default();
        for row in rows {
            unreadable.0.entry(row.count(0)).or_default().push(RunId(row.get(1)));
        }
        Ok(unreadable)
    }

    pub(crate) async fn seen_by(&mut self, run: RunId) -> Result<Option<SeenBefore>, Error> {
        self.seen(Statement::new(SELECT_SEEN).bind(run.0)).await
    }

    pub(crate) async fn seen_by_run_before(&mut self, run: RunId) -> Result<Option<SeenBefore>, Error> {
        self.seen(Statement::new(SELECT_SEEN_BEFORE).bind(run.0)).await
    }

    async fn seen(&mut self, select: Statement) -> Result<Option<SeenBefore>, Error> {
        Ok(self.connection.read(&select).await?.first().map(read_seen_before))
    }

    pub(crate) async fn is_seen_needed(&mut self, run: RunId) -> Result<bool, Error> {
        self.write_all(&[Statement::new(DELETE_SEEN)]).await?;
        Ok(self.connection.read_one(&Statement::new(HAS_UNREADABLE).bind(run.0)).await?.get(0))
    }

    pub(crate) async fn keep_seen(
        &mut self,
        run: RunId,
        next_id: RowId,
        seen: &SeenRows,
    ) -> Result<(), Error> {
        let keep = Statement::new(KEEP_SEEN).bind(run.0).bind(next_id.0).bind(seen.to_bytes());
        self.write_all(&[keep]).await
    }

    // Updates

    pub(crate) async fn has_pending_updates(&mut self) -> Result<bool, Error> {
        Ok(self.one(HAS_PENDING_UPDATES).await?.get(0))
    }

    pub(crate) async fn pending_updates(
        &mut self,
        ids: &[RowId],
    ) -> Result<HashMap<RowId, PendingUpdate>, Error> {
        let rows = self.connection.read_by_index(&Statement::new(FIND_PENDING_UPDATES).ids(ids)).await?;
        let ledger = self.connection.location();
        rows.iter().map(|row| read_pending_update(&ledger, row)).collect()
    }

    // Imported rows

    pub(crate) async fn count_imported(&mut self) -> Result<u64, Error> {
        Ok(self.one(COUNT_IMPORTED).await?.count(0))
    }

    pub(crate) async fn invalid_references(
        &mut self,
        run: RunId,
        behind: (i64, RowId),
        max: usize,
    ) -> Result<(Vec<Reference>, (i64, RowId)), Error> {
        let select = Statement::new(SELECT_INVALID_REFERENCES).bind(run.0).bind(behind.0).bind(behind.1.0);
        let rows = self.connection.read(&select.bind(max as i64)).await?;
        let last = rows.last().map_or(behind, |row| (row.get(0), RowId(row.get(1))));
        Ok((rows.iter().map(|row| Reference::recorded(&row.text(2).unwrap_or_default())).collect(), last))
    }

    pub(crate) async fn absent_before(&mut self, run: RunId) -> Result<Option<u64>, Error> {
        let rows = self.connection.read(&Statement::new(SELECT_ABSENT_BEFORE).bind(run.0)).await?;
        Ok(rows.first().map(|row| row.count(0)))
    }

    pub(crate) async fn set_absent(&mut self, run: RunId, absent: u64) -> Result<(), Error> {
        self.write_all(&[Statement::new(SET_ABSENT).bind(run.0).bind(signed(absent))]).await
    }

    pub(crate) async fn mark_changed(&mut self, rows: &[ChangedAtApi]) -> Result<u64, Error> {
        let mark = |some: &[ChangedAtApi]| {
            let json = json_rows(some.iter().map(|row| (row.id, hex(&row.remembered), hex(&row.at_api))));
            Statement::new(MARK_CHANGED).json(&json)
        };
        let mut statements = vec![Statement::new(FORGET_CHECKPOINTS)];
        statements.extend(rows.chunks(ROWS_MAX).map(mark));
        Ok(self.connection.commit(&statements, BULK_MAX).await?.iter().skip(1).sum())
    }

    // Checkpoints

    pub(crate) async fn last_checkpoint(&mut self, run: &NewRun<'_>) -> Result<Option<Checkpoint>, Error> {
        let select = Statement::new(SELECT_LAST_CHECKPOINT).bind(run.command.name());
        let select = select.some_text(run.source_path).text(run.parse_settings_hash);
        Ok(self.connection.read(&select).await?.first().and_then(read_checkpoint))
    }

    pub(crate) async fn begin_checkpoint(
        &mut self,
        run: RunId,
        parse_settings_hash: &str,
    ) -> Result<(), Error> {
        self.write_all(&[Statement::new(INSERT_CHECKPOINT).bind(run.0).text(parse_settings_hash)]).await
    }

    pub(crate) async fn checkpoint_lines(
        &mut self,
        chain_start: RunId,
        run: RunId,
    ) -> Result<HashMap<RunId, u64>, Error> {
        let select = Statement::new(SELECT_CHECKPOINT_LINES).bind(chain_start.0).bind(run.0);
        let rows = self.connection.read(&select).await?;
        Ok(rows.iter().map(|row| (RunId(row.get(0)), row.count(1))).collect())
    }

    pub(crate) async fn resume(
        &mut self,
        run: RunId,
        reached: &Checkpoint,
        now: i64,
    ) -> Result<(Dropped, FieldCounts), Error> {
        let take_over = Statement::new(TAKE_OVER_UNSENDABLE).bind(run.0).bind(reached.chain_start.0);
        let statements = [
            take_over.bind(now),
            Statement::new(TAKE_OVER_RECORDS).bind(run.0),
            set_checkpoint(run, reached),
            Statement::new(COPY_DROPPED).bind(run.0),
            Statement::new(COPY_CHANGED).bind(run.0),
        ];
        self.write_all(&statements).await?;
        let dropped = self.connection.read(&Statement::new(SELECT_DROPPED).bind(run.0)).await?;
        let changed = self.connection.read(&Statement::new(SELECT_CHANGED).bind(run.0)).await?;
        Ok((read_dropped(&dropped), read_field_counts(&changed).collect()))
    }

    // The commit and the end of a run

    pub(crate) fn add_samples(&mut self, from: usize, samples: Vec<Sample>) {
        self.samples.push((from, samples));
    }

    pub(crate) async fn write(
        &mut self,
        batch: &CommitBatch<'_>,
        counts: &RunCounts,
    ) -> Result<Option<RunView>, Error> {
        let mut statements = Vec::new();
        let me = self.worker_id();
        encode(batch, me, &mut statements);
        statements.extend(self.move_cursor(batch));
        statements.extend(count_run(batch.run, me, counts, &self.written));
        statements.extend(batch.heartbeat.as_ref().map(|heartbeat| set_heartbeat(heartbeat, batch, me)));
        if batch.heartbeat.is_some() {
            statements.push(orphan_claims(batch.run, me, batch.now));
        }
        self.encode_settings_and_samples(batch.run, &mut statements);
        let select = Statement::new(SELECT_SHARED_RUN).bind(batch.run.0);
        let done = self.connection.commit_and_read(&statements, Some(&select), COMMIT_MAX).await?;
        self.written = *counts;
        let ledger = self.connection.location();
        done.rows.first().map(|row| read_view(&ledger, row)).transpose()
    }

    /// The waiting settings and samples.
    fn encode_settings_and_samples(&mut self, run: RunId, statements: &mut Vec<Statement>) {
        let settings = std::mem::take(&mut self.settings);
        if !settings.is_empty() {
            statements.push(Statement::new(INSERT_SETTINGS).json(&json_settings(&settings)).bind(run.0));
        }
        for (from, samples) in std::mem::take(&mut self.samples) {
            let from = from as i64;
            let me = self.worker_id();
            statements.push(Statement::new(DELETE_SAMPLES).bind(run.0).bind(from).bind(me));
            let late = samples.into_iter().map(|sample| Sample {
                from: sample.from + self.joined_after,
                to: sample.to + self.joined_after,
                ..sample
            });
            let insert = Statement::new(INSERT_SAMPLES).json(&json_samples(&late.collect::<Vec<_>>()));
            statements.push(insert.bind(run.0).bind(from).bind(me));
        }
    }

    pub(crate) async fn end_run(
        &mut self,
        run: RunId,
        end: RunEnd<'_>,
        requests: &RequestCounts,
        now: i64,
    ) -> Result<(), Error> {
        let RunEnd { state, exit_code, stop_reason, concerns } = end;
        let me = self.worker_id();
        let counts = RunCounts { requests: *requests, ..self.written };
        let end = Statement::new(END_RUN).bind(run.0).bind(state.name()).bind(i64::from(exit_code));
        let end = end.some_text(stop_reason).bind(now).bind(me);
        // No worker joins a run that ends, and of two workers that leave, only one ends the run.
        let mut statements = vec![Statement::new(LOCK_TARGET)];
        let mut counted = count_run(run, me, &counts, &self.written);
        counted.iter_mut().for_each(|statement| statement.must_change = None);
        statements.extend(counted);
        if let (EndConcerns::AllWorkers, Some(reason)) = (concerns, stop_reason) {
            statements.push(Statement::new(SET_STOPPING).bind(run.0).text(reason));
        }
        self.encode_settings_and_samples(run, &mut statements);
        for sql in [ORPHAN_OWN_ROWS, ORPHAN_OWN_UPDATES] {
            statements.push(Statement::new(sql).bind(me));
        }
        let leave = Statement::new(LEAVE).bind(me).bind(i64::from(exit_code)).some_text(stop_reason);
        statements.extend([end, leave, Statement::new(DELETE_HEARTBEAT).bind(me)]);
        self.connection.commit(&statements, BULK_MAX).await?;
        self.connection.worker = None;
        Ok(())
    }

    pub(crate) async fn discard_run(&mut self, run: RunId) -> Result<(), Error> {
        let statements = [
            Statement::new(DELETE_HEARTBEAT).bind(self.worker_id()),
            Statement::new(INSERT_PRUNED_RUN),
            Statement::new(KEEP_RUN_NUMBERS).bind(vec![run.0]),
            Statement::new(DELETE_RUNS).bind(vec![run.0]),
        ];
        self.write_all(&statements).await
    }

    // Pruning

    pub(crate) async fn run_times(&mut self) -> Result<Vec<(RunId, RunTimes)>, Error> {
        let runs = self.all(SELECT_RUN_TIMES).await?;
        Ok(runs.iter().map(read_run_times).collect())
    }

    pub(crate) async fn delete_runs(&mut self, old: &[RunId]) -> Result<Pruned, Error> {
        let size_before = self.one(SELECT_SIZE).await?.count(0);
        let pruned = self.delete_old_runs(old.iter().map(|run| run.0).collect()).await?;
        if !pruned.is_nothing() {
            self.connection.run_text(VACUUM.into()).await?;
        }
        let size = self.one(SELECT_SIZE).await?.count(0);
        Ok(Pruned { bytes_before: size_before, bytes_after: size, ..pruned })
    }

    async fn delete_old_runs(&mut self, old: Vec<i64>) -> Result<Pruned, Error> {
        let connection = &mut self.connection;
        connection.begin_at_once().await?;
        connection.run(&Statement::new(KEEP_LAST_ROW)).await?;
        let counted = |rows: Vec<PgRow>| rows.first().map_or(0, |row| row.count(0));
        let records = connection.run(&Statement::new(DELETE_OLD_RECORDS).bind(old.clone())).await?;
        let unsendable = connection.run(&Statement::new(DELETE_OLD_UNSENDABLE).bind(old.clone())).await?;
        let gone = connection.run(&Statement::new(SELECT_RUNS_TO_DELETE).bind(old.clone())).await?;
        let gone: Vec<i64> = gone.first().map_or_else(Vec::new, |row| row.get(0));
        let (records, unsendable) = (counted(records), counted(unsendable));
        let pruned = Pruned { runs: gone.len() as u64, records, unsendable, ..Pruned::default() };
        if !pruned.is_nothing() {
            connection.run(&Statement::new(INSERT_PRUNED_RUN)).await?;
            connection.run(&Statement::new(HAND_OVER_EMPTIED).bind(old)).await?;
            for sql in [KEEP_RUN_NUMBERS, HAND_OVER_ROWS, HAND_OVER_CORRECTED, HAND_OVER_UPDATES] {
                connection.run(&Statement::new(sql).bind(gone.clone())).await?;
            }
            connection.run(&Statement::new(DELETE_CHECKPOINTS)).await?;
            connection.run(&Statement::new(DELETE_RUNS).bind(gone)).await?;
            connection.run(&Statement::new(DELETE_WORKERS)).await?;
        }
        connection.commit_at_once().await?;
        Ok(pruned)
    }

    // Runs that several workers share

    /// Workers get the cursor in the order of their requests. A worker holds the cursor for one transaction, unless it
    /// dies.
    pub(crate) async fn take_cursor(&mut self, run: RunId, now: i64) -> Result<Option<Cursor>, Error> {
        let me = self.worker_id();
        let select = Statement::new(SELECT_CURSOR).bind(run.0).bind(me).about_others();
        let mut orphans = None;
        loop {
            let of_run = |sql| Statement::new(sql).bind(run.0).bind(me);
            let mut statements: Vec<Statement> = orphans.take().into_iter().collect();
            statements.push(Statement::new(WAIT_FOR_CURSOR).bind(me));
            statements.extend([of_run(TAKE_CURSOR).about_others(), of_run(STOP_WAITING)]);
            let done = self.connection.commit_and_read(&statements, Some(&select), COMMIT_MAX).await?;
            let Some(row) = done.rows.first() else { return Ok(None) };
            match read_cursor_access(row) {
                CursorAccess::Closed => return Ok(None),
                CursorAccess::Taken(cursor) => return Ok(Some(cursor)),
                CursorAccess::Free | CursorAccess::Busy => self.poll_cursor(&select).await?,
            }
            // The worker that holds the cursor may have died.
            orphans = Some(orphan_claims(run, me, now));
        }
    }

    /// Waits until the cursor can be taken, or until this worker has to update its request for it.
    async fn poll_cursor(&mut self, select: &Statement) -> Result<(), Error> {
        let until = Instant::now() + CURSOR_WAIT_MAX;
        while Instant::now() < until {
            sleep(CURSOR_PAUSE).await;
            let row = self.connection.read_one_by_index(select).await?;
            if !matches!(read_cursor_access(&row), CursorAccess::Busy) {
                break;
            }
        }
        Ok(())
    }

    pub(crate) async fn cursor_start(&mut self, run: RunId) -> Result<u64, Error> {
        let select = Statement::new(SELECT_CURSOR).bind(run.0).bind(self.worker_id()).about_others();
        Ok(read_cursor(&self.connection.read_one_by_index(&select).await?).start)
    }

    pub(crate) async fn adopt(&mut self, max: usize) -> Result<Vec<AdoptedRow>, Error> {
        let me = self.worker_id();
        let adopt = |sql| Statement::new(sql).bind(me).bind(max as i64);
        let select = Statement::new(SELECT_ADOPTED).bind(me);
        let statements = [adopt(ADOPT_ROWS), adopt(ADOPT_UPDATES)];
        let done = self.connection.commit_and_read(&statements, Some(&select), COMMIT_MAX).await?;
        let ledger = self.connection.location();
        let read = |row: &PgRow| {
            let reference = Reference::recorded(&row.text(1).unwrap_or_default());
            Ok(AdoptedRow { reference, known: read_known(&ledger, row)? })
        };
        done.rows.iter().map(read).collect()
    }

    pub(crate) fn count_adopted(&mut self, rows: usize) {
        self.written.tally.add_rows(Outcome::Pending, rows as u64);
    }

    /// Moves the cursor, if this worker has taken it. The first move opens the run to other workers.
    fn move_cursor(&self, batch: &CommitBatch<'_>) -> Option<Statement> {
        let Cursor { rows, start, hash, next_row, is_at_end } = batch.cursor?;
        let cursor = Statement::new(MOVE_CURSOR).bind(batch.run.0).bind(self.worker_id()).bind(signed(rows));
        let cursor = cursor.bind(signed(start)).bind(signed(hash)).bind(next_row.0).bind(is_at_end);
        Some(cursor.some_text(self.join_key.as_deref()).changing(1))
    }

    pub(crate) fn rate_reserver(&self) -> RateReserver {
        let holder = Holder::Worker(self.worker_id());
        RateReserver::new(self.connection.server(), holder, self.connection.outage_limit)
    }

    pub(crate) fn worker_id(&self) -> i64 {
        self.connection.worker.as_ref().map_or(0, |worker| worker.id)
    }

    async fn write_all(&mut self, statements: &[Statement]) -> Result<(), Error> {
        self.connection.commit(statements, BULK_MAX).await.map(drop)
    }

    async fn all(&mut self, sql: &'static str) -> Result<Vec<PgRow>, Error> {
        self.connection.read(&Statement::new(sql)).await
    }

    async fn one(&mut self, sql: &'static str) -> Result<PgRow, Error> {
        self.connection.read_one(&Statement::new(sql)).await
    }
}

/// The statements of a batch, in an order that the tables allow.
fn encode(batch: &CommitBatch<'_>, worker: i64, statements: &mut Vec<Statement>) {
    let json = BatchJson::of(batch);
    let (run, now) = (batch.run, batch.now);
    encode_settled(batch, &json, statements);
    let of_rows = |sql: &'static str, rows: &str| Statement::new(sql).json(rows).bind(run.0);
    let ended = Statement::new(END_CLAIM_BATCHES).ids(&batch.ended_claims).bind(run.0);
    if !batch.ended_claims.is_empty() {
        statements.push(ended.changing(batch.ended_claims.len() as u64));
    }
    if !batch.dropped.is_empty() {
        let rows = batch.dropped.iter().map(|(field, rule, rows)| (field.name(), rule.name(), rows));
        statements.push(of_rows(COUNT_DROPPED, &json_rows(rows)));
    }
    encode_updates(batch, &json.updates, worker, statements);
    let notes = batch.existing.notes();
    if !notes.is_empty() {
        statements.push(of_rows(COUNT_EXISTING, &json_rows(notes)));
    }
    if let (Some(first), Some(rows)) = (batch.new_claims.first(), &json.new_claims) {
        let insert = Statement::new(INSERT_CLAIM_BATCH).bind(first.id.0).bind(run.0).bind(worker);
        statements.push(insert.bind(now).json(rows));
    }
    if let Some(rows) = &json.repeated_claims {
        statements.push(of_rows(CLAIM_AGAIN, rows).bind(now).bind(worker));
    }
    if !batch.renewed.is_empty() {
        statements.push(Statement::new(FORGET_BEFORE_CLAIM).ids(&batch.renewed));
    }
    statements.extend(batch.checkpoint.as_ref().map(|reached| set_checkpoint(run, reached)));
    if !batch.released_updates.is_empty() {
        statements.push(Statement::new(RELEASE_ADOPTED_UPDATES).ids(&batch.released_updates));
    }
    if batch.hands_over_rows {
        let rows = batch.without_id.iter().filter(|row| row.outcome == Outcome::Pending);
        statements.push(Statement::new(ORPHAN_ROWS).ids(&rows.map(|row| row.id).collect::<Vec<_>>()));
        let updates = batch.updates.unfinished.iter().chain(&batch.updates.new_unfinished);
        let updates = updates.filter(|row| row.outcome == Outcome::Pending).map(|row| row.id);
        statements.push(Statement::new(ORPHAN_UPDATES).ids(&updates.collect::<Vec<_>>()));
    }
}

/// Adds to the counts of the run the difference between this worker's counts and its earlier ones.
fn count_run(run: RunId, worker: i64, counts: &RunCounts, earlier: &RunCounts) -> Vec<Statement> {
    let (now, before) = (counts.requests, earlier.requests);
    let changed: Vec<_> = counts.tally.since(&earlier.tally).filter(|(_, rows)| *rows != 0).collect();
    let is_same = now == before && counts.last_line <= earlier.last_line && changed.is_empty();
    if is_same && counts.imported_seen == earlier.imported_seen {
        // The run may have ended.
        return Vec::new();
    }
    let added = |now: u64, before: u64| signed(now.saturating_sub(before));
    let count = Statement::new(COUNT_RUN)
        .bind(run.0)
        .bind(added(now.requests, before.requests))
        .bind(added(now.retries, before.retries))
        .bind(added(now.throttled, before.throttled))
        .bind(added(counts.imported_seen, earlier.imported_seen))
        .bind(signed(counts.last_line))
        .bind(added(counts.sent.rows, earlier.sent.rows))
        .bind(added(counts.sent.failures, earlier.sent.failures));
    let mut statements = vec![count.changing(1)];
    let settled = changed.iter().filter(|(outcome, _)| *outcome != Outcome::Pending);
    let settled: i64 = settled.map(|(_, rows)| rows).sum();
    if settled > 0 {
        statements.push(Statement::new(COUNT_WORKER).bind(worker).bind(settled));
    }
    if !changed.is_empty() {
        statements.push(Statement::new(COUNT_OUTCOMES).json(&json_rows(changed)).bind(run.0));
    }
    statements
}

fn orphan_claims(run: RunId, worker: i64, now: i64) -> Statement {
    Statement::new(ORPHAN_CLAIMS).bind(run.0).bind(worker).bind(now).about_others()
}

/// The outcomes of rows.
fn encode_settled(batch: &CommitBatch<'_>, json: &BatchJson, statements: &mut Vec<Statement>) {
    let (run, now) = (batch.run, batch.now);
    let of_rows = |sql: &'static str, rows: &str| Statement::new(sql).json(rows).bind(run.0);
    if !batch.created.is_empty() {
        let settle = Statement::new(SETTLE_CREATED).bind(run.0).bind(now);
        statements.push(bind_columns(settle, &batch.created));
    }
    if !batch.with_id.is_empty() {
        let settle = Statement::new(SETTLE_WITH_ID).bind(run.0).bind(now);
        statements.push(bind_found(bind_columns(settle, &batch.with_id), &batch.with_id));
    }
    // `MARK_CORRECTED` precedes the deletion of earlier runs' records, which show whether a row was corrected.
    for (sql, rows) in [
        (MARK_CORRECTED, &json.corrected),
        (DELETE_SUPERSEDED_BY_ID, &json.superseded_by_id),
        (DELETE_SUPERSEDED_BY_LINE, &json.superseded_by_line),
        (DELETE_SUPERSEDED_BY_CELLS, &json.superseded_by_cells),
    ] {
        statements.extend(rows.as_deref().map(|rows| of_rows(sql, rows)));
    }
    if !batch.unsendable.is_empty() {
        let rows = batch.unsendable.iter().map(|it| {
            let RowError { field, code, message, .. } = &*it.error;
            let reference = it.reference.as_ref().map(Reference::as_str);
            let other = it.row.content_without_reference.map(signed);
            let content = signed(it.row.content);
            (it.row.id, it.line, it.outcome, reference, field, code, message, content, other)
        });
        statements.push(of_rows(INSERT_UNSENDABLE, &json_rows(rows)).bind(now));
    }
    if let Some(rows) = &json.without_id {
        statements.push(of_rows(SETTLE_WITHOUT_ID, rows).bind(now));
        if batch.restores_rows {
            statements.push(of_rows(RESTORE_ROWS, rows));
        }
    }
    let of_unsendable = batch.unsendable.iter().filter_map(|it| Some((it.row.id, it.record.as_ref()?)));
    let of_others = batch.records.iter().map(|(id, record)| (*id, &**record));
    let records = of_unsendable.chain(of_others);
    let (ids, cells): (Vec<i64>, Vec<String>) =
        records.map(|(id, record)| (id.0, json_rows(record.cells()))).unzip();
    if !ids.is_empty() {
        statements.push(Statement::new(KEEP_RECORDS).bind(ids).bind(cells).bind(run.0));
    }
    if !batch.erased.is_empty() {
        statements.push(Statement::new(ERASE_RECORDS).ids(&batch.erased));
    }
}

fn encode_updates(batch: &CommitBatch<'_>, json: &UpdatesJson, worker: i64, statements: &mut Vec<Statement>) {
    let CommitBatch { run, now, updates, .. } = batch;
    let of_rows = |sql: &'static str, rows: &str| Statement::new(sql).json(rows).bind(run.0);
    if let Some(rows) = &json.updated {
        statements.push(of_rows(SETTLE_UPDATED, rows).bind(*now));
    }
    if let Some(rows) = &json.unfinished {
        statements.push(Statement::new(SETTLE_UNFINISHED_UPDATES).json(rows));
    }
    if let Some(rows) = &json.new_unfinished {
        statements.push(of_rows(INSERT_UNFINISHED_UPDATES, rows));
    }
    if !updates.restored.is_empty() {
        statements.push(Statement::new(RESTORE_UPDATES).ids(&updates.restored).bind(run.0));
    }
    if !updates.finished.is_empty() {
        statements.push(Statement::new(DELETE_FINISHED_UPDATES).ids(&updates.finished));
    }
    if let Some(rows) = &json.begun {
        statements.push(of_rows(BEGIN_UPDATES, rows).bind(worker));
    }
    if !updates.changed.is_empty() {
        let counts = updates.changed_counts();
        let rows = counts.iter().map(|(field, rows)| (field.name(), rows));
        statements.push(of_rows(COUNT_CHANGED, &json_rows(rows)));
    }
}

/// The columns that every row with a customer id has, one array per column.
fn bind_columns(statement: Statement, rows: &[SettledWithId<'_>]) -> Statement {
    statement
        .bind(rows.iter().map(|row| row.id.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| signed(row.line)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| without_nul(row.reference.as_str())).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.fingerprint.as_bytes()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| without_nul(row.customer_id)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| i64::from(row.attempts)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.claimed_at).collect::<Vec<_>>())
}

/// The columns of rows that were found, or that the ledger already had.
fn bind_found(statement: Statement, rows: &[SettledWithId<'_>]) -> Statement {
    let found = |row: &SettledWithId<'_>| match row.id_source {
        IdSource::Answer => (false, None, false),
        IdSource::Found { created_at, is_uncertain, .. } => (true, created_at, is_uncertain),
    };
    let spelling = |row: &SettledWithId<'_>| {
        row.api_reference.map(|reference| without_nul(reference.as_str()).into_owned())
    };
    statement
        .bind(rows.iter().map(|row| row.outcome.name()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| found(row).0).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| found(row).1).collect::<Vec<Option<i64>>>())
        .bind(rows.iter().map(|row| found(row).2).collect::<Vec<_>>())
        .bind(rows.iter().map(spelling).collect::<Vec<Option<String>>>())
}

fn set_checkpoint(run: RunId, reached: &Checkpoint) -> Statement {
    let Checkpoint { position, tally, whole_file_only, chain_start } = reached;
    let prefix = position.prefix_hash;
    Statement::new(SET_CHECKPOINT)
        .bind(run.0)
        .bind(signed(position.bytes))
        .bind(signed(position.line))
        .bind(prefix.map(|prefix| signed(prefix.bytes)))
        .bind(prefix.map(|prefix| format!("{:032x}", prefix.hash)))
        .bind(tally.to_json())
        .bind(*whole_file_only)
        .bind(chain_start.0)
}

fn set_heartbeat(heartbeat: &Heartbeat, batch: &CommitBatch<'_>, worker: i64) -> Statement {
    Statement::new(SET_HEARTBEAT)
        .bind(batch.run.0)
        .bind(batch.now)
        .bind(heartbeat.activity.name())
        .bind(heartbeat.total.map(signed))
        .bind(heartbeat.is_exact)
        .bind(heartbeat.rows_per_second)
        .bind(signed(heartbeat.in_flight))
        .bind(signed(heartbeat.retrying))
        .bind(signed(heartbeat.in_doubt))
        .bind(heartbeat.rate.map(|rate| rate.per_second))
        .some_text(heartbeat.cause.as_deref())
        .bind(heartbeat.rate.map(|rate| rate.set_by.name()))
        .bind(signed(heartbeat.pauses))
        .bind(worker)
}
