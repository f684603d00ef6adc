//! Creates Juspay customers from a CSV file: validated, rate-limited, resumable.
//!
//! This page is the architecture; the modules below stand in reading order.
//!
//! ```text
//!  source ──▶ customer ──▶ ledger (claim) ──▶ sender ──▶ ledger (settle) ──▶ report · export
//!  (a CSV, or (the rules)  (one commit        (throttle,  (one commit
//!   the ledger,             per chunk)         attempts,   per batch)
//!   for retry)                                 verdict)
//!                └──────────── run: one loop owns everything between the arrows ───────────┘
//! ```
//!
//! Data goes right, never back. A lost reply is no reason to go back: the sender settles it by Get before it hands the
//! row on.
//!
//! # The path of a row
//!
//! 1. [`source`], on a thread of its own: bytes → CSV record with its physical line.
//! 2. [`customer`]: record → a `Row` that holds a `Customer` or all of its `Faults`.
//! 3. A bounded channel of chunks: the backpressure.
//! 4. [`ledger`]: one transaction settles at once each row that needs no request (`invalid`, `duplicate`,
//!    `unchanged`, `changed`) and makes a `Claim` of each row that does. No claim, no request.
//! 5. [`run`]: a worker, of which there are as many as slots, pops the claim from the work queue.
//! 6. [`sender`]: waits for a permit of the [`throttle`], sends a request through the [`api`], reports the reply to the
//!    throttle, and lets a pure table decide what it means for the row: settle, send another request, wait and try
//!    again, or halt the run.
//! 7. [`ledger`]: the settlement stays in the work queue until it is committed together with all others that came in
//!    during the previous commit.
//! 8. The progress moves; [`report`], [`export`] and [`metrics`] show what is committed.
//!
//! If the previous run used the same file and parse settings, a run resumes at its last checkpoint, provided that the
//! prefix before the checkpoint still has the same hash. A checkpoint at the end of the file leaves nothing to read.
//!
//! Rows that a crashed run left in doubt enter at step 4, before any row of the source: the ledger claims them, and the
//! sender looks them up. The ledger does not store their fields, so a row that Get does not find waits for the row of
//! the source with the same reference.
//!
//! `retry` is the same path with the ledger as its source. `validate` is steps 1 and 2. `verify` is the same loop with
//! Get only: it claims and settles nothing. `probe` has no rows: it sends its own requests to a sandbox and reports how
//! the sandbox behaves, without rules, ledger or sender.
//!
//! # Who may use what
//!
//! | module | may use, of ours | must not touch |
//! |---|---|---|
//! | [`customer`] | – | tokio, sqlx, reqwest, csv, files, the clock |
//! | [`throttle`] | – | everything but time: files, the network, the ledger, rows |
//! | [`api`] | `customer` | the ledger; waiting, retrying |
//! | [`ledger`] | `customer` | reqwest; only `ledger/*` names sqlx |
//! | [`source`] | `customer`, `ledger` (read, for a retry) | the network |
//! | [`sender`] | `customer`, `ledger` types, `api`, `throttle` | SQL, files |
//! | [`run`] | `source`, `customer`, `ledger`, `sender`, `throttle`, `error` | reqwest, sqlx, csv, the terminal |
//! | [`verify`] | `source`, `customer`, `ledger` (read), `sender`, `throttle`, `run` (the loop), `error` | reqwest, sqlx, csv, the terminal |
//! | [`validate`] | `source`, `customer`, `export`, `error` | the ledger, the network, the terminal |
//! | [`probe`] | `api` | the ledger, files, the terminal |
//! | [`report`] | `customer`, `ledger`, `run` (its snapshot), `validate`, `verify`, `error` | files, the network |
//! | [`export`] | `customer`, `ledger`, `source`, `error` | the network |
//! | [`metrics`] | `api`, `run`, `ledger`, `sender` | SQL, the terminal |
//! | [`simulator`] | nothing, not even wire types: or both ends would agree on the same mistake | |
//! | [`cli`] | all; it alone reads the environment, prints and knows flags | |
//!
//! Four absences hold this up: no request is sent for a row whose claim is not committed; nothing
//! is shown, counted or exported that is not committed; no module but `ledger` contains SQL, none
//! but `api` builds a request, none but `cli` prints; there is no global state but the tracing
//! subscriber. A test reads the source and keeps this table true.

pub mod customer;

pub mod source;

pub mod ledger;

pub mod throttle;

pub mod api;

pub mod sender;

pub mod run;

pub mod verify;

pub mod validate;

pub mod probe;

pub mod report;

pub mod export;

pub mod metrics;

pub mod simulator;

pub mod error;

pub mod cli;
