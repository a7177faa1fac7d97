-- Runs that go on after a crash, a drain or a person's answer.

-- What the credentials of the request allowed, as a set of bits: never more than that again.
ALTER TABLE runs ADD COLUMN rights INTEGER NOT NULL DEFAULT 0;
-- When its last engine let it go; null while an engine holds it, and after a crash.
ALTER TABLE runs ADD COLUMN released_at INTEGER;
-- How many pieces of its messages were folded away after its end; null until that was done.
ALTER TABLE runs ADD COLUMN folded INTEGER;
CREATE INDEX runs_to_fold ON runs (ended_at) WHERE folded IS NULL AND ended_at IS NOT NULL;

-- What was deleted from a user's log, so that what is missing without a reason can be told: so
-- many events with numbers after one and through another. Folding is told by `runs.folded`.
CREATE TABLE log_deletions (
    user_id    BLOB NOT NULL,
    after_seq  INTEGER NOT NULL,
    through    INTEGER NOT NULL,
    events     INTEGER NOT NULL,
    reason     TEXT NOT NULL CHECK (reason IN ('thread', 'retention')),
    deleted_at INTEGER NOT NULL
) STRICT;
CREATE INDEX log_deletions_by_user ON log_deletions (user_id, after_seq);

-- Runs of before were journalled in another form and cannot go on: no agent has this hash.
UPDATE runs SET agent_hash = '' WHERE ended_at IS NULL;

-- What a run has done so far. `key` is the path of the operation in the run: the ordinals of the
-- calls that lead to it, from the run's own agent on.
DROP TABLE journal;
CREATE TABLE journal (
    run_id     BLOB NOT NULL,
    user_id    BLOB NOT NULL,
    key        TEXT NOT NULL,
    kind       TEXT NOT NULL,
    step       INTEGER NOT NULL,
    value      TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX journal_by_run ON journal (run_id, key, kind);

-- The files of each version of an agent that the server has had.
CREATE TABLE agent_versions (
    hash       TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    files      TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Questions to a person. `key` is that of the call in the run's journal.
CREATE TABLE approvals (
    id           BLOB PRIMARY KEY,
    user_id      BLOB NOT NULL,
    run_id       BLOB NOT NULL,
    thread_id    BLOB NOT NULL,
    tool_call_id BLOB NOT NULL,
    tool_name    TEXT NOT NULL,
    agent        TEXT NOT NULL,
    step         INTEGER NOT NULL,
    key          TEXT NOT NULL,
    arguments    TEXT NOT NULL,
    reason       TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'denied')),
    expires_at   INTEGER NOT NULL,
    created_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX approvals_by_user ON approvals (user_id, id);
CREATE INDEX approvals_by_run ON approvals (run_id);
CREATE INDEX approvals_pending ON approvals (expires_at) WHERE state = 'pending';
