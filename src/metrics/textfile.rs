//! Writes the metrics to a file for `node_exporter`'s textfile collector, which never sees a partial file.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::Metrics;

/// How often the file is written during a run. It is typically read every 15 seconds.
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// A file that is replaced atomically.
pub struct Textfile {
    path: PathBuf,
    /// The temporary file: in the same folder, so that it can be renamed, and not named `.prom`, so that it is not read.
    new: PathBuf,
    next: Instant,
}

impl Textfile {
    /// Checks that the file can be written, without changing it.
    ///
    /// # Errors
    /// If it cannot be written, or the path is not a regular file.
    pub fn new(path: &Path, now: Instant) -> io::Result<Textfile> {
        let Some(name) = path.file_name() else { return Err(io::ErrorKind::IsADirectory.into()) };
        match fs::metadata(path) {
            Ok(data) if data.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            // Renaming would replace a device by a file.
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

    /// Whether the file is due to be written.
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// Replaces the file with the current metrics.
    ///
    /// # Errors
    /// If it cannot be written; the previous file remains.
    pub fn write(&mut self, metrics: &Metrics, now: Instant) -> io::Result<()> {
        self.next = now + WRITE_EVERY;
        let text = to_prometheus_text(&metrics.text());
        let written = fs::write(&self.new, text).and_then(|()| fs::rename(&self.new, &self.path));
        if written.is_err() {
            drop(fs::remove_file(&self.new));
        }
        written
    }
}

/// Converts to the Prometheus text format, which `node_exporter` reads. There a counter is described by the full name of
/// its sample, with `_total`; under any other name it would have no type.
fn to_prometheus_text(text: &str) -> String {
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
        assert_eq!(to_prometheus_text(text), old);
    }
}
