//! The first rows of a source, kept in memory, so that several ways to read them can be compared.
//!
//! The bytes are decompressed once, because standard input can be read only once. Each attempt then takes the same steps as
//! an import: detection of the dialect, decoding, the CSV reader, and for counts a [`Source`] over the same bytes.

use std::{
    io::{Cursor, Read},
    path::Path,
    sync::Arc,
};

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};

use super::{
    Begun, Encoding, Error, Source, SourceOptions, begin, decompress::Decompressor,
    export_columns::is_export, first_lines, head, header_shape::HeaderShape, heading::named_field,
    open_input, skipped_line::is_no_row,
};
use crate::customer::{Field, Record};

/// Maximum number of rows of a sample.
const ROWS_MAX: u64 = 1000;

/// How many bytes of a source are kept: a thousand rows of four kilobytes each.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The first rows of a source, as bytes.
pub struct SourceSample {
    name: String,
    bytes: Arc<[u8]>,
    /// Whether the bytes are the whole source.
    is_whole: bool,
}

/// A sample as parsed with some options.
pub struct Table {
    /// The column names, trimmed.
    pub header: Vec<String>,
    /// The rows whose cells can be assigned to columns. A cell that is missing at the end is omitted.
    pub rows: Vec<Record>,
    /// Number of rows, including those that cannot be parsed.
    pub count: u64,
    /// Rows with bytes that are not text in the encoding.
    pub undecodable: u64,
    /// Rows with text beyond ASCII.
    pub beyond_ascii: u64,
    /// Whether the sample contains every row of the source.
    pub is_whole: bool,
    /// The delimiter in use.
    pub delimiter: u8,
    /// The encoding in use; a byte order mark in the file takes precedence.
    pub encoding: Encoding,
    /// Whether the columns are those of a failed export of this program.
    pub is_export: bool,
}

impl SourceSample {
    /// Reads the beginning of a file, or of standard input. `encoding` is the declared one.
    ///
    /// # Errors
    /// If the source cannot be read, or is not text in any encoding.
    pub fn open(path: &Path, encoding: Encoding) -> Result<SourceSample, Error> {
        let opened = open_input(path)?;
        let read_error = |error| Error::Read { name: opened.name.clone(), line: 1, error };
        let mut bytes = Vec::new();
        let decompressor = Decompressor::new(opened.input).map_err(read_error)?;
        decompressor.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(read_error)?;
        let is_whole = bytes.len() as u64 <= BYTES_MAX;
        // Must precede the second reading of the bytes, in which doubly compressed data would be decompressed again.
        if let Some(head::ForeignFile { what, hint }) = head::foreign_file(&bytes, encoding) {
            return Err(Error::Foreign { name: opened.name, what, hint });
        }
        Ok(SourceSample { name: opened.name, bytes: bytes.into(), is_whole })
    }

    /// The path as given, or `-`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Parses the sample as a table. If the header is a single cell, and an uncommon delimiter splits it and the rows
    /// alike, that delimiter is used.
    ///
    /// # Errors
    /// If there is no header, or the first line is something else.
    pub fn table(&self, options: &SourceOptions) -> Result<Table, Error> {
        let table = self.read(options)?;
        if table.header.iter().any(|name| name.contains('\0')) {
            let hint = "it has NUL bytes, as files that are no text have; if it is UTF-16, add --encoding utf-16le or utf-16be";
            return Err(Error::NoHeader { name: self.name.clone(), hint: hint.into() });
        }
        match self.shape(&table.header, table.delimiter, options)? {
            // The caller detects other quotes in the table.
            None | Some(HeaderShape::Quoted(_, None)) => Ok(table),
            Some(
                HeaderShape::OneCell(delimiter)
                | HeaderShape::OtherDelimiter(delimiter)
                | HeaderShape::Quoted(_, Some(delimiter)),
            ) => {
                let options = SourceOptions { delimiter: u8::try_from(delimiter).ok(), ..options.clone() };
                let split = self.read(&options)?;
                let fit = split.rows.iter().filter(|row| row.cells().count() == split.header.len()).count();
                Ok(if fit > 0 && fit * 2 > split.rows.len() { split } else { table })
            }
            Some(shape) => Err(Error::NoHeader { name: self.name.clone(), hint: shape.hint() }),
        }
    }

    /// A source of the first `rows` rows of the sample.
    ///
    /// # Errors
    /// If a required column is missing, or a column that the options name.
    pub fn source(&self, options: &SourceOptions, rows: u64) -> Result<Source, Error> {
        let options = SourceOptions { limit: Some(rows), ..options.clone() };
        Source::from_reader(self.name.clone(), self.input(), &options)
    }

    /// The probable encoding of bytes that are not UTF-8; none if they are not text.
    pub fn likely_encoding(&self) -> Option<Encoding> {
        if self.bytes.contains(&0) {
            return None;
        }
        let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
        detector.feed(&self.bytes, true);
        Some(Encoding::detected(detector.guess(None, Utf8Detection::Deny)))
    }

    fn input(&self) -> Box<Cursor<Arc<[u8]>>> {
        Box::new(Cursor::new(Arc::clone(&self.bytes)))
    }

    fn read(&self, options: &SourceOptions) -> Result<Table, Error> {
        let Begun { mut records, header, dialect, encoding, .. } = begin(&self.name, self.input(), options)?;
        let mut table = Table {
            is_export: is_export(&header),
            header,
            rows: Vec::new(),
            count: 0,
            undecodable: 0,
            beyond_ascii: 0,
            is_whole: self.is_whole,
            delimiter: dialect.delimiter,
            encoding,
        };
        let (mut last_was_kept, mut ended) = (false, false);
        while table.count < ROWS_MAX && !ended {
            let line = records.line();
            let record = records.next(&|_| false);
            let Some(record) =
                record.map_err(|error| Error::Read { name: self.name.clone(), line, error })?
            else {
                ended = true;
                continue;
            };
            if is_no_row(&record, &table.header, dialect.delimiter) {
                continue;
            }
            table.count += 1;
            let text = record.cells.text();
            table.undecodable += u64::from(text.is_err());
            table.beyond_ascii += u64::from(text.is_ok_and(|text| !text.is_ascii()));
            let width = table.header.len();
            let kept = text
                .ok()
                .filter(|_| record.flaw.is_none())
                .filter(|text| record.cells.texts(text).skip(width).all(|cell| cell.trim().is_empty()));
            last_was_kept = kept.is_some();
            table.rows.extend(kept.map(|text| Record::new(record.cells.texts(text).take(width))));
        }
        if ended && !self.is_whole {
            // The last row is incomplete, because the bytes end within it.
            table.count = table.count.saturating_sub(1);
            if last_was_kept {
                table.rows.pop();
            }
        }
        table.is_whole = ended && self.is_whole;
        Ok(table)
    }

    /// What the first line is, if it names no field and is not a header.
    fn shape(
        &self,
        header: &[String],
        delimiter: u8,
        options: &SourceOptions,
    ) -> Result<Option<HeaderShape>, Error> {
        // A single cell may contain the words of several fields, between delimiters that are not detected.
        if header.len() > 1 && named_fields(header) > 0 {
            return Ok(None);
        }
        let mut begun = begin(&self.name, self.input(), options)?;
        let later = first_lines(&mut begun.records, begun.encoding);
        Ok(HeaderShape::of(header, delimiter, options.delimiter, &later, |cells| named_fields(cells) > 1))
    }
}

/// How many fields these cells name.
fn named_fields(cells: &[String]) -> usize {
    let named =
        |field: &Field| cells.iter().any(|cell| named_field(cell).is_some_and(|(of, _)| of == *field));
    Field::ALL.iter().filter(|field| named(field)).count()
}
