//! Lines at the end of a terminal that are drawn over again and again, with whole lines above them.
//!
//! A terminal that is made narrower breaks the lines that stand there, so that they are more than were drawn. Where the
//! width has changed, what is erased is counted in the new width, and no torn line is left above.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// What stands there, with the cursor behind its last line.
#[derive(Default)]
struct Drawn {
    /// The lines in color.
    lines: Vec<String>,
    /// Their lengths in characters, without color.
    lengths: Vec<usize>,
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

    /// The most characters that a line may have. The last column stays empty: some terminals wrap once it is used.
    pub(super) fn width(&self) -> usize {
        (self.size().columns - 1).max(1)
    }

    /// Draws these lines over those that stand there. `painted` are the same in color.
    pub(super) fn draw(&self, lines: &[String], painted: Vec<String>) {
        let size = self.size();
        let text = self.drawn().replace(lines, painted, size);
        self.write(&text);
    }

    /// Writes whole lines above those that stand there.
    pub(super) fn print_above(&self, text: &str) {
        let size = self.size();
        let mut drawn = self.drawn();
        let erase = drawn.erase(size);
        let again = if drawn.columns == size.columns { drawn.lines.join("\n") } else { String::new() };
        if again.is_empty() {
            *drawn = Drawn::default();
        }
        // The lock is held while it is written: nothing may be drawn in between.
        self.write(&format!("{erase}{text}{again}"));
    }

    /// Removes the lines.
    pub(super) fn clear(&self) {
        let size = self.size();
        let mut drawn = self.drawn();
        let erase = drawn.erase(size);
        *drawn = Drawn::default();
        self.write(&erase);
    }

    /// A closed stream must not stop a run.
    fn write(&self, text: &str) {
        if !text.is_empty() {
            drop(self.stream.write(text));
        }
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

    fn drawn(&self) -> MutexGuard<'_, Drawn> {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drawn {
    /// What draws these lines over the others; nothing where they are the same. What the terminal has no room for is left
    /// away: a line that has left the screen cannot be drawn over.
    fn replace(&mut self, lines: &[String], painted: Vec<String>, size: Size) -> String {
        if self.columns == size.columns && self.lines == painted {
            return String::new();
        }
        let shown = lines.len().min(size.rows.saturating_sub(1).max(1));
        let mut text = if self.columns == size.columns { self.home(size) } else { self.erase(size) };
        self.lines = painted.into_iter().take(shown).collect();
        self.lengths = lines.iter().take(shown).map(|line| line.chars().count()).collect();
        self.columns = size.columns;
        // Erased behind each line and not before it, so that nothing flickers.
        text.push_str(&self.lines.join("\x1b[K\n"));
        text.push_str("\x1b[J");
        text
    }

    /// What brings the cursor to the beginning of the lines.
    fn home(&self, size: Size) -> String {
        let rows = |length: &usize| match size.columns < self.columns {
            true => length.div_ceil(size.columns).max(1),
            false => 1,
        };
        match self.lengths.iter().map(rows).sum::<usize>() {
            0 => String::new(),
            1 => "\r".into(),
            rows => format!("\r\x1b[{}A", rows - 1),
        }
    }

    /// What erases the lines.
    fn erase(&self, size: Size) -> String {
        if self.lines.is_empty() { String::new() } else { self.home(size) + "\x1b[J" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(columns: usize) -> Size {
        Size { columns, rows: 24 }
    }

    fn draw(drawn: &mut Drawn, lines: &[&str], size: Size) -> String {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let painted = lines.iter().map(|line| format!("\x1b[1m{line}\x1b[0m")).collect();
        drawn.replace(&lines, painted, size).replace("\x1b[1m", "").replace("\x1b[0m", "")
    }

    #[test]
    fn lines_are_drawn_over_where_they_stand() {
        let mut drawn = Drawn::default();
        assert_eq!(draw(&mut drawn, &["one", "two"], size(80)), "one\x1b[K\ntwo\x1b[J");
        assert_eq!(draw(&mut drawn, &["one", "two"], size(80)), "", "nothing has changed");
        assert_eq!(draw(&mut drawn, &["three"], size(80)), "\r\x1b[1Athree\x1b[J");
        assert_eq!(draw(&mut drawn, &["four"], size(80)), "\rfour\x1b[J");
    }

    #[test]
    fn a_narrower_terminal_has_more_lines_to_erase() {
        let mut drawn = Drawn::default();
        draw(&mut drawn, &[&"x".repeat(75), &"y".repeat(40), ""], size(80));
        // Three rows, two and one: the cursor is five rows below the first.
        assert!(draw(&mut drawn, &["z"], size(30)).starts_with("\r\x1b[5A\x1b[Jz"));
        assert!(draw(&mut drawn, &["z"], size(200)).starts_with("\r\x1b[Jz"), "wider: nothing is joined");
    }

    #[test]
    fn a_low_terminal_gets_the_first_lines() {
        let mut drawn = Drawn::default();
        let low = Size { columns: 80, rows: 3 };
        assert_eq!(draw(&mut drawn, &["one", "two", "three", "four"], low), "one\x1b[K\ntwo\x1b[J");
    }
}
