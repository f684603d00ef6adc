//! Bytes to raw records, each with the physical line on which it starts.
//!
//! Built on `csv-core`, the parser under the `csv` crate, rather than on `csv::Reader`, for
//! two things that the latter does not give: a bound on the size of one record (an unbalanced
//! quote would otherwise swallow the rest of the file into memory), and line numbers that are
//! right after blank lines, `\r\n`, lone `\r` and line breaks inside quotes.
//!
//! Memory is one read buffer and one record, whatever the file. Nothing here knows of columns,
//! encodings or rules.

use std::io::{self, Read};

use csv_core::ReadRecordResult;
use memchr::{memchr_iter, memchr2_iter};

/// How much is read at a time; the head from which the delimiter is guessed is one such read.
const READ_BYTES: usize = 128 * 1024;

/// The most bytes of one record. Ten times what seven fields of a customer could need with a
/// fat CRM export around them; beyond it a quote was left open.
pub(super) const RECORD_MAX_BYTES: usize = 1024 * 1024;

/// The most fields of one record: delimiters alone fill no buffer of bytes.
const RECORD_MAX_FIELDS: usize = 32 * 1024;

/// One record as it stands in the file, unquoted, not yet text.
pub(super) struct RawRecord<'a> {
    /// The physical line on which it starts, from 1.
    pub(super) line: u64,
    /// The fields.
    pub(super) fields: Fields<'a>,
    /// Why it cannot be what was meant: a quote was left open.
    pub(super) flaw: Option<Flaw>,
}

/// How an open quote shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The record was longer than [`RECORD_MAX_BYTES`] or had more than [`RECORD_MAX_FIELDS`], and was cut
    /// there; the field that was open then is not among its fields.
    Cut,
    /// It spans lines and has an odd number of quotes. The parser takes that as it comes, so that an open
    /// quote swallows the lines up to the next one, or to the end of the file, into one good record.
    Unbalanced,
}

/// The fields of a record: one buffer and where each ends.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    /// All fields, one after the other.
    pub(super) bytes: &'a [u8],
    ends: &'a [usize],
}

impl<'a> Fields<'a> {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bounds of field `index` in `bytes`.
    pub(super) fn range(&self, index: usize) -> Option<std::ops::Range<usize>> {
        let end = *self.ends.get(index)?;
        Some(if index == 0 { 0 } else { self.ends[index - 1] }..end)
    }
}

/// The reader.
pub(super) struct Records<R> {
    input: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    core: csv_core::Reader,
    out: Vec<u8>,
    ends: Vec<usize>,
    line: u64,
    after_cr: bool,
    /// In the record so far.
    quotes: u64,
    bytes: u64,
}

impl<R: Read> Records<R> {
    /// Reads the head; the delimiter is the given one or the likeliest in the first line.
    pub(super) fn new(input: R, delimiter: Option<u8>) -> io::Result<(Records<R>, u8)> {
        let mut records = Records {
            input,
            buffer: vec![0; READ_BYTES].into(),
            start: 0,
            end: 0,
            core: csv_core::Reader::new(),
            out: vec![0; 1024],
            ends: vec![0; 64],
            line: 1,
            after_cr: false,
            quotes: 0,
            bytes: 0,
        };
        records.fill_head()?;
        let delimiter =
            delimiter.unwrap_or_else(|| likely_delimiter(&records.buffer[records.start..records.end]).0);
        records.core = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        step_in(&mut records.core);
        Ok((records, delimiter))
    }

    /// Bytes of the input that are used up.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes - (self.end - self.start) as u64
    }

    /// The line at which reading stands.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The next record; blank lines are none.
    pub(super) fn next(&mut self) -> io::Result<Option<RawRecord<'_>>> {
        if !self.skip_blank_lines()? {
            return Ok(None);
        }
        let line = self.line;
        self.quotes = 0;
        let (mut out, mut ends) = (0, 0);
        let mut at_end;
        let cut = loop {
            at_end = self.start == self.end && !self.fill()?;
            let input = &self.buffer[self.start..self.end];
            let (result, used, wrote, ended) =
                self.core.read_record(input, &mut self.out[out..], &mut self.ends[ends..]);
            self.pass(used);
            (out, ends) = (out + wrote, ends + ended);
            match result {
                ReadRecordResult::InputEmpty if at_end => break false,
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if self.out.len() >= RECORD_MAX_BYTES => break true,
                ReadRecordResult::OutputFull => self.out.resize(self.out.len() * 2, 0),
                ReadRecordResult::OutputEndsFull if self.ends.len() >= RECORD_MAX_FIELDS => break true,
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => break false,
                ReadRecordResult::End => return Ok(None),
            }
        };
        // Its own line break is counted too, unless the file ends without one.
        let spans_lines = self.line - line > u64::from(!at_end);
        let flaw = match (cut, spans_lines && self.quotes % 2 == 1) {
            (true, _) => Some(Flaw::Cut),
            (false, true) => Some(Flaw::Unbalanced),
            (false, false) => None,
        };
        if cut {
            self.resume_on_next_line()?;
            // Half a field, perhaps up to half a character, is none.
            out = self.ends[..ends].last().copied().unwrap_or(0);
        }
        let fields = Fields { bytes: &self.out[..out], ends: &self.ends[..ends] };
        Ok(Some(RawRecord { line, fields, flaw }))
    }

    /// Reading goes on after the first line break behind the cut, as if no quote were open.
    fn resume_on_next_line(&mut self) -> io::Result<()> {
        self.core.reset();
        step_in(&mut self.core);
        while self.start < self.end || self.fill()? {
            match memchr::memchr2(b'\n', b'\r', &self.buffer[self.start..self.end]) {
                Some(at) => {
                    self.pass(at);
                    return Ok(());
                }
                None => self.pass(self.end - self.start),
            }
        }
        Ok(())
    }

    /// False at the end of the input.
    fn skip_blank_lines(&mut self) -> io::Result<bool> {
        loop {
            if self.start == self.end && !self.fill()? {
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
        self.quotes += memchr_iter(b'"', passed).count() as u64;
        if let Some(last) = passed.last() {
            self.after_cr = *last == b'\r';
        }
        self.start += used;
    }

    /// Reads until the first line is there, behind blank ones and with the breaks in its quotes: a pipe may
    /// give it in pieces. Steps over a byte order mark.
    fn fill_head(&mut self) -> io::Result<()> {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        let is_whole = |head: &[u8]| likely_delimiter(head.strip_prefix(MARK).unwrap_or(head)).1;
        while self.end < self.buffer.len() && !is_whole(&self.buffer[..self.end]) {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes = self.end as u64;
        if self.buffer[..self.end].starts_with(MARK) {
            self.start = MARK.len();
        }
        Ok(())
    }

    fn fill(&mut self) -> io::Result<bool> {
        loop {
            match self.input.read(&mut self.buffer) {
                Ok(count) => {
                    (self.start, self.end) = (0, count);
                    self.bytes += count as u64;
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A byte order mark is one at the very beginning only; csv-core would take one from any first bytes.
fn step_in(core: &mut csv_core::Reader) {
    core.read_record(b"\n", &mut [0], &mut [0]);
}

/// The candidate that stands most often in the first line outside quotes; a comma if none does. And whether
/// that line has an end.
fn likely_delimiter(head: &[u8]) -> (u8, bool) {
    const CANDIDATES: [u8; 4] = *b",;\t|";
    let mut counts = [0usize; CANDIDATES.len()];
    let (mut quoted, mut seen_any, mut ended) = (false, false, false);
    for byte in head {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted && seen_any => {
                ended = true;
                break;
            }
            _ if quoted => {}
            byte => {
                if let Some(at) = CANDIDATES.iter().position(|candidate| candidate == byte) {
                    counts[at] += 1;
                }
            }
        }
        seen_any |= !matches!(byte, b'\n' | b'\r');
    }
    let most = counts.iter().copied().max().unwrap_or(0);
    let likely = counts.iter().position(|count| *count == most && most > 0);
    (likely.map_or(b',', |at| CANDIDATES[at]), ended)
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

    fn read_all(input: impl Read) -> Vec<(u64, Vec<String>)> {
        let (mut records, _) = Records::new(input, Some(b',')).unwrap();
        let mut all = Vec::new();
        while let Some(record) = records.next().unwrap() {
            let fields = record.fields;
            let cell = |at| String::from_utf8(fields.bytes[fields.range(at).unwrap()].to_vec()).unwrap();
            all.push((record.line, (0..fields.len()).map(cell).collect()));
        }
        all
    }

    #[test]
    fn lines_are_physical_whatever_ends_them() {
        for (text, lines) in [
            ("a,b\n1,2\n3,4", vec![1, 2, 3]),
            ("a,b\r\n1,2\r\n\r\n\"x\ny\",3\r\n5,6\r\n", vec![1, 2, 4, 6]),
            ("a,b\r1,2\r\r3,4\r", vec![1, 2, 4]),
            ("\n\na,b\n\n\"1\r\n\r2\",2\n3,4\n", vec![3, 5, 8]),
            ("\u{feff}a,b\n\"\n\n\",2\n\n3,4", vec![1, 2, 6]),
        ] {
            let whole = read_all(text.as_bytes());
            assert_eq!(whole.iter().map(|(line, _)| *line).collect::<Vec<_>>(), lines, "{text:?}");
            assert_eq!(whole, read_all(Trickle(text.as_bytes())), "{text:?}");
        }
    }

    #[test]
    fn cells_are_unquoted() {
        let got = read_all("\u{feff}\"a\",b\n\"x,\"\"y\"\"\",\n".as_bytes());
        assert_eq!(got, [(1, vec!["a".into(), "b".into()]), (2, vec!["x,\"y\"".to_string(), String::new()])]);
    }

    #[test]
    fn an_open_quote_is_cut_and_reading_goes_on() {
        let mut text = String::from("a,b\n1,\"open\n");
        while text.len() < RECORD_MAX_BYTES + 4096 {
            text.push_str("swallowed line\n");
        }
        text.push_str("8,9\n");
        let (mut records, _) = Records::new(text.as_bytes(), None).unwrap();
        assert_eq!(records.next().unwrap().unwrap().flaw, None);
        let record = records.next().unwrap().unwrap();
        assert!(
            record.flaw == Some(Flaw::Cut)
                && record.line == 2
                && record.fields.bytes.len() <= RECORD_MAX_BYTES
        );
        let mut last = 0;
        while let Some(record) = records.next().unwrap() {
            last = record.line;
        }
        assert_eq!(last, text.lines().count() as u64);
    }

    #[test]
    fn a_quote_that_swallows_lines_is_seen() {
        for (text, flaws) in [
            ("a,b\n1,\"open\n2,x\n3,y\n", vec![None, Some(Flaw::Unbalanced)]),
            ("a,b\n1,\"open\n2,x\n3,\"closed\"\n4,z\n", vec![None, Some(Flaw::Unbalanced), None]),
            ("a,b\n1,\"two\nlines\"\n2,x\n", vec![None, None, None]),
            ("a,b\n1,\"two\nlines\"", vec![None, None]),
            ("a,b\n1,\"with \"\"quotes\"\"\nin it\"\n2,5\" wide\n3,x\n", vec![None; 4]),
            ("a,b\n1,5\" wide", vec![None, None]),
        ] {
            for pieces in [true, false] {
                let input: Box<dyn Read> =
                    if pieces { Box::new(Trickle(text.as_bytes())) } else { Box::new(text.as_bytes()) };
                let (mut records, _) = Records::new(input, Some(b',')).unwrap();
                let mut seen = Vec::new();
                while let Some(record) = records.next().unwrap() {
                    seen.push(record.flaw);
                }
                assert_eq!(seen, flaws, "{text:?}");
            }
        }
    }

    #[test]
    fn the_delimiter_is_found_in_the_first_line() {
        for (head, delimiter) in [
            ("a,b,c\n1;2;3;4;5", b','),
            ("a;b\n", b';'),
            ("\n\na\tb\n", b'\t'),
            ("a|b|c", b'|'),
            ("\"a,b,c\";d\n", b';'),
            ("alone\n1,2", b','),
            ("", b','),
        ] {
            assert_eq!(likely_delimiter(head.as_bytes()).0, delimiter, "{head:?}");
        }
    }
}
