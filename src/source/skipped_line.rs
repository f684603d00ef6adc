//! Recognizes lines between the rows that are not rows: a repeated header (in files joined by `cat`), separator lines
//! and footers of SQL tools, and lines that consist of delimiters and blanks.
//!
//! Each is skipped and counted as an adjustment. No such line could be a valid row: its cells are column names,
//! dashes, or nothing. Almost every row is distinguished from them by its first byte, its first cell, or a digit.
//!
//! A header with the same columns in another order, or among others, is not skipped: read with the file's own header,
//! the rows after it would be assigned to the wrong columns.

use super::{
    adjustments::Adjustment,
    columns::ColumnMap,
    csv_reader::{RawCells, RawRecord},
    heading::{HeadingMatch, named_field, plain},
};
use crate::customer::Field;

/// What a line is that is not a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRow {
    /// A line to skip; the adjustment is counted.
    Skipped(Adjustment),
    /// A header whose columns are not those of the file.
    OtherHeader,
}

/// The end-of-file character of DOS, which some programs still write.
const END_OF_FILE: &[u8] = b"\x1a";

/// The header of the file in the forms in which later lines are compared.
pub(super) struct KnownHeader {
    /// The names, trimmed.
    names: Vec<String>,
    /// The names in the form for comparison.
    plain: Vec<String>,
    /// The columns of the mandatory fields. A header of the same kind of file has them, too.
    mandatory: Vec<usize>,
    /// The maximum number of digits in one of the names.
    digits: usize,
}

impl KnownHeader {
    pub(super) fn new(header: &[String], columns: &ColumnMap) -> KnownHeader {
        let plain = header.iter().map(|name| plain(name)).collect();
        let mut mandatory = columns.mandatory_columns();
        mandatory.dedup();
        let digits = mandatory.iter().map(|at| digits(header[*at].as_bytes())).max().unwrap_or(0);
        KnownHeader { names: header.to_vec(), plain, mandatory, digits }
    }
}

/// Why the record is not a row; none if it is one.
pub(super) fn no_row(record: &RawRecord<'_>, header: &KnownHeader, delimiter: u8) -> Option<NoRow> {
    if record.flaw.is_some() {
        return None;
    }
    if let Some(adjustment) = skipped(record.cells, header.names.len(), delimiter) {
        return Some(NoRow::Skipped(adjustment));
    }
    // No header has such a cell, so that only a line without one is compared with the names.
    if has_value(record.cells, header) {
        return None;
    }
    if is_header(record.cells, &header.names) {
        return Some(NoRow::Skipped(Adjustment::RepeatedHeader));
    }
    let name_in = |cell: &[u8]| plain(std::str::from_utf8(cell.trim_ascii()).unwrap_or_default());
    let cells: Vec<String> = record.cells.iter().map(name_in).collect();
    let width = cells.len().max(header.plain.len());
    let name = |of: &[String], at: usize| of.get(at).cloned().unwrap_or_default();
    if (0..width).all(|at| name(&cells, at) == name(&header.plain, at)) {
        return Some(NoRow::Skipped(Adjustment::RepeatedHeader));
    }
    is_other_header(&cells, header).then_some(NoRow::OtherHeader)
}

/// Whether cells are a header with other columns: they include the columns of the mandatory fields, under their names
/// here or in other systems, or all are columns of this file.
fn is_other_header(cells: &[String], header: &KnownHeader) -> bool {
    let named: Vec<&String> = cells.iter().filter(|cell| !cell.is_empty()).collect();
    // A single name may be the value of a cell.
    if named.iter().all(|cell| *cell == named[0]) {
        return false;
    }
    let has_all = header.mandatory.iter().all(|at| named.contains(&&header.plain[*at]));
    let fields = |cell: &&String| match named_field(cell) {
        Some((field, HeadingMatch::Own | HeadingMatch::Alias(_))) => Some(field),
        _ => None,
    };
    let names = |field: &Field| named.iter().filter_map(fields).any(|named| named == *field);
    let names_all = Field::ALL.iter().filter(|field| field.is_mandatory()).all(names);
    (has_all || names_all) && header.mandatory.len() > 1
        || named.iter().all(|cell| header.plain.contains(cell))
}

/// Whether the record is not a row, as far as this is known without a column map.
pub(super) fn is_no_row(record: &RawRecord<'_>, header: &[String], delimiter: u8) -> bool {
    record.flaw.is_none()
        && (skipped(record.cells, header.len(), delimiter).is_some() || is_header(record.cells, header))
}

/// Whether a cell of a mandatory field has more digits than any of their names, as the value of a mobile number has.
fn has_value(cells: RawCells<'_>, header: &KnownHeader) -> bool {
    let is_digit = |byte: &&u8| byte.is_ascii_digit();
    header.mandatory.iter().rev().any(|at| {
        // The first digits decide.
        cell(cells, *at).iter().filter(is_digit).nth(header.digits).is_some()
    })
}

fn digits(text: &[u8]) -> usize {
    text.iter().filter(|byte| byte.is_ascii_digit()).count()
}

/// The cell without ASCII blanks around it; empty if there is no such cell.
fn cell<'a>(cells: RawCells<'a>, at: usize) -> &'a [u8] {
    cells.cell(at).trim_ascii()
}

/// Why the line is skipped, apart from repeated headers. `columns` is the number of columns.
fn skipped(cells: RawCells<'_>, columns: usize, delimiter: u8) -> Option<Adjustment> {
    let bytes = cells.bytes;
    let first = bytes.first().copied().unwrap_or(delimiter);
    // Tab to carriage return, including the vertical tab.
    let is_blank = first == delimiter || matches!(first, b' ' | 0x09..=0x0d) || !first.is_ascii();
    if is_blank && is_blank_row(cells) {
        return Some(Adjustment::BlankRow);
    }
    let may_be_drawn = is_blank || matches!(first, b'-' | b'+' | b'=' | b'|' | b':');
    let may_be_footer = first.is_ascii_digit() || b"(\\\x1aTECSP".contains(&first) || is_blank;
    let is_alone = cells.len() == 1 && columns > 1;
    let is_footer = || is_alone && is_footer(bytes) || (is_alone || cells.len() == 2) && is_count(bytes);
    if may_be_drawn && is_separator(bytes, delimiter) || may_be_footer && is_footer() {
        return Some(Adjustment::SeparatorLine);
    }
    None
}

/// Whether the line is the end-of-file mark, which shows that the file is not truncated.
pub(super) fn ends_file(record: &RawRecord<'_>) -> bool {
    record.cells.bytes.trim_ascii() == END_OF_FILE
}

/// Whether every cell is empty or consists of blanks of any kind.
fn is_blank_row(cells: RawCells<'_>) -> bool {
    let is_blank = |cell: &[u8]| std::str::from_utf8(cell).is_ok_and(|text| text.trim().is_empty());
    cells.iter().all(is_blank)
}

/// Whether the line consists of dashes and column separators: `-----+-----`, `|:---|---|`, `----,----`. A shorter row of
/// dashes may be a row of values.
pub(super) fn is_separator(bytes: &[u8], delimiter: u8) -> bool {
    let is_part = |byte: &u8| {
        *byte == delimiter || matches!(byte, b'-' | b'+' | b'=' | b'|' | b':' | b' ' | b'\t' | b'\n' | b'\r')
    };
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    bytes.iter().all(is_part) && (text.contains("---") || text.contains("==="))
}

/// Whether the line is the row count that `MySQL` appends, possibly with the number of warnings: `3 rows in set, 1
/// warning`.
fn is_count(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes.trim_ascii()) else { return false };
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let end = rest.strip_prefix(" row in set").or_else(|| rest.strip_prefix(" rows in set"));
    let is_end = |end: &str| end.is_empty() || end.starts_with(',') || end.starts_with(" (");
    rest.len() < text.len() && end.is_some_and(is_end)
}

/// Whether the line is appended by a SQL tool: the number of rows, the time, or the end of the data.
fn is_footer(bytes: &[u8]) -> bool {
    let text = std::str::from_utf8(bytes).unwrap_or_default().trim();
    if text == "\\." || text.as_bytes() == END_OF_FILE {
        return true;
    }
    let is_time = |name: &str| {
        text.strip_prefix(name).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    if ["Time: ", "Elapsed: ", "Completion time: ", "COPY "].into_iter().any(is_time) {
        return true;
    }
    // What SQL*Plus shows of a script while it spools.
    if text == "SQL>" || text.starts_with("SQL> ") || text == "PL/SQL procedure successfully completed." {
        return true;
    }
    let (inside, is_closed) = match text.strip_prefix('(') {
        Some(rest) => (rest.strip_suffix(')').unwrap_or(rest), rest.ends_with(')')),
        None => (text, false),
    };
    let words = inside.trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(words) = words.strip_prefix(' ').filter(|_| !inside.starts_with(' ')) else { return false };
    let (noun, did) = words.split_once(' ').unwrap_or((words, ""));
    let is_noun = matches!(noun, "row" | "rows" | "row(s)" | "record" | "records" | "record(s)");
    let did = did.strip_suffix('.').unwrap_or(did);
    // Some tools add the time: `3 rows fetched (0.012 sec)`.
    let did = did.split_once(" (").map_or(did, |(verb, _)| verb);
    let is_verb = matches!(did, "affected" | "selected" | "returned" | "fetched" | "unloaded" | "exported");
    // In translations of `psql`, another word follows the number.
    let is_word = did.is_empty() && noun.chars().all(char::is_alphabetic);
    is_noun && is_verb || is_closed && (is_noun && did.is_empty() || is_word)
}

/// Whether the cells are the header, possibly after a byte order mark. Empty cells at the end do not matter, because
/// a delimiter at the end of a line produces one.
fn is_header(cells: RawCells<'_>, header: &[String]) -> bool {
    let mark = "\u{feff}".as_bytes();
    let cell = |at: usize| cell(cells, at);
    let begin = cell(0).strip_prefix(mark).unwrap_or(cell(0));
    header.first().is_some_and(|name| name.as_bytes() == begin)
        && (1..header.len().max(cells.len()))
            .all(|at| header.get(at).map_or(&[][..], |name| name.as_bytes()) == cell(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::csv_reader::{CsvReader, Quote};

    fn of(line: &str, delimiter: u8) -> Option<NoRow> {
        let names = ["id", "mobile number"].map(str::to_owned).to_vec();
        let plain = names.iter().map(|name| plain(name)).collect();
        let header = KnownHeader { names, plain, mandatory: vec![0, 1], digits: 0 };
        let mut records = CsvReader::new(line.as_bytes(), Quote::default());
        records.set_delimiter(delimiter);
        no_row(&records.next(&|_| false).unwrap().unwrap(), &header, delimiter)
    }

    #[test]
    fn lines_between_the_rows_are_told_from_rows() {
        let header = Some(NoRow::Skipped(Adjustment::RepeatedHeader));
        let separator = Some(NoRow::Skipped(Adjustment::SeparatorLine));
        let blank = Some(NoRow::Skipped(Adjustment::BlankRow));
        let other = Some(NoRow::OtherHeader);
        for (line, kind) in [
            ("id,mobile number", header),
            (" id , mobile number,", header),
            ("\u{feff}id,\"mobile number\"", header),
            ("ID,Mobile_Number", header),
            ("id,mobile number,x", other),
            ("mobile-number,ID", other),
            // By the names in other systems.
            ("Phone,Customer ID,name", other),
            ("email,userid,x,msisdn", other),
            ("phone,name", None),
            ("call the phone,id", None),
            ("x,mobile number,id", other),
            ("id,x", None),
            ("id,id", None),
            ("id", None),
            ("----,----", separator),
            ("-----+-----", separator),
            ("+----+----+", separator),
            ("|:---|---:|", separator),
            ("---------- -------------", separator),
            ("==== ====", separator),
            ("(3 rows)", separator),
            ("(1 row)", separator),
            ("(3 rows affected)", separator),
            ("3 rows in set (0.00 sec)", separator),
            ("3 rows selected.", separator),
            ("3 rows in set, 1 warning (0.01 sec)", separator),
            ("1 row in set, 2 warnings", separator),
            ("(2 row(s) affected)", separator),
            ("2 record(s) selected.", separator),
            ("(2 record(s) affected)", separator),
            ("(2 Zeilen)", separator),
            ("\\.", separator),
            ("\x1a", separator),
            ("Time: 1.234 ms", separator),
            ("Elapsed: 00:00:00.01", separator),
            ("Completion time: 2024-01-01T00:00:00", separator),
            ("COPY 3", separator),
            ("SQL> spool off", separator),
            ("PL/SQL procedure successfully completed.", separator),
            ("COPYSHOP", None),
            ("SQL>,1", None),
            ("2 records of it", None),
            ("2 rows", None),
            ("Time: none", None),
            ("\\N", None),
            ("-,-", None),
            ("-1,2", None),
            ("3 rows of seats", None),
            ("3 rows in settings", None),
            ("\u{b}", blank),
            ("\u{b},\u{3000}", blank),
            ("rows)", None),
            ("(3 rows),1", None),
            (",", blank),
            ("  ", blank),
            (",\u{a0},\t", blank),
            ("\"\",\" \"", blank),
            ("\u{e9},", None),
            (",1", None),
            ("\",\",", None),
        ] {
            assert_eq!(of(line, b','), kind, "{line:?}");
        }
        assert_eq!(of("----|----", b'|'), separator);
    }
}
