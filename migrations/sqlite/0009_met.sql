-- Which rows a run met, where some of its source's could not be known: their references were unreadable, or broke a
-- rule. When such a row comes back corrected, its reference may be its own, damaged that night only, or that of another
-- row of its source. It is its own where the row that owns it is older than the run and the run did not meet it.
create table met (
    run integer primary key references run (id) on delete cascade,
    next_id integer not null,   -- rows from here on are younger
    rows blob not null          -- one bit for each older row, the lowest first
) strict;
