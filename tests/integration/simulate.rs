//! The simulator as a separate process, as users run it.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Stdio},
};

use crate::world::{World, done};

struct Served {
    child: Child,
    output: BufReader<ChildStdout>,
    url: String,
}

impl Served {
    /// Starts it on a free port and reads its address.
    fn start(world: &World, more: &[&str], change: impl FnOnce(&mut Command)) -> Served {
        let mut command = world.command(&[&["simulate", "--listen", "127.0.0.1:0"], more].concat());
        change(&mut command);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Served { child, output, url }
    }

    /// Ends it by this signal; returns its exit code and its standard error.
    fn end(mut self, signal: &str) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
        let mut output = String::new();
        self.output.read_to_string(&mut output).unwrap();
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (self.child.wait().unwrap().code(), errors)
    }
}

#[test]
fn an_import_into_it_by_its_address() {
    let world = World::new();
    let any_key = |command: &mut Command| {
        command.env_remove("JUSPAY_API_KEY");
    };
    let served = Served::start(&world, &["--seed", "7"], any_key);
    let file = world.rows("users.csv", 50);
    let imported = world.import(&file, &["--base-url", &served.url]);
    assert_eq!(imported.code, 0, "{imported:?}");
    assert_eq!(world.outcomes(), "created=50");
    assert_eq!(served.end("-TERM"), (Some(0), String::new()));
    assert_eq!(world.journal().requests(), 0);
}

#[test]
fn sigint_ends_it_too() {
    let world = World::new();
    let served = Served::start(&world, &[], |_| {});
    assert_eq!(served.end("-INT"), (Some(0), String::new()));
}

#[test]
fn a_wrong_key_is_refused() {
    let world = World::new();
    // It accepts only the key in its own environment.
    let served = Served::start(&world, &[], |command| {
        command.env("JUSPAY_API_KEY", "another_key");
    });
    let file = world.rows("users.csv", 2);
    let refused = world.import(&file, &["--base-url", &served.url]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("401"), "{refused:?}");
    let args = world.import_args(&file, &["--base-url", &served.url]);
    let mut command = world.command(&args);
    let accepted = done(command.env("JUSPAY_API_KEY", "another_key").output().unwrap());
    assert_eq!(accepted.code, 0, "{accepted:?}");
    served.end("-TERM");
}

#[test]
fn a_profile_and_a_merchant_are_as_told() {
    let world = World::new();
    for (profile, prefix) in
        [(&[][..], "cth_"), (&["--profile", "today"], "cth_"), (&["--profile", "page"], "cst_")]
    {
        let served = Served::start(&world, &[profile, &["--merchant-id", "Acme"]].concat(), |_| {});
        let file = world.rows("users.csv", 3);
        let ledger = format!("{}{prefix}.db", profile.len());
        let at = ["--base-url", &served.url, "--ledger", &ledger, "--merchant-id"];
        assert_eq!(world.import(&file, &[&at[..], &["Acme"]].concat()).code, 0);
        let exported = world.run(&["export", "created", "--ledger", &ledger]).stdout;
        assert_eq!(exported.matches(prefix).count(), 3, "{exported}");
        let refused =
            world.import(&file, &["--base-url", &served.url, "--ledger", "x.db", "--merchant-id", "acme"]);
        assert!(refused.code == 4 && refused.stderr.contains("401"), "{refused:?}");
        std::fs::remove_file(world.path("x.db")).unwrap();
        served.end("-TERM");
    }
}

#[test]
fn a_rate_limit_answers_429() {
    let world = World::new();
    let served = Served::start(&world, &["--rate-limit", "5"], |_| {});
    let file = world.rows("users.csv", 8);
    let imported = world.import(&file, &["--base-url", &served.url]);
    assert_eq!(imported.code, 0, "{imported:?}");
    assert_eq!(world.outcomes(), "created=8");
    assert!(world.summary()["throttled"].as_u64().unwrap() >= 1);
    served.end("-TERM");
}

#[test]
fn faults_are_as_told() {
    let world = World::new();
    let served = Served::start(&world, &["--fault", "ok-error=1", "--latency", "1ms..5ms"], |_| {});
    let file = world.rows("users.csv", 3);
    assert_eq!(world.import(&file, &["--base-url", &served.url]).code, 3);
    assert_eq!(world.outcomes(), "rejected=3");
    served.end("-TERM");
}

#[test]
fn what_it_cannot_do_is_refused_on_one_line() {
    let world = World::new();
    let (taken, port) = (world.simulator.address().to_string(), "127.0.0.1:0");
    for (args, words) in [
        (&["--fault", "flood-of-frogs=1"][..], &["flood-of-frogs", "http500", "reset-after"][..]),
        (&["--fault", "http500"], &["http500", "KIND=PROBABILITY"]),
        (&["--fault", "http500=2"], &["probability"]),
        (&["--fault", "http500=-0.1"], &["probability"]),
        (&["--rate-limit", "0"], &["--rate-limit"]),
        (&["--rate-limit=-1"], &["--rate-limit"]),
        (&["--latency", "5ms..1ms"], &["--latency"]),
        (&["--latency", "soon"], &["--latency", "20ms"]),
        (&["--seed", "x"], &["--seed"]),
        (&["--profile", "tomorrow"], &["--profile", "page", "today"]),
        (&["--listen", "8080"], &["--listen"]),
        (&["--listen", &taken], &[&taken, "--listen"]),
    ] {
        let mut all = vec!["simulate"];
        if args[0] != "--listen" {
            all.extend(["--listen", port]);
        }
        all.extend(args);
        let refused = world.run(&all);
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{args:?} {refused:?}");
        assert!(refused.stderr.starts_with("error: "), "{refused:?}");
        assert_eq!(refused.stderr.matches('\n').count(), 1, "{refused:?}");
        for word in words {
            assert!(refused.stderr.contains(word), "no {word:?} in {refused:?}");
        }
    }
}

/// A kind that no page names is a kind that nobody uses.
#[test]
fn help_and_documentation_name_every_fault() {
    let world = World::new();
    let refused = world.run(&["simulate", "--fault", "none-such=1"]).stderr;
    let kinds = refused.split_once("known are ").unwrap().1.trim();
    let page = include_str!("../../docs/simulator.md");
    let help = world.run(&["simulate", "--help"]).stdout;
    assert!(kinds.split(", ").count() > 10, "{kinds}");
    for kind in kinds.split(", ") {
        assert!(page.contains(&format!("`{kind}`")), "docs/simulator.md: {kind}");
        let named = help.split(|c: char| c.is_whitespace() || ",.".contains(c)).any(|word| word == kind);
        assert!(named, "simulate --help: {kind}");
    }
}
