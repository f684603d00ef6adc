//! The SQLite backend of the ledger: everything that involves SQL, files and locks.
//!
//! Contains no decisions: those are in the modules above this folder. The other backend is the folder `postgres`.

mod bulk;
mod disk;
pub(super) mod failure;
mod fault_ids;
pub(super) mod imported_index;
pub(super) mod lock_file;
mod queries;
pub(super) mod reader;
mod rows;
mod statements;
pub(super) mod store;
