//! The rate of all processes that send requests for a ledger: reserves the moments at which requests may be sent, and
//! keeps what was found out about the API's limit.
//!
//! A ledger in a file has one worker, which keeps its rate by itself.

use std::time::Duration;

use tokio::time::Instant;

#[cfg(feature = "postgres")]
use super::postgres;
use super::{error::Error, location::Location};

/// Reserves moments for one worker of a run, or for a command beside runs.
pub(crate) enum RateReserver {
    /// On the server of the ledger.
    #[cfg(feature = "postgres")]
    Postgres(postgres::rate_limit::RateReserver),
}

/// Moments at which requests may be sent.
#[derive(Debug)]
pub(crate) struct ReservedMoments {
    pub(crate) moments: Vec<Instant>,
    /// The time between two of them.
    pub(crate) interval: Duration,
    /// Number of workers that are alive.
    pub(crate) workers: u32,
    /// How long it takes to reserve moments.
    pub(crate) took: Duration,
}

/// What the workers have stored about the rate.
#[derive(Debug)]
pub(crate) struct StoredRate {
    /// What they have found out, as one of them wrote it; none if nothing is known.
    pub(crate) state: Option<String>,
    /// A moment, and the seconds from the state's beginning to that moment.
    pub(crate) moment: Instant,
    pub(crate) seconds: f64,
    /// The last moment that is reserved.
    pub(crate) reserved_until: Instant,
}

/// What a worker stores about the rate.
#[derive(Debug)]
#[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "nothing is stored then"))]
pub(crate) struct NewRate {
    pub(crate) state: String,
    /// The least time between two requests of all workers.
    pub(crate) interval: Duration,
    /// The end of a pause of all workers, if there is one.
    pub(crate) paused_until: Option<Instant>,
}

impl RateReserver {
    /// Reserves moments for a command that is no worker, such as `verify`, for as long as the command runs; none for a
    /// ledger in a file, whose run keeps its rate by itself. The ledger may be unreachable for `outage_limit`.
    ///
    /// # Errors
    /// If the ledger cannot be written to.
    #[cfg_attr(not(feature = "postgres"), expect(unused_variables, reason = "a file is always reachable"))]
    pub(crate) async fn beside_runs(
        ledger: &Location,
        outage_limit: Duration,
    ) -> Result<Option<RateReserver>, Error> {
        match ledger {
            Location::File(_) => Ok(None),
            #[cfg(feature = "postgres")]
            Location::Postgres(server) => {
                let reserver = postgres::rate_limit::RateReserver::beside_runs(server, outage_limit).await?;
                Ok(Some(RateReserver::Postgres(reserver)))
            }
        }
    }

    /// Reserves `count` moments that are at least `interval` apart, of which `burst` may be at once after idle time. Waits
    /// while the ledger is unreachable. None if the worker no longer counts as alive, and so must not send.
    ///
    /// # Errors
    /// If the ledger has been unreachable for too long, or refuses.
    #[cfg_attr(not(feature = "postgres"), expect(unused_variables, reason = "nothing reserves then"))]
    pub(crate) async fn reserve(
        &mut self,
        count: u32,
        interval: Duration,
        burst: u32,
    ) -> Result<Option<ReservedMoments>, Error> {
        match *self {
            #[cfg(feature = "postgres")]
            RateReserver::Postgres(ref mut reserver) => reserver.reserve(count, interval, burst).await,
        }
    }

    /// Stores what `change` makes of the stored rate. `change` is called again with a newer one if another worker was
    /// faster; the result of its last call is stored. Returns whether it is: not if the ledger is unreachable or this worker
    /// no longer counts as alive.
    #[cfg_attr(not(feature = "postgres"), expect(unused_variables, reason = "nothing is stored then"))]
    pub(crate) async fn store(&mut self, change: impl FnMut(&StoredRate) -> NewRate) -> bool {
        match *self {
            #[cfg(feature = "postgres")]
            RateReserver::Postgres(ref mut reserver) => reserver.store(change).await,
        }
    }
}
