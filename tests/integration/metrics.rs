//! `--metrics-listen` and `--metrics-textfile`, and the sample alerts and dashboards that use the metrics.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Child,
};

use customer_import::simulator::{Fault, Options, Outage};

use crate::world::{MERCHANT, World, wait_until};

/// The server's response to a request line.
fn ask(address: &str, line: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{line} HTTP/1.1\r\nHost: metrics\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Starts an import that serves metrics; returns the address that the import prints.
fn start(world: &World, more: &[&str]) -> (Child, String, BufReader<std::process::ChildStderr>) {
    let more = [&["--metrics-listen", "127.0.0.1:0", "-v"], more].concat();
    let mut child = world.start_import(&world.path("users.csv"), &more);
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("url=") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "the run ended");
    }
    let address = line.trim().rsplit_once("http://").unwrap().1;
    let address = address.strip_suffix("/metrics").unwrap().to_owned();
    (child, address, log)
}

/// Value by sample; asserts that each sample occurs once.
pub(crate) fn samples(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with("\n# EOF\n"), "not whole: {text}");
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("customer_import_")) {
        let (sample, value) = line.rsplit_once(' ').unwrap();
        assert!(samples.insert(sample.to_owned(), value.parse().unwrap()).is_none(), "{sample} twice");
    }
    samples
}

/// The values of a metric by one label, whatever its merchant and target.
pub(crate) fn values(samples: &BTreeMap<String, f64>, name: &str, label: &str) -> f64 {
    let of_name = samples.iter().filter(|(sample, _)| sample.split('{').next() == Some(name));
    of_name.filter(|(sample, _)| sample.contains(label)).map(|(_, value)| value).sum()
}

fn names(samples: &BTreeMap<String, f64>) -> BTreeSet<String> {
    samples.keys().map(|sample| sample.split('{').next().unwrap().to_owned()).collect()
}

#[test]
fn a_scrape_says_where_the_run_stands() {
    let world = World::with(Options::default());
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Hang));
    world.rows("users.csv", 20);
    let (mut child, address, log) = start(&world, &["--concurrency", "7", "--shutdown-grace", "10ms"]);
    let scrape = || {
        let answer = ask(&address, "GET /metrics");
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert!(head.contains("application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
        samples(text)
    };
    assert!(wait_until(&mut child, || {
        let seen = scrape();
        values(&seen, "customer_import_requests_in_flight", "") == 7.0
            && values(&seen, "customer_import_rows_pending", "") == 20.0
    }));
    let seen = scrape();
    let target = format!("{{merchant=\"{MERCHANT}\",target=\"{}\"}}", world.base_url());
    assert_eq!(seen[&format!("customer_import_requests_in_flight{target}")], 7.0);
    assert_eq!(values(&seen, "customer_import_rows_total", ""), 0.0);
    assert_eq!(values(&seen, "customer_import_outage", ""), 0.0);
    assert!(!names(&seen).contains("customer_import_exit_code"), "it goes on");
    assert!(!names(&seen).contains("customer_import_last_success_timestamp_seconds"), "there was none");

    assert!(ask(&address, "HEAD /metrics").starts_with("HTTP/1.1 200 OK"));
    assert!(ask(&address, "GET /").starts_with("HTTP/1.1 404 "));
    assert!(ask(&address, "POST /metrics").starts_with("HTTP/1.1 405 "));
    assert!(ask(&address, "nonsense").starts_with("HTTP/1.1 400 "));
    // A silent client delays nobody.
    let _silent = TcpStream::connect(&address).unwrap();
    scrape();
    child.kill().unwrap();
    child.wait().unwrap();
    drop(log);
}

#[test]
fn the_textfile_has_the_last_word() {
    let world = World::with(Options {
        faults: vec![(Fault::Http500, 0.2), (Fault::Reject, 0.2)],
        ..Options::default()
    });
    let file = world.rows("users.csv", 200);
    let done = world.import(&file, &["--metrics-textfile", "import.prom", "--concurrency", "300"]);
    assert_eq!(done.code, 3, "{done:?}");
    let text = std::fs::read_to_string(world.path("import.prom")).unwrap();
    let (seen, summary) = (samples(&text), world.summary());
    let of = |outcome: &str| values(&seen, "customer_import_rows_total", &format!("outcome=\"{outcome}\""));
    for outcome in ["created", "existing", "unchanged", "changed", "updated", "rejected", "failed"] {
        assert_eq!(of(outcome), summary[outcome].as_f64().unwrap(), "{outcome}");
    }
    assert!(of("created") > 0.0 && of("rejected") > 0.0, "{text}");
    assert_eq!(values(&seen, "customer_import_requests_total", ""), summary["requests"].as_f64().unwrap());
    assert_eq!(values(&seen, "customer_import_retries_total", ""), summary["retries"].as_f64().unwrap());
    assert!(
        values(&seen, "customer_import_requests_total", "step=\"create\",status=\"500\"") > 0.0,
        "{text}"
    );
    assert!(
        text.contains("\n# TYPE customer_import_requests_total counter\n"),
        "node_exporter goes by it: {text}"
    );
    let counted = values(&seen, "customer_import_request_duration_seconds_count", "");
    assert_eq!(counted, summary["requests"].as_f64().unwrap());
    assert_eq!(values(&seen, "customer_import_request_duration_seconds_bucket", "le=\"+Inf\""), counted);
    // One process has done the whole run.
    let outcomes = ["created", "existing", "duplicate", "invalid", "rejected", "failed", "pending"];
    for outcome in outcomes {
        let of_run = values(&seen, "customer_import_run_rows", &format!("outcome=\"{outcome}\""));
        assert_eq!(of_run, summary[outcome].as_f64().unwrap(), "{outcome}");
    }
    for count in ["requests", "retries", "throttled"] {
        let of_run = values(&seen, &format!("customer_import_run_{count}"), "");
        assert_eq!(of_run, summary[count].as_f64().unwrap(), "{count}");
    }
    assert_eq!(values(&seen, "customer_import_run_workers", ""), 1.0);
    assert_eq!(values(&seen, "customer_import_exit_code", ""), 3.0);
    let ended = world.number("select max(ended_at) from run") as f64 / 1000.0;
    let success = values(&seen, "customer_import_last_success_timestamp_seconds", "");
    assert!((success - ended).abs() < 5.0, "{success} and {ended}");

    // A run that is stopped does not remove the earlier success.
    world.reconfigure(|behavior| behavior.key_revoked = true);
    let more = world.file("users.csv", crate::world::rows(200..210));
    assert_eq!(world.import(&more, &["--metrics-textfile", "import.prom"]).code, 4);
    let seen = samples(&std::fs::read_to_string(world.path("import.prom")).unwrap());
    assert_eq!(values(&seen, "customer_import_exit_code", ""), 4.0);
    let before = values(&seen, "customer_import_last_success_timestamp_seconds", "");
    assert!((before - ended).abs() < 0.01, "{before} and {ended}");

    let mode = std::fs::metadata(world.path("import.prom")).unwrap().permissions().mode();
    assert_ne!(mode & 0o044, 0, "node_exporter is another user");
    let left: Vec<_> =
        std::fs::read_dir(world.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_str().unwrap().ends_with(".new")), "{left:?}");
}

/// The other commands that send also export metrics, each to its own file.
#[test]
fn updates_retries_and_verifications_are_seen() {
    let world = World::with(Options { faults: vec![(Fault::Reject, 0.5)], ..Options::default() });
    let file = world.rows("users.csv", 40);
    assert_eq!(world.import(&file, &[]).code, 3);
    world.reconfigure(|behavior| behavior.faults = Vec::new());
    let seen = |name: &str| samples(&std::fs::read_to_string(world.path(name)).unwrap());
    let of = |seen: &BTreeMap<String, f64>, what: &str, label: &str| {
        values(seen, &format!("customer_import_{what}"), &format!("{label}\""))
    };

    let rejected = world.summary()["rejected"].as_f64().unwrap();
    assert_eq!(world.aim("retry", &["--metrics-textfile", "retry.prom"]).code, 0);
    let retry = seen("retry.prom");
    assert!(rejected > 0.0 && of(&retry, "rows_total", "outcome=\"created") == rejected, "{retry:?}");

    let changed = crate::world::rows(0..40).replace("example.com", "example.org");
    let changed = world.file("users.csv", changed);
    let more = ["--update-changed", "--metrics-textfile", "update.prom"];
    assert_eq!(world.import(&changed, &more).code, 0);
    let update = seen("update.prom");
    assert!(of(&update, "rows_total", "outcome=\"updated") > 0.0, "{update:?}");
    assert_eq!(
        of(&update, "requests_total", "step=\"update\",status=\"200"),
        of(&update, "rows_total", "outcome=\"updated")
    );

    assert_eq!(world.aim("verify", &["users.csv", "--metrics-textfile", "verify.prom"]).code, 0);
    let verify = seen("verify.prom");
    assert_eq!(of(&verify, "requests_total", "step=\"get\",status=\"200"), 40.0);
    assert_eq!(values(&verify, "customer_import_exit_code", ""), 0.0);
    let ended = world.number("select max(ended_at) from run") as f64 / 1000.0;
    let success = values(&verify, "customer_import_last_success_timestamp_seconds", "");
    assert!((success - ended).abs() < 0.001, "a verification imports nothing: {success} and {ended}");
}

#[test]
fn what_cannot_be_had_is_said_before_anything_is_sent() {
    let world = World::new();
    let file = world.rows("users.csv", 2);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let folder = world.folder.path().display().to_string();
    for (more, words) in [
        (["--metrics-listen", &*taken], ["cannot listen on ", "port 0"]),
        (["--metrics-listen", "localhost"], ["--metrics-listen cannot be", "such as 127.0.0.1:9464"]),
        (["--metrics-textfile", "nowhere/import.prom"], ["nowhere/import.prom", "a folder that exists"]),
        (["--metrics-textfile", "/dev/null"], ["/dev/null", "not a regular file"]),
        (["--metrics-textfile", &*folder], ["is a directory", "import.prom"]),
        (["--metrics-textfile", "users.csv"], ["would overwrite the source", "--metrics-textfile"]),
    ] {
        let done = world.import(&file, &more);
        assert_eq!(done.code, 2, "{more:?}: {done:?}");
        assert!(done.stderr.starts_with("error: ") && done.stderr.lines().count() == 1, "{done:?}");
        assert!(words.iter().all(|words| done.stderr.contains(words)), "{done:?}");
        assert!(!world.ledger().exists(), "{more:?}");
    }
    assert_eq!(world.journal().requests(), 0);
}

/// The metrics that a text names.
fn named(path: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let begins = text.match_indices("customer_import_").map(|(at, _)| &text[at..]);
    let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
    begins.map(|rest| rest[..rest.find(|c| !is_word(c)).unwrap()].to_owned()).collect()
}

#[test]
fn the_samples_name_what_a_scrape_has() {
    let world = World::new();
    let file = world.rows("users.csv", 30);
    assert_eq!(world.import(&file, &[]).code, 0);
    world.rows("users.csv", 40);
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Hang));
    let more = ["--rate", "100", "--metrics-textfile", "import.prom"];
    let (mut child, address, mut log) = start(&world, &more);
    let scrape = || samples(ask(&address, "GET /metrics").split_once("\r\n\r\n").unwrap().1);
    let is_in_flight = || values(&scrape(), "customer_import_requests_in_flight", "") > 0.0;
    assert!(wait_until(&mut child, is_in_flight));
    let mut seen = names(&scrape());
    world.reconfigure(|behavior| behavior.outage = None);
    child.kill().unwrap();
    child.wait().unwrap();
    drop(log.read_line(&mut String::new()));
    assert_eq!(world.import(&world.path("users.csv"), &more).code, 0);
    let text = std::fs::read_to_string(world.path("import.prom")).unwrap();
    let last = names(&samples(&text));
    assert!(last.is_superset(&seen), "the file has what a scrape has: {last:?}");
    seen.extend(last);
    // A histogram is named by the prefix of its samples.
    let histograms: Vec<_> =
        seen.iter().filter_map(|name| name.strip_suffix("_bucket")).map(str::to_owned).collect();
    seen.extend(histograms);
    for path in ["samples/prometheus/alerts.yml", "samples/prometheus/dashboard.json", "docs/operating.md"] {
        let named = named(path);
        assert!(named.len() > 5, "{path}: {named:?}");
        let unknown: Vec<_> = named.difference(&seen).collect();
        assert!(unknown.is_empty(), "{path} names what nobody exposes: {unknown:?}");
    }
}
