//! Whether requests may leave at all: the shared pause, and the outages of the service and of its writes.
//!
//! Pure: time comes in as `now`, and nothing here waits.
//!
//! A row of answers without a single good one among them means that the service is gone. Then everyone
//! waits, and one request at a time is let through to see whether it is back.
//!
//! The API may also go on answering questions while every Create fails (a database that is read-only, a
//! quota, a deployment). Good answers to Get would hide that, so writes are watched by themselves. What
//! counts there is one failure for each row, its first: a file that ends in a few rows which fail whatever
//! happens is no outage, and their repeated attempts must not make it one. No question tells whether writes
//! are back, so one row at a time tries; a row that has not failed yet comes first, since one that has may
//! be the reason itself. A Get that finds what a Create with a lost answer has made shows that writes work. Once no
//! further row comes, failing writes are those of the last rows, and no outage.
//!
//! Each probe that fails says that the failures before it were the outage's: rows get an attempt back.
//! Nothing is given back before, or a few bad rows in a row would look like an outage.

use std::time::Duration;

use tokio::time::Instant;

/// The first and the longest time between two probes. The service is noticed within five seconds
/// of coming back: at most two for a probe that goes into the void, and three until the next.
const PROBE_FIRST: Duration = Duration::from_millis(500);
const PROBE_MAX: Duration = Duration::from_millis(2_500);

/// The least time that a probe is given for its answer.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);

/// How much later a row that has failed before may probe.
const HEAD_START: Duration = Duration::from_millis(250);

/// The fewest rows whose Create has to fail, with none that succeeds, to be an outage of writes.
const WRITES_MIN: u32 = 16;

/// What an answer says about the service, not about the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It answers.
    Good,
    /// It answers a question, and that a Create whose answer was lost has worked: writes do.
    WriteLanded,
    /// It does not, or not usefully: no connection, no answer, 5xx.
    Bad,
    /// It answers that it is asked too often.
    Throttled,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It asks.
    Read,
    /// It changes something.
    Write {
        /// No write of its row has failed before.
        fresh: bool,
    },
}

/// What a request that is let through alone finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Whether the service is back.
    Service,
    /// Whether writes are.
    Writes,
}

/// A request that was let through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed {
    pub(super) kind: Kind,
    pub(super) probe: Option<Probe>,
    /// Which request of the run it is.
    pub(super) number: u64,
    pub(super) began: Instant,
    /// [`Gate::failed_probes`] when it began.
    pub(super) failed_probes: u64,
}

/// What a request has to wait for.
pub(super) enum Turn {
    Go(Passed),
    Until(Instant),
    Opened,
}

/// The one gate of a run.
pub(super) struct Gate {
    paused_until: Option<Instant>,
    /// Requests that were let through.
    sent: u64,
    /// Bad answers in a row that are an outage.
    service_limit: u32,
    service: Watch,
    /// A probe was answered, so failing writes are no sign of a service that is gone: not until a question
    /// goes unanswered, or a write has succeeded and made everything well.
    questions_answered: bool,
    writes_limit: u32,
    writes: Watch,
    rows_left: RowsLeft,
    /// Each of them gives rows an attempt back.
    pub(super) failed_probes: u64,
    /// How long a good answer takes, the last ones counting most; none yet at the beginning.
    usual: Option<Duration>,
}

/// Rows that have not begun yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowsLeft {
    /// The source is still read.
    Many,
    /// It is at its end; what is claimed is left.
    Few,
    None,
}

/// What is watched for good answers.
#[derive(Default)]
struct Watch {
    /// Bad answers since the last good one.
    streak: u32,
    /// The first request of them. Good answers to earlier ones were on their way before the trouble
    /// began and say nothing about now.
    streak_from: u64,
    /// When the first answer that was not good came after the last good one.
    trouble_since: Option<Instant>,
    outage: Option<Outage>,
}

struct Outage {
    next_probe: Instant,
    delay: Duration,
    probing: bool,
}

impl Gate {
    /// A gate for so many requests in flight.
    pub(super) fn new(concurrency: usize) -> Gate {
        let at_most = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Gate {
            paused_until: None,
            sent: 0,
            // A tenth of what is in flight: what may still start while the first bad answers come in.
            service_limit: at_most(concurrency.div_ceil(10)).max(2),
            service: Watch::default(),
            questions_answered: false,
            writes_limit: at_most(concurrency).max(WRITES_MIN),
            writes: Watch::default(),
            rows_left: RowsLeft::Many,
            failed_probes: 0,
            usual: None,
        }
    }

    /// `leaving`: the request would leave at once, so the probe, if it is one, is taken.
    pub(super) fn turn(&mut self, kind: Kind, leaving: bool, now: Instant) -> Turn {
        if let Some(until) = self.paused_until {
            if now < until {
                return Turn::Until(until);
            }
            self.paused_until = None;
        }
        let (probe, outage, head_start) = match (&mut self.service.outage, &mut self.writes.outage, kind) {
            (Some(outage), _, _) => (Some(Probe::Service), Some(outage), Duration::ZERO),
            (None, Some(outage), Kind::Write { fresh }) => {
                (Some(Probe::Writes), Some(outage), if fresh { Duration::ZERO } else { HEAD_START })
            }
            _ => (None, None, Duration::ZERO),
        };
        if let Some(outage) = outage {
            if outage.probing {
                return Turn::Opened;
            }
            let due = outage.next_probe + head_start;
            if now < due {
                return Turn::Until(due);
            }
            outage.probing = leaving;
        }
        self.sent += u64::from(leaving);
        // Whoever probes the service asks it a question, whatever it is waiting to send.
        let kind = if probe == Some(Probe::Service) { Kind::Read } else { kind };
        let failed_probes = self.failed_probes;
        Turn::Go(Passed { kind, probe, number: self.sent, began: now, failed_probes })
    }

    /// What the answer to a request said. True if those who wait should look again.
    pub(super) fn note(&mut self, passed: Passed, health: Health, now: Instant) -> bool {
        let Passed { kind, probe, number, began, .. } = passed;
        let mut look = false;
        match health {
            Health::Good | Health::WriteLanded => {
                self.learn(now - began);
                look = self.service.good(number);
                let writes_work = kind != Kind::Read || health == Health::WriteLanded;
                look |= writes_work && self.writes.good(number);
                self.questions_answered = kind == Kind::Read && (look || self.questions_answered);
            }
            Health::Throttled => self.service.trouble(now),
            Health::Bad => {
                self.questions_answered &= kind != Kind::Read;
                // While writes are away nothing else may be asked for, so that is no row of bad answers.
                if probe != Some(Probe::Writes) && !self.questions_answered {
                    self.service.bad(number, self.service_limit, now);
                }
                if kind == (Kind::Write { fresh: true }) && self.rows_left != RowsLeft::None {
                    self.writes.bad(number, self.writes_limit, now);
                }
                self.failed_probes += u64::from(probe.is_some());
            }
        }
        // A good answer may have opened the gate; one that is not, or a question late for it, has not.
        // Each row that is left may try once: with few of them that need not take long.
        let is_short = probe == Some(Probe::Writes) && self.rows_left == RowsLeft::Few;
        look | self.end_probe(probe, |outage| {
            outage.next_probe = now + if is_short { PROBE_FIRST } else { outage.delay };
            outage.delay = (outage.delay * 2).min(PROBE_MAX);
        })
    }

    /// The source is at its end. If all rows have begun none can show any more whether writes are back: an outage
    /// of writes is none, and the rows that are left use up their attempts. True if those who wait should look again.
    pub(super) fn tell_source_ended(&mut self, all_begun: bool) -> bool {
        self.rows_left = if all_begun { RowsLeft::None } else { RowsLeft::Few };
        all_begun && std::mem::take(&mut self.writes).outage.is_some()
    }

    /// Whether writes wait for the API to take them again, and the service is there.
    pub(super) fn are_writes_away(&self) -> bool {
        self.writes.outage.is_some() && self.service.outage.is_none()
    }

    /// The probe was given up: another one may go. True if those who wait should look again.
    pub(super) fn give_up(&mut self, probe: Option<Probe>) -> bool {
        self.end_probe(probe, |_| {})
    }

    fn end_probe(&mut self, probe: Option<Probe>, then: impl FnOnce(&mut Outage)) -> bool {
        let outage = match probe {
            None => None,
            Some(Probe::Service) => self.service.outage.as_mut(),
            Some(Probe::Writes) => self.writes.outage.as_mut(),
        };
        if let Some(outage) = outage {
            outage.probing = false;
            then(outage);
        }
        probe.is_some()
    }

    /// Nothing leaves until then; the later of two pauses counts. True if nobody was waiting before: of the
    /// requests that were in flight together each may be told to slow down.
    pub(super) fn pause(&mut self, until: Instant, now: Instant) -> bool {
        let before = self.paused_until;
        self.paused_until = Some(before.map_or(until, |before| before.max(until)));
        before.is_none_or(|before| before <= now)
    }

    /// How long the pause still takes.
    pub(super) fn pause_left(&self, now: Instant) -> Duration {
        self.paused_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Since when no answer has been good that should have been.
    pub(super) fn trouble_since(&self) -> Option<Instant> {
        // A few rows that cannot be created are not trouble yet.
        let writes = self.writes.outage.as_ref().and(self.writes.trouble_since);
        self.service.trouble_since.into_iter().chain(writes).min()
    }

    /// Whether everyone waits for the service or its writes to come back.
    pub(super) fn in_outage(&self) -> bool {
        self.service.outage.is_some() || self.writes.outage.is_some()
    }

    /// How long a probe may take. An answer that is eight times as slow as usual is not coming, and
    /// while one waits for it into a void the service may be back.
    pub(super) fn probe_timeout(&self) -> Duration {
        self.usual.map_or(PROBE_PATIENCE, |usual| (usual * 8).max(PROBE_PATIENCE))
    }

    fn learn(&mut self, took: Duration) {
        self.usual = Some(self.usual.map_or(took, |usual| (usual * 7 + took) / 8));
    }
}

impl Watch {
    /// True if that ended an outage.
    fn good(&mut self, number: u64) -> bool {
        if self.streak > 0 && number < self.streak_from {
            return false;
        }
        std::mem::take(self).outage.is_some()
    }

    fn trouble(&mut self, now: Instant) {
        self.trouble_since.get_or_insert(now);
    }

    fn bad(&mut self, number: u64, limit: u32, now: Instant) {
        self.trouble(now);
        // The lowest: answers overtake each other.
        self.streak_from = if self.streak == 0 { number } else { self.streak_from.min(number) };
        self.streak = self.streak.saturating_add(1);
        if self.streak >= limit {
            self.outage.get_or_insert_with(|| Outage {
                next_probe: now + PROBE_FIRST,
                delay: PROBE_FIRST * 2,
                probing: false,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: Kind = Kind::Write { fresh: true };
    const AGAIN: Kind = Kind::Write { fresh: false };

    /// The service is gone after three bad answers, writes after sixteen.
    fn gate() -> Gate {
        Gate::new(16 + 10)
    }

    fn go(gate: &mut Gate, kind: Kind, now: Instant) -> Passed {
        match gate.turn(kind, true, now) {
            Turn::Go(passed) => passed,
            _ => panic!("it has to wait"),
        }
    }

    fn next(gate: &mut Gate, kind: Kind, now: Instant) -> Instant {
        match gate.turn(kind, true, now) {
            Turn::Until(time) => time,
            _ => panic!("it does not wait for a time"),
        }
    }

    fn service_goes(gate: &mut Gate, now: Instant) {
        for _ in 0..3 {
            let passed = go(gate, Kind::Read, now);
            assert!(!gate.in_outage());
            assert!(!gate.note(passed, Health::Bad, now));
        }
        assert!(gate.in_outage());
    }

    #[test]
    fn an_outage_is_declared_confirmed_and_ended() {
        let now = Instant::now();
        let mut gate = gate();
        let early = go(&mut gate, Kind::Read, now);
        service_goes(&mut gate, now);
        assert_eq!(next(&mut gate, WRITE, now), now + PROBE_FIRST);
        let later = now + PROBE_FIRST;
        let probe = go(&mut gate, WRITE, later);
        assert_eq!(probe.probe, Some(Probe::Service));
        assert!(matches!(gate.turn(Kind::Read, true, later), Turn::Opened), "one probe at a time");
        assert_eq!(gate.failed_probes, 0);
        assert!(gate.note(probe, Health::Bad, later));
        assert_eq!(gate.failed_probes, 1);
        next(&mut gate, Kind::Read, later);
        assert!(!gate.note(early, Health::Good, later), "sent before the trouble began");
        assert!(gate.in_outage());
        assert!(gate.note(Passed { probe: None, ..probe }, Health::Good, later), "sent after it");
        assert_eq!(go(&mut gate, WRITE, later).probe, None);
        assert_eq!(gate.trouble_since(), None);
    }

    #[test]
    fn good_answers_between_bad_ones_are_no_outage() {
        let now = Instant::now();
        let mut gate = gate();
        for _ in 0..100 {
            for health in [Health::Bad, Health::Bad, Health::Good] {
                let passed = go(&mut gate, WRITE, now);
                gate.note(passed, health, now);
            }
        }
        assert!(!gate.in_outage());
    }

    #[test]
    fn probes_grow_apart_up_to_a_bound() {
        let mut now = Instant::now();
        let mut gate = gate();
        service_goes(&mut gate, now);
        let mut waits = Vec::new();
        for _ in 0..6 {
            let due = next(&mut gate, Kind::Read, now);
            waits.push((due - now).as_millis());
            now = due;
            let probe = go(&mut gate, Kind::Read, now);
            gate.note(probe, Health::Bad, now);
        }
        assert_eq!(waits, [500, 1000, 2000, 2500, 2500, 2500]);
    }

    #[test]
    fn a_probe_that_was_given_up_lets_another_one_go() {
        let now = Instant::now();
        let mut gate = gate();
        service_goes(&mut gate, now);
        let later = now + PROBE_FIRST;
        let probe = go(&mut gate, Kind::Read, later);
        assert!(gate.give_up(probe.probe));
        assert_eq!(go(&mut gate, Kind::Read, later).probe, Some(Probe::Service));
    }

    /// So many rows fail their Create, each in its turn, while Get answers.
    fn writes_fail(gate: &mut Gate, kind: Kind, rows: u32, now: Instant) {
        for _ in 0..rows {
            let write = go(gate, kind, now);
            gate.note(write, Health::Bad, now);
            let read = go(gate, Kind::Read, now);
            gate.note(read, Health::Good, now);
        }
    }

    #[test]
    fn writes_that_fail_while_questions_are_answered_are_an_outage_of_writes() {
        let now = Instant::now();
        let mut gate = gate();
        let limit = gate.writes_limit;
        writes_fail(&mut gate, WRITE, limit - 1, now);
        assert_eq!(gate.trouble_since(), None);
        writes_fail(&mut gate, WRITE, 1, now);
        assert!(gate.in_outage() && gate.trouble_since() == Some(now));
        assert_eq!(go(&mut gate, Kind::Read, now).probe, None, "questions go on");
        assert_eq!(next(&mut gate, WRITE, now), now + PROBE_FIRST);
        let due = next(&mut gate, AGAIN, now);
        assert_eq!(due, now + PROBE_FIRST + HEAD_START, "rows that did not fail yet go first");
        let probe = go(&mut gate, AGAIN, due);
        assert_eq!(probe.probe, Some(Probe::Writes));
        assert!(gate.note(probe, Health::Bad, due));
        assert_eq!(gate.failed_probes, 1);
        let due = next(&mut gate, WRITE, due);
        let probe = go(&mut gate, WRITE, due);
        assert!(gate.note(probe, Health::Good, due));
        assert!(!gate.in_outage());
    }

    /// Two bad answers close the gate, a question opens it, and so on: by then the rows would have used up
    /// their attempts.
    #[test]
    fn a_service_that_answers_questions_is_not_gone() {
        let now = Instant::now();
        let mut gate = gate();
        for _ in 0..3 {
            let write = go(&mut gate, WRITE, now);
            gate.note(write, Health::Bad, now);
        }
        let due = next(&mut gate, WRITE, now);
        let probe = go(&mut gate, WRITE, due);
        assert_eq!((probe.probe, probe.kind), (Some(Probe::Service), Kind::Read));
        assert!(gate.note(probe, Health::Good, due));
        let limit = gate.writes_limit;
        let rest: Vec<Passed> = (3..limit).map(|_| go(&mut gate, WRITE, due)).collect();
        for write in rest {
            assert!(gate.service.outage.is_none() && gate.writes.outage.is_none());
            gate.note(write, Health::Bad, due);
        }
        assert!(gate.service.outage.is_none() && gate.writes.outage.is_some());
        // A question that is not answered: now it may be gone.
        for _ in 0..3 {
            let question = go(&mut gate, Kind::Read, due);
            gate.note(question, Health::Bad, due);
        }
        assert!(gate.service.outage.is_some());
    }

    #[test]
    fn rows_that_fail_again_and_again_are_no_outage_of_writes() {
        let now = Instant::now();
        let mut gate = gate();
        writes_fail(&mut gate, WRITE, 10, now);
        writes_fail(&mut gate, AGAIN, 100, now);
        assert!(!gate.in_outage());
    }

    #[test]
    fn a_service_that_is_back_has_to_show_that_it_writes() {
        let now = Instant::now();
        let mut gate = gate();
        let limit = gate.writes_limit;
        let many: Vec<Passed> = (0..limit).map(|_| go(&mut gate, WRITE, now)).collect();
        for write in many {
            gate.note(write, Health::Bad, now);
        }
        let due = next(&mut gate, WRITE, now);
        let probe = go(&mut gate, Kind::Read, due);
        assert_eq!(probe.probe, Some(Probe::Service));
        assert!(gate.note(probe, Health::Good, due));
        let probe = go(&mut gate, WRITE, due);
        assert_eq!(probe.probe, Some(Probe::Writes), "at once");
        assert!(gate.note(probe, Health::Good, due));
        assert!(!gate.in_outage());
    }

    #[test]
    fn a_probe_is_patient_eight_times_over() {
        let now = Instant::now();
        let mut gate = gate();
        assert_eq!(gate.probe_timeout(), PROBE_PATIENCE);
        let passed = go(&mut gate, WRITE, now);
        gate.note(passed, Health::Good, now + Duration::from_secs(1));
        assert_eq!(gate.probe_timeout(), Duration::from_secs(8));
    }
}
