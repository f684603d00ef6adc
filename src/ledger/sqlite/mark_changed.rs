//! Records what `verify` found: the API's fields of rows that the ledger treats as unchanged.
//!
//! The imported fields and the current fields at the API may differ, because somebody else changed the customer. A
//! run compares the file only with the ledger, so it would never detect that. The next run finds a marked row
//! changed, and `--update-changed` sends the file's fields again. Nothing is sent here.

use std::path::Path;

use super::{
    super::{error::Error, model::Target, records::ChangedAtApi},
    lock_file::lock,
    store::Store,
};

/// Marks the rows as changed; returns how many.
///
/// # Errors
/// If a run is using the ledger, or it cannot be written.
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
