//! Ends the process before or after a chosen commit, for crash tests; compiled only with the
//! feature `crash-points`, never in a release.
//!
//! One byte is added to `CRASH_COUNT_FILE` at each point, so that a first run counts them; `CRASH_AT=k` aborts at the
//! k-th. Odd points are before a commit, even ones after it. An abort drops nothing and flushes nothing, as a crash
//! does.

use std::{
    io::Write,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

static PASSED: AtomicU64 = AtomicU64::new(0);

#[expect(clippy::disallowed_methods, reason = "the test's only way into a process that it will lose")]
pub(crate) fn point() {
    let passed = PASSED.fetch_add(1, SeqCst) + 1;
    if let Ok(path) = std::env::var("CRASH_COUNT_FILE") {
        let file = std::fs::File::options().append(true).create(true).open(path);
        drop(file.and_then(|mut file| file.write_all(b".")));
    }
    if std::env::var("CRASH_AT").ok().and_then(|at| at.parse().ok()) == Some(passed) {
        std::process::abort();
    }
}
