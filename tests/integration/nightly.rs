//! The next day's file against the ledger: unchanged rows, differences, updates, and missing customers.
//!
//! The disaster is a customer that the ledger treats as up to date but is not, or an id that is lost because an
//! update failed.

use customer_import::simulator::Fault;
use serde_json::json;

use crate::world::{MERCHANT, World, wait_until};

const HEADER: &str = "object_reference_id,mobile_number,email_address,first_name\n";

fn file(world: &World, rows: &str) -> std::path::PathBuf {
    world.file("users.csv", format!("{HEADER}{rows}"))
}

/// Three customers, two of which have different fields the next day.
fn second_day() -> (World, std::path::PathBuf) {
    let world = World::new();
    let today = "cust-0001,1,a@b.c,Ann\ncust-0002,2,b@b.c,Bob\ncust-0003,3,c@b.c,Cid\n";
    assert_eq!(world.import(&file(&world, today), &[]).code, 0);
    let tomorrow = "cust-0001,1,a@b.c,Ann\ncust-0002,22,x@b.c,Bob\ncust-0003,3,,Cid\n";
    let file = file(&world, tomorrow);
    (world, file)
}

#[test]
fn changed_rows_are_told_by_field_and_never_by_value() {
    let (world, file) = second_day();
    let done = world.import(&file, &["-vv"]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "unchanged=1 changed=2"));
    assert_eq!(world.summary()["changed_fields"], json!({"email_address": 2, "mobile_number": 1}));
    assert_eq!((&world.summary()["requests"], &world.summary()["absent"]), (&json!(0), &json!(0)));
    assert!(done.stdout.contains("differ from the import: email_address 2, mobile_number 1"), "{done:?}");
    assert!(done.stderr.contains("line=3 fields=mobile_number, email_address"), "{done:?}");
    assert!(!done.stderr.contains("x@b.c") && !done.stdout.contains("x@b.c"));
    assert_eq!(world.table("changed"), [["2", "'email_address'", "2"], ["2", "'mobile_number'", "1"]]);
}

#[test]
fn updates_change_what_differs_and_empty_what_is_gone() {
    let (world, file) = second_day();
    let ids = world.export("created");
    let done = world.import(&file, &["--update-changed"]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "unchanged=1 updated=2"), "{done:?}");
    assert_eq!((world.journal().updates(), world.journal().creates(), world.journal().gets()), (2, 3, 0));
    let second = world.journal().customer(MERCHANT, "cust-0002").unwrap();
    assert_eq!((second.mobile_number.as_str(), second.email_address.as_str()), ("22", "x@b.c"));
    let third = world.journal().customer(MERCHANT, "cust-0003").unwrap();
    assert_eq!((third.email_address.as_str(), third.first_name.as_str()), ("", "Cid"));
    let now = world.export("created");
    assert!(ids.iter().zip(&now).all(|(before, after)| before[..2] == after[..2]), "{now:?}");
    assert_eq!(now[1][2], "updated");
    assert_eq!(world.import(&file, &["--update-changed"]).code, 0);
    assert_eq!(world.outcomes(), "unchanged=3");
    assert_eq!(world.journal().updates(), 2);
}

#[test]
fn a_column_that_is_gone_and_a_dropped_cell_empty_nothing() {
    let world = World::new();
    let today = "cust-0001,1,a@b.c,Ann\ncust-0002,2,b@b.c,Bob\ncust-0003,3,c@b.c,Cid\n";
    assert_eq!(world.import(&file(&world, today), &[]).code, 0);
    let without =
        "object_reference_id,mobile_number,Mail\ncust-0001,1,a@b.c\ncust-0002,22,b@b.c\ncust-0003,3,\n";
    let without = world.file("without.csv", without);
    let updating = ["--update-changed", "--drop-invalid-optional"];
    assert_eq!(world.import(&without, &[]).code, 0);
    assert_eq!((world.outcomes().as_str(), world.journal().updates()), ("unchanged=2 changed=1", 0));
    assert_eq!(world.import(&without, &updating).code, 0);
    assert_eq!((world.outcomes().as_str(), world.journal().updates()), ("unchanged=2 updated=1", 1));
    // A cell that is damaged says no more than one that is not there.
    let damaged = file(&world, "cust-0001,1,a b@b.c,Ann\ncust-0002,22,#N/A,Bobby\ncust-0003,3,c@b.c,Cid\n");
    assert_eq!(world.import(&damaged, &updating).code, 0);
    assert_eq!((world.outcomes().as_str(), world.journal().updates()), ("unchanged=2 updated=1", 2));
    let customer = |reference| world.journal().customer(MERCHANT, reference).unwrap();
    let second = customer("cust-0002");
    assert_eq!(
        (&*second.mobile_number, &*second.email_address, &*second.first_name),
        ("22", "b@b.c", "Bobby")
    );
    assert_eq!(customer("cust-0001").email_address, "a@b.c");
    // The ledger still knows what was sent, so a cell that is empty now is emptied.
    let complete = file(&world, "cust-0001,1,a@b.c,Ann\ncust-0002,22,,Bobby\ncust-0003,3,c@b.c,Cid\n");
    assert_eq!(world.import(&complete, &updating).code, 0);
    assert_eq!((world.outcomes().as_str(), world.journal().updates()), ("unchanged=2 updated=1", 3));
    assert_eq!(customer("cust-0002").email_address, "");
}

#[test]
fn a_corrected_row_of_a_file_without_the_column_empties_nothing() {
    let world = World::new();
    let whole = file(&world, "cust-0001,1,a@b.c,Ann\ncust-0002,2,b@b.c,Bob\ncust-0003,y,c@b.c,Cid\n");
    assert_eq!(world.import(&whole, &[]).code, 3);
    let without = "object_reference_id,mobile_number\ncust-0001,x\ncust-0002,2\n";
    let without = world.file("without.csv", without);
    assert_eq!(world.import(&without, &["--update-changed"]).code, 3);
    // Rows of both files are listed, so the export has the columns of both.
    let exported = world.failed_text();
    assert!(exported.contains("cust-0001,x,,,"), "{exported}");
    let corrected = world.file("failed.csv", exported.replace(",x,", ",11,").replace(",y,", ",33,"));
    assert_eq!(world.import(&corrected, &["--update-changed"]).code, 0);
    assert_eq!(world.outcomes(), "created=1 updated=1");
    let first = world.journal().customer(MERCHANT, "cust-0001").unwrap();
    assert_eq!((&*first.mobile_number, &*first.email_address, &*first.first_name), ("11", "a@b.c", "Ann"));
}

#[test]
fn an_update_that_is_refused_keeps_the_id_and_waits_for_a_change_or_a_retry() {
    let (world, file) = second_day();
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::Reject, 1.0)]);
    assert_eq!(world.import(&file, &["--update-changed"]).code, 3);
    assert_eq!(world.outcomes(), "unchanged=1 rejected=2");
    assert_eq!(world.summary()["absent"], 0);
    assert_eq!(world.export("created").len(), 3);
    let failed = world.export("failed");
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert_eq!(failed[0][..6], ["cust-0002", "22", "x@b.c", "Bob", "3", "rejected"]);
    let report = world.run(&["report", "--format", "json"]).stdout;
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let counts = report["errors"].as_array().unwrap().iter().map(|error| error["rows"].as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), 2, "{report:#}");
    // The same fields are not sent again, and the fields to be sent are named.
    assert_eq!(world.import(&file, &["--update-changed"]).code, 3);
    assert_eq!((world.outcomes().as_str(), world.journal().updates()), ("unchanged=1 rejected=2", 2));
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "unchanged=1 changed=2");
    world.reconfigure(|behavior| behavior.faults.clear());
    let done = world.aim("retry", &[]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "updated=2"), "{done:?}");
    assert_eq!(world.journal().customer(MERCHANT, "cust-0002").unwrap().email_address, "x@b.c");
    assert_eq!(
        world.number("select count(*) from pending_update") + world.number("select count(*) from record"),
        0
    );
    assert_eq!(world.export("failed").len(), 0);
}

#[test]
fn a_refused_update_is_over_when_the_file_is_as_it_was() {
    let (world, changed) = second_day();
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::Reject, 1.0)]);
    assert_eq!(world.import(&changed, &["--update-changed"]).code, 3);
    let file = file(&world, "cust-0001,1,a@b.c,Ann\ncust-0002,2,b@b.c,Bob\ncust-0003,3,c@b.c,Cid\n");
    assert_eq!(world.import(&file, &["--update-changed"]).code, 0);
    assert_eq!((world.outcomes().as_str(), world.journal().updates()), ("unchanged=3", 2));
    assert_eq!(world.export("failed").len(), 0);
}

#[test]
fn an_update_without_an_answer_is_sent_again_even_if_the_file_is_as_it_was() {
    let (world, changed) = second_day();
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::WrongReference, 1.0)]);
    assert_eq!(world.import(&changed, &["--update-changed", "--max-attempts", "2"]).code, 3);
    assert_eq!(world.outcomes(), "unchanged=1 failed=2");
    world.reconfigure(|behavior| behavior.faults.clear());
    let file = file(&world, "cust-0001,1,a@b.c,Ann\ncust-0002,2,b@b.c,Bob\ncust-0003,3,c@b.c,Cid\n");
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "unchanged=1 changed=2", "the API may have the other fields");
    assert_eq!(world.import(&file, &["--update-changed"]).code, 0);
    assert_eq!(world.outcomes(), "unchanged=1 updated=2");
    let second = world.journal().customer(MERCHANT, "cust-0002").unwrap();
    assert_eq!((second.mobile_number.as_str(), second.email_address.as_str()), ("2", "b@b.c"));
}

#[test]
fn a_run_killed_in_its_updates_does_them_again() {
    let world = World::new();
    let rows =
        |email: &str| (0..40).map(|n| format!("cust-00{n:02},{n},{email}{n}@b.c,Ann\n")).collect::<String>();
    assert_eq!(world.import(&file(&world, &rows("a")), &[]).code, 0);
    let ids = world.export("created");
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::Timeout, 0.7)]);
    let mut child = world.start_import(&file(&world, &rows("b")), &["--update-changed"]);
    assert!(wait_until(&mut child, || world.journal().in_flight() >= 20));
    child.kill().unwrap();
    child.wait().unwrap();
    world.reconfigure(|behavior| behavior.faults.clear());
    // It is unknown which fields landed, so the old fields no longer count as those at the API.
    assert_eq!(world.import(&file(&world, &rows("a")), &["--update-changed"]).code, 0);
    let merchant = |n: usize| world.journal().customer(MERCHANT, &format!("cust-00{n:02}")).unwrap();
    assert!((0..40).all(|n| merchant(n).email_address == format!("a{n}@b.c")));
    let now = world.export("created");
    assert!(ids.iter().zip(&now).all(|(before, after)| before[..2] == after[..2]));
    assert_eq!(world.number("select count(*) from pending_update"), 0);
    assert_eq!(world.journal().customers(), 40);
}

#[test]
fn who_is_not_in_the_file_is_counted() {
    let world = World::new();
    let users = world.rows("users.csv", 10);
    assert_eq!(world.import(&users, &[]).code, 0);
    assert_eq!(world.summary()["absent"], 0);
    // Seven of them, one of which is invalid today, and a new one.
    let mut text = crate::world::rows(3..11);
    text = text.replace("9800000005", "x");
    let done = world.import(&world.file("users.csv", text), &[]);
    assert_eq!((done.code, world.outcomes().as_str()), (3, "created=1 unchanged=6 invalid=1"));
    assert_eq!(world.summary()["absent"], 3, "an invalid row is not absent");
    assert!(done.stdout.contains("absent: 3 rows of earlier imports not in this file"), "{done:?}");
    assert_eq!(world.query("select absent from run order by id"), [["0"], ["3"]]);
    // No row is missing from a part of a file.
    assert_eq!(world.import(&users, &["--limit", "1"]).code, 0);
    assert!(world.summary()["absent"].is_null());
    let failed = world.file("failed.csv", world.run(&["export", "failed"]).stdout);
    assert_eq!(world.import(&failed, &[]).code, 3);
    assert!(world.summary()["absent"].is_null());
}

/// A file of three customers whose numbers have leading zeros, and the same file saved by a spreadsheet.
fn padded_and_damaged(world: &World) -> (std::path::PathBuf, std::path::PathBuf) {
    let rows = |ids: [&str; 3]| {
        let [first, second, third] = ids;
        format!("{HEADER}{first},1,a@b.c,Ann\n{second},2,b@b.c,Bob\n{third},3,c@b.c,Cid\n")
    };
    let padded = world.file("padded.csv", rows(["0012345678", "0012345679", "0000987654321"]));
    let damaged = world.file("damaged.csv", rows(["12345678", "12345679", "987654321"]));
    (padded, damaged)
}

#[test]
fn customers_whose_numbers_lost_their_zeros_are_not_created_again() {
    let world = World::new();
    let (padded, damaged) = padded_and_damaged(&world);
    assert_eq!(world.import(&padded, &[]).code, 0);
    for _ in 0..2 {
        let path = damaged.to_str().unwrap();
        let plan = world.run(&["plan", path, "--base-url", &world.base_url(), "--merchant-id", MERCHANT]);
        assert!(
            plan.code == 3 && plan.stdout.contains("object_reference_id spreadsheet: 3 rows"),
            "{plan:?}"
        );
        let done = world.import(&damaged, &["--update-changed"]);
        assert_eq!((done.code, world.outcomes().as_str()), (3, "invalid=3"), "{done:?}");
        assert!(done.stdout.contains("number with leading zeros"), "{done:?}");
    }
    assert_eq!(world.journal().creates(), 3);
    // The whole file with its zeros, and the failed export with its zeros, are what was imported.
    let failed = world.failed_text();
    let corrected = failed.replace("\n1234", "\n001234").replace("\n987654321", "\n0000987654321");
    assert_ne!(failed, corrected);
    let done = world.import(&world.file("failed.csv", corrected), &["--update-changed"]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "unchanged=3"), "{done:?}");
    assert_eq!(world.failed_text().lines().count(), 1);
    assert_eq!(world.import(&damaged, &[]).code, 3);
    assert_eq!(world.import(&padded, &[]).code, 0);
    assert_eq!(world.failed_text().lines().count(), 1);
    assert_eq!(world.journal().creates(), 3);
}

#[test]
fn a_number_without_zeros_is_another_customer_if_the_person_or_the_file_says_so() {
    let world = World::new();
    let (padded, _) = padded_and_damaged(&world);
    assert_eq!(world.import(&padded, &[]).code, 0);
    // The last one has the same placeholder for an address.
    let other = "12345678,8,x@b.c,Xia\n0012345679,2,b@b.c,Bob\n12345679,2,b@b.c,Bob\n5012345679,3,c@b.c,Cid\n\
        987654321,9,c@b.c,Dov\n";
    let done = world.import(&file(&world, other), &[]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=4 unchanged=1"), "{done:?}");
    assert_eq!(world.import(&file(&world, other), &[]).code, 0);
    assert_eq!(world.outcomes(), "unchanged=5");
}

#[test]
fn the_cell_in_a_template_may_have_lost_its_zeros() {
    let world = World::new();
    let map = ["--map", "object_reference_id=customer_{id}"];
    let rows = |ids: [&str; 2]| {
        let [first, second] = ids;
        world.file("users.csv", format!("id,mobile_number\n{first},1\n{second},2\n"))
    };
    assert_eq!(world.import(&rows(["007", "010"]), &map).code, 0);
    let done = world.import(&rows(["7", "10"]), &map);
    assert_eq!((done.code, world.outcomes().as_str()), (3, "invalid=2"), "{done:?}");
    assert_eq!(world.import(&rows(["007", "11"]), &map).code, 0);
    assert_eq!(world.outcomes(), "created=1 unchanged=1");
}

#[test]
fn another_map_of_the_reference_is_warned_about_before_anything_is_sent() {
    let world = World::new();
    let file = world.file("users.csv", "id,mobile_number\ncust-0001,1\ncust-0002,2\n");
    assert_eq!(world.import(&file, &["--map", "object_reference_id=id"]).stderr, "");
    let words =
        "object_reference_id is made from 'shop_{id}', and was made from 'id' when files with these columns";
    let (base_url, map) = (world.base_url(), "object_reference_id=shop_{id}");
    let plan = ["plan", "users.csv", "--base-url", &base_url, "--merchant-id", MERCHANT, "--map", map];
    let done = world.run(&plan);
    assert!(
        done.stderr.contains(words) && done.stderr.contains("--map 'object_reference_id=id'"),
        "{done:?}"
    );
    // It may be intended: another shop whose file has the same columns. After that, both maps are known.
    let other = world.file("shop.csv", "id,mobile_number\n0001,1\n");
    assert!(world.import(&other, &["--map", map]).stderr.contains(words));
    assert_eq!(world.import(&other, &["--map", map]).stderr, "");
    assert_eq!(world.import(&file, &["--map", "object_reference_id=id"]).stderr, "");
    let map = "object_reference_id=number_{id}";
    let wider = world.file("wider.csv", "id,mobile_number,email_address\n0003,1,\n");
    assert!(world.import(&wider, &["--map", map]).stderr.contains("was made from 'id'"));
    let other = world.file("other.csv", "id,first_name,phone\n0003,Ann,1\n");
    let maps = ["--map=object_reference_id=shop_{id}", "--map=mobile_number=phone"];
    assert_eq!(world.import(&other, &maps).stderr, "");
}
