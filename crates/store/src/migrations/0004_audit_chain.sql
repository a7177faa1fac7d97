-- Audit records in a chain per user: each one's hash is keyed and covers the one before. Records of
-- before have neither number nor hash, and nothing protects them.
ALTER TABLE audit ADD COLUMN seq INTEGER;
ALTER TABLE audit ADD COLUMN hash BLOB;
CREATE UNIQUE INDEX audit_by_seq ON audit (user_id, seq) WHERE seq IS NOT NULL;

-- The end of each chain, so that a deletion at the end shows too.
CREATE TABLE audit_heads (
    user_id BLOB PRIMARY KEY,
    seq     INTEGER NOT NULL,
    hash    BLOB NOT NULL,
    seal    BLOB NOT NULL
) STRICT;
