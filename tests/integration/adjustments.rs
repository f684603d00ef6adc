//! What is read differently from how it is written in the file is reported, once per run, with a count and the first
//! lines.
//!
//! The disaster is data that is changed on its way to the API without its owner being told.

use customer_import::simulator::{Fault, Options};
use serde_json::{Value, json};

use crate::world::World;

/// Two of the three numbers are not written as national digits.
const SPELLINGS: &str = "object_reference_id,mobile_number\n\
    customer-1,98765 00110\ncustomer-2,9876500111\ncustomer-3,+91 98765-00112\n";

const SPELLINGS_TEXT: &str =
    "mobile_number read from another spelling and sent as national digits: 2, first\n    on line 2, 4\n";

fn spellings() -> Value {
    let adjustment = json!({
        "adjustment": "national-digits", "field": "mobile_number", "rows": 2, "first_lines": [2, 4],
    });
    json!([adjustment])
}

#[test]
fn validate_import_and_verify_report_what_they_read_differently() {
    let world = World::new();
    let file = world.file("users.csv", SPELLINGS);
    let region = ["--phone-region", "IN"];
    let validate = |more: &[&str]| world.run(&[&["validate", "users.csv"], &region[..], more].concat());
    assert!(validate(&[]).stdout.contains(SPELLINGS_TEXT));
    let found: Value = serde_json::from_str(&validate(&["--format", "json"]).stdout).unwrap();
    assert_eq!(found["adjustments"], spellings());
    let done = world.import(&file, &region);
    assert!(done.code == 0 && done.stdout.contains(SPELLINGS_TEXT), "{done:?}");
    assert_eq!(world.summary()["adjustments"], spellings());
    let done = world.aim("verify", &[&["users.csv"], &region[..]].concat());
    assert!(done.code == 0 && done.stdout.contains(SPELLINGS_TEXT), "{done:?}");
    assert_eq!(world.summary()["adjustments"], spellings());
    // A file that is read exactly as written has no adjustments.
    let plain = world.file("plain.csv", "object_reference_id,mobile_number\ncustomer-4,9876500113\n");
    let done = world.import(&plain, &region);
    assert!(done.code == 0 && !done.stdout.contains("spelling"), "{done:?}");
    assert_eq!(world.summary()["adjustments"], json!([]));
}

#[test]
fn a_retry_reports_what_it_reads_differently() {
    let world = World::with(Options { faults: vec![(Fault::Reject, 1.0)], ..Options::default() });
    let file = world.file("users.csv", SPELLINGS);
    let done = world.import(&file, &["--phone-region", "IN"]);
    assert_eq!((done.code, world.outcomes().as_str()), (3, "rejected=3"), "{done:?}");
    world.reconfigure(|behavior| behavior.faults.clear());
    let done = world.aim("retry", &[]);
    assert!(done.stdout.contains(SPELLINGS_TEXT), "{done:?}");
}
