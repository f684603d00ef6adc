//! The server, the database and the schema that a URL names, and how a connection to them is made.

use std::fmt;

use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};
use url::{Host, Url};

use super::{
    super::url::{PARAMETERS, Password, WrongUrl, is_cut_in_password, without_password},
    certificate,
};

/// The schema of a ledger if the URL names none.
const SCHEMA: &str = "customer_import";

/// Maximum length of a name in bytes; Postgres would truncate a longer one.
const NAME_BYTES_MAX: usize = 63;

/// The parameters that name files; the last two require each other.
const FILES: [&str; 3] = ["sslrootcert", "sslcert", "sslkey"];

/// A schema in a database on a server.
#[derive(Clone)]
pub struct Server {
    /// The URL without a password.
    name: String,
    schema: String,
    options: PgConnectOptions,
}

impl Server {
    /// Parses a URL. A password may also come from `PGPASSWORD` and `PGPASSFILE`.
    ///
    /// # Errors
    /// If the text is no URL, has a password where none is allowed, or has an unknown parameter.
    pub(crate) fn parse(text: &str, password: Password) -> Result<Server, WrongUrl> {
        let shown = without_password(text);
        let wrong = |problem: String| WrongUrl::Malformed { shown: shown.clone(), problem };
        let mut url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
        if is_cut_in_password(&url) {
            return Err(wrong(
                "/ ? # and @ in a user, a password or a name are written as %2F %3F %23 %40".into(),
            ));
        }
        let has_password = url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password");
        if has_password && password == Password::Refused {
            return Err(WrongUrl::Password { shown });
        }
        let is_known = |name: &str| PARAMETERS.contains(&name) || name == "password";
        let unknown = url.query_pairs().find(|(name, _)| !is_known(name)).map(|(name, _)| name.into_owned());
        if let Some(unknown) = unknown {
            return Err(wrong(format!("{unknown} is no parameter of it")));
        }
        let value = |wanted: &str| {
            let pairs = url.query_pairs().filter(|(name, _)| name == wanted);
            pairs.last().map(|(_, value)| value.into_owned())
        };
        let (schema, mode) = (value("schema").unwrap_or_else(|| SCHEMA.into()), value("sslmode"));
        if !is_name_of_schema(&schema) {
            return Err(wrong(format!("no schema can be called {schema:?}")));
        }
        let files = FILES.map(|name| value(name).map(|path| (name, path)));
        if files[1].is_some() != files[2].is_some() {
            let problem = "sslcert and sslkey go together".into();
            return Err(WrongUrl::File { shown, problem });
        }
        let mut files = files.iter().flatten();
        if let Some(problem) = files.find_map(|(name, path)| certificate::problem(name, path)) {
            return Err(WrongUrl::File { shown, problem });
        }
        let given = url.query_pairs().into_owned().filter(|(name, _)| name != "schema");
        // The library would look an address in brackets up as a name.
        let address = match url.host() {
            Some(Host::Ipv6(address)) => Some(("host".into(), address.to_string())),
            _ => None,
        };
        let others: Vec<_> = address.into_iter().chain(given).collect();
        if others.is_empty() {
            url.set_query(None);
        } else {
            url.query_pairs_mut().clear().extend_pairs(others);
        }
        let options = PgConnectOptions::from_url(&url).map_err(|error| wrong(error.to_string()))?;
        let options = match mode {
            Some(_) => options,
            None if is_this_machine(&options) => options.ssl_mode(PgSslMode::Prefer),
            None => options.ssl_mode(PgSslMode::VerifyFull),
        };
        let options = options
            .statement_cache_capacity(0)
            // Poolers refuse parameters that they do not know.
            .extra_float_digits(None)
            .application_name("customer-import")
            .disable_statement_logging();
        Ok(Server { name: shown, schema, options })
    }

    /// The options of a connection.
    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// The name of the schema.
    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// The SQL text with the quoted name of the schema inserted.
    pub(super) fn with_schema(&self, sql: &str) -> String {
        sql.replace("{schema}", &format!("\"{}\"", self.schema.replace('"', "\"\"")))
    }
}

/// Whether a schema can have the name. Names that begin with `pg_` are the server's own, and `$user` is not a name in the
/// search path.
fn is_name_of_schema(name: &str) -> bool {
    let is_reserved = name.starts_with("pg_") || name == "$user";
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains('\0') && !is_reserved
}

/// Whether the traffic stays on this machine.
fn is_this_machine(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl PartialEq for Server {
    fn eq(&self, other: &Server) -> bool {
        self.name == other.name
    }
}

impl Eq for Server {}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Without the options, which contain the password.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_brackets_is_no_name() {
        let host = |url: &str| Server::parse(url, Password::Refused).unwrap().options.get_host().to_owned();
        assert_eq!(host("postgres://u@[::1]:5433/d?schema=x"), "::1");
        assert_eq!(host("postgres://u@[2001:db8::7]/d?sslmode=require"), "2001:db8::7");
        assert_eq!(host("postgres://u@[::1]/d?host=db.internal"), "db.internal");
    }

    fn mode(url: &str) -> String {
        format!("{:?}", Server::parse(url, Password::Refused).unwrap().options.get_ssl_mode())
    }

    #[test]
    fn what_leaves_the_machine_is_encrypted_to_who_it_is_meant_for() {
        assert_eq!(mode("postgres://u@db.internal/d"), "VerifyFull");
        assert_eq!(mode("postgres://u@10.0.0.1/d?schema=x"), "VerifyFull");
        assert_eq!(mode("postgres://u@db.internal/d?sslmode=require"), "Require");
        for local in ["localhost", "127.0.0.1", "[::1]", "%2Frun%2Fpostgresql"] {
            assert_eq!(mode(&format!("postgres://u@{local}/d")), "Prefer", "{local}");
        }
    }

    #[test]
    fn a_password_is_taken_from_the_environment_alone_and_never_shown() {
        let url = "postgres://u:geheim@db.internal/d?schema=a%22b";
        let refused = Server::parse(url, Password::Refused).unwrap_err();
        let server = Server::parse(url, Password::Allowed).unwrap();
        for shown in [refused.to_string(), server.to_string(), format!("{server:?} {refused:?}")] {
            assert!(!shown.contains("geheim"), "{shown}");
        }
        assert_eq!(
            server.with_schema("set local search_path to {schema}"),
            "set local search_path to \"a\"\"b\""
        );
        let wrong = Server::parse("postgres://u@h/d?password=geheim", Password::Refused).unwrap_err();
        assert!(!wrong.to_string().contains("geheim"), "{wrong}");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (url, word) in [
            ("postgres://u@h/d?shema=x", "shema"),
            ("postgres://u@h/d?schema=", "schema"),
            ("postgres://u@h/d?schema=pg_temp", "schema"),
            ("postgres://u@h/d?schema=%24user", "schema"),
            ("postgres://u:12/3@h/d", "%2F"),
            ("postgres://u@h:x/d", "port"),
            ("postgres://u@h/d?sslmode=perhaps", "perhaps"),
        ] {
            let wrong = Server::parse(url, Password::Refused).unwrap_err();
            assert!(wrong.to_string().contains(word), "{wrong}");
        }
    }
}
