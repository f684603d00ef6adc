//! Rows that own no reference, invalid ones and duplicates: how such a row is known again, and which records of
//! earlier runs give way when a row is met.
//!
//! A row is known by its content: by its reference, or by its cells where it has none. So it does not matter what a
//! file is called, nor on which line the row stands. Where a run meets such a row, the record that an earlier run has
//! made of it goes in the same commit, one for one, so that whatever dies when, each stands there once. Where it meets
//! the row as a good one, what was said of it as an invalid one goes. What else was said of that reference goes when
//! the source has been read to its end, since until then a further row may have it. A failed export is a part of a
//! file only: a row of it takes the place of its own record and of no other, by the line that it names.
//!
//! Where the reference was what was wrong, the corrected row has another one, or takes it from another column. It is
//! known by the rest of its cells, on the same line.
//!
//! An invalid row names its reference all the same: a later row of the same source that has it too is a duplicate.
//! Else both could come to the API, the second row at once and the first when it comes back corrected.
//!
//! Memory: sixteen bytes for each record of earlier runs, and some thirty for each invalid row of the source. Hashes
//! only propose; the text of a reference decides, but for what goes at the source's end.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    hash::BuildHasherDefault,
};

use sqlx::Row as _;

use super::{
    Error, Ledger, Outcome, RowError,
    batch::{JsonRows, signed},
    claim::ReferenceRepeat,
    plan::RowPlan,
    reference_index::IdentityHasher,
    seen_rows::{SeenBefore, UnreadableRuns},
    sqlite::store::{KnownRow, Store},
};
use crate::customer::{Correction, Customer, Faults, Record, Reference, Row};

/// Invalid rows before duplicates.
const SELECT_EARLIER: &str = "
    select content, id * 2 + iif(outcome = 'duplicate', 1 << 62, 0) from row where content is not null and run < ?1";

const SELECT_OTHER_CELLS: &str = "select other_cells, id from row where other_cells is not null and run < ?1";

const SELECT_NAMED: &str = "
    select key, id from row
    where content is not null and run = ?1 and outcome = 'invalid' and key is not null";

const SELECT_REFERENCES: &str = "
    select reference from row where id in (select value from json_each(?1)) and reference is not null";

const INSERT_FOUND: &str = "
    insert into row (id, run, line, outcome, reference, key, settled_at, field, error_code, error_message, content,
                     other_cells)
    select value->>0, ?2, value->>1, value->>2, value->>3, value->>4, ?3, value->>5, value->>6, value->>7, value->>8,
           value->>9
    from json_each(?1)";

const DELETE_GONE: &str = "
    delete from row where run < ?2 and content is not null and id in (
        select row.id from json_each(?1) told cross join row on row.id = told.value->>0
        where row.reference is told.value->>1
        and (told.value->>2 or row.outcome = 'invalid' and row.error_code not like '%duplicate'))";

const DELETE_BY_LINE: &str = "
    delete from row where id in (
        select row.id from json_each(?1) told
        cross join row on row.line = told.value->>0 and row.content = told.value->>1
        where row.content is not null and row.run < ?2 and row.reference is told.value->>2)";

const DELETE_BY_CELLS: &str = "
    delete from row where id in (
        select row.id from json_each(?1) told
        cross join row on row.line = told.value->>0 and row.other_cells = told.value->>1
        where row.other_cells is not null and row.run < ?2)";

const DELETE_LAST: &str = "
    delete from row where run < ?2 and content is not null and id in (select value from json_each(?1))";

/// How many go together.
const TOGETHER: usize = 10_000;

/// What a run knows of them.
#[derive(Default)]
pub(super) struct UnsendableRows {
    is_read: bool,
    /// The records that earlier runs have made, in order of their contents.
    earlier: Vec<(u64, EarlierRecord)>,
    /// By what those are known whose references were at fault, once they are right.
    other_cells: HashSet<u64, BuildHasherDefault<IdentityHasher>>,
    /// Where several have one content: what has not given way yet.
    left: HashMap<u64, NextByKind, BuildHasherDefault<IdentityHasher>>,
    /// Hash of a reference that an invalid row of this source has named, and that row.
    named: HashMap<u64, i64, BuildHasherDefault<IdentityHasher>>,
    /// What earlier runs have met, as far as it was asked for.
    pub(super) met_before: HashMap<i64, Option<SeenBefore>>,
    /// Records that give way with the next commit.
    gone: Superseded,
}

/// The same as rows of statements.
#[derive(Default)]
pub(super) struct Superseded {
    by_id: JsonRows,
    by_line: JsonRows,
    by_cells: JsonRows,
}

/// A record of an earlier run in eight bytes: whether it is a duplicate's, its id, and whether it goes when the source
/// has been read to its end; below zero once it has given way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct EarlierRecord(i64);

impl EarlierRecord {
    const GONE: EarlierRecord = EarlierRecord(-1);

    fn is_duplicate(self) -> bool {
        self.0 & 1 << 62 != 0
    }

    /// None once it has given way.
    fn id(self) -> Option<i64> {
        (self != EarlierRecord::GONE).then_some((self.0 & !(1 << 62)) >> 1)
    }

    /// Gives way; its id.
    fn take(&mut self) -> Option<i64> {
        std::mem::replace(self, EarlierRecord::GONE).id()
    }
}

/// Places of the next invalid row and the next duplicate of one content, and where each of the two kinds ends. A
/// million rows may have one content.
#[derive(Clone, Copy)]
struct NextByKind {
    next: [usize; 2],
    ends: [usize; 2],
}

impl NextByKind {
    /// The next one, of that kind if there is any.
    fn next(&mut self, is_duplicate: bool) -> Option<usize> {
        let own = usize::from(is_duplicate);
        let kind = [own, 1 - own].into_iter().find(|kind| self.next[*kind] < self.ends[*kind])?;
        self.next[kind] += 1;
        Some(self.next[kind] - 1)
    }
}

/// A row that owns no reference, to be recorded.
pub(super) struct UnsendableRow {
    pub(super) id: i64,
    /// What it is known by.
    content: u64,
    /// Where the reference is what is wrong: what it is known by when that is right.
    other_cells: Option<u64>,
    /// Whose reference it has.
    pub(super) repeats: ReferenceRepeat,
    /// It came back as it was, in a failed export.
    pub(super) is_as_it_was: bool,
}

/// What one commit writes of them.
#[derive(Default)]
pub(super) struct UnsendableChanges {
    found: JsonRows,
    gone: Superseded,
}

impl UnsendableChanges {
    pub(super) fn is_empty(&self) -> bool {
        [&self.found, &self.gone.by_id, &self.gone.by_line, &self.gone.by_cells]
            .into_iter()
            .all(JsonRows::is_empty)
    }

    /// These give way.
    pub(super) fn give_way(&mut self, gone: Superseded) {
        self.gone = gone;
    }

    pub(super) fn add(
        &mut self,
        faulty: &UnsendableRow,
        line: u64,
        outcome: Outcome,
        reference: Option<&str>,
        trouble: &RowError,
    ) {
        let key = reference.map(|reference| signed(Reference::recorded(reference).key()));
        let RowError { field, code, message, .. } = trouble;
        let content = signed(faulty.content);
        let other_cells = faulty.other_cells.map(signed);
        self.found.push(&(
            faulty.id,
            line,
            outcome,
            reference,
            key,
            field,
            code,
            message,
            content,
            other_cells,
        ));
    }
}

/// References that have no row yet: of rows of one chunk, or of invalid ones, which own none.
#[derive(Default)]
pub(super) struct ChunkReferences<'a> {
    new: HashSet<&'a str>,
    named: HashSet<&'a str>,
    /// By invalid rows of the chunks before.
    named_before: HashSet<String>,
    /// Of rows of the chunk that come back with a reference that could not be read.
    unread: UnreadableRuns,
}

impl ChunkReferences<'_> {
    fn is_named(&self, reference: &str) -> bool {
        self.named.contains(reference) || self.named_before.contains(reference)
    }
}

/// The reference of a row, if it has one that is no fault itself: it is what other rows may have too.
pub(super) fn reference_of(row: &Row) -> Option<Cow<'_, Reference>> {
    match &row.reading {
        Ok(customer) => Some(Cow::Borrowed(&customer.reference)),
        Err(faults) => faults.named().map(|reference| Cow::Owned(Reference::recorded(reference))),
    }
}

impl UnsendableRows {
    pub(super) fn has(&self, content: u64) -> bool {
        self.earlier.binary_search_by_key(&content, |(of, _)| *of).is_ok()
    }

    /// Where the records of this content begin and end.
    fn places(&self, content: u64) -> (usize, usize) {
        let from = self.earlier.partition_point(|(of, _)| *of < content);
        let count = self.earlier[from..].partition_point(|(of, _)| *of == content);
        (from, from + count)
    }

    /// A faulty row was met: a record of it gives way, and if one of the same kind is there, that one. False if there
    /// was none.
    fn met_faulty(&mut self, content: u64, reference: Option<&str>, is_duplicate: bool) -> bool {
        if self.earlier.is_empty() {
            return false;
        }
        let own = match self.left.get_mut(&content) {
            Some(left) => left.next(is_duplicate),
            None => {
                let (from, end) = self.places(content);
                let records = &mut self.earlier[from..end];
                let duplicates = from + records.partition_point(|(_, record)| !record.is_duplicate());
                records.iter_mut().for_each(|(_, record)| record.0 |= 1);
                let mut left = NextByKind { next: [from, duplicates], ends: [duplicates, end] };
                let own = left.next(is_duplicate);
                if end - from > 1 {
                    self.left.insert(content, left);
                }
                own
            }
        };
        let id = own.and_then(|own| self.earlier.get_mut(own)?.1.take());
        if let Some(id) = id {
            self.gone.by_id.push(&(id, reference, true));
        }
        id.is_some()
    }

    /// A faulty row has come back from this line in a failed export.
    fn met_again(&mut self, content: u64, reference: Option<&str>, own: &Correction) {
        self.gone.by_line.push(&(own.line, signed(content), reference));
    }

    /// A row was met on this line that is good or wrong in another way, whose cells but the reference may be those of a record whose reference was at
    /// fault; it is not known by which column that was read.
    fn met_by_cells(&mut self, line: u64, row: &Record, names: &[String]) {
        for content in row.contents_without_one(names) {
            if self.other_cells.contains(&content) {
                self.gone.by_cells.push(&(line, signed(content)));
            }
        }
    }

    /// The one row of its source that has this reference was met, well or not: what was said of it as an invalid one
    /// is over. The rest, if it `goes_last`, goes when the source has been read to its end.
    fn met_named(&mut self, content: u64, reference: &str, goes_last: bool) {
        let (from, end) = self.places(content);
        for (_, record) in &mut self.earlier[from..end] {
            if let Some(id) = record.id().filter(|_| !record.is_duplicate()) {
                self.gone.by_id.push(&(id, reference, false));
            }
            record.0 |= i64::from(goes_last);
        }
    }

    /// What gives way with this commit.
    pub(super) fn take_gone(&mut self) -> Superseded {
        std::mem::take(&mut self.gone)
    }
}

impl Ledger {
    /// Finds out what earlier rows have named of these; the first time, what earlier runs have left.
    pub(super) async fn here<'a>(&mut self, rows: &[Row]) -> Result<ChunkReferences<'a>, Error> {
        if !self.unowned.is_read {
            let UnsendableRows { earlier, named, other_cells, .. } = &mut self.unowned;
            let run = self.run;
            let query = sqlx::query(SELECT_EARLIER).bind(run);
            self.store.pairs(query, |content, record| earlier.push((content, EarlierRecord(record)))).await?;
            earlier.sort_unstable();
            let query = sqlx::query(SELECT_OTHER_CELLS).bind(run);
            self.store.pairs(query, |content, _| _ = other_cells.insert(content)).await?;
            // Those of the part of the source that is not read again.
            let query = sqlx::query(SELECT_NAMED).bind(run);
            self.store.pairs(query, |key, id| _ = named.insert(key, id)).await?;
            self.unowned.is_read = true;
        }
        let named_before = if self.unowned.named.is_empty() || self.is_retry {
            HashSet::new()
        } else {
            let keys = rows.iter().filter_map(|row| reference_of(row).map(|reference| reference.key()));
            let ids: Vec<i64> = keys.filter_map(|key| self.unowned.named.get(&key).copied()).collect();
            self.store.references(&ids).await?
        };
        Ok(ChunkReferences { named_before, unread: self.unread(rows).await?, ..ChunkReferences::default() })
    }

    /// An invalid row. It owns nothing, but its reference is named.
    pub(super) fn meet_invalid<'a>(
        &mut self,
        row: &'a Row,
        faults: &'a Faults,
        known: Option<&KnownRow>,
        here: &mut ChunkReferences<'a>,
    ) -> RowPlan {
        let reference = faults.named();
        let is_again = reference.is_some_and(|reference| {
            let is_owned = match known {
                Some(known) => self.met.has(known.id) || self.was_skipped(known),
                None => self.batches.has(&Reference::recorded(reference)),
            };
            is_owned || here.new.contains(reference) || here.is_named(reference)
        });
        let text = faults.reference.as_deref();
        let content = text.map_or_else(
            || row.record.content(&self.columns),
            |reference| Reference::recorded(reference).key(),
        );
        let is_again = is_again || row.corrects.as_ref().is_some_and(|own| own.repeats == Some(true));
        let mut faulty =
            self.faulty(row, content, if is_again { ReferenceRepeat::Surely } else { ReferenceRepeat::No });
        if reference.is_none() {
            faulty.other_cells = Some(row.record.content_without(&self.columns, self.reference_at));
        }
        if let Some(reference) = reference.filter(|_| !is_again) {
            here.named.insert(reference);
            self.unowned.named.entry(content).or_insert(faulty.id);
        }
        match (&row.corrects, reference.filter(|_| !is_again)) {
            (None, _) => {
                // It may have another wrong reference now.
                if !self.unowned.met_faulty(content, text, false) && faulty.other_cells.is_some() {
                    self.unowned.met_by_cells(row.line, &row.record, &self.columns);
                }
            }
            (Some(_), Some(reference)) => self.unowned.met_named(content, reference, false),
            // Of garbage that many rows have in the reference's place, the line tells which one it is.
            (Some(own), None) => self.unowned.met_again(content, text, own),
        }
        RowPlan::UnsendableRows(faulty)
    }

    /// A row that breaks no rule: new, or a duplicate, if nobody but rows without a row of their own is known to have
    /// its reference. `None` where that is for the row to decide that owns it.
    pub(super) fn meet_valid<'a>(
        &mut self,
        row: &'a Row,
        customer: &'a Customer,
        known: Option<&KnownRow>,
        here: &mut ChunkReferences<'a>,
    ) -> Option<RowPlan> {
        let reference = customer.reference.as_str();
        if here.is_named(reference) || self.is_uncorrected(row, customer) {
            return Some(self.duplicate(row, customer));
        }
        if self.may_belong_to_another_row(row, customer, known, &here.unread) {
            return Some(self.unowned_row(row, customer, ReferenceRepeat::Perhaps));
        }
        if known.is_some() {
            return None;
        }
        if self.batches.has(&customer.reference) || !here.new.insert(reference) {
            return Some(self.duplicate(row, customer));
        }
        Some(self.new_row(row, customer))
    }

    /// A further row with that reference.
    pub(super) fn duplicate(&mut self, row: &Row, customer: &Customer) -> RowPlan {
        self.unowned_row(row, customer, ReferenceRepeat::Surely)
    }

    fn unowned_row(&mut self, row: &Row, customer: &Customer, repeats: ReferenceRepeat) -> RowPlan {
        let (content, reference) = (customer.reference.key(), Some(customer.reference.as_str()));
        match &row.corrects {
            None => _ = self.unowned.met_faulty(content, reference, true),
            Some(own) => self.unowned.met_again(content, reference, own),
        }
        RowPlan::UnsendableRows(self.faulty(row, content, repeats))
    }

    /// A row that is to be sent or is left as it was settled: nothing is wrong with it any more.
    pub(super) fn is_well(&mut self, row: &Row, customer: &Customer) {
        if self.unowned.earlier.is_empty() {
            return;
        }
        let has_other_cells = !self.unowned.other_cells.is_empty();
        let is_of_export = row.corrects.is_some();
        self.unowned.met_named(customer.reference.key(), customer.reference.as_str(), !is_of_export);
        if has_other_cells && !is_of_export {
            self.unowned.met_by_cells(row.line, &row.record, &self.columns);
        }
    }

    /// The source has been read to its end: what earlier runs have said of references that it has, and this one did
    /// not find, is over.
    ///
    /// # Errors
    /// Where the ledger cannot be written.
    pub async fn delete_superseded(&mut self) -> Result<(), Error> {
        self.keep_met().await?;
        let last = self.unowned.earlier.iter().filter(|(_, record)| record.0 & 1 == 1);
        let ids: Vec<i64> = last.filter_map(|(_, record)| record.id()).collect();
        for some in ids.chunks(TOGETHER) {
            let some = serde_json::to_string(some).unwrap_or_default();
            self.store.execute(sqlx::query(DELETE_LAST).bind(some).bind(self.run)).await?;
        }
        Ok(())
    }

    /// Whether it was a duplicate in the file that it comes from and has the reference still by which it was one.
    fn is_uncorrected(&self, row: &Row, customer: &Customer) -> bool {
        let own = row.corrects.as_deref().filter(|own| own.is_of_duplicate());
        // An export that does not tell was made by another program of this one's: the ledger knows what it was.
        let was_one = || self.unowned.has(customer.reference.key());
        own.is_some_and(|Correction { repeats, .. }| repeats.unwrap_or_else(was_one))
    }

    fn faulty(&mut self, row: &Row, content: u64, repeats: ReferenceRepeat) -> UnsendableRow {
        let is_as_it_was = row.corrects.is_some() && self.unowned.has(content);
        UnsendableRow { id: self.take_id(), content, other_cells: None, repeats, is_as_it_was }
    }
}

impl Store {
    async fn references(&mut self, ids: &[i64]) -> Result<HashSet<String>, Error> {
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let ids = serde_json::to_string(ids).unwrap_or_default();
        let rows = self.all(sqlx::query(SELECT_REFERENCES).bind(ids)).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Inside the transaction of a commit.
    pub(super) async fn write_unowned(
        &mut self,
        rows: &UnsendableChanges,
        run: i64,
        now: i64,
    ) -> Result<(), Error> {
        let UnsendableChanges { found, gone: Superseded { by_id, by_line, by_cells } } = rows;
        for (sql, rows) in [
            (DELETE_GONE, by_id),
            (DELETE_BY_LINE, by_line),
            (DELETE_BY_CELLS, by_cells),
            (INSERT_FOUND, found),
        ] {
            if !rows.is_empty() {
                self.execute(sqlx::query(sql).bind(rows.text()).bind(run).bind(now)).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unowned(records: &[(u64, i64, bool)]) -> UnsendableRows {
        let pack = |&(content, id, is_duplicate): &(u64, i64, bool)| {
            (content, EarlierRecord(id * 2 + (i64::from(is_duplicate) << 62)))
        };
        let mut earlier: Vec<_> = records.iter().map(pack).collect();
        earlier.sort_unstable();
        UnsendableRows { earlier, ..UnsendableRows::default() }
    }

    /// The ids that give way now, and those that do at the source's end.
    fn gone(unowned: &mut UnsendableRows) -> (String, Vec<i64>) {
        let last = unowned.earlier.iter().filter(|(_, record)| record.0 & 1 == 1);
        let last = last.filter_map(|(_, record)| record.id()).collect();
        (unowned.take_gone().by_id.text(), last)
    }

    #[test]
    fn rows_take_the_places_of_records_one_for_one_and_kind_for_kind() {
        let mut unowned = unowned(&[(7, 1, false), (7, 2, true), (7, 3, true), (8, 4, false)]);
        unowned.met_faulty(9, None, false);
        assert_eq!(gone(&mut unowned), ("[]".into(), vec![]));
        unowned.met_faulty(7, Some("r"), true);
        assert_eq!(gone(&mut unowned), ("[[2,\"r\",true]]".into(), vec![1, 3]));
        unowned.met_faulty(7, Some("r"), true);
        unowned.met_faulty(7, Some("r"), true);
        assert_eq!(gone(&mut unowned).1, Vec::<i64>::new(), "the last takes what is left");
        unowned.met_faulty(7, Some("r"), true);
        unowned.met_faulty(8, None, true);
        assert_eq!(gone(&mut unowned), ("[[4,null,true]]".into(), vec![]));
        assert!(unowned.has(8) && !unowned.has(9));
    }

    #[test]
    fn a_row_that_is_well_is_not_invalid_any_more_and_what_else_was_said_waits() {
        let mut unowned = unowned(&[(7, 1, false), (7, 2, true)]);
        unowned.met_named(7, "r", false);
        assert_eq!(gone(&mut unowned), ("[[1,\"r\",false]]".into(), vec![]));
        unowned.met_named(7, "r", true);
        assert_eq!(gone(&mut unowned).1, [1, 2]);
    }

    /// Rows of commas, or of `N/A`: a list that is gone through for each of them would take hours.
    #[test]
    fn a_million_rows_of_one_content_are_met_in_no_time() {
        let records: Vec<_> = (1..1_000_000).map(|id| (0, id, false)).collect();
        let mut unowned = unowned(&records);
        for _ in &records {
            unowned.met_faulty(0, None, false);
        }
        assert_eq!(gone(&mut unowned).1, Vec::<i64>::new());
    }
}
