//! What went wrong in a run, by kind: how many rows, and where the first of them stand.
//!
//! Rows are counted where they stand now: a row that a later run has settled belongs to that run. They are
//! read one by one and counted here: SQLite would sort all of them to find the first lines of each kind,
//! and over a million rows that query alone took 5.0 s, reading them 1.4 s. Memory is bounded: an API that
//! invents a code for each row gets no more kinds than there is room for.

use std::collections::HashMap;

use sqlx::{Row as _, sqlite::SqliteRow};

use super::{
    super::{Error, Outcome},
    reader::Reader,
};

const SELECT_ERRORS: &str = "
    select id, line, outcome, field, error_code, http_status
    from every_row where run = ?1 and customer_id is null
    union all
    select row, line, outcome, null, error_code, http_status from outdated where run = ?1";

/// What was said of these rows, and what they are.
const SELECT_WORDS: &str = "
    select row.id, iif(outdated.row is null, row.error_message, outdated.error_message), record.cells
    from json_each(?1) asked join row on row.id = asked.value
    left join outdated on outdated.row = row.id left join record on record.row = row.id";

/// More kinds are not told apart.
const KINDS_MAX: usize = 1000;

/// How many lines of each kind are named.
const FIRST_LINES: usize = 5;

/// Rows that went wrong in the same way.
#[derive(Clone, Debug)]
pub struct ErrorGroup {
    /// What became of them.
    pub outcome: Outcome,
    /// The fields at fault of an invalid row, joined by `;` as are their rules.
    pub field: Option<String>,
    /// The API's code, the rules' words, or ours.
    pub code: Option<String>,
    /// The HTTP status of the last answer.
    pub http_status: Option<u16>,
    /// How many.
    pub rows: u64,
    /// Where the first of them stand.
    pub first_lines: Vec<u64>,
    /// What was said of the first.
    pub message: Option<String>,
    /// The raw cells of the first, where they are kept: the message may quote them.
    pub cells: Option<Vec<String>>,
}

/// What makes two errors of one kind.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Kind {
    outcome: String,
    field: Option<String>,
    code: Option<String>,
    http_status: Option<i64>,
}

#[derive(Default)]
struct Count {
    rows: u64,
    /// Line and id, the first lines in order.
    first: Vec<(i64, i64)>,
}

impl Count {
    fn add(&mut self, line: i64, id: i64) {
        self.rows += 1;
        if self.first.len() == FIRST_LINES && self.first.last().is_some_and(|last| *last < (line, id)) {
            return;
        }
        let at = self.first.partition_point(|earlier| *earlier < (line, id));
        self.first.insert(at, (line, id));
        self.first.truncate(FIRST_LINES);
    }
}

impl Reader {
    /// What went wrong in this run, the most frequent first.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn error_groups(&mut self, run: i64) -> Result<Vec<ErrorGroup>, Error> {
        let mut kinds: HashMap<Kind, Count> = HashMap::new();
        let count = |row: &SqliteRow| {
            let (outcome, field, code) = (row.get(2), row.get(3), row.get(4));
            let kind = Kind { outcome, field, code, http_status: row.get(5) };
            if kinds.len() < KINDS_MAX || kinds.contains_key(&kind) {
                kinds.entry(kind).or_default().add(row.get(1), row.get(0));
            }
            true
        };
        self.each(sqlx::query(SELECT_ERRORS).bind(run), count).await?;
        let mut kinds: Vec<(Kind, Count)> = kinds.into_iter().collect();
        // The same order each time, also among kinds of the same size.
        kinds.sort_by(|(a, one), (b, other)| other.rows.cmp(&one.rows).then_with(|| a.cmp(b)));
        let ids: Vec<i64> = kinds.iter().filter_map(|(_, count)| Some(count.first.first()?.1)).collect();
        let ids = serde_json::to_string(&ids).unwrap_or_default();
        let words = self.all(sqlx::query(SELECT_WORDS).bind(ids)).await?;
        let mut words: HashMap<i64, &SqliteRow> = words.iter().map(|row| (row.get(0), row)).collect();
        Ok(kinds.into_iter().map(|(kind, count)| group(kind, &count, &mut words)).collect())
    }
}

fn group(kind: Kind, count: &Count, words: &mut HashMap<i64, &SqliteRow>) -> ErrorGroup {
    let words = count.first.first().and_then(|(_, id)| words.remove(id));
    let cells = words.and_then(|row| row.get::<Option<&str>, _>(2));
    ErrorGroup {
        outcome: Outcome::from_name(&kind.outcome).unwrap_or(Outcome::Pending),
        field: kind.field,
        code: kind.code,
        http_status: kind.http_status.and_then(|status| status.try_into().ok()),
        rows: count.rows,
        first_lines: count.first.iter().map(|(line, _)| line.max(&0).unsigned_abs()).collect(),
        message: words.and_then(|row| row.get(1)),
        cells: cells.and_then(|cells| serde_json::from_str(cells).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_are_found_in_any_order() {
        for lines in [[1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1], [4, 7, 1, 6, 2, 5, 3]] {
            let mut count = Count::default();
            lines.iter().for_each(|line| count.add(*line, line + 100));
            assert_eq!((count.rows, count.first.len()), (7, FIRST_LINES));
            assert!(count.first.iter().zip(1..).all(|(first, line)| *first == (line, line + 100)));
        }
    }
}
