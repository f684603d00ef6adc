//! Where a ledger is kept: what `--ledger` names, and how messages call it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

#[cfg(feature = "postgres")]
use super::postgres::server::Server;
use super::url::{Password, WrongUrl, is_postgres};

/// Where a ledger is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In a SQLite file.
    File(PathBuf),
    /// In a schema of a Postgres database.
    #[cfg(feature = "postgres")]
    Postgres(Box<Server>),
}

impl Location {
    /// The place that this text names.
    ///
    /// # Errors
    /// Where it is a URL of Postgres that is wrong, has a password that it may not have, or is of no use to this build.
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

    /// The file that the ledger is, for whoever must not write over it.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Location::File(path) => Some(path),
            #[cfg(feature = "postgres")]
            Location::Postgres(_) => None,
        }
    }

    /// Whether there may be a ledger: false where it is known that there is none.
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
