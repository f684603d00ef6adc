//! Rows of a [`CommitBatch`] as JSON arrays: one parameter of one statement for all rows of a kind.
//!
//! JSON is simpler than one parameter per value, and slower, so it is used only for kinds with few rows. The SQL of both
//! backends refers to the values by their positions, which are defined here.
//!
//! Pure: the store decides which statements are run, and when.

use serde::{Serialize, Serializer};

use super::{
    batch::{CommitBatch, UpdateRows},
    claim::RowError,
    model::{Outcome, RequestCounts, RowId, Setting, Tally},
    timeline::Sample,
};
use crate::customer::{Fingerprint, Reference};

/// Rows as one JSON array.
pub(super) fn json_rows(rows: impl IntoIterator<Item = impl Serialize>) -> String {
    let mut bytes = Vec::new();
    // Writing numbers and text to memory cannot fail.
    let written = serde_json::Serializer::new(&mut bytes).collect_seq(rows);
    debug_assert!(written.is_ok());
    String::from_utf8(bytes).unwrap_or_default()
}

/// Rows as one JSON array; none without rows.
fn some_json_rows(rows: impl ExactSizeIterator<Item = impl Serialize>) -> Option<String> {
    (rows.len() > 0).then(|| json_rows(rows))
}

/// Ids as one JSON array.
pub(super) fn json_ids(ids: &[RowId]) -> String {
    json_rows(ids)
}

/// The integers of both databases are signed; the bits stay the same.
pub(super) fn signed(key: u64) -> i64 {
    key as i64
}

/// Hexadecimal, because JSON has no bytes; the statement converts it back.
pub(super) fn hex(fingerprint: &Fingerprint) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    fingerprint.as_bytes().iter().flat_map(digits).map(char::from).collect()
}

/// The rows of a batch as JSON arrays, prepared before the transaction begins; none for a kind without rows.
pub(super) struct BatchJson {
    pub(super) ended_claims: Option<String>,
    pub(super) new_claims: Option<String>,
    pub(super) repeated_claims: Option<String>,
    pub(super) without_id: Option<String>,
    pub(super) superseded_by_id: Option<String>,
    pub(super) superseded_by_line: Option<String>,
    pub(super) superseded_by_cells: Option<String>,
    pub(super) corrected: Option<String>,
    pub(super) updates: UpdatesJson,
}

/// The Updates of a batch as JSON arrays; none for a kind without rows.
pub(super) struct UpdatesJson {
    pub(super) begun: Option<String>,
    pub(super) updated: Option<String>,
    pub(super) unfinished: Option<String>,
    pub(super) new_unfinished: Option<String>,
    pub(super) restored: Option<String>,
    pub(super) finished: Option<String>,
}

impl BatchJson {
    pub(super) fn of(batch: &CommitBatch<'_>) -> BatchJson {
        let superseded = &batch.superseded;
        BatchJson {
            ended_claims: some_json_rows(batch.ended_claims.iter()),
            new_claims: some_json_rows(batch.new_claims.iter().map(|it| {
                let (reference, key) = (it.reference.as_str(), signed(it.reference.key()));
                (it.id, it.line, reference, key, hex(&it.fingerprint))
            })),
            repeated_claims: some_json_rows(
                batch
                    .repeated_claims
                    .iter()
                    .map(|it| (it.id, it.line, hex(&it.fingerprint), it.claimed_at, it.is_counted)),
            ),
            without_id: some_json_rows(batch.without_id.iter().map(|it| {
                let RowError { field, code, message, http_status, request_id } = it.error;
                let (reference, key) = (it.reference.as_str(), signed(it.reference.key()));
                let fingerprint = hex(&it.fingerprint);
                (
                    it.id,
                    it.line,
                    it.outcome,
                    reference,
                    key,
                    fingerprint,
                    it.attempts,
                    it.claimed_at,
                    it.in_doubt,
                    field,
                    code,
                    message,
                    http_status,
                    request_id,
                    it.may_have_landed,
                )
            })),
            superseded_by_id: some_json_rows(
                superseded.by_id.iter().map(|it| (it.id, &it.reference, it.even_duplicate)),
            ),
            superseded_by_line: some_json_rows(superseded.by_line.iter().map(|it| {
                let key = it.reference.as_deref().map(|text| Reference::recorded(text).key());
                (it.line, signed(it.content), &it.reference, Some(it.content) == key)
            })),
            superseded_by_cells: some_json_rows(
                superseded.by_cells.iter().map(|it| (it.line, signed(it.content_without_reference))),
            ),
            corrected: some_json_rows(
                batch.corrected.iter().map(|it| (it.line, it.outcome.name(), &it.code)),
            ),
            updates: UpdatesJson::of(&batch.updates),
        }
    }
}

impl UpdatesJson {
    fn of(updates: &UpdateRows<'_>) -> UpdatesJson {
        UpdatesJson {
            begun: some_json_rows(updates.begun.iter().map(|it| (it.id, it.line, hex(&it.fingerprint)))),
            updated: some_json_rows(
                updates.updated.iter().map(|it| (it.id, it.line, hex(&it.fingerprint), it.attempts)),
            ),
            unfinished: some_json_rows(updates.unfinished.iter().map(|it| {
                let RowError { code, message, http_status, request_id, .. } = it.error;
                let landed = i64::from(it.may_have_landed);
                (it.id, it.outcome, landed, it.attempts, code, message, http_status, request_id)
            })),
            new_unfinished: some_json_rows(updates.new_unfinished.iter().map(|it| {
                let RowError { code, message, http_status, request_id, .. } = it.error;
                (
                    it.id,
                    it.line,
                    it.outcome,
                    hex(&it.fingerprint),
                    i64::from(it.may_have_landed),
                    it.attempts,
                    code,
                    message,
                    http_status,
                    request_id,
                )
            })),
            restored: some_json_rows(updates.restored.iter()),
            finished: some_json_rows(updates.finished.iter()),
        }
    }
}

/// The outcomes that are to be counted, with their rows. Only the count of pending rows can return to zero.
pub(super) fn json_outcomes(tally: &Tally) -> String {
    let is_counted = |outcome: &Outcome| tally.get(*outcome) > 0 || *outcome == Outcome::Pending;
    json_rows(Outcome::ALL.into_iter().filter(is_counted).map(|outcome| (outcome, tally.get(outcome))))
}

/// Settings: name, value and origin.
pub(super) fn json_settings(settings: &[Setting]) -> String {
    json_rows(settings.iter().map(|it| (&it.name, &it.value, it.origin.as_str())))
}

/// Samples, each as a row.
pub(super) fn json_samples(samples: &[Sample]) -> String {
    json_rows(samples.iter().map(sample_columns))
}

fn sample_columns(sample: &Sample) -> impl Serialize {
    let Sample { from, to, succeeded, faulty, failed, request_counts, in_flight, held_rate, latencies } =
        sample;
    let RequestCounts { requests, retries, throttled } = *request_counts;
    let latencies: Vec<_> = latencies.counts().collect();
    let (from, to) = (from.as_millis() as u64, to.as_millis() as u64);
    (from, to, *succeeded, *faulty, *failed, requests, retries, throttled, *in_flight, *held_rate, latencies)
}
