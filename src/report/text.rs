//! A report for a terminal of 80 columns.

use std::{fmt::Write as _, time::Duration};

use super::{Report, grouped, harmless, outcome_lines, rate, remark_lines, rows, run::Percentiles, time};
use crate::ledger::{Sample, Setting, condensed};

/// What a terminal has that nobody has made wider.
const COLUMNS: usize = 80;

/// Lines of the table over time: with all else it stays on one screen.
const TIMES_SHOWN: usize = 12;

/// Kinds of errors that are told one by one.
const KINDS_SHOWN: usize = 20;

impl Report<'_> {
    /// The report as text.
    pub fn text(&self) -> String {
        let summary = &self.summary;
        let exit = summary.exit_code.map_or_else(String::new, |code| format!(", exit code {code}"));
        let mut text = format!("Run {}  {} {}{exit}\n", summary.run, self.command, summary.state.name());
        if let Some(reason) = summary.stop_reason {
            text.push_str(&wrapped(&harmless(reason), 2));
        }
        let _ = writeln!(text, "  source  {}", harmless(summary.source));
        if let (Some(base_url), Some(merchant)) = (self.base_url, self.merchant_id) {
            let _ = writeln!(text, "  target  {}, merchant {}", harmless(base_url), harmless(merchant));
        }
        let began = self.started_at.replace('T', " ").replace('Z', " UTC");
        let _ = writeln!(text, "  began   {began}\n");
        text.push_str(&outcome_lines(summary));
        let Percentiles { p50, p95, p99 } = self.latency_ms;
        if p50.is_some() {
            let [p50, p95, p99] = [p50, p95, p99].map(millis);
            let _ =
                writeln!(text, "  half of the requests within {p50}, 95 % within {p95}, 99 % within {p99}");
        }
        if let Some(held) = summary.held_rate {
            let _ = writeln!(text, "  about {held} requests/s held under a limit of the API");
        }
        text.push_str(&remark_lines(summary));
        for (line, spelling) in self.respelled_lines {
            let _ = writeln!(text, "    line {line}: {}", harmless(spelling));
        }
        self.add_times(&mut text);
        self.add_errors(&mut text);
        self.add_options(&mut text);
        text
    }

    fn add_times(&self, text: &mut String) {
        // One line would say again what is said above.
        if self.over_time.len() < 2 {
            return;
        }
        let _ = writeln!(
            text,
            "\nOver time\n{:>13}{:>10}{:>11}{:>9}{:>7}{:>10}{:>9}{:>9}",
            "until", "rows/s", "requests/s", "repeated", "429", "p50", "p95", "p99"
        );
        for sample in condensed(self.over_time, TIMES_SHOWN) {
            let Percentiles { p50, p95, p99 } = Percentiles::of(&sample.latencies);
            let _ = writeln!(
                text,
                "{:>13}{:>10}{:>11}{:>9}{:>7}{:>10}{:>9}{:>9}",
                time(sample.to),
                per_second(sample.rows(), &sample),
                per_second(sample.figures.requests, &sample),
                or_dash(sample.figures.retries),
                or_dash(sample.figures.throttled),
                millis(p50),
                millis(p95),
                millis(p99),
            );
        }
    }

    fn add_errors(&self, text: &mut String) {
        if self.errors.is_empty() && self.errors_not_shown == 0 {
            return;
        }
        text.push_str("\nWhat went wrong\n");
        for kind in self.errors.iter().take(KINDS_SHOWN) {
            let (outcome, rows) = (kind.outcome.name(), rows(kind.rows));
            text.push_str(&wrapped(&format!("{outcome}, {}: {rows}, {}", kind.title(), kind.lines()), 2));
            if let Some(message) = &kind.message {
                text.push_str(&wrapped(&format!("{}: {message}", kind.told_by()), 4));
            }
            text.push_str(&wrapped(&format!("to do: {}", kind.remedy), 4));
        }
        let others = self.errors.len().saturating_sub(KINDS_SHOWN);
        if others > 0 {
            let _ = writeln!(text, "  and {others} kinds more; --format json has them");
        }
        if self.errors_not_shown > 0 {
            text.push_str(&wrapped(&format!("{} more: {NOT_SHOWN}", rows(self.errors_not_shown)), 2));
        }
    }

    fn add_options(&self, text: &mut String) {
        let given: Vec<&Setting> = self.given().collect();
        if given.is_empty() {
            return;
        }
        text.push_str("\nOptions that were given\n");
        for Setting { name, value, origin } in given {
            let line = format!("{:<18}  {}  ({})", harmless(name), harmless(value), harmless(origin));
            let _ = writeln!(text, "  {}", line.trim_end());
        }
    }
}

/// What became of rows that are in none of the kinds.
pub(super) const NOT_SHOWN: &str = "settled by a later run since, or of too many kinds to be told";

/// How much of it a second had.
pub(super) fn per_second(count: u64, sample: &Sample) -> String {
    rate(count as f64 / sample.seconds())
}

/// Milliseconds as people say them, or a dash.
pub(super) fn millis(millis: Option<f64>) -> String {
    match millis {
        None => "-".into(),
        Some(millis) if millis < 9.95 => format!("{millis:.1} ms"),
        Some(millis) if millis < 999.5 => format!("{millis:.0} ms"),
        Some(millis) => time(Duration::from_secs_f64(millis / 1000.0)),
    }
}

fn or_dash(count: u64) -> String {
    if count == 0 { "-".into() } else { grouped(count) }
}

/// The text broken between words, each line with this indent; what is longer than a line stays whole, since
/// a name that is cut cannot be copied.
pub(super) fn wrapped(text: &str, indent: usize) -> String {
    let (mut lines, mut width) = (String::new(), 0);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        let fits = width > 0 && width + 1 + length <= COLUMNS;
        if fits {
            lines.push(' ');
            width += 1;
        } else {
            // What goes on stands further in than what begins.
            let indent = if lines.is_empty() {
                indent
            } else {
                lines.push('\n');
                indent + 2
            };
            lines.push_str(&" ".repeat(indent));
            width = indent;
        }
        lines.push_str(word);
        width += length;
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words() {
        let text = format!("{} end", "word ".repeat(30));
        let lines = wrapped(&text, 4);
        assert!(lines.lines().all(|line| line.chars().count() <= COLUMNS), "{lines}");
        assert!(lines.lines().all(|line| line.starts_with("    ")) && lines.ends_with("end\n"));
        assert_eq!(lines.split_whitespace().count(), 31);
        let long = "x".repeat(100);
        assert_eq!(wrapped(&long, 2), format!("  {long}\n"));
    }

    #[test]
    fn figures_read_well() {
        let told = [None, Some(0.4), Some(12.34), Some(999.4), Some(1234.0), Some(75_000.0)].map(millis);
        assert_eq!(told, ["-", "0.4 ms", "12 ms", "999 ms", "1.2 s", "75 s"]);
        let sample = Sample { to: Duration::from_secs(10), ..Sample::default() };
        assert_eq!([0, 5, 99, 12_345].map(|count| per_second(count, &sample)), ["0", "0.5", "9.9", "1,235"]);
    }
}
