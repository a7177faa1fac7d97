//! Questions to a person: asked with the run's own commit, answered once.

use netra_context::{BackgroundKind, Right, Runtime, UserExecutionContext};
use netra_protocol::approval::{Approval, ApprovalState, Decision, ResolveApproval};
use netra_protocol::event::{EventKind, ResolvedBy};
use netra_protocol::id::{ApprovalId, EventId, RunId, ThreadId, ToolCallId, UserId};
use netra_protocol::run::{Run, RunStatus};
use netra_protocol::{Event, Page, Timestamp};
use serde_json::json;

use crate::audit::{self, AuditRecord};
use crate::error::Error;
use crate::handle::Writable;
use crate::journal::{self, JournalEntry, JournalKind};
use crate::json;
use crate::listing::{Listing, Portion};
use crate::log::Encoded;
use crate::lookup::Lookup;
use crate::owner::{require, require_background};
use crate::sql::{self, Connection, OptionalExtension as _, Row};
use crate::transaction::Tx;
use crate::{Store, run};

const COLUMNS: &str = "id, run_id, tool_call_id, tool_name, arguments, reason, state, expires_at";
const LISTING: Listing<Approval> = Listing {
    table: "approvals",
    columns: COLUMNS,
    read: approval,
    id: |one| one.id.to_bytes(),
};

/// A question, with where the call stands in its run.
#[derive(Debug, Clone)]
pub struct Ask {
    /// What is asked.
    pub approval: Approval,
    /// The agent that wants the call.
    pub agent: String,
    /// The step in which it wants it.
    pub step: u32,
    /// The call's key in the run's journal.
    pub key: String,
}

const fn as_str(state: ApprovalState) -> &'static str {
    match state {
        ApprovalState::Pending => "pending",
        ApprovalState::Approved => "approved",
        ApprovalState::Denied => "denied",
    }
}

fn approval(row: &Row<'_>) -> Result<Approval, Error> {
    let state = match row.get_ref(6)?.as_str() {
        Ok("pending") => ApprovalState::Pending,
        Ok("approved") => ApprovalState::Approved,
        Ok("denied") => ApprovalState::Denied,
        _ => return Err(Error::corrupt("approval's state")),
    };
    Ok(Approval {
        id: ApprovalId::from_bytes(row.get(0)?),
        run_id: RunId::from_bytes(row.get(1)?),
        tool_call_id: ToolCallId::from_bytes(row.get(2)?),
        tool_name: row.get(3)?,
        arguments: json::read(&row.get::<_, String>(4)?)?,
        reason: row.get(5)?,
        state,
        expires_at: Timestamp::from_micros(row.get(7)?),
    })
}

fn find(connection: &Connection, user: UserId, id: ApprovalId) -> Result<Approval, Error> {
    let sql = format!("SELECT {COLUMNS} FROM approvals WHERE id = ?1 AND user_id = ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query((id.to_bytes(), user.to_bytes()))?;
    rows.next()?
        .map_or(Err(Error::NotFound), |row| approval(&row))
}

pub(crate) fn insert(tx: &Tx<'_>, run: &Writable<Run>, ask: &Ask) -> Result<(), Error> {
    let approval = &ask.approval;
    tx.put(
        "INSERT INTO approvals (id, user_id, run_id, thread_id, tool_call_id, tool_name, agent,
         step, key, arguments, reason, state, expires_at, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        sql::params![
            approval.id.to_bytes(),
            run.owner().to_bytes(),
            run.id.to_bytes(),
            run.thread_id.to_bytes(),
            approval.tool_call_id.to_bytes(),
            approval.tool_name,
            ask.agent,
            ask.step,
            ask.key,
            serde_json::to_string(&approval.arguments)?,
            approval.reason,
            as_str(approval.state),
            approval.expires_at.as_micros(),
            tx.now().as_micros(),
        ],
    )?;
    Ok(())
}

/// Denies what the run still asks, because it ends, and gives the events that tell it: in the
/// transaction of the end, so that an answer comes before it or not at all.
pub(crate) fn withdraw(
    tx: &Tx<'_>,
    run: &Writable<Run>,
    runtime: &Runtime,
    origin: &audit::Origin,
) -> Result<Vec<Encoded>, Error> {
    let asked: Vec<(ApprovalId, ToolCallId, String)> = {
        let sql = "UPDATE approvals SET state = 'denied'
                   WHERE run_id = ?1 AND user_id = ?2 AND state = 'pending'
                   RETURNING id, tool_call_id, tool_name";
        let mut statement = tx.prepare(sql)?;
        let both = (run.id.to_bytes(), run.owner().to_bytes());
        let rows = statement.query_map(both, |row| {
            Ok((
                ApprovalId::from_bytes(row.get(0)?),
                ToolCallId::from_bytes(row.get(1)?),
                row.get(2)?,
            ))
        })?;
        rows.collect::<Result<_, _>>()?
    };
    let answer = ResolveApproval {
        decision: Decision::Deny,
        note: None,
        arguments: None,
    };
    let by = ResolvedBy("cancel".to_owned());
    let event = |(approval_id, tool_call_id, tool_name): (_, _, String)| {
        let record = record(approval_id, &tool_name, &by, &answer);
        audit::insert(tx, origin, run.owner(), &record)?;
        let resolved = EventKind::ApprovalResolved {
            approval_id,
            tool_call_id,
            decision: answer.decision,
            by: by.clone(),
        };
        let id = runtime.new_id(EventId::from_parts);
        let place = place(tx, approval_id)?;
        Encoded::new(&place.event(id, tx.now(), run.id, resolved))
    };
    asked.into_iter().map(event).collect()
}

/// Who has answered, how, and with which words; the arguments are not in it.
fn record(
    id: ApprovalId,
    tool_name: &str,
    by: &ResolvedBy,
    answer: &ResolveApproval,
) -> AuditRecord {
    let edited = answer.arguments.is_some();
    let mut details = json!({ "tool_name": tool_name, "by": by, "edited": edited });
    if let Some(note) = &answer.note {
        details["note"] = json!(note);
    }
    AuditRecord {
        action: "approval.resolve",
        object: id.to_string(),
        outcome: as_str(state_after(answer.decision)),
        details,
    }
}

const fn state_after(decision: Decision) -> ApprovalState {
    match decision {
        Decision::Approve => ApprovalState::Approved,
        Decision::Deny => ApprovalState::Denied,
    }
}

/// Where the call that is asked for stands.
struct Place {
    thread_id: ThreadId,
    agent: String,
    step: u32,
    key: String,
}

impl Place {
    /// Something that happened there.
    fn event(&self, event_id: EventId, ts: Timestamp, run_id: RunId, kind: EventKind) -> Event {
        Event {
            event_id,
            ts,
            thread_id: self.thread_id,
            run_id,
            agent: Some(self.agent.clone()),
            step: Some(self.step),
            kind,
        }
    }
}

fn place(tx: &Tx<'_>, id: ApprovalId) -> Result<Place, Error> {
    let sql = "SELECT thread_id, agent, step, key FROM approvals WHERE id = ?1";
    let read = |row: &Row<'_>| {
        Ok(Place {
            thread_id: ThreadId::from_bytes(row.get(0)?),
            agent: row.get(1)?,
            step: row.get(2)?,
            key: row.get(3)?,
        })
    };
    Ok(tx.prepare(sql)?.query_row([id.to_bytes()], read)?)
}

struct Resolution {
    user: UserId,
    id: ApprovalId,
    event_id: EventId,
    by: ResolvedBy,
    answer: ResolveApproval,
}

/// Writes the answer, tells it, and puts the run in line for its slot when nothing else is asked.
fn resolve(
    tx: &mut Tx<'_>,
    origin: &audit::Origin,
    resolution: Resolution,
) -> Result<Approval, Error> {
    let Resolution {
        user,
        id,
        event_id,
        by,
        answer,
    } = resolution;
    let mut approval = find(tx.connection(), user, id)?;
    if approval.state != ApprovalState::Pending {
        return Err(Error::ApprovalResolved);
    }
    approval.state = state_after(answer.decision);
    tx.execute(
        "UPDATE approvals SET state = ?2 WHERE id = ?1",
        (id.to_bytes(), as_str(approval.state)),
    )?;
    let record = record(id, &approval.tool_name, &by, &answer);
    let place = place(tx, id)?;
    let resolved = EventKind::ApprovalResolved {
        approval_id: id,
        tool_call_id: approval.tool_call_id,
        decision: answer.decision,
        by,
    };
    let event = place.event(event_id, tx.now(), approval.run_id, resolved);
    tx.append(user, vec![Encoded::new(&event)?])?;
    audit::insert(tx, origin, user, &record)?;
    let handle = Writable::new(user, run::find(tx.connection(), user, approval.run_id)?);
    let entry = JournalEntry {
        key: place.key,
        kind: JournalKind::Answered,
        step: place.step,
        value: json!({ "approval_id": id, "answer": answer }),
    };
    journal::write(tx, handle.id, handle.owner(), &entry)?;
    if handle.status == RunStatus::Waiting && !is_pending(tx, approval.run_id)? {
        run::set_status(tx, &handle, RunStatus::Queued)?;
    }
    Ok(approval)
}

fn is_pending(tx: &Tx<'_>, run: RunId) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM approvals WHERE run_id = ?1 AND state = 'pending')";
    Ok(tx
        .prepare(sql)?
        .query_row([run.to_bytes()], |row| row.get(0))?)
}

impl Store {
    /// Looks an approval up.
    pub fn approval<'a>(
        &'a self,
        ctx: &'a UserExecutionContext,
        id: ApprovalId,
    ) -> Lookup<'a, Approval, ApprovalId> {
        Lookup::new(self, ctx, id, Right::Approve, |_, connection, user, id| {
            find(connection, user, id)
        })
    }

    /// The user's approvals, newest first.
    ///
    /// # Errors
    /// `InvalidCursor`; `Forbidden` without the right to read.
    pub async fn approvals(
        &self,
        ctx: &UserExecutionContext,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<Approval>, Error> {
        LISTING.newest(self, ctx, limit, cursor).await
    }

    /// The same, but no more at once than so many bytes as they are stored, and at least one.
    ///
    /// # Errors
    /// As [`Store::approvals`].
    pub async fn approvals_within(
        &self,
        ctx: &UserExecutionContext,
        (rows, bytes): (u32, usize),
        cursor: Option<&str>,
    ) -> Result<Page<Approval>, Error> {
        let portion = Portion { rows, bytes };
        LISTING.newest(self, ctx, portion, cursor).await
    }

    /// Answers an approval, once. Its run, when it waits for nothing else, is `queued` then.
    ///
    /// # Errors
    /// `ApprovalResolved` when it was answered before, has expired, or its run has ended.
    pub async fn approval_resolve(
        &self,
        ctx: &UserExecutionContext,
        approval: &Writable<Approval>,
        answer: ResolveApproval,
    ) -> Result<Approval, Error> {
        let user = require(ctx, Right::Approve)?;
        if user != approval.owner() {
            return Err(Error::NotFound);
        }
        let (origin, expires_at) = (audit::Origin::of(ctx), approval.expires_at);
        let resolution = Resolution {
            user,
            id: approval.id,
            event_id: self.0.runtime.new_id(EventId::from_parts),
            by: ResolvedBy(user.to_string()),
            answer,
        };
        let work = move |tx: &mut Tx<'_>| {
            if tx.now() >= expires_at {
                return Err(Error::ApprovalResolved);
            }
            resolve(tx, &origin, resolution)
        };
        self.0.db.of(user).write(work).await
    }

    /// Denies what has expired, and returns the runs that waited for it, with their owners. As
    /// `for_background(Recovery)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else; `Unavailable`.
    pub async fn approvals_expire(
        &self,
        ctx: &UserExecutionContext,
    ) -> Result<Vec<(UserId, RunId)>, Error> {
        require_background(ctx, &[BackgroundKind::Recovery])?;
        let (origin, runtime) = (audit::Origin::of(ctx), self.0.runtime.clone());
        let work = move |tx: &mut Tx<'_>| {
            let mut runs = Vec::new();
            for (user, id) in expired(tx)? {
                let answer = ResolveApproval {
                    decision: Decision::Deny,
                    note: Some(NOBODY.to_owned()),
                    arguments: None,
                };
                let resolution = Resolution {
                    user,
                    id,
                    event_id: runtime.new_id(EventId::from_parts),
                    by: ResolvedBy("expiry".to_owned()),
                    answer,
                };
                runs.push((user, resolve(tx, &origin, resolution)?.run_id));
            }
            Ok(runs)
        };
        self.0.db.of_all().write(work).await
    }

    /// When the next approval expires. As `for_background(Recovery)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else; `Unavailable`.
    pub async fn approvals_next_expiry(
        &self,
        ctx: &UserExecutionContext,
    ) -> Result<Option<Timestamp>, Error> {
        require_background(ctx, &[BackgroundKind::Recovery])?;
        let sql = "SELECT min(expires_at) FROM approvals WHERE state = 'pending'";
        let read = move |connection: &Connection| {
            let next = connection
                .prepare_cached(sql)?
                .query_row([], |row| row.get::<_, Option<i64>>(0))
                .optional()?;
            Ok(next.flatten().map(Timestamp::from_micros))
        };
        self.0.db.of_all().read(read).await
    }
}

/// What the agent is told where the time to answer is over.
const NOBODY: &str = "nobody answered in time whether the call may be made";

/// What has expired and nobody has answered; a bounded number, so that one write stays short.
fn expired(tx: &Tx<'_>) -> Result<Vec<(UserId, ApprovalId)>, Error> {
    let sql = "SELECT user_id, id FROM approvals
               WHERE state = 'pending' AND expires_at <= ?1 ORDER BY expires_at LIMIT 100";
    let mut statement = tx.prepare(sql)?;
    let rows = statement.query_map([tx.now().as_micros()], |row| {
        Ok((
            UserId::from_bytes(row.get(0)?),
            ApprovalId::from_bytes(row.get(1)?),
        ))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
