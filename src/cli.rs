//! Flags and environment → plain options; one match over the commands; every end → its exit code.
//!
//! The only module that reads the environment and the clock, knows flags and prints. Results go to
//! standard output, everything else to standard error; one error is one line that begins with
//! `error:` and says what to do. A reader that has had enough (`| head`) is no error.

mod args;

mod target;

mod progress_bar;

mod metrics;

mod logging;

mod exit_code;

mod process;

mod output;

pub mod config;

mod man;

mod validate;

mod export;

mod simulate;

mod retry;

mod verify;

mod probe;

mod prune;

mod status;

mod report;

use std::{
    ffi::OsString,
    num::NonZeroU64,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use clap::{CommandFactory, FromArgMatches, error::ErrorKind};
use tokio::{sync::mpsc, task::JoinSet};
use tracing::info;

use self::{
    args::{Cli, Command},
    config::StartError,
    exit_code::{code, code_of_end, code_of_error, describe_stop},
    export::export_rows,
    metrics::MetricsExporter,
    output::{check_output_path, check_outputs, json, open_outputs, print, print_error, write_summary},
    probe::probe,
    process::{listen_for_signals, make_room_for_connections, runtime},
    progress_bar::ProgressDisplay,
    prune::prune,
    report::report,
    retry::retry,
    simulate::simulate,
    status::status,
    target::{PlannedAction, Target, confirm_production, count_rows, find_target, open_api},
    validate::validate,
    verify::verify,
};
use crate::{
    customer::{Field, Place, Rules, Validation},
    error::Error,
    ledger::{Command as LedgerCommand, Ledger, NewRun, Outcome, RunState, Setting},
    report::{Summary, changed_list, harmless, run_table},
    run,
    sender::{ExistingPolicy, Policy, Sender},
    simulator::Simulator,
    source::{self, Chunk, ReadOptions, Source, SourceOptions},
    throttle::Throttle,
};

/// What a ledger of the embedded simulator records as its target; its port differs each time.
const SIMULATOR: &str = "simulator";

/// The whole program.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let code = start(&args).unwrap_or_else(|refusal| match refusal {
        StartError::Usage(error) => explain_usage(&error),
        StartError::Settings(error) => {
            print_error(&format!("{error}; {}", error.hint()));
            code_of_error(&error)
        }
    });
    ExitCode::from(code)
}

fn start(args: &[OsString]) -> Result<u8, StartError> {
    let resolved = config::resolve(args, true, &variable)?;
    let cli = Cli::from_arg_matches(&resolved.matches)?;
    let done = match cli.command {
        Command::Import(args) => import(&args, &config::settings_snapshot(&resolved)),
        Command::Validate(args) => validate(&args),
        Command::Retry(args) => retry(&args, &config::settings_snapshot(&resolved)),
        Command::Verify(args) => verify(&args),
        Command::Probe(args) => probe(&args),
        Command::Status(args) => status(&args),
        Command::Report(args) => report(&args),
        Command::Export(args) => export_rows(&args),
        Command::Simulate(args) => simulate(&args),
        Command::Prune(args) => prune(&args),
        Command::Config(args) => {
            let text = config::show(&args, cli.config.as_deref(), &variable)?;
            print(&text).map(|()| code::OK)
        }
        Command::Completions { shell } => print(&man::completions(shell)).map(|()| code::OK),
        Command::Man => print(&man::page()?).map(|()| code::OK),
    };
    Ok(done?)
}

fn import(args: &args::Import, settings: &[Setting]) -> Result<u8, Error> {
    let ledger_path = ledger_path(args.ledger.ledger.as_deref(), args.target.simulator);
    let mut display =
        open_outputs(&args.output, &[("the ledger", &ledger_path), ("the source", &args.input.csv)])?;
    let mut source = Source::open(&source_options(&args.input)?)?;
    let target = find_target(&args.target)?;
    let rows = || count_rows(&source_options(&args.input)?);
    let action = PlannedAction { verb: "Import", file: source.name(), rows: &rows };
    confirm_production(&args.target, &args.sending, &target, &action)?;
    make_room_for_connections(args.sending.concurrency)?;
    let name = source.name().to_owned();
    let path = source.path().map(str::to_owned);
    // Rows that differ are left or not: that makes another run of the same bytes.
    let way =
        format!("{}{}", source.parse_settings_hash(), if args.update_changed { " updating" } else { "" });
    let (columns, reading) = (source.columns().to_vec(), source.read_options_json().to_owned());
    let reference_column = source.reference_column().map(str::to_owned);
    let new_run = NewRun {
        command: if args.update_changed { LedgerCommand::ImportAndUpdate } else { LedgerCommand::Import },
        source: &name,
        source_path: path.as_deref(),
        columns: &columns,
        reference_column: reference_column.as_deref(),
        row_mapping: Some(&reading),
        parse_settings_hash: &way,
        settings,
    };
    let job = Job {
        target: &args.target,
        sending: &args.sending,
        output: &args.output,
        max_failures: args.failures.max_failures,
        ledger_path: &ledger_path,
        new_run,
        extent: run::SourceSize { bytes: source.size(), rows: args.input.read.limit },
        described: source.describe(),
        is_whole: args.input.read.limit.is_none() && !source.is_export(),
        existing: if args.update_changed { ExistingPolicy::Update } else { ExistingPolicy::Keep },
        canary: NonZeroU64::new(args.canary),
    };
    let rows = async |_: &mut JoinSet<()>, ledger: &mut Ledger| {
        skip_what_is_done(ledger, &mut source).await?;
        Ok(source.stream()?)
    };
    runtime()?.block_on(run_job(&job, target, rows, &mut display))
}

/// Begins where the run before came to, if it read the same file in the same way.
async fn skip_what_is_done(ledger: &mut Ledger, source: &mut Source) -> Result<(), Error> {
    let is_whole = |place: &Place| Some(place.bytes) == source.size();
    let before =
        ledger.resume_point(true).filter(|(place, _)| is_whole(place)).or_else(|| ledger.resume_point(false));
    let Some((place, rows)) = before else { return Ok(()) };
    if source.skip_to(place, rows)? {
        let line = place.line;
        info!(rows, line, "the source is the same up to there, and an earlier run is done with it");
        ledger.resume().await?;
    }
    Ok(())
}

/// What a run is about, import or retry.
struct Job<'a> {
    target: &'a args::TargetOptions,
    sending: &'a args::Sending,
    output: &'a args::Output,
    max_failures: Option<run::MaxFailures>,
    ledger_path: &'a Path,
    new_run: NewRun<'a>,
    /// Of the source, in whatever unit its chunks count.
    extent: run::SourceSize,
    /// How the source is read, in words.
    described: String,
    /// Whether who is not in it is missing.
    is_whole: bool,
    existing: ExistingPolicy,
    /// So many first refusals that are all the same end the run.
    canary: Option<NonZeroU64>,
}

/// Rows on their way to the loop.
type Rows = mpsc::Receiver<Result<Chunk, source::Error>>;

/// A run from its beginning to its summary. The rows are asked for once the ledger is this run's alone.
async fn run_job(
    job: &Job<'_>,
    target: Target,
    rows: impl AsyncFnOnce(&mut JoinSet<()>, &mut Ledger) -> Result<Rows, Error>,
    display: &mut ProgressDisplay,
) -> Result<u8, Error> {
    let ledger_path = job.ledger_path;
    let mut tasks = JoinSet::new();
    let mut signals = listen_for_signals(&mut tasks)?;
    let (of_ledger, sending) = (target.of_ledger(), job.sending);
    let (sender, _simulator) = connect(target, job.target, sending, job.existing).await?;
    let mut exporter = MetricsExporter::begin(&job.output.metrics, &sender, &of_ledger, &mut tasks).await?;
    let mut ledger = Ledger::begin_run(ledger_path, &of_ledger, &job.new_run, now).await?;
    exporter.remember(ledger_path).await?;
    let (run, name, began) = (ledger.run(), job.new_run.source, Instant::now());
    let written = &job.described;
    let rate = sending.rate.0.map_or_else(|| "unlimited".into(), |rate| rate.to_string());
    info!(run = run.0, source = %written, rate, "the run begins");
    let header = format!("Run {run}: {} ({written})", harmless(name));
    display.begin(exporter.url.iter().fold(header, |header, url| format!("{header}\nMetrics at {url}")));
    let options = run::Options {
        concurrency: sending.concurrency as usize,
        outage_limit: sending.outage_limit,
        max_failures: job.max_failures,
        shutdown_grace: sending.shutdown_grace,
        extent: job.extent,
        canary: job.canary,
    };
    let show = &mut |progress: &run::RunSnapshot| {
        display.show(progress);
        exporter.show(progress);
    };
    let rows = rows(&mut tasks, &mut ledger).await?;
    let end = run::drive(ledger, rows, Arc::clone(&sender), options, &mut signals, show).await;
    display.end();
    let end = end.inspect_err(|error| exporter.end(code_of_error(error), false))?;
    let code = code_of_end(&end.ended, &end.tally);
    let stop = describe_stop(&end.ended);
    let state = end.ended.state();
    let stop_reason = stop.as_ref().map(|(text, _)| text.as_str());
    let mut absent = None;
    if let Some(mut ledger) = end.ledger {
        if job.is_whole && state == RunState::Completed {
            absent = Some(ledger.record_absent().await?);
            ledger.delete_superseded().await?;
        }
        let ended = ledger.end_run(state, code, stop_reason, &end.figures).await;
        ended.inspect_err(|_| exporter.end(code::UNEXPECTED, false))?;
    }
    exporter.end(code, matches!(code, code::OK | code::ROWS_LEFT));
    let (rows, requests) = (end.tally.rows(), end.figures.requests);
    info!(run = run.0, state = state.name(), code, rows, requests, "the run has ended");
    let ends = (state, code, stop_reason);
    let summary = Summary::new(run, ends, name, (&end.tally, &end.dropped), &end.figures, began.elapsed());
    let changed_fields = changed_list(&end.changed);
    let summary = Summary { held_rate: sender.throttle().held_rate(), changed_fields, absent, ..summary };
    let summary = summary.with_existing(&end.existing);
    let shown = write_summary(job.output, &json(&summary)?, &describe_run(&summary, written, ledger_path));
    if code != code::HANGUP {
        shown?; // With the terminal goes who would have read it.
    }
    if let Some((text, hint)) = stop {
        print_error(&format!("{text}; {hint}"));
    }
    Ok(code)
}

/// The sender of a target's requests, at the pace that the user wants, and the simulator that has to live as
/// long where it is the target.
async fn connect(
    target: Target,
    args: &args::TargetOptions,
    sending: &args::Sending,
    existing: ExistingPolicy,
) -> Result<(Arc<Sender>, Option<Simulator>), Error> {
    let connections = sending.concurrency as usize;
    let (api, simulator) =
        open_api(target, args, sending.timeout, sending.connect_timeout, connections).await?;
    let throttle = Throttle::new(connections, sending.rate());
    let policy = Policy {
        max_attempts: sending.max_attempts,
        retry_initial: sending.retry_initial,
        retry_max: sending.retry_max,
        seed: now().unsigned_abs(),
        existing,
    };
    Ok((Arc::new(Sender::new(api, throttle, policy)), simulator))
}

fn describe_run(summary: &Summary<'_>, written: &str, ledger_path: &Path) -> String {
    let ledger = ledger_path.display();
    let left: u64 = Outcome::ALL
        .into_iter()
        .filter(|outcome| !outcome.is_success())
        .filter_map(|outcome| summary.outcomes.get(outcome.name()))
        .sum();
    let pending = summary.outcomes.get(Outcome::Pending.name()).is_some_and(|rows| *rows > 0);
    let next = if summary.state != RunState::Completed {
        "run the same command again to go on".into()
    } else if pending {
        "run the same command again: rows are pending still".into()
    } else if left > 0 {
        format!("customer-import export failed --ledger {ledger} --output failed.csv")
    } else {
        format!("customer-import export created --ledger {ledger} --output created.csv")
    };
    let table = run_table(summary);
    format!("{table}  source: {written}\n  ledger: {ledger}\n  next:   {next}\n")
}

fn source_options(args: &args::Input) -> Result<SourceOptions, Error> {
    Ok(SourceOptions {
        path: args.csv.clone(),
        delimiter: args.delimiter,
        encoding: args.encoding,
        limit: args.read.limit,
        read: read_options(&args.read, Some(args.validation))?,
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
            constants,
            drop_invalid_optional: args.drop_invalid_optional,
            phone_region: args.phone_region.clone(),
        },
    })
}

/// Refuses a field that is given twice: only one of the two could apply.
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

fn ledger_path(given: Option<&Path>, simulator: bool) -> PathBuf {
    let default = if simulator { "customer-import.simulator.db" } else { "customer-import.db" };
    given.unwrap_or(Path::new(default)).to_path_buf()
}

/// Clap's message on one line; help and version are no errors.
fn explain_usage(error: &clap::Error) -> u8 {
    if !error.use_stderr() {
        return print(&error.to_string()).map_or(code::UNEXPECTED, |()| code::OK);
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let known = Cli::command();
        let names: Vec<&str> = known.get_subcommands().map(clap::Command::get_name).collect();
        print_error(&format!("no command; say one of {}, and see --help", names.join(", ")));
        return code::USAGE;
    }
    let text = error.to_string();
    let parts = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let parts: Vec<&str> = parts.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect();
    let line = parts.join(" ");
    print_error(&format!("{}; see --help", line.strip_prefix("error: ").unwrap_or(&line)));
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
