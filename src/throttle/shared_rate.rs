//! The rate of all workers of a run: this worker's share is a series of reserved moments.
//!
//! The reserver (the ledger on a server) gives each moment to one worker only, so that all workers together keep the rate
//! exactly: the user's rate, or the one that `rate_log` has found. A moment is void some milliseconds after it has
//! passed, because a worker that was stopped for a while must not send all its requests at once. Without moments nothing
//! is sent.
//!
//! A moment that a worker has reserved and does not use is lost to the other workers. So moments are reserved only for
//! requests that wait, and for few requests at once.

use std::{collections::VecDeque, future::pending, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep_until},
};

/// How late a moment of the user's rate may be used: timers are late by about a millisecond.
/// [`CATCH_UP_SHARE`](super::user_rate::CATCH_UP_SHARE) compensates for the moments that are lost by this.
const VALID_FOR: Duration = Duration::from_millis(8);

/// How late a moment may be used if the rate was found below the user's: as late as a timer of a busy machine is.
pub(super) const FOUND_VALID_FOR: Duration = Duration::from_millis(20);

/// The time for which moments are reserved at once, in seconds.
const RESERVED_FOR: f64 = 0.02;

/// If reserving takes long, moments are reserved for this multiple of that time, and at most for this number of seconds:
/// the next moments must arrive while half of the last ones are left.
const RESERVED_FOR_EXCHANGES: f64 = 4.0;
const RESERVED_FOR_MAX: f64 = 1.0;

/// The maximum number of moments that are reserved for [`RESERVED_FOR`].
const RESERVED_MAX: f64 = 32.0;

/// The first of the reserved moments is delayed by the rate if it is later than this: reserving it takes some time.
const NOT_DELAYED: Duration = Duration::from_millis(2);

/// A request of a throttle to the reserver of moments.
#[derive(Debug)]
pub(crate) enum RateRequest {
    /// Moments at which requests may be sent.
    Moments(MomentsRequest),
    /// What has happened to the HTTP requests is to be reported now.
    Report,
}

/// A request for moments, in order.
#[derive(Debug)]
pub(crate) struct MomentsRequest {
    /// Number of moments.
    pub(crate) count: u32,
    pub(crate) reply: oneshot::Sender<Reserved>,
}

/// The requests of a throttle, as the reserver of moments receives them.
#[derive(Debug)]
pub(crate) struct RateRequests {
    // Separate, because hundreds of refusals may come at once, and must not delay a request for moments, without which
    // nothing is sent.
    moments: mpsc::UnboundedReceiver<MomentsRequest>,
    report: Arc<Notify>,
}

impl RateRequests {
    /// The next request; a report is requested at this moment at the latest. None if the throttle is gone. Cancel-safe.
    pub(crate) async fn next(&mut self, report_at: Instant) -> Option<RateRequest> {
        // Reports first: a pause that the API requests concerns the moments of all workers.
        tokio::select! {
            biased;
            () = self.report.notified() => Some(RateRequest::Report),
            () = sleep_until(report_at) => Some(RateRequest::Report),
            request = self.moments.recv() => request.map(RateRequest::Moments),
        }
    }
}

/// Moments at which requests may be sent.
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(crate) moments: Vec<Instant>,
    /// The time between two of them.
    pub(crate) interval: Duration,
    /// Number of workers that share the rate.
    pub(crate) workers: u32,
    /// How long reserving them took.
    pub(crate) took: Duration,
}

/// The moments that this worker has reserved.
#[derive(Debug)]
pub(super) struct SharedRate {
    /// At most one request for moments is under way.
    wanted: mpsc::UnboundedSender<MomentsRequest>,
    /// The time between two requests at the user's rate.
    users_interval: Duration,
    /// How late a moment may be used.
    valid_for: Duration,
    /// Number of moments that are reserved at once.
    count: u32,
    reserved: VecDeque<Instant>,
    coming: Option<oneshot::Receiver<Reserved>>,
}

/// Whether a request was delayed by the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Delay {
    None,
    ByRate,
}

impl SharedRate {
    /// The receiver of the returned requests reserves the moments, at first one by one. `report` requests a report.
    pub(super) fn new(users_interval: Duration, report: Arc<Notify>) -> (SharedRate, RateRequests) {
        let (wanted, moments) = mpsc::unbounded_channel();
        let reserved = VecDeque::new();
        let rate =
            SharedRate { wanted, users_interval, valid_for: VALID_FOR, count: 1, reserved, coming: None };
        (rate, RateRequests { moments, report })
    }

    /// Waits for the next reserved moment. If the wait is cancelled, its moment is lost.
    pub(super) async fn wait(&mut self) -> Delay {
        let mut free_until = Instant::now();
        loop {
            self.reserve_if_few();
            let Some(moment) = self.reserved.pop_front() else {
                self.receive().await;
                free_until = Instant::now() + NOT_DELAYED;
                continue;
            };
            sleep_until(moment).await;
            if moment.elapsed() <= self.valid_for {
                return if moment > free_until { Delay::ByRate } else { Delay::None };
            }
        }
    }

    /// Requests more moments, if at most half of the last ones are left.
    fn reserve_if_few(&mut self) {
        if self.coming.is_some() || self.reserved.len() > self.count as usize / 2 {
            return;
        }
        let (reply, coming) = oneshot::channel();
        if self.wanted.send(MomentsRequest { count: self.count, reply }).is_ok() {
            self.coming = Some(coming);
        }
    }

    async fn receive(&mut self) {
        match &mut self.coming {
            Some(coming) => {
                let reserved = coming.await;
                self.coming = None;
                if let Ok(Reserved { moments, interval, workers, took }) = reserved {
                    self.valid_for = if interval > self.users_interval { FOUND_VALID_FOR } else { VALID_FOR };
                    self.count = reserved_at_once(interval.as_secs_f64(), workers, took);
                    self.reserved.extend(moments);
                }
            }
            // The reserver has ended, because the run ends.
            None => pending().await,
        }
    }
}

/// The number of moments that one of `workers` reserves at once, if the moments are `interval_s` apart and reserving them
/// takes `took`.
pub(super) fn reserved_at_once(interval_s: f64, workers: u32, took: Duration) -> u32 {
    let for_exchanges = RESERVED_FOR_EXCHANGES * took.as_secs_f64();
    let reserved_for = for_exchanges.clamp(RESERVED_FOR, RESERVED_FOR_MAX);
    let of_one_worker = reserved_for / (interval_s * f64::from(workers.max(1)));
    of_one_worker.clamp(1.0, RESERVED_MAX * reserved_for / RESERVED_FOR) as u32
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    fn shared() -> (SharedRate, RateRequests) {
        SharedRate::new(Duration::from_secs(1), Arc::default())
    }

    /// The next request for moments.
    async fn next(requests: &mut RateRequests) -> Option<MomentsRequest> {
        match requests.next(Instant::now() + Duration::from_secs(3600)).await? {
            RateRequest::Moments(request) => Some(request),
            RateRequest::Report => panic!("nobody asks for a report"),
        }
    }

    #[tokio::test]
    async fn each_moment_is_waited_for_and_more_are_asked_for_in_time() {
        let (mut rate, mut requests) = shared();
        let (began, gap) = (Instant::now() + Duration::from_millis(20), Duration::from_millis(5));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let (mut given, mut requested) = (0, Vec::new());
            while let Some(MomentsRequest { count, reply }) = next(&mut requests).await {
                requested.push(count);
                // The moments of a slow machine must not be void.
                let late = began.elapsed().as_millis() as u32 / 5;
                given = given.max(late);
                let moments = (0..count).map(|at| began + gap * (given + at)).collect();
                let _ = reply.send(Reserved { moments, interval: gap, workers: 1, took: Duration::ZERO });
                given += count;
            }
            requested
        });
        for at in 0..20 {
            rate.wait().await;
            assert!(began.elapsed() >= gap * at, "{at}");
        }
        drop(rate);
        let requested = server.join_next().await.unwrap().unwrap();
        assert!(requested.len() >= 5 && requested[1..].iter().all(|count| *count == 4), "{requested:?}");
    }

    #[tokio::test]
    async fn a_moment_long_past_is_void_and_without_moments_nothing_is_sent() {
        let (mut rate, mut requests) = shared();
        let (now, ahead) = (Instant::now(), Duration::from_millis(300));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut moment = now - Duration::from_millis(9);
            while let Some(MomentsRequest { count, reply }) = next(&mut requests).await {
                assert_eq!(count, 1);
                let interval = Duration::from_millis(20);
                let took = Duration::ZERO;
                reply.send(Reserved { moments: vec![moment], interval, workers: 1, took }).unwrap();
                // On a slow machine the second one may be void, too.
                moment = (now + ahead).max(Instant::now() + interval);
            }
        });
        assert_eq!(rate.wait().await, Delay::ByRate);
        assert!(now.elapsed() >= ahead, "the first one is void");
        server.shutdown().await;
        let more = tokio::time::timeout(Duration::from_millis(50), rate.wait()).await;
        assert!(more.is_err(), "nobody reserves");
    }
}
