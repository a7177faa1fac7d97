//! Nodes: which there are, whose runs each holds, and how runs go from one that is gone to another.
//!
//! A node holds the runs that it made or took. It says by heartbeats that it is alive; what a dead one held is taken by
//! whoever looks first, user by user, and goes on from its journal. Each taking raises the run's fence, so that a node
//! that was only paused can write nothing more into it. All of that needs PostgreSQL: the embedded store has one node,
//! by the lock of its folder, which takes everything at its start.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use netra_context::{BackgroundKind, Right, UserExecutionContext};
use netra_protocol::Timestamp;
use netra_protocol::id::{RunId, UserId};
use netra_protocol::run::{Run, RunStatus};
use tokio::sync::watch;

use crate::Store;
use crate::database::Database;
use crate::error::Error;
use crate::handle::Writable;
use crate::lease::Lease;
use crate::owner::{require, require_background};
use crate::redis;
use crate::slots::wish_stop;
use crate::sql::{self, Connection, OptionalExtension as _, Row};
use crate::transaction::Tx;
use crate::unfinished::{self, Unfinished};

/// Names a node from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId([u8; 16]);

impl NodeId {
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why whoever holds a run is to end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopWish {
    /// Its user wants it.
    Cancelled,
    /// An admin wants it.
    CancelledByAdmin,
    /// A new run takes its thread.
    Replaced,
}

impl StopWish {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::CancelledByAdmin => "cancelled_by_admin",
            Self::Replaced => "replaced",
        }
    }

    fn read(row: &Row<'_>, column: usize) -> Result<Option<Self>, Error> {
        let text: Option<String> = row.get(column)?;
        let wish = |text: String| {
            [Self::Cancelled, Self::CancelledByAdmin, Self::Replaced]
                .into_iter()
                .find(|wish| wish.as_str() == text)
                .ok_or_else(|| Error::corrupt("reason to stop"))
        };
        text.map(wish).transpose()
    }
}

/// A run that this node holds.
#[derive(Debug, Clone)]
pub struct HeldRun {
    /// Whose it is.
    pub user_id: UserId,
    /// The run.
    pub run_id: RunId,
    /// Where it stands.
    pub status: RunStatus,
    /// How often it has been taken.
    pub fence: u64,
    /// Why it is to be ended, where somebody wants that.
    pub stop: Option<StopWish>,
}

/// A run that this node has taken.
#[derive(Debug, Clone)]
pub struct TakenRun {
    /// The run, under its new fence.
    pub run: Unfinished,
    /// When whoever held it was last seen; none where it was let go.
    pub last_alive: Option<Timestamp>,
    /// Why it is to be ended, where somebody wants that.
    pub stop: Option<StopWish>,
}

/// Runs that have no living holder. `?1` is whoever asks, which does not take from itself.
const ABANDONED: &str = "status IN ('queued', 'running', 'waiting') AND (node IS NULL OR node <> ?1)
     AND NOT EXISTS (SELECT 1 FROM nodes n WHERE n.id = runs.node AND n.expires_at > clock_timestamp())";

/// Of each user first the first, then of each the second, and so on: those that have their slots before those in line.
const FAIR: &str =
    "row_number() OVER (PARTITION BY user_id ORDER BY status <> 'running', started_at IS NULL, id)";

/// The most runs that are looked up at once to be taken.
const MOST: u32 = 256;

/// A file of the data folder: who worked on it last.
const FILE: &str = "node";

impl Store {
    /// Makes this the store of a node that holds runs, and says from now on that it is alive: where the rows are in
    /// PostgreSQL; in a folder one node works, and nothing happens. Whoever worked on the data folder before is gone: its lock is ours.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn join(&self) -> Result<(), Error> {
        let Database::Postgres(database) = &self.0.db else {
            return Ok(());
        };
        let node = NodeId(self.0.runtime.secret_bytes());
        let file = self.0.dir.join(FILE);
        let before = read_file(&file)?;
        let asked = Instant::now();
        let mut lease = Lease::new(database.lease(), asked);
        let length = database.lease().as_secs_f64();
        let register = move |tx: &mut Tx<'_>| register(tx, node, before, length);
        self.0.db.of_all().write(register).await?;
        lease.renewed(asked);
        std::fs::write(&file, node.to_string())?;
        if self.0.node.set(node).is_err() {
            return Err(Error::Bug("a node joins once".into()));
        }
        if let Some(redis) = database.redis() {
            let runtime = self.0.runtime.clone();
            let find = move |tx: &mut Tx<'_>| redis::secret(tx, &runtime);
            let secret = self.0.db.of_all().write(find).await?;
            let place = redis::Place {
                node,
                epoch: self.0.epoch.clone(),
                seal: redis::Seal::new(&self.0.runtime, &secret),
                fanout: database.fanout(),
                news: self.0.news.clone(),
                revocations: Arc::clone(&self.0.revocations),
            };
            database.speak_by(redis::Link::start(redis.clone(), &self.0.runtime, place));
        }
        let revocations = &self.0.revocations;
        database.watch((node, lease), self.0.news.clone(), revocations)
    }

    /// Says that this node is gone: others take what it holds at once.
    ///
    /// # Errors
    /// `Unavailable`; then they do when its lease is over.
    pub async fn leave(&self) -> Result<(), Error> {
        let (Some(node), Database::Postgres(database)) = (self.node(), &self.0.db) else {
            return Ok(());
        };
        database.unwatch();
        let work = move |tx: &mut Tx<'_>| {
            tx.ring();
            let sql =
                "UPDATE nodes SET expires_at = least(expires_at, clock_timestamp()) WHERE id = ?1";
            tx.put(sql, [node.to_bytes()])
        };
        self.0.db.of_all().write(work).await
    }

    /// Which node this is; none where one works alone, by the lock of its folder.
    pub(crate) fn node(&self) -> Option<NodeId> {
        self.0.node.get().copied()
    }

    /// Whether several nodes may hold runs.
    pub fn is_shared(&self) -> bool {
        self.node().is_some()
    }

    /// How often something has failed here because the database was not there; 0 where one node works alone. What a run
    /// fails of beside such a failure may be none of its own doing.
    pub fn outages(&self) -> u64 {
        match &self.0.db {
            Database::Postgres(database) if self.is_shared() => database.outages(),
            _ => 0,
        }
    }

    /// Changes whenever another node has done something that may let a run of this one begin, go on, or end. Not all
    /// of that need arrive: whoever waits for something looks by itself now and then.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.0.news.subscribe()
    }

    /// The runs that this node holds. As `for_background(Recovery)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else; `Unavailable`.
    pub async fn runs_held(&self, ctx: &UserExecutionContext) -> Result<Vec<HeldRun>, Error> {
        require_background(ctx, &[BackgroundKind::Recovery])?;
        let Some(node) = self.node() else {
            return Ok(Vec::new());
        };
        let sql = "SELECT user_id, id, status, fence, stop FROM runs
                   WHERE node = ?1 AND status IN ('queued', 'running', 'waiting')";
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([node.to_bytes()])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let status: String = row.get(2)?;
                found.push(HeldRun {
                    user_id: UserId::from_bytes(row.get(0)?),
                    run_id: RunId::from_bytes(row.get(1)?),
                    status: status.parse().map_err(|_| Error::corrupt("run's status"))?,
                    fence: row.get(3)?,
                    stop: StopWish::read(&row, 4)?,
                });
            }
            Ok(found)
        };
        self.0.db.of_all().read(read).await
    }

    /// Some of the runs that no living node holds, in the order in which they are to be taken. None while this node is not
    /// sure of its own lease, and as long again after it was lost: an outage of the database makes nobody dead. As
    /// `for_background(Recovery)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else; `Unavailable`.
    pub async fn runs_abandoned(
        &self,
        ctx: &UserExecutionContext,
    ) -> Result<Vec<(UserId, RunId)>, Error> {
        require_background(ctx, &[BackgroundKind::Recovery])?;
        let (Some(node), Database::Postgres(database)) = (self.node(), &self.0.db) else {
            return Ok(Vec::new());
        };
        if !database.may_take() {
            return Ok(Vec::new());
        }
        let read = move |connection: &Connection| {
            let sql = format!(
                "SELECT user_id, id FROM (SELECT user_id, id, {FAIR} AS turn FROM runs WHERE {ABANDONED}) left_behind
                 ORDER BY turn, id LIMIT {MOST}"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([node.to_bytes()], |row| {
                Ok((
                    UserId::from_bytes(row.get(0)?),
                    RunId::from_bytes(row.get(1)?),
                ))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        self.0.db.of_all().read(read).await
    }

    /// Takes a run that no living node holds; none where another was faster. What was set aside for its calls counts in
    /// full: nobody knows what they have cost. As `for_background(Recovery)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else; `Unavailable`.
    pub async fn run_take(
        &self,
        ctx: &UserExecutionContext,
        user: UserId,
        run: RunId,
    ) -> Result<Option<TakenRun>, Error> {
        require_background(ctx, &[BackgroundKind::Recovery])?;
        let Some(node) = self.node() else {
            return Ok(None);
        };
        let base = self.base_limits();
        let work = move |tx: &mut Tx<'_>| {
            let Some((before, stop)) = lock_abandoned(tx, node, user, run)? else {
                return Ok(None);
            };
            tx.put(
                "UPDATE runs SET node = ?3, fence = fence + 1 WHERE id = ?1 AND user_id = ?2",
                (run.to_bytes(), user.to_bytes(), node.to_bytes()),
            )?;
            tx.put(
                "DELETE FROM reservations WHERE user_id = ?1 AND run_id = ?2",
                (user.to_bytes(), run.to_bytes()),
            )?;
            let last_alive = match before {
                Some(before) => seen_at(tx, before)?,
                None => None,
            };
            let both = (run.to_bytes(), user.to_bytes());
            let condition = "AND id = ?1 AND user_id = ?2";
            let run = unfinished::read(tx.connection(), &base, condition, both)?.pop();
            Ok(run.map(|run| TakenRun {
                run,
                last_alive,
                stop,
            }))
        };
        self.0.db.of(user).write(work).await
    }

    /// Gives a run up that this node holds and does not know: its end could not be written. Whoever takes it goes on
    /// as after a crash, or, where its engine has let it go in order, as after a drain. As `for_background(Recovery)`
    /// only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else; `Unavailable`.
    pub async fn run_give_up(
        &self,
        ctx: &UserExecutionContext,
        held: &HeldRun,
        in_order: bool,
    ) -> Result<(), Error> {
        require_background(ctx, &[BackgroundKind::Recovery])?;
        let Some(node) = self.node() else {
            return Ok(());
        };
        let (user, run, fence) = (held.user_id, held.run_id, held.fence);
        let work = move |tx: &mut Tx<'_>| {
            tx.ring();
            let released_at = in_order.then(|| tx.now().as_micros());
            tx.put(
                "UPDATE runs SET node = NULL, released_at = coalesce(released_at, ?5)
                 WHERE id = ?1 AND user_id = ?2 AND node = ?3 AND fence = ?4",
                sql::params![
                    run.to_bytes(),
                    user.to_bytes(),
                    node.to_bytes(),
                    fence,
                    released_at
                ],
            )
        };
        self.0.db.of(user).write(work).await
    }

    /// Tells the node that holds the run to end it, or whoever takes it next. False where this one holds it.
    ///
    /// # Errors
    /// `RunEnded`; `Forbidden` without the right to run agents.
    pub async fn run_stop(
        &self,
        ctx: &UserExecutionContext,
        handle: &Writable<Run>,
        wish: StopWish,
    ) -> Result<bool, Error> {
        let user = require(ctx, Right::Run)?;
        if user != handle.owner() {
            return Err(Error::NotFound);
        }
        let Some(node) = self.node() else {
            return Ok(false);
        };
        let id = handle.id;
        let work = move |tx: &mut Tx<'_>| {
            let sql = "SELECT node, status FROM runs WHERE id = ?1 AND user_id = ?2";
            let found: Option<(Option<[u8; 16]>, String)> = tx
                .prepare(sql)?
                .query_row((id.to_bytes(), user.to_bytes()), |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            let (holder, status) = found.ok_or(Error::NotFound)?;
            if !matches!(&*status, "queued" | "running" | "waiting") {
                return Err(Error::RunEnded);
            }
            // What nobody has somebody is about to take.
            let is_elsewhere = holder != Some(node.to_bytes());
            if is_elsewhere {
                wish_stop(tx, user, id, wish)?;
            }
            Ok(is_elsewhere)
        };
        self.0.db.of(user).write(work).await
    }
}

fn register(
    tx: &Tx<'_>,
    node: NodeId,
    before: Option<NodeId>,
    length_secs: f64,
) -> Result<(), Error> {
    if let Some(before) = before {
        tx.put(
            "UPDATE nodes SET expires_at = least(expires_at, seen_at) WHERE id = ?1",
            [before.to_bytes()],
        )?;
    }
    tx.put(
        "DELETE FROM nodes WHERE expires_at < clock_timestamp() - interval '1 day'
           AND NOT EXISTS (SELECT 1 FROM runs WHERE node = nodes.id
                           AND status IN ('queued', 'running', 'waiting'))",
        [],
    )?;
    beat(tx.connection(), node, length_secs)
}

/// Says that the node is alive, for so long from now by the database's clock.
pub(crate) fn beat(connection: &Connection, node: NodeId, length_secs: f64) -> Result<(), Error> {
    let sql = "INSERT INTO nodes (id, started_at, seen_at, expires_at)
               VALUES (?1, clock_timestamp(), clock_timestamp(), clock_timestamp() + make_interval(secs => ?2))
               ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, expires_at = excluded.expires_at";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement
        .execute((node.to_bytes(), length_secs))
        .map(drop)?)
}

type Left = (Option<NodeId>, Option<StopWish>);

/// Whoever held the run, where nobody alive does and nobody else is taking it.
fn lock_abandoned(
    tx: &Tx<'_>,
    node: NodeId,
    user: UserId,
    run: RunId,
) -> Result<Option<Left>, Error> {
    let sql = format!(
        "SELECT node, stop FROM runs WHERE id = ?2 AND user_id = ?3 AND {ABANDONED} FOR UPDATE SKIP LOCKED"
    );
    let mut statement = tx.prepare(&sql)?;
    let mut rows = statement.query((node.to_bytes(), run.to_bytes(), user.to_bytes()))?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let before: Option<[u8; 16]> = row.get(0)?;
    Ok(Some((before.map(NodeId), StopWish::read(&row, 1)?)))
}

fn seen_at(tx: &Tx<'_>, node: NodeId) -> Result<Option<Timestamp>, Error> {
    let sql = "SELECT seen_at FROM nodes WHERE id = ?1";
    let mut statement = tx.prepare(sql)?;
    let seen = statement.query_row([node.to_bytes()], |row| row.get(0));
    Ok(seen.optional()?.map(Timestamp::from_micros))
}

/// Who worked on the folder last. A file that cannot be read back names nobody: the lease of that node is waited for.
fn read_file(path: &Path) -> Result<Option<NodeId>, Error> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let number = u128::from_str_radix(text.trim(), 16).ok();
    Ok(number.map(|number| NodeId(number.to_be_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_read_back_from_its_folder_and_a_torn_file_names_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        assert_eq!(read_file(&file).unwrap(), None);
        let node = NodeId([7; 16]);
        std::fs::write(&file, node.to_string()).unwrap();
        assert_eq!(read_file(&file).unwrap(), Some(node));
        std::fs::write(&file, "no").unwrap();
        assert_eq!(read_file(&file).unwrap(), None);
    }
}
