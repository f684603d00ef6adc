//! `retry`: rows that failed or were rejected are sent again, out of the ledger.

use super::{
    Job, args,
    args::Only,
    check_pairs,
    config::ORIGIN_FLAG,
    find_target, ledger_path, make_room_for_connections, open_outputs, run_job, runtime,
    target::{PlannedAction, confirm_production},
};
use crate::{
    customer::Field,
    error::Error,
    ledger::{Ledger, NewRun, Outcome, Reader, RetryFilter, RetryableCount, Setting},
    report,
    run::SourceSize,
    sender::OnExisting,
    source::{Changes, RecordedSource},
};

/// The most codes that are named where the one asked for is not there.
const CODES_SHOWN: usize = 8;

pub(super) fn retry(args: &args::Retry, settings: &[Setting]) -> Result<u8, Error> {
    let ledger_path = ledger_path(args.ledger.ledger.as_deref(), args.target.simulator);
    let mut display = open_outputs(&args.output, &[("the ledger", &ledger_path)])?;
    let changes = changes(&args.input, settings)?;
    let wanted = RetryFilter {
        outcome: args.only.map(|only| match only {
            Only::Failed => Outcome::Failed,
            Only::Rejected => Outcome::Rejected,
        }),
        error_code: args.error_code.as_ref().map(|code| code.to_lowercase()),
    };
    let target = find_target(&args.target)?;
    runtime()?.block_on(async {
        let mut reader = Reader::open(&ledger_path).await?;
        let stuck = reader.retryable_counts().await?;
        let rows = count(&stuck, &wanted, args.error_code.as_deref())?;
        let rows = args.input.limit.map_or(rows, |limit| rows.min(limit));
        let name = name(&wanted);
        let count = || Ok(report::rows(rows));
        let action = PlannedAction { verb: "Retry", file: &name, rows: &count };
        confirm_production(&args.target, &args.sending, &target, &action)?;
        make_room_for_connections(args.sending.concurrency)?;
        let source = RecordedSource::open(reader, wanted, &changes, args.input.limit).await?;
        let job = Job {
            target: &args.target,
            sending: &args.sending,
            output: &args.output,
            max_failures: args.failures.max_failures,
            ledger_path: &ledger_path,
            new_run: NewRun {
                command: "retry",
                source: &name,
                source_path: None,
                columns: &[],
                reference_column: None,
                update_changed: false,
                row_mapping: None,
                parse_settings_hash: "",
                settings,
            },
            extent: SourceSize { bytes: Some(rows), rows: args.input.limit },
            described: format!("{} in the ledger", report::rows(rows)),
            is_whole: false,
            existing: OnExisting::Leave,
            canary: None,
        };
        let rows = async |tasks: &mut tokio::task::JoinSet<()>, _: &mut Ledger| {
            let (reading, rows) = source.stream();
            tasks.spawn(reading);
            Ok(rows)
        };
        run_job(&job, target, rows, &mut display).await
    })
}

/// How many rows there are to send; tells where their cells are gone, or a code is none.
fn count(stuck: &[RetryableCount], wanted: &RetryFilter, code: Option<&str>) -> Result<u64, Error> {
    let taken = || stuck.iter().filter(|stuck| wanted.takes(stuck));
    let (rows, kept) = (taken().map(|s| s.rows).sum::<u64>(), taken().map(|s| s.kept).sum::<u64>());
    if let (0, Some(code)) = (rows, code) {
        let of_any = RetryFilter { error_code: None, ..wanted.clone() };
        let mut codes: Vec<String> = stuck
            .iter()
            .filter(|stuck| of_any.takes(stuck) && !stuck.error_code.is_empty())
            .map(|stuck| format!("{} ({})", stuck.error_code, report::rows(stuck.rows)))
            .collect();
        codes.truncate(CODES_SHOWN);
        let there = if codes.is_empty() { "none".into() } else { codes.join(", ") };
        let text = format!("no {} with the error code {code:?}", what(wanted));
        return Err(Error::usage(text, format!("codes that there are: {there}")));
    }
    if kept < rows {
        tracing::warn!(
            rows = rows - kept,
            "prune has removed the cells of rows: import their file, and retry what is rejected still"
        );
    }
    Ok(kept)
}

/// What stands for the source, in `status` too.
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

/// What is said of how rows are read. One file of settings serves all commands, so what there is not meant for
/// a retry is left out; a flag that makes no sense is refused.
fn changes(args: &args::RetryInput, settings: &[Setting]) -> Result<Changes, Error> {
    check_pairs(&args.map, &args.set)?;
    let is_flag =
        |option: &str| settings.iter().any(|setting| setting.name == option && setting.origin == ORIGIN_FLAG);
    let (mut map, mut set) = (args.map.clone(), args.set.clone());
    for (option, pairs) in [("map", &mut map), ("set", &mut set)] {
        if !is_flag(option) {
            pairs.retain(|(field, _)| *field != Field::Reference);
        }
        if pairs.iter().any(|(field, _)| *field == Field::Reference) {
            return Err(Error::usage(
                format!("--{option} {} in a retry: it is what identifies a row", Field::Reference),
                "import the corrected file instead",
            ));
        }
    }
    if args.get_client_auth_token && !set.iter().any(|(field, _)| *field == Field::GetClientAuthToken) {
        set.push((Field::GetClientAuthToken, "true".into()));
    }
    Ok(Changes {
        map,
        is_map_told: is_flag("map"),
        set,
        validation: args.validation,
        require: args.require.clone(),
        drop_invalid_optional: args.drop_invalid_optional,
        phones: args.phone_region.clone(),
    })
}
