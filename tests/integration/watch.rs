//! `status --watch`: shows the current run until it ends, without affecting it.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use customer_import::simulator::Outage;

use crate::{
    terminal::{Terminal, lines},
    world::{World, finish, signal, wait_until},
};

/// A run whose requests wait for a response, and that has reported this.
fn waiting_run(world: &World) -> Child {
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Hang));
    let file = world.rows("users.csv", 50);
    let mut run = world.start_import(&file, &["--concurrency", "8", "--timeout", "10m", "--rate", "1000"]);
    let is_waiting = || world.has_ledger() && world.run(&["status"]).stdout.contains("8 in flight");
    assert!(wait_until(&mut run, is_waiting));
    run
}

/// Lets a run finish.
fn complete(world: &World, run: Child) {
    signal(&run, "INT");
    signal(&run, "INT");
    drop(finish(run));
    world.reconfigure(|behavior| behavior.outage = None);
}

#[test]
fn a_terminal_shows_the_run_until_it_ends() {
    let world = World::new();
    let run = waiting_run(&world);
    let mut terminal = Terminal::new(60);
    let mut watch = terminal.start(world.command(&["status", "--watch"]));
    let shown = terminal.read_until("8 in flight");
    let drawn = lines(&shown, 60);
    assert!(drawn.iter().any(|line| line == "Run 1 is in progress"), "{shown:?}");
    assert!(drawn.iter().any(|line| line.contains("0%  0 of about 5")), "{shown:?}");
    assert!(shown.contains("Ctrl-C ends the watching, not the run"), "{shown:?}");
    complete(&world, run);
    let rest = terminal.read_until("");
    assert_eq!(watch.wait().unwrap().code(), Some(0), "{rest:?}");
    let (drawn, status) = rest.rsplit_once("\x1b[J").unwrap();
    assert!(!drawn.contains("Target"), "{rest:?}");
    assert!(status.contains("Target") && status.contains("\r\n   1  "), "{status:?}");
}

#[test]
fn it_ends_without_the_run() {
    let world = World::new();
    let mut run = waiting_run(&world);
    let mut terminal = Terminal::new(80);
    let mut watch = terminal.start(world.command(&["status", "--watch"]));
    terminal.read_until("8 in flight");
    signal(&watch, "INT");
    let rest = terminal.read_until("");
    assert_eq!(watch.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(rest.ends_with("\x1b[J"), "nothing is left half drawn: {rest:?}");
    assert_eq!(run.try_wait().unwrap(), None, "the run goes on");
    run.kill().unwrap();
    run.wait().unwrap();
}

#[test]
fn a_run_that_dies_has_ended() {
    let world = World::new();
    let mut run = waiting_run(&world);
    let mut terminal = Terminal::new(80);
    let mut watch = terminal.start(world.command(&["status", "--watch"]));
    terminal.read_until("8 in flight");
    run.kill().unwrap();
    run.wait().unwrap();
    let rest = terminal.read_until("");
    assert_eq!(watch.wait().unwrap().code(), Some(0), "{rest:?}");
    assert!(rest.contains("died"), "{rest:?}");
}

#[test]
fn a_pipe_gets_lines_while_somebody_reads_them() {
    let world = World::new();
    let mut run = waiting_run(&world);
    let mut watch = world.command(&["status", "--watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut shown = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(shown.next().unwrap().starts_with("Run 1: "));
    let line = shown.next().unwrap();
    assert!(line.contains("0%  0 of about 5") && line.contains("8 in flight"), "{line}");
    drop(shown);
    assert_eq!(watch.wait().unwrap().code(), Some(0), "like | head");
    run.kill().unwrap();
    run.wait().unwrap();
}

#[test]
fn without_a_run_it_is_the_status() {
    let world = World::new();
    let file = world.rows("users.csv", 3);
    assert_eq!(world.import(&file, &[]).code, 0);
    let watched = world.run(&["status", "--watch"]);
    let status = world.run(&["status"]);
    assert_eq!((watched.code, watched.stdout), (0, status.stdout));
    world.run(&["status", "--watch", "--ledger", "nowhere.db"]).assert_error(2, &["no ledger nowhere.db"]);
    world.run(&["status", "--watch", "--format", "json"]).assert_error(2, &["--watch", "--format json"]);
}
