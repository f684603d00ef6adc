//! `status` and `report`: what the ledger tells, as text, JSON or a page.
//!
//! Both read beside a run that goes on and never disturb it.

use std::{fs::File, io::Write, path::Path, time::Duration};

use super::{
    args::{self, ReportFormat, StatusFormat},
    check_outputs, code, json, ledger_path, now, print, runtime,
};
use crate::{
    error::Error,
    ledger::{self, Reader, RunRecord, State, private_file},
    report::{GoesOn, Report, Status, Told, going_on, status_text},
};

/// Lines that a report names of each kind.
const LINES_SHOWN: u32 = 10;

pub(super) fn status(args: &args::Status) -> Result<u8, Error> {
    let path = ledger_path(args.ledger.ledger.as_deref(), false);
    let (target, runs, standing, live) = runtime()?.block_on(async {
        let mut reader = Reader::open(&path).await?;
        let (target, runs) = (reader.target().await?, runs(&mut reader, &path).await?);
        let live = if ledger::is_in_use(&path) { reader.live().await? } else { None };
        Ok::<_, Error>((target, runs, reader.standing().await?, live))
    })?;
    let last = runs.last().filter(|last| last.state == State::Running);
    let live = live.and_then(|(run, at, live)| {
        let last = last.filter(|last| last.run == run)?;
        Some((last, live, Duration::from_millis(u64::try_from(now().saturating_sub(at)).unwrap_or_default())))
    });
    let name = path.display().to_string();
    let text = match args.format {
        StatusFormat::Text => {
            let mut text = status_text(&name, target.as_ref(), &standing, &runs);
            if let Some((run, live, age)) = &live {
                text.push_str(&going_on(run.run, &run.tally, live, *age));
            }
            text
        }
        StatusFormat::Json => {
            let live = live.map(|(run, live, age)| GoesOn::new(run.run, &run.tally, &live, age));
            json(&Status::new(&name, target.as_ref(), &standing, &runs, live))?
        }
    };
    print(&text).map(|()| code::OK)
}

pub(super) fn report(args: &args::Report) -> Result<u8, Error> {
    let path = ledger_path(args.ledger.ledger.as_deref(), false);
    check_outputs(&[("--output", args.output.as_deref())], &[("the ledger", &path)])?;
    let told = runtime()?.block_on(told(&path, args.run))?;
    let report = Report::new(&told, now());
    let text = match args.format {
        ReportFormat::Text => report.text(),
        ReportFormat::Json => json(&report)?,
        ReportFormat::Html => report.page()?,
    };
    let Some(output) = &args.output else { return print(&text).map(|()| code::OK) };
    let written = new_output(output)?.write_all(text.as_bytes());
    written.map_err(|error| Error::Output { name: output.display().to_string(), error })?;
    Ok(code::OK)
}

/// What the ledger tells of this run, or else of the latest.
async fn told(path: &Path, asked: Option<i64>) -> Result<Told, Error> {
    let mut reader = Reader::open(path).await?;
    let runs = runs(&mut reader, path).await?;
    let run = match asked {
        None => runs.last(),
        Some(asked) => runs.iter().find(|run| run.run == asked),
    };
    let Some(run) = run.cloned() else {
        return Err(match asked {
            Some(asked) => {
                Error::usage(format!("there is no run {asked} in the ledger"), "see status for the runs")
            }
            None => Error::usage("there is no run in the ledger yet", "begin one with import"),
        });
    };
    Ok(Told {
        target: reader.target().await?,
        settings: reader.settings(run.run).await?,
        samples: reader.samples(run.run).await?,
        groups: reader.groups(run.run).await?,
        dropped: reader.dropped(run.run).await?,
        differences: reader.differences(run.run).await?,
        existing: reader.existing(run.run).await?,
        respelled: reader.respelled(run.run, LINES_SHOWN).await?,
        run,
    })
}

/// Every run. One that says that it is running while nobody holds the ledger has died.
async fn runs(reader: &mut Reader, path: &Path) -> Result<Vec<RunRecord>, Error> {
    let mut runs = reader.runs().await?;
    let running = if ledger::is_in_use(path) { runs.len().saturating_sub(1) } else { runs.len() };
    for run in runs.iter_mut().take(running).filter(|run| run.state == State::Running) {
        run.state = State::Died;
    }
    Ok(runs)
}

/// An empty file that only its owner can read, whatever was there before.
pub(super) fn new_output(path: &Path) -> Result<File, Error> {
    let file = private_file(path).and_then(|file| {
        if file.metadata()?.is_file() {
            file.set_len(0)?;
        }
        Ok(file)
    });
    file.map_err(|error| Error::Output { name: path.display().to_string(), error })
}
