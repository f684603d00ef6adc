//! `verify`: looks up the rows that a ledger has imported and compares them with the file. Writes to the ledger only
//! with `--mark`.

use std::time::Instant;

use tracing::info;

use super::{
    args,
    exit_code::{FinalMessage, code, code_of_error, describe_stop},
    import::{expected_rows, recorded_maps, shortage},
    ledger_location, now,
    output::{json, open_outputs},
    process::{SignalGuard, raise_open_files_limit, runtime},
    progress_bar::ProgressDisplay,
    session::{LogNames, Session, show_end},
    source_options,
    target::{PlannedAction, Target, confirm_production, count_rows, find_target},
};
use crate::{
    error::Error,
    ledger::{ImportedIndex, Location, Reader, mark_changed_at_api},
    report::{self, Verification, VerificationSummary},
    run::{EndReason, waiting_cause},
    sender::ExistingPolicy,
    source::{Source, SourceOptions},
    verify::{self, Choice, ComparisonResult},
};

pub(super) fn verify(args: &args::Verify, guard: &SignalGuard) -> Result<u8, Error> {
    let ledger = ledger_location(args.ledger.ledger.as_deref(), args.target.simulator)?;
    let mut display = open_outputs(&args.output)?;
    let runtime = runtime()?;
    let options = source_options(&args.input)?;
    let options = SourceOptions { recorded: runtime.block_on(recorded_maps(&ledger)), ..options };
    let source = Source::open(&options)?;
    let target = find_target(&args.target)?;
    runtime.block_on(run(args, source, &options, target, &ledger, &mut display, guard))
}

async fn run(
    args: &args::Verify,
    source: Source,
    source_options: &SourceOptions,
    target: Target,
    ledger: &Location,
    display: &mut ProgressDisplay,
    guard: &SignalGuard,
) -> Result<u8, Error> {
    let mut reader = Reader::open(ledger).await?.outlasting(args.sending.outage_limit);
    let of_ledger = target.of_ledger();
    reader.check_target(&of_ledger).await?;
    let imported = ImportedIndex::of(reader).await?;
    let (rows, name) = (imported.rows() as u64, source.name().to_owned());
    let names = LogNames::new(&name, Some(&target), ledger);
    let columns = report::mapping_lines(source.mapping());
    let count = || count_rows(source_options);
    let action = PlannedAction { verb: "Verify", file: &name, rows: &count, columns: &columns };
    confirm_production(&args.target, &args.sending, &target, &action)?;
    raise_open_files_limit(args.sending.concurrency)?;
    let mut session =
        Session::open(target, &args.target, &args.sending, &args.output.metrics, ExistingPolicy::Keep, guard)
            .await?;
    session.exporter.load_last_success(ledger).await?;
    session.share_rate(ledger, args.sending.outage_limit).await;
    let (adjustments, expect_rows) = (source.adjustments(), expected_rows(&args.input.read, &source));
    let (began, size) = (Instant::now(), source.size());
    let header = format!("Verify {} ({})\n{columns}", report::visible_text(&name), source.describe());
    display.begin(session.header(header.trim_end().to_owned()));
    names.log_begin("verification");
    let Session { sender, signals, exporter, proxy, rate_sharing, .. } = &mut session;
    let show = &mut |found: &ComparisonResult| {
        let total = expected(found, size, args.sample);
        let words = report::verification_words(found);
        display.show_counts(found.looked_up(), total, words, waiting_cause(sender).as_deref());
        exporter.refresh();
    };
    let comparison = verify::run(imported, source.stream()?, sender, options(args), signals, show);
    let end = rate_sharing.while_shared(comparison).await;
    display.end();
    let (ended, found) = end.inspect_err(|error| exporter.end(code_of_error(error), false))?;
    if matches!(ended, EndReason::Completed) && found.imported == 0 {
        exporter.end(code::USAGE, false);
        return Err(nothing_imported(&name, ledger));
    }
    let marked = match args.mark {
        true => Some(mark_changed_at_api(ledger, &of_ledger, &found.to_mark, now()).await?),
        false => None,
    };
    let shortage = shortage_of(&ended, &name, found.rows, expect_rows);
    let code = code_of(&ended, &found, shortage.is_some());
    // A comparison imports nothing, so the last success stays that of a run.
    exporter.end(code, false);
    let stop = describe_stop(&ended, proxy.as_deref());
    let verification = Verification {
        source: &name,
        state: ended.state(),
        exit_code: code,
        stop_reason: stop.as_ref().map(|message| message.text.as_str()),
        adjustments: &adjustments,
        found: &found,
        not_in_file: rows.saturating_sub(found.imported),
        marked,
        request_counts: sender.request_counts(),
        elapsed: began.elapsed(),
    };
    log_end(&names, &verification);
    let summary = json(&VerificationSummary::of(&verification))?;
    show_end(&args.output, &summary, &report::verification_table(&verification), code, stop.or(shortage))
}

/// The final message about a file that was read to its end and has fewer rows than expected.
fn shortage_of(ended: &EndReason, name: &str, rows: u64, expected: Option<u64>) -> Option<FinalMessage> {
    let expected = expected.filter(|_| matches!(ended, EndReason::Completed))?;
    shortage(name, rows, expected)
}

fn options(args: &args::Verify) -> verify::Options {
    verify::Options {
        limits: args.sending.limits(),
        choice: args.sample.map_or(Choice::All, |rows| Choice::Sample { rows, seed: now().unsigned_abs() }),
        mark: args.mark,
    }
}

fn log_end(names: &LogNames, of: &Verification<'_>) {
    let LogNames { file, merchant, host, ledger, version } = names;
    let Verification { found, exit_code, .. } = *of;
    info!(
        file,
        merchant,
        host,
        ledger,
        version,
        state = of.state.name(),
        exit_code,
        rows = found.rows,
        same = found.same,
        different = found.different,
        missing = found.missing,
        unanswered = found.unanswered,
        requests = of.request_counts.requests,
        "the verification has ended"
    );
}

fn nothing_imported(file: &str, ledger: &Location) -> Error {
    Error::usage(
        format!("no row of {file} was imported with the ledger {ledger}"),
        "name the file of an earlier import, or its ledger with --ledger FILE",
    )
}

/// The number of rows to look up. The number of imported rows in the whole file is extrapolated from the part read.
fn expected(found: &ComparisonResult, size: Option<u64>, sample: Option<usize>) -> Option<u64> {
    let share = size.filter(|_| found.bytes > 0)? as f64 / found.bytes as f64;
    let imported = (found.imported as f64 * share).round() as u64;
    Some(sample.map_or(imported, |most| imported.min(most as u64)))
}

fn code_of(ended: &EndReason, found: &ComparisonResult, is_short: bool) -> u8 {
    match ended {
        EndReason::Completed if found.same == found.looked_up() && !is_short => code::OK,
        // Only answers are missing: nothing is to be repaired, and a scheduler must run the command again.
        EndReason::Completed if found.unanswered > 0 && found.different + found.missing == 0 => code::STOPPED,
        EndReason::Completed => code::ROWS_LEFT,
        EndReason::Stopped(_) => code::STOPPED,
        EndReason::SourceFailed(_) => code::UNEXPECTED,
        EndReason::Interrupted(signal) => code::SIGNAL + signal,
    }
}
