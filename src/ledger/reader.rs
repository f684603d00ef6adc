//! Reads a ledger of either backend beside its writer, also during a run: for status, reports and exports.
//!
//! Sees only committed data, and takes no lock that a run would wait for. Rows are returned one by one or page by page,
//! so that memory does not grow with their number. Chooses the backend and contains no SQL. The backends return equal
//! results, so each method is documented here once.

use std::time::Duration;

#[cfg(feature = "postgres")]
use super::postgres;
use super::{
    error::Error,
    error_groups::ErrorGroups,
    location::Location,
    model::{RowId, RunId, RunState, Target},
    records::{
        ErrorGroup, LedgerHistory, LedgerOverview, RecordedHeartbeat, RetryFilter, RetryRow, RetryableCount,
        RowMapping, RowRecord, RunDetails, RunRecord, Selection, SourceHeader,
    },
    sqlite,
    store::Store,
};
use crate::customer::InvalidCounts;

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
            /// If the ledger cannot be read.
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
    /// The target, the rows by outcome over all runs, every run in order, and the heartbeat of the current run.
    pub async fn overview(&mut self) -> LedgerOverview;
    /// The target of the ledger; none before the first run.
    pub(crate) async fn target(&mut self) -> Option<Target>;
    /// Every run, in order.
    async fn runs(&mut self) -> Vec<RunRecord>;
    /// The last heartbeat of the current run, or of the last crashed one.
    async fn heartbeat(&mut self) -> Option<RecordedHeartbeat>;
    /// The errors of the rows that are not imported currently, over all runs.
    async fn open_errors(&mut self) -> (Vec<ErrorGroup>, InvalidCounts);
    /// When a run last reached the end of its source; UTC milliseconds.
    pub async fn last_success(&mut self) -> Option<i64>;
    /// Everything that the report on a run shows. `run` is `None` for the last run; `max_respelled` limits the respelled
    /// references; `unsendable` holds the rows of the run that cannot be sent, if they are counted already, so that they
    /// are not read again. `None` if there is no such run.
    pub async fn run_details(&mut self, run: Option<RunId>, max_respelled: u32, unsendable: Option<ErrorGroups>) -> Option<RunDetails>;
    /// The header of each run's source, or of the sources that the rows of one run came from. If no run is left, there
    /// are no rows to correct, and the columns that every source has are returned.
    pub async fn source_headers(&mut self, run: Option<RunId>) -> Vec<SourceHeader>;
    /// The next rows to retry after this id, at most `max`. A row keeps its id whatever its outcome, so paging by id
    /// returns each row once.
    pub async fn retry_rows(&mut self, filter: &RetryFilter, after: RowId, max: u32) -> Vec<RetryRow>;
    /// The number of rows that can be retried, by outcome and code, the most frequent first.
    pub async fn retryable_counts(&mut self) -> Vec<RetryableCount>;
    /// The options by which records became customers, for each run of which the ledger has cells, and for the latest
    /// import of each source.
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

    /// A reader that repeats its queries while the ledger's server is unreachable, for at most this long. [`Reader::rows`]
    /// and the groups of errors are not repeated, because the rows that they have read are already passed on.
    #[cfg_attr(not(feature = "postgres"), expect(unused_variables, reason = "a file is always reachable"))]
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

    /// The overview, and why rows are not imported, for the report on the whole ledger.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub async fn history(&mut self) -> Result<LedgerHistory, Error> {
        let overview = self.overview().await?;
        let (mut groups, invalid) = self.open_errors().await?;
        // The rows come from many files.
        groups.iter_mut().for_each(|group| group.first_lines.clear());
        Ok(LedgerHistory { overview, groups, invalid })
    }

    /// The current run, if there is one, with its last heartbeat. Reads no row of the source, so polling it beside a run
    /// is cheap.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub async fn live(&mut self) -> Result<Option<(RunRecord, Option<RecordedHeartbeat>)>, Error> {
        let Some(current) = self.current_run().await? else { return Ok(None) };
        let newest = self.heartbeat().await?.filter(|newest| newest.run == current.run);
        Ok(Some((current, newest)))
    }

    /// The current run, if there is one.
    pub(super) async fn current_run(&mut self) -> Result<Option<RunRecord>, Error> {
        Ok(self.runs().await?.pop().filter(|last| last.state == RunState::Running))
    }

    /// Refuses a ledger of another target; one without a run has none yet.
    ///
    /// # Errors
    /// If the ledger belongs to another target, or cannot be read.
    pub async fn check_target(&mut self, requested: &Target) -> Result<(), Error> {
        match self.target().await? {
            Some(has) => Error::check_target(self.location(), has, requested),
            None => Ok(()),
        }
    }

    fn location(&self) -> Location {
        match &self.0 {
            Backend::Sqlite(reader) => reader.location(),
            #[cfg(feature = "postgres")]
            Backend::Postgres(reader) => reader.location(),
        }
    }

    /// Passes each selected row to `each`, in the order in which the rows were read, until it returns false.
    ///
    /// # Errors
    /// If the ledger cannot be read.
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

    /// The ledger as a store, for lookups only: any write fails.
    pub(super) fn into_store(self) -> Store {
        match self.0 {
            Backend::Sqlite(reader) => Store::Sqlite(reader.into_store().into()),
            #[cfg(feature = "postgres")]
            Backend::Postgres(reader) => {
                Store::Postgres(postgres::store::Store::for_queries(reader.into_connection()).into())
            }
        }
    }

    pub(super) fn into_backend(self) -> Backend {
        self.0
    }
}
