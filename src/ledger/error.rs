//! Why the ledger cannot continue, and what the user can do about it.
//!
//! Each message names the file, and each error has a hint. No error is about a row: the result of a row is a value in
//! the ledger, never an error.

use std::{io, path::PathBuf};

use super::{
    location::Location,
    model::{RunId, Target},
    sqlite::failure::Failure,
    url::WrongUrl,
};

/// Why the ledger cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be created, opened or locked.
    #[error("cannot open the ledger {}: {error}", path.display())]
    Open {
        /// The ledger.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// No ledger exists at the path.
    #[error("there is no ledger {ledger}{}", beside_text(.others))]
    Missing {
        /// The ledger.
        ledger: Location,
        /// Other ledgers in the same folder.
        others: Vec<PathBuf>,
    },
    /// Another process holds the lock.
    #[error("the ledger {0} is in use by another run")]
    InUse(Location),
    /// The file has a second name, by which another run would not see this one.
    #[error("the ledger {} is a file with several names (hard links)", .0.display())]
    HardLinked(PathBuf),
    /// The ledger is missing, but SQLite's write-ahead log of it exists.
    #[error("the ledger is gone, but {} still holds rows of it", .0.display())]
    OnlyTheLog(PathBuf),
    /// The file belongs to another program.
    #[error("{} is not a ledger", .0.display())]
    NotALedger(PathBuf),
    /// A later version of this program has written the file.
    #[error("the ledger {0} was written by a later version of this program")]
    Newer(Location),
    /// A version from before the first release has written the file.
    #[error("the ledger {} was written by a development version of this program", .0.display())]
    Development(PathBuf),
    /// The ledger belongs to another target.
    #[error(
        "the ledger {ledger} belongs to merchant {} at {}, not to merchant {} at {}",
        has.merchant_id, has.base_url, requested.merchant_id, requested.base_url
    )]
    OtherTarget {
        /// The ledger.
        ledger: Location,
        /// The target of the ledger.
        has: Target,
        /// The requested target.
        requested: Target,
    },
    /// The SQLite library has a bug that could corrupt the file.
    #[error("SQLite {0} is too old (3.51.3 or later is needed)")]
    OldSqlite(String),
    /// The file is no longer where it was when the run began.
    #[error("the ledger {} was moved or deleted while the run went on", .0.display())]
    Moved(PathBuf),
    /// A claim of this run was missing when it was to be settled.
    #[error("a claim of run {run} is gone from the ledger {}", path.display())]
    TakenOver {
        /// The ledger.
        path: PathBuf,
        /// The run.
        run: RunId,
    },
    /// Another worker of the run reads another source.
    #[error(
        "the ledger {ledger}: run {run} reads other rows than this file has{}",
        line.map(|line| format!(" (they differ before line {line})")).unwrap_or_default()
    )]
    OtherSource {
        /// The ledger.
        ledger: Location,
        /// The run.
        run: RunId,
        /// The line of this worker's source up to which its rows were compared; none at its end.
        line: Option<u64>,
    },
    /// The value of `--ledger` names no ledger.
    #[error(transparent)]
    Url(WrongUrl),
    /// A ledger in Postgres cannot continue.
    #[cfg(feature = "postgres")]
    #[error("the ledger {ledger}: {error}")]
    Postgres {
        /// The ledger.
        ledger: Location,
        /// Why.
        error: super::postgres::Failure,
    },
    /// SQLite cannot continue: disk full, I/O error, corruption.
    #[error("the ledger {}: {}", path.display(), error)]
    Sqlite {
        /// The ledger.
        path: PathBuf,
        /// SQLite's reason.
        error: Failure,
    },
}

impl Error {
    /// What the user can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Error::Open { .. } => {
                "name a file in a folder that exists and can be written, with --ledger FILE"
            }
            Error::Missing { .. } => "name the ledger of an earlier import with --ledger FILE",
            Error::InUse(_) => "wait for it to end, or use another ledger with --ledger FILE",
            Error::HardLinked(_) => {
                "delete the other names, and make copies of a ledger with cp or sqlite3's .backup"
            }
            Error::OnlyTheLog(_) => {
                "move the ledger back beside this file, or delete this file to begin anew: an import finds the customers that exist"
            }
            Error::NotALedger(_) => "the file was left as it is; name another with --ledger FILE",
            Error::Newer(_) => "use that version, or another ledger with --ledger FILE",
            Error::Development(_) => {
                "use that version, or import again into a new ledger with --ledger FILE: customers that exist are found"
            }
            Error::OtherTarget { .. } => "use one ledger for each target, with --ledger FILE",
            Error::OldSqlite(_) => "rebuild the program with its bundled SQLite",
            Error::Moved(_) => {
                "move it back with its -wal file, or import again into a new ledger: the import finds the customers that exist"
            }
            Error::TakenOver { .. } => {
                "make sure that one run at a time uses it, then run the same command again"
            }
            Error::OtherSource { .. } => {
                "give all workers of a run the same file; for another file, wait until the run has ended"
            }
            Error::Sqlite { error, .. } => error.hint(),
            Error::Url(error) => error.hint(),
            #[cfg(feature = "postgres")]
            Error::Postgres { error, .. } => error.hint(),
        }
    }

    /// Refuses a ledger of another target than the requested one.
    ///
    /// # Errors
    /// If the targets differ.
    pub(super) fn check_target(ledger: Location, has: Target, requested: &Target) -> Result<(), Error> {
        match has == *requested {
            true => Ok(()),
            false => Err(Error::OtherTarget { ledger, has, requested: requested.clone() }),
        }
    }

    /// Whether the command line is at fault, not the machine; nothing was begun then.
    pub fn is_usage(&self) -> bool {
        #[cfg(feature = "postgres")]
        if let Error::Postgres { error, .. } = self {
            return error.is_usage();
        }
        !matches!(
            self,
            Error::Sqlite { .. }
                | Error::TakenOver { .. }
                | Error::OtherSource { .. }
                | Error::OldSqlite(_)
                | Error::Moved(_)
        )
    }

    /// Whether the run ended itself because it lost the ledger, so that the same command continues where it was.
    pub fn may_pass(&self) -> bool {
        match self {
            #[cfg(feature = "postgres")]
            Error::Postgres { error, .. } => error.may_pass(),
            _ => false,
        }
    }
}

fn beside_text(others: &[PathBuf]) -> String {
    // A long list of files would hide the message.
    const SHOWN: usize = 5;
    let names: Vec<String> = others.iter().take(SHOWN).map(|path| path.display().to_string()).collect();
    match others.len() {
        0 => String::new(),
        more @ 1..=SHOWN => {
            format!(", but there {} {}", if more == 1 { "is" } else { "are" }, names.join(", "))
        }
        more => format!(", but there are {}, and {} more", names.join(", "), more - SHOWN),
    }
}
