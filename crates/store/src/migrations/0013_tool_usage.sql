-- What a user's calls of a tool used in a day (UTC, as `2026-11-22`). A call counts in the commit that ends it, once; one
-- that was refused is in `denied` alone.
CREATE TABLE tool_usage (
    user_id      BLOB NOT NULL,
    day          TEXT NOT NULL,
    tool         TEXT NOT NULL,
    calls        INTEGER NOT NULL,
    failed       INTEGER NOT NULL,
    denied       INTEGER NOT NULL,
    duration_ms  INTEGER NOT NULL,
    result_bytes INTEGER NOT NULL,
    PRIMARY KEY (user_id, day, tool)
) STRICT, WITHOUT ROWID;
