//! Where the run before came to, as the ledger keeps it: written with the commits, read when a run begins.

use std::collections::HashMap;

use sqlx::{Row as _, sqlite::SqliteRow};

use super::{
    super::{Error, NewRun, Outcome, Tally, checkpoint::Checkpoint},
    store::{Query, Store},
};
use crate::customer::{Changed, Dropped, Field, Place, Proof, Rule};

/// Only of the last run of all: what another one has settled since is not in its tally.
const LAST_CHECKPOINT: &str = "
    select bytes, line, proof_bytes, proof_hash, tally, only_whole or exists (
        select 1 from dropped where dropped.run = run.id union all select 1 from changed where changed.run = run.id
    ), since
    from checkpoint join run on run.id = checkpoint.run
    where run.id = (select max(id) from run) and run.command = ?1 and run.source_path = ?2
    and checkpoint.way = ?3";

const INSERT_CHECKPOINT: &str = "insert into checkpoint (run, way) values (?1, ?2)";

const KEEP_CHECKPOINT: &str = "
    update checkpoint set bytes = ?2, line = ?3, proof_bytes = ?4, proof_hash = ?5, tally = ?6, only_whole = ?7,
        since = ?8
    where run = ?1";

/// Where each of the runs came to that went on one behind the other. Behind that they settled rows too, but of bytes
/// that may have changed before the next one read them.
const PLACES: &str = "select run, coalesce(line, 0) from checkpoint where run >= ?1 and run < ?2";

/// Invalid rows and duplicates in the part that is not read again go over to the run that counts them.
const TAKE_OVER: &str = "
    update row set run = ?1, settled_at = ?3 where customer_id is null and outcome in ('invalid', 'duplicate')
    and run >= ?2 and run < ?1 and line < (select line from checkpoint where checkpoint.run = row.run)";

const TAKE_OVER_RECORDS: &str = "
    update record set run = ?1 where row in (
        select id from row where customer_id is null and outcome in ('invalid', 'duplicate') and run = ?1)";

/// The source is the same to its end: so is what that run said of single fields.
const COPY_DROPPED: &str = "
    insert into dropped (run, field, rule, rows) select ?1, field, rule, rows from dropped
    where run = (select max(id) from run where id < ?1) returning field, rule, rows";

const COPY_CHANGED: &str = "
    insert into changed (run, field, rows) select ?1, field, rows from changed
    where run = (select max(id) from run where id < ?1) returning field, rows";

impl Store {
    /// Where the last run came to, if it read the same source in the same way.
    pub(crate) async fn last_checkpoint(&mut self, run: &NewRun<'_>) -> Result<Option<Checkpoint>, Error> {
        let query = sqlx::query(LAST_CHECKPOINT)
            .bind(run.command)
            .bind(run.source_path)
            .bind(run.parse_settings_hash);
        Ok(self.all(query).await?.first().and_then(read_checkpoint))
    }

    /// The run has come nowhere yet.
    pub(crate) async fn begin_checkpoint(&mut self, run: i64, way: &str) -> Result<(), Error> {
        self.execute(sqlx::query(INSERT_CHECKPOINT).bind(run).bind(way)).await.map(drop)
    }

    /// Inside a transaction: the run has come so far.
    pub(crate) async fn keep_checkpoint(&mut self, run: i64, reached: &Checkpoint) -> Result<(), Error> {
        self.execute(keep(run, reached)).await.map(drop)
    }

    /// For each run since then, the line that it came to.
    pub(crate) async fn places(&mut self, since: i64, run: i64) -> Result<HashMap<i64, u64>, Error> {
        let rows = self.all(sqlx::query(PLACES).bind(since).bind(run)).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get::<i64, _>(1) as u64)).collect())
    }

    /// The run begins where an earlier one came to; what that says of single fields.
    pub(crate) async fn skip(
        &mut self,
        run: i64,
        reached: &Checkpoint,
        now: i64,
    ) -> Result<(Dropped, Changed), Error> {
        self.begin().await?;
        let take_over = sqlx::query(TAKE_OVER).bind(run).bind(reached.since).bind(now);
        self.execute(take_over).await?;
        self.execute(sqlx::query(TAKE_OVER_RECORDS).bind(run)).await?;
        self.execute(keep(run, reached)).await?;
        let dropped = self.all(sqlx::query(COPY_DROPPED).bind(run)).await?;
        let changed = self.all(sqlx::query(COPY_CHANGED).bind(run)).await?;
        self.commit().await?;
        let mut by_rule = Dropped::default();
        for row in &dropped {
            if let (Some(field), Some(rule)) = (Field::from_name(row.get(0)), Rule::from_name(row.get(1))) {
                by_rule.count(field, rule, row.get::<i64, _>(2).max(0) as u64);
            }
        }
        let changed = changed
            .iter()
            .filter_map(|row| Some((Field::from_name(row.get(0))?, row.get::<i64, _>(1) as u64)));
        Ok((by_rule, changed.collect()))
    }
}

fn keep(run: i64, reached: &Checkpoint) -> Query<'static> {
    let Checkpoint { place, tally, is_only_whole, since } = reached;
    let counts = Outcome::ALL.map(|outcome| (outcome.name(), tally.get(outcome)));
    let counts: serde_json::Map<_, _> =
        counts.into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
    let proof = place.proof;
    sqlx::query(KEEP_CHECKPOINT)
        .bind(run)
        .bind(place.bytes as i64)
        .bind(place.line as i64)
        .bind(proof.map(|proof| proof.bytes as i64))
        .bind(proof.map(|proof| format!("{:032x}", proof.hash)))
        .bind(serde_json::Value::Object(counts).to_string())
        .bind(is_only_whole)
        .bind(since)
}

/// None where it came nowhere.
fn read_checkpoint(row: &SqliteRow) -> Option<Checkpoint> {
    let bytes: i64 = row.get::<Option<i64>, _>(0)?;
    let proof_bytes: Option<i64> = row.get(2);
    let hash = row.get::<Option<&str>, _>(3).and_then(|hash| u128::from_str_radix(hash, 16).ok());
    let proof = proof_bytes.zip(hash).map(|(bytes, hash)| Proof { bytes: bytes as u64, hash });
    let counts: serde_json::Map<_, _> = serde_json::from_str(row.get(4)).ok()?;
    let mut tally = Tally::default();
    for (name, count) in &counts {
        tally.0[Outcome::from_name(name)? as usize] = count.as_u64()?;
    }
    let place = Place { bytes: bytes as u64, line: row.get::<i64, _>(1) as u64, proof };
    Some(Checkpoint { place, tally, is_only_whole: row.get(5), since: row.get(6) })
}
