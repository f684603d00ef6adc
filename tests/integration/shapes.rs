//! Rows with another width than the header's, lines between the rows that are not rows, and a file that changes while
//! it is read.
//!
//! The disaster: good rows are refused because of a missing comma, a repeated header becomes a customer, or a file
//! that was still being written is imported in part and reported as complete.

use std::{io::Write, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::world::{Done, World, finish, wait_until};

const HEADER: &str = "object_reference_id,mobile_number,email_address,first_name\n";

fn adjustments(world: &World, text: &str, options: &[&str]) -> (u64, u64, Value) {
    world.file("users.csv", text);
    let done = world.run(&[&["validate", "users.csv", "--format", "json"], options].concat());
    let found: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    let one = |one: &Value| json!([one["adjustment"], one["rows"], one["first_lines"]]);
    let adjustments = found["adjustments"].as_array().unwrap().iter().map(one);
    (found["valid"].as_u64().unwrap(), found["invalid"].as_u64().unwrap(), adjustments.collect())
}

#[test]
fn empty_cells_at_the_end_may_be_missing_or_too_many() {
    let world = World::new();
    let rows = "cust-0001,1\ncust-0002,2,b@example.com\ncust-0003,3,,,\ncust-0004,4,,,,\ncust-0005,5,,,,x\ncust-0006\n";
    let text = format!("{HEADER}{rows}");
    let expected = json!([["missing-cells", 2, [2, 3]], ["extra-empty-cells", 2, [4, 5]]]);
    assert_eq!(adjustments(&world, &text, &[]), (4, 2, expected));
    // A missing required cell is never read as an empty cell.
    let expected = json!([["missing-cells", 1, [3]], ["extra-empty-cells", 2, [4, 5]]]);
    assert_eq!(adjustments(&world, &text, &["--require", "email_address"]), (1, 5, expected));
    // An export has all of its columns.
    let export = "object_reference_id,mobile_number,_line,_outcome\ncust-0001,1\n";
    assert_eq!(adjustments(&world, export, &[]), (0, 1, json!([])));
    // A row of another width is recorded with its own cells, in the ledger too.
    let file = world.file("users.csv", &text);
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.outcomes(), "created=4 invalid=2");
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.outcomes(), "unchanged=4 invalid=2");
}

/// The remedy for typographic quotes, as it is shown: every cell is read, and an apostrophe in a name stays.
#[test]
fn the_remedy_for_typographic_quotes_works() {
    let world = World::new();
    let rows = "“cust-0001”,“1”,“a@b.in”,“Ann, O’Neil”\n‘cust-0002’,‘2’,,‘D’Souza’\n«cust-0003»,3,,«Ann»\r\n\
                cust-0004,4,,O’Neil\n";
    let header = HEADER.trim_end().replace(',', "”,“");
    world.file("users.csv", format!("“{header}”\n{rows}").as_str());
    let done = world.run(&["validate", "users.csv"]);
    done.assert_error_line(2, &["U+201C", "perl -CSD"]);
    let remedy = done.stderr[done.stderr.find("perl").unwrap()..].trim_end();
    let ledger = world.ledger();
    let directory = ledger.parent().unwrap();
    let command = remedy.replace("FILE | customer-import import -", "users.csv > straight.csv");
    let run = std::process::Command::new("bash").arg("-c").arg(command).current_dir(directory).status();
    if !run.unwrap().success() {
        return; // No perl here.
    }
    let straight = std::fs::read_to_string(directory.join("straight.csv")).unwrap();
    let expected = "\"cust-0001\",\"1\",\"a@b.in\",\"Ann, O’Neil\"\n\"cust-0002\",\"2\",,\"D’Souza\"\n\
                    \"cust-0003\",3,,\"Ann\"\r\ncust-0004,4,,O’Neil\n";
    assert!(straight.ends_with(expected), "{straight}");
    let done = world.run(&["validate", "straight.csv", "--validation", "lenient"]);
    assert_eq!(done.code, 0, "{done:?}");
}

/// Each is a row that is not sent; the message says what it is and what to do about it.
#[test]
fn a_line_that_is_no_customer_is_named_for_what_it_is() {
    let world = World::new();
    for (line, seen, remedy) in [
        ("# the old ones", "a comment, which CSV does not have", "delete the line"),
        ("<<<<<<< HEAD", "a conflict that git could not resolve", "keep one of the two versions"),
        ("\0\0\0\0", "nothing but NUL characters", "copy the file again"),
        ("Grand Total,29629500006,,", "a line of totals", "delete the line"),
        ("cust-0001,1,,\u{2028}cust-0002,2,,\u{2028}", "ends a line for another program", "put line breaks"),
        (
            "cust-0001,1,,\"a \\\"b\\\" c\"",
            "before that quote does not escape it",
            "double each quote in place of a backslash",
        ),
        ("cust-0001,1,, \"Ann\"", "a blank before the opening quote", "remove the blanks before it"),
        ("'cust-0001',1,,", "unusual quotes", "--quote \"'\""),
        ("“cust-0001”,1,,", "U+201C and U+201D", "perl -CSD"),
        ("cust-0001,1,,«Ann»", "U+00AB and U+00BB", "perl -CSD"),
        ("cust-0001,1,,“Ann, Rao”,", "quote that is not a CSV quote", "perl -CSD"),
        ("ERROR 2013 (HY000) at line 1: Lost connection,2013,,", "an error message", "delete the line"),
        ("  File \"/app/export.py\",12,,", "a traceback", "delete the line"),
    ] {
        world.file("users.csv", format!("{HEADER}{line}\ncust-0009,9,,Ann\n").as_str());
        let done = world.run(&["validate", "users.csv", "--format", "json"]);
        let found: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
        assert_eq!((&found["valid"], &found["invalid"]), (&json!(1), &json!(1)), "{line}: {found}");
        let fault = &found["faults"][0];
        assert!(fault["first"][0]["seen"].as_str().unwrap().contains(seen), "{line}: {fault}");
        assert!(fault["remedy"].as_str().unwrap().contains(remedy), "{line}: {fault}");
    }
}

#[test]
fn lines_between_the_rows_are_skipped_and_counted() {
    let world = World::new();
    let head = HEADER.trim_end();
    let text = format!(
        "{head}\n----,----,----,----\ncust-0001,1,,\n,,,\n   \n\u{feff}{HEADER}cust-0002,2,,\n\"\", ,,\n(2 rows)\n"
    );
    let expected = json!([
        ["byte-order-mark", 1, [6]],
        ["repeated-header", 1, [6]],
        ["separator-line", 2, [2, 9]],
        ["blank-row", 3, [4, 5, 8]]
    ]);
    for validation in ["documented", "lenient"] {
        let found = adjustments(&world, &text, &["--validation", validation]);
        assert_eq!(found, (2, 0, expected.clone()), "{validation}");
    }
    let (valid, _, found) = adjustments(&world, &text, &["--limit", "1"]);
    assert_eq!((valid, found), (1, json!([["separator-line", 1, [2]]])));
    for text in [
        "+----+----+\n| object_reference_id | mobile_number |\n+----+----+\n| cust-0001 | 1 |\n+----+----+\n1 row in set (0.00 sec)\n",
        " object_reference_id | mobile_number \n---------------------+---------------\n cust-0001 | 1\n(1 row)\n",
    ] {
        let (valid, invalid, _) = adjustments(&world, text, &[]);
        assert_eq!((valid, invalid), (1, 0), "{text}");
    }
}

#[test]
fn a_header_that_occurs_again_in_another_spelling_is_no_customer() {
    let world = World::new();
    let again = "OBJECT_REFERENCE_ID,Mobile Number,email-address,First_Name\n";
    let text = format!("{HEADER}cust-0001,1,,\n{again}cust-0002,2,,\n");
    for validation in ["documented", "lenient"] {
        let found = adjustments(&world, &text, &["--validation", validation]);
        assert_eq!(found, (2, 0, json!([["repeated-header", 1, [3]]])), "{validation}");
    }
}

#[test]
fn behind_a_header_with_other_columns_no_row_is_read_by_the_first() {
    for other in [
        "mobile_number,object_reference_id,email_address,first_name\n",
        "Phone,Customer ID,E-Mail,Name\n",
        "mobile_number,object_reference_id\n",
        "object_reference_id,notes,mobile_number,email_address,first_name\n",
    ] {
        let world = World::new();
        // As rows of the first header, these would give each customer the other's number.
        let parts = [
            HEADER,
            "9876500101,9876500201,,\n",
            other,
            "9876500202,9876500102,,\n9876500203,9876500103,,\n",
        ];
        let file = world.file("users.csv", parts.concat() + HEADER + "9876500104,9876500204,,\n");
        let path = file.display().to_string();
        for validation in ["documented", "lenient"] {
            let done = world.run(&["validate", &path, "--validation", validation]);
            assert_eq!(done.code, 3, "{done:?}");
            let words = "record header: 3 rows\n  line 3: a header whose columns are not those of the first\n  \
                         line 4: after the header on line 3";
            assert!(done.stdout.contains(words), "{done:?}");
        }
        // Twice, because the second run resumes if it can.
        for outcomes in ["created=2 invalid=3", "unchanged=2 invalid=3"] {
            assert_eq!(world.import(&file, &[]).code, 3);
            assert_eq!(world.outcomes(), outcomes);
        }
        assert_eq!(world.journal().customers(), 2);
    }
}

#[test]
fn a_header_in_another_order_is_seen_where_only_the_reference_has_a_column() {
    let world = World::new();
    let file = world.file(
        "users.csv",
        "object_reference_id,first_name\nAsha-Rao,Customer1\nfirst_name,object_reference_id\nCustomer2,Ravi-Rao\n",
    );
    assert_eq!(world.import(&file, &["--set", "mobile_number=1"]).code, 3);
    assert_eq!(world.outcomes(), "created=1 invalid=2");
}

#[test]
fn a_row_with_words_of_a_header_is_a_row() {
    let world = World::new();
    let rows = "customer-a,1,id@phone.example,mobile_number\nphone-id-x,2,,Email\nobject_reference_id,3,,mobile_number\n";
    let file = world.file("users.csv", format!("{HEADER}{rows}"));
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "created=3");
    // A row without a number that names two fields by chance is only invalid itself; the rows after it are not.
    let file = world.file("more.csv", format!("{HEADER}customer-b,,,mobile_number\ncustomer-c,4,,\n"));
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.summary()["invalid"], 1);
}

#[test]
fn what_a_database_tool_leaves_behind_the_rows_is_skipped_and_counted() {
    let world = World::new();
    for footer in [
        "2 rows in set, 1 warning (0.01 sec)\n",
        "2 rows in set (0.01 sec)\n",
        "(2 row(s) affected)\n",
        "(2 rows affected)\n\nCompletion time: 2026-01-01T00:00:00\n",
        "(2 rows)\n\nTime: 1.234 ms\n",
        "2 record(s) selected.\n",
        "\\.\n",
        "\u{1a}",
    ] {
        let text = format!("object_reference_id,mobile_number\ncust-0001,1\ncust-0002,2\n{footer}");
        let lines = footer.lines().filter(|line| !line.is_empty()).count();
        let (valid, invalid, found) = adjustments(&world, &text, &[]);
        assert_eq!((valid, invalid), (2, 0), "{footer:?}");
        assert_eq!(found.as_array().unwrap().len(), 1, "{footer:?}: {found}");
        assert_eq!((&found[0][0], &found[0][1]), (&json!("separator-line"), &json!(lines)), "{footer:?}");
    }
    // After the last cell it is a character of that cell.
    let cut = "object_reference_id,mobile_number\ncust-0001,1\u{1a}";
    let (valid, invalid, _) = adjustments(&world, cut, &[]);
    assert_eq!((valid, invalid), (0, 1));
}

#[test]
fn a_run_goes_on_across_lines_that_are_no_rows() {
    let world = World::new();
    let row = |n: u64| format!("cust-{n:04},{n},,\n{}", if n.is_multiple_of(3) { ",,,\n" } else { "" });
    let text = format!("{HEADER}{}", (0..20).map(row).collect::<String>());
    let file = world.file("users.csv", &text);
    assert_eq!(world.import(&file, &["--limit", "7"]).code, 0);
    assert_eq!(world.outcomes(), "created=7");
    let file = world.file("users.csv", format!("{text}{HEADER}{}", row(20)));
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.summary()["created"], 14);
    assert_eq!(world.journal().customers(), 21);
}

#[test]
fn an_unterminated_last_line_is_warned_of() {
    let world = World::new();
    let text = format!("{HEADER}cust-0001,1,,");
    let expected = json!([["unterminated-last-line", 1, [2]]]);
    assert_eq!(adjustments(&world, &text, &[]), (1, 0, expected));
    let done = world.run_with_input(&["validate", "-"], text.as_bytes());
    assert!(done.code == 0 && done.stdout.contains("the last line has no line break"), "{done:?}");
}

/// Changes a file while an import has read only its beginning, and lets the import finish.
fn changed(change: impl FnOnce(&Path)) -> (World, Done) {
    let world = World::new();
    world.reconfigure(|behavior| behavior.latency = (SLOW, SLOW));
    let file = world.file("users.csv", long_file(0..ROWS));
    let mut run = world.start_import(&file, &["--concurrency", "2"]);
    assert!(wait_until(&mut run, || world.journal().requests() >= 1));
    change(&file);
    world.reconfigure(|behavior| behavior.latency = (Duration::ZERO, Duration::ZERO));
    (world, finish(run))
}

/// More rows than are read ahead.
const ROWS: u64 = 5_000;

const SLOW: Duration = Duration::from_millis(300);

fn long_file(rows: std::ops::Range<u64>) -> String {
    let padding = "x".repeat(300);
    let row = |n: u64| format!("cust-{n:06},{n},,,{padding}\n");
    format!("{},notes\n{}", HEADER.trim_end(), rows.map(row).collect::<String>())
}

#[test]
fn a_file_that_changes_while_it_is_read_is_no_completed_import() {
    type Case<'a> = (&'a str, &'a dyn Fn(&Path));
    let cases: [Case<'_>; 4] = [
        ("bytes shorter", &|file| {
            let file = std::fs::File::options().write(true).open(file).unwrap();
            file.set_len(file.metadata().unwrap().len() * 2 / 3).unwrap();
        }),
        ("bytes longer", &|file| {
            let mut file = std::fs::File::options().append(true).open(file).unwrap();
            file.write_all(b"cust-999999,1,,,\n").unwrap();
        }),
        ("it was written to", &|file| {
            // In place: an empty file in between could be the one that is seen.
            let mut file = std::fs::File::options().write(true).open(file).unwrap();
            file.write_all(long_file(0..ROWS).replace("cust-", "kust-").as_bytes()).unwrap();
        }),
        ("another file has its name", &|file| {
            let new = file.with_extension("new");
            std::fs::write(&new, long_file(0..ROWS)).unwrap();
            std::fs::rename(&new, file).unwrap();
        }),
    ];
    for (words, change) in cases {
        let (world, done) = changed(change);
        done.assert_error_line(
            1,
            &["users.csv changed while it was read: ", words, "run the same command again"],
        );
        assert_eq!(world.summary()["state"], "stopped", "{words}");
        // The rows that were read are settled, and the next run does the rest.
        assert_eq!(world.summary()["pending"], 0, "{words}");
        assert_eq!(world.import(&world.path("users.csv"), &[]).code, 0, "{words}");
        let customers = world.journal().customers() as u64;
        assert!(customers >= ROWS * 2 / 3 - 1, "{words}: {customers}");
    }
}
