//! Lines at the end of a terminal that are drawn over again and again, with whole lines above them.
//!
//! indicatif draws them, each filled up to the edge of the terminal. It counts their rows in the width in which it drew them,
//! and a terminal that is made narrower breaks them into more. So lines are erased here, counted in the width of now: no
//! torn line is left above.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::{Winsize, tcgetwinsize};

use super::color::Stream;

/// The size of a terminal that does not report it.
const COLUMNS: u16 = 80;
const ROWS: u16 = 24;

/// The lines on one stream. Clones are the same screen.
#[derive(Clone)]
pub(super) struct Screen {
    stream: Stream,
    drawn: Arc<Mutex<Drawn>>,
}

/// What stands there, with the cursor at the end of its last line.
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

    /// The most characters that a line may have. The last column stays empty: some terminals wrap once it is used.
    pub(super) fn width(&self) -> usize {
        (self.size().columns - 1).max(1)
    }

    /// Draws these lines, each shorter than [`Screen::width`], over those that stand there. What the terminal has no room for is
    /// left away: a line that has left the screen cannot be drawn over.
    pub(super) fn draw(&self, mut lines: Vec<String>) {
        let size = self.size();
        lines.truncate(size.rows.saturating_sub(1).max(1));
        let mut drawn = self.drawn_for(size);
        (drawn.lines, drawn.columns) = (lines.len(), size.columns);
        drawn.bar.set_message(lines.join("\n"));
    }

    /// Writes whole lines above those that stand there. A closed stream must not stop a run.
    pub(super) fn print_above(&self, text: &str) {
        let drawn = self.drawn_for(self.size());
        // The lock is held while it is written: nothing may be drawn in between.
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

    /// What stands there; nothing, if the terminal is of another width now.
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
        // indicatif is not told, or it would erase them again, as it counted them.
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

    /// What erases the lines in a terminal of this width.
    fn erase(&self, columns: usize) -> String {
        let rows = self.lines * self.columns.div_ceil(columns.min(self.columns).max(1));
        let up = if rows > 1 { format!("\x1b[{}A", rows - 1) } else { String::new() };
        format!("\r{up}\x1b[J")
    }
}

/// How often is decided by whoever draws, not by indicatif.
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
