//! Which rows a run has met, by id, and which those were that an earlier run met.
//!
//! Most runs need this only while they go on. It is kept where the source had rows whose references could not be read:
//! when such a row comes back corrected, with a reference that is imported, it is either that customer's own row, or
//! another row of the same source, whose data must not be written over that customer's. What tells is whether the run
//! that found it faulty met the owner of the reference elsewhere. Where nothing tells, it is taken for another row.

use std::collections::HashMap;

use sqlx::Row as _;

use super::{
    Error, Ledger,
    sqlite::store::{KnownRow, Store},
};
use crate::customer::{Correction, Customer, Row};

const SELECT_UNREAD_OF: &str = "select 1 from row where other_cells is not null and run = ?1 limit 1";

const KEEP_MET: &str = "insert or replace into met (run, next_id, rows) values (?1, ?2, ?3)";

/// Of runs whose unread rows have all come back or gone.
const DELETE_MET: &str = "
    delete from met where not exists (
        select 1 from row where row.other_cells is not null and row.run = met.run)";

const SELECT_MET: &str = "select next_id, rows from met where run = ?1";

const SELECT_BEFORE: &str = "
    select next_id, rows from met where run = (select max(id) from run where id < ?1)";

/// The runs that found a row on one of these lines whose reference could not be read.
const SELECT_UNREAD: &str = "
    select line, run from row where other_cells is not null and run < ?2
    and line in (select value from json_each(?1))";

/// One bit for each row, by id.
#[derive(Default)]
pub(super) struct SeenRows(Vec<u64>);

impl SeenRows {
    /// Whether the row is marked.
    pub(super) fn has(&self, id: i64) -> bool {
        self.0.get(id as usize / 64).is_some_and(|word| word & 1 << (id % 64) != 0)
    }

    /// Marks the row; true if it was marked before.
    pub(super) fn mark(&mut self, id: i64) -> bool {
        let (word, bit) = (id as usize / 64, 1 << (id % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let was = self.0[word] & bit != 0;
        self.0[word] |= bit;
        was
    }

    /// Marks what is marked there.
    fn join(&mut self, other: &SeenRows) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        self.0.iter_mut().zip(&other.0).for_each(|(word, more)| *word |= more);
    }

    fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn from_bytes(bytes: &[u8]) -> SeenRows {
        SeenRows(bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }
}

/// What an earlier run met, to its source's end.
pub(super) struct SeenBefore {
    next_id: i64,
    met: SeenRows,
}

impl SeenBefore {
    /// Whether the row was there when that run ended, and no row of its source had the reference.
    fn lacked(&self, id: i64) -> bool {
        id < self.next_id && !self.met.has(id)
    }
}

/// The runs that found these faulty whose references could not be read: by line, each with what it met.
#[derive(Default)]
pub(super) struct UnreadableRuns(HashMap<u64, Vec<i64>>);

impl UnreadableRuns {
    /// Whether the row comes back with a reference that may be another row's: that of `known`, or of none that is
    /// known.
    fn is_anothers(
        &self,
        own: &Correction,
        known: &KnownRow,
        met_before: &HashMap<i64, Option<SeenBefore>>,
    ) -> bool {
        let Some(runs) = self.0.get(&own.line) else { return true };
        let lacked = |run: &i64| {
            let met = met_before.get(run).and_then(Option::as_ref);
            known.run < *run && met.is_some_and(|met| met.lacked(known.id))
        };
        !runs.iter().all(lacked)
    }
}

impl Ledger {
    /// Whether it comes back with a reference that could not be read then, and that is imported, or that an invalid row
    /// has: it may be another row of the same source, whose data is not this one's. As long as it is the same data,
    /// nothing is written over.
    pub(super) fn may_belong_to_another_row(
        &self,
        row: &Row,
        customer: &Customer,
        known: Option<&KnownRow>,
        unread: &UnreadableRuns,
    ) -> bool {
        let Some(own) = row.corrects.as_deref().filter(|own| !own.reference_was_read) else { return false };
        let differs = |known: &KnownRow| known.fingerprint != Some(customer.fingerprint);
        self.unowned.has(customer.reference.key())
            || known.is_some_and(|known| {
                differs(known) && unread.is_anothers(own, known, &self.unowned.met_before)
            })
    }

    /// What is known of the runs in which these rows' references could not be read.
    pub(super) async fn unread(&mut self, rows: &[Row]) -> Result<UnreadableRuns, Error> {
        let lines = rows.iter().filter_map(|row| row.corrects.as_deref());
        let lines: Vec<u64> = lines.filter(|own| !own.reference_was_read).map(|own| own.line).collect();
        let mut unread = UnreadableRuns::default();
        if lines.is_empty() {
            return Ok(unread);
        }
        let lines = serde_json::to_string(&lines).unwrap_or_default();
        let found = sqlx::query(SELECT_UNREAD).bind(lines).bind(self.run);
        self.store.pairs(found, |line, run| unread.0.entry(line).or_default().push(run)).await?;
        for run in unread.0.values().flatten() {
            if !self.unowned.met_before.contains_key(run) {
                let met = self.store.met(SELECT_MET, *run).await?;
                self.unowned.met_before.insert(*run, met);
            }
        }
        Ok(unread)
    }

    /// The source has been read to its end: what this run met is kept, if it is needed. Of the part that a run before
    /// read, that one knows.
    pub(super) async fn keep_met(&mut self) -> Result<(), Error> {
        self.store.execute(sqlx::query(DELETE_MET)).await?;
        if self.store.all(sqlx::query(SELECT_UNREAD_OF).bind(self.run)).await?.is_empty() {
            return Ok(());
        }
        if self.skipped.is_some() {
            let Some(before) = self.store.met(SELECT_BEFORE, self.run).await? else { return Ok(()) };
            self.met.join(&before.met);
        }
        let keep = sqlx::query(KEEP_MET).bind(self.run).bind(self.next_id).bind(self.met.to_bytes());
        self.store.execute(keep).await.map(drop)
    }
}

impl Store {
    async fn met(&mut self, select: &'static str, run: i64) -> Result<Option<SeenBefore>, Error> {
        let rows = self.all(sqlx::query(select).bind(run)).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| SeenBefore {
            next_id: row.get(0),
            met: SeenRows::from_bytes(row.get(1)),
        };
        Ok(rows.first().map(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_met_once() {
        let mut met = SeenRows::default();
        for id in [1, 63, 64, 100_000] {
            assert!(!met.has(id) && !met.mark(id), "{id}");
            assert!(met.has(id) && met.mark(id), "{id}");
        }
        assert!(!met.mark(65));
    }

    #[test]
    fn what_was_met_is_kept_and_joined() {
        let of = |ids: &[i64]| {
            let mut met = SeenRows::default();
            ids.iter().for_each(|id| _ = met.mark(*id));
            met
        };
        let mut met = SeenRows::from_bytes(&of(&[3, 64]).to_bytes());
        met.join(&of(&[200]));
        assert_eq!((0..300).filter(|id| met.has(*id)).collect::<Vec<_>>(), [3, 64, 200]);
        let before = SeenBefore { next_id: 100, met };
        assert_eq!([3, 4, 99, 100].map(|id| before.lacked(id)), [false, true, true, false]);
    }
}
