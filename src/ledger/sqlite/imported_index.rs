//! The references that a ledger has imported, and their customer ids: what `verify` looks up.
//!
//! Sixteen bytes a row in memory, and one pass over the table: no index is needed, and no lock that a run would
//! wait for. A hash only proposes a row; the text decides.

use std::collections::HashMap;

use sqlx::Row as _;

use super::{
    super::{error::Error, model::RowId, records::ImportedRow},
    bulk::json_ids,
    queries::{SELECT_IMPORTED, SELECT_IMPORTED_KEYS},
    reader::Reader,
};
use crate::customer::{Fingerprint, Reference};

/// The imported rows of a ledger.
pub struct ImportedIndex {
    reader: Reader,
    /// Hash and row, in order.
    keys: Vec<(u64, RowId)>,
    /// Which of them were found already.
    found: Vec<bool>,
}

impl ImportedIndex {
    /// Reads which rows are imported.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn of(mut reader: Reader) -> Result<ImportedIndex, Error> {
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

    /// How many rows are imported.
    pub fn rows(&self) -> usize {
        self.keys.len()
    }

    /// Those of the references that were imported. A row that was found in an earlier call is not found again.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn find(
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
            // A run beside us may have changed the table since.
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
