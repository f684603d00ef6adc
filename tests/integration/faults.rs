//! The disk is full, the folder is read-only, the ledger is damaged, or the file is not a ledger.
//!
//! The disaster: a customer is created and its claim was never written, or another program's file is overwritten, or
//! a damaged ledger is treated as an empty one and everything is sent again. Each fault here must end in one line
//! with the remedy, without a request for a row whose claim did not commit, and once its cause is removed one run
//! completes. The journal shows what the API really has.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::{self, File},
    io::ErrorKind,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use customer_import::simulator::Outage;
use sqlx::{Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::runtime::Runtime;

use crate::world::{Done, NOBODY, World, done, files, finish, wait_until};

/// Asserts that every reference that was sent to the API is in the ledger: claimed, or settled.
#[track_caller]
fn assert_each_request_was_claimed(world: &World) {
    let known = world.query("select reference from every_row");
    let known: HashSet<String> = known.into_iter().flatten().collect();
    for entry in world.journal().entries() {
        let is_known = known.contains(&*entry.reference) || &*entry.reference == NOBODY;
        assert!(is_known, "{} was sent without a claim", entry.reference);
    }
}

/// Asserts that every reference is at the API once and in the ledger once, under the same id. Rows of a lost ledger
/// are `existing`.
#[track_caller]
fn assert_nothing_lost_or_twice(world: &World, rows: usize) {
    let api = world.journal().created();
    assert_eq!(api.len(), rows);
    assert!(api.values().all(|(_, times)| *times == 1), "a customer was made twice");
    let known = world.export("created");
    assert_eq!(known.len(), rows, "each reference once");
    for row in known {
        assert_eq!(api[&row[0]].0, row[1], "the id of {}", row[0]);
    }
    assert_eq!(world.number("select count(*) from every_row where outcome = 'pending'"), 0);
}

/// Asserts that one more run completes everything.
#[track_caller]
fn completes(world: &World, file: &Path, rows: usize) {
    let done = world.import(file, &[]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_nothing_lost_or_twice(world, rows);
    let requests = world.journal().requests();
    assert_eq!(world.import(file, &[]).code, 0);
    assert_eq!(world.journal().requests(), requests, "there was nothing left to send");
}

/// Changes an SQLite file as another program would.
fn execute(path: &Path, sql: &'static str) {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        connection.execute(sql).await.unwrap();
        connection.close().await.unwrap();
    });
}

/// The import under a shell's limits, in the world's folder. `$@` is the command.
fn under_shell(world: &World, script: &str, file: &Path, more: &[&str]) -> Done {
    command_under_shell(world, script, &world.import_args(file, more))
}

/// As [`under_shell`], for any command.
fn command_under_shell<S: AsRef<OsStr>>(world: &World, script: &str, args: &[S]) -> Done {
    let command = world.command(args);
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    done(shell.current_dir(world.folder.path()).stdin(Stdio::null()).output().unwrap())
}

/// Files may not grow beyond this many blocks; a write beyond that fails like one to a broken disk.
const NO_LARGER_THAN: &str = "ulimit -f \"$BLOCKS\"; exec \"$@\"";

/// Wherever the disk fails: before there is a ledger, while it is created, and during a run. The rows take more than
/// the largest limit, however few commits a fast machine makes for them.
#[test]
fn a_disk_that_takes_no_more_writes() {
    const ROWS: usize = 2500;
    let mut in_mid_run = 0;
    for blocks in [0, 1, 100, 400, 500, 600, 700, 800] {
        let world = World::new();
        let file = world.rows("users.csv", ROWS);
        let script = NO_LARGER_THAN.replace("$BLOCKS", &blocks.to_string());
        let failed = under_shell(&world, &script, &file, &[]);
        assert!([1, 2].contains(&failed.code), "{blocks}: {failed:?}");
        failed.assert_error(failed.code, &["ledger.db", "; "]);
        assert!(["disk", "folder", "full"].iter().any(|word| failed.stderr.contains(word)), "{failed:?}");
        if world.journal().requests() > 0 {
            in_mid_run += 1;
            assert_eq!(failed.code, 1, "{failed:?}");
            assert_each_request_was_claimed(&world);
        }
        completes(&world, &file, ROWS);
    }
    assert!(in_mid_run > 0, "no limit struck a run");
}

/// The signal of the system ended the command without a message, and the partial file looked whole.
#[test]
fn a_result_that_cannot_be_written() {
    let world = World::new();
    let file = world.rows("users.csv", 300);
    assert_eq!(world.import(&file, &[]).code, 0);
    let script = NO_LARGER_THAN.replace("$BLOCKS", "1");
    for command in ["export created", "export all --force", "report --format html"] {
        let ledger = world.ledger();
        let last = ["--output", "result", "--ledger", ledger.to_str().unwrap()];
        let args: Vec<&str> = command.split(' ').chain(last).collect();
        for earlier in [None, Some("earlier content")] {
            if let Some(content) = earlier {
                world.file("result", content);
            }
            command_under_shell(&world, &script, &args).assert_error(1, &["cannot write result", "; "]);
            assert_eq!(fs::read_to_string(world.path("result")).ok().as_deref(), earlier, "{command}");
        }
        fs::remove_file(world.path("result")).unwrap();
    }
    let names = files(world.folder.path());
    assert!(!names.iter().any(|name| name.contains("result")), "{names:?}");
}

/// Each connection is an open file; without enough of them, rows would fail.
#[test]
fn too_few_open_files() {
    let world = World::new();
    let file = world.rows("users.csv", 50);
    let hard = "ulimit -n 100; exec \"$@\"";
    let refused = under_shell(&world, hard, &file, &["--concurrency", "200"]);
    refused.assert_error(2, &["--concurrency 200", "264 open files", "ulimit -n"]);
    assert_eq!(world.journal().requests(), 0);
    // The program raises the soft limit itself.
    let soft = "ulimit -Sn 100; exec \"$@\"";
    assert_eq!(under_shell(&world, soft, &file, &["--concurrency", "200"]).code, 0);
    assert_nothing_lost_or_twice(&world, 50);
}

/// Not even the runtime starts with so few, and its signal handling panics with a few more.
#[test]
fn too_few_open_files_for_any_command() {
    let world = World::new();
    let file = world.rows("users.csv", 5);
    // Fewer, and the system cannot load the program.
    for limit in [4, 6, 7, 8, 12, 20, 63] {
        let script = format!("ulimit -n {limit}; exec \"$@\"");
        let words = ["64 open files", &format!("the limit is {limit}"), "ulimit -n"];
        under_shell(&world, &script, &file, &[]).assert_error(2, &words);
    }
    assert_eq!(world.journal().requests(), 0);
    assert_eq!(under_shell(&world, "ulimit -Sn 8; exec \"$@\"", &file, &[]).code, 0);
}

/// Each name would have a lock and a log of its own, so two runs would not see each other.
#[test]
fn a_ledger_with_two_names() {
    let world = World::new();
    let file = world.rows("users.csv", 5);
    assert_eq!(world.import(&file, &[]).code, 0);
    std::fs::hard_link(world.ledger(), world.path("other.db")).unwrap();
    let requests = world.journal().requests();
    for name in ["ledger.db", "other.db"] {
        let words = [name, "several names (hard links)", "delete the other names"];
        world.import(&file, &["--ledger", world.path(name).to_str().unwrap()]).assert_error(2, &words);
    }
    assert_eq!(world.run(&["status", "--ledger", world.ledger().to_str().unwrap()]).code, 0);
    std::fs::remove_file(world.path("other.db")).unwrap();
    assert_eq!(world.import(&file, &[]).code, 0);
    assert_eq!(world.journal().requests(), requests);
}

/// A new ledger in the link's place would not be found by the owner of the link.
#[test]
fn a_link_that_leads_nowhere() {
    let world = World::new();
    let file = world.rows("users.csv", 5);
    std::os::unix::fs::symlink(world.path("unmounted/ledger.db"), world.ledger()).unwrap();
    let words = ["ledger.db", "a link to a file that does not exist", "--ledger FILE"];
    world.import(&file, &[]).assert_error(2, &words);
    assert!(world.ledger().is_symlink());
    assert_eq!(world.journal().requests(), 0);
}

/// A separate disk that is full, if this user may mount one: the message is that about a full disk. Otherwise a limit
/// on file sizes stands in for it, and the message is that about a broken disk.
#[test]
fn a_full_disk() {
    let requests = fill_disk(360);
    assert!(requests.is_none_or(|requests| requests > 0), "it was full before the run began");
}

/// The disk is full while the ledger is created: no incomplete one is left under its name.
#[test]
fn a_disk_that_is_full_before_the_run_begins() {
    for kib in [40, 100, 130] {
        fill_disk(kib);
    }
}

/// Imports with a ledger on a disk of this many KiB, then again on a larger one. Returns the number of requests that
/// the first run recorded; none if this user may not mount a disk.
fn fill_disk(kib: u32) -> Option<u64> {
    const ROWS: usize = 1500;
    let mount = format!("mkdir small && mount -t tmpfs -o size={kib}k tmpfs small");
    let world = World::new();
    let file = world.rows("users.csv", ROWS);
    let may =
        Command::new("unshare").args(["-rm", "sh", "-c", &mount]).current_dir(world.folder.path()).output();
    drop(fs::remove_dir(world.path("small")));
    if !may.is_ok_and(|output| output.status.success()) {
        let failed = under_shell(&world, &NO_LARGER_THAN.replace("$BLOCKS", "500"), &file, &[]);
        failed.assert_error(1, &["ledger.db", "disk", "what was recorded stands"]);
        assert_each_request_was_claimed(&world);
        completes(&world, &file, ROWS);
        return None;
    }
    // The same shell makes room and continues, because the disk is gone when the shell ends.
    let inside = format!(
        "{mount} && export CUSTOMER_IMPORT_LEDGER=small/ledger.db
        \"$@\" >first.out 2>first.err; echo $? >first.code
        mount -o remount,size=64m small
        \"$@\" >second.out 2>second.err; echo $? >second.code
        cp small/* ."
    );
    let script = "exec unshare -rm sh -c \"$INSIDE\" sh \"$@\"";
    let args = world.import_args(&file, &[]);
    let command = world.command(&args);
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    shell.env("INSIDE", inside).env("JUSPAY_API_KEY", crate::world::KEY).env_remove("RUST_LOG");
    assert!(shell.current_dir(world.folder.path()).output().unwrap().status.success());
    let read = |name: &str| fs::read_to_string(world.path(name)).unwrap();
    let first = Done {
        code: read("first.code").trim().parse().unwrap(),
        stdout: read("first.out"),
        stderr: read("first.err"),
    };
    first.assert_error(1, &["ledger.db", "full", "make room", "run the same command again"]);
    assert_eq!(read("second.code").trim(), "0", "{}", read("second.err"));
    assert_nothing_lost_or_twice(&world, ROWS);
    Some(world.number("select coalesce(sum(requests), 0) from run where id < (select max(id) from run)"))
}

/// Folders in which nobody can create a file, not even root: below a file, and in the kernel's own.
#[test]
fn a_folder_that_is_none() {
    let world = World::new();
    let file = world.rows("users.csv", 5);
    let mut paths = vec!["users.csv/ledger.db", "nowhere/ledger.db"];
    if cfg!(target_os = "linux") {
        paths.push("/proc/ledger.db");
    }
    let before = fs::read(&file).unwrap();
    for path in paths {
        let done = world.import(&file, &["--ledger", path]);
        done.assert_error(2, &[path, "--ledger"]);
        assert_eq!(world.journal().requests(), 0);
        assert_eq!(files(world.folder.path()), ["users.csv".to_owned()].into());
        assert_eq!(fs::read(&file).unwrap(), before);
    }
    completes(&world, &file, 5);
}

/// A folder that was writable and is read-only now, with a ledger in it and without one. Root ignores permissions, so
/// for root it is a mount; if neither works, a file replaces the folder.
#[test]
fn a_read_only_folder() {
    for with_ledger in [false, true] {
        let world = World::new();
        let file = world.rows("users.csv", 5);
        let more = world.rows("more.csv", 10);
        let folder = world.path("kept");
        fs::create_dir(&folder).unwrap();
        let ledger = ["--ledger", "kept/ledger.db"];
        if with_ledger {
            assert_eq!(world.import(&file, &ledger).code, 0);
        }
        let requests = world.journal().requests();
        let before = content(&folder);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
        let script = if File::create(folder.join("probe")).is_err() {
            "exec \"$@\""
        } else {
            fs::remove_file(folder.join("probe")).unwrap();
            "unshare -rm sh -c 'mount --bind kept kept && mount -o remount,bind,ro kept' || {
                 mv kept away; : >kept; }
             test -f kept && exec \"$@\"
             exec unshare -rm sh -c 'mount --bind kept kept && mount -o remount,bind,ro kept && exec \"$@\"' sh \"$@\""
        };
        let done = under_shell(&world, script, &more, &ledger);
        assert!([1, 2].contains(&done.code), "{done:?}");
        done.assert_error(done.code, &["kept/ledger.db", "folder"]);
        assert_eq!(world.journal().requests(), requests, "a request without a claim");
        if world.path("away").exists() {
            fs::remove_file(&folder).unwrap();
            fs::rename(world.path("away"), &folder).unwrap();
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(content(&folder), before);
        let done = world.import(&more, &ledger);
        assert_eq!(done.code, 0, "{done:?}");
        assert_eq!(world.journal().created().len(), 10);
        assert!(world.journal().created().values().all(|(_, times)| *times == 1));
    }
}

fn content(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names: Vec<String> = files(folder).into_iter().collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect()
}

/// A database that another program has open, with a log beside it: no byte of either may change.
#[test]
fn another_programs_database_in_use() {
    let world = World::new();
    let file = world.rows("users.csv", 5);
    let runtime = Runtime::new().unwrap();
    let options = SqliteConnectOptions::new().filename(world.ledger()).create_if_missing(true);
    let sql = "pragma journal_mode = wal; create table users (id integer primary key, mail text);
               insert into users (mail) values ('a'), ('b')";
    let theirs = runtime.block_on(async {
        let mut theirs = SqliteConnection::connect_with(&options).await.unwrap();
        theirs.execute(sql).await.unwrap();
        theirs
    });
    let before = content(world.folder.path());
    assert!(before.iter().any(|(name, bytes)| name == "ledger.db-wal" && !bytes.is_empty()));
    let done = world.import(&file, &[]);
    done.assert_error(2, &["is not a ledger", "left as it is", "--ledger"]);
    assert_eq!(content(world.folder.path()), before);
    assert_eq!(world.journal().requests(), 0);
    runtime.block_on(theirs.close()).unwrap();
    assert_eq!(world.run(&["status"]).code, 2);
}

/// Files that begin like a database, or contain nothing that a ledger has.
#[test]
fn no_ledger_at_all() {
    let half = b"SQLite format 3\0";
    let forged = [&half[..], &[0; 52], b"csiq", &[0; 28]].concat();
    for bytes in [&half[..], &half[..15], &forged, b"csip", &[0; 4096], b"\n"] {
        let world = World::new();
        let file = world.rows("users.csv", 5);
        fs::write(world.ledger(), bytes).unwrap();
        let before = content(world.folder.path());
        let done = world.import(&file, &[]);
        done.assert_error(2, &["is not a ledger", "--ledger"]);
        assert_eq!(content(world.folder.path()), before);
        assert_eq!(world.journal().requests(), 0);
        fs::remove_file(world.ledger()).unwrap();
        completes(&world, &file, 5);
    }
}

/// A device must not be replaced by a file: as root, a ledger at `/dev/null` would destroy the device.
#[test]
fn a_device_is_no_ledger() {
    let world = World::new();
    let file = world.rows("users.csv", 5);
    let path = world.path("device");
    let made = Command::new("mknod").arg(&path).args(["c", "1", "3"]).output();
    let is_device = made.is_ok_and(|output| output.status.success()) && File::open(&path).is_ok();
    // A user who may not create a device gets a socket instead.
    let _socket = (!is_device).then(|| {
        drop(fs::remove_file(&path));
        UnixListener::bind(&path).unwrap()
    });
    let done = world.import(&file, &["--ledger", "device"]);
    let kind = fs::metadata(&path).unwrap().file_type();
    assert_eq!((kind.is_char_device(), kind.is_socket()), (is_device, !is_device), "it was replaced");
    done.assert_error(2, &["device", "--ledger"]);
    assert_eq!(world.journal().requests(), 0);
    assert_eq!(files(world.folder.path()), ["users.csv", "device"].map(str::to_owned).into());
}

/// A finished ledger, and a file with as many additional rows.
struct Kept {
    world: World,
    file: PathBuf,
    backup: Vec<u8>,
}

const KEPT: usize = 400;

fn kept() -> Kept {
    let world = World::new();
    let file = world.rows("users.csv", KEPT);
    assert_eq!(world.import(&file, &[]).code, 0);
    let file = world.rows("users.csv", 2 * KEPT);
    let backup = fs::read(world.ledger()).unwrap();
    assert!(backup.len() > 20 * 4096, "too small to be damaged here and there");
    Kept { world, file, backup }
}

/// Each damage is named and nothing is done; after the backup is restored, everything works again.
fn damaged(damages: &[fn(&mut Vec<u8>)]) {
    let Kept { world, .. } = kept();
    for (number, damage) in damages.iter().enumerate() {
        let rows = KEPT + 50 * (number + 1);
        let file = world.rows("users.csv", rows);
        let backup = fs::read(world.ledger()).unwrap();
        let mut bytes = backup.clone();
        damage(&mut bytes);
        assert_ne!(bytes, backup);
        fs::write(world.ledger(), &bytes).unwrap();
        let done = world.import(&file, &[]);
        // A file that is not a ledger any more is refused; for a damaged ledger, the message says how to repair it.
        match done.code {
            2 => done.assert_error(2, &["ledger.db", "is not a ledger", "--ledger"]),
            _ => done.assert_error(1, &["ledger.db", "backup", ".recover"]),
        }
        for name in ["ledger.db-wal", "ledger.db-shm"] {
            drop(fs::remove_file(world.path(name)));
        }
        fs::write(world.ledger(), &backup).unwrap();
        let done = world.import(&file, &[]);
        assert_eq!(done.code, 0, "{done:?}");
        assert_nothing_lost_or_twice(&world, rows);
    }
}

#[test]
fn a_truncated_ledger() {
    damaged(&[
        |bytes| bytes.truncate(50),
        |bytes| bytes.truncate(2000),
        |bytes| bytes.truncate(4096),
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.truncate(bytes.len() / 8192 * 4096),
        |bytes| bytes.truncate(bytes.len() - 4096),
    ]);
}

#[test]
fn a_corrupted_ledger() {
    damaged(&[
        // Every page in the middle; every page but the first; the table of contents; the name.
        |bytes| {
            let third = bytes.len() / 3 / 4096 * 4096;
            bytes[third..2 * third].iter_mut().for_each(|byte| *byte ^= 0x55);
        },
        |bytes| bytes[4096..].fill(0),
        |bytes| bytes[100..4096].iter_mut().for_each(|byte| *byte ^= 0xff),
        |bytes| bytes[..16].fill(0),
    ]);
}

/// An empty file in place of the ledger: either this is reported, or rows are looked up before they are sent.
#[test]
fn a_ledger_that_was_emptied() {
    let Kept { world, file, backup } = kept();
    for left_over in [false, true] {
        fs::write(world.ledger(), b"").unwrap();
        let done = world.import(&file, &[]);
        assert!([0, 1, 2].contains(&done.code), "{done:?}");
        if done.code == 0 {
            assert_nothing_lost_or_twice(&world, 2 * KEPT);
        } else {
            done.assert_error(done.code, &["ledger.db"]);
        }
        if !left_over {
            fs::write(world.ledger(), &backup).unwrap();
        }
    }
    assert!(world.journal().created().values().all(|(_, times)| *times == 1));
}

#[test]
fn a_ledger_of_a_newer_version() {
    let Kept { world, file, backup } = kept();
    execute(
        &world.ledger(),
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (9999, 'of a later version', 1, x'00', 0)",
    );
    let requests = world.journal().requests();
    let newer = fs::read(world.ledger()).unwrap();
    for _ in 0..2 {
        let done = world.import(&file, &[]);
        done.assert_error(2, &["ledger.db", "later version", "--ledger"]);
        assert_eq!(world.journal().requests(), requests);
        assert_eq!(fs::read(world.ledger()).unwrap(), newer, "it was touched");
        let log = fs::metadata(world.path("ledger.db-wal"));
        assert!(log.map_or(0, |log| log.len()) == 0, "something was written");
    }
    fs::write(world.ledger(), backup).unwrap();
    completes(&world, &file, 2 * KEPT);
}

#[test]
fn a_ledger_of_a_development_version() {
    let Kept { world, file, backup } = kept();
    execute(&world.ledger(), "update _sqlx_migrations set version = version - 4");
    let requests = world.journal().requests();
    let older = fs::read(world.ledger()).unwrap();
    let done = world.import(&file, &[]);
    done.assert_error(2, &["ledger.db", "development version", "import again into a new ledger"]);
    for reading in [&["status"][..], &["report"], &["export", "all"]] {
        let done = world.run(reading);
        done.assert_error(2, &["ledger.db", "development version"]);
    }
    assert_eq!(world.journal().requests(), requests);
    assert_eq!(fs::read(world.ledger()).unwrap(), older, "it was touched");
    fs::write(world.ledger(), backup).unwrap();
    completes(&world, &file, 2 * KEPT);
}

/// If it were treated as `pending`, such a row would be sent again.
#[test]
fn an_outcome_of_a_newer_version() {
    let Kept { world, .. } = kept();
    execute(&world.ledger(), "update row set outcome = 'parked' where id = 1");
    let requests = world.journal().requests();
    let other = world.rows("other.csv", KEPT);
    let done = world.import(&other, &[]);
    done.assert_error(2, &["ledger.db", "later version"]);
    for reading in [&["status"][..], &["export", "all"]] {
        world.run(reading).assert_error(2, &["ledger.db", "later version"]);
    }
    assert_eq!(world.journal().requests(), requests);
}

#[test]
fn a_ledger_in_use() {
    let world = World::new();
    world.reconfigure(|behavior| behavior.outage = Some(Outage::Hang));
    let file = world.rows("users.csv", 100);
    let mut first = world.start_import(&file, &["--timeout", "1h"]);
    assert!(wait_until(&mut first, || world.journal().requests() >= 32));
    let requests = world.journal().requests();
    for _ in 0..2 {
        let done = world.import(&file, &[]);
        done.assert_error(2, &["ledger.db", "in use", "wait for it to end"]);
    }
    assert_eq!(world.journal().requests(), requests);
    assert_eq!(world.number("select count(*) from run"), 1, "a run that was refused is none");
    first.kill().unwrap();
    assert!(finish(first).code != 0);
    world.reconfigure(|behavior| behavior.outage = None);
    completes(&world, &file, 100);
}

#[test]
fn a_ledger_of_another_target() {
    let Kept { world, file, .. } = kept();
    let before = content(world.folder.path());
    let requests = world.journal().requests();
    let done = world.import(&file, &["--merchant-id", "somebody_else"]);
    done.assert_error(2, &["belongs to", "somebody_else", "--ledger"]);
    assert_eq!(content(world.folder.path()), before, "it was touched");
    assert_eq!(world.journal().requests(), requests);
    completes(&world, &file, 2 * KEPT);
}

/// Kills an import during the run, the second one of its ledger: some rows are in the file, and others only in its
/// log.
fn killed() -> (World, PathBuf) {
    let Kept { world, file, .. } = kept();
    let mut run = world.start_import(&file, &["--concurrency", "8"]);
    assert!(wait_until(&mut run, || world.journal().customers() >= KEPT + KEPT / 3));
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(fs::metadata(world.path("ledger.db-wal")).unwrap().len() > 0);
    (world, file)
}

/// Somebody deletes the log: the rows in it are lost, and looked up again.
#[test]
fn a_log_that_is_deleted_after_a_kill() {
    for also_shm in [false, true] {
        let (world, file) = killed();
        fs::remove_file(world.path("ledger.db-wal")).unwrap();
        if also_shm {
            fs::remove_file(world.path("ledger.db-shm")).unwrap();
        }
        completes(&world, &file, 2 * KEPT);
    }
}

/// The ledger is deleted or lost, and its log remains: that log does not belong to a new ledger. Either it is
/// ignored, or the error names it before anything is sent.
#[test]
fn a_log_whose_ledger_is_deleted_after_a_kill() {
    for emptied in [false, true] {
        let (world, file) = killed();
        fs::remove_file(world.ledger()).unwrap();
        if emptied {
            fs::write(world.ledger(), b"").unwrap();
        }
        // Requests of the killed run may still be counted, but it made its last connection long ago.
        let connections = world.journal().connections();
        let done = world.import(&file, &[]);
        if done.code != 0 {
            done.assert_error(2, &["ledger.db-wal"]);
            assert_eq!(world.journal().connections(), connections);
            fs::remove_file(world.path("ledger.db-wal")).unwrap();
        }
        completes(&world, &file, 2 * KEPT);
        assert_eq!(world.query("pragma integrity_check"), [["ok"]], "the ledger is broken");
    }
}

/// An incomplete ledger of an earlier attempt, a log beside it, and a lock file that nobody holds.
#[test]
fn remains_of_a_birth() {
    let world = World::new();
    let file = world.rows("users.csv", 50);
    for (name, bytes) in [
        ("ledger.db-new", &b"half"[..]),
        ("ledger.db-new-wal", b"half"),
        ("ledger.db-new-shm", b"half"),
        ("ledger.db-lock", b"held by nobody"),
    ] {
        world.file(name, bytes);
    }
    completes(&world, &file, 50);
    let left = fs::metadata(world.path("ledger.db-new")).map_err(|error| error.kind());
    assert_eq!(left.map(|_| ()), Err(ErrorKind::NotFound));
}
