//! A proxy for tests: HTTP with and without CONNECT, and SOCKS5, with or without a login.
//!
//! Whatever host is requested, it connects to one address, so that a name that no resolver has leads to the
//! simulator. It records the requested hosts.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// A login that these proxies may require: `user` and `p@ss`, in the encoding of a URL and of a header.
pub(crate) const LOGIN: &str = "user:p%40ss@";
const BASIC: &str = "proxy-authorization: basic dxnlcjpwqhnz";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    Anyone,
    Login,
    Nobody,
}

pub(crate) struct Forwarder {
    address: SocketAddr,
    requested: Arc<Mutex<Vec<String>>>,
}

impl Forwarder {
    pub(crate) fn http(behind: SocketAddr, admission: Admission) -> Forwarder {
        Forwarder::new(move |client, requested| http(client, behind, admission, requested))
    }

    pub(crate) fn socks(behind: SocketAddr, admission: Admission) -> Forwarder {
        Forwarder::new(move |client, requested| socks(client, behind, admission, requested))
    }

    fn new(
        serve: impl Fn(TcpStream, &Mutex<Vec<String>>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Forwarder {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let forwarder = Forwarder { address: listener.local_addr().unwrap(), requested: Arc::default() };
        let (requested, serve) = (Arc::clone(&forwarder.requested), Arc::new(serve));
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let (requested, serve) = (Arc::clone(&requested), Arc::clone(&serve));
                // The thread ends with the connection; the program has to detect any error on it.
                std::thread::spawn(move || drop(serve(client, &requested)));
            }
        });
        forwarder
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// The hosts that connections requested.
    pub(crate) fn requested_hosts(&self) -> Vec<String> {
        self.requested.lock().unwrap().clone()
    }
}

fn http(
    mut client: TcpStream,
    behind: SocketAddr,
    admission: Admission,
    requested: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let line = head.lines().next().unwrap_or_default().to_owned();
    requested.lock().unwrap().push(line.split(' ').take(2).collect::<Vec<_>>().join(" "));
    if admission == Admission::Nobody {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    if admission == Admission::Login && !head.to_lowercase().contains(BASIC) {
        return client.write_all(
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\
              Content-Length: 0\r\nConnection: close\r\n\r\n",
        );
    }
    let mut server = TcpStream::connect(behind)?;
    if line.starts_with("CONNECT ") {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    } else {
        server.write_all(head.as_bytes())?;
    }
    let early = reader.buffer().to_vec();
    server.write_all(&early)?;
    splice(client, server)
}

fn socks(
    mut client: TcpStream,
    behind: SocketAddr,
    admission: Admission,
    requested: &Mutex<Vec<String>>,
) -> io::Result<()> {
    fn take(client: &mut TcpStream, length: u8) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length.into()];
        client.read_exact(&mut bytes)?;
        Ok(bytes)
    }
    let methods = take(&mut client, 2)?[1];
    let methods = take(&mut client, methods)?;
    if admission == Admission::Login {
        if !methods.contains(&2) {
            return client.write_all(&[5, 0xff]);
        }
        client.write_all(&[5, 2])?;
        let length = take(&mut client, 2)?[1];
        let name = take(&mut client, length)?;
        let length = take(&mut client, 1)?[0];
        let is_right = name == b"user" && take(&mut client, length)? == b"p@ss";
        client.write_all(&[1, u8::from(!is_right)])?;
        if !is_right {
            return Ok(());
        }
    } else {
        client.write_all(&[5, 0])?;
    }
    let request = take(&mut client, 5)?;
    assert_eq!(request[3], 3, "the name is looked up by the proxy");
    let host = take(&mut client, request[4])?;
    let port = take(&mut client, 2)?;
    let port = u16::from_be_bytes([port[0], port[1]]);
    requested.lock().unwrap().push(format!("{}:{port}", String::from_utf8_lossy(&host)));
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    splice(client, TcpStream::connect(behind)?)
}

/// Copies in both directions until both have ended.
fn splice(client: TcpStream, server: TcpStream) -> io::Result<()> {
    fn copy(mut from: TcpStream, mut to: TcpStream) {
        drop(io::copy(&mut from, &mut to));
        drop(to.shutdown(Shutdown::Write));
    }
    let (from, to) = (server.try_clone()?, client.try_clone()?);
    let back = std::thread::spawn(move || copy(from, to));
    copy(client, server);
    back.join().map_err(|_| io::Error::other("the other way"))
}
