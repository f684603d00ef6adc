-- What a row was before a run took it up again, and how a faulty row is known again; views that SQLite 3.40 reads.

-- Why `was`: a claim makes a row pending and in doubt, since that is what it is if the run dies. What it was before
-- must not be lost with it: a row that was rejected and was not sent after all is rejected still. So the claim of a
-- row that failed or was rejected keeps all that was said of it, as JSON: outcome, run, line, fingerprint in hex,
-- attempts, claimed_at, settled_at, field, error_code, error_message, http_status, request_id. Where the row turns
-- out not to have been sent, this is what it is again; where it is settled, this goes.
alter table row add column was text;

-- A run took the row up again and did not come to its end with it: `retry` sends it, whatever it is called
-- meanwhile, and `prune` leaves its cells.
alter table row add column owed integer not null default 0;

-- The same of updates; in `was` the sixth value is `unsure`, and the next two are null.
alter table outdated add column was text;

alter table outdated add column owed integer not null default 0;

-- Until here it was known by the run alone, and lost where another run asked about the row.
update row set owed = 1
where customer_id is null and outcome = 'pending' and run in (select id from run where command = 'retry');

update outdated set owed = 1
where outcome = 'pending' and run in (select id from run where command = 'retry');

-- A row that is invalid or a duplicate owns no reference. It is known again by its content, whatever its file is called
-- and wherever it stands there: a hash of its reference, or else of its cells. Null of all other rows.
--
-- The index is for reading all of them when a run begins, and for finding those that come back by their lines. It goes
-- by line, in which order a run writes them: one by the hash would dirty a page for each of them.
alter table row add column content integer;

update row set content = key where outcome in ('invalid', 'duplicate') and key is not null;

create index row_unowned on row (line, content, run, outcome) where content is not null;

-- Where the reference is what is wrong with an invalid row, the corrected row has another one. It is known by a hash of
-- its other cells, on the same line.
alter table row add column other_cells integer;

create index row_without_reference on row (line, other_cells, run) where other_cells is not null;

-- The fingerprint is hexadecimal text here: SQLite turns it into bytes from 3.41 on only.
drop view every_row;

drop view claim;

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

-- Each row that did not succeed, once: what `export failed` lists and `status` counts. Rows that came back corrected
-- are not among them. Nor is what was said of a row before a run found it invalid: had a run found it good since,
-- there would be no such record any more. An imported row stands here while an update of it was refused, failed, or
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
    select outdated.row, outdated.run, outdated.line, outdated.outcome, row.reference, row.customer_id,
           outdated.attempts, null, outdated.error_code, outdated.error_message, outdated.http_status,
           outdated.request_id
    from outdated cross join row on row.id = outdated.row
    where row.reference not in (select reference from invalid_now);
