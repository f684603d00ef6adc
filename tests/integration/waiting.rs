//! A run that waits reports the reason: one warning with the reason, another when the reason changes, the reason in
//! `status` and in the progress, and no customer data.

use customer_import::simulator::Outage;

use crate::{
    door::{AUTHORITY, Door},
    world::{Done, World, finish, signal, wait_until},
};

/// The reason that `status` reports to scripts.
fn cause(world: &World) -> Option<String> {
    let done = world.run(&["status", "--format", "json"]);
    let status: serde_json::Value = serde_json::from_str(&done.stdout).ok()?;
    Some(status["live"]["cause"].as_str()?.to_owned())
}

fn warnings(done: &Done) -> Vec<&str> {
    done.stderr.lines().filter(|line| line.contains(" WARN ")).collect()
}

#[test]
fn the_reason_is_said_once_and_again_when_it_changes() {
    let world = World::new();
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Refuse));
    let file = world.rows("rows.csv", 50);
    let mut run = world.start_import(&file, &["--progress", "never"]);
    let says = |words: &str| cause(&world).is_some_and(|cause| cause.contains(words));
    assert!(wait_until(&mut run, || world.has_ledger() && says("connection refused")));
    let status = world.run(&["status"]).stdout;
    assert!(status.contains("waiting for the API") && status.contains("connection refused"), "{status}");
    assert!(status.lines().all(|line| line.len() <= 80), "{status}");
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Http503));
    assert!(wait_until(&mut run, || says("HTTP 503, by something before the API")));
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Http500));
    assert!(wait_until(&mut run, || cause(&world).as_deref() == Some("HTTP 500")));
    world.reconfigure(|behavior| behavior.outage = None);
    let done = finish(run);
    assert_eq!(done.code, 0, "{done:?}");
    let warnings = warnings(&done);
    let expected = ["connection refused", "503", "HTTP 500", "the API is back"];
    // A connection may be reset at the moment of a change, which is a reason of its own.
    assert!((4..=6).contains(&warnings.len()), "{warnings:#?}");
    let mut rest = warnings.iter();
    for words in expected {
        assert!(rest.any(|line| line.contains(words)), "no {words:?} in {warnings:#?}");
    }
}

#[test]
fn a_certificate_is_a_reason_with_its_issuer() {
    let world = World::new();
    let door = Door::with_certificate(world.simulator.address());
    let (url, file) = (door.url(), world.rows("rows.csv", 50));
    let mut run = world.start_import(&file, &["--base-url", &url, "--progress", "always"]);
    let says = |words: &str| cause(&world).is_some_and(|cause| cause.contains(words));
    assert!(wait_until(&mut run, || world.has_ledger() && says(AUTHORITY)));
    signal(&run, "TERM");
    let done = finish(run);
    assert_eq!(done.code, 143, "{done:?}");
    let warnings = warnings(&done);
    assert!(warnings.len() == 1 && warnings[0].contains("its issuer is not trusted here"), "{warnings:#?}");
}

#[test]
fn verify_says_why_it_waits_too() {
    let world = World::new();
    let file = world.rows("rows.csv", 20);
    assert_eq!(world.import(&file, &[]).code, 0);
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Http503));
    let done = world.aim("verify", &["rows.csv", "--outage-limit", "6s"]);
    assert_eq!(done.code, 4, "{done:?}");
    // At first it may be a limit, which is reported differently.
    let warnings = warnings(&done);
    let of_the_outage = warnings.iter().filter(|line| line.contains("HTTP 503")).count();
    assert_eq!(of_the_outage, 1, "{warnings:#?}");
}
