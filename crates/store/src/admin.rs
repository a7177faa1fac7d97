//! What admins do with accounts and with everybody's runs. Each change is in the audit of whom it
//! concerns, and in the admin's own.

use netra_context::{Right, UserExecutionContext};
use netra_protocol::account::{Role, User};
use netra_protocol::admin::{AdminRun, UpdateUser};
use netra_protocol::error::Failure;
use netra_protocol::id::{RunId, ThreadId, UserId};
use netra_protocol::limits::Limits;
use netra_protocol::run::RunStatus;
use netra_protocol::{Page, Timestamp};
use serde_json::json;

use crate::account::user_by_id;
use crate::audit::{self, AuditRecord, Origin};
use crate::error::Error;
use crate::handle::Supervised;
use crate::idempotency::{Created, Idempotency, once};
use crate::owner::{require, require_admin};
use crate::revoked::Revoked;
use crate::sql::{Connection, Row};
use crate::transaction::Tx;
use crate::{NewUser, Store, account, cursor, key, leave, session};

const RUN_COLUMNS: &str = "id, user_id, thread_id, agent, status, attempt, created_at, started_at,
     ended_at, deadline, error, usage,
     CASE status WHEN 'queued' THEN
       (SELECT count(*) FROM runs q WHERE q.user_id = runs.user_id AND q.status = 'queued'
        AND (q.started_at IS NULL, q.id) <= (runs.started_at IS NULL, runs.id)) END";

/// Which runs an admin wants to see.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunFilter {
    /// This user's only.
    pub user: Option<UserId>,
    /// Those that stand here only.
    pub status: Option<RunStatus>,
}

fn admin_run(row: &Row<'_>) -> Result<AdminRun, Error> {
    let time = |column| -> Result<Option<Timestamp>, Error> {
        let micros: Option<i64> = row.get(column)?;
        Ok(micros.map(Timestamp::from_micros))
    };
    let status: String = row.get(4)?;
    let error: Option<String> = row.get(10)?;
    let error: Option<Failure> = error.map(|text| serde_json::from_str(&text)).transpose()?;
    Ok(AdminRun {
        id: RunId::from_bytes(row.get(0)?),
        user_id: UserId::from_bytes(row.get(1)?),
        thread_id: ThreadId::from_bytes(row.get(2)?),
        agent: row.get(3)?,
        status: status.parse().map_err(|_| Error::corrupt("run's status"))?,
        attempt: row.get(5)?,
        queue_position: row.get(12)?,
        created_at: Timestamp::from_micros(row.get(6)?),
        started_at: time(7)?,
        ended_at: time(8)?,
        deadline: time(9)?,
        error_code: error.map(|failure| failure.code),
        usage: serde_json::from_str(&row.get::<_, String>(11)?)?,
    })
}

fn find_run(connection: &Connection, id: RunId) -> Result<AdminRun, Error> {
    let sql = format!("SELECT {RUN_COLUMNS} FROM runs WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id.to_bytes()])?;
    rows.next()?
        .map_or(Err(Error::NotFound), |row| admin_run(&row))
}

fn page_of_runs(
    connection: &Connection,
    filter: RunFilter,
    limit: u32,
    before: [u8; 16],
) -> Result<Page<AdminRun>, Error> {
    // Each combination is a statement of its own, so that a user's runs are found by their index.
    let user = filter
        .user
        .map_or("CAST(?2 AS TEXT) IS NULL", |_| "user_id = ?2");
    let status = filter
        .status
        .map_or("CAST(?3 AS TEXT) IS NULL", |_| "status = ?3");
    let sql = format!(
        "SELECT {RUN_COLUMNS} FROM runs WHERE id < ?1 AND {user} AND {status}
         ORDER BY id DESC LIMIT ?4"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query((
        before,
        filter.user.map(UserId::to_bytes),
        filter.status.map(RunStatus::as_str),
        limit + 1,
    ))?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(admin_run(&row)?);
    }
    let next_cursor = cursor::next(&mut items, limit, |run| cursor::write(&run.id.to_bytes()));
    Ok(Page {
        items,
        next_cursor,
        as_of: None,
    })
}

/// Whether somebody else can run the server.
pub(crate) fn has_other_admin(tx: &Tx<'_>, than: UserId) -> Result<bool, Error> {
    let sql = "SELECT EXISTS
               (SELECT 1 FROM users WHERE role = 'admin' AND NOT disabled AND id <> ?1)";
    Ok(tx
        .prepare(sql)?
        .query_row([than.to_bytes()], |row| row.get(0))?)
}

fn update(
    tx: &Tx<'_>,
    by: &Admin,
    id: UserId,
    change: UpdateUser,
    base: &Limits,
) -> Result<User, Error> {
    let mut user = user_by_id(tx.connection(), id, base)?;
    let is_admin = |user: &User| user.role == Role::Admin && !user.disabled;
    let was_admin = is_admin(&user);
    user.disabled = change.disabled.unwrap_or(user.disabled);
    user.role = change.role.unwrap_or(user.role);
    user.plan = change.plan.unwrap_or(user.plan);
    if let Some(groups) = &change.groups {
        user.groups.clone_from(groups);
    }
    if was_admin && !is_admin(&user) && !has_other_admin(tx, id)? {
        return Err(Error::Conflict("this is the last admin"));
    }
    // Who has left since the look-up is not there any more, and above all not to be let in again.
    let changed = tx.execute(
        "UPDATE users SET disabled = ?2, role = ?3, plan = ?4, groups = ?5
         WHERE id = ?1 AND NOT leaving",
        (
            id.to_bytes(),
            user.disabled,
            user.role.as_str(),
            user.plan.as_str(),
            serde_json::to_string(&user.groups)?,
        ),
    )?;
    if changed == 0 {
        return Err(Error::NotFound);
    }
    if let Some(limits) = &change.limits {
        let sql = "UPDATE users SET limits = ?2 WHERE id = ?1";
        tx.execute(sql, (id.to_bytes(), serde_json::to_string(limits)?))?;
    }
    tx.revoke(Revoked::User(id));
    if user.disabled {
        session::revoke_all(tx, id)?;
        key::delete_all(tx, id)?;
    }
    by.record(tx, id, "user.update", id.to_string(), json!(change))?;
    user_by_id(tx.connection(), id, base)
}

/// Who acts, for the audits.
pub(crate) struct Admin {
    origin: Origin,
    /// None for the console.
    id: Option<UserId>,
}

impl Admin {
    pub(crate) fn of(ctx: &UserExecutionContext) -> Result<Self, Error> {
        require_admin(ctx)?;
        Ok(Self {
            origin: Origin::of(ctx),
            id: ctx.user_id(),
        })
    }

    /// Into the audit of whom it concerns, and into the admin's own.
    pub(crate) fn record(
        &self,
        tx: &Tx<'_>,
        owner: UserId,
        action: &'static str,
        object: String,
        details: serde_json::Value,
    ) -> Result<(), Error> {
        let record = AuditRecord {
            action,
            object,
            outcome: "ok",
            details,
        };
        audit::insert(tx, &self.origin, owner, &record)?;
        match self.id.filter(|id| *id != owner) {
            Some(own) => audit::insert(tx, &self.origin, own, &record),
            None => Ok(()),
        }
    }

    /// Into the admin's own alone: it concerns nobody else, or all alike. The console has none.
    pub(crate) fn record_own(
        &self,
        tx: &Tx<'_>,
        action: &'static str,
        object: String,
        details: serde_json::Value,
    ) -> Result<(), Error> {
        match self.id {
            Some(own) => self.record(tx, own, action, object, details),
            None => Ok(()),
        }
    }
}

impl Store {
    /// Looks an account up for an admin or the console.
    ///
    /// # Errors
    /// `NotFound` where there is none; `Forbidden` for anybody else.
    pub async fn user_supervised(
        &self,
        ctx: &UserExecutionContext,
        id: UserId,
    ) -> Result<Supervised<User>, Error> {
        require_admin(ctx)?;
        let base = self.base_limits();
        let read = move |c: &Connection| {
            // Who is leaving is not there any more.
            if leave::is_leaving(c, id)? {
                return Err(Error::NotFound);
            }
            user_by_id(c, id, &base)
        };
        Ok(Supervised::new(id, self.0.db.of_all().read(read).await?))
    }

    /// Makes an account for an admin.
    ///
    /// # Errors
    /// `NameTaken`; `IdempotencyKeyReused`; `Forbidden` for anybody but an admin.
    pub async fn user_create_by_admin(
        &self,
        ctx: &UserExecutionContext,
        new: NewUser,
        idempotency: Option<&Idempotency>,
    ) -> Result<Created<User>, Error> {
        let (by, admin) = (Admin::of(ctx)?, require(ctx, Right::Admin)?);
        let id = self.0.runtime.new_id(UserId::from_parts);
        let (base, key) = (self.base_limits(), idempotency.cloned());
        let work = move |tx: &mut Tx<'_>| {
            once(tx, admin, key.as_ref(), |tx| {
                let user = account::insert(tx, id, &new, &base)?;
                let details = json!({ "role": user.role, "plan": user.plan });
                by.record(tx, id, "user.create", id.to_string(), details)?;
                Ok(user)
            })
        };
        self.0.db.of_all().write(work).await
    }

    /// Changes an account. Disabling it ends its sessions and API keys for good, in the same
    /// transaction. The runs are the engine's to end.
    ///
    /// # Errors
    /// `Conflict` where nobody would be left to run the server; `Forbidden` for anybody but an
    /// admin or the console.
    pub async fn user_update(
        &self,
        ctx: &UserExecutionContext,
        user: &Supervised<User>,
        change: UpdateUser,
    ) -> Result<User, Error> {
        let (by, id, base) = (Admin::of(ctx)?, user.owner(), self.base_limits());
        let work = move |tx: &mut Tx<'_>| update(tx, &by, id, change, &base);
        self.0.db.of_all().write(work).await
    }

    /// Everybody's runs, newest first, without their content.
    ///
    /// # Errors
    /// `InvalidCursor`; `Forbidden` for anybody but an admin.
    pub async fn runs_of_all(
        &self,
        ctx: &UserExecutionContext,
        filter: RunFilter,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<AdminRun>, Error> {
        require_admin(ctx)?;
        let before = cursor.map(cursor::read).transpose()?;
        let before = before.unwrap_or(cursor::END);
        self.0
            .db
            .of_all()
            .read(move |c| page_of_runs(c, filter, limit, before))
            .await
    }

    /// Looks anybody's run up for an admin.
    ///
    /// # Errors
    /// `NotFound` where there is none; `Forbidden` for anybody but an admin.
    pub async fn run_supervised(
        &self,
        ctx: &UserExecutionContext,
        id: RunId,
    ) -> Result<Supervised<AdminRun>, Error> {
        require_admin(ctx)?;
        let run = self.0.db.of_all().read(move |c| find_run(c, id)).await?;
        Ok(Supervised::new(run.user_id, run))
    }

    /// Writes into both audits that an admin cancels a run.
    ///
    /// # Errors
    /// `Forbidden` for anybody but an admin.
    pub async fn audit_cancel(
        &self,
        ctx: &UserExecutionContext,
        run: &Supervised<AdminRun>,
    ) -> Result<(), Error> {
        let by = Admin::of(ctx)?;
        let (owner, object) = (run.owner(), run.id.to_string());
        let work = move |tx: &mut Tx<'_>| by.record(tx, owner, "run.cancel", object, json!({}));
        self.0.db.of_all().write(work).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use netra_context::{BackgroundKind, Principal, Rights, Runtime};
    use netra_protocol::account::Plan;

    use super::*;
    use crate::{Config, Entry, Fanout, NewKey};

    struct Nobody;

    impl Fanout for Nobody {
        fn committed(&self, _: &[Arc<Entry>]) {}
    }

    async fn user(store: &Store, name: &str, role: Role) -> UserExecutionContext {
        let runtime = &store.0.runtime;
        let console = UserExecutionContext::for_background(runtime, BackgroundKind::Console);
        let new = NewUser {
            name: name.into(),
            role,
            plan: Plan::Free,
            password_hash: None,
        };
        let user = store.user_create(&console, new).await.unwrap();
        let principal = Principal {
            user_id: user.id,
            role,
            plan: user.plan,
            groups: user.groups.clone().into(),
            rights: Rights::of_role(role),
            limits: Arc::new(Limits::default()),
            session: None,
        };
        UserExecutionContext::for_test(runtime, principal)
    }

    async fn audited(store: &Store, ctx: &UserExecutionContext) -> Vec<(String, String)> {
        let user = ctx.user_id().unwrap();
        let read = move |connection: &Connection| {
            let mut statement =
                connection.prepare_cached("SELECT actor, action FROM audit WHERE user_id = ?1")?;
            let rows = statement.query_map([user.to_bytes()], |row| Ok((row.get(0)?, row.get(1)?)));
            Ok(rows?.collect::<Result<_, _>>()?)
        };
        store.0.db.of_all().read(read).await.unwrap()
    }

    #[tokio::test]
    async fn what_an_admin_changes_stands_in_both_audits_and_ends_keys() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::new();
        let config = Config {
            dir: dir.path().to_owned(),
            audit_key: crate::AuditKey::new([7; 32]),
            turn_wait: crate::TURN_WAIT,
        };
        let store = Store::open(&runtime, config, Arc::new(Nobody)).unwrap();
        let root = user(&store, "root", Role::Admin).await;
        let anna = user(&store, "anna", Role::User).await;
        let new = NewKey {
            name: "ci".into(),
            rights: Rights::of_role(Role::User),
            expires_at: None,
            hash: [7; 32],
        };
        store.key_create(&anna, new, None).await.unwrap();

        let id = anna.user_id().unwrap();
        assert!(matches!(
            store.user_supervised(&anna, id).await,
            Err(Error::Forbidden)
        ));
        let handle = store.user_supervised(&root, id).await.unwrap();
        let change = UpdateUser {
            disabled: Some(true),
            ..UpdateUser::default()
        };
        store.user_update(&root, &handle, change).await.unwrap();
        let actor = root.user_id().unwrap().to_string();
        let update = (actor, "user.update".to_owned());
        assert_eq!(audited(&store, &root).await, std::slice::from_ref(&update));
        let create = (id.to_string(), "key.create".to_owned());
        let mut of_anna = audited(&store, &anna).await;
        of_anna.sort_by_key(|(_, action)| action.clone());
        assert_eq!(of_anna, [create, update]);

        let sign_in =
            UserExecutionContext::for_background(&runtime, BackgroundKind::Authentication);
        assert!(
            store
                .key_by_hash(&sign_in, [7; 32])
                .await
                .unwrap()
                .is_none()
        );
    }
}
