-- How a worker has ended.
--
-- Why this shape:
--   * The run goes on without the worker, so the run's own exit code and reason say nothing about it.

alter table worker
    add column exit_code bigint,  -- null as long as the worker is alive, and if it could not say how it ends
    add column stop_reason text;  -- why the worker ended before its run

insert into migration (version) values (3);
