//! Everything that one transaction writes, as plain rows.
//!
//! Pure: claims and settlements come in before the transaction begins, and a backend turns the rows into the
//! parameters of its statements. So the file is locked only for the database's own work.

use std::{borrow::Cow, sync::Arc};

use tracing::{Level, debug, enabled, trace};

use super::{
    checkpoint::{Checkpoint, CheckpointTracker},
    claim::{
        ApiCustomer, Claim, ClaimedRow, IdSource, InsertResult, LedgerRow, Operation, ReferenceRepeat,
        RowError, RowResult, RowToSend, Settlement, UpdateResult,
    },
    model::{ExistingCounts, Heartbeat, Outcome, RowId, RunId, Tally},
    plan::RowPlan,
    shared_run::Cursor,
    unsendable::{Superseded, UnsendableRow},
};
use crate::customer::{
    Correction, Customer, Dropped, Fault, Faults, FieldCounts, FieldSet, Fingerprint, Record, Reference, Row,
};

/// A new row to claim.
pub(super) struct NewClaim {
    pub(super) id: RowId,
    pub(super) line: u64,
    pub(super) reference: Reference,
    pub(super) fingerprint: Fingerprint,
}

/// A known row to claim again.
pub(super) struct RepeatedClaim {
    pub(super) id: RowId,
    pub(super) line: u64,
    pub(super) fingerprint: Fingerprint,
    pub(super) claimed_at: i64,
    /// Whether the row is one of this run's source.
    pub(super) is_counted: bool,
}

/// A claimed row whose customer id is known.
pub(super) struct SettledWithId<'a> {
    pub(super) id: RowId,
    pub(super) line: u64,
    pub(super) reference: &'a Reference,
    pub(super) claimed_at: i64,
    pub(super) outcome: Outcome,
    pub(super) fingerprint: Fingerprint,
    pub(super) customer_id: &'a Arc<str>,
    pub(super) attempts: u32,
    pub(super) id_source: IdSource,
    /// The API's spelling of the reference, if it differs.
    pub(super) api_reference: Option<&'a Reference>,
}

/// A claimed row without a customer id.
pub(super) struct SettledWithoutId<'a> {
    pub(super) id: RowId,
    pub(super) line: u64,
    pub(super) outcome: Outcome,
    pub(super) reference: &'a Reference,
    pub(super) fingerprint: Fingerprint,
    pub(super) attempts: u32,
    pub(super) claimed_at: i64,
    pub(super) in_doubt: bool,
    pub(super) error: &'a RowError,
    pub(super) may_have_landed: bool,
}

/// An invalid row or a duplicate.
pub(super) struct Unsendable {
    pub(super) row: UnsendableRow,
    pub(super) line: u64,
    pub(super) outcome: Outcome,
    pub(super) reference: Option<Reference>,
    pub(super) error: Arc<RowError>,
    /// Its raw cells; none if it has none.
    pub(super) record: Option<Record>,
}

impl Unsendable {
    fn new(
        row: UnsendableRow,
        line: u64,
        record: Record,
        reading: Result<Customer, Faults>,
        error: Arc<RowError>,
    ) -> Unsendable {
        let (outcome, reference) = match reading {
            Ok(customer) => (Outcome::Duplicate, Some(customer.reference)),
            Err(faults) => (Outcome::Invalid, faults.reference.as_deref().map(Reference::recorded)),
        };
        let record = Some(record).filter(|record| record.cells().next().is_some());
        Unsendable { row, line, outcome, reference, error, record }
    }
}

/// The error of the last row that could not be sent. Most rows of a file that cannot be sent have the same one: it is
/// described once for all of them.
#[derive(Default)]
struct LastError {
    /// The faults of the row, none of a duplicate.
    faults: Option<Vec<Fault>>,
    repeat: Option<ReferenceRepeat>,
    error: Arc<RowError>,
}

impl LastError {
    fn describe(&mut self, reading: &Result<Customer, Faults>, repeat: ReferenceRepeat) -> Arc<RowError> {
        let faults = reading.as_ref().err().map(|faults| &faults.list);
        if self.repeat != Some(repeat) || self.faults.as_ref() != faults {
            let error = Arc::new(RowError::of_unsendable(reading, repeat));
            *self = LastError { faults: faults.cloned(), repeat: Some(repeat), error };
        }
        Arc::clone(&self.error)
    }
}

/// An Update that is about to be sent.
pub(super) struct BegunUpdate {
    pub(super) id: RowId,
    pub(super) line: u64,
    /// The fields that the Update sends.
    pub(super) fingerprint: Fingerprint,
}

/// An Update that the API has accepted.
pub(super) struct AcceptedUpdate {
    pub(super) id: RowId,
    pub(super) line: u64,
    /// The fields that the Update sent.
    pub(super) fingerprint: Fingerprint,
    pub(super) attempts: u32,
}

/// An Update that did not succeed.
pub(super) struct UnfinishedUpdate<'a> {
    pub(super) id: RowId,
    pub(super) line: u64,
    pub(super) outcome: Outcome,
    /// The fields that the Update sent.
    pub(super) fingerprint: Fingerprint,
    pub(super) may_have_landed: bool,
    pub(super) attempts: u32,
    pub(super) error: &'a RowError,
}

/// The rows that one commit writes about Updates.
#[derive(Default)]
pub(super) struct UpdateRows<'a> {
    /// Updates about to be sent.
    pub(super) begun: Vec<BegunUpdate>,
    pub(super) updated: Vec<AcceptedUpdate>,
    /// Updates of rows that an earlier run imported.
    pub(super) unfinished: Vec<UnfinishedUpdate<'a>>,
    /// Updates of rows that this run inserted.
    pub(super) new_unfinished: Vec<UnfinishedUpdate<'a>>,
    /// Updates that were claimed but not sent.
    pub(super) restored: Vec<RowId>,
    /// Rows that no longer need an Update.
    pub(super) finished: Vec<RowId>,
    /// Line and fields of each imported row that differs.
    pub(super) changed: Vec<(u64, FieldSet)>,
}

impl UpdateRows<'_> {
    /// The number of imported rows in which each field differs.
    pub(super) fn changed_counts(&self) -> FieldCounts {
        let mut counts = FieldCounts::default();
        self.changed.iter().for_each(|(_, fields)| counts.add(*fields));
        counts
    }

    fn is_empty(&self) -> bool {
        let UpdateRows { begun, updated, unfinished, new_unfinished, restored, finished, changed } = self;
        begun.is_empty()
            && updated.is_empty()
            && unfinished.is_empty()
            && new_unfinished.is_empty()
            && restored.is_empty()
            && finished.is_empty()
            && changed.is_empty()
    }
}

/// A row that is not imported, for the log. Contains only texts of this program, because the API's message may repeat
/// the row's fields.
pub(super) struct UnimportedRow {
    line: u64,
    outcome: Outcome,
    field: Option<String>,
    rule: Option<String>,
    http_status: Option<u16>,
    requests: u32,
}

impl UnimportedRow {
    fn new(line: u64, outcome: Outcome) -> UnimportedRow {
        UnimportedRow { line, outcome, field: None, rule: None, http_status: None, requests: 0 }
    }
}

/// Everything that one transaction writes.
pub(super) struct CommitBatch<'a> {
    pub(super) run: RunId,
    pub(super) now: i64,
    /// First rows of the claim batches whose last claim is settled.
    pub(super) ended_claims: Vec<RowId>,
    pub(super) new_claims: Vec<NewClaim>,
    pub(super) repeated_claims: Vec<RepeatedClaim>,
    /// Claimed rows whose fields have changed: their earlier state must not be restored.
    pub(super) renewed: Vec<RowId>,
    /// New rows whose Create was answered with an id: nearly every row of a first import.
    pub(super) created: Vec<SettledWithId<'a>>,
    pub(super) with_id: Vec<SettledWithId<'a>>,
    pub(super) without_id: Vec<SettledWithoutId<'a>>,
    /// Whether `without_id` contains rows whose state before the claim is to be restored.
    pub(super) restores_rows: bool,
    pub(super) unsendable: Vec<Unsendable>,
    pub(super) superseded: Superseded,
    /// Raw cells to keep, of other rows than those that cannot be sent.
    pub(super) records: Vec<(RowId, Cow<'a, Record>)>,
    /// Rows whose raw cells are erased.
    pub(super) erased: Vec<RowId>,
    /// Rows of a failed export that were imported again.
    pub(super) corrected: Vec<Correction>,
    pub(super) dropped: Dropped,
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) updates: UpdateRows<'a>,
    pub(super) existing: ExistingCounts,
    pub(super) heartbeat: Option<Heartbeat>,
    last_error: LastError,
    /// The new position of the cursor of a shared run.
    pub(super) cursor: Option<Cursor>,
    /// Adopted rows whose Update is not needed.
    pub(super) released_updates: Vec<RowId>,
    /// Whether pending rows of this batch are left to the other workers of the run.
    pub(super) hands_over_rows: bool,
    unimported: Vec<UnimportedRow>,
}

impl<'a> CommitBatch<'a> {
    pub(super) fn new(run: RunId, now: i64) -> CommitBatch<'a> {
        CommitBatch {
            run,
            now,
            ended_claims: Vec::new(),
            new_claims: Vec::new(),
            repeated_claims: Vec::new(),
            renewed: Vec::new(),
            created: Vec::new(),
            with_id: Vec::new(),
            without_id: Vec::new(),
            restores_rows: false,
            unsendable: Vec::new(),
            superseded: Superseded::default(),
            records: Vec::new(),
            erased: Vec::new(),
            corrected: Vec::new(),
            dropped: Dropped::default(),
            checkpoint: None,
            updates: UpdateRows::default(),
            existing: ExistingCounts::default(),
            heartbeat: None,
            last_error: LastError::default(),
            cursor: None,
            released_updates: Vec::new(),
            hands_over_rows: false,
            unimported: Vec::new(),
        }
    }

    /// Whether the batch contains nothing but the counts of the run.
    pub(super) fn is_empty(&self) -> bool {
        self.created.is_empty()
            && self.with_id.is_empty()
            && self.without_id.is_empty()
            && self.ended_claims.is_empty()
            && self.new_claims.is_empty()
            && self.repeated_claims.is_empty()
            && self.records.is_empty()
            && self.erased.is_empty()
            && self.corrected.is_empty()
            && self.dropped.is_empty()
            && self.unsendable.is_empty()
            && self.superseded.is_empty()
            && self.updates.is_empty()
            && self.existing == ExistingCounts::default()
            && self.heartbeat.is_none()
            && self.cursor.is_none()
            && self.released_updates.is_empty()
    }

    /// Carries out the plan of a row: counts it, adds its changes, and makes its claim if it is to be sent.
    pub(super) fn add(
        &mut self,
        row: Row,
        plan: RowPlan,
        tally: &mut Tally,
        tracker: &mut CheckpointTracker,
    ) -> Option<Claim> {
        let Row { line, record, reading, corrects } = row;
        let reference_was_read = corrects.as_deref().is_none_or(|own| own.reference_was_read);
        // The row replaces the earlier one, whether it was corrected or is wrong in another way.
        let is_as_it_was = matches!(&plan, RowPlan::InvalidOrDuplicate(row) if row.is_as_it_was);
        self.corrected.extend(corrects.filter(|_| !is_as_it_was).map(|own| *own));
        if let (Ok(customer), false) = (&reading, matches!(plan, RowPlan::InvalidOrDuplicate(_))) {
            self.dropped.add(&customer.dropped);
        }
        let mut settle = |outcome: Outcome, run: RunId| {
            tally.add(outcome);
            tracker.settled_at_once(outcome, run);
        };
        let (ledger_row, update) = match plan {
            RowPlan::Keep { outcome, settled_by } => {
                settle(outcome, settled_by);
                self.keep(line, outcome);
                return None;
            }
            RowPlan::KeepAndRestoreCells { id } => {
                settle(Outcome::Rejected, RunId::PRUNED);
                self.keep(line, Outcome::Rejected);
                self.keep_record(id, Cow::Owned(record));
                return None;
            }
            RowPlan::InvalidOrDuplicate(row) => {
                let error = self.last_error.describe(&reading, row.repeat);
                let unsendable = Unsendable::new(row, line, record, reading, error);
                settle(unsendable.outcome, self.run);
                self.settle_unsendable(unsendable);
                return None;
            }
            RowPlan::DropObsoleteUpdate { id, imported_by } => {
                settle(Outcome::Unchanged, imported_by);
                self.finish_update(id);
                return None;
            }
            RowPlan::ReportChanged { fields, imported_by } => {
                settle(Outcome::Changed, imported_by);
                self.updates.changed.push((line, fields));
                return None;
            }
            RowPlan::Create { id } => (LedgerRow::New(id), None),
            RowPlan::Resend(known) => (LedgerRow::Known(known), None),
            RowPlan::ResendCorrected(known) => {
                self.renew(known.id);
                (LedgerRow::Known(known), None)
            }
            RowPlan::SendUpdate { known, fields, update } => {
                self.updates.changed.push((line, fields));
                (LedgerRow::Known(known), Some(update))
            }
        };
        let customer = reading.ok()?;
        tally.add(Outcome::Pending);
        let source = RowToSend { line, customer, record, chunk: tracker.claimed() };
        let mut claim = Claim::of_row(ledger_row, source, update, self.run, self.now);
        claim.may_belong_to_another_row = !reference_was_read;
        if let Operation::Update(_) = claim.operation {
            self.begin_update(&claim);
        }
        Some(claim)
    }

    /// Adds the claim of a row that is to be sent.
    pub(super) fn claim(&mut self, claim: &Claim) {
        let (id, line, fingerprint) = (claim.id, claim.line, claim.fingerprint());
        if claim.is_known() {
            let (claimed_at, is_counted) = (claim.claimed_at, claim.is_counted());
            self.repeated_claims.push(RepeatedClaim { id, line, fingerprint, claimed_at, is_counted });
        } else {
            self.new_claims.push(NewClaim { id, line, reference: claim.reference().clone(), fingerprint });
        }
    }

    /// Adds an Update that is about to be sent.
    pub(super) fn begin_update(&mut self, claim: &Claim) {
        let (id, line, fingerprint) = (claim.id, claim.line, claim.sent());
        self.updates.begun.push(BegunUpdate { id, line, fingerprint });
    }

    /// Adds an imported row that no longer needs an Update.
    pub(super) fn finish_update(&mut self, id: RowId) {
        self.updates.finished.push(id);
        self.erased.push(id);
    }

    /// Adds the claim of a row whose fields have changed, and erases its old cells: if this run crashes, a retry must
    /// not send data that the file has since corrected.
    pub(super) fn renew(&mut self, id: RowId) {
        self.erased.push(id);
        self.renewed.push(id);
    }

    /// Adds a row that is not imported to the log, if the log level includes it.
    fn log_unimported(&mut self, row: impl FnOnce() -> UnimportedRow) {
        if enabled!(Level::DEBUG) {
            self.unimported.push(row());
        }
    }

    /// Adds a row whose earlier outcome is kept.
    pub(super) fn keep(&mut self, line: u64, outcome: Outcome) {
        if !outcome.is_success() {
            self.log_unimported(|| UnimportedRow::new(line, outcome));
        }
    }

    /// Adds the result of a claimed row.
    pub(super) fn settle(&mut self, settlement: &'a Settlement) {
        match &settlement.result {
            RowResult::Insert(result) => self.settle_insert(settlement, result),
            RowResult::Update(result) => self.settle_update(settlement, result),
        }
    }

    fn settle_insert(&mut self, settlement: &'a Settlement, result: &'a InsertResult) {
        let Settlement { claim, effort, .. } = settlement;
        let sent = claim.customer().map_or_else(|| claim.fingerprint(), |customer| customer.fingerprint);
        // The fields that the API may have if the request is not known to have arrived.
        let may_have = if effort.may_have_landed { claim.fingerprint() } else { sent };
        match result {
            InsertResult::Created(located) => {
                let fingerprint = match located.id_source {
                    // Get found what an earlier run sent, so the fields of that run count, not those of this one.
                    IdSource::Found { earlier: true, .. } => claim.earlier(),
                    IdSource::Found { earlier: false, .. } => claim.fingerprint(),
                    IdSource::Answer => sent,
                };
                self.settle_located(settlement, located, Outcome::Created, fingerprint);
            }
            InsertResult::Existing(located) => {
                self.count_existing(claim, located, sent);
                self.settle_located(settlement, located, Outcome::Existing, sent);
            }
            InsertResult::ExistingThenUpdate(located, result) => {
                self.settle_existing_then_update(settlement, located, result, sent);
            }
            InsertResult::Rejected(error) => self.settle_without_id(settlement, sent, error, false),
            InsertResult::Failed(error) => self.settle_without_id(settlement, may_have, error, false),
            InsertResult::Pending { error, in_doubt } => {
                self.restores_rows |= claim.is_known() && !in_doubt;
                self.settle_without_id(settlement, may_have, error, *in_doubt);
            }
        }
    }

    fn settle_update(&mut self, settlement: &'a Settlement, result: &'a UpdateResult) {
        let Settlement { claim, effort, .. } = settlement;
        let attempts = effort.requests;
        let Some(error) = result.error() else {
            let (id, line, fingerprint) = (claim.id, claim.line, claim.sent());
            self.updates.updated.push(AcceptedUpdate { id, line, fingerprint, attempts });
            self.finish_update(id);
            return;
        };
        if result.outcome() == Outcome::Pending && !result.may_have_landed() {
            self.updates.restored.push(claim.id);
        }
        let landed_before = matches!(&claim.operation, Operation::Update(update) if update.may_have_landed);
        self.updates.unfinished.push(UnfinishedUpdate {
            id: claim.id,
            line: claim.line,
            outcome: result.outcome(),
            fingerprint: claim.sent(),
            may_have_landed: result.may_have_landed() || landed_before,
            attempts,
            error,
        });
        self.log_unimported(|| UnimportedRow {
            requests: attempts,
            ..UnimportedRow::new(claim.line, result.outcome())
        });
        self.keep_claimed_record(claim);
    }

    /// Adds a row whose customer the API has. `fingerprint` is that of the fields that our requests may have set.
    fn settle_located(
        &mut self,
        settlement: &'a Settlement,
        located: &'a ApiCustomer,
        outcome: Outcome,
        fingerprint: Fingerprint,
    ) {
        let claim = &settlement.claim;
        self.existing.respelled += u64::from(located.api_reference.is_some());
        let is_plain =
            !claim.is_known() && outcome == Outcome::Created && located.id_source == IdSource::Answer;
        let rows =
            if is_plain && located.api_reference.is_none() { &mut self.created } else { &mut self.with_id };
        rows.push(SettledWithId {
            id: claim.id,
            line: claim.line,
            reference: claim.reference(),
            claimed_at: claim.claimed_at,
            outcome,
            fingerprint: located.remembered(fingerprint),
            customer_id: &located.customer_id,
            attempts: settlement.effort.requests,
            id_source: located.id_source,
            api_reference: located.api_reference.as_ref(),
        });
        if claim.is_known() {
            self.erased.push(claim.id);
        }
    }

    /// Counts what the report shows about an existing customer.
    fn count_existing(&mut self, claim: &Claim, located: &ApiCustomer, sent: Fingerprint) {
        let is_uncertain = matches!(located.id_source, IdSource::Found { is_uncertain: true, .. });
        self.existing.uncertain += u64::from(is_uncertain);
        // A row in doubt has no fields here; it is compared when the source reaches it.
        if claim.customer().is_some() {
            self.existing.add(located.differing(sent));
        }
    }

    /// Adds a customer that existed with other fields, and the result of its Update.
    fn settle_existing_then_update(
        &mut self,
        settlement: &'a Settlement,
        located: &'a ApiCustomer,
        result: &'a UpdateResult,
        sent: Fingerprint,
    ) {
        let Settlement { claim, effort, .. } = settlement;
        self.count_existing(claim, located, sent);
        let Some(error) = result.error() else {
            self.settle_located(settlement, located, Outcome::Updated, sent);
            if let Some(updated) = self.with_id.last_mut() {
                updated.fingerprint = sent;
            }
            return;
        };
        self.settle_located(settlement, located, Outcome::Existing, sent);
        let outcome = settlement.result.outcome();
        self.updates.new_unfinished.push(UnfinishedUpdate {
            id: claim.id,
            line: claim.line,
            outcome,
            fingerprint: claim.sent(),
            may_have_landed: result.may_have_landed(),
            attempts: effort.requests,
            error,
        });
        self.log_unimported(|| UnimportedRow {
            http_status: error.http_status,
            requests: effort.requests,
            ..UnimportedRow::new(claim.line, outcome)
        });
        self.keep_claimed_record(claim);
    }

    /// Adds an invalid row or a duplicate.
    pub(super) fn settle_unsendable(&mut self, unsendable: Unsendable) {
        self.log_unimported(|| UnimportedRow {
            field: unsendable.error.field.clone(),
            rule: unsendable.error.code.clone(),
            ..UnimportedRow::new(unsendable.line, unsendable.outcome)
        });
        self.unsendable.push(unsendable);
    }

    fn settle_without_id(
        &mut self,
        settlement: &'a Settlement,
        fingerprint: Fingerprint,
        error: &'a RowError,
        in_doubt: bool,
    ) {
        let Settlement { claim, result, effort } = settlement;
        let (outcome, attempts) = (result.outcome(), effort.requests);
        self.log_unimported(|| UnimportedRow {
            http_status: error.http_status,
            requests: attempts,
            ..UnimportedRow::new(claim.line, outcome)
        });
        self.without_id.push(SettledWithoutId {
            id: claim.id,
            line: claim.line,
            outcome,
            reference: claim.reference(),
            fingerprint,
            attempts,
            claimed_at: claim.claimed_at,
            in_doubt,
            error,
            may_have_landed: effort.may_have_landed,
        });
        self.keep_claimed_record(claim);
    }

    fn keep_claimed_record(&mut self, claim: &'a Claim) {
        if let ClaimedRow::OfSource { record, .. } = &claim.row {
            self.keep_record(claim.id, Cow::Borrowed(record));
        }
    }

    /// Stores the raw cells of a row. A row of a retry has none, because the ledger already has them.
    pub(super) fn keep_record(&mut self, id: RowId, record: Cow<'a, Record>) {
        if record.cells().next().is_some() {
            self.records.push((id, record));
        }
    }

    /// Logs one event for each row, after its outcome is durable.
    pub(super) fn log_rows(&self, settled: &[Settlement]) {
        let run = self.run.0;
        for UnimportedRow { line, outcome, field, rule, http_status, requests } in &self.unimported {
            let outcome = outcome.name();
            debug!(run, line, outcome, field, rule, http_status, requests, "row not imported");
        }
        for Settlement { claim, result, effort } in settled {
            if result.outcome().is_success() {
                let requests = effort.requests;
                trace!(run, line = claim.line, outcome = result.outcome().name(), requests, "row imported");
            }
        }
    }
}
