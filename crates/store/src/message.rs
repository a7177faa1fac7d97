//! Messages of a thread.

use netra_context::{Right, Runtime, UserExecutionContext};
use netra_protocol::id::{MessageId, RunId, ThreadId, UserId};
use netra_protocol::message::{Message, MessageRole};
use netra_protocol::thread::Thread;
use netra_protocol::{Page, Timestamp};

use crate::error::Error;
use crate::handle::Readable;
use crate::json;
use crate::owner::require;
use crate::sql::{Connection, OptionalExtension as _, Row};
use crate::transaction::Tx;
use crate::{Store, cursor};

const COLUMNS: &str = "ord, id, thread_id, run_id, role, agent, content, complete, created_at";

struct Found {
    ord: i64,
    message: Message,
}

fn message(row: &Row<'_>) -> Result<Found, Error> {
    let role = match row.get_ref(4)?.as_str() {
        Ok("user") => MessageRole::User,
        Ok("assistant") => MessageRole::Assistant,
        Ok("tool") => MessageRole::Tool,
        _ => return Err(Error::corrupt("message's role")),
    };
    Ok(Found {
        ord: row.get(0)?,
        message: Message {
            id: MessageId::from_bytes(row.get(1)?),
            thread_id: ThreadId::from_bytes(row.get(2)?),
            run_id: row.get::<_, Option<[u8; 16]>>(3)?.map(RunId::from_bytes),
            role,
            agent: row.get(5)?,
            content: json::read(
                row.get_ref(6)?
                    .as_str()
                    .map_err(|_| Error::corrupt("message"))?,
            )?,
            complete: row.get(7)?,
            created_at: Timestamp::from_micros(row.get(8)?),
        },
    })
}

const fn role_name(role: MessageRole) -> &'static str {
    match role {
        MessageRole::User => "user",
        MessageRole::Assistant => "assistant",
        MessageRole::Tool => "tool",
    }
}

/// Writes a message, or its later state under the same id.
pub(crate) fn put(tx: &Tx<'_>, user: UserId, message: &Message) -> Result<(), Error> {
    tx.put(
        "INSERT INTO messages
         (id, user_id, thread_id, run_id, role, agent, content, complete, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (id) DO UPDATE SET content = excluded.content, complete = excluded.complete
         WHERE messages.user_id = excluded.user_id",
        (
            message.id.to_bytes(),
            user.to_bytes(),
            message.thread_id.to_bytes(),
            message.run_id.map(RunId::to_bytes),
            role_name(message.role),
            &message.agent,
            serde_json::to_string(&message.content)?,
            message.complete,
            message.created_at.as_micros(),
        ),
    )?;
    Ok(())
}

fn page(
    connection: &Connection,
    thread: ThreadId,
    after: i64,
    limit: u32,
) -> Result<Vec<Found>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM messages WHERE thread_id = ?1 AND ord > ?2 ORDER BY ord LIMIT ?3"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query((thread.to_bytes(), after, limit))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(message(&row)?);
    }
    Ok(found)
}

/// Where a message stands in its thread.
fn place(connection: &Connection, thread: ThreadId, id: MessageId) -> Result<Option<i64>, Error> {
    Ok(connection
        .prepare_cached("SELECT ord FROM messages WHERE id = ?1 AND thread_id = ?2")?
        .query_row((id.to_bytes(), thread.to_bytes()), |row| row.get(0))
        .optional()?)
}

/// Copies complete messages, up to and with `last`, under new ids and without their runs.
pub(crate) fn copy(
    tx: &Tx<'_>,
    runtime: &Runtime,
    (user, from, to): (UserId, ThreadId, ThreadId),
    last: Option<MessageId>,
) -> Result<(), Error> {
    let through: i64 = match last {
        None => i64::MAX,
        Some(last) => place(tx.connection(), from, last)?.ok_or(Error::NotFound)?,
    };
    for found in page(tx.connection(), from, 0, u32::MAX)? {
        if found.ord <= through && found.message.complete {
            let id = runtime.new_id(MessageId::from_parts);
            put(
                tx,
                user,
                &Message {
                    id,
                    thread_id: to,
                    run_id: None,
                    ..found.message
                },
            )?;
        }
    }
    Ok(())
}

impl Store {
    /// The thread's messages, oldest first. The first page carries the log's position.
    ///
    /// # Errors
    /// `InvalidCursor`; `Forbidden` without the right to read.
    pub async fn messages(
        &self,
        ctx: &UserExecutionContext,
        thread: &Readable<Thread>,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<Message>, Error> {
        let user = require(ctx, Right::Read)?;
        let after = cursor
            .map(cursor::read)
            .transpose()?
            .map(MessageId::from_bytes);
        let (id, store) = (thread.id, self.clone());
        let read = move |connection: &Connection| {
            let from = match after {
                None => 0,
                Some(last) => place(connection, id, last)?.ok_or(Error::InvalidCursor)?,
            };
            let mut found = page(connection, id, from, limit.saturating_add(1))?;
            // The id, not the place: that is counted over all users.
            let next_cursor = cursor::next(&mut found, limit, |last| {
                cursor::write(&last.message.id.to_bytes())
            });
            let as_of = match after {
                None => Some(store.as_of(connection, user)?),
                Some(_) => None,
            };
            let mut items: Vec<_> = found.into_iter().map(|found| found.message).collect();
            crate::commit::fill_unfinished(connection, user, &mut items)?;
            Ok(Page {
                items,
                next_cursor,
                as_of,
            })
        };
        self.0.db.of(user).read(read).await
    }
}
