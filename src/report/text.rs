//! A report as text for a terminal of 80 columns.

use std::fmt::Write as _;

use super::{
    ErrorSummary, Percentiles, Report,
    error_summary::error_lines,
    format::{grouped, millis, rate, time, visible_text, wrapped},
    rescue::rescue_lines,
    summary::{outcome_lines, remark_lines},
};
use crate::{
    customer::noun,
    ledger::{Sample, Setting, condensed},
};

/// Lines of the table over time: few enough that the report fits one screen.
const TIMES_SHOWN: usize = 12;

/// How many error groups are listed.
const ERRORS_SHOWN: usize = 20;

/// Where the values of the options begin.
const VALUE_INDENT: usize = 25;

/// Renders a report as text.
pub fn report_text(report: &Report<'_>) -> String {
    let summary = &report.summary;
    let exit = summary.exit_code.map_or_else(String::new, |code| format!(", exit code {code}"));
    let mut text = format!("Run {}  {} {}{exit}\n", summary.run, report.command, summary.state.name());
    text.push_str(&wrapped(&report.headline, 2));
    if let Some(reason) = summary.stop_reason {
        text.push_str(&wrapped(&visible_text(reason), 2));
    }
    let _ = writeln!(text, "  source  {}", visible_text(summary.source));
    if let (Some(base_url), Some(merchant)) = (report.base_url, report.merchant_id) {
        let _ = writeln!(text, "  target  {}, merchant {}", visible_text(base_url), visible_text(merchant));
    }
    let _ = writeln!(text, "  began   {}\n", report.began());
    text.push_str(&outcome_lines(summary));
    let Percentiles { p50, p95, p99 } = report.latency_ms;
    if p50.is_some() {
        let [p50, p95, p99] = [p50, p95, p99].map(millis);
        let _ = writeln!(text, "  half of the requests within {p50}, 95 % within {p95}, 99 % within {p99}");
    }
    if let Some(held) = summary.held_rate {
        let _ = writeln!(text, "  about {held} requests/s held under a limit of the API");
    }
    text.push_str(&remark_lines(summary));
    for (line, spelling) in report.respelled_lines {
        let _ = writeln!(text, "    line {line}: {}", visible_text(spelling));
    }
    add_times(report, &mut text);
    add_errors(&report.errors, report.errors_not_shown, &mut text);
    text.push_str(&rescue_lines(&report.rescue, summary.rows));
    add_options(report, &mut text);
    text
}

fn add_times(report: &Report<'_>, text: &mut String) {
    // A single line would repeat the figures above.
    if report.over_time.len() < 2 {
        return;
    }
    let _ = writeln!(
        text,
        "\nOver time\n{:>13}{:>10}{:>11}{:>9}{:>7}{:>10}{:>9}{:>9}",
        "until", "rows/s", "requests/s", "repeated", "429", "p50", "p95", "p99"
    );
    for sample in condensed(report.over_time, TIMES_SHOWN) {
        let Percentiles { p50, p95, p99 } = Percentiles::of(&sample.latencies);
        let _ = writeln!(
            text,
            "{:>13}{:>10}{:>11}{:>9}{:>7}{:>10}{:>9}{:>9}",
            time(sample.to),
            per_second(sample.rows(), &sample),
            per_second(sample.request_counts.requests, &sample),
            or_dash(sample.request_counts.retries),
            or_dash(sample.request_counts.throttled),
            millis(p50),
            millis(p95),
            millis(p99),
        );
    }
}

pub(super) fn add_errors(errors: &[ErrorSummary], not_shown: u64, text: &mut String) {
    text.push_str(&error_lines(errors, ERRORS_SHOWN, "--format json has them"));
    if not_shown > 0 {
        if errors.is_empty() {
            text.push_str("\nWhat went wrong\n");
        }
        text.push_str(&wrapped(&not_listed(not_shown, errors.is_empty()), 2));
    }
}

fn add_options(report: &Report<'_>, text: &mut String) {
    let given: Vec<&Setting> = report.given().collect();
    if given.is_empty() {
        return;
    }
    text.push_str("\nOptions that were given\n");
    for Setting { name, value, origin } in given {
        let value = format!("{} ({})", visible_text(value), visible_text(origin.as_str()));
        // The name stands in the indent of the first line.
        let value = wrapped(&value, VALUE_INDENT);
        let _ = write!(text, "  {:<22} {}", visible_text(name), value.trim_start());
    }
}

/// The number of rows that are in no listed error group, with the reason.
pub(super) fn not_listed(count: u64, is_all: bool) -> String {
    let more = if is_all { "" } else { " more" };
    let noun = noun(count, "row");
    format!("{}{more} {noun}: settled by a later run since, or of too many kinds to list", grouped(count))
}

/// A count per second of the sample's time.
pub(super) fn per_second(count: u64, sample: &Sample) -> String {
    rate(count as f64 / sample.seconds())
}

fn or_dash(count: u64) -> String {
    if count == 0 { "-".into() } else { grouped(count) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rates_read_well() {
        let sample = Sample { to: Duration::from_secs(10), ..Sample::default() };
        assert_eq!([0, 5, 99, 12_345].map(|count| per_second(count, &sample)), ["0", "0.5", "9.9", "1,235"]);
    }
}
