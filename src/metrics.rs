//! Metrics of a run for Prometheus: over HTTP while it runs, and as a file for `node_exporter`'s textfile collector.
//!
//! Names and units follow Prometheus' conventions and are a contract with users' alerts. Nothing is counted here: the
//! counters of the run, its sender and the API client are read when metrics are requested, so metrics cost nothing
//! per row. The format is `OpenMetrics` text.
//!
//! Contains no customer's field, and must not influence the run.

mod server;

mod textfile;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

pub use self::{server::MetricsServer, textfile::Textfile};
use crate::{
    api::CALLS,
    ledger::{Activity, Outcome, RequestCounts},
    run::RunSnapshot,
    sender::Sender,
};

/// Prefix of every metric name.
const PREFIX: &str = "customer_import";

/// The metrics of one run.
pub struct Metrics {
    registry: Registry,
    collector: Arc<RunCollector>,
}

/// The latest state of the run, and its sender, which counts the requests.
struct RunCollector {
    sender: Arc<Sender>,
    latest: Mutex<Latest>,
}

#[derive(Clone, Default)]
struct Latest {
    snapshot: Option<RunSnapshot>,
    /// UTC milliseconds.
    last_success: Option<i64>,
    exit_code: Option<u8>,
}

impl Metrics {
    /// The metrics of the run that uses this sender, labeled with merchant and target.
    pub fn new(sender: Arc<Sender>, merchant: String, target: String) -> Metrics {
        let collector = Arc::new(RunCollector { sender, latest: Mutex::default() });
        let labels = [("merchant".into(), merchant.into()), ("target".into(), target.into())];
        let mut registry = Registry::with_prefix_and_labels(PREFIX, labels.into_iter());
        registry.register_collector(Box::new(Arc::clone(&collector)));
        Metrics { registry, collector }
    }

    /// Stores the current state of the run.
    pub fn show(&self, snapshot: &RunSnapshot) {
        self.collector.latest().snapshot = Some(snapshot.clone());
    }

    /// Stores when a run last read its source to the end, in UTC milliseconds.
    pub fn succeeded(&self, at: i64) {
        self.collector.latest().last_success = Some(at);
    }

    /// Stores the exit code of the run.
    pub fn ended(&self, exit_code: u8) {
        self.collector.latest().exit_code = Some(exit_code);
    }

    /// All metrics as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to memory cannot fail.
        let written = text::encode(&mut text, &self.registry);
        debug_assert!(written.is_ok());
        text
    }
}

impl RunCollector {
    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RunCollector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RunCollector")
    }
}

impl Collector for RunCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let latest = self.latest().clone();
        let mut encoder = MetricEncoder(encoder);
        if let Some(snapshot) = latest.snapshot {
            encoder.rows(&snapshot)?;
            encoder.run(&snapshot)?;
        }
        encoder.requests(&self.sender)?;
        encoder.gauge(
            "last_success_timestamp_seconds",
            "When a run last came to the end of its source (exit code 0 or 3).",
            latest.last_success.map(|at| at as f64 / 1000.0),
        )?;
        encoder.gauge(
            "exit_code",
            "The exit code of the run, once it has ended.",
            latest.exit_code.map(f64::from),
        )
    }
}

struct MetricEncoder<'a>(DescriptorEncoder<'a>);

impl MetricEncoder<'_> {
    fn rows(&mut self, snapshot: &RunSnapshot) -> fmt::Result {
        let RunSnapshot { heartbeat, .. } = snapshot;
        let tally = snapshot.part.map_or(snapshot.tally, |part| part.tally);
        let help = "Rows that this process has settled, by outcome.";
        let mut rows = self.0.encode_descriptor("rows", help, None, MetricType::Counter)?;
        for outcome in Outcome::ALL.into_iter().filter(|outcome| *outcome != Outcome::Pending) {
            let labels = [("outcome", outcome.name())];
            ConstCounter::new(tally.get(outcome)).encode(rows.encode_family(&labels)?)?;
        }
        let pending = tally.get(Outcome::Pending) as f64;
        self.gauge("rows_pending", "Rows that this process has claimed and not settled.", Some(pending))?;
        let total = heartbeat.total.map(|total| total as f64);
        self.gauge("rows_expected", "Rows of the whole source, estimated from the bytes read.", total)?;
        let retrying = heartbeat.retrying as f64;
        self.gauge("rows_retrying", "Rows that wait to be tried again.", Some(retrying))?;
        let help = "Rows of which it is not known whether their customers were created.";
        self.gauge("rows_in_doubt", help, Some(heartbeat.in_doubt as f64))?;
        let help = "Whether all requests wait for the API to come back.";
        let outage = heartbeat.activity == Activity::Waiting;
        self.gauge("outage", help, Some(f64::from(u8::from(outage))))?;
        let help = "Requests a second: the user's rate, or what is held under a limit of the API.";
        self.gauge("throttle_requests_per_second", help, heartbeat.rate.map(|rate| rate.per_second))
    }

    /// The run as a whole: what each of its workers exposes alike.
    fn run(&mut self, snapshot: &RunSnapshot) -> fmt::Result {
        let help = "Rows of the whole run, by outcome.";
        let mut rows = self.0.encode_descriptor("run_rows", help, None, MetricType::Gauge)?;
        for outcome in Outcome::ALL {
            let labels = [("outcome", outcome.name())];
            ConstGauge::new(snapshot.tally.get(outcome) as f64).encode(rows.encode_family(&labels)?)?;
        }
        let RequestCounts { requests, retries, throttled } = snapshot.request_counts;
        self.gauge("run_requests", "Requests of the whole run.", Some(requests as f64))?;
        self.gauge("run_retries", "Requests of the whole run that repeated a step.", Some(retries as f64))?;
        let help = "Answers of the whole run with status 429.";
        self.gauge("run_throttled", help, Some(throttled as f64))?;
        let workers = snapshot.part.map(|part| part.workers as f64);
        self.gauge("run_workers", "Processes that work on the run.", workers)
    }

    fn requests(&mut self, sender: &Sender) -> fmt::Result {
        let help = "Requests that have ended, by step and HTTP status; none where no answer came.";
        let mut requests = self.0.encode_descriptor("requests", help, None, MetricType::Counter)?;
        for step in CALLS {
            for (status, count) in sender.api_metrics().statuses(step) {
                let status = status.map_or_else(|| "none".into(), |status| status.to_string());
                let labels = [("step", step.name()), ("status", &status)];
                ConstCounter::new(count).encode(requests.encode_family(&labels)?)?;
            }
        }
        let help = "How long requests took, up to the last byte of the answer.";
        let name = "request_duration_seconds";
        let mut durations = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for step in CALLS {
            let latency = sender.api_metrics().latency(step);
            let count = latency.buckets.iter().map(|(_, count)| count).sum();
            let labels = [("step", step.name())];
            let mut family = durations.encode_family(&labels)?;
            family.encode_histogram::<NoLabelSet>(latency.seconds, count, &latency.buckets, None)?;
        }
        let help = "Requests that repeated a step.";
        let retries = self.0.encode_descriptor("retries", help, None, MetricType::Counter)?;
        ConstCounter::new(sender.request_counts().retries).encode(retries)?;
        let in_flight = sender.throttle().in_flight() as f64;
        self.gauge("requests_in_flight", "Requests under way.", Some(in_flight))
    }

    /// Encodes a gauge, if it has a value.
    fn gauge(&mut self, name: &str, help: &str, value: Option<f64>) -> fmt::Result {
        let Some(value) = value else { return Ok(()) };
        let gauge = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(gauge)
    }
}
