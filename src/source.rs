//! Where rows come from: a CSV file or standard input, or for a retry the ledger (`recorded`).
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
//! *that row's* fault and goes on as an invalid row. Only deferred_error with the file as a whole is
//! an error. Never touches the network, and only reads of the ledger.

mod decompress;

mod decode;

mod csv_reader;

mod dialect;

mod columns;

mod row_parser;

mod prefix_hash;

mod replay;

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
use xxhash_rust::xxh3::xxh3_64;

use self::{
    columns::ColumnMap,
    csv_reader::CsvReader,
    decode::TextReader,
    decompress::{Compression, Decompressor},
    dialect::Trailing,
    prefix_hash::{HashingFile, RunningHash},
    row_parser::{read_header, read_row},
};
pub use self::{
    decode::Encoding,
    error::Error,
    replay::{Changes, RecordedSource},
};
use crate::customer::{Correction, Faults, Field, Place, Row, Rules, Vetted};

/// How many rows travel together from the reader to the loop: enough to make one commit worth
/// its fsync, few enough that a crash leaves little in doubt.
pub const CHUNK_ROWS: usize = 256;

/// A chunk ends with the row that takes it beyond so many bytes of cells.
const CHUNK_BYTES: usize = 1024 * 1024;

/// How many chunks may wait between the reader and the loop.
const CHUNKS_AHEAD: usize = 4;

/// How many rows are counted one by one, and tell how long the others are: less than a blink.
const COUNTED_ROWS: u64 = 20_000;

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

/// Rows that travel together.
#[derive(Debug)]
pub struct Chunk {
    /// In file order, at most [`CHUNK_ROWS`].
    pub rows: Vec<Row>,
    /// Where the source stands behind them; of a ledger, its bytes are rows.
    pub place: Place,
}

/// An opened source whose header has been read and understood.
pub struct Source {
    name: String,
    path: Option<String>,
    columns: Vec<String>,
    layout: ColumnMap,
    size: Option<u64>,
    delimiter: u8,
    encoding: Encoding,
    compression: Compression,
    rules: Rules,
    reading: String,
    left: u64,
    records: CsvReader<TextReader>,
    /// Bytes consumed of the source itself.
    consumed: Arc<AtomicU64>,
    /// Of what has been read of a file.
    hash: Option<RunningHash>,
    /// Bytes of the source before those that the records count.
    skipped: u64,
    way: String,
    deferred_error: Option<Error>,
}

impl Source {
    /// Opens the file and reads its header.
    ///
    /// # Errors
    /// Where the file cannot be read or a column that is needed is not there.
    pub fn open(options: &Options) -> Result<Source, Error> {
        let Opened { name, input, size, hash } = open_input(&options.path)?;
        let real = options.path.canonicalize().ok().filter(|_| size.is_some());
        let path = real.map(|real| real.display().to_string());
        Ok(Source { path, size, hash, ..Source::from_reader(name, input, options)? })
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
        let decompressor = match Decompressor::new(input).map_err(first_line)? {
            Ok(decompressor) => decompressor,
            Err(foreign) => return Err(Error::Foreign { name, what: foreign.0 }),
        };
        let (compression, consumed) = (decompressor.compression(), decompressor.consumed());
        let text = TextReader::new(Box::new(decompressor), options.encoding).map_err(first_line)?;
        let (encoding, skipped) = (text.encoding(), text.bom_bytes() as u64);
        let mut records = CsvReader::new(text);
        let dialect = records.inspect_head(|head, rest| dialect::detect(head, rest, options.delimiter));
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
        let mut layout = ColumnMap::find(&name, &header, options)?;
        layout.rows_trail = dialect.trailing == Trailing::Rows;
        Ok(Source {
            path: None,
            columns: layout.kept.iter().map(|at| header[*at].clone()).collect(),
            layout,
            rules: options.rules.clone(),
            reading: replay::to_keep(options),
            left: options.limit.unwrap_or(u64::MAX),
            name,
            size: None,
            delimiter: dialect.delimiter,
            encoding,
            compression,
            records,
            consumed,
            hash: None,
            skipped,
            way: way(options),
            deferred_error: None,
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

    /// How records become customers, as a later retry wants to know it.
    pub fn reading(&self) -> &str {
        &self.reading
    }

    /// Whether it is an earlier export of rows to correct, so that most rows are not in it.
    pub fn is_export(&self) -> bool {
        self.layout.correction.is_some()
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

    /// Of all that decides what becomes of the bytes, a hash: two sources with the same make the same rows of them.
    pub fn way(&self) -> &str {
        &self.way
    }

    /// Whether each byte of the source is a byte of the text.
    fn is_plain(&self) -> bool {
        self.compression == Compression::None && self.encoding.is_utf8()
    }

    /// Goes to the place to which an earlier run came, if all it read is still the same; `rows` stand before it.
    /// False where that is not so or not known: then nothing has changed, and reading begins with the first row.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn skip_to(&mut self, place: Place, rows: u64) -> Result<bool, Error> {
        let (Some(path), Some(size), Some(proof)) = (self.path.clone(), self.size, place.proof) else {
            return Ok(false);
        };
        let at_end = place.bytes >= size && proof.bytes >= size;
        if rows > self.left || proof.bytes > size || !(at_end || self.is_plain()) {
            return Ok(false);
        }
        let resumed = prefix_hash::resume(Path::new(&path), place, proof);
        let resumed = resumed.map_err(|error| Error::Open { path: self.name.clone().into(), error })?;
        let Some((file, before)) = resumed else { return Ok(false) };
        // Without a break the last row may have been added to.
        if !at_end && !matches!(before, b'\n' | b'\r') {
            return Ok(false);
        }
        self.left = if at_end { 0 } else { self.left - rows };
        (self.skipped, self.hash) = (place.bytes, Some(file.hash()));
        self.records.resume(TextReader::resumed(Box::new(file)), place.line, before == b'\r');
        Ok(true)
    }

    /// Bytes of the source itself that the rows so far came from. Of what has been consumed and not been used
    /// up yet, a share: nobody knows which byte of a compressed stream became which of the text.
    fn bytes(&self) -> u64 {
        let (used, read) = self.records.progress();
        if self.is_plain() || read == 0 {
            return self.skipped + used;
        }
        let consumed = self.consumed.load(Ordering::Relaxed);
        (u128::from(consumed) * u128::from(used) / u128::from(read.max(1))) as u64
    }

    /// Where reading stands.
    fn place(&self) -> Place {
        let proof = self.hash.as_ref().map(RunningHash::prefix);
        Place { bytes: self.bytes(), line: self.records.line(), proof }
    }

    /// The next data row.
    ///
    /// # Errors
    /// Only where the file cannot be read any further.
    pub fn next_row(&mut self) -> Result<Option<Row>, Error> {
        Ok(self.next_row_if(|_, _, _| true)?.flatten())
    }

    /// The next data row, as `Some(None)` where it is not wanted: whoever only looks at rows need not have
    /// them made.
    ///
    /// # Errors
    /// Only where the file cannot be read any further.
    pub fn next_row_if(
        &mut self,
        wants: impl FnMut(u64, &Result<Vetted<'_>, Faults>, Option<&Correction>) -> bool,
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

    /// How many rows a file has, and whether that is exact: a long one is judged by its head. `None` where it
    /// cannot be read twice.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn count(options: &Options) -> Result<Option<(u64, bool)>, Error> {
        // A pipe is not even opened: what is read of it is gone.
        if !std::fs::metadata(&options.path).is_ok_and(|data| data.is_file()) {
            return Ok(None);
        }
        let mut source = Source::open(options)?;
        let mut rows = 0;
        while rows < COUNTED_ROWS {
            if source.next_row_if(|_, _, _| false)?.is_none() {
                return Ok(Some((rows, true)));
            }
            rows += 1;
        }
        let share = source.size.unwrap_or(0) as f64 / source.bytes().max(1) as f64;
        let all = (rows as f64 * share).round() as u64;
        Ok(Some((all.clamp(rows, options.limit.unwrap_or(u64::MAX).max(rows)), false)))
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
        if let Some(error) = self.deferred_error.take() {
            return Err(error);
        }
        let (mut rows, mut bytes) = (Vec::with_capacity(CHUNK_ROWS), 0);
        while rows.len() < CHUNK_ROWS && bytes < CHUNK_BYTES {
            match self.next_row() {
                Ok(Some(row)) => {
                    bytes += row.record.bytes();
                    rows.push(row);
                }
                Ok(None) => break,
                // The rows before the deferred_error still go on; it is told with the next chunk.
                Err(error) => {
                    self.deferred_error = Some(error);
                    break;
                }
            }
        }
        if rows.is_empty() {
            return self.deferred_error.take().map_or(Ok(None), Err);
        }
        Ok(Some(Chunk { rows, place: self.place() }))
    }
}

/// The version belongs to it: another one may read the same bytes in another way.
fn way(options: &Options) -> String {
    let Options { path: _, map, delimiter, encoding, limit: _, rules } = options;
    let version = env!("CARGO_PKG_VERSION");
    let text = format!("{version} {map:?} {delimiter:?} {encoding:?} {rules:?}");
    format!("{:016x}", xxh3_64(text.as_bytes()))
}

/// Bytes, wherever they come from.
type Input = Box<dyn Read + Send>;

/// A source that is open and not looked into yet.
struct Opened {
    name: String,
    input: Input,
    /// Bytes, where that is known.
    size: Option<u64>,
    hash: Option<RunningHash>,
}

fn open_input(path: &Path) -> Result<Opened, Error> {
    let name = path.display().to_string();
    if name == "-" {
        return Ok(Opened { name, input: Box::new(io::stdin()), size: None, hash: None });
    }
    let open_error = |error| Error::Open { path: path.into(), error };
    let file = File::open(path).map_err(open_error)?;
    let metadata = file.metadata().map_err(open_error)?;
    if metadata.is_dir() {
        return Err(Error::Directory(path.into()));
    }
    if !metadata.is_file() {
        return Ok(Opened { name, input: Box::new(file), size: None, hash: None });
    }
    let file = HashingFile::new(file);
    let hash = Some(file.hash());
    Ok(Opened { name, input: Box::new(file), size: Some(metadata.len()), hash })
}
