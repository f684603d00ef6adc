//! The imported references of a ledger with their customer ids, for the lookups of `verify`.
//!
//! Sixteen bytes per row in memory, and one pass over the table: no database index is needed, and no lock that a run
//! would wait for. A hash only finds candidate rows; the texts are compared.

use std::collections::HashMap;

use sqlx::Row as _;

use super::{
    super::{error::Error, json_rows::json_ids, model::RowId, records::ImportedRow},
    queries::{SELECT_IMPORTED, SELECT_IMPORTED_KEYS},
    reader::Reader,
};
use crate::customer::{Fingerprint, Reference};

/// The imported rows of a ledger.
pub struct ImportedIndex {
    reader: Reader,
    /// Hash and row, sorted.
    keys: Vec<(u64, RowId)>,
    /// Whether each of `keys` was already found.
    found: Vec<bool>,
}

impl ImportedIndex {
    /// Reads which rows are imported.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) async fn of(mut reader: Reader) -> Result<ImportedIndex, Error> {
        let mut keys: Vec<(u64, RowId)> = Vec::new();
        let each = |row: &sqlx::sqlite::SqliteRow| {
            keys.push((row.get::<i64, _>(0) as u64, RowId(row.get(1))));
            Ok(true)
        };
        reader.each(sqlx::query(SELECT_IMPORTED_KEYS), each).await?;
        keys.sort_unstable();
        let found = vec![false; keys.len()];
        Ok(ImportedIndex { reader, keys, found })
    }

    /// The number of imported rows.
    pub(crate) fn rows(&self) -> usize {
        self.keys.len()
    }

    /// The imported rows among these references. A row that an earlier call returned is not returned again.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) async fn find(
        &mut self,
        references: impl Iterator<Item = &Reference>,
    ) -> Result<HashMap<String, ImportedRow>, Error> {
        let candidates = references.flat_map(|reference| {
            let key = reference.key();
            let begin = self.keys.partition_point(|(other, _)| *other < key);
            self.keys[begin..].iter().take_while(move |(other, _)| *other == key).map(|(_, id)| *id)
        });
        let ids: Vec<RowId> = candidates.collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = self.reader.all(sqlx::query(SELECT_IMPORTED).bind(json_ids(&ids))).await?;
        let mut found = HashMap::new();
        for row in rows {
            let (id, reference): (RowId, &str) = (RowId(row.get(0)), row.get(1));
            let key = Reference::recorded(reference).key();
            // A concurrent run may have changed the table since.
            if let Ok(at) = self.keys.binary_search(&(key, id))
                && let (false, Some(customer_id)) = (self.found[at], row.get::<Option<String>, _>(2))
            {
                self.found[at] = true;
                let remembered = row.get::<Option<&[u8]>, _>(3).and_then(Fingerprint::recorded);
                let remembered = remembered.unwrap_or_default();
                found.insert(reference.to_owned(), ImportedRow { id, customer_id, remembered });
            }
        }
        Ok(found)
    }
}
