//! The key is replaced in mid-run: the key file is read once more before the run stops, and no row pays for it.

use std::process::{Child, Stdio};

use crate::world::{MERCHANT, World, finish, references, wait_until};

/// An import with the key of a file, which has created some customers and has more to send.
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
    let said = done.stderr.matches("the API refused the key").count();
    assert_eq!(said, 1, "{done:?}");
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
