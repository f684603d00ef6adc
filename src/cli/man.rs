//! The man page, generated from clap's definition.
//!
//! There is one page for the whole program, with a section per command, because standard output can hold only one. Clap's
//! generator writes to memory first, because it panics on a closed pipe.

use std::{fmt::Write as _, io};

use clap::{Arg, ArgAction, Command};
use clap_mangen::Man;

use super::{
    args::help,
    config::{Required, definition, parser},
};
use crate::{customer::Field, error::Error};

/// Environment variables that do not correspond to an option.
const VARIABLES: [(&str, &str); 7] = [
    (
        "JUSPAY_API_KEY",
        "The API key, unless --api-key-file names a file that holds it. It is never an option's value.",
    ),
    (
        "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY",
        "The proxy that requests go through, by HTTP or SOCKS. config shows the one in effect.",
    ),
    ("NO_PROXY", "Hosts that are reached without the proxy."),
    ("RUST_LOG", "Level of the log, such as debug; overrides --verbose and --quiet."),
    (
        "NO_COLOR, CLICOLOR, CLICOLOR_FORCE",
        "NO_COLOR: no color. CLICOLOR: no color if it is 0. CLICOLOR_FORCE: color even off a terminal. --color overrides all three.",
    ),
    ("PGPASSWORD, PGPASSFILE", "The password of a ledger in Postgres, or the file that holds it."),
    ("TERM", "If it is dumb: lines in place of a bar, and no color."),
];

const FILES: [(&str, &str); 5] = [
    (
        "customer-import.db",
        "The ledger, in the working directory, unless --ledger names another: a SQLite file with every run, row and customer id.",
    ),
    ("customer-import.simulator.db", "The ledger with --simulator."),
    (
        "LEDGER-wal, LEDGER-shm",
        "Of SQLite, while the ledger is in use or after a crash. They belong to the ledger: copy or move the three together, and only when no run is in progress.",
    ),
    ("LEDGER-lock", "Locked during a run."),
    ("the file of --config", "Settings in TOML: any option by its long name. There is no default file."),
];

const DESCRIPTION: &str = "\
customer-import reads a CSV file of users and creates one Juspay customer for each row, at a set rate. The ledger, a local \
file or a schema of a Postgres database, records the result of every row, so that a run can be stopped, killed, resumed and repeated without losing a row or \
creating a customer twice. init finds the settings for a file, validate checks its rows, import creates the customers, and \
export gives their ids and the rows to correct.";

/// The exit codes of commands that do not import.
const OTHER_COMMANDS: &str = "\
validate, plan, verify and probe end with 0 if they find nothing wrong, and with 3 if some rows are not valid, would not be \
imported or differ, or if the API does not behave as relied on.";

/// The man page as roff.
pub(super) fn page() -> Result<String, Error> {
    write_page().map_err(|error| Error::Bug(format!("the man page cannot be written ({error})")))
}

fn write_page() -> io::Result<String> {
    let mut built = parser(Required::Enforced);
    built.build();
    let commands: Vec<&Command> =
        built.get_subcommands().filter(|command| command.get_name() != "help").collect();
    let whole = Man::new(built.clone());
    let mut page = generated(|page| whole.render_title(page))?;
    page.push_str(&generated(|page| whole.render_name_section(page))?);
    page.push_str(".SH SYNOPSIS\n");
    for command in &commands {
        let name = escaped(&full_name(command));
        let (required, positionals) = (required_options(command), positionals(command));
        let _ = writeln!(page, "\\fB{name}\\fR{required} [\\fIOPTIONS\\fR]{positionals}\n.br");
    }
    let _ = writeln!(page, ".SH DESCRIPTION\n{}", escaped(DESCRIPTION));
    page.push_str(&generated(|page| whole.render_options_section(page))?);
    for command in &commands {
        page.push_str(&section(command)?);
    }
    page.push_str(&list(
        "CUSTOMER FIELDS",
        Field::ALL.map(|field| {
            let needed = if field.is_mandatory() { "required" } else { "optional" };
            (field.name().to_owned(), format!("{needed}: {}", help::allowed(field)))
        }),
    ));
    page.push_str(&list("EXIT STATUS", help::EXIT_CODES.map(owned)));
    let _ = writeln!(page, ".PP\n{}", escaped(OTHER_COMMANDS));
    page.push_str(&list("ENVIRONMENT", variables_of_options().into_iter().chain(VARIABLES.map(owned))));
    page.push_str(&list("FILES", FILES.map(owned)));
    page.push_str(".SH EXAMPLES\n");
    for example in commands.iter().flat_map(|command| examples(command)) {
        page.push_str(&format!(".PP\n.nf\n{}\n.fi\n", escaped(&example)));
    }
    Ok(page)
}

fn generated(render: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<String> {
    let mut page = Vec::new();
    render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// The section of a command, with its headings one level down.
fn section(command: &Command) -> io::Result<String> {
    let own = Man::new(command.clone());
    let options = generated(|page| own.render_options_section(page))?;
    let mut section = format!(".SH {}\n", command.get_name().to_uppercase());
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(section, "{}.\n.PP\n{}", escaped(&about), synopsis(command));
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let note = help.split("Examples:").next().unwrap_or_default().trim();
    if !note.is_empty() {
        let _ = writeln!(section, ".PP\n{}", escaped(note));
    }
    section.push_str(&options.replace(".SH ", ".SS "));
    Ok(section)
}

/// The command with its options and their values.
fn synopsis(command: &Command) -> String {
    let mut synopsis = format!("\\fB{}\\fR", escaped(&full_name(command)));
    let is_shown = |arg: &&Arg| !arg.is_hide_set() && !matches!(arg.get_action(), ArgAction::Help);
    for option in command.get_arguments().filter(is_shown) {
        let Some(long) = option.get_long() else { continue };
        let value = match option.get_action().takes_values() {
            true => format!(" \\fI{}\\fR", escaped(&value_name(option))),
            false => String::new(),
        };
        let name = escaped(&format!("--{long}"));
        let _ = match option.is_required_set() {
            true => write!(synopsis, "\n\\fB{name}\\fR{value}"),
            false => write!(synopsis, "\n[\\fB{name}\\fR{value}]"),
        };
    }
    synopsis + &positionals(command)
}

/// The options without which the command does not run, with their values.
fn required_options(command: &Command) -> String {
    let required = command.get_opts().filter(|option| option.is_required_set());
    let options = required.filter_map(|option| {
        let name = escaped(&format!("--{}", option.get_long()?));
        Some(format!(" \\fB{name}\\fR \\fI{}\\fR", escaped(&value_name(option))))
    });
    options.collect()
}

fn positionals(command: &Command) -> String {
    let names = command.get_positionals().map(|arg| {
        let name = escaped(&value_name(arg));
        if arg.is_required_set() { format!(" \\fI{name}\\fR") } else { format!(" [\\fI{name}\\fR]") }
    });
    names.collect()
}

fn value_name(arg: &Arg) -> String {
    arg.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn full_name(command: &Command) -> String {
    format!("{} {}", super::config::PROGRAM, command.get_name())
}

/// The environment variables of options, each with its option.
fn variables_of_options() -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for command in definition().get_subcommands() {
        for arg in command.get_arguments() {
            let Some((name, long)) = arg.get_env().zip(arg.get_long()) else { continue };
            let name = name.to_string_lossy().into_owned();
            if !variables.iter().any(|(known, _)| *known == name) {
                variables.push((name, format!("Stands for --{long} where it is not given.")));
            }
        }
    }
    variables
}

fn examples(command: &Command) -> Vec<String> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = help
        .split_once("Examples:\n")
        .map(|(_, lines)| lines.lines().map(|line| line.trim().to_owned()).collect());
    lines.unwrap_or_default()
}

/// A section of terms with their meaning.
fn list(heading: &str, entries: impl IntoIterator<Item = (String, String)>) -> String {
    let mut section = format!(".SH {heading}\n");
    for (term, meaning) in entries {
        let _ = writeln!(section, ".TP\n\\fB{}\\fR\n{}", escaped(&term), escaped(&meaning));
    }
    section
}

fn owned((term, meaning): (&str, &str)) -> (String, String) {
    (term.to_owned(), meaning.to_owned())
}

/// Escapes a text for roff: hyphens that can be copied, and no line that would be parsed as a request.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let lines = text
        .lines()
        .map(|line| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() });
    lines.collect::<Vec<_>>().join("\n")
}
