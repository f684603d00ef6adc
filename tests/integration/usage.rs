//! An invalid command line gets one sentence that says what to type instead, and nothing else happens.

use std::{collections::BTreeSet, ffi::OsStr, os::unix::ffi::OsStrExt};

use crate::world::{World, files};

/// Asserts the error of each command line, without `error: ` before it.
#[track_caller]
fn says(cases: &[(&[&str], &str)]) {
    let world = World::new();
    for (args, sentence) in cases {
        let done = world.run(args);
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{args:?}: {done:?}");
        assert_eq!(done.stderr, format!("error: {sentence}\n"), "{args:?}");
    }
    assert_eq!(files(world.folder.path()), BTreeSet::new());
    assert_eq!(world.journal().requests(), 0);
}

#[test]
fn a_command_that_there_is_not() {
    says(&[
        (&["imprt", "users.csv"], "there is no command imprt; did you mean import?"),
        (&["IMPORT"], "there is no command IMPORT; did you mean import?"),
        (&["resume"], "there is no command resume; did you mean import?"),
        (&["check", "users.csv"], "there is no command check; did you mean validate?"),
        (&["help", "exprt"], "there is no command exprt; did you mean export?"),
        (
            &["users.csv"],
            "there is no command users.csv; to import that file: customer-import import users.csv",
        ),
        (&["-"], "there is no command -; to import that file: customer-import import -"),
        (&["--import", "users.csv"], "import is a command, not an option; write customer-import import"),
    ]);
    let world = World::new();
    let all = "the commands are import, init, validate, plan, retry, verify, probe, status, report, export";
    for args in [&["zzz"][..], &[], &["--config", "x.toml"], &["--"]] {
        world.run(args).assert_error(2, &[all]);
    }
}

#[test]
fn an_option_that_there_is_not() {
    says(&[
        (&["import", "u.csv", "--maps", "a=b"], "import has no option --maps; did you mean --map?"),
        (&["import", "u.csv", "--fast"], "import has no option --fast; see customer-import import --help"),
        (&["import", "u.csv", "-z"], "import has no option -z; see customer-import import --help"),
        (&["import", "u.csv", "-vz"], "import has no option -z; see customer-import import --help"),
        (&["import", "u.csv", "-rate", "5"], "import has no option -r; did you mean --rate?"),
        (&["import", "u.csv", "-rate=5"], "import has no option -r; did you mean --rate?"),
        (
            &["import", "u.csv", "--error-code", "x"],
            "import has no option --error-code; it is an option of retry",
        ),
        (&["retry", "-o", "x"], "retry has no option -o; it is an option of init, probe, report, export"),
        (&["config", "import", "--maps", "x"], "import has no option --maps; did you mean --map?"),
        (&["config", "--maps", "x"], "import has no option --maps; did you mean --map?"),
        (&["import", "--version"], "import has no option --version; write customer-import --version"),
        (&["--confg", "x.toml", "import"], "customer-import has no option --confg; did you mean --config?"),
        (
            &["--rate", "5", "import", "u.csv"],
            "--rate comes before the command; put it after the command, as in customer-import import --rate",
        ),
        (
            &["-v", "import", "u.csv"],
            "-v comes before the command; put it after the command, as in customer-import import -v",
        ),
        (
            &["-o", "x", "export", "failed"],
            "-o comes before the command; put it after the command, as in customer-import export -o",
        ),
        (
            &["import", "--", "u.csv", "--rate", "5"],
            "--rate comes after --, where every word is a file name; put it before --",
        ),
    ]);
}

#[test]
fn an_option_of_other_programs() {
    let key = "set JUSPAY_API_KEY, or name a file that holds the key with --api-key-file";
    says(&[
        (&["import", "u.csv", "--api-key", "abc"], &format!("import has no option --api-key; {key}")),
        (&["import", "u.csv", "--api-key=abc"], &format!("import has no option --api-key; {key}")),
        (
            &["import", "--file", "u.csv"],
            "import has no option --file; name the file without an option, such as users.csv",
        ),
        (
            &["import", "u.csv", "--dry-run"],
            "import has no option --dry-run; use validate to check the file, or plan to see what an import would do",
        ),
        (&["import", "u.csv", "--workers", "4"], "import has no option --workers; use --concurrency"),
        (&["status", "--no-color"], "status has no option --no-color; use --color never"),
        (&["import", "u.csv", "--json"], "import has no option --json; use --summary-json FILE"),
        (&["status", "--json"], "status has no option --json; use --format json"),
    ]);
}

#[test]
fn a_dash_that_a_word_processor_made() {
    says(&[
        (
            &["import", "u.csv", "\u{2013}rate", "5"],
            "\u{2013}rate begins with a long dash (U+2013), not with two hyphens; write --rate",
        ),
        (
            &["import", "\u{2014}rate=5", "u.csv"],
            "\u{2014}rate=5 begins with a long dash (U+2014), not with two hyphens; write --rate=5",
        ),
    ]);
}

#[test]
fn a_value_that_is_none() {
    let rate = "give a number of requests per second from 0.001 to 1000000, or unlimited";
    says(&[
        (&["import", "u.csv", "--rate"], &format!("--rate needs a value; {rate}")),
        (&["import", "u.csv", "--rate="], &format!("--rate cannot be \"\"; {rate}")),
        (&["import", "u.csv", "--rate", "fast"], &format!("--rate cannot be \"fast\"; {rate}")),
        (&["import", "u.csv", "--rate", "--yes"], &format!("--rate cannot be \"--yes\"; {rate}")),
        (
            &["import", "u.csv", "--concurrency", "99999"],
            "--concurrency cannot be \"99999\"; give a whole number from 1 to 10000",
        ),
        (
            &["import", "u.csv", "--environment", "prod"],
            "--environment cannot be \"prod\"; give one of sandbox, production",
        ),
        (
            &["import", "u.csv", "--validation", "strict"],
            "--validation cannot be \"strict\"; give one of documented, lenient",
        ),
        (&["import", "u.csv", "--ledger"], "--ledger needs a value; write --ledger FILE|URL"),
        (&["import", "u.csv", "--ledger", "--yes"], "--ledger needs a value; write --ledger FILE|URL"),
        (&["import", "u.csv", "--merchant-id", ""], "--merchant-id needs a value; write --merchant-id ID"),
        (&["--config"], "--config needs a value; write --config FILE"),
        (&["import", "u.csv", "--yes=true"], "--yes takes no value; leave \"true\" out"),
        (
            &["import", "u.csv", "--map", "emailaddress=x"],
            "--map cannot be \"emailaddress=x\"; there is no field \"emailaddress\"; did you mean email_address?",
        ),
        (
            &["import", "u.csv", "--map", "Email=email_address"],
            "--map cannot be \"Email=email_address\"; the field stands before the =; did you mean email_address=Email?",
        ),
        (
            &["import", "u.csv", "--map"],
            "--map needs a value; give FIELD=COLUMN, such as mobile_number=Phone",
        ),
        (
            &["import", "u.csv", "--set", "first_name"],
            "--set cannot be \"first_name\"; give FIELD=VALUE, such as mobile_country_code=91",
        ),
        (&["export", "some"], "export takes one of created, failed, all, not \"some\""),
        (
            &["export", "created", "--run", "last"],
            "--run cannot be \"last\"; give the number of a run, such as 1; status lists the runs",
        ),
        (&["simulate", "--seed", "x"], "--seed cannot be \"x\"; give a number from 0"),
        (
            &["completions", "cmd"],
            "completions takes one of bash, elvish, fish, powershell, zsh, not \"cmd\"",
        ),
    ]);
}

#[test]
fn an_argument_that_is_missing_or_too_many() {
    says(&[
        (&["import"], "import needs one CSV file; such as: customer-import import users.csv --simulator"),
        (&["init"], "init needs one CSV file; such as: customer-import init users.csv --output import.toml"),
        (
            &["export"],
            "export needs one of created, failed, all; such as: customer-import export failed --output failed.csv",
        ),
        (&["prune"], "prune needs --before DATE; such as: customer-import prune --before 2026-01-31"),
        (
            &["import", "a.csv", "b.csv"],
            "import takes one CSV file, and \"b.csv\" is one argument too many; put quotes around a value with spaces",
        ),
        (
            &["export", "created", "failed"],
            "export takes one of created, failed, all, and \"failed\" is one argument too many",
        ),
        (
            &["prune", "2026-01-31"],
            "prune takes only options, and \"2026-01-31\" is not one; such as: customer-import prune --before 2026-01-31",
        ),
        (
            &["status", "users.csv"],
            "status takes only options, and \"users.csv\" is not one; see customer-import status --help",
        ),
    ]);
}

#[test]
fn options_that_exclude_each_other() {
    says(&[
        (
            &["import", "u.csv", "--simulator", "--base-url", "http://127.0.0.1:1"],
            "--simulator cannot be used with --base-url; keep one of the two",
        ),
        (&["import", "u.csv", "-v", "-q"], "--verbose cannot be used with --quiet; keep one of the two"),
        (&["report", "--all", "--run", "2"], "--all cannot be used with --run; keep one of the two"),
    ]);
}

#[test]
fn an_argument_that_is_no_text() {
    let world = World::new();
    let args = ["import", "u.csv", "--merchant-id"].map(OsStr::new);
    let done = world.run(&[&args[..], &[OsStr::from_bytes(b"m\xff")]].concat());
    done.assert_error(2, &["the argument", "is not UTF-8"]);
}
