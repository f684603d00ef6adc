//! Resolves settings: flags over environment over file over defaults. `config` shows the result.
//!
//! An option that no flag sets takes the value of the environment or the file as its default, and clap parses the command
//! line again with these defaults. So there is one definition of the options and one parser per value, and a new option
//! needs nothing here. The first parse determines the file, the command and the flags. A flag also overrides a conflicting
//! setting in the file; two conflicting settings in the file are an error.

pub mod toml;

use std::{
    ffi::{OsStr, OsString},
    fmt::Write as _,
    io::Read,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, ArgMatches, Command, builder::Resettable, error::ErrorKind, parser::ValueSource};

use self::toml::FileSetting;
use super::{
    args::{self, help},
    target::{KEY_VARIABLE, base_url as base_url_of},
};
use crate::{
    api::{DirectReason, Route},
    customer::{Field, visible},
    error::Error,
    ledger::{self, SettingOrigin, without_password},
};

/// Maximum size of a settings file, which is read as a whole.
const FILE_MAX_BYTES: u64 = 256 * 1024;

/// The name of the program.
pub(super) const PROGRAM: &str = "customer-import";

/// Why no proxy is used.
const LOOPBACK: &str = "the target is this machine";

/// Reads an environment variable; an empty one counts as unset.
type Environment = dyn Fn(&str) -> Option<OsString>;

/// The command line with all settings resolved.
pub(super) struct ResolvedSettings {
    /// The result of clap.
    pub(super) matches: ArgMatches,
    /// Values from the environment or the file.
    layer: Vec<LayeredValue>,
    /// Settings in the file for other commands.
    others: Vec<FileSetting>,
}

/// Why no command runs: the user asked for help, or the command line or a setting is wrong.
pub(super) enum StartError {
    /// From clap, which also reports help this way.
    Usage(clap::Error),
    /// An error found by this module.
    Settings(Error),
}

impl From<clap::Error> for StartError {
    fn from(error: clap::Error) -> StartError {
        StartError::Usage(error)
    }
}

impl From<Error> for StartError {
    fn from(error: Error) -> StartError {
        StartError::Settings(error)
    }
}

/// An option's value from the environment or the file.
struct LayeredValue {
    id: String,
    values: Vec<OsString>,
    origin: Origin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Environment(String),
    File { name: String, line: usize },
}

impl From<&Origin> for SettingOrigin {
    fn from(origin: &Origin) -> SettingOrigin {
        SettingOrigin::Named(origin.to_string())
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::File { name, line } => write!(f, "{name} line {line}"),
        }
    }
}

/// Whether required arguments must be on the command line.
#[derive(Clone, Copy)]
pub(super) enum Required {
    /// As defined.
    Enforced,
    /// Not yet: they may still come from the file.
    Optional,
}

/// The definition of all commands and options.
pub fn definition() -> Command {
    let mut definition = help::definition();
    definition.build();
    definition
}

/// The parser of the command line. It does not read the environment: clap would accept an empty variable as a value, and
/// could not name the variable if its value is wrong.
pub(super) fn parser(required: Required) -> Command {
    let mut parser =
        help::definition().mut_subcommands(|command| command.mut_args(|arg| parser_arg(arg, required)));
    parser.set_bin_name(PROGRAM);
    parser
}

/// The requested help, if the arguments request it: the summary for `-h`, everything for `--help`.
pub(super) fn help(args: &[OsString]) -> Option<String> {
    let words = args.iter().skip(1).filter_map(|word| word.to_str()).take_while(|word| *word != "--");
    // `-vh` is `-v -h`.
    let mut clusters = words.filter(|word| !word.starts_with("--")).filter_map(|word| word.strip_prefix('-'));
    let parser = parser(Required::Enforced);
    let parser = if clusters.any(|letters| letters.contains('h')) {
        help::summary(parser)
    } else {
        help::detailed(parser)
    };
    // `config import -h` explains the options of `import`.
    let is_config = args.get(1).is_some_and(|word| word == "config");
    let of_command = args.get(2).filter(|word| is_config && !word.to_string_lossy().starts_with('-'));
    let words = args.iter().enumerate().filter(|(at, _)| *at != 1 || of_command.is_none());
    let help = parser.try_get_matches_from(words.map(|(_, word)| word)).err()?;
    (help.kind() == ErrorKind::DisplayHelp).then(|| help.to_string())
}

fn parser_arg(arg: Arg, required: Required) -> Arg {
    let variable = arg.get_env().map(|name| name.to_string_lossy().into_owned());
    let arg = match variable {
        Some(variable) => {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let long_help = arg.get_long_help().map(|help| format!("{help} [env: {variable}]"));
            let arg = arg.env(Resettable::Reset).help(format!("{help} [env: {variable}]"));
            match long_help {
                Some(help) => arg.long_help(help),
                None => arg,
            }
        }
        None => arg,
    };
    match required {
        Required::Enforced => arg,
        Required::Optional => arg.required(false),
    }
}

/// Parses the command line and resolves all settings.
pub(super) fn resolve(
    args: &[OsString],
    required: Required,
    environment: &Environment,
) -> Result<ResolvedSettings, StartError> {
    // Parse without required arguments first; on failure parse again with them, so that clap prints its own usage error.
    let flags = parser(Required::Optional)
        .try_get_matches_from(args)
        .or_else(|_| parser(required).try_get_matches_from(args))?;
    let definition = definition();
    let found = flags.subcommand().and_then(|(name, flags)| Some((definition.find_subcommand(name)?, flags)));
    // A command without settings reads no file.
    let Some((command, flags)) = found.filter(|(command, _)| toml::options(command).next().is_some()) else {
        let matches = parser(required).try_get_matches_from(args)?;
        return Ok(ResolvedSettings { matches, layer: Vec::new(), others: Vec::new() });
    };
    let path = flags.get_one::<PathBuf>("config");
    let settings = path.map_or(Ok(Vec::new()), |path| read_file(path, &definition, command.get_name()))?;
    let (others, settings) = settings.into_iter().partition(|setting| setting.other.is_some());
    let name = path.map(|path| path.display().to_string()).unwrap_or_default();
    let mut layer = layer(command, flags, environment, settings, &name)?;
    resolve_conflicts(command, flags, &mut layer)?;
    let matches = with_defaults(parser(required), command.get_name(), &layer).try_get_matches_from(args)?;
    Ok(ResolvedSettings { matches, layer, others })
}

fn with_defaults(parser: Command, name: &str, layer: &[LayeredValue]) -> Command {
    parser.mut_subcommand(name, |command| {
        layer.iter().fold(command, |command, LayeredValue { id, values, .. }| {
            command.mut_arg(id, |arg| arg.required(false).default_values(values.iter().cloned()))
        })
    })
}

/// Whether clap accepts the settings that [`toml::read`] accepted for this command, without flags and environment. For
/// fuzzing.
pub fn is_accepted(running: &str, settings: Vec<FileSetting>) -> bool {
    let line = [PROGRAM, running];
    let (definition, flags) = (definition(), parser(Required::Optional).try_get_matches_from(line));
    let found = definition.find_subcommand(running).zip(flags.as_ref().ok().and_then(ArgMatches::subcommand));
    let settings = settings.into_iter().filter(|setting| setting.other.is_none()).collect();
    found.is_some_and(|(command, (_, flags))| {
        layer(command, flags, &|_| None, settings, "").is_ok_and(|layer| {
            with_defaults(parser(Required::Optional), running, &layer).try_get_matches_from(line).is_ok()
        })
    })
}

fn read_file(path: &Path, definition: &Command, running: &str) -> Result<Vec<FileSetting>, Error> {
    let name = path.display();
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| {
        Error::usage(format!("cannot read {name}: {error}"), "give --config a settings file in TOML")
    })?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(Error::usage(
            format!("{name} is too long for a settings file"),
            "give --config another file",
        ));
    }
    toml::read(&bytes, definition, running)
        .map_err(|fault| Error::usage(format!("{name} line {}: {}", fault.line, fault.text), fault.hint))
}

/// The value of each option that no flag sets: from the environment, or else from the file.
fn layer(
    command: &Command,
    flags: &ArgMatches,
    environment: &Environment,
    mut settings: Vec<FileSetting>,
    file: &str,
) -> Result<Vec<LayeredValue>, Error> {
    // A setting in the command's own section takes precedence, so it comes first.
    settings.sort_by_key(|setting| !setting.own);
    let mut layer = Vec::new();
    for (key, arg) in toml::options(command).filter(|(_, arg)| !is_flag_given(flags, arg)) {
        let variable = arg.get_env().and_then(OsStr::to_str);
        let set = variable.and_then(|name| Some((name, environment(name)?)));
        let (values, origin) = if let Some((name, value)) = set {
            let values = vec![value];
            toml::check(arg, &values).map_err(|wrong| {
                Error::usage(format!("{name} {wrong}"), format!("correct {name}, or unset it"))
            })?;
            (values, Origin::Environment(name.to_owned()))
        } else if key == "api-key-file" && environment(KEY_VARIABLE).is_some() {
            // The environment has the key itself, and wins over a file that is named in the settings.
            continue;
        } else if let Some(setting) = settings.iter().find(|setting| setting.key == key) {
            let origin = Origin::File { name: file.to_owned(), line: setting.line };
            (setting.values.clone(), origin)
        } else {
            continue;
        };
        layer.push(LayeredValue { id: arg.get_id().to_string(), values, origin });
    }
    Ok(layer)
}

fn is_flag_given(flags: &ArgMatches, arg: &Arg) -> bool {
    flags.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
}

/// Removes values that conflict with a flag. Two other conflicting values are an error.
fn resolve_conflicts(
    command: &Command,
    flags: &ArgMatches,
    layer: &mut Vec<LayeredValue>,
) -> Result<(), Error> {
    let all: Vec<(&str, &Arg)> = toml::options(command).collect();
    for (one_key, one) in &all {
        for other in command.get_arg_conflicts_with(one) {
            let Some((other_key, _)) = all.iter().find(|(_, arg)| arg.get_id() == other.get_id()) else {
                continue;
            };
            if is_flag_given(flags, one) {
                layer.retain(|value| other.get_id() != value.id.as_str());
            }
            if is_flag_given(flags, other) {
                layer.retain(|value| one.get_id() != value.id.as_str());
            }
            let active = |wanted: &Arg| {
                layer.iter().find(|value| wanted.get_id() == value.id.as_str() && is_active(wanted, value))
            };
            if let (Some(one), Some(other)) = (active(one), active(other)) {
                let text =
                    format!("{one_key} ({}) cannot be used with {other_key} ({})", one.origin, other.origin);
                return Err(Error::usage(text, "keep one of the two"));
            }
        }
    }
    Ok(())
}

/// Whether the value has an effect: a flag that is false has none.
fn is_active(arg: &Arg, value: &LayeredValue) -> bool {
    let nothing = match arg.get_action() {
        ArgAction::SetTrue => "false",
        ArgAction::SetFalse => "true",
        ArgAction::Count => "0",
        _ => return !value.values.is_empty(),
    };
    value.values != [nothing]
}

/// The settings with which a command would run, as text for `config`.
pub(super) fn show(
    args: &args::Config,
    path: Option<&Path>,
    environment: &Environment,
) -> Result<String, StartError> {
    let definition = definition();
    let first = args.words.first().filter(|word| !word.to_string_lossy().starts_with('-'));
    let name = first.map_or("import".into(), |word| word.to_string_lossy().into_owned());
    let Some(command) = toml::commands(&definition).find(|command| command.get_name() == name) else {
        let names: Vec<&str> = toml::commands(&definition).map(Command::get_name).collect();
        return Err(Error::usage(
            format!("{name:?} is not a command that has settings"),
            format!("give one of {}", names.join(", ")),
        )
        .into());
    };
    let mut line = vec![OsString::from(PROGRAM), name.into()];
    line.extend(path.into_iter().flat_map(|path| ["--config".into(), path.into()]));
    line.extend(args.words.iter().skip(usize::from(first.is_some())).cloned());
    let resolved = resolve(&line, Required::Optional, environment)?;
    Ok(text(command, &resolved, environment)?)
}

/// The settings with which a command runs, to be stored with its run. Only the field of a `--set` constant is included,
/// because its value is customer data.
pub(super) fn settings_snapshot(resolved: &ResolvedSettings) -> Vec<ledger::Setting> {
    let definition = definition();
    let found = resolved.matches.subcommand();
    let found = found.and_then(|(name, matches)| Some((definition.find_subcommand(name)?, matches)));
    let Some((command, matches)) = found else { return Vec::new() };
    let lines = toml::options(command).map(|(key, arg)| match key {
        "set" => Line { value: fields_alone(matches), ..line_of_option(key, arg, matches, &resolved.layer) },
        _ => line_of_option(key, arg, matches, &resolved.layer),
    });
    let has_value = |line: &Line| !matches!(line.value.as_str(), "" | "-");
    let setting = |line: Line| ledger::Setting { name: line.key, value: line.value, origin: line.origin };
    lines.filter(has_value).map(setting).collect()
}

/// The fields of `--set`, without their values.
fn fields_alone(matches: &ArgMatches) -> String {
    let pairs = matches.get_many::<(Field, String)>("set").into_iter().flatten();
    let fields: Vec<String> = pairs.map(|(field, _)| format!("{field}=(not shown)")).collect();
    fields.join(", ")
}

/// A line of the output of `config`.
struct Line {
    heading: String,
    key: String,
    value: String,
    origin: SettingOrigin,
}

fn text(command: &Command, resolved: &ResolvedSettings, environment: &Environment) -> Result<String, Error> {
    let mut lines = Vec::new();
    let Some(matches) = resolved.matches.subcommand_matches(command.get_name()) else {
        return Ok(String::new());
    };
    for (key, arg) in toml::options(command) {
        lines.push(line_of_option(key, arg, matches, &resolved.layer));
        match key {
            "api-key-file" => lines.push(line_of_key(matches, environment)),
            "client-key" => lines.push(line_of_proxy(matches, environment)?),
            _ => {}
        }
    }
    for setting in &resolved.others {
        lines.push(Line {
            heading: "Of other commands".into(),
            key: setting.key.clone(),
            value: shown_values(setting.values.iter()),
            origin: SettingOrigin::Named(format!(
                "line {}, for {}",
                setting.line,
                setting.other.as_deref().unwrap_or_default()
            )),
        });
    }
    let width = |of: fn(&Line) -> &str| lines.iter().map(|line| of(line).chars().count()).max().unwrap_or(0);
    let keys = width(|line| &line.key);
    // A long value must not push the origins of all others off the screen.
    let values = width(|line| &line.value).min(32);
    let mut headings: Vec<&str> = Vec::new();
    for line in &lines {
        if !headings.contains(&line.heading.as_str()) {
            headings.push(&line.heading);
        }
    }
    let mut text = format!("Settings of {}\n", command.get_name());
    for heading in headings {
        text.push_str(&format!("\n{heading}\n"));
        for Line { key, value, origin, .. } in lines.iter().filter(|line| line.heading == heading) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {key:keys$}  {value:values$}  {origin}");
        }
    }
    Ok(text)
}

fn line_of_option(key: &str, arg: &Arg, matches: &ArgMatches, layer: &[LayeredValue]) -> Line {
    let id = arg.get_id().as_str();
    let value = layer.iter().find(|value| value.id == id);
    let origin = match matches.value_source(id) {
        Some(ValueSource::CommandLine) => SettingOrigin::Flag,
        _ => value.map_or(SettingOrigin::Default, |value| (&value.origin).into()),
    };
    let value = match matches.get_raw(id) {
        // A repeatable flag: its value is its count.
        Some(_) if matches!(arg.get_action(), ArgAction::Count) => matches.get_count(id).to_string(),
        Some(values) => shown_values(values),
        None => default_in_help(arg),
    };
    // A variable of the environment may have a password in it.
    let value = if key == "ledger" { without_password(&value) } else { value };
    let heading = arg.get_help_heading().unwrap_or("Options").to_owned();
    Line { heading, key: key.to_owned(), value, origin }
}

/// The API key: only whether it is set, and its origin.
fn line_of_key(matches: &ArgMatches, environment: &Environment) -> Line {
    let (value, origin) = if matches.get_raw("api_key_file").is_some() {
        ("not shown", "api-key-file")
    } else if environment(KEY_VARIABLE).is_some() {
        ("set, not shown", "environment JUSPAY_API_KEY")
    } else {
        ("not set", "default")
    };
    Line {
        heading: "Target".into(),
        key: "API key".into(),
        value: value.into(),
        origin: origin.to_owned().into(),
    }
}

/// The proxy: what is used, not what is set.
fn line_of_proxy(matches: &ArgMatches, environment: &Environment) -> Result<Line, Error> {
    let none = |why: &str| ("none".to_owned(), why.to_owned());
    let target = matches.get_one::<args::Environment>("environment").copied();
    let given = matches.get_one::<String>("base_url").map(String::as_str);
    let url = target.filter(|_| !matches.get_flag("simulator")).map(|target| base_url_of(given, target));
    let (value, origin) = match url {
        // The URL is shown on its own line, and no command takes it.
        Some(Err(_)) => none("base-url"),
        None => none(LOOPBACK),
        Some(Ok(url)) => match Route::to(&url, environment)? {
            Route::Through(proxy) => (proxy.shown(), format!("environment {}", proxy.variable())),
            Route::Direct(DirectReason::NoVariable) => none("default"),
            Route::Direct(DirectReason::Loopback) => none(LOOPBACK),
            Route::Direct(DirectReason::Excepted(variable)) => none(&format!("environment {variable}")),
        },
    };
    Ok(Line { heading: "Target".into(), key: "Proxy".into(), value, origin: origin.into() })
}

/// Values for the output of `config` and for the ledger, without passwords.
fn shown_values<'a>(values: impl Iterator<Item = impl AsRef<OsStr> + 'a>) -> String {
    values
        .map(|value| strip_controls_and_password(&value.as_ref().to_string_lossy()))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Replaces control characters and the user part of a URL.
fn strip_controls_and_password(text: &str) -> String {
    let mut text = visible(text).into_owned();
    if let Some(begin) = text.find("://").map(|at| at + 3) {
        let end = text[begin..].find('/').map_or(text.len(), |at| begin + at);
        if let Some(at) = text[begin..end].rfind('@') {
            text.replace_range(begin..begin + at, "(not shown)");
        }
    }
    text
}

/// The default named in the help of an option without a value, such as the file name of the ledger.
fn default_in_help(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let shown = help.split_once("[default: ").and_then(|(_, rest)| rest.split_once(']'));
    shown.map_or("-".into(), |(default, _)| default.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of which every option accepts at least one; a new option may need an additional entry.
    const CANDIDATES: [&str; 14] = [
        "\"windows-1252\"",
        "\"IN\"",
        "true",
        "7",
        "\"7s\"",
        "\"http://127.0.0.1:1\"",
        "\"127.0.0.1:9\"",
        "[\"email_address=E-Mail\", \"first_name=Name\"]",
        "[\"email_address\", \"first_name\"]",
        "[\"http500=0.5\", \"garbage=0.1\"]",
        "\"|\"",
        "2026-01-31",
        "\"lenient\"",
        "\"IN\"",
    ];

    fn resolve_in(args: &[&str], environment: &Environment) -> Result<ResolvedSettings, String> {
        let args: Vec<OsString> = [PROGRAM].iter().chain(args).map(OsString::from).collect();
        resolve(&args, Required::Optional, environment).map_err(|refusal| match refusal {
            StartError::Usage(error) => error.to_string(),
            StartError::Settings(error) => format!("{error}; {}", error.hint()),
        })
    }

    /// A file with one line of settings, read for this command.
    fn resolve_with(command: &str, file: &str, more: &[&str]) -> Result<ResolvedSettings, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.toml");
        std::fs::write(&path, file).unwrap();
        let args = [&[command, "--config", path.to_str().unwrap()], more].concat();
        resolve_in(&args, &|_| None)
    }

    /// A line of TOML that this option takes.
    fn line_for(command: &str, key: &str, arg: &Arg) -> String {
        let possible = arg.get_possible_values();
        // Not the default, or it would not be seen.
        let possible = possible.last().map(|value| format!("{:?}", value.get_name()));
        let candidates = possible.into_iter().chain(CANDIDATES.map(str::to_owned));
        let mut lines = candidates.map(|value| format!("{key} = {value}\n"));
        let fits = |line: &String| resolve_with(command, line, &[]).is_ok();
        lines.find(fits).unwrap_or_else(|| panic!("{command} --{key} takes no candidate: add one"))
    }

    fn raw(resolved: &ResolvedSettings, command: &str, arg: &Arg) -> Vec<OsString> {
        let matches = resolved.matches.subcommand_matches(command).unwrap();
        matches.get_raw(arg.get_id().as_str()).unwrap().map(OsString::from).collect()
    }

    #[test]
    fn every_option_of_every_command_can_stand_in_the_file() {
        let definition = definition();
        let mut seen = 0;
        for command in toml::commands(&definition) {
            let name = command.get_name();
            for (key, arg) in toml::options(command) {
                let line = line_for(name, key, arg);
                for text in [format!("# a\n{line}"), format!("[{name}]\n{line}")] {
                    let resolved = resolve_with(name, &text, &[]).unwrap();
                    let [LayeredValue { id, values, origin: Origin::File { line, .. } }] = &*resolved.layer
                    else {
                        panic!("{name} --{key}")
                    };
                    assert_eq!((id.as_str(), *line), (arg.get_id().as_str(), 2));
                    assert_eq!(&raw(&resolved, name, arg), values, "{name} --{key}");
                    assert_ne!(arg.get_default_values(), values, "{name} --{key} shows nothing");
                }
                seen += 1;
            }
        }
        assert!(seen > 40, "{seen}");
    }

    #[test]
    fn every_option_has_a_long_name() {
        for command in definition().get_subcommands() {
            for arg in command.get_arguments() {
                assert!(arg.is_positional() || arg.get_long().is_some(), "{arg:?} cannot stand in the file");
            }
        }
    }

    #[test]
    fn every_key_that_is_mistyped_is_refused_and_so_is_every_wrong_type() {
        let definition = definition();
        for command in toml::commands(&definition) {
            let name = command.get_name();
            for (key, _) in toml::options(command) {
                let wrong = resolve_with(name, &format!("\n{key}x = 1\n"), &[]).err().unwrap();
                assert!(wrong.contains("f.toml line 2: unknown key"), "{wrong}");
                assert!(wrong.ends_with(&format!("the nearest known key is {key}")), "{wrong}");
                for value in ["{ a = 1 }", "[[1]]", "[true]"] {
                    let wrong = resolve_with(name, &format!("\n\n{key} = {value}"), &[]).err().unwrap();
                    assert!(wrong.contains(&format!("f.toml line 3: {key} wants ")), "{wrong}");
                }
            }
        }
    }

    #[test]
    fn what_is_another_commands_may_stand_there_and_is_looked_at_too() {
        assert!(
            resolve_with("validate", "rate = 20\nlisten = \"127.0.0.1:9\"\n[import]\nburst = 2\n", &[])
                .is_ok()
        );
        for (file, words) in [
            ("rate = 0", &["line 1", "rate"][..]),
            ("[import]\nburst = 0", &["line 2", "burst"]),
            (
                "[validate]\nburst = 2",
                &["line 2", "burst is an option of import, not of validate", "nearest"],
            ),
            ("[imprt]\nrate = 2", &["line 1", "imprt", "nearest known key is import"]),
        ] {
            let wrong = resolve_with("validate", file, &[]).err().unwrap();
            assert!(words.iter().all(|word| wrong.contains(word)), "{wrong}");
        }
    }

    #[test]
    fn a_flag_wins_over_what_it_conflicts_with_in_the_file_and_two_keys_do_not() {
        let file = "base-url = \"https://example.com\"\nverbose = true\n";
        let resolved =
            resolve_with("import", file, &["--simulator", "-q"]).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert!(resolved.layer.is_empty());
        let file = "base-url = \"https://example.com\"\nsimulator = true\n";
        let wrong = resolve_with("import", file, &[]).err().unwrap();
        assert!(
            wrong.contains("line 2") && wrong.contains("line 1") && wrong.contains("one of the two"),
            "{wrong}"
        );
        assert!(
            resolve_with("import", "base-url = \"https://example.com\"\nsimulator = false\n", &[]).is_ok()
        );
    }

    #[test]
    fn the_environment_is_judged_only_where_it_counts() {
        let moon = |name: &str| (name == "JUSPAY_ENVIRONMENT").then(|| OsString::from("moon"));
        let wrong = resolve_in(&["import"], &moon).err().unwrap();
        assert!(wrong.contains("JUSPAY_ENVIRONMENT") && wrong.contains("sandbox, production"), "{wrong}");
        assert!(resolve_in(&["import", "--environment", "sandbox"], &moon).is_ok());
        assert!(resolve_in(&["validate"], &moon).is_ok());
    }

    #[test]
    fn every_command_has_an_example() {
        for command in definition().get_subcommands().filter(|command| command.get_name() != "help") {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                help.contains(&format!("customer-import {}", command.get_name())),
                "{}",
                command.get_name()
            );
        }
    }

    #[test]
    fn no_url_shows_a_password() {
        assert_eq!(
            strip_controls_and_password("https://a:b@c@d.example/x@y"),
            "https://(not shown)@d.example/x@y"
        );
        assert_eq!(
            strip_controls_and_password("https://d.example/\u{1b}[2J"),
            "https://d.example/[U+001B][2J"
        );
    }
}
