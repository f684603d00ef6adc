//! `status`: the target, the rows by outcome and every run, as text or JSON; with `--watch`, the current run until it
//! ends.
//!
//! Reads the ledger beside a running import and never blocks it: each poll opens a connection and closes it at once,
//! so that it does not delay the end of the run.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{
    args::{self, ProgressArg, TextOrJson},
    code,
    color::Stream,
    json, ledger_location, listen_for_signals, now, print, print_data,
    process::SignalGuard,
    progress_bar::ProgressDisplay,
    runtime,
};
use crate::{
    error::Error,
    ledger::{Location, Reader},
    report::{LiveRun, Status, old_transaction_text, status_text, visible_text, workers_text},
    run::Signal,
};

/// The interval at which the ledger is polled; a run writes its heartbeat about once a second.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

pub(super) fn status(args: &args::Status, guard: &SignalGuard) -> Result<u8, Error> {
    let ledger = ledger_location(args.ledger.ledger.as_deref(), false)?;
    if args.watch {
        if matches!(args.format, TextOrJson::Json) {
            return Err(Error::usage(
                "--watch shows text, and --format json is one object",
                "leave out one of the two; a script can call status --format json as often as it likes",
            ));
        }
        match runtime()?.block_on(watch(&ledger, guard))? {
            Watched::RunEnded => {}
            Watched::NobodyReads => return Ok(code::OK),
            Watched::Signal(signal) => return Ok(code::SIGNAL + signal),
        }
    }
    show(&ledger, args.format).map(|()| code::OK)
}

fn show(ledger: &Location, format: TextOrJson) -> Result<(), Error> {
    let overview = runtime()?.block_on(async { Reader::open(ledger).await?.overview().await })?;
    let live = overview.live().map(|(run, last)| LiveRun::new(run, last, now()));
    let name = ledger.to_string();
    match format {
        TextOrJson::Text => {
            let mut text = status_text(&name, &overview);
            text.extend(live.iter().map(LiveRun::text));
            text.push_str(&workers_text(&overview.workers));
            text.push_str(&old_transaction_text(overview.old_transaction.as_ref()));
            print(&text)
        }
        TextOrJson::Json => {
            print_data(&json(&Status::new(&name, &overview, live.as_ref().map(LiveRun::status)))?)
        }
    }
}

/// Why watching ended.
enum Watched {
    /// The run ended, or there was none.
    RunEnded,
    NobodyReads,
    Signal(Signal),
}

/// Shows the current run until it ends.
async fn watch(ledger: &Location, guard: &SignalGuard) -> Result<Watched, Error> {
    let mut tasks = JoinSet::new();
    let mut signals = listen_for_signals(&mut tasks, guard)?;
    let mut display = ProgressDisplay::new(ProgressArg::Auto, Stream::Stdout);
    let mut ticks = interval(POLL_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watched = None;
    loop {
        tokio::select! {
            biased;
            Some(signal) = signals.recv() => {
                display.end();
                return Ok(Watched::Signal(signal));
            }
            _ = ticks.tick() => {}
        }
        let live = Reader::open(ledger).await?.live().await?;
        // The next run of a schedule is a different run.
        let live = live.filter(|(run, _)| watched.is_none_or(|watched| watched == run.run));
        let Some((run, newest)) = live else {
            display.end();
            return Ok(Watched::RunEnded);
        };
        if watched.replace(run.run).is_none() {
            let source = visible_text(&run.source);
            display.begin(format!(
                "Run {}: {source} (ledger {ledger}); Ctrl-C ends the watching, not the run",
                run.run
            ));
        }
        if let Some(newest) = newest {
            let live = LiveRun::new(&run, &newest, now());
            display.show_lines(|width| live.watched_lines(width), || live.watched_line());
        }
        if display.is_closed() {
            return Ok(Watched::NobodyReads);
        }
    }
}
