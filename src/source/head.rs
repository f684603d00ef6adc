//! Inspects the first line of a source, after decompression and before decoding, to detect the kind of file.
//!
//! A file that is not CSV is identified as what it is, with what to do, instead of a fault in every row. A failed
//! export of this program is recognized by its columns. It is UTF-8 with commas, or in whatever format a spreadsheet
//! saved it; the format settings of the original file do not apply to it.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use memchr::memchr2;

use super::{
    csv_reader::{CsvReader, Quote},
    decode::Encoding,
    dialect::CANDIDATES,
    export_columns::EXPORT_KEYS,
};

/// Maximum number of bytes read to find the end of the first line.
const HEAD_MAX_BYTES: usize = 64 * 1024;

/// Minimum number of bytes to inspect, if there are that many: a short first line does not show the kind of file.
const HEAD_MIN_BYTES: usize = 64;

/// How many bytes of the head are inspected to determine whether a file is text.
const INSPECTED_BYTES: usize = 512;

/// Minimum length of a line of base64, which programs break into lines.
const BASE64_LINE: usize = 60;

/// A kind of file that this program does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ForeignFile {
    /// What it is.
    pub(super) what: &'static str,
    /// What to do about it.
    pub(super) hint: &'static str,
}

const SAVE_AS_CSV: &str = "open it in its own program and save it as CSV";

const UNPACK: &str = "unpack it, and import the CSV file in it";

/// The first bytes of files that are not text.
const MAGIC: [(&[u8], ForeignFile); 63] = [
    (b"PK\x03\x04", foreign("an Excel workbook or another ZIP archive", SAVE_AS_CSV)),
    (b"\xd0\xcf\x11\xe0", OLD_WORKBOOK),
    (b"\xfd7zXZ\0", foreign("an xz archive", "unpack it: xz -dc FILE | customer-import import -")),
    (b"7z\xbc\xaf\x27\x1c", foreign("a 7-Zip archive", UNPACK)),
    (b"Rar!\x1a\x07", foreign("a RAR archive", UNPACK)),
    (
        b"\x1f\x8b",
        foreign("compressed by gzip twice", "unpack it once: gzip -dc FILE | customer-import import -"),
    ),
    (b"\x28\xb5\x2f\xfd", foreign("compressed twice", "unpack it once, and import the result")),
    (b"%PDF-", foreign("a PDF document", "get the data as CSV")),
    (
        b"SQLite format 3\0",
        foreign("an SQLite database", "export the table: sqlite3 -csv -header FILE 'select * from TABLE'"),
    ),
    (
        b"PAR1",
        foreign(
            "a Parquet file",
            "convert it to CSV: duckdb -csv -c \"from 'FILE'\" | customer-import import -",
        ),
    ),
    (b"ARROW1\0\0", foreign("an Arrow IPC file", "convert it to CSV, with pandas.read_feather for example")),
    (b"\x89HDF\r\n\x1a\n", foreign("an HDF5 file", "convert it to CSV, with pandas.read_hdf for example")),
    (b"\x93NUMPY", foreign("a NumPy array", "convert it to CSV, with numpy.savetxt for example")),
    (
        SAS_DATA,
        foreign("a SAS data set", "convert it to CSV, with PROC EXPORT or pandas.read_sas for example"),
    ),
    (
        b"HEADER RECORD*******LIB",
        foreign("a SAS transport file", "convert it to CSV, with pandas.read_sas for example"),
    ),
    (b"<stata_dta>", STATA),
    (b"$FL2", SPSS),
    (b"$FL3", SPSS),
    (b"RDX2\n", R_DATA),
    (b"RDX3\n", R_DATA),
    (b"RDA2\n", R_DATA),
    (b"RDA3\n", R_DATA),
    (b"X\n\0\0\0", R_DATA),
    (b"\xd9\xd9\xf7", foreign("a CBOR file", "convert it to CSV, with cbor2 and csv of Python for example")),
    (b"\x6d\xe2\x99\x81", foreign("an archive of mongodump", MONGOEXPORT)),
    (
        b"PGDMP",
        foreign(
            "an archive of pg_dump",
            "load it with pg_restore, and export the table with \\copy … csv header",
        ),
    ),
    (
        b"\0\x01\0\0Standard ",
        foreign("an Access database", "export the table: mdb-export FILE TABLE | customer-import import -"),
    ),
    (
        b"bplist00",
        foreign("a binary property list", "convert it to CSV, with plistlib and csv of Python for example"),
    ),
    (
        b"Salted__",
        foreign("encrypted by OpenSSL", "decrypt it: openssl enc -d … -in FILE | customer-import import -"),
    ),
    (
        b"age-encryption.org/",
        foreign("encrypted by age", "decrypt it: age -d FILE | customer-import import -"),
    ),
    (b"\x7fELF", foreign("a program", "get the data as CSV")),
    (b"\t\x08\x10\0", OLD_WORKBOOK),
    (b"\t\x04\x06\0", OLD_WORKBOOK),
    (b"\t\x02\x06\0", OLD_WORKBOOK),
    (b"{\\rtf", foreign("an RTF document", SAVE_AS_CSV)),
    (
        b"version https://git-lfs",
        foreign("a Git LFS pointer, not the file itself", "fetch the file with git lfs pull"),
    ),
    (
        b"Obj\x01",
        foreign(
            "an Avro file",
            "convert it to CSV: avro cat --format csv --header FILE | customer-import import -",
        ),
    ),
    (b"\x04\"M\x18", foreign("an LZ4 file", "unpack it: lz4 -dc FILE | customer-import import -")),
    (b"-----BEGIN PGP MESSAGE", PGP),
    (b"BEGIN:VCARD", foreign("a vCard file", "convert it to CSV")),
    (b"\x89PNG\r\n", foreign("an image", "get the data as CSV")),
    (b"\xff\xd8\xff", foreign("an image", "get the data as CSV")),
    (b"-- MySQL dump", SQL_DUMP),
    (b"--\n-- PostgreSQL", SQL_DUMP),
    (b"INSERT INTO ", SQL_DUMP),
    (b"CREATE TABLE ", SQL_DUMP),
    (b"DROP TABLE ", SQL_DUMP),
    (b"-- MariaDB dump", SQL_DUMP),
    (b"/*M!999999\\- enable the sandbox mode */", SQL_DUMP),
    (b"-- phpMyAdmin", SQL_DUMP),
    (b"/*!", SQL_DUMP),
    (b"\x1f\x9d", foreign("compressed by compress", "unpack it: gzip -dc FILE | customer-import import -")),
    (b"LZIP\x01", foreign("an lzip archive", "unpack it: lzip -dc FILE | customer-import import -")),
    (b"\xff\x06\0\0sNaPpY", foreign("a Snappy file", "unpack it: snzip -dc FILE | customer-import import -")),
    (b"ID;P", foreign("a SYLK file", SAVE_AS_CSV)),
    (b"TABLE\r\n0,1", foreign("a DIF file", SAVE_AS_CSV)),
    (b"TABLE\n0,1", foreign("a DIF file", SAVE_AS_CSV)),
    (b"dn: ", foreign("an LDIF file", "convert it to CSV")),
    (b"version: 1\ndn: ", foreign("an LDIF file", "convert it to CSV")),
    (b"--- a/", DIFF),
    (b"diff --git ", DIFF),
    (b"+/v8", UTF_7),
    (b"+/v9", UTF_7),
];

/// The first bytes of binary files, which text may have, too.
const BINARY_MAGIC: [(&[u8], ForeignFile); 18] = [
    (b"FEA1", foreign("a Feather file", "convert it to CSV, with pandas.read_feather for example")),
    (b"GIF8", foreign("an image", "get the data as CSV")),
    (b"ORC", foreign("an ORC file", "convert it to CSV, with pandas.read_orc for example")),
    (b"\x80\x02", PICKLE),
    (b"\x80\x03", PICKLE),
    (b"\x80\x04", PICKLE),
    (b"\x80\x05", PICKLE),
    (b"q\x01\x01", STATA),
    (b"q\x02\x01", STATA),
    (b"r\x01\x01", STATA),
    (b"r\x02\x01", STATA),
    (b"s\x01\x01", STATA),
    (b"s\x02\x01", STATA),
    (b"MZ", foreign("a program", "get the data as CSV")),
    (b"!BDN", foreign("an Outlook data file", "export the contacts as CSV in Outlook")),
    (b"\x85\x01", PGP),
    (b"\x85\x02", PGP),
    (b"\x84\x8c", PGP),
];

/// The first bytes of a SAS data set, which differ from those of other files only behind the zeros.
const SAS_DATA: &[u8] = b"\0\0\0\0\0\0\0\0\0\0\0\0\xc2\xea\x81\x60";

const OLD_WORKBOOK: ForeignFile = foreign("an old Excel workbook", SAVE_AS_CSV);

const STATA: ForeignFile =
    foreign("a Stata data set", "convert it to CSV, with export delimited or pandas.read_stata for example");

const SPSS: ForeignFile =
    foreign("an SPSS data file", "convert it to CSV, with SAVE TRANSLATE or pandas.read_spss for example");

const R_DATA: ForeignFile =
    foreign("R data", "convert it to CSV in R: write.csv(DATA, 'FILE', row.names = FALSE)");

const PICKLE: ForeignFile = foreign(
    "a Python pickle",
    "convert it to CSV, with pandas.read_pickle for example, if its origin is trusted",
);

const PGP: ForeignFile =
    foreign("an encrypted PGP message", "decrypt it: gpg -d FILE | customer-import import -");

const MONGOEXPORT: &str =
    "export the collection: mongoexport --type=csv --fields=… | customer-import import -";

const BSON: ForeignFile = foreign("a BSON dump of MongoDB", MONGOEXPORT);

const DBASE: ForeignFile = foreign("a dBase table", SAVE_AS_CSV);

const DUCKDB: ForeignFile = foreign(
    "a DuckDB database",
    "export the table: duckdb -csv FILE 'from TABLE' | customer-import import -",
);

const SQL_DUMP: ForeignFile =
    foreign("an SQL dump", "load it into a database, and export the table as CSV with a header");

const DIFF: ForeignFile =
    foreign("a diff, the difference between two files", "apply it, and import the file itself");

const UTF_7: ForeignFile =
    foreign("UTF-7 text", "convert it: iconv -f UTF-7 -t UTF-8 FILE | customer-import import -");

const EBCDIC: ForeignFile = foreign(
    "EBCDIC text, as mainframes write it",
    "convert it: iconv -f IBM037 -t UTF-8 FILE | customer-import import -",
);

const YAML: ForeignFile = foreign("YAML", "convert it to CSV, with yq -o=csv for example");

const BASE64: ForeignFile = foreign("base64 text", "decode it: base64 -d FILE | customer-import import -");

const BINARY: ForeignFile = foreign("a binary file", "get the data as CSV from where it came from");

/// Files with a byte order mark of another encoding than that of the text.
const MARKED_UTF_16: [ForeignFile; 2] = [
    foreign(
        "UTF-16 text after the byte order mark of UTF-8",
        "cut the mark off: tail -c +4 FILE | customer-import import - --encoding utf-16le",
    ),
    foreign(
        "UTF-16 text after the byte order mark of UTF-8",
        "cut the mark off: tail -c +4 FILE | customer-import import - --encoding utf-16be",
    ),
];

/// UTF-32 with a byte order mark, which `iconv` reads.
const UTF_32: ForeignFile =
    foreign("UTF-32 text", "convert it: iconv -f UTF-32 -t UTF-8 FILE | customer-import import -");

const UTF_32_LE: ForeignFile =
    foreign("UTF-32 text", "convert it: iconv -f UTF-32LE -t UTF-8 FILE | customer-import import -");

const UTF_32_BE: ForeignFile =
    foreign("UTF-32 text", "convert it: iconv -f UTF-32BE -t UTF-8 FILE | customer-import import -");

const BZIP2: ForeignFile = foreign("a bzip2 archive", "unpack it: bzip2 -dc FILE | customer-import import -");

const fn foreign(what: &'static str, hint: &'static str) -> ForeignFile {
    ForeignFile { what, hint }
}

/// Reads until the first line break and at least [`HEAD_MIN_BYTES`], the maximum length of the head, or the end of
/// the input.
pub(super) fn read(input: &mut dyn Read) -> io::Result<Vec<u8>> {
    let (mut head, mut block, mut has_break) = (Vec::new(), [0; 4096], false);
    while head.len() < HEAD_MAX_BYTES {
        let count = match input.read(&mut block) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // The data before the error is used first; the next read reports the error again.
            Err(_) if !head.is_empty() => break,
            Err(error) => return Err(error),
        };
        head.extend_from_slice(&block[..count]);
        has_break |= memchr2(b'\n', b'\r', &block[..count]).is_some();
        if count == 0 || has_break && head.len() >= HEAD_MIN_BYTES {
            break;
        }
    }
    Ok(head)
}

/// Whether a byte order mark determines the encoding.
pub(super) fn has_mark(head: &[u8]) -> bool {
    encoding_rs::Encoding::for_bom(head).is_some()
}

/// Whether the first line is UTF-8.
pub(super) fn is_utf8(head: &[u8]) -> bool {
    let end = memchr2(b'\n', b'\r', head).unwrap_or(head.len());
    std::str::from_utf8(&head[..end]).is_ok()
}

/// The kind of file, if it is not text that can be decoded with the declared encoding.
pub(super) fn foreign_file(head: &[u8], declared: Encoding) -> Option<ForeignFile> {
    if let Some((_, file)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(*file);
    }
    if matches!(head, [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', ..]) {
        return Some(BZIP2);
    }
    if head.get(257..262) == Some(b"ustar") {
        return Some(foreign("a tar archive", UNPACK));
    }
    wide_text(head, declared)
        .or_else(|| markup(head))
        .or_else(|| unmarked_yaml(head))
        .or_else(|| is_base64(first_line(head)).then_some(BASE64))
        .or_else(|| binary(head, declared))
}

/// The bytes before the first line break.
fn first_line(head: &[u8]) -> &[u8] {
    &head[..memchr2(b'\n', b'\r', head).unwrap_or(head.len())]
}

/// Detects bytes that are not text in the declared encoding, nor in any encoding that the user may have forgotten to
/// declare.
fn binary(head: &[u8], declared: Encoding) -> Option<ForeignFile> {
    if declared.is_utf16() || has_mark(head) {
        return None;
    }
    let start = &head[..head.len().min(INSPECTED_BYTES)];
    if declared.is_utf8() && is_ebcdic(start) {
        return Some(EBCDIC);
    }
    // East Asian encodings use shift and escape characters, and a delimiter may be a control character.
    let is_text =
        |byte: &u8| *byte >= b' ' || matches!(byte, 1 | 2 | b'\t'..=b'\r' | 0x0e | 0x0f | 0x1a..=0x1f);
    let first_line = first_line(head);
    let is_one_cell = !CANDIDATES.iter().any(|delimiter| first_line.contains(delimiter));
    let is_other_text = !is_utf8(first_line)
        || is_one_cell && std::str::from_utf8(start).is_err_and(|error| error.error_len().is_some());
    let is_unreadable = declared.is_utf8() && is_other_text && !start.iter().all(is_text);
    (first_line.contains(&0) || is_unreadable).then(|| known_binary(head).unwrap_or(BINARY))
}

/// The kind of a binary file, by bytes that text may have, too.
fn known_binary(head: &[u8]) -> Option<ForeignFile> {
    if let Some((_, file)) = BINARY_MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(*file);
    }
    match head {
        // Version, then year, month and day of the last change.
        [0x03 | 0x04 | 0x30..=0x32 | 0x43 | 0x83 | 0x8b | 0x8c | 0xf5, _, 1..=12, 1..=31, ..] => Some(DBASE),
        // The length of a document, then the type and the name of its first element.
        [_, _, _, 0, 0x02 | 0x03 | 0x07 | 0x10 | 0x12, name @ ..] if name.starts_with(b"_id\0") => Some(BSON),
        [_, _, _, _, _, _, _, _, b'D', b'U', b'C', b'K', ..] => Some(DUCKDB),
        _ => None,
    }
}

/// Whether the bytes are letters, digits and punctuation of EBCDIC, which differ from those of ASCII.
fn is_ebcdic(bytes: &[u8]) -> bool {
    let is_letter = |byte: &u8| matches!(byte, 0x81..=0x89 | 0x91..=0x99 | 0xa2..=0xa9 | 0xc1..=0xc9 | 0xd1..=0xd9 | 0xe2..=0xe9);
    let is_sign = |byte: &u8| matches!(byte, 0x05 | 0x0d | 0x15 | 0x25 | 0x40 | 0x4b..=0x50 | 0x5a..=0x61 | 0x6b..=0x6f | 0x7a..=0x7f);
    let letters = bytes.iter().filter(|byte| is_letter(byte)).count();
    letters >= 8 && bytes.iter().all(|byte| is_letter(byte) || is_sign(byte) || matches!(byte, 0xf0..=0xf9))
}

/// Whether a line is long and consists of base64 characters, with letters of both cases.
fn is_base64(line: &[u8]) -> bool {
    let has = |is: fn(&u8) -> bool| line.iter().any(is);
    line.len() >= BASE64_LINE
        && line.len().is_multiple_of(4)
        && line.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_digit)
}

/// Detects YAML: a list, or a key with an indented value below it.
fn unmarked_yaml(head: &[u8]) -> Option<ForeignFile> {
    let text = std::str::from_utf8(&head[..head.len().min(INSPECTED_BYTES)]).ok()?;
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let first = lines.find(|line| *line != "---" && !line.starts_with("%YAML"))?;
    let is_list = first.starts_with("- ") && (first.contains(": ") || first.ends_with(':'));
    let is_key = |line: &str| {
        line.strip_suffix(':')
            .is_some_and(|key| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
    };
    let is_indented = |line: &str| line.starts_with("  ") || line.starts_with("- ");
    let has_children = is_key(first) && lines.next().is_some_and(is_indented);
    (is_list || has_children).then_some(YAML)
}

/// Detects text with two or four bytes per character by the zeros beside ASCII characters.
fn wide_text(head: &[u8], declared: Encoding) -> Option<ForeignFile> {
    let is_zero: Vec<bool> = head.iter().take(8).map(|byte| *byte == 0).collect();
    match (head, is_zero.as_slice()) {
        ([0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..], _) => Some(UTF_32),
        (_, [false, _, true, true, false, _, true, true]) => Some(UTF_32_LE),
        (_, [true, true, _, false, true, true, _, false]) => Some(UTF_32_BE),
        ([0xef, 0xbb, 0xbf, _, 0, _, 0, ..], _) => Some(MARKED_UTF_16[0]),
        ([0xef, 0xbb, 0xbf, 0, _, 0, _, ..], _) => Some(MARKED_UTF_16[1]),
        _ if declared.is_utf16() => None,
        (_, [false, true, false, true, ..]) => {
            Some(foreign("UTF-16 text without a byte order mark", "add --encoding utf-16le"))
        }
        (_, [true, false, true, false, ..]) => {
            Some(foreign("UTF-16 text without a byte order mark", "add --encoding utf-16be"))
        }
        _ => None,
    }
}

fn markup(head: &[u8]) -> Option<ForeignFile> {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let starts = |word: &[u8]| text.get(..word.len()).is_some_and(|text| text.eq_ignore_ascii_case(word));
    let json = foreign("JSON", "convert it to CSV, with jq -r '… | @csv' for example");
    match text {
        _ if starts(b"<!doctype html") || starts(b"<html") => Some(foreign(
            "an HTML page, such as a login page instead of the download",
            "sign in and download the file again",
        )),
        [b'<', b'?' | b'!' | b'a'..=b'z' | b'A'..=b'Z', ..] => {
            Some(foreign("XML or HTML", "convert it to CSV"))
        }
        // The heading of a list of tables in TOML, whose name has no quotes.
        [b'[', b'[', letter, ..] if letter.is_ascii_alphabetic() => None,
        [open @ (b'{' | b'['), rest @ ..] => match (open, rest.trim_ascii_start().first()) {
            (b'{', Some(b'"' | b'}')) | (b'[', Some(b'{' | b'[' | b'"' | b']')) => Some(json),
            // The line breaks after the bracket.
            (_, None) => Some(json),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a file is a failed export of this program. False if it cannot be read.
pub fn is_failed_export(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD_MAX_BYTES as u64).read_to_end(&mut head));
    read.is_ok() && export_delimiter(&head).is_some()
}

/// The delimiter of the head if it is the header of a failed export of this program.
pub(super) fn export_delimiter(head: &[u8]) -> Option<u8> {
    // A byte order mark determines the encoding; without one, the columns are ASCII in every encoding but UTF-16.
    let (text, ..) = encoding_rs::UTF_8.decode(head);
    CANDIDATES.into_iter().find(|delimiter| {
        let mut records = CsvReader::over_head(text.as_bytes(), *delimiter, Quote::default());
        // Reading from a slice cannot fail.
        let Some(record) = records.next(&|_| false).ok().flatten() else { return false };
        EXPORT_KEYS.iter().all(|key| record.cells.iter().any(|name| name.trim_ascii() == key.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_kind_is_named() {
        let tar = [&[b'x'; 257][..], b"ustar\0"].concat();
        for (head, what) in [
            (&b"PK\x03\x04\x14\0"[..], "an Excel workbook or another ZIP archive"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old Excel workbook"),
            (b"\xfd7zXZ\0", "an xz archive"),
            (b"BZh91A", "a bzip2 archive"),
            (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
            (b"\x1f\x8b\x08", "compressed by gzip twice"),
            (b"%PDF-1.7\n", "a PDF document"),
            (b"SQLite format 3\0", "an SQLite database"),
            (b"ORC\x0a\x0b\0\0\xff\xfe", "an ORC file"),
            (b"ARROW1\0\0\xff\xff", "an Arrow IPC file"),
            (b"\x89HDF\r\n\x1a\n\0", "an HDF5 file"),
            (b"\0\0\0\0\0\0\0\0\0\0\0\0\xc2\xea\x81\x60\xb3\x14", "a SAS data set"),
            (b"<stata_dta><header><release>118", "a Stata data set"),
            (b"r\x02\x01\0\x05\0", "a Stata data set"),
            (b"$FL2@(#) SPSS DATA FILE", "an SPSS data file"),
            (b"RDX3\nX\n\0\0\0\x03", "R data"),
            (b"X\n\0\0\0\x03\0\x04", "R data"),
            (b"\x80\x04\x95\x1f\0\0\0\0", "a Python pickle"),
            (b"\xd9\xd9\xf7\x83\0", "a CBOR file"),
            (b"\x4e\0\0\0\x07_id\0\x65", "a BSON dump of MongoDB"),
            (b"\x03\x7c\x0b\x1c\x02\0\0\0\xa1\0", "a dBase table"),
            (b"\0\x01\0\0Standard ACE DB\0", "an Access database"),
            (b"\x12\x34\0\0\0\0\0\0DUCK\x40\0", "a DuckDB database"),
            (b"PGDMP\x01\x0f\0", "an archive of pg_dump"),
            (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer, not the file itself"),
            (&tar, "a tar archive"),
            (b"\n <!DOCTYPE html>\n", "an HTML page, such as a login page instead of the download"),
            (b"\xef\xbb\xbf<?xml version=\"1.0\"?>\n", "XML or HTML"),
            (b"{\"id\": 1}\n", "JSON"),
            (b"-----BEGIN PGP MESSAGE-----\n", "an encrypted PGP message"),
            (b"INSERT INTO customers VALUES (1);\n", "an SQL dump"),
            (b"/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump 10.19\n", "an SQL dump"),
            (b"[\n", "JSON"),
            (b"[{\"id\": 1}]", "JSON"),
            (b"i\0\0\0d\0\0\0", "UTF-32 text"),
            (b"\0\0\x67\x80\0\0\0d", "UTF-32 text"),
            (b"\0i\0d\0,\0x", "UTF-16 text without a byte order mark"),
            (b"\xef\xbb\xbfi\0d\0,\0x\0", "UTF-16 text after the byte order mark of UTF-8"),
            (b"+/v8-id,phone\n", "UTF-7 text"),
            (
                b"\x96\x82\x91\x85\x83\xa3\x6d\x89\x84\x6b\x97\x88\x96\x95\x85\x25\xf1\xf2",
                "EBCDIC text, as mainframes write it",
            ),
            (b"ORC\n\0\x01\xff\xfe\x02", "an ORC file"),
            (b"\x7fELF\x02\x01\x01\0", "a program"),
            (b"\x01\x02\0\xff\xfe", "a binary file"),
            (b"\x1f\x9d\x90", "compressed by compress"),
            (b"ID;PWXL;N;E\n", "a SYLK file"),
            (b"TABLE\r\n0,1\r\n", "a DIF file"),
            (b"dn: cn=x,dc=example\n", "an LDIF file"),
            (b"--- a/users.csv\n+++ b/users.csv\n", "a diff, the difference between two files"),
            (b"---\n- id: 1\n  phone: 2\n", "YAML"),
            (b"customers:\n  - id: 1\n", "YAML"),
            (b"aWQscGhvbmUKY3VzdG9tZXItMDAwMSw5ODc2NTAwMTAxCmN1c3RvbWVyLTAwMDIs\n", "base64 text"),
        ] {
            assert_eq!(foreign_file(head, Encoding::default()).map(|file| file.what), Some(what), "{head:?}");
        }
        assert_eq!(foreign_file(b"BZh9,1", Encoding::default()), None);
        for header in ["ORCID,mobile_number\n", "MZ,mobile_number\n", "PGD,RDX,FEA1\n", "SAS,X\n1,2\n"] {
            assert_eq!(foreign_file(header.as_bytes(), Encoding::default()), None, "{header}");
        }
    }

    #[test]
    fn a_csv_file_is_nothing_else() {
        for head in [
            "id:,x\n",
            "id:\n1\n",
            "- id,x\n",
            "TABLE,x\n",
            "ID;phone\n",
            "id\u{1}x\n",
            "id,pho\u{e9}\n",
            "---\nid,x\n",
            "id,phone\n",
            "[id],[phone]\n",
            "{id};x\n",
            "<id>,x\n",
            "",
            "\u{feff}id\n",
            "P,K\n",
            "#id\n",
        ] {
            let found = foreign_file(head.as_bytes(), Encoding::default());
            assert_eq!(
                found.map(|file| file.what),
                if head.starts_with('<') { Some("XML or HTML") } else { None }
            );
        }
        let wide: Vec<u8> = "id,x\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(foreign_file(&wide, Encoding::from_label("utf-16le").unwrap()), None);
        assert!(foreign_file(&wide, Encoding::default()).unwrap().hint.ends_with("utf-16le"));
    }

    #[test]
    fn an_export_is_known_by_its_columns() {
        for (head, delimiter) in [
            ("id,_line,_outcome,_field,_error_code,_error_message\n1", Some(b',')),
            ("\u{feff}\"id\";\"_line\";\"_outcome\";\"_error_code\"", Some(b';')),
            ("id,_line,_outcome\n", None),
            ("id,line,outcome,error_code\n", None),
        ] {
            assert_eq!(export_delimiter(head.as_bytes()), delimiter, "{head:?}");
        }
    }
}
