//! The help texts: a summary for `-h`, everything for `--help`, and the fields of a customer.
//!
//! Clap's own long help prints an option over three lines, and each heading of its short help takes two. So there are
//! two definitions, both printed in clap's short layout.

use std::{any::TypeId, time::Duration};

use clap::{Arg, ArgAction, Command, CommandFactory, builder::PossibleValue};

use super::{Ask, Cli, RateArg};
use crate::{
    customer::{Field, FieldKind},
    run::MaxFailures,
};

/// The options in `-h`, each with a text that leaves room for placeholder and default on a line of 80 columns. Other
/// options are shown by `--help` only.
const SUMMARY: [(&str, &str); 27] = [
    ("merchant-id", "Merchant id"),
    ("api-key-file", "File that holds the API key"),
    ("environment", "API host"),
    ("simulator", "Built-in simulator, without a key"),
    ("map", "Column of a field (repeatable)"),
    ("set", "Constant of a field (repeatable)"),
    ("phone-region", "Region of the numbers, such as IN"),
    ("limit", "Read only the first rows"),
    ("rate", "Requests a second"),
    ("max-failures", "Stop after so many failures"),
    ("update-changed", "Update customers that differ"),
    ("only", "Only rows with this outcome"),
    ("error-code", "Only rows with this error code"),
    ("ask", "Look up so many new rows"),
    ("sample", "Only so many rows, at random"),
    ("mark", "Mark what differs, to be repaired"),
    ("listen", "Address"),
    ("latency", "Time of a response"),
    ("rate-limit", "Answer 429 above this"),
    ("fault", "Inject a fault (repeatable)"),
    ("profile", "API to simulate"),
    ("compare", "Output of an earlier probe"),
    ("output", "Write to a file"),
    ("ledger", "Ledger, with every row and id"),
    ("format", "Output format"),
    ("yes", "Do not ask before production"),
    ("help", "This help; --help prints all of it"),
];

/// A command with at most this many options shows all of them in `-h`, with their full texts.
const FEW: usize = 10;

/// The first steps for a new user who has a file.
const FIRST_STEPS: &str = "\
First steps with a file of yours; the third rehearses the import, without a key:
  customer-import init users.csv --output import.toml
  customer-import validate users.csv --config import.toml
  customer-import import users.csv --config import.toml --simulator";

/// The exit codes, as help and the man page list them.
pub(in crate::cli) const EXIT_CODES: [(&str, &str); 6] = [
    ("0", "every row is created, existing, unchanged, changed or updated"),
    ("1", "an unexpected error; what was recorded stands"),
    ("2", "wrong usage or configuration; nothing was sent"),
    ("3", "finished; some rows are duplicate, invalid, rejected or failed"),
    ("4", "stopped by itself, or rows are pending: run it again"),
    ("129, 130, 143", "stopped by SIGHUP, SIGINT or SIGTERM: run it again"),
];

/// The definition before it is built, with placeholders that list the values of an enumeration.
pub(in crate::cli) fn definition() -> Command {
    let definition = Cli::command().after_help(FIRST_STEPS).mut_subcommands(present);
    present(definition)
}

fn present(command: Command) -> Command {
    let help = Arg::new("help").short('h').long("help").action(ArgAction::Help).help("Print help");
    command.disable_help_flag(true).arg(help.help_heading(None::<&str>)).mut_args(present_arg)
}

fn present_arg(arg: Arg) -> Arg {
    // The option's own parser refuses a negative number; otherwise clap would take it for another option.
    let arg = if is_measure(&arg) { arg.allow_hyphen_values(true) } else { arg };
    let help = arg.get_help().map(|help| help.to_string().replace('`', ""));
    let possible = arg.get_possible_values();
    let names: Vec<&str> = possible.iter().map(PossibleValue::get_name).collect();
    let arg = if arg.get_action().takes_values() && !names.is_empty() {
        arg.value_name(names.join("|")).hide_possible_values(true)
    } else {
        arg
    };
    // Positional arguments come first, whatever the heading of their group.
    let arg = if arg.is_positional() { arg.help_heading(None::<&str>) } else { arg };
    match help {
        Some(help) => arg.help(help),
        None => arg,
    }
}

/// Whether the value is a number or a duration.
fn is_measure(arg: &Arg) -> bool {
    let kind = arg.get_value_parser().type_id();
    let numbers = [TypeId::of::<u32>(), TypeId::of::<u64>(), TypeId::of::<i64>(), TypeId::of::<usize>()];
    let durations = [TypeId::of::<Duration>(), TypeId::of::<(Duration, Duration)>()];
    let limits = [TypeId::of::<RateArg>(), TypeId::of::<MaxFailures>(), TypeId::of::<Ask>()];
    let takes_value = arg.get_action().takes_values();
    takes_value && numbers.iter().chain(&durations).chain(&limits).any(|measure| kind == *measure)
}

/// The definition as `--help` shows it: with the fields of a customer, and the exit codes.
pub(in crate::cli) fn detailed(definition: Command) -> Command {
    let codes = EXIT_CODES.map(|(code, meaning)| format!("  {code:13}  {meaning}")).join("\n");
    let with_codes = format!("{FIRST_STEPS}\n\nExit codes:\n{codes}");
    mention_summary(definition).after_help(with_codes).mut_subcommands(|command| {
        let command = if has_summary(&command) { mention_summary(command) } else { command };
        match command.get_after_help() {
            Some(examples) if reads_rows(&command) => {
                let after = format!("Customer fields:\n{}\n\n{examples}", fields());
                command.after_help(after)
            }
            _ => command,
        }
    })
}

fn mention_summary(command: Command) -> Command {
    command.mut_arg("help", |arg| arg.help("Print help; -h prints it in short"))
}

/// The definition as `-h` shows it.
pub(in crate::cli) fn summary(definition: Command) -> Command {
    let definition = definition
        .mut_arg("help", |arg| arg.help("Print help in short; --help prints all of it"))
        .mut_arg("config", |arg| arg.help("Settings in a TOML file"));
    // One line less, so that the help fits a screen.
    definition.disable_help_subcommand(true).mut_subcommands(|command| match has_summary(&command) {
        true => command.mut_args(summarized),
        // Nearly every command has this option, and hardly any user needs it.
        false => command.mut_args(|arg| match arg.get_long() {
            Some("color") => arg.hide(true),
            _ => arg,
        }),
    })
}

fn has_summary(command: &Command) -> bool {
    command.get_opts().filter(|arg| !arg.is_hide_set()).count() > FEW
}

fn summarized(arg: Arg) -> Arg {
    let text = arg.get_long().and_then(|long| SUMMARY.iter().find(|(name, _)| *name == long));
    match text {
        Some((_, text)) => arg.help(*text).help_heading(None::<&str>),
        None if arg.is_positional() => arg,
        None => arg.hide(true),
    }
}

fn reads_rows(command: &Command) -> bool {
    command.get_arguments().any(|arg| arg.get_id() == "map")
}

/// One line per field of a customer: its name, whether it is required, and the allowed values.
fn fields() -> String {
    let line = |field: Field| {
        let needed = if field.is_mandatory() { "required" } else { "optional" };
        format!("  {:29}  {needed}  {}", field.name(), allowed(field))
    };
    Field::ALL.map(line).join("\n")
}

/// The allowed values of a field, in a few words.
pub(in crate::cli) fn allowed(field: Field) -> &'static str {
    match field.kind() {
        FieldKind::Reference => "your own id, 8 to 128 characters",
        FieldKind::MobileNumber => "at most 16 digits",
        FieldKind::EmailAddress => "at most 128 characters",
        FieldKind::PersonName => "at most 64 of A-Z a-z 0-9 ().-_",
        FieldKind::CountryCode => "at most 4 digits, without +",
        FieldKind::Boolean => "true or false",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_options_of_commands_that_have_one() {
        let definition = definition();
        for (name, _) in SUMMARY {
            let commands = definition.get_subcommands().filter(|command| has_summary(command));
            let mut names = commands.flat_map(Command::get_arguments).filter_map(Arg::get_long);
            assert!(names.any(|long| long == name), "{name}");
        }
    }
}
