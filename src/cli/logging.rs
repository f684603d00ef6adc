//! Sets up the log: its level, format and destination.
//!
//! The progress and the log share standard error, so log lines go through [`LogWriter`], which writes them above the
//! redrawn progress lines. Only events of this program are logged, whatever `RUST_LOG` says, because other crates log
//! URLs and headers at their finest levels.

use std::{
    fmt,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::signal::unix::{SignalKind, signal};
use tracing::warn;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{Directive, LevelFilter, filter_fn},
    fmt::{MakeWriter, format::Writer, time::FormatTime},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use super::{
    args::{self, LogFormat},
    color::Stream,
    environment,
    process::{no_signals, runtime},
    screen::Screen,
};
use crate::{clock, customer::visible_lines, error::Error};

/// Starts logging. Fails if the log file cannot be written.
pub(super) fn start_log(args: &args::Log, stderr: LogWriter) -> Result<(), Error> {
    let writer = match &args.log_file {
        None => stderr,
        Some(path) => {
            let file = open(path).map_err(|error| {
                let text = format!("cannot write the log {}: {error}", path.display());
                Error::usage(text, "give --log-file a file in a folder that exists and can be written")
            })?;
            let file = Arc::new(Mutex::new(file));
            reopen_on_signal(path.clone(), Arc::clone(&file))?;
            LogWriter::File(file)
        }
    };
    let level = match (args.quiet, args.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "info",
        (_, 2) => "debug",
        (_, _) => "trace",
    };
    let wanted = environment("RUST_LOG").unwrap_or_default();
    let parts = wanted.split(',').filter(|part| !part.is_empty());
    let (known, unknown): (Vec<_>, Vec<_>) = parts.partition(|part| is_known(part));
    let known = if known.is_empty() { level.into() } else { known.join(",") };
    let ours = filter_fn(|metadata| metadata.target().starts_with(env!("CARGO_CRATE_NAME")));
    let filter = EnvFilter::builder().parse_lossy(known);
    let is_watched = args.log_file.is_none() && Stream::Stderr.is_terminal();
    let format = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false).with_target(false);
    let layer = match args.log_format {
        LogFormat::Text if is_watched => format.with_timer(TimeOfDay).boxed(),
        LogFormat::Text => format.boxed(),
        LogFormat::Json => format.json().flatten_event(true).boxed(),
    };
    // Fails only if a subscriber exists already, which happens in tests.
    // Not as filters of the layer: an event of ours would be lost if a library had just asked, on the same thread, whether
    // one of its own is logged.
    drop(tracing_subscriber::registry().with(layer).with(filter).with(ours).try_init());
    for part in unknown {
        warn!(part, "RUST_LOG names no level, such as debug; ignored");
    }
    Ok(())
}

/// The time in front of a line on a terminal, whose reader knows the day and has little room: `14:42:14Z`.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, line: &mut Writer<'_>) -> fmt::Result {
        let time = humantime::format_rfc3339_seconds(clock::now()).to_string();
        // Behind the day and the T.
        line.write_str(time.get(11..).unwrap_or(&time))
    }
}

/// Whether this directive of `RUST_LOG` is valid. A single word that is not a level would be parsed as the name of a
/// crate, and a typing error such as `debgu` would silence the whole log, including errors.
fn is_known(part: &str) -> bool {
    let names_a_target = part.contains(['=', '[']) || part.starts_with(env!("CARGO_CRATE_NAME"));
    part.parse::<Directive>().is_ok() && (names_a_target || part.parse::<LevelFilter>().is_ok())
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// Reopens the file at each SIGUSR1, as log rotation requires. Runs on its own thread, because a command may wait for
/// its source or its user long before it has a runtime. If the file cannot be opened, the old one stays in use.
fn reopen_on_signal(path: PathBuf, file: Arc<Mutex<File>>) -> Result<(), Error> {
    let runtime = runtime()?;
    let mut signals = {
        let _inside = runtime.enter();
        signal(SignalKind::user_defined1()).map_err(|error| no_signals(&error))?
    };
    let reopen = async move {
        while signals.recv().await.is_some() {
            match open(&path) {
                Ok(new) => *file.lock().unwrap_or_else(PoisonError::into_inner) = new,
                Err(error) => warn!(%error, "the log file cannot be opened again; the old one is written on"),
            }
        }
    };
    let thread = std::thread::Builder::new().name("log".into());
    thread.spawn(move || runtime.block_on(reopen)).map(drop).map_err(|error| no_signals(&error))
}

/// The destination of log lines.
#[derive(Clone)]
pub(super) enum LogWriter {
    /// Standard error, above the progress.
    Screen(Screen),
    /// `--log-file`.
    File(Arc<Mutex<File>>),
}

impl LogWriter {
    /// Standard error, for a command without progress.
    pub(super) fn stderr() -> LogWriter {
        LogWriter::Screen(Screen::new(Stream::Stderr))
    }
}

impl Write for LogWriter {
    /// Writes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let shown = visible_lines(&text);
        match self {
            LogWriter::Screen(screen) => screen.print_above(&shown),
            LogWriter::File(file) => {
                file.lock().unwrap_or_else(PoisonError::into_inner).write_all(shown.as_bytes())?;
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LogWriter;

    fn make_writer(&'a self) -> LogWriter {
        self.clone()
    }
}
