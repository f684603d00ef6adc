-- Invalid rows and duplicates have a table of their own.
--
-- Why: a file may have millions of them. In `row` each took a byte for every column that only sent rows have, its
-- outcome as a word twice, a hash that its reference gives, and its cells in a second table. Here it is one narrow
-- record with one small index. `row` keeps the columns that only such rows had, because to drop a column writes the
-- whole table anew; they are null from here on.

create table unsendable (
    id integer primary key,                   -- from the same series as the ids of rows and claims
    run integer not null references run (id), -- the run that settled it last; its header names the cells
    line integer not null,
    is_duplicate integer not null,            -- otherwise the row is invalid
    reference text,                           -- null where it cannot be read
    -- The row owns no reference. It is known again by this hash of its cells; null where the hash of the reference serves.
    content integer,
    -- Where the reference is what is wrong, the corrected row has another one. It is known by a hash of its other cells, on
    -- the same line.
    other_cells integer,
    fault integer,                            -- what is wrong; null where the table `fault` is full, then it is said here:
    field text,
    error_code text,
    error_message text,
    corrected_by integer references run (id), -- the run to which it came back, corrected, in a failed export
    cells text,                               -- the raw cells as a JSON array; null of a row without cells
    check (is_duplicate in (0, 1))
) strict;

insert into unsendable (id, run, line, is_duplicate, reference, content, other_cells, fault, field, error_code, error_message,
                        corrected_by, cells)
select row.id, row.run, line, outcome = 'duplicate', reference, nullif(content, key), other_cells, fault, field, error_code,
       error_message, corrected_by, cells
from row left join record on record.row = row.id
where customer_id is null and outcome in ('invalid', 'duplicate') order by row.id;

-- By line, in which order a run writes them: an index by the hash would dirty a page for each of them.
create index unsendable_by_line on unsendable (line);

create index unsendable_without_reference on unsendable (line, other_cells, run) where other_cells is not null;

drop index row_without_reference;

delete from record where row in (select id from unsendable);
delete from row where id in (select id from unsendable);

drop view every_row;
create view every_row as
    select id, run, line, outcome, reference, key, customer_id, attempts, field, error_code,
           error_message, http_status, request_id, in_doubt, found, date_created, corrected_by
    from row
    union all
    select unsendable.id, run, line, iif(is_duplicate, 'duplicate', 'invalid'), reference, null, null, 0,
           coalesce(unsendable.field, fault.field), coalesce(unsendable.error_code, fault.error_code),
           coalesce(unsendable.error_message, fault.error_message), null, null, 0, 0, null, corrected_by
    from unsendable left join fault on fault.id = unsendable.fault
    union all
    select id, run, line, 'pending', reference, key, null, 0, null, null, null, null, null, 1, 0, null, null
    from claim;

drop view to_correct;
drop view invalid_now;
create view invalid_now (reference) as
    select reference from unsendable left join fault on fault.id = unsendable.fault
    where not is_duplicate and reference is not null and corrected_by is null
    -- Another row of its source has the reference too, and that one owns it.
    and coalesce(unsendable.error_code, fault.error_code) not like '%duplicate';

create view to_correct as
    select id, run, line, outcome, reference, customer_id, attempts, field, error_code, error_message, http_status,
           request_id
    from row
    where customer_id is null and corrected_by is null and reference not in (select reference from invalid_now)
    union all
    select unsendable.id, run, line, iif(is_duplicate, 'duplicate', 'invalid'), reference, null, 0,
           coalesce(unsendable.field, fault.field), coalesce(unsendable.error_code, fault.error_code),
           coalesce(unsendable.error_message, fault.error_message), null, null
    from unsendable left join fault on fault.id = unsendable.fault
    where corrected_by is null
    union all
    select id, run, line, 'pending', reference, null, 0, null, null, null, null, null from claim
    union all
    select pending_update.row, pending_update.run, pending_update.line, pending_update.outcome, row.reference,
           row.customer_id, pending_update.attempts, null, pending_update.error_code, pending_update.error_message,
           pending_update.http_status, pending_update.request_id
    from pending_update cross join row on row.id = pending_update.row
    where row.reference not in (select reference from invalid_now);
