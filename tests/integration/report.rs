//! `report`: one run, or the whole ledger, as text, JSON and HTML, for every kind of run and any text in the ledger.

use std::collections::BTreeSet;

use customer_import::simulator::Outage;
use serde_json::Value;

use crate::{
    wire::{Wire, json},
    world::{KEY, World, wait_until},
};

fn report(world: &World, more: &[&str]) -> String {
    let done = world.run(&[&["report"], more].concat());
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    done.stdout
}

fn report_json(world: &World, more: &[&str]) -> Value {
    serde_json::from_str(&report(world, &[&["--format", "json"], more].concat())).unwrap()
}

/// The sum over all samples.
fn summed(report: &Value, name: &str) -> u64 {
    report["samples"].as_array().unwrap().iter().map(|sample| sample[name].as_u64().unwrap()).sum()
}

/// Asserts that a page contains nothing that makes a browser send a request or run a script.
fn assert_whole_in_itself(page: &str) {
    let page = page.to_lowercase();
    for word in ["<script", "<img", "<iframe", "<form", "<base", "url(", "@import", "src=", "action="] {
        assert!(!page.contains(word), "{word} in the page");
    }
    assert!(page.contains("default-src 'none'"));
    assert!(page.match_indices("href=").all(|(at, _)| page[at..].starts_with("href=\"data:,\"")));
    // Every opened tag is closed, so no text has become markup.
    for tag in
        ["section", "table", "tr", "td", "div", "span", "svg", "figure", "article", "p", "q", "code", "h1"]
    {
        let (begins, ends) = (format!("<{tag}"), format!("</{tag}>"));
        let opened =
            page.match_indices(&begins).filter(|(at, _)| page[at + begins.len()..].starts_with([' ', '>']));
        assert_eq!(opened.count(), page.matches(&ends).count(), "{tag}");
    }
}

const FAULTS: &str = "object_reference_id,mobile_number,email_address\n\
    cust-0001,1,a@b.example\n\
    cust-0002,x,a@b@c\n\
    cust-0001,3,\n\
    cust-0004,4,\n\
    cust-0005,y,\n";

#[test]
fn what_a_run_did_as_text_and_json() {
    let world = World::new();
    let file = world.file("users.csv", FAULTS);
    assert_eq!(world.import(&file, &["--set", "first_name=Bo", "--burst", "3"]).code, 3);
    let text = report(&world, &[]);
    for words in [
        "Run 1  import completed, exit code 3",
        "users.csv",
        &world.base_url(),
        "5 rows in ",
        "invalid, mobile_number digits: 2 rows, on line 3, 6",
        "invalid, email_address at-sign: 1 row, on line 3",
        "duplicate, an earlier row has the same object_reference_id: 1 row, on line 4",
        "to do: write the number as digits only",
        "first_name=(not shown) (flag)",
        "(environment CUSTOMER_IMPORT_LEDGER)",
    ] {
        let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(words) || joined.contains(words), "no {words:?} in {text}");
    }
    // A path or an address is not truncated, because it could not be copied.
    let long = text.lines().filter(|line| line.chars().count() > 80 && !line.contains('/'));
    assert_eq!(long.collect::<Vec<_>>(), Vec::<&str>::new());

    let (report, summary) = (report_json(&world, &[]), world.summary());
    for (name, value) in summary.as_object().unwrap() {
        // How the file was read, how often the API requested a pause, and which worker it was is known only during the run.
        let of_process =
            ["columns", "unused_columns", "adjustments", "pauses", "worker", "workers", "worker_rows"];
        if of_process.contains(&name.as_str()) {
            assert_eq!(report.get(name), None);
            continue;
        }
        let named_so = [("merchant", "merchant_id"), ("target", "base_url"), ("reasons", "errors")];
        if let Some((_, other)) = named_so.iter().find(|(summarys, _)| summarys == name) {
            assert_eq!(report[*other], *value);
            continue;
        }
        if name == "ledger" {
            assert_eq!(*value, world.ledger().display().to_string());
            continue;
        }
        let about = name == "elapsed_seconds";
        assert!(about && report[name].is_number() || report[name] == *value, "{name}: {}", report[name]);
    }
    assert_eq!(summed(&report, "requests"), 2);
    assert_eq!((summed(&report, "succeeded"), summed(&report, "faulty")), (2, 3));
    assert!(report["latency_ms"]["p99"].as_f64() > Some(0.0), "{}", report["latency_ms"]);
    let options = report["options"].as_array().unwrap();
    let option = |name: &str| options.iter().find(|option| option["name"] == name).unwrap();
    assert_eq!((&option("burst")["value"], &option("burst")["origin"]), (&"3".into(), &"flag".into()));
    assert_eq!(option("concurrency")["origin"], "default");
    assert!(!report.to_string().contains(KEY));
}

/// All percentages of a page, in tenths.
fn tenths(page: &str) -> u64 {
    let shares =
        page.split("<td class=\"number quiet\">").skip(1).map(|rest| rest.split(" %").next().unwrap());
    shares.map(|share| (share.parse::<f64>().unwrap() * 10.0).round() as u64).sum()
}

#[test]
fn a_manager_reads_how_it_stands_and_why() {
    let world = World::new();
    let mut file = String::from("object_reference_id,mobile_number,first_name,last_name\n");
    for (at, [first, last]) in [
        ["Mary Ann", "Rao"],
        ["Bo", "Da Silva"],
        ["Mary Ann", "Da Silva"],
        ["José", "Rao"],
        ["Bo", "Rao"],
        ["Bo", "Rao"],
    ]
    .iter()
    .enumerate()
    {
        file.push_str(&format!("cust-000{at},98765,{first},{last}\n"));
    }
    assert_eq!(world.import(&world.file("users.csv", &file), &[]).code, 3);
    let headline =
        "2 of 6 customers are in Juspay; 4 rows need correction, most of them because of a space in a name.";
    let json = report_json(&world, &[]);
    assert_eq!(json["headline"], headline);
    let first_name = &json["errors"][0];
    assert_eq!(first_name["reason"], "First name has a character that Juspay does not allow");
    assert_eq!(
        first_name["characters"],
        serde_json::json!([{"kind": "space", "rows": 2}, {"kind": "letter", "rows": 1}])
    );
    let text = report(&world, &[]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(headline), "{text}");

    let page = report(&world, &["--format", "html"]);
    let at = |words: &str| page.find(words).unwrap_or_else(|| panic!("no {words:?} in {page}"));
    assert!(
        at(&format!("<h1>{headline}</h1>")) < at("First name has a character that Juspay does not allow")
    );
    assert!(at("Last name has a character") < at("<h2>Options"));
    assert!(at("a space in 2 rows, a letter other than A to Z in 1 row.") < at("To do: use only"));
    assert_eq!(tenths(&page), 1000, "the shares add up: {page}");
    assert!(page.contains("<span class=\"name\">--validation </span>") && !page.contains("1 requests"));
}

#[test]
fn a_ledger_is_told_as_a_whole_and_each_customer_once() {
    let world = World::new();
    let file = world.file("users.csv", FAULTS);
    let name = &["--set", "first_name=Bo"];
    assert_eq!(world.import(&file, &[&name[..], &["--limit", "1"]].concat()).code, 0);
    assert_eq!(world.import(&file, name).code, 3);
    // The next day's file has the same customers, and one row is correct now.
    let tomorrow = world.file("tomorrow.csv", FAULTS.replace(",y,", ",5,"));
    assert_eq!(world.import(&tomorrow, name).code, 3);
    let json = report_json(&world, &["--all"]);
    let runs: Vec<_> = json["runs"].as_array().unwrap().iter().map(|run| run["rows"].as_u64()).collect();
    assert_eq!(runs, [Some(1), Some(5), Some(5)]);
    let status: Value = serde_json::from_str(&world.run(&["status", "--format", "json"]).stdout).unwrap();
    for word in ["rows", "created", "invalid", "duplicate", "pending"] {
        assert_eq!(json[word], status[word], "{word}");
    }
    assert_eq!(
        (&json["rows"], &json["created"], &json["invalid"]),
        (&5.into(), &3.into(), &1.into()),
        "{json}"
    );
    // The corrected row is no longer open, and the others are counted once.
    let errors = json["errors"].as_array().unwrap();
    assert!(errors.iter().any(|error| error["reason"] == "Mobile number has something other than digits"));
    assert!(errors.iter().all(|error| error["rows"] == 1), "{json}");
    let text = report(&world, &["--all"]);
    assert!(text.starts_with("All runs: 3 runs, started from "), "{text}");
    assert!(text.contains("3 customers are in Juspay; 2 of 5 rows need correction"), "{text}");
    let page = report(&world, &["--all", "--format", "html"]);
    assert_whole_in_itself(&page);
    for words in ["<h1>3 customers are in Juspay; ", "Customers in Juspay over time", "Run 1, ", "created 1"]
    {
        assert!(page.contains(words), "no {words:?} in {page}");
    }
    // A newer file has a wrong number for a customer that is imported: a row to correct, and no further customer.
    let broken = world.file("broken.csv", FAULTS.replace("cust-0001,1,", "cust-0001,x,"));
    assert_eq!(world.import(&broken, name).code, 3);
    let text = report(&world, &["--all"]);
    assert!(text.contains("  3 customers are in Juspay; "), "{text}");
    assert_eq!(world.run(&["report", "--all", "--run", "1"]).code, 2);
}

#[test]
fn a_ledger_of_a_year_of_nights_is_a_small_page() {
    let world = World::new();
    assert_eq!(world.import(&world.rows("users.csv", 3), &[]).code, 0);
    world.execute(
        "with recursive night (n) as (select 2 union all select n + 1 from night where n < 500)
         insert into run (id, command, source, state, exit_code, started_at, ended_at, columns)
         select n, command, source, state, exit_code, started_at + n * 86400.0 * 1000, ended_at + n * 86400.0 * 1000, columns
         from run, night where run.id = 1",
    );
    world.execute(
        "insert into run_outcome (run, outcome, rows) select id, 'unchanged', 3 from run where id > 1",
    );
    let page = report(&world, &["--all", "--format", "html"]);
    assert_whole_in_itself(&page);
    assert!(page.len() < 120_000, "{} bytes", page.len());
    // The first five and the last 35 are listed; the 460 in between have three rows each.
    assert!(page.contains("460 runs: unchanged 1,380; "), "{page}");
    let text = report(&world, &["--all"]);
    assert!(text.contains("460 runs: unchanged 1,380; ") && text.lines().count() < 150, "{text}");
    assert_eq!(report_json(&world, &["--all"])["runs"].as_array().unwrap().len(), 500);
}

#[test]
fn a_ledger_without_a_run_is_told_too() {
    let world = World::new();
    assert_eq!(world.import(&world.rows("users.csv", 3), &[]).code, 0);
    for table in ["run_outcome", "setting", "sample", "checkpoint", "row", "claim_batch", "run"] {
        world.execute(&format!("delete from {table}"));
    }
    for format in ["text", "json", "html"] {
        assert!(report(&world, &["--all", "--format", format]).contains("No run has begun yet."), "{format}");
    }
}

#[test]
fn every_run_has_its_own_report() {
    let world = World::new();
    assert_eq!(world.import(&world.file("a.csv", FAULTS), &[]).code, 3);
    assert_eq!(world.import(&world.rows("b.csv", 4), &[]).code, 0);
    assert_eq!(report_json(&world, &[])["run"], 2);
    let first = report_json(&world, &["--run", "1"]);
    assert_eq!((&first["run"], &first["invalid"]), (&1.into(), &2.into()));
    for (args, words) in [
        (&["--run", "3"][..], "there is no run 3 in the ledger; see status"),
        (&["--run", "0"], "--run"),
        (&["--format", "pdf"], "--format"),
        (&["--output", "nowhere/page.html"], "cannot write nowhere/page.html"),
        (&["--ledger", "none.db"], "there is no ledger none.db"),
    ] {
        let done = world.run(&[&["report"], args].concat());
        assert!([1, 2].contains(&done.code) && done.stdout.is_empty(), "{done:?}");
        assert!(done.stderr.starts_with("error: ") && done.stderr.lines().count() == 1, "{done:?}");
        assert!(done.stderr.contains(words), "{done:?}");
    }
    assert!(!world.path("nowhere").exists() && !world.path("none.db").exists());
    for (args, about) in
        [(&["--run", "1"][..], "run 1"), (&[], "the latest run"), (&["--all"], "the whole ledger")]
    {
        let done = world.run(&[&["report", "--output", "page.html", "--format", "html"], args].concat());
        let wrote = format!("wrote the report on {about} to page.html\n");
        assert_eq!((done.code, done.stdout.as_str(), done.stderr), (0, "", wrote));
    }
    if world.is_in_file() {
        let done = world.run(&["report", "--output", "ledger.db"]);
        done.assert_error(2, &["would overwrite the ledger"]);
    }
}

/// A run counts the rows that it cannot send while it goes, and what options would make of them; a report reads them from
/// the ledger. The third run resumes
/// behind all rows, and the fourth behind some.
#[test]
fn a_run_says_of_its_errors_what_the_ledger_says() {
    let world = World::new();
    let names = "cust-0006,6,Anna Maria\ncust-0007,7,O'Neil\ncust-0008,q,Zoë\ncust-0006,9,\n";
    let mut text = format!("object_reference_id,mobile_number,first_name\n{names}");
    (0..3000)
        .for_each(|row| text.push_str(&format!("cust-0100,{},{}\n", row % 7, ["", "é", "x y"][row % 3])));
    let appended = text.clone() + "cust-0200,1,\ncust-0200,2,\ncust-0201,x,\n";
    for text in [names_last(&text), text.clone(), text, appended] {
        let file = world.file("users.csv", &text);
        let done = world.import(&file, &[]);
        assert_eq!(done.code, 3, "{done:?}");
        let (summary, read) = (world.summary(), report_json(&world, &[]));
        assert!(summary["reasons"].as_array().unwrap().len() > 2, "{summary}");
        assert_eq!(summary["reasons"], read["errors"]);
        assert!(!summary["rescue"].as_array().unwrap().is_empty(), "{summary}");
        assert_eq!(summary["rescue"], read["rescue"]);
    }
}

/// The same rows in reverse order.
fn names_last(text: &str) -> String {
    let (header, rows) = text.split_once('\n').unwrap();
    let rows: Vec<&str> = rows.lines().rev().collect();
    format!("{header}\n{}\n", rows.join("\n"))
}

#[test]
fn what_others_wrote_is_text_on_the_page() {
    let world = World::new();
    let hostile = "</q></p><script>alert(99)</script><img onerror=z>&\" '\u{1b}[31m";
    let file = world.file("<b>\" onload=\"x&.csv", FAULTS);
    let wire = Wire::new(move |call| {
        let summary = serde_json::to_string(hostile).unwrap();
        call.send(json(400, format!(r#"{{"error_code":{summary},"error_message":{summary}}}"#)));
    });
    assert_eq!(wire.import(&world, &file, &[]).code, 3);
    let done = world.run(&["report", "--format", "html", "-o", "page.html"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, ""), "{done:?}");
    let page = std::fs::read_to_string(world.path("page.html")).unwrap();
    assert_whole_in_itself(&page);
    assert!(page.contains("script&#62;alert(99)") && page.contains("&#34; onload=&#34;x"), "{page}");
    assert!(!page.contains('\u{1b}') && !report(&world, &[]).contains('\u{1b}'));
}

#[test]
fn a_page_of_any_size_is_whole_in_itself() {
    let world = World::new();
    for rows in [0, 20, 1_000] {
        let file = world.rows("users.csv", rows);
        assert_eq!(world.import(&file, &[]).code, 0);
        let page = report(&world, &["--format", "html"]);
        assert_whole_in_itself(&page);
        assert!(page.len() < 200_000, "{rows} rows: {} bytes", page.len());
    }
}

#[test]
fn a_run_that_goes_on_and_one_that_died() {
    let world = World::new();
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Hang));
    let file = world.rows("users.csv", 5);
    let mut child = world.start_import(&file, &[]);
    // Nothing is settled, so no commit is made for another reason.
    let has_samples = || {
        world.has_ledger()
            && world.number("select count(*) from sample") >= 2
            && world.number("select count(*) from heartbeat where in_flight > 0") == 1
    };
    assert!(wait_until(&mut child, has_samples));
    let running = report_json(&world, &[]);
    assert_eq!((&running["state"], &running["exit_code"]), (&"running".into(), &Value::Null));
    assert!(running["elapsed_seconds"].as_f64() > Some(0.0));
    assert_eq!((&running["errors"], &running["errors_not_shown"]), (&serde_json::json!([]), &0.into()));
    assert!(running["live"]["in_flight"].as_u64() > Some(0), "{running}");
    let page = report(&world, &["--format", "html"]);
    assert!(
        page.contains("<h1>The import is running: 0 % done. No customer is in Juspay so far.</h1>"),
        "{page}"
    );
    assert!(page.contains("class=\"progress\"") && !page.contains("Why rows are not in Juspay"), "{page}");
    assert_whole_in_itself(&page);
    child.kill().unwrap();
    child.wait().unwrap();
    let died = report_json(&world, &[]);
    assert_eq!(died["state"], "died");
    assert!(summed(&died, "in_flight") > 0, "{died}");
    assert!(died["elapsed_seconds"].as_f64() < Some(60.0));
    world.reconfigure(|behavior| behavior.outage = None);
    assert_eq!(world.import(&file, &[]).code, 0);
    let states: BTreeSet<String> =
        ["1", "2"].map(|run| report_json(&world, &["--run", run])["state"].to_string()).into();
    assert_eq!(states, ["\"completed\"", "\"interrupted\""].map(str::to_owned).into());
    // The rows that it left open now belong to another run.
    let first = report_json(&world, &["--run", "1"]);
    assert_eq!((&first["pending"], &first["errors_not_shown"]), (&5.into(), &5.into()), "{first}");
}
