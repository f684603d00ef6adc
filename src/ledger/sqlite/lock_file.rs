//! Checks on the ledger's file before SQLite opens it: whether it is a ledger, which process holds its lock, and that
//! only its owner can read it.
//!
//! These checks precede SQLite, because merely opening another program's database would modify it. No SQL.

use std::{
    fs::{File, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::super::error::Error;

/// Whether a ledger exists; an error if there is another kind of file. Reads the magic bytes of a SQLite file and its
/// application id, at their documented offsets.
pub(crate) fn check_ours(path: &Path) -> Result<bool, Error> {
    const MAGIC: &[u8; 16] = b"SQLite format 3\0";
    const APPLICATION_ID: &[u8; 4] = b"csip";
    let open_error = |error| Error::Open { path: path.into(), error };
    let mut head = Vec::new();
    // A device or a pipe is never read and never replaced.
    if std::fs::metadata(path).is_ok_and(|data| !data.is_file()) {
        return Err(Error::NotALedger(path.into()));
    }
    match File::open(path) {
        Ok(file) => file.take(100).read_to_end(&mut head).map_err(open_error)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return none_yet(path),
        Err(error) => return Err(open_error(error)),
    };
    match (head.get(..16), head.get(68..72)) {
        (None, _) if head.is_empty() => none_yet(path),
        (Some(magic), Some(id)) if magic == MAGIC && id == APPLICATION_ID => Ok(true),
        _ => Err(Error::NotALedger(path.into())),
    }
}

/// The error for a path without a ledger, naming the ledgers in the same folder.
pub(super) fn missing(path: &Path) -> Error {
    // In a folder of very many files, the first ones are enough.
    const LOOKED_AT_MAX: usize = 1000;
    let folder = path.parent().unwrap_or(Path::new(""));
    let read = std::fs::read_dir(if folder == Path::new("") { Path::new(".") } else { folder });
    let names = read.into_iter().flatten().take(LOOKED_AT_MAX).flatten();
    let paths = names.map(|entry| folder.join(entry.file_name()));
    let mut others: Vec<PathBuf> = paths.filter(|path| matches!(check_ours(path), Ok(true))).collect();
    others.sort_unstable();
    Error::Missing { ledger: path.into(), others }
}

/// Whether nothing exists yet. The log of a deleted ledger may hold rows, so no new ledger is created beside such a
/// log.
fn none_yet(path: &Path) -> Result<bool, Error> {
    if has_log(path) { Err(Error::OnlyTheLog(beside(path, "-wal"))) } else { Ok(false) }
}

/// Whether SQLite's write-ahead log holds rows that are not in the file yet.
pub(crate) fn has_log(path: &Path) -> bool {
    std::fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0)
}

/// Takes the lock of the ledger: a file beside the ledger, because a lock on the ledger itself would interfere with
/// SQLite's own. A ledger with a second name (a hard link) is refused, because each name would have a lock and a
/// write-ahead log of its own.
pub(crate) fn lock(path: &Path) -> Result<File, Error> {
    #[cfg(unix)]
    if std::fs::metadata(path).is_ok_and(|data| std::os::unix::fs::MetadataExt::nlink(&data) > 1) {
        return Err(Error::HardLinked(path.into()));
    }
    let file = private_file(&lock_path(path)).map_err(|error| Error::Open { path: path.into(), error })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(path.into())),
        Err(TryLockError::Error(error)) => Err(Error::Open { path: path.into(), error }),
    }
}

/// Device and inode of a file, which identify it whatever its name.
pub(crate) type Identity = (u64, u64);

/// The identity of the file at the path; `None` if there is none.
pub(crate) fn identity(path: &Path) -> Option<Identity> {
    #[cfg(unix)]
    let of = |data: std::fs::Metadata| {
        use std::os::unix::fs::MetadataExt;
        (data.dev(), data.ino())
    };
    #[cfg(not(unix))]
    let of = |_| (0, 0);
    std::fs::metadata(path).ok().map(of)
}

fn lock_path(path: &Path) -> PathBuf {
    beside(path, "-lock")
}

/// The path of a file beside the ledger: the ledger's path with this suffix.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether a run holds the ledger's lock currently.
pub(super) fn is_in_use(path: &Path) -> bool {
    let lock = File::open(lock_path(path)).map(|file| file.try_lock_shared());
    matches!(lock, Ok(Err(TryLockError::WouldBlock)))
}

/// Opens or creates a file that only its owner can read.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    if file.metadata()?.is_file() {
        // The file may have existed before, readable by others.
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    Ok(file)
}
