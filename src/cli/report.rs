//! `report`: one run in detail, or the whole ledger, as text, JSON or an HTML page.
//!
//! Reads the ledger beside a running import and never blocks it.

use std::io::Write;

use super::{
    args::{self, ReportFormat},
    code, json, ledger_location, now,
    output::{check_sources, file_of, print_note},
    output_file::{EarlierFile, OutputFile},
    print, print_data, runtime,
};
use crate::{
    customer::{Rescue, visible_lines},
    error::Error,
    ledger::{Location, Reader, RunDetails, RunId},
    report::{History, Report, history_html, history_text, report_html, report_text},
    source::tried_options,
};

/// How many respelled references the report lists.
const LINES_SHOWN: u32 = 10;

pub(super) fn report(args: &args::Report) -> Result<u8, Error> {
    let ledger = ledger_location(args.ledger.ledger.as_deref(), false)?;
    let output = file_of(args.output.as_deref());
    if let Some(output) = output.filter(|output| output.exists()) {
        runtime()?.block_on(async { check_sources(output, &mut Reader::open(&ledger).await?).await })?;
    }
    let text =
        if args.all { of_ledger(&ledger, args.format)? } else { of_run(&ledger, args.run, args.format)? };
    let Some(output) = output else {
        let printed = match args.format {
            ReportFormat::Text => print(&text),
            ReportFormat::Json | ReportFormat::Html => print_data(&text),
        };
        return printed.map(|()| code::OK);
    };
    let mut file = OutputFile::create(output, EarlierFile::Replace)?;
    let written = file.write_all(text.as_bytes());
    written.map_err(|error| Error::Output { name: output.display().to_string(), error })?;
    file.complete()?;
    let about = match (args.all, args.run) {
        (true, _) => "the whole ledger".into(),
        (false, Some(run)) => format!("run {run}"),
        (false, None) => "the latest run".into(),
    };
    print_note(&format!("wrote the report on {about} to {}", output.display()));
    Ok(code::OK)
}

fn of_run(ledger: &Location, requested: Option<i64>, format: ReportFormat) -> Result<String, Error> {
    let (details, rescues) = runtime()?.block_on(details(ledger, requested))?;
    let report = Report::new(&details, &rescues, now());
    match format {
        ReportFormat::Text => Ok(visible_lines(&report_text(&report)).into_owned()),
        ReportFormat::Json => json(&report),
        ReportFormat::Html => report_html(&report),
    }
}

fn of_ledger(ledger: &Location, format: ReportFormat) -> Result<String, Error> {
    let read = async {
        let mut reader = Reader::open(ledger).await?;
        let history = reader.history().await?;
        Ok::<_, Error>((history, tried_options(&mut reader, None).await?))
    };
    let (history, rescues) = runtime()?.block_on(read)?;
    let now = now();
    let history = History::new(&history, &rescues, now);
    match format {
        ReportFormat::Text => Ok(visible_lines(&history_text(&history)).into_owned()),
        ReportFormat::Json => json(&history),
        ReportFormat::Html => history_html(&history, now),
    }
}

/// Reads the details of run `requested`, or of the latest run, and what options would make of its invalid rows.
async fn details(ledger: &Location, requested: Option<i64>) -> Result<(RunDetails, Vec<Rescue>), Error> {
    let mut reader = Reader::open(ledger).await?;
    let details = reader.run_details(requested.map(RunId), LINES_SHOWN, None).await?;
    let details = details.ok_or_else(|| match requested {
        Some(requested) => {
            Error::usage(format!("there is no run {requested} in the ledger"), "see status for the runs")
        }
        None => Error::usage("there is no run in the ledger yet", "begin one with import"),
    })?;
    let rescues = tried_options(&mut reader, Some(details.run.run)).await?;
    Ok((details, rescues))
}
