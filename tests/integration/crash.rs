//! The process is killed at any moment, several times in a row, while the API misbehaves.
//!
//! The disaster: a customer is created twice, or is at the API and nobody knows its id, or a row
//! is forgotten, because the process died between an answer and its commit. Nothing that runs in
//! the process can prove the absence of that, so it dies by SIGKILL, and the oracle is the
//! simulator's journal, which lives here and knows what the API really did.
//!
//! When it dies is told by the journal (at the k-th request of the run) and a busy loop, both from
//! a seed; nothing waits for a time. A failing seed is printed.
//!
//! `CRASH_SEEDS=N` takes the seeds 0 to N-1 instead of the few that every test run takes, and
//! `CRASH_SEEDS=A..B` those from A to B-1. `tests/kill-points` takes as many as it needs for ten thousand
//! kills.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    time::Duration,
};

use customer_import::{
    run::{LOOK_AHEAD_MAX, open_rows_max},
    simulator::{Fault, Options, Outage},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::world::{NOBODY, World, knob, references, wait_until};

/// Rows of each file.
const ROWS: usize = 400;

/// In flight. Enough that the faults below, which strike one request in five, are no outage.
const CONCURRENCY: usize = 80;

/// A few kills before the run that may finish.
const KILLS_MAX: u64 = 16;

/// Turns of the busy loop after the k-th request, at most: some milliseconds, so that the process
/// also dies while nothing arrives, such as in a commit, and seldom after its end.
const JITTER_TURNS: u64 = 200_000;

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
            // Standard error of a test; the harness shows it with the failure.
            let again = format!("CRASH_SEEDS={seed}..{} repeats the failure above", seed + 1);
            std::io::Write::write_all(&mut std::io::stderr(), format!("{again}\n").as_bytes()).unwrap();
            resume_unwind(panic);
        }
    }
    let survived = format!("survived {kills} kills\n");
    std::io::Write::write_all(&mut std::io::stderr(), survived.as_bytes()).unwrap();
    assert!(kills > 0, "whatever was killed had ended before");
}

/// How many times it was killed while it was alive.
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
        // Half of all requests in the mean, so that the last of them still meets a run that goes on.
        let requests = random.random_range(0..ROWS as u64 / times);
        let turns = random.random_range(0..JITTER_TURNS);
        kills += u32::from(kill_at(&world, &file, world.journal().requests() + requests, turns));
        what_a_kill_leaves_is_in_order(&world);
    }

    let last = import(&world, &file);
    assert_eq!(last, 0, "{}", world.outcomes());
    assert_eq!(world.summary()["rows"], ROWS);
    assert_eq!(world.summary()["state"], "completed");
    // Which of them this run created and which an earlier one is chance; that they add up is not.
    world.outcomes();
    world.assert_agreement(references(0..ROWS));

    let requests = world.journal().requests();
    assert_eq!(import(&world, &file), 0);
    assert_eq!(world.outcomes(), format!("unchanged={ROWS}"));
    assert_eq!(world.journal().requests(), requests, "there was nothing left to send");
    kills
}

/// A timeout so short that the faults that never answer cost little, and patience for them all.
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

/// Whether it was alive until then.
fn kill_at(world: &World, file: &Path, requests: u64, turns: u64) -> bool {
    let patient = patient();
    let mut run = world.start_import(file, &patient.each_ref().map(String::as_str));
    wait_until(&mut run, || world.journal().requests() >= requests);
    for _ in 0..turns {
        std::hint::spin_loop();
    }
    // It may have ended by then; a kill of the dead does no harm.
    run.kill().unwrap();
    // A process that ended by itself has a code.
    run.wait().unwrap().code().is_none()
}

/// What must hold in the ledger at any moment, so also in that of a dead run.
fn what_a_kill_leaves_is_in_order(world: &World) {
    if !world.ledger().exists() {
        assert_eq!(world.journal().requests(), 0, "a request without a ledger");
        return;
    }
    let claims = world.number("select count(*) from claim") as usize;
    assert!(claims <= LOOK_AHEAD_MAX + open_rows_max(CONCURRENCY), "{claims}");
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
        world.number("select count(*) from (select 1 from every_row group by reference having count(*) > 1)"),
        0,
        "a reference has one row for good"
    );
}

fn column(world: &World, sql: &str) -> HashSet<String> {
    world.query(sql).into_iter().flatten().collect()
}

/// The most rows in doubt: every slot taken by a request that is not answered, or every row that
/// may wait to be tried again waiting, and the claims that wait for a slot behind them.
#[test]
fn what_is_in_doubt_is_bounded() {
    let bound = LOOK_AHEAD_MAX + open_rows_max(CONCURRENCY);
    // One request in two gets no answer and its row comes back in an hour: they pile up.
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
        what_a_kill_leaves_is_in_order(&world);
        // All that is known of a claim's row is its reference: it must be told all the same.
        assert_eq!(
            world.export("failed").len() as u64,
            world.number("select count(*) from every_row where customer_id is null")
        );
    }
}

/// The first moments of a ledger's life: a run killed before its first request leaves no half of one.
#[test]
fn a_ledger_that_was_being_born_is_no_obstacle() {
    let world = World::new();
    let file = world.rows("users.csv", 50);
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..12 {
        let mut run = world.start_import(&file, &[]);
        for _ in 0..random.random_range(0..60 * JITTER_TURNS) {
            std::hint::spin_loop();
        }
        run.kill().unwrap();
        run.wait().unwrap();
        if world.ledger().exists() {
            assert_eq!(world.run(&["status"]).code, 0);
        }
        if world.journal().requests() == 0 && random.random_bool(0.5) {
            continue;
        }
        what_a_kill_leaves_is_in_order(&world);
    }
    let last = world.import(&file, &[]);
    assert_eq!(last.code, 0, "{last:?}");
    world.assert_agreement(references(0..50));
}
