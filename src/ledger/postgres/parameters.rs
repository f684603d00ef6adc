//! Statements with their parameters, and the conversion of values for Postgres.
//!
//! Postgres cannot store U+0000 in a text. Cells, messages and names may contain it, so it is stored as U+FDD0, a
//! noncharacter that Unicode reserves for internal use.
//!
//! Pure: the store decides which statements are run, and when.

use std::borrow::Cow;

use sqlx::{Arguments as _, Encode, Postgres, Type, error::BoxDynError, postgres::PgArguments};

use super::super::model::RowId;

/// The character that is stored in place of U+0000.
const NUL: char = '\u{fdd0}';

/// A statement with its parameters; it may be repeated after a disconnect.
pub(super) struct Statement {
    pub(super) sql: &'static str,
    arguments: PgArguments,
    error: Option<BoxDynError>,
    /// The number of rows that the statement must change; any other number means that another process has taken the
    /// ledger over.
    pub(super) must_change: Option<u64>,
    /// Whether the last parameter says if other workers may count as dead; it is set when the statement is executed.
    is_about_others: bool,
}

impl Statement {
    pub(super) fn new(sql: &'static str) -> Statement {
        Statement {
            sql,
            arguments: PgArguments::default(),
            error: None,
            must_change: None,
            is_about_others: false,
        }
    }

    /// Adds a parameter.
    pub(super) fn bind<'t, T: Encode<'t, Postgres> + Type<Postgres>>(mut self, value: T) -> Statement {
        if let Err(error) = self.arguments.add(value) {
            self.error = Some(error);
        }
        self
    }

    /// Adds a text.
    pub(super) fn text(self, text: &str) -> Statement {
        self.bind(without_nul(text))
    }

    /// Adds a text, if there is one.
    pub(super) fn some_text(self, text: Option<&str>) -> Statement {
        self.bind(text.map(without_nul))
    }

    /// Adds rows as JSON, from which the server extracts the texts.
    pub(super) fn json(self, rows: &str) -> Statement {
        self.bind(json_without_nul(rows))
    }

    /// Adds ids.
    pub(super) fn ids(self, ids: &[RowId]) -> Statement {
        self.bind(ids.iter().map(|id| id.0).collect::<Vec<i64>>())
    }

    /// Requires that the statement changes this number of rows.
    pub(super) fn changing(self, rows: u64) -> Statement {
        Statement { must_change: Some(rows), ..self }
    }

    /// Adds, as the last parameter, whether other workers may count as dead when the statement is executed.
    pub(super) fn about_others(self) -> Statement {
        Statement { is_about_others: true, ..self }
    }

    /// The parameters for one execution.
    pub(super) fn arguments(&self, may_declare_dead: bool) -> Result<PgArguments, sqlx::Error> {
        if let Some(error) = &self.error {
            return Err(sqlx::Error::Encode(error.to_string().into()));
        }
        let mut arguments = self.arguments.clone();
        if self.is_about_others {
            arguments.add(may_declare_dead).map_err(sqlx::Error::Encode)?;
        }
        Ok(arguments)
    }
}

/// The text in a form that Postgres can store.
pub(super) fn without_nul(text: &str) -> Cow<'_, str> {
    match memchr::memchr(0, text.as_bytes()) {
        None => Cow::Borrowed(text),
        Some(_) => Cow::Owned(text.replace('\0', NUL.encode_utf8(&mut [0; 4]))),
    }
}

/// The original text.
pub(super) fn with_nul(text: String) -> String {
    if text.contains(NUL) { text.replace(NUL, "\0") } else { text }
}

/// JSON in a form whose texts Postgres can store: replaces each escaped U+0000.
fn json_without_nul(json: &str) -> Cow<'_, str> {
    const ESCAPED: &str = "\\u0000";
    if !json.contains(ESCAPED) {
        return Cow::Borrowed(json);
    }
    let mut changed = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        changed.push_str(&rest[..at]);
        rest = &rest[at..];
        // An escape has two characters; the `u` of one is followed by four more, none of which is a backslash.
        let length = if rest.starts_with(ESCAPED) { ESCAPED.len() } else { 2.min(rest.len()) };
        match &rest[..length] {
            ESCAPED => changed.push(NUL),
            other => changed.push_str(other),
        }
        rest = &rest[length..];
    }
    changed.push_str(rest);
    Cow::Owned(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_goes_there_and_comes_back() {
        assert_eq!(without_nul("plain"), "plain");
        assert_eq!(with_nul(without_nul("a\0b\0").into_owned()), "a\0b\0");
    }

    #[test]
    fn in_json_only_a_nul_is_changed() {
        for text in ["a\0b", "\\u0000", "\\\\u0000\0", "\"\\\0\"", "ü\n\t\\", "\0", "x"] {
            let json = serde_json::to_string(text).unwrap();
            let read: String = serde_json::from_str(&json_without_nul(&json)).unwrap();
            assert!(!read.contains('\0'), "{json}");
            assert_eq!(with_nul(read), text);
        }
    }
}
