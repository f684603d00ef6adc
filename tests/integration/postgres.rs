//! A ledger on a server of Postgres: what it tells, who has it, and what becomes of it when the server or the way to it
//! breaks.
//!
//! The disaster is a commit that is made twice or lost because its answer was, a second process that writes beside the
//! first, and a password in a process list. That the ledger tells the same as one in a file is what the tests of
//! outcomes, resume, nightly, retry, prune, export and report say, which run over both.

use std::{
    fs,
    io::Write as _,
    process::{Child, Command},
    time::{Duration, Instant},
};

use customer_import::simulator::{Fault, Options};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    scanner::{constants, program, root},
    server::{BadLine, FarLine, Schema, Server, SilentLine, named},
    world::{Done, MERCHANT, World, finish, references, rows, signal, wait_until},
};

fn server() -> String {
    named().expect("CUSTOMER_IMPORT_TEST_LEDGER names a server, as .ci/run does")
}

fn slow() -> Options {
    let latency = Duration::from_millis(20);
    Options { latency: (latency, latency), ..Options::default() }
}

/// A file of every kind of row: valid ones, duplicates, invalid ones, with cells that a database might choke on.
fn file(random: &mut StdRng, rows: usize) -> String {
    let names =
        ["Ann", "O\"Brien", "日本", "a\\u0000b", "nul\0byte", "x\u{fdd0}y", "%s {}", "'; drop table row; --"];
    let mut text = "object_reference_id,mobile_number,email_address,first_name\n".to_owned();
    for row in 0..rows {
        let reference = match random.random_range(0..20) {
            0 => format!("cust-{:06}", random.random_range(0..=row)),
            1 => "short".into(),
            2 => format!("bad\0ref-{row}"),
            _ => format!("cust-{row:06}"),
        };
        let mobile = if random.random_bool(0.05) { "12".into() } else { format!("98{row:08}") };
        let email = format!("c{}@example.com", if random.random_bool(0.1) { row + 1 } else { row });
        let name = if random.random_bool(0.7) { "Ann" } else { names[random.random_range(0..names.len())] };
        let name = name.replace('"', "\"\"");
        text.push_str(&format!("{reference},{mobile},{email},\"{name}\"\n"));
    }
    text
}

/// What a ledger tells of itself: summaries, status, exports; without times, places and the ids that the API gave.
fn contents(world: &World) -> Vec<String> {
    let without_ids = |rows: Vec<Vec<String>>, at: usize| {
        let rows = rows.into_iter().map(|mut row| {
            row[at] = if row[at].is_empty() { "none".into() } else { "an id".into() };
            format!("{row:?}")
        });
        rows.collect::<Vec<_>>()
    };
    let mut contents = without_ids(world.export("all"), 3);
    contents.extend(without_ids(world.export("created"), 1));
    contents.push(world.failed_text());
    let status = world.run(&["status", "--format", "json"]);
    let mut status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    status.as_object_mut().unwrap().remove("ledger");
    status.as_object_mut().unwrap().remove("target");
    contents.push(shape(&status));
    let mut report = world.summary();
    for name in ["elapsed_seconds", "ledger", "target", "reading", "worker", "workers", "worker_rows"] {
        report.as_object_mut().unwrap().remove(name);
    }
    contents.push(shape(&report));
    contents
}

/// A value without what differs from one hour, or one folder, to the next.
fn shape(value: &serde_json::Value) -> String {
    let mut value = value.clone();
    fn clean(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(fields) => {
                fields.retain(|name, _| {
                    !["_at", "seconds", "per_second", "requests", "retries", "throttled", "next", "base_url"]
                        .iter()
                        .any(|word| name.contains(word))
                        && name != "source"
                        && name != "message"
                });
                fields.values_mut().for_each(clean);
            }
            serde_json::Value::Array(values) => values.iter_mut().for_each(clean),
            _ => {}
        }
    }
    clean(&mut value);
    value.to_string()
}

#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn both_ledgers_tell_the_same_of_the_same_files() {
    for seed in 0..4 {
        let behavior = || Options {
            seed,
            faults: vec![(Fault::Reject, 0.1), (Fault::ResetAfter, 0.1), (Fault::Http500, 0.1)],
            ..Options::default()
        };
        let worlds = [World::with(behavior()).in_file(), World::with(behavior()).on_server(&server())];
        let lenient = ["--validation", "lenient"];
        let steps: [&[&str]; 4] = [&[], &lenient, &["--update-changed"], &["--drop-invalid-optional"]];
        for (step, more) in steps.into_iter().enumerate() {
            let mut random = StdRng::seed_from_u64(seed * 100 + step as u64);
            let text = file(&mut random, 120);
            let of_both = worlds.each_ref().map(|world| {
                let done = world.import(&world.file("users.csv", &text), more);
                if step == 2 {
                    world.aim("retry", &[]);
                }
                (done.code, world.outcomes(), contents(world))
            });
            let [(code, outcomes, of_file), (other_code, other_outcomes, of_server)] = of_both;
            assert_eq!((code, outcomes), (other_code, other_outcomes), "seed {seed}, step {step}");
            for (one, other) in of_file.iter().zip(&of_server) {
                assert_eq!(one, other, "seed {seed}, step {step}");
            }
            assert_eq!(of_file.len(), of_server.len(), "seed {seed}, step {step}");
        }
    }
}

#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn every_statement_fits_a_fresh_ledger() {
    let world = World::new().on_server(&server());
    assert_eq!(world.import(&world.rows("users.csv", 1), &[]).code, 0);
    let mut found = 0;
    for source in program().iter().filter(|source| source.path.starts_with("src/ledger/postgres/")) {
        for (name, text) in constants(source) {
            if !text.trim_start().starts_with(|first: char| first.is_ascii_lowercase()) || !text.contains(' ')
            {
                continue;
            }
            if ["begin", "create schema", "vacuum"].iter().any(|word| text.trim_start().starts_with(word)) {
                continue;
            }
            if !["select", "insert", "update", "delete", "with"]
                .iter()
                .any(|word| text.trim_start().starts_with(word))
            {
                continue;
            }
            assert!(!text.contains('\\'), "{name} has an escape");
            world.execute(&format!("prepare tried as {}", text.replace("{schema}.", "")));
            found += 1;
        }
    }
    assert!(found > 80, "{found} statements in {}", root().display());
}

/// Nobody waits ten minutes here: the statement is the program's, with other ages.
#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn a_transaction_that_has_been_open_for_long_is_found() {
    let world = World::new().on_server(&server());
    assert_eq!(world.import(&world.rows("users.csv", 1), &[]).code, 0);
    let queries = program().into_iter().find(|it| it.path == "src/ledger/postgres/queries.rs").unwrap();
    let statements = constants(&queries);
    let (_, select) = statements.iter().find(|(name, _)| name == "SELECT_OLD_TRANSACTION").unwrap();
    assert!(select.contains("interval '10 minutes'") && select.contains("limit 1"), "{select}");
    let name = format!("a report of {}", world.schema().unwrap().name());
    let found = |age: &str| {
        // Other tests have transactions, too.
        let select = select.replace("10 minutes", age).replace("limit 1", "limit 1000");
        let rows = world.query(&select);
        rows.into_iter().filter(|row| row[0] == name).map(|row| row[1..3].join(", ")).collect::<Vec<_>>()
    };
    let begin = "begin isolation level repeatable read; select 1 from row";
    let open = world.lock(&format!("set application_name to '{name}'; {begin}"));
    assert_eq!(found("0 minutes"), ["postgres, idle in transaction"]);
    assert_eq!(found("10 minutes"), [""; 0]);
    drop(open);
}

#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn one_run_has_the_ledger_at_a_time() {
    let world = World::with(slow()).on_server(&server());
    let file = world.rows("users.csv", 400);
    let mut first = world.start_import(&file, &["--concurrency", "2"]);
    assert!(wait_until(&mut first, || world.journal().requests() > 20));
    let runs = world.table("run");
    for command in ["import", "prune", "retry"] {
        let done = match command {
            "import" => world.import(&world.rows("others.csv", 400), &[]),
            "prune" => world.run(&["prune", "--before", "2020-01-01"]),
            _ => world.aim("retry", &[]),
        };
        done.assert_error_line(2, &["it is in use by run 1", "wait for it to end"]);
    }
    assert_eq!(world.table("run").len(), runs.len(), "a refused run leaves no trace");
    assert!(world.run(&["status"]).stdout.contains("Run 1 is in progress"), "readers read beside it");
    signal(&first, "KILL");
    first.wait().unwrap();
    // Its lease has passed: the world sees to it.
    assert_eq!(world.import(&file, &[]).code, 0);
    world.assert_agreement(references(0..400));
    assert_eq!(world.query("select state from worker order by id"), [["dead"], ["left"]]);
}

/// A process that was stopped for longer than its lease, and whose rows another one has settled meanwhile, neither sends
/// nor writes anything when it goes on.
#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn a_process_that_was_taken_over_writes_nothing_more() {
    let world = World::with(slow()).on_server(&server());
    let file = world.rows("users.csv", 200);
    let mut first = world.start_import(&file, &["--concurrency", "2"]);
    assert!(wait_until(&mut first, || world.journal().requests() > 20));
    signal(&first, "STOP");
    world.execute("update worker set beat_at = '-infinity'");
    assert_eq!(world.import(&file, &[]).code, 0);
    let (contents, requests) = (world.table("row"), world.journal().requests());
    signal(&first, "CONT");
    let done = finish(first);
    done.assert_error_line(4, &["another process has taken this one's work over"]);
    assert_eq!(world.table("row"), contents);
    assert!(world.journal().requests() <= requests + 2, "those that were on their way");
    world.assert_agreement(references(0..200));
}

#[test]
#[ignore = "needs the programs of Postgres: .ci/run has them"]
fn a_commit_is_made_once_whatever_breaks_when() {
    let server = Server::start();
    let line = BadLine::to(&server, 4);
    let mut world = World::with(slow()).on_server(&line.url());
    let text = crate::world::rows(0..300) + "cust-000001,9800000001,a@example.com\nshort,1,\n";
    let file = world.file("users.csv", text);
    let done = world.import(&file, &["--concurrency", "4", "--max-attempts", "1"]);
    assert_eq!(done.code, 3, "{done:?}");
    let [before, after] = line.cuts();
    assert!(before >= 3 && after >= 3, "cut {before} before and {after} after");
    assert_eq!(world.outcomes(), "created=300 duplicate=1 invalid=1");
    world.reach_ledger_through(&server.url());
    world.assert_same_customers();
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.outcomes(), "unchanged=300 duplicate=1 invalid=1");
}

/// A moment at which a request may be sent is void some milliseconds later.
#[test]
#[ignore = "needs the programs of Postgres: .ci/run has them"]
fn requests_are_sent_however_far_the_server_is() {
    let server = Server::start();
    let line = FarLine::to(&server, Duration::from_millis(12));
    for rate in ["--rate=50", "--rate=unlimited"] {
        let world = World::new().on_server(&line.url());
        assert_eq!(world.import(&world.rows("users.csv", 50), &[rate]).code, 0, "{rate}");
        world.assert_agreement(references(0..50));
    }
}

#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn a_burst_is_sent_at_once() {
    let world = World::new().on_server(&server());
    let began = Instant::now();
    assert_eq!(world.import(&world.rows("users.csv", 60), &["--rate=0.5", "--burst=60"]).code, 0);
    assert!(began.elapsed() < Duration::from_secs(60), "two minutes without a burst: {:?}", began.elapsed());
}

/// What was given away is in the future then.
#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn a_servers_clock_that_is_set_back_holds_no_request_up() {
    let world = World::new().on_server(&server());
    let file = world.rows("users.csv", 20);
    assert_eq!(world.import(&file, &["--limit=10"]).code, 0);
    world.execute("update rate set given_until = given_until + 86400");
    assert_eq!(world.import(&file, &[]).code, 0);
    world.assert_agreement(references(0..20));
}

/// A machine that is gone tells nobody; the connections to it stay as they are.
#[test]
#[ignore = "needs the programs of Postgres: .ci/run has them"]
fn no_answer_is_waited_for_for_ever() {
    let server = Server::start();
    for text in ["from row where reference = any", "set given_until = greatest(", "set commits = commits + 1"]
    {
        let line = SilentLine::to(&server, text);
        let world = World::new().on_server(&line.url());
        let file = world.rows("users.csv", 20);
        assert_eq!(world.import(&file, &[]).code, 0, "{text}");
        assert!(line.is_silent(), "{text}");
        world.assert_agreement(references(0..20));
    }
}

#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn a_ledger_that_gives_no_moments_for_requests_ends_the_run() {
    let world = World::with(slow()).on_server(&server());
    let file = world.rows("users.csv", 600);
    let start = || {
        let requests = world.journal().requests();
        let mut run = world.start_import(&file, &["--concurrency=2", "--outage-limit=17s"]);
        assert!(wait_until(&mut run, || world.journal().requests() > requests + 20));
        run
    };
    let run = start();
    let lock = world.lock("begin; lock table rate");
    let done = finish(run);
    done.assert_error_line(4, &["the server was unreachable for 17s", "run the same command again"]);
    assert!(done.stderr.contains("the ledger gives no moments for requests (table rate)"), "{done:?}");
    drop(lock);
    let run = start();
    world.execute("drop table rate");
    let words = ["rate", "the schema is not as this program made it"];
    finish(run).assert_error_line(1, &words);
    world.import(&file, &[]).assert_error_line(2, &words);
}

#[test]
#[ignore = "needs the programs of Postgres: .ci/run has them"]
fn while_the_server_is_away_nothing_is_sent_and_the_run_goes_on_behind_it() {
    let server = Server::start();
    let world = World::with(slow()).on_server(&server.url());
    let file = world.rows("users.csv", 600);
    let log = world.path("run.log");
    let mut run = world.start_import(&file, &["--concurrency", "2", "--log-file", log.to_str().unwrap()]);
    assert!(wait_until(&mut run, || world.journal().requests() > 20));
    server.stop();
    let warning = "the ledger is unreachable; nothing is sent until it is back";
    assert!(wait_until(&mut run, || fs::read_to_string(&log).is_ok_and(|log| log.contains(warning))));
    // What was claimed goes on for some seconds; then nothing is sent any more, however many rows are claimed.
    let mut last = (world.journal().requests(), Instant::now());
    assert!(wait_until(&mut run, || {
        let requests = world.journal().requests();
        if requests != last.0 {
            last = (requests, Instant::now());
        }
        last.1.elapsed() > Duration::from_secs(2)
    }));
    assert!(world.journal().requests() < 600, "all of it was sent");
    server.begin();
    let done = finish(run);
    assert_eq!(done.code, 0, "{done:?}");
    world.assert_agreement(references(0..600));
}

#[test]
#[ignore = "needs the programs of Postgres: .ci/run has them"]
fn a_server_that_stays_away_ends_the_run_and_the_next_one_goes_on() {
    let server = Server::start();
    let world = World::with(slow()).on_server(&server.url());
    let file = world.rows("users.csv", 300);
    let mut run = world.start_import(&file, &["--concurrency", "2", "--outage-limit", "1s"]);
    assert!(wait_until(&mut run, || world.journal().requests() > 20));
    server.stop();
    let done = finish(run);
    done.assert_error_line(4, &["the server was unreachable for 1s", "run the same command again"]);
    assert_eq!(world.run(&["status"]).code, 1, "a reader does not wait");
    server.begin();
    assert_eq!(world.import(&file, &[]).code, 0);
    world.assert_agreement(references(0..300));
}

/// A ledger on this server with 400 imported and 400 rejected rows, of the files `users.csv` and `refused.csv`, and
/// `new.csv` with 400 rows that are new. The API answers slowly.
fn imported_and_rejected(server: &Server) -> World {
    let world = World::new().on_server(&server.url());
    assert_eq!(world.import(&world.rows("users.csv", 400), &[]).code, 0);
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::Reject, 1.0)]);
    assert_eq!(world.import(&world.file("refused.csv", rows(1000..1400)), &[]).code, 3);
    world.file("new.csv", rows(2000..2400));
    world.reconfigure(|behavior| {
        behavior.faults.clear();
        behavior.latency = slow().latency;
    });
    world
}

/// The commands that read a ledger while they send requests.
const READING: [&[&str]; 3] = [&["verify", "users.csv"], &["retry"], &["plan", "new.csv", "--ask=all"]];

/// Starts the command, and returns when it has sent some of its requests.
fn start_reading(world: &World, command: &[&str], more: &[&str]) -> Child {
    let sent = world.journal().requests();
    let args = [&command[1..], &["--concurrency=2"], more].concat();
    let mut child = world.start_aimed(command[0], &args);
    assert!(wait_until(&mut child, || world.journal().requests() > sent + 20));
    child
}

#[test]
#[ignore = "needs the programs of Postgres: .ci/run has them"]
fn what_reads_a_ledger_while_it_sends_goes_on_behind_a_restart_of_the_server() {
    let server = Server::start();
    let world = imported_and_rejected(&server);
    for command in READING {
        let child = start_reading(&world, command, &[]);
        server.stop();
        server.begin();
        let done = finish(child);
        assert_eq!(done.code, 0, "{command:?} {done:?}");
    }
    assert!(world.failed_rows().is_empty(), "all are created by the retry");
}

#[test]
#[ignore = "needs the programs of Postgres: .ci/run has them"]
fn a_server_that_stays_away_ends_what_reads_a_ledger_while_it_sends() {
    let server = Server::start();
    let world = imported_and_rejected(&server);
    for command in READING {
        let child = start_reading(&world, command, &["--outage-limit=1s"]);
        server.stop();
        finish(child)
            .assert_error_line(4, &["the server was unreachable for 1s", "run the same command again"]);
        server.begin();
    }
    assert_eq!(world.aim("retry", &[]).code, 0);
    assert!(world.failed_rows().is_empty());
}

/// The server is waited for, but not after a signal.
#[test]
#[ignore = "needs the programs of Postgres: .ci/run has them"]
fn a_signal_ends_what_waits_for_the_server_to_read_the_next_rows() {
    let server = Server::start();
    let world = imported_and_rejected(&server);
    // More rows than are read ahead, so that the ledger is read again; nothing is looked up before the last one.
    let text = rows(0..3000);
    let (first, others) = text.split_at(text.len() * 3 / 5);
    for (command, sample) in [("verify", "--sample=1"), ("plan", "--ask=1")] {
        let (log, pipe) = (world.path("away.log"), world.path("pipe.csv"));
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let args = ["pipe.csv", sample, "--outage-limit=1h", "-v", "--log-file", "away.log"];
        let mut child = world.start_aimed(command, &args);
        let mut pipe = fs::File::create(&pipe).unwrap();
        pipe.write_all(first.as_bytes()).unwrap();
        let mut logged =
            |words| wait_until(&mut child, || fs::read_to_string(&log).is_ok_and(|log| log.contains(words)));
        assert!(logged(" begins"));
        server.stop();
        pipe.write_all(others.as_bytes()).unwrap();
        assert!(logged("the ledger is unreachable; nothing is sent until it is back"));
        signal(&child, "TERM");
        let done = finish(child);
        assert_eq!(done.code, 143, "{command:?} {done:?}");
        server.begin();
        drop(pipe);
        fs::remove_file(world.path("pipe.csv")).unwrap();
        fs::remove_file(world.path("away.log")).unwrap();
    }
}

#[test]
#[ignore = "needs the programs of Postgres: .ci/run has them"]
fn a_second_signal_does_not_wait_for_a_server_that_does_not_answer() {
    let server = Server::start();
    let world = World::with(slow()).on_server(&server.url());
    let file = world.rows("users.csv", 600);
    let mut run = world.start_import(&file, &["--concurrency", "2"]);
    assert!(wait_until(&mut run, || world.journal().requests() > 20));
    server.signal("STOP");
    // It says so once it has begun to stop; the second signal ends that.
    signal(&run, "INT");
    let began = Instant::now();
    assert!(wait_until(&mut run, || began.elapsed() > Duration::from_millis(500)));
    signal(&run, "INT");
    let done = finish(run);
    let ended = began.elapsed();
    server.signal("CONT");
    assert_eq!(done.code, 130, "{done:?}");
    assert!(ended < Duration::from_secs(6), "{ended:?}");
    assert_eq!(world.import(&file, &[]).code, 0);
    world.assert_agreement(references(0..600));
}

/// The one line of what went wrong before anything was sent.
#[track_caller]
fn refused(world: &World, url: &str, words: &[&str]) {
    let file = world.rows("users.csv", 2);
    let args = world.import_args(&file, &["--ledger", url]);
    let done = world.run(&args);
    assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
    done.assert_error_line(2, words);
    assert_eq!(world.journal().requests(), 0, "{done:?}");
}

#[test]
#[ignore = "needs a server of Postgres: .ci/run has one"]
fn what_is_no_ledger_and_can_be_none_is_refused_in_one_line() {
    let server = server();
    let world = World::new().on_server(&server);
    let other = Schema::new(&server);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let execute = |sql: &str| other.execute(&runtime, sql);
    let (base, database) = server.rsplit_once('/').unwrap();
    let name = other.name();

    execute(&format!("create schema {name}; create table {name}.theirs (id int)"));
    refused(
        &world,
        &other.url(),
        &[&format!("the schema {name:?} has what is another program's"), "?schema=NAME"],
    );
    execute(&format!("drop schema {name} cascade"));

    execute(&format!("create database {name} encoding 'SQL_ASCII' template template0"));
    refused(&world, &format!("{base}/{name}"), &["has the encoding SQL_ASCII", "encoding 'UTF8'"]);
    execute(&format!("drop database {name}"));

    execute(&format!("create role {name} login"));
    let as_other = base.replacen("postgres@", &format!("{name}@"), 1);
    refused(
        &world,
        &format!("{as_other}/{database}?schema={name}"),
        &["permission denied", "create on the database"],
    );
    refused(&world, &format!("{base}/nothing_{name}"), &["does not exist", "create the database first"]);

    // After the first run no table is made any more.
    assert_eq!(world.import(&world.rows("users.csv", 2), &[]).code, 0);
    let schema = world.schema().unwrap();
    let of_world = schema.name();
    execute(&format!(
        "grant usage on schema {of_world} to {name};
         grant select, insert, update, delete on all tables in schema {of_world} to {name}"
    ));
    let limited = format!("{as_other}/{database}?schema={of_world}");
    let done = world.run(&world.import_args(&world.rows("more.csv", 4), &["--ledger", &limited]));
    assert_eq!(done.code, 0, "{done:?}");
    execute(&format!("revoke insert, update, delete on all tables in schema {of_world} from {name}"));
    let done = world.aim("verify", &["more.csv", "--ledger", &limited]);
    assert_eq!(done.code, 0, "{done:?}");
    let warning = ["the rate is not shared with the runs of this ledger", "permission denied for table rate"];
    assert!(warning.iter().all(|words| done.stderr.contains(words)), "{done:?}");
    execute(&format!("drop owned by {name}; drop role {name}"));

    world.execute("insert into migration (version) values (99)");
    let done = world.import(&world.rows("users.csv", 2), &[]);
    done.assert_error_line(2, &["was written by a later version of this program"]);
    world.run(&["status"]).assert_error_line(2, &["was written by a later version"]);
    world.execute("delete from migration where version = 99");
    let others = world.import_args(&world.rows("users.csv", 2), &["--merchant-id", "another"]);
    world.run(&others).assert_error_line(2, &["belongs to merchant", MERCHANT]);
}

#[test]
#[ignore = "needs the programs of Postgres: .ci/run has them"]
fn a_standby_is_read_and_not_written_to() {
    let server = Server::start();
    let world = World::new().on_server(&server.url());
    assert_eq!(world.import(&world.rows("users.csv", 3), &[]).code, 0);
    server.stop();
    server.make_standby();
    server.begin();
    assert_eq!(world.export("created").len(), 3);
    let done = world.aim("verify", &["users.csv"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("the rate is not shared with the runs of this ledger"), "{done:?}");
    let done = world.import(&world.rows("users.csv", 4), &[]);
    done.assert_error_line(2, &["a read-only standby", "name the server that is written to"]);
}

#[test]
fn a_password_is_refused_where_others_see_it_and_shown_nowhere() {
    let world = World::new();
    let file = world.rows("users.csv", 1);
    let url = "postgres://importer:geheim@127.0.0.1:1/imports?schema=acme";
    let says = |done: Done, code: i32, words: &[&str]| {
        for text in [&done.stdout, &done.stderr] {
            assert!(!text.contains("geheim"), "{done:?}");
        }
        assert_eq!(done.code, code, "{done:?}");
        let all = done.stdout.clone() + &done.stderr;
        words.iter().for_each(|word| assert!(all.contains(word), "{word}: {done:?}"));
    };
    says(world.run(&["status", "--ledger", url]), 2, &["was given with a password", "PGPASSWORD"]);
    let config = world.file("settings.toml", format!("ledger = {url:?}\n"));
    let config = config.display().to_string();
    let mut of_file = world.command(&["status", "--config", &config]);
    of_file.env_remove("CUSTOMER_IMPORT_LEDGER");
    says(crate::world::done(of_file.output().unwrap()), 2, &["was given with a password"]);
    for (args, code, words) in [
        (vec!["status"], 1, &["postgres://importer@127.0.0.1:1/imports?schema=acme", "no connection"][..]),
        (vec!["config", "import"], 0, &["@127.0.0.1:1/imports?schema=acme"]),
        (vec!["import", "--help"], 0, &["--ledger"]),
        (world.import_args(&file, &[]).iter().map(String::as_str).collect(), 1, &["no connection"]),
    ] {
        let mut command = world.command(&args);
        command.env("CUSTOMER_IMPORT_LEDGER", url);
        says(crate::world::done(command.output().unwrap()), code, words);
    }
    for (wrong, words) in [
        ("postgres://u@h/d?shema=x", "shema is no parameter"),
        ("postgres://u@h:port/d", "port"),
        ("postgres://u@127.0.0.1:1/d?sslmode=perhaps", "perhaps"),
    ] {
        world.run(&["status", "--ledger", wrong]).assert_error(2, &[words, "postgres://USER@HOST/DATABASE"]);
    }
}
