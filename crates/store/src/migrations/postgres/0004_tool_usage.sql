-- What the embedded store's migration 0013 brings; what it counts stands there.
CREATE TABLE tool_usage (
    user_id      uuid NOT NULL,
    day          text NOT NULL COLLATE "C",
    tool         text NOT NULL COLLATE "C",
    calls        bigint NOT NULL,
    failed       bigint NOT NULL,
    denied       bigint NOT NULL,
    duration_ms  bigint NOT NULL,
    result_bytes bigint NOT NULL,
    PRIMARY KEY (user_id, day, tool)
) WITH (fillfactor = 70);

ALTER TABLE tool_usage ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON tool_usage USING (netra_sees(user_id)) WITH CHECK (netra_sees(user_id));
