//! Text to raw records, each with the physical line on which it starts.
//!
//! Our own splitter rather than the `csv` crate's, for what that one does not give: a bound on the size of
//! a field and of a record (a quote left open would otherwise swallow the rest of the file into memory),
//! the place where such a quote was opened, and line numbers that are right after blank lines, `\r\n`, lone
//! `\r` and line breaks in quotes. Within those bounds it reads what the `csv` crate reads, cell by cell: the
//! fuzz target and the property tests hold the two against each other.
//!
//! Two ways lead to a record. A line without a quote, and almost all are, is found with one scan and its
//! fields are where they lie; any other goes byte by byte through [`Records::intricate`]. Which of the two
//! it was makes no difference to the result.
//!
//! Memory is one read buffer and one record, whatever the file. Nothing here knows of columns,
//! encodings or rules.

use std::io::{self, Read};

use memchr::{memchr, memchr_iter, memchr2, memchr2_iter, memchr3};

/// How much is read at a time, and how much of the head the delimiter is found in. It holds two fields of the
/// longest kind, so that a line which fits no field is seen before the buffer is full.
const READ_BYTES: usize = 2 * FIELD_MAX_BYTES;

/// The most bytes of one field. A hundred times what any field of a customer could need; beyond it a quote
/// was left open, or the file is none of ours.
pub(super) const FIELD_MAX_BYTES: usize = 64 * 1024;

/// The most bytes of one record, its delimiters included: sixteen of the longest fields.
pub(super) const RECORD_MAX_BYTES: usize = 1024 * 1024;

/// The most fields of one record: four times what the widest spreadsheet has, and delimiters alone fill
/// no buffer of bytes.
const RECORD_MAX_FIELDS: usize = 64 * 1024;

/// One record as it stands in the file, unquoted, not yet known to be text.
pub(super) struct RawRecord<'a> {
    /// The physical line on which it starts, from 1.
    pub(super) line: u64,
    /// The physical line on which it ends.
    pub(super) last_line: u64,
    /// The fields.
    pub(super) fields: Fields<'a>,
    /// Why it cannot be what was meant.
    pub(super) flaw: Option<Flaw>,
    /// Whether a line break ended it, rather than the end of the input or a cut.
    pub(super) has_break: bool,
}

/// How a record is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// A field was longer than [`FIELD_MAX_BYTES`]; it is not among the fields, and reading goes on behind the
    /// next line break.
    LongField,
    /// The record was longer than [`RECORD_MAX_BYTES`] or had more than [`RECORD_MAX_FIELDS`]; the same.
    LongRecord,
    /// A quote is open where the input ends; or was closed, some lines further down, by a quote with text
    /// behind it, which is how the opening of another field looks from inside.
    OpenQuote,
}

/// The fields of a record: the bytes, in which one more stands between each two fields, and where each ends.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) ends: &'a [usize],
}

impl Fields<'_> {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bounds of field `index` in `bytes`.
    pub(super) fn range(&self, index: usize) -> Option<std::ops::Range<usize>> {
        let end = *self.ends.get(index)?;
        Some(if index == 0 { 0 } else { self.ends[index - 1] + 1 }..end)
    }

    /// The field in which the byte at `offset` stands.
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

/// The reader.
pub(super) struct Records<R> {
    input: R,
    delimiter: u8,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// What went wrong while looking ahead; told when all before it is used up.
    trouble: Option<io::Error>,
    out: Vec<u8>,
    ends: Vec<usize>,
    line: u64,
    after_cr: bool,
    /// Whether there was text behind the closing quote of a field of this record.
    text_after_quote: bool,
    read: u64,
}

impl<R: Read> Records<R> {
    /// Nothing is read yet, and the delimiter is a comma.
    pub(super) fn new(input: R) -> Records<R> {
        Records::with_buffer(input, READ_BYTES)
    }

    fn with_buffer(input: R, bytes: usize) -> Records<R> {
        Records {
            input,
            delimiter: b',',
            buffer: vec![0; bytes].into(),
            start: 0,
            end: 0,
            trouble: None,
            out: Vec::new(),
            ends: Vec::new(),
            line: 1,
            after_cr: false,
            text_after_quote: false,
            read: 0,
        }
    }

    /// Shows `decide` more and more of the head, until it has an answer or can be shown no more.
    pub(super) fn look_ahead<T: Default>(&mut self, decide: impl Fn(&[u8], Rest) -> Option<T>) -> T {
        loop {
            let known = self.end;
            let rest = if known == self.buffer.len() {
                Rest::Unseen
            } else {
                self.more().map_or_else(
                    |error| {
                        self.trouble = Some(error);
                        Rest::Unseen
                    },
                    |more| if more { Rest::Some } else { Rest::None },
                )
            };
            // A pipe may give it byte by byte, and only a line more can make a difference.
            if rest == Rest::Some && memchr2(b'\n', b'\r', &self.buffer[known..self.end]).is_none() {
                continue;
            }
            let decision = decide(&self.buffer[..self.end], rest);
            if decision.is_some() || rest != Rest::Some {
                return decision.unwrap_or_default();
            }
        }
    }

    /// From here on fields end at this byte.
    pub(super) fn set_delimiter(&mut self, delimiter: u8) {
        self.delimiter = delimiter;
    }

    /// Goes on with another input, which stands at the beginning of a record on that line.
    pub(super) fn go_on(&mut self, input: R, line: u64, after_cr: bool) {
        (self.input, self.line, self.after_cr) = (input, line, after_cr);
        (self.start, self.end, self.read, self.trouble) = (0, 0, 0, None);
    }

    /// Of the bytes that the input gave, how many are used up, and all.
    pub(super) fn used(&self) -> (u64, u64) {
        (self.read - (self.end - self.start) as u64, self.read)
    }

    /// The line at which reading stands.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The next record; blank lines are none.
    ///
    /// # Errors
    /// Where the input cannot be read; a record that was begun is lost with it.
    pub(super) fn next(&mut self) -> io::Result<Option<RawRecord<'_>>> {
        if !self.skip_blank_lines()? {
            return Ok(None);
        }
        match self.plain_line()? {
            Some(length) => Ok(Some(self.plain(length))),
            None => self.intricate().map(Some),
        }
    }

    /// The length of the line at hand, if it has no quote and is whole and not too long.
    fn plain_line(&mut self) -> io::Result<Option<usize>> {
        let mut seen = 0;
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(at) = memchr3(b'\n', b'\r', b'"', &unread[seen..]) {
                let length = seen + at;
                return Ok((unread[length] != b'"' && length <= FIELD_MAX_BYTES).then_some(length));
            }
            seen = unread.len();
            if seen > FIELD_MAX_BYTES || !self.more()? {
                return Ok(None);
            }
        }
    }

    /// The record that this line is.
    fn plain(&mut self, length: usize) -> RawRecord<'_> {
        let (begin, line) = (self.start, self.line);
        let bytes = &self.buffer[begin..begin + length];
        self.ends.clear();
        self.ends.extend(memchr_iter(self.delimiter, bytes));
        self.ends.push(length);
        self.start += length;
        self.after_cr = self.buffer[self.start] == b'\r';
        self.start += 1;
        self.line += 1;
        let fields = Fields { bytes, ends: &self.ends };
        RawRecord { line, last_line: line, fields, flaw: None, has_break: true }
    }

    /// Any record.
    fn intricate(&mut self) -> io::Result<RawRecord<'_>> {
        let line = self.line;
        self.out.clear();
        self.ends.clear();
        self.text_after_quote = false;
        let mut flaw = loop {
            match self.field()? {
                FieldEnd::Record => {
                    self.ends.push(self.out.len());
                    break None;
                }
                FieldEnd::Flaw(Flaw::OpenQuote) => {
                    self.ends.push(self.out.len());
                    break Some(Flaw::OpenQuote);
                }
                FieldEnd::Flaw(flaw) => {
                    self.drop_line()?;
                    // Half a field, perhaps up to half a character, is none.
                    self.out.truncate(self.ends.last().copied().unwrap_or(0));
                    break Some(flaw);
                }
                FieldEnd::Delimiter => {
                    self.ends.push(self.out.len());
                    self.out.push(self.delimiter);
                }
            }
        };
        if flaw.is_none() && self.text_after_quote && self.line > line {
            flaw = Some(Flaw::OpenQuote);
        }
        // A break that the quote swallowed at the end of the input begins no line.
        let swallowed = matches!(self.out.last(), Some(b'\n' | b'\r')) && flaw == Some(Flaw::OpenQuote);
        let last_line = self.line - u64::from(swallowed && self.start == self.end);
        let has_break = self.start < self.end;
        if has_break {
            self.pass(1);
        }
        let fields = Fields { bytes: &self.out, ends: &self.ends };
        Ok(RawRecord { line, last_line, fields, flaw, has_break })
    }

    /// One field onto `out`, and the delimiter behind it away; a line break stays.
    fn field(&mut self) -> io::Result<FieldEnd> {
        let most = (self.out.len() + FIELD_MAX_BYTES).min(RECORD_MAX_BYTES);
        if self.start == self.end && !self.more()? {
            return Ok(FieldEnd::Record);
        }
        let is_quoted = self.buffer[self.start] == b'"';
        if is_quoted && let Some(flaw) = self.quoted(most)? {
            return Ok(FieldEnd::Flaw(flaw));
        }
        loop {
            if self.start == self.end && !self.more()? {
                return Ok(FieldEnd::Record);
            }
            let unread = &self.buffer[self.start..self.end];
            let length = memchr3(self.delimiter, b'\n', b'\r', unread).unwrap_or(unread.len());
            if is_quoted && unread[..length].iter().any(|byte| !matches!(byte, b' ' | b'\t')) {
                self.text_after_quote = true;
            }
            if let Some(flaw) = self.keep(length, most) {
                return Ok(FieldEnd::Flaw(flaw));
            }
            match self.buffer[self.start..self.end].first() {
                None => {}
                Some(b'\n' | b'\r') => return Ok(FieldEnd::Record),
                Some(_) if self.out.len() >= RECORD_MAX_BYTES || self.ends.len() >= RECORD_MAX_FIELDS => {
                    return Ok(FieldEnd::Flaw(Flaw::LongRecord));
                }
                Some(_) => {
                    self.pass(1);
                    return Ok(FieldEnd::Delimiter);
                }
            }
        }
    }

    /// What stands between the quote at hand and the one that closes it; `""` is a quote.
    fn quoted(&mut self, most: usize) -> io::Result<Option<Flaw>> {
        self.pass(1);
        loop {
            if self.start == self.end && !self.more()? {
                return Ok(Some(Flaw::OpenQuote));
            }
            let unread = &self.buffer[self.start..self.end];
            let quote = memchr(b'"', unread);
            if let Some(flaw) = self.keep(quote.unwrap_or(unread.len()), most) {
                return Ok(Some(flaw));
            }
            if quote.is_none() {
                continue;
            }
            self.pass(1);
            if self.start == self.end && !self.more()? || self.buffer[self.start] != b'"' {
                return Ok(None);
            }
            if let Some(flaw) = self.keep(1, most) {
                return Ok(Some(flaw));
            }
        }
    }

    /// So many bytes are text of the field; or, if that is more than may be, as many as may be.
    fn keep(&mut self, length: usize, most: usize) -> Option<Flaw> {
        let room = most - self.out.len();
        let fits = length.min(room);
        self.out.extend_from_slice(&self.buffer[self.start..self.start + fits]);
        self.pass(fits);
        let flaw = if most == RECORD_MAX_BYTES { Flaw::LongRecord } else { Flaw::LongField };
        (length > room).then_some(flaw)
    }

    /// Reading goes on at the next line break, as if no quote were open.
    fn drop_line(&mut self) -> io::Result<()> {
        while self.start < self.end || self.more()? {
            let unread = &self.buffer[self.start..self.end];
            match memchr2(b'\n', b'\r', unread) {
                Some(at) => {
                    self.pass(at);
                    return Ok(());
                }
                None => self.pass(unread.len()),
            }
        }
        Ok(())
    }

    /// False at the end of the input.
    fn skip_blank_lines(&mut self) -> io::Result<bool> {
        loop {
            if self.start == self.end && !self.more()? {
                return Ok(false);
            }
            match self.buffer[self.start] {
                b'\n' | b'\r' => self.pass(1),
                _ => return Ok(true),
            }
        }
    }

    /// Steps over bytes and counts the line breaks among them: `\n`, `\r` and `\r\n` are one each.
    fn pass(&mut self, used: usize) {
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

    /// Reads on, behind what is not used up; false at the end of the input. There must be room.
    fn more(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if let Some(error) = self.trouble.take() {
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

impl<'a> Records<&'a [u8]> {
    /// The records of a head.
    pub(super) fn of_head(head: &'a [u8], delimiter: u8) -> Records<&'a [u8]> {
        Records { delimiter, ..Records::with_buffer(head, head.len().max(1)) }
    }
}

/// What there is behind a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Perhaps more, which can be waited for.
    Some,
    /// More that is not to be seen: the head is as long as it can be, or the input cannot be read.
    Unseen,
    /// Nothing.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte a call, so that every boundary is met.
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
    }

    fn read(input: impl Read) -> Vec<Read1> {
        let mut records = Records::new(input);
        let mut all = Vec::new();
        while let Some(record) = records.next().unwrap() {
            let fields = record.fields;
            let cell = |at| String::from_utf8(fields.bytes[fields.range(at).unwrap()].to_vec()).unwrap();
            all.push(Read1 {
                lines: (record.line, record.last_line),
                cells: (0..fields.len()).map(cell).collect(),
                flaw: record.flaw,
            });
        }
        assert!(records.next().unwrap().is_none());
        all
    }

    /// Whole and byte by byte.
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
    fn trouble_that_was_met_while_looking_ahead_is_told_in_its_place() {
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
        let mut records = Records::new(Failing(0));
        assert_eq!(records.look_ahead(|head, rest| (rest == Rest::Unseen).then_some(head.len())), 10);
        for line in [1, 2] {
            assert_eq!(records.next().unwrap().unwrap().line, line);
        }
        assert!(records.next().is_err(), "half a record is none");
    }
}
