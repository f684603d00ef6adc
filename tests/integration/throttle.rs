//! Rate, concurrency, and what happens when the API refuses requests.
//!
//! The disaster: a run that exceeds the merchant's limit and gets the merchant blocked, or one that turns an outage of a
//! minute into ten thousand failed rows. All rates are measured at the server, by the journal's own clock: the client's
//! figures about itself prove nothing.

use std::time::Duration;

use customer_import::simulator::{Endpoint, Entry, Fault, Options};

use crate::world::{World, finish, references, wait_until};

/// The tolerance of a window beyond rate and burst: two requests, or one in a hundred, because the journal has the
/// times at which requests arrived and not those at which they were sent.
pub(crate) fn jitter(rate: f64) -> f64 {
    (rate / 100.0).max(2.0)
}

/// A shared machine stalls now and then, and the requests of that time are journaled together when it continues. Such
/// a stall shows as a gap; up to this length a window that begins behind it is assumed to begin with the gap. A window
/// that begins with a later one of the late requests begins as much later as those before it take at the rate.
const STANDSTILL: Duration = Duration::from_millis(50);

/// The share of the rate that must be reached; the rest allows for the start and the end of a run, and for a debug
/// build on a busy machine.
pub(crate) const REACHED: f64 = 0.9;

/// By how much the fullest window of one second exceeds rate and burst.
pub(crate) fn worst_excess(entries: &[Entry], rate: f64, burst: f64) -> f64 {
    let second = Duration::from_secs(1);
    let due = Duration::from_secs_f64(1.0 / rate);
    let mut worst = f64::MIN;
    let mut standstill = Duration::ZERO;
    let mut end = 0;
    for (begin, first) in entries.iter().enumerate() {
        while end < entries.len() && entries[end].at < first.at + second {
            end += 1;
        }
        let gap = begin.checked_sub(1).map_or(Duration::ZERO, |before| first.at - entries[before].at);
        standstill = (standstill + gap).saturating_sub(due).min(STANDSTILL);
        let most = rate * (1.0 + standstill.as_secs_f64()) + burst;
        worst = worst.max((end - begin) as f64 - most);
    }
    worst
}

pub(crate) fn mean_rate(entries: &[Entry]) -> f64 {
    let (first, last) = (entries[0].at, entries[entries.len() - 1].at);
    (entries.len() - 1) as f64 / (last - first).as_secs_f64()
}

/// The rate of this build on this machine without a limit, measured now; a limit above it would not test the limiter.
fn capacity(rows: usize) -> f64 {
    let world = World::new();
    let file = world.rows("users.csv", rows);
    assert_eq!(world.import(&file, &[]).code, 0);
    mean_rate(&world.journal().entries())
}

/// The share of the capacity that can be expected a moment later, whatever else the machine is doing then.
pub(crate) const STILL_THERE: f64 = 0.5;

/// Imports at this rate and checks it against the journal.
fn rate_is_kept(rate: &str, rows: usize, more: &[&str]) {
    let world = World::new();
    let file = world.rows("users.csv", rows);
    let done = world.import(&file, &[&["--rate", rate], more].concat());
    assert_eq!(done.code, 0, "{done:?}");
    let entries = world.journal().entries();
    assert_eq!(entries.len(), rows);
    let burst = more.last().map_or(1.0, |burst| burst.parse().unwrap());
    let rate: f64 = rate.parse().unwrap();
    let excess = worst_excess(&entries, rate, burst);
    assert!(excess <= jitter(rate), "a second held {excess} requests more than {rate} and {burst}");
    let mean = mean_rate(&entries);
    assert!(
        mean >= REACHED * rate || mean >= STILL_THERE * capacity(rows),
        "{mean} of {rate} requests a second"
    );
}

#[test]
fn ten_a_second() {
    rate_is_kept("10", 25, &[]);
}

#[test]
fn three_hundred_a_second() {
    rate_is_kept("300", 750, &[]);
}

#[test]
fn two_thousand_a_second() {
    rate_is_kept("2000", 4000, &[]);
}

#[test]
fn a_burst_comes_on_top_once() {
    rate_is_kept("40", 130, &["--burst", "30"]);
}

#[test]
fn retries_and_gets_count() {
    let world = World::with(Options {
        faults: vec![(Fault::Http500, 0.15), (Fault::ResetAfter, 0.1)],
        ..Options::default()
    });
    let file = world.rows("users.csv", 400);
    let done = world.import(&file, &["--rate", "300", "--concurrency", "100", "--max-attempts", "50"]);
    assert_eq!(done.code, 0, "{done:?}");
    let entries = world.journal().entries();
    let gets = entries.iter().filter(|entry| entry.endpoint == Endpoint::Get).count();
    assert!(gets > 40 && entries.len() > 450, "{gets} of {}", entries.len());
    let excess = worst_excess(&entries, 300.0, 1.0);
    assert!(excess <= jitter(300.0), "{excess}");
    assert_eq!(world.summary()["requests"], entries.len());
    assert_eq!(world.summary()["retries"].as_u64().unwrap() as usize, entries.len() - 400);
    world.assert_agreement(references(0..400));
}

#[test]
fn requests_in_flight_reach_the_limit_and_never_exceed_it() {
    let latency = Duration::from_millis(60);
    let world = World::with(Options {
        latency: (latency, latency),
        faults: vec![(Fault::Http500, 0.1)],
        ..Options::default()
    });
    let file = world.rows("users.csv", 300);
    let done = world.import(&file, &["--concurrency", "30", "--max-attempts", "50"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(world.journal().peak_in_flight(), 30);
    assert!(
        world.journal().connections() <= 30 + world.journal().requests() / 10,
        "connections are kept: {}",
        world.journal().connections()
    );
}

#[test]
fn one_at_a_time_is_possible() {
    let world = World::new();
    let file = world.rows("users.csv", 50);
    assert_eq!(world.import(&file, &["--concurrency", "1"]).code, 0);
    assert_eq!(world.journal().peak_in_flight(), 1);
    assert_eq!(world.journal().connections(), 1);
}

/// Imports into an API that admits fifty requests a second and sends this `Retry-After` with its 429.
fn a_throttled_import_waits(retry_after: &str, pause: Duration) {
    const CONCURRENCY: usize = 8;
    let world = World::with(Options { rate_limit: Some(50), ..Options::default() });
    world.reconfigure(|behavior| behavior.retry_after = retry_after.into());
    let file = world.rows("users.csv", 120);
    // One attempt is enough, since a 429 costs none.
    let done = world.import(&file, &["--concurrency", "8", "--max-attempts", "1"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(world.outcomes(), "created=120");
    world.assert_agreement(references(0..120));
    let entries = world.journal().entries();
    let refused: Vec<&Entry> = entries.iter().filter(|entry| entry.status == Some(429)).collect();
    assert!(!refused.is_empty());
    assert_eq!(world.summary()["throttled"], refused.len());
    // Without `Retry-After` only the first pause is that long; `throttle/adaptive_rate.rs` tests the others.
    let known = if retry_after.is_empty() { 1 } else { refused.len() };
    for refusal in &refused[..known] {
        let during =
            entries.iter().filter(|entry| entry.at > refusal.at && entry.at < refusal.at + pause).count();
        // Those in flight, and those that got a slot before the 429 was read.
        assert!(during <= 2 * CONCURRENCY, "{during} requests in spite of a 429");
    }
}

#[test]
fn a_429_pauses_all_requests_for_its_retry_after_and_costs_no_attempt() {
    a_throttled_import_waits("2", Duration::from_secs(2));
}

#[test]
fn a_429_without_retry_after_pauses_all_requests_too() {
    a_throttled_import_waits("", Duration::from_secs(1));
}

/// An API that returns 500 to every request about the eleventh of sixty rows, and to no other.
fn with_a_poisoned_row() -> (World, &'static str) {
    let world =
        World::with(Options { seed: 5, faults: vec![(Fault::Always500, 0.03)], ..Options::default() });
    world.rows("users.csv", 60);
    (world, "cust-000010")
}

#[test]
fn a_row_that_waits_for_its_next_attempt_holds_no_slot() {
    let (world, bad) = with_a_poisoned_row();
    let file = world.path("users.csv");
    let slowly = ["--retry-initial", "5s", "--retry-max", "5s"];
    let mut run = world.start_import(&file, &[&slowly[..], &["--concurrency", "1"]].concat());
    assert!(wait_until(&mut run, || world.journal().customers() == 59));
    assert!(run.try_wait().unwrap().is_none(), "the bad row is not done when all others are");
    assert!(!world.journal().created().contains_key(bad));
    let entries = world.journal().entries();
    assert!(
        entries.iter().any(|entry| &*entry.reference == bad && entry.fault.is_some()),
        "it was tried before them all were done"
    );
    run.kill().unwrap();
    run.wait().unwrap();
}

#[test]
fn a_row_that_never_succeeds_does_not_hold_up_the_end() {
    let (world, bad) = with_a_poisoned_row();
    let file = world.path("users.csv");
    // The outage limit would end the run if the row did not; the row must end first.
    let limits = ["--max-attempts", "3", "--outage-limit", "15s"];
    let done = world.import(&file, &limits);
    let entries = world.journal().entries();
    let requests = entries.iter().filter(|entry| &*entry.reference == bad).count();
    assert_eq!(done.code, 4, "{requests} requests for it: {done:?}");
    assert_eq!(world.summary()["created"], 59);
    assert_eq!(world.summary()["state"], "completed");
    assert!(requests <= 2 * 3, "{requests} requests for a row of three attempts");
}

/// The rerun after the test above: only the row is left that the API cannot process. That is not an outage; waiting
/// for its end would take ten minutes each time, and stop the run.
#[test]
fn a_row_that_never_succeeds_is_no_outage_when_it_is_alone() {
    let (world, bad) = with_a_poisoned_row();
    let file = world.file("bad.csv", format!("object_reference_id,mobile_number\n{bad},98\n"));
    let limits = ["--max-attempts", "3", "--outage-limit", "15s"];
    let done = world.import(&file, &limits);
    let entries = world.journal().entries();
    let requests = entries.iter().filter(|entry| &*entry.reference == bad).count();
    assert_eq!(done.code, 4, "{requests} requests for it: {done:?}");
    assert_eq!(world.summary()["state"], "completed");
    assert!(requests <= 2 * 3, "{requests} requests for a row of three attempts");
}

#[test]
fn too_many_failures_stop_the_run() {
    let latency = Duration::from_millis(2);
    let world = World::with(Options {
        latency: (latency, latency),
        faults: vec![(Fault::Reject, 0.5)],
        ..Options::default()
    });
    let file = world.rows("users.csv", 2000);
    let done = world.import(&file, &["--max-failures", "5", "--concurrency", "4"]);
    assert_eq!(done.code, 4, "{done:?}");
    let summary = world.summary();
    assert_eq!(summary["state"], "stopped");
    assert!(summary["stop_reason"].is_string(), "{summary}");
    let rejected = summary["rejected"].as_u64().unwrap();
    // Rows that were in flight, and rows that got a response during one commit.
    assert!((6..60).contains(&rejected), "{summary}");
    assert_eq!(summary["requests"], world.journal().requests());
    assert_eq!(summary["created"].as_u64().unwrap(), world.journal().customers() as u64);
    let few = world.import(&file, &["--max-failures", "100%", "--concurrency", "64"]);
    assert_eq!(few.code, 3, "{few:?}");
    assert_eq!(world.summary()["pending"], 0);
}

#[test]
fn a_revoked_key_stops_the_run_at_once_and_the_next_one_completes() {
    const CONCURRENCY: usize = 8;
    for forbidden in [false, true] {
        let latency = Duration::from_millis(20);
        let world = World::with(Options { latency: (latency, latency), ..Options::default() });
        let file = world.rows("users.csv", 400);
        let mut run = world.start_import(&file, &["--concurrency", "8"]);
        assert!(wait_until(&mut run, || world.journal().requests() >= 50));
        world.reconfigure(|behavior| (behavior.key_revoked, behavior.forbidden) = (!forbidden, forbidden));
        let done = finish(run);
        assert_eq!(done.code, 4, "{done:?}");
        let status = if forbidden { 403 } else { 401 };
        let entries = world.journal().entries();
        let refused = entries.iter().filter(|entry| entry.status == Some(status)).count();
        assert!((1..=2 * CONCURRENCY).contains(&refused), "{refused}");
        let summary = world.summary();
        assert_eq!(summary["state"], "stopped");
        assert_eq!(summary["failed"], 0, "{summary}");
        assert_eq!(summary["rejected"], 0, "{summary}");
        assert_eq!(summary["created"].as_u64().unwrap(), world.journal().customers() as u64);

        world.reconfigure(|behavior| (behavior.key_revoked, behavior.forbidden) = (false, false));
        let done = world.import(&file, &[]);
        assert_eq!(done.code, 0, "{done:?}");
        world.assert_agreement(references(0..400));
        assert_eq!(world.journal().gets(), 0, "a refused row is not in doubt");
    }
}

/// A run of an hour has hundreds of pauses, and the first warning is sufficient.
#[test]
fn pauses_are_warned_of_once_and_counted() {
    let world = World::with(Options { rate_limit: Some(50), ..Options::default() });
    let file = world.rows("users.csv", 3_000);
    let mut child = world.start_import(&file, &["--concurrency", "8", "-v", "--log-format", "json"]);
    let live = || -> serde_json::Value {
        let status = world.run(&["status", "--format", "json"]).stdout;
        serde_json::from_str::<serde_json::Value>(&status)
            .map(|status| status["live"].clone())
            .unwrap_or_default()
    };
    let has_paused = || live()["pauses"].as_u64() >= Some(2) && live()["throttled_by"] == "api";
    assert!(wait_until(&mut child, has_paused));
    let shown = world.run(&["status"]).stdout;
    let shown: String = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(shown.contains("/s by the API") && shown.contains(" pauses"), "{shown}");
    crate::world::signal(&child, "INT");
    let done = finish(child);
    assert_eq!(done.code, 130, "{done:?}");
    let pauses = world.summary()["pauses"].as_u64().unwrap();
    assert!(pauses >= 2 && done.stdout.contains(&format!(", {pauses} pauses\n")), "{done:?}");
    let about = |level: &str| {
        let is_about = |line: &&str| line.contains(level) && line.contains("the API asks for a pause");
        done.stderr.lines().filter(is_about).count() as u64
    };
    assert_eq!((about("\"WARN\""), about("\"INFO\"")), (1, pauses - 1), "{done:?}");
}

#[test]
fn the_users_own_rate_is_no_limit_of_the_api() {
    let world = World::new();
    let file = world.rows("users.csv", 500);
    let mut child = world.start_import(&file, &["--rate", "20"]);
    let shows = |words: &str| world.run(&["status"]).stdout.contains(words);
    assert!(wait_until(&mut child, || world.has_ledger() && shows(", rate 20/s")));
    assert!(!shows("by the API") && !shows("throttled"));
    child.kill().unwrap();
    child.wait().unwrap();
}
