//! A schema of a Postgres server in place of a ledger's file, for the tests that run over both, and what a test does
//! to it.
//!
//! The server is another's: `.ci/run` starts one and names it in `CUSTOMER_IMPORT_TEST_LEDGER`. Each world has a schema
//! of its own, which goes when the test ends. A test that stops its server has one of its own.

use std::{
    io::{Read as _, Write as _},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _, ValueRef as _,
    postgres::{PgConnectOptions, PgConnection, PgRow},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::world::{knob, signal, wait_until};

/// The server that whoever runs the tests has named.
pub(crate) fn named() -> Option<String> {
    knob("CUSTOMER_IMPORT_TEST_LEDGER")
}

/// What SQLite has and Postgres has not.
const HEX: &str =
    "create function pg_temp.hex(bytea) returns text language sql as $$select upper(encode($1, 'hex'))$$";

/// A schema of a server.
pub(crate) struct Schema {
    server: String,
    name: String,
}

impl Schema {
    /// A new name on this server; the program makes the schema.
    pub(crate) fn new(server: &str) -> Schema {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        Schema { server: server.to_owned(), name: format!("test_{}_{number}", std::process::id()) }
    }

    /// What names the ledger.
    pub(crate) fn url(&self) -> String {
        format!("{}?schema={}", self.server, self.name)
    }

    /// The same schema on another way to its server.
    pub(crate) fn reach_through(&mut self, server: &str) {
        server.clone_into(&mut self.server);
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn options(&self) -> PgConnectOptions {
        self.server.parse::<PgConnectOptions>().unwrap().disable_statement_logging()
    }

    /// Whether the server answers.
    fn answers(&self, runtime: &Runtime) -> bool {
        runtime.block_on(async { self.options().connect().await.is_ok() })
    }

    /// A connection that knows what tests ask SQLite's way.
    async fn connect(&self) -> PgConnection {
        let mut connection = self.options().connect().await.unwrap();
        connection.execute(AssertSqlSafe(format!("set search_path to {}", self.name))).await.unwrap();
        connection
    }

    /// The cells of a query, as a client of SQLite would show them.
    pub(crate) fn query(&self, runtime: &Runtime, sql: &str) -> Vec<Vec<String>> {
        let cell = |row: &PgRow, at: usize| {
            let raw = row.try_get_raw(at).unwrap();
            if raw.is_null() {
                return String::new();
            }
            match (raw.type_info().to_string().as_str(), raw.as_str().unwrap()) {
                ("BOOL", "t") => "1".into(),
                ("BOOL", _) => "0".into(),
                (_, text) => text.to_owned(),
            }
        };
        runtime.block_on(async {
            let mut connection = self.connect().await;
            if sql.contains("hex(") {
                connection.execute(HEX).await.unwrap();
            }
            let rows = sqlx::raw_sql(AssertSqlSafe(sql.replace("hex(", "pg_temp.hex(")))
                .fetch_all(&mut connection)
                .await;
            let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
            connection.close().await.unwrap();
            rows.iter().map(|row| (0..row.len()).map(|at| cell(row, at)).collect()).collect()
        })
    }

    /// Changes the ledger behind the program's back.
    pub(crate) fn execute(&self, runtime: &Runtime, sql: &str) {
        runtime.block_on(async {
            let mut connection = self.connect().await;
            connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
            connection.close().await.unwrap();
        });
    }

    /// Runs a statement on a connection of its own, whose end gives back what the statement locks.
    pub(crate) fn lock(&self, runtime: &Runtime, sql: &str) -> PgConnection {
        runtime.block_on(async {
            let mut connection = self.connect().await;
            connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
            connection
        })
    }

    /// Whether the program has made the ledger.
    pub(crate) fn exists(&self, runtime: &Runtime) -> bool {
        let found = self.query(runtime, &format!("select to_regclass('{}.target') is not null", self.name));
        found == [["1"]]
    }

    /// The columns of a table, as literals of SQL.
    pub(crate) fn literals(&self, runtime: &Runtime, table: &str) -> Vec<String> {
        let columns = self.query(
            runtime,
            &format!(
                "select column_name, data_type from information_schema.columns
                 where table_schema = '{}' and table_name = '{table}' order by ordinal_position",
                self.name
            ),
        );
        let literal = |column: &Vec<String>| match column[1].as_str() {
            "text" => format!("quote_nullable({})", column[0]),
            _ => format!("coalesce({}::text, 'NULL')", column[0]),
        };
        columns.iter().map(literal).collect()
    }

    /// Ends the leases of processes that were killed, so that no test waits for them. A process is known by the URL in
    /// its environment; one that has ended has none.
    pub(crate) fn end_leases_of_the_dead(&self, runtime: &Runtime) {
        let url = self.url();
        let lives = |environment: &[u8]| environment.windows(url.len()).any(|bytes| bytes == url.as_bytes());
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let environments = processes.filter_map(|process| std::fs::read(process.path().join("environ")).ok());
        let lives = environments.into_iter().any(|environment| lives(&environment));
        if !lives && self.answers(runtime) && self.exists(runtime) {
            // A standby takes none.
            runtime.block_on(async {
                let mut connection = self.connect().await;
                let end = "update worker set beat_at = '-infinity' where state = 'alive'";
                let _ = connection.execute(end).await;
            });
        }
    }

    /// Takes the schema away.
    pub(crate) fn drop_from(&self, runtime: &Runtime) {
        // A server that is away, or a standby, keeps what it has.
        let drop = format!("drop schema if exists {} cascade", self.name);
        runtime.block_on(async {
            if let Ok(mut connection) = self.options().connect().await {
                let _ = connection.execute(AssertSqlSafe(drop)).await;
            }
        });
    }
}

/// A server of one test, which it may stop.
pub(crate) struct Server {
    folder: TempDir,
    programs: PathBuf,
    /// Where it listens, and how.
    options: String,
}

impl Server {
    /// A server that is reached by its socket alone.
    pub(crate) fn start() -> Server {
        let mut server = Server::new();
        server.options = "-c listen_addresses=''".into();
        server.begin();
        server
    }

    /// A server that is also reached by TLS at this address of the machine, where nobody else listens. `hba` says who is
    /// let in there, and how.
    pub(crate) fn start_with_tls(address: &str, identity: &ServerIdentity, hba: &str) -> Server {
        let mut server = Server::new();
        server.file("server.crt", &identity.certificate);
        server.file("server.key", &identity.key);
        server.file("clients.crt", &identity.authority_of_clients);
        server.file("pg_hba.conf", &format!("local all all trust\n{hba}"));
        server.options = format!("-c listen_addresses={address} -c ssl=on -c ssl_ca_file=clients.crt");
        server.begin();
        server
    }

    /// A file in the folder of its data that nobody else can read.
    fn file(&self, name: &str, text: &str) {
        let path = Path::new(&self.data()).join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        drop(Command::new("chown").arg("postgres").arg(&path).output());
    }

    /// A server that does not listen yet.
    fn new() -> Server {
        let versions = std::fs::read_dir("/usr/lib/postgresql").expect("Debian's package postgresql");
        let programs = versions.flatten().map(|version| version.path().join("bin")).max().unwrap();
        let server = Server { folder: tempfile::tempdir().unwrap(), programs, options: String::new() };
        // Root may not run it.
        drop(Command::new("chown").arg("postgres").arg(server.folder.path()).output());
        let data = server.data();
        server.run(
            "initdb",
            &["-D", &data, "-A", "trust", "-U", "postgres", "--encoding=UTF8", "--no-locale", "--no-sync"],
        );
        server
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn run(&self, program: &str, args: &[&str]) {
        let done = of_postgres(&self.programs.join(program)).args(args).output().unwrap();
        assert!(done.status.success(), "{program:?} {args:?}: {done:?}");
    }

    pub(crate) fn begin(&self) {
        let (data, folder) = (self.data(), self.folder.path().display().to_string());
        let options = format!(
            "{} -c unix_socket_directories={folder} -c fsync=off -c full_page_writes=off -c shared_buffers=32MB \
             -c max_connections=20",
            self.options
        );
        let log = self.folder.path().join("log").display().to_string();
        self.run("pg_ctl", &["-D", &data, "-w", "-l", &log, "start", "-o", &options]);
    }

    /// Stops it in the middle of whatever it does.
    pub(crate) fn stop(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-w", "-m", "immediate", "stop"]);
    }

    /// Sends a signal, such as `STOP`, to each of its processes.
    pub(crate) fn signal(&self, name: &str) {
        let first = std::fs::read_to_string(Path::new(&self.data()).join("postmaster.pid")).unwrap();
        let first = first.lines().next().unwrap();
        let send =
            |process: &str| Command::new("kill").arg(format!("-{name}")).arg(process).output().unwrap();
        assert!(send(first).status.success());
        let others = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
        // One of them may end meanwhile.
        others.split_whitespace().for_each(|process| drop(send(process)));
    }

    /// From its next beginning on it only repeats another server, which there is not.
    pub(crate) fn make_standby(&self) {
        let signal = Path::new(&self.data()).join("standby.signal");
        std::fs::write(&signal, "").unwrap();
        drop(Command::new("chown").arg("postgres").arg(&signal).output());
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join(".s.PGSQL.5432")
    }

    pub(crate) fn url(&self) -> String {
        url(self.folder.path())
    }
}

/// Whose certificate a server shows, and whose it accepts; in PEM.
pub(crate) struct ServerIdentity {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) authority_of_clients: String,
}

/// A program that root may not run.
fn of_postgres(program: &Path) -> Command {
    let is_root = rustix::process::geteuid().is_root();
    let mut command = if is_root { Command::new("runuser") } else { Command::new(program) };
    if is_root {
        command.args(["-u", "postgres", "--"]).arg(program);
    }
    command.current_dir("/");
    command
}

/// The pooler `pgbouncer` in front of a server, in transaction mode.
pub(crate) struct Pooler {
    folder: TempDir,
    process: Child,
}

impl Pooler {
    /// A pooler with so many connections to the server.
    pub(crate) fn start(server: &Server, connections: usize) -> Pooler {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("users"), "\"postgres\" \"\"\n").unwrap();
        let settings = format!(
            "[databases]\npostgres = host={}\n[pgbouncer]\nlisten_addr =\nlisten_port = 5432\n\
             unix_socket_dir = {}\nauth_type = trust\nauth_file = {}\npool_mode = transaction\n\
             default_pool_size = {connections}\n",
            server.folder.path().display(),
            folder.path().display(),
            path("users"),
        );
        std::fs::write(path("pgbouncer.ini"), settings).unwrap();
        drop(Command::new("chown").args(["-R", "postgres"]).arg(folder.path()).output());
        let mut command = of_postgres(Path::new("/usr/sbin/pgbouncer"));
        let process = command.args(["-q", &path("pgbouncer.ini")]).stderr(Stdio::null()).spawn().unwrap();
        let mut pooler = Pooler { folder, process };
        let socket = pooler.folder.path().join(".s.PGSQL.5432");
        assert!(wait_until(&mut pooler.process, || socket.exists()), "pgbouncer does not begin");
        pooler
    }

    pub(crate) fn url(&self) -> String {
        url(self.folder.path())
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // Not killed: runuser would leave it behind.
        signal(&self.process, "TERM");
        drop(self.process.wait());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.socket().exists() {
            self.stop();
        }
    }
}

/// The server whose socket is in this folder.
fn url(folder: &Path) -> String {
    let folder = folder.display().to_string().replace('/', "%2F");
    format!("postgres://postgres@{folder}/postgres")
}

/// A line to a server that is far away.
pub(crate) struct FarLine {
    folder: TempDir,
}

impl FarLine {
    /// Bytes take this long in either direction.
    pub(crate) fn to(server: &Server, delay: Duration) -> FarLine {
        let line = FarLine { folder: tempfile::tempdir().unwrap() };
        let listener = UnixListener::bind(line.folder.path().join(".s.PGSQL.5432")).unwrap();
        let socket = server.socket();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = UnixStream::connect(&socket) else { continue };
                delayed(client.try_clone().unwrap(), server.try_clone().unwrap(), delay);
                delayed(server, client, delay);
            }
        });
        line
    }

    pub(crate) fn url(&self) -> String {
        url(self.folder.path())
    }
}

/// Passes bytes on, each after this time.
fn delayed(mut from: UnixStream, mut to: UnixStream, delay: Duration) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            drop(sender.send((Instant::now() + delay, buffer[..length].to_vec())));
        }
    });
    std::thread::spawn(move || {
        for (due, bytes) in receiver {
            while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                std::thread::park_timeout(left);
            }
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        drop(to.shutdown(std::net::Shutdown::Both));
    });
}

/// A line to a server that falls silent once, as if the server's machine had gone: the connection that passes this text
/// on to the server passes nothing back any more, and is not closed. Other connections are not concerned.
pub(crate) struct SilentLine {
    folder: TempDir,
    is_silent: Arc<AtomicBool>,
}

impl SilentLine {
    pub(crate) fn to(server: &Server, text: &'static str) -> SilentLine {
        let line = SilentLine { folder: tempfile::tempdir().unwrap(), is_silent: Arc::default() };
        let listener = UnixListener::bind(line.folder.path().join(".s.PGSQL.5432")).unwrap();
        let (socket, is_silent) = (server.socket(), Arc::clone(&line.is_silent));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = UnixStream::connect(&socket) else { continue };
                let is_silent = Arc::clone(&is_silent);
                std::thread::spawn(move || forward_until(client, server, text.as_bytes(), &is_silent));
            }
        });
        line
    }

    pub(crate) fn url(&self) -> String {
        url(self.folder.path())
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::SeqCst)
    }
}

/// Passes bytes on; the first that contain this text are passed on, and then nothing more is.
fn forward_until(mut client: UnixStream, mut server: UnixStream, text: &[u8], is_silent: &AtomicBool) {
    let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let is_this_silent = Arc::new(AtomicBool::new(false));
    let is_silenced = Arc::clone(&is_this_silent);
    let back = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_server.read(&mut buffer) {
            let is_silenced = is_silenced.load(Ordering::SeqCst);
            if !is_silenced && to_client.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        drop(to_client.shutdown(std::net::Shutdown::Both));
    });
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        let bytes = &buffer[..length];
        let has_text = bytes.windows(text.len()).any(|window| window == text);
        if has_text && !is_silent.swap(true, Ordering::SeqCst) {
            is_this_silent.store(true, Ordering::SeqCst);
        }
        if server.write_all(bytes).is_err() {
            break;
        }
    }
    drop(server.shutdown(std::net::Shutdown::Write));
    drop(back.join());
}

/// The transactions in which the ledger is made and taken, and somewhat more; where one of them breaks there is no run.
const FIRST_COMMITS: usize = 30;

/// A line to a server that breaks at commits: right before they are passed on, or right after, before the answer is.
pub(crate) struct BadLine {
    folder: TempDir,
    /// Commits that were cut before and after.
    cuts: [Arc<AtomicUsize>; 2],
}

impl BadLine {
    /// Breaks at each `every`th commit behind those with which a run begins.
    pub(crate) fn to(server: &Server, every: usize) -> BadLine {
        let line = BadLine { folder: tempfile::tempdir().unwrap(), cuts: Default::default() };
        let listener = UnixListener::bind(line.folder.path().join(".s.PGSQL.5432")).unwrap();
        let (socket, cuts, commits) = (server.socket(), line.cuts.clone(), Arc::new(AtomicUsize::new(0)));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = UnixStream::connect(&socket) else { continue };
                let (cuts, commits) = (cuts.clone(), Arc::clone(&commits));
                std::thread::spawn(move || forward(client, server, every, &commits, &cuts));
            }
        });
        line
    }

    pub(crate) fn url(&self) -> String {
        url(self.folder.path())
    }

    pub(crate) fn cuts(&self) -> [usize; 2] {
        self.cuts.each_ref().map(|cuts| cuts.load(Ordering::SeqCst))
    }
}

/// Passes bytes on until a commit breaks the line.
fn forward(
    mut client: UnixStream,
    mut server: UnixStream,
    every: usize,
    commits: &AtomicUsize,
    cuts: &[Arc<AtomicUsize>; 2],
) {
    let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let back = std::thread::spawn(move || {
        drop(std::io::copy(&mut from_server, &mut to_client));
        drop(to_client.shutdown(std::net::Shutdown::Both));
    });
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        let bytes = &buffer[..length];
        if bytes.ends_with(b"commit\0") {
            let number = commits.fetch_add(1, Ordering::SeqCst) + 1;
            if number > FIRST_COMMITS && number.is_multiple_of(every) {
                let after = number / every % 2;
                cuts[after].fetch_add(1, Ordering::SeqCst);
                drop(client.shutdown(std::net::Shutdown::Both));
                if after == 1 {
                    drop(server.write_all(bytes));
                    // The server ends the session once it has committed, and finds nobody to answer.
                    drop(server.shutdown(std::net::Shutdown::Write));
                } else {
                    drop(server.shutdown(std::net::Shutdown::Both));
                }
                break;
            }
        }
        if server.write_all(bytes).is_err() {
            break;
        }
    }
    drop(server.shutdown(std::net::Shutdown::Write));
    drop(back.join());
}
