//! What a run finds out about customers that the API has already: which fields differ, and of which nothing tells
//! who created them.
//!
//! Counts only, never a value. They are committed together with the rows that they are about.

use sqlx::Row as _;

use super::{Error, Reader, sqlite::store::Store};
use crate::customer::{Changed, Field, Fields};

/// Rows by note; beside these the notes are names of fields.
const DIFFERING: &str = "differing";
const UNCERTAIN: &str = "uncertain";
const RESPELLED: &str = "respelled";

const COUNT_NOTE: &str = "
    insert into existing_note (run, note, rows) values (?1, ?2, ?3)
    on conflict (run, note) do update set rows = rows + excluded.rows";

const SELECT_NOTES: &str = "select note, rows from existing_note where run = ?1";

const SELECT_RESPELLED: &str = "
    select line, api_reference from row where api_reference is not null and run = ?1 order by line limit ?2";

/// Customers that were at the API already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExistingCounts {
    /// Rows whose customer had other fields.
    pub differing: u64,
    /// In how many of them each field was another one.
    pub fields: Changed,
    /// Rows of which nothing tells whether a Create of ours made the customer.
    pub uncertain: u64,
    /// Rows whose reference the API spells in another way.
    pub respelled: u64,
}

impl ExistingCounts {
    /// Counts a row whose customer has something else in these fields.
    pub(super) fn add(&mut self, fields: Fields) {
        self.differing += u64::from(!fields.is_empty());
        self.fields.add(fields);
    }

    /// Counts the rows of both.
    pub fn merge(&mut self, other: &ExistingCounts) {
        self.differing += other.differing;
        self.uncertain += other.uncertain;
        self.respelled += other.respelled;
        self.fields = self.fields.iter().chain(other.fields.iter()).collect();
    }

    fn notes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let fields = self.fields.iter().map(|(field, rows)| (field.name(), rows));
        let totals = [(DIFFERING, self.differing), (UNCERTAIN, self.uncertain), (RESPELLED, self.respelled)];
        totals.into_iter().chain(fields).filter(|(_, rows)| *rows > 0).collect::<Vec<_>>().into_iter()
    }
}

impl Store {
    /// Inside the transaction of a commit.
    pub(super) async fn count_existing(&mut self, run: i64, count: &ExistingCounts) -> Result<(), Error> {
        for (note, rows) in count.notes() {
            self.execute(sqlx::query(COUNT_NOTE).bind(run).bind(note).bind(rows as i64)).await?;
        }
        Ok(())
    }
}

impl Reader {
    /// What a run found out about customers that existed.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn existing_counts(&mut self, run: i64) -> Result<ExistingCounts, Error> {
        let rows = self.all(sqlx::query(SELECT_NOTES).bind(run)).await?;
        let notes: Vec<(&str, u64)> =
            rows.iter().map(|row| (row.get(0), row.get::<i64, _>(1).max(0) as u64)).collect();
        let of = |wanted: &str| notes.iter().find(|(note, _)| *note == wanted).map_or(0, |(_, rows)| *rows);
        Ok(ExistingCounts {
            differing: of(DIFFERING),
            uncertain: of(UNCERTAIN),
            respelled: of(RESPELLED),
            fields: notes.iter().filter_map(|(note, rows)| Some((Field::from_name(note)?, *rows))).collect(),
        })
    }

    /// The first rows of a run whose reference the API spells in another way: line, and the API's spelling.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn respelled_references(&mut self, run: i64, most: u32) -> Result<Vec<(u64, String)>, Error> {
        let rows = self.all(sqlx::query(SELECT_RESPELLED).bind(run).bind(most)).await?;
        Ok(rows.iter().map(|row| (row.get::<i64, _>(0).max(0) as u64, row.get(1))).collect())
    }
}
