//! Deletes old data: runs with the data that belongs only to them, and raw cells of settled rows. Customer ids stay.
//!
//! Rows outlive their runs: those of a deleted run are reassigned to run 0 ([`RunId::PRUNED`]), which no list shows.
//! A failed or rejected row keeps its reference and its error, so that a rerun treats it as before; only its cells
//! are deleted. Invalid rows and duplicates own no reference, and are deleted with their run.
//!
//! A row that is pending, or that a run claimed again and left open, is still to be sent: its cells stay, and with
//! them the run whose header names the columns.
//!
//! [`RunId::PRUNED`]: super::model::RunId::PRUNED

use super::{
    error::Error, location::Location, model::RunId, records::Pruned, run_times::RunTimes, store::Store,
};

/// Deletes what ended before this time (UTC milliseconds) and shrinks the file.
///
/// # Errors
/// If there is no ledger, a run is using it, or it cannot be written; then nothing is deleted.
pub(crate) async fn prune(location: &Location, before: i64, now: i64) -> Result<Pruned, Error> {
    let mut store = Store::hold_existing(location).await?;
    store.recover_crashed_runs(now).await?;
    // Ids are never reused, even if the last rows are deleted: from here on, all of them count as indexed.
    store.read_index().await?;
    let last = store.last_row().await?;
    store.merge_index(last).await?;
    let old = ended_before(&store.run_times().await?, before, now);
    let mut pruned = store.delete_runs(&old).await?;
    store.close().await?;
    // A file has its last size when it is closed.
    if let Some(data) = location.file().and_then(|file| file.metadata().ok()) {
        pruned.bytes_after = data.len();
    }
    Ok(pruned)
}

/// The runs that ended before this time. The times are corrected first: a run of yesterday is not from 1970, whatever
/// the clock said.
fn ended_before(runs: &[(RunId, RunTimes)], before: i64, now: i64) -> Vec<RunId> {
    let mut times: Vec<RunTimes> = runs.iter().map(|(_, times)| *times).collect();
    RunTimes::correct(&mut times, now);
    let old = runs.iter().zip(times).filter(|(_, times)| times.ended < before);
    old.map(|((run, _), _)| *run).collect()
}
