//! `prune`: deletes old data, and nothing that a later run would miss.
//!
//! The disaster is a ledger that has lost a customer, who is then created or updated again.

use customer_import::simulator::{Fault, Options, Outage};

use crate::world::{MERCHANT, World, wait_until};

/// Makes runs older in the ledger, because the clock cannot be set back.
pub(crate) fn age(world: &World, runs: &str) {
    let year = 366_i64 * 24 * 3600 * 1000;
    world.execute(&format!(
        "update run set started_at = started_at - {year}, ended_at = ended_at - {year} where {runs}"
    ));
    let rows = format!(
        "update row set settled_at = settled_at - {year} where run in (select id from run where {runs})"
    );
    world.execute(&rows);
}

/// A day of last month.
pub(crate) fn day() -> String {
    let time = std::time::UNIX_EPOCH + now() - std::time::Duration::from_secs(30 * 86_400);
    humantime::format_rfc3339(time).to_string()[..10].to_owned()
}

/// SQLite's own check; a server makes none of the mistakes that it finds.
fn assert_is_sound(world: &World) {
    if world.is_in_file() {
        assert_eq!(world.query("pragma integrity_check"), [["ok"]]);
        assert_eq!(world.query("pragma foreign_key_check"), Vec::<Vec<String>>::new());
    }
}

pub(crate) fn prune(world: &World) -> String {
    let done = world.run(&["prune", "--before", &day()]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    done.stdout
}

#[expect(clippy::disallowed_methods, reason = "a day of last month")]
fn now() -> std::time::Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap()
}

const ROWS: &str = "object_reference_id,mobile_number\ncust-0001,1\ncust-0002,2\ncust-0003,x\ncust-0001,1\n";

#[test]
fn old_runs_and_raw_cells_go_and_ids_stay() {
    let world = World::new();
    let file = world.file("users.csv", ROWS);
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::Reject, 0.5)]);
    let many = world.rows("many.csv", 40);
    assert_eq!(world.import(&many, &[]).code, 3);
    world.reconfigure(|behavior| behavior.faults.clear());
    assert_eq!(world.import(&file, &[]).code, 3);
    let (created, all) = (world.export("created"), world.export("all").len());
    let rejected = world.number("select count(*) from row where outcome = 'rejected'");
    // What a server keeps of deleted rows on its disk is the server's.
    let has_cells = |on_server: bool| {
        if !world.is_in_file() {
            on_server
        } else {
            std::fs::read(world.ledger()).unwrap().windows(8).any(|bytes| bytes == b"98000000")
        }
    };
    assert!(has_cells(true));
    age(&world, "id <= 2");
    assert_eq!(world.import(&file, &[]).code, 3);
    let output = prune(&world);
    assert!(output.contains("2 runs") && output.contains("ids stay"), "{output}");
    assert_eq!(world.query("select id from run where id > 0"), [["3"]]);
    let status = world.run(&["status"]).stdout;
    assert!(!status.contains("many.csv") && !status.contains("pruned"), "{status}");
    assert_eq!(world.export("created"), created);
    assert_eq!(world.export("all").len(), all);
    let table = if world.is_in_file() { "unsendable" } else { "record" };
    assert_eq!(world.number(&format!("select count(cells) from {table}")), 2, "those of run 3");
    let failed = world.run(&["export", "failed"]).stdout;
    assert!(failed.starts_with("object_reference_id,mobile_number,_line,"), "{failed}");
    assert_eq!(failed.lines().count() as u64, 1 + 2 + rejected);
    assert!(!has_cells(false), "no cell is left in the file");
    // Nothing is sent twice, and ids are not reused.
    let before = world.journal().requests();
    assert_eq!(world.import(&many, &[]).code, 3);
    assert_eq!(world.outcomes(), format!("unchanged={} rejected={rejected}", 40 - rejected));
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.journal().requests(), before);
    assert_is_sound(&world);
    assert!(world.import(&world.rows("more.csv", 50), &[]).code == 3);
    age(&world, "id > 0");
    assert!(prune(&world).contains("4 runs"));
    assert_eq!(world.import(&file, &["--limit", "1"]).code, 0);
    assert_eq!(world.summary()["run"], 7, "a number is given to one run only");
    assert_eq!(world.journal().customers() as u64, 50 - rejected + 2);
}

/// A script that exports the failed rows and imports them again gets no error if nothing has failed.
#[test]
fn where_no_run_is_left_the_failed_rows_can_be_imported() {
    let world = World::new();
    assert_eq!(world.import(&world.rows("users.csv", 3), &[]).code, 0);
    age(&world, "true");
    prune(&world);
    let failed = world.path("failed.csv");
    assert_eq!(world.run(&["export", "failed", "--output", failed.to_str().unwrap()]).code, 0);
    let done = world.import(&failed, &[]);
    assert_eq!((done.code, world.summary()["rows"].as_u64()), (0, Some(0)), "{done:?}");
}

#[test]
fn what_is_still_to_be_sent_keeps_its_cells() {
    let world = World::with(Options { faults: vec![(Fault::Reject, 1.0)], ..Options::default() });
    let file = world.rows("users.csv", 5);
    assert_eq!(world.import(&file, &[]).code, 3);
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Refuse));
    let done = world.aim("retry", &["--outage-limit", "300ms"]);
    assert_eq!((done.code, world.outcomes().as_str()), (4, "pending=5"), "{done:?}");
    age(&world, "id > 0");
    assert!(prune(&world).contains("1 run,"), "the run whose columns they are read by stays");
    world.reconfigure(|behavior| (behavior.outage, behavior.faults) = (None, Vec::new()));
    // They are rejected, and a file with the same fields does not send them.
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.outcomes(), "rejected=5");
    // The retry that left them open is deleted, and the file is not needed nevertheless.
    assert_eq!(world.aim("retry", &[]).code, 0);
    world.assert_agreement(crate::world::references(0..5));
}

#[test]
fn an_update_refused_since_keeps_its_cells() {
    let world = World::new();
    let file = world.file("users.csv", "object_reference_id,mobile_number\ncust-0001,1\ncust-0002,2\n");
    assert_eq!(world.import(&file, &[]).code, 0);
    age(&world, "id > 0");
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::Reject, 1.0)]);
    world.file("users.csv", "object_reference_id,mobile_number\ncust-0001,1\ncust-0002,22\n");
    assert_eq!(world.import(&file, &["--update-changed"]).code, 3);
    let output = prune(&world);
    assert!(output.contains("1 run, the cells of 0 rows"), "{output}");
    assert!(world.run(&["export", "failed"]).stdout.contains("\ncust-0002,22,3,rejected,"));
    world.reconfigure(|behavior| behavior.faults.clear());
    assert_eq!(world.aim("retry", &[]).code, 0);
    assert_eq!(world.outcomes(), "updated=1");
    assert_eq!(world.journal().customer(MERCHANT, "cust-0002").unwrap().mobile_number, "22");
}

#[test]
fn a_rejected_row_gets_its_cells_back_from_its_file() {
    let world = World::with(Options { faults: vec![(Fault::Reject, 1.0)], ..Options::default() });
    let file = world.rows("users.csv", 5);
    assert_eq!(world.import(&file, &[]).code, 3);
    age(&world, "id > 0");
    assert!(prune(&world).contains("the cells of 5 rows"));
    world.reconfigure(|behavior| behavior.faults.clear());
    let before = world.journal().requests();
    let bare = world.aim("retry", &[]);
    assert!(bare.code == 0 && bare.stderr.contains("prune has removed the cells"), "{bare:?}");
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!((world.outcomes().as_str(), world.journal().requests()), ("rejected=5", before));
    assert!(world.run(&["export", "failed"]).stdout.contains("\ncust-000004,9800000004,c4@example.com,6,"));
    assert_eq!(world.aim("retry", &[]).code, 0);
    world.assert_agreement(crate::world::references(0..5));
}

#[test]
fn a_run_that_died_goes_with_what_it_said_of_itself() {
    let world = World::new();
    let file = world.rows("users.csv", 5);
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Hang));
    let mut child = world.start_import(&file, &[]);
    let has_spoken =
        || world.journal().in_flight() == 5 && world.number("select count(*) from heartbeat") == 1;
    assert!(wait_until(&mut child, has_spoken));
    child.kill().unwrap();
    child.wait().unwrap();
    world.reconfigure(|behavior| behavior.outage = None);
    // The crash was detected today, so that is when the run ended.
    assert!(world.run(&["prune", "--before", "2020-01-01"]).stdout.starts_with("Nothing in "));
    assert_eq!(world.query("select state from run order by id"), [["interrupted"]]);
    assert_eq!(world.number("select count(*) from heartbeat"), 1);
    age(&world, "id > 0");
    assert!(prune(&world).contains("1 run,"));
    assert_eq!(world.number("select count(*) from heartbeat"), 0);
    assert_is_sound(&world);
    assert_eq!(world.import(&file, &[]).code, 0);
    world.assert_agreement(crate::world::references(0..5));
}

#[test]
fn a_run_that_goes_on_is_left_alone_and_a_dead_one_is_not_forgotten() {
    let world = World::new();
    let file = world.rows("users.csv", 5);
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Hang));
    let mut child = world.start_import(&file, &[]);
    assert!(wait_until(&mut child, || world.journal().in_flight() == 5));
    let done = world.run(&["prune", "--before", "2020-01-01"]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.starts_with("error: the ledger ") && done.stderr.contains("in use"), "{done:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    let done = world.run(&["prune", "--before", "2020-01-01"]);
    assert!(done.code == 0 && done.stdout.starts_with("Nothing in "), "{done:?}");
    world.reconfigure(|behavior| behavior.outage = None);
    assert_eq!(world.import(&file, &[]).code, 0);
    world.assert_agreement(crate::world::references(0..5));
    assert!(world.journal().customer(MERCHANT, "cust-000000").is_some());
}

#[test]
fn bad_dates_and_ledgers_are_one_line() {
    let world = World::new().in_file();
    for (args, words) in [
        (&["--before", "2026-02-30"][..], "a day such as 2026-01-31"),
        (&["--before", "yesterday"], "a day such as 2026-01-31"),
        (&["--before", ""], "--before"),
        (&["--before", "2999-01-01"], "is in the future and would delete every run"),
        (&[], "prune needs --before DATE"),
        (&["--before", "2020-01-01"], "there is no ledger"),
    ] {
        let done = world.run(&[&["prune"], args].concat());
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.stderr.starts_with("error: ") && done.stderr.lines().count() == 1, "{done:?}");
        assert!(done.stderr.contains(words), "{words}: {done:?}");
    }
    assert!(!world.ledger().exists());
    let other = world.file("ledger.db", "not a ledger, but long enough to be looked at by whoever opens it");
    let done = world.run(&["prune", "--before", "2020-01-01"]);
    assert!(done.code == 2 && done.stderr.contains("is not a ledger"), "{done:?}");
    assert!(std::fs::read(other).unwrap().starts_with(b"not a ledger"));
}

/// A run has its place between its neighbors, and a duration, even if the clock of its machine was wrong: in 1970 without
/// a battery, or in the future.
#[test]
fn a_wrong_clock_makes_no_run_older_or_younger_than_its_neighbors() {
    let world = World::new();
    for rows in [2, 4, 6, 8] {
        assert_eq!(world.import(&world.rows("users.csv", rows), &[]).code, 0);
    }
    age(&world, "id in (1, 2)");
    let runs =
        |world: &World| world.query("select cast(id as text) from run where id > 0 order by id").concat();
    let of_2099 = 4_095_000_000_000_i64;
    world.execute(&format!("update run set started_at = {of_2099}, ended_at = {of_2099} + 5 where id = 2"));
    world.execute(&format!("update run set ended_at = {of_2099} where id = 3"));
    world.execute("update run set started_at = 0, ended_at = 5 where id = 4");
    // The second run may have ended as late as the third one began, which is today.
    assert!(prune(&world).contains("1 run"), "the first one is old");
    assert_eq!(runs(&world), ["2", "3", "4"]);
    let status = world.run(&["status"]).stdout;
    assert!(!status.contains(" h "), "no run took hours: {status}");
    let page = world.run(&["report", "--all", "--format", "html"]).stdout;
    let (_, labels) = page.split_once("class=\"across\"").unwrap();
    let (labels, _) = labels.split_once("</div>").unwrap();
    assert!(labels.contains("class=\"last\"") && !labels.contains("2099"), "it ends today: {labels}");
    age(&world, "id = 3");
    assert!(prune(&world).contains("1 run"), "the second one ended before the third one began");
    assert_eq!(runs(&world), ["3", "4"], "these may be from today");
}
