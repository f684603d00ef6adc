//! Creates Juspay customers from a CSV file: validated, rate-limited, resumable.
//!
//! This page is the architecture; the modules below are in reading order.
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
//! 5. [`run`]: a send task, of which there are as many as slots, pops the claim from the work queue.
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
//! `retry` is the same path with the ledger as its source. `validate` is steps 1 and 2. `verify` is the same loop
//! with Get only: it claims and settles nothing. `plan` is steps 1 to 4 without writing anything, and with `--ask`
//! the loop of `verify`. `probe` has no rows: it sends its own requests to a sandbox and reports how the sandbox
//! behaves, without rules, ledger or sender.
//!
//! # Glossary
//!
//! One word has one meaning, in code, comments and messages. File names consist of these words.
//!
//! *Rows.* **source**: where rows come from: a file or, for a retry, a **replay** out of the ledger. **record**: the
//! raw cells of one line. **row**: a record with its line and its customer or faults. **customer**: the content of a
//! valid row. **reference**: `object_reference_id`, which identifies a row. **customer id**: the API's own, `cst_…`
//! or `cth_…`. **fault**: one rule that a row breaks, found by **validation**. **spreadsheet** damage: a cell that a
//! spreadsheet has rewritten. **invisible** characters: those without a shape. **null marker**: a word that stands
//! for a missing value. **doubt**: why the intended value may differ from the one that is sent. **reason**: a fault
//! explained to readers who do not know the rules. **fault counts**: what to do about the faults of many rows.
//! **rescue**: an option that would make invalid rows valid. **fingerprint**: a hash of each field of a customer.
//! **correction**: what a failed export states about a row that is imported from it again. **origin**: the runs over the
//! files that the rows of a failed export come from. **content**: what kinds of
//! bytes a value consists of. **respelling**: a value sent in another spelling than that of its cell. **count**: a number
//! with its noun. **template**: a text with columns in it that makes a field. **duplicates**: further rows of a file with
//! the same reference. **phone**: a number checked against the numbering plan of its region.
//!
//! *Files.* **mapping**: which column feeds which field. **stray line**: a line that a tool wrote among the rows.
//! **encoding label**: the name of an encoding. **head**: the first line of a source, before decoding. **heading**: the
//! name of a column. **header shape**: what a first line is that is not a header. **adjustments**: counts of what is read
//! differently from how it is written. **dialect**: delimiter and quoting of a file. **skipped line**: a line between rows
//! that is not a row. **file state**: size, time and identity of the source when it was opened. **prefix hash**: proof
//! that the beginning of a file is unchanged.
//!
//! *Reading.* **decompress**, **decode**, **csv reader**, **columns** and **row parser** are the steps from bytes to
//! rows. **cell**: the text between two delimiters of a line; a **field** belongs to a customer. **read options**: how a
//! file is opened and its records become rows. **export columns**: those by which a failed export is recognized. **row
//! records**: the records that are rows, without the lines between them. **read-ahead**: rows that were read and are not
//! claimed yet.
//!
//! *Ledger.* **ledger**: the durable record of runs and rows. **run**: one `import` or `retry`. **claim**: a run's
//! committed promise to settle a row. **operation**: create, confirm or update. **in doubt**: claimed by a crashed
//! run, with an unknown result. **plan**: what to do about a row, given the ledger's data. **planning**: plans
//! together with their lookups. **forecast**: plans that are not carried out. **batch**: everything that one commit
//! writes. **settle**: commit a row's outcome. **outcome**: the result of a row, one of ten. **unsendable**: invalid
//! or a duplicate. **checkpoint**: how far a source is settled without a gap. **reference index**: hash of a
//! reference → row. **ordered scan**: rows of the ledger read in the order of the file. **seen rows**: the rows that
//! a run has found in its source. **model**: the values that all parts of the ledger share; its **records** are
//! returned to readers. **timeline**: the samples of a run over time. **crash point**: a place where a test ends the
//! process. **shared run**: a run of several workers. Its **cursor**: how many rows of the source they have
//! claimed. **orphaned**: claimed by a worker that has died or left; **adoption**: another worker takes such rows over.
//! **rate reserver**: what hands out the moments at which the workers of a run may send (the shared **rate limit**).
//! **run times**: when runs began and ended, where the clock was wrong too.
//! **lost zeros**: leading zeros of a
//! reference that a spreadsheet has dropped. **location**: where a ledger is kept, a file or what a **URL** names.
//! **json rows**: rows as one parameter of a statement. The backends: **store** (the one writer), **reader**,
//! **statements** and **queries** (their SQL), **rows** (SQL results as values), **failure** (an error of the database
//! with a hint), **imported index**, **error groups**, **mark changed** (`verify --mark`), **prune**. Only for SQLite:
//! **bulk** writing, **disk** (the files that SQLite writes beside the ledger), **fault ids** (the faults that the ledger
//! stores once for many rows), **lock file**. Only for Postgres:
//! **server** (what a URL names), **schema** (the tables, created and brought up to date), **connection** (transactions,
//! repeated after a disconnect), **parameters** of statements, the **worker** (the process that writes) and its **lease**.
//!
//! *Sending.* **request**, **response**, **reply**: what is sent, the bytes that come back, and the result of the
//! exchange. **answer**: what a response says, other than a customer. **body**: a request's form, and a response's JSON.
//! **proxy**: a server that requests go through, on the **route** to the API. **key**: the merchant's secret. **TLS**:
//! trust and certificates. **cause**: why there is no response. **attempts**: the requests for one row.
//! **classification**: what a reply says about the service and the rate. **verdict**: what to do after a reply.
//! **lookup**: a Get; **asking**: lookups of rows that `plan` finds new.
//! **endpoint**: who responds at the URL. **throttle**: **circuit breaker**, **adaptive rate** and **concurrency
//! limit**, with the **sliding window** (accepted requests by time), the **user rate** (the fixed one of `--rate`), the
//! **shared rate** of several workers (each has a **rate log** of what it has not reported), **random throttling**
//! (refusals that do not depend on the rate) and **unavailability** (whether 503 responses do); **courtesy** to others
//! on the same limit. **throttled series**: refusals that one row alone gets. **rate headers**: headers in which a
//! server reports what is left of its **quota**. **permit**: the right to send one request. **clock**: the time, which never goes backwards in a process.
//! **latency**: the time from sending to the last byte of the response. **slot**: the right of one row to be in flight.
//! **systematic refusal**: every row is refused alike, so the cause is not the row.
//!
//! *A run.* **stage**: recovering, reading, finishing, stopping or abandoning. **lifecycle**: how a run begins and
//! ends. **work queue**: claimed rows waiting for a **send task**, and settled rows waiting for a commit. **commit policy**:
//! when a commit is worth its cost. **pipeline**: claim, send, settle. **ledger handle**: the ledger, or the commit
//! that owns it. **end**: why a run ended. **progress**: the current state of a run. **outage**: the API does not
//! work, and all requests wait. **stop**: the program ends the run; **interrupt**: the user does. *Status* is the
//! HTTP status, or the command of that name.
//!
//! *Showing.* **summary**: a run's figures. **error summary**: the errors by kind. **redact**: remove a customer's
//! data from a text. **init**: proposes the settings that read a file, from a **sample** of it: its **format**, the
//! column **profiles**, and the **assignment** of columns to fields. **format**: numbers and times as text. **live
//! status**: the status of the current run. A report on a whole ledger is its **history**, with a **run timeline**
//! and a **history page**. A report has a **headline**, **shares** in per cent, **text**, **HTML** and **charts**;
//! metrics have a **server** and a **textfile**. **verification**: the findings of `verify`. The command line has
//! **args** and their **values**, **config** (a **TOML** file), **target** (URL, merchant and key), **session**
//! (shared by the commands that send), **process** (signals, threads), **exit code**, **progress bar**, the
//! **screen** (redrawn lines), **color**, **logging**, **output**, **output file** (`--output`), **man** (the man page), **completions**, **usage**
//! (an invalid command line), **help**, and a file for each command, such as **prune** and **simulate**. **probe**:
//! **questions** to a real sandbox, each with an **answer**. **simulator**: stands in for the API; each **call** gets
//! an **answer** or a **refusal**, determined by its **behavior**, **profile** and **limiter**, and its **journal**
//! records what it did.
//!
//! # Who may use what
//!
//! | module | may use, of ours | must not touch |
//! |---|---|---|
//! | [`customer`] | – | tokio, sqlx, reqwest, csv, files, the clock |
//! | [`throttle`] | – | everything but time: files, the network, the ledger, rows |
//! | [`clock`] | – | files, the network |
//! | [`latency`] | – | files, the network, the clock |
//! | [`api`] | `customer`, `clock`, `latency`, `throttle` (the quota's type) | the ledger; waiting, retrying |
//! | [`ledger`] | `customer`, `latency` | reqwest; only `ledger/*` names sqlx |
//! | [`source`] | `customer`, `ledger` (read, for a retry) | the network |
//! | [`sender`] | `customer`, `ledger` types, `api`, `throttle` | SQL, files |
//! | [`run`] | `source`, `customer`, `ledger`, `latency`, `sender`, `throttle`, `error` | reqwest, sqlx, csv, the terminal |
//! | [`verify`] | `source`, `customer`, `ledger` (read), `sender`, `throttle`, `run` (the loop), `error` | reqwest, sqlx, csv, the terminal |
//! | [`validate`] | `source`, `customer`, `export`, `error` | the ledger, the network, the terminal |
//! | [`plan`] | `source`, `customer`, `ledger` (read), `sender`, `run` (its limits and ends), `validate` (its findings), `verify` (its lookups), `error` | reqwest, sqlx, csv, the terminal |
//! | [`init`] | `customer`, `source`, `validate`, `report` (numbers and lines as text), `error` | the ledger, the network, the terminal |
//! | [`probe`] | `api` | the ledger, files, the terminal |
//! | [`report`] | `customer`, `ledger`, `latency`, `run` (its snapshot), `source` (its adjustments), `plan`, `validate`, `verify`, `error` | files, the network |
//! | [`export`] | `customer`, `ledger`, `source`, `error` | the network |
//! | [`metrics`] | `api`, `run`, `ledger`, `sender` | SQL, the terminal |
//! | [`simulator`] | nothing, not even wire types: otherwise both ends could make the same mistake | |
//! | [`cli`] | all; it alone reads the environment, prints and parses flags | |
//!
//! Four absences are what the design relies on: no request is sent for a row whose claim is not committed; nothing
//! is shown, counted or exported that is not committed; no module but `ledger` contains SQL, none
//! but `api` builds a request, none but `cli` prints; there is no global state but the tracing
//! subscriber, the last reading of the `clock`, and the choice of `--color`. A test reads the source and keeps this
//! table true.

pub mod customer;

pub mod source;

pub mod ledger;

pub mod clock;

pub mod latency;

pub mod throttle;

pub mod api;

pub mod sender;

pub mod run;

pub mod verify;

pub mod validate;

pub mod plan;

pub mod init;

pub mod probe;

pub mod report;

pub mod export;

pub mod metrics;

pub mod simulator;

pub mod error;

pub mod cli;
