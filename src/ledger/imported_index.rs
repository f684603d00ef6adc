//! The references that a ledger has imported, and their customer ids: what `verify` looks up.

use std::collections::HashMap;

#[cfg(feature = "postgres")]
use super::postgres;
use super::{
    error::Error,
    reader::{Backend, Reader},
    records::ImportedRow,
    sqlite,
};
use crate::customer::Reference;

/// The imported rows of a ledger.
pub enum ImportedIndex {
    /// Found by hashes in memory.
    Sqlite(sqlite::imported_index::ImportedIndex),
    /// Found by the server.
    #[cfg(feature = "postgres")]
    Postgres(Box<postgres::imported_index::ImportedIndex>),
}

impl ImportedIndex {
    /// Reads which rows are imported.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub async fn of(reader: Reader) -> Result<ImportedIndex, Error> {
        match reader.into_backend() {
            Backend::Sqlite(reader) => {
                sqlite::imported_index::ImportedIndex::of(*reader).await.map(ImportedIndex::Sqlite)
            }
            #[cfg(feature = "postgres")]
            Backend::Postgres(reader) => {
                let index = postgres::imported_index::ImportedIndex::of(*reader).await?;
                Ok(ImportedIndex::Postgres(index.into()))
            }
        }
    }

    /// How many rows are imported.
    pub fn rows(&self) -> usize {
        match self {
            ImportedIndex::Sqlite(index) => index.rows(),
            #[cfg(feature = "postgres")]
            ImportedIndex::Postgres(index) => index.rows(),
        }
    }

    /// Those of the references that were imported. A row that was found in an earlier call is not found again.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub async fn find(
        &mut self,
        references: impl Iterator<Item = &Reference>,
    ) -> Result<HashMap<String, ImportedRow>, Error> {
        match self {
            ImportedIndex::Sqlite(index) => index.find(references).await,
            #[cfg(feature = "postgres")]
            ImportedIndex::Postgres(index) => index.find(references).await,
        }
    }
}
