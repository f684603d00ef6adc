//! The references that a ledger has imported, with their customer ids, for `verify`.
//!
//! The server has an index of references, so each batch of them is one query. Only the ids of the rows that were found
//! are kept in memory.

use std::collections::{HashMap, HashSet};

use sqlx::Row as _;

use super::{
    super::{error::Error, model::RowId, records::ImportedRow, rows::ResultRow as _},
    parameters::{Statement, without_nul},
    queries::SELECT_IMPORTED,
    reader::Reader,
    statements::COUNT_IMPORTED,
};
use crate::customer::Reference;

/// The imported rows of a ledger.
pub struct ImportedIndex {
    reader: Reader,
    rows: usize,
    found: HashSet<RowId>,
}

impl ImportedIndex {
    /// Opens the index and counts the imported rows.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub(crate) async fn of(mut reader: Reader) -> Result<ImportedIndex, Error> {
        let row = reader.connection.read_one(&Statement::new(COUNT_IMPORTED)).await?;
        let rows = usize::try_from(row.count(0)).unwrap_or(usize::MAX);
        Ok(ImportedIndex { reader, rows, found: HashSet::new() })
    }

    /// The number of imported rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Finds the imported rows with these references. A row that an earlier call has found is not found again.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub(crate) async fn find(
        &mut self,
        references: impl Iterator<Item = &Reference>,
    ) -> Result<HashMap<String, ImportedRow>, Error> {
        let texts: Vec<_> = references.map(|reference| without_nul(reference.as_str())).collect();
        if texts.is_empty() {
            return Ok(HashMap::new());
        }
        let select = Statement::new(SELECT_IMPORTED).bind(texts);
        let mut found = HashMap::new();
        for row in self.reader.connection.read(&select).await? {
            let id = RowId(row.get(0));
            if self.found.insert(id) {
                let remembered = row.fingerprint(3).unwrap_or_default();
                found.insert(
                    row.text(1).unwrap_or_default(),
                    ImportedRow { id, customer_id: row.get(2), remembered },
                );
            }
        }
        Ok(found)
    }
}
