//! `retry`: unsuccessful rows are sent again from the ledger, and no other row is.
//!
//! The disaster is a retry that needs what nobody has any more (the file, its options), or that sends a row whose
//! customer may already exist.

use std::time::{Duration, Instant};

use customer_import::simulator::{Fault, Options, Outage};

use crate::{
    prune::{age, prune},
    world::{MERCHANT, World, finish, rows, signal, wait_until},
};

/// Rows some of which are always refused, and some of which never get a valid response.
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
    let world = troubled(60, &[(Fault::Reject, 0.3), (Fault::Api503, 0.3)]);
    let stuck = world.number("select count(*) from row where outcome in ('rejected', 'failed')");
    let before = world.journal().creates();
    // It is unknown whether it was created; Get shows that it was not.
    let in_doubt = world.number("select count(*) from row where in_doubt");
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
    // Nothing is left, and that is not a failure.
    let again = world.aim("retry", &[]);
    assert_eq!((again.code, world.outcomes().as_str()), (0, ""), "{again:?}");
    assert_eq!(world.summary()["requests"], 0);
    assert!(again.stdout.contains("Nothing to retry: the ledger "), "{again:?}");
    assert!(again.stdout.trim_end().ends_with("has no failed or rejected rows to send"), "{again:?}");
}

/// A nightly schedule retries in vain most of the time.
#[test]
fn a_retry_without_rows_leaves_no_run() {
    let world = World::new();
    let file = world.rows("users.csv", 3);
    assert_eq!(world.import(&file, &[]).code, 0);
    let runs = || world.query("select id, command from run where id > 0");
    let before = (runs(), world.run(&["status"]).stdout);
    for number in [2, 3] {
        assert_eq!(world.aim("retry", &[]).code, 0);
        assert_eq!(world.summary()["run"], number, "a number is given once");
        assert_eq!((runs(), world.run(&["status"]).stdout), before);
    }
    assert_eq!(world.run(&["report"]).code, 0);
    // The next run resumes after them.
    assert_eq!(world.import(&file, &["-v"]).code, 0);
    assert_eq!((world.outcomes().as_str(), &world.summary()["run"]), ("unchanged=3", &4.into()));
}

/// Rows that a crash left in doubt are looked up first, and then the run is not empty.
#[test]
fn a_retry_after_a_crash_is_a_run() {
    let world = World::new();
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Hang));
    let file = world.rows("users.csv", 3);
    let mut run = world.start_import(&file, &[]);
    assert!(wait_until(&mut run, || world.journal().requests() == 3));
    run.kill().unwrap();
    run.wait().unwrap();
    world.reconfigure(|behavior| behavior.outage = None);
    let done = world.aim("retry", &[]);
    assert!(world.summary()["requests"].as_u64() >= Some(3), "{done:?}");
    assert_eq!(world.query("select command from run where id = 2"), [["retry"]]);
    assert_eq!(world.import(&file, &[]).code, 0);
    world.assert_agreement(crate::world::references(0..3));
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
            "error: no failed or rejected row with the error code \"no-such-code\"; codes in this ledger: "
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
    // Rejected again: the cells stay those of their own files.
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
    // Created, but the response is lost: the next run must find that out.
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

/// A file has corrected the rejected row, and its run is killed: the stored cells are no longer what the merchant
/// wants to send.
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
    assert!(wait_until(&mut child, || world.has_ledger()
        && world.number("select count(*) from every_row where in_doubt") == 30));
    signal(&child, "INT");
    assert_eq!(finish(child).code, 130);
    world.reconfigure(|behavior| behavior.outage = None);
    assert_eq!(world.aim("retry", &["--only", "rejected"]).code, 0);
    world.assert_agreement(crate::world::references(0..30));
}

/// The ledger's data about the unsuccessful rows, and about unsuccessful updates.
fn contents(world: &World) -> Vec<Vec<String>> {
    let of = |table: &str, name: &str| {
        let words = "outcome, run, line, hex(fingerprint), attempts, error_code, error_message, http_status";
        world.query(&format!("select {name}, {words} from {table} order by 1"))
    };
    let mut contents = of("row where customer_id is null", "reference");
    contents.extend(of("pending_update", "row"));
    contents
}

fn count(world: &World, outcome: &str) -> u64 {
    world.number(&format!("select count(*) from row where outcome = '{outcome}'"))
}

/// Thirty rows, some rejected, some failed, and some created.
fn stuck() -> World {
    let world = troubled(30, &[(Fault::Reject, 0.4), (Fault::WriteAlways500, 0.5)]);
    assert!(count(&world, "rejected") > 3 && count(&world, "failed") > 3);
    assert_eq!(count(&world, "pending"), 0);
    world
}

/// Begins a retry at an API that does not respond; returns once the retry has claimed all its rows.
fn begin_retry(world: &World, outage: Outage, more: &[&str]) -> std::process::Child {
    world.reconfigure(|behavior| behavior.outage = Some(outage));
    let base_url = world.base_url();
    let mut args = vec!["retry", "--base-url", &base_url, "--merchant-id", MERCHANT, "--rate", "unlimited"];
    args.extend(more);
    let mut child = world.command(&args).spawn().unwrap();
    let pending =
        "select coalesce(max(pending), 0) from every_run where command = 'retry' and state = 'running'";
    // The API has all requests: none is read from a connection once the API responds again.
    let has_all = |rows| outage == Outage::Refuse || world.journal().in_flight() as u64 == rows;
    assert!(wait_until(&mut child, || matches!(world.number(pending), rows if rows > 0 && has_all(rows))));
    child
}

/// Kills the program, and waits until the simulator has dropped its requests: one that still gets a response may
/// land.
fn kill(world: &World, mut child: std::process::Child) {
    child.kill().unwrap();
    child.wait().unwrap();
    let began = Instant::now();
    while world.journal().in_flight() > 0 {
        assert!(began.elapsed() < Duration::from_secs(120), "requests of a dead program are in flight");
        std::thread::yield_now();
    }
}

fn heal(world: &World) {
    world.reconfigure(|behavior| (behavior.outage, behavior.faults) = (None, Vec::new()));
}

/// Imports another file, whose run finds that nothing has landed.
fn import_another_file(world: &World) {
    let file = world.file("other.csv", rows(500..503));
    assert_eq!(world.import(&file, &[]).code, 0);
}

/// The ledger has only the reference of a row that a killed run had in flight, and the columns of its file: the run that
/// finds that the row was not created, a retry or an import of another file, has other columns or none.
#[test]
fn a_row_that_a_killed_run_had_in_flight_is_exported_in_the_columns_of_its_file_whoever_looked_it_up() {
    for looked_up_by in ["retry", "another file"] {
        let world = World::new();
        let file = world.file("users.csv", "id,phone\n1,9876500001\n2,9876500002\n3,9876500003\n");
        let mapped = ["--map=object_reference_id=customer_{id}", "--map=mobile_number=phone"];
        world.reconfigure(|behavior| behavior.outage = Some(Outage::Hang));
        let mut run = world.start_import(&file, &mapped);
        assert!(wait_until(&mut run, || world.journal().in_flight() == 3));
        kill(&world, run);
        heal(&world);
        match looked_up_by {
            "retry" => assert_eq!(world.aim("retry", &[]).code, 0),
            _ => import_another_file(&world),
        }
        let ids: Vec<_> = world.failed_rows().iter().map(|row| row.get("id").cloned()).collect();
        assert_eq!(ids, ["1", "2", "3"].map(|id| Some(id.to_owned())), "{looked_up_by}");
        // Without a number none of them can be created, and no row without a name is left of them.
        let export = world.file("failed.csv", world.failed_text());
        assert_eq!(world.import(&export, &[]).code, 3);
        assert_eq!(world.import(&file, &mapped).code, 0);
        assert!(world.failed_rows().is_empty(), "{looked_up_by}: {:?}", world.failed_rows());
    }
}

#[test]
fn a_killed_retry_leaves_its_rows_as_they_were() {
    let world = stuck();
    let (before, rejected, failed) = (contents(&world), count(&world, "rejected"), count(&world, "failed"));
    kill(&world, begin_retry(&world, Outage::Hang, &["--only", "rejected"]));
    heal(&world);
    import_another_file(&world);
    assert_eq!(contents(&world), before);
    let creates = world.journal().creates();
    // A rejected row is sent only by a retry of rejected rows.
    assert_eq!(world.aim("retry", &["--only", "failed"]).code, 0);
    assert_eq!(world.outcomes(), format!("created={failed}"));
    assert_eq!(world.import(&world.rows("users.csv", 30), &[]).code, 3);
    assert_eq!(world.outcomes(), format!("unchanged={} rejected={rejected}", 30 - rejected));
    assert_eq!(world.journal().creates() - creates, failed);
    assert_eq!(world.aim("retry", &[]).code, 0);
    assert_eq!(world.outcomes(), format!("created={rejected}"));
    world.assert_agreement(crate::world::references(0..30).chain(crate::world::references(500..503)));
}

/// The next retry is the one that looks them up.
#[test]
fn a_killed_retry_of_rejected_rows_gives_none_of_them_to_one_of_failed_rows() {
    let world = stuck();
    let failed = count(&world, "failed");
    kill(&world, begin_retry(&world, Outage::Hang, &["--only", "rejected"]));
    heal(&world);
    assert_eq!(world.aim("retry", &["--only", "failed"]).code, 0);
    assert_eq!(world.outcomes(), format!("created={failed}"));
    assert_eq!(world.aim("retry", &["--error-code", "no-such-code"]).code, 2);
    assert_eq!(world.aim("retry", &[]).code, 0);
    world.assert_agreement(crate::world::references(0..30));
}

#[test]
fn failed_rows_whose_resending_was_killed_are_failed_still() {
    let world = stuck();
    let (before, failed) = (contents(&world), count(&world, "failed"));
    world.reconfigure(|behavior| (behavior.outage, behavior.faults) = (Some(Outage::Hang), Vec::new()));
    let mut run = world.start_import(&world.rows("users.csv", 30), &[]);
    assert!(wait_until(&mut run, || world.journal().in_flight() as u64 == failed));
    kill(&world, run);
    heal(&world);
    import_another_file(&world);
    assert_eq!(contents(&world), before);
    let status = world.run(&["status", "--format", "json"]).stdout;
    assert!(
        status.contains(&format!("\"failed\": {failed}")) && status.contains("\"pending\": 0"),
        "{status}"
    );
    assert_eq!(world.aim("retry", &["--only", "failed"]).code, 0);
    assert_eq!(world.outcomes(), format!("created={failed}"));
}

#[test]
fn an_interrupted_retry_is_as_if_it_had_not_been_and_prune_leaves_it_its_rows() {
    let world = stuck();
    let (before, open) = (contents(&world), count(&world, "rejected") + count(&world, "failed"));
    let retry = begin_retry(&world, Outage::Refuse, &[]);
    signal(&retry, "INT");
    assert_eq!(finish(retry).code, 130);
    assert_eq!(contents(&world), before);
    heal(&world);
    age(&world, "id > 0");
    prune(&world);
    assert_eq!(world.import(&world.file("none.csv", rows(0..0)), &[]).code, 0);
    assert_eq!(world.aim("retry", &[]).code, 0);
    assert_eq!(world.outcomes(), format!("created={open}"));
    world.assert_agreement(crate::world::references(0..30));
}

/// Updates are not claims: nobody looks them up, and they may have landed.
#[test]
fn updates_that_a_retry_had_begun_are_not_forgotten() {
    for outage in [Outage::Refuse, Outage::Hang] {
        let world = World::new();
        let file = world.rows("users.csv", 12);
        assert_eq!(world.import(&file, &[]).code, 0);
        world.reconfigure(|behavior| behavior.faults = vec![(Fault::Reject, 1.0)]);
        let file = world.file("users.csv", rows(0..12).replace("example.com", "example.org"));
        assert_eq!(world.import(&file, &["--update-changed"]).code, 3);
        let before = contents(&world);
        let retry = begin_retry(&world, outage, &[]);
        if outage == Outage::Refuse {
            signal(&retry, "INT");
            assert_eq!(finish(retry).code, 130);
            assert_eq!(contents(&world), before);
        } else {
            kill(&world, retry);
        }
        heal(&world);
        import_another_file(&world);
        age(&world, "id > 0");
        prune(&world);
        if outage == Outage::Refuse {
            let requests = world.journal().requests();
            assert_eq!(world.import(&file, &["--update-changed"]).code, 3);
            assert_eq!((world.outcomes().as_str(), world.journal().requests()), ("rejected=12", requests));
        }
        assert_eq!(world.aim("retry", &["--only", "failed"]).code, 0);
        assert_eq!(world.outcomes(), "");
        assert_eq!(world.aim("retry", &["--only", "rejected"]).code, 0);
        assert_eq!(world.outcomes(), "updated=12");
        assert_eq!(world.number("select count(*) from pending_update"), 0);
    }
}

/// One settings file serves all commands; its settings about how a file is read have no meaning for rows that are
/// read from the ledger.
#[test]
fn keys_of_a_settings_file_that_do_not_fit_a_retry_are_left_out() {
    let world = World::with(Options { faults: vec![(Fault::Reject, 1.0)], ..Options::default() });
    let one = world.file("one.csv", "Id,Telefon,Mail\nkunde-0001,1,a@example.com\nkunde-0002,2,\n");
    let settings = "map = [\"object_reference_id=Id\", \"mobile_number=Telefon\", \"email_address=Mail\"]\n\
                    set = [\"last_name=Roy\"]\n";
    world.file("nightly.toml", settings);
    assert_eq!(world.import(&one, &["--config", "nightly.toml"]).code, 3);
    // Rows of another file, which has no such columns.
    let two = world.file("two.csv", "object_reference_id,mobile_number\ncust-0003,3\n");
    assert_eq!(world.import(&two, &[]).code, 3);
    heal(&world);
    let done = world.aim("retry", &["--config", "nightly.toml", "--map", "object_reference_id=Id"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("it is what identifies a row"), "{done:?}");
    let done = world.aim("retry", &["--config", "nightly.toml", "--map", "mobile_number=Telefon"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("mobile_number=Telefon: no such column"), "{done:?}");
    let done = world.aim("retry", &["--config", "nightly.toml"]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=3"), "{done:?}");
    let of = |reference: &str| world.journal().customer(MERCHANT, reference).unwrap();
    let (first, third) = (of("kunde-0001"), of("cust-0003"));
    assert_eq!((first.mobile_number.as_str(), first.email_address.as_str()), ("1", "a@example.com"));
    assert_eq!((third.mobile_number.as_str(), third.last_name.as_str()), ("3", "Roy"));
}

/// With the defaults they would be read from other columns, and sent so.
#[test]
fn rows_are_not_read_by_options_that_are_not_known() {
    let world = stuck();
    let requests = world.journal().requests();
    world.execute("update run set row_mapping = '{\"map\": 5}'");
    let refused = world.aim("retry", &[]);
    assert_eq!(refused.code, 2, "{refused:?}");
    let words = "the options by which run 1 read its rows were recorded by another version";
    assert!(refused.stderr.contains(words) && refused.stderr.lines().count() == 1, "{refused:?}");
    assert_eq!(world.journal().requests(), requests);
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
        (&["--only", "pending"], "--only cannot be \"pending\"; give one of failed, rejected"),
        (&["--error-code", ""], "--error-code"),
        (&["--error-code", "unique"], "codes in this ledger: none"),
        (&["users.csv"], "retry takes only options"),
    ] {
        let done = world.aim("retry", more);
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.stderr.contains(words) && done.stderr.lines().count() == 1, "{done:?}");
    }
    let elsewhere = world.run(&["retry", "--simulator"]);
    assert_eq!(elsewhere.code, 2);
    assert!(elsewhere.stderr.contains("belongs to merchant"), "{elsewhere:?}");
}
