//! How a process begins to work on a ledger: alone, or as another worker of the current run.
//!
//! A process that finds other workers waits until one of them updates its row, which shows that the worker is alive. Then
//! the process joins their run, or gives up if the run has another source or other settings. If none of the workers
//! updates its row before all leases have expired, the process takes the ledger over.

use std::{collections::HashMap, time::Duration};

use sqlx::{Row as _, postgres::PgRow};
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::{
    super::{
        error::Error,
        model::{NewRun, RunId, RunState},
    },
    connection::{COMMIT_MAX, Connection, Outage, timed_out},
    failure::Failure,
    parameters::Statement,
    statements::{
        BEGIN, COMMIT, DECLARE_DEAD, FORGET_RATE, JOIN, LOCK_TARGET, SELECT_ALIVE, SELECT_NAMED_RUN,
        SELECT_RUN_AGE,
    },
    worker::{LEASE, Worker},
};

/// A worker that is alive updates its row about once a second.
const LOG_AFTER: Duration = Duration::from_secs(3);

/// How often the rows of workers are read.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How a process has begun.
pub(super) enum Joined {
    /// No other process works on the ledger.
    Alone,
    /// The process has joined this run, which has lasted this long.
    Run(RunId, Duration),
    /// The run with the requested name is completed, with this exit code.
    Completed(RunId, u8),
}

/// A worker that counts as alive.
struct Alive {
    id: i64,
    commits: i64,
    run: Option<RunId>,
    begins_run: bool,
    join_key: Option<String>,
    name: Option<String>,
    is_running: bool,
    is_expired: bool,
    lease: Duration,
}

impl Alive {
    fn read(row: &PgRow) -> Alive {
        Alive {
            id: row.get(0),
            commits: row.get(1),
            run: row.get::<Option<i64>, _>(2).map(RunId),
            begins_run: row.get(3),
            join_key: row.get(4),
            name: row.get(5),
            is_running: row.get::<Option<bool>, _>(6).unwrap_or_default(),
            is_expired: row.get(7),
            lease: Duration::from_millis(row.get::<i64, _>(8).max(0).unsigned_abs()),
        }
    }

    /// Whether it begins a run that is not open to other workers yet.
    fn is_about_to_begin(&self) -> bool {
        self.begins_run && self.join_key.is_none()
    }

    /// Whether another worker has completed its run, so that it leaves within a second.
    fn is_about_to_leave(&self) -> bool {
        self.run.is_some() && !self.is_running
    }

    /// Whether the worker is not among those seen first, with their commits, or has made a commit since then.
    fn has_written_since(&self, first: &HashMap<i64, i64>) -> bool {
        first.get(&self.id) != Some(&self.commits)
    }

    /// The run, if a process that wants this one can join it.
    fn joinable(&self, wanted: &NewRun<'_>) -> Option<RunId> {
        let is_same = wanted.join_key.is_some()
            && self.join_key.as_deref() == wanted.join_key
            && self.name.as_deref() == wanted.name;
        self.run.filter(|_| self.is_running && is_same)
    }
}

/// What a process that waits for other workers has found.
struct Waiting {
    began: Instant,
    is_logged: bool,
    /// The workers that were seen first, with their commits.
    first: Option<HashMap<i64, i64>>,
}

/// Begins to work on the ledger. With `run`, the process joins the current run if there is one that can be shared.
/// Otherwise the process works alone: no other process can work on the ledger until this one leaves, or does not update
/// its row within its lease. A disconnect does not end the attempt.
///
/// # Errors
/// If other processes work on the ledger, or it is unreachable for too long.
pub(super) async fn join(connection: &mut Connection, run: Option<&NewRun<'_>>) -> Result<Joined, Error> {
    let mut waiting = Waiting { began: Instant::now(), is_logged: false, first: None };
    let mut outage = Outage::default();
    loop {
        let tried = timeout(COMMIT_MAX, try_join(connection, run, &mut waiting)).await;
        match tried.unwrap_or_else(|_| Err(connection.error(timed_out()))) {
            Ok(Some((joined, worker))) => {
                let has_joined = match worker {
                    Some(worker) => connection.commit_new_worker(worker, &mut outage).await?,
                    None => true,
                };
                if has_joined {
                    outage.over();
                    return Ok(joined);
                }
            }
            Ok(None) => {
                std::mem::take(&mut outage).over();
                sleep(POLL_INTERVAL).await;
            }
            Err(error) => connection.wait_after(&mut outage, error).await?,
        }
    }
}

/// One attempt, in one transaction. The transaction is still open if this process is to begin as the returned worker,
/// whose row is inserted then. None if the process has to wait for others.
async fn try_join(
    connection: &mut Connection,
    run: Option<&NewRun<'_>>,
    waiting: &mut Waiting,
) -> Result<Option<(Joined, Option<Worker>)>, Error> {
    connection.run_text(BEGIN.into()).await?;
    connection.run(&Statement::new(LOCK_TARGET)).await?;
    if let Some(completed) = completed(connection, run).await? {
        connection.run_text(COMMIT.into()).await?;
        return Ok(Some((completed, None)));
    }
    let alive = connection.run(&Statement::new(SELECT_ALIVE)).await?;
    let (expired, living): (Vec<_>, Vec<_>) =
        alive.iter().map(Alive::read).partition(|worker| worker.is_expired);
    let Some(newest) = living.first() else {
        if !declare_dead(connection, &expired).await? {
            connection.run_text(COMMIT.into()).await?;
            return Ok(None);
        }
        // What earlier runs found out holds for their options, such as --polite.
        connection.run(&Statement::new(FORGET_RATE)).await?;
        let worker = insert_worker(connection, run, None).await?;
        return Ok(Some((Joined::Alone, Some(worker))));
    };
    // A worker that has died may have read other content of the same file.
    let first = waiting.first.as_ref();
    let lives = |worker: &&Alive| first.is_some_and(|first| worker.has_written_since(first));
    let shared = run.and_then(|run| living.iter().filter(lives).find_map(|worker| worker.joinable(run)));
    if let Some(shared) = shared {
        let age = connection.run(&Statement::new(SELECT_RUN_AGE).bind(shared.0)).await?;
        let age = age.first().map_or(0, |row| row.get::<i64, _>(0));
        let worker = insert_worker(connection, run, Some(shared)).await?;
        let age = Duration::from_millis(age.max(0).unsigned_abs());
        return Ok(Some((Joined::Run(shared, age), Some(worker))));
    }
    connection.run_text(COMMIT.into()).await?;
    let is_about_to_begin =
        run.is_some_and(|run| run.join_key.is_some()) && living.iter().any(Alive::is_about_to_begin);
    let mut others = living.iter().filter(|worker| !worker.is_about_to_leave());
    match first {
        _ if is_about_to_begin => waiting.first = None,
        None => waiting.first = Some(living.iter().map(|worker| (worker.id, worker.commits)).collect()),
        Some(_) => {
            if let Some(other) = others.find(lives) {
                return Err(connection.error(Failure::InUse(other.run)));
            }
        }
    }
    waiting.warn_once(newest);
    Ok(None)
}

impl Waiting {
    fn warn_once(&mut self, newest: &Alive) {
        if !self.is_logged && self.began.elapsed() > LOG_AFTER {
            self.is_logged = true;
            warn!(
                lease_seconds = newest.lease.as_secs(),
                "another process holds the ledger and writes nothing; waiting for the end of its lease"
            );
        }
    }
}

/// The run with the name of the wanted one, if it is completed.
async fn completed(connection: &mut Connection, run: Option<&NewRun<'_>>) -> Result<Option<Joined>, Error> {
    let Some(name) = run.and_then(|run| run.name) else { return Ok(None) };
    let rows = connection.run(&Statement::new(SELECT_NAMED_RUN).text(name)).await?;
    let is_completed = |row: &&PgRow| row.get::<&str, _>(1) == RunState::Completed.name();
    let completed = rows.first().filter(is_completed).map(|row| {
        let exit_code = row.get::<Option<i64>, _>(2).and_then(|code| u8::try_from(code).ok());
        Joined::Completed(RunId(row.get(0)), exit_code.unwrap_or_default())
    });
    Ok(completed)
}

/// Declares workers dead whose leases have expired. Returns false if one of them has updated its row meanwhile.
async fn declare_dead(connection: &mut Connection, expired: &[Alive]) -> Result<bool, Error> {
    for worker in expired {
        let declare = Statement::new(DECLARE_DEAD).bind(worker.id).bind(worker.commits);
        if connection.run(&declare).await?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Inserts the row of this worker.
async fn insert_worker(
    connection: &mut Connection,
    wanted: Option<&NewRun<'_>>,
    joined: Option<RunId>,
) -> Result<Worker, Error> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let lease = wanted.map_or(LEASE, |run| run.lease);
    let milliseconds = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
    let join = Statement::new(JOIN).text(&host).bind(env!("CARGO_PKG_VERSION")).bind(milliseconds);
    let join = join.bind(wanted.is_some_and(|run| run.join_key.is_some())).bind(joined.map(|run| run.0));
    let (beat_at, rows) = (Instant::now(), connection.run(&join).await?);
    let id = rows.first().map_or(0, |row| row.get(0));
    Ok(Worker { id, commits: 0, beat_at, lease, spares_until: None })
}
