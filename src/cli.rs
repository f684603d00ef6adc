//! Flags and environment → plain options; one match over the commands; every end → its exit code.
//!
//! The only module that reads the environment and the clock, knows flags and prints. Results go to
//! standard output, everything else to standard error; one error is one line that begins with
//! `error:` and says what to do. A reader that has had enough (`| head`) is no error.

mod args;

mod target;

mod progress;

mod log;

mod end;

pub mod config;

mod manual;

mod validate;

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use clap::{CommandFactory, FromArgMatches, error::ErrorKind};
use reqwest::Url;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};
use tracing::info;

use self::{
    args::{Cli, Command, ExportFormat, ExportWhat},
    config::Refusal,
    end::{code, code_of_end, code_of_error, describe_stop},
    log::start_log,
    progress::Display,
    target::{Target, confirm_production, find_target, url_of},
    validate::validate,
};
use crate::{
    api::{self, Api},
    customer::{Field, Rules},
    error::Error,
    export::{self, export},
    import::{self, Signal},
    ledger::{self, Ledger, NewRun, Outcome, Reader, private_file},
    report::{self, Summary},
    sender::{Policy, Sender, Throttle},
    simulator::{self, Simulator},
    source::{self, Source},
};

/// What a ledger of the embedded simulator records as its target; its port differs each time.
const SIMULATOR: &str = "simulator";

/// Files open besides connections: source, ledger, logs, the runtime's own, and connections being closed.
const OTHER_FILES: u64 = 64;

/// The whole program.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let code = start(&args).unwrap_or_else(|refusal| match refusal {
        Refusal::Usage(error) => explain_usage(&error),
        Refusal::Settings(error) => {
            complain(&format!("{error}; {}", error.hint()));
            code_of_error(&error)
        }
    });
    ExitCode::from(code)
}

fn start(args: &[OsString]) -> Result<u8, Refusal> {
    let settled = config::settle(args, true, &variable)?;
    let cli = Cli::from_arg_matches(&settled.matches)?;
    let done = match cli.command {
        Command::Import(args) => import(&args),
        Command::Validate(args) => validate(&args),
        Command::Status(args) => status(&args),
        Command::Export(args) => export_rows(&args),
        Command::Simulate(args) => simulate(&args),
        Command::Config(args) => {
            let text = config::show(&args, cli.config.as_deref(), &variable)?;
            print(&text).map(|()| code::OK)
        }
        Command::Completions { shell } => print(&manual::completions(shell)).map(|()| code::OK),
        Command::Man => print(&manual::page()?).map(|()| code::OK),
    };
    Ok(done?)
}

/// What is written must not be what is read: a slip of the hand would cost the ledger, and every id.
fn check_outputs(outputs: &[(&str, Option<&Path>)], inputs: &[(&str, &Path)]) -> Result<(), Error> {
    for (option, output) in outputs {
        for (what, input) in inputs {
            let same = output.and_then(|output| output.canonicalize().ok()).zip(input.canonicalize().ok());
            if same.is_some_and(|(output, input)| output == input) || *output == Some(*input) {
                let text = format!("{option} {} would overwrite {what}", input.display());
                return Err(Error::usage(text, format!("give {option} another file")));
            }
        }
    }
    Ok(())
}

fn import(args: &args::Import) -> Result<u8, Error> {
    let ledger_path = ledger_path(args.ledger.ledger.as_deref(), args.target.simulator);
    let summary = args.output.summary_json.as_deref().filter(|path| *path != Path::new("-"));
    let outputs = [("--summary-json", summary), ("--log-file", args.output.log.log_file.as_deref())];
    check_outputs(&outputs, &[("the ledger", &ledger_path), ("the source", &args.input.csv)])?;
    let mut display =
        Display::new(if args.output.log.quiet { args::ProgressArg::Never } else { args.output.progress });
    start_log(&args.output.log, display.log_writer())?;
    check_summary_path(args.output.summary_json.as_deref())?;
    let source = Source::open(&source_options(&args.input)?)?;
    let target = find_target(&args.target)?;
    confirm_production(args, &target, &source)?;
    make_room_for_connections(args.sending.concurrency)?;
    let tls = target.base_url.as_ref().is_some_and(|url| url.scheme() == "https");
    runtime(tls)?.block_on(run_import(args, source, target, &ledger_path, &mut display))
}

async fn run_import(
    args: &args::Import,
    source: Source,
    target: Target,
    ledger_path: &Path,
    display: &mut Display,
) -> Result<u8, Error> {
    let mut tasks = JoinSet::new();
    let mut signals = listen_for_signals(&mut tasks)?;
    let Target { base_url, merchant_id, api_key } = target;
    let of_ledger = ledger::Target {
        base_url: base_url.as_ref().map_or(SIMULATOR, Url::as_str).trim_end_matches('/').into(),
        merchant_id: merchant_id.clone(),
    };
    let (base_url, _simulator) = match base_url {
        Some(url) => (url, None),
        None => {
            let simulator = embed_simulator().await?;
            (url_of(&format!("http://{}", simulator.address()))?, Some(simulator))
        }
    };
    let sending = &args.sending;
    let api = Api::new(&api::Options {
        base_url,
        merchant_id,
        api_key,
        send_routing_id: args.target.send_routing_id,
        ca_file: args.target.ca_file.clone(),
        timeout: sending.timeout,
        connect_timeout: sending.connect_timeout,
        connections: sending.concurrency as usize,
    })?;
    let throttle = Throttle::new(sending.concurrency as usize, sending.rate());
    let policy = Policy {
        max_attempts: sending.max_attempts,
        retry_initial: sending.retry_initial,
        retry_max: sending.retry_max,
        seed: now().unsigned_abs(),
    };
    let sender = Arc::new(Sender::new(api, throttle, policy));
    let new_run = NewRun {
        command: "import",
        source: source.name(),
        source_path: source.path(),
        columns: source.columns(),
        reference_column: source.reference_column(),
    };
    let ledger = Ledger::begin_run(ledger_path, &of_ledger, &new_run, now).await?;
    let (run, name, began) = (ledger.run(), source.name().to_owned(), Instant::now());
    let written = source.describe();
    info!(run, source = %written, rate = ?sending.rate.0, "the run begins");
    let header = format!("Run {run}: {} ({written})", report::harmless(&name));
    display.begin(source.size(), header);
    let options = import::Options {
        concurrency: sending.concurrency as usize,
        outage_limit: sending.outage_limit,
        max_failures: sending.max_failures,
        shutdown_grace: sending.shutdown_grace,
    };
    let show = &mut |progress: &import::Progress| display.show(progress);
    let end = import::run(ledger, source.stream()?, Arc::clone(&sender), options, &mut signals, show).await;
    display.end();
    let end = end?;
    let code = code_of_end(&end.ended, &end.tally);
    let stop = describe_stop(&end.ended);
    let state = end.ended.state();
    let stop_reason = stop.as_ref().map(|(text, _)| text.as_str());
    if let Some(ledger) = end.ledger {
        ledger.end_run(state, code, stop_reason, &end.figures).await?;
    }
    info!(run, state = state.name(), code, "the run has ended");
    let ends = (state, code, stop_reason);
    let summary = Summary::new(run, ends, &name, (&end.tally, &end.dropped), &end.figures, began.elapsed());
    let summary = Summary { held_rate: sender.throttle().held_rate(), ..summary };
    show_summary(args, &summary, &written, ledger_path)?;
    if let Some((text, hint)) = stop {
        complain(&format!("{text}; {hint}"));
    }
    Ok(code)
}

fn show_summary(
    args: &args::Import,
    summary: &Summary<'_>,
    written: &str,
    ledger_path: &Path,
) -> Result<(), Error> {
    let path = args.output.summary_json.as_deref();
    let to_stdout = path == Some(Path::new("-"));
    let json = json(summary)?;
    // First the file: a terminal that is gone must not cost the script its summary.
    if let Some(path) = path.filter(|_| !to_stdout) {
        let written = std::fs::write(path, &json);
        written.map_err(|error| Error::Output { name: path.display().to_string(), error })?;
    }
    if !args.output.log.quiet {
        let text = describe_run(summary, written, ledger_path);
        // Standard output stays clean where it carries the summary.
        if to_stdout {
            drop(io::stderr().write_all(text.as_bytes()));
        } else {
            print(&text)?;
        }
    }
    if to_stdout { print(&json) } else { Ok(()) }
}

fn describe_run(summary: &Summary<'_>, written: &str, ledger_path: &Path) -> String {
    let ledger = ledger_path.display();
    let left: u64 = Outcome::ALL
        .into_iter()
        .filter(|outcome| !outcome.is_success())
        .filter_map(|outcome| summary.outcomes.get(outcome.name()))
        .sum();
    let next = if summary.state != ledger::State::Completed {
        "run the same command again to go on".into()
    } else if left > 0 {
        format!("customer-import export failed --ledger {ledger} --output failed.csv")
    } else {
        format!("customer-import export created --ledger {ledger} --output created.csv")
    };
    let table = report::run_table(summary);
    format!("{table}  source: {written}\n  ledger: {ledger}\n  next:   {next}\n")
}

fn status(args: &args::Status) -> Result<u8, Error> {
    let path = ledger_path(args.ledger.ledger.as_deref(), false);
    let text = runtime(false)?.block_on(async {
        let mut reader = Reader::open(&path).await?;
        let (target, runs) = (reader.target().await?, reader.runs().await?);
        let standing = reader.standing().await?;
        Ok::<_, Error>(report::status(target.as_ref(), &standing, &runs, ledger::is_in_use(&path)))
    })?;
    print(&format!("Ledger  {}\n{text}", path.display()))?;
    Ok(code::OK)
}

fn export_rows(args: &args::Export) -> Result<u8, Error> {
    let path = ledger_path(args.ledger.ledger.as_deref(), false);
    let what = match args.what {
        ExportWhat::Created => export::What::Created,
        ExportWhat::Failed => export::What::Failed,
        ExportWhat::All => export::What::All,
    };
    let format = match args.format {
        ExportFormat::Csv => export::Format::Csv,
        ExportFormat::Jsonl => export::Format::Jsonl,
    };
    check_outputs(&[("--output", args.output.as_deref())], &[("the ledger", &path)])?;
    runtime(false)?.block_on(async {
        let mut reader = Reader::open(&path).await?;
        match &args.output {
            None => export(&mut reader, what, format, args.run, || Ok(io::stdout().lock())).await,
            Some(file) => export(&mut reader, what, format, args.run, || new_output(file)).await,
        }
    })?;
    Ok(code::OK)
}

/// An empty file that only its owner can read, whatever was there before.
fn new_output(path: &Path) -> Result<File, Error> {
    let file = private_file(path).and_then(|file| {
        if file.metadata()?.is_file() {
            file.set_len(0)?;
        }
        Ok(file)
    });
    file.map_err(|error| Error::Output { name: path.display().to_string(), error })
}

fn simulate(args: &args::Simulate) -> Result<u8, Error> {
    start_log(&args.log, Display::new(args::ProgressArg::Never).log_writer())?;
    runtime(false)?.block_on(async {
        let mut tasks = JoinSet::new();
        let mut signals = listen_for_signals(&mut tasks)?;
        let options = simulator::Options {
            listen: args.listen,
            seed: args.seed,
            latency: args.latency,
            rate_limit: args.rate_limit,
            faults: args.faults.clone(),
            api_key: environment("JUSPAY_API_KEY"),
            record: false,
        };
        let simulator = Simulator::start(options).await.map_err(|error| {
            let text = format!("cannot listen on {}: {error}", args.listen);
            Error::usage(text, "choose another address with --listen, such as 127.0.0.1:0")
        })?;
        print(&format!(
            "listening on http://{0}\nimport with: --base-url http://{0} (Ctrl-C ends)\n",
            simulator.address()
        ))?;
        signals.recv().await;
        simulator.stop().await;
        Ok(code::OK)
    })
}

fn source_options(args: &args::Input) -> Result<source::Options, Error> {
    for (option, pairs) in [("--map", &args.map), ("--set", &args.set)] {
        for (at, (field, _)) in pairs.iter().enumerate() {
            if pairs[..at].iter().any(|(earlier, _)| earlier == field) {
                return Err(Error::usage(format!("{option} {field} is given twice"), "keep one of the two"));
            }
        }
    }
    let mut constants = args.set.clone();
    if args.get_client_auth_token && !constants.iter().any(|(field, _)| *field == Field::GetClientAuthToken) {
        constants.push((Field::GetClientAuthToken, "true".into()));
    }
    Ok(source::Options {
        path: args.csv.clone(),
        map: args.map.clone(),
        delimiter: args.delimiter,
        encoding: args.encoding,
        limit: args.limit,
        rules: Rules {
            validation: args.validation,
            require: args.require.clone(),
            constants,
            drop_invalid_optional: args.drop_invalid_optional,
            phones: args.phone_region.clone(),
        },
    })
}

fn ledger_path(given: Option<&Path>, simulator: bool) -> PathBuf {
    let default = if simulator { "customer-import.simulator.db" } else { "customer-import.db" };
    given.unwrap_or(Path::new(default)).to_path_buf()
}

/// Finds out before the run whether its summary can be written after it; leaves nothing behind.
fn check_summary_path(path: Option<&Path>) -> Result<(), Error> {
    let Some(path) = path.filter(|path| *path != Path::new("-")) else { return Ok(()) };
    let existed = path.exists();
    let open = File::options().append(true).create(true).open(path);
    if open.is_ok() && !existed {
        drop(std::fs::remove_file(path));
    }
    open.map(drop).map_err(|error| {
        let text = format!("cannot write {}: {error}", path.display());
        Error::usage(text, "give --summary-json a file in a folder that exists and can be written")
    })
}

async fn embed_simulator() -> Result<Simulator, Error> {
    let options = simulator::Options { record: false, ..simulator::Options::default() };
    Simulator::start(options)
        .await
        .map_err(|error| Error::Bug(format!("the embedded simulator does not start ({error})")))
}

/// Each request in flight is an open file. Too few of them would look like an API that refuses connections.
fn make_room_for_connections(concurrency: u32) -> Result<(), Error> {
    let needed = u64::from(concurrency) + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if setrlimit(Resource::Nofile, Rlimit { current: Some(needed), ..limit }).is_err() {
        let most = limit.maximum.or(limit.current).unwrap_or(0);
        return Err(Error::usage(
            format!("--concurrency {concurrency} needs {needed} open files, and the limit is {most}"),
            "lower it, or raise the limit (ulimit -n)",
        ));
    }
    Ok(())
}

/// How many threads the runtime has. Measured with a bare load of csv + reqwest + insert on two
/// cores, as a share of a load generator's rate: over plain HTTP one thread reaches 0.69 and two
/// 0.59, since wake-ups then cross cores; over TLS it is 0.59 and 0.70, since the ciphers want both.
fn runtime(tls: bool) -> Result<Runtime, Error> {
    let mut builder = if tls {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = builder.worker_threads(2).enable_all().build();
    runtime.map_err(|error| Error::Bug(format!("no runtime ({error})")))
}

/// SIGINT and SIGTERM, as many as come.
fn listen_for_signals(tasks: &mut JoinSet<()>) -> Result<mpsc::Receiver<Signal>, Error> {
    let (sender, receiver) = mpsc::channel(4);
    for (kind, number) in [(SignalKind::interrupt(), 2), (SignalKind::terminate(), 15)] {
        let mut stream =
            signal(kind).map_err(|error| Error::Bug(format!("cannot listen for signals ({error})")))?;
        let sender = sender.clone();
        tasks.spawn(
            async move { while stream.recv().await.is_some() && sender.send(number).await.is_ok() {} },
        );
    }
    Ok(receiver)
}

/// One object, as text with a line break at its end.
fn json(object: &impl serde::Serialize) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(object);
    let text = text.map_err(|error| Error::Bug(format!("what is to be shown is no JSON ({error})")))?;
    Ok(text + "\n")
}

/// Standard output; a closed pipe means that the reader has had enough.
fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Output { name: "standard output".into(), error })
        }
        _ => Ok(()),
    }
}

/// One error, one line; control characters in file names and messages stay harmless.
fn complain(text: &str) {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    drop(writeln!(io::stderr(), "error: {line}"));
}

/// Clap's message on one line; help and version are no errors.
fn explain_usage(error: &clap::Error) -> u8 {
    if !error.use_stderr() {
        return print(&error.to_string()).map_or(code::UNEXPECTED, |()| code::OK);
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let known = Cli::command();
        let names: Vec<&str> = known.get_subcommands().map(clap::Command::get_name).collect();
        complain(&format!("no command; say one of {}, and see --help", names.join(", ")));
        return code::USAGE;
    }
    let text = error.to_string();
    let parts = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let parts: Vec<&str> = parts.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect();
    let line = parts.join(" ");
    complain(&format!("{}; see --help", line.strip_prefix("error: ").unwrap_or(&line)));
    code::USAGE
}

#[expect(clippy::disallowed_methods, reason = "the clock enters here")]
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A variable of the environment that has to be text.
fn environment(name: &str) -> Option<String> {
    variable(name)?.into_string().ok()
}

#[expect(clippy::disallowed_methods, reason = "the environment enters here")]
fn variable(name: &str) -> Option<OsString> {
    // Compose files and CI set variables to nothing and mean that they are not set.
    std::env::var_os(name).filter(|value| !value.is_empty())
}
