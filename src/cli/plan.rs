//! `plan`: what an import of a file would do, beside its ledger. Sends and records nothing.

use std::path::Path;

use super::{
    args::{self, PlanFormat},
    exit_code::code,
    import::{recorded_maps, shortage},
    ledger_path,
    output::{json, open_outputs, print_data, print_error, write_summary},
    process::runtime,
    source_options,
    target::asked_target,
};
use crate::{
    error::Error,
    ledger::{Command, Forecast},
    plan,
    report::{PlanSummary, PlanToReport, plan_text},
    source::{Source, SourceOptions},
};

pub(super) fn plan(args: &args::Plan) -> Result<u8, Error> {
    let ledger_path = ledger_path(args.ledger.ledger.as_deref(), args.target.simulator)?;
    let inputs = [("the ledger", ledger_path.as_path()), ("the source", args.input.csv.as_path())];
    open_outputs(&args.output.of_run(), &inputs)?;
    runtime()?.block_on(run(args, &ledger_path))
}

async fn run(args: &args::Plan, ledger_path: &Path) -> Result<u8, Error> {
    let recorded = recorded_maps(ledger_path).await;
    let source = Source::open(&SourceOptions { recorded, ..source_options(&args.input)? })?;
    let command = if args.update_changed { Command::ImportAndUpdate } else { Command::Import };
    let columns = (source.columns(), source.reference_column());
    let mut forecast = Forecast::open(ledger_path, &asked_target(&args.target)?, command, columns).await?;
    let (name, mapping) = (source.name().to_owned(), source.mapping().clone());
    let (rules, adjustments) = (source.rules().clone(), source.adjustments());
    let (plan, read) = plan::plan(&mut forecast, source.stream()?).await?;
    let rows = plan.findings.rows();
    let shortage = match &read {
        Ok(()) => shortage(&name, rows, args.input.read.expect_rows),
        Err(_) => None,
    };
    let code = if plan.is_clear() && shortage.is_none() { code::OK } else { code::ROWS_LEFT };
    let planned = PlanToReport {
        source: &name,
        ledger: (&ledger_path.display().to_string(), forecast.ledger_exists()),
        running: forecast.running(),
        ledger_in_doubt: forecast.in_doubt(),
        plan: &plan,
        rules: &rules,
        mapping: &mapping,
        adjustments: &adjustments,
        rate: args.sending.rate.0,
    };
    show(&args.output, &planned, code)?;
    // What was planned up to a read error is reported before the error.
    read?;
    if let Some((text, hint)) = &shortage {
        print_error(&format!("{text}; {hint}"));
    }
    Ok(code)
}

fn show(output: &args::PlanOutput, planned: &PlanToReport<'_>, code: u8) -> Result<(), Error> {
    let summary = json(&PlanSummary::of(planned, code))?;
    let of_run = output.of_run();
    match output.format {
        PlanFormat::Text => write_summary(&of_run, &summary, &plan_text(planned)),
        PlanFormat::Json if output.summary_json.as_deref() == Some(Path::new("-")) => print_data(&summary),
        PlanFormat::Json => {
            let log = args::Log { quiet: true, ..of_run.log };
            write_summary(&args::Output { log, ..of_run }, &summary, "")?;
            print_data(&summary)
        }
    }
}
