//! The ledger as a source: rows that did not succeed, read again from the cells that were kept of them.
//!
//! Each row is read the way the run read it whose columns its cells are by: `--map`, `--set` and the rules stand
//! with the run. What the user says now comes on top. The reference is a row's identity and stays what it is.
//!
//! The rows bring no cells along: the ledger has them, and keeps them until the row succeeds.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{
    CHUNK_ROWS, CHUNKS_AHEAD, Chunk, Error, Options,
    columns::{ColumnMap, has_column},
};
use crate::{
    customer::{Cells, Field, Phones, Place, Record, Row, Rules, Validation},
    ledger::{Reader, RetryFilter, RetryRow, RowMapping},
};

/// What of the options decides how a record becomes a customer, as it is kept with a run.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    map: Vec<(String, String)>,
    set: Vec<(String, String)>,
    lenient: bool,
    require: Vec<String>,
    drop_invalid_optional: bool,
    phone_region: Option<String>,
}

/// The options' part that a retry of the run's rows needs, as text for the ledger.
pub(super) fn to_keep(options: &Options) -> String {
    let named = |(field, text): &(Field, String)| (field.name().to_owned(), text.clone());
    let kept = Kept {
        map: options.map.iter().map(named).collect(),
        set: options.rules.constants.iter().map(named).collect(),
        lenient: options.rules.validation == Validation::Lenient,
        require: options.rules.require.iter().map(|field| field.name().to_owned()).collect(),
        drop_invalid_optional: options.rules.drop_invalid_optional,
        phone_region: options.rules.phones.as_ref().map(Phones::region),
    };
    serde_json::to_string(&kept).unwrap_or_default()
}

impl Kept {
    fn options(self) -> Options {
        let field = |(name, text): (String, String)| Some((Field::from_name(&name)?, text));
        Options {
            map: self.map.into_iter().filter_map(field).collect(),
            rules: Rules {
                validation: if self.lenient { Validation::Lenient } else { Validation::Documented },
                require: self.require.iter().filter_map(|name| Field::from_name(name)).collect(),
                constants: self.set.into_iter().filter_map(field).collect(),
                drop_invalid_optional: self.drop_invalid_optional,
                phones: self.phone_region.and_then(|region| Phones::of(&region).ok()),
            },
            ..Options::default()
        }
    }
}

/// What the user says now of how rows are read; what is not said stays as it was.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Fields from other columns.
    pub map: Vec<(Field, String)>,
    /// Whether they were told for these rows; else they count only where a run's source has the column.
    pub is_map_told: bool,
    /// Other constants.
    pub set: Vec<(Field, String)>,
    /// How strictly.
    pub validation: Option<Validation>,
    /// Further fields that must be there.
    pub require: Vec<Field>,
    /// Whether bad optional fields are left out from now on.
    pub drop_invalid_optional: bool,
    /// How phone numbers are read.
    pub phones: Option<Phones>,
}

impl Changes {
    fn apply(&self, options: &mut Options, columns: &[String]) {
        fn replace(old: &mut Vec<(Field, String)>, new: &[(Field, String)]) {
            old.retain(|(field, _)| !new.iter().any(|(other, _)| other == field));
            old.extend(new.iter().cloned());
        }
        let fits = |(_, column): &&(Field, String)| self.is_map_told || has_column(columns, column);
        replace(&mut options.map, &self.map.iter().filter(fits).cloned().collect::<Vec<_>>());
        let rules = &mut options.rules;
        replace(&mut rules.constants, &self.set);
        rules.validation = self.validation.unwrap_or(rules.validation);
        rules.require.extend(&self.require);
        rules.drop_invalid_optional |= self.drop_invalid_optional;
        if self.phones.is_some() {
            rules.phones.clone_from(&self.phones);
        }
    }
}

/// Rows of a ledger, to be read again.
pub struct RecordedSource {
    reader: Reader,
    wanted: RetryFilter,
    readings: HashMap<i64, (ColumnMap, Rules)>,
    left: u64,
}

impl RecordedSource {
    /// Finds out how each run's rows are read; at most `limit` rows will come.
    ///
    /// # Errors
    /// Where the ledger cannot be read, or a column that the user names is not there.
    pub async fn open(
        mut reader: Reader,
        wanted: RetryFilter,
        changes: &Changes,
        limit: Option<u64>,
    ) -> Result<RecordedSource, Error> {
        let mut readings = HashMap::new();
        for reading in reader.row_mappings().await? {
            // A retry has no columns of its own.
            if !reading.columns.is_empty() {
                readings.insert(reading.run, understand(reading, changes)?);
            }
        }
        Ok(RecordedSource { reader, wanted, readings, left: limit.unwrap_or(u64::MAX) })
    }

    /// Reads everything, page by page; the receiver gets an error at most once, last. Ends when the
    /// receiver is dropped.
    pub fn stream(self) -> (impl Future<Output = ()> + Send, mpsc::Receiver<Result<Chunk, Error>>) {
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        (self.read(sender), receiver)
    }

    async fn read(mut self, sender: mpsc::Sender<Result<Chunk, Error>>) {
        let (mut after, mut rows_read) = (0, 0);
        while self.left > 0 {
            let most = self.left.min(CHUNK_ROWS as u64);
            // Not above CHUNK_ROWS, so it fits.
            let page = self.reader.retry_rows(&self.wanted, after, most as u32).await;
            let page = match page {
                Ok(page) if page.is_empty() => return,
                Ok(page) => page,
                Err(error) => return drop(sender.send(Err(error.into())).await),
            };
            after = page.last().map_or(after, |row| row.id);
            self.left -= (page.len() as u64).min(self.left);
            rows_read += page.len() as u64;
            let rows = page.iter().filter_map(|recorded| self.row(recorded)).collect();
            if sender
                .send(Ok(Chunk { rows, place: Place { bytes: rows_read, ..Place::default() } }))
                .await
                .is_err()
            {
                return;
            }
        }
    }

    fn row(&self, recorded: &RetryRow) -> Option<Row> {
        let (layout, rules) = self.readings.get(&recorded.columns_of)?;
        let mut cells: Cells<'_> = [None; Field::COUNT];
        for (cell, place) in cells.iter_mut().zip(&layout.places) {
            *cell = place.map(|at| recorded.cells.get(at).map_or("", String::as_str));
        }
        let reading = rules.read(&cells);
        Some(Row { line: recorded.line, record: Record::default(), reading, corrects: None })
    }
}

fn understand(reading: RowMapping, changes: &Changes) -> Result<(ColumnMap, Rules), Error> {
    let kept: Option<Kept> = reading.rest.as_deref().and_then(|rest| serde_json::from_str(rest).ok());
    let mut options = kept.unwrap_or_default().options();
    if let Some(column) = reading.reference_column {
        options.map.retain(|(field, _)| *field != Field::Reference);
        options.map.push((Field::Reference, column));
    }
    changes.apply(&mut options, &reading.columns);
    let layout = ColumnMap::find(&format!("run {}", reading.run), &reading.columns, &options)?;
    Ok((layout, options.rules))
}
