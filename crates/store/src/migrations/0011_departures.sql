-- What is set aside for one call of a model that is under way. Its amount stands in the purses `day` (null: the day is
-- not bounded) and, where `in_run`, in the run's, until the call is settled and the row is gone.
CREATE TABLE reservations (
    user_id  BLOB NOT NULL,
    run_id   BLOB NOT NULL,
    id       BLOB NOT NULL,
    day      TEXT,
    in_run   INTEGER NOT NULL,
    tokens   INTEGER NOT NULL,
    nano_usd INTEGER NOT NULL,
    PRIMARY KEY (user_id, run_id, id)
) STRICT, WITHOUT ROWID;

-- Nothing comes into being for a user who is gone or disabled, whoever asks and however long it was on its way. What
-- belongs to a run is not guarded: it is written with the run, and a user with a run that has not ended is not erased.
CREATE TRIGGER threads_of_nobody BEFORE INSERT ON threads
WHEN NOT EXISTS (SELECT 1 FROM users WHERE id = NEW.user_id AND NOT disabled)
BEGIN SELECT RAISE(ABORT, 'the user is gone or disabled'); END;

CREATE TRIGGER runs_of_nobody BEFORE INSERT ON runs
WHEN NOT EXISTS (SELECT 1 FROM users WHERE id = NEW.user_id AND NOT disabled)
BEGIN SELECT RAISE(ABORT, 'the user is gone or disabled'); END;

CREATE TRIGGER files_of_nobody BEFORE INSERT ON files
WHEN NOT EXISTS (SELECT 1 FROM users WHERE id = NEW.user_id AND NOT disabled)
BEGIN SELECT RAISE(ABORT, 'the user is gone or disabled'); END;

CREATE TRIGGER notes_of_nobody BEFORE INSERT ON notes
WHEN NOT EXISTS (SELECT 1 FROM users WHERE id = NEW.user_id AND NOT disabled)
BEGIN SELECT RAISE(ABORT, 'the user is gone or disabled'); END;

CREATE TRIGGER secrets_of_nobody BEFORE INSERT ON secrets
WHEN NOT EXISTS (SELECT 1 FROM users WHERE id = NEW.user_id AND NOT disabled)
BEGIN SELECT RAISE(ABORT, 'the user is gone or disabled'); END;

CREATE TRIGGER sessions_of_nobody BEFORE INSERT ON sessions
WHEN NOT EXISTS (SELECT 1 FROM users WHERE id = NEW.user_id AND NOT disabled)
BEGIN SELECT RAISE(ABORT, 'the user is gone or disabled'); END;

CREATE TRIGGER api_keys_of_nobody BEFORE INSERT ON api_keys
WHEN NOT EXISTS (SELECT 1 FROM users WHERE id = NEW.user_id AND NOT disabled)
BEGIN SELECT RAISE(ABORT, 'the user is gone or disabled'); END;

CREATE TRIGGER tool_servers_of_nobody BEFORE INSERT ON tool_servers
WHEN NOT EXISTS (SELECT 1 FROM users WHERE id = NEW.user_id AND NOT disabled)
BEGIN SELECT RAISE(ABORT, 'the user is gone or disabled'); END;

CREATE TRIGGER idempotency_of_nobody BEFORE INSERT ON idempotency
WHEN NOT EXISTS (SELECT 1 FROM users WHERE id = NEW.user_id AND NOT disabled)
BEGIN SELECT RAISE(ABORT, 'the user is gone or disabled'); END;

CREATE TRIGGER identities_of_nobody BEFORE INSERT ON identities
WHEN NOT EXISTS (SELECT 1 FROM users WHERE id = NEW.user_id AND NOT disabled)
BEGIN SELECT RAISE(ABORT, 'the user is gone or disabled'); END;

-- An admin may make a link for somebody who is disabled and comes back, but not for who leaves.
CREATE TRIGGER links_of_nobody BEFORE INSERT ON links
WHEN NEW.user_id IS NOT NULL
     AND NOT EXISTS (SELECT 1 FROM users WHERE id = NEW.user_id AND NOT leaving)
BEGIN SELECT RAISE(ABORT, 'the user is gone'); END;

-- When the newest token was made that has said who a user is: an older one changes nothing. In microseconds.
ALTER TABLE identities ADD COLUMN claimed_at INTEGER;

-- Who was known elsewhere and has left, by a keyed hash of issuer and subject, so that who comes back at once is not
-- somebody with a whole day's budget. `budgets` and `tool_rates` keep rows under this key in place of a user's id.
CREATE TABLE departures (
    key        BLOB PRIMARY KEY,
    claimed_at INTEGER,
    limits     TEXT NOT NULL,
    left_at    INTEGER NOT NULL
) STRICT;
