//! The ids of faults: the table `fault` stores each fault once for all rows that have it.
//!
//! Millions of rows that cannot be sent are wrong in few ways, so each fault is written once, and the rows refer to it by
//! its id. But a message may contain a position or a length, so a file may have as many faults as rows: once the table
//! has [`FAULTS_MAX`], a further fault is stored with its row.
//!
//! Pure: the store reads and writes the table.

use std::collections::HashMap;

use super::super::claim::RowError;

/// Faults in the table, and so in memory: some hundred bytes each.
pub(super) const FAULTS_MAX: usize = 1024;

/// Field, code and message.
pub(super) type FaultWords<'a> = [Option<&'a str>; 3];

/// Where the words of a fault are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultStorage {
    /// In the table, under this id.
    Table(i64),
    /// Not yet in the table; from now on under this id.
    NewInTable(i64),
    /// With the row: the table is full.
    Row,
}

/// The faults of the table.
#[derive(Default)]
pub(super) struct FaultIds {
    /// None until the table has been read.
    ids: Option<HashMap<String, i64>>,
    /// The highest id of the table.
    last: i64,
    /// The words of the last fault, as a key.
    key: String,
}

impl FaultIds {
    /// Whether the table has been read.
    pub(super) fn is_read(&self) -> bool {
        self.ids.is_some()
    }

    /// Adds the rows of the table.
    pub(super) fn read<'a>(&mut self, rows: impl IntoIterator<Item = (i64, FaultWords<'a>)>) {
        let mut ids = HashMap::new();
        for (id, words) in rows {
            self.set_key(words);
            ids.insert(self.key.clone(), id);
            self.last = self.last.max(id);
        }
        self.ids = Some(ids);
    }

    /// Where the words of this fault are stored.
    pub(super) fn storage_of(&mut self, RowError { field, code, message, .. }: &RowError) -> FaultStorage {
        self.set_key([field.as_deref(), code.as_deref(), message.as_deref()]);
        let ids = self.ids.get_or_insert_default();
        if let Some(id) = ids.get(&self.key) {
            return FaultStorage::Table(*id);
        }
        if ids.len() >= FAULTS_MAX {
            return FaultStorage::Row;
        }
        self.last = self.last.saturating_add(1);
        ids.insert(self.key.clone(), self.last);
        FaultStorage::NewInTable(self.last)
    }

    fn set_key(&mut self, words: FaultWords<'_>) {
        self.key.clear();
        for word in words {
            // No word has these characters.
            self.key.push_str(word.unwrap_or("\u{1}"));
            self.key.push('\0');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(message: &str) -> RowError {
        RowError { field: Some("f".into()), message: Some(message.into()), ..RowError::default() }
    }

    #[test]
    fn a_fault_goes_into_the_table_once() {
        let mut faults = FaultIds::default();
        assert!(!faults.is_read());
        faults.read([(7, [Some("f"), None, Some("a")])]);
        assert_eq!(faults.storage_of(&fault("a")), FaultStorage::Table(7));
        assert_eq!(faults.storage_of(&fault("b")), FaultStorage::NewInTable(8));
        assert_eq!(faults.storage_of(&fault("b")), FaultStorage::Table(8));
        assert_eq!(faults.storage_of(&RowError::default()), FaultStorage::NewInTable(9));
    }

    #[test]
    fn a_full_table_leaves_a_fault_with_its_row() {
        let mut faults = FaultIds::default();
        for at in 0..FAULTS_MAX {
            assert_eq!(faults.storage_of(&fault(&at.to_string())), FaultStorage::NewInTable(at as i64 + 1));
        }
        assert_eq!(faults.storage_of(&fault("one more")), FaultStorage::Row);
        assert_eq!(faults.storage_of(&fault("0")), FaultStorage::Table(1));
    }
}
