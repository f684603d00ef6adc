//! A door in front of the simulator, for failures that only a network has.
//!
//! The simulator can refuse, reset and hang; it cannot lose packets or present a wrong certificate. Both are done
//! here with real sockets and without privileges: if a listener accepts no connection and its queue is full, the
//! kernel drops each further SYN, which looks like a firewall that drops packets.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Runtime,
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ConfigBuilder, RootCertStore, ServerConfig,
        pki_types::PrivateKeyDer,
        server::{WantsServerCert, WebPkiClientVerifier},
    },
};

/// The name of the server, if it has one.
pub(crate) const NAME: &str = "api.example.test";

/// The issuer of its certificate.
pub(crate) const AUTHORITY: &str = "Authority of the Door";

pub(crate) struct Door {
    address: SocketAddr,
    open: watch::Sender<bool>,
    /// Connections that fill the queue while the door is shut.
    waiting: Mutex<Vec<std::net::TcpStream>>,
    /// The certificate to trust, in PEM; empty if the door does not encrypt.
    pub(crate) ca: String,
    _runtime: Runtime,
}

#[derive(Clone)]
struct Certificates {
    right: TlsAcceptor,
    wrong: TlsAcceptor,
}

impl Door {
    /// A door that drops every packet while it is shut.
    pub(crate) fn that_swallows_packets(behind: SocketAddr) -> Door {
        Door::new(behind, None, String::new())
    }

    /// A door that encrypts, and presents an untrusted certificate while it is shut.
    pub(crate) fn with_certificate(behind: SocketAddr) -> Door {
        let (ca, right) = certificate();
        let (_, wrong) = certificate();
        Door::new(behind, Some(Certificates { right, wrong }), ca)
    }

    /// A door that accepts only clients with the returned certificate, in PEM, with its key.
    pub(crate) fn for_a_client_certificate(behind: SocketAddr) -> (Door, [String; 2]) {
        let authority = authority();
        let key = KeyPair::generate().unwrap();
        let client = CertificateParams::new(vec!["client".to_owned()]).unwrap();
        let client = client.signed_by(&key, &authority).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
        let right = acceptor(&authority, ServerConfig::builder().with_client_cert_verifier(verifier));
        let certificates = Certificates { wrong: right.clone(), right };
        (Door::new(behind, Some(certificates), authority.pem()), [client.pem(), key.serialize_pem()])
    }

    fn new(behind: SocketAddr, certificates: Option<Certificates>, ca: String) -> Door {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(async { listen() }).unwrap();
        let address = listener.local_addr().unwrap();
        let (open, seen) = watch::channel(true);
        runtime.spawn(serve(listener, behind, certificates, seen));
        Door { address, open, waiting: Mutex::default(), ca, _runtime: runtime }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.ca.is_empty() { "http" } else { "https" };
        format!("{scheme}://{}", self.address)
    }

    /// Shuts the door; it is shut when this returns.
    pub(crate) fn shut(&self) {
        self.open.send_replace(false);
        if !self.ca.is_empty() {
            return;
        }
        let began = Instant::now();
        let mut waiting = self.waiting.lock().unwrap();
        // The queue is full once a connection is not accepted any more.
        while let Ok(connection) =
            std::net::TcpStream::connect_timeout(&self.address, Duration::from_millis(300))
        {
            waiting.push(connection);
            assert!(began.elapsed() < Duration::from_secs(10), "the door does not shut");
        }
    }

    pub(crate) fn open(&self) {
        self.waiting.lock().unwrap().clear();
        self.open.send_replace(true);
    }
}

fn listen() -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    // The shortest queue that suffices for a client that connects many times at once.
    socket.listen(64)
}

/// A certificate from a new authority: the authority's PEM, and the server's side.
fn certificate() -> (String, TlsAcceptor) {
    let authority = authority();
    (authority.pem(), acceptor(&authority, ServerConfig::builder().with_no_client_auth()))
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, AUTHORITY);
    CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap()
}

/// The server's side of a certificate of 127.0.0.1 and [`NAME`].
fn acceptor(
    authority: &CertifiedIssuer<'static, KeyPair>,
    config: ConfigBuilder<ServerConfig, WantsServerCert>,
) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned(), NAME.to_owned()]).unwrap();
    let server = server.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = config.with_single_cert(vec![server.der().clone()], key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(
    listener: TcpListener,
    behind: SocketAddr,
    certificates: Option<Certificates>,
    mut open: watch::Receiver<bool>,
) {
    let mut tasks = JoinSet::new();
    loop {
        if certificates.is_none() && open.wait_for(|open| *open).await.is_err() {
            return;
        }
        tokio::select! {
            biased;
            _ = open.changed(), if certificates.is_none() => {}
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { return };
                tasks.spawn(let_through(stream, behind, certificates.clone(), open.clone()));
            }
        }
    }
}

async fn let_through(
    stream: TcpStream,
    behind: SocketAddr,
    certificates: Option<Certificates>,
    mut open: watch::Receiver<bool>,
) {
    let Ok(to) = TcpStream::connect(behind).await else { return };
    let Some(Certificates { right, wrong }) = certificates else {
        return copy_both(stream, to, open).await;
    };
    let acceptor = if *open.borrow_and_update() { right } else { wrong };
    let Ok(stream) = acceptor.accept(stream).await else { return };
    tokio::select! {
        () = copy_both(stream, to, watch::channel(true).1) => {}
        // Connected clients have to request the certificate again.
        _ = open.changed() => {}
    }
}

/// Copies in both directions, but no byte while the door is shut.
async fn copy_both(a: impl AsyncRead + AsyncWrite, b: TcpStream, open: watch::Receiver<bool>) {
    let ((from_a, to_a), (from_b, to_b)) = (split(a), b.into_split());
    tokio::select! {
        () = copy(from_a, to_b, open.clone()) => {}
        () = copy(from_b, to_a, open) => {}
    }
}

async fn copy(from: impl AsyncRead, to: impl AsyncWrite, mut open: watch::Receiver<bool>) {
    let (mut from, mut to) = (Box::pin(from), Box::pin(to));
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        // Fails only if nobody can shut the door.
        drop(open.wait_for(|open| *open).await);
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
