//! The references that a ledger has imported, and their customer ids: what `verify` looks up.
//!
//! The server has an index over references, so each lot of them is asked for. In memory are the numbers of the rows that
//! were found.

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
    /// Counts the rows that are imported.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub(crate) async fn of(mut reader: Reader) -> Result<ImportedIndex, Error> {
        let row = reader.connection.read_one(&Statement::new(COUNT_IMPORTED)).await?;
        let rows = usize::try_from(row.count(0)).unwrap_or(usize::MAX);
        Ok(ImportedIndex { reader, rows, found: HashSet::new() })
    }

    /// How many rows are imported.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Those of the references that were imported. A row that was found in an earlier call is not found again.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
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
