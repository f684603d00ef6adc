//! Any table that another program writes is read back cell by cell.
//!
//! The writer is independent (the `csv` crate, and `encoding_rs` in the other direction), the table is arbitrary, and
//! it is written with every delimiter, quoting, line end, encoding and compression there is. Reading goes through the
//! library, so that there can be many cases; a few go through the binary, into a ledger and out again.
//! `PROPTEST_CASES=N` runs more.

use std::io::{self, Cursor, Read, Write};

use customer_import::{
    customer::{Field, Rules, Validation},
    source::{Encoding, ReadOptions, Source, SourceOptions},
};
use proptest::{
    collection::vec,
    prelude::{Just, ProptestConfig, Strategy, any, prop_assert_eq, prop_oneof, proptest},
    sample::select,
};

use crate::world::{World, knob, stands_between};

fn cases(default: u32) -> ProptestConfig {
    let cases = knob("PROPTEST_CASES").map_or(default, |cases| cases.parse().unwrap());
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 500, ..ProptestConfig::default() }
}

/// How a file is written.
#[derive(Clone, Copy, Debug)]
struct Form {
    delimiter: u8,
    tells_delimiter: bool,
    quoting: csv::QuoteStyle,
    end: csv::Terminator,
    blank_lines: bool,
    /// `utf-8-mark` and `utf-16*` begin with a byte order mark.
    encoding: &'static str,
    compression: Compression,
}

#[derive(Clone, Copy, Debug)]
enum Compression {
    None,
    Gzip,
    Zstandard,
}

const ENCODINGS: [&str; 11] = [
    "utf-8",
    "utf-8-mark",
    "utf-16le",
    "utf-16be",
    "windows-1252",
    "shift_jis",
    "gb18030",
    "big5",
    "euc-kr",
    "iso-2022-jp",
    "koi8-r",
];

fn form() -> impl Strategy<Value = Form> {
    let end = select(vec![csv::Terminator::CRLF, csv::Terminator::Any(b'\n'), csv::Terminator::Any(b'\r')]);
    let quoting = select(vec![csv::QuoteStyle::Always, csv::QuoteStyle::Necessary]);
    let compression = select(vec![Compression::None, Compression::Gzip, Compression::Zstandard]);
    let flags = (any::<bool>(), any::<bool>());
    (select(&b",;\t|"[..]), quoting, end, flags, select(&ENCODINGS[..]), compression).prop_map(
        |(delimiter, quoting, end, (tells_delimiter, blank_lines), encoding, compression)| Form {
            delimiter,
            tells_delimiter,
            quoting,
            end,
            blank_lines,
            encoding,
            compression,
        },
    )
}

impl Form {
    fn label(self) -> &'static str {
        self.encoding.trim_end_matches("-mark")
    }

    /// The text without characters that the encoding lacks, or encodes as another character's byte.
    fn possible(self, text: &str) -> String {
        let encoding = encoding_rs::Encoding::for_label(self.label().as_bytes()).unwrap();
        let survives = |c: &char| {
            let text = c.to_string();
            let (bytes, used, failed) = encoding.encode(&text);
            // For UTF-16 the library writes UTF-8, so any text is possible.
            used != encoding || !failed && encoding.decode_without_bom_handling(&bytes).0 == text
        };
        text.chars().filter(survives).collect()
    }

    fn write(self, table: &[Vec<String>]) -> Vec<u8> {
        let mut writer = csv::WriterBuilder::new()
            .delimiter(self.delimiter)
            .quote_style(self.quoting)
            .terminator(self.end)
            .from_writer(Vec::new());
        for row in table {
            writer.write_record(row).unwrap();
        }
        let mut text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
        if self.blank_lines {
            text = format!("\n\r\n{text}\r\n\n");
        }
        self.compress(&self.encode(&text))
    }

    fn encode(self, text: &str) -> Vec<u8> {
        let marked = format!("\u{feff}{text}");
        match self.encoding {
            "utf-8" => text.into(),
            "utf-8-mark" => marked.into(),
            "utf-16le" => marked.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            "utf-16be" => marked.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            label => {
                let encoding = encoding_rs::Encoding::for_label(label.as_bytes()).unwrap();
                let (bytes, _, failed) = encoding.encode(text);
                assert!(!failed);
                bytes.into_owned()
            }
        }
    }

    /// The row as it can be read back. A byte order mark at the start of a line comes from joined files.
    fn readable(self, row: &[String]) -> Vec<String> {
        let mut row: Vec<String> = row.iter().map(|cell| self.possible(cell)).collect();
        if let Some(first) = row.first_mut() {
            *first = first.trim_start_matches('\u{feff}').to_owned();
        }
        row
    }

    fn compress(self, bytes: &[u8]) -> Vec<u8> {
        match self.compression {
            Compression::None => bytes.into(),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstandard => zstd::encode_all(bytes, 1).unwrap(),
        }
    }

    fn options(self) -> SourceOptions {
        SourceOptions {
            delimiter: self.tells_delimiter.then_some(self.delimiter),
            // A byte order mark takes precedence over the declared encoding.
            encoding: Encoding::from_label(if self.encoding == "utf-16le" { "utf-8" } else { self.label() })
                .unwrap(),
            read: ReadOptions {
                rules: Rules {
                    validation: Some(Validation::Lenient),
                    constants: vec![
                        (Field::Reference, "reference".into()),
                        (Field::MobileNumber, "1".into()),
                    ],
                    ..Rules::default()
                },
                ..ReadOptions::default()
            },
            ..SourceOptions::default()
        }
    }
}

/// Any text, with parts that break parsers more often than chance would.
fn cell() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => any::<String>(),
        4 => "[ ,;\t|\"'\r\n\\\\a-c=+é語ソ表\u{0}\u{feff}\u{fffd}-]{0,12}",
        1 => "[a-z\"\n]{1000,9000}",
    ]
}

fn table() -> impl Strategy<Value = Vec<Vec<String>>> {
    (2..7usize).prop_flat_map(|width| vec(vec(cell(), width), 0..14))
}

/// Column names without meaning, with any text that a header may have; if the delimiter is detected, they contain no
/// other candidate.
fn header(form: Form, width: usize, name: &str) -> Vec<String> {
    let other = |c: char| !form.tells_delimiter && ",;\t|".contains(c);
    let name: String = form.possible(name).chars().filter(|c| !other(*c)).collect();
    (0..width).map(|at| format!("c{at} {name} x")).collect()
}

/// Returns a few bytes per call.
struct Pieces(Cursor<Vec<u8>>, usize);

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.1.min(buffer.len());
        self.0.read(&mut buffer[..count])
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn any_table_is_read_back_cell_by_cell(
        form in form(),
        table in table(),
        name in "[a-z ,;|\"\né語]{0,8}",
        // Small pieces are expensive: with each, the first lines are inspected again.
        piece in prop_oneof![1 => Just(1usize), 1 => Just(7), 9 => Just(4096), 9 => Just(usize::MAX)],
    ) {
        let width = table.first().map_or(3, Vec::len);
        let mut rows = vec![header(form, width, &name)];
        rows.extend(table.iter().map(|row| form.readable(row)));
        let input = Box::new(Pieces(Cursor::new(form.write(&rows)), piece));
        let mut source = Source::from_reader("any.csv".into(), input, &form.options()).unwrap();
        prop_assert_eq!(source.delimiter(), char::from(form.delimiter));
        prop_assert_eq!(source.columns(), &rows[0]);
        for row in rows[1..].iter().filter(|row| !stands_between(row, form.delimiter)) {
            let got = source.next_row().unwrap().expect("a row is missing");
            prop_assert_eq!(&got.record.cells().collect::<Vec<_>>(), row, "{:?}", got.reading);
        }
        prop_assert_eq!(source.next_row().unwrap().map(|row| row.line), None);
    }
}

proptest! {
    #![proptest_config(cases(12))]

    /// Every row is invalid, so all of them come back, by way of the ledger.
    #[test]
    fn any_table_comes_back_out_of_the_binary(form in form(), table in table()) {
        let world = World::new();
        let width = table.first().map_or(3, Vec::len);
        let mut rows = vec![header(form, width, "")];
        rows.extend(table.iter().map(|row| form.readable(row)));
        let file = world.file("any.csv", form.write(&rows));
        let delimiter = char::from(form.delimiter).to_string();
        let options = ["--set=object_reference_id=short", "--set=mobile_number=x", "--encoding", form.label()];
        let delimiter_args = if form.tells_delimiter { vec!["--delimiter", &delimiter] } else { Vec::new() };
        let done = world.import(&file, &[&options[..], &delimiter_args].concat());
        rows.retain(|row| !stands_between(row, form.delimiter));
        assert_eq!(done.code, if rows.len() > 1 { 3 } else { 0 }, "{done:?}");
        let got: Vec<Vec<String>> = world.export("failed").iter().map(|row| row[..width].to_vec()).collect();
        prop_assert_eq!(&got, &rows[1..]);
    }
}
