//! The reader of CSV against the `csv` crate, and against a slow reference that knows lines too.
//!
//! An input is two bytes that say how to read and a file. Whatever is in the file, read whole and
//! in small pieces: every record has the cells and the line that the reference says, becomes the
//! row that the header and the rules make of it, and the reference has the cells of the `csv` crate.
//!
//! The first byte: its lowest three bits choose the delimiter (0 and 1: found), 8 puts a header with
//! all columns in front, 16 is lenient, 32 demands columns that are constants otherwise, 64 lets the
//! bytes 0x01 and 0x02 stand for half a mebibyte of text, so that records can be cut: twice a file, and only
//! with a high second byte, because it takes long. The second byte is the seed of the pieces.

#![no_main]

use std::io::{self, Cursor, Read};

use customer_import::{
    customer::{Cells, Correction, Customer, Fault, Faults, Field, Row, Rule, Rules, Validation},
    source::{EXPORT_COLUMNS, Error, Options, Source},
};
use libfuzzer_sys::fuzz_target;

/// What the reader promises of one record; said again here, so that a change of it is seen.
const RECORD_MAX_BYTES: usize = 1024 * 1024;

/// How much of the first line is looked at for the delimiter.
const HEAD_BYTES: usize = 128 * 1024;

/// How much a byte 0x01 or 0x02 stands for, where the first byte says so.
const HALF: usize = RECORD_MAX_BYTES / 2;

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
    let whole = read(Box::new(Cursor::new(file.clone())), &options);
    let pieces = read(Box::new(Pieces::new(file.clone(), seed)), &options);
    let delimiter = options.delimiter.unwrap_or_else(|| likely_delimiter(&file));
    let records = split(&file, delimiter);
    agrees_with_csv(&file, delimiter, &records);
    for got in [whole, pieces] {
        compare(got, delimiter, &records, &options);
    }
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
    let mut left = if mode & 64 != 0 && seed >= 0xf0 && fillers >= 2 { 2 } else { 0 };
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

fn options(mode: u8) -> Options {
    let constant = |field, value: &str| (field, value.to_owned());
    let strict = mode & 32 != 0;
    let rules = Rules {
        validation: if mode & 16 != 0 { Validation::Lenient } else { Validation::Documented },
        require: if strict { vec![Field::EmailAddress] } else { Vec::new() },
        constants: if strict {
            vec![constant(Field::MobileCountryCode, "91")]
        } else {
            vec![constant(Field::Reference, "customer-0001"), constant(Field::MobileNumber, "9988776655")]
        },
        ..Rules::default()
    };
    Options { delimiter: delimiter_of(mode), rules, ..Options::default() }
}

/// Bytes in pieces of every size up to the seed, now and then none because of a signal.
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

/// What a source said, from its header to its last row.
struct Reading {
    delimiter: char,
    columns: Vec<String>,
    reference_column: Option<String>,
    rows: Vec<Row>,
}

fn read(input: Box<dyn Read + Send>, options: &Options) -> Result<Reading, Error> {
    let mut source = Source::from_reader("f.csv".into(), input, options)?;
    let mut rows = Vec::new();
    while let Some(row) = source.next_row()? {
        rows.push(row);
    }
    // The end stays the end.
    assert!(source.next_row()?.is_none());
    Ok(Reading {
        delimiter: source.delimiter(),
        columns: source.columns().to_vec(),
        reference_column: source.reference_column().map(str::to_owned),
        rows,
    })
}

/// A record as the reference sees it.
struct Slow {
    line: u64,
    cells: Vec<Vec<u8>>,
    /// What came behind the last whole cell before the record was cut.
    cut: Option<Vec<u8>>,
    /// Whether it spans lines and has an odd number of quotes.
    open: bool,
}

/// The delimiter that stands most often outside quotes in the first line that is not blank.
fn likely_delimiter(file: &[u8]) -> u8 {
    let head = &file[..file.len().min(HEAD_BYTES)];
    let head = head.strip_prefix(MARK).unwrap_or(head);
    let begin = head.iter().position(|byte| !is_break(*byte)).unwrap_or(head.len());
    let mut line = Vec::new();
    for (part, text) in head[begin..].split(|byte| *byte == b'"').enumerate() {
        // Every second part stands in quotes.
        if part % 2 == 0 {
            let end = text.iter().position(|byte| is_break(*byte));
            line.extend_from_slice(&text[..end.unwrap_or(text.len())]);
            if end.is_some() {
                break;
            }
        }
    }
    let count = |wanted: u8| line.iter().filter(|byte| **byte == wanted).count();
    let mut best = b',';
    for candidate in *b";\t|" {
        if count(candidate) > count(best) {
            best = candidate;
        }
    }
    best
}

fn is_break(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// One byte after the other, with a word for where it stands.
fn split(file: &[u8], delimiter: u8) -> Vec<Slow> {
    enum At {
        Start,
        Plain,
        Quoted,
        /// Behind a quote inside quotes: the end of them, or one half of a quote that is meant.
        Quote,
    }
    let file = file.strip_prefix(MARK).unwrap_or(file);
    let (mut at, mut line, mut counted) = (0, 1, 0);
    let mut records = Vec::new();
    loop {
        while file.get(at).is_some_and(|byte| is_break(*byte)) {
            at += 1;
        }
        if at == file.len() {
            return records;
        }
        // No break is cut in two here: what follows is none.
        line += breaks(&file[counted..at]);
        counted = at;
        let (mut state, mut cells, mut cell, mut bytes, mut cut) =
            (At::Start, Vec::new(), Vec::new(), 0, false);
        while let Some(byte) = file.get(at) {
            if bytes == RECORD_MAX_BYTES {
                cut = true;
                break;
            }
            let mut keep = |next| {
                cell.push(*byte);
                bytes += 1;
                next
            };
            state = match (state, *byte) {
                (At::Quoted, b'"') => At::Quote,
                (At::Quoted, _) => keep(At::Quoted),
                (At::Start, b'"') => At::Quoted,
                (At::Quote, b'"') => keep(At::Quoted),
                (_, byte) if byte == delimiter => {
                    cells.push(std::mem::take(&mut cell));
                    At::Start
                }
                (_, b'\n' | b'\r') => break,
                _ => keep(At::Plain),
            };
            at += 1;
        }
        if cut {
            while file.get(at).is_some_and(|byte| !is_break(*byte)) {
                at += 1;
            }
            records.push(Slow { line, cells, cut: Some(cell), open: false });
        } else {
            cells.push(cell);
            let text = &file[counted..at];
            let quotes = text.iter().filter(|byte| **byte == b'"').count();
            records.push(Slow { line, cells, cut: None, open: quotes % 2 == 1 && breaks(text) > 0 });
        }
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

/// Up to the first record that is cut: there the crate has no bound.
fn agrees_with_csv(file: &[u8], delimiter: u8, records: &[Slow]) {
    let mut reader =
        csv::ReaderBuilder::new().flexible(true).has_headers(false).delimiter(delimiter).from_reader(file);
    let mut theirs = csv::ByteRecord::new();
    for record in records {
        assert!(reader.read_byte_record(&mut theirs).expect("a slice can be read"), "a record of nobody");
        if record.cut.is_some() {
            return;
        }
        assert!(theirs.iter().eq(record.cells.iter()), "{theirs:?} is not {:?}", record.cells);
    }
    assert!(!reader.read_byte_record(&mut theirs).expect("a slice can be read"), "a record is missing");
}

fn compare(got: Result<Reading, Error>, delimiter: u8, records: &[Slow], options: &Options) {
    let Some((header, records)) = records.split_first() else {
        assert!(matches!(got, Err(Error::Empty(_))), "an empty file is none");
        return;
    };
    if header.cut.is_some() || header.open {
        assert!(got.is_err(), "a header that swallowed rows is no header");
        return;
    }
    let Some(header) = texts(&header.cells) else {
        assert!(matches!(got, Err(Error::HeaderEncoding(_))), "a header that is not text");
        return;
    };
    let header: Vec<&str> = header.into_iter().map(str::trim).collect();
    let places = match Places::find(&header, options) {
        Ok(places) => places,
        Err(field) => {
            let Err(error) = got else { panic!("{field} has no column, or two") };
            assert!(!error.to_string().is_empty() && !error.hint().is_empty());
            let (Error::MissingColumn { field: of, .. } | Error::AmbiguousColumn { field: of, .. }) = error
            else {
                panic!("{error}")
            };
            assert_eq!(of, field);
            return;
        }
    };
    let got = match got {
        Ok(got) => got,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(got.delimiter, char::from(delimiter));
    assert!(got.columns.iter().eq(places.kept.iter().map(|at| header[*at])), "{:?}", got.columns);
    let reference = places.by_field[Field::Reference as usize].filter(|at| places.kept.contains(at));
    assert_eq!(got.reference_column.as_deref(), reference.map(|at| header[at]));
    assert_eq!(got.rows.len(), records.len(), "records are lost or made up");
    for (row, record) in got.rows.iter().zip(records) {
        assert_eq!(row.line, record.line);
        compare_row(row, record, &places, options);
    }
}

/// The header, understood once more.
struct Places {
    width: usize,
    by_field: [Option<usize>; Field::COUNT],
    kept: Vec<usize>,
    correction: Option<[usize; 3]>,
}

impl Places {
    /// Or the first field that has no column and needs one, or has two.
    fn find(header: &[&str], options: &Options) -> Result<Places, Field> {
        let plain = |name: &str| name.to_lowercase().split_whitespace().collect::<String>();
        let all = |is: &dyn Fn(&str) -> bool| -> Vec<usize> {
            (0..header.len()).filter(|at| is(header[*at])).collect()
        };
        let mut by_field = [None; Field::COUNT];
        for field in Field::ALL {
            let mut found = all(&|name| name == field.name());
            if found.is_empty() {
                found = all(&|name| plain(name) == field.name());
            }
            let constant = options.rules.constants.iter().any(|(of, _)| *of == field);
            let needed = field.is_mandatory() || options.rules.require.contains(&field);
            if found.len() > 1 || found.is_empty() && needed && !constant {
                return Err(field);
            }
            by_field[field as usize] = found.first().copied();
        }
        let first = |name: &str| header.iter().position(|column| *column == name);
        let correction = || Some([first("_line")?, first("_outcome")?, first("_error_code")?]);
        Ok(Places {
            width: header.len(),
            by_field,
            kept: all(&|name| !EXPORT_COLUMNS.contains(&name)),
            correction: correction(),
        })
    }
}

fn texts(cells: &[Vec<u8>]) -> Option<Vec<&str>> {
    cells.iter().map(|cell| std::str::from_utf8(cell).ok()).collect()
}

fn compare_row(row: &Row, record: &Slow, places: &Places, options: &Options) {
    let kept: Vec<&str> = row.record.cells().collect();
    harmless(&row.reading);
    let Some(cells) = texts(&record.cells) else {
        let lossy = |at: &usize| record.cells.get(*at).map_or(&[][..], |cell| cell).to_vec();
        let lossy: Vec<Vec<u8>> = places.kept.iter().map(lossy).collect();
        assert!(kept.iter().copied().eq(lossy.iter().map(|cell| String::from_utf8_lossy(cell))));
        let (at, cell) =
            record.cells.iter().enumerate().find(|(_, cell)| texts(&[cell.to_vec()]).is_none()).unwrap();
        let position = std::str::from_utf8(cell).unwrap_err().valid_up_to();
        let seen = format!("byte 0x{:02X} at position {} of column {}", cell[position], position + 1, at + 1);
        misread(row, Rule::Encoding, &seen);
        return;
    };
    if let Some(tail) = &record.cut {
        // Where the cut goes through a character, that is not the file's fault.
        let is_text = std::str::from_utf8(tail).map_or_else(|error| error.error_len().is_none(), |_| true);
        match rule_of(row) {
            Some(Rule::Encoding) if !is_text => misread(row, Rule::Encoding, "byte"),
            _ => misread(row, Rule::Fields, "KiB"),
        }
    } else if record.open {
        misread(row, Rule::Fields, "odd number of quotes");
    }
    if record.cut.is_some() || record.open {
        let begins =
            |(kept, cell): (&&str, &&str)| cell.starts_with(*kept) && (kept == cell || kept.len() > 60);
        assert!(kept.len() == cells.len() && kept.iter().zip(&cells).all(begins), "{kept:?}");
        return;
    }
    if cells.iter().all(|cell| cell.len() < HALF) {
        exercise(&cells);
    }
    if cells.len() != places.width {
        assert_eq!(kept, cells);
        misread(row, Rule::Fields, &format!("{} fields where the header has {}", cells.len(), places.width));
        return;
    }
    assert!(kept.iter().copied().eq(places.kept.iter().map(|at| cells[*at])));
    let by_field: Cells<'_> = places.by_field.map(|place| place.map(|at| cells[at]));
    same(&row.reading, &options.rules.read(&by_field));
    let corrects = places.correction.map(|at| at.map(|at| cells[at])).and_then(|[line, outcome, code]| {
        let line = line.parse().ok().filter(|_| ["invalid", "duplicate"].contains(&outcome))?;
        Some(Box::new(Correction { line, outcome: outcome.into(), code: code.into() }))
    });
    assert_eq!(row.corrects, corrects);
}

fn rule_of(row: &Row) -> Option<Rule> {
    Some(row.reading.as_ref().err()?.list.first()?.rule)
}

fn misread(row: &Row, rule: Rule, words: &str) {
    let Err(faults) = &row.reading else { panic!("line {} is no customer", row.line) };
    let [Fault { field: None, rule: got, seen }] = faults.list.as_slice() else { panic!("{faults:?}") };
    assert_eq!(*got, rule, "{seen}");
    assert!(!seen.is_empty() && seen.contains(words), "{seen:?}: no {words:?}");
    assert!(faults.reference.is_none() && row.corrects.is_none());
}

/// Any cells, for any field, under either strictness.
fn exercise(cells: &[&str]) {
    for shift in 0..Field::COUNT.min(cells.len()) {
        let by_field: Cells<'_> = std::array::from_fn(|at| cells.get((at + shift) % Field::COUNT).copied());
        let read = |validation| Rules { validation, ..Rules::default() }.read(&by_field);
        let (documented, lenient) = (read(Validation::Documented), read(Validation::Lenient));
        harmless(&documented);
        harmless(&lenient);
        // Whom the page lets in, nobody keeps out.
        if let Ok(customer) = &documented {
            assert!(customer.body.is_ascii());
            same(&documented, &lenient);
        }
    }
}

/// What goes into requests, ledgers and terminals.
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
                assert!(seen.len() < 100 && !seen.chars().any(char::is_control), "{seen:?}");
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
