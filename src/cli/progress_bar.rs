//! Shows the progress of a run: a few lines that are redrawn on a terminal, plain lines elsewhere.
//!
//! Only committed counts are shown. Whatever the rate of the run, the terminal is redrawn a few times per second, and text is
//! formatted only then.

use std::time::{Duration, Instant};

use super::{
    args::ProgressArg,
    color::{Stream, is_dumb, painted, painted_progress},
    logging::LogWriter,
    screen::Screen,
};
use crate::{
    customer::visible_lines,
    report::{grouped, progress_line, progress_lines, rows, time, wrap_parts, wrap_words},
    run::RunSnapshot,
};

/// The interval at which the terminal is redrawn.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// The interval of plain lines at the beginning of a run, and the longest one.
const LINE_FIRST: Duration = Duration::from_secs(5);
const LINE_LAST: Duration = Duration::from_secs(60);

/// The distance between lines grows to this fraction of the elapsed time.
const LINE_SHARE: u32 = 12;

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Lines that are redrawn in place.
    Redrawn,
    /// One line after the other.
    Lines,
    Hidden,
}

/// The redrawn lines on a terminal, or plain lines elsewhere.
pub(super) struct ProgressDisplay {
    stream: Stream,
    screen: Screen,
    mode: Mode,
    /// The run and its source; none once it has been printed.
    header: Option<String>,
    began: Instant,
    next: Instant,
    /// Whether the stream has no reader any more.
    is_closed: bool,
}

impl ProgressDisplay {
    /// A display that shows nothing before the first progress.
    pub(super) fn new(progress: ProgressArg, stream: Stream) -> ProgressDisplay {
        let mode = match progress {
            ProgressArg::Never => Mode::Hidden,
            // A dumb terminal cannot move the cursor up.
            _ if stream.is_terminal() && !is_dumb() => Mode::Redrawn,
            ProgressArg::Auto | ProgressArg::Always => Mode::Lines,
        };
        let now = Instant::now();
        let screen = Screen::new(stream);
        ProgressDisplay {
            stream,
            screen,
            mode,
            header: None,
            began: now,
            next: now + LINE_FIRST,
            is_closed: false,
        }
    }

    /// A log writer whose lines are written above the redrawn ones.
    pub(super) fn log_writer(&self) -> LogWriter {
        LogWriter::Screen(self.screen.clone())
    }

    /// Starts the display. The header is printed above the redrawn lines. Without a terminal it is printed with the first
    /// line, so a short run prints nothing before its end.
    pub(super) fn begin(&mut self, header: String) {
        self.began = Instant::now();
        if self.mode == Mode::Redrawn {
            self.next = self.began;
            self.screen.print_above(&painted(&format!("{}\n", visible_lines(&header)), self.stream));
        } else {
            self.next = self.began + LINE_FIRST;
            self.header = Some(header);
        }
    }

    /// Shows the snapshot, if it is due.
    pub(super) fn show(&mut self, snapshot: &RunSnapshot) {
        self.show_lines(|width| progress_lines(snapshot, width), || progress_line(snapshot));
    }

    /// Shows the progress of something other than a run, if it is due, with the reason for a wait if there is one.
    pub(super) fn show_counts(
        &mut self,
        done: u64,
        total: Option<u64>,
        more: Vec<String>,
        cause: Option<&str>,
    ) {
        if Instant::now() < self.next {
            return;
        }
        let words = [self.rate_parts(done, total), more].concat();
        let lines = |width| {
            let mut lines = wrap_parts(&words, width);
            lines.extend(cause.iter().flat_map(|cause| wrap_words(cause, width)));
            lines
        };
        let line = || words.join(", ") + &cause.map_or_else(String::new, |cause| format!("; {cause}"));
        self.show_lines(lines, line);
    }

    /// Shows lines rendered for a width, or one line where lines are not redrawn, if it is due.
    pub(super) fn show_lines(
        &mut self,
        lines: impl FnOnce(usize) -> Vec<String>,
        line: impl FnOnce() -> String,
    ) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        match self.mode {
            Mode::Redrawn => {
                self.next = now + DRAW_EVERY;
                let width = self.screen.width();
                let shown = |line: String| visible_lines(&line).chars().take(width).collect();
                let lines: Vec<String> = lines(width).into_iter().map(shown).collect();
                self.screen.draw(painted_progress(&lines, self.stream));
            }
            Mode::Lines => {
                self.next = now + ((now - self.began) / LINE_SHARE).clamp(LINE_FIRST, LINE_LAST);
                let header = self.header.take().map_or_else(String::new, |header| header + "\n");
                let text = format!("{header}{}\n", line());
                // A closed stream must not stop a run.
                self.is_closed = self.stream.write(&painted(&visible_lines(&text), self.stream)).is_err();
            }
            Mode::Hidden => {}
        }
    }

    /// Whether the stream has no reader any more.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Removes the redrawn lines.
    pub(super) fn end(&self) {
        self.screen.clear();
    }

    /// The number of rows done, the rate, and the time left.
    fn rate_parts(&self, done: u64, total: Option<u64>) -> Vec<String> {
        let per_second = done as f64 / self.began.elapsed().as_secs_f64().max(0.001);
        let rows = match total {
            Some(total) => format!("{} of {}", grouped(done), rows(total)),
            None => rows(done),
        };
        let left = total.map(|total| total.saturating_sub(done)).filter(|_| per_second >= 1.0);
        let left = left.map(|left| time(Duration::from_secs_f64(left as f64 / per_second)) + " left");
        [rows, format!("{per_second:.0}/s")].into_iter().chain(left).collect()
    }
}
