//! Reserves the moments at which the requests of a run may be sent, if several workers share the run and its rate.
//!
//! A ledger in a file has one worker, which keeps its rate by itself.

use std::time::Duration;

use tokio::time::Instant;

#[cfg(feature = "postgres")]
use super::postgres;

/// Reserves moments for one worker of a run.
pub(crate) enum RateReserver {
    /// On the server of the ledger.
    #[cfg(feature = "postgres")]
    Postgres(postgres::rate_limit::RateReserver),
}

impl RateReserver {
    /// Reserves `count` moments that are `interval` apart, of which `burst` may be at once after idle time. Waits while
    /// the ledger is unreachable. None if the worker no longer counts as alive, and so must not send.
    #[cfg_attr(not(feature = "postgres"), expect(unused_variables, reason = "nothing reserves then"))]
    pub(crate) async fn reserve(
        &mut self,
        count: u32,
        interval: Duration,
        burst: u32,
    ) -> Option<Vec<Instant>> {
        match *self {
            #[cfg(feature = "postgres")]
            RateReserver::Postgres(ref mut reserver) => reserver.reserve(count, interval, burst).await,
        }
    }

    /// Lets no worker send for this long.
    #[cfg_attr(not(feature = "postgres"), expect(unused_variables, reason = "nothing reserves then"))]
    pub(crate) async fn pause(&mut self, pause: Duration) {
        match *self {
            #[cfg(feature = "postgres")]
            RateReserver::Postgres(ref mut reserver) => reserver.pause(pause).await,
        }
    }
}
