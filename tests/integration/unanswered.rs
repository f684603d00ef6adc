//! An API that never responds: more likely the host is wrong than the API unavailable, and the user is told at once.
//!
//! The disaster: a typing error in the host looks like work for ten minutes; or a server that is only slow is given
//! up.

use std::{
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStderr},
    time::{Duration, Instant},
};

use customer_import::simulator::Outage;

use crate::{
    terminal::{Terminal, lines},
    world::{MERCHANT, World, finish, wait_until},
};

/// How long an API that has never responded is tried.
const TRIED: Duration = Duration::from_secs(30);

fn start(world: &World, more: &[&str]) -> (Child, BufReader<ChildStderr>) {
    let file = world.rows("users.csv", 100);
    let mut child = world.start_import(&file, &[&["--progress", "always"], more].concat());
    let stderr = BufReader::new(child.stderr.take().unwrap());
    (child, stderr)
}

/// The first line with these words.
fn line_with(log: &mut BufReader<ChildStderr>, words: &str) -> String {
    let mut lines = log.lines().map(Result::unwrap);
    lines.find(|line| line.contains(words)).unwrap_or_else(|| panic!("the run ended without {words:?}"))
}

/// A server that accepts connections and never responds.
fn silent_server() -> (String, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (format!("http://{}", listener.local_addr().unwrap()), listener)
}

/// A server that closes every connection, like a load balancer without a service behind it.
fn closing_server() -> String {
    let (url, listener) = silent_server();
    std::thread::spawn(move || listener.incoming().for_each(|stream| drop::<Option<TcpStream>>(stream.ok())));
    url
}

/// All at the same time, because each takes half a minute: hosts that never respond, one that did once, and a slow
/// one.
#[test]
fn a_host_that_never_answers_is_given_up_long_before_the_outage_limit() {
    let answered = World::new();
    let mut waiting = answered.start_import(&answered.rows("users.csv", 400), &["--rate", "50"]);
    assert!(wait_until(&mut waiting, || answered.journal().requests() >= 3));
    answered.reconfigure(|behavior| behavior.outage = Some(Outage::Refuse));
    let (url, _listener) = silent_server();
    let slow = World::new();
    let (mut pending, _log) =
        start(&slow, &["--base-url", &url, "--timeout", "10m", "--shutdown-grace", "1ms"]);

    let [refusing, closing] = [World::new(), World::new()];
    refusing.reconfigure(|behavior| behavior.outage = Some(Outage::Refuse));
    let began = Instant::now();
    let hosts =
        [(&refusing, refusing.base_url(), "connection refused"), (&closing, closing_server(), "connection")];
    let runs = hosts.map(|(world, url, cause)| (world, start(world, &["--base-url", &url]), cause));
    for (world, (child, mut log), cause) in runs {
        let warning = line_with(&mut log, "no response yet");
        assert!(warning.contains(" WARN ") && warning.contains(cause), "{warning}");
        assert!(warning.contains("--outage-limit, at most 30 s"), "{warning}");
        let error = line_with(&mut log, "error: ");
        assert!(error.starts_with("error: no response for 30 s, and none since the run began ("), "{error}");
        assert!(error.contains(cause) && error.contains("check --base-url"), "{error}");
        assert!((TRIED..TRIED * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
        let done = finish(child);
        assert_eq!(done.code, 4, "{done:?}");
        assert!(done.stdout.contains("next:   check --base-url (host and port)"), "{done:?}");
        assert!(world.outcomes().starts_with("pending="), "{}", world.outcomes());
    }
    for child in [&mut waiting, &mut pending] {
        assert_eq!(child.try_wait().unwrap(), None, "an answer was there, or may still come");
    }
    answered.reconfigure(|behavior| behavior.outage = None);
    assert_eq!(finish(waiting).code, 0);
    pending.kill().unwrap();
    pending.wait().unwrap();
}

#[test]
fn the_cause_is_shown_with_the_first_failure() {
    let world = World::new();
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Refuse));
    // One request in seven seconds: too few for a series of failures, by which an outage is detected.
    let (mut child, mut log) = start(&world, &["--rate", "0.15", "--outage-limit", "10m"]);
    let warning = line_with(&mut log, "no response yet");
    assert!(warning.contains("connection refused"), "{warning}");
    let status = || world.run(&["status"]).stdout;
    assert!(wait_until(&mut child, || status().contains("connection refused")));
    assert!(status().contains("no valid response: waiting for the API"), "{}", status());
    let line = line_with(&mut log, " 0%  0 of ");
    assert!(line.contains("connection refused"), "{line}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_shorter_outage_limit_holds() {
    let world = World::new();
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Refuse));
    let (child, mut log) = start(&world, &["--outage-limit", "1s"]);
    let error = line_with(&mut log, "error: ");
    assert!(error.starts_with("error: no response for 1.0 s, and none since the run began ("), "{error}");
    assert_eq!(finish(child).code, 4);
}

/// Commands that only look up show it in the same way.
#[test]
fn a_verification_shows_the_cause_too() {
    let world = World::new();
    let file = world.rows("users.csv", 20);
    assert_eq!(world.import(&file, &[]).code, 0);
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Refuse));
    let base_url = world.base_url();
    let args = ["verify", "users.csv", "--base-url", &base_url, "--merchant-id", MERCHANT];
    let mut terminal = Terminal::new(100);
    let mut verify = terminal.start(world.command(&args));
    // The log has the text in quotes; it also appears before the word that is drawn next to it.
    let shown = terminal.read_until("\x1b[K\r\nno connection to ");
    assert!(lines(&shown, 100).iter().any(|line| line.starts_with("0 of 20 rows, ")), "{shown:?}");
    verify.kill().unwrap();
    verify.wait().unwrap();
}
