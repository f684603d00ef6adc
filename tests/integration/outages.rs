//! The API fails during a run, in every possible way, and recovers.
//!
//! The disaster: ten minutes without the API turn a hundred thousand good rows into `failed`, or the program floods a
//! service that is restarting, or it still waits long after everything works again.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use customer_import::simulator::{Endpoint, Entry, Fault, Options, Outage};

use crate::{
    door::Door,
    world::{Done, NOBODY, World, finish, references, wait_until},
};

const ROWS: usize = 1_500;

const CONCURRENCY: usize = 20;

/// Tolerance of the promised five seconds, for a busy machine.
const SLACK: Duration = Duration::from_secs(1);

/// Number of probes that fail before the API recovers: so many that the delay between them has grown.
const PROBES: usize = 3;

/// How the API is reached, and how it fails.
enum Trouble {
    Api(Outage),
    Door(Door),
}

impl Trouble {
    fn begin(&self, world: &World) {
        match self {
            Trouble::Api(outage) => world.reconfigure(|behavior| behavior.outage = Some(*outage)),
            Trouble::Door(door) => door.shut(),
        }
    }

    fn end(&self, world: &World) {
        match self {
            Trouble::Api(_) => world.reconfigure(|behavior| behavior.outage = None),
            Trouble::Door(door) => door.open(),
        }
    }

    /// The base URL and the certificate to trust, as arguments.
    fn address(&self, world: &World) -> Vec<String> {
        match self {
            Trouble::Api(_) => Vec::new(),
            Trouble::Door(door) if door.ca.is_empty() => vec!["--base-url".into(), door.url()],
            Trouble::Door(door) => {
                let ca = world.file("ca.pem", &door.ca).display().to_string();
                vec!["--base-url".into(), door.url(), "--ca-file".into(), ca]
            }
        }
    }
}

fn start(world: &World, trouble: &Trouble, rows: usize, more: &[&str]) -> Child {
    let file = world.rows("users.csv", rows);
    let (address, concurrency) = (trouble.address(world), CONCURRENCY.to_string());
    let mut args: Vec<&str> = address.iter().map(String::as_str).collect();
    args.extend(["--concurrency", &concurrency, "--timeout", "2s", "-v"]);
    args.extend(more);
    let args = world.import_args(&file, &args);
    let mut command = world.command(&args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The lines that the process logs, as they arrive.
fn log_lines(child: &mut Child) -> mpsc::Receiver<String> {
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    lines
}

/// Waits until the probes have failed.
fn wait_for_failed_probes(lines: &mpsc::Receiver<String>) {
    let (mut failed, began) = (0, Instant::now());
    while failed < PROBES {
        assert!(began.elapsed() < Duration::from_secs(90), "no outage is noticed");
        let line = lines.recv_timeout(Duration::from_secs(60)).unwrap();
        failed += usize::from(line.contains("recovered=false"));
    }
}

fn customers(world: &World) -> u32 {
    world.journal().customers() as u32
}

/// Gets during the outage, without the probe's.
fn rows_looked_up(entries: &[Entry]) -> usize {
    entries.iter().filter(|entry| &*entry.reference != NOBODY).count()
}

fn goes_on_after(trouble: impl FnOnce(&World) -> Trouble) {
    let latency = Duration::from_millis(5);
    let world = World::with(Options { latency: (latency, latency), ..Options::default() });
    let trouble = trouble(&world);
    let mut run = start(&world, &trouble, ROWS, &["--rate", "1000", "--max-attempts", "2"]);
    let lines = log_lines(&mut run);
    assert!(wait_until(&mut run, || world.journal().customers() >= 100));

    trouble.begin(&world);
    let from = world.journal().entries().len();
    wait_for_failed_probes(&lines);
    let (before, vain) = (customers(&world), rows_looked_up(&world.journal().entries()[from..]));
    // Failing writes alone are not a total outage: Get works, so each row in flight has to fail first.
    let most = match trouble {
        _ if is_of_writes(&trouble) => 2 * 2 * CONCURRENCY,
        // It may be a limit, which has two seconds to admit a request.
        Trouble::Api(Outage::Http503) => 2 * CONCURRENCY,
        _ => CONCURRENCY + CONCURRENCY / 10,
    };
    assert!(vain <= most, "{vain} requests about rows while nobody answered");
    trouble.end(&world);
    let ended = Instant::now();
    assert!(wait_until(&mut run, || customers(&world) > before));
    let idle = ended.elapsed();
    assert!(idle < Duration::from_secs(5) + SLACK, "it goes on {idle:?} after the API is back");

    let done = finish(run);
    assert_eq!(done.code, 0, "{:?} {:?}", done, lines.try_iter().collect::<Vec<_>>());
    world.outcomes();
    world.assert_agreement(references(0..ROWS));
    assert!(lines.try_iter().all(|line| !line.contains("error")));
}

fn is_of_writes(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Api(Outage::Writes500 | Outage::WritesHang))
}

#[test]
fn after_refused_connections() {
    goes_on_after(|_| Trouble::Api(Outage::Refuse));
}

#[test]
fn after_connections_that_are_reset() {
    goes_on_after(|_| Trouble::Api(Outage::Reset));
}

#[test]
fn after_nothing_but_500() {
    goes_on_after(|_| Trouble::Api(Outage::Http500));
}

#[test]
fn after_a_proxy_without_a_service_behind_it() {
    goes_on_after(|_| Trouble::Api(Outage::Http503));
}

#[test]
fn after_requests_that_are_never_answered() {
    goes_on_after(|_| Trouble::Api(Outage::Hang));
}

#[test]
fn after_packets_that_are_lost() {
    goes_on_after(|world| Trouble::Door(Door::that_swallows_packets(world.simulator.address())));
}

#[test]
fn after_a_certificate_that_nobody_trusts() {
    goes_on_after(|world| Trouble::Door(Door::with_certificate(world.simulator.address())));
}

#[test]
fn after_writes_that_fail_while_reads_succeed() {
    goes_on_after(|_| Trouble::Api(Outage::Writes500));
}

#[test]
fn after_writes_that_are_never_answered() {
    goes_on_after(|_| Trouble::Api(Outage::WritesHang));
}

/// The API fails from the first request on, and does not recover before the run stops.
fn gives_up_and_loses_nothing(trouble: impl FnOnce(&World) -> Trouble, more: &[&str]) -> Done {
    let world = World::new();
    let trouble = trouble(&world);
    trouble.begin(&world);
    let options =
        [&["--outage-limit", "3s", "--max-attempts", "4", "--connect-timeout", "1s"], more].concat();
    let done = finish(start(&world, &trouble, 100, &options));
    assert_eq!(done.code, 4, "{done:?}");
    let says = |words| done.stderr.contains(words);
    assert!(says("error: no successful answer for ") || says("error: no response for "), "{done:?}");
    assert_eq!(world.outcomes(), format!("pending={}", world.summary()["rows"]), "none failed");
    assert_eq!(world.summary()["state"], "stopped");
    let away = |entry: &Entry| entry.endpoint == Endpoint::Create && entry.status == Some(200);
    assert!(!world.journal().entries().iter().any(away));
    done
}

#[test]
fn a_certificate_that_nobody_trusts_loses_no_row() {
    let done = gives_up_and_loses_nothing(
        |world| Trouble::Door(Door::with_certificate(world.simulator.address())),
        &[],
    );
    assert!(done.stderr.contains("--ca-file"), "{done:?}");
}

#[test]
fn packets_that_are_lost_lose_no_row() {
    gives_up_and_loses_nothing(
        |world| Trouble::Door(Door::that_swallows_packets(world.simulator.address())),
        &[],
    );
}

#[test]
fn writes_that_fail_from_the_first_one_on_lose_no_row() {
    gives_up_and_loses_nothing(|_| Trouble::Api(Outage::Writes500), &[]);
}

/// `.invalid` has no address in any DNS.
#[test]
fn a_name_without_an_address_loses_no_row() {
    let nowhere = ["--base-url", "https://customers.invalid"];
    let done = gives_up_and_loses_nothing(|_| Trouble::Api(Outage::Refuse), &nowhere);
    assert!(done.stderr.contains("the name is not found"), "{done:?}");
}

/// A service that fails for some rows has no outage: the other rows succeed, and only those fail.
#[test]
fn rows_that_always_fail_are_not_an_outage_wherever_they_stand() {
    let world = World::with(Options { faults: vec![(Fault::WriteAlways500, 0.2)], ..Options::default() });
    let file = world.rows("users.csv", 400);
    let done = world.import(&file, &["--max-attempts", "2", "--outage-limit", "5s"]);
    assert_eq!(done.code, 3, "{done:?}");
    let created = customers(&world);
    assert!((250..390).contains(&created), "{created}");
    assert_eq!(world.outcomes(), format!("created={created} failed={}", 400 - created));
}

/// A run of 300 rows, of which some are settled when the outage begins.
fn run_into(outage: Outage, more: &[&str]) -> (World, Child) {
    let latency = Duration::from_millis(5);
    let world = World::with(Options { latency: (latency, latency), ..Options::default() });
    let file = world.rows("users.csv", 300);
    let mut run = world.start_import(&file, more);
    assert!(wait_until(&mut run, || world.journal().requests() >= 60));
    world.reconfigure(|behavior| behavior.outage = Some(outage));
    (world, run)
}

#[test]
fn a_lasting_outage_stops_the_run_and_the_next_one_completes() {
    for outage in [Outage::Refuse, Outage::Http503] {
        let (world, run) = run_into(outage, &["--outage-limit", "1s"]);
        let done = finish(run);
        assert_eq!(done.code, 4, "{outage:?}: {done:?}");
        let summary = world.summary();
        assert_eq!(summary["state"], "stopped");
        assert!(summary["stop_reason"].is_string(), "{summary}");
        assert_eq!(summary["failed"], 0, "{summary}");
        assert_eq!(summary["rejected"], 0, "{summary}");
        assert!(summary["pending"].as_u64().unwrap() > 0, "{summary}");
        let errors: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{done:?}");

        world.reconfigure(|behavior| behavior.outage = None);
        let file = world.path("users.csv");
        let done = world.import(&file, &[]);
        assert_eq!(done.code, 0, "{done:?}");
        world.assert_agreement(references(0..300));
    }
}

#[test]
fn a_run_against_nothing_at_all_stops() {
    let world = World::new();
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Refuse));
    let file = world.rows("users.csv", 100);
    let done = world.import(&file, &["--outage-limit", "1s"]);
    assert_eq!(done.code, 4, "{done:?}");
    let outcomes = world.outcomes();
    assert!(outcomes.starts_with("pending="), "nothing succeeded and nothing failed: {outcomes}");
    world.reconfigure(|behavior| behavior.outage = None);
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "created=100");
    assert_eq!(world.journal().gets(), 0, "what never left is not in doubt");
}
