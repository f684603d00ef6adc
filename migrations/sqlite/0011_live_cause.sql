-- Why the run waits, in words, while it does: whoever looks from outside must not have to search the log for it.
alter table live add column cause text;
