//! Detects the dialect of a file from its head: the delimiter, and whether lines end with an extra delimiter.
//!
//! Usually the header decides: only one candidate occurs in it outside quotes. If several do, the rows decide: only
//! the right delimiter splits them into as many cells as the header. If the first row has one empty cell more than
//! the header, or the header one more than the first row, the following rows show whether that is the style of the
//! file (some programs end every line but the header with a delimiter, or only the header) or a mistake in one row.
//! It is the style only if every inspected row agrees: to drop a cell from one row alone would hide that other rows
//! are shifted.
//!
//! The result depends on the content of the file, never on the pieces in which it arrives. Detection reads no more
//! than it needs, because a pipe may be slow.

use super::{
    csv_reader::{CsvReader, Quote, Remaining},
    skipped_line::is_separator,
};

/// Possible delimiters, the most common first.
pub(super) const CANDIDATES: [u8; 4] = *b",;\t|";

/// How many rows are inspected if the header is ambiguous: enough to outvote a mistake in the first row.
const ROWS: usize = 10;

/// The dialect of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    /// The byte between cells.
    pub(super) delimiter: u8,
    /// Which lines end with an extra delimiter.
    pub(super) trailing: Trailing,
}

impl Default for Dialect {
    fn default() -> Dialect {
        Dialect { delimiter: CANDIDATES[0], trailing: Trailing::Same }
    }
}

/// The user's settings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Given {
    /// The byte between cells, if it is not to be detected.
    pub(super) delimiter: Option<u8>,
    /// The character that quotes a cell.
    pub(super) quote: Quote,
}

/// Which lines end with an extra delimiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trailing {
    /// No line, or every line.
    Same,
    /// Only the header.
    Header,
    /// Only the rows.
    Rows,
}

/// The dialect of a head; `None` if a longer head is needed.
pub(super) fn detect(head: &[u8], rest: Remaining, given: Given) -> Option<Dialect> {
    let sample = |delimiter| Sample::read(head, rest, delimiter, given.quote);
    let is_free = |delimiter: &u8| Quote::Char(*delimiter) != given.quote;
    let samples: Vec<Sample> = match given.delimiter {
        Some(delimiter) => vec![sample(delimiter)?],
        None => CANDIDATES.into_iter().filter(is_free).map(sample).collect::<Option<_>>()?,
    };
    let likely: Vec<&Sample> = samples.iter().filter(|sample| sample.columns > 1).collect();
    let best = match likely.as_slice() {
        [] => samples.first()?,
        [only] => only,
        several if rest == Remaining::More && several.iter().any(|sample| sample.rows.len() < ROWS) => {
            return None;
        }
        // The first of equals; `max_by_key` alone would return the last.
        several => several.iter().rev().max_by_key(|sample| (sample.share_that_fits(), sample.columns))?,
    };
    Some(Dialect { delimiter: best.delimiter, trailing: best.trailing(rest)? })
}

/// The head, split at one delimiter.
struct Sample {
    delimiter: u8,
    columns: usize,
    /// How the width of each inspected row relates to the header; `None` if it does not fit.
    rows: Vec<Option<Trailing>>,
}

impl Sample {
    /// `None` if the header is still incomplete.
    fn read(head: &[u8], rest: Remaining, delimiter: u8, quote: Quote) -> Option<Sample> {
        let mut records = CsvReader::over_head(head, delimiter, quote);
        let mut sample = Sample { delimiter, columns: 0, rows: Vec::new() };
        let mut last_is_unnamed = false;
        while sample.rows.len() < ROWS {
            // Reading from a slice cannot fail.
            let Some(record) = records.next(&|_| false).ok().flatten() else { break };
            if !record.has_break && rest != Remaining::None {
                // An incomplete record is no evidence, unless the header can never be completed.
                if sample.columns == 0 && rest == Remaining::More {
                    return None;
                }
                if sample.columns > 0 {
                    break;
                }
            }
            let cells = record.cells;
            // A separator line of a SQL tool has a width unlike any row's.
            if is_separator(cells.bytes, delimiter) {
                continue;
            }
            let width = cells.len();
            let ends_empty = cells.cell(width.saturating_sub(1)).trim_ascii().is_empty();
            if sample.columns == 0 {
                (sample.columns, last_is_unnamed) = (width.max(1), ends_empty);
            } else {
                sample.rows.push(match width {
                    _ if width == sample.columns => Some(Trailing::Same),
                    _ if width == sample.columns + 1 && ends_empty => Some(Trailing::Rows),
                    _ if width + 1 == sample.columns && last_is_unnamed => Some(Trailing::Header),
                    _ => None,
                });
            }
        }
        (sample.columns > 0 || rest != Remaining::More).then_some(sample)
    }

    /// The share of rows that fit the header, in thousandths.
    fn share_that_fits(&self) -> usize {
        let fits = self.rows.iter().flatten().count();
        fits * 1000 / self.rows.len().max(1)
    }

    /// `None` if more rows are needed.
    fn trailing(&self, rest: Remaining) -> Option<Trailing> {
        let undecided = rest == Remaining::More && self.rows.len() < ROWS;
        let style = match self.rows.first() {
            None if undecided => return None,
            Some(Some(style @ (Trailing::Header | Trailing::Rows))) => *style,
            _ => return Some(Trailing::Same),
        };
        let is_broken = self.rows.iter().any(|row| *row != Some(style));
        if undecided && !is_broken {
            return None;
        }
        Some(if is_broken { Trailing::Same } else { style })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(head: &str) -> (char, Trailing) {
        let dialect = detect(head.as_bytes(), Remaining::None, Given::default()).unwrap();
        (dialect.delimiter.into(), dialect.trailing)
    }

    #[test]
    fn the_delimiter_is_found_in_the_header() {
        for (head, delimiter) in [
            ("a,b,c\n1;2;3;4;5", ','),
            ("a;b\n1,5;2,5\n", ';'),
            ("\n\na\tb\n", '\t'),
            ("a|b|c", '|'),
            ("\"a,b,c\";d\n", ';'),
            ("\"a\n,b,c\";d\n", ';'),
            ("alone\n1,2", ','),
            ("", ','),
        ] {
            assert_eq!(of(head).0, delimiter, "{head:?}");
        }
    }

    #[test]
    fn rows_decide_where_the_header_leaves_a_doubt() {
        for (head, delimiter) in [
            ("Umsatz, netto;Telefon, mobil;Kunde, Nr\n5;1;A\n6;2;B\n", ';'),
            ("id,phone,notes; remarks; more; words\n1,2,x\n", ','),
            ("id,phone,a;b;c;d\n1,2,\"x;y;z\"\n3,4,5\n", ','),
            ("id;phone|mobile;name\n1;2;3\n", ';'),
            // No row decides: the candidate that gives more columns wins.
            ("a;b,c,d\n", ','),
            ("a,b;c\n", ','),
        ] {
            assert_eq!(of(head).0, delimiter, "{head:?}");
        }
    }

    #[test]
    fn delimiters_at_the_end_are_a_style_only_if_all_rows_have_it() {
        for (head, trailing) in [
            ("a,b,\n1,2,\n", Trailing::Same),
            ("a,b\n1,2,\n", Trailing::Rows),
            ("a,b\n1,2,\n3,4, \n5,6,\n", Trailing::Rows),
            ("a,b\n1,2,\n3,4\n", Trailing::Same),
            ("a,b\n1,2\n3,4,\n", Trailing::Same),
            ("a,b\n1,2,\n3,4,x\n", Trailing::Same),
            ("a,b,\n1,2\n3,4\n", Trailing::Header),
            ("a,b,\n1,2\n3,4,\n", Trailing::Same),
            ("a,b,c\n1,2\n", Trailing::Same),
            ("a,b\n", Trailing::Same),
        ] {
            assert_eq!(of(head).1, trailing, "{head:?}");
        }
    }

    #[test]
    fn no_more_is_waited_for_than_the_answer_needs() {
        let answers = |head: &str| detect(head.as_bytes(), Remaining::More, Given::default()).is_some();
        for (head, enough) in [
            ("", false),
            ("a,b", false),
            ("a,b\n", false),
            ("a,b\n1,2", false),
            ("a,b\n1,2\n", true),
            ("a,b\n1,2,\n", false),
            ("a,b\n1,2,\n3,4\n", true),
            ("a,b;c\n1,2\n", false),
            ("a,b;c\n1,2\n1,2\n1,2\n1,2\n1,2\n1,2\n1,2\n1,2\n1,2\n1,2\n", true),
            ("\"a\n,b\n1,2\n", false),
        ] {
            assert_eq!(answers(head), enough, "{head:?}");
        }
    }
}
