-- The ledger in a schema of a Postgres database: what is durable about a target, its runs and their rows.
--
-- Why this shape:
--   * It tells the same as the ledger in SQLite (migrations/sqlite), in the same words, so that the same reports and
--     exports come out. What a column means is said there; here stands what differs.
--   * References are kept unique by an index over their text: with the index in memory an insert costs what it costs
--     with references in order, so the index over hashes that SQLite's ledger has is not needed.
--   * A process that writes has a row in `worker`, and is alive as long as that row was touched within its lease, by
--     the clock of the database. Each of its transactions begins by touching it and counts its commits there: a process
--     that was taken over writes nothing more, and one that lost its connection in mid-commit finds out what became of
--     it. No lock of a session is taken, so that poolers in transaction mode may stand between.
--   * No foreign key leads from `row` to `run`: it would cost a look-up for each row of a first import.
--
-- Times are UTC milliseconds, but for `beat_at`, which is the database's own. Names are not qualified: each transaction
-- sets the search path to the ledger's schema.

create table migration (
    version bigint primary key,
    applied_at timestamptz not null default now()
);

create table target (
    id bigint primary key check (id = 1), -- one target for each ledger; also the lock of whoever joins
    base_url text,                        -- null until the first run
    merchant_id text,
    created_at bigint not null,
    -- Ids up to this one were given, also where their rows were pruned.
    last_row bigint not null default 0,
    application text not null default 'customer-import' check (application = 'customer-import')
);

insert into target (id, created_at) values (1, 0);

create table run (
    id bigint primary key,
    command text not null check (command in ('import', 'retry')),
    source text not null,
    source_path text,
    columns text not null,
    reference_column text,
    row_mapping text,
    state text not null default 'running' check (state in ('running', 'completed', 'interrupted', 'stopped')),
    exit_code bigint,
    stop_reason text,
    started_at bigint not null,
    ended_at bigint,
    last_line bigint not null default 0,
    requests bigint not null default 0,
    retries bigint not null default 0,
    throttled bigint not null default 0,
    absent bigint
) with (fillfactor = 50);

-- A process that writes to the ledger: one at a time for now.
create table worker (
    id bigint generated always as identity primary key, -- of this start of the process, never of a host or a pod
    run bigint references run (id) on delete set null,  -- null before its run begins, and where it has none
    host text not null,
    version text not null,
    state text not null default 'alive' check (state in ('alive', 'left', 'dead')),
    commits bigint not null default 0,
    lease_ms bigint not null,
    started_at timestamptz not null default clock_timestamp(),
    beat_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

create index worker_alive on worker (id) where state = 'alive';

create table run_outcome (
    run bigint not null references run (id) on delete cascade,
    outcome text not null,
    rows bigint not null,
    primary key (run, outcome)
) with (fillfactor = 50);

create table row (
    id bigint primary key,
    run bigint not null,
    line bigint not null,
    outcome text collate "C" not null,
    reference text collate "C",
    fingerprint bytea,
    customer_id text collate "C",
    attempts bigint not null default 0,
    found boolean not null default false,
    date_created bigint,
    claimed_at bigint,
    settled_at bigint not null,
    in_doubt boolean not null default false,
    was_sent boolean not null default false,
    is_uncertain boolean not null default false,
    api_reference text,
    field text,
    error_code text collate "C",
    error_message text,
    http_status bigint,
    request_id text,
    corrected_by bigint,
    before_claim text,
    retry_unfinished boolean not null default false,
    content bigint,
    other_cells bigint,
    check (customer_id is null or outcome not in ('duplicate', 'invalid', 'rejected', 'failed', 'pending')),
    check (customer_id is not null or outcome not in ('created', 'existing', 'updated')),
    check (fingerprint is not null or outcome in ('duplicate', 'invalid')),
    check (not in_doubt or outcome = 'pending'),
    check (not found or customer_id is not null)
);

-- Invalid rows and duplicates own no reference.
create unique index row_reference on row (reference) where outcome not in ('invalid', 'duplicate');

create index row_without_id on row (outcome, line) where customer_id is null;

create index row_unowned on row (line, content, run, outcome) where content is not null;

create index row_without_reference on row (line, other_cells, run) where other_cells is not null;

create index row_respelled on row (customer_id) where api_reference is not null;

create table record (
    row bigint primary key references row (id) on delete cascade,
    cells text not null,
    run bigint
);

-- The claims of new rows, one row for each commit that made some; it goes with the last of them.
create table claim_batch (
    id bigint primary key,                 -- of its first row
    run bigint not null references run (id),
    worker bigint references worker (id),  -- whose claims they are
    claimed_at bigint not null,
    claims text not null                   -- JSON: [[id, line, reference, key, fingerprint in hex], ...]
);

create view claim (id, run, line, reference, fingerprint_hex, claimed_at) as
    select (given.value->>0)::bigint, run, (given.value->>1)::bigint, (given.value->>2) collate "C", given.value->>4,
           claimed_at
    from claim_batch, jsonb_array_elements(claims::jsonb) given (value)
    where not exists (select 1 from row where row.id = (given.value->>0)::bigint);

create view every_row as
    select id, run, line, outcome, reference, customer_id, attempts, field, error_code, error_message, http_status,
           request_id, in_doubt, found, date_created, corrected_by
    from row
    union all
    select id, run, line, 'pending', reference, null, 0, null, null, null, null, null, true, false, null, null
    from claim;

create table pending_update (
    row bigint primary key references row (id) on delete cascade,
    run bigint not null,
    line bigint not null,
    outcome text collate "C" not null,
    fingerprint bytea not null,
    may_have_landed boolean not null,
    attempts bigint not null default 0,
    error_code text collate "C",
    error_message text,
    http_status bigint,
    request_id text,
    before_claim text,
    retry_unfinished boolean not null default false
);

create view invalid_now (reference) as
    select reference from row
    where customer_id is null and outcome = 'invalid' and reference is not null and corrected_by is null
    -- Another row of its source has the reference too, and that one owns it.
    and error_code not like '%duplicate';

create view to_correct as
    select id, run, line, outcome, reference, customer_id, attempts, field, error_code, error_message, http_status,
           request_id
    from row
    where customer_id is null and corrected_by is null
    and (outcome in ('invalid', 'duplicate') or not exists (select 1 from invalid_now where invalid_now.reference = row.reference))
    union all
    select id, run, line, 'pending', reference, null, 0, null, null, null, null, null from claim
    union all
    select pending_update.row, pending_update.run, pending_update.line, pending_update.outcome, row.reference,
           row.customer_id, pending_update.attempts, null, pending_update.error_code, pending_update.error_message,
           pending_update.http_status, pending_update.request_id
    from pending_update join row on row.id = pending_update.row
    where not exists (select 1 from invalid_now where invalid_now.reference = row.reference);

create table dropped (
    run bigint not null references run (id) on delete cascade,
    field text not null,
    rule text not null,
    rows bigint not null,
    primary key (run, field, rule)
);

create table changed (
    run bigint not null references run (id) on delete cascade,
    field text not null,
    rows bigint not null,
    primary key (run, field)
);

create table existing_note (
    run bigint not null references run (id) on delete cascade,
    note text not null,
    rows bigint not null,
    primary key (run, note)
);

create table seen_rows (
    run bigint primary key references run (id) on delete cascade,
    next_id bigint not null,
    rows bytea not null
);

create table checkpoint (
    run bigint primary key references run (id) on delete cascade,
    parse_settings_hash text not null,
    bytes bigint,
    line bigint,
    prefix_bytes bigint,
    prefix_hash text,
    tally text,
    whole_file_only boolean not null default false,
    chain_start bigint
) with (fillfactor = 50);

create table setting (
    run bigint not null references run (id) on delete cascade,
    position bigint not null,
    name text not null,
    value text not null,
    origin text not null,
    primary key (run, position)
);

create table sample (
    run bigint not null references run (id) on delete cascade,
    number bigint not null,
    from_ms bigint not null,
    to_ms bigint not null,
    succeeded bigint not null,
    faulty bigint not null,
    failed bigint not null,
    requests bigint not null,
    retries bigint not null,
    throttled bigint not null,
    in_flight bigint not null,
    held_rate double precision,
    latencies text not null,
    primary key (run, number)
);

-- Where the run that goes on stands, for whoever looks from outside; of each run one row, which goes when it ends.
create table heartbeat (
    run bigint primary key references run (id) on delete cascade,
    at bigint not null,
    activity text not null check (activity in ('sending', 'asking', 'paused', 'waiting', 'ending')),
    total bigint,
    is_exact boolean not null,
    per_second double precision not null,
    in_flight bigint not null,
    retrying bigint not null,
    in_doubt bigint not null,
    throttled_to double precision,
    cause text,
    throttled_by text,
    pauses bigint not null default 0
) with (fillfactor = 50);

create view every_run as
    select run.*,
        coalesce((select rows from run_outcome counted where counted.run = run.id and outcome = 'created'), 0) as created,
        coalesce((select rows from run_outcome counted where counted.run = run.id and outcome = 'existing'), 0) as existing,
        coalesce((select rows from run_outcome counted where counted.run = run.id and outcome = 'unchanged'), 0) as unchanged,
        coalesce((select rows from run_outcome counted where counted.run = run.id and outcome = 'changed'), 0) as changed,
        coalesce((select rows from run_outcome counted where counted.run = run.id and outcome = 'updated'), 0) as updated,
        coalesce((select rows from run_outcome counted where counted.run = run.id and outcome = 'duplicate'), 0) as duplicate,
        coalesce((select rows from run_outcome counted where counted.run = run.id and outcome = 'invalid'), 0) as invalid,
        coalesce((select rows from run_outcome counted where counted.run = run.id and outcome = 'rejected'), 0) as rejected,
        coalesce((select rows from run_outcome counted where counted.run = run.id and outcome = 'failed'), 0) as failed,
        coalesce((select rows from run_outcome counted where counted.run = run.id and outcome = 'pending'), 0) as pending
    from run where id > 0;

insert into migration (version) values (1);
