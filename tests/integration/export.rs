//! Exports byte for byte, and the way back: correct the cells, import the file unchanged otherwise.

use serde_json::Value;

use customer_import::simulator::Fault;

use crate::{
    wire::Wire,
    world::{MERCHANT, World, files, finish, wait_until},
};

/// The columns that `export failed` adds.
const ADDED: &str = "_line,_outcome,_field,_error_code,_error_message,_http_status,_attempts";

fn export(world: &World, args: &[&str]) -> String {
    let done = world.run(&[&["export"], args].concat());
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    done.stdout
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The member names of a JSON line, in order.
fn keys(line: &str) -> String {
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut keys = names(&serde_json::from_str(line).unwrap());
    keys.sort_by_key(|key| line.find(&format!("\"{key}\":")));
    keys.join(",")
}

/// Two rows created, one invalid, one duplicate; the file has unknown columns among ours.
fn mixed() -> World {
    let world = World::new();
    let text = "note,mobile_number,object_reference_id,Kunde seit\n\
                \"a, \"\"b\"\"\",1,cust-0001,2019\n=1+1,x,cust-0002,\n,3,cust-0003, 2021 \nz,1,cust-0001,2022\n";
    let file = world.file("users.csv", text);
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.outcomes(), "created=2 duplicate=1 invalid=1");
    world
}

fn id(world: &World, reference: &str) -> String {
    let customer = world.journal().customer(MERCHANT, reference).unwrap();
    customer.id.to_string()
}

#[test]
fn created_to_the_letter() {
    let world = mixed();
    let (one, three) = (id(&world, "cust-0001"), id(&world, "cust-0003"));
    assert_eq!(
        export(&world, &["created"]),
        format!(
            "object_reference_id,customer_id,outcome,line\n\
             cust-0001,{one},created,2\ncust-0003,{three},created,4\n"
        )
    );
    let text = export(&world, &["created", "--format", "jsonl"]);
    let rows = json_lines(&text);
    assert_eq!(rows.len(), 2);
    assert_eq!(keys(text.lines().next().unwrap()), "object_reference_id,customer_id,outcome,line");
    let expected = serde_json::json!(
        {"object_reference_id": "cust-0001", "customer_id": one, "outcome": "created", "line": 2}
    );
    assert_eq!(rows[0], expected);
}

#[test]
fn all_to_the_letter() {
    let world = mixed();
    let text = export(&world, &["all"]);
    let mut lines = text.lines();
    let header = "line,object_reference_id,outcome,customer_id,error_code,error_message";
    assert_eq!(lines.next(), Some(header));
    assert_eq!(lines.next().unwrap(), format!("2,cust-0001,created,{},,", id(&world, "cust-0001")));
    assert!(lines.next().unwrap().starts_with("3,cust-0002,invalid,,digits,"));
    assert!(lines.next().unwrap().starts_with("4,cust-0003,created,cth_"));
    assert!(lines.next().unwrap().starts_with("5,cust-0001,duplicate,,duplicate,"));
    assert_eq!(lines.next(), None);
    let text = export(&world, &["all", "--format", "jsonl"]);
    let rows = json_lines(&text);
    assert_eq!(rows.len(), 4);
    for line in text.lines() {
        assert_eq!(keys(line), header);
    }
    assert_eq!(rows[1]["customer_id"], Value::Null);
    assert_eq!(rows[1]["line"], 3);
}

#[test]
fn failed_keeps_the_sources_own_columns_and_cells() {
    let world = mixed();
    let text = export(&world, &["failed"]);
    let mut lines = text.lines();
    let header = format!("note,mobile_number,object_reference_id,Kunde seit,{ADDED}");
    assert_eq!(lines.next(), Some(header.as_str()));
    assert!(lines.next().unwrap().starts_with("=1+1,x,cust-0002,,3,invalid,mobile_number,digits,"));
    assert!(
        lines.next().unwrap().starts_with("z,1,cust-0001,2022,5,duplicate,object_reference_id,duplicate,")
    );
    assert_eq!(lines.next(), None);
    let text = export(&world, &["failed", "--format", "jsonl"]);
    let rows = json_lines(&text);
    assert_eq!(keys(text.lines().next().unwrap()), header);
    assert_eq!((&rows[0]["note"], &rows[0]["_line"]), (&"=1+1".into(), &3.into()));
    assert_eq!((&rows[0]["_http_status"], &rows[0]["_attempts"]), (&Value::Null, &0.into()));
}

#[test]
fn the_columns_are_there_even_where_no_row_is() {
    let world = World::new();
    let file = world.rows("users.csv", 1);
    assert_eq!(world.import(&file, &[]).code, 0);
    let header = format!("object_reference_id,mobile_number,email_address,{ADDED}\n");
    assert_eq!(export(&world, &["failed"]), header);
    assert_eq!(export(&world, &["failed", "--format", "jsonl"]), "");
}

/// A heading is renamed between two nights. The first night has no rows to correct, so its column is not in the export,
/// and its `--map` decides nothing.
#[test]
fn a_failed_export_has_only_columns_of_files_that_its_rows_come_from() {
    let world = World::new();
    let first = world.file("first.csv", "object_reference_id,mobile\ncust-0001,1\n");
    assert_eq!(world.import(&first, &["--map", "mobile_number=mobile"]).code, 0);
    let second = world.file("second.csv", "object_reference_id,phone_no\ncust-0001,1\ncust-0002,2x\n");
    assert_eq!(world.import(&second, &["--map", "mobile_number=phone_no"]).code, 3);
    let exported = world.failed_text();
    assert_eq!(exported.lines().next(), Some(format!("object_reference_id,phone_no,{ADDED}").as_str()));
    let corrected = world.file("failed.csv", exported.replace("2x", "2"));
    assert_eq!(world.import(&corrected, &[]).code, 0);
    assert_eq!(world.outcomes(), "created=1");
    assert_eq!(world.journal().customer(MERCHANT, "cust-0002").unwrap().mobile_number, "2");
    // Without rows to correct, whoever reads exports finds the columns of every file.
    let header = world.failed_text();
    assert!(header.starts_with("object_reference_id,mobile,phone_no,_line,"), "{header}");
}

#[test]
fn a_file_is_written_whole_and_what_was_there_is_kept() {
    let world = mixed();
    let old = "half corrected by hand\n".repeat(1_000);
    world.file("out.csv", &old);
    let read = |name: &str| std::fs::read_to_string(world.path(name)).unwrap();
    let write = |arguments: &[&str], note: &str| {
        let printed = export(&world, arguments);
        let done = world.run(&[&["export"], arguments, &["--output", "out.csv"]].concat());
        let is_csv = !arguments.contains(&"jsonl");
        let rows = printed.lines().count() - usize::from(is_csv);
        let message = format!("wrote {rows} {} to out.csv{note}\n", if rows == 1 { "row" } else { "rows" });
        assert_eq!((done.code, done.stdout.as_str(), done.stderr), (0, "", message));
        assert_eq!(read("out.csv"), printed);
        printed
    };
    let created = write(&["created"], "; the file that was there is now out.csv.1");
    assert_eq!(read("out.csv.1"), old);
    write(&["created"], "");
    assert!(!world.path("out.csv.2").exists(), "the same content is not kept twice");
    write(&["failed", "--format", "jsonl"], "; the file that was there is now out.csv.2");
    assert_eq!(read("out.csv.2"), created);

    let done = world.run(&["export", "created", "--output", "out.csv", "--force"]);
    assert_eq!((done.code, read("out.csv")), (0, created));
    assert!(!world.path("out.csv.3").exists());

    // The target of a link is replaced, not the link, and what is no file stays what it is.
    std::os::unix::fs::symlink("out.csv", world.path("link.csv")).unwrap();
    let done = world.run(&["export", "all", "--output", "link.csv"]);
    assert_eq!((done.code, read("out.csv")), (0, export(&world, &["all"])), "{done:?}");
    assert!(world.path("link.csv").is_symlink() && world.path("out.csv.3").exists());
    assert_eq!(world.run(&["export", "all", "--output", "/dev/null"]).code, 0);
    assert_eq!(world.run(&["export", "all", "--output", "-"]).stdout, export(&world, &["all"]));
    assert!(world.run(&["report", "--output", "-"]).stdout.contains("Run 1"));
    assert!(!world.path("-").exists());
    world.run(&["export", "all", "--output", "."]).assert_error(1, &["cannot write", "; "]);
    assert!(files(world.folder.path()).iter().all(|name| !name.contains("new")));
}

/// Each night: export the rows that are left, correct them, import them.
#[test]
fn a_failed_export_that_was_imported_may_be_replaced_by_the_next_one() {
    let world = mixed();
    for _ in 0..2 {
        let done = world.run(&["export", "failed", "--force", "--output", "failed.csv"]);
        assert_eq!(done.code, 0, "{done:?}");
        assert_eq!(world.import(&world.path("failed.csv"), &[]).code, 3);
    }
    world.run(&["report", "--output", "failed.csv"]).assert_error(2, &["the source of a run"]);
}

#[test]
fn a_run_has_its_own_rows() {
    let world = mixed();
    let second = world.rows("more.csv", 2);
    assert_eq!(world.import(&second, &[]).code, 0);
    let lines = |run: &str| export(&world, &["created", "--run", run]).lines().count() - 1;
    assert_eq!((lines("1"), lines("2")), (2, 2));
    assert_eq!(export(&world, &["created"]).lines().count(), 5);
    let header = format!("object_reference_id,mobile_number,email_address,{ADDED}\n");
    assert_eq!(export(&world, &["failed", "--run", "2"]), header);
    assert_eq!(export(&world, &["failed", "--run", "1"]).lines().count(), 3);
    // Over all runs, every column of a listed row has its position.
    let third = world.file("third.csv", "object_reference_id,mobile_number,email_address\ncust-0009,x,\n");
    assert_eq!(world.import(&third, &[]).code, 3);
    let header = format!("note,mobile_number,object_reference_id,Kunde seit,email_address,{ADDED}");
    assert_eq!(export(&world, &["failed"]).lines().next(), Some(header.as_str()));
}

#[test]
fn failed_rows_come_back_corrected_and_are_gone() {
    let world = mixed();
    let failed = export(&world, &["failed"]);
    let corrected = failed.replace("=1+1,x,", "=1+1,2,").replace("z,1,cust-0001", "z,1,cust-0004");
    let file = world.file("failed.csv", corrected);
    let done = world.import(&file, &[]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(world.outcomes(), "created=2");
    assert_eq!(world.journal().customer(MERCHANT, "cust-0002").unwrap().mobile_number, "2");
    // The duplicate was another customer under a wrong reference; nothing of it remains either.
    let left = export(&world, &["failed", "--format", "jsonl"]);
    let left: Vec<Value> = json_lines(&left);
    assert!(left.iter().all(|row| row["_outcome"] == "duplicate"), "{left:?}");
}

#[test]
fn an_export_comes_back_uncorrected_as_it_went() {
    let world = mixed();
    let failed = export(&world, &["failed"]);
    let invalid: String =
        failed.lines().filter(|line| !line.contains("duplicate")).map(|line| format!("{line}\n")).collect();
    let file = world.file("failed.csv", invalid);
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.outcomes(), "invalid=1");
    let again = export(&world, &["failed", "--run", "2"]);
    // The columns that the export adds are not added twice.
    assert_eq!(again.lines().next(), failed.lines().next());
    assert!(again.lines().nth(1).unwrap().starts_with("=1+1,x,cust-0002,,2,invalid,"));
}

#[test]
fn an_invalid_row_without_a_reference_is_gone_once_its_correction_is_imported() {
    let world = World::new();
    let file = world.file("users.csv", "object_reference_id,mobile_number\n,1\nshort,2\n");
    assert_eq!(world.import(&file, &[]).code, 3);
    let failed = export(&world, &["failed"]);
    let corrected = failed.replace("\n,1,", "\ncust-0001,1,").replace("\nshort,", "\ncust-0002,");
    let file = world.file("failed.csv", corrected);
    assert_eq!(world.import(&file, &[]).code, 0);
    let left = export(&world, &["failed"]);
    assert_eq!(left.lines().count(), 1, "{left}");
}

#[test]
fn rejected_rows_come_back_corrected_and_are_gone() {
    let world = World::new();
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::Reject, 1.0)]);
    let file = world.rows("users.csv", 2);
    assert_eq!(world.import(&file, &[]).code, 3);
    world.reconfigure(|behavior| behavior.faults.clear());
    let failed = export(&world, &["failed"]);
    let file = world.file("failed.csv", failed.replace(",98000", ",97000"));
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "created=2");
    assert_eq!(export(&world, &["failed"]).lines().count(), 1);
}

#[test]
fn rows_that_come_back_still_wrong_are_listed_once() {
    let world = World::new();
    let file = world.file("users.csv", "object_reference_id,mobile_number\ncust-0001,+1\ncust-0002,+2\n,3\n");
    assert_eq!(world.import(&file, &[]).code, 3);
    for _ in 0..2 {
        let failed = export(&world, &["failed"]);
        assert_eq!(failed.lines().count(), 1 + 3, "{failed}");
        let file = world.file("failed.csv", failed);
        assert_eq!(world.import(&file, &[]).code, 3);
    }
    let corrected =
        export(&world, &["failed"]).replace("+1", "1").replace("+2", "2").replace("\n,3", "\ncust-0003,3");
    let file = world.file("failed.csv", corrected);
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.outcomes(), "created=3");
    assert_eq!(export(&world, &["failed"]).lines().count(), 1);
}

#[test]
fn a_correction_does_not_clear_the_row_of_another_file() {
    let world = World::new();
    let a = world.file("a.csv", "object_reference_id,mobile_number\n,1\n");
    let b = world.file("b.csv", "object_reference_id,mobile_number\n,2\n");
    assert_eq!(world.import(&a, &[]).code, 3);
    let failed = export(&world, &["failed"]);
    assert_eq!(world.import(&b, &[]).code, 3);
    let file = world.file("failed.csv", failed.replace("\n,1", "\ncust-0001,1"));
    assert_eq!(world.import(&file, &[]).code, 0);
    let left = export(&world, &["failed"]);
    assert!(left.contains("\n,2,"), "{left}");
}

/// A file of a German program, with a fault in its second row.
const FOREIGN: &[u8] =
    b"Kundennummer;Telefon;Vorname;\xd6rtlich\nkunde-001;9876500110;Zo\xeb;x\nkunde-002;98-765;Zo\xeb;\xfc\n";

const FOREIGN_SETTINGS: &str = "delimiter = \";\"\nencoding = \"windows-1252\"\nvalidation = \"lenient\"\n\
    phone-region = \"IN\"\nmap = [\"object_reference_id=Kundennummer\", \"mobile_number=Telefon\", \"first_name=Vorname\"]\n";

/// Imports the foreign file with its settings, and corrects its failed export.
fn corrected_export_of_a_foreign_file(world: &World) -> std::path::PathBuf {
    let file = world.file("foreign.csv", FOREIGN);
    world.file("settings.toml", FOREIGN_SETTINGS);
    let done = world.import(&file, &["--config", "settings.toml"]);
    assert_eq!((done.code, world.outcomes().as_str()), (3, "created=1 invalid=1"), "{done:?}");
    let failed = world.failed_text();
    assert!(failed.contains("Kundennummer,Telefon,Vorname,Örtlich,_line"), "{failed}");
    world.file("failed.csv", failed.replace("98-765", "9876500111"))
}

#[test]
fn a_corrected_export_comes_back_by_the_settings_of_the_file_that_it_came_from() {
    let world = World::new();
    let file = corrected_export_of_a_foreign_file(&world);
    let done = world.import(&file, &["--config", "settings.toml"]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=1"), "{done:?}");
    assert_eq!(world.journal().customer(MERCHANT, "kunde-002").unwrap().first_name, "Zoë");
}

#[test]
fn a_corrected_export_comes_back_without_the_settings_by_what_the_ledger_keeps() {
    let world = World::new();
    let file = corrected_export_of_a_foreign_file(&world);
    let done = world.import(&file, &["--validation", "lenient", "--phone-region", "IN"]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=1"), "{done:?}");
    assert_eq!(world.journal().customer(MERCHANT, "kunde-002").unwrap().first_name, "Zoë");
    // Another ledger has nothing about that file, and the message says what is missing.
    let done = world.import(&file, &["--ledger", "other.db"]);
    done.assert_error(2, &["no columns object_reference_id, mobile_number", "--map"]);
}

#[test]
fn a_corrected_export_of_files_with_different_maps_is_never_read_by_the_wrong_one() {
    let world = World::new();
    let file = world.file("a.csv", "object_reference_id,mobile_number\ncust-0001,1x\n");
    assert_eq!(world.import(&file, &[]).code, 3);
    let text = "object_reference_id,id,mobile_number\nshop-0007,cust-0002,2x\n";
    let (file, map) = (world.file("b.csv", text), ["--map", "object_reference_id=id"]);
    assert_eq!(world.import(&file, &map).code, 3);
    // The rows of the second file would become customers of the wrong identity.
    let both = world.file("both.csv", world.failed_text().replace("1x", "1").replace("2x", "2"));
    let done = world.import(&both, &[]);
    done.assert_error_line(2, &["do not agree on the column of object_reference_id", "--map", "--run"]);
    let second = world.run(&["export", "failed", "--run", "2"]).stdout;
    let done = world.import(&world.file("second.csv", second.replace("2x", "2")), &map);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=1"), "{done:?}");
    assert!(world.journal().customer(MERCHANT, "cust-0002").is_some());
    assert!(world.journal().customer(MERCHANT, "shop-0007").is_none());
}

#[test]
fn a_corrected_export_comes_back_with_the_values_that_its_file_was_given() {
    let world = World::new();
    let header = "object_reference_id,mobile_number,first_name\n";
    let constant = ["--set", "mobile_country_code=65", "--null-marker", "none"];
    let file =
        world.file("a.csv", format!("{header}cust-0001,81234567,none\ncust-0002,x,Ann\ncust-0003,x,none\n"));
    assert_eq!(world.import(&file, &constant).code, 3);
    let corrected = world.failed_text().replace(",x,", ",81234568,");
    let corrected = world.file("failed.csv", corrected);
    assert_eq!(world.import(&corrected, &[]).code, 0);
    let customer = |reference| world.journal().customer(MERCHANT, reference).unwrap();
    assert_eq!(customer("cust-0002").mobile_country_code, "65", "without it, it is an Indian number");
    assert_eq!(customer("cust-0003").first_name, "");
    // The region of the run is that of the corrected rows, too.
    let file = world.file("b.csv", format!("{header}cust-0004,8123 4567,Bo\ncust-0005,x,Cy\n"));
    let ledger = ["--ledger", "other.db"];
    assert_eq!(world.import(&file, &[&ledger[..], &["--phone-region", "SG"]].concat()).code, 3);
    let failed = world.run(&["export", "failed", "--ledger", "other.db"]).stdout;
    let corrected = world.file("failed.csv", failed.replace(",x,", ",8123 4569,"));
    assert_eq!(world.import(&corrected, &ledger).code, 0);
    let customer = customer("cust-0005");
    assert_eq!((&*customer.mobile_number, &*customer.mobile_country_code), ("81234569", "65"));
}

#[test]
fn a_corrected_export_that_a_spreadsheet_saved_comes_back_or_is_refused_row_by_row() {
    let world = World::new();
    let file = corrected_export_of_a_foreign_file(&world);
    let text = std::fs::read_to_string(&file).unwrap();
    // With a byte order mark, and the delimiter of another country.
    world.file("saved.csv", format!("\u{feff}{}", text.replace(',', ";")));
    let done = world.run(&["validate", "saved.csv", "--config", "settings.toml"]);
    assert_eq!(done.code, 0, "{done:?}");
    // In UTF-16.
    let wide: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    world.file("wide.csv", wide);
    let done = world.run(&["validate", "wide.csv", "--config", "settings.toml"]);
    assert_eq!(done.code, 0, "{done:?}");
    // In another encoding: the header determines it, so that no letter is misread.
    let narrow: Vec<u8> = text.chars().map(|c| c as u8).collect();
    world.file("narrow.csv", narrow);
    let done = world.run(&["validate", "narrow.csv", "--config", "settings.toml"]);
    assert_eq!(done.code, 0, "{done:?}");
    let plain: Vec<u8> = text.replace("Örtlich", "Ort").chars().map(|c| c as u8).collect();
    world.file("plain.csv", plain);
    let done = world.run(&["validate", "plain.csv", "--config", "settings.toml"]);
    let words = [
        "record encoding: 1 row",
        "another program has saved it in its own encoding",
        "iconv -f WINDOWS-1252",
    ];
    assert!(done.code == 3 && words.iter().all(|words| done.stdout.contains(words)), "{done:?}");
}

/// The file of a shop: its own reference and the number that is made into ours, each in a column of its own.
const SHOP: &str =
    "object_reference_id,id,mobile_number,note\nshop-0001,7001,81234567,a\nshop-0001,7002,x,b\n";

const SHOP_OPTIONS: [&str; 4] =
    ["--map", "object_reference_id=customer_{id}", "--set", "mobile_country_code=65"];

#[test]
fn a_corrected_export_is_read_alike_after_its_import_was_killed_and_after_its_end() {
    let world = World::new();
    let wire = Wire::new(|call| call.answer_honestly());
    assert_eq!(wire.import(&world, &world.file("shop.csv", SHOP), &SHOP_OPTIONS).code, 3);
    let file = world.file("failed.csv", world.failed_text().replace(",x,", ",81234568,"));
    wire.play(|call| call.hang());
    let mut child = wire.start(&world, &file, &[], |_| {});
    assert!(wait_until(&mut child, || wire.creates_of("customer_7002") == 1));
    child.kill().unwrap();
    drop(finish(child));
    wire.play(|call| call.answer_honestly());
    for outcomes in ["created=1", "unchanged=1"] {
        let done = wire.import(&world, &file, &["--update-changed"]);
        assert_eq!((done.code, world.outcomes().as_str()), (0, outcomes), "{done:?}");
    }
    let customers: Vec<String> = wire.customers().into_keys().collect();
    assert_eq!(customers, ["customer_7001", "customer_7002"], "the shop's own reference is nobody");
}

#[test]
fn a_corrected_export_of_other_columns_is_read_as_its_rows_were_or_refused() {
    let without = |text: &str, column: &str| {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        let mut rows: Vec<Vec<String>> =
            reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect();
        let at = rows[0].iter().position(|name| name == column).unwrap();
        rows.iter_mut().for_each(|row| drop(row.remove(at)));
        rows.iter().map(|row| format!("{}\n", row.join(","))).collect::<String>()
    };
    let world = World::new();
    // Another file has the columns that are left.
    let other = world.file("other.csv", "object_reference_id,mobile_number\nother-0001,1\n");
    assert_eq!(world.import(&other, &["--set", "mobile_country_code=44"]).code, 0);
    assert_eq!(world.import(&world.file("shop.csv", SHOP), &SHOP_OPTIONS).code, 3);
    let corrected = world.failed_text().replace(",x,", ",81234568,").replace(", ", " ");
    let requests = world.journal().requests();
    for text in [without(&corrected, "id"), corrected.replacen(",id,", ",No,", 1)] {
        let done = world.import(&world.file("failed.csv", text), &["--map", "object_reference_id=id"]);
        assert_eq!((done.code, world.journal().requests()), (2, requests), "{done:?}");
    }
    let file = world.file("failed.csv", corrected.replacen(",note,", ",comment,", 1));
    world.import(&file, &[]).assert_error_line(2, &["do not agree on the column of object_reference_id"]);
    let done = world.import(&file, &["--map", "object_reference_id=customer_{id}"]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=1"), "{done:?}");
    let customer = world.journal().customer(MERCHANT, "customer_7002").unwrap();
    assert_eq!(customer.mobile_country_code, "65");
    assert!(world.journal().customer(MERCHANT, "shop-0001").is_none());
}

#[test]
fn a_column_that_is_gone_from_an_export_is_named_with_the_map_for_its_new_name() {
    let world = World::new();
    assert_eq!(world.import(&world.file("shop.csv", SHOP), &SHOP_OPTIONS).code, 3);
    // A retry of nothing leaves a run in the ledger that no list shows.
    assert_eq!(world.aim("retry", &[]).code, 0);
    let text = world.failed_text().replace(",x,", ",81234568,").replacen(",id,", ",No,", 1);
    let file = world.file("failed.csv", text);
    let words = ["no longer has the column", "customer_{id}", "'object_reference_id=customer_{COLUMN}'"];
    world.import(&file, &[]).assert_error_line(2, &words);
    let done = world.import(&file, &["--map", "object_reference_id=customer_{No}"]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=1"), "{done:?}");
    assert_eq!(world.journal().customer(MERCHANT, "customer_7002").unwrap().mobile_country_code, "65");
}

#[test]
fn a_corrected_export_of_files_with_different_values_is_refused_without_them() {
    let world = World::new();
    let header = "object_reference_id,mobile_number\n";
    for (name, row, code) in [("a.csv", "cust-0001", "65"), ("b.csv", "cust-0002", "44")] {
        let file = world.file(name, format!("{header}{row},x\n"));
        assert_eq!(world.import(&file, &["--set", &format!("mobile_country_code={code}")]).code, 3);
    }
    let file = world.file("failed.csv", world.failed_text().replace(",x,", ",81234568,"));
    world.import(&file, &[]).assert_error_line(2, &["do not agree on --set", "--run"]);
    assert_eq!(world.journal().requests(), 0, "a number without its country code is an Indian one");
    // What the message says works.
    let second = world.run(&["export", "failed", "--run", "2"]).stdout;
    let second = world.file("second.csv", second.replace(",x,", ",7123456789,"));
    assert_eq!(world.import(&second, &["--set", "mobile_country_code=44"]).code, 0);
    let first = world.run(&["export", "failed", "--run", "1"]).stdout;
    let first = world.file("first.csv", first.replace(",x,", ",81234567,"));
    for outcomes in ["created=1", "unchanged=1"] {
        assert_eq!((world.import(&first, &[]).code, world.outcomes().as_str()), (0, outcomes));
    }
    let code = |reference| world.journal().customer(MERCHANT, reference).unwrap().mobile_country_code.clone();
    assert_eq!([code("cust-0001"), code("cust-0002")], ["65", "44"]);
    // A ledger without these runs says that it knows nothing of them.
    let done = world.import(&first, &["--ledger", "other.db"]);
    assert!(done.code == 0 && done.stderr.contains("comes from no import that the ledger knows"), "{done:?}");
}

/// The cells of a row are stored when it is settled; of a row that was in flight, the ledger has the reference.
#[test]
fn a_row_that_was_in_flight_in_a_killed_run_has_only_its_reference() {
    let world = World::new();
    let file = world.rows("users.csv", 3);
    let wire = Wire::new(|call| call.hang());
    let mut child = wire.start(&world, &file, &[], |_| {});
    assert!(wait_until(&mut child, || !wire.received().is_empty()));
    child.kill().unwrap();
    drop(finish(child));
    let done = world.run(&["export", "failed"]);
    let said = "the ledger has only the reference of this row; import its file again";
    assert!(done.code == 0 && done.stdout.matches(said).count() == 3, "{done:?}");
    assert!(done.stderr.starts_with("3 rows in flight when a run was killed"), "{done:?}");
    wire.play(|call| call.answer_honestly());
    assert_eq!(wire.import(&world, &file, &[]).code, 0);
    assert_eq!(export(&world, &["failed"]).lines().count(), 1, "all are settled");
}

#[test]
fn corrected_rows_whose_numbers_differ_only_in_zeros_are_two_customers() {
    let world = World::new();
    let file = world.file("users.csv", "object_reference_id,mobile_number\n12345678,x\n0012345678,y\n");
    assert_eq!(world.import(&file, &[]).code, 3);
    let corrected = world.failed_text().replace(",x,", ",1,").replace(",y,", ",2,");
    let done = world.import(&world.file("failed.csv", corrected), &[]);
    assert_eq!((done.code, world.outcomes().as_str()), (0, "created=2"), "{done:?}");
    assert_eq!(world.failed_text().lines().count(), 1);
}

/// The references are in one column, or in a template.
#[test]
fn a_corrected_row_whose_number_lost_its_zeros_is_not_another_customer() {
    for map in ["object_reference_id=id", "object_reference_id=customer_{id}"] {
        let world = World::new();
        world.reconfigure(|behavior| behavior.faults = vec![(Fault::Reject, 1.0)]);
        let file = world.file("users.csv", "id,mobile_number\n0012345678,1\n0012345679,x\n");
        assert_eq!(world.import(&file, &["--map", map]).code, 3);
        assert_eq!(world.outcomes(), "invalid=1 rejected=1");
        world.reconfigure(|behavior| behavior.faults.clear());
        let corrected = world.failed_text().replace(",1,", ",3,").replace(",x,", ",4,");
        let damaged = world.file("damaged.csv", corrected.replace("\n00", "\n"));
        let creates = world.journal().creates();
        for _ in 0..2 {
            let done = world.import(&damaged, &[]);
            assert_eq!((done.code, world.outcomes().as_str()), (3, "invalid=2"), "{done:?}");
            assert!(done.stdout.contains("number with leading zeros"), "{done:?}");
        }
        assert_eq!(world.journal().creates(), creates);
        let done = world.import(&world.file("corrected.csv", corrected), &[]);
        assert_eq!((done.code, world.outcomes().as_str()), (0, "created=2"), "{done:?}");
        assert_eq!(world.failed_text().lines().count(), 1, "{}", world.failed_text());
    }
}

/// A script that ignores the exit code would take it for all there is.
#[test]
fn an_export_that_breaks_off_leaves_no_file_and_brings_back_the_one_that_was_there() {
    let world = World::new();
    assert_eq!(world.import(&world.rows("users.csv", 4000), &[]).code, 0);
    world.execute("update row set outcome = 'of a later version' where line = 4001");
    let breaks_off = || {
        let done = world.run(&["export", "all", "--output", "all.csv"]);
        assert_ne!(done.code, 0, "{done:?}");
    };
    breaks_off();
    assert!(!world.path("all.csv").exists());
    world.file("all.csv", "what was there\n");
    breaks_off();
    assert_eq!(std::fs::read_to_string(world.path("all.csv")).unwrap(), "what was there\n");
    world.execute("update row set outcome = 'created' where line = 4001");
    assert_eq!(world.run(&["export", "all", "--output", "all.csv"]).code, 0);
    assert_eq!(std::fs::read_to_string(world.path("all.csv")).unwrap().lines().count(), 4001);
}
