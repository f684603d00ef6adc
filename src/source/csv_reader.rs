//! Splits text into raw records, each with the physical line on which it starts.
//!
//! The `csv` crate is not used because it lacks four things: bounds on the size of a cell and of a record (with an
//! unclosed quote, the rest of the file would be read into memory), the position of malformed quoting, detection of
//! rows swallowed by a quoted cell of several lines, and line numbers that are correct after blank lines, `\r\n`,
//! lone `\r` and quoted line breaks. Where the quoting is well formed, the cells are those of the `csv` crate: a fuzz
//! target and property tests compare the two.
//!
//! A line without quotes, which almost every line is, takes the fast path: one scan, and its cells are borrowed from the
//! buffer. Any other record takes [`CsvReader::slow_path`]. Both paths give the same result.
//!
//! Text inside quotes is never a record, whatever its length and however malformed. A quoted cell is closed by a
//! quote before a delimiter or a line break. A quote before anything else is malformed: the cell continues until a
//! quote does close it, or to the end of the line if the number of quotes up to there is even, as in `"x"y`.
//!
//! Memory is one read buffer and one record, whatever the size of the file. This module does not depend on encodings
//! or rules. The caller sets which columns are read, because only in other columns may cells have any length.

use std::{
    io::{self, Read},
    str::Utf8Error,
};

use memchr::{memchr_iter, memchr2, memchr2_iter, memchr3};

/// Size of the read buffer, which also limits the part of the file used to detect the delimiter. It holds two cells
/// of maximum length, so that a line longer than a cell is detected before the buffer is full.
const READ_BYTES: usize = 2 * CELL_MAX_BYTES;

/// Maximum length of a cell that is read: a hundred times what any field of a customer needs. A longer line inside a
/// quote is not checked for swallowed rows.
pub(super) const CELL_MAX_BYTES: usize = 64 * 1024;

/// How many bytes of a record are kept; a longer cell of a column that is not read is cut. Cells that are read do not
/// count.
pub(super) const RECORD_MAX_BYTES: usize = 1024 * 1024;

/// Maximum number of cells in a record: four times that of the widest spreadsheet. Delimiters alone would not reach
/// [`RECORD_MAX_BYTES`] soon enough to bound memory.
pub(super) const RECORD_MAX_CELLS: usize = 64 * 1024;

/// How many blanks after a closing quote are read to find what follows them.
const BLANKS_MAX: usize = 1024;

/// The character that quotes a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quote {
    /// A cell that begins with this character is quoted.
    Char(u8),
    /// No character quotes a cell; all quotes are text.
    None,
}

impl Default for Quote {
    fn default() -> Quote {
        Quote::Char(b'"')
    }
}

/// Whether a line inside a quote, split at the delimiters alone, could be a row of the file.
pub(super) type RowTest<'a> = &'a dyn Fn(RawCells<'_>) -> bool;

/// One record of the file: unquoted, not yet validated as UTF-8.
pub(super) struct RawRecord<'a> {
    /// The physical line on which it starts, from 1.
    pub(super) line: u64,
    /// The physical line on which it ends.
    pub(super) last_line: u64,
    /// The cells.
    pub(super) cells: RawCells<'a>,
    /// Why the record cannot be parsed as intended.
    pub(super) flaw: Option<Flaw>,
    /// Whether a cell is cut.
    pub(super) is_cut: bool,
    /// Whether a byte order mark preceded the record, as in files that were joined. It is not part of a cell.
    pub(super) after_mark: bool,
    /// Whether a line break ended the record, as opposed to the end of the input.
    pub(super) has_break: bool,
}

/// The byte order mark.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// How a record is malformed; a later variant outweighs an earlier one. Columns count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// A cell that is read is longer than [`CELL_MAX_BYTES`].
    LongCell {
        /// Its column.
        column: usize,
        /// Its length.
        bytes: u64,
    },
    /// The record has more than [`RECORD_MAX_CELLS`]. The others are dropped.
    ManyCells,
    /// Lines inside a quoted cell look like rows of the file.
    SwallowedRows {
        /// The opening quote.
        opened: Opening,
        /// The number of these lines.
        rows: u64,
    },
    /// Blanks precede an opening quote.
    BlankBeforeQuote(QuotePosition),
    /// The quote that should close a cell is followed by something other than a delimiter or a line break.
    TextAfterQuote(QuotePosition),
    /// As `TextAfterQuote`, with nothing but blanks after the quote.
    BlankAfterQuote(QuotePosition),
    /// As `TextAfterQuote`, with a backslash before the quote, which was intended to be part of the cell.
    EscapedQuote(QuotePosition),
    /// A quote is open at the end of the input.
    OpenQuote(Opening),
}

impl Flaw {
    fn weight(self) -> u8 {
        match self {
            Flaw::LongCell { .. } => 0,
            Flaw::ManyCells => 1,
            Flaw::SwallowedRows { .. } => 2,
            // Of two flaws of this kind, the first is reported.
            Flaw::BlankBeforeQuote(_)
            | Flaw::TextAfterQuote(_)
            | Flaw::BlankAfterQuote(_)
            | Flaw::EscapedQuote(_) => 3,
            Flaw::OpenQuote(_) => 4,
        }
    }
}

/// The position of an opening quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    /// The physical line.
    pub(super) line: u64,
    /// The column, from 0.
    pub(super) column: usize,
}

/// The position of a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QuotePosition {
    /// The physical line.
    pub(super) line: u64,
    /// The position in the line, in characters, from 1.
    pub(super) position: u64,
    /// The column, from 0.
    pub(super) column: usize,
}

/// The cells of a record: their bytes, with one separator byte between two cells, and the end of each.
#[derive(Clone, Copy)]
pub(super) struct RawCells<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) ends: &'a [usize],
}

impl<'a> RawCells<'a> {
    /// The cells as text, with the separators.
    pub(super) fn text(&self) -> Result<&'a str, Utf8Error> {
        std::str::from_utf8(self.bytes)
    }

    /// Number of cells.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The range of cell `index` in `bytes`.
    pub(super) fn range(&self, index: usize) -> Option<std::ops::Range<usize>> {
        let end = *self.ends.get(index)?;
        Some(if index == 0 { 0 } else { self.ends[index - 1] + 1 }..end)
    }

    /// The bytes of cell `index`; empty if there is no such cell.
    pub(super) fn cell(&self, index: usize) -> &'a [u8] {
        self.range(index).map_or(&[][..], |range| &self.bytes[range])
    }

    /// The bytes of each cell, in order.
    pub(super) fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        (0..self.len()).map(move |index| self.cell(index))
    }

    /// The cells within `text`, which is that of all bytes. Delimiters separate the cells, so each cell is valid UTF-8 if
    /// all bytes are.
    pub(super) fn texts(self, text: &'a str) -> impl Iterator<Item = &'a str> {
        (0..self.len()).filter_map(move |index| text.get(self.range(index)?))
    }

    /// The index of the cell that contains the byte at `offset`.
    pub(super) fn index_of(&self, offset: usize) -> usize {
        self.ends.partition_point(|end| *end <= offset)
    }
}

/// The cell that the slow path is reading.
#[derive(Default)]
struct CellState {
    /// Its start in `unquoted`.
    begin: usize,
    /// How many more of its bytes may be kept.
    room: usize,
    /// Its length so far, including bytes that are not kept.
    bytes: u64,
}

/// The state of the slow path about the lines of its record.
#[derive(Default)]
struct LineState {
    /// The start of the current line in the buffer, or of what is left of the line.
    start: usize,
    /// Characters of the current line that are no longer in the buffer.
    dropped: u64,
    /// Whether the current line has been inside one quote from its beginning.
    is_quoted: bool,
    /// The quote that was open at the start of the current line.
    opened: Option<Opening>,
    /// Whether the first line of the record, by itself, looks like a row.
    first_reads_as_row: bool,
    /// The quote around the first swallowed row, and the number of swallowed rows.
    swallowed: Option<(Opening, u64)>,
}

/// Reads records from an input.
pub(super) struct CsvReader<R> {
    input: R,
    delimiter: u8,
    quote: Quote,
    /// The columns whose cells are bounded.
    read_columns: Vec<usize>,
    buffer: Box<[u8]>,
    /// The start and the end of the bytes in the buffer that are not consumed.
    start: usize,
    end: usize,
    /// A read error that occurred while inspecting the head; reported once all data before it is consumed.
    deferred_error: Option<io::Error>,
    /// The cells of the record that the slow path is reading.
    unquoted: Vec<u8>,
    /// The ends of the cells of the current record.
    ends: Vec<usize>,
    /// The physical line of the next byte.
    line: u64,
    /// Whether the last consumed byte is `\r`, so that a `\n` after it is part of the same line break.
    after_cr: bool,
    after_mark: bool,
    /// Number of bytes read from the input.
    read: u64,
    cell: CellState,
    line_state: LineState,
    /// The ends of the cells of the line being checked.
    line_ends: Vec<usize>,
    flaw: Option<Flaw>,
    is_cut: bool,
}

impl<R: Read> CsvReader<R> {
    /// A reader with a comma as the delimiter and no read columns; reads nothing yet.
    pub(super) fn new(input: R, quote: Quote) -> CsvReader<R> {
        CsvReader::with_buffer(input, quote, READ_BYTES)
    }

    fn with_buffer(input: R, quote: Quote, bytes: usize) -> CsvReader<R> {
        CsvReader {
            input,
            delimiter: b',',
            quote,
            read_columns: Vec::new(),
            buffer: vec![0; bytes].into(),
            start: 0,
            end: 0,
            deferred_error: None,
            unquoted: Vec::new(),
            ends: Vec::new(),
            line: 1,
            after_cr: false,
            after_mark: false,
            read: 0,
            cell: CellState::default(),
            line_state: LineState::default(),
            line_ends: Vec::new(),
            flaw: None,
            is_cut: false,
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

    /// Sets the delimiter of the following records.
    pub(super) fn set_delimiter(&mut self, delimiter: u8) {
        self.delimiter = delimiter;
    }

    /// Sets which columns are read, so that their cells are bounded, in the following records.
    pub(super) fn set_read_columns(&mut self, columns: Vec<usize>) {
        self.read_columns = columns;
    }

    /// Continues with another input, positioned at the start of a record on `line`.
    pub(super) fn resume(&mut self, input: R, line: u64, after_cr: bool) {
        (self.input, self.line, self.after_cr) = (input, line, after_cr);
        (self.start, self.end, self.read, self.deferred_error) = (0, 0, 0, None);
        self.line_state = LineState::default();
    }

    /// Number of bytes read from the input.
    pub(super) fn bytes_read(&self) -> u64 {
        self.read
    }

    /// Number of those bytes before the next record.
    pub(super) fn bytes_consumed(&self) -> u64 {
        self.read - (self.end - self.start) as u64
    }

    /// The physical line of the next record.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The next record; blank lines are skipped. A read error discards the record that was begun.
    pub(super) fn next(&mut self, is_row: RowTest<'_>) -> io::Result<Option<RawRecord<'_>>> {
        if !self.skip_blank_lines()? {
            return Ok(None);
        }
        match self.simple_line()? {
            Some(length) => Ok(Some(self.fast_path(length))),
            None => self.slow_path(is_row).map(Some),
        }
    }

    /// The length of the current line, if it is complete, has no quote and is not too long.
    fn simple_line(&mut self) -> io::Result<Option<usize>> {
        let quote = match self.quote {
            Quote::Char(quote) => quote,
            Quote::None => b'\n',
        };
        let mut seen = 0;
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(at) = memchr3(b'\n', b'\r', quote, &unread[seen..]) {
                let length = seen + at;
                return Ok((is_break(unread[length]) && length <= CELL_MAX_BYTES).then_some(length));
            }
            seen = unread.len();
            if seen > CELL_MAX_BYTES || !self.fill_buffer()? {
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
        let cells = RawCells { bytes, ends: &self.ends };
        let after_mark = self.after_mark;
        RawRecord { line, last_line: line, cells, flaw: None, is_cut: false, after_mark, has_break: true }
    }

    /// Reads any record.
    fn slow_path(&mut self, is_row: RowTest<'_>) -> io::Result<RawRecord<'_>> {
        let line = self.line;
        self.unquoted.clear();
        self.ends.clear();
        (self.flaw, self.is_cut) = (None, false);
        self.line_state = LineState { start: self.start, ..LineState::default() };
        loop {
            self.append_cell(line, is_row)?;
            match self.buffer[self.start..self.end].first() {
                Some(byte) if !is_break(*byte) => self.consume(1),
                _ => break,
            }
        }
        if self.line > line {
            self.judge_line(line, is_row);
        }
        if let Some((opened, rows)) = self.line_state.swallowed {
            self.note(Flaw::SwallowedRows { opened, rows });
        }
        let has_break = self.start < self.end;
        // A line break inside the quote, at the end of the input, does not start another line.
        let ends_blank = !has_break && self.line_state.start == self.start && self.line_state.dropped == 0;
        let last_line = self.line - u64::from(ends_blank && self.line > line);
        if has_break {
            self.consume(1);
        }
        let cells = RawCells { bytes: &self.unquoted, ends: &self.ends };
        let (flaw, is_cut, after_mark) = (self.flaw, self.is_cut, self.after_mark);
        Ok(RawRecord { line, last_line, cells, flaw, is_cut, after_mark, has_break })
    }

    /// Appends one cell to `unquoted`; consumes neither the delimiter nor the line break after it.
    fn append_cell(&mut self, record_line: u64, is_row: RowTest<'_>) -> io::Result<()> {
        if !self.ends.is_empty() {
            self.unquoted.push(self.delimiter);
        }
        let begin = self.unquoted.len();
        let is_read = self.read_columns.contains(&self.ends.len());
        let room = if is_read { CELL_MAX_BYTES } else { RECORD_MAX_BYTES.saturating_sub(begin) };
        self.cell = CellState { begin, room, bytes: 0 };
        if let Quote::Char(quote) = self.quote {
            self.append_blanks()?;
            if self.has_more()? && self.buffer[self.start] == quote {
                if self.cell.bytes > 0 {
                    let blank = self.position();
                    let quote = QuotePosition { position: blank.position + 1, ..blank };
                    self.note(Flaw::BlankBeforeQuote(quote));
                }
                self.append_quoted(record_line, is_row)?;
            }
        }
        while self.has_more()? {
            let unread = &self.buffer[self.start..self.end];
            let length = memchr3(self.delimiter, b'\n', b'\r', unread);
            self.append(length.unwrap_or(unread.len()));
            if length.is_some() {
                break;
            }
        }
        self.end_cell();
        Ok(())
    }

    /// Appends the blanks at the current position.
    fn append_blanks(&mut self) -> io::Result<()> {
        while self.has_more()? {
            let blanks = self.blanks_ahead();
            if blanks == 0 {
                break;
            }
            self.append(blanks);
        }
        Ok(())
    }

    /// Appends the text from the opening quote at the current position to the closing quote; `""` is a quote.
    fn append_quoted(&mut self, record_line: u64, is_row: RowTest<'_>) -> io::Result<()> {
        let opened = Opening { line: self.line, column: self.ends.len() };
        let quote = self.buffer[self.start];
        self.line_state.is_quoted = false;
        self.consume(1);
        // The opening quote and the malformed ones. If their number is even, the last one may have closed the cell.
        let mut quotes = 1_u64;
        while self.has_more()? {
            let unread = &self.buffer[self.start..self.end];
            let at = memchr3(quote, b'\n', b'\r', unread);
            self.append(at.unwrap_or(unread.len()));
            let Some(byte) = at.map(|_| self.buffer[self.start]) else { continue };
            if byte != quote {
                if quotes.is_multiple_of(2) {
                    return Ok(());
                }
                self.judge_line(record_line, is_row);
                self.append(1);
                self.begin_line();
                (self.line_state.is_quoted, self.line_state.opened) = (true, Some(opened));
                continue;
            }
            self.consume(1);
            if self.has_more()? && self.buffer[self.start] == quote {
                self.append(1);
                continue;
            }
            self.line_state.is_quoted = false;
            if self.start == self.end || self.is_end(self.buffer[self.start]) {
                return Ok(());
            }
            quotes += 1;
            let (position, is_escaped) = (self.position(), self.unquoted.last() == Some(&b'\\'));
            let flaw = match is_escaped {
                true => Flaw::EscapedQuote,
                false if self.is_before_blanks()? => Flaw::BlankAfterQuote,
                false => Flaw::TextAfterQuote,
            };
            self.note(flaw(position));
            self.keep_byte(quote);
        }
        if !quotes.is_multiple_of(2) {
            self.note(Flaw::OpenQuote(opened));
        }
        Ok(())
    }

    /// Whether only blanks precede the end of the cell.
    fn is_before_blanks(&mut self) -> io::Result<bool> {
        loop {
            let blanks = self.blanks_ahead();
            if let Some(byte) = self.buffer[self.start..self.end].get(blanks) {
                return Ok(blanks > 0 && self.is_end(*byte));
            }
            if blanks > BLANKS_MAX || !self.fill_buffer()? {
                return Ok(blanks > 0);
            }
        }
    }

    /// Number of blanks at the current position, as far as they are in the buffer.
    fn blanks_ahead(&self) -> usize {
        let is_blank = |byte: &&u8| matches!(byte, b' ' | b'\t') && **byte != self.delimiter;
        self.buffer[self.start..self.end].iter().take_while(is_blank).count()
    }

    /// Ends the cell: appends a note if it was cut, and drops the cell if the record has too many.
    fn end_cell(&mut self) {
        let CellState { begin, bytes, .. } = self.cell;
        let column = self.ends.len();
        if column == RECORD_MAX_CELLS {
            self.unquoted.truncate(self.ends.last().copied().unwrap_or(0));
            return self.note(Flaw::ManyCells);
        }
        let kept = self.unquoted.len() - begin;
        if bytes > kept as u64 {
            if self.read_columns.contains(&column) {
                self.note(Flaw::LongCell { column, bytes });
            }
            self.is_cut = true;
            let whole = whole_characters(&self.unquoted[begin..]);
            self.unquoted.truncate(begin + whole);
            // A user who finds the cell in an export must see that it is incomplete.
            self.unquoted.extend_from_slice(format!("… [cut: {bytes} bytes]").as_bytes());
        }
        self.ends.push(self.unquoted.len());
    }

    /// Checks whether the line that ends here looks like a row by itself. The line is the first of its record or
    /// begins inside a quote. A line that is inside the quote as a whole is sufficient evidence; a line in which a
    /// quote closes may look like a row by chance, unless the first line of the record also looks like a complete
    /// row.
    fn judge_line(&mut self, record_line: u64, is_row: RowTest<'_>) {
        let line = &self.buffer[self.line_state.start.min(self.start)..self.start];
        let is_judged = self.line_state.dropped == 0 && (1..=CELL_MAX_BYTES).contains(&line.len());
        let reads_as_row = is_judged && {
            self.line_ends.clear();
            self.line_ends.extend(memchr_iter(self.delimiter, line));
            self.line_ends.push(line.len());
            is_row(RawCells { bytes: line, ends: &self.line_ends })
        };
        let state = &mut self.line_state;
        if self.line == record_line {
            state.first_reads_as_row = reads_as_row;
        } else if reads_as_row && (state.is_quoted || state.first_reads_as_row) {
            state.swallowed = state.opened.map(|opened| match state.swallowed {
                Some((first, rows)) => (first, rows + 1),
                None => (opened, 1),
            });
        }
    }

    /// Stores the flaw, unless the record has one that outweighs it.
    fn note(&mut self, flaw: Flaw) {
        if self.flaw.is_none_or(|known| known.weight() < flaw.weight()) {
            self.flaw = Some(flaw);
        }
    }

    /// The position of the last consumed byte.
    fn position(&self) -> QuotePosition {
        let line = &self.buffer[self.line_state.start.min(self.start)..self.start];
        let position = self.line_state.dropped + characters(line);
        QuotePosition { line: self.line, position, column: self.ends.len() }
    }

    /// Appends `length` bytes to the cell, or as many as may be kept, and consumes all of them.
    fn append(&mut self, length: usize) {
        let fits = length.min(self.cell.room - (self.unquoted.len() - self.cell.begin));
        self.unquoted.extend_from_slice(&self.buffer[self.start..self.start + fits]);
        self.cell.bytes += length as u64;
        self.consume(length);
    }

    /// Appends a byte that is already consumed.
    fn keep_byte(&mut self, byte: u8) {
        if self.unquoted.len() - self.cell.begin < self.cell.room {
            self.unquoted.push(byte);
        }
        self.cell.bytes += 1;
    }

    fn is_end(&self, byte: u8) -> bool {
        byte == self.delimiter || is_break(byte)
    }

    /// Whether there is a next byte; reads more if there is none in the buffer.
    fn has_more(&mut self) -> io::Result<bool> {
        Ok(self.start < self.end || self.fill_buffer()?)
    }

    /// Skips blank lines, and byte order marks at the start of a line; false at the end of the input.
    fn skip_blank_lines(&mut self) -> io::Result<bool> {
        self.after_mark = false;
        loop {
            self.begin_line();
            if !self.has_more()? {
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

    /// Starts a line at the next byte.
    fn begin_line(&mut self) {
        (self.line_state.start, self.line_state.dropped) = (self.start, 0);
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

    /// Reads more bytes after the unconsumed ones; false at the end of the input. The buffer must have room. Keeps the
    /// current line, unless it is longer than a cell.
    fn fill_buffer(&mut self) -> io::Result<bool> {
        let mut keep = self.line_state.start.min(self.start);
        if self.start - keep > CELL_MAX_BYTES {
            self.line_state.dropped += characters(&self.buffer[keep..self.start]);
            keep = self.start;
        }
        if keep > 0 {
            self.buffer.copy_within(keep..self.end, 0);
            (self.start, self.end) = (self.start - keep, self.end - keep);
        }
        self.line_state.start = 0;
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

fn is_break(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// The number of characters in text that may begin or end inside one.
fn characters(text: &[u8]) -> u64 {
    text.iter().filter(|byte| !matches!(byte, 0x80..=0xbf)).count() as u64
}

/// The length without a truncated last character.
fn whole_characters(text: &[u8]) -> usize {
    let continued = text.iter().rev().take_while(|byte| matches!(byte, 0x80..=0xbf)).count();
    let last = text.len() - continued;
    match text[..last].last() {
        Some(lead) if *lead >= 0x80 => last - 1,
        _ => last,
    }
}

impl<'a> CsvReader<&'a [u8]> {
    /// A reader over the head of a file.
    pub(super) fn over_head(head: &'a [u8], delimiter: u8, quote: Quote) -> CsvReader<&'a [u8]> {
        CsvReader { delimiter, ..CsvReader::with_buffer(head, quote, head.len().max(1)) }
    }
}

/// What follows the head of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remaining {
    /// More may follow; the caller can wait for it.
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
        let mut records = CsvReader::new(input, Quote::default());
        let mut all = Vec::new();
        while let Some(record) = records.next(&|_| false).unwrap() {
            let cells = record.cells;
            let cell = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            all.push(Read1 {
                lines: (record.line, record.last_line),
                cells: cells.iter().map(cell).collect(),
                flaw: record.flaw,
                after_mark: record.after_mark,
            });
        }
        assert!(records.next(&|_| false).unwrap().is_none());
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
            ("\"b,c\",\" d\"", vec!["b,c", " d"]),
            ("5\" wide,x\"\"y, z\"", vec!["5\" wide", "x\"\"y", " z\""]),
            (" , ", vec![" ", " "]),
            ("\"\"", vec![""]),
        ] {
            let got = read_all(text);
            assert!(got[0].cells == cells && got[0].flaw.is_none(), "{text:?}: {got:?}");
        }
    }

    #[test]
    fn another_character_quotes_or_none_does() {
        for (quote, expected) in
            [(Quote::Char(b'\''), vec!["a,b", "\"c", "d\""]), (Quote::None, vec!["'a", "b'", "\"c", "d\""])]
        {
            let mut records = CsvReader::new(&b"'a,b',\"c,d\"\nx\n"[..], quote);
            let cells = records.next(&|_| false).unwrap().unwrap().cells;
            let got: Vec<&[u8]> = cells.iter().collect();
            assert_eq!(got, expected.iter().map(|cell| cell.as_bytes()).collect::<Vec<_>>());
            assert_eq!(records.next(&|_| false).unwrap().unwrap().line, 2);
        }
    }

    #[test]
    fn malformed_quoting_is_told_with_its_place_and_swallows_no_more_than_it_must() {
        let text_after =
            |line, position, column| Flaw::TextAfterQuote(QuotePosition { line, position, column });
        let blank_after =
            |line, position, column| Flaw::BlankAfterQuote(QuotePosition { line, position, column });
        let blank_before =
            |line, position, column| Flaw::BlankBeforeQuote(QuotePosition { line, position, column });
        for (text, last_line, flaw) in [
            ("\"field \"A\" 1\",2\n", 1, text_after(1, 8, 0)),
            ("1,\"x\"y,3\n", 1, text_after(1, 5, 1)),
            ("1,\"\u{e9}\u{e9}\" ,3\n", 1, blank_after(1, 6, 1)),
            ("1,2,\"x\" \t\n", 1, blank_after(1, 7, 2)),
            ("1,\"x\" y,3\n", 1, text_after(1, 5, 1)),
            ("1, \"x\",3\n", 1, blank_before(1, 4, 1)),
            ("1,\t\"x\ny\",3\n", 2, blank_before(1, 4, 1)),
            ("1,\"screen 19\" wide\",3\n", 1, text_after(1, 13, 1)),
            // After an odd number of quotes, one is open.
            ("1,\"<p class=\"a\">\nplanted,2,3\n</p>\",3\n", 3, text_after(1, 13, 1)),
            ("1,2,\"asked\n2,3,\"hello\"\n", 2, text_after(2, 5, 2)),
            ("\"1\",\"2\",\"asked\n\"2\",\"3\",\"x\"\n", 2, text_after(2, 1, 2)),
        ] {
            let got = read_all(&format!("{text}8,9,0\n"));
            assert_eq!((got[0].lines.1, got[0].flaw), (last_line, Some(flaw)), "{text:?}");
            assert_eq!((got.len(), got[1].flaw), (2, None), "{text:?}: {got:?}");
        }
        let open = Some(Flaw::OpenQuote(Opening { line: 1, column: 0 }));
        assert_eq!(read_all("\"a\" b \"c\n1,2\n3,4\n")[0].flaw, open);
        assert_eq!(read_all("\"a\"b")[0].flaw, Some(text_after(1, 3, 0)));
    }

    #[test]
    fn a_cell_that_is_not_read_is_cut_where_the_record_is_full_and_a_read_one_at_its_bound() {
        let fits = "x".repeat(CELL_MAX_BYTES);
        let read_column = |text: &str, column| {
            let mut records = CsvReader::new(Trickle(text.as_bytes()), Quote::default());
            records.set_read_columns(vec![column]);
            let record = records.next(&|_| false).unwrap().unwrap();
            let cell = record.cells.range(1).map(|range| record.cells.bytes[range].len());
            let seen = (record.flaw, record.is_cut, cell.unwrap());
            assert_eq!(records.next(&|_| false).unwrap().map(|record| record.cells.len()), Some(3));
            seen
        };
        for cell in [format!("{fits}y"), format!("\"{fits}\n\""), format!("\"\"\"{fits}\"")] {
            let text = format!("a,{cell},c\n1,2,3\n");
            let bytes = CELL_MAX_BYTES as u64 + 1;
            let flaw = Some(Flaw::LongCell { column: 1, bytes });
            let cut = CELL_MAX_BYTES + format!("… [cut: {bytes} bytes]").len();
            assert_eq!(read_column(&text, 1), (flaw, true, cut));
            assert_eq!(read_column(&text, 0), (None, false, CELL_MAX_BYTES + 1));
        }
        // Text inside a quote is not a record, however long it is.
        let long = format!("a,\"{}\",c\n1,2,3\n", "é\n1,2,3\n".repeat(RECORD_MAX_BYTES / 8));
        let (flaw, is_cut, length) = read_column(&long, 2);
        assert!(flaw.is_none() && is_cut && length < RECORD_MAX_BYTES + 40, "{flaw:?}");
    }

    #[test]
    fn a_record_of_too_many_fields_is_cut() {
        let delimiters = ",".repeat(3 * RECORD_MAX_CELLS) + "\n1,2\n";
        let got = read(delimiters.as_bytes());
        assert_eq!((got[0].flaw, got[0].cells.len()), (Some(Flaw::ManyCells), RECORD_MAX_CELLS));
        assert_eq!(got[1].lines.0, 2);
    }

    #[test]
    fn a_quote_that_is_left_open_is_seen_with_the_lines_it_swallowed() {
        let open = |line, column| Some(Flaw::OpenQuote(Opening { line, column }));
        for (text, expected) in [
            ("a,b\n1,\"open\n2,x\n3,y\n", vec![((1, 1), None), ((2, 4), open(2, 1))]),
            ("a,b\n1,\"open\r\n2,x\r\n3,y\r\n", vec![((1, 1), None), ((2, 4), open(2, 1))]),
            ("a,b\n1,\"open\n2,x\n3,y", vec![((1, 1), None), ((2, 4), open(2, 1))]),
            ("a,b\n1,\"open", vec![((1, 1), None), ((2, 2), open(2, 1))]),
            ("a,b\n1,\"two\nlines\"\n2,x\n", vec![((1, 1), None), ((2, 3), None), ((4, 4), None)]),
            ("a,b\n1,\"two\nlines\"", vec![((1, 1), None), ((2, 3), None)]),
            ("1,\"with \"\"quotes\"\"\nin it\"\n2,5\" wide\n", vec![((1, 2), None), ((3, 3), None)]),
            // A quote in the middle of a cell is a plain character, even beside a cell of two lines.
            ("5\" wide,\"two\nlines\"\n", vec![((1, 2), None)]),
        ] {
            let got: Vec<_> = read_all(text).iter().map(|record| (record.lines, record.flaw)).collect();
            assert_eq!(got, expected, "{text:?}");
        }
    }

    #[test]
    fn lines_inside_a_quote_that_read_as_rows_are_counted() {
        let is_row = |cells: RawCells<'_>| {
            let digits = |at| cells.cell(at).iter().any(u8::is_ascii_digit);
            cells.len() == 3 && digits(0) && digits(1)
        };
        for (text, expected) in [
            ("1,2,\"asked\n2,3,plain\n3,4,19\"\n", Some((1, 2, 2))),
            ("1,2,\"asked\r\n2,3,plain\r\n3,4,19\"", Some((1, 2, 2))),
            // Two rows only: the first line looks like one, too.
            ("1,2,\"asked\n3,4,19\"\n", Some((1, 2, 1))),
            ("\"1,2,asked\n3\",4,5\n", Some((1, 0, 1))),
            ("1,2,\"asked\n2,3,\"\"\"\"\n3,4,19\"\n", Some((1, 2, 2))),
            ("1,\"street\ncity\",\"two\n5,6,7\n\"", Some((2, 2, 1))),
            ("1,2,\"a letter\nof, some, lines\n3,4\n\"\n", None),
            // The end of a cell of two lines, followed by cells with which it looks like a row.
            ("\"two\nlines of 7\",2,3\n", None),
            ("\"two\nlines of 7\",2,\"street\ncity\"\n", None),
        ] {
            for trickle in [false, true] {
                let input: Box<dyn Read> =
                    if trickle { Box::new(Trickle(text.as_bytes())) } else { Box::new(text.as_bytes()) };
                let mut records = CsvReader::new(input, Quote::default());
                let flaw = records.next(&is_row).unwrap().unwrap().flaw;
                let expected = expected.map(|(line, column, rows)| Flaw::SwallowedRows {
                    opened: Opening { line, column },
                    rows,
                });
                assert_eq!(flaw, expected, "{text:?}");
            }
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
        let mut records = CsvReader::new(Failing(0), Quote::default());
        assert_eq!(records.inspect_head(|head, rest| (rest == Remaining::Unseen).then_some(head.len())), 10);
        for line in [1, 2] {
            assert_eq!(records.next(&|_| false).unwrap().unwrap().line, line);
        }
        assert!(records.next(&|_| false).is_err(), "half a record is none");
    }
}
