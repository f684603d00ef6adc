//! The rows of results of SQLite.

use sqlx::{Row as _, sqlite::SqliteRow};

use super::super::rows::ResultRow;

pub(super) type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

impl ResultRow for SqliteRow {
    fn integer(&self, at: usize) -> Option<i64> {
        self.get(at)
    }

    fn real(&self, at: usize) -> Option<f64> {
        self.get(at)
    }

    fn flag(&self, at: usize) -> bool {
        self.get(at)
    }

    fn word(&self, at: usize) -> Option<&str> {
        self.get(at)
    }

    fn text(&self, at: usize) -> Option<String> {
        self.get(at)
    }

    fn bytes(&self, at: usize) -> Option<&[u8]> {
        self.get(at)
    }

    fn has(&self, at: usize) -> bool {
        at < self.len()
    }
}
