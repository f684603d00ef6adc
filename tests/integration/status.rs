//! `status`: its output, also during a run.

use std::{
    io::{BufRead, BufReader},
    time::{Duration, Instant},
};

use customer_import::simulator::{Options, Outage};

use crate::world::{MERCHANT, World};

#[test]
fn runs_and_what_is_left() {
    let world = World::new();
    let text = "object_reference_id,mobile_number\ncust-0001,1\ncust-0002,x\ncust-0001,3\n";
    let file = world.file("users.csv", text);
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.import(&file, &["--limit", "1"]).code, 0);
    let done = world.run(&["status"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    for words in [
        "ledger.db",
        &world.base_url(),
        MERCHANT,
        "3 in the ledger",
        "created 1, duplicate 1, invalid 1; 1 request",
        "unchanged 1; 0 requests",
        "import ",
        "users.csv",
        "completed",
    ] {
        assert!(done.stdout.contains(words), "no {words:?} in {}", done.stdout);
    }
    assert!(!done.stdout.contains("cust-0001"));
    let long = done.stdout.lines().filter(|line| line.chars().count() > 80 && !line.contains('/'));
    assert_eq!(long.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn the_same_for_scripts() {
    let world = World::new();
    let file = world.file("users.csv", "object_reference_id,mobile_number\ncust-0001,1\ncust-0002,x\n");
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.import(&file, &["--limit", "1"]).code, 0);
    let done = world.run(&["status", "--format", "json"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    let status: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&status["rows"], &status["created"], &status["invalid"]), (&2.into(), &1.into(), &1.into()));
    assert_eq!((&status["merchant_id"], &status["base_url"]), (&MERCHANT.into(), &world.base_url().into()));
    let runs = status["runs"].as_array().unwrap();
    assert_eq!((runs.len(), &runs[0]["exit_code"], &runs[1]["unchanged"]), (2, &3.into(), &1.into()));
    assert_eq!((&runs[1]["state"], &runs[1]["stop_reason"]), (&"completed".into(), &serde_json::Value::Null));
    let time = runs[0]["ended_at"].as_str().unwrap();
    assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
}

#[test]
fn a_stopped_run_says_why() {
    let world = World::new();
    world.reconfigure(|behavior| behavior.key_revoked = true);
    let file = world.rows("users.csv", 1);
    assert_eq!(world.import(&file, &[]).code, 4);
    let done = world.run(&["status"]);
    assert_eq!(done.code, 0);
    for words in ["stopped", "   4  ", "the API refused the credentials", "pending"] {
        assert!(done.stdout.contains(words), "no {words:?} in {}", done.stdout);
    }
}

#[test]
fn a_run_is_seen_while_it_goes_on_and_nobody_else_may_begin_one() {
    let world = World::with(Options::default());
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Hang));
    let file = world.rows("users.csv", 5);
    let mut child = world.start_import(&file, &["-v"]);
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("the run begins") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "the run ended");
    }
    // A request in flight has a committed claim; there is no line for it.
    let began = Instant::now();
    while world.journal().requests() == 0 {
        assert!(began.elapsed() < Duration::from_secs(30));
        std::thread::yield_now();
    }
    let status = world.run(&["status"]);
    assert_eq!((status.code, status.stderr.as_str()), (0, ""));
    for words in ["running", "5 in the ledger", "pending 5"] {
        assert!(status.stdout.contains(words), "no {words:?} in {}", status.stdout);
    }
    let all = world.export("all");
    assert!(all.len() == 5 && all.iter().all(|row| row[2] == "pending"), "{all:?}");
    let second = world.import(&file, &[]);
    assert_eq!(second.code, 2, "{second:?}");
    assert!(second.stderr.contains("in use") && second.stderr.starts_with("error: "));

    child.kill().unwrap();
    child.wait().unwrap();
    let status = world.run(&["status"]);
    assert!(status.stdout.contains("died"), "{status:?}");
    world.reconfigure(|behavior| behavior.outage = None);
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.journal().customers(), 5);
}
