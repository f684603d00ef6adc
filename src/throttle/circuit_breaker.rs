//! Circuit breaker: decides whether requests may be sent at all. It has two circuits, one for the service and one for
//! its writes, and holds requests during a pause that the API requests.
//!
//! Pure: time is an argument, and nothing here waits.
//!
//! A series of failures without a single success means that the service is down, if the series is longer than random
//! failures at their recent share would explain. The circuit of the service opens: every request waits, and one at a
//! time is admitted as a probe (half-open) until one succeeds.
//!
//! The API may also go on answering reads while every write fails (a database that is read-only, a quota, a
//! deployment). Successful reads would hide that, so writes have a circuit of their own. It counts one failure per
//! row, that of the row's first write: a few rows at the end of a file that fail for reasons of their own are not an
//! outage, and their repeated attempts must not make them one. No read shows whether writes work again, so one row at
//! a time probes with its own write. A row that has not failed yet goes first, because a row that has failed may
//! itself be the cause. A read that finds the customer of a Create whose response was lost shows that writes work.
//! Once no further row is to come, failing writes are those of the last rows, and not an outage.
//!
//! A failed probe shows that the failures before it belong to the outage, so rows get an attempt refunded. Nothing is
//! refunded before that; otherwise a few bad rows in succession would look like an outage.

use std::time::Duration;

use tokio::time::Instant;

/// The first and the longest delay between two probes. A recovery is noticed within five seconds: at most two for a
/// probe that gets no response, and three until the next probe.
const PROBE_DELAY_FIRST: Duration = Duration::from_millis(500);
const PROBE_DELAY_MAX: Duration = Duration::from_millis(2_500);

const PROBE_TIMEOUT_MIN: Duration = Duration::from_secs(2);

/// The probe timeout doubles up to 32 seconds; the timeout of a request is a bound in any case.
const PROBE_DOUBLINGS_MAX: u64 = 4;

/// Additional delay before a row that has failed before may probe.
const REPEATED_WRITE_DELAY: Duration = Duration::from_millis(250);

/// Minimum number of rows whose write must fail, with no success in between, to open the circuit of writes.
const WRITE_FAILURES_MIN: u32 = 16;

/// Weight of each response in the moving average of failures: one in this many.
const FAILURE_WINDOW: f64 = 64.0;

/// A series of failures counts as an outage if random failures produce one of that length less often than this.
const CHANCE_SERIES: f64 = 1e-5;

/// The longest series that is not an outage, however many requests fail at random.
const CHANCE_SERIES_MAX: f64 = 64.0;

/// How long a proxy may refuse every request before that counts as an outage.
const REFUSED_MAX: Duration = Duration::from_secs(2);

/// What a response says about the service, regardless of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceSignal {
    /// The service responds.
    Up,
    /// The service responds to a read, and the response shows that a write whose response was lost has worked.
    WriteConfirmed,
    /// No connection, no response, or a failure such as 5xx.
    Down,
    /// The service responds that there are too many requests.
    Throttled,
    /// A proxy does not pass requests on: there are too many, or the service is down.
    RefusedByProxy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestClass {
    Read,
    /// No write of the row has failed before.
    FirstWrite,
    RepeatedWrite,
}

impl RequestClass {
    fn is_write(self) -> bool {
        self != RequestClass::Read
    }
}

/// The circuit that an admitted request probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    Service,
    Writes,
}

/// First writes that are still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpcomingWrites {
    /// Unknown how many: there is more to read.
    Many,
    /// Only those of rows that wait for a slot.
    Few,
    /// None: all rows have been started.
    None,
}

/// An admitted request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admitted {
    pub(super) class: RequestClass,
    pub(super) probe: Option<Probe>,
    /// The number of the request, in the order of sending.
    pub(super) number: u64,
    /// [`CircuitBreaker::failed_probes`] when the request was sent.
    pub(super) failed_probes: u64,
}

/// What a request has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Until(Instant),
    /// The result of the probe in flight.
    ForProbe,
}

/// The circuit breaker of one run.
pub(super) struct CircuitBreaker {
    /// The pause in effect, or the last one, until a request that was sent after it has a result.
    pause: Option<Pause>,
    service: Circuit,
    service_failures_max: u32,
    /// The share of failures among recent responses, without those of outages.
    failure_share: f64,
    /// Whether a read has succeeded, so that failing writes do not mean that the service is down. Reset when a read
    /// fails, or when a write succeeds and closes both circuits.
    reads_succeed: bool,
    writes: Circuit,
    write_failures_max: u32,
    upcoming_writes: UpcomingWrites,
    /// Number of failed probes; each of them refunds an attempt to rows.
    failed_probes: u64,
    /// A moving average over successful responses.
    typical_latency: Option<Duration>,
}

/// A period in which nothing is admitted.
#[derive(Clone, Copy)]
struct Pause {
    from: Instant,
    until: Instant,
    /// The number of the first request that was sent after it.
    first_after: Option<u64>,
}

#[derive(Default)]
struct Circuit {
    consecutive_failures: u32,
    /// The number of the first failed request. Successes of earlier requests were sent before the failures began and
    /// say nothing about the current state.
    first_failed: u64,
    /// The time of the first failed response since the last success.
    failing_since: Option<Instant>,
    /// `None` while the circuit is closed.
    open: Option<Open>,
}

struct Open {
    next_probe: Instant,
    delay: Duration,
    /// Whether the circuit is half-open.
    probe_in_flight: bool,
}

impl CircuitBreaker {
    pub(super) fn new(concurrency: usize) -> CircuitBreaker {
        let at_most = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        CircuitBreaker {
            pause: None,
            service: Circuit::default(),
            // A tenth of the requests in flight: what may still be sent while the first failures arrive.
            service_failures_max: at_most(concurrency.div_ceil(10)).max(2),
            failure_share: 0.0,
            reads_succeed: false,
            writes: Circuit::default(),
            write_failures_max: at_most(concurrency).max(WRITE_FAILURES_MIN),
            upcoming_writes: UpcomingWrites::Many,
            failed_probes: 0,
            typical_latency: None,
        }
    }

    /// Whether a request would be admitted now, and as which probe.
    pub(super) fn check(&self, class: RequestClass, now: Instant) -> Result<Option<Probe>, Wait> {
        if let Some(pause) = self.pause_at(now) {
            return Err(Wait::Until(pause.until));
        }
        let (probe, open) = match (&self.service.open, &self.writes.open) {
            (Some(open), _) => (Probe::Service, open),
            (None, Some(open)) if class.is_write() => (Probe::Writes, open),
            _ => return Ok(None),
        };
        if open.probe_in_flight {
            return Err(Wait::ForProbe);
        }
        let yields_to_others = probe == Probe::Writes && class == RequestClass::RepeatedWrite;
        let due = open.next_probe + if yields_to_others { REPEATED_WRITE_DELAY } else { Duration::ZERO };
        if now < due { Err(Wait::Until(due)) } else { Ok(Some(probe)) }
    }

    /// Admits a request that is sent immediately. A probe keeps the circuit half-open until its result.
    pub(super) fn admit(&mut self, class: RequestClass, number: u64, now: Instant) -> Result<Admitted, Wait> {
        let probe = self.check(class, now)?;
        if let Some(open) = self.probed(probe) {
            open.probe_in_flight = true;
        }
        if let Some(pause) = &mut self.pause {
            pause.first_after.get_or_insert(number);
        }
        // The probe of the service is a read, whatever the row is about to send.
        let class = if probe == Some(Probe::Service) { RequestClass::Read } else { class };
        Ok(Admitted { class, probe, number, failed_probes: self.failed_probes })
    }

    /// Handles the result of a request. Returns whether waiting requests should check again.
    pub(super) fn on_result(
        &mut self,
        admitted: Admitted,
        signal: ServiceSignal,
        latency: Duration,
        now: Instant,
    ) -> bool {
        let Admitted { class, probe, number, .. } = admitted;
        self.pause = self.pause.filter(|pause| pause.first_after.is_none_or(|first| number < first));
        let mut has_closed = false;
        match signal {
            ServiceSignal::Up | ServiceSignal::WriteConfirmed => {
                self.observe_latency(latency);
                let failures = self.service.consecutive_failures;
                has_closed = self.service.on_success(number);
                if !has_closed && self.service.consecutive_failures == 0 {
                    self.observe_series(failures);
                }
                let writes_work = class.is_write() || signal == ServiceSignal::WriteConfirmed;
                has_closed |= writes_work && self.writes.on_success(number);
                self.reads_succeed = !class.is_write() && (has_closed || self.reads_succeed);
            }
            ServiceSignal::Throttled => self.service.on_throttled(now),
            ServiceSignal::RefusedByProxy => {
                self.service.on_throttled(now);
                // A rate limit would let some requests through.
                if self.service.failing_since.is_some_and(|since| now - since >= REFUSED_MAX) {
                    self.service.on_failure(number, self.service_series_max(), now);
                }
                self.failed_probes += u64::from(probe.is_some());
            }
            ServiceSignal::Down => {
                self.reads_succeed &= class.is_write();
                // While the circuit of writes is open, only its probes may be sent, so their failures are not a
                // series of failures of the service.
                if probe != Some(Probe::Writes) && !self.reads_succeed {
                    self.service.on_failure(number, self.service_series_max(), now);
                }
                if class == RequestClass::FirstWrite && self.upcoming_writes != UpcomingWrites::None {
                    self.writes.on_failure(number, self.write_failures_max, now);
                }
                self.failed_probes += u64::from(probe.is_some());
            }
        }
        // A successful probe has closed its circuit above; a failed or superseded one doubles the delay to the next
        // probe. Each of the last rows may probe once: with few of them the delay need not grow.
        let is_last = probe == Some(Probe::Writes) && self.upcoming_writes == UpcomingWrites::Few;
        if let Some(open) = self.probed(probe) {
            open.probe_in_flight = false;
            open.next_probe = now + if is_last { PROBE_DELAY_FIRST } else { open.delay };
            open.delay = (open.delay * 2).min(PROBE_DELAY_MAX);
        }
        has_closed || probe.is_some()
    }

    /// The number of successive failures that opens the circuit of the service: more than random failures explain.
    fn service_series_max(&self) -> u32 {
        let chance_series =
            (CHANCE_SERIES.ln() / self.failure_share.clamp(0.01, 0.99).ln()).min(CHANCE_SERIES_MAX);
        self.service_failures_max.max(chance_series as u32)
    }

    /// Sets which first writes are to come. Without any, nothing can show whether writes work again: their circuit
    /// closes, and the remaining rows use up their attempts. Returns whether waiting requests should check again.
    pub(super) fn set_upcoming_writes(&mut self, upcoming: UpcomingWrites) -> bool {
        self.upcoming_writes = upcoming;
        upcoming == UpcomingWrites::None && std::mem::take(&mut self.writes).open.is_some()
    }

    /// Whether writes wait while reads do not.
    pub(super) fn are_only_writes_open(&self) -> bool {
        self.writes.open.is_some() && self.service.open.is_none()
    }

    /// Handles that a probe was abandoned without a result: another one may be sent. Returns whether waiting requests
    /// should check again.
    pub(super) fn abandon_probe(&mut self, probe: Option<Probe>) -> bool {
        if let Some(open) = self.probed(probe) {
            open.probe_in_flight = false;
        }
        probe.is_some()
    }

    fn probed(&mut self, probe: Option<Probe>) -> Option<&mut Open> {
        match probe? {
            Probe::Service => self.service.open.as_mut(),
            Probe::Writes => self.writes.open.as_mut(),
        }
    }

    /// Admits nothing until this time; of two pauses the later end counts. Returns whether no pause was in effect:
    /// each of the requests in flight together may get the same pause.
    pub(super) fn pause(&mut self, until: Instant, now: Instant) -> bool {
        let is_new = self.pause_at(now).is_none();
        let until = self.pause_at(now).map_or(until, |pause| pause.until.max(until));
        let from = self.pause.map_or(now, |pause| pause.from);
        self.pause = Some(Pause { from, until, first_after: None });
        is_new
    }

    pub(super) fn pause_left(&self, now: Instant) -> Duration {
        self.pause_at(now).map_or(Duration::ZERO, |pause| pause.until - now)
    }

    fn pause_at(&self, now: Instant) -> Option<Pause> {
        self.pause.filter(|pause| now < pause.until)
    }

    /// How long there has been no success, although requests were sent. A pause does not count until a request that was
    /// sent after it has failed: the API has requested the pause, and the first request after it may succeed.
    pub(super) fn failing_for(&self, now: Instant) -> Option<Duration> {
        let failing = |since: Instant| match self.pause {
            Some(Pause { from, until, .. }) => {
                from.saturating_duration_since(since) + now.saturating_duration_since(until)
            }
            None => now.saturating_duration_since(since),
        };
        self.failing_since().map(failing)
    }

    /// Since when there has been no success, although requests were sent.
    fn failing_since(&self) -> Option<Instant> {
        // A few rows that cannot be created are not an outage yet.
        let writes = self.writes.open.as_ref().and(self.writes.failing_since);
        self.service.failing_since.into_iter().chain(writes).min()
    }

    /// Whether either circuit is open.
    pub(super) fn is_open(&self) -> bool {
        self.service.open.is_some() || self.writes.open.is_some()
    }

    /// The timeout of a probe. A response that takes eight times the typical latency is not going to arrive, and
    /// while a probe waits for it, the service may have recovered. If no latency is typical, each failed probe
    /// doubles the timeout: a service that is always slow must not count as unavailable.
    pub(super) fn probe_timeout(&self) -> Duration {
        match self.typical_latency {
            Some(typical) => (typical * 8).max(PROBE_TIMEOUT_MIN),
            None => PROBE_TIMEOUT_MIN * 2_u32.pow(self.failed_probes.min(PROBE_DOUBLINGS_MAX) as u32),
        }
    }

    /// Handles a series of failures that ended with a success, so that it was not an outage.
    fn observe_series(&mut self, failures: u32) {
        for failure in std::iter::repeat_n(1.0, failures as usize).chain([0.0]) {
            self.failure_share += (failure - self.failure_share) / FAILURE_WINDOW;
        }
    }

    fn observe_latency(&mut self, latency: Duration) {
        self.typical_latency =
            Some(self.typical_latency.map_or(latency, |typical| (typical * 7 + latency) / 8));
    }
}

impl Circuit {
    /// Handles a success; returns whether it has closed the circuit.
    fn on_success(&mut self, number: u64) -> bool {
        if self.consecutive_failures > 0 && number < self.first_failed {
            return false;
        }
        std::mem::take(self).open.is_some()
    }

    fn on_throttled(&mut self, now: Instant) {
        self.failing_since.get_or_insert(now);
    }

    fn on_failure(&mut self, number: u64, failures_max: u32, now: Instant) {
        self.failing_since.get_or_insert(now);
        // The lowest number, because responses can overtake each other.
        self.first_failed =
            if self.consecutive_failures == 0 { number } else { self.first_failed.min(number) };
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        if self.consecutive_failures >= failures_max {
            self.open.get_or_insert_with(|| Open {
                next_probe: now + PROBE_DELAY_FIRST,
                delay: PROBE_DELAY_FIRST * 2,
                probe_in_flight: false,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: RequestClass = RequestClass::FirstWrite;
    const AGAIN: RequestClass = RequestClass::RepeatedWrite;

    /// A breaker with the requests that it admitted.
    struct Breaker {
        breaker: CircuitBreaker,
        sent: u64,
    }

    impl std::ops::Deref for Breaker {
        type Target = CircuitBreaker;
        fn deref(&self) -> &CircuitBreaker {
            &self.breaker
        }
    }

    impl std::ops::DerefMut for Breaker {
        fn deref_mut(&mut self) -> &mut CircuitBreaker {
            &mut self.breaker
        }
    }

    impl Breaker {
        /// A result that arrives at once.
        fn on_result(&mut self, admitted: Admitted, signal: ServiceSignal, now: Instant) -> bool {
            self.breaker.on_result(admitted, signal, Duration::ZERO, now)
        }
    }

    /// A breaker whose circuit of the service opens with the third failure, and that of writes with the sixteenth.
    fn breaker() -> Breaker {
        Breaker { breaker: CircuitBreaker::new(16 + 10), sent: 0 }
    }

    fn go(breaker: &mut Breaker, class: RequestClass, now: Instant) -> Admitted {
        breaker.sent += 1;
        breaker.breaker.admit(class, breaker.sent, now).expect("it has to wait")
    }

    fn next(breaker: &Breaker, class: RequestClass, now: Instant) -> Instant {
        match breaker.check(class, now) {
            Err(Wait::Until(time)) => time,
            other => panic!("it does not wait for a time: {other:?}"),
        }
    }

    fn service_fails(breaker: &mut Breaker, now: Instant) {
        for _ in 0..3 {
            let admitted = go(breaker, RequestClass::Read, now);
            assert!(!breaker.is_open());
            assert!(!breaker.on_result(admitted, ServiceSignal::Down, now));
        }
        assert!(breaker.is_open());
    }

    #[test]
    fn what_a_proxy_refuses_is_an_outage_only_after_a_while() {
        let now = Instant::now();
        let mut breaker = breaker();
        let refuse = |breaker: &mut Breaker, at| {
            let admitted = go(breaker, WRITE, at);
            breaker.on_result(admitted, ServiceSignal::RefusedByProxy, at);
        };
        for _ in 0..20 {
            refuse(&mut breaker, now);
        }
        assert!(!breaker.is_open(), "a limit refuses many at once");
        let later = now + REFUSED_MAX;
        for _ in 0..2 {
            refuse(&mut breaker, later);
            assert!(!breaker.is_open());
        }
        refuse(&mut breaker, later);
        assert!(breaker.is_open(), "a limit would have let one through");
    }

    #[test]
    fn a_pause_counts_as_failing_once_a_request_after_it_has_failed() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut breaker = breaker();
        let [first, late] = [(); 2].map(|()| go(&mut breaker, WRITE, now));
        breaker.on_result(first, ServiceSignal::Throttled, now);
        assert!(breaker.pause(now + 20 * second, now));
        assert_eq!(breaker.failing_for(now + 19 * second), Some(Duration::ZERO));
        // The end of the pause is no failure yet, and neither is the result of a request that was sent before it.
        let end = now + 20 * second;
        assert_eq!(breaker.failing_for(end), Some(Duration::ZERO));
        let next = go(&mut breaker, WRITE, end);
        breaker.on_result(late, ServiceSignal::Throttled, end);
        assert_eq!(breaker.failing_for(end + 2 * second), Some(2 * second));
        breaker.on_result(next, ServiceSignal::Throttled, end + 3 * second);
        assert_eq!(breaker.failing_for(end + 3 * second), Some(23 * second));
        // In the next pause, what has failed before it counts.
        assert!(breaker.pause(end + 20 * second, end + 3 * second));
        assert_eq!(breaker.failing_for(end + 5 * second), Some(23 * second));
    }

    #[test]
    fn a_request_from_before_a_pause_may_extend_it_after_its_end() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut breaker = breaker();
        let [first, late] = [(); 2].map(|()| go(&mut breaker, WRITE, now));
        breaker.on_result(first, ServiceSignal::Throttled, now);
        assert!(breaker.pause(now + second, now));
        let end = now + 2 * second;
        breaker.on_result(late, ServiceSignal::Throttled, end);
        assert!(breaker.pause(end + second, end));
        assert_eq!(breaker.failing_for(end + second), Some(Duration::ZERO));
    }

    #[test]
    fn a_circuit_opens_stays_open_and_closes() {
        let now = Instant::now();
        let mut breaker = breaker();
        let early = go(&mut breaker, RequestClass::Read, now);
        service_fails(&mut breaker, now);
        assert_eq!(next(&breaker, WRITE, now), now + PROBE_DELAY_FIRST);
        let later = now + PROBE_DELAY_FIRST;
        let probe = go(&mut breaker, WRITE, later);
        assert_eq!(probe.probe, Some(Probe::Service));
        assert_eq!(breaker.check(RequestClass::Read, later), Err(Wait::ForProbe), "one probe at a time");
        assert_eq!(breaker.failed_probes, 0);
        assert!(breaker.on_result(probe, ServiceSignal::Down, later));
        assert_eq!(breaker.failed_probes, 1);
        next(&breaker, RequestClass::Read, later);
        assert!(!breaker.on_result(early, ServiceSignal::Up, later), "sent before the failures began");
        assert!(breaker.is_open());
        assert!(
            breaker.on_result(Admitted { probe: None, ..probe }, ServiceSignal::Up, later),
            "sent after it"
        );
        assert_eq!(go(&mut breaker, WRITE, later).probe, None);
        assert_eq!(breaker.failing_since(), None);
    }

    #[test]
    fn successes_between_failures_open_no_circuit() {
        let now = Instant::now();
        let mut breaker = breaker();
        for _ in 0..100 {
            for signal in [ServiceSignal::Down, ServiceSignal::Down, ServiceSignal::Up] {
                let admitted = go(&mut breaker, WRITE, now);
                breaker.on_result(admitted, signal, now);
            }
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn the_delay_between_probes_grows_up_to_a_bound() {
        let mut now = Instant::now();
        let mut breaker = breaker();
        service_fails(&mut breaker, now);
        let mut waits = Vec::new();
        for _ in 0..6 {
            let due = next(&breaker, RequestClass::Read, now);
            waits.push((due - now).as_millis());
            now = due;
            let probe = go(&mut breaker, RequestClass::Read, now);
            breaker.on_result(probe, ServiceSignal::Down, now);
        }
        assert_eq!(waits, [500, 1000, 2000, 2500, 2500, 2500]);
    }

    #[test]
    fn an_abandoned_probe_admits_another_one() {
        let now = Instant::now();
        let mut breaker = breaker();
        service_fails(&mut breaker, now);
        let later = now + PROBE_DELAY_FIRST;
        let probe = go(&mut breaker, RequestClass::Read, later);
        assert!(breaker.abandon_probe(probe.probe));
        assert_eq!(go(&mut breaker, RequestClass::Read, later).probe, Some(Probe::Service));
    }

    /// Lets the writes of this many rows fail one after another, while reads succeed.
    fn writes_fail(breaker: &mut Breaker, class: RequestClass, rows: u32, now: Instant) {
        for _ in 0..rows {
            let write = go(breaker, class, now);
            breaker.on_result(write, ServiceSignal::Down, now);
            let read = go(breaker, RequestClass::Read, now);
            breaker.on_result(read, ServiceSignal::Up, now);
        }
    }

    #[test]
    fn writes_that_fail_while_reads_succeed_open_the_circuit_of_writes() {
        let now = Instant::now();
        let mut breaker = breaker();
        let limit = breaker.write_failures_max;
        writes_fail(&mut breaker, WRITE, limit - 1, now);
        assert_eq!(breaker.failing_since(), None);
        writes_fail(&mut breaker, WRITE, 1, now);
        assert!(breaker.is_open() && breaker.failing_since() == Some(now));
        assert_eq!(go(&mut breaker, RequestClass::Read, now).probe, None, "reads go on");
        assert_eq!(next(&breaker, WRITE, now), now + PROBE_DELAY_FIRST);
        let due = next(&breaker, AGAIN, now);
        assert_eq!(
            due,
            now + PROBE_DELAY_FIRST + REPEATED_WRITE_DELAY,
            "rows that did not fail yet go first"
        );
        let probe = go(&mut breaker, AGAIN, due);
        assert_eq!(probe.probe, Some(Probe::Writes));
        assert!(breaker.on_result(probe, ServiceSignal::Down, due));
        assert_eq!(breaker.failed_probes, 1);
        let due = next(&breaker, WRITE, due);
        let probe = go(&mut breaker, WRITE, due);
        assert!(breaker.on_result(probe, ServiceSignal::Up, due));
        assert!(!breaker.is_open());
    }

    /// Otherwise failing writes would open the circuit of the service and a read would close it, again and again,
    /// until the rows have used up their attempts.
    #[test]
    fn a_service_that_answers_reads_is_not_down() {
        let now = Instant::now();
        let mut breaker = breaker();
        for _ in 0..3 {
            let write = go(&mut breaker, WRITE, now);
            breaker.on_result(write, ServiceSignal::Down, now);
        }
        let due = next(&breaker, WRITE, now);
        let probe = go(&mut breaker, WRITE, due);
        assert_eq!((probe.probe, probe.class), (Some(Probe::Service), RequestClass::Read));
        assert!(breaker.on_result(probe, ServiceSignal::Up, due));
        let limit = breaker.write_failures_max;
        let rest: Vec<Admitted> = (3..limit).map(|_| go(&mut breaker, WRITE, due)).collect();
        for write in rest {
            assert!(breaker.service.open.is_none() && breaker.writes.open.is_none());
            breaker.on_result(write, ServiceSignal::Down, due);
        }
        assert!(breaker.service.open.is_none() && breaker.writes.open.is_some());
        // Failed reads: now the service may be down.
        for _ in 0..3 {
            let read = go(&mut breaker, RequestClass::Read, due);
            breaker.on_result(read, ServiceSignal::Down, due);
        }
        assert!(breaker.service.open.is_some());
    }

    #[test]
    fn repeated_writes_open_no_circuit() {
        let now = Instant::now();
        let mut breaker = breaker();
        writes_fail(&mut breaker, WRITE, 10, now);
        writes_fail(&mut breaker, AGAIN, 100, now);
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_service_that_has_recovered_has_to_show_that_writes_work() {
        let now = Instant::now();
        let mut breaker = breaker();
        let limit = breaker.write_failures_max;
        let many: Vec<Admitted> = (0..limit).map(|_| go(&mut breaker, WRITE, now)).collect();
        for write in many {
            breaker.on_result(write, ServiceSignal::Down, now);
        }
        let due = next(&breaker, WRITE, now);
        let probe = go(&mut breaker, RequestClass::Read, due);
        assert_eq!(probe.probe, Some(Probe::Service));
        assert!(breaker.on_result(probe, ServiceSignal::Up, due));
        let probe = go(&mut breaker, WRITE, due);
        assert_eq!(probe.probe, Some(Probe::Writes), "at once");
        assert!(breaker.on_result(probe, ServiceSignal::Up, due));
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_probe_may_take_eight_times_the_typical_latency() {
        let now = Instant::now();
        let mut breaker = breaker();
        assert_eq!(breaker.probe_timeout(), PROBE_TIMEOUT_MIN);
        let admitted = go(&mut breaker, WRITE, now);
        let latency = Duration::from_secs(1);
        breaker.breaker.on_result(admitted, ServiceSignal::Up, latency, now + latency);
        assert_eq!(breaker.probe_timeout(), Duration::from_secs(8));
    }
}
