-- Tool servers that users have added for their own agents. `headers` is JSON: names of headers with names of secrets,
-- never a value.
CREATE TABLE tool_servers (
    user_id    BLOB NOT NULL,
    name       TEXT NOT NULL,
    url        TEXT NOT NULL,
    headers    TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, name)
) STRICT, WITHOUT ROWID;
