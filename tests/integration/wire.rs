//! A server that sends exactly the bytes that a test specifies.
//!
//! The simulator is an HTTP server and can only misbehave within HTTP. A broken proxy, a tarpit against port scanners
//! or a hijacked address may send something that is not HTTP at all, so this server is one thread per connection on a
//! bare socket. It keeps its own record of customers, which is the oracle: which ones it has created, how often, and
//! which requests it received.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use crate::world::{Done, World, finish};

/// The maximum memory that the program may use.
const MEMORY_MAX_KIB: u64 = 100 * 1024;

type Script = dyn Fn(&mut Call<'_>) + Send + Sync;

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    pub(crate) create: bool,
    pub(crate) update: bool,
    /// The reference of a Create, otherwise the last segment of the path.
    pub(crate) reference: String,
    pub(crate) head: String,
}

/// The customers of the server: reference → id and how often it was created.
#[derive(Default)]
struct Api {
    customers: BTreeMap<String, (String, u32)>,
    received: Vec<ReceivedRequest>,
    /// Number of Creates for a reference that already existed.
    refused: u32,
}

struct Shared {
    api: Mutex<Api>,
    script: Mutex<Arc<Script>>,
    /// Sent to each client before anything is read; for this many connections.
    greeting: Mutex<(Vec<u8>, usize)>,
    /// The process whose memory is watched; `None` while it is being started.
    watched: Mutex<Option<u32>>,
    known: Condvar,
    peak_kib: AtomicU64,
    connections: AtomicUsize,
    gone: AtomicBool,
}

pub(crate) struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// A request that waits for its response.
pub(crate) struct Call<'a> {
    pub(crate) request: ReceivedRequest,
    stream: &'a mut TcpStream,
    shared: &'a Shared,
    keep: bool,
}

impl Wire {
    /// A server that handles every request with this script.
    pub(crate) fn new(script: impl Fn(&mut Call<'_>) + Send + Sync + 'static) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            api: Mutex::default(),
            script: Mutex::new(Arc::new(script)),
            greeting: Mutex::default(),
            watched: Mutex::default(),
            known: Condvar::new(),
            peak_kib: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            gone: AtomicBool::new(false),
        });
        let at_the_door = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if at_the_door.gone.load(SeqCst) {
                    return;
                }
                at_the_door.connections.fetch_add(1, SeqCst);
                let shared = Arc::clone(&at_the_door);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Wire { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Uses another script from the next request on.
    pub(crate) fn play(&self, script: impl Fn(&mut Call<'_>) + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Arc::new(script);
    }

    /// Sends these bytes to the next `connections` clients before they have sent anything.
    pub(crate) fn greet(&self, bytes: impl Into<Vec<u8>>, connections: usize) {
        *self.shared.greeting.lock().unwrap() = (bytes.into(), connections);
    }

    /// Imports a file with this server as the API, and watches the program's memory.
    pub(crate) fn import(&self, world: &World, file: &Path, more: &[&str]) -> Done {
        finish(self.start(world, file, more, |_| {}))
    }

    pub(crate) fn start(
        &self,
        world: &World,
        file: &Path,
        more: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Child {
        let url = self.url();
        let args = world.import_args(file, &[&["--base-url", &url][..], more].concat());
        let mut command = world.command(&args);
        change(&mut command);
        *self.shared.watched.lock().unwrap() = None;
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        *self.shared.watched.lock().unwrap() = Some(child.id());
        self.shared.known.notify_all();
        child
    }

    /// Watches no process, for programs that were not started by [`Wire::start`].
    pub(crate) fn watch_nobody(&self) {
        *self.shared.watched.lock().unwrap() = Some(0);
        self.shared.known.notify_all();
    }

    pub(crate) fn received(&self) -> Vec<ReceivedRequest> {
        self.shared.api.lock().unwrap().received.clone()
    }

    pub(crate) fn creates_of(&self, reference: &str) -> usize {
        self.received().iter().filter(|request| request.create && request.reference == reference).count()
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }

    /// Reference → id of the customers created; asserts that each was created once.
    pub(crate) fn customers(&self) -> BTreeMap<String, String> {
        let api = self.shared.api.lock().unwrap();
        assert!(api.customers.values().all(|(_, times)| *times == 1), "a customer was made twice");
        api.customers.iter().map(|(reference, (id, _))| (reference.clone(), id.clone())).collect()
    }

    /// Asserts that no reference got a second Create.
    pub(crate) fn assert_no_second_create(&self) {
        assert_eq!(self.shared.api.lock().unwrap().refused, 0, "a Create for a customer that was there");
    }

    /// Asserts that the program was observed at work, and never used much memory.
    pub(crate) fn assert_small(&self) {
        let peak = self.shared.peak_kib.load(SeqCst);
        assert!(peak < MEMORY_MAX_KIB, "{peak} KiB of memory");
        assert!(peak > 0 || !cfg!(target_os = "linux"), "nobody looked");
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.gone.store(true, SeqCst);
        // Wakes the accepting thread; the other threads end with the program.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    /// Records the program's peak memory. The peak only grows, so checking at each event misses nothing before the
    /// event.
    fn record_memory(&self) {
        let mut watched = self.watched.lock().unwrap();
        while watched.is_none() {
            watched = self.known.wait(watched).unwrap();
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", watched.unwrap_or(0)));
        let status = status.unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok());
        self.peak_kib.fetch_max(peak.unwrap_or(0), SeqCst);
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) {
    let greeting = {
        let mut greeting = shared.greeting.lock().unwrap();
        greeting.1.checked_sub(1).map(|left| {
            greeting.1 = left;
            greeting.0.clone()
        })
    };
    if greeting.is_some_and(|greeting| stream.write_all(&greeting).is_err()) {
        return;
    }
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = read_request(&mut reader) {
        shared.record_memory();
        shared.api.lock().unwrap().received.push(request.clone());
        let script = Arc::clone(&shared.script.lock().unwrap());
        let mut call = Call { request, stream: &mut stream, shared, keep: true };
        script(&mut call);
        let keep = call.keep;
        shared.record_memory();
        if !keep {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<ReceivedRequest> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).unwrap();
    let path = head.split(' ').nth(1).unwrap();
    let create = head.starts_with("POST ") && path.ends_with("/customers");
    let update = head.starts_with("POST ") && !create;
    let reference = if create {
        let mut pairs = form_urlencoded::parse(body.as_bytes());
        // A JSON body has no such pair.
        pairs.find(|(name, _)| *name == "object_reference_id").unwrap_or_default().1.into_owned()
    } else {
        let name = path.rsplit('/').next().unwrap();
        percent_encoding::percent_decode_str(name).decode_utf8().unwrap().into_owned()
    };
    Some(ReceivedRequest { create, update, reference, head })
}

impl Call<'_> {
    /// Creates the customer if there is none; returns the true response to a Create.
    pub(crate) fn create(&mut self) -> Vec<u8> {
        let reference = &self.request.reference;
        let mut api = self.shared.api.lock().unwrap();
        if api.customers.contains_key(reference) {
            api.refused += 1;
            return json(
                400,
                r#"{"status":"invalid_request_error","error_code":"unique","error_message":"exists"}"#,
            );
        }
        let id = format!("cst_true{:06}", api.customers.len());
        api.customers.insert(reference.clone(), (id.clone(), 1));
        customer(&id, reference)
    }

    /// The true response to a Get.
    pub(crate) fn find(&self) -> Vec<u8> {
        let reference = &self.request.reference;
        let api = self.shared.api.lock().unwrap();
        match api.customers.get(reference) {
            Some((id, _)) => customer(id, reference),
            None => json(404, r#"{"status":"invalid_request_error","error_code":"object_not_found"}"#),
        }
    }

    /// Sends the true response.
    pub(crate) fn answer_honestly(&mut self) {
        let answer = if self.request.create { self.create() } else { self.find() };
        self.send(answer);
    }

    /// Sends bytes; false if the other side has closed the connection.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = self.stream.write_all(bytes.as_ref()).is_ok();
        self.keep &= sent;
        sent
    }

    /// Sends the same bytes this many times, or until the other side closes the connection.
    pub(crate) fn flood(&mut self, bytes: &[u8], times: usize) {
        for _ in 0..times {
            if !self.send(bytes) {
                return;
            }
            self.shared.record_memory();
        }
    }

    /// Sends one byte, pauses, sends one byte, as long as the other side stays connected.
    pub(crate) fn drip(&mut self, bytes: &[u8], pause: Duration) {
        self.stream.set_read_timeout(Some(pause)).unwrap();
        for byte in bytes.iter().chain(std::iter::repeat(&b' ')) {
            // The client sends nothing after a request, so this read waits for the end or the pause.
            let waiting = self.stream.read(&mut [0; 64]);
            let left = !waiting
                .is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
            if left || !self.send([*byte]) {
                break;
            }
        }
        self.keep = false;
    }

    /// Sends nothing more until the other side closes the connection.
    pub(crate) fn hang(&mut self) {
        while self.stream.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
        self.keep = false;
    }

    pub(crate) fn close(&mut self) {
        self.keep = false;
    }
}

/// A script that sends only true responses.
pub(crate) fn honest(call: &mut Call<'_>) {
    call.answer_honestly();
}

/// A well-formed response with this body.
pub(crate) fn json(status: u16, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 {status} Told\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The server's own clock.
#[expect(clippy::disallowed_methods, reason = "the server's clock, not the program's")]
pub(crate) fn clock() -> SystemTime {
    SystemTime::now()
}

/// The body of a true response about a customer created just now.
pub(crate) fn customer_body(id: &str, reference: &str) -> String {
    let now = humantime::format_rfc3339_seconds(clock());
    format!(
        r#"{{"id":"{id}","object":"customer","object_reference_id":"{reference}","date_created":"{now}"}}"#
    )
}

fn customer(id: &str, reference: &str) -> Vec<u8> {
    json(200, customer_body(id, reference))
}

/// The body of a response.
pub(crate) fn body_of(answer: &[u8]) -> Vec<u8> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    answer[end + 4..].to_vec()
}
