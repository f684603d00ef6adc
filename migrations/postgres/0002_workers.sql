-- Several workers on one run.
--
-- Why this shape:
--   * The source is not divided. Each worker reads all of it, and the run counts how many of its rows are claimed
--     (`cursor_rows`): the next rows belong to whoever holds the cursor. The hash of these rows proves that all workers
--     read the same source.
--   * The counts of a run are sums: each commit adds what it has changed, so they are right whoever wrote them.
--   * A claim of a new row is in `claim_batch`, a claim of a known row at the row itself (`hold`). When a worker dies or
--     leaves, its open claims become orphaned rows, and another worker adopts them.

alter table run
    add column name text,                              -- --run-name
    add column join_key text,                          -- what workers must have in common; null: one worker alone
    add column cursor_rows bigint not null default 0,  -- rows of the source that are claimed, from its beginning
    add column cursor_start bigint not null default 0, -- rows of the unchanged prefix, which no worker claims
    add column cursor_hash bigint not null default 0,  -- of the claimed rows behind the prefix
    add column cursor_holder bigint,                   -- the worker that claims now
    add column next_row bigint,                        -- the id of the next new row
    add column is_at_end boolean not null default false, -- whether the source has no more rows
    add column imported_seen bigint not null default 0,  -- imported rows that the source contains
    add column sent bigint not null default 0,         -- rows that the run has settled after sending them
    add column sent_failures bigint not null default 0, -- those that were rejected or failed
    add column stopping text;                          -- why the workers are to end the run

create index run_name on run (name, id) where name is not null;

alter table worker
    add column begins_run boolean not null default false, -- so that another process waits for the run and joins it
    add column rows_settled bigint not null default 0,    -- rows that this worker has counted as other than pending
    add column waits_since timestamptz;                   -- for the cursor; who has waited longest gets it

alter table row
    add column worker bigint, -- who has claimed the known row
    add column hold text check (hold in ('claimed', 'orphaned', 'adopted'));

create index row_held on row (hold, worker) where hold is not null;

alter table pending_update
    add column worker bigint,
    add column hold text check (hold in ('claimed', 'orphaned', 'adopted'));

create index pending_update_held on pending_update (hold, worker) where hold is not null;

create index claim_batch_of_run on claim_batch (run, worker);

alter table heartbeat
    add column worker bigint not null default 0,
    drop constraint heartbeat_pkey,
    add primary key (run, worker);

alter table sample
    add column worker bigint not null default 0,
    drop constraint sample_pkey,
    add primary key (run, worker, number);

-- The moments at which requests may be sent, over all workers: given away until then, in seconds of the server's clock.
-- It is written for every few requests, and lost when the server crashes; it begins anew then.
create unlogged table rate (
    id bigint primary key check (id = 1),
    given_until double precision not null
) with (fillfactor = 10);

insert into rate (id, given_until) values (1, 0);

insert into migration (version) values (2);
