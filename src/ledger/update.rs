//! Imported rows that differ from the file: what is sent for them, what became of it, and who is missing.
//!
//! An update needs no claim: it may be sent twice and comes to the same. What must not be lost is that it may
//! have landed, so it stands in `outdated` before it is sent, as one whose end nobody knows, and leaves when the
//! API has taken it. The row itself keeps its outcome and its id until then.

use std::collections::HashMap;

use sqlx::Row as _;
use tracing::warn;

use super::{
    Claim, Error, Ledger, Outcome, RowError, RowResult,
    batch::{JsonRows, hex, signed},
    claim::CustomerUpdate,
    plan::RowPlan,
    sqlite::store::{KnownRow, Store},
};
use crate::customer::{Customer, Fields, Fingerprint, Reference, Row};

/// How many references are looked up together.
const TOGETHER: usize = 256;

const HAS_OUTDATED: &str = "select exists (select 1 from outdated)";

const FIND_OUTDATED: &str = "
    select row, fingerprint, outcome, unsure from outdated where row in (select value from json_each(?1))";

const FIND_CUSTOMER_IDS: &str = "
    select id, customer_id, api_reference from row
    where id in (select value from json_each(?1)) and customer_id is not null";

/// Another row whose reference the API spells in another way, and which has the same customer.
const HAS_OTHER_ROW: &str = "
    select exists (select 1 from row where customer_id = ?1 and api_reference is not null and id <> ?2)";

const BEGIN_UPDATES: &str = "
    insert into outdated (row, run, line, outcome, fingerprint, unsure)
    select value->>0, ?2, value->>1, 'pending', unhex(value->>2), 1 from json_each(?1) where true
    on conflict (row) do update set
        run = excluded.run, line = excluded.line, outcome = 'pending', fingerprint = excluded.fingerprint,
        unsure = 1, attempts = 0, error_code = null, error_message = null, http_status = null, request_id = null,
        was = iif(outdated.outcome in ('failed', 'rejected'), json_array(
            outdated.outcome, outdated.run, outdated.line, hex(outdated.fingerprint), outdated.attempts,
            outdated.unsure, null, null, outdated.error_code, outdated.error_message, outdated.http_status,
            outdated.request_id), outdated.was),
        owed = outdated.owed or outdated.outcome in ('failed', 'rejected')";

const SETTLE_UPDATED: &str = "
    update row set outcome = 'updated', run = ?2, settled_at = ?3, line = told.value->>1,
        fingerprint = unhex(told.value->>2), attempts = told.value->>3
    from json_each(?1) told where row.id = told.value->>0";

const SETTLE_OUTDATED: &str = "
    update outdated set outcome = told.value->>1, unsure = told.value->>2, attempts = told.value->>3,
        error_code = told.value->>4, error_message = told.value->>5, http_status = told.value->>6,
        request_id = told.value->>7, was = iif(told.value->>1 = 'pending', outdated.was, null),
        owed = iif(told.value->>1 = 'pending', outdated.owed, 0)
    from json_each(?1) told where outdated.row = told.value->>0";

/// Of a row that was inserted in the same commit: its customer existed, and the Update did not come to its end.
const INSERT_OUTDATED: &str = "
    insert into outdated (row, run, line, outcome, fingerprint, unsure, attempts, error_code, error_message,
                          http_status, request_id)
    select value->>0, ?2, value->>1, value->>2, unhex(value->>3), value->>4, value->>5, value->>6, value->>7,
           value->>8, value->>9
    from json_each(?1) where true
    on conflict (row) do update set
        run = excluded.run, line = excluded.line, outcome = excluded.outcome, fingerprint = excluded.fingerprint,
        unsure = excluded.unsure, attempts = excluded.attempts, error_code = excluded.error_code,
        error_message = excluded.error_message, http_status = excluded.http_status,
        request_id = excluded.request_id";

/// Those that were not sent after all are what they were. Whether an earlier one has landed is as unknown as before.
const RESTORE_OUTDATED: &str = "
    update outdated set outcome = was->>0, run = coalesce((select run.id from run where run.id = was->>1), ?2),
        line = was->>2, fingerprint = unhex(was->>3), attempts = was->>4, error_code = was->>8,
        error_message = was->>9, http_status = was->>10, request_id = was->>11, was = null
    where was is not null and row in (select value from json_each(?1))";

const DELETE_OUTDATED: &str = "delete from outdated where row in (select value from json_each(?1))";

const COUNT_CHANGED: &str = "
    insert into changed (run, field, rows) values (?1, ?2, ?3)
    on conflict (run, field) do update set rows = rows + excluded.rows";

const COUNT_IMPORTED: &str = "select count(*) from row where customer_id is not null";

const SELECT_INVALID: &str = "
    select distinct reference from row where run = ?1 and outcome = 'invalid' and reference is not null";

/// Of the run before, where this one read nothing that it had not.
const SELECT_ABSENT: &str = "
    select absent from run where id = (select max(id) from run where id < ?1) and absent is not null";

const TELL_ABSENT: &str = "update run set absent = ?2 where id = ?1";

/// An update that has not come to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingUpdate {
    fingerprint: Fingerprint,
    outcome: Outcome,
    /// It may have landed.
    unsure: bool,
}

/// What one commit writes of updates, collected before its transaction begins.
#[derive(Default)]
pub(super) struct UpdateRows {
    begun: JsonRows,
    updated: JsonRows,
    outdated: JsonRows,
    new_outdated: JsonRows,
    restored: JsonRows,
    over: JsonRows,
    /// Line and fields of each imported row that differs.
    pub(super) changed: Vec<(u64, Fields)>,
}

impl UpdateRows {
    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        let UpdateRows { begun, updated, outdated, new_outdated, restored, over, changed } = self;
        [begun, updated, outdated, new_outdated, restored, over].into_iter().all(JsonRows::is_empty)
            && changed.is_empty()
    }

    pub(super) fn begin(&mut self, claim: &Claim) {
        self.begun.push(&(claim.id, claim.line, hex(&sent(claim))));
    }

    /// The Update of a customer that existed has not come to its end.
    pub(super) fn outdate(
        &mut self,
        claim: &Claim,
        outcome: Outcome,
        unsure: bool,
        attempts: u32,
        trouble: &RowError,
    ) {
        let RowError { code, message, http_status, request_id, .. } = trouble;
        self.new_outdated.push(&(
            claim.id,
            claim.line,
            outcome,
            hex(&sent(claim)),
            i64::from(unsure),
            attempts,
            code,
            message,
            http_status,
            request_id,
        ));
    }

    /// There is nothing to send any more.
    pub(super) fn is_over(&mut self, id: i64) {
        self.over.push(&id);
    }

    pub(super) fn settle(
        &mut self,
        claim: &Claim,
        amendment: &CustomerUpdate,
        ending: &RowResult,
        attempts: u32,
    ) {
        let (trouble, unsure) = match ending {
            RowResult::Updated => {
                self.updated.push(&(claim.id, claim.line, hex(&sent(claim)), attempts));
                self.over.push(&claim.id);
                return;
            }
            RowResult::Pending { trouble, in_doubt } => (trouble.clone(), *in_doubt),
            RowResult::Rejected(trouble) => (trouble.clone(), false),
            // Attempts end on what may have landed.
            RowResult::Failed(trouble) => (trouble.clone(), true),
            // No update ends like this.
            RowResult::Created(_) | RowResult::Existing(_) | RowResult::ExistingThenUpdate(..) => {
                (RowError::default(), true)
            }
        };
        if ending.outcome() == Outcome::Pending && !unsure {
            self.restored.push(&claim.id);
        }
        let RowError { code, message, http_status, request_id, .. } = trouble;
        let unsure = i64::from(unsure || amendment.unsure);
        let outcome = ending.outcome();
        self.outdated.push(&(claim.id, outcome, unsure, attempts, code, message, http_status, request_id));
    }
}

fn sent(claim: &Claim) -> Fingerprint {
    claim.customer().map(|customer| customer.fingerprint).unwrap_or_default()
}

/// What to do about an imported row, by what the file says of it now.
pub(super) fn compare(
    known: &KnownRow,
    customer: &Customer,
    outdated: Option<&PendingUpdate>,
    send: Send,
) -> RowPlan {
    let (before, now) = (known.fingerprint.unwrap_or_default(), customer.fingerprint);
    let unsure = outdated.filter(|outdated| outdated.unsure);
    let is_refused =
        |outdated: &PendingUpdate| outdated.outcome == Outcome::Rejected && outdated.fingerprint == now;
    match outdated {
        None if before == now => return RowPlan::NextByKind(Outcome::Unchanged, known.run),
        Some(_) if before == now && unsure.is_none() => return RowPlan::Over(known.id, known.run),
        Some(outdated) if send == Send::Changed && is_refused(outdated) => {
            return RowPlan::refused(known);
        }
        _ => {}
    }
    let fields = before.differing(now) | unsure.map_or(Fields::default(), |it| it.fingerprint.differing(now));
    if send == Send::Nothing {
        return RowPlan::Changed(fields, known.run);
    }
    // What was sent once and is empty now has to be emptied; what never was in the file is not ours.
    let had = before.fields() | unsure.map_or(Fields::default(), |it| it.fingerprint.fields());
    let amendment = CustomerUpdate {
        customer_id: String::new(),
        emptied: had.without(now.fields()),
        api_reference: None,
        unsure: unsure.is_some(),
    };
    RowPlan::Update(known.clone(), fields, Box::new(amendment))
}

/// For which imported rows updates are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Send {
    Nothing,
    Changed,
    /// Also for those that were refused with the same fields.
    Again,
}

impl Store {
    pub(super) async fn has_outdated(&mut self) -> Result<bool, Error> {
        Ok(self.one(HAS_OUTDATED).await?.get(0))
    }

    /// Those of these rows whose update has not come to its end.
    pub(super) async fn outdated(
        &mut self,
        ids: impl Iterator<Item = i64>,
    ) -> Result<HashMap<i64, PendingUpdate>, Error> {
        let rows = self.all(sqlx::query(FIND_OUTDATED).bind(list(ids))).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| PendingUpdate {
            fingerprint: Fingerprint::recorded(row.get(1)).unwrap_or_default(),
            outcome: Outcome::from_name(row.get(2)).unwrap_or(Outcome::Pending),
            unsure: row.get(3),
        };
        Ok(rows.iter().map(|row| (row.get(0), read(row))).collect())
    }

    /// Under which ids the API has the customers that are to be updated.
    pub(super) async fn name_updates(&mut self, decisions: &mut [RowPlan]) -> Result<(), Error> {
        let ids = decisions.iter().filter_map(|decision| match decision {
            RowPlan::Update(known, ..) => Some(known.id),
            _ => None,
        });
        let ids = list(ids);
        if ids == "[]" {
            return Ok(());
        }
        let rows = self.all(sqlx::query(FIND_CUSTOMER_IDS).bind(ids)).await?;
        let name = |row: &sqlx::sqlite::SqliteRow| (row.get(0), (row.get(1), row.get(2)));
        let mut names: HashMap<i64, (String, Option<String>)> = rows.iter().map(name).collect();
        for decision in decisions {
            if let RowPlan::Update(known, _, amendment) = decision {
                let (customer_id, api_reference) = names.remove(&known.id).unwrap_or_default();
                amendment.customer_id = customer_id;
                amendment.api_reference = api_reference.as_deref().map(Reference::recorded);
            }
        }
        Ok(())
    }

    async fn has_other_row(&mut self, customer_id: &str, id: i64) -> Result<bool, Error> {
        let rows = self.all(sqlx::query(HAS_OTHER_ROW).bind(customer_id).bind(id)).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// Inside the transaction of a commit.
    pub(super) async fn write_updates(
        &mut self,
        updates: &UpdateRows,
        run: i64,
        now: i64,
    ) -> Result<(), Error> {
        for (sql, rows) in [
            (SETTLE_UPDATED, &updates.updated),
            (SETTLE_OUTDATED, &updates.outdated),
            (INSERT_OUTDATED, &updates.new_outdated),
            (RESTORE_OUTDATED, &updates.restored),
            (DELETE_OUTDATED, &updates.over),
            (BEGIN_UPDATES, &updates.begun),
        ] {
            if !rows.is_empty() {
                self.execute(sqlx::query(sql).bind(rows.text()).bind(run).bind(now)).await?;
            }
        }
        let mut rows: HashMap<&str, i64> = HashMap::new();
        for field in updates.changed.iter().flat_map(|(_, fields)| fields.iter()) {
            *rows.entry(field.name()).or_default() += 1;
        }
        for (field, rows) in rows {
            self.execute(sqlx::query(COUNT_CHANGED).bind(run).bind(field).bind(rows)).await?;
        }
        Ok(())
    }
}

impl Ledger {
    /// Takes back the updates of customers that belong to another row as well: the API spells a reference in another
    /// way and does not tell it from the other row's. One person's fields must not go over the other's.
    pub(super) async fn keep_shared_customers(
        &mut self,
        rows: &[Row],
        decisions: &mut [RowPlan],
    ) -> Result<(), Error> {
        for (row, decision) in rows.iter().zip(decisions) {
            let RowPlan::Update(known, fields, amendment) = decision else { continue };
            let Some(api_reference) = amendment.api_reference.clone() else { continue };
            let (id, run, fields) = (known.id, known.run, *fields);
            let named = self.look_up(&[api_reference.key()]).await?;
            let is_shared = self.batches.has(&api_reference)
                || named.get(api_reference.as_str()).is_some_and(|other| other.id != id)
                || self.store.has_other_row(&amendment.customer_id, id).await?;
            if is_shared {
                warn!(
                    line = row.line,
                    "the API does not tell this row's reference from another row's; its update is not sent"
                );
                *decision = RowPlan::Changed(fields, run);
            }
        }
        Ok(())
    }

    /// How many imported rows the file has not named; records it with the run. Right only where the run has
    /// read a whole file. A row that is invalid today is in the file all the same.
    ///
    /// # Errors
    /// Where the ledger cannot be read or written.
    pub async fn record_absent(&mut self) -> Result<u64, Error> {
        let absent = match self.absent_as_before().await? {
            Some(absent) => absent,
            None => self.count_absent().await?,
        };
        self.store.execute(sqlx::query(TELL_ABSENT).bind(self.run).bind(signed(absent))).await?;
        Ok(absent)
    }

    /// To count the imported rows is to read the whole ledger; a file that is the same misses the same rows.
    async fn absent_as_before(&mut self) -> Result<Option<u64>, Error> {
        if self.skipped.is_none_or(|skipped| skipped.tally.rows() != self.tally.rows()) {
            return Ok(None);
        }
        let before = self.store.all(sqlx::query(SELECT_ABSENT).bind(self.run)).await?;
        Ok(before.first().map(|row| row.get::<i64, _>(0) as u64))
    }

    async fn count_absent(&mut self) -> Result<u64, Error> {
        let imported = self.store.one(COUNT_IMPORTED).await?.get::<i64, _>(0) as u64;
        let mut present = self.met_imported
            + self.tally.sum(|outcome| matches!(outcome, Outcome::Created | Outcome::Existing));
        let invalid = self.store.all(sqlx::query(SELECT_INVALID).bind(self.run)).await?;
        for some in invalid.chunks(TOGETHER) {
            let keys: Vec<u64> = some.iter().map(|row| Reference::recorded(row.get(0)).key()).collect();
            let known = self.look_up(&keys).await?;
            for found in some.iter().filter_map(|row| known.get(row.get::<&str, _>(0))) {
                let is_imported = found.outcome.is_success();
                present += u64::from(is_imported && !self.met.mark(found.id));
            }
        }
        Ok(imported.saturating_sub(present))
    }
}

fn list(ids: impl Iterator<Item = i64>) -> String {
    serde_json::to_string(&ids.collect::<Vec<_>>()).unwrap_or_default()
}
