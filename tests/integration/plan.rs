//! `plan`: reports what an import would do before it is done.
//!
//! The disaster is a plan that promises something else than the import does, or one that leaves a trace.

use customer_import::simulator::{Endpoint, Fault, Options};
use serde_json::{Value, json};

use crate::world::{MERCHANT, World, done, files, references, rows, wait_until};

const HEADER: &str = "object_reference_id,mobile_number,first_name\n";

/// The plan for a file as JSON; asserts that it contains the exit code.
fn plan(world: &World, file: &str, more: &[&str]) -> Value {
    let (base_url, mut args) = (world.base_url(), vec!["plan", file, "--format", "json"]);
    args.extend(["--base-url", &base_url, "--merchant-id", MERCHANT]);
    args.extend(more);
    let done = world.run(&args);
    let plan: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    assert_eq!((Some(i64::from(done.code)), done.stderr.as_str()), (plan["exit_code"].as_i64(), ""));
    plan
}

fn counts<const N: usize>(of: &Value, names: [&str; N]) -> [u64; N] {
    names.map(|name| of[name].as_u64().unwrap())
}

/// Compares the plan's counts with those of the following import of the same file.
fn assert_import_does(world: &World, file: &str, more: &[&str]) -> Value {
    let plan = plan(world, file, more);
    let code = world.import(&world.path(file), more).code;
    assert_eq!(plan["exit_code"], code, "{plan:#}");
    let did = world.summary();
    let [create, try_again, in_doubt] = counts(&plan, ["create", "try_again", "in_doubt"]);
    let planned =
        counts(&plan, ["rows", "update", "changed", "unchanged", "rejected", "duplicate", "invalid"]);
    let done = counts(&did, ["rows", "updated", "changed", "unchanged", "rejected", "duplicate", "invalid"]);
    assert_eq!(
        (planned, create + try_again + in_doubt),
        (done, did["created"].as_u64().unwrap()),
        "{plan:#}"
    );
    assert_eq!(plan["changed_fields"], did["changed_fields"]);
    assert!(plan["import"]["requests"].as_u64() <= did["requests"].as_u64(), "{plan:#}");
    plan
}

#[test]
fn an_import_does_what_its_plan_says() {
    let faults = vec![(Fault::Reject, 0.3), (Fault::Api503, 0.2), (Fault::WriteAlways500, 0.2)];
    let world = World::with(Options { faults, ..Options::default() });
    let first = world.rows("users.csv", 60);
    assert_ne!(world.import(&first, &["--max-attempts", "1"]).code, 0);
    world.reconfigure(|behavior| behavior.faults.clear());
    let imported = std::fs::read_to_string(&first).unwrap();
    let created = world.export("created");
    assert!(created.len() > 3, "{created:?}");
    // Three imported rows have another name now, one row that was refused is corrected, and there are new rows, the
    // last of which repeat the first and an invalid one.
    let mut lines: Vec<String> = imported.lines().map(str::to_owned).collect();
    for id in created.iter().take(3).map(|row| &row[0]) {
        let line = lines.iter_mut().find(|line| line.starts_with(id.as_str())).unwrap();
        *line = line.replace("98", "97");
    }
    let refused = world.query("select reference from row where outcome = 'rejected' order by id limit 1");
    let line = lines.iter_mut().find(|line| line.starts_with(&refused[0][0])).unwrap();
    *line = line.replace("98", "96");
    let mut text = lines.join("\n") + "\n";
    text += "new-wrong,x,\n";
    text += &rows(1000..2500);
    text += &rows(1000..1003);
    text += "new-wrong,9800000001,\nnew-right,x,\n";
    world.file("users.csv", &text);
    let ledger = std::fs::read(world.ledger()).unwrap();
    let planned = assert_import_does(&world, "users.csv", &[]);
    let names = ["create", "changed", "duplicate", "invalid"];
    assert_eq!(counts(&planned, names), [1500, 3, 4, 2]);
    for name in ["unchanged", "try_again", "in_doubt", "rejected"] {
        assert_ne!(planned[name], 0, "{name}: {planned:#}");
    }
    assert_ne!(ledger, std::fs::read(world.ledger()).unwrap(), "the import has written");
    let updating = assert_import_does(&world, "users.csv", &["--update-changed"]);
    assert_eq!(counts(&updating, ["update", "changed", "create"]), [3, 0, 0]);
    assert_import_does(&world, "users.csv", &["--update-changed", "--limit", "70"]);
}

/// What `validate` finds, a plan finds too, by the same code.
#[test]
fn a_plan_warns_and_advises_as_validate_does() {
    let world = World::new();
    let text = format!(
        "{HEADER}customer-1,9876500101,Asha\nCUSTOMER-1,9876500102,Mary Ann\ncustomer-2,x,Asha\ncustomer-2,9876500103,NULL\n"
    );
    world.file("users.csv", text.as_str());
    let planned = plan(&world, "users.csv", &[]);
    let done = world.run(&["validate", "users.csv", "--format", "json"]);
    let validated: Value = serde_json::from_str(&done.stdout).unwrap();
    for name in ["faults", "rescue", "warnings", "duplicates", "adjustments"] {
        assert_eq!(planned[name], validated[name], "{name}");
    }
    assert_eq!(planned["rescue"].as_array().unwrap().len(), 2, "{planned:#}");
    // A row that looks like one that was imported before.
    let text = format!("{HEADER}customer-1,9876500101,Asha\nCustomer -1,9876500102,Asha\n");
    let file = world.file("more.csv", text.as_str());
    let planned = plan(&world, "more.csv", &[]);
    assert_eq!(planned["warnings"][0]["warning"], "alike", "{planned:#}");
    assert_eq!(world.import(&file, &[]).code, 0);
    let base_url = world.base_url();
    let done = world.run(&["plan", "more.csv", "--base-url", &base_url, "--merchant-id", MERCHANT]);
    assert!(done.stdout.contains("warning: object_reference_id alike: 1 row, first on line 3"), "{done:?}");
}

#[test]
fn a_plan_leaves_no_trace_and_sends_nothing() {
    let world = World::new();
    let file = world.file("users.csv", format!("{HEADER}cust-0001,1,Ann\ncust-0002,2,Mary Ann\n"));
    let before = files(world.folder.path());
    // Neither a key nor a merchant id is needed.
    let mut command = world.command(&["plan", "users.csv"]);
    let done = command.env_remove("JUSPAY_API_KEY").output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert_eq!((done.status.code(), done.stderr.as_slice()), (Some(3), b"".as_slice()), "{text}");
    for words in
        ["does not exist yet", "create                  1", "first_name character", "at least 1 request"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(text.contains("object_reference_id ← object_reference_id") && !text.contains("Mary"), "{text}");
    assert_eq!(files(world.folder.path()), before, "no ledger is made");
    assert_eq!(world.import(&file, &[]).code, 3);
    let (ledger, requests) = (std::fs::read(world.ledger()).unwrap(), world.summary()["requests"].clone());
    let planned = plan(&world, "users.csv", &["--summary-json", "plan.json"]);
    assert_eq!(counts(&planned, ["create", "unchanged", "invalid"]), [0, 1, 1]);
    let written = std::fs::read(world.path("plan.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), planned);
    assert_eq!((requests, world.journal().creates()), (json!(1), 1));
    assert_eq!(std::fs::read(world.ledger()).unwrap(), ledger);
}

#[test]
fn where_nothing_stands_in_the_way_it_is_0() {
    let world = World::new();
    let file = world.rows("users.csv", 3);
    assert_eq!(plan(&world, "users.csv", &[])["exit_code"], 0);
    assert_eq!(world.import(&file, &[]).code, 0);
    let planned = plan(&world, "users.csv", &["--rate", "10"]);
    assert_eq!((&planned["exit_code"], &planned["import"]["requests"]), (&json!(0), &json!(0)));
    let done = world.aim("plan", &["users.csv", "--expect-rows", "4"]);
    assert_eq!(done.code, 3);
    assert!(done.stderr.contains("at least 4 are expected"), "{done:?}");
}

/// Rows that are new to the ledger: of 300, 100 exist already, 20 of them with another number.
fn half_there() -> World {
    let world = World::new();
    let file = world.rows("users.csv", 300);
    world.import(&file, &["--limit", "100", "--ledger", "another.db"]);
    for reference in references(0..20) {
        world.update_elsewhere(&reference, "mobile_number=9000000007");
    }
    world
}

#[test]
fn the_api_is_asked_by_get_alone_and_nothing_is_recorded() {
    let world = half_there();
    let file = world.path("users.csv");
    assert_eq!(world.import(&file, &["--limit", "10"]).code, 0, "ten are in the ledger now");
    let (ledger, requests) = (std::fs::read(world.ledger()).unwrap(), world.journal().entries().len());
    let planned = plan(&world, "users.csv", &["--ask", "all", "--rate", "unlimited"]);
    let asked = &planned["asked"];
    assert_eq!(counts(&planned, ["create", "changed"]), [290, 10], "{planned:#}");
    assert_eq!(counts(asked, ["rows", "new", "same", "different", "unanswered"]), [290, 200, 80, 10, 0]);
    assert_eq!(asked["different_fields"], json!({"mobile_number": 10}));
    let share = &asked["existing_share"];
    assert_eq!(counts(share, ["rows", "rows_low", "rows_high"]), [90, 90, 90], "exact: {share}");
    assert_eq!((&asked["state"], &asked["requests"]), (&json!("completed"), &json!(290)));
    assert_eq!(std::fs::read(world.ledger()).unwrap(), ledger);
    let entries = world.journal().entries();
    assert_eq!(entries.len(), requests + 290);
    assert!(entries[requests..].iter().all(|entry| entry.endpoint == Endpoint::Get));
    // The import then needs the number of requests in the plan.
    assert_eq!(planned["import"]["requests"], 290 + 90);
    assert_eq!(world.import(&file, &[]).code, 0);
    let did = world.summary();
    assert_eq!(counts(&did, ["created", "existing", "existing_differing_rows"]), [200, 90, 10]);
    assert_eq!(did["requests"], 290 + 90);
}

#[test]
fn a_sample_gives_a_share_and_its_interval() {
    let world = half_there();
    for (ask, rows) in [("1", 1), ("60", 60), ("300", 300), ("1000", 300)] {
        let planned = plan(&world, "users.csv", &["--ask", ask, "--rate", "unlimited"]);
        let asked = &planned["asked"];
        let [looked_up, new, same, different] = counts(asked, ["rows", "new", "same", "different"]);
        assert_eq!((looked_up, new + same + different), (rows, rows), "{planned:#}");
        let [low, at, high] = counts(&asked["existing_share"], ["rows_low", "rows", "rows_high"]);
        assert!(low <= at && at <= high && (low < high) == (rows < 300), "{planned:#}");
    }
    let done = world.aim("plan", &["users.csv", "--ask", "50"]);
    assert_eq!(done.code, 0, "{done:?}");
    for words in ["asked about 50 of 300 rows to create", "there already: ", "95 % interval", "about"] {
        assert!(done.stdout.contains(words), "{words}: {done:?}");
    }
}

#[test]
fn what_keeps_the_api_from_answering_is_told_with_its_exit_code() {
    let world = half_there();
    for wrong in ["0", "-1", "some", "1.5"] {
        let done = world.aim("plan", &["users.csv", "--ask", wrong]);
        done.assert_error(2, &["--ask", "a number of rows, such as 500, or all"]);
    }
    let args = ["plan", "users.csv", "--ask", "all"];
    world.run(&args).assert_error(2, &["no merchant id"]);
    let base_url = world.base_url();
    let args = [&args[..], &["--merchant-id", MERCHANT, "--base-url", &base_url]].concat();
    let mut command = world.command(&args);
    let refused = done(command.env("JUSPAY_API_KEY", "wrong").output().unwrap());
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("refused the credentials"), "{refused:?}");
    assert!(refused.stdout.contains("not read to its end"), "{refused:?}");
    let sampled = [&args[..3], &["5"], &args[4..]].concat();
    let refused = done(world.command(&sampled).env("JUSPAY_API_KEY", "wrong").output().unwrap());
    assert!(refused.code == 4 && refused.stdout.contains("create                300"), "{refused:?}");
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::Always500, 0.2)]);
    let planned = plan(&world, "users.csv", &["--ask", "all", "--rate", "unlimited", "--max-attempts", "1"]);
    assert_eq!(planned["exit_code"], 4);
    assert_ne!(planned["asked"]["unanswered"], 0, "{planned:#}");
}

#[test]
fn a_ledger_of_another_target_is_refused() {
    let world = World::new();
    let file = world.rows("users.csv", 3);
    assert_eq!(world.import(&file, &[]).code, 0);
    let base_url = world.base_url();
    for target in [&["--base-url", base_url.as_str(), "--merchant-id", "another"][..], &["--simulator"], &[]]
    {
        let done = world.run(&[&["plan", "users.csv"], target].concat());
        done.assert_error(2, &["belongs to", "--ledger"]);
    }
    assert_eq!(world.run(&["plan", "users.csv", "--base-url", &base_url]).code, 0, "of any merchant");
    std::fs::write(world.ledger(), "no ledger at all").unwrap();
    world.run(&["plan", "users.csv"]).assert_error(2, &["ledger"]);
}

#[test]
fn what_a_run_has_claimed_is_in_doubt_while_it_goes_on_and_after_its_death() {
    let world = World::with(Options { faults: vec![(Fault::Timeout, 1.0)], ..Options::default() });
    let file = world.rows("users.csv", 30);
    let mut run = world.start_import(&file, &["--concurrency", "4"]);
    assert!(wait_until(&mut run, || world.journal().requests() == 4));
    let during = plan(&world, "users.csv", &[]);
    assert_eq!((&during["running"], &during["ledger_exists"]), (&json!(1), &json!(true)));
    let [in_doubt, create] = counts(&during, ["in_doubt", "create"]);
    assert!(in_doubt >= 4 && in_doubt + create == 30, "{during:#}");
    run.kill().unwrap();
    run.wait().unwrap();
    let after = plan(&world, "users.csv", &[]);
    let [claimed, create] = counts(&after, ["in_doubt", "create"]);
    assert!(claimed >= in_doubt && claimed + create == 30, "{after:#}");
    assert_eq!(after["running"], Value::Null);
    world.file("other.csv", format!("{HEADER}cust-9001,1,Ann\n"));
    let other = plan(&world, "other.csv", &[]);
    assert_eq!(counts(&other, ["in_doubt", "ledger_in_doubt", "create"]), [0, claimed, 1]);
    assert_eq!(other["import"]["requests"], claimed + 1);
    world.reconfigure(|behavior| behavior.faults.clear());
    assert_import_does(&world, "users.csv", &[]);
}
