//! The state of the source file when it was opened: its size, time and identity, so that a change while it is read is noticed.
//!
//! A file that is written to while it is read gives rows of two versions, or lacks the rows that came later, and no row shows
//! it. So the state is compared when the end is reached. A time alone proves nothing (`touch`, a backup): then the bytes
//! decide, by their hash.

use std::{
    fmt,
    fs::{File, Metadata},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::prefix_hash;
use crate::customer::{PrefixHash, noun};

/// How a file differs from what it was when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Bytes were added.
    Longer {
        /// How many.
        bytes: u64,
    },
    /// Bytes are missing.
    Shorter {
        /// How many.
        bytes: u64,
    },
    /// It has the same size and other bytes.
    Rewritten,
    /// Another file has its name.
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

/// A file as it was when it was opened.
pub(super) struct FileState {
    path: PathBuf,
    file: File,
    size: u64,
    modified: Option<SystemTime>,
}

impl FileState {
    /// The state of a file that is open.
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

    /// How the file differs now; none if it does not. `read` is the hash of what was read. A file that was removed is no
    /// other: it was read to its end.
    pub(super) fn change(&self, read: Option<PrefixHash>) -> io::Result<Option<Change>> {
        let now = self.file.metadata()?;
        if now.len() != self.size {
            let bytes = now.len().abs_diff(self.size);
            let is_longer = now.len() > self.size;
            return Ok(Some(if is_longer { Change::Longer { bytes } } else { Change::Shorter { bytes } }));
        }
        if now.modified().ok() != self.modified {
            // The whole file was read, unless the rest of it holds no data.
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
