//! The shell completions, generated from clap's definition, with suggested values for options that take one of a set.
//!
//! The parsers of these options accept more than their suggestions (`FIELD=COLUMN`, further labels), so the
//! suggestions are added only to the definition that the generator receives. Files are suggested only where an option
//! takes a file.

use std::{any::TypeId, path::PathBuf};

use clap::{
    Arg, Command, ValueHint,
    builder::{PossibleValue, PossibleValuesParser},
};
use clap_complete::Shell;

use super::config::{PROGRAM, Required, definition, parser, toml};
use crate::{
    customer::{Field, PhoneRegion},
    simulator::Fault,
    source::Encoding,
};

/// The completion script for a shell.
pub(super) fn completions(shell: Shell) -> String {
    // Clap's generator writes to memory first, because it panics on a closed pipe.
    let mut script = Vec::new();
    let mut offering = parser(Required::Enforced)
        .mut_args(with_values)
        .mut_subcommands(|command| command.mut_args(with_values));
    clap_complete::generate(shell, &mut offering, PROGRAM, &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        Shell::Bash => of_bash(&script, &offering),
        Shell::Fish => script + &arguments_of_fish(&offering),
        _ => script,
    }
}

fn of_bash(script: &str, definition: &Command) -> String {
    let function = PROGRAM.replace('-', "__");
    // For a program whose name has a hyphen, clap's bash script calls functions under other names than it defines:
    // https://github.com/clap-rs/clap/issues/6421.
    let mut script = script.replace(&PROGRAM.replace('-', "__subcmd__"), &function);
    // Unless a hyphen was typed, suggest values or files, but no options.
    let words = "esac\n            COMPREPLY=( $(compgen -W";
    let arguments = words.replace("compgen", "compgen -X '-*'");
    script = script.replace(words, &arguments);
    for level in 1..=3 {
        script = script.replace(&format!(" || ${{COMP_CWORD}} -eq {level} ]]"), " ]]");
    }
    for command in definition.get_subcommands().filter(|command| !takes_file(command)) {
        let section = script.find(&format!("\n        {function}__subcmd__{})\n", command.get_name()));
        let end = section.and_then(|begin| Some(begin + script[begin..].find(&arguments)?));
        if let Some(end) = end {
            script.insert_str(
                end + "esac".len(),
                "\n            compopt +o default +o bashdefault 2>/dev/null",
            );
        }
    }
    script
}

fn takes_file(command: &Command) -> bool {
    command.get_positionals().any(|arg| arg.get_possible_values().is_empty())
}

/// What clap's generator for fish omits: the values of positional arguments, and that a command without arguments
/// takes no file.
fn arguments_of_fish(definition: &Command) -> String {
    let mut lines = String::new();
    let others = definition.get_subcommands().filter(|command| command.get_name() != "help");
    for command in others.filter(|command| !takes_file(command)) {
        let values = command.get_positionals().flat_map(Arg::get_possible_values);
        let names: Vec<String> = values.map(|value| value.get_name().to_owned()).collect();
        let values = if names.is_empty() { String::new() } else { format!(" -a {:?}", names.join(" ")) };
        let condition = format!("__fish_customer_import_using_subcommand {}", command.get_name());
        lines.push_str(&format!("complete -c {PROGRAM} -n \"{condition}\" -f{values}\n"));
    }
    lines
}

fn with_values(arg: Arg) -> Arg {
    if !arg.get_action().takes_values() || !arg.get_possible_values().is_empty() {
        return arg;
    }
    if arg.get_value_parser().type_id() == TypeId::of::<PathBuf>() {
        return arg.value_hint(ValueHint::FilePath);
    }
    // Without this hint, a shell would suggest files and append a blank to `FIELD=`.
    let arg = arg.value_hint(ValueHint::Other);
    match values(arg.get_id().as_str()) {
        Some(values) => {
            arg.value_parser(PossibleValuesParser::new(values.into_iter().map(PossibleValue::new)))
        }
        None => arg,
    }
}

/// The values to suggest for an argument, if there are any.
fn values(id: &str) -> Option<Vec<String>> {
    let fields = || Field::ALL.into_iter();
    Some(match id {
        "map" | "set" => fields().map(|field| format!("{field}=")).collect(),
        "require" => fields().filter(|field| !field.is_mandatory()).map(|field| field.to_string()).collect(),
        "null_marker" => ["NULL", "null", "None", "\\N"].map(str::to_owned).to_vec(),
        "phone_region" => PhoneRegion::names(),
        "encoding" => Encoding::labels().map(str::to_owned).collect(),
        "faults" => Fault::all().map(|fault| format!("{}=", fault.name())).collect(),
        "words" => {
            toml::commands(&definition()).map(|command: &Command| command.get_name().to_owned()).collect()
        }
        _ => return None,
    })
}
