//! `status`: the target, the rows by outcome and every run, as text or JSON.
//!
//! Reads the ledger beside a running import and never blocks it.

use std::time::Duration;

use super::{
    args::{self, StatusFormat},
    code, json, ledger_path, now, print, print_data, runtime,
};
use crate::{
    error::Error,
    ledger::{LedgerOverview, Reader, RunState},
    report::{LiveStatus, Status, live_status_text, status_text},
    run::RunSnapshot,
};

pub(super) fn status(args: &args::Status) -> Result<u8, Error> {
    let path = ledger_path(args.ledger.ledger.as_deref(), false)?;
    let LedgerOverview { target, runs, outcomes, heartbeat } =
        runtime()?.block_on(async { Reader::open(&path).await?.overview().await })?;
    let last = runs.last().filter(|last| last.state == RunState::Running);
    let live = heartbeat.and_then(|(run, at, heartbeat)| {
        let last = last.filter(|last| last.run == run)?;
        let snapshot = RunSnapshot { tally: last.tally, request_counts: last.request_counts, heartbeat };
        Some((
            last.run,
            snapshot,
            Duration::from_millis(u64::try_from(now().saturating_sub(at)).unwrap_or_default()),
        ))
    });
    let name = path.display().to_string();
    match args.format {
        StatusFormat::Text => {
            let mut text = status_text(&name, target.as_ref(), &outcomes, &runs);
            if let Some((run, snapshot, age)) = &live {
                text.push_str(&live_status_text(*run, snapshot, *age));
            }
            print(&text)?;
        }
        StatusFormat::Json => {
            let live = live.map(|(run, snapshot, age)| LiveStatus::new(run, &snapshot, age));
            print_data(&json(&Status::new(&name, target.as_ref(), &outcomes, &runs, live))?)?;
        }
    }
    Ok(code::OK)
}
