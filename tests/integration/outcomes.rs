//! Each outcome, and each line of the verdict table that the simulator can provoke.
//!
//! The journal is the oracle: what the API really did decides what the program should report.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::TcpStream,
    time::{Duration, Instant, SystemTime},
};

use customer_import::simulator::{Endpoint, Entry, Fault, Options, Outage};

use crate::world::{MERCHANT, World, rows};

/// More slots than rows, so that no series of failures is long enough to look like an outage.
const MANY_SLOTS: [&str; 2] = ["--concurrency", "400"];

fn world(faults: &[(Fault, f64)]) -> World {
    World::with(Options { faults: faults.to_vec(), ..Options::default() })
}

/// Ends the API's faults.
fn heal(world: &World) {
    world.reconfigure(|behavior| {
        behavior.faults.clear();
        behavior.outage = None;
        behavior.rate_limit = None;
    });
}

/// A row of `export all`: reference, outcome, id, code.
fn row(world: &World, line: &str) -> [String; 4] {
    let rows = world.export("all");
    let row = rows.iter().find(|row| row[0] == line).unwrap();
    [1, 2, 3, 4].map(|at| row[at].clone())
}

/// The journal's entries by reference.
fn stories(world: &World) -> HashMap<String, Vec<Entry>> {
    let mut stories: HashMap<String, Vec<Entry>> = HashMap::new();
    for entry in world.journal().entries() {
        stories.entry(entry.reference.to_string()).or_default().push(entry);
    }
    stories
}

#[test]
fn created() {
    let world = World::new();
    let file = world.rows("users.csv", 2);
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "created=2");
    let customer = world.journal().customer(MERCHANT, "cust-000001").unwrap();
    assert_eq!(customer.mobile_number, "9800000001");
    assert_eq!(customer.email_address, "c1@example.com");
    assert_eq!(world.export("created")[1], ["cust-000001", &customer.id, "created", "3"]);
    assert_eq!(row(&world, "3"), ["cust-000001", "created", &customer.id, ""]);
    assert!(world.failed_rows().is_empty());
    world.assert_same_customers();
}

#[test]
fn existing() {
    let world = World::new();
    let id = world.create_elsewhere("cust-000001");
    let file = world.rows("users.csv", 3);
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "created=2 existing=1");
    assert_eq!(row(&world, "3"), ["cust-000001", "existing", &id, ""]);
    assert_eq!(world.export("created")[1], ["cust-000001", &id, "existing", "3"]);
    // The customer keeps the merchant's fields.
    let customer = world.journal().customer(MERCHANT, "cust-000001").unwrap();
    assert_eq!(customer.mobile_number, "9000000001");
    assert_eq!((world.journal().creates(), world.journal().gets()), (4, 1));
    world.assert_same_customers();

    // The customer's fields differ from the row's, so the next run reports it as changed; nothing is sent.
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "unchanged=2 changed=1");
    assert_eq!(world.journal().requests(), 5);
}

#[test]
fn existing_under_a_reference_that_needs_encoding() {
    let world = World::new();
    let reference = "a/b%2F?c#d é&e=f";
    let encoded = "a%2Fb%252F%3Fc%23d+%C3%A9%26e%3Df";
    let body = format!("object_reference_id,mobile_number\n{reference},1\n");
    assert_eq!(world.journal().customers(), 0);
    let id = world.create_elsewhere_as(encoded, reference);
    let file = world.file("users.csv", body);
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "existing=1");
    assert_eq!(row(&world, "2"), [reference, "existing", &id, ""]);
}

#[test]
fn unchanged() {
    let world = World::new();
    let one = "object_reference_id,mobile_number,first_name\ncust-0001,1,Asha\n";
    let file = world.file("one.csv", one);
    assert_eq!(world.import(&file, &[]).code, 0);
    let created = world.export("created");
    // Another file with the same fields in other columns, one of which is unknown.
    let two = "note;mobile_number;first_name;object_reference_id\nx; 1 ;Asha;cust-0001\n";
    let file = world.file("two.csv", two);
    let done = world.import(&file, &[]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    assert_eq!(world.outcomes(), "unchanged=1");
    assert_eq!(world.export("created"), created);
    assert_eq!(world.journal().requests(), 1);
}

#[test]
fn changed() {
    let world = World::new();
    let header = "object_reference_id,mobile_number,first_name\n";
    let file = world.file("users.csv", format!("{header}cust-0001,1,Asha\n"));
    assert_eq!(world.import(&file, &[]).code, 0);
    let created = world.export("created");
    for cells in ["cust-0001,2,Asha", "cust-0001,1,", "cust-0001,1,asha"] {
        let file = world.file("users.csv", format!("{header}{cells}\n"));
        assert_eq!(world.import(&file, &[]).code, 0);
        assert_eq!(world.outcomes(), "changed=1", "{cells}");
    }
    assert_eq!(world.export("created"), created);
    assert_eq!(world.journal().requests(), 1);
    assert_eq!(world.journal().customer(MERCHANT, "cust-0001").unwrap().mobile_number, "1");
    assert!(world.failed_rows().is_empty());
}

/// By then the hash of the first row is in the ledger's own index, whose filter excludes most other hashes.
#[test]
fn a_duplicate_is_found_however_far_away_it_is() {
    let world = World::new();
    let (all, again) = (30_000, 100..200);
    let far = again.len();
    let behind = rows(again).split_once('\n').unwrap().1.to_owned();
    let file = world.file("users.csv", rows(0..all) + &behind);
    let fast = ["--rate", "unlimited", "--concurrency", "64"];
    for created in ["created", "unchanged"] {
        assert_eq!(world.import(&file, &fast).code, 3);
        assert_eq!(world.outcomes(), format!("{created}={all} duplicate={far}"));
        if world.is_in_file() {
            assert!(world.number("select count(*) from reference_key") >= all as u64);
        }
    }
    assert_eq!(world.journal().creates(), all as u64);
}

#[test]
fn duplicate() {
    let world = World::new();
    let text = "object_reference_id,mobile_number\ncust-0001,1\ncust-0002,2\ncust-0001,3\ncust-0001,1\n";
    let file = world.file("users.csv", text);
    for created in ["created=2 duplicate=2", "unchanged=2 duplicate=2"] {
        assert_eq!(world.import(&file, &[]).code, 3);
        assert_eq!(world.outcomes(), created);
        let rows = world.failed_rows();
        let lines: Vec<&str> = rows.iter().map(|row| row["_line"].as_str()).collect();
        assert_eq!(lines, ["4", "5"]);
        for row in rows {
            assert_eq!(
                (row["_outcome"].as_str(), row["object_reference_id"].as_str()),
                ("duplicate", "cust-0001")
            );
            assert_eq!(row["_field"], "object_reference_id");
            assert_eq!((row["_error_code"].as_str(), row["_attempts"].as_str()), ("duplicate", "0"));
        }
    }
    assert_eq!(world.journal().customer(MERCHANT, "cust-0001").unwrap().mobile_number, "1");
    assert_eq!(world.journal().requests(), 2);
}

#[test]
fn invalid() {
    let world = World::new();
    let header = "object_reference_id,mobile_number\n";
    let file = world.file("users.csv", format!("{header}cust-0001,x\nshort,1\ncust-0003,3\n"));
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.outcomes(), "created=1 invalid=2");
    assert_eq!(row(&world, "2"), ["cust-0001", "invalid", "", "digits"]);
    assert_eq!(row(&world, "3"), ["short", "invalid", "", "too-short"]);
    assert_eq!(world.journal().requests(), 1);
    // The same file, corrected.
    let file = world.file("users.csv", format!("{header}cust-0001,1\nshort-no-more,1\ncust-0003,3\n"));
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "created=2 unchanged=1");
    assert!(world.failed_rows().is_empty());
    world.assert_same_customers();
}

#[test]
fn rejected() {
    let world = world(&[(Fault::Reject, 1.0)]);
    let file = world.rows("users.csv", 12);
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.outcomes(), "rejected=12");
    let rows = world.failed_rows();
    for row in &rows {
        assert_eq!((row["_outcome"].as_str(), row["_http_status"].as_str()), ("rejected", "400"));
        // Some refusals name the field at fault.
        let field = if row["_error_code"] == "INVALID_INPUT" { "mobile_number" } else { "" };
        assert_eq!((row["_attempts"].as_str(), row["_field"].as_str()), ("1", field));
    }
    // All three may be null; texts are kept if there are any.
    assert!(rows.iter().any(
        |row| row["_error_code"] == "INVALID_INPUT" && row["_error_message"] == "Invalid mobile number."
    ));
    // The outcome stays, and nothing is sent, even if the API would accept it now.
    heal(&world);
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.outcomes(), "rejected=12");
    assert_eq!(world.journal().requests(), 12);
    assert_eq!(world.failed_rows(), rows);
    // One row has other fields now.
    let text = crate::world::rows(0..12).replace("9800000003", "9800000033");
    let file = world.file("users.csv", text);
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.outcomes(), "created=1 rejected=11");
    assert_eq!(world.journal().requests(), 13);
    assert_eq!(world.failed_rows().len(), 11);
    world.assert_same_customers();
}

#[test]
fn failed_or_in_doubt_when_attempts_are_used_up() {
    let world = world(&[(Fault::Api503, 0.5)]);
    let file = world.rows("users.csv", 60);
    let mut more = vec!["--max-attempts", "1"];
    more.extend(MANY_SLOTS);
    assert_eq!(world.import(&file, &more).code, 4);
    // One Create each; after a 503 it may have landed, so one Get must show that it did not.
    let mut expected: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (reference, story) in stories(&world) {
        let statuses: Vec<(Endpoint, Option<u16>)> =
            story.iter().map(|entry| (entry.endpoint, entry.status)).collect();
        let outcome = match statuses.as_slice() {
            [(Endpoint::Create, Some(200))] => "created",
            [(Endpoint::Create, Some(503)), (Endpoint::Get, Some(404))] => "failed",
            [(Endpoint::Create, Some(503)), (Endpoint::Get, Some(503))] => "pending",
            other => panic!("{reference}: {other:?}"),
        };
        expected.entry(outcome).or_default().insert(reference);
    }
    assert_eq!(expected.len(), 3);
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in world.export("all") {
        found.entry(row[2].clone()).or_default().insert(row[1].clone());
    }
    for (outcome, references) in &expected {
        assert_eq!(&found[*outcome], references, "{outcome}");
    }
    for row in world.failed_rows() {
        assert_eq!(row["_attempts"], "2");
        assert_eq!(row["_http_status"], "503");
    }

    heal(&world);
    let requests = world.journal().requests();
    assert_eq!(world.import(&file, &[]).code, 0);
    let (was_created, again) = (expected["created"].len(), 60 - expected["created"].len());
    assert_eq!(world.outcomes(), format!("created={again} unchanged={was_created}"));
    // One Create each, and for those in doubt a Get before it.
    let more = again + expected["pending"].len();
    assert_eq!(world.journal().requests(), requests + more as u64);
    assert!(world.failed_rows().is_empty());
    world.assert_same_customers();
}

#[test]
fn a_row_that_the_api_never_answers_stays_pending_until_it_does() {
    let world = world(&[(Fault::ResetAfter, 1.0)]);
    let file = world.rows("users.csv", 1);
    assert_eq!(world.import(&file, &["--max-attempts", "2"]).code, 4);
    assert_eq!(world.outcomes(), "pending=1");
    let rows = world.failed_rows();
    assert_eq!((rows[0]["_outcome"].as_str(), rows[0]["_attempts"].as_str()), ("pending", "3"));
    assert!(!rows[0]["_error_message"].is_empty());
    // The customer existed all along: the next run sends Get and no second Create.
    assert_eq!((world.journal().creates(), world.journal().customers()), (1, 1));
    heal(&world);
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "created=1");
    assert_eq!((world.journal().creates(), world.journal().gets()), (1, 3));
    world.assert_same_customers();
}

#[test]
fn a_poison_row_does_not_hold_up_the_others() {
    let world = world(&[(Fault::Always500, 0.1)]);
    let file = world.rows("users.csv", 50);
    let done = world.import(&file, &["--max-attempts", "2", "--outage-limit", "3s"]);
    // A run that treats the bad rows as an outage would be stopped at the limit instead.
    assert_eq!((done.code, &world.summary()["state"]), (4, &"completed".into()), "{done:?}");
    let created = world.journal().customers();
    assert!((30..50).contains(&created));
    assert_eq!(world.outcomes(), format!("created={created} pending={}", 50 - created));
    heal(&world);
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), format!("created={} unchanged={created}", 50 - created));
    world.assert_same_customers();
}

/// A user who runs it every night must be told to run it again: there is nothing to correct.
#[test]
fn a_run_that_comes_to_its_end_with_rows_pending_is_to_be_run_again() {
    let world = world(&[(Fault::Always500, 0.1)]);
    let file = world.rows("users.csv", 50);
    let done = world.import(&file, &["--max-attempts", "2", "--outage-limit", "3s"]);
    let summary = world.summary();
    assert!(summary["pending"].as_u64().unwrap() > 0, "{summary}");
    assert_eq!((&summary["state"], &summary["exit_code"]), (&"completed".into(), &4.into()));
    // A pause after several failures in a row is a warning, not an error.
    assert!(done.code == 4 && !done.stderr.contains("error:"), "{done:?}");
    assert!(done.stdout.contains("\n  next:   run the same command again"), "{done:?}");
    heal(&world);
    assert_eq!(world.import(&file, &[]).code, 0);
    world.assert_same_customers();
}

#[test]
fn what_earlier_runs_were_refused_is_no_failure_of_this_one() {
    let world = world(&[(Fault::Reject, 1.0)]);
    let file = world.rows("users.csv", 10);
    let done = world.import(&file, &["--max-failures", "9"]);
    assert_eq!(
        (done.code, world.outcomes().as_str()),
        (3, "rejected=10"),
        "its last rows are over the limit"
    );
    assert_eq!(world.summary()["state"], "completed");
    heal(&world);
    let requests = world.journal().requests();
    let more = world.file("users.csv", rows(0..10) + "cust-000010,98,\n");
    for (run, limit) in ["3", "1%"].into_iter().enumerate() {
        let done = world.import(&more, &["--max-failures", limit]);
        let created = ["created=1 rejected=10", "unchanged=1 rejected=10"][run];
        assert_eq!((done.code, world.outcomes().as_str()), (3, created), "{done:?}");
    }
    assert_eq!(world.journal().requests(), requests + 1);
}

#[test]
fn too_many_failures_stop_the_run_and_leave_the_rest_pending() {
    let world = world(&[(Fault::Reject, 1.0)]);
    let file = world.rows("users.csv", 400);
    let done = world.import(&file, &["--max-failures", "5", "--concurrency", "2"]);
    assert_eq!(done.code, 4, "{done:?}");
    assert!(done.stderr.starts_with("error: ") && done.stderr.matches('\n').count() == 1);
    assert!(done.stderr.contains("--max-failures"), "{done:?}");
    let summary = world.summary();
    let (rejected, pending) = (summary["rejected"].as_u64().unwrap(), summary["pending"].as_u64().unwrap());
    assert!(rejected > 5 && rejected < 400 && pending > 0, "{summary}");
    assert_eq!(summary["state"], "stopped");
    assert_eq!(world.journal().requests(), rejected);
    let outcomes: BTreeSet<String> =
        world.failed_rows().into_iter().map(|row| row["_outcome"].clone()).collect();
    assert_eq!(outcomes, ["pending".to_owned(), "rejected".to_owned()].into());
    heal(&world);
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.outcomes(), format!("created={} rejected={rejected}", 400 - rejected));
    world.assert_same_customers();
}

#[test]
fn an_outage_stops_the_run_and_costs_no_row_anything() {
    for outage in [Outage::Refuse, Outage::Http503, Outage::Reset] {
        let world = World::new();
        world.reconfigure(|behavior| behavior.outage = Some(outage));
        while outage == Outage::Refuse && TcpStream::connect(world.simulator.address()).is_ok() {
            std::thread::yield_now();
        }
        let file = world.rows("users.csv", 50);
        let done = world.import(&file, &["--outage-limit", "300ms", "--max-attempts", "3"]);
        assert_eq!(done.code, 4, "{outage:?} {done:?}");
        let words = ["network", "run the same command again"];
        assert!(words.iter().all(|word| done.stderr.contains(word)), "{done:?}");
        let spans = ["no successful answer for ", "no response for "];
        assert!(spans.iter().any(|words| done.stderr.contains(words)), "{done:?}");
        assert_eq!(world.outcomes(), "pending=50", "{outage:?}");
        heal(&world);
        let healed = Instant::now();
        while TcpStream::connect(world.simulator.address()).is_err() {
            assert!(healed.elapsed() < Duration::from_secs(5), "{outage:?}: the simulator is gone");
            std::thread::yield_now();
        }
        let done = world.import(&file, &["--outage-limit", "5s"]);
        assert_eq!(done.code, 0, "{outage:?} {done:?}");
        assert_eq!(world.outcomes(), "created=50");
        world.assert_same_customers();
    }
}

#[test]
fn an_error_under_a_200_is_a_refusal() {
    let world = world(&[(Fault::OkError, 1.0)]);
    let file = world.rows("users.csv", 2);
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.outcomes(), "rejected=2");
    for row in world.failed_rows() {
        assert_eq!((row["_error_code"].as_str(), row["_http_status"].as_str()), ("INVALID_REQUEST", "200"));
        assert_eq!(row["_error_message"], "Invalid request.");
    }
    assert_eq!((world.journal().requests(), world.journal().customers()), (2, 0));
}

#[test]
fn a_request_that_is_being_processed_already_is_asked_about_not_repeated() {
    let world = world(&[(Fault::DuplicateRequest, 1.0)]);
    let file = world.rows("users.csv", 3);
    let done = world.import(&file, &[]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!((world.journal().creates(), world.journal().gets()), (3, 3));
    world.assert_same_customers();
}

#[test]
fn a_customer_that_exists_and_is_not_found_is_asked_for_again_and_never_created_twice() {
    let world = World::new();
    let id = world.create_elsewhere("cust-000000");
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::NotFound, 1.0)]);
    let file = world.rows("users.csv", 1);
    assert_eq!(world.import(&file, &["--max-attempts", "3"]).code, 3);
    assert_eq!(world.outcomes(), "failed=1");
    // Our Create was the second, and the only one that landed.
    assert_eq!((world.journal().creates(), world.journal().gets()), (2, 3));
    heal(&world);
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "existing=1");
    assert_eq!(row(&world, "2"), ["cust-000000", "existing", &id, ""]);
}

/// Whether the API has not seen the request.
fn is_refused(status: Option<u16>) -> bool {
    matches!(status, Some(429 | 503))
}

/// Asserts that rows which occasionally meet this fault are created in the end, once each, and that after a Create
/// without a valid response only Get is sent until Get has been answered.
fn survives(fault: Fault, more: &[&str]) {
    let world = world(&[(fault, 0.4)]);
    let file = world.rows("users.csv", 30);
    let mut args = vec!["--max-attempts", "30"];
    args.extend(MANY_SLOTS);
    args.extend(more);
    let done = world.import(&file, &args);
    assert_eq!(done.code, 0, "{fault:?} {done:?}");
    assert_eq!(world.outcomes(), "created=30", "{fault:?}");
    world.assert_same_customers();
    let mut struck = 0;
    for (reference, story) in stories(&world) {
        struck += story.iter().filter(|entry| entry.fault == Some(fault)).count();
        for pair in story.windows(2) {
            let is_twice =
                pair.iter().all(|entry| entry.endpoint == Endpoint::Create && !is_refused(entry.status));
            assert!(!is_twice, "{fault:?}: two Creates of {reference} without a Get between");
        }
    }
    assert!(struck > 5, "{fault:?}");
    let summary = world.summary();
    assert_eq!(summary["requests"], world.journal().requests());
    assert_eq!(summary["retries"], world.journal().requests() - 30, "{fault:?}");
    // A proxy's 503 may be that of a limit.
    assert_eq!(summary["throttled"], if fault == Fault::Http503 { struck } else { 0 });
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "unchanged=30");
}

#[test]
fn a_500_of_which_nobody_knows_what_it_did() {
    survives(Fault::Http500, &[]);
}

#[test]
fn a_proxy_that_answers_503_in_html() {
    survives(Fault::Http503, &[]);
}

#[test]
fn a_connection_that_is_reset_before_the_work() {
    survives(Fault::ResetBefore, &[]);
}

#[test]
fn a_connection_that_is_reset_after_the_work() {
    survives(Fault::ResetAfter, &[]);
}

#[test]
fn a_request_that_is_never_answered() {
    survives(Fault::Timeout, &["--timeout", "200ms"]);
}

#[test]
fn an_answer_that_cannot_be_read() {
    survives(Fault::Garbage, &[]);
}

#[test]
fn an_answer_that_is_far_too_long() {
    survives(Fault::Flood, &[]);
}

#[test]
fn an_answer_about_somebody_else() {
    survives(Fault::WrongReference, &[]);
}

/// Four rows at an API that accepts two a second: one 429, and nothing sent before the end of the pause.
fn waits_out_a_429(retry_after: String, until: impl FnOnce(&Entry) -> Instant) {
    let world = World::with(Options { rate_limit: Some(2), ..Options::default() });
    world.reconfigure(|behavior| behavior.retry_after = retry_after);
    let file = world.rows("users.csv", 4);
    // The 429 costs no attempt.
    let done = world.import(&file, &["--concurrency", "1", "--max-attempts", "1"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(world.outcomes(), "created=4");
    let entries = world.journal().entries();
    let statuses: Vec<u16> = entries.iter().filter_map(|entry| entry.status).collect();
    assert_eq!(statuses, [200, 200, 429, 200, 200]);
    assert!(entries[3].at >= until(&entries[2]), "{entries:?}");
    let summary = world.summary();
    assert_eq!((&summary["throttled"], &summary["requests"]), (&1.into(), &5.into()));
    assert_eq!(summary["retries"], 1);
    world.assert_same_customers();
}

#[test]
fn a_429_with_seconds() {
    waits_out_a_429("1".into(), |refused| refused.at + Duration::from_millis(990));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a date is made for the header, from both clocks")]
fn a_429_with_a_date() {
    let (wall, clock) = (SystemTime::now(), Instant::now());
    // Headers have whole seconds, so this is at least three seconds from now: enough for the run to
    // begin, and for the window of the rate limit to have passed by then.
    let date = httpdate::fmt_http_date(wall + Duration::from_secs(4));
    let moment = httpdate::parse_http_date(&date).unwrap();
    let until = clock + moment.duration_since(wall).unwrap();
    waits_out_a_429(date, |_| until - Duration::from_millis(10));
}

#[test]
fn a_429_without_a_word_about_when() {
    waits_out_a_429(String::new(), |refused| refused.at + Duration::from_millis(100));
}
