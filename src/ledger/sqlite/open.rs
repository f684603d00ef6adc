//! How the ledger's connection is opened and its tables are made.
//!
//! A ledger is born under another name and renamed when it is complete, so a file with a ledger's
//! name is either a whole ledger or not ours.

use std::{io, path::Path, time::Duration};

use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::{
    super::Error,
    lock_file::{beside, private_file},
};

static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// How long a statement waits for another process, such as a backup, before it fails.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// A checkpoint each 16 MB of log instead of each 4: fewer fsyncs of the main file.
const CHECKPOINT_PAGES: &str = "4096";

/// Makes a whole ledger under another name, then gives it its own: whatever dies here, no half
/// ledger is left under a name that somebody will open. Without a write-ahead log: where the disk is full, closing would
/// leave a part of the tables in one, and it would not go along.
pub(crate) async fn create(path: &Path) -> Result<(), Error> {
    let open_error = |error| Error::Open { path: path.into(), error };
    let new = beside(path, "-new");
    for stale in ["-new", "-new-journal", "-new-wal", "-new-shm"] {
        match std::fs::remove_file(beside(path, stale)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(open_error(error)),
            _ => {}
        }
    }
    drop(private_file(&new).map_err(open_error)?);
    let mut connection = open(&new, SqliteJournalMode::Delete).await?;
    migrate(path, &mut connection).await?;
    connection.close().await.map_err(|error| Error::Sqlite { path: path.into(), error })?;
    std::fs::rename(&new, path).map_err(open_error)
}

pub(crate) async fn connect(path: &Path) -> Result<SqliteConnection, Error> {
    open(path, SqliteJournalMode::Wal).await
}

async fn open(path: &Path, journal: SqliteJournalMode) -> Result<SqliteConnection, Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(journal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        // What is erased is overwritten: raw records are personal data.
        .pragma("secure_delete", "on")
        .disable_statement_logging();
    options.connect().await.map_err(|error| Error::Sqlite { path: path.into(), error })
}

pub(crate) async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), Error> {
    MIGRATOR.run(connection).await.map_err(|error| match error {
        MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_) => Error::Newer(path.into()),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            Error::Sqlite { path: path.into(), error }
        }
        other => Error::Sqlite { path: path.into(), error: sqlx::Error::Migrate(Box::new(other)) },
    })
}
