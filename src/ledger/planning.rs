//! The planner together with its lookups: finds the ledger's data about each chunk of rows, and has the chunk
//! planned.
//!
//! A run and a forecast use the same code, so their plans cannot disagree. The rows of a run are in the tables when
//! the next chunk is planned; a forecast writes nothing, so its planner itself remembers the references of new rows.

use std::collections::{HashMap, HashSet};

use tracing::warn;

use super::{
    error::Error,
    model::{Command, KnownRow, RowId, RunId, SourceColumns},
    ordered_scan::OrderedScan,
    plan::{Lookup, Planner, RowPlan},
    seen_rows::UnreadableRuns,
    store::Store,
    unsendable::reference_of,
};
use crate::customer::{Reference, Row};

/// The planner of one run or forecast, with the store for its lookups.
pub(super) struct Planning {
    pub(super) store: Store,
    pub(super) planner: Planner,
    scan: OrderedScan,
    run: RunId,
    command: Command,
    has_pending_updates: bool,
    has_read_unsendable: bool,
    has_learned_zeros: bool,
    /// Open claims of a running or crashed run, by reference; always empty outside of forecasts.
    unrecovered: HashMap<String, KnownRow>,
}

impl Planning {
    /// The planner of the run with this number.
    pub(super) async fn new(
        mut store: Store,
        run: RunId,
        command: Command,
        columns: SourceColumns<'_>,
    ) -> Result<Planning, Error> {
        store.read_index().await?;
        let next_id = RowId(store.last_row().await?.0 + 1);
        let has_pending_updates = store.has_pending_updates().await?;
        let planner = Planner::new(run, command, columns, next_id);
        Ok(Planning {
            store,
            planner,
            scan: OrderedScan::default(),
            run,
            command,
            has_pending_updates,
            has_read_unsendable: false,
            has_learned_zeros: false,
            unrecovered: HashMap::new(),
        })
    }

    /// Plans for a forecast: no plan is written, and these open claims are not recovered.
    pub(super) fn forecasting(mut self, unrecovered: HashMap<String, KnownRow>) -> Planning {
        self.planner.begin_forecast(unrecovered.values().map(|known| known.id).max());
        self.unrecovered = unrecovered;
        self
    }

    /// The plan of each row of a chunk, in file order. A row in which only the ledger can see a fault gets that fault.
    pub(super) async fn plan(&mut self, rows: &mut [Row]) -> Result<Vec<RowPlan>, Error> {
        let known = self.find_owners(rows).await?;
        let pending_updates = if self.has_pending_updates {
            let ids: Vec<RowId> = known.iter().flatten().map(|known| known.id).collect();
            self.store.pending_updates(&ids).await?
        } else {
            HashMap::new()
        };
        if !self.has_read_unsendable {
            self.planner.unsendable = self.store.unsendable_rows(self.run).await?;
            self.has_read_unsendable = true;
        }
        if self.command != Command::Retry {
            self.find_lost_zeros(rows, &known).await?;
        }
        let named_before = self.named_before(rows).await?;
        let unreadable = self.unreadable_runs(rows).await?;
        let lookup = Lookup { known, pending_updates, named_before, unreadable };
        let rows: &[Row] = rows;
        let mut plans = self.planner.plan_rows(rows, lookup);
        if !self.planner.new_rows.is_forecast() {
            self.store.index_new(rows.iter().zip(&plans).filter_map(|(row, plan)| plan.created(row)));
        }
        self.name_updates(rows.iter(), &mut plans).await?;
        Ok(plans)
    }

    /// The plans of rows that this worker has adopted from another one.
    pub(super) async fn plan_adopted(&mut self, rows: &[(Row, KnownRow)]) -> Result<Vec<RowPlan>, Error> {
        let ids: Vec<RowId> = rows.iter().map(|(_, known)| known.id).collect();
        let pending_updates =
            if ids.is_empty() { HashMap::new() } else { self.store.pending_updates(&ids).await? };
        let plan = |(row, known): &(Row, KnownRow)| match &row.reading {
            Ok(customer) => self.planner.plan_adopted(known.clone(), customer, &pending_updates),
            Err(_) => RowPlan::Resend(known.clone()),
        };
        let mut plans: Vec<RowPlan> = rows.iter().map(plan).collect();
        self.name_updates(rows.iter().map(|(row, _)| row), &mut plans).await?;
        Ok(plans)
    }

    /// Makes rows invalid whose references are those of other rows of the ledger without their leading zeros.
    async fn find_lost_zeros(&mut self, rows: &mut [Row], known: &[Option<KnownRow>]) -> Result<(), Error> {
        if !self.has_learned_zeros && !rows.is_empty() {
            for from in self.planner.sampled_from() {
                let sample = self.store.read_ordered(from).await?;
                sample.iter().for_each(|(reference, _)| self.planner.zeros.learn(reference));
            }
            self.has_learned_zeros = true;
        }
        let mut suspects: Vec<(&mut Row, Vec<Reference>)> = Vec::new();
        for (row, _) in rows.iter_mut().zip(known).filter(|(_, known)| known.is_none()) {
            let candidates = self.planner.with_zeros(row);
            if !candidates.is_empty() {
                suspects.push((row, candidates));
            }
        }
        if suspects.is_empty() {
            return Ok(());
        }
        let candidates = || suspects.iter().flat_map(|(_, candidates)| candidates);
        let mut found = self.store.find(candidates()).await?;
        let unrecovered = candidates().filter_map(|it| self.unrecovered.get_key_value(it.as_str()));
        found.extend(unrecovered.map(|(text, known)| (text.clone(), known.clone())));
        let of_chunk: HashSet<RowId> = known.iter().flatten().map(|known| known.id).collect();
        for (row, candidates) in suspects {
            if let Some(fault) = self.planner.lost_zeros(row, &candidates, &found, &of_chunk) {
                row.reading = Err(fault);
            }
        }
        Ok(())
    }

    /// The references of invalid rows in earlier chunks of this source.
    async fn named_before(&mut self, rows: &[Row]) -> Result<HashSet<String>, Error> {
        if self.command == Command::Retry {
            return Ok(HashSet::new());
        }
        let named = rows.iter().filter_map(reference_of);
        if self.planner.new_rows.is_forecast() {
            // Rows of a forecast are in no table, so the hash alone decides.
            let unsendable = &self.planner.unsendable;
            let named = named.filter(|reference| unsendable.is_named(reference.key()));
            return Ok(named.map(|reference| reference.as_str().to_owned()).collect());
        }
        let ids = self.planner.unsendable.named_rows(named.map(|reference| reference.key()));
        self.store.references(&ids).await
    }

    /// For each row the row that owns its reference, found in the ordered scan or else by hash.
    async fn find_owners(&mut self, rows: &[Row]) -> Result<Vec<Option<KnownRow>>, Error> {
        if let Some(from) = self.scan.wants_rows_from() {
            let more = self.store.read_ordered(from).await?;
            self.scan.extend(more);
        }
        let mut known = Vec::with_capacity(rows.len());
        let mut missed = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            let reference = reference_of(row);
            let next = reference.as_ref().and_then(|reference| self.scan.find(reference));
            missed.extend(reference.filter(|_| next.is_none()).map(|reference| (at, reference)));
            known.push(next);
        }
        let found = self.store.find(missed.iter().map(|(_, reference)| &**reference)).await?;
        for (at, reference) in &missed {
            let text = reference.as_str();
            known[*at] = found.get(text).or_else(|| self.unrecovered.get(text)).cloned();
        }
        self.scan.follow(&known, missed.len());
        Ok(known)
    }

    /// The runs that could not read the references of these rows, with the rows that those runs had seen.
    async fn unreadable_runs(&mut self, rows: &[Row]) -> Result<UnreadableRuns, Error> {
        let corrected = rows.iter().filter_map(|row| row.corrects.as_deref());
        let lines: Vec<u64> = corrected.filter(|own| !own.reference_was_read).map(|own| own.line).collect();
        if lines.is_empty() {
            return Ok(UnreadableRuns::default());
        }
        let unreadable = self.store.unreadable_runs(&lines, self.run).await?;
        for run in unreadable.0.values().flatten() {
            if !self.planner.unsendable.seen_before.contains_key(run) {
                let seen = self.store.seen_by(*run).await?;
                self.planner.unsendable.seen_before.insert(*run, seen);
            }
        }
        Ok(unreadable)
    }

    /// Adds the customers of the rows to be updated. No Update is sent to a customer that also belongs to another
    /// row: the API does not distinguish the two spellings of the reference, and one person's fields must not
    /// overwrite another's.
    async fn name_updates(
        &mut self,
        rows: impl Iterator<Item = &Row>,
        plans: &mut [RowPlan],
    ) -> Result<(), Error> {
        let ids: Vec<RowId> = plans.iter().filter_map(RowPlan::updated_row).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let mut names = self.store.customer_names(&ids).await?;
        for (row, plan) in rows.zip(plans) {
            let RowPlan::SendUpdate { known, fields, update } = plan else { continue };
            let name = names.remove(&known.id).unwrap_or_default();
            update.customer_id = name.customer_id;
            update.api_reference = name.api_reference;
            let (id, imported_by, fields) = (known.id, known.run, *fields);
            let Some(spelling) = update.api_reference.clone() else { continue };
            let customer_id = update.customer_id.clone();
            if self.is_shared(id, &customer_id, &spelling).await? {
                warn!(
                    run = self.run.0,
                    line = row.line,
                    "the API does not tell this row's reference from another row's; its update is not sent"
                );
                *plan = RowPlan::ReportChanged { fields, imported_by };
            }
        }
        Ok(())
    }

    /// Whether another row has the same customer, or the reference in the API's spelling.
    async fn is_shared(&mut self, id: RowId, customer_id: &str, spelling: &Reference) -> Result<bool, Error> {
        let named = self.store.find([spelling].into_iter()).await?;
        Ok(self.planner.is_claimed(spelling)
            || named.get(spelling.as_str()).is_some_and(|other| other.id != id)
            || self.store.has_other_row(customer_id, id).await?)
    }
}
