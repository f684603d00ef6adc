-- The ledger: what is durable about a target, its runs and their rows.
--
-- Why this shape:
--   * A row is written once, when it is settled; until then only its claim exists. The claim
--     table is small and hot whatever the size of the ledger, and what it still holds after a
--     crash is exactly what is in doubt.
--   * ids are given in file order and shared by claims and rows, so both tables grow at their
--     end and reading by id is reading in file order.
--   * The uniqueness of references is kept by the one writer (it holds the lock file), not by a
--     unique index over text: with random references such an index dirties a page for each
--     insert. reference_key is the index over their hashes, filled in bulk and in order; what
--     it lacks are the rows above its watermark.
--   * Least personal data: a row keeps the reference and a fingerprint. The raw record is kept
--     only while the row has not succeeded.
--
-- Times are UTC milliseconds. Words in lower case; a later backend must understand them too.

pragma application_id = 1668508016; -- "csip", so that no other program's database is touched

create table target (
    id integer primary key check (id = 1), -- one target for each ledger
    base_url text not null,
    merchant_id text not null,
    created_at integer not null
) strict;

create table run (
    id integer primary key,
    command text not null check (command in ('import', 'retry')),
    source text not null,                  -- the path as given, or '-'
    source_path text,                      -- where the file really is; null for a stream
    columns text not null,                 -- the header as a JSON array
    reference_column text,                 -- the one among them that holds the references
    state text not null default 'running'
        check (state in ('running', 'completed', 'interrupted', 'stopped')),
    exit_code integer,
    stop_reason text,
    started_at integer not null,
    ended_at integer,
    last_line integer not null default 0,  -- of the last row that was claimed
    created integer not null default 0,
    existing integer not null default 0,
    unchanged integer not null default 0,
    changed integer not null default 0,
    updated integer not null default 0,
    duplicate integer not null default 0,
    invalid integer not null default 0,
    rejected integer not null default 0,
    failed integer not null default 0,
    pending integer not null default 0,
    requests integer not null default 0,
    retries integer not null default 0,
    throttled integer not null default 0
) strict;

-- A run's committed promise to settle a row. Rows of a dead run found here are in doubt.
create table claim (
    id integer primary key,
    run integer not null references run (id),
    line integer not null,
    reference text not null,
    key integer not null,
    fingerprint blob not null check (length(fingerprint) = 20),
    claimed_at integer not null
) strict;

create table row (
    id integer primary key,
    run integer not null references run (id), -- the run that settled it last
    line integer not null,
    outcome text not null check (outcome in
        ('created', 'existing', 'updated', 'duplicate', 'invalid', 'rejected', 'failed', 'pending')),
    reference text,
    key integer,                              -- hash of the reference
    fingerprint blob,
    customer_id text,
    attempts integer not null default 0,      -- requests sent for it by the run that settled it
    found integer not null default 0,         -- the id was found by a Get, no Create was answered with it
    date_created integer,                     -- what that Get said
    claimed_at integer,                       -- before the first request that may have created it
    settled_at integer not null,
    in_doubt integer not null default 0,      -- a create may have landed whose answer is not known
    field text,
    error_code text,
    error_message text,
    http_status integer,
    request_id text,
    corrected_by integer references run (id), -- the run to which it came back, corrected, in a failed export
    check ((customer_id is not null) = (outcome in ('created', 'existing', 'updated'))),
    check ((key is null) = (reference is null)),
    check (fingerprint is not null or outcome in ('duplicate', 'invalid')),
    check (in_doubt = 0 or outcome = 'pending'),
    check (found = 0 or customer_id is not null)
) strict;

-- What did not succeed is few or soon corrected; this serves exports, retry and clean-up.
create index row_without_id on row (outcome, line) where customer_id is null;

-- The raw cells of a row that has not succeeded, as a JSON array; erased when it does.
create table record (
    row integer primary key references row (id) on delete cascade,
    cells text not null
) strict;

-- Hash of a reference → the row that owns it (invalid and duplicate rows own none). Two references may share a hash: the row's text decides.
create table reference_key (
    key integer not null,
    row integer not null,
    primary key (key, row)
) strict, without rowid;

-- Rows up to this id are in reference_key.
create table watermark (
    id integer primary key check (id = 1),
    row integer not null
) strict;

insert into watermark (id, row) values (1, 0);

-- For readers: every row of the ledger, claims of a run that goes on or died included.
create view every_row as
    select id, run, line, outcome, reference, key, customer_id, attempts, field, error_code,
           error_message, http_status, request_id, in_doubt, found, date_created, corrected_by
    from row where id not in (select id from claim)
    union all
    select id, run, line, 'pending', reference, key, null, 0, null, null, null, null, null, 1, 0, null, null
    from claim;
