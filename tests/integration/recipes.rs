//! The recipes of the documentation, executed verbatim, with stand-ins for the databases and stores that they read
//! from.
//!
//! The disaster is a recipe that somebody pastes into a production terminal and that does something else than it
//! says.

use std::{
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::world::{Done, KEY, MERCHANT, World, done};

/// The first fenced block of this language under this heading of docs/recipes.md.
fn block(heading: &str, language: &str) -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/recipes.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = page.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no {heading}")).1;
    let section = section.split("\n## ").next().unwrap();
    let block =
        section.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("{heading}: no block")).1;
    block.split_once("\n```").unwrap().0.to_owned()
}

/// A world with settings named as in the recipes, and the program on its search path.
fn kitchen() -> World {
    let world = World::new();
    let settings = format!(
        "base-url = \"{}\"\nmerchant-id = \"{MERCHANT}\"\nledger = \"{}\"\nrate = \"unlimited\"\n",
        world.base_url(),
        world.ledger().display(),
    );
    world.file("nightly.toml", settings);
    std::fs::create_dir(world.path("bin")).unwrap();
    symlink(env!("CARGO_BIN_EXE_customer-import"), world.path("bin/customer-import")).unwrap();
    world
}

/// Puts a script on the search path.
fn stand_in(world: &World, name: &str, script: &str) {
    let path = world.file(&format!("bin/{name}"), format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs a recipe in the world's folder.
fn cook(world: &World, recipe: &str, key: &str) -> Done {
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", world.path("bin").display());
    let output = Command::new("bash")
        .args(["-c", recipe])
        .current_dir(world.folder.path())
        .env_clear()
        .env("PATH", path)
        .env("JUSPAY_API_KEY", key)
        .env("DATABASE_URL", "postgres://nobody@localhost/app")
        .env("SLACK_WEBHOOK_URL", "https://hooks.example.com/T0/B0")
        .stdin(Stdio::null())
        .output();
    done(output.unwrap())
}

#[test]
fn rows_come_through_a_pipe_and_half_of_them_are_no_success() {
    let comma = "object_reference_id,mobile_number,email_address,first_name\n\
                 customer_1,+91 98765 00101,asha@example.com,Asha\ncustomer_2,9876500102,,\n";
    let sources = [
        ("From Postgres", "psql"),
        ("From MySQL or MariaDB", "mysql"),
        ("From S3 or another object store", "aws"),
    ];
    for (heading, tool) in sources {
        let table = match tool {
            "mysql" => comma.replace(',', "\t"),
            // Without a region, numbers are written as they are sent.
            "aws" => comma
                .replace("first_name\n", "mobile_country_code\n")
                .replace("Asha\n", "91\n")
                .replace("+91 98765 00101", "9876500101"),
            _ => comma.to_owned(),
        };
        for (rows, code) in [(3, 0), (2, 1)] {
            let world = kitchen();
            world.file("table", table.split_inclusive('\n').take(rows).collect::<String>());
            stand_in(&world, tool, &format!("cat table\nexit {code}"));
            let done = cook(&world, &block(heading, "sh"), KEY);
            assert_eq!(done.code, code, "{heading}: {done:?}");
            let mut created: Vec<String> = world.journal().created().into_keys().collect();
            created.sort();
            assert_eq!(created, ["customer_1", "customer_2"][..rows - 1], "{heading}");
        }
    }
}

#[test]
fn nothing_from_the_database_is_no_success() {
    let world = kitchen();
    stand_in(&world, "psql", "echo object_reference_id,mobile_number,email_address,first_name");
    let done = cook(&world, &block("From Postgres", "sh"), KEY);
    assert_eq!(done.code, 3, "{done:?}");
}

#[test]
fn a_message_is_sent_where_somebody_has_to_look_and_says_why() {
    let recipe = block("A message at the end", "sh");
    let good = "object_reference_id,mobile_number,mobile_country_code\ncustomer_1,9876500101,91\n".to_owned();
    let cases = [
        (good.clone(), KEY, 0, None),
        (
            good.clone() + "short,9876500102,91\ncustomer_1,9876500103,91\n",
            KEY,
            3,
            Some("2 of 3 rows need a correction"),
        ),
        (good.clone(), "wrong_key", 4, Some("continues when it is run again")),
        ("no,such\ncolumns,here\n".to_owned(), KEY, 2, Some("exit code 2")),
    ];
    for (rows, key, code, expected) in cases {
        let world = kitchen();
        world.file("users.csv", rows);
        stand_in(&world, "curl", "cat >sent");
        let done = cook(&world, &recipe, key);
        assert_eq!(done.code, code, "{done:?}");
        let sent = std::fs::read_to_string(world.path("sent")).ok();
        let text = sent.map(|sent| {
            let message: serde_json::Value = serde_json::from_str(&sent).unwrap();
            message["text"].as_str().unwrap().to_owned()
        });
        match expected {
            None => assert_eq!(text, None),
            Some(words) => assert!(text.as_deref().is_some_and(|text| text.contains(words)), "{text:?}"),
        }
    }
}

#[test]
fn ids_are_exported_under_the_columns_that_the_table_for_them_has() {
    let world = kitchen();
    world.file(
        "users.csv",
        "object_reference_id,mobile_number,mobile_country_code\ncustomer_1,9876500101,91\n",
    );
    let recipe = block("The ids into your users table", "sh");
    let import = "customer-import import users.csv --config nightly.toml\n";
    stand_in(&world, "psql", "cat >said");
    let done = cook(&world, &(import.to_owned() + &recipe), KEY);
    assert_eq!(done.code, 0, "{done:?}");
    let recorded = std::fs::read_to_string(world.path("said")).unwrap();
    let table = recorded.split_once("table created (").unwrap().1.split_once(");").unwrap().0;
    let columns: Vec<&str> = table.split(", ").map(|column| column.split(' ').next().unwrap()).collect();
    let exported = std::fs::read_to_string(world.path("created.csv")).unwrap();
    assert_eq!(exported.lines().next().unwrap(), columns.join(","));
    assert_eq!(exported.lines().count(), 2);
}

#[test]
fn the_workflow_gives_options_that_there_are() {
    let world = kitchen();
    let workflow = block("GitHub Actions, every night", "yaml");
    let command = workflow.lines().find_map(|line| line.split_once("./customer-import import")).unwrap().1;
    world.rows("users.csv", 1);
    let done = cook(&world, &format!("customer-import config import{command}"), KEY);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/nightly.toml").exists());
}

/// The fenced blocks of this language in README and docs, each with the name of its page.
fn blocks(language: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> =
        pages.filter(|page| page.extension().is_some_and(|of| of == "md")).collect();
    pages.push(root.join("README.md"));
    let blocks_of = |page: &PathBuf| {
        let text = std::fs::read_to_string(page).unwrap();
        let opening = format!("```{language}\n");
        let blocks = text.split(&opening).skip(1);
        let of = |block: &str| (page.display().to_string(), block.split("\n```").next().unwrap().to_owned());
        blocks.map(of).collect::<Vec<_>>()
    };
    pages.iter().flat_map(blocks_of).collect()
}

/// A block of settings that lost its line breaks, and that nobody could use, once stood in the documentation.
#[test]
fn settings_of_the_documentation_are_valid() {
    let blocks = blocks("toml");
    assert!(!blocks.is_empty());
    for (page, block) in blocks {
        let world = World::new();
        world.file("shown.toml", &block);
        let keys = block.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key);
        for command in ["import", "export"] {
            let done = world.run(&["config", command, "--config", "shown.toml"]);
            assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{page}: {done:?}");
        }
        assert!(keys.clone().count() > 2, "{page}: {:?}", keys.collect::<Vec<_>>());
    }
}

/// The command lines of this program in a shell script, without what comes before and after each.
fn commands(script: &str) -> Vec<String> {
    let script = script.replace("\\\n", " ");
    let command = |line: &str| {
        let (before, rest) = line.split_once("customer-import ")?;
        let is_program = before.is_empty() || before.ends_with([' ', '\'', '(', '/']);
        let end = [" |", ";", " #", " >", ")"].into_iter().filter_map(|end| rest.find(end)).min();
        let rest = rest[..end.unwrap_or(rest.len())].trim();
        (is_program && !before.contains(['#', '"'])).then(|| format!("customer-import {rest}"))
    };
    script.lines().filter_map(command).collect()
}

#[test]
fn commands_of_the_documentation_are_valid() {
    let world = kitchen();
    for settings in ["migration.toml", "production.toml", "import.toml"] {
        std::fs::copy(world.path("nightly.toml"), world.path(settings)).unwrap();
    }
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    symlink(&samples, world.path("samples")).unwrap();
    // `config` reads the options of a command without running it.
    let program = env!("CARGO_BIN_EXE_customer-import");
    std::fs::remove_file(world.path("bin/customer-import")).unwrap();
    stand_in(
        &world,
        "customer-import",
        &format!(
            "case $1 in completions|man|config) exec {program} \"$@\" ;; *) exec {program} config \"$@\" ;; esac"
        ),
    );
    let mut count = 0;
    for (page, block) in blocks("sh") {
        for command in commands(&block) {
            count += 1;
            let done = cook(&world, &command, KEY);
            assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{page}: {command}: {done:?}");
        }
    }
    assert!(count > 40, "{count}");
}
