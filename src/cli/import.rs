//! `import`: sends the rows of a file. Also the part that it shares with `retry`: a run, from its session to its
//! summary.

use std::{
    num::NonZeroU64,
    ops::ControlFlow,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{
    args,
    exit_code::{FinalMessage, code, code_of_end, code_of_error, describe_stop, next_step},
    ledger_location, now,
    output::{json, open_outputs},
    process::{SignalGuard, raise_open_files_limit, runtime},
    progress_bar::ProgressDisplay,
    session::{Session, show_end},
    source_options,
    target::{PlannedAction, Target, confirm_production, count_rows, find_target},
};
use crate::{
    customer::{Dropped, FieldCounts, Rescue},
    error::Error,
    ledger::{
        self, Command, ErrorGroups, ExistingCounts, Location, NewRun, Outcome, Reader, RequestCounts,
        RunDetails, RunId, RunState, Setting, SourceColumns, Tally,
    },
    report::{
        self, End, RunContext, SourceReading, Summary, changed_list, column_warnings, dropped_list,
        mapping_lines, run_table, visible_text,
    },
    run::{
        ActiveRun, BegunRun, EmptyRun, EndReason, Options, RecordedEnd, RowSource, RunResult, RunSnapshot,
        Signal, SourceScope, SourceSize, Totals,
    },
    sender::ExistingPolicy,
    source::{
        Adjustments, IdentityRisk, Mapping, RecordedMap, Source, SourceOptions, TriedOptions, tried_options,
    },
};

pub(super) fn import(args: &args::Import, settings: &[Setting], guard: &SignalGuard) -> Result<u8, Error> {
    let ledger = ledger_location(args.ledger.ledger.as_deref(), args.target.simulator)?;
    let mut display = open_outputs(&args.output)?;
    check_shared(args, &ledger)?;
    let runtime = runtime()?;
    let options = source_options(&args.input)?;
    let options = SourceOptions { recorded: runtime.block_on(recorded_maps(&ledger)), ..options };
    let mut source = Source::open(&options)?;
    let target = find_target(&args.target)?;
    let rows = || count_rows(&options);
    let columns = mapping_lines(source.mapping());
    let action = PlannedAction { verb: "Import", file: source.name(), rows: &rows, columns: &columns };
    warn_of(&source);
    confirm_production(&args.target, &args.sending, &target, &action)?;
    raise_open_files_limit(args.sending.concurrency)?;
    let (name, mapping) = (source.name().to_owned(), source.mapping().clone());
    let path = source.path().map(str::to_owned);
    // With and without --update-changed, the same bytes make different runs: changed rows are treated differently.
    let parse_settings_hash =
        format!("{}{}", source.parse_settings_hash(), if args.update_changed { " updating" } else { "" });
    let (columns, row_mapping) = (source.columns().to_vec(), source.read_options_json().to_owned());
    let reference_column = source.reference_column().map(str::to_owned);
    let is_export = source.is_export();
    let is_whole = args.input.read.limit.is_none() && !is_export;
    let join_key = join_key(&source, args.input.read.limit, &parse_settings_hash);
    let new_run = NewRun {
        command: if args.update_changed { Command::ImportAndUpdate } else { Command::Import },
        source: &name,
        source_path: path.as_deref(),
        columns: SourceColumns { names: &columns, reference: reference_column.as_deref(), is_export },
        row_mapping: Some(&row_mapping),
        parse_settings_hash: &parse_settings_hash,
        settings,
        outage_limit: args.sending.outage_limit,
        join_key: (!is_export).then_some(&join_key),
        lease: args.lease.lease,
        name: args.run_name.as_deref(),
    };
    let job = Job {
        target: &args.target,
        sending: &args.sending,
        output: &args.output,
        ledger: &ledger,
        guard,
        new_run,
        described: source.describe(),
        adjustments: source.adjustments(),
        tried: Some(source.try_options()),
        mapping: &mapping,
        expected_rows: expected_rows(&args.input.read, &source),
        existing: if args.update_changed { ExistingPolicy::Update } else { ExistingPolicy::Keep },
        options: Options {
            limits: args.sending.limits(),
            max_failures: args.failures.max_failures,
            source_size: SourceSize { bytes: source.size(), rows: args.input.read.limit },
            empty_run: EmptyRun::Keep,
            scope: if is_whole { SourceScope::Whole } else { SourceScope::Part },
            canary: NonZeroU64::new(args.canary),
        },
    };
    runtime.block_on(run_job(
        &job,
        target,
        RowSource::File(Box::new(source), Box::new(options)),
        &mut display,
    ))
}

/// Warns of columns, and of options, that may be missing.
fn warn_of(source: &Source) {
    for warning in column_warnings(source.mapping()) {
        warn!("{}", warning.text);
    }
    warn_of_identity(source);
}

/// Warns if the rows may become other customers than those that the ledger has.
pub(super) fn warn_of_identity(source: &Source) {
    match source.identity_risk() {
        None => {}
        Some(IdentityRisk::UnknownExport) => warn!("{OF_UNKNOWN_FILE}"),
        Some(IdentityRisk::OtherReference { before, now }) => {
            let (before, now) = (visible_text(before), visible_text(now));
            warn!(
                "object_reference_id is made from '{now}', and was made from '{before}' when files with these columns were \
                 imported: their rows would be created again as other customers; if that is not intended, stop and give \
                 --map 'object_reference_id={before}'"
            );
        }
    }
}

/// Of a failed export that is read only by the options that are given.
const OF_UNKNOWN_FILE: &str = "this failed export comes from no import that the ledger knows, so it is read without \
    the --map, --set, --null-marker and --phone-region of that import, unless they are given now";

/// Refuses options that a ledger of this kind cannot have.
fn check_shared(args: &args::Import, ledger: &Location) -> Result<(), Error> {
    match (ledger.file(), &args.run_name, args.target.simulator) {
        (Some(_), Some(_), _) => Err(Error::usage(
            "--run-name is for a ledger in Postgres, which several processes can share",
            "leave it out; an import into a ledger in a file resumes by itself",
        )),
        (None, _, true) => Err(Error::usage(
            "--simulator cannot be used with a ledger in Postgres, because each process would have a simulator of its own",
            "start one with the command simulate and name it with --base-url, or use a ledger in a file",
        )),
        _ => Ok(()),
    }
}

/// What two processes must have in common to work on one run: the version of the program, the name of the file, and
/// every option that decides what is sent for its rows. That the files are the same is proven by their rows.
fn join_key(source: &Source, limit: Option<u64>, parse_settings_hash: &str) -> String {
    let name = Path::new(source.name()).file_name().unwrap_or_default().to_string_lossy();
    let limit = limit.map_or_else(|| "none".into(), |limit| limit.to_string());
    let (version, reading) = (env!("CARGO_PKG_VERSION"), source.read_options_json());
    format!("{version} {name} {parse_settings_hash} limit {limit} {reading}")
}

/// How the runs of this ledger read their files. None if the ledger cannot be read; that error is reported when the
/// run begins.
pub(super) async fn recorded_maps(ledger: &Location) -> Vec<RecordedMap> {
    let read = async {
        let runs = Reader::open(ledger).await?.row_mappings().await?;
        Ok::<_, ledger::Error>(runs.iter().filter_map(RecordedMap::of).collect())
    };
    if ledger.may_exist() { read.await.unwrap_or_default() } else { Vec::new() }
}

/// The run that `import` or `retry` starts.
pub(super) struct Job<'a> {
    pub(super) target: &'a args::TargetOptions,
    pub(super) sending: &'a args::Sending,
    pub(super) output: &'a args::Output,
    pub(super) ledger: &'a Location,
    pub(super) guard: &'a SignalGuard,
    pub(super) new_run: NewRun<'a>,
    /// How the source is read, as text.
    pub(super) described: String,
    /// Counts of what is read differently from how it is written in the source.
    pub(super) adjustments: Arc<Adjustments>,
    /// What options would make of the invalid rows of the source; none for a retry.
    pub(super) tried: Option<TriedOptions>,
    /// Which column feeds which field; empty for a retry.
    pub(super) mapping: &'a Mapping,
    pub(super) existing: ExistingPolicy,
    /// The expected minimum number of data rows.
    pub(super) expected_rows: Option<u64>,
    pub(super) options: Options,
}

/// Runs a job, shows its progress and its summary, and returns the exit code.
pub(super) async fn run_job(
    job: &Job<'_>,
    target: Target,
    source: RowSource,
    display: &mut ProgressDisplay,
) -> Result<u8, Error> {
    let (of_ledger, host) = (target.of_ledger(), target.host());
    let mut session =
        Session::open(target, job.target, job.sending, &job.output.metrics, job.existing, job.guard).await?;
    let active = match begin_run(job, &of_ledger, &mut session.signals).await? {
        ControlFlow::Continue(active) => active,
        ControlFlow::Break(code) => return Ok(code),
    };
    session.exporter.load_last_success(job.ledger).await?;
    let (run, name, began) = (active.id(), job.new_run.source, Instant::now());
    let names = RunNames {
        run: run.0,
        file: &visible_text(name),
        merchant: &of_ledger.merchant_id,
        host: &host,
        ledger: &job.ledger.to_string(),
    };
    names.log_begin(job);
    display.begin(session.header(run_header(job, &active)));
    let Session { sender, signals, exporter, proxy, .. } = &mut session;
    let show = &mut |snapshot: &RunSnapshot| {
        display.show(snapshot);
        exporter.show(snapshot);
    };
    let result = active.execute(source, sender, job.options, signals, show).await;
    display.end();
    let mut result = result.inspect_err(|error| exporter.end(code_of_error(error), false))?;
    let stop = describe_stop(&result.reason, proxy.as_deref());
    let stop_reason = stop.as_ref().map(|message| message.text.as_str());
    let is_completed = result.reason.state() == RunState::Completed;
    let expected = job.expected_rows.filter(|_| is_completed);
    let shortage = expected.and_then(|expected| shortage_of(job, result.totals.tally.rows(), expected));
    let code = match code_of_end(&result.reason, &result.totals.tally) {
        code::OK if shortage.is_some() => code::ROWS_LEFT,
        code => code,
    };
    let recorded = result.record(code, stop_reason).await;
    let RecordedEnd { absent, unsendable, is_recorded } =
        recorded.inspect_err(|error| exporter.end(code_of_error(error), false))?;
    exporter.end(code, matches!(code, code::OK | code::ROWS_LEFT));
    let (totals, request_counts, state) = (&result.totals, &result.run_requests(), result.reason.state());
    let end = End { state, exit_code: Some(code), stop_reason };
    let summary = Summary::new(run, end, name, &totals.tally, request_counts, began.elapsed());
    let reading = SourceReading::new(job.mapping, &job.adjustments);
    reading.adjustments.iter().for_each(|adjusted| info!(run = run.0, "{adjusted}"));
    names.log_end(state, code, &totals.tally, request_counts);
    // If the run stopped, invalid rows may have been read that it has not settled.
    let tried = job.tried.as_ref().filter(|_| is_completed);
    let (details, rescues) = read_details(job.ledger, is_recorded, run, unsendable, tried).await;
    let (dropped, changed, existing) = counts_of_run(&result, details.as_ref());
    let summary = Summary {
        dropped: dropped_list(dropped),
        reading: Some(reading),
        held_rate: result.sustained_rate,
        pauses: Some(result.pauses),
        changed_fields: changed_list(changed),
        absent,
        worker: result.worker,
        context: Some(RunContext::new(&of_ledger, names.ledger, details.as_ref(), &rescues)),
        ..summary.with_existing(existing)
    };
    let text = final_text(job, &names, &result, &summary, stop.as_ref().or(shortage.as_ref()));
    show_end(job.output, &json(&summary)?, &text, code, stop.or(shortage))
}

/// What was dropped from rows, what differed, and what existed, in the whole run: the process itself has counted its own
/// rows only, and the ledger has the sums of all workers.
fn counts_of_run<'a>(
    result: &'a RunResult,
    details: Option<&'a RunDetails>,
) -> (&'a Dropped, &'a FieldCounts, &'a ExistingCounts) {
    let Totals { dropped, changed, existing, .. } = &result.totals;
    match details.filter(|_| result.worker.is_some()) {
        Some(details) => (&details.dropped, &details.changed, &details.existing),
        None => (dropped, changed, existing),
    }
}

/// What a terminal shows at the end of a run.
fn final_text(
    job: &Job<'_>,
    names: &RunNames<'_>,
    result: &RunResult,
    summary: &Summary<'_>,
    stop: Option<&FinalMessage>,
) -> String {
    if result.is_discarded() {
        return format!("\nNothing to retry: the ledger {} has no {} to send\n", names.ledger, names.file);
    }
    let next = what_next(result, stop, job.ledger);
    describe_run(summary, &job.described, job.ledger, &next)
}

/// What to do after the run, in one line.
fn what_next(result: &RunResult, stop: Option<&FinalMessage>, ledger: &Location) -> String {
    match (&result.reason, result.other_workers) {
        (EndReason::Interrupted(_), 1..) => "the other workers of the run continue".into(),
        (reason, _) => next_step(reason, &result.totals.tally, stop, ledger),
    }
}

/// The run, its source, and which column feeds which field.
fn run_header(job: &Job<'_>, active: &ActiveRun) -> String {
    let (run, name) = (active.id(), visible_text(job.new_run.source));
    let joined = if active.has_joined() { ", joined" } else { "" };
    let header = format!("Run {run}: {name} ({}{joined})\n{}", job.described, mapping_lines(job.mapping));
    header.trim_end().to_owned()
}

/// Begins the run or joins its workers. Breaks with the exit code if there is nothing to do, or a signal came meanwhile.
async fn begin_run(
    job: &Job<'_>,
    of_ledger: &ledger::Target,
    signals: &mut mpsc::Receiver<Signal>,
) -> Result<ControlFlow<u8, Box<ActiveRun>>, Error> {
    let begun = tokio::select! {
        biased;
        begun = ActiveRun::begin(job.ledger, of_ledger, &job.new_run, now) => begun?,
        // Another process may have a ledger on a server for long.
        Some(signal) = signals.recv(), if job.ledger.file().is_none() => {
            return Ok(ControlFlow::Break(code::SIGNAL + signal));
        }
    };
    Ok(match begun {
        BegunRun::Active(active) => ControlFlow::Continue(active),
        BegunRun::Completed(run, exit_code) => {
            ControlFlow::Break(show_completed(job, of_ledger, run, exit_code).await?)
        }
    })
}

/// Ends like the run of this name, which other workers have completed. The summary is that of the run.
async fn show_completed(
    job: &Job<'_>,
    of_ledger: &ledger::Target,
    run: RunId,
    exit_code: u8,
) -> Result<u8, Error> {
    info!(run = run.0, exit_code, "the run of this name is completed; nothing is sent");
    let text = format!("\nRun {run} of this name is completed; nothing is sent\n");
    let (details, rescues) = read_details(job.ledger, true, run, None, None).await;
    let location = job.ledger.to_string();
    let context = Some(RunContext::new(of_ledger, &location, details.as_ref(), &rescues));
    let reading = Some(SourceReading::new(job.mapping, &job.adjustments));
    let end = End { state: RunState::Completed, exit_code: Some(exit_code), stop_reason: None };
    let summary = match &details {
        Some(RunDetails { run: record, dropped, changed, absent, existing, .. }) => {
            let elapsed = record.duration(now()).unwrap_or_default();
            let summary =
                Summary::new(run, end, &record.source, &record.tally, &record.request_counts, elapsed);
            Summary {
                dropped: dropped_list(dropped),
                changed_fields: changed_list(changed),
                absent: *absent,
                reading,
                context,
                ..summary.with_existing(existing)
            }
        }
        None => {
            let (tally, requests) = (Tally::default(), RequestCounts::default());
            let summary = Summary::new(run, end, job.new_run.source, &tally, &requests, Duration::ZERO);
            Summary { reading, context, ..summary }
        }
    };
    show_end(job.output, &json(&summary)?, &text, exit_code, None)
}

/// The values that identify the first and the last event of a run in a log.
struct RunNames<'a> {
    run: i64,
    file: &'a str,
    merchant: &'a str,
    /// Host and port only: a path may contain a secret.
    host: &'a str,
    ledger: &'a str,
}

impl RunNames<'_> {
    fn log_begin(&self, job: &Job<'_>) {
        let RunNames { run, file, merchant, host, ledger } = *self;
        let rate = job.sending.rate.0.map_or_else(|| "unlimited".into(), |rate| rate.to_string());
        let (version, source) = (env!("CARGO_PKG_VERSION"), job.described.to_string());
        info!(run, file, merchant, host, ledger, version, source, rate, "the run begins");
    }

    fn log_end(&self, state: RunState, exit_code: u8, tally: &Tally, requests: &RequestCounts) {
        let RunNames { run, file, merchant, host, ledger } = *self;
        let of = |outcome| tally.get(outcome);
        info!(
            run,
            file,
            merchant,
            host,
            ledger,
            version = env!("CARGO_PKG_VERSION"),
            state = state.name(),
            exit_code,
            rows = tally.rows(),
            created = of(Outcome::Created),
            existing = of(Outcome::Existing),
            unchanged = of(Outcome::Unchanged),
            changed = of(Outcome::Changed),
            updated = of(Outcome::Updated),
            duplicate = of(Outcome::Duplicate),
            invalid = of(Outcome::Invalid),
            rejected = of(Outcome::Rejected),
            failed = of(Outcome::Failed),
            pending = of(Outcome::Pending),
            requests = requests.requests,
            "the run has ended"
        );
    }
}

/// How many rows the source should have; none for a failed export, which has as many as there were faults.
pub(super) fn expected_rows(read: &args::Read, source: &Source) -> Option<u64> {
    Some(read.expect_rows).filter(|_| !source.is_export())
}

/// The final message about a run with fewer rows than expected.
fn shortage_of(job: &Job<'_>, rows: u64, expected: u64) -> Option<FinalMessage> {
    if job.new_run.command != Command::Retry {
        return shortage(job.new_run.source, rows, expected);
    }
    (rows < expected).then(|| {
        let rows = report::rows(rows);
        let text = format!("the ledger has {rows} to retry, and at least {expected} are expected");
        FinalMessage::new(text, "see status for what is left, or change --expect-rows")
    })
}

/// The final message about a source with fewer rows than expected. A source without rows is only a warning
/// unless rows are expected.
pub(super) fn shortage(source: &str, rows: u64, expected: u64) -> Option<FinalMessage> {
    if rows == 0 && expected == 0 {
        warn!("{} has no data rows, only a header line", visible_text(source));
    }
    (rows < expected).then(|| {
        let text = format!("{source} has {}, and at least {expected} are expected", report::rows(rows));
        FinalMessage::new(text, "check that the file is complete, or change --expect-rows")
    })
}

/// The ledger's details of a finished run, and what options would make of its invalid rows. Counts that the run has made
/// of all its rows are not read again. Nothing if the details cannot be read: the run itself has succeeded.
async fn read_details(
    ledger: &Location,
    is_recorded: bool,
    run: RunId,
    unsendable: Option<ErrorGroups>,
    tried: Option<&TriedOptions>,
) -> (Option<RunDetails>, Vec<Rescue>) {
    // A user who did not wait for the end of the run does not wait for a server that may be unreachable either.
    if !is_recorded && ledger.file().is_none() {
        return Default::default();
    }
    let tried = tried.filter(|_| unsendable.is_some());
    let read = async {
        let mut reader = Reader::open_ended(ledger).await?;
        let details = reader.run_details(Some(run), 0, unsendable).await?;
        let rescues = match tried {
            Some(tried) => tried.rescues(),
            None => tried_options(&mut reader, Some(run)).await?,
        };
        Ok::<_, Error>((details, rescues))
    };
    let read =
        read.await.inspect_err(|error| warn!(%error, "what went wrong cannot be read from the ledger"));
    read.unwrap_or_default()
}

fn describe_run(summary: &Summary<'_>, described: &str, ledger: &Location, next: &str) -> String {
    let table = run_table(summary);
    format!("{table}\n  source: {described}\n  ledger: {ledger}\n  next:   {next}\n")
}
