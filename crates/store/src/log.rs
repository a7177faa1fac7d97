//! The log: a user's events, numbered from 1 in commit order.
//!
//! An event's JSON is made once, by whoever commits it; its number is put in front when the log
//! has given it one, and a socket puts its own `prev` in front of that.

use std::borrow::Cow;
use std::sync::Arc;

use netra_context::{Right, UserExecutionContext, memory};
use netra_protocol::event::MAX_EVENT_BYTES;
use netra_protocol::id::{RunId, ThreadId, UserId};
use netra_protocol::{AsOf, Event};

use crate::Store;
use crate::error::Error;
use crate::json;
use crate::owner::require;
use crate::sql::{Connection, OptionalExtension as _};

/// Takes what has been committed, in commit order, on the store's writer thread, before the
/// committing call returns. It must neither block nor fail.
pub trait Fanout: Send + Sync {
    /// These entries are durable. Comes after each commit, also after one without entries.
    fn committed(&self, entries: &[Arc<Entry>]);

    /// Another node has committed events of this user, up to this number at least: they are in the log. Comes again now
    /// and then, and later than it could.
    fn elsewhere(&self, _user: UserId, _through: u64) {}

    /// Another node has committed these events of one user: they are in the log, in this order, and it has others before
    /// them. They may come again, and after later ones.
    fn heard(&self, entries: &[Arc<Entry>]) {
        if let Some(last) = entries.last() {
            self.elsewhere(last.user_id, last.seq);
        }
    }

    /// Whether somebody here wants this user's events.
    fn listens(&self, _user: UserId) -> bool {
        true
    }

    /// What other nodes have committed may have gone unheard, of any user.
    fn lost_track(&self) {}
}

/// The `type` of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventName(Cow<'static, str>);

impl EventName {
    /// As on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the last event of its run.
    pub fn is_terminal(&self) -> bool {
        matches!(
            &*self.0,
            "run_completed" | "run_failed" | "run_cancelled" | "run_timed_out"
        )
    }

    /// Whether it is a piece of a message.
    pub fn is_delta(&self) -> bool {
        self.0 == "message_delta"
    }
}

/// An event as the log holds it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Whose log.
    pub user_id: UserId,
    /// Its number there.
    pub seq: u64,
    /// Its conversation.
    pub thread_id: ThreadId,
    /// Its run.
    pub run_id: RunId,
    /// Its type.
    pub kind: EventName,
    body: Box<str>,
}

impl Entry {
    /// As another node has committed it.
    pub(crate) fn heard(
        user_id: UserId,
        seq: u64,
        (thread_id, run_id): (ThreadId, RunId),
        kind: String,
        body: String,
    ) -> Self {
        Self {
            user_id,
            seq,
            thread_id,
            run_id,
            kind: EventName(Cow::Owned(kind)),
            body: body.into_boxed_str(),
        }
    }

    /// The event as a subscription sends it: `{"prev":…,"seq":…, …}`.
    pub fn frame(&self, prev: u64) -> String {
        format!("{{\"prev\":{prev},\"seq\":{},{}", self.seq, &self.body[1..])
    }

    /// The event with its number, without `prev`.
    pub fn json(&self) -> String {
        format!("{{\"seq\":{},{}", self.seq, &self.body[1..])
    }

    /// The event itself.
    ///
    /// # Errors
    /// `Bug` when the stored JSON is not an event of this version.
    pub fn event(&self) -> Result<Event, Error> {
        json::read(&self.body)
    }

    /// Size of its JSON in bytes, for the bounds of queues.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    pub(crate) fn body(&self) -> &str {
        &self.body
    }
}

/// An event whose JSON is made and whose number is not yet given.
pub(crate) struct Encoded {
    thread_id: ThreadId,
    run_id: RunId,
    kind: EventName,
    body: Box<str>,
}

impl Encoded {
    /// Makes the JSON, in the caller's own task.
    pub(crate) fn new(event: &Event) -> Result<Self, Error> {
        let body = serde_json::to_string(event)?.into_boxed_str();
        if body.len() > MAX_EVENT_BYTES {
            return Err(Error::TooLarge {
                limit_bytes: MAX_EVENT_BYTES as u64,
            });
        }
        Ok(Self {
            thread_id: event.thread_id,
            run_id: event.run_id,
            kind: EventName(Cow::Borrowed(event.kind.name())),
            body,
        })
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.kind.is_terminal()
    }

    pub(crate) fn numbered(self, user_id: UserId, seq: u64) -> Entry {
        let Self {
            thread_id,
            run_id,
            kind,
            body,
        } = self;
        Entry {
            user_id,
            seq,
            thread_id,
            run_id,
            kind,
            body,
        }
    }
}

/// Where a user's log begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBounds {
    /// The first number that the log still answers for.
    pub oldest_seq: u64,
    /// The last event's number; 0 for an empty log.
    pub latest_seq: u64,
}

pub(crate) fn latest_seq(connection: &Connection, user: UserId) -> Result<u64, Error> {
    Ok(bounds(connection, user)?.latest_seq)
}

fn bounds(connection: &Connection, user: UserId) -> Result<LogBounds, Error> {
    let found = connection
        .prepare_cached("SELECT oldest_seq, seq FROM logs WHERE user_id = ?1")?
        .query_row([user.to_bytes()], |row| {
            Ok(LogBounds {
                oldest_seq: row.get(0)?,
                latest_seq: row.get(1)?,
            })
        })
        .optional()?;
    Ok(found.unwrap_or(LogBounds {
        oldest_seq: 1,
        latest_seq: 0,
    }))
}

const SELECT: &str = "SELECT seq, thread_id, run_id, type, body FROM events
     WHERE user_id = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq LIMIT ?4";

pub(crate) fn entries(
    connection: &Connection,
    user_id: UserId,
    (after, through): (u64, u64),
    limit: usize,
    bytes: usize,
) -> Result<Vec<Arc<Entry>>, Error> {
    let mut statement = connection.prepare_cached(SELECT)?;
    let through = i64::try_from(through).unwrap_or(i64::MAX);
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let rows = statement.query_map((user_id.to_bytes(), after, through, limit), |row| {
        Ok(Arc::new(Entry {
            user_id,
            seq: row.get(0)?,
            thread_id: ThreadId::from_bytes(row.get(1)?),
            run_id: RunId::from_bytes(row.get(2)?),
            kind: EventName(Cow::Owned(row.get(3)?)),
            body: row.get::<_, String>(4)?.into_boxed_str(),
        }))
    })?;
    let (mut found, mut held) = (Vec::new(), 0);
    for entry in rows {
        let entry: Arc<Entry> = entry?;
        held += entry.bytes();
        found.push(entry);
        if held >= bytes {
            break;
        }
    }
    Ok(found)
}

impl Store {
    /// Names the log; another one after a restore from a backup.
    pub fn epoch(&self) -> &str {
        &self.0.epoch
    }

    /// Where the user's log begins and ends now.
    ///
    /// # Errors
    /// `Forbidden` without the right to read; `Unavailable`.
    pub async fn log_bounds(&self, ctx: &UserExecutionContext) -> Result<LogBounds, Error> {
        let user = require(ctx, Right::Read)?;
        self.0
            .db
            .of(user)
            .read(move |connection| bounds(connection, user))
            .await
    }

    /// The number of the user's last event; 0 for an empty log.
    ///
    /// # Errors
    /// As [`Store::log_bounds`].
    pub async fn latest_seq(&self, ctx: &UserExecutionContext) -> Result<u64, Error> {
        Ok(self.log_bounds(ctx).await?.latest_seq)
    }

    /// The user's events after this number, in order, at most `limit`.
    ///
    /// # Errors
    /// As [`Store::log_bounds`].
    pub async fn events(
        &self,
        ctx: &UserExecutionContext,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Entry>>, Error> {
        let user = require(ctx, Right::Read)?;
        self.0
            .db
            .of(user)
            .read(move |c| entries(c, user, (after, u64::MAX), limit, usize::MAX))
            .await
    }

    /// The same, and no more than what is beyond `bytes` of JSON by its last event.
    ///
    /// # Errors
    /// As [`Store::log_bounds`]; `Memory` where the user has no room for them.
    pub async fn events_within(
        &self,
        ctx: &UserExecutionContext,
        after: u64,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Arc<Entry>>, Error> {
        let user = require(ctx, Right::Read)?;
        let _room = memory::reserve(bytes)?;
        let span = (after, u64::MAX);
        let read = move |c: &Connection| entries(c, user, span, limit, bytes);
        self.0.db.of(user).read(read).await
    }

    /// The events of one run so far, in order, deltas left out.
    ///
    /// # Errors
    /// As [`Store::log_bounds`].
    pub async fn run_events(
        &self,
        ctx: &UserExecutionContext,
        run: &crate::Readable<netra_protocol::run::Run>,
    ) -> Result<Vec<Event>, Error> {
        let user = require(ctx, Right::Read)?;
        let run_id = run.id;
        let span = self.run_span(ctx, run).await?;
        let through = span.terminal_seq.unwrap_or(u64::MAX);
        let found = self
            .0
            .db
            .of(user)
            .read(move |c| {
                let span = (span.after_seq, through);
                entries(c, user, span, usize::MAX >> 1, usize::MAX)
            })
            .await?;
        let wanted = found
            .iter()
            .filter(|entry| entry.run_id == run_id && !entry.kind.is_delta());
        wanted.map(|entry| entry.event()).collect()
    }

    pub(crate) fn as_of(&self, connection: &Connection, user: UserId) -> Result<AsOf, Error> {
        Ok(AsOf {
            epoch: self.0.epoch.clone(),
            seq: latest_seq(connection, user)?,
        })
    }
}
