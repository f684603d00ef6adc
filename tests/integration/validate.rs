//! The documented rules, and files as people write them: encodings, delimiters, quotes, lines.

use std::{collections::BTreeMap, path::Path};

use customer_import::customer::Rule;

use crate::world::{MERCHANT, World, cells, faults, rows};

/// One row per broken rule, with the expected faults in its last cell.
const RULES: &str = include_str!("../../samples/rules.csv");

/// Phone numbers in every spelling, with the expected result of `--phone-region IN` in the last cell.
const PHONES: &str = include_str!("../../samples/phones.csv");

/// `FIELD:RULE;…` by line, from the last cell of each record of the sample.
fn expected() -> BTreeMap<u64, String> {
    expected_of(RULES)
}

fn expected_of(sample: &str) -> BTreeMap<u64, String> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(sample.as_bytes());
    let records = reader.records().map(|record| {
        let record = record.unwrap();
        let line = record.position().unwrap().line();
        (line, record.iter().next_back().unwrap().to_owned())
    });
    records.collect()
}

#[test]
fn every_row_of_the_sample_breaks_what_it_says() {
    let world = World::new();
    let file = world.file("rules.csv", RULES);
    let done = world.import(&file, &[]);
    assert_eq!(done.code, 3, "{done:?}");
    let mut found: BTreeMap<u64, String> = BTreeMap::new();
    for row in world.failed_rows() {
        let faults_of_row = match row["_outcome"].as_str() {
            "duplicate" => "duplicate".to_owned(),
            "invalid" => faults(&row),
            other => panic!("{other}"),
        };
        assert_eq!((row["_http_status"].as_str(), row["_attempts"].as_str()), ("", "0"));
        assert!(!row["_error_message"].is_empty());
        found.insert(row["_line"].parse().unwrap(), faults_of_row);
    }
    for row in world.export("created") {
        found.insert(row[3].parse().unwrap(), "ok".to_owned());
    }
    assert_eq!(found, expected());
    let valid = expected().values().filter(|word| *word == "ok").count();
    assert_eq!(world.journal().requests(), valid as u64);
    assert_eq!(world.journal().customers(), valid);
}

#[test]
fn phones_in_any_spelling_are_sent_as_national_digits_with_their_code() {
    let world = World::new();
    let file = world.file("phones.csv", PHONES);
    let done = world.import(&file, &["--phone-region", "IN"]);
    assert_eq!(done.code, 3, "{done:?}");
    let mut found: BTreeMap<u64, String> = BTreeMap::new();
    for row in world.failed_rows() {
        found.insert(row["_line"].parse().unwrap(), faults(&row));
    }
    for row in world.export("created") {
        let customer = world.journal().customer(MERCHANT, &row[0]).unwrap();
        let sent = format!("{} {}", customer.mobile_country_code, customer.mobile_number);
        found.insert(row[3].parse().unwrap(), sent);
    }
    assert_eq!(found, expected_of(PHONES));
    // Without a region the rule applies unchanged, and the fault names the option.
    let done = world.run(&["validate", "phones.csv"]);
    assert_eq!(done.code, 3, "{done:?}");
    assert!(done.stdout.contains("mobile_number digits: ") && done.stdout.contains("--phone-region"));
    let done = world.run(&["validate", "phones.csv", "--phone-region", "Atlantis"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.starts_with("error: ") && done.stderr.contains("such as IN"), "{done:?}");
}

#[test]
fn the_samples_have_a_row_for_each_rule() {
    for word in Rule::ALL.map(Rule::name) {
        let end = format!(":{word}");
        let is_there = |sample| {
            expected_of(sample)
                .values()
                .any(|faults_of_row| faults_of_row.split(';').any(|pair| pair.ends_with(&end)))
        };
        assert!(is_there(RULES) || is_there(PHONES), "no row for {word}");
    }
}

#[test]
fn invalid_optional_fields_are_dropped_where_the_user_wants_it() {
    let world = World::new();
    let text = "object_reference_id,mobile_number,email_address,first_name,mobile_country_code\n\
                cust-0001,1,#N/A,Mary Ann,91\ncust-0002,2,b@example.com,Asha,+91\ncust-0003,x,c@example.com,Asha,91\n";
    let file = world.file("users.csv", text);
    let done = world.import(&file, &["--drop-invalid-optional", "--require", "mobile_country_code"]);
    assert_eq!(done.code, 3, "{done:?}");
    assert_eq!(world.outcomes(), "created=1 invalid=2");
    let dropped = serde_json::json!([
        {"field": "email_address", "rule": "spreadsheet", "rows": 1},
        {"field": "first_name", "rule": "character", "rows": 1},
    ]);
    assert_eq!(world.summary()["dropped"], dropped);
    assert!(done.stdout.contains("\n  dropped first_name for character: 1 row\n"), "{done:?}");
    let customer = world.journal().customer(MERCHANT, "cust-0001").unwrap();
    assert_eq!((customer.email_address.as_str(), customer.first_name.as_str()), ("", ""));
    assert_eq!(customer.mobile_country_code, "91");
    assert_eq!(world.import(&file, &["--drop-invalid-optional"]).code, 3);
    assert_eq!(world.outcomes(), "created=1 unchanged=1 invalid=1");
    // A field that was not sent is not part of what was imported: the row without it is unchanged.
    let text = text.replace("#N/A,Mary Ann", ",");
    let file = world.file("users.csv", text);
    world.import(&file, &["--drop-invalid-optional"]);
    assert_eq!(world.outcomes(), "unchanged=2 invalid=1");
    let counted = [
        ["1", "email_address", "spreadsheet", "1"],
        ["1", "first_name", "character", "1"],
        ["2", "email_address", "spreadsheet", "1"],
        ["2", "first_name", "character", "1"],
        ["2", "mobile_country_code", "digits", "1"],
        ["3", "mobile_country_code", "digits", "1"],
    ];
    assert_eq!(world.query("select run, field, rule, rows from dropped order by 1, 2"), counted);
}

/// Values that the platform's columns cannot hold would be refused there, or truncated.
#[test]
fn lengths_are_the_apis_to_judge_where_rules_are_lenient_and_a_negative_number_is_nobodys() {
    let world = World::new();
    let (long, name) = ("r".repeat(129), "n".repeat(65));
    let text = format!(
        "object_reference_id,mobile_number,email_address,first_name,last_name,mobile_country_code\n\
         {long},99887766554433221,{name}{name}@example.com,{name},{name},00091\n\
         cust-0002,-9988776655,,,,\ncust-0003,\u{2212}9988776655,,,,\n"
    );
    let file = world.file("users.csv", text);
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.outcomes(), "invalid=3");
    let all = "object_reference_id:too-long;mobile_number:too-long;email_address:too-long;first_name:too-long;\
               last_name:too-long;mobile_country_code:too-long";
    let faults_of_row: Vec<String> = world.failed_rows().iter().map(faults).collect();
    assert_eq!(faults_of_row, [all, "mobile_number:digits", "mobile_number:digits"]);
    assert_eq!(world.journal().requests(), 0);
    let done = world.import(&file, &["--validation", "lenient"]);
    assert_eq!((done.code, world.outcomes().as_str()), (3, "invalid=2 rejected=1"), "{done:?}");
    assert_eq!(world.journal().creates(), 1, "the API decides");
    for more in [&["--phone-region", "IN"][..], &["--phone-region", "IN", "--validation", "lenient"]] {
        world.import(&file, &[more, &["--ledger", "other.db"]].concat());
        assert_eq!(world.summary()["invalid"], 3 - world.summary()["rejected"].as_u64().unwrap_or(0));
        let done = world.run(&[&["validate", "users.csv", "--format", "csv"], more].concat());
        assert_eq!(done.stdout.matches(",mobile_number,digits,").count(), 2, "{done:?}");
    }
}

#[test]
fn validate_as_csv_is_the_failed_export_of_an_import() {
    let world = World::new();
    for (name, text) in [("rules.csv", RULES), ("phones.csv", PHONES), ("clean.csv", &rows(0..3))] {
        let file = world.file(name, text);
        let done = world.run(&["validate", name, "--format", "csv", "--phone-region", "IN"]);
        assert_eq!(done.code, if name == "clean.csv" { 0 } else { 3 }, "{done:?}");
        let ledger = format!("{name}.db");
        world.import(&file, &["--phone-region", "IN", "--ledger", &ledger]);
        let exported = world.run(&["export", "failed", "--ledger", &ledger]);
        assert_eq!(done.stdout, exported.stdout);
        assert_eq!(done.stderr, "");
    }
}

#[test]
fn validate_as_json_counts_what_import_would_do() {
    let world = World::new();
    world.file("rules.csv", RULES);
    let done = world.run(&["validate", "rules.csv", "--format", "json", "--rate", "2"]);
    assert_eq!((done.code, done.stderr.as_str()), (3, ""), "{done:?}");
    let found: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let expected = expected();
    let valid = expected.values().filter(|faults_of_row| *faults_of_row == "ok").count();
    assert_eq!((&found["rows"], &found["valid"]), (&expected.len().into(), &valid.into()));
    assert_eq!((&found["duplicate"], &found["duplicates"]["first_lines"][0]), (&1.into(), &26.into()));
    assert_eq!(found["import"]["rows"], valid);
    assert_eq!(found["import"]["seconds"], valid as f64 / 2.0);
    let faults = found["faults"].as_array().unwrap();
    let count: u64 = faults.iter().map(|group| group["rows"].as_u64().unwrap()).sum();
    let faults_of_row: usize = expected
        .values()
        .filter(|faults_of_row| faults_of_row.contains(':'))
        .map(|faults_of_row| faults_of_row.split(';').count())
        .sum();
    assert_eq!(count, faults_of_row as u64);
    let digits = faults.iter().find(|group| group["field"] == "mobile_number" && group["rule"] == "digits");
    let digits = digits.unwrap();
    assert_eq!(digits["option"], "--phone-region CC");
    assert_eq!((&digits["first"][0]["line"], &digits["rows"]), (&8.into(), &4.into()));
    let done = world.run(&["validate", "rules.csv", "--format", "json", "--rate", "unlimited", "-q"]);
    let found: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert!(found["import"]["seconds"].is_null(), "{found}");
    let done =
        world.run(&["validate", "rules.csv", "--format", "json", "--drop-invalid-optional", "--limit", "11"]);
    let found: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let dropped = serde_json::json!([
        {"field": "email_address", "rule": "character", "rows": 1},
        {"field": "email_address", "rule": "edge", "rows": 1},
    ]);
    assert_eq!(found["dropped"], dropped);
}

#[test]
fn references_that_differ_in_case_or_blanks_are_a_warning() {
    let world = World::new();
    let text = "object_reference_id,mobile_number\n\
                cust-0001,1\ncust-0002,2\nCUST-0001,3\ncust -0002,4\ncust-0002,5\nCust-0003,6\n";
    world.file("users.csv", text);
    let done = world.run(&["validate", "users.csv"]);
    assert_eq!((done.code, done.stderr.as_str()), (3, ""), "{done:?}");
    let expected = "users.csv: 6 rows, 5 valid, 0 invalid, 1 duplicate\n\
                    import would send 5 rows, in 0.1 s at 50 requests per second\n";
    assert!(done.stdout.starts_with(expected), "{done:?}");
    let warning = "\n\nwarning: object_reference_id alike: 2 rows, first on line 4, 5\n";
    assert!(done.stdout.contains(warning), "{done:?}");
    // With only a warning, every row is sent.
    world.file("users.csv", text.replace("cust-0002,5\n", ""));
    let done = world.run(&["validate", "users.csv"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains(warning), "{done:?}");
}

#[test]
fn validate_agrees_with_import_and_groups_what_it_found() {
    let world = World::new();
    world.file("rules.csv", RULES);
    let done = world.run(&["validate", "rules.csv"]);
    assert_eq!((done.code, done.stderr.as_str()), (3, ""), "{done:?}");
    let expected = expected();
    let of = |word: &str| expected.values().filter(|faults_of_row| *faults_of_row == word).count();
    let (ok, duplicate) = (of("ok"), of("duplicate"));
    let first = done.stdout.lines().next().unwrap();
    assert_eq!(
        first,
        format!(
            "rules.csv: {} rows, {ok} valid, {} invalid, {duplicate} duplicate",
            expected.len(),
            expected.len() - ok - duplicate
        )
    );
    let mut groups: BTreeMap<(&str, &str), Vec<u64>> = BTreeMap::new();
    for (line, faults_of_row) in &expected {
        for pair in faults_of_row.split(';').filter_map(|pair| pair.split_once(':')) {
            groups.entry(pair).or_default().push(*line);
        }
    }
    assert!(groups.len() > 10);
    let blocks: Vec<&str> = done.stdout.split("\n\n").skip(1).collect();
    for ((field, rule), lines) in &groups {
        let rows = if lines.len() == 1 { "row" } else { "rows" };
        let head = format!("{field} {rule}: {} {rows}", lines.len());
        let block = blocks.iter().find(|block| block.starts_with(&head));
        let block = block.unwrap_or_else(|| panic!("no {head:?} in {}", done.stdout));
        for line in lines {
            assert!(block.contains(&format!("\n  line {line}: ")), "{block}");
        }
        assert!(block.contains("\n  to do: ") || block.contains("\n  to do for "), "{block}");
    }
    assert_eq!(blocks.len(), groups.len() + 1, "{}", done.stdout);
    let duplicates = blocks.last().unwrap();
    assert!(duplicates.starts_with("object_reference_id duplicate: 1 row, "), "{duplicates}");
    assert!(duplicates.contains("line 26") && duplicates.contains("to do: "), "{duplicates}");
    assert!(!world.ledger().exists());
    assert_eq!(world.journal().requests(), 0);
}

#[test]
fn a_clean_file_is_valid_and_many_bad_lines_are_counted_not_listed() {
    let world = World::new();
    world.rows("users.csv", 1234);
    let done = world.run(&["validate", "users.csv"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    assert!(done.stdout.starts_with("users.csv: 1,234 rows, 1,234 valid, 0 invalid, 0 duplicate\n"));

    let bad: String = (0..1500).map(|n| format!("cust-{n:05},x\n")).collect();
    world.file("bad.csv", format!("object_reference_id,mobile_number\n{bad}"));
    let done = world.run(&["validate", "bad.csv"]);
    assert_eq!(done.code, 3);
    assert!(done.stdout.contains("mobile_number digits: 1,500 rows"), "{}", done.stdout);
    assert!(done.stdout.contains("line 2: ") && done.stdout.contains("and 1,495 more"));
    assert!(done.stdout.lines().count() < 15);
    assert_eq!(world.run(&["validate", "bad.csv", "-q"]).stdout, "");
    assert!(!world.ledger().exists());
}

#[test]
fn an_optional_field_can_be_required() {
    let world = World::new();
    let text = "object_reference_id,mobile_number,email_address\n\
                cust-0001,1,\ncust-0002,2,a@example.com\ncust-0003,3,  \n";
    let file = world.file("users.csv", text);
    assert_eq!(world.run(&["validate", "users.csv"]).code, 0);
    let done = world.import(&file, &["--require", "email_address"]);
    assert_eq!(done.code, 3);
    assert_eq!(world.outcomes(), "created=1 invalid=2");
    for row in world.failed_rows() {
        assert_eq!(faults(&row), "email_address:required");
    }
    assert_eq!(world.journal().requests(), 1);
}

#[test]
fn lenient_sends_names_as_they_are() {
    let world = World::new();
    let text = "object_reference_id,mobile_number,first_name,last_name\n\
                cust-0001,1,Mary Ann,O'Brien\ncust-0002,2,Jürgen,\"Müller, jun.\"\ncust-003,3,नेहा,李\nshort,4,A,B\n";
    let file = world.file("users.csv", text);
    let strict = world.run(&["validate", "users.csv"]);
    assert!(strict.stdout.contains("4 rows, 0 valid, 4 invalid"), "{strict:?}");
    assert!(strict.stdout.contains("--validation lenient"), "{strict:?}");
    let done = world.import(&file, &["--validation", "lenient"]);
    assert_eq!(done.code, 3, "{done:?}");
    assert_eq!(world.outcomes(), "created=3 invalid=1");
    for (reference, first, last) in [
        ("cust-0001", "Mary Ann", "O'Brien"),
        ("cust-0002", "Jürgen", "Müller, jun."),
        ("cust-003", "नेहा", "李"),
    ] {
        let customer = world.journal().customer(MERCHANT, reference).unwrap();
        assert_eq!((customer.first_name.as_str(), customer.last_name.as_str()), (first, last));
    }
}

#[test]
fn a_constant_fills_empty_cells_and_missing_columns_only() {
    let world = World::new();
    let text = "object_reference_id,mobile_number,mobile_country_code\ncust-0001,1,65\ncust-0002,2,\n";
    let file = world.file("users.csv", text);
    let more = ["--set=mobile_country_code=91", "--set=first_name=Guest"];
    assert_eq!(world.import(&file, &more).code, 0);
    for (reference, code) in [("cust-0001", "65"), ("cust-0002", "91")] {
        let customer = world.journal().customer(MERCHANT, reference).unwrap();
        assert_eq!(customer.mobile_country_code, code);
        assert_eq!(customer.first_name, "Guest");
    }
}

#[test]
fn a_constant_keeps_the_rules_too() {
    let world = World::new();
    let file = world.rows("users.csv", 2);
    let done = world.import(&file, &["--set", "mobile_country_code=+91"]);
    assert_eq!(done.code, 3, "{done:?}");
    assert_eq!(world.outcomes(), "invalid=2");
    assert_eq!(world.journal().requests(), 0);
}

#[test]
fn columns_are_mapped_and_the_rest_is_left_alone() {
    let world = World::new();
    let text = "Customer No,Phone,object_reference_id,_old,E-Mail\nCUST-0001,1,ignored1,x,a@example.com\n";
    let file = world.file("users.csv", text);
    let more =
        ["--map=object_reference_id=Customer No", "--map=mobile_number=Phone", "--map=email_address=E-Mail"];
    let done = world.import(&file, &more);
    assert_eq!(done.code, 0, "{done:?}");
    let customer = world.journal().customer(MERCHANT, "CUST-0001").unwrap();
    assert_eq!((customer.mobile_number.as_str(), customer.email_address.as_str()), ("1", "a@example.com"));
}

#[test]
fn files_are_read_however_they_are_written() {
    let world = World::new();
    for (number, (text, more)) in [
        ("ID,M,F\nREF,1,Asha\n", &[][..]),
        ("ID,M,F\r\nREF,1,Asha\r\n", &[]),
        ("ID,M,F\rREF,1,Asha\r", &[]),
        ("ID,M,F\nREF,1,Asha", &[]),
        ("\u{feff}ID,M,F\nREF,1,Asha\n", &[]),
        ("\u{feff}\"ID\",M,F\r\n\"REF\",\"1\",\"Asha\"\r\n", &[]),
        ("ID;M;F\nREF;1;Asha\n", &[]),
        ("ID\tM\tF\nREF\t1\tAsha\n", &[]),
        ("ID|M|F\nREF|1|Asha\n", &[]),
        ("ID:M:F\nREF:1:Asha\n", &["--delimiter", ":"]),
        ("ID\tM\tF\nREF\t1\tAsha\n", &["--delimiter", "tab"]),
        ("ID;M;F;\"a,b,c,d\"\nREF;1;Asha;,,,\n", &["--delimiter", ";"]),
        ("\n\nID,M,F\n\n\nREF,1,Asha\n\n", &[]),
        ("ID, M ,F\n REF , 1 , Asha \n", &[]),
        ("_line,F,ID,_outcome,M\n7,Asha,REF,failed,1\n", &[]),
    ]
    .into_iter()
    .enumerate()
    {
        let reference = format!("reference-{number}");
        let text = text
            .replace("ID", "object_reference_id")
            .replace("REF", &reference)
            .replace('M', "mobile_number")
            .replace('F', "first_name");
        let file = world.file("users.csv", &text);
        let done = world.import(&file, more);
        assert_eq!(done.code, 0, "{text:?} {done:?}");
        assert_eq!(world.outcomes(), "created=1", "{text:?}");
        let customer = world.journal().customer(MERCHANT, &reference).unwrap();
        assert_eq!((customer.mobile_number.as_str(), customer.first_name.as_str()), ("1", "Asha"));
    }
}

#[test]
fn standard_input_is_a_file_too() {
    let world = World::new();
    let text = crate::world::rows(0..3);
    let done = world.run_with_input(&["validate", "-"], text.as_bytes());
    assert_eq!(done.code, 0, "{done:?}");
    let args = world.import_args(Path::new("-"), &[]);
    let done = world.run_with_input(&args, text.as_bytes());
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(world.outcomes(), "created=3");
    assert_eq!(world.summary()["source"], "-");
    let done = world.run_with_input(&args, b"");
    assert_eq!(done.code, 2);
    assert!(done.stderr.starts_with("error: ") && done.stderr.contains("empty"), "{done:?}");
}

#[test]
fn a_limit_takes_the_first_rows_and_the_next_run_the_rest() {
    let world = World::new();
    let file = world.rows("users.csv", 10);
    assert_eq!(world.import(&file, &["--limit", "4"]).code, 0);
    assert_eq!(world.outcomes(), "created=4");
    let names: Vec<String> = world.export("created").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(names, ["cust-000000", "cust-000001", "cust-000002", "cust-000003"]);
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "created=6 unchanged=4");
    assert_eq!(world.journal().requests(), 10);
    let done = world.run(&["validate", "users.csv", "--limit", "3"]);
    assert!(done.stdout.starts_with("users.csv: 3 rows"), "{done:?}");
}

#[test]
fn lines_are_those_an_editor_shows() {
    let world = World::new();
    let text = "object_reference_id,mobile_number,note\r\n\
                cust-0001,1,\"one\r\ntwo\r\nthree\"\r\n\
                \r\n\
                cust-0002,2,x\r\n\
                cust-0003,bad,\"a\nb\"\r\n\
                cust-0004,4,z\r\n";
    let file = world.file("users.csv", text);
    assert_eq!(world.import(&file, &[]).code, 3);
    let lines: Vec<(String, String)> =
        world.export("all").into_iter().map(|row| (row[1].clone(), row[0].clone())).collect();
    let expected = [("cust-0001", "2"), ("cust-0002", "6"), ("cust-0003", "7"), ("cust-0004", "9")];
    assert_eq!(lines, expected.map(|(name, line)| (name.to_owned(), line.to_owned())));
    let done = world.run(&["validate", "users.csv"]);
    assert!(done.stdout.contains("line 7: "), "{done:?}");
}

#[test]
fn bytes_that_are_no_text_are_one_rows_fault() {
    let world = World::new();
    let text = b"object_reference_id,mobile_number,first_name\n\
                 cust-0001,1,Asha\ncust-0002,2,M\xfcller\ncust-0003,3,Imran\n";
    let file = world.file("users.csv", text);
    let done = world.import(&file, &["--validation", "lenient"]);
    assert_eq!(done.code, 3, "{done:?}");
    assert_eq!(world.outcomes(), "created=2 invalid=1");
    let rows = world.failed_rows();
    assert_eq!((rows[0]["_line"].as_str(), faults(&rows[0]).as_str()), ("3", "record:encoding"));
    assert!(rows[0]["_error_message"].contains("column 3"), "{rows:?}");
    // The damaged cell must not pass as valid when the export is imported unchanged.
    let export = world.run(&["export", "failed"]).stdout;
    let file = world.file("failed.csv", export);
    world.import(&file, &["--validation", "lenient"]);
    assert_eq!(world.outcomes(), "invalid=1");
    assert_eq!(world.journal().customers(), 2);
}

#[test]
fn a_row_of_too_many_fields_loses_none_of_them() {
    let world = World::new();
    let text = "object_reference_id,mobile_number,first_name\ncust-0001,98765,432,Asha\n";
    let file = world.file("users.csv", text);
    assert_eq!(world.import(&file, &[]).code, 3);
    let export = world.run(&["export", "failed"]).stdout;
    let rows = cells(&export);
    assert!(rows[0].iter().any(|cell| cell.contains("Asha")), "{export}");
}

#[test]
fn a_row_of_too_many_or_few_fields_is_not_created_by_importing_its_export_uncorrected() {
    let world = World::new();
    let text = "object_reference_id,mobile_number,first_name\n\
                cust-0001,98765,432,Asha\ncust-0002\n";
    let file = world.file("users.csv", text);
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.outcomes(), "invalid=2");
    let file = world.file("failed.csv", world.run(&["export", "failed"]).stdout);
    world.import(&file, &[]);
    assert_eq!(world.journal().created(), std::collections::HashMap::new());
}

#[test]
fn an_open_quote_does_not_swallow_the_file_in_silence() {
    let world = World::new();
    let text = "object_reference_id,mobile_number,first_name\ncust-0001,1,\"Asha\ncust-0002,2,Imran\n";
    let file = world.file("users.csv", text);
    let done = world.import(&file, &[]);
    assert_eq!(done.code, 3, "{done:?}");
    assert_eq!(world.journal().requests(), 0);
}

#[test]
fn a_client_auth_token_is_asked_for_and_kept_nowhere() {
    let world = World::new();
    let file = world.rows("users.csv", 2);
    let done = world.import(&file, &["--get-client-auth-token"]);
    assert_eq!(done.code, 0, "{done:?}");
    let ledger = std::fs::read(world.ledger()).unwrap();
    assert!(!String::from_utf8_lossy(&ledger).contains("tkn_"));
    assert!(!done.stdout.contains("tkn_"));
}

#[test]
fn an_open_quote_that_ends_with_the_file_or_at_the_next_quote_is_a_fault() {
    let world = World::new();
    for (name, last) in [("end.csv", "n"), ("next.csv", "\"a quoted note\"")] {
        let mut text = String::from("object_reference_id,mobile_number,note\n");
        for number in 0..50 {
            let note = match number {
                10 => "\"5 inch screen",
                30 => last,
                _ => "n",
            };
            text.push_str(&format!("cust_{number:04},9{number:04},{note}\n"));
        }
        let file = world.file(name, text);
        let done = world.run(&["validate", &file.display().to_string()]);
        assert_eq!(done.code, 3, "{done:?}");
        assert!(done.stdout.contains("record quotes: 1 row\n  line 12: "), "{done:?}");
    }
}

#[test]
fn an_open_quote_in_the_header_is_an_error_and_swallows_no_row() {
    let world = World::new();
    for last in ["\"", "\"notes"] {
        let mut text = format!("object_reference_id,mobile_number,{last}\n");
        for number in 0..60_000 {
            text.push_str(&format!("cust_{number:06},9{number:06},n\n"));
        }
        let file = world.file("users.csv", text).display().to_string();
        let done = world.run(&["validate", &file]);
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{done:?}");
        assert!(
            done.stderr.contains("a quote in column 3 of line 1 is never closed; it swallowed 60000 lines"),
            "{done:?}"
        );
    }
}

#[test]
fn a_quote_in_the_header_that_a_row_closes_swallows_no_row() {
    let world = World::new();
    for (text, seen) in [
        (
            "\"notes\ncust-0001,9876500101,x\ncust-0002,9876500102,y\"\ncust-0003,9876500103,\n",
            "2 lines, 2 to 3; 2 read as rows",
        ),
        ("\"notes\r\ncust-0001,9876500101,19\"\r\ncust-0003,9876500103,\r\n", "line 2; one reads as a row"),
    ] {
        for validation in ["documented", "lenient"] {
            world.file("users.csv", format!("object_reference_id,mobile_number,{text}"));
            let done = world.run(&["validate", "users.csv", "--validation", validation]);
            assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{done:?}");
            let seen = format!("a quote in column 3 of line 1 swallowed {seen}; correct the first line");
            assert!(done.stderr.contains(&seen), "{done:?}");
        }
    }
    // Column names of several lines are not rows.
    let text = "\"object_reference_id\n(our id)\",\"mobile_number\n10 digits, no +91\",\"x\ny, z\"\ncust-0001,9876500101,\n";
    let map = [
        "--map",
        "object_reference_id=object_reference_id\n(our id)",
        "--map",
        "mobile_number=mobile_number\n10 digits, no +91",
    ];
    for validation in ["documented", "lenient"] {
        world.file("users.csv", text);
        let done = world.run(&[&["validate", "users.csv", "--validation", validation], &map[..]].concat());
        assert_eq!(done.code, 0, "{done:?}");
    }
}

#[test]
fn validate_tells_what_each_option_would_rescue_and_sorts_faults_by_count() {
    let world = World::new();
    let text = "object_reference_id,mobile_number,email_address,first_name,mobile_country_code\n\
                cust-0001,99887 76655,,,\ncust-0002,+91 99887 76656,,,+91\ncust-0003,99887-76657,,,\n\
                cust-0004,9988776658,nobody,Asha,\ncust-0005,9988776659,,Mary Ann,\n\
                cust-0006,9988776660,,#N/A,\ncust-0007,9988776661,,,\ncust-0008,9988776662,,,\n";
    world.file("users.csv", text);
    let validate = |more: &[&str]| {
        let done = world.run(&[&["validate", "users.csv", "--format", "json"], more].concat());
        serde_json::from_str::<serde_json::Value>(&done.stdout).unwrap()
    };
    let found = validate(&[]);
    let rescue = serde_json::json!([
        {"option": "--drop-invalid-optional", "rows": 3},
        {"option": "--validation lenient", "rows": 5},
        {"option": "--phone-region IN", "rows": 3},
    ]);
    let by_option = |found: &serde_json::Value| {
        let mut list = found["rescue"].as_array().unwrap().clone();
        list.sort_by_key(|rescue| rescue["option"].to_string());
        list
    };
    let mut expected = rescue.as_array().unwrap().clone();
    expected.sort_by_key(|rescue| rescue["option"].to_string());
    assert_eq!(by_option(&found), expected);
    let counts: Vec<u64> =
        found["faults"].as_array().unwrap().iter().map(|f| f["rows"].as_u64().unwrap()).collect();
    assert!(counts.is_sorted_by(|a, b| a >= b) && counts[0] == 3, "{counts:?}");
    assert_eq!(found["faults"][0]["per_cent"], 37.5);
    // Each option has the effect that was predicted.
    for rescue in found["rescue"].as_array().unwrap() {
        let option: Vec<&str> = rescue["option"].as_str().unwrap().split(' ').collect();
        let with = validate(&option);
        let (before, after) = (found["valid"].as_u64().unwrap(), with["valid"].as_u64().unwrap());
        assert_eq!(after - before, rescue["rows"].as_u64().unwrap(), "{option:?}");
        assert!(by_option(&with).iter().all(|other| other["option"] != rescue["option"]), "{with}");
    }
    let done = world.run(&["validate", "users.csv"]);
    assert!(done.stdout.contains("\n  --phone-region IN would make 3 rows valid (37.5 %)\n"), "{done:?}");
    assert!(done.stdout.contains("  line 4: ") && done.stdout.contains("  37.5 % of all rows\n"), "{done:?}");
    // Nothing shows the region of these numbers.
    world.file("users.csv", "object_reference_id,mobile_number\ncust-0001,99887 76655\n");
    let done = world.run(&["validate", "users.csv"]);
    assert!(done.stdout.contains("--phone-region CC would make at most 1 row valid (100 %)"), "{done:?}");
}

/// Whoever finds a code in an export looks it up there.
#[test]
fn the_documentation_explains_every_code() {
    let page = include_str!("../../docs/outcomes.md");
    let codes = page.split_once("## Error codes\n").unwrap().1.split_once("\n## ").unwrap().0;
    for rule in Rule::ALL {
        assert!(codes.contains(&format!("`{rule}`")), "docs/outcomes.md: {rule}");
    }
}
