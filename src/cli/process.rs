//! The process: its limit of open files, its runtime and its signals.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};

use crate::{error::Error, run::Signal};

/// Open files besides connections: source, ledger, logs, the runtime's own, metrics connections, and connections being
/// closed.
const OTHER_FILES: u64 = 64;

/// Raises the limit of open files to what `--concurrency` needs. Each request in flight is an open file, and running out of
/// them would look like an API that refuses connections.
pub(super) fn raise_open_files_limit(concurrency: u32) -> Result<(), Error> {
    let needed = u64::from(concurrency) + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if setrlimit(Resource::Nofile, Rlimit { current: Some(needed), ..limit }).is_err() {
        let most = limit.maximum.or(limit.current).unwrap_or(0);
        return Err(Error::usage(
            format!("--concurrency {concurrency} needs {needed} open files, and the limit is {most}"),
            "lower it, or raise the limit (ulimit -n)",
        ));
    }
    Ok(())
}

/// A runtime with one thread for all requests. Measured beside a load generator in the same run on two cores, a second
/// thread makes wake-ups cross cores, which costs more than it gains: over plain HTTP 0.59 of the generator's rate instead
/// of 0.69 (a bare load of csv + reqwest + insert), and over TLS with cipher instructions 0.42 instead of 0.46 (this
/// program, with a fifth more CPU time).
pub(super) fn runtime() -> Result<Runtime, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Error::Bug(format!("no runtime ({error})")))
}

/// A channel that receives every SIGHUP, SIGINT and SIGTERM.
pub(super) fn listen_for_signals(tasks: &mut JoinSet<()>) -> Result<mpsc::Receiver<Signal>, Error> {
    let (sender, receiver) = mpsc::channel(4);
    let kinds = [(SignalKind::hangup(), 1), (SignalKind::interrupt(), 2), (SignalKind::terminate(), 15)];
    // A program started with `nohup` must survive the end of its terminal.
    let is_wanted = |(_, number): &(SignalKind, Signal)| *number != 1 || !is_hangup_ignored();
    for (kind, number) in kinds.into_iter().filter(is_wanted) {
        let mut stream =
            signal(kind).map_err(|error| Error::Bug(format!("cannot listen for signals ({error})")))?;
        let sender = sender.clone();
        tasks.spawn(
            async move { while stream.recv().await.is_some() && sender.send(number).await.is_ok() {} },
        );
    }
    Ok(receiver)
}

/// Whether this process ignores SIGHUP. Only Linux tells without unsafe code; elsewhere this returns false.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The lowest bit is that of signal 1.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
