//! Exports rows of the ledger as CSV or JSON Lines.
//!
//! Cells are written exactly as they were read, because an exported file that is corrected and imported again must
//! mean the same. So even a cell that a spreadsheet would take for a formula is written unchanged; the documentation
//! warns of this. Rows are streamed from the ledger in the order in which they were read, so memory does not grow
//! with their number.

use std::io::{self, Write};

use serde::Serializer as _;
use serde_json::Value;

use crate::{
    customer::{Correction, Row, Rule, cell_of_reference, mapped_columns},
    error::Error,
    ledger::{Outcome, Reader, ReferenceRepeat, RowError, RowRecord, RunId, Selection, SourceHeader},
    source::EXPORT_COLUMNS,
};

/// The message of a row that was in flight when its run was killed: the cells of a row are stored when it is settled.
const ONLY_REFERENCE: &str = "the ledger has only the reference of this row; import its file again";

/// Which rows to export, and in which columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportRows {
    /// Rows with a customer id.
    Created,
    /// Rows without a customer id, in the source's own columns.
    Failed,
    /// Every row.
    All,
}

/// The output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// CSV with a header line.
    Csv,
    /// JSON Lines: one object per line.
    Jsonl,
}

/// The number of rows of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The rows written.
    pub rows: u64,
    /// Rows of a failed export that have only their reference, and so cannot be imported from it.
    pub only_references: u64,
}

/// A writer, and what an error calls it.
#[derive(Debug)]
pub struct NamedWriter<W> {
    /// A path, or `standard output`.
    pub name: String,
    /// The writer.
    pub writer: W,
}

/// Exports rows to the writer that `open` returns. Calls `open` only after the ledger was read and the run was found.
/// A closed pipe ends the export without an error.
///
/// # Errors
/// If the ledger cannot be read or the output cannot be written.
pub async fn export<W: Write>(
    ledger: &mut Reader,
    which: ExportRows,
    format: Format,
    run: Option<RunId>,
    open: impl FnOnce() -> Result<NamedWriter<W>, Error>,
) -> Result<Exported, Error> {
    let columns = ledger.source_headers(run).await?;
    if let Some(run) = run.filter(|run| !columns.iter().any(|columns| columns.run == *run)) {
        return Err(Error::usage(format!("there is no run {run} in the ledger"), "see status for the runs"));
    }
    let layout = ExportLayout::new(which, columns);
    let output = open()?;
    let mut writer = RowWriter::new(format, output.writer);
    let mut written = writer.begin(&layout.header);
    let mut exported = Exported { rows: 0, only_references: 0 };
    let selection = match which {
        ExportRows::Created => Selection::WithId,
        ExportRows::Failed => Selection::WithoutId,
        ExportRows::All => Selection::All,
    };
    ledger
        .rows(selection, run, |row| {
            if written.is_ok() {
                written = writer.write(&layout.header, &layout.cells(&row));
                exported.rows += 1;
                exported.only_references +=
                    u64::from(which == ExportRows::Failed && has_only_reference(&row));
            }
            written.is_ok()
        })
        .await?;
    ended(output.name, written.and_then(|()| writer.end()))?;
    Ok(exported)
}

/// Whether the row is pending without its cells, so that its row in a failed export cannot be imported.
fn has_only_reference(row: &RowRecord) -> bool {
    row.outcome == Outcome::Pending && row.cells.is_none()
}

/// A closed pipe is not an error: the reader wants no more.
fn ended(name: String, written: io::Result<()>) -> Result<(), Error> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output { name, error }),
        _ => Ok(()),
    }
}

/// A failed export written without a ledger, for `validate`: invalid and duplicate rows, as they are found.
pub struct FailedExport<W: Write> {
    layout: ExportLayout,
    name: String,
    writer: RowWriter<W>,
    written: io::Result<()>,
}

impl<W: Write> FailedExport<W> {
    /// Writes the header: the source's columns, of which `reference` has the references, and the export's own
    /// columns.
    pub fn new(columns: &[String], reference: Option<&str>, output: NamedWriter<W>) -> FailedExport<W> {
        let columns = SourceHeader {
            run: RunId::PRUNED,
            names: columns.to_vec(),
            reference: reference.map(str::to_owned),
        };
        let layout = ExportLayout::new(ExportRows::Failed, vec![columns]);
        let mut writer = RowWriter::new(Format::Csv, output.writer);
        let written = writer.begin(&layout.header);
        FailedExport { layout, name: output.name, writer, written }
    }

    /// Writes an invalid row or a duplicate. `is_repeated`: an earlier row has the same reference.
    pub fn write(&mut self, row: &Row, is_repeated: bool) {
        let repeats = if is_repeated { ReferenceRepeat::Yes } else { ReferenceRepeat::No };
        let (outcome, reference) = match &row.reading {
            Ok(customer) => (Outcome::Duplicate, Some(customer.reference.as_str())),
            Err(faults) => (Outcome::Invalid, faults.reference.as_deref()),
        };
        let row = RowRecord {
            run: RunId::PRUNED,
            line: i64::try_from(row.line).unwrap_or(i64::MAX),
            outcome,
            reference: reference.map(str::to_owned),
            customer_id: None,
            error: RowError::of_unsendable(&row.reading, repeats),
            attempts: 0,
            cells: Some(row.record.cells().map(str::to_owned).collect()),
            columns_of: RunId::PRUNED,
            api_reference: None,
        };
        if self.written.is_ok() {
            self.written = self.writer.write(&self.layout.header, &self.layout.cells(&row));
        }
    }

    /// Finishes the export.
    ///
    /// # Errors
    /// If the output could not be written.
    pub fn finish(self) -> Result<(), Error> {
        ended(self.name, self.written.and_then(|()| self.writer.end()))
    }
}

/// Builds header and cells of an export.
struct ExportLayout {
    which: ExportRows,
    header: Vec<String>,
    /// The position of each run's columns in the header.
    positions: Vec<(SourceHeader, Vec<usize>)>,
}

impl ExportLayout {
    fn new(which: ExportRows, columns: Vec<SourceHeader>) -> ExportLayout {
        let fixed: &[&str] = match which {
            ExportRows::Created => &["object_reference_id", "customer_id", "outcome", "line"],
            ExportRows::All => {
                &["line", "object_reference_id", "outcome", "customer_id", "error_code", "error_message"]
            }
            ExportRows::Failed => &[],
        };
        let mut layout = ExportLayout {
            which,
            header: fixed.iter().map(ToString::to_string).collect(),
            positions: Vec::new(),
        };
        if which == ExportRows::Failed {
            for columns in columns {
                let positions = layout.add_columns(&columns.names);
                layout.positions.push((columns, positions));
            }
            layout.header.extend(EXPORT_COLUMNS.map(str::to_owned));
        }
        layout
    }

    /// Adds a run's columns to the header, which is the union of the columns of these runs. A file may have the same column
    /// name twice.
    fn add_columns(&mut self, columns: &[String]) -> Vec<usize> {
        let mut positions: Vec<usize> = Vec::with_capacity(columns.len());
        for column in columns {
            let known =
                (0..self.header.len()).find(|at| self.header[*at] == *column && !positions.contains(at));
            positions.push(known.unwrap_or_else(|| {
                self.header.push(column.clone());
                self.header.len() - 1
            }));
        }
        positions
    }

    fn cells(&self, row: &RowRecord) -> Vec<Value> {
        let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
        match self.which {
            ExportRows::Created => {
                vec![text(&row.reference), text(&row.customer_id), row.outcome.name().into(), row.line.into()]
            }
            ExportRows::All => vec![
                row.line.into(),
                text(&row.reference),
                row.outcome.name().into(),
                text(&row.customer_id),
                text(&row.error.code),
                match &row.api_reference {
                    Some(spelling) => format!("the API spells the reference {spelling:?}").into(),
                    None => text(&row.error.message),
                },
            ],
            ExportRows::Failed => self.failed_cells(row),
        }
    }

    fn failed_cells(&self, row: &RowRecord) -> Vec<Value> {
        let own = self.header.len() - EXPORT_COLUMNS.len();
        let mut cells = vec![Value::Null; own];
        if let Some((columns, positions)) =
            self.positions.iter().find(|(columns, _)| columns.run == row.columns_of)
        {
            let map = columns.reference.as_deref();
            let of_reference = map.map(mapped_columns).unwrap_or_default();
            match &row.cells {
                // The cells cannot be assigned to columns. The row must not look valid, so the whole record goes
                // into one cell, which is never that of the reference.
                Some(raw) if is_of_layout(&row.error) => {
                    let at = columns
                        .names
                        .iter()
                        .position(|name| !of_reference.contains(name))
                        .unwrap_or_default();
                    if let Some(position) = positions.get(at) {
                        cells[*position] = one_line(raw).into();
                    }
                }
                Some(raw) => {
                    for (position, cell) in positions.iter().zip(raw) {
                        cells[*position] = cell.as_str().into();
                    }
                }
                // A row in doubt after a crash: the ledger has only its reference.
                None => {
                    let reference = map.zip(row.reference.as_deref());
                    let cell = reference.and_then(|(map, reference)| cell_of_reference(map, reference));
                    let at = |name: &str| columns.names.iter().position(|other| other == name);
                    if let Some((at, cell)) = cell.and_then(|(name, cell)| Some((at(&name)?, cell))) {
                        cells[positions[at]] = cell.into();
                    }
                }
            }
        }
        let RowError { field, code, message, http_status, .. } = &row.error;
        let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
        let is_duplicate =
            code.as_deref().is_some_and(|code| code.split(';').any(|code| code == Correction::DUPLICATE));
        // When the row is imported again, the reference in the message shows whether it has been corrected.
        let message = &message.as_deref().map(|message| match &row.reference {
            Some(reference) if is_duplicate => {
                message.replace(&Correction::message(None), &Correction::message(Some(reference)))
            }
            _ => message.to_owned(),
        });
        let message = match message {
            None if has_only_reference(row) => ONLY_REFERENCE.into(),
            message => text(message),
        };
        cells.extend([
            row.line.into(),
            row.outcome.name().into(),
            text(field),
            text(code),
            message,
            http_status.map_or(Value::Null, Value::from),
            row.attempts.into(),
        ]);
        cells
    }
}

/// Whether the cells of the row cannot be assigned to columns.
fn is_of_layout(error: &RowError) -> bool {
    let RowError { field, code, .. } = error;
    field.as_deref().zip(code.as_deref()).is_some_and(|(field, code)| Rule::is_of_layout(field, code))
}

/// A record as one line of CSV.
fn one_line(cells: &[String]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let written = writer.write_record(cells).map_err(io::Error::from);
    let line = written.and_then(|()| writer.into_inner().map_err(|error| error.into_error()));
    let line = String::from_utf8(line.unwrap_or_default()).unwrap_or_default();
    line.trim_end_matches('\n').to_owned()
}

/// The I/O error inside a CSV error, so that a closed pipe is recognized.
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// Writes one of the two formats.
enum RowWriter<W: Write> {
    Csv(Box<csv::Writer<W>>),
    Jsonl(io::BufWriter<W>),
}

impl<W: Write> RowWriter<W> {
    fn new(format: Format, output: W) -> RowWriter<W> {
        match format {
            Format::Csv => RowWriter::Csv(Box::new(csv::Writer::from_writer(output))),
            Format::Jsonl => RowWriter::Jsonl(io::BufWriter::new(output)),
        }
    }

    fn begin(&mut self, header: &[String]) -> io::Result<()> {
        match self {
            RowWriter::Csv(writer) => writer.write_record(header).map_err(io_error),
            RowWriter::Jsonl(_) => Ok(()),
        }
    }

    fn write(&mut self, header: &[String], cells: &[Value]) -> io::Result<()> {
        match self {
            RowWriter::Csv(writer) => {
                for cell in cells {
                    match cell {
                        Value::Null => writer.write_field(""),
                        Value::String(text) => writer.write_field(text),
                        other => writer.write_field(other.to_string()),
                    }
                    .map_err(io_error)?;
                }
                writer.write_record(None::<&[u8]>).map_err(io_error)
            }
            RowWriter::Jsonl(writer) => {
                // Serialized as a stream, so that the keys keep the order of the header.
                let object = header.iter().zip(cells);
                serde_json::Serializer::new(&mut *writer).collect_map(object)?;
                writer.write_all(b"\n")
            }
        }
    }

    fn end(mut self) -> io::Result<()> {
        match &mut self {
            RowWriter::Csv(writer) => writer.flush(),
            RowWriter::Jsonl(writer) => writer.flush(),
        }
    }
}
