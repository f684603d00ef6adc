//! The command line: turns flags and environment into options, runs the command, and returns its exit code.
//!
//! The only module that reads the environment, parses flags and prints. Results go to standard output,
//! everything else to standard error. An error is one line that begins with `error:` and says what to do. A closed
//! pipe (`| head`) is no error.

mod args;

mod target;

mod color;

mod screen;

mod progress_bar;

mod metrics;

mod logging;

mod exit_code;

mod process;

mod output;

mod output_file;

pub mod config;

mod completions;

mod man;

mod usage;

mod init;

mod validate;

mod export;

mod simulate;

mod import;

mod session;

mod retry;

mod verify;

mod probe;

mod plan;

mod prune;

mod status;

mod report;

use std::{
    ffi::OsString,
    io::{self, IsTerminal},
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::FromArgMatches;

use self::{
    args::{Cli, Command},
    config::StartError,
    exit_code::{code, code_of_error},
    export::export_rows,
    import::import,
    init::init,
    output::{check_output_path, check_outputs, json, print, print_data, print_error},
    plan::plan,
    probe::probe,
    process::{SignalGuard, listen_for_signals, runtime},
    prune::prune,
    report::report,
    retry::retry,
    simulate::simulate,
    status::status,
    target::find_target,
    validate::validate,
    verify::verify,
};
use crate::{
    clock,
    customer::{Field, Rules, Validation, visible_lines},
    error::Error,
    ledger::{self, Location, Password},
    source::{Quote, ReadOptions, SourceOptions, UnusedColumnPolicy},
};

/// The target that a ledger records for the embedded simulator, whose port differs in each run.
const SIMULATOR: &str = "simulator";

/// Runs the program.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    color::choose_by_words(&args);
    let code = start(&args).unwrap_or_else(|refusal| match refusal {
        StartError::Usage(error) => explain_usage(&error, &args),
        StartError::Settings(error) => {
            print_error(&format!("{error}; {}", error.hint()));
            code_of_error(&error)
        }
    });
    ExitCode::from(code)
}

fn start(args: &[OsString]) -> Result<u8, StartError> {
    let resolved = config::resolve(args, config::Required::Enforced, &variable)?;
    color::choose_by_settings(&resolved.matches);
    let cli = Cli::from_arg_matches(&resolved.matches)?;
    if let Some((_, command)) = resolved.matches.subcommand() {
        check_outputs(command)?;
    }
    let guard = SignalGuard::install()?;
    let done = match cli.command {
        Command::Import(args) => import(&args, &config::settings_snapshot(&resolved), &guard),
        Command::Init(args) => init(&args),
        Command::Validate(args) => validate(&args),
        Command::Plan(args) => plan(&args, &guard),
        Command::Retry(args) => retry(&args, &config::settings_snapshot(&resolved), &guard),
        Command::Verify(args) => verify(&args, &guard),
        Command::Probe(args) => probe(&args),
        Command::Status(args) => status(&args, &guard),
        Command::Report(args) => report(&args),
        Command::Export(args) => export_rows(&args),
        Command::Simulate(args) => simulate(&args, &guard),
        Command::Prune(args) => prune(&args),
        Command::Config(args) => {
            let text = config::show(&args, cli.config.as_deref(), &variable)?;
            print_data(&visible_lines(&text)).map(|()| code::OK)
        }
        Command::Completions { shell } => print_data(&completions::completions(shell)).map(|()| code::OK),
        Command::Man => print_data(&man::page()?).map(|()| code::OK),
    };
    Ok(done?)
}

fn source_options(args: &args::Input) -> Result<SourceOptions, Error> {
    if let (Some(delimiter), Quote::Char(quote)) = (args.delimiter, args.quote)
        && delimiter == quote
    {
        return Err(Error::usage("--delimiter and --quote are the same character", "change one of the two"));
    }
    Ok(SourceOptions {
        path: args.csv.clone(),
        delimiter: args.delimiter,
        quote: args.quote,
        encoding: args.encoding,
        limit: args.read.limit,
        read: read_options(&args.read, Some(args.validation))?,
        unused_columns: if args.strict_columns {
            UnusedColumnPolicy::Refuse
        } else {
            UnusedColumnPolicy::Allow
        },
        ignored_columns: args.ignore.clone(),
        recorded: Vec::new(),
    })
}

fn read_options(args: &args::Read, validation: Option<Validation>) -> Result<ReadOptions, Error> {
    check_pairs(&args.map, &args.set)?;
    let mut constants = args.set.clone();
    if args.get_client_auth_token && !constants.iter().any(|(field, _)| *field == Field::GetClientAuthToken) {
        constants.push((Field::GetClientAuthToken, "true".into()));
    }
    Ok(ReadOptions {
        map: args.map.clone(),
        rules: Rules {
            validation,
            require: args.require.clone(),
            null_markers: args.null_marker.clone(),
            constants,
            unstated_if_empty: Vec::new(),
            drop_invalid_optional: args.drop_invalid_optional,
            phone_region: args.phone_region.clone(),
        },
    })
}

/// Refuses a field that is given twice, because only one of the two can apply.
fn check_pairs(map: &[(Field, String)], set: &[(Field, String)]) -> Result<(), Error> {
    for (option, pairs) in [("--map", map), ("--set", set)] {
        for (at, (field, _)) in pairs.iter().enumerate() {
            if pairs[..at].iter().any(|(earlier, _)| earlier == field) {
                return Err(Error::usage(format!("{option} {field} is given twice"), "keep one of the two"));
            }
        }
    }
    Ok(())
}

/// The location that `--ledger` gives, or else the default one.
fn ledger_location(given: Option<&Path>, simulator: bool) -> Result<Location, Error> {
    let default = if simulator { "customer-import.simulator.db" } else { "customer-import.db" };
    let path = given.unwrap_or(Path::new(default));
    let name = path.as_os_str().as_encoded_bytes();
    // Spellings of other programs; as a name, it would be that of a new file in this folder.
    let scheme = [&b"sqlite:"[..], b"postgres:", b"postgresql:"].into_iter().find(|of| name.starts_with(of));
    let is_without_slashes = scheme.is_some_and(|scheme| !name[scheme.len()..].starts_with(b"//"));
    if is_without_slashes || path.to_str().is_some_and(ledger::is_connection_string) {
        return Err(Error::usage(
            match is_without_slashes {
                true => "--ledger has a scheme without //",
                false => "--ledger has keywords and values in place of a URL",
            },
            "name a file with --ledger FILE, or a server with --ledger postgres://USER@HOST/DATABASE",
        ));
    }
    // Names that SQLite treats specially: a ledger in memory would be lost at the end, with every id.
    if name.is_empty() || name == b":memory:" || name.starts_with(b"file:") {
        return Err(Error::usage(
            format!("--ledger {:?} is not a file that lasts", path.display()),
            "name a file with --ledger FILE; if the file has this very name, put ./ before it",
        ));
    }
    // A URL may hold a password, so only its scheme is shown.
    let scheme = path.to_str().and_then(|text| text.split_once("://")).map(|(scheme, _)| scheme);
    let is_server =
        |scheme: &str| ["postgres", "postgresql"].iter().any(|own| own.eq_ignore_ascii_case(scheme));
    if let Some(scheme) = scheme.filter(|scheme| !is_server(scheme)) {
        return Err(Error::usage(
            format!("--ledger {scheme}://… is no ledger: a ledger is a file on this machine, or in Postgres"),
            "name a file with --ledger FILE, and copy it away after the run, or a server with --ledger postgres://USER@HOST/DATABASE",
        ));
    }
    // Variables of the environment are not seen by others, as a command line is.
    let is_of_environment = variable("CUSTOMER_IMPORT_LEDGER").is_some_and(|given| given == path);
    let password = if is_of_environment { Password::Allowed } else { Password::Refused };
    Location::parse(path, password).map_err(|wrong| ledger::Error::Url(wrong).into())
}

/// Prints help, which is not an error, or explains the error in the command line.
fn explain_usage(error: &clap::Error, args: &[OsString]) -> u8 {
    if !error.use_stderr() {
        let shown = config::help(args).unwrap_or_else(|| error.to_string());
        return print_data(&shown).map_or(code::UNEXPECTED, |()| code::OK);
    }
    // A user who types only the program's name wants to know what it does; a script has omitted something.
    if args.len() <= 1 && io::stdout().is_terminal() && io::stderr().is_terminal() {
        let help = config::help(&[config::PROGRAM.into(), "-h".into()]).unwrap_or_default();
        return print_data(&help).map_or(code::UNEXPECTED, |()| code::USAGE);
    }
    print_error(&usage::explain(error, args));
    code::USAGE
}

/// UTC milliseconds.
fn now() -> i64 {
    let since = clock::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// An environment variable, if it is valid text.
fn environment(name: &str) -> Option<String> {
    variable(name)?.into_string().ok()
}

#[expect(clippy::disallowed_methods, reason = "the environment enters here")]
fn variable(name: &str) -> Option<OsString> {
    // Compose files and CI systems set a variable to the empty string to unset it.
    std::env::var_os(name).filter(|value| !value.is_empty())
}
