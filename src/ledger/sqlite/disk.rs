//! The files that SQLite writes beside the ledger: temporary files, and the write-ahead log.
//!
//! Temporary files hold sorted data (for exports and reports) and, for `prune`, a copy of the ledger; the `-wal` file
//! holds another copy until `prune` has ended.
//! By default SQLite puts them in a folder of the system, which may be full, tiny or read-only even if the ledger's
//! disk is not; and they hold customers' data. In memory they would make it grow with the ledger. So they are put
//! beside the ledger; SQLite unlinks each one as soon as it is created, so that none is left behind. If the ledger's
//! folder cannot be written, as when a ledger is only read, SQLite's default applies: `SQLITE_TMPDIR`, `TMPDIR`,
//! `/var/tmp`, `/tmp`, the working directory.
//!
//! The log can start over only when no reader needs its beginning. A program that holds one transaction open for
//! hours makes the log grow with everything that the run writes.

use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use sqlx::{AssertSqlSafe, SqliteConnection, sqlite::SqliteConnectOptions};
use tracing::warn;

use super::lock_file::beside;

/// Ten times the size that the log reaches without a reader.
const LOG_BYTES_MAX: u64 = 256 << 20;

/// A larger log is truncated to this size when it starts over.
pub(super) const LOG_BYTES_KEPT: &str = "67108864";

/// Connection options for a file: by its name or, if the name is not text, by a URI with its bytes.
pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    match path.to_str() {
        Some(name) => SqliteConnectOptions::new().filename(name),
        None => SqliteConnectOptions::new().filename(uri(path)),
    }
}

/// Connection options for a file that nobody changes.
pub(super) fn of_unchanging(path: &Path) -> SqliteConnectOptions {
    match path.to_str() {
        Some(name) => SqliteConnectOptions::new().filename(name).immutable(true),
        None => SqliteConnectOptions::new().filename(uri(path) + "?immutable=1"),
    }
}

fn uri(path: &Path) -> String {
    format!("file:{}", percent_encode(path.as_os_str().as_encoded_bytes(), NON_ALPHANUMERIC))
}

/// The folder of temporary files; applies to the whole process.
const TEMPORARY_FOLDER: &str = "pragma temp_store_directory";

/// Makes SQLite put its temporary files into the ledger's folder.
pub(super) async fn keep_temporary_files_beside(path: &Path, connection: &mut SqliteConnection) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A name that is not text cannot be written in SQL.
    let Some(folder) = folder.to_str() else { return };
    let sql = format!("{TEMPORARY_FOLDER} = '{}'", folder.replace('\'', "''"));
    // Fails if the folder cannot be written.
    drop(sqlx::query(AssertSqlSafe(sql)).execute(connection).await);
}

/// Whether the user has been warned about a log that keeps growing.
#[derive(Default)]
pub(super) struct LogWatch {
    is_logged: bool,
}

impl LogWatch {
    /// Checks the log's size, and warns once.
    pub(super) fn check(&mut self, path: &Path) {
        let bytes = std::fs::metadata(beside(path, "-wal")).map_or(0, |log| log.len());
        if self.is_logged || bytes < LOG_BYTES_MAX {
            return;
        }
        self.is_logged = true;
        let megabytes = bytes >> 20;
        warn!(
            megabytes,
            "the ledger's -wal file only grows: another program holds the ledger open; let it end"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_log_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let mut watch = LogWatch::default();
        watch.check(&path);
        // Sparse: no block of the file is on the disk.
        let log = std::fs::File::create(beside(&path, "-wal")).unwrap();
        log.set_len(LOG_BYTES_MAX - 1).unwrap();
        watch.check(&path);
        assert!(!watch.is_logged);
        log.set_len(LOG_BYTES_MAX).unwrap();
        watch.check(&path);
        assert!(watch.is_logged);
    }
}
