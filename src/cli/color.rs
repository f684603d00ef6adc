//! Color: whether a stream is colored, and which parts of a text are.
//!
//! Color is sparse and never the only sign of a meaning: successful outcomes are green, those to correct yellow,
//! refused and failed ones red, headings bold, explanations dim. Text is colored last, after escape characters have
//! been replaced and its width was measured. Output for programs (JSON, CSV, TOML, HTML) is never colored.

use std::{
    borrow::Cow,
    ffi::OsString,
    io::{self, IsTerminal, Write},
};

use anstyle::{AnsiColor, Style};
use clap::ArgMatches;
use colorchoice::ColorChoice;

use super::{args::ColorArg, environment};
use crate::ledger::{Outcome, OutcomeClass};

const HEADING: Style = Style::new().bold();
const EXPLANATION: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const TO_CORRECT: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const ERROR: Style = AnsiColor::Red.on_default().bold();

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(super) fn is_terminal(self) -> bool {
        match self {
            Stream::Stdout => io::stdout().is_terminal(),
            Stream::Stderr => io::stderr().is_terminal(),
        }
    }

    /// Writes a whole text at once.
    pub(super) fn write(self, text: &str) -> io::Result<()> {
        let write = |out: &mut dyn Write| out.write_all(text.as_bytes()).and_then(|()| out.flush());
        match self {
            Stream::Stdout => write(&mut io::stdout().lock()),
            Stream::Stderr => write(&mut io::stderr().lock()),
        }
    }
}

/// Whether the terminal can neither move its cursor nor change its color.
pub(super) fn is_dumb() -> bool {
    environment("TERM").is_some_and(|term| term == "dumb")
}

/// Reads `--color` directly from the command line, for messages before the settings are resolved.
pub(super) fn choose_by_words(args: &[OsString]) {
    let words = args.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>();
    let next = words.iter().skip(1).map(Some).chain([None]);
    let given = words.iter().zip(next).take_while(|(word, _)| *word != "--").filter_map(|(word, next)| {
        let value = word.strip_prefix("--color")?;
        if value.is_empty() { next.map(|next| &**next) } else { value.strip_prefix('=') }
    });
    let value = given.last().and_then(|value| <ColorArg as clap::ValueEnum>::from_str(value, false).ok());
    choose(value.unwrap_or(ColorArg::Auto));
}

/// Applies `--color` as resolved from flags, environment and file.
pub(super) fn choose_by_settings(matches: &ArgMatches) {
    let of_command = matches.subcommand().map(|(_, matches)| matches);
    if let Some(Ok(Some(color))) = of_command.map(|matches| matches.try_get_one::<ColorArg>("color")) {
        choose(*color);
    }
}

fn choose(color: ColorArg) {
    let choice = match color {
        ColorArg::Auto => ColorChoice::Auto,
        ColorArg::Always => ColorChoice::Always,
        ColorArg::Never => ColorChoice::Never,
    };
    choice.write_global();
}

/// Whether text on this stream is colored.
fn is_colored(stream: Stream) -> bool {
    match ColorChoice::global() {
        ColorChoice::Always | ColorChoice::AlwaysAnsi => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => is_colored_by(&environment, stream.is_terminal()),
    }
}

/// The choice of the environment, by <https://no-color.org> and <https://bixense.com/clicolors>. An empty variable is
/// unset.
fn is_colored_by(environment: &dyn Fn(&str) -> Option<String>, is_terminal: bool) -> bool {
    let is = |name: &str, value: &str| environment(name).is_some_and(|text| text == value);
    if environment("NO_COLOR").is_some() {
        return false;
    }
    if environment("CLICOLOR_FORCE").is_some() && !is("CLICOLOR_FORCE", "0") {
        return true;
    }
    is_terminal && !is("CLICOLOR", "0") && environment("TERM").is_some_and(|term| term != "dumb")
}

/// A text, colored if the stream is.
pub(super) fn painted(text: &str, stream: Stream) -> Cow<'_, str> {
    if is_colored(stream) { paint(text).into() } else { text.into() }
}

/// Lines of progress; the first is the headline.
pub(super) fn painted_progress(lines: &[String], stream: Stream) -> Vec<String> {
    if !is_colored(stream) {
        return lines.to_vec();
    }
    let paint = |(at, line): (usize, &String)| match at {
        0 => in_style(HEADING, line),
        _ => paint_outcomes(line),
    };
    lines.iter().enumerate().map(paint).collect()
}

/// `error:`, before the text of an error.
pub(super) fn error_word() -> String {
    if is_colored(Stream::Stderr) { in_style(ERROR, "error:") } else { "error:".into() }
}

fn in_style(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

fn style_of(outcome: Outcome) -> Option<Style> {
    match outcome.class() {
        // The row is not at fault, and the difference was not acted on.
        OutcomeClass::Imported if outcome == Outcome::Changed => None,
        OutcomeClass::Imported => Some(GOOD),
        OutcomeClass::Unsendable => Some(TO_CORRECT),
        OutcomeClass::Rejected | OutcomeClass::Failed => Some(BAD),
        OutcomeClass::Pending => None,
    }
}

fn paint(text: &str) -> String {
    let mut painted = String::with_capacity(text.len() + text.len() / 4);
    let mut is_after_blank = true;
    for line in text.split_inclusive('\n') {
        let content = line.trim_end_matches('\n');
        match content.chars().next() {
            Some(first) if first != ' ' && is_after_blank => painted.push_str(&paint_heading(content)),
            _ => painted.push_str(&paint_line(content)),
        }
        painted.push_str(&line[content.len()..]);
        is_after_blank = content.is_empty();
    }
    painted
}

/// A heading, or the name that begins a line of names and values.
fn paint_heading(line: &str) -> String {
    let (name, rest) = line.split_at(line.find("  ").unwrap_or(line.len()));
    format!("{}{rest}", in_style(HEADING, name))
}

fn paint_line(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let (blank, text) = line.split_at(indent);
    for (label, style) in [("source:", EXPLANATION), ("ledger:", EXPLANATION), ("next:", HEADING)] {
        if let Some(rest) = text.strip_prefix(label).filter(|_| indent > 0) {
            return format!("{blank}{}{rest}", in_style(style, label));
        }
    }
    // A table row: the outcome, its count, and its meaning.
    let count = text.split_once(' ').filter(|(word, _)| outcome(word).is_some()).map(|(_, rest)| rest);
    let explained = count.map(str::trim_start).and_then(|rest| rest.split_once("   "));
    match explained.filter(|(count, _)| is_count(count)) {
        Some((_, meaning)) => {
            let named = &text[..text.len() - meaning.len()];
            format!("{blank}{}{}", paint_outcomes(named), in_style(EXPLANATION, meaning))
        }
        None => format!("{blank}{}", paint_outcomes(text)),
    }
}

/// Colors each outcome in front of a count, together with the count, and an outcome at the beginning of the line.
fn paint_outcomes(line: &str) -> String {
    let mut painted = String::with_capacity(line.len() + 64);
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        if end == 0 {
            let skip = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(rest.len());
            painted.push_str(&rest[..skip]);
            rest = &rest[skip..];
            continue;
        }
        let (word, after) = rest.split_at(end);
        let is_first = rest.len() == line.len();
        let count = after.trim_start_matches(' ');
        let blanks = after.len() - count.len();
        let digits = count.find(|c: char| !c.is_ascii_digit() && c != ',').unwrap_or(count.len());
        // The comma between two counts is not a digit of the first count.
        let digits = count[..digits].trim_end_matches(',').len();
        let style = outcome(word).and_then(style_of);
        let length = match style {
            Some(_) if blanks > 0 && digits > 0 => end + blanks + digits,
            Some(_) if is_first && after.starts_with(", ") => end,
            _ => {
                painted.push_str(word);
                rest = after;
                continue;
            }
        };
        painted.push_str(&in_style(style.unwrap_or_default(), &rest[..length]));
        rest = &rest[length..];
    }
    painted
}

fn outcome(word: &str) -> Option<Outcome> {
    Outcome::ALL.into_iter().find(|outcome| outcome.name() == word)
}

fn is_count(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == ',')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text with its styles as words in angle brackets.
    fn shown(text: &str) -> String {
        let styles = [
            ("\x1b[1m", "<bold>"),
            ("\x1b[2m", "<dim>"),
            ("\x1b[32m", "<green>"),
            ("\x1b[33m", "<yellow>"),
            ("\x1b[31m", "<red>"),
            ("\x1b[0m", "</>"),
        ];
        styles.iter().fold(text.into(), |text: String, (code, word)| text.replace(code, word))
    }

    #[test]
    fn little_is_painted() {
        for (text, wanted) in [
            ("\nRun 1 completed: a.csv\n", "\n<bold>Run 1 completed: a.csv</>\n"),
            ("Ledger  a.db\nTarget  b\n", "<bold>Ledger</>  a.db\nTarget  b\n"),
            (
                "  created      379,900   created by this ledger's runs\n",
                "  <green>created      379,900</>   <dim>created by this ledger's runs</>\n",
            ),
            (
                "      created 3, failed 2; 5 requests",
                "      <green>created 3</>, <red>failed 2</>; 5 requests",
            ),
            ("  invalid, mobile_number digits: 1 row", "  <yellow>invalid</>, mobile_number digits: 1 row"),
            ("  pending  2   not settled yet", "  pending  2   <dim>not settled yet</>"),
            ("  rows          3\n", "  rows          3\n"),
            ("  next:   export failed 3", "  <bold>next:</>   export failed 3"),
            ("  recreated 3, a_created 3x", "  recreated 3, a_<green>created 3</>x"),
            ("  was created by somebody", "  was created by somebody"),
        ] {
            assert_eq!(shown(&paint(text)), wanted);
        }
    }

    #[test]
    fn nothing_but_color_is_added() {
        let text = "Run 1\n\n  created 3   x é\nüber failed 1,000, invalid 2,\n\n\n  next: y";
        let mut plain = paint(text);
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, text);
    }

    #[test]
    fn the_environment_decides_as_elsewhere() {
        let of = |set: &'static [(&str, &str)], is_terminal| {
            let environment = |name: &str| {
                let term = [("TERM", "xterm")];
                let of = |pairs: &[(&str, &str)]| {
                    pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
                };
                of(set).or_else(|| of(&term))
            };
            is_colored_by(&environment, is_terminal)
        };
        assert!(of(&[], true) && !of(&[], false));
        assert!(!of(&[("NO_COLOR", "1")], true) && !of(&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], true));
        assert!(of(&[("CLICOLOR_FORCE", "1")], false) && !of(&[("CLICOLOR_FORCE", "0")], false));
        assert!(of(&[("CLICOLOR_FORCE", "1"), ("TERM", "dumb")], false));
        assert!(!of(&[("CLICOLOR", "0")], true) && of(&[("CLICOLOR", "1")], true));
        assert!(!of(&[("CLICOLOR", "1")], false) && !of(&[("TERM", "dumb")], true));
    }
}
