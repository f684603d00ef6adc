//! The SQL texts of the writer, [`Store`](super::store::Store); those of the reader are in `queries`.
//!
//! Parameters without numbers belong to bulk statements, whose row of values is repeated; the statement itself
//! filters out rows of nulls. A statement for few rows takes them as one JSON array, named `given`.

// Transactions and the target

pub(super) const BEGIN: &str = "begin immediate";

pub(super) const COMMIT: &str = "commit";

pub(super) const VACUUM: &str = "vacuum";

pub(super) const SELECT_SQLITE_VERSION: &str = "select sqlite_version()";

pub(super) const INSERT_TARGET: &str = "
    insert into target (id, base_url, merchant_id, created_at) values (1, ?1, ?2, ?3)";

pub(super) const SELECT_TARGET: &str = "select base_url, merchant_id from target";

// The beginning of a run

/// Turns the open claims of new rows of a crashed run into rows in doubt. The claim of a known row is stored in the
/// row itself.
pub(super) const RECOVER_CLAIMS: &str = "
    insert into row (id, run, line, outcome, reference, key, fingerprint, claimed_at, settled_at, in_doubt)
    select id, run, line, 'pending', reference, key, unhex(fingerprint_hex), claimed_at, ?1, 1 from claim";

pub(super) const DELETE_CLAIM_BATCHES: &str = "delete from claim_batch";

pub(super) const EXPLAIN_RECOVERED_CLAIMS: &str = "
    update row set error_message = 'the run ended before the answer was recorded'
    where customer_id is null and outcome = 'pending' and in_doubt = 1 and error_message is null
    and run in (select id from run where state = 'running')";

pub(super) const END_CRASHED_RUNS: &str =
    "update run set state = 'interrupted', ended_at = ?1 where state = 'running'";

/// The numbers of pruned runs are not reused: `last_line` of run 0 is the highest of them.
pub(super) const INSERT_RUN: &str = "
    insert into run (id, command, source, source_path, columns, reference_column, started_at, row_mapping)
    select coalesce(max(max(id), max(iif(id = 0, last_line, 0))), 0) + 1, ?1, ?2, ?3, ?4, ?5, ?6, ?7
    from run returning id";

pub(super) const SELECT_NEXT_RUN: &str =
    "select coalesce(max(max(id), max(iif(id = 0, last_line, 0))), 0) + 1 from run";

pub(super) const SELECT_CLAIMS: &str =
    "select id, run, line, reference, fingerprint_hex, claimed_at from claim";

pub(super) const SELECT_IN_DOUBT: &str = "
    select id, line, reference, fingerprint, claimed_at from row
    where customer_id is null and outcome = 'pending' and in_doubt = 1 order by id";

pub(super) const HAS_PENDING_UPDATES: &str = "select exists (select 1 from pending_update)";

pub(super) const INSERT_SETTINGS: &str = "
    insert into setting (run, position, name, value, origin)
    select ?2, key, value->>0, value->>1, value->>2 from json_each(?1)";

// References

pub(super) const SELECT_INDEXED_UP_TO: &str = "select row from watermark";

pub(super) const RAISE_INDEXED_UP_TO: &str = "update watermark set row = max(row, ?1)";

pub(super) const SELECT_UNINDEXED_KEYS: &str = "
    select key, id from row where id > (select row from watermark)";

pub(super) const MERGE_KEYS: &str =
    "insert or ignore into reference_key (key, row) select * from (values (?, ?)) where column1 is not null";

/// The highest id ever assigned, even if the last rows were deleted: ids up to the watermark count as being in
/// `reference_key`.
pub(super) const SELECT_LAST_ROW: &str = "
    select max((select coalesce(max(id), 0) from row), (select coalesce(max(id), 0) from unsendable),
               (select row from watermark))";

pub(super) const FIND_ROWS: &str = "
    with candidate (id) as materialized (
        select value from json_each(?1)
        union
        select reference_key.row from json_each(?2) given
        join reference_key on reference_key.key = given.value
    )
    select id, reference, fingerprint, outcome, in_doubt, claimed_at, run, line, was_sent
    from candidate join row using (id)";

/// The rows as one value: one value per row and column costs several times as much.
pub(super) const READ_ORDERED: &str = "
    select json_group_array(json_array(id, run, line, outcome, reference, hex(fingerprint), in_doubt, claimed_at,
                            was_sent))
    from (select * from row where id >= ?1 order by id limit ?2)";

pub(super) const FIND_PENDING_UPDATES: &str = "
    select row, fingerprint, outcome, may_have_landed from pending_update
    where row in (select value from json_each(?1))";

pub(super) const FIND_CUSTOMER_NAMES: &str = "
    select id, customer_id, api_reference from row
    where id in (select value from json_each(?1)) and customer_id is not null";

/// Whether another row, whose reference the API spells differently, has the same customer.
pub(super) const HAS_OTHER_ROW: &str = "
    select exists (select 1 from row where customer_id = ?1 and api_reference is not null and id <> ?2)";

// Claims and settlements

pub(super) const INSERT_CLAIM_BATCH: &str =
    "insert into claim_batch (id, run, claimed_at, claims) values (?1, ?2, ?3, ?4)";

pub(super) const END_CLAIM_BATCHES: &str =
    "delete from claim_batch where run = ?2 and id in (select value from json_each(?1))";

/// Claims a known row: sets the state that the row has if the run crashes, and stores the previous state in
/// `before_claim`. A row that is only looked up stays one of the run whose file it comes from: the ledger may have no cells
/// of it, and that run says in which column its reference stands.
pub(super) const CLAIM_AGAIN: &str = "
    update row set run = iif(given.value->>4, ?2, row.run), line = given.value->>1, outcome = 'pending', fingerprint = unhex(given.value->>2),
        claimed_at = given.value->>3, settled_at = ?3, attempts = 0, in_doubt = 1, field = null,
        error_code = null, error_message = iif(given.value->>4, null, row.error_message), http_status = null,
        request_id = null, before_claim = iif(row.outcome in ('failed', 'rejected'), json_array(
            row.outcome, row.run, row.line, hex(row.fingerprint), row.attempts, row.claimed_at, row.settled_at,
            row.field, row.error_code, row.error_message, row.http_status, row.request_id), row.before_claim),
        retry_unfinished = row.retry_unfinished or row.in_doubt or row.outcome in ('failed', 'rejected')
    from json_each(?1) given where row.id = given.value->>0";

/// A row whose fields have changed cannot return to its previous state.
pub(super) const FORGET_BEFORE_CLAIM: &str =
    "update row set before_claim = null where id in (select value from json_each(?1))";

/// Restores the state before the claim, for rows that were not sent, or whose request did not land.
pub(super) const RESTORE_ROWS: &str = "
    update row set outcome = before_claim->>0,
        run = coalesce((select run.id from run where run.id = before_claim->>1), ?2),
        line = before_claim->>2, fingerprint = unhex(before_claim->>3), attempts = before_claim->>4,
        claimed_at = before_claim->>5, settled_at = before_claim->>6, field = before_claim->>7,
        error_code = before_claim->>8, error_message = before_claim->>9, http_status = before_claim->>10,
        request_id = before_claim->>11, before_claim = null
    where before_claim is not null and id in (
        select value->>0 from json_each(?1) where value->>2 = 'pending' and not value->>8)";

/// Nearly every row of a first import: new to the ledger, and the reply to its Create contained an id.
pub(super) const SETTLE_CREATED: &str = "
    insert into row (run, settled_at, outcome, id, line, reference, key, fingerprint, customer_id, attempts,
                     claimed_at)
    select ?, ?, 'created', given.* from (values (?, ?, ?, ?, ?, ?, ?, ?)) given where column1 is not null";

pub(super) const SETTLE_WITH_ID: &str = "
    insert into row (run, settled_at, id, line, reference, key, fingerprint, customer_id, attempts, claimed_at,
                     outcome, found, date_created, is_uncertain, api_reference)
    select ?, ?, given.* from (values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)) given where column1 is not null
    on conflict (id) do update set
        run = excluded.run, line = excluded.line, outcome = excluded.outcome,
        fingerprint = excluded.fingerprint, customer_id = excluded.customer_id,
        attempts = excluded.attempts, found = excluded.found, date_created = excluded.date_created,
        is_uncertain = excluded.is_uncertain, api_reference = excluded.api_reference, was_sent = 0,
        claimed_at = excluded.claimed_at, settled_at = excluded.settled_at, in_doubt = 0, field = null,
        before_claim = null, retry_unfinished = 0,
        error_code = null, error_message = null, http_status = null, request_id = null";

/// A row that stays pending keeps its run, which is that of its claim.
pub(super) const SETTLE_WITHOUT_ID: &str = "
    insert into row (id, run, line, outcome, reference, key, fingerprint, attempts, claimed_at,
                     settled_at, in_doubt, field, error_code, error_message, http_status, request_id, was_sent)
    select value->>0, ?2, value->>1, value->>2, value->>3, value->>4, unhex(value->>5), value->>6,
           value->>7, ?3, value->>8, value->>9, value->>10, value->>11, value->>12, value->>13, value->>14
    from json_each(?1) where true
    on conflict (id) do update set
        run = iif(excluded.outcome = 'pending', row.run, excluded.run), line = excluded.line,
        outcome = excluded.outcome, fingerprint = excluded.fingerprint, attempts = excluded.attempts,
        claimed_at = excluded.claimed_at, settled_at = excluded.settled_at,
        before_claim = iif(excluded.outcome = 'pending', row.before_claim, null),
        retry_unfinished = iif(excluded.outcome = 'pending', row.retry_unfinished, 0),
        in_doubt = excluded.in_doubt, field = excluded.field, error_code = excluded.error_code,
        error_message = excluded.error_message, http_status = excluded.http_status,
        request_id = excluded.request_id, was_sent = excluded.was_sent";

pub(super) const KEEP_RECORDS: &str = "
    insert into record (run, row, cells) select ?, given.* from (values (?, ?)) given where column1 is not null
    on conflict (row) do update set cells = excluded.cells, run = excluded.run";

pub(super) const ERASE_RECORDS: &str = "delete from record where row in (select value from json_each(?1))";

pub(super) const MARK_CORRECTED: &str = "
    update row set corrected_by = ?2 where id in (
        select row.id from json_each(?1) given
        join row on row.customer_id is null and row.outcome = given.value->>1
            and row.line = given.value->>0 and row.error_code = given.value->>2
        where row.run < ?2 and row.corrected_by is null
        -- Where two files have such a row, it is not known which one came back.
        group by row.line, row.outcome, given.value->>2 having count(*) = 1)";

pub(super) const MARK_UNSENDABLE_CORRECTED: &str = "
    update unsendable set corrected_by = ?2 where id in (
        select unsendable.id from json_each(?1) given
        cross join unsendable on unsendable.line = given.value->>0
            and iif(is_duplicate, 'duplicate', 'invalid') = given.value->>1
            and coalesce(error_code, (select error_code from fault where fault.id = unsendable.fault)) = given.value->>2
        where unsendable.run < ?2 and corrected_by is null
        -- As above.
        group by unsendable.line, is_duplicate, given.value->>2 having count(*) = 1)";

pub(super) const COUNT_DROPPED: &str = "
    insert into dropped (run, field, rule, rows) values (?1, ?2, ?3, ?4)
    on conflict (run, field, rule) do update set rows = rows + excluded.rows";

pub(super) const COUNT_EXISTING: &str = "
    insert into existing_note (run, note, rows) values (?1, ?2, ?3)
    on conflict (run, note) do update set rows = rows + excluded.rows";

/// Changes nothing if another process has ended the run.
pub(super) const COUNT_RUN: &str = "
    update run set requests = ?2, retries = ?3, throttled = ?4, last_line = ?5
    where id = ?1 and state = 'running'";

pub(super) const COUNT_OUTCOMES: &str = "
    insert into run_outcome (run, outcome, rows) select ?2, value->>0, value->>1 from json_each(?1) where true
    on conflict (run, outcome) do update set rows = excluded.rows";

// Updates

pub(super) const BEGIN_UPDATES: &str = "
    insert into pending_update (row, run, line, outcome, fingerprint, may_have_landed)
    select value->>0, ?2, value->>1, 'pending', unhex(value->>2), 1 from json_each(?1) where true
    on conflict (row) do update set
        run = excluded.run, line = excluded.line, outcome = 'pending', fingerprint = excluded.fingerprint,
        may_have_landed = 1, attempts = 0, error_code = null, error_message = null, http_status = null,
        request_id = null,
        before_claim = iif(pending_update.outcome in ('failed', 'rejected'), json_array(
            pending_update.outcome, pending_update.run, pending_update.line, hex(pending_update.fingerprint),
            pending_update.attempts, pending_update.may_have_landed, null, null, pending_update.error_code,
            pending_update.error_message, pending_update.http_status, pending_update.request_id),
            pending_update.before_claim),
        retry_unfinished = pending_update.retry_unfinished or pending_update.outcome in ('failed', 'rejected')";

pub(super) const SETTLE_UPDATED: &str = "
    update row set outcome = 'updated', run = ?2, settled_at = ?3, line = given.value->>1,
        fingerprint = unhex(given.value->>2), attempts = given.value->>3
    from json_each(?1) given where row.id = given.value->>0";

pub(super) const SETTLE_UNFINISHED_UPDATES: &str = "
    update pending_update set outcome = given.value->>1, may_have_landed = given.value->>2, attempts = given.value->>3,
        error_code = given.value->>4, error_message = given.value->>5, http_status = given.value->>6,
        request_id = given.value->>7,
        before_claim = iif(given.value->>1 = 'pending', pending_update.before_claim, null),
        retry_unfinished = iif(given.value->>1 = 'pending', pending_update.retry_unfinished, 0)
    from json_each(?1) given where pending_update.row = given.value->>0";

/// For rows that were inserted in the same commit: the customer existed, and its Update did not succeed.
pub(super) const INSERT_UNFINISHED_UPDATES: &str = "
    insert into pending_update (row, run, line, outcome, fingerprint, may_have_landed, attempts, error_code,
                                error_message, http_status, request_id)
    select value->>0, ?2, value->>1, value->>2, unhex(value->>3), value->>4, value->>5, value->>6, value->>7,
           value->>8, value->>9
    from json_each(?1) where true
    on conflict (row) do update set
        run = excluded.run, line = excluded.line, outcome = excluded.outcome, fingerprint = excluded.fingerprint,
        may_have_landed = excluded.may_have_landed, attempts = excluded.attempts, error_code = excluded.error_code,
        error_message = excluded.error_message, http_status = excluded.http_status,
        request_id = excluded.request_id";

/// Restores the previous state of Updates that were not sent. Whether an earlier Update landed is still unknown.
pub(super) const RESTORE_UPDATES: &str = "
    update pending_update set outcome = before_claim->>0,
        run = coalesce((select run.id from run where run.id = before_claim->>1), ?2),
        line = before_claim->>2, fingerprint = unhex(before_claim->>3), attempts = before_claim->>4,
        error_code = before_claim->>8, error_message = before_claim->>9, http_status = before_claim->>10,
        request_id = before_claim->>11, before_claim = null
    where before_claim is not null and row in (select value from json_each(?1))";

pub(super) const DELETE_FINISHED_UPDATES: &str =
    "delete from pending_update where row in (select value from json_each(?1))";

pub(super) const COUNT_CHANGED: &str = "
    insert into changed (run, field, rows) values (?1, ?2, ?3)
    on conflict (run, field) do update set rows = rows + excluded.rows";

// Rows that cannot be sent

pub(super) const SELECT_EARLIER_UNSENDABLE: &str = "
    select content, reference, id, is_duplicate, other_cells is not null from unsendable where run < ?1";

pub(super) const SELECT_CONTENTS_WITHOUT_REFERENCE: &str =
    "select other_cells, id from unsendable where other_cells is not null and run < ?1";

/// References of invalid rows in the part of the source that this run skips.
pub(super) const SELECT_NAMED_REFERENCES: &str = "
    select reference, id from unsendable where run = ?1 and not is_duplicate and reference is not null";

pub(super) const SELECT_REFERENCES: &str = "
    select reference from unsendable where id in (select value from json_each(?1)) and reference is not null";

pub(super) const SELECT_FAULTS: &str =
    "select id, field, error_code, error_message from fault order by id limit ?1";

pub(super) const INSERT_FAULT: &str =
    "insert into fault (id, field, error_code, error_message) values (?1, ?2, ?3, ?4)";

pub(super) const INSERT_UNSENDABLE: &str = "
    insert into unsendable (run, id, line, is_duplicate, reference, content, other_cells, fault, cells)
    select ?, given.* from (values (?, ?, ?, ?, ?, ?, ?, ?)) given where column1 is not null";

/// Of rows whose words are not in the table of faults.
pub(super) const SET_OWN_WORDS: &str = "
    update unsendable set field = given.value->>1, error_code = given.value->>2, error_message = given.value->>3
    from json_each(?1) given where unsendable.id = given.value->>0";

pub(super) const DELETE_SUPERSEDED_BY_ID: &str = "
    delete from unsendable where run < ?2 and id in (
        select unsendable.id from json_each(?1) given cross join unsendable on unsendable.id = given.value->>0
        where unsendable.reference is given.value->>1
        and (given.value->>2 or not is_duplicate
             and coalesce(error_code, (select error_code from fault where fault.id = unsendable.fault))
                 not like '%duplicate'))";

/// The last value tells whether the content is the hash of the reference.
pub(super) const DELETE_SUPERSEDED_BY_LINE: &str = "
    delete from unsendable where id in (
        select unsendable.id from json_each(?1) given
        cross join unsendable on unsendable.line = given.value->>0
        where unsendable.run < ?2 and unsendable.content is iif(given.value->>3, null, given.value->>1)
        and unsendable.reference is given.value->>2)";

pub(super) const DELETE_SUPERSEDED_BY_CELLS: &str = "
    delete from unsendable where id in (
        select unsendable.id from json_each(?1) given
        cross join unsendable on unsendable.line = given.value->>0 and unsendable.other_cells = given.value->>1
        where unsendable.other_cells is not null and unsendable.run < ?2)";

pub(super) const DELETE_UNSENDABLE: &str = "
    delete from unsendable where run < ?2 and id in (select value from json_each(?1))";

pub(super) const HAS_UNREADABLE: &str =
    "select 1 from unsendable where other_cells is not null and run = ?1 limit 1";

/// The runs that found a row with an unreadable reference on one of these lines.
pub(super) const SELECT_UNREADABLE: &str = "
    select line, run from unsendable where other_cells is not null and run < ?2
    and line in (select value from json_each(?1))";

pub(super) const KEEP_SEEN: &str =
    "insert or replace into seen_rows (run, next_id, rows) values (?1, ?2, ?3)";

/// For runs whose rows with unreadable references have all been corrected or removed.
pub(super) const DELETE_SEEN: &str = "
    delete from seen_rows where not exists (
        select 1 from unsendable where other_cells is not null and unsendable.run = seen_rows.run)";

pub(super) const SELECT_SEEN: &str = "select next_id, rows from seen_rows where run = ?1";

pub(super) const SELECT_SEEN_BEFORE: &str = "
    select next_id, rows from seen_rows where run = (select max(id) from run where id < ?1)";

// Checkpoints

/// Only of the last run: its tally does not include what another run has settled since.
pub(super) const SELECT_LAST_CHECKPOINT: &str = "
    select bytes, line, prefix_bytes, prefix_hash, tally, whole_file_only or exists (
        select 1 from dropped where dropped.run = run.id union all select 1 from changed where changed.run = run.id
    ), chain_start
    from checkpoint join run on run.id = checkpoint.run
    where run.id = (select max(id) from run) and run.command = ?1 and run.source_path = ?2
    and checkpoint.parse_settings_hash = ?3";

pub(super) const INSERT_CHECKPOINT: &str =
    "insert into checkpoint (run, parse_settings_hash) values (?1, ?2)";

pub(super) const SET_CHECKPOINT: &str = "
    update checkpoint set bytes = ?2, line = ?3, prefix_bytes = ?4, prefix_hash = ?5, tally = ?6, whole_file_only = ?7,
        chain_start = ?8
    where run = ?1";

/// The line that each run of the chain reached. The run also settled rows after it, but their bytes may have changed
/// before the next run read them.
pub(super) const SELECT_CHECKPOINT_LINES: &str =
    "select run, coalesce(line, 0) from checkpoint where run >= ?1 and run < ?2";

/// Reassigns invalid rows and duplicates of the skipped part, on the lines from ?3 to before ?4, to the run that counts
/// them.
pub(super) const TAKE_OVER_UNSENDABLE: &str = "
    update unsendable set run = ?1 where line >= ?3 and line < ?4 and run >= ?2 and run < ?1
    and line < (select line from checkpoint where checkpoint.run = unsendable.run)";

/// The source is unchanged to its end, and so are the counts by field.
pub(super) const COPY_DROPPED: &str = "
    insert into dropped (run, field, rule, rows) select ?1, field, rule, rows from dropped
    where run = (select max(id) from run where id < ?1) returning field, rule, rows";

pub(super) const COPY_CHANGED: &str = "
    insert into changed (run, field, rows) select ?1, field, rows from changed
    where run = (select max(id) from run where id < ?1) returning field, rows";

// Samples, the heartbeat, and the end of a run

pub(super) const DELETE_SAMPLES: &str = "delete from sample where run = ?1 and number >= ?2";

pub(super) const INSERT_SAMPLES: &str = "
    insert into sample (run, number, from_ms, to_ms, succeeded, faulty, failed, requests, retries, throttled,
                        in_flight, held_rate, latencies)
    select ?2, ?3 + key, value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6,
           value->>7, value->>8, value->>9, value->10
    from json_each(?1)";

pub(super) const SET_HEARTBEAT: &str = "
    insert or replace into heartbeat
        (id, run, at, activity, total, is_exact, per_second, in_flight, retrying, in_doubt, throttled_to, cause,
         throttled_by, pauses)
    values (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";

pub(super) const DELETE_HEARTBEAT: &str = "delete from heartbeat";

pub(super) const COUNT_IMPORTED: &str = "select count(*) from row where customer_id is not null";

/// A page in the order of the index `unsendable_by_line`, from behind this line and id.
pub(super) const SELECT_INVALID_REFERENCES: &str = "
    select line, id, reference from unsendable
    where run = ?1 and not is_duplicate and reference is not null and (line, id) > (?2, ?3)
    order by line, id limit ?4";

/// From the previous run, if this one read nothing new.
pub(super) const SELECT_ABSENT_BEFORE: &str = "
    select absent from run where id = (select max(id) from run where id < ?1) and absent is not null";

pub(super) const SET_ABSENT: &str = "update run set absent = ?2 where id = ?1";

pub(super) const END_RUN: &str = "
    update run set state = ?2, exit_code = ?3, stop_reason = ?4, ended_at = ?5,
        requests = ?6, retries = ?7, throttled = ?8
    where id = ?1";

// What `verify` found

/// Only if the ledger still has the fields that were compared, because a run may have changed them.
pub(super) const MARK_CHANGED: &str = "
    update row set fingerprint = unhex(given.value->>2) from json_each(?1) given
    where row.id = given.value->>0 and row.customer_id is not null and row.fingerprint = unhex(given.value->>1)";

/// A fully read file is not read again as long as its bytes are unchanged; this makes the next run read it.
pub(super) const FORGET_CHECKPOINTS: &str = "update checkpoint set bytes = null";

// Pruning

/// The times of the runs that have ended, and of run 0.
pub(super) const SELECT_RUN_TIMES: &str = "
    select id, started_at, coalesce(ended_at, started_at) from run where state <> 'running' order by id";

/// Deletes the cells of rows settled in such runs, but not of a row that was created long ago and whose Update was
/// rejected recently, nor of a row that a later run has read again.
pub(super) const DELETE_OLD_RECORDS: &str = "
    delete from record where row in (
        select row.id from record join row on row.id = record.row
        left join pending_update on pending_update.row = row.id
        where coalesce(pending_update.run, row.run) in (select value from json_each(?1))
        and coalesce(record.run, row.run) in (select value from json_each(?1))
        and coalesce(pending_update.outcome, row.outcome) <> 'pending'
            and not coalesce(pending_update.retry_unfinished, row.retry_unfinished))";

/// All of them except those whose header names stored cells.
pub(super) const SELECT_RUNS_TO_DELETE: &str = "
    select json_group_array(value), count(*) from json_each(?1)
    where value > 0 and value not in (
        select coalesce(record.run, row.run) from record join row on row.id = record.row)";

pub(super) const INSERT_PRUNED_RUN: &str = "
    insert or ignore into run (id, command, source, columns, reference_column, state, started_at)
    values (0, 'import', 'pruned runs', json_array('object_reference_id'), 'object_reference_id', 'completed', 0)";

pub(super) const DELETE_OLD_UNSENDABLE: &str = "
    delete from unsendable where run in (select value from json_each(?1))";

/// A run number is never reused.
pub(super) const KEEP_RUN_NUMBERS: &str = "
    update run set last_line = max(last_line, (select coalesce(max(value), 0) from json_each(?1))) where id = 0";

pub(super) const HAND_OVER_ROWS: &str =
    "update row set run = 0 where run in (select value from json_each(?1))";

/// Includes rows of a run that stays: run 0 marks that their cells are deleted.
pub(super) const HAND_OVER_EMPTIED: &str = "
    update row set run = 0
    where customer_id is null and outcome in ('rejected', 'failed') and run > 0
    and run in (select value from json_each(?1)) and id not in (select row from record)";

pub(super) const HAND_OVER_CORRECTED: &str = "
    update row set corrected_by = 0 where corrected_by in (select value from json_each(?1))";

pub(super) const HAND_OVER_UNSENDABLE_CORRECTED: &str = "
    update unsendable set corrected_by = 0 where corrected_by in (select value from json_each(?1))";

pub(super) const HAND_OVER_UPDATES: &str =
    "update pending_update set run = 0 where run in (select value from json_each(?1))";

/// All other data that refers to a run belongs to that run alone: one statement per table.
pub(super) const SELECT_DELETIONS: &str = "
    select format('delete from [%s] where [%s] in (select value from json_each(?1))', tables.name, key.[from])
    from sqlite_schema tables, pragma_foreign_key_list(tables.name) key
    where tables.type = 'table' and key.[table] = 'run'
    and tables.name not in ('row', 'unsendable', 'record', 'pending_update', 'claim_batch', 'checkpoint')";

/// Their rows now belong to another run, so a run that resumed after them could not determine which it had read.
pub(super) const DELETE_CHECKPOINTS: &str = "delete from checkpoint";

pub(super) const DELETE_RUNS: &str = "delete from run where id in (select value from json_each(?1))";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::super::model::{Outcome, OutcomeClass};

    const MIGRATIONS: [&str; 3] = [
        include_str!("../../../migrations/sqlite/0012_ledger.sql"),
        include_str!("../../../migrations/sqlite/0014_faults.sql"),
        include_str!("../../../migrations/sqlite/0015_unsendable.sql"),
    ];

    fn words(is_in: impl Fn(Outcome) -> bool) -> BTreeSet<&'static str> {
        Outcome::ALL.into_iter().filter(|outcome| is_in(*outcome)).map(Outcome::name).collect()
    }

    /// The lists of names that an outcome is compared with.
    fn lists(sql: &str) -> impl Iterator<Item = BTreeSet<&str>> {
        let behind =
            ["outcome in (", "outcome not in ("].into_iter().flat_map(|before| sql.split(before).skip(1));
        let lists = behind.filter_map(|rest| rest.split(')').next());
        lists.map(|list| list.split(',').map(|word| word.trim().trim_matches('\'')).collect())
    }

    /// A new outcome, or one of another class, fails here until the statements that list its class are changed.
    #[test]
    fn every_list_of_outcomes_is_a_class_of_the_model() {
        let classes = [
            words(|outcome| outcome.class() == OutcomeClass::Unsendable),
            words(Outcome::is_retryable),
            words(|outcome| outcome.is_retryable() || outcome == Outcome::Pending),
            words(|outcome| !outcome.is_success()),
            // Only runs count unchanged and changed rows.
            words(|outcome| {
                outcome.is_success() && !matches!(outcome, Outcome::Unchanged | Outcome::Changed)
            }),
        ];
        let statements = include_str!("statements.rs").split("#[cfg(test)]").next().unwrap();
        let mut found = 0;
        let queries = include_str!("queries.rs");
        for list in [statements, queries].into_iter().chain(MIGRATIONS).flat_map(lists) {
            assert!(classes.contains(&list), "{list:?} is no class of outcomes");
            found += 1;
        }
        assert!(found > 15, "{found} lists");
    }
}
