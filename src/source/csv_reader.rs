//! Splits text into raw records, each with the physical line on which it starts.
//!
//! The `csv` crate is not used because it lacks three things: a bound on the size of a field and of a record (an unclosed
//! quote would read the rest of the file into memory), the position of an unclosed quote, and line numbers that are right
//! after blank lines, `\r\n`, lone `\r` and quoted line breaks. Within those bounds the cells are those of the `csv`
//! crate: a fuzz target and property tests compare the two.
//!
//! A line without quotes, which almost every line is, takes the fast path: one scan, and its fields are borrowed from the
//! buffer. Any other record takes [`CsvReader::slow_path`]. Both paths give the same result.
//!
//! Memory is one read buffer and one record, whatever the size of the file. This module knows nothing of columns,
//! encodings or rules.

use std::io::{self, Read};

use memchr::{memchr, memchr_iter, memchr2, memchr2_iter, memchr3};

/// Size of the read buffer, which is also the part of the file in which the delimiter is detected. It holds two fields of
/// maximum length, so that a line longer than a field is noticed before the buffer is full.
const READ_BYTES: usize = 2 * FIELD_MAX_BYTES;

/// Maximum length of a field: a hundred times what any field of a customer needs. A longer one means an unclosed quote or
/// a file of another kind.
pub(super) const FIELD_MAX_BYTES: usize = 64 * 1024;

/// Maximum length of a record, delimiters included: sixteen fields of maximum length.
pub(super) const RECORD_MAX_BYTES: usize = 1024 * 1024;

/// Maximum number of fields in a record: four times that of the widest spreadsheet. Delimiters alone would not reach
/// [`RECORD_MAX_BYTES`] soon enough to bound memory.
const RECORD_MAX_FIELDS: usize = 64 * 1024;

/// One record of the file: unquoted, not yet validated as UTF-8.
pub(super) struct RawRecord<'a> {
    /// The physical line on which it starts, from 1.
    pub(super) line: u64,
    /// The physical line on which it ends.
    pub(super) last_line: u64,
    /// The fields.
    pub(super) fields: RawFields<'a>,
    /// Why the record cannot be read as intended.
    pub(super) flaw: Option<Flaw>,
    /// Whether a byte order mark stood before the record, as it does in files that were joined. It is no part of a field.
    pub(super) after_mark: bool,
    /// Whether a line break ended the record, as opposed to the end of the input or a size limit.
    pub(super) has_break: bool,
}

/// The byte order mark.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// How a record is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// A field is longer than [`FIELD_MAX_BYTES`]. It is dropped, and reading continues after the next line break.
    LongField,
    /// The record is longer than [`RECORD_MAX_BYTES`] or has more than [`RECORD_MAX_FIELDS`]; handled in the same way.
    LongRecord,
    /// A quote is open at the end of the input, or was closed on a later line by a quote that text follows: that is how
    /// the opening quote of another field looks from inside an unclosed one.
    OpenQuote,
}

/// The fields of a record: their bytes, with one separator byte between two fields, and the end of each.
#[derive(Clone, Copy)]
pub(super) struct RawFields<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) ends: &'a [usize],
}

impl RawFields<'_> {
    /// Number of fields.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The range of field `index` in `bytes`.
    pub(super) fn range(&self, index: usize) -> Option<std::ops::Range<usize>> {
        let end = *self.ends.get(index)?;
        Some(if index == 0 { 0 } else { self.ends[index - 1] + 1 }..end)
    }

    /// The index of the field that contains the byte at `offset`.
    pub(super) fn index_of(&self, offset: usize) -> usize {
        self.ends.partition_point(|end| *end <= offset)
    }
}

/// What ended a field.
enum FieldEnd {
    Delimiter,
    /// A line break, or the end of the input.
    Record,
    Flaw(Flaw),
}

/// Reads records from an input.
pub(super) struct CsvReader<R> {
    input: R,
    delimiter: u8,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// A read error met while inspecting the head; reported once all data before it is consumed.
    deferred_error: Option<io::Error>,
    unquoted: Vec<u8>,
    ends: Vec<usize>,
    line: u64,
    after_cr: bool,
    /// Whether text followed the closing quote of a field of this record.
    text_after_quote: bool,
    after_mark: bool,
    read: u64,
}

impl<R: Read> CsvReader<R> {
    /// Starts with a comma as the delimiter; reads nothing yet.
    pub(super) fn new(input: R) -> CsvReader<R> {
        CsvReader::with_buffer(input, READ_BYTES)
    }

    fn with_buffer(input: R, bytes: usize) -> CsvReader<R> {
        CsvReader {
            input,
            delimiter: b',',
            buffer: vec![0; bytes].into(),
            start: 0,
            end: 0,
            deferred_error: None,
            unquoted: Vec::new(),
            ends: Vec::new(),
            line: 1,
            after_cr: false,
            text_after_quote: false,
            after_mark: false,
            read: 0,
        }
    }

    /// Calls `decide` with a growing head of the input until it decides or the head cannot grow.
    pub(super) fn inspect_head<T: Default>(&mut self, decide: impl Fn(&[u8], Remaining) -> Option<T>) -> T {
        loop {
            let known = self.end;
            let rest = if known == self.buffer.len() {
                Remaining::Unseen
            } else {
                self.fill_buffer().map_or_else(
                    |error| {
                        self.deferred_error = Some(error);
                        Remaining::Unseen
                    },
                    |more| if more { Remaining::More } else { Remaining::None },
                )
            };
            // A pipe may deliver byte by byte, and only a further line can change the decision.
            if rest == Remaining::More && memchr2(b'\n', b'\r', &self.buffer[known..self.end]).is_none() {
                continue;
            }
            let decision = decide(&self.buffer[..self.end], rest);
            if decision.is_some() || rest != Remaining::More {
                return decision.unwrap_or_default();
            }
        }
    }

    /// Sets the delimiter of the records that follow.
    pub(super) fn set_delimiter(&mut self, delimiter: u8) {
        self.delimiter = delimiter;
    }

    /// Continues with another input, positioned at the start of a record on `line`.
    pub(super) fn resume(&mut self, input: R, line: u64, after_cr: bool) {
        (self.input, self.line, self.after_cr) = (input, line, after_cr);
        (self.start, self.end, self.read, self.deferred_error) = (0, 0, 0, None);
    }

    /// The bytes consumed so far, and the bytes read from the input.
    pub(super) fn progress(&self) -> (u64, u64) {
        (self.read - (self.end - self.start) as u64, self.read)
    }

    /// The physical line of the next record.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The next record; blank lines are skipped. A read error discards the record that was begun.
    pub(super) fn next(&mut self) -> io::Result<Option<RawRecord<'_>>> {
        if !self.skip_blank_lines()? {
            return Ok(None);
        }
        match self.simple_line()? {
            Some(length) => Ok(Some(self.fast_path(length))),
            None => self.slow_path().map(Some),
        }
    }

    /// The length of the current line, if it is complete, has no quote and is not too long.
    fn simple_line(&mut self) -> io::Result<Option<usize>> {
        let mut seen = 0;
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(at) = memchr3(b'\n', b'\r', b'"', &unread[seen..]) {
                let length = seen + at;
                return Ok((unread[length] != b'"' && length <= FIELD_MAX_BYTES).then_some(length));
            }
            seen = unread.len();
            if seen > FIELD_MAX_BYTES || !self.fill_buffer()? {
                return Ok(None);
            }
        }
    }

    /// Reads a record that is one line without quotes.
    fn fast_path(&mut self, length: usize) -> RawRecord<'_> {
        let (begin, line) = (self.start, self.line);
        let bytes = &self.buffer[begin..begin + length];
        self.ends.clear();
        self.ends.extend(memchr_iter(self.delimiter, bytes));
        self.ends.push(length);
        self.start += length;
        self.after_cr = self.buffer[self.start] == b'\r';
        self.start += 1;
        self.line += 1;
        let fields = RawFields { bytes, ends: &self.ends };
        let after_mark = self.after_mark;
        RawRecord { line, last_line: line, fields, flaw: None, after_mark, has_break: true }
    }

    /// Reads any record.
    fn slow_path(&mut self) -> io::Result<RawRecord<'_>> {
        let line = self.line;
        self.unquoted.clear();
        self.ends.clear();
        self.text_after_quote = false;
        let mut flaw = loop {
            match self.field()? {
                FieldEnd::Record => {
                    self.ends.push(self.unquoted.len());
                    break None;
                }
                FieldEnd::Flaw(Flaw::OpenQuote) => {
                    self.ends.push(self.unquoted.len());
                    break Some(Flaw::OpenQuote);
                }
                FieldEnd::Flaw(flaw) => {
                    self.skip_line()?;
                    // A partial field, which may end inside a character, is dropped.
                    self.unquoted.truncate(self.ends.last().copied().unwrap_or(0));
                    break Some(flaw);
                }
                FieldEnd::Delimiter => {
                    self.ends.push(self.unquoted.len());
                    self.unquoted.push(self.delimiter);
                }
            }
        };
        if flaw.is_none() && self.text_after_quote && self.line > line {
            flaw = Some(Flaw::OpenQuote);
        }
        // A line break inside the quote, at the end of the input, does not start another line.
        let swallowed = matches!(self.unquoted.last(), Some(b'\n' | b'\r')) && flaw == Some(Flaw::OpenQuote);
        let last_line = self.line - u64::from(swallowed && self.start == self.end);
        let has_break = self.start < self.end;
        if has_break {
            self.consume(1);
        }
        let fields = RawFields { bytes: &self.unquoted, ends: &self.ends };
        Ok(RawRecord { line, last_line, fields, flaw, after_mark: self.after_mark, has_break })
    }

    /// Appends one field to `unquoted` and consumes the delimiter after it, but not a line break.
    fn field(&mut self) -> io::Result<FieldEnd> {
        let most = (self.unquoted.len() + FIELD_MAX_BYTES).min(RECORD_MAX_BYTES);
        if self.start == self.end && !self.fill_buffer()? {
            return Ok(FieldEnd::Record);
        }
        let is_quoted = self.buffer[self.start] == b'"';
        if is_quoted && let Some(flaw) = self.quoted(most)? {
            return Ok(FieldEnd::Flaw(flaw));
        }
        loop {
            if self.start == self.end && !self.fill_buffer()? {
                return Ok(FieldEnd::Record);
            }
            let unread = &self.buffer[self.start..self.end];
            let length = memchr3(self.delimiter, b'\n', b'\r', unread).unwrap_or(unread.len());
            if is_quoted && unread[..length].iter().any(|byte| !matches!(byte, b' ' | b'\t')) {
                self.text_after_quote = true;
            }
            if let Some(flaw) = self.append(length, most) {
                return Ok(FieldEnd::Flaw(flaw));
            }
            match self.buffer[self.start..self.end].first() {
                None => {}
                Some(b'\n' | b'\r') => return Ok(FieldEnd::Record),
                Some(_)
                    if self.unquoted.len() >= RECORD_MAX_BYTES || self.ends.len() >= RECORD_MAX_FIELDS =>
                {
                    return Ok(FieldEnd::Flaw(Flaw::LongRecord));
                }
                Some(_) => {
                    self.consume(1);
                    return Ok(FieldEnd::Delimiter);
                }
            }
        }
    }

    /// Appends the text between the opening quote here and its closing quote; `""` is a quote.
    fn quoted(&mut self, most: usize) -> io::Result<Option<Flaw>> {
        self.consume(1);
        loop {
            if self.start == self.end && !self.fill_buffer()? {
                return Ok(Some(Flaw::OpenQuote));
            }
            let unread = &self.buffer[self.start..self.end];
            let quote = memchr(b'"', unread);
            if let Some(flaw) = self.append(quote.unwrap_or(unread.len()), most) {
                return Ok(Some(flaw));
            }
            if quote.is_none() {
                continue;
            }
            self.consume(1);
            if self.start == self.end && !self.fill_buffer()? || self.buffer[self.start] != b'"' {
                return Ok(None);
            }
            if let Some(flaw) = self.append(1, most) {
                return Ok(Some(flaw));
            }
        }
    }

    /// Appends `length` bytes to the field, or as many as its limit allows.
    fn append(&mut self, length: usize, most: usize) -> Option<Flaw> {
        let room = most - self.unquoted.len();
        let fits = length.min(room);
        self.unquoted.extend_from_slice(&self.buffer[self.start..self.start + fits]);
        self.consume(fits);
        let flaw = if most == RECORD_MAX_BYTES { Flaw::LongRecord } else { Flaw::LongField };
        (length > room).then_some(flaw)
    }

    /// Skips to the next line break, as if no quote were open.
    fn skip_line(&mut self) -> io::Result<()> {
        while self.start < self.end || self.fill_buffer()? {
            let unread = &self.buffer[self.start..self.end];
            match memchr2(b'\n', b'\r', unread) {
                Some(at) => {
                    self.consume(at);
                    return Ok(());
                }
                None => self.consume(unread.len()),
            }
        }
        Ok(())
    }

    /// Skips blank lines, and byte order marks at the start of a line; false at the end of the input.
    fn skip_blank_lines(&mut self) -> io::Result<bool> {
        self.after_mark = false;
        loop {
            if self.start == self.end && !self.fill_buffer()? {
                return Ok(false);
            }
            let byte = self.buffer[self.start];
            match byte {
                b'\n' | b'\r' => self.consume(1),
                _ if byte != MARK[0] || !self.is_at_mark()? => return Ok(true),
                _ => {
                    self.consume(MARK.len());
                    self.after_mark = true;
                }
            }
        }
    }

    fn is_at_mark(&mut self) -> io::Result<bool> {
        while self.end - self.start < MARK.len() && self.fill_buffer()? {}
        Ok(self.buffer[self.start..self.end].starts_with(MARK))
    }

    /// Consumes bytes and counts their line breaks: `\n`, `\r` and `\r\n` are one each.
    fn consume(&mut self, used: usize) {
        let passed = &self.buffer[self.start..self.start + used];
        for at in memchr2_iter(b'\n', b'\r', passed) {
            let follows_cr = if at == 0 { self.after_cr } else { passed[at - 1] == b'\r' };
            if passed[at] == b'\r' || !follows_cr {
                self.line += 1;
            }
        }
        if let Some(last) = passed.last() {
            self.after_cr = *last == b'\r';
        }
        self.start += used;
    }

    /// Reads more bytes after the unconsumed ones; false at the end of the input. The buffer must have room.
    fn fill_buffer(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if let Some(error) = self.deferred_error.take() {
            return Err(error);
        }
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    self.read += count as u64;
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl<'a> CsvReader<&'a [u8]> {
    /// A reader over the head of a file.
    pub(super) fn over_head(head: &'a [u8], delimiter: u8) -> CsvReader<&'a [u8]> {
        CsvReader { delimiter, ..CsvReader::with_buffer(head, head.len().max(1)) }
    }
}

/// What follows the head of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remaining {
    /// More may follow, and can be waited for.
    More,
    /// More follows but cannot be inspected: the head has its maximum length, or reading failed.
    Unseen,
    /// The input has ended.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns one byte per call, so that every buffer boundary occurs.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else {
                return Ok(0);
            };
            buffer[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    #[derive(Clone, Debug, PartialEq)]
    struct Read1 {
        lines: (u64, u64),
        cells: Vec<String>,
        flaw: Option<Flaw>,
        after_mark: bool,
    }

    fn read(input: impl Read) -> Vec<Read1> {
        let mut records = CsvReader::new(input);
        let mut all = Vec::new();
        while let Some(record) = records.next().unwrap() {
            let fields = record.fields;
            let cell = |at| String::from_utf8(fields.bytes[fields.range(at).unwrap()].to_vec()).unwrap();
            all.push(Read1 {
                lines: (record.line, record.last_line),
                cells: (0..fields.len()).map(cell).collect(),
                flaw: record.flaw,
                after_mark: record.after_mark,
            });
        }
        assert!(records.next().unwrap().is_none());
        all
    }

    /// Reads the text whole and byte by byte.
    fn read_all(text: &str) -> Vec<Read1> {
        let whole = read(text.as_bytes());
        assert_eq!(whole, read(Trickle(text.as_bytes())), "{text:?}");
        whole
    }

    #[test]
    fn lines_are_physical_whatever_ends_them() {
        for (text, lines) in [
            ("a,b\n1,2\n3,4", vec![1, 2, 3]),
            ("a,b\r\n1,2\r\n\r\n\"x\ny\",3\r\n5,6\r\n", vec![1, 2, 4, 6]),
            ("a,b\r1,2\r\r3,4\r", vec![1, 2, 4]),
            ("\n\na,b\n\n\"1\r\n\r2\",2\n3,4\n", vec![3, 5, 8]),
            ("a,b\n\"\n\n\",2\n\n3,4", vec![1, 2, 6]),
            ("\"a\r\",b\r\n\"\r\n\"\r\nc\r", vec![1, 3, 5]),
        ] {
            let got: Vec<u64> = read_all(text).iter().map(|record| record.lines.0).collect();
            assert_eq!(got, lines, "{text:?}");
        }
    }

    #[test]
    fn a_byte_order_mark_at_the_start_of_a_line_is_no_part_of_a_field() {
        let text = "\u{feff}a,b\n\u{feff}\n\r\n\u{feff}\u{feff}\"1\",2\r\n3\u{feff},\u{feff}4\n\"\u{feff}5\",6\n\u{ffee},\n\u{feff}";
        let got = read_all(text);
        let cells: Vec<&[String]> = got.iter().map(|record| &record.cells[..]).collect();
        let expected =
            [["a", "b"], ["1", "2"], ["3\u{feff}", "\u{feff}4"], ["\u{feff}5", "6"], ["\u{ffee}", ""]];
        assert_eq!(cells, expected);
        let lines: Vec<u64> = got.iter().map(|record| record.lines.0).collect();
        assert_eq!(lines, [1, 4, 5, 6, 7]);
        let marks: Vec<bool> = got.iter().map(|record| record.after_mark).collect();
        assert_eq!(marks, [true, true, false, false, false]);
    }

    #[test]
    fn cells_are_unquoted() {
        for (text, cells) in [
            ("\"a\",b", vec!["a", "b"]),
            ("\"x,\"\"y\"\"\",\n", vec!["x,\"y\"", ""]),
            ("\"b,c\" , \"d\"", vec!["b,c ", " \"d\""]),
            ("5\" wide,x\"\"y, z\"", vec!["5\" wide", "x\"\"y", " z\""]),
            ("\"a\"b\"c,\"\"\n", vec!["ab\"c", ""]),
            (" , ", vec![" ", " "]),
            ("\"\"", vec![""]),
        ] {
            let got = read_all(text);
            assert!(got[0].cells == cells && got[0].flaw.is_none(), "{text:?}: {got:?}");
        }
    }

    #[test]
    fn a_field_that_is_too_long_is_cut_and_reading_goes_on() {
        let fits = "x".repeat(FIELD_MAX_BYTES);
        for (cell, next) in [
            (format!("{fits}y"), 3),
            (format!("\"{fits}y\""), 3),
            (format!("\"{fits}\"\"\""), 3),
            // Behind the cut, lines are lines.
            (format!("\"{fits}\nopen"), 3),
            (format!("\"{fits}y\nopen"), 3),
            (format!("\"{}{fits}\nopen", "\n".repeat(10)), 13),
        ] {
            let got = read_all(&format!("a,b\n1,{cell}\n8,9\n"));
            assert_eq!((got[1].flaw, &got[1].cells[..]), (Some(Flaw::LongField), &["1".to_owned()][..]));
            assert_eq!((got[1].lines, got[2].lines.0), ((2, next - 1), next), "{}", got[2].cells[0]);
            assert_eq!(got.last().unwrap().cells, ["8", "9"]);
        }
        for cell in [fits.clone(), format!("\"{}\"\"\"", &fits[1..])] {
            let got = read_all(&format!("a,b\n{cell},{cell}\n"));
            assert!(got[1].flaw.is_none() && got[1].cells.iter().all(|cell| cell.len() == FIELD_MAX_BYTES));
        }
    }

    #[test]
    fn a_record_that_is_too_long_is_cut() {
        let long = "x".repeat(RECORD_MAX_BYTES / 32 - 1) + ",";
        let text = |fields| format!("{}x\n1,2\n", long.repeat(fields));
        assert_eq!(read(text(31).as_bytes())[0].flaw, None);
        let got = read(text(33).as_bytes());
        assert_eq!((got[0].flaw, got[0].cells.len(), got[1].lines.0), (Some(Flaw::LongRecord), 32, 2));
        let delimiters = ",".repeat(3 * RECORD_MAX_FIELDS) + "\n1,2\n";
        let got = read(delimiters.as_bytes());
        assert_eq!((got[0].flaw, got[1].lines.0), (Some(Flaw::LongRecord), 2));
    }

    #[test]
    fn a_quote_that_is_left_open_is_seen_with_the_lines_it_swallowed() {
        let open = Some(Flaw::OpenQuote);
        for (text, expected) in [
            ("a,b\n1,\"open\n2,x\n3,y\n", vec![((1, 1), None), ((2, 4), open)]),
            ("a,b\n1,\"open\n2,x\n3,y", vec![((1, 1), None), ((2, 4), open)]),
            ("a,b\n1,\"open", vec![((1, 1), None), ((2, 2), open)]),
            ("a\n\"open\n2\n3,\"closed\"\n4\n", vec![((1, 1), None), ((2, 4), open), ((5, 5), None)]),
            ("a,b\n1,\"two\nlines\"\n2,x\n", vec![((1, 1), None), ((2, 3), None), ((4, 4), None)]),
            ("a,b\n1,\"two\nlines\"", vec![((1, 1), None), ((2, 3), None)]),
            ("1,\"with \"\"quotes\"\"\nin it\" \n2,5\" wide\n", vec![((1, 2), None), ((3, 3), None)]),
            // A quote in the middle of a field is a character, also beside a field of two lines.
            ("5\" wide,\"two\nlines\"\n", vec![((1, 2), None)]),
        ] {
            let got: Vec<_> = read_all(text).iter().map(|record| (record.lines, record.flaw)).collect();
            assert_eq!(got, expected, "{text:?}");
        }
    }

    #[test]
    fn an_error_met_while_inspecting_the_head_is_reported_in_its_place() {
        struct Failing(usize);
        impl Read for Failing {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    1 => (&b"a,b\n1,2\n3,"[..]).read(buffer),
                    _ => Err(io::Error::other("gone")),
                }
            }
        }
        let mut records = CsvReader::new(Failing(0));
        assert_eq!(records.inspect_head(|head, rest| (rest == Remaining::Unseen).then_some(head.len())), 10);
        for line in [1, 2] {
            assert_eq!(records.next().unwrap().unwrap().line, line);
        }
        assert!(records.next().is_err(), "half a record is none");
    }
}
