//! Why a first line is no header, once a required column is missing: what the line is instead, and the one thing to do.

use super::dialect::CANDIDATES;

/// Delimiters that are not detected, because they are too common in text.
const OTHER_DELIMITERS: [char; 5] = ['~', '^', ':', '\u{1}', '\u{1f}'];

/// The shape of a first line that is no header of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HeaderShape {
    /// `sep=;`, by which Excel is told the delimiter.
    SeparatorLine(char),
    /// A title; the header is on this line.
    Title(u64),
    /// Each line is one quoted cell.
    QuotedLines,
    /// One cell, which this character splits.
    OneCell(char),
    /// The cells of a row.
    Row,
}

impl HeaderShape {
    /// The shape of a first line in which a required column is missing; none if it looks like a header. `delimiter` is
    /// the one in use, `given` the one that the user set, `later` are the lines that follow, each with its number and its
    /// cells, and `is_header` tells the cells of a header.
    pub(super) fn of(
        header: &[String],
        delimiter: u8,
        given: Option<u8>,
        later: &[(u64, Vec<String>)],
        is_header: impl Fn(&[String]) -> bool,
    ) -> Option<HeaderShape> {
        if let Some(character) = separator_line(header, delimiter) {
            return Some(HeaderShape::SeparatorLine(character));
        }
        if let Some((line, _)) = later.iter().find(|(_, cells)| is_header(cells)) {
            return Some(HeaderShape::Title(*line));
        }
        if let [only] = header {
            let splits = |character: &char| {
                let cells: Vec<String> = only.split(*character).map(|cell| cell.trim().to_owned()).collect();
                (cells.len() > 1).then_some((is_header(&cells), cells.len()))
            };
            let all = CANDIDATES.map(char::from).into_iter().chain(OTHER_DELIMITERS);
            let best = all.filter_map(|c| Some((splits(&c)?, c))).max_by_key(|(fit, _)| *fit);
            return best.map(|(_, character)| {
                // Without quotes around the whole line, a delimiter that is detected would have split it.
                let splits_unquoted = match given {
                    None => CANDIDATES.map(char::from).contains(&character),
                    Some(given) => char::from(given) == character,
                };
                if splits_unquoted { HeaderShape::QuotedLines } else { HeaderShape::OneCell(character) }
            });
        }
        header.iter().any(|cell| is_value(cell)).then_some(HeaderShape::Row)
    }

    /// What to do about it.
    pub(super) fn hint(&self) -> String {
        match self {
            HeaderShape::SeparatorLine(character) => {
                format!(
                    "the first line is Excel's sep= line: delete it, and give --delimiter {}",
                    argument(*character)
                )
            }
            HeaderShape::Title(line) => format!(
                "the header is on line {line}: delete the lines above it, such as by \
                 tail -n +{line} FILE | customer-import import -"
            ),
            HeaderShape::QuotedLines => {
                "each line is one quoted cell: remove the quotes around whole lines".into()
            }
            HeaderShape::OneCell(character) => {
                format!("the header is one cell; add --delimiter {}", argument(*character))
            }
            HeaderShape::Row => {
                "the first line looks like a row: put a header line with the names of the columns above it"
                    .into()
            }
        }
    }
}

/// The delimiter that a `sep=` line names.
fn separator_line(header: &[String], delimiter: u8) -> Option<char> {
    let (start, rest) = header.first()?.split_at_checked(4)?;
    if !start.eq_ignore_ascii_case("sep=") {
        return None;
    }
    // The delimiter itself splits the line, so that nothing is left of it.
    rest.chars().next().or(Some(char::from(delimiter)))
}

/// Whether a cell is a value rather than a name: a long number, or an e-mail address.
fn is_value(cell: &str) -> bool {
    let digits = cell.bytes().filter(u8::is_ascii_digit).count();
    let letters = cell.chars().filter(|c| c.is_alphabetic()).count();
    (digits >= 6 && letters == 0) || (cell.contains('@') && cell.contains('.'))
}

/// A delimiter as an argument for a shell.
fn argument(character: char) -> String {
    match character {
        '\t' => "tab".into(),
        c if c.is_ascii_control() => format!("'\\x{:02x}'", u32::from(c)),
        c => format!("'{c}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{ReadOptions, columns::ColumnMap},
        *,
    };

    fn is_header(cells: &[String]) -> bool {
        ColumnMap::find("", cells, &ReadOptions::default()).is_ok()
    }

    fn hint(lines: &[&[&str]]) -> Option<String> {
        let cells = |line: &&[&str]| line.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let later: Vec<_> =
            lines[1..].iter().enumerate().map(|(at, line)| (at as u64 + 2, cells(line))).collect();
        HeaderShape::of(&cells(&lines[0]), b';', None, &later, is_header).map(|shape| shape.hint())
    }

    #[test]
    fn a_first_line_that_is_no_header_is_named() {
        let header: &[&str] = &["object_reference_id", "mobile_number"];
        for (lines, words) in [
            (vec![&["sep=", ""][..], header], "--delimiter ';'"),
            (vec![&["SEP=|"], header], "--delimiter '|'"),
            (vec![&["Customers, January"], &[""], header], "header is on line 3"),
            (vec![&["object_reference_id,mobile_number"]], "each line is one quoted cell"),
            (vec![&["object_reference_id~mobile_number"]], "add --delimiter '~'"),
            (vec![&["object_reference_id\u{1}mobile_number"]], "add --delimiter '\\x01'"),
            (vec![&["customer-1", "9876500110"]], "looks like a row"),
            (vec![&["customer-1", "a@b.c"]], "looks like a row"),
        ] {
            let found = hint(&lines).unwrap_or_default();
            assert!(found.contains(words), "{lines:?}: {found}");
        }
        let one_cell = ["object_reference_id;mobile_number".to_owned()];
        let shape = HeaderShape::of(&one_cell, b',', Some(b','), &[], is_header);
        assert_eq!(shape, Some(HeaderShape::OneCell(';')));
        assert_eq!(hint(&[&["Id", "Phone"], &["1", "9876500110"]]), None);
    }
}
