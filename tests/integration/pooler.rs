//! A ledger behind a pooler in transaction mode, whose few connections serve whoever has a transaction: everything that
//! works without a pooler works with one.

use std::{process::Child, time::Duration};

use customer_import::simulator::{Fault, Options};

use crate::{
    server::{Pooler, Server},
    world::{Done, World, finish, rows, wait_until},
};

/// The connections of the pooler: fewer than two workers have.
const CONNECTIONS: usize = 2;

#[test]
#[ignore = "needs Postgres and pgbouncer: .ci/run has them"]
fn two_workers_and_all_readers_share_two_connections() {
    let server = Server::start();
    let pooler = Pooler::start(&server, CONNECTIONS);
    let latency = Duration::from_millis(40);
    let options =
        Options { latency: (latency, latency), faults: vec![(Fault::Reject, 0.1)], ..Options::default() };
    let world = World::with(options).on_server(&server.url());
    let schema = world.schema().unwrap().name().to_owned();
    let ledger = format!("--ledger={}?schema={schema}", pooler.url());
    let run = |args: &[&str], code: i32| {
        let done = world.run(&[args, &[&ledger]].concat());
        assert_eq!(done.code, code, "{args:?}: {done:?}");
        done.stdout
    };

    let file = world.file("users.csv", rows(0..600) + "short,1,\n");
    let mut workers: Vec<Child> = Vec::new();
    for number in 0..2 {
        let summary = format!("--summary-json=summary.{number}.json");
        workers.push(world.start_import(&file, &[&ledger, &summary, "--concurrency=4", "--rate=200"]));
        let claiming = "select count(*) from worker where rows_settled > 0";
        let is_claiming = || world.has_ledger() && world.number(claiming) > number;
        assert!(wait_until(&mut workers[number as usize], is_claiming));
    }
    let connections = "select count(*) from pg_stat_activity where application_name = 'customer-import'";
    assert!((1..=CONNECTIONS as u64).contains(&world.number(connections)), "the pooler has them");
    assert!(run(&["status"], 0).contains("worker"), "both work");
    let ended: Vec<Done> = workers.into_iter().map(finish).collect();
    assert!(ended.iter().all(|done| done.code == 3), "{ended:#?}");
    // Between two messages of one client, the pooler lets others use the connection.
    assert!(ended.iter().all(|done| !done.stderr.contains("the ledger gives no moments")), "{ended:#?}");
    world.assert_same_customers();
    assert_eq!(world.number("select count(*) from run"), 1);

    let created = world.number("select count(*) from row where outcome = 'created'");
    assert!(run(&["status", "--format", "json"], 0).contains(&format!("\"created\": {created}")));
    assert!(run(&["report"], 0).contains("of 601 customers are in Juspay"));
    assert_eq!(run(&["export", "created"], 0).lines().count() as u64, created + 1);
    assert_eq!(run(&["export", "failed"], 0).lines().count() as u64, 601 - created + 1);
    world.reconfigure(|behavior| behavior.faults = Vec::new());
    assert_eq!(world.aim("retry", &[&ledger]).code, 0);
    assert_eq!(world.number("select count(*) from row where outcome = 'created'"), 600);
    assert_eq!(world.aim("verify", &["users.csv", &ledger]).code, 0);
    assert_eq!(world.import(&file, &[&ledger]).code, 3);
    assert_eq!(world.outcomes(), "unchanged=600 invalid=1");
    world.execute("update run set started_at = 0, ended_at = 1 where id < 3");
    run(&["prune", "--before", "2000-01-01"], 0);
    assert_eq!(world.query("select id from run where id > 0 order by id"), [["3"]]);
    world.assert_same_customers();
}
