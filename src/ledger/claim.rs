//! A row between its claim and its settlement.
//!
//! A [`Claim`] is the right to send requests for a row, and only the ledger makes one, after the
//! commit; [`Claim::settle`] consumes it. So "no request without a committed claim" and "one
//! settlement for each claim" are api_fields of the types, not of anybody's care.

use std::sync::Arc;

use super::{
    checkpoint::ChunkNumber,
    model::{KnownRow, OpenClaim, Outcome, RowId},
};
use crate::customer::{Correction, Customer, Fault, Faults, Field, Fields, Fingerprint, Record, Reference};

/// Why a row did not succeed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowError {
    /// The field at fault, for an invalid row.
    pub field: Option<String>,
    /// The API's code, the rule's word, or ours.
    pub code: Option<String>,
    /// The API's message or ours.
    pub message: Option<String>,
    /// The HTTP status of the last answer.
    pub http_status: Option<u16>,
    /// The API's own name for the request; its support asks for it.
    pub request_id: Option<String>,
}

impl RowError {
    /// The code of a row whose last answer was given by something before the API.
    pub const NOT_THE_API: &str = "not-the-api";

    pub(super) const NONE: RowError =
        RowError { field: None, code: None, message: None, http_status: None, request_id: None };
}

/// Whether another row of its source has the reference of a row that owns none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReferenceRepeat {
    No,
    /// The reference could not be read before, and nothing tells whose it is.
    Maybe,
    Yes,
}

/// What there is to say of a row that is not to be sent: invalid, or else a duplicate. Where an invalid one has the
/// reference of another row, that is said too: to correct the rest would not make it a customer.
pub(crate) fn describe_unsendable(
    reading: &Result<Customer, Faults>,
    repeats: ReferenceRepeat,
) -> (Outcome, Option<String>, RowError) {
    let (field, code) = (Field::Reference.name(), Correction::DUPLICATE);
    match reading {
        Ok(customer) => {
            let own = match repeats {
                ReferenceRepeat::Maybe => OWN_ROW,
                ReferenceRepeat::No | ReferenceRepeat::Yes => "",
            };
            let error = RowError {
                field: Some(field.into()),
                code: Some(code.into()),
                message: Some(own.to_owned() + &Correction::words(None)),
                ..RowError::default()
            };
            (Outcome::Duplicate, Some(customer.reference.as_str().to_owned()), error)
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
            let remedy = |fault: &Fault| format!("{fault}; {}", fault.rule.remedy(fault.field));
            let error = RowError {
                field: join(|fault| fault.field_name().into(), field),
                code: join(|fault| fault.rule.name().into(), code),
                message: join(remedy, &Correction::words(None)),
                ..RowError::default()
            };
            (Outcome::Invalid, faults.reference.clone(), error)
        }
    }
}

/// Before what is said of a duplicate that may be none.
const OWN_ROW: &str =
    "if this is that customer's own row, correct its file and import the whole of it; else ";

/// What a claim is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The customer is not at the API as far as anyone knows.
    Create,
    /// An earlier run may have created it: ask before anything else.
    Confirm,
    /// It is there, and its fields differ.
    Update,
}

/// What is to be changed at the API.
#[derive(Debug)]
pub struct CustomerUpdate {
    /// The customer id.
    pub customer_id: String,
    /// Fields that have no value any more.
    pub emptied: Fields,
    /// The API's api_reference of the reference, where it is not the row's.
    pub(super) api_reference: Option<Reference>,
    /// An earlier update may have landed.
    pub(super) may_have_landed: bool,
}

/// What is known of a claimed row.
#[derive(Debug)]
pub(super) enum ClaimedRow {
    /// A row of the run's source.
    OfSource(Customer, Record),
    /// A row that an earlier run left in doubt. The ledger keeps no field of it, so it can be asked
    /// about and not be sent.
    InDoubt(Reference),
}

/// A run's committed promise to settle a row; the right to send requests for it.
#[derive(Debug)]
pub struct Claim {
    pub(super) id: RowId,
    pub(super) line: u64,
    pub(super) row: ClaimedRow,
    pub(super) operation: Operation,
    pub(super) claimed_at: i64,
    /// Whether the ledger has a row for it, not only this claim.
    pub(super) known: bool,
    /// What an earlier run may have sent for it, if one did.
    pub(super) prior: Option<Fingerprint>,
    /// A Create of an earlier run may have landed at some time, whatever Get said since.
    pub(super) may_have_landed: bool,
    /// The chunk of the source that it is part of, if it is a row of one.
    pub(super) chunk: Option<ChunkNumber>,
    /// For an update.
    pub(super) update: Option<Box<CustomerUpdate>>,
    /// The row's reference could not be read where it stood: a customer that exists may be another row's.
    pub(super) may_belong_to_another_row: bool,
}

impl Claim {
    /// The physical line of the row; what logs may say of it.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Whom it is about.
    pub fn reference(&self) -> &Reference {
        match &self.row {
            ClaimedRow::OfSource(customer, _) => &customer.reference,
            ClaimedRow::InDoubt(reference) => reference,
        }
    }

    /// What to send; of a row that an earlier run left in doubt nothing is left to send.
    pub fn customer(&self) -> Option<&Customer> {
        match &self.row {
            ClaimedRow::OfSource(customer, _) => Some(customer),
            ClaimedRow::InDoubt(_) => None,
        }
    }

    /// What the row takes in memory, about.
    pub fn bytes(&self) -> usize {
        match &self.row {
            ClaimedRow::OfSource(customer, record) => customer.body.len() + record.bytes(),
            ClaimedRow::InDoubt(reference) => reference.as_str().len(),
        }
    }

    /// The fields that this claim sends; empty for a row in doubt, which sends none.
    pub(super) fn sent(&self) -> Fingerprint {
        self.customer().map(|customer| customer.fingerprint).unwrap_or_default()
    }

    /// What the API has if a request of an earlier claim has landed and none of this one, as far as is known.
    pub(super) fn earlier(&self) -> Fingerprint {
        let sent = self.customer().map(|customer| customer.fingerprint);
        self.prior.or(sent).unwrap_or_default()
    }

    /// What it has if one of either has: a field of which they differ is neither.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let sent = self.customer().map(|customer| customer.fingerprint);
        sent.map_or_else(|| self.earlier(), |sent| self.earlier().either(sent))
    }

    /// What an update is to change.
    pub fn update(&self) -> Option<&CustomerUpdate> {
        self.update.as_deref()
    }

    /// Whether a customer that exists already may be another row's, and is not to be changed.
    pub fn may_belong_to_another_row(&self) -> bool {
        self.may_belong_to_another_row
    }

    /// What to do.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// Whether a Create of an earlier run may have landed, whatever Get said since.
    pub fn may_have_landed(&self) -> bool {
        self.may_have_landed
    }

    /// When the row was first claimed, before anything was sent for it; UTC milliseconds.
    pub fn claimed_at(&self) -> i64 {
        self.claimed_at
    }

    /// The claim of a row of the source: one that the ledger knows, or a new one with this id.
    pub(super) fn of_row(
        known: Result<KnownRow, RowId>,
        row: ClaimedRow,
        line: u64,
        chunk: ChunkNumber,
        update: Option<Box<CustomerUpdate>>,
        now: i64,
    ) -> Claim {
        let id = known.as_ref().map_or_else(|id| *id, |known| known.id);
        let known = known.ok();
        let in_doubt = known.as_ref().is_some_and(|known| known.in_doubt);
        let sent_before = known.as_ref().filter(|known| known.in_doubt || known.may_have_landed);
        Claim {
            id,
            line,
            operation: match (&update, in_doubt) {
                (Some(_), _) => Operation::Update,
                (None, true) => Operation::Confirm,
                (None, false) => Operation::Create,
            },
            claimed_at: sent_before.and_then(|known| known.claimed_at).unwrap_or(now),
            prior: sent_before.and_then(|known| known.fingerprint),
            may_have_landed: sent_before.is_some(),
            known: known.is_some(),
            chunk: Some(chunk),
            row,
            update,
            may_belong_to_another_row: false,
        }
    }

    /// The claim of a row that an earlier run left in doubt.
    pub(super) fn in_doubt(open: OpenClaim, now: i64) -> Claim {
        let OpenClaim { id, line, reference, fingerprint, claimed_at } = open;
        Claim {
            id,
            line,
            row: ClaimedRow::InDoubt(reference),
            operation: Operation::Confirm,
            claimed_at: claimed_at.unwrap_or(now),
            known: true,
            chunk: None,
            prior: fingerprint,
            may_have_landed: true,
            update: None,
            may_belong_to_another_row: false,
        }
    }

    /// The row's story is complete; the settlement is still to be committed.
    pub fn settle(self, result: RowResult, effort: Effort) -> Settlement {
        Settlement { claim: self, result, effort }
    }

    /// The claim is given back unsent.
    pub fn release(self) -> Settlement {
        let in_doubt = self.operation == Operation::Confirm;
        let effort = Effort { requests: 0, may_have_landed: self.may_have_landed };
        self.settle(RowResult::Pending { error: RowError::default(), in_doubt }, effort)
    }
}

/// How a customer id became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdSource {
    /// The answer to our Create carried it.
    Answer,
    /// Get found it.
    Found {
        /// When the API says it was created; UTC milliseconds.
        created_at: Option<i64>,
        /// This run sent no fields: what was found is what an earlier one had sent.
        earlier: bool,
        /// Nothing tells whether a Create of ours made it or somebody else's.
        is_uncertain: bool,
    },
}

/// A customer that the API has, as its answer told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiCustomer {
    /// The customer id.
    pub customer_id: Arc<str>,
    /// How it is known.
    pub id_source: IdSource,
    /// The fields that the API has, where the answer told them.
    pub api_fields: Option<Fingerprint>,
    /// The API's api_reference of the reference, where it is not the row's: they differ in letter case or outer blanks.
    pub api_reference: Option<Reference>,
}

impl ApiCustomer {
    /// One of which the answer to our Create told the id alone.
    pub fn by_answer(customer_id: &str) -> ApiCustomer {
        ApiCustomer {
            customer_id: customer_id.into(),
            id_source: IdSource::Answer,
            api_fields: None,
            api_reference: None,
        }
    }

    /// What the ledger is to remember of a row with these fields, sent or to be sent: what the API has in those of
    /// them that it told. A field that the row does not have is the API's own affair. A field of which the API told
    /// nothing is taken to be empty there only in an answer to a question, and only where the answer told others.
    pub(super) fn remembered(&self, of_row: Fingerprint) -> Fingerprint {
        let was_asked = matches!(self.id_source, IdSource::Found { .. });
        self.api_fields.map_or(of_row, |api_fields| of_row.at_api(api_fields, was_asked))
    }

    /// The fields of a row in which the API has something else.
    pub fn differing(&self, of_row: Fingerprint) -> Fields {
        of_row.differing(self.remembered(of_row))
    }
}

/// How a claimed row ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowResult {
    /// Ours.
    Created(ApiCustomer),
    /// The merchant had it already.
    Existing(ApiCustomer),
    /// The merchant had it already with other fields, and an Update with the row's was sent.
    ExistingThenUpdate(ApiCustomer, UpdateResult),
    /// The API has taken the update of a row that an earlier run imported.
    Updated,
    /// The API refused the row.
    Rejected(RowError),
    /// Attempts used up, and it surely was not created.
    Failed(RowError),
    /// Not settled: not begun, or its answer is not known.
    Pending {
        /// What is known of why.
        error: RowError,
        /// A create of ours may have landed.
        in_doubt: bool,
    },
}

/// What became of the Update of a customer that existed already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateResult {
    /// The API has taken it.
    Updated,
    /// The API refused it.
    Rejected(RowError),
    /// Attempts used up; it may have landed.
    Failed(RowError),
    /// The run ended before its answer was known.
    Pending(RowError),
}

impl UpdateResult {
    /// Why it is not updated.
    pub(super) fn error(&self) -> Option<&RowError> {
        match self {
            UpdateResult::Updated => None,
            UpdateResult::Rejected(error) | UpdateResult::Failed(error) | UpdateResult::Pending(error) => {
                Some(error)
            }
        }
    }
}

impl RowResult {
    /// Its outcome.
    pub fn outcome(&self) -> Outcome {
        match self {
            RowResult::Created(_) => Outcome::Created,
            RowResult::Existing(_) => Outcome::Existing,
            RowResult::Updated | RowResult::ExistingThenUpdate(_, UpdateResult::Updated) => Outcome::Updated,
            RowResult::Rejected(_) | RowResult::ExistingThenUpdate(_, UpdateResult::Rejected(_)) => {
                Outcome::Rejected
            }
            RowResult::Failed(_) | RowResult::ExistingThenUpdate(_, UpdateResult::Failed(_)) => {
                Outcome::Failed
            }
            RowResult::Pending { .. } | RowResult::ExistingThenUpdate(_, UpdateResult::Pending(_)) => {
                Outcome::Pending
            }
        }
    }
}

/// A claim with its ending, to be committed.
#[derive(Debug)]
pub struct Settlement {
    pub(super) claim: Claim,
    pub(super) result: RowResult,
    pub(super) effort: Effort,
}

/// What was done for a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Requests that this run sent for it.
    pub requests: u32,
    /// A Create, of this run or an earlier one, may have landed at some time, whatever Get said since. A customer
    /// that is found later may be ours.
    pub may_have_landed: bool,
}

impl Settlement {
    /// The row's line.
    pub fn line(&self) -> u64 {
        self.claim.line
    }

    /// What the row takes in memory, about.
    pub fn bytes(&self) -> usize {
        self.claim.bytes()
    }

    /// Whether a later run of the same source would send nothing for the row and say nothing new of it. Not one that
    /// is tried again, and not one whose customer has other fields: the next run calls it `changed`.
    pub(super) fn is_settled_for_good(&self) -> bool {
        match &self.result {
            RowResult::Failed(_) | RowResult::Pending { .. } => false,
            RowResult::ExistingThenUpdate(_, to) => {
                matches!(to, UpdateResult::Updated | UpdateResult::Rejected(_))
            }
            RowResult::Existing(located) | RowResult::Created(located) => {
                let customer = self.claim.customer();
                customer.is_none_or(|customer| located.differing(customer.fingerprint).is_empty())
            }
            RowResult::Updated | RowResult::Rejected(_) => true,
        }
    }

    /// The row is not settled after all: what was answered is not about the row.
    #[must_use]
    pub fn into_pending(self) -> Settlement {
        let error = match self.result {
            RowResult::Rejected(error) | RowResult::ExistingThenUpdate(_, UpdateResult::Rejected(error)) => {
                error
            }
            _ => RowError::default(),
        };
        Settlement { result: RowResult::Pending { error, in_doubt: false }, ..self }
    }

    /// The row's reference.
    pub fn reference(&self) -> &Reference {
        self.claim.reference()
    }

    /// How it ended.
    pub fn result(&self) -> &RowResult {
        &self.result
    }

    /// Whether the row was in doubt, and whether it is now.
    pub fn in_doubt(&self) -> (bool, bool) {
        let is = matches!(self.result, RowResult::Pending { in_doubt: true, .. });
        (self.claim.operation == Operation::Confirm, is)
    }
}
