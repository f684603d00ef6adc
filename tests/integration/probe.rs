//! `probe`: its questions, the API's answers, and whether they are those that this program relies on.
//!
//! The disaster: customers in somebody's production for good; a probe that reports success because it has not looked;
//! and a key in a file that was made to be shared.

use std::collections::BTreeSet;

use customer_import::simulator::{Endpoint, Fault, Options, Outage, Profile};
use serde_json::Value;

use crate::{
    wire::{Wire, json},
    world::{Done, KEY, MERCHANT, World},
};

/// Each question in order, with the answer of a current account, and of an API exactly as documented on its page. `!`
/// marks an answer that differs from what is relied on, `-` an answer where nothing is relied on.
const TABLE: [[&str; 3]; 50] = [
    ["create", "200 customer", "200 customer"],
    ["id", "cth_ and 16 characters of both cases", "cst_ and 16 characters of lower case"],
    ["object", "customer", "customer"],
    ["reference", "as it was sent", "as it was sent"],
    ["date", "9999-99-99T99:99:99Z", "9999-99-99T99:99:99Z"],
    ["country_code", "-91", "-absent"],
    ["create_again", "400 unique ALREADY_EXISTS", "400 unique"],
    ["create_again_changes", "no", "no"],
    ["get_by_reference", "the same customer", "the same customer"],
    ["get_by_id", "the same customer", "the same customer"],
    ["get_unknown", "404 object_not_found RESOURCE_NOT_FOUND", "404 object_not_found"],
    ["get_other_case", "-404 object_not_found RESOURCE_NOT_FOUND", "-404 object_not_found"],
    ["create_other_case", "-200 customer", "-200 customer"],
    ["get_without_routing_id", "-400 MISSING_MANDATORY_PARAMETER", "-200 customer"],
    ["get_other_routing_id", "-200 customer", "-200 customer"],
    ["create_without_routing_id", "-400 MISSING_MANDATORY_PARAMETER", "-200 customer"],
    ["key_without_colon", "-200 customer", "-200 customer"],
    ["wrong_key", "401 access_denied UNAUTHORIZED", "401 access_denied"],
    ["json_body", "-200 customer", "-200 customer"],
    ["merchant_other_case", "401 access_denied UNAUTHORIZED", "!200 customer"],
    ["mobile_empty", "400 Invalid Request INVALID_INPUT", "400 Mandatory fields are missing"],
    ["mobile_with_plus", "-200 customer", "-200 customer"],
    ["mobile_negative", "400 Invalid Request INVALID_INPUT", "!200 customer"],
    ["mobile_16", "200 customer", "200 customer"],
    ["mobile_17", "400 Invalid Request INVALID_INPUT", "!200 customer"],
    ["name_with_space_and_quote", "-200 customer", "-200 customer"],
    ["name_in_devanagari", "-200 customer", "-200 customer"],
    ["name_in_devanagari_kept", "-yes", "-yes"],
    ["name_64", "200 customer", "200 customer"],
    ["name_65", "400 Invalid Request INVALID_INPUT", "!200 customer"],
    ["reference_128", "200 customer", "200 customer"],
    ["reference_129", "400 Invalid Request INVALID_INPUT", "!200 customer"],
    ["reference_7", "400 Invalid Request INVALID_INPUT", "400 INVALID_INPUT"],
    ["reference_with_slash", "200 customer", "200 customer"],
    ["get_with_slash", "the same customer", "the same customer"],
    ["update", "200 customer", "200 customer"],
    ["update_changes", "yes", "yes"],
    ["update_keeps", "yes", "yes"],
    ["update_unknown", "404 object_not_found RESOURCE_NOT_FOUND", "404 object_not_found"],
    ["update_by_reference", "-200 customer", "-200 customer"],
    ["update_empty", "-200 customer", "-200 customer"],
    ["update_clears_email", "-empty", "-empty"],
    ["update_clears_country_code", "-91", "-empty"],
    ["update_mobile_empty", "-400 Invalid Request INVALID_INPUT", "-200 customer"],
    ["token_on_create", "a token", "a token"],
    ["token_on_get", "-a token", "-no token"],
    ["v2_create", "-404 object_not_found RESOURCE_NOT_FOUND", "-404 object_not_found"],
    ["v2_create_again", "-not asked: it was not created", "-not asked: it was not created"],
    ["list", "-405 method_not_allowed", "-405 method_not_allowed"],
    ["rate_headers", "-none", "-none"],
];

fn world(profile: Profile) -> World {
    World::with(Options { profile, ..Options::default() })
}

fn probe(world: &World, more: &[&str]) -> Done {
    let base_url = world.base_url();
    let mut args = vec!["probe", "--base-url", &base_url, "--merchant-id", MERCHANT];
    if !more.contains(&"--rate") {
        args.extend(["--rate", "unlimited"]);
    }
    world.run(&[&args[..], more].concat())
}

fn record(world: &World, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(world.path(name)).unwrap()).unwrap()
}

#[track_caller]
fn refused(done: &Done, code: i32, words: &[&str]) {
    assert_eq!((done.code, done.stdout.as_str()), (code, ""), "{done:?}");
    assert!(done.stderr.starts_with("error: ") && done.stderr.lines().count() == 1, "{done:?}");
    for word in words {
        assert!(done.stderr.contains(word), "no {word:?} in {done:?}");
    }
}

/// Compares the table for people and the file, line by line; the probe's requests are those that it reports.
#[test]
fn both_profiles_answer_as_the_table_says() {
    for (profile, column, code) in [(Profile::Today, 1, 0), (Profile::Page, 2, 3)] {
        let world = world(profile);
        let done = probe(&world, &["--output", "probe.json"]);
        assert_eq!((done.code, done.stderr.as_str()), (code, ""), "{done:?}");
        let record = record(&world, "probe.json");
        let questions = record["questions"].as_array().unwrap();
        let names: Vec<&str> = questions.iter().map(|it| it["question"].as_str().unwrap()).collect();
        assert_eq!(names, TABLE.map(|row| row[0]));
        for (row, found) in TABLE.iter().zip(questions) {
            let (is_as_relied_on, mark, answer) = match row[column].split_at(1) {
                ("-", answer) => (Value::Null, "-", answer),
                ("!", answer) => (false.into(), "NO", answer),
                _ => (true.into(), "yes", row[column]),
            };
            assert_eq!(
                (&found["answer"], &found["is_as_relied_on"]),
                (&answer.into(), &is_as_relied_on),
                "{row:?}"
            );
            assert_eq!(found["relied_on"].is_null(), is_as_relied_on.is_null(), "{row:?}");
            let line =
                done.stdout.lines().find(|line| line.trim_start().starts_with(&format!("{} ", row[0])));
            let line = line.unwrap();
            assert!(line.contains(answer) && line.ends_with(mark), "{line}");
        }
        let requests = record["requests"].as_u64().unwrap();
        assert_eq!(world.journal().requests(), requests);
        assert!((36..=48).contains(&requests), "{requests}");
        let run = record["run"].as_str().unwrap();
        let created = world.journal().created();
        assert_eq!(created.len() as u64, record["customers"].as_u64().unwrap());
        assert!((12..=18).contains(&created.len()), "{created:?}");
        let prefix = format!("probe-{run}-");
        assert!(created.keys().all(|reference| reference.starts_with(&prefix)), "{created:?}");
        assert!(done.stdout.contains("no call that deletes them"), "{done:?}");
    }
}

#[test]
fn one_request_at_a_time_and_no_faster_than_told() {
    let world = World::new();
    let began = std::time::Instant::now();
    assert_eq!(probe(&world, &["--rate", "100"]).code, 0);
    let requests = world.journal().requests() as u32;
    assert!(began.elapsed() >= std::time::Duration::from_millis(10) * (requests - 1));
    assert_eq!(world.journal().peak_in_flight(), 1);
    assert!(!world.ledger().exists(), "it has no ledger");
}

#[test]
fn the_embedded_simulator_needs_nothing() {
    let world = World::new();
    let mut command = world.command(&["probe", "--simulator"]);
    let done = crate::world::done(command.env_remove("JUSPAY_API_KEY").output().unwrap());
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    assert_eq!(world.journal().requests(), 0);
    let quiet = world.run(&["probe", "--simulator", "-q", "--output", "probe.json"]);
    assert_eq!((quiet.code, quiet.stdout.as_str()), (0, ""), "{quiet:?}");
    assert!(world.path("probe.json").exists());
}

#[test]
fn what_has_changed_since_an_earlier_probe_is_told() {
    let world = world(Profile::Today);
    assert_eq!(probe(&world, &["--output", "then.json"]).code, 0);
    let same = probe(&world, &["--compare", "then.json", "--output", "again.json"]);
    assert_eq!(same.code, 0, "another probe of the same API answers the same: {same:?}");
    assert!(same.stdout.contains("Nothing has changed since then.json"), "{same:?}");
    assert_eq!(record(&world, "again.json")["changes"], Value::Array(Vec::new()));
    world.reconfigure(|behavior| behavior.profile = Profile::Page);
    let done = probe(&world, &["--compare", "then.json", "--output", "now.json"]);
    assert_eq!(done.code, 3);
    let expected: Vec<&[&str; 3]> = TABLE.iter().filter(|row| row[1] != row[2]).collect();
    let changes = record(&world, "now.json")["changes"].as_array().unwrap().clone();
    assert_eq!(changes.len(), expected.len());
    let (_, listed) = done.stdout.split_once("Changed since then.json:\n").unwrap();
    for ((row, change), line) in expected.iter().zip(&changes).zip(listed.lines()) {
        let [question, before, now] = row.map(|text| text.trim_start_matches(['-', '!']));
        assert_eq!([&change["question"], &change["before"], &change["now"]], [question, before, now]);
        assert_eq!(line, format!("  {question}: {before} before, {now} now"));
    }
    // Drift alone ends with 3, even if all answers are those relied on; a new or removed question is drift.
    world.reconfigure(|behavior| behavior.profile = Profile::Today);
    let then = std::fs::read_to_string(world.path("then.json")).unwrap().replace("\"list\"", "\"gone\"");
    world.file("other.json", then);
    let done = probe(&world, &["--compare", "other.json"]);
    assert_eq!(done.code, 3, "{done:?}");
    for line in [
        "  list: not asked before, 405 method_not_allowed now\n",
        "  gone: 405 method_not_allowed before, not asked now\n",
    ] {
        assert!(done.stdout.contains(line), "{done:?}");
    }
}

#[test]
fn production_is_refused_whatever_is_said() {
    let world = World::new();
    let hosts = [
        "https://api.juspay.in",
        "https://payments.juspay.in",
        "https://api-ns1.juspay.in/",
        "https://API.juspay.io.",
        "https://smartgateway.hdfcbank.com",
        "https://api.hyperpg.in",
    ];
    let base_url = world.base_url();
    let mut targets: Vec<Vec<&str>> = hosts.map(|host| vec!["--base-url", host]).to_vec();
    targets.push(vec!["--environment", "production"]);
    targets.push(vec!["--environment", "production", "--base-url", &base_url]);
    for target in targets {
        let args = [&["probe", "--merchant-id", MERCHANT, "--yes", "--timeout", "1s"], &target[..]].concat();
        refused(&world.run(&args), 2, &["production is not probed", "sandbox"]);
    }
    world.file("nightly.toml", include_str!("../../samples/nightly.toml"));
    refused(&world.run(&["probe", "--config", "nightly.toml"]), 2, &["production is not probed"]);
    assert_eq!(world.journal().requests(), 0);
}

#[test]
fn without_a_first_customer_there_is_one_line_and_4() {
    let world = World::new();
    world.reconfigure(|behavior| behavior.key_revoked = true);
    refused(
        &probe(&world, &["--output", "p.json"]),
        4,
        &["401 access_denied UNAUTHORIZED", "check the API key"],
    );
    assert!(!world.path("p.json").exists());
    world.reconfigure(|behavior| (behavior.key_revoked, behavior.forbidden) = (false, true));
    refused(&probe(&world, &[]), 4, &["403", "IP Verification Failed", "allow-list"]);
    world.reconfigure(|behavior| {
        (behavior.forbidden, behavior.redirect_to) = (false, Some("http://x/".into()))
    });
    refused(&probe(&world, &[]), 4, &["302", "--base-url"]);
    world.reconfigure(|behavior| (behavior.redirect_to, behavior.outage) = (None, Some(Outage::Hang)));
    refused(&probe(&world, &["--timeout", "100ms"]), 4, &["no answer in time", "network"]);
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Http503));
    refused(&probe(&world, &[]), 4, &["503", "later"]);
    world.reconfigure(|behavior| behavior.outage = None);
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::Reject, 1.0)]);
    refused(&probe(&world, &[]), 4, &["HTTP 400", "this account"]);
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Refuse));
    refused(&probe(&world, &[]), 4, &["refused", "network"]);
    assert_eq!(world.journal().customers(), 0);
}

#[test]
fn an_api_that_falls_silent_ends_it() {
    let world = World::new();
    let wire = Wire::new(|call| {
        if call.request.reference.ends_with("-first") && call.request.create {
            call.answer_honestly();
        } else {
            call.close();
        }
    });
    wire.watch_nobody();
    let url = wire.url();
    let done = world.run(&["probe", "--base-url", &url, "--merchant-id", MERCHANT]);
    refused(&done, 4, &["no longer answers", "probe again"]);
}

#[test]
fn a_limit_is_waited_for() {
    let world = World::with(Options { rate_limit: Some(20), ..Options::default() });
    let done = probe(&world, &["--output", "p.json"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(world.journal().throttled() > 0);
    let questions = record(&world, "p.json")["questions"].as_array().unwrap().clone();
    assert_eq!(questions.last().unwrap()["answer"], "retry-after", "and told");
}

#[test]
fn a_limit_that_never_has_room_ends_it() {
    let world = World::new();
    world.reconfigure(|behavior| {
        behavior.faults = vec![(Fault::Http429, 1.0)];
        behavior.retry_after = "0".into();
    });
    refused(&probe(&world, &[]), 4, &["429", "--rate"]);
    assert_eq!(world.journal().requests(), 6);
}

/// If the routing id is off, it is off for all questions.
#[test]
fn without_a_routing_id_none_is_sent() {
    let world = world(Profile::Today);
    refused(&probe(&world, &["--no-routing-id"]), 4, &["MISSING_MANDATORY_PARAMETER", "this account"]);
    world.reconfigure(|behavior| behavior.profile = Profile::Page);
    assert_eq!(probe(&world, &["--no-routing-id", "--output", "p.json"]).code, 3);
    let written = std::fs::read_to_string(world.path("p.json")).unwrap();
    assert!(!written.contains("x-routing-id: "), "{written}");
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_sent() {
    let world = World::new();
    world.file("text.json", "no JSON");
    world.file("other.json", "{\"rows\":7}");
    for (args, words) in [
        (&["--compare", "none.json"][..], &["cannot read none.json", "--compare"][..]),
        (&["--compare", "text.json"], &["text.json has no answers of a probe"]),
        (&["--compare", "other.json"], &["other.json has no answers of a probe"]),
        (&["--output", "none/p.json"], &["cannot write none/p.json", "--output"]),
        (&["--compare", "other.json", "--output", "other.json"], &["--output other.json would overwrite"]),
        (&["--rate", "0"], &["--rate", "a number of requests per second"]),
        (&["users.csv"], &["users.csv"]),
    ] {
        refused(&probe(&world, args), 2, words);
    }
    let base_url = world.base_url();
    refused(&world.run(&["probe", "--base-url", &base_url]), 2, &["no merchant id"]);
    assert_eq!(world.journal().requests(), 0);
}

/// Even if the API repeats the key in any text, and the log has its finest level.
#[test]
fn no_secret_is_shown_or_written() {
    const ON_THE_WIRE: &str = "dGVzdF9rZXlfOGQxZj";
    let world = World::new();
    let wire = Wire::new(|call| {
        let text = format!("{KEY} and {ON_THE_WIRE}E6 of tkn_canary\\u001b[31m");
        let body = format!(
            r#"{{"status":"{text}","error_code":"{text}","error_message":"{text}","error_info":{{"code":"{text}",
                "user_message":"{text}","developer_message":"{text}"}},"date_created":"{text}","email_address":"{text}"}}"#
        );
        let first = call.request.create && call.request.reference.ends_with("-first");
        let customer = body.replace("\"error_", "\"x_").replace("\"status\"", "\"id\":\"cth_1\",\"x\"");
        let token = format!(r#"{{"juspay":{{"client_auth_token":"tkn_canary"}},{}"#, &customer[1..]);
        call.send(if first { json(200, token) } else { json(400, body) });
    });
    wire.watch_nobody();
    let url = wire.url();
    let args =
        ["probe", "--base-url", &url, "--merchant-id", "merchant_canary", "--output", "p.json", "-vvv"];
    let mut command = world.command(&args);
    let done = crate::world::done(command.env("RUST_LOG", "trace").output().unwrap());
    assert_eq!(done.code, 3, "{done:?}");
    let received = wire.received();
    assert!(
        received.iter().any(|request| request.head.contains(ON_THE_WIRE))
            && received.iter().any(|request| request.update)
    );
    let written = std::fs::read_to_string(world.path("p.json")).unwrap();
    for text in [&done.stdout, &done.stderr, &written] {
        for secret in [KEY, ON_THE_WIRE, "tkn_", "merchant_canary", "\u{1b}"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    assert!(written.contains("withheld") && written.contains("hidden"));
}

/// The requests are those in the file.
#[test]
fn each_request_is_described_as_it_was_sent() {
    let world = World::new();
    assert_eq!(probe(&world, &["--output", "p.json"]).code, 0);
    let record = record(&world, "p.json");
    let questions = record["questions"].as_array().unwrap();
    let of = |name: &str| questions.iter().find(|it| it["question"] == name).unwrap()["request"].clone();
    let has = |name: &str, header: &str| {
        let headers = of(name)["headers"].as_array().unwrap().clone();
        headers.iter().any(|it| it.as_str().unwrap().starts_with(header))
    };
    assert!(
        has("create", "x-routing-id: probe-")
            && has("create", "content-type: application/x-www-form-urlencoded")
    );
    assert!(
        !has("create_without_routing_id", "x-routing-id")
            && has("json_body", "content-type: application/json")
    );
    assert!(has("key_without_colon", "authorization: Basic (hidden; the key without a colon)"));
    assert!(has("merchant_other_case", "x-merchantid: (hidden, in other letters)"));
    assert!(of("get_with_slash")["path"].as_str().unwrap().ends_with("-a%2Fb%20c%2Bd"));
    assert_eq!(
        (of("list")["path"].as_str(), of("list")["method"].as_str()),
        (Some("/customers?count=1"), Some("GET"))
    );
    assert_eq!(of("update_mobile_empty")["body"], "mobile_number=");
    assert_eq!(of("rate_headers"), Value::Null);
    let answered: BTreeSet<&str> = questions.iter().filter_map(|it| it["response_id"].as_str()).collect();
    assert!(answered.contains("simulator-1"), "{answered:?}");
    // If the API says that a Create is refused, the journal confirms that no customer was created.
    let entries = world.journal().entries();
    let refused =
        entries.iter().filter(|it| it.endpoint == Endpoint::Create && it.status == Some(400)).count();
    assert!(refused >= 7, "{refused}");
}
