//! The progress during a run: on terminals of every width, in a log, and from outside.

use std::{
    io::{BufRead, BufReader},
    time::{Duration, Instant},
};

use customer_import::simulator::{Options, Outage};

use crate::{
    terminal::{Terminal, lines},
    world::{MERCHANT, World, rows, signal, wait_until},
};

/// Fewer than the number of redraws per second.
const DRAWS_PER_SECOND: f64 = 5.0;

fn import_on(terminal: &mut Terminal, world: &World, more: &[&str]) -> (i32, String) {
    let args = world.import_args(&world.path("users.csv"), more);
    let mut command = world.command(&args);
    command.env("NO_COLOR", "1");
    terminal.run(command)
}

#[test]
fn lines_fit_every_terminal() {
    for columns in [24, 40, 80, 200] {
        let world = World::new();
        world.rows("users.csv", 400);
        let (code, shown) = import_on(&mut Terminal::new(columns), &world, &["--rate", "300"]);
        assert_eq!(code, 0, "{shown}");
        // The last output is the summary, which is formatted for 80 columns.
        let (drawn, _) = shown.split_once("Run 1 completed").unwrap();
        // Above the progress lines is a header that may continue in a next line.
        let drawn: Vec<String> =
            lines(drawn, columns.into()).into_iter().skip_while(|line| !line.contains('%')).collect();
        assert!(drawn.len() >= 4 && drawn.iter().any(|line| line.starts_with("created ")), "{shown}");
        for line in &drawn {
            assert!(line.chars().count() < columns.into(), "{line:?} on {columns} columns");
        }
        let moves =
            shown.split("\x1b[").skip(1).filter_map(|rest| rest.chars().find(char::is_ascii_alphabetic));
        assert!(moves.into_iter().all(|last| last != 'm'), "colors: {shown:?}");
        assert_eq!(drawn[0].contains("] "), columns >= 80, "a bar where there is room: {}", drawn[0]);
    }
}

/// The lengths of the lines of the last complete drawing, without color. Before it, old lines are erased.
fn last_drawn(shown: &str) -> Vec<usize> {
    let drawn = shown.replace("\x1b[2K", "\x1b[J");
    let drawn = drawn.rsplit("\x1b[J").find(|part| part.contains("\x1b[K\r\n")).unwrap();
    // The cursor has moved to the first line; after the last one it moves again.
    let moved = drawn.trim_start_matches("\x1b[").trim_start_matches(|c: char| c.is_ascii_digit());
    let mut lines: Vec<&str> = moved.strip_prefix('A').unwrap_or(drawn).split("\x1b[K").collect();
    lines.pop();
    lines.iter().map(|line| line.trim_start_matches("\r\n").chars().count()).collect()
}

/// A terminal that becomes narrower breaks lines into rows, and one that becomes wider joins the rows that it broke
/// itself. The rows to erase are counted as the terminal shows them, and no line is padded so that it would be joined.
#[test]
fn a_resized_terminal_keeps_no_torn_line_and_loses_none() {
    let world = World::new();
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Hang));
    world.rows("users.csv", 1_000);
    let args =
        world.import_args(&world.path("users.csv"), &["--concurrency", "8", "--shutdown-grace", "1ms"]);
    let mut command = world.command(&args);
    command.env("NO_COLOR", "1");
    let mut terminal = Terminal::new(120);
    let mut run = terminal.start(command);
    // The second is of a later redraw, or the end of the same.
    let shown = terminal.read_until("8 in flight") + &terminal.read_until("\x1b[2K");
    let wide = last_drawn(&shown);
    assert!(wide.len() >= 2 && wide[0] > 30, "{wide:?} in {shown:?}");
    assert!(!shown.contains("  \x1b[") && !shown.contains("   \r"), "a padded line: {shown:?}");
    terminal.resize(30);
    let shown = terminal.read_until(" 0%  0") + &terminal.read_until("\x1b[2K");
    let rows = wide.iter().map(|length| length.div_ceil(30)).sum::<usize>();
    assert!(shown.contains(&format!("\r\x1b[{}A\x1b[J", rows - 1)), "all of it is erased: {shown:?}");
    let narrow = last_drawn(&shown).len();
    assert!(narrow > 1, "{shown:?}");
    terminal.resize(100);
    let shown = terminal.read_until("]  0%  0");
    assert!(shown.contains(&format!("\r\x1b[{}A\x1b[J", narrow - 1)), "no line above: {shown:?}");
    run.kill().unwrap();
    run.wait().unwrap();
}

/// The same holds for commands other than imports.
#[test]
fn lines_of_a_verification_fit() {
    let world = World::new();
    let file = world.rows("users.csv", 300);
    assert_eq!(world.import(&file, &[]).code, 0);
    world.file("users.csv", rows(0..300).replace("example.com", "example.org"));
    let base_url = world.base_url();
    let args = ["verify", "users.csv", "--base-url", &base_url, "--merchant-id", MERCHANT, "--rate", "300"];
    let (code, shown) = Terminal::new(24).run(world.command(&args));
    assert_eq!(code, 3, "{shown}");
    let (drawn, _) = shown.split_once("Verify completed").unwrap();
    let drawn: Vec<String> = lines(drawn, 24).into_iter().filter(|line| line.contains("different")).collect();
    assert!(!drawn.is_empty(), "{shown}");
    for line in &drawn {
        assert!(line.chars().count() < 24 && line.ends_with("different"), "{line:?} in {shown}");
    }
}

#[test]
fn a_fast_run_is_drawn_calmly() {
    let world = World::new();
    world.rows("users.csv", 8_000);
    let began = Instant::now();
    let (code, shown) = import_on(&mut Terminal::new(80), &world, &["--concurrency", "64"]);
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(code, 0, "{shown}");
    let (drawn, _) = shown.split_once("Run 1 completed").unwrap();
    let headlines = lines(drawn, 80).iter().filter(|line| line.contains("rows, ")).count();
    assert!(headlines > 1, "{shown}");
    assert!((headlines as f64) <= seconds * DRAWS_PER_SECOND + 3.0, "{headlines} in {seconds} s");
}

/// Such a terminal cannot move the cursor up a line, so nothing is redrawn.
#[test]
fn a_dumb_terminal_gets_plain_lines() {
    let world = World::new();
    world.rows("users.csv", 5);
    let args = world.import_args(&world.path("users.csv"), &[]);
    let mut command = world.command(&args);
    command.arg("--progress=always");
    command.env("TERM", "dumb");
    let (code, shown) = Terminal::new(80).run(command);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("Run 1 completed") && !shown.contains('\x1b'), "{shown:?}");
}

#[test]
fn a_run_that_goes_on_is_shown_from_outside_and_in_plain_lines() {
    let world = World::with(Options::default());
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Hang));
    let file = world.rows("users.csv", 1_000);
    let mut child = world
        .start_import(&file, &["--progress", "always", "--concurrency", "8", "--shutdown-grace", "10ms"]);
    let stderr = child.stderr.take().unwrap();
    let shows = |words: &str| world.run(&["status"]).stdout.contains(words);
    assert!(wait_until(&mut child, || world.has_ledger() && shows("Run 1 is in progress, as of ")));
    assert!(wait_until(&mut child, || shows("8 in flight")));
    let status = world.run(&["status"]);
    assert_eq!((status.code, status.stderr.as_str()), (0, ""));
    assert!(status.stdout.contains(" 0%  0 of about 1,0"), "{status:?}");
    assert!(status.stdout.lines().all(|line| line.chars().count() <= 80), "{status:?}");

    let live = self::live(&world);
    let names = [
        "run",
        "doing",
        "rows_settled",
        "is_exact",
        "seconds_left",
        "in_flight",
        "retrying",
        "throttled_to",
        "throttled_by",
        "pauses",
    ];
    let shown: Vec<&serde_json::Value> = names.iter().map(|name| &live[name]).collect();
    assert_eq!(
        serde_json::json!(shown),
        serde_json::json!([1, "sending", 0, false, null, 8, 0, null, null, 0]),
        "{live}"
    );
    assert!((1_000..1_100).contains(&live["rows_expected"].as_u64().unwrap()), "{live}");
    assert!(live["age_seconds"].as_f64().unwrap() >= 0.0, "{live}");

    let mut log = BufReader::new(stderr).lines();
    assert!(log.next().unwrap().unwrap().starts_with("Run 1: "), "which run it is, first");
    let mapping = [log.next(), log.next()].map(|line| line.unwrap().unwrap());
    assert_eq!(mapping[0], "  object_reference_id ← object_reference_id,");
    assert_eq!(mapping[1], "  mobile_number ← mobile_number, email_address ← email_address");
    let line = log.next().unwrap().unwrap();
    assert!(line.contains(" 0%  0 of about 1,0") && line.ends_with("; 8 in flight"), "{line}");

    world.reconfigure(|behavior| behavior.outage = None);
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(world.number("select count(*) from heartbeat"), 0, "a run that has ended goes on no more");
    assert!(!shows("is in progress, as of"));
    assert_eq!(self::live(&world), serde_json::Value::Null);
}

/// The status of the current run as `status` reports it to scripts.
fn live(world: &World) -> serde_json::Value {
    let done = world.run(&["status", "--format", "json"]);
    let mut status: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    status.as_object_mut().unwrap().remove("live").expect("always told")
}

#[test]
fn a_run_that_died_does_not_go_on() {
    let world = World::with(Options::default());
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Hang));
    let file = world.rows("users.csv", 10);
    let mut child = world.start_import(&file, &[]);
    let shown = || world.has_ledger() && world.run(&["status"]).stdout.contains("10 in flight");
    assert!(wait_until(&mut child, shown));
    child.kill().unwrap();
    child.wait().unwrap();
    let status = world.run(&["status"]);
    assert!(status.stdout.contains("died") && !status.stdout.contains("is in progress, as of"), "{status:?}");
    world.reconfigure(|behavior| behavior.outage = None);
    let began = Instant::now();
    assert_eq!(world.import(&file, &[]).code, 0);
    assert!(began.elapsed() < Duration::from_secs(60));
    world.assert_agreement(crate::world::references(0..10));
}
