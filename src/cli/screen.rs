//! The redrawn lines at the end of a terminal, with complete lines printed above them.
//!
//! indicatif draws the lines, and would pad each to the width of the terminal, which wraps it into the next one. A
//! terminal that is resized joins and breaks what it wrapped itself, so padded lines would flow into one another. So
//! indicatif draws to a [`Terminal`], which ends each line with a line break instead. After a resize the lines are
//! erased here before they are drawn again, counted as the terminal shows them at its current width: no broken line is
//! left behind, and no line above is lost.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
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
        Screen { stream, drawn: Arc::new(Mutex::new(Drawn::nothing(stream))) }
    }

    /// The maximum length of a line, in characters. The last column stays empty, because some terminals wrap once it
    /// is used.
    pub(super) fn width(&self) -> usize {
        (self.size().columns - 1).max(1)
    }

    /// Replaces the drawn lines by these, each at most [`Screen::width`] long. Lines that do not fit the terminal's
    /// height are omitted: a line that has scrolled off the screen cannot be redrawn.
    pub(super) fn draw(&self, mut lines: Vec<String>) {
        let size = self.size();
        lines.truncate(size.rows.saturating_sub(1).max(1));
        let mut drawn = self.drawn_for(size);
        let text = lines.join("\n");
        (drawn.lines, drawn.columns) = (lines, size.columns);
        drawn.bar.set_message(text);
    }

    /// Prints complete lines above the drawn ones. A closed stream must not stop a run.
    pub(super) fn print_above(&self, text: &str) {
        let drawn = self.drawn_for(self.size());
        // The lock is held while writing, so that nothing is drawn in between.
        if drawn.lines.is_empty() {
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
        if !drawn.lines.is_empty() && drawn.columns != size.columns {
            self.erase(&mut drawn, size.columns);
        }
        drawn
    }

    fn erase(&self, drawn: &mut Drawn, columns: usize) {
        if drawn.lines.is_empty() {
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
        Size::of(self.stream)
    }
}

impl Size {
    fn of(stream: Stream) -> Size {
        let size = match stream {
            Stream::Stdout => tcgetwinsize(io::stdout()),
            Stream::Stderr => tcgetwinsize(io::stderr()),
        };
        let Winsize { ws_col, ws_row, .. } =
            size.unwrap_or(Winsize { ws_col: 0, ws_row: 0, ws_xpixel: 0, ws_ypixel: 0 });
        let or = |size: u16, default: u16| usize::from(if size == 0 { default } else { size });
        Size { columns: or(ws_col, COLUMNS), rows: or(ws_row, ROWS) }
    }
}

impl Drawn {
    fn nothing(stream: Stream) -> Drawn {
        Drawn { bar: bar(stream), lines: Vec::new(), columns: 0 }
    }

    /// The escape sequence that erases the lines on a terminal of this width.
    fn erase(&self, columns: usize) -> String {
        // A terminal that has become narrower breaks a line into several rows.
        let rows: usize = self.lines.iter().map(|line| width(line).div_ceil(columns.max(1)).max(1)).sum();
        let up = if rows > 1 { format!("\x1b[{}A", rows - 1) } else { String::new() };
        format!("\r{up}\x1b[J")
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

/// The caller decides how often to draw, not indicatif.
fn bar(stream: Stream) -> ProgressBar {
    let terminal = Terminal { stream, text: Mutex::default() };
    let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal), u8::MAX);
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{msg}") {
        bar.set_style(style);
    }
    bar
}

/// The terminal that indicatif draws to. Writes what it is given in one piece.
#[derive(Debug)]
struct Terminal {
    stream: Stream,
    text: Mutex<Text>,
}

/// What is not written yet.
#[derive(Debug, Default)]
struct Text {
    text: String,
    position: Position,
}

/// What indicatif writes next: each line, and after it the blanks that fill its row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Position {
    #[default]
    FirstLine,
    Filler,
    NextLine,
}

impl Text {
    fn add(&mut self, text: &str) {
        self.position = match self.position {
            Position::Filler => {
                self.text.push_str("\x1b[K");
                Position::NextLine
            }
            position => {
                if position == Position::NextLine {
                    self.text.push('\n');
                }
                self.text.push_str(text);
                Position::Filler
            }
        };
    }

    fn escape(&mut self, sequence: &str) {
        self.position = Position::FirstLine;
        self.text.push_str(sequence);
    }
}

impl Terminal {
    fn text(&self) -> MutexGuard<'_, Text> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn move_cursor(&self, count: usize, direction: char) -> io::Result<()> {
        if count > 0 {
            self.text().escape(&format!("\x1b[{count}{direction}"));
        }
        Ok(())
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        u16::try_from(Size::of(self.stream).columns).unwrap_or(u16::MAX)
    }

    fn height(&self) -> u16 {
        u16::try_from(Size::of(self.stream).rows).unwrap_or(u16::MAX)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'D')
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        self.text().escape(&format!("{s}\n"));
        Ok(())
    }

    fn write_str(&self, s: &str) -> io::Result<()> {
        if s == "\r" {
            self.text().escape(s)
        } else {
            self.text().add(s)
        }
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.text().escape("\r\x1b[2K");
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let Text { text, .. } = std::mem::take(&mut *self.text());
        // A closed stream must not stop a run.
        drop(self.stream.write(&text));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_to_erase_are_those_that_a_terminal_of_this_width_shows() {
        let erase = |lengths: &[usize], columns| {
            let lines = lengths.iter().map(|length| "x".repeat(*length)).collect();
            Drawn { bar: ProgressBar::hidden(), lines, columns: 120 }.erase(columns)
        };
        assert_eq!(erase(&[70, 100], 30), "\r\x1b[6A\x1b[J", "three rows and four");
        assert_eq!(erase(&[70, 100], 120), "\r\x1b[1A\x1b[J");
        assert_eq!(erase(&[70, 100], 200), "\r\x1b[1A\x1b[J", "wider: nothing is joined");
        assert_eq!(erase(&[0, 30, 31], 30), "\r\x1b[3A\x1b[J", "a line takes a row even if it is empty");
        assert_eq!(erase(&[5], 80), "\r\x1b[J");
    }

    #[test]
    fn colors_take_no_room() {
        assert_eq!(width("\x1b[1m[==>] 5%\x1b[0m"), 8);
        assert_eq!(width("\x1b[32mcreated 1\x1b[39m, \x1b[33minvalid 1\x1b[0m; 1"), 23);
        assert_eq!([width(""), width("é←")], [0, 2]);
    }

    #[test]
    fn lines_end_with_a_line_break_and_are_not_padded() {
        let mut text = Text::default();
        for part in ["a", "   ", "", "    ", "four", ""] {
            text.add(part);
        }
        assert_eq!(text.text, "a\x1b[K\n\x1b[K\nfour\x1b[K");
    }
}
