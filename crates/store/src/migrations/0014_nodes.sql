-- Who holds a run. The lock of the data folder lets one node work at a time, so that here nobody is in `nodes`, and a
-- run's `node` and `stop` stay empty; several nodes need PostgreSQL.
CREATE TABLE nodes (
    id         BLOB NOT NULL PRIMARY KEY,
    started_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE runs ADD COLUMN node BLOB;
ALTER TABLE runs ADD COLUMN fence INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN stop TEXT;
