//! Text inside quotes is never a row, and rows swallowed by a quote are never lost silently.
//!
//! The disaster: an inch mark at the beginning of a cell swallows the following rows, up to the next quote, and the
//! run ends with success; or a line of a letter inside a cell becomes a customer.

use serde_json::{Value, json};

use crate::world::World;

const HEADER: &str = "object_reference_id,mobile_number,notes\n";

fn validated(world: &World, options: &[&str]) -> Value {
    let done = world.run(&[&["validate", "users.csv", "--format", "json"], options].concat());
    serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"))
}

#[test]
fn rows_swallowed_by_a_quote_make_the_record_a_fault_that_names_the_lines() {
    let world = World::new();
    for (text, seen) in [
        (
            "cust-0001,1,\"asked for a call\ncust-0002,2,plain\ncust-0003,3,screen of 19\"\n",
            "a quote in column 3 of line 2 swallowed 2 lines, 3 to 4; 2 read as rows",
        ),
        (
            "cust-0001,1,\"asked for a call\r\ncust-0003,3,screen of 19\"\r\n",
            "a quote in column 3 of line 2 swallowed line 3; one reads as a row",
        ),
        (
            "cust-0001,1,\"asked\ncust-0002,2,\"\"\ncust-0003,3,\"\"\ncust-0004,4,19\"\n",
            "a quote in column 3 of line 2 swallowed 3 lines, 3 to 5; 3 read as rows",
        ),
        (
            "cust-0001,1,\"5 inch\ncust-0002,2,x\ncust-0003,3,\"hello\"\n",
            "text after the closing quote at position 13 of line 4, in column 3; it swallowed 2 lines, 3 to 4",
        ),
        (
            "cust-0001,1,\"5 inch\ncust-0002,2,x\ncust-0003,3,y\n",
            "a quote in column 3 of line 2 is never closed; it swallowed 2 lines, 3 to 4",
        ),
    ] {
        world.file("users.csv", format!("{HEADER}{text}"));
        let found = validated(&world, &[]);
        assert_eq!(
            (&found["rows"], &found["invalid"], &found["faults"][0]["rule"], &found["faults"][0]["option"]),
            (&json!(1), &json!(1), &json!("quotes"), &json!("--quote none"))
        );
        assert_eq!(found["faults"][0]["first"][0]["seen"], seen, "{text:?}");
        assert_eq!(found["adjustments"][0]["adjustment"], "swallowed-line");
        // The option that the fault names makes every row valid.
        let rows = text.lines().count();
        let found = validated(&world, &["--quote", "none"]);
        assert_eq!((&found["valid"], &found["invalid"]), (&json!(rows), &json!(0)), "{text:?}");
    }
}

/// Rows that would be invalid, or lack their last cells, are rows too.
#[test]
fn a_row_inside_a_quote_is_seen_whatever_is_wrong_with_it() {
    let world = World::new();
    let header = "object_reference_id,mobile_number,first_name,notes\n";
    for swallowed in ["cust-0002,9876500102", "cust-0002,+91 9876500102,Bo,x", "c-2,9876500102,Bo,x"] {
        let text = format!("cust-0001,9876500101,Ann,\"asked\n{swallowed}\nfor a call\"\ncust-0003,3,Cy,x\n");
        world.file("users.csv", format!("{header}{text}"));
        let found = validated(&world, &[]);
        let seen = "a quote in column 4 of line 2 swallowed 2 lines, 3 to 4; one reads as a row";
        assert_eq!(found["faults"][0]["first"][0]["seen"], seen, "{swallowed}: {found}");
        assert_eq!((&found["valid"], &found["invalid"]), (&json!(1), &json!(1)));
    }
    let letter = "Ann Smith, 9876500102\n1, 2, 3, 4\nstreet, 12, floor, x\ncalled 9876500103, twice, or, so";
    world.file("users.csv", format!("{header}cust-0001,9876500101,Ann,\"{letter}\"\n"));
    assert_eq!(validated(&world, &[])["valid"], json!(1), "text");
    // Without a number of its own, only a reference without blanks tells a row.
    world.file("users.csv", "object_reference_id,notes\ncust-0001,\"Hello there\nhow are you, friend\"\n");
    assert_eq!(validated(&world, &["--set", "mobile_number=9876500101"])["valid"], json!(1));
}

/// The remedies for blanks around quotes, as they are shown.
#[test]
fn the_remedies_for_blanks_around_quotes_work() {
    let world = World::new();
    let text = " \"cust-0001\" ,\"1\"  ,x\n\"cust-0002\", \"2\",\"a, b\" \n";
    let file = world.file("users.csv", format!("{HEADER}{text}"));
    let directory = file.parent().unwrap().to_owned();
    for _ in 0..2 {
        let found = validated(&world, &[]);
        let remedy = found["faults"][0]["remedy"].as_str().unwrap_or_default().to_owned();
        let Some(at) = remedy.find("sed ") else { break };
        let command = remedy[at..].replace("FILE | customer-import import -", "users.csv > mended.csv");
        let command = format!("{command} && mv mended.csv users.csv");
        let run = std::process::Command::new("bash").arg("-c").arg(command).current_dir(&directory).status();
        assert!(run.unwrap().success());
    }
    assert_eq!(validated(&world, &[])["valid"], json!(2));
}

#[test]
fn a_cell_of_several_lines_is_fine_where_none_reads_as_a_row() {
    let world = World::new();
    let header = "notes,object_reference_id,mobile_number,address\n";
    let text = "\"two\nlines\",cust-0001,1,\"Street 7\nCity, 560001\nIndia\"\n\
                x,cust-0002,2,\"a, b, c\n1, 2, 3, 4\"\n,cust-0003,3,\n";
    let file = world.file("users.csv", format!("{header}{text}"));
    let done = world.import(&file, &[]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=3"), "{done:?}");
    // A blank line in a cell is not a row, although a constant fills its empty cell.
    let file = world.file("users.csv", "object_reference_id\n\"cust-0004\n\n\"\n\"\n\"\n");
    let done = world.import(&file, &["--set", "mobile_number=9988776655"]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=1"), "{done:?}");
}

#[test]
fn an_uncorrected_export_of_swallowed_rows_creates_nobody() {
    let world = World::new();
    let long = "x".repeat(100);
    let text = format!("{HEADER}cust-0001,1,\"asked {long}\ncust-0002,2,plain\n19\"\ncust-0009,9,\"x\"y\n");
    let file = world.file("users.csv", text);
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.run(&["export", "failed", "--output", "failed.csv"]).code, 0);
    assert_eq!(world.import(&world.path("failed.csv"), &[]).code, 3);
    assert_eq!(world.journal().customers(), 0);
}

#[test]
fn a_line_of_a_long_cell_is_no_customer() {
    let world = World::new();
    let line = "<p>one line of a long letter in a cell</p>\n";
    let planted = "cust-0099,99,planted\n";
    for (count, more, outcomes) in [(1600, planted, "created=1 invalid=1"), (40_000, "", "created=2")] {
        let cell = format!("{}{more}{}", line.repeat(count), line.repeat(90));
        let text = format!("{HEADER}cust-{count},1,\"{cell}\"\nokay-{count},2,ok\n");
        let file = world.file("users.csv", text);
        world.import(&file, &["--ledger", &format!("{count}.db")]);
        assert_eq!(world.outcomes(), outcomes, "{count}");
        assert!(!world.journal().created().contains_key("cust-0099"));
    }
    // A part of the second cell is kept, and that is reported.
    assert_eq!(world.summary()["adjustments"][0]["adjustment"], "cut-cell");
    // A cell that is sent is bounded; the row after it is read.
    let text = format!("{HEADER}\"{}\",1,x\ncust-0003,3,ok\n", line.repeat(1600));
    let file = world.file("users.csv", text);
    let done = world.import(&file, &[]);
    assert_eq!(world.outcomes(), "created=1 invalid=1", "{done:?}");
    let failed = &world.failed_rows()[0];
    assert_eq!((failed["_error_code"].as_str(), failed["_line"].as_str()), ("too-long", "2"), "{failed:?}");
    assert!(failed["_error_message"].contains("bytes in column 1, where 64 KiB may be"), "{failed:?}");
}

#[test]
fn malformed_quoting_is_a_fault_that_shows_the_place() {
    let world = World::new();
    for (row, seen) in [
        ("\"cust \"A\" 0001\",1,x", "text after the closing quote at position 7 of line 2, in column 1"),
        ("\"cust-0001\"x,1,x", "text after the closing quote at position 11 of line 2, in column 1"),
        ("cust-0001, \"1\",x", "a blank before the opening quote at position 12 of line 2, in column 2"),
        ("cust-0001,\"1\" ,x", "a blank after the closing quote at position 13 of line 2, in column 2"),
        ("\"cust-0001\",1,\"\"x", "text after the closing quote at position 16 of line 2, in column 3"),
    ] {
        world.file("users.csv", format!("{HEADER}{row}\ncust-0009,9,5\" wide\n"));
        let found = validated(&world, &[]);
        assert_eq!((&found["valid"], &found["invalid"]), (&json!(1), &json!(1)), "{row}");
        assert_eq!(found["faults"][0]["first"], json!([{"line": 2, "seen": seen}]), "{row}");
    }
}

#[test]
fn a_cell_of_several_lines_in_a_column_that_is_sent_is_warned_of() {
    let world = World::new();
    let text = "object_reference_id,mobile_number,first_name\ncust-0001,1,\"Asha\nRao\"\n";
    world.file("users.csv", text);
    let found = validated(&world, &[]);
    let adjustments = json!([
        {"adjustment": "line-break", "field": "first_name", "rows": 1, "first_lines": [2]},
    ]);
    assert_eq!(found["adjustments"], adjustments);
    let done = world.run(&["validate", "users.csv"]);
    assert!(done.stdout.contains("warning: first_name has cells of several lines"), "{done:?}");
}

#[test]
fn the_quote_is_any_character_or_none_and_a_wrong_one_is_refused() {
    let world = World::new();
    let file = world.file("users.csv", format!("{HEADER}'cust-0001',1,'a, \"b'\n"));
    let done = world.import(&file, &["--quote", "'"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("quote '"), "{done:?}");
    world.file("settings.toml", "quote = \"'\"\n");
    let done = world.run(&["validate", "users.csv", "--config", "settings.toml"]);
    assert_eq!(done.code, 0, "{done:?}");
    let done = world.run(&["validate", "users.csv"]);
    assert_eq!(done.code, 3, "{done:?}");
    for (quote, delimiter, words) in [
        ("''", ",", "one ASCII punctuation character, or none"),
        ("a", ",", "one ASCII punctuation character, or none"),
        (";", ";", "the same character"),
    ] {
        let done = world.run(&["validate", "users.csv", "--quote", quote, "--delimiter", delimiter]);
        done.assert_error_line(2, &[words]);
    }
}
