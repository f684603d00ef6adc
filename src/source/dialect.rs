//! What the head of a file tells of how it is written: the delimiter, and delimiters that lead to no field.
//!
//! The header mostly tells alone: only one of the candidates stands in it, outside quotes. Where several do,
//! the rows that follow decide, since they fall into as many fields as the header only at the right one.
//! Where the first row has one empty field more than the header, or the header one more than the first row,
//! the rows after it tell whether that is the style of the file (some programs end each line but the header
//! with a delimiter, or the other way round) or the mistake of that row. It is the style only if every row
//! that is looked at has it: taking a field away from one row alone would hide that others are shifted.
//!
//! The answer depends on what stands in the file and never on the pieces in which it arrives. No more of it is
//! waited for than the answer needs, because a pipe may take its time.

use super::csv_reader::{Records, Rest};

/// What may stand between fields, the usual first.
const CANDIDATES: [u8; 4] = *b",;\t|";

/// How many rows are looked at where the header leaves a doubt. A mistake in the first is outvoted by so many.
const ROWS: usize = 10;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    /// What stands between fields.
    pub(super) delimiter: u8,
    /// Which lines end with one delimiter more than others.
    pub(super) trailing: Trailing,
}

impl Default for Dialect {
    fn default() -> Dialect {
        Dialect { delimiter: CANDIDATES[0], trailing: Trailing::Same }
    }
}

/// Which lines end with one delimiter more than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trailing {
    /// None.
    Same,
    /// The header alone.
    Header,
    /// The rows alone.
    Rows,
}

/// What the head tells; `None` if more of it is needed. `given` is the delimiter that the user names.
pub(super) fn find(head: &[u8], rest: Rest, given: Option<u8>) -> Option<Dialect> {
    let sample = |delimiter| Sample::take(head, rest, delimiter);
    let samples: Vec<Sample> = match given {
        Some(delimiter) => vec![sample(delimiter)?],
        None => CANDIDATES.into_iter().map(sample).collect::<Option<_>>()?,
    };
    let likely: Vec<&Sample> = samples.iter().filter(|sample| sample.columns > 1).collect();
    let best = match likely.as_slice() {
        [] => samples.first()?,
        [only] => only,
        several if rest == Rest::Some && several.iter().any(|sample| sample.rows.len() < ROWS) => {
            return None;
        }
        // Of equals the first: `max_by_key` would give the last.
        several => several.iter().rev().max_by_key(|sample| (sample.share_that_fits(), sample.columns))?,
    };
    Some(Dialect { delimiter: best.delimiter, trailing: best.trailing(rest)? })
}

/// The head, cut up at one delimiter.
struct Sample {
    delimiter: u8,
    columns: usize,
    /// How each of the first rows compares with the header; `None`: not at all.
    rows: Vec<Option<Trailing>>,
}

impl Sample {
    /// `None` if the header is not whole yet.
    fn take(head: &[u8], rest: Rest, delimiter: u8) -> Option<Sample> {
        let mut records = Records::of_head(head, delimiter);
        let mut sample = Sample { delimiter, columns: 0, rows: Vec::new() };
        let mut last_is_unnamed = false;
        while sample.rows.len() < ROWS {
            // A slice can be read.
            let Some(record) = records.next().ok().flatten() else { break };
            if !record.has_break && rest != Rest::None {
                // Half a record, which tells nothing; unless there is never going to be more of the header.
                if sample.columns == 0 && rest == Rest::Some {
                    return None;
                }
                if sample.columns > 0 {
                    break;
                }
            }
            let fields = record.fields;
            let width = fields.len();
            let ends_empty = fields
                .range(width.saturating_sub(1))
                .is_none_or(|range| fields.bytes[range].trim_ascii().is_empty());
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
        (sample.columns > 0 || rest != Rest::Some).then_some(sample)
    }

    /// In thousandths.
    fn share_that_fits(&self) -> usize {
        let fits = self.rows.iter().flatten().count();
        fits * 1000 / self.rows.len().max(1)
    }

    /// `None` if it takes more rows to tell.
    fn trailing(&self, rest: Rest) -> Option<Trailing> {
        let undecided = rest == Rest::Some && self.rows.len() < ROWS;
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
        let dialect = find(head.as_bytes(), Rest::None, None).unwrap();
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
            ("\"a\n,b,c\" ;d\n", ';'),
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
            // No row tells: the one that gives more columns.
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
        let answers = |head: &str| find(head.as_bytes(), Rest::Some, None).is_some();
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
