//! Slots and threads over all nodes: whether a run may begin now, beside what the user has anywhere.
//!
//! A run has a slot while it is `running`, whoever holds it: also while its node is dead and nobody has taken it yet. So
//! the user's limit holds whatever becomes of nodes. A thread is in use while a run of it is `running` or `waiting`.

use netra_context::{Right, UserExecutionContext};
use netra_protocol::event::QueueReason;
use netra_protocol::id::{RunId, ThreadId, UserId};
use netra_protocol::run::{OnBusy, OnLimit, Run, RunStatus};

use crate::Store;
use crate::error::Error;
use crate::handle::Writable;
use crate::node::{NodeId, StopWish};
use crate::owner::require;
use crate::run::{self, OverNodes};
use crate::sql::Connection;
use crate::transaction::Tx;

/// Whether a run has its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// It may begin.
    Given,
    /// What the user has on other nodes is in the way.
    Busy,
}

/// How a new run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// For what it has to wait; none where nothing anywhere is in its way.
    pub(crate) waits_for: Option<QueueReason>,
    /// The place that it has, or would have, among those of the user that wait, over all nodes; from 1.
    pub(crate) position: u32,
}

/// One of the user's runs that have not ended.
#[derive(Debug, Clone, Copy)]
struct Other {
    id: RunId,
    thread: ThreadId,
    status: RunStatus,
    node: Option<NodeId>,
}

impl Other {
    /// Whether the thread is in use by it.
    fn has_its_thread(&self) -> bool {
        matches!(self.status, RunStatus::Running | RunStatus::Waiting)
    }

    /// Whether another node than this has it in this thread.
    fn is_elsewhere_in(&self, thread: ThreadId, node: NodeId) -> bool {
        self.thread == thread && self.node != Some(node)
    }
}

/// What the user has, without this run.
fn others(tx: &Tx<'_>, user: UserId, but: RunId) -> Result<Vec<Other>, Error> {
    let mut statement = tx.prepare(
        "SELECT id, thread_id, status, node FROM runs
         WHERE user_id = ?1 AND id <> ?2 AND status IN ('queued', 'running', 'waiting')",
    )?;
    let mut rows = statement.query((user.to_bytes(), but.to_bytes()))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let status: String = row.get(2)?;
        found.push(Other {
            id: RunId::from_bytes(row.get(0)?),
            thread: ThreadId::from_bytes(row.get(1)?),
            status: status.parse().map_err(|_| Error::corrupt("run's status"))?,
            node: row.get::<_, Option<[u8; 16]>>(3)?.map(NodeId::from_bytes),
        });
    }
    Ok(found)
}

fn running(others: &[Other]) -> usize {
    let running = |other: &&Other| other.status == RunStatus::Running;
    others.iter().filter(running).count()
}

/// Whether a new run may begin, or why it is refused. What this node has itself in the thread its own admission knows.
fn decide(
    others: &[Other],
    thread: ThreadId,
    node: NodeId,
    wish: &OverNodes,
) -> Result<Admitted, Error> {
    let elsewhere = |other: &&Other| other.is_elsewhere_in(thread, node);
    let is_busy = others.iter().any(|other| elsewhere(&other));
    if is_busy && wish.on_busy == OnBusy::Reject {
        return Err(Error::ThreadBusy);
    }
    let at_work = others
        .iter()
        .filter(elsewhere)
        .any(|other| other.status == RunStatus::Running);
    let takes_over = at_work && wish.on_busy == OnBusy::Interrupt;
    let is_full = running(others) >= wish.allowed as usize;
    if is_full && wish.on_limit == OnLimit::Reject && !takes_over {
        return Err(Error::SlotsExhausted);
    }
    let waits_for = match (is_busy, is_full) {
        (true, _) => Some(QueueReason::ThreadBusy),
        (false, true) => Some(QueueReason::Slots),
        (false, false) => None,
    };
    let queued = |other: &&Other| other.status == RunStatus::Queued;
    let before = others.iter().filter(queued).count();
    if waits_for.is_some() && before >= wish.queue as usize {
        return Err(Error::QueueFull);
    }
    Ok(Admitted {
        waits_for,
        position: u32::try_from(before + 1).unwrap_or(u32::MAX),
    })
}

/// Whether a new run may begin beside what the user has anywhere. Where it takes the thread from runs of other nodes,
/// those are told.
pub(crate) fn admit(
    tx: &Tx<'_>,
    user: UserId,
    (run, thread): (RunId, ThreadId),
    node: NodeId,
    wish: &OverNodes,
) -> Result<Admitted, Error> {
    let others = others(tx, user, run)?;
    let admitted = decide(&others, thread, node, wish)?;
    if wish.on_busy == OnBusy::Interrupt {
        let elsewhere = |other: &&Other| other.is_elsewhere_in(thread, node);
        for other in others.iter().filter(elsewhere) {
            wish_stop(tx, user, other.id, StopWish::Replaced)?;
        }
    }
    Ok(admitted)
}

/// Tells whoever holds the run to end it. The first reason holds.
pub(crate) fn wish_stop(
    tx: &Tx<'_>,
    user: UserId,
    run: RunId,
    wish: StopWish,
) -> Result<(), Error> {
    tx.ring();
    tx.put(
        "UPDATE runs SET stop = coalesce(stop, ?3) WHERE id = ?1 AND user_id = ?2",
        (run.to_bytes(), user.to_bytes(), wish.as_str()),
    )
}

impl Store {
    /// How many runs of the user execute and stand in line, over all nodes; none where one node works alone, which knows
    /// that itself.
    ///
    /// # Errors
    /// `Forbidden` without the right to read; `Unavailable`.
    pub async fn slots_over_nodes(
        &self,
        ctx: &UserExecutionContext,
    ) -> Result<Option<(u32, u32)>, Error> {
        let user = require(ctx, Right::Read)?;
        if !self.is_shared() {
            return Ok(None);
        }
        let sql = "SELECT count(*) FILTER (WHERE status = 'running'), count(*) FILTER (WHERE status = 'queued')
                   FROM runs WHERE user_id = ?1 AND status IN ('queued', 'running')";
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let counts =
                statement.query_row([user.to_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(Some(counts))
        };
        self.0.db.of(user).read(read).await
    }

    /// Gives a run that this node holds its slot, where the user has one left and the thread is free, over all nodes.
    /// It is `running` from then on. Where one node works alone its own admission knows all of that, and nothing is
    /// asked.
    ///
    /// # Errors
    /// `Fenced` when another node holds the run; `RunEnded`.
    pub async fn run_begin(
        &self,
        ctx: &UserExecutionContext,
        handle: &Writable<Run>,
        allowed: u32,
    ) -> Result<Slot, Error> {
        let user = require(ctx, Right::Run)?;
        if user != handle.owner() {
            return Err(Error::NotFound);
        }
        let Some(node) = self.node() else {
            return Ok(Slot::Given);
        };
        let handle = handle.clone();
        let work = move |tx: &mut Tx<'_>| {
            let status = run::refuse_ended(tx, &handle)?;
            if !is_held_by(tx, handle.id, node)? {
                return Err(Error::Fenced);
            }
            if status == RunStatus::Running {
                return Ok(Slot::Given);
            }
            let others = others(tx, user, handle.id)?;
            let has_thread =
                |other: &Other| other.thread == handle.thread_id && other.has_its_thread();
            if running(&others) >= allowed as usize || others.iter().any(has_thread) {
                return Ok(Slot::Busy);
            }
            run::set_status(tx, &handle, RunStatus::Running)?;
            Ok(Slot::Given)
        };
        self.0.db.of(user).write(work).await
    }
}

fn is_held_by(tx: &Tx<'_>, run: RunId, node: NodeId) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM runs WHERE id = ?1 AND node = ?2)";
    let mut statement = tx.prepare(sql)?;
    Ok(statement.query_row((run.to_bytes(), node.to_bytes()), |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use netra_protocol::id::EventId;

    use super::*;

    const HERE: NodeId = NodeId::from_bytes([1; 16]);
    const THERE: NodeId = NodeId::from_bytes([2; 16]);

    fn other(number: u128, thread: u128, status: RunStatus, node: NodeId) -> Other {
        Other {
            id: RunId::from_parts(1, number),
            thread: ThreadId::from_parts(1, thread),
            status,
            node: Some(node),
        }
    }

    const FREE: Option<QueueReason> = None;

    fn wish(on_limit: OnLimit, on_busy: OnBusy) -> OverNodes {
        OverNodes {
            allowed: 2,
            queue: 1,
            on_limit,
            on_busy,
            queued_id: EventId::from_parts(1, 1),
        }
    }

    #[test]
    fn what_runs_elsewhere_counts_as_what_runs_here() {
        let thread = ThreadId::from_parts(1, 9);
        let of = |others: &[Other], on_limit| {
            let decided = decide(others, thread, HERE, &wish(on_limit, OnBusy::Queue));
            decided.inspect(|admitted| assert_eq!(admitted.position, 1))
        };
        let one = [other(1, 1, RunStatus::Running, THERE)];
        assert_eq!(of(&one, OnLimit::Reject).unwrap().waits_for, FREE);
        let two = [one[0], other(2, 2, RunStatus::Running, HERE)];
        assert!(matches!(
            of(&two, OnLimit::Reject),
            Err(Error::SlotsExhausted)
        ));
        let waits_for = of(&two, OnLimit::Queue).unwrap().waits_for;
        assert_eq!(waits_for, Some(QueueReason::Slots));
        let and_queued = [two[0], two[1], other(3, 3, RunStatus::Queued, THERE)];
        assert!(matches!(
            of(&and_queued, OnLimit::Queue),
            Err(Error::QueueFull)
        ));
    }

    #[test]
    fn a_thread_that_is_in_use_elsewhere_is_in_use() {
        let thread = ThreadId::from_parts(1, 9);
        let of = |status, node, on_busy| {
            let others = [other(1, 9, status, node)];
            let decided = decide(&others, thread, HERE, &wish(OnLimit::Reject, on_busy));
            decided.map(|admitted| admitted.waits_for)
        };
        let running = RunStatus::Running;
        assert!(matches!(
            of(running, THERE, OnBusy::Reject),
            Err(Error::ThreadBusy)
        ));
        let waits = Some(Some(QueueReason::ThreadBusy));
        assert_eq!(of(running, THERE, OnBusy::Queue).ok(), waits);
        assert_eq!(of(RunStatus::Waiting, THERE, OnBusy::Queue).ok(), waits);
        assert_eq!(of(running, THERE, OnBusy::Interrupt).ok(), waits);
        // The node's own admission has looked at what it has itself.
        assert_eq!(of(running, HERE, OnBusy::Reject).ok(), Some(FREE));
    }
}
