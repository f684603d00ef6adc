//! Intermediaries that respond in the API's place: a firewall, a router, a proxy.
//!
//! The disaster: a firewall's page is treated as the API's response. Then rows are `rejected` that the API never saw,
//! and a rerun does not send them; or one row that a firewall rejects stops every run, and the import is never
//! complete.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::{
    wire::{Call, Wire, honest},
    world::{World, cells},
};

const QUICK: [&str; 4] = ["--concurrency", "8", "--max-attempts", "3"];

fn page(call: &mut Call<'_>, status: u16, header: &str) {
    let body = "<html><head><title>Request blocked</title></head></html>";
    call.send(format!(
        "HTTP/1.1 {status} Told\r\nContent-Type: text/html\r\n{header}Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
}

/// An intermediary that responds from some request on, for this long.
fn passing(status: u16, header: &'static str, time: Duration) -> impl Fn(&mut Call<'_>) + Send + Sync {
    let state = Mutex::new((0_u32, None::<Instant>));
    move |call| {
        let is_away = {
            let mut state = state.lock().unwrap();
            state.0 += 1;
            if state.0 == 50 {
                state.1 = Some(Instant::now() + time);
            }
            state.1.is_some_and(|until| Instant::now() < until)
        };
        if is_away { page(call, status, header) } else { call.answer_honestly() }
    }
}

/// A firewall treats one customer's fields as an attack: that row fails, and all others are imported.
#[test]
fn a_row_that_a_firewall_blocks_fails_alone_and_is_logged() {
    let world = World::new();
    let file = world.rows("users.csv", 50);
    let wire = Wire::new(|call| {
        if call.request.create && call.request.reference == "cust-000007" {
            return page(call, 403, "");
        }
        call.answer_honestly();
    });
    let done = wire.import(&world, &file, &QUICK);
    assert_eq!((done.code, world.outcomes().as_str()), (3, "created=49 failed=1"), "{done:?}");
    assert!(
        done.stderr.contains("an intermediary refuses this row") && done.stderr.contains("line=9"),
        "{done:?}"
    );
    let failed = cells(&world.run(&["export", "failed"]).stdout);
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0][3..5], ["9", "failed"]);
    assert_eq!(failed[0][8], "403");
    // After the firewall's rule is corrected the same command completes the import.
    wire.play(honest);
    assert_eq!(wire.import(&world, &file, &[]).code, 0);
    assert_eq!(world.outcomes(), "created=1 unchanged=49");
}

#[test]
fn a_temporary_intermediary_rejects_nothing_and_ends_no_run() {
    for (status, header) in [
        (413, ""),
        (403, ""),
        (403, "Retry-After: 1\r\n"),
        (404, ""),
        (405, ""),
        (302, "Location: /maintenance.html\r\n"),
        (400, ""),
    ] {
        let world = World::new();
        let file = world.rows("users.csv", 200);
        let wire = Wire::new(passing(status, header, Duration::from_millis(700)));
        let done = wire.import(&world, &file, &QUICK);
        assert_eq!((done.code, world.outcomes().as_str()), (0, "created=200"), "{status}: {done:?}");
        wire.assert_no_second_create();
    }
}

/// An intermediary that responds to everything from the first request on means a wrong address: the run stops soon,
/// and no row fails.
#[test]
fn the_address_is_wrong_if_only_intermediaries_ever_answer() {
    for status in [400, 403] {
        let world = World::new();
        let file = world.rows("users.csv", 60);
        let wire = Wire::new(move |call| page(call, status, ""));
        let done = wire.import(&world, &file, &["--rate", "200"]);
        assert_eq!(done.code, 4, "{done:?}");
        assert!(world.outcomes().starts_with("pending="), "{}", world.outcomes());
        assert!(
            done.stderr.contains(&format!("HTTP {status}")) && done.stderr.contains("--base-url"),
            "{done:?}"
        );
        wire.play(honest);
        assert_eq!(wire.import(&world, &file, &[]).code, 0);
        assert_eq!(world.outcomes(), "created=60");
    }
}

/// A redirect or an unknown path stops the run with the first response.
#[test]
fn a_wrong_url_stops_the_run_with_the_first_answer() {
    for (status, words) in [(302, "redirect"), (404, "no customers API"), (405, "no customers API")] {
        let world = World::new();
        let file = world.rows("users.csv", 60);
        let wire = Wire::new(move |call| page(call, status, "Location: /elsewhere\r\n"));
        let done = wire.import(&world, &file, &["--concurrency", "1"]);
        assert_eq!((done.code, wire.received().len()), (4, 1), "{done:?}");
        assert!(done.stderr.contains(words), "{done:?}");
    }
}

/// An intermediary's 404 is not the API's "not found": no second Create is sent for a customer that may exist.
#[test]
fn a_page_that_says_404_is_not_the_apis_not_found() {
    let world = World::new();
    let file = world.rows("users.csv", 5);
    let wire = Wire::new(|call| {
        if call.request.create {
            call.create();
            call.close();
        } else {
            page(call, 404, "");
        }
    });
    let done = wire.import(&world, &file, &["--concurrency", "2", "--max-attempts", "2"]);
    assert_eq!(world.outcomes(), "pending=5", "{done:?}");
    wire.assert_no_second_create();
    wire.play(honest);
    assert_eq!(wire.import(&world, &file, &[]).code, 0);
    assert_eq!(world.outcomes(), "created=5");
}
