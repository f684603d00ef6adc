//! The final message of a run: only what happened, why rows were not imported, and what to do next.

use std::time::Duration;

use customer_import::simulator::{Fault, Options};
use serde_json::Value;

use crate::world::{Done, MERCHANT, World, finish, signal, wait_until};

/// The command or sentence after `next:`.
fn next(done: &Done) -> &str {
    let line = done.stdout.lines().find_map(|line| line.strip_prefix("  next:   "));
    line.unwrap_or_else(|| panic!("no next line: {done:?}"))
}

/// The lines between the outcomes and their sum.
fn shown_outcomes(done: &Done) -> Vec<&str> {
    let lines = done.stdout.lines().skip_while(|line| !line.starts_with("Run ")).skip(2);
    lines
        .map(|line| line.split_whitespace().next().unwrap_or_default())
        .take_while(|word| *word != "rows")
        .collect()
}

/// A file with rows that break rules, each rule in one row more than the previous one.
fn faulty_file(world: &World) -> std::path::PathBuf {
    let mut text = String::from("object_reference_id,mobile_number,email_address,first_name,last_name\n");
    let good = ["98765", "a@b.in", "Asha", "Rao"];
    let bad = [(2, "Mary Ann"), (3, "O'Brien"), (0, "98 76"), (1, "nobody"), (1, ".a@b.in"), (0, "")];
    for (times, (at, cell)) in bad.into_iter().enumerate() {
        for number in 0..=times {
            let mut cells = good;
            cells[at] = cell;
            text.push_str(&format!("customer-{times}{number},{}\n", cells.join(",")));
        }
    }
    text.push_str("customer-99,98765,a@b.in,Asha,Rao\ncustomer-99,1,,,\n");
    world.file("users.csv", text)
}

#[test]
fn a_run_with_faults_says_the_five_most_frequent_reasons_and_what_to_do() {
    let world = World::new();
    let file = faulty_file(&world);
    let done = world.import(&file, &[]);
    assert_eq!(done.code, 3, "{done:?}");
    assert_eq!(shown_outcomes(&done), ["created", "duplicate", "invalid"], "{done:?}");
    let reasons: Vec<&str> = done
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("  invalid, ").or_else(|| line.strip_prefix("  duplicate, ")))
        .collect();
    let expected = [
        "mobile_number required: 6 rows, first on line 17, 18, 19, 20, 21",
        "email_address edge: 5 rows, on line 12, 13, 14, 15, 16",
        "email_address at-sign: 4 rows, on line 8, 9, 10, 11",
        "mobile_number digits: 3 rows, on line 5, 6, 7",
        "last_name character: 2 rows, on line 3, 4",
    ];
    assert_eq!(reasons, expected, "{done:?}");
    assert_eq!(done.stdout.matches("    to do: ").count(), 5, "{done:?}");
    assert!(done.stdout.contains("\n  and 2 more kinds: "), "{done:?}");
    assert!(!done.stdout.contains("throttled") && !done.stdout.contains("repeated"), "{done:?}");
    assert!(done.stdout.lines().take_while(|line| !line.starts_with("  next:")).all(|line| line.len() <= 80));
    let summary = world.summary();
    let reasons = summary["reasons"].as_array().unwrap();
    assert_eq!(reasons.len(), 7, "{summary}");
    assert_eq!(
        (&reasons[0]["field"], &reasons[0]["code"], &reasons[0]["rows"]),
        (&"mobile_number".into(), &"required".into(), &6.into())
    );
    assert!(reasons.iter().all(|reason| reason["remedy"].as_str().is_some_and(|text| !text.is_empty())));
    assert!(!summary.to_string().contains("nobody") && !done.stdout.contains("nobody"), "{done:?}");
}

/// The end of a run, the report and `validate` read the same faults with the same code.
#[test]
fn each_row_gets_the_remedy_that_validate_has_for_it_and_options_their_effect() {
    let world = World::new();
    let text = "object_reference_id,mobile_number,first_name\ncust-0001,98765 00101,Asha\n\
                cust-0002,-9876500102,Asha\ncust-0003,9876500103,Mary Ann\nTotal,3,\n\
                cust-0005,98765,Asha\ncust-0006,+91 98765 00106,Asha\ncust-0007,9\n";
    let file = world.file("users.csv", text);
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let validated = plain(&world.run(&["validate", "users.csv"]).stdout);
    let done = world.import(&file, &[]);
    assert_eq!(done.code, 3, "{done:?}");
    let report = world.run(&["report"]).stdout;
    let page = world.run(&["report", "--format", "html"]).stdout.replace("<span class=\"name\">", "");
    let page = page.replace("<code class=\"name\">", "").replace("</span>", "").replace("</code>", "");
    let all = world.run(&["report", "--all"]).stdout;
    for words in [
        "for 1 row: export the data again; if it has to go through a spreadsheet, import this column as text",
        "for 2 rows: write the number as digits only",
        ": delete the line: it is not a customer",
        "--validation lenient would make 3 rows valid (42.9 %)",
        "--phone-region IN would make 2 rows valid (28.6 %)",
        "--drop-invalid-optional would make 1 row valid (14.3 %)",
    ] {
        assert!(validated.contains(words), "{words}: {validated}");
        for text in [&done.stdout, &report, &page, &all] {
            assert!(plain(text).contains(words), "{words}: {text}");
        }
    }
    let summary = world.summary();
    assert_eq!(summary["rescue"][0]["option"], "--validation lenient");
    let reasons = summary["reasons"].as_array().unwrap();
    let digits = reasons.iter().find(|reason| reason["code"] == "digits").unwrap();
    assert_eq!([&digits["remedies"][0]["rows"], &digits["remedies"][1]["rows"]], [2, 1], "{digits}");

    // A run that finds the file as it was reads none of it, and tells the same.
    let again = world.import(&file, &[]);
    assert!(again.stdout.contains("--validation lenient would make 3 rows valid (42.9 %)"), "{again:?}");

    // An option that was given is not suggested again.
    let done = world.import(&file, &["--phone-region", "IN", "--validation", "lenient"]);
    assert!(!done.stdout.contains("would make") && done.stdout.contains("invalid"), "{done:?}");
}

/// A row may both break a rule and repeat the reference of an earlier row, which is not a rule.
#[test]
fn an_invalid_row_with_the_reference_of_an_earlier_row_says_both() {
    let world = World::new();
    let text = "object_reference_id,mobile_number,first_name\ncust-0001,9876500101,Asha\n\
                cust-0001,98765 00102,Asha\ncust-0001,98765 00103,Asha\ncust-0001,9876500104,Asha\n";
    let done = world.import(&world.file("users.csv", text), &[]);
    assert_eq!(done.code, 3, "{done:?}");
    let report = world.run(&["report"]).stdout;
    for text in [&done.stdout, &report, &world.run(&["report", "--all"]).stdout] {
        for words in [
            "invalid, mobile_number digits: 2 rows",
            "invalid, an earlier row has the same object_reference_id: 2 rows",
            "duplicate, an earlier row has the same object_reference_id: 1 row",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert_eq!(text.matches("An earlier row has the same customer reference").count(), 2, "{text}");
        assert!(!text.contains("does not know"), "{text}");
    }
    let reasons = world.summary()["reasons"].clone();
    let repeated = reasons
        .as_array()
        .unwrap()
        .iter()
        .find(|reason| reason["outcome"] == "invalid" && reason["code"] == "duplicate");
    assert_eq!(
        repeated.unwrap()["remedy"],
        "only the first row of each reference is imported; remove the others"
    );
    let page = world.run(&["report", "--format", "html"]).stdout;
    assert!(
        page.contains("An earlier row has the same customer reference") && !page.contains("does not know")
    );
}

#[test]
fn the_summary_names_the_run() {
    let world = World::new();
    let file = world.rows("users.csv", 3);
    world.import(&file, &[]);
    let summary = world.summary();
    assert_eq!(summary["merchant"], MERCHANT);
    assert_eq!(summary["target"], world.base_url());
    assert_eq!(summary["ledger"], world.ledger().display().to_string());
    assert_eq!(summary["reasons"], Value::Array(Vec::new()));
    let report: Value = serde_json::from_str(&world.run(&["report", "--format", "json"]).stdout).unwrap();
    assert!(summary["started_at"].as_str() <= summary["ended_at"].as_str(), "{summary}");
    for name in ["started_at", "ended_at"] {
        assert!(summary[name].is_string() && summary[name] == report[name], "{name}: {summary}");
    }
}

#[test]
fn the_next_step_fits_the_end() {
    let world = World::new();
    let ledger = world.ledger().display().to_string();
    let good = world.rows("users.csv", 3);
    let done = world.import(&good, &[]);
    assert_eq!(next(&done), format!("customer-import export created --ledger {ledger} --output created.csv"));
    let done = world.import(&faulty_file(&world), &[]);
    assert_eq!(next(&done), format!("customer-import export failed --ledger {ledger} --output failed.csv"));
    let done = world.import(&world.rows("few.csv", 2), &["--expect-rows", "5"]);
    assert!(done.code == 3 && next(&done).contains("--expect-rows"), "{done:?}");
}

#[test]
fn a_ledger_with_blanks_in_its_path_can_be_copied_from_the_next_step() {
    let world = World::new();
    let file = world.rows("users.csv", 1);
    let ledger = world.path("it's a ledger.db");
    let done = world.import(&file, &["--ledger", ledger.to_str().unwrap()]);
    let folder = ledger.parent().unwrap().display().to_string();
    let quoted = format!(r"--ledger '{folder}/it'\''s a ledger.db' --output");
    assert!(next(&done).contains(&quoted), "{done:?}");
}

#[test]
fn an_interrupted_run_is_continued_by_the_same_command() {
    let latency = (Duration::from_millis(20), Duration::from_millis(20));
    let world = World::with(Options { latency, ..Options::default() });
    let file = world.rows("users.csv", 5000);
    let mut child = world.start_import(&file, &["--rate", "100"]);
    assert!(wait_until(&mut child, || world.journal().requests() > 0));
    signal(&child, "INT");
    let done = finish(child);
    assert_eq!(done.code, 130, "{done:?}");
    let next = done.stdout.lines().find(|line| line.contains("next:"));
    assert_eq!(next, Some("  next:   run the same command again to continue"), "{done:?}");
}

#[test]
fn a_stopped_run_says_what_to_correct_first() {
    let world = World::with(Options { faults: vec![(Fault::Http503, 1.0)], ..Options::default() });
    let file = world.rows("users.csv", 5);
    let done = world.import(&file, &["--outage-limit", "1s", "--retry-initial", "50ms"]);
    assert_eq!(done.code, 4, "{done:?}");
    assert!(next(&done).contains("--base-url") && next(&done).ends_with("run the same command again"));
}
