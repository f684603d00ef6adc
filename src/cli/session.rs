//! The session that `import`, `retry` and `verify` run their loop in: signals, the connection to the target, metrics,
//! and the output at the end.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::JoinSet};
use tracing::{info, warn};

use super::{
    args,
    exit_code::{FinalMessage, code},
    metrics::MetricsExporter,
    now,
    output::{print_error, write_summary},
    process::{SignalGuard, listen_for_signals},
    target::{Target, open_api},
};
use crate::{
    error::Error,
    ledger::{self, Location, RateReserver},
    run::{Signal, share_rate},
    sender::{ExistingPolicy, Policy, Sender},
    simulator::Simulator,
    throttle::Throttle,
};

/// What the first and the last event of a command without a run are found by in a log.
pub(super) struct LogNames {
    pub(super) file: String,
    /// None if no API is asked, as is the host.
    pub(super) merchant: Option<String>,
    /// Host and port alone: a path may hold a secret.
    pub(super) host: Option<String>,
    pub(super) ledger: String,
    pub(super) version: &'static str,
}

impl LogNames {
    pub(super) fn new(file: &str, target: Option<&Target>, ledger: &Location) -> LogNames {
        LogNames {
            file: file.to_owned(),
            merchant: target.map(|target| target.of_ledger().merchant_id),
            host: target.map(Target::host),
            ledger: ledger.to_string(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    pub(super) fn log_begin(&self, what: &str) {
        let LogNames { file, merchant, host, ledger, version } = self;
        info!(file, merchant, host, ledger, version, "the {what} begins");
    }
}

/// The resources of one loop; dropping the session releases them.
pub(super) struct Session {
    pub(super) sender: Arc<Sender>,
    pub(super) signals: mpsc::Receiver<Signal>,
    pub(super) exporter: MetricsExporter,
    /// The variable of the proxy, if there is one.
    pub(super) proxy: Option<String>,
    /// What reserves the moments of a shared rate.
    pub(super) rate_sharing: RateSharing,
    /// Listeners for signals and for Prometheus.
    _tasks: JoinSet<()>,
    /// The embedded simulator, if it is the target.
    _simulator: Option<Simulator>,
}

impl Session {
    /// Listens for signals and opens everything that the requests and the metrics need, before anything is sent.
    ///
    /// # Errors
    /// If the target, or an address or file for the metrics, cannot be opened.
    pub(super) async fn open(
        target: Target,
        options: &args::TargetOptions,
        sending: &args::Sending,
        metrics: &args::Metrics,
        existing: ExistingPolicy,
        guard: &SignalGuard,
    ) -> Result<Session, Error> {
        let mut tasks = JoinSet::new();
        let signals = listen_for_signals(&mut tasks, guard)?;
        let of_ledger = target.of_ledger();
        let proxy = target.route.proxy().map(|proxy| proxy.variable().to_owned());
        let (sender, simulator) = connect(target, options, sending, existing).await?;
        let exporter = MetricsExporter::begin(metrics, &sender, &of_ledger, &mut tasks).await?;
        let rate_sharing = RateSharing::default();
        Ok(Session { sender, signals, exporter, proxy, rate_sharing, _tasks: tasks, _simulator: simulator })
    }

    /// Shares the rate with a run that may be in progress in this ledger. If that is impossible, such as without the right to
    /// write to the ledger, the rate is that of this command alone. The ledger may be unreachable for `outage_limit`.
    pub(super) async fn share_rate(&mut self, ledger: &Location, outage_limit: Duration) {
        match RateReserver::beside_runs(ledger, outage_limit).await {
            Ok(None) => {}
            Ok(Some(reserver)) => {
                self.rate_sharing.0.spawn(share_rate(reserver, &self.sender).await);
            }
            Err(error) => warn!(%error, "the rate is not shared with the runs of this ledger"),
        }
    }

    /// The header of the progress, with the address of the metrics if there is one.
    pub(super) fn header(&self, header: String) -> String {
        self.exporter.url.iter().fold(header, |header, url| format!("{header}\nMetrics at {url}"))
    }
}

/// What reserves the moments of a shared rate for a command beside runs, if the rate is shared.
#[derive(Default)]
pub(super) struct RateSharing(JoinSet<Result<(), ledger::Error>>);

impl RateSharing {
    /// Completes the work, which sends nothing without moments.
    ///
    /// # Errors
    /// That of the work, or if no moments can be reserved any more.
    pub(super) async fn while_shared<T>(
        &mut self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            done = work => done,
            Some(Ok(Err(error))) = self.0.join_next() => Err(error.into()),
        }
    }
}

/// The sender, with the user's rate and limits, and the simulator if it is the target; the simulator must outlive the
/// sender.
async fn connect(
    target: Target,
    args: &args::TargetOptions,
    sending: &args::Sending,
    existing: ExistingPolicy,
) -> Result<(Arc<Sender>, Option<Simulator>), Error> {
    let connections = sending.concurrency as usize;
    let (api, simulator) = open_api(target, args, &sending.timeouts, connections).await?;
    let throttle = Throttle::new(connections, sending.rate());
    let throttle = if sending.polite { throttle.polite() } else { throttle };
    let policy = Policy {
        max_attempts: sending.max_attempts,
        retry_initial: sending.retry_initial,
        retry_max: sending.retry_max,
        seed: now().unsigned_abs(),
        existing,
    };
    Ok((Arc::new(Sender::new(api, throttle, policy)), simulator))
}

/// Writes the summary, and the final message if there is one. Returns the exit code.
pub(super) fn show_end(
    output: &args::Output,
    json: &str,
    text: &str,
    code: u8,
    stop: Option<FinalMessage>,
) -> Result<u8, Error> {
    let shown = write_summary(output, json, text);
    // After a hangup there is no terminal to write to.
    if code != code::HANGUP {
        shown?;
    }
    if let Some(message) = stop {
        print_error(&message.to_string());
    }
    Ok(code)
}
