//! The confirmation before production: one question on a terminal, `--yes` elsewhere; and no ledger for two targets.

use std::{net::TcpListener, process::Command};

use crate::{
    terminal::Terminal,
    world::{World, done},
};

/// An import into production, which an unreadable certificate ends before anything is sent.
fn into_production(world: &World, more: &[&str]) -> Command {
    let target = ["--environment", "production", "--merchant-id", "acme", "--ca-file", "none.pem"];
    let args = [&["import", "users.csv", "--rate", "20"], &target[..], more].concat();
    world.command(&args)
}

/// The output up to the question, and after this answer.
fn answered(world: &World, answer: &str) -> (i32, String, String) {
    let mut terminal = Terminal::new(80);
    let mut child = terminal.start(into_production(world, &[]));
    let question = terminal.read_until("[y/N] ");
    terminal.type_in(answer);
    let rest = terminal.read_until("");
    (child.wait().unwrap().code().unwrap(), question, rest)
}

#[test]
fn production_is_asked_for_once_with_all_that_matters() {
    let world = World::new();
    world.rows("users.csv", 1_234);
    let (code, question, rest) = answered(&world, "y\n");
    for words in ["merchant  acme\r", "host      api.juspay.in\r", "users.csv, 1,234 rows\r", "20 requests/s"]
    {
        assert!(question.contains(words), "no {words:?} in {question:?}");
    }
    // The confirmation was accepted: the error about the certificate comes after it.
    assert!(code == 2 && rest.contains("none.pem") && !rest.contains("[y/N]"), "{rest:?}");
    for answer in ["n\n", "\n", "yep\n", "\u{4}"] {
        let (code, _, rest) = answered(&world, answer);
        assert!(code == 2 && rest.contains("not confirmed, nothing was sent"), "{answer:?}: {rest:?}");
        assert!(!rest.contains("[y/N]"), "once: {rest:?}");
    }
    assert!(!world.ledger().exists());
}

#[test]
fn a_long_file_is_estimated() {
    let world = World::new();
    world.rows("users.csv", 40_000);
    let (_, question, _) = answered(&world, "n\n");
    let rows =
        question.split_once("users.csv, about ").unwrap().1.split(' ').next().unwrap().replace(',', "");
    assert!((39_000..41_000).contains(&rows.parse::<u64>().unwrap()), "{question}");
}

#[test]
fn off_a_terminal_production_needs_a_yes() {
    let world = World::new();
    world.rows("users.csv", 3);
    let refused = done(into_production(&world, &[]).output().unwrap());
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.starts_with("error: sending to production requires confirmation"), "{refused:?}");
    assert!(refused.stderr.trim_end().ends_with("add --yes") && refused.stderr.lines().count() == 1);
    let confirmed = done(into_production(&world, &["--yes"]).output().unwrap());
    assert!(confirmed.code == 2 && confirmed.stderr.contains("none.pem"), "{confirmed:?}");
    // Neither the spelling of the host nor a file on standard input in place of an answer avoids the confirmation.
    for host in ["https://api.juspay.in", "https://API.juspay.io", "https://eu.api.juspay.in/other"] {
        let args = ["import", "-", "--base-url", host, "--merchant-id", "m"];
        let refused = world.run_with_input(&args, crate::world::rows(0..3).as_bytes());
        assert!(
            refused.code == 2 && refused.stderr.contains("sending to production requires confirmation"),
            "{host}: {refused:?}"
        );
    }
    assert!(!world.ledger().exists());
}

#[test]
fn sandbox_and_other_hosts_are_not_asked_about() {
    let world = World::new();
    world.rows("users.csv", 3);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for args in [["--environment", "sandbox"], ["--base-url", &format!("http://{nobody}")]] {
        let more =
            [&["import", "users.csv", "--merchant-id", "m", "--ca-file", "none.pem"], &args[..]].concat();
        let done = world.run(&more);
        assert!(done.code == 2 && done.stderr.contains("none.pem"), "{done:?}");
    }
}

#[test]
fn a_ledger_of_one_target_refuses_another() {
    let world = World::new();
    let file = world.rows("users.csv", 3);
    assert_eq!(world.import(&file, &[]).code, 0);
    let requests = world.journal().requests();
    for more in [["--merchant-id", "another"], ["--base-url", &*format!("{}/other", world.base_url())]] {
        let refused = world.import(&file, &more);
        assert!(refused.code == 2 && refused.stderr.contains("--ledger"), "{more:?}: {refused:?}");
        assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
    }
    assert_eq!(world.journal().requests(), requests);
}
