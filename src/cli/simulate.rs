//! Serves the simulator: by itself with `simulate`, or inside another command with `--simulator`.

use tokio::task::JoinSet;

use super::{
    args, environment, exit_code::code, listen_for_signals, logging::LogWriter, logging::start_log, print,
    process::SignalGuard, runtime,
};
use crate::{
    error::Error,
    simulator::{self, Simulator},
};

pub(super) fn simulate(args: &args::Simulate, guard: &SignalGuard) -> Result<u8, Error> {
    start_log(&args.log, LogWriter::stderr())?;
    runtime()?.block_on(async {
        let mut tasks = JoinSet::new();
        let mut signals = listen_for_signals(&mut tasks, guard)?;
        let options = simulator::Options {
            listen: args.listen,
            seed: args.seed,
            latency: args.latency,
            rate_limit: args.rate_limit,
            faults: args.faults.clone(),
            api_key: environment("JUSPAY_API_KEY"),
            merchant_id: args.merchant_id.clone(),
            profile: args.profile.into(),
            record: false,
        };
        let simulator = Simulator::start(options).await.map_err(|error| {
            let text = format!("cannot listen on {}: {error}", args.listen);
            Error::usage(text, "choose another address with --listen, such as 127.0.0.1:0")
        })?;
        print(&format!(
            "listening on http://{0}\nimport with: --base-url http://{0} (Ctrl-C ends)\n",
            simulator.address()
        ))?;
        signals.recv().await;
        simulator.stop().await;
        Ok(code::OK)
    })
}

pub(super) async fn embed_simulator() -> Result<Simulator, Error> {
    let options = simulator::Options { record: false, ..simulator::Options::default() };
    Simulator::start(options)
        .await
        .map_err(|error| Error::Bug(format!("the embedded simulator does not start ({error})")))
}
