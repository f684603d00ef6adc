//! Writes a proposal as TOML: each line below a comment that states its reason.
//!
//! The text contains column names and counts, and never the content of a cell.

use std::fmt::Write as _;

use super::{Line, Proposal, State};
use crate::{customer::is_invisible, report::wrap_words};

/// Width of the comments.
const WIDTH: usize = 100;

/// The proposal as a settings file.
pub fn proposal_toml(proposal: &Proposal) -> String {
    let mut text = String::new();
    for paragraph in &proposal.head {
        comment(&mut text, "", paragraph);
        text.push_str("#\n");
    }
    text.truncate(text.len() - "#\n".len());
    section(&mut text, &proposal.format);
    text.push_str("\n# Which column feeds which field. FIELD=text{column} is a template, which joins text and columns.\nmap = [\n");
    for Line { why, toml, state } in &proposal.map {
        comment(&mut text, "    ", why);
        match (state, toml.is_empty()) {
            (_, true) => {}
            (State::Set, false) => _ = writeln!(text, "    {},", quoted(toml)),
            (State::Open, false) => _ = writeln!(text, "    # {},", quoted(toml)),
        }
    }
    text.push_str("]\n");
    if !proposal.ignore.is_empty() {
        text.push('\n');
        comment(&mut text, "", &proposal.ignore_why);
        text.push_str("ignore = [\n");
        for name in &proposal.ignore {
            let _ = writeln!(text, "    {},", quoted(name));
        }
        text.push_str("]\n");
    }
    text.push('\n');
    comment(&mut text, "", &proposal.tried);
    section(&mut text, &proposal.settings);
    text
}

fn section(text: &mut String, lines: &[Line]) {
    for Line { why, toml, state } in lines {
        text.push('\n');
        comment(text, "", why);
        let mark = if *state == State::Set { "" } else { "# " };
        let _ = writeln!(text, "{mark}{toml}");
    }
}

fn comment(text: &mut String, indent: &str, words: &str) {
    for line in wrap_words(words, WIDTH) {
        let _ = writeln!(text, "{indent}# {line}");
    }
}

/// A basic string of TOML. Characters without a shape are escaped, so that they can be seen.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() || c.is_whitespace() && c != ' ' || is_invisible(c) => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_from_toml() {
        let all: String = ('\0'..='\u{ff}').collect();
        for name in ["a\"b\\c", "\r\n\t\u{7f}\u{85}", "\u{feff}\u{200b}\u{202e}", "अमित 顧客", "#x", &all]
        {
            let text = format!("a = {}", quoted(name));
            assert!(!text.contains('\n'));
            let table = toml::de::DeTable::parse(&text).unwrap();
            assert_eq!(table.get_ref()["a"].get_ref().as_str(), Some(name));
        }
    }
}
