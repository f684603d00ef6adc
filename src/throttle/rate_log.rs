//! The adaptive rate of a run that several workers share.
//!
//! The rate is stored where all workers reach it (the ledger on a server). A worker does not change the rate with each
//! response: it collects what happens to its requests as events, and replays them on the stored rate several times a
//! second, and at once after a refusal ([`RateLog::replay`]). If another worker has stored the rate meanwhile, the same
//! events are replayed on the newer one. They are forgotten once the result is stored ([`RateLog::accept`]).
//!
//! So all workers know what any of them has learnt, within a tenth of a second, and none depends on another one.
//!
//! Pure: time is an argument, and nothing here waits or does I/O.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{
    RemainingQuota,
    adaptive_rate::{AdaptiveRate, PAUSE_MAX, RateChange, RateSignal, RequestStamp, Response, Timeline},
    shared_rate::{Delay, FOUND_VALID_FOR},
};

/// How often a worker reports what has happened to its requests, and how often while a limit is searched for.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);
const SEARCHING_REPORT_INTERVAL: Duration = Duration::from_millis(25);

/// The rate is computed for this time after it is stored: half the time until it is stored again.
const AHEAD: Duration = Duration::from_millis(50);

/// What has happened to the requests of this worker since its last report.
pub(super) struct RateLog {
    /// Number of requests sent.
    sent: u64,
    /// Whether the rate has delayed a request.
    delay: Delay,
    events: Vec<Event>,
    /// The stamps of the requests in flight among those of all workers, by the number of the request here.
    stamps: HashMap<u64, RequestStamp>,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Sent {
        number: u64,
        at: Instant,
    },
    Response {
        number: u64,
        response: Response,
        at: Instant,
    },
    /// The request was abandoned without a response.
    Abandoned {
        number: u64,
    },
    Quota {
        quota: RemainingQuota,
        at: Instant,
    },
}

/// The stored rate with the events of this worker replayed on it.
pub(crate) struct Replay {
    rate: AdaptiveRate,
    stamps: HashMap<u64, RequestStamp>,
    /// Number of events replayed.
    events: usize,
    at: Instant,
    paused_until: Option<Instant>,
    changes: Vec<ReplayedChange>,
}

/// What a replayed response changes for all requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplayedChange {
    pub(super) signal: RateSignal,
    pub(super) change: RateChange,
    pub(super) at: Instant,
}

/// The rate of this state, as [`Replay::state`] returned it. Without a state, or if the state cannot be read, nothing is
/// known yet: the rate then has the options of this worker's `own`.
pub(super) fn stored_rate(
    state: Option<&str>,
    own: &AdaptiveRate,
    timeline: Timeline,
    now: Instant,
) -> AdaptiveRate {
    let stored = state.and_then(|state| serde_json::from_str(state).ok());
    let mut rate = stored.unwrap_or_else(|| own.afresh(now));
    rate.set_shared(timeline, REPORT_INTERVAL);
    rate
}

impl RateLog {
    /// A log that begins after this number of requests.
    pub(super) fn new(sent: u64) -> RateLog {
        RateLog { sent, delay: Delay::None, events: Vec::new(), stamps: HashMap::new() }
    }

    /// Number of requests that this process has sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether there is something to report.
    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Records a request that was sent, and whether the rate has delayed it. Returns its number.
    pub(super) fn on_send(&mut self, delay: Delay, at: Instant) -> u64 {
        self.delay = self.delay.max(delay);
        let number = self.sent;
        self.sent += 1;
        self.events.push(Event::Sent { number, at });
        number
    }

    pub(super) fn on_response(&mut self, number: u64, response: Response, at: Instant) {
        self.events.push(Event::Response { number, response, at });
    }

    /// The pause that the last event begins, as far as this rate and the events show. Without it, this process would
    /// continue to send at its reserved moments until the report is stored.
    pub(super) fn pause_before_report(&self, rate: &AdaptiveRate, now: Instant) -> Option<Duration> {
        match self.events.last()? {
            Event::Response { response, .. } if response.signal != RateSignal::Accepted => {
                self.replay(rate.clone(), now, now).changes.pop()?.change.pause
            }
            _ => None,
        }
    }

    /// Records that a request was abandoned without a response.
    pub(super) fn on_abandoned(&mut self, number: u64) {
        self.events.push(Event::Abandoned { number });
    }

    pub(super) fn on_quota(&mut self, quota: RemainingQuota, at: Instant) {
        self.events.push(Event::Quota { quota, at });
    }

    /// Replays all events on the stored rate, while the moments until `reserved_until` are reserved for requests.
    pub(super) fn replay(&self, mut rate: AdaptiveRate, reserved_until: Instant, now: Instant) -> Replay {
        rate.on_tokens_taken(reserved_until + FOUND_VALID_FOR, self.delay == Delay::ByRate, now);
        let (mut stamps, mut changes) = (self.stamps.clone(), Vec::new());
        let mut paused_until = None;
        for event in &self.events {
            match *event {
                Event::Sent { number, at } => {
                    stamps.insert(number, rate.on_send(at));
                }
                Event::Response { number, response, at } => {
                    let Some(stamp) = stamps.remove(&number) else { continue };
                    let change = rate.on_response(stamp, response, at);
                    paused_until = paused_until.max(change.pause.map(|pause| at + pause));
                    changes.push(ReplayedChange { signal: response.signal, change, at });
                }
                Event::Abandoned { number } => {
                    stamps.remove(&number);
                }
                Event::Quota { quota, at } => {
                    rate.on_quota(quota, at);
                    paused_until = paused_until.max(quota.pause().map(|pause| at + pause.min(PAUSE_MAX)));
                }
            }
        }
        rate.choose_again(now);
        Replay { rate, stamps, events: self.events.len(), at: now, paused_until, changes }
    }

    /// Forgets the events that were replayed, after the result was stored. Returns the rate and what has changed.
    pub(super) fn accept(&mut self, replay: Replay) -> (AdaptiveRate, Vec<ReplayedChange>) {
        let Replay { rate, stamps, events, changes, .. } = replay;
        (self.stamps, self.delay) = (stamps, Delay::None);
        self.events.drain(..events.min(self.events.len()));
        (rate, changes)
    }
}

impl Replay {
    /// The state to store.
    pub(crate) fn state(&self) -> String {
        // A state always has a text; if it had none, the state would be read as none.
        serde_json::to_string(&self.rate).unwrap_or_default()
    }

    /// When this worker is to report again.
    pub(crate) fn report_after(&self) -> Duration {
        if self.rate.is_searching() { SEARCHING_REPORT_INTERVAL } else { REPORT_INTERVAL }
    }

    /// The least time between two requests of all workers.
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_secs_f64(1.0 / self.rate.rate_in_effect(self.at + AHEAD))
    }

    /// Until when no worker may send.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cmp::Reverse,
        collections::{BinaryHeap, VecDeque},
        mem,
    };

    use super::{
        super::{
            adaptive_rate::{
                Timeline,
                tests::{Limiter, LimiterKind, Measured, Server, servers},
            },
            shared_rate::reserved_at_once,
        },
        *,
    };

    /// The length of a step of the simulation, in seconds: as late as timers are.
    const STEP_S: f64 = 0.0005;

    /// The time to reserve moments, in seconds.
    const RESERVING_S: f64 = 0.0005;

    /// What the workers have stored.
    struct Stored {
        rate: AdaptiveRate,
        interval_s: f64,
        given_until_s: f64,
    }

    impl Stored {
        fn take(&mut self, count: u32, now_s: f64) -> Vec<f64> {
            let from_s = self.given_until_s.max(now_s + 0.001);
            self.given_until_s = from_s + f64::from(count) * self.interval_s;
            (0..count).map(|at| from_s + f64::from(at) * self.interval_s).collect()
        }
    }

    /// A worker that always has something to send.
    struct Worker {
        log: RateLog,
        concurrency: usize,
        moments: VecDeque<f64>,
        coming: Option<(f64, Vec<f64>)>,
        count: u32,
        workers: u32,
        delay: Delay,
        paused_until_s: f64,
        report_at_s: f64,
        responses: BinaryHeap<Reverse<(u64, u64, bool)>>,
    }

    impl Worker {
        fn new(concurrency: usize, number: u32, workers: u32) -> Worker {
            Worker {
                log: RateLog::new(0),
                concurrency,
                moments: VecDeque::new(),
                coming: None,
                count: 1,
                workers,
                delay: Delay::None,
                paused_until_s: 0.0,
                report_at_s: 0.013 * f64::from(number),
                responses: BinaryHeap::new(),
            }
        }

        fn step(&mut self, now_s: f64, epoch: Instant, stored: &mut Stored, server: &mut SharedServer) {
            let now = epoch + Duration::from_secs_f64(now_s);
            while let Some(Reverse((at, number, is_admitted))) = self.responses.peek().copied()
                && at as f64 / 1e9 <= now_s
            {
                self.responses.pop();
                let retry_after = server.server.retry_after.map(Duration::from_secs_f64);
                let signal =
                    if is_admitted { RateSignal::Accepted } else { RateSignal::Throttled { retry_after } };
                self.log.on_response(number, Response { signal, success: None, is_outage: false }, now);
                if !is_admitted {
                    self.report_at_s = now_s;
                }
            }
            if now_s >= self.report_at_s {
                self.report(now_s, epoch, stored);
            }
            if now_s < self.paused_until_s {
                return;
            }
            while self.responses.len() < self.concurrency && self.takes_moment(now_s, stored) {
                let number = self.log.on_send(mem::replace(&mut self.delay, Delay::None), now);
                let (at, is_admitted) = server.send(now_s);
                self.responses.push(Reverse(((at * 1e9) as u64, number, is_admitted)));
            }
        }

        fn report(&mut self, now_s: f64, epoch: Instant, stored: &mut Stored) {
            self.report_at_s = now_s + REPORT_INTERVAL.as_secs_f64();
            if !self.log.has_events() {
                return;
            }
            let instant = |at_s: f64| epoch + Duration::from_secs_f64(at_s);
            let mut rate = stored.rate.clone();
            rate.set_shared(Timeline { moment: epoch, seconds: 0.0 }, REPORT_INTERVAL);
            let replay = self.log.replay(rate, instant(stored.given_until_s), instant(now_s));
            stored.interval_s = replay.interval().as_secs_f64();
            self.report_at_s = now_s + replay.report_after().as_secs_f64();
            if let Some(until) = replay.paused_until() {
                stored.given_until_s = stored.given_until_s.max(until.duration_since(epoch).as_secs_f64());
            }
            let (rate, changes) = self.log.accept(replay);
            stored.rate = rate;
            for one in changes {
                let until = one.at + one.change.pause.unwrap_or_default();
                self.paused_until_s = self.paused_until_s.max(until.duration_since(epoch).as_secs_f64());
            }
        }

        /// Takes a moment that has come, if there is one.
        fn takes_moment(&mut self, now_s: f64, stored: &mut Stored) -> bool {
            if let Some((at_s, moments)) = self.coming.take() {
                if at_s <= now_s { self.moments.extend(moments) } else { self.coming = Some((at_s, moments)) }
            }
            if self.coming.is_none() && self.moments.len() <= self.count as usize / 2 {
                self.coming = Some((now_s + RESERVING_S, stored.take(self.count, now_s)));
                self.count = reserved_at_once(stored.interval_s, self.workers, Duration::ZERO);
            }
            while let Some(moment) = self.moments.front().copied() {
                if moment > now_s {
                    self.delay = Delay::ByRate;
                    return false;
                }
                self.moments.pop_front();
                if now_s - moment <= FOUND_VALID_FOR.as_secs_f64() {
                    return true;
                }
            }
            false
        }
    }

    struct SharedServer {
        server: Server,
        limiter: Limiter,
        measured: Measured,
    }

    impl SharedServer {
        fn send(&mut self, now_s: f64) -> (f64, bool) {
            let is_admitted = self.server.admits(&mut self.limiter, now_s);
            let Measured { admitted, refused, .. } = &mut self.measured;
            if is_admitted { admitted } else { refused }.push(now_s);
            let latency = if is_admitted { self.server.latency } else { self.server.refusal_latency };
            (now_s + latency, is_admitted)
        }
    }

    /// So many workers that share their rate.
    fn run(server: &Server, workers: u32) -> Measured {
        let epoch = Instant::now();
        let limiter = Limiter { window: VecDeque::new(), tokens: 0.0, at: -10.0 };
        let measured = Measured::default();
        let mut shared = SharedServer { server: server.clone(), limiter, measured };
        let mut stored =
            Stored { rate: AdaptiveRate::new(None, epoch), interval_s: 0.01, given_until_s: 0.0 };
        let concurrency = server.concurrency.div_ceil(workers as usize);
        let new = |number| Worker::new(concurrency, number, workers);
        let mut workers: Vec<Worker> = (0..workers).map(new).collect();
        for step in 0..(server.seconds / STEP_S) as u64 {
            for worker in &mut workers {
                worker.step(step as f64 * STEP_S, epoch, &mut stored, &mut shared);
            }
        }
        shared.measured.held = stored.rate.held_rate();
        shared.measured
    }

    /// The tolerance of a share: the effect of a window of one second, and of the requests that are reported later.
    const NOISE: f64 = 0.03;

    /// This many refusals are allowed however few requests there are: each of the workers may be refused a few times
    /// before it knows.
    const FEW: f64 = 12.0;

    /// The servers of the grid that are near; those with a limit of a thousand take long to simulate.
    fn near(retry_after: Option<f64>, change: f64) -> impl Iterator<Item = Server> {
        servers(retry_after, change, 40.0).filter(|server| server.latency < 1.0 && server.limit(0.0) <= 200.0)
    }

    /// Runs four workers on these servers. Returns the mean of the shares of the limit that are used.
    fn mean_share(servers: impl Iterator<Item = Server>, worst: f64, refused_at_most: f64) -> f64 {
        let shares = servers.map(|server| {
            let measured = run(&server, 4);
            let share = measured.share_of(&server, 25.0, 40.0);
            let (limit, refused) = (server.limit(0.0), measured.refused_between(10.0, 40.0));
            assert!(share >= worst - NOISE, "{server:?}: {share:.3} of the limit");
            assert!(refused <= refused_at_most + FEW / (limit * 30.0), "{server:?}: {refused:.4} refused");
            share
        });
        let shares: Vec<f64> = shares.collect();
        shares.iter().sum::<f64>() / shares.len() as f64
    }

    #[test]
    fn workers_find_and_hold_a_limit_together() {
        let mean = mean_share(near(None, 1.0), 0.95, 0.01);
        assert!(mean >= 0.96, "{mean:.3}");
    }

    #[test]
    fn workers_find_a_raised_limit_together() {
        // At fifty a second a single refusal at a bad moment delays the search.
        let mean = mean_share(near(None, 2.0), 0.8, 0.02);
        assert!(mean >= 0.95, "{mean:.3}");
    }

    #[test]
    fn workers_keep_the_pauses_that_one_of_them_is_asked_for() {
        let mean = mean_share(near(Some(1.0), 1.0), 0.9, 0.01);
        assert!(mean >= 0.94, "{mean:.3}");
    }

    /// A bucket hides its rate until two refusals, and the first requests of a nearby server are sent within a report's
    /// interval.
    #[test]
    fn workers_find_the_rate_of_a_bucket_in_spite_of_pauses() {
        let server = near(Some(1.0), 1.0).find(|server| server.limit(0.0) == 200.0).unwrap();
        for (workers, limit) in [(2, 200.0), (2, 500.0), (4, 500.0), (4, 2000.0)] {
            let kind = LimiterKind::Bucket(0.1);
            let server = Server { kind, limits: vec![(0.0, limit)], latency: 0.0005, ..server.clone() };
            let share = run(&server, workers).share_of(&server, 20.0, 40.0);
            assert!(share >= 0.95, "{workers} workers at {limit}: {share:.3} of the limit");
        }
    }

    #[test]
    fn many_workers_find_a_limit_too() {
        let server = near(None, 1.0).find(|server| server.limit(0.0) == 200.0).unwrap();
        let measured = run(&server, 12);
        let (share, refused) = (measured.share_of(&server, 10.0, 40.0), measured.refused_between(10.0, 40.0));
        assert!(share >= 0.9 && refused <= 0.03, "{share:.3} of the limit, {refused:.4} refused");
    }

    #[test]
    fn a_state_is_read_as_it_was_written_and_short() {
        let epoch = Instant::now();
        let at = |ms: u64| epoch + Duration::from_millis(ms);
        let mut log = RateLog::new(0);
        for ms in 0..20_000 {
            let number = log.on_send(Delay::ByRate, at(ms));
            let retry_after = Some(Duration::from_millis(1));
            let signal = if ms % 1_900 == 1_899 {
                RateSignal::Throttled { retry_after }
            } else {
                RateSignal::Accepted
            };
            let success = Some(Duration::from_millis(1));
            log.on_response(number, Response { signal, success, is_outage: false }, at(ms + 1));
        }
        let mut rate = AdaptiveRate::new(None, epoch);
        rate.be_polite();
        let replay = log.replay(rate, at(20_000), at(20_000));
        let state = replay.state();
        assert!(state.len() < 8_000, "{} bytes", state.len());
        let mut again: AdaptiveRate = serde_json::from_str(&state).unwrap();
        again.set_shared(Timeline { moment: at(3_000), seconds: 3.0 }, REPORT_INTERVAL);
        assert_eq!(again.held_rate(), replay.rate.held_rate());
        assert!(again.held_rate().is_some());
        assert_eq!(serde_json::to_string(&again).unwrap(), state);
        assert_eq!(again.rate_in_effect(at(20_500)), replay.rate.rate_in_effect(at(20_500)));
    }

    #[test]
    fn a_rate_of_the_user_is_stored_too() {
        let state = serde_json::to_string(&AdaptiveRate::new(Some(50.0), Instant::now())).unwrap();
        let rate: AdaptiveRate = serde_json::from_str(&state).unwrap();
        assert_eq!(rate.rate_in_effect(Instant::now()), f64::INFINITY);
        assert_eq!(serde_json::to_string(&rate).unwrap(), state);
    }

    #[test]
    fn a_refusal_begins_a_pause_before_it_is_reported() {
        let epoch = Instant::now();
        let at = |ms: u64| epoch + Duration::from_millis(ms);
        let throttled =
            Response { signal: RateSignal::Throttled { retry_after: None }, success: None, is_outage: false };
        let accepted = Response { signal: RateSignal::Accepted, ..throttled };
        let rate = AdaptiveRate::new(None, epoch);
        let mut log = RateLog::new(0);
        let numbers: Vec<u64> = (0..4).map(|ms| log.on_send(Delay::None, at(ms))).collect();
        log.on_response(numbers[0], accepted, at(4));
        assert_eq!(log.pause_before_report(&rate, at(4)), None);
        log.on_response(numbers[1], throttled, at(5));
        let pause = log.pause_before_report(&rate, at(5)).unwrap();
        // The others in flight with it change nothing.
        log.on_response(numbers[2], throttled, at(6));
        assert_eq!(log.pause_before_report(&rate, at(6)), None);
        let (rate, changes) = log.accept(log.replay(rate, at(6), at(7)));
        assert_eq!(changes.iter().find_map(|one| one.change.pause), Some(pause), "as it is reported");
        log.on_response(numbers[3], throttled, at(8));
        assert_eq!(log.pause_before_report(&rate, at(8)), None);
        // The next one is refused as well, at the end of the pause.
        let again = log.on_send(Delay::None, at(7) + pause);
        log.on_response(again, throttled, at(8) + pause);
        assert!(log.pause_before_report(&rate, at(8) + pause).is_some());
    }

    /// What is in flight when a report is stored is reported with its response, whoever has stored meanwhile.
    #[test]
    fn a_response_belongs_to_its_request_in_any_later_report() {
        let epoch = Instant::now();
        let at = |ms: u64| epoch + Duration::from_millis(ms);
        let response = |signal| Response { signal, success: None, is_outage: false };
        let (mut one, mut other) = (RateLog::new(7), RateLog::new(0));
        let number = one.on_send(Delay::None, at(0));
        let abandoned = one.on_send(Delay::None, at(1));
        let rate = AdaptiveRate::new(None, epoch);
        let (rate, _) = one.accept(one.replay(rate, at(0), at(2)));
        assert!(!one.has_events());
        let others = other.on_send(Delay::None, at(2));
        other.on_response(others, response(RateSignal::Accepted), at(3));
        let (rate, _) = other.accept(other.replay(rate, at(0), at(4)));
        assert_eq!(rate.sent(), 3);
        let retry_after = Some(Duration::from_secs(2));
        one.on_abandoned(abandoned);
        one.on_response(number, response(RateSignal::Throttled { retry_after }), at(5));
        // A replay that is not stored changes nothing.
        drop(one.replay(rate.clone(), at(0), at(6)));
        let replay = one.replay(rate, at(0), at(6));
        assert_eq!(replay.paused_until(), Some(at(5) + Duration::from_secs(2)));
        let (_, changes) = one.accept(replay);
        assert_eq!(
            changes.iter().filter_map(|one| one.change.pause).collect::<Vec<_>>(),
            [Duration::from_secs(2)]
        );
        assert!(one.stamps.is_empty() && !one.has_events());
    }
}
