-- Short texts that a user's agents are to remember. A name stands for one text of a user.
CREATE TABLE notes (
    ord        INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id    BLOB NOT NULL,
    name       TEXT NOT NULL COLLATE NOCASE,
    text       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX notes_by_user ON notes (user_id, name);

-- The words of each note by its `ord`, without the texts. `owner` is the user's id in hex: each
-- search names it, so nobody else's notes are looked at.
CREATE VIRTUAL TABLE note_words USING fts5 (
    owner, name, text,
    content = '', contentless_delete = 1,
    tokenize = "unicode61 remove_diacritics 2"
);
