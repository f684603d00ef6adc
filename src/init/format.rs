//! Determines the format of a file: encoding, quotes and delimiter, and which of these need a setting because they
//! differ from the defaults.

use super::{Given, Line, text::quoted};
use crate::{
    error::Error,
    report::rows,
    source::{Encoding, Error as SourceError, Quote, SourceOptions, SourceSample, Table},
};

/// The delimiters that every command detects.
const DETECTED: [u8; 4] = *b",;\t|";

/// A quote that some programs write in place of `"`.
const OTHER_QUOTE: u8 = b'\'';

/// The format of a file, with the settings that it needs.
pub(super) struct Format {
    /// Options with these settings.
    pub(super) options: SourceOptions,
    /// The sample as read with these options.
    pub(super) table: Table,
    /// The settings.
    pub(super) lines: Vec<Line>,
}

/// Determines the format of the sample.
///
/// # Errors
/// If the sample cannot be read as a table.
pub(super) fn find_format(sample: &SourceSample, given: &Given) -> Result<Format, Error> {
    let mut options = SourceOptions {
        path: given.path.clone(),
        delimiter: given.delimiter,
        quote: given.quote.unwrap_or_default(),
        encoding: given.encoding.unwrap_or_default(),
        ..SourceOptions::default()
    };
    const AS_GIVEN: &str = "As given to init.";
    let mut lines = Vec::new();
    let mut table = match sample.table(&options) {
        Ok(table) if given.encoding.is_some() || table.undecodable <= table.beyond_ascii => table,
        Err(error @ SourceError::HeaderEncoding { .. }) if given.encoding.is_none() => {
            match decoded(sample, &mut options) {
                Some(table) => {
                    lines.push(guessed_encoding("The header has", options.encoding));
                    table
                }
                None => return Err(error.into()),
            }
        }
        Ok(utf8) => match decoded(sample, &mut options) {
            Some(table) => {
                let seen = format!("{} of {} inspected have", rows(utf8.undecodable), rows(utf8.count));
                lines.push(guessed_encoding(&seen, options.encoding));
                table
            }
            None => utf8,
        },
        Err(error) => return Err(error.into()),
    };
    if let Some(encoding) = given.encoding {
        lines.push(Line::set(AS_GIVEN, format!("encoding = {}", quoted(encoding.name()))));
    }
    if let Some(quote) = given.quote {
        lines.push(Line::set(AS_GIVEN, format!("quote = {}", quoted(&quote_text(quote)))));
    } else if is_in_other_quotes(&table.header) {
        options.quote = Quote::Char(OTHER_QUOTE);
        table = sample.table(&options)?;
        let why = "Every heading is in these quotes.";
        lines.push(Line::set(why, format!("quote = {}", quoted(&quote_text(options.quote)))));
    }
    if let Some(delimiter) = given.delimiter {
        lines.push(Line::set(AS_GIVEN, format!("delimiter = {}", quoted(&delimiter_text(delimiter)))));
    } else if !DETECTED.contains(&table.delimiter) {
        options.delimiter = Some(table.delimiter);
        let why = format!(
            "None of the delimiters that are detected splits the header; this one makes {} columns of it.",
            table.header.len()
        );
        lines.push(Line::set(why, format!("delimiter = {}", quoted(&delimiter_text(table.delimiter)))));
    }
    Ok(Format { options, table, lines })
}

/// The sample, decoded with its probable encoding; none if that does not give a table either.
fn decoded(sample: &SourceSample, options: &mut SourceOptions) -> Option<Table> {
    let with = SourceOptions { encoding: sample.likely_encoding()?, ..options.clone() };
    let table = sample.table(&with).ok()?;
    let is_text = table.undecodable == 0 && !table.header.iter().any(|name| name.contains(char::is_control));
    is_text.then(|| {
        *options = with;
        table
    })
}

fn guessed_encoding(seen: &str, encoding: Encoding) -> Line {
    let name = encoding.name();
    let why = format!(
        "GUESSED: {seen} bytes that are not UTF-8, and the text looks most like {name}. Compare some letters \
         beyond A to Z with the original: in another encoding they are other letters."
    );
    Line::set(why, format!("encoding = {}", quoted(name)))
}

fn is_in_other_quotes(header: &[String]) -> bool {
    let quote = char::from(OTHER_QUOTE);
    let is_quoted = |name: &String| name.len() > 1 && name.starts_with(quote) && name.ends_with(quote);
    header.len() > 1 && header.iter().all(is_quoted)
}

fn quote_text(quote: Quote) -> String {
    match quote {
        Quote::None => "none".into(),
        Quote::Char(quote) => char::from(quote).to_string(),
    }
}

/// The delimiter as a value of `--delimiter`.
fn delimiter_text(delimiter: u8) -> String {
    match delimiter {
        b'\t' => "tab".into(),
        control if control.is_ascii_control() => format!("\\x{control:02x}"),
        other => char::from(other).to_string(),
    }
}
