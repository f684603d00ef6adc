//! `probe`: tests how a sandbox behaves; prints a table, writes a file, and compares with an earlier probe.
//!
//! A probe creates customers that cannot be deleted, so production is always refused, even with `--yes`. The output contains
//! neither the key nor the merchant id.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    SIMULATOR, args, check_output_path, code, find_target, json, logging::LogWriter, logging::start_log, now,
    output::file_of, print, print_data, print_error, runtime, target,
};
use crate::{
    error::Error,
    probe::{self, Change, EarlierProbe, Finding, Findings},
    report::{counted, rfc3339, visible_text},
};

/// The content of `--output`.
#[derive(Serialize)]
struct Record<'a> {
    version: &'static str,
    base_url: &'a str,
    /// The time of the probe, UTC.
    asked_at: String,
    #[serde(flatten)]
    findings: &'a Findings,
    /// Changes since the earlier probe, with `--compare`.
    changes: Option<&'a [Change]>,
}

pub(super) fn probe(args: &args::Probe) -> Result<u8, Error> {
    start_log(&args.log, LogWriter::stderr())?;
    target::refuse_production(&args.target)?;
    let earlier = args.compare.as_ref().map(read_earlier).transpose()?;
    check_output_path("--output", args.output.as_deref())?;
    let target = find_target(&args.target)?;
    let base_url =
        target.base_url.as_ref().map_or(SIMULATOR, |url| url.as_str().trim_end_matches('/')).to_owned();
    let merchant_id = target.merchant_id.clone();
    let began = now();
    // Unique by time, and by process id if two probes begin in the same second.
    let run = format!("{:08x}", began as u32 ^ std::process::id().rotate_left(16));
    let found = runtime()?.block_on(async {
        let (api, _simulator) = target::open_api(target, &args.target, &args.timeouts, 1).await?;
        let options = probe::Options {
            merchant_id: &merchant_id,
            run: &run,
            is_routed: !args.target.no_routing_id,
            rate: args.rate.0,
        };
        Ok::<_, Error>(probe::run(&api, &options).await)
    })?;
    let findings = match found {
        Ok(findings) => findings,
        Err(stop) => {
            print_error(&format!("{}; {}", stop.text, stop.hint));
            return Ok(code::STOPPED);
        }
    };
    let changes = earlier.map(|earlier| findings.changes(&earlier));
    if let Some(path) = &args.output {
        let changes = changes.as_deref();
        let record = Record {
            version: env!("CARGO_PKG_VERSION"),
            base_url: &base_url,
            asked_at: rfc3339(began),
            findings: &findings,
            changes,
        };
        let record = json(&record)?;
        match file_of(Some(path)) {
            Some(path) => std::fs::write(path, record)
                .map_err(|error| Error::Output { name: path.display().to_string(), error })?,
            None => print_data(&record)?,
        }
    }
    if !args.log.quiet && args.output.as_deref() != Some(Path::new("-")) {
        let since = args.compare.as_deref().zip(changes.as_deref());
        print(&table(&base_url, &findings, since))?;
    }
    let is_as_expected = findings.differing().next().is_none() && changes.as_ref().is_none_or(Vec::is_empty);
    Ok(if is_as_expected { code::OK } else { code::ROWS_LEFT })
}

fn read_earlier(path: &PathBuf) -> Result<EarlierProbe, Error> {
    let hint = "give --compare the file that --output of an earlier probe wrote";
    let name = path.display();
    let bytes =
        std::fs::read(path).map_err(|error| Error::usage(format!("cannot read {name}: {error}"), hint))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::usage(format!("{name} has no answers of a probe ({error})"), hint))
}

fn table(base_url: &str, findings: &Findings, since: Option<(&Path, &[Change])>) -> String {
    let Findings { run, requests, customers, questions } = findings;
    let mut text = format!(
        "Probe {run} of {}: {}, {}\n\n",
        visible_text(base_url),
        counted(u64::from(*requests), "request"),
        counted(*customers as u64, "customer")
    );
    let mut line = |cells: [&str; 4]| {
        let [question, relied, answer, same] = cells;
        let line = format!("  {question:<27} {relied:<20} {answer:<42} {same}");
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(["question", "relied on", "answered", "same?"]);
    for finding in questions {
        let same = match finding.is_as_relied_on {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        let nothing = if finding.is_open { "open" } else { "-" };
        let relied = finding.relied_on.as_deref().unwrap_or(nothing);
        line([finding.question, relied, &visible_text(&finding.answer), same]);
    }
    text.push('\n');
    add_differences(&mut text, findings);
    if let Some((path, changes)) = since {
        add_changes(&mut text, path, changes);
    }
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "The customers stay, under references that begin with probe-{run}-: the API has no call that deletes them."
    );
    text
}

fn add_differences(text: &mut String, findings: &Findings) {
    let relied = findings.questions.iter().filter(|finding| finding.is_as_relied_on.is_some()).count();
    let differing: Vec<&Finding> = findings.differing().collect();
    if differing.is_empty() {
        let _ = writeln!(text, "All {relied} answers that this program relies on are as it needs them.");
        return;
    }
    let count = differing.len();
    let _ =
        writeln!(text, "{count} of {relied} answers that this program relies on are not as it needs them:");
    for Finding { question, asks, answer, relied_on, message, .. } in differing {
        let relied_on = relied_on.as_deref().unwrap_or_default();
        let message =
            message.iter().map(|message| format!(" ({})", visible_text(message))).collect::<String>();
        let _ = writeln!(
            text,
            "  {question}: {asks}: relied on {relied_on}, answered {}{message}",
            visible_text(answer)
        );
    }
}

fn add_changes(text: &mut String, path: &Path, changes: &[Change]) {
    let name = path.display().to_string();
    if changes.is_empty() {
        let _ = writeln!(text, "Nothing has changed since {}.", visible_text(&name));
        return;
    }
    let _ = writeln!(text, "Changed since {}:", visible_text(&name));
    for Change { question, before, now } in changes {
        let word = |answer: &Option<String>| answer.as_deref().map_or("not asked".into(), visible_text);
        let _ = writeln!(text, "  {}: {} before, {} now", visible_text(question), word(before), word(now));
    }
}
