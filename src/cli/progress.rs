//! How a run is shown while it goes on: a bar on a terminal, plain lines elsewhere.
//!
//! Only committed counts are shown.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{args::ProgressArg, log::LogWriter};
use crate::{
    import::Progress,
    ledger::Outcome,
    report::{grouped, time},
};

/// How often a plain line is written.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How often the bar is drawn, whatever the rate.
const DRAWS_PER_SECOND: u8 = 10;

/// The bar, or the lines in its place.
pub(super) struct Display {
    bar: ProgressBar,
    lines: bool,
    size: Option<u64>,
    /// Which run this is and how its source is read; not shown yet.
    header: Option<String>,
    began: Instant,
    next_line: Instant,
    last: (Instant, u64),
}

impl Display {
    /// Shows nothing before the first progress.
    pub(super) fn new(wish: ProgressArg) -> Display {
        let terminal = io::stderr().is_terminal();
        let bar = match wish {
            ProgressArg::Auto | ProgressArg::Always if terminal => {
                ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND))
            }
            _ => ProgressBar::hidden(),
        };
        let now = Instant::now();
        Display {
            lines: wish != ProgressArg::Never && !terminal,
            bar,
            size: None,
            header: None,
            began: now,
            next_line: now + LINE_EVERY,
            last: (now, 0),
        }
    }

    /// Where log lines go so that they do not disturb the bar.
    pub(super) fn log_writer(&self) -> LogWriter {
        LogWriter::Stderr(self.bar.clone())
    }

    /// The run begins; `size` is that of the source in bytes, where it is known. The header stands above the
    /// bar, or above the first line: where nobody looks on, a run that is short says nothing before its end.
    pub(super) fn begin(&mut self, size: Option<u64>, header: String) {
        self.size = size;
        if self.bar.is_hidden() {
            self.header = Some(header);
        } else {
            self.bar.println(header);
        }
        let template = match size {
            Some(_) => "{bar:24} {percent:>3}%  {msg}",
            None => "{spinner} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
    }

    /// Shows where the run stands.
    pub(super) fn show(&mut self, progress: &Progress) {
        let now = Instant::now();
        let settled = progress.tally.rows() - progress.tally.get(Outcome::Pending);
        let total = self.total(progress);
        if !self.bar.is_hidden() {
            if let Some(total) = total {
                self.bar.set_length(total.max(settled));
            }
            self.bar.set_position(settled);
            self.bar.set_message(self.words(progress, settled, total));
        } else if self.lines && now >= self.next_line {
            let words = self.words(progress, settled, total);
            // A closed standard error is no reason to stop a run.
            if let Some(header) = self.header.take() {
                drop(writeln!(io::stderr(), "{header}"));
            }
            drop(writeln!(io::stderr(), "{words}"));
            self.next_line = now + LINE_EVERY;
            self.last = (now, settled);
        }
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    /// Rows in the whole source, as far as the bytes read tell.
    fn total(&self, progress: &Progress) -> Option<u64> {
        let size = self.size.filter(|_| progress.bytes > 0)?;
        let rows = progress.tally.rows() as f64;
        Some((rows * (size as f64 / progress.bytes as f64)).round().max(rows) as u64)
    }

    fn words(&self, progress: &Progress, settled: u64, total: Option<u64>) -> String {
        let since = if self.lines { self.last } else { (self.began, 0) };
        let per_second = (settled - since.1) as f64 / since.0.elapsed().as_secs_f64().max(0.001);
        let mut words = match total {
            Some(total) => format!("{} of {} rows", grouped(settled), grouped(total)),
            None => format!("{} rows", grouped(settled)),
        };
        words.push_str(&format!(", {per_second:.0}/s"));
        if let Some(left) = total.map(|total| total.saturating_sub(settled)).filter(|_| per_second >= 1.0) {
            words.push_str(&format!(", {} left", time(Duration::from_secs_f64(left as f64 / per_second))));
        }
        let troubled = progress.tally.sum(|outcome| {
            matches!(outcome, Outcome::Duplicate | Outcome::Invalid | Outcome::Rejected | Outcome::Failed)
        });
        if troubled > 0 {
            words.push_str(&format!(", {} not imported", grouped(troubled)));
        }
        if progress.stopping {
            words.push_str(&format!(", ending: {} in flight", progress.open));
        } else if progress.outage {
            words.push_str(", no good answer: waiting for the API");
        } else if progress.doubts {
            words.push_str(&format!(", asking about {} that an earlier run left in doubt", progress.open));
        }
        words
    }
}
