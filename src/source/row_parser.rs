//! Turns a raw record into a `Row`: checks that it is text and as wide as the header, and assigns each cell to its field.
//!
//! A fault of the record as a whole (bytes that are not text, a malformed quote, too many cells) names no field, and no
//! rule is applied: the cells of a row that may be shifted cannot be judged. The row keeps the readable part of its cells,
//! so that its owner can find it.

use std::{
    str::Utf8Error,
    sync::{Mutex, PoisonError},
};

use memchr::{memchr_iter, memchr2};

use super::{
    adjustments::{Adjustment, Adjustments},
    columns::{ColumnMap, with_template_faults},
    csv_reader::{
        CELL_MAX_BYTES, Flaw, Opening, Quote, QuotePosition, RECORD_MAX_BYTES, RECORD_MAX_CELLS, RawCells,
        RawRecord,
    },
    decode::{Encoding, invalid_byte, lossy},
};
use crate::customer::{
    BACKSLASH, COMMENT, CONFLICT, Cells, CorrectedOutcome, Correction, EXPORT_ENCODING, Fault, Faults, Field,
    LINE_SEPARATOR, NULS, QUOTED_ROW, Record, Rescues, Row, Rule, Rules, TEXT_QUOTES, ValidRecord, counted,
    typographic_quotes,
};

/// Minimum number of digits of a line inside a header that looks like a row: those of a short mobile number.
const ROW_DIGITS_MIN: usize = 6;

/// How many bytes of each cell are kept of a record that contains following records: enough to find it.
const SHOWN_BYTES: usize = 64;

/// The column names, trimmed. Fails if the header is not text, with the byte and its position.
pub(super) fn read_header(record: &RawRecord<'_>, encoding: Encoding) -> Result<Vec<String>, String> {
    let cells = record.cells;
    let text = cells.text().map_err(|error| not_text(cells, error, encoding))?;
    Ok(cells.texts(text).map(|cell| cell.trim().to_owned()).collect())
}

/// How the records of one source are read.
#[derive(Clone, Copy)]
pub(super) struct RowContext<'a> {
    pub(super) columns: &'a ColumnMap,
    pub(super) rules: &'a Rules,
    pub(super) encoding: Encoding,
    pub(super) delimiter: u8,
    pub(super) quote: Quote,
    pub(super) adjustments: &'a Adjustments,
    /// Options to try on each invalid row.
    pub(super) rescues: Option<&'a Mutex<Rescues>>,
}

/// Parses a record into a row; none if `wants` refuses the row. `text` is the text of the record's cells, and
/// `other_header` is the line of a header with other columns, if the record is that header or follows it.
pub(super) fn read_row(
    record: &RawRecord<'_>,
    text: Result<&str, Utf8Error>,
    context: RowContext<'_>,
    other_header: Option<u64>,
    mut wants: impl FnMut(u64, &Result<ValidRecord<'_>, Faults>, Option<&Correction>) -> bool,
) -> Option<Row> {
    let RowContext { columns, rules, adjustments, rescues, .. } = context;
    let cells = record.cells;
    let mut misread = |kept: Record, rule, seen: String| {
        let reading = Err(Faults { list: vec![Fault { field: None, rule, seen }], reference: None });
        wants(record.line, &reading, None).then(|| Row {
            line: record.line,
            record: kept,
            reading: reading.map(ValidRecord::customer),
            corrects: None,
        })
    };
    let text = match text {
        Ok(text) => text,
        Err(error) => {
            let (kept, seen) = not_text_row(cells, error, context);
            return misread(kept, Rule::Encoding, seen);
        }
    };
    if let (Some(line), None) = (other_header, record.flaw) {
        return misread(Record::new(cells.texts(text)), Rule::Header, describe_header(line, record.line));
    }
    if let Err((kept, rule, seen)) = check_layout(text, record, context) {
        return misread(kept, rule, seen);
    }
    let cell = |at: usize| cells.range(at).map_or("", |range| &text[range]);
    let value = |at: usize| rules.without_marker(cell(at));
    let rendered = columns.render(value);
    let by_field = columns.cells(value, &rendered);
    adjustments.add_null_markers(columns.null_marked(rules, cell), record.line);
    if record.line < record.last_line {
        adjustments.add_line_breaks(&by_field, record.line);
    }
    let mut reading = rules.check(&by_field);
    if !rendered.is_empty() {
        reading = with_template_faults(reading, &rendered);
    }
    adjustments.add_values(&reading, record.line);
    let control = if may_have_control(cells.bytes) { control_elsewhere(cell, columns) } else { None };
    if let (None, Some(rescues)) = (&control, rescues) {
        try_options(rescues, &by_field, &reading);
    }
    if let Some(control) = control {
        reading = Err(with_fault(reading, control));
    }
    let corrects = columns.correction.and_then(|indices| {
        let reference = match &reading {
            Ok(valid) => Some(valid.reference()),
            Err(faults) => faults.reference.as_deref(),
        };
        correction(indices.map(cell), columns.field.map(cell), columns.message.map(cell), reference)
    });
    wants(record.line, &reading, corrects.as_deref()).then(|| Row {
        line: record.line,
        record: Record::new(columns.kept.iter().map(|at| cell(*at))),
        reading: reading.map(ValidRecord::customer),
        corrects,
    })
}

/// Tries the options that are not given on a row.
fn try_options(rescues: &Mutex<Rescues>, cells: &Cells<'_>, reading: &Result<ValidRecord<'_>, Faults>) {
    let mut rescues = rescues.lock().unwrap_or_else(PoisonError::into_inner);
    match reading {
        Ok(_) => rescues.try_valid(cells),
        Err(faults) => rescues.try_row(cells, faults),
    }
}

/// What is kept of a record that is not text, and what was seen.
fn not_text_row(
    cells: RawCells<'_>,
    error: Utf8Error,
    RowContext { columns, encoding, .. }: RowContext<'_>,
) -> (Record, String) {
    let kept: Vec<String> =
        columns.kept.iter().map(|at| lossy(cells.cell(*at), !encoding.is_utf8())).collect();
    let mut seen = not_text(cells, error, encoding);
    if columns.correction.is_some() && encoding.is_utf8() {
        seen = format!("{seen}, {EXPORT_ENCODING}");
    }
    (Record::new(kept.iter().map(String::as_str)), seen)
}

/// Checks that each cell can be assigned to a column. Fails with the part of the record that is kept, the rule that
/// it breaks, and what was seen.
fn check_layout(
    text: &str,
    record: &RawRecord<'_>,
    RowContext { columns, adjustments, delimiter, .. }: RowContext<'_>,
) -> Result<(), (Record, Rule, String)> {
    let cells = record.cells;
    if let Some(flaw) = record.flaw {
        if !matches!(flaw, Flaw::LongCell { .. } | Flaw::ManyCells) {
            adjustments.add_lines(Adjustment::SwallowedLine, record.line + 1, record.last_line);
        }
        // A quote may have swallowed the lines that follow; the beginning of each cell is enough to find the row.
        let heads = cells.texts(text).map(|cell| &cell[..cell.floor_char_boundary(SHOWN_BYTES)]);
        let (rule, seen) = describe(flaw, record.line, record.last_line);
        return Err((Record::new(heads), rule, seen));
    }
    if is_one_cell(text, cells, columns, delimiter) {
        return Err((Record::new(cells.texts(text)), Rule::Fields, QUOTED_ROW.into()));
    }
    match width(text, cells, columns) {
        Ok(None) => {}
        Ok(Some(adjustment)) => adjustments.add(adjustment, record.line),
        // Every cell is kept: only the user can say which cell belongs to which column.
        Err(seen) => {
            let seen = no_row_of(text, cells).map_or(seen.clone(), |what| format!("{seen}; {what}"));
            return Err((Record::new(cells.texts(text)), Rule::Fields, seen));
        }
    }
    if record.is_cut {
        adjustments.add(Adjustment::CutCell, record.line);
    }
    Ok(())
}

/// Describes a header with other columns on line `header`, as seen from the row on `line`.
fn describe_header(header: u64, line: u64) -> String {
    if header == line {
        "a header whose columns are not those of the first".into()
    } else {
        format!("after the header on line {header}, whose columns are not those of the first")
    }
}

/// Reads the cells of a failed export, which a spreadsheet or a script may have rewritten: a duplicate that is not
/// recognized would overwrite the customer of the row that it repeats.
fn correction(
    [line, outcome, code]: [&str; 3],
    field: Option<&str>,
    message: Option<&str>,
    reference: Option<&str>,
) -> Option<Box<Correction>> {
    let code = code.trim().to_ascii_lowercase();
    let repeats = message.and_then(|message| Correction::repeats(message, reference));
    // The message alone shows a duplicate, too.
    let outcome = CorrectedOutcome::read(outcome, &code).or(repeats.and(Some(CorrectedOutcome::Duplicate)))?;
    let field = field.unwrap_or_default().trim().to_ascii_lowercase();
    let reference_was_read = Correction::reference_was_read(&field, &code);
    Some(Box::new(Correction { line: line_of_cell(line), outcome, code, repeats, reference_was_read }))
}

/// The line in a cell, also as a decimal or with grouped digits; 0, which no row has, if there is none.
fn line_of_cell(cell: &str) -> u64 {
    let (whole, decimals) = cell.trim().split_once('.').unwrap_or((cell.trim(), ""));
    let digits: String = whole.chars().filter(|c| *c != ',').collect();
    digits.parse().ok().filter(|_| decimals.bytes().all(|digit| digit == b'0')).unwrap_or_default()
}

/// Describes the first byte that is not text, with its position.
fn not_text(cells: RawCells<'_>, error: Utf8Error, encoding: Encoding) -> String {
    let offset = error.valid_up_to();
    let column = cells.index_of(offset);
    let begin = cells.range(column).map_or(0, |range| range.start);
    let position = lossy(&cells.bytes[begin..offset], false).chars().count() + 1;
    let rest = &cells.bytes[offset..];
    let byte = if encoding.is_utf8() { rest.first().copied() } else { invalid_byte(rest) };
    let name = encoding.name();
    format!("byte 0x{:02X} at position {position} of column {} is not {name}", byte.unwrap_or(0), column + 1)
}

/// What is wrong with a header that cannot be parsed as intended.
pub(super) fn header_flaw(record: &RawRecord<'_>) -> Option<String> {
    match record.flaw {
        Some(flaw) => Some(describe(flaw, record.line, record.last_line).1),
        None => record.is_cut.then(|| format!("more than {} KiB", RECORD_MAX_BYTES / 1024)),
    }
}

/// A header of several lines.
pub(super) struct HeaderLines {
    /// The cells of the header, with delimiters between them.
    cells: Vec<u8>,
    first: u64,
    last: u64,
}

impl HeaderLines {
    /// The lines of a header; none if it is a single line.
    pub(super) fn of(record: &RawRecord<'_>) -> Option<HeaderLines> {
        let (first, last) = (record.line, record.last_line);
        (first < last).then(|| HeaderLines { cells: record.cells.bytes.to_vec(), first, last })
    }

    /// Describes the quote that has swallowed rows, if a line after the first one looks like a row.
    pub(super) fn swallowed_rows(
        &self,
        delimiter: u8,
        is_row: impl Fn(RawCells<'_>) -> bool,
    ) -> Option<String> {
        let reads_as_row = |line: &&[u8]| {
            // Under lenient rules, column names may pass as values.
            let digits = line.iter().filter(|byte| byte.is_ascii_digit()).count();
            let ends: Vec<usize> = memchr_iter(delimiter, line).chain([line.len()]).collect();
            digits >= ROW_DIGITS_MIN && is_row(RawCells { bytes: line, ends: &ends })
        };
        let lines = self.cells.split(|byte| matches!(byte, b'\n' | b'\r'));
        let rows = lines.skip(1).filter(reads_as_row).count() as u64;
        let first_break = memchr2(b'\n', b'\r', &self.cells)?;
        let column = memchr_iter(delimiter, &self.cells[..first_break]).count();
        let opened = Opening { line: self.first, column };
        (rows > 0).then(|| describe(Flaw::SwallowedRows { opened, rows }, self.first, self.last).1)
    }
}

/// The rule that a malformed record breaks, and what was seen. The record is on the lines from `first` to `last`.
fn describe(flaw: Flaw, first: u64, last: u64) -> (Rule, String) {
    let swallowed = match last - first {
        0 => String::new(),
        1 => format!("swallowed line {last}"),
        lines => format!("swallowed {lines} lines, {} to {last}", first + 1),
    };
    let and_it = if swallowed.is_empty() { String::new() } else { format!("; it {swallowed}") };
    let at = |quote: QuotePosition| {
        let QuotePosition { line, position, column } = quote;
        format!("at position {position} of line {line}, in column {}", column + 1)
    };
    let seen = match flaw {
        Flaw::LongCell { column, bytes } => {
            let most = CELL_MAX_BYTES / 1024;
            let seen =
                format!("a cell of {bytes} bytes in column {}, where {most} KiB may be{and_it}", column + 1);
            return (Rule::TooLong, seen);
        }
        Flaw::ManyCells => return (Rule::Fields, format!("more than {RECORD_MAX_CELLS} fields")),
        Flaw::SwallowedRows { opened: Opening { line, column }, rows } => {
            let column = column + 1;
            let rows = if rows == 1 { "one reads as a row".into() } else { format!("{rows} read as rows") };
            format!("a quote in column {column} of line {line} {swallowed}; {rows}")
        }
        Flaw::BlankBeforeQuote(quote) => format!("a blank before the opening quote {}{and_it}", at(quote)),
        Flaw::TextAfterQuote(quote) => format!("text after the closing quote {}{and_it}", at(quote)),
        Flaw::BlankAfterQuote(quote) => format!("a blank after the closing quote {}{and_it}", at(quote)),
        Flaw::EscapedQuote(quote) => {
            format!("text after the closing quote {}, {BACKSLASH}{and_it}", at(quote))
        }
        Flaw::OpenQuote(Opening { line, column }) => {
            format!("a quote in column {} of line {line} is never closed{and_it}", column + 1)
        }
    };
    (Rule::Quotes, seen)
}

/// How the number of cells is adjusted to the header; fails if it does not fit. Only empty cells are ignored, and
/// only cells after the last mandatory column may be missing.
fn width(text: &str, cells: RawCells<'_>, columns: &ColumnMap) -> Result<Option<Adjustment>, String> {
    let (width, header) = (cells.len(), columns.width);
    let expected = header + usize::from(columns.rows_trail);
    let are_rest_empty = || cells.texts(text).skip(header).all(|cell| cell.trim().is_empty());
    match width {
        _ if width == expected && (width == header || are_rest_empty()) => Ok(None),
        _ if width < expected && width >= columns.least_width && are_rest_empty() => {
            Ok(Some(Adjustment::MissingCells))
        }
        _ if width > expected && are_rest_empty() => Ok(Some(Adjustment::ExtraCells)),
        _ if columns.rows_trail => {
            Err(format!("{} where the rows before have {header} and an empty one", counted(width, "field")))
        }
        _ => Err(format!("{} where the header has {header}", counted(width, "field"))),
    }
}

/// What a record is that is not a row of this file, if its text shows it.
fn no_row_of(text: &str, cells: RawCells<'_>) -> Option<&'static str> {
    let is_comment = |start: &str| ["#", "//", "-- "].iter().any(|mark| start.starts_with(mark));
    match text.trim_start() {
        _ if text.bytes().all(|byte| byte == 0) => Some(NULS),
        start if cells.len() == 1 && ["<<<<<<< ", ">>>>>>> "].iter().any(|mark| start.starts_with(mark)) => {
            Some(CONFLICT)
        }
        start if is_comment(start) && (cells.len() == 1 || start.starts_with("# ")) => Some(COMMENT),
        _ if text.contains(is_line_separator) => Some(LINE_SEPARATOR),
        _ if is_held_by_quotes(text, cells) => Some(TEXT_QUOTES),
        _ => None,
    }
}

/// Whether a cell begins with a typographic quote and a later one ends with its counterpart.
fn is_held_by_quotes(text: &str, cells: RawCells<'_>) -> bool {
    if text.is_ascii() {
        return false;
    }
    let cells: Vec<&str> = cells.texts(text).map(str::trim).collect();
    typographic_quotes().any(|(open, close)| {
        let opened = cells.iter().position(|cell| cell.starts_with(open) && !cell.ends_with(close));
        opened.is_some_and(|at| cells[at + 1..].iter().any(|cell| cell.ends_with(close)))
    })
}

/// Whether a character ends a line for some programs, but not in a CSV file.
pub(super) fn is_line_separator(c: char) -> bool {
    matches!(c, '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Whether the only cell of a record contains the cells of a row, because the whole line is quoted.
fn is_one_cell(text: &str, cells: RawCells<'_>, columns: &ColumnMap, delimiter: u8) -> bool {
    if cells.len() > 1 || columns.width == 1 {
        return false;
    }
    let inside = memchr_iter(delimiter, text.as_bytes()).count() + 1;
    // Delimiters inside inner quotes are counted, too.
    let fits = inside == columns.width || inside > columns.width && text.contains('"');
    // With two columns, it may be a value with a comma, followed by a missing cell.
    fits && (columns.width > 2 || columns.least_width > 1)
}

/// Whether a line inside a quote looks like a row: wide enough, and with required fields that break no rule, or only one
/// that an owner would still recognize. If no required field has a value other than a constant, a row cannot be
/// distinguished from other text.
pub(super) fn reads_as_row(cells: RawCells<'_>, columns: &ColumnMap, rules: &Rules, quote: Quote) -> bool {
    let Ok(text) = cells.text() else { return false };
    let is_quote = |c: char| matches!(quote, Quote::Char(quote) if c == char::from(quote));
    let cell = |at: usize| {
        cells.range(at).map_or("", |range| rules.without_marker(text[range].trim_matches(is_quote)))
    };
    let rendered = columns.render(cell);
    let by_field = columns.cells(cell, &rendered);
    let value = |field: Field| by_field[field as usize].map(str::trim).filter(|value| !value.is_empty());
    let (number, reference) = (value(Field::MobileNumber), value(Field::Reference));
    let is_whole = cells.len() == columns.width + usize::from(columns.rows_trail);
    let is_id = reference.is_some_and(|reference| !reference.contains(char::is_whitespace));
    let is_number = number.is_some_and(is_like_number);
    // Cells may be missing or too many, as in any row, if the others cannot be part of a sentence.
    let fits = is_whole || is_id && is_number && width(text, cells, columns).is_ok();
    if !fits || number.is_none() && !is_id {
        return false;
    }
    let is_required = |field: &Field| field.is_mandatory() || rules.require.contains(field);
    if !Field::ALL.iter().any(|field| is_required(field) && value(*field).is_some()) {
        return false;
    }
    let faults = match with_template_faults(rules.check(&by_field), &rendered) {
        Ok(_) => return true,
        Err(faults) => faults.list,
    };
    let is_at_fault = |field: Field| faults.iter().any(|fault| fault.field == Some(field));
    match (is_at_fault(Field::Reference), is_at_fault(Field::MobileNumber)) {
        (false, false) => {
            number.is_some()
                || !faults.iter().filter_map(|fault| fault.field).any(|field| is_required(&field))
        }
        // A row that would be invalid is one, too.
        (false, true) => is_number,
        (true, false) => is_id && is_number,
        (true, true) => false,
    }
}

/// Whether a value has the digits of a phone number and no letter.
fn is_like_number(value: &str) -> bool {
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    digits >= ROW_DIGITS_MIN && !value.contains(char::is_alphabetic)
}

/// A fast check with rare false positives. A tab or a line break is not a fault in a cell that is not sent.
fn may_have_control(bytes: &[u8]) -> bool {
    bytes.iter().fold(false, |found, byte| {
        // 0xC2 begins U+0080 to U+00BF, half of which are control characters.
        let control = *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r');
        found | control | (*byte == 0x7f) | (*byte == 0xc2)
    })
}

/// The first control character in a column that feeds no field. Columns that feed one have rules of their own.
fn control_elsewhere<'a>(cell: impl Fn(usize) -> &'a str, columns: &ColumnMap) -> Option<Fault> {
    let others = columns.kept.iter().filter(|at| !columns.is_used(**at));
    others.copied().find_map(|at| {
        let is_control = |c: &char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
        let (position, c) = cell(at).chars().enumerate().find(|(_, c)| is_control(c))?;
        let (code, position, column) = (u32::from(c), position + 1, at + 1);
        let seen = format!("a control character (U+{code:04X}) at position {position} of column {column}");
        Some(Fault { field: None, rule: Rule::Control, seen })
    })
}

/// Inserts a fault of the record before the faults of its fields.
fn with_fault(reading: Result<ValidRecord<'_>, Faults>, fault: Fault) -> Faults {
    match reading {
        Ok(valid) => {
            let reference = valid.customer().reference.as_str().to_owned();
            Faults { list: vec![fault], reference: Some(reference) }
        }
        Err(mut faults) => {
            faults.list.insert(0, fault);
            faults
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::columns::FieldSource, *};

    fn row(bytes: &[u8], ends: &[usize], flaw: Option<Flaw>, encoding: Encoding) -> String {
        let cells = RawCells { bytes, ends };
        let record = RawRecord {
            line: 2,
            last_line: 5,
            cells,
            flaw,
            is_cut: false,
            after_mark: false,
            has_break: true,
        };
        let columns = ColumnMap {
            width: 2,
            by_field: [
                Some(FieldSource::Column(0)),
                Some(FieldSource::Column(0)),
                None,
                None,
                None,
                None,
                None,
            ],
            kept: vec![0, 1],
            correction: None,
            field: None,
            message: None,
            rows_trail: false,
            least_width: 2,
            has_templates: false,
        };
        let context = RowContext {
            columns: &columns,
            rules: &Rules::default(),
            encoding,
            delimiter: b',',
            quote: Quote::default(),
            adjustments: &Adjustments::default(),
            rescues: None,
        };
        match read_row(&record, cells.text(), context, None, |_, _, _| true).unwrap().reading {
            Ok(_) => "valid".into(),
            Err(faults) => {
                let words = |fault: &Fault| format!("{}: {}", fault.rule, fault.seen);
                faults.list.iter().map(words).collect::<Vec<_>>().join("; ")
            }
        }
    }

    #[test]
    fn halves_of_a_character_are_not_text() {
        let utf8 = Encoding::default();
        let seen = row(b"\xc3,\xa9", &[1, 3], None, utf8);
        assert_eq!(seen, "encoding: byte 0xC3 at position 1 of column 1 is not UTF-8");
        let seen = row("é,ab\u{e9}".as_bytes()[..6].as_ref(), &[2, 6], None, utf8);
        assert_eq!(seen, "encoding: byte 0xC3 at position 3 of column 2 is not UTF-8");
        let shift_jis = Encoding::from_label("sjis").unwrap();
        let seen = row(b"1,ab\xfa\x81", &[1, 6], None, shift_jis);
        assert_eq!(seen, "encoding: byte 0x81 at position 3 of column 2 is not Shift_JIS");
    }

    #[test]
    fn controls_are_faults_wherever_they_stand() {
        let of = |text: &str| row(text.as_bytes(), &[8, text.len()], None, Encoding::default());
        assert_eq!(of("12345678,a\tb\r\nc£"), "valid");
        assert_eq!(of("12345678,a\0b"), "control: a control character (U+0000) at position 2 of column 2");
        assert_eq!(of("12345678,£\u{81}"), "control: a control character (U+0081) at position 2 of column 2");
        assert!(
            of("1234567\x7f,\x1b")
                .starts_with("control: a control character (U+001B) at position 1 of column 2; ")
        );
    }

    #[test]
    fn a_flaw_names_its_lines() {
        let opened = Opening { line: 2, column: 1 };
        let seen = |flaw| row(b"a,b", &[1, 3], Some(flaw), Encoding::default());
        assert_eq!(
            seen(Flaw::OpenQuote(opened)),
            "quotes: a quote in column 2 of line 2 is never closed; it swallowed 3 lines, 3 to 5"
        );
        assert_eq!(
            seen(Flaw::SwallowedRows { opened, rows: 2 }),
            "quotes: a quote in column 2 of line 2 swallowed 3 lines, 3 to 5; 2 read as rows"
        );
    }
}
