//! The process dies right before and right after each of its commits, one after another.
//!
//! The disaster is a commit in the wrong place. A claim that becomes durable only after its request was sent, or an
//! outcome that is reported before it is durable, shows only if the process dies in exactly that gap, which a random
//! kill rarely hits. So a first run counts the commits; then the process aborts at each of them, before and after,
//! and the next run must correct everything.
//!
//! Compiled only with the feature `crash-points`, which adds the crash points to the binary.

use std::{path::Path, time::Duration};

use customer_import::simulator::{Fault, Options};

use crate::world::{Done, World, done, references, rows};

/// Number of valid rows in the file; it also has an invalid one and a duplicate.
const GOOD: usize = 60;

/// An API that loses some responses, so that there are commits of every kind.
fn world() -> World {
    World::with(Options {
        seed: 7,
        latency: (Duration::from_millis(1), Duration::from_millis(6)),
        faults: vec![(Fault::ResetAfter, 0.1), (Fault::Http500, 0.1)],
        ..Options::default()
    })
}

fn file(world: &World) -> std::path::PathBuf {
    let mut text = rows(0..GOOD);
    text.push_str("short,1,\ncust-000000,98,\n");
    world.file("users.csv", text)
}

fn import(world: &World, file: &Path, environment: &[(&str, &str)]) -> Done {
    let args = world.import_args(file, &["--concurrency", "40"]);
    let mut command = world.command(&args);
    command.envs(environment.iter().copied());
    done(command.output().unwrap())
}

#[test]
fn before_and_after_every_commit() {
    let counted = world();
    let file_of_counted = file(&counted);
    let first = import(&counted, &file_of_counted, &[("CRASH_COUNT_FILE", "points")]);
    assert_eq!(first.code, 3, "{first:?}");
    let points = std::fs::metadata(counted.path("points")).unwrap().len();
    assert!(points >= 8, "{points} points are not all the commits there are");

    for point in 1..=points {
        let world = world();
        let file = file(&world);
        let crashed = import(&world, &file, &[("CRASH_AT", &point.to_string())]);
        // The number of commits depends on timing; a run with fewer commits reaches its end.
        assert!([-1, 3].contains(&crashed.code), "point {point}: {crashed:?}");
        if crashed.code == -1 {
            assert!(!world.path("summary.json").exists(), "point {point}: a summary before its commit");
        }
        let customers = world.journal().created().len();
        let known = world.number("select count(*) from every_row where reference is not null");
        assert!(known >= customers as u64, "point {point}: a customer that the ledger knows not");

        let next = import(&world, &file, &[]);
        assert_eq!(next.code, 3, "point {point}: {next:?}");
        world.assert_agreement(references(0..GOOD));
        let outcomes = world.outcomes();
        assert!(outcomes.ends_with("duplicate=1 invalid=1"), "point {point}: {outcomes}");

        let requests = world.journal().requests();
        let last = import(&world, &file, &[]);
        assert_eq!(last.code, 3, "point {point}: {last:?}");
        assert_eq!(world.journal().requests(), requests, "point {point}: a third run sends nothing");
        assert_eq!(world.outcomes(), format!("unchanged={GOOD} duplicate=1 invalid=1"));
    }
}
