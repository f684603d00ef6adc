//! `plan`: reports what an import of a file would do, given its ledger and, with `--ask`, the API. Records nothing.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use tracing::info;

use super::{
    args::{self, Ask, TextOrJson},
    exit_code::{FinalMessage, code, describe_stop},
    import::{expected_rows, recorded_maps, shortage, warn_of_identity},
    ledger_location, now,
    output::{json, open_outputs, print_data, print_error, write_summary},
    process::{SignalGuard, raise_open_files_limit, runtime},
    progress_bar::ProgressDisplay,
    session::{LogNames, Session},
    source_options,
    target::{PlannedAction, Target, confirm_production, count_rows, find_target, requested_target},
};
use crate::{
    error::Error,
    ledger::{Command, Forecast, Location, RequestCounts, SourceColumns},
    plan::{self, Asked, Plan},
    report::{
        AskedToReport, PlanSummary, PlanToReport, asking_words, mapping_lines, plan_text, visible_text,
    },
    run::{EndReason, waiting_cause},
    sender::ExistingPolicy,
    source::{Source, SourceOptions},
    verify::Choice,
};

pub(super) fn plan(args: &args::Plan, guard: &SignalGuard) -> Result<u8, Error> {
    let ledger = ledger_location(args.ledger.ledger.as_deref(), args.target.simulator)?;
    let mut display = open_outputs(&args.output.of_run())?;
    runtime()?.block_on(run(args, &ledger, &mut display, guard))
}

/// The lookups of `--ask`.
struct Asking {
    ask: Ask,
    target: Target,
}

/// The API's answers, and how the lookups ended.
struct Answers {
    asked: Asked,
    ended: EndReason,
    stop: Option<FinalMessage>,
    request_counts: RequestCounts,
    elapsed: Duration,
}

impl Answers {
    fn to_report(&self) -> AskedToReport<'_> {
        AskedToReport {
            asked: &self.asked,
            state: self.ended.state(),
            stop_reason: self.stop.as_ref().map(|message| message.text.as_str()),
            request_counts: self.request_counts,
            elapsed: self.elapsed,
        }
    }
}

async fn run(
    args: &args::Plan,
    ledger: &Location,
    display: &mut ProgressDisplay,
    guard: &SignalGuard,
) -> Result<u8, Error> {
    let recorded = recorded_maps(ledger).await;
    let mut source = Source::open(&SourceOptions { recorded, ..source_options(&args.input)? })?;
    let find = |ask| Ok::<_, Error>(Asking { ask, target: find_target(&args.target)? });
    let asking = args.ask.map(find).transpose()?;
    let command = if args.update_changed { Command::ImportAndUpdate } else { Command::Import };
    let requested = requested_target(&args.target)?;
    warn_of_identity(&source);
    let columns = SourceColumns {
        names: source.columns(),
        reference: source.reference_column(),
        is_export: source.is_export(),
    };
    let outage_limit = args.sending.outage_limit;
    let mut forecast = Forecast::open(ledger, &requested, command, columns, outage_limit).await?;
    let (name, mapping) = (source.name().to_owned(), source.mapping().clone());
    let expect_rows = expected_rows(&args.input.read, &source);
    let (rules, adjustments, tried) = (source.rules().clone(), source.adjustments(), source.try_options());
    // Without --ask, no target is needed.
    let names = LogNames::new(&name, asking.as_ref().map(|asking| &asking.target), ledger);
    names.log_begin("plan");
    let (mut plan, read, answers) = match asking {
        None => {
            let (plan, read) = plan::plan(&mut forecast, source.stream()?).await?;
            (plan, read, None)
        }
        Some(asking) => {
            let (plan, answers) =
                ask_api(args, asking, source, ledger, &mut forecast, display, guard).await?;
            (plan, Ok(()), Some(answers))
        }
    };
    plan.findings.rescues = tried.rescues();
    let expected = expect_rows.filter(|_| plan.is_whole);
    let shortage = expected.and_then(|expected| shortage(&name, plan.findings.rows(), expected));
    let code = code_of(&plan, answers.as_ref(), shortage.is_some());
    let planned = PlanToReport {
        source: &name,
        ledger: &ledger.to_string(),
        ledger_exists: forecast.ledger_exists(),
        running: forecast.running(),
        ledger_in_doubt: forecast.in_doubt(),
        plan: &plan,
        rules: &rules,
        mapping: &mapping,
        adjustments: &adjustments,
        rate: args.sending.rate.0,
        command,
        asked: answers.as_ref().map(Answers::to_report),
    };
    log_end(&names, code, &planned);
    show(&args.output, &planned, code)?;
    // What was planned up to a read error is reported before the error.
    read?;
    let stop = answers.as_ref().and_then(|answers| answers.stop.as_ref());
    if let Some(message) = stop.or(shortage.as_ref()) {
        print_error(&message.to_string());
    }
    Ok(code)
}

fn log_end(names: &LogNames, exit_code: u8, planned: &PlanToReport<'_>) {
    let (LogNames { file, merchant, host, ledger, version }, plan) = (names, planned.plan);
    info!(
        file,
        merchant,
        host,
        ledger,
        version,
        exit_code,
        rows = plan.findings.rows(),
        create = plan.create,
        update = plan.update,
        changed = plan.changed,
        unchanged = plan.unchanged,
        try_again = plan.try_again_rows(),
        in_doubt = plan.in_doubt,
        rejected = plan.rejected,
        duplicate = plan.findings.duplicates.rows,
        invalid = plan.findings.invalid(),
        requests = planned.asked.map_or(0, |asked| asked.request_counts.requests),
        "the plan has ended"
    );
}

/// Plans the source and looks rows up at the API.
async fn ask_api(
    args: &args::Plan,
    Asking { ask, target }: Asking,
    source: Source,
    ledger: &Location,
    forecast: &mut Forecast,
    display: &mut ProgressDisplay,
    guard: &SignalGuard,
) -> Result<(Plan, Answers), Error> {
    let (name, columns) = (source.name().to_owned(), mapping_lines(source.mapping()));
    let rows = || count_rows(&source_options(&args.input)?);
    let action = PlannedAction { verb: "Ask", file: &name, rows: &rows, columns: &columns };
    confirm_production(&args.target, &args.sending, &target, &action)?;
    raise_open_files_limit(args.sending.concurrency)?;
    let metrics = args::Metrics::default();
    let mut session =
        Session::open(target, &args.target, &args.sending, &metrics, ExistingPolicy::Keep, guard).await?;
    if forecast.ledger_exists() {
        session.share_rate(ledger, args.sending.outage_limit).await;
    }
    let header = format!("Plan {} ({})\n{columns}", visible_text(&name), source.describe());
    display.begin(session.header(header.trim_end().to_owned()));
    let Session { sender, signals, proxy, rate_sharing, .. } = &mut session;
    let choice = match ask {
        Ask::All => Choice::All,
        Ask::Sample(rows) => Choice::Sample { rows, seed: now().unsigned_abs() },
    };
    let show = &mut |plan: &Plan, asked: &Asked| {
        let total = match ask {
            Ask::All => None,
            Ask::Sample(rows) => Some(plan.create.min(rows as u64)),
        };
        display.show_counts(asked.looked_up(), total, asking_words(asked), waiting_cause(sender).as_deref());
    };
    let (began, options) = (Instant::now(), plan::Options { limits: args.sending.limits(), choice });
    let asking = plan::plan_and_ask(forecast, source.stream()?, sender, options, signals, show);
    let done = rate_sharing.while_shared(asking).await;
    display.end();
    let (ended, plan, asked) = done?;
    let stop = describe_stop(&ended, proxy.as_deref());
    let (request_counts, elapsed) = (sender.request_counts(), began.elapsed());
    Ok((plan, Answers { asked, ended, stop, request_counts, elapsed }))
}

/// The exit code: rows without an answer have to be looked up again.
fn code_of(plan: &Plan, answers: Option<&Answers>, is_short: bool) -> u8 {
    match answers.map(|answers| (&answers.ended, answers.asked.unanswered)) {
        Some((EndReason::Stopped(_), _)) => code::STOPPED,
        Some((EndReason::SourceFailed(_), _)) => code::UNEXPECTED,
        Some((EndReason::Interrupted(signal), _)) => code::SIGNAL + signal,
        Some((EndReason::Completed, 1..)) => code::STOPPED,
        Some((EndReason::Completed, 0)) | None if plan.is_clear() && !is_short => code::OK,
        Some((EndReason::Completed, 0)) | None => code::ROWS_LEFT,
    }
}

fn show(output: &args::PlanOutput, planned: &PlanToReport<'_>, code: u8) -> Result<(), Error> {
    let summary = json(&PlanSummary::of(planned, code))?;
    let of_run = output.of_run();
    match output.format {
        TextOrJson::Text => write_summary(&of_run, &summary, &plan_text(planned)),
        TextOrJson::Json if output.summary_json.as_deref() == Some(Path::new("-")) => print_data(&summary),
        TextOrJson::Json => {
            let log = args::Log { quiet: true, ..of_run.log };
            write_summary(&args::Output { log, ..of_run }, &summary, "")?;
            print_data(&summary)
        }
    }
}
