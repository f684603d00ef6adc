//! Determines what an import would do with the rows of a file, given its ledger and, if requested, the API. Records
//! nothing.
//!
//! The rows are read and planned by the code of an import, so that the two cannot disagree. Memory: at most sixteen
//! bytes for each reference, to detect similar ones, nine to eighteen more for each row that is new to the ledger, to
//! detect duplicates among them, and one bit for each other row.

mod asking;

use std::collections::BTreeMap;

pub use self::asking::{Asked, Options, Share, plan_and_ask};
use crate::{
    customer::{Customer, FieldCounts, Fingerprint, Occurrence, Reference, Row, SeenReferences},
    error::Error,
    ledger::{Forecast, RowForecast},
    run::Chunks,
    source::Chunk,
    validate::Findings,
    verify::ToLookUp,
};

/// The counts of what an import would do.
#[derive(Debug, Default)]
pub struct Plan {
    /// Whether the source was read to its end.
    pub is_whole: bool,
    /// Rows that are invalid or duplicates, by reason; all rows are counted.
    pub findings: Findings,
    /// Rows that are new to the ledger.
    pub create: u64,
    /// Imported rows with other fields, for which an Update would be sent.
    pub update: u64,
    /// Imported rows with other fields, for which nothing would be sent.
    pub changed: u64,
    /// Number of rows in which each field differs from what was imported.
    pub fields: FieldCounts,
    /// Imported rows without a difference.
    pub unchanged: u64,
    /// Rows that would be sent again, by their current outcome.
    pub try_again: BTreeMap<&'static str, u64>,
    /// Rows that an earlier run may have created.
    pub in_doubt: u64,
    /// Rows that the API rejected with the same fields.
    pub rejected: u64,
    /// The references of the rows so far.
    seen: SeenReferences,
}

impl Plan {
    /// Rows that would be sent again.
    pub fn try_again_rows(&self) -> u64 {
        self.try_again.values().sum()
    }

    /// Rows for which requests would be sent.
    pub fn sent(&self) -> u64 {
        self.create + self.update + self.try_again_rows() + self.in_doubt
    }

    /// Whether an import would succeed for every row of the file.
    pub fn is_clear(&self) -> bool {
        self.findings.is_clean() && self.rejected == 0
    }

    /// Adds a chunk of rows. `new` receives the rows that are new to the ledger.
    async fn add(
        &mut self,
        mut chunk: Chunk,
        forecast: &mut Forecast,
        new: &mut dyn FnMut(NewRow),
    ) -> Result<(), Error> {
        let planned = forecast.of_rows(&mut chunk.rows).await?;
        for (Row { line, reading, .. }, planned) in chunk.rows.into_iter().zip(planned) {
            self.count(planned);
            let named = match &reading {
                Ok(customer) => Some(customer.reference.as_str()),
                Err(faults) => faults.named(),
            };
            let occurrence = named.map_or(Occurrence::First, |reference| self.seen.insert(reference));
            match (reading, planned) {
                (Err(faults), _) => self.findings.add_invalid(line, &faults.list),
                (Ok(_), RowForecast::Duplicate) => self.findings.add_duplicate(line),
                (Ok(customer), planned) => {
                    self.findings.add_first(line, occurrence, &customer.dropped);
                    if planned == RowForecast::Create {
                        let Customer { reference, fingerprint, .. } = customer;
                        new(NewRow { line, reference, fingerprint });
                    }
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, planned: RowForecast) {
        match planned {
            RowForecast::Create => self.create += 1,
            RowForecast::Update(fields) => {
                self.update += 1;
                self.fields.add(fields);
            }
            RowForecast::Changed(fields) => {
                self.changed += 1;
                self.fields.add(fields);
            }
            RowForecast::Unchanged => self.unchanged += 1,
            RowForecast::TryAgain(outcome) => *self.try_again.entry(outcome.name()).or_default() += 1,
            RowForecast::InDoubt => self.in_doubt += 1,
            RowForecast::Rejected => self.rejected += 1,
            RowForecast::Invalid | RowForecast::Duplicate => {}
        }
    }
}

/// A row that is new to the ledger.
struct NewRow {
    line: u64,
    reference: Reference,
    fingerprint: Fingerprint,
}

impl ToLookUp for NewRow {
    fn line(&self) -> u64 {
        self.line
    }

    fn reference(&self) -> &Reference {
        &self.reference
    }
}

/// Plans every row of the source, and sends nothing. After a read error, returns the plan up to the error together
/// with the error.
///
/// # Errors
/// If the ledger cannot be read.
pub async fn plan(forecast: &mut Forecast, mut source: Chunks) -> Result<(Plan, Result<(), Error>), Error> {
    let mut plan = Plan::default();
    while let Some(chunk) = source.recv().await {
        match chunk {
            Ok(chunk) => plan.add(chunk, forecast, &mut drop).await?,
            Err(error) => return Ok((plan, Err(error.into()))),
        }
    }
    plan.is_whole = true;
    Ok((plan, Ok(())))
}
