//! The redrawn lines at the end of a terminal, with complete lines printed above them.
//!
//! indicatif draws the lines, each padded to the width of the terminal. It counts rows by the width at which it drew
//! them, but a terminal that has become narrower has broken the lines into more rows. So the lines are erased here,
//! counted by the current width, and no broken line is left behind.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::{Winsize, tcgetwinsize};

use super::color::Stream;

/// The size of a terminal that does not report it.
const COLUMNS: u16 = 80;
const ROWS: u16 = 24;

/// The redrawn lines on one stream. Clones share the screen.
#[derive(Clone)]
pub(super) struct Screen {
    stream: Stream,
    drawn: Arc<Mutex<Drawn>>,
}

/// The lines on the screen; the cursor is at the end of the last one.
struct Drawn {
    /// Used for drawing only: all text is in its message.
    bar: ProgressBar,
    lines: usize,
    /// The width of the terminal when they were drawn.
    columns: usize,
}

/// The size of a terminal.
#[derive(Clone, Copy)]
struct Size {
    columns: usize,
    rows: usize,
}

impl Screen {
    pub(super) fn new(stream: Stream) -> Screen {
        Screen { stream, drawn: Arc::new(Mutex::new(Drawn::nothing(stream))) }
    }

    /// The maximum length of a line, in characters. The last column stays empty, because some terminals wrap once it
    /// is used.
    pub(super) fn width(&self) -> usize {
        (self.size().columns - 1).max(1)
    }

    /// Replaces the drawn lines by these, each shorter than [`Screen::width`]. Lines that do not fit the terminal's
    /// height are omitted: a line that has scrolled off the screen cannot be redrawn.
    pub(super) fn draw(&self, mut lines: Vec<String>) {
        let size = self.size();
        lines.truncate(size.rows.saturating_sub(1).max(1));
        let mut drawn = self.drawn_for(size);
        (drawn.lines, drawn.columns) = (lines.len(), size.columns);
        drawn.bar.set_message(lines.join("\n"));
    }

    /// Prints complete lines above the drawn ones. A closed stream must not stop a run.
    pub(super) fn print_above(&self, text: &str) {
        let drawn = self.drawn_for(self.size());
        // The lock is held while writing, so that nothing is drawn in between.
        if drawn.lines == 0 {
            drop(self.stream.write(text));
        } else {
            drawn.bar.suspend(|| drop(self.stream.write(text)));
        }
    }

    /// Removes the lines.
    pub(super) fn clear(&self) {
        let columns = self.size().columns;
        self.erase(&mut self.drawn(), columns);
    }

    /// The drawn lines; erased first if the terminal's width has changed.
    fn drawn_for(&self, size: Size) -> MutexGuard<'_, Drawn> {
        let mut drawn = self.drawn();
        if drawn.lines > 0 && drawn.columns != size.columns {
            self.erase(&mut drawn, size.columns);
        }
        drawn
    }

    fn erase(&self, drawn: &mut Drawn, columns: usize) {
        if drawn.lines == 0 {
            return;
        }
        drop(self.stream.write(&drawn.erase(columns)));
        // Hidden from indicatif, which would erase the lines again with its own count of rows.
        drawn.bar.set_draw_target(ProgressDrawTarget::hidden());
        *drawn = Drawn::nothing(self.stream);
    }

    fn drawn(&self) -> MutexGuard<'_, Drawn> {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn size(&self) -> Size {
        let size = match self.stream {
            Stream::Stdout => tcgetwinsize(std::io::stdout()),
            Stream::Stderr => tcgetwinsize(std::io::stderr()),
        };
        let Winsize { ws_col, ws_row, .. } =
            size.unwrap_or(Winsize { ws_col: 0, ws_row: 0, ws_xpixel: 0, ws_ypixel: 0 });
        let or = |size: u16, default: u16| usize::from(if size == 0 { default } else { size });
        Size { columns: or(ws_col, COLUMNS), rows: or(ws_row, ROWS) }
    }
}

impl Drawn {
    fn nothing(stream: Stream) -> Drawn {
        Drawn { bar: bar(stream), lines: 0, columns: 0 }
    }

    /// The escape sequence that erases the lines on a terminal of this width.
    fn erase(&self, columns: usize) -> String {
        let rows = self.lines * self.columns.div_ceil(columns.min(self.columns).max(1));
        let up = if rows > 1 { format!("\x1b[{}A", rows - 1) } else { String::new() };
        format!("\r{up}\x1b[J")
    }
}

/// The caller decides how often to draw, not indicatif.
fn bar(stream: Stream) -> ProgressBar {
    let target = match stream {
        Stream::Stdout => ProgressDrawTarget::stdout_with_hz(u8::MAX),
        Stream::Stderr => ProgressDrawTarget::stderr_with_hz(u8::MAX),
    };
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{msg}") {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrower_terminal_has_more_lines_to_erase() {
        let drawn = |lines, columns| Drawn { bar: ProgressBar::hidden(), lines, columns };
        assert_eq!(drawn(2, 120).erase(30), "\r\x1b[7A\x1b[J", "four rows each");
        assert_eq!(drawn(3, 80).erase(79), "\r\x1b[5A\x1b[J");
        assert_eq!(drawn(2, 80).erase(200), "\r\x1b[1A\x1b[J", "wider: nothing is joined");
        assert_eq!(drawn(1, 80).erase(80), "\r\x1b[J");
    }
}
