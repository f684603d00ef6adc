//! The ledger as a source: rows that did not succeed, read again from the cells stored in the ledger.
//!
//! Each row is read with the [`ReadOptions`] of the run whose header names its cells. Options of the retry override
//! them, except for the reference: it identifies the row and must not change.
//!
//! The rows are passed on without cells: the ledger has the cells, and keeps them until the row succeeds.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::mpsc;

use super::{
    Adjustments, CHUNK_ROWS, CHUNKS_AHEAD, Chunk, Error, ReadOptions,
    columns::{ColumnMap, with_template_faults},
    heading::has_columns_of,
};
use crate::{
    customer::{Field, Record, Rescue, Rescues, Row, Rules, SourcePosition, ValidRecord},
    ledger::{Reader, RetryFilter, RetryRow, RowId, RowMapping, RowRecord, RunId, Selection},
};

/// How a retry reads its rows.
#[derive(Clone, Debug, Default)]
pub struct ReplayOptions {
    /// Overrides of the runs' own read options; options that are not set keep their values.
    pub overrides: ReadOptions,
    /// Whether a `map` override applies only to runs whose source has that column. True for a map from a settings file,
    /// which serves imports of several files.
    pub map_known_columns_only: bool,
    /// Maximum number of rows to read.
    pub limit: Option<u64>,
}

impl ReplayOptions {
    /// Overrides the options of a run whose source has these columns.
    fn apply_to(&self, options: &mut ReadOptions, columns: &[String]) {
        fn replace(old: &mut Vec<(Field, String)>, new: &[(Field, String)]) {
            old.retain(|(field, _)| !new.iter().any(|(other, _)| other == field));
            old.extend(new.iter().cloned());
        }
        let ReadOptions { map, rules: overrides } = &self.overrides;
        let applies =
            |(_, column): &&(Field, String)| !self.map_known_columns_only || has_columns_of(columns, column);
        replace(&mut options.map, &map.iter().filter(applies).cloned().collect::<Vec<_>>());
        let rules = &mut options.rules;
        replace(&mut rules.constants, &overrides.constants);
        rules.validation = overrides.validation.or(rules.validation);
        rules.require.extend(&overrides.require);
        rules.null_markers.extend(overrides.null_markers.iter().cloned());
        rules.drop_invalid_optional |= overrides.drop_invalid_optional;
        if overrides.phone_region.is_some() {
            rules.phone_region.clone_from(&overrides.phone_region);
        }
    }
}

/// Rows of a ledger to be read again.
pub struct ReplaySource {
    reader: Reader,
    wanted: RetryFilter,
    /// How to read the rows of each run.
    by_run: HashMap<RunId, (ColumnMap, Rules)>,
    rows_left: u64,
    adjustments: Arc<Adjustments>,
}

impl ReplaySource {
    /// Determines how the rows of each run are read.
    ///
    /// # Errors
    /// If the ledger cannot be read, or a column that the user named does not exist.
    pub async fn open(
        mut reader: Reader,
        wanted: RetryFilter,
        options: &ReplayOptions,
    ) -> Result<ReplaySource, Error> {
        let mut by_run = HashMap::new();
        for mapping in reader.row_mappings().await? {
            // A retry has no columns of its own, so no row's cells are named by its header.
            if mapping.has_cells && !mapping.columns.is_empty() {
                by_run.insert(mapping.run, resolve(&mapping, options)?);
            }
        }
        let rows_left = options.limit.unwrap_or(u64::MAX);
        Ok(ReplaySource { reader, wanted, by_run, rows_left, adjustments: Arc::default() })
    }

    /// The counts of what is read differently from how it is written in the cells. They grow while rows are read.
    pub fn adjustments(&self) -> Arc<Adjustments> {
        Arc::clone(&self.adjustments)
    }

    /// Reads all rows page by page. The receiver gets at most one error, as its last item. Dropping the receiver ends
    /// reading.
    pub fn stream(self) -> (impl Future<Output = ()> + Send, mpsc::Receiver<Result<Chunk, Error>>) {
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        (self.read(sender), receiver)
    }

    async fn read(mut self, sender: mpsc::Sender<Result<Chunk, Error>>) {
        let (mut after, mut rows_read) = (RowId(0), 0);
        while self.rows_left > 0 {
            let most = self.rows_left.min(CHUNK_ROWS as u64);
            // At most CHUNK_ROWS, so the cast cannot truncate.
            let page = self.reader.retry_rows(&self.wanted, after, most as u32).await;
            let page = match page {
                Ok(page) if page.is_empty() => return,
                Ok(page) => page,
                Err(error) => return drop(sender.send(Err(error.into())).await),
            };
            after = page.last().map_or(after, |row| row.id);
            self.rows_left -= (page.len() as u64).min(self.rows_left);
            rows_read += page.len() as u64;
            let rows = page.iter().filter_map(|recorded| self.row(recorded)).collect();
            let position = SourcePosition { bytes: rows_read, ..SourcePosition::default() };
            if sender.send(Ok(Chunk { rows, position })).await.is_err() {
                return;
            }
        }
    }

    fn row(&self, recorded: &RetryRow) -> Option<Row> {
        let (columns, rules) = self.by_run.get(&recorded.columns_of)?;
        let cell = |at: usize| recorded.cells.get(at).map_or("", String::as_str);
        let value = |at: usize| rules.without_marker(cell(at));
        let rendered = columns.render(value);
        let reading = with_template_faults(rules.check(&columns.cells(value, &rendered)), &rendered);
        self.adjustments.add_null_markers(columns.null_marked(rules, cell), recorded.line);
        self.adjustments.add_values(&reading, recorded.line);
        let reading = reading.map(ValidRecord::customer);
        Some(Row { line: recorded.line, record: Record::default(), reading, corrects: None })
    }
}

/// What each option that was not given would make of the invalid rows of a run, or of the whole ledger: the rows are
/// read again, each as the run whose header names its cells read it. Rows of a run that another version of this program
/// recorded are left out.
///
/// # Errors
/// If the ledger cannot be read.
pub async fn tried_options(reader: &mut Reader, run: Option<RunId>) -> Result<Vec<Rescue>, Error> {
    let mut by_run = HashMap::new();
    for mapping in reader.row_mappings().await?.into_iter().filter(|mapping| mapping.has_cells) {
        if let Ok((columns, rules)) = resolve(&mapping, &ReplayOptions::default()) {
            let rescues = Rescues::new(&rules);
            by_run.insert(mapping.run, (columns, rules, rescues));
        }
    }
    let try_row = |row: RowRecord| {
        let is_of_record = |field: &str| field.split(';').any(|name| Field::from_name(name).is_none());
        let is_tried = !row.error.field.as_deref().is_none_or(is_of_record);
        if let (true, Some(cells), Some((columns, rules, rescues))) =
            (is_tried, &row.cells, by_run.get_mut(&row.columns_of))
        {
            let value = |at: usize| rules.without_marker(cells.get(at).map_or("", String::as_str));
            let rendered = columns.render(value);
            let cells = columns.cells(value, &rendered);
            if let Err(faults) = with_template_faults(rules.check(&cells), &rendered) {
                rescues.try_row(&cells, &faults);
            }
        }
        true
    };
    reader.rows(Selection::Invalid, run, try_row).await?;
    Ok(Rescue::sum(by_run.into_values().flat_map(|(.., rescues)| rescues.list())))
}

/// The column map and the rules for the rows of one run.
fn resolve(mapping: &RowMapping, replay: &ReplayOptions) -> Result<(ColumnMap, Rules), Error> {
    let mut options = ReadOptions::recorded(mapping)?;
    replay.apply_to(&mut options, &mapping.columns);
    let columns = ColumnMap::find(&format!("run {}", mapping.run), &mapping.columns, &options)?;
    Ok((columns, options.rules))
}
