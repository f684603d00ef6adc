//! Where rows come from: a CSV file or standard input.
//!
//! Owns the file: compression, encoding, delimiter, header, which column is which field. Gives `Row`s
//! in file order, each read by the rules, on a thread of its own and through a bounded channel,
//! so that memory does not grow with the file and a slow target slows the reading down. The bytes take one way:
//!
//! ```text
//! compression ──▶ encoding ──▶ records ──▶ reading
//! (bytes as they  (text in     (raw fields (text, columns,
//! lie there)      UTF-8)       and lines)  rules: a Row)
//! ```
//!
//! A record that cannot be read (too few fields, bytes that are not text, an open quote) is
//! *that row's* fault and goes on as an invalid row. Only trouble with the file as a whole is
//! an error. Never touches the network or the ledger.

mod compression;

mod encoding;

mod records;

mod dialect;

mod columns;

mod reading;

mod error;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::mpsc;

use self::{
    columns::Layout,
    compression::{Compression, Unpacked},
    dialect::Trailing,
    encoding::Text,
    reading::{read_header, read_row},
    records::Records,
};
pub use self::{encoding::Encoding, error::Error};
use crate::customer::{Faults, Field, Row, Rules, Vetted};

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
    /// The delimiter; found in the head of the file if not given.
    pub delimiter: Option<u8>,
    /// What the text is written in; a byte order mark in the file wins.
    pub encoding: Encoding,
    /// Only the first so many data rows.
    pub limit: Option<u64>,
    /// How rows are judged, with the constants of `--set`.
    pub rules: Rules,
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
    encoding: Encoding,
    compression: Compression,
    rules: Rules,
    left: u64,
    records: Records<Text>,
    /// Bytes taken of the source itself.
    taken: Arc<AtomicU64>,
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
        let first_line = |error| Error::Read { name: name.clone(), line: 1, error };
        let unpacked = match Unpacked::new(input).map_err(first_line)? {
            Ok(unpacked) => unpacked,
            Err(foreign) => return Err(Error::Foreign { name, what: foreign.0 }),
        };
        let (compression, taken) = (unpacked.compression(), unpacked.taken());
        let text = Text::new(Box::new(unpacked), options.encoding).map_err(first_line)?;
        let encoding = text.encoding();
        let mut records = Records::new(text);
        let dialect = records.look_ahead(|head, rest| dialect::find(head, rest, options.delimiter));
        records.set_delimiter(dialect.delimiter);
        let mut header = match records.next().map_err(first_line)? {
            None => return Err(Error::Empty(name)),
            Some(record) if record.flaw.is_some() => return Err(Error::HeaderOpen(name)),
            Some(record) => read_header(&record, encoding).map_err(|seen| Error::HeaderEncoding {
                name: name.clone(),
                encoding: encoding.name(),
                seen,
            })?,
        };
        if dialect.trailing == Trailing::Header {
            header.pop();
        }
        let mut layout = Layout::find(&name, &header, options)?;
        layout.rows_trail = dialect.trailing == Trailing::Rows;
        Ok(Source {
            path: None,
            columns: layout.kept.iter().map(|at| header[*at].clone()).collect(),
            layout,
            rules: options.rules.clone(),
            left: options.limit.unwrap_or(u64::MAX),
            name,
            size: None,
            delimiter: dialect.delimiter,
            encoding,
            compression,
            records,
            taken,
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

    /// How it is written, in words: `delimiter ;, windows-1252, gzip`.
    pub fn describe(&self) -> String {
        let delimiter = match self.delimiter {
            b'\t' => "tab".into(),
            b' ' => "blank".into(),
            delimiter => char::from(delimiter).to_string(),
        };
        let mut text = format!("delimiter {delimiter}, {}", self.encoding.name());
        if let Some(name) = self.compression.name() {
            text.push_str(&format!(", {name}"));
        }
        text
    }

    /// Bytes of the source itself that the rows so far came from. Of what has been taken and not been used
    /// up yet, a share: nobody knows which byte of a compressed stream became which of the text.
    fn bytes(&self) -> u64 {
        let (used, read) = self.records.used();
        let taken = self.taken.load(Ordering::Relaxed);
        (u128::from(taken) * u128::from(used) / u128::from(read.max(1))) as u64
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
        Ok(Some(read_row(&record, &self.layout, &self.rules, self.encoding, wants)))
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
        Ok(Some(Chunk { rows, bytes: self.bytes() }))
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
