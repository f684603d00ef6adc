//! A URL that names a server's ledger: what it may hold, and how it is shown.

/// Whether the text that names a ledger may have a password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Password {
    /// The text is in a variable of the environment, which others cannot read.
    Allowed,
    /// The text is on the command line, where every user of the machine sees it, or in a file.
    Refused,
}

/// Why a text names no ledger.
#[derive(Debug, thiserror::Error)]
pub enum WrongUrl {
    /// It is not understood.
    #[error("--ledger {shown}: {problem}")]
    Malformed {
        /// The URL without a password.
        shown: String,
        /// What is wrong.
        problem: String,
    },
    /// A password stands where others see it.
    #[error("--ledger {shown} was given with a password")]
    Password {
        /// The URL without it.
        shown: String,
    },
    /// A file that it names cannot be used.
    #[error("--ledger {shown}: {problem}")]
    File {
        /// The URL without a password.
        shown: String,
        /// What is wrong.
        problem: String,
    },
    /// This build has no code for it.
    #[error("this build has no ledgers in Postgres: it was made without the cargo feature postgres")]
    WithoutPostgres,
}

impl WrongUrl {
    /// What the user can do.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            WrongUrl::Malformed { .. } => "give it as postgres://USER@HOST/DATABASE?schema=NAME",
            WrongUrl::Password { .. } => {
                "every user of this machine sees it there: put it into PGPASSWORD or a PGPASSFILE, or the whole URL into CUSTOMER_IMPORT_LEDGER"
            }
            WrongUrl::File { .. } => {
                "name PEM files that this user can read: sslrootcert, or sslcert together with sslkey, which has no passphrase"
            }
            WrongUrl::WithoutPostgres => "use a build with it, or name a file with --ledger FILE",
        }
    }
}

/// Whether the text is meant as a URL of Postgres.
pub(super) fn is_postgres(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    scheme.is_some_and(|scheme| matches!(scheme.as_str(), "postgres" | "postgresql"))
}

/// The text without a password, where it is a URL of Postgres with one; for whoever shows what was given.
pub fn without_password(text: &str) -> String {
    let hidden = || {
        let mut url = url::Url::parse(text).ok()?;
        if url.password().is_some() {
            url.set_password(None).ok()?;
        }
        if url.query_pairs().any(|(name, _)| name == "password") {
            let kept: Vec<(String, String)> =
                url.query_pairs().into_owned().filter(|(name, _)| name != "password").collect();
            url.query_pairs_mut().clear().extend_pairs(kept);
        }
        Some(url.to_string())
    };
    match is_postgres(text) {
        true => hidden().unwrap_or_else(|| "postgres://(not a URL)".into()),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_has_no_password() {
        for (given, shown) in [
            ("a.db", "a.db"),
            ("postgres://u:secret@h/d?schema=x", "postgres://u@h/d?schema=x"),
            ("POSTGRESQL://u:secret@h/d", "postgresql://u@h/d"),
            ("postgres://u@h/d?password=secret&schema=x", "postgres://u@h/d?schema=x"),
            ("postgres://u:secret@[h/d", "postgres://(not a URL)"),
        ] {
            assert_eq!(without_password(given), shown);
        }
    }
}
