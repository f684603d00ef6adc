//! Rows that cannot be sent, which are invalid rows and duplicates: recognizes such a row in a later run, and
//! determines which records of earlier runs it supersedes.
//!
//! A row that cannot be sent owns no reference. It is recognized by its content: by its reference, or by its cells if
//! it has none. So the name of the file and the line do not matter. If a run finds such a row again, the row
//! supersedes the record that an earlier run made of it: the old record is deleted in the commit that writes the new
//! one, one for one, so that after a crash each row is recorded once. If the run finds the row valid, the record of
//! an invalid row with that reference is deleted. Other records with that reference are deleted once the source has
//! been read to its end, because until then a later row may have it. A failed export is only a part of a file: a row
//! of it supersedes its own record and no other, identified by the original line in the export.
//!
//! If the reference itself was invalid, the corrected row has another reference, or takes it from another column. It
//! is recognized by the rest of its cells, on the same line.
//!
//! An invalid row reserves its reference nevertheless: a later row of the same source with the same reference is a
//! duplicate. Otherwise both could reach the API, the second row at once and the first one after its correction.
//!
//! Pure. Memory: sixteen bytes for each record of earlier runs, and about thirty for each invalid row of the source.
//! Hashes only find candidates and the text of a reference is compared, except for records deleted at the end of the
//! source.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    hash::BuildHasherDefault,
};

use super::{
    claim::ReferenceRepeat,
    model::{RowId, RunId},
    reference_index::IdentityHasher,
    seen_rows::{SeenBefore, UnreadableRuns},
};
use crate::customer::{Correction, Record, Reference, Row};

/// The records of rows that cannot be sent, of this run and of earlier runs.
#[derive(Default)]
pub(super) struct UnsendableRows {
    /// The records of earlier runs, ordered by content.
    earlier: Vec<(u64, EarlierRecord)>,
    /// Contents without the reference, for earlier records whose reference was invalid.
    contents_without_reference: HashSet<u64, BuildHasherDefault<IdentityHasher>>,
    /// For contents with several records, the ones that are not superseded yet.
    remaining: HashMap<u64, NextByKind, BuildHasherDefault<IdentityHasher>>,
    /// The invalid rows of this source, by the hash of their reference.
    named: HashMap<u64, RowId, BuildHasherDefault<IdentityHasher>>,
    /// The rows seen by earlier runs, as far as they were looked up.
    pub(super) seen_before: HashMap<RunId, Option<SeenBefore>>,
    /// Records to delete with the next commit.
    superseded: Superseded,
}

/// Records of earlier runs to delete, by what identifies them.
#[derive(Default)]
pub(super) struct Superseded {
    pub(super) by_id: Vec<SupersededId>,
    pub(super) by_line: Vec<SupersededLine>,
    pub(super) by_cells: Vec<SupersededCells>,
}

/// The record with this id, if it has this reference.
pub(super) struct SupersededId {
    pub(super) id: RowId,
    pub(super) reference: Option<String>,
    /// Whether to delete the record even if it is a duplicate's.
    pub(super) even_duplicate: bool,
}

/// The record of the row on this line with this content and reference.
pub(super) struct SupersededLine {
    pub(super) line: u64,
    pub(super) content: u64,
    pub(super) reference: Option<String>,
}

/// The record of the row on this line whose reference was at fault.
pub(super) struct SupersededCells {
    pub(super) line: u64,
    pub(super) content_without_reference: u64,
}

impl Superseded {
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.by_line.is_empty() && self.by_cells.is_empty()
    }
}

/// Why a row could not be sent.
#[derive(Clone, Copy)]
pub(super) enum EarlierKind {
    /// It broke a rule.
    Invalid,
    /// It broke a rule, and its reference was at fault.
    WrongReference,
    /// Another row had its reference.
    Duplicate,
}

impl EarlierKind {
    pub(super) fn new(is_duplicate: bool, is_reference_at_fault: bool) -> EarlierKind {
        match (is_duplicate, is_reference_at_fault) {
            (true, _) => EarlierKind::Duplicate,
            (false, true) => EarlierKind::WrongReference,
            (false, false) => EarlierKind::Invalid,
        }
    }
}

/// A record of an earlier run in eight bytes. Bit 62: it is a duplicate's. Bit 61: its reference was at fault. Bit 0: it
/// is deleted once the source has been read to its end. The bits between: its id. Negative once it is superseded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EarlierRecord(i64);

impl EarlierRecord {
    const SUPERSEDED: EarlierRecord = EarlierRecord(-1);
    const DUPLICATE: i64 = 1 << 62;
    const WRONG_REFERENCE: i64 = 1 << 61;
    const GOES_LAST: i64 = 1;

    pub(super) fn new(id: RowId, kind: EarlierKind) -> EarlierRecord {
        let bit = match kind {
            EarlierKind::Invalid => 0,
            EarlierKind::WrongReference => EarlierRecord::WRONG_REFERENCE,
            EarlierKind::Duplicate => EarlierRecord::DUPLICATE,
        };
        EarlierRecord(id.0 * 2 + bit)
    }

    fn is_duplicate(self) -> bool {
        self.0 & EarlierRecord::DUPLICATE != 0
    }

    fn has_wrong_reference(self) -> bool {
        self.0 & EarlierRecord::WRONG_REFERENCE != 0
    }

    fn goes_last(self) -> bool {
        self.0 & EarlierRecord::GOES_LAST != 0
    }

    /// None once it is superseded.
    fn id(self) -> Option<RowId> {
        const KIND: i64 = EarlierRecord::DUPLICATE | EarlierRecord::WRONG_REFERENCE;
        (self != EarlierRecord::SUPERSEDED).then_some(RowId((self.0 & !KIND) >> 1))
    }

    /// Marks the record as superseded; returns its id.
    fn take(&mut self) -> Option<RowId> {
        std::mem::replace(self, EarlierRecord::SUPERSEDED).id()
    }
}

/// Positions of the next invalid row and the next duplicate of one content, and the end of each kind. A million rows
/// may have the same content, and searching for each of them would take hours.
#[derive(Clone, Copy)]
struct NextByKind {
    next: [usize; 2],
    ends: [usize; 2],
}

impl NextByKind {
    /// The next record, of the requested kind if there is one.
    fn next(&mut self, is_duplicate: bool) -> Option<usize> {
        let own = usize::from(is_duplicate);
        let kind = [own, 1 - own].into_iter().find(|kind| self.next[*kind] < self.ends[*kind])?;
        self.next[kind] += 1;
        Some(self.next[kind] - 1)
    }
}

/// A row that cannot be sent and is to be recorded.
pub(super) struct UnsendableRow {
    pub(super) id: RowId,
    /// The content that identifies the row.
    pub(super) content: u64,
    /// If the reference is invalid: the content that identifies the row once it is corrected.
    pub(super) content_without_reference: Option<u64>,
    /// Whether another row of the source has the same reference.
    pub(super) repeat: ReferenceRepeat,
    /// Whether the row comes from a failed export and was not corrected.
    pub(super) is_as_it_was: bool,
}

/// The references of one chunk that are not in the ledger yet.
#[derive(Default)]
pub(super) struct ChunkReferences<'a> {
    /// References of new rows.
    pub(super) new: HashSet<&'a str>,
    /// References of invalid rows.
    pub(super) named: HashSet<&'a str>,
    /// References of invalid rows in earlier chunks.
    pub(super) named_before: HashSet<String>,
    /// The runs that could not read the reference of a corrected row.
    pub(super) unreadable: UnreadableRuns,
}

impl ChunkReferences<'_> {
    /// Whether an invalid row of this source has the reference.
    pub(super) fn is_named(&self, reference: &str) -> bool {
        self.named.contains(reference) || self.named_before.contains(reference)
    }
}

/// The reference of a row, if the reference is valid; other rows may have the same one.
pub(super) fn reference_of(row: &Row) -> Option<Cow<'_, Reference>> {
    match &row.reading {
        Ok(customer) => Some(Cow::Borrowed(&customer.reference)),
        Err(faults) => faults.named().map(|reference| Cow::Owned(Reference::recorded(reference))),
    }
}

impl UnsendableRows {
    /// Starts with the records of earlier runs, and with the references of invalid rows in the part of the source
    /// that this run skips.
    pub(super) fn new(
        mut earlier: Vec<(u64, EarlierRecord)>,
        contents_without_reference: impl IntoIterator<Item = u64>,
        named: impl IntoIterator<Item = (u64, RowId)>,
    ) -> UnsendableRows {
        earlier.sort_unstable();
        UnsendableRows {
            earlier,
            contents_without_reference: contents_without_reference.into_iter().collect(),
            named: named.into_iter().collect(),
            ..UnsendableRows::default()
        }
    }

    /// Whether an earlier run has recorded a row with this content.
    pub(super) fn has(&self, content: u64) -> bool {
        self.earlier.binary_search_by_key(&content, |(of, _)| *of).is_ok()
    }

    /// Whether an earlier run has recorded a row with this reference, which was not at fault.
    pub(super) fn has_reference(&self, reference: &Reference) -> bool {
        let (from, end) = self.range(reference.key());
        self.earlier[from..end].iter().any(|(_, record)| !record.has_wrong_reference())
    }

    /// Whether earlier runs have recorded any row.
    pub(super) fn has_earlier(&self) -> bool {
        !self.earlier.is_empty()
    }

    /// Whether a corrected row may be recognized by its other cells.
    pub(super) fn has_contents_without_reference(&self) -> bool {
        !self.contents_without_reference.is_empty()
    }

    /// The invalid rows of this source whose references have these hashes.
    pub(super) fn named_rows(&self, keys: impl Iterator<Item = u64>) -> Vec<RowId> {
        if self.named.is_empty() {
            Vec::new()
        } else {
            keys.filter_map(|key| self.named.get(&key).copied()).collect()
        }
    }

    /// Whether an invalid row of this source has a reference with this hash.
    pub(super) fn is_named(&self, key: u64) -> bool {
        self.named.contains_key(&key)
    }

    /// Records that an invalid row of this source has this reference.
    pub(super) fn name(&mut self, content: u64, id: RowId) {
        self.named.entry(content).or_insert(id);
    }

    /// The range of the records with this content.
    fn range(&self, content: u64) -> (usize, usize) {
        let from = self.earlier.partition_point(|(of, _)| *of < content);
        let count = self.earlier[from..].partition_point(|(of, _)| *of == content);
        (from, from + count)
    }

    /// Supersedes one record with the content of a row that cannot be sent, of the same kind if there is one. False
    /// if there is no record.
    pub(super) fn supersede(&mut self, content: u64, reference: Option<&str>, is_duplicate: bool) -> bool {
        if self.earlier.is_empty() {
            return false;
        }
        let own = match self.remaining.get_mut(&content) {
            Some(remaining) => remaining.next(is_duplicate),
            None => {
                let (from, end) = self.range(content);
                let records = &mut self.earlier[from..end];
                let duplicates = from + records.partition_point(|(_, record)| !record.is_duplicate());
                records.iter_mut().for_each(|(_, record)| record.0 |= EarlierRecord::GOES_LAST);
                let mut remaining = NextByKind { next: [from, duplicates], ends: [duplicates, end] };
                let own = remaining.next(is_duplicate);
                if end - from > 1 {
                    self.remaining.insert(content, remaining);
                }
                own
            }
        };
        let id = own.and_then(|own| self.earlier.get_mut(own)?.1.take());
        if let Some(id) = id {
            let reference = reference.map(str::to_owned);
            self.superseded.by_id.push(SupersededId { id, reference, even_duplicate: true });
        }
        id.is_some()
    }

    /// Supersedes the record of a failed export's row that still cannot be sent, by its own line.
    pub(super) fn supersede_by_line(
        &mut self,
        content: u64,
        reference: Option<&str>,
        correction: &Correction,
    ) {
        let reference = reference.map(str::to_owned);
        self.superseded.by_line.push(SupersededLine { line: correction.line, content, reference });
    }

    /// Supersedes the record with an invalid reference on the row's line whose other cells are equal. The row is
    /// valid now, or invalid for another reason. Which column the reference was read from is unknown.
    pub(super) fn supersede_by_cells(&mut self, line: u64, row: &Record, names: &[String]) {
        for content_without_reference in row.contents_without_one(names) {
            if self.contents_without_reference.contains(&content_without_reference) {
                self.superseded.by_cells.push(SupersededCells { line, content_without_reference });
            }
        }
    }

    /// Supersedes the records of invalid rows by the one row of its source with this reference. With
    /// `rest_goes_last`, further records are deleted once the source has been read to its end.
    pub(super) fn supersede_invalid(&mut self, content: u64, reference: &str, rest_goes_last: bool) {
        let (from, end) = self.range(content);
        for (_, record) in &mut self.earlier[from..end] {
            if let Some(id) = record.id().filter(|_| !record.is_duplicate()) {
                let reference = Some(reference.to_owned());
                self.superseded.by_id.push(SupersededId { id, reference, even_duplicate: false });
            }
            record.0 |= i64::from(rest_goes_last);
        }
    }

    /// Supersedes the records of rows with this reference, which was at fault.
    pub(super) fn supersede_wrong_reference(&mut self, reference: &Reference) {
        let (from, end) = self.range(reference.key());
        for (_, record) in self.earlier[from..end].iter_mut().filter(|(_, it)| it.has_wrong_reference()) {
            if let Some(id) = record.take() {
                let reference = Some(reference.as_str().to_owned());
                self.superseded.by_id.push(SupersededId { id, reference, even_duplicate: false });
            }
        }
    }

    /// Takes the records to delete with this commit.
    pub(super) fn take_superseded(&mut self) -> Superseded {
        std::mem::take(&mut self.superseded)
    }

    /// The records to delete once the source has been read to its end.
    pub(super) fn remaining(&self) -> Vec<RowId> {
        let last = self.earlier.iter().filter(|(_, record)| record.goes_last());
        last.filter_map(|(_, record)| record.id()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(records: &[(u64, i64, bool)]) -> UnsendableRows {
        let earlier = records.iter().map(|&(content, id, is_duplicate)| {
            (content, EarlierRecord::new(RowId(id), EarlierKind::new(is_duplicate, false)))
        });
        UnsendableRows::new(earlier.collect(), [], [])
    }

    type Taken = (i64, Option<String>, bool);

    /// The records deleted now, and those deleted at the end of the source.
    fn gone(rows: &mut UnsendableRows) -> (Vec<Taken>, Vec<i64>) {
        let last = rows.remaining().into_iter().map(|id| id.0).collect();
        let now = rows.take_superseded().by_id.into_iter();
        (now.map(|it| (it.id.0, it.reference, it.even_duplicate)).collect(), last)
    }

    #[test]
    fn rows_supersede_records_one_for_one_and_kind_for_kind() {
        let mut rows = rows(&[(7, 1, false), (7, 2, true), (7, 3, true), (8, 4, false)]);
        rows.supersede(9, None, false);
        assert_eq!(gone(&mut rows), (vec![], vec![]));
        rows.supersede(7, Some("r"), true);
        assert_eq!(gone(&mut rows), (vec![(2, Some("r".into()), true)], vec![1, 3]));
        rows.supersede(7, Some("r"), true);
        rows.supersede(7, Some("r"), true);
        assert_eq!(gone(&mut rows).1, Vec::<i64>::new(), "the last takes what is left");
        rows.supersede(7, Some("r"), true);
        rows.supersede(8, None, true);
        assert_eq!(gone(&mut rows), (vec![(4, None, true)], vec![]));
        assert!(rows.has(8) && !rows.has(9));
    }

    #[test]
    fn a_good_row_supersedes_invalid_records_and_the_others_wait() {
        let mut rows = rows(&[(7, 1, false), (7, 2, true)]);
        rows.supersede_invalid(7, "r", false);
        assert_eq!(gone(&mut rows), (vec![(1, Some("r".into()), false)], vec![]));
        rows.supersede_invalid(7, "r", true);
        assert_eq!(gone(&mut rows).1, [1, 2]);
    }

    /// For example rows of commas only, or of `N/A`: a list searched for each of them would take hours.
    #[test]
    fn a_million_rows_of_one_content_take_no_time() {
        let records: Vec<_> = (1..1_000_000).map(|id| (0, id, false)).collect();
        let mut rows = rows(&records);
        for _ in &records {
            rows.supersede(0, None, false);
        }
        assert_eq!(gone(&mut rows).1, Vec::<i64>::new());
    }
}
