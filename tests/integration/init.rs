//! `init`: the settings that it writes read the file without changes, each line states its reason, and nothing is
//! guessed silently.
//!
//! The disaster is a column that is used as the identity of a customer because it looks like one.

use crate::world::World;

/// A file of ten rows; `row` receives the number of each.
fn numbered(header: &str, row: impl Fn(u32) -> String) -> String {
    let rows: String = (10..20).map(|number| row(number) + "\n").collect();
    format!("{header}\n{rows}")
}

/// The output of `init` for a file: the settings without comments, and the whole text.
#[track_caller]
fn init(world: &World, content: impl AsRef<[u8]>) -> (Vec<String>, String) {
    world.file("users.csv", content);
    let done = world.run(&["init", "users.csv"]);
    assert_eq!(done.code, 0, "{done:?}");
    world.file("import.toml", &done.stdout);
    let lines = done.stdout.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    (lines.map(str::to_owned).collect(), done.stdout)
}

/// Asserts that the settings have these lines, and that `validate` finds every row valid with them.
#[track_caller]
fn assert_reads(content: impl AsRef<[u8]>, lines: &[&str], words: &[&str]) {
    let world = World::new();
    let (settings, text) = init(&world, content);
    for line in lines {
        assert!(settings.iter().any(|setting| setting == line), "{line}: {text}");
    }
    let comments = text.replace("\n    # ", " ").replace("\n# ", " ");
    for word in words {
        assert!(comments.contains(word), "{word}: {text}");
    }
    assert!(text.lines().all(|line| line.len() < 120), "{text}");
    let done = world.run(&["validate", "--config", "import.toml", "users.csv"]);
    assert_eq!(done.code, 0, "{done:?}\n{text}");
}

#[test]
fn headings_of_other_systems_are_mapped_and_short_ids_get_a_prefix() {
    assert_reads(
        numbered("User ID;Phone Number;Email;First Name;City", |n| {
            format!("{n};98765001{n};u{n}@example.com;Asha;Pune")
        }),
        &[
            "\"object_reference_id=customer_{User ID}\",",
            "\"mobile_number=Phone Number\",",
            "\"email_address=Email\",",
            "\"first_name=First Name\",",
            "\"City\",",
        ],
        &[
            "10 values, all different",
            "fewer than 8 characters",
            "10 of 10 values look like phone numbers",
            "last_name: no column has this name or looks like it",
            "10 of 10 rows inspected are valid",
            "the default is 50, which takes 0.2 s for 10 rows",
        ],
    );
}

#[test]
fn columns_are_told_by_their_cells_where_the_heading_says_nothing() {
    assert_reads(
        numbered("kunde_nr\ttel.\tpost", |n| format!("{n}\t+49 151 234567{n}\tu{n}@example.com")),
        &[
            "\"object_reference_id=customer_{kunde_nr}\",",
            "\"mobile_number=tel.\",",
            "\"email_address=post\",",
            "phone-region = \"DE\"",
        ],
        &["GUESSED from the cells of column post", "GUESSED from words in the name of column kunde_nr"],
    );
}

#[test]
fn the_region_is_that_on_which_the_numbers_agree() {
    let header = "object_reference_id,mobile_number,mobile_country_code";
    let region = "phone-region = \"IN\"";
    assert_reads(
        numbered(header, |n| format!("customer-{n},+91 98765-001{n},")),
        &[region],
        &["10 of 10 numbers with a country code are of IN"],
    );
    assert_reads(
        numbered(header, |n| format!("customer-{n},98765-001{n},+91")),
        &[region],
        &["10 of 10 cells with a country code are of IN", "10 numbers without a country code"],
    );
    // Each number contains its country code.
    assert_reads(
        format!(
            "{header}\ncustomer-1,+91-98765-00110,\ncustomer-2,+91-98765-00111,\ncustomer-3,+44-7911-123456,\n"
        ),
        &[region],
        &["2 of 3 numbers", "Every number has its country code"],
    );
    let world = World::new();
    let national = "object_reference_id,mobile_number\ncustomer-1,+91 98765 00110\ncustomer-2,+1 202 555 0123\ncustomer-3,98765-00112\n";
    let (settings, text) = init(&world, national);
    assert!(!settings.iter().any(|line| line.contains("phone-region")), "{text}");
    assert!(text.contains("# phone-region = ") && text.contains("do not agree"), "{text}");
}

#[test]
fn the_encoding_the_delimiter_and_the_quotes_are_found() {
    let latin = |text: String| text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect::<Vec<u8>>();
    assert_reads(
        latin(numbered("Kundennr,Telefon,Straße", |n| format!("K-10000{n},98765001{n},Königsstraße"))),
        &["encoding = \"windows-1252\"", "\"Straße\","],
        &["GUESSED: The header has bytes that are not UTF-8"],
    );
    assert_reads(
        latin(numbered("id,phone,city", |n| format!("{n},98765001{n},Köln"))),
        &["encoding = \"windows-1252\""],
        &["GUESSED: 10 rows of 10 rows inspected have bytes that are not UTF-8"],
    );
    assert_reads(
        numbered("id~phone", |n| format!("{n}~98765001{n}")),
        &["delimiter = \"~\""],
        &["makes 2 columns"],
    );
    assert_reads(
        numbered("id\u{1}phone", |n| format!("{n}\u{1}98765001{n}")),
        &["delimiter = \"\\\\x01\""],
        &[],
    );
    assert_reads(
        numbered("'id','phone','note'", |n| format!("'{n}','98765001{n}','a, b'")),
        &["quote = \"'\""],
        &[],
    );
}

#[test]
fn names_of_columns_are_written_so_that_toml_gives_them_back() {
    assert_reads(
        numbered("\"the \"\"id\"\" of\nuser\\id\",\"phone\t#\",\"\u{202e}]x\"", |n| {
            format!("customer-{n},98765001{n},y")
        }),
        &[
            "\"object_reference_id=the \\\"id\\\" of\\nuser\\\\id\",",
            "\"mobile_number=phone\\t#\",",
            "\"\\U0000202E]x\",",
        ],
        &["column the \"id\" of[U+000A]user\\id"],
    );
}

#[test]
fn a_required_field_without_a_sure_column_is_left_open_and_said() {
    for (content, open) in [
        ("a,phone\nx,9876500110\nx,9876500111\n", "# \"object_reference_id=COLUMN\","),
        // Unique, but not an id.
        (
            "created_at,phone\n2026-01-01T10:00,9876500110\n2026-01-02T10:00,9876500111\n",
            "# \"object_reference_id=created_at\",",
        ),
        // An id that repeats is not an id.
        ("id,phone\n7,9876500110\n7,9876500111\n", "# \"object_reference_id=id\","),
        ("id,phone\n7,unknown\n8,none\n", "# \"mobile_number=phone\","),
        ("id,phone,phone\n7,9876500110,1\n8,9876500111,2\n", "# \"mobile_number=COLUMN\","),
    ] {
        let world = World::new();
        world.file("users.csv", content);
        let done = world.run(&["init", "users.csv", "--output", "import.toml"]);
        assert_eq!(done.code, 0, "{done:?}");
        assert!(done.stderr.contains("warning: no column found for "), "{done:?}");
        let text = std::fs::read_to_string(world.path("import.toml")).unwrap();
        assert!(text.contains(open) && text.contains("INCOMPLETE: "), "{text}");
        let field = if open.contains("mobile") { "mobile_number" } else { "object_reference_id" };
        world
            .run(&["validate", "--config", "import.toml", "users.csv"])
            .assert_error(2, &[&format!("no column {field}")]);
        // The line can be used as it is.
        if !open.contains("COLUMN") {
            world.file("import.toml", text.replace(open, open.trim_start_matches("# ")));
            let done = world.run(&["validate", "--config", "import.toml", "users.csv"]);
            assert!(done.code != 2, "{done:?}");
        }
    }
}

/// Dates of birth have as many digits as phone numbers, and separators between them.
#[test]
fn a_column_of_dates_is_no_column_of_phone_numbers() {
    let line = |n: u32| format!("user-{n:05};98765{n:05};19{:02}-0{}-1{}", 50 + n, 1 + n % 9, n % 9);
    let (_, text) = init(&World::new(), numbered("id;nummer;geburtstag", line));
    assert!(!text.contains("mobile_number=geburtstag"), "{text}");
    let world = World::new();
    world.file("users.csv", numbered("object_reference_id;id;mobile_number", line));
    let done = world.run(&["validate", "users.csv"]);
    assert!(done.code == 3 && done.stdout.contains("turned the value into a date"), "{done:?}");
    assert!(!done.stdout.contains("--phone-region"), "no region makes a number of a date: {done:?}");
}

#[test]
fn every_choice_that_is_left_open_is_a_setting() {
    let world = World::new();
    let rows = numbered("id,phone,first_name,name", |n| format!("{n},98765001{n},Mary Ann,Mary Ann Lee"));
    let (_, text) = init(&world, rows);
    assert!(
        text.contains("# 10 of the invalid rows inspected would become valid: an optional field"),
        "{text}"
    );
    let is_open =
        |line: &str| line.strip_prefix("# ").is_some_and(|rest| rest.contains(" = ") && !rest.contains(". "));
    let used: Vec<&str> = text.lines().map(|line| if is_open(line) { &line[2..] } else { line }).collect();
    world.file("import.toml", used.join("\n"));
    let shown = world.run(&["config", "import", "--config", "import.toml"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    for key in [
        "drop-invalid-optional",
        "validation",
        "strict-columns",
        "phone-region",
        "rate",
        "merchant-id",
        "environment",
    ] {
        let line = shown.stdout.lines().find(|line| line.trim_start().starts_with(&format!("{key} ")));
        assert!(line.is_some_and(|line| line.contains("import.toml line")), "{key}: {shown:?}");
    }
}

#[test]
fn no_value_of_a_customer_is_written() {
    let world = World::new();
    let (_, text) = init(
        &world,
        numbered("user_id,phone,email,first_name,when,x", |n| {
            format!("secret-{n},+91 98765 001{n},hidden{n}@example.com,Quentin,2026-01-{n},zzz{n}")
        }),
    );
    for value in ["secret", "98765", "hidden", "Quentin", "2026-01", "zzz"] {
        assert!(!text.contains(value), "{value}: {text}");
    }
}

#[test]
fn a_file_that_is_no_table_is_refused() {
    for (content, words) in [
        (&b""[..], &["is empty"][..]),
        (b"{\"id\": 1}\n", &["JSON"]),
        (b"PK\x03\x04\x14\0", &["an Excel workbook"]),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", &["is an image"]),
        (b"\0\0,\0\n", &["a binary file", "get the data as CSV"]),
        (b"customer-1,9876500110\ncustomer-2,9876500111\n", &["no header", "looks like a row"]),
        (b"Customers\n\nUser ID,Phone\n1,9876500110\n", &["the header is on line 3"]),
        (b"sep=;\nid;phone\n", &["sep="]),
        (b"id,\"phone\n1,2\n", &["never closed"]),
        (b"mobile_number,mobile_number\n1,2\n", &["two columns"]),
    ] {
        let world = World::new();
        world.file("users.csv", content);
        let done = world.run(&["init", "users.csv", "--output", "import.toml"]);
        done.assert_error(2, words);
        assert!(!done.stderr.contains("98765"), "{done:?}");
        assert!(!world.path("import.toml").exists());
    }
    World::new().run(&["init", "nowhere.csv"]).assert_error(2, &["nowhere.csv", "check the path"]);
}

#[test]
fn a_file_is_replaced_only_by_force() {
    let world = World::new();
    world.file("users.csv", numbered("id,phone", |n| format!("{n},98765001{n}")));
    let args = ["init", "users.csv", "--output", "import.toml"];
    let done = world.run(&args);
    assert_eq!((done.code, done.stdout.as_str()), (0, ""));
    assert_eq!(
        done.stderr,
        "wrote import.toml; next: customer-import validate --config import.toml users.csv\n"
    );
    let kept = std::fs::read_to_string(world.path("import.toml")).unwrap();
    world.file("import.toml", format!("{kept}# mine\n"));
    world.run(&args).assert_error(2, &["import.toml exists already", "--force"]);
    assert!(std::fs::read_to_string(world.path("import.toml")).unwrap().ends_with("# mine\n"));
    let done = world.run(&[&args[..], &["--force"]].concat());
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(std::fs::read_to_string(world.path("import.toml")).unwrap(), kept);
    world
        .run(&["init", "users.csv", "--output", "users.csv", "--force"])
        .assert_error(2, &["would overwrite the source"]);
    world.run(&["init", "users.csv", "-o", "no/such/folder.toml"]).assert_error(2, &["--output", "folder"]);
}

#[test]
fn standard_input_and_compressed_files_are_read() {
    let world = World::new();
    let rows = numbered("id,phone", |n| format!("{n},98765001{n}"));
    let packed = zstd::encode_all(rows.as_bytes(), 0).unwrap();
    let done = world.run_with_input(&["init", "-"], &packed);
    assert!(done.code == 0 && done.stdout.contains("Settings for -, "), "{done:?}");
    assert!(done.stdout.contains("object_reference_id=customer_{id}"), "{done:?}");
}

#[test]
fn only_the_beginning_of_a_long_file_is_looked_at() {
    let world = World::new();
    let rows: String = (0..3000).map(|n| format!("{n},9876{n:06}\n")).collect();
    let (_, text) = init(&world, format!("id,phone\n{rows}"));
    assert!(
        text.contains("the first 1,000 rows")
            && text.contains("which takes 60 s for ")
            && text.contains("3,000 rows."),
        "{text}"
    );
    // The sample ends within a row.
    let rows: String = (0..600).map(|n| format!("{n},9876{n:06},{}\n", "x".repeat(10_000))).collect();
    let (_, text) = init(&world, format!("id,phone,note\n{rows}"));
    assert!(
        text.contains("the first 418 rows") && text.contains("418 of 418 rows inspected are valid"),
        "{text}"
    );
}
