-- What a team needs that runs the program every night: what retry reads rows by, updates that did not come to
-- their end, which fields changed, and who is not in the file any more.
--
-- An update is no claim. A claim left over by a crash says that a customer may exist under no known id; an
-- update that is left over says only that the fields at the API are not known, and is done again.

alter table run add column reading text;     -- how records became customers (--map, --set, rules), as JSON
alter table run add column absent integer;   -- imported before and not in this run's file; null: not a whole file

-- Whose columns the cells are by; null: those of the row's run. A retry settles rows of many files.
alter table record add column run integer references run (id);

-- In how many rows of a run a field differs from what was imported. Never a value.
create table changed (
    run integer not null references run (id),
    field text not null,
    rows integer not null,
    primary key (run, field)
) strict, without rowid;

-- Imported rows whose update is under way, was refused or failed. The row itself stays as it was, with its id.
create table outdated (
    row integer primary key references row (id) on delete cascade,
    run integer not null references run (id),
    line integer not null,
    outcome text not null check (outcome in ('pending', 'rejected', 'failed')),
    fingerprint blob not null check (length(fingerprint) = 20), -- of what was to be sent
    unsure integer not null,                  -- it may have landed: what the API has is not known
    attempts integer not null default 0,
    error_code text,
    error_message text,
    http_status integer,
    request_id text
) strict;
