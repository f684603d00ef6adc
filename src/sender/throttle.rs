//! How fast, and whether at all: slots, the rate limit, the shared pause and the outage gate.
//!
//! Every request of a run passes [`Throttle::enter`], in this order: it has a slot, waits out
//! what holds everyone, takes one token, and looks again. So a pause that began while a row
//! waited for its token holds that row too.
//!
//! A 429 pauses everyone, for as long as the server asks, within reason. A row of answers without
//! a single good one among them means the target is gone: then everyone waits behind a gate and
//! one request at a time is let through to see whether it is back. Only when such a probe has
//! failed too is the outage *confirmed*, and only then do rows get their attempts back: a few bad
//! rows in a row must not look like an outage.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::{
    sync::{Mutex as AsyncMutex, Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

/// The longest pause that a server's `Retry-After` is granted.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(300);

/// The shortest: a server that says "0" and 429 still wants fewer requests.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// The pause after a 429 that says nothing of how long; what servers that do say ask for most.
pub(super) const PAUSE_DEFAULT: Duration = Duration::from_secs(1);

/// The first and the longest time between two probes. The service is noticed within five seconds
/// of coming back: at most two for a probe that goes into the void, and three until the next.
const PROBE_FIRST: Duration = Duration::from_millis(500);
const PROBE_MAX: Duration = Duration::from_millis(2_500);

/// The least time that a probe is given for its answer.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);

/// The share of the rate that is given up to make late timers good again.
///
/// A timer is late by some hundred microseconds, and at burst 1 that time would be lost: at 5,000
/// requests a second a third of the rate. So the limiter refills this much slower and may save up
/// this share of a second's tokens instead. Together no window of one second holds more than
/// rate + burst, and the mean stays above 0.99 of the rate.
const CATCH_UP: f64 = 0.008;

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

/// What an answer says about the service, not about the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It answers.
    Good,
    /// It does not, or not usefully: no connection, no answer, 5xx.
    Bad,
    /// It answers that it is asked too often.
    Throttled,
}

/// Held during a request; says whether it is the probe.
pub(super) struct Pass<'a> {
    throttle: &'a Throttle,
    probe: bool,
    /// Which request of the run this is.
    number: u64,
    began: Instant,
    /// Outages confirmed when the request began.
    pub(super) outages: u64,
}

/// Shared by all rows of a run.
pub struct Throttle {
    limiter: Option<DefaultDirectRateLimiter>,
    /// Whoever waits for a token waits alone, the others in line: otherwise each token wakes all.
    turnstile: AsyncMutex<()>,
    slots: Arc<Semaphore>,
    bad_answers_of_an_outage: u32,
    gate: Mutex<Gate>,
    opened: Notify,
}

#[derive(Default)]
struct Gate {
    paused_until: Option<Instant>,
    /// Requests that were let through.
    sent: u64,
    /// Bad answers since the last good one.
    streak: u32,
    /// The first request of them. Good answers to earlier ones were on their way before the trouble
    /// began and say nothing about now.
    streak_from: u64,
    /// When the first answer that was not good came after the last good one.
    trouble_since: Option<Instant>,
    outage: Option<Outage>,
    /// Outages that a failed probe has confirmed.
    confirmed: u64,
    /// How long a good answer takes, the last ones counting most; none yet at the beginning.
    usual: Option<Duration>,
}

struct Outage {
    next_probe: Instant,
    delay: Duration,
    probing: bool,
    confirmed: bool,
}

/// What a request has to wait for.
enum Turn {
    Go { probe: bool, number: u64 },
    Until(Instant),
    Opened,
}

impl Throttle {
    /// A throttle for so many requests in flight, at that rate or without one.
    pub fn new(concurrency: usize, rate: Option<Rate>) -> Throttle {
        Throttle {
            limiter: rate.map(|rate| RateLimiter::direct(quota(rate))),
            turnstile: AsyncMutex::new(()),
            slots: Arc::new(Semaphore::new(concurrency)),
            // A tenth of what is in flight: what may still start while the first bad answers come in.
            bad_answers_of_an_outage: u32::try_from(concurrency.div_ceil(10)).unwrap_or(u32::MAX).max(2),
            gate: Mutex::default(),
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

    /// For how long no answer has been good, though requests were sent.
    pub fn trouble_for(&self) -> Option<Duration> {
        self.gate().trouble_since.map(|since| since.elapsed())
    }

    /// Whether everyone waits for the target to come back.
    pub fn in_outage(&self) -> bool {
        self.gate().outage.is_some()
    }

    /// Outages that a failed probe has confirmed.
    pub(super) fn outages(&self) -> u64 {
        self.gate().confirmed
    }

    /// How long a probe may take. An answer that is eight times as slow as usual is not coming, and
    /// while one waits for it into a void the service may be back.
    pub(super) fn probe_timeout(&self) -> Option<Duration> {
        self.gate().usual.map(|usual| (usual * 8).max(PROBE_PATIENCE))
    }

    /// Waits until this request may leave.
    pub(super) async fn enter(&self) -> Pass<'_> {
        let mut has_token = self.limiter.is_none();
        loop {
            let opened = self.opened.notified();
            tokio::pin!(opened);
            // Registered before the gate is looked at, or an opening in between would be missed.
            opened.as_mut().enable();
            let turn = self.gate().turn(Instant::now(), has_token);
            match turn {
                Turn::Until(time) => {
                    // The gate may open before.
                    tokio::select! {
                        () = sleep_until(time) => {}
                        () = opened => {}
                    }
                }
                Turn::Opened => opened.await,
                Turn::Go { probe, number } if has_token => {
                    let (began, outages) = (Instant::now(), self.outages());
                    return Pass { throttle: self, probe, number, began, outages };
                }
                Turn::Go { .. } => {
                    self.take_token().await;
                    has_token = true;
                }
            }
        }
    }

    /// Nothing is sent for so long; the longer of two pauses counts. True if nobody was waiting
    /// before: of the requests that were in flight together each may be told to slow down.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let now = Instant::now();
        let until = now + pause.clamp(PAUSE_MIN, PAUSE_MAX);
        let mut gate = self.gate();
        let before = gate.paused_until;
        gate.paused_until = Some(before.map_or(until, |before| before.max(until)));
        before.is_none_or(|before| before <= now)
    }

    async fn take_token(&self) {
        if let Some(limiter) = &self.limiter {
            let _alone = self.turnstile.lock().await;
            limiter.until_ready().await;
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// Whether this request finds out if the target is back.
    pub(super) fn is_probe(&self) -> bool {
        self.probe
    }

    /// What the answer said of the service.
    pub(super) fn leave(mut self, health: Health) {
        let throttle = self.throttle;
        let probe = std::mem::take(&mut self.probe);
        let limit = throttle.bad_answers_of_an_outage;
        let now = Instant::now();
        let mut gate = throttle.gate();
        if health == Health::Good {
            gate.learn(now - self.began);
        }
        let opened = gate.note(health, self.number, probe, limit, now);
        drop(gate);
        if opened {
            throttle.opened.notify_waiters();
        }
    }
}

/// A probe that was given up must not keep the others from probing.
impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe {
            if let Some(outage) = &mut self.throttle.gate().outage {
                outage.probing = false;
            }
            self.throttle.opened.notify_waiters();
        }
    }
}

impl Gate {
    /// `leaving`: the request would leave at once, so the probe, if it is one, is taken.
    fn turn(&mut self, now: Instant, leaving: bool) -> Turn {
        if let Some(until) = self.paused_until {
            if now < until {
                return Turn::Until(until);
            }
            self.paused_until = None;
        }
        match &mut self.outage {
            None => {
                self.sent += u64::from(leaving);
                Turn::Go { probe: false, number: self.sent }
            }
            Some(outage) if outage.probing => Turn::Opened,
            Some(outage) if now < outage.next_probe => Turn::Until(outage.next_probe),
            Some(outage) => {
                outage.probing = leaving;
                self.sent += u64::from(leaving);
                Turn::Go { probe: true, number: self.sent }
            }
        }
    }

    fn learn(&mut self, took: Duration) {
        self.usual = Some(self.usual.map_or(took, |usual| (usual * 7 + took) / 8));
    }

    /// What the answer to request `number` said. True if those who wait should look again.
    fn note(&mut self, health: Health, number: u64, probe: bool, limit: u32, now: Instant) -> bool {
        if health == Health::Good {
            if self.streak > 0 && number < self.streak_from {
                return false;
            }
            (self.streak, self.trouble_since) = (0, None);
            return self.outage.take().is_some();
        }
        self.trouble_since.get_or_insert(now);
        if health == Health::Bad {
            // The lowest: answers overtake each other.
            self.streak_from = if self.streak == 0 { number } else { self.streak_from.min(number) };
            self.streak = self.streak.saturating_add(1);
        }
        match &mut self.outage {
            Some(outage) if probe => {
                if health == Health::Bad && !outage.confirmed {
                    outage.confirmed = true;
                    self.confirmed += 1;
                }
                outage.probing = false;
                outage.next_probe = now + outage.delay;
                outage.delay = (outage.delay * 2).min(PROBE_MAX);
                true
            }
            None if self.streak >= limit => {
                self.outage = Some(Outage {
                    next_probe: now + PROBE_FIRST,
                    delay: PROBE_FIRST * 2,
                    probing: false,
                    confirmed: false,
                });
                false
            }
            _ => false,
        }
    }
}

/// The limiter's quota: see [`CATCH_UP`].
fn quota(rate: Rate) -> Quota {
    let saved = (rate.per_second * CATCH_UP).floor();
    let per_second = if saved >= 1.0 { rate.per_second - saved } else { rate.per_second };
    let burst = rate.burst.saturating_add(saved as u32);
    // Rounded up: a shorter period would be a higher rate. A period of zero would be no quota.
    let period = Duration::from_nanos((1e9 / per_second).ceil().max(1.0) as u64);
    Quota::with_period(period).map_or(Quota::per_second(NonZeroU32::MAX), |quota| quota.allow_burst(burst))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = 3;

    fn rate(per_second: f64) -> Rate {
        Rate { per_second, burst: NonZeroU32::MIN }
    }

    #[test]
    fn no_second_holds_more_than_rate_and_burst() {
        for per_second in [0.5, 1.0, 10.0, 50.0, 300.0, 5_000.0, 20_000.0] {
            let quota = quota(rate(per_second));
            let refill = 1.0 / quota.replenish_interval().as_secs_f64();
            let most = refill + f64::from(quota.burst_size().get());
            assert!(most <= per_second + 1.0 + 1e-3, "{per_second}: {most}");
            assert!(refill >= 0.99 * per_second, "{per_second}: {refill}");
        }
    }

    #[test]
    fn an_outage_is_declared_confirmed_and_ended() {
        let now = Instant::now();
        let mut gate = Gate::default();
        for _ in 0..LIMIT {
            assert!(matches!(gate.turn(now, true), Turn::Go { probe: false, .. }));
            gate.note(Health::Bad, gate.sent, false, LIMIT, now);
        }
        assert!(matches!(gate.turn(now, true), Turn::Until(time) if time == now + PROBE_FIRST));
        let later = now + PROBE_FIRST;
        assert!(matches!(gate.turn(later, true), Turn::Go { probe: true, .. }));
        assert!(matches!(gate.turn(later, true), Turn::Opened), "one probe at a time");
        assert_eq!(gate.confirmed, 0);
        assert!(gate.note(Health::Bad, gate.sent, true, LIMIT, later));
        assert_eq!(gate.confirmed, 1);
        assert!(matches!(gate.turn(later, true), Turn::Until(_)));
        assert!(!gate.note(Health::Good, 0, false, LIMIT, later), "sent before the trouble began");
        assert!(gate.note(Health::Good, gate.sent, false, LIMIT, later), "sent after it");
        assert!(matches!(gate.turn(later, true), Turn::Go { probe: false, .. }));
        assert_eq!(gate.trouble_since, None);
    }

    #[test]
    fn good_answers_between_bad_ones_are_no_outage() {
        let now = Instant::now();
        let mut gate = Gate::default();
        for _ in 0..100 {
            gate.note(Health::Bad, gate.sent, false, LIMIT, now);
            gate.note(Health::Bad, gate.sent, false, LIMIT, now);
            gate.note(Health::Good, gate.sent, false, LIMIT, now);
        }
        assert!(gate.outage.is_none());
    }

    #[test]
    fn probes_grow_apart_up_to_a_bound() {
        let mut now = Instant::now();
        let mut gate = Gate::default();
        for _ in 0..LIMIT {
            gate.note(Health::Bad, gate.sent, false, LIMIT, now);
        }
        let mut waits = Vec::new();
        for _ in 0..6 {
            let Turn::Until(next) = gate.turn(now, true) else { panic!("not waiting") };
            waits.push((next - now).as_millis());
            now = next;
            assert!(matches!(gate.turn(now, true), Turn::Go { probe: true, .. }));
            gate.note(Health::Bad, gate.sent, true, LIMIT, now);
        }
        assert_eq!(waits, [500, 1000, 2000, 2500, 2500, 2500]);
    }

    #[test]
    fn the_longer_pause_counts_and_is_capped() {
        let throttle = Throttle::new(4, None);
        throttle.pause(Duration::from_secs(20));
        throttle.pause(Duration::from_secs(1));
        let left = |throttle: &Throttle| throttle.gate().paused_until.unwrap() - Instant::now();
        assert!(left(&throttle) > Duration::from_secs(15));
        throttle.pause(Duration::from_secs(1_000_000));
        assert!(left(&throttle) <= PAUSE_MAX);
    }
}
