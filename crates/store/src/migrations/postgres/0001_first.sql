-- What the embedded store has after its migration 0010. Ids are `uuid`, times `timestamptz`. JSON that users or models
-- wrote is kept as it came: `jsonb` would lose the order of keys, and refuses a NUL that was escaped. Text that is
-- compared or sorted is so by its bytes, as in the embedded store.

-- The names of users and notes: without regard to case.
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);

CREATE TABLE meta (
    key   text PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    name          text NOT NULL COLLATE nocase UNIQUE,
    role          text NOT NULL CHECK (role IN ('user', 'developer', 'admin')),
    plan          text NOT NULL CHECK (plan IN ('free', 'pro', 'enterprise')),
    password_hash text,
    disabled      boolean NOT NULL DEFAULT false,
    leaving       boolean NOT NULL DEFAULT false,
    groups        jsonb NOT NULL DEFAULT '[]',
    limits        jsonb NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL
);
CREATE INDEX users_leaving ON users (id) WHERE leaving;

CREATE TABLE plans (
    plan   text PRIMARY KEY CHECK (plan IN ('free', 'pro', 'enterprise')),
    limits jsonb NOT NULL
);

-- Who users are elsewhere. `issuer` is the id of the user whose service tokens name them, or an issuer's address.
CREATE TABLE identities (
    user_id uuid PRIMARY KEY,
    issuer  text NOT NULL,
    subject text NOT NULL,
    UNIQUE (issuer, subject)
);

-- The number of a user's last event. The row is written in the appending transaction, so commit order is the order of
-- numbers. It changes with each append and is small: room on its page spares the index.
CREATE TABLE logs (
    user_id     uuid PRIMARY KEY,
    seq         bigint NOT NULL,
    oldest_seq  bigint NOT NULL,
    appended_at timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE events (
    user_id   uuid NOT NULL,
    seq       bigint NOT NULL,
    thread_id uuid NOT NULL,
    run_id    uuid NOT NULL,
    type      text NOT NULL,
    body      text NOT NULL,
    PRIMARY KEY (user_id, seq)
) PARTITION BY HASH (user_id);

-- What was deleted from a user's log, besides what was folded: so many events with numbers after one and through
-- another.
CREATE TABLE log_deletions (
    user_id    uuid NOT NULL,
    after_seq  bigint NOT NULL,
    through    bigint NOT NULL,
    events     bigint NOT NULL,
    reason     text NOT NULL CHECK (reason IN ('thread', 'retention')),
    deleted_at timestamptz NOT NULL
);
CREATE INDEX log_deletions_by_user ON log_deletions (user_id, after_seq);

CREATE TABLE sessions (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL,
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz
);
CREATE INDEX sessions_by_user ON sessions (user_id);

-- A used token stays until its session ends: seeing it again revokes the session.
CREATE TABLE refresh_tokens (
    hash       bytea PRIMARY KEY,
    session_id uuid NOT NULL,
    used_at    timestamptz
);
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);

-- The hash is keyed with a secret of the key file, so a stolen database opens nothing. `rights` is a set of bits.
CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL,
    name         text NOT NULL,
    hash         bytea NOT NULL UNIQUE,
    rights       bigint NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    last_used_at timestamptz
);
CREATE INDEX api_keys_by_user ON api_keys (user_id, id);

-- Links that are good once. `user_id` is whose password one resets; of an invitation there is no user yet.
CREATE TABLE links (
    id         uuid PRIMARY KEY,
    hash       bytea NOT NULL UNIQUE,
    kind       text NOT NULL CHECK (kind IN ('reset', 'invite')),
    user_id    uuid,
    role       text CHECK (role IN ('user', 'developer', 'admin')),
    plan       text CHECK (plan IN ('free', 'pro', 'enterprise')),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX links_by_user ON links (user_id) WHERE user_id IS NOT NULL;

CREATE TABLE threads (
    id         uuid PRIMARY KEY,
    user_id    uuid NOT NULL,
    title      text NOT NULL,
    metadata   json NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX threads_by_user ON threads (user_id, updated_at, id);

CREATE TABLE messages (
    ord        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id         uuid NOT NULL UNIQUE,
    user_id    uuid NOT NULL,
    thread_id  uuid NOT NULL,
    run_id     uuid,
    role       text NOT NULL,
    agent      text,
    content    text NOT NULL,
    complete   boolean NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX messages_by_thread ON messages (thread_id, ord);

CREATE TABLE runs (
    id               uuid PRIMARY KEY,
    user_id          uuid NOT NULL,
    thread_id        uuid NOT NULL,
    agent            text NOT NULL,
    agent_hash       text NOT NULL,
    status           text NOT NULL,
    attempt          bigint NOT NULL,
    input            json NOT NULL,
    files            jsonb NOT NULL,
    metadata         json NOT NULL,
    timeout_ms       bigint NOT NULL,
    input_message_id uuid NOT NULL,
    request_id       uuid NOT NULL,
    created_at       timestamptz NOT NULL,
    started_at       timestamptz,
    ended_at         timestamptz,
    deadline         timestamptz,
    released_at      timestamptz,
    result           json,
    error            json,
    usage            jsonb NOT NULL,
    rights           bigint NOT NULL DEFAULT 0,
    log_start        bigint NOT NULL,
    log_end          bigint,
    folded           bigint
) WITH (fillfactor = 70);
CREATE INDEX runs_by_user ON runs (user_id, id);
CREATE INDEX runs_by_thread ON runs (thread_id, id);
CREATE INDEX runs_active ON runs (thread_id, id) WHERE status IN ('queued', 'running', 'waiting');
CREATE INDEX runs_to_fold ON runs (ended_at) WHERE folded IS NULL AND ended_at IS NOT NULL;

-- What a run has done so far. `key` is the path of the operation in the run.
CREATE TABLE journal (
    run_id     uuid NOT NULL,
    user_id    uuid NOT NULL,
    key        text NOT NULL COLLATE "C",
    kind       text NOT NULL COLLATE "C",
    step       bigint NOT NULL,
    value      text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (run_id, key, kind)
);

CREATE TABLE agent_versions (
    hash       text PRIMARY KEY,
    name       text NOT NULL,
    files      text NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE approvals (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL,
    run_id       uuid NOT NULL,
    thread_id    uuid NOT NULL,
    tool_call_id uuid NOT NULL,
    tool_name    text NOT NULL,
    agent        text NOT NULL,
    step         bigint NOT NULL,
    key          text NOT NULL,
    arguments    json NOT NULL,
    reason       text NOT NULL,
    state        text NOT NULL CHECK (state IN ('pending', 'approved', 'denied')),
    expires_at   timestamptz NOT NULL,
    created_at   timestamptz NOT NULL
);
CREATE INDEX approvals_by_user ON approvals (user_id, id);
CREATE INDEX approvals_by_run ON approvals (run_id);
CREATE INDEX approvals_by_thread ON approvals (thread_id);
CREATE INDEX approvals_pending ON approvals (expires_at) WHERE state = 'pending';

CREATE TABLE files (
    id         uuid PRIMARY KEY,
    user_id    uuid NOT NULL,
    name       text NOT NULL,
    media_type text NOT NULL,
    bytes      bigint NOT NULL,
    sha256     text NOT NULL,
    run_id     uuid,
    created_at timestamptz NOT NULL
);
CREATE INDEX files_by_user ON files (user_id, id);

CREATE TABLE usage_days (
    user_id       uuid NOT NULL,
    day           text NOT NULL COLLATE "C",
    runs          bigint NOT NULL,
    input_tokens  bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cost_usd      double precision,
    tool_calls    bigint NOT NULL,
    model_calls   bigint NOT NULL,
    PRIMARY KEY (user_id, day)
) WITH (fillfactor = 70);

-- Each record's hash is keyed and covers the one before; so its details are text that never changes.
CREATE TABLE audit (
    id         uuid PRIMARY KEY,
    user_id    uuid NOT NULL,
    at         timestamptz NOT NULL,
    actor      text NOT NULL,
    action     text NOT NULL,
    object     text NOT NULL,
    outcome    text NOT NULL,
    details    text NOT NULL,
    request_id uuid NOT NULL,
    seq        bigint,
    hash       bytea
);
CREATE INDEX audit_by_user ON audit (user_id, id);
CREATE UNIQUE INDEX audit_by_seq ON audit (user_id, seq) WHERE seq IS NOT NULL;

CREATE TABLE audit_heads (
    user_id uuid PRIMARY KEY,
    seq     bigint NOT NULL,
    hash    bytea NOT NULL,
    seal    bytea NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE idempotency (
    user_id    uuid NOT NULL,
    key        text NOT NULL COLLATE "C",
    operation  text NOT NULL,
    body_hash  bytea NOT NULL,
    answer     text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, key)
);

-- The words of a text as a search looks for them: small letters without marks.
CREATE FUNCTION netra_words(given text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT array_remove(
        regexp_split_to_array(
            regexp_replace(normalize(lower(given COLLATE "und-x-icu"), NFD), '[\u0300-\u036f]', '', 'g'),
            '[^[:alnum:]]+'),
        '')
$$;

-- Short texts that a user's agents are to remember. A name stands for one text of a user.
CREATE TABLE notes (
    ord        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    uuid NOT NULL,
    name       text NOT NULL COLLATE nocase,
    text       text NOT NULL,
    words      text[] NOT NULL GENERATED ALWAYS AS (netra_words(name || ' ' || text)) STORED,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    UNIQUE (user_id, name)
);

-- How often a user's agents have called a tool in the window that is open.
CREATE TABLE tool_rates (
    user_id  uuid NOT NULL,
    tool     text NOT NULL,
    "window" text NOT NULL CHECK ("window" IN ('second', 'minute', 'hour', 'day')),
    began_at timestamptz NOT NULL,
    calls    bigint NOT NULL,
    PRIMARY KEY (user_id, tool, "window")
);

-- Secrets of users for their tools. What is sealed is bound to owner, name and places, so places are text that never
-- changes.
CREATE TABLE secrets (
    user_id    uuid NOT NULL,
    name       text NOT NULL COLLATE "C",
    places     text NOT NULL,
    key_id     text NOT NULL,
    sealed     bytea NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, name)
);
CREATE INDEX secrets_by_key ON secrets (key_id);

-- What a user's calls of models have used and have set aside: within a day, and within a run, by its id.
CREATE TABLE budgets (
    user_id  uuid NOT NULL,
    purse    text NOT NULL COLLATE "C",
    tokens   bigint NOT NULL,
    nano_usd bigint NOT NULL,
    PRIMARY KEY (user_id, purse)
);

-- Tool servers that users have added. `headers` has names of secrets, never a value.
CREATE TABLE tool_servers (
    user_id    uuid NOT NULL,
    name       text NOT NULL COLLATE "C",
    url        text NOT NULL,
    headers    text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, name)
);

-- What people said in a message's content, to be searched. A NUL that was escaped is no text to PostgreSQL.
CREATE FUNCTION netra_said(content text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT string_agg(part ->> 'text', E'\n')
    FROM json_array_elements(
        regexp_replace(content, '(?<!\\)((?:\\\\)*)\\u0000', '\1 ', 'g')::json) part
$$;

-- Row-level security: a transaction sees one user's rows, or all where it says that it works for the server itself,
-- or none. The owner of the tables is bound by it too.
CREATE FUNCTION netra_sees(owner uuid) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
-- After a setting was used once in a connection it reads as an empty text, not as null.
RETURN owner = nullif(current_setting('netra.user_id', true), '')::uuid
    OR current_setting('netra.everybody', true) = 'on';

DO $$
DECLARE
    owned text;
    part int;
BEGIN
    FOR part IN 0..7 LOOP
        EXECUTE format('CREATE TABLE events_%s PARTITION OF events FOR VALUES WITH (MODULUS 8, REMAINDER %s)', part, part);
        -- Nobody reads them but through their table, so they need no policy.
        EXECUTE format('ALTER TABLE events_%s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', part);
    END LOOP;
    FOREACH owned IN ARRAY ARRAY[
        'identities', 'logs', 'events', 'log_deletions', 'sessions', 'api_keys', 'links', 'threads', 'messages',
        'runs', 'journal', 'approvals', 'files', 'usage_days', 'audit', 'audit_heads', 'idempotency', 'notes',
        'tool_rates', 'secrets', 'budgets', 'tool_servers'
    ] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', owned);
        EXECUTE format('CREATE POLICY own ON %I USING (netra_sees(user_id)) WITH CHECK (netra_sees(user_id))', owned);
    END LOOP;
END
$$;

ALTER TABLE users ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON users USING (netra_sees(id)) WITH CHECK (netra_sees(id));

-- A token is whose session it belongs to.
ALTER TABLE refresh_tokens ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON refresh_tokens
    USING (EXISTS (SELECT 1 FROM sessions s WHERE s.id = session_id))
    WITH CHECK (EXISTS (SELECT 1 FROM sessions s WHERE s.id = session_id));
