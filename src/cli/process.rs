//! What a run needs of the system as a process: open files, threads, signals.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};

use crate::{error::Error, run::Signal};

/// Files open besides connections: source, ledger, logs, the runtime's own, callers for
/// metrics, and connections being closed.
const OTHER_FILES: u64 = 64;

/// Each request in flight is an open file. Too few of them would look like an API that refuses connections.
pub(super) fn make_room_for_connections(concurrency: u32) -> Result<(), Error> {
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

/// One thread for all requests, measured beside a load generator in the same run on two cores: a second one makes
/// wake-ups cross cores, which costs more than it brings over plain HTTP (0.59 of the generator's rate instead of
/// 0.69, with a bare load of csv + reqwest + insert), and over TLS where the processor has instructions for the
/// ciphers (this program 0.42 instead of 0.46, with a fifth more of the processor's time).
pub(super) fn runtime() -> Result<Runtime, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Error::Bug(format!("no runtime ({error})")))
}

/// SIGHUP, SIGINT and SIGTERM, as many as come.
pub(super) fn listen_for_signals(tasks: &mut JoinSet<()>) -> Result<mpsc::Receiver<Signal>, Error> {
    let (sender, receiver) = mpsc::channel(4);
    let kinds = [(SignalKind::hangup(), 1), (SignalKind::interrupt(), 2), (SignalKind::terminate(), 15)];
    // Who starts a program with `nohup` wants it to outlive the terminal.
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

/// Whether this process was told to pass over SIGHUP. Only Linux tells without unsafe code; elsewhere it is not.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The first bit is the first signal's.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
