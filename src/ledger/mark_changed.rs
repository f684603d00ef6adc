//! Records what `verify` found: the API's fields of rows that the ledger treats as unchanged.
//!
//! The imported fields and the current fields at the API may differ, because somebody else changed the customer. A
//! run compares the file only with the ledger, so it would never detect that. The next run finds a marked row
//! changed, and `--update-changed` sends the file's fields again. Nothing is sent here.

use super::{error::Error, location::Location, model::Target, records::ChangedAtApi, store::Store};

/// Marks the rows as changed; returns how many.
///
/// # Errors
/// If a run is using the ledger, or it cannot be written.
pub(crate) async fn mark_changed_at_api(
    location: &Location,
    target: &Target,
    rows: &[ChangedAtApi],
    now: i64,
) -> Result<u64, Error> {
    let mut store = Store::hold(location).await?;
    store.keep_target(target, now).await?;
    let marked = store.mark_changed(rows).await?;
    store.close().await?;
    Ok(marked)
}
