//! Databases that are set up in other ways than most: stricter defaults, timeouts, users with few rights; and what is no
//! database of Postgres at all.
//!
//! The disaster is a setting that somebody made for another program, and with which workers end or wait for nothing.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    time::Duration,
};

use customer_import::simulator::Options;

use crate::{
    server::Server,
    world::{Done, World, finish, references, signal, wait_until},
};

fn slow() -> Options {
    let latency = Duration::from_millis(20);
    Options { latency: (latency, latency), ..Options::default() }
}

/// The same server for another user.
fn url_for(user: &str, server: &Server) -> String {
    server.url().replacen("postgres@", &format!("{user}@"), 1)
}

/// Workers that begin at the same moment wait for each other's locks, and then must see what the others have written.
#[test]
#[ignore = "needs the programs of Postgres: .ci/run has them"]
fn workers_share_a_run_under_any_default_isolation_level() {
    let server = Server::start();
    for level in ["repeatable read", "serializable"] {
        let world = World::with(slow()).on_server(&server.url());
        let schema = world.schema().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        schema.execute(
            &runtime,
            &format!("alter role postgres set default_transaction_isolation to '{level}'"),
        );
        let file = world.rows("users.csv", 600);
        let start = |number: usize| {
            let summary = format!("--summary-json=summary.{number}.json");
            world.start_import(&file, &["--concurrency=4", &summary])
        };
        let workers: Vec<_> = (0..4).map(start).collect();
        let ended: Vec<Done> = workers.into_iter().map(finish).collect();
        assert!(
            ended.iter().all(|done| done.code == 0 && !done.stderr.contains("WARN")),
            "{level}: {ended:#?}"
        );
        assert_eq!(world.number("select count(*) from run"), 1, "{level}");
        world.assert_agreement(references(0..600));
    }
}

#[test]
#[ignore = "needs the programs of Postgres: .ci/run has them"]
fn an_empty_schema_is_enough_for_a_user_who_may_not_create_one() {
    let server = Server::start();
    let world = World::new().on_server(&url_for("importer", &server));
    let owner = crate::server::Schema::new(&server.url());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let name = world.schema().unwrap().name();
    owner.execute(&runtime, "create role importer login");
    let file = world.rows("users.csv", 3);
    let denied = ["permission denied for database", "create on the database for the first run"];
    world.import(&file, &[]).assert_error_line(2, &denied);
    owner.execute(&runtime, &format!("create schema {name}; grant usage on schema {name} to importer"));
    world.import(&file, &[]).assert_error_line(2, &["permission denied for schema", "usage on the schema"]);
    owner.execute(&runtime, &format!("grant create on schema {name} to importer"));
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.import(&file, &[]).code, 0);
    world.assert_agreement(references(0..3));
}

#[test]
#[ignore = "needs the programs of Postgres: .ci/run has them"]
fn a_user_who_may_only_read_is_told_so() {
    let server = Server::start();
    let world = World::new().on_server(&server.url());
    let file = world.rows("users.csv", 3);
    let words = ["read-only transaction", "turn default_transaction_read_only off"];
    let set =
        |value| world.execute(&format!("alter role postgres set default_transaction_read_only to {value}"));
    set("on");
    world.import(&file, &[]).assert_error_line(2, &words);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let off = "begin read write; alter role postgres reset default_transaction_read_only; commit";
    world.schema().unwrap().execute(&runtime, off);
    assert_eq!(world.import(&file, &[]).code, 0);
    set("on");
    world.import(&world.rows("more.csv", 6), &[]).assert_error_line(2, &words);
    assert_eq!(world.export("created").len(), 3, "it can be read");
    assert_eq!(world.journal().requests(), 3);
    world.schema().unwrap().execute(&runtime, off);
}

/// A timeout that is meant for a web application, and an administrator who ends what waits.
#[test]
#[ignore = "needs the programs of Postgres: .ci/run has them"]
fn a_statement_that_waits_is_not_given_up() {
    let server = Server::start();
    let world = World::with(slow()).on_server(&server.url());
    world.execute("alter role postgres set statement_timeout to '200ms'");
    let file = world.rows("users.csv", 400);
    let mut run = world.start_import(&file, &["--concurrency=2"]);
    assert!(wait_until(&mut run, || world.journal().requests() > 20));
    let lock = world.lock("begin; lock table row in access exclusive mode");
    let waiting = "select pid from pg_stat_activity
        where wait_event_type = 'Lock' and clock_timestamp() - query_start > interval '600 milliseconds'";
    assert!(wait_until(&mut run, || !world.query(waiting).is_empty()));
    world.query(&format!("select pg_cancel_backend(pid) from ({waiting}) waits"));
    drop(lock);
    let done = finish(run);
    assert_eq!(done.code, 0, "{done:?}");
    world.assert_agreement(references(0..400));
}

/// It has not begun, and could be started again; but whoever starts it may not look before the next morning.
#[test]
#[ignore = "needs the programs of Postgres: .ci/run has them"]
fn a_worker_that_waits_for_others_goes_on_behind_a_restart_of_the_server() {
    let server = Server::start();
    let world = World::with(slow()).on_server(&server.url());
    let file = world.rows("users.csv", 200);
    let mut first = world.start_import(&file, &["--concurrency=2", "--lease=6s"]);
    assert!(wait_until(&mut first, || world.journal().requests() > 20));
    signal(&first, "STOP");
    let log = world.path("second.log");
    let mut second = world.start_import(&file, &["--log-file", log.to_str().unwrap()]);
    let mut logged = |words: &str| {
        wait_until(&mut second, || fs::read_to_string(&log).is_ok_and(|log| log.contains(words)))
    };
    assert!(logged("another process holds the ledger and writes nothing"));
    server.stop();
    assert!(logged("the ledger is unreachable; nothing is sent until it is back"));
    server.begin();
    let done = finish(second);
    assert_eq!(done.code, 0, "{done:?}");
    signal(&first, "CONT");
    finish(first).assert_error_line(4, &["another process has taken this one's work over"]);
    world.assert_agreement(references(0..200));
}

#[test]
fn an_address_in_brackets_is_not_looked_up_as_a_name() {
    let done = World::new().run(&["status", "--ledger", "postgres://u@[::1]:1/d"]);
    done.assert_error_line(1, &["postgres://u@[::1]:1/d", "check host and port"]);
    assert!(!done.stderr.contains("lookup"), "{done:?}");
}

#[test]
fn a_port_of_another_program_is_recognized() {
    let greetings: [&[u8]; 3] =
        [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x4a\0\0\0\x0a8.0.36\0"];
    for greeting in greetings {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let mut request = [0; 64];
                let _ = client.read(&mut request);
                let _ = client.write_all(greeting);
            }
        });
        let done = World::new().run(&["status", "--ledger", &format!("postgres://u@127.0.0.1:{port}/d")]);
        done.assert_error_line(1, &["another program listens there"]);
        assert!(!done.stderr.contains("sqlx"), "{done:?}");
    }
}

/// A password with a character that means something in a URL, and parameters of other programs.
#[test]
fn a_password_that_is_not_where_it_belongs_is_not_shown() {
    let world = World::new();
    for (ledger, words) in [
        ("postgres://u:12/geheim@h/d", "%2F"),
        ("postgres://u:12?geheim@h/d", "%3F"),
        ("postgres://u:12#geheim@h/d", "%23"),
        ("postgres://u@h/d?PASSWORD=geheim", "PASSWORD is no parameter"),
        ("postgres://u@h/d?sslpassword=geheim", "sslpassword is no parameter"),
        ("host=h user=u password=geheim dbname=d", "in place of a URL"),
        ("jdbc:postgresql://h/d?user=u&password=geheim", "jdbc:postgresql://… is no ledger"),
    ] {
        let with_flag = world.run(&["status", "--ledger", ledger]);
        let mut command = world.command(&["status"]);
        let with_variable =
            crate::world::done(command.env("CUSTOMER_IMPORT_LEDGER", ledger).output().unwrap());
        let mut command = world.command(&["config", "import"]);
        let config = crate::world::done(command.env("CUSTOMER_IMPORT_LEDGER", ledger).output().unwrap());
        for done in [&with_flag, &with_variable] {
            done.assert_error_line(2, &[words]);
        }
        for done in [&with_flag, &with_variable, &config] {
            assert!(!format!("{done:?}").contains("geheim"), "{done:?}");
        }
    }
    assert!(crate::world::files(world.folder.path()).is_empty(), "none is taken for a file");
}
