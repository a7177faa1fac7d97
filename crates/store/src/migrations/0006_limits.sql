-- How often a user's agents have called a tool in the window that is open, where a policy bounds
-- that. The window begins with its first call; the next call after its end begins another.
CREATE TABLE tool_rates (
    user_id  BLOB NOT NULL,
    tool     TEXT NOT NULL,
    window   TEXT NOT NULL CHECK (window IN ('second', 'minute', 'hour', 'day')),
    began_at INTEGER NOT NULL,
    calls    INTEGER NOT NULL,
    PRIMARY KEY (user_id, tool, window)
) STRICT, WITHOUT ROWID;

-- The groups that admins have put a user into, for policies: a list of names.
ALTER TABLE users ADD COLUMN groups TEXT NOT NULL DEFAULT '[]';
