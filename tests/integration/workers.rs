//! Several workers on one run: each row is sent by one of them, whoever of them dies when.
//!
//! The disaster is a row that two workers send, a row that none sends because its worker has died, a later row that wins
//! over an earlier one with the same reference, and two workers that read different files.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use customer_import::simulator::{Endpoint, Entry, Fault, Options};
use flate2::{Compression, write::GzEncoder};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    metrics::{samples, values},
    server::{Server, named},
    throttle::{REACHED, STILL_THERE, jitter, mean_rate, worst_excess},
    world::{Done, World, finish, knob, references, rows, signal, wait_until},
};

fn world(latency: Duration) -> World {
    let server = named().expect("CUSTOMER_IMPORT_TEST_LEDGER names a server, as .ci/run does");
    World::with(Options { latency: (latency, latency), ..Options::default() }).on_server(&server)
}

/// Starts a worker that writes its summary to a file of its own.
fn start(world: &World, file: &Path, number: usize, more: &[&str]) -> Child {
    let summary = format!("--summary-json=summary.{number}.json");
    world.start_import(file, &[&["--concurrency=4", &summary], more].concat())
}

/// Starts so many workers, and waits until each has claimed rows.
fn start_all(world: &World, file: &Path, workers: usize, more: &[&str]) -> Vec<Child> {
    let mut all = Vec::new();
    for number in 0..workers {
        all.push(start(world, file, number, more));
        if !wait_until(&mut all[number], || claiming(world) > number) {
            panic!("{:?}", finish_all(all));
        }
    }
    all
}

/// Number of workers that have claimed rows.
fn claiming(world: &World) -> usize {
    let claiming = "select count(*) from worker
        where rows_settled > 0 or exists (select 1 from claim_batch where claim_batch.worker = worker.id)";
    if world.has_ledger() { world.number(claiming) as usize } else { 0 }
}

fn finish_all(workers: Vec<Child>) -> Vec<Done> {
    workers.into_iter().map(finish).collect()
}

#[track_caller]
fn assert_codes(ended: &[Done], code: i32) {
    assert!(ended.iter().all(|done| done.code == code), "{ended:#?}");
}

/// Nothing is left of the work: no claim and no orphan; and all rows are counted.
#[track_caller]
fn assert_closed(world: &World, source_rows: u64) {
    assert_eq!(world.number("select count(*) from claim_batch"), 0);
    assert_eq!(world.number("select count(*) from row where hold is not null"), 0);
    assert_eq!(world.number("select count(*) from pending_update where hold is not null"), 0);
    let last = "(select max(id) from run)";
    assert_eq!(
        world.number(&format!("select sum(rows)::bigint from run_outcome where run = {last}")),
        source_rows
    );
    assert_eq!(world.number(&format!("select cursor_rows from run where id = {last}")), source_rows);
}

#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn workers_share_a_run_and_each_row_is_sent_once() {
    let world = world(Duration::from_millis(50));
    // Each of the last rows repeats one of the first, with other fields: it is a duplicate, whoever reads it.
    let later = rows(0..100).replace("98", "97");
    let text = rows(0..1200) + later.split_once('\n').unwrap().1 + "short,1,\n";
    let file = world.file("users.csv", text);
    let ended = finish_all(start_all(&world, &file, 3, &[]));
    assert_codes(&ended, 3);
    assert_eq!(world.number("select count(*) from run"), 1);
    assert_eq!(world.number("select count(*) from worker where run = 1"), 3);
    assert_eq!(world.journal().creates(), 1200);
    world.assert_agreement(references(0..1200));
    assert_closed(&world, 1301);
    let failed = world.failed_rows();
    assert_eq!(failed.len(), 101);
    assert!(failed.iter().all(|row| row["_line"].parse::<u64>().unwrap() > 1201), "the first line wins");
    for number in 0..3 {
        let text = std::fs::read_to_string(world.path(&format!("summary.{number}.json"))).unwrap();
        let summary: serde_json::Value = serde_json::from_str(&text).unwrap();
        let counts = ["rows", "created", "duplicate", "invalid", "pending", "requests"];
        assert_eq!(counts.map(|name| summary[name].as_u64().unwrap()), [1301, 1200, 100, 1, 0, 1200]);
    }
    let shares = (0..3).map(|number| {
        let text = std::fs::read_to_string(world.path(&format!("summary.{number}.json"))).unwrap();
        let summary: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(summary["worker"].as_u64().unwrap(), number + 1);
        summary["worker_rows"].as_u64().unwrap()
    });
    assert_eq!(shares.sum::<u64>(), 1301, "each row is settled by one of them");
    let again = world.import(&file, &[]);
    assert_eq!((again.code, world.journal().requests()), (3, 1200), "{again:?}");
    assert_eq!(world.outcomes(), "unchanged=1200 duplicate=100 invalid=1");
    assert_eq!(world.failed_rows().len(), 101, "the records of the run before are replaced");
}

/// A worker that settles a part of the rows says how many of the whole run lack a field, or existed with other fields.
#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn every_worker_says_what_the_whole_run_has_dropped_and_found() {
    let world = world(Duration::from_millis(50));
    for reference in references(0..60) {
        world.create_elsewhere(&reference);
    }
    let text =
        rows(0..800).replace("email_address\n", "first_name\n").replace("@example.com", " with a blank");
    let file = world.file("users.csv", text);
    assert_codes(&finish_all(start_all(&world, &file, 2, &["--drop-invalid-optional"])), 0);
    for number in 0..2 {
        let text = std::fs::read_to_string(world.path(&format!("summary.{number}.json"))).unwrap();
        let summary: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(summary["worker_rows"].as_u64().unwrap() < 800, "both have worked: {summary}");
        assert_eq!(summary["dropped"][0]["rows"], 800, "{summary}");
        assert_eq!(summary["existing_differing_rows"], 60, "{summary}");
        assert_eq!(summary["existing_differing"]["mobile_number"], 60, "{summary}");
    }
}

#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn metrics_of_workers_add_up_and_those_of_the_run_are_the_same() {
    let world = world(Duration::from_millis(50));
    let file = world.rows("users.csv", 800);
    let mut workers = Vec::new();
    for number in 0..2 {
        let textfile = format!("--metrics-textfile=worker.{number}.prom");
        workers.push(start(&world, &file, number, &[&textfile]));
        assert!(wait_until(&mut workers[number], || claiming(&world) > number));
    }
    assert_codes(&finish_all(workers), 0);
    let seen = [0, 1].map(|number| {
        let text = std::fs::read_to_string(world.path(&format!("worker.{number}.prom"))).unwrap();
        samples(&text)
    });
    let of_each = |name: &str, label: &str| seen.each_ref().map(|seen| values(seen, name, label));
    let created = of_each("customer_import_rows_total", "outcome=\"created\"");
    assert!(created.iter().all(|rows| *rows > 0.0), "{created:?}");
    assert_eq!(created.iter().sum::<f64>(), 800.0);
    assert_eq!(of_each("customer_import_requests_total", "").iter().sum::<f64>(), 800.0);
    assert_eq!(of_each("customer_import_run_rows", "outcome=\"created\""), [800.0; 2]);
    assert_eq!(of_each("customer_import_run_rows", "outcome=\"pending\""), [0.0; 2]);
    assert_eq!(of_each("customer_import_run_requests", ""), [800.0; 2]);
}

#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn the_rows_of_a_worker_that_dies_are_taken_over() {
    let world = world(Duration::from_millis(50));
    let file = world.rows("users.csv", 1500);
    let mut workers = start_all(&world, &file, 3, &["--lease=3s", "-v"]);
    let mut dead = workers.remove(0);
    dead.kill().unwrap();
    dead.wait().unwrap();
    assert!(world.number("select count(*) from claim_batch where worker = 1") > 0, "it dies with claims");
    let ended = finish_all(workers);
    assert_codes(&ended, 0);
    assert!(ended.iter().any(|done| done.stderr.contains("rows of a worker that has ended are taken over")));
    world.assert_agreement(references(0..1500));
    assert_closed(&world, 1500);
    assert_eq!(world.query("select state from worker order by id"), [["dead"], ["left"], ["left"]]);
}

/// For example a node that is drained.
#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn the_rows_of_a_worker_that_leaves_go_on_at_once() {
    let world = world(Duration::from_millis(50));
    let file = world.rows("users.csv", 1500);
    // Nobody waits for a lease here.
    let mut workers = start_all(&world, &file, 3, &["--lease=10m"]);
    let leaving = workers.remove(1);
    signal(&leaving, "TERM");
    let left = finish(leaving);
    assert_eq!(left.code, 143);
    assert!(left.stdout.contains("next:   the other workers of the run continue"), "{left:?}");
    assert_eq!(world.query("select state from run order by id"), [["running"]]);
    let ended = finish_all(workers);
    assert_codes(&ended, 0);
    assert_eq!(world.journal().creates(), 1500);
    world.assert_agreement(references(0..1500));
    assert_closed(&world, 1500);
}

/// Nobody waits for a lease here: a worker that ends with an error, or whose user does not wait, ends its lease.
#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn the_rows_of_a_worker_that_ends_with_an_error_go_on_at_once() {
    let world = world(Duration::from_millis(200));
    let file = world.rows("users.csv", 1500);
    let mut workers = start_all(&world, &file, 3, &["--lease=10m"]);
    world.execute(
        "create function refuse() returns trigger language plpgsql as
         $$begin raise exception 'no claim for the first worker'; end$$;
         create trigger refusing before insert on claim_batch for each row when (new.worker = 1)
         execute function refuse()",
    );
    let ended = finish(workers.remove(0));
    ended.assert_error_line(1, &["no claim for the first worker", "run the same command again"]);
    let hasty = workers.remove(0);
    signal(&hasty, "INT");
    assert!(wait_until(&mut workers[0], || world.number("select count(*) from worker where id = 2") == 1));
    signal(&hasty, "INT");
    assert_eq!(finish(hasty).code, 130);
    assert_codes(&finish_all(workers), 0);
    world.assert_agreement(references(0..1500));
    assert_closed(&world, 1500);
    let ends = "select state, exit_code, stop_reason from worker order by id limit 1";
    assert_eq!(world.query(ends), [["dead", "", "it ended in the middle of its work"]]);
}

/// When a stopped worker goes on.
#[derive(PartialEq)]
enum GoesOn {
    OnceOthersClaim,
    BehindTheEnd,
}

/// Three workers with this lease, the first of which is stopped while its transaction is in this trigger of the table `run`.
/// Returns for how long no row was claimed after that, and how the worker ends when it goes on.
fn stop_in(trigger: &str, lease: &str, goes_on: &GoesOn) -> (Duration, Done) {
    let world = world(Duration::from_millis(20));
    let file = world.rows("users.csv", 3000);
    let mut workers = start_all(&world, &file, 3, &[lease, "--rate=400"]);
    // A key of this world, because other tests use the same server.
    let key = format!("hashtext('{}')", world.schema().unwrap().name());
    let lock = world.lock(&format!("select pg_advisory_lock(4711, {key})"));
    world.execute(&format!(
        "create function halt() returns trigger language plpgsql as
         $$begin perform pg_advisory_xact_lock_shared(4711, {key}); return new; end$$;
         create {trigger} execute function halt()"
    ));
    let waiting = format!(
        "select count(*) from pg_locks where locktype = 'advisory' and classid = 4711
         and objid::bigint = {key}::bigint & 4294967295 and mode = 'ShareLock' and not granted"
    );
    assert!(wait_until(&mut workers[0], || world.number(&waiting) > 0));
    let stopped = workers.remove(0);
    signal(&stopped, "STOP");
    drop(lock);
    let (since, claimed) = (Instant::now(), "select cursor_rows from run");
    let before = world.number(claimed);
    assert!(wait_until(&mut workers[0], || world.number(claimed) > before));
    let stalled = since.elapsed();
    if *goes_on == GoesOn::OnceOthersClaim {
        signal(&stopped, "CONT");
    }
    let ended = finish_all(workers);
    signal(&stopped, "CONT");
    assert_codes(&ended, 0);
    world.assert_agreement(references(0..3000));
    assert_closed(&world, 3000);
    (stalled, finish(stopped))
}

/// The others wait for it, but not for its whole lease.
#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn a_worker_that_is_stopped_while_it_claims_rows_loses_the_cursor() {
    // It has taken the cursor, and the transaction is about to end. It is alive when it goes on, and another worker has
    // claimed the rows that it wants to claim. Other workers update the run while it holds the cursor.
    let (stalled, ended) = stop_in(
        "constraint trigger halting after update on run deferrable initially deferred for each row
         when (old.cursor_holder is null and new.cursor_holder = 1)",
        "--lease=6s",
        &GoesOn::OnceOthersClaim,
    );
    assert!(stalled < Duration::from_secs(5), "{stalled:?}");
    ended.assert_error_line(4, &["another process has taken this one's work over"]);
}

#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn a_worker_that_is_stopped_in_mid_transaction_is_not_waited_for() {
    // It moves the cursor, with a lock on the run.
    let (stalled, ended) = stop_in(
        "trigger halting before update on run for each row
         when (old.cursor_holder = 1 and new.cursor_holder is null)",
        "--lease=20s",
        &GoesOn::BehindTheEnd,
    );
    assert!(stalled < Duration::from_secs(13), "{stalled:?}");
    ended.assert_error_line(4, &["another process has taken this one's work over"]);
}

#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn status_says_how_a_worker_has_ended() {
    let world = world(Duration::from_millis(100));
    let text = rows(0..400);
    let whole = {
        let mut whole = GzEncoder::new(Vec::new(), Compression::fast());
        whole.write_all(text.as_bytes()).unwrap();
        whole.finish().unwrap()
    };
    let file = world.file("users.csv.gz", &whole);
    std::fs::create_dir(world.path("partial")).unwrap();
    let partial = world.file("partial/users.csv.gz", &whole[..whole.len() / 2]);
    let mut goes_on = start(&world, &file, 0, &["--lease=10m"]);
    assert!(wait_until(&mut goes_on, || claiming(&world) == 1));
    let ended = finish(start(&world, &partial, 1, &["--lease=10m"]));
    ended.assert_error_line(1, &["the gzip data breaks off"]);
    let status = world.run(&["status"]);
    let words = ["exit code 1: cannot read", "the gzip data breaks off"];
    let shown = status.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.iter().all(|words| shown.contains(words)), "{status:?}");
    let status = world.run(&["status", "--format", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let [first, second] = &status["workers"].as_array().unwrap()[..] else { panic!("{status}") };
    assert_eq!((&first["state"], &second["state"]), (&"alive".into(), &"left".into()));
    assert_eq!((&first["exit_code"], &second["exit_code"]), (&serde_json::Value::Null, &1.into()));
    assert!(first["stop_reason"].is_null() && second["stop_reason"].is_string(), "{status}");
    assert_codes(&[finish(goes_on)], 0);
    world.assert_agreement(references(0..400));
    assert_closed(&world, 400);
}

/// The rows of a pipe cannot be read again, so they are only looked up; what the API does not have stays pending.
#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn rows_that_cannot_be_read_again_are_looked_up_and_stay_pending() {
    use std::{io::Write as _, process::Stdio};
    let world = world(Duration::from_millis(50));
    let text = rows(0..800);
    let mut workers = Vec::new();
    for number in 0..2 {
        let summary = format!("--summary-json=summary.{number}.json");
        let args = world.import_args(Path::new("-"), &["--concurrency=4", &summary, "--lease=3s"]);
        let mut command = world.command(&args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut input, text) = (child.stdin.take().unwrap(), text.clone());
        std::thread::spawn(move || input.write_all(text.as_bytes()).ok());
        assert!(wait_until(&mut child, || claiming(&world) > number));
        workers.push(child);
    }
    let mut dead = workers.remove(0);
    dead.kill().unwrap();
    dead.wait().unwrap();
    let ended = finish_all(workers);
    assert_codes(&ended, 4);
    assert_closed(&world, 800);
    world.assert_same_customers();
    let done = world.import(&world.file("users.csv", text), &[]);
    assert_eq!(done.code, 0, "{done:?}");
    world.assert_agreement(references(0..800));
}

#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn an_update_of_a_worker_that_dies_is_taken_over() {
    let world = world(Duration::from_millis(50));
    let file = world.rows("users.csv", 2000);
    assert_eq!(world.import(&file, &["--concurrency=64"]).code, 0);
    let changed = std::fs::read_to_string(&file).unwrap().replace("@example.com", "@example.org");
    std::fs::write(&file, changed).unwrap();
    let more = ["--update-changed", "--lease=3s"];
    let mut workers: Vec<Child> = (0..3).map(|number| start(&world, &file, number, &more)).collect();
    let held = || world.number("select count(distinct worker) from pending_update where hold = 'claimed'");
    assert!(wait_until(&mut workers[0], || held() >= 2));
    let mut dead = workers.remove(0);
    dead.kill().unwrap();
    dead.wait().unwrap();
    let ended = finish_all(workers);
    assert_codes(&ended, 0);
    assert_closed(&world, 2000);
    assert_eq!(world.number("select count(*) from pending_update"), 0);
    assert_eq!(world.number("select rows from run_outcome where run = 2 and outcome = 'updated'"), 2000);
    assert_eq!(world.number("select rows from changed where run = 2 and field = 'email_address'"), 2000);
}

#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn workers_that_read_other_rows_are_refused() {
    let world = world(Duration::from_millis(50));
    let file = world.rows("users.csv", 800);
    let mut first = start_all(&world, &file, 1, &[]);
    std::fs::create_dir(world.path("other")).unwrap();
    let other = world.file("other/users.csv", rows(0..800).replace("cust-000003,", "cust-100003,"));
    let second = finish(start(&world, &other, 1, &[]));
    second.assert_error_line(1, &["run 1 reads other rows than this file has", "the same file"]);
    let shorter = world.file("other/users.csv", rows(0..3));
    finish(start(&world, &shorter, 2, &[])).assert_error_line(1, &["run 1 reads other rows"]);
    for (name, more) in
        [("others.csv", &[][..]), ("users.csv", &["--validation=lenient"]), ("users.csv", &["--limit=700"])]
    {
        let other = world.file(name, rows(0..800));
        finish(start(&world, &other, 3, more)).assert_error_line(2, &["in use by run 1"]);
    }
    assert_codes(&finish_all(std::mem::take(&mut first)), 0);
    world.assert_agreement(references(0..800));
    assert_closed(&world, 800);
}

#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn what_stops_one_worker_stops_all() {
    let world = world(Duration::from_millis(50));
    let file = world.rows("users.csv", 2000);
    let workers = start_all(&world, &file, 3, &[]);
    world.reconfigure(|behavior| behavior.key_revoked = true);
    let ended = finish_all(workers);
    assert_codes(&ended, 4);
    assert_eq!(world.query("select state, exit_code from run order by id"), [["stopped", "4"]]);
    world.reconfigure(|behavior| behavior.key_revoked = false);
    assert_eq!(world.import(&file, &[]).code, 0);
    world.assert_agreement(references(0..2000));
}

/// Each of them alone stays below the limit.
#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn failures_are_counted_over_all_workers() {
    let world = world(Duration::from_millis(50));
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::Reject, 0.1)]);
    let file = world.rows("users.csv", 1500);
    let ended = finish_all(start_all(&world, &file, 3, &["--max-failures=60"]));
    assert_codes(&ended, 4);
    let failed = world.number("select sum(rows)::bigint from run_outcome where outcome = 'rejected'");
    assert!((61..100).contains(&failed), "{failed}");
    assert_eq!(world.query("select state from run order by id"), [["stopped"]]);
}

#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn a_worker_that_comes_after_the_end_of_its_run_sends_nothing() {
    let world = world(Duration::from_millis(5));
    let file = world.file("users.csv", rows(0..300) + "short,1,\n");
    let named = ["--run-name", "job-7"];
    let ended = finish_all(vec![start(&world, &file, 0, &named), start(&world, &file, 1, &named)]);
    assert_codes(&ended, 3);
    let requests = world.journal().requests();
    let late = world.import(&file, &named);
    assert_eq!((late.code, world.journal().requests()), (3, requests), "{late:?}");
    assert!(late.stdout.contains("Run 1 of this name is completed; nothing is sent"), "{late:?}");
    assert_eq!(world.outcomes(), "created=300 invalid=1", "the counts of the run");
    let summary = world.summary();
    assert_eq!((&summary["state"], &summary["exit_code"]), (&"completed".into(), &3.into()));
    assert_eq!((&summary["requests"], &summary["stop_reason"]), (&requests.into(), &serde_json::Value::Null));
    assert_eq!(world.number("select count(*) from run"), 1);
    assert_eq!(world.import(&file, &["--run-name", "job-8"]).code, 3);
    assert_eq!(world.number("select count(*) from run"), 2);
    let in_file = World::new().in_file();
    in_file.import(&file, &named).assert_error_line(2, &["--run-name is for a ledger in Postgres"]);
}

/// Whoever of them sends, dies or comes later.
#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn the_rate_is_that_of_all_workers() {
    let rate = 100.0;
    // What one worker reaches on this machine now.
    let one = world(Duration::from_millis(5));
    assert_eq!(one.import(&one.rows("users.csv", 200), &["--rate=100", "--burst=2"]).code, 0);
    let alone = mean_rate(&one.journal().entries());
    let world = world(Duration::from_millis(5));
    let file = world.rows("users.csv", 1200);
    let more = ["--rate=100", "--burst=2", "--lease=3s"];
    let mut workers = start_all(&world, &file, 3, &more);
    assert!(wait_until(&mut workers[0], || world.journal().requests() > 500));
    let mut dead = workers.remove(0);
    dead.kill().unwrap();
    dead.wait().unwrap();
    workers.push(start(&world, &file, 3, &more));
    assert_codes(&finish_all(workers), 0);
    let entries = world.journal().entries();
    let excess = worst_excess(&entries, rate, 2.0);
    assert!(excess <= jitter(rate), "a second held {excess} requests more than {rate} and its burst");
    // A worker that dies with the cursor holds the others up for its lease.
    let mean = mean_rate(&entries[..500]);
    assert!(
        mean >= REACHED * rate || mean >= STILL_THERE * alone,
        "{mean} of {rate} requests a second, {alone} alone"
    );
    world.assert_agreement(references(0..1200));
    assert_closed(&world, 1200);
}

/// A run that leaves room for others does not slow down the next one, which does not.
#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn what_was_found_out_about_the_rate_is_forgotten_at_the_next_run() {
    let world = world(Duration::from_millis(5));
    let courtesy = "select state::json ->> 'courtesy' is not null from rate";
    assert_eq!(world.import(&world.rows("users.csv", 30), &["--polite"]).code, 0);
    assert_eq!(world.query(courtesy), [["1"]]);
    assert_eq!(world.import(&world.file("more.csv", rows(100..130)), &[]).code, 0);
    assert_eq!(world.query(courtesy), [["0"]]);
}

/// The share of an unknown limit that is used, and the share of requests that is refused, once the limit was found. In
/// virtual time it is 0.95 and 0.01; the rest allows for a debug build.
const LIMIT_USED: f64 = 0.85;
const LIMIT_REFUSED: f64 = 0.03;

/// On a busy machine, the workers must use this share of what one worker uses a moment later.
const OF_ONE_WORKER: f64 = 0.75;

/// How long finding the limit takes.
const FOUND_AFTER: Duration = Duration::from_secs(8);

/// A limit that nobody told is found and held by all workers together.
#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn workers_find_a_limit_together() {
    let (used, refused) = with_a_limit(3);
    let is_used = used >= LIMIT_USED || used >= OF_ONE_WORKER * with_a_limit(1).0;
    assert!(is_used && refused <= LIMIT_REFUSED, "{used:.3} of the limit, {refused:.4} refused");
}

/// Runs so many workers at an API with a limit. Returns which share of it they use once it was found, and which share of
/// their requests is refused.
fn with_a_limit(workers: usize) -> (f64, f64) {
    let (limit, rows) = (50, 1_000);
    let world = world(Duration::from_millis(5));
    world.reconfigure(|behavior| {
        (behavior.rate_limit, behavior.retry_after) = (Some(limit), String::new());
    });
    let file = world.rows("users.csv", rows);
    assert_codes(&finish_all(start_all(&world, &file, workers, &["--rate=unlimited"])), 0);
    world.assert_agreement(references(0..rows));
    assert_closed(&world, rows as u64);
    let entries = world.journal().entries();
    let (from, until) = (entries[0].at + FOUND_AFTER, entries[entries.len() - 1].at);
    let later: Vec<_> = entries.iter().filter(|entry| entry.at >= from).collect();
    let refused = later.iter().filter(|entry| entry.status == Some(429)).count() as f64;
    let per_second = (later.len() as f64 - refused) / (until - from).as_secs_f64();
    (per_second / f64::from(limit), refused / later.len() as f64)
}

/// How long requests arrive after another worker was asked for a pause: their moments were reserved before.
const RESERVED_BEFORE: Duration = Duration::from_millis(300);

/// A busy machine may hold each worker up for longer than that, between its moment and its request.
const HELD_UP: usize = 3;

/// A pause that one worker is asked for is kept by all.
#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn a_pause_that_one_worker_is_asked_for_is_kept_by_all() {
    let world = world(Duration::ZERO);
    world.reconfigure(|behavior| (behavior.rate_limit, behavior.retry_after) = (Some(40), "2".into()));
    let file = world.rows("users.csv", 300);
    let workers = start_all(&world, &file, 3, &["--rate=60"]);
    assert_codes(&finish_all(workers), 0);
    let entries = world.journal().entries();
    let refusals: Vec<_> = entries.iter().filter(|entry| entry.status == Some(429)).collect();
    assert!(!refusals.is_empty());
    let pause = Duration::from_secs(2);
    for refusal in refusals {
        let is_during =
            |entry: &&Entry| entry.at > refusal.at + RESERVED_BEFORE && entry.at < refusal.at + pause;
        let during = entries.iter().filter(is_during).count();
        assert!(during <= HELD_UP, "{during} requests during a pause");
    }
    world.assert_agreement(references(0..300));
    assert_closed(&world, 300);
}

/// The rate's own table is lost when the server crashes.
#[test]
#[ignore = "needs the programs of Postgres: .ci/run has them"]
fn the_rate_is_kept_when_the_server_crashes() {
    let server = Server::start();
    let latency = Duration::from_millis(5);
    let options = Options { latency: (latency, latency), ..Options::default() };
    let world = World::with(options).on_server(&server.url());
    let file = world.rows("users.csv", 800);
    let mut workers = start_all(&world, &file, 2, &["--rate=100", "--burst=1"]);
    for requests in [200, 400, 600] {
        assert!(wait_until(&mut workers[0], || world.journal().requests() > requests));
        server.stop();
        server.begin();
    }
    assert_codes(&finish_all(workers), 0);
    let excess = worst_excess(&world.journal().entries(), 100.0, 1.0);
    assert!(excess <= jitter(100.0), "a second held {excess} requests more than 100 and 1");
    world.assert_agreement(references(0..800));
}

/// No worker could update its row, so each looks dead to whoever comes back first.
#[test]
#[ignore = "needs the programs of Postgres: .ci/run has them"]
fn no_worker_is_taken_over_because_the_server_was_away() {
    let server = Server::start();
    let latency = Duration::from_millis(20);
    let options = Options { latency: (latency, latency), ..Options::default() };
    let world = World::with(options).on_server(&server.url());
    let file = world.rows("users.csv", 1500);
    let log = |number: usize| format!("--log-file={}", world.path(&format!("{number}.log")).display());
    let mut workers = Vec::new();
    for number in 0..3 {
        workers.push(start(&world, &file, number, &["--lease=3s", &log(number)]));
        assert!(wait_until(&mut workers[number], || claiming(&world) > number));
    }
    server.signal("STOP");
    for (number, worker) in workers.iter_mut().enumerate() {
        let is_cut_off = || {
            let log = std::fs::read_to_string(world.path(&format!("{number}.log")));
            log.is_ok_and(|log| log.contains("the ledger is unreachable"))
        };
        assert!(wait_until(worker, is_cut_off));
    }
    server.signal("CONT");
    assert_codes(&finish_all(workers), 0);
    world.assert_agreement(references(0..1500));
    assert_closed(&world, 1500);
}

/// A comparison asks the API at the rate of the run, not at one of its own.
#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn a_verification_and_a_plan_share_the_rate_of_a_run() {
    const RATE: f64 = 100.0;
    let world = world(Duration::from_millis(10));
    let before = world.file("before.csv", rows(0..300));
    assert_eq!(world.import(&before, &["--rate=1000"]).code, 0);
    let file = world.file("users.csv", rows(1000..1600));
    let from = world.journal().entries().len();
    let mut run = start(&world, &file, 0, &["--rate=100"]);
    assert!(wait_until(&mut run, || world.journal().entries().len() > from + 50));
    world.file("new.csv", rows(2000..2200));
    let ended = finish_all(vec![
        world.start_aimed("verify", &["before.csv", "--rate=100"]),
        world.start_aimed("plan", &["new.csv", "--ask=all", "--rate=100"]),
    ]);
    assert_eq!((ended[0].code, ended[1].code), (0, 0), "{ended:#?}");
    assert!(run.try_wait().unwrap().is_none(), "they were beside the run");
    assert_codes(&[finish(run)], 0);
    let entries = &world.journal().entries()[from..];
    let gets = entries.iter().filter(|entry| entry.endpoint == Endpoint::Get).count();
    assert_eq!((gets, entries.len()), (500, 1100));
    let excess = worst_excess(entries, RATE, 1.0);
    assert!(excess <= jitter(RATE), "{excess}");
}

/// Runs that are made at the same time; most of the time they wait.
const SEEDS_AT_ONCE: usize = 3;

/// What is done to the workers of one run, with its number of times.
#[derive(Default)]
struct Blows(BTreeMap<&'static str, usize>);

impl Blows {
    fn count(&mut self, blow: &'static str) {
        *self.0.entry(blow).or_default() += 1;
    }

    fn add(&mut self, more: Blows) {
        more.0.into_iter().for_each(|(blow, times)| *self.0.entry(blow).or_default() += times);
    }
}

/// Workers of a misbehaving API are killed, stopped for longer than their lease, told to leave, and started; their server
/// is restarted. `FLEET_SEEDS=FROM..TO` chooses the seeds.
#[test]
#[ignore = "needs the programs of Postgres: .ci/run has them"]
fn whatever_is_done_to_them() {
    let seeds = knob("FLEET_SEEDS").unwrap_or_else(|| "0..6".into());
    let (from, to) = seeds.split_once("..").unwrap();
    let seeds: Vec<u64> = (from.parse().unwrap()..to.parse().unwrap()).collect();
    let mut blows = Blows::default();
    for at_once in seeds.chunks(SEEDS_AT_ONCE) {
        std::thread::scope(|scope| {
            let runs: Vec<_> = at_once.iter().map(|seed| scope.spawn(|| one_run(*seed))).collect();
            runs.into_iter().for_each(|run| blows.add(run.join().unwrap()));
        });
    }
    let total: usize = blows.0.values().sum();
    let survived = format!("survived {total} blows: {:?}\n", blows.0);
    std::io::Write::write_all(&mut std::io::stderr(), survived.as_bytes()).unwrap();
}

fn one_run(seed: u64) -> Blows {
    const ROWS: usize = 1500;
    let (server, mut blows) = (Server::start(), Blows::default());
    let mut random = StdRng::seed_from_u64(seed);
    let faults = vec![
        (Fault::ResetBefore, 0.01),
        (Fault::ResetAfter, 0.02),
        (Fault::Http500, 0.02),
        (Fault::Api503, 0.01),
    ];
    let latency = (Duration::from_millis(5), Duration::from_millis(60));
    let world = World::with(Options { latency, faults, seed, ..Options::default() }).on_server(&server.url());
    let mut text = "object_reference_id,mobile_number,email_address\n".to_owned();
    let mut valid = BTreeSet::new();
    for row in 0..ROWS {
        let number = if random.random_bool(0.04) { random.random_range(0..=row) } else { row };
        let mobile = if random.random_bool(0.02) { "12x".into() } else { format!("98{row:08}") };
        text.push_str(&format!("cust-{number:06},{mobile},c{row}@example.com\n"));
    }
    let file = world.file("users.csv", &text);
    let mut seen = BTreeSet::new();
    for line in text.lines().skip(1) {
        let (reference, rest) = line.split_once(',').unwrap();
        if seen.insert(reference.to_owned()) && !rest.starts_with("12x,") {
            valid.insert(reference.to_owned());
        }
    }
    let more = ["--lease=3s", "--max-attempts=20", "--outage-limit=60s", "--canary=0"];
    let mut workers: Vec<Child> = Vec::new();
    let mut number = 0;
    let mut next = 20;
    while world.journal().customers() < valid.len() * 9 / 10 {
        workers.retain_mut(|worker| worker.try_wait().unwrap().is_none());
        while workers.len() < 2 {
            workers.push(start(&world, &file, number, &more));
            number += 1;
        }
        let before = world.journal().requests();
        let target = before + next;
        let at = random.random_range(0..workers.len());
        // A worker that has ended is replaced in the next round.
        wait_until(&mut workers[at], || world.journal().requests() >= target);
        next = random.random_range(5..120);
        if workers[at].try_wait().unwrap().is_some() {
            continue;
        }
        match random.random_range(0..10) {
            0..3 => {
                blows.count("kill");
                workers[at].kill().ok();
            }
            3..5 => {
                blows.count("stop");
                signal(&workers[at], "STOP");
                let since = std::time::Instant::now();
                let pause = Duration::from_millis(random.random_range(100..4500));
                let other = (at + 1) % workers.len();
                wait_until(&mut workers[other], || since.elapsed() > pause);
                signal(&workers[at], "CONT");
            }
            5..7 => {
                blows.count("leave");
                signal(&workers[at], "TERM");
            }
            7..9 if workers.len() < 5 => {
                blows.count("start");
                workers.push(start(&world, &file, number, &more));
                number += 1;
            }
            _ => {
                blows.count("restart of the server");
                server.stop();
                server.begin();
            }
        }
    }
    workers.retain_mut(|worker| worker.try_wait().unwrap().is_none());
    workers.push(start(&world, &file, number, &more));
    let ended = finish_all(workers);
    let last = ended.last().unwrap();
    assert!([0, 3].contains(&last.code), "seed {seed}: {last:?}");
    assert!(ended.iter().all(|done| [-1, 0, 3, 4, 143].contains(&done.code)), "seed {seed}: {ended:#?}");
    let made = world.journal().created();
    let made_at_all: BTreeSet<String> = made.keys().cloned().collect();
    let differing: Vec<_> = made_at_all.symmetric_difference(&valid).collect();
    assert!(differing.is_empty(), "seed {seed}: {differing:?}");
    assert!(made.values().all(|(_, times)| *times == 1), "seed {seed}: a customer was made twice");
    world.assert_same_customers();
    assert_closed(&world, ROWS as u64);
    let requests = world.journal().requests();
    assert_eq!(world.import(&file, &more).code, 3, "seed {seed}");
    assert_eq!(world.journal().requests(), requests, "seed {seed}: another run sends nothing");
    blows
}
