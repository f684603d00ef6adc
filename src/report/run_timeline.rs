//! All runs of a ledger on one timeline: how the number of imported customers grew, and when each run took place.
//!
//! Pure. A run of a few seconds within a year is still wide enough to be seen, and neighboring runs are joined until
//! they fit a phone.

use super::{
    chart::{Chart, Tick, Tooltip, growth},
    format::{date, grouped},
    history::together,
    status::outcome_words,
};
use crate::ledger::{Outcome, RunRecord, RunState, RunTimes};

/// The maximum number of marks on the timeline.
const MARKS_SHOWN: usize = 120;

/// The minimum width of a mark; the line is 1000 wide.
const MARK_WIDTH_MIN: f64 = 4.0;

/// From this span on, labels have no time of day: a week in milliseconds.
const DAYS_ONLY: i64 = 7 * 86_400_000;

/// Runs on a line of 1000 × 100.
pub(super) struct RunTimeline {
    pub(super) chart: Chart,
    pub(super) marks: Vec<Mark>,
}

/// A run, or several neighboring runs, on the line.
pub(super) struct Mark {
    pub(super) class: &'static str,
    pub(super) tooltip: Tooltip,
}

impl RunTimeline {
    /// The timeline of the runs of a ledger that has imported `succeeded` customers. `None` for fewer than two runs,
    /// or if all took place at one moment. `now` is in UTC milliseconds.
    pub(super) fn of(runs: &[RunRecord], succeeded: u64, now: i64) -> Option<RunTimeline> {
        let mut times: Vec<RunTimes> = runs.iter().map(|run| times_of(run, now)).collect();
        RunTimes::correct(&mut times, now);
        let from = times.first().filter(|_| runs.len() > 1)?.began;
        let to = times.last()?.ended;
        let span = to.saturating_sub(from).max(1) as f64;
        let at = |time: i64| (time.saturating_sub(from) as f64 / span).clamp(0.0, 1.0);
        let in_group = runs.len().div_ceil(MARKS_SHOWN);
        let groups = || runs.chunks(in_group).zip(times.chunks(in_group));
        let found: u64 = runs.iter().map(new_customers).sum();
        // Customers of deleted runs.
        let mut imported = succeeded.saturating_sub(found);
        let mut points = Vec::new();
        let mut marks = Vec::new();
        for (group, times) in groups() {
            let (Some(first), Some(last)) = (times.first(), times.last()) else { continue };
            let (from, to) = (at(first.began), at(last.ended));
            points.push((from, imported as f64));
            imported += group.iter().map(new_customers).sum::<u64>();
            points.push((to, imported as f64));
            marks.extend(mark(group, from * 1000.0, to * 1000.0));
        }
        let label = |time: i64| match to.saturating_sub(from) {
            ..DAYS_ONLY => date(time),
            _ => date(time).chars().take(10).collect(),
        };
        let tick = |per_cent: i64| Tick {
            at: per_cent.to_string(),
            label: label(from.saturating_add((to.saturating_sub(from) / 100).saturating_mul(per_cent))),
            is_last: per_cent == 100,
        };
        let mut chart = growth(&points, |customers| grouped(customers.round() as u64))?;
        chart.across = [0, 50, 100].map(tick).into();
        Some(RunTimeline { chart, marks })
    }
}

/// When a run began and ended. Of a crashed run, only the beginning is known.
fn times_of(run: &RunRecord, now: i64) -> RunTimes {
    let began = run.started_at;
    RunTimes { began, ended: run.end(now).unwrap_or(began).max(began) }
}

/// Customers that no earlier run had found at the API.
fn new_customers(run: &RunRecord) -> u64 {
    run.tally.get(Outcome::Created) + run.tally.get(Outcome::Existing)
}

/// The mark of these runs, between two places on the line.
fn mark(runs: &[RunRecord], from: f64, to: f64) -> Option<Mark> {
    let (first, last) = (runs.first()?, runs.last()?);
    let width = (to - from).max(MARK_WIDTH_MIN);
    let words = match runs {
        [run] => format!(
            "Run {}, {} UTC, {}: {}",
            run.run,
            date(run.started_at),
            run.state.name(),
            outcome_words(&run.tally)
        ),
        _ => format!(
            "Runs {} to {}, from {} UTC. {}",
            first.run,
            last.run,
            date(first.started_at),
            together(runs)
        ),
    };
    let class = match runs {
        _ if runs.iter().all(|run| run.state == RunState::Completed && run.exit_code == Some(0)) => "well",
        _ if runs.iter().all(|run| matches!(run.state, RunState::Completed | RunState::Running)) => "partly",
        _ => "broken",
    };
    let tooltip = Tooltip {
        left: format!("{:.1}", from.min(1000.0 - width).max(0.0)),
        width: format!("{width:.1}"),
        words,
    };
    Some(Mark { class, tooltip })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{RequestCounts, RunId};

    fn run(number: i64, started_at: i64, created: u64) -> RunRecord {
        RunRecord {
            run: RunId(number),
            command: "import".into(),
            source: "users.csv".into(),
            state: RunState::Completed,
            exit_code: Some(0),
            stop_reason: None,
            started_at,
            ended_at: Some(started_at.saturating_add(1000)),
            sampled: None,
            tally: [(Outcome::Created, created)].into_iter().collect(),
            request_counts: RequestCounts::default(),
        }
    }

    #[test]
    fn a_year_of_nights_fits_a_phone() {
        let runs: Vec<RunRecord> = (0..400).map(|night| run(night, night * 86_400_000, 1)).collect();
        let line = RunTimeline::of(&runs, 1_400, 400 * 86_400_000).unwrap();
        assert!(line.marks.len() <= MARKS_SHOWN, "{}", line.marks.len());
        assert!(
            line.marks[0]
                .tooltip
                .words
                .starts_with("Runs 0 to 3, from 1970-01-01 00:00 UTC. 4 runs: created 4;")
        );
        let labels: Vec<&str> = line.chart.across.iter().map(|tick| tick.label.as_str()).collect();
        assert_eq!(labels, ["1970-01-01", "1970-07-19", "1971-02-04"]);
        assert!(line.chart.curves[0].path.starts_with("M0.0 33.3L"), "a thousand were there before");
        assert!(line.marks.iter().all(|mark| mark.class == "well"));
    }

    #[test]
    fn clocks_that_go_backwards_leave_no_mark_outside() {
        let mut runs = vec![run(1, i64::MAX - 5, 3), run(2, 10, 4), run(3, 5, 2)];
        runs[0].ended_at = Some(0);
        let line = RunTimeline::of(&runs, 0, 9000).unwrap();
        for mark in &line.marks {
            let (left, width): (f64, f64) =
                (mark.tooltip.left.parse().unwrap(), mark.tooltip.width.parse().unwrap());
            assert!(left >= 0.0 && left + width <= 1000.0, "{left} {width}");
        }
        assert!(RunTimeline::of(&runs[..1], 3, 0).is_none(), "one run is no line");
    }
}
