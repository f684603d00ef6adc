//! The connection of a reader or a writer: runs transactions, and repeats them after a disconnect.
//!
//! A writer reconnects until the ledger has been unreachable for as long as the user allows. Queries are repeated. A
//! commit whose reply was lost may or may not have arrived; the worker's row shows which, because each transaction of a
//! worker increments the number of commits in it. So each commit takes effect exactly once.

use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Row as _,
    postgres::{PgConnection, PgRow},
};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::{
    super::{error::Error, location::Location},
    failure::{Failure, is_id_taken, is_passing, is_read_only, is_refusal},
    parameters::Statement,
    server::Server,
    statements::{BEAT, BEGIN, BEGIN_READING, COMMIT, END_LEASE, SELECT_COMMITS},
    worker::Worker,
};

/// The timeout for connecting.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// The timeout for a commit of a run; after it the connection counts as broken, because a dead peer sends no error.
pub(super) const COMMIT_MAX: Duration = Duration::from_secs(10);

/// The timeout for a look-up of rows, which may have to be read from a slow disk.
const BY_INDEX_MAX: Duration = Duration::from_secs(30);

/// The timeout for a transaction whose statements may read or change very many rows.
pub(super) const BULK_MAX: Duration = Duration::from_secs(3600);

/// How long a worker that ends in the middle of its work tries to end its lease.
const END_LEASE_MAX: Duration = Duration::from_secs(1);

/// Time for the requests of such a worker to arrive before other workers look up their rows, in milliseconds.
const REQUESTS_MAX_MS: i64 = 5000;

/// The first and the longest pause between two attempts to connect.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// The connection to a ledger.
pub(crate) struct Connection {
    server: Server,
    /// None after a disconnect.
    connection: Option<PgConnection>,
    /// The worker that writes; none for a reader.
    pub(super) worker: Option<Worker>,
    /// How long the ledger may be unreachable.
    pub(super) outage_limit: Duration,
}

/// The result of a transaction.
#[derive(Default)]
pub(super) struct Done {
    /// The number of rows that each statement changed.
    pub(super) changed: Vec<u64>,
    /// The rows of the query at the end of the transaction.
    pub(super) rows: Vec<PgRow>,
}

/// How long the ledger has been unreachable while one operation is repeated.
#[derive(Default)]
pub(super) struct Outage {
    began: Option<Instant>,
    pause: Duration,
}

impl Connection {
    /// A connection to the server.
    pub(super) async fn open(server: &Server) -> Result<Connection, Error> {
        let mut opened = Connection {
            server: server.clone(),
            connection: None,
            worker: None,
            outage_limit: Duration::ZERO,
        };
        match opened.connect().await.map(drop) {
            Ok(()) => Ok(opened),
            Err(error) => Err(opened.error(error)),
        }
    }

    /// The server, the database and the schema.
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// The ledger, for messages.
    pub(super) fn location(&self) -> Location {
        Location::Postgres(Box::new(self.server.clone()))
    }

    /// This failure as an error of the ledger.
    pub(super) fn error(&self, error: impl Into<Failure>) -> Error {
        let error = match error.into() {
            Failure::Server(error)
                if self.worker.is_none() && (is_refusal(&error) || is_read_only(&error)) =>
            {
                Failure::Refused(error)
            }
            other => other,
        };
        Error::Postgres { ledger: self.location(), error }
    }

    async fn connect(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        if self.connection.is_none() {
            let connecting = timeout(CONNECT_MAX, self.server.options().connect());
            self.connection = Some(connecting.await.unwrap_or_else(|_| Err(timed_out()))?);
        }
        // Set just now, if it was not.
        self.connection.as_mut().ok_or_else(timed_out)
    }

    /// Without a name: behind a pooler, the connection may be one on which another client has used the name.
    fn query(&self, statement: &Statement) -> Result<Query, sqlx::Error> {
        let may_declare_dead =
            self.worker.as_ref().is_none_or(|worker| worker.may_declare_dead(Instant::now()));
        Ok(sqlx::query_with(statement.sql, statement.arguments(may_declare_dead)?).persistent(false))
    }

    /// Begins a transaction with this SQL text; returns the connection inside the transaction.
    async fn begin(&mut self, text: &str) -> Result<PgConnection, sqlx::Error> {
        let text = self.server.with_schema(text);
        self.connect().await?;
        let mut connection = self.connection.take().ok_or_else(timed_out)?;
        raw(&mut connection, text).await?;
        Ok(connection)
    }

    // Reading

    /// The rows of a statement that may read very many.
    pub(super) async fn read(&mut self, statement: &Statement) -> Result<Vec<PgRow>, Error> {
        self.read_within(statement, BULK_MAX).await
    }

    /// The rows of a statement that reads a few by an index.
    pub(super) async fn read_by_index(&mut self, statement: &Statement) -> Result<Vec<PgRow>, Error> {
        self.read_within(statement, BY_INDEX_MAX).await
    }

    async fn read_within(&mut self, statement: &Statement, deadline: Duration) -> Result<Vec<PgRow>, Error> {
        self.beat_if_due().await?;
        let mut outage = Outage::default();
        loop {
            let read = timeout(deadline, self.try_read(statement)).await;
            match read.unwrap_or_else(|_| Err(timed_out())) {
                Ok(rows) => {
                    outage.over();
                    return Ok(rows);
                }
                Err(error) => self.wait(&mut outage, error).await?,
            }
        }
    }

    /// The one row of a statement that always has one.
    pub(super) async fn read_one(&mut self, statement: &Statement) -> Result<PgRow, Error> {
        let row = self.read(statement).await?.pop();
        row.ok_or_else(|| self.error(sqlx::Error::RowNotFound))
    }

    /// As above, of a statement that reads a few rows by an index.
    pub(super) async fn read_one_by_index(&mut self, statement: &Statement) -> Result<PgRow, Error> {
        let row = self.read_by_index(statement).await?.pop();
        row.ok_or_else(|| self.error(sqlx::Error::RowNotFound))
    }

    async fn try_read(&mut self, statement: &Statement) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut connection = self.begin(BEGIN_READING).await?;
        let rows = self.query(statement)?.fetch_all(&mut connection).await?;
        raw(&mut connection, COMMIT.into()).await?;
        self.connection = Some(connection);
        Ok(rows)
    }

    /// Passes each row of a statement to `take` until it returns false; memory does not grow with the number of rows.
    pub(super) async fn each(
        &mut self,
        statement: &Statement,
        mut take: impl FnMut(&PgRow) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let begun = self.begin(BEGIN_READING).await;
        let mut connection = begun.map_err(|error| self.error(error))?;
        let query = self.query(statement).map_err(|error| self.error(error))?;
        {
            let mut rows = query.fetch(&mut connection);
            loop {
                match rows.try_next().await {
                    Ok(Some(row)) if take(&row)? => {}
                    Ok(Some(_)) => return Ok(()),
                    Ok(None) => break,
                    Err(error) => return Err(self.error(error)),
                }
            }
        }
        let ended = raw(&mut connection, COMMIT.into()).await;
        ended.map_err(|error| self.error(error))?;
        self.connection = Some(connection);
        Ok(())
    }

    // Writing

    /// Updates the worker's row if no commit has updated the row for a while.
    async fn beat_if_due(&mut self) -> Result<(), Error> {
        match &self.worker {
            Some(worker) if worker.is_beat_due() => self.commit(&[], COMMIT_MAX).await.map(drop),
            _ => Ok(()),
        }
    }

    /// Runs the statements in one transaction and returns the number of rows that each changed. Everything is durable
    /// then; after an error, nothing is.
    pub(super) async fn commit(
        &mut self,
        statements: &[Statement],
        deadline: Duration,
    ) -> Result<Vec<u64>, Error> {
        self.commit_and_read(statements, None, deadline).await.map(|done| done.changed)
    }

    /// As above, with the rows that `select` returns at the end of the transaction.
    pub(super) async fn commit_and_read(
        &mut self,
        statements: &[Statement],
        select: Option<&Statement>,
        deadline: Duration,
    ) -> Result<Done, Error> {
        let mut outage = Outage::default();
        let mut done = Done::default();
        loop {
            let began = Instant::now();
            let tried = timeout(deadline, self.try_commit(statements, select, &mut done)).await;
            match tried.unwrap_or_else(|_| Err(timed_out())) {
                Ok(true) => {
                    self.committed(began);
                    outage.over();
                    return Ok(done);
                }
                Ok(false) => return Err(self.error(Failure::TakenOver)),
                Err(error) if is_id_taken(&error) => return Err(self.error(Failure::TakenOver)),
                Err(error) => self.wait(&mut outage, error).await?,
            }
            while self.worker.is_some() {
                match timeout(COMMIT_MAX, self.commits()).await.unwrap_or_else(|_| Err(timed_out())) {
                    Ok(commits) if self.has_arrived(commits)? => {
                        self.committed(began);
                        outage.over();
                        return Ok(done);
                    }
                    Ok(_) => break,
                    Err(error) => self.wait(&mut outage, error).await?,
                }
            }
        }
    }

    /// Returns false if another process has taken the ledger over.
    async fn try_commit(
        &mut self,
        statements: &[Statement],
        select: Option<&Statement>,
        done: &mut Done,
    ) -> Result<bool, sqlx::Error> {
        done.changed.clear();
        let mut connection = self.begin(BEGIN).await?;
        if let Some(worker) = &self.worker {
            let beat = Statement::new(BEAT).bind(worker.id).bind(worker.commits);
            if self.query(&beat)?.execute(&mut connection).await?.rows_affected() != 1 {
                return Ok(false);
            }
        }
        // The row was updated, which may have taken long; the statements may be about other workers.
        if let Some(worker) = &mut self.worker {
            worker.on_delay(Instant::now());
        }
        for statement in statements {
            let changed = self.query(statement)?.execute(&mut connection).await?.rows_affected();
            if statement.must_change.is_some_and(|must| must != changed) {
                return Ok(false);
            }
            done.changed.push(changed);
        }
        if let Some(select) = select {
            done.rows = self.query(select)?.fetch_all(&mut connection).await?;
        }
        #[cfg(feature = "crash-points")]
        super::super::crash_point::point();
        raw(&mut connection, COMMIT.into()).await?;
        #[cfg(feature = "crash-points")]
        super::super::crash_point::point();
        self.connection = Some(connection);
        Ok(true)
    }

    fn committed(&mut self, began: Instant) {
        if let Some(worker) = &mut self.worker {
            worker.commits += 1;
            worker.beat_at = began;
        }
    }

    /// The number of commits of this worker that have arrived, counted after the transaction of a lost connection has
    /// ended; none if the worker no longer counts as alive.
    async fn commits(&mut self) -> Result<Option<i64>, sqlx::Error> {
        let Some(id) = self.worker.as_ref().map(|worker| worker.id) else { return Ok(None) };
        let mut connection = self.begin(BEGIN).await?;
        let statement = Statement::new(SELECT_COMMITS).bind(id);
        let rows = self.query(&statement)?.fetch_all(&mut connection).await?;
        raw(&mut connection, COMMIT.into()).await?;
        self.connection = Some(connection);
        Ok(rows.first().and_then(|row| row.get::<bool, _>(1).then(|| row.get(0))))
    }

    /// Whether the last commit has arrived, given the number of commits that have.
    fn has_arrived(&self, commits: Option<i64>) -> Result<bool, Error> {
        let made = self.worker.as_ref().map_or(0, |worker| worker.commits);
        match commits {
            Some(commits) if commits == made + 1 => Ok(true),
            Some(commits) if commits == made => Ok(false),
            Some(commits) if commits < made => Err(self.error(Failure::LostCommits)),
            _ => Err(self.error(Failure::TakenOver)),
        }
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// If another attempt cannot succeed, or the ledger has been unreachable for too long.
    async fn wait(&mut self, outage: &mut Outage, error: sqlx::Error) -> Result<(), Error> {
        // The server rolls back the transaction in progress.
        self.connection = None;
        if !is_passing(&error) || self.outage_limit.is_zero() {
            return Err(self.error(error));
        }
        if let Some(worker) = &mut self.worker {
            worker.on_delay(Instant::now());
        }
        let now = Instant::now();
        let began = *outage.began.get_or_insert_with(|| {
            warn!(%error, "the ledger is unreachable; nothing is sent until it is back");
            now
        });
        if now - began >= self.outage_limit {
            let error = Failure::from(error);
            return Err(self.error(Failure::Unreachable(self.outage_limit, error.to_string())));
        }
        outage.pause = (2 * outage.pause).clamp(PAUSES[0], PAUSES[1]);
        sleep(outage.pause).await;
        Ok(())
    }

    /// As above, after an error of the ledger.
    pub(super) async fn wait_after(&mut self, outage: &mut Outage, error: Error) -> Result<(), Error> {
        match error {
            Error::Postgres { error: Failure::Server(error), .. } => self.wait(outage, error).await,
            other => Err(other),
        }
    }

    /// Closes the connection with a message to the server.
    pub(super) async fn close(mut self) {
        if let Some(connection) = self.connection.take() {
            // Everything is committed, so a failure does no harm.
            drop(timeout(CONNECT_MAX, sqlx::Connection::close(connection)).await);
        }
    }

    /// Runs a text of several statements, preceded by a query, in a transaction of its own.
    pub(super) async fn run_text(&mut self, text: String) -> Result<(), Error> {
        let text = self.server.with_schema(&text);
        let run = async {
            self.connect().await?;
            let mut connection = self.connection.take().ok_or_else(timed_out)?;
            raw(&mut connection, text).await?;
            self.connection = Some(connection);
            Ok(())
        };
        let ran: Result<(), sqlx::Error> = run.await;
        ran.map_err(|error| self.error(error))
    }

    /// Begins a transaction for [`Connection::run`], whose queries decide what it writes. Such a transaction is not
    /// repeated: a disconnect ends it with an error.
    pub(super) async fn begin_at_once(&mut self) -> Result<(), Error> {
        self.run_text(BEGIN.into()).await?;
        let Some(worker) = &self.worker else { return Ok(()) };
        let beat = Statement::new(BEAT).bind(worker.id).bind(worker.commits);
        match self.run(&beat).await?.is_empty() {
            true => Err(self.error(Failure::TakenOver)),
            false => Ok(()),
        }
    }

    /// Commits the transaction that [`Connection::begin_at_once`] began.
    pub(super) async fn commit_at_once(&mut self) -> Result<(), Error> {
        let began = Instant::now();
        self.run_text(COMMIT.into()).await?;
        self.committed(began);
        Ok(())
    }

    /// Commits the transaction that has inserted the row of this worker. Returns false if it was rolled back because the
    /// connection broke.
    pub(super) async fn commit_new_worker(
        &mut self,
        worker: Worker,
        outage: &mut Outage,
    ) -> Result<bool, Error> {
        // Before the commit, so that the worker leaves even if this future is dropped during the commit.
        self.worker = Some(worker);
        let committed = timeout(COMMIT_MAX, self.run_text(COMMIT.into())).await;
        let mut error = match committed {
            Ok(Ok(())) => return Ok(true),
            Ok(Err(error)) => error,
            Err(_) => self.error(timed_out()),
        };
        loop {
            self.wait_after(outage, error).await?;
            match timeout(COMMIT_MAX, self.commits()).await.unwrap_or_else(|_| Err(timed_out())) {
                Ok(Some(_)) => return Ok(true),
                Ok(None) => {
                    self.worker = None;
                    return Ok(false);
                }
                Err(new) => error = self.error(new),
            }
        }
    }

    /// The rows of a statement inside the transaction that [`Connection::run_text`] has begun.
    pub(super) async fn run(&mut self, statement: &Statement) -> Result<Vec<PgRow>, Error> {
        let run = async {
            let mut connection = self.connection.take().ok_or_else(timed_out)?;
            let rows = self.query(statement)?.fetch_all(&mut connection).await?;
            self.connection = Some(connection);
            Ok(rows)
        };
        let ran: Result<_, sqlx::Error> = run.await;
        ran.map_err(|error| self.error(error))
    }
}

/// A worker that has not left ends because of an error, or because its user does not wait. Its lease ends here, so that
/// other workers need not wait until it expires.
impl Drop for Connection {
    fn drop(&mut self) {
        let Some(worker) = self.worker.take() else { return };
        // The server rolls back the transaction in progress.
        self.connection = None;
        let server = self.server.clone();
        let end_lease = async move {
            let mut connection = server.options().connect().await?;
            raw(&mut connection, server.with_schema(BEGIN)).await?;
            let reason = "it ended in the middle of its work";
            let end = Statement::new(END_LEASE).bind(worker.id).bind(REQUESTS_MAX_MS).text(reason);
            let end = sqlx::query_with(end.sql, end.arguments(true)?).persistent(false);
            end.execute(&mut connection).await?;
            raw(&mut connection, COMMIT.into()).await
        };
        // On a thread of its own, because the runtime of this one may be about to end.
        let thread = std::thread::Builder::new().spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return;
            };
            // If this fails, the lease expires.
            drop(runtime.block_on(async { timeout(END_LEASE_MAX, end_lease).await }));
        });
        drop(thread.map(std::thread::JoinHandle::join));
    }
}

impl Outage {
    pub(super) fn over(&self) {
        if let Some(began) = self.began {
            info!(seconds = began.elapsed().as_secs(), "the ledger is back");
        }
    }
}

type Query = sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>;

async fn raw(connection: &mut PgConnection, text: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await.map(drop)
}

pub(super) fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
}
