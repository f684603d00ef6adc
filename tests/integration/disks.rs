//! The disks around the ledger: no room or no permission for temporary files elsewhere, and a read-only ledger.
//!
//! The disks are mounted in a separate namespace. If this user may not create one, these tests check nothing.

use std::process::Command;

use crate::{
    prune::{age, day},
    world::{Done, World, done, files},
};

/// Runs the program in a namespace after these mounts; none if this user may not mount.
fn after_mounts(world: &World, mounts: &str, args: &[&str]) -> Option<Done> {
    let inside = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script, "sh"]).current_dir(world.folder.path());
        command
    };
    if !inside(mounts).output().is_ok_and(|output| output.status.success()) {
        return None;
    }
    let program = world.command(args);
    let mut command = inside(&format!("{mounts} && exec \"$@\""));
    command.arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    // The variables that SQLite reads before it tries `/var/tmp`.
    command.env_remove("SQLITE_TMPDIR").env_remove("TMPDIR");
    Some(done(command.output().unwrap()))
}

/// `prune` writes a copy of the ledger: beside the ledger, not on a disk without room.
#[test]
fn temporary_files_stand_where_the_ledger_is() {
    // More rows than SQLite keeps in memory.
    const ROWS: usize = 20_000;
    let world = World::new();
    let file = world.rows("rows.csv", ROWS);
    assert_eq!(world.import(&file, &[]).code, 0);
    age(&world, "id = 1");
    assert_eq!(world.import(&file, &[]).code, 0);
    let before = files(world.folder.path());
    let tiny = "mount -t tmpfs -o size=16k none /var/tmp";
    for args in [&["status"][..], &["report"], &["export", "all"], &["prune", "--before", &day()]] {
        let Some(done) = after_mounts(&world, tiny, args) else { return };
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{args:?}: {done:?}");
    }
    assert_eq!(files(world.folder.path()), before, "nothing is left behind");
    assert_eq!(world.export("created").len(), ROWS);
}

#[test]
fn a_ledger_on_a_disk_that_nobody_can_write_to_is_read() {
    let world = World::new();
    let file = world.rows("rows.csv", 10);
    std::fs::create_dir(world.path("kept")).unwrap();
    assert_eq!(world.import(&file, &["--ledger", "kept/l.db"]).code, 0);
    let read_only = "mount --bind kept kept && mount -o remount,bind,ro kept";
    for args in [&["status"][..], &["report"], &["export", "created"]] {
        let args = [args, &["--ledger", "kept/l.db"]].concat();
        let Some(done) = after_mounts(&world, read_only, &args) else { return };
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{args:?}: {done:?}");
    }
}
