//! Exit codes, one-line errors, and what must never be printed: the command line's part of the contract.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use customer_import::simulator::{Fault, Options, Profile};
use sqlx::{ConnectOptions, Connection, Executor, sqlite::SqliteConnectOptions};

use crate::world::{Done, KEY, MERCHANT, World, cells, done, files, mode};

/// Asserts that the command was refused before anything happened: nothing sent, no ledger.
#[track_caller]
fn assert_refused(world: &World, done: &Done, words: &[&str]) {
    done.assert_error(2, words);
    assert_eq!(done.stdout, "");
    assert_eq!(world.journal().requests(), 0);
    assert!(!world.ledger().exists(), "a ledger was made");
}

/// An import with a changed environment.
fn import_with(world: &World, file: &Path, more: &[&str], change: impl FnOnce(&mut Command)) -> Done {
    let args = world.import_args(file, more);
    let mut command = world.command(&args);
    change(&mut command);
    done(command.output().unwrap())
}

/// Asserts that an import of a good file with these arguments is refused with these words.
#[track_caller]
fn refuses(more: &[&str], words: &[&str]) {
    let world = World::new();
    let file = world.rows("users.csv", 2);
    let done = world.import(&file, more);
    assert_refused(&world, &done, words);
}

/// Asserts that an import of a file with this content is refused with these words.
#[track_caller]
fn refuses_file(content: &[u8], more: &[&str], words: &[&str]) {
    let world = World::new();
    let file = world.file("users.csv", content);
    let done = world.import(&file, more);
    assert_refused(&world, &done, words);
    let done = world.run(&["validate", "users.csv"]);
    if more.is_empty() {
        assert_refused(&world, &done, words);
    }
}

#[test]
fn a_missing_file_is_refused() {
    let world = World::new();
    let done = world.import(&world.path("nowhere.csv"), &[]);
    assert_refused(&world, &done, &["nowhere.csv", "check the path"]);
}

#[test]
fn a_directory_is_refused() {
    let world = World::new();
    let done = world.import(world.folder.path(), &[]);
    assert_refused(&world, &done, &["is a directory", "CSV"]);
}

#[test]
fn an_empty_file_is_refused() {
    refuses_file(b"", &[], &["users.csv", "is empty", "first line"]);
    refuses_file(b"\xef\xbb\xbf", &[], &["is empty"]);
    refuses_file(b"\n\r\n\n", &[], &["is empty"]);
}

#[test]
fn a_header_alone_is_a_file_of_no_rows() {
    for header in ["object_reference_id,mobile_number\n", "object_reference_id,mobile_number"] {
        let world = World::new();
        let file = world.file("users.csv", header);
        let done = world.import(&file, &[]);
        assert!(
            done.code == 0 && done.stderr.ends_with("has no data rows, only a header line\n"),
            "{done:?}"
        );
        assert_eq!(world.summary()["rows"], 0);
        assert_eq!(world.summary()["state"], "completed");
        assert_eq!(world.outcomes(), "");
        assert_eq!(world.run(&["validate", "users.csv"]).code, 0);
        assert_eq!(world.journal().requests(), 0);
    }
}

#[test]
fn two_columns_of_one_needed_name_are_refused() {
    let text = b"object_reference_id,mobile_number,mobile_number\ncust-0001,1,2\n";
    refuses_file(text, &[], &["two columns", "mobile_number", "rename"]);
    let text = b"object_reference_id,mobile_number,email_address,email_address\ncust-0001,1,,\n";
    refuses_file(text, &[], &["two columns", "email_address"]);
    let text = b"object_reference_id,mobile_number,phone,phone\ncust-0001,1,2,3\n";
    let map = ["--map", "mobile_number=phone"];
    refuses_file(text, &map, &["two columns", "phone"]);
}

#[test]
fn two_columns_of_a_name_that_is_not_needed_are_fine() {
    let world = World::new();
    let text = "object_reference_id,mobile_number,note,note\ncust-0001,1,a,b\n";
    let file = world.file("users.csv", text);
    assert_eq!(world.import(&file, &[]).code, 0);
}

#[test]
fn a_missing_column_is_named_with_those_found_and_the_way_out() {
    let text = b"id,mobile_number\ncust-0001,1\n";
    refuses_file(
        text,
        &[],
        &["object_reference_id", "columns found: id, mobile_number", "--map 'object_reference_id=id'"],
    );
    let text = b"object_reference_id,x\ncust-0001,1\n";
    refuses_file(text, &[], &["mobile_number", "--map mobile_number=", "--map mobile_number=COLUMN"]);
    let require = ["--require", "email_address"];
    let text = b"object_reference_id,mobile_number\ncust-0001,1\n";
    refuses_file(text, &require, &["email_address", "--map"]);
}

#[test]
fn a_wrong_delimiter_is_found_to_be_one() {
    let text = b"object_reference_id,mobile_number\ncust-0001,1\n";
    refuses_file(text, &["--delimiter", "|"], &["object_reference_id", "--delimiter"]);
}

#[test]
fn map_and_set_need_a_known_field_and_a_known_column() {
    refuses(&["--map", "email_address=mail"], &["mail", "columns found", "email_address"]);
    refuses(&["--map", "e_mail=email_address"], &["--map", "e_mail", "email_address"]);
    refuses(&["--map", "colour=mail"], &["--map", "colour", "mobile_number"]);
    refuses(&["--map", "email_address"], &["--map", "="]);
    refuses(&["--set", "colour=red"], &["--set", "colour", "mobile_number"]);
    refuses(&["--set", "first_name"], &["--set", "="]);
    refuses(&["--require", "colour"], &["--require", "colour", "mobile_number"]);
}

#[test]
fn the_same_field_twice_is_refused() {
    let world = World::new();
    let file = world.rows("users.csv", 2).display().to_string();
    for option in ["--map", "--set"] {
        let (one, two) = ("email_address=email_address", "email_address=mobile_number");
        let done = world.run(&["validate", &file, option, one, option, two]);
        assert_refused(&world, &done, &[option, "email_address", "twice"]);
    }
}

/// Every option that takes a number, a duration or a choice.
const MEASURES: [&str; 12] = [
    "--limit",
    "--rate",
    "--burst",
    "--concurrency",
    "--timeout",
    "--connect-timeout",
    "--max-attempts",
    "--retry-initial",
    "--retry-max",
    "--outage-limit",
    "--max-failures",
    "--shutdown-grace",
];

#[test]
fn absurd_values_are_refused_with_the_option_named() {
    let world = World::new();
    let file = world.rows("users.csv", 2).display().to_string();
    for option in MEASURES {
        for value in ["-1", "-1s", "NaN", "soon", "", "1e400", "99999999999999999999999"] {
            let pair = format!("{option}={value}");
            let done = world.run(&["import", &file, "--base-url", &world.base_url(), &pair]);
            assert_refused(&world, &done, &[option]);
        }
    }
    for pair in [
        "--rate=0",
        "--burst=0",
        "--concurrency=0",
        "--max-attempts=0",
        "--timeout=0s",
        "--timeout=10",
        "--outage-limit=0s",
        "--max-failures=101%",
        "--max-failures=-1%",
        "--delimiter=ab",
        "--delimiter=\"",
        "--delimiter=",
        "--delimiter=é",
        "--validation=strict",
        "--environment=live",
        "--progress=loud",
        "--log-format=xml",
    ] {
        let done = world.run(&["import", &file, "--base-url", &world.base_url(), pair]);
        let option = pair.split('=').next().unwrap();
        assert_refused(&world, &done, &[option]);
    }
}

#[test]
fn a_negative_number_after_a_blank_names_the_option_too() {
    let world = World::new();
    let file = world.rows("users.csv", 2).display().to_string();
    for option in MEASURES {
        let done = world.run(&["import", &file, "--base-url", &world.base_url(), option, "-1"]);
        assert_refused(&world, &done, &[option]);
    }
}

#[test]
fn a_ledger_in_a_missing_folder_is_refused() {
    refuses(&["--ledger", "nowhere/ledger.db"], &["nowhere/ledger.db", "--ledger"]);
}

#[test]
fn a_folder_is_no_ledger() {
    let world = World::new();
    let file = world.rows("users.csv", 2);
    std::fs::create_dir(world.path("folder")).unwrap();
    let done = world.import(&file, &["--ledger", "folder"]);
    assert_refused(&world, &done, &["folder", "--ledger"]);
}

#[test]
fn some_other_file_is_no_ledger_and_stays_as_it_is() {
    let world = World::new();
    let file = world.rows("users.csv", 2);
    let notes = world.file("notes.txt", "a file of mine\n".repeat(500));
    let database = world.path("app.db");
    let options = SqliteConnectOptions::new().filename(&database).create_if_missing(true);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut connection = options.connect().await.unwrap();
        connection.execute("create table users (id integer primary key)").await.unwrap();
        connection.close().await.unwrap();
    });
    for other in [&notes, &database, &file] {
        let before = std::fs::read(other).unwrap();
        let path = other.display().to_string();
        for args in [&["status", "--ledger", &path][..], &["export", "all", "--ledger", &path]] {
            assert_refused(&world, &world.run(args), &["is not a ledger", "--ledger"]);
        }
        let done = world.import(&file, &["--ledger", &path]);
        assert_refused(&world, &done, &["is not a ledger", "left as it is", "--ledger"]);
        assert_eq!(std::fs::read(other).unwrap(), before);
    }
    // Nothing was created beside another program's file either.
    let expected = ["app.db", "notes.txt", "users.csv"].map(str::to_owned);
    assert_eq!(files(world.folder.path()), expected.into());
}

#[test]
fn a_ledger_that_is_not_there_is_named() {
    let world = World::new();
    for args in [&["status"][..], &["export", "created"], &["export", "failed"]] {
        assert_refused(&world, &world.run(args), &["ledger.db", "--ledger"]);
    }
    assert_eq!(files(world.folder.path()), BTreeSet::new());
}

#[test]
fn a_ledger_of_another_target_is_refused() {
    let world = World::new();
    let file = world.rows("users.csv", 2);
    assert_eq!(world.import(&file, &[]).code, 0);
    let other_path = format!("{}/other", world.base_url());
    for more in [
        &["--merchant-id", "another_merchant"][..],
        &["--base-url", &other_path],
        &["--base-url", "http://127.0.0.1:1"],
    ] {
        let done = world.import(&file, more);
        done.assert_error(2, &["belongs to", MERCHANT, more[1], "--ledger"]);
    }
    let file = file.display().to_string();
    let done = world.run(&["import", &file, "--simulator"]);
    done.assert_error(2, &["belongs to", "--ledger"]);
    assert_eq!(world.journal().requests(), 2);
    // The same target in another spelling is the same target.
    let slash = format!("{}/", world.base_url());
    assert_eq!(world.run(&["import", &file, "--merchant-id", MERCHANT, "--base-url", &slash]).code, 0);
    assert_eq!(world.journal().requests(), 2);
}

#[test]
fn a_key_must_be_there_and_fit_into_a_header() {
    let world = World::new();
    let file = world.rows("users.csv", 2);
    let done = import_with(&world, &file, &[], |command| {
        command.env("JUSPAY_API_KEY", "secret-one\nsecret-two");
    });
    assert_refused(&world, &done, &["line break", "JUSPAY_API_KEY"]);
    assert!(!done.stderr.contains("secret"), "{done:?}");
    let done = import_with(&world, &file, &[], |command| {
        command.env("JUSPAY_API_KEY", "");
    });
    assert_refused(&world, &done, &["no API key", "JUSPAY_API_KEY", "--api-key-file"]);
    let done = import_with(&world, &file, &[], |command| {
        command.env_remove("JUSPAY_API_KEY");
    });
    assert_refused(&world, &done, &["no API key", "JUSPAY_API_KEY", "--api-key-file"]);
    world.file("key.txt", "\n");
    let done = world.import(&file, &["--api-key-file", "key.txt"]);
    assert_refused(&world, &done, &["key.txt is empty"]);
    world.file("key.txt", "secret-one\nsecret-two\n");
    let done = world.import(&file, &["--api-key-file", "key.txt"]);
    assert_refused(&world, &done, &["line break", "key file"]);
    assert!(!done.stderr.contains("secret"), "{done:?}");
    let done = world.import(&file, &["--api-key-file", "nowhere.txt"]);
    assert_refused(&world, &done, &["nowhere.txt", "API key"]);
}

#[test]
fn a_key_file_wins_over_the_environment_and_may_have_what_editors_add() {
    for (start, end) in [("", ""), ("", "\n"), ("\u{feff}", "\r\n"), (" ", "\n\n")] {
        let world = World::with(Options { api_key: Some("from_the_file".into()), ..Options::default() });
        let file = world.rows("users.csv", 2);
        world.file("key.txt", format!("{start}from_the_file{end}"));
        assert_eq!(world.import(&file, &["--api-key-file", "key.txt"]).code, 0);
        assert_eq!(world.journal().customers(), 2);
    }
}

#[test]
fn a_merchant_id_must_be_there() {
    let world = World::new();
    let file = world.rows("users.csv", 2).display().to_string();
    let url = world.base_url();
    let args = ["import", &file, "--base-url", &url];
    let done = world.run(&args);
    assert_refused(&world, &done, &["no merchant id", "--merchant-id", "JUSPAY_MERCHANT_ID"]);
    let empty = done_with(&world, &args, ("JUSPAY_MERCHANT_ID", ""));
    assert_refused(&world, &empty, &["merchant"]);
    let broken = done_with(&world, &args, ("JUSPAY_MERCHANT_ID", "one\ntwo"));
    assert_refused(&world, &broken, &["merchant id", "line break"]);
    let done = done_with(&world, &args, ("JUSPAY_MERCHANT_ID", MERCHANT));
    assert_eq!(done.code, 0, "{done:?}");
    assert!(world.journal().customer(MERCHANT, "cust-000000").is_some());
}

fn done_with(world: &World, args: &[&str], (name, value): (&str, &str)) -> Done {
    done(world.command(args).env(name, value).output().unwrap())
}

#[test]
fn plain_http_leaves_this_machine_only_when_told() {
    for host in ["http://example.com", "http://192.0.2.1:8080", "http://[2001:db8::1]"] {
        refuses(&["--base-url", host], &["http://", "https://", "--allow-insecure-http"]);
    }
    // With the option, it gets as far as reading the file without rows.
    let world = World::new();
    let file = world.file("users.csv", "object_reference_id,mobile_number\n");
    let more = ["--base-url", "http://example.com", "--allow-insecure-http"];
    assert_eq!(world.import(&file, &more).code, 0);
}

#[test]
fn production_needs_a_yes_where_there_is_no_terminal() {
    // A file without rows: whatever happens, nothing is sent.
    let header = "object_reference_id,mobile_number\n";
    for target in [
        &["--environment", "production"][..],
        &["--base-url", "https://api.juspay.in"],
        &["--base-url", "https://api.juspay.in/"],
        &["--base-url", "https://API.juspay.in:443"],
    ] {
        let world = World::new();
        let file = world.file("users.csv", header).display().to_string();
        let mut args = vec!["import", &file, "--merchant-id", MERCHANT];
        args.extend(target);
        assert_refused(&world, &world.run(&args), &["production", "--yes"]);
        args.push("--yes");
        assert_eq!(world.run(&args).code, 0, "{target:?}");
    }
}

#[test]
fn the_other_path_of_production_is_production_too() {
    let world = World::new();
    // A file without rows: whatever happens, nothing is sent.
    let file = world.file("users.csv", "object_reference_id,mobile_number\n");
    let done = world.import(&file, &["--base-url", "https://api.juspay.in/other"]);
    assert_refused(&world, &done, &["production", "--yes"]);
}

#[test]
fn the_environment_may_come_from_the_environment() {
    let world = World::new();
    let text = "object_reference_id,mobile_number\n";
    let file = world.file("users.csv", text).display().to_string();
    let args = ["import", &file, "--merchant-id", MERCHANT];
    let done = done_with(&world, &args, ("JUSPAY_ENVIRONMENT", "production"));
    assert_refused(&world, &done, &["production", "--yes"]);
    let done = done_with(&world, &args, ("JUSPAY_ENVIRONMENT", "moon"));
    assert_refused(&world, &done, &["moon", "sandbox", "production"]);
}

#[test]
fn a_base_url_is_a_plain_address() {
    for url in [
        "https://example.com/?a=b",
        "https://example.com/#top",
        "https://user:password@example.com",
        "https://user@example.com",
        "ftp://example.com",
        "file:///etc/passwd",
        "example.com",
        "https://",
        "https://exa mple.com",
        "https://api.juspay.in/customers",
        "https://api.juspay.in/v2/customers",
        "https://api.juspay.in/v2",
        "",
    ] {
        let world = World::new();
        let file = world.rows("users.csv", 2);
        let done = world.import(&file, &["--base-url", url]);
        assert_refused(&world, &done, &["--base-url"]);
        assert!(!done.stderr.contains("password"), "{done:?}");
    }
}

#[test]
fn the_simulator_and_a_base_url_exclude_each_other() {
    refuses(&["--simulator"], &["--simulator", "--base-url"]);
}

#[test]
fn a_summary_that_cannot_be_written_is_found_out_before_the_run() {
    refuses(&["--summary-json", "nowhere/summary.json"], &["nowhere/summary.json", "--summary-json"]);
    refuses(&["--log-file", "nowhere/log.txt"], &["nowhere/log.txt", "--log-file"]);
}

#[test]
fn a_refused_command_leaves_no_summary_behind() {
    let world = World::new();
    let done = world.import(&world.path("nowhere.csv"), &[]);
    assert_eq!(done.code, 2);
    assert_eq!(files(world.folder.path()), BTreeSet::new());
}

#[test]
fn the_summary_goes_to_standard_output_alone() {
    let world = World::new();
    let file = world.rows("users.csv", 3);
    let done = world.import(&file, &["--summary-json", "-"]);
    let summary: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(summary["created"], 3);
    assert_eq!(summary["exit_code"], 0);
    assert_eq!(summary["requests"], 3);
    assert_eq!(summary["stop_reason"], serde_json::Value::Null);
    let quiet = world.import(&file, &["--summary-json", "-", "-q"]);
    assert_eq!(quiet.stderr, "");
    let summary: serde_json::Value = serde_json::from_str(&quiet.stdout).unwrap();
    assert_eq!(summary["unchanged"], 3);
}

#[test]
fn a_run_that_is_not_there_cannot_be_exported() {
    let world = World::new();
    let file = world.rows("users.csv", 2);
    world.import(&file, &[]);
    for run in ["2", "0", "-1", "last"] {
        let done = world.run(&["export", "created", &format!("--run={run}")]);
        done.assert_error(2, &["run"]);
        assert_eq!(done.stdout, "");
    }
    let done = world.run(&["export", "created", "--run", "2", "--output", "created.csv"]);
    done.assert_error(2, &["no run 2", "status"]);
    assert!(!world.path("created.csv").exists(), "an empty export was left behind");
}

#[test]
fn a_refused_export_leaves_an_earlier_one_alone() {
    let world = World::new();
    let file = world.rows("users.csv", 2);
    world.import(&file, &[]);
    let precious = world.file("created.csv", "precious\n");
    let done = world.run(&["export", "created", "--run", "2", "--output", "created.csv"]);
    assert_eq!(done.code, 2);
    assert_eq!(std::fs::read_to_string(precious).unwrap(), "precious\n");
}

/// Asserts that the first run was stopped with these words and left its rows pending, and that after the change the
/// same command completes.
fn stops_then_goes_on(world: &World, first: &Done, words: &[&str], then: impl FnOnce() -> Done) {
    // A warning about the reason of a wait may precede the error.
    first.assert_error_line(4, words);
    // Rows that were never claimed are not counted.
    let pending = world.summary()["pending"].as_u64().unwrap();
    assert_eq!(world.outcomes(), format!("pending={pending}"));
    assert!((1..=100).contains(&pending));
    assert_eq!(world.summary()["state"], "stopped");
    assert_eq!(world.summary()["exit_code"], 4);
    assert!(world.summary()["stop_reason"].is_string());
    assert_eq!(world.journal().customers(), 0);
    assert!(world.journal().requests() <= 32, "more than were in flight");
    let left = world.export("failed");
    assert_eq!(left.len() as u64, pending);
    assert!(left.iter().all(|row| row[4] == "pending"), "{:?}", left[0]);
    let second = then();
    assert_eq!(second.code, 0, "{second:?}");
    assert_eq!(world.outcomes(), "created=100");
    assert_eq!(world.journal().customers(), 100);
    assert_eq!(world.export("failed"), Vec::<Vec<String>>::new());
}

#[test]
fn a_wrong_key_stops_the_run_and_the_right_one_completes_it() {
    let world = World::new();
    let file = world.rows("users.csv", 100);
    let first = import_with(&world, &file, &[], |command| {
        command.env("JUSPAY_API_KEY", "wrong_key");
    });
    let words = ["401", "API key", "--merchant-id", "run the same command again"];
    stops_then_goes_on(&world, &first, &words, || world.import(&file, &[]));
}

#[test]
fn a_machine_off_the_allow_list_stops_the_run() {
    for (profile, word) in [(Profile::Page, "Bad Origin"), (Profile::Today, "IP Verification Failed")] {
        let world = World::with(Options { profile, ..Options::default() });
        world.reconfigure(|behavior| behavior.forbidden = true);
        let file = world.rows("users.csv", 100);
        let first = world.import(&file, &[]);
        let words = ["403", word, "allow-list", "run the same command again"];
        stops_then_goes_on(&world, &first, &words, || {
            world.reconfigure(|behavior| behavior.forbidden = false);
            world.import(&file, &[])
        });
    }
}

#[test]
fn a_redirect_stops_the_run_and_is_not_followed() {
    let (world, elsewhere) = (World::new(), World::new());
    let to = format!("{}/customers", elsewhere.base_url());
    world.reconfigure(|behavior| behavior.redirect_to = Some(to));
    let file = world.rows("users.csv", 100);
    let first = world.import(&file, &[]);
    assert_eq!(elsewhere.journal().requests(), 0);
    let words = ["redirect", "302", "--base-url"];
    stops_then_goes_on(&world, &first, &words, || {
        world.reconfigure(|behavior| behavior.redirect_to = None);
        world.import(&file, &[])
    });
}

#[test]
fn a_url_without_the_api_stops_the_run() {
    for (status, phrase) in [(404, "Not Found"), (405, "Method Not Allowed"), (501, "Not Implemented")] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut read = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                read.read_line(&mut line).unwrap();
            }
            let head =
                format!("HTTP/1.1 {status} {phrase}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
        });
        let world = World::new();
        let file = world.rows("users.csv", 5);
        let done = world.import(&file, &["--base-url", &url, "--concurrency", "1"]);
        server.join().unwrap();
        done.assert_error(4, &[&status.to_string(), "--base-url", "URL/customers"]);
        let pending = world.summary()["pending"].as_u64().unwrap();
        assert!((1..=5).contains(&pending));
        assert_eq!(world.outcomes(), format!("pending={pending}"));
        assert_eq!(world.summary()["requests"], 1);
    }
}

#[test]
fn a_reader_that_has_had_enough_of_csv_is_no_error() {
    closes_the_pipe(&["export", "failed"]);
    closes_the_pipe(&["export", "all"]);
}

#[test]
fn a_reader_that_has_had_enough_of_json_lines_is_no_error() {
    closes_the_pipe(&["export", "failed", "--format", "jsonl"]);
    closes_the_pipe(&["export", "all", "--format", "jsonl"]);
}

/// Reads one line from an output larger than a pipe's buffer, then closes the pipe.
fn closes_the_pipe(args: &[&str]) {
    let world = World::new();
    let mut text = String::from("object_reference_id,mobile_number\n");
    for number in 0..3000 {
        text.push_str(&format!("cust-{number:06},none\n"));
    }
    let file = world.file("users.csv", text);
    assert_eq!(world.import(&file, &[]).code, 3);
    let mut command = world.command(args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    drop(output);
    assert!(line.len() > 10, "{line}");
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn help_and_version_are_no_errors() {
    let world = World::new();
    for args in [
        &["--help"][..],
        &["-h"],
        &["help"],
        &["--version"],
        &["import", "--help"],
        &["validate", "--help"],
        &["status", "--help"],
        &["export", "--help"],
        &["simulate", "--help"],
        &["help", "import"],
        &["help", "simulate"],
    ] {
        let done = world.run(args);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{args:?}");
        assert!(done.stdout.len() > 10, "{args:?}");
    }
    let version = world.run(&["--version"]).stdout;
    assert_eq!(version, format!("customer-import {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn help_names_every_option_of_the_command_with_its_default() {
    let world = World::new();
    let help = world.run(&["import", "--help"]).stdout;
    for option in MEASURES {
        assert!(help.contains(option), "{option}");
    }
    for default in ["[default: 50]", "[default: 32]", "[default: 6]", "[default: 500ms]", "[default: 60s]"] {
        assert!(help.contains(default), "{default}");
    }
    // The environment may contain a secret; help shows names of variables, never their values.
    assert!(!help.contains(KEY));
}

/// Base64 of the key as it is sent, written as a constant rather than computed as in the program.
const KEY_ON_THE_WIRE: &str = "dGVzdF9rZXlfOGQxZj";

#[test]
fn neither_key_nor_customer_shows_where_it_should_not() {
    let world = World::with(Options {
        faults: vec![
            (Fault::Http500, 0.1),
            (Fault::ResetAfter, 0.1),
            (Fault::Garbage, 0.1),
            (Fault::WrongReference, 0.1),
            (Fault::Reject, 0.2),
        ],
        ..Options::default()
    });
    let mut text = String::from("object_reference_id,mobile_number,email_address,first_name\n");
    for number in 0..100 {
        text.push_str(&format!(
            "canary-ref-{number}@example.com,98{number:08},canary-mail-{number}@example.com,Canaryname\n"
        ));
    }
    text.push_str("canary-ref-0@example.com,9876543210,canary-mail@example.com,Canaryname\n");
    text.push_str("canary-ref-bad@example.com,+9876543210,canary-mail@canary@example.com,Canary name\n");
    let file = world.file("users.csv", text);
    let more = ["-vv", "--log-file", "log.txt", "--concurrency", "400"];
    let change = |command: &mut Command| {
        command.env("RUST_LOG", "trace");
    };
    let first = import_with(&world, &file, &more, change);
    assert!(first.code == 3, "{first:?}");
    let to_stderr = import_with(&world, &file, &["-vv", "--progress", "always"], change);
    let refused = import_with(&world, &file, &["--ledger", "two.db", "-vv"], |command| {
        command.env("RUST_LOG", "trace").env("JUSPAY_API_KEY", "wrong_canary");
    });
    assert_eq!(refused.code, 4);
    let validated = world.run(&["validate", "users.csv", "-vv"]);
    let status = world.run(&["status"]);
    let log = std::fs::read_to_string(world.path("log.txt")).unwrap();
    assert!(log.lines().count() > 100, "not much of a log");
    let summary = std::fs::read_to_string(world.path("summary.json")).unwrap();
    let mut seen = vec![log, summary];
    for done in [first, to_stderr, refused, validated, status] {
        seen.extend([done.stdout, done.stderr]);
    }
    for text in &seen {
        for secret in [KEY, KEY_ON_THE_WIRE, "wrong_canary"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        // The name `users.csv` may be shown, its content may not.
        let shown = text.lines().find(|line| line.to_lowercase().contains("canary"));
        assert_eq!(shown, None);
    }
    for name in files(world.folder.path()).iter().filter(|name| name.contains(".db")) {
        let bytes = std::fs::read(world.path(name)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(KEY) && !text.contains(KEY_ON_THE_WIRE), "{name}");
    }
}

#[test]
fn ledger_and_exports_are_for_their_owner_alone() {
    let world = World::new();
    let file = world.rows("users.csv", 3);
    world.import(&file, &[]);
    world.file("old.csv", "an older export, readable by all\n");
    for output in ["created.csv", "old.csv"] {
        let done = world.run(&["export", "created", "--force", "--output", output]);
        assert_eq!((done.code, done.stdout.as_str()), (0, ""));
        assert_eq!(mode(&world.path(output)), 0o600, "{output}");
        let text = std::fs::read_to_string(world.path(output)).unwrap();
        assert_eq!(cells(&text).len(), 3, "{text}");
    }
    for name in files(world.folder.path()).iter().filter(|name| name.starts_with("ledger.db")) {
        assert_eq!(mode(&world.path(name)), 0o600, "{name}");
    }
}

#[test]
fn an_output_that_cannot_be_written_is_an_error_of_the_machine() {
    let world = World::new();
    let file = world.rows("users.csv", 3);
    world.import(&file, &[]);
    let nowhere = world.run(&["export", "created", "--output", "nowhere/created.csv"]);
    nowhere.assert_error(1, &["nowhere/created.csv"]);
    let full = std::fs::File::options().write(true).open("/dev/full");
    let Ok(full) = full else { return };
    let mut command = world.command(&["export", "created"]);
    let done = done(command.stdout(full).output().unwrap());
    done.assert_error(1, &["cannot write"]);
}

#[test]
fn what_is_written_cannot_be_what_is_read() {
    let world = World::new();
    let file = world.rows("users.csv", 2);
    assert_eq!(world.import(&file, &[]).code, 0);
    let (ledger, source) = (world.ledger().display().to_string(), file.display().to_string());
    let before = (std::fs::read(world.ledger()).unwrap(), std::fs::read(&file).unwrap());
    for (option, path) in [
        ("--summary-json", &ledger),
        ("--summary-json", &source),
        ("--log-file", &ledger),
        ("--log-file", &source),
    ] {
        let done = world.import(&file, &[option, path]);
        done.assert_error(2, &[option, "would overwrite", "another file"]);
    }
    let done = world.run(&["export", "created", "--output", &ledger]);
    done.assert_error(2, &["--output", "would overwrite"]);
    assert_eq!((std::fs::read(world.ledger()).unwrap(), std::fs::read(&file).unwrap()), before);
}

/// Files that are not named as an input but belong to the ledger, and other names of a file that is read.
#[test]
fn no_output_overwrites_a_file_that_is_used_under_another_name() {
    let world = World::new();
    let file = world.rows("users.csv", 2);
    assert_eq!(world.import(&file, &[]).code, 0);
    world.file("settings.toml", "concurrency = 4\n");
    let key = world.file("key", KEY);
    std::fs::hard_link(world.ledger(), world.path("linked.db")).unwrap();
    std::os::unix::fs::symlink("ledger.db-wal", world.path("log")).unwrap();
    std::os::unix::fs::symlink("ledger.db", world.path("symbolic.db")).unwrap();
    let folder = world.folder.path().file_name().unwrap().to_string_lossy().into_owned();
    let before = |world: &World| {
        // SQLite has its own as long as the ledger is read; the link names one of them.
        let is_kept = |name: &String| !["-shm", "-wal", "log"].iter().any(|end| name.ends_with(end));
        let names = files(world.folder.path());
        names
            .into_iter()
            .filter(is_kept)
            .map(|name| (std::fs::read(world.path(&name)).ok(), name))
            .collect::<Vec<_>>()
    };
    let kept = before(&world);
    let elsewhere = format!("../{folder}/ledger.db-shm");
    let of_ledger =
        ["ledger.db-wal", "./ledger.db-shm", "ledger.db-journal", "ledger.db-lock", "ledger.db-new"];
    for path in of_ledger.into_iter().chain(["linked.db", "symbolic.db", "log", &elsewhere]) {
        for command in [&["report"][..], &["export", "all", "--force"]] {
            let done = world.run(&[command, &["--ledger", "symbolic.db", "--output", path]].concat());
            done.assert_error(2, &[&format!("--output {path} would overwrite the ledger"), "another file"]);
        }
        for option in ["--summary-json", "--log-file", "--metrics-textfile"] {
            let done = world.import(&file, &[option, path]);
            done.assert_error(2, &[&format!("{option} {path} would overwrite the ledger")]);
        }
    }
    for (path, words) in
        [("settings.toml", "the settings"), ("key", "the API key"), ("users.csv", "the source")]
    {
        let key = key.display().to_string();
        let more = ["--config", "settings.toml", "--api-key-file", &key, "--log-file", &format!("./{path}")];
        world.import(&file, &more).assert_error(2, &["--log-file", &format!("would overwrite {words}")]);
    }
    let report = ["report", "--config", "settings.toml", "--output"];
    world.run(&[&report[..], &["settings.toml"]].concat()).assert_error(2, &["would overwrite the settings"]);
    for command in [&["report"][..], &["report", "--all"], &["export", "created", "--force"]] {
        let done = world.run(&[command, &["--output", "users.csv"]].concat());
        done.assert_error(2, &["--output users.csv would overwrite the source of a run"]);
    }
    let logged = ["validate", "users.csv", "--log-file", "users.csv"];
    world.run(&logged).assert_error(2, &["--log-file users.csv would overwrite the source"]);
    let changed: Vec<_> = before(&world).into_iter().filter(|file| !kept.contains(file)).collect();
    assert!(changed.is_empty(), "{:?}", changed.iter().map(|(_, name)| name).collect::<Vec<_>>());
}

/// The summary would replace the log.
#[test]
fn two_outputs_are_not_one_file() {
    let world = World::new();
    let file = world.rows("users.csv", 2);
    let more = ["--log-file", "run.txt", "--summary-json", "./run.txt"];
    let words = ["--summary-json and --log-file name the same file run.txt", "a file of its own"];
    world.import(&file, &more).assert_error(2, &words);
    assert_eq!((world.path("run.txt").exists(), world.journal().requests()), (false, 0));
    let done = world.import(&file, &["--log-file", "/dev/null", "--summary-json", "/dev/null"]);
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn standard_input_is_not_overwritten_and_a_device_can_be() {
    let world = World::new();
    let file = world.rows("users.csv", 2);
    let before = std::fs::read(&file).unwrap();
    for output in ["users.csv", "/dev/stdin"] {
        let args = world.import_args(Path::new("-"), &["--summary-json", output]);
        let mut command = world.command(&args);
        let done = done(command.stdin(std::fs::File::open(&file).unwrap()).output().unwrap());
        done.assert_error(2, &["--summary-json", "would overwrite the source"]);
    }
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let done = world.import(&file, &["--config", "/dev/null", "--log-file", "/dev/null"]);
    assert_eq!(done.code, 0, "{done:?}");
}
