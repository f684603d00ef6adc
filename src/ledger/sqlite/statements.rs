//! The SQL of the one writer, as text; what is done with it is in `sqlite`.
//!
//! Parameters without numbers are those of bulk statements, whose row of values is repeated; a row of nulls among
//! them is none.

pub(crate) const BEGIN: &str = "begin immediate";

pub(crate) const COMMIT: &str = "commit";

pub(crate) const INSERT_TARGET: &str = "
    insert into target (id, base_url, merchant_id, created_at) values (1, ?1, ?2, ?3)";

pub(crate) const SELECT_TARGET: &str = "select base_url, merchant_id from target";

/// What a dead run had claimed of new rows; of others the claim stands in the row itself.
pub(crate) const BURY_CLAIMS: &str = "
    insert into row (id, run, line, outcome, reference, key, fingerprint, claimed_at, settled_at, in_doubt)
    select id, run, line, 'pending', reference, key, unhex(fingerprint_hex), claimed_at, ?1, 1 from claim";

pub(crate) const DELETE_BATCHES: &str = "delete from claim_batch";

pub(crate) const EXPLAIN_DEAD_CLAIMS: &str = "
    update row set error_message = 'the run ended before the answer was recorded'
    where customer_id is null and outcome = 'pending' and in_doubt = 1 and error_message is null
    and run in (select id from run where state = 'running')";

pub(crate) const END_DEAD_RUNS: &str =
    "update run set state = 'interrupted', ended_at = ?1 where state = 'running'";

/// Numbers go on behind pruned runs: the last line of their stand-in, run 0, is the highest of them.
pub(crate) const INSERT_RUN: &str = "
    insert into run (id, command, source, source_path, columns, reference_column, started_at, reading)
    select coalesce(max(max(id), max(iif(id = 0, last_line, 0))), 0) + 1, ?1, ?2, ?3, ?4, ?5, ?6, ?7
    from run returning id";

pub(crate) const RECENT_KEYS: &str = "
    select key, id from row
    where id > (select row from watermark) and outcome not in ('duplicate', 'invalid')";

/// An id is never given twice, also where the last rows were deleted: what is below the watermark counts
/// as being in `reference_key`.
pub(crate) const LAST_ROW: &str = "
    select max((select coalesce(max(id), 0) from row), (select row from watermark))";

pub(crate) const FIND: &str = "
    with candidate (id) as materialized (
        select value from json_each(?1)
        union
        select reference_key.row from json_each(?2) asked
        join reference_key on reference_key.key = asked.value
    )
    select id, reference, fingerprint, outcome, in_doubt, claimed_at, run, line, was_sent
    from candidate join row using (id)";

pub(crate) const SELECT_DOUBTS: &str = "
    select id, line, reference, fingerprint, claimed_at from row
    where customer_id is null and outcome = 'pending' and in_doubt = 1 order by id";

pub(crate) const INSERT_BATCH: &str =
    "insert into claim_batch (id, run, claimed_at, claims) values (?1, ?2, ?3, ?4)";

/// The claim of a row that is there: what it is if the run dies, and what it was.
pub(crate) const CLAIM_KNOWN: &str = "
    update row set run = ?2, line = told.value->>1, outcome = 'pending', fingerprint = unhex(told.value->>2),
        claimed_at = told.value->>3, settled_at = ?3, attempts = 0, in_doubt = 1, field = null,
        error_code = null, error_message = null, http_status = null, request_id = null,
        was = iif(row.outcome in ('failed', 'rejected'), json_array(
            row.outcome, row.run, row.line, hex(row.fingerprint), row.attempts, row.claimed_at, row.settled_at,
            row.field, row.error_code, row.error_message, row.http_status, row.request_id), row.was),
        owed = row.owed or row.in_doubt or row.outcome in ('failed', 'rejected')
    from json_each(?1) told where row.id = told.value->>0";

/// Those that have other fields now are not what they were, whatever becomes of them.
pub(crate) const FORGET: &str = "update row set was = null where id in (select value from json_each(?1))";

/// Those that were not sent after all, or did not land, are what they were; of the settlements without an id.
pub(crate) const RESTORE: &str = "
    update row set outcome = was->>0, run = coalesce((select run.id from run where run.id = was->>1), ?2),
        line = was->>2, fingerprint = unhex(was->>3), attempts = was->>4, claimed_at = was->>5,
        settled_at = was->>6, field = was->>7, error_code = was->>8, error_message = was->>9,
        http_status = was->>10, request_id = was->>11, was = null
    where was is not null and id in (
        select value->>0 from json_each(?1) where value->>2 = 'pending' and not value->>8)";

pub(crate) const END_BATCHES: &str =
    "delete from claim_batch where run = ?2 and id in (select value from json_each(?1))";

/// What nearly every row of a first import is: new to the ledger, and its Create was answered with an id.
pub(crate) const SETTLE_CREATED: &str = "
    insert into row (run, settled_at, outcome, id, line, reference, key, fingerprint, customer_id, attempts,
                     claimed_at)
    select ?, ?, 'created', told.* from (values (?, ?, ?, ?, ?, ?, ?, ?)) told where column1 is not null";

pub(crate) const SETTLE_WITH_ID: &str = "
    insert into row (run, settled_at, id, line, reference, key, fingerprint, customer_id, attempts, claimed_at,
                     outcome, found, date_created, is_uncertain, api_reference)
    select ?, ?, told.* from (values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)) told where column1 is not null
    on conflict (id) do update set
        run = excluded.run, line = excluded.line, outcome = excluded.outcome,
        fingerprint = excluded.fingerprint, customer_id = excluded.customer_id,
        attempts = excluded.attempts, found = excluded.found, date_created = excluded.date_created,
        is_uncertain = excluded.is_uncertain, api_reference = excluded.api_reference, was_sent = 0,
        claimed_at = excluded.claimed_at, settled_at = excluded.settled_at, in_doubt = 0, field = null,
        was = null, owed = 0,
        error_code = null, error_message = null, http_status = null, request_id = null";

pub(crate) const SETTLE_WITHOUT_ID: &str = "
    insert into row (id, run, line, outcome, reference, key, fingerprint, attempts, claimed_at,
                     settled_at, in_doubt, field, error_code, error_message, http_status, request_id, was_sent)
    select value->>0, ?2, value->>1, value->>2, value->>3, value->>4, unhex(value->>5), value->>6,
           value->>7, ?3, value->>8, value->>9, value->>10, value->>11, value->>12, value->>13, value->>14
    from json_each(?1) where true
    on conflict (id) do update set
        run = excluded.run, line = excluded.line, outcome = excluded.outcome,
        fingerprint = excluded.fingerprint, attempts = excluded.attempts,
        claimed_at = excluded.claimed_at, settled_at = excluded.settled_at,
        was = iif(excluded.outcome = 'pending', row.was, null), owed = iif(excluded.outcome = 'pending', row.owed, 0),
        in_doubt = excluded.in_doubt, field = excluded.field, error_code = excluded.error_code,
        error_message = excluded.error_message, http_status = excluded.http_status,
        request_id = excluded.request_id, was_sent = excluded.was_sent";

pub(crate) const KEEP_RECORDS: &str = "
    insert into record (row, cells, run) select value->>0, value->1, ?2 from json_each(?1) where true
    on conflict (row) do update set cells = excluded.cells, run = excluded.run";

pub(crate) const ERASE_RECORDS: &str = "delete from record where row in (select value from json_each(?1))";

pub(crate) const MARK_CORRECTED: &str = "
    update row set corrected_by = ?2 where id in (
        select row.id from json_each(?1) told
        join row on row.customer_id is null and row.outcome = told.value->>1
            and row.line = told.value->>0 and row.error_code = told.value->>2
        where row.run < ?2 and row.corrected_by is null
        -- Where two files have such a row, it is not known which one came back.
        group by row.line, row.outcome, row.error_code having count(*) = 1)";

pub(crate) const COUNT_DROPPED: &str = "
    insert into dropped (run, field, rule, rows) values (?1, ?2, ?3, ?4)
    on conflict (run, field, rule) do update set rows = rows + excluded.rows";

/// Changes nothing where somebody else has ended the run.
pub(crate) const COUNT_RUN: &str = "
    update run set created = ?2, existing = ?3, unchanged = ?4, changed = ?5, updated = ?6,
        duplicate = ?7, invalid = ?8, rejected = ?9, failed = ?10, pending = ?11,
        requests = ?12, retries = ?13, throttled = ?14, last_line = ?15
    where id = ?1 and state = 'running'";

pub(crate) const MERGE_KEYS: &str =
    "insert or ignore into reference_key (key, row) select * from (values (?, ?)) where column1 is not null";

pub(crate) const RAISE_WATERMARK: &str = "update watermark set row = max(row, ?1)";

pub(crate) const END_RUN: &str = "
    update run set state = ?2, exit_code = ?3, stop_reason = ?4, ended_at = ?5,
        requests = ?6, retries = ?7, throttled = ?8
    where id = ?1";
