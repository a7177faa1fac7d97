//! Runs: how they are made, looked up and changed.

use netra_context::{Right, Rights, Trace, UserExecutionContext};
use netra_protocol::event::{EventKind, QueueReason};
use netra_protocol::file::File;
use netra_protocol::id::{EventId, FileId, MessageId, RequestId, RunId, ThreadId, UserId};
use netra_protocol::message::{Content, Message, MessageRole};
use netra_protocol::run::{OnBusy, OnLimit, Run, RunStatus};
use netra_protocol::thread::{CreateThread, Thread};
use netra_protocol::usage::RunUsage;
use netra_protocol::{Event, Page, Timestamp};

use crate::commit::{Hold, RunUpdate};
use crate::error::Error;
use crate::handle::{Readable, Writable};
use crate::idempotency::{Created, Idempotency, once};
use crate::json;
use crate::listing::Listing;
use crate::log::Encoded;
use crate::lookup::Lookup;
use crate::node::NodeId;
use crate::owner::require;
use crate::slots;
use crate::sql::{self, Connection, OptionalExtension as _, Row};
use crate::transaction::Tx;
use crate::{Store, file, message, run_trace, thread};

/// The fence of a run that its maker holds.
const FIRST_FENCE: u64 = 1;

const COLUMNS: &str = "id, thread_id, agent, status, attempt, created_at, started_at, ended_at,
     deadline, result, error, usage, metadata,
     CASE status WHEN 'queued' THEN
       (SELECT count(*) FROM runs q WHERE q.user_id = runs.user_id AND q.status = 'queued'
        AND (q.started_at IS NULL, q.id) <= (runs.started_at IS NULL, runs.id)) END";

/// Where a new run belongs.
#[derive(Debug, Clone)]
pub enum Target {
    /// A new thread with this title.
    New {
        /// Its id: admission has seen it already.
        id: ThreadId,
        /// For people.
        title: String,
    },
    /// A thread that the user may change.
    Thread(Writable<Thread>),
}

/// What admission asks of the other nodes, where there are any: what this node does not see may be in the way.
#[derive(Debug, Clone)]
pub struct OverNodes {
    /// The user's limit of concurrent runs.
    pub allowed: u32,
    /// The user's limit of queued runs.
    pub queue: u32,
    /// What to do where all slots are in use.
    pub on_limit: OnLimit,
    /// What to do where the thread is in use.
    pub on_busy: OnBusy,
    /// The id of the event that says its place over all nodes where the run has to wait.
    pub queued_id: EventId,
}

/// A run to be made.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Its id: admission has seen it already.
    pub id: RunId,
    /// The agent's name.
    pub agent: String,
    /// The hash of the agent's files: a later attempt uses the same version.
    pub agent_hash: String,
    /// As the user gave it.
    pub input: serde_json::Value,
    /// Files of the user.
    pub files: Vec<File>,
    /// What the client keeps with it.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Queued and running time, in milliseconds.
    pub timeout_ms: u64,
    /// When it ends by itself.
    pub deadline: Timestamp,
    /// The message that the input makes in the thread.
    pub input_message_id: MessageId,
    /// Whether it has a slot and begins at once; otherwise it is queued.
    pub started: bool,
    /// Its first events, in the same transaction.
    pub events: Vec<Event>,
    /// What holds over all nodes; none where nothing is asked.
    pub over_nodes: Option<OverNodes>,
}

impl NewRun {
    /// What its node has no room for; none where it begins at once.
    fn waits_for(&self) -> Option<QueueReason> {
        self.events.iter().find_map(|event| match event.kind {
            EventKind::RunQueued { reason, .. } => Some(reason),
            _ => None,
        })
    }
}

/// What an engine needs to know of a run.
#[derive(Debug, Clone)]
pub struct RunInput {
    /// The agent's name.
    pub agent: String,
    /// The hash of the agent's files when the run was made.
    pub agent_hash: String,
    /// As the user gave it.
    pub input: serde_json::Value,
    /// Those of its files that still exist.
    pub files: Vec<File>,
    /// How many of its files were deleted since.
    pub missing_files: usize,
    /// Queued and running time, in milliseconds.
    pub timeout_ms: u64,
    /// The message that asked.
    pub input_message_id: MessageId,
    /// The request that started it.
    pub request_id: RequestId,
    /// What that request's credentials allowed.
    pub rights: Rights,
    /// When its last engine let it go; none after a crash, and before its first engine.
    pub released_at: Option<Timestamp>,
}

/// Where a run's events stand in its user's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunSpan {
    /// All its events have larger numbers.
    pub after_seq: u64,
    /// The number of its last event, when it has ended.
    pub terminal_seq: Option<u64>,
}

fn json<T: serde::de::DeserializeOwned>(text: Option<String>) -> Result<Option<T>, Error> {
    text.map(|text| json::read(&text)).transpose()
}

fn time(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>, Error> {
    Ok(row
        .get::<_, Option<i64>>(column)?
        .map(Timestamp::from_micros))
}

fn run(row: &Row<'_>) -> Result<Run, Error> {
    let status: String = row.get(3)?;
    Ok(Run {
        id: RunId::from_bytes(row.get(0)?),
        run_id: None,
        thread_id: ThreadId::from_bytes(row.get(1)?),
        agent: row.get(2)?,
        status: status.parse().map_err(|_| Error::corrupt("run's status"))?,
        attempt: row.get(4)?,
        queue_position: row.get(13)?,
        created_at: Timestamp::from_micros(row.get(5)?),
        started_at: time(row, 6)?,
        ended_at: time(row, 7)?,
        deadline: time(row, 8)?,
        result: json(row.get(9)?)?,
        error: json(row.get(10)?)?,
        usage: json(row.get(11)?)?.unwrap_or_default(),
        metadata: json(row.get(12)?)?.unwrap_or_default(),
        as_of: None,
    })
}

pub(crate) fn find(connection: &Connection, user: UserId, id: RunId) -> Result<Run, Error> {
    Ok(find_fenced(connection, user, id)?.0)
}

/// The same with its fence.
fn find_fenced(connection: &Connection, user: UserId, id: RunId) -> Result<(Run, u64), Error> {
    let sql = format!("SELECT {COLUMNS}, fence FROM runs WHERE id = ?1 AND user_id = ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query((id.to_bytes(), user.to_bytes()))?;
    let row = rows.next()?.ok_or(Error::NotFound)?;
    Ok((run(&row)?, row.get(14)?))
}

/// A run ends exactly once, and one node at a time holds it: everything that changes one asks this first. Gives its
/// status now.
pub(crate) fn refuse_ended(tx: &Tx<'_>, handle: &Writable<Run>) -> Result<RunStatus, Error> {
    let found: Option<(String, u64)> = tx
        .prepare("SELECT status, fence FROM runs WHERE id = ?1 AND user_id = ?2")?
        .query_row((handle.id.to_bytes(), handle.owner().to_bytes()), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let (status, fence) = found.ok_or(Error::NotFound)?;
    let status: RunStatus = status.parse().map_err(|_| Error::corrupt("run's status"))?;
    if status.is_terminal() {
        Err(Error::RunEnded)
    } else if fence != handle.fence() {
        Err(Error::Fenced)
    } else {
        Ok(status)
    }
}

/// A run changes as the table of transitions says, and in no other way.
pub(crate) fn refuse_transition(now: RunStatus, update: Option<&RunUpdate>) -> Result<(), Error> {
    match update.and_then(|update| update.status) {
        Some(next) if !now.may_become(next) => Err(Error::Bug(format!(
            "a run cannot become {} while it is {}",
            next.as_str(),
            now.as_str()
        ))),
        _ => Ok(()),
    }
}

/// A new status and nothing else.
pub(crate) fn set_status(
    tx: &Tx<'_>,
    handle: &Writable<Run>,
    status: RunStatus,
) -> Result<(), Error> {
    update(tx, handle, &RunUpdate::to(status), None)
}

pub(crate) fn update(
    tx: &Tx<'_>,
    handle: &Writable<Run>,
    update: &RunUpdate,
    terminal_seq: Option<u64>,
) -> Result<(), Error> {
    let text = |value: Option<serde_json::Result<String>>| value.transpose().map_err(Error::from);
    let status = update.status;
    // Whoever waits for the slot or the thread, and whoever could go on with the run, may be elsewhere.
    if status.is_some_and(|status| status != RunStatus::Running)
        || update.hold == Some(Hold::Released)
    {
        tx.ring();
    }
    let ended_at = status
        .filter(|status| status.is_terminal())
        .map(|_| tx.now().as_micros());
    tx.put(
        "UPDATE runs SET status = coalesce(?3, status), started_at = coalesce(?4, started_at),
         ended_at = coalesce(?5, ended_at), deadline = coalesce(?6, deadline),
         result = coalesce(?7, result), error = coalesce(?8, error),
         usage = coalesce(?9, usage), log_end = coalesce(?10, log_end),
         attempt = coalesce(?11, attempt),
         released_at = CASE ?12 WHEN 'taken' THEN NULL WHEN 'released' THEN ?13 WHEN 'waits' THEN ?13
                       ELSE released_at END,
         node = CASE ?12 WHEN 'released' THEN NULL ELSE node END
         WHERE id = ?1 AND user_id = ?2",
        sql::params![
            handle.id.to_bytes(),
            handle.owner().to_bytes(),
            status.map(RunStatus::as_str),
            update.started_at.map(Timestamp::as_micros),
            ended_at,
            update.deadline.map(Timestamp::as_micros),
            text(update.result.as_ref().map(serde_json::to_string))?,
            text(update.error.as_ref().map(serde_json::to_string))?,
            text(update.usage.as_ref().map(serde_json::to_string))?,
            terminal_seq,
            update.attempt,
            update.hold.map(|hold| match hold {
                Hold::Taken => "taken",
                // Its engine has ended, and its node keeps its place until a person has answered.
                Hold::Released if status == Some(RunStatus::Waiting) => "waits",
                Hold::Released => "released",
            }),
            tx.now().as_micros(),
        ],
    )?;
    Ok(())
}

/// The message that a run's input makes in its thread.
fn input_message(new: &NewRun, thread_id: ThreadId, created_at: Timestamp) -> Message {
    let text = match &new.input {
        serde_json::Value::String(text) => text.clone(),
        object => match object.get("text").and_then(serde_json::Value::as_str) {
            Some(text) if object.as_object().is_some_and(|o| o.len() == 1) => text.to_owned(),
            _ => object.to_string(),
        },
    };
    let files = new.files.iter().map(|file| Content::File {
        file_id: file.id,
        name: file.name.clone(),
        media_type: file.media_type.clone(),
        bytes: file.bytes,
    });
    Message {
        id: new.input_message_id,
        thread_id,
        run_id: Some(new.id),
        role: MessageRole::User,
        agent: None,
        content: std::iter::once(Content::Text { text })
            .chain(files)
            .collect(),
        complete: true,
        created_at,
    }
}

fn first_event(
    tx: &Tx<'_>,
    new: &NewRun,
    (thread_id, event_id): (ThreadId, EventId),
    kind: EventKind,
) -> Event {
    Event {
        event_id,
        ts: tx.now(),
        thread_id,
        run_id: new.id,
        agent: None,
        step: None,
        kind,
    }
}

struct Creation {
    user: UserId,
    rights: Rights,
    request_id: RequestId,
    trace: Option<Trace>,
    target: Target,
    thread_id: ThreadId,
    events: Vec<Encoded>,
    node: Option<NodeId>,
    new: NewRun,
}

fn create(tx: &mut Tx<'_>, creation: Creation) -> Result<Run, Error> {
    let Creation {
        user,
        rights,
        request_id,
        trace,
        target,
        thread_id,
        events,
        node,
        new,
    } = creation;
    let (mut started, mut events) = (new.started, events);
    if let (Some(node), Some(wish)) = (node, &new.over_nodes) {
        let admitted = slots::admit(tx, user, (new.id, thread_id), node, wish)?;
        // Its place is that among all that wait, also where it is the node itself that has no room for it.
        if let Some(reason) = admitted.waits_for.or_else(|| new.waits_for()) {
            started = false;
            let queued = EventKind::RunQueued {
                queue_position: admitted.position,
                reason,
            };
            events = vec![Encoded::new(&first_event(
                tx,
                &new,
                (thread_id, wish.queued_id),
                queued,
            ))?];
        }
    }
    match target {
        Target::New { title, .. } => {
            let body = CreateThread {
                title: Some(title),
                metadata: None,
            };
            thread::insert(tx, user, thread_id, &body)?;
        }
        Target::Thread(_) => thread::touch(tx, user, thread_id)?,
    }
    let files: Vec<FileId> = new.files.iter().map(|file| file.id).collect();
    let status = if started {
        RunStatus::Running
    } else {
        RunStatus::Queued
    };
    tx.put(
        "INSERT INTO runs (id, user_id, thread_id, agent, agent_hash, status, attempt, input,
         files, metadata, timeout_ms, input_message_id, request_id, created_at, deadline, usage,
         log_start, started_at, rights, node, fence)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17,
                 ?18, ?19, ?20)",
        sql::params![
            new.id.to_bytes(),
            user.to_bytes(),
            thread_id.to_bytes(),
            new.agent,
            new.agent_hash,
            status.as_str(),
            serde_json::to_string(&new.input)?,
            serde_json::to_string(&files)?,
            serde_json::to_string(&new.metadata)?,
            new.timeout_ms,
            new.input_message_id.to_bytes(),
            request_id.to_bytes(),
            tx.now().as_micros(),
            new.deadline.as_micros(),
            serde_json::to_string(&RunUsage::default())?,
            tx.latest_seq(user)?,
            started.then(|| tx.now().as_micros()),
            rights.bits(),
            node.map(NodeId::to_bytes),
            FIRST_FENCE,
        ],
    )?;
    message::put(tx, user, &input_message(&new, thread_id, tx.now()))?;
    if let Some(trace) = trace {
        run_trace::keep(tx, user, new.id, trace)?;
    }
    tx.append(user, events)?;
    find(tx.connection(), user, new.id)
}

impl Store {
    /// Looks a run up; its state carries the log's position of the snapshot.
    pub fn run<'a>(&'a self, ctx: &'a UserExecutionContext, id: RunId) -> Lookup<'a, Run, RunId> {
        Lookup::fenced(self, ctx, id, Right::Run, |store, connection, user, id| {
            let (mut run, fence) = find_fenced(connection, user, id)?;
            run.as_of = Some(store.as_of(connection, user)?);
            Ok((run, fence))
        })
    }

    /// Makes a run with its thread, where that is new, its input message, and its first events. Its place in a trace is
    /// that of the context.
    ///
    /// # Errors
    /// `IdempotencyKeyReused`; `Forbidden` without the right to run; where several nodes share the database,
    /// `SlotsExhausted`, `QueueFull` and `ThreadBusy`, as admission refuses what it sees itself.
    pub async fn run_create(
        &self,
        ctx: &UserExecutionContext,
        target: Target,
        new: NewRun,
        idempotency: Option<&Idempotency>,
    ) -> Result<Created<Writable<Run>>, Error> {
        let user = require(ctx, Right::Run)?;
        let thread_id = match &target {
            Target::New { id, .. } => *id,
            Target::Thread(handle) if handle.owner() == user => handle.id,
            Target::Thread(_) => return Err(Error::NotFound),
        };
        let creation = Creation {
            user,
            rights: ctx.rights(),
            request_id: ctx.request_id(),
            trace: ctx.trace().filter(Trace::is_sampled),
            target,
            thread_id,
            events: new
                .events
                .iter()
                .map(Encoded::new)
                .collect::<Result<_, _>>()?,
            node: self.node(),
            new,
        };
        let key = idempotency.cloned();
        let work = move |tx: &mut Tx<'_>| once(tx, user, key.as_ref(), |tx| create(tx, creation));
        let created = self.0.db.of(user).write(work).await?;
        let value = Writable::fenced(user, created.value, FIRST_FENCE);
        Ok(Created {
            value,
            replayed: created.replayed,
        })
    }

    /// The user's runs, newest first.
    ///
    /// # Errors
    /// `InvalidCursor`; `Forbidden` without the right to read.
    pub async fn runs(
        &self,
        ctx: &UserExecutionContext,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<Run>, Error> {
        let listing = Listing {
            table: "runs",
            columns: COLUMNS,
            read: run,
            id: |one: &Run| one.id.to_bytes(),
        };
        listing.newest(self, ctx, limit, cursor).await
    }

    /// The newest completed run of an agent in the thread of this run, of those made before it.
    ///
    /// # Errors
    /// `Forbidden` without the right to read.
    pub async fn run_before(
        &self,
        ctx: &UserExecutionContext,
        of: &Writable<Run>,
        agent: &str,
    ) -> Result<Option<Run>, Error> {
        let user = require(ctx, Right::Read)?;
        if of.owner() != user {
            return Err(Error::NotFound);
        }
        let (thread, id, agent) = (of.thread_id.to_bytes(), of.id.to_bytes(), agent.to_owned());
        let read = move |connection: &Connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM runs
                 WHERE thread_id = ?1 AND id < ?2 AND user_id = ?3 AND agent = ?4 AND status = ?5
                 ORDER BY id DESC LIMIT 1"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let completed = RunStatus::Completed.as_str();
            let mut rows = statement.query((thread, id, user.to_bytes(), agent, completed))?;
            rows.next()?.map(|row| run(&row)).transpose()
        };
        self.0.db.of(user).read(read).await
    }

    /// What an engine needs to know of a run.
    ///
    /// # Errors
    /// `NotFound` where the run was deleted meanwhile.
    pub async fn run_input(
        &self,
        ctx: &UserExecutionContext,
        handle: &Readable<Run>,
    ) -> Result<RunInput, Error> {
        let user = require(ctx, Right::Read)?;
        let id = handle.id;
        let read = move |connection: &Connection| {
            let sql = "SELECT agent, agent_hash, input, files, timeout_ms, input_message_id,
                       request_id, rights, released_at FROM runs
                       WHERE id = ?1 AND user_id = ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query((id.to_bytes(), user.to_bytes()))?;
            let row = rows.next()?.ok_or(Error::NotFound)?;
            let ids: Vec<FileId> = json(row.get(3)?)?.unwrap_or_default();
            let asked = ids.len();
            let files = ids
                .into_iter()
                .map(|file_id| file::find(connection, user, file_id))
                .filter(|file| !matches!(file, Err(Error::NotFound)))
                .collect::<Result<Vec<_>, _>>()?;
            Ok(RunInput {
                agent: row.get(0)?,
                agent_hash: row.get(1)?,
                input: json(row.get(2)?)?.unwrap_or_default(),
                missing_files: asked - files.len(),
                files,
                timeout_ms: row.get(4)?,
                input_message_id: MessageId::from_bytes(row.get(5)?),
                request_id: RequestId::from_bytes(row.get(6)?),
                rights: Rights::from_bits(row.get(7)?),
                released_at: time(&row, 8)?,
            })
        };
        self.0.db.of(user).read(read).await
    }

    /// Where the run's events stand in its user's log.
    ///
    /// # Errors
    /// `NotFound` where the run was deleted meanwhile.
    pub async fn run_span(
        &self,
        ctx: &UserExecutionContext,
        handle: &Readable<Run>,
    ) -> Result<RunSpan, Error> {
        let user = require(ctx, Right::Read)?;
        let id = handle.id;
        let sql = "SELECT log_start, log_end FROM runs WHERE id = ?1 AND user_id = ?2";
        let read = move |connection: &Connection| {
            Ok(connection.prepare_cached(sql)?.query_row(
                (id.to_bytes(), user.to_bytes()),
                |row| {
                    Ok(RunSpan {
                        after_seq: row.get(0)?,
                        terminal_seq: row.get(1)?,
                    })
                },
            )?)
        };
        self.0.db.of(user).read(read).await
    }
}
