//! Canary values in every input, and a search through every output.
//!
//! The disaster: the key of a payment account in a log that a colleague attaches to a ticket, a token that permits
//! payments in a file that is backed up for years, or the phone numbers of ten thousand people in a log collector.
//! Each value here is unique, and occurs only in one input.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    process::Command,
};

use crate::{
    wire::{Call, Wire, clock, json},
    world::{Done, KEY, World, finish, mode, wait_until},
};

/// The key, plain and as it is sent; the latter is a constant rather than computed as in the program.
const KEYS: [&str; 2] = [KEY, "dGVzdF9rZXlfOGQxZj"];

const TOKEN: &str = "tkn_canary0123456789abcdef";

/// Values of customers: e-mail, phone, names and the reference. Lower case; compared without regard to case.
const FIELDS: [&str; 5] = ["canary.mail", "7770001234", "canaryfirst", "canarylast", "canary-ref"];

/// The same without the reference, which the ledger stores.
const BUT_REFERENCE: [&str; 4] = ["canary.mail", "7770001234", "canaryfirst", "canarylast"];

const HEADER: &str = "object_reference_id,mobile_number,email_address,first_name,last_name\n";

/// The rows; [`answer`] defines the API's response to each.
fn users() -> String {
    let mut text = HEADER.to_owned();
    for number in 0..9 {
        text.push_str(&format!(
            "canary-ref-{number},7770001234,canary.mail{number}@example.com,Canaryfirst,Canarylast\n"
        ));
    }
    text
}

/// Rows that are never sent: a duplicate, and one that breaks every rule.
const NOT_SENT: &str = "canary-ref-0,7770001234,canary.mail@example.com,Canaryfirst,Canarylast\n\
                        canary-ref-x,+7770001234,canary.mail@canary.mail@,Canaryfirst !,Canarylast !\n";

/// A customer with a token that must not be stored.
fn with_token(call: &Call<'_>, id: &str) -> Vec<u8> {
    let reference = &call.request.reference;
    let now = humantime::format_rfc3339_seconds(clock());
    json(
        200,
        format!(
            r#"{{"id":"{id}","object":"customer","object_reference_id":"{reference}","mobile_number":"7770001234",
                "email_address":"canary.mail@example.com","first_name":"Canaryfirst","last_name":"Canarylast",
                "date_created":"{now}","juspay":{{"client_auth_token":"{TOKEN}","client_auth_token_expiry":"2099-01-01T00:00:00Z"}}}}"#
        ),
    )
}

/// Each row meets another kind of failure, and each response contains the token and the customer.
fn answer(call: &mut Call<'_>) {
    let truth = with_token(call, "cst_ofacanary");
    let number = call.request.reference.trim_start_matches("canary-ref-").to_owned();
    match (&*number, call.request.create) {
        ("1", true) => drop(call.send(json(500, &truth))),
        ("2", true) => drop(call.send(json(
            400,
            r#"{"status":"invalid_request_error","error_code":"INVALID_INPUT","error_message":"no"}"#,
        ))),
        ("3", true) => drop(call.send(json(200, format!("<p>{TOKEN} canary.mail@example.com 7770001234")))),
        ("4", true) => drop(call.send(json(
            200,
            format!(r#"{{"id":"cst_lie","object_reference_id":"canary-ref-other","juspay":{{"client_auth_token":"{TOKEN}"}}}}"#),
        ))),
        ("5", true) => drop(call.send(json(
            200,
            format!(r#"{{"status":"ERROR","error_code":"INVALID_REQUEST","juspay":{{"client_auth_token":"{TOKEN}"}}}}"#),
        ))),
        ("6", true) => {
            call.send(&truth[..truth.len() - 9]);
            call.close();
        }
        ("7", true) => {
            call.send(format!("HTTP/1.1 200 {TOKEN} canary.mail\r\nX-Canary.mail: {TOKEN}\r\n7770001234\r\n\r\n"));
            call.close();
        }
        ("8", _) => call.hang(),
        _ => drop(call.send(truth)),
    }
}

#[track_caller]
fn assert_absent(text: &[u8], what: &[&str], origin: &str) {
    let text = String::from_utf8_lossy(text).to_lowercase();
    for canary in what {
        let found = text.find(&canary.to_lowercase()).map(|at| {
            let begin = text[..at].char_indices().rev().nth(80).map_or(0, |(at, _)| at);
            let end = text[at..].char_indices().nth(80).map_or(text.len(), |(end, _)| at + end);
            text[begin..end].to_owned()
        });
        assert_eq!(found, None, "{canary} in {origin}");
    }
}

/// Asserts that standard output and error, the log and the summary contain no canary.
#[track_caller]
fn assert_says_nothing(world: &World, done: &Done) {
    let mut seen = vec![
        ("standard output", done.stdout.clone().into_bytes()),
        ("standard error", done.stderr.clone().into_bytes()),
    ];
    for name in ["log.txt", "summary.json"] {
        if let Ok(bytes) = fs::read(world.path(name)) {
            seen.push((name, bytes));
        }
    }
    for (origin, bytes) in seen {
        assert_absent(&bytes, &KEYS, origin);
        assert_absent(&bytes, &[TOKEN, "tkn_", "panicked"], origin);
        assert_absent(&bytes, &FIELDS, origin);
    }
}

/// Reports are shared.
#[track_caller]
fn assert_reports_say_nothing(world: &World) {
    for format in ["text", "json", "html"] {
        let done = world.run(&["report", "--format", format]);
        assert_eq!(done.code, 0, "{done:?}");
        assert_says_nothing(world, &done);
    }
    assert_says_nothing(world, &world.run(&["status", "--format", "json"]));
}

/// The ledger and the files beside it; asserts that only the owner can read them.
fn ledger_files(world: &World) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(world.folder.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: Vec<(String, Vec<u8>)> = names
        .filter(|name| name.starts_with("ledger.db"))
        .map(|name| {
            let path = world.path(&name);
            assert_eq!(mode(&path), 0o600, "{name}");
            (name, fs::read(path).unwrap())
        })
        .collect();
    assert!(files.iter().any(|(name, _)| name == "ledger.db"));
    files
}

/// Fields of customers are in the raw records of unsuccessful rows, references also in their column, and nowhere
/// else.
fn assert_fields_only_where_readme_says(world: &World) {
    let columns = world.query(
        "select m.name, c.name from sqlite_schema m join pragma_table_info(m.name) c where m.type = 'table'",
    );
    assert!(columns.len() > 40, "{columns:?}");
    for column in columns {
        let (table, column) = (&column[0], &column[1]);
        let canaries = match (&**table, &**column) {
            ("record" | "unsendable", "cells") => continue,
            ("row" | "unsendable", "reference") | ("claim_batch", "claims") => &BUT_REFERENCE[..],
            _ => &FIELDS[..],
        };
        for canary in canaries {
            let sql = format!(
                "select count(*) from \"{table}\" where cast(\"{column}\" as text) like '%{canary}%'"
            );
            assert_eq!(world.number(&sql), 0, "{canary} in {table}.{column}");
        }
    }
}

const LOUD: [&str; 5] = ["-vv", "--get-client-auth-token", "--concurrency", "400", "--max-attempts=2"];

fn trace(command: &mut Command) {
    command
        .env("RUST_LOG", "trace,hyper=trace,reqwest=trace,sqlx=trace,customer_import=trace")
        .env("RUST_BACKTRACE", "full");
}

#[test]
fn no_output_tells_of_keys_tokens_or_customers() {
    let outputs: [&[&str]; 3] = [
        &["--log-file", "log.txt"],
        &["--log-file", "log.txt", "--log-format", "json"],
        &["--log-format", "json", "--progress", "always"],
    ];
    for output in outputs {
        let world = World::new();
        let file = world.file("users.csv", users() + NOT_SENT);
        let wire = Wire::new(answer);
        let more = [&LOUD[..], output, &["--timeout", "300ms"]].concat();
        let done = finish(wire.start(&world, &file, &more, trace));
        assert_eq!(done.code, 4, "{done:?}");
        assert_eq!(world.outcomes(), "created=6 duplicate=1 invalid=1 rejected=2 pending=1");
        let log = fs::read_to_string(world.path("log.txt")).unwrap_or_else(|_| done.stderr.clone());
        assert!(log.lines().count() > 10, "not much of a log: {log}");
        assert_says_nothing(&world, &done);
        assert_says_nothing(&world, &world.run(&["status"]));
        assert_reports_say_nothing(&world);
        for (name, bytes) in ledger_files(&world) {
            assert_absent(&bytes, &[&KEYS[..], &[TOKEN, "tkn_"]].concat(), &name);
        }
        assert_fields_only_where_readme_says(&world);
        // The requests were sent, with the key that is searched for here.
        let requests = wire.received();
        assert!(requests.iter().any(|request| request.head.contains(KEYS[1])), "{:?}", requests[0].head);
        for what in ["created", "failed", "all"] {
            let export = world.run(&["export", what, "--force", "--output", "out.csv"]);
            assert_eq!(export.code, 0, "{export:?}");
            assert_eq!(mode(&world.path("out.csv")), 0o600);
            let bytes = fs::read(world.path("out.csv")).unwrap();
            assert_absent(&bytes, &[&KEYS[..], &[TOKEN, "tkn_"]].concat(), what);
        }
    }
}

/// During a run the newest data is in the log beside the ledger, and the log remains after a kill.
#[test]
fn a_killed_run_leaves_no_secret_behind() {
    let world = World::new();
    let file = world.file("users.csv", users());
    let wire = Wire::new(answer);
    let mut run = wire.start(&world, &file, &[&LOUD[..], &["--timeout", "1h"]].concat(), |_| {});
    let settled = || {
        world.has_ledger() && world.number("select count(*) from every_row where outcome <> 'pending'") == 8
    };
    assert!(wait_until(&mut run, settled));
    let check = || {
        let files = ledger_files(&world);
        assert!(files.iter().any(|(name, bytes)| name == "ledger.db-wal" && !bytes.is_empty()));
        for (name, bytes) in files {
            assert_absent(&bytes, &[&KEYS[..], &[TOKEN, "tkn_"]].concat(), &name);
        }
        assert_fields_only_where_readme_says(&world);
    };
    check();
    run.kill().unwrap();
    run.wait().unwrap();
    check();
}

/// Raw records are stored until their rows succeed, and afterwards not even in the free space of the file.
#[test]
fn what_is_erased_is_gone() {
    let world = World::new();
    let file = world.file("users.csv", users());
    let wire = Wire::new(answer);
    assert_eq!(wire.import(&world, &file, &[&LOUD[..], &["--timeout", "300ms"]].concat()).code, 4);
    assert!(world.number("select count(*) from record where cells like '%canary.mail%'") >= 3);
    wire.play(|call| {
        call.send(with_token(call, "cst_ofacanary"));
    });
    // A rejected row is sent again if it differs.
    let file = world.file("users.csv", users().replace("Canarylast", "Mendedname"));
    let done = wire.import(&world, &file, &LOUD);
    assert!([0, 3].contains(&done.code), "{done:?}");
    assert_eq!(world.number("select count(*) from every_row where customer_id is null"), 0);
    assert_eq!(world.number("select count(*) from record"), 0);
    for (name, bytes) in ledger_files(&world) {
        assert_absent(&bytes, &[&BUT_REFERENCE[..], &["mendedname", TOKEN]].concat(), &name);
    }
}

/// An API, or a server in its place, that repeats the wrong key.
#[test]
fn a_key_that_the_answer_repeats() {
    for (status, code) in [(401, 4), (403, 4), (400, 3), (404, 4)] {
        let world = World::new();
        let file = world.file("users.csv", users());
        let wire = Wire::new(move |call| {
            let text = format!("{KEY} and Basic {}== are unknown here", KEYS[1]);
            let body = format!(
                r#"{{"status":"{text}","error_code":"{text}","error_message":"{text}","juspay_request_id":"{text}"}}"#
            );
            call.send(json(status, body));
        });
        let done =
            finish(wire.start(&world, &file, &[&LOUD[..], &["--log-file", "log.txt"]].concat(), trace));
        assert_eq!(done.code, code, "{done:?}");
        assert_says_nothing(&world, &done);
        for (name, bytes) in ledger_files(&world) {
            assert_absent(&bytes, &KEYS, &name);
        }
        assert_absent(world.run(&["export", "failed"]).stdout.as_bytes(), &KEYS, "an export");
    }
}

/// A validation message that quotes the customer: it belongs to the row, not to a log.
#[test]
fn a_customer_whom_the_answer_quotes() {
    let world = World::new();
    let file = world.file("users.csv", users());
    let wire = Wire::new(|call| {
        let text = "7770001234 of Canaryfirst Canarylast, canary.mail@example.com, is no number";
        call.send(json(400, format!(r#"{{"error_code":"INVALID_INPUT","error_message":"{text}"}}"#)));
    });
    let done = finish(wire.start(&world, &file, &[&LOUD[..], &["--log-file", "log.txt"]].concat(), trace));
    assert_eq!(done.code, 3, "{done:?}");
    assert_says_nothing(&world, &done);
    assert_reports_say_nothing(&world);
    assert!(world.run(&["export", "failed"]).stdout.contains("is no number"), "the row's own account has it");
}

/// A ledger that others could read becomes readable by its owner only.
#[test]
fn a_ledger_that_was_open_to_others_is_closed() {
    let world = World::new();
    let file = world.rows("users.csv", 3);
    drop(File::create(world.ledger()).unwrap());
    fs::set_permissions(world.ledger(), fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(world.import(&file, &[]).code, 0);
    assert!(ledger_files(&world).len() > 1);
}
