//! How fast, and whether at all: slots, the rate limit, and the gate in front of them.
//!
//! Every request of a run passes [`Throttle::enter`], in this order: it has a slot, waits out
//! what holds everyone, stands in line for its turn, and looks again. So a pause that began while a row
//! stood in line holds that row too, and its turn is lost: if it kept it, all that stood in line would
//! leave together when the pause ends. What holds everyone is decided in `gate`, how fast the line
//! moves in `pace`, and how many may be in flight in `crowd`, where nothing waits; here is the waiting, and no decision. The user's rate is a bound
//! of its own, kept by governor whatever `pace` has found.

mod adaptive_rate;

mod circuit_breaker;

mod concurrency_limit;

mod random_throttling;

mod sliding_window;

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock};
use tokio::{
    sync::{Mutex as AsyncMutex, Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

pub(crate) use self::{
    adaptive_rate::Said,
    circuit_breaker::{Health, Kind, Probe},
};
use self::{
    adaptive_rate::{Pace, Ticket},
    circuit_breaker::{Gate, Passed, Turn},
    concurrency_limit::Crowd,
};

/// The longest pause that a server's `Retry-After` is granted.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(300);

/// The share of the rate that is given up to make late timers good again.
///
/// A timer is late by a millisecond, and at burst 1 that time would be lost: at 5,000 requests a
/// second most of the rate. So the limiter refills this much slower and may save up this share of a
/// second's tokens instead, or one where whole tokens leave room for it. Together no window of one
/// second holds more than rate + burst, and the mean stays above 0.99 of the rate.
const CATCH_UP: f64 = 0.008;

/// The share of the tokens that may be saved up which are waited for together, where there are two and more: each
/// sleep is a timer, a wake-up and two system calls, and at 500 requests a second these were a quarter of the
/// processor's time. The other half is left for timers that are late.
const TOGETHER: f64 = 0.5;

/// Room for one row in flight; given back when dropped.
pub type Slot = OwnedSemaphorePermit;

/// Requests a second, and how many may go at once after a lull.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Requests a second; above zero.
    pub per_second: f64,
    /// At least one.
    pub burst: NonZeroU32,
}

/// Held during a request.
pub(crate) struct Pass<'a> {
    throttle: &'a Throttle,
    passed: Passed,
    ticket: Ticket,
    /// Whether the answer was noted.
    left: bool,
}

/// What an answer led to.
pub(crate) struct Left {
    /// Nothing is sent for so long; only where nobody was waiting before, since of the requests that were
    /// in flight together each may be told to slow down.
    pub(crate) pause: Option<Duration>,
    /// A limit was found, or is another one now: the rate that is held under it.
    pub(crate) held: Option<f64>,
    /// The share of requests that is refused whatever the rate, where that was found out.
    pub(crate) by_chance: Option<f64>,
}

/// Shared by all rows of a run.
pub struct Throttle {
    user_rate: Option<f64>,
    limiter: Option<DefaultDirectRateLimiter>,
    /// How much longer than for one token is waited for one: see [`TOGETHER`].
    together: Duration,
    /// Whoever waits for a token waits alone, the others in line: otherwise each token wakes all.
    turnstile: AsyncMutex<()>,
    slots: Arc<Semaphore>,
    /// Rows that are in line for a slot.
    slots_wanted: AtomicUsize,
    gate: Mutex<Gate>,
    pace: Mutex<Pace>,
    crowd: Mutex<Crowd>,
    /// A request is no longer in flight.
    gone: Notify,
    opened: Notify,
}

impl Throttle {
    /// A throttle for so many requests in flight, at that rate or without one.
    pub fn new(concurrency: usize, rate: Option<Rate>) -> Throttle {
        Throttle {
            user_rate: rate.map(|rate| rate.per_second),
            limiter: rate.map(|rate| RateLimiter::direct(quota(rate))),
            together: rate.map_or(Duration::ZERO, together),
            turnstile: AsyncMutex::new(()),
            slots: Arc::new(Semaphore::new(concurrency)),
            slots_wanted: AtomicUsize::new(0),
            gate: Mutex::new(Gate::new(concurrency)),
            pace: Mutex::new(Pace::new(rate.map(|rate| rate.per_second), Instant::now())),
            crowd: Mutex::new(Crowd::new(concurrency, Instant::now())),
            gone: Notify::new(),
            opened: Notify::new(),
        }
    }

    /// A slot now, if one is free.
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

    /// The next free slot for a row that has been sent before; as long as one waits, [`Throttle::is_slot_wanted`].
    pub(crate) async fn wanted_slot(&self) -> Slot {
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

    /// Whether a row waits for a slot to be tried again.
    pub fn is_slot_wanted(&self) -> bool {
        self.slots_wanted.load(Relaxed) > 0
    }

    /// No row will come beside those that are claimed, or, if `all_begun`, beside those that are open.
    pub(crate) fn tell_source_ended(&self, all_begun: bool) {
        if self.gate().tell_source_ended(all_begun) {
            self.opened.notify_waiters();
        }
    }

    /// Whether writes wait for the API to take them again.
    pub(crate) fn are_writes_away(&self) -> bool {
        self.gate().are_writes_away()
    }

    /// For how long no answer has been good, though requests were sent.
    pub fn trouble_for(&self) -> Option<Duration> {
        self.gate().trouble_since().map(|since| since.elapsed())
    }

    /// Whether everyone waits for the target to come back.
    pub fn in_outage(&self) -> bool {
        self.gate().in_outage()
    }

    /// Requests under way.
    pub fn in_flight(&self) -> usize {
        self.crowd().in_flight()
    }

    /// How long nobody may send because the API has asked for it.
    pub fn pause_left(&self) -> Duration {
        self.gate().pause_left(Instant::now())
    }

    /// The rate that is held under a limit that the user has not told, as a number for `--rate`.
    pub fn held_rate(&self) -> Option<f64> {
        let whole = |rate: f64| if rate < 1.0 { (rate * 1000.0).floor() / 1000.0 } else { rate.floor() };
        self.pace().held().map(whole)
    }

    /// The rate that is kept: the one that is held, or the user's.
    pub fn rate(&self) -> Option<f64> {
        self.held_rate().or(self.user_rate)
    }

    /// How long a probe may take.
    pub(crate) fn probe_timeout(&self) -> Duration {
        self.gate().probe_timeout()
    }

    /// Leaves at once, if nobody stands in line and nothing holds anyone.
    pub(crate) fn try_enter(&self, kind: Kind) -> Option<Pass<'_>> {
        // A limiter has to be waited for behind the pace, and a place in the line is taken only once.
        if self.limiter.is_some() {
            return None;
        }
        let _alone = self.turnstile.try_lock().ok()?;
        let now = Instant::now();
        if !self.crowd().has_room() {
            return None;
        }
        self.pace().turn(now).ok()?;
        self.leave(kind, now)
    }

    /// Waits until this request may leave.
    pub(crate) async fn enter(&self, kind: Kind) -> Pass<'_> {
        loop {
            self.until_turn(kind).await;
            if let Some(pass) = self.stand_in_line(kind).await {
                return pass;
            }
        }
    }

    /// Waits until the gate would let this request through; another one may be quicker then.
    pub(crate) async fn until_turn(&self, kind: Kind) {
        loop {
            let opened = self.opened.notified();
            tokio::pin!(opened);
            // Registered before the gate is looked at, or an opening in between would be missed.
            opened.as_mut().enable();
            let turn = self.gate().turn(kind, false, Instant::now());
            match turn {
                Turn::Until(time) => {
                    // The gate may open before.
                    tokio::select! {
                        () = sleep_until(time) => {}
                        () = opened => {}
                    }
                }
                Turn::Opened => opened.await,
                Turn::Go(_) => return,
            }
        }
    }

    /// `None` if the gate was closed meanwhile.
    pub(crate) async fn stand_in_line(&self, kind: Kind) -> Option<Pass<'_>> {
        let _alone = self.turnstile.lock().await;
        if !matches!(self.gate().turn(kind, false, Instant::now()), Turn::Go(_)) {
            return None;
        }
        // Only the head of the line waits, so one permit that is kept for it is enough.
        while !self.crowd().has_room() {
            self.gone.notified().await;
        }
        loop {
            let turn = self.pace().turn(Instant::now());
            match turn {
                Ok(()) => break,
                Err(time) => sleep_until(time).await,
            }
        }
        self.until_users_rate_allows().await;
        self.leave(kind, Instant::now())
    }

    /// Slept through by the runtime's own timer: governor's has a thread, to be woken for each request.
    async fn until_users_rate_allows(&self) {
        let Some(limiter) = &self.limiter else { return };
        while let Err(early) = limiter.check() {
            let wait = early.wait_time_from(limiter.clock().now());
            sleep_until(Instant::now() + wait + self.together).await;
        }
    }

    /// Through the gate, if it is open; whoever has got so far had its turn.
    fn leave(&self, kind: Kind, now: Instant) -> Option<Pass<'_>> {
        match self.gate().turn(kind, true, now) {
            Turn::Go(passed) => {
                let ticket = self.pace().leave(now);
                self.crowd().enter();
                Some(Pass { throttle: self, passed, ticket, left: false })
            }
            _ => None,
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn crowd(&self) -> MutexGuard<'_, Crowd> {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is no longer in flight; when it left, if its answer was good.
    fn make_room(&self, began: Option<Instant>, now: Instant) {
        self.crowd().leave(began.map(|began| now - began), now);
        self.gone.notify_one();
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// What it finds out, if it was let through for that alone.
    pub(crate) fn probe(&self) -> Option<Probe> {
        self.passed.probe
    }

    /// How long ago the request left.
    pub(crate) fn took(&self) -> Duration {
        self.passed.began.elapsed()
    }

    /// Probes that had failed when the request began.
    pub(crate) fn failed_probes(&self) -> u64 {
        self.passed.failed_probes
    }

    /// What the answer said of the service and of the rate.
    pub(crate) fn leave(mut self, health: Health, said: Said) -> Left {
        self.left = true;
        let throttle = self.throttle;
        let now = Instant::now();
        let is_good = matches!(health, Health::Good | Health::WriteLanded);
        throttle.make_room(is_good.then_some(self.passed.began), now);
        let (pause, held, by_chance) = {
            let mut pace = throttle.pace();
            let pause = pace.answered(self.ticket, said.capped(PAUSE_MAX), now);
            (pause, pace.news(), pace.by_chance())
        };
        let (look, pause) = {
            let mut gate = throttle.gate();
            let look = gate.note(self.passed, health, now);
            if gate.in_outage() {
                throttle.pace().forgive();
            }
            (look, pause.filter(|pause| gate.pause(now + *pause, now)))
        };
        if look {
            throttle.opened.notify_waiters();
        }
        Left { pause, held, by_chance }
    }
}

/// A probe that was given up must not keep the others from probing.
impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        self.throttle.make_room(None, Instant::now());
        if self.throttle.gate().give_up(self.passed.probe) {
            self.throttle.opened.notify_waiters();
        }
    }
}

/// The time in which the tokens come that are waited for beside the first.
fn together(rate: Rate) -> Duration {
    let others = (rate.per_second * CATCH_UP * TOGETHER).floor() - 1.0;
    Duration::from_secs_f64(others.max(0.0) / rate.per_second)
}

/// The limiter's quota: see [`CATCH_UP`].
fn quota(rate: Rate) -> Quota {
    let slower = rate.per_second * (1.0 - CATCH_UP);
    let saved = (rate.per_second * CATCH_UP).floor();
    // At 50 a second a window holds 49 of the slower tokens, so that one more is no more than 50.
    let saved = if saved < 1.0 && slower.floor() + 1.0 <= rate.per_second { 1.0 } else { saved };
    let per_second = if saved >= 1.0 { slower } else { rate.per_second };
    let burst = rate.burst.saturating_add(saved as u32);
    // Rounded up: a shorter period would be a higher rate. A period of zero would be no quota.
    let period = Duration::from_nanos((1e9 / per_second).ceil().max(1.0) as u64);
    Quota::with_period(period).map_or(Quota::per_second(NonZeroU32::MAX), |quota| quota.allow_burst(burst))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: f64) -> Rate {
        Rate { per_second, burst: NonZeroU32::MIN }
    }

    #[test]
    fn no_second_holds_more_than_rate_and_burst() {
        for per_second in [0.5, 1.0, 1.5, 7.0, 10.0, 50.0, 300.0, 5_000.0, 20_000.0] {
            let quota = quota(rate(per_second));
            let refill = 1.0 / quota.replenish_interval().as_secs_f64();
            // A window that begins with a full bucket; what is refilled comes in whole tokens.
            let most = refill.floor() + f64::from(quota.burst_size().get());
            assert!(most <= per_second + 1.0 + 1e-3, "{per_second}: {most}");
            assert!(refill >= 0.99 * per_second, "{per_second}: {refill}");
        }
    }

    #[tokio::test]
    async fn the_longer_pause_counts_and_is_capped() {
        let throttle = Throttle::new(4, None);
        let passes = [
            throttle.enter(Kind::Read).await,
            throttle.enter(Kind::Read).await,
            throttle.enter(Kind::Read).await,
        ];
        let pauses = [20, 1, 1_000_000].map(Duration::from_secs);
        let mut left = Vec::new();
        for (pass, pause) in passes.into_iter().zip(pauses) {
            pass.leave(Health::Throttled, Said::Refused(Some(pause)));
            left.push(match throttle.gate().turn(Kind::Read, false, Instant::now()) {
                Turn::Until(until) => until - Instant::now(),
                _ => Duration::ZERO,
            });
        }
        assert!(left[0] > Duration::from_secs(15) && left[1] > Duration::from_secs(15), "{left:?}");
        assert!(left[2] > Duration::from_secs(200) && left[2] <= PAUSE_MAX, "{left:?}");
    }
}
