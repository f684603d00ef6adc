//! The program as users run it: the real binary, real sockets, real SQLite files.
//!
//! Only Juspay itself is replaced, by the simulator, which runs in the test process. Its journal records what the API
//! really did, and is the oracle for everything that must not be lost or done twice. Nothing waits by sleeping; every
//! port is 0.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod adjustments;

mod columns;

mod world;

#[cfg(feature = "postgres")]
mod server;

mod terminal;

mod wire;

mod door;

mod forwarder;

mod proxies;

mod certificates;

mod waiting;

mod disks;

mod keys;
mod limits;

mod surroundings;

mod cli;

mod usage;

mod help;

mod completions;

mod config;

mod validate;

mod values;

mod files;

mod quotes;

mod shapes;

mod roundtrip;

mod import;
mod init;

mod outcomes;

mod routing;

mod duplicates;

mod endings;

mod export;

mod listing;

mod status;

mod readable;
mod recipes;

mod retry;

mod nightly;

mod owners;

mod verify;

mod probe;

mod progress;
mod prune;
mod report;

mod metrics;

mod log;

mod guard;

mod scanner;
mod schedulers;

mod simulate;

mod resume;

mod again;

mod answers;

mod between;

mod canary;

mod existing;

mod crash;

#[cfg(feature = "crash-points")]
mod commits;

mod throttle;

mod pace;
mod plan;

#[cfg(feature = "postgres")]
mod databases;
#[cfg(feature = "postgres")]
mod encryption;
#[cfg(feature = "postgres")]
mod pooler;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod workers;

mod outages;

mod unanswered;

mod color;

mod watch;

mod hostile;

mod faults;

mod durable;

mod secrets;

mod properties;

mod tidy;
