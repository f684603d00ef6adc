//! The adaptive rate against servers in virtual time: how much of a limit it uses, and how many requests it has refused.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use super::*;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::throttle) enum LimiterKind {
    Fixed,
    Sliding,
    /// A token bucket that holds this many seconds' requests.
    Bucket(f64),
}

/// A server in virtual time.
#[derive(Clone, Debug)]
pub(in crate::throttle) struct Server {
    pub(in crate::throttle) kind: LimiterKind,
    pub(in crate::throttle) latency: f64,
    pub(in crate::throttle) refusal_latency: f64,
    pub(in crate::throttle) retry_after: Option<f64>,
    /// Limits, each with the time from which it applies.
    pub(in crate::throttle) limits: Vec<(f64, f64)>,
    pub(in crate::throttle) concurrency: usize,
    pub(in crate::throttle) seconds: f64,
    pub(in crate::throttle) seed: u64,
    /// The share of requests that it throttles at random.
    pub(in crate::throttle) random_share: f64,
    /// Requests per second of others, at random times.
    pub(in crate::throttle) others: f64,
}

pub(in crate::throttle) struct Limiter {
    pub(in crate::throttle) window: VecDeque<f64>,
    pub(in crate::throttle) tokens: f64,
    pub(in crate::throttle) at: f64,
}

impl Server {
    pub(in crate::throttle) fn limit(&self, at: f64) -> f64 {
        self.limits.iter().rev().find(|(from, _)| at >= *from).map_or(1.0, |(_, limit)| *limit)
    }

    pub(in crate::throttle) fn admits(&self, limiter: &mut Limiter, at: f64) -> bool {
        let limit = self.limit(at);
        match self.kind {
            LimiterKind::Bucket(depth) => {
                let room = (depth * limit).max(1.0);
                limiter.tokens = (limiter.tokens + (at - limiter.at) * limit).min(room);
                limiter.at = at;
                let admitted = limiter.tokens >= 1.0;
                limiter.tokens -= f64::from(u8::from(admitted));
                admitted
            }
            kind => {
                // The fixed window begins at some arbitrary time.
                let begin = if kind == LimiterKind::Fixed { (at + 0.37).floor() - 0.37 } else { at - 1.0 };
                while limiter.window.front().is_some_and(|at| *at <= begin) {
                    limiter.window.pop_front();
                }
                let admitted = (limiter.window.len() as f64) < limit;
                if admitted {
                    limiter.window.push_back(at);
                }
                admitted
            }
        }
    }
}

#[derive(Default)]
pub(in crate::throttle) struct Measured {
    /// When each request was admitted or refused.
    pub(in crate::throttle) admitted: Vec<f64>,
    pub(in crate::throttle) refused: Vec<f64>,
    /// Number of others' requests, and how many of them were refused.
    pub(in crate::throttle) others: u64,
    pub(in crate::throttle) others_refused: u64,
    /// The held rate at the end.
    pub(in crate::throttle) held: Option<f64>,
}

impl Measured {
    pub(in crate::throttle) fn share_of(&self, server: &Server, from: f64, to: f64) -> f64 {
        let count = self.admitted.iter().filter(|at| (from..to).contains(*at)).count();
        count as f64 / (to - from) / server.limit(from)
    }

    pub(in crate::throttle) fn refused_between(&self, from: f64, to: f64) -> f64 {
        let refused = self.refused.iter().filter(|at| (from..to).contains(*at)).count() as f64;
        let admitted = self.admitted.iter().filter(|at| (from..to).contains(*at)).count() as f64;
        refused / (refused + admitted).max(1.0)
    }

    /// Seconds until the start of a second in which 95 % of the limit is used.
    pub(in crate::throttle) fn back_after(&self, server: &Server, from: f64) -> f64 {
        let tenths = (0..).map(|tenth| f64::from(tenth) / 10.0);
        tenths
            .take_while(|after| from + after + 1.0 <= server.seconds)
            .find(|after| self.share_of(server, from + after, from + after + 1.0) >= 0.95)
            .unwrap_or(f64::INFINITY)
    }
}

/// Runs a sender that always has something to send.
fn run(server: &Server) -> Measured {
    run_with(server, AdaptiveRate::new)
}

fn run_politely(server: &Server) -> Measured {
    run_with(server, |rate, now| {
        let mut adaptive = AdaptiveRate::new(rate, now);
        adaptive.be_polite();
        adaptive
    })
}

fn run_with(server: &Server, new: impl FnOnce(Option<f64>, Instant) -> AdaptiveRate) -> Measured {
    let epoch = Instant::now();
    let instant = |at: f64| epoch + Duration::from_secs_f64(at);
    let dice = |mut random: u64| {
        move || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 40) as f64 / f64::from(1 << 24)
        }
    };
    let (mut late, mut random) = (dice(server.seed), dice(!server.seed));
    let mut jitter = || late() * 0.001;
    let mut adaptive = new(None, epoch);
    let mut limiter = Limiter { window: VecDeque::new(), tokens: 0.0, at: -10.0 };
    let mut measured = Measured::default();
    let mut others = dice(server.seed + 99);
    let mut next_other = if server.others > 0.0 { 0.0 } else { f64::INFINITY };
    let mut answers: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
    let mut stamps = Vec::new();
    let nanos = |at: f64| (at * 1e9) as u64;
    let (mut now, mut paused_until) = (0.0, 0.0_f64);
    while now < server.seconds {
        while next_other <= now {
            measured.others += 1;
            measured.others_refused += u64::from(!server.admits(&mut limiter, next_other));
            next_other -= (1.0 - others()).ln() / server.others;
        }
        let mut wake = f64::INFINITY;
        while answers.len() < server.concurrency {
            if now < paused_until {
                wake = paused_until;
                break;
            }
            match adaptive.try_acquire(instant(now)) {
                Ok(()) => {
                    let stamp = adaptive.on_send(instant(now));
                    let arrives = now + jitter();
                    let is_random = random() < server.random_share;
                    let admitted = !is_random && server.admits(&mut limiter, arrives);
                    let latency = if admitted { server.latency } else { server.refusal_latency };
                    if admitted { &mut measured.admitted } else { &mut measured.refused }.push(arrives);
                    answers.push(Reverse((nanos(arrives + latency), stamps.len() as u64)));
                    stamps.push((stamp, admitted));
                }
                Err(until) => {
                    wake = until.duration_since(epoch).as_secs_f64() + jitter();
                    break;
                }
            }
        }
        if let Some(Reverse((at, _))) = answers.peek() {
            wake = wake.min(*at as f64 / 1e9);
        }
        wake = wake.min(next_other);
        now = wake.max(now);
        while let Some(Reverse((at, number))) = answers.peek().copied()
            && at as f64 / 1e9 <= now
        {
            answers.pop();
            let (stamp, admitted) = stamps[number as usize];
            let retry_after = server.retry_after.map(Duration::from_secs_f64);
            let signal = if admitted { RateSignal::Accepted } else { RateSignal::Throttled { retry_after } };
            let pause = adaptive.on_signal(stamp, signal, instant(now));
            paused_until = paused_until.max(now + pause.unwrap_or_default().as_secs_f64());
        }
    }
    measured.held = adaptive.held_rate();
    measured
}

/// The tolerance of a share: the effect of a window of one second or a jitter of a millisecond.
pub(in crate::throttle) const NOISE: f64 = 0.02;

/// This many refusals are allowed however few requests there are.
pub(in crate::throttle) const FEW: f64 = 6.0;

pub(in crate::throttle) const KINDS: [LimiterKind; 4] =
    [LimiterKind::Fixed, LimiterKind::Sliding, LimiterKind::Bucket(0.1), LimiterKind::Bucket(1.0)];

/// All servers of the grid: every kind, limit and latency. After twenty seconds the limit changes by a factor.
pub(in crate::throttle) fn servers(
    retry_after: Option<f64>,
    change: f64,
    seconds: f64,
) -> impl Iterator<Item = Server> {
    let of = move |kind, limit: f64, latency: f64| Server {
        kind,
        latency,
        refusal_latency: 0.002,
        retry_after,
        limits: vec![(0.0, limit), (20.0, limit * change)],
        concurrency: ((limit * 2.0 * latency * 1.3) as usize).max(64),
        seconds,
        seed: 7,
        random_share: 0.0,
        others: 0.0,
    };
    let limits = [50.0, 200.0, 1000.0];
    let cases = KINDS.into_iter().flat_map(move |kind| limits.map(|limit| (kind, limit)));
    cases.flat_map(move |(kind, limit)| [0.005, 2.0].map(|latency| of(kind, limit, latency)))
}

/// Checks that at least these shares of the limit are used from the tenth second to the change, and from five
/// seconds after it; that no larger share is refused from the tenth second on; and that a raised limit is reached
/// within `back` seconds.
fn check(server: &Server, shares: [f64; 2], refused_at_most: f64, back: f64) {
    let measured = run(server);
    let end = server.seconds;
    let reached = [measured.share_of(server, 10.0, 20.0), measured.share_of(server, 25.0, end)];
    let allowed = |share: f64, from: f64, to: f64| share + FEW / (server.limits[0].1 * (to - from));
    let refused = [measured.refused_between(0.0, 10.0), measured.refused_between(10.0, end)];
    let took = measured.back_after(server, 20.0);
    let details = format!("{server:?}: shares {reached:.3?}, refused {refused:.4?}, back after {took:.1}");
    assert!(reached[0] >= shares[0] - NOISE && reached[1] >= shares[1] - NOISE, "{details}");
    assert!(refused[0] <= allowed(0.05, 0.0, 10.0), "{details}");
    assert!(refused[1] <= allowed(refused_at_most, 10.0, end), "{details}");
    assert!(took <= back, "{details}");
    // Users may pass the reported rate as `--rate`. A pause within the average makes it too low, which does no
    // harm. A bucket of one second's requests fills up in each pause, and it takes longer than the window to
    // detect that it drains faster than it refills: then the reported rate is too high, a known fault.
    let Some(held) = measured.held else {
        // A raised limit admits so much that there seems to be none, until it refuses.
        assert!(server.limits[1].1 > server.limits[0].1, "{details}");
        return;
    };
    let held = held / server.limit(end);
    let is_deep = server.kind == LimiterKind::Bucket(1.0) && server.retry_after.is_some();
    let allowed = 0.7..=if is_deep { 1.15 } else { 1.05 };
    assert!(allowed.contains(&held), "held {held:.3}: {details}");
}

#[test]
fn a_limit_is_found_and_held() {
    for server in servers(None, 1.0, 40.0) {
        check(&server, [0.95, 0.95], 0.01, 5.0);
    }
}

/// A window aligned to the second reveals the limit most slowly: a raised limit may take two seconds longer
/// there.
#[test]
fn a_raised_limit_is_found_again() {
    for server in servers(None, 2.0, 45.0) {
        check(&server, [0.95, 0.93], 0.01, if server.kind == LimiterKind::Fixed { 7.0 } else { 5.0 });
    }
}

/// Fewer requests dilute the refusals of the change itself less: at 25 a second two in a hundred.
#[test]
fn a_halved_limit_is_found_again() {
    for server in servers(None, 0.5, 45.0) {
        check(&server, [0.95, 0.95], 0.02, 5.0);
    }
}

/// Each refusal costs a second, including those of the search after the tenth second.
#[test]
fn requested_pauses_are_rare() {
    for server in servers(Some(1.0), 1.0, 80.0) {
        check(&server, [0.58, 0.92], 0.01, f64::INFINITY);
    }
    for server in servers(Some(1.0), 0.5, 80.0) {
        check(&server, [0.58, 0.88], 0.01, f64::INFINITY);
    }
}

/// Finding a raised limit within five seconds would need more pauses than the time allows.
#[test]
fn a_raised_limit_is_found_again_in_spite_of_pauses() {
    for server in servers(Some(1.0), 2.0, 110.0) {
        check(&server, [0.58, 0.4], 0.01, 65.0);
    }
}

/// Two refusals determine the rate of a bucket whose burst hides it, and each costs the pause that the server
/// requests: what is admitted in twelve seconds takes two more, and the rest of this bound allows for the unused
/// hundredths.
#[test]
fn the_start_costs_two_refusals() {
    let kinds = [LimiterKind::Bucket(0.04), LimiterKind::Bucket(0.1), LimiterKind::Sliding];
    for (kind, limit) in kinds.into_iter().flat_map(|kind| [200.0, 500.0, 2000.0].map(|limit| (kind, limit)))
    {
        for (retry_after, latency) in
            [None, Some(1.0)].into_iter().flat_map(|pause| [0.0005, 0.02].map(|latency| (pause, latency)))
        {
            let servers = (1..=5).map(|seed| Server {
                kind,
                latency,
                refusal_latency: latency.min(0.002),
                retry_after,
                limits: vec![(0.0, limit)],
                concurrency: 64,
                seconds: 30.0,
                seed,
                random_share: 0.0,
                others: 0.0,
            });
            let mut took: Vec<f64> =
                servers.map(|server| run(&server).admitted[(12.0 * limit) as usize]).collect();
            took.sort_by(f64::total_cmp);
            let bound = if retry_after.is_some() { 14.6 } else { 14.0 };
            assert!(took[2] <= bound, "{kind:?} {limit} {retry_after:?} {latency}: {took:.1?}");
        }
    }
}

/// At the high rate of slow start, a server handles requests in another order than they were sent: it accepts some of
/// those sent after a refused one. They have filled the bucket too.
#[test]
fn the_rate_of_a_bucket_is_measured_whatever_order_a_burst_is_handled_in() {
    const STEP_S: f64 = 0.0005;
    let (limit, burst) = (500.0, 50.0_f64);
    let epoch = Instant::now();
    let mut adaptive = AdaptiveRate::new(None, epoch);
    let (mut tokens, mut handled) = (burst, Vec::new());
    for step in 0..20_000_u32 {
        let now = epoch + Duration::from_secs_f64(f64::from(step) * STEP_S);
        tokens = burst.min(tokens + limit * STEP_S);
        for (stamp, is_accepted) in std::mem::take(&mut handled) {
            let refusal = RateSignal::Throttled { retry_after: Some(Duration::from_secs(1)) };
            adaptive.on_signal(stamp, if is_accepted { RateSignal::Accepted } else { refusal }, now);
        }
        if adaptive.is_found() {
            break;
        }
        let mut sent = Vec::new();
        while sent.len() < 32 && adaptive.try_acquire(now).is_ok() {
            sent.push(adaptive.on_send(now));
        }
        for stamp in sent.into_iter().rev() {
            let is_accepted = tokens >= 1.0;
            tokens -= f64::from(u8::from(is_accepted));
            handled.push((stamp, is_accepted));
        }
    }
    let share = adaptive.rate / (TARGET_OF_BUCKET * limit);
    assert!(adaptive.is_found() && (share - 1.0).abs() <= NOISE, "{share:.3} of the limit");
}

/// Others send forty requests a second to a limit of a hundred, which does not distinguish senders. Without
/// courtesy, a run causes 0.6 to 4 % of their requests to be refused; with it at most three in a thousand.
#[test]
fn others_on_the_same_limit_are_hardly_refused() {
    for (kind, (retry_after, seed)) in
        KINDS.into_iter().flat_map(|kind| [(None, 1), (Some(1.0), 2)].map(|more| (kind, more)))
    {
        let server = Server {
            kind,
            latency: 0.02,
            refusal_latency: 0.002,
            retry_after,
            limits: vec![(0.0, 100.0)],
            concurrency: 32,
            seconds: 600.0,
            seed,
            random_share: 0.0,
            others: 40.0,
        };
        let refused = |measured: &Measured| measured.others_refused as f64 / measured.others as f64;
        let (rude, polite) = (run(&server), run_politely(&server));
        let used = polite.share_of(&server, 0.0, 600.0) / 0.6;
        let details =
            format!("{server:?}: {:.4}, {:.4} without, used {used:.2}", refused(&polite), refused(&rude));
        assert!(refused(&polite) <= 0.003 && refused(&polite) < refused(&rude), "{details}");
        assert!(used >= 0.65, "{details}");
    }
}

/// The same in the first minute, over ten runs each: few refusals are sufficient to find the limit.
#[test]
fn others_are_hardly_refused_while_the_limit_is_found() {
    for (kind, (limit, others)) in
        KINDS.into_iter().flat_map(|kind| [(100.0, 40.0), (500.0, 200.0)].map(|limit| (kind, limit)))
    {
        let servers = (1..=10).map(|seed| Server {
            kind,
            latency: 0.03,
            refusal_latency: 0.002,
            retry_after: None,
            limits: vec![(0.0, limit)],
            concurrency: 64,
            seconds: 60.0,
            seed,
            random_share: 0.0,
            others,
        });
        let measured: Vec<_> = servers.map(|server| run_politely(&server)).collect();
        let sum = |of: fn(&Measured) -> u64| measured.iter().map(of).sum::<u64>() as f64;
        let refused = sum(|measured| measured.others_refused) / sum(|measured| measured.others);
        let used = sum(|measured| measured.admitted.len() as u64) / 600.0 / (limit - others);
        assert!(refused <= 0.004 && used >= 0.55, "{kind:?} {limit}: {refused:.4}, used {used:.2}");
    }
}

/// Random throttling does not lower the rate permanently. Detecting it takes some refusals, and so up to a
/// minute if they are frequent.
#[test]
fn random_throttling_is_no_limit() {
    for (kind, limit) in
        [(LimiterKind::Fixed, 200.0), (LimiterKind::Bucket(0.1), 1000.0), (LimiterKind::Sliding, 1e9)]
    {
        for random_share in [0.01, 0.02, 0.05] {
            let servers = (1..=6).map(|seed| Server {
                kind,
                latency: 0.02,
                refusal_latency: 0.002,
                retry_after: None,
                limits: vec![(0.0, limit)],
                concurrency: 64,
                seconds: 180.0,
                seed,
                random_share,
                others: 0.0,
            });
            let best = limit.min(64.0 / 0.02 * (1.0 - random_share));
            let reached: Vec<f64> =
                servers.map(|server| run(&server).share_of(&server, 60.0, 180.0) * limit / best).collect();
            let details = format!("{kind:?} {limit} {random_share}: {reached:.2?}");
            assert!(reached.iter().sum::<f64>() >= 0.8 * reached.len() as f64, "{details}");
            assert!(reached.iter().all(|one| *one >= 0.3), "{details}");
        }
    }
}

/// If pauses are longer than the window, or nothing at all is admitted for a while, little is known about the
/// limit; it is found nevertheless, with few refusals.
#[test]
fn the_limit_is_found_after_long_pauses_and_after_total_refusal() {
    for (retry_after, closed) in [(None, true), (Some(1.0), true), (Some(10.0), false), (Some(60.0), false)] {
        for server in servers(retry_after, 1.0, 300.0).chain(
            servers(retry_after, 1.0, 300.0)
                .map(|server| Server { limits: vec![(0.0, 5.0)], ..server })
                .step_by(6),
        ) {
            let limit = server.limits[0].1;
            let limits = if closed { vec![(0.0, limit), (1.0, 0.0), (15.0, limit)] } else { server.limits };
            let server = Server { limits, ..server };
            let measured = run(&server);
            let share = measured.share_of(&server, 100.0, 300.0);
            let refused = measured.refused_between(100.0, 300.0);
            // One refusal every few seconds is a large share at five requests a second.
            let allowed = 0.01 + 0.4 / limit;
            assert!(share >= 0.15 && refused <= allowed, "{server:?}: {share:.2}, refused {refused:.4}");
        }
    }
}

/// With long pauses a rate is held for minutes, which is longer than the window.
#[test]
fn a_limit_lowered_in_a_long_hold_is_found_again() {
    for server in servers(Some(10.0), 1.0, 700.0).filter(|server| server.latency < 1.0) {
        let limit = server.limits[0].1;
        let server = Server { limits: vec![(0.0, limit), (400.0, 0.6 * limit)], ..server };
        let share = run(&server).share_of(&server, 600.0, 700.0);
        assert!(share >= 0.3, "{server:?}: {share:.2}");
    }
}

/// After an outage the user's rate is in effect again, and a limit below it is found.
#[test]
fn an_outage_leaves_the_users_rate_as_it_was() {
    let epoch = Instant::now();
    let mut adaptive = AdaptiveRate::new(Some(200.0), epoch);
    let mut now = epoch;
    let mut send = |adaptive: &mut AdaptiveRate, signal: RateSignal| {
        while let Err(until) = adaptive.try_acquire(now) {
            now = until;
        }
        now += Duration::from_millis(5);
        let stamp = adaptive.on_send(now);
        adaptive.on_signal(stamp, signal, now)
    };
    for signal in [RateSignal::Accepted, RateSignal::Unavailable { retry_after: None }] {
        for _ in 0..40 {
            send(&mut adaptive, signal);
        }
    }
    adaptive.reset_after_outage();
    assert_eq!((adaptive.rate, adaptive.held_rate()), (f64::INFINITY, None));
    for _ in 0..100 {
        send(&mut adaptive, RateSignal::Accepted);
    }
    assert!(send(&mut adaptive, RateSignal::Throttled { retry_after: None }).is_some());
    assert!(adaptive.held_rate().is_some_and(|rate| rate < 200.0));
    // The rate was not lowered by an outage, so a later outage does not restore it.
    let held = adaptive.rate;
    for signal in [RateSignal::Unavailable { retry_after: None }, RateSignal::Accepted] {
        for _ in 0..100 {
            send(&mut adaptive, signal);
        }
    }
    adaptive.reset_after_outage();
    assert!(adaptive.rate < held, "{} {held}", adaptive.rate);
}

/// A sender at a server with a limit, whose service can be down.
struct OutageRun {
    adaptive: AdaptiveRate,
    now: Instant,
}

impl OutageRun {
    const LIMIT: f64 = 50.0;

    /// A run that has found the limit.
    fn start() -> OutageRun {
        let epoch = Instant::now();
        let mut run = OutageRun { adaptive: AdaptiveRate::new(None, epoch), now: epoch };
        while run.now < epoch + Duration::from_secs(12) {
            run.send(0, false);
        }
        run
    }

    /// Sends the next request after a pause. Returns whether it was throttled.
    fn send(&mut self, pause_ms: u64, is_outage: bool) -> bool {
        self.now += Duration::from_millis(pause_ms);
        while let Err(until) = self.adaptive.try_acquire(self.now) {
            self.now = until;
        }
        let is_throttled = self.adaptive.rate_in_effect(self.now) > Self::LIMIT && !is_outage;
        let throttled = RateSignal::Throttled { retry_after: None };
        let signal = if is_throttled { throttled } else { RateSignal::Accepted };
        let stamp = self.adaptive.on_send(self.now);
        self.now += Duration::from_millis(2);
        self.adaptive.on_response(stamp, Response { signal, success: None, is_outage }, self.now);
        is_throttled
    }

    /// One probe a second.
    fn outage(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.send(1000, true);
        }
    }
}

/// If a higher rate was being tried when the outage began, the refusal comes when little has been accepted since.
#[test]
fn a_refusal_soon_after_an_outage_does_not_halve_the_rate() {
    let mut run = OutageRun::start();
    let held = run.adaptive.rate;
    while run.adaptive.rate_in_effect(run.now) < 0.98 * OutageRun::LIMIT {
        run.send(0, false);
    }
    run.outage(5);
    let accepted = (0..).take_while(|_| !run.send(0, false)).count();
    assert!(accepted < 30, "{accepted} in less than a second");
    let rate = run.adaptive.rate;
    assert!(held > 0.9 * OutageRun::LIMIT && rate > 0.9 * held, "{rate} after {held}");
}

/// The previous throttling is then longer ago than requests are counted.
#[test]
fn a_refusal_of_a_held_rate_after_a_long_outage_or_a_long_wait_does_not_halve_the_rate() {
    let outage = |run: &mut OutageRun| run.outage(30);
    let no_rows = |run: &mut OutageRun| run.now += Duration::from_secs(30);
    for interrupt in [&outage as &dyn Fn(&mut OutageRun), &no_rows] {
        let mut run = OutageRun::start();
        while !run.send(0, false) {}
        let held = run.adaptive.rate;
        interrupt(&mut run);
        // The hold goes on: neither counts towards it.
        let resumed = run.now;
        while run.now < resumed + Duration::from_secs(1) {
            assert!(!run.send(0, false));
        }
        // Another window of the server begins at a moment that the sender does not know.
        let stamp = run.adaptive.on_send(run.now);
        let signal = RateSignal::Throttled { retry_after: None };
        run.adaptive.on_response(stamp, Response { signal, success: None, is_outage: false }, run.now);
        let rate = run.adaptive.rate;
        assert!(held > 0.9 * OutageRun::LIMIT && rate > 0.9 * held, "{rate} after {held}");
    }
}

#[test]
fn the_users_rate_is_not_changed_without_throttling() {
    let epoch = Instant::now();
    let mut adaptive = AdaptiveRate::new(Some(5_000.0), epoch);
    for number in 0..100_000 {
        let now = epoch + Duration::from_micros(number);
        assert_eq!(adaptive.try_acquire(now), Ok(()));
        let stamp = adaptive.on_send(now);
        assert_eq!(adaptive.on_signal(stamp, RateSignal::Accepted, now), None);
    }
    assert_eq!(adaptive.held_rate(), None);
}

#[test]
fn few_503_are_no_throttling_and_many_are_and_those_of_an_outage_are_undone() {
    let epoch = Instant::now();
    let mut adaptive = AdaptiveRate::new(None, epoch);
    let mut now = epoch;
    let mut send = |adaptive: &mut AdaptiveRate, signal: RateSignal| {
        while let Err(until) = adaptive.try_acquire(now) {
            now = until;
        }
        let stamp = adaptive.on_send(now);
        adaptive.on_signal(stamp, signal, now)
    };
    for number in 0..1_000 {
        let signal = if number % 20 == 0 {
            RateSignal::Unavailable { retry_after: None }
        } else {
            RateSignal::Accepted
        };
        assert_eq!(send(&mut adaptive, signal), None);
    }
    let before = adaptive.rate;
    let pauses = (0..40)
        .filter(|_| send(&mut adaptive, RateSignal::Unavailable { retry_after: None }).is_some())
        .count();
    assert!(pauses > 0 && adaptive.rate < before, "{pauses}");
    adaptive.reset_after_outage();
    assert_eq!(adaptive.rate, before);
}
