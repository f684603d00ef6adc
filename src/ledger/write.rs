//! What one commit will write, collected before its transaction begins.
//!
//! Pure: turns claims and settlements into the parameters of the bulk statements, so that the time
//! in which the file is locked holds nothing but SQLite's own work.

use serde::Serialize;

use super::{Claim, Ending, Evidence, Outcome, Settlement, Trouble, claim::Subject};
use crate::customer::{Correction, Dropped, Fingerprint, Record, Reference};

/// Rows of a bulk statement as one JSON array.
pub(super) struct JsonRows(Vec<u8>);

impl JsonRows {
    fn new() -> JsonRows {
        JsonRows(Vec::new())
    }

    fn push(&mut self, row: &impl Serialize) {
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

/// A claimed row that got its customer id; the rest of it stands in its claim.
pub(super) struct WithId<'a> {
    pub(super) id: i64,
    pub(super) outcome: Outcome,
    pub(super) fingerprint: Fingerprint,
    pub(super) customer_id: &'a str,
    pub(super) attempts: u32,
    pub(super) evidence: Evidence,
}

/// The statements of one commit, collected before the transaction begins.
pub(super) struct Write<'a> {
    pub(super) run: i64,
    pub(super) now: i64,
    /// Ids of claims that have come to their end, and how many.
    pub(super) ended: JsonRows,
    pub(super) ended_count: u64,
    /// For `row`: with a customer id, and without.
    pub(super) with_id: Vec<WithId<'a>>,
    pub(super) without_id: JsonRows,
    /// For `record`: raw cells to keep, and ids of those to erase.
    pub(super) records: JsonRows,
    pub(super) erased: JsonRows,
    /// For `row`: those that were corrected.
    pub(super) corrected: JsonRows,
    /// For `dropped`.
    pub(super) dropped: Dropped,
}

impl<'a> Write<'a> {
    pub(super) fn new(run: i64, now: i64) -> Write<'a> {
        Write {
            run,
            now,
            ended: JsonRows::new(),
            ended_count: 0,
            with_id: Vec::new(),
            without_id: JsonRows::new(),
            records: JsonRows::new(),
            erased: JsonRows::new(),
            corrected: JsonRows::new(),
            dropped: Dropped::default(),
        }
    }

    /// A row that an earlier run found invalid or a duplicate has come back.
    pub(super) fn corrected(&mut self, correction: &Correction) {
        self.corrected.push(&(correction.line, &correction.outcome, &correction.code));
    }

    pub(super) fn settle(&mut self, settlement: &'a Settlement) {
        let Settlement { claim, ending, attempts } = settlement;
        let sent = claim.customer().map_or_else(|| claim.fingerprint(), |customer| customer.fingerprint);
        self.ended.push(&claim.id);
        self.ended_count += 1;
        match ending {
            Ending::Created { customer_id, evidence } | Ending::Existing { customer_id, evidence } => {
                // What Get found is what an earlier run sent; its fields count, not today's.
                let earlier = matches!(evidence, Evidence::Found { earlier: true, .. });
                let ours = earlier && ending.outcome() == Outcome::Created;
                let fingerprint = if ours { claim.fingerprint() } else { sent };
                let (id, outcome, attempts, evidence) = (claim.id, ending.outcome(), *attempts, *evidence);
                self.with_id.push(WithId { id, outcome, fingerprint, customer_id, attempts, evidence });
                if claim.known {
                    self.erased.push(&claim.id);
                }
            }
            Ending::Rejected(trouble) | Ending::Failed(trouble) => {
                self.settle_without_id(claim, ending, sent, trouble, *attempts, false);
            }
            Ending::Pending { trouble, in_doubt } => {
                let fingerprint = if *in_doubt { claim.fingerprint() } else { sent };
                self.settle_without_id(claim, ending, fingerprint, trouble, *attempts, *in_doubt);
            }
        }
    }

    /// A row that owns no reference: invalid or duplicate.
    pub(super) fn settle_unowned(
        &mut self,
        id: i64,
        line: u64,
        outcome: Outcome,
        reference: Option<String>,
        trouble: Trouble,
        record: &Record,
    ) {
        let Trouble { field, code, message, .. } = trouble;
        let none = None::<i64>;
        let key = reference.as_deref().map(|reference| signed(Reference::recorded(reference).key()));
        self.without_id.push(&(
            id, line, outcome, reference, key, none, 0, none, false, field, code, message, none, none,
        ));
        self.keep_record(id, record);
    }

    fn settle_without_id(
        &mut self,
        claim: &Claim,
        ending: &Ending,
        fingerprint: Fingerprint,
        trouble: &Trouble,
        attempts: u32,
        in_doubt: bool,
    ) {
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
        ));
        if let Subject::Row(_, record) = &claim.subject {
            self.keep_record(claim.id, record);
        }
    }

    fn keep_record(&mut self, id: i64, record: &Record) {
        self.records.push(&(id, record.cells().collect::<Vec<_>>()));
    }
}

/// SQLite's integers are signed; the bits are what counts.
pub(super) fn signed(key: u64) -> i64 {
    key as i64
}

/// JSON has no bytes; SQLite turns this back with `unhex`.
fn hex(fingerprint: &Fingerprint) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    fingerprint.as_bytes().iter().flat_map(digits).map(char::from).collect()
}
