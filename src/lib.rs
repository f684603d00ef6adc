//! Creates Juspay customers from a CSV file: validated, rate-limited, resumable.
//!
//! This page is the architecture; the modules below stand in reading order.
//!
//! ```text
//!  source ──▶ customer ──▶ ledger (claim) ──▶ sender ──▶ ledger (settle) ──▶ report · export
//!  (a CSV, or (the rules)  (one commit        (throttle,  (one commit
//!   the ledger,             per chunk)         attempts,   per batch)
//!   for retry)                                 verdict)
//!                └────────── import: one loop owns everything between the arrows ──────────┘
//! ```
//!
//! Data goes right, never back. A lost answer is no reason to go back: the sender settles it by
//! Get before it hands the row on.
//!
//! # A row's walk
//!
//! 1. [`source`], on a thread of its own: bytes → CSV record with its physical line.
//! 2. [`customer`]: record → a `Row` that holds a `Customer` or all of its `Faults`.
//! 3. A bounded channel of chunks: the backpressure.
//! 4. [`ledger`]: one transaction settles at once what needs no request (`invalid`, `duplicate`,
//!    `unchanged`, `changed`) and makes a `Claim` of each row that does. No claim, no request.
//! 5. [`import`]: a worker, of which there are as many as slots, fetches the claim from the desk.
//! 6. [`sender`]: waits out a shared pause, takes a token, asks the [`api`], and lets a pure table
//!    decide what the reply means: settle, ask something else, wait and try again, or halt the run.
//! 7. [`ledger`]: the settlement lies on the desk until it is committed together with all that came in meanwhile.
//! 8. The progress moves; [`report`], [`export`] and [`metrics`] show what is committed.
//!
//! A run of the same source, read in the same way as the run before, begins where that one came to with nothing left
//! behind, if the bytes up to there still have the same hash; at the end of the file nothing is read at all.
//!
//! `validate` is steps 1 and 2. `retry` is the same walk with the ledger as its source.
//!
//! `probe` walks no row: it asks a sandbox how it behaves, without rules, ledger or sender.
//!
//! Rows that a dead run left in doubt walk first, from step 4 on: the ledger claims them before any row of
//! the source, and the sender asks about them. Their fields are in no ledger, so what Get does not find is left
//! to the row of the source that has them.
//!
//! # Who may use what
//!
//! | module | may use, of ours | must not touch |
//! |---|---|---|
//! | [`customer`] | – | tokio, sqlx, reqwest, csv, files, the clock |
//! | [`api`] | `customer` | the ledger; waiting, retrying |
//! | [`ledger`] | `customer` | reqwest; only `ledger/*` names sqlx |
//! | [`source`] | `customer`, `ledger` (read, for a retry) | the network |
//! | [`sender`] | `customer`, `ledger` types, `api` | SQL, files |
//! | [`import`] | `source`, `customer`, `ledger`, `sender`, `error` | reqwest, sqlx, csv, the terminal |
//! | [`verify`] | `source`, `customer`, `ledger` (read), `sender`, `import` (how it ends), `error` | reqwest, sqlx, csv, the terminal |
//! | [`probe`] | `api` | the ledger, files, the terminal |
//! | [`report`] | `customer`, `ledger`, `verify`, `error` | files, the network |
//! | [`export`] | `customer`, `ledger`, `source`, `error` | the network |
//! | [`metrics`] | `api`, `import`, `ledger`, `sender` | SQL, the terminal |
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

pub mod api;

pub mod sender;

pub mod import;

pub mod verify;

pub mod probe;

pub mod report;

pub mod export;

pub mod metrics;

pub mod simulator;

pub mod error;

pub mod cli;
