//! Reading what `retry` sends again: rows that did not succeed, with the raw cells that were kept of them.
//!
//! Read page by page and never in one long look, so that SQLite's log does not grow while the run that reads
//! also writes. A row is given once: pages go by id, and a row keeps its own whatever becomes of it.

use sqlx::Row as _;

use super::{
    super::{Error, Outcome},
    reader::Reader,
};

/// Also what is in doubt, and what an earlier run took up and left open: the run has asked about those before they
/// are claimed, and what Get does not find is sent like the others. Which ones are wanted goes by what they were.
const SELECT_RECORDED: &str = "
    with owed (id, line, columns_of, cells, outcome, error_code) as (
        select record.row, row.line, coalesce(record.run, row.run), record.cells, coalesce(row.was->>0, row.outcome),
               iif(row.was is null, row.error_code, row.was->>8)
        from record cross join row on row.id = record.row left join outdated on outdated.row = row.id
        where record.row > ?1 and outdated.row is null and (row.outcome in ('failed', 'rejected')
            or row.outcome = 'pending' and (row.in_doubt or row.owed))
        union all
        select outdated.row, outdated.line, coalesce(record.run, row.run), record.cells,
               coalesce(outdated.was->>0, outdated.outcome),
               iif(outdated.was is null, outdated.error_code, outdated.was->>8)
        from outdated cross join row on row.id = outdated.row cross join record on record.row = outdated.row
        where outdated.row > ?1 and (outdated.outcome in ('failed', 'rejected') or outdated.owed))
    select id, line, columns_of, cells from owed
    where outcome = 'pending' or (?2 is null or outcome = ?2) and (?3 is null or lower(error_code) = ?3)
    order by id limit ?4";

/// What there is to retry, whether or not its cells are still there.
const COUNT_RECORDED: &str = "
    with stuck (id, outcome, error_code) as (
        select id, coalesce(was->>0, outcome), iif(was is null, error_code, was->>8) from row
        where customer_id is null and outcome in ('failed', 'rejected', 'pending')
            and (outcome <> 'pending' or was is not null)
        union all
        select row, coalesce(was->>0, outcome), iif(was is null, error_code, was->>8) from outdated
        where outcome in ('failed', 'rejected') or was is not null)
    select outcome, coalesce(error_code, ''), count(*), count(record.row)
    from stuck left join record on record.row = stuck.id
    group by 1, 2 order by 3 desc, 2";

const SELECT_READINGS: &str = "
    select id, columns, reference_column, reading from run
    where id in (select coalesce(record.run, row.run) from record join row on row.id = record.row)";

/// Which of the rows that did not succeed are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryFilter {
    /// Only those that failed, or only those that were rejected.
    pub outcome: Option<Outcome>,
    /// Only those with this code, in lower case: codes are compared without regard to it.
    pub error_code: Option<String>,
}

impl RetryFilter {
    /// Whether rows of this kind are.
    pub fn takes(&self, stuck: &RetryableCount) -> bool {
        self.outcome.is_none_or(|outcome| outcome == stuck.outcome)
            && self.error_code.as_ref().is_none_or(|code| *code == stuck.error_code.to_lowercase())
    }
}

/// How many rows ended alike.
#[derive(Clone, Debug)]
pub struct RetryableCount {
    /// Failed or rejected.
    pub outcome: Outcome,
    /// The code; empty where there was none.
    pub error_code: String,
    /// How many rows.
    pub rows: u64,
    /// Of how many of them the cells are kept.
    pub kept: u64,
}

/// A row that did not succeed, as it was read.
#[derive(Debug)]
pub struct RetryRow {
    /// Its id in the ledger.
    pub id: i64,
    /// Physical line in its own source.
    pub line: u64,
    /// The run whose columns the cells are by.
    pub columns_of: i64,
    /// The raw cells.
    pub cells: Vec<String>,
}

/// How the records of a run became customers.
#[derive(Debug)]
pub struct RowMapping {
    /// The run.
    pub run: i64,
    /// Its columns.
    pub columns: Vec<String>,
    /// The one that holds the references.
    pub reference_column: Option<String>,
    /// The rest, in the words of `source`; none where a version before kept nothing.
    pub rest: Option<String>,
}

impl Reader {
    /// The next wanted rows behind this id.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn retry_rows(
        &mut self,
        wanted: &RetryFilter,
        after: i64,
        most: u32,
    ) -> Result<Vec<RetryRow>, Error> {
        let query = sqlx::query(SELECT_RECORDED).bind(after).bind(wanted.outcome.map(Outcome::name));
        let rows = self.all(query.bind(wanted.error_code.clone()).bind(most)).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| RetryRow {
            id: row.get(0),
            line: row.get::<i64, _>(1) as u64,
            columns_of: row.get(2),
            cells: serde_json::from_str(row.get(3)).unwrap_or_default(),
        };
        Ok(rows.iter().map(read).collect())
    }

    /// What there is to retry, the most frequent first.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn retryable_counts(&mut self) -> Result<Vec<RetryableCount>, Error> {
        let rows = self.all(sqlx::query(COUNT_RECORDED)).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| RetryableCount {
            outcome: Outcome::from_name(row.get(0)).unwrap_or(Outcome::Failed),
            error_code: row.get(1),
            rows: row.get::<i64, _>(2) as u64,
            kept: row.get::<i64, _>(3) as u64,
        };
        Ok(rows.iter().map(read).collect())
    }

    /// How each run read its records.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn row_mappings(&mut self) -> Result<Vec<RowMapping>, Error> {
        let rows = self.all(sqlx::query(SELECT_READINGS)).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| RowMapping {
            run: row.get(0),
            columns: serde_json::from_str(row.get(1)).unwrap_or_default(),
            reference_column: row.get(2),
            rest: row.get(3),
        };
        Ok(rows.iter().map(read).collect())
    }
}
