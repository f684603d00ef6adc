//! A value is sent as its owner means it, or its row is invalid: nothing is guessed, and no part of a row is dropped
//! that the meaning of the rest depends on.
//!
//! The disaster is data that another program has altered in the file, and that is sent to the API silently.

use serde_json::{Value, json};

use crate::world::{MERCHANT, World, faults};

/// The country codes and numbers of all customers, by reference.
fn sent(world: &World, references: &[&str]) -> Vec<String> {
    let phone = |reference: &&str| {
        let customer = world.journal().customer(MERCHANT, reference)?;
        Some(format!("{} {}", customer.mobile_country_code, customer.mobile_number))
    };
    references.iter().filter_map(phone).collect()
}

const CODES: &str = "object_reference_id,mobile_number,mobile_country_code\n\
    customer-1,7911123456,+44\ncustomer-2,7911123456,44.0\ncustomer-3,7911123456,GB\n\
    customer-4,7911123456,44\ncustomer-5,+44 7911 123456,91\ncustomer-6,+44 7911 123456,UK\n";

/// Without its code, a British number would be treated as an Indian one.
#[test]
fn a_country_code_is_read_or_refused_and_never_dropped() {
    for more in [&[][..], &["--validation", "lenient"], &["--set", "mobile_country_code=91"]] {
        let world = World::new();
        let file = world.file("users.csv", CODES);
        let options = [&["--phone-region", "IN", "--drop-invalid-optional"], more].concat();
        let done = world.import(&file, &options);
        assert_eq!((done.code, world.outcomes().as_str()), (3, "created=3 invalid=3"), "{done:?}");
        let found: Vec<String> = world.failed_rows().iter().map(faults).collect();
        let (unknown, other) = ("mobile_country_code:digits", "mobile_country_code:country-code");
        assert_eq!(found, [unknown, other, unknown]);
        let british = "44 7911123456";
        assert_eq!(sent(&world, &["customer-1", "customer-2", "customer-4"]), [british; 3]);
        let adjustment = json!({
            "adjustment": "country-code", "field": "mobile_country_code", "rows": 2, "first_lines": [2, 3],
        });
        assert_eq!(world.summary()["adjustments"], json!([adjustment]));
        assert_eq!(world.summary()["dropped"], json!([]));
    }
}

/// If the code is empty, the API treats a number as an Indian one.
#[test]
fn without_a_region_a_code_is_dropped_only_if_it_is_the_one_that_the_api_fills_in() {
    let world = World::new();
    let text = "object_reference_id,mobile_number,mobile_country_code\n\
                customer-1,9876500101,+91\ncustomer-2,7911123456,+44\ncustomer-3,7911123456,GB\n";
    let file = world.file("users.csv", text);
    let done = world.import(&file, &["--drop-invalid-optional"]);
    assert_eq!((done.code, world.outcomes().as_str()), (3, "created=1 invalid=2"), "{done:?}");
    let dropped = json!([{"field": "mobile_country_code", "rule": "digits", "rows": 1}]);
    assert_eq!(world.summary()["dropped"], dropped);
    // The suggestion works.
    let done = world.run(&["validate", "users.csv", "--format", "json", "--drop-invalid-optional"]);
    let found: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(found["faults"][0]["option"], "--phone-region CC", "{found}");
    let done = world.run(&["validate", "users.csv", "--format", "json", "--phone-region", "IN"]);
    let found: Value = serde_json::from_str(&done.stdout).unwrap();
    assert!(found["faults"][0]["option"].is_null(), "an option that is given helps no more: {found}");
}

const NULLS: &str = "object_reference_id,mobile_number,email_address,first_name,last_name,mobile_country_code\n\
    customer-1,9876500101,a@example.com,NULL,Null,91\ncustomer-2,9876500102,null,Asha,Rao,91\n\
    undefined,9876500103,,Asha,Rao,91\ncustomer-4,None,,Nina,Nan,91\n\
    customer-5,9876500105,,(null),\\N,91\ncustomer-6,9876500106,,Asha,-,N/A\n";

#[test]
fn a_word_for_no_value_is_a_fault_and_in_a_name_a_warning() {
    for more in [&[][..], &["--validation", "lenient"]] {
        let world = World::new();
        let file = world.file("users.csv", NULLS);
        let done = world.import(&file, more);
        assert_eq!((done.code, world.outcomes().as_str()), (3, "created=1 invalid=5"), "{done:?}");
        let found: Vec<String> = world.failed_rows().iter().map(faults).collect();
        let of = |field: &str| format!("{field}:null-marker");
        let names = [of("first_name"), of("last_name")].join(";");
        let expected = [
            of("email_address"),
            of("object_reference_id"),
            of("mobile_number"),
            names,
            of("mobile_country_code"),
        ];
        assert_eq!(found, expected);
        let word = json!([{"adjustment": "null-word", "field": "first_name", "rows": 1, "first_lines": [2]}]);
        assert_eq!(world.summary()["adjustments"], word);
        for command in [&["validate"][..], &["plan", "--ledger", "none.db"]] {
            let done = world.run(&[command, &["users.csv"], more].concat());
            let warning = "warning: first_name has words such as NULL or -, sent as they are; \
                           --null-marker WORD reads one as empty: 1, first on line 2";
            assert!(done.stdout.replace("\n    ", " ").contains(warning), "{done:?}");
            assert!(done.stdout.contains("line 5: `None`, which stands for a missing value"), "{done:?}");
        }
    }
}

#[test]
fn a_value_that_a_program_may_have_altered_is_sent_and_reported() {
    let world = World::new();
    let text = "object_reference_id,mobile_number,first_name\n\
                customer-1,9876500101,Zo\u{c3}\u{ab}\ncustomer-2,9876500102,Jos&eacute;\n\
                customer-3,9876500103,J?rg\ncustomer-4,9876500104,Zo\u{eb}\ncustomer-5,0000000000,O\\'Neil\ncust_undefined,9876500105,Asha\n";
    let file = world.file("users.csv", text);
    let done = world.import(&file, &["--validation", "lenient"]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=6"), "{done:?}");
    let doubts = json!([
        {"adjustment": "null-part", "field": "object_reference_id", "rows": 1, "first_lines": [7]},
        {"adjustment": "repeated-digit", "field": "mobile_number", "rows": 1, "first_lines": [6]},
        {"adjustment": "double-encoding", "field": "first_name", "rows": 4, "first_lines": [2, 3, 4, 6]},
    ]);
    assert_eq!(world.summary()["adjustments"], doubts);
    assert!(
        done.stdout.contains("first_name has text that looks encoded twice, escaped or damaged"),
        "{done:?}"
    );
}

#[test]
fn a_null_marker_is_an_empty_cell_everywhere() {
    let world = World::new();
    let file = world.file("users.csv", NULLS);
    let markers = ["NULL", "null", "\\N", "(null)", "N/A"].map(|word| format!("--null-marker={word}"));
    let markers: Vec<&str> = markers.iter().map(String::as_str).collect();
    let done = world.import(&file, &markers);
    assert_eq!((done.code, world.outcomes().as_str()), (3, "created=4 invalid=2"), "{done:?}");
    let body = |reference: &str| world.journal().customer(MERCHANT, reference).unwrap();
    assert_eq!((body("customer-1").first_name.as_str(), body("customer-1").last_name.as_str()), ("", "Null"));
    assert_eq!(body("customer-2").email_address, "");
    let adjustments = world.summary()["adjustments"].to_string();
    let read = json!({"adjustment": "null-marker", "field": "first_name", "rows": 2, "first_lines": [2, 6]});
    assert!(adjustments.contains(&read.to_string()), "{adjustments}");
    // A null marker in a column of the template leaves the row without a valid reference.
    for (options, rule) in [(&[][..], "null-marker"), (&["--null-marker", "NULL"], "required")] {
        world.file("ids.csv", "id,shop,mobile_number\nNULL,north,9876500101\n7,north,9876500102\n");
        let map = ["validate", "ids.csv", "--map", "object_reference_id={shop}-{id}-1", "--format", "json"];
        let done = world.run(&[&map, options].concat());
        let found: Value = serde_json::from_str(&done.stdout).unwrap();
        assert_eq!((&found["valid"], &found["faults"][0]["rule"]), (&json!(1), &json!(rule)), "{found}");
    }
}

/// One file of each kind, joined as `cat` does it.
fn joined(encode: impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
    let first = "\u{feff}object_reference_id,mobile_number,notes\ncustomer-1,9876500101,\u{feff}kept\n";
    let second = "\u{feff}customer-2,9876500102,\n\u{feff}\"customer-3\",9876500103,\n";
    encode(&format!("{first}{second}"))
}

#[test]
fn the_byte_order_marks_of_joined_files_are_skipped_and_counted() {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for bytes in [joined(|text| text.as_bytes().to_vec()), joined(utf16)] {
        let world = World::new();
        let file = world.file("users.csv", bytes);
        let done = world.import(&file, &[]);
        assert_eq!((done.code, world.outcomes().as_str()), (0, "created=3"), "{done:?}");
        assert!(world.journal().customer(MERCHANT, "customer-2").is_some());
        assert!(world.journal().customer(MERCHANT, "customer-3").is_some());
        let adjustment =
            json!({"adjustment": "byte-order-mark", "field": null, "rows": 2, "first_lines": [3, 4]});
        assert_eq!(world.summary()["adjustments"], json!([adjustment]));
        let found = "byte order mark (U+FEFF) at the start of a line skipped: 2, first on line 3, 4\n";
        assert!(done.stdout.contains(found), "{done:?}");
        // The row is unchanged without the byte order mark.
        let file = world.file("again.csv", "object_reference_id,mobile_number\ncustomer-2,9876500102\n");
        world.import(&file, &[]);
        assert_eq!(world.outcomes(), "unchanged=1");
    }
}

#[test]
fn what_nobody_sees_in_a_cell_that_is_sent_is_a_fault_that_names_it() {
    let text = "object_reference_id,mobile_number,email_address,first_name,notes\n\
                customer-1\u{200b},9876500101,,,\n\
                customer-2,9876500102,\u{202e}a@example.com,,\n\
                customer-3,9876500103,,Some\u{2060}One,\n\
                customer-4,98765\u{feff}00104,,,\n\
                customer-5,9876500105,,,seen\u{200b}by nobody\n\
                customer\u{a0}6,9876500106,,,\n\
                customer-7,9876500107,a\u{202f}b@example.com,,\n\
                customer-8\u{fffc},9876500108,,,\n";
    for more in [&[][..], &["--validation", "lenient"]] {
        let world = World::new();
        let file = world.file("users.csv", text);
        let done = world.import(&file, more);
        assert_eq!((done.code, world.outcomes().as_str()), (3, "created=1 invalid=7"), "{done:?}");
        let failed = world.failed_rows();
        let found: Vec<String> = failed.iter().map(faults).collect();
        let of = |field: &str| format!("{field}:invisible");
        let (id, email) = ("object_reference_id", "email_address");
        assert_eq!(found, [id, email, "first_name", "mobile_number", id, email, id].map(of));
        let points = ["U+200B", "U+202E", "U+2060", "U+FEFF", "U+00A0", "U+202F", "U+FFFC"];
        for ((row, point), position) in failed.iter().zip(points).zip([11, 1, 5, 6, 9, 2, 11]) {
            let found = &row["_error_message"];
            assert!(found.contains(point) && found.contains(&format!("position {position}")), "{found}");
        }
        let done = world.run(&[&["validate", "users.csv"], more].concat());
        assert!(done.stdout.contains("U+202E, a mark of direction, at position 1"), "{done:?}");
    }
}

/// Behind a country code, the minus of a spreadsheet's result looks like a dash.
#[test]
fn a_part_of_a_number_with_a_minus_is_a_fault() {
    let world = World::new();
    let text = "object_reference_id,code,number\ncustomer-1,+91,98765 00110\ncustomer-2,+91,-9876500019\n";
    let file = world.file("users.csv", text);
    let done = world.import(&file, &["--map", "mobile_number={code}{number}", "--phone-region", "IN"]);
    assert_eq!((done.code, world.outcomes().as_str()), (3, "created=1 invalid=1"), "{done:?}");
    let row = &world.failed_rows()[0];
    assert_eq!((row["_line"].as_str(), row["_error_code"].as_str()), ("3", "spreadsheet"), "{row:?}");
}

/// A file in UTF-8 that was appended to one in another encoding: the mark shows it, and no text of it would be right.
#[test]
fn a_byte_order_mark_that_was_read_in_another_encoding_is_no_part_of_a_reference() {
    let world = World::new();
    let text = b"object_reference_id,mobile_number\ncustomer-1,1\n\xef\xbb\xbfcustomer-2,2\ncustomer-3,3\n";
    let file = world.file("users.csv", text);
    let done = world.import(&file, &["--encoding", "windows-1252"]);
    assert_eq!((done.code, world.outcomes().as_str()), (3, "created=2 invalid=1"), "{done:?}");
    let row = &world.failed_rows()[0];
    assert_eq!((row["_line"].as_str(), row["_error_code"].as_str()), ("3", "encoding"), "{row:?}");
    assert!(row["_error_message"].contains("a byte order mark of UTF-8"), "{row:?}");
}

/// Characters that are invisible or reverse the text must not reach a terminal, in any part of a message.
#[test]
fn messages_show_code_points_in_place_of_what_nobody_sees() {
    let world = World::new();
    let is_shown = |text: &str| {
        let is_raw = |c: char| c != '\n' && (c.is_control() || "\u{200b}\u{202e}\u{feff}".contains(c));
        assert!(!text.contains(is_raw), "{text:?}");
        text.contains("[U+202E]") || text.contains("[U+200B]")
    };
    let columns = "object_reference_id,\u{202e}mobile_number\u{200b}\ncustomer-1,9876500101\n";
    world.file("columns.csv", columns);
    let done = world.run(&["validate", "columns.csv"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(is_shown(&done.stderr), "{done:?}");
    let name = "users\u{202e}.csv";
    let file = world.rows(name, 2);
    for args in [
        &["validate", name][..],
        &["validate", "\u{200b}none.csv"],
        &["validate", name, "--map", "\u{200b}=x"],
    ] {
        let done = world.run(args);
        assert!(is_shown(&format!("{}{}", done.stdout, done.stderr)), "{done:?}");
    }
    let done = world.import(&file, &["--progress", "always", "-v"]);
    assert!(done.code == 0 && is_shown(&done.stdout), "{done:?}");
    is_shown(&done.stderr);
    for args in [&["status"][..], &["report"], &["report", "--format", "html"]] {
        let done = world.run(args);
        assert!(is_shown(&done.stdout), "{args:?} {done:?}");
    }
    // Output for programs is not altered.
    let done = world.run(&["status", "--format", "json"]);
    let status: Value = serde_json::from_str(&done.stdout).unwrap();
    assert!(status.to_string().contains(name), "{status}");
}

#[test]
fn what_a_spreadsheet_or_a_float_made_of_a_value_is_a_fault_in_both_modes() {
    let damaged = [
        ("-9876500110", "9876500101", ""),
        ("'7000000000701", "9876500102", ""),
        ("9.876501101E9", "9876500103", ""),
        ("9876501101.0", "9876500104", ""),
        ("customer-5_x000D_", "9876500105", ""),
        ("9,876,500,110", "9876500106", ""),
        ("customer-7", "9.8765E9", ""),
        ("customer-8", "9,876,500,110", ""),
        ("customer-9", "9876500110-", ""),
        ("customer-10", "Jan-98", ""),
        ("customer-11", "9876500111", "'someone@example.com"),
        ("customer-12", "9876500112", "#REF!"),
        ("customer-13", "9876500113", "a@example.com_x000D_"),
        ("\"\"customer-14\"\"", "9876500114", ""),
    ];
    let meant = ["98E10765", "1.234.567", "user_x0042_y", "-customer", "'s-Hertogenbosch"];
    let mut text = String::from("object_reference_id,mobile_number,email_address\n");
    for (reference, number, email) in damaged {
        text.push_str(&format!("\"{reference}\",\"{number}\",{email}\n"));
    }
    for (reference, number) in meant.iter().zip(9_876_500_201_u64..) {
        text.push_str(&format!("{reference},{number},o'neil@example.com\n"));
    }
    for more in [&[][..], &["--validation", "lenient"], &["--phone-region", "IN"]] {
        let world = World::new();
        let file = world.file("users.csv", &text);
        let done = world.import(&file, &[more, &["--set", "mobile_country_code=91"]].concat());
        let expected = format!("created={} invalid={}", meant.len(), damaged.len());
        assert_eq!((done.code, world.outcomes()), (3, expected), "{done:?}");
        for row in world.failed_rows() {
            assert!(row["_error_code"] == "spreadsheet", "{row:?}");
        }
    }
}

#[test]
fn a_negative_number_is_answered_with_what_brings_its_digits_back() {
    let world = World::new();
    let file = world.file(
        "users.csv",
        "object_reference_id,mobile_number\ncustomer-1,-9876500110\ncustomer-2,\u{2212}98765\n",
    );
    for more in [&[][..], &["--phone-region", "IN"], &["--validation", "lenient"]] {
        let done = world.run(&[&["validate", "users.csv"], more].concat());
        assert!(done.code == 3 && done.stdout.contains("a negative number"), "{done:?}");
        assert!(done.stdout.contains("to do: export the data again"), "{done:?}");
        assert!(!done.stdout.contains("--phone-region"), "it does not help: {done:?}");
    }
    assert_eq!(world.import(&file, &[]).code, 3);
    for row in world.failed_rows() {
        assert!(row["_error_message"].contains("export the data again"), "{row:?}");
    }
}
