//! The world of one test: a folder, a simulator with its journal, and the binary.
//!
//! Each test has its own world, which is deleted when the test ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use customer_import::simulator::{Behavior, Journal, Options, Outage, Simulator};
use serde_json::Value;
use sqlx::{
    ConnectOptions, Row as _,
    sqlite::{SqliteConnectOptions, SqliteRow},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

#[cfg(feature = "postgres")]
use crate::server::Schema;

/// The key and merchant that [`World::run`] gives the binary.
pub(crate) const KEY: &str = "test_key_8d1f";
pub(crate) const MERCHANT: &str = "test_merchant";

/// The reference that the probe of an outage looks up; no customer has it.
pub(crate) const NOBODY: &str = "customer-import-probe-of-nobody";

/// A process that takes longer than this hangs.
const PROCESS_MAX: Duration = Duration::from_secs(600);

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) simulator: Simulator,
    runtime: Runtime,
    /// The schema of the ledger; none if the ledger is in a file.
    #[cfg(feature = "postgres")]
    schema: Option<Schema>,
}

/// The result of a finished command.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    /// A well-behaved API.
    pub(crate) fn new() -> World {
        World::with(Options::default())
    }

    /// An API with these options.
    pub(crate) fn with(options: Options) -> World {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let simulator = runtime.block_on(Simulator::start(options)).unwrap();
        World {
            folder: tempfile::tempdir().unwrap(),
            simulator,
            runtime,
            #[cfg(feature = "postgres")]
            schema: crate::server::named().map(|server| Schema::new(&server)),
        }
    }

    /// The same API with its ledger on this server of Postgres.
    #[cfg(feature = "postgres")]
    pub(crate) fn on_server(mut self, server: &str) -> World {
        self.schema = Some(Schema::new(server));
        self
    }

    /// Reaches the same ledger through another address of its server.
    #[cfg(feature = "postgres")]
    pub(crate) fn reach_ledger_through(&mut self, server: &str) {
        self.schema.as_mut().unwrap().reach_through(server);
    }

    /// The same API with its ledger in a file, also if the other tests use a server, because the test is about the file.
    #[cfg_attr(not(feature = "postgres"), expect(unused_mut, reason = "there is nothing else then"))]
    pub(crate) fn in_file(mut self) -> World {
        #[cfg(feature = "postgres")]
        {
            self.schema = None;
        }
        self
    }

    /// Whether the ledger is in a file.
    pub(crate) fn is_in_file(&self) -> bool {
        self.ledger().parent() == Some(self.folder.path())
    }

    /// The schema of the ledger; none if the ledger is in a file.
    #[cfg(feature = "postgres")]
    pub(crate) fn schema(&self) -> Option<&Schema> {
        self.schema.as_ref()
    }

    /// The journal of what the API really did.
    pub(crate) fn journal(&self) -> Journal {
        self.simulator.journal()
    }

    /// Changes the API during a run. When this returns, its listener is open or closed as required; otherwise a
    /// program started next could find the previous state.
    pub(crate) fn reconfigure(&self, change: impl FnOnce(&mut Behavior)) {
        let (mut before, mut after) = (false, false);
        {
            // Inside the runtime: the simulator may start tasks of its own.
            let _inside = self.runtime.enter();
            self.simulator.reconfigure(|behavior| {
                before = behavior.outage == Some(Outage::Refuse);
                change(behavior);
                after = behavior.outage == Some(Outage::Refuse);
            });
        }
        let changed = Instant::now();
        while before != after && TcpStream::connect(self.simulator.address()).is_err() != after {
            assert!(changed.elapsed() < Duration::from_secs(10), "the simulator is gone");
            std::thread::yield_now();
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The value of `--ledger`.
    pub(crate) fn ledger(&self) -> PathBuf {
        #[cfg(feature = "postgres")]
        if let Some(schema) = &self.schema {
            return schema.url().into();
        }
        self.path("ledger.db")
    }

    /// Whether the ledger exists.
    pub(crate) fn has_ledger(&self) -> bool {
        #[cfg(feature = "postgres")]
        if let Some(schema) = &self.schema {
            return schema.exists(&self.runtime);
        }
        self.ledger().exists()
    }

    /// Writes a file into the world's folder.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A file of `count` valid rows: `cust-000000`, …
    pub(crate) fn rows(&self, name: &str, count: usize) -> PathBuf {
        self.file(name, rows(0..count))
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}", self.simulator.address())
    }

    /// The binary with these arguments, in the world's folder, with the test's key and ledger.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        #[cfg(feature = "postgres")]
        if let Some(schema) = &self.schema {
            schema.end_leases_of_the_dead(&self.runtime);
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_customer-import"));
        let is_read = |name: &str| name.starts_with("JUSPAY_") || name.to_uppercase().ends_with("_PROXY");
        for (name, _) in std::env::vars().filter(|(name, _)| is_read(name)) {
            command.env_remove(name);
        }
        command
            .args(args)
            .current_dir(self.folder.path())
            .env_remove("RUST_LOG")
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR")
            .env_remove("CLICOLOR_FORCE")
            .env("JUSPAY_API_KEY", KEY)
            .env("CUSTOMER_IMPORT_LEDGER", self.ledger())
            .stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Done {
        finish(self.start(args))
    }

    /// The binary in the background.
    fn start<S: AsRef<OsStr>>(&self, args: &[S]) -> Child {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs the binary with this standard input.
    pub(crate) fn run_with_input<S: AsRef<OsStr>>(&self, args: &[S], input: &[u8]) -> Done {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A program that does not need its input may close it.
        drop(child.stdin.take().unwrap().write_all(input));
        finish(child)
    }

    /// The arguments of an import into this world's API, without a rate limit and with short retry delays.
    pub(crate) fn import_args(&self, file: &Path, more: &[&str]) -> Vec<String> {
        let base_url = self.base_url();
        let file = file.display().to_string();
        let mut args: Vec<String> = [
            "import",
            &file,
            "--base-url",
            &base_url,
            "--merchant-id",
            MERCHANT,
            "--rate",
            "unlimited",
            "--retry-initial",
            "2ms",
            "--retry-max",
            "20ms",
            "--summary-json",
            "summary.json",
        ]
        .map(str::to_owned)
        .into();
        // The test's own options come last and win.
        for more in more {
            if more.starts_with("--")
                && let Some(at) = args.iter().position(|arg| arg == more)
            {
                args.drain(at..at + 2);
            }
            args.push((*more).to_owned());
        }
        args
    }

    /// An import into this world's API, run to its end.
    pub(crate) fn import(&self, file: &Path, more: &[&str]) -> Done {
        self.run(&self.import_args(file, more))
    }

    /// Any other command that sends to this world's API, run to its end.
    pub(crate) fn aim(&self, command: &str, more: &[&str]) -> Done {
        let summary = ["--rate", "unlimited", "--summary-json", "summary.json"];
        finish(self.start_aimed(command, &[&summary, more].concat()))
    }

    /// Any other command that sends to this world's API, in the background.
    pub(crate) fn start_aimed(&self, command: &str, more: &[&str]) -> Child {
        let (base_url, mut args) = (self.base_url(), vec![command]);
        args.extend(["--base-url", &base_url, "--merchant-id", MERCHANT]);
        args.extend(["--retry-initial", "2ms", "--retry-max", "20ms"]);
        args.extend(more);
        self.start(&args)
    }

    /// An import in the background.
    pub(crate) fn start_import(&self, file: &Path, more: &[&str]) -> Child {
        self.start(&self.import_args(file, more))
    }

    /// Creates a customer of [`MERCHANT`] as another program would; returns its id.
    pub(crate) fn create_elsewhere(&self, reference: &str) -> String {
        self.create_elsewhere_as(reference, reference)
    }

    /// Creates a customer whose reference a form has to encode.
    pub(crate) fn create_elsewhere_as(&self, encoded: &str, reference: &str) -> String {
        self.post_elsewhere("customers", &format!("object_reference_id={encoded}&mobile_number=9000000001"));
        let customer = self.journal().customer(MERCHANT, reference).unwrap();
        customer.id.to_string()
    }

    /// Changes a customer as another program would.
    pub(crate) fn update_elsewhere(&self, reference: &str, body: &str) {
        self.post_elsewhere(&format!("customers/{reference}"), body);
    }

    fn post_elsewhere(&self, path: &str, body: &str) {
        let mut stream = TcpStream::connect(self.simulator.address()).unwrap();
        write!(
            stream,
            "POST /{path} HTTP/1.1\r\nHost: simulator\r\nConnection: close\r\n\
             Authorization: Basic b3RoZXJzOg==\r\nx-merchantid: {MERCHANT}\r\nx-routing-id: elsewhere\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    /// The summary that the last import wrote.
    pub(crate) fn summary(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.path("summary.json")).unwrap()).unwrap()
    }

    /// The non-zero outcomes of the last import, as `created=3 failed=1`; asserts that all ten are there and add up
    /// to the rows.
    pub(crate) fn outcomes(&self) -> String {
        const OUTCOMES: [&str; 10] = [
            "created",
            "existing",
            "unchanged",
            "changed",
            "updated",
            "duplicate",
            "invalid",
            "rejected",
            "failed",
            "pending",
        ];
        let summary = self.summary();
        let counts = OUTCOMES.map(|outcome| (outcome, summary[outcome].as_u64().unwrap()));
        assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), summary["rows"].as_u64().unwrap());
        let shown =
            counts.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name}={count}"));
        shown.collect::<Vec<_>>().join(" ")
    }

    /// The result of a query by an independent SQLite client, also during a run or after a kill.
    pub(crate) fn query(&self, sql: &str) -> Vec<Vec<String>> {
        #[cfg(feature = "postgres")]
        if let Some(schema) = &self.schema {
            return schema.query(&self.runtime, sql);
        }
        let options = SqliteConnectOptions::new().filename(self.ledger()).read_only(true);
        self.runtime.block_on(async {
            let mut connection = options.connect().await.unwrap();
            let query = sqlx::query(sqlx::AssertSqlSafe(sql));
            let rows = query.fetch_all(&mut connection).await.unwrap();
            let cell = |row: &SqliteRow, at| {
                let cell: Option<String> = row.get_unchecked(at);
                cell.unwrap_or_default()
            };
            rows.iter().map(|row| (0..row.len()).map(|at| cell(row, at)).collect()).collect()
        })
    }

    /// Changes the ledger without the program.
    pub(crate) fn execute(&self, sql: &str) {
        #[cfg(feature = "postgres")]
        if let Some(schema) = &self.schema {
            return schema.execute(&self.runtime, sql);
        }
        let options = SqliteConnectOptions::new().filename(self.ledger());
        self.runtime.block_on(async {
            let mut connection = options.connect().await.unwrap();
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        });
    }

    /// Runs a statement that locks something of a ledger on a server until the returned connection is dropped.
    #[cfg(feature = "postgres")]
    pub(crate) fn lock(&self, sql: &str) -> sqlx::postgres::PgConnection {
        self.schema.as_ref().unwrap().lock(&self.runtime, sql)
    }

    /// The single number that this query returns.
    pub(crate) fn number(&self, sql: &str) -> u64 {
        self.query(sql)[0][0].parse().unwrap()
    }

    /// All rows of a table of the ledger, as text.
    pub(crate) fn table(&self, table: &str) -> Vec<Vec<String>> {
        #[cfg(feature = "postgres")]
        if let Some(schema) = &self.schema {
            let literals = schema.literals(&self.runtime, table).join(", ");
            return self.query(&format!("select {literals} from {table} order by {literals}"));
        }
        let columns = self.query(&format!("select name from pragma_table_info('{table}')"));
        let quoted: Vec<String> = columns.iter().map(|name| format!("quote({})", name[0])).collect();
        self.query(&format!("select {} from {table} order by 1", quoted.join(", ")))
    }

    /// Asserts that the API and the ledger agree, in both directions: exactly these references, each created once, by
    /// us, under the id in the ledger, and no row is open.
    pub(crate) fn assert_agreement(&self, references: impl IntoIterator<Item = String>) {
        let expected: BTreeSet<String> = references.into_iter().collect();
        let api = self.journal().created();
        assert_eq!(api.keys().cloned().collect::<BTreeSet<_>>(), expected);
        assert!(api.values().all(|(_, times)| *times == 1), "a customer was made twice");
        let exported = self.export("created");
        assert_eq!(exported.len(), expected.len(), "the ledger has each reference once");
        for row in exported {
            assert_eq!(api[&row[0]].0, row[1], "the id of {}", row[0]);
            assert_eq!(row[2], "created", "nobody else creates {}", row[0]);
        }
        assert_eq!(self.number("select count(*) from every_row where outcome = 'pending'"), 0);
        assert_eq!(self.number("select count(*) from claim"), 0);
    }

    /// Asserts that every customer at the API was created once, and that the ledger has exactly these customers, with
    /// their ids.
    #[track_caller]
    pub(crate) fn assert_same_customers(&self) {
        let of_api: BTreeMap<String, String> = self
            .journal()
            .created()
            .into_iter()
            .map(|(reference, (id, times))| {
                assert_eq!(times, 1, "{reference}");
                (reference, id)
            })
            .collect();
        let of_ledger: BTreeMap<String, String> =
            self.export("created").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
        assert_eq!(of_ledger, of_api);
    }

    /// The text of `export failed`.
    pub(crate) fn failed_text(&self) -> String {
        let done = self.run(&["export", "failed"]);
        assert_eq!(done.code, 0, "{done:?}");
        done.stdout
    }

    /// The rows of `export failed` as column → cell.
    pub(crate) fn failed_rows(&self) -> Vec<BTreeMap<String, String>> {
        let text = self.failed_text();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        reader.deserialize().map(Result::unwrap).collect()
    }

    /// The output of `export <what>`, as rows of cells without the header.
    pub(crate) fn export(&self, what: &str) -> Vec<Vec<String>> {
        let done = self.run(&["export", what]);
        assert_eq!(done.code, 0, "{done:?}");
        cells(&done.stdout)
    }
}

#[cfg(feature = "postgres")]
impl Drop for World {
    fn drop(&mut self) {
        if let Some(schema) = &self.schema {
            schema.drop_from(&self.runtime);
        }
    }
}

impl Done {
    /// Asserts this exit code, and that standard error is one line: an error that contains these words.
    #[track_caller]
    pub(crate) fn assert_error(&self, code: i32, words: &[&str]) {
        assert!(self.stderr.starts_with("error: ") && self.stderr.ends_with('\n'), "{self:?}");
        assert_eq!(self.stderr.matches('\n').count(), 1, "{self:?}");
        self.assert_error_line(code, words);
    }

    /// Asserts this exit code, and that one line of standard error is an error with these words.
    #[track_caller]
    pub(crate) fn assert_error_line(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        let errors: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{self:?}");
        for word in words {
            assert!(errors[0].contains(word), "no {word:?} in {errors:?}");
        }
    }
}

/// The names of the files in a folder.
pub(crate) fn files(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The access rights of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Waits until something has happened at the simulator; false if the process ended first. There is no event for it,
/// so this polls, and yields its core in between.
pub(crate) fn wait_until(child: &mut Child, mut happened: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if happened() {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return happened();
        }
        assert!(began.elapsed() < Duration::from_secs(120), "it does not happen");
        std::thread::yield_now();
    }
}

/// Sends a signal by its name, such as `INT`.
pub(crate) fn signal(child: &Child, name: &str) {
    let kill = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
    assert!(kill.unwrap().success());
}

/// The result of a process, at its end. A process that does not end is killed, and its test fails: otherwise all tests
/// would wait for it.
pub(crate) fn finish(child: Child) -> Done {
    let (process, (ended, end)) = (child.id(), mpsc::channel::<()>());
    let watchdog = std::thread::spawn(move || {
        let is_hanging = end.recv_timeout(PROCESS_MAX) == Err(RecvTimeoutError::Timeout);
        is_hanging.then(|| Command::new("kill").args(["-KILL", &process.to_string()]).status())
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    assert!(watchdog.join().unwrap().is_none(), "not ended after {PROCESS_MAX:?}: {output:?}");
    done(output)
}

/// A setting from the environment of the tests.
#[expect(clippy::disallowed_methods, reason = "a knob of the tests, not of the program")]
pub(crate) fn knob(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The references of [`rows`].
pub(crate) fn references(numbers: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    numbers.map(|number| format!("cust-{number:06}"))
}

/// Cells of a CSV text, without its header.
pub(crate) fn cells(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
}

/// Valid rows with a header.
pub(crate) fn rows(numbers: std::ops::Range<usize>) -> String {
    let mut text = String::from("object_reference_id,mobile_number,email_address\n");
    for number in numbers {
        text.push_str(&format!("cust-{number:06},98{number:08},c{number}@example.com\n"));
    }
    text
}

pub(crate) fn done(output: std::process::Output) -> Done {
    Done {
        // A process ended by a signal has no exit code.
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// `FIELD:RULE;…` of an exported row.
pub(crate) fn faults(row: &BTreeMap<String, String>) -> String {
    let pairs = row["_field"].split(';').zip(row["_error_code"].split(';'));
    let pairs: Vec<String> = pairs.map(|(field, rule)| format!("{field}:{rule}")).collect();
    pairs.join(";")
}

/// Whether a record with these cells is not a row: blank cells only, or a separator line of a SQL tool.
pub(crate) fn stands_between(row: &[String], delimiter: u8) -> bool {
    let text = row.join(&char::from(delimiter).to_string());
    let is_drawn = |c: char| "-+=|: \t\r\n".contains(c) || c == char::from(delimiter);
    row.iter().all(|cell| cell.trim().is_empty())
        || text.chars().all(is_drawn) && (text.contains("---") || text.contains("==="))
}
