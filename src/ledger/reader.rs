//! Reads a ledger beside its writer: status, reports and exports, also while a run goes on.
//!
//! Sees what is committed and nothing else; takes no lock that a run would wait for. Rows are given one by one or page
//! by page, so that memory does not grow with them. What one method promises is said at the method of the SQLite
//! reader, and holds for the other backend.

use std::time::Duration;

#[cfg(feature = "postgres")]
use super::postgres;
use super::{
    error::Error,
    error_groups::ErrorGroups,
    location::Location,
    model::{Heartbeat, RowId, RunId, Target},
    records::{
        LedgerHistory, LedgerOverview, RetryFilter, RetryRow, RetryableCount, RowMapping, RowRecord,
        RunDetails, RunRecord, Selection, SourceHeader,
    },
    sqlite,
    store::Store,
};

/// A reader beside the writer.
pub struct Reader(Backend);

pub(super) enum Backend {
    Sqlite(Box<sqlite::reader::Reader>),
    #[cfg(feature = "postgres")]
    Postgres(Box<postgres::reader::Reader>),
}

/// A method that both backends have.
macro_rules! of_both {
    ($($(#[$doc:meta])* $visible:vis async fn $name:ident(&mut self $(, $argument:ident: $type:ty)*) -> $returned:ty;)*) => {
        impl Reader {
            $($(#[$doc])*
            ///
            /// # Errors
            /// Where the ledger cannot be read.
            $visible async fn $name(&mut self $(, $argument: $type)*) -> Result<$returned, Error> {
                match &mut self.0 {
                    Backend::Sqlite(reader) => reader.$name($($argument),*).await,
                    #[cfg(feature = "postgres")]
                    Backend::Postgres(reader) => reader.$name($($argument),*).await,
                }
            })*
        }
    };
}

of_both! {
    /// Refuses a ledger of another target.
    pub async fn check_target(&mut self, requested: &Target) -> ();
    /// The target, the rows by outcome over all runs, every run in order, and where the run that goes on stands.
    pub async fn overview(&mut self) -> LedgerOverview;
    /// The overview, and why rows are not imported: what the report of the whole ledger shows.
    pub async fn history(&mut self) -> LedgerHistory;
    /// The target of the ledger; none where no run has begun.
    pub(crate) async fn target(&mut self) -> Option<Target>;
    /// The run that goes on, if one does, with what it last said of itself, and when (UTC milliseconds). Reads no row of
    /// the source, so that it may be asked again and again beside a run.
    pub async fn live(&mut self) -> Option<(RunRecord, Option<(i64, Heartbeat)>)>;
    /// The run that goes on, if one does.
    pub(crate) async fn running(&mut self) -> Option<RunId>;
    /// When a run last reached the end of its source; UTC milliseconds.
    pub async fn last_success(&mut self) -> Option<i64>;
    /// Everything that the report of a run shows, of the last run if none is named; the first `max_respelled` respelled
    /// references. `None` if there is no such run. `unsendable`: all rows of the run that cannot be sent, where they are
    /// counted already; they are not read again then.
    pub async fn run_details(&mut self, run: Option<RunId>, max_respelled: u32, unsendable: Option<ErrorGroups>) -> Option<RunDetails>;
    /// The header of each run's source, or of those that the rows of one run came from. Where no run is known any
    /// more there are no rows to correct, and the columns that every source has are named.
    pub async fn source_headers(&mut self, run: Option<RunId>) -> Vec<SourceHeader>;
    /// The next rows to retry behind this id. Pages go by id, and a row keeps its id whatever becomes of it, so each row
    /// is given once.
    pub async fn retry_rows(&mut self, filter: &RetryFilter, after: RowId, max: u32) -> Vec<RetryRow>;
    /// How many rows may be retried, by outcome and code, the most frequent first.
    pub async fn retryable_counts(&mut self) -> Vec<RetryableCount>;
    /// How the records of each run became customers.
    pub async fn row_mappings(&mut self) -> Vec<RowMapping>;
}

impl Reader {
    /// Opens an existing ledger for reading.
    ///
    /// # Errors
    /// If there is no ledger, or the file or schema is not a ledger.
    pub async fn open(location: &Location) -> Result<Reader, Error> {
        let backend = match location {
            Location::File(path) => Backend::Sqlite(sqlite::reader::Reader::open(path).await?.into()),
            #[cfg(feature = "postgres")]
            Location::Postgres(server) => {
                Backend::Postgres(postgres::reader::Reader::open(server).await?.into())
            }
        };
        Ok(Reader(backend))
    }

    /// Opens the ledger of a run that has just ended in this process.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub async fn open_ended(location: &Location) -> Result<Reader, Error> {
        match location {
            Location::File(path) => {
                let reader = sqlite::reader::Reader::open_ended(path).await?;
                Ok(Reader(Backend::Sqlite(reader.into())))
            }
            #[cfg(feature = "postgres")]
            Location::Postgres(_) => Reader::open(location).await,
        }
    }

    /// The reader of a command that goes on while the ledger's server is away: queries are repeated for this long. [`rows`]
    /// and the groups of errors are not, because what they have read is passed on already.
    ///
    /// [`rows`]: Reader::rows
    #[cfg_attr(not(feature = "postgres"), expect(unused_variables, reason = "a file is never away"))]
    pub fn outlasting(self, outage_limit: Duration) -> Reader {
        match self.0 {
            Backend::Sqlite(reader) => Reader(Backend::Sqlite(reader)),
            #[cfg(feature = "postgres")]
            Backend::Postgres(mut reader) => {
                reader.outlast(outage_limit);
                Reader(Backend::Postgres(reader))
            }
        }
    }

    /// Gives each selected row to `each`, in the order in which rows were met, until it returns false.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub async fn rows(
        &mut self,
        selection: Selection,
        run: Option<RunId>,
        each: impl FnMut(RowRecord) -> bool,
    ) -> Result<(), Error> {
        match &mut self.0 {
            Backend::Sqlite(reader) => reader.rows(selection, run, each).await,
            #[cfg(feature = "postgres")]
            Backend::Postgres(reader) => reader.rows(selection, run, each).await,
        }
    }

    /// The ledger as a writer sees it, to be looked into: what would write fails.
    pub(super) fn into_store(self) -> Store {
        match self.0 {
            Backend::Sqlite(reader) => {
                let store = sqlite::store::Store::of_connection(reader.into_connection());
                Store::Sqlite(store.into())
            }
            #[cfg(feature = "postgres")]
            Backend::Postgres(reader) => {
                Store::Postgres(postgres::store::Store::looking(reader.into_connection()).into())
            }
        }
    }

    pub(super) fn into_backend(self) -> Backend {
        self.0
    }
}
