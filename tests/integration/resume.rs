//! An interrupted import continues where it stopped, whatever ended it.
//!
//! The disaster: after a crash somebody has to find out by hand which of a million customers exist, or some are
//! created twice, or never. So every test here ends a run before its end and checks by the journal whether the next
//! run completed everything.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use customer_import::simulator::{Endpoint, Fault, Options, Outage};

use crate::{
    terminal::Terminal,
    world::{MERCHANT, World, finish, references, rows, signal, wait_until},
};

/// Far more than a signal needs, far less than any wait that it must interrupt.
const AT_ONCE: Duration = Duration::from_secs(15);

/// Longer than [`AT_ONCE`], so that waiting for it is detected.
const VERY_LONG: Duration = Duration::from_secs(90);

fn slow(milliseconds: u64) -> World {
    let latency = Duration::from_millis(milliseconds);
    World::with(Options { latency: (latency, latency), ..Options::default() })
}

fn quick(world: &World) {
    world.reconfigure(|behavior| behavior.latency = (Duration::ZERO, Duration::ZERO));
}

/// Reads standard error until it contains these words; returns everything that was read.
fn wait_for_words(child: &mut Child, words: &str) -> String {
    let mut output = String::new();
    let mut stderr = BufReader::new(child.stderr.as_mut().unwrap());
    // One line at a time; text that remains in the buffer is dropped, because it is not needed.
    while !output.contains(words) {
        assert!(stderr.read_line(&mut output).unwrap() > 0, "{words:?} was never said: {output}");
    }
    output
}

/// The references requested from this request on.
fn requested_references(world: &World, from: usize) -> BTreeSet<String> {
    let entries = world.journal().entries();
    entries[from..].iter().map(|entry| entry.reference.to_string()).collect()
}

#[test]
fn after_a_kill_the_next_run_completes_and_a_third_sends_nothing() {
    let world = slow(2);
    let file = world.rows("users.csv", 600);
    let mut first = world.start_import(&file, &[]);
    assert!(wait_until(&mut first, || world.journal().requests() >= 200));
    first.kill().unwrap();
    first.wait().unwrap();
    let before = world.journal().customers();
    assert!((1..600).contains(&before), "killed in mid-run: {before}");

    let second = world.import(&file, &[]);
    assert_eq!(second.code, 0, "{second:?}");
    let summary = world.summary();
    let count = |outcome: &str| summary[outcome].as_u64().unwrap();
    assert_eq!(count("created") + count("unchanged"), 600, "{summary}");
    assert_eq!(summary["rows"], 600);
    assert_eq!(summary["state"], "completed");
    world.assert_agreement(references(0..600));

    let requests = world.journal().requests();
    let third = world.import(&file, &[]);
    assert_eq!(third.code, 0, "{third:?}");
    assert_eq!(world.outcomes(), "unchanged=600");
    assert_eq!(world.journal().requests(), requests);
    let status = world.run(&["status"]);
    assert_eq!(status.code, 0, "{status:?}");
}

/// Ends a run by this signal, and checks its state and that nothing was lost.
fn ends_by_signal(name: &str, code: i32) {
    let world = slow(100);
    let file = world.rows("users.csv", 500);
    let mut first = world.start_import(&file, &["--concurrency", "8"]);
    assert!(wait_until(&mut first, || world.journal().requests() >= 40));
    signal(&first, name);
    let first = finish(first);
    assert_eq!(first.code, code, "{first:?}");
    let summary = world.summary();
    assert_eq!(summary["state"], "interrupted");
    assert_eq!(summary["exit_code"], code);
    assert!(summary["stop_reason"].is_null(), "{summary}");
    // Also asserts that they add up to the rows.
    let outcomes = world.outcomes();
    let created = summary["created"].as_u64().unwrap();
    assert!((1..500).contains(&created), "{outcomes}");
    assert_eq!(summary["requests"], world.journal().requests());

    // Every request that was in flight is settled, and nothing is in doubt.
    assert_eq!(created, world.journal().customers() as u64);
    assert_eq!(world.export("created").len() as u64, created);
    assert_eq!(world.number("select count(*) from claim"), 0);
    assert_eq!(world.number("select count(*) from row where in_doubt"), 0, "{outcomes}");

    quick(&world);
    let second = world.import(&file, &[]);
    assert_eq!(second.code, 0, "{second:?}");
    assert_eq!(world.outcomes(), format!("created={} unchanged={created}", 500 - created));
    world.assert_agreement(references(0..500));
    assert_eq!(world.journal().requests(), 500, "no row was sent twice");
}

#[test]
fn an_interrupt_settles_what_is_in_flight_and_loses_nothing() {
    ends_by_signal("INT", 130);
}

#[test]
fn a_termination_settles_what_is_in_flight_and_loses_nothing() {
    ends_by_signal("TERM", 143);
}

/// A command with the default action for SIGHUP, whatever the environment of the tests has set.
#[cfg(target_os = "linux")]
fn hearing(world: &World, file: &Path, before: &[&str]) -> std::process::Command {
    let args = world.import_args(file, &["--concurrency", "8"]);
    let inner = world.command(&args);
    let mut command = std::process::Command::new("env");
    command.arg("--default-signal=HUP").args(before).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(world.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The window is closed, or the connection breaks: nobody reads the last output, and that is no error.
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_that_goes_ends_the_run_and_loses_nothing() {
    let world = slow(100);
    let file = world.rows("users.csv", 500);
    let terminal = Terminal::new(80);
    let mut first = terminal.start(hearing(&world, &file, &[]));
    assert!(wait_until(&mut first, || world.journal().requests() >= 40));
    drop(terminal);
    signal(&first, "HUP");
    assert_eq!(finish(first).code, 129);
    let summary = world.summary();
    assert_eq!((&summary["state"], &summary["exit_code"]), (&"interrupted".into(), &129.into()));
    assert_eq!(summary["created"].as_u64().unwrap(), world.journal().customers() as u64);
    assert_eq!(world.number("select count(*) from every_row where in_doubt"), 0);
    quick(&world);
    assert_eq!(world.import(&file, &[]).code, 0);
    world.assert_agreement(references(0..500));
    assert_eq!(world.journal().requests(), 500, "no row was sent twice");
}

#[cfg(target_os = "linux")]
#[test]
fn what_nohup_started_outlives_the_terminal() {
    let world = slow(20);
    let file = world.rows("users.csv", 300);
    let mut run = hearing(&world, &file, &["nohup"]).spawn().unwrap();
    assert!(wait_until(&mut run, || world.journal().requests() >= 40));
    signal(&run, "HUP");
    assert_eq!(finish(run).code, 0);
    world.assert_agreement(references(0..300));
}

#[test]
fn a_second_signal_ends_at_once_and_loses_nothing() {
    let world = slow(VERY_LONG.as_millis() as u64);
    let file = world.rows("users.csv", 100);
    let grace = format!("{}s", VERY_LONG.as_secs());
    let waits = ["--concurrency", "4", "--shutdown-grace", &grace, "--timeout", &grace];
    let mut first = world.start_import(&file, &[&waits[..], &["-v"]].concat());
    assert!(wait_until(&mut first, || world.journal().requests() == 4));
    signal(&first, "INT");
    // Two pending signals of one kind are delivered as one.
    wait_for_words(&mut first, "the run is ending");
    let began = Instant::now();
    signal(&first, "INT");
    assert_eq!(finish(first).code, 130);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert_eq!(world.summary()["state"], "interrupted");

    quick(&world);
    let second = world.import(&file, &[]);
    assert_eq!(second.code, 0, "{second:?}");
    world.assert_agreement(references(0..100));
}

#[test]
fn the_grace_is_kept_and_what_it_does_not_suffice_for_is_in_doubt_and_asked_about() {
    let world = slow(VERY_LONG.as_millis() as u64);
    let file = world.rows("users.csv", 50);
    let mut first = world.start_import(&file, &["--concurrency", "4", "--shutdown-grace", "50ms"]);
    assert!(wait_until(&mut first, || world.journal().requests() == 4));
    let began = Instant::now();
    signal(&first, "TERM");
    let first = finish(first);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert_eq!(first.code, 143, "{first:?}");
    assert_eq!(world.number("select count(*) from row where in_doubt"), 4);

    quick(&world);
    let second = world.import(&file, &[]);
    assert_eq!(second.code, 0, "{second:?}");
    world.assert_agreement(references(0..50));
    let gets = world.journal().gets();
    assert_eq!(gets, 4, "each row in doubt is asked about before anything else");
}

#[test]
fn a_signal_cuts_a_pause_short() {
    let world = World::with(Options { rate_limit: Some(5), ..Options::default() });
    world.reconfigure(|behavior| behavior.retry_after = VERY_LONG.as_secs().to_string());
    let file = world.rows("users.csv", 50);
    let mut first = world.start_import(&file, &["--concurrency", "4"]);
    // The client logs this once it has read that it must wait.
    wait_for_words(&mut first, "the API asks for a pause");
    let began = Instant::now();
    signal(&first, "INT");
    assert_eq!(finish(first).code, 130);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert_eq!(world.number("select count(*) from row where in_doubt"), 0);

    world.reconfigure(|behavior| behavior.rate_limit = None);
    let second = world.import(&file, &[]);
    assert_eq!(second.code, 0, "{second:?}");
    world.assert_agreement(references(0..50));
}

#[test]
fn a_signal_ends_a_run_that_waits_for_the_api_to_come_back() {
    let world = World::new();
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Http503));
    let file = world.rows("users.csv", 50);
    let mut first = world.start_import(&file, &["--concurrency", "4"]);
    // Four rows in flight and one probe: from here on all requests wait.
    assert!(wait_until(&mut first, || world.journal().requests() >= 5));
    let began = Instant::now();
    signal(&first, "TERM");
    assert_eq!(finish(first).code, 143);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    let outcomes = world.outcomes();
    assert!(outcomes.starts_with("pending="), "nothing succeeded and nothing failed: {outcomes}");

    world.reconfigure(|behavior| behavior.outage = None);
    assert_eq!(world.import(&file, &[]).code, 0);
    world.assert_agreement(references(0..50));
}

#[test]
fn a_signal_ends_a_run_whose_input_never_ends() {
    let world = World::new();
    let args = world.import_args(Path::new("-"), &[]);
    let mut command = world.command(&args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut run = command.spawn().unwrap();
    let mut input = run.stdin.take().unwrap();
    // More than the reader takes at a time, so that some rows are sent while the pipe stays open.
    input.write_all(rows(0..8000).as_bytes()).unwrap();
    assert!(wait_until(&mut run, || world.journal().requests() >= 100));
    let began = Instant::now();
    signal(&run, "INT");
    let done = finish(run);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    drop(input);
    assert_eq!(done.code, 130, "{done:?}");
    assert_eq!(world.export("created").len(), world.journal().customers());
}

#[test]
fn standard_input_goes_on_too() {
    let world = World::new();
    let args = world.import_args(Path::new("-"), &["--limit", "70"]);
    let first = world.run_with_input(&args, rows(0..100).as_bytes());
    assert_eq!(first.code, 0, "{first:?}");
    assert_eq!(world.outcomes(), "created=70");
    let args = world.import_args(Path::new("-"), &[]);
    let second = world.run_with_input(&args, rows(0..100).as_bytes());
    assert_eq!(second.code, 0, "{second:?}");
    assert_eq!(world.outcomes(), "created=30 unchanged=70");
    world.assert_agreement(references(0..100));
    assert_eq!(world.journal().requests(), 100);
}

/// Get finds what the earlier run sent, not what the file has today.
#[test]
fn a_row_in_doubt_that_was_corrected_meanwhile_is_known_as_it_was_sent() {
    let world = World::with(Options { faults: vec![(Fault::Garbage, 1.0)], ..Options::default() });
    let file = world.rows("users.csv", 5);
    let first = world.import(&file, &["--outage-limit", "1s"]);
    assert_eq!(first.code, 4, "{first:?}");
    let (there, creates) = (world.journal().customers() as u64, world.journal().creates());
    assert!((1..=5).contains(&there));
    assert_eq!(world.number("select count(*) from row where in_doubt"), there);

    world.reconfigure(|behavior| behavior.faults.clear());
    let corrected = rows(0..5).replace(",98", ",97");
    world.file("users.csv", corrected);
    assert_eq!(world.import(&file, &[]).code, 0);
    let left = 5 - there;
    let created = if left > 0 { format!("created={left} ") } else { String::new() };
    assert_eq!(world.outcomes(), format!("{created}changed={there}"));
    world.assert_agreement(references(0..5));
    assert_eq!(world.journal().creates(), creates + left, "what is there is not sent again");
    assert_eq!(world.import(&file, &[]).code, 0);
    assert!(world.outcomes().ends_with(&format!("changed={there}")), "{}", world.outcomes());
}

/// Some of the responses are lost, and so is the process; the next day's file has other rows.
#[test]
fn rows_in_doubt_are_settled_first_and_whatever_the_next_file_holds() {
    let world = World::with(Options { faults: vec![(Fault::Timeout, 1.0)], ..Options::default() });
    let file = world.rows("users.csv", 40);
    let mut first = world.start_import(&file, &["--concurrency", "40"]);
    assert!(wait_until(&mut first, || world.journal().requests() == 40));
    first.kill().unwrap();
    first.wait().unwrap();
    let there = world.journal().customers() as u64;
    assert!((1..40).contains(&there));

    world.reconfigure(|behavior| behavior.faults.clear());
    let from = world.journal().entries().len();
    let other = world.file("tomorrow.csv", rows(100..130));
    assert_eq!(world.import(&other, &["--concurrency", "8"]).code, 0);
    assert_eq!(world.outcomes(), "created=30", "rows of another file do not count");
    let entries = world.journal().entries();
    let (first, rest) = entries[from..].split_at(40);
    let requested: BTreeSet<String> = first.iter().map(|entry| entry.reference.to_string()).collect();
    assert_eq!(requested, references(0..40).collect());
    assert!(first.iter().all(|entry| entry.endpoint == Endpoint::Get));
    assert!(rest.iter().all(|entry| entry.endpoint == Endpoint::Create) && rest.len() == 30);
    assert_eq!(world.number("select count(*) from every_row where in_doubt"), 0);
    let evidence =
        "select count(*) from row where outcome = 'created' and found and date_created is not null";
    assert_eq!(world.number(evidence), there, "it is kept how the id became known");
    assert_eq!(world.number("select count(*) from row where outcome = 'created' and not found"), 30);
    assert_eq!(world.export("failed").len() as u64, 40 - there);

    // Rows that Get confirmed in that run are known to this one; the others are sent.
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), format!("created={} unchanged={there}", 40 - there));
    world.assert_agreement(references(0..40).chain(references(100..130)));
}

/// The row was created by a run that crashed, and this run found it: for the user it is `created`.
#[test]
fn what_get_confirms_counts_as_created() {
    let world = World::with(Options { faults: vec![(Fault::Timeout, 1.0)], ..Options::default() });
    let file = world.rows("users.csv", 40);
    let mut first = world.start_import(&file, &["--concurrency", "40"]);
    assert!(wait_until(&mut first, || world.journal().requests() == 40));
    first.kill().unwrap();
    first.wait().unwrap();
    world.reconfigure(|behavior| behavior.faults.clear());
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "created=40");
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "unchanged=40");
    world.assert_agreement(references(0..40));
}

/// The clock of the first run stood in 2099. What the second one creates is not older than its claim for that.
#[test]
fn a_row_in_doubt_that_was_claimed_in_the_future_is_created() {
    let world = World::with(Options { faults: vec![(Fault::Timeout, 1.0)], ..Options::default() });
    let file = world.rows("users.csv", 40);
    let mut first = world.start_import(&file, &["--concurrency", "40", "--shutdown-grace", "50ms"]);
    assert!(wait_until(&mut first, || world.journal().requests() == 40));
    signal(&first, "TERM");
    assert_eq!(finish(first).code, 143);
    let there = world.journal().customers() as u64;
    assert!((1..40).contains(&there));
    assert_eq!(world.number("select count(*) from row where in_doubt and claimed_at > 0"), 40);
    world.execute("update row set claimed_at = 4095000000000 where in_doubt");

    world.reconfigure(|behavior| behavior.faults.clear());
    assert_eq!(world.import(&file, &[]).code, 0);
    let created = "select count(*) from row where outcome = 'created' and not found";
    assert_eq!(world.number(created), 40 - there, "{}", world.outcomes());
    world.assert_agreement(references(0..40));
}

/// A signal while rows in doubt are looked up: nothing of the file was read, so no row of it counts.
#[test]
fn an_interrupt_while_rows_in_doubt_are_asked_about_leaves_them_in_doubt() {
    let world = World::new();
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Hang));
    let file = world.rows("users.csv", 20);
    let mut first = world.start_import(&file, &["--concurrency", "10"]);
    assert!(wait_until(&mut first, || world.journal().requests() == 10));
    first.kill().unwrap();
    first.wait().unwrap();
    let doubts = world.number("select count(*) from every_row where in_doubt");
    let mut second = world.start_import(&file, &["--concurrency", "4", "--shutdown-grace", "10ms"]);
    assert!(wait_until(&mut second, || world.journal().requests() == 14));
    signal(&second, "INT");
    assert_eq!(finish(second).code, 130);
    assert_eq!(world.summary()["rows"], 0);
    assert_eq!(world.number("select count(*) from every_row where in_doubt"), doubts);
    world.reconfigure(|behavior| behavior.outage = None);
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "created=20");
    world.assert_agreement(references(0..20));
}

/// The ledger has only the reference of a row in doubt; without the reference nobody could find the row.
#[test]
fn an_export_after_a_kill_names_its_rows_whatever_the_columns_are_called() {
    let world = World::new();
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Hang));
    let text = rows(0..50).replace("object_reference_id", "Id");
    let file = world.file("users.csv", text);
    let map = ["--map", "object_reference_id=Id"];
    let mut first = world.start_import(&file, &map);
    assert!(wait_until(&mut first, || world.journal().requests() >= 8));
    first.kill().unwrap();
    first.wait().unwrap();
    let failed = world.export("failed");
    assert_eq!(failed.len(), 50);
    let named: BTreeSet<String> = failed.into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(named, references(0..50).collect());
}

#[test]
fn a_grown_file_sends_only_its_new_rows() {
    let world = World::new();
    let file = world.rows("users.csv", 200);
    assert_eq!(world.import(&file, &[]).code, 0);
    // Extended at both ends, so that every line has moved.
    let text = rows(0..200);
    let (header, old) = text.split_once('\n').unwrap();
    let more = rows(200..260);
    let (_, new) = more.split_once('\n').unwrap();
    let (before, after) = new.split_at(new.len() / 2);
    world.file("users.csv", format!("{header}\n{before}{old}{after}"));
    let second = world.import(&file, &[]);
    assert_eq!(second.code, 0, "{second:?}");
    assert_eq!(world.outcomes(), "created=60 unchanged=200");
    assert_eq!(requested_references(&world, 200), references(200..260).collect::<BTreeSet<_>>());
    world.assert_agreement(references(0..260));
}

#[test]
fn a_corrected_file_sends_only_what_was_not_settled_or_is_corrected() {
    let world = World::with(Options {
        faults: vec![(Fault::Reject, 0.1), (Fault::Api503, 0.2)],
        ..Options::default()
    });
    let broken = "cust-000300,+98,\nshort,9812345678,\n";
    let file = world.file("users.csv", rows(0..200) + broken);
    // Two hundred in flight, so that some failing at once are not an outage.
    let first = world.import(&file, &["--max-attempts", "1", "--concurrency", "200"]);
    assert_eq!(first.code, 4, "{first:?}");
    let with = |outcome: &str| -> Vec<String> {
        let all = world.export("all").into_iter();
        all.filter(|row| row[2] == outcome).map(|row| row[1].clone()).collect()
    };
    let (rejected, failed, pending) = (with("rejected"), with("failed"), with("pending"));
    assert!(rejected.len() > 5 && failed.len() > 5, "{}", world.outcomes());
    assert_eq!(with("invalid").len(), 2);

    // The API works again, and the file is half corrected: both invalid rows, half the rejected ones.
    world.reconfigure(|behavior| behavior.faults.clear());
    let (corrected, left) = rejected.split_at(rejected.len() / 2);
    let mut text = rows(0..200) + "cust-000300,9812345678,\nlonger-than-short,9812345678,\n";
    for reference in corrected {
        text = text.replace(&format!("{reference},98"), &format!("{reference},97"));
    }
    world.file("users.csv", text);
    let before = world.journal().entries().len();
    let second = world.import(&file, &[]);
    assert_eq!(second.code, 3, "{second:?}");
    let sent = failed.len() + pending.len() + corrected.len() + 2;
    let unchanged = 200 - rejected.len() - failed.len() - pending.len();
    assert_eq!(world.outcomes(), format!("created={sent} unchanged={unchanged} rejected={}", left.len()));
    let mut expected: BTreeSet<String> = failed.iter().chain(&pending).chain(corrected).cloned().collect();
    expected.extend(["cust-000300".to_owned(), "longer-than-short".to_owned()]);
    assert_eq!(requested_references(&world, before), expected);
    let api = world.journal().created();
    assert_eq!(api.len(), 202 - left.len());
    assert!(api.values().all(|(_, times)| *times == 1));
}

#[test]
fn duplicates_are_found_across_an_interruption() {
    let world = slow(5);
    // Each of the last hundred rows repeats one of the first hundred.
    let text = rows(0..400) + rows(0..100).split_once('\n').unwrap().1;
    let file = world.file("users.csv", text);
    for at in [60, 180] {
        let mut run = world.start_import(&file, &["--concurrency", "8"]);
        assert!(wait_until(&mut run, || world.journal().requests() >= at));
        run.kill().unwrap();
        run.wait().unwrap();
    }
    let last = world.import(&file, &[]);
    assert_eq!(last.code, 3, "{last:?}");
    let summary = world.summary();
    assert_eq!(summary["duplicate"], 100, "{summary}");
    assert_eq!(summary["rows"], 500);
    world.assert_agreement(references(0..400));
    let failed = world.export("failed");
    assert_eq!(failed.len(), 100, "each duplicate is told once, whatever runs met it");
    let lines: BTreeSet<String> = failed.iter().map(|row| row[3].clone()).collect();
    assert_eq!(lines, (402..502).map(|line| line.to_string()).collect());
}

#[test]
fn a_second_import_on_the_same_ledger_is_refused_and_the_first_unharmed() {
    let world = slow(10);
    let file = world.rows("users.csv", 300);
    let mut first = world.start_import(&file, &["--concurrency", "4"]);
    assert!(wait_until(&mut first, || world.journal().requests() >= 10));
    // On a server, only an import of the same file joins the run.
    let other = if world.is_in_file() { file.clone() } else { world.rows("others.csv", 300) };
    let second = world.import(&other, &["--summary-json", "second.json"]);
    assert_eq!(second.code, 2, "{second:?}");
    assert!(second.stderr.starts_with("error: ") && second.stderr.contains("in use"), "{second:?}");
    assert_eq!(second.stderr.lines().count(), 1, "{second:?}");
    let first = finish(first);
    assert_eq!(first.code, 0, "{first:?}");
    assert_eq!(world.outcomes(), "created=300");
    assert_eq!(world.journal().requests(), 300, "the second one sent nothing");
    assert_eq!(world.number("select count(*) from run"), 1);
    world.assert_agreement(references(0..300));
}

#[test]
fn a_ledger_remembers_its_target() {
    let (world, elsewhere) = (World::new(), World::new());
    let file = world.rows("users.csv", 20);
    assert_eq!(world.import(&file, &[]).code, 0);
    let before = world.table("run");
    let other = elsewhere.base_url();
    for wrong in [["--base-url", &other], ["--merchant-id", "someone_else"]] {
        let refused = world.import(&file, &wrong);
        assert_eq!(refused.code, 2, "{wrong:?}: {refused:?}");
        assert!(refused.stderr.contains(MERCHANT), "{refused:?}");
    }
    assert_eq!(world.journal().requests(), 20);
    assert_eq!(elsewhere.journal().requests(), 0);
    assert_eq!(world.table("run"), before, "a refused run leaves no trace in the ledger");
    assert_eq!(world.import(&file, &[]).code, 0);
}

#[test]
fn a_run_that_changes_nothing_writes_no_row() {
    let world = World::with(Options { faults: vec![(Fault::Reject, 0.2)], ..Options::default() });
    let file = world.rows("users.csv", 300);
    assert_eq!(world.import(&file, &[]).code, 3);
    let tables: &[&str] = if world.is_in_file() {
        &["row", "record", "claim", "reference_key"]
    } else {
        &["row", "record", "claim"]
    };
    let contents = || tables.iter().map(|table| world.table(table)).collect::<Vec<_>>();
    let before = contents();
    assert_eq!(before[0].len(), 300);
    let requests = world.journal().requests();
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(contents(), before);
    assert_eq!(world.journal().requests(), requests);
}

/// Invalid and duplicate rows belong to the last run that found them, so they are written again; but they must not
/// accumulate.
#[test]
fn rows_that_break_a_rule_do_not_pile_up_in_the_ledger() {
    let world = World::new();
    let text = rows(0..50) + "short,98,\ncust-000300,+98,\ncust-000001,981,\ncust-000001,982,\n";
    let file = world.file("users.csv", text);
    let contents = || {
        let rows =
            "select line, outcome, reference, field, error_code, error_message from every_row order by line";
        let table = if world.is_in_file() { "unsendable" } else { "record" };
        (world.query(rows), world.query(&format!("select cells from {table} order by cells")))
    };
    assert_eq!(world.import(&file, &[]).code, 3);
    let before = contents();
    assert_eq!((before.0.len(), before.1.len()), (54, 4));
    for _ in 0..2 {
        assert_eq!(world.import(&file, &[]).code, 3);
        assert_eq!(world.outcomes(), "unchanged=50 duplicate=2 invalid=2");
        assert_eq!(contents(), before);
        assert_eq!(world.export("failed").len(), 4);
    }
    assert_eq!(world.journal().requests(), 50);
}

/// The rows that a run finds invalid have the highest ids, and are deleted when they come back corrected. If their
/// ids were reused, the rows with these ids would be below the watermark of the index, and never be found.
#[test]
fn a_row_is_remembered_also_where_corrected_ones_stood_before_it() {
    let world = World::new();
    let day = |lines: &str| {
        let file = world.file("daily.csv", format!("object_reference_id,mobile_number\n{lines}"));
        world.import(&file, &[]);
        world.outcomes()
    };
    day("cust_AAAA,1\ncust_BBBB,1\n");
    assert_eq!(day("cust_AAAA,1\ncust_BBBB,+1\n"), "unchanged=1 invalid=1");
    assert_eq!(day("cust_AAAA,1\ncust_BBBB,1\n"), "unchanged=2");
    assert_eq!(day("cust_AAAA,1\ncust_BBBB,1\ncust_CCCC,1\n"), "created=1 unchanged=2");
    let requests = world.journal().requests();
    assert_eq!(day("cust_AAAA,1\ncust_BBBB,1\ncust_CCCC,1\n"), "unchanged=3");
    assert_eq!(world.journal().requests(), requests);
}

#[test]
fn another_path_to_the_same_ledger_is_no_way_around_its_lock() {
    let latency = Duration::from_millis(20);
    let world = World::with(Options { latency: (latency, latency), ..Options::default() }).in_file();
    let file = world.rows("users.csv", 200);
    let mut first = world.start_import(&file, &["--concurrency", "2"]);
    assert!(wait_until(&mut first, || world.journal().requests() >= 1));
    std::os::unix::fs::symlink(world.ledger(), world.path("link.db")).unwrap();
    let link = world.path("link.db").display().to_string();
    let second = world.import(&file, &["--ledger", &link]);
    assert_eq!(second.code, 2, "{second:?}");
    assert!(second.stderr.contains("in use"), "{second:?}");
    assert_eq!(finish(first).code, 0);
}

#[test]
fn a_ledger_that_goes_away_in_mid_run_is_an_error_and_not_a_success() {
    let latency = Duration::from_millis(20);
    let world = World::with(Options { latency: (latency, latency), ..Options::default() }).in_file();
    let file = world.rows("users.csv", 200);
    let mut run = world.start_import(&file, &["--concurrency", "4"]);
    assert!(wait_until(&mut run, || world.journal().requests() >= 1));
    std::fs::rename(world.ledger(), world.path("moved.db")).unwrap();
    let done = finish(run);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("moved or deleted"), "{done:?}");
    // A new ledger finds the existing customers.
    let new = world.path("new.db").display().to_string();
    assert_eq!(world.import(&file, &["--ledger", &new]).code, 0);
    assert_eq!(world.journal().customers(), 200);
    assert!(world.journal().created().values().all(|(_, times)| *times == 1));
}
