//! Mistakes that make the API refuse every row alike.
//!
//! The disaster: a merchant id of another account, or a column that is mapped wrongly. Every one of a million rows is
//! recorded as rejected, and after the mistake is corrected nothing sends them again.

use crate::{
    wire::{Wire, honest, json},
    world::World,
};

const REFUSED: &str =
    r#"{"status":"Bad Request","error_code":"INVALID_MERCHANT","error_message":"No such merchant"}"#;

/// Every Create is refused with this status and body.
fn refusing(status: u16, body: &'static str) -> Wire {
    Wire::new(move |call| {
        if call.request.create {
            call.send(json(status, body));
        } else {
            call.answer_honestly();
        }
    })
}

#[test]
fn the_same_refusal_of_every_row_stops_the_run_and_rejects_none() {
    let world = World::new();
    let file = world.rows("users.csv", 200);
    let wire = refusing(400, REFUSED);
    let done = wire.import(&world, &file, &["--concurrency", "4", "--rate", "100"]);
    assert_eq!(done.code, 4, "{done:?}");
    assert!(world.outcomes().starts_with("pending="), "{}", world.outcomes());
    assert!(wire.received().len() < 60, "{} requests", wire.received().len());
    assert!(done.stderr.contains("INVALID_MERCHANT, No such merchant"), "{done:?}");
    assert!(done.stderr.contains("--merchant-id") && done.stderr.contains("--canary 0"), "{done:?}");
    assert_eq!(done.stderr.matches("No such merchant").count(), 1, "said once: {done:?}");
    wire.play(honest);
    assert_eq!(wire.import(&world, &file, &[]).code, 0);
    assert_eq!(world.outcomes(), "created=200");
}

/// The message may quote the row's reference.
#[test]
fn a_refusal_that_quotes_the_reference_is_the_same() {
    let world = World::new();
    let file = world.rows("users.csv", 60);
    let wire = Wire::new(|call| {
        let reference = &call.request.reference;
        let body = format!(r#"{{"error_code":"DENIED","error_message":"customer {reference} denied"}}"#);
        call.send(json(400, body));
    });
    let done = wire.import(&world, &file, &["--concurrency", "4", "--canary", "5"]);
    assert_eq!(done.code, 4, "{done:?}");
    assert!(!done.stderr.contains("cust-0000"), "no customer's field: {done:?}");
}

#[test]
fn one_success_or_another_refusal_makes_them_the_rows_own() {
    for number in ["cust-000011", "cust-000000", "cust-000018"] {
        for other in [None, Some(r#"{"error_code":"INVALID_INPUT"}"#)] {
            let world = World::new();
            let file = world.rows("users.csv", 40);
            let wire = Wire::new(move |call| match other {
                None if call.request.reference == number => call.answer_honestly(),
                Some(other) if call.request.reference == number => drop(call.send(json(400, other))),
                _ => drop(call.send(json(400, REFUSED))),
            });
            let done = wire.import(&world, &file, &["--concurrency", "1"]);
            assert_eq!(done.code, 3, "{done:?}");
            let expected = if other.is_none() { "created=1 rejected=39" } else { "rejected=40" };
            assert_eq!(world.outcomes(), expected, "{number}");
        }
    }
}

#[test]
fn the_canary_has_a_number_and_can_be_off_and_a_short_file_ends() {
    for (rows, canary, outcomes) in
        [(40, "0", "rejected=40"), (5, "20", "rejected=5"), (19, "20", "rejected=19")]
    {
        let world = World::new();
        let file = world.rows("users.csv", rows);
        let wire = refusing(400, REFUSED);
        let done = wire.import(&world, &file, &["--canary", canary]);
        assert_eq!((done.code, world.outcomes().as_str()), (3, outcomes), "{canary}: {done:?}");
    }
    let world = World::new();
    let file = world.rows("users.csv", 19);
    let done = refusing(400, REFUSED).import(&world, &file, &["--canary", "3", "--concurrency", "1"]);
    assert_eq!(done.code, 4, "{done:?}");
    let done = refusing(400, REFUSED).import(
        &world,
        &file,
        &["--canary", "1", "--concurrency", "1", "--ledger", "another.db"],
    );
    assert!(done.stderr.starts_with("error: the first row was refused (HTTP 400, "), "{done:?}");
}

/// A retry sends rows that were refused before, so it has a canary only if one is asked for; then its rows keep what
/// they had.
#[test]
fn a_retry_has_a_canary_if_it_is_given_one() {
    let world = World::new();
    let file = world.rows("users.csv", 30);
    let wire = refusing(400, REFUSED);
    assert_eq!(wire.import(&world, &file, &["--canary", "0"]).code, 3);
    let url = wire.url();
    let retry = |more: &[&str]| {
        let target = ["--base-url", &url, "--merchant-id", crate::world::MERCHANT];
        let output = ["--summary-json", "summary.json", "--rate", "unlimited", "--concurrency", "1"];
        world.run(&[&["retry"][..], &target, &output, more].concat())
    };
    let done = retry(&[]);
    assert_eq!((done.code, world.outcomes().as_str()), (3, "rejected=30"), "{done:?}");
    let done = retry(&["--canary", "5"]);
    assert_eq!(done.code, 4, "{done:?}");
    assert!(done.stderr.starts_with("error: the first 5 rows were refused alike"), "{done:?}");
    assert!(world.outcomes().starts_with("pending="), "{}", world.outcomes());
    assert_eq!(world.number("select count(*) from every_row where outcome = 'rejected'"), 30);
    wire.play(honest);
    let done = retry(&["--canary", "5"]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=30"), "{done:?}");
}

/// A 403 of unknown meaning concerns one row, or all rows.
#[test]
fn an_unknown_403_is_the_rows_unless_it_repeats() {
    let world = World::new();
    let file = world.rows("users.csv", 60);
    let wire = Wire::new(|call| {
        if call.request.reference == "cust-000020" {
            call.send(json(403, r#"{"status":"error","error_code":"RISK","error_message":"blocked"}"#));
        } else {
            call.answer_honestly();
        }
    });
    let done = wire.import(&world, &file, &["--concurrency", "4"]);
    assert_eq!((done.code, world.outcomes().as_str()), (3, "created=59 rejected=1"), "{done:?}");

    let world = World::new();
    let file = world.rows("users.csv", 60);
    let wire = Wire::new(|call| {
        let number: usize = call.request.reference.trim_start_matches("cust-").parse().unwrap();
        if number >= 20 {
            call.send(json(
                403,
                r#"{"status":"error","error_code":"SUSPENDED","error_message":"suspended"}"#,
            ));
        } else {
            call.answer_honestly();
        }
    });
    let done = wire.import(&world, &file, &["--concurrency", "1", "--rate", "100"]);
    assert_eq!(done.code, 4, "{done:?}");
    assert!(done.stderr.contains("suspended"), "{done:?}");
    assert!(world.outcomes().starts_with("created=20 pending="), "{}", world.outcomes());
    assert!(wire.received().len() < 50, "{} requests", wire.received().len());
    wire.play(honest);
    assert_eq!(wire.import(&world, &file, &[]).code, 0);
    assert_eq!(world.outcomes(), "created=40 unchanged=20");
}
