//! URLs of ledgers on a server: errors, and how to show a URL without its password.
//!
//! No message contains a password, and a URL that other users can read must not have one. `postgres/server.rs` parses the
//! rest of the URL; a build without that backend still recognizes one.

/// The parameters that the URL may have, apart from the password.
pub(super) const PARAMETERS: [&str; 9] =
    ["schema", "host", "port", "user", "dbname", "sslmode", "sslrootcert", "sslcert", "sslkey"];

/// Whether the URL of a ledger may contain a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Password {
    /// It may: the URL comes from the environment, which other users cannot read.
    Allowed,
    /// It may not: the URL is on the command line, which every user of the machine can read, or in a file.
    Refused,
}

/// Why a URL cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WrongUrl {
    /// The URL is malformed.
    #[error("--ledger {shown}: {problem}")]
    Malformed {
        /// The URL without a password.
        shown: String,
        /// What is wrong.
        problem: String,
    },
    /// The URL contains a password that other users can read.
    #[error("--ledger {shown} was given with a password")]
    Password {
        /// The URL without the password.
        shown: String,
    },
    /// A file that the URL names cannot be used.
    #[error("--ledger {shown}: {problem}")]
    File {
        /// The URL without a password.
        shown: String,
        /// What is wrong.
        problem: String,
    },
    /// This build does not contain the backend.
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

/// Whether the text has the scheme of a Postgres URL.
pub(super) fn is_postgres(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    scheme.is_some_and(|scheme| matches!(scheme.as_str(), "postgres" | "postgresql"))
}

/// Whether it is a list of keywords and values, as other programs write where a database is: `host=db dbname=imports`. It may
/// contain a password.
pub fn is_connection_string(text: &str) -> bool {
    let first = text.trim_start().split_once('=').map(|(keyword, _)| keyword.trim_end());
    let is_keyword =
        |word| matches!(word, "host" | "hostaddr" | "port" | "dbname" | "user" | "password" | "service");
    first.is_some_and(is_keyword)
}

/// Whether the URL may be one whose password contains a character that ends the part with the password: the rest of the
/// password would be taken for something else, and shown.
pub(super) fn is_cut_in_password(url: &url::Url) -> bool {
    url.fragment().is_some()
        || url.path().contains('@')
        || url.query_pairs().any(|(name, _)| name.contains('@'))
}

/// The text without the password, if the text is a Postgres URL with one; for messages. Of what is no ledger, such as the
/// URL of another database, at most the scheme is shown. A parameter that is not known may be
/// a password, too.
pub fn without_password(text: &str) -> String {
    let hidden = || {
        let mut url = url::Url::parse(text).ok().filter(|url| !is_cut_in_password(url))?;
        if url.password().is_some() {
            url.set_password(None).ok()?;
        }
        let (kept, hidden): (Vec<(String, String)>, Vec<_>) =
            url.query_pairs().into_owned().partition(|(name, _)| PARAMETERS.contains(&name.as_str()));
        if kept.is_empty() {
            url.set_query(None);
        } else if !hidden.is_empty() {
            url.query_pairs_mut().clear().extend_pairs(kept);
        }
        Some(url.to_string())
    };
    match text.split_once("://") {
        _ if is_postgres(text) => hidden().unwrap_or_else(|| "postgres://(not a URL)".into()),
        Some((scheme, _)) => format!("{scheme}://…"),
        None if is_connection_string(text) => "(not a URL)".into(),
        None => text.to_owned(),
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
            ("postgres://u@h/d?pass%77ord=secret", "postgres://u@h/d"),
            ("postgres://u@h/d?PASSWORD=secret&schema=x", "postgres://u@h/d?schema=x"),
            ("postgres://u@h/d?schema=%C3%BC", "postgres://u@h/d?schema=%C3%BC"),
            ("mysql://u:secret@h/d", "mysql://…"),
            ("jdbc:postgresql://h/d?user=u&password=secret", "jdbc:postgresql://…"),
            ("host=h password=secret", "(not a URL)"),
            ("postgres://u:secret@[h/d", "postgres://(not a URL)"),
            ("postgres://u:12/secret@h/d", "postgres://(not a URL)"),
            ("postgres://u:12?secret@h/d", "postgres://(not a URL)"),
            ("postgres://u:12#secret@h/d", "postgres://(not a URL)"),
        ] {
            assert_eq!(without_password(given), shown);
        }
    }
}
