//! `retry`: sends rows that failed or were rejected again, from the ledger.
//!
//! A retry is an import whose source is the ledger, and `import` runs it. The reference identifies a row, so no option of
//! a retry may change it.

use std::num::NonZeroU64;

use super::{
    args,
    args::Only,
    import::{Job, run_job},
    ledger_location,
    output::open_outputs,
    process::{SignalGuard, raise_open_files_limit, runtime},
    read_options,
    target::{PlannedAction, confirm_production, find_target},
};
use crate::{
    customer::Field,
    error::Error,
    ledger::{Command, NewRun, Outcome, Reader, RetryFilter, RetryableCount, Setting, SettingOrigin},
    report,
    run::{EmptyRun, Options, RowSource, SourceScope, SourceSize},
    sender::ExistingPolicy,
    source::{Mapping, ReplayOptions, ReplaySource},
};

/// How many error codes are listed if the requested one does not occur.
const CODES_SHOWN: usize = 8;

pub(super) fn retry(args: &args::Retry, settings: &[Setting], guard: &SignalGuard) -> Result<u8, Error> {
    let ledger = ledger_location(args.ledger.ledger.as_deref(), args.target.simulator)?;
    let mut display = open_outputs(&args.output)?;
    let options = replay_options(&args.input, settings)?;
    let wanted = RetryFilter {
        outcome: args.only.map(|only| match only {
            Only::Failed => Outcome::Failed,
            Only::Rejected => Outcome::Rejected,
        }),
        error_code: args.error_code.as_ref().map(|code| code.to_lowercase()),
    };
    let target = find_target(&args.target)?;
    runtime()?.block_on(async {
        let mut reader = Reader::open(&ledger).await?.outlasting(args.sending.outage_limit);
        let stuck = reader.retryable_counts().await?;
        let rows = count(&stuck, &wanted, args.error_code.as_deref())?;
        let rows = args.input.read.limit.map_or(rows, |limit| rows.min(limit));
        let name = name(&wanted);
        let count = || Ok(report::rows(rows));
        let action = PlannedAction { verb: "Retry", file: &name, rows: &count, columns: "" };
        confirm_production(&args.target, &args.sending, &target, &action)?;
        raise_open_files_limit(args.sending.concurrency)?;
        let source = ReplaySource::open(reader, wanted, &options).await?;
        let job = Job {
            target: &args.target,
            sending: &args.sending,
            output: &args.output,
            ledger: &ledger,
            guard,
            new_run: NewRun {
                command: Command::Retry,
                source: &name,
                settings,
                outage_limit: args.sending.outage_limit,
                lease: args.lease.lease,
                ..NewRun::default()
            },
            described: format!("{} in the ledger", report::rows(rows)),
            adjustments: source.adjustments(),
            tried: None,
            mapping: &Mapping::default(),
            // A settings file serves all commands, and names the rows of the file.
            expected_rows: is_flag(settings, "expect-rows").then_some(args.input.read.expect_rows),
            existing: ExistingPolicy::Keep,
            options: Options {
                limits: args.sending.limits(),
                max_failures: args.failures.max_failures,
                // A replay's chunks count rows instead of bytes.
                source_size: SourceSize { bytes: Some(rows), rows: args.input.read.limit },
                scope: SourceScope::Part,
                empty_run: EmptyRun::Discard,
                canary: NonZeroU64::new(args.canary),
            },
        };
        run_job(&job, target, RowSource::Ledger(source), &mut display).await
    })
}

/// The number of rows to send. An error if the requested code does not occur; a warning if `prune` has removed cells.
fn count(stuck: &[RetryableCount], wanted: &RetryFilter, code: Option<&str>) -> Result<u64, Error> {
    let taken = || stuck.iter().filter(|stuck| wanted.matches(stuck));
    let (rows, kept) = (taken().map(|s| s.rows).sum::<u64>(), taken().map(|s| s.with_cells).sum::<u64>());
    if let (0, Some(code)) = (rows, code) {
        let of_any = RetryFilter { error_code: None, ..wanted.clone() };
        let mut codes: Vec<String> = stuck
            .iter()
            .filter(|stuck| of_any.matches(stuck) && !stuck.error_code.is_empty())
            .map(|stuck| format!("{} ({})", stuck.error_code, report::rows(stuck.rows)))
            .collect();
        codes.truncate(CODES_SHOWN);
        let there = if codes.is_empty() { "none".into() } else { codes.join(", ") };
        let text = format!("no {} with the error code {code:?}", what(wanted));
        return Err(Error::usage(text, format!("codes in this ledger: {there}")));
    }
    if kept < rows {
        tracing::warn!(
            rows = rows - kept,
            "prune has removed the cells of rows: import their file, and retry what is rejected still"
        );
    }
    Ok(kept)
}

/// The text in place of a source's name, also in `status`.
fn name(wanted: &RetryFilter) -> String {
    match &wanted.error_code {
        None => format!("{}s", what(wanted)),
        Some(code) => format!("{}s with the error code {code}", what(wanted)),
    }
}

fn what(wanted: &RetryFilter) -> &'static str {
    match wanted.outcome {
        Some(Outcome::Failed) => "failed row",
        Some(_) => "rejected row",
        None => "failed or rejected row",
    }
}

fn is_flag(settings: &[Setting], option: &str) -> bool {
    settings.iter().any(|setting| setting.name == option && setting.origin == SettingOrigin::Flag)
}

/// How the rows are read. One settings file serves all commands, so settings in it that a retry cannot use are
/// ignored; a flag that a retry cannot use is an error.
fn replay_options(args: &args::RetryInput, settings: &[Setting]) -> Result<ReplayOptions, Error> {
    let mut overrides = read_options(&args.read, args.validation)?;
    for (option, pairs) in [("map", &mut overrides.map), ("set", &mut overrides.rules.constants)] {
        if !is_flag(settings, option) {
            pairs.retain(|(field, _)| *field != Field::Reference);
        }
        if pairs.iter().any(|(field, _)| *field == Field::Reference) {
            return Err(Error::usage(
                format!("--{option} {} in a retry: it is what identifies a row", Field::Reference),
                "import the corrected file instead",
            ));
        }
    }
    Ok(ReplayOptions { overrides, map_known_columns_only: !is_flag(settings, "map"), limit: args.read.limit })
}
