//! Lines between the rows that are no rows: a header that occurs again (files joined by `cat`), the separator lines and footers
//! of SQL tools, and rows of nothing but delimiters and blanks.
//!
//! Each is skipped and counted as an adjustment. No such line could be a valid row: its cells are the names of columns,
//! dashes, or nothing. Almost every row is told from them by its first byte or its first cell.

use super::{
    adjustments::Adjustment,
    csv_reader::{RawFields, RawRecord},
};

/// The dashes that a separator line has at least, one after the other.
const RULE: &str = "---";

/// Why the record is no row; none if it is one. `header` is the first record, its cells trimmed.
pub(super) fn skipped(record: &RawRecord<'_>, header: &[String], delimiter: u8) -> Option<Adjustment> {
    if record.flaw.is_some() {
        return None;
    }
    let bytes = record.fields.bytes;
    let first = bytes.first().copied().unwrap_or(delimiter);
    // Tab to carriage return, with the vertical tab.
    let is_blank = first == delimiter || matches!(first, b' ' | 0x09..=0x0d) || !first.is_ascii();
    if is_blank && is_blank_row(record.fields) {
        return Some(Adjustment::BlankRow);
    }
    let may_be_drawn = is_blank || matches!(first, b'-' | b'+' | b'=' | b'|' | b':');
    let is_alone = record.fields.len() == 1 && header.len() > 1;
    if may_be_drawn && is_separator(bytes, delimiter) || is_alone && is_footer(bytes) {
        return Some(Adjustment::SeparatorLine);
    }
    is_header(record, header).then_some(Adjustment::RepeatedHeader)
}

/// Whether every cell is empty but for blanks of any kind.
fn is_blank_row(fields: RawFields<'_>) -> bool {
    let is_blank = |cell: &[u8]| std::str::from_utf8(cell).is_ok_and(|text| text.trim().is_empty());
    (0..fields.len()).all(|at| fields.range(at).is_none_or(|range| is_blank(&fields.bytes[range])))
}

/// Whether the line consists of dashes and what stands between columns: `-----+-----`, `|:---|---|`, `----,----`.
pub(super) fn is_separator(bytes: &[u8], delimiter: u8) -> bool {
    let is_part = |byte: &u8| {
        *byte == delimiter || matches!(byte, b'-' | b'+' | b'=' | b'|' | b':' | b' ' | b'\t' | b'\n' | b'\r')
    };
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    bytes.iter().all(is_part) && (text.contains(RULE) || text.contains("==="))
}

/// Whether the line is the count that a SQL tool adds: `(3 rows)`, `(3 rows affected)`, `3 rows in set (0.00 sec)`.
fn is_footer(bytes: &[u8]) -> bool {
    let text = std::str::from_utf8(bytes).unwrap_or_default().trim();
    let text = text.strip_prefix('(').unwrap_or(text);
    let words = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(rest) = words.strip_prefix(" row").filter(|_| words.len() < text.len()) else { return false };
    let rest = rest.strip_prefix('s').unwrap_or(rest);
    matches!(rest, ")" | " affected)" | " selected." | " selected") || rest.starts_with(" in set")
}

/// Whether the cells are those of the header, with or without a byte order mark before them. Empty cells at the end do not
/// matter, because a delimiter at the end of a line makes one.
fn is_header(record: &RawRecord<'_>, header: &[String]) -> bool {
    let fields = record.fields;
    let mark = "\u{feff}".as_bytes();
    let cell = |at: usize| fields.range(at).map_or(&[][..], |range| fields.bytes[range].trim_ascii());
    let begin = cell(0).strip_prefix(mark).unwrap_or(cell(0));
    header.first().is_some_and(|name| name.as_bytes() == begin)
        && (1..header.len().max(fields.len()))
            .all(|at| header.get(at).map_or(&[][..], |name| name.as_bytes()) == cell(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::csv_reader::{CsvReader, Quote};

    fn of(line: &str, delimiter: u8) -> Option<Adjustment> {
        let header = ["id", "mobile number"].map(str::to_owned);
        let mut records = CsvReader::new(line.as_bytes(), Quote::default());
        records.set_delimiter(delimiter);
        skipped(&records.next(&|_| false).unwrap().unwrap(), &header, delimiter)
    }

    #[test]
    fn lines_between_the_rows_are_told_from_rows() {
        let header = Some(Adjustment::RepeatedHeader);
        let separator = Some(Adjustment::SeparatorLine);
        let blank = Some(Adjustment::BlankRow);
        for (line, kind) in [
            ("id,mobile number", header),
            (" id , mobile number,", header),
            ("\u{feff}id,\"mobile number\"", header),
            ("ID,mobile number", None),
            ("id,mobile number,x", None),
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
            ("-,-", None),
            ("-1,2", None),
            ("3 rows of seats", None),
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
