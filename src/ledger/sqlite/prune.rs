//! Taking out what is old: runs, what is known of them alone, and raw cells of rows that are settled. Ids stay.
//!
//! Rows outlive their runs: those of a run that goes are handed to a stand-in, run 0, that no list shows. A row that
//! failed or was rejected keeps its reference and its trouble, so that a rerun does what it would have done; only its
//! cells go. What was invalid or a duplicate owned no reference, and goes with its run.
//!
//! A row that is pending, or that a run took up again and left open, is still to be sent: its cells stay, and with them
//! the run by whose columns they are read.

use std::path::Path;

use sqlx::{AssertSqlSafe, Row as _};

use super::{
    super::{Error, reference_index::ReferenceIndex},
    lock_file::{check_ours, lock},
    store::Store,
};

/// The run that rows are handed to whose own is gone.
pub(crate) const STAND_IN: i64 = 0;

/// Runs that ended before; the stand-in is as old as can be.
const SELECT_OLD: &str = "
    select json_group_array(id) from run where state <> 'running' and coalesce(ended_at, started_at) < ?1";

/// Cells of rows that came to their end in such runs: not of one that was created long ago and whose Update was
/// refused yesterday, nor of one that a later run has read again.
const DELETE_RECORDS: &str = "
    delete from record where row in (
        select row.id from record join row on row.id = record.row left join outdated on outdated.row = row.id
        where coalesce(outdated.run, row.run) in (select value from json_each(?1))
        and coalesce(record.run, row.run) in (select value from json_each(?1))
        and coalesce(outdated.outcome, row.outcome) <> 'pending' and not coalesce(outdated.owed, row.owed))";

/// Those of them that go: all but those by whose columns cells are read that stay.
const SELECT_RUNS: &str = "
    select json_group_array(value), count(*) from json_each(?1)
    where value > 0 and value not in (
        select coalesce(record.run, row.run) from record join row on row.id = record.row)";

const MAKE_STAND_IN: &str = "
    insert or ignore into run (id, command, source, columns, reference_column, state, started_at)
    values (0, 'import', 'pruned runs', json_array('object_reference_id'), 'object_reference_id', 'completed', 0)";

const DELETE_UNOWNED: &str = "
    delete from row where outcome in ('invalid', 'duplicate') and run in (select value from json_each(?1))";

/// A number is given to one run only.
const KEEP_NUMBERS: &str = "
    update run set last_line = max(last_line, (select coalesce(max(value), 0) from json_each(?1))) where id = 0";

const HAND_OVER_ROWS: &str = "update row set run = 0 where run in (select value from json_each(?1))";

/// Those of a run that stays, too: by the stand-in it is known whose cells are gone.
const HAND_OVER_EMPTIED: &str = "
    update row set run = 0
    where customer_id is null and outcome in ('rejected', 'failed') and run > 0
    and run in (select value from json_each(?1)) and id not in (select row from record)";

const HAND_OVER_CORRECTED: &str = "
    update row set corrected_by = 0 where corrected_by in (select value from json_each(?1))";

const HAND_OVER_OUTDATED: &str = "update outdated set run = 0 where run in (select value from json_each(?1))";

/// Whatever else refers to a run is known of that run alone: a statement for each such table.
const DELETIONS: &str = "
    select format('delete from [%s] where [%s] in (select value from json_each(?1))', tables.name, key.[from])
    from sqlite_schema tables, pragma_foreign_key_list(tables.name) key
    where tables.type = 'table' and key.[table] = 'run'
    and tables.name not in ('row', 'record', 'outdated', 'claim_batch', 'checkpoint')";

/// Their rows have another run now, and a run that went on behind them could not tell which it had read.
const DELETE_CHECKPOINTS: &str = "delete from checkpoint";

const DELETE_RUNS: &str = "delete from run where id in (select value from json_each(?1))";

const VACUUM: &str = "vacuum";

/// What was taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Runs.
    pub runs: u64,
    /// Rows whose cells are gone.
    pub records: u64,
    /// Invalid rows and duplicates.
    pub rows: u64,
    /// The file's size before and after, in bytes.
    pub bytes: (u64, u64),
}

impl Pruned {
    /// Whether there was nothing to take out.
    pub fn is_nothing(&self) -> bool {
        (self.runs, self.records, self.rows) == (0, 0, 0)
    }
}

/// Takes out what ended before this time (UTC milliseconds) and gives the room back.
///
/// # Errors
/// Where there is no ledger, a run has it, or it cannot be written; then nothing is taken out.
pub async fn prune(path: &Path, before: i64, now: i64) -> Result<Pruned, Error> {
    let real = path.canonicalize();
    let path = real.as_deref().unwrap_or(path);
    if !check_ours(path)? {
        return Err(Error::Missing(path.into()));
    }
    let _lock = lock(path)?;
    let size = || std::fs::metadata(path).map_or(0, |data| data.len());
    let mut store = Store::open(path, true).await?;
    store.bury_dead_runs(now).await?;
    // Ids are not given again, also where the last rows go: all of them count as known from here on.
    let mut recent = ReferenceIndex::default();
    store.recent_keys(|key, id| recent.insert(key, id)).await?;
    store.merge_keys(&mut recent).await?;
    let last = store.last_row().await?;
    store.raise_watermark(last).await?;
    let began = size();
    let mut pruned = store.take_out(before).await?;
    if !pruned.is_nothing() {
        store.execute(sqlx::query(VACUUM)).await?;
    }
    store.close().await?;
    pruned.bytes = (began, size());
    Ok(pruned)
}

impl Store {
    async fn take_out(&mut self, before: i64) -> Result<Pruned, Error> {
        self.begin().await?;
        let old = self.all(sqlx::query(SELECT_OLD).bind(before)).await?;
        let old: String = old.first().map_or_else(|| "[]".to_owned(), |row| row.get(0));
        let records = self.execute(sqlx::query(DELETE_RECORDS).bind(&old)).await?;
        let rows = self.execute(sqlx::query(DELETE_UNOWNED).bind(&old)).await?;
        let gone = self.all(sqlx::query(SELECT_RUNS).bind(&old)).await?;
        let (gone, runs) =
            gone.first().map_or(("[]".to_owned(), 0), |row| (row.get(0), row.get::<i64, _>(1)));
        let pruned = Pruned { runs: runs as u64, records, rows, bytes: (0, 0) };
        if !pruned.is_nothing() {
            self.execute(sqlx::query(MAKE_STAND_IN)).await?;
            self.execute(sqlx::query(HAND_OVER_EMPTIED).bind(&old)).await?;
            for sql in [KEEP_NUMBERS, HAND_OVER_ROWS, HAND_OVER_CORRECTED, HAND_OVER_OUTDATED] {
                self.execute(sqlx::query(sql).bind(&gone)).await?;
            }
            for deletion in self.all(sqlx::query(DELETIONS)).await? {
                let sql: String = deletion.get(0);
                self.execute(sqlx::query(AssertSqlSafe(sql)).bind(&gone)).await?;
            }
            self.execute(sqlx::query(DELETE_CHECKPOINTS)).await?;
            self.execute(sqlx::query(DELETE_RUNS).bind(&gone)).await?;
        }
        self.commit().await?;
        Ok(pruned)
    }
}
