//! The figures as a file, for `node_exporter`'s textfile collector: what is read there is whole at any time.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::Metrics;

/// How often it is written while a run goes on. It is read every 15 seconds or so.
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// A file that is replaced as a whole.
pub struct Textfile {
    path: PathBuf,
    /// Beside it, so that it can be renamed; not called `.prom`, so that nobody reads it half written.
    new: PathBuf,
    next: Instant,
}

impl Textfile {
    /// Finds out whether it can be written; leaves what is there.
    ///
    /// # Errors
    /// Where it cannot, or where something other than a file stands there.
    pub fn new(path: &Path, now: Instant) -> io::Result<Textfile> {
        let Some(name) = path.file_name() else { return Err(io::ErrorKind::IsADirectory.into()) };
        match fs::metadata(path) {
            Ok(data) if data.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            // A device would be replaced by a file.
            Ok(data) if !data.is_file() => return Err(io::Error::other("not a regular file")),
            _ => {}
        }
        let mut new = std::ffi::OsString::from(".");
        new.push(name);
        new.push(format!(".{}.new", std::process::id()));
        let textfile = Textfile { path: path.into(), new: path.with_file_name(new), next: now + WRITE_EVERY };
        fs::write(&textfile.new, "")?;
        fs::remove_file(&textfile.new)?;
        Ok(textfile)
    }

    /// Whether it is time to write it.
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// Puts today's figures in its place.
    ///
    /// # Errors
    /// Where it cannot be written; then what was there stays.
    pub fn write(&mut self, metrics: &Metrics, now: Instant) -> io::Result<()> {
        self.next = now + WRITE_EVERY;
        let text = in_the_old_format(&metrics.text());
        let written = fs::write(&self.new, text).and_then(|()| fs::rename(&self.new, &self.path));
        if written.is_err() {
            drop(fs::remove_file(&self.new));
        }
        written
    }
}

/// `node_exporter` reads Prometheus' format before `OpenMetrics`, where a counter is described by the whole name of its
/// sample; by another name it would be of no type.
fn in_the_old_format(text: &str) -> String {
    let described = |line: &str| line.strip_prefix("# TYPE ")?.strip_suffix(" counter").map(str::to_owned);
    let counters: Vec<String> = text.lines().filter_map(described).collect();
    let mut old = String::with_capacity(text.len());
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", what @ ("HELP" | "TYPE"), name, rest] if counters.iter().any(|counter| counter == name) => {
                old.push_str(&format!("# {what} {name}_total {rest}\n"));
            }
            _ => old.push_str(&format!("{line}\n")),
        }
    }
    old
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_described_by_the_name_of_its_sample() {
        let text = "# HELP rows Rows that are settled.\n# TYPE rows counter\nrows_total{a=\"b c\"} 1\n\
                    # HELP rows_in_flight Now.\n# TYPE rows_in_flight gauge\nrows_in_flight 2\n# EOF\n";
        let old = "# HELP rows_total Rows that are settled.\n# TYPE rows_total counter\nrows_total{a=\"b c\"} 1\n\
                   # HELP rows_in_flight Now.\n# TYPE rows_in_flight gauge\nrows_in_flight 2\n# EOF\n";
        assert_eq!(in_the_old_format(text), old);
    }
}
