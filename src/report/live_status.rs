//! Formats the status of a current run in lines of a given width, for the progress display and for `status`.
//!
//! Pure. The most important figures come first and are the last to be dropped on a narrow terminal: how much is done,
//! the rate, and the time left; then the outcomes; then the activity. No line exceeds the width.

use std::time::Duration;

use serde::Serialize;

use super::format::{grouped, requests, rows, time, wrap_parts, wrap_words};
use crate::{
    ledger::{
        Activity, CurrentRate, Heartbeat, Outcome, RateSetter, RecordedHeartbeat, RunId, RunRecord, Tally,
    },
    run::RunSnapshot,
};

/// Possible widths of the bar. Fixed, so that the bar does not grow and shrink with the text beside it.
const BARS: [usize; 2] = [24, 12];

/// A healthy run updates its status within this time: two heartbeats, and a commit on a slow disk.
const STALE_AFTER: Duration = Duration::from_secs(10);

/// The JSON object. Its names are a contract with scripts.
#[derive(Debug, Serialize)]
pub struct LiveStatus {
    run: RunId,
    age_seconds: f64,
    doing: &'static str,
    pub(super) rows_settled: u64,
    rows_expected: Option<u64>,
    is_exact: bool,
    rows_per_second: f64,
    seconds_left: Option<u64>,
    in_flight: u64,
    retrying: u64,
    in_doubt: u64,
    throttled_to: Option<f64>,
    throttled_by: Option<&'static str>,
    pauses: u64,
    cause: Option<String>,
}

impl LiveStatus {
    /// The progress in per cent, rounded down: 100 appears only at the end. `None` if the number of rows is unknown.
    pub(super) fn percent(&self) -> Option<u64> {
        let total = self.rows_expected.filter(|total| *total > 0)?;
        Some((u128::from(self.rows_settled) * 100 / u128::from(total)).min(100) as u64)
    }

    /// The time left at the current rate, if it can be estimated.
    pub(super) fn left(&self) -> Option<Duration> {
        self.seconds_left.map(Duration::from_secs)
    }

    /// The status as text, for readers who do not see the updates.
    pub(super) fn words(&self) -> String {
        let settled = grouped(self.rows_settled);
        let about = if self.is_exact { "" } else { "about " };
        let of = self.rows_expected.map_or_else(String::new, |all| format!(" of {about}{}", grouped(all)));
        let stale = if self.age_seconds > STALE_AFTER.as_secs_f64() {
            "; the run has not reported since"
        } else {
            ""
        };
        let age = time(Duration::try_from_secs_f64(self.age_seconds).unwrap_or_default());
        let doing = match &self.cause {
            Some(cause) => format!(" It waits: {cause}."),
            None => String::new(),
        };
        format!(
            "{settled}{of} rows at {}, {} in flight, as of {age} before this page was made{stale}.{doing}",
            speed(self.rows_per_second),
            requests(self.in_flight)
        )
    }
}

/// A run in progress, as its last heartbeat shows it.
pub struct LiveRun {
    run: RunId,
    snapshot: RunSnapshot,
    /// The time since the heartbeat.
    age: Duration,
}

impl LiveRun {
    /// The run by its last heartbeat; `now` is in UTC milliseconds.
    pub fn new(run: &RunRecord, last: &RecordedHeartbeat, now: i64) -> LiveRun {
        let (tally, request_counts, heartbeat) = (run.tally, run.request_counts, last.heartbeat.clone());
        LiveRun {
            run: run.run,
            snapshot: RunSnapshot { tally, request_counts, heartbeat, part: None },
            age: Duration::from_millis(u64::try_from(now.saturating_sub(last.at)).unwrap_or_default()),
        }
    }

    /// The status for JSON and for a report.
    pub fn status(&self) -> LiveStatus {
        let RunSnapshot { tally, heartbeat: live, .. } = &self.snapshot;
        let settled = settled(tally);
        let left = live.total.and_then(|total| left(settled, total, live));
        LiveStatus {
            run: self.run,
            age_seconds: self.age.as_secs_f64(),
            doing: live.activity.name(),
            rows_settled: settled,
            rows_expected: live.total,
            is_exact: live.is_exact,
            rows_per_second: live.rows_per_second,
            seconds_left: left.map(|left| left.as_secs()),
            in_flight: live.in_flight,
            retrying: live.retrying,
            in_doubt: live.in_doubt,
            throttled_to: live.rate.map(|rate| rate.per_second),
            throttled_by: live.rate.map(|rate| rate.set_by.name()),
            pauses: live.pauses,
            cause: live.cause.as_deref().map(str::to_owned),
        }
    }

    /// The text of `status`.
    pub fn text(&self) -> String {
        let mut text =
            format!("\nRun {} is in progress, as of {} ago{}:\n", self.run, time(self.age), self.stale());
        for line in progress_lines(&self.snapshot, 78) {
            text.push_str(&format!("  {line}\n"));
        }
        text
    }

    /// The lines of `status --watch`, of at most this width.
    pub fn watched_lines(&self, width: usize) -> Vec<String> {
        // Tenths of a second would only flicker.
        let age = if self.age > STALE_AFTER {
            format!(", as of {} ago{}", time(self.age), self.stale())
        } else {
            String::new()
        };
        let mut lines = wrap_words(&format!("Run {} is in progress{age}", self.run), width);
        lines.extend(progress_lines(&self.snapshot, width));
        lines
    }

    /// `status --watch` on one line.
    pub fn watched_line(&self) -> String {
        format!("{}{}", progress_line(&self.snapshot), self.stale())
    }

    fn stale(&self) -> &'static str {
        if self.age > STALE_AFTER { "; it has not reported since" } else { "" }
    }
}

/// The progress of a run, in lines of at most this width.
pub fn progress_lines(snapshot: &RunSnapshot, width: usize) -> Vec<String> {
    let (outcomes, activity) = (outcomes(&snapshot.tally), activity(&snapshot.heartbeat));
    let mut lines = vec![headline(snapshot, width)];
    let together = [outcomes.join(", "), activity.join(", ")].join("; ");
    if !outcomes.is_empty() && !activity.is_empty() && together.len() <= width {
        lines.push(together);
    } else {
        lines.extend(wrap_parts(&outcomes, width));
        lines.extend(wrap_parts(&activity, width));
    }
    lines.extend(cause(&snapshot.heartbeat).iter().flat_map(|cause| wrap_words(cause, width)));
    lines
}

/// The progress of a run on one line, for a log.
pub fn progress_line(snapshot: &RunSnapshot) -> String {
    // A bar is of no use in a log.
    let headline = headlines(snapshot).into_iter().find(|line| !line.starts_with('['));
    let parts = [
        headline.unwrap_or_default(),
        outcomes(&snapshot.tally).join(", "),
        activity(&snapshot.heartbeat).join(", "),
        cause(&snapshot.heartbeat).unwrap_or_default(),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

/// The longest headline that fits; if none fits, the shortest one is truncated.
fn headline(snapshot: &RunSnapshot, width: usize) -> String {
    let mut lines = headlines(snapshot);
    let at = lines.iter().position(|line| line.len() <= width).unwrap_or(lines.len() - 1);
    let mut line = lines.swap_remove(at);
    line.truncate(width);
    line
}

/// Headlines with the progress, the rate and the time left, from the longest to the shortest. All ASCII.
fn headlines(snapshot: &RunSnapshot) -> Vec<String> {
    let RunSnapshot { tally, heartbeat: live, .. } = snapshot;
    let settled = settled(tally);
    let (done, speed) = (grouped(settled), speed(live.rows_per_second));
    let Some(total) = live.total else {
        return vec![format!("{}, {speed}", rows(settled)), done];
    };
    // Rounded down: 100 % appears only at the end.
    let share = if total == 0 { 1.0 } else { settled as f64 / total as f64 };
    let percent = format!("{:>2.0}%", (100.0 * share).floor());
    let about = if live.is_exact { "" } else { "about " };
    let left = left(settled, total, live).map_or_else(String::new, |left| format!(", {} left", whole(left)));
    let all = grouped(total);
    let plain = format!("{percent}  {done} of {about}{}, {speed}{left}", rows(total));
    let with_bars = BARS.map(|cells| format!("{} {plain}", bar(share, cells)));
    let shorter = [
        plain,
        format!("{percent}  {done} of {all}, {speed}{left}"),
        format!("{percent}  {done} of {all}{left}"),
        format!("{percent}  {done} of {all}, {speed}"),
        format!("{percent}  {done} of {all}"),
        format!("{percent}  {done}"),
    ];
    with_bars.into_iter().chain(shorter).collect()
}

fn bar(share: f64, cells: usize) -> String {
    let full = ((share * cells as f64) as usize).min(cells);
    let head = if full == cells { "" } else { ">" };
    format!("[{}{head:<1$}]", "=".repeat(full), cells - full)
}

fn speed(per_second: f64) -> String {
    match per_second {
        10.0.. => format!("{}/s", grouped(per_second.round() as u64)),
        _ => format!("{per_second:.1}/s"),
    }
}

fn settled(tally: &Tally) -> u64 {
    tally.rows() - tally.get(Outcome::Pending)
}

/// The time left at the current rate, in whole seconds; none if the run is not sending or the rate is zero.
fn left(settled: u64, total: u64, live: &Heartbeat) -> Option<Duration> {
    let rows = total.saturating_sub(settled);
    if live.activity != Activity::Sending || rows == 0 || live.rows_per_second <= 0.0 {
        return None;
    }
    Duration::try_from_secs_f64((rows as f64 / live.rows_per_second).ceil()).ok()
}

/// A duration without tenths of a second.
fn whole(left: Duration) -> String {
    if left < Duration::from_secs(10) { format!("{} s", left.as_secs()) } else { time(left) }
}

/// The counts of settled rows by outcome.
fn outcomes(tally: &Tally) -> Vec<String> {
    let settled = Outcome::ALL.into_iter().filter(|outcome| *outcome != Outcome::Pending);
    let some = settled.filter(|outcome| tally.get(*outcome) > 0);
    some.map(|outcome| format!("{} {}", outcome.name(), grouped(tally.get(outcome)))).collect()
}

/// Why all requests wait. Like every line, all ASCII: a name in a certificate may be anything.
fn cause(live: &Heartbeat) -> Option<String> {
    let cause = live.cause.as_deref().filter(|_| live.activity == Activity::Waiting)?;
    Some(cause.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect())
}

fn activity(live: &Heartbeat) -> Vec<String> {
    let mut parts = Vec::new();
    match live.activity {
        Activity::Sending => {}
        Activity::Asking => parts.push("asking about rows that an earlier run left in doubt".into()),
        Activity::Paused => parts.push("the API has asked for a pause".into()),
        Activity::Waiting => parts.push("no valid response: waiting for the API".into()),
        Activity::Finishing => parts.push("ending".into()),
    }
    for (count, what) in
        [(live.in_flight, "in flight"), (live.retrying, "retrying"), (live.in_doubt, "in doubt")]
    {
        if count > 0 {
            parts.push(format!("{} {what}", grouped(count)));
        }
    }
    parts.extend(live.rate.map(|CurrentRate { per_second, set_by }| match set_by {
        RateSetter::User => format!("rate {}/s", decimals(per_second)),
        RateSetter::Api => format!("limited to {}/s by the API", decimals(per_second)),
    }));
    match live.pauses {
        0 => {}
        1 => parts.push("1 pause".into()),
        pauses => parts.push(format!("{} pauses", grouped(pauses))),
    }
    parts
}

/// A rate with its significant digits, because it may be an average.
fn decimals(per_second: f64) -> String {
    match per_second {
        10.0.. if per_second.fract() == 0.0 => grouped(per_second as u64),
        _ => ((per_second * 1000.0).round() / 1000.0).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::RequestCounts;

    fn snapshot(tally: Tally, heartbeat: Heartbeat) -> RunSnapshot {
        RunSnapshot { tally, request_counts: RequestCounts::default(), heartbeat, part: None }
    }

    fn tally() -> Tally {
        let counts = [(Outcome::Created, 379_900), (Outcome::Invalid, 311), (Outcome::Pending, 900)];
        counts.into_iter().collect()
    }

    fn live() -> Heartbeat {
        Heartbeat {
            total: Some(1_000_000),
            rows_per_second: 4_950.4,
            in_flight: 32,
            retrying: 3,
            rate: Some(CurrentRate { per_second: 5_000.0, set_by: RateSetter::User }),
            ..Heartbeat::default()
        }
    }

    #[test]
    fn what_is_most_wanted_stays_as_the_room_shrinks() {
        let at = |width| progress_lines(&snapshot(tally(), live()), width);
        assert_eq!(
            at(80),
            [
                "[====>       ] 38%  380,211 of about 1,000,000 rows, 4,950/s, 2 min 6 s left",
                "created 379,900, invalid 311; 32 in flight, 3 retrying, rate 5,000/s",
            ]
        );
        assert_eq!(
            at(40),
            [
                "38%  380,211 of 1,000,000, 4,950/s",
                "created 379,900, invalid 311",
                "32 in flight, 3 retrying, rate 5,000/s",
            ]
        );
        assert!(at(200)[0].starts_with("[=========>              ] 38%  380,211 of about"));
        assert_eq!(at(200).len(), 2);
    }

    #[test]
    fn no_line_is_too_long() {
        let all = Outcome::ALL.into_iter().map(|outcome| (outcome, 1_234_567_890)).collect();
        for doing in
            [Activity::Sending, Activity::Asking, Activity::Paused, Activity::Waiting, Activity::Finishing]
        {
            let cause = Some("the certificate of a.example is refused (issuer: Zoë)".into());
            let live = Heartbeat { activity: doing, in_doubt: 2000, cause, ..live() };
            for width in 1..300 {
                let unknown = Heartbeat { total: None, ..live.clone() };
                for (tally, live) in [(tally(), &live), (all, &live), (all, &unknown)] {
                    let lines = progress_lines(&snapshot(tally, live.clone()), width);
                    assert!(lines.iter().all(|line| line.len() <= width), "{width}: {lines:#?}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_promised_that_is_not_known() {
        let line = |live: &Heartbeat| progress_line(&snapshot(tally(), live.clone()));
        let live = live();
        assert!(line(&live).starts_with("38%  380,211 of about 1,000,000 rows, 4,950/s, 2 min 6 s left; "));
        let of = |change: fn(&mut Heartbeat)| {
            let mut live = live.clone();
            change(&mut live);
            progress_line(&snapshot(tally(), live))
        };
        assert!(of(|live| live.total = None).starts_with("380,211 rows, 4,950/s; created"));
        assert!(of(|live| live.is_exact = true).contains(" of 1,000,000 rows"));
        assert!(of(|live| live.total = Some(380_212)).starts_with("99%  "), "not a hundred before the end");
        assert!(!of(|live| live.rows_per_second = 0.0).contains("left"));
        assert!(!of(|live| live.activity = Activity::Waiting).contains("left"));
        assert!(of(|live| live.rows_per_second = 0.25).contains(" 0.2/s, "));
        assert!(
            of(|live| live.rows_per_second = 1e-300).contains("1,000,000 rows, 0.0/s; "),
            "no time at all"
        );
    }

    #[test]
    fn the_users_rate_is_told_from_a_limit_of_the_api() {
        let line = |per_second, set_by, pauses| {
            let rate = Some(CurrentRate { per_second, set_by });
            progress_line(&snapshot(tally(), Heartbeat { rate, pauses, ..live() }))
        };
        assert!(line(300.0, RateSetter::User, 0).ends_with(", rate 300/s"));
        assert!(line(0.5, RateSetter::User, 1).ends_with(", rate 0.5/s, 1 pause"));
        assert!(line(339.0, RateSetter::Api, 1_200).ends_with(", limited to 339/s by the API, 1,200 pauses"));
        assert!(line(1.0 / 3.0, RateSetter::Api, 0).ends_with(", limited to 0.333/s by the API"));
        assert!(!progress_line(&snapshot(tally(), Heartbeat { rate: None, ..live() })).contains("rate"));
    }

    #[test]
    fn a_run_that_waits_says_why() {
        let cause = Some("no connection to 127.0.0.1:9: connection refused".into());
        let waiting = Heartbeat { activity: Activity::Waiting, cause, ..live() };
        let line = progress_line(&snapshot(tally(), waiting.clone()));
        assert!(line.ends_with("; no connection to 127.0.0.1:9: connection refused"), "{line}");
        let lines = progress_lines(&snapshot(tally(), waiting.clone()), 30);
        assert_eq!(lines[lines.len() - 2..], ["no connection to 127.0.0.1:9:", "connection refused"]);
        let sending = progress_line(&snapshot(tally(), Heartbeat { activity: Activity::Sending, ..waiting }));
        assert!(!sending.contains("refused"), "{sending}");
    }

    #[test]
    fn a_run_that_says_nothing_any_more_is_called_so() {
        let text = |seconds| {
            let (snapshot, age) = (snapshot(tally(), live()), Duration::from_secs(seconds));
            LiveRun { run: RunId(3), snapshot, age }.text()
        };
        assert!(text(2).starts_with("\nRun 3 is in progress, as of 2.0 s ago:\n  ["), "{}", text(2));
        assert!(text(45).contains("as of 45 s ago; it has not reported since:"));
        assert!(text(2).lines().all(|line| line.len() <= 80));
    }
}
