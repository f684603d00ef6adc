//! The samples for schedulers: each handles every exit code correctly.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Command};

use crate::world::{KEY, World, files, rows};

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
    // Cron's own search path lacks /usr/local/bin.
    let ["PATH=/usr/local/bin:/usr/bin:/bin", line] = lines[..] else { panic!("not one line: {cron}") };
    assert!(!line.contains('%'), "cron takes that for a line break");
    let words: Vec<&str> = line.splitn(7, ' ').collect();
    let command = words[6];
    assert!(words[5] == "customer-import" && command.starts_with("for "), "{words:?}");
    let path = format!("{folder}:/usr/bin:/bin");
    let status = Command::new("/bin/sh").args(["-c", command]).env("PATH", path).status().unwrap();
    let calls = std::fs::read_to_string(world.path("calls")).unwrap();
    let expected =
        "import /srv/exports/users.csv --config /etc/customer-import/nightly.toml --progress never";
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

/// With `--quiet`, the log that the sample settings ask for stayed empty.
#[test]
fn a_run_under_cron_has_its_log_and_mails_nothing() {
    let world = World::new();
    let settings = sample("nightly.toml").replace("environment = \"production\"\n", "");
    let settings = settings.replace("/etc/customer-import/key", world.file("key", KEY).to_str().unwrap());
    let settings = settings.replace("/var/lib/customer-import/", "").replace("/var/log/customer-import/", "");
    world.file("nightly.toml", format!("base-url = \"{}\"\n{settings}", world.base_url()));
    world.file("users.csv", rows(0..3) + "short,9800000004,\n");
    let cron = sample("cron/customer-import");
    let command = cron.lines().last().unwrap().splitn(7, ' ').nth(6).unwrap();
    let command =
        command.replace("do customer-import", &format!("do {}", env!("CARGO_BIN_EXE_customer-import")));
    let command = command.replace("/srv/exports/", "").replace("/etc/customer-import/", "");
    let ran =
        Command::new("/bin/sh").args(["-c", &command]).current_dir(world.folder.path()).output().unwrap();
    assert!(ran.status.success() && ran.stdout.is_empty() && ran.stderr.is_empty(), "{ran:?}");
    let log = std::fs::read_to_string(world.path("import.log")).unwrap();
    assert!(log.contains("the run begins") && log.contains("the run has ended"), "{log}");
}

/// The settings of a unit, by their names.
fn setting<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    lines.flat_map(str::split_whitespace).collect()
}

/// The names of the samples in a folder that end with this.
fn samples(folder: &str, end: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(folder);
    let names = files(&path).into_iter().filter(|name| name.ends_with(end));
    names.map(|name| format!("{folder}/{name}")).collect()
}

#[test]
fn systemd_takes_three_for_success_and_runs_four_again() {
    let services = samples("systemd", ".service");
    assert_eq!(services.len(), 2);
    let world = World::new();
    let mut units = Vec::new();
    for name in services.iter().chain(&samples("systemd", ".timer")) {
        let unit = sample(name);
        if name.ends_with(".service") {
            let prevented = setting(&unit, "RestartPreventExitStatus");
            assert_eq!(setting(&unit, "Restart"), ["on-failure"], "{name}");
            assert_eq!(setting(&unit, "SuccessExitStatus"), ["3", "130", "143"], "{name}");
            assert_eq!(prevented, ["1", "2"], "{name}");
        }
        let file = name.strip_prefix("systemd/").unwrap();
        let binary = env!("CARGO_BIN_EXE_customer-import");
        units.push(world.file(file, unit.replace("/usr/local/bin/customer-import", binary)));
    }
    // systemd checks the rest, if it is installed.
    let mut verify = Command::new("systemd-analyze");
    if let Ok(output) = verify.args(["verify", "--man=no"]).args(units).output() {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !errors.contains("customer-import"), "{errors}");
    }
}

/// Kubernetes replaces a pod that has ended with 4, and none that has ended with 1, 2 or 3.
#[test]
fn kubernetes_replaces_what_stopped_by_itself_and_nothing_else() {
    let jobs = samples("kubernetes", ".yaml");
    assert_eq!(jobs.len(), 3);
    for name in jobs {
        let job = sample(&name);
        let line = |wanted: &str| job.lines().any(|line| line.trim() == wanted);
        for wanted in [
            "restartPolicy: Never",
            "- action: FailJob",
            "containerName: import",
            "values: [1, 2, 3]",
            "- action: Ignore",
            "- type: DisruptionTarget",
        ] {
            assert!(line(wanted), "{name} has no {wanted}");
        }
        let grace = job.lines().find_map(|line| line.trim().strip_prefix("terminationGracePeriodSeconds: "));
        assert!(grace.unwrap().parse::<u64>().unwrap() > 30, "{name}: more than --shutdown-grace");
        // A ledger in a file is on a volume that stays.
        let is_on_server = job.contains("CUSTOMER_IMPORT_LEDGER");
        assert_ne!(is_on_server, job.contains("--ledger=/data/"), "{name}");
        assert_eq!(is_on_server, job.contains("CUSTOMER_IMPORT_RUN"), "{name}");
    }
}

/// What a manifest gives the program.
fn args_of_pod(name: &str) -> Vec<String> {
    let manifest = sample(name);
    let args = manifest.split_once("- name: import\n").unwrap().1.split_once("args:\n").unwrap().1;
    let args = args.lines().map_while(|line| line.trim().strip_prefix("- ").map(str::to_owned));
    args.collect()
}

/// What a unit gives the program; of a template, for the instance `nightly`.
fn args_of_unit(name: &str) -> Vec<String> {
    let unit = sample(name).replace("\\\n", " ").replace("%i", "nightly");
    let started = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    started.split_whitespace().skip(1).map(str::to_owned).collect()
}

#[test]
fn every_command_of_the_samples_is_one() {
    let world = World::new();
    world.rows("users.csv", 1);
    let cron = sample("cron/customer-import");
    let cron = cron.split_once("do customer-import ").unwrap().1.split_once(" >").unwrap().0;
    let mut commands = vec![cron.split(' ').map(str::to_owned).collect::<Vec<_>>()];
    commands.extend(samples("systemd", ".service").iter().map(|name| args_of_unit(name)));
    commands.extend(samples("kubernetes", ".yaml").iter().map(|name| args_of_pod(name)));
    assert_eq!(commands.len(), 6);
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
