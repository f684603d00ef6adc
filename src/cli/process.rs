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

/// The signals that every command ignores, whose default action would end the process without a message. A log rotation may
/// send SIGUSR1 to a run that has no log file. At SIGXFSZ a file has reached the limit of the shell (`ulimit -f`); the write
/// fails then, which the command reports.
const IGNORED: [i32; 2] = [Named::USR1.as_raw(), Named::XFSZ.as_raw()];

/// Raises the limit of open files to what `--concurrency` needs. Each request in flight is an open file, and running out of
/// them would look like an API that refuses connections.
pub(super) fn raise_open_files_limit(concurrency: u32) -> Result<(), Error> {
    let needed = u64::from(concurrency) + OTHER_FILES;
    raise_to(needed).map_err(|most| {
        Error::usage(
            format!("--concurrency {concurrency} needs {needed} open files, and the limit is {most}"),
            "lower it, or raise the limit (ulimit -n)",
        )
    })
}

/// Raises the limit of open files to this number, or returns the highest that is allowed.
fn raise_to(needed: u64) -> Result<(), u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(needed), ..limit });
    raised.map_err(|_| limit.maximum.or(limit.current).unwrap_or(0))
}

/// Prepares the process for any command: enough open files, without which the runtime's signal handling panics, and no
/// signal that ends the process without a message.
fn prepare() -> Result<(), Error> {
    raise_to(OTHER_FILES).map_err(|most| {
        Error::usage(
            format!("every command needs {OTHER_FILES} open files, and the limit is {most}"),
            "raise the limit (ulimit -n)",
        )
    })?;
    let runtime = runtime()?;
    let _inside = runtime.enter();
    for number in IGNORED {
        // What the first stream of a signal installs stays for the process's lifetime.
        drop(signal(SignalKind::from_raw(number)).map_err(|error| no_signals(&error))?);
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

pub(super) fn no_signals(error: &io::Error) -> Error {
    Error::Bug(format!("cannot listen for signals ({error})"))
}

/// Ends the process at SIGHUP, SIGINT or SIGTERM until a run takes over signal handling.
///
/// For the first process of a container, the kernel ignores each signal that the process does not handle, so only
/// SIGKILL would end a command that waits for its input. Every other process is ended by the kernel's default.
#[derive(Clone, Default)]
pub(super) struct SignalGuard {
    is_released: Arc<AtomicBool>,
}

impl SignalGuard {
    /// Prepares the process, and installs the guard if this is the first process of a container.
    pub(super) fn install() -> Result<SignalGuard, Error> {
        prepare()?;
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
            spawned.map_err(|error| no_signals(&error))?;
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
    streams.map_err(|error| no_signals(&error))
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
    guard.is_released.store(true, Ordering::Release);
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
