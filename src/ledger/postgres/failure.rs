//! Failures of a ledger in Postgres, with what the user can do about each.

use std::{fmt, time::Duration};

use super::super::model::RunId;

/// A failure of a ledger in Postgres.
#[derive(Debug)]
pub enum Failure {
    /// An error of the server or of the connection to it.
    Server(sqlx::Error),
    /// The server refuses the login or a permission, before anything was begun.
    Refused(sqlx::Error),
    /// The database has this encoding.
    Encoding(String),
    /// The server is a standby.
    Standby,
    /// The server is older than the oldest supported version.
    OldServer(i64),
    /// The schema contains other objects than a ledger.
    OtherTables(String),
    /// An earlier version has created the ledger, and only a run updates its schema.
    Older,
    /// This run uses the ledger; none if no run has begun yet.
    InUse(Option<RunId>),
    /// How long the server was unreachable, and the last error.
    Unreachable(Duration, String),
    /// Another process has taken over the claims of this one.
    TakenOver,
    /// The server has lost commits of this process that it had confirmed.
    LostCommits,
}

impl Failure {
    /// Whether the same command may succeed a little later.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Failure::Unreachable(..) | Failure::TakenOver | Failure::LostCommits)
    }

    /// Whether the command line or the configuration is at fault, so that nothing was begun.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Failure::Refused(_)
            | Failure::Encoding(_)
            | Failure::Standby
            | Failure::OldServer(_)
            | Failure::OtherTables(_)
            | Failure::Older
            | Failure::InUse(_) => true,
            Failure::Server(_) | Failure::Unreachable(..) | Failure::TakenOver | Failure::LostCommits => {
                false
            }
        }
    }

    /// What the user can do.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Failure::Server(error) | Failure::Refused(error) => hint_of(error),
            Failure::Encoding(_) => {
                "create the database with: create database NAME encoding 'UTF8' template template0"
            }
            Failure::Standby => "name the server that is written to",
            Failure::OldServer(_) => "use Postgres 12 or later",
            Failure::OtherTables(_) => "name another schema with ?schema=NAME; this one was left as it is",
            Failure::Older => "begin a run with import, which brings it up to date",
            Failure::InUse(_) => "wait for it to end, or use another ledger with --ledger",
            Failure::Unreachable(..) => {
                "check the server and the way to it, then run the same command again; what was recorded stands"
            }
            Failure::TakenOver => "run the same command again; what was recorded stands",
            Failure::LostCommits => {
                "a standby that lagged behind was made the server; run the same command again: customers that exist are found"
            }
        }
    }
}

/// Whether an error is temporary: the connection broke, or the server is being restarted.
pub(super) fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        _ if is_about_trust(error) => false,
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) => true,
        sqlx::Error::Database(_) => {
            matches!(class(error), Some("08" | "40" | "53"))
                || matches!(
                    code(error).as_deref(),
                    Some("55P03" | "57014" | "57P01" | "57P02" | "57P03" | "57P05" | "25006" | "25P03")
                )
        }
        _ => false,
    }
}

/// The library's message if the server does not offer TLS.
const WITHOUT_TLS: &str = "server does not support TLS";

/// Whether TLS cannot be established: the certificate is not trusted, or the server has none.
fn is_about_trust(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Tls(_) => true,
        _ => of_tls(error).is_some_and(|error| !matches!(error, rustls::Error::InvalidMessage(_))),
    }
}

/// The error of the library for TLS.
fn of_tls(error: &sqlx::Error) -> Option<&rustls::Error> {
    match error {
        sqlx::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// Whether a new row has the id of another row. The ids follow from the cursor of the run, so another worker has taken the
/// cursor since.
pub(super) fn is_id_taken(error: &sqlx::Error) -> bool {
    let constraint = error.as_database_error().and_then(|error| error.constraint());
    matches!(constraint, Some("row_pkey" | "claim_batch_pkey"))
}

/// Whether the server refuses the request, or one side does not trust the other.
pub(super) fn is_refusal(error: &sqlx::Error) -> bool {
    is_about_trust(error) || matches!(class(error), Some("28" | "3D" | "42"))
}

/// Whether only reading is permitted: to this user, in this database, or because another server has become the one that
/// is written to.
pub(super) fn is_read_only(error: &sqlx::Error) -> bool {
    code(error).as_deref() == Some("25006")
}

/// What the user can do if the answer cannot be understood.
const OTHER_PROGRAM: &str =
    "check host and port: another program listens there, or the server behind it is away";

/// What the user can do if TLS cannot be established.
fn hint_of_trust(error: &sqlx::Error) -> &'static str {
    use rustls::{CertificateError, Error};
    match (error, of_tls(error)) {
        (sqlx::Error::Tls(error), _) if error.to_string() == WITHOUT_TLS => {
            "turn on ssl at the server; sslmode=disable in the URL sends everything unencrypted"
        }
        (sqlx::Error::Tls(_), _) => "check the files that sslrootcert, sslcert and sslkey in the URL name",
        (_, Some(Error::AlertReceived(_))) => {
            "the server ended the connection: check the client's certificate in sslcert and sslkey, and the server's log"
        }
        (
            _,
            Some(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )),
        ) => "name the server by the name in its certificate; sslmode=verify-ca looks at the issuer alone",
        (
            _,
            Some(Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            )),
        ) => "renew the server's certificate, or set the clock of this machine",
        _ => {
            "name the root of the server's certificate with sslrootcert=FILE in the URL; sslmode=require encrypts without looking at it"
        }
    }
}

fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// The class of an SQLSTATE code: its first two characters.
fn class(error: &sqlx::Error) -> Option<&'static str> {
    let code = code(error)?;
    ["08", "28", "3D", "40", "42", "53"].into_iter().find(|class| code.starts_with(class))
}

fn hint_of(error: &sqlx::Error) -> &'static str {
    const AGAIN: &str = "what was recorded stands; run the same command again";
    match (error, code(error).as_deref()) {
        _ if is_about_trust(error) => hint_of_trust(error),
        (sqlx::Error::Io(error), _) if error.kind() == std::io::ErrorKind::NotFound => {
            "check the folder of the socket, and the files that PGSSLROOTCERT, PGSSLCERT and PGSSLKEY name"
        }
        (sqlx::Error::Protocol(_), _) => OTHER_PROGRAM,
        _ if of_tls(error).is_some() => OTHER_PROGRAM,
        (sqlx::Error::Io(_), _) => "check host and port, that the server runs, and the way to it",
        (sqlx::Error::Database(error), _) if error.message().ends_with("no encryption") => {
            "the server wants TLS: name another sslmode than disable in the URL"
        }
        (_, Some("28P01" | "28000")) => {
            "check the user, and its password in PGPASSWORD, CUSTOMER_IMPORT_LEDGER or a PGPASSFILE that nobody else may read, or its certificate in sslcert and sslkey"
        }
        (_, Some("3D000")) => "create the database first, or name another in the URL",
        (_, Some("42501")) => {
            "give the user what it needs: create on the database for the first run, then usage on the schema, and select, insert, update and delete on its tables"
        }
        (_, Some("42P01" | "42703" | "42P07")) => {
            "the schema is not as this program made it: name another with ?schema=NAME"
        }
        (_, Some("53100")) => {
            "make room on the server's disk, then run the same command again; what was recorded stands"
        }
        (_, Some("53300")) => {
            "each worker has two connections: raise max_connections of the server or the limit of the user or database, or wait for others to end"
        }
        (_, Some("25006")) => {
            "turn default_transaction_read_only off for this user and database, or name the server that is written to"
        }
        (_, Some("57014")) => {
            "run the same command again; if nobody cancelled it, raise the server's statement_timeout for this user"
        }
        _ => AGAIN,
    }
}

/// The server's primary message, which contains no values of rows.
fn words(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => format!("no connection ({error})"),
        sqlx::Error::Tls(error) => format!("no connection ({error})"),
        // Behind it, the library names a place in its own code.
        sqlx::Error::Protocol(text) => {
            format!("the answer is not one of Postgres ({})", text.split(" (sqlx").next().unwrap_or_default())
        }
        other => other.to_string(),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Server(error) | Failure::Refused(error) => f.write_str(&words(error)),
            Failure::Encoding(encoding) => {
                write!(f, "the database has the encoding {encoding}, and UTF8 is needed")
            }
            Failure::Standby => f.write_str("the server is a read-only standby"),
            Failure::OldServer(version) => write!(f, "Postgres {} is too old", version / 10_000),
            Failure::OtherTables(schema) => write!(f, "the schema {schema:?} has what is another program's"),
            Failure::Older => f.write_str("an earlier version of this program has written it"),
            Failure::InUse(Some(run)) => write!(f, "it is in use by run {run}"),
            Failure::InUse(None) => f.write_str("it is in use by another process"),
            Failure::Unreachable(time, why) => {
                write!(f, "the server was unreachable for {} ({why})", humantime::format_duration(*time))
            }
            Failure::TakenOver => f.write_str(
                "another process has taken this one's work over, because it wrote nothing within its lease",
            ),
            Failure::LostCommits => f.write_str("the server has lost what this run had written"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Failure {
        Failure::Server(error)
    }
}
