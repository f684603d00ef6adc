-- Who has set the rate in force, and how often the API has asked for a pause.
--
-- Why: a rate alone does not tell the user's own --rate from a limit of the API, and pauses are counted rather than
-- logged one by one, so that whoever looks from outside must be told their number. Only the run that goes on writes
-- them, so there is nothing to fill in for older ones.

alter table heartbeat add column throttled_by text; -- 'user' or 'api'; null without a rate
alter table heartbeat add column pauses integer not null default 0;
