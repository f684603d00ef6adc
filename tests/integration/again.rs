//! The same file again: whole, longer, interrupted, or changed in the part that was already read.
//!
//! The disaster is the shortcut itself. A run that resumes must count and send the same as a run that reads
//! everything, and must detect that the file has changed.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use customer_import::simulator::{Fault, Options};
use serde_json::json;

use crate::world::{Done, World, references, rows, wait_until};

/// The log line of a run that resumes.
const GOES_ON: &str = "resuming after an unchanged prefix";

/// Imports, and returns whether the run resumed after the previous one.
fn goes_on(world: &World, file: &Path, more: &[&str]) -> (Done, bool) {
    let done = world.import(file, &[&["-v"], more].concat());
    let went_on = done.stderr.contains(GOES_ON);
    (done, went_on)
}

fn append(file: &Path, text: &str) {
    OpenOptions::new().append(true).open(file).unwrap().write_all(text.as_bytes()).unwrap();
}

/// A file with a row of every kind that needs no second request.
fn mixed(world: &World) -> std::path::PathBuf {
    let text = rows(0..600) + "cust-000007,1,\nshort,2,\ncust-000599,3,\n";
    world.file("users.csv", text)
}

#[test]
fn a_file_that_is_the_same_is_not_read_and_counts_the_same() {
    let world = World::new();
    let file = mixed(&world);
    let first = goes_on(&world, &file, &[]);
    assert_eq!((first.0.code, first.1), (3, false));
    assert_eq!(world.outcomes(), "created=600 duplicate=2 invalid=1");
    let requests = world.journal().requests();
    let (all, failed) = (world.export("all"), world.export("failed"));
    for _ in 0..2 {
        let again = goes_on(&world, &file, &[]);
        assert_eq!((again.0.code, again.1), (3, true), "{again:?}");
        assert_eq!(world.outcomes(), "unchanged=600 duplicate=2 invalid=1");
        assert_eq!(world.summary()["absent"], json!(0));
        assert_eq!((world.export("all"), world.export("failed")), (all.clone(), failed.clone()));
    }
    // The cells of unsuccessful rows belong to the run that counts them.
    assert_eq!(world.number("select count(*) from every_row where run = 3 and customer_id is null"), 3);
    assert_eq!(world.run(&["export", "failed", "--run", "3"]).stdout.lines().count(), 4);
    // With other parse settings it is another file.
    let other = goes_on(&world, &file, &["--validation", "lenient"]);
    assert_eq!((other.0.code, other.1, world.journal().requests()), (3, false, requests), "{other:?}");
}

#[test]
fn a_file_that_has_grown_is_read_behind_what_was_there() {
    let world = World::new();
    let file = mixed(&world);
    world.import(&file, &[]);
    append(&file, "cust-000600,98,\ncust-000001,1,\ncust-000600,4,\nbad\n");
    let (done, went_on) = goes_on(&world, &file, &[]);
    assert_eq!((done.code, went_on), (3, true), "{done:?}");
    assert_eq!(world.outcomes(), "created=1 unchanged=600 duplicate=4 invalid=2");
    assert_eq!((&world.summary()["rows"], &world.summary()["absent"]), (&json!(607), &json!(0)));
    let lines: Vec<_> = world.export("failed").into_iter().map(|cells| cells[3].clone()).collect();
    assert_eq!(lines, ["602", "603", "604", "606", "607", "608"], "lines are those of the whole file");
    // Once more, after two runs that resumed.
    append(&file, "cust-000602,98,\ncust-000600,5,\ncust-000002,5,\n");
    let (done, went_on) = goes_on(&world, &file, &[]);
    assert_eq!((done.code, went_on), (3, true), "{done:?}");
    assert_eq!(world.outcomes(), "created=1 unchanged=601 duplicate=6 invalid=2");
}

#[test]
fn a_last_row_without_a_break_may_have_grown_too() {
    let world = World::new();
    let file = world.file("users.csv", rows(0..300).trim_end());
    assert_eq!(world.import(&file, &[]).code, 0);
    assert!(goes_on(&world, &file, &[]).1, "the same file is the same");
    append(&file, ".org\ncust-000300,98,\n");
    let (done, went_on) = goes_on(&world, &file, &[]);
    assert_eq!((done.code, went_on), (0, false), "{done:?}");
    assert_eq!(world.outcomes(), "created=1 unchanged=299 changed=1");
}

#[test]
fn a_byte_that_changed_where_it_was_read_is_noticed() {
    let world = World::new();
    let text = rows(0..600);
    let file = world.file("users.csv", &text);
    assert_eq!(world.import(&file, &[]).code, 0);
    world.file("users.csv", text.replace("c17@", "d17@"));
    let (done, went_on) = goes_on(&world, &file, &[]);
    assert_eq!(
        (done.code, went_on, world.outcomes().as_str()),
        (0, false, "unchanged=599 changed=1"),
        "{done:?}"
    );
    // The file is whole again: differences are reported again, and no row is known individually, so nothing may be
    // appended.
    assert!(goes_on(&world, &file, &[]).1);
    assert_eq!(world.summary()["changed_fields"], json!({"email_address": 1}));
    append(&file, "cust-000001,1,\n");
    assert!(!goes_on(&world, &file, &[]).1);
    assert_eq!(world.outcomes(), "unchanged=599 changed=1 duplicate=1");
}

#[test]
fn rows_that_are_to_be_sent_again_are_read_again() {
    let world = World::new();
    let file = world.rows("users.csv", 900);
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::Http500, 1.0)]);
    assert_eq!(world.import(&file, &["--limit", "40", "--outage-limit", "1s"]).code, 4);
    world.reconfigure(|behavior| behavior.faults.clear());
    let (done, went_on) = goes_on(&world, &file, &[]);
    assert_eq!((done.code, went_on), (0, false), "{done:?}");
    world.assert_agreement(references(0..900));
}

#[test]
fn an_update_is_no_difference_in_the_run_after_it() {
    let world = World::new();
    let file = world.file("users.csv", rows(0..600));
    assert_eq!(world.import(&file, &[]).code, 0);
    let file = world.file("users.csv", rows(0..600).replace("cust-000007,", "cust-000007,9"));
    assert_eq!(world.import(&file, &["--update-changed"]).code, 0);
    assert_eq!(world.outcomes(), "unchanged=599 updated=1");
    assert_eq!(world.summary()["changed_fields"], json!({"mobile_number": 1}));
    for is_skipped in [false, true] {
        let (done, went_on) = goes_on(&world, &file, &["--update-changed"]);
        assert_eq!((done.code, went_on), (0, is_skipped), "{done:?}");
        assert_eq!(world.outcomes(), "unchanged=600");
        assert_eq!(world.summary()["changed_fields"], json!({}));
        assert!(!done.stdout.contains("differ from the import"), "{done:?}");
    }
}

#[test]
fn a_canary_is_not_read_twice() {
    let world = World::new();
    let file = world.rows("users.csv", 900);
    assert_eq!(world.import(&file, &["--limit", "300"]).code, 0);
    let (done, went_on) = goes_on(&world, &file, &["--limit", "200"]);
    assert_eq!((done.code, went_on, world.outcomes().as_str()), (0, false, "unchanged=200"), "{done:?}");
    assert_eq!(world.import(&file, &["--limit", "300"]).code, 0);
    let (done, _) = goes_on(&world, &file, &[]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=600 unchanged=300"), "{done:?}");
    world.assert_agreement(references(0..900));
    assert_eq!(world.journal().requests(), 900);
}

#[test]
fn a_killed_run_is_gone_on_with_and_nothing_is_sent_twice() {
    for round in 0..4 {
        let world = World::new();
        let file = world.rows("users.csv", 3000);
        let mut run = world.start_import(&file, &[]);
        // On a slow machine, no commit may have settled a whole chunk yet, so that there is no checkpoint to resume
        // from.
        let has_checkpoint = || world.number("select count(*) from checkpoint where bytes > 0") > 0;
        assert!(wait_until(&mut run, || world.journal().requests() >= 600 + 400 * round && has_checkpoint()));
        run.kill().unwrap();
        run.wait().unwrap();
        let (done, went_on) = goes_on(&world, &file, &[]);
        // On a server, the second process may join the run of the first one, which counts as alive for a while.
        assert_eq!((done.code, went_on || !world.is_in_file()), (0, true), "{done:?}");
        assert_eq!(world.summary()["rows"], json!(3000));
        assert_eq!((world.journal().creates(), world.journal().customers()), (3000, 3000));
        world.assert_agreement(references(0..3000));
    }
}

#[test]
fn a_packed_file_that_is_the_same_is_not_unpacked() {
    use flate2::{Compression, write::GzEncoder};
    let world = World::new();
    let pack = |text: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let file = world.file("users.csv.gz", pack(&rows(0..600)));
    assert_eq!(world.import(&file, &[]).code, 0);
    assert!(goes_on(&world, &file, &[]).1);
    assert_eq!(world.outcomes(), "unchanged=600");
    world.file("users.csv.gz", pack(&rows(0..601)));
    assert!(!goes_on(&world, &file, &[]).1);
    assert_eq!(world.outcomes(), "created=1 unchanged=600");
}

/// A row that an earlier run left in doubt is settled by the next run, whatever its file; it is on no line of that
/// file.
#[test]
fn a_row_in_doubt_of_another_file_is_no_duplicate_when_it_comes() {
    let world = World::new();
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::ResetBefore, 1.0)]);
    let other = world.file("other.csv", rows(700..701));
    assert_eq!(world.import(&other, &["--outage-limit", "1s", "--retry-initial", "10ms"]).code, 4);
    world.reconfigure(|behavior| behavior.faults.clear());
    let file = world.rows("users.csv", 4);
    assert_eq!(world.import(&file, &[]).code, 0);
    append(&file, rows(700..701).lines().last().unwrap());
    let done = world.import(&file, &[]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=1 unchanged=4"), "{done:?}");
    world.assert_agreement(references(0..4).chain(references(700..701)));
}

/// The run also settled rows after its checkpoint, whose bytes may have changed before the next run.
#[test]
fn rows_that_have_left_the_file_are_no_duplicates_when_they_come_back() {
    const ROWS: usize = 8_000;
    let world = World::with(Options { seed: 3, ..Options::default() });
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::Always500, 0.0005)]);
    let file = world.rows("users.csv", ROWS);
    world.import(&file, &["--max-attempts", "1", "--retry-initial", "10ms"]);
    let failed: Vec<usize> = world.export("failed").iter().map(|cells| cells[3].parse().unwrap()).collect();
    world.reconfigure(|behavior| behavior.faults.clear());
    // A row that failed and is created only once it is back, and a neighboring row that was created.
    let (failed_line, created_line) = (*failed.last().unwrap(), failed.last().unwrap() - 1);
    assert!(failed[0] > 1_000 && failed_line > failed[0] + 1_000, "{failed:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    let (gone, kept): (Vec<_>, Vec<_>) =
        text.lines().zip(1..).partition(|(_, line)| [failed_line, created_line].contains(line));
    let joined = |lines: Vec<(&str, usize)>| -> String {
        lines.into_iter().map(|(line, _)| format!("{line}\n")).collect()
    };
    std::fs::write(&file, joined(kept)).unwrap();
    let (done, went_on) = goes_on(&world, &file, &[]);
    assert_eq!((done.code, went_on), (0, true), "{done:?}");
    append(&file, &joined(gone));
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), format!("created=1 unchanged={}", ROWS - 1));
    world.assert_agreement(references(0..ROWS));
}
