-- A run that waits tells its place among its user's: whoever reads it counts those before it.
CREATE INDEX runs_queued ON runs (user_id, id) WHERE status = 'queued';
