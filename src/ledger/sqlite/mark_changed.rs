//! Writing down what `verify` found: the fields that the API has for rows that the ledger takes for unchanged.
//!
//! What a run imported and what the API has today may differ, because somebody else changed the customer. A run compares
//! the file with what the ledger remembers, so it would never notice. Marked, the row reads as changed in the next
//! run, and `--update-changed` sends the file's fields again. Nothing is sent here.

use std::path::Path;

use super::{
    super::{
        Error, Target,
        batch::{JsonRows, hex},
    },
    lock_file::{check_ours, lock},
    store::Store,
};
use crate::customer::Fingerprint;

/// Only where the ledger still has the fields that were compared: a run may have come between.
const MARK: &str = "
    update row set fingerprint = unhex(told.value->>2) from json_each(?1) told
    where row.id = told.value->>0 and row.customer_id is not null and row.fingerprint = unhex(told.value->>1)";

/// A file that was read to its end is not read again as long as its bytes are the same: now it has to be.
const FORGET_PLACES: &str = "update checkpoint set bytes = null";

/// Rows of one statement.
const TOGETHER: usize = 4096;

/// A row whose customer has something else than the file says.
#[derive(Clone, Copy, Debug)]
pub struct ChangedAtApi {
    /// Its id in the ledger.
    pub(crate) id: i64,
    /// Of what the file says, which is what the ledger remembers.
    pub(crate) of_file: Fingerprint,
    /// Of what the API has.
    pub(crate) at_api: Fingerprint,
}

/// Marks the rows as changed; how many.
///
/// # Errors
/// Where a run is using the ledger, or it cannot be written.
pub async fn mark_changed_at_api(
    path: &Path,
    target: &Target,
    rows: &[ChangedAtApi],
    now: i64,
) -> Result<u64, Error> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let _lock = lock(&path)?;
    let mut store = Store::open(&path, check_ours(&path)?).await?;
    store.keep_target(target, now).await?;
    store.begin().await?;
    let mut marked = 0;
    for some in rows.chunks(TOGETHER) {
        let mut told = JsonRows::default();
        for ChangedAtApi { id, of_file, at_api } in some {
            told.push(&(id, hex(of_file), hex(at_api)));
        }
        marked += store.execute(sqlx::query(MARK).bind(told.text())).await?;
    }
    store.execute(sqlx::query(FORGET_PLACES)).await?;
    store.commit().await?;
    store.close().await?;
    Ok(marked)
}
