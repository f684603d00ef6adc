//! The samples for schedulers: each handles every exit code correctly.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Command};

use crate::world::World;

fn sample(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(path)).unwrap()
}

/// Runs a line of cron with a program that ends with these codes in turn; returns how often it ran, and the line's
/// own code.
fn under_cron(codes: &[u8]) -> (usize, i32) {
    let world = World::new();
    let program = |name: &str, text: &str| {
        let path = world.file(name, format!("#!/bin/sh\n{text}\n"));
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let folder = world.folder.path().display();
    let codes: Vec<String> = codes.iter().map(u8::to_string).collect();
    program(
        "customer-import",
        &format!(
            "echo \"$@\" >> {folder}/calls\nset -- {}\nshift $(($(wc -l < {folder}/calls) - 1))\nexit $1",
            codes.join(" ")
        ),
    );
    program("sleep", "exit 0");
    let cron = sample("cron/customer-import");
    let lines: Vec<&str> = cron.lines().filter(|line| !line.starts_with('#')).collect();
    let [line] = lines[..] else { panic!("not one line: {cron}") };
    assert!(!line.contains('%'), "cron takes that for a line break");
    let words: Vec<&str> = line.splitn(7, ' ').collect();
    let command = words[6];
    assert!(words[5] == "customer-import" && command.starts_with("for "), "{words:?}");
    let path = format!("{folder}:/usr/bin:/bin");
    let status = Command::new("/bin/sh").args(["-c", command]).env("PATH", path).status().unwrap();
    let calls = std::fs::read_to_string(world.path("calls")).unwrap();
    let expected = "import /srv/exports/users.csv --config /etc/customer-import/nightly.toml --quiet";
    assert!(calls.lines().all(|call| call == expected), "{calls}");
    (calls.lines().count(), status.code().unwrap())
}

#[test]
fn cron_runs_again_what_stopped_by_itself_and_nothing_else() {
    assert_eq!(under_cron(&[0]), (1, 0));
    assert_eq!(under_cron(&[3]), (1, 0));
    assert_eq!(under_cron(&[4, 0]), (2, 0));
    assert_eq!(under_cron(&[4, 4, 3]), (3, 0));
    assert_eq!(under_cron(&[4, 4, 4, 0]), (3, 1));
    for code in [1, 2, 143] {
        assert_eq!(under_cron(&[code]), (1, 1), "{code}");
    }
}

/// The settings of a unit, by their names.
fn setting<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    lines.flat_map(str::split_whitespace).collect()
}

#[test]
fn systemd_takes_three_for_success_and_runs_four_again() {
    let service = sample("systemd/customer-import.service");
    let (fine, prevented) =
        (setting(&service, "SuccessExitStatus"), setting(&service, "RestartPreventExitStatus"));
    assert_eq!(setting(&service, "Restart"), ["on-failure"]);
    assert_eq!(fine, ["3", "130", "143"]);
    assert_eq!(prevented, ["1", "2"]);
    // systemd checks the rest, if it is installed.
    let world = World::new();
    let binary = env!("CARGO_BIN_EXE_customer-import");
    let service =
        world.file("customer-import.service", service.replace("/usr/local/bin/customer-import", binary));
    let timer = world.file("customer-import.timer", sample("systemd/customer-import.timer"));
    let mut verify = Command::new("systemd-analyze");
    if let Ok(output) = verify.args(["verify", "--man=no"]).args([service, timer]).output() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("customer-import."), "{said}");
    }
}

#[test]
fn every_command_of_the_samples_is_one() {
    let world = World::new();
    world.rows("users.csv", 1);
    let service = sample("systemd/customer-import.service").replace("\\\n", " ");
    let started = service.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap().to_owned();
    let cronjob = sample("kubernetes/cronjob.yaml");
    let args = cronjob.split_once("args:\n").unwrap().1.split_once("              ports:").unwrap().0;
    let words =
        |args: &str| args.lines().map(|line| line.trim().trim_start_matches("- ").to_owned()).collect();
    let pod: Vec<String> = words(args);
    let job = sample("kubernetes/job.yaml");
    let of_many: Vec<String> =
        words(job.split_once("args:\n").unwrap().1.split_once("          env:").unwrap().0);
    let cron = sample("cron/customer-import");
    let cron = cron.split_once("do customer-import ").unwrap().1.split_once(';').unwrap().0;
    let owned = |word: &str| word.to_owned();
    let commands = [
        started.split_whitespace().skip(1).map(owned).collect(),
        pod,
        of_many,
        cron.split(' ').map(owned).collect::<Vec<_>>(),
    ];
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    for words in commands {
        let words: Vec<String> = words
            .iter()
            .map(|word| word.replace("/etc/customer-import", samples.to_str().unwrap()))
            .map(|word| word.replace(samples.join("key").to_str().unwrap(), "/etc/customer-import/key"))
            .collect();
        let shown = world.run(&[&["config".to_owned()], &words[..]].concat());
        assert_eq!((shown.code, shown.stderr.as_str()), (0, ""), "{words:?}");
        let is_migration = words.iter().any(|word| word.ends_with("migration.toml"));
        let environment = if is_migration { "sandbox" } else { "production" };
        assert!(shown.stdout.contains("environment") && shown.stdout.contains(environment), "{shown:?}");
    }
}
