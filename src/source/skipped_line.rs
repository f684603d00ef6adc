//! Lines between the rows that are no rows: a header that occurs again (files joined by `cat`), the separator lines and footers
//! of SQL tools, and rows of nothing but delimiters and blanks.
//!
//! Each is skipped and counted as an adjustment. No such line could be a valid row: its cells are the names of columns,
//! dashes, or nothing. Almost every row is told from them by its first byte, its first cell, or a digit.
//!
//! A header with the same columns in another order, or among others, is no adjustment: by the header of the file the rows
//! behind it would be read from the wrong columns.

use super::{
    adjustments::Adjustment,
    columns::ColumnMap,
    csv_reader::{RawFields, RawRecord},
    heading::plain,
};

/// The dashes that a separator line has at least, one after the other.
const RULE: &str = "---";

/// What a line is that is no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRow {
    /// It is skipped, and this is counted.
    Skipped(Adjustment),
    /// A header whose columns are not those of the file.
    OtherHeader,
}

/// The header of the file, as later lines are compared with it.
pub(super) struct KnownHeader {
    /// The names, trimmed.
    names: Vec<String>,
    /// The names as headings are compared.
    plain: Vec<String>,
    /// The columns that feed the mandatory fields. A header of the same customers has them, too.
    mandatory: Vec<usize>,
}

impl KnownHeader {
    pub(super) fn new(header: &[String], columns: &ColumnMap) -> KnownHeader {
        let plain = header.iter().map(|name| plain(name)).collect();
        let mut mandatory = columns.mandatory_columns();
        mandatory.dedup();
        KnownHeader { names: header.to_vec(), plain, mandatory }
    }
}

/// Why the record is no row; none if it is one.
pub(super) fn no_row(record: &RawRecord<'_>, header: &KnownHeader, delimiter: u8) -> Option<NoRow> {
    if record.flaw.is_some() {
        return None;
    }
    if let Some(adjustment) = skipped(record.fields, header.names.len(), delimiter) {
        return Some(NoRow::Skipped(adjustment));
    }
    if is_header(record.fields, &header.names) {
        return Some(NoRow::Skipped(Adjustment::RepeatedHeader));
    }
    if has_digits(record.fields, header) {
        return None;
    }
    let cells: Vec<String> = (0..record.fields.len())
        .map(|at| plain(std::str::from_utf8(cell(record.fields, at)).unwrap_or_default()))
        .collect();
    let width = cells.len().max(header.plain.len());
    let name = |of: &[String], at: usize| of.get(at).cloned().unwrap_or_default();
    if (0..width).all(|at| name(&cells, at) == name(&header.plain, at)) {
        return Some(NoRow::Skipped(Adjustment::RepeatedHeader));
    }
    let has_all = header.mandatory.iter().all(|at| cells.contains(&header.plain[*at]));
    // One name alone may be the value of a cell.
    (has_all && header.mandatory.len() > 1).then_some(NoRow::OtherHeader)
}

/// Whether the record is no row, as far as that can be told without knowing which column feeds which field.
pub(super) fn is_no_row(record: &RawRecord<'_>, header: &[String], delimiter: u8) -> bool {
    record.flaw.is_none()
        && (skipped(record.fields, header.len(), delimiter).is_some() || is_header(record.fields, header))
}

/// Whether a cell of a mandatory field has a digit, as a value of a mobile number has and the name of a column rarely.
fn has_digits(fields: RawFields<'_>, header: &KnownHeader) -> bool {
    header.mandatory.iter().rev().any(|at| cell(fields, *at).iter().any(u8::is_ascii_digit))
}

/// The cell without ASCII blanks around it; empty where there is none.
fn cell<'a>(fields: RawFields<'a>, at: usize) -> &'a [u8] {
    fields.range(at).map_or(&[][..], |range| fields.bytes[range].trim_ascii())
}

/// Why the line is skipped, other than as a header; `columns` is the number of them.
fn skipped(fields: RawFields<'_>, columns: usize, delimiter: u8) -> Option<Adjustment> {
    let bytes = fields.bytes;
    let first = bytes.first().copied().unwrap_or(delimiter);
    // Tab to carriage return, with the vertical tab.
    let is_blank = first == delimiter || matches!(first, b' ' | 0x09..=0x0d) || !first.is_ascii();
    if is_blank && is_blank_row(fields) {
        return Some(Adjustment::BlankRow);
    }
    let may_be_drawn = is_blank || matches!(first, b'-' | b'+' | b'=' | b'|' | b':');
    let is_alone = fields.len() == 1 && columns > 1;
    if may_be_drawn && is_separator(bytes, delimiter) || is_alone && is_footer(bytes) {
        return Some(Adjustment::SeparatorLine);
    }
    None
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
fn is_header(fields: RawFields<'_>, header: &[String]) -> bool {
    let mark = "\u{feff}".as_bytes();
    let cell = |at: usize| cell(fields, at);
    let begin = cell(0).strip_prefix(mark).unwrap_or(cell(0));
    header.first().is_some_and(|name| name.as_bytes() == begin)
        && (1..header.len().max(fields.len()))
            .all(|at| header.get(at).map_or(&[][..], |name| name.as_bytes()) == cell(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::csv_reader::{CsvReader, Quote};

    fn of(line: &str, delimiter: u8) -> Option<NoRow> {
        let names = ["id", "mobile number"].map(str::to_owned).to_vec();
        let plain = names.iter().map(|name| plain(name)).collect();
        let header = KnownHeader { names, plain, mandatory: vec![0, 1] };
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
