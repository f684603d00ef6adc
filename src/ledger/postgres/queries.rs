//! The SQL texts of the reader, [`Reader`](super::reader::Reader).

/// The last column: whether a worker of the run counts as alive. If none does, the run has died, even if its state is
/// `running`.
pub(super) const SELECT_RUNS: &str = "
    select id, command, source, state, exit_code, stop_reason, started_at, ended_at, requests, retries, throttled,
           coalesce((select json_object_agg(outcome, rows) from run_outcome where run_outcome.run = run.id),
                    '{}')::text,
           (select max(to_ms) from sample where sample.run = run.id),
           exists (select 1 from worker where worker.run = run.id and worker.state = 'alive'
                   and beat_at >= clock_timestamp() - lease_ms * interval '1 millisecond')
    from run where id > 0 order by id";

pub(super) const SELECT_LAST_SUCCESS: &str = "
    select ended_at from run where state = 'completed' and exit_code in (0, 3) and id > 0 order by id desc limit 1";

/// Of all runs: the headers of the files that listed rows come from, or may come from in a moment because their run goes
/// on; of all files if no row is listed.
pub(super) const SELECT_HEADERS: &str = "
    with listed (run) as materialized (
        select distinct coalesce(record.run, to_correct.run)
        from to_correct left join record on record.row = to_correct.id)
    select id, columns, reference_column from run
    where case when $1::bigint is null then id in (select run from listed) or state = 'running'
                   or not exists (select 1 from listed)
               else id = $1 or id in (
                   select record.run from record join row on row.id = record.row where row.run = $1) end
    -- The stand-in for pruned runs, where it has rows to correct.
    and (id > 0 or exists (select 1 from row where run = 0 and customer_id is null))
    order by id = 0, id";

/// As in the exports: an imported row whose Update did not succeed has the outcome of the Update.
pub(super) const COUNT_OUTCOMES: &str = "
    select outcome, sum(rows)::bigint from (
        select outcome, count(*) as rows from row where customer_id is not null group by outcome
        union all
        select row.outcome, -1 from pending_update join row on row.id = pending_update.row
        where not exists (select 1 from invalid_now where invalid_now.reference = row.reference)
        union all
        select outcome, count(*) from to_correct group by outcome) counted
    group by outcome";

pub(super) const SELECT_ROWS_OF_RUN: &str = "
    select every_row.id, every_row.run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id, cells, coalesce(record.run, every_row.run),
           (select api_reference from row where row.id = every_row.id)
    from every_row left join record on record.row = every_row.id
    where every_row.run = $1 order by every_row.id";

/// Each row once.
pub(super) const SELECT_ROWS: &str = "
    select id, row.run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id, null::text, row.run, api_reference
    from row where customer_id is not null
    union all
    select id, run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id, null, run, null
    from to_correct where customer_id is null
    order by 1";

pub(super) const SELECT_ROWS_WITH_ID: &str = "
    select id, run, line, outcome, reference, customer_id, attempts from row
    where customer_id is not null and ($1::bigint is null or run = $1) order by id";

pub(super) const SELECT_ROWS_WITHOUT_ID: &str = "
    select to_correct.id, to_correct.run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id, cells, coalesce(record.run, to_correct.run), null::text
    from to_correct left join record on record.row = to_correct.id order by 1";

/// With the outcomes that this run settled, not the current ones.
pub(super) const SELECT_ROWS_WITHOUT_ID_OF_RUN: &str = "
    select every_row.id, every_row.run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id, cells, coalesce(record.run, every_row.run), null::text
    from every_row left join record on record.row = every_row.id
    where customer_id is null and every_row.run = $1
    -- Imported, and an update was refused, failed, or is under way.
    union all
    select pending_update.row, pending_update.run, pending_update.line, pending_update.outcome, reference,
           customer_id, pending_update.attempts, null, pending_update.error_code, pending_update.error_message,
           pending_update.http_status, pending_update.request_id, cells,
           coalesce(record.run, pending_update.run), null
    from pending_update join row on row.id = pending_update.row left join record on record.row = pending_update.row
    where pending_update.run = $1
    order by 1";

pub(super) const SELECT_INVALID_ROWS: &str = "
    select to_correct.id, to_correct.run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id, cells, coalesce(record.run, to_correct.run), null::text
    from to_correct left join record on record.row = to_correct.id where outcome = 'invalid'";

/// With the outcomes that this run settled.
pub(super) const SELECT_INVALID_ROWS_OF_RUN: &str = "
    select every_row.id, every_row.run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id, cells, coalesce(record.run, every_row.run), null::text
    from every_row left join record on record.row = every_row.id
    where outcome = 'invalid' and customer_id is null and every_row.run = $1";

/// The last column is the message of an invalid row, which names the disallowed characters.
pub(super) const SELECT_ERRORS: &str = "
    select id, line, outcome, field, error_code, http_status,
           case when outcome = 'invalid' then error_message end
    from every_row where run = $1 and customer_id is null
    union all
    select row, line, outcome, null, error_code, http_status, null from pending_update where run = $1";

/// As above, without the rows that cannot be sent.
pub(super) const SELECT_SENT_ERRORS: &str = "
    select id, line, outcome, field, error_code, http_status, null::text
    from every_row where run = $1 and customer_id is null and outcome in ('rejected', 'failed', 'pending')
    union all
    select row, line, outcome, null, error_code, http_status, null from pending_update where run = $1";

/// As above, over all runs: each row once, with its current outcome.
pub(super) const SELECT_OPEN_ERRORS: &str = "
    select id, line, outcome, field, error_code, http_status,
           case when outcome = 'invalid' then error_message end
    from to_correct";

/// The messages and the cells of these rows.
pub(super) const SELECT_ERROR_MESSAGES: &str = "
    select row.id, case when pending_update.row is null then row.error_message else pending_update.error_message end,
           record.cells
    from row left join pending_update on pending_update.row = row.id left join record on record.row = row.id
    where row.id = any($1)";

/// Includes rows in doubt, and rows that an earlier retry claimed and left open: the run looks those up before it claims
/// them, and sends the ones that Get does not find. The filter applies to the outcomes before that claim.
pub(super) const SELECT_RETRY_ROWS: &str = "
    with to_retry (id, line, columns_of, cells, outcome, error_code) as (
        select record.row, row.line, coalesce(record.run, row.run), record.cells,
               coalesce(row.before_claim::jsonb->>0, row.outcome),
               case when row.before_claim is null then row.error_code else row.before_claim::jsonb->>8 end
        from record join row on row.id = record.row left join pending_update on pending_update.row = row.id
        where record.row > $1 and pending_update.row is null and (row.outcome in ('failed', 'rejected')
            or row.outcome = 'pending' and (row.in_doubt or row.retry_unfinished))
        union all
        select pending_update.row, pending_update.line, coalesce(record.run, row.run), record.cells,
               coalesce(pending_update.before_claim::jsonb->>0, pending_update.outcome),
               case when pending_update.before_claim is null then pending_update.error_code
                    else pending_update.before_claim::jsonb->>8 end
        from pending_update join row on row.id = pending_update.row
        join record on record.row = pending_update.row
        where pending_update.row > $1 and (pending_update.outcome in ('failed', 'rejected')
            or pending_update.retry_unfinished))
    select id, line, columns_of, cells from to_retry
    where outcome = 'pending'
        or ($2::text is null or outcome = $2) and ($3::text is null or lower(error_code) = $3)
    order by id limit $4";

/// Rows to retry, with or without stored cells.
pub(super) const COUNT_RETRYABLE: &str = "
    with retryable (id, outcome, error_code) as (
        select id, coalesce(before_claim::jsonb->>0, outcome),
               case when before_claim is null then error_code else before_claim::jsonb->>8 end
        from row
        where customer_id is null and outcome in ('failed', 'rejected', 'pending')
            and (outcome <> 'pending' or before_claim is not null)
        union all
        select row, coalesce(before_claim::jsonb->>0, outcome),
               case when before_claim is null then error_code else before_claim::jsonb->>8 end
        from pending_update
        where outcome in ('failed', 'rejected') or before_claim is not null)
    select outcome, coalesce(error_code, ''), count(*), count(record.row)
    from retryable left join record on record.row = retryable.id
    group by 1, 2 order by 3 desc, 2";

pub(super) const SELECT_ROW_MAPPINGS: &str = "
    with has_cells (run) as (
        select distinct coalesce(record.run, row.run) from record join row on row.id = record.row)
    select id, columns, reference_column, row_mapping, id in (select run from has_cells), source from run
    where id in (select run from has_cells)
        or id in (select max(id) from run where command = 'import' and id > 0 group by source)
    order by id";

pub(super) const SELECT_IMPORTED: &str = "
    select id, reference, customer_id, fingerprint from row
    where customer_id is not null and reference = any($1) and outcome not in ('invalid', 'duplicate')";

pub(super) const SELECT_SETTINGS: &str =
    "select name, value, origin from setting where run = $1 order by setting.position";

pub(super) const SELECT_SAMPLES: &str = "
    select from_ms, to_ms, succeeded, faulty, failed, requests, retries, throttled, in_flight, held_rate,
           latencies, worker
    from sample where run = $1 order by worker, number";

pub(super) const SELECT_DROPPED: &str = "select field, rule, rows from dropped where run = $1";

pub(super) const SELECT_CHANGED: &str = "select field, rows from changed where run = $1";

pub(super) const SELECT_ABSENT: &str = "select absent from run where id = $1";

pub(super) const SELECT_EXISTING: &str = "select note, rows from existing_note where run = $1";

pub(super) const SELECT_RESPELLED: &str = "
    select line, api_reference from row where api_reference is not null and run = $1 order by line limit $2";

/// A worker that has not updated its row within its lease is dead, even if its state is `alive`.
pub(super) const SELECT_WORKERS: &str = "
    select worker.id, host, version,
           case when state = 'alive' and beat_at < clock_timestamp() - lease_ms * interval '1 millisecond'
                then 'dead' else state end,
           extract(epoch from clock_timestamp() - greatest(beat_at, started_at))::bigint, rows_settled,
           coalesce(heartbeat.in_flight, 0), worker.exit_code, worker.stop_reason
    from worker left join heartbeat on heartbeat.worker = worker.id
    where worker.run = $1 order by worker.id";

/// The oldest transaction that keeps the server from removing rows that were deleted since. Connections of other
/// users that this user may not see have no beginning, and are left out.
pub(super) const SELECT_OLD_TRANSACTION: &str = "
    select coalesce(application_name, ''), coalesce(usename, '')::text, coalesce(state, ''),
           extract(epoch from clock_timestamp() - xact_start)::bigint
    from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
    and (backend_xmin is not null or backend_xid is not null)
    and xact_start < clock_timestamp() - interval '10 minutes'
    order by xact_start limit 1";

/// The recent heartbeats of all workers of the run as one. Rows per second and the user's rate are those of the whole run
/// in each of them. The columns are those of the table in a file.
pub(super) const SELECT_HEARTBEAT: &str = "
    select 1 as id, run, max(at) as at,
           (array_agg(activity order by array_position(
               array['sending', 'asking', 'paused', 'waiting', 'ending'], activity)))[1] as activity,
           max(total) as total, bool_and(is_exact) as is_exact, max(per_second) as per_second,
           sum(in_flight)::bigint as in_flight, sum(retrying)::bigint as retrying,
           sum(in_doubt)::bigint as in_doubt,
           case when bool_and(throttled_by = 'user') then max(throttled_to) else sum(throttled_to) end as throttled_to,
           max(cause) as cause, max(throttled_by) as throttled_by, sum(pauses)::bigint as pauses
    from heartbeat
    where run = (select max(run) from heartbeat)
    and at >= (select max(at) from heartbeat latest where latest.run = heartbeat.run) - 30000
    group by run";
