//! Exports metrics during a run: `--metrics-listen` and `--metrics-textfile`.
//!
//! Address and file are checked before anything is sent. Later, metrics must not stop a run: if the file cannot be
//! written, that is logged, and the run continues.

use std::{path::Path, sync::Arc, time::Instant};

use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::{args, now};
use crate::{
    error::Error,
    ledger::{self, Location, Reader},
    metrics::{Metrics, MetricsServer, Textfile},
    run::RunSnapshot,
    sender::Sender,
};

/// The metrics exports of a run; does nothing if neither option is given.
pub(super) struct MetricsExporter {
    metrics: Option<Arc<Metrics>>,
    textfile: Option<Textfile>,
    /// Whether a write error of the file has been logged; it is logged once.
    write_error_logged: bool,
    /// The URL of the metrics, for display.
    pub(super) url: Option<String>,
}

impl MetricsExporter {
    /// Binds the address and checks the file, before anything is sent.
    pub(super) async fn begin(
        args: &args::Metrics,
        sender: &Arc<Sender>,
        target: &ledger::Target,
        tasks: &mut JoinSet<()>,
    ) -> Result<MetricsExporter, Error> {
        let requested = args.metrics_listen.is_some() || args.metrics_textfile.is_some();
        let metrics = requested.then(|| {
            let (merchant, target) = (target.merchant_id.clone(), target.base_url.clone());
            Arc::new(Metrics::new(Arc::clone(sender), merchant, target))
        });
        let mut url = None;
        if let (Some(address), Some(metrics)) = (args.metrics_listen, &metrics) {
            let listener = MetricsServer::bind(address).await.map_err(|error| {
                let text = format!("--metrics-listen: cannot listen on {address}: {error}");
                Error::usage(text, "choose another address; port 0 takes any that is free")
            })?;
            let metrics_url = format!("http://{}/metrics", listener.address());
            info!(url = %metrics_url, "serving metrics");
            url = Some(metrics_url);
            tasks.spawn(listener.serve(Arc::clone(metrics)));
        }
        let textfile = args.metrics_textfile.as_deref().map(open_textfile).transpose()?;
        Ok(MetricsExporter { metrics, textfile, write_error_logged: false, url })
    }

    /// Loads the time of the last success from the ledger.
    pub(super) async fn load_last_success(&self, ledger: &Location) -> Result<(), Error> {
        if let Some(metrics) = &self.metrics
            && let Some(at) = Reader::open(ledger).await?.last_success().await?
        {
            metrics.succeeded(at);
        }
        Ok(())
    }

    pub(super) fn show(&mut self, progress: &RunSnapshot) {
        let Some(metrics) = &self.metrics else { return };
        metrics.show(progress);
        self.refresh();
    }

    /// Writes the file if it is due.
    pub(super) fn refresh(&mut self) {
        let Some(metrics) = &self.metrics else { return };
        let now = Instant::now();
        if let Some(textfile) = self.textfile.as_mut().filter(|textfile| textfile.is_due(now))
            && let Err(error) = textfile.write(metrics, now)
            && !self.write_error_logged
        {
            self.write_error_logged = true;
            warn!(%error, "--metrics-textfile cannot be written; the run continues");
        }
    }

    /// Exports the final metrics; `completed` if the source was read to its end.
    pub(super) fn end(&mut self, exit_code: u8, completed: bool) {
        let Some(metrics) = &self.metrics else { return };
        metrics.ended(exit_code);
        if completed {
            metrics.succeeded(now());
        }
        if let Some(textfile) = &mut self.textfile
            && let Err(error) = textfile.write(metrics, Instant::now())
        {
            error!(%error, "--metrics-textfile cannot be written; it does not have the end of the run");
        }
    }
}

fn open_textfile(path: &Path) -> Result<Textfile, Error> {
    Textfile::new(path, Instant::now()).map_err(|error| {
        let text = format!("--metrics-textfile: cannot write {}: {error}", path.display());
        Error::usage(text, "give a file in a folder that exists and can be written, such as import.prom")
    })
}
