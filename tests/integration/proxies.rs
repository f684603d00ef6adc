//! Proxies from the environment: the proxy shown is the one used, and one that cannot be used ends the command at
//! once.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
};

use crate::{
    door::{Door, NAME},
    forwarder::{Admission, Forwarder, LOGIN},
    world::{Done, World, done, files, references},
};

/// Imports this file to a URL, with these variables.
fn import(world: &World, url: &str, more: &[&str], variables: &[(&str, &str)]) -> Done {
    let file = world.rows("rows.csv", 3);
    let more = [&["--base-url", url, "--outage-limit", "1s", "--allow-insecure-http"], more].concat();
    let mut command = world.command(&world.import_args(&file, &more));
    done(command.envs(variables.iter().copied()).output().unwrap())
}

/// Asserts that the import went through the proxy, and that every row was created once.
#[track_caller]
fn assert_through(world: &World, done: &Done, proxy: &Forwarder, requested: &str) {
    assert_eq!(done.code, 0, "{done:?}");
    world.assert_agreement(references(0..3));
    let all = proxy.requested_hosts();
    assert!(!all.is_empty() && all.iter().all(|line| line.starts_with(requested)), "{all:?}");
}

#[test]
fn https_goes_through_a_tunnel() {
    for (admission, login, variable) in
        [(Admission::Anyone, "", "HTTPS_PROXY"), (Admission::Login, LOGIN, "all_proxy")]
    {
        let world = World::new();
        let door = Door::with_certificate(world.simulator.address());
        let ca = world.file("ca.pem", &door.ca);
        let proxy = Forwarder::http(door.address(), admission);
        let value = format!("http://{login}{}", proxy.address());
        let more = ["--ca-file", ca.to_str().unwrap()];
        let done = import(&world, &format!("https://{NAME}"), &more, &[(variable, &value)]);
        assert_through(&world, &done, &proxy, &format!("CONNECT {NAME}:443"));
    }
}

/// The connection to a proxy may use TLS, with TLS to the API inside.
#[test]
fn https_goes_through_a_proxy_that_encrypts() {
    let world = World::new();
    let door = Door::with_certificate(world.simulator.address());
    let proxy = Forwarder::http(door.address(), Admission::Login);
    let before_proxy = Door::with_certificate(proxy.address().parse().unwrap());
    let ca = world.file("ca.pem", format!("{}{}", door.ca, before_proxy.ca));
    let value = format!("https://{LOGIN}{}", before_proxy.address());
    let more = ["--ca-file", ca.to_str().unwrap()];
    let done = import(&world, &format!("https://{NAME}"), &more, &[("HTTPS_PROXY", &value)]);
    assert_through(&world, &done, &proxy, &format!("CONNECT {NAME}:443"));
    before_proxy.shut();
    let refused = import(
        &world,
        &format!("https://{NAME}"),
        &[&more[..], &["--ledger", "l.db"]].concat(),
        &[("HTTPS_PROXY", &value)],
    );
    refused.assert_error_line(4, &["certificate of 127.0.0.1 is refused"]);
}

#[test]
fn plain_http_goes_through_the_proxy_too() {
    for (admission, login) in [(Admission::Anyone, ""), (Admission::Login, LOGIN)] {
        let world = World::new();
        let proxy = Forwarder::http(world.simulator.address(), admission);
        let value = format!("{login}{}", proxy.address());
        let done = import(&world, &format!("http://{NAME}"), &[], &[("HTTP_PROXY", &value)]);
        assert_through(&world, &done, &proxy, &format!("POST http://{NAME}/customers"));
    }
}

#[test]
fn socks_goes_through_and_the_proxy_looks_the_name_up() {
    for (admission, login) in [(Admission::Anyone, ""), (Admission::Login, LOGIN)] {
        let world = World::new();
        let proxy = Forwarder::socks(world.simulator.address(), admission);
        let value = format!("socks5h://{login}{}", proxy.address());
        let done = import(&world, &format!("http://{NAME}:81"), &[], &[("ALL_PROXY", &value)]);
        assert_through(&world, &done, &proxy, &format!("{NAME}:81"));
    }
}

/// One request detects it; the rows stay pending.
#[test]
fn a_refused_login_ends_the_run_at_once() {
    let world = World::new();
    let behind = world.simulator.address();
    let (http, socks) =
        (Forwarder::http(behind, Admission::Login), Forwarder::socks(behind, Admission::Login));
    for (scheme, proxy, target) in
        [("http", &http, "https"), ("http", &http, "http"), ("socks5h", &socks, "https")]
    {
        for login in ["", "user:kept-secret@"] {
            let value = format!("{scheme}://{login}{}", proxy.address());
            let variable = if target == "https" { "HTTPS_PROXY" } else { "http_proxy" };
            let url = format!("{target}://{NAME}");
            let done =
                import(&world, &url, &["--ledger", "l.db", "--outage-limit", "10m"], &[(variable, &value)]);
            done.assert_error_line(4, &[variable, "login", "run the same command again"]);
            assert!(!format!("{done:?}").contains("kept-secret"), "{done:?}");
            assert_eq!(world.outcomes(), "pending=3");
            std::fs::remove_file(world.path("l.db")).unwrap();
        }
    }
    assert_eq!(world.journal().created().len(), 0);
}

#[test]
fn a_variable_that_cannot_be_read_is_refused_before_anything_is_made() {
    for (variable, value) in [
        ("HTTPS_PROXY", "http://user:kept-secret@[bad"),
        ("https_proxy", "htp://user:kept-secret@p:3128"),
        ("ALL_PROXY", "http://user:kept/secret@p"),
        ("HTTPS_PROXY", "http://"),
    ] {
        let world = World::new();
        let refused = import(&world, &format!("https://{NAME}"), &[], &[(variable, value)]);
        refused.assert_error(2, &[variable, "scheme://"]);
        assert!(!refused.stderr.contains("secret"), "{refused:?}");
        assert_eq!(files(world.folder.path()).into_iter().collect::<Vec<_>>(), ["rows.csv"]);
        let mut config = world.command(&["config", "import", "--base-url", "https://api.example.test"]);
        done(config.env(variable, value).output().unwrap()).assert_error(2, &[variable]);
    }
    let world = World::new();
    for list in ["10.0.0.0/99", "localhost;192.168.", "localhost, \"api.example.test\""] {
        let variables = [("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", list)];
        let refused = import(&world, &format!("https://{NAME}"), &[], &variables);
        refused.assert_error(2, &["NO_PROXY", "is not a host, address or network (entry "]);
    }
}

#[test]
fn loopback_and_exceptions_go_directly() {
    let world = World::new();
    let proxy = Forwarder::http(world.simulator.address(), Admission::Nobody);
    let value = proxy.address();
    let done = import(&world, &world.base_url(), &[], &[("HTTP_PROXY", &value), ("ALL_PROXY", "ht tp")]);
    assert_eq!((done.code, proxy.requested_hosts()), (0, Vec::new()), "{done:?}");
    // Only the proxy can resolve the name.
    let excepted = [("HTTP_PROXY", &*value), ("NO_PROXY", ".example.test")];
    let done = import(&world, &format!("http://{NAME}"), &["--ledger", "l.db"], &excepted);
    done.assert_error_line(4, &["no response for", NAME]);
    assert_eq!(proxy.requested_hosts(), Vec::<String>::new());
}

#[test]
fn a_proxy_that_is_away_or_denies_the_host_is_named() {
    let world = World::new();
    let denies = Forwarder::http(world.simulator.address(), Admission::Nobody);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for (address, words) in [(denies.address(), "refuses to connect"), (closed, "connection refused")] {
        let value = format!("http://user:kept-secret@{address}");
        let done = import(&world, &format!("https://{NAME}"), &[], &[("HTTPS_PROXY", &value)]);
        let hint = "see that the proxy of HTTPS_PROXY is up and may connect";
        done.assert_error_line(4, &[&address, "HTTPS_PROXY", words, hint]);
        assert!(!done.stderr.contains("secret"), "{done:?}");
    }
}

/// For plain HTTP, a proxy answers with a page of its own in place of the API.
#[test]
fn a_page_of_the_proxy_is_no_answer_of_the_api() {
    for (status, words) in [
        ("403 Forbidden", "HTTP 403, something between here and the API answered in its place"),
        ("502 Bad Gateway", "HTTP 502, an answer that is not the API's JSON"),
    ] {
        let world = World::new();
        let page = format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>");
        let proxy = speaking(vec![page.into_bytes()]).to_string();
        let done = import(&world, &format!("http://{NAME}"), &[], &[("HTTP_PROXY", &proxy)]);
        done.assert_error_line(4, &[words, "check the network, the proxy of HTTP_PROXY, --base-url"]);
        assert_eq!(world.outcomes(), "pending=3");
    }
}

/// The pages of Squid say whether the request was sent. Where it was not, the proxy is named as for a tunnel.
#[test]
fn a_page_of_the_proxy_says_why_it_did_not_send_a_request() {
    for (head, words) in [
        ("503 Service Unavailable\r\nX-Squid-Error: ERR_CONNECT_FAIL 111", "does not reach"),
        ("503 Service Unavailable\r\nX-Squid-Error: ERR_DNS_FAIL 0", "does not find the name of"),
        ("403 Forbidden\r\nX-Squid-Error: ERR_ACCESS_DENIED 0", "does not allow requests to"),
        ("502 Bad Gateway\r\nX-Squid-Error: ERR_READ_ERROR 104", "reports a failure, asked for"),
        ("500 Unable to connect\r\nServer: tinyproxy/1.11.1", "answered by a page of its own"),
    ] {
        let world = World::new();
        let page = format!("HTTP/1.1 {head}\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>");
        let proxy = speaking(vec![page.into_bytes()]).to_string();
        let done = import(&world, &format!("http://{NAME}"), &[], &[("HTTP_PROXY", &proxy)]);
        let named = format!("the proxy {proxy} (HTTP_PROXY) {words}");
        done.assert_error_line(4, &[&named, NAME]);
        let warning = done.stderr.lines().find(|line| line.contains("cause=")).unwrap();
        assert!(warning.contains(&named), "{warning}");
        assert!(!done.stderr.contains("asks for a pause"), "{done:?}");
        assert_eq!(world.outcomes(), "pending=3");
    }
}

#[test]
fn config_shows_the_proxy_in_effect() {
    let world = World::new();
    let proxy = ("HTTPS_PROXY", "http://user:kept-secret@proxy.example:3128");
    for (args, variables, value, origin) in [
        (&[][..], &[][..], "none", "default"),
        (&[], &[proxy], "http://(not shown)@proxy.example:3128", "environment HTTPS_PROXY"),
        (&[], &[proxy, ("no_proxy", "juspay.in")], "none", "environment no_proxy"),
        (&[], &[proxy, ("NO_PROXY", "localhost;*.juspay.in")], "none", "environment NO_PROXY"),
        (&["--base-url", "https://localhost:1"], &[proxy], "none", "the target is this machine"),
        (&["--simulator"], &[proxy], "none", "the target is this machine"),
        (&["--base-url", "http://a.example"], &[proxy], "none", "default"),
    ] {
        let mut command = world.command(&[&["config", "import"], args].concat());
        let done = done(command.envs(variables.iter().copied()).output().unwrap());
        let line = done.stdout.lines().find(|line| line.trim_start().starts_with("Proxy ")).unwrap();
        assert!(line.contains(value) && line.ends_with(origin) && !line.contains("secret"), "{line}");
    }
}

/// A server that sends these bytes, one response per request, and closes the connection.
fn speaking(answers: Vec<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut heard = [0; 4096];
            for answer in &answers {
                let is_heard = stream.read(&mut heard).is_ok_and(|count| count > 0);
                if !is_heard || stream.write_all(answer).is_err() {
                    break;
                }
            }
        }
    });
    address
}

/// A sentence that an operator can act on, instead of a library's message.
#[test]
fn what_a_proxy_answers_is_said_with_its_name_and_without_its_login() {
    let reply = |code: u8| vec![vec![5, 0], vec![5, code, 0, 1, 0, 0, 0, 0, 0, 0]];
    for (scheme, answers, words) in [
        ("socks5h", reply(1), "reports a failure of its own, asked for api.example.com:80; see its log"),
        ("socks5h", reply(2), "does not allow connections to api.example.com:80"),
        ("socks5h", reply(4), "does not reach api.example.com:80"),
        ("socks5h", reply(5), "is refused by api.example.com:80"),
        ("socks5h", reply(8), "takes no such address"),
        ("socks5h", vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()], "does not answer by SOCKS"),
        ("https-tunnel", vec![Vec::new()], "closes the connection in place of a tunnel"),
    ] {
        let world = World::new();
        let proxy = speaking(answers);
        let (target, variable, scheme) = match scheme {
            "https-tunnel" => ("https://api.example.com", "HTTPS_PROXY", "http"),
            scheme => ("http://api.example.com", "HTTP_PROXY", scheme),
        };
        let value = format!("{scheme}://{proxy}");
        let done = import(&world, target, &[], &[(variable, &value)]);
        assert_eq!(done.code, 4, "{done:?}");
        let named = format!("the proxy {proxy} ({variable}) {words}");
        assert!(done.stderr.contains(&named), "{named}: {done:?}");
    }
}

#[test]
fn a_connection_that_is_closed_is_said_with_the_host() {
    for (answer, words) in [
        (&b""[..], "it closed the connection; check what is in between"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"a", "the connection was closed"),
        (b"220 mail.example.com ESMTP\r\n", "does not speak HTTP as this program knows it"),
    ] {
        let world = World::new();
        let server = speaking(vec![answer.to_vec()]);
        let done = import(&world, &format!("http://{server}"), &[], &[]);
        assert_eq!(done.code, 4, "{done:?}");
        let named = format!("no whole answer from {server}: ");
        assert!(done.stderr.contains(&named) && done.stderr.contains(words), "{done:?}");
    }
}
