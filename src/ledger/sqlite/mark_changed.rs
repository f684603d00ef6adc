//! Writes down what `verify` found: the fields that the API has for rows that the ledger takes for unchanged.
//!
//! What a run imported and what the API has today may differ, because somebody else changed the customer. A run compares
//! the file with what the ledger remembers, so it would never notice. A marked row reads as changed in the next
//! run, and `--update-changed` sends the file's fields again. Nothing is sent here.

use std::path::Path;

use super::{
    super::{error::Error, model::Target, records::ChangedAtApi},
    lock_file::lock,
    store::Store,
};

/// Marks the rows as changed; how many.
///
/// # Errors
/// Where a run is using the ledger, or it cannot be written.
pub(crate) async fn mark_changed_at_api(
    path: &Path,
    target: &Target,
    rows: &[ChangedAtApi],
    now: i64,
) -> Result<u64, Error> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let _lock = lock(&path)?;
    let mut store = Store::open_or_create(&path).await?;
    store.keep_target(target, now).await?;
    let marked = store.mark_changed(rows).await?;
    store.close().await?;
    Ok(marked)
}
