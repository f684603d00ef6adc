-- What is told of customers that were at the API already, and what is remembered of a Create that may have landed.

-- A Create of ours, of whatever run, may have landed at some time, whatever Get said since: an API may lag behind
-- itself. Where the customer is found later, it may be ours.
alter table row add column was_sent integer not null default 0;

-- Nothing tells whether a Create of ours made the customer or somebody else did: `existing`, and said so.
alter table row add column is_uncertain integer not null default 0;

-- The API's spelling of the reference, where it differs from the row's in letter case or outer blanks.
alter table row add column api_reference text;

-- Two rows that the API does not tell apart have one customer; few rows have another spelling at all.
create index row_respelled on row (customer_id) where api_reference is not null;

update row set was_sent = in_doubt;

-- What a run found out about customers that existed. Counts only, never a value.
create table existing_note (
    run integer not null references run (id) on delete cascade,
    note text not null,   -- 'differing': rows whose customer had other fields; 'uncertain'; 'respelled'; or such a field
    rows integer not null,
    primary key (run, note)
) strict, without rowid;
