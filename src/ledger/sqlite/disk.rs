//! What SQLite writes beside the ledger: its temporary files, and the write-ahead log.
//!
//! Temporary files hold what is sorted (`status`, exports, reports) and, for `prune`, the whole ledger once more. By
//! itself SQLite puts them in a folder of the system, which may be full, tiny or read-only where the ledger's disk is
//! none of these; and they hold customers' data. In memory they would make it grow with the ledger. So they are where
//! the ledger is; SQLite removes their names as soon as it has made them, so that none is left behind. Where that folder
//! cannot be written, as when a ledger is only read, SQLite's own choice stands: `SQLITE_TMPDIR`, `TMPDIR`, `/var/tmp`,
//! `/tmp`, the working directory.
//!
//! The log can begin anew only when no reader needs its beginning. A program that holds one transaction open for
//! hours makes it grow with all that the run writes.

use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use sqlx::{AssertSqlSafe, SqliteConnection, sqlite::SqliteConnectOptions};
use tracing::warn;

use super::lock_file::beside;

/// What the log grows to without a reader is a tenth of this.
const LOG_BYTES_MAX: u64 = 256 << 20;

/// A log that has been larger is truncated to this when it begins anew.
pub(super) const LOG_BYTES_KEPT: &str = "67108864";

/// How SQLite is told of a file: by its name or, where the name is not text, by a URI with its bytes.
pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    match path.to_str() {
        Some(name) => SqliteConnectOptions::new().filename(name),
        None => SqliteConnectOptions::new().filename(uri(path)),
    }
}

/// The same for a file that nobody changes.
pub(super) fn of_unchanging(path: &Path) -> SqliteConnectOptions {
    match path.to_str() {
        Some(name) => SqliteConnectOptions::new().filename(name).immutable(true),
        None => SqliteConnectOptions::new().filename(uri(path) + "?immutable=1"),
    }
}

fn uri(path: &Path) -> String {
    format!("file:{}", percent_encode(path.as_os_str().as_encoded_bytes(), NON_ALPHANUMERIC))
}

/// The folder of temporary files, of the whole process.
const TEMPORARY_FOLDER: &str = "pragma temp_store_directory";

/// Has SQLite put its temporary files into the ledger's folder.
pub(super) async fn keep_temporary_files_beside(path: &Path, connection: &mut SqliteConnection) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A name that is not text cannot be said in SQL.
    let Some(folder) = folder.to_str() else { return };
    let sql = format!("{TEMPORARY_FOLDER} = '{}'", folder.replace('\'', "''"));
    // Fails where the folder cannot be written.
    drop(sqlx::query(AssertSqlSafe(sql)).execute(connection).await);
}

/// Whether the user has been told of a log that only grows.
#[derive(Default)]
pub(super) struct LogWatch {
    is_told: bool,
}

impl LogWatch {
    /// Looks at the log's size, and warns once.
    pub(super) fn look(&mut self, path: &Path) {
        let bytes = std::fs::metadata(beside(path, "-wal")).map_or(0, |log| log.len());
        if self.is_told || bytes < LOG_BYTES_MAX {
            return;
        }
        self.is_told = true;
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
        watch.look(&path);
        // No block of the file is on the disk.
        let log = std::fs::File::create(beside(&path, "-wal")).unwrap();
        log.set_len(LOG_BYTES_MAX - 1).unwrap();
        watch.look(&path);
        assert!(!watch.is_told);
        log.set_len(LOG_BYTES_MAX).unwrap();
        watch.look(&path);
        assert!(watch.is_told);
    }
}
