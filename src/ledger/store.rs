//! The writer of a ledger in either backend: the only one of a file, or one of several on a server.
//!
//! The backends differ in their transactions and their SQL, not in their results. The methods are documented at the
//! SQLite store. A ledger in Postgres needs no reference index in memory, because its table has a unique index of
//! references.

use std::collections::{HashMap, HashSet};

use tokio::time::Instant;

#[cfg(feature = "postgres")]
use super::postgres;
use super::{
    batch::CommitBatch,
    checkpoint::Checkpoint,
    error::Error,
    location::Location,
    model::{
        CustomerName, KnownRow, NewRun, OpenClaim, PendingUpdate, RequestCounts, RowId, RunCounts, RunEnd,
        RunId, Target,
    },
    ordered_scan::Owner,
    rate_reserver::RateReserver,
    records::{ChangedAtApi, Pruned},
    run_times::RunTimes,
    seen_rows::{SeenBefore, SeenRows, UnreadableRuns},
    shared_run::{AdoptedRow, Cursor, RunView},
    sqlite,
    timeline::Sample,
    unsendable::UnsendableRows,
};
use crate::customer::{Dropped, FieldCounts, Reference};

/// The writer.
pub(super) enum Store {
    Sqlite(Box<sqlite::store::Store>),
    #[cfg(feature = "postgres")]
    Postgres(Box<postgres::store::Store>),
}

/// How a process begins to work on a ledger.
pub(super) enum Held {
    /// The process works alone, and begins a run.
    Alone(Store),
    /// The process joins the run of other workers.
    #[cfg(feature = "postgres")]
    Joined(Store, RunId),
    /// The run with the requested name is completed, with this exit code.
    #[cfg(feature = "postgres")]
    Completed(RunId, u8),
}

/// A method that both backends have.
macro_rules! of_both {
    ($(async fn $name:ident(&mut self $(, $argument:ident: $type:ty)*) -> $returned:ty;)*) => {
        impl Store {
            $(pub(super) async fn $name(&mut self $(, $argument: $type)*) -> Result<$returned, Error> {
                match self {
                    Store::Sqlite(store) => store.$name($($argument),*).await,
                    #[cfg(feature = "postgres")]
                    Store::Postgres(store) => store.$name($($argument),*).await,
                }
            })*
        }
    };
}

of_both! {
    // The beginning of a run
    async fn keep_target(&mut self, requested: &Target, now: i64) -> ();
    async fn recover_crashed_runs(&mut self, now: i64) -> ();
    async fn insert_run(&mut self, run: &NewRun<'_>, now: i64) -> RunId;
    async fn rows_in_doubt(&mut self) -> Vec<OpenClaim>;
    async fn next_run(&mut self) -> RunId;
    async fn open_claims(&mut self) -> HashMap<String, KnownRow>;
    // References
    async fn last_row(&mut self) -> RowId;
    async fn read_ordered(&mut self, from: RowId) -> Vec<Owner>;
    async fn customer_names(&mut self, ids: &[RowId]) -> HashMap<RowId, CustomerName>;
    async fn has_other_row(&mut self, customer_id: &str, id: RowId) -> bool;
    // Rows that cannot be sent
    async fn unsendable_rows(&mut self, run: RunId) -> UnsendableRows;
    async fn references(&mut self, ids: &[RowId]) -> HashSet<String>;
    async fn delete_unsendable(&mut self, ids: &[RowId], run: RunId) -> ();
    async fn unreadable_runs(&mut self, lines: &[u64], run: RunId) -> UnreadableRuns;
    async fn seen_by(&mut self, run: RunId) -> Option<SeenBefore>;
    async fn seen_by_run_before(&mut self, run: RunId) -> Option<SeenBefore>;
    async fn is_seen_needed(&mut self, run: RunId) -> bool;
    async fn keep_seen(&mut self, run: RunId, next_id: RowId, seen: &SeenRows) -> ();
    // Updates
    async fn has_pending_updates(&mut self) -> bool;
    async fn pending_updates(&mut self, ids: &[RowId]) -> HashMap<RowId, PendingUpdate>;
    // Imported rows
    async fn count_imported(&mut self) -> u64;
    async fn invalid_references(&mut self, run: RunId, behind: (i64, RowId), max: usize) -> (Vec<Reference>, (i64, RowId));
    async fn absent_before(&mut self, run: RunId) -> Option<u64>;
    async fn set_absent(&mut self, run: RunId, absent: u64) -> ();
    async fn mark_changed(&mut self, rows: &[ChangedAtApi]) -> u64;
    // Checkpoints
    async fn last_checkpoint(&mut self, run: &NewRun<'_>) -> Option<Checkpoint>;
    async fn begin_checkpoint(&mut self, run: RunId, parse_settings_hash: &str) -> ();
    async fn checkpoint_lines(&mut self, chain_start: RunId, run: RunId) -> HashMap<RunId, u64>;
    async fn resume(&mut self, run: RunId, reached: &Checkpoint, now: i64) -> (Dropped, FieldCounts);
    // The commit and the end of a run
    async fn end_run(&mut self, run: RunId, end: RunEnd<'_>, requests: &RequestCounts, now: i64) -> ();
    async fn discard_run(&mut self, run: RunId) -> ();
    async fn run_times(&mut self) -> Vec<(RunId, RunTimes)>;
    async fn delete_runs(&mut self, old: &[RunId]) -> Pruned;
}

impl Store {
    /// Opens or creates the ledger and holds it: no other run can use the ledger until this run or its process ends.
    pub(super) async fn hold(location: &Location) -> Result<Store, Error> {
        match location {
            Location::File(path) => {
                sqlite::store::Store::hold(path).await.map(|store| Store::Sqlite(store.into()))
            }
            #[cfg(feature = "postgres")]
            Location::Postgres(server) => {
                postgres::store::Store::hold(server).await.map(|store| Store::Postgres(store.into()))
            }
        }
    }

    /// As [`Store::hold`], for an existing ledger only.
    pub(super) async fn hold_existing(location: &Location) -> Result<Store, Error> {
        match location {
            Location::File(path) => {
                sqlite::store::Store::hold_existing(path).await.map(|store| Store::Sqlite(store.into()))
            }
            #[cfg(feature = "postgres")]
            Location::Postgres(server) => {
                postgres::store::Store::hold_existing(server).await.map(|store| Store::Postgres(store.into()))
            }
        }
    }

    /// An empty ledger in memory, in place of one that does not exist.
    pub(super) async fn in_memory() -> Result<Store, Error> {
        sqlite::store::Store::in_memory().await.map(|store| Store::Sqlite(store.into()))
    }

    /// Releases the ledger.
    pub(super) async fn close(self) -> Result<(), Error> {
        match self {
            Store::Sqlite(store) => store.close().await,
            #[cfg(feature = "postgres")]
            Store::Postgres(store) => store.close().await,
        }
    }

    /// The time until which this process may send requests, given its last commit; none if no other process can take the
    /// ledger over.
    pub(super) fn may_send_until(&self) -> Option<Instant> {
        match self {
            Store::Sqlite(_) => None,
            #[cfg(feature = "postgres")]
            Store::Postgres(store) => store.may_send_until(),
        }
    }

    /// Writes the batch in one transaction. Returns the counts of the run over all its workers, if it can be shared.
    pub(super) async fn write(
        &mut self,
        batch: &CommitBatch<'_>,
        counts: &RunCounts,
    ) -> Result<Option<RunView>, Error> {
        match self {
            Store::Sqlite(store) => store.write(batch, counts).await.map(|()| None),
            #[cfg(feature = "postgres")]
            Store::Postgres(store) => store.write(batch, counts).await,
        }
    }

    /// Reads the index of references, if the backend needs one in memory.
    pub(super) async fn read_index(&mut self) -> Result<(), Error> {
        match self {
            Store::Sqlite(store) => store.read_index().await,
            #[cfg(feature = "postgres")]
            Store::Postgres(_) => Ok(()),
        }
    }

    /// Adds new rows to the index of references.
    pub(super) fn index_new<'a>(&mut self, rows: impl Iterator<Item = (&'a Reference, RowId)>) {
        match self {
            Store::Sqlite(store) => store.index_new(rows),
            #[cfg(feature = "postgres")]
            Store::Postgres(_) => {}
        }
    }

    /// Rows by reference; those with the given references are among them.
    pub(super) async fn find(
        &mut self,
        references: impl Iterator<Item = &Reference>,
    ) -> Result<HashMap<String, KnownRow>, Error> {
        match self {
            Store::Sqlite(store) => store.find(references).await,
            #[cfg(feature = "postgres")]
            Store::Postgres(store) => store.find(references).await,
        }
    }

    /// Writes these samples with the next transaction. The samples replace all from index `from` on.
    pub(super) fn add_samples(&mut self, from: usize, samples: Vec<Sample>) {
        match self {
            Store::Sqlite(store) => store.add_samples(from, samples),
            #[cfg(feature = "postgres")]
            Store::Postgres(store) => store.add_samples(from, samples),
        }
    }

    /// Writes the data that can wait until the end of the run; `last_row` is the highest id that was assigned.
    pub(super) async fn merge_index(&mut self, last_row: RowId) -> Result<(), Error> {
        match self {
            Store::Sqlite(store) => store.merge_index(last_row).await,
            #[cfg(feature = "postgres")]
            Store::Postgres(_) => Ok(()),
        }
    }
}

/// Methods for runs that several workers may share.
#[cfg_attr(not(feature = "postgres"), expect(unused_variables, reason = "a run in a file has one worker"))]
impl Store {
    /// As [`Store::hold`], for a run that several processes may work on: the process may join the current run, or find that
    /// the run is completed.
    pub(super) async fn hold_or_join(location: &Location, run: &NewRun<'_>) -> Result<Held, Error> {
        match location {
            Location::File(_) => Store::hold(location).await.map(Held::Alone),
            #[cfg(feature = "postgres")]
            Location::Postgres(server) => postgres::store::Store::hold_or_join(server, run).await,
        }
    }

    /// Takes the cursor of the run, so that no other worker claims rows until this one moves the cursor. None if no more
    /// rows are to be claimed because the run ends, or the run cannot be shared.
    pub(super) async fn take_cursor(&mut self, run: RunId, now: i64) -> Result<Option<Cursor>, Error> {
        match self {
            Store::Sqlite(_) => Ok(None),
            #[cfg(feature = "postgres")]
            Store::Postgres(store) => store.take_cursor(run, now).await,
        }
    }

    /// Number of rows of the unchanged prefix that the worker which began the run has skipped.
    pub(super) async fn cursor_start(&mut self, run: RunId) -> Result<u64, Error> {
        match self {
            Store::Sqlite(_) => Ok(0),
            #[cfg(feature = "postgres")]
            Store::Postgres(store) => store.cursor_start(run).await,
        }
    }

    /// Adopts at most `max` orphaned rows: this worker claims them.
    pub(super) async fn adopt(&mut self, max: usize) -> Result<Vec<AdoptedRow>, Error> {
        match self {
            Store::Sqlite(_) => Ok(Vec::new()),
            #[cfg(feature = "postgres")]
            Store::Postgres(store) => store.adopt(max).await,
        }
    }

    /// The rate reserver that this process shares with all other workers of the ledger.
    pub(super) fn rate_reserver(&self) -> Option<RateReserver> {
        match self {
            Store::Sqlite(_) => None,
            #[cfg(feature = "postgres")]
            Store::Postgres(store) => Some(RateReserver::Postgres(store.rate_reserver())),
        }
    }

    /// The number of this worker; none if there can be only one.
    pub(super) fn worker_id(&self) -> Option<i64> {
        match self {
            Store::Sqlite(_) => None,
            #[cfg(feature = "postgres")]
            Store::Postgres(store) => Some(store.worker_id()),
        }
    }

    /// Counts adopted rows as pending rows of this worker; the run has counted them before.
    pub(super) fn count_adopted(&mut self, rows: usize) {
        match self {
            Store::Sqlite(_) => {}
            #[cfg(feature = "postgres")]
            Store::Postgres(store) => store.count_adopted(rows),
        }
    }
}
