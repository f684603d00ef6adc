//! The API key: text copied along with it is rejected before anything is sent, and a key that is replaced during a
//! run is read again from its file before the run stops, so that no row fails because of it.

use std::process::{Child, Stdio};

use customer_import::simulator::Options;

use crate::world::{Done, MERCHANT, World, done, finish, references, wait_until};

/// An import with the key in a file, which has created some customers and has more to send.
fn begun(world: &World) -> Child {
    world.reconfigure(|behavior| behavior.api_key = Some("first-key".into()));
    world.file("key", "first-key\n");
    let file = world.rows("rows.csv", 300);
    let mut run = world.start_import(&file, &["--api-key-file", "key", "--rate", "300"]);
    assert!(wait_until(&mut run, || world.journal().customers() >= 20));
    run
}

#[test]
fn a_run_goes_on_with_the_key_that_its_file_has_now() {
    let world = World::new();
    let run = begun(&world);
    world.file("key", "second-key");
    world.reconfigure(|behavior| behavior.api_key = Some("second-key".into()));
    let done = finish(run);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(world.outcomes(), "created=300");
    world.assert_agreement(references(0..300));
    let warnings = done.stderr.matches("the API refused the key").count();
    assert_eq!(warnings, 1, "{done:?}");
    assert!(!done.stderr.contains("-key"), "{done:?}");
}

#[test]
fn a_key_that_is_refused_too_ends_the_run_as_ever() {
    for new in ["first-key", "third-key", ""] {
        let world = World::new();
        let run = begun(&world);
        world.file("key", new);
        world.reconfigure(|behavior| behavior.api_key = Some("second-key".into()));
        let done = finish(run);
        done.assert_error_line(4, &["refused the credentials"]);
        let summary = world.summary();
        assert_eq!((&summary["failed"], &summary["rejected"]), (&0.into(), &0.into()), "{summary}");
        world.file("key", "second-key");
        let file = world.path("rows.csv");
        assert_eq!(world.import(&file, &["--api-key-file", "key"]).code, 0);
        assert_eq!(world.journal().customers(), 300);
    }
}

#[test]
fn a_comparison_goes_on_with_the_new_key_too() {
    let world = World::new();
    let file = world.rows("rows.csv", 300);
    assert_eq!(world.import(&file, &[]).code, 0);
    world.reconfigure(|behavior| behavior.api_key = Some("first-key".into()));
    world.file("key", "first-key");
    let before = world.journal().requests();
    let url = world.base_url();
    let args = ["verify", "rows.csv", "--base-url", &url, "--merchant-id", MERCHANT, "--rate", "300"];
    let mut command = world.command(&args);
    command.args(["--api-key-file", "key"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut comparison = command.spawn().unwrap();
    assert!(wait_until(&mut comparison, || world.journal().requests() >= before + 20));
    world.file("key", "second-key");
    world.reconfigure(|behavior| behavior.api_key = Some("second-key".into()));
    let done = finish(comparison);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.stderr.matches("the API refused the key").count(), 1, "{done:?}");
}

/// An import with this key in the environment.
fn import_with_key(world: &World, key: &str) -> Done {
    let args = world.import_args(&world.rows("rows.csv", 2), &[]);
    done(world.command(&args).env("JUSPAY_API_KEY", key).output().unwrap())
}

#[test]
fn what_was_copied_along_with_a_key_is_refused_before_anything_is_sent() {
    let world = World::with(Options { api_key: Some("s3cr3t".into()), ..Options::default() });
    for (key, words) in [
        ("\"s3cr3t\"", "a quote around it, at position 1"),
        ("export JUSPAY_API_KEY=s3cr3t", "the name of a variable, positions 1 to 22"),
        ("Basic s3cr3t", "begins with Basic"),
        ("s3cr3t\u{200b}", "U+200B, a zero width space, at position 7"),
        ("\u{a0}s3cr3t", "U+00A0, a no-break space, at position 1"),
        ("s3cr 3t", "a space at position 5"),
        ("s3cr3t\nother", "a line break at position 7"),
        ("s3cr3t:", "a colon, at position 7"),
        ("${S3CR3T}", "a variable that nothing has replaced"),
    ] {
        let file = world.path("rows.csv");
        let by_variable = import_with_key(&world, key);
        by_variable.assert_error(2, &[words, "JUSPAY_API_KEY"]);
        world.file("key", format!("{key}\n"));
        let by_file = world.import(&file, &["--api-key-file", "key"]);
        by_file.assert_error(2, &[words, "the key file key"]);
        for output in [by_variable.stderr, by_file.stderr] {
            assert!(!output.to_lowercase().contains("s3cr"), "{output}");
        }
    }
    for nothing in ["", "\n", "\u{feff} \n"] {
        world.file("key", nothing);
        let done = world.import(&world.path("rows.csv"), &["--api-key-file", "key"]);
        done.assert_error(2, &["the key file key is empty"]);
    }
    world.file("key", [&b"\xff\xfe"[..], b"k\0e\0y\0"].concat());
    world.import(&world.path("rows.csv"), &["--api-key-file", "key"]).assert_error(2, &["UTF-16", "UTF-8"]);
    assert_eq!(world.journal().requests(), 0);
}

#[test]
fn a_merchant_id_with_something_around_it_is_refused_before_the_ledger_belongs_to_it() {
    let world = World::new();
    let file = world.rows("rows.csv", 2);
    for (id, code) in [
        ("\"acme\"", 2),
        ("ac me", 2),
        ("acme\u{200b}", 2),
        ("JUSPAY_MERCHANT_ID=acme", 2),
        ("acme\n", 0),
        ("acme", 0),
    ] {
        let done = world.import(&file, &["--merchant-id", id]);
        assert_eq!(done.code, code, "{done:?}");
        if code == 2 {
            done.assert_error(2, &["the merchant id", "position"]);
            assert!(!world.has_ledger() && world.journal().requests() == 0);
        }
    }
}

#[test]
fn a_line_break_behind_a_key_is_no_part_of_it_wherever_the_key_stands() {
    for end in ["", "\n", "\r\n", "\n\n"] {
        let world = World::with(Options { api_key: Some("a-b_c.d/e+f=g==".into()), ..Options::default() });
        let key = format!("a-b_c.d/e+f=g=={end}");
        assert_eq!(import_with_key(&world, &key).code, 0, "{key:?}");
        world.file("key", &key);
        assert_eq!(world.import(&world.rows("more.csv", 3), &["--api-key-file", "key"]).code, 0, "{key:?}");
    }
}
