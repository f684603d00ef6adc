//! Which column feeds which field: headings, `--map`, templates, and columns that feed no field.
//!
//! The disaster is a field that is read from another column than its owner meant, or not at all, without a message.

use customer_import::simulator::{Fault, Options};
use serde_json::{Value, json};

use crate::world::{MERCHANT, World};

#[test]
fn headings_are_compared_without_case_blanks_and_punctuation() {
    for heading in ["First Name", "first-name", "FIRST_NAME", " firstName ", "\u{feff}first\u{200b}name"] {
        let world = World::new();
        let file = world.file(
            "users.csv",
            format!("Object Reference ID,mobile-number,\"{heading}\"\ncustomer-1,9876500110,Ann\n"),
        );
        let done = world.import(&file, &[]);
        assert_eq!(done.code, 0, "{heading:?}: {done:?}");
        assert_eq!(world.journal().customer(MERCHANT, "customer-1").unwrap().first_name, "Ann");
    }
    // Of two similar headings, only an exact match is used.
    let world = World::new();
    let exact = "object_reference_id,mobile_number,First Name,first_name\ncustomer-1,1,No,Yes\n";
    assert_eq!(world.import(&world.file("exact.csv", exact), &[]).code, 0);
    assert_eq!(world.journal().customer(MERCHANT, "customer-1").unwrap().first_name, "Yes");
    world.file("alike.csv", "object_reference_id,mobile_number,First Name,first-name\ncustomer-2,1,a,b\n");
    world
        .run(&["validate", "alike.csv"])
        .assert_error(2, &["two columns", "--map 'first_name=First Name' or --map 'first_name=first-name'"]);
}

#[test]
fn a_column_that_begins_with_an_underscore_feeds_no_field_unless_it_is_named() {
    let world = World::new();
    let text = "object_reference_id,mobile_number,_First_Name\ncust-0001,9876500101,Asha\n";
    let file = world.file("users.csv", text);
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.journal().customer(MERCHANT, "cust-0001").unwrap().first_name, "");
    world.file("marked.csv", "_object_reference_id,_mobile_number\ncust-0001,9876500101\n");
    let done = world.run(&["validate", "marked.csv"]);
    assert!(
        done.code == 2 && done.stderr.contains("no columns object_reference_id, mobile_number"),
        "{done:?}"
    );
    let done = world.run(&["validate", "users.csv", "--map", "first_name=_First_Name"]);
    assert!(done.code == 0 && done.stdout.contains("first_name ← _First_Name"), "{done:?}");
}

#[test]
fn the_mapping_is_listed_with_the_columns_that_feed_nothing() {
    let world = World::new();
    let file = world.file(
        "users.csv",
        "object_reference_id,Phone,EMAIL,city,_note\ncustomer-1,9876500110,a@b.c,Pune,x\n",
    );
    let map = ["--map", "mobile_number=phone", "--set", "first_name=Ann"];
    let warning =
        "column EMAIL feeds no field; give --map 'email_address=EMAIL' to send it, or --ignore 'EMAIL'";
    let text = world.run(&[&["validate", "users.csv"], &map[..]].concat());
    assert_eq!(text.code, 0, "{text:?}");
    for line in ["mobile_number ← Phone", "first_name ← --set", "not sent: EMAIL, city\n", warning] {
        assert!(text.stdout.contains(line), "{line}: {text:?}");
    }
    let columns = json!([
        {"field": "object_reference_id", "column": "object_reference_id"},
        {"field": "mobile_number", "column": "Phone"},
        {"field": "first_name", "constant": true},
    ]);
    let found = world.run(&[&["validate", "users.csv", "--format", "json"], &map[..]].concat());
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!((&found["columns"], &found["unused_columns"]), (&columns, &json!(["EMAIL", "city"])));
    assert_eq!(found["warnings"][0]["warning"], "unmapped-column");
    let done = world.import(&file, &[&map[..], &["--progress", "always"]].concat());
    assert!(done.code == 0 && done.stderr.contains(warning), "{done:?}");
    let summary = world.summary();
    assert_eq!((&summary["columns"], &summary["unused_columns"]), (&columns, &json!(["EMAIL", "city"])));
    let ignored =
        world.run(&[&["validate", "users.csv", "--ignore", "e-mail", "--ignore", "City"], &map[..]].concat());
    assert!(!ignored.stdout.contains("not sent") && !ignored.stdout.contains("warning"), "{ignored:?}");
}

#[test]
fn strict_columns_refuses_a_column_that_feeds_nothing() {
    let world = World::new();
    let file = world.file("users.csv", "object_reference_id,mobile_number,city,it's\ncustomer-1,1,x,y\n");
    let done = world.import(&file, &["--strict-columns"]);
    done.assert_error(2, &["feed no field: city, it's", "--ignore 'city' --ignore 'it'\\''s'"]);
    assert_eq!(world.journal().requests(), 0);
    let done = world.import(&file, &["--strict-columns", "--ignore=city", "--ignore=it's"]);
    assert_eq!(done.code, 0, "{done:?}");
    world.file("settings.toml", "strict-columns = true\nignore = [\"city\", \"it's\"]\n");
    let done = world.run(&["validate", "users.csv", "--config", "settings.toml"]);
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn an_ignored_column_that_the_file_lacks_is_warned_of_and_one_that_is_sent_is_refused() {
    let world = World::new();
    let file = world.file("users.csv", "object_reference_id,mobile_number,city\ncustomer-1,1,x\n");
    let options = ["--ignore=nothere", "--ignore=citty"];
    let warnings =
        ["--ignore 'nothere': the file has no such column; leave", "did you mean --ignore 'city'?"];
    let text = world.run(&[&["validate", "users.csv"], &options[..]].concat());
    assert!(text.code == 0 && warnings.iter().all(|words| text.stdout.contains(words)), "{text:?}");
    let found = world.run(&[&["validate", "users.csv", "--format", "json"], &options[..]].concat());
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(found["warnings"][1]["warning"], "unknown-ignored-column");
    let plan = world.run(&[&["plan", "users.csv"], &options[..]].concat());
    assert!(warnings.iter().all(|words| plan.stdout.contains(words)), "{plan:?}");
    let refused = world.import(&file, &["--ignore", "Mobile Number"]);
    refused.assert_error(2, &["--ignore mobile_number: the column feeds mobile_number"]);
    assert_eq!(world.journal().requests(), 0);
    let done = world.import(&file, &options);
    assert!(done.code == 0 && warnings.iter().all(|words| done.stderr.contains(words)), "{done:?}");
}

#[test]
fn a_template_in_another_spelling_is_answered_with_the_right_one() {
    let world = World::new();
    world.file("users.csv", "id,shop,mobile_number\n1234567,x,9876500110\n");
    for (template, meant) in [
        ("cust_{{id}}", "write cust_{id}"),
        ("{{shop}}{{id}}", "write {shop}{id}"),
        ("{{shop}}_{id}", "object_reference_id={shop}_{id}'?"),
        ("cust_${id}", "write cust_{id}"),
        ("cust_%id%", "object_reference_id=cust_{id}'?"),
        ("cust_<id>", "object_reference_id=cust_{id}'?"),
        ("$shop-$id", "object_reference_id={shop}-{id}'?"),
        ("<id>", "object_reference_id=id'?"),
    ] {
        let done = world.run(&["validate", "users.csv", "--map", &format!("object_reference_id={template}")]);
        done.assert_error(2, &[meant]);
    }
    // If the field is optional, all rows would have been sent without it.
    let done = world.run(&[
        "validate",
        "users.csv",
        "--map",
        "object_reference_id=cust_{ id }",
        "--map",
        "first_name={{shop}}",
    ]);
    done.assert_error(2, &["it has no column", "write {shop}"]);
    let done = world.run(&["validate", "users.csv", "--map", "object_reference_id=cust_{ id }"]);
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn every_missing_column_is_named_at_once_with_options_to_paste() {
    let world = World::new();
    world.file("users.csv", "Id,Phone,x\n1,2,3\n");
    world.run(&["validate", "users.csv"]).assert_error(
        2,
        &[
            "no columns object_reference_id, mobile_number in users.csv (columns found: Id, Phone, x)",
            "did you mean --map 'object_reference_id=Id' --map 'mobile_number=Phone'?",
        ],
    );
    world.run(&["validate", "users.csv", "--require", "first_name"]).assert_error(
        2,
        &[
            "--map 'object_reference_id=Id' --map 'mobile_number=Phone' --map first_name=COLUMN",
            "--set first_name",
        ],
    );
}

#[test]
fn a_template_makes_a_reference_of_columns() {
    let world = World::with(Options { faults: vec![(Fault::Reject, 1.0)], ..Options::default() });
    let rows = "shop,id,mobile_number\na, 7 ,1\na,,2\n,8,3\na,9.87E+09,4\n,,5\na,8.0,6\na,\"1,234\",7\n";
    let file = world.file("users.csv", rows);
    let map = ["--map", "object_reference_id=cust_{Shop}-{id}"];
    let done = world.import(&file, &map);
    assert_eq!((done.code, world.outcomes().as_str()), (3, "invalid=6 rejected=1"), "{done:?}");
    let faults: Vec<[String; 3]> = world
        .failed_rows()
        .iter()
        .filter(|row| row["_outcome"] == "invalid")
        .map(|row| ["_line", "_field", "_error_code"].map(|name| row[name].clone()))
        .collect();
    let field = "object_reference_id";
    assert_eq!(
        faults,
        [
            ["3", field, "required"],
            ["4", field, "required"],
            ["5", field, "spreadsheet"],
            ["6", field, "required"],
            ["7", field, "spreadsheet"],
            ["8", field, "spreadsheet"]
        ]
    );
    assert!(world.failed_text().contains("column 2 of its template is empty"));
    // The ledger stores the template: a retry makes the same reference.
    world.reconfigure(|behavior| behavior.faults.clear());
    let done = world.aim("retry", &[]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=1"), "{done:?}");
    assert!(world.journal().customer(MERCHANT, "cust_a-7").is_some());
    // The export has the source's own columns, so that the same template applies when it is imported.
    let header = world.failed_text().lines().next().unwrap().to_owned();
    assert!(header.starts_with("shop,id,mobile_number,_line"), "{header}");
    let corrected = world.file("failed.csv", format!("{header}\na,10,2,3,invalid,{field},required,,,0\n"));
    let done = world.import(&corrected, &map);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=1"), "{done:?}");
    assert!(world.journal().customer(MERCHANT, "cust_a-10").is_some());
}

#[test]
fn a_template_of_an_optional_field_is_empty_where_its_columns_are() {
    let world = World::new();
    let file = world.file(
        "users.csv",
        "object_reference_id,mobile_number,first,last\ncustomer-1,1,Ann,Bee\ncustomer-2,2, ,\ncustomer-3,3,,Dee\n",
    );
    let done = world.import(&file, &["--map", "last_name={first}{{{last}}}", "--validation", "lenient"]);
    assert_eq!(done.code, 0, "{done:?}");
    let last_name = |reference| world.journal().customer(MERCHANT, reference).unwrap().last_name;
    assert_eq!(["customer-1", "customer-2", "customer-3"].map(last_name), ["Ann{Bee}", "", "{Dee}"]);
}

#[test]
fn a_template_that_cannot_be_read_is_refused_before_anything_is_sent() {
    let world = World::new();
    let file = world.file("users.csv", "id,mobile_number\n1,1\n");
    for (template, words) in [
        ("c_{id", "a { without a }"),
        ("c_{}", "no column name"),
        ("c_{id}}", "a } without a {"),
        ("c_{it}", "no column it"),
    ] {
        let done = world.import(&file, &["--map", &format!("object_reference_id={template}")]);
        done.assert_error(2, &[words]);
        assert!(!world.ledger().exists());
    }
}
