//! Color: on terminals and on request, in text for people, and nowhere else.
//!
//! The disaster is a script that parses escape sequences meant for a terminal.

use std::process::Command;

use crate::{
    terminal::Terminal,
    world::{World, done},
};

const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RED: &str = "\x1b[31m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";

/// One row that is created, one that is invalid, one that is a duplicate.
const FILE: &str = "object_reference_id,mobile_number\ncust-0001,9000000001\ncust-0002,x\ncust-0001,3\n";

/// The variables that affect color, whatever the machine of the tests sets.
const VARIABLES: [&str; 4] = ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TERM"];

fn command(world: &World, args: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = world.command(args);
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.env("TERM", "xterm-256color").envs(environment.iter().copied());
    command
}

fn world() -> World {
    let world = World::new();
    world.file("users.csv", FILE);
    assert_eq!(world.import(&world.path("users.csv"), &[]).code, 3);
    world
}

/// What a command shows on a terminal, without the sequences that move the cursor or erase.
fn on_terminal(world: &World, args: &[&str], environment: &[(&str, &str)]) -> String {
    let (_, shown) = Terminal::new(80).run(command(world, args, environment));
    shown
}

fn is_colored(text: &str) -> bool {
    let sequences = text.split("\x1b[").skip(1);
    let last = sequences.filter_map(|rest| rest.chars().find(char::is_ascii_alphabetic));
    last.into_iter().any(|last| last == 'm')
}

#[test]
fn a_terminal_gets_it_sparsely() {
    let world = world();
    let shown = on_terminal(&world, &["status"], &[]);
    for words in [
        format!("{BOLD}Ledger\x1b[0m  "),
        format!("{GREEN}created                1\x1b[0m   {DIM}created by"),
        format!("{YELLOW}duplicate 1\x1b[0m, {YELLOW}invalid 1\x1b[0m; "),
    ] {
        assert!(shown.contains(&words), "no {words:?} in {shown:?}");
    }
    let error = on_terminal(&world, &["status", "--ledger", "nowhere.db"], &[]);
    assert!(
        error.starts_with(&format!("{BOLD}{RED}error:\x1b[0m there is no ledger nowhere.db")),
        "{error:?}"
    );
    let usage = on_terminal(&world, &["frobnicate"], &[]);
    assert!(usage.starts_with(&format!("{BOLD}{RED}error:\x1b[0m ")), "{usage:?}");
}

#[test]
fn a_run_is_shown_in_it_from_its_progress_to_its_end() {
    let world = World::new();
    let more: String = (10..16).map(|number| format!("cust-00{number},9000000001\n")).collect();
    world.file("users.csv", format!("{FILE}{more}"));
    let args = world.import_args(&world.path("users.csv"), &["--rate", "4"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let shown = on_terminal(&world, &args, &[]);
    let (progress, end) = shown.split_once(&format!("{BOLD}Run 1 completed: ")).unwrap();
    let counts = format!("\x1b[0m, {YELLOW}duplicate 1\x1b[0m, {YELLOW}invalid 1\x1b[0m; ");
    assert!(progress.contains(&format!("{GREEN}created ")) && progress.contains(&counts), "{progress:?}");
    assert!(end.contains(&format!("  {BOLD}next:\x1b[0m   ")), "{end:?}");
}

#[test]
fn whoever_does_not_want_it_does_not_get_it() {
    let world = world();
    let status = &["status"][..];
    for environment in [("NO_COLOR", "1"), ("CLICOLOR", "0"), ("TERM", "dumb")] {
        let shown = on_terminal(&world, status, &[environment]);
        assert!(shown.contains("created") && !is_colored(&shown), "{environment:?}: {shown:?}");
    }
    for args in
        [&["status", "--color", "never"][..], &["status", "--color=never"], &["frob", "--color=never"]]
    {
        let shown = on_terminal(&world, args, &[("CLICOLOR_FORCE", "1")]);
        assert!(!is_colored(&shown), "{args:?}: {shown:?}");
    }
    let piped = |args: &[&str], environment: &[(&str, &str)]| {
        let done = done(command(&world, args, environment).output().unwrap());
        (is_colored(&done.stdout), is_colored(&done.stderr))
    };
    assert_eq!(piped(status, &[]), (false, false), "a pipe");
    assert_eq!(piped(status, &[("CLICOLOR_FORCE", "1")]), (true, false));
    assert_eq!(piped(status, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), (false, false));
    assert_eq!(piped(&["status", "--color", "always"], &[("NO_COLOR", "1")]), (true, false), "a flag wins");
    assert_eq!(piped(&["frob", "--color", "always"], &[]), (false, true));
}

#[test]
fn it_is_a_setting_like_any_other() {
    let world = world();
    world.file("f.toml", "color = \"always\"\n");
    for args in [
        &["status", "--config", "f.toml"][..],
        &["report", "--config", "f.toml"],
        &["validate", "users.csv", "--config", "f.toml"],
        &["prune", "--before", "2020-01-31", "--config", "f.toml"],
    ] {
        assert!(is_colored(&world.run(args).stdout), "{args:?}: {:?}", world.run(args));
    }
    assert!(!is_colored(&world.run(&["status", "--config", "f.toml", "--color", "never"]).stdout));
    let shown = world.run(&["config", "import", "--config", "f.toml"]).stdout;
    let line = shown.lines().find(|line| line.trim_start().starts_with("color ")).unwrap();
    assert!(line.contains("always") && line.contains("f.toml line 1"), "{line}");
    world.run(&["status", "--color", "blue"]).assert_error(2, &["--color", "auto", "always", "never"]);
}

#[test]
fn what_programs_read_has_none() {
    let world = world();
    let base_url = world.base_url();
    let text = world.run(&["report", "--color", "always", "--output", "report.txt"]);
    assert_eq!(text.code, 0, "{text:?}");
    assert!(!is_colored(&std::fs::read_to_string(world.path("report.txt")).unwrap()));
    for args in [
        &["status", "--format", "json"][..],
        &["report", "--format", "json"],
        &["report", "--format", "html"],
        &["export", "failed"],
        &["export", "all", "--format", "jsonl"],
        &["validate", "users.csv", "--format", "json"],
        &["validate", "users.csv", "--format", "csv"],
        &["init", "users.csv"],
        &["plan", "users.csv", "--base-url", &base_url, "--format", "json"],
    ] {
        let done = world.run(&[args, &["--color", "always"]].concat());
        assert!(!done.stdout.is_empty() && !is_colored(&done.stdout), "{args:?}: {done:?}");
    }
    let config = world.run(&["config", "import", "--color", "always"]);
    assert!(config.stdout.contains("always") && !is_colored(&config.stdout), "{config:?}");
    let import = world.import(&world.path("users.csv"), &["--color", "always", "--summary-json", "-"]);
    assert!(serde_json::from_str::<serde_json::Value>(&import.stdout).is_ok(), "{import:?}");
    assert!(is_colored(&import.stderr), "the text for people: {import:?}");
}

/// Escapes in a file's name are shown by their code points; only the program's own are sent as escapes.
#[test]
fn a_name_cannot_color() {
    let world = World::new();
    let file = world.file("\x1b[31mred.csv", FILE);
    let done = world.import(&file, &["--color", "always"]);
    assert!(done.stdout.contains("[U+001B][31mred.csv") && !done.stdout.contains(RED), "{done:?}");
}
