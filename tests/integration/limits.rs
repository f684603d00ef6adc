//! Limits that are signaled otherwise than by a 429 for all requests: by a proxy's 503, by `Retry-After` with any
//! refusal, by headers with the remaining quota, or for one row alone.
//!
//! The disaster: a server that extends its ban with every request never admits the run, or rows use up their attempts
//! on refusals that say nothing about them. Pauses are measured at the server.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use customer_import::simulator::{Endpoint, Entry, Fault, LimitResponse, Options};

use crate::{
    wire::{Call, Wire, clock, honest, json},
    world::{World, references},
};

const CONCURRENCY: usize = 8;
const SLOTS: [&str; 2] = ["--concurrency", "8"];

/// Imports into an API that admits fifty requests a second and refuses further ones in this way.
fn limited(response: LimitResponse, retry_after: &str, more: &[&str]) -> (World, Vec<Entry>) {
    let world = World::with(Options { rate_limit: Some(50), ..Options::default() });
    world.reconfigure(|behavior| {
        (behavior.limit_response, behavior.retry_after) = (response, retry_after.into());
    });
    let file = world.rows("users.csv", 150);
    let done = world.import(&file, &[&SLOTS[..], more].concat());
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(world.outcomes(), "created=150");
    world.assert_agreement(references(0..150));
    let entries = world.journal().entries();
    (world, entries)
}

/// Asserts that after each refusal only requests arrive that were already in flight.
fn assert_paused(entries: &[Entry], pause: Duration) {
    let mut refused = entries.iter().filter(|entry| entry.status == Some(503)).peekable();
    assert!(refused.peek().is_some());
    for refusal in refused {
        let is_during = |entry: &&Entry| entry.at > refusal.at && entry.at < refusal.at + pause;
        let during = entries.iter().filter(is_during).count();
        assert!(during <= 2 * CONCURRENCY, "{during} requests in spite of a 503");
    }
}

#[test]
fn the_503_page_of_a_proxy_costs_no_attempt_and_no_get() {
    for retry_after in ["", "1"] {
        let (world, entries) = limited(LimitResponse::Proxy503, retry_after, &["--max-attempts", "1"]);
        assert!(entries.iter().all(|entry| entry.endpoint == Endpoint::Create));
        let refused = entries.iter().filter(|entry| entry.status == Some(503)).count();
        assert!(refused > 0);
        assert_eq!(world.summary()["throttled"], refused);
    }
}

#[test]
fn retry_after_of_a_503_is_kept() {
    let (_, entries) = limited(LimitResponse::Api503, "2", &[]);
    assert_paused(&entries, Duration::from_secs(2));
    let (_, entries) = limited(LimitResponse::Proxy503, "1.5", &[]);
    assert_paused(&entries, Duration::from_millis(1_500));
}

/// A server that refuses its third request with this head, and records when requests arrived.
fn refuses_once(refusal: impl Fn() -> String + Send + Sync + 'static) -> (Wire, Arc<Mutex<Vec<Instant>>>) {
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    let wire = Wire::new(move |call: &mut Call<'_>| {
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(Instant::now());
            seen.len()
        };
        if number == 3 {
            let head = refusal();
            call.send(format!("HTTP/1.1 {head}\r\nContent-Length: 2\r\n\r\n{{}}"));
        } else {
            call.answer_honestly();
        }
    });
    (wire, times)
}

/// One request at a time, so that none is in flight when the third is refused.
fn longest_gap(wire: &Wire, times: &Mutex<Vec<Instant>>, more: &[&str]) -> Duration {
    let world = World::new();
    let file = world.rows("users.csv", 8);
    let done = wire.import(&world, &file, &[&["--concurrency", "1"], more].concat());
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(world.outcomes(), "created=8");
    let times = times.lock().unwrap();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
}

#[test]
fn retry_after_is_read_with_a_fraction_and_beside_every_refusal() {
    for status in ["429 Too Many Requests", "403 Forbidden", "503 Service Unavailable", "500 Oops"] {
        let (wire, times) = refuses_once(move || format!("{status}\r\nRetry-After: 1.5"));
        let gap = longest_gap(&wire, &times, &["--retry-initial", "10ms"]);
        assert!(gap >= Duration::from_millis(1_500), "{status}: {gap:?}");
    }
}

/// The server's clock is an hour ahead, or behind.
#[test]
fn a_date_is_read_beside_the_servers_own() {
    for is_ahead in [true, false] {
        let (wire, times) = refuses_once(move || {
            let hour = Duration::from_secs(3600);
            let now = if is_ahead { clock() + hour } else { clock() - hour };
            let date = |seconds| httpdate::fmt_http_date(now + Duration::from_secs(seconds));
            format!("429 Too Many Requests\r\nDate: {}\r\nRetry-After: {}", date(0), date(2))
        });
        let gap = longest_gap(&wire, &times, &[]);
        assert!(gap >= Duration::from_secs(2) && gap < Duration::from_secs(300), "{gap:?}");
    }
}

#[test]
fn an_outage_limit_shorter_than_the_pause_does_not_end_the_run() {
    let (wire, times) = refuses_once(|| "429 Too Many Requests\r\nRetry-After: 4".into());
    let gap = longest_gap(&wire, &times, &["--outage-limit", "1s"]);
    assert!(gap >= Duration::from_secs(4), "{gap:?}");
}

#[test]
fn a_server_that_always_refuses_ends_the_run_at_the_outage_limit() {
    let world = World::new();
    let file = world.rows("users.csv", 8);
    let wire = Wire::new(|call| {
        call.send("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}");
    });
    let done = wire.import(&world, &file, &["--outage-limit", "3s"]);
    assert_eq!(done.code, 4, "{done:?}");
    assert_eq!(world.outcomes(), "pending=8");
}

/// A response of the API with additional headers.
fn with_headers(answer: &[u8], headers: &str) -> Vec<u8> {
    let text = String::from_utf8(answer.to_vec()).unwrap();
    let (status, rest) = text.split_once("\r\n").unwrap();
    format!("{status}\r\n{headers}\r\n{rest}").into_bytes()
}

/// A server that reports the remaining quota with every response.
fn counted(headers: impl Fn(usize) -> String + Send + Sync + 'static) -> (Wire, Arc<Mutex<Vec<Instant>>>) {
    let times = Arc::new(Mutex::new(Vec::new()));
    let (seen, answered) = (Arc::clone(&times), AtomicUsize::new(0));
    let wire = Wire::new(move |call: &mut Call<'_>| {
        seen.lock().unwrap().push(Instant::now());
        let answer = if call.request.create { call.create() } else { call.find() };
        let headers = headers(answered.fetch_add(1, SeqCst));
        call.send(with_headers(&answer, &headers));
    });
    (wire, times)
}

#[test]
fn a_quota_that_is_used_up_pauses_all_requests() {
    for [remaining, reset] in [
        ["RateLimit-Remaining", "RateLimit-Reset"],
        ["X-RateLimit-Remaining", "X-RateLimit-Reset"],
        ["x-rate-limit-remaining", "x-rate-limit-reset"],
    ] {
        let (wire, times) = counted(move |number| {
            let left = if number < 3 { 3 - number } else { 1_000 };
            format!("{remaining}: {}\r\n{reset}: 3", left.saturating_sub(1))
        });
        let gap = longest_gap(&wire, &times, &[]);
        assert!(gap >= Duration::from_secs(3), "{remaining}: {gap:?}");
    }
}

#[test]
fn a_quota_bounds_the_rate() {
    // Twenty requests per ten seconds.
    let (wire, times) = counted(|number| format!("RateLimit: \"default\";r={};t=10", 20 - number.min(19)));
    longest_gap(&wire, &times, &["--rate", "unlimited"]);
    let times = times.lock().unwrap();
    let took = times[times.len() - 1] - times[0];
    // Seven gaps of at least half a second; the first two requests had no bound yet.
    assert!(took >= Duration::from_millis(2_500), "{took:?}");
}

#[test]
fn a_quota_never_raises_the_users_rate() {
    let (wire, times) = counted(|_| "RateLimit: \"default\";r=100000;t=10".into());
    longest_gap(&wire, &times, &["--rate", "4"]);
    let times = times.lock().unwrap();
    let took = times[times.len() - 1] - times[0];
    assert!(took >= Duration::from_millis(1_600), "{took:?}");
}

#[test]
fn a_row_that_alone_is_always_throttled_fails_and_holds_nothing_up() {
    const BAD: &str = "cust-000010";
    let world = World::new();
    let file = world.rows("users.csv", 60);
    let wire = Wire::new(|call| {
        if call.request.reference == BAD {
            call.send(json(429, r#"{"error_code":"too_many_requests"}"#));
        } else {
            call.answer_honestly();
        }
    });
    let quick = ["--max-attempts", "3", "--retry-initial", "50ms", "--retry-max", "100ms"];
    let done = wire.import(&world, &file, &quick);
    assert_eq!(done.code, 3, "{done:?}");
    assert_eq!(world.outcomes(), "created=59 failed=1");
    let failed = world.failed_rows();
    let row = ["object_reference_id", "_outcome", "_http_status"].map(|name| &*failed[0][name]);
    assert_eq!(row, [BAD, "failed", "429"]);
    let requests = wire.creates_of(BAD);
    assert!(requests <= 3 + 30, "{requests} requests for a row of three attempts");
    // The next run sends it again.
    wire.play(honest);
    assert_eq!(wire.import(&world, &file, &[]).code, 0);
    assert_eq!(world.outcomes(), "created=1 unchanged=59");
}

/// Three in ten requests are refused whatever the rate: this is not a limit, and no row fails.
#[test]
fn throttling_at_random_fails_no_row() {
    let world = World::with(Options { faults: vec![(Fault::Http429, 0.3)], ..Options::default() });
    world.reconfigure(|behavior| behavior.retry_after = String::new());
    let file = world.rows("users.csv", 20);
    let quick = ["--max-attempts", "1", "--retry-initial", "10ms", "--retry-max", "50ms"];
    let done = world.import(&file, &quick);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(world.outcomes(), "created=20");
}

/// At about one request a second, which was the rate when each 503 counted as a limit, the requests would take many
/// minutes.
#[test]
fn where_half_of_all_answers_are_503_the_rate_does_not_sink() {
    let world = World::with(Options { faults: vec![(Fault::Api503, 0.5)], ..Options::default() });
    let file = world.rows("users.csv", 400);
    let began = Instant::now();
    let done = world.import(&file, &["--rate=unlimited", "--max-attempts=30"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(world.summary()["requests"].as_u64().unwrap() > 600);
    assert!(began.elapsed() < Duration::from_secs(90), "{:?}", began.elapsed());
    world.assert_agreement(references(0..400));
}

/// Without courtesy, a held limit of fifty a second is exceeded again every few seconds.
#[test]
fn a_polite_run_holds_less_than_the_limit() {
    let world = World::with(Options { rate_limit: Some(50), ..Options::default() });
    let file = world.rows("users.csv", 700);
    let done = world.import(&file, &["--rate=unlimited", "--polite"]);
    assert_eq!(done.code, 0, "{done:?}");
    let refused = world.summary()["throttled"].as_u64().unwrap();
    assert!(done.stdout.contains(&format!("  requests refused by the API: {refused}\n")), "{done:?}");
    let entries = world.journal().entries();
    let last = entries.last().unwrap().at;
    let late = entries.iter().filter(|entry| last - entry.at < Duration::from_secs(5));
    let (sent, refused) = late
        .fold((0, 0), |(sent, refused), entry| (sent + 1, refused + u32::from(entry.status == Some(429))));
    assert!(refused == 0 && sent <= 245, "{sent} sent in the last five seconds, {refused} refused");
    world.assert_agreement(references(0..700));
}

#[test]
fn with_a_burst_of_one_exactly_one_request_leaves_at_first() {
    let world = World::new();
    let file = world.rows("users.csv", 3);
    assert_eq!(world.import(&file, &["--rate", "1", "--burst", "1"]).code, 0);
    let entries = world.journal().entries();
    let gaps: Vec<Duration> = entries.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(gaps.iter().all(|gap| *gap >= Duration::from_millis(500)), "{gaps:?}");
}

/// A proxy's response about a server that failed midway: the Create may have landed.
#[test]
fn a_503_of_a_server_that_failed_in_the_middle_is_asked_about() {
    let world = World::new();
    let file = world.rows("users.csv", 5);
    let number = AtomicUsize::new(0);
    let wire = Wire::new(move |call: &mut Call<'_>| {
        if call.request.create && number.fetch_add(1, SeqCst) == 2 {
            call.create();
            let why = "upstream connect error or disconnect/reset before headers. reset reason: connection termination";
            call.send(json(503, why));
        } else {
            call.answer_honestly();
        }
    });
    assert_eq!(wire.import(&world, &file, &["--concurrency", "1"]).code, 0);
    assert_eq!(world.outcomes(), "created=5");
    assert_eq!(wire.received().iter().filter(|request| request.create).count(), 5, "none is sent twice");
}
