//! Which references a ledger has imported, and under which ids: what `verify` asks after.
//!
//! Sixteen bytes a row in memory, and one pass over the table: no index is needed, and no lock that a run would
//! wait for. A hash only proposes a row; the text decides.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use sqlx::Row as _;

use super::{super::Error, mark_changed::ChangedAtApi, reader::Reader};
use crate::customer::{Fingerprint, Reference};

const SELECT_KEYS: &str = "select key, id from row where customer_id is not null";

const SELECT_IMPORTED: &str = "
    select id, reference, customer_id, fingerprint from row where id in (select value from json_each(?1))";

/// A row that was imported.
#[derive(Clone, Debug)]
pub struct ImportedRow {
    id: i64,
    /// Its customer id.
    pub customer_id: String,
    remembered: Fingerprint,
}

impl ImportedRow {
    /// What to mark, where the file says what the ledger remembers and the API has something else. What the ledger
    /// remembers otherwise is changed as it is.
    pub fn differing(&self, of_file: Fingerprint, facts: Fingerprint) -> Option<ChangedAtApi> {
        let at_api = of_file.at_api(facts, true);
        let is_news = self.remembered == of_file && at_api != of_file;
        is_news.then_some(ChangedAtApi { id: self.id, of_file, at_api })
    }
}

/// The imported rows of a ledger.
pub struct ImportedIndex {
    reader: Reader,
    /// In order of their hashes.
    keys: Vec<(u64, i64)>,
    /// Of these rows, which were found already.
    met: Vec<bool>,
}

impl ImportedIndex {
    /// Takes in which rows there are.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn of(mut reader: Reader) -> Result<ImportedIndex, Error> {
        let mut keys: Vec<(u64, i64)> = Vec::new();
        let path = reader.path.clone();
        let mut rows = sqlx::query(SELECT_KEYS).fetch(&mut reader.connection);
        while let Some(row) =
            rows.try_next().await.map_err(|error| Error::Sqlite { path: path.clone(), error })?
        {
            keys.push((row.get::<i64, _>(0) as u64, row.get(1)));
        }
        drop(rows);
        keys.sort_unstable();
        let met = vec![false; keys.len()];
        Ok(ImportedIndex { reader, keys, met })
    }

    /// How many there are.
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
        let places = references.flat_map(|reference| {
            let key = reference.key();
            let begin = self.keys.partition_point(|(other, _)| *other < key);
            self.keys[begin..].iter().take_while(move |(other, _)| *other == key).map(|(_, id)| *id)
        });
        let ids: Vec<i64> = places.collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let ids = serde_json::to_string(&ids).unwrap_or_default();
        let rows = self.reader.all(sqlx::query(SELECT_IMPORTED).bind(ids)).await?;
        let mut found = HashMap::new();
        for row in rows {
            let (id, reference): (i64, &str) = (row.get(0), row.get(1));
            let key = Reference::recorded(reference).key();
            // A run beside us may have changed the table since.
            if let Ok(at) = self.keys.binary_search(&(key, id))
                && let (false, Some(customer_id)) = (self.met[at], row.get::<Option<String>, _>(2))
            {
                self.met[at] = true;
                let remembered = row.get::<Option<&[u8]>, _>(3).and_then(Fingerprint::recorded);
                let remembered = remembered.unwrap_or_default();
                found.insert(reference.to_owned(), ImportedRow { id, customer_id, remembered });
            }
        }
        Ok(found)
    }
}
