//! Settings: precedence of flags, environment, file and defaults, rejected settings, and the output of `config`.
//!
//! That every option can be set in the file is tested beside the definition of the options; these tests run the
//! binary.

use std::{collections::BTreeSet, path::Path};

use crate::world::{Done, KEY, MERCHANT, World, done};

const NIGHTLY: &str = include_str!("../../samples/nightly.toml");
const MIGRATION: &str = include_str!("../../samples/migration.toml");
const README: &str = include_str!("../../README.md");

/// `VALUE` and `ORIGIN` of a key in the output of `config`.
#[track_caller]
fn shown(done: &Done, key: &str) -> (String, String) {
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    let begin = format!("  {key} ");
    let line = done
        .stdout
        .lines()
        .find(|line| line.starts_with(&begin))
        .unwrap_or_else(|| panic!("no {key} in {done:?}"));
    let (value, origin) = line[begin.len()..].trim().rsplit_once("  ").unwrap();
    (value.trim().to_owned(), origin.trim().to_owned())
}

fn pair(value: &str, origin: &str) -> (String, String) {
    (value.to_owned(), origin.to_owned())
}

/// Asserts that the command rejects this file with one line that contains these words.
#[track_caller]
fn refuses(content: impl AsRef<[u8]>, words: &[&str]) {
    let world = World::new();
    let file = world.rows("users.csv", 2);
    world.file("f.toml", content);
    for done in [
        world.import(&file, &["--config", "f.toml"]),
        world.run(&["config", "--config", "f.toml"]),
        world.run(&["--config", "f.toml", "validate", "users.csv"]),
    ] {
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{done:?}");
        assert!(done.stderr.starts_with("error: f.toml line "), "{done:?}");
        assert_eq!(done.stderr.matches('\n').count(), 1, "{done:?}");
        for word in words {
            assert!(done.stderr.contains(word), "no {word:?} in {done:?}");
        }
    }
    assert_eq!(world.journal().requests(), 0);
    assert!(!world.ledger().exists(), "a ledger was made");
}

#[test]
fn a_run_takes_its_settings_from_the_file() {
    let world = World::new();
    let file = world.file("users.csv", "ref;phone\ncust-0001;1\ncust-0002;2\ncust-0003;3\n");
    world.file(
        "f.toml",
        format!(
            "base-url = {:?}\nmerchant-id = {MERCHANT:?}\nrate = \"unlimited\"\nsummary-json = \"summary.json\"\n\
             limit = 2\ndelimiter = \";\"\nmap = [\"object_reference_id=ref\", \"mobile_number=phone\"]\n\
             [status]\nledger = \"other.db\"\n",
            world.base_url()
        ),
    );
    let file = file.display().to_string();
    let done = world.run(&["import", &file, "--config", "f.toml"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(world.outcomes(), "created=2");
    // The same file serves another command, and a flag overrides it.
    assert!(world.run(&["validate", &file, "--config", "f.toml", "--limit", "3"]).stdout.contains('3'));
    let status = world.run(&["status", "--config", "f.toml"]);
    assert_eq!(status.code, 0, "the environment names the ledger, and wins: {status:?}");
}

#[test]
fn a_flag_wins_over_the_environment_and_the_environment_over_the_file() {
    let world = World::new();
    world
        .file("f.toml", "merchant-id = \"of-file\"\nrate = 7\nledger = \"of-file.db\"\n[import]\nrate = 8\n");
    let run = |args: &[&str], merchant: &str| {
        done(world.command(args).env("JUSPAY_MERCHANT_ID", merchant).output().unwrap())
    };
    let args = ["config", "--config", "f.toml"];
    // An empty variable counts as unset.
    let from_file = run(&args, "");
    assert_eq!(shown(&from_file, "merchant-id"), pair("of-file", "f.toml line 1"));
    assert_eq!(shown(&from_file, "rate"), pair("8", "f.toml line 5"));
    assert_eq!(shown(&from_file, "burst"), pair("1", "default"));
    let ledger = world.ledger().display().to_string();
    assert_eq!(shown(&from_file, "ledger"), pair(&ledger, "environment CUSTOMER_IMPORT_LEDGER"));
    let from_environment = run(&args, "of-environment");
    assert_eq!(
        shown(&from_environment, "merchant-id"),
        pair("of-environment", "environment JUSPAY_MERCHANT_ID")
    );
    let args = ["config", "import", "users.csv", "--merchant-id", "of-flag", "--config", "f.toml", "-vv"];
    let from_flag = run(&args, "of-environment");
    assert_eq!(shown(&from_flag, "merchant-id"), pair("of-flag", "flag"));
    assert_eq!(shown(&from_flag, "verbose"), pair("2", "flag"));
}

#[test]
fn what_is_secret_is_not_shown() {
    let world = World::new();
    world.file("f.toml", "base-url = \"https://user:geheim@example.com\"\n");
    let with_key = world.run(&["config", "--config", "f.toml"]);
    assert_eq!(shown(&with_key, "API key"), pair("set, not shown", "environment JUSPAY_API_KEY"));
    assert_eq!(shown(&with_key, "base-url"), pair("https://(not shown)@example.com", "f.toml line 1"));
    let without = done(world.command(&["config"]).env_remove("JUSPAY_API_KEY").output().unwrap());
    assert_eq!(shown(&without, "API key"), pair("not set", "default"));
    let file = world.file("key.txt", KEY).display().to_string();
    let from_file = world.run(&["config", "--api-key-file", &file]);
    assert_eq!(shown(&from_file, "API key"), pair("not shown", "api-key-file"));
    // The environment wins over the settings, and a flag over both.
    world.file("f.toml", "api-key-file = \"nowhere\"\n");
    let from_both = world.run(&["config", "--config", "f.toml"]);
    assert_eq!(shown(&from_both, "API key"), pair("set, not shown", "environment JUSPAY_API_KEY"));
    assert_eq!(world.import(&world.rows("users.csv", 2), &["--config", "f.toml"]).code, 0);
    world.import(&world.path("users.csv"), &["--api-key-file", "nowhere"]).assert_error(2, &["nowhere"]);
    for done in [with_key, without, from_file, from_both] {
        assert!(!done.stdout.contains(KEY) && !done.stdout.contains("geheim"), "{done:?}");
    }
}

#[test]
fn a_key_does_not_belong_into_the_file_and_is_not_repeated() {
    for key in ["api-key", "api_key", "JUSPAY_API_KEY", "apiKey", "password"] {
        let world = World::new();
        world.file("f.toml", format!("\n{key} = {KEY:?}\n"));
        let done = world.run(&["config", "--config", "f.toml"]);
        assert_eq!(done.code, 2);
        assert!(done.stderr.contains("f.toml line 2") && done.stderr.contains("api-key-file"), "{done:?}");
        assert!(!done.stderr.contains(KEY), "{done:?}");
    }
    // Nor if the file is not TOML at all.
    let world = World::new();
    world.file("f.toml", format!("api-key = {KEY}\n"));
    let done = world.run(&["config", "--config", "f.toml"]);
    assert!(done.code == 2 && !done.stderr.contains(KEY), "{done:?}");
}

#[test]
fn a_wrong_file_is_refused_with_its_line_and_the_way_out() {
    refuses(
        "\nmax_failures = 3\n",
        &["line 2", "unknown key \"max_failures\"", "nearest known key is max-failures"],
    );
    refuses("rate = \"fast\"", &["line 1", "rate", "fast", "unlimited"]);
    refuses("rate = true", &["line 1", "rate wants", "true or false"]);
    refuses("simulator = \"yes\"", &["line 1", "simulator wants true or false"]);
    refuses("limit = [1]", &["line 1", "limit wants", "list"]);
    refuses("ledger = 5", &["line 1", "ledger wants text in quotes"]);
    refuses("[validate]\nburst = 3", &["line 2", "burst is an option of import", "validate"]);
    refuses("listen = \"nowhere\"", &["line 1", "listen"]);
    refuses("[imprt]\nrate = 3", &["line 1", "imprt", "nearest known key is import"]);
    refuses("config = \"g.toml\"", &["line 1", "unknown key \"config\""]);
    refuses("rate = 1\nrate = 2", &["line 2", "duplicate key"]);
    refuses("rate = fast", &["line 1", "text without quotes", "ledger = \"users.db\""]);
    refuses("rate = 1\nledger = /srv/users.db", &["line 2", "text without quotes"]);
    refuses("rate = \n", &["line 1", "TOML"]);
    refuses(b"rate = 1\n\xff", &["line 2", "UTF-8"]);
    refuses("\"\\u001b[2Jrate\" = 1", &["line 1", "unknown key"]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let world = World::new();
    world.file("long.toml", "#".repeat(256 * 1024 + 1));
    for path in ["nowhere.toml", ".", "long.toml"] {
        let done = world.run(&["validate", "users.csv", "--config", path]);
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.stderr.starts_with("error: ") && done.stderr.contains(path), "{done:?}");
        assert!(done.stderr.contains("--config") && done.stderr.matches('\n').count() == 1, "{done:?}");
    }
}

#[test]
fn the_nightly_sample_is_right() {
    let world = World::new();
    world.file("nightly.toml", NIGHTLY);
    let import = world.run(&["config", "--config", "nightly.toml"]);
    assert_eq!(shown(&import, "environment"), pair("production", "nightly.toml line 3"));
    assert_eq!(shown(&import, "max-failures").0, "5%");
    assert_eq!(shown(&import, "set").0, "mobile_country_code=91");
    assert_eq!(shown(&import, "verbose").0, "1");
    // So that a failed export with these settings can be corrected in a spreadsheet and imported.
    assert_eq!(shown(&world.run(&["config", "export", "--config", "nightly.toml"]), "format").0, "csv");
}

/// The README's commands for a migration, line by line, with another address. They never lead to production.
#[test]
fn the_migration_of_readme_goes_to_the_sandbox() {
    let world = World::new();
    world.file("migration.toml", MIGRATION);
    world.rows("users.csv", 150);
    let begin = README.find("customer-import validate users.csv --config migration.toml").unwrap();
    let block = &README[begin..begin + README[begin..].find("```").unwrap()];
    assert!(block.lines().count() >= 6, "{block}");
    let base_url = world.base_url();
    for line in block.lines() {
        let args: Vec<&str> = line.split(' ').skip(1).collect();
        let shown = world.run(&[&["config"], &args[..]].concat());
        assert!(shown.code == 0 && !shown.stdout.contains("production"), "{shown:?}");
        let sends = shown.stdout.contains("  base-url ");
        let more: &[&str] = if sends { &["--base-url", &base_url, "--rate", "unlimited"] } else { &[] };
        let mut command = world.command(&[&args[..], more].concat());
        let done = done(command.env_remove("CUSTOMER_IMPORT_LEDGER").output().unwrap());
        let note = if line.contains("--output report.txt") {
            "wrote the report on the latest run to report.txt\n"
        } else {
            ""
        };
        assert_eq!((done.code, done.stderr.as_str()), (0, note), "{line}");
    }
    assert_eq!(world.journal().customers(), 150);
    assert!(world.path("migration.sandbox.db").exists() && world.path("report.txt").exists());
    let mine = MIGRATION.replace("\"sandbox\"", "\"production\"").replace(".sandbox.db", ".db");
    world.file("mine.toml", mine);
    let done = world.run(&["import", "users.csv", "--config", "mine.toml"]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("sending to production requires confirmation"), "{done:?}");
}

/// The options in the documentation's tables are exactly the program's options.
#[test]
fn the_documentation_names_every_option() {
    let world = World::new();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/options.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut keys = BTreeSet::new();
    // The commands with settings are those that `config` offers.
    let offered = world.run(&["config", "nonsense"]).stderr;
    let commands: Vec<&str> = offered.trim_end().split_once("one of ").unwrap().1.split(", ").collect();
    assert!(commands.contains(&"import") && commands.contains(&"simulate"), "{offered}");
    for command in commands {
        let settings = world.run(&["config", command]).stdout;
        let lines = settings.lines().filter_map(|line| line.strip_prefix("  "));
        // `API key` and `Proxy` are not options.
        let is_option = |key: &&str| key.starts_with(char::is_lowercase);
        for key in lines.filter_map(|line| line.split(' ').next()).filter(is_option) {
            assert!(page.contains(&format!("--{key}")), "docs/options.md does not name --{key}");
            keys.insert(key.to_owned());
        }
    }
    assert!(keys.len() > 40, "{keys:?}");
    for row in page.lines().filter_map(|line| line.strip_prefix("| `")) {
        let named = row.split('`').next().unwrap().split("--").skip(1);
        for key in named.filter_map(|option| option.split([' ', '`', ',']).next()) {
            assert!(
                keys.contains(key) || key == "config",
                "docs/options.md names --{key}, which is no option"
            );
        }
    }
}

/// Part of the contract, so that a script can add to the arguments that it received.
#[test]
fn of_an_option_that_is_repeated_the_last_one_wins_and_a_list_grows() {
    let world = World::new();
    let file =
        world.file("users.csv", "id,phone,object_reference_id,mobile_number\ncust-0001,9800000001,x,y\n");
    let arguments = ["config", "--rate", "5", "--rate=unlimited", "--rate", "7", "--progress", "never"];
    let shown = world.run(&[&arguments[..], &["--progress", "always", "--yes", "--yes"]].concat());
    assert_eq!(shown.code, 0, "{shown:?}");
    let has = |name: &str, value: &str| {
        shown.stdout.lines().any(|line| line.trim_start().starts_with(name) && line.contains(value))
    };
    assert!(has("rate ", "7") && has("progress ", "always"), "{}", shown.stdout);
    let maps = ["--map", "object_reference_id=id", "--map", "mobile_number=phone"];
    let checked = world.run(&[&["validate", file.to_str().unwrap()], &maps[..]].concat());
    assert_eq!(checked.code, 0, "{checked:?}");
}
