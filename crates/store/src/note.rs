//! Notes: short texts that a user's agents are to remember, each under a name, found by their words.

use std::collections::{BTreeSet, HashMap};

use netra_context::{Right, UserExecutionContext};
use netra_protocol::Timestamp;
use netra_protocol::id::UserId;

use crate::error::Error;
use crate::handle::Writable;
use crate::lookup::Lookup;
use crate::owner::require;
use crate::sql::{self, Connection, OptionalExtension as _, Row};
use crate::transaction::Tx;
use crate::{Store, cursor};

/// The most notes of one user.
pub const MAX_NOTES: u32 = 500;
/// The longest text of a note, and the longest name, in bytes.
const MAX_TEXT_BYTES: usize = 8_000;
const MAX_NAME_BYTES: usize = 400;
/// The most words of a search that are looked for.
const MAX_WORDS: usize = 16;
/// Shorter words are looked for as they are, longer ones as beginnings too.
const MIN_BEGINNING: usize = 3;

const COLUMNS: &str = "name, text, created_at, updated_at";

/// A short text to be remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Stands for this text alone among the user's notes, without regard to case.
    pub name: String,
    /// What is to be remembered.
    pub text: String,
    /// When the name came up.
    pub created_at: Timestamp,
    /// When the text was written.
    pub updated_at: Timestamp,
}

fn note(row: &Row<'_>) -> sql::Result<Note> {
    Ok(Note {
        name: row.get(0)?,
        text: row.get(1)?,
        created_at: Timestamp::from_micros(row.get(2)?),
        updated_at: Timestamp::from_micros(row.get(3)?),
    })
}

fn find(connection: &Connection, user: UserId, name: &str) -> Result<Note, Error> {
    let sql = format!("SELECT {COLUMNS} FROM notes WHERE user_id = ?1 AND name = ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement
        .query_row((user.to_bytes(), name), note)
        .optional()?;
    found.ok_or(Error::NotFound)
}

/// The user as a word of the index.
fn owner_word(user: UserId) -> String {
    cursor::write(&user.to_bytes())
}

fn keep(tx: &Tx<'_>, user: UserId, name: &str, text: &str) -> Result<Note, Error> {
    let now = tx.now().as_micros();
    let ord: i64 = tx
        .prepare(
            "INSERT INTO notes (user_id, name, text, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?4)
             ON CONFLICT (user_id, name) DO UPDATE
             SET name = excluded.name, text = excluded.text, updated_at = excluded.updated_at
             RETURNING ord",
        )?
        .query_row((user.to_bytes(), name, text, now), |row| row.get(0))?;
    if count(tx.connection(), user)? > MAX_NOTES {
        return Err(Error::Conflict(
            "a user has at most 500 notes: forget one first",
        ));
    }
    // PostgreSQL keeps a note's words with the note.
    if let Connection::Sqlite(_) = tx.connection() {
        forget_words(tx, ord)?;
        tx.execute(
            "INSERT INTO note_words (rowid, owner, name, text) VALUES (?1, ?2, ?3, ?4)",
            (ord, owner_word(user), name, text),
        )?;
    }
    find(tx.connection(), user, name)
}

fn forget_words(tx: &Tx<'_>, ord: i64) -> Result<(), Error> {
    if let Connection::Sqlite(_) = tx.connection() {
        tx.execute("DELETE FROM note_words WHERE rowid = ?1", [ord])?;
    }
    Ok(())
}

fn count(connection: &Connection, user: UserId) -> Result<u32, Error> {
    let mut statement =
        connection.prepare_cached("SELECT count(*) FROM notes WHERE user_id = ?1")?;
    Ok(statement.query_row([user.to_bytes()], |row| row.get(0))?)
}

fn newest(connection: &Connection, user: UserId, limit: usize) -> Result<Vec<Note>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM notes WHERE user_id = ?1 ORDER BY updated_at DESC, ord DESC LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map((user.to_bytes(), limit), note)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The words of a search, each once and as the index is asked for it.
fn words(query: &str) -> BTreeSet<String> {
    let words = query
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    words.take(MAX_WORDS).map(str::to_lowercase).collect()
}

/// The user's notes that have this word, or a word that begins with it.
fn with_word(connection: &Connection, user: UserId, word: &str) -> Result<Vec<i64>, Error> {
    let is_beginning = word.chars().count() >= MIN_BEGINNING;
    let ord = |row: &Row<'_>| row.get(0);
    if let Connection::Postgres(_) = connection {
        let sql = "SELECT ord FROM notes WHERE user_id = ?1 AND EXISTS (
                     SELECT 1 FROM unnest(words) word, unnest(netra_words(?2)) asked
                     WHERE word = asked OR (?3 AND starts_with(word, asked)))";
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map((user.to_bytes(), word, is_beginning), ord)?;
        return Ok(rows.collect::<Result<_, _>>()?);
    }
    let asked = format!(
        "owner : \"{}\" AND {{name text}} : \"{word}\"{}",
        owner_word(user),
        if is_beginning { " *" } else { "" }
    );
    let sql = "SELECT w.rowid FROM note_words w JOIN notes n ON n.ord = w.rowid
               WHERE note_words MATCH ?1 AND n.user_id = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((asked, user.to_bytes()), ord)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The notes that have most of the words, rare ones counting more. SQLite's own rank reckons with the words of all
/// users, which would tell one user what others write about.
fn matching(
    connection: &Connection,
    user: UserId,
    query: &str,
    limit: usize,
) -> Result<Vec<Note>, Error> {
    let all = f64::from(count(connection, user)?);
    let mut scores: HashMap<i64, f64> = HashMap::new();
    for word in words(query) {
        let found = with_word(connection, user, &word)?;
        let weight = (1.0 + all / found.len().max(1) as f64).ln();
        for ord in found {
            *scores.entry(ord).or_default() += weight;
        }
    }
    let mut ranked: Vec<(i64, f64)> = scores.into_iter().collect();
    // Of equals the newer one first.
    ranked.sort_by(|(a, x), (b, y)| y.total_cmp(x).then(b.cmp(a)));
    ranked.truncate(limit);
    let sql = format!("SELECT {COLUMNS} FROM notes WHERE ord = ?1 AND user_id = ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut one = |(ord, _)| statement.query_row((ord, user.to_bytes()), note);
    Ok(ranked.into_iter().map(&mut one).collect::<Result<_, _>>()?)
}

impl Store {
    /// Looks a note up by its name.
    pub fn note<'a>(
        &'a self,
        ctx: &'a UserExecutionContext,
        name: String,
    ) -> Lookup<'a, Note, String> {
        Lookup::new(self, ctx, name, Right::Run, |_, connection, user, name| {
            find(connection, user, &name)
        })
    }

    /// Keeps a text under a name, in place of the one that the name stood for.
    ///
    /// # Errors
    /// `Forbidden` without the right to run; `TooLarge`; `Conflict` when the user has too many.
    pub async fn note_keep(
        &self,
        ctx: &UserExecutionContext,
        name: String,
        text: String,
    ) -> Result<Note, Error> {
        let user = require(ctx, Right::Run)?;
        for (given, most) in [(&name, MAX_NAME_BYTES), (&text, MAX_TEXT_BYTES)] {
            if given.len() > most {
                return Err(Error::TooLarge {
                    limit_bytes: most as u64,
                });
            }
        }
        let work = move |tx: &mut Tx<'_>| keep(tx, user, &name, &text);
        self.0.db.of(user).write(work).await
    }

    /// The user's notes that fit a search best, or the newest ones; with how many there are in all.
    ///
    /// # Errors
    /// `Forbidden` without the right to read.
    pub async fn notes(
        &self,
        ctx: &UserExecutionContext,
        query: Option<String>,
        limit: usize,
    ) -> Result<(Vec<Note>, u32), Error> {
        let user = require(ctx, Right::Read)?;
        let read = move |connection: &Connection| {
            let found = match query {
                None => newest(connection, user, limit)?,
                Some(query) => matching(connection, user, &query, limit)?,
            };
            Ok((found, count(connection, user)?))
        };
        self.0.db.of(user).read(read).await
    }

    /// Deletes a note.
    ///
    /// # Errors
    /// `NotFound` where it was deleted meanwhile.
    pub async fn note_delete(
        &self,
        _ctx: &UserExecutionContext,
        handle: Writable<Note>,
    ) -> Result<(), Error> {
        let user = handle.owner();
        let work = move |tx: &mut Tx<'_>| {
            let gone: Option<i64> = tx
                .prepare("DELETE FROM notes WHERE user_id = ?1 AND name = ?2 RETURNING ord")?
                .query_row((user.to_bytes(), &handle.name), |row| row.get(0))
                .optional()?;
            let ord = gone.ok_or(Error::NotFound)?;
            forget_words(tx, ord)
        };
        self.0.db.of(user).write(work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_words_and_nothing_of_it_is_an_operator() {
        let asked = words("Blue\" OR owner:x* NEAR(blue) -- é");
        let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
        assert_eq!(asked, ["blue", "near", "or", "owner", "x", "é"]);
        assert_eq!(words("\"*():^").len(), 0);
        let many: Vec<String> = (0..100).map(|n| format!("w{n}")).collect();
        assert_eq!(words(&many.join(" ")).len(), MAX_WORDS);
    }
}
