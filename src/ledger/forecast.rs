//! Forecasts what a run would do about the rows of a source, without a run: nothing is locked, and nothing is
//! written.
//!
//! A run and a forecast use the same planner. A ledger that does not exist counts as an empty one, and is not
//! created. A ledger that a run is writing to is read as of its last commit: open claims of that run are in doubt, as
//! if the run crashed now.

use std::time::Duration;

use super::{
    error::Error,
    location::Location,
    model::{Command, KnownRow, Outcome, RunId, SourceColumns, Target},
    plan::RowPlan,
    planning::Planning,
    reader::Reader,
    store::Store,
};
use crate::customer::{FieldSet, Row};

/// The required target of a ledger.
#[derive(Clone, Debug)]
pub struct RequestedTarget {
    /// Without a trailing slash.
    pub base_url: String,
    /// None accepts any merchant.
    pub merchant_id: Option<String>,
}

/// What a run would do about one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowForecast {
    /// The ledger does not have it: a Create.
    Create,
    /// Imported, and these fields differ: an Update.
    Update(FieldSet),
    /// Imported, and these fields differ; nothing is sent.
    Changed(FieldSet),
    /// Imported, and no field differs.
    Unchanged,
    /// Sent again; this was its outcome.
    TryAgain(Outcome),
    /// An earlier run may have created it: a Get first.
    InDoubt,
    /// The API rejected it with the same fields; nothing is sent.
    Rejected,
    /// The row breaks a rule.
    Invalid,
    /// An earlier row of the source has its reference.
    Duplicate,
}

/// A planner without a run.
pub struct Forecast {
    planning: Planning,
    exists: bool,
    running: Option<RunId>,
    in_doubt: u64,
}

impl Forecast {
    /// Reads the ledger as for a run of this command. If the ledger's server is unreachable, queries are repeated for at
    /// most `outage_limit`.
    ///
    /// # Errors
    /// If the location holds something other than a ledger, a ledger of another target, or one that cannot be read.
    pub async fn open(
        location: &Location,
        requested: &RequestedTarget,
        command: Command,
        columns: SourceColumns<'_>,
        outage_limit: Duration,
    ) -> Result<Forecast, Error> {
        let (mut store, running, exists) = match Reader::open(location).await {
            Err(Error::Missing { .. }) => (Store::in_memory().await?, None, false),
            reader => {
                let mut reader = reader?.outlasting(outage_limit);
                if let Some(has) = reader.target().await? {
                    let merchant_id = requested.merchant_id.as_ref().unwrap_or(&has.merchant_id).clone();
                    let requested = Target { base_url: requested.base_url.clone(), merchant_id };
                    reader.check_target(&requested).await?;
                }
                let running = reader.current_run().await?.map(|run| run.run);
                (reader.into_store(), running, true)
            }
        };
        let unrecovered = store.open_claims().await?;
        let in_doubt = store.rows_in_doubt().await?.len() + unrecovered.len();
        let run = store.next_run().await?;
        let planning = Planning::new(store, run, command, columns).await?;
        let planning = planning.forecasting(unrecovered);
        Ok(Forecast { planning, exists, running, in_doubt: in_doubt as u64 })
    }

    /// Whether there is a ledger.
    pub fn ledger_exists(&self) -> bool {
        self.exists
    }

    /// The current run, if there is one.
    pub fn running(&self) -> Option<RunId> {
        self.running
    }

    /// Number of rows of the ledger that a run looks up first, whether they are in its source or not.
    pub fn in_doubt(&self) -> u64 {
        self.in_doubt
    }

    /// What a run would do about these rows, the next ones of the source. A row in which only the ledger can see a fault
    /// gets that fault.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub(crate) async fn of_rows(&mut self, rows: &mut [Row]) -> Result<Vec<RowForecast>, Error> {
        let plans = self.planning.plan(rows).await?;
        self.planning.planner.unsendable.take_superseded();
        Ok(rows.iter().zip(plans).map(|(row, plan)| forecast(row, plan)).collect())
    }
}

fn forecast(row: &Row, plan: RowPlan) -> RowForecast {
    match plan {
        RowPlan::InvalidOrDuplicate(_) if row.reading.is_err() => RowForecast::Invalid,
        RowPlan::InvalidOrDuplicate(_) => RowForecast::Duplicate,
        RowPlan::Keep { outcome: Outcome::Rejected, .. } | RowPlan::KeepAndRestoreCells { .. } => {
            RowForecast::Rejected
        }
        RowPlan::Keep { .. } | RowPlan::DropObsoleteUpdate { .. } => RowForecast::Unchanged,
        RowPlan::ReportChanged { fields, .. } => RowForecast::Changed(fields),
        RowPlan::SendUpdate { fields, .. } => RowForecast::Update(fields),
        RowPlan::Create { .. } => RowForecast::Create,
        RowPlan::Resend(KnownRow { in_doubt: true, .. })
        | RowPlan::ResendCorrected(KnownRow { in_doubt: true, .. }) => RowForecast::InDoubt,
        RowPlan::Resend(known) | RowPlan::ResendCorrected(known) => RowForecast::TryAgain(known.outcome),
    }
}
