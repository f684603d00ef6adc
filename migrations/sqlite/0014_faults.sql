-- Rows that cannot be sent take half the room: what is wrong with them is written once, not with each of them.
--
-- Why: a file may have millions of duplicates or invalid rows, and they are wrong in few ways. Field, code and message
-- of a row were more than all the rest of it. A hash of the reference was kept twice, and a third time in an index.
-- Rows of earlier versions keep their own words and hashes; both kinds are read.

create table fault (
    id integer primary key,
    field text,
    error_code text,
    error_message text
) strict;

-- Of an invalid row or a duplicate: what is wrong with it, in place of its own field, error_code and error_message. Null of
-- other rows, and where the table has so many faults that another one stays with its row.
alter table row add column fault integer;

-- `content` is null where it would be the same as `key`. Rows that cannot be sent are found by their outcome and line, in
-- row_without_id.
drop index row_unowned;

drop view every_row;
create view every_row as
    select row.id, run, line, outcome, reference, key, customer_id, attempts,
           coalesce(row.field, fault.field) as field,
           coalesce(row.error_code, fault.error_code) as error_code,
           coalesce(row.error_message, fault.error_message) as error_message,
           http_status, request_id, in_doubt, found, date_created, corrected_by
    from row left join fault on fault.id = row.fault
    union all
    select id, run, line, 'pending', reference, key, null, 0, null, null, null, null, null, 1, 0, null, null
    from claim;

drop view to_correct;
drop view invalid_now;
create view invalid_now (reference) as
    select reference from row left join fault on fault.id = row.fault
    where customer_id is null and outcome = 'invalid' and reference is not null and corrected_by is null
    -- Another row of its source has the reference too, and that one owns it.
    and coalesce(row.error_code, fault.error_code) not like '%duplicate';

create view to_correct as
    select row.id, run, line, outcome, reference, customer_id, attempts,
           coalesce(row.field, fault.field) as field,
           coalesce(row.error_code, fault.error_code) as error_code,
           coalesce(row.error_message, fault.error_message) as error_message,
           http_status, request_id
    from row left join fault on fault.id = row.fault
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
