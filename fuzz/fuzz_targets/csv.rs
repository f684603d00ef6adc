//! Compares the CSV reader with the `csv` crate, and with a slow reference implementation that also tracks lines.
//!
//! An input is two bytes that select how to read, and a file. Whatever the file contains, read whole and in small
//! pieces: every record has the cells and the line of the reference implementation and becomes the row that header
//! and rules require, and up to the first record with malformed quotes the cells equal those of the `csv` crate.
//!
//! The first byte: its lowest three bits select the delimiter (0 and 1: detected), 8 prepends a header with all
//! columns, 16 selects lenient rules, 32 requires columns that are otherwise constants, 64 lets the bytes 0x01 and
//! 0x02 stand for half of the longest field, so that fields and records can be cut: about a dozen times per file, and
//! only with a high second byte, because it takes long. 128 reads the same text again in UTF-16. The second byte is
//! the seed of the pieces.

#![no_main]

use std::io::{self, Cursor, Read};

use customer_import::{
    customer::{
        Cells, CorrectedOutcome, Correction, Customer, Fault, Faults, Field, Row, Rule, Rules, Validation,
        counted,
    },
    source::{EXPORT_COLUMNS, Error, HeadingMatch, ReadOptions, Source, SourceOptions, named_field},
};
use libfuzzer_sys::fuzz_target;

/// Bounds that the reader promises for one record; repeated here, so that changing them is noticed.
const FIELD_MAX_BYTES: usize = 64 * 1024;
const RECORD_MAX_BYTES: usize = 1024 * 1024;

/// How many bytes are inspected for the delimiter, and how many rows if the header does not decide.
const HEAD_BYTES: usize = 128 * 1024;
const HEAD_ROWS: usize = 10;

/// The maximum number of fields of a record.
const MOST_FIELDS: usize = 64 * 1024;

/// The number of bytes that a byte 0x01 or 0x02 stands for if the first byte says so, and how often: enough for a
/// record.
const HALF: usize = FIELD_MAX_BYTES / 2;
const HALVES: usize = RECORD_MAX_BYTES / HALF + 2;

const MARK: &[u8] = b"\xef\xbb\xbf";

const HEADER: &[u8] = b"object_reference_id,mobile_number,email_address,first_name,last_name,\
    mobile_country_code,options.get_client_auth_token,notes,\
    _line,_outcome,_field,_error_code,_error_message,_http_status,_attempts\n";

fuzz_target!(|input: &[u8]| {
    if let [mode, seed, file @ ..] = input {
        check(*mode, *seed, file);
    }
});

fn check(mode: u8, seed: u8, file: &[u8]) {
    let (file, options) = (spread(mode, seed, file), options(mode));
    if is_other_format(&file) {
        // Checks only that it ends: with an error, or with text that nobody wrote by hand.
        drop(read(Box::new(Cursor::new(file)), &options));
        return;
    }
    let whole = read(Box::new(Cursor::new(file.clone())), &options);
    let pieces = read(Box::new(Pieces::new(file.clone(), seed)), &options);
    let text = file.strip_prefix(MARK).unwrap_or(&file);
    let dialect = dialect(text, options.delimiter);
    let records = split(text, dialect.0);
    // The crate strips one byte order mark. It treats any other as text.
    if !text.windows(MARK.len()).any(|bytes| bytes == MARK) {
        agrees_with_csv(&[MARK, text].concat(), dialect.0, &records);
    }
    for got in [whole, pieces] {
        compare(got, dialect, &records, &options);
    }
    if let (true, Ok(text)) = (mode & 128 != 0, std::str::from_utf8(text)) {
        let units = "\u{feff}".encode_utf16().chain(text.encode_utf16());
        let utf16 = units.flat_map(u16::to_le_bytes).collect();
        compare(read(Box::new(Pieces::new(utf16, seed)), &options), dialect, &records, &options);
    }
}

/// Whether the file is decompressed, decoded or refused before it is parsed.
fn is_other_format(file: &[u8]) -> bool {
    let begins = [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"\xfd7zXZ\0"];
    begins.iter().any(|begin| file.starts_with(begin))
        || file.len() > 3 && file[0] & 0xf0 == 0x50 && file[1..4] == *b"\x2a\x4d\x18"
        || file.starts_with(b"BZh")
        || file.starts_with(b"\xff\xfe")
        || file.starts_with(b"\xfe\xff")
}

/// The file that an input stands for.
fn spread(mode: u8, seed: u8, file: &[u8]) -> Vec<u8> {
    let mut spread = Vec::new();
    if mode & 8 != 0 {
        let (mark, given) = (file.starts_with(MARK), delimiter_of(mode).unwrap_or(b','));
        spread.extend_from_slice(if mark { MARK } else { b"" });
        spread.extend(HEADER.iter().map(|byte| if *byte == b',' { given } else { *byte }));
        spread.extend_from_slice(if mark { &file[MARK.len()..] } else { file });
    } else {
        spread.extend_from_slice(file);
    }
    let fillers = spread.iter().filter(|byte| matches!(byte, 1 | 2)).count();
    let mut left = if mode & 64 != 0 && seed >= 0xf0 && fillers >= 2 { HALVES } else { 0 };
    let mut out = Vec::with_capacity(spread.len());
    for byte in spread {
        let filler = match byte {
            1 if left > 0 => "xx",
            2 if left > 0 => "é",
            _ => {
                out.push(byte);
                continue;
            }
        };
        left -= 1;
        out.extend_from_slice(filler.repeat(HALF / 2).as_bytes());
    }
    out
}

fn delimiter_of(mode: u8) -> Option<u8> {
    [None, None, Some(b','), Some(b';'), Some(b'\t'), Some(b'|'), Some(b' '), Some(b'a')]
        [usize::from(mode & 7)]
}

fn options(mode: u8) -> SourceOptions {
    let constant = |field, value: &str| (field, value.to_owned());
    let strict = mode & 32 != 0;
    let rules = Rules {
        validation: Some(if mode & 16 != 0 { Validation::Lenient } else { Validation::Documented }),
        require: if strict { vec![Field::EmailAddress] } else { Vec::new() },
        constants: if strict {
            vec![constant(Field::MobileCountryCode, "91")]
        } else {
            vec![constant(Field::Reference, "customer-0001"), constant(Field::MobileNumber, "9988776655")]
        },
        ..Rules::default()
    };
    let read = ReadOptions { rules, ..ReadOptions::default() };
    SourceOptions { delimiter: delimiter_of(mode), read, ..SourceOptions::default() }
}

/// Returns the bytes in pieces of every size up to the seed, and sometimes none, as after a signal.
struct Pieces {
    file: Cursor<Vec<u8>>,
    state: u32,
    most: usize,
}

impl Pieces {
    fn new(file: Vec<u8>, seed: u8) -> Pieces {
        let scale = file.len() / 8192 + 1;
        Pieces { file: Cursor::new(file), state: u32::from(seed) + 1, most: (usize::from(seed) + 1) * scale }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let draw = (self.state >> 8) as usize;
        if draw.is_multiple_of(13) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let size = (1 + draw % self.most).min(buffer.len());
        self.file.read(&mut buffer[..size])
    }
}

/// What a source yields, from its header to its last row.
struct Reading {
    delimiter: char,
    columns: Vec<String>,
    reference_column: Option<String>,
    rows: Vec<Row>,
}

fn read(input: Box<dyn Read + Send>, options: &SourceOptions) -> Result<Reading, Error> {
    let mut source = Source::from_reader("f.csv".into(), input, options)?;
    let mut rows = Vec::new();
    while let Some(row) = source.next_row()? {
        rows.push(row);
    }
    // After the end, every call returns the end.
    assert!(source.next_row()?.is_none());
    Ok(Reading {
        delimiter: source.delimiter(),
        columns: source.columns().to_vec(),
        reference_column: source.reference_column().map(str::to_owned),
        rows,
    })
}

/// A record as parsed by the reference implementation.
struct Slow {
    line: u64,
    /// The whole cells, however long.
    cells: Vec<Vec<u8>>,
    /// Whether text follows a closing quote, or a blank precedes an opening one.
    malformed: bool,
    /// Whether a quote is open at the end.
    open: bool,
    /// Whether the file ends without a line break after the record.
    last: bool,
    /// The physical lines, if a quote spans several, and whether each is quoted as a whole.
    lines: Vec<(Vec<u8>, bool)>,
}

impl Slow {
    /// Whether a line other than the first looks like a row.
    fn swallows(&self, is_row: impl Fn(&[u8]) -> bool) -> bool {
        let Some(((first, _), rest)) = self.lines.split_first() else { return false };
        let first = is_row(first);
        rest.iter().any(|(line, quoted)| (*quoted || first) && is_row(line))
    }

    fn is_drawn(&self, delimiter: u8) -> bool {
        let text = self.cells.join(&delimiter);
        let is_part = |byte: &u8| *byte == delimiter || b"-+=|: \t\r\n".contains(byte);
        let has = |run: &[u8]| text.windows(3).any(|window| window == run);
        text.iter().all(is_part) && (has(b"---") || has(b"==="))
    }

    /// Whether it is one cell of blanks.
    fn is_blank(&self) -> bool {
        let [cell] = &*self.cells else { return false };
        cell.len() <= RECORD_MAX_BYTES && std::str::from_utf8(cell).is_ok_and(|text| text.trim().is_empty())
    }

    /// Whether it is a line between the rows. `header` is trimmed.
    fn is_no_row(&self, header: &[&str], delimiter: u8) -> bool {
        if self.malformed || self.open || self.cells.len() > MOST_FIELDS {
            return false;
        }
        let Some(cells) = texts(&self.cells) else { return false };
        if cells.iter().all(|cell| cell.trim().is_empty()) || self.is_drawn(delimiter) {
            return true;
        }
        let is_alone = cells.len() == 1 && header.len() > 1;
        let joined = cells.join(&char::from(delimiter).to_string());
        self.repeats(header)
            || is_alone && is_footer(cells[0].trim())
            || (is_alone || cells.len() == 2)
                && is_count(joined.trim_matches(|c: char| c.is_ascii_whitespace()))
    }

    /// Whether it repeats the header exactly.
    fn repeats(&self, header: &[&str]) -> bool {
        let Some(cells) = texts(&self.cells) else { return false };
        let trimmed =
            |at: usize| cells.get(at).map_or("", |cell| cell.trim_matches(|c: char| c.is_ascii_whitespace()));
        let first = trimmed(0);
        let first = first.strip_prefix('\u{feff}').unwrap_or(first);
        first == header[0]
            && (1..cells.len().max(header.len()))
                .all(|at| header.get(at).copied().unwrap_or("") == trimmed(at))
    }

    /// Whether it is a header, as headings are compared: the first one again, or another one.
    fn header(&self, header: &[&str], columns: &ColumnIndices) -> Option<SlowHeader> {
        let cells = |cell: &Vec<u8>| String::from_utf8_lossy(cell).trim_ascii().to_owned();
        let mandatory: Vec<usize> = Field::ALL
            .iter()
            .filter(|field| field.is_mandatory())
            .filter_map(|field| columns.by_field[*field as usize])
            .collect();
        let names: Vec<String> = self.cells.iter().map(cells).collect();
        let digits = |text: &str| text.chars().filter(char::is_ascii_digit).count();
        let most = mandatory.iter().map(|at| digits(header[*at])).max().unwrap_or(0);
        let has_value = |at: &usize| names.get(*at).is_some_and(|name| digits(name) > most);
        if self.malformed || self.open || mandatory.iter().any(has_value) {
            return None;
        }
        let text = |cell: &Vec<u8>| plain(std::str::from_utf8(cell.trim_ascii()).unwrap_or_default());
        let names: Vec<String> = self.cells.iter().map(text).collect();
        let of = |names: &[String], at: usize| names.get(at).cloned().unwrap_or_default();
        let known: Vec<String> = header.iter().map(|name| plain(name)).collect();
        if (0..names.len().max(known.len())).all(|at| of(&names, at) == of(&known, at)) {
            return Some(SlowHeader::Again);
        }
        let given: Vec<&String> = names.iter().filter(|name| !name.is_empty()).collect();
        let has_all = mandatory.iter().all(|at| names.contains(&known[*at]));
        let is_named = |field: &Field| {
            given.iter().any(|name| {
                named_field(name).is_some_and(|(of, how)| of == *field && how != HeadingMatch::Words)
            })
        };
        let names_all = is_named(&Field::Reference) && is_named(&Field::MobileNumber);
        let are_known = given.iter().all(|name| known.contains(name));
        let is_other = mandatory.len() > 1 && (has_all || names_all) || are_known;
        let differ = given.iter().any(|name| *name != given[0]);
        (is_other && differ).then_some(SlowHeader::Other)
    }
}

#[derive(PartialEq)]
enum SlowHeader {
    Again,
    Other,
}

/// A name in the form for comparison.
fn plain(name: &str) -> String {
    let is_kept = |c: &char| {
        let is_invisible = matches!(*c as u32, 0xad | 0x200b..=0x200f | 0x2060 | 0xfeff);
        !c.is_whitespace() && !matches!(c, '_' | '-' | '.') && !is_invisible
    };
    let kept: String = name.trim_end_matches([':', '*', ' ']).chars().filter(is_kept).collect();
    kept.to_uppercase().chars().flat_map(char::to_lowercase).collect()
}

/// The number of digits at the beginning, and the text after them.
fn behind_digits(text: &str) -> (usize, &str) {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    (text.len() - rest.len(), rest)
}

/// `3 rows in set, 1 warning`.
fn is_count(text: &str) -> bool {
    let (digits, rest) = behind_digits(text);
    let set = [" row in set", " rows in set"].iter().find_map(|words| rest.strip_prefix(words));
    digits > 0 && set.is_some_and(|end| end.is_empty() || end.starts_with(',') || end.starts_with(" ("))
}

/// `(3 rows)` and similar lines.
fn is_footer(text: &str) -> bool {
    if text == "\\." || text == "\u{1a}" {
        return true;
    }
    for name in ["Time: ", "Elapsed: ", "Completion time: "] {
        if text.strip_prefix(name).is_some_and(|rest| behind_digits(rest).0 > 0) {
            return true;
        }
    }
    let is_closed = text.starts_with('(') && text.ends_with(')');
    let inside = text.strip_prefix('(').unwrap_or(text);
    let inside = if is_closed { &inside[..inside.len() - 1] } else { inside };
    let (digits, rest) = behind_digits(inside);
    let Some(words) = rest.strip_prefix(' ').filter(|_| digits > 0) else { return false };
    if is_closed && words.chars().all(char::is_alphabetic) {
        return true;
    }
    for noun in ["row", "rows", "row(s)", "record", "records", "record(s)"] {
        if is_closed && words == noun {
            return true;
        }
        for verb in ["affected", "selected", "returned", "fetched", "unloaded", "exported"] {
            let words = words.split_once(" (").map_or(words, |(words, _)| words);
            if words == format!("{noun} {verb}") || words == format!("{noun} {verb}.") {
                return true;
            }
        }
    }
    false
}

/// Whether the header or the rows end with one more delimiter.
#[derive(Clone, Copy, PartialEq)]
enum More {
    None,
    Header,
    Rows,
}

/// The candidate with which most of the first rows are as wide as the header, and the header is widest.
fn dialect(text: &[u8], given: Option<u8>) -> (u8, More) {
    let head = &text[..text.len().min(HEAD_BYTES)];
    let is_cut = head.len() == HEAD_BYTES;
    let candidates = given.map_or_else(|| b",;\t|".to_vec(), |given| vec![given]);
    let mut best: Option<((usize, usize), u8, More)> = None;
    for delimiter in candidates {
        let mut records = split(head, delimiter);
        records.retain(|record| !record.is_drawn(delimiter));
        if is_cut && records.len() > 1 && records.last().is_some_and(|record| record.last) {
            records.pop();
        }
        let Some((header, rows)) = records.split_first() else {
            best = best.or(Some(((0, 0), delimiter, More::None)));
            continue;
        };
        let rows = &rows[..rows.len().min(HEAD_ROWS)];
        let width = header.cells.len().max(1);
        let ends_empty = |record: &Slow| record.cells.last().is_none_or(|cell| cell.trim_ascii().is_empty());
        let kind = |row: &Slow| match row.cells.len() {
            same if same == width => Some(More::None),
            more if more == width + 1 && ends_empty(row) => Some(More::Rows),
            less if less + 1 == width && ends_empty(header) => Some(More::Header),
            _ => None,
        };
        let kinds: Vec<Option<More>> = rows.iter().map(kind).collect();
        let fits = kinds.iter().flatten().count() * 1000 / kinds.len().max(1);
        let first = kinds.first().copied().flatten().unwrap_or(More::None);
        let more = if kinds.iter().all(|kind| *kind == Some(first)) { first } else { More::None };
        // A single column is no evidence of a delimiter.
        let score = if width > 1 { (fits + 1, width) } else { (0, 0) };
        if best.is_none_or(|(most, ..)| score > most) {
            best = Some((score, delimiter, more));
        }
    }
    best.map_or((given.unwrap_or(b','), More::None), |(_, delimiter, more)| (delimiter, more))
}

fn is_break(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// Parses byte by byte, with an explicit state.
fn split(file: &[u8], delimiter: u8) -> Vec<Slow> {
    enum At {
        /// Only blanks so far.
        Start,
        Plain,
        Quoted,
        /// After a quote inside quotes: it closes the cell, or is the first half of a doubled quote.
        Quote,
    }
    let (mut at, mut line, mut counted) = (0, 1, 0);
    let mut records = Vec::new();
    loop {
        // A byte order mark at the start of a line is skipped, too.
        loop {
            match &file[at..] {
                [byte, ..] if is_break(*byte) => at += 1,
                rest if rest.starts_with(MARK) => at += MARK.len(),
                _ => break,
            }
        }
        if at == file.len() {
            return records;
        }
        // A line break is never split here: the next byte is not one.
        line += breaks(&file[counted..at]);
        counted = at;
        let (mut state, mut cells, mut cell) = (At::Start, Vec::new(), Vec::new());
        let (mut malformed, mut quotes, mut astray) = (false, 0, false);
        let (mut lines, mut begin, mut pure) = (Vec::new(), at, false);
        while let Some(&byte) = file.get(at) {
            if let At::Quote = state {
                if byte == b'"' {
                    cell.push(byte);
                    state = At::Quoted;
                    at += 1;
                    continue;
                }
                pure = false;
                if byte == delimiter || is_break(byte) {
                    state = At::Plain;
                } else {
                    (malformed, astray, quotes) = (true, true, quotes + 1);
                    cell.push(b'"');
                    state = At::Quoted;
                }
            }
            match state {
                At::Quoted if byte == b'"' => state = At::Quote,
                At::Quoted if is_break(byte) && astray && quotes % 2 == 0 => break,
                At::Quoted => {
                    cell.push(byte);
                    if is_break(byte) {
                        lines.push((file[begin..at].to_vec(), pure));
                        (begin, pure) = (at + 1, true);
                    }
                }
                _ if byte == delimiter => {
                    cells.push(std::mem::take(&mut cell));
                    state = At::Start;
                }
                _ if is_break(byte) => break,
                At::Start if byte == b'"' => {
                    malformed |= !cell.is_empty();
                    (state, quotes, astray, pure) = (At::Quoted, 1, false, false);
                }
                At::Start if matches!(byte, b' ' | b'\t') => cell.push(byte),
                _ => {
                    cell.push(byte);
                    state = At::Plain;
                }
            }
            at += 1;
        }
        let is_quote_open = matches!(state, At::Quoted) && at == file.len();
        let open = is_quote_open && !(astray && quotes % 2 == 0);
        pure &= !matches!(state, At::Quote);
        cells.push(cell);
        if !lines.is_empty() {
            lines.push((file[begin..at].to_vec(), pure));
        }
        records.push(Slow { line, cells, malformed, open, last: at == file.len(), lines });
    }
}

/// `\n`, `\r` and `\r\n` are one each.
fn breaks(text: &[u8]) -> u64 {
    let ends = (0..text.len()).filter(|at| match text[*at] {
        b'\n' => true,
        b'\r' => text.get(at + 1) != Some(&b'\n'),
        _ => false,
    });
    ends.count() as u64
}

/// Compares up to the first malformed record, which the crate interprets in its own way.
fn agrees_with_csv(file: &[u8], delimiter: u8, records: &[Slow]) {
    let mut reader =
        csv::ReaderBuilder::new().flexible(true).has_headers(false).delimiter(delimiter).from_reader(file);
    let mut theirs = csv::ByteRecord::new();
    for record in records {
        assert!(reader.read_byte_record(&mut theirs).expect("a slice can be read"), "a record of nobody");
        if record.malformed || record.open {
            return;
        }
        assert!(theirs.iter().eq(record.cells.iter()), "{theirs:?} is not {:?}", record.cells);
    }
    assert!(!reader.read_byte_record(&mut theirs).expect("a slice can be read"), "a record is missing");
}

fn compare(
    got: Result<Reading, Error>,
    (delimiter, more): (u8, More),
    records: &[Slow],
    options: &SourceOptions,
) {
    if let Err(Error::Foreign { hint, .. }) = got {
        assert!(!hint.is_empty());
        return;
    }
    let goes_before = |record: &Slow| record.is_drawn(delimiter) || record.is_blank();
    let begin = records.iter().position(|record| record.malformed || record.open || !goes_before(record));
    let Some((header, records)) = begin.and_then(|begin| records[begin..].split_first()) else {
        assert!(matches!(got, Err(Error::Empty(_))), "an empty file is none");
        return;
    };
    let length = header.cells.iter().map(|cell| cell.len() + 1).sum::<usize>() - 1;
    if header.malformed || header.open || length > RECORD_MAX_BYTES || header.cells.len() > MOST_FIELDS {
        assert!(got.is_err(), "a header that swallowed rows is no header");
        return;
    }
    let Some(header) = texts(&header.cells) else {
        assert!(matches!(got, Err(Error::HeaderEncoding { .. })), "a header that is not text");
        return;
    };
    let mut header: Vec<&str> = header.into_iter().map(str::trim).collect();
    if more == More::Header {
        header.pop();
    }
    let own = header.iter().filter(|name| name.starts_with('_')).count();
    if let Err(Error::IncompleteExport { missing, .. }) = &got {
        assert!(own >= 4 && !missing.is_empty() && missing.iter().all(|name| !header.contains(name)));
        return;
    }
    let kept = EXPORT_COLUMNS.iter().filter(|name| header.contains(name)).count();
    let is_export = ["_line", "_outcome", "_error_code"].iter().all(|name| header.contains(name));
    assert!(kept < 4 || is_export || got.is_err(), "an export without the columns by which it is recognized");
    let columns = match ColumnIndices::find(&header, options) {
        Ok(columns) => columns,
        Err(NotFound { missing, ambiguous }) => {
            let Err(error) = got else { panic!("no column, or two: {missing:?}, {ambiguous:?}") };
            assert!(!error.to_string().is_empty() && !error.hint().is_empty());
            match error {
                Error::MissingColumns { missing: got, .. } => {
                    assert!(ambiguous.is_none(), "{ambiguous:?} has two columns");
                    assert!(got.iter().map(|missing| missing.field).eq(missing), "{got:?}");
                }
                Error::AmbiguousColumn { field, .. } => assert_eq!(Some(field), ambiguous),
                other => panic!("{other}"),
            }
            return;
        }
    };
    let separators = ['\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    if header.iter().any(|name| name.contains(separators)) {
        assert!(matches!(got, Err(Error::LineSeparator { .. })), "rows may stand in the header");
        return;
    }
    let got = match got {
        Ok(got) => got,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(got.delimiter, char::from(delimiter));
    assert!(got.columns.iter().eq(columns.kept.iter().map(|at| header[*at])), "{:?}", got.columns);
    let reference = columns.by_field[Field::Reference as usize].filter(|at| columns.kept.contains(at));
    assert_eq!(got.reference_column.as_deref(), reference.map(|at| header[at]));
    // The rows, and whether one follows a header with other columns.
    let (mut rows, mut is_behind_another) = (Vec::new(), false);
    for record in records {
        let again = record.header(&header, &columns);
        if record.is_no_row(&header, delimiter) {
            is_behind_another &= again != Some(SlowHeader::Again) && !record.repeats(&header);
            continue;
        }
        match again {
            Some(SlowHeader::Again) => {
                is_behind_another = false;
                continue;
            }
            Some(SlowHeader::Other) => is_behind_another = true,
            None => {}
        }
        rows.push((record, is_behind_another));
    }
    assert_eq!(got.rows.len(), rows.len(), "records are lost or made up");
    let file = File { delimiter, columns: &columns, trails: more == More::Rows, options };
    for (row, (record, is_behind_another)) in got.rows.iter().zip(rows) {
        assert_eq!(row.line, record.line);
        compare_row(row, record, &file, is_behind_another);
    }
}

/// The properties of a file when a row of it is read.
struct File<'a> {
    delimiter: u8,
    columns: &'a ColumnIndices,
    trails: bool,
    options: &'a SourceOptions,
}

impl File<'_> {
    fn is_required(&self, field: Field) -> bool {
        field.is_mandatory() || self.options.read.rules.require.contains(&field)
    }

    /// Whether a line inside a quote looks like a row.
    fn is_row(&self, line: &[u8]) -> bool {
        let ColumnIndices { width, by_field, .. } = self.columns;
        let cells: Vec<Vec<u8>> = line.split(|byte| *byte == self.delimiter).map(<[u8]>::to_vec).collect();
        let Some(cells) = texts(&cells) else { return false };
        if line.is_empty() || line.len() > FIELD_MAX_BYTES || cells.len() != width + usize::from(self.trails)
        {
            return false;
        }
        let cells: Cells<'_> = by_field.map(|place| place.map(|at| cells[at].trim_matches('"')));
        Field::ALL.iter().any(|field| {
            self.is_required(*field) && cells[*field as usize].is_some_and(|cell| !cell.trim().is_empty())
        }) && self.options.read.rules.read(&cells).err().is_none_or(|faults| {
            !faults.list.iter().filter_map(|fault| fault.field).any(|field| self.is_required(field))
        })
    }

    /// The cells as they are stored, and whether one that is read is too long.
    fn keep(&self, cells: &[Vec<u8>]) -> (Vec<Vec<u8>>, bool) {
        let ColumnIndices { by_field, correction, field, message, .. } = self.columns;
        let read: Vec<usize> = by_field
            .iter()
            .flatten()
            .chain(correction.iter().flatten())
            .chain(field)
            .chain(message)
            .copied()
            .collect();
        let (mut kept, mut used, mut long) = (Vec::new(), 0, false);
        for (at, cell) in cells.iter().enumerate() {
            let is_read = read.contains(&at);
            let room = if is_read { FIELD_MAX_BYTES } else { RECORD_MAX_BYTES.saturating_sub(used) };
            let mut cell = cell.clone();
            if cell.len() > room {
                long |= is_read;
                let length = cell.len();
                cell.truncate(room);
                while cell.last().is_some_and(|byte| matches!(byte, 0x80..=0xbf)) {
                    cell.pop();
                }
                if cell.last().is_some_and(|byte| *byte >= 0x80) {
                    cell.pop();
                }
                cell.extend_from_slice(format!("… [cut: {length} bytes]").as_bytes());
            }
            used += cell.len() + 1;
            kept.push(cell);
        }
        (kept, long)
    }

    /// The minimum number of cells of a row.
    fn least(&self) -> usize {
        let required = Field::ALL.into_iter().filter(|field| self.is_required(*field));
        let last = required.filter_map(|field| self.columns.by_field[field as usize]).max();
        if self.columns.is_export { self.columns.width } else { last.map_or(1, |last| last + 1) }
    }

    /// Whether the whole line is one cell.
    fn is_quoted(&self, cells: &[&str]) -> bool {
        let width = self.columns.width;
        let [only] = cells else { return false };
        let inside = only.split(char::from(self.delimiter)).count();
        width > 1
            && (inside == width || inside > width && only.contains('"'))
            && (width > 2 || self.least() > 1)
    }

    /// Whether the row has the width of the header, or is adjusted to it.
    fn fits(&self, cells: &[&str]) -> bool {
        let surplus = cells.iter().skip(self.columns.width);
        cells.len() >= self.least() && surplus.copied().all(|cell| cell.trim().is_empty())
    }
}

/// The header, mapped a second time.
struct ColumnIndices {
    width: usize,
    by_field: [Option<usize>; Field::COUNT],
    kept: Vec<usize>,
    correction: Option<[usize; 3]>,
    field: Option<usize>,
    message: Option<usize>,
    is_export: bool,
}

/// Why a line is not a header: the mandatory fields without a column, and the first field with two.
struct NotFound {
    missing: Vec<Field>,
    ambiguous: Option<Field>,
}

impl ColumnIndices {
    fn find(header: &[&str], options: &SourceOptions) -> Result<ColumnIndices, NotFound> {
        let all = |is: &dyn Fn(&str) -> bool| -> Vec<usize> {
            (0..header.len()).filter(|at| is(header[*at])).collect()
        };
        let mut by_field = [None; Field::COUNT];
        let mut not_found = NotFound { missing: Vec::new(), ambiguous: None };
        for field in Field::ALL {
            let mut found = all(&|name| name == field.name());
            if found.is_empty() {
                found = all(&|name| !name.starts_with('_') && plain(name) == plain(field.name()));
            }
            let constant = options.read.rules.constants.iter().any(|(of, _)| *of == field);
            let needed = field.is_mandatory() || options.read.rules.require.contains(&field);
            if found.len() > 1 {
                not_found.ambiguous.get_or_insert(field);
            }
            if found.is_empty() && needed && !constant {
                not_found.missing.push(field);
            }
            by_field[field as usize] = found.first().copied();
        }
        if not_found.ambiguous.is_some() || !not_found.missing.is_empty() {
            return Err(not_found);
        }
        let first = |name: &str| header.iter().position(|column| *column == name);
        let correction = || Some([first("_line")?, first("_outcome")?, first("_error_code")?]);
        Ok(ColumnIndices {
            width: header.len(),
            by_field,
            kept: all(&|name| !EXPORT_COLUMNS.contains(&name)),
            correction: correction(),
            field: first("_field"),
            message: first("_error_message"),
            is_export: header.iter().any(|name| EXPORT_COLUMNS.contains(name)),
        })
    }
}

fn texts(cells: &[Vec<u8>]) -> Option<Vec<&str>> {
    cells.iter().map(|cell| std::str::from_utf8(cell).ok()).collect()
}

fn compare_row(row: &Row, record: &Slow, file: &File<'_>, is_behind_another_header: bool) {
    let File { columns, options, .. } = file;
    let kept: Vec<&str> = row.record.cells().collect();
    harmless(&row.reading);
    let (whole, long) = file.keep(&record.cells);
    let Some(cells) = texts(&whole) else {
        let lossy = |at: &usize| whole.get(*at).map_or(&[][..], |cell| cell).to_vec();
        let lossy: Vec<Vec<u8>> = columns.kept.iter().map(lossy).collect();
        assert!(kept.iter().copied().eq(lossy.iter().map(|cell| String::from_utf8_lossy(cell))));
        let (at, cell) =
            whole.iter().enumerate().find(|(_, cell)| texts(&[cell.to_vec()]).is_none()).unwrap();
        let good = std::str::from_utf8(cell).unwrap_err().valid_up_to();
        let position = std::str::from_utf8(&cell[..good]).unwrap().chars().count() + 1;
        let seen =
            format!("byte 0x{:02X} at position {position} of column {} is not UTF-8", cell[good], at + 1);
        misread(row, Rule::Encoding, &seen);
        return;
    };
    let swallows = record.swallows(|line| file.is_row(line));
    if record.malformed || record.open || swallows || long {
        let (rule, words) = match (record.open, record.malformed, swallows) {
            (true, ..) => (Rule::Quotes, " is never closed"),
            (_, true, _) => (Rule::Quotes, "ing quote at position "),
            (.., true) => (Rule::Quotes, "swallowed "),
            _ => (Rule::TooLong, "where 64 KiB may be"),
        };
        misread(row, rule, words);
        let begins =
            |(kept, cell): (&&str, &&str)| cell.starts_with(*kept) && (kept == cell || kept.len() > 60);
        assert!(kept.len() == cells.len() && kept.iter().zip(&cells).all(begins), "{kept:?}");
        return;
    }
    if is_behind_another_header {
        misread(row, Rule::Header, "columns are not those of the first");
        assert_eq!(kept, cells);
        return;
    }
    if cells.iter().all(|cell| cell.len() < HALF) {
        exercise(&cells);
    }
    if file.is_quoted(&cells) {
        assert_eq!(kept, cells);
        misread(row, Rule::Fields, "the whole line is one quoted cell");
        return;
    }
    if !file.fits(&cells) {
        assert_eq!(kept, cells);
        misread(row, Rule::Fields, &format!("{} where the ", counted(cells.len(), "field")));
        return;
    }
    // Missing cells are empty.
    let mut cells = cells;
    cells.resize(cells.len().max(columns.width), "");
    assert!(kept.iter().copied().eq(columns.kept.iter().map(|at| cells[*at])));
    let by_field: Cells<'_> = columns.by_field.map(|column| column.map(|at| cells[at]));
    let mut expected = options.read.rules.read(&by_field);
    let has_control = |at: &&usize| {
        !columns.by_field.contains(&Some(**at))
            && cells[**at].chars().any(|c| c.is_control() && !matches!(c, '\t' | '\r' | '\n'))
    };
    if let Some(at) = columns.kept.iter().find(has_control) {
        let Err(faults) = &row.reading else { panic!("a control character passes") };
        let Fault { field: None, rule: Rule::Control, seen } = &faults.list[0] else { panic!("{faults:?}") };
        assert!(seen.ends_with(&format!(" of column {}", at + 1)), "{seen}");
        expected = match expected {
            Ok(customer) => Err(Faults { list: vec![], reference: Some(customer.reference.as_str().into()) }),
            wrong => wrong,
        };
        if let Err(expected) = &mut expected {
            expected.list.insert(0, faults.list[0].clone());
        }
    }
    same(&row.reading, &expected);
    let corrects = columns.correction.map(|at| at.map(|at| cells[at])).and_then(|[line, outcome, code]| {
        let code = code.trim().to_ascii_lowercase();
        let reference = match &row.reading {
            Ok(customer) => Some(customer.reference.as_str()),
            Err(faults) => faults.reference.as_deref(),
        };
        let repeats = columns.message.and_then(|at| Correction::repeats(cells[at], reference));
        let outcome =
            CorrectedOutcome::read(outcome, &code).or(repeats.and(Some(CorrectedOutcome::Duplicate)))?;
        let field = columns.field.map_or("", |at| cells[at]).trim().to_ascii_lowercase();
        let reference_was_read = Correction::reference_was_read(&field, &code);
        Some(Box::new(Correction { line: line_of_cell(line), outcome, code, repeats, reference_was_read }))
    });
    assert_eq!(row.corrects, corrects);
}

/// A whole number, possibly with commas and a decimal part of zeros; else 0.
fn line_of_cell(cell: &str) -> u64 {
    let (whole, decimals) = cell.trim().split_once('.').unwrap_or((cell.trim(), ""));
    let is_whole = decimals.chars().all(|digit| digit == '0');
    if is_whole { whole.replace(',', "").parse().unwrap_or(0) } else { 0 }
}

fn misread(row: &Row, rule: Rule, words: &str) {
    let Err(faults) = &row.reading else { panic!("line {} is no customer", row.line) };
    let [Fault { field: None, rule: got, seen }] = faults.list.as_slice() else { panic!("{faults:?}") };
    assert_eq!(*got, rule, "{seen}");
    assert!(!seen.is_empty() && seen.contains(words), "{seen:?}: no {words:?}");
    assert!(faults.reference.is_none() && row.corrects.is_none());
}

/// Validates arbitrary cells, for any field, under both kinds of rules.
fn exercise(cells: &[&str]) {
    for shift in 0..Field::COUNT.min(cells.len()) {
        let by_field: Cells<'_> = std::array::from_fn(|at| cells.get((at + shift) % Field::COUNT).copied());
        let read = |validation| Rules { validation: Some(validation), ..Rules::default() }.read(&by_field);
        let (documented, lenient) = (read(Validation::Documented), read(Validation::Lenient));
        harmless(&documented);
        harmless(&lenient);
        // A row that is valid under the documented rules is valid under the lenient ones.
        if let Ok(customer) = &documented {
            assert!(customer.body.is_ascii());
            same(&documented, &lenient);
        }
    }
}

/// Checks what is sent in requests, stored in ledgers and printed on terminals.
fn harmless(reading: &Result<Customer, Faults>) {
    match reading {
        Ok(customer) => {
            let reference = customer.reference.as_str();
            assert!(
                reference.chars().count() >= 8 && reference.len() <= 2048 && reference.trim() == reference
            );
            assert!(!reference.chars().any(char::is_control));
            assert!(customer.body.starts_with(b"object_reference_id="));
            assert!(customer.body.iter().all(u8::is_ascii_graphic), "{:?}", customer.body);
        }
        Err(faults) => {
            assert!(!faults.list.is_empty());
            assert!(faults.list.is_sorted_by_key(|fault| fault.field));
            for Fault { seen, .. } in &faults.list {
                assert!(seen.len() < 150 && !seen.chars().any(char::is_control), "{seen:?}");
            }
        }
    }
}

fn same(got: &Result<Customer, Faults>, expected: &Result<Customer, Faults>) {
    match (got, expected) {
        (Ok(got), Ok(expected)) => {
            let parts = |of: &Customer| (of.reference.clone(), of.body.clone(), of.fingerprint);
            assert!(parts(got) == parts(expected));
        }
        (Err(got), Err(expected)) => assert_eq!(got, expected),
        _ => panic!("a customer for one, none for the other"),
    }
}
