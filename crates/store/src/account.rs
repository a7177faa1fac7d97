//! Users and their passwords.

use netra_context::{BackgroundKind, UserExecutionContext};
use netra_protocol::account::{Identity, Plan, Role, User};
use netra_protocol::id::UserId;
use netra_protocol::limits::{LimitOverrides, Limits};
use netra_protocol::{Page, Timestamp};

use crate::Store;
use crate::cursor;
use crate::error::Error;
use crate::owner::{require_admin, require_background};
use crate::session;
use crate::sql::{self, Connection, OptionalExtension as _, Row};
use crate::transaction::Tx;

const OPERATORS: &[BackgroundKind] = &[BackgroundKind::Authentication, BackgroundKind::Console];
/// What the limits of a user are made of stands in two places: those of the plan, and the user's own above them.
const COLUMNS: &str = "id, name, role, plan, disabled, created_at, password_hash, groups, limits,
     (SELECT p.limits FROM plans p WHERE p.plan = users.plan),
     (SELECT i.issuer FROM identities i WHERE i.user_id = users.id),
     (SELECT i.subject FROM identities i WHERE i.user_id = users.id)";

/// An account to be made.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The name to sign in with; unique without regard to case.
    pub name: String,
    /// What the user may do.
    pub role: Role,
    /// What the user has booked.
    pub plan: Plan,
    /// None for a user who cannot sign in by password.
    pub password_hash: Option<String>,
}

/// An account with what proves that somebody is it.
#[derive(Clone)]
pub struct Credentials {
    /// The account.
    pub user: User,
    /// None for a user who cannot sign in by password.
    pub password_hash: Option<String>,
}

fn limits(row: &Row<'_>, base: &Limits) -> sql::Result<Limits> {
    let read = |column: usize| -> sql::Result<LimitOverrides> {
        let text: Option<String> = row.get(column)?;
        text.map_or(Ok(LimitOverrides::default()), |text| {
            serde_json::from_str(&text).map_err(|_| sql::Error::unreadable("limit"))
        })
    };
    Ok(read(8)?.over(&read(9)?.over(base)))
}

fn identity(row: &Row<'_>) -> sql::Result<Option<Identity>> {
    let issuer: Option<String> = row.get(10)?;
    let subject: Option<String> = row.get(11)?;
    let both = issuer.zip(subject);
    Ok(both.map(|(issuer, subject)| Identity { issuer, subject }))
}

fn credentials(row: &Row<'_>, base: &Limits) -> sql::Result<Credentials> {
    let word = |index: usize| -> sql::Result<String> { row.get(index) };
    let unreadable = sql::Error::unreadable;
    Ok(Credentials {
        user: User {
            id: UserId::from_bytes(row.get(0)?),
            name: row.get(1)?,
            role: word(2)?.parse().map_err(|_| unreadable("role"))?,
            plan: word(3)?.parse().map_err(|_| unreadable("plan"))?,
            groups: serde_json::from_str(&word(7)?).map_err(|_| unreadable("list of groups"))?,
            disabled: row.get(4)?,
            created_at: Timestamp::from_micros(row.get(5)?),
            limits: limits(row, base)?,
            identity: identity(row)?,
        },
        password_hash: row.get(6)?,
    })
}

pub(crate) fn by_id(
    connection: &Connection,
    id: UserId,
    base: &Limits,
) -> Result<Credentials, Error> {
    let sql = format!("SELECT {COLUMNS} FROM users WHERE id = ?1");
    Ok(connection
        .prepare_cached(&sql)?
        .query_row([id.to_bytes()], |row| credentials(row, base))?)
}

/// The account, with the limits in force where `base` are those of the configuration.
pub(crate) fn user_by_id(
    connection: &Connection,
    id: UserId,
    base: &Limits,
) -> Result<User, Error> {
    Ok(by_id(connection, id, base)?.user)
}

pub(crate) fn insert(tx: &Tx<'_>, id: UserId, new: &NewUser, base: &Limits) -> Result<User, Error> {
    let sql = "INSERT INTO users (id, name, role, plan, password_hash, created_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (name) DO NOTHING";
    let changed = tx.execute(
        sql,
        (
            id.to_bytes(),
            &new.name,
            new.role.as_str(),
            new.plan.as_str(),
            &new.password_hash,
            tx.now().as_micros(),
        ),
    )?;
    if changed == 0 {
        Err(Error::NameTaken)
    } else {
        user_by_id(tx.connection(), id, base)
    }
}

fn has_admin(connection: &Connection) -> Result<bool, Error> {
    let sql = "SELECT EXISTS
               (SELECT 1 FROM users WHERE role = 'admin' AND password_hash IS NOT NULL)";
    Ok(connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))?)
}

impl Store {
    /// Makes an account. As `for_background(Authentication)` or `(Console)` only.
    ///
    /// # Errors
    /// `NameTaken`; `Forbidden` for anybody else.
    pub async fn user_create(
        &self,
        ctx: &UserExecutionContext,
        new: NewUser,
    ) -> Result<User, Error> {
        require_background(ctx, OPERATORS)?;
        let id = self.0.runtime.new_id(UserId::from_parts);
        let base = self.base_limits();
        self.0
            .db
            .of_all()
            .write(move |tx| insert(tx, id, &new, &base))
            .await
    }

    /// Makes the first admin, unless somebody can sign in as one already. As
    /// `for_background(Authentication)`.
    ///
    /// # Errors
    /// `Conflict` when there is one; `NameTaken`; `Forbidden` for anybody else.
    pub async fn user_create_first(
        &self,
        ctx: &UserExecutionContext,
        new: NewUser,
    ) -> Result<User, Error> {
        require_background(ctx, OPERATORS)?;
        let (id, base) = (
            self.0.runtime.new_id(UserId::from_parts),
            self.base_limits(),
        );
        let work = move |tx: &mut Tx<'_>| {
            if has_admin(tx.connection())? {
                return Err(Error::Conflict("the server has been set up"));
            }
            insert(tx, id, &new, &base)
        };
        self.0.db.of_all().write(work).await
    }

    /// Whether nobody can sign in as an admin yet. As `for_background(Authentication)` or
    /// `(Console)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else.
    pub async fn needs_setup(&self, ctx: &UserExecutionContext) -> Result<bool, Error> {
        require_background(ctx, OPERATORS)?;
        self.0
            .db
            .of_all()
            .read(|connection| Ok(!has_admin(connection)?))
            .await
    }

    /// The account of this name. As `for_background(Authentication)` or `(Console)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else.
    pub async fn user_by_name(
        &self,
        ctx: &UserExecutionContext,
        name: &str,
    ) -> Result<Option<Credentials>, Error> {
        require_background(ctx, OPERATORS)?;
        let (name, base) = (name.to_owned(), self.base_limits());
        let sql = format!("SELECT {COLUMNS} FROM users WHERE name = ?1");
        self.0
            .db
            .of_all()
            .read(move |c| {
                Ok(c.prepare_cached(&sql)?
                    .query_row([name], |row| credentials(row, &base))
                    .optional()?)
            })
            .await
    }

    /// The account of this id: one's own, or anyone's for the built-in principals.
    ///
    /// # Errors
    /// `NotFound` when there is none, or it is another's.
    pub async fn user_by_id(&self, ctx: &UserExecutionContext, id: UserId) -> Result<User, Error> {
        let all = [OPERATORS, &[BackgroundKind::Recovery]].concat();
        if ctx.user_id() != Some(id) && require_background(ctx, &all).is_err() {
            return Err(Error::NotFound);
        }
        let base = self.base_limits();
        self.0
            .db
            .of(id)
            .read(move |connection| user_by_id(connection, id, &base))
            .await
    }

    /// All accounts, oldest first, for admins and the console.
    ///
    /// # Errors
    /// `InvalidCursor`; `Forbidden` for anybody else.
    pub async fn users(
        &self,
        ctx: &UserExecutionContext,
        limit: u32,
        after: Option<&str>,
    ) -> Result<Page<User>, Error> {
        require_admin(ctx)?;
        let after: [u8; 16] = after.map(cursor::read).transpose()?.unwrap_or_default();
        let base = self.base_limits();
        let sql = format!(
            "SELECT {COLUMNS} FROM users WHERE id > ?1 AND NOT leaving ORDER BY id LIMIT ?2"
        );
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map((after, limit + 1), |row| credentials(row, &base))?;
            let mut items = rows
                .map(|row| Ok(row?.user))
                .collect::<Result<Vec<_>, Error>>()?;
            let next_cursor =
                cursor::next(&mut items, limit, |user| cursor::write(&user.id.to_bytes()));
            Ok(Page {
                items,
                next_cursor,
                as_of: None,
            })
        };
        self.0.db.of_all().read(read).await
    }

    /// Sets another password and revokes every session. As a built-in principal only.
    ///
    /// # Errors
    /// `NotFound` when there is no such account; `Forbidden` for anybody else.
    pub async fn password_set(
        &self,
        ctx: &UserExecutionContext,
        id: UserId,
        hash: String,
    ) -> Result<(), Error> {
        require_background(ctx, OPERATORS)?;
        let work = move |tx: &mut Tx<'_>| {
            let sql = "UPDATE users SET password_hash = ?2 WHERE id = ?1";
            if tx.execute(sql, (id.to_bytes(), hash))? == 0 {
                return Err(Error::NotFound);
            }
            session::revoke_all(tx, id).map(drop)
        };
        self.0.db.of(id).write(work).await
    }

    /// A value that belongs to the installation. As a built-in principal only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else.
    pub async fn meta_get(
        &self,
        ctx: &UserExecutionContext,
        key: &'static str,
    ) -> Result<Option<String>, Error> {
        require_background(ctx, OPERATORS)?;
        let sql = "SELECT value FROM meta WHERE key = ?1";
        self.0
            .db
            .of_all()
            .read(move |c| {
                Ok(c.prepare_cached(sql)?
                    .query_row([key], |row| row.get(0))
                    .optional()?)
            })
            .await
    }

    /// Sets a value that belongs to the installation, or takes it away. As a built-in principal.
    ///
    /// # Errors
    /// `Forbidden` for anybody else.
    pub async fn meta_set(
        &self,
        ctx: &UserExecutionContext,
        key: &'static str,
        value: Option<String>,
    ) -> Result<(), Error> {
        require_background(ctx, OPERATORS)?;
        let work = move |tx: &mut Tx<'_>| {
            match value {
                None => tx.execute("DELETE FROM meta WHERE key = ?1", [key])?,
                Some(value) => {
                    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2)
                               ON CONFLICT (key) DO UPDATE SET value = excluded.value";
                    tx.execute(sql, (key, value))?
                }
            };
            Ok(())
        };
        self.0.db.of_all().write(work).await
    }
}
