//! A rate limit that is not configured: found, held, and found again when it changes.
//!
//! The disaster: a run at a tenth of the rate that the API would accept, or one that is throttled all the time and gets
//! the merchant blocked. Each file under `tests/scenarios/` describes a server over time and the range of each figure;
//! here the real program runs against it, and the figures come from the journal. The algorithm is tested on a grid of
//! servers, in virtual time, in `src/throttle/adaptive_rate.rs`.
//!
//! Scenarios whose names begin with `full_` need a machine of their own, an optimized build, and half a minute or more. They
//! are ignored by default; `CI_FULL=1 .ci/run` runs them, one at a time.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Stdio},
    sync::mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use customer_import::simulator::{Behavior, Fault, LimitResponse, Limiter, Options, Outage};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;

use crate::world::{World, finish, signal, wait_until};

/// Seconds after which the limit should be found.
const FOUND_AFTER_S: f64 = 10.0;

/// Seconds after a change in which no share is checked.
const SETTLING_S: f64 = 5.0;

/// The minimum share of the limit that the final message suggests as `--rate`.
const ADVISED_SHARE: f64 = 0.9;

/// The share of the limit that counts as reaching it.
const REACHED: f64 = 0.95;

/// Tolerance of every lower bound of a share, and of every number of seconds, on an idle machine.
const EASED: f64 = 0.02;
const EASED_SECONDS: f64 = 0.5;

/// A shared machine stalls now and then, and the server's windows of that time are lost. The test's own thread wakes
/// every few milliseconds and measures the share of the time by which it wakes later than the program can make up
/// for. The tolerance grows by this multiple of that share: once each for the client, its disk and the server.
const WAKES: Duration = Duration::from_millis(5);
const MADE_GOOD: Duration = Duration::from_millis(20);
const LATE: f64 = 3.0;

/// Whom the live traffic asks for.
const SHOPPER: &str = "somebody-live";

/// This many throttled requests are allowed however few requests there are.
const FEW: usize = 3;

macro_rules! scenarios {
    (always: $($name:ident)* ; alone: $($alone:ident)*) => {
        $(#[test] fn $name() { run(stringify!($name)); })*
        $(
            #[test]
            #[ignore = "needs a quiet machine and an optimized build: CI_FULL=1 .ci/run, or --ignored"]
            fn $alone() { run(stringify!($alone)); }
        )*
        const NAMES: &[&str] = &[$(stringify!($name),)* $(stringify!($alone)),*];
    };
}

scenarios! {
    always:
    sliding_50
    latency_2s
    raised
    halved_retry_after
    outage
    ;
    alone:
    full_sliding_200_retry_after
    full_fixed_200
    full_fixed_200_retry_after
    full_fixed_1000
    full_bucket_500_retry_after
    full_bucket_1000
    full_by_chance
    full_latency_2s
    full_raised
    full_raised_bucket
    full_raised_fixed
    full_raised_retry_after
    full_halved
    full_outage
    full_bucket_500_503
    full_half_503
    full_others
    full_others_polite
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios"))
}

#[test]
fn every_scenario_is_run() {
    let files = std::fs::read_dir(folder()).unwrap();
    let files: BTreeSet<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files, NAMES.iter().map(|name| format!("{name}.json")).collect());
}

/// The server's behavior from a moment on.
struct Step {
    at: f64,
    /// `None` is an outage.
    limit: Option<u32>,
}

struct Scenario {
    file: Value,
    steps: Vec<Step>,
}

impl Scenario {
    fn read(name: &str) -> Scenario {
        let text = std::fs::read(folder().join(format!("{name}.json"))).unwrap();
        let file: Value = serde_json::from_slice(&text).unwrap();
        let step = |step: &Value| Step {
            at: step["at"].as_f64().unwrap(),
            limit: step["limit"].as_u64().map(|limit| limit as u32),
        };
        let steps = file["steps"].as_array().unwrap().iter().map(step).collect();
        Scenario { file, steps }
    }

    fn number(&self, name: &str) -> f64 {
        self.file[name].as_f64().unwrap()
    }

    fn limiter(&self) -> Limiter {
        match (self.file["limiter"].as_str(), self.file["limiter"]["bucket"].as_f64()) {
            (Some("sliding"), _) => Limiter::Sliding,
            (Some("fixed"), _) => Limiter::Fixed,
            (None, Some(seconds)) => Limiter::Bucket(seconds),
            _ => panic!("no limiter"),
        }
    }

    fn most(&self) -> f64 {
        f64::from(self.steps.iter().filter_map(|step| step.limit).max().unwrap())
    }

    fn options(&self) -> impl Iterator<Item = &str> {
        self.file["options"].as_array().into_iter().flatten().filter_map(Value::as_str)
    }

    /// Whether nothing but the limit decides what is accepted.
    fn is_alone(&self) -> bool {
        self.file["others"].is_null() && self.file["unavailable_by_chance"].is_null()
    }

    fn range(&self, figure: &str) -> (f64, f64) {
        let range = &self.file["expect"][figure];
        (range[0].as_f64().unwrap(), range[1].as_f64().unwrap())
    }
}

fn apply(behavior: &mut Behavior, step: &Step) {
    behavior.outage = step.limit.is_none().then_some(Outage::Refuse);
    behavior.rate_limit = step.limit.or(behavior.rate_limit);
}

/// Waits for a moment of the run. Returns by how many seconds in total it was woken late. Panics if the program ends
/// before.
fn wait_for(ended: &mpsc::Receiver<()>, moment: Instant) -> f64 {
    let mut late = Duration::ZERO;
    loop {
        let now = Instant::now();
        let left = moment.saturating_duration_since(now).min(WAKES);
        assert_eq!(ended.recv_timeout(left), Err(mpsc::RecvTimeoutError::Timeout), "it has ended too soon");
        late += now.elapsed().saturating_sub(left + MADE_GOOD);
        if left.is_zero() {
            return late.as_secs_f64();
        }
    }
}

/// Receives once the process has closed its standard output, as it does when it ends.
fn watch(child: &mut Child) -> mpsc::Receiver<()> {
    let mut stdout = child.stdout.take().unwrap();
    let (end, ended) = mpsc::channel();
    std::thread::spawn(move || {
        drop(std::io::copy(&mut stdout, &mut std::io::sink()));
        // There is no receiver if the test has ended.
        let _ = end.send(());
    });
    ended
}

fn run(name: &str) {
    let scenario = Scenario::read(name);
    let latency = Duration::from_secs_f64(scenario.number("latency_ms") / 1000.0);
    let world = World::with(Options { latency: (latency, latency), ..Options::default() });
    world.reconfigure(|behavior| {
        behavior.limiter = scenario.limiter();
        behavior.retry_after = scenario.file["retry_after"].as_str().unwrap().into();
        let by_chance = [("refused_by_chance", Fault::Http429), ("unavailable_by_chance", Fault::Api503)];
        let shares =
            by_chance.into_iter().filter_map(|(name, fault)| Some((fault, scenario.file[name].as_f64()?)));
        behavior.faults = shares.collect();
        if scenario.file["limit_response"] == "proxy503" {
            behavior.limit_response = LimitResponse::Proxy503;
        }
        apply(behavior, &scenario.steps[0]);
    });
    let seconds = scenario.number("seconds");
    // More rows than a limiter with one second's tokens admits.
    let file = world.rows("users.csv", ((seconds + 10.0) * scenario.most() * 1.1) as usize);
    let concurrency = scenario.file["concurrency"].to_string();
    let mut options = vec!["--concurrency", &concurrency];
    options.extend(scenario.options());
    let others = scenario.file["others"].as_f64().map(|per_second| Others::start(&world, per_second));
    let args = world.import_args(&file, &options);
    let mut command = world.command(&args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ended = watch(&mut child);
    assert!(wait_until(&mut child, || world.journal().requests() > 0));
    let began = Instant::now();
    let mut late = 0.0;
    for step in &scenario.steps[1..] {
        late += wait_for(&ended, began + Duration::from_secs_f64(step.at));
        world.reconfigure(|behavior| apply(behavior, step));
    }
    late += wait_for(&ended, began + Duration::from_secs_f64(seconds));
    signal(&child, "INT");
    let done = finish(child);
    assert_eq!(done.code, 130, "{done:?}");
    let others_refused = others.map(Others::refused_share);
    let measured = Measured { late: late / seconds, others_refused, ..Measured::of(&world, began, seconds) };
    measured.check(name, &scenario, &world.summary());
}

/// Live traffic on the same limit: requests at random times, none of them repeated.
struct Others {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Vec<JoinHandle<u16>>>,
}

impl Others {
    /// Sends so many requests a second until it is asked what became of them.
    fn start(world: &World, per_second: f64) -> Others {
        let base_url = world.base_url();
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut random = StdRng::seed_from_u64(1);
            let (mut requests, mut due) = (Vec::new(), Instant::now());
            loop {
                due += Duration::from_secs_f64(-(1.0 - random.random::<f64>()).ln() / per_second);
                let left = due.saturating_duration_since(Instant::now());
                if stopped.recv_timeout(left) != Err(mpsc::RecvTimeoutError::Timeout) {
                    return requests;
                }
                let base_url = base_url.clone();
                requests.push(std::thread::spawn(move || status_of_a_get(&base_url)));
            }
        });
        Others { stop, thread }
    }

    fn refused_share(self) -> f64 {
        drop(self.stop);
        let requests = self.thread.join().unwrap().into_iter();
        let statuses: Vec<u16> = requests.map(|request| request.join().unwrap()).collect();
        let refused = statuses.iter().filter(|status| **status == 429).count();
        refused as f64 / statuses.len() as f64
    }
}

fn status_of_a_get(base_url: &str) -> u16 {
    let mut stream = TcpStream::connect(base_url.trim_start_matches("http://")).unwrap();
    let request = format!(
        "GET /customers/{SHOPPER} HTTP/1.1\r\nhost: shop\r\nauthorization: Basic azo=\r\n\
         x-merchantid: test_merchant\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// A server that processes a hundred requests a second: with two hundred in flight each would wait two seconds, and
/// none would get its response earlier.
#[test]
fn requests_in_flight_shrink_to_what_the_server_can_process() {
    const CAPACITY: u32 = 100;
    // The share of that rate that is reached, on a busy machine.
    const KEPT: f64 = 0.8;
    let latency = Duration::from_millis(20);
    let world = World::with(Options { latency: (latency, latency), ..Options::default() });
    world.reconfigure(|behavior| behavior.capacity = Some(CAPACITY));
    let file = world.rows("users.csv", 4_000);
    let mut run = world.start_import(&file, &["--concurrency", "200"]);
    let journal = world.journal();
    assert!(wait_until(&mut run, || journal.in_flight() > 100), "many are used at first");
    assert!(wait_until(&mut run, || journal.in_flight() < 50), "they stay");
    assert!(journal.requests() < 2_000, "it took too long");
    let (began, before) = (Instant::now(), journal.requests());
    assert!(wait_until(&mut run, || journal.requests() >= before + 500));
    let reached = 500.0 / began.elapsed().as_secs_f64() / f64::from(CAPACITY);
    assert!(reached > KEPT, "{reached} of what it can do");
    run.kill().unwrap();
    run.wait().unwrap();
}

#[expect(clippy::print_stdout, reason = "the table, for whoever asks for it with --nocapture")]
fn print_figures(figures: &str) {
    println!("{figures}");
}

struct Measured {
    /// Seconds since the first request.
    admitted: Vec<f64>,
    refused: Vec<f64>,
    seconds: f64,
    /// The share of the time for which the machine stalled.
    late: f64,
    /// The share of the live traffic's requests that was refused.
    others_refused: Option<f64>,
}

fn between(times: &[f64], from: f64, to: f64) -> usize {
    times.iter().filter(|at| (from..to).contains(*at)).count()
}

impl Measured {
    fn of(world: &World, began: Instant, seconds: f64) -> Measured {
        let entries = world.journal().entries();
        let at = |status: u16| {
            let entries = entries
                .iter()
                .filter(move |entry| entry.status == Some(status) && &*entry.reference != SHOPPER);
            entries.map(|entry| entry.at.saturating_duration_since(began).as_secs_f64()).collect()
        };
        let mut refused: Vec<f64> = at(429);
        refused.extend(at(503));
        Measured { admitted: at(200), refused, seconds, late: 0.0, others_refused: None }
    }

    fn share(&self, from: f64, to: f64, limit: u32) -> f64 {
        between(&self.admitted, from, to) as f64 / (to - from) / f64::from(limit)
    }

    /// The lowest share of the limit reached between two changes, after the time in which it should be found.
    fn lowest_share(&self, scenario: &Scenario) -> f64 {
        let ends = scenario.steps.iter().skip(1).map(|step| step.at).chain([self.seconds]);
        let shares = scenario.steps.iter().zip(ends).filter_map(|(step, end)| {
            let from = if step.at == 0.0 { FOUND_AFTER_S } else { step.at + SETTLING_S };
            Some(self.share(from, end, step.limit?))
        });
        shares.fold(f64::INFINITY, f64::min)
    }

    fn refused_share(&self, from: f64, to: f64) -> f64 {
        let refused = between(&self.refused, from, to);
        let all = refused + between(&self.admitted, from, to);
        refused.saturating_sub(FEW) as f64 / all.max(1) as f64
    }

    /// Seconds from the last change to the beginning of the first second that reaches the limit.
    fn back(&self, scenario: &Scenario) -> f64 {
        let Some(Step { at, limit: Some(limit) }) = scenario.steps.last() else {
            panic!("ends in an outage")
        };
        let tenths = (0..).map(|tenth| f64::from(tenth) / 10.0);
        tenths
            .take_while(|after| at + after + 1.0 <= self.seconds)
            .find(|after| self.share(at + after, at + after + 1.0, *limit) >= REACHED)
            .unwrap_or(f64::INFINITY)
    }

    fn check(&self, name: &str, scenario: &Scenario, summary: &Value) {
        let back = if scenario.file["expect"]["back"].is_array() { self.back(scenario) } else { 0.0 };
        let late = LATE * self.late;
        let figures = [
            ("share", self.lowest_share(scenario), EASED + late),
            ("refused_early", self.refused_share(0.0, FOUND_AFTER_S), late / 10.0),
            ("refused", self.refused_share(FOUND_AFTER_S, self.seconds), late / 10.0),
            ("back", back, EASED_SECONDS + 10.0 * late),
            ("others_refused", self.others_refused.unwrap_or_default(), late / 10.0),
        ];
        let held = summary["held_rate"].as_f64();
        let line = format!("{name}: {figures:.4?}, held {held:?}, late {:.3}", self.late);
        print_figures(&line);
        for (figure, value, eased) in figures {
            if scenario.file["expect"][figure].is_array() {
                let (least, most) = scenario.range(figure);
                assert!((least - eased..=most + eased).contains(&value), "{figure} {least}..{most}: {line}");
            }
        }
        if let (Some(held), Some(limit)) = (held, scenario.steps.last().and_then(|step| step.limit)) {
            let most = f64::from(limit) * 1.1;
            assert!(held <= most, "{line}");
            // The suggested rate: nearly all of a limit that did not change, and never more.
            if scenario.steps.len() == 1 && scenario.is_alone() {
                let share = held / f64::from(limit);
                assert!(
                    (ADVISED_SHARE - EASED - late..=1.0).contains(&share),
                    "advised {share} of the limit: {line}"
                );
            }
        }
    }
}
