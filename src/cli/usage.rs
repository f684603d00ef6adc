//! Explains an invalid command line in one sentence, with what to do.
//!
//! Clap explains over several lines, with tips, placeholders and its own terms. Here only the facts of its error are
//! used: what was typed, and what the definition says about it. An invalid value is explained by the option's own
//! parser.

use std::ffi::{OsStr, OsString};

use clap::{
    Arg, Command,
    builder::PossibleValue,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{
    args::closest,
    config::{
        PROGRAM, definition,
        toml::{self, quoted, shown},
    },
};

/// Names that other programs use for a command.
const OTHER_COMMANDS: [(&str, &str); 12] = [
    ("check", "validate"),
    ("create", "import"),
    ("delete", "prune"),
    ("diff", "plan"),
    ("dry-run", "plan"),
    ("load", "import"),
    ("resume", "import"),
    ("run", "import"),
    ("start", "import"),
    ("sync", "import"),
    ("update", "import"),
    ("upload", "import"),
];

/// Names that other programs use for an option: the name, the id of an argument that shows whether the entry fits the
/// command, and what to do.
const OTHER_OPTIONS: [(&str, &str, &str); 18] = [
    ("--api-key", "api_key_file", KEY),
    ("--key", "api_key_file", KEY),
    ("--token", "api_key_file", KEY),
    ("--csv", "csv", FILE),
    ("--file", "csv", FILE),
    ("--input", "csv", FILE),
    ("--dry-run", "csv", "use validate to check the file, or plan to see what an import would do"),
    ("--json", "format", "use --format json"),
    ("--json", "summary_json", "use --summary-json FILE"),
    ("--no-color", "color", "use --color never"),
    ("--jobs", "concurrency", "use --concurrency"),
    ("--parallel", "concurrency", "use --concurrency"),
    ("--threads", "concurrency", "use --concurrency"),
    ("--workers", "concurrency", "use --concurrency"),
    ("--qps", "rate", "use --rate"),
    ("--rps", "rate", "use --rate"),
    ("--resume", "update_changed", "run the same command again to resume"),
    ("--retries", "max_attempts", "use --max-attempts"),
];
const KEY: &str = "set JUSPAY_API_KEY, or name a file that holds the key with --api-key-file";
const FILE: &str = "name the file without an option, such as users.csv";

/// Dashes that word processors substitute for hyphens.
const LONG_DASHES: [char; 3] = ['\u{2013}', '\u{2014}', '\u{2212}'];

/// An invalid command line, with what is known about it.
struct Refused<'a> {
    error: &'a clap::Error,
    args: &'a [OsString],
    definition: &'a Command,
    /// The requested command, or the program itself.
    command: &'a Command,
}

/// The one line that says what is wrong and what to do.
pub(super) fn explain(error: &clap::Error, args: &[OsString]) -> String {
    let definition = definition();
    let command = command_of(&definition, args);
    let refused = Refused { error, args, definition: &definition, command };
    let explained = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            Some(refused.no_command())
        }
        ErrorKind::InvalidSubcommand => refused.unknown_command(),
        ErrorKind::UnknownArgument => refused.unknown_argument(),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => refused.wrong_value(),
        ErrorKind::TooManyValues => refused.value_of_a_flag(),
        ErrorKind::ArgumentConflict => refused.conflict(),
        ErrorKind::MissingRequiredArgument => refused.missing(),
        ErrorKind::InvalidUtf8 => refused.no_text(),
        _ => None,
    };
    explained.unwrap_or_else(|| refused.in_claps_words())
}

/// The command whose options the line contains: for `config` and `help`, the command named after it.
fn command_of<'a>(definition: &'a Command, args: &[OsString]) -> &'a Command {
    let mut words = args.iter().skip(1).filter_map(|word| word.to_str());
    let mut found = definition;
    while let Some(word) = words.next() {
        if word == "--config" {
            words.next();
        } else if !word.starts_with('-') {
            let Some(command) = definition.find_subcommand(word) else { break };
            found = command;
            if !matches!(word, "config" | "help") {
                break;
            }
        }
    }
    // `config` alone shows the settings of `import`.
    let is_config = found.get_name() == "config";
    definition.find_subcommand("import").filter(|_| is_config).unwrap_or(found)
}

impl Refused<'_> {
    fn no_command(&self) -> String {
        format!("no command; the commands are {}; {}", names(self.definition), see_help(self.definition))
    }

    fn unknown_command(&self) -> Option<String> {
        let typed = self.text(ContextKind::InvalidSubcommand)?;
        let word = shown(OsStr::new(typed));
        if typed == "-" || typed.contains(['.', '/']) {
            return Some(format!("there is no command {word}; to import that file: {PROGRAM} import {word}"));
        }
        let commands = self.definition.get_subcommands().map(Command::get_name);
        let lower = typed.to_lowercase();
        let other = OTHER_COMMANDS.iter().find(|(name, _)| *name == lower).map(|(_, meant)| *meant);
        Some(match other.or_else(|| closest(typed, commands)) {
            Some(meant) => format!("there is no command {word}; did you mean {meant}?"),
            None => format!("there is no command {word}; the commands are {}", names(self.definition)),
        })
    }

    fn unknown_argument(&self) -> Option<String> {
        if let Some(word) =
            self.args.iter().filter_map(|word| word.to_str()).find(|word| word.starts_with(LONG_DASHES))
        {
            let option = word.trim_start_matches(LONG_DASHES);
            let code = word.chars().next().map_or(0, u32::from);
            return Some(format!(
                "{} begins with a long dash (U+{code:04X}), not with two hyphens; write --{}",
                shown(OsStr::new(word)),
                shown(OsStr::new(option))
            ));
        }
        let typed = self.text(ContextKind::InvalidArg)?;
        Some(if typed.starts_with('-') { self.unknown_option(typed) } else { self.superfluous(typed) })
    }

    fn unknown_option(&self, typed: &str) -> String {
        let (word, long) = (shown(OsStr::new(typed)), typed.trim_start_matches('-'));
        let at_top = self.command.get_name() == self.definition.get_name();
        let no_option = format!("{} has no option {word}", self.command.get_name());
        let fits = |id: &str| self.command.get_arguments().any(|arg| arg.get_id() == id);
        if let Some((.., instead)) = OTHER_OPTIONS.iter().find(|(name, id, _)| *name == typed && fits(id)) {
            return format!("{no_option}; {instead}");
        }
        if let Some(meant) = self.with_one_hyphen(typed) {
            return format!("{no_option}; did you mean --{meant}?");
        }
        if at_top && self.definition.find_subcommand(long).is_some() {
            return format!("{long} is a command, not an option; write {PROGRAM} {long}");
        }
        if !at_top && option(self.definition, typed).is_some() {
            return format!("{no_option}; write {PROGRAM} {word}");
        }
        if !at_top && option(self.command, typed).is_some() && self.args.iter().any(|word| word == "--") {
            return format!("{word} comes after --, where every word is a file name; put it before --");
        }
        let has = |command: &&Command| option(command, typed).is_some();
        let owners: Vec<&str> =
            self.definition.get_subcommands().filter(has).map(Command::get_name).collect();
        let is_typed = |owner: &&&str| self.args.iter().any(|word| word == **owner);
        match owners.as_slice() {
            [] => {}
            // An option of the command itself is only unknown in front of it.
            owners @ [first, ..] if at_top || owners.contains(&self.command.get_name()) => {
                let owner = owners.iter().find(is_typed).unwrap_or(first);
                return format!(
                    "{word} comes before the command; put it after the command, as in {PROGRAM} {owner} {word}"
                );
            }
            owners => return format!("{no_option}; it is an option of {}", owners.join(", ")),
        }
        let longs = self.command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(Arg::get_long);
        match closest(long, longs) {
            Some(near) if typed.starts_with("--") => format!("{no_option}; did you mean --{near}?"),
            _ => format!("{no_option}; {}", see_help(self.command)),
        }
    }

    /// The long option that was typed with one hyphen: `-rate` is parsed as `-r -a -t -e`.
    fn with_one_hyphen(&self, typed: &str) -> Option<&str> {
        let words = self.args.iter().filter_map(|word| word.to_str());
        let words = words.filter(|word| !typed.starts_with("--") && word.starts_with(typed));
        let longs = words.map(|word| word[1..].split('=').next().unwrap_or_default());
        longs.filter(|long| long.len() > 1).find(|long| option(self.command, &format!("--{long}")).is_some())
    }

    /// A word that is not an option, where no further argument is expected.
    fn superfluous(&self, typed: &str) -> String {
        let (name, word) = (self.command.get_name(), shown(OsStr::new(typed)));
        let Some(only) = self.command.get_positionals().next() else {
            // A value whose option is missing.
            let needs_option = self.command.get_opts().any(Arg::is_required_set);
            let how = if needs_option { self.such_as() } else { see_help(self.command) };
            return format!("{name} takes only options, and {word:?} is not one; {how}");
        };
        let too_many = format!("{name} takes {}, and {word:?} is one argument too many", noun(only));
        match only.get_id().as_str() {
            "csv" => format!("{too_many}; put quotes around a value with spaces"),
            _ => too_many,
        }
    }

    fn wrong_value(&self) -> Option<String> {
        let (named, value) = (self.text(ContextKind::InvalidArg)?, self.text(ContextKind::InvalidValue)?);
        let arg = self.argument(named)?;
        if arg.is_positional() {
            let (name, what) = (self.command.get_name(), noun(arg));
            return Some(format!("{name} takes {what}, not {}", quoted(OsStr::new(value))));
        }
        let name = bare(named);
        let is_empty = self.args.iter().any(|word| word.to_str() == Some(&format!("{name}=")));
        let wrong = if value.is_empty() && !is_empty {
            "needs a value".into()
        } else {
            format!("cannot be {}", quoted(OsStr::new(value)))
        };
        let instead = match toml::explain(arg, OsStr::new(value)) {
            Some(instead) if !toml::is_text(arg) => instead,
            _ => format!("write {}", named.replace(['<', '>'], "")),
        };
        Some(format!("{name} {wrong}; {instead}"))
    }

    fn value_of_a_flag(&self) -> Option<String> {
        let (named, value) = (self.text(ContextKind::InvalidArg)?, self.text(ContextKind::InvalidValue)?);
        Some(format!("{} takes no value; leave {} out", bare(named), quoted(OsStr::new(value))))
    }

    fn conflict(&self) -> Option<String> {
        let others: Vec<&str> = self.texts(ContextKind::PriorArg).into_iter().map(bare).collect();
        let one = bare(self.text(ContextKind::InvalidArg)?);
        Some(format!("{one} cannot be used with {}; keep one of the two", others.join(" or ")))
    }

    fn missing(&self) -> Option<String> {
        let missing =
            self.texts(ContextKind::InvalidArg).into_iter().map(|named| match self.argument(named) {
                Some(arg) if arg.is_positional() => noun(arg),
                _ => named.replace(['<', '>'], ""),
            });
        let missing: Vec<String> = missing.collect();
        let how = self.such_as();
        Some(format!("{} needs {}; {how}", self.command.get_name(), missing.join(" and ")))
    }

    /// An example of the command.
    fn such_as(&self) -> String {
        example(self.command).map_or_else(|| see_help(self.command), |line| format!("such as: {line}"))
    }

    /// An argument that is not valid text. Clap does not say which one; a file name may be one.
    fn no_text(&self) -> Option<String> {
        let mut words = self.args.iter().filter(|word| word.to_str().is_none());
        Some(match (words.next()?, words.next()) {
            (only, None) => format!("the argument {} is not UTF-8; write it in UTF-8", quoted(only)),
            _ => "an argument is not UTF-8; only names of files may be written in another encoding".into(),
        })
    }

    /// Any other error: clap's message on one line, without its usage tips.
    fn in_claps_words(&self) -> String {
        let text = self.error.to_string();
        let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
        let lines: Vec<&str> =
            lines.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect();
        let line = lines.join(" ");
        format!("{}; {}", line.strip_prefix("error: ").unwrap_or(&line), see_help(self.command))
    }

    fn text(&self, kind: ContextKind) -> Option<&str> {
        self.texts(kind).first().copied()
    }

    fn texts(&self, kind: ContextKind) -> Vec<&str> {
        match self.error.get(kind) {
            Some(ContextValue::String(text)) => vec![text],
            Some(ContextValue::Strings(texts)) => texts.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// The argument with this name in clap's messages, `--rate <N>` or `<CSV>`.
    fn argument(&self, named: &str) -> Option<&Arg> {
        let long = named.strip_prefix("--").map(|_| bare(named).trim_start_matches('-'));
        self.command.get_arguments().find(|arg| match long {
            Some(long) => arg.get_long() == Some(long),
            None => arg.is_positional() && arg.to_string() == named,
        })
    }
}

/// The option without the rest of clap's name for it: `--rate <N>`, `--verbose...`.
fn bare(named: &str) -> &str {
    named.split([' ', '=']).next().unwrap_or(named).trim_end_matches("...")
}

/// The option with this spelling.
fn option<'a>(command: &'a Command, typed: &str) -> Option<&'a Arg> {
    let is_typed = |arg: &&Arg| match typed.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => arg
            .get_short()
            .is_some_and(|short| typed.strip_prefix('-').is_some_and(|typed| typed == short.to_string())),
    };
    command.get_arguments().filter(|arg| !arg.is_hide_set()).find(is_typed)
}

/// What an argument takes, as a noun.
fn noun(arg: &Arg) -> String {
    let possible = arg.get_possible_values();
    if !possible.is_empty() {
        let names: Vec<&str> = possible.iter().map(PossibleValue::get_name).collect();
        return format!("one of {}", names.join(", "));
    }
    match arg.get_value_names().unwrap_or_default() {
        [name] if name == "CSV" => "one CSV file".into(),
        names => names.join(" "),
    }
}

fn names(definition: &Command) -> String {
    let names: Vec<&str> = definition.get_subcommands().map(Command::get_name).collect();
    names.join(", ")
}

/// The first example of a command's help.
fn example(command: &Command) -> Option<String> {
    let help = command.get_after_help()?.to_string();
    help.split_once("Examples:\n")?.1.lines().next().map(|line| line.trim().to_owned())
}

fn see_help(command: &Command) -> String {
    match command.get_name() {
        PROGRAM => format!("see {PROGRAM} --help"),
        name => format!("see {PROGRAM} {name} --help"),
    }
}
