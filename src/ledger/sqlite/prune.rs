//! Deletes old data: runs with the data that belongs only to them, and raw cells of settled rows. Customer ids stay.
//!
//! Rows outlive their runs: those of a deleted run are reassigned to run 0 ([`RunId::PRUNED`]), which no list shows.
//! A failed or rejected row keeps its reference and its error, so that a rerun treats it as before; only its cells
//! are deleted. Invalid rows and duplicates own no reference, and are deleted with their run.
//!
//! A row that is pending, or that a run claimed again and left open, is still to be sent: its cells stay, and with
//! them the run whose header names the columns.
//!
//! [`RunId::PRUNED`]: super::super::model::RunId::PRUNED

use std::path::Path;

use super::{
    super::{error::Error, records::Pruned},
    lock_file::{check_ours, lock, missing},
    store::Store,
};

/// Deletes what ended before this time (UTC milliseconds) and shrinks the file.
///
/// # Errors
/// If there is no ledger, a run is using it, or it cannot be written; then nothing is deleted.
pub(crate) async fn prune(path: &Path, before: i64, now: i64) -> Result<Pruned, Error> {
    let real = path.canonicalize();
    let path = real.as_deref().unwrap_or(path);
    if !check_ours(path)? {
        return Err(missing(path));
    }
    let _lock = lock(path)?;
    let size = || std::fs::metadata(path).map_or(0, |data| data.len());
    let mut store = Store::open(path).await?;
    store.recover_crashed_runs(now).await?;
    // Ids are never reused, even if the last rows are deleted: from here on, all of them count as indexed.
    let mut index = store.reference_index().await?;
    let last = store.last_row().await?;
    store.merge_index(&mut index, last).await?;
    let size_before = size();
    let mut pruned = store.delete_old(before).await?;
    if !pruned.is_nothing() {
        store.vacuum().await?;
    }
    store.close().await?;
    pruned.bytes = (size_before, size());
    Ok(pruned)
}
