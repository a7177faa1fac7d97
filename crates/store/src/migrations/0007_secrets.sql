-- Secrets of users for their tools. `sealed` is encrypted by the key of the key file that `key_id` names, and bound to
-- owner, name and places: a row that was moved or changed cannot be opened.
CREATE TABLE secrets (
    user_id    BLOB NOT NULL,
    name       TEXT NOT NULL,
    places     TEXT NOT NULL,
    key_id     TEXT NOT NULL,
    sealed     BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX secrets_by_key ON secrets (key_id);
