//! The location of a ledger: the value of `--ledger`, and its form in messages.
//!
//! Chooses the backend. Opens nothing, and its form in messages never contains a password.

use std::{
    fmt,
    path::{Path, PathBuf},
};

#[cfg(feature = "postgres")]
use super::postgres::server::Server;
use super::url::{Password, WrongUrl, is_postgres};

/// The names of a ledger's files, behind the path of the ledger: its own, those of SQLite, and the lock.
const BESIDE: [&str; 6] = ["", "-wal", "-shm", "-journal", "-lock", "-new"];

/// The location of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In a SQLite file.
    File(PathBuf),
    /// In a schema of a Postgres database.
    #[cfg(feature = "postgres")]
    Postgres(Box<Server>),
}

impl Location {
    /// Parses the value of `--ledger`.
    ///
    /// # Errors
    /// If the text is a malformed Postgres URL, contains a password where none is allowed, or needs a backend that this
    /// build does not contain.
    pub fn parse(text: &Path, password: Password) -> Result<Location, WrongUrl> {
        let url = text.to_str().filter(|text| is_postgres(text));
        match url {
            None => Ok(Location::File(text.into())),
            #[cfg(feature = "postgres")]
            Some(url) => Server::parse(url, password).map(|server| Location::Postgres(server.into())),
            #[cfg(not(feature = "postgres"))]
            Some(_) => {
                let _ = password;
                Err(WrongUrl::WithoutPostgres)
            }
        }
    }

    /// The file of the ledger.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Location::File(path) => Some(path),
            #[cfg(feature = "postgres")]
            Location::Postgres(_) => None,
        }
    }

    /// The file of the ledger and those beside it, which no output may overwrite. SQLite names its own after the file that a
    /// link leads to.
    pub fn files(&self) -> Vec<PathBuf> {
        let Some(path) = self.file() else { return Vec::new() };
        let named = path.canonicalize().unwrap_or_else(|_| path.into());
        let with = |suffix| {
            let mut name = named.as_os_str().to_owned();
            name.push(suffix);
            name.into()
        };
        BESIDE.iter().map(with).collect()
    }

    /// Whether a ledger may exist: false only if it surely does not.
    pub fn may_exist(&self) -> bool {
        self.file().is_none_or(Path::exists)
    }
}

impl From<PathBuf> for Location {
    fn from(file: PathBuf) -> Location {
        Location::File(file)
    }
}

impl From<&Location> for Location {
    fn from(location: &Location) -> Location {
        location.clone()
    }
}

impl From<&Path> for Location {
    fn from(file: &Path) -> Location {
        Location::File(file.into())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::File(path) => path.display().fmt(f),
            #[cfg(feature = "postgres")]
            Location::Postgres(server) => server.fmt(f),
        }
    }
}
