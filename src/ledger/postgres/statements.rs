//! The SQL texts of the writer, [`Store`](super::store::Store); those of the reader are in `queries`.
//!
//! A statement for few rows takes them as one JSON array, named `given`; a statement for every row of a source takes one
//! array per column. Each statement is run inside a transaction that has set the search path.

// Transactions, the server, and the worker

/// Begins a transaction; the quoted schema is inserted. The isolation level is named, because a database or a user may have
/// a stricter default, with which a process that has waited for a lock does not see what the other process has written.
/// The timeouts end the transaction of a frozen process, because other processes wait for its locks. How long a statement
/// may take is decided by the program, as `pg_dump` does: a timeout of the server is often meant for a web application.
pub(super) const BEGIN: &str = "
    begin isolation level read committed; set local search_path to {schema}; set local synchronous_commit to on; set local lock_timeout to 10000;
    set local idle_in_transaction_session_timeout to 8000; set local statement_timeout to 0";

pub(super) const BEGIN_READING: &str = "
    begin isolation level repeatable read read only; set local search_path to {schema}; set local statement_timeout to 0";

pub(super) const COMMIT: &str = "commit";

pub(super) const SELECT_SERVER: &str = "
    select current_setting('server_encoding') as encoding, pg_is_in_recovery() as is_standby,
           current_setting('server_version_num')::bigint as version";

/// Whether the schema exists, whether it contains a ledger, and whether it contains anything else.
pub(super) const SELECT_SCHEMA: &str = "
    select exists (select 1 from pg_namespace where nspname = $1) as exists,
           to_regclass(quote_ident($1) || '.migration') is not null
               and to_regclass(quote_ident($1) || '.target') is not null as is_ledger,
           exists (select 1 from pg_class join pg_namespace on pg_namespace.oid = relnamespace
                   where nspname = $1 and relkind in ('r', 'p', 'v', 'm', 'S', 'f')) as is_used";

pub(super) const LOCK_SCHEMA: &str =
    "select pg_advisory_xact_lock(hashtextextended('customer-import ' || $1, 0))";

/// Also refused if the schema exists, where the user may not create one.
pub(super) const CREATE_SCHEMA: &str = "create schema if not exists {schema}";

pub(super) const SELECT_MIGRATION: &str = "select max(version) from migration";

pub(super) const LOCK_TARGET: &str = "select application from target where id = 1 for update";

/// The workers that are recorded as alive, with their runs, and whether the lease of each has expired. No lease expires
/// soon after the start of the server, because no worker could update its row while the server was down.
pub(super) const SELECT_ALIVE: &str = "
    select worker.id, worker.commits, worker.run, worker.begins_run, run.join_key, run.name, run.state = 'running',
           beat_at < clock_timestamp() - lease_ms * interval '1 millisecond'
               and pg_postmaster_start_time() < clock_timestamp() - lease_ms * interval '1 millisecond',
           lease_ms
    from worker left join run on run.id = worker.run where worker.state = 'alive' order by worker.id desc";

pub(super) const SELECT_UNEXPIRED: &str = "
    select run from worker
    where state = 'alive' and beat_at >= clock_timestamp() - lease_ms * interval '1 millisecond' order by id desc";

/// Changes nothing if the worker has updated its row meanwhile.
pub(super) const DECLARE_DEAD: &str =
    "update worker set state = 'dead' where id = $1 and commits = $2 and state = 'alive' returning id";

pub(super) const JOIN: &str = "
    insert into worker (host, version, lease_ms, begins_run, run) values ($1, $2, $3, $4, $5) returning id";

/// The last run with this name.
pub(super) const SELECT_NAMED_RUN: &str = "
    select id, state, exit_code from run where name = $1 order by id desc limit 1";

/// The fence: changes no row if the worker's claims were taken over, and then its transaction is rolled back.
pub(super) const BEAT: &str = "
    update worker set commits = commits + 1, beat_at = clock_timestamp()
    where id = $1 and state = 'alive' and commits = $2 returning id";

/// Waits for the end of the transaction of a lost connection.
pub(super) const SELECT_COMMITS: &str =
    "select commits, state = 'alive' from worker where id = $1 for update";

/// The age of the run in milliseconds.
pub(super) const SELECT_RUN_AGE: &str = "
    select (extract(epoch from clock_timestamp()) * 1000)::bigint - started_at from run where id = $1";

pub(super) const LEAVE: &str = "
    update worker set state = 'left', exit_code = $2, stop_reason = $3 where id = $1 and state = 'alive'";

/// Ends the lease of a worker that ends in the middle of its work: at once, or after this number of milliseconds if
/// requests may be in flight, so that they have arrived when another worker looks their rows up.
pub(super) const END_LEASE: &str = "
    update worker set stop_reason = $3, lease_ms = case
        when exists (select 1 from claim_batch where claim_batch.worker = $1)
            or exists (select 1 from row where row.hold = 'claimed' and row.worker = $1)
            or exists (select 1 from pending_update given where given.hold = 'claimed' and given.worker = $1)
        then least(lease_ms, (extract(epoch from clock_timestamp() - beat_at) * 1000)::bigint + $2)
        else 0 end
    where id = $1 and state = 'alive'";

pub(super) const SET_RUN: &str = "update worker set run = $2 where id = $1";

pub(super) const SET_TARGET: &str = "
    update target set base_url = $1, merchant_id = $2, created_at = $3 where id = 1 and base_url is null";

pub(super) const SELECT_TARGET: &str = "select base_url, merchant_id from target where base_url is not null";

// The beginning of a run

pub(super) const RECOVER_CLAIMS: &str = "
    insert into row (id, run, line, outcome, reference, fingerprint, claimed_at, settled_at, in_doubt)
    select id, run, line, 'pending', reference, decode(fingerprint_hex, 'hex'), claimed_at, $1, true from claim";

pub(super) const DELETE_CLAIM_BATCHES: &str = "delete from claim_batch";

pub(super) const RELEASE_ROWS: &str = "update row set hold = null, worker = null where hold is not null";

pub(super) const RELEASE_UPDATES: &str =
    "update pending_update set hold = null, worker = null where hold is not null";

pub(super) const EXPLAIN_RECOVERED_CLAIMS: &str = "
    update row set error_message = 'the run ended before the answer was recorded'
    where customer_id is null and outcome = 'pending' and in_doubt and error_message is null
    and run in (select id from run where state = 'running')";

pub(super) const END_CRASHED_RUNS: &str =
    "update run set state = 'interrupted', ended_at = $1 where state = 'running'";

/// The numbers of pruned runs are not reused: `last_line` of run 0 is the highest of them.
pub(super) const INSERT_RUN: &str = "
    insert into run (id, command, source, source_path, columns, reference_column, started_at, row_mapping, name,
                     next_row)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9,
            greatest((select coalesce(max(id), 0) from row), (select last_row from target)) + 1)";

pub(super) const SELECT_NEXT_RUN: &str = "
    select coalesce(greatest(max(id), max(case when id = 0 then last_line else 0 end)), 0) + 1 from run";

pub(super) const SELECT_CLAIMS: &str =
    "select id, run, line, reference, fingerprint_hex, claimed_at from claim";

pub(super) const SELECT_IN_DOUBT: &str = "
    select id, line, reference, fingerprint, claimed_at from row
    where customer_id is null and outcome = 'pending' and in_doubt order by id";

pub(super) const HAS_PENDING_UPDATES: &str = "select exists (select 1 from pending_update)";

pub(super) const INSERT_SETTINGS: &str = "
    insert into setting (run, position, name, value, origin)
    select $2, given.at - 1, given.value->>0, given.value->>1, given.value->>2
    from jsonb_array_elements($1::jsonb) with ordinality given (value, at)";

// References

/// The highest id that was ever assigned, even if the last rows were deleted.
pub(super) const SELECT_LAST_ROW: &str = "
    select greatest((select coalesce(max(id), 0) from row), (select last_row from target))";

pub(super) const FIND_ROWS: &str = "
    select id, reference, fingerprint, outcome, in_doubt, claimed_at, run, line, was_sent
    from row where reference = any($1) and outcome not in ('invalid', 'duplicate')";

/// The rows as one JSON value, as in SQLite.
pub(super) const READ_ORDERED: &str = "
    select coalesce(json_agg(json_build_array(id, run, line, outcome, reference, encode(fingerprint, 'hex'),
                                              in_doubt::int, claimed_at, was_sent::int) order by id), '[]')::text
    from (select * from row where id >= $1 and outcome not in ('invalid', 'duplicate') order by id limit $2) next";

pub(super) const FIND_PENDING_UPDATES: &str = "
    select row, fingerprint, outcome, may_have_landed from pending_update where row = any($1)";

pub(super) const FIND_CUSTOMER_NAMES: &str = "
    select id, customer_id, api_reference from row where id = any($1) and customer_id is not null";

pub(super) const HAS_OTHER_ROW: &str = "
    select exists (select 1 from row where customer_id = $1 and api_reference is not null and id <> $2)";

// Claims and settlements

pub(super) const INSERT_CLAIM_BATCH: &str =
    "insert into claim_batch (id, run, worker, claimed_at, claims) values ($1, $2, $3, $4, $5)";

pub(super) const END_CLAIM_BATCHES: &str = "delete from claim_batch where run = $2 and id = any($1)";

/// The claim of a row that the ledger knows: sets the state that the row has if the run dies, and keeps the earlier
/// state in `before_claim`. A row that is only looked up stays one of the run whose file it comes from, which says in which
/// column its reference stands.
pub(super) const CLAIM_AGAIN: &str = "
    update row set run = case when (given.value->>4)::boolean then $2 else row.run end, line = (given.value->>1)::bigint, outcome = 'pending',
        fingerprint = decode(given.value->>2, 'hex'), claimed_at = (given.value->>3)::bigint, settled_at = $3,
        attempts = 0, in_doubt = true, field = null, hold = 'claimed', worker = $4,
        error_code = null, http_status = null, request_id = null,
        error_message = case when not (given.value->>4)::boolean then row.error_message end,
        before_claim = case when row.outcome in ('failed', 'rejected') then json_build_array(
            row.outcome, row.run, row.line, encode(row.fingerprint, 'hex'), row.attempts, row.claimed_at,
            row.settled_at, row.field, row.error_code, row.error_message, row.http_status, row.request_id)::text
            else row.before_claim end,
        retry_unfinished = row.retry_unfinished or row.in_doubt or row.outcome in ('failed', 'rejected')
    from jsonb_array_elements($1::jsonb) given (value) where row.id = (given.value->>0)::bigint";

/// A row with other fields than before is not restored to the state before the claim.
pub(super) const FORGET_BEFORE_CLAIM: &str = "update row set before_claim = null where id = any($1)";

/// Restores the state before the claim, for rows that were not sent, or whose request did not land.
pub(super) const RESTORE_ROWS: &str = "
    update row set outcome = was.value->>0,
        run = coalesce((select run.id from run where run.id = (was.value->>1)::bigint), $2),
        line = (was.value->>2)::bigint, fingerprint = decode(was.value->>3, 'hex'),
        attempts = (was.value->>4)::bigint, claimed_at = (was.value->>5)::bigint,
        settled_at = (was.value->>6)::bigint, field = was.value->>7, error_code = was.value->>8,
        error_message = was.value->>9, http_status = (was.value->>10)::bigint, request_id = was.value->>11,
        before_claim = null
    from (
        select id, before_claim::jsonb from row
        where before_claim is not null and id in (
            select (given.value->>0)::bigint from jsonb_array_elements($1::jsonb) given (value)
            where given.value->>2 = 'pending' and not (given.value->>8)::boolean)
    ) was (id, value)
    where row.id = was.id";

/// Nearly every row of a first import: new to the ledger, and the reply to its Create had an id.
pub(super) const SETTLE_CREATED: &str = "
    insert into row (run, settled_at, outcome, id, line, reference, fingerprint, customer_id, attempts, claimed_at)
    select $1, $2, 'created', given.*
    from unnest($3::bigint[], $4::bigint[], $5::text[], $6::bytea[], $7::text[], $8::bigint[], $9::bigint[]) given";

pub(super) const SETTLE_WITH_ID: &str = "
    insert into row (run, settled_at, id, line, reference, fingerprint, customer_id, attempts, claimed_at,
                     outcome, found, date_created, is_uncertain, api_reference)
    select $1, $2, given.*
    from unnest($3::bigint[], $4::bigint[], $5::text[], $6::bytea[], $7::text[], $8::bigint[], $9::bigint[],
                $10::text[], $11::boolean[], $12::bigint[], $13::boolean[], $14::text[]) given
    on conflict (id) do update set
        run = excluded.run, line = excluded.line, outcome = excluded.outcome,
        fingerprint = excluded.fingerprint, customer_id = excluded.customer_id,
        attempts = excluded.attempts, found = excluded.found, date_created = excluded.date_created,
        is_uncertain = excluded.is_uncertain, api_reference = excluded.api_reference, was_sent = false,
        claimed_at = excluded.claimed_at, settled_at = excluded.settled_at, in_doubt = false, field = null,
        before_claim = null, retry_unfinished = false, hold = null, worker = null,
        error_code = null, error_message = null, http_status = null, request_id = null";

/// A row that stays pending keeps its run, which is that of its claim.
pub(super) const SETTLE_WITHOUT_ID: &str = "
    insert into row (id, run, line, outcome, reference, fingerprint, attempts, claimed_at,
                     settled_at, in_doubt, field, error_code, error_message, http_status, request_id, was_sent)
    select (given.value->>0)::bigint, $2, (given.value->>1)::bigint, given.value->>2, given.value->>3,
           decode(given.value->>5, 'hex'), (given.value->>6)::bigint, (given.value->>7)::bigint, $3,
           (given.value->>8)::boolean, given.value->>9, given.value->>10, given.value->>11,
           (given.value->>12)::bigint, given.value->>13, (given.value->>14)::boolean
    from jsonb_array_elements($1::jsonb) given (value)
    on conflict (id) do update set
        run = case when excluded.outcome = 'pending' then row.run else excluded.run end, line = excluded.line,
        outcome = excluded.outcome, fingerprint = excluded.fingerprint, attempts = excluded.attempts,
        claimed_at = excluded.claimed_at, settled_at = excluded.settled_at,
        before_claim = case when excluded.outcome = 'pending' then row.before_claim end,
        retry_unfinished = excluded.outcome = 'pending' and row.retry_unfinished,
        hold = null, worker = null, in_doubt = excluded.in_doubt, field = excluded.field, error_code = excluded.error_code,
        error_message = excluded.error_message, http_status = excluded.http_status,
        request_id = excluded.request_id, was_sent = excluded.was_sent";

/// The cells are stored as a text of JSON that the server does not parse, so they may contain any character.
pub(super) const KEEP_RECORDS: &str = "
    insert into record (row, cells, run) select given.id, given.cells, $3
    from unnest($1::bigint[], $2::text[]) given (id, cells)
    on conflict (row) do update set cells = excluded.cells, run = excluded.run";

pub(super) const ERASE_RECORDS: &str = "delete from record where row = any($1)";

pub(super) const MARK_CORRECTED: &str = "
    update row set corrected_by = $2 where id in (
        select min(row.id) from jsonb_array_elements($1::jsonb) given (value)
        join row on row.customer_id is null and row.outcome = given.value->>1
            and row.line = (given.value->>0)::bigint and row.error_code = given.value->>2
        where row.run < $2 and row.corrected_by is null
        -- If two files have such a row, it is unknown which of them was corrected.
        group by row.line, row.outcome, row.error_code having count(*) = 1)";

pub(super) const COUNT_DROPPED: &str = "
    insert into dropped (run, field, rule, rows)
    select $2, given.value->>0, given.value->>1, (given.value->>2)::bigint
    from jsonb_array_elements($1::jsonb) given (value)
    on conflict (run, field, rule) do update set rows = dropped.rows + excluded.rows";

pub(super) const COUNT_EXISTING: &str = "
    insert into existing_note (run, note, rows)
    select $2, given.value->>0, (given.value->>1)::bigint from jsonb_array_elements($1::jsonb) given (value)
    on conflict (run, note) do update set rows = existing_note.rows + excluded.rows";

/// Takes the moments of the rate up to a later one; null if the table is empty. Without a worker, it is a command beside
/// runs. Moments that are further ahead than all workers together may reserve were given before the server's clock was set
/// back.
pub(super) const TAKE_MOMENTS: &str = "
    with alive as (select id from {schema}.worker where state = 'alive'), taken as (
        update {schema}.rate
        set given_until = greatest(
                case when given_until - extract(epoch from clock_timestamp())::float8
                        <= $5 + (32 + 2 * (select count(*) from alive)) * greatest(interval_seconds, $4)
                    then given_until else extract(epoch from clock_timestamp())::float8 + 1 end,
                extract(epoch from clock_timestamp())::float8 + $2)
                + $3 * greatest(interval_seconds, $4)
        where id = 1 and ($1::bigint is null or exists (select 1 from alive where id = $1))
        returning given_until, interval_seconds)
    select (select given_until from taken), (select interval_seconds from taken),
           extract(epoch from clock_timestamp())::float8,
           (select $1::bigint is null or count(*) filter (where id = $1) > 0 from alive), (select count(*) from alive)";

/// Begins the transaction of a statement about the rate, which names its schema and whose times are read as texts.
pub(super) const BEGIN_RATE_TRANSACTION: &str =
    "begin isolation level read committed; set local extra_float_digits to 3";

/// What was given away before the table became empty is over in a second.
pub(super) const BEGIN_RATE: &str = "
    insert into {schema}.rate (id, given_until, interval_seconds)
    values (1, extract(epoch from clock_timestamp())::float8 + 1, $1)
    on conflict (id) do nothing";

/// Forgets what was found out about the API's limit; moments that were given away, and pauses, stay.
pub(super) const FORGET_RATE: &str = "update rate set state = null, version = version + 1 where id = 1";

pub(super) const SELECT_RATE: &str = "
    select state, version, began, given_until, extract(epoch from clock_timestamp())::float8,
           $1::bigint is null or exists (select 1 from {schema}.worker where id = $1 and state = 'alive')
    from {schema}.rate where id = 1";

/// Changes nothing if another worker has stored a rate since, or if this one is not alive any more.
pub(super) const STORE_RATE: &str = "
    update {schema}.rate
    set state = $3, began = $4, interval_seconds = $5, given_until = greatest(given_until, $6), version = version + 1
    where id = 1 and version = $2
    and ($1::bigint is null or exists (select 1 from {schema}.worker where id = $1 and state = 'alive'))";

/// Adds the counts of this worker since its last commit. Changes nothing if the run has ended.
pub(super) const COUNT_RUN: &str = "
    update run set requests = requests + $2, retries = retries + $3, throttled = throttled + $4,
        imported_seen = imported_seen + $5, last_line = greatest(last_line, $6), sent = sent + $7,
        sent_failures = sent_failures + $8
    where id = $1 and state = 'running'";

pub(super) const COUNT_WORKER: &str = "update worker set rows_settled = rows_settled + $2 where id = $1";

pub(super) const COUNT_OUTCOMES: &str = "
    insert into run_outcome (run, outcome, rows)
    select $2, given.value->>0, (given.value->>1)::bigint from jsonb_array_elements($1::jsonb) given (value)
    on conflict (run, outcome) do update set rows = run_outcome.rows + excluded.rows";

// Workers that share a run

pub(super) const WAIT_FOR_CURSOR: &str =
    "update worker set waits_since = coalesce(waits_since, clock_timestamp()) where id = $1";

/// Takes the cursor, unless another worker has it or has waited for it longer. A worker that waits writes at least four
/// times a second. A worker that has the cursor and was silent for half of its lease loses it: it was stopped while it
/// claimed rows, and its claim is void when it continues, because only the holder can move the cursor.
pub(super) const TAKE_CURSOR: &str = "
    update run set cursor_holder = $2
    where id = $1 and state = 'running' and stopping is null
    and (cursor_holder = $2
        or (cursor_holder is null or $3::boolean and exists (
            select 1 from worker holder where holder.id = cursor_holder
            and holder.beat_at < clock_timestamp() - holder.lease_ms * interval '0.5 milliseconds'
            and pg_postmaster_start_time() < clock_timestamp() - holder.lease_ms * interval '0.5 milliseconds'))
        and not exists (
            select 1 from worker other, worker me
            where me.id = $2 and other.run = $1 and other.id <> $2 and other.state = 'alive'
            and other.waits_since < me.waits_since
            and other.beat_at > clock_timestamp() - interval '1 second'))";

pub(super) const STOP_WAITING: &str = "
    update worker set waits_since = null
    where id = $2 and exists (select 1 from run where id = $1 and cursor_holder = $2)";

/// The cursor, whether this worker has it, whether rows are still to be claimed, and whether this worker can take it.
pub(super) const SELECT_CURSOR: &str = "
    select cursor_rows, cursor_start, cursor_hash, next_row, is_at_end,
           coalesce(cursor_holder, 0) = $2, state = 'running' and stopping is null,
           (cursor_holder is null or $3::boolean and exists (
               select 1 from worker holder where holder.id = cursor_holder
               and holder.beat_at < clock_timestamp() - holder.lease_ms * interval '0.5 milliseconds'
               and pg_postmaster_start_time() < clock_timestamp() - holder.lease_ms * interval '0.5 milliseconds'))
           and not exists (
               select 1 from worker other, worker me
               where me.id = $2 and other.run = $1 and other.id <> $2 and other.state = 'alive'
               and other.waits_since < me.waits_since
               and other.beat_at > clock_timestamp() - interval '1 second')
    from run where id = $1";

/// Moves and releases the cursor; changes nothing unless this worker holds the cursor.
pub(super) const MOVE_CURSOR: &str = "
    update run set cursor_rows = $3, cursor_start = $4, cursor_hash = $5, next_row = $6, is_at_end = $7,
        cursor_holder = null, join_key = coalesce(join_key, $8)
    where id = $1 and cursor_holder = $2";

/// Declares the workers of a run dead whose leases have expired, and marks their claims as orphaned. A worker in the
/// middle of a commit counts as alive.
pub(super) const ORPHAN_CLAIMS: &str = "
    with dead as (
        update worker set state = 'dead' where id in (
            select id from worker
            where run = $1 and id <> $2 and state = 'alive' and $4::boolean
            and beat_at < clock_timestamp() - lease_ms * interval '1 millisecond'
            and pg_postmaster_start_time() < clock_timestamp() - lease_ms * interval '1 millisecond'
            for update skip locked)
        returning id),
    gone as (delete from claim_batch where worker in (select id from dead) returning run, claimed_at, claims),
    claims as (
        insert into row (id, run, line, outcome, reference, fingerprint, claimed_at, settled_at, in_doubt, hold,
                         error_message)
        select (given.value->>0)::bigint, gone.run, (given.value->>1)::bigint, 'pending',
               given.value->>2, decode(given.value->>4, 'hex'), gone.claimed_at, $3, true,
               'orphaned', 'the worker ended before the answer was recorded'
        from gone, jsonb_array_elements(gone.claims::jsonb) given (value)
        where not exists (select 1 from row where row.id = (given.value->>0)::bigint)),
    known as (update row set hold = 'orphaned', worker = null where worker in (select id from dead)),
    updates as (update pending_update set hold = 'orphaned', worker = null where worker in (select id from dead))
    update run set cursor_holder = null where id = $1 and cursor_holder in (select id from dead)";

/// Marks the rows as orphaned that a leaving worker has claimed and not settled.
pub(super) const ORPHAN_ROWS: &str = "
    update row set hold = 'orphaned', worker = null where id = any($1) and customer_id is null";

pub(super) const ORPHAN_UPDATES: &str =
    "update pending_update set hold = 'orphaned', worker = null where row = any($1)";

/// Marks the adopted rows as orphaned that a leaving worker has not read again.
pub(super) const ORPHAN_OWN_ROWS: &str =
    "update row set hold = 'orphaned', worker = null where worker = $1 and hold = 'adopted'";

pub(super) const ORPHAN_OWN_UPDATES: &str =
    "update pending_update set hold = 'orphaned', worker = null where worker = $1 and hold = 'adopted'";

pub(super) const RELEASE_ADOPTED_UPDATES: &str =
    "update pending_update set hold = null, worker = null where row = any($1)";

pub(super) const ADOPT_ROWS: &str = "
    update row set hold = 'adopted', worker = $1 where id in (
        select id from row where hold = 'orphaned' order by id limit $2 for update skip locked)";

pub(super) const ADOPT_UPDATES: &str = "
    update pending_update set hold = 'adopted', worker = $1 where row in (
        select row from pending_update where hold = 'orphaned' order by row limit $2 for update skip locked)";

pub(super) const SELECT_ADOPTED: &str = "
    select id, reference, fingerprint, outcome, in_doubt, claimed_at, run, line, was_sent
    from row where worker = $1 and hold = 'adopted'
    union all
    select id, reference, row.fingerprint, row.outcome, in_doubt, claimed_at, row.run, row.line, was_sent
    from pending_update join row on row.id = pending_update.row
    where pending_update.worker = $1 and pending_update.hold = 'adopted'
    order by 1";

/// The counts of the run over all its workers, at the end of a commit.
pub(super) const SELECT_SHARED_RUN: &str = "
    select coalesce((select json_object_agg(outcome, rows) from run_outcome where run_outcome.run = run.id),
                    '{}')::text,
           requests, retries, throttled, imported_seen, is_at_end, cursor_rows, state, stopping,
           exists (select 1 from claim_batch where claim_batch.run = run.id)
               or exists (select 1 from row where hold in ('claimed', 'adopted'))
               or exists (select 1 from pending_update where hold in ('claimed', 'adopted')),
           exists (select 1 from row where hold = 'orphaned')
               or exists (select 1 from pending_update where hold = 'orphaned'),
           (select count(*) from worker where worker.run = run.id and worker.state = 'alive'), sent, sent_failures,
           (select count(*) from worker where worker.run = run.id)
    from run where id = $1";

pub(super) const SET_STOPPING: &str =
    "update run set stopping = coalesce(stopping, $2) where id = $1 and state = 'running'";

// Updates

pub(super) const BEGIN_UPDATES: &str = "
    insert into pending_update (row, run, line, outcome, fingerprint, may_have_landed, hold, worker)
    select (given.value->>0)::bigint, $2, (given.value->>1)::bigint, 'pending', decode(given.value->>2, 'hex'), true,
           'claimed', $3
    from jsonb_array_elements($1::jsonb) given (value)
    on conflict (row) do update set
        run = excluded.run, line = excluded.line, outcome = 'pending', fingerprint = excluded.fingerprint,
        may_have_landed = true, attempts = 0, error_code = null, error_message = null, http_status = null,
        request_id = null, hold = 'claimed', worker = $3,
        before_claim = case when pending_update.outcome in ('failed', 'rejected') then json_build_array(
            pending_update.outcome, pending_update.run, pending_update.line,
            encode(pending_update.fingerprint, 'hex'), pending_update.attempts, pending_update.may_have_landed,
            null, null, pending_update.error_code, pending_update.error_message, pending_update.http_status,
            pending_update.request_id)::text else pending_update.before_claim end,
        retry_unfinished = pending_update.retry_unfinished or pending_update.outcome in ('failed', 'rejected')";

pub(super) const SETTLE_UPDATED: &str = "
    update row set outcome = 'updated', run = $2, settled_at = $3, line = (given.value->>1)::bigint,
        fingerprint = decode(given.value->>2, 'hex'), attempts = (given.value->>3)::bigint
    from jsonb_array_elements($1::jsonb) given (value) where row.id = (given.value->>0)::bigint";

pub(super) const SETTLE_UNFINISHED_UPDATES: &str = "
    update pending_update set outcome = given.value->>1, may_have_landed = (given.value->>2)::boolean,
        attempts = (given.value->>3)::bigint, error_code = given.value->>4, error_message = given.value->>5,
        http_status = (given.value->>6)::bigint, request_id = given.value->>7, hold = null, worker = null,
        before_claim = case when given.value->>1 = 'pending' then pending_update.before_claim end,
        retry_unfinished = given.value->>1 = 'pending' and pending_update.retry_unfinished
    from jsonb_array_elements($1::jsonb) given (value) where pending_update.row = (given.value->>0)::bigint";

/// Unsuccessful Updates of rows that were inserted in the same commit because the customer existed.
pub(super) const INSERT_UNFINISHED_UPDATES: &str = "
    insert into pending_update (row, run, line, outcome, fingerprint, may_have_landed, attempts, error_code,
                                error_message, http_status, request_id)
    select (given.value->>0)::bigint, $2, (given.value->>1)::bigint, given.value->>2,
           decode(given.value->>3, 'hex'), (given.value->>4)::boolean, (given.value->>5)::bigint, given.value->>6,
           given.value->>7, (given.value->>8)::bigint, given.value->>9
    from jsonb_array_elements($1::jsonb) given (value)
    on conflict (row) do update set
        run = excluded.run, line = excluded.line, outcome = excluded.outcome, fingerprint = excluded.fingerprint,
        may_have_landed = excluded.may_have_landed, attempts = excluded.attempts, error_code = excluded.error_code,
        error_message = excluded.error_message, http_status = excluded.http_status,
        request_id = excluded.request_id, hold = null, worker = null";

/// Restores the state before the claim, for Updates that were not sent. Whether an earlier Update has landed remains
/// unknown.
pub(super) const RESTORE_UPDATES: &str = "
    update pending_update set outcome = was.value->>0,
        run = coalesce((select run.id from run where run.id = (was.value->>1)::bigint), $2),
        line = (was.value->>2)::bigint, fingerprint = decode(was.value->>3, 'hex'),
        attempts = (was.value->>4)::bigint, error_code = was.value->>8, error_message = was.value->>9,
        http_status = (was.value->>10)::bigint, request_id = was.value->>11, before_claim = null
    from (
        select row, before_claim::jsonb from pending_update where before_claim is not null and row = any($1)
    ) was (row, value)
    where pending_update.row = was.row";

pub(super) const DELETE_FINISHED_UPDATES: &str = "delete from pending_update where row = any($1)";

pub(super) const COUNT_CHANGED: &str = "
    insert into changed (run, field, rows)
    select $2, given.value->>0, (given.value->>1)::bigint from jsonb_array_elements($1::jsonb) given (value)
    on conflict (run, field) do update set rows = changed.rows + excluded.rows";

// Rows that cannot be sent

pub(super) const SELECT_EARLIER_UNSENDABLE: &str = "
    select content, id, outcome = 'duplicate', other_cells is not null from row where content is not null and run < $1";

pub(super) const SELECT_CONTENTS_WITHOUT_REFERENCE: &str =
    "select other_cells from row where other_cells is not null and run < $1";

/// References of invalid rows in the part of the source that this run does not read again.
pub(super) const SELECT_NAMED_REFERENCES: &str = "
    select reference, id from row
    where content is not null and run = $1 and outcome = 'invalid' and reference is not null";

pub(super) const SELECT_REFERENCES: &str =
    "select reference from row where id = any($1) and reference is not null";

pub(super) const INSERT_UNSENDABLE: &str = "
    insert into row (id, run, line, outcome, reference, settled_at, field, error_code, error_message, content,
                     other_cells)
    select (given.value->>0)::bigint, $2, (given.value->>1)::bigint, given.value->>2, given.value->>3, $3,
           given.value->>4, given.value->>5, given.value->>6, (given.value->>7)::bigint, (given.value->>8)::bigint
    from jsonb_array_elements($1::jsonb) given (value)";

pub(super) const DELETE_SUPERSEDED_BY_ID: &str = "
    delete from row using jsonb_array_elements($1::jsonb) given (value)
    where row.id = (given.value->>0)::bigint and row.run < $2 and row.content is not null
    and row.reference is not distinct from given.value->>1
    and ((given.value->>2)::boolean or row.outcome = 'invalid' and row.error_code not like '%duplicate')";

pub(super) const DELETE_SUPERSEDED_BY_LINE: &str = "
    delete from row using jsonb_array_elements($1::jsonb) given (value)
    where row.line = (given.value->>0)::bigint and row.content = (given.value->>1)::bigint
    and row.content is not null and row.run < $2 and row.reference is not distinct from given.value->>2";

pub(super) const DELETE_SUPERSEDED_BY_CELLS: &str = "
    delete from row using jsonb_array_elements($1::jsonb) given (value)
    where row.line = (given.value->>0)::bigint and row.other_cells = (given.value->>1)::bigint
    and row.other_cells is not null and row.run < $2";

pub(super) const DELETE_UNSENDABLE: &str =
    "delete from row where run < $2 and content is not null and id = any($1)";

pub(super) const HAS_UNREADABLE: &str =
    "select exists (select 1 from row where other_cells is not null and run = $1)";

/// The runs that found a row on one of these lines whose reference could not be read.
pub(super) const SELECT_UNREADABLE: &str =
    "select line, run from row where other_cells is not null and run < $2 and line = any($1)";

pub(super) const KEEP_SEEN: &str = "
    insert into seen_rows (run, next_id, rows) values ($1, $2, $3)
    on conflict (run) do update set next_id = excluded.next_id, rows = excluded.rows";

/// Deletes the data about runs none of whose rows with an unreadable reference is left.
pub(super) const DELETE_SEEN: &str = "
    delete from seen_rows where not exists (
        select 1 from row where row.other_cells is not null and row.run = seen_rows.run)";

pub(super) const SELECT_SEEN: &str = "select next_id, rows from seen_rows where run = $1";

pub(super) const SELECT_SEEN_BEFORE: &str = "
    select next_id, rows from seen_rows where run = (select max(id) from run where id < $1)";

// Checkpoints

/// Only of the last run: the tally of an earlier one does not include rows that were settled since.
pub(super) const SELECT_LAST_CHECKPOINT: &str = "
    select bytes, line, prefix_bytes, prefix_hash, tally, whole_file_only or exists (
        select 1 from dropped where dropped.run = run.id union all select 1 from changed where changed.run = run.id
    ), chain_start
    from checkpoint join run on run.id = checkpoint.run
    where run.id = (select max(id) from run) and run.command = $1 and run.source_path = $2
    and checkpoint.parse_settings_hash = $3";

pub(super) const INSERT_CHECKPOINT: &str =
    "insert into checkpoint (run, parse_settings_hash) values ($1, $2)";

pub(super) const SET_CHECKPOINT: &str = "
    update checkpoint set bytes = $2, line = $3, prefix_bytes = $4, prefix_hash = $5, tally = $6,
        whole_file_only = $7, chain_start = $8
    where run = $1";

/// The line that each run of the chain reached. The run settled later rows too, but their bytes may have changed before
/// the next run read them.
pub(super) const SELECT_CHECKPOINT_LINES: &str =
    "select run, coalesce(line, 0) from checkpoint where run >= $1 and run < $2";

/// Assigns invalid rows and duplicates in the part that is not read again to the run that counts them.
pub(super) const TAKE_OVER_UNSENDABLE: &str = "
    update row set run = $1, settled_at = $3 where customer_id is null and outcome in ('invalid', 'duplicate')
    and run >= $2 and run < $1 and line < (select line from checkpoint where checkpoint.run = row.run)";

pub(super) const TAKE_OVER_RECORDS: &str = "
    update record set run = $1 where row in (
        select id from row where customer_id is null and outcome in ('invalid', 'duplicate') and run = $1)";

/// Copies the counts by field, because the whole source is unchanged.
pub(super) const COPY_DROPPED: &str = "
    insert into dropped (run, field, rule, rows) select $1, field, rule, rows from dropped
    where run = (select max(id) from run where id < $1)";

pub(super) const COPY_CHANGED: &str = "
    insert into changed (run, field, rows) select $1, field, rows from changed
    where run = (select max(id) from run where id < $1)";

// Samples, the heartbeat, and the end of a run

pub(super) const DELETE_SAMPLES: &str = "delete from sample where run = $1 and number >= $2 and worker = $3";

pub(super) const INSERT_SAMPLES: &str = "
    insert into sample (run, worker, number, from_ms, to_ms, succeeded, faulty, failed, requests, retries, throttled,
                        in_flight, held_rate, latencies)
    select $2, $4, $3 + given.at - 1, (given.value->>0)::bigint, (given.value->>1)::bigint, (given.value->>2)::bigint,
           (given.value->>3)::bigint, (given.value->>4)::bigint, (given.value->>5)::bigint,
           (given.value->>6)::bigint, (given.value->>7)::bigint, (given.value->>8)::bigint,
           (given.value->>9)::double precision, (given.value->10)::text
    from jsonb_array_elements($1::jsonb) with ordinality given (value, at)";

pub(super) const SET_HEARTBEAT: &str = "
    insert into heartbeat
        (run, at, activity, total, is_exact, per_second, in_flight, retrying, in_doubt, throttled_to, cause,
         throttled_by, pauses, worker)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    on conflict (run, worker) do update set
        at = excluded.at, activity = excluded.activity, total = excluded.total, is_exact = excluded.is_exact,
        per_second = excluded.per_second, in_flight = excluded.in_flight, retrying = excluded.retrying,
        in_doubt = excluded.in_doubt, throttled_to = excluded.throttled_to, cause = excluded.cause,
        throttled_by = excluded.throttled_by, pauses = excluded.pauses";

/// Deletes the heartbeats of the leaving worker and of dead workers.
pub(super) const DELETE_HEARTBEAT: &str = "
    delete from heartbeat where worker = $1
    or not exists (select 1 from worker where worker.id = heartbeat.worker and worker.state = 'alive')";

pub(super) const COUNT_IMPORTED: &str = "select count(*) from row where customer_id is not null";

/// One page, in the order of the index.
pub(super) const SELECT_INVALID_REFERENCES: &str = "
    select line, id, reference from row
    where customer_id is null and outcome = 'invalid' and run = $1 and reference is not null and (line, id) > ($2, $3)
    order by line, id limit $4";

/// The number of imported rows that the source of the previous run did not contain, if it was counted.
pub(super) const SELECT_ABSENT_BEFORE: &str = "
    select absent from run where id = (select max(id) from run where id < $1) and absent is not null";

pub(super) const SET_ABSENT: &str = "update run set absent = $2 where id = $1";

/// Ends the run; while other workers continue it, only if the run is completed.
pub(super) const END_RUN: &str = "
    update run set state = $2, exit_code = $3, stop_reason = coalesce(stopping, $4), ended_at = $5
    where id = $1 and state = 'running' and ($2 = 'completed' or not exists (
        select 1 from worker where worker.run = $1 and worker.id <> $6 and worker.state = 'alive'
        and beat_at >= clock_timestamp() - lease_ms * interval '1 millisecond'))";

// What `verify` found

/// Changes a row only if the ledger still has the fields that were compared: a run may have changed them meanwhile.
pub(super) const MARK_CHANGED: &str = "
    update row set fingerprint = decode(given.value->>2, 'hex') from jsonb_array_elements($1::jsonb) given (value)
    where row.id = (given.value->>0)::bigint and row.customer_id is not null
    and row.fingerprint = decode(given.value->>1, 'hex')";

/// Makes the checkpoints unusable: otherwise an unchanged file would not be read again.
pub(super) const FORGET_CHECKPOINTS: &str = "update checkpoint set bytes = null";

// Pruning

/// The times of the runs that have ended, and of run 0.
pub(super) const SELECT_RUN_TIMES: &str = "
    select id, started_at, coalesce(ended_at, started_at) from run where state <> 'running' order by id";

/// Deletes the cells of rows settled in such runs, but not of a row that was created long ago and whose Update was
/// rejected recently, nor of a row that a later run has read again.
pub(super) const DELETE_OLD_RECORDS: &str = "
    with gone as (delete from record where row in (
        select row.id from record join row on row.id = record.row
        left join pending_update on pending_update.row = row.id
        where coalesce(pending_update.run, row.run) = any($1)
        and coalesce(record.run, row.run) = any($1)
        and coalesce(pending_update.outcome, row.outcome) <> 'pending'
            and not coalesce(pending_update.retry_unfinished, row.retry_unfinished)) returning row)
    select count(*) from gone";

pub(super) const DELETE_OLD_UNSENDABLE: &str = "
    with gone as (delete from row where outcome in ('invalid', 'duplicate') and run = any($1) returning id)
    select count(*) from gone";

/// All of them except those whose header names stored cells.
pub(super) const SELECT_RUNS_TO_DELETE: &str = "
    select coalesce(array_agg(id), '{}') from (
        select id from unnest($1::bigint[]) old (id) where id > 0
        except select coalesce(record.run, row.run) from record join row on row.id = record.row) gone";

pub(super) const KEEP_LAST_ROW: &str = "
    update target set last_row = greatest(last_row, (select coalesce(max(id), 0) from row))";

pub(super) const INSERT_PRUNED_RUN: &str = "
    insert into run (id, command, source, columns, reference_column, state, started_at)
    values (0, 'import', 'pruned runs', json_build_array('object_reference_id')::text, 'object_reference_id', 'completed', 0)
    on conflict (id) do nothing";

/// A run number is never reused.
pub(super) const KEEP_RUN_NUMBERS: &str = "
    update run set last_line = greatest(last_line, (select coalesce(max(gone.id), 0) from unnest($1::bigint[]) gone (id)))
    where id = 0";

pub(super) const HAND_OVER_ROWS: &str = "update row set run = 0 where run = any($1)";

/// Includes rows of a run that stays: run 0 marks that their cells are deleted.
pub(super) const HAND_OVER_EMPTIED: &str = "
    update row set run = 0
    where customer_id is null and outcome in ('rejected', 'failed') and run > 0
    and run = any($1) and not exists (select 1 from record where record.row = row.id)";

pub(super) const HAND_OVER_CORRECTED: &str = "update row set corrected_by = 0 where corrected_by = any($1)";

pub(super) const HAND_OVER_UPDATES: &str = "update pending_update set run = 0 where run = any($1)";

/// The rows now belong to run 0, so a run that resumed at such a checkpoint could not know which rows it had read.
pub(super) const DELETE_CHECKPOINTS: &str = "delete from checkpoint";

/// The foreign keys delete the other data of these runs.
pub(super) const DELETE_RUNS: &str = "delete from run where id = any($1)";

pub(super) const DELETE_WORKERS: &str = "delete from worker where run is null and state <> 'alive'";

pub(super) const VACUUM: &str = "vacuum (analyze) {schema}.row, {schema}.record";

pub(super) const SELECT_SIZE: &str = "
    select coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)::bigint
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace
    where nspname = current_schema() and relkind = 'r'";
