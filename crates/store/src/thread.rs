//! Conversations.

use netra_context::{Right, UserExecutionContext};
use netra_protocol::id::{RunId, ThreadId, UserId};
use netra_protocol::thread::{CreateThread, ForkThread, Thread, UpdateThread};
use netra_protocol::{Page, Timestamp};

use crate::error::Error;
use crate::handle::{Readable, Writable};
use crate::idempotency::{Created, Idempotency, once};
use crate::json;
use crate::lookup::Lookup;
use crate::owner::require;
use crate::sql::{self, Connection, OptionalExtension as _, Row};
use crate::transaction::Tx;
use crate::{Store, cursor, retention};

const COLUMNS: &str = "id, title, metadata, created_at, updated_at,
     (SELECT r.id FROM runs r WHERE r.thread_id = threads.id
      AND r.status IN ('queued', 'running', 'waiting')
      ORDER BY r.status = 'queued', r.id LIMIT 1)";

/// What contains `?4`, where there is any.
const MATCHES: &str = "(?4 IS NULL OR title LIKE ?4 ESCAPE '\\' OR EXISTS (
     SELECT 1 FROM messages m, json_each(m.content) part
     WHERE m.thread_id = threads.id AND part.value ->> 'text' LIKE ?4 ESCAPE '\\'))";
const MATCHES_ON_POSTGRES: &str = "(CAST(?4 AS TEXT) IS NULL OR title ILIKE ?4 OR EXISTS (
     SELECT 1 FROM messages m
     WHERE m.thread_id = threads.id AND netra_said(m.content) ILIKE ?4))";

fn thread(row: &Row<'_>) -> sql::Result<(Thread, String)> {
    let thread = Thread {
        id: ThreadId::from_bytes(row.get(0)?),
        title: row.get(1)?,
        metadata: serde_json::Map::new(),
        created_at: Timestamp::from_micros(row.get(3)?),
        updated_at: Timestamp::from_micros(row.get(4)?),
        active_run_id: row.get::<_, Option<[u8; 16]>>(5)?.map(RunId::from_bytes),
        as_of: None,
    };
    Ok((thread, row.get(2)?))
}

fn with_metadata((mut thread, metadata): (Thread, String)) -> Result<Thread, Error> {
    thread.metadata = json::read(&metadata)?;
    Ok(thread)
}

fn find(connection: &Connection, user: UserId, id: ThreadId) -> Result<Thread, Error> {
    let sql = format!("SELECT {COLUMNS} FROM threads WHERE id = ?1 AND user_id = ?2");
    let found = connection
        .prepare_cached(&sql)?
        .query_row((id.to_bytes(), user.to_bytes()), thread)
        .optional()?;
    with_metadata(found.ok_or(Error::NotFound)?)
}

/// A new thread's row; the caller may know the id already.
pub(crate) fn insert(
    tx: &Tx<'_>,
    user: UserId,
    id: ThreadId,
    body: &CreateThread,
) -> Result<Thread, Error> {
    let metadata = body.metadata.clone().unwrap_or_default();
    let title = body.title.clone().unwrap_or_default();
    let now = tx.now();
    tx.put(
        "INSERT INTO threads (id, user_id, title, metadata, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
        (
            id.to_bytes(),
            user.to_bytes(),
            &title,
            serde_json::to_string(&metadata)?,
            now.as_micros(),
        ),
    )?;
    let (created_at, updated_at) = (now, now);
    Ok(Thread {
        id,
        title,
        metadata,
        created_at,
        updated_at,
        active_run_id: None,
        as_of: None,
    })
}

/// Notes that the thread or one of its messages has changed.
///
/// Fails with `NotFound` where the thread was deleted meanwhile, so nothing is added to one that
/// is gone.
pub(crate) fn touch(tx: &Tx<'_>, user: UserId, id: ThreadId) -> Result<(), Error> {
    let sql = "UPDATE threads SET updated_at = ?3 WHERE id = ?1 AND user_id = ?2";
    let changed = tx.execute(sql, (id.to_bytes(), user.to_bytes(), tx.now().as_micros()))?;
    if changed == 0 {
        Err(Error::NotFound)
    } else {
        Ok(())
    }
}

pub(crate) fn has_active_run(connection: &Connection, id: ThreadId) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM runs WHERE thread_id = ?1
               AND status IN ('queued', 'running', 'waiting'))";
    Ok(connection
        .prepare_cached(sql)?
        .query_row([id.to_bytes()], |row| row.get(0))?)
}

fn delete(tx: &Tx<'_>, user: UserId, id: ThreadId) -> Result<(), Error> {
    if has_active_run(tx.connection(), id)? {
        return Err(Error::ThreadBusy);
    }
    let both = (id.to_bytes(), user.to_bytes());
    if tx.execute("DELETE FROM threads WHERE id = ?1 AND user_id = ?2", both)? == 0 {
        return Err(Error::NotFound);
    }
    let span: (Option<u64>, Option<u64>) = tx
        .prepare(
            "SELECT min(log_start), max(log_end) FROM runs WHERE thread_id = ?1 AND user_id = ?2",
        )?
        .query_row(both, |row| Ok((row.get(0)?, row.get(1)?)))?;
    let folded: u64 = tx
        .prepare(
            "SELECT CAST(coalesce(sum(folded), 0) AS BIGINT) FROM runs
             WHERE thread_id = ?1 AND user_id = ?2",
        )?
        .query_row(both, |row| row.get(0))?;
    // By the runs' own spans of the log: a user's whole log may be long, and everybody waits here.
    let sql = tx.connection().either(
        "DELETE FROM events WHERE user_id = ?2 AND rowid IN (
           SELECT e.rowid FROM runs r JOIN events e
             ON e.user_id = ?2 AND e.seq > r.log_start AND e.seq <= r.log_end AND e.run_id = r.id
           WHERE r.thread_id = ?1)",
        "DELETE FROM events e USING runs r
         WHERE r.thread_id = ?1 AND e.user_id = ?2
           AND e.seq > r.log_start AND e.seq <= r.log_end AND e.run_id = r.id",
    );
    let deleted = tx.execute(sql, both)?;
    if let (Some(after_seq), Some(through)) = span {
        let events = deleted as u64 + folded;
        retention::note(tx, user, (after_seq, through), events, "thread")?;
    }
    tx.execute(
        "DELETE FROM journal WHERE run_id IN (SELECT id FROM runs WHERE thread_id = ?1)
         AND user_id = ?2",
        both,
    )?;
    for table in ["messages", "approvals", "runs"] {
        tx.execute(
            &format!("DELETE FROM {table} WHERE thread_id = ?1 AND user_id = ?2"),
            both,
        )?;
    }
    Ok(())
}

impl Store {
    /// Looks a thread up; its state carries the log's position of the snapshot.
    pub fn thread<'a>(
        &'a self,
        ctx: &'a UserExecutionContext,
        id: ThreadId,
    ) -> Lookup<'a, Thread, ThreadId> {
        Lookup::new(self, ctx, id, Right::Run, |store, connection, user, id| {
            let mut thread = find(connection, user, id)?;
            thread.as_of = Some(store.as_of(connection, user)?);
            Ok(thread)
        })
    }

    /// Makes a thread.
    ///
    /// # Errors
    /// `IdempotencyKeyReused`; `Forbidden` without the right to run.
    pub async fn thread_create(
        &self,
        ctx: &UserExecutionContext,
        body: CreateThread,
        idempotency: Option<&Idempotency>,
    ) -> Result<Created<Thread>, Error> {
        let user = require(ctx, Right::Run)?;
        let id = self.0.runtime.new_id(ThreadId::from_parts);
        let key = idempotency.cloned();
        self.0
            .db
            .of(user)
            .write(move |tx| once(tx, user, key.as_ref(), |tx| insert(tx, user, id, &body)))
            .await
    }

    /// The user's threads, the last changed first; with `q`, those whose title or messages
    /// contain it, without regard to the case of ASCII letters.
    ///
    /// # Errors
    /// `InvalidCursor`; `Forbidden` without the right to read.
    pub async fn threads(
        &self,
        ctx: &UserExecutionContext,
        q: Option<&str>,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<Thread>, Error> {
        let user = require(ctx, Right::Read)?;
        let key: [u8; 24] = cursor.map(cursor::read).transpose()?.unwrap_or([0x7f; 24]);
        let pattern = q.filter(|q| !q.is_empty()).map(like_pattern);
        let read = move |connection: &Connection| {
            let (updated_at, id) = split_key(&key);
            let matches = connection.either(MATCHES, MATCHES_ON_POSTGRES);
            let sql = format!(
                "SELECT {COLUMNS} FROM threads
                 WHERE user_id = ?1 AND (updated_at, id) < (?2, ?3) AND {matches}
                 ORDER BY updated_at DESC, threads.id DESC LIMIT ?5"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(
                (user.to_bytes(), updated_at, id, pattern, limit + 1),
                thread,
            )?;
            let mut items = rows
                .map(|row| with_metadata(row?))
                .collect::<Result<Vec<_>, Error>>()?;
            let next_cursor = cursor::next(&mut items, limit, |last| {
                let mut key = last.updated_at.as_micros().to_be_bytes().to_vec();
                key.extend(last.id.to_bytes());
                cursor::write(&key)
            });
            Ok(Page {
                items,
                next_cursor,
                as_of: None,
            })
        };
        self.0.db.of(user).read(read).await
    }

    /// Changes a thread; what the body leaves out stays.
    ///
    /// # Errors
    /// `NotFound` where it was deleted meanwhile.
    pub async fn thread_update(
        &self,
        _ctx: &UserExecutionContext,
        handle: &Writable<Thread>,
        body: UpdateThread,
    ) -> Result<Thread, Error> {
        let (user, id) = (handle.owner(), handle.id);
        let work = move |tx: &mut Tx<'_>| {
            let metadata = body
                .metadata
                .as_ref()
                .map(serde_json::to_string)
                .transpose()?;
            let changed = tx.execute(
                "UPDATE threads SET title = coalesce(?3, title),
                 metadata = coalesce(?4, metadata), updated_at = ?5
                 WHERE id = ?1 AND user_id = ?2",
                (
                    id.to_bytes(),
                    user.to_bytes(),
                    &body.title,
                    metadata,
                    tx.now().as_micros(),
                ),
            )?;
            if changed == 0 {
                Err(Error::NotFound)
            } else {
                find(tx.connection(), user, id)
            }
        };
        self.0.db.of(user).write(work).await
    }

    /// Deletes a thread with its messages, runs and events. Files stay.
    ///
    /// # Errors
    /// `ThreadBusy` while a run is active on it.
    pub async fn thread_delete(
        &self,
        _ctx: &UserExecutionContext,
        handle: Writable<Thread>,
    ) -> Result<(), Error> {
        let (user, id) = (handle.owner(), handle.id);
        self.0
            .db
            .of(user)
            .write(move |tx| delete(tx, user, id))
            .await
    }

    /// Makes a new thread of an old one's complete messages.
    ///
    /// # Errors
    /// `NotFound` where `after_message_id` is not in the thread; `IdempotencyKeyReused`.
    pub async fn thread_fork(
        &self,
        ctx: &UserExecutionContext,
        source: &Readable<Thread>,
        body: ForkThread,
        idempotency: Option<&Idempotency>,
    ) -> Result<Created<Thread>, Error> {
        let user = require(ctx, Right::Run)?;
        let id = self.0.runtime.new_id(ThreadId::from_parts);
        let runtime = self.0.runtime.clone();
        let key = idempotency.cloned();
        let source_id = source.id;
        let new = CreateThread {
            title: Some(source.title.clone()),
            metadata: Some(source.metadata.clone()),
        };
        let fork = move |tx: &mut Tx<'_>| {
            find(tx.connection(), user, source_id)?;
            let thread = insert(tx, user, id, &new)?;
            crate::message::copy(tx, &runtime, (user, source_id, id), body.after_message_id)?;
            Ok(thread)
        };
        self.0
            .db
            .of(user)
            .write(move |tx| once(tx, user, key.as_ref(), fork))
            .await
    }
}

fn split_key(key: &[u8; 24]) -> (i64, [u8; 16]) {
    let mut updated_at = [0; 8];
    let mut id = [0; 16];
    updated_at.copy_from_slice(&key[..8]);
    id.copy_from_slice(&key[8..]);
    (i64::from_be_bytes(updated_at), id)
}

fn like_pattern(q: &str) -> String {
    let escaped = q
        .replace('\\', "\\\\")
        .replace('%', "\\%")
        .replace('_', "\\_");
    format!("%{escaped}%")
}
