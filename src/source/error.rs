//! Why a source cannot be read, or not any further, and what to do about it.
//!
//! An error in one row is not included: it is that row's fault, and reading continues.

use std::{collections::HashSet, io, path::PathBuf};

use super::{decompress::CorruptStream, file_state::Change};
use crate::{
    customer::{Field, mapped_columns, noun, visible},
    ledger::{self, RunId},
};

/// Why a source cannot be read, or not any further.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened.
    #[error("cannot open {}: {error}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// It is not a file.
    #[error("{} is a directory", .0.display())]
    Directory(PathBuf),
    /// There is no header line.
    #[error("{0} is empty: it has no header line")]
    Empty(String),
    /// Reading failed in the middle.
    #[error("cannot read {name} at line {line}: {error}")]
    Read {
        /// The source.
        name: String,
        /// The line that reading had reached.
        line: u64,
        /// The system's reason.
        error: io::Error,
    },
    /// The compressed file is damaged, which was found before any of its rows was used.
    #[error("{name} cannot be used: {error}")]
    Damaged {
        /// The source.
        name: String,
        /// The damage and its place.
        error: io::Error,
    },
    /// The file was written to, or replaced, while it was read.
    #[error("{name} changed while it was read: {change}; {} read", lines_were(line.saturating_sub(1)))]
    Changed {
        /// The source.
        name: String,
        /// The line after the last one read.
        line: u64,
        /// What changed.
        change: Change,
    },
    /// The header has a quote that swallows rows, or is too long.
    #[error("the header of {name} cannot be read: {seen}")]
    HeaderFlaw {
        /// The source.
        name: String,
        /// What is wrong, and where.
        seen: String,
    },
    /// The header contains a character that ends a line for another program, so it may contain rows.
    #[error("the header of {name} has U+{:04X} in it, which does not end a line in a CSV file", u32::from(*separator))]
    LineSeparator {
        /// The source.
        name: String,
        /// The character.
        separator: char,
    },
    /// The header is not text in the declared encoding.
    #[error("the header of {name} is not {encoding}: {seen}")]
    HeaderEncoding {
        /// The source.
        name: String,
        /// The encoding that was used.
        encoding: &'static str,
        /// The byte and its position.
        seen: String,
    },
    /// The file is not CSV text.
    #[error("{name} is {what}, not a CSV file")]
    Foreign {
        /// The source.
        name: String,
        /// What the file looks like.
        what: &'static str,
        /// What to do about it.
        hint: &'static str,
    },
    /// Mandatory fields have no column.
    #[error("{} in {name} (columns found: {})", missing_text(.missing), list(.found))]
    MissingColumns {
        /// The source.
        name: String,
        /// The fields, at least one.
        missing: Vec<MissingColumn>,
        /// The header.
        found: Vec<String>,
        /// What the first line is, if it is not a header, and what to do about it.
        first_line: Option<String>,
    },
    /// Some of the columns are gone by which a failed export is recognized.
    #[error("{name} is a failed export without its {} {}", noun(missing.len() as u64, "column"), missing.join(", "))]
    IncompleteExport {
        /// The source.
        name: String,
        /// The columns, at least one.
        missing: Vec<&'static str>,
    },
    /// A failed export cannot be read as its rows were.
    #[error("the failed export {name} {why}")]
    Export {
        /// The source.
        name: String,
        /// Why.
        why: UnreadableExport,
    },
    /// `--map` names a column that does not exist.
    #[error("--map {}={}: {} (columns found: {})", .0.field, .0.map, unknown_text(.0), list(&.0.found))]
    UnknownColumn(Box<UnknownColumn>),
    /// A template of `--map` cannot be parsed.
    #[error("--map {field}={template}: {wrong}")]
    Template {
        /// The field.
        field: Field,
        /// The template as given.
        template: String,
        /// What is wrong.
        wrong: String,
        /// The template that is probably meant.
        meant: Option<String>,
    },
    /// `--ignore` names a column that feeds a field.
    #[error("--ignore {}: the column feeds {field}, and would be sent", visible(column))]
    IgnoredColumn {
        /// The column.
        column: String,
        /// The field that it feeds.
        field: Field,
    },
    /// Columns feed no field, and `--strict-columns` refuses that.
    #[error("columns of {name} feed no field: {}", list(.columns))]
    UnusedColumns {
        /// The source.
        name: String,
        /// The columns, in file order.
        columns: Vec<String>,
    },
    /// The first line is not a header.
    #[error("the first line of {name} is no header")]
    NoHeader {
        /// The source.
        name: String,
        /// What the line is, and what to do about it.
        hint: String,
    },
    /// Two columns have the name that a field needs.
    #[error("two columns are named {}, so {field} is ambiguous", visible(column))]
    AmbiguousColumn {
        /// The field.
        field: Field,
        /// The name.
        column: String,
        /// The names of these columns in the header.
        names: Vec<String>,
    },
    /// The ledger does not contain how the rows of a run were read.
    #[error("the options by which run {0} read its rows were recorded by another version of this program")]
    UnknownReadOptions(RunId),
    /// The ledger, as a source.
    #[error("{0}")]
    Ledger(Box<ledger::Error>),
    /// The reader's thread ended without a result; a bug.
    #[error("the reader of {0} ended without saying why")]
    ReaderGone(String),
}

/// A field without a column.
#[derive(Debug)]
pub struct MissingColumn {
    /// The field.
    pub field: Field,
    /// The column that is probably meant.
    pub likely: Option<String>,
}

/// A column named in `--map` that the header lacks.
#[derive(Debug)]
pub struct UnknownColumn {
    /// The field.
    pub field: Field,
    /// The text of `--map` after the `=`.
    pub map: String,
    /// The name in it.
    pub column: String,
    /// The header.
    pub found: Vec<String>,
    /// The text of `--map` that is probably meant.
    pub meant: Option<String>,
    /// What the first line is, if it is not a header, and what to do about it.
    pub first_line: Option<String>,
}

impl From<ledger::Error> for Error {
    fn from(error: ledger::Error) -> Error {
        Error::Ledger(Box::new(error))
    }
}

impl Error {
    /// What the user can do.
    pub fn hint(&self) -> String {
        match self {
            Error::Open { path, .. } => {
                path.to_str().and_then(piped).unwrap_or_else(|| "check the path and its permissions".into())
            }
            Error::Directory(_) => "name a CSV file, or - for standard input".into(),
            Error::Empty(_) => "give a CSV file whose first line names the columns".into(),
            Error::Damaged { .. } => {
                "none of its rows was sent; get the file whole, then run the same command again".into()
            }
            Error::Read { error, .. } => {
                CorruptStream::of(error).map_or(RUN_AGAIN, CorruptStream::hint).into()
            }
            Error::Changed { .. } => RUN_AGAIN.into(),
            Error::HeaderFlaw { .. } => {
                "correct the first line, or give --quote none if quotes are plain text in this file".into()
            }
            Error::LineSeparator { separator, .. } => format!(
                "if lines end with it, convert it: perl -CSD -pe 's/\\x{{{:x}}}/\\n/g' FILE | customer-import import -; \
                 else take it out of the first line",
                u32::from(*separator)
            ),
            Error::HeaderEncoding { encoding, .. } if encoding.starts_with("UTF-16") => {
                "leave out --encoding if the file is UTF-8, or name its own encoding, such as windows-1252"
                    .into()
            }
            Error::HeaderEncoding { .. } => {
                "name the file's own encoding with --encoding, such as windows-1252, or save it as UTF-8"
                    .into()
            }
            Error::Foreign { hint, .. } => (*hint).into(),
            Error::MissingColumns { found, .. } if found.iter().any(|name| name.contains('\0')) => {
                "the header has NUL bytes; if this is UTF-16, add --encoding utf-16le or utf-16be".into()
            }
            Error::MissingColumns { first_line: Some(hint), .. } | Error::NoHeader { hint, .. } => {
                hint.clone()
            }
            Error::MissingColumns { missing, .. } => missing_hint(missing),
            Error::IncompleteExport { .. } => KEEP_OWN_COLUMNS.into(),
            Error::Export { why, .. } => why.hint(),
            Error::UnknownColumn(unknown) => match (&unknown.first_line, &unknown.meant) {
                (Some(hint), _) => hint.clone(),
                (None, Some(meant)) => {
                    format!("did you mean --map {}?", quoted(&format!("{}={meant}", unknown.field)))
                }
                (None, None) => "name one of the columns found".into(),
            },
            Error::Template { field, meant: Some(meant), .. } => {
                format!("did you mean --map {}?", quoted(&format!("{field}={meant}")))
            }
            Error::Template { .. } => "write it like --map 'object_reference_id=cust_{id}'".into(),
            Error::IgnoredColumn { .. } => {
                "leave the option out; a column that should not be sent needs another name in the file".into()
            }
            Error::UnusedColumns { columns, .. } => {
                let ignore: Vec<String> =
                    columns.iter().map(|column| format!("--ignore {}", quoted(column))).collect();
                format!("give one to a field with --map FIELD=COLUMN, or add {}", ignore.join(" "))
            }
            Error::AmbiguousColumn { field, names, .. } => ambiguous_hint(*field, names),
            Error::UnknownReadOptions(_) => {
                "retry with the version that recorded it, or import a corrected file".into()
            }
            Error::Ledger(error) => error.hint().into(),
            Error::ReaderGone(_) => "run the same command again, and report this as a bug".into(),
        }
    }

    /// Adds what is known about the first line to an error about missing columns.
    pub(super) fn explained_by(self, hint: Option<String>) -> Error {
        match self {
            Error::MissingColumns { name, missing, found, .. } => {
                Error::MissingColumns { name, missing, found, first_line: hint }
            }
            Error::UnknownColumn(mut unknown) => {
                unknown.first_line = hint;
                Error::UnknownColumn(unknown)
            }
            other => other,
        }
    }

    /// Whether the command line or the file's header is at fault; nothing was begun then.
    pub fn is_usage(&self) -> bool {
        match self {
            Error::Read { .. } | Error::Damaged { .. } | Error::Changed { .. } | Error::ReaderGone(_) => {
                false
            }
            Error::Ledger(error) => error.is_usage(),
            _ => true,
        }
    }
}

/// Why a failed export cannot be read as its rows were.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableExport {
    /// The runs over its files have read a field from different columns.
    #[error("has rows of runs that do not agree on the column of {0}")]
    DifferentMaps(Field),
    /// The runs over its files have sent different values for the same cells, because of this option.
    #[error("has rows of runs that do not agree on {0}")]
    DifferentValues(&'static str),
    /// A column is gone from which a field was read, by itself or within this template.
    #[error("no longer has the column from which {0} was read, {map}", map = visible(.1))]
    ColumnGone(Field, String),
}

impl UnreadableExport {
    fn hint(&self) -> String {
        const EACH_RUN: &str = "export the rows of each run by itself with --run";
        match self {
            UnreadableExport::DifferentMaps(field) => format!("give --map {field}=COLUMN, or {EACH_RUN}"),
            UnreadableExport::DifferentValues(option) => {
                format!("{EACH_RUN}, and give {option} as it was for that run")
            }
            UnreadableExport::ColumnGone(field, map) => {
                let names = mapped_columns(map);
                let map = names.iter().fold(map.clone(), |map, name| map.replace(name, "COLUMN"));
                let map = quoted(&format!("{field}={map}"));
                format!("export it again and keep the column, or give its new name with --map {map}")
            }
        }
    }
}

const RUN_AGAIN: &str = "what was recorded stands; run the same command again";

/// What to do about a failed export without some of its columns.
const KEEP_OWN_COLUMNS: &str = "export it again, and keep the columns that begin with _ as they are: they tell a \
                                duplicate from the row that it repeats";

fn lines_were(lines: u64) -> String {
    format!("{lines} {} {}", noun(lines, "line"), if lines == 1 { "was" } else { "were" })
}

fn missing_text(missing: &[MissingColumn]) -> String {
    let fields: Vec<&str> = missing.iter().map(|missing| missing.field.name()).collect();
    let noun = if fields.len() == 1 { "no column" } else { "no columns" };
    format!("{noun} {}", fields.join(", "))
}

fn unknown_text(unknown: &UnknownColumn) -> String {
    if unknown.column == unknown.map {
        "no such column".into()
    } else {
        format!("no column {}", visible(&unknown.column))
    }
}

/// The options for the missing columns, ready to be pasted.
fn missing_hint(missing: &[MissingColumn]) -> String {
    let option = |missing: &MissingColumn| {
        missing.likely.as_ref().map_or_else(
            || format!("--map {}=COLUMN", missing.field),
            |column| format!("--map {}", quoted(&format!("{}={column}", missing.field))),
        )
    };
    let options = missing.iter().map(option).collect::<Vec<_>>().join(" ");
    match missing.iter().find(|missing| missing.likely.is_none()) {
        None => format!("did you mean {options}?"),
        // A constant would be the same customer, or the same number, in every row.
        Some(MissingColumn { field, .. }) if field.is_mandatory() => format!("add {options}"),
        Some(MissingColumn { field, .. }) => {
            format!("add {options}, or give a constant with --set {field}=VALUE")
        }
    }
}

/// The options of which one is meant, if the names differ.
fn ambiguous_hint(field: Field, names: &[String]) -> String {
    if names.iter().all(|name| *name == names[0]) {
        return "in the first line, rename one of them".into();
    }
    let option = |name: &String| format!("--map {}", quoted(&format!("{field}={name}")));
    format!("name the one that is meant: {}", names.iter().map(option).collect::<Vec<_>>().join(" or "))
}

/// How to read from a URL: through a pipe, because only files and standard input are read.
fn piped(path: &str) -> Option<String> {
    let (scheme, rest) = path.split_once("://")?;
    let url = quoted(path);
    let program = match scheme.to_ascii_lowercase().as_str() {
        "file" => return Some(format!("give the path without file://: {}", quoted(rest))),
        "http" | "https" | "ftp" | "ftps" | "sftp" => format!("curl -fsS {url}"),
        "s3" => format!("aws s3 cp {url} -"),
        "gs" => format!("gcloud storage cat {url}"),
        "postgres" | "postgresql" => {
            return Some(r#"only files are read; pipe the rows: psql -c '\copy (SELECT …) TO STDOUT CSV HEADER' | customer-import import -"#.into());
        }
        _ => return Some("only files are read; download it, or pipe it to - (standard input)".into()),
    };
    Some(format!("only files are read; pipe it: {program} | customer-import import -"))
}

/// Quotes a text for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn list(columns: &[String]) -> String {
    // A header of hundreds of columns would hide the message.
    const SHOWN: usize = 20;
    let mut seen = HashSet::new();
    let names: Vec<_> =
        columns.iter().filter(|column| seen.insert(column.as_str())).map(|column| visible(column)).collect();
    match names.len() {
        0..=SHOWN => names.join(", "),
        more => format!("{}, and {} more", names[..SHOWN].join(", "), more - SHOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_answered_with_the_pipe_to_type() {
        let hint =
            |path: &str| Error::Open { path: path.into(), error: io::ErrorKind::NotFound.into() }.hint();
        for (path, words) in [
            ("s3://b/u.csv", "aws s3 cp 's3://b/u.csv' - | customer-import import -"),
            ("https://x/it's.csv", "curl -fsS 'https://x/it'\\''s.csv' | customer-import import -"),
            ("FTP://x/u.csv", "curl -fsS 'FTP://x/u.csv' |"),
            ("gs://b/u.csv", "gcloud storage cat 'gs://b/u.csv' |"),
            ("postgres://h/db", "psql -c '\\copy"),
            ("azure://x/u.csv", "pipe it to -"),
            ("file:///data/u.csv", "'/data/u.csv'"),
            ("users.csv", "check the path"),
        ] {
            assert!(hint(path).contains(words), "{path}: {}", hint(path));
        }
    }
}
