//! `verify`: compares the API with the file, reports by line and field, and records nothing.
//!
//! The disaster is a comparison that reports success because it has not looked, or one that leaves a trace in the
//! ledger that a later import treats as an outcome.

use customer_import::simulator::{Fault, Options};
use serde_json::json;

use crate::world::{MERCHANT, World, finish, signal, wait_until};

const ROWS: &str = "object_reference_id,mobile_number,email_address\n\
    cust-0001,1,a@b.c\ncust-0002,2,b@b.c\ncust-0003,3,\ncust-0003,3,\ncust-0004,x,\n";

fn imported() -> (World, std::path::PathBuf) {
    let world = World::new();
    let file = world.file("users.csv", ROWS);
    assert_eq!(world.import(&file, &[]).code, 3);
    (world, file)
}

#[test]
fn all_the_same_is_0_and_the_ledger_is_as_it_was() {
    let (world, _) = imported();
    let tables = || ["run", "row", "record", "pending_update"].map(|table| world.table(table));
    let (before, gets) = (tables(), world.journal().gets());
    // A field that only the API has is not a difference.
    world.update_elsewhere("cust-0003", "mobile_country_code=91");
    let done = world.aim("verify", &["users.csv"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    let summary = world.summary();
    let counts = ["same", "different", "missing", "unanswered", "not_imported", "not_in_file", "rows"];
    assert_eq!(counts.map(|name| summary[name].as_u64().unwrap()), [3, 0, 0, 0, 2, 0, 5]);
    assert_eq!(world.journal().gets() - gets, 3, "each once, and nothing but questions");
    assert_eq!(tables(), before);
}

#[test]
fn what_differs_is_told_by_line_and_field() {
    let (world, file) = imported();
    world.update_elsewhere("cust-0001", "mobile_number=7&email_address=secret%40b.c");
    world.update_elsewhere("cust-0002", "email_address=");
    let done = world.aim("verify", &["users.csv", "-vv"]);
    assert_eq!(done.code, 3, "{done:?}");
    let summary = world.summary();
    assert_eq!((&summary["same"], &summary["different"]), (&json!(1), &json!(2)));
    assert_eq!(summary["different_fields"], json!({"email_address": 2, "mobile_number": 1}));
    assert_eq!(summary["different_lines"], json!([2, 3]));
    for words in ["line 2: mobile_number, email_address\n", "line 3: email_address\n"] {
        assert!(done.stdout.contains(words), "{done:?}");
    }
    assert!(!done.stdout.contains("secret") && !done.stderr.contains("secret"));
    std::fs::write(&file, ROWS.replace("cust-0002,2,b@b.c\n", "")).unwrap();
    assert_eq!(world.aim("verify", &["users.csv"]).code, 3);
    assert_eq!(world.summary()["not_in_file"], 1);
}

#[test]
fn who_is_not_there_is_missing() {
    let (world, _) = imported();
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::NotFound, 1.0)]);
    let done = world.aim("verify", &["users.csv"]);
    assert_eq!(done.code, 3);
    assert_eq!(world.summary()["missing_lines"], json!([2, 3, 4]));
    assert!(done.stdout.contains("missing:\n    line 2\n"), "{done:?}");
}

#[test]
fn the_lines_that_are_named_are_the_first_of_the_file() {
    let world = World::new();
    let file = world.rows("users.csv", 120);
    assert_eq!(world.import(&file, &[]).code, 0);
    // Responses overtake each other.
    let latency = (std::time::Duration::ZERO, std::time::Duration::from_millis(40));
    world.reconfigure(|behavior| behavior.latency = latency);
    let first: Vec<u64> = (2..22).collect();
    let elsewhere = std::fs::read_to_string(&file).unwrap().replace("98000", "97000");
    std::fs::write(&file, elsewhere).unwrap();
    assert_eq!(world.aim("verify", &["users.csv", "--concurrency", "100"]).code, 3);
    assert_eq!(world.summary()["different_lines"], json!(first));
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::NotFound, 1.0)]);
    assert_eq!(world.aim("verify", &["users.csv", "--concurrency", "100"]).code, 3);
    assert_eq!(world.summary()["missing_lines"], json!(first));
}

#[test]
fn a_sample_is_of_the_size_that_was_asked_for() {
    let world = World::with(Options { rate_limit: None, ..Options::default() });
    let file = world.rows("users.csv", 300);
    assert_eq!(world.import(&file, &[]).code, 0);
    for (sample, expected) in [("7", 7), ("300", 300), ("1000", 300)] {
        let before = world.journal().gets();
        assert_eq!(world.aim("verify", &["users.csv", "--sample", sample]).code, 0);
        assert_eq!(
            (world.summary()["same"].as_u64().unwrap(), world.journal().gets() - before),
            (expected, expected)
        );
    }
}

#[test]
fn answers_that_fail_are_asked_for_again_at_the_same_pace() {
    let world = World::new();
    let file = world.rows("users.csv", 100);
    assert_eq!(world.import(&file, &[]).code, 0);
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::Http500, 0.2), (Fault::Garbage, 0.1)]);
    assert_eq!(world.aim("verify", &["users.csv", "--max-attempts", "50"]).code, 0);
    assert_eq!(world.summary()["same"], 100);
    assert!(world.summary()["retries"].as_u64().unwrap() > 10);
    let unanswering = || world.reconfigure(|behavior| behavior.faults = vec![(Fault::Always500, 0.1)]);
    unanswering();
    assert_eq!(world.aim("verify", &["users.csv", "--max-attempts", "2"]).code, 4, "run it again");
    assert!(world.summary()["unanswered"].as_u64().unwrap() > 0);
    assert_eq!(world.summary()["missing"], 0, "no answer is no absence");
    // A difference is one, whatever the other rows are.
    world.reconfigure(|behavior| behavior.faults.clear());
    (0..100).for_each(|row| world.update_elsewhere(&format!("cust-{row:06}"), "mobile_number=7"));
    unanswering();
    assert_eq!(world.aim("verify", &["users.csv", "--max-attempts", "2"]).code, 3);
    assert!(world.summary()["unanswered"].as_u64().unwrap() > 0);
}

#[test]
fn it_stops_for_a_refused_key_and_for_a_signal() {
    let (world, _) = imported();
    world.reconfigure(|behavior| behavior.key_revoked = true);
    let done = world.aim("verify", &["users.csv"]);
    assert_eq!(done.code, 4);
    assert!(done.stderr.starts_with("error: the API refused the credentials"), "{done:?}");
    assert_eq!(world.summary()["state"], "stopped");
    world.reconfigure(|behavior| {
        behavior.key_revoked = false;
        behavior.outage = Some(customer_import::simulator::Outage::Hang);
    });
    let base_url = world.base_url();
    let args = ["verify", "users.csv", "--base-url", &base_url, "--merchant-id", MERCHANT];
    let mut child = world.command(&[&args[..], &["--shutdown-grace", "50ms"]].concat()).spawn().unwrap();
    assert!(wait_until(&mut child, || world.journal().in_flight() > 0));
    signal(&child, "TERM");
    assert_eq!(finish(child).code, 143);
}

#[test]
fn what_cannot_be_verified_is_one_line() {
    let (world, _) = imported();
    let other = world.rows("other.csv", 2);
    let refused = |args: &[&str], words: &str| {
        let done = world.aim("verify", args);
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.stderr.starts_with("error: ") && done.stderr.lines().count() == 1, "{done:?}");
        assert!(done.stderr.contains(words), "{words}: {done:?}");
    };
    let before = world.journal().requests();
    refused(&[other.to_str().unwrap()], "no row of");
    refused(&["users.csv", "--ledger", "none.db"], "there is no ledger none.db");
    refused(&["none.csv"], "cannot open none.csv");
    refused(&["users.csv", "--sample", "0"], "a number of rows, such as 500");
    let elsewhere = world.run(&["verify", "users.csv", "--simulator"]);
    assert!(elsewhere.code == 2 && elsewhere.stderr.contains("belongs to merchant"), "{elsewhere:?}");
    refused(&[], "one CSV file");
    assert_eq!(world.journal().requests(), before);
    assert!(!world.path("none.db").exists());
}

/// The cells of a failed export mean what they meant in the import that they come from, and `verify` knows its ledger.
#[test]
fn a_corrected_failed_export_is_read_as_its_import_was() {
    let world = World::new();
    let rows = "id,object_reference_id,mobile_number,email_address\n\
        7,elsewhere-1,98765 00001,x\n8,elsewhere-2,+91 98765 00002,b@example.com\n";
    let file = world.file("users.csv", rows);
    let reading = ["--map", "object_reference_id=customer_{id}", "--phone-region", "IN"];
    assert_eq!(world.import(&file, &reading).code, 3);
    let corrected = world.failed_text().replace(",x,", ",a@example.com,");
    let corrected = world.file("failed.csv", corrected);
    assert_eq!(world.import(&corrected, &[]).code, 0);
    world.assert_agreement(["customer_7", "customer_8"].map(str::to_owned));
    let done = world.aim("verify", &["failed.csv"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    let summary = world.summary();
    assert_eq!(
        ["same", "not_imported", "not_in_file"].map(|name| summary[name].as_u64()),
        [Some(1), Some(0), Some(1)]
    );
}

#[test]
fn a_duplicate_of_a_failed_export_is_not_compared_with_the_customer_of_the_row_that_it_repeats() {
    let world = World::new();
    let rows = "object_reference_id,mobile_number,email_address\n\
        cust-0001,1,a@b.c\ncust-0001,2,other@b.c\ncust-0002,3,x\n";
    let file = world.file("users.csv", rows);
    assert_eq!(world.import(&file, &[]).code, 3);
    let corrected = world.file("failed.csv", world.failed_text().replace(",x,", ",b@b.c,"));
    assert_eq!(world.import(&corrected, &[]).code, 3);
    let done = world.aim("verify", &["failed.csv", "--mark"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    let summary = world.summary();
    assert_eq!(["same", "not_imported"].map(|name| summary[name].as_u64()), [Some(1), Some(1)]);
}
