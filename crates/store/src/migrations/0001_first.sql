-- The first schema. Ids are 16 bytes, times are microseconds since 1970, JSON is text.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE users (
    id            BLOB PRIMARY KEY,
    name          TEXT NOT NULL COLLATE NOCASE UNIQUE,
    role          TEXT NOT NULL CHECK (role IN ('user', 'developer', 'admin')),
    plan          TEXT NOT NULL CHECK (plan IN ('free', 'pro', 'enterprise')),
    password_hash TEXT,
    disabled      INTEGER NOT NULL DEFAULT 0,
    created_at    INTEGER NOT NULL
) STRICT;

-- The number of a user's last event. The row is written in the appending transaction, so commit
-- order is the order of numbers.
CREATE TABLE logs (
    user_id    BLOB PRIMARY KEY,
    seq        INTEGER NOT NULL,
    oldest_seq INTEGER NOT NULL
) STRICT;

-- An ordinary rowid table: a batch over many users then writes one end, not one leaf per user.
CREATE TABLE events (
    user_id   BLOB NOT NULL,
    seq       INTEGER NOT NULL,
    thread_id BLOB NOT NULL,
    run_id    BLOB NOT NULL,
    type      TEXT NOT NULL,
    body      TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_by_user ON events (user_id, seq);

CREATE TABLE sessions (
    id           BLOB PRIMARY KEY,
    user_id      BLOB NOT NULL,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    revoked_at   INTEGER
) STRICT;
CREATE INDEX sessions_by_user ON sessions (user_id);

-- A used token stays until its session ends: seeing it again revokes the session.
CREATE TABLE refresh_tokens (
    hash       BLOB PRIMARY KEY,
    session_id BLOB NOT NULL,
    used_at    INTEGER
) STRICT;
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);

CREATE TABLE threads (
    id         BLOB PRIMARY KEY,
    user_id    BLOB NOT NULL,
    title      TEXT NOT NULL,
    metadata   TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX threads_by_user ON threads (user_id, updated_at, id);

CREATE TABLE messages (
    ord        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         BLOB NOT NULL UNIQUE,
    user_id    BLOB NOT NULL,
    thread_id  BLOB NOT NULL,
    run_id     BLOB,
    role       TEXT NOT NULL,
    agent      TEXT,
    content    TEXT NOT NULL,
    complete   INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX messages_by_thread ON messages (thread_id, ord);

CREATE TABLE runs (
    id               BLOB PRIMARY KEY,
    user_id          BLOB NOT NULL,
    thread_id        BLOB NOT NULL,
    agent            TEXT NOT NULL,
    agent_hash       TEXT NOT NULL,
    status           TEXT NOT NULL,
    attempt          INTEGER NOT NULL,
    input            TEXT NOT NULL,
    files            TEXT NOT NULL,
    metadata         TEXT NOT NULL,
    timeout_ms       INTEGER NOT NULL,
    input_message_id BLOB NOT NULL,
    request_id       BLOB NOT NULL,
    created_at       INTEGER NOT NULL,
    started_at       INTEGER,
    ended_at         INTEGER,
    deadline         INTEGER,
    result           TEXT,
    error            TEXT,
    usage            TEXT NOT NULL,
    log_start        INTEGER NOT NULL,
    log_end          INTEGER
) STRICT;
CREATE INDEX runs_by_user ON runs (user_id, id);
CREATE INDEX runs_by_thread ON runs (thread_id, id);
CREATE INDEX runs_active ON runs (thread_id, id) WHERE status IN ('queued', 'running', 'waiting');

CREATE TABLE journal (
    run_id     BLOB NOT NULL,
    user_id    BLOB NOT NULL,
    step       INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX journal_by_run ON journal (run_id);

CREATE TABLE files (
    id         BLOB PRIMARY KEY,
    user_id    BLOB NOT NULL,
    name       TEXT NOT NULL,
    media_type TEXT NOT NULL,
    bytes      INTEGER NOT NULL,
    sha256     TEXT NOT NULL,
    run_id     BLOB,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX files_by_user ON files (user_id, id);

CREATE TABLE usage_days (
    user_id       BLOB NOT NULL,
    day           TEXT NOT NULL,
    runs          INTEGER NOT NULL,
    input_tokens  INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost_usd      REAL,
    tool_calls    INTEGER NOT NULL,
    model_calls   INTEGER NOT NULL,
    PRIMARY KEY (user_id, day)
) STRICT;

CREATE TABLE audit (
    id         BLOB PRIMARY KEY,
    user_id    BLOB NOT NULL,
    at         INTEGER NOT NULL,
    actor      TEXT NOT NULL,
    action     TEXT NOT NULL,
    object     TEXT NOT NULL,
    outcome    TEXT NOT NULL,
    details    TEXT NOT NULL,
    request_id BLOB NOT NULL
) STRICT;
CREATE INDEX audit_by_user ON audit (user_id, id);

CREATE TABLE idempotency (
    user_id    BLOB NOT NULL,
    key        TEXT NOT NULL,
    operation  TEXT NOT NULL,
    body_hash  BLOB NOT NULL,
    answer     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, key)
) STRICT;
