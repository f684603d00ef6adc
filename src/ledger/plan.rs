//! Plans what to do about each row of the source, given everything that the ledger has about it.
//!
//! The first row of a source with a reference owns the reference; any later one is a duplicate. A row that the ledger
//! has is kept or claimed again, depending on its outcome and on whether its fields are still the same.
//!
//! Pure: [`Ledger`](super::Ledger) looks up the ledger's data about a chunk ([`Lookup`]), the [`Planner`] decides,
//! and a [`CommitBatch`](super::batch::CommitBatch) carries the decisions out.

use std::{
    collections::{HashMap, HashSet},
    hash::BuildHasherDefault,
};

use super::{
    claim::{CustomerUpdate, ReferenceRepeat},
    lost_zeros::{self, LostZeros},
    model::{Command, KnownRow, Outcome, PendingUpdate, RowId, RunId, SourceColumns},
    ordered_scan::READ_ROWS,
    reference_index::{IdentityHasher, OpenClaims},
    seen_rows::{SeenRows, UnreadableRuns},
    shared_run::SharedRun,
    unsendable::{ChunkReferences, UnsendableRow, UnsendableRows},
};
use crate::customer::{Correction, Customer, Faults, FieldSet, Reference, Row, mapped_columns};

/// What to do about a row.
pub(super) enum RowPlan {
    /// The row cannot be sent. It is settled at once, as a row that does not own its reference.
    InvalidOrDuplicate(UnsendableRow),
    /// The outcome from the run `settled_by` is kept; nothing is written.
    Keep { outcome: Outcome, settled_by: RunId },
    /// The row was rejected by a run that has been pruned together with the row's cells. It stays rejected, and its
    /// cells are stored again.
    KeepAndRestoreCells { id: RowId },
    /// The row was imported, and its fields differ; nothing is sent.
    ReportChanged { fields: FieldSet, imported_by: RunId },
    /// The row has the fields that were imported, so an earlier Update that did not succeed is no longer needed.
    DropObsoleteUpdate { id: RowId, imported_by: RunId },
    /// The row was imported, and its fields are to be changed at the API.
    SendUpdate { known: KnownRow, fields: FieldSet, update: Box<CustomerUpdate> },
    /// The row is new to the ledger.
    Create { id: RowId },
    /// The ledger has the row; it is not settled, or is to be tried again.
    Resend(KnownRow),
    /// As `Resend`, but with other fields than the stored cells.
    ResendCorrected(KnownRow),
}

impl RowPlan {
    /// The reference and the id of the row, if it is new to the ledger.
    pub(super) fn created<'a>(&self, row: &'a Row) -> Option<(&'a Reference, RowId)> {
        let RowPlan::Create { id } = self else { return None };
        row.reading.as_ref().ok().map(|customer| (&customer.reference, *id))
    }

    /// The row to be updated, if the plan is an Update.
    pub(super) fn updated_row(&self) -> Option<RowId> {
        match self {
            RowPlan::SendUpdate { known, .. } => Some(known.id),
            _ => None,
        }
    }

    /// A rejected row is not sent again with the same fields. Without its cells, however, `retry` could never send
    /// it.
    fn keep_rejected(known: &KnownRow) -> RowPlan {
        match known.run {
            RunId::PRUNED => RowPlan::KeepAndRestoreCells { id: known.id },
            run => RowPlan::Keep { outcome: Outcome::Rejected, settled_by: run },
        }
    }
}

/// The ledger's data about a chunk of rows.
#[derive(Default)]
pub(super) struct Lookup {
    /// For each row, the row of the ledger that owns its reference.
    pub(super) known: Vec<Option<KnownRow>>,
    pub(super) pending_updates: HashMap<RowId, PendingUpdate>,
    /// References of invalid rows in earlier chunks.
    pub(super) named_before: HashSet<String>,
    pub(super) unreadable: UnreadableRuns,
}

/// How a new row is found again if a later row of the source has the same reference.
pub(super) enum NewRows {
    /// By its claim, and after its settlement by the ledger.
    Claimed,
    /// By the hash of its reference, because a forecast writes nothing. Among ten million rows, the probability that
    /// two references have the same hash is one in a hundred thousand.
    Forecast(HashSet<u64, BuildHasherDefault<IdentityHasher>>),
}

impl NewRows {
    pub(super) fn is_forecast(&self) -> bool {
        matches!(self, NewRows::Forecast(_))
    }
}

/// Makes the plans for the rows of one run, in source order.
pub(super) struct Planner {
    run: RunId,
    command: Command,
    /// The header of the source, and the index of the reference column.
    columns: Vec<String>,
    reference_at: Option<usize>,
    pub(super) open_claims: OpenClaims,
    pub(super) new_rows: NewRows,
    pub(super) seen: SeenRows,
    pub(super) unsendable: UnsendableRows,
    pub(super) zeros: LostZeros,
    /// The runs that read the part of the source that this run skipped, each with the last line that it reached.
    pub(super) skipped_lines: HashMap<RunId, u64>,
    /// The number of imported rows that the source has contained so far.
    pub(super) imported_seen: u64,
    next_id: RowId,
    /// This worker's part in a run that other workers may share.
    pub(super) shared: Option<SharedRun>,
}

impl Planner {
    pub(super) fn new(run: RunId, command: Command, columns: SourceColumns<'_>, next_id: RowId) -> Planner {
        let mapped = columns.reference.map(mapped_columns).unwrap_or_default();
        // If the reference is made of several columns, an empty one among them does not change any hash.
        let reference_at = match mapped.as_slice() {
            [only] => columns.names.iter().position(|name| name == only),
            _ => None,
        };
        Planner {
            run,
            command,
            columns: columns.names.to_vec(),
            reference_at,
            open_claims: OpenClaims::default(),
            new_rows: NewRows::Claimed,
            seen: SeenRows::default(),
            unsendable: UnsendableRows::default(),
            zeros: LostZeros::new(columns.reference, columns.is_export),
            skipped_lines: HashMap::new(),
            imported_seen: 0,
            next_id,
            shared: None,
        }
    }

    /// Switches to forecasting: no plan is written any more. `last_claim` is the highest id of a claim without a row.
    pub(super) fn begin_forecast(&mut self, last_claim: Option<RowId>) {
        self.new_rows = NewRows::Forecast(HashSet::default());
        self.next_id = last_claim.map_or(self.next_id, |last| self.next_id.max(RowId(last.0 + 1)));
    }

    /// The plan of each row of a chunk, in file order.
    pub(super) fn plan_rows(&mut self, rows: &[Row], lookup: Lookup) -> Vec<RowPlan> {
        let Lookup { known, pending_updates, named_before, unreadable } = lookup;
        let mut chunk = ChunkReferences { named_before, unreadable, ..ChunkReferences::default() };
        let mut plans = Vec::with_capacity(rows.len());
        for (row, known) in rows.iter().zip(known) {
            plans.push(match &row.reading {
                // A row of a retry is already in the ledger, and keeps its outcome.
                Err(_) if self.command == Command::Retry => {
                    RowPlan::Keep { outcome: Outcome::Invalid, settled_by: self.run }
                }
                Err(faults) => self.plan_invalid(row, faults, known.as_ref(), &mut chunk),
                Ok(customer) => self.plan_valid(row, customer, known, &pending_updates, &mut chunk),
            });
        }
        plans
    }

    /// Plans an invalid row. It does not own its reference, but a later row with the same reference is a duplicate.
    fn plan_invalid<'a>(
        &mut self,
        row: &'a Row,
        faults: &'a Faults,
        known: Option<&KnownRow>,
        chunk: &mut ChunkReferences<'a>,
    ) -> RowPlan {
        let reference = faults.named();
        let is_repeated = reference.is_some_and(|reference| {
            let of_other = self.has_other(&Reference::recorded(reference));
            let is_owned = of_other
                || match known {
                    Some(known) => self.seen.has(known.id) || self.was_skipped(known),
                    None => self.is_claimed(&Reference::recorded(reference)),
                };
            is_owned || chunk.new.contains(reference) || chunk.is_named(reference)
        });
        let is_repeated = is_repeated || row.corrects.as_ref().is_some_and(|own| own.repeats == Some(true));
        let text = faults.reference.as_deref();
        let content = text.map_or_else(
            || row.record.content(&self.columns),
            |reference| Reference::recorded(reference).key(),
        );
        let repeat = if is_repeated { ReferenceRepeat::Yes } else { ReferenceRepeat::No };
        let mut unsendable = self.unsendable_row(row, content, repeat);
        if reference.is_none() {
            unsendable.content_without_reference =
                Some(row.record.content_without(&self.columns, self.reference_at));
        }
        if let Some(reference) = reference.filter(|_| !is_repeated) {
            chunk.named.insert(reference);
            self.unsendable.name(content, unsendable.id);
        }
        match (&row.corrects, reference.filter(|_| !is_repeated)) {
            (None, _) => {
                let has_superseded = self.unsendable.supersede(content, text, false);
                // The row may now have another invalid reference.
                if !has_superseded && unsendable.content_without_reference.is_some() {
                    self.unsendable.supersede_by_cells(row.line, &row.record, &self.columns);
                }
            }
            (Some(_), Some(reference)) => self.unsendable.supersede_invalid(content, reference, false),
            // Many rows may have the same invalid reference; the line identifies the row.
            (Some(own), None) => self.unsendable.supersede_by_line(content, text, own),
        }
        RowPlan::InvalidOrDuplicate(unsendable)
    }

    /// Plans a row that breaks no rule.
    fn plan_valid<'a>(
        &mut self,
        row: &'a Row,
        customer: &'a Customer,
        known: Option<KnownRow>,
        pending_updates: &HashMap<RowId, PendingUpdate>,
        chunk: &mut ChunkReferences<'a>,
    ) -> RowPlan {
        let reference = customer.reference.as_str();
        let is_repeated = chunk.is_named(reference) || self.has_other(&customer.reference);
        if is_repeated || self.is_uncorrected(row, customer) {
            return self.plan_duplicate(row, customer, ReferenceRepeat::Yes);
        }
        if self.may_belong_to_another_row(row, customer, known.as_ref(), &chunk.unreadable) {
            return self.plan_duplicate(row, customer, ReferenceRepeat::Maybe);
        }
        match known {
            Some(known) => self.plan_known(known, row, customer, pending_updates),
            None if self.is_claimed(&customer.reference) || !chunk.new.insert(reference) => {
                self.plan_duplicate(row, customer, ReferenceRepeat::Yes)
            }
            None => self.plan_new(row, customer),
        }
    }

    fn plan_new(&mut self, row: &Row, customer: &Customer) -> RowPlan {
        self.supersede_invalid(row, customer);
        let id = self.take_id();
        if let NewRows::Forecast(keys) = &mut self.new_rows {
            keys.insert(customer.reference.key());
        }
        self.seen.mark(id);
        RowPlan::Create { id }
    }

    /// Plans a row whose reference the ledger has.
    fn plan_known(
        &mut self,
        known: KnownRow,
        row: &Row,
        customer: &Customer,
        pending_updates: &HashMap<RowId, PendingUpdate>,
    ) -> RowPlan {
        if self.seen.mark(known.id) || self.was_skipped(&known) {
            return self.plan_duplicate(row, customer, ReferenceRepeat::Yes);
        }
        self.supersede_invalid(row, customer);
        let is_same = known.has_fields(customer.fingerprint);
        let is_retry = self.command == Command::Retry;
        match known.outcome {
            // The row was settled before its line was read: it was in doubt, and Get confirmed it.
            Outcome::Created | Outcome::Existing if known.run == self.run && known.has_stated(customer) => {
                RowPlan::Keep { outcome: known.outcome, settled_by: known.run }
            }
            Outcome::Created | Outcome::Existing | Outcome::Updated => {
                self.imported_seen += 1;
                compare(&known, customer, pending_updates.get(&known.id), self.command)
            }
            Outcome::Rejected if is_same && !is_retry => RowPlan::keep_rejected(&known),
            _ if is_same || is_retry => RowPlan::Resend(known),
            _ => RowPlan::ResendCorrected(known),
        }
    }

    /// Plans a later row with a reference that another row owns or may own.
    fn plan_duplicate(&mut self, row: &Row, customer: &Customer, repeat: ReferenceRepeat) -> RowPlan {
        let (content, reference) = (customer.reference.key(), Some(customer.reference.as_str()));
        match &row.corrects {
            None => _ = self.unsendable.supersede(content, reference, true),
            Some(own) => self.unsendable.supersede_by_line(content, reference, own),
        }
        RowPlan::InvalidOrDuplicate(self.unsendable_row(row, content, repeat))
    }

    /// Supersedes the earlier record of an invalid row by a row that breaks no rule and owns its reference.
    fn supersede_invalid(&mut self, row: &Row, customer: &Customer) {
        if !self.unsendable.has_earlier() {
            return;
        }
        let is_of_source = row.corrects.is_none();
        let (content, reference) = (customer.reference.key(), customer.reference.as_str());
        self.unsendable.supersede_invalid(content, reference, is_of_source);
        if let Some(damaged) = self.zeros.without_zeros(&customer.reference) {
            self.unsendable.supersede_wrong_reference(&damaged);
        }
        if is_of_source && self.unsendable.has_contents_without_reference() {
            self.unsendable.supersede_by_cells(row.line, &row.record, &self.columns);
        }
    }

    /// Whether the row was a duplicate in the file that it comes from, and still has the same reference.
    fn is_uncorrected(&self, row: &Row, customer: &Customer) -> bool {
        let own = row.corrects.as_deref().filter(|own| own.is_of_duplicate());
        // An export without this information was written by another version of this program; the ledger has the
        // outcome.
        let was_duplicate = || self.unsendable.has(customer.reference.key());
        own.is_some_and(|Correction { repeats, .. }| repeats.unwrap_or_else(was_duplicate))
    }

    /// Whether the row's reference could not be read earlier, and its current reference is imported or belongs to an
    /// invalid row: then it may belong to another row of the same source, whose data must not be overwritten. If the
    /// data is the same, nothing would be overwritten.
    fn may_belong_to_another_row(
        &self,
        row: &Row,
        customer: &Customer,
        known: Option<&KnownRow>,
        unreadable: &UnreadableRuns,
    ) -> bool {
        let Some(own) = row.corrects.as_deref().filter(|own| !own.reference_was_read) else { return false };
        let differs = |known: &KnownRow| !known.has_fields(customer.fingerprint);
        self.unsendable.has(customer.reference.key())
            || known.is_some_and(|known| {
                differs(known) && unreadable.is_another_row(own, known, &self.unsendable.seen_before)
            })
    }

    fn unsendable_row(&mut self, row: &Row, content: u64, repeat: ReferenceRepeat) -> UnsendableRow {
        let is_as_it_was = row.corrects.is_some() && self.unsendable.has(content);
        UnsendableRow { id: self.take_id(), content, content_without_reference: None, repeat, is_as_it_was }
    }

    /// Whether the row is in the part of the source that this run skipped: one of the earlier runs settled it, on a
    /// line before the one that the run reached.
    fn was_skipped(&self, known: &KnownRow) -> bool {
        self.skipped_lines.get(&known.run).is_some_and(|line| known.line < *line)
    }

    /// Whether another worker has claimed an earlier row of this source with the reference.
    fn has_other(&self, reference: &Reference) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.has_other(reference))
    }

    /// Whether a new row of this source has the reference.
    pub(super) fn is_claimed(&self, reference: &Reference) -> bool {
        self.open_claims.has(reference)
            || matches!(&self.new_rows, NewRows::Forecast(keys) if keys.contains(&reference.key()))
    }

    /// Where to read the ledger for the lengths of its numbers: its first rows, and its last ones.
    pub(super) fn sampled_from(&self) -> Vec<RowId> {
        let last = RowId(self.next_id.0 - READ_ROWS as i64);
        match self.next_id.0 {
            ..=1 => Vec::new(),
            _ if last.0 <= 1 => vec![RowId(1)],
            _ => vec![RowId(1), last],
        }
    }

    /// The references that a valid row, which is new to the ledger, may have had with leading zeros. A row of a failed
    /// export that comes back with its own reference has lost none.
    pub(super) fn with_zeros(&self, row: &Row) -> Vec<Reference> {
        let Ok(customer) = &row.reading else { return Vec::new() };
        let is_its_own = self.zeros.is_of_export && self.unsendable.has_reference(&customer.reference);
        if is_its_own { Vec::new() } else { self.zeros.with_zeros(&customer.reference) }
    }

    /// The fault of a row whose reference has lost its leading zeros, given the rows of the ledger with these
    /// references. Those of this source, such as the rows `of_chunk`, are other customers.
    pub(super) fn lost_zeros(
        &self,
        row: &Row,
        candidates: &[Reference],
        found: &HashMap<String, KnownRow>,
        of_chunk: &HashSet<RowId>,
    ) -> Option<Faults> {
        let customer = row.reading.as_ref().ok()?;
        // In a failed export, an unknown reference replaces that of a row which is not imported.
        let is_corrected = |known: &KnownRow| {
            let is_its_line = row.corrects.as_ref().is_some_and(|own| own.line == known.line);
            self.zeros.is_of_export && (is_its_line || !known.outcome.is_success())
        };
        let is_of_source = |known: &KnownRow| {
            let is_of_worker = self.shared.is_some() && known.run == self.run;
            is_of_worker || of_chunk.contains(&known.id) || self.seen.has(known.id) || self.was_skipped(known)
        };
        let is_lost = |reference: &&Reference| match found.get(reference.as_str()) {
            Some(known) if is_of_source(known) => false,
            Some(known) => is_corrected(known) || lost_zeros::is_same_person(known, reference, customer),
            None => self.zeros.is_of_export && self.unsendable.has(reference.key()),
        };
        candidates.iter().find(is_lost).map(|_| lost_zeros::fault(&customer.reference))
    }

    /// Continues with this id for the next row.
    pub(super) fn set_next_id(&mut self, next_id: RowId) {
        self.next_id = next_id;
    }

    /// The plan of a row that this worker has adopted from another one, which had claimed it.
    pub(super) fn plan_adopted(
        &self,
        known: KnownRow,
        customer: &Customer,
        pending_updates: &HashMap<RowId, PendingUpdate>,
    ) -> RowPlan {
        match known.outcome {
            Outcome::Created | Outcome::Existing | Outcome::Updated => {
                compare(&known, customer, pending_updates.get(&known.id), self.command)
            }
            _ => RowPlan::Resend(known),
        }
    }

    /// The id of the next row.
    pub(super) fn next_id(&self) -> RowId {
        self.next_id
    }

    fn take_id(&mut self) -> RowId {
        let id = self.next_id;
        self.next_id = RowId(id.0 + 1);
        id
    }
}

/// The plan of an imported row, by the fields that the source has now.
fn compare(
    known: &KnownRow,
    customer: &Customer,
    pending: Option<&PendingUpdate>,
    command: Command,
) -> RowPlan {
    let before = known.fingerprint.unwrap_or_default();
    let landed = pending.filter(|pending| pending.may_have_landed);
    // What the row does not state stays as it is: a column that is gone is no reason to empty a field everywhere.
    let now = customer.fingerprint_over(landed.map_or(before, |landed| before.either(landed.fingerprint)));
    let is_refused =
        |pending: &PendingUpdate| pending.outcome == Outcome::Rejected && pending.fingerprint.is_same(now);
    match pending {
        None if before.is_same(now) => {
            return RowPlan::Keep { outcome: Outcome::Unchanged, settled_by: known.run };
        }
        Some(_) if before.is_same(now) && landed.is_none() => {
            return RowPlan::DropObsoleteUpdate { id: known.id, imported_by: known.run };
        }
        Some(pending) if command == Command::ImportAndUpdate && is_refused(pending) => {
            return RowPlan::keep_rejected(known);
        }
        _ => {}
    }
    let fields =
        before.differing(now) | landed.map_or(FieldSet::default(), |it| it.fingerprint.differing(now));
    if command == Command::Import {
        return RowPlan::ReportChanged { fields, imported_by: known.run };
    }
    // A field that was sent and is now empty must be emptied; a field that the file never had is not changed.
    let had = before.fields() | landed.map_or(FieldSet::default(), |it| it.fingerprint.fields());
    let update = CustomerUpdate {
        customer_id: String::new(),
        emptied: had.without(now.fields()).without(customer.unstated),
        fingerprint: now,
        api_reference: None,
        may_have_landed: landed.is_some(),
    };
    RowPlan::SendUpdate { known: known.clone(), fields, update: Box::new(update) }
}
