//! The state of the source file when it was opened: its size, time and identity, so that a change during reading is
//! detected.
//!
//! A file that is written to while it is read yields rows of two versions, or lacks rows that were added later, and
//! no row shows it. So the state is compared at the end of the file. A changed time alone proves nothing (`touch`, a
//! backup); then the bytes are compared by their hash.

use std::{
    fmt,
    fs::{File, Metadata},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::prefix_hash;
use crate::customer::{PrefixHash, noun};

/// How a file has changed since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Bytes were added.
    Longer {
        /// Their number.
        bytes: u64,
    },
    /// Bytes are missing.
    Shorter {
        /// Their number.
        bytes: u64,
    },
    /// The size is the same, but bytes have changed.
    Rewritten,
    /// Another file has the name now.
    Replaced,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Longer { bytes } => write!(f, "it is {bytes} {} longer", noun(*bytes, "byte")),
            Change::Shorter { bytes } => write!(f, "it is {bytes} {} shorter", noun(*bytes, "byte")),
            Change::Rewritten => f.write_str("it was written to"),
            Change::Replaced => f.write_str("another file has its name"),
        }
    }
}

/// The state of a file when it was opened.
pub(super) struct FileState {
    path: PathBuf,
    file: File,
    size: u64,
    modified: Option<SystemTime>,
}

impl FileState {
    /// The state of an open file.
    pub(super) fn of(path: &Path, file: &File) -> io::Result<FileState> {
        let metadata = file.metadata()?;
        Ok(FileState {
            path: path.into(),
            file: file.try_clone()?,
            size: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }

    /// The size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// How the file has changed; none if it has not. `read` is the hash of the bytes read. A removed file has not
    /// changed: it was read to its end.
    pub(super) fn change(&self, read: Option<PrefixHash>) -> io::Result<Option<Change>> {
        let now = self.file.metadata()?;
        if now.len() != self.size {
            let bytes = now.len().abs_diff(self.size);
            let is_longer = now.len() > self.size;
            return Ok(Some(if is_longer { Change::Longer { bytes } } else { Change::Shorter { bytes } }));
        }
        if now.modified().ok() != self.modified {
            // The whole file was read, unless the rest of it is not data.
            let is_same = match read {
                Some(read) if read.bytes == self.size => prefix_hash::is_prefix(&self.path, read)?,
                _ => false,
            };
            if !is_same {
                return Ok(Some(Change::Rewritten));
            }
        }
        match self.path.metadata() {
            Ok(named) if !is_same_file(&named, &now) => Ok(Some(Change::Replaced)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(None),
        }
    }
}

#[cfg(unix)]
fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
    one.len() == other.len() && one.modified().ok() == other.modified().ok()
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;

    #[test]
    fn a_change_is_told_by_its_kind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.csv");
        let other = dir.path().join("other.csv");
        let later = |path: &Path| {
            let file = File::options().append(true).open(path).unwrap();
            let time = file.metadata().unwrap().modified().unwrap() + Duration::from_secs(5);
            file.set_modified(time).unwrap();
        };
        let none: &dyn Fn() = &|| {};
        for (change, expected) in [
            (none, None),
            (&|| later(&path), None),
            (&|| fs::write(&path, "abcdef").unwrap(), Some(Change::Longer { bytes: 2 })),
            (&|| fs::write(&path, "abc").unwrap(), Some(Change::Shorter { bytes: 1 })),
            (
                &|| {
                    fs::write(&path, "abcx").unwrap();
                    later(&path);
                },
                Some(Change::Rewritten),
            ),
            (&|| fs::rename(&other, &path).unwrap(), Some(Change::Replaced)),
            (&|| fs::remove_file(&path).unwrap(), None),
        ] {
            fs::write(&path, "abcd").unwrap();
            fs::write(&other, "abcd").unwrap();
            let mut file = File::open(&path).unwrap();
            let state = FileState::of(&path, &file).unwrap();
            let mut hashed = prefix_hash::HashingFile::new(file.try_clone().unwrap());
            io::copy(&mut hashed, &mut io::sink()).unwrap();
            change();
            assert_eq!(state.change(Some(hashed.hash().prefix())).unwrap(), expected);
            drop(io::copy(&mut file, &mut io::sink()));
        }
    }
}
