//! Errors of SQLite that prevent it from continuing, each with what the user can do about it.

use std::fmt;

use sqlx::error::DatabaseError;

/// SQLite's extended result code if its shared-memory file cannot grow: the disk is full, but SQLite reports an I/O
/// error.
const IOERR_SHMSIZE: u32 = 4874;

/// SQLite's extended result code if no folder for temporary files can be written.
const IOERR_GETTEMPPATH: u32 = 6410;

/// An error of SQLite.
#[derive(Debug)]
pub struct Failure(sqlx::Error);

impl Failure {
    /// What the user can do.
    pub(crate) fn hint(&self) -> &'static str {
        const FULL: u32 = 13;
        // The primary result code is the low byte of the extended one.
        let primary = |code| if code == IOERR_SHMSIZE { FULL } else { code & 0xff };
        match self.code().map(primary) {
            _ if self.code() == Some(IOERR_GETTEMPPATH) => {
                "make the ledger's folder writable, or name one that is with SQLITE_TMPDIR"
            }
            Some(5 | 6) => "another program holds the file; end it, then run the same command again",
            Some(8) => "make the file and its folder writable, then run the same command again",
            Some(10) => "check the disk, then run the same command again; what was recorded stands",
            Some(11) => "restore the file from a backup, or recover it with: sqlite3 FILE .recover",
            Some(FULL) => {
                "make room on the ledger's disk, where its temporary files are too, then run the same command again; what was recorded stands"
            }
            Some(14) => "check the folder and its permissions, then run the same command again",
            Some(26) => "name a ledger with --ledger FILE; this file was left as it is",
            _ => "what was recorded stands; run the same command again",
        }
    }

    fn code(&self) -> Option<u32> {
        self.0.as_database_error().and_then(DatabaseError::code)?.parse().ok()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code() {
            Some(IOERR_SHMSIZE) => {
                f.write_str("database or disk is full (no room for the -shm file beside it)")
            }
            Some(IOERR_GETTEMPPATH) => f.write_str("no folder for SQLite's temporary files can be written"),
            _ => self.0.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Failure {
        Failure(error)
    }
}

/// SQLite returned something other than the requested type; to continue would omit rows.
impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        Failure(sqlx::Error::Decode(error.into()))
    }
}
