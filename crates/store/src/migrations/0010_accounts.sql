-- Limits of plans and of users, where they are not those of the configuration: a JSON object by key.
CREATE TABLE plans (
    plan   TEXT PRIMARY KEY CHECK (plan IN ('free', 'pro', 'enterprise')),
    limits TEXT NOT NULL
) STRICT;
ALTER TABLE users ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';

-- A user who has left is disabled, has no password and no name any more, and goes with all that was the user's.
ALTER TABLE users ADD COLUMN leaving INTEGER NOT NULL DEFAULT 0;
CREATE INDEX users_leaving ON users (id) WHERE leaving;

-- Links that are good once. `user_id` is whose password one resets; of an invitation there is no user yet, but what
-- the user will be.
CREATE TABLE links (
    id         BLOB PRIMARY KEY,
    hash       BLOB NOT NULL UNIQUE,
    kind       TEXT NOT NULL CHECK (kind IN ('reset', 'invite')),
    user_id    BLOB,
    role       TEXT CHECK (role IN ('user', 'developer', 'admin')),
    plan       TEXT CHECK (plan IN ('free', 'pro', 'enterprise')),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX links_by_user ON links (user_id) WHERE user_id IS NOT NULL;

-- Who users are elsewhere. `issuer` is the id of the user whose service tokens name them, or an issuer's address.
CREATE TABLE identities (
    user_id BLOB PRIMARY KEY,
    issuer  TEXT NOT NULL,
    subject TEXT NOT NULL,
    UNIQUE (issuer, subject)
) STRICT;
