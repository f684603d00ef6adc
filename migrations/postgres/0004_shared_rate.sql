-- The rate that the workers of a run have found below the API's limit.
--
-- Each worker replays what has happened to its requests on the state of the others and stores the result if the version
-- is still the same (compare and swap). The state is that of the program's adaptive rate, as JSON.

alter table rate
    add column interval_seconds double precision not null default 0, -- the least time between two requests
    add column version bigint not null default 0,
    add column began double precision not null default 0,            -- when the state's seconds began
    add column state text;

insert into migration (version) values (4);
