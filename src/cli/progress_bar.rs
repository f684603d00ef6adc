//! How a run is shown while it goes on: a few lines that change on a terminal, plain lines elsewhere.
//!
//! Only committed counts are shown. Whatever the rate of the run, the terminal is drawn a few times a
//! second, and what is drawn is made only then. No colors: `NO_COLOR` has nothing to switch off.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::tcgetwinsize;

use super::{args::ProgressArg, environment, logging::LogWriter};
use crate::{
    report::{fill, grouped, progress, progress_line, time},
    run::RunSnapshot,
};

/// How often the terminal is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// How often a plain line is written, at first and at last: a run of hours needs no thousands of them.
const LINE_FIRST: Duration = Duration::from_secs(5);
const LINE_LAST: Duration = Duration::from_secs(60);

/// Lines come further apart by this share of the time that the run has taken.
const LINE_SHARE: u32 = 12;

/// What a terminal has that does not say how wide it is.
const WIDTH: u16 = 80;

/// What changes on the terminal, or the lines in its place.
pub(super) struct ProgressDisplay {
    /// indicatif's, for drawing alone: what it shows is its message.
    bar: ProgressBar,
    lines: bool,
    /// Which run this is and how its source is read; not shown yet.
    header: Option<String>,
    began: Instant,
    next: Instant,
}

impl ProgressDisplay {
    /// Shows nothing before the first progress.
    pub(super) fn new(wish: ProgressArg) -> ProgressDisplay {
        // Such a terminal cannot go back a line.
        let is_dumb = environment("TERM").is_some_and(|term| term == "dumb");
        let terminal = io::stderr().is_terminal() && !is_dumb;
        let wanted = match wish {
            ProgressArg::Auto | ProgressArg::Always => true,
            ProgressArg::Never => false,
        };
        let bar = if wanted && terminal {
            // Draws whenever it is told: how often that is, is decided here.
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

    /// Where log lines go so that they do not disturb the bar.
    pub(super) fn log_writer(&self) -> LogWriter {
        LogWriter::Stderr(self.bar.clone())
    }

    /// The run begins. The header stands above what changes, or above the first line: where nobody looks
    /// on, a run that is short says nothing before its end.
    pub(super) fn begin(&mut self, header: String) {
        self.began = Instant::now();
        if self.bar.is_hidden() {
            self.next = self.began + LINE_FIRST;
            self.header = Some(header);
        } else {
            self.next = self.began;
            self.bar.println(header);
        }
    }

    /// Shows where the run stands, if it is time to.
    pub(super) fn show(&mut self, snapshot: &RunSnapshot) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.draw(now, |width| progress(snapshot, width).join("\n"), || progress_line(snapshot));
    }

    /// Shows how far something else has come than a run, and what else there is to say.
    pub(super) fn tell(&mut self, done: u64, total: Option<u64>, more: Vec<String>) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        let words = [self.pace(done, total), more].concat();
        self.draw(now, |width| fill(&words, width).join("\n"), || words.join(", "));
    }

    fn draw(&mut self, now: Instant, lines: impl FnOnce(usize) -> String, line: impl FnOnce() -> String) {
        if !self.bar.is_hidden() {
            self.next = now + DRAW_EVERY;
            // The last column stays free: some terminals go on to the next line once it is used.
            let width = usize::from(width().saturating_sub(1)).max(1);
            self.bar.set_message(lines(width));
        } else if self.lines {
            self.next = now + ((now - self.began) / LINE_SHARE).clamp(LINE_FIRST, LINE_LAST);
            let header = self.header.take().map_or_else(String::new, |header| header + "\n");
            // A closed standard error is no reason to stop a run.
            drop(writeln!(io::stderr(), "{header}{}", line()));
        }
    }

    /// Takes away what changes.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    /// How many are done, how fast, and how long the rest takes.
    fn pace(&self, done: u64, total: Option<u64>) -> Vec<String> {
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
