//! The user's rate over all workers of a run: this worker's share is a series of reserved moments.
//!
//! Whoever reserves them (the ledger on a server) hands each moment out once, over all workers, so that together they
//! keep the rate exactly. A moment that has passed for longer than [`VALID_FOR`] is void: a worker that was stopped for a
//! while must not send at once what it had reserved. Without moments nothing is sent.
//!
//! Moments are reserved for requests that wait, and for few of them at once: what a worker has reserved and does not use
//! is lost to the others.

use std::{collections::VecDeque, future::pending, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use super::Rate;

/// How late a reserved moment may be used: timers are late by about a millisecond. What is lost by this is made good by
/// [`CATCH_UP_SHARE`](super::CATCH_UP_SHARE).
const VALID_FOR: Duration = Duration::from_millis(8);

/// Moments for this time are reserved at once.
const RESERVED_FOR: f64 = 0.02;

/// The maximum number of moments that are reserved at once.
const RESERVED_MAX: f64 = 32.0;

/// What a throttle wants of whoever reserves moments.
#[derive(Debug)]
pub(crate) enum RateRequest {
    /// So many moments at which requests may be sent, in order.
    Moments(u32, oneshot::Sender<Vec<Instant>>),
    /// No moments for any worker for so long: the API asks for a pause.
    Pause(Duration),
}

/// The moments that this worker has reserved.
#[derive(Debug)]
pub(super) struct SharedRate {
    wanted: mpsc::Sender<RateRequest>,
    /// Number of moments that are reserved at once.
    count: u32,
    reserved: VecDeque<Instant>,
    coming: Option<oneshot::Receiver<Vec<Instant>>>,
}

impl SharedRate {
    pub(super) fn new(rate: Rate, wanted: mpsc::Sender<RateRequest>) -> SharedRate {
        let count = (rate.per_second * RESERVED_FOR).clamp(1.0, RESERVED_MAX) as u32;
        SharedRate { wanted, count, reserved: VecDeque::new(), coming: None }
    }

    /// Waits for the next reserved moment. If the wait is cancelled, its moment is lost.
    pub(super) async fn wait(&mut self) {
        loop {
            self.reserve_if_few();
            let Some(moment) = self.reserved.pop_front() else {
                self.receive().await;
                continue;
            };
            sleep_until(moment).await;
            if moment.elapsed() <= VALID_FOR {
                return;
            }
        }
    }

    /// Asks for more moments, if at most half of the last ones are left.
    fn reserve_if_few(&mut self) {
        if self.coming.is_some() || self.reserved.len() > self.count as usize / 2 {
            return;
        }
        let (reply, coming) = oneshot::channel();
        if self.wanted.try_send(RateRequest::Moments(self.count, reply)).is_ok() {
            self.coming = Some(coming);
        }
    }

    async fn receive(&mut self) {
        match &mut self.coming {
            Some(coming) => {
                let moments = coming.await;
                self.coming = None;
                self.reserved.extend(moments.unwrap_or_default());
            }
            // Nobody reserves any more: the run ends.
            None => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use tokio::task::JoinSet;

    use super::*;

    fn shared(per_second: f64) -> (SharedRate, mpsc::Receiver<RateRequest>) {
        let (wanted, requests) = mpsc::channel(1);
        (SharedRate::new(Rate { per_second, burst: NonZeroU32::MIN }, wanted), requests)
    }

    #[tokio::test]
    async fn each_moment_is_waited_for_and_more_are_asked_for_in_time() {
        let (mut rate, mut requests) = shared(200.0);
        let (began, gap) = (Instant::now() + Duration::from_millis(20), Duration::from_millis(5));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let (mut given, mut asked) = (0, Vec::new());
            while let Some(RateRequest::Moments(count, reply)) = requests.recv().await {
                asked.push(count);
                // The moments of a slow machine must not be void.
                let late = began.elapsed().as_millis() as u32 / 5;
                given = given.max(late);
                let _ = reply.send((0..count).map(|at| began + gap * (given + at)).collect());
                given += count;
            }
            asked
        });
        for at in 0..20 {
            rate.wait().await;
            assert!(began.elapsed() >= gap * at, "{at}");
        }
        drop(rate);
        let asked = server.join_next().await.unwrap().unwrap();
        assert!(asked.len() >= 5 && asked.iter().all(|count| *count == 4), "{asked:?}");
    }

    #[tokio::test]
    async fn a_moment_long_past_is_void_and_without_moments_nothing_is_sent() {
        let (mut rate, mut requests) = shared(50.0);
        let (now, ahead) = (Instant::now(), Duration::from_millis(300));
        let mut server = JoinSet::new();
        server.spawn(async move {
            for moment in [now - Duration::from_millis(9), now + ahead] {
                match requests.recv().await {
                    Some(RateRequest::Moments(1, reply)) => reply.send(vec![moment]).unwrap(),
                    other => panic!("{other:?}"),
                }
            }
        });
        rate.wait().await;
        assert!(now.elapsed() >= ahead, "the first one is void");
        server.join_next().await.unwrap().unwrap();
        let more = tokio::time::timeout(Duration::from_millis(50), rate.wait()).await;
        assert!(more.is_err(), "nobody reserves");
    }
}
