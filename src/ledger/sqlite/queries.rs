//! The SQL texts of the reader, [`Reader`](super::reader::Reader).
//!
//! Views use nothing newer than SQLite 3.40, because other clients read them; these statements are executed by the
//! built-in library and may.

pub(super) const SELECT_RUNS: &str = "
    select id, command, source, state, exit_code, stop_reason, started_at, ended_at, requests, retries, throttled,
           (select json_group_object(outcome, rows) from run_outcome where run_outcome.run = run.id),
           (select to_ms from sample where sample.run = run.id order by number desc limit 1)
    from run where id > 0 order by id";

pub(super) const SELECT_MIGRATIONS: &str = "select min(version), max(version) from _sqlx_migrations";

/// A ledger that only an older version has written has its invalid rows and duplicates in `row`, and a reader must not
/// change it. These views belong to the connection; they have the names and the columns that the statements use.
pub(super) const VIEWS_OF_OLDER_LEDGER: [&str; 2] = [
    "create temp view unsendable (id, run, line, is_duplicate, reference, content, other_cells, cells) as
     select row.id, row.run, line, outcome = 'duplicate', reference, nullif(content, key), other_cells, cells
     from main.row left join main.record on record.row = row.id
     where customer_id is null and outcome in ('invalid', 'duplicate')",
    "create temp view row as
     select * from main.row where customer_id is not null or outcome not in ('invalid', 'duplicate')",
];

pub(super) const SELECT_LAST_SUCCESS: &str = "
    select ended_at from run where state = 'completed' and exit_code in (0, 3) and id > 0 order by id desc limit 1";

/// Of all runs: the headers of the files that listed rows come from, or may come from in a moment because their run goes
/// on; of all files if no row is listed.
pub(super) const SELECT_HEADERS: &str = "
    with listed (run) as materialized (
        select distinct coalesce(record.run, to_correct.run)
        from to_correct left join record on record.row = to_correct.id)
    select id, columns, reference_column from run
    where case when ?1 is null then id in (select run from listed) or state = 'running'
                   or not exists (select 1 from listed)
               else id = ?1 or id in (
                   select record.run from record join row on row.id = record.row where row.run = ?1) end
    -- The stand-in for pruned runs, where it has rows to correct.
    and (id > 0 or exists (select 1 from row where run = 0 and customer_id is null))
    order by id = 0, id";

/// As in the exports: an imported row whose Update did not succeed has the outcome of the Update. Imported rows are not
/// grouped: SQLite would sort all of them, in temporary files of 12 bytes for each. `other` is no outcome of this version.
pub(super) const COUNT_OUTCOMES: &str = "
    select outcome, sum(rows) from (
        select imported.key as outcome, imported.value as rows from (
            select json_object(
                'created', count(*) filter (where outcome = 'created'),
                'existing', count(*) filter (where outcome = 'existing'),
                'updated', count(*) filter (where outcome = 'updated'),
                'other', count(*) filter (where outcome not in ('created', 'existing', 'updated'))) as counts
            from row where customer_id is not null), json_each(counts) imported
        where imported.value > 0
        union all
        select row.outcome, -1 from pending_update cross join row on row.id = pending_update.row
        where row.reference not in (select reference from invalid_now)
        union all
        select outcome, count(*) from to_correct group by outcome)
    group by outcome";

pub(super) const SELECT_ROWS_OF_RUN: &str = "
    select every_row.id, every_row.run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id,
           coalesce(cells, (select cells from unsendable where unsendable.id = every_row.id)),
           coalesce(record.run, every_row.run),
           (select api_reference from row where row.id = every_row.id)
    from every_row left join record on record.row = every_row.id
    where every_row.run = ?1 order by every_row.id";

/// Every row of the ledger, each once.
pub(super) const SELECT_ROWS: &str = "
    select row.id, row.run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id, null, row.run, api_reference
    from row where customer_id is not null
    union all
    select id, run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id, null, run, null
    from to_correct where customer_id is null
    order by 1";

/// A page of rows as one value: one value per row and column costs several times as much, and most rows are of this
/// kind.
pub(super) const SELECT_ROWS_WITH_ID: &str = "
    select json_group_array(json_array(id, run, line, outcome, reference, customer_id, attempts))
    from (select * from row where id > ?2 and customer_id is not null and (?1 is null or run = ?1)
          order by id limit ?3)";

pub(super) const SELECT_ROWS_WITHOUT_ID: &str = "
    select to_correct.id, to_correct.run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id,
           coalesce(cells, (select cells from unsendable where unsendable.id = to_correct.id)),
           coalesce(record.run, to_correct.run), null
    from to_correct left join record on record.row = to_correct.id order by 1";

/// As settled by that run, whatever happened to the rows since.
pub(super) const SELECT_ROWS_WITHOUT_ID_OF_RUN: &str = "
    select every_row.id, every_row.run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id,
           coalesce(cells, (select cells from unsendable where unsendable.id = every_row.id)),
           coalesce(record.run, every_row.run), null
    from every_row left join record on record.row = every_row.id
    where customer_id is null and every_row.run = ?1
    -- Imported, and an update was refused, failed, or is under way.
    union all
    select pending_update.row, pending_update.run, pending_update.line, pending_update.outcome, reference,
           customer_id, pending_update.attempts, null, pending_update.error_code, pending_update.error_message,
           pending_update.http_status, pending_update.request_id, cells,
           coalesce(record.run, pending_update.run), null
    from pending_update join row on row.id = pending_update.row left join record on record.row = pending_update.row
    where pending_update.run = ?1
    order by 1";

pub(super) const SELECT_INVALID_ROWS: &str = "
    select to_correct.id, to_correct.run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id,
           coalesce(cells, (select cells from unsendable where unsendable.id = to_correct.id)),
           coalesce(record.run, to_correct.run), null
    from to_correct left join record on record.row = to_correct.id where outcome = 'invalid'";

/// As settled by that run.
pub(super) const SELECT_INVALID_ROWS_OF_RUN: &str = "
    select every_row.id, every_row.run, line, outcome, reference, customer_id, attempts, field, error_code,
           error_message, http_status, request_id,
           coalesce(cells, (select cells from unsendable where unsendable.id = every_row.id)),
           coalesce(record.run, every_row.run), null
    from every_row left join record on record.row = every_row.id
    where outcome = 'invalid' and customer_id is null and every_row.run = ?1";

/// The last column identifies the disallowed characters of an invalid row.
pub(super) const SELECT_ERRORS: &str = "
    select id, line, outcome, field, error_code, http_status,
           iif(outcome = 'invalid', error_message, null)
    from every_row where run = ?1 and customer_id is null
    union all
    select row, line, outcome, null, error_code, http_status, null from pending_update where run = ?1";

/// The same without the rows that cannot be sent.
pub(super) const SELECT_SENT_ERRORS: &str = "
    select id, line, outcome, field, error_code, http_status, null
    from every_row where run = ?1 and customer_id is null and outcome in ('rejected', 'failed', 'pending')
    union all
    select row, line, outcome, null, error_code, http_status, null from pending_update where run = ?1";

/// The same over all runs: rows in their current state, each once.
pub(super) const SELECT_OPEN_ERRORS: &str = "
    select id, line, outcome, field, error_code, http_status,
           iif(outcome = 'invalid', error_message, null)
    from to_correct";

/// The message and the cells of a row. By the view, since versions of the ledger keep a message in different places; of
/// one row, since a view that is joined is read as a whole.
pub(super) const SELECT_ERROR_MESSAGE: &str = "
    select id,
           iif(exists (select 1 from pending_update where pending_update.row = ?1),
               (select error_message from pending_update where pending_update.row = ?1), error_message),
           coalesce((select cells from record where record.row = ?1), (select cells from unsendable where id = ?1))
    from every_row where id = ?1";

/// Includes rows in doubt, and rows that an earlier retry claimed and left open: the run looks those up first, and
/// sends what Get does not find. The filter applies to the outcome before that retry.
pub(super) const SELECT_RETRY_ROWS: &str = "
    with to_retry (id, line, columns_of, cells, outcome, error_code) as (
        select record.row, row.line, coalesce(record.run, row.run), record.cells,
               coalesce(row.before_claim->>0, row.outcome),
               iif(row.before_claim is null, row.error_code, row.before_claim->>8)
        from record cross join row on row.id = record.row left join pending_update on pending_update.row = row.id
        where record.row > ?1 and pending_update.row is null and (row.outcome in ('failed', 'rejected')
            or row.outcome = 'pending' and (row.in_doubt or row.retry_unfinished))
        union all
        select pending_update.row, pending_update.line, coalesce(record.run, row.run), record.cells,
               coalesce(pending_update.before_claim->>0, pending_update.outcome),
               iif(pending_update.before_claim is null, pending_update.error_code, pending_update.before_claim->>8)
        from pending_update cross join row on row.id = pending_update.row
        cross join record on record.row = pending_update.row
        where pending_update.row > ?1 and (pending_update.outcome in ('failed', 'rejected')
            or pending_update.retry_unfinished))
    select id, line, columns_of, cells from to_retry
    where outcome = 'pending' or (?2 is null or outcome = ?2) and (?3 is null or lower(error_code) = ?3)
    order by id limit ?4";

/// Rows to retry, with or without stored cells.
pub(super) const COUNT_RETRYABLE: &str = "
    with retryable (id, outcome, error_code) as (
        select id, coalesce(before_claim->>0, outcome), iif(before_claim is null, error_code, before_claim->>8)
        from row
        where customer_id is null and outcome in ('failed', 'rejected', 'pending')
            and (outcome <> 'pending' or before_claim is not null)
        union all
        select row, coalesce(before_claim->>0, outcome), iif(before_claim is null, error_code, before_claim->>8)
        from pending_update
        where outcome in ('failed', 'rejected') or before_claim is not null)
    select outcome, coalesce(error_code, ''), count(*), count(record.row)
    from retryable left join record on record.row = retryable.id
    group by 1, 2 order by 3 desc, 2";

pub(super) const SELECT_ROW_MAPPINGS: &str = "
    with has_cells (run) as (
        select coalesce(record.run, row.run) from record join row on row.id = record.row
        union select run from unsendable)
    select id, columns, reference_column, row_mapping, id in (select run from has_cells), source from run
    where id in (select run from has_cells)
        or id in (select max(id) from run where command = 'import' and id > 0 group by source)
    order by id";

pub(super) const SELECT_IMPORTED_KEYS: &str = "select key, id from row where customer_id is not null";

pub(super) const SELECT_IMPORTED: &str = "
    select id, reference, customer_id, fingerprint from row where id in (select value from json_each(?1))";

pub(super) const SELECT_SETTINGS: &str =
    "select name, value, origin from setting where run = ?1 order by position";

pub(super) const SELECT_SAMPLES: &str = "
    select from_ms, to_ms, succeeded, faulty, failed, requests, retries, throttled, in_flight, held_rate,
           latencies
    from sample where run = ?1 order by number";

pub(super) const SELECT_DROPPED: &str = "select field, rule, rows from dropped where run = ?1";

pub(super) const SELECT_CHANGED: &str = "select field, rows from changed where run = ?1";

pub(super) const SELECT_ABSENT: &str = "select absent from run where id = ?1";

pub(super) const SELECT_EXISTING: &str = "select note, rows from existing_note where run = ?1";

pub(super) const SELECT_RESPELLED: &str = "
    select line, api_reference from row where api_reference is not null and run = ?1 order by line limit ?2";

/// All columns, because a ledger that no run of this version has opened lacks the newest.
pub(super) const SELECT_HEARTBEAT: &str = "select * from heartbeat";
