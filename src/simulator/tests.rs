//! The simulator through real sockets, as bytes: no client library smooths anything over.

use std::io;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::*;

const JOHN: &str = "object_reference_id=customer%40gmail.com&mobile_number=99887766&email_address=customer%40gmail.com\
                    &first_name=John&last_name=Smith&mobile_country_code=65";

struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn text(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_default().to_owned()
    }
}

async fn send(address: SocketAddr, request: &[u8]) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase();
    let status = head[9..12].parse().unwrap();
    Ok(Reply { status, head, body: answer[end + 4..].to_vec() })
}

fn request(method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn authorized(key: &str) -> String {
    format!(
        "authorization: Basic {}\r\nx-merchantid: m\r\nx-routing-id: r\r\ncontent-type: application/x-www-form-urlencoded\r\n",
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key)
    )
}

async fn ask(simulator: &Simulator, method: &str, path: &str, body: &str) -> io::Result<Reply> {
    send(simulator.address(), &request(method, path, &authorized("key:"), body)).await
}

async fn create(simulator: &Simulator, reference: &str) -> io::Result<Reply> {
    let encoded: String = form_urlencoded::byte_serialize(reference.as_bytes()).collect();
    ask(simulator, "POST", "/customers", &format!("object_reference_id={encoded}&mobile_number=1")).await
}

async fn plain() -> Simulator {
    Simulator::start(Options::default()).await.unwrap()
}

async fn of_page() -> Simulator {
    Simulator::start(Options { profile: Profile::Page, ..Options::default() }).await.unwrap()
}

async fn with(fault: Fault) -> Simulator {
    Simulator::start(Options { faults: vec![(fault, 1.0)], ..Options::default() }).await.unwrap()
}

#[tokio::test]
async fn a_create_answers_as_the_reference_page_shows() {
    let simulator = of_page().await;
    let reply = ask(&simulator, "POST", "/v2/customers", JOHN).await.unwrap();
    assert_eq!(reply.status, 200);
    assert!(reply.head.contains("\r\nx-response-id: "), "{}", reply.head);
    let json = reply.json();
    let names: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 10, "{names:?}");
    let shown = [
        ("object", "customer"),
        ("object_reference_id", "customer@gmail.com"),
        ("mobile_country_code", "65"),
        ("mobile_number", "99887766"),
        ("email_address", "customer@gmail.com"),
        ("first_name", "John"),
        ("last_name", "Smith"),
    ];
    for (name, value) in shown {
        assert_eq!(reply.text(name), value, "{name}");
    }
    let id = reply.text("id");
    assert!(id.len() == 20 && id.starts_with("cst_"), "{id}");
    assert!(id[4..].bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{id}");
    let date = reply.text("date_created");
    assert!(humantime::parse_rfc3339(&date).is_ok() && date.len() == "2020-03-17T14:16:31Z".len(), "{date}");
    let order = [
        "\"id\"",
        "\"object\"",
        "\"mobile_country_code\"",
        "\"last_name\"",
        "\"date_created\"",
        "\"last_updated\"",
    ];
    let text = String::from_utf8(reply.body).unwrap();
    let offsets: Vec<usize> = order.iter().map(|name| text.find(name).unwrap()).collect();
    assert!(offsets.is_sorted(), "{text}");
    simulator.stop().await;
}

#[tokio::test]
async fn a_token_comes_when_asked_for_in_a_form_and_in_json() {
    let simulator = plain().await;
    let form = ask(&simulator, "POST", "/customers", &format!("{JOHN}&options.get_client_auth_token=true"))
        .await
        .unwrap();
    let json = authorized("key:").replace("x-www-form-urlencoded", "json; charset=utf-8");
    let bodies = [
        r#"{"object_reference_id":"nested-1","mobile_number":7,"first_name":null,"options":{"get_client_auth_token":true}}"#,
        r#"{"object_reference_id":"dotted-1","mobile_number":"7","options.get_client_auth_token":"true"}"#,
    ];
    let mut replies = vec![form];
    for body in bodies {
        replies.push(send(simulator.address(), &request("POST", "/customers", &json, body)).await.unwrap());
    }
    for reply in replies {
        assert_eq!(reply.status, 200);
        let juspay = &reply.json()["juspay"];
        let token = juspay["client_auth_token"].as_str().unwrap();
        assert!(token.starts_with("tkn_") && token.len() == 36, "{token}");
        let expiry = humantime::parse_rfc3339(juspay["client_auth_token_expiry"].as_str().unwrap()).unwrap();
        let created = humantime::parse_rfc3339(&reply.text("date_created")).unwrap();
        assert_eq!(expiry.duration_since(created).unwrap(), Duration::from_secs(900));
    }
    let bad = send(simulator.address(), &request("POST", "/customers", &json, "{oops")).await.unwrap();
    assert_eq!(bad.status, 400);
}

#[tokio::test]
async fn get_and_update_take_the_id_and_the_reference() {
    let simulator = plain().await;
    let created = ask(&simulator, "POST", "/customers", JOHN).await.unwrap();
    let id = created.text("id");
    for path in [
        format!("/customers/{id}"),
        "/customers/customer%40gmail.com".into(),
        "/x/customers/customer@gmail.com".into(),
    ] {
        let reply = ask(&simulator, "GET", &path, "").await.unwrap();
        assert_eq!((reply.status, reply.json()), (200, created.json()), "{path}");
    }
    let before = simulator.journal().customer("m", &id).unwrap();
    let body = "first_name=Jane+Q&last_name=&object_reference_id=ignored-ref";
    let updated = ask(&simulator, "POST", &format!("/customers/{id}"), body).await.unwrap();
    assert_eq!((updated.status, updated.text("first_name").as_str()), (200, "Jane Q"));
    assert_eq!(updated.json().get("last_name"), None, "an empty value erases");
    assert_eq!(updated.text("object_reference_id"), "customer@gmail.com");
    assert_eq!(updated.text("email_address"), "customer@gmail.com", "what is not sent stays");
    let after = simulator.journal().customer("m", "customer@gmail.com").unwrap();
    assert!(after.last_updated > before.last_updated && after.date_created == before.date_created);
    let absent = ask(&simulator, "POST", "/customers/nobody-here", "first_name=J").await.unwrap();
    assert_eq!((absent.status, absent.text("error_code").as_str()), (404, "object_not_found"));
    let absent = ask(&simulator, "GET", "/customers/nobody-here", "").await.unwrap();
    assert_eq!((absent.status, absent.text("error_code").as_str()), (404, "object_not_found"));
}

#[tokio::test]
async fn a_reference_is_unique_per_merchant_and_its_id_comes_from_the_seed() {
    let simulator = plain().await;
    let first = create(&simulator, "reference-1").await.unwrap();
    let second = create(&simulator, "reference-1").await.unwrap();
    assert_eq!((second.status, second.text("error_code").as_str()), (400, "unique"));
    assert_eq!(
        second.text("error_message"),
        "Customer with given object reference id already exist for your account."
    );
    let other = authorized("key:").replace("merchantid: m", "merchantid: n");
    let body = "object_reference_id=reference-1&mobile_number=1";
    let elsewhere = send(simulator.address(), &request("POST", "/customers", &other, body)).await.unwrap();
    assert_eq!(elsewhere.status, 200);
    assert_ne!(elsewhere.text("id"), first.text("id"));
    let again = plain().await;
    assert_eq!(create(&again, "reference-1").await.unwrap().text("id"), first.text("id"));
    assert_eq!(simulator.journal().customers(), 2);
}

#[tokio::test]
async fn many_creates_of_one_reference_at_once_make_one_customer() {
    let simulator = plain().await;
    let mut tasks = JoinSet::new();
    for _ in 0..32 {
        let address = simulator.address();
        let body = "object_reference_id=reference-1&mobile_number=1";
        tasks.spawn(
            async move { send(address, &request("POST", "/customers", &authorized("k:"), body)).await },
        );
    }
    let replies = tasks.join_all().await;
    assert_eq!(replies.iter().filter(|reply| reply.as_ref().unwrap().status == 200).count(), 1);
    let created = simulator.journal().created();
    assert_eq!(created.len(), 1);
    assert_eq!(created["reference-1"].1, 1);
    assert_eq!(simulator.journal().creates(), 32);
}

#[tokio::test]
async fn what_is_missing_or_too_short_is_refused_by_the_page() {
    let simulator = of_page().await;
    let bodies = [
        "",
        "object_reference_id=reference-1",
        "mobile_number=1",
        "object_reference_id=&mobile_number=1",
        "object_reference_id=reference-1&mobile_number=",
    ];
    for body in bodies {
        let reply = ask(&simulator, "POST", "/customers", body).await.unwrap();
        assert_eq!(
            (reply.status, reply.text("error_code").as_str()),
            (400, "Mandatory fields are missing"),
            "{body}"
        );
        assert_eq!(reply.text("status"), "Bad Request");
    }
    let short = create(&simulator, "1234567").await.unwrap();
    assert_eq!((short.status, short.text("error_code").as_str()), (400, "INVALID_INPUT"));
    assert_eq!(create(&simulator, "éééééééé").await.unwrap().status, 200, "characters, not bytes");
    assert_eq!(simulator.journal().customers(), 1);
}

#[tokio::test]
async fn today_an_id_has_letters_of_both_cases_and_an_empty_country_code_is_filled() {
    let simulator = plain().await;
    let mut characters = String::new();
    for n in 0..20 {
        let id = create(&simulator, &format!("reference-{n}")).await.unwrap().text("id");
        assert!(id.len() == 20 && id.starts_with("cth_"), "{id}");
        characters.push_str(&id[4..]);
    }
    assert!(characters.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{characters}");
    let has = |kind: fn(&u8) -> bool| characters.bytes().any(|byte| kind(&byte));
    assert!(has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit));
    let code = |reply: Reply| reply.text("mobile_country_code");
    let path = "/customers/reference-1";
    assert_eq!(code(ask(&simulator, "GET", path, "").await.unwrap()), "91");
    for (body, expected) in
        [("mobile_country_code=65", "65"), ("first_name=J", "65"), ("mobile_country_code=", "91")]
    {
        assert_eq!(code(ask(&simulator, "POST", path, body).await.unwrap()), expected, "{body}");
    }
    let reply = create(&of_page().await, "reference-1").await.unwrap();
    assert_eq!(reply.json().get("mobile_country_code"), None);
}

/// Body, and the field that `error_info` names.
#[tokio::test]
async fn today_fields_are_refused_on_create_and_on_update() {
    let simulator = plain().await;
    let long = |name: &str, most: usize| format!("{name}={}", "5".repeat(most + 1));
    let of_create = [
        (String::new(), "object_reference_id"),
        ("object_reference_id=&mobile_number=1".into(), "object_reference_id"),
        ("object_reference_id=1234567&mobile_number=1".into(), "object_reference_id"),
        (format!("{}&mobile_number=1", long("object_reference_id", 128)), "object_reference_id"),
        ("object_reference_id=reference-1".into(), "mobile_number"),
    ];
    let of_both = [
        ("mobile_number=".into(), "mobile_number"),
        ("mobile_number=-5".into(), "mobile_number"),
        (long("mobile_number", 16), "mobile_number"),
        (format!("mobile_number=1&{}", long("email_address", 128)), "email_address"),
        (format!("mobile_number=1&{}", long("first_name", 64)), "first_name"),
        (format!("mobile_number=1&{}", long("last_name", 64)), "last_name"),
        ("mobile_number=1&mobile_country_code=%2B91".into(), "mobile_country_code"),
        ("mobile_number=1&mobile_country_code=12345".into(), "mobile_country_code"),
    ];
    create(&simulator, "reference-0").await.unwrap();
    let as_create =
        of_both.clone().map(|(body, field)| (format!("object_reference_id=reference-1&{body}"), field));
    let creates = of_create.into_iter().chain(as_create).map(|case| ("/customers", case));
    let cases = creates.chain(of_both.map(|case| ("/customers/reference-0", case)));
    for (path, (body, field)) in cases {
        let reply = ask(&simulator, "POST", path, &body).await.unwrap();
        let info = &reply.json()["error_info"];
        assert_eq!((reply.status, &info["code"]), (400, &"INVALID_INPUT".into()), "{path} {body}");
        assert_eq!(info["fields"][0]["field_name"], field, "{path} {body}");
        assert_eq!(info["category"], "USER_ERROR");
        assert!(info["developer_message"].is_string() && info["user_message"].is_string());
        assert!(info["fields"][0]["reason"].is_string());
    }
    let longest = format!(
        "object_reference_id={}&mobile_number={}&email_address={}&first_name={}&last_name={}&mobile_country_code=1234",
        "r".repeat(128),
        "9".repeat(16),
        "e".repeat(128),
        "%C3%A9".repeat(64),
        "n".repeat(64),
    );
    assert_eq!(ask(&simulator, "POST", "/customers", &longest).await.unwrap().status, 200);
    assert_eq!(simulator.journal().customers(), 2);
    let page = of_page().await;
    let longer = longest.replace("=1234", "=12345").replace(&"9".repeat(16), "-5") + "nnn";
    assert_eq!(
        ask(&page, "POST", "/customers", &longer).await.unwrap().status,
        200,
        "the page has no lengths"
    );
}

#[tokio::test]
async fn today_errors_have_error_info() {
    let simulator = plain().await;
    create(&simulator, "reference-1").await.unwrap();
    let wrong_key = request("GET", "/customers/reference-1", &authorized("wrong:"), "");
    let replies = [
        (create(&simulator, "reference-1").await.unwrap(), 400, "unique", "ALREADY_EXISTS"),
        (
            ask(&simulator, "GET", "/customers/nobody-here", "").await.unwrap(),
            404,
            "object_not_found",
            "RESOURCE_NOT_FOUND",
        ),
        (send(simulator.address(), &wrong_key).await.unwrap(), 401, "access_denied", "UNAUTHORIZED"),
    ];
    for (reply, status, code, code_of_info) in replies {
        assert_eq!((reply.status, reply.text("error_code").as_str()), (status, code));
        assert_eq!(reply.json()["error_info"]["code"], code_of_info);
    }
    let page = create(&of_page().await, "1234567").await.unwrap();
    assert_eq!(page.json().get("error_info"), None);
}

#[tokio::test]
async fn today_each_call_says_whom_it_is_about_in_a_header() {
    let simulator = plain().await;
    create(&simulator, "reference-1").await.unwrap();
    let calls = [
        ("POST", "/customers", "object_reference_id=reference-2&mobile_number=1"),
        ("GET", "/customers/reference-1", ""),
        ("POST", "/customers/reference-1", "first_name=J"),
    ];
    for (method, path, body) in calls {
        for routing in ["", "x-routing-id: \r\n"] {
            let headers = authorized("key:").replace("x-routing-id: r\r\n", routing);
            let reply = send(simulator.address(), &request(method, path, &headers, body)).await.unwrap();
            assert_eq!(reply.status, 400, "{method} {path}");
            assert_eq!(reply.json()["error_info"]["code"], "MISSING_MANDATORY_PARAMETER");
        }
    }
    assert_eq!(simulator.journal().customers(), 1);
}

#[tokio::test]
async fn a_merchant_in_other_letters_is_none() {
    let as_merchant =
        |name: &str| authorized("key:").replace("merchantid: m", &format!("merchantid: {name}"));
    let get = |name: &str| request("GET", "/customers/nobody-here", &as_merchant(name), "");
    // The profile, the request, and the expected response.
    let table = [
        (Profile::Today, None, [("acme", 404), ("Acme", 401), ("other", 404), ("acme", 404)]),
        (Profile::Today, Some("Acme"), [("acme", 401), ("Acme", 404), ("other", 401), ("", 401)]),
        (Profile::Page, None, [("acme", 404), ("Acme", 404), ("other", 404), ("", 404)]),
        (Profile::Page, Some("Acme"), [("acme", 401), ("Acme", 404), ("other", 401), ("", 401)]),
    ];
    for (profile, accepted, asks) in table {
        let merchant_id = accepted.map(str::to_owned);
        let simulator =
            Simulator::start(Options { profile, merchant_id, ..Options::default() }).await.unwrap();
        for (name, status) in asks {
            let reply = send(simulator.address(), &get(name)).await.unwrap();
            assert_eq!(reply.status, status, "{profile:?} {accepted:?} {name}");
        }
    }
}

#[tokio::test]
async fn today_a_get_brings_a_token_where_its_query_asks_for_one() {
    for (simulator, brings) in [(plain().await, true), (of_page().await, false)] {
        create(&simulator, "reference-1").await.unwrap();
        for (query, asks) in [
            ("", false),
            ("?options.get_client_auth_token=true", true),
            ("?a=b&options.get_client_auth_token=true", true),
            ("?options.get_client_auth_token=false", false),
            ("?&&=%ff", false),
        ] {
            let reply = ask(&simulator, "GET", &format!("/customers/reference-1{query}"), "").await.unwrap();
            let has_token = reply.json()["juspay"]["client_auth_token"].is_string();
            assert_eq!((reply.status, has_token), (200, brings && asks), "{query}");
        }
    }
}

#[tokio::test]
async fn both_forms_of_the_key_are_taken_and_wrong_ones_are_not() {
    let simulator = plain().await;
    let get = |headers: String| request("GET", "/customers/nobody-here", &headers, "");
    for key in ["key:", "key"] {
        assert_eq!(send(simulator.address(), &get(authorized(key))).await.unwrap().status, 404, "{key}");
    }
    let refused = [
        authorized(""),
        authorized(":"),
        authorized("wrong-key:"),
        authorized("key:password"),
        String::new(),
    ];
    let broken =
        ["authorization: Basic ???\r\n", "authorization: Bearer a2V5Og==\r\n", "authorization: Basic\r\n"];
    for headers in refused.into_iter().chain(broken.map(str::to_owned)) {
        let reply = send(simulator.address(), &get(headers.clone())).await.unwrap();
        assert_eq!((reply.status, reply.text("error_code").as_str()), (401, "access_denied"), "{headers}");
    }
    simulator.reconfigure(|behavior| behavior.api_key = Some("wrong but ours".into()));
    assert_eq!(send(simulator.address(), &get(authorized("wrong but ours:"))).await.unwrap().status, 404);
    assert_eq!(send(simulator.address(), &get(authorized("key:"))).await.unwrap().status, 401);
    simulator.reconfigure(|behavior| behavior.key_revoked = true);
    assert_eq!(send(simulator.address(), &get(authorized("wrong but ours:"))).await.unwrap().status, 401);
}

/// What the Node SDK sends: the bare key, a `version`, its own user agent, a form.
#[tokio::test]
async fn the_node_sdk_is_understood() {
    let simulator = of_page().await;
    let body = "object_reference_id=customer%40gmail.com&mobile_number=99887766&first_name=John%20A&options.get_client_auth_token=true";
    let bytes = format!(
        "POST /customers HTTP/1.1\r\nAuthorization: Basic a2V5\r\nversion: 2018-10-25\r\nUser-Agent: NODEJS_CLIENT/1.0.0\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nx-merchantid: m\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let reply = send(simulator.address(), bytes.as_bytes()).await.unwrap();
    assert_eq!((reply.status, reply.text("first_name").as_str()), (200, "John A"));
    assert!(reply.json()["juspay"]["client_auth_token"].is_string());
    assert_eq!(simulator.journal().customer("m", "customer@gmail.com").unwrap().mobile_number, "99887766");
}

#[tokio::test]
async fn weird_references_survive_the_path() {
    let simulator = plain().await;
    let encode = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    for reference in [
        "a/b@c%d é+1",
        "../../../etc",
        "customers",
        "%2F%2F%2F%2F",
        "a?b=c#d&e",
        "日本語日本語日本",
        "\u{0}\u{1}\"\\\n12345",
    ] {
        let created = create(&simulator, reference).await.unwrap();
        assert_eq!((created.status, created.text("object_reference_id").as_str()), (200, reference));
        let path = format!("/customers/{}", encode(reference));
        let found = ask(&simulator, "GET", &path, "").await.unwrap();
        assert_eq!((found.status, found.json()), (200, created.json()), "{path}");
    }
    let raw = ask(&simulator, "GET", "/customers/a/b@c%25d", "").await.unwrap();
    assert_eq!(
        (raw.status, raw.text("error_code").as_str()),
        (404, "not_found"),
        "an unencoded slash is another path"
    );
}

#[tokio::test]
async fn what_is_no_call_is_turned_away() {
    let simulator = plain().await;
    let calls = [
        ("GET", "/", 404),
        ("GET", "/customer", 404),
        ("GET", "/customers", 405),
        ("PUT", "/customers", 405),
        ("DELETE", "/customers/reference-1", 405),
        ("GET", "/customers/", 404),
        ("POST", "*", 404),
    ];
    for (method, path, status) in calls {
        assert_eq!(ask(&simulator, method, path, "").await.unwrap().status, status, "{method} {path}");
    }
    let allowed = ask(&simulator, "GET", "/customers", "").await.unwrap();
    assert!(allowed.head.contains("\r\nallow: post"), "{}", allowed.head);
    let journal = simulator.journal();
    assert_eq!((journal.requests(), journal.creates(), journal.gets(), journal.updates()), (8, 0, 0, 0));
    // The body is announced but never sent: the response must not wait for it.
    let head = format!(
        "POST /customers HTTP/1.1\r\nhost: h\r\n{}content-length: 1048577\r\n\r\n",
        authorized("key:")
    );
    assert_eq!(send(simulator.address(), head.as_bytes()).await.unwrap().status, 413);
    let largest = format!("object_reference_id=reference-1&mobile_number=1&x={}", "x".repeat(BODY_MAX - 100));
    assert_eq!(ask(&simulator, "POST", "/customers", &largest).await.unwrap().status, 200);
}

#[tokio::test]
async fn rubbish_on_the_wire_does_no_harm() {
    let simulator = plain().await;
    let pieces: [&[u8]; 6] = [
        b"\x00\xff\xfe",
        b"POST /customers HTTP/9.9\r\n\r\n",
        b"GET /customers/%ff%zz% HTTP/1.1\r\nconnection: close\r\nauthorization: Basic a2V5\r\n\r\n",
        b"GET /customers/x HTTP/1.1\r\nconnection: close\r\nx-merchantid: \xff\xfe\r\nauthorization: \xff\r\n\r\n",
        b"POST /customers HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST /customers HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ];
    for piece in pieces {
        let _ = timeout(Duration::from_millis(200), send(simulator.address(), piece)).await;
    }
    assert_eq!(create(&simulator, "reference-1").await.unwrap().status, 200);
}

#[tokio::test]
async fn no_window_of_a_second_holds_more_than_the_limit() {
    let simulator = Simulator::start(Options { rate_limit: Some(20), ..Options::default() }).await.unwrap();
    let begun = Instant::now();
    let mut throttled = 0;
    while begun.elapsed() < Duration::from_millis(2200) {
        let reply = ask(&simulator, "GET", "/customers/nobody-here", "").await.unwrap();
        if reply.status == 429 {
            assert!(reply.head.contains("\r\nretry-after: 1\r\n"), "{}", reply.head);
            throttled += 1;
            sleep(Duration::from_millis(5)).await;
        }
    }
    let journal = simulator.journal();
    assert_eq!(journal.throttled(), throttled);
    let admitted_at: Vec<Instant> =
        journal.entries().iter().filter(|it| it.status == Some(404)).map(|it| it.at).collect();
    assert!(admitted_at.len() >= 40, "turning away must take no room: {}", admitted_at.len());
    for window in admitted_at.windows(21) {
        assert!(window[20] - window[0] >= Duration::from_secs(1));
    }
    simulator.reconfigure(|behavior| {
        behavior.rate_limit = Some(0);
        behavior.retry_after = String::new();
    });
    let reply = ask(&simulator, "GET", "/customers/nobody-here", "").await.unwrap();
    assert!(reply.status == 429 && !reply.head.contains("retry-after"));
    simulator.reconfigure(|behavior| behavior.rate_limit = None);
    assert_eq!(ask(&simulator, "GET", "/customers/nobody-here", "").await.unwrap().status, 404);
}

/// The kind, the status of the response (none: the connection is reset), and whether the customer exists afterwards.
#[tokio::test]
async fn each_fault_answers_and_does_what_it_says() {
    let table = [
        (Fault::Http503, Some(503), false),
        (Fault::Api503, Some(503), false),
        (Fault::Http429, Some(429), false),
        (Fault::ResetBefore, None, false),
        (Fault::ResetAfter, None, true),
        (Fault::Garbage, Some(200), true),
        (Fault::Flood, Some(200), true),
        (Fault::OkError, Some(200), false),
        (Fault::WrongReference, Some(200), true),
        (Fault::DuplicateRequest, Some(400), true),
        (Fault::Reject, Some(400), false),
        (Fault::Always500, Some(500), false),
        (Fault::Always429, Some(429), false),
        (Fault::WriteAlways500, Some(500), false),
        (Fault::NotFound, Some(200), true),
    ];
    for (fault, status, exists) in table {
        let simulator = with(fault).await;
        let reply = create(&simulator, "reference-1").await;
        let journal = simulator.journal();
        match (&reply, status) {
            (Ok(reply), Some(status)) => assert_eq!(reply.status, status, "{fault:?}"),
            (Err(error), None) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{fault:?}"),
            _ => panic!("{fault:?}: {:?}", reply.map(|reply| reply.status)),
        }
        assert_eq!(journal.customer("m", "reference-1").is_some(), exists, "{fault:?}");
        let entry = &journal.entries()[0];
        assert_eq!((entry.endpoint, entry.attempt, entry.status), (Endpoint::Create, 1, status));
        assert_eq!(entry.fault, (fault != Fault::NotFound).then_some(fault));
        simulator.stop().await;
    }
}

#[tokio::test]
async fn bodies_of_hostile_answers_are_as_described() {
    let garbage = create(&with(Fault::Garbage).await, "reference-1").await.unwrap();
    assert!(serde_json::from_slice::<Value>(&garbage.body).is_err());
    let flood = create(&with(Fault::Flood).await, "reference-1").await.unwrap();
    assert_eq!(flood.body.len(), 16 << 20);
    let proxy = create(&with(Fault::Http503).await, "reference-1").await.unwrap();
    assert!(proxy.head.contains("text/html") && proxy.body.starts_with(b"<html>"));
    let other = create(&with(Fault::WrongReference).await, "reference-1").await.unwrap();
    assert_eq!(other.text("object_reference_id"), "reference-1-another");
    let under_200 = create(&with(Fault::OkError).await, "reference-1").await.unwrap();
    assert_eq!(
        (under_200.text("status").as_str(), under_200.text("error_code").as_str()),
        ("ERROR", "INVALID_REQUEST")
    );
    let lagging = with(Fault::NotFound).await;
    assert_eq!(create(&lagging, "reference-1").await.unwrap().status, 200);
    assert_eq!(ask(&lagging, "GET", "/customers/reference-1", "").await.unwrap().status, 404);
}

#[tokio::test]
async fn a_500_and_a_timeout_leave_half_of_the_customers_behind() {
    let simulator = with(Fault::Http500).await;
    for n in 0..40 {
        assert_eq!(create(&simulator, &format!("reference-{n}")).await.unwrap().status, 500);
    }
    assert!((5..=35).contains(&simulator.journal().customers()));
    simulator.reconfigure(|behavior| behavior.faults = vec![(Fault::Timeout, 1.0)]);
    let mut tasks = JoinSet::new();
    for n in 40..80 {
        let body = format!("object_reference_id=reference-{n}&mobile_number=1");
        let (address, bytes) = (simulator.address(), request("POST", "/customers", &authorized("k:"), &body));
        tasks.spawn(async move { timeout(Duration::from_millis(300), send(address, &bytes)).await.is_err() });
    }
    assert!(tasks.join_all().await.into_iter().all(|silent| silent));
    let journal = simulator.journal();
    assert_eq!(journal.peak_in_flight(), 40);
    let late = (40..80).filter(|n| journal.customer("m", &format!("reference-{n}")).is_some()).count();
    assert!((5..=35).contains(&late), "{late}");
    // The clients have disconnected, so no request is in flight, and one more is the only one.
    let gone = async {
        while simulator.shared.in_flight() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), gone).await.unwrap();
}

#[tokio::test]
async fn faults_strike_the_same_attempts_however_requests_interleave() {
    let kinds = [Fault::Http500, Fault::ResetBefore, Fault::ResetAfter, Fault::Garbage, Fault::Reject];
    let options =
        Options { seed: 42, faults: kinds.map(|fault| (fault, 0.2)).to_vec(), ..Options::default() };
    let mut runs = Vec::new();
    for at_once in [1, 16] {
        let simulator = Simulator::start(options.clone()).await.unwrap();
        // A 429 depends on timing; it must not shift the draws of later attempts.
        simulator.reconfigure(|behavior| behavior.rate_limit = (at_once > 1).then_some(200));
        let mut tasks = JoinSet::new();
        for n in 0..60 {
            // One order in one run, the reverse order and concurrency in the other.
            let n = if at_once == 1 { n } else { 59 - n };
            if tasks.len() == at_once {
                tasks.join_next().await;
            }
            let address = simulator.address();
            tasks.spawn(async move {
                let body = format!("object_reference_id=reference-{n}&mobile_number=1");
                let bytes = request("POST", "/customers", &authorized("k:"), &body);
                for _ in 0..5 {
                    while send(address, &bytes).await.is_ok_and(|reply| reply.status == 429) {
                        sleep(Duration::from_millis(20)).await;
                    }
                }
            });
        }
        tasks.join_all().await;
        let journal = simulator.journal();
        let mut story: Vec<_> = (journal.entries().into_iter())
            .filter(|entry| entry.attempt > 0)
            .map(|entry| (entry.reference, entry.attempt, entry.status, entry.fault))
            .collect();
        story.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        runs.push((story, journal.created()));
    }
    assert_eq!(runs[0].0.len(), 300);
    assert!(runs[0].0.iter().any(|it| it.3 == Some(Fault::ResetAfter)));
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn outages_begin_and_end_on_the_same_port() {
    let simulator = plain().await;
    let mut idle = TcpStream::connect(simulator.address()).await.unwrap();
    assert_eq!(create(&simulator, "reference-1").await.unwrap().status, 200);
    for _ in 0..20 {
        simulator.reconfigure(|behavior| behavior.outage = Some(Outage::Refuse));
        let refused = async {
            while create(&simulator, "reference-2").await.map_err(|error| error.kind()).err()
                != Some(io::ErrorKind::ConnectionRefused)
            {}
        };
        timeout(Duration::from_secs(5), refused).await.unwrap();
        simulator.reconfigure(|behavior| behavior.outage = None);
        let back = async { while ask(&simulator, "GET", "/customers/reference-1", "").await.is_err() {} };
        timeout(Duration::from_secs(5), back).await.unwrap();
    }
    let mut nothing = [0];
    assert!(matches!(
        timeout(Duration::from_secs(5), idle.read(&mut nothing)).await.unwrap(),
        Ok(0) | Err(_)
    ));
    for (outage, status) in [(Outage::Http500, 500), (Outage::Http503, 503)] {
        simulator.reconfigure(|behavior| behavior.outage = Some(outage));
        assert_eq!(create(&simulator, "reference-2").await.unwrap().status, status);
    }
    simulator.reconfigure(|behavior| behavior.outage = Some(Outage::Reset));
    assert_eq!(create(&simulator, "reference-2").await.err().unwrap().kind(), io::ErrorKind::ConnectionReset);
    simulator.reconfigure(|behavior| behavior.outage = Some(Outage::Hang));
    assert!(timeout(Duration::from_millis(200), create(&simulator, "reference-2")).await.is_err());
    assert_eq!(simulator.journal().customers(), 1);
}

#[tokio::test]
async fn an_allow_list_and_a_redirect_stand_in_front_of_everything() {
    let simulator = plain().await;
    simulator.reconfigure(|behavior| (behavior.forbidden, behavior.profile) = (true, Profile::Page));
    let reply = create(&simulator, "reference-1").await.unwrap();
    assert_eq!((reply.status, reply.text("error_code").as_str()), (403, "bad_origin"));
    assert!(!reply.text("juspay_request_id").is_empty());
    simulator.reconfigure(|behavior| behavior.profile = Profile::Today);
    let reply = create(&simulator, "reference-1").await.unwrap();
    assert_eq!((reply.status, reply.text("error_message").as_str()), (403, "Internal Server error."));
    assert_eq!(reply.text("user_message"), "Bad Origin.");
    assert_eq!(reply.json()["error_info"]["developer_message"], "IP Verification Failed");
    simulator.reconfigure(|behavior| behavior.redirect_to = Some("http://localhost/elsewhere".into()));
    let reply = create(&simulator, "reference-1").await.unwrap();
    assert!(reply.status == 302 && reply.head.contains("\r\nlocation: http://localhost/elsewhere\r\n"));
    assert_eq!(simulator.journal().customers(), 0);
}

#[tokio::test]
async fn latency_delays_the_answer() {
    let latency = (Duration::from_millis(50), Duration::from_millis(60));
    let simulator = Simulator::start(Options { latency, ..Options::default() }).await.unwrap();
    let begun = Instant::now();
    create(&simulator, "reference-1").await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn nothing_is_recorded_when_recording_is_off() {
    let simulator = Simulator::start(Options { record: false, ..Options::default() }).await.unwrap();
    create(&simulator, "reference-1").await.unwrap();
    let journal = simulator.journal();
    assert!(journal.entries().is_empty());
    assert_eq!(
        (journal.requests(), journal.creates(), journal.connections(), journal.customers()),
        (1, 1, 1, 1)
    );
}

#[tokio::test]
async fn stopping_ends_connections_and_frees_the_port() {
    let simulator = with(Fault::Timeout).await;
    let (address, journal) = (simulator.address(), simulator.journal());
    let bytes = request("GET", "/customers/reference-1", &authorized("k:"), "");
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { send(address, &bytes).await.is_err() });
    while journal.requests() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    timeout(Duration::from_secs(5), simulator.stop()).await.unwrap();
    assert!(timeout(Duration::from_secs(5), waiting.join_next()).await.unwrap().unwrap().unwrap());
    assert_eq!(TcpStream::connect(address).await.err().unwrap().kind(), io::ErrorKind::ConnectionRefused);
    let again = Simulator::start(Options { listen: address, ..Options::default() }).await.unwrap();
    assert_eq!(again.address(), address);
}
