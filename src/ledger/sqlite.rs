//! The ledger in a SQLite file: everything that knows SQL, files and locks.

pub(super) mod bulk;
#[cfg(feature = "crash-points")]
mod crash_point;
pub(super) mod error_groups;
pub(super) mod imported_index;
pub(super) mod live;
pub(super) mod lock_file;
pub(super) mod mark_changed;
pub(super) mod notes;
pub(super) mod open;
pub(super) mod ordered_scan;
pub(super) mod prune;
pub(super) mod reader;
pub(super) mod resume;
pub(super) mod retry_rows;
pub(super) mod statements;
pub(super) mod store;
