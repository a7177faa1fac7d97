-- What the embedded store's migration 0011 brings; why stands there.

-- What is set aside for one call of a model that is under way.
CREATE TABLE reservations (
    user_id  uuid NOT NULL,
    run_id   uuid NOT NULL,
    id       uuid NOT NULL,
    day      text COLLATE "C",
    in_run   boolean NOT NULL,
    tokens   bigint NOT NULL,
    nano_usd bigint NOT NULL,
    PRIMARY KEY (user_id, run_id, id)
);

-- When the newest token was made that has said who a user is.
ALTER TABLE identities ADD COLUMN claimed_at timestamptz;

-- Who was known elsewhere and has left, by a keyed hash. `budgets` and `tool_rates` keep rows under this key in place of
-- a user's id.
CREATE TABLE departures (
    key        uuid PRIMARY KEY,
    claimed_at timestamptz,
    limits     jsonb NOT NULL,
    left_at    timestamptz NOT NULL
);

-- A key is nobody's id: only what works for the server itself sees it.
ALTER TABLE departures ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON departures USING (netra_sees(key)) WITH CHECK (netra_sees(key));
ALTER TABLE reservations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON reservations USING (netra_sees(user_id)) WITH CHECK (netra_sees(user_id));

-- Nothing comes into being for a user who is gone or disabled. `NETRA` is what the server knows the refusal by.
CREATE FUNCTION netra_refuse_nobody() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM users WHERE id = NEW.user_id AND NOT disabled) THEN
        RAISE EXCEPTION 'the user is gone or disabled' USING ERRCODE = 'NETRA';
    END IF;
    RETURN NEW;
END
$$;

-- An admin may make a link for somebody who is disabled and comes back, but not for who leaves.
CREATE FUNCTION netra_refuse_gone() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM users WHERE id = NEW.user_id AND NOT leaving) THEN
        RAISE EXCEPTION 'the user is gone' USING ERRCODE = 'NETRA';
    END IF;
    RETURN NEW;
END
$$;

DO $$
DECLARE
    guarded text;
BEGIN
    FOREACH guarded IN ARRAY ARRAY[
        'threads', 'runs', 'files', 'notes', 'secrets', 'sessions', 'api_keys', 'tool_servers', 'idempotency',
        'identities'
    ] LOOP
        EXECUTE format('CREATE TRIGGER of_nobody BEFORE INSERT ON %I FOR EACH ROW '
            'EXECUTE FUNCTION netra_refuse_nobody()', guarded);
    END LOOP;
END
$$;
CREATE TRIGGER of_nobody BEFORE INSERT ON links FOR EACH ROW WHEN (NEW.user_id IS NOT NULL)
EXECUTE FUNCTION netra_refuse_gone();
