//! Where rows come from: a CSV file or standard input.
//!
//! Owns the file: its delimiter, its header, which column is which field. Gives `Row`s in
//! file order, each read by the rules, on a thread of its own and through a bounded channel,
//! so that memory does not grow with the file and a slow target slows the reading down.
//!
//! A record that cannot be read (too few fields, bytes that are not text, an open quote) is
//! *that row's* fault and goes on as an invalid row. Only trouble with the file as a whole is
//! an error. Never touches the network or the ledger.

mod records;

mod columns;

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use tokio::sync::mpsc;

use self::{
    columns::{Layout, is_one_cell},
    records::{Fields, Flaw, RECORD_MAX_BYTES, RawRecord, Records},
};
use crate::customer::{Cells, Correction, Fault, Faults, Field, Record, Row, Rule, Rules, Vetted};

/// How many rows travel together from the reader to the loop: enough to make one commit worth
/// its fsync, few enough that a crash leaves little in doubt.
pub const CHUNK_ROWS: usize = 256;

/// How many chunks may wait between the reader and the loop.
const CHUNKS_AHEAD: usize = 4;

/// The columns that `export failed` adds; they describe an earlier run, not the customer.
pub const EXPORT_COLUMNS: [&str; 7] =
    ["_line", "_outcome", "_field", "_error_code", "_error_message", "_http_status", "_attempts"];

/// What a source can be told.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The file, or `-` for standard input.
    pub path: PathBuf,
    /// Field by column name, where the names differ.
    pub map: Vec<(Field, String)>,
    /// The delimiter; found in the header line if not given.
    pub delimiter: Option<u8>,
    /// Only the first so many data rows.
    pub limit: Option<u64>,
    /// How rows are judged, with the constants of `--set`.
    pub rules: Rules,
}

/// Why a source cannot be read (any further).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened.
    #[error("cannot open {}: {error}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// It is not a file.
    #[error("{} is a directory", .0.display())]
    Directory(PathBuf),
    /// There is not even a header line.
    #[error("{0} is empty: it has no header line")]
    Empty(String),
    /// Reading failed in the middle.
    #[error("cannot read {name} at line {line}: {error}")]
    Read {
        /// The source.
        name: String,
        /// How far reading had come.
        line: u64,
        /// The system's reason.
        error: io::Error,
    },
    /// A quote in the header is left open, and swallowed rows.
    #[error("the header of {0} goes on over several lines with a quote that is not closed")]
    HeaderOpen(String),
    /// The header is not text.
    #[error("the header line of {0} is not valid UTF-8")]
    HeaderEncoding(String),
    /// A field that must be there has no column.
    #[error("no column {field} in {name} (columns found: {})", list(.found))]
    MissingColumn {
        /// The source.
        name: String,
        /// The field.
        field: Field,
        /// The header.
        found: Vec<String>,
        /// The column that is probably meant.
        likely: Option<String>,
    },
    /// `--map` names a column that is not there.
    #[error("--map {field}={column}: no such column (columns found: {})", list(.found))]
    UnknownColumn {
        /// The field.
        field: Field,
        /// The name given.
        column: String,
        /// The header.
        found: Vec<String>,
        /// The column that is probably meant.
        likely: Option<String>,
    },
    /// Two columns have the name that a field needs.
    #[error("two columns are named {column}, so {field} is ambiguous")]
    AmbiguousColumn {
        /// The field.
        field: Field,
        /// The name.
        column: String,
    },
    /// The reader's thread is gone without a word; a bug.
    #[error("the reader of {0} ended without saying why")]
    ReaderGone(String),
}

impl Error {
    /// What the user can do.
    pub fn hint(&self) -> String {
        match self {
            Error::Open { .. } => "check the path and its permissions".into(),
            Error::Directory(_) => "name a CSV file, or - for standard input".into(),
            Error::Empty(_) => "give a CSV file whose first line names the columns".into(),
            Error::Read { .. } => "what was recorded stands; run the same command again".into(),
            Error::HeaderOpen(_) => "close the quote in the first line".into(),
            Error::HeaderEncoding(_) => "save the file as UTF-8".into(),
            Error::MissingColumn { found, .. } if is_one_cell(found) => {
                "the header looks like one cell; give the character between its cells with --delimiter".into()
            }
            Error::MissingColumn { field, likely: Some(column), .. } => {
                format!("did you mean --map '{field}={column}'?")
            }
            Error::MissingColumn { field, likely: None, .. } => {
                format!(
                    "name the column with --map {field}=COLUMN, or give a constant with --set {field}=VALUE"
                )
            }
            Error::UnknownColumn { field, likely: Some(column), .. } => {
                format!("did you mean --map '{field}={column}'?")
            }
            Error::UnknownColumn { .. } => "name one of the columns found".into(),
            Error::AmbiguousColumn { .. } => "rename one of the two columns".into(),
            Error::ReaderGone(_) => "run the same command again, and report this as a bug".into(),
        }
    }

    /// Whether the command line or the file's header is wrong, so that nothing was begun.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Error::Read { .. } | Error::ReaderGone(_))
    }
}

/// Rows that travel together, and how many bytes of the source are used up after them.
#[derive(Debug)]
pub struct Chunk {
    /// In file order, at most [`CHUNK_ROWS`].
    pub rows: Vec<Row>,
    /// Bytes read so far.
    pub bytes: u64,
}

/// An opened source whose header has been read and understood.
pub struct Source {
    name: String,
    path: Option<String>,
    columns: Vec<String>,
    layout: Layout,
    size: Option<u64>,
    delimiter: u8,
    rules: Rules,
    left: u64,
    records: Records<Input>,
    trouble: Option<Error>,
}

impl Source {
    /// Opens the file and reads its header.
    ///
    /// # Errors
    /// Where the file cannot be read or a column that is needed is not there.
    pub fn open(options: &Options) -> Result<Source, Error> {
        let (name, input, size) = open_input(&options.path)?;
        let real = options.path.canonicalize().ok().filter(|_| size.is_some());
        let path = real.map(|real| real.display().to_string());
        Ok(Source { path, size, ..Source::from_reader(name, input, options)? })
    }

    /// Reads the header of an input that is open already; the path of the options does not matter.
    /// Public for fuzzing.
    ///
    /// # Errors
    /// Where the input cannot be read or a column that is needed is not there.
    pub fn from_reader(
        name: String,
        input: Box<dyn Read + Send>,
        options: &Options,
    ) -> Result<Source, Error> {
        let read_error = |line, error| Error::Read { name: name.clone(), line, error };
        let (mut records, delimiter) =
            Records::new(input, options.delimiter).map_err(|error| read_error(1, error))?;
        let header = match records.next().map_err(|error| read_error(1, error))? {
            None => return Err(Error::Empty(name)),
            Some(record) if record.flaw.is_some() => return Err(Error::HeaderOpen(name)),
            Some(record) => read_header(&record).ok_or_else(|| Error::HeaderEncoding(name.clone()))?,
        };
        let layout = Layout::find(&name, &header, options)?;
        Ok(Source {
            path: None,
            columns: layout.kept.iter().map(|at| header[*at].clone()).collect(),
            layout,
            rules: options.rules.clone(),
            left: options.limit.unwrap_or(u64::MAX),
            name,
            size: None,
            delimiter,
            records,
            trouble: None,
        })
    }

    /// The path as given, or `-`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the file really is; none for a stream.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The header, without the columns that an earlier failed export added.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The column that holds the references; none where they are a constant.
    pub fn reference_column(&self) -> Option<&str> {
        let at = self.layout.places[Field::Reference as usize]?;
        let kept = self.layout.kept.iter().position(|kept| *kept == at)?;
        Some(&self.columns[kept])
    }

    /// Bytes of the whole source, where that is known.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The delimiter in use.
    pub fn delimiter(&self) -> char {
        self.delimiter.into()
    }

    /// The next data row.
    ///
    /// # Errors
    /// Only where the file cannot be read any further.
    pub fn next_row(&mut self) -> Result<Option<Row>, Error> {
        Ok(self.next_row_if(|_, _| true)?.flatten())
    }

    /// The next data row, as `Some(None)` where it is not wanted: whoever only looks at rows need not have
    /// them made.
    ///
    /// # Errors
    /// Only where the file cannot be read any further.
    pub fn next_row_if(
        &mut self,
        wants: impl FnMut(u64, &Result<Vetted<'_>, Faults>) -> bool,
    ) -> Result<Option<Option<Row>>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        let line = self.records.line();
        let record = match self.records.next() {
            Ok(None) => return Ok(None),
            Ok(Some(record)) => record,
            Err(error) => {
                return Err(Error::Read { name: self.name.clone(), line, error });
            }
        };
        self.left -= 1;
        Ok(Some(read_row(&record, &self.layout, &self.rules, wants)))
    }

    /// Reads everything on a thread of its own; the receiver gets an error at most once, last.
    /// Dropping the receiver ends the reading.
    ///
    /// # Errors
    /// Where no thread can be had.
    pub fn stream(mut self) -> Result<mpsc::Receiver<Result<Chunk, Error>>, Error> {
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let name = self.name.clone();
        std::thread::Builder::new()
            .name("reader".into())
            .spawn(move || {
                while let Some(chunk) = self.next_chunk().transpose() {
                    let last = chunk.is_err();
                    if sender.blocking_send(chunk).is_err() || last {
                        return;
                    }
                }
            })
            .map_err(|error| Error::Read { name, line: 1, error })?;
        Ok(receiver)
    }

    fn next_chunk(&mut self) -> Result<Option<Chunk>, Error> {
        if let Some(error) = self.trouble.take() {
            return Err(error);
        }
        let mut rows = Vec::with_capacity(CHUNK_ROWS);
        while rows.len() < CHUNK_ROWS {
            match self.next_row() {
                Ok(Some(row)) => rows.push(row),
                Ok(None) => break,
                // The rows before the trouble still go on; it is told with the next chunk.
                Err(error) => {
                    self.trouble = Some(error);
                    break;
                }
            }
        }
        if rows.is_empty() {
            return self.trouble.take().map_or(Ok(None), Err);
        }
        Ok(Some(Chunk { rows, bytes: self.records.bytes() }))
    }
}

/// Bytes, wherever they come from.
type Input = Box<dyn Read + Send>;

/// Its name, its bytes, and how many there are where that is known.
fn open_input(path: &Path) -> Result<(String, Input, Option<u64>), Error> {
    let name = path.display().to_string();
    if name == "-" {
        return Ok((name, Box::new(io::stdin()), None));
    }
    let open_error = |error| Error::Open { path: path.into(), error };
    let file = File::open(path).map_err(open_error)?;
    let metadata = file.metadata().map_err(open_error)?;
    if metadata.is_dir() {
        return Err(Error::Directory(path.into()));
    }
    let size = metadata.is_file().then_some(metadata.len());
    Ok((name, Box::new(file), size))
}

fn read_header(record: &RawRecord<'_>) -> Option<Vec<String>> {
    let fields = record.fields;
    (0..fields.len())
        .map(|at| Some(std::str::from_utf8(&fields.bytes[fields.range(at)?]).ok()?.trim().to_owned()))
        .collect()
}

fn list(columns: &[String]) -> String {
    // A header of hundreds of columns would bury the message.
    const SHOWN: usize = 20;
    let mut seen = HashSet::new();
    let names: Vec<String> = columns
        .iter()
        .filter(|column| seen.insert(column.as_str()))
        .map(|column| column.escape_debug().to_string())
        .collect();
    match names.len() {
        0..=SHOWN => names.join(", "),
        more => format!("{}, and {} more", names[..SHOWN].join(", "), more - SHOWN),
    }
}

/// None where it is not wanted.
fn read_row(
    record: &RawRecord<'_>,
    layout: &Layout,
    rules: &Rules,
    mut wants: impl FnMut(u64, &Result<Vetted<'_>, Faults>) -> bool,
) -> Option<Row> {
    let fields = record.fields;
    let mut misread = |record_kept, rule, seen: String| {
        let reading = Err(Faults { list: vec![Fault { field: None, rule, seen }], reference: None });
        wants(record.line, &reading).then(|| Row {
            line: record.line,
            record: record_kept,
            reading: reading.map(Vetted::customer),
            corrects: None,
        })
    };
    let Some(cells) = texts(fields) else {
        let (lossy, seen) = not_text(fields, &layout.kept);
        return misread(lossy, Rule::Encoding, seen);
    };
    if let Some(flaw) = record.flaw {
        // What it swallowed is no record; its beginning is enough to find it.
        let heads = cells.iter().map(|cell| &cell[..cell.floor_char_boundary(64)]);
        let seen = match flaw {
            Flaw::Cut => format!("more than {} KiB: a quote that is not closed?", RECORD_MAX_BYTES / 1024),
            Flaw::Unbalanced => "it spans lines with an odd number of quotes: one that is not closed?".into(),
        };
        return misread(Record::new(heads), Rule::Fields, seen);
    }
    if cells.len() != layout.width {
        let seen = format!("{} fields where the header has {}", cells.len(), layout.width);
        // All of them: which cell belongs to which column is for the user to say.
        return misread(Record::new(cells.iter().copied()), Rule::Fields, seen);
    }
    let mut by_field: Cells<'_> = [None; Field::COUNT];
    for (cell, place) in by_field.iter_mut().zip(&layout.places) {
        *cell = place.map(|at| cells[at]);
    }
    let vetted = rules.vet(&by_field);
    wants(record.line, &vetted).then(|| Row {
        line: record.line,
        record: Record::new(layout.kept.iter().map(|at| cells[*at])),
        reading: vetted.map(Vetted::customer),
        corrects: layout.correction.and_then(|places| correction(places.map(|at| cells[at]))),
    })
}

/// All fields as text. Every field ends where a delimiter stood, but only whole characters may be cut
/// out: two halves of one in neighboring fields are text together and not apart.
fn texts(fields: Fields<'_>) -> Option<Vec<&str>> {
    let text = std::str::from_utf8(fields.bytes).ok()?;
    (0..fields.len()).map(|at| text.get(fields.range(at)?)).collect()
}

fn correction([line, outcome, code]: [&str; 3]) -> Option<Box<Correction>> {
    let line = line.parse().ok()?;
    let found_by_line = matches!(outcome, "invalid" | "duplicate");
    found_by_line.then(|| Box::new(Correction { line, outcome: outcome.into(), code: code.into() }))
}

/// The record with replacement characters, and where the first byte stands that is not text.
fn not_text(fields: Fields<'_>, kept: &[usize]) -> (Record, String) {
    let bytes = |at: usize| fields.range(at).map_or(&[][..], |range| &fields.bytes[range]);
    let seen = (0..fields.len())
        .find_map(|at| {
            let error = std::str::from_utf8(bytes(at)).err()?;
            let byte = bytes(at)[error.valid_up_to()];
            Some(format!("byte 0x{byte:02X} at position {} of column {}", error.valid_up_to() + 1, at + 1))
        })
        .unwrap_or_default();
    let cells: Vec<_> = kept.iter().map(|at| String::from_utf8_lossy(bytes(*at))).collect();
    (Record::new(cells.iter().map(AsRef::as_ref)), seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_a_character_are_not_text() {
        let (mut records, _) = Records::new(&b"a,b\n\xc3,\xa9\n"[..], None).unwrap();
        records.next().unwrap();
        let record = records.next().unwrap().unwrap();
        let layout = Layout { width: 2, places: [Some(0); Field::COUNT], kept: vec![0, 1], correction: None };
        let row = read_row(&record, &layout, &Rules::default(), |_, _| true).unwrap();
        let fault = &row.reading.unwrap_err().list[0];
        assert_eq!(
            (fault.rule, fault.seen.as_str()),
            (Rule::Encoding, "byte 0xC3 at position 1 of column 1")
        );
    }
}
