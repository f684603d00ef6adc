//! Errors that end a command, each with a hint for the user.
//!
//! Facts about a row are values and go to the ledger; no error here is about a row. Each deep module has a small error type
//! of its own; this one wraps them once. A text is a lower-case fragment that names the thing; the hint says what to do;
//! `cli` prints both on one line.

use std::borrow::Cow;

use crate::{api, ledger, source};

/// Why a command cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line or the configuration is wrong; nothing was sent.
    #[error("{text}")]
    Usage {
        /// What is wrong.
        text: String,
        /// What to do.
        hint: String,
    },
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// The ledger cannot be read or written.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// The API client cannot be set up.
    #[error(transparent)]
    Api(#[from] api::Error),
    /// Output could not be written.
    #[error("cannot write {name}: {error}")]
    Output {
        /// The file, or `standard output`.
        name: String,
        /// The system's reason.
        error: std::io::Error,
    },
    /// A bug of this program.
    #[error("internal error: {0}")]
    Bug(String),
}

impl Error {
    /// A usage error.
    pub fn usage(text: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::Usage { text: text.into(), hint: hint.into() }
    }

    /// What the user can do.
    pub fn hint(&self) -> Cow<'_, str> {
        match self {
            Error::Usage { hint, .. } => hint.into(),
            Error::Source(error) => error.hint().into(),
            Error::Ledger(error) => error.hint().into(),
            Error::Api(error) => error.hint().into(),
            Error::Output { .. } => "check the path, its permissions and the room on the disk".into(),
            Error::Bug(_) => "what was recorded stands; run the same command again, and report this".into(),
        }
    }
}
