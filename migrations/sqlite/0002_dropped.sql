-- What rows went without: optional fields that broke a rule, where the run was told to drop them. Counts
-- only, since the cells themselves are the source's; committed with the rows that they are about.

create table dropped (
    run integer not null references run (id),
    field text not null,
    rule text not null,
    rows integer not null,
    primary key (run, field, rule)
) strict, without rowid;
