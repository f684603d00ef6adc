//! Two rows of one file with one reference: the first owns it, and the other never reaches the API.
//!
//! The disaster is one person's phone number and name written over another's, by a step that the README recommends:
//! export the failed rows, and import them again. So the API's own state decides here: whose data a customer has, and
//! what was sent for it.

use std::path::Path;

use customer_import::simulator::{Endpoint, Fault, Outage};

use crate::world::{MERCHANT, World, rows, wait_until};

const HEADER: &str = "object_reference_id,mobile_number,first_name\n";

/// Imports with Updates, and returns the outcomes.
fn update(world: &World, file: &Path, more: &[&str]) -> String {
    let done = world.import(file, &[&["--update-changed"], more].concat());
    assert!([0, 3].contains(&done.code), "{done:?}");
    world.outcomes()
}

fn mobile_number(world: &World, reference: &str) -> Option<String> {
    world.journal().customer(MERCHANT, reference).map(|customer| customer.mobile_number.clone())
}

fn updates(world: &World) -> usize {
    world.journal().entries().iter().filter(|entry| entry.endpoint == Endpoint::Update).count()
}

#[test]
fn a_duplicate_that_comes_back_uncorrected_is_one_again() {
    let world = World::new();
    let file = world.file("users.csv", format!("{HEADER}cust-0001,1,Asha\ncust-0001,2,Ravi\n"));
    assert_eq!(update(&world, &file, &[]), "created=1 duplicate=1");
    let requests = world.journal().requests();
    for _ in 0..2 {
        let exported = world.failed_text();
        assert!(exported.contains("has this object_reference_id: cust-0001,"), "{exported}");
        let file = world.file("failed.csv", &exported);
        assert_eq!(update(&world, &file, &[]), "duplicate=1");
        assert_eq!(world.failed_text().lines().count(), 2, "it is listed still, and once");
        // Nor with a ledger that has nothing about the original file.
        assert_eq!(update(&world, &file, &["--ledger", "other.db"]), "duplicate=1");
        let found = world.run(&["validate", "failed.csv"]);
        assert!(found.stdout.starts_with("failed.csv: 1 row, 0 valid, 0 invalid, 1 duplicate"), "{found:?}");
    }
    // If the export's columns about the row are removed, only the ledger identifies the row.
    let bare =
        format!("{HEADER}cust-0001,2,Ravi\n").replace("first_name", "first_name,_line,_outcome,_error_code");
    let file = world.file("bare.csv", bare.replace("Ravi", "Ravi,2,duplicate,duplicate"));
    assert_eq!(update(&world, &file, &[]), "duplicate=1");
    assert_eq!(world.journal().requests(), requests);
    // Corrected, the row is a customer of its own.
    let file = world.file("failed.csv", world.failed_text().replace("cust-0001,2,", "cust-0002,2,"));
    assert_eq!(update(&world, &file, &[]), "created=1");
    assert_eq!(world.failed_text().lines().count(), 1);
    assert_eq!(mobile_number(&world, "cust-0001").as_deref(), Some("1"));
    assert_eq!(mobile_number(&world, "cust-0002").as_deref(), Some("2"));
}

#[test]
fn a_duplicate_whose_cells_were_rewritten_is_one_still() {
    let world = World::new();
    let file = world.file("users.csv", format!("{HEADER}cust-0001,1,Asha\ncust-0001,2,Ravi\n"));
    assert_eq!(update(&world, &file, &[]), "created=1 duplicate=1");
    let (exported, requests) = (world.failed_text(), world.journal().requests());
    // As pandas writes a column with an empty cell, a spreadsheet with another format, a person.
    for (cells, other) in [
        (",3,duplicate,", ",3.0,duplicate,"),
        (",3,duplicate,", ",3,Duplicate,"),
        (",3,duplicate,", ",, duplicate ,"),
        (",3,duplicate,", ",3,corrected,"),
        (
            ",3,duplicate,object_reference_id,duplicate,",
            ", 3 , DUPLICATE , Object_reference_id , Duplicate ,",
        ),
        (",3,duplicate,object_reference_id,duplicate,", ",3,doublon,,doublon,"),
    ] {
        let file = world.file("failed.csv", exported.replacen(cells, other, 1));
        assert_eq!(update(&world, &file, &[]), "duplicate=1", "{other}");
        let file = world.file("own.csv", exported.replacen(cells, other, 1));
        assert_eq!(update(&world, &file, &["--ledger", "other.db"]), "duplicate=1", "{other}");
    }
    assert_eq!(world.journal().requests(), requests);
}

#[test]
fn an_export_without_some_of_its_columns_is_refused() {
    let world = World::new();
    let file = world.file("users.csv", format!("{HEADER}cust-0001,1,Asha\ncust-0001,2,Ravi\n"));
    assert_eq!(update(&world, &file, &[]), "created=1 duplicate=1");
    let (exported, requests) = (world.failed_text(), world.journal().requests());
    for (column, other) in
        [("_line", "line"), ("_outcome", "_Outcome"), ("_error_code", "_Error_Code"), ("_line", "")]
    {
        let file = world.file("failed.csv", exported.replacen(column, other, 1));
        let done = world.import(&file, &["--update-changed"]);
        done.assert_error_line(2, &["failed export without its column", column, "export it again"]);
    }
    assert_eq!(world.journal().requests(), requests);
    // Some such columns may be the file's own.
    let own =
        format!("{HEADER}cust-0002,2,Ravi\n").replace("first_name", "first_name,_line,_field,_attempts");
    let file = world.file("own.csv", own.replace("Ravi", "Ravi,7,,"));
    assert_eq!(update(&world, &file, &[]), "created=1");
}

#[test]
fn an_invalid_row_has_its_reference_before_those_that_follow() {
    let world = World::new();
    let file = world.file("users.csv", format!("{HEADER}cust-0001,+1,Asha\ncust-0001,2,Ravi\n"));
    for _ in 0..2 {
        assert_eq!(update(&world, &file, &[]), "duplicate=1 invalid=1");
        let found = world.run(&["validate", "users.csv"]);
        assert!(found.stdout.starts_with("users.csv: 2 rows, 0 valid, 1 invalid, 1 duplicate"), "{found:?}");
    }
    assert_eq!(world.run(&["validate", "users.csv", "--format", "csv"]).stdout, world.failed_text());
    assert_eq!(world.journal().requests(), 0);
    let file = world.file("failed.csv", world.failed_text().replace("+1", "1"));
    assert_eq!(update(&world, &file, &[]), "created=1 duplicate=1");
    assert_eq!(mobile_number(&world, "cust-0001").as_deref(), Some("1"));
    // The next day the row is invalid again, but the customer exists.
    let file = world.file("users.csv", format!("{HEADER}cust-0001,+1,Asha\ncust-0001,2,Ravi\n"));
    assert_eq!(update(&world, &file, &[]), "duplicate=1 invalid=1");
    assert_eq!((world.journal().requests(), updates(&world)), (1, 0));
}

#[test]
fn an_invalid_row_behind_the_one_that_owns_its_reference_is_a_duplicate_once_it_is_corrected() {
    let world = World::new();
    let file = world.file("users.csv", format!("{HEADER}cust-0001,1,Asha\ncust-0001,+2,Ravi\n"));
    assert_eq!(update(&world, &file, &[]), "created=1 invalid=1");
    assert_eq!(world.run(&["validate", "users.csv", "--format", "csv"]).stdout, world.failed_text());
    assert!(
        world.failed_text().contains(",mobile_number;object_reference_id,digits;duplicate,"),
        "{}",
        world.failed_text()
    );
    let file = world.file("failed.csv", world.failed_text().replace("+2", "2"));
    for _ in 0..2 {
        assert_eq!(update(&world, &file, &[]), "duplicate=1");
        assert_eq!(world.failed_text().lines().count(), 2);
    }
    assert_eq!(mobile_number(&world, "cust-0001").as_deref(), Some("1"));
    let file = world.file("failed.csv", world.failed_text().replace("cust-0001,2", "cust-0002,2"));
    assert_eq!(update(&world, &file, &[]), "created=1");
    assert_eq!(world.failed_text().lines().count(), 1);
}

/// A first row whose reference cannot be read does not own it: the later row is sent. When the first row comes back
/// corrected, it has another person's data.
#[test]
fn a_row_whose_reference_could_not_be_read_is_a_duplicate_once_another_row_of_its_file_has_it() {
    for (broken, fixed) in [("cust-0001,1,Asha,x", "cust-0001,1,Asha"), ("short,1,Asha", "cust-0001,1,Asha")]
    {
        let world = World::new();
        let text = format!("{HEADER}{broken}\ncust-0001,2,Ravi\ncust-0002,3,Mina\n");
        let file = world.file("users.csv", &text);
        // First new, and the next night unchanged.
        assert_eq!(update(&world, &file, &[]), "created=2 invalid=1");
        for night in 0..2 {
            let exported = world.failed_text();
            let back = correct(&exported, fixed);
            let file = world.file("failed.csv", &back);
            // With a ledger that has nothing about the file, the customer exists, and is not changed.
            let expected = if night == 0 { "existing=1" } else { "duplicate=1" };
            assert_eq!(update(&world, &file, &["--ledger", "other.db"]), expected);
            assert_eq!(update(&world, &file, &[]), "duplicate=1", "night {night}: {back}");
            assert!(
                world.failed_text().contains("has this object_reference_id: cust-0001\""),
                "{}",
                world.failed_text()
            );
            assert_eq!(update(&world, &world.file("again.csv", world.failed_text()), &[]), "duplicate=1");
            assert_eq!(world.failed_text().lines().count(), 2, "{}", world.failed_text());
            let text = format!("{HEADER}{broken}\ncust-0001,2,Ravi\ncust-0002,3,Mina\n");
            let next = world.file(&format!("night-{night}.csv"), text);
            assert_eq!(update(&world, &next, &[]), "unchanged=2 invalid=1");
        }
        assert_eq!((mobile_number(&world, "cust-0001").as_deref(), updates(&world)), (Some("2"), 0));
        // The row has a reference of its own.
        let back = correct(&world.failed_text(), &fixed.replace("cust-0001", "cust-0003"));
        assert_eq!(update(&world, &world.file("failed.csv", back), &[]), "created=1");
        assert_eq!(world.failed_text().lines().count(), 1, "{}", world.failed_text());
    }
}

/// The record of a failed export with the cells of this row in place of its own.
fn correct(exported: &str, cells: &str) -> String {
    let mut reader = csv::Reader::from_reader(exported.as_bytes());
    let header = reader.headers().unwrap().clone();
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&header).unwrap();
    for record in reader.records() {
        let record = record.unwrap();
        let own = header.iter().position(|name| name == "_line").unwrap();
        writer.write_record(cells.split(',').chain(record.iter().skip(own))).unwrap();
    }
    String::from_utf8(writer.into_inner().unwrap()).unwrap()
}

/// A row damaged one night is still the customer's own row: the correction is an Update like any other.
#[test]
fn a_row_that_was_damaged_one_night_is_its_customers_own() {
    for damaged in ["cust-0001,1,Asha,x", "short,1,Asha"] {
        let world = World::new();
        let text = format!("{HEADER}cust-0001,1,Asha\ncust-0002,2,Ravi\n");
        assert_eq!(update(&world, &world.file("1.csv", &text), &[]), "created=2");
        let file = world.file("2.csv", text.replace("cust-0001,1,Asha", damaged));
        assert_eq!(update(&world, &file, &[]), "unchanged=1 invalid=1");
        let back = world.file("failed.csv", correct(&world.failed_text(), "cust-0001,9,Asha"));
        let found = world.run(&["validate", "failed.csv"]);
        assert!(found.stdout.starts_with("failed.csv: 1 row, 1 valid"), "{found:?}");
        assert_eq!(update(&world, &back, &[]), "updated=1");
        assert_eq!(mobile_number(&world, "cust-0001").as_deref(), Some("9"));
        assert_eq!(world.failed_text().lines().count(), 1, "{}", world.failed_text());
        assert_eq!(update(&world, &back, &[]), "unchanged=1");
    }
}

#[test]
fn of_two_rows_whose_references_could_not_be_read_the_first_to_come_back_has_it() {
    let world = World::new();
    let file =
        world.file("users.csv", format!("{HEADER}short,1,Asha\nshort,2,Ravi\ncust-0009,+9,Om\nx,8,Zoe\n"));
    assert_eq!(update(&world, &file, &[]), "invalid=4");
    let exported = world.failed_text();
    let one = |line: usize, from: &str, to: &str| {
        let lines: Vec<&str> = exported.lines().collect();
        format!("{}\n{}\n", lines[0], lines[line].replacen(from, to, 1))
    };
    assert_eq!(update(&world, &world.file("1.csv", one(1, "short", "cust-0001")), &[]), "created=1");
    assert_eq!(update(&world, &world.file("2.csv", one(2, "short", "cust-0001")), &[]), "duplicate=1");
    // The reference of a row with another fault belongs to that row.
    assert_eq!(update(&world, &world.file("4.csv", one(4, "x", "cust-0009")), &[]), "duplicate=1");
    assert_eq!(update(&world, &world.file("3.csv", one(3, "+9", "9")), &[]), "created=1");
    assert_eq!(mobile_number(&world, "cust-0001").as_deref(), Some("1"));
    assert_eq!(mobile_number(&world, "cust-0009").as_deref(), Some("9"));
    assert_eq!(updates(&world), 0);
}

#[test]
fn whatever_became_of_the_first_row_the_second_is_a_duplicate() {
    let world = World::new();
    let file = world.file("users.csv", format!("{HEADER}cust-0001,1,Asha\ncust-0001,2,Ravi\n"));
    // The API is unreachable.
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Refuse));
    assert_eq!(world.import(&file, &["--outage-limit", "300ms"]).code, 4);
    assert_eq!(world.outcomes(), "duplicate=1 pending=1");
    // Failed, and then rejected.
    world.reconfigure(|behavior| {
        (behavior.outage, behavior.faults) = (None, vec![(Fault::WriteAlways500, 1.0)])
    });
    world.import(&file, &["--max-attempts", "1"]);
    assert_eq!(world.summary()["duplicate"], 1);
    world.reconfigure(|behavior| behavior.faults = vec![(Fault::Reject, 1.0)]);
    assert_eq!(update(&world, &file, &[]), "duplicate=1 rejected=1");
    // Both rows come back, and neither was corrected.
    let back = world.file("failed.csv", world.failed_text());
    assert_eq!(update(&world, &back, &[]), "duplicate=1 rejected=1");
    world.reconfigure(|behavior| behavior.faults.clear());
    assert_eq!(world.aim("retry", &[]).code, 0);
    assert_eq!(update(&world, &back, &[]), "unchanged=1 duplicate=1");
    for more in [&["--limit", "1"][..], &[], &["--validation", "lenient"]] {
        update(&world, &file, more);
    }
    assert_eq!(world.outcomes(), "unchanged=1 duplicate=1");
    assert_eq!(mobile_number(&world, "cust-0001").as_deref(), Some("1"));
    assert_eq!(updates(&world), 0);
}

/// The run resumes after the previous one, and does not read the first row again.
#[test]
fn a_row_behind_what_is_not_read_again_is_a_duplicate_too() {
    let world = World::new();
    let text =
        format!("{HEADER}cust-9999,+1,Asha\n") + &rows(0..600).split_once('\n').unwrap().1.replace("@", ".");
    let file = world.file("users.csv", &text);
    assert_eq!(world.import(&file, &[]).code, 3);
    world.file("users.csv", format!("{text}cust-9999,2,Ravi\n"));
    let done = world.import(&file, &["-v"]);
    assert!(done.stderr.contains("resuming after an unchanged prefix"), "{done:?}");
    assert_eq!(world.outcomes(), "unchanged=600 duplicate=1 invalid=1");
    assert_eq!(mobile_number(&world, "cust-9999"), None);
}

/// A hundred references, each twice, every third of which is invalid at first, in runs that are killed, corrected and
/// with Updates. The API has the first row's data, or nothing.
#[test]
fn in_no_combination_of_runs_do_both_rows_come_to_the_api() {
    let world = World::new();
    let text = |corrected: bool| -> String {
        let first = |number: usize| {
            let mobile = if number.is_multiple_of(3) && !corrected { "+1" } else { "1" };
            format!("cust-{number:04},{mobile},First\n")
        };
        let second = (0..100).map(|number| format!("cust-{number:04},2,Second\n"));
        HEADER.to_owned() + &(0..100).map(first).chain(second).collect::<String>()
    };
    let file = world.file("users.csv", text(false));
    for at in [10, 40] {
        let mut run = world.start_import(&file, &["--update-changed", "--concurrency", "2"]);
        assert!(wait_until(&mut run, || world.journal().requests() >= at));
        run.kill().unwrap();
        run.wait().unwrap();
    }
    assert_eq!(update(&world, &file, &["--limit", "120"]).split(' ').next_back(), Some("invalid=34"));
    update(&world, &file, &[]);
    assert_eq!((&world.summary()["duplicate"], &world.summary()["invalid"]), (&100.into(), &34.into()));
    let back = world.file("failed.csv", world.failed_text());
    assert_eq!(update(&world, &back, &[]), "duplicate=100 invalid=34");
    assert_eq!(world.failed_text().lines().count(), 1 + 134);
    let back = world.file("failed.csv", world.failed_text().replace("+1", "1"));
    assert_eq!(update(&world, &back, &[]), "created=34 duplicate=100");
    assert_eq!(world.failed_text().lines().count(), 1 + 100);
    world.file("users.csv", text(true));
    assert_eq!(update(&world, &file, &[]), "unchanged=100 duplicate=100");
    assert_eq!(world.failed_text().lines().count(), 1 + 100);
    for number in 0..100 {
        assert_eq!(mobile_number(&world, &format!("cust-{number:04}")).as_deref(), Some("1"));
    }
    assert_eq!((updates(&world), world.journal().customers()), (0, 100));
}

/// The definition of a view in a migration.
fn view<'a>(migration: &'a str, name: &str) -> &'a str {
    let (_, rest) = migration.split_once(&format!("create view {name} ")).unwrap();
    rest.split_once(';').unwrap().0
}

/// A ledger as it was before invalid rows and duplicates had a table of their own.
fn make_older(world: &World) {
    let faults = include_str!("../../migrations/sqlite/0014_faults.sql");
    world.execute(&format!(
        "insert into row (id, run, line, outcome, reference, key, settled_at, content, other_cells, fault, field,
                          error_code, error_message, corrected_by)
         select id, run, line, iif(is_duplicate, 'duplicate', 'invalid'), reference, iif(reference is null, null, id), 1,
                content, other_cells, fault, field, error_code, error_message, corrected_by from unsendable;
         insert into record (row, cells, run) select id, cells, run from unsendable;
         drop view to_correct; drop view invalid_now; drop view every_row; drop table unsendable;
         create index row_without_reference on row (line, other_cells, run) where other_cells is not null;
         create view every_row {}; create view invalid_now {}; create view to_correct {};
         delete from _sqlx_migrations where version >= 15",
        view(faults, "every_row"),
        view(faults, "invalid_now"),
        view(faults, "to_correct"),
    ));
}

/// A ledger as it was before words of faults had a table of their own, too.
fn make_much_older(world: &World) {
    make_older(world);
    let ledger = include_str!("../../migrations/sqlite/0012_ledger.sql");
    let words = ["field", "error_code", "error_message"]
        .map(|word| format!("{word} = (select fault.{word} from fault where fault.id = row.fault)"));
    world.execute(&format!(
        "update row set {}, content = coalesce(content, key) where fault is not null;
         drop view to_correct; drop view invalid_now; drop view every_row;
         alter table row drop column fault; drop table fault;
         create view every_row {}; create view invalid_now {}; create view to_correct {};
         create index row_unowned on row (line, content, run, outcome) where content is not null;
         delete from _sqlx_migrations where version = 14",
        words.join(", "),
        view(ledger, "every_row"),
        view(ledger, "invalid_now"),
        view(ledger, "to_correct"),
    ));
}

/// One import of a night is by an older version, the next by this one: rows that cannot be sent are the same to both.
#[test]
fn rows_that_an_older_version_could_not_send_are_known_again() {
    older_version(14, make_older);
    older_version(13, make_much_older);
}

/// `make_older` turns the ledger into one of that version.
fn older_version(version: u32, make_older: fn(&World)) {
    let world = World::new();
    let rows = "cust-0001,1,Asha\ncust-0001,2,Ravi\ncust-0002,12a,Mina\n,3,Noor\ncust-0003,1\u{7},Lee\n";
    let file = world.file("users.csv", format!("{HEADER}{rows}"));
    assert_eq!(world.import(&file, &[]).code, 3);
    let before = [world.failed_text(), world.run(&["report"]).stdout];
    make_older(&world);
    assert_eq!([world.failed_text(), world.run(&["report"]).stdout], before, "it is read as it is");
    // Another row before them, so that they are read again.
    let file = world.file("users.csv", format!("{HEADER}cust-0004,4,Zoe\n{rows}"));
    let plan = world.aim("plan", &["users.csv"]);
    assert!(plan.stdout.contains("duplicate"), "{plan:?}");
    let migrated = world.number("select max(version) from _sqlx_migrations");
    assert_eq!(migrated, u64::from(version), "a plan writes nothing");
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.outcomes(), "created=1 unchanged=1 duplicate=1 invalid=3");
    assert_eq!(world.failed_rows().len(), 4, "each once");
    assert_eq!(world.number("select count(*) from unsendable"), 4);
    assert_eq!(world.number("select count(*) from unsendable where error_message is not null"), 0);
    assert_eq!(world.number("select count(*) from row where outcome in ('invalid', 'duplicate')"), 0);
    // What comes back corrected is known by what the older version said of it.
    make_older(&world);
    let exported = world.failed_text();
    world.file("failed.csv", exported.replace(",12a,", ",5,").replace(",1\u{7},", ",6,"));
    assert_eq!(world.import(&world.path("failed.csv"), &[]).code, 3);
    assert_eq!(world.outcomes(), "created=2 duplicate=1 invalid=1");
    assert_eq!(mobile_number(&world, "cust-0002").as_deref(), Some("5"));
    assert_eq!(world.failed_rows().len(), 2);
}

/// A fault that finds no room in the table of faults stays with its row, and is told like any other.
#[test]
fn a_fault_for_which_there_is_no_room_is_told_all_the_same() {
    let world = World::new();
    let file = world.file("first.csv", format!("{HEADER}cust-0001,1,Asha\n"));
    assert_eq!(world.import(&file, &[]).code, 0);
    world.execute(
        "with recursive number (n) as (select 1 union all select n + 1 from number where n < 1024)
         insert into fault (id, field, error_code, error_message) select n, 'f', 'c', 'another ' || n from number",
    );
    let rows = "cust-0001,1,Asha\ncust-0001,2,Ravi\ncust-0002,,Mina\ncust-0003,,Noor\n";
    let file = world.file("users.csv", format!("{HEADER}{rows}"));
    assert_eq!(world.import(&file, &["--ledger", "other.db"]).code, 3);
    let exported = world.run(&["export", "failed", "--ledger", "other.db"]).stdout;
    assert_eq!(world.import(&file, &[]).code, 3);
    assert_eq!(world.outcomes(), "unchanged=1 duplicate=1 invalid=2");
    assert_eq!(world.failed_text(), exported, "as where there is room");
    assert_eq!(
        world.number("select count(*) from unsendable where error_message is not null and fault is null"),
        3
    );
    assert_eq!(world.number("select count(*) from fault"), 1024);
}
