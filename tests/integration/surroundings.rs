//! The surroundings of the process: it is the first one of a container, its log is rotated, its files have names that
//! are not text, or its ledger would be in memory.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::Write as _,
    os::unix::ffi::OsStrExt as _,
    process::{Command, Stdio},
};

use customer_import::simulator::Outage;

use crate::world::{World, files, finish, references, signal, wait_until};

/// Whether this user may start the first process of a container.
fn may_contain() -> bool {
    let tried = Command::new("unshare").args(["-rpf", "--mount-proc", "true"]).output();
    tried.is_ok_and(|output| output.status.success())
}

/// The child of `unshare`: the program, which is process 1 in its namespace.
fn inner(outer: u32) -> Option<String> {
    let path = format!("/proc/{outer}/task/{outer}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    let child = children.split_whitespace().next()?.to_owned();
    // It is running the program now, and its signal handlers are known.
    let program = fs::read_to_string(format!("/proc/{child}/cmdline")).ok()?;
    let is_guarded = fs::read_to_string(format!("/proc/{child}/status")).ok()?.lines().any(|line| {
        let caught = line.strip_prefix("SigCgt:").and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        caught.is_some_and(|mask| mask & (1 << 14) != 0)
    });
    (is_guarded && program.contains("customer-import")).then_some(child)
}

#[test]
fn the_first_process_of_a_container_ends_by_a_signal_while_it_waits_for_its_input() {
    if !may_contain() {
        return;
    }
    for (args, name, code) in [
        (&["validate", "-"][..], "TERM", 143),
        (&["validate", "-"], "INT", 130),
        (&["import", "-", "--simulator"], "TERM", 143),
        (&["import", "-", "--simulator"], "HUP", 129),
    ] {
        let world = World::new();
        let program = world.command(args);
        let mut command = Command::new("unshare");
        // The environment of the tests may ignore SIGHUP.
        command.args(["-rpf", "--mount-proc", "env", "--default-signal=HUP"]).arg(program.get_program());
        command.args(program.get_args()).current_dir(world.folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut run = command.spawn().unwrap();
        // The pipe stays open without data.
        let mut input = run.stdin.take().unwrap();
        input.write_all(b"object_reference_id,").unwrap();
        let outer = run.id();
        assert!(wait_until(&mut run, || inner(outer).is_some()), "it does not handle the signal");
        let kill = Command::new("kill").args([format!("-{name}"), inner(outer).unwrap()]).status().unwrap();
        assert!(kill.success());
        let done = finish(run);
        assert_eq!(done.code, code, "{args:?}: {done:?}");
        drop(input);
    }
}

#[test]
fn a_log_that_is_rotated_goes_on_in_a_new_file() {
    let world = World::new();
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Refuse));
    let file = world.rows("rows.csv", 50);
    let mut run = world.start_import(&file, &["--log-file", "run.log", "-v", "--progress", "never"]);
    let log = |name: &str| fs::read_to_string(world.path(name)).unwrap_or_default();
    assert!(wait_until(&mut run, || log("run.log").contains("no response yet")));
    fs::rename(world.path("run.log"), world.path("run.log.1")).unwrap();
    signal(&run, "USR1");
    assert!(wait_until(&mut run, || world.path("run.log").exists()));
    world.reconfigure(|behavior| behavior.outage = None);
    let done = finish(run);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    let (old, new) = (log("run.log.1"), log("run.log"));
    assert!(old.contains("the run begins") && !old.contains("the run has ended"), "{old}");
    assert!(new.contains("the run has ended") && !new.contains("the run begins"), "{new}");
}

/// Without a log file, the signal has no effect.
#[test]
fn a_run_without_a_log_file_survives_a_rotation() {
    let world = World::new();
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Hang));
    let file = world.rows("rows.csv", 5);
    let mut run = world.start_import(&file, &[]);
    assert!(wait_until(&mut run, || world.journal().requests() > 0));
    signal(&run, "USR1");
    world.reconfigure(|behavior| behavior.outage = None);
    signal(&run, "TERM");
    assert_eq!(finish(run).code, 143);
}

#[test]
fn names_that_are_no_text_work_as_often_as_others() {
    let world = World::new();
    let name = |text: &[u8]| OsStr::from_bytes(text).to_owned();
    let folder = world.folder.path().join(name(b"dir\xe9"));
    // Some file systems do not accept such a name.
    if fs::create_dir(&folder).is_err() {
        return;
    }
    let source = folder.join(name(b"kund\xe9.csv"));
    fs::write(&source, crate::world::rows(0..20) + "cust-bad,x,\n").unwrap();
    let ledger = folder.join(name(b"l\xe9dger.db"));
    let run = |words: &[&OsStr]| {
        let mut command = world.command(words);
        // Also by a relative name, whose absolute path is not text either.
        command.current_dir(&folder).env("CUSTOMER_IMPORT_LEDGER", ledger.file_name().unwrap());
        crate::world::done(command.output().unwrap())
    };
    let url = world.base_url();
    let target =
        ["--base-url", &url, "--merchant-id", "m", "--rate", "unlimited", "--summary-json", "s.json"];
    let import: Vec<&OsStr> =
        [OsStr::new("import"), source.as_os_str()].into_iter().chain(target.map(OsStr::new)).collect();
    for _ in 0..3 {
        let done = run(&import);
        assert_eq!(done.code, 3, "{done:?}");
    }
    let summary = fs::read_to_string(folder.join("s.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!((&summary["unchanged"], &summary["invalid"]), (&20.into(), &1.into()), "{summary}");
    let created: std::collections::BTreeSet<String> = world.journal().created().into_keys().collect();
    assert_eq!(created, references(0..20).collect());
    let more: Vec<OsString> = ["retry"].into_iter().chain(target).map(OsString::from).collect();
    let more: Vec<&OsStr> = more.iter().map(OsString::as_os_str).collect();
    for (words, code) in [
        (vec![OsStr::new("status")], 0),
        (vec![OsStr::new("report")], 0),
        (vec![OsStr::new("export"), OsStr::new("failed")], 0),
        (more, 0),
        (vec![OsStr::new("prune"), OsStr::new("--before"), OsStr::new("2000-01-01")], 0),
    ] {
        let done = run(&words);
        assert_eq!(done.code, code, "{words:?}: {done:?}");
    }
    let verify: Vec<&OsStr> = [OsStr::new("verify")].into_iter().chain(import[1..].iter().copied()).collect();
    assert_eq!(run(&verify).code, 0);
}

#[test]
fn a_ledger_that_would_not_last_is_refused() {
    let world = World::new();
    let file = world.rows("rows.csv", 2);
    for ledger in [":memory:", "file:l.db", "file::memory:?cache=shared"] {
        let done = world.import(&file, &["--ledger", ledger]);
        done.assert_error(2, &["--ledger", "./"]);
        world.run(&["status", "--ledger", ledger]).assert_error(2, &["--ledger"]);
    }
    for ledger in ["s3://bucket/l.db", "mysql://user:secret@host/db"] {
        let done = world.import(&file, &["--ledger", ledger]);
        done.assert_error(2, &["://… is no ledger", "name a file with --ledger FILE"]);
        assert!(!done.stderr.contains("secret"), "{done:?}");
    }
    for ledger in ["sqlite:l.db", "sqlite::memory:", "postgres:host/db"] {
        world.import(&file, &["--ledger", ledger]).assert_error(2, &["--ledger has a scheme without //"]);
    }
    assert_eq!(world.import(&file, &["--ledger", ""]).code, 2);
    assert_eq!(files(world.folder.path()), ["rows.csv".to_owned()].into());
    assert_eq!(world.journal().requests(), 0);
    assert_eq!(world.import(&file, &["--ledger", "./:memory:"]).code, 0);
    assert!(world.path(":memory:").exists());
}
