//! How a process takes the ledger.
//!
//! Who finds a living worker waits until the worker has shown that it lives, and gives up, or until its lease has
//! passed, and takes the ledger over.

use std::time::Duration;

use sqlx::Row as _;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::{
    super::{error::Error, model::RunId},
    connection::Connection,
    failure::Failure,
    parameters::Statement,
    statements::{BEGIN, BURY, COMMIT, JOIN, LOCK_TARGET, SELECT_ALIVE},
    worker::{LEASE, Worker},
};

/// Who lives says so within about a second.
const TELL_AFTER: Duration = Duration::from_secs(3);

/// How often a living worker is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The worker that has the ledger.
struct Alive {
    id: i64,
    commits: i64,
    run: Option<RunId>,
    is_expired: bool,
}

/// Takes the ledger: no other process has it until this one leaves, or has not touched its row for as long as its lease.
///
/// # Errors
/// Where another process has it.
pub(super) async fn join(connection: &mut Connection) -> Result<(), Error> {
    let (began, mut is_told) = (Instant::now(), false);
    let mut first: Option<(i64, i64)> = None;
    loop {
        connection.run_text(BEGIN.into()).await?;
        connection.run(&Statement::new(LOCK_TARGET)).await?;
        let alive = connection.run(&Statement::new(SELECT_ALIVE)).await?;
        let alive = alive.first().map(|row| Alive {
            id: row.get(0),
            commits: row.get(1),
            run: row.get::<Option<i64>, _>(2).map(RunId),
            is_expired: row.get(3),
        });
        let Some(alive) = alive else { break };
        if alive.is_expired {
            let bury = Statement::new(BURY).bind(alive.id).bind(alive.commits);
            if !connection.run(&bury).await?.is_empty() {
                break;
            }
        }
        connection.run_text(COMMIT.into()).await?;
        let seen = (alive.id, alive.commits);
        match first {
            None => first = Some(seen),
            Some(first) if first != seen => return Err(connection.error(Failure::InUse(alive.run))),
            Some(_) => {}
        }
        if !is_told && began.elapsed() > TELL_AFTER {
            is_told = true;
            warn!(
                lease_seconds = LEASE.as_secs(),
                "another process had the ledger and says nothing; waiting for the end of its lease"
            );
        }
        sleep(LOOK_EVERY).await;
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let lease = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
    let join = Statement::new(JOIN).text(&host).bind(env!("CARGO_PKG_VERSION")).bind(lease);
    let (beat_at, joined) = (Instant::now(), connection.run(&join).await?);
    connection.run_text(COMMIT.into()).await?;
    let id = joined.first().map_or(0, |row| row.get(0));
    connection.worker = Some(Worker { id, commits: 0, beat_at });
    Ok(())
}
