//! What a row of the source turns out to be, given all that the ledger knows, and what is written for it.
//!
//! The first row of a source with a reference owns it; any further one is a duplicate. A row that the ledger knows
//! is left, or claimed again, depending on what became of it and whether its fields are still the same.
//!
//! No SQL: rows are looked up in `sequence` and `sqlite`.

use std::collections::HashMap;

use super::{
    Claim, CustomerUpdate, Error, Ledger, Operation, Outcome, Tally,
    batch::{CommitBatch, UnimportedRow},
    checkpoint::CheckpointTracker,
    claim::{Subject, describe_unsendable},
    sqlite::prune::STAND_IN,
    sqlite::store::{KnownRow, OpenClaim},
    unsendable::{UnsendableRow, reference_of},
    update::{PendingUpdate, compare},
};
use crate::customer::{Customer, Fields, Row};

/// What a row of a batch turns out to be.
pub(super) enum RowPlan {
    /// Settled at once, in a row of its own that does not own its reference.
    UnsendableRows(UnsendableRow),
    /// Known and left as that run settled it; nothing is written.
    NextByKind(Outcome, i64),
    /// Rejected by a run that was pruned, and its cells with it: it is left, and they are kept again.
    Bare(i64),
    /// Imported by that run, and its fields differ.
    Changed(Fields, i64),
    /// Imported by that run and as it was, and an update that did not come to its end is of no use any more.
    Over(i64, i64),
    /// Imported, and its fields are to be changed at the API.
    Update(KnownRow, Fields, Box<CustomerUpdate>),
    /// New to the ledger.
    New(i64),
    /// Known and not settled, or to be tried again.
    Again(KnownRow),
    /// The same, with other fields than those whose cells are kept.
    Corrected(KnownRow),
}

impl RowPlan {
    /// Not sent again with the same fields; but without its cells `retry` could never send it either.
    pub(super) fn refused(known: &KnownRow) -> RowPlan {
        match known.run {
            STAND_IN => RowPlan::Bare(known.id),
            run => RowPlan::NextByKind(Outcome::Rejected, run),
        }
    }
}

impl Ledger {
    /// What each row of a chunk means, in file order.
    pub(super) async fn decide(&mut self, rows: &[Row]) -> Result<Vec<RowPlan>, Error> {
        let known = self.find(rows).await?;
        let outdated = if self.has_outdated {
            self.store.outdated(known.iter().flatten().map(|known| known.id)).await?
        } else {
            HashMap::new()
        };
        let mut here = self.here(rows).await?;
        let mut decisions = Vec::with_capacity(rows.len());
        for (row, known) in rows.iter().zip(known) {
            let decision = match (&row.reading, known) {
                // It has a row already, which stays as it is.
                (Err(_), _) if self.is_retry => RowPlan::NextByKind(Outcome::Invalid, self.run),
                (Err(faults), known) => self.meet_invalid(row, faults, known.as_ref(), &mut here),
                (Ok(customer), known) => {
                    match (self.meet_valid(row, customer, known.as_ref(), &mut here), known) {
                        (None, Some(known)) => {
                            let outdated = outdated.get(&known.id);
                            self.meet(known, row, customer, outdated)
                        }
                        (Some(decision), _) => decision,
                        (None, None) => self.new_row(row, customer),
                    }
                }
            };
            decisions.push(decision);
        }
        self.store.name_updates(&mut decisions).await?;
        self.keep_shared_customers(rows, &mut decisions).await?;
        Ok(decisions)
    }

    /// For each row the one that owns its reference: from the sequence that the ledger may be read in, or else by
    /// its hash.
    async fn find(&mut self, rows: &[Row]) -> Result<Vec<Option<KnownRow>>, Error> {
        if self.sequence.wants_more() {
            let more = self.store.read_sequence(self.sequence.next_id()).await?;
            self.sequence.extend(more);
        }
        let mut known = Vec::with_capacity(rows.len());
        let mut missed = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            let reference = reference_of(row);
            let next = reference.as_ref().and_then(|reference| self.sequence.find(reference));
            missed.extend(reference.filter(|_| next.is_none()).map(|reference| (at, reference)));
            known.push(next);
        }
        let keys: Vec<u64> = missed.iter().map(|(_, reference)| reference.key()).collect();
        let found = self.look_up(&keys).await?;
        for (at, reference) in &missed {
            known[*at] = found.get(reference.as_str()).cloned();
        }
        self.sequence.learn(&known, missed.len());
        Ok(known)
    }

    /// The rows whose references have one of these hashes, by reference.
    pub(super) async fn look_up(&mut self, keys: &[u64]) -> Result<HashMap<String, KnownRow>, Error> {
        let ids: Vec<i64> = keys.iter().flat_map(|key| self.recent.get(*key)).collect();
        let keys: Vec<u64> = keys.iter().copied().filter(|key| self.recent.may_be_in_table(*key)).collect();
        self.store.find(&keys, &ids).await
    }

    /// A row whose reference is new to the ledger.
    pub(super) fn new_row(&mut self, row: &Row, customer: &Customer) -> RowPlan {
        self.is_well(row, customer);
        let id = self.take_id();
        self.recent.insert(customer.reference.key(), id);
        self.met.mark(id);
        RowPlan::New(id)
    }

    /// A row whose reference the ledger knows.
    fn meet(
        &mut self,
        known: KnownRow,
        row: &Row,
        customer: &Customer,
        outdated: Option<&PendingUpdate>,
    ) -> RowPlan {
        if self.met.mark(known.id) || self.was_skipped(&known) {
            return self.duplicate(row, customer);
        }
        self.is_well(row, customer);
        let same = known.fingerprint == Some(customer.fingerprint);
        match known.outcome {
            // Settled before its line was read: it was in doubt, and Get has confirmed it.
            Outcome::Created | Outcome::Existing if same && known.run == self.run => {
                RowPlan::NextByKind(known.outcome, known.run)
            }
            Outcome::Created | Outcome::Existing | Outcome::Updated => {
                self.met_imported += 1;
                compare(&known, customer, outdated, self.send)
            }
            Outcome::Rejected if same && !self.is_retry => RowPlan::refused(&known),
            _ if same || self.is_retry => RowPlan::Again(known),
            _ => RowPlan::Corrected(known),
        }
    }

    /// Whether it stands in the part of the source that this run did not read: one of the runs that led to here
    /// settled it, before the place that it came to.
    pub(super) fn was_skipped(&self, known: &KnownRow) -> bool {
        self.skipped_lines.get(&known.run).is_some_and(|line| known.line < *line)
    }

    pub(super) fn take_id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id - 1
    }
}

/// Carries a decision out: counts the row, writes what it needs, and makes its claim if it is to
/// be sent.
pub(super) fn apply(
    row: Row,
    decision: RowPlan,
    write: &mut CommitBatch<'_>,
    tally: &mut Tally,
    progress: &mut CheckpointTracker,
) -> Option<Claim> {
    let Row { line, record, reading, corrects } = row;
    // Good now or still not: either way it stands for the earlier one.
    let is_as_it_was = matches!(&decision, RowPlan::UnsendableRows(faulty) if faulty.is_as_it_was);
    if let Some(correction) = corrects.as_deref().filter(|_| !is_as_it_was) {
        write.corrected(correction);
    }
    let mut amendment = None;
    let (id, known) = match (&reading, decision) {
        (_, RowPlan::NextByKind(outcome, run)) => {
            tally.add(outcome);
            progress.settled_at_once(outcome, run);
            if !outcome.is_success() {
                write.left_over(|| UnimportedRow::new(line, outcome));
            }
            return None;
        }
        (_, RowPlan::Bare(id)) => {
            tally.add(Outcome::Rejected);
            progress.settled_at_once(Outcome::Rejected, STAND_IN);
            write.left_over(|| UnimportedRow::new(line, Outcome::Rejected));
            write.keep_record(id, &record);
            return None;
        }
        (reading, RowPlan::UnsendableRows(faulty)) => {
            let (outcome, reference, trouble) = describe_unsendable(reading, faulty.repeats);
            tally.add(outcome);
            progress.settled_at_once(outcome, write.run);
            write.settle_unowned(&faulty, line, outcome, reference.as_deref(), &trouble, &record);
            return None;
        }
        (_, RowPlan::Over(id, run)) => {
            write.updates.is_over(id);
            write.erased.push(&id);
            tally.add(Outcome::Unchanged);
            progress.settled_at_once(Outcome::Unchanged, run);
            return None;
        }
        (_, RowPlan::Changed(fields, run)) => {
            write.updates.changed.push((line, fields));
            tally.add(Outcome::Changed);
            progress.settled_at_once(Outcome::Changed, run);
            return None;
        }
        (_, RowPlan::Update(found, fields, differing)) => {
            write.updates.changed.push((line, fields));
            amendment = Some(differing);
            (found.id, Some(found))
        }
        (_, RowPlan::New(id)) => (id, None),
        (_, RowPlan::Again(found)) => (found.id, Some(found)),
        (_, RowPlan::Corrected(found)) => {
            // If this run dies, a retry must not send what its file had corrected.
            write.erased.push(&found.id);
            write.renewed.push(&found.id);
            (found.id, Some(found))
        }
    };
    let Ok(customer) = reading else { return None };
    tally.add(Outcome::Pending);
    let in_doubt = known.as_ref().filter(|known| known.in_doubt);
    let was_sent = known.as_ref().filter(|known| known.in_doubt || known.was_sent);
    let claim = Claim {
        id,
        line,
        errand: match (&amendment, in_doubt) {
            (Some(_), _) => Operation::Update,
            (None, Some(_)) => Operation::Confirm,
            (None, None) => Operation::Create,
        },
        claimed_at: was_sent.and_then(|known| known.claimed_at).unwrap_or(write.now),
        prior: was_sent.and_then(|known| known.fingerprint),
        was_sent: was_sent.is_some(),
        known: known.is_some(),
        chunk: Some(progress.claimed()),
        subject: Subject::Row(customer, record),
        amendment,
        may_belong_to_another_row: corrects.is_some_and(|own| !own.reference_was_read),
    };
    if claim.errand == Operation::Update {
        write.updates.begin(&claim);
    }
    Some(claim)
}

pub(super) fn claim_doubt(doubt: OpenClaim, now: i64) -> Claim {
    let OpenClaim { id, line, reference, fingerprint, claimed_at } = doubt;
    Claim {
        id,
        line,
        subject: Subject::OpenClaim(reference),
        errand: Operation::Confirm,
        claimed_at: claimed_at.unwrap_or(now),
        known: true,
        chunk: None,
        prior: fingerprint,
        was_sent: true,
        amendment: None,
        may_belong_to_another_row: false,
    }
}
