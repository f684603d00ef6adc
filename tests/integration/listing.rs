//! Rows to correct are listed once, and `status` counts the listed rows.
//!
//! The disaster is a list that grows each night by the same rows because the file is named after the day: nobody
//! corrects a hundred thousand rows of which half are repetitions. Or a row that disappears from the list without
//! having been corrected.

use customer_import::simulator::{Fault, Options, Outage};
use serde_json::Value;

use crate::world::{World, rows, wait_until};

const HEADER: &str = "object_reference_id,mobile_number,first_name\n";

/// Line, reference and outcome of each listed row; asserts that `status` has the same counts.
fn listed(world: &World) -> Vec<String> {
    let text = world.run(&["export", "failed", "--format", "jsonl"]).stdout;
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let status = world.run(&["status", "--format", "json"]).stdout;
    let status: Value = serde_json::from_str(&status).unwrap();
    for outcome in ["duplicate", "invalid", "rejected", "failed", "pending"] {
        let count = rows.iter().filter(|row| row["_outcome"] == outcome).count();
        assert_eq!(status[outcome], count, "{outcome}: {status}");
    }
    assert_eq!(status["rows"], world.export("all").len(), "{status}");
    let name = |row: &Value| {
        let cells = [&row["object_reference_id"], &row["mobile_number"], &row["_outcome"]];
        cells.map(|cell| cell.as_str().unwrap_or("-").to_owned()).join(" ")
    };
    rows.iter().map(name).collect()
}

#[test]
fn a_row_is_listed_once_however_its_file_is_called() {
    let world = World::new();
    let day = |name: &str, text: String| {
        world.import(&world.file(name, text), &[]);
    };
    let faulty =
        "cust-0001,+1,Asha\n,2,Ravi\nshort,3,Kiran\ncust-0002,4,Mina\ncust-0002,5,Noor\ncust-0002,6,Om\n";
    day("2026-11-01.csv", format!("{HEADER}{faulty}"));
    let expected = [
        "cust-0001 +1 invalid",
        " 2 invalid",
        "short 3 invalid",
        "cust-0002 5 duplicate",
        "cust-0002 6 duplicate",
    ];
    assert_eq!(listed(&world), expected);
    // The next night: other lines, another column, the row without a reference among the first.
    let turned: String = faulty.lines().map(|line| format!("{line},x\n")).collect();
    let turned = HEADER.replace("first_name", "first_name,segment") + "cust-0009,9,Zoe,x\n" + &turned;
    day("2026-11-02.csv", turned.replace(",x", ","));
    assert_eq!(listed(&world), expected);
    // A run that ends in the middle of the file leaves the list complete.
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Hang));
    let text = format!("{HEADER}{faulty}") + &rows(0..50).split_once('\n').unwrap().1.replace('@', ".");
    let mut run = world.start_import(&world.file("2026-11-03.csv", text), &[]);
    let is_met = "select count(*) from every_row where run = 3 and outcome = 'duplicate'";
    assert!(wait_until(&mut run, || world.number(is_met) == 2));
    let without_pending = || {
        let rows = listed(&world).into_iter();
        rows.filter(|row| !row.ends_with("pending")).collect::<Vec<_>>()
    };
    assert_eq!(without_pending(), expected);
    run.kill().unwrap();
    run.wait().unwrap();
    world.reconfigure(|behavior| behavior.outage = None);
    assert_eq!(without_pending(), expected);
    // Rows that are valid the next day leave the list; a row without a reference is recognized by its cells alone.
    day("2026-11-04.csv", format!("{HEADER}cust-0001,1,Asha\ncust-0002,4,Mina\nshort,+3,Kiran\n"));
    assert_eq!(without_pending(), [" 2 invalid", "short +3 invalid"]);
    day("2026-11-05.csv", format!("{HEADER}cust-0001,+1,Asha\n"));
    assert!(listed(&world).contains(&"cust-0001 +1 invalid".to_owned()), "imported, and wrong since");
    day("2026-11-06.csv", format!("{HEADER}cust-0001,1,Asha\n"));
    assert_eq!(without_pending(), [" 2 invalid", "short +3 invalid"], "unchanged is well, too");
}

#[test]
fn a_row_leaves_the_list_by_its_content_and_not_by_its_line() {
    let world = World::new();
    // The same file name each night, and each night only new rows.
    for (night, text) in ["cust-0001,+1,Asha\n", ",2,Ravi\n", "cust-0003,3,Kiran\n"].into_iter().enumerate() {
        let done = world.import(&world.file("users.csv", format!("{HEADER}{text}")), &[]);
        assert_eq!(done.code, if night == 2 { 0 } else { 3 }, "{done:?}");
    }
    assert_eq!(listed(&world), ["cust-0001 +1 invalid", " 2 invalid"]);
}

/// Every reference was invalid; with another column, or corrected in place, none of them is.
#[test]
fn rows_whose_references_were_at_fault_leave_the_list() {
    let world = World::new();
    let text = "id,short,mobile_number\ncust-0001,1,11\ncust-0002,2,22\ncust-0003,3,33\n";
    let file = world.file("users.csv", text);
    assert_eq!(world.import(&file, &["--map", "object_reference_id=short"]).code, 3);
    assert_eq!(world.outcomes(), "invalid=3");
    assert_eq!(world.run(&["export", "failed"]).stdout.lines().count(), 4);
    let copy = world.file("users-2.csv", text);
    assert_eq!(world.import(&copy, &["--map", "object_reference_id=id"]).code, 0);
    assert_eq!(world.run(&["export", "failed"]).stdout.lines().count(), 1);
    let file = world.file("more.csv", "id,short,mobile_number\nx,1,44\ny,1,55\n");
    assert_eq!(world.import(&file, &["--map", "object_reference_id=id"]).code, 3);
    let file = world.file("more.csv", "id,short,mobile_number\ncust-0004,1,44\nz,1,55\n");
    assert_eq!(world.import(&file, &["--map", "object_reference_id=id"]).code, 3);
    let failed = world.run(&["export", "failed"]).stdout;
    assert!(failed.lines().count() == 2 && failed.contains("z,1,55"), "{failed}");
}

#[test]
fn a_row_that_was_refused_and_is_invalid_now_is_listed_as_it_is_now() {
    let world = World::with(Options { faults: vec![(Fault::Reject, 1.0)], ..Options::default() });
    let day = |name: &str, text: &str| {
        world.import(&world.file(name, format!("{HEADER}{text}")), &[]);
    };
    day("1.csv", "cust-0001,1,Asha\ncust-0001,2,Ravi\ncust-0001,+3,Kiran\n");
    let expected = ["cust-0001 1 rejected", "cust-0001 2 duplicate", "cust-0001 +3 invalid"];
    assert_eq!(listed(&world), expected);
    day("2.csv", "cust-0001,1,Asha\ncust-0001,2,Ravi\ncust-0001,+3,Kiran\n");
    assert_eq!(listed(&world), expected, "three rows of one file are three");
    day("3.csv", "cust-0001,+1,Asha\n");
    assert_eq!(listed(&world), ["cust-0001 +1 invalid"]);
    world.reconfigure(|behavior| behavior.faults.clear());
    let failed = world.run(&["export", "failed"]).stdout.replace("+1", "1");
    assert_eq!(
        world.import(&world.file("failed.csv", failed), &[]).code,
        3,
        "refused before with these fields"
    );
    assert_eq!(listed(&world), ["cust-0001 1 rejected"]);
    assert_eq!(world.aim("retry", &[]).code, 0);
    assert_eq!(listed(&world), Vec::<String>::new());
}

/// A failed export is a part of the file: rows that are not in it are neither corrected nor removed.
#[test]
fn rows_that_do_not_come_back_stay_on_the_list() {
    let world = World::new();
    let text =
        "cust-0001,1,Asha\ncust-0001,2,Ravi\ncust-0001,3,Kiran\nN/A,4,Mina\nN/A,5,Noor\ncust-0006,+6,Om\n";
    assert_eq!(world.import(&world.file("users.csv", format!("{HEADER}{text}")), &[]).code, 3);
    let failed = world.run(&["export", "failed"]).stdout;
    let kept = |numbers: &[usize]| {
        let lines = failed.lines().enumerate().filter(|(at, _)| *at == 0 || numbers.contains(at));
        lines.map(|(_, line)| format!("{line}\n")).collect::<String>()
    };
    // Unchanged: one of the duplicates and one of the rows without a real reference.
    assert_eq!(world.import(&world.file("failed.csv", kept(&[2, 3])), &[]).code, 3);
    assert_eq!(world.outcomes(), "duplicate=1 invalid=1");
    let mut all = listed(&world);
    all.sort();
    let expected = [
        "N/A 4 invalid",
        "N/A 5 invalid",
        "cust-0001 2 duplicate",
        "cust-0001 3 duplicate",
        "cust-0006 +6 invalid",
    ];
    assert_eq!(all, expected);
    let corrected = kept(&[4, 5]).replace("N/A,5", "cust-0005,5").replace("+6", "6");
    assert_eq!(world.import(&world.file("failed.csv", corrected), &[]).code, 0);
    assert_eq!(world.outcomes(), "created=2");
    let mut all = listed(&world);
    all.sort();
    assert_eq!(all, expected[..4].iter().filter(|row| **row != "N/A 5 invalid").copied().collect::<Vec<_>>());
}

#[test]
fn an_update_that_is_refused_counts_as_what_it_came_to() {
    let world = World::new();
    let file = world.file("users.csv", format!("{HEADER}cust-0001,1,Asha\ncust-0002,2,Ravi\n"));
    assert_eq!(world.import(&file, &[]).code, 0);
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::Reject, 1.0)]);
    let file = world.file("users.csv", format!("{HEADER}cust-0001,1,Asha\ncust-0002,22,Ravi\n"));
    assert_eq!(world.import(&file, &["--update-changed"]).code, 3);
    assert_eq!(listed(&world), ["cust-0002 22 rejected"]);
    assert_eq!(world.export("created").len(), 2, "its id stays");
}
