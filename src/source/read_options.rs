//! How a file is opened, and how its records become rows.
//!
//! The read options of a run are stored with the run, so that a retry, or an import of a failed export, reads the run's
//! rows in the same way. Decides nothing about the content of a file but its header.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    csv_reader::Quote,
    decode::Encoding,
    error::Error,
    heading::{has_column, has_columns_of},
};
use crate::{
    customer::{Field, Rules},
    ledger::RowMapping,
};

/// How to open a file and read its rows.
#[derive(Clone, Debug, Default)]
pub struct SourceOptions {
    /// The file, or `-` for standard input.
    pub path: PathBuf,
    /// The delimiter; detected from the head of the file if `None`.
    pub delimiter: Option<u8>,
    /// The character that quotes a cell.
    pub quote: Quote,
    /// The text encoding; a byte order mark in the file takes precedence.
    pub encoding: Encoding,
    /// Maximum number of data rows to read.
    pub limit: Option<u64>,
    /// How a record becomes a row.
    pub read: ReadOptions,
    /// Whether columns that feed no field are allowed.
    pub unused_columns: UnusedColumnPolicy,
    /// Columns that may feed no field, by name.
    pub ignored_columns: Vec<String>,
    /// The maps of earlier runs by the columns of their files; used for a failed export that is imported without its
    /// `map`.
    pub recorded: Vec<RecordedMap>,
}

/// What to do about columns that feed no field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnusedColumnPolicy {
    /// List them.
    #[default]
    Allow,
    /// Refuse the file.
    Refuse,
}

/// How a record becomes a row: which column holds which field, and the rules.
///
/// Stored as JSON with each run, so that a retry reads the run's rows in the same way.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReadOptions {
    /// The column of a field if their names differ, or a template of several columns: `cust_{id}`.
    pub map: Vec<(Field, String)>,
    /// How rows are validated, with the constants of `--set`.
    #[serde(flatten)]
    pub rules: Rules,
}

/// How an earlier run read a file with these columns.
#[derive(Clone, Debug)]
pub struct RecordedMap {
    /// The header of the file.
    pub columns: Vec<String>,
    /// The run's read options.
    pub read: ReadOptions,
    /// Whether the ledger has cells of its rows, so that an export of now has them.
    pub has_cells: bool,
    /// The name of the file.
    pub source: String,
}

impl RecordedMap {
    /// How a run read its file; none if the run has no columns of its own or was recorded by another version of this
    /// program.
    pub fn of(run: &RowMapping) -> Option<RecordedMap> {
        let read = ReadOptions::recorded(run).ok()?;
        let (columns, has_cells, source) = (run.columns.clone(), run.has_cells, run.source.clone());
        (!run.columns.is_empty()).then_some(RecordedMap { columns, read, has_cells, source })
    }

    /// Whether the run read its file from a column that feeds this field.
    pub(super) fn has(&self, field: Field) -> bool {
        match self.map_of(field) {
            Some(text) => has_columns_of(&self.columns, text),
            None => has_column(&self.columns, field.name()),
        }
    }

    /// The text of `map` for a field; none if the run read it from the column of its own name, if any.
    pub(super) fn map_of(&self, field: Field) -> Option<&str> {
        self.read.map.iter().find(|(of, _)| *of == field).map(|(_, text)| text.as_str())
    }
}

impl ReadOptions {
    /// The options of a run, as stored in the ledger.
    ///
    /// # Errors
    /// If another version of this program stored them: with the defaults, the rows might be read from other columns.
    pub(super) fn recorded(run: &RowMapping) -> Result<ReadOptions, Error> {
        let mut options: ReadOptions = match run.options.as_deref() {
            Some(stored) => serde_json::from_str(stored).map_err(|_| Error::UnknownReadOptions(run.run))?,
            None => ReadOptions::default(),
        };
        if let Some(column) = &run.reference_column {
            options.map.retain(|(field, _)| *field != Field::Reference);
            options.map.push((Field::Reference, column.clone()));
        }
        Ok(options)
    }
}

impl SourceOptions {
    /// These options for a failed export of this program, which is UTF-8 whatever the encoding of the original file.
    /// If the header is not UTF-8, another program saved the file, and the declared encoding applies.
    pub(super) fn for_export(&self, is_utf8: bool, delimiter: u8) -> SourceOptions {
        let encoding = if is_utf8 { Encoding::default() } else { self.encoding };
        SourceOptions { encoding, delimiter: Some(delimiter), quote: Quote::default(), ..self.clone() }
    }

    /// A hash of every setting that affects parsing. Includes the program's version, because another version may parse
    /// the same bytes differently.
    pub(super) fn parse_settings_hash(&self, read: &ReadOptions) -> String {
        let (SourceOptions { delimiter, quote, encoding, .. }, ReadOptions { map, rules }) = (self, read);
        let version = env!("CARGO_PKG_VERSION");
        let text = format!("{version} {map:?} {delimiter:?} {quote:?} {encoding:?} {rules:?}");
        format!("{:016x}", xxh3_64(text.as_bytes()))
    }
}
