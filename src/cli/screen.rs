//! The redrawn lines at the end of a terminal, with complete lines printed above them.
//!
//! Each line ends with a line break and is not padded. A terminal that is resized joins and breaks what it wrapped
//! itself, so padded lines would flow into one another. After a resize the lines are erased before they are drawn again,
//! counted as the terminal shows them at its current width: no broken line is left behind, and no line above is lost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
#[derive(Default)]
struct Drawn {
    lines: Vec<String>,
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
        Screen { stream, drawn: Arc::default() }
    }

    /// The maximum length of a line, in characters. The last column stays empty, because some terminals wrap once it
    /// is used.
    pub(super) fn width(&self) -> usize {
        (self.size().columns - 1).max(1)
    }

    /// Replaces the drawn lines by these, each at most [`Screen::width`] long. Lines that do not fit the terminal's
    /// height are omitted: a line that has scrolled off the screen cannot be redrawn.
    pub(super) fn draw(&self, mut lines: Vec<String>) {
        let Size { columns, rows } = self.size();
        lines.truncate(rows.saturating_sub(1).max(1));
        let mut drawn = self.drawn();
        // At the same width the old lines are drawn over, which does not flicker.
        let start = if drawn.columns == columns { drawn.to_start(columns) } else { drawn.erase(columns) };
        *drawn = Drawn { lines, columns };
        // A closed stream must not stop a run.
        drop(self.stream.write(&format!("{start}{}", drawn.text())));
    }

    /// Prints complete lines above the drawn ones.
    pub(super) fn print_above(&self, text: &str) {
        // The lock is held while writing, so that nothing is drawn in between.
        let drawn = self.drawn();
        drop(self.stream.write(&format!("{}{text}{}", drawn.erase(self.size().columns), drawn.text())));
    }

    /// Removes the lines.
    pub(super) fn clear(&self) {
        let mut drawn = self.drawn();
        drop(self.stream.write(&drawn.erase(self.size().columns)));
        *drawn = Drawn::default();
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
    /// The lines, each without what was to its right before, and nothing below the last one.
    fn text(&self) -> String {
        if self.lines.is_empty() { String::new() } else { self.lines.join("\x1b[K\n") + "\x1b[J" }
    }

    /// The escape sequence that moves the cursor to the beginning of the first line, on a terminal of this width.
    fn to_start(&self, columns: usize) -> String {
        // A terminal that has become narrower breaks a line into several rows.
        let rows: usize = self.lines.iter().map(|line| width(line).div_ceil(columns).max(1)).sum();
        match rows {
            0 => String::new(),
            1 => "\r".into(),
            _ => format!("\r\x1b[{}A", rows - 1),
        }
    }

    /// The escape sequence that erases the lines.
    fn erase(&self, columns: usize) -> String {
        let start = self.to_start(columns);
        if start.is_empty() { start } else { start + "\x1b[J" }
    }
}

/// The characters of a line that a terminal shows, without escape sequences.
fn width(line: &str) -> usize {
    let mut parts = line.split("\x1b[");
    let shown = parts.next().unwrap_or_default().chars().count();
    // A sequence ends with its first letter.
    let after = |part: &str| part.chars().skip_while(|c| !c.is_ascii_alphabetic()).skip(1).count();
    shown + parts.map(after).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_to_erase_are_those_that_a_terminal_of_this_width_shows() {
        let erase = |lengths: &[usize], columns| {
            let lines = lengths.iter().map(|length| "x".repeat(*length)).collect();
            Drawn { lines, columns: 120 }.erase(columns)
        };
        assert_eq!(erase(&[70, 100], 30), "\r\x1b[6A\x1b[J", "three rows and four");
        assert_eq!(erase(&[70, 100], 120), "\r\x1b[1A\x1b[J");
        assert_eq!(erase(&[70, 100], 200), "\r\x1b[1A\x1b[J", "wider: nothing is joined");
        assert_eq!(erase(&[0, 30, 31], 30), "\r\x1b[3A\x1b[J", "a line takes a row even if it is empty");
        assert_eq!(erase(&[5], 80), "\r\x1b[J");
        assert_eq!(erase(&[], 80), "");
    }

    #[test]
    fn colors_take_no_room() {
        assert_eq!(width("\x1b[1m[==>] 5%\x1b[0m"), 8);
        assert_eq!(width("\x1b[32mcreated 1\x1b[39m, \x1b[33minvalid 1\x1b[0m; 1"), 23);
        assert_eq!([width(""), width("é←")], [0, 2]);
    }
}
