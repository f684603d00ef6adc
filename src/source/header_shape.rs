//! Explains why a first line is not a header, once a required column is missing: what the line is instead, and what
//! to do about it.
//!
//! Most explanations are certain, because the line is a header if it is read in the suggested way. Those that only the look
//! of the line suggests come last. Reads nothing: the caller has the lines.

use super::dialect::CANDIDATES;
use crate::customer::{STRAIGHTEN, tool_message, typographic_quotes, visible};

/// Delimiters that are not detected, because they are too common in text. Any other delimiter is suggested only if it
/// splits the line into a header.
const OTHER_DELIMITERS: [char; 5] = ['~', '^', ':', '\u{1}', '\u{1f}'];

/// Quotes that programs write in place of `"`, opening and closing.
fn other_quotes() -> impl Iterator<Item = (char, char)> {
    [('\'', '\''), ('`', '`')].into_iter().chain(typographic_quotes())
}

/// What a first line is that is not a header of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HeaderShape {
    /// `sep=;`, which sets the delimiter in Excel.
    SeparatorLine(char),
    /// A title; the header is on this line.
    Title(u64),
    /// Each line is one quoted cell.
    QuotedLines,
    /// One cell, which this character would split into a header.
    OneCell(char),
    /// Several cells that are not a header; this character separates the names.
    OtherDelimiter(char),
    /// Names quoted with this character, with this delimiter between them if it is not the one in use.
    Quoted(char, Option<char>),
    /// Names separated by this text, which cannot be a delimiter: several characters, or one that is not ASCII.
    Between(String),
    /// Names aligned above their columns by several blanks.
    Aligned,
    /// The statements of an SQL dump.
    SqlDump,
    /// A mapping in YAML: `key: value` on each line.
    Yaml,
    /// Settings, as in TOML and INI: `key = value` on each line, possibly under `[headings]`.
    Settings,
    /// A line that a tool wrote instead of the file.
    Message(&'static str),
    /// A data row.
    Row,
}

impl HeaderShape {
    /// The shape of a first line in which a required column is missing; none if it looks like a header. `delimiter`
    /// is the one in use and `given` the one set by the user; `later` are the following lines, each with its number
    /// and its cells; `is_header` tests whether cells are a header.
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
        if let Some(quotes) = quotes_around(header).filter(|quotes| is_header(&unquoted(header, *quotes))) {
            return Some(HeaderShape::Quoted(quotes.0, None));
        }
        let line = header.join(&char::from(delimiter).to_string());
        if is_header(&aligned(&line)) || header.len() == 1 && is_aligned(&line, later) {
            return Some(HeaderShape::Aligned);
        }
        if later
            .iter()
            .filter_map(|(_, cells)| cells.first())
            .chain(header.first())
            .any(|cell| is_statement(cell))
        {
            return Some(HeaderShape::SqlDump);
        }
        let usual = match header {
            // A delimiter at the end makes another cell, an empty one.
            [only, rest @ ..] if rest.iter().all(String::is_empty) => split_as_usual(only, given, &is_header),
            _ => None,
        };
        if let Some(UsualSplit { shape, is_header: true }) = usual {
            return Some(shape);
        }
        if let Some(shape) = split_otherwise(&line, &is_header) {
            return Some(match (shape, header) {
                (HeaderShape::OtherDelimiter(character), [_]) => HeaderShape::OneCell(character),
                (shape, _) => shape,
            });
        }
        if let Some(message) = tool_message(&line) {
            return Some(HeaderShape::Message(message));
        }
        if let Some(shape) = keys_with_values(&line, delimiter, later) {
            return Some(shape);
        }
        if let Some(UsualSplit { shape, is_header: false }) = usual {
            return Some(shape);
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
            HeaderShape::OtherDelimiter(character) => {
                format!("this file has another delimiter; add --delimiter {}", argument(*character))
            }
            HeaderShape::Quoted(quote, None) if quote.is_ascii() => {
                format!("the names are in unusual quotes; add --quote {}", argument(*quote))
            }
            HeaderShape::Quoted(quote, Some(character)) if quote.is_ascii() => format!(
                "the names are in unusual quotes; add --quote {} --delimiter {}",
                argument(*quote),
                argument(*character)
            ),
            HeaderShape::Quoted(quote, _) => format!(
                "the names are in typographic quotes (U+{:04X} is the first), which are not CSV quotes: {STRAIGHTEN}",
                u32::from(*quote)
            ),
            HeaderShape::Between(between) => format!(
                "the columns are separated by {0}, and a delimiter is one ASCII character: \
                 sed 's/{1}/\\x1f/g' FILE | customer-import import - --delimiter '\\x1f'",
                visible(between),
                pattern(between)
            ),
            HeaderShape::Aligned => {
                "the columns are aligned with spaces, so empty cells cannot be recognized: export the table as CSV"
                    .into()
            }
            HeaderShape::SqlDump => {
                "this is an SQL dump: load it into a database, and export the table as CSV with a header"
                    .into()
            }
            HeaderShape::Yaml => "this is YAML: convert it to CSV, with yq -o=csv for example".into(),
            HeaderShape::Settings => {
                "this is a file of settings (TOML, INI or properties), not a table: give a CSV file".into()
            }
            HeaderShape::Message(what) => {
                format!(
                    "the first line is {what}: check what went wrong where the file was made, and export it again"
                )
            }
            HeaderShape::Row => {
                "the first line looks like a row: put a header line with the names of the columns above it"
                    .into()
            }
        }
    }
}

/// The trimmed cells between separators.
fn split(line: &str, separator: &str) -> Vec<String> {
    line.split(separator).map(|cell| cell.trim().to_owned()).collect()
}

/// The names separated by two or more blanks.
fn aligned(line: &str) -> Vec<String> {
    let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
    cells.map(str::to_owned).collect()
}

/// Whether the cells of the later lines begin below the names of this one, which several blanks separate.
fn is_aligned(line: &str, later: &[(u64, Vec<String>)]) -> bool {
    let line: Vec<char> = line.trim_end().chars().collect();
    let begins = |at: &usize| line[at - 2..*at] == [' ', ' '] && line[*at] != ' ';
    let columns: Vec<usize> = (2..line.len()).filter(begins).collect();
    let fits = |(_, cells): &(u64, Vec<String>)| match cells.as_slice() {
        [only] => {
            let row: Vec<char> = only.chars().collect();
            columns.iter().all(|at| row.len() > *at && row[at - 1] == ' ' && row[*at] != ' ')
        }
        _ => false,
    };
    !columns.is_empty() && !later.is_empty() && later.iter().all(fits)
}

/// The shape of a file in which every line has a key with its value, and not several cells.
fn keys_with_values(first: &str, delimiter: u8, later: &[(u64, Vec<String>)]) -> Option<HeaderShape> {
    let delimiter = char::from(delimiter).to_string();
    let later = later.iter().map(|(_, cells)| cells.join(&delimiter));
    let lines: Vec<String> = [first.to_owned()].into_iter().chain(later).collect();
    let is_comment = |line: &str| line.trim().is_empty() || line.starts_with(['#', ';']) || line == "---";
    let lines: Vec<&str> =
        lines.iter().map(|line| line.trim_end()).filter(|line| !is_comment(line)).collect();
    if lines.len() < 2 {
        return None;
    }
    let is_key = |key: &str| {
        key.starts_with(char::is_alphabetic)
            && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
    };
    let is_heading = |line: &str| {
        let name = line.strip_prefix('[').and_then(|line| line.strip_suffix(']'));
        name.is_some_and(|name| is_key(name.trim_start_matches('[').trim_end_matches(']')))
    };
    let is_setting =
        |line: &&str| is_heading(line) || line.split_once('=').is_some_and(|(key, _)| is_key(key.trim_end()));
    let is_pair = |line: &&str| {
        let (key, value) =
            line.split_once(": ").or_else(|| Some((line.strip_suffix(':')?, ""))).unwrap_or_default();
        is_key(key.trim_start().trim_start_matches("- ")) && !value.contains(": ")
    };
    if lines.iter().all(is_setting) && lines.iter().any(|line| !is_heading(line)) {
        Some(HeaderShape::Settings)
    } else if lines.iter().all(is_pair) {
        Some(HeaderShape::Yaml)
    } else {
        None
    }
}

/// The opening and the closing quote, if every name is quoted.
fn quotes_around(names: &[String]) -> Option<(char, char)> {
    let is_around = |name: &str, (open, close): (char, char)| {
        name.chars().count() > 1 && name.starts_with(open) && name.ends_with(close)
    };
    other_quotes().find(|quotes| names.iter().all(|name| is_around(name, *quotes)))
}

/// The names without their quotes.
fn unquoted(names: &[String], (open, close): (char, char)) -> Vec<String> {
    let inner = |name: &String| name.trim_start_matches(open).trim_end_matches(close).trim().to_owned();
    names.iter().map(inner).collect()
}

/// What a cell is that one of the usual delimiters splits.
struct UsualSplit {
    shape: HeaderShape,
    /// Whether the parts are a header. If not, only the look of the cell suggests the delimiter.
    is_header: bool,
}

/// Splits one cell at the usual delimiter that fits it best.
fn split_as_usual(
    cell: &str,
    given: Option<u8>,
    is_header: impl Fn(&[String]) -> bool,
) -> Option<UsualSplit> {
    let splits = |character: &char| {
        let cells = split(cell, &character.to_string());
        // A sentence may also contain a colon.
        let fits = is_header(&cells);
        let is_text = *character == ':' && (cell.contains(": ") || cells.len() == 2 && !fits);
        (cells.len() > 1 && !is_text).then_some((fits, cells.len()))
    };
    let all = CANDIDATES.map(char::from).into_iter().chain(OTHER_DELIMITERS);
    let best = all.filter_map(|c| Some((splits(&c)?, c))).max_by_key(|(fit, _)| *fit);
    best.map(|((is_header, _), character)| {
        // Unless the whole line is quoted, automatic detection would already have used the delimiter.
        let splits_unquoted = match given {
            None => CANDIDATES.map(char::from).contains(&character),
            Some(given) => char::from(given) == character,
        };
        let shape = if splits_unquoted { HeaderShape::QuotedLines } else { HeaderShape::OneCell(character) };
        UsualSplit { shape, is_header }
    })
}

/// The shape of a line that one or several other signs split into a header.
fn split_otherwise(line: &str, is_header: impl Fn(&[String]) -> bool) -> Option<HeaderShape> {
    let is_sign = |c: &char| !c.is_alphanumeric() && !matches!(c, '_' | '"');
    let mut signs: Vec<char> = line.chars().filter(is_sign).collect();
    signs.sort_unstable();
    signs.dedup();
    // A quote would also split the line.
    let quoted = signs.iter().filter(|sign| sign.is_ascii()).find_map(|sign| {
        let cells = split(line, &sign.to_string());
        let (quote, _) = quotes_around(&cells).filter(|quotes| is_header(&unquoted(&cells, *quotes)))?;
        Some(HeaderShape::Quoted(quote, Some(*sign)))
    });
    let plain = || {
        // Signs that remain alone in a cell are part of the separator.
        let is_whole = |cell: &String| cell.is_empty() || cell.contains(char::is_alphanumeric);
        let fits = |cells: &[String]| is_header(cells) && cells.iter().all(is_whole);
        let sign = signs.iter().find(|sign| fits(&split(line, &sign.to_string())))?;
        let is_delimiter = sign.is_ascii();
        Some(if is_delimiter {
            HeaderShape::OtherDelimiter(*sign)
        } else {
            HeaderShape::Between((*sign).into())
        })
    };
    let fits = |between: &String| is_header(&split(line, between));
    let between = || sequences(line).into_iter().find(fits).map(HeaderShape::Between);
    quoted.or_else(plain).or_else(between)
}

/// Candidates for a separator of several signs: `::`, `~|~`, `<>`.
fn sequences(line: &str) -> Vec<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut found: Vec<String> = Vec::new();
    for between in line.split(is_name).filter(|between| between.chars().count() > 1) {
        if !found.iter().any(|known| known == between) {
            found.push(between.to_owned());
        }
    }
    found
}

/// A text as a `sed` pattern between slashes, in single quotes.
fn pattern(text: &str) -> String {
    let mut pattern = String::new();
    for c in text.chars() {
        match c {
            '.' | '*' | '[' | ']' | '^' | '$' | '\\' | '/' => pattern.extend(['\\', c]),
            '\'' => pattern.push_str("'\\''"),
            c => pattern.push(c),
        }
    }
    pattern
}

/// The delimiter set by a `sep=` line.
fn separator_line(header: &[String], delimiter: u8) -> Option<char> {
    let (start, rest) = header.first()?.split_at_checked(4)?;
    if !start.eq_ignore_ascii_case("sep=") {
        return None;
    }
    // The delimiter itself splits the line, so nothing is left of it.
    rest.chars().next().or(Some(char::from(delimiter)))
}

/// Whether a line begins a statement of an SQL dump.
fn is_statement(line: &str) -> bool {
    const BEGINNINGS: [&[u8]; 4] = [b"INSERT INTO ", b"CREATE TABLE ", b"BEGIN TRANSACTION;", b"DROP TABLE "];
    BEGINNINGS.into_iter().any(|beginning| line.as_bytes().starts_with(beginning))
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
        '\'' => "\"'\"".into(),
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
            (vec![&["object_reference_id#mobile_number"]], "add --delimiter '#'"),
            (vec![&["object_reference_id mobile_number"]], "add --delimiter ' '"),
            (vec![&["object_reference_id\u{1e}mobile_number"]], "add --delimiter '\\x1e'"),
            (vec![&["object_reference_id'mobile_number"]], "add --delimiter \"'\""),
            (vec![&["'object_reference_id'", "'mobile_number'"]], "add --quote \"'\""),
            (vec![&["`object_reference_id`", "`mobile_number`"]], "add --quote '`'"),
            (vec![&["'object_reference_id'*'mobile_number'"]], "add --quote \"'\" --delimiter '*'"),
            (vec![&["\u{201c}object_reference_id\u{201d}", "\u{201c}mobile_number\u{201d}"]], "typographic"),
            (vec![&["object_reference_id\u{a6}mobile_number"]], "sed 's/\u{a6}/\\x1f/g' FILE"),
            (vec![&["object_reference_id<*>mobile_number"]], "sed 's/<\\*>/\\x1f/g' FILE"),
            (
                vec![&["object_reference_id#name, first#mobile_number"]],
                "header is one cell; add --delimiter '#'",
            ),
            (
                vec![&["object_reference_id#name", "first#mobile_number"]],
                "another delimiter; add --delimiter '#'",
            ),
            (vec![&["object_reference_id~", "~mobile_number"]], "sed 's/~;~/\\x1f/g' FILE"),
            (vec![&["object_reference_id,mobile_number", ""]], "each line is one quoted cell"),
            (vec![&["curl: (22) The requested URL returned error: 404"]], "log, a traceback or an error"),
            (vec![&["psql: error: connection refused"]], "log, a traceback or an error"),
            (vec![&["total 8"], &["-rw-r--r-- 1 x x 9 users.csv"]], "a line of totals"),
            (vec![&["-- dump"], &["INSERT INTO x VALUES (1, 2)"]], "an SQL dump"),
            (vec![&["object_reference_id: customer-1"], &["mobile_number: 9876500110"]], "this is YAML"),
            (
                vec![&["# export"], &["id: 1"], &["emails:"], &["  - a: x"], &["phone: '+91 98'"]],
                "this is YAML",
            ),
            (vec![&["[[users]]"], &["id = 1"], &["phone = '98'"]], "TOML"),
            (vec![&["id=1"], &["name=Rao", "Asha"]], "TOML, INI or properties"),
            (vec![&["id          phone"], &["customer-1  9876500110"]], "aligned with spaces"),
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
        assert_eq!(hint(&[&["BEGIN:VCALENDAR"]]), None);
        assert_eq!(hint(&[&["Id  of user"], &["7"]]), None);
        assert_eq!(hint(&[&["Report: users"], &["Date: today"], &["Id", "Tel"]]), None);
    }
}
