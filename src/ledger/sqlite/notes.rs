//! What a run notes of itself beside its rows: the options it runs with, and its samples.
//!
//! Notes wait here until a transaction is made anyway and go along with it: a run over time costs no fsync
//! of its own, and a crash loses the last sample and the one under way at most. Holds the SQL of these tables,
//! both ways. What is read back may have been written by anyone with a SQLite client: what does not fit is zero, no panic.

use std::time::Duration;

use sqlx::{Row as _, sqlite::SqliteRow};

use super::{
    super::{Error, Latencies, RequestCounts, Sample, Unwritten},
    reader::Reader,
    store::Store,
};
use crate::customer::{Changed, Dropped, Field, Rule};

const KEEP_SETTINGS: &str = "
    insert into setting (run, position, name, value, origin)
    select ?2, key, value->>0, value->>1, value->>2 from json_each(?1)";

const DROP_SAMPLES: &str = "delete from sample where run = ?1 and number >= ?2";

const KEEP_SAMPLES: &str = "
    insert into sample (run, number, from_ms, to_ms, succeeded, faulty, failed, requests, retries, throttled,
                        in_flight, held_rate, latencies)
    select ?2, ?3 + key, value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6,
           value->>7, value->>8, value->>9, value->10
    from json_each(?1)";

const SELECT_DROPPED: &str = "select field, rule, rows from dropped where run = ?1";

const SELECT_CHANGED: &str = "select field, rows from changed where run = ?1";

const SELECT_ABSENT: &str = "select absent from run where id = ?1";

const HAS_TABLE: &str = "select 1 from sqlite_schema where name = ?1";

const SELECT_SETTINGS: &str = "select name, value, origin from setting where run = ?1 order by position";

const SELECT_SAMPLES: &str = "
    select from_ms, to_ms, succeeded, faulty, failed, requests, retries, throttled, in_flight, held_rate,
           latencies
    from sample where run = ?1 order by number";

/// An option that a run was begun with; never a secret.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Setting {
    /// Its long name.
    pub name: String,
    /// As text.
    pub value: String,
    /// `flag`, `default`, a variable of the environment, or a file and its line.
    pub origin: String,
}

/// What waits for the next transaction.
#[derive(Default)]
pub(crate) struct Notes {
    settings: Vec<Setting>,
    samples: Vec<Unwritten>,
}

impl Store {
    pub(crate) fn note_settings(&mut self, settings: &[Setting]) {
        self.notes.settings = settings.to_vec();
    }

    pub(crate) fn note_samples(&mut self, samples: Unwritten) {
        self.notes.samples.push(samples);
    }

    /// Writes what is noted; inside a transaction.
    pub(crate) async fn write_notes(&mut self, run: i64) -> Result<(), Error> {
        let Notes { settings, samples } = std::mem::take(&mut self.notes);
        if !settings.is_empty() {
            let rows: Vec<_> = settings.iter().map(|told| (&told.name, &told.value, &told.origin)).collect();
            self.execute(sqlx::query(KEEP_SETTINGS).bind(json(&rows)).bind(run)).await?;
        }
        for Unwritten { from, samples } in samples {
            let from = from as i64;
            self.execute(sqlx::query(DROP_SAMPLES).bind(run).bind(from)).await?;
            let rows: Vec<_> = samples.iter().map(cells).collect();
            self.execute(sqlx::query(KEEP_SAMPLES).bind(json(&rows)).bind(run).bind(from)).await?;
        }
        Ok(())
    }
}

impl Reader {
    /// The options that a run was begun with, in the order of its help; none for a run of an earlier
    /// version, or one that died before its first commit.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn settings(&mut self, run: i64) -> Result<Vec<Setting>, Error> {
        let rows = self.of_run("setting", SELECT_SETTINGS, run).await?;
        let read = |row: &SqliteRow| Setting { name: row.get(0), value: row.get(1), origin: row.get(2) };
        Ok(rows.iter().map(read).collect())
    }

    /// How a run went over time.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn samples(&mut self, run: i64) -> Result<Vec<Sample>, Error> {
        Ok(self.of_run("sample", SELECT_SAMPLES, run).await?.iter().map(read_sample).collect())
    }

    /// What the rows of a run went without.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn dropped(&mut self, run: i64) -> Result<Dropped, Error> {
        let mut dropped = Dropped::default();
        for row in self.of_run("dropped", SELECT_DROPPED, run).await? {
            if let (Some(field), Some(rule)) = (Field::from_name(row.get(0)), Rule::from_name(row.get(1))) {
                dropped.count(field, rule, row.get::<i64, _>(2).max(0) as u64);
            }
        }
        Ok(dropped)
    }

    /// In which fields the rows of a run differ from what was imported, and how many imported rows its source did
    /// not name; `None` where that is not known.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn field_changes(&mut self, run: i64) -> Result<(Changed, Option<u64>), Error> {
        let changed = self.of_run("changed", SELECT_CHANGED, run).await?;
        let read = |row: &SqliteRow| {
            Field::from_name(row.get(0)).map(|field| (field, row.get::<i64, _>(1).max(0) as u64))
        };
        // The column came with that table.
        let absent = match self.of_run("changed", SELECT_ABSENT, run).await?.first() {
            Some(row) => row.get::<Option<i64>, _>(0).map(|absent| absent.max(0) as u64),
            None => None,
        };
        Ok((changed.iter().filter_map(read).collect(), absent))
    }

    /// A ledger that no run of this version has written to yet may not have the table.
    async fn of_run(&mut self, table: &str, sql: &'static str, run: i64) -> Result<Vec<SqliteRow>, Error> {
        if self.all(sqlx::query(HAS_TABLE).bind(table)).await?.is_empty() {
            return Ok(Vec::new());
        }
        self.all(sqlx::query(sql).bind(run)).await
    }
}

/// A sample as a row of the bulk statement.
fn cells(sample: &Sample) -> impl serde::Serialize {
    let Sample { from, to, succeeded, faulty, failed, figures, in_flight, held_rate, latencies } = sample;
    let RequestCounts { requests, retries, throttled } = *figures;
    let latencies: Vec<_> = latencies.counts().collect();
    let (from, to) = (from.as_millis() as u64, to.as_millis() as u64);
    (from, to, *succeeded, *faulty, *failed, requests, retries, throttled, *in_flight, *held_rate, latencies)
}

fn json(rows: &impl serde::Serialize) -> String {
    // Numbers and text in memory have nothing to fail with.
    serde_json::to_string(rows).unwrap_or_default()
}

fn read_sample(row: &SqliteRow) -> Sample {
    let count = |at: usize| row.get::<i64, _>(at).max(0) as u64;
    let latencies: Vec<(u16, u64)> = serde_json::from_str(row.get(10)).unwrap_or_default();
    Sample {
        from: Duration::from_millis(count(0)),
        to: Duration::from_millis(count(1)),
        succeeded: count(2),
        faulty: count(3),
        failed: count(4),
        figures: RequestCounts { requests: count(5), retries: count(6), throttled: count(7) },
        in_flight: count(8),
        held_rate: row.get(9),
        latencies: Latencies::from_counts(latencies),
    }
}
