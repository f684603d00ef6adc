//! One rate for all processes that send requests for a ledger on a server: reserves moments for the requests of this
//! process, and reports what the API makes of them.
//!
//! Which moments there are is decided by the ledger (`ledger/rate_reserver.rs`), and what a report means by the throttle
//! (`throttle/rate_log.rs`). A ledger in a file has one worker, whose throttle keeps the rate alone.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    ledger::{Error, NewRate, RateReserver, ReservedMoments, StoredRate},
    sender::Sender,
    throttle::{MomentsRequest, RateRequest, RateRequests, Reserved, Timeline},
};

/// When a report is repeated that could not be stored.
const REPORT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Makes the rate of this process the shared one, before the first request. Nothing is sent unless the returned future
/// runs: it reserves moments for the requests, and reports what happens to them, until the worker is no longer alive. The
/// future ends with an error if it has waited too long for the ledger.
pub(crate) async fn share_rate(
    reserver: RateReserver,
    sender: &Arc<Sender>,
) -> impl Future<Output = Result<(), Error>> + use<> {
    let requests = sender.throttle().share_rate().await;
    reserve_and_report(reserver, requests, Arc::clone(sender))
}

async fn reserve_and_report(
    mut reserver: RateReserver,
    mut requests: RateRequests,
    sender: Arc<Sender>,
) -> Result<(), Error> {
    let rate = sender.throttle().user_limit();
    let (interval, burst) = rate.map_or((Duration::ZERO, 1), |rate| (rate.interval(), rate.burst.get()));
    // Nothing is sent before the first rate is stored.
    let mut report_after = report(&mut reserver, &sender).await;
    let mut report_at = Instant::now() + report_after;
    while let Some(request) = requests.next(report_at).await {
        match request {
            RateRequest::Moments(MomentsRequest { count, reply }) => {
                let reserved = reserver.reserve(count, interval, burst).await?;
                let Some(ReservedMoments { moments, interval, workers, took }) = reserved else {
                    return Ok(());
                };
                // The request that waited may have been given up.
                let _ = reply.send(Reserved { moments, interval, workers, took });
            }
            RateRequest::Report => {
                if sender.throttle().has_report() {
                    report_after = report(&mut reserver, &sender).await;
                }
                report_at = Instant::now() + report_after;
            }
        }
    }
    Ok(())
}

/// Replays what has happened to the requests of this process on the rate that the workers have found. Returns when to
/// report again.
async fn report(reserver: &mut RateReserver, sender: &Sender) -> Duration {
    let throttle = sender.throttle();
    let mut last = None;
    let replayed = |stored: &StoredRate| {
        let timeline = Timeline { moment: stored.moment, seconds: stored.seconds };
        let replay = throttle.replay(stored.state.as_deref(), timeline, stored.reserved_until);
        let (state, interval) = (replay.state(), replay.interval());
        let new = NewRate { state, interval, paused_until: replay.paused_until() };
        last = Some(replay);
        new
    };
    let is_stored = reserver.store(replayed).await;
    match last.filter(|_| is_stored) {
        Some(replay) => {
            let report_after = replay.report_after();
            throttle.accept(replay);
            report_after
        }
        None => REPORT_AGAIN_AFTER,
    }
}
