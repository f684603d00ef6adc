//! Certificates: the client certificate of `--client-cert`, and why a server's certificate is refused.

use std::process::Command;

use crate::{
    door::{AUTHORITY, Door},
    world::{World, references},
};

#[test]
fn a_server_that_wants_a_certificate_is_shown_it() {
    let world = World::new();
    let (door, [certificate, key]) = Door::for_a_client_certificate(world.simulator.address());
    world.file("ca.pem", &door.ca);
    world.file("client.pem", &certificate);
    world.file("client.key", &key);
    // A file that contains both works for either option.
    world.file("both.pem", key + &certificate);
    let rows = world.rows("rows.csv", 3);
    let url = door.url();
    let base = ["--base-url", &url, "--ca-file", "ca.pem", "--outage-limit", "1s"];
    let without = world.import(&rows, &base);
    without.assert_error_line(4, &["no response for", "--client-cert"]);
    let with = [&base[..], &["--client-cert", "client.pem", "--client-key", "client.key"]].concat();
    let done = world.import(&rows, &with);
    assert_eq!(done.code, 0, "{done:?}");
    world.assert_agreement(references(0..3));
    let both = [&base[..], &["--client-cert", "both.pem", "--client-key", "both.pem"]].concat();
    let verified =
        world.run(&[&["verify", "rows.csv", "--merchant-id", crate::world::MERCHANT], &both[..]].concat());
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[test]
fn what_is_no_certificate_or_key_is_refused() {
    let world = World::new();
    let (door, [certificate, key]) = Door::for_a_client_certificate(world.simulator.address());
    let (_, [_, of_another]) = Door::for_a_client_certificate(world.simulator.address());
    world.file("c.pem", &certificate);
    world.file("k.pem", &key);
    world.file("another.pem", of_another);
    world.file("empty.pem", "");
    world.file("damaged.pem", &key[..key.len() / 2]);
    let encrypt =
        ["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "pass:x", "-in", "k.pem", "-out", "e.pem"];
    let made = Command::new("openssl").args(encrypt).current_dir(world.folder.path()).status();
    if !made.is_ok_and(|status| status.success()) {
        world.file(
            "e.pem",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
    }
    world.file(
        "old.pem",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    );
    world.file("half.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let (url, rows) = (door.url(), world.rows("rows.csv", 1));
    for (options, words) in [
        (&["--client-cert", "c.pem"][..], "--client-key"),
        (&["--client-key", "k.pem"], "--client-cert"),
        (&["--client-cert", "none.pem", "--client-key", "k.pem"], "none.pem"),
        (&["--client-cert", "c.pem", "--client-key", "none.pem"], "none.pem"),
        (&["--client-cert", "empty.pem", "--client-key", "k.pem"], "no certificate in it"),
        (&["--client-cert", "k.pem", "--client-key", "k.pem"], "no certificate in it"),
        (&["--client-cert", "half.pem", "--client-key", "k.pem"], "it breaks off before an END line"),
        (&["--client-cert", "c.pem", "--client-key", "c.pem"], "no private key in it"),
        (&["--client-cert", "c.pem", "--client-key", "damaged.pem"], "no private key in it"),
        (&["--client-cert", "c.pem", "--client-key", "e.pem"], "is encrypted; openssl pkey"),
        (&["--client-cert", "c.pem", "--client-key", "old.pem"], "is encrypted; openssl pkey"),
        (&["--client-cert", "c.pem", "--client-key", "another.pem"], "is not that of the client certificate"),
    ] {
        let done = world.import(&rows, &[&["--base-url", &*url], options].concat());
        done.assert_error(2, &[words]);
        assert!(!world.ledger().exists(), "{done:?}");
    }
}

#[test]
fn a_refused_certificate_is_named_with_its_issuer() {
    let world = World::new();
    let door = Door::with_certificate(world.simulator.address());
    let (url, rows) = (door.url(), world.rows("rows.csv", 3));
    let done = world.import(&rows, &["--base-url", &url, "--outage-limit", "1s"]);
    done.assert_error_line(4, &["certificate of 127.0.0.1 is refused", "issuer is not trusted", AUTHORITY]);
}
