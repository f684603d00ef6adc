//! The command line as clap parses it: names, defaults and ranges, nothing else.
//!
//! Every command's options are here, because one definition yields the parser, the help, the man page, the completions and
//! the keys of a settings file. Checks that clap cannot do (combinations of options, the environment) are in `cli`.

pub(super) mod help;

mod values;

use std::{
    ffi::OsString,
    net::SocketAddr,
    num::NonZeroU32,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, builder::NonEmptyStringValueParser};

pub(super) use self::values::closest;
use self::values::*;
use crate::{
    customer::{Field, PhoneRegion, Validation},
    run::{Limits, MaxFailures},
    simulator::{Fault, Profile, parse_fault},
    source::{Encoding, Quote},
    throttle::Rate,
};

/// Creates Juspay customers from a CSV file: validated, rate-limited, resumable.
#[derive(Debug, Parser)]
#[command(name = "customer-import", version, max_term_width = 100, args_override_self = true)]
pub(super) struct Cli {
    /// Read settings from a TOML file: any option by its long name; flags and the environment win over it
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create every customer that is not created yet; resumes by itself
    #[command(after_help = "Examples:
  customer-import import users.csv --simulator
  JUSPAY_API_KEY=... customer-import import users.csv --merchant-id acme
  customer-import import users.csv --config import.toml --limit 100")]
    Import(Box<Import>),
    /// Look at a file and write the settings that read it, as TOML
    #[command(after_help = "Examples:
  customer-import init users.csv --output import.toml
  customer-import init users.csv --phone-region IN")]
    Init(Init),
    /// Check the file against the documented rules; sends nothing
    #[command(after_help = "Examples:
  customer-import validate users.csv --map object_reference_id=id
  customer-import validate users.csv --phone-region IN --format csv")]
    Validate(Box<Validate>),
    /// Show what an import of the file would do; records nothing
    #[command(after_help = "Examples:
  customer-import plan users.csv --merchant-id acme
  customer-import plan users.csv --merchant-id acme --ask 500")]
    Plan(Box<Plan>),
    /// Send again the rows that failed or were rejected in earlier runs
    #[command(after_help = "Examples:
  customer-import retry --merchant-id acme --only failed
  customer-import retry --merchant-id acme --error-code INVALID_INPUT")]
    Retry(Box<Retry>),
    /// Compare what the API has with the file, for the imported rows
    #[command(after_help = "Examples:
  customer-import verify users.csv --merchant-id acme --sample 500
  customer-import verify users.csv --merchant-id acme --mark")]
    Verify(Box<Verify>),
    /// Test how a sandbox behaves; creates customers that stay
    #[command(after_help = "Examples:
  customer-import probe --merchant-id acme --output probe.json
  customer-import probe --merchant-id acme --compare probe.json")]
    Probe(Box<Probe>),
    /// Show the runs in the ledger, what each did, and what is left
    #[command(after_help = "Examples:
  customer-import status
  customer-import status --ledger production.db --format json")]
    Status(Status),
    /// Show one run in detail: as text, JSON, or one HTML page
    #[command(after_help = "Examples:
  customer-import report
  customer-import report --format html --output report.html")]
    Report(Report),
    /// Export customer ids or errors as CSV or JSON Lines
    #[command(after_help = "Examples:
  customer-import export failed --output failed.csv
  customer-import export created --format jsonl")]
    Export(Export),
    /// Serve a local simulator of the customers API
    #[command(after_help = "\
Any key is accepted except one that begins with wrong; if JUSPAY_API_KEY is set,
only that key is.

Kinds of faults: http500, http503, api503, http429, reset-before, reset-after,
timeout, garbage, flood, ok-error, wrong-reference, duplicate-request, reject,
always500, always429, write-always500, not-found.

Examples:
  customer-import simulate --fault http500=0.05 --latency 20ms..80ms
  customer-import simulate --listen 127.0.0.1:8081 --rate-limit 100")]
    Simulate(Simulate),
    /// Delete old runs and the raw cells of settled rows; ids stay
    #[command(after_help = "Examples:
  customer-import prune --before 2026-01-31
  customer-import prune --before 2026-01-31 --ledger production.db")]
    Prune(Prune),
    /// Show the effective settings of a command, each with its origin
    #[command(
        override_usage = "customer-import config [COMMAND] [OPTIONS]",
        after_help = "Examples:
  customer-import config import --config nightly.toml --rate 20
  customer-import config validate"
    )]
    Config(Config),
    /// Print completions for a shell
    #[command(after_help = "Examples:
  source <(customer-import completions bash)
  customer-import completions fish | source
  customer-import completions zsh > ~/.zfunc/_customer-import")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page
    #[command(after_help = "Examples:
  customer-import man > ~/.local/share/man/man1/customer-import.1
  customer-import man | man -l -")]
    Man,
}

#[derive(Debug, Args)]
pub(super) struct Config {
    /// A command with its options, as it would be run [default: import]
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) words: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    #[command(flatten)]
    pub(super) target: TargetOptions,
    #[command(flatten)]
    pub(super) input: Input,
    #[command(flatten)]
    pub(super) sending: Sending,
    #[command(flatten)]
    pub(super) failures: Failures,
    /// Update customers whose fields differ from what was imported, or from what the API had if they existed
    #[arg(long, help_heading = "Sending")]
    pub(super) update_changed: bool,
    /// Stop the run if this many first responses are the same refusal and none succeeded; 0 is off
    #[arg(long, value_name = "RESPONSES", default_value_t = 20, value_parser = count, help_heading = "Sending")]
    pub(super) canary: u64,
    #[command(flatten)]
    pub(super) ledger: Ledger,
    /// Name of the run, for a ledger in Postgres: workers of one name work on one run, and one that comes after its end
    /// sends nothing and ends with its exit code
    #[arg(
        long,
        value_name = "NAME",
        env = "CUSTOMER_IMPORT_RUN",
        value_parser = NonEmptyStringValueParser::new(),
        help_heading = "Ledger"
    )]
    pub(super) run_name: Option<String>,
    #[command(flatten)]
    pub(super) lease: Lease,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Init {
    /// CSV file, plain or compressed by gzip or zstd, or - for standard input
    #[arg(value_name = "CSV")]
    pub(super) csv: PathBuf,
    /// Field delimiter: one character, or tab [default: detected]
    #[arg(long, value_name = "CHAR|tab", value_parser = delimiter, help_heading = "Input")]
    pub(super) delimiter: Option<u8>,
    /// Character that quotes a cell, or none [default: detected among " and ']
    #[arg(long, value_name = "CHAR|none", value_parser = quote, help_heading = "Input")]
    pub(super) quote: Option<Quote>,
    /// Character encoding, such as windows-1252 [default: guessed if the file is not UTF-8]
    #[arg(long, value_name = "LABEL", value_parser = Encoding::from_label, help_heading = "Input")]
    pub(super) encoding: Option<Encoding>,
    /// Region of phone numbers without a country code, such as IN [default: from the other numbers]
    #[arg(long, value_name = "CC", value_parser = PhoneRegion::parse, help_heading = "Input")]
    pub(super) phone_region: Option<PhoneRegion>,
    /// Write to FILE, which must not exist [default: standard output]
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub(super) output: Option<PathBuf>,
    /// Replace the file of --output if it exists
    #[arg(long, help_heading = "Output")]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) color: Color,
}

#[derive(Debug, Args)]
pub(super) struct Validate {
    #[command(flatten)]
    pub(super) input: Input,
    /// Request rate for the estimate of the import's time, per second
    #[arg(long, value_name = "PER_SECOND|unlimited", default_value = "50", value_parser = rate, help_heading = "Output")]
    pub(super) rate: RateArg,
    /// Output format: the findings as text or JSON, or the rows at fault as CSV, like export failed
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub(super) format: ValidateFormat,
    #[command(flatten)]
    pub(super) log: Log,
}

#[derive(Debug, Args)]
pub(super) struct Plan {
    #[command(flatten)]
    pub(super) target: TargetOptions,
    #[command(flatten)]
    pub(super) input: Input,
    #[command(flatten)]
    pub(super) sending: Sending,
    /// Plan an import with --update-changed
    #[arg(long, help_heading = "Sending")]
    pub(super) update_changed: bool,
    /// Look up this many rows at the API, chosen at random, or all, of those that are not in the ledger
    #[arg(long, value_name = "ROWS|all", value_parser = ask, help_heading = "Rows")]
    pub(super) ask: Option<Ask>,
    #[command(flatten)]
    pub(super) ledger: Ledger,
    #[command(flatten)]
    pub(super) output: PlanOutput,
}

/// The number of rows unknown to the ledger that `plan` looks up at the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Sample(usize),
    All,
}

/// Like [`Output`], but without metrics: a plan in the metrics would look like a run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct PlanOutput {
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: TextOrJson,
    /// Write the plan as JSON to FILE as well (- for standard output)
    #[arg(long, value_name = "FILE")]
    pub(super) summary_json: Option<PathBuf>,
    /// Show progress: a bar on a terminal, lines elsewhere; auto shows none if a log in JSON goes to standard error
    #[arg(long, value_enum, default_value = "auto")]
    pub(super) progress: ProgressArg,
    #[command(flatten)]
    pub(super) log: Log,
}

impl PlanOutput {
    /// The same options as the output of a run.
    pub(super) fn of_run(&self) -> Output {
        Output {
            summary_json: self.summary_json.clone(),
            progress: self.progress,
            metrics: Metrics::default(),
            log: self.log.clone(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum TextOrJson {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ValidateFormat {
    #[default]
    Text,
    Json,
    Csv,
}

#[derive(Debug, Args)]
pub(super) struct Retry {
    /// Send only rows that failed, or only rows that were rejected
    #[arg(long, value_enum, help_heading = "Rows")]
    pub(super) only: Option<Only>,
    /// Send only rows with this error code, as export failed and report show it
    #[arg(long, value_name = "CODE", value_parser = NonEmptyStringValueParser::new(), help_heading = "Rows")]
    pub(super) error_code: Option<String>,
    #[command(flatten)]
    pub(super) target: TargetOptions,
    #[command(flatten)]
    pub(super) input: RetryInput,
    #[command(flatten)]
    pub(super) sending: Sending,
    #[command(flatten)]
    pub(super) failures: Failures,
    /// Stop the run if this many first responses are the same refusal and none succeeded; 0 is off
    // Off: what a retry sends was refused before.
    #[arg(long, value_name = "RESPONSES", default_value_t = 0, value_parser = count, help_heading = "Sending")]
    pub(super) canary: u64,
    #[command(flatten)]
    pub(super) ledger: Ledger,
    #[command(flatten)]
    pub(super) lease: Lease,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Prune {
    /// Delete runs that ended before this day or time, in UTC: 2026-01-31, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub(super) before: SystemTime,
    #[command(flatten)]
    pub(super) ledger: Ledger,
    #[command(flatten)]
    pub(super) color: Color,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    pub(super) target: TargetOptions,
    #[command(flatten)]
    pub(super) input: Input,
    #[command(flatten)]
    pub(super) sending: Sending,
    /// Verify only this many rows, chosen at random [default: every imported row]
    #[arg(long, value_name = "ROWS", value_parser = sample, help_heading = "Rows")]
    pub(super) sample: Option<usize>,
    /// Mark rows that differ as changed in the ledger, so that import --update-changed repairs them
    #[arg(long, help_heading = "Rows")]
    pub(super) mark: bool,
    #[command(flatten)]
    pub(super) ledger: Ledger,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Only {
    Failed,
    Rejected,
}

/// How a retry reads rows from the ledger. An option that is not given has the value of the row's run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Input")]
pub(super) struct RetryInput {
    #[command(flatten)]
    pub(super) read: Read,
    /// Check every documented rule, or only those without which no API would accept the row [default: as in the run]
    #[arg(long, value_parser = validation())]
    pub(super) validation: Option<Validation>,
    /// Accepted so that import's options fit, and ignored: the cells are in the ledger
    #[arg(long, value_name = "CHAR|tab", value_parser = delimiter, hide = true)]
    pub(super) delimiter: Option<u8>,
    /// Accepted and ignored, like --delimiter
    #[arg(long, hide = true)]
    pub(super) strict_columns: bool,
    /// Accepted and ignored, like --delimiter
    #[arg(long, value_name = "COLUMN", value_parser = NonEmptyStringValueParser::new(), hide = true)]
    pub(super) ignore: Vec<String>,
    /// Accepted and ignored, like --delimiter
    #[arg(long, value_name = "CHAR|none", value_parser = quote, hide = true)]
    pub(super) quote: Option<Quote>,
    /// Accepted and ignored, like --delimiter
    #[arg(long, value_name = "LABEL", value_parser = Encoding::from_label, hide = true)]
    pub(super) encoding: Option<Encoding>,
}

#[derive(Debug, Args)]
pub(super) struct Probe {
    #[command(flatten)]
    pub(super) target: TargetOptions,
    /// Maximum requests per second; they are sent one after the other
    #[arg(long, value_name = "PER_SECOND|unlimited", default_value = "50", value_parser = rate, help_heading = "Sending")]
    pub(super) rate: RateArg,
    #[command(flatten)]
    pub(super) timeouts: Timeouts,
    /// Write each request and its response to FILE as JSON, without secrets
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub(super) output: Option<PathBuf>,
    /// Compare with the --output of an earlier probe, and report what has changed
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(super) compare: Option<PathBuf>,
    #[command(flatten)]
    pub(super) log: Log,
}

#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    pub(super) ledger: Ledger,
    /// Watch the current run until it ends
    #[arg(long, help_heading = "Output")]
    pub(super) watch: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub(super) format: TextOrJson,
    #[command(flatten)]
    pub(super) color: Color,
}

#[derive(Debug, Args)]
pub(super) struct Report {
    #[command(flatten)]
    pub(super) ledger: Ledger,
    /// Report on this run [default: the latest]
    #[arg(long, value_name = "NUMBER", value_parser = run_number, help_heading = "Output")]
    pub(super) run: Option<i64>,
    /// Report on the whole ledger: all customers by outcome, and all runs on one timeline
    #[arg(long, conflicts_with = "run", help_heading = "Output")]
    pub(super) all: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub(super) format: ReportFormat,
    /// Write to FILE, created with mode 0600 [default: standard output]
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub(super) output: Option<PathBuf>,
    #[command(flatten)]
    pub(super) color: Color,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum ReportFormat {
    #[default]
    Text,
    Json,
    /// One self-contained page
    Html,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// created: rows with an id; failed: rows to correct, in the file's own columns; all: every row
    pub(super) what: ExportRows,
    #[command(flatten)]
    pub(super) ledger: Ledger,
    /// Output format
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub(super) format: ExportFormat,
    /// Write to FILE, created with mode 0600 [default: standard output]
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub(super) output: Option<PathBuf>,
    /// Replace the --output file [default: an existing one with other content is kept as FILE.1, FILE.2 and so on]
    #[arg(long, help_heading = "Output")]
    pub(super) force: bool,
    /// Export only rows that this run settled [default: all runs]
    #[arg(long, value_name = "NUMBER", value_parser = run_number, help_heading = "Output")]
    pub(super) run: Option<i64>,
    #[command(flatten)]
    pub(super) color: Color,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ExportRows {
    /// Rows with a customer id
    Created,
    /// Duplicate, invalid, rejected, failed and pending rows, in the source's own columns
    Failed,
    /// Every row
    All,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum ExportFormat {
    #[default]
    Csv,
    Jsonl,
}

#[derive(Debug, Args)]
pub(super) struct Simulate {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = address)]
    pub(super) listen: SocketAddr,
    /// Seed of ids, faults and latencies
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = count)]
    pub(super) seed: u64,
    /// Time that each response takes, such as 20ms or 20ms..80ms
    #[arg(long, value_name = "DURATION|FROM..TO", default_value = "0ms", value_parser = latency)]
    pub(super) latency: (Duration, Duration),
    /// Maximum requests per second; answers 429 with Retry-After above it [default: none]
    #[arg(long, value_name = "PER_SECOND", value_parser = whole::<1, { u32::MAX }>)]
    pub(super) rate_limit: Option<u32>,
    /// Inject a fault with this probability, such as http500=0.05 (repeatable)
    #[arg(long = "fault", value_name = "KIND=PROBABILITY", value_parser = parse_fault)]
    pub(super) faults: Vec<(Fault, f64)>,
    /// The API that is simulated: today, as current accounts have it, or page, exactly as its page documents it
    #[arg(long, value_enum, default_value = "today")]
    pub(super) profile: ProfileArg,
    /// Accept only this merchant id, in this letter case [default: any, as first spelled]
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(super) merchant_id: Option<String>,
    #[command(flatten)]
    pub(super) log: Log,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ProfileArg {
    /// As current accounts have it: ids of mixed case, `error_info`, lengths, x-routing-id required
    Today,
    /// Exactly as documented on the API's page: ids of lower case, plain errors, no lengths
    Page,
}

impl From<ProfileArg> for Profile {
    fn from(profile: ProfileArg) -> Profile {
        match profile {
            ProfileArg::Page => Profile::Page,
            ProfileArg::Today => Profile::Today,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Environment {
    Sandbox,
    Production,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Target")]
pub(super) struct TargetOptions {
    /// Environment of the API
    #[arg(long, value_enum, env = "JUSPAY_ENVIRONMENT", default_value = "sandbox")]
    pub(super) environment: Environment,
    /// Base URL of another host; requests go to URL/customers
    #[arg(long, value_name = "URL")]
    pub(super) base_url: Option<String>,
    /// Merchant id, sent as x-merchantid
    #[arg(long, value_name = "ID", env = "JUSPAY_MERCHANT_ID", value_parser = NonEmptyStringValueParser::new())]
    pub(super) merchant_id: Option<String>,
    /// Read the API key from FILE, which holds nothing else [default: env `JUSPAY_API_KEY`]
    #[arg(long, value_name = "FILE")]
    pub(super) api_key_file: Option<PathBuf>,
    /// Use an embedded simulator instead of the API; needs no key
    #[arg(long, conflicts_with_all = ["base_url", "ca_file", "client_cert", "client_key"])]
    pub(super) simulator: bool,
    /// Trust an additional root certificate, from a PEM file
    #[arg(long, value_name = "PEM")]
    pub(super) ca_file: Option<PathBuf>,
    /// Present this certificate to a server that requests one, from a PEM file; with --client-key
    #[arg(long, value_name = "PEM")]
    pub(super) client_cert: Option<PathBuf>,
    /// The private key of --client-cert, from a PEM file without a passphrase
    #[arg(long, value_name = "PEM")]
    pub(super) client_key: Option<PathBuf>,
    /// Do not send x-routing-id; by default it is each row's `object_reference_id`
    #[arg(long)]
    pub(super) no_routing_id: bool,
    /// Allow plain HTTP to a remote host (sends the key unencrypted)
    #[arg(long)]
    pub(super) allow_insecure_http: bool,
    /// Skip the confirmation before sending to production
    #[arg(long)]
    pub(super) yes: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Input")]
pub(super) struct Input {
    /// CSV file, plain or compressed by gzip or zstd, or - for standard input
    #[arg(value_name = "CSV")]
    pub(super) csv: PathBuf,
    /// Field delimiter: one character, or `tab` [default: detected among , ; tab |]
    #[arg(long, value_name = "CHAR|tab", value_parser = delimiter)]
    pub(super) delimiter: Option<u8>,
    /// Character that quotes a cell at its beginning, or `none` if quotes are plain text
    #[arg(long, value_name = "CHAR|none", value_parser = quote, default_value = "\"")]
    pub(super) quote: Quote,
    /// Character encoding, such as windows-1252 or gb18030; a byte order mark in the file wins
    #[arg(long, value_name = "LABEL", value_parser = Encoding::from_label, default_value = "utf-8")]
    pub(super) encoding: Encoding,
    /// Check every documented rule, or only those without which no API would accept the row
    #[arg(long, value_parser = validation(), default_value = "documented")]
    pub(super) validation: Validation,
    /// Refuse a file with columns that feed no field, unless --ignore names them
    #[arg(long)]
    pub(super) strict_columns: bool,
    /// Expect that this column feeds no field (repeatable)
    #[arg(long, value_name = "COLUMN", value_parser = NonEmptyStringValueParser::new())]
    pub(super) ignore: Vec<String>,
    #[command(flatten)]
    pub(super) read: Read,
}

/// How a record becomes a row, for every command that reads rows.
#[derive(Debug, Args)]
#[command(next_help_heading = "Input")]
pub(super) struct Read {
    /// Read a field from this column, or from a template of columns such as cust_{id} (repeatable)
    #[arg(long, value_name = "FIELD=COLUMN|TEMPLATE", value_parser = field_and_column)]
    pub(super) map: Vec<(Field, String)>,
    /// Use a constant if the field has no column or its cell is empty (repeatable)
    #[arg(long, value_name = "FIELD=VALUE", value_parser = field_and_text)]
    pub(super) set: Vec<(Field, String)>,
    /// Read a cell that is this word as an empty one, such as NULL or \N (repeatable)
    #[arg(long, value_name = "WORD", value_parser = null_marker)]
    pub(super) null_marker: Vec<String>,
    /// Send a row without an optional field that breaks a rule
    #[arg(long)]
    pub(super) drop_invalid_optional: bool,
    /// Read phone numbers in any spelling used in this region; send national digits, fill the country code
    #[arg(long, value_name = "CC", value_parser = PhoneRegion::parse)]
    pub(super) phone_region: Option<PhoneRegion>,
    /// Treat an optional field as required (repeatable)
    #[arg(long, value_name = "FIELD", value_parser = field)]
    pub(super) require: Vec<Field>,
    /// Read only this many data rows, from the first
    #[arg(long, value_name = "ROWS", value_parser = limit)]
    pub(super) limit: Option<u64>,
    /// End with exit code 3 if there are fewer data rows than this
    #[arg(long, value_name = "ROWS", default_value_t = 0, value_parser = count)]
    pub(super) expect_rows: u64,
    /// Request a client auth token with each customer
    #[arg(long)]
    pub(super) get_client_auth_token: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sending")]
pub(super) struct Sending {
    /// Maximum requests per second, of every kind
    #[arg(long, value_name = "PER_SECOND|unlimited", default_value = "50", value_parser = rate)]
    pub(super) rate: RateArg,
    /// Requests that may be sent at once after idle time
    #[arg(long, value_name = "REQUESTS", default_value = "1", value_parser = whole::<1, 100_000>)]
    pub(super) burst: u32,
    /// Maximum requests in flight
    #[arg(long, value_name = "REQUESTS", default_value = "32", value_parser = whole::<1, 10_000>)]
    pub(super) concurrency: u32,
    /// Leave room for other users of the same limit: hold 85 % of it once it is found, and look again every ten minutes
    #[arg(long)]
    pub(super) polite: bool,
    #[command(flatten)]
    pub(super) timeouts: Timeouts,
    /// Maximum attempts per row
    #[arg(long, value_name = "ATTEMPTS", default_value = "6", value_parser = whole::<1, 1_000>)]
    pub(super) max_attempts: u32,
    /// Maximum delay before the second attempt
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = duration)]
    pub(super) retry_initial: Duration,
    /// Maximum delay between two attempts
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub(super) retry_max: Duration,
    /// Stop the run after this long without a successful response; at most 30s if there has been no response at all
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub(super) outage_limit: Duration,
    /// Time for in-flight requests to finish after the first SIGINT, SIGTERM or SIGHUP
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub(super) shutdown_grace: Duration,
}

/// The timeouts of a request.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sending")]
pub(super) struct Timeouts {
    /// Timeout for a whole request, from connecting to the last byte of the response
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub(super) timeout: Duration,
    /// Timeout for connecting
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(super) connect_timeout: Duration,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sending")]
pub(super) struct Failures {
    /// Stop the run after more rejected and failed rows than this, or a larger share [default: off]
    #[arg(long, value_name = "ROWS|PERCENT%", value_parser = max_failures)]
    pub(super) max_failures: Option<MaxFailures>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Ledger")]
pub(super) struct Ledger {
    // As text: rustdoc would take the URL for a link.
    #[arg(
        long,
        value_name = "FILE|URL",
        env = "CUSTOMER_IMPORT_LEDGER",
        help = "File or URL [default: customer-import.db; customer-import.simulator.db with --simulator]",
        long_help = "Ledger: a file, or a schema of a Postgres database: postgres://USER@HOST/DATABASE?schema=NAME [default: customer-import.db; customer-import.simulator.db with --simulator]"
    )]
    pub(super) ledger: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Lease {
    /// Time after which a worker that no longer writes to a ledger in Postgres counts as dead, and its rows are taken over
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = lease, help_heading = "Ledger")]
    pub(super) lease: Duration,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct Output {
    /// Write the run's summary as JSON (- for standard output)
    #[arg(long, value_name = "FILE")]
    pub(super) summary_json: Option<PathBuf>,
    /// Show progress: a bar on a terminal, lines elsewhere; auto shows none if a log in JSON goes to standard error
    #[arg(long, value_enum, default_value = "auto")]
    pub(super) progress: ProgressArg,
    #[command(flatten)]
    pub(super) metrics: Metrics,
    #[command(flatten)]
    pub(super) log: Log,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct Metrics {
    /// Serve Prometheus metrics at ADDRESS/metrics during the run, such as 127.0.0.1:9464
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub(super) metrics_listen: Option<SocketAddr>,
    /// Write Prometheus metrics to FILE, every few seconds and at the end; `node_exporter` reads only names that end in .prom
    #[arg(long, value_name = "FILE")]
    pub(super) metrics_textfile: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ProgressArg {
    Auto,
    Always,
    Never,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct Log {
    /// Log format
    #[arg(long, value_enum, default_value = "text")]
    pub(super) log_format: LogFormat,
    /// Write the log to FILE [default: standard error]
    #[arg(long, value_name = "FILE")]
    pub(super) log_file: Option<PathBuf>,
    /// Log more: -v each event of the run, -vv each row that is not imported, -vvv all rows
    #[arg(short, long, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// Print no summary and no progress, and log only errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub(super) quiet: bool,
    #[command(flatten)]
    pub(super) color: Color,
}

/// The color option, of every command that prints text.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct Color {
    /// Color text; with auto on terminals, unless `NO_COLOR`, CLICOLOR=0 or TERM=dumb is set
    #[arg(long, value_enum, default_value = "auto")]
    pub(super) color: ColorArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ColorArg {
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

/// `None`: unlimited.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RateArg(pub(super) Option<f64>);

impl Sending {
    /// The rate with its burst.
    pub(super) fn rate(&self) -> Option<Rate> {
        let burst = NonZeroU32::new(self.burst).unwrap_or(NonZeroU32::MIN);
        self.rate.0.map(|per_second| Rate { per_second, burst })
    }

    /// The limits of a run's requests.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            concurrency: self.concurrency as usize,
            outage_limit: self.outage_limit,
            shutdown_grace: self.shutdown_grace,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn absurd_values_are_refused() {
        for wrong in ["0", "-1", "NaN", "inf", "1e9", "fast", ""] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0s", "-5s", "10", "1year", "", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        for wrong in ["-1", "101%", "x%", "NaN%", ""] {
            assert!(max_failures(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", ",,", "\"", "é", "\n"] {
            assert!(delimiter(wrong).is_err(), "{wrong:?}");
        }
        assert!(latency("80ms..20ms").is_err());
    }

    #[test]
    fn values_are_read() {
        assert_eq!(rate("unlimited"), Ok(RateArg(None)));
        assert_eq!(rate("0.5"), Ok(RateArg(Some(0.5))));
        assert_eq!(max_failures("5%"), Ok(MaxFailures::Percent(5.0)));
        assert_eq!(delimiter("tab"), Ok(b'\t'));
        assert_eq!(latency("5ms..10ms"), Ok((Duration::from_millis(5), Duration::from_millis(10))));
        assert_eq!(field_and_text("email_address=E=Mail"), Ok((Field::EmailAddress, "E=Mail".into())));
        assert!(field("email_adress").unwrap_err().contains("did you mean email_address"));
    }
}
