//! A terminal of a chosen width, for output that only a terminal gets.

use std::{
    fs::File,
    io::{Read, Write},
    process::{Child, Command},
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

pub(crate) struct Terminal {
    /// Our side: what is drawn can be read here, and what is typed is written here.
    ours: File,
}

impl Terminal {
    pub(crate) fn new(columns: u16) -> Terminal {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let terminal = Terminal { ours: ours.into() };
        terminal.resize(columns);
        terminal
    }

    /// Resizes the terminal, as a user does by dragging the window's edge.
    pub(crate) fn resize(&self, columns: u16) {
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.ours, size).unwrap();
    }

    /// Starts a command whose three streams are this terminal.
    pub(crate) fn start(&self, mut command: Command) -> Child {
        let name = ptsname(&self.ours, Vec::new()).unwrap();
        let theirs = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        command.stdin(theirs.try_clone().unwrap());
        command.stdout(theirs.try_clone().unwrap());
        command.stderr(theirs);
        // Dropping the command closes its copies of the other side: a terminal that no process holds has an end.
        if !command.get_envs().any(|(name, _)| name == "TERM") {
            command.env("TERM", "xterm");
        }
        command.spawn().unwrap()
    }

    /// Reads until this is shown, or until the terminal's end; returns what was shown so far.
    pub(crate) fn read_until(&mut self, wanted: &str) -> String {
        let (mut text, mut some) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = self.ours.read(&mut some) {
            text.extend_from_slice(&some[..count]);
            if !wanted.is_empty() && String::from_utf8_lossy(&text).contains(wanted) {
                break;
            }
        }
        String::from_utf8(text).unwrap()
    }

    /// Runs a command to its end; returns its exit code, and everything that was shown.
    pub(crate) fn run(&mut self, command: Command) -> (i32, String) {
        let mut child = self.start(command);
        let text = self.read_until("");
        (child.wait().unwrap().code().unwrap(), text)
    }

    pub(crate) fn type_in(&mut self, text: &str) {
        self.ours.write_all(text.as_bytes()).unwrap();
    }
}

/// The lines of what was shown at this width, including those drawn over, without the sequences that move the cursor.
/// A longer line continues in the next, as on the terminal.
pub(crate) fn lines(shown: &str, columns: usize) -> Vec<String> {
    let mut plain = String::new();
    let mut rest = shown.chars();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => {
                // CSI: to its final letter.
                rest.by_ref().skip(1).find(|c| c.is_ascii_alphabetic());
                plain.push('\n');
            }
            '\r' => plain.push('\n'),
            c => plain.push(c),
        }
    }
    let cells: Vec<Vec<char>> = plain.lines().map(|line| line.chars().collect()).collect();
    let lines = cells.iter().flat_map(|line| line.chunks(columns));
    let lines = lines.map(|line| line.iter().collect::<String>().trim_end().to_owned());
    lines.filter(|line| !line.is_empty()).collect()
}
