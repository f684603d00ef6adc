//! Rows as CSV or JSON Lines.
//!
//! Cells are written exactly as they were read: what is exported, corrected and imported again
//! must mean the same. That leaves cells in that a spreadsheet may take for formulas; the documentation says
//! so. Rows come in the order in which they were met, straight from the ledger: memory does not
//! grow with them.

use std::io::{self, Write};

use serde::Serializer as _;
use serde_json::Value;

use crate::{
    customer::{Correction, Row, Rule},
    error::Error,
    ledger::{
        Reader, ReferenceRepeat, RowError, RowRecord, RunId, Selection, SourceHeader, describe_unsendable,
    },
    source::EXPORT_COLUMNS,
};

/// Which rows, and in which columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Rows with a customer id.
    Created,
    /// Rows without, in the source's own columns.
    Failed,
    /// Every row.
    All,
}

/// How they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// With a header line.
    Csv,
    /// One object a line.
    Jsonl,
}

/// Writes the rows to what `open` gives, which is asked only once it is sure that there is something
/// to write. A reader that has had enough ends the writing without an error.
///
/// # Errors
/// Where the ledger cannot be read or the output cannot be written.
pub async fn export<W: Write>(
    ledger: &mut Reader,
    what: What,
    format: Format,
    run: Option<RunId>,
    open: impl FnOnce() -> Result<W, Error>,
) -> Result<(), Error> {
    let columns = ledger.source_headers(run).await?;
    if let Some(run) = run.filter(|run| !columns.iter().any(|columns| columns.run == *run)) {
        return Err(Error::usage(format!("there is no run {run} in the ledger"), "see status for the runs"));
    }
    let layout = Layout::new(what, columns);
    let mut sheet = Sheet::new(format, open()?);
    let mut written = sheet.begin(&layout.header);
    let selection = match what {
        What::Created => Selection::WithId,
        What::Failed => Selection::WithoutId,
        What::All => Selection::All,
    };
    ledger
        .rows(selection, run, |row| {
            if written.is_ok() {
                written = sheet.write(&layout.header, &layout.cells(&row));
            }
            written.is_ok()
        })
        .await?;
    ended(written.and_then(|()| sheet.end()))
}

/// A reader that has had enough is no error.
fn ended(written: io::Result<()>) -> Result<(), Error> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Output { name: "the export".into(), error })
        }
        _ => Ok(()),
    }
}

/// The failed export of a file that no ledger knows: invalid rows and duplicates, as they are found.
pub struct Failed<W: Write> {
    layout: Layout,
    sheet: Sheet<W>,
    written: io::Result<()>,
}

impl<W: Write> Failed<W> {
    /// Begins with the header: the source's columns, of which one holds the references, and what is said
    /// of each row.
    pub fn new(columns: &[String], reference: Option<&str>, output: W) -> Failed<W> {
        let columns = SourceHeader {
            run: RunId::PRUNED,
            names: columns.to_vec(),
            reference: reference.map(str::to_owned),
        };
        let layout = Layout::new(What::Failed, vec![columns]);
        let mut sheet = Sheet::new(Format::Csv, output);
        let written = sheet.begin(&layout.header);
        Failed { layout, sheet, written }
    }

    /// Writes a row that is invalid, perhaps `is_again` one with the reference of an earlier row, or else a duplicate.
    pub fn write(&mut self, row: &Row, is_again: bool) {
        let repeats = if is_again { ReferenceRepeat::Yes } else { ReferenceRepeat::No };
        let (outcome, reference, error) = describe_unsendable(&row.reading, repeats);
        let row = RowRecord {
            run: RunId::PRUNED,
            line: i64::try_from(row.line).unwrap_or(i64::MAX),
            outcome,
            reference,
            customer_id: None,
            error,
            attempts: 0,
            cells: Some(row.record.cells().map(str::to_owned).collect()),
            columns_of: RunId::PRUNED,
            api_reference: None,
        };
        if self.written.is_ok() {
            self.written = self.sheet.write(&self.layout.header, &self.layout.cells(&row));
        }
    }

    /// Ends the writing.
    ///
    /// # Errors
    /// Where the output could not be written.
    pub fn end(self) -> Result<(), Error> {
        ended(self.written.and_then(|()| self.sheet.end()))
    }
}

/// Header and cells of an export.
struct Layout {
    what: What,
    header: Vec<String>,
    /// For each run, where its columns stand in the header.
    places: Vec<(SourceHeader, Vec<usize>)>,
}

impl Layout {
    fn new(what: What, columns: Vec<SourceHeader>) -> Layout {
        let fixed: &[&str] = match what {
            What::Created => &["object_reference_id", "customer_id", "outcome", "line"],
            What::All => {
                &["line", "object_reference_id", "outcome", "customer_id", "error_code", "error_message"]
            }
            What::Failed => &[],
        };
        let mut layout =
            Layout { what, header: fixed.iter().map(ToString::to_string).collect(), places: Vec::new() };
        if what == What::Failed {
            for columns in columns {
                let places = layout.place(&columns.names);
                layout.places.push((columns, places));
            }
            layout.header.extend(EXPORT_COLUMNS.map(str::to_owned));
        }
        layout
    }

    /// The union of all runs' columns, each run's in its own order; a name may stand in a file twice.
    fn place(&mut self, columns: &[String]) -> Vec<usize> {
        let mut places: Vec<usize> = Vec::with_capacity(columns.len());
        for column in columns {
            let known = (0..self.header.len()).find(|at| self.header[*at] == *column && !places.contains(at));
            places.push(known.unwrap_or_else(|| {
                self.header.push(column.clone());
                self.header.len() - 1
            }));
        }
        places
    }

    fn cells(&self, row: &RowRecord) -> Vec<Value> {
        let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
        match self.what {
            What::Created => {
                vec![text(&row.reference), text(&row.customer_id), row.outcome.name().into(), row.line.into()]
            }
            What::All => vec![
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
            What::Failed => self.failed_cells(row),
        }
    }

    fn failed_cells(&self, row: &RowRecord) -> Vec<Value> {
        let own = self.header.len() - EXPORT_COLUMNS.len();
        let mut cells = vec![Value::Null; own];
        if let Some((columns, places)) = self.places.iter().find(|(columns, _)| columns.run == row.columns_of)
        {
            let reference = columns.names.iter().position(|name| Some(name) == columns.reference.as_ref());
            match &row.cells {
                // Which cell belongs to which column is for the user to say. Until then the row must not
                // pass for a good one, so all of it stands in one cell, and never in the reference's.
                Some(raw) if row.error.code.as_deref() == Some(Rule::Fields.name()) => {
                    let at = (0..places.len()).find(|at| Some(*at) != reference).unwrap_or_default();
                    if let Some(place) = places.get(at) {
                        cells[*place] = one_line(raw).into();
                    }
                }
                Some(raw) => {
                    for (place, cell) in places.iter().zip(raw) {
                        cells[*place] = cell.as_str().into();
                    }
                }
                // In doubt after a crash: of such a row the ledger knows the reference alone.
                None => {
                    if let (Some(at), Some(reference)) = (reference, &row.reference) {
                        cells[places[at]] = reference.as_str().into();
                    }
                }
            }
        }
        let RowError { field, code, message, http_status, .. } = &row.error;
        let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
        let is_again =
            code.as_deref().is_some_and(|code| code.split(';').any(|code| code == Correction::DUPLICATE));
        // By it is known, when the row comes back, whether its reference is another one now.
        let message = &message.as_deref().map(|message| match &row.reference {
            Some(reference) if is_again => {
                message.replace(&Correction::words(None), &Correction::words(Some(reference)))
            }
            _ => message.to_owned(),
        });
        cells.extend([
            row.line.into(),
            row.outcome.name().into(),
            text(field),
            text(code),
            text(message),
            http_status.map_or(Value::Null, Value::from),
            row.attempts.into(),
        ]);
        cells
    }
}

/// A record as it may have stood in its file.
fn one_line(cells: &[String]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let written = writer.write_record(cells).map_err(io::Error::from);
    let line = written.and_then(|()| writer.into_inner().map_err(|error| error.into_error()));
    let line = String::from_utf8(line.unwrap_or_default()).unwrap_or_default();
    line.trim_end_matches('\n').to_owned()
}

/// The system's own reason, where there is one: a closed pipe must be known for what it is.
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// One of the two formats over one writer.
enum Sheet<W: Write> {
    Csv(Box<csv::Writer<W>>),
    Jsonl(io::BufWriter<W>),
}

impl<W: Write> Sheet<W> {
    fn new(format: Format, output: W) -> Sheet<W> {
        match format {
            Format::Csv => Sheet::Csv(Box::new(csv::Writer::from_writer(output))),
            Format::Jsonl => Sheet::Jsonl(io::BufWriter::new(output)),
        }
    }

    fn begin(&mut self, header: &[String]) -> io::Result<()> {
        match self {
            Sheet::Csv(writer) => writer.write_record(header).map_err(io_error),
            Sheet::Jsonl(_) => Ok(()),
        }
    }

    fn write(&mut self, header: &[String], cells: &[Value]) -> io::Result<()> {
        match self {
            Sheet::Csv(writer) => {
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
            Sheet::Jsonl(writer) => {
                // Serialized as it goes, so that the keys keep the header's order.
                let object = header.iter().zip(cells);
                serde_json::Serializer::new(&mut *writer).collect_map(object)?;
                writer.write_all(b"\n")
            }
        }
    }

    fn end(mut self) -> io::Result<()> {
        match &mut self {
            Sheet::Csv(writer) => writer.flush(),
            Sheet::Jsonl(writer) => writer.flush(),
        }
    }
}
