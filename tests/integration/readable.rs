//! The documentation's own queries, executed with the `sqlite3` of the system.
//!
//! The disaster is a ledger that only this program can read: the built-in SQLite is newer than that of a stable
//! distribution (3.40 in Debian 12), and a view that uses a newer function fails there with `no such function`.

use std::process::{Command, Stdio};

use customer_import::simulator::{Fault, Options, Outage};

use crate::world::{World, references, rows, wait_until};

/// The output of `sqlite3` for a query, in the world's folder; asserts that the query is valid.
fn ask(world: &World, ledger: &str, query: &str) -> String {
    let output = Command::new("sqlite3")
        .args(["-bail", "-readonly", ledger, query])
        .current_dir(world.folder.path())
        .stdin(Stdio::null())
        .output();
    let output = output
        .unwrap_or_else(|error| panic!("the documentation's queries need the sqlite3 command: {error}"));
    let (out, wrong) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && wrong.is_empty(), "{query}: {wrong}");
    out
}

/// The queries that the documentation passes to `sqlite3`.
fn queries() -> Vec<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ledger.md");
    let page = std::fs::read_to_string(page).unwrap();
    let lines = page.lines().filter_map(|line| line.strip_prefix("sqlite3 customer-import.db \""));
    let found: Vec<String> = lines.map(|line| line.trim_end_matches('"').to_owned()).collect();
    assert!(found.len() > 1, "docs/ledger.md has no queries");
    found
}

/// Queries every table and view, and executes each of the documented queries.
fn run_all_queries(world: &World) {
    for query in queries() {
        ask(world, "ledger.db", &query);
    }
    let names = ask(world, "ledger.db", "select name from sqlite_schema where type in ('table', 'view')");
    assert!(names.lines().count() > 10, "{names}");
    for name in names.lines() {
        ask(world, "ledger.db", &format!("select count(*) from (select * from [{name}])"));
    }
}

#[test]
fn the_systems_sqlite_reads_a_ledger_while_a_run_goes_on_and_after_it_died() {
    let world = World::with(Options { faults: vec![(Fault::Reject, 0.2)], ..Options::default() });
    let file = world.file("users.csv", rows(0..40) + "cust-000001,98,\nshort,98,\n");
    assert_eq!(world.import(&file, &[]).code, 3);
    run_all_queries(&world);
    let rejected = world.number("select count(*) from every_row where outcome = 'rejected'");
    let counted = "select count(*) from every_row where outcome = 'rejected'";
    assert_eq!(ask(&world, "ledger.db", counted).trim(), rejected.to_string());
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Hang));
    let mut run = world.start_import(&world.rows("more.csv", 60), &["--concurrency", "8"]);
    let open = "select reference from claim order by id";
    assert!(wait_until(&mut run, || world.journal().in_flight() >= 8));
    run_all_queries(&world);
    let alive = ask(&world, "ledger.db", open);
    run.kill().unwrap();
    run.wait().unwrap();
    run_all_queries(&world);
    let expected: Vec<String> = references(40..60).collect();
    assert_eq!(alive.lines().collect::<Vec<_>>(), expected);
    assert_eq!(ask(&world, "ledger.db", open), alive);
}
