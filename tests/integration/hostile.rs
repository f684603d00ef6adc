//! A server that lies, stalls, floods and does not speak HTTP.
//!
//! The disaster: something other than the working API is behind the address, and the program treats its output as
//! replies. Then the ledger has an id that belongs to nobody, or a customer exists whose row is recorded as failed,
//! or the key goes to a stranger, or the machine runs out of memory. Whatever is sent here, each row's outcome must
//! be true, and the server's own record of its customers decides what is true.

use std::{
    fmt::Write as _,
    io::ErrorKind,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::{
    wire::{Call, Wire, body_of, customer_body, honest, json},
    world::{Done, KEY, World, cells, finish, references, signal, wait_until},
};

/// So many rows in flight that a few bad responses are not an outage, and one deadline for responses that never end.
const PATIENT: [&str; 8] =
    ["--concurrency", "4000", "--timeout", "400ms", "--max-attempts", "2", "--outage-limit", "20s"];

/// A deadline longer than any test may take, for responses that must not reach it.
const NO_HURRY: [&str; 8] =
    ["--concurrency", "4000", "--timeout", "60s", "--max-attempts", "2", "--outage-limit", "20s"];

const ROWS: usize = 3;

/// Asserts that the program did not panic, returned this code, printed an error on one line, and used little memory.
#[track_caller]
fn assert_sane(wire: &Wire, done: &Done, code: i32) {
    assert_eq!(done.code, code, "{done:?}");
    for text in [&done.stdout, &done.stderr] {
        assert!(!text.contains("panicked"), "{done:?}");
        assert!(!text.contains(KEY), "{done:?}");
    }
    assert!(done.stderr.matches("error:").count() <= 1, "{done:?}");
    wire.assert_small();
}

/// Asserts that the ledger has each row once, with the id that the API assigned, and that no row is open.
#[track_caller]
fn assert_true_ids(world: &World, wire: &Wire, rows: usize) {
    let made = wire.customers();
    assert_eq!(made.keys().cloned().collect::<Vec<_>>(), references(0..rows).collect::<Vec<_>>());
    let exported = world.export("created");
    let known: Vec<(&String, &String)> = exported.iter().map(|row| (&row[0], &row[1])).collect();
    assert_eq!(known, made.iter().collect::<Vec<_>>());
    assert_eq!(world.number("select count(*) from claim"), 0);
    wire.assert_no_second_create();
}

/// Sends something in place of the true response, which is the argument.
type Lie = Arc<dyn Fn(&mut Call<'_>, &[u8]) + Send + Sync>;

fn lie(lie: impl Fn(&mut Call<'_>, &[u8]) + Send + Sync + 'static) -> Lie {
    Arc::new(lie)
}

/// Sends the lie for this row: the n-th row of the file gets the n-th lie.
fn send_lie(lies: &[Lie], call: &mut Call<'_>, truth: &[u8]) {
    let number: usize = call.request.reference.trim_start_matches("cust-").parse().unwrap();
    lies[number](call, truth);
}

/// Lies without information, in response to Creates that landed, to Creates that did not, and to all requests
/// forever.
#[track_caller]
fn say_nothing(lies: &[Lie]) {
    landed(&PATIENT, lies);
    not_landed(lies);
    for_ever(lies);
}

/// Sends lies about Creates that landed, and true responses to Gets.
#[track_caller]
fn landed(more: &[&str], lies: &[Lie]) {
    let world = World::new();
    let file = world.rows("users.csv", lies.len());
    let to_tell = lies.to_vec();
    let wire = Wire::new(move |call| {
        if !call.request.create {
            return call.answer_honestly();
        }
        let truth = call.create();
        send_lie(&to_tell, call, &truth);
    });
    let done = wire.import(&world, &file, more);
    assert_eq!(world.export("failed"), Vec::<Vec<String>>::new());
    assert_sane(&wire, &done, 0);
    assert_eq!(world.outcomes(), format!("created={}", lies.len()));
    assert_true_ids(&world, &wire, lies.len());
    let gets = wire.received().iter().filter(|request| !request.create).count();
    assert!(gets >= lies.len(), "a lie was believed");
}

/// Sends lies about Creates that did not land. Get reports that, and so `failed` is true.
#[track_caller]
fn not_landed(lies: &[Lie]) {
    let world = World::new();
    let file = world.rows("users.csv", lies.len());
    let to_tell = lies.to_vec();
    let wire = Wire::new(move |call| {
        if !call.request.create {
            return call.answer_honestly();
        }
        let body = customer_body("cst_nobody", &call.request.reference);
        send_lie(&to_tell, call, &json(200, body));
    });
    let done = wire.import(&world, &file, &PATIENT);
    assert_sane(&wire, &done, 3);
    assert_eq!(world.outcomes(), format!("failed={}", lies.len()));
    wire.play(honest);
    assert_sane(&wire, &wire.import(&world, &file, &PATIENT), 0);
    assert_true_ids(&world, &wire, lies.len());
}

/// No request ever gets a true response: rows that may exist are `pending`, and the next run finds them.
#[track_caller]
fn for_ever(lies: &[Lie]) {
    let world = World::new();
    let rows = lies.len();
    let file = world.rows("users.csv", rows);
    let to_tell = lies.to_vec();
    let wire = Wire::new(move |call| {
        let truth = if call.request.create { call.create() } else { call.find() };
        send_lie(&to_tell, call, &truth);
    });
    let done = wire.import(&world, &file, &PATIENT);
    assert_sane(&wire, &done, 4);
    assert_eq!(world.outcomes(), format!("pending={rows}"));
    // None if the Create went into a connection that was closing: nobody can know whether it landed.
    for reference in references(0..rows) {
        assert!(wire.creates_of(&reference) <= 1, "nothing but Get after a Create that may have landed");
    }
    assert_eq!(world.number("select count(*) from every_row where in_doubt"), rows as u64);
    assert_eq!(world.export("created"), Vec::<Vec<String>>::new());
    wire.play(honest);
    assert_sane(&wire, &wire.import(&world, &file, &PATIENT), 0);
    assert_eq!(world.outcomes(), format!("created={rows}"));
    assert_true_ids(&world, &wire, rows);
}

/// Unusual responses that are valid: each is accepted at once, with one request per row.
#[track_caller]
fn are_answers(odd: &[Lie]) {
    let world = World::new();
    let rows = odd.len();
    let file = world.rows("users.csv", rows);
    let to_tell = odd.to_vec();
    let wire = Wire::new(move |call| {
        let truth = call.create();
        send_lie(&to_tell, call, &truth);
    });
    let done = wire.import(&world, &file, &NO_HURRY);
    assert_sane(&wire, &done, 0);
    assert_eq!(wire.received().len(), rows);
    assert_eq!(world.outcomes(), format!("created={rows}"));
    assert_true_ids(&world, &wire, rows);
    assert_eq!(wire.import(&world, &file, &[]).code, 0);
    assert_eq!(world.outcomes(), format!("unchanged={rows}"));
    assert_eq!(wire.received().len(), rows);
}

/// The true body under another head.
fn under(head: &'static str) -> Lie {
    lie(move |call, truth| {
        let body = body_of(truth);
        let length = format!("Content-Length: {}\r\n\r\n", body.len());
        call.send([head.as_bytes(), length.as_bytes(), &body].concat());
        call.close();
    })
}

/// Sends these bytes instead of a response, then closes the connection.
fn bytes(bytes: impl Into<Vec<u8>>) -> Lie {
    let bytes = bytes.into();
    lie(move |call, _| {
        call.send(&bytes);
        call.close();
    })
}

/// A well-formed 200 with this body; `{ref}` is replaced by the reference.
fn body(body: impl Into<String>) -> Lie {
    let body = body.into();
    lie(move |call, _| {
        let body = body.replace("{ref}", &call.request.reference);
        call.send(json(200, body));
    })
}

/// The size of a piece.
const PIECE: usize = 1 << 16;

#[test]
fn a_body_of_300_mb() {
    const BYTES: usize = 300 << 20;
    let flood = lie(|call, _| {
        call.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n"));
        call.flood(&[b'x'; PIECE], BYTES / PIECE);
        call.close();
    });
    let after_the_truth = lie(|call, truth| {
        call.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n"));
        call.send(body_of(truth));
        call.flood(&[b' '; PIECE], BYTES / PIECE);
        call.close();
    });
    say_nothing(&[flood, after_the_truth]);
}

#[test]
fn a_chunked_body_without_end() {
    let chunks = lie(|call, _| {
        call.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        call.flood(&[&b"10000\r\n"[..], &[b'x'; PIECE], b"\r\n"].concat(), usize::MAX);
        call.close();
    });
    // The extension of a chunk may also have any length.
    let extension = lie(|call, _| {
        call.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1");
        call.flood(&[b';'; PIECE], usize::MAX);
        call.close();
    });
    let trailers = lie(|call, truth| {
        let body = body_of(truth);
        call.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        call.send([format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n"].concat());
        call.flood(b"X-More: and more\r\n", usize::MAX);
        call.close();
    });
    say_nothing(&[chunks, extension, trailers]);
}

/// The deadline applies to the whole response: an occasional byte does not extend it.
#[test]
fn one_byte_a_second() {
    let in_the_head = lie(|call, truth| call.drip(truth, Duration::from_millis(50)));
    let in_the_body = lie(|call, truth| {
        call.send("HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n");
        call.drip(&body_of(truth), Duration::from_secs(1));
    });
    let in_a_chunk = lie(|call, truth| {
        call.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n");
        call.drip(&body_of(truth), Duration::from_millis(20));
    });
    let nothing = lie(|call, _| call.hang());
    let promises = lie(|call, _| {
        call.flood(b"HTTP/1.1 100 Continue\r\n\r\n", usize::MAX);
        call.close();
    });
    say_nothing(&[in_the_head, in_the_body, in_a_chunk, nothing, promises]);
}

#[test]
fn headers_without_end() {
    let many = lie(|call, _| {
        call.send("HTTP/1.1 200 OK\r\n");
        call.flood(b"X-More: and more\r\n", usize::MAX);
        call.close();
    });
    let one = lie(|call, _| {
        call.send("HTTP/1.1 200 OK\r\nX-More: ");
        call.flood(&[b'm'; PIECE], usize::MAX);
        call.close();
    });
    let lines = lie(|call, _| {
        call.flood(&[b'\n'; PIECE], usize::MAX);
        call.close();
    });
    say_nothing(&[many, one, lines]);
}

#[test]
fn a_body_cut_short() {
    let cut = lie(|call, truth| {
        call.send(&truth[..truth.len() - 10]);
        call.close();
    });
    // Even if the body received is complete: more was announced.
    let more_was_promised = lie(|call, truth| {
        call.send("HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n");
        call.send(body_of(truth));
        call.close();
    });
    let no_last_chunk = lie(|call, truth| {
        let body = body_of(truth);
        call.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        call.send([format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n"].concat());
        call.close();
    });
    let an_error = lie(|call, _| {
        call.send(
            "HTTP/1.1 400 Bad Request\r\nContent-Length: 4000\r\n\r\n{\"error_code\":\"INVALID_INPUT\"",
        );
        call.close();
    });
    let nothing = lie(|call, _| call.close());
    let mut lies = vec![cut, more_was_promised, no_last_chunk, an_error, nothing];
    // An HTTP/1.0 response ends with the connection: only its text shows that it was truncated.
    for cut in [1, 10, 40, 60] {
        lies.push(lie(move |call, truth| {
            let body = body_of(truth);
            call.send("HTTP/1.0 200 OK\r\n\r\n");
            call.send(&body[..body.len() - cut]);
            call.close();
        }));
    }
    say_nothing(&lies);
}

#[test]
fn a_wrong_length() {
    let mut lies = vec![lie(|call, truth| {
        let body = body_of(truth);
        call.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len() - 10));
        call.send(body);
    })];
    for length in [
        "Content-Length: 5\r\nContent-Length: 500",
        "Content-Length: -5",
        "Content-Length: 18446744073709551613",
        "Content-Length: 99999999999999999999",
        "Content-Length: five",
        "Content-Length:",
    ] {
        lies.push(bytes(format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n12345")));
    }
    for size in ["ffffffffffffffff", "fffffffffffffffffffffff", "-1", "zz", ""] {
        lies.push(bytes(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\n12345")));
    }
    say_nothing(&lies);
}

#[test]
fn another_content_type_or_none() {
    are_answers(&["Content-Type: text/html; charset=utf-7\r\n", "Content-Type: \r\n", "X-None: x\r\n"].map(
        |kind| {
            lie(move |call, truth| {
                let body = body_of(truth);
                call.send(format!("HTTP/1.1 200 OK\r\n{kind}Content-Length: {}\r\n\r\n", body.len()));
                call.send(body);
            })
        },
    ));
}

#[test]
fn a_body_that_is_no_customer() {
    let brackets = "[".repeat(30_000);
    let closed = "]".repeat(30_000);
    let texts = [
        "<html><body>Welcome to the hotel's wireless network, cst_guest</body></html>",
        "\0\0\0\0",
        "\0{\"id\":\"cst_lie\",\"object_reference_id\":\"{ref}\"}",
        "{\"id\":\"cst_lie\0\",\"object_reference_id\":\"{ref}\"}",
        r#"{"id":"cst_lie\u0000","object_reference_id":"{ref}"}"#,
        "{\"id\":\"cst_lie\",\"object_reference_id\":\"{ref}\"}\0",
        "null",
        "\"cst_lie\"",
        "[]",
        "[{\"id\":\"cst_lie\"}]",
        "{}",
        "7",
        "{\"customer\":{\"id\":\"cst_lie\"}}",
        r#"{"id":"cst_lie1","id":"cst_lie2","object_reference_id":"{ref}"}"#,
        r#"{"id":"ord_1","object":"order","object_reference_id":"{ref}"}"#,
        // Thirty thousand brackets must not overflow the stack.
        &brackets,
        &format!(r#"{{"id":{brackets}"#),
        &format!(r#"{{"id":{brackets}{closed},"object_reference_id":"{{ref}}"}}"#),
        &format!(r#"{{"juspay":{}"#, r#"{"a":"#.repeat(8_000)),
    ];
    let mut lies = texts.map(body).to_vec();
    lies.push(bytes(json(200, b"{\"id\":\"cst_lie\xff\xfe\",\"object_reference_id\":null}")));
    lies.push(bytes(b"HTTP/1.1 200 OK\r\nX-Nul: a\0b\r\nContent-Length: 0\r\n\r\n".as_slice()));
    say_nothing(&lies);
}

#[test]
fn an_id_of_another_type() {
    let ids = ["12345", "true", "null", "[\"cst_lie\"]", "{\"id\":\"cst_lie\"}", "1e999", "\"\""];
    say_nothing(&ids.map(|id| body(format!(r#"{{"id":{id},"object_reference_id":"{{ref}}"}}"#))));
}

#[test]
fn an_id_that_cannot_be_shown() {
    let ids = ["", " ", "cst_l\\ne", "\\u0000", "cth_\\u001b[31m"];
    say_nothing(&ids.map(|id| body(format!(r#"{{"id":"{id}","object_reference_id":"{{ref}}"}}"#))));
}

/// Prefix, length, case and characters of an id are not part of the contract.
#[test]
fn an_id_of_any_look() {
    let long = "a".repeat(5000);
    let ids = ["true000000", "12345", "cth_AbCdEfGh12345678", "CST_lie", "x", "é/ü", "cst_../../x", &long];
    let world = World::new();
    let file = world.rows("users.csv", ids.len());
    let sent_ids: Vec<String> = ids.map(str::to_owned).into();
    let wire = Wire::new(move |call| {
        let number: usize = call.request.reference.trim_start_matches("cust-").parse().unwrap();
        call.send(json(200, customer_body(&sent_ids[number], &call.request.reference)));
    });
    assert_sane(&wire, &wire.import(&world, &file, &NO_HURRY), 0);
    assert_eq!(wire.received().len(), ids.len());
    let exported = world.export("created");
    assert_eq!(exported.iter().map(|row| row[1].as_str()).collect::<Vec<_>>(), ids);
}

#[test]
fn customer_id_instead_of_id() {
    are_answers(&["customer_id", "Customer_id"].map(|name| {
        lie(move |call, truth| {
            let body = String::from_utf8(body_of(truth)).unwrap();
            call.send(json(200, body.replace("\"id\"", &format!("{name:?}"))));
        })
    }));
}

#[test]
fn an_answer_about_another_reference() {
    let others = ["{ref}x", "cust-999999", "cust 000000", "{ref}\\u0000", "\\u00a0x{ref}"];
    say_nothing(&others.map(|other| body(format!(r#"{{"id":"cst_lie","object_reference_id":"{other}"}}"#))));
}

/// The responses to two rows are exchanged: neither row may get the other's id.
#[test]
fn answers_that_are_exchanged() {
    let world = World::new();
    let file = world.rows("users.csv", 2);
    let wire = Wire::new(|call| {
        if call.request.create {
            call.create();
        }
        let exchanged = match &*call.request.reference {
            "cust-000000" => "cust-000001",
            _ => "cust-000000",
        };
        call.send(json(200, customer_body("cst_exchanged", exchanged)));
    });
    assert_sane(&wire, &wire.import(&world, &file, &PATIENT), 4);
    assert_eq!(world.outcomes(), "pending=2");
    assert_eq!(world.number("select count(*) from row where customer_id is not null"), 0);
    wire.play(honest);
    assert_sane(&wire, &wire.import(&world, &file, &PATIENT), 0);
    assert_true_ids(&world, &wire, 2);
}

/// A proxy that requires credentials refuses every row alike: no row is at fault.
#[test]
fn a_proxy_that_wants_credentials() {
    let world = World::new();
    let file = world.rows("users.csv", 20);
    let wire = Wire::new(|call| {
        call.send(json(407, "{}"));
    });
    let done = wire.import(&world, &file, &["--concurrency", "4"]);
    assert_eq!(done.code, 4, "{done:?}");
    assert!(done.stderr.contains("HTTP 407") && done.stderr.contains("HTTPS_PROXY"), "{done:?}");
    assert_eq!(world.outcomes(), format!("pending={}", world.summary()["rows"]));
}

/// Nothing at all reaches the other host, so neither does the key.
#[test]
fn a_redirect_to_another_host() {
    for (status, created) in [(301, false), (302, true), (303, false), (307, true), (308, false), (300, true)]
    {
        let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
        elsewhere.set_nonblocking(true).unwrap();
        let to = elsewhere.local_addr().unwrap();
        let world = World::new();
        let file = world.rows("users.csv", ROWS);
        let wire = Wire::new(move |call| {
            if created && call.request.create {
                // The following Get is redirected.
                call.create();
                call.send("HTTP/1.1 500 Lost\r\nContent-Length: 0\r\n\r\n");
                return;
            }
            let location = format!("http://{to}/customers");
            call.send(format!(
                "HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nContent-Location: {location}\r\n\
                     Refresh: 0; url={location}\r\nAlt-Svc: http/1.1=\"{to}\"\r\nContent-Length: 0\r\n\r\n"
            ));
        });
        let done = wire.import(&world, &file, &NO_HURRY);
        assert_sane(&wire, &done, 4);
        assert!(done.stderr.starts_with("error: ") && done.stderr.contains("redirect"), "{done:?}");
        assert!(done.stderr.contains("--base-url"), "{done:?}");
        let pending = world.summary()["pending"].as_u64().unwrap();
        assert_eq!(world.outcomes(), format!("pending={pending}"));
        let knock = elsewhere.accept().map_err(|error| error.kind());
        assert!(matches!(knock, Err(ErrorKind::WouldBlock)), "{knock:?}");
        wire.play(honest);
        assert_sane(&wire, &wire.import(&world, &file, &NO_HURRY), 0);
        assert_true_ids(&world, &wire, ROWS);
    }
}

/// A gzip stream of one byte repeated: a thousandth of its decompressed size. Blocks with fixed codes, so that no
/// table is needed: a literal, then copies of 258 bytes from one byte before.
fn bomb(packed_bytes: usize) -> Vec<u8> {
    let mut bits = vec![true, true, false];
    let mut code = |value: u32, length: u32| bits.extend((0..length).rev().map(|bit| value >> bit & 1 == 1));
    code(0x30 + u32::from(b' '), 8);
    for _ in 0..packed_bytes * 8 / 13 {
        code(0b1100_0101, 8);
        code(0, 5);
    }
    code(0, 7);
    let packed = bits.chunks(8).map(|byte| {
        let byte = byte.iter().enumerate();
        byte.fold(0, |sum, (at, bit)| sum | u8::from(*bit) << at)
    });
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    gzip.extend(packed);
    gzip.extend([0; 8]);
    gzip
}

#[test]
fn a_compressed_bomb() {
    let mut lies = Vec::new();
    // The first is small enough to be read whole; decompressed it has 6 MB, the second 800 MB.
    for size in [40 << 10, 5 << 20] {
        let bomb = bomb(size);
        for coding in ["gzip", "gzip, gzip", "br", "zstd", "deflate"] {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n",
                bomb.len()
            );
            lies.push(bytes([head.as_bytes(), &bomb].concat()));
        }
    }
    say_nothing(&lies);
}

/// Compression is not requested, so no response needs to be decompressed.
#[test]
fn no_compression_is_asked_for() {
    let world = World::new();
    let file = world.rows("users.csv", 1);
    let wire = Wire::new(honest);
    assert_sane(&wire, &wire.import(&world, &file, &NO_HURRY), 0);
    assert!(wire.received().iter().all(|request| !request.head.to_lowercase().contains("accept-encoding")));
}

#[test]
fn http_1_0() {
    let ends_with_the_connection = lie(|call, truth| {
        call.send([&b"HTTP/1.0 200 OK\r\n\r\n"[..], &body_of(truth)].concat());
        call.close();
    });
    are_answers(&[
        ends_with_the_connection,
        under("HTTP/1.0 200 OK\r\n"),
        under("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n"),
    ]);
}

/// Row after row over connections that end after each response, announced or not.
#[test]
fn a_connection_that_ends_with_each_answer() {
    for head in ["Connection: close", "Connection: keep-alive\r\nKeep-Alive: timeout=600"] {
        let world = World::new();
        let file = world.rows("users.csv", 20);
        let wire = Wire::new(move |call| {
            let truth = if call.request.create { call.create() } else { call.find() };
            let answer = String::from_utf8(truth).unwrap();
            call.send(answer.replacen("\r\n", &format!("\r\n{head}\r\n"), 1));
            call.close();
        });
        let more = ["--concurrency", "1", "--timeout", "60s", "--max-attempts", "6"];
        let done = wire.import(&world, &file, &more);
        assert_sane(&wire, &done, 0);
        assert_eq!(world.outcomes(), "created=20");
        assert_true_ids(&world, &wire, 20);
        assert!(wire.connections() >= 20);
    }
}

#[test]
fn garbage_instead_of_http() {
    let garbage = [
        &b"SSH-2.0-OpenSSH_9.6\r\n"[..],
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"220 mail.example.com ESMTP\r\n",
        b"HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\x04\0\x10\0\0\0\x06\0\0\x40\0",
        b"\xff\xfe\xfd",
        b"\r\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: nameless\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\xff\xff: odd\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ];
    say_nothing(&garbage.map(bytes));
}

/// No response ever makes sense: that is an outage, and every row stays open.
#[test]
fn garbage_for_ever_stops_the_run() {
    let world = World::new();
    let file = world.rows("users.csv", 50);
    let wire = Wire::new(|call| {
        if call.request.create {
            call.create();
        }
        call.send("220 mail.example.com ESMTP\r\n");
        call.close();
    });
    let done = wire.import(&world, &file, &["--concurrency", "4", "--outage-limit", "300ms"]);
    assert_sane(&wire, &done, 4);
    done.assert_error_line(4, &["no response for"]);
    let pending = world.summary()["pending"].as_u64().unwrap();
    assert_eq!(world.outcomes(), format!("pending={pending}"));
    wire.play(honest);
    assert_sane(&wire, &wire.import(&world, &file, &NO_HURRY), 0);
    assert_true_ids(&world, &wire, 50);
}

/// One of many rows gets garbage forever: only that row stays open.
#[test]
fn garbage_for_one_row_leaves_the_others_alone() {
    let world = World::new();
    let file = world.rows("users.csv", 30);
    let wire = Wire::new(|call| {
        if call.request.reference != "cust-000007" {
            return call.answer_honestly();
        }
        if call.request.create {
            call.create();
        }
        call.send("\u{1f4a9}\r\n");
        call.close();
    });
    assert_sane(&wire, &wire.import(&world, &file, &NO_HURRY), 4);
    assert_eq!(world.outcomes(), "created=29 pending=1");
    assert_eq!(cells(&world.run(&["export", "failed"]).stdout)[0][0], "cust-000007");
    wire.play(honest);
    assert_sane(&wire, &wire.import(&world, &file, &NO_HURRY), 0);
    assert_eq!(world.outcomes(), "created=1 unchanged=29");
    assert_true_ids(&world, &wire, 30);
}

/// The response arrives before the request, so it is not a response to it.
#[test]
fn an_answer_before_the_request() {
    for greeting in [
        json(200, r#"{"id":"cst_early","object_reference_id":"cust-early"}"#),
        json(500, "{}"),
        b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(),
        b"220 mail.example.com ESMTP\r\n".to_vec(),
        b"\0".to_vec(),
    ] {
        let world = World::new();
        let file = world.rows("users.csv", ROWS);
        let wire = Wire::new(honest);
        wire.greet(greeting, ROWS);
        assert_sane(&wire, &wire.import(&world, &file, &NO_HURRY), 0);
        assert_eq!(world.outcomes(), format!("created={ROWS}"));
        assert_true_ids(&world, &wire, ROWS);
    }
}

/// The second response does not belong to the next request, which may use the same connection.
#[test]
fn two_answers_to_one_request() {
    let seconds = [
        json(200, r#"{"id":"cst_second"}"#),
        json(400, r#"{"error_code":"INVALID_INPUT"}"#),
        json(401, r#"{"error_code":"access_denied"}"#),
        json(404, "{}"),
    ];
    for second in seconds {
        let world = World::new();
        let file = world.rows("users.csv", 20);
        let wire = Wire::new(move |call| {
            let truth = if call.request.create { call.create() } else { call.find() };
            call.send([truth, second.clone()].concat());
        });
        let more = ["--concurrency", "1", "--timeout", "60s", "--max-attempts", "6"];
        assert_sane(&wire, &wire.import(&world, &file, &more), 0);
        assert_eq!(world.outcomes(), "created=20");
        assert_true_ids(&world, &wire, 20);
    }
}

#[test]
fn a_promise_before_the_answer() {
    are_answers(&["100 Continue", "102 Processing", "103 Early Hints\r\nLink: </x>"].map(|promise| {
        lie(move |call, truth| {
            call.send([format!("HTTP/1.1 {promise}\r\n\r\n").as_bytes(), truth].concat());
        })
    }));
    say_nothing(&[bytes("HTTP/1.1 100 Continue\r\n\r\n")]);
}

/// A status that no Create gets says nothing about the result of the Create.
#[test]
fn a_switch_to_another_protocol() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n";
    say_nothing(&[bytes(switch)]);
}

#[test]
fn no_content() {
    say_nothing(&[
        bytes("HTTP/1.1 204 No Content\r\n\r\n"),
        bytes("HTTP/1.1 205 Reset Content\r\n\r\n"),
        bytes("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        bytes("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"),
        under("HTTP/1.1 204 No Content\r\n"),
        body("   \r\n"),
    ]);
}

#[test]
fn statuses_beyond_the_book() {
    let statuses = [500, 507, 520, 599, 600, 999];
    say_nothing(
        &statuses.map(|status| bytes(format!("HTTP/1.1 {status} Odd\r\nContent-Length: 2\r\n\r\n{{}}"))),
    );
}

/// The API's own error under a success status: the row was rejected, and did not land.
#[test]
fn an_error_under_a_success() {
    for status in [200, 201, 202] {
        let world = World::new();
        let file = world.rows("users.csv", ROWS);
        let wire = Wire::new(move |call| {
            let error =
                r#"{"status":"ERROR","status_id":40,"error_message":"no","error_code":"INVALID_REQUEST"}"#;
            call.send(json(status, error));
        });
        assert_sane(&wire, &wire.import(&world, &file, &NO_HURRY), 3);
        assert_eq!(world.outcomes(), format!("rejected={ROWS}"));
        assert_eq!(wire.received().len(), ROWS);
        let failed = cells(&world.run(&["export", "failed"]).stdout);
        assert!(failed.iter().all(|row| row.contains(&"INVALID_REQUEST".to_owned())), "{failed:?}");
    }
}

/// The API's texts are printed on terminals and written to files: they are bounded and contain no escapes.
#[test]
fn words_that_would_take_over_a_terminal() {
    let world = World::new();
    let file = world.rows("users.csv", 5);
    let mut message = String::from("\\u001b[2J\\u0007\\u009b31m\\r\\n\\u0000forged");
    write!(message, "{}", "x".repeat(20_000)).unwrap();
    let wire = Wire::new(move |call| {
        let body =
            format!(r#"{{"status":"{message}","error_code":"{message}","error_message":"{message}"}}"#);
        call.send(json(403, body));
    });
    let done = wire.import(&world, &file, &NO_HURRY);
    assert_sane(&wire, &done, 4);
    assert_eq!(done.stderr.matches('\n').count(), 1, "{done:?}");
    assert!(done.stderr.len() < 2_000, "{} bytes", done.stderr.len());
    let failed = world.run(&["export", "failed"]).stdout;
    for text in [&done.stderr, &done.stdout, &failed] {
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }
}

/// Waits that are longer than any server may request.
#[test]
fn a_retry_after_beyond_all_time() {
    for wait in
        ["18446744073709551615", "99999999999999999999999", "-1", "Fri, 31 Dec 9999 23:59:59 GMT", "soon"]
    {
        let world = World::new();
        let file = world.rows("users.csv", 1);
        let was_refused = Arc::new(AtomicBool::new(false));
        let wire = Wire::new(move |call| {
            if was_refused.swap(true, SeqCst) {
                return call.answer_honestly();
            }
            call.send(format!("HTTP/1.1 429 Slow\r\nRetry-After: {wait}\r\nContent-Length: 0\r\n\r\n"));
        });
        // Either the run waits for minutes, and does so no longer than its user wants, or the program ignored the header.
        let log = world.path("log.txt");
        let mut run = wire.start(&world, &file, &["--log-file", log.to_str().unwrap()], |_| {});
        let is_paused = || std::fs::read_to_string(&log).is_ok_and(|log| log.contains("asks for a pause"));
        if wait_until(&mut run, is_paused) {
            signal(&run, "INT");
        }
        let done = finish(run);
        assert!([0, 130].contains(&done.code), "{done:?}");
        assert_sane(&wire, &done, done.code);
        assert_sane(&wire, &wire.import(&world, &file, &NO_HURRY), 0);
        assert_true_ids(&world, &wire, 1);
    }
}
