//! When a request may be sent: slots, the rate limit, and the circuit breaker in front of them.
//!
//! Every request of a run needs a `Permit` from `Throttle::acquire`: it waits for the circuit breaker, then in the
//! queue for room under the concurrency limit and for a token of the rate, and checks the breaker again. A pause that
//! began while a request was in the queue holds that request too, and its token is lost: if it kept the token, all
//! requests in the queue would be sent together when the pause ends. `Permit::report` passes the classified response
//! on to all three, and logs what changes for all requests.
//!
//! The decisions are made in `circuit_breaker`, `adaptive_rate` and `concurrency_limit`, where nothing waits. This
//! module does the waiting and makes no decision. The user's rate is a separate bound (`user_rate`). If several workers
//! share the rate, responses go to the `rate_log` first, and requests wait for the moments of `shared_rate`.
//!
//! The three are protected by one lock (`Controls`), because a request and its response concern all of them. The lock
//! is held for a little arithmetic and never across an await. Nothing else is locked while it is held; a request that
//! waits in the queue holds the queue's own, asynchronous lock and takes the other one inside it, never the other way
//! round.
//!
//! Depends on time only: no rows, no HTTP, no clock but the runtime's.

mod adaptive_rate;

mod circuit_breaker;

mod concurrency_limit;

mod courtesy;

mod random_throttling;

mod rate_log;

mod shared_rate;

mod sliding_window;

mod unavailability;

mod user_rate;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

pub use self::{adaptive_rate::RemainingQuota, circuit_breaker::UpcomingWrites, user_rate::Rate};
use self::{
    adaptive_rate::{AdaptiveRate, PAUSE_MAX, RateChange, RequestStamp, Response},
    circuit_breaker::{Admitted, CircuitBreaker, Wait},
    concurrency_limit::ConcurrencyLimit,
    rate_log::{RateLog, stored_rate},
    shared_rate::{Delay, SharedRate},
    user_rate::UserRate,
};
pub(crate) use self::{
    adaptive_rate::{RateSignal, Timeline},
    circuit_breaker::{Probe, RequestClass, ServiceSignal},
    rate_log::Replay,
    shared_rate::{MomentsRequest, RateRequest, RateRequests, Reserved},
};

/// The right of one row to be in flight; released when dropped.
pub type Slot = OwnedSemaphorePermit;

/// A request that was sent, as its response needs it.
#[derive(Clone, Copy, Debug)]
enum SentRequest {
    Own(RequestStamp),
    /// The number of the request in the log of a shared rate.
    Logged(u64),
}

/// The right to send one request, held until its response.
pub(crate) struct Permit<'a> {
    throttle: &'a Throttle,
    admitted: Admitted,
    sent: SentRequest,
    is_reported: bool,
}

/// The throttle of one run.
pub struct Throttle {
    user_rate: Option<Rate>,
    /// Only the head of the queue waits for tokens, because otherwise each token would wake all waiting requests.
    queue: AsyncMutex<Queue>,
    slots: Arc<Semaphore>,
    /// Number of rows that wait for a slot for a retry.
    slots_wanted: AtomicUsize,
    controls: Mutex<Controls>,
    pauses: AtomicU64,
    request_finished: Notify,
    breaker_changed: Notify,
}

/// What the head of the queue needs.
struct Queue {
    user_rate: Option<UserRate>,
    /// This worker's part of the rate, if it is the rate of several workers.
    shared_rate: Option<SharedRate>,
}

/// The parts that decide about each request.
struct Controls {
    in_flight: usize,
    breaker: CircuitBreaker,
    /// The rate of this process alone, which changes with each response. If several workers share the rate: as this
    /// process has last stored it.
    rate: AdaptiveRate,
    /// Set if several workers share the rate.
    shared: Option<SharedLog>,
    limit: ConcurrencyLimit,
    /// From this moment on nothing is sent; none without such a bound.
    held_from: Option<Instant>,
}

/// What this process reports to the workers that share the rate.
struct SharedLog {
    /// What has happened since this process last stored the rate.
    log: RateLog,
    /// Requests a report.
    report: Arc<Notify>,
}

impl Throttle {
    /// A throttle for this many requests in flight, at this rate or without one.
    pub fn new(concurrency: usize, rate: Option<Rate>) -> Throttle {
        let now = Instant::now();
        Throttle {
            user_rate: rate,
            queue: AsyncMutex::new(Queue { user_rate: rate.map(UserRate::new), shared_rate: None }),
            slots: Arc::new(Semaphore::new(concurrency)),
            slots_wanted: AtomicUsize::new(0),
            controls: Mutex::new(Controls {
                in_flight: 0,
                breaker: CircuitBreaker::new(concurrency),
                rate: AdaptiveRate::new(rate.map(|rate| rate.per_second), now),
                shared: None,
                limit: ConcurrencyLimit::new(concurrency, now),
                held_from: None,
            }),
            pauses: AtomicU64::new(0),
            request_finished: Notify::new(),
            breaker_changed: Notify::new(),
        }
    }

    /// The same throttle, leaving room for other users of the same limit.
    pub fn polite(self) -> Throttle {
        self.controls().rate.be_polite();
        self
    }

    /// Shares the rate with all workers of a run: from now on each HTTP request waits for a moment that the receiver of
    /// the returned [`RateRequests`] has reserved, and its result is reported to the receiver.
    pub(crate) async fn share_rate(&self) -> RateRequests {
        let report = Arc::new(Notify::new());
        self.controls().share_rate(Arc::clone(&report));
        let (shared, requests) =
            SharedRate::new(self.user_rate.map_or(Duration::ZERO, Rate::interval), report);
        self.queue.lock().await.shared_rate = Some(shared);
        requests
    }

    /// Whether there is something to report to the workers that share the rate.
    pub(crate) fn has_report(&self) -> bool {
        self.controls().shared.as_ref().is_some_and(|shared| shared.log.has_events())
    }

    /// Replays what has happened here since the last report on the stored rate of the workers. `state` is that rate, `None`
    /// if none is stored yet; moments are reserved until `reserved_until`. The result takes effect once it is stored and
    /// [accepted](Throttle::accept).
    pub(crate) fn replay(&self, state: Option<&str>, timeline: Timeline, reserved_until: Instant) -> Replay {
        let now = Instant::now();
        let controls = self.controls();
        let rate = stored_rate(state, &controls.rate, timeline, now);
        match &controls.shared {
            Some(shared) => shared.log.replay(rate, reserved_until, now),
            None => RateLog::new(0).replay(rate, reserved_until, now),
        }
    }

    /// Accepts a replay that is stored.
    pub(crate) fn accept(&self, replay: Replay) {
        let now = Instant::now();
        let mut controls = self.controls();
        let Controls { rate, shared: Some(shared), breaker, .. } = &mut *controls else { return };
        let (stored, mut changes) = shared.log.accept(replay);
        *rate = stored;
        for one in &mut changes {
            one.change.pause = new_pause(breaker, one.change.pause, one.at, now);
        }
        drop(controls);
        for one in changes {
            self.log_change(one.signal, one.change);
        }
    }

    /// Holds every request from this moment on, until a later call sets a later moment, or none. A process that may lose
    /// the right to send calls this again each time that the right is confirmed.
    pub fn hold_from(&self, moment: Option<Instant>) {
        let mut controls = self.controls();
        let was_held = controls.is_held(Instant::now());
        controls.held_from = moment;
        drop(controls);
        if was_held {
            self.breaker_changed.notify_waiters();
        }
    }

    /// A slot, if one is free now.
    pub fn try_slot(&self) -> Option<Slot> {
        self.slots.clone().try_acquire_owned().ok()
    }

    /// The next free slot; cancel-safe.
    pub async fn slot(&self) -> Slot {
        match self.slots.clone().acquire_owned().await {
            Ok(slot) => slot,
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// The next free slot, for a row that has been sent before. While a row waits here, [`Throttle::is_slot_wanted`]
    /// is true.
    pub(crate) async fn slot_for_retry(&self) -> Slot {
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Relaxed);
            }
        }
        self.slots_wanted.fetch_add(1, Relaxed);
        let _waiting = Waiting(&self.slots_wanted);
        self.slot().await
    }

    /// Whether a row waits for a slot for a retry.
    pub fn is_slot_wanted(&self) -> bool {
        self.slots_wanted.load(Relaxed) > 0
    }

    pub(crate) fn set_upcoming_writes(&self, upcoming: UpcomingWrites) {
        if self.controls().breaker.set_upcoming_writes(upcoming) {
            self.breaker_changed.notify_waiters();
        }
    }

    /// Whether the circuit of writes is open and that of the service is closed.
    pub(crate) fn are_only_writes_open(&self) -> bool {
        self.controls().breaker.are_only_writes_open()
    }

    /// How long there has been no success although requests were sent; a pause in effect does not count.
    pub fn failing_for(&self) -> Option<Duration> {
        self.controls().breaker.failing_for(Instant::now())
    }

    /// Whether the circuit breaker is open.
    pub fn in_outage(&self) -> bool {
        self.controls().breaker.is_open()
    }

    /// The number of requests in flight.
    pub fn in_flight(&self) -> usize {
        self.controls().in_flight
    }

    /// The time left in which the API has requested that nothing be sent.
    pub fn pause_left(&self) -> Duration {
        self.controls().breaker.pause_left(Instant::now())
    }

    /// The rate held below a limit that the throttle has found, as a number for `--rate`.
    pub fn held_rate(&self) -> Option<f64> {
        let whole = |rate: f64| if rate < 1.0 { (rate * 1000.0).floor() / 1000.0 } else { rate.floor() };
        self.controls().rate.held_rate().map(whole)
    }

    /// The API's limit on the rate, if it is below the user's: the held rate, or the rate at which its quota lasts.
    pub fn api_rate(&self) -> Option<f64> {
        let quota_rate = self.controls().rate.quota_rate(Instant::now());
        let rate = [self.held_rate(), quota_rate].into_iter().flatten().min_by(f64::total_cmp)?;
        (rate < self.user_rate().unwrap_or(f64::INFINITY)).then_some(rate)
    }

    /// The rate configured by the user.
    pub(crate) fn user_limit(&self) -> Option<Rate> {
        self.user_rate
    }

    /// The rate configured by the user, in requests a second.
    pub fn user_rate(&self) -> Option<f64> {
        self.user_rate.map(|rate| rate.per_second)
    }

    /// The number of pauses that the API has requested.
    pub fn pauses(&self) -> u64 {
        self.pauses.load(Relaxed)
    }

    /// The timeout of a probe.
    pub(crate) fn probe_timeout(&self) -> Duration {
        self.controls().breaker.probe_timeout()
    }

    /// A permit, if there is nothing to wait for.
    pub(crate) fn try_acquire(&self, class: RequestClass) -> Option<Permit<'_>> {
        // The wait for the user's rate comes after that for the adaptive rate, whose token can be taken only once.
        if self.user_rate.is_some() {
            return None;
        }
        let queue = self.queue.try_lock().ok()?;
        if queue.shared_rate.is_some() {
            return None;
        }
        let now = Instant::now();
        let mut controls = self.controls();
        if !controls.has_room() {
            return None;
        }
        controls.take_token(now).ok()?;
        self.admit(&mut controls, class, Delay::None, now)
    }

    pub(crate) async fn acquire(&self, class: RequestClass) -> Permit<'_> {
        loop {
            self.wait_for_breaker(class).await;
            if let Some(permit) = self.wait_in_queue(class).await {
                return permit;
            }
        }
    }

    /// Waits until the circuit breaker would admit a request of this class; another request may be admitted first.
    pub(crate) async fn wait_for_breaker(&self, class: RequestClass) {
        loop {
            let changed = self.breaker_changed.notified();
            tokio::pin!(changed);
            // Registered before the check, because a change in between would be missed.
            changed.as_mut().enable();
            let check = self.controls().check(class, Instant::now());
            match check {
                Err(Wait::Until(time)) => {
                    tokio::select! {
                        () = sleep_until(time) => {}
                        () = changed => {}
                    }
                }
                Err(Wait::ForProbe) => changed.await,
                Ok(()) => return,
            }
        }
    }

    /// Waits in the queue for a permit; `None` if the circuit breaker no longer admits the request.
    pub(crate) async fn wait_in_queue(&self, class: RequestClass) -> Option<Permit<'_>> {
        let mut queue = self.queue.lock().await;
        self.controls().check(class, Instant::now()).ok()?;
        // Only the head of the queue waits, so one stored notification is enough.
        while !self.controls().has_room() {
            self.request_finished.notified().await;
        }
        if let Some(shared) = &mut queue.shared_rate {
            let delay = shared.wait().await;
            return self.admit(&mut self.controls(), class, delay, Instant::now());
        }
        loop {
            let token = self.controls().take_token(Instant::now());
            match token {
                Ok(()) => break,
                Err(time) => sleep_until(time).await,
            }
        }
        if let Some(user_rate) = &mut queue.user_rate {
            user_rate.wait().await;
        }
        self.admit(&mut self.controls(), class, Delay::None, Instant::now())
    }

    /// Admits the request. A request that is not admitted loses its token.
    fn admit(
        &self,
        controls: &mut Controls,
        class: RequestClass,
        delay: Delay,
        now: Instant,
    ) -> Option<Permit<'_>> {
        if controls.is_held(now) {
            return None;
        }
        let admitted = controls.breaker.admit(class, controls.sent(), now).ok()?;
        let sent = controls.on_send(delay, now);
        controls.in_flight += 1;
        controls.limit.on_send(controls.in_flight);
        Some(Permit { throttle: self, admitted, sent, is_reported: false })
    }

    /// Wakes waiting requests after a request has ended.
    fn wake_waiting(&self, has_breaker_changed: bool) {
        self.request_finished.notify_one();
        if has_breaker_changed {
            self.breaker_changed.notify_waiters();
        }
    }

    /// Counts a pause, and logs a warning about the first one only: a run of an hour has hundreds.
    fn log_pause(&self, pause: Duration, reason: &str) {
        let seconds = (pause.as_secs_f64() * 10.0).round() / 10.0;
        if self.pauses.fetch_add(1, Relaxed) == 0 {
            warn!(seconds, reason, "the API asks for a pause; all requests wait. Further pauses are counted");
        } else {
            info!(seconds, reason, "the API asks for a pause again");
        }
    }

    fn log_change(&self, signal: RateSignal, change: RateChange) {
        if let Some(pause) = change.pause {
            let refusal = match signal {
                RateSignal::Unavailable { .. } => "it is overloaded",
                RateSignal::RefusedByProxy { .. } => "a proxy refuses requests",
                RateSignal::Throttled { .. } | RateSignal::Accepted => "too many requests",
            };
            let reason = signal
                .retry_after()
                .map_or(refusal.into(), |pause| format!("{refusal}, Retry-After {} s", pause.as_secs_f64()));
            self.log_pause(pause, &reason);
        }
        if let Some(rate) = change.held_rate {
            info!(per_second = rate.floor(), "rate limit found; holding the rate");
        }
        if let Some(share) = change.random_share {
            warn!(share, "the API throttles this share of requests at any rate; they are retried");
        }
    }

    fn controls(&self) -> MutexGuard<'_, Controls> {
        self.controls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Controls {
    fn has_room(&self) -> bool {
        self.limit.has_room(self.in_flight)
    }

    /// Begins to log what happens to requests, for a rate that all workers share. Earlier requests are not in the log.
    fn share_rate(&mut self, report: Arc<Notify>) {
        self.shared = Some(SharedLog { log: RateLog::new(self.rate.sent()), report });
    }

    /// Takes a token of the rate, or returns the time of the next one. A shared rate has reserved moments instead.
    fn take_token(&mut self, now: Instant) -> Result<(), Instant> {
        if self.shared.is_some() { Ok(()) } else { self.rate.try_acquire(now) }
    }

    /// The number of requests that this process has sent.
    fn sent(&self) -> u64 {
        self.shared.as_ref().map_or(self.rate.sent(), |shared| shared.log.sent())
    }

    /// Records a request that was sent, and whether the shared rate has delayed it.
    fn on_send(&mut self, delay: Delay, now: Instant) -> SentRequest {
        match &mut self.shared {
            None => SentRequest::Own(self.rate.on_send(now)),
            Some(shared) => SentRequest::Logged(shared.log.on_send(delay, now)),
        }
    }

    /// Passes a response on to the rate, and returns the change for all requests. A shared rate changes with the next
    /// report; until then only a pause is known.
    fn on_response(&mut self, sent: SentRequest, response: Response, now: Instant) -> RateChange {
        match (&mut self.shared, sent) {
            (None, SentRequest::Own(stamp)) => return self.rate.on_response(stamp, response, now),
            (Some(shared), SentRequest::Logged(number)) => shared.log.on_response(number, response, now),
            // A request that was sent before the rate was shared is not reported to the other workers.
            _ => {}
        }
        // A pause that the server requests does not depend on what the other workers know.
        let mut pause = response.signal.retry_after().map(|pause| pause.min(PAUSE_MAX));
        if let Some(shared) = &self.shared
            && self.breaker.pause_left(now).is_zero()
        {
            pause = pause.max(shared.log.pause_before_report(&self.rate, now));
        }
        RateChange { pause, ..RateChange::default() }
    }

    /// Requests a report to the workers that share the rate, if any.
    fn report_soon(&self) {
        if let Some(shared) = &self.shared {
            shared.report.notify_one();
        }
    }

    fn is_held(&self, now: Instant) -> bool {
        self.held_from.is_some_and(|moment| now >= moment)
    }

    /// Whether a request of this class might be admitted, or else what has to be waited for.
    fn check(&self, class: RequestClass, now: Instant) -> Result<(), Wait> {
        // The end of the hold wakes waiting requests in the same way as the end of a probe.
        if self.is_held(now) { Err(Wait::ForProbe) } else { self.breaker.check(class, now).map(drop) }
    }
}

impl Permit<'_> {
    /// The circuit that the request probes, if it was admitted as a probe.
    pub(crate) fn probe(&self) -> Option<Probe> {
        self.admitted.probe
    }

    /// The number of failed probes when the request was sent.
    pub(crate) fn failed_probes(&self) -> u64 {
        self.admitted.failed_probes
    }

    /// Passes on the quota in a response.
    pub(crate) fn report_quota(&self, quota: RemainingQuota) {
        let now = Instant::now();
        let mut controls = self.throttle.controls();
        let Controls { breaker, rate, shared, .. } = &mut *controls;
        match shared {
            None => rate.on_quota(quota, now),
            Some(shared) => shared.log.on_quota(quota, now),
        }
        let pause = quota.pause().map(|pause| pause.min(PAUSE_MAX));
        let is_new = pause.is_some_and(|pause| breaker.pause(now + pause, now));
        if is_new {
            controls.report_soon();
        }
        drop(controls);
        if let Some(pause) = pause.filter(|_| is_new) {
            self.throttle.log_pause(pause, "its quota is used up");
        }
    }

    /// Passes on the classified response and its latency, in this order: the circuit breaker, the rate, which an
    /// outage resets, the shared pause, and the concurrency limit.
    pub(crate) fn report(mut self, service: ServiceSignal, rate: RateSignal, latency: Duration) {
        self.is_reported = true;
        let now = Instant::now();
        let mut controls = self.throttle.controls();
        controls.in_flight -= 1;
        let has_changed = controls.breaker.on_result(self.admitted, service, latency, now);
        let is_success = matches!(service, ServiceSignal::Up | ServiceSignal::WriteConfirmed);
        let success = is_success.then_some(latency);
        let response = Response { signal: rate, success, is_outage: controls.breaker.is_open() };
        let mut change = controls.on_response(self.sent, response, now);
        change.pause = new_pause(&mut controls.breaker, change.pause, now, now);
        if is_success {
            controls.limit.on_success(latency, now);
        }
        if rate != RateSignal::Accepted {
            controls.report_soon();
        }
        drop(controls);
        self.throttle.wake_waiting(has_changed);
        self.throttle.log_change(rate, change);
    }
}

/// An abandoned probe must not prevent other probes.
impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.is_reported {
            return;
        }
        let mut controls = self.throttle.controls();
        controls.in_flight -= 1;
        let has_changed = controls.breaker.abandon_probe(self.admitted.probe);
        if let (Some(shared), SentRequest::Logged(number)) = (&mut controls.shared, self.sent) {
            shared.log.on_abandoned(number);
        }
        drop(controls);
        self.throttle.wake_waiting(has_changed);
    }
}

/// Begins a pause from this moment, and returns it if none was in effect: each of the requests in flight together may
/// get the same one.
fn new_pause(
    breaker: &mut CircuitBreaker,
    pause: Option<Duration>,
    from: Instant,
    now: Instant,
) -> Option<Duration> {
    pause.filter(|pause| from + *pause > now && breaker.pause(from + *pause, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_lost_the_right_to_send_sends_nothing_until_it_is_back() {
        let throttle = Throttle::new(4, None);
        throttle.hold_from(Some(Instant::now() + Duration::from_secs(60)));
        assert!(throttle.try_acquire(RequestClass::Read).is_some(), "not yet");
        throttle.hold_from(Some(Instant::now()));
        assert!(throttle.try_acquire(RequestClass::Read).is_none());
        let mut held = std::pin::pin!(throttle.acquire(RequestClass::Read));
        let is_sent = tokio::select! {
            biased;
            _ = &mut held => true,
            () = std::future::ready(()) => false,
        };
        assert!(!is_sent, "held");
        throttle.hold_from(None);
        drop(held.await);
    }

    /// Reserves a moment for each request that wants one.
    async fn serve(requests: &mut RateRequests) {
        while let Some(request) = requests.next(Instant::now() + Duration::from_secs(3600)).await {
            if let RateRequest::Moments(MomentsRequest { reply, .. }) = request {
                let interval = Duration::from_millis(20);
                let took = Duration::ZERO;
                let _ = reply.send(Reserved { moments: vec![Instant::now()], interval, workers: 1, took });
            }
        }
    }

    #[tokio::test]
    async fn many_refusals_at_once_do_not_keep_a_shared_rate_from_reserving_moments() {
        let throttle = Throttle::new(64, None);
        let mut requests = throttle.share_rate().await;
        let mut permits = Vec::new();
        for _ in 0..32 {
            permits.push(tokio::select! {
                permit = throttle.acquire(RequestClass::Read) => permit,
                () = serve(&mut requests) => panic!("the throttle is there"),
            });
        }
        for permit in permits {
            let rate = RateSignal::Unavailable { retry_after: None };
            permit.report(ServiceSignal::Up, rate, Duration::ZERO);
        }
        let mut next = Box::pin(throttle.acquire(RequestClass::Read));
        // The next request asks for a moment before one of the reports is read.
        tokio::select! {
            biased;
            _ = &mut next => panic!("without a moment"),
            () = std::future::ready(()) => {}
        }
        tokio::select! {
            _ = next => {}
            () = serve(&mut requests) => panic!("the throttle is there"),
            () = sleep_until(Instant::now() + Duration::from_secs(30)) => panic!("no moment"),
        }
    }

    #[tokio::test]
    async fn the_longer_pause_counts_and_is_capped() {
        let throttle = Throttle::new(4, None);
        let permits = [
            throttle.acquire(RequestClass::Read).await,
            throttle.acquire(RequestClass::Read).await,
            throttle.acquire(RequestClass::Read).await,
        ];
        let pauses = [20, 1, 1_000_000].map(Duration::from_secs);
        let mut left = Vec::new();
        for (permit, pause) in permits.into_iter().zip(pauses) {
            let rate = RateSignal::Throttled { retry_after: Some(pause) };
            permit.report(ServiceSignal::Throttled, rate, Duration::ZERO);
            let check = throttle.controls().breaker.check(RequestClass::Read, Instant::now());
            left.push(match check {
                Err(Wait::Until(until)) => until - Instant::now(),
                _ => Duration::ZERO,
            });
        }
        assert!(left[0] > Duration::from_secs(15) && left[1] > Duration::from_secs(15), "{left:?}");
        assert!(left[2] > Duration::from_secs(200) && left[2] <= PAUSE_MAX, "{left:?}");
    }
}
