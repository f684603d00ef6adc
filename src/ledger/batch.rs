//! What one commit will write, collected before its transaction begins.
//!
//! Pure, but that it looks whether anybody follows the log: turns claims and settlements into the parameters of the bulk statements, so that the time
//! in which the file is locked holds nothing but SQLite's own work.

use std::sync::Arc;

use serde::Serialize;
use tracing::{Level, enabled};

use super::{
    ApiCustomer, Claim, ExistingCounts, Heartbeat, IdSource, Outcome, RowError, RowResult, Settlement,
    UpdateResult,
    checkpoint::Checkpoint,
    claim::Subject,
    unsendable::{UnsendableChanges, UnsendableRow},
    update::UpdateRows,
};
use crate::customer::{Correction, Dropped, Fingerprint, Record, Reference};

/// Rows of a bulk statement as one JSON array.
#[derive(Default)]
pub(super) struct JsonRows(Vec<u8>);

impl JsonRows {
    fn new() -> JsonRows {
        JsonRows(Vec::new())
    }

    pub(super) fn push(&mut self, row: &impl Serialize) {
        self.0.push(if self.0.is_empty() { b'[' } else { b',' });
        // Writing numbers and strings to memory has nothing to fail with.
        let written = serde_json::to_writer(&mut self.0, row);
        debug_assert!(written.is_ok());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The array as text; SQLite counts on valid UTF-8, which `serde_json` gives.
    pub(super) fn text(&self) -> String {
        let mut bytes = self.0.clone();
        bytes.extend_from_slice(if bytes.is_empty() { b"[]" } else { b"]" });
        String::from_utf8(bytes).unwrap_or_default()
    }
}

/// A claimed row that got its customer id.
pub(super) struct SettledWithId<'a> {
    pub(super) id: i64,
    pub(super) line: i64,
    pub(super) reference: &'a Reference,
    pub(super) claimed_at: i64,
    pub(super) outcome: Outcome,
    pub(super) fingerprint: Fingerprint,
    pub(super) customer_id: &'a Arc<str>,
    pub(super) attempts: u32,
    pub(super) id_source: IdSource,
    /// The API's api_reference of the reference, where it is another one.
    pub(super) api_reference: Option<&'a Reference>,
}

/// The statements of one commit, collected before the transaction begins.
pub(super) struct CommitBatch<'a> {
    pub(super) run: i64,
    pub(super) now: i64,
    /// For `claim_batch`: those that have come to their end, and how many.
    pub(super) ended: JsonRows,
    pub(super) ended_count: u64,
    /// The claims of a new one, and the id of the first.
    pub(super) claimed: JsonRows,
    pub(super) claimed_first: Option<i64>,
    /// For `row`: claims of rows that are there.
    pub(super) claimed_again: JsonRows,
    /// Those of them that are not what they were.
    pub(super) renewed: JsonRows,
    /// For `row`: new ones whose Create was answered with an id, others with one, and those without.
    pub(super) created: Vec<SettledWithId<'a>>,
    pub(super) with_id: Vec<SettledWithId<'a>>,
    pub(super) without_id: JsonRows,
    /// Whether rows are among them that were known and are not settled, and in no doubt.
    pub(super) gives_back: bool,
    /// For `row`: those that own no reference.
    pub(super) unowned: UnsendableChanges,
    /// For `record`: raw cells to keep, and ids of those to erase.
    pub(super) records: JsonRows,
    pub(super) erased: JsonRows,
    /// For `row`: those that were corrected.
    pub(super) corrected: JsonRows,
    /// For `dropped`.
    pub(super) dropped: Dropped,
    /// For `checkpoint`.
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) updates: UpdateRows,
    /// For `existing_differing`, and the run's count.
    pub(super) existing: ExistingCounts,
    /// For `live`.
    pub(super) live: Option<Heartbeat>,
    /// For the log, once it is true.
    pub(super) left_over: Vec<UnimportedRow>,
}

/// A row that is not imported, in words of ours alone: what the API says of it may repeat its fields.
pub(super) struct UnimportedRow {
    pub(super) line: u64,
    pub(super) outcome: Outcome,
    pub(super) field: Option<String>,
    pub(super) rule: Option<String>,
    pub(super) http_status: Option<u16>,
    pub(super) requests: u32,
}

impl UnimportedRow {
    pub(super) fn new(line: u64, outcome: Outcome) -> UnimportedRow {
        UnimportedRow { line, outcome, field: None, rule: None, http_status: None, requests: 0 }
    }
}

impl<'a> CommitBatch<'a> {
    pub(super) fn new(run: i64, now: i64) -> CommitBatch<'a> {
        CommitBatch {
            run,
            now,
            ended: JsonRows::new(),
            ended_count: 0,
            claimed: JsonRows::new(),
            claimed_first: None,
            claimed_again: JsonRows::new(),
            renewed: JsonRows::new(),
            created: Vec::new(),
            with_id: Vec::new(),
            without_id: JsonRows::new(),
            gives_back: false,
            unowned: UnsendableChanges::default(),
            records: JsonRows::new(),
            erased: JsonRows::new(),
            corrected: JsonRows::new(),
            dropped: Dropped::default(),
            checkpoint: None,
            updates: UpdateRows::default(),
            existing: ExistingCounts::default(),
            live: None,
            left_over: Vec::new(),
        }
    }

    /// A row that an earlier run found invalid or a duplicate has come back.
    pub(super) fn corrected(&mut self, correction: &Correction) {
        self.corrected.push(&(correction.line, &correction.outcome, &correction.code));
    }

    /// Whether all it would tell is the run's counts.
    pub(super) fn is_empty(&self) -> bool {
        let CommitBatch { created, with_id, .. } = self;
        let CommitBatch { ended, without_id, claimed, claimed_again, records, erased, corrected, .. } = self;
        [created, with_id].into_iter().all(Vec::is_empty)
            && [ended, without_id, claimed, claimed_again, records, erased, corrected]
                .into_iter()
                .all(JsonRows::is_empty)
            && self.dropped.is_empty()
            && self.unowned.is_empty()
            && self.updates.is_empty()
            && self.existing == ExistingCounts::default()
            && self.live.is_none()
    }

    /// A row is to be sent.
    pub(super) fn claim(&mut self, claim: &Claim) {
        let (line, fingerprint) = (claim.line, hex(&claim.fingerprint()));
        if claim.known {
            self.claimed_again.push(&(claim.id, line, fingerprint, claim.claimed_at));
        } else {
            let (reference, key) = (claim.reference().as_str(), signed(claim.reference().key()));
            self.claimed.push(&(claim.id, line, reference, key, fingerprint));
            self.claimed_first.get_or_insert(claim.id);
        }
    }

    /// The last claim of this batch is settled.
    pub(super) fn end_batch(&mut self, first: i64) {
        self.ended.push(&first);
        self.ended_count += 1;
    }

    /// A row that is not imported, for whoever follows the log.
    pub(super) fn left_over(&mut self, row: impl FnOnce() -> UnimportedRow) {
        if enabled!(Level::DEBUG) {
            self.left_over.push(row());
        }
    }

    pub(super) fn settle(&mut self, settlement: &'a Settlement) {
        let Settlement { claim, ending, effort } = settlement;
        let attempts = &effort.requests;
        if let Some(amendment) = claim.update() {
            self.updates.settle(claim, amendment, ending, *attempts);
            if !ending.outcome().is_success() {
                self.left_over(|| UnimportedRow {
                    requests: *attempts,
                    ..UnimportedRow::new(claim.line, ending.outcome())
                });
            }
            match (ending, &claim.subject) {
                (RowResult::Updated, _) => self.erased.push(&claim.id),
                (_, Subject::Row(_, record)) => self.keep_record(claim.id, record),
                _ => {}
            }
            return;
        }
        let sent = claim.customer().map_or_else(|| claim.fingerprint(), |customer| customer.fingerprint);
        match ending {
            RowResult::Created(located) => {
                let fingerprint = match located.id_source {
                    // What Get found is what an earlier run sent; its fields count, not today's.
                    IdSource::Found { earlier: true, .. } => claim.earlier(),
                    IdSource::Found { earlier: false, .. } => claim.fingerprint(),
                    IdSource::Answer => sent,
                };
                self.settle_located(settlement, located, Outcome::Created, fingerprint);
            }
            RowResult::Existing(located) => {
                self.existing(claim, located, sent);
                self.settle_located(settlement, located, Outcome::Existing, sent);
            }
            RowResult::ExistingThenUpdate(located, to) => self.settle_amended(settlement, located, to, sent),
            // Only updates end like this, and they went another way.
            RowResult::Updated => {}
            RowResult::Rejected(trouble) => self.settle_without_id(settlement, sent, trouble, false),
            RowResult::Failed(trouble) => {
                let fingerprint = if effort.may_have_landed { claim.fingerprint() } else { sent };
                self.settle_without_id(settlement, fingerprint, trouble, false);
            }
            RowResult::Pending { trouble, in_doubt } => {
                self.gives_back |= claim.known && !in_doubt;
                let fingerprint = if effort.may_have_landed { claim.fingerprint() } else { sent };
                self.settle_without_id(settlement, fingerprint, trouble, *in_doubt);
            }
        }
    }

    /// A row whose customer the API has; `fingerprint` is of the fields that it may have by our doing.
    fn settle_located(
        &mut self,
        settlement: &'a Settlement,
        located: &'a ApiCustomer,
        outcome: Outcome,
        fingerprint: Fingerprint,
    ) {
        let claim = &settlement.claim;
        self.existing.respelled += u64::from(located.api_reference.is_some());
        let is_plain = !claim.known && outcome == Outcome::Created && located.id_source == IdSource::Answer;
        let rows =
            if is_plain && located.api_reference.is_none() { &mut self.created } else { &mut self.with_id };
        rows.push(SettledWithId {
            id: claim.id,
            line: claim.line as i64,
            reference: claim.reference(),
            claimed_at: claim.claimed_at,
            outcome,
            fingerprint: located.remembered(fingerprint),
            customer_id: &located.customer_id,
            attempts: settlement.effort.requests,
            id_source: located.id_source,
            api_reference: located.api_reference.as_ref(),
        });
        if claim.known {
            self.erased.push(&claim.id);
        }
    }

    /// Counts what the report says of a customer that was there.
    fn existing(&mut self, claim: &Claim, located: &ApiCustomer, sent: Fingerprint) {
        let is_uncertain = matches!(located.id_source, IdSource::Found { is_uncertain: true, .. });
        self.existing.uncertain += u64::from(is_uncertain);
        // The row of one that was in doubt is still to be read, and is compared then.
        if claim.customer().is_some() {
            self.existing.add(located.differing(sent));
        }
    }

    /// A customer that was there with other fields, and the Update that was sent for it.
    fn settle_amended(
        &mut self,
        settlement: &'a Settlement,
        located: &'a ApiCustomer,
        to: &UpdateResult,
        sent: Fingerprint,
    ) {
        let claim = &settlement.claim;
        self.existing(claim, located, sent);
        let Some(trouble) = to.trouble() else {
            self.settle_located(settlement, located, Outcome::Updated, sent);
            if let Some(updated) = self.with_id.last_mut() {
                updated.fingerprint = sent;
            }
            return;
        };
        self.settle_located(settlement, located, Outcome::Existing, sent);
        let unsure = !matches!(to, UpdateResult::Rejected(_));
        self.updates.outdate(claim, settlement.ending.outcome(), unsure, settlement.effort.requests, trouble);
        self.left_over(|| UnimportedRow {
            http_status: trouble.http_status,
            requests: settlement.effort.requests,
            ..UnimportedRow::new(claim.line, settlement.ending.outcome())
        });
        if let Subject::Row(_, record) = &claim.subject {
            self.keep_record(claim.id, record);
        }
    }

    /// A row that owns no reference: invalid or duplicate.
    pub(super) fn settle_unowned(
        &mut self,
        faulty: &UnsendableRow,
        line: u64,
        outcome: Outcome,
        reference: Option<&str>,
        trouble: &RowError,
        record: &Record,
    ) {
        self.left_over(|| UnimportedRow {
            field: trouble.field.clone(),
            rule: trouble.code.clone(),
            ..UnimportedRow::new(line, outcome)
        });
        self.unowned.add(faulty, line, outcome, reference, trouble);
        self.keep_record(faulty.id, record);
    }

    fn settle_without_id(
        &mut self,
        settlement: &Settlement,
        fingerprint: Fingerprint,
        trouble: &RowError,
        in_doubt: bool,
    ) {
        let Settlement { claim, ending, effort } = settlement;
        let attempts = effort.requests;
        let http_status = trouble.http_status;
        let row = || UnimportedRow {
            http_status,
            requests: attempts,
            ..UnimportedRow::new(claim.line, ending.outcome())
        };
        self.left_over(row);
        let reference = claim.reference();
        self.without_id.push(&(
            claim.id,
            claim.line,
            ending.outcome(),
            reference.as_str(),
            signed(reference.key()),
            hex(&fingerprint),
            attempts,
            claim.claimed_at,
            in_doubt,
            &trouble.field,
            &trouble.code,
            &trouble.message,
            trouble.http_status,
            &trouble.request_id,
            effort.may_have_landed,
        ));
        if let Subject::Row(_, record) = &claim.subject {
            self.keep_record(claim.id, record);
        }
    }

    /// A row that comes out of the ledger brings no cells: they are there.
    pub(super) fn keep_record(&mut self, id: i64, record: &Record) {
        if record.cells().next().is_none() {
            return;
        }
        self.records.push(&(id, record.cells().collect::<Vec<_>>()));
    }
}

/// SQLite's integers are signed; the bits are what counts.
pub(super) fn signed(key: u64) -> i64 {
    key as i64
}

/// JSON has no bytes; SQLite turns this back with `unhex`.
pub(super) fn hex(fingerprint: &Fingerprint) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    fingerprint.as_bytes().iter().flat_map(digits).map(char::from).collect()
}
