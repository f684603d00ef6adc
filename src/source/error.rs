//! Why a source cannot be read, or not any further, and what to do about it.
//!
//! What is wrong with one row is not here: it is that row's fault, and reading goes on.

use std::{collections::HashSet, io, path::PathBuf};

use super::decompress::is_corrupt_stream;
use crate::{
    customer::Field,
    ledger::{self, RunId},
};

/// Why a source cannot be read (any further).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened.
    #[error("cannot open {}: {error}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// It is not a file.
    #[error("{} is a directory", .0.display())]
    Directory(PathBuf),
    /// There is not even a header line.
    #[error("{0} is empty: it has no header line")]
    Empty(String),
    /// Reading failed in the middle.
    #[error("cannot read {name} at line {line}: {error}")]
    Read {
        /// The source.
        name: String,
        /// How far reading had come.
        line: u64,
        /// The system's reason.
        error: io::Error,
    },
    /// A quote in the header is left open, and swallowed rows.
    #[error("the header of {0} goes on over several lines with a quote that is not closed")]
    HeaderOpen(String),
    /// The header is not text.
    #[error("the header of {name} is not {encoding}: {seen}")]
    HeaderEncoding {
        /// The source.
        name: String,
        /// What it was read as.
        encoding: &'static str,
        /// The byte and its place.
        seen: String,
    },
    /// Something else than text.
    #[error("{name} is {what}, not a CSV file")]
    Foreign {
        /// The source.
        name: String,
        /// What it looks like.
        what: &'static str,
    },
    /// A field that must be there has no column.
    #[error("no column {field} in {name} (columns found: {})", list(.found))]
    MissingColumn {
        /// The source.
        name: String,
        /// The field.
        field: Field,
        /// The header.
        found: Vec<String>,
        /// The column that is probably meant.
        likely: Option<String>,
    },
    /// `--map` names a column that is not there.
    #[error("--map {field}={column}: no such column (columns found: {})", list(.found))]
    UnknownColumn {
        /// The field.
        field: Field,
        /// The name given.
        column: String,
        /// The header.
        found: Vec<String>,
        /// The column that is probably meant.
        likely: Option<String>,
    },
    /// Two columns have the name that a field needs.
    #[error("two columns are named {column}, so {field} is ambiguous")]
    AmbiguousColumn {
        /// The field.
        field: Field,
        /// The name.
        column: String,
    },
    /// The ledger does not tell how the rows of a run were read.
    #[error("the options by which run {0} read its rows were recorded by another version of this program")]
    UnknownReadOptions(RunId),
    /// The ledger, as a source.
    #[error("{0}")]
    Ledger(Box<ledger::Error>),
    /// The reader's thread is gone without a word; a bug.
    #[error("the reader of {0} ended without saying why")]
    ReaderGone(String),
}

impl From<ledger::Error> for Error {
    fn from(error: ledger::Error) -> Error {
        Error::Ledger(Box::new(error))
    }
}

impl Error {
    /// What the user can do.
    pub fn hint(&self) -> String {
        match self {
            Error::Open { .. } => "check the path and its permissions".into(),
            Error::Directory(_) => "name a CSV file, or - for standard input".into(),
            Error::Empty(_) => "give a CSV file whose first line names the columns".into(),
            Error::Read { error, .. } if is_corrupt_stream(error) => {
                "get the file whole, then run the same command again; the rows before it stand".into()
            }
            Error::Read { .. } => "what was recorded stands; run the same command again".into(),
            Error::HeaderOpen(_) => "close the quote in the first line".into(),
            Error::HeaderEncoding { .. } => {
                "name the file's own encoding with --encoding, such as windows-1252, or save it as UTF-8"
                    .into()
            }
            Error::Foreign { .. } => "save it as CSV, plain or compressed by gzip or zstd".into(),
            Error::MissingColumn { found, .. } if found.iter().any(|name| name.contains('\0')) => {
                "the header has NUL bytes; if this is UTF-16, say --encoding utf-16le or utf-16be".into()
            }
            Error::MissingColumn { found, .. } if is_one_cell(found) => {
                "the header looks like one cell; give the character between its cells with --delimiter".into()
            }
            Error::MissingColumn { field, likely: Some(column), .. }
            | Error::UnknownColumn { field, likely: Some(column), .. } => {
                format!("did you mean --map '{field}={column}'?")
            }
            Error::MissingColumn { field, likely: None, .. } => {
                format!(
                    "name the column with --map {field}=COLUMN, or give a constant with --set {field}=VALUE"
                )
            }
            Error::UnknownColumn { .. } => "name one of the columns found".into(),
            Error::AmbiguousColumn { field, .. } => {
                format!("name the one that is meant exactly, with --map {field}=COLUMN, or rename the other")
            }
            Error::UnknownReadOptions(_) => {
                "retry with the version that recorded it, or import a corrected file".into()
            }
            Error::Ledger(error) => error.hint().into(),
            Error::ReaderGone(_) => "run the same command again, and report this as a bug".into(),
        }
    }

    /// Whether the command line or the file's header is wrong, so that nothing was begun.
    pub fn is_usage(&self) -> bool {
        match self {
            Error::Read { .. } | Error::ReaderGone(_) => false,
            Error::Ledger(error) => error.is_usage(),
            _ => true,
        }
    }
}

fn list(columns: &[String]) -> String {
    // A header of hundreds of columns would bury the message.
    const SHOWN: usize = 20;
    let mut seen = HashSet::new();
    let names: Vec<String> = columns
        .iter()
        .filter(|column| seen.insert(column.as_str()))
        .map(|column| column.escape_debug().to_string())
        .collect();
    match names.len() {
        0..=SHOWN => names.join(", "),
        more => format!("{}, and {} more", names[..SHOWN].join(", "), more - SHOWN),
    }
}

/// Whether the header is one cell that another delimiter would split.
fn is_one_cell(header: &[String]) -> bool {
    matches!(header, [only] if only.contains([',', ';', '\t', '|']))
}
