-- What a run tells of itself beside its rows: the options it ran with, and how it went over time.
--
-- Samples are few whatever the run's length: when there is no room for another, neighbours are joined and
-- the interval doubles. Times are milliseconds since the run began, by a clock that nobody sets back.
-- They go along with commits that are made anyway, so a crash loses the last one and the one under way at most.
-- No option is a secret: neither keys nor the constants of --set are written here.

create table setting (
    run integer not null references run (id) on delete cascade,
    position integer not null,
    name text not null,
    value text not null,
    origin text not null, -- 'flag', 'default', an environment variable, or a file and its line
    primary key (run, position)
) strict, without rowid;

create table sample (
    run integer not null references run (id) on delete cascade,
    number integer not null,
    from_ms integer not null,
    to_ms integer not null,
    succeeded integer not null,  -- rows settled as created, existing, unchanged, changed, updated
    faulty integer not null,     -- rows settled as duplicate, invalid, rejected
    failed integer not null,
    requests integer not null,
    retries integer not null,
    throttled integer not null,
    in_flight integer not null,  -- the most that were seen
    held_rate real,              -- requests per second held under a limit that nobody told
    latencies text not null,     -- [[class, count], …]; eight classes to each doubling of microseconds
    primary key (run, number)
) strict, without rowid;
