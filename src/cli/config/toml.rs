//! Parses a settings file by clap's definition of the options.
//!
//! A key is the long name of an option; a section `[command]` applies to that command only. There is no list of keys here:
//! every option can be set in the file, and the option's own parser checks its value. An unknown key is an error that names
//! the nearest known one, because a mistyped limit that is ignored silently does not limit anything. Pure: no files, no
//! environment. A value is repeated in a message only if its key is an option, so an API key put here by mistake is not
//! printed.

use std::ffi::{OsStr, OsString};

use clap::{Arg, ArgAction, Command};
use toml::de::{DeInteger, DeTable, DeValue};

use crate::customer::visible;

/// Maximum number of characters of a wrong key or value in a message.
const SHOWN_CHARS: usize = 60;

/// One setting of the file, with a valid value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSetting {
    /// The option's long name.
    pub key: String,
    /// The values as on the command line; `true` or `false` for a flag.
    pub values: Vec<OsString>,
    /// The line in the file.
    pub line: usize,
    /// Whether it is in the section of the running command.
    pub own: bool,
    /// Another command that has this option, if the running command does not.
    pub other: Option<String>,
}

/// An error in the file, with its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub hint: String,
}

/// A key with its value, not yet matched with an option.
struct Entry<'a> {
    section: Option<&'a str>,
    key: &'a str,
    value: &'a DeValue<'a>,
    line: usize,
}

/// Parses the settings for the command `running` of this definition. Settings for other commands must be valid too.
///
/// # Errors
/// The first error in the file.
pub fn read(bytes: &[u8], definition: &Command, running: &str) -> Result<Vec<FileSetting>, SettingsError> {
    let text = std::str::from_utf8(bytes).map_err(|error| SettingsError {
        line: line_at(bytes, error.valid_up_to()),
        text: "not UTF-8".into(),
        hint: "save the file as UTF-8".into(),
    })?;
    let table = DeTable::parse(text).map_err(|error| {
        let line = line_at(bytes, error.span().map_or(0, |span| span.start));
        let has_bare_text = text.lines().nth(line - 1).is_some_and(has_bare_text);
        let text = match has_bare_text {
            true => "text without quotes".into(),
            false => error.message().lines().collect::<Vec<_>>().join(", "),
        };
        SettingsError {
            line,
            text,
            hint: "write it as TOML, such as rate = 20 or ledger = \"users.db\"".into(),
        }
    })?;
    let mut settings = Vec::new();
    for entry in entries(bytes, table.get_ref(), definition) {
        settings.push(setting(&entry, definition, running)?);
    }
    Ok(settings)
}

/// Whether the value of a line is text that is not in quotes.
fn has_bare_text(line: &str) -> bool {
    let value = line.split_once('=').map_or("", |(_, value)| value.trim_start());
    let word = value.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    value.starts_with(|c: char| c.is_alphabetic() || matches!(c, '/' | '~' | '.' | '_'))
        && !["true", "false"].contains(&word)
}

fn line_at(bytes: &[u8], at: usize) -> usize {
    bytes[..at.min(bytes.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// The options of a command that have a long name, which are its keys.
pub(super) fn options(command: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    let is_setting = |arg: &&Arg| {
        let asks = [ArgAction::Help, ArgAction::HelpShort, ArgAction::HelpLong, ArgAction::Version];
        // A global option is not a setting of a command.
        !arg.is_global_set() && !asks.iter().any(|action| same_action(action, arg.get_action()))
    };
    command.get_arguments().filter(is_setting).filter_map(|arg| Some((arg.get_long()?, arg)))
}

fn same_action(one: &ArgAction, other: &ArgAction) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

/// The commands that have settings.
pub(in crate::cli) fn commands(definition: &Command) -> impl Iterator<Item = &Command> {
    definition.get_subcommands().filter(|command| options(command).next().is_some())
}

/// All keys in the order of the file.
fn entries<'a>(bytes: &[u8], table: &'a DeTable<'a>, definition: &'a Command) -> Vec<Entry<'a>> {
    let mut entries = Vec::new();
    // Counting line breaks from the top for each key would take minutes for a large file.
    let breaks: Vec<usize> = memchr::memchr_iter(b'\n', bytes).collect();
    let mut add = |section, table: &'a DeTable<'a>| {
        entries.extend(table.iter().map(|(key, value)| Entry {
            section,
            line: breaks.partition_point(|at| *at < key.span().start) + 1,
            key: key.get_ref(),
            value: value.get_ref(),
        }));
    };
    add(None, table);
    for command in commands(definition) {
        if let Some(DeValue::Table(inside)) = table.get(command.get_name()).map(toml::Spanned::get_ref) {
            add(Some(command.get_name()), inside);
        }
    }
    entries.retain(|entry| {
        let is_heading = |command: &Command| command.get_name() == entry.key;
        let is_section = entry.section.is_none() && matches!(entry.value, DeValue::Table(_));
        !(is_section && commands(definition).any(is_heading))
    });
    entries.sort_by_key(|entry| entry.line);
    entries
}

fn setting(entry: &Entry<'_>, definition: &Command, running: &str) -> Result<FileSetting, SettingsError> {
    let Entry { section, key, value, line } = *entry;
    let mut owners = Vec::new();
    for command in
        commands(definition).filter(|command| section.is_none_or(|name| name == command.get_name()))
    {
        let option = options(command).find(|(name, _)| *name == key);
        owners.extend(option.map(|(_, arg)| (command.get_name(), arg)));
    }
    let Some(first) = owners.first() else {
        return Err(unknown(entry, definition));
    };
    let runs = owners.iter().find(|(command, _)| *command == running);
    let read = match runs {
        Some((_, arg)) => read_value(arg, value),
        // A value may be valid for one command and not for another; it is wrong only if no command accepts it.
        None => owners
            .iter()
            .skip(1)
            .fold(read_value(first.1, value), |read, (_, arg)| read.or_else(|_| read_value(arg, value))),
    };
    let values = read.map_err(|text| SettingsError {
        line,
        text: format!("{key} {text}"),
        hint: if section.is_none() && owners.len() > 1 {
            format!("correct it, or put it under its own command, such as [{}]", first.0)
        } else {
            format!("correct it; see {} --help", first.0)
        },
    })?;
    let other = runs.is_none().then(|| first.0.to_owned());
    Ok(FileSetting { key: key.to_owned(), values, line, own: section.is_some(), other })
}

/// The value in the form that the option accepts, or what is wrong with it.
fn read_value(arg: &Arg, value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
    let wants = |what: &str| Err(format!("wants {what}, not {}", kind(value)));
    let texts = match (arg.get_action(), value) {
        (ArgAction::SetTrue | ArgAction::SetFalse, DeValue::Boolean(yes)) => {
            return Ok(vec![yes.to_string().into()]);
        }
        (ArgAction::SetTrue | ArgAction::SetFalse, _) => return wants("true or false"),
        (ArgAction::Count, DeValue::Boolean(yes)) => Some(vec![u8::from(*yes).to_string()]),
        (ArgAction::Count, DeValue::Integer(number)) => decimal(number).map(|number| vec![number]),
        (ArgAction::Count, _) => return wants("a number"),
        (ArgAction::Append, DeValue::Array(items)) => {
            items.iter().map(|item| text(arg, item.get_ref())).collect()
        }
        (_, value) => text(arg, value).map(|text| vec![text]),
    };
    let Some(texts) = texts else {
        let name = arg.get_value_names().and_then(<[_]>::first).map_or("VALUE", |name| name.as_str());
        return match arg.get_action() {
            ArgAction::Append => wants(&format!("a list such as [\"{name}\"]")),
            _ if is_text(arg) => wants(&format!("text in quotes ({name})")),
            _ => wants(&format!("one value ({name})")),
        };
    };
    let values: Vec<OsString> = texts.into_iter().map(OsString::from).collect();
    check(arg, &values)?;
    Ok(values)
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "such a list",
        DeValue::Table(_) => "a table",
    }
}

/// A value as on the command line.
fn text(arg: &Arg, value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Datetime(time) => Some(time.to_string()),
        // Converting a number to text would drop leading zeros and rewrite 0x10.
        _ if is_text(arg) => None,
        DeValue::Integer(number) => decimal(number),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        _ => None,
    }
}

/// Whether the option accepts any text or path.
pub(in crate::cli) fn is_text(arg: &Arg) -> bool {
    use std::any::TypeId;
    let kind = arg.get_value_parser().type_id();
    [TypeId::of::<String>(), TypeId::of::<std::path::PathBuf>(), TypeId::of::<OsString>()]
        .iter()
        .any(|text| kind == *text)
}

fn decimal(number: &DeInteger<'_>) -> Option<String> {
    i128::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
}

/// Checks values with the option's own parser.
pub(super) fn check(arg: &Arg, values: &[OsString]) -> Result<(), String> {
    values.iter().try_for_each(|value| match explain(arg, value) {
        Some(instead) => Err(format!("cannot be {}; {instead}", quoted(value))),
        None => Ok(()),
    })
}

/// What to give instead of a value that the option's parser refuses.
pub(in crate::cli) fn explain(arg: &Arg, value: &OsStr) -> Option<String> {
    // Without conflicts: the other arguments do not exist here.
    let alone = Arg::new("value").long("value").value_parser(arg.get_value_parser().clone());
    let mut given = OsString::from("--value=");
    given.push(value);
    let parsed = Command::new("value").no_binary_name(true).arg(alone).try_get_matches_from([given]);
    let error = parsed.err()?;
    if let Some(source) = std::error::Error::source(&error) {
        return Some(source.to_string());
    }
    let possible = arg.get_possible_values();
    let names: Vec<&str> = possible.iter().map(clap::builder::PossibleValue::get_name).collect();
    Some(if names.is_empty() { "give a value".into() } else { format!("give one of {}", names.join(", ")) })
}

/// A value for a message, truncated if it is long.
pub(in crate::cli) fn shown(value: &OsStr) -> String {
    value.to_string_lossy().chars().take(SHOWN_CHARS).collect()
}

/// Any value in quotation marks, for a message.
pub(in crate::cli) fn quoted(value: &OsStr) -> String {
    format!("\"{}\"", visible(&shown(value)))
}

/// The error for an unknown key, with the nearest known one.
fn unknown(entry: &Entry<'_>, definition: &Command) -> SettingsError {
    let Entry { section, key, line, value } = *entry;
    let fault = |text: String, hint: String| SettingsError { line, text, hint };
    let plain: String = key.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    if plain.ends_with("apikey") || ["key", "secret", "token", "password"].contains(&plain.as_str()) {
        let hint = "remove it, and set JUSPAY_API_KEY or name a file that holds it with api-key-file";
        return fault("an API key does not belong in the settings file".into(), hint.into());
    }
    let all = commands(definition).collect::<Vec<_>>();
    if section.is_none() && all.iter().any(|command| command.get_name() == key) {
        let text = format!("{key} is a command, not a key");
        return fault(text, format!("put its settings under a heading, [{key}]"));
    }
    let owner = all.iter().find(|command| options(command).any(|(name, _)| name == key));
    let here = all.iter().filter(|command| section.is_none_or(|name| name == command.get_name()));
    let mut candidates: Vec<&str> = here.flat_map(|command| options(command)).map(|(name, _)| name).collect();
    if section.is_none() && matches!(value, DeValue::Table(_)) {
        candidates.extend(all.iter().map(|command| command.get_name()));
    }
    let typed = shown(OsStr::new(key)).to_lowercase();
    let score = |name: &str| strsim::jaro_winkler(&typed, name);
    let nearest = candidates.into_iter().max_by(|a, b| score(a).total_cmp(&score(b))).unwrap_or_default();
    let of_section = section.map_or(String::new(), |name| format!(" of {name}"));
    let text = match owner {
        Some(owner) => format!("{key} is an option of {}, not{of_section}", owner.get_name()),
        None => format!(
            "unknown key {:?}{}",
            shown(OsStr::new(key)),
            section.map_or(String::new(), |name| format!(" under [{name}]"))
        ),
    };
    fault(text, format!("the nearest known key{of_section} is {nearest}"))
}
