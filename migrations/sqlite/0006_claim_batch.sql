-- The claims of new rows, one row of this table for each commit that made some; before, there was a row for each.
--
-- Why: a claim lives for milliseconds. Written one by one, found again for the settlement and deleted, it
-- cost as much as the row itself. So the claims of one commit are one value, which goes when the last
-- of its rows is settled; a claim is open as long as there is no such row. A row that the ledger knows already
-- is claimed in its own place, as pending and in doubt, which is what it is if the run dies.

-- What a dead run had claimed; the next run would have done the same.
insert into row (id, run, line, outcome, reference, key, fingerprint, claimed_at, settled_at, in_doubt,
                 error_message)
select id, run, line, 'pending', reference, key, fingerprint, claimed_at, claimed_at, 1,
       'the run ended before the answer was recorded'
from claim where true
on conflict (id) do update set
    run = excluded.run, line = excluded.line, outcome = excluded.outcome,
    fingerprint = excluded.fingerprint, claimed_at = excluded.claimed_at,
    settled_at = excluded.settled_at, in_doubt = 1, field = null, error_code = null,
    error_message = excluded.error_message, http_status = null, request_id = null;

-- A row that is claimed again has another run from then on: its cells keep theirs.
update record set run = (select run from row where row.id = record.row) where run is null;

drop view every_row;

drop table claim;

create table claim_batch (
    id integer primary key,                -- of its first row
    run integer not null references run (id),
    claimed_at integer not null,
    claims text not null                   -- JSON: [[id, line, reference, key, fingerprint in hex], ...]
) strict;

-- The claims of new rows that are open: of a run that goes on or died.
create view claim (id, run, line, reference, key, fingerprint, claimed_at) as
    select value->>0, run, value->>1, value->>2, value->>3, unhex(value->>4), claimed_at
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

-- How far a run came with nothing left behind: each row of its source before that place is settled for good. The
-- next run of the same source, read in the same way, goes on there, if the bytes are still the same.
create table checkpoint (
    run integer primary key references run (id) on delete cascade,
    way text not null,                     -- hash of all that decides what the source's bytes mean
    bytes integer,                         -- the place; null while there is none
    line integer,                          -- the physical line that follows
    proof_bytes integer,                   -- so many first bytes of the source
    proof_hash text,                       -- had this hash (XXH3, 128 bits)
    tally text,                            -- JSON: rows before the place by outcome
    only_whole integer not null default 0, -- of use only if the place is the source's end
    since integer                          -- the first of the runs that went on one behind the other to come here
) strict;
