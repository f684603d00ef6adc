//! A row between its claim and its settlement.
//!
//! A [`Claim`] is the right to send requests for a row, and only the ledger makes one, after the commit;
//! [`Claim::settle`] consumes it. So the types guarantee that no request is sent without a committed claim, and that
//! each claim is settled once.

use std::sync::Arc;

use super::{
    checkpoint::ChunkNumber,
    model::{KnownRow, OpenClaim, Outcome, RowId, RunId},
};
use crate::customer::{Correction, Customer, Fault, Faults, Field, FieldSet, Fingerprint, Record, Reference};

/// Precedes the message of a row that may not be a duplicate.
const OWN_ROW: &str =
    "if this is that customer's own row, correct its file and import the whole of it; else ";

/// Why a row did not succeed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowError {
    /// The field at fault, for an invalid row.
    pub field: Option<String>,
    /// The API's code, the rule's name, or a code of this program.
    pub code: Option<String>,
    /// The API's message, or one of this program.
    pub message: Option<String>,
    /// The HTTP status of the last response.
    pub http_status: Option<u16>,
    /// The API's id of the request; its support needs it.
    pub request_id: Option<String>,
}

impl RowError {
    /// The code of a row whose last response came from a proxy or gateway, not from the API.
    pub const NOT_THE_API: &str = "not-the-api";

    /// The error of a row that cannot be sent: invalid, or a duplicate. If an invalid row has the reference of another
    /// row, the error says so too, because correcting only the fault would not make the row a customer.
    pub(crate) fn of_unsendable(reading: &Result<Customer, Faults>, repeats: ReferenceRepeat) -> RowError {
        let (field, code) = (Field::Reference.name(), Correction::DUPLICATE);
        match reading {
            Ok(_) => {
                let own = match repeats {
                    ReferenceRepeat::Maybe => OWN_ROW,
                    ReferenceRepeat::No | ReferenceRepeat::Yes => "",
                };
                RowError {
                    field: Some(field.into()),
                    code: Some(code.into()),
                    message: Some(own.to_owned() + &Correction::message(None)),
                    ..RowError::default()
                }
            }
            Err(faults) => {
                let join = |part: fn(&Fault) -> String, more: &str| {
                    let parts = faults
                        .list
                        .iter()
                        .map(part)
                        .chain((repeats != ReferenceRepeat::No).then(|| more.to_owned()));
                    Some(parts.collect::<Vec<_>>().join(";"))
                };
                let remedy = |fault: &Fault| {
                    format!("{fault}; {}", fault.rule.advice(fault.field, &fault.seen).remedy)
                };
                RowError {
                    field: join(|fault| fault.field_name().into(), field),
                    code: join(|fault| fault.rule.name().into(), code),
                    message: join(remedy, &Correction::message(None)),
                    ..RowError::default()
                }
            }
        }
    }
}

/// Whether another row of the source has the reference of a row that cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReferenceRepeat {
    No,
    /// Unknown: the reference could not be read earlier, so it cannot be assigned to a row.
    Maybe,
    Yes,
}

/// The purpose of a claim.
#[derive(Debug)]
pub enum Operation {
    /// Create the customer, which the API does not have as far as is known.
    Create {
        /// An earlier Create of the row that may have landed at some time, whatever Get has returned since.
        prior: Option<PriorCreate>,
    },
    /// Look the customer up first: an earlier run may have created it without receiving the response.
    Confirm(PriorCreate),
    /// Update the customer: the API has it, with other fields.
    Update(Box<CustomerUpdate>),
}

/// A Create sent by an earlier run.
#[derive(Clone, Copy, Debug)]
pub struct PriorCreate {
    /// The fields that were sent, as far as they are known.
    pub(super) sent: Option<Fingerprint>,
}

/// The changes to make to a customer at the API.
#[derive(Debug)]
pub struct CustomerUpdate {
    /// The customer id.
    pub customer_id: String,
    /// Fields that no longer have a value.
    pub emptied: FieldSet,
    /// What the customer has afterwards.
    pub(super) fingerprint: Fingerprint,
    /// The API's spelling of the reference, if it differs from the row's.
    pub(super) api_reference: Option<Reference>,
    /// Whether an earlier Update may have landed.
    pub(super) may_have_landed: bool,
}

/// The row that is claimed.
#[derive(Debug)]
pub(super) enum ClaimedRow {
    /// A row of the run's source.
    OfSource {
        customer: Customer,
        record: Record,
        /// The chunk of the source that contains the row.
        chunk: ChunkNumber,
        /// Whether the ledger has a record of the row besides this claim.
        is_known: bool,
    },
    /// A row that an earlier run left in doubt. The ledger does not store its fields, so the row can be looked up but
    /// not sent.
    InDoubt(Reference, InDoubtClaim),
}

/// Where a row in doubt, of which only the reference is known, was claimed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InDoubtClaim {
    /// In an earlier run: the row is no row of this run's source.
    OfEarlierRun,
    /// In this run, by a worker that has died or left: the row is counted as pending.
    OfThisRun,
}

/// A row of the source for which a request is to be sent.
pub(super) struct RowToSend {
    pub(super) line: u64,
    pub(super) customer: Customer,
    pub(super) record: Record,
    pub(super) chunk: ChunkNumber,
}

/// The row of the ledger that a row of the source is.
pub(super) enum LedgerRow {
    /// None yet; it will have this id.
    New(RowId),
    Known(KnownRow),
}

/// When a row was first claimed. A claim from the future was made by a wrong clock: by that time, a customer that this
/// run creates would be older than its claim.
fn first_claimed_at(earlier: Option<i64>, now: i64) -> i64 {
    earlier.map_or(now, |earlier| earlier.min(now))
}

/// A run's committed promise to settle a row; the right to send requests for it.
#[derive(Debug)]
pub struct Claim {
    pub(super) run: RunId,
    pub(super) id: RowId,
    pub(super) line: u64,
    pub(super) row: ClaimedRow,
    pub(super) operation: Operation,
    pub(super) claimed_at: i64,
    /// Whether an existing customer may belong to another row, because the row's reference could not be read earlier.
    pub(super) may_belong_to_another_row: bool,
}

impl Claim {
    /// The claim of a row of the source.
    pub(super) fn of_row(
        row: LedgerRow,
        source: RowToSend,
        update: Option<Box<CustomerUpdate>>,
        run: RunId,
        now: i64,
    ) -> Claim {
        let RowToSend { line, mut customer, record, chunk } = source;
        if let Some(update) = &update {
            customer.fingerprint = update.fingerprint;
        }
        let (id, known) = match row {
            LedgerRow::New(id) => (id, None),
            LedgerRow::Known(known) => (known.id, Some(known)),
        };
        let in_doubt = known.as_ref().is_some_and(|known| known.in_doubt);
        let sent_before = known.as_ref().filter(|known| known.in_doubt || known.may_have_landed);
        let prior = sent_before.map(|known| PriorCreate { sent: known.fingerprint });
        Claim {
            run,
            id,
            line,
            operation: match (update, prior) {
                (Some(update), _) => Operation::Update(update),
                (None, Some(prior)) if in_doubt => Operation::Confirm(prior),
                (None, prior) => Operation::Create { prior },
            },
            claimed_at: first_claimed_at(sent_before.and_then(|known| known.claimed_at), now),
            row: ClaimedRow::OfSource { customer, record, chunk, is_known: known.is_some() },
            may_belong_to_another_row: false,
        }
    }

    /// The claim of a row that an earlier run left in doubt.
    pub(super) fn in_doubt(open: OpenClaim, origin: InDoubtClaim, run: RunId, now: i64) -> Claim {
        let OpenClaim { id, line, reference, fingerprint, claimed_at } = open;
        Claim {
            run,
            id,
            line,
            row: ClaimedRow::InDoubt(reference, origin),
            operation: Operation::Confirm(PriorCreate { sent: fingerprint }),
            claimed_at: first_claimed_at(claimed_at, now),
            may_belong_to_another_row: false,
        }
    }

    /// The run that claimed the row.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// The physical line of the row; nothing else of it may be logged.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The reference of the row.
    pub fn reference(&self) -> &Reference {
        match &self.row {
            ClaimedRow::OfSource { customer, .. } => &customer.reference,
            ClaimedRow::InDoubt(reference, _) => reference,
        }
    }

    /// The customer to send; none for a row in doubt, whose fields are not stored.
    pub fn customer(&self) -> Option<&Customer> {
        match &self.row {
            ClaimedRow::OfSource { customer, .. } => Some(customer),
            ClaimedRow::InDoubt(..) => None,
        }
    }

    /// Whether the row counts as a row of the run's source.
    pub(super) fn is_counted(&self) -> bool {
        !matches!(self.row, ClaimedRow::InDoubt(_, InDoubtClaim::OfEarlierRun))
    }

    /// The approximate size of the row in memory, in bytes.
    pub fn bytes(&self) -> usize {
        match &self.row {
            ClaimedRow::OfSource { customer, record, .. } => customer.body.len() + record.bytes(),
            ClaimedRow::InDoubt(reference, _) => reference.as_str().len(),
        }
    }

    /// Whether the ledger has a record of the row besides this claim.
    pub(super) fn is_known(&self) -> bool {
        match &self.row {
            ClaimedRow::OfSource { is_known, .. } => *is_known,
            ClaimedRow::InDoubt(..) => true,
        }
    }

    /// The chunk of the source that contains the row; none for a row in doubt.
    pub(super) fn chunk(&self) -> Option<ChunkNumber> {
        match &self.row {
            ClaimedRow::OfSource { chunk, .. } => Some(*chunk),
            ClaimedRow::InDoubt(..) => None,
        }
    }

    /// The fields that this claim sends; empty for a row in doubt.
    pub(super) fn sent(&self) -> Fingerprint {
        self.customer().map(|customer| customer.fingerprint).unwrap_or_default()
    }

    /// The fields that the API has if a request of an earlier claim landed and none of this one did.
    pub(super) fn earlier(&self) -> Fingerprint {
        let sent = self.customer().map(|customer| customer.fingerprint);
        self.prior().and_then(|prior| prior.sent).or(sent).unwrap_or_default()
    }

    /// What the API may hold when either request could have landed. A field on which the two differ is unknown.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let sent = self.customer().map(|customer| customer.fingerprint);
        sent.map_or_else(|| self.earlier(), |sent| self.earlier().either(sent))
    }

    /// Whether an existing customer may belong to another row, so that it must not be changed.
    pub fn may_belong_to_another_row(&self) -> bool {
        self.may_belong_to_another_row
    }

    /// The purpose of the claim.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    fn prior(&self) -> Option<&PriorCreate> {
        match &self.operation {
            Operation::Create { prior } => prior.as_ref(),
            Operation::Confirm(prior) => Some(prior),
            Operation::Update(_) => None,
        }
    }

    /// Whether a Create of an earlier run may have landed, whatever Get has returned since.
    pub fn may_have_landed(&self) -> bool {
        self.prior().is_some()
    }

    /// When the row was first claimed, before anything was sent for it; UTC milliseconds.
    pub fn claimed_at(&self) -> i64 {
        self.claimed_at
    }

    /// Settles the row. The settlement must still be committed.
    pub fn settle(self, result: RowResult, effort: Effort) -> Settlement {
        Settlement { claim: self, result, effort }
    }

    /// Releases the claim; nothing was sent for it.
    pub fn release(self) -> Settlement {
        let error = RowError::default();
        let effort = Effort { requests: 0, may_have_landed: self.may_have_landed() };
        let result = match self.operation {
            Operation::Update(_) => {
                RowResult::Update(UpdateResult::Pending { error, may_have_landed: false })
            }
            Operation::Confirm(_) => RowResult::Insert(InsertResult::Pending { error, in_doubt: true }),
            Operation::Create { .. } => RowResult::Insert(InsertResult::Pending { error, in_doubt: false }),
        };
        self.settle(result, effort)
    }
}

/// How a customer id became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdSource {
    /// The reply to our Create contained it.
    Answer,
    /// Get found it.
    Found {
        /// The creation time according to the API; UTC milliseconds.
        created_at: Option<i64>,
        /// Whether an earlier run sent the fields that were found, and this run sent none.
        earlier: bool,
        /// Whether it is unknown who created the customer: a Create of ours or somebody else.
        is_uncertain: bool,
    },
}

/// A customer at the API, as reported in a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiCustomer {
    /// The customer id.
    pub customer_id: Arc<str>,
    /// How the id became known.
    pub id_source: IdSource,
    /// The fields at the API, if the reply reported them.
    pub api_fields: Option<Fingerprint>,
    /// The API's spelling of the reference, if it differs from the row's in letter case or outer blanks.
    pub api_reference: Option<Reference>,
}

impl ApiCustomer {
    /// A customer of which the reply to our Create reported only the id.
    pub fn by_answer(customer_id: &str) -> ApiCustomer {
        ApiCustomer {
            customer_id: customer_id.into(),
            id_source: IdSource::Answer,
            api_fields: None,
            api_reference: None,
        }
    }

    /// The fingerprint that the ledger stores for a row with these fields, sent or to be sent: for each field that
    /// the API reported, the API's value. A field that the row does not have is not stored. A field that the API did
    /// not report counts as empty only in a reply to a Get that reported other fields.
    pub(super) fn remembered(&self, of_row: Fingerprint) -> Fingerprint {
        let is_of_get = matches!(self.id_source, IdSource::Found { .. });
        self.api_fields.map_or(of_row, |api_fields| of_row.at_api(api_fields, is_of_get))
    }

    /// The fields of a row in which the API has another value.
    pub fn differing(&self, of_row: Fingerprint) -> FieldSet {
        of_row.differing(self.remembered(of_row))
    }
}

/// The result of a claimed row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowResult {
    /// The result of a Create or a Confirm.
    Insert(InsertResult),
    /// The result of an Update of a row that an earlier run imported.
    Update(UpdateResult),
}

/// The result of a row that was to be created or confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsertResult {
    /// This program created it.
    Created(ApiCustomer),
    /// The customer existed before.
    Existing(ApiCustomer),
    /// The customer existed before with other fields, and an Update with the row's fields was sent.
    ExistingThenUpdate(ApiCustomer, UpdateResult),
    /// The API rejected the row.
    Rejected(RowError),
    /// All attempts are used up, and the customer was certainly not created.
    Failed(RowError),
    /// Not settled: not started, or its result is unknown.
    Pending {
        /// The reason, as far as it is known.
        error: RowError,
        /// Whether a Create of ours may have landed.
        in_doubt: bool,
    },
}

/// The result of an Update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateResult {
    /// The API accepted it.
    Updated,
    /// The API rejected it.
    Rejected(RowError),
    /// All attempts are used up; the Update may have landed.
    Failed(RowError),
    /// Not sent, or its result is unknown.
    Pending {
        /// The reason, as far as it is known.
        error: RowError,
        /// Whether the Update may have landed.
        may_have_landed: bool,
    },
}

impl UpdateResult {
    /// Why the customer was not updated.
    pub(super) fn error(&self) -> Option<&RowError> {
        match self {
            UpdateResult::Updated => None,
            UpdateResult::Rejected(error)
            | UpdateResult::Failed(error)
            | UpdateResult::Pending { error, .. } => Some(error),
        }
    }

    /// Whether an Update that did not succeed may have landed nevertheless.
    pub(super) fn may_have_landed(&self) -> bool {
        matches!(self, UpdateResult::Failed(_) | UpdateResult::Pending { may_have_landed: true, .. })
    }

    /// The outcome of the row.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            UpdateResult::Updated => Outcome::Updated,
            UpdateResult::Rejected(_) => Outcome::Rejected,
            UpdateResult::Failed(_) => Outcome::Failed,
            UpdateResult::Pending { .. } => Outcome::Pending,
        }
    }

    /// Whether no later run would send the Update again.
    fn is_final(&self) -> bool {
        matches!(self, UpdateResult::Updated | UpdateResult::Rejected(_))
    }
}

impl RowResult {
    /// The outcome of the row.
    pub fn outcome(&self) -> Outcome {
        match self {
            RowResult::Insert(InsertResult::Created(_)) => Outcome::Created,
            RowResult::Insert(InsertResult::Existing(_)) => Outcome::Existing,
            RowResult::Insert(InsertResult::Rejected(_)) => Outcome::Rejected,
            RowResult::Insert(InsertResult::Failed(_)) => Outcome::Failed,
            RowResult::Insert(InsertResult::Pending { .. }) => Outcome::Pending,
            RowResult::Insert(InsertResult::ExistingThenUpdate(_, result)) | RowResult::Update(result) => {
                result.outcome()
            }
        }
    }

    /// The API's rejection of the row or of its Update.
    pub fn rejection(&self) -> Option<&RowError> {
        match self {
            RowResult::Insert(
                InsertResult::Rejected(error)
                | InsertResult::ExistingThenUpdate(_, UpdateResult::Rejected(error)),
            )
            | RowResult::Update(UpdateResult::Rejected(error)) => Some(error),
            _ => None,
        }
    }
}

/// A claim with its result, to be committed.
#[derive(Debug)]
pub struct Settlement {
    pub(super) claim: Claim,
    pub(super) result: RowResult,
    pub(super) effort: Effort,
}

/// The work done for a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// The number of requests that this run sent for the row.
    pub requests: u32,
    /// Whether a Create, of this run or an earlier one, may have landed at some time, whatever Get has returned
    /// since. A customer that is found later may then be ours.
    pub may_have_landed: bool,
}

impl Settlement {
    /// The physical line of the row.
    pub fn line(&self) -> u64 {
        self.claim.line
    }

    /// The approximate size of the row in memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.claim.bytes()
    }

    /// Whether a later run of the same source would neither send nor report anything new for the row. False for a row
    /// that is tried again, for a row whose customer has other fields, which the next run reports as `changed`, and for
    /// an Update: the next run no longer reports the fields that this run found changed.
    pub(super) fn is_settled_for_good(&self) -> bool {
        match &self.result {
            RowResult::Insert(InsertResult::Failed(_) | InsertResult::Pending { .. }) => false,
            RowResult::Insert(InsertResult::Rejected(_)) => true,
            RowResult::Insert(InsertResult::ExistingThenUpdate(_, result)) => result.is_final(),
            RowResult::Update(_) => false,
            RowResult::Insert(InsertResult::Existing(located) | InsertResult::Created(located)) => {
                let customer = self.claim.customer();
                customer.is_none_or(|customer| located.differing(customer.fingerprint).is_empty())
            }
        }
    }

    /// Makes the row pending again, because the API's reply was not about the row.
    #[must_use]
    pub fn into_pending(self) -> Settlement {
        let error = self.result.rejection().cloned().unwrap_or_default();
        let result = match self.result {
            RowResult::Update(_) => {
                RowResult::Update(UpdateResult::Pending { error, may_have_landed: false })
            }
            RowResult::Insert(_) => RowResult::Insert(InsertResult::Pending { error, in_doubt: false }),
        };
        Settlement { result, ..self }
    }

    /// The reference of the row.
    pub fn reference(&self) -> &Reference {
        self.claim.reference()
    }

    /// The result of the row.
    pub fn result(&self) -> &RowResult {
        &self.result
    }

    /// Whether the row was in doubt when it was claimed.
    pub fn was_in_doubt(&self) -> bool {
        matches!(self.claim.operation, Operation::Confirm(_))
    }

    /// Whether the row is in doubt with this result.
    pub fn is_in_doubt(&self) -> bool {
        matches!(
            self.result,
            RowResult::Insert(InsertResult::Pending { in_doubt: true, .. })
                | RowResult::Update(UpdateResult::Pending { may_have_landed: true, .. })
        )
    }
}
