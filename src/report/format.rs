//! Formats numbers, times and lines for people.
//!
//! Pure. Units are converted only here, so that terminal, report and page show the same figures.

use std::time::{Duration, SystemTime};

use crate::{
    customer::{noun, visible},
    source::{RowCount, RowSample},
};

/// Width of a standard terminal.
const COLUMNS: usize = 80;

/// A number of rows with its noun.
pub fn rows(count: u64) -> String {
    counted(count, "row")
}

/// The number of rows in a file, with its noun: `about 1,200 rows`.
pub fn row_count(count: RowCount) -> String {
    match count {
        RowCount::Exact(count) => rows(count),
        RowCount::Estimated(count) => format!("about {}", rows(count)),
    }
}

/// A number of requests with its noun.
pub fn requests(count: u64) -> String {
    counted(count, "request")
}

/// A number in groups of three digits, with its noun.
pub fn counted(count: u64, one: &str) -> String {
    format!("{} {}", grouped(count), noun(count, one))
}

/// `50 requests per second`
pub(super) fn request_rate(per_second: f64) -> String {
    let noun = if per_second == 1.0 { "request" } else { "requests" };
    format!("{per_second} {noun} per second")
}

/// A name or a value for one line of text. Each character without a shape is replaced by its code point.
pub fn visible_text(name: &str) -> String {
    visible(name).into_owned()
}

/// Digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A line of a list of counts, each with its meaning: `  create              1,200   new to the ledger`.
pub(super) fn count_line(word: &str, count: u64, meaning: &str) -> String {
    format!("  {word:<10} {:>14}   {meaning}\n", grouped(count))
}

/// A rate per second, with a decimal if it is small.
pub(super) fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 99.95 {
        format!("{per_second:.1}")
    } else {
        grouped(per_second.round() as u64)
    }
}

/// A duration in the units that suit its length.
pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..=9 => format!("{:.1} s", duration.as_secs_f64()),
        10..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// A duration in seconds, to the millisecond, for JSON.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

/// `2020-03-17 14:16`, from UTC milliseconds.
pub fn date(milliseconds: i64) -> String {
    let text = rfc3339(milliseconds);
    text.get(..16).unwrap_or(&text).replace('T', " ")
}

/// A time as `2020-03-17T14:16:31Z`, from UTC milliseconds. Clamped to four-digit years, because another program may have
/// written any number into the ledger.
pub fn rfc3339(milliseconds: i64) -> String {
    const LAST: u64 = 253_402_300_799_000;
    let since = Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default().min(LAST));
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since).to_string()
}

/// A latency in the unit that suits it, or a dash.
pub(super) fn millis(millis: Option<f64>) -> String {
    match millis {
        None => "-".into(),
        Some(millis) if millis < 9.95 => format!("{millis:.1} ms"),
        Some(millis) if millis < 999.5 => format!("{millis:.0} ms"),
        Some(millis) => time(Duration::from_secs_f64(millis / 1000.0)),
    }
}

/// Wraps text between words, with this indent. A word longer than a line stays whole, because a truncated name cannot be
/// copied.
pub(super) fn wrapped(text: &str, indent: usize) -> String {
    let (mut lines, mut width) = (String::new(), 0);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        let fits = width > 0 && width + 1 + length <= COLUMNS;
        if fits {
            lines.push(' ');
            width += 1;
        } else {
            // Continuation lines are indented further.
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

/// Joins the parts with commas, as many per line as fit.
pub fn wrap_parts(parts: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.len() + 2 + part.len() < width => {
                line.push_str(", ");
                line.push_str(part);
            }
            last => {
                last.into_iter().for_each(|line| line.push(','));
                lines.push(part.chars().take(width.saturating_sub(1)).collect());
            }
        }
    }
    lines
}

/// Wraps a sentence between words at this width; a longer word is split.
pub fn wrap_words(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.chars().take(width).collect()),
        }
    }
    lines
}

/// `first on line 3, 7, 9`.
pub(super) fn first_lines(sample: &RowSample) -> String {
    let lines: Vec<String> = sample.first_lines.iter().map(u64::to_string).collect();
    format!("first on line {}", lines.join(", "))
}

/// The lines, each indented and wrapped, after an empty line.
pub(super) fn paragraph(lines: &[String]) -> String {
    let mut text = String::from(if lines.is_empty() { "" } else { "\n" });
    for line in lines {
        let words = line.trim_start();
        text.push_str(&wrapped(words, 2 + line.len() - words.len()));
    }
    text
}

/// A share in per cent, to one decimal.
pub(super) fn per_cent(rows: u64, of: u64) -> f64 {
    (rows as f64 * 1000.0 / of.max(1) as f64).round() / 10.0
}

/// A share in words, such as `12.3 %`. No row is rounded away: one of a million is not 0 %, and all but one is not 100 %.
pub(super) fn share(rows: u64, of: u64) -> String {
    match per_cent(rows, of) {
        0.0 if rows > 0 => "< 0.1 %".into(),
        100.0 if rows < of => "99.9 %".into(),
        per_cent => format!("{per_cent} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_well() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1234567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(time(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(time(Duration::from_secs(100)), "100 s");
        assert_eq!(time(Duration::from_secs(3600)), "60 min 0 s");
        assert_eq!(time(Duration::from_secs(9000)), "2 h 30 min");
        assert_eq!(date(1_584_454_591_000), "2020-03-17 14:16");
    }

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
    fn no_row_is_rounded_away_in_a_share() {
        let shares =
            [(0, 7), (1, 2_999), (1, 8), (3, 8), (999_999, 1_000_000), (8, 8)].map(|(n, of)| share(n, of));
        assert_eq!(shares, ["0 %", "< 0.1 %", "12.5 %", "37.5 %", "99.9 %", "100 %"]);
    }

    #[test]
    fn latencies_read_well() {
        let texts = [None, Some(0.4), Some(12.34), Some(999.4), Some(1234.0), Some(75_000.0)].map(millis);
        assert_eq!(texts, ["-", "0.4 ms", "12 ms", "999 ms", "1.2 s", "75 s"]);
    }
}
