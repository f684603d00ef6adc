//! The SQLite backend of the ledger: everything that involves SQL, files and locks.
//!
//! The modules above this folder hold values and decisions. Another backend would be another folder beside this one.

mod bulk;
#[cfg(feature = "crash-points")]
mod crash_point;
mod disk;
mod error_groups;
pub(super) mod failure;
mod fault_ids;
pub(super) mod imported_index;
pub(super) mod lock_file;
pub(super) mod mark_changed;
pub(super) mod ordered_scan;
pub(super) mod prune;
mod queries;
pub(super) mod reader;
mod rows;
mod statements;
pub(super) mod store;
