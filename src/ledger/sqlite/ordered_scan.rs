//! Rows of the ledger in the order in which they were met, read ahead.
//!
//! A file that comes every night has its rows in the order of the night before, and so has the ledger. To look up
//! each reference by its hash would be a page of the index and one of the rows for each; read as a sequence,
//! a page serves all its rows. Where the file takes another order, or none, rows are looked up again.

use std::collections::VecDeque;

use serde::Deserialize;

use super::{
    super::{Error, Outcome},
    reader::unreadable,
    store::{KnownRow, Store},
};
use crate::customer::{Fingerprint, Reference};

/// How many rows are read at a time.
const READ_ROWS: usize = 2048;

/// How many rows of the ledger the file may have left out between two of its own.
const GAP_MAX: usize = 32;

/// The rows as one value: a value for each row and column costs several times as much.
const READ_SEQUENCE: &str = "
    select json_group_array(json_array(id, run, line, outcome, reference, hex(fingerprint), in_doubt, claimed_at,
                            was_sent))
    from (select * from row where id >= ?1 and outcome not in ('invalid', 'duplicate') order by id limit ?2)";

/// A row and the reference that it owns.
pub(crate) type Owner = (Reference, KnownRow);

/// The rows that are expected next.
#[derive(Default)]
pub(crate) struct OrderedScan {
    rows: VecDeque<Owner>,
    /// From where to read on; none while the file has no order that is known.
    next_id: Option<i64>,
}

impl OrderedScan {
    /// Whether a chunk may need more than is there.
    pub(crate) fn wants_more(&self) -> bool {
        self.next_id.is_some() && self.rows.len() < READ_ROWS / 2
    }

    /// From where to read.
    pub(crate) fn next_id(&self) -> i64 {
        self.next_id.unwrap_or(0)
    }

    /// What was read from there.
    pub(crate) fn extend(&mut self, rows: Vec<Owner>) {
        match rows.last() {
            Some((_, last)) => self.next_id = Some(last.id + 1),
            // The ledger ends here.
            None => self.next_id = None,
        }
        self.rows.extend(rows);
    }

    /// The row that owns the reference, if it is one of the next.
    pub(crate) fn find(&mut self, reference: &Reference) -> Option<KnownRow> {
        let at = self.rows.iter().take(GAP_MAX).position(|(of, _)| of == reference)?;
        let found = self.rows.drain(..=at).next_back();
        found.map(|(_, known)| known)
    }

    /// What a chunk turned out to be, and how many of its rows had to be looked up: where most of those are known,
    /// the file goes on behind the last of them.
    pub(crate) fn learn(&mut self, chunk: &[Option<KnownRow>], looked_up: usize) {
        let owned = chunk.iter().flatten().count();
        if looked_up <= chunk.len() / 2 || owned <= chunk.len() / 2 {
            return;
        }
        self.rows.clear();
        let mut ids = chunk.iter().flatten().map(|known| known.id);
        let first = ids.next().unwrap_or(0);
        let (last, is_ordered) = ids.fold((first, true), |(last, is), id| (id, is && last < id));
        let is_dense = (last - first) as usize <= GAP_MAX * chunk.len();
        self.next_id = (is_ordered && is_dense).then_some(last + 1);
    }
}

impl Store {
    /// The next rows from this one on that own their references.
    pub(crate) async fn read_sequence(&mut self, from: i64) -> Result<Vec<Owner>, Error> {
        let query = sqlx::query(READ_SEQUENCE).bind(from).bind(READ_ROWS as i64);
        let rows = self.all(query).await?;
        let text = rows.first().map_or("[]", |row| sqlx::Row::get::<&str, _>(row, 0));
        let rows: Vec<Owned<'_>> =
            serde_json::from_str(text).map_err(|error| unreadable(self.path(), error))?;
        Ok(rows.into_iter().map(Owned::read).collect())
    }
}

/// A row as it comes out of [`READ_SEQUENCE`].
#[derive(Deserialize)]
struct Owned<'a>(
    i64,
    i64,
    u64,
    &'a str,
    #[serde(borrow)] std::borrow::Cow<'a, str>,
    Option<&'a str>,
    i64,
    Option<i64>,
    i64,
);

impl Owned<'_> {
    fn read(self) -> Owner {
        let Owned(id, run, line, outcome, reference, fingerprint, in_doubt, claimed_at, was_sent) = self;
        let known = KnownRow {
            id,
            run,
            line,
            fingerprint: fingerprint.and_then(Fingerprint::from_hex),
            // The table's check allows no other word.
            outcome: Outcome::from_name(outcome).unwrap_or(Outcome::Pending),
            in_doubt: in_doubt != 0,
            was_sent: was_sent != 0,
            claimed_at,
        };
        (Reference::recorded(&reference), known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(id: i64) -> Owner {
        let known = KnownRow {
            id,
            run: 1,
            line: id as u64,
            fingerprint: None,
            outcome: Outcome::Created,
            in_doubt: false,
            was_sent: false,
            claimed_at: None,
        };
        (reference(id), known)
    }

    fn reference(id: i64) -> Reference {
        Reference::recorded(&format!("reference-{id}"))
    }

    fn found(sequence: &mut OrderedScan, id: i64) -> Option<i64> {
        sequence.find(&reference(id)).map(|known| known.id)
    }

    #[test]
    fn a_file_in_the_ledgers_order_is_followed_over_gaps_and_strangers() {
        let mut sequence = OrderedScan::default();
        assert!(!sequence.wants_more(), "no order is known yet");
        let chunk: Vec<_> = (10..20).map(|id| Some(owner(id).1)).collect();
        sequence.learn(&chunk, 10);
        assert!(sequence.wants_more());
        assert_eq!(sequence.next_id(), 20);
        sequence.extend((20..200).map(owner).collect());
        assert_eq!(found(&mut sequence, 20), Some(20));
        assert_eq!(found(&mut sequence, 1_000), None, "a row that is new");
        assert_eq!(found(&mut sequence, 25), Some(25), "four are gone");
        assert_eq!(found(&mut sequence, 22), None, "gone by");
        assert_eq!(found(&mut sequence, 199), None, "too far");
        sequence.extend(Vec::new());
        assert!(!sequence.wants_more(), "the ledger has no more");
    }

    #[test]
    fn without_an_order_nothing_is_read_ahead() {
        let mut sequence = OrderedScan::default();
        let shuffled: Vec<_> = [7, 3, 9, 1].map(|id| Some(owner(id).1)).into();
        sequence.learn(&shuffled, 4);
        assert!(!sequence.wants_more());
        let sparse: Vec<_> = [1, 100_000, 200_000].map(|id| Some(owner(id).1)).into();
        sequence.learn(&sparse, 3);
        assert!(!sequence.wants_more());
        sequence.learn(&[None, None, Some(owner(5).1)], 3);
        assert!(!sequence.wants_more(), "most are new");
    }
}
