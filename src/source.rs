//! Where rows come from: a CSV file, standard input, or, for a retry, the ledger (`replay`).
//!
//! Owns the file: its compression, encoding, delimiter and header, and which column is which field. Yields `Row`s in file
//! order, each already checked against the rules, from a thread of its own through a bounded channel: memory does not grow
//! with the file, and a slow API slows reading down.
//!
//! ```text
//! decompress ──▶ decode ──▶ csv_reader ──▶ row_parser
//! (bytes on      (UTF-8     (raw fields,   (columns and
//! the disk)      text)      lines)         rules: a Row)
//! ```
//!
//! A record that cannot be parsed (too few fields, bytes that are not text, an unclosed quote) becomes an invalid
//! row. Only a failure of the file as a whole is an error. This module never uses the network, and only reads the
//! ledger.

mod decompress;

mod decode;

mod encoding_label;

mod csv_reader;

mod dialect;

mod read_options;

mod export_columns;

mod adjustments;

mod columns;

mod head;

mod header_shape;

mod heading;

mod row_parser;

mod row_records;

mod skipped_line;

mod file_state;

mod origin;

mod prefix_hash;

mod replay;

mod sample;

mod error;

use std::{
    borrow::Cow,
    collections::HashSet,
    fs::File,
    io::{self, Cursor, Read},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::mpsc;

pub use self::{
    adjustments::{Adjustment, Adjustments, RowSample},
    columns::{AbsentColumn, MappedFrom, Mapping, UnusedColumn},
    csv_reader::Quote,
    decode::Encoding,
    error::{Error, UnreadableExport},
    export_columns::EXPORT_COLUMNS,
    file_state::Change,
    head::is_failed_export,
    heading::{HeadingMatch, named_field},
    origin::IdentityRisk,
    read_options::{ReadOptions, RecordedMap, SourceOptions, UnusedColumnPolicy},
    replay::{ReplayOptions, ReplaySource, tried_options},
    row_records::UncheckedRows,
    sample::{SourceSample, Table},
};
use self::{
    columns::ColumnMap,
    csv_reader::{CsvReader, RawCells},
    decode::TextReader,
    decompress::{Compression, CorruptStream, Decompressor},
    dialect::{Dialect, Given, Trailing},
    file_state::FileState,
    head::ForeignFile,
    header_shape::HeaderShape,
    origin::{ExportOrigin, read_options},
    prefix_hash::{HashingFile, RunningHash},
    row_parser::{
        HeaderLines, RowContext, header_flaw, is_line_separator, read_header, read_row, reads_as_row,
    },
    row_records::{RowRecords, check_chunks},
    skipped_line::{KnownHeader, is_separator},
};
use crate::customer::{Correction, Faults, Field, Rescue, Rescues, Row, Rules, SourcePosition, ValidRecord};

/// Rows per chunk: enough to make a commit worth its fsync, few enough that a crash leaves few rows in doubt.
pub const CHUNK_ROWS: usize = 256;

/// A chunk also ends with the row with which its cells reach this many bytes.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Capacity, in chunks, of the channel between the reader and the run.
const CHUNKS_AHEAD: usize = 4;

/// Maximum number of lines of a title that may precede the header.
const TITLE_LINES_MAX: usize = 100;

/// Number of rows that are counted exactly before the rest of a file is estimated; takes a few milliseconds.
const COUNTED_ROWS: u64 = 20_000;

/// The number of rows in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowCount {
    /// The whole file was read.
    Exact(u64),
    /// The file is long: estimated from the size of its first rows.
    Estimated(u64),
}

/// Rows that are passed together from the reader to the run.
#[derive(Debug)]
pub struct Chunk {
    /// In file order, at most [`CHUNK_ROWS`].
    pub rows: Vec<Row>,
    /// The position in the source after these rows. For a replay, its `bytes` count rows.
    pub position: SourcePosition,
}

/// An opened source whose header has been read.
pub struct Source {
    name: String,
    path: Option<String>,
    /// The canonical path of the file; none for a stream.
    file: Option<PathBuf>,
    columns: Vec<String>,
    column_map: ColumnMap,
    mapping: Mapping,
    reference_column: Option<String>,
    /// The state of the file when it was opened; none for a stream.
    state: Option<FileState>,
    delimiter: u8,
    quote: Quote,
    encoding: Encoding,
    compression: Compression,
    rules: Rules,
    read_options_json: String,
    records: RowRecords,
    /// Bytes consumed of the source itself, before decompression.
    consumed: Arc<AtomicU64>,
    /// Hash of the prefix read so far; none for a stream.
    hash: Option<RunningHash>,
    /// Bytes of the source before the first byte that `records` has counted.
    skipped: u64,
    parse_settings_hash: String,
    identity_risk: Option<IdentityRisk>,
    adjustments: Arc<Adjustments>,
    rescues: Option<Arc<Mutex<Rescues>>>,
    deferred_error: Option<Error>,
}

impl Source {
    /// Opens the file and reads its header.
    ///
    /// # Errors
    /// If the file cannot be read or a required column is missing.
    pub fn open(options: &SourceOptions) -> Result<Source, Error> {
        let Opened { name, input, state, hash } = open_input(&options.path)?;
        let real = options.path.canonicalize().ok().filter(|_| state.is_some());
        // A name that is not text is shown altered; only its bytes find the file.
        let path = real.as_ref().map(|real| real.display().to_string());
        Ok(Source { path, file: real, state, hash, ..Source::from_reader(name, input, options)? })
    }

    /// Reads the header of an input that is already open; ignores the path of the options. Public for fuzzing.
    ///
    /// # Errors
    /// If the input cannot be read or a required column is missing.
    pub fn from_reader(
        name: String,
        input: Box<dyn Read + Send>,
        options: &SourceOptions,
    ) -> Result<Source, Error> {
        let Begun {
            options,
            mut records,
            header,
            header_lines,
            dialect,
            encoding,
            skipped,
            compression,
            consumed,
            adjustments,
        } = begin(&name, input, options)?;
        export_columns::check_export(&name, &header)?;
        let origin = ExportOrigin::new(&name, &header, &options.recorded);
        let read = &read_options(&options.read, &name, &header, &origin)?;
        let mut column_map = ColumnMap::find(&name, &header, read).map_err(|error| {
            let later = first_lines(&mut records, encoding);
            let is_header = |cells: &[String]| ColumnMap::find("", cells, read).is_ok();
            let shape = HeaderShape::of(&header, dialect.delimiter, options.delimiter, &later, is_header);
            error.explained_by(shape.map(|shape| shape.hint()))
        })?;
        if let Some(separator) = header.iter().find_map(|name| name.chars().find(|c| is_line_separator(*c))) {
            return Err(Error::LineSeparator { name, separator });
        }
        column_map.rows_trail = dialect.trailing == Trailing::Rows;
        let is_row = |cells: RawCells<'_>| reads_as_row(cells, &column_map, &read.rules, options.quote);
        let swallowed = header_lines.and_then(|lines| lines.swallowed_rows(dialect.delimiter, is_row));
        if let Some(seen) = swallowed {
            return Err(Error::HeaderFlaw { name, seen });
        }
        let reference_column = column_map.map_text(Field::Reference, &header);
        let columns: Vec<String> = column_map.kept.iter().map(|at| header[*at].clone()).collect();
        column_map.check_ignored(&header, &options.ignored_columns)?;
        let mapping = column_map.mapping(&header, read, &options.ignored_columns);
        if options.unused_columns == UnusedColumnPolicy::Refuse && !mapping.unused.is_empty() {
            let columns = mapping.unused.into_iter().map(|column| column.name).collect();
            return Err(Error::UnusedColumns { name, columns });
        }
        records.set_read_columns(column_map.read_columns());
        Ok(Source {
            path: None,
            file: None,
            identity_risk: origin.identity_risk(&header, &columns, reference_column.as_deref()),
            columns,
            records: RowRecords::new(records, &name, KnownHeader::new(&header, &column_map), options.limit),
            column_map,
            mapping,
            reference_column,
            rules: read.rules.clone(),
            read_options_json: serde_json::to_string(read).unwrap_or_default(),
            name,
            state: None,
            delimiter: dialect.delimiter,
            quote: options.quote,
            encoding,
            compression,
            consumed,
            hash: None,
            skipped,
            parse_settings_hash: options.parse_settings_hash(read),
            adjustments,
            rescues: None,
            deferred_error: None,
        })
    }

    /// Why the rows may become other customers than those of the recorded runs; none if nothing suggests it.
    pub fn identity_risk(&self) -> Option<&IdentityRisk> {
        self.identity_risk.as_ref()
    }

    /// The path as given, or `-`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The canonical path of the file; none for a stream.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The column names, without those that an earlier failed export added.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The column of the references, or their template; none if they are a constant.
    pub fn reference_column(&self) -> Option<&str> {
        self.reference_column.as_deref()
    }

    /// Which column feeds which field.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The read options as JSON, to be stored with the run for a later retry.
    pub fn read_options_json(&self) -> &str {
        &self.read_options_json
    }

    /// Whether the file is an earlier failed export, which lacks the rows that succeeded.
    pub fn is_export(&self) -> bool {
        self.column_map.correction.is_some()
    }

    /// Size of the source in bytes; none for a stream.
    pub fn size(&self) -> Option<u64> {
        self.state.as_ref().map(FileState::size)
    }

    /// The delimiter in use.
    pub fn delimiter(&self) -> char {
        self.delimiter.into()
    }

    /// A description of the format: `semicolon, windows-1252, gzip`.
    pub fn describe(&self) -> String {
        let delimiter = match self.delimiter {
            b',' => "comma".into(),
            b';' => "semicolon".into(),
            b'|' => "pipe".into(),
            b'\t' => "tab".into(),
            b' ' => "space".into(),
            control if control.is_ascii_control() => format!("delimiter \\x{control:02x}"),
            delimiter => format!("delimiter {}", char::from(delimiter)),
        };
        let mut text = format!("{delimiter}, {}", self.encoding.name());
        match self.quote {
            Quote::Char(b'"') => {}
            Quote::Char(quote) => text.push_str(&format!(", quote {}", char::from(quote))),
            Quote::None => text.push_str(", no quotes"),
        }
        if let Some(name) = self.compression.name() {
            text.push_str(&format!(", {name}"));
        }
        text
    }

    /// A hash of every setting that affects parsing: with the same hash, the same bytes give the same rows.
    pub fn parse_settings_hash(&self) -> &str {
        &self.parse_settings_hash
    }

    /// The counts of what is read differently from how it is written. They grow while rows are read, also after
    /// [`Source::stream`].
    pub fn adjustments(&self) -> Arc<Adjustments> {
        Arc::clone(&self.adjustments)
    }

    /// From here on, tries on each invalid row whether options that are not given would make it valid.
    /// The results grow while rows are read, also after [`Source::stream`].
    pub fn try_options(&mut self) -> TriedOptions {
        let rescues = Arc::new(Mutex::new(Rescues::new(&self.rules)));
        self.rescues = Some(Arc::clone(&rescues));
        TriedOptions(rescues)
    }

    /// The rules by which rows are read.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether offsets in the source are offsets in the text.
    fn is_plain(&self) -> bool {
        self.compression == Compression::None && self.encoding.is_utf8()
    }

    /// Skips to the position that an earlier run reached, with `rows` rows before it, if the prefix is unchanged. Returns
    /// false, and changes nothing, if the prefix differs or cannot be compared.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn skip_to(&mut self, position: SourcePosition, rows: u64) -> Result<bool, Error> {
        let (Some(path), Some(size), Some(prefix_hash)) =
            (self.file.as_deref(), self.size(), position.prefix_hash)
        else {
            return Ok(false);
        };
        let at_end = position.bytes >= size && prefix_hash.bytes >= size;
        if rows > self.records.rows_left || prefix_hash.bytes > size || !(at_end || self.is_plain()) {
            return Ok(false);
        }
        let resumed = prefix_hash::resume(path, position, prefix_hash);
        let resumed = resumed.map_err(|error| Error::Open { path: self.name.clone().into(), error })?;
        let Some((file, before)) = resumed else { return Ok(false) };
        // Without a line break, more text may have been appended to the last row.
        if !at_end && !matches!(before, b'\n' | b'\r') {
            return Ok(false);
        }
        self.records.rows_left = if at_end { 0 } else { self.records.rows_left - rows };
        (self.skipped, self.hash) = (position.bytes, Some(file.hash()));
        self.records.csv.resume(TextReader::resumed(Box::new(file)), position.line, before == b'\r');
        Ok(true)
    }

    /// Bytes of the source that the rows so far came from. An estimate for a compressed or transcoded source, where
    /// the bytes of source and text do not correspond.
    fn bytes(&self) -> u64 {
        let (used, read) = (self.records.csv.bytes_consumed(), self.records.csv.bytes_read());
        if self.is_plain() || read == 0 {
            return self.skipped + used;
        }
        let consumed = self.consumed.load(Ordering::Relaxed);
        (u128::from(consumed) * u128::from(used) / u128::from(read.max(1))) as u64
    }

    /// The position after the last row. No run can resume after a header with other columns, because the resumed run
    /// would not have read that header.
    fn position(&self) -> SourcePosition {
        let hash = self.hash.as_ref().filter(|_| self.records.other_header.is_none());
        let prefix_hash = hash.map(RunningHash::prefix);
        SourcePosition { bytes: self.bytes(), line: self.records.csv.line(), prefix_hash }
    }

    /// The next data row.
    ///
    /// # Errors
    /// If the file cannot be read any further.
    pub fn next_row(&mut self) -> Result<Option<Row>, Error> {
        Ok(self.next_row_if(|_, _, _| true)?.flatten())
    }

    /// The next data row, or `Some(None)` if `wants` refuses it. `validate` inspects rows without building them.
    ///
    /// # Errors
    /// If the file cannot be read any further.
    pub fn next_row_if(
        &mut self,
        wants: impl FnMut(u64, &Result<ValidRecord<'_>, Faults>, Option<&Correction>) -> bool,
    ) -> Result<Option<Option<Row>>, Error> {
        let (records, context) = self.parts();
        let row = records.next(context, |record, other_header| {
            read_row(record, record.cells.text(), context, other_header, wants)
        })?;
        if row.is_none() {
            self.check_unchanged()?;
        }
        Ok(row)
    }

    /// Checks the data rows in chunks. Each of `checkers` is on a thread of its own, and they get the chunks in turn: the
    /// first chunk, and then each one after the last checker's, belongs to the first checker.
    ///
    /// Returns the checkers, and an error if the file could not be read any further; the rows before it were checked.
    pub fn check_rows<C: Send>(
        &mut self,
        checkers: Vec<C>,
        check: impl Fn(&mut C, &UncheckedRows<'_>) + Sync,
    ) -> (Vec<C>, Result<(), Error>) {
        let (records, context) = self.parts();
        let (checkers, read) = check_chunks(records, context, checkers, check);
        (checkers, read.and_then(|()| self.check_unchanged()))
    }

    /// The records, and what makes them rows.
    fn parts(&mut self) -> (&mut RowRecords, RowContext<'_>) {
        let context = RowContext {
            columns: &self.column_map,
            rules: &self.rules,
            encoding: self.encoding,
            delimiter: self.delimiter,
            quote: self.quote,
            adjustments: &self.adjustments,
            rescues: self.rescues.as_deref(),
        };
        (&mut self.records, context)
    }

    /// Fails if the file was read to its end and has changed since it was opened: the rows may come from two versions.
    fn check_unchanged(&self) -> Result<(), Error> {
        let Some(file) = self.state.as_ref().filter(|_| self.records.rows_left > 0) else { return Ok(()) };
        let prefix = self.hash.as_ref().map(RunningHash::prefix);
        match file.change(prefix) {
            Ok(None) => Ok(()),
            Ok(Some(change)) => {
                Err(Error::Changed { name: self.name.clone(), line: self.records.csv.line(), change })
            }
            Err(error) => Err(Error::Read { name: self.name.clone(), line: self.records.csv.line(), error }),
        }
    }

    /// The number of rows in a file. `None` if the source cannot be read twice.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn count(options: &SourceOptions) -> Result<Option<RowCount>, Error> {
        // A pipe is not opened: data read from it would be lost.
        if !std::fs::metadata(&options.path).is_ok_and(|data| data.is_file()) {
            return Ok(None);
        }
        let mut source = Source::open(options)?;
        let mut rows = 0;
        while rows < COUNTED_ROWS {
            if source.next_row_if(|_, _, _| false)?.is_none() {
                return Ok(Some(RowCount::Exact(rows)));
            }
            rows += 1;
        }
        let share = source.size().unwrap_or(0) as f64 / source.bytes().max(1) as f64;
        let all = (rows as f64 * share).round() as u64;
        let most = options.limit.unwrap_or(u64::MAX).max(rows);
        Ok(Some(RowCount::Estimated(all.clamp(rows, most))))
    }

    /// Reads a file again for the valid rows that are the first with these references. None if it is no regular file, so
    /// that it cannot be read twice.
    ///
    /// # Errors
    /// If the file cannot be read up to the last of these rows.
    pub fn read_again(
        options: &SourceOptions,
        mut references: HashSet<String>,
    ) -> Result<Option<Vec<Row>>, Error> {
        if !options.path.is_file() {
            return Ok(None);
        }
        let mut source = Source::open(options)?;
        let mut rows = Vec::with_capacity(references.len());
        while !references.is_empty() {
            let Some(row) = source.next_row()? else { break };
            let reference = row.reading.as_ref().ok().map(|customer| customer.reference.as_str());
            if reference.is_some_and(|reference| references.remove(reference)) {
                rows.push(row);
            }
        }
        Ok(Some(rows))
    }

    /// Reads all rows on a separate thread. The receiver gets at most one error, as its last item. Dropping the
    /// receiver ends reading.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn stream(mut self) -> Result<mpsc::Receiver<Result<Chunk, Error>>, Error> {
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let name = self.name.clone();
        std::thread::Builder::new()
            .name("reader".into())
            .spawn(move || {
                if let Err(error) = self.check_compression() {
                    // The receiver may be gone, which ends reading too.
                    let _ = sender.blocking_send(Err(error));
                    return;
                }
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

    /// Checks a compressed file to its end, unless nothing of it is left to read.
    fn check_compression(&self) -> Result<(), Error> {
        let is_read = self.compression != Compression::None && self.records.rows_left > 0;
        match self.file.as_deref().filter(|_| is_read).map_or(Ok(()), decompress::check_file) {
            Err(error) if CorruptStream::of(&error).is_some() => {
                Err(Error::Damaged { name: self.name.clone(), error })
            }
            Err(error) => Err(Error::Read { name: self.name.clone(), line: 1, error }),
            Ok(()) => Ok(()),
        }
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
                // The rows read before the error are still sent; the error follows as the next item.
                Err(error) => {
                    self.deferred_error = Some(error);
                    break;
                }
            }
        }
        if rows.is_empty() {
            return self.deferred_error.take().map_or(Ok(None), Err);
        }
        Ok(Some(Chunk { rows, position: self.position() }))
    }
}

/// The options that [`Source::try_options`] tries.
#[derive(Clone, Debug)]
pub struct TriedOptions(Arc<Mutex<Rescues>>);

impl TriedOptions {
    /// What each option would make of the invalid rows so far, the one for most rows first.
    pub fn rescues(&self) -> Vec<Rescue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).list()
    }
}

/// An input whose header has been read.
struct Begun<'a> {
    /// The options that apply to this file.
    options: Cow<'a, SourceOptions>,
    records: CsvReader<TextReader>,
    header: Vec<String>,
    /// The header's lines, if there are several.
    header_lines: Option<HeaderLines>,
    dialect: Dialect,
    encoding: Encoding,
    /// Bytes of the byte order mark.
    skipped: u64,
    compression: Compression,
    consumed: Arc<AtomicU64>,
    adjustments: Arc<Adjustments>,
}

/// Reads the header of an input.
fn begin<'a>(name: &str, input: Input, options: &'a SourceOptions) -> Result<Begun<'a>, Error> {
    let first_line = |error| Error::Read { name: name.into(), line: 1, error };
    let mut decompressor = Decompressor::new(input).map_err(first_line)?;
    let (compression, consumed) = (decompressor.compression(), decompressor.consumed());
    let head = head::read(&mut decompressor).map_err(first_line)?;
    if let Some(ForeignFile { what, hint }) = head::foreign_file(&head, options.encoding) {
        return Err(Error::Foreign { name: name.into(), what, hint });
    }
    let options = head::export_delimiter(&head).map_or(Cow::Borrowed(options), |delimiter| {
        Cow::Owned(options.for_export(head::is_utf8(&head), delimiter))
    });
    // Delimiters and line breaks have a zero byte in UTF-16; without one, the text would be read as ideographs.
    if options.encoding.is_utf16() && !head.is_empty() && !head.contains(&0) && !head::has_mark(&head) {
        let (encoding, seen) = (options.encoding.name(), "it has no zero byte".into());
        return Err(Error::HeaderEncoding { name: name.into(), encoding, seen });
    }
    let rest = Box::new(Cursor::new(head).chain(decompressor));
    let text = TextReader::new(rest, options.encoding).map_err(first_line)?;
    let (encoding, skipped) = (text.encoding(), text.bom_bytes() as u64);
    let mut records = CsvReader::new(text, options.quote);
    let given = Given { delimiter: options.delimiter, quote: options.quote };
    let dialect = records.inspect_head(|head, rest| dialect::detect(head, rest, given));
    records.set_delimiter(dialect.delimiter);
    let adjustments = Arc::<Adjustments>::default();
    let (mut header, header_lines) = loop {
        let record = match records.next(&|_| false).map_err(first_line)? {
            None => return Err(Error::Empty(name.into())),
            Some(record) => record,
        };
        if let Some(seen) = header_flaw(&record) {
            return Err(Error::HeaderFlaw { name: name.into(), seen });
        }
        adjustments.add_mark(&record);
        // SQL tools draw a separator line above the header, too.
        if is_separator(record.cells.bytes, dialect.delimiter) {
            adjustments.add(Adjustment::SeparatorLine, record.line);
            continue;
        }
        let names = read_header(&record, encoding).map_err(|seen| Error::HeaderEncoding {
            name: name.into(),
            encoding: encoding.name(),
            seen,
        })?;
        // Lines of nothing but blanks are skipped, as everywhere.
        if names.iter().all(|name| name.trim().is_empty()) && names.len() == 1 {
            continue;
        }
        break (names, HeaderLines::of(&record));
    };
    if dialect.trailing == Trailing::Header {
        header.pop();
    }
    Ok(Begun {
        options,
        records,
        header,
        header_lines,
        dialect,
        encoding,
        skipped,
        compression,
        consumed,
        adjustments,
    })
}

/// The cells of the next few lines, each with its number, to find a header below a title.
fn first_lines(records: &mut CsvReader<TextReader>, encoding: Encoding) -> Vec<(u64, Vec<String>)> {
    let mut lines = Vec::new();
    while lines.len() < TITLE_LINES_MAX {
        let Ok(Some(record)) = records.next(&|_| false) else { break };
        lines.push((record.line, read_header(&record, encoding).unwrap_or_default()));
    }
    lines
}

/// A source of bytes.
type Input = Box<dyn Read + Send>;

/// A source that was opened and not read yet.
struct Opened {
    name: String,
    input: Input,
    /// The current state of the file, if the source is one.
    state: Option<FileState>,
    hash: Option<RunningHash>,
}

fn open_input(path: &Path) -> Result<Opened, Error> {
    let name = path.display().to_string();
    if name == "-" {
        return Ok(Opened { name, input: Box::new(io::stdin()), state: None, hash: None });
    }
    let open_error = |error| Error::Open { path: path.into(), error };
    let file = File::open(path).map_err(open_error)?;
    let metadata = file.metadata().map_err(open_error)?;
    if metadata.is_dir() {
        return Err(Error::Directory(path.into()));
    }
    if !metadata.is_file() {
        return Ok(Opened { name, input: Box::new(file), state: None, hash: None });
    }
    let state = FileState::of(path, &file).map_err(open_error)?;
    let file = HashingFile::new(file);
    let hash = Some(file.hash());
    Ok(Opened { name, input: Box::new(file), state: Some(state), hash })
}
