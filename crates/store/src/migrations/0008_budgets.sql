-- What a user's calls of models have used and have set aside, where a budget bounds it: within a day (UTC, as
-- `2026-11-22`), and within a run, by its id. What is set aside counts as used until the call is settled.
CREATE TABLE budgets (
    user_id  BLOB NOT NULL,
    purse    TEXT NOT NULL,
    tokens   INTEGER NOT NULL,
    nano_usd INTEGER NOT NULL,
    PRIMARY KEY (user_id, purse)
) STRICT, WITHOUT ROWID;
