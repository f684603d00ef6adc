-- Where the run that goes on stands, for whoever looks from outside: what its counts in `run` do not say.
-- One row, overwritten about once a second in a commit that is made anyway, so it costs no disk of its own
-- and its size does not grow with a run. The run takes it away when it ends; one that died leaves it.

create table live (
    id integer primary key check (id = 1),
    run integer not null references run (id) on delete cascade,
    at integer not null,
    doing text not null check (doing in ('sending', 'asking', 'paused', 'waiting', 'ending')),
    total integer,                    -- rows of the whole source; null where nothing tells
    is_exact integer not null,        -- the source was read to its end, so the total is no estimate
    per_second real not null,         -- rows settled a second, over the last seconds
    in_flight integer not null,       -- requests
    retrying integer not null,        -- rows that wait to be tried again
    in_doubt integer not null,        -- rows
    throttled_to real                 -- requests a second: the user's rate, or what is held under a limit of the API
) strict;
