//! What is on disk before a request is sent, and before an outcome is reported.
//!
//! The disaster: the power fails, and a customer exists whose claim was still in a cache, or a summary has reported
//! an id that the ledger lost. Killing the process does not reveal that, because the system's caches survive it. So
//! the program's system calls are observed in their order: where strace can run, each write to the ledger's log, the
//! end of its fsync, and each byte to the network. Elsewhere, a second connection reads the ledger while the request
//! is at the server.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use sqlx::{ConnectOptions, Connection, Row as _, sqlite::SqliteConnectOptions};
use tokio::runtime;

use crate::{
    wire::{Call, Wire},
    world::{World, done, references},
};

const ROWS: usize = 60;

/// Few requests at a time, so that claims and settlements share many commits.
const NARROW: [&str; 2] = ["--concurrency", "4"];

/// What a second connection sees of a row: its outcome and its id.
fn committed(ledger: &PathBuf, reference: &str) -> Vec<(String, Option<String>)> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(ledger).read_only(true);
        let mut connection = options.connect().await.unwrap();
        let query = sqlx::query("select outcome, customer_id from every_row where reference = ?");
        let rows = query.bind(reference).fetch_all(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    })
}

/// Committed data is visible to everyone: when the server has a request, its claim must be.
#[test]
fn a_claim_is_committed_when_its_request_arrives() {
    let world = World::new();
    let file = world.rows("users.csv", ROWS);
    let ledger = world.ledger();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let seeing = Arc::clone(&seen);
    let wire = Wire::new(move |call: &mut Call<'_>| {
        let rows = committed(&ledger, &call.request.reference);
        seeing.lock().unwrap().push((call.request.reference.clone(), rows));
        call.answer_honestly();
    });
    let done = wire.import(&world, &file, &NARROW);
    assert_eq!(done.code, 0, "{done:?}");
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    let claims = references(0..ROWS).map(|reference| (reference, vec![("pending".to_owned(), None)]));
    assert_eq!(seen, claims.collect::<Vec<_>>());
    assert_eq!(world.outcomes(), format!("created={ROWS}"));
    assert_eq!(world.number("select count(*) from row where outcome = 'created'"), ROWS as u64);
}

/// One call of the program.
#[derive(Debug)]
struct Event<'a> {
    /// When it began and ended, in the order of the trace.
    began: usize,
    ended: usize,
    name: &'a str,
    rest: &'a str,
}

/// The calls of a trace. A call that another thread's call interrupts takes two lines.
fn events(trace: &str) -> Vec<Event<'_>> {
    let mut events: Vec<Event<'_>> = Vec::new();
    let mut open: Vec<(&str, usize)> = Vec::new();
    for (at, line) in trace.lines().enumerate() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if call.starts_with("<... ") {
            let index = open.iter().position(|(of, _)| *of == thread);
            if let Some(index) = index {
                events[open.swap_remove(index).1].ended = at;
            }
        } else if let Some((name, rest)) = call.split_once('(') {
            let unfinished = rest.ends_with("<unfinished ...>");
            if unfinished {
                open.push((thread, events.len()));
            }
            events.push(Event { began: at, ended: if unfinished { usize::MAX } else { at }, name, rest });
        }
    }
    events
}

/// When text was durable: a write to the log that contains the text, then the end of an fsync of the log that began
/// after that write.
fn durable_at(events: &[Event<'_>], text: &str) -> Option<usize> {
    let of_log = |event: &&Event<'_>| event.rest.contains("ledger.db-wal>");
    let written = events
        .iter()
        .filter(of_log)
        .find(|event| matches!(event.name, "pwrite64" | "write" | "pwritev") && event.rest.contains(text))?;
    let synced = events
        .iter()
        .filter(of_log)
        .find(|event| matches!(event.name, "fsync" | "fdatasync") && event.began > written.ended)?;
    Some(synced.ended)
}

fn can_trace() -> bool {
    let tried = Command::new("strace").args(["-f", "-y", "-e", "trace=fdatasync", "true"]).output();
    tried.is_ok_and(|output| output.status.success())
}

#[test]
fn a_claim_is_on_disk_before_its_request_and_an_outcome_before_it_is_told() {
    if !can_trace() {
        return a_claim_is_committed_when_its_request_arrives();
    }
    let world = World::new();
    let file = world.rows("users.csv", ROWS);
    let args = world.import_args(&file, &NARROW);
    let command = world.command(&args);
    let mut traced = Command::new("strace");
    traced
        .args(["-f", "-y", "-s", "5000", "-o", "trace.txt"])
        .args(["-e", "trace=write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync"])
        .arg(command.get_program())
        .args(command.get_args())
        .env("JUSPAY_API_KEY", crate::world::KEY)
        .env("CUSTOMER_IMPORT_LEDGER", world.ledger())
        .env_remove("RUST_LOG")
        .current_dir(world.folder.path())
        .stdin(Stdio::null());
    let done = done(traced.output().unwrap());
    assert_eq!(done.code, 0, "{done:?}");
    world.assert_agreement(references(0..ROWS));

    let trace = String::from_utf8_lossy(&std::fs::read(world.path("trace.txt")).unwrap()).into_owned();
    let events = events(&trace);
    let syncs = events.iter().filter(|event| event.rest.contains("ledger.db-wal>"));
    let syncs = syncs.filter(|event| matches!(event.name, "fsync" | "fdatasync")).count();
    assert!(syncs > 3, "all in {syncs} commits: that proves little");

    let mut sent = 0;
    for event in &events {
        if !event.rest.contains("POST /customers HTTP/1.1") {
            continue;
        }
        for reference in references(0..ROWS).filter(|reference| event.rest.contains(reference)) {
            let durable = durable_at(&events, &reference);
            assert!(
                durable.is_some_and(|at| at < event.began),
                "{reference} was sent before its claim was on disk"
            );
            sent += 1;
        }
    }
    assert_eq!(sent, ROWS, "requests in the trace");

    let reports = events.iter().filter(|event| {
        event.rest.contains("summary.json>") || event.rest.starts_with("1<") || event.rest.starts_with("2<")
    });
    let first_report = reports.map(|event| event.began).min().unwrap();
    for (reference, (id, _)) in world.journal().created() {
        let durable = durable_at(&events, &id);
        assert!(
            durable.is_some_and(|at| at < first_report),
            "{reference} was told before its outcome was on disk"
        );
    }
}
