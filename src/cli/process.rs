//! The process: its limit of open files, its runtime and its signals.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use rustix::process::{Resource, Rlimit, Signal as Named, getrlimit, setrlimit};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal as SignalStream, SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};

use super::exit_code::code;
use crate::{error::Error, run::Signal};

/// Open files besides connections: source, ledger, logs, the runtime's own, metrics connections, and connections being
/// closed.
const OTHER_FILES: u64 = 64;

/// The signals that a run ignores, whose default action would end the process. A log rotation may send SIGUSR1 to a run that
/// has no log file. At SIGXFSZ a file has reached the limit of the shell (`ulimit -f`); the write fails then, which the
/// run reports.
const IGNORED: [i32; 2] = [Named::USR1.as_raw(), Named::XFSZ.as_raw()];

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

/// A runtime with one thread for all requests. Measured beside a load generator in the same run on two cores: a
/// second thread makes wake-ups cross cores, which costs more than it gains. Over plain HTTP it reaches 0.59 of the
/// generator's rate instead of 0.69 (a bare load of csv + reqwest + insert), and over TLS with cipher instructions
/// 0.42 instead of 0.46 (this program, with a fifth more CPU time).
pub(super) fn runtime() -> Result<Runtime, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Error::Bug(format!("no runtime ({error})")))
}

/// Ends the process at a signal until a run takes over signal handling.
///
/// For the first process of a container, the kernel ignores each signal that the process does not handle, so only
/// SIGKILL would end a command that waits for its input. Every other process is ended by the kernel's default.
#[derive(Clone, Default)]
pub(super) struct SignalGuard {
    is_released: Arc<AtomicBool>,
}

impl SignalGuard {
    /// Installs the guard if this is the first process of a container.
    pub(super) fn install() -> Result<SignalGuard, Error> {
        let guard = SignalGuard::default();
        if std::process::id() == 1 {
            let (runtime, is_released) = (runtime()?, Arc::clone(&guard.is_released));
            let mut streams = {
                let _inside = runtime.enter();
                streams()?
            };
            let watch = async move {
                loop {
                    let signal = next(&mut streams).await;
                    if !is_released.load(Ordering::Acquire) {
                        end(signal);
                    }
                }
            };
            let thread = std::thread::Builder::new().name("signals".into());
            let spawned = thread.spawn(move || runtime.block_on(watch));
            spawned.map_err(|error| Error::Bug(format!("cannot listen for signals ({error})")))?;
        }
        Ok(guard)
    }
}

/// Ends the process as the signal would.
#[expect(clippy::exit, reason = "the command may wait for ever, and has begun nothing that it could lose")]
fn end(signal: Signal) -> ! {
    std::process::exit(i32::from(code::SIGNAL + signal))
}

/// The streams of SIGHUP, SIGINT and SIGTERM, each with the signal's number.
fn streams() -> Result<Vec<(SignalStream, Signal)>, Error> {
    let kinds = [(SignalKind::hangup(), 1), (SignalKind::interrupt(), 2), (SignalKind::terminate(), 15)];
    // A program started with `nohup` must survive the end of its terminal.
    let is_wanted = |(_, number): &(SignalKind, Signal)| *number != 1 || !is_hangup_ignored();
    let streams = kinds.into_iter().filter(is_wanted).map(|(kind, number)| Ok((signal(kind)?, number)));
    let streams: io::Result<Vec<_>> = streams.collect();
    streams.map_err(|error| Error::Bug(format!("cannot listen for signals ({error})")))
}

/// The next signal from any of these streams.
async fn next(streams: &mut [(SignalStream, Signal)]) -> Signal {
    std::future::poll_fn(|context| {
        let mut ready = streams
            .iter_mut()
            .filter_map(|(stream, number)| stream.poll_recv(context).is_ready().then_some(*number));
        ready.next().map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// A channel that receives every SIGHUP, SIGINT and SIGTERM from now on.
pub(super) fn listen_for_signals(
    tasks: &mut JoinSet<()>,
    guard: &SignalGuard,
) -> Result<mpsc::Receiver<Signal>, Error> {
    let (sender, receiver) = mpsc::channel(4);
    let mut streams = streams()?;
    let ignored: io::Result<Vec<_>> =
        IGNORED.into_iter().map(|number| signal(SignalKind::from_raw(number))).collect();
    let ignored = ignored.map_err(|error| Error::Bug(format!("cannot listen for signals ({error})")))?;
    guard.is_released.store(true, Ordering::Release);
    for mut stream in ignored {
        tasks.spawn(async move { while stream.recv().await.is_some() {} });
    }
    tasks.spawn(async move { while sender.send(next(&mut streams).await).await.is_ok() {} });
    Ok(receiver)
}

/// Whether this process ignores SIGHUP. Only Linux exposes this without unsafe code; elsewhere this returns false.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The lowest bit is that of signal 1.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
