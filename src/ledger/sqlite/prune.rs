//! Takes out what is old: runs, what is known of them alone, and raw cells of rows that are settled. Ids stay.
//!
//! Rows outlive their runs: those of a run that goes are handed to run 0 ([`RunId::PRUNED`]), which no list shows. A row
//! that failed or was rejected keeps its reference and its error, so that a rerun does what it would have done; only
//! its cells go. Invalid rows and duplicates own no reference, and go with their run.
//!
//! A row that is pending, or that a run took up again and left open, is still to be sent: its cells stay, and with them
//! the run whose header names them.
//!
//! [`RunId::PRUNED`]: super::super::model::RunId::PRUNED

use std::path::Path;

use super::{
    super::{error::Error, records::Pruned},
    lock_file::{check_ours, lock, missing},
    store::Store,
};

/// Takes out what ended before this time (UTC milliseconds) and gives the room back.
///
/// # Errors
/// Where there is no ledger, a run has it, or it cannot be written; then nothing is taken out.
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
    // Ids are not given again, also where the last rows go: all of them count as indexed from here on.
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
