//! `retry`: what did not succeed is sent again out of the ledger, and nothing else is.
//!
//! The disaster is a retry that needs what nobody has any more (the file, its options), or that sends a row
//! whose customer may be there already.

use customer_import::simulator::{Fault, Options, Outage};

use crate::world::{World, finish, rows, signal, wait_until};

/// Rows of which some are always refused and some never answered well.
fn troubled(count: usize, faults: &[(Fault, f64)]) -> World {
    let world = World::with(Options { faults: faults.to_vec(), ..Options::default() });
    let file = world.rows("users.csv", count);
    let code = world.import(&file, &["--max-attempts", "1"]).code;
    let pending = world.summary()["pending"].as_u64().unwrap();
    assert_eq!(code, if pending > 0 { 4 } else { 3 });
    std::fs::remove_file(file).unwrap();
    world.reconfigure(|behavior| behavior.faults.clear());
    world
}

#[test]
fn failed_and_rejected_rows_succeed_without_their_file() {
    let world = troubled(60, &[(Fault::Reject, 0.3), (Fault::Http503, 0.3)]);
    let stuck = world.number("select count(*) from row where outcome in ('rejected', 'failed')");
    let before = world.journal().creates();
    // Nobody knows whether it was created; Get says that it was not.
    let in_doubt = world.number("select count(*) from row where in_doubt = 1");
    assert!(in_doubt > 0);
    let done = world.aim("retry", &[]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    assert_eq!(world.outcomes(), format!("created={}", stuck + in_doubt));
    assert_eq!(world.summary()["source"], "failed or rejected rows");
    assert_eq!(world.journal().creates() - before, stuck + in_doubt, "nothing else is sent");
    assert_eq!(world.journal().customers(), 60);
    assert_eq!(world.number("select count(*) from record"), 0, "raw cells go when a row succeeds");
    assert_eq!(
        world.query("select command, state, exit_code from run where id = 2"),
        [["retry", "completed", "0"]]
    );
    let status = world.run(&["status"]);
    assert!(status.stdout.contains("retry failed or rejected rows"), "{status:?}");
    // There is nothing left, and that is no failure.
    let again = world.aim("retry", &[]);
    assert_eq!((again.code, world.outcomes().as_str()), (0, ""), "{again:?}");
    assert_eq!(world.summary()["requests"], 0);
}

#[test]
fn only_what_was_asked_for_is_sent() {
    let world = World::with(Options { faults: vec![(Fault::Reject, 0.5)], ..Options::default() });
    let file = world.rows("users.csv", 40);
    assert_eq!(world.import(&file, &[]).code, 3);
    world.reconfigure(|behavior| behavior.faults.clear());
    let rejected = world.number("select count(*) from row where outcome = 'rejected'");
    assert_eq!(world.aim("retry", &["--only", "failed"]).code, 0);
    assert_eq!(world.outcomes(), "");
    let of_code = world.number("select count(*) from row where error_code = 'INVALID_INPUT'");
    assert!(of_code > 0 && of_code < rejected);
    assert_eq!(world.aim("retry", &["--error-code", "invalid_input", "--limit", "1"]).code, 0);
    assert_eq!(world.outcomes(), "created=1");
    assert_eq!(world.aim("retry", &["--only", "rejected", "--error-code", "invalid_input"]).code, 0);
    assert_eq!(
        world.outcomes(),
        if of_code == 1 { String::new() } else { format!("created={}", of_code - 1) }
    );
    let unknown = world.aim("retry", &["--error-code", "no-such-code"]);
    assert_eq!(unknown.code, 2);
    assert!(
        unknown.stderr.starts_with(
            "error: no failed or rejected row with the error code \"no-such-code\"; codes that there are: "
        ) && unknown.stderr.contains("MISSING_MANDATORY_PARAMETER (")
            && unknown.stderr.lines().count() == 1,
        "{unknown:?}"
    );
    assert_eq!(world.aim("retry", &[]).code, 0);
    assert_eq!(world.outcomes(), format!("created={}", rejected - of_code));
    assert_eq!(world.journal().customers(), 40);
}

#[test]
fn rows_are_read_as_in_the_run_they_come_from() {
    let world = World::with(Options { faults: vec![(Fault::Reject, 1.0)], ..Options::default() });
    let one = world.file("one.csv", "Id;Telefon;Name\nkunde-0001;+49 30 901820;Müller\n");
    let options = ["--map=object_reference_id=Id", "--map=mobile_number=Telefon", "--phone-region", "DE"];
    let more = ["--map=first_name=Name", "--set", "last_name=X", "--drop-invalid-optional"];
    assert_eq!(world.import(&one, &[&options[..], &more[..]].concat()).code, 3);
    let two = world.file("two.csv", "email_address,mobile_number,object_reference_id\na@b.c,1,cust-0002\n");
    assert_eq!(world.import(&two, &[]).code, 3);
    // Refused once more: the cells stay those of their own files.
    let done = world.aim("retry", &[]);
    assert_eq!(done.code, 3, "{done:?}");
    assert_eq!(world.outcomes(), "rejected=2");
    let failed = world.run(&["export", "failed"]).stdout;
    assert!(
        failed.starts_with("Id,Telefon,Name,email_address,mobile_number,object_reference_id,_line,"),
        "{failed}"
    );
    assert!(failed.contains("\nkunde-0001,+49 30 901820,Müller,,,,2,rejected,"), "{failed}");
    assert_eq!(failed, world.run(&["export", "failed", "--run", "3"]).stdout);
    world.reconfigure(|behavior| behavior.faults.clear());
    assert_eq!(world.aim("retry", &["--set", "mobile_country_code=91"]).code, 0);
    let merchant = crate::world::MERCHANT;
    let first = world.journal().customer(merchant, "kunde-0001").unwrap();
    assert_eq!((first.mobile_number.as_str(), first.mobile_country_code.as_str()), ("30901820", "49"));
    assert_eq!((first.first_name.as_str(), first.last_name.as_str()), ("", "X"));
    let second = world.journal().customer(merchant, "cust-0002").unwrap();
    assert_eq!((second.email_address.as_str(), second.mobile_country_code.as_str()), ("a@b.c", "91"));
}

#[test]
fn a_retry_that_was_killed_is_gone_on_with_and_asks_first() {
    let world = troubled(30, &[(Fault::Reject, 1.0)]);
    // Created, and the answer is lost: what the next run must find out.
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::Timeout, 1.0)]);
    let base_url = world.base_url();
    let args =
        ["retry", "--base-url", &base_url, "--merchant-id", crate::world::MERCHANT, "--rate", "unlimited"];
    let mut child = world.command(&args).spawn().unwrap();
    assert!(wait_until(&mut child, || world.journal().in_flight() >= 30));
    child.kill().unwrap();
    child.wait().unwrap();
    world.reconfigure(|behavior| behavior.faults.clear());
    assert_eq!(world.aim("retry", &[]).code, 0);
    world.assert_agreement(crate::world::references(0..30));
    let (status, claims) = (world.run(&["status"]).stdout, world.number("select count(*) from claim"));
    assert!(claims == 0 && status.contains("interrupted"), "{status}");
}

/// A file has corrected what was rejected, and its run is killed: the cells that were kept are no longer what
/// the merchant wants to be sent.
#[test]
fn what_a_killed_run_was_correcting_is_not_sent_as_it_was() {
    let world = troubled(30, &[(Fault::Reject, 1.0)]);
    world.reconfigure(|behavior| (behavior.outage, behavior.faults) = (Some(Outage::Refuse), Vec::new()));
    let file = world.file("users.csv", crate::world::rows(0..30).replace("example.com", "example.org"));
    let mut run = world.start_import(&file, &[]);
    assert!(wait_until(&mut run, || world.number("select count(*) from every_row where in_doubt") == 30));
    run.kill().unwrap();
    run.wait().unwrap();
    world.reconfigure(|behavior| behavior.outage = None);
    world.aim("retry", &[]);
    assert_eq!(world.journal().creates(), 30, "those that were rejected");
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "created=30");
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "unchanged=30");
}

#[test]
fn an_interrupted_retry_is_gone_on_with() {
    let world = troubled(30, &[(Fault::Reject, 1.0)]);
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Refuse));
    let base_url = world.base_url();
    let args =
        ["retry", "--base-url", &base_url, "--merchant-id", crate::world::MERCHANT, "--only", "rejected"];
    let mut child = world.command(&args).spawn().unwrap();
    assert!(wait_until(&mut child, || world.ledger().exists()
        && world.number("select count(*) from every_row where in_doubt") == 30));
    signal(&child, "INT");
    assert_eq!(finish(child).code, 130);
    world.reconfigure(|behavior| behavior.outage = None);
    assert_eq!(world.aim("retry", &["--only", "rejected"]).code, 0);
    world.assert_agreement(crate::world::references(0..30));
}

#[test]
fn what_cannot_be_retried_is_one_line() {
    let world = World::new();
    let missing = world.aim("retry", &[]);
    assert_eq!(missing.code, 2);
    assert!(missing.stderr.starts_with("error: there is no ledger "), "{missing:?}");
    assert!(!world.ledger().exists());
    let file = world.file("users.csv", rows(0..1));
    assert_eq!(world.import(&file, &[]).code, 0);
    for (more, words) in [
        (&["--map", "object_reference_id=x"][..], "is what identifies a row; import the corrected file"),
        (&["--only", "pending"], "possible values: failed, rejected"),
        (&["--error-code", ""], "--error-code"),
        (&["--error-code", "unique"], "codes that there are: none"),
        (&["users.csv"], "unexpected argument"),
    ] {
        let done = world.aim("retry", more);
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.stderr.contains(words) && done.stderr.lines().count() == 1, "{done:?}");
    }
    let elsewhere = world.run(&["retry", "--simulator"]);
    assert_eq!(elsewhere.code, 2);
    assert!(elsewhere.stderr.contains("belongs to merchant"), "{elsewhere:?}");
}
