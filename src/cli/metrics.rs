//! `--metrics-listen` and `--metrics-textfile`: what they need before a run, while it goes on and at its end.

use std::{path::Path, sync::Arc, time::Instant};

use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::{args, now};
use crate::{
    error::Error,
    ledger::{self, Reader},
    metrics::{Metrics, MetricsServer, Textfile},
    run::RunSnapshot,
    sender::Sender,
};

/// What of a run can be seen by Prometheus; nothing where nobody asked for it.
pub(super) struct MetricsExporter {
    metrics: Option<Arc<Metrics>>,
    textfile: Option<Textfile>,
    /// Whether it was said that the file cannot be written: once is enough.
    complained: bool,
    /// Where to ask, for people.
    pub(super) url: Option<String>,
}

impl MetricsExporter {
    /// Takes the address and looks at the file, before anything is sent.
    ///
    /// # Errors
    /// Where one of them cannot be had.
    pub(super) async fn begin(
        args: &args::Metrics,
        sender: &Arc<Sender>,
        target: &ledger::Target,
        tasks: &mut JoinSet<()>,
    ) -> Result<MetricsExporter, Error> {
        let asked = args.metrics_listen.is_some() || args.metrics_textfile.is_some();
        let metrics = asked.then(|| {
            let (merchant, target) = (target.merchant_id.clone(), target.base_url.clone());
            Arc::new(Metrics::new(Arc::clone(sender), merchant, target))
        });
        let mut url = None;
        if let (Some(address), Some(metrics)) = (args.metrics_listen, &metrics) {
            let listener = MetricsServer::bind(address).await.map_err(|error| {
                let text = format!("--metrics-listen: cannot listen on {address}: {error}");
                Error::usage(text, "choose another address; port 0 takes any that is free")
            })?;
            let place = format!("http://{}/metrics", listener.address());
            info!(url = %place, "metrics can be asked for");
            url = Some(place);
            tasks.spawn(listener.serve(Arc::clone(metrics)));
        }
        let textfile = args.metrics_textfile.as_deref().map(open_textfile).transpose()?;
        Ok(MetricsExporter { metrics, textfile, complained: false, url })
    }

    /// Reads from the ledger what earlier runs have to say.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(super) async fn remember(&self, ledger: &Path) -> Result<(), Error> {
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

    /// What the sender counts by itself has changed; the file follows when it is due.
    pub(super) fn refresh(&mut self) {
        let Some(metrics) = &self.metrics else { return };
        let now = Instant::now();
        if let Some(textfile) = self.textfile.as_mut().filter(|textfile| textfile.is_due(now))
            && let Err(error) = textfile.write(metrics, now)
            && !self.complained
        {
            self.complained = true;
            warn!(%error, "--metrics-textfile cannot be written; the run goes on");
        }
    }

    /// The last figures; `completed` where the source was read to its end.
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
