//! The API's responses for current accounts: the error object, the forms of "not found", the spelling of references.
//!
//! The disaster: a program that supports only the API's older responses misreads a current one. Then customers are
//! created whose ids are not recorded, rows fail that the API has, or rows are looked up every night.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use serde_json::json as value;

use crate::{
    wire::{Call, Wire, clock, customer_body, honest, json},
    world::{World, cells, finish},
};

const NOT_FOUND_UNDER_200: &str = r#"{"status":"ERROR","status_id":40,"error_code":"INVALID_REQUEST",
    "error_message":"Customer with customerId: X not found"}"#;

const UNIQUE: &str = r#"{"status":"invalid_request_error","error_code":"unique","error_message":"exists"}"#;

/// The simulator's answer to Get, with another form of "not found".
fn find_or(call: &mut Call<'_>, status: u16, not_found: &str) {
    let found = call.find();
    if found.starts_with(b"HTTP/1.1 404") {
        call.send(json(status, not_found));
    } else {
        call.send(found);
    }
}

/// A customer of which the API knows when it was created.
fn dated_body(reference: &str, date: &str) -> String {
    format!(
        r#"{{"id":"cth_1","object":"customer","object_reference_id":"{reference}","date_created":"{date}"}}"#
    )
}

/// Checks that each Create with this answer, although it lands, is followed by a Get and makes its row `existing`.
fn is_already_exists(status: u16, body: &'static str) {
    let world = World::new();
    let file = world.rows("users.csv", 6);
    let wire = Wire::new(move |call| {
        if !call.request.create {
            return call.answer_honestly();
        }
        call.create();
        call.send(json(status, body));
    });
    let done = wire.import(&world, &file, &[]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "existing=6"), "{done:?}");
    assert_eq!(wire.received().len(), 12);
}

#[test]
fn already_exists_is_read_from_the_error_object_alone() {
    is_already_exists(
        400,
        r#"{"status":"ERROR","error_code":"INVALID","error_info":{"code":"ALREADY_EXISTS"}}"#,
    );
}

#[test]
fn already_exists_is_read_from_the_documented_text_under_another_code() {
    is_already_exists(
        409,
        r#"{"status":"CONFLICT","error_code":"CONFLICT","error_message":"Customer with given object reference id already exist for your account."}"#,
    );
}

#[test]
fn the_fields_that_the_api_names_are_recorded() {
    let world = World::new();
    let file = world.rows("users.csv", 2);
    let wire = Wire::new(|call| {
        if call.request.reference == "cust-000000" {
            return call.answer_honestly();
        }
        call.send(json(
            400,
            r#"{"status":"Invalid Request","error_code":"INVALID_INPUT","error_message":"top",
                "error_info":{"code":"INVALID_INPUT","user_message":"Invalid input","developer_message":"too long",
                "category":"USER_ERROR","fields":[{"field_name":"mobile_number","reason":"at most 16"}]}}"#,
        ));
    });
    assert_eq!(wire.import(&world, &file, &["--concurrency", "1"]).code, 3);
    let failed = world.run(&["export", "failed"]);
    let row = &cells(&failed.stdout)[0];
    assert_eq!(
        row[3..9],
        ["3", "rejected", "mobile_number", "INVALID_INPUT", "too long; mobile_number: at most 16", "400"]
    );
}

/// The top level has a general text, and the error object the cause.
#[test]
fn a_refused_ip_address_is_reported_as_that() {
    let world = World::new();
    let file = world.rows("users.csv", 20);
    let wire = Wire::new(|call| {
        call.send(json(
            403,
            r#"{"status":"error","error_code":"INTERNAL","error_message":"Internal Server error.",
                "user_message":"Bad Origin.","error_info":{"developer_message":"IP Verification Failed"}}"#,
        ));
    });
    let done = wire.import(&world, &file, &["--concurrency", "1"]);
    assert_eq!(done.code, 4, "{done:?}");
    assert!(world.outcomes().starts_with("pending="), "{}", world.outcomes());
    assert!(done.stderr.contains("IP Verification Failed") && done.stderr.contains("allow-list"), "{done:?}");
    assert_eq!(wire.received().len(), 1, "it concerns every row");
}

#[test]
fn a_failing_api_stops_the_run_with_its_message() {
    let world = World::new();
    let file = world.rows("users.csv", 5);
    let wire = Wire::new(|call| {
        call.send(json(
            500,
            r#"{"status":"ERROR","error_info":{"developer_message":"the vault is sealed"}}"#,
        ));
    });
    let done = wire.import(&world, &file, &["--outage-limit", "1s"]);
    assert_eq!(done.code, 4, "{done:?}");
    assert!(done.stderr.contains("the vault is sealed"), "{done:?}");
}

/// Half of the Creates are lost before they are processed, half after: Get shows which.
#[test]
fn not_found_has_several_forms() {
    for (status, body) in [
        (200, NOT_FOUND_UNDER_200),
        (400, r#"{"status":"NOT_FOUND","error_code":"NOT_FOUND"}"#),
        (400, r#"{"status":"ERROR","error_info":{"code":"RESOURCE_NOT_FOUND"}}"#),
        (404, r#"{"status":null,"error_code":null,"error_message":null}"#),
    ] {
        let world = World::new();
        let file = world.rows("users.csv", 12);
        let first = Mutex::new(std::collections::HashSet::new());
        let wire = Wire::new(move |call| {
            if !call.request.create {
                return find_or(call, status, body);
            }
            if !first.lock().unwrap().insert(call.request.reference.clone()) {
                return call.answer_honestly();
            }
            if call.request.reference.ends_with(['0', '2', '4', '6', '8']) {
                call.create();
            }
            call.close();
        });
        let done = wire.import(&world, &file, &["--concurrency", "4"]);
        assert_eq!((done.code, world.outcomes().as_str()), (0, "created=12"), "{status} {body} {done:?}");
        assert_eq!(wire.customers().len(), 12);
        wire.assert_no_second_create();
    }
}

#[test]
fn an_internal_error_is_an_unknown_outcome_whatever_its_status() {
    for (status, body) in [
        (200, r#"{"status":"INTERNAL_ERROR","error_code":"INTERNAL_ERROR"}"#),
        (400, r#"{"status":"internal_error","error_message":"Something went wrong"}"#),
    ] {
        let world = World::new();
        let file = world.rows("users.csv", 10);
        let wire = Wire::new(move |call| {
            if !call.request.create {
                return call.answer_honestly();
            }
            call.create();
            call.send(json(status, body));
        });
        let done = wire.import(&world, &file, &["--concurrency", "2"]);
        assert_eq!((done.code, world.outcomes().as_str()), (0, "created=10"), "{done:?}");
        wire.assert_no_second_create();
    }
}

/// An API that ignores letter case in references answers with the spelling that it stores.
#[test]
fn another_spelling_of_the_reference_is_one_outcome_and_one_lookup() {
    let world = World::new();
    let file = world.file("users.csv", "object_reference_id,mobile_number\nAlice@x.com,99\nBob@xyz.com,98\n");
    let wire = Wire::new(|call| {
        let reference = call.request.reference.to_lowercase();
        if call.request.create && reference.starts_with("alice") {
            call.send(json(400, UNIQUE));
        } else {
            call.send(json(200, customer_body("cth_9", &reference)));
        }
    });
    let done = wire.import(&world, &file, &["--concurrency", "1"]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=1 existing=1"), "{done:?}");
    assert_eq!(wire.received().len(), 3);
    assert_eq!(world.summary()["respelled"], 2);
    assert!(done.stdout.contains("spelled differently by the API: 2 rows"), "{done:?}");
    let all = world.run(&["export", "all"]).stdout;
    assert!(all.contains("alice@x.com") && all.contains("Alice@x.com"), "{all}");
    let report = world.run(&["report"]).stdout;
    assert!(report.contains("line 2: alice@x.com"), "{report}");
    assert_eq!(wire.import(&world, &file, &[]).code, 0);
    assert_eq!((world.outcomes().as_str(), wire.received().len()), ("unchanged=2", 3));
}

/// Two rows that the API does not distinguish: one person's data must not overwrite the other's.
#[test]
fn of_two_rows_that_the_api_does_not_distinguish_neither_overwrites_the_other() {
    let world = World::new();
    let file = world.file("users.csv", "object_reference_id,mobile_number\nCUST-0001,11\ncust-0001,22\n");
    let wire = Wire::new(|call| {
        let body = r#"{"id":"cth_9","object":"customer","object_reference_id":"CUST-0001","mobile_number":"11",
            "date_created":"2020-01-01T00:00:00Z"}"#;
        if call.request.create && call.request.reference == "cust-0001" {
            call.send(json(400, UNIQUE));
        } else {
            call.send(json(200, body));
        }
    });
    for _ in 0..3 {
        wire.import(&world, &file, &["--concurrency", "1", "--update-changed"]);
        assert!(wire.received().iter().all(|request| !request.update), "an Update over another customer");
    }
}

/// Get finds by id as well as by reference.
#[test]
fn a_reference_that_is_the_id_of_another_customer_is_rejected() {
    let world = World::new();
    let file = world.file("users.csv", "object_reference_id,mobile_number\ncth_Abc123,99\n");
    let wire = Wire::new(|call| {
        if call.request.create {
            call.send(json(400, UNIQUE));
        } else {
            call.send(json(200, customer_body("cth_Abc123", "somebody-else")));
        }
    });
    assert_eq!(wire.import(&world, &file, &[]).code, 3);
    assert_eq!(world.outcomes(), "rejected=1");
    let failed = world.run(&["export", "failed"]).stdout;
    assert!(failed.contains("is the customer id of another customer"), "{failed}");
    assert_eq!(wire.received().len(), 2);
    assert_eq!(wire.import(&world, &file, &[]).code, 3);
    assert_eq!((world.outcomes().as_str(), wire.received().len()), ("rejected=1", 2));
}

/// A Create lands, its response is lost, Get lags behind, and the next Create is refused because the customer exists.
#[test]
fn a_create_that_landed_is_ours_even_if_get_did_not_find_it() {
    let world = World::new();
    let file = world.rows("users.csv", 6);
    let gets = Mutex::new(std::collections::HashMap::<String, usize>::new());
    let wire = Wire::new(move |call| {
        if call.request.create {
            let answer = call.create();
            return if answer.starts_with(b"HTTP/1.1 200") {
                call.close();
            } else {
                call.send(answer);
            };
        }
        let mut gets = gets.lock().unwrap();
        let times = gets.entry(call.request.reference.clone()).or_default();
        *times += 1;
        if *times <= 2 { find_late(call) } else { call.answer_honestly() }
    });
    let done = wire.import(&world, &file, &["--concurrency", "1"]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=6"), "{done:?}");
}

fn find_late(call: &mut Call<'_>) {
    call.send(json(404, r#"{"status":"invalid_request_error","error_code":"object_not_found"}"#));
}

/// If Get never finds the customer in this run, the row is in doubt, not failed; the next run records the customer as
/// ours.
#[test]
fn a_create_that_landed_and_is_never_found_is_pending() {
    let world = World::new();
    let file = world.rows("users.csv", 3);
    let wire = Wire::new(|call| {
        if !call.request.create {
            return find_late(call);
        }
        let answer = call.create();
        if answer.starts_with(b"HTTP/1.1 200") {
            call.close();
        } else {
            call.send(answer);
        }
    });
    let done = wire.import(&world, &file, &["--concurrency", "1", "--max-attempts", "2"]);
    assert_eq!(world.outcomes(), "pending=3", "{done:?}");
    wire.play(honest);
    assert_eq!(wire.import(&world, &file, &[]).code, 0);
    assert_eq!(world.outcomes(), "created=3");
}

/// A killed run's Create is still in flight when the next run looks the row up, and lands after that.
#[test]
fn a_create_of_a_killed_run_that_lands_late_is_ours() {
    let world = World::new();
    let file = world.rows("users.csv", 1);
    let wire = Wire::new(|call| call.hang());
    let mut child = wire.start(&world, &file, &[], |_| {});
    assert!(crate::world::wait_until(&mut child, || !wire.received().is_empty()));
    child.kill().unwrap();
    drop(finish(child));
    let requests = AtomicUsize::new(0);
    wire.play(move |call| match (call.request.create, requests.fetch_add(1, SeqCst)) {
        (false, 0) => find_late(call),
        // Now the first Create lands, before the Create of the current run.
        (true, 1) => {
            call.create();
            let refused = call.create();
            call.send(refused);
        }
        _ => call.answer_honestly(),
    });
    let done = wire.import(&world, &file, &[]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=1"), "{done:?}");
}

/// The server's clock differs from ours by less than the whole seconds of its header can show.
#[test]
fn lost_answers_are_ours_also_where_the_clocks_differ_a_little() {
    for ahead in [-1_900_i64, -500, 500, 30_000, -30_000] {
        let world = World::new();
        let file = world.rows("users.csv", 40);
        let wire = Wire::new(move |call| {
            let now = clock();
            let shift = std::time::Duration::from_millis(ahead.unsigned_abs());
            let theirs = if ahead < 0 { now - shift } else { now + shift };
            if call.request.create {
                call.create();
                return call.close();
            }
            // The customer was created a moment ago.
            let made = humantime::format_rfc3339_seconds(theirs - std::time::Duration::from_millis(40));
            let body = dated_body(&call.request.reference, &made.to_string().replace('Z', "+0000"));
            call.send(format!(
                "HTTP/1.1 200 OK\r\nDate: {}\r\nContent-Length: {}\r\n\r\n{body}",
                httpdate::fmt_http_date(theirs),
                body.len()
            ));
        });
        let done = wire.import(&world, &file, &["--concurrency", "4"]);
        assert_eq!((done.code, world.outcomes().as_str()), (0, "created=40"), "{ahead} ms ahead: {done:?}");
    }
}

/// The response has no creation time: the row is existing, and marked uncertain.
#[test]
fn without_a_time_of_creation_the_outcome_is_existing_and_uncertain() {
    let world = World::new();
    let file = world.rows("users.csv", 4);
    let wire = Wire::new(|call| {
        if call.request.create {
            return call.close();
        }
        let reference = &call.request.reference;
        let body = format!(r#"{{"id":"cth_1","object":"customer","object_reference_id":"{reference}"}}"#);
        call.send(json(200, body));
    });
    let done = wire.import(&world, &file, &["--concurrency", "1"]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "existing=4"), "{done:?}");
    assert_eq!(world.summary()["existing_uncertain"], 4);
    let report: serde_json::Value =
        serde_json::from_str(&world.run(&["report", "--format", "json"]).stdout).unwrap();
    assert_eq!(report["existing_uncertain"], value!(4));
    assert!(world.run(&["report"]).stdout.contains("uncertain: 4 rows"));
}

/// Every Create lands and every response is lost: Gets show that writes work, so no row waits for them.
#[test]
fn gets_that_confirm_writes_keep_their_circuit_closed() {
    const ROWS: usize = 400;
    let world = World::new();
    let file = world.rows("users.csv", ROWS);
    let wire = Wire::new(|call| {
        if !call.request.create {
            return call.answer_honestly();
        }
        call.create();
        call.close();
    });
    let more = ["--concurrency", "16", "--outage-limit", "5s", "--retry-initial", "20ms", "-v"];
    let done = wire.import(&world, &file, &more);
    assert_eq!((done.code, world.outcomes().as_str()), (0, format!("created={ROWS}").as_str()), "{done:?}");
    let probes = done.stderr.matches("outage probe of writes").count();
    assert!(probes <= 4, "{probes} probes of an outage of writes");
    wire.assert_no_second_create();
}

/// The file ends with rows that always fail. They are not an outage.
#[test]
fn the_last_rows_of_a_file_may_all_fail() {
    let world = World::new();
    let file = world.rows("users.csv", 100);
    let good = Arc::new(AtomicBool::new(true));
    let wire = Wire::new(move |call| {
        let number: usize = call.request.reference.trim_start_matches("cust-").parse().unwrap_or(0);
        good.store(number < 40, SeqCst);
        if call.request.create && number >= 40 {
            call.send(json(500, r#"{"status":"internal_error"}"#));
        } else {
            call.answer_honestly();
        }
    });
    let more = ["--concurrency", "8", "--max-attempts", "3", "--outage-limit", "60s"];
    let done = wire.import(&world, &file, &more);
    assert_eq!((done.code, world.outcomes().as_str()), (3, "created=40 failed=60"), "{done:?}");
}
