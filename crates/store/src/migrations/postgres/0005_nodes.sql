-- Who holds a run. A node says with each heartbeat until when it is to be taken for alive, by the database's clock; the
-- runs of one that has not said so in time are taken by others. What holds a run writes under the run's fence, which
-- grows each time the run is taken.
CREATE TABLE nodes (
    id         uuid PRIMARY KEY,
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);

ALTER TABLE runs ADD COLUMN node uuid;
ALTER TABLE runs ADD COLUMN fence bigint NOT NULL DEFAULT 0;
-- Why whoever holds the run is to end it, where somebody wants that on another node.
ALTER TABLE runs ADD COLUMN stop text;

CREATE INDEX runs_unfinished ON runs (node, id) WHERE status IN ('queued', 'running', 'waiting');
CREATE INDEX runs_in_slots ON runs (user_id) WHERE status IN ('queued', 'running');
