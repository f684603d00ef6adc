//! `x-routing-id`: sent with every request about a row, with that row's reference, unless it is switched off; and the
//! simulator's two profiles, one of which requires it.
//!
//! The disaster: current accounts refuse requests without it, for all rows of a file alike; and if it is not the same
//! on every request about a customer, one request may not find what another wrote.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use customer_import::simulator::{Options, Profile};

use crate::{
    wire::{ReceivedRequest, Wire, honest, json},
    world::{NOBODY, World, rows},
};

/// The header's value, if present.
fn routing_id(request: &ReceivedRequest) -> Option<&str> {
    let lines = request.head.lines().filter_map(|line| line.split_once(": "));
    let mut values =
        lines.filter(|(name, _)| name.eq_ignore_ascii_case("x-routing-id")).map(|(_, value)| value);
    let value = values.next();
    assert_eq!(values.next(), None, "once");
    value
}

#[test]
fn every_call_about_a_row_says_so_in_a_header() {
    let world = World::new();
    let file = world.file("users.csv", rows(0..4) + "cust@example.com,981,\n");
    // The first response to each Create is lost, so that each row is also looked up.
    let wire = Wire::new(|call| {
        if call.request.create {
            call.create();
            call.send(json(500, "{}"));
        } else {
            call.answer_honestly();
        }
    });
    assert_eq!(wire.import(&world, &file, &["--concurrency", "100"]).code, 0);
    let requests = wire.received();
    assert!(requests.iter().any(|request| request.create) && requests.iter().any(|request| !request.create));
    for request in &requests {
        assert_eq!(routing_id(request), Some(&*request.reference), "{}", request.head);
    }
}

#[test]
fn it_can_be_switched_off() {
    let world = World::new();
    let file = world.rows("users.csv", 3);
    let wire = Wire::new(honest);
    assert_eq!(wire.import(&world, &file, &["--no-routing-id"]).code, 0);
    let requests = wire.received();
    assert!(
        requests.len() >= 3 && requests.iter().all(|request| routing_id(request).is_none()),
        "{requests:?}"
    );
}

#[test]
fn who_asks_whether_an_outage_is_over_sends_it_too() {
    let world = World::new();
    let file = world.rows("users.csv", 50);
    let is_back = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_back);
    let wire = Wire::new(move |call| {
        seen.fetch_or(call.request.reference == NOBODY, SeqCst);
        if seen.load(SeqCst) {
            call.answer_honestly();
        } else {
            call.send(json(503, "{}"));
        }
    });
    assert_eq!(wire.import(&world, &file, &["--concurrency", "8"]).code, 0);
    assert!(is_back.load(SeqCst));
    let requests = wire.received();
    let probe = requests.iter().find(|request| request.reference == NOBODY).unwrap();
    assert_eq!(routing_id(probe), Some(NOBODY));
}

/// Create, Get, Update and the lookups of verify: an API that requires the header accepts all of them, and one that
/// does not require it as well.
#[test]
fn both_profiles_take_what_is_sent() {
    for (profile, prefix) in [(Profile::Today, "cth_"), (Profile::Page, "cst_")] {
        let world = World::with(Options { profile, ..Options::default() });
        let file = world.rows("users.csv", 20);
        let there = world.create_elsewhere("cust-000003");
        assert!(there.starts_with(prefix), "{there}");
        assert_eq!(world.import(&file, &[]).code, 0);
        assert_eq!(world.outcomes(), "created=19 existing=1");
        let exported = world.export("created");
        assert!(exported.iter().all(|row| row[1].starts_with(prefix)), "{exported:?}");
        // Somebody else's customer has other fields; in addition, the API has filled in a country code.
        let body = "mobile_number=9800000003&email_address=c3%40example.com";
        world.update_elsewhere("cust-000003", body);
        assert_eq!(world.aim("verify", &["users.csv"]).code, 0);
        std::fs::write(&file, rows(0..20).replace("@example.com", "@example.org")).unwrap();
        assert_eq!(world.import(&file, &["--update-changed"]).code, 0);
        assert_eq!(world.outcomes(), "updated=20");
        assert_eq!(world.aim("verify", &["users.csv"]).code, 0);
    }
}

/// The same file without the header: nothing is created.
#[test]
fn an_api_that_asks_for_it_refuses_calls_without_it() {
    let world = World::new();
    let file = world.rows("users.csv", 3);
    assert_ne!(world.import(&file, &["--no-routing-id"]).code, 0);
    assert_eq!(world.journal().customers(), 0);
    assert!(world.journal().entries().iter().all(|entry| entry.status == Some(400)));
}
