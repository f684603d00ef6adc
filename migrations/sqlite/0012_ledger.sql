-- The ledger: what is durable about a target, its runs and their rows.
--
-- Why this shape:
--   * A row is written once, when it is settled; until then only its claim exists. Claims are few whatever the size of
--     the ledger, and the claims that remain after a crash are exactly the rows in doubt.
--   * Ids are given in file order and shared by claims and rows, so the table grows at its end, and to read by id is
--     to read in file order.
--   * References are kept unique by the one writer (it holds the lock file), not by a unique index over text: with
--     random references such an index dirties a page for each insert. reference_key is the index over their hashes,
--     filled in bulk and in order; what it lacks are the rows above its watermark.
--   * Least personal data: a row keeps the reference and a fingerprint. The raw record is kept only while the row has
--     not succeeded.
--   * Words of outcomes are not listed in checks: which words there are is the program's to say, and a later version
--     may add one. What holds for the known words is checked.
--
-- Times are UTC milliseconds. Words in lower case; a later backend must understand them too. Views are readable by
-- SQLite 3.40. The numbering begins at 12: lower numbers were development versions, whose ledgers are refused.

pragma application_id = 1668508016; -- "csip", so that no other program's database is touched

create table target (
    id integer primary key check (id = 1), -- one target for each ledger
    base_url text not null,
    merchant_id text not null,
    created_at integer not null
) strict;

-- Run 0 stands for runs that were pruned, where rows of them are left.
create table run (
    id integer primary key,
    command text not null check (command in ('import', 'retry')),
    source text not null,                  -- the path as given, or '-'
    source_path text,                      -- where the file really is; null for a stream
    columns text not null,                 -- the header as a JSON array
    reference_column text,                 -- the column of the references
    row_mapping text,                      -- how records became customers (--map, --set, rules), as JSON
    state text not null default 'running'
        check (state in ('running', 'completed', 'interrupted', 'stopped')),
    exit_code integer,
    stop_reason text,
    started_at integer not null,
    ended_at integer,
    last_line integer not null default 0,  -- of the last row that was claimed
    requests integer not null default 0,
    retries integer not null default 0,
    throttled integer not null default 0,
    absent integer                         -- imported before and not in this run's file; null: not a whole file
) strict;

-- The rows of a run by outcome.
create table run_outcome (
    run integer not null references run (id) on delete cascade,
    outcome text not null,
    rows integer not null,
    primary key (run, outcome)
) strict, without rowid;

-- For readers: runs with their counts as columns.
create view every_run as
    select run.*,
        coalesce((select rows from run_outcome where run = run.id and outcome = 'created'), 0) as created,
        coalesce((select rows from run_outcome where run = run.id and outcome = 'existing'), 0) as existing,
        coalesce((select rows from run_outcome where run = run.id and outcome = 'unchanged'), 0) as unchanged,
        coalesce((select rows from run_outcome where run = run.id and outcome = 'changed'), 0) as changed,
        coalesce((select rows from run_outcome where run = run.id and outcome = 'updated'), 0) as updated,
        coalesce((select rows from run_outcome where run = run.id and outcome = 'duplicate'), 0) as duplicate,
        coalesce((select rows from run_outcome where run = run.id and outcome = 'invalid'), 0) as invalid,
        coalesce((select rows from run_outcome where run = run.id and outcome = 'rejected'), 0) as rejected,
        coalesce((select rows from run_outcome where run = run.id and outcome = 'failed'), 0) as failed,
        coalesce((select rows from run_outcome where run = run.id and outcome = 'pending'), 0) as pending
    from run where id > 0;

create table row (
    id integer primary key,
    run integer not null references run (id), -- the run that settled it last
    line integer not null,
    outcome text not null,
    reference text,
    key integer,                              -- hash of the reference
    fingerprint blob,                         -- a version, then four bytes of hash for each field
    customer_id text,
    attempts integer not null default 0,      -- requests sent for it by the run that settled it
    found integer not null default 0,         -- the id was found by a Get, no Create was answered with it
    date_created integer,                     -- what that Get said
    claimed_at integer,                       -- before the first request that may have created it
    settled_at integer not null,
    in_doubt integer not null default 0,      -- a create may have landed whose answer is not known
    -- A Create of ours, of whatever run, may have landed at some time, whatever Get said since: an API may lag behind
    -- itself. A customer that is found later may be ours.
    was_sent integer not null default 0,
    -- Nothing tells whether a Create of ours made the customer or somebody else did.
    is_uncertain integer not null default 0,
    api_reference text,                       -- the API's spelling, where it differs in letter case or outer blanks
    field text,
    error_code text,
    error_message text,
    http_status integer,
    request_id text,
    corrected_by integer references run (id), -- the run to which it came back, corrected, in a failed export
    -- A claim makes a row pending and in doubt, because that is what the row is if the run dies. What it was before must
    -- not be lost: a row that was rejected and was not sent after all is rejected still. So the claim of a row that
    -- failed or was rejected keeps all that was said of it, as JSON: outcome, run, line, fingerprint in hex,
    -- attempts, claimed_at, settled_at, field, error_code, error_message, http_status, request_id. Where the row turns
    -- out not to have been sent, it becomes this again; where it is settled, this goes.
    before_claim text,
    -- A run took the row up again and did not come to its end with it: `retry` sends it, whatever it is called
    -- meanwhile, and `prune` leaves its cells.
    retry_unfinished integer not null default 0,
    -- An invalid row or a duplicate owns no reference. It is known again by its content, whatever its file is called and
    -- wherever it stands there: a hash of its reference, or else of its cells. Null of all other rows.
    content integer,
    -- Where the reference is what is wrong with an invalid row, the corrected row has another one. It is known by a hash
    -- of its other cells, on the same line.
    other_cells integer,
    check (customer_id is null or outcome not in ('duplicate', 'invalid', 'rejected', 'failed', 'pending')),
    check (customer_id is not null or outcome not in ('created', 'existing', 'updated')),
    check ((key is null) = (reference is null)),
    check (fingerprint is not null or outcome in ('duplicate', 'invalid')),
    check (in_doubt = 0 or outcome = 'pending'),
    check (found = 0 or customer_id is not null)
) strict;

-- What did not succeed is few or soon corrected; this serves exports, retry and clean-up.
create index row_without_id on row (outcome, line) where customer_id is null;

-- For reading all rows without a reference when a run begins, and for finding those that come back by their lines. It
-- goes by line, in which order a run writes them: an index by the hash would dirty a page for each of them.
create index row_unowned on row (line, content, run, outcome) where content is not null;

create index row_without_reference on row (line, other_cells, run) where other_cells is not null;

-- Two rows that the API does not tell apart have one customer; few rows have another spelling at all.
create index row_respelled on row (customer_id) where api_reference is not null;

-- The raw cells of a row that has not succeeded, as a JSON array; erased when it does.
create table record (
    row integer primary key references row (id) on delete cascade,
    cells text not null,
    run integer references run (id)        -- whose header names the cells; null: the row's run
) strict;

-- Hash of a reference → the row that owns it (invalid and duplicate rows own none). Two references may share a hash: the
-- row's text decides.
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

-- The claims of new rows, one row of this table for each commit that made some. A claim lives for milliseconds: written
-- one by one, found again for the settlement and deleted, it cost as much as the row itself. So the claims of one
-- commit are one value, which goes when the last of its rows is settled; a claim is open as long as there is no such
-- row. A row that the ledger knows is claimed in its own place, as pending and in doubt.
create table claim_batch (
    id integer primary key,                -- of its first row
    run integer not null references run (id),
    claimed_at integer not null,
    claims text not null                   -- JSON: [[id, line, reference, key, fingerprint in hex], ...]
) strict;

-- The claims of new rows that are open: of a run that goes on or died.
create view claim (id, run, line, reference, key, fingerprint_hex, claimed_at) as
    select value->>0, run, value->>1, value->>2, value->>3, value->>4, claimed_at
    from claim_batch, json_each(claims)
    where not exists (select 1 from row where row.id = value->>0);

-- For readers: every row of the ledger, claims of a run that goes on or died included.
create view every_row as
    select id, run, line, outcome, reference, key, customer_id, attempts, field, error_code,
           error_message, http_status, request_id, in_doubt, found, date_created, corrected_by
    from row
    union all
    select id, run, line, 'pending', reference, key, null, 0, null, null, null, null, null, 1, 0, null, null
    from claim;

-- Imported rows whose Update is under way, was refused or failed. The row itself stays as it was, with its id. An
-- Update is no claim: a claim that a crash left says that a customer may exist under no known id; an Update that is
-- left says only that the fields at the API are not known, and is sent again.
create table pending_update (
    row integer primary key references row (id) on delete cascade,
    run integer not null references run (id),
    line integer not null,
    outcome text not null,
    fingerprint blob not null,             -- of what was to be sent
    may_have_landed integer not null,      -- it may have landed: what the API has is not known
    attempts integer not null default 0,
    error_code text,
    error_message text,
    http_status integer,
    request_id text,
    before_claim text,                     -- as in row; the sixth value is `may_have_landed`, and the next two are null
    retry_unfinished integer not null default 0
) strict;

-- Each row that did not succeed, once: what `export failed` lists and `status` counts. Rows that came back corrected
-- are not among them. Nor is what was said of a row before a run found it invalid: had a run found it good since,
-- there would be no such record any more. An imported row stands here while an Update of it was refused, failed, or
-- is under way.
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
    and (outcome in ('invalid', 'duplicate') or reference not in (select reference from invalid_now))
    union all
    select id, run, line, 'pending', reference, null, 0, null, null, null, null, null from claim
    union all
    select pending_update.row, pending_update.run, pending_update.line, pending_update.outcome, row.reference,
           row.customer_id, pending_update.attempts, null, pending_update.error_code, pending_update.error_message,
           pending_update.http_status, pending_update.request_id
    from pending_update cross join row on row.id = pending_update.row
    where row.reference not in (select reference from invalid_now);

-- What rows went without: optional fields that broke a rule, where the run was told to drop them. Counts only, since the
-- cells themselves are the source's; committed with the rows that they are about.
create table dropped (
    run integer not null references run (id),
    field text not null,
    rule text not null,
    rows integer not null,
    primary key (run, field, rule)
) strict, without rowid;

-- In how many rows of a run a field differs from what was imported. Never a value.
create table changed (
    run integer not null references run (id),
    field text not null,
    rows integer not null,
    primary key (run, field)
) strict, without rowid;

-- What a run found out about customers that existed. Counts only, never a value.
create table existing_note (
    run integer not null references run (id) on delete cascade,
    note text not null,   -- 'differing': rows whose customer had other fields; 'uncertain'; 'respelled'; or such a field
    rows integer not null,
    primary key (run, note)
) strict, without rowid;

-- Which rows a run met, where some of its source's could not be known: their references were unreadable, or broke a
-- rule. When such a row comes back corrected, its reference may be its own, damaged that night only, or that of another
-- row of its source. It is its own where the row that owns it is older than the run and the run did not meet it.
create table seen_rows (
    run integer primary key references run (id) on delete cascade,
    next_id integer not null,   -- rows from here on are younger
    rows blob not null          -- one bit for each older row, the lowest first
) strict;

-- How far a run came with nothing left behind: each row of its source before that place is settled for good. The next
-- run of the same source, read in the same way, goes on there, if the bytes are still the same.
create table checkpoint (
    run integer primary key references run (id) on delete cascade,
    parse_settings_hash text not null,     -- hash of all that decides what the source's bytes mean
    bytes integer,                         -- the place; null while there is none
    line integer,                          -- the physical line that follows
    prefix_bytes integer,                  -- so many first bytes of the source
    prefix_hash text,                      -- had this hash (XXH3, 128 bits)
    tally text,                            -- JSON: rows before the place by outcome
    whole_file_only integer not null default 0, -- of use only if the place is the source's end
    chain_start integer                    -- the first of the runs that went on one behind the other to come here
) strict;

-- The options that a run was begun with. No option is a secret: neither keys nor the constants of --set are written.
create table setting (
    run integer not null references run (id) on delete cascade,
    position integer not null,
    name text not null,
    value text not null,
    origin text not null, -- 'flag', 'default', an environment variable, or a file and its line
    primary key (run, position)
) strict, without rowid;

-- A run over time. Samples are few whatever the run's length: when there is no room for another, neighbours are joined
-- and the interval doubles. Times are milliseconds since the run began, by a clock that nobody sets back. Samples go
-- along with commits that are made anyway, so a crash loses the last one and the one under way at most.
create table sample (
    run integer not null references run (id) on delete cascade,
    number integer not null,
    from_ms integer not null,
    to_ms integer not null,
    succeeded integer not null,  -- rows settled as created, existing, unchanged, changed, updated
    faulty integer not null,     -- rows settled as duplicate, invalid, rejected
    failed integer not null,
    requests integer not null,
    retries integer not null,
    throttled integer not null,
    in_flight integer not null,  -- the most that were seen
    held_rate real,              -- requests per second held under a limit that nobody told
    latencies text not null,     -- [[class, count], …]; eight classes to each doubling of microseconds
    primary key (run, number)
) strict, without rowid;

-- Where the run that goes on stands, for whoever looks from outside: what its counts do not say. One row, overwritten
-- about once a second in a commit that is made anyway, so it costs no disk of its own and its size does not grow with
-- a run. The run deletes it when it ends; a run that died leaves it.
create table heartbeat (
    id integer primary key check (id = 1),
    run integer not null references run (id) on delete cascade,
    at integer not null,
    activity text not null check (activity in ('sending', 'asking', 'paused', 'waiting', 'ending')),
    total integer,                    -- rows of the whole source; null where nothing tells
    is_exact integer not null,        -- the source was read to its end, so the total is no estimate
    per_second real not null,         -- rows settled a second, over the last seconds
    in_flight integer not null,       -- requests
    retrying integer not null,        -- rows that wait to be tried again
    in_doubt integer not null,        -- rows
    throttled_to real,                -- requests a second: the user's rate, or what is held under a limit of the API
    cause text                        -- why everything waits, in words, while it does
) strict;
