//! Computes the geometry of a chart from samples: curves, ticks and tooltips.
//!
//! Coordinates lie in a plane of 1000 × 100 that the page stretches to any width. Text is not part of it, so it keeps its
//! size. A curve consists of steps, because a sample covers an interval, and has gaps where a sample has no value.

use std::fmt::Write as _;

use crate::ledger::Sample;

/// Size of the plane.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 100.0;

/// Maximum number of ticks on the time axis: more do not fit a phone.
const TICKS_ACROSS: f64 = 4.0;

/// Maximum number of ticks on the value axis.
const TICKS_UP: f64 = 5.0;

/// Fewer samples than this are described better by a sentence.
const SAMPLES_MIN: usize = 3;

/// Readable distances between two ticks, in seconds.
const TIME_STEPS: [f64; 26] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0,
    300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 10800.0, 21600.0, 43200.0,
];

const DAY: f64 = 86_400.0;

/// How values map to heights.
#[derive(Clone, Copy)]
pub(super) enum Scale {
    /// From zero: for rates.
    Linear,
    /// Logarithmic: for latencies, whose maximum is a hundred times the median.
    Logarithmic,
}

pub(super) struct Chart {
    pub(super) curves: Vec<Curve>,
    pub(super) across: Vec<Tick>,
    pub(super) up: Vec<Tick>,
    pub(super) tooltips: Vec<Tooltip>,
}

pub(super) struct Curve {
    /// Its class in the style sheet.
    pub(super) class: &'static str,
    pub(super) label: &'static str,
    pub(super) path: String,
    /// The area below the first curve of a linear chart.
    pub(super) area: Option<String>,
}

/// A label and its position, in percent from the left or the top.
pub(super) struct Tick {
    pub(super) at: String,
    pub(super) label: String,
    /// Whether it is at the far end, where a centered label would leave the page.
    pub(super) is_last: bool,
}

/// The tooltip of a sample.
pub(super) struct Tooltip {
    pub(super) left: String,
    pub(super) width: String,
    pub(super) words: String,
}

/// A curve to draw.
pub(super) struct CurveSpec {
    /// Its class in the style sheet.
    pub(super) class: &'static str,
    pub(super) label: &'static str,
    /// The value of a sample; `None` is a gap.
    pub(super) value: fn(&Sample) -> Option<f64>,
}

/// The chart of these samples; `None` if there are too few.
pub(super) fn chart(
    samples: &[Sample],
    specs: &[CurveSpec],
    scale: Scale,
    label: fn(f64) -> String,
    words: fn(&Sample) -> String,
) -> Option<Chart> {
    let end = samples.last().filter(|_| samples.len() >= SAMPLES_MIN)?.to.as_secs_f64().max(0.001);
    let values = || samples.iter().flat_map(|sample| specs.iter().filter_map(|spec| (spec.value)(sample)));
    let highest = values().filter(|value| *value > 0.0).reduce(f64::max)?;
    let lowest = values().filter(|value| *value > 0.0).reduce(f64::min)?;
    let axis = Axis::new(scale, lowest, highest);
    let left = |seconds: f64| format!("{:.1}", seconds / end * WIDTH);
    let tooltips = samples.iter().map(|sample| Tooltip {
        left: left(sample.from.as_secs_f64()),
        width: left(sample.seconds()),
        words: words(sample),
    });
    let curves = specs.iter().enumerate().map(|(at, CurveSpec { class, label, value })| {
        let filled = at == 0 && matches!(scale, Scale::Linear);
        let (path, area) = draw(samples, *value, end, &axis);
        Curve { class, label, path, area: filled.then_some(area) }
    });
    Some(Chart {
        // A curve without values does not appear in the legend.
        curves: curves.filter(|curve| !curve.path.is_empty()).collect(),
        across: time_ticks(end),
        up: axis.ticks.iter().map(|tick| tick_at(axis.height(*tick), label(*tick))).collect(),
        tooltips: tooltips.collect(),
    })
}

/// A curve through points, from left to right; each is a share of the width and a value. `None` if all values are
/// zero. The caller defines the meaning of the width.
pub(super) fn growth(points: &[(f64, f64)], label: fn(f64) -> String) -> Option<Chart> {
    let highest = points.iter().map(|(_, value)| *value).filter(|value| *value > 0.0).reduce(f64::max)?;
    let axis = Axis::new(Scale::Linear, 0.0, highest);
    let point = |(at, value): &(f64, f64)| format!("{:.1} {:.1}", at * WIDTH, axis.height(*value));
    let line = points.iter().map(point).collect::<Vec<_>>().join("L");
    let left = points.first().map_or(0.0, |(at, _)| at * WIDTH);
    let right = points.last().map_or(WIDTH, |(at, _)| at * WIDTH);
    let area = Some(format!("M{left:.1} {HEIGHT}L{line}L{right:.1} {HEIGHT}Z"));
    Some(Chart {
        curves: vec![Curve { class: "customers", label: "customers", path: format!("M{line}"), area }],
        across: Vec::new(),
        up: axis.ticks.iter().map(|tick| tick_at(axis.height(*tick), label(*tick))).collect(),
        tooltips: Vec::new(),
    })
}

/// The steps of a curve, and the area below them.
fn draw(samples: &[Sample], value: fn(&Sample) -> Option<f64>, end: f64, axis: &Axis) -> (String, String) {
    let (mut path, mut area, mut continues) = (String::new(), String::new(), false);
    for sample in samples {
        let Some(value) = value(sample) else {
            continues = false;
            continue;
        };
        let (from, to) = (sample.from.as_secs_f64() / end * WIDTH, sample.to.as_secs_f64() / end * WIDTH);
        let height = axis.height(value);
        // Writing to a String cannot fail.
        let _ = match continues {
            true => write!(path, "V{height:.1}H{to:.1}"),
            false => write!(path, "M{from:.1} {height:.1}H{to:.1}"),
        };
        let _ = write!(area, "M{from:.1} {HEIGHT}V{height:.1}H{to:.1}V{HEIGHT}Z");
        continues = true;
    }
    (path, area)
}

struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Axis {
    fn new(scale: Scale, lowest: f64, highest: f64) -> Axis {
        match scale {
            Scale::Linear => {
                let step = round_up(highest / TICKS_UP);
                let count = (highest / step).ceil().clamp(1.0, TICKS_UP) as u32;
                let ticks: Vec<f64> = (0..=count).map(|tick| f64::from(tick) * step).collect();
                Axis { scale, low: 0.0, high: f64::from(count) * step, ticks }
            }
            Scale::Logarithmic => {
                let (low, high) = (lowest.log10().floor() as i32, highest.log10().ceil() as i32);
                // At least one decade, or the height would be zero.
                let high = high.max(low + 1);
                let every = ((f64::from(high - low) / TICKS_UP).ceil() as usize).max(1);
                let ticks = (low..=high).step_by(every).map(|decade| 10_f64.powi(decade)).collect();
                Axis { scale, low: 10_f64.powi(low), high: 10_f64.powi(high), ticks }
            }
        }
    }

    /// The distance of a value from the top.
    fn height(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => value / self.high,
            Scale::Logarithmic => (value.max(self.low) / self.low).log10() / (self.high / self.low).log10(),
        };
        HEIGHT * (1.0 - share.clamp(0.0, 1.0))
    }
}

/// The next of 1, 2, 2.5, 5, 10, 20 …
fn round_up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|step| step * decade >= value * 0.999_999);
    step.unwrap_or(10.0) * decade
}

fn time_ticks(end: f64) -> Vec<Tick> {
    let fits = |step: &f64| end / step <= TICKS_ACROSS;
    let step = TIME_STEPS.into_iter().find(fits).unwrap_or_else(|| (end / TICKS_ACROSS / DAY).ceil() * DAY);
    let ticks = (0..=TICKS_ACROSS as u32)
        .map(|tick| f64::from(tick) * step)
        .filter(|seconds| *seconds <= end * 1.001);
    ticks.map(|seconds| tick_at(100.0 * seconds / end, time_label(seconds, step))).collect()
}

fn time_label(seconds: f64, step: f64) -> String {
    match step {
        _ if seconds == 0.0 => "0".into(),
        ..1.0 => format!("{} ms", (seconds * 1000.0).round()),
        ..60.0 => format!("{} s", seconds.round()),
        ..3600.0 => format!("{} min", (seconds / 60.0).round()),
        ..DAY => format!("{} h", (seconds / 3600.0).round()),
        _ => format!("{} d", (seconds / DAY).round()),
    }
}

fn tick_at(at: f64, label: String) -> Tick {
    Tick { at: format!("{:.2}", at.clamp(0.0, 100.0)), label, is_last: at > 95.0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sample(from: u64, to: u64, succeeded: u64) -> Sample {
        let (from, to) = (Duration::from_secs(from), Duration::from_secs(to));
        Sample { from, to, succeeded, ..Sample::default() }
    }

    fn rate(sample: &Sample) -> Option<f64> {
        (sample.succeeded > 0).then(|| sample.succeeded as f64 / sample.seconds())
    }

    fn draw_rates(samples: &[Sample], scale: Scale) -> Option<Chart> {
        let rates = CurveSpec { class: "a", label: "rows", value: rate };
        chart(samples, &[rates], scale, |value| value.to_string(), |_| String::new())
    }

    #[test]
    fn a_curve_goes_in_steps_and_has_gaps() {
        let samples = [sample(0, 1, 50), sample(1, 2, 100), sample(2, 3, 0), sample(3, 4, 25)];
        let chart = draw_rates(&samples, Scale::Linear).unwrap();
        let expected = "M0.0 50.0H250.0V0.0H500.0M750.0 75.0H1000.0";
        assert_eq!(chart.curves[0].path, expected);
        assert!(chart.curves[0].area.is_some());
        let labels: Vec<&str> = chart.across.iter().map(|tick| tick.label.as_str()).collect();
        assert_eq!(labels, ["0", "1 s", "2 s", "3 s", "4 s"]);
        let up: Vec<(&str, &str)> = chart.up.iter().map(|tick| (&*tick.at, &*tick.label)).collect();
        assert_eq!(up.len(), 6);
        assert_eq!((up[0], up[1], up[5]), (("100.00", "0"), ("80.00", "20"), ("0.00", "100")));
    }

    #[test]
    fn nothing_to_show_is_no_chart() {
        assert!(draw_rates(&[], Scale::Linear).is_none());
        let idle = [sample(0, 1, 0), sample(1, 2, 0), sample(2, 3, 0)];
        assert!(draw_rates(&idle, Scale::Logarithmic).is_none());
        assert!(draw_rates(&[sample(0, 1, 7), sample(1, 2, 7)], Scale::Linear).is_none(), "two say little");
    }

    #[test]
    fn ticks_are_few_and_nothing_leaves_the_plane() {
        for end in [1, 7, 59, 61, 3_599, 10_000, 86_400, 1_000_000, 31_536_000, u64::MAX / 2_000] {
            for most in [1, 3, 99, 1_000, 7_777_777, u64::MAX] {
                for scale in [Scale::Linear, Scale::Logarithmic] {
                    let samples = [sample(0, end / 2, 1), sample(end / 2, end, most), sample(end, end, 0)];
                    let chart = draw_rates(&samples, scale).unwrap();
                    assert!((1..=6).contains(&chart.across.len()), "{end}");
                    assert!((2..=6).contains(&chart.up.len()), "{end} {most}: {}", chart.up.len());
                    let path = &chart.curves[0].path;
                    assert!(!path.contains("NaN") && !path.contains("inf") && !path.contains('-'), "{path}");
                }
            }
        }
    }

    #[test]
    fn times_read_well() {
        for (end, last) in [(0.3, "300 ms"), (8.0, "8 s"), (100.0, "90 s"), (400.0, "6 min"), (5e4, "12 h")] {
            assert_eq!(time_ticks(end).pop().unwrap().label, last, "{end}");
        }
        for (end, last) in [(44.0, "40 s"), (2_500.0, "40 min"), (3.6e4, "9 h"), (1e5, "24 h")] {
            assert_eq!(time_ticks(end).pop().unwrap().label, last, "the time axis of {end} s is not empty");
        }
        assert_eq!(time_ticks(9e5).pop().unwrap().label, "9 d");
    }
}
