//! The process is killed at random moments, several times in a row, while the API misbehaves.
//!
//! The disaster: a customer is created twice, or exists at the API with an id that nobody has, or a row is lost,
//! because the process died between a response and its commit. Nothing inside the process can prove the absence of
//! that, so the process is killed by SIGKILL, and the oracle is the simulator's journal, which lives in the test
//! process and records what the API really did.
//!
//! The moment of a kill is determined by the journal (the k-th request of the run) and a busy loop, both derived from
//! a seed; nothing waits for a time. A failing seed is printed.
//!
//! `CRASH_SEEDS=N` runs the seeds 0 to N-1 instead of the few of an ordinary test run, and `CRASH_SEEDS=A..B` runs
//! those from A to B-1. `tests/kill-points` runs as many as it needs for ten thousand kills.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    time::Duration,
};

use customer_import::{
    run::{CLAIMED_AHEAD_MAX, open_rows_max},
    simulator::{Fault, Options, Outage},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::world::{NOBODY, World, knob, references, wait_until};

/// Rows of each file.
const ROWS: usize = 400;

/// Requests in flight. Enough that the faults below, which affect one request in five, are not an outage.
const CONCURRENCY: usize = 80;

/// Maximum number of kills before the run that may finish.
const KILLS_MAX: u64 = 16;

/// Maximum turns of the busy loop after the k-th request: some milliseconds, so that the process also dies while
/// nothing arrives, for example in a commit, and rarely after its end.
const JITTER_SPINS: u64 = 200_000;

/// The seeds of an ordinary test run.
const SEEDS: std::ops::Range<u64> = 0..4;

fn seeds() -> std::ops::Range<u64> {
    let Some(text) = knob("CRASH_SEEDS") else {
        return SEEDS;
    };
    let (from, to) = text.split_once("..").unwrap_or(("0", &text));
    from.parse().unwrap()..to.parse().unwrap()
}

#[test]
fn whatever_moment_it_is_killed_at() {
    let mut kills = 0;
    for seed in seeds() {
        let survived = catch_unwind(AssertUnwindSafe(|| kills += survives(seed)));
        if let Err(panic) = survived {
            // The harness prints the standard error of a failed test.
            let again = format!("CRASH_SEEDS={seed}..{} repeats the failure above", seed + 1);
            std::io::Write::write_all(&mut std::io::stderr(), format!("{again}\n").as_bytes()).unwrap();
            resume_unwind(panic);
        }
    }
    let survived = format!("survived {kills} kills\n");
    std::io::Write::write_all(&mut std::io::stderr(), survived.as_bytes()).unwrap();
    assert!(kills > 0, "whatever was killed had ended before");
}

/// The number of times that the process was killed while it was running.
fn survives(seed: u64) -> u32 {
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::with(Options {
        seed,
        latency: (Duration::ZERO, Duration::from_millis(4)),
        faults: vec![
            (Fault::ResetAfter, 0.05),
            (Fault::Timeout, 0.01),
            (Fault::Http500, 0.06),
            (Fault::Garbage, 0.04),
            (Fault::ResetBefore, 0.03),
        ],
        ..Options::default()
    });
    let file = world.rows("users.csv", ROWS);
    let (times, mut kills) = (random.random_range(1..=KILLS_MAX), 0);
    for _ in 0..times {
        // Half of all requests on average, so that even the last kill finds a run in progress.
        let requests = random.random_range(0..ROWS as u64 / times);
        let spins = random.random_range(0..JITTER_SPINS);
        kills += u32::from(kill_at(&world, &file, world.journal().requests() + requests, spins));
        assert_in_order_after_a_kill(&world);
    }

    let last = import(&world, &file);
    assert_eq!(last, 0, "{}", world.outcomes());
    assert_eq!(world.summary()["rows"], ROWS);
    assert_eq!(world.summary()["state"], "completed");
    // Which rows this run created and which an earlier run did is random; that they add up is not.
    world.outcomes();
    world.assert_agreement(references(0..ROWS));

    let requests = world.journal().requests();
    assert_eq!(import(&world, &file), 0);
    assert_eq!(world.outcomes(), format!("unchanged={ROWS}"));
    assert_eq!(world.journal().requests(), requests, "there was nothing left to send");
    kills
}

/// A timeout so short that faults without a response cost little, and enough attempts for all of them.
fn patient() -> [String; 6] {
    ["--concurrency", &CONCURRENCY.to_string(), "--timeout", "200ms", "--max-attempts", "60"]
        .map(str::to_owned)
}

fn import(world: &World, file: &Path) -> i32 {
    let patient = patient();
    let done = world.import(file, &patient.each_ref().map(String::as_str));
    assert!(!done.stderr.contains("error:"), "{done:?}");
    done.code
}

/// Returns whether the process was running until then.
fn kill_at(world: &World, file: &Path, requests: u64, spins: u64) -> bool {
    let patient = patient();
    let mut run = world.start_import(file, &patient.each_ref().map(String::as_str));
    wait_until(&mut run, || world.journal().requests() >= requests);
    for _ in 0..spins {
        std::hint::spin_loop();
    }
    // It may have ended by then; killing an ended process does no harm.
    run.kill().unwrap();
    // A process that ended by itself has an exit code.
    run.wait().unwrap().code().is_none()
}

/// Checks what must hold in the ledger at any moment, and so also after a kill.
fn assert_in_order_after_a_kill(world: &World) {
    if !world.has_ledger() {
        assert_eq!(world.journal().requests(), 0, "a request without a ledger");
        return;
    }
    let claims = world.number("select count(*) from claim") as usize;
    assert!(claims <= CLAIMED_AHEAD_MAX + open_rows_max(CONCURRENCY), "{claims}");
    let known: HashSet<String> = column(world, "select reference from every_row");
    for entry in world.journal().entries() {
        assert!(
            known.contains(&*entry.reference) || &*entry.reference == NOBODY,
            "a request about {} was sent before its claim was committed",
            entry.reference
        );
    }
    let open = column(world, "select reference from every_row where in_doubt");
    let ids = world.query("select reference, customer_id from row where customer_id is not null");
    let api = world.journal().created();
    for row in &ids {
        assert_eq!(api[&row[0]].0, row[1], "the id of {}", row[0]);
    }
    let settled: HashSet<&String> = ids.iter().map(|row| &row[0]).collect();
    for reference in api.keys() {
        assert!(
            settled.contains(reference) || open.contains(reference),
            "{reference} is at the API, and the ledger does not know that it may be"
        );
    }
    assert_eq!(
        world.number(
            "select count(*) from (select 1 from every_row group by reference having count(*) > 1) twice"
        ),
        0,
        "a reference has one row for good"
    );
}

fn column(world: &World, sql: &str) -> HashSet<String> {
    world.query(sql).into_iter().flatten().collect()
}

/// The maximum number of rows in doubt: every slot taken by a request without a response, or every row that may wait
/// for a retry waiting, plus the claims that wait for a slot.
#[test]
fn what_is_in_doubt_is_bounded() {
    let bound = CLAIMED_AHEAD_MAX + open_rows_max(CONCURRENCY);
    // One request in two fails and its row is retried after an hour, so such rows accumulate.
    let piled_up = World::with(Options { faults: vec![(Fault::Http500, 0.5)], ..Options::default() });
    let hanging = World::new();
    hanging.reconfigure(|behavior| behavior.outage = Some(Outage::Hang));
    let cases = [
        (piled_up, 1800, ["--retry-initial", "1h", "--retry-max", "1h"]),
        (hanging, CONCURRENCY as u64, ["--timeout", "1h", "--max-attempts", "6"]),
    ];
    for (world, requests, more) in cases {
        let file = world.rows("users.csv", 2 * bound);
        let concurrency = CONCURRENCY.to_string();
        let mut run = world.start_import(&file, &[&more[..], &["--concurrency", &concurrency]].concat());
        assert!(wait_until(&mut run, || world.journal().requests() >= requests));
        run.kill().unwrap();
        run.wait().unwrap();
        let claims = world.number("select count(*) from claim") as usize;
        assert!((CONCURRENCY..=bound).contains(&claims), "{claims} rows in doubt, {bound} at most");
        assert_in_order_after_a_kill(&world);
        // Only the reference of a claim's row is known; it must be reported nevertheless.
        assert_eq!(
            world.export("failed").len() as u64,
            world.number("select count(*) from every_row where customer_id is null")
        );
    }
}

/// The first moments of a new ledger: a run killed before its first request leaves no incomplete ledger.
#[test]
fn a_ledger_that_was_being_born_is_no_obstacle() {
    let world = World::new();
    let file = world.rows("users.csv", 50);
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..12 {
        let mut run = world.start_import(&file, &[]);
        for _ in 0..random.random_range(0..60 * JITTER_SPINS) {
            std::hint::spin_loop();
        }
        run.kill().unwrap();
        run.wait().unwrap();
        if world.has_ledger() {
            assert_eq!(world.run(&["status"]).code, 0);
        }
        if world.journal().requests() == 0 && random.random_bool(0.5) {
            continue;
        }
        assert_in_order_after_a_kill(&world);
    }
    let last = world.import(&file, &[]);
    assert_eq!(last.code, 0, "{last:?}");
    world.assert_agreement(references(0..50));
}
