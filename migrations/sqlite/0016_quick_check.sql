-- The two checks of `row` that list outcomes compare words one by one.
--
-- Why: SQLite builds a temporary table each time it evaluates `in` with more than two words, so for each row that is
-- written.
--
-- The constraints are changed in the stored text of the table, as https://sqlite.org/lang_altertable.html describes it:
-- no row is read, however many there are. They mean the same, so a connection that still knows the old text does no harm.

pragma writable_schema = on;

update sqlite_schema set sql = replace(replace(sql,
    'outcome not in (''duplicate'', ''invalid'', ''rejected'', ''failed'', ''pending'')',
    '(outcome <> ''duplicate'' and outcome <> ''invalid'' and outcome <> ''rejected'' and outcome <> ''failed''
        and outcome <> ''pending'')'),
    'outcome not in (''created'', ''existing'', ''updated'')',
    '(outcome <> ''created'' and outcome <> ''existing'' and outcome <> ''updated'')')
where type = 'table' and name = 'row';

pragma writable_schema = reset;
