//! Customers that already existed with other fields than the file's.
//!
//! The disaster: a shop's checkout has created half of the customers, with old fields. They are called `existing`,
//! the next night `unchanged`, and nothing reports that the API has other fields, or can repair it.

use crate::{
    wire::{Wire, json},
    world::{MERCHANT, World},
};

/// Three rows, of which the second and third exist, the second with another number and no e-mail.
fn world_with_two() -> (World, std::path::PathBuf) {
    let world = World::new();
    world.create_elsewhere("cust-000001");
    world.create_elsewhere("cust-000002");
    world.update_elsewhere("cust-000002", "mobile_number=9800000002&email_address=c2%40example.com");
    let file = world.rows("users.csv", 3);
    (world, file)
}

#[test]
fn existing_is_compared_and_said_and_changed_in_the_next_run() {
    let (world, file) = world_with_two();
    let done = world.import(&file, &[]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=1 existing=2"), "{done:?}");
    let summary = world.summary();
    assert_eq!(summary["existing_differing_rows"], 1);
    assert_eq!(summary["existing_differing"], serde_json::json!({"mobile_number": 1, "email_address": 1}));
    assert!(
        done.stdout.contains("existed with other fields: 1 row (email_address 1, mobile_number 1)"),
        "{done:?}"
    );
    assert!(done.stdout.contains("--update-changed sends the file's fields for them"), "{done:?}");
    assert!(world.run(&["report"]).stdout.contains("existed with other fields: 1 row"));
    let updates = world.journal().updates();

    for _ in 0..2 {
        assert_eq!(world.import(&file, &[]).code, 0);
        assert_eq!(world.outcomes(), "unchanged=2 changed=1");
    }
    assert_eq!(world.journal().updates(), updates, "nothing is sent");
    assert_eq!(world.import(&file, &["--update-changed"]).code, 0);
    assert_eq!(world.outcomes(), "unchanged=2 updated=1");
    let customer = world.journal().customer(MERCHANT, "cust-000001").unwrap();
    assert_eq!((&*customer.mobile_number, &*customer.email_address), ("9800000001", "c1@example.com"));
    assert_eq!(world.aim("verify", &["users.csv"]).code, 0);
    assert_eq!(world.import(&file, &["--update-changed"]).code, 0);
    assert_eq!(world.outcomes(), "unchanged=3");
}

#[test]
fn update_changed_sends_the_update_in_the_same_run() {
    let (world, file) = world_with_two();
    let done = world.import(&file, &["--update-changed"]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=1 existing=1 updated=1"), "{done:?}");
    for text in [&done.stdout, &world.run(&["report"]).stdout] {
        assert!(text.contains("existed with other fields: 1 row"), "{text}");
        assert!(!text.contains("--update-changed sends"), "{text}");
    }
    let customer = world.journal().customer(MERCHANT, "cust-000001").unwrap();
    assert_eq!((&*customer.mobile_number, &*customer.email_address), ("9800000001", "c1@example.com"));
    assert_eq!(world.summary()["absent"], 0);
    assert_eq!(world.aim("verify", &["users.csv"]).code, 0);
    assert_eq!(world.import(&file, &["--update-changed"]).code, 0);
    assert_eq!(world.outcomes(), "unchanged=3");
}

/// The row has its id, but its outcome is that of its Update; `retry` sends that again.
#[test]
fn a_refused_update_of_an_existing_customer_is_a_rejected_row() {
    let world = World::new();
    let file = world.rows("users.csv", 2);
    let wire = Wire::new(|call| {
        let reference = call.request.reference.clone();
        if reference == "cust-000000" {
            return call.answer_honestly();
        }
        if call.request.create {
            call.send(json(400, r#"{"status":"invalid_request_error","error_code":"unique"}"#));
        } else if call.request.update {
            call.send(json(
                400,
                r#"{"status":"Bad Request","error_code":"FROZEN","error_message":"frozen"}"#,
            ));
        } else {
            call.send(json(200, format!(
                r#"{{"id":"cth_old","object":"customer","object_reference_id":"{reference}","mobile_number":"1",
                    "date_created":"2020-01-01T00:00:00Z"}}"#
            )));
        }
    });
    let done = wire.import(&world, &file, &["--update-changed", "--concurrency", "1"]);
    assert_eq!((done.code, world.outcomes().as_str()), (3, "created=1 rejected=1"), "{done:?}");
    assert_eq!(world.export("created").len(), 2, "its id is known");
    let failed = world.run(&["export", "failed"]).stdout;
    assert!(failed.contains("FROZEN") && failed.contains("c1@example.com"), "{failed}");
    let (url, before) = (wire.url(), wire.received().len());
    let retry = ["retry", "--base-url", &url, "--merchant-id", MERCHANT, "--summary-json", "summary.json"];
    let done = world.run(&retry);
    assert_eq!((done.code, world.outcomes().as_str()), (3, "rejected=1"), "{done:?}");
    assert!(
        wire.received()[before..].iter().all(|request| request.update),
        "{:?}",
        &wire.received()[before..]
    );
    wire.play(|call| {
        assert!(call.request.update && call.request.reference == "cth_old");
        call.send(json(200, r#"{"id":"cth_old","object":"customer"}"#));
    });
    let done = world.run(&retry);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "updated=1"), "{done:?}");
}

/// An API that creates or fetches responds to a Create with somebody's older fields.
#[test]
fn a_create_that_is_answered_with_older_fields_is_existing_and_compared() {
    let world = World::new();
    let file = world.rows("users.csv", 2);
    let wire = Wire::new(|call| {
        let reference = &call.request.reference;
        call.send(json(200, format!(
            r#"{{"id":"cth_{reference}","object":"customer","object_reference_id":"{reference}","mobile_number":"1",
                "date_created":"2016-08-02T08:07:52+0000"}}"#
        )));
    });
    let done = wire.import(&world, &file, &[]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "existing=2"), "{done:?}");
    assert_eq!(world.summary()["existing_differing"]["mobile_number"], 2);
    assert_eq!(wire.import(&world, &file, &[]).code, 0);
    assert_eq!(world.outcomes(), "changed=2");
}

#[test]
fn verify_names_the_command_that_repairs() {
    let (world, file) = world_with_two();
    assert_eq!(world.import(&file, &[]).code, 0);
    let done = world.aim("verify", &["users.csv"]);
    assert_eq!(done.code, 3, "{done:?}");
    assert!(done.stdout.contains("import users.csv --update-changed"), "{done:?}");
    // A customer that was correct when it was imported, and was changed since by somebody else.
    world.update_elsewhere("cust-000002", "mobile_number=1");
    let done = world.aim("verify", &["users.csv", "--mark"]);
    assert_eq!(done.code, 3, "{done:?}");
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "unchanged=1 changed=2");
    assert_eq!(world.import(&file, &["--update-changed"]).code, 0);
    assert_eq!(world.outcomes(), "unchanged=1 updated=2");
    assert_eq!(world.aim("verify", &["users.csv"]).code, 0);
}
