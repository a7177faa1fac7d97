//! Runs that have not ended: what a stopped server left behind, and what a person has answered.

use netra_context::{BackgroundKind, UserExecutionContext};
use netra_protocol::account::User;
use netra_protocol::id::{RunId, ThreadId, UserId};
use netra_protocol::limits::Limits;
use netra_protocol::run::RunStatus;

use crate::Store;
use crate::account::user_by_id;
use crate::error::Error;
use crate::node::NodeId;
use crate::owner::require_background;
use crate::sql::{Connection, Params};

/// A run that has not ended, as far as its place is concerned. The run itself is then looked up
/// in its owner's name.
#[derive(Debug, Clone)]
pub struct Unfinished {
    /// Whose it is, as the database describes the user now.
    pub owner: User,
    /// The run.
    pub run_id: RunId,
    /// Its conversation.
    pub thread_id: ThreadId,
    /// Where it stands.
    pub status: RunStatus,
    /// Whether it has had its slot, whatever its engine has done since.
    pub begun: bool,
    /// How often it has been taken: whoever goes on with it must find the same.
    pub fence: u64,
    /// Who holds it; none where several nodes cannot be.
    pub(crate) node: Option<NodeId>,
}

const SELECT: &str =
    "SELECT user_id, id, thread_id, status, started_at IS NOT NULL OR status = 'running', fence, node FROM runs
     WHERE status IN ('queued', 'running', 'waiting')";

pub(crate) fn read(
    connection: &Connection,
    base: &Limits,
    condition: &str,
    params: impl Params,
) -> Result<Vec<Unfinished>, Error> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} {condition}"))?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let status: String = row.get(3)?;
        found.push(Unfinished {
            owner: user_by_id(connection, UserId::from_bytes(row.get(0)?), base)?,
            run_id: RunId::from_bytes(row.get(1)?),
            thread_id: ThreadId::from_bytes(row.get(2)?),
            status: status.parse().map_err(|_| Error::corrupt("run's status"))?,
            begun: row.get(4)?,
            fence: row.get(5)?,
            node: row.get::<_, Option<[u8; 16]>>(6)?.map(NodeId::from_bytes),
        });
    }
    Ok(found)
}

impl Store {
    /// Every run that has not ended, oldest first. As `for_background(Recovery)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else; `Unavailable`.
    pub async fn runs_unfinished(
        &self,
        ctx: &UserExecutionContext,
    ) -> Result<Vec<Unfinished>, Error> {
        require_background(ctx, &[BackgroundKind::Recovery])?;
        let base = self.base_limits();
        self.0
            .db
            .of_all()
            .read(move |connection| read(connection, &base, "ORDER BY id", []))
            .await
    }

    /// The disabled users who have runs that have not ended. As `for_background(Recovery)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else; `Unavailable`.
    pub async fn disabled_with_runs(
        &self,
        ctx: &UserExecutionContext,
    ) -> Result<Vec<UserId>, Error> {
        require_background(ctx, &[BackgroundKind::Recovery])?;
        let sql = "SELECT DISTINCT user_id FROM runs
                   WHERE status IN ('queued', 'running', 'waiting')
                   AND user_id IN (SELECT id FROM users WHERE disabled)";
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| Ok(UserId::from_bytes(row.get(0)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        self.0.db.of_all().read(read).await
    }

    /// The user's run, if it has not ended and no other node holds it. As `for_background(Recovery)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else; `Unavailable`.
    pub async fn run_unfinished(
        &self,
        ctx: &UserExecutionContext,
        user: UserId,
        run: RunId,
    ) -> Result<Option<Unfinished>, Error> {
        require_background(ctx, &[BackgroundKind::Recovery])?;
        let (both, base) = ((run.to_bytes(), user.to_bytes()), self.base_limits());
        let node = self.node();
        let read = move |connection: &Connection| {
            let found = read(connection, &base, "AND id = ?1 AND user_id = ?2", both)?.pop();
            Ok(found.filter(|run| node.is_none() || run.node == node))
        };
        self.0.db.of_all().read(read).await
    }
}
