//! Shows the progress of a run: a few lines that are redrawn on a terminal, plain lines elsewhere.
//!
//! Only committed counts are shown. Whatever the rate of the run, the terminal is redrawn a few times per second, and text is
//! formatted only then. No colors, so `NO_COLOR` has nothing to disable.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::tcgetwinsize;

use super::{args::ProgressArg, environment, logging::LogWriter};
use crate::{
    customer::visible_lines,
    report::{grouped, progress_line, progress_lines, time, wrap_parts},
    run::RunSnapshot,
};

/// How often the terminal is redrawn.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// How often a plain line is written at the beginning of a run, and at most how rarely in a long run.
const LINE_FIRST: Duration = Duration::from_secs(5);
const LINE_LAST: Duration = Duration::from_secs(60);

/// The distance between lines grows to this fraction of the elapsed time.
const LINE_SHARE: u32 = 12;

/// Width of a terminal that does not report it.
const WIDTH: u16 = 80;

/// The redrawn lines on a terminal, or plain lines elsewhere.
pub(super) struct ProgressDisplay {
    /// Used for drawing only: all text is in its message.
    bar: ProgressBar,
    lines: bool,
    /// Names the run and its source; still to be shown.
    header: Option<String>,
    began: Instant,
    next: Instant,
}

impl ProgressDisplay {
    /// Shows nothing before the first progress.
    pub(super) fn new(mode: ProgressArg) -> ProgressDisplay {
        // A dumb terminal cannot move the cursor up.
        let is_dumb = environment("TERM").is_some_and(|term| term == "dumb");
        let terminal = io::stderr().is_terminal() && !is_dumb;
        let wanted = match mode {
            ProgressArg::Auto | ProgressArg::Always => true,
            ProgressArg::Never => false,
        };
        let bar = if wanted && terminal {
            // The redraw rate is limited here, not by indicatif.
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(u8::MAX))
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        let now = Instant::now();
        ProgressDisplay { bar, lines: wanted && !terminal, header: None, began: now, next: now + LINE_FIRST }
    }

    /// A log writer that suspends the bar.
    pub(super) fn log_writer(&self) -> LogWriter {
        LogWriter::Stderr(self.bar.clone())
    }

    /// Starts the display. The header is printed above the redrawn lines. Without a terminal it is printed with the first
    /// line, so a short run prints nothing before its end.
    pub(super) fn begin(&mut self, header: String) {
        self.began = Instant::now();
        if self.bar.is_hidden() {
            self.next = self.began + LINE_FIRST;
            self.header = Some(header);
        } else {
            self.next = self.began;
            self.bar.println(visible_lines(&header));
        }
    }

    /// Shows where the run stands, if it is time to.
    pub(super) fn show(&mut self, snapshot: &RunSnapshot) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.draw(now, |width| progress_lines(snapshot, width).join("\n"), || progress_line(snapshot));
    }

    /// Shows the progress of something other than a run, if it is due.
    pub(super) fn show_counts(&mut self, done: u64, total: Option<u64>, more: Vec<String>) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        let words = [self.rate_parts(done, total), more].concat();
        self.draw(now, |width| wrap_parts(&words, width).join("\n"), || words.join(", "));
    }

    fn draw(&mut self, now: Instant, lines: impl FnOnce(usize) -> String, line: impl FnOnce() -> String) {
        if !self.bar.is_hidden() {
            self.next = now + DRAW_EVERY;
            // The last column stays empty: some terminals wrap once it is used.
            let width = usize::from(width().saturating_sub(1)).max(1);
            self.bar.set_message(lines(width));
        } else if self.lines {
            self.next = now + ((now - self.began) / LINE_SHARE).clamp(LINE_FIRST, LINE_LAST);
            let header = self.header.take().map_or_else(String::new, |header| header + "\n");
            // A closed standard error must not stop a run.
            drop(writeln!(io::stderr(), "{}", visible_lines(&format!("{header}{}", line()))));
        }
    }

    /// Removes the redrawn lines.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    /// The number of rows done, the rate, and the time left.
    fn rate_parts(&self, done: u64, total: Option<u64>) -> Vec<String> {
        let per_second = done as f64 / self.began.elapsed().as_secs_f64().max(0.001);
        let rows = match total {
            Some(total) => format!("{} of {} rows", grouped(done), grouped(total)),
            None => format!("{} rows", grouped(done)),
        };
        let left = total.map(|total| total.saturating_sub(done)).filter(|_| per_second >= 1.0);
        let left = left.map(|left| time(Duration::from_secs_f64(left as f64 / per_second)) + " left");
        [rows, format!("{per_second:.0}/s")].into_iter().chain(left).collect()
    }
}

fn width() -> u16 {
    let size = tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
    if size == 0 { WIDTH } else { size }
}
