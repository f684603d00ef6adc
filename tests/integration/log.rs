//! The log: the events at each level, the destination, and that each line is complete.

use customer_import::simulator::{Fault, Options};
use serde_json::Value;

use crate::{
    terminal::Terminal,
    world::{Done, MERCHANT, World},
};

/// Rows of every kind: good, rejected, invalid, duplicate, and one with escapes for terminals.
const FILE: &str = "object_reference_id,mobile_number,first_name\n\
    cust-0001,9000000001,\n\
    cust-0002,x,\n\
    cust-0001,9000000003,\n\
    \x1b[2Jcust-4,9000000004,\x1b]0;owned\x07\n\
    cust-0005,9000000005,\n";

fn import(world: &World, more: &[&str]) -> Done {
    world.import(&world.path("users.csv"), more)
}

/// Events of a log in JSON.
fn events(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

fn lines_of(events: &[Value], message: &str) -> Vec<(u64, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found = events.iter().filter(|event| event["message"] == message);
    let mut rows: Vec<_> = found
        .map(|event| (event["line"].as_u64().unwrap(), text(&event["outcome"]), text(&event["level"])))
        .collect();
    rows.sort();
    rows
}

/// A program that reads the log takes the last event for how the run ended.
#[test]
fn the_end_of_the_run_is_its_last_event() {
    let world = World::new();
    // What was read differently from how it is written is an event, too: here a last line without a line break.
    world.file("users.csv", FILE.trim_end());
    let seen = events(&import(&world, &["--log-format", "json", "-v"]).stderr);
    assert!(seen.len() > 2 && seen.iter().all(|event| event["run"] == 1), "{seen:?}");
    assert_eq!(seen.last().unwrap()["message"], "the run has ended", "{seen:?}");
}

#[test]
fn one_event_for_each_row_that_is_not_imported() {
    let world = World::new();
    world.file("users.csv", FILE);
    let json = ["--log-format", "json", "--ledger"];
    let rows = [
        (3, "invalid".into(), "DEBUG".into()),
        (4, "duplicate".into(), "DEBUG".into()),
        (5, "invalid".into(), "DEBUG".to_owned()),
    ];
    let debug = import(&world, &[&json[..], &["1.db", "-vv"]].concat());
    assert_eq!(debug.code, 3, "{debug:?}");
    let seen = events(&debug.stderr);
    assert_eq!(lines_of(&seen, "row not imported"), rows);
    assert!(lines_of(&seen, "row imported").is_empty());
    let invalid = seen.iter().find(|event| event["line"] == 3).unwrap();
    assert_eq!(
        (&invalid["field"], &invalid["rule"]),
        (&"mobile_number".into(), &"digits".into()),
        "{invalid}"
    );
    for message in ["the run begins", "the run has ended"] {
        let of_run: Vec<_> = seen.iter().filter(|event| event["message"] == message).collect();
        assert!(of_run.len() == 1 && of_run[0]["level"] == "INFO" && of_run[0]["run"] == 1, "{of_run:?}");
    }

    let begins = seen.iter().find(|event| event["message"] == "the run begins").unwrap();
    assert_eq!(begins["rate"], "unlimited", "{begins}");
    assert!(seen.iter().filter(|event| event["line"].is_u64()).all(|event| event["run"] == 1), "{seen:?}");

    let trace = import(&world, &[&json[..], &["2.db", "-vvv"]].concat());
    let good: Vec<u64> =
        lines_of(&events(&trace.stderr), "row imported").into_iter().map(|row| row.0).collect();
    assert_eq!(good, [2, 6]);
    // Read again: a later run reports its own rows. (A file that is unchanged is not read again.)
    world.file("users.csv", FILE.replace("cust-0005", "cust-0006"));
    let again = import(&world, &[&json[..], &["2.db", "-vv"]].concat());
    assert_eq!(lines_of(&events(&again.stderr), "row not imported"), rows);
    let info = import(&world, &[&json[..], &["3.db", "-v"]].concat());
    assert!(lines_of(&events(&info.stderr), "row not imported").is_empty());
    let none = import(&world, &[&json[..], &["4.db"]].concat());
    assert_eq!(none.stderr, "");
}

#[test]
fn rejected_rows_are_told_by_line_in_every_run() {
    let world = World::with(Options { faults: vec![(Fault::Reject, 1.0)], ..Options::default() });
    world.rows("users.csv", 3);
    for validation in ["documented", "lenient"] {
        let done = import(&world, &["-vv", "--log-format", "json", "--validation", validation]);
        let rows = lines_of(&events(&done.stderr), "row not imported");
        assert_eq!(
            rows.iter().map(|row| (row.0, &*row.1)).collect::<Vec<_>>(),
            [2, 3, 4].map(|line| (line, "rejected"))
        );
    }
}

#[test]
fn rust_log_wins_and_escapes_do_no_harm() {
    let world = World::new();
    world.file("users.csv", FILE);
    world.file("\x1b[31mred.csv", FILE);
    for (more, level, wanted) in [
        (["-q", "--ledger", "1.db"], "debug", true),
        (["-vvv", "--ledger", "2.db"], "error", false),
        (["-vv", "--ledger", "3.db"], "", true),
    ] {
        let args = world.import_args(&world.path("\x1b[31mred.csv"), &more);
        let mut command = world.command(&args);
        let done = crate::world::done(command.env("RUST_LOG", level).output().unwrap());
        assert_eq!(done.code, 3, "{done:?}");
        assert_eq!(done.stderr.contains("row not imported"), wanted, "{more:?} {level}: {done:?}");
        for text in [&done.stderr, &done.stdout] {
            assert!(!text.contains('\x1b') && !text.contains('\x07'), "{text:?}");
        }
    }
}

/// An invalid `RUST_LOG` is reported in the log's own format, and the flags apply.
#[test]
fn a_rust_log_that_says_nothing_is_no_silence() {
    let world = World::new();
    world.file("users.csv", FILE);
    for (number, (level, ignored, wanted)) in [
        ("debgu", 1, true),
        ("customer_import=loud", 1, true),
        ("warn,x==y", 1, false),
        ("customer_import::cli=info", 0, true),
    ]
    .into_iter()
    .enumerate()
    {
        let ledger = format!("{number}.db");
        let more = ["-v", "--log-format", "json", "--rate", "1000", "--ledger", &ledger];
        let args = world.import_args(&world.path("users.csv"), &more);
        let mut command = world.command(&args);
        let done = crate::world::done(command.env("RUST_LOG", level).output().unwrap());
        assert_eq!(done.code, 3, "{done:?}");
        let seen = events(&done.stderr);
        let warnings = seen.iter().filter(|event| event["level"] == "WARN").count();
        let begins: Vec<_> = seen.iter().filter(|event| event["message"] == "the run begins").collect();
        assert_eq!((warnings, begins.len()), (ignored, usize::from(wanted)), "{level}: {done:?}");
        assert!(begins.iter().all(|event| event["rate"] == "1000"), "{begins:?}");
    }
}

#[test]
fn a_log_file_has_all_of_it_and_grows() {
    let world = World::new();
    world.rows("users.csv", 3);
    for runs in 1..=2 {
        let done = import(&world, &["-v", "--log-file", "log.txt"]);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""));
        let log = std::fs::read_to_string(world.path("log.txt")).unwrap();
        assert_eq!(log.matches("the run has ended").count(), runs, "{log}");
        assert!(log.contains(" INFO the run begins run=1 "), "{log}");
    }
    let refused = import(&world, &["--log-file", "nowhere/log.txt"]);
    assert!(refused.code == 2 && refused.stderr.starts_with("error: cannot write the log"), "{refused:?}");
}

/// A plan and a verification are found in a log as a run is.
#[test]
fn a_plan_and_a_verification_say_when_they_begin_and_end() {
    let world = World::new();
    world.rows("users.csv", 3);
    assert_eq!(import(&world, &[]).code, 0);
    let base_url = world.base_url();
    let host = base_url.trim_start_matches("http://");
    for (command, what, counts) in [
        ("verify", "verification", &["rows", "same", "different", "missing", "requests"][..]),
        ("plan", "plan", &["rows", "create", "unchanged", "invalid", "requests"]),
    ] {
        let mut args = vec![command, "users.csv", "--base-url", &base_url, "--merchant-id", MERCHANT];
        args.extend(["-v", "--log-format", "json", "--progress", "never"]);
        args.extend(if command == "plan" { &["--ask", "all"][..] } else { &[] });
        let done = world.run(&args);
        assert_eq!(done.code, 0, "{done:?}");
        let seen = events(&done.stderr);
        for (word, has_counts) in [("begins", false), ("has ended", true)] {
            let message = format!("the {what} {word}");
            let event = seen.iter().find(|event| event["message"] == message.as_str());
            let event = event.unwrap_or_else(|| panic!("{message}: {done:?}"));
            assert_eq!((&event["merchant"], &event["host"]), (&MERCHANT.into(), &host.into()), "{event}");
            assert!(event["file"] == "users.csv" && event["version"].is_string(), "{event}");
            assert!(counts.iter().all(|name| event[*name].is_u64() == has_counts), "{event}");
        }
    }
}

/// The two events that an on-call engineer searches for.
#[test]
fn the_first_and_the_last_event_name_the_run_and_its_end() {
    for format in ["json", "text"] {
        let world = World::new();
        world.file("users.csv", FILE);
        let (base_url, ledger) = (format!("{}/secret-path", world.base_url()), format!("{format}.db"));
        let more = ["-v", "--log-format", format, "--ledger", &ledger, "--base-url", &base_url];
        let done = import(&world, &more);
        assert_eq!(done.code, 3, "{done:?}");
        assert!(!done.stderr.contains("secret-path"), "{done:?}");
        let host = world.simulator.address().to_string();
        let (file, version) = (world.path("users.csv").display().to_string(), env!("CARGO_PKG_VERSION"));
        let names = [
            ("file", file.as_str()),
            ("merchant", crate::world::MERCHANT),
            ("host", &host),
            ("ledger", &ledger),
            ("version", version),
        ];
        let counts = [("created", 2), ("invalid", 2), ("duplicate", 1), ("rejected", 0), ("exit_code", 3)];
        for message in ["the run begins", "the run has ended"] {
            let line = done.stderr.lines().find(|line| line.contains(message)).unwrap();
            let is_last = message == "the run has ended";
            let counts = counts.iter().filter(|_| is_last);
            if format == "json" {
                let event: Value = serde_json::from_str(line).unwrap();
                assert_eq!(event["run"], 1, "{event}");
                assert!(names.iter().all(|(name, value)| event[name] == *value), "{event}");
                assert!(counts.into_iter().all(|(name, count)| event[name] == *count), "{event}");
            } else {
                assert!(line.contains(" run=1 "), "{line}");
                assert!(
                    names.iter().all(|(name, value)| line.contains(&format!(" {name}={value:?}"))),
                    "{line}"
                );
                let has = |(name, count): &(&str, i32)| line.contains(&format!(" {name}={count} "));
                assert!(counts.into_iter().all(has), "{line}");
            }
        }
    }
}

#[test]
fn lines_on_a_terminal_begin_with_the_time_of_day() {
    let world = World::new();
    let file = world.rows("users.csv", 1);
    let begin = |text: &str| {
        let line = text.lines().find(|line| line.contains("the run begins")).unwrap().to_owned();
        line.split("  INFO ").next().unwrap().trim_start().to_owned()
    };
    let (code, shown) = Terminal::new(200).run(world.command(&world.import_args(&file, &["-v"])));
    assert_eq!(code, 0, "{shown}");
    let time = begin(&shown);
    let is_digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    assert!(time.strip_suffix('Z').unwrap().split(':').all(is_digits) && time.len() == 9, "{time:?}");
    let time = begin(&world.import(&file, &["-v"]).stderr);
    assert!(time.len() > 20 && time.starts_with("20") && time.contains('T'), "{time:?}");
}
