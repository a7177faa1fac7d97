//! Links that are good once: to set a new password, and to make an account by invitation. Only their hashes are kept.

use netra_context::{BackgroundKind, UserExecutionContext};
use netra_protocol::account::{Plan, Role, User};
use netra_protocol::admin::Invite;
use netra_protocol::id::{InviteId, UserId};
use netra_protocol::{Page, Timestamp};
use serde_json::json;

use crate::admin::Admin;
use crate::error::Error;
use crate::handle::Supervised;
use crate::idempotency::{Created, Idempotency, once};
use crate::owner::{require_admin, require_background};
use crate::sql::{Connection, OptionalExtension as _, Row};
use crate::transaction::Tx;
use crate::{NewUser, Store, account, audit, cursor, session};

/// Why a link to a new password is refused.
pub const NO_PASSWORD_HERE: &str =
    "this user is signed in by somebody else and has no password here";

const AUTHENTICATION: &[BackgroundKind] = &[BackgroundKind::Authentication];
const COLUMNS: &str = "id, role, plan, created_at, expires_at";
/// The most invitations that wait to be taken.
const MOST_INVITES: u32 = 10_000;

/// A link to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewLink {
    /// The hash of what it carries.
    pub hash: [u8; 32],
    /// When it ends.
    pub expires_at: Timestamp,
}

fn invite(row: &Row<'_>) -> Result<Invite, Error> {
    let word = |column| -> Result<String, Error> { Ok(row.get(column)?) };
    let corrupt = || Error::corrupt("invitation");
    Ok(Invite {
        id: InviteId::from_bytes(row.get(0)?),
        role: word(1)?.parse().map_err(|_| corrupt())?,
        plan: word(2)?.parse().map_err(|_| corrupt())?,
        created_at: Timestamp::from_micros(row.get(3)?),
        expires_at: Timestamp::from_micros(row.get(4)?),
        link: None,
    })
}

fn forget_ended(tx: &Tx<'_>) -> Result<(), Error> {
    let sql = "DELETE FROM links WHERE expires_at <= ?1";
    tx.execute(sql, [tx.now().as_micros()])?;
    Ok(())
}

/// Whose password a link resets; it is used up.
fn take_reset(tx: &Tx<'_>, hash: [u8; 32]) -> Result<Option<UserId>, Error> {
    let sql = "DELETE FROM links WHERE hash = ?1 AND kind = 'reset' AND expires_at > ?2
               RETURNING user_id";
    let taken: Option<[u8; 16]> = tx
        .prepare(sql)?
        .query_row((hash, tx.now().as_micros()), |row| row.get(0))
        .optional()?;
    Ok(taken.map(UserId::from_bytes))
}

fn take_invite(tx: &Tx<'_>, hash: [u8; 32]) -> Result<Option<Invite>, Error> {
    let sql = format!(
        "DELETE FROM links WHERE hash = ?1 AND kind = 'invite' AND expires_at > ?2
         RETURNING {COLUMNS}"
    );
    let mut statement = tx.prepare(&sql)?;
    let mut rows = statement.query((hash, tx.now().as_micros()))?;
    rows.next()?.map(|row| invite(&row)).transpose()
}

fn set_password(
    tx: &Tx<'_>,
    origin: &audit::Origin,
    id: UserId,
    password_hash: &str,
) -> Result<(), Error> {
    let sql = "UPDATE users SET password_hash = ?2 WHERE id = ?1 AND NOT disabled";
    if tx.execute(sql, (id.to_bytes(), password_hash))? == 0 {
        return Err(Error::NotFound);
    }
    session::revoke_all(tx, id)?;
    let record = audit::AuditRecord {
        action: "password.reset",
        object: id.to_string(),
        outcome: "ok",
        details: json!({}),
    };
    audit::insert(tx, origin, id, &record)
}

fn insert_invite(
    tx: &mut Tx<'_>,
    by: &Admin,
    invite: Invite,
    hash: [u8; 32],
) -> Result<Invite, Error> {
    forget_ended(tx)?;
    let sql = "SELECT count(*) FROM links WHERE kind = 'invite'";
    let waiting: u32 = tx.prepare(sql)?.query_row([], |row| row.get(0))?;
    if waiting >= MOST_INVITES {
        return Err(Error::Conflict(
            "too many invitations wait to be taken: take some back first",
        ));
    }
    tx.execute(
        "INSERT INTO links (id, hash, kind, role, plan, created_at, expires_at)
         VALUES (?1, ?2, 'invite', ?3, ?4, ?5, ?6)",
        (
            invite.id.to_bytes(),
            hash,
            invite.role.as_str(),
            invite.plan.as_str(),
            invite.created_at.as_micros(),
            invite.expires_at.as_micros(),
        ),
    )?;
    let details =
        json!({ "role": invite.role, "plan": invite.plan, "expires_at": invite.expires_at });
    by.record_own(tx, "invite.create", invite.id.to_string(), details)?;
    Ok(invite)
}

impl Store {
    /// Makes a link by which the user can set a new password; those of before are no longer good.
    ///
    /// # Errors
    /// `Conflict` where the user is known elsewhere and signs in there; `Forbidden` for anybody but an admin or the
    /// console.
    pub async fn reset_link_create(
        &self,
        ctx: &UserExecutionContext,
        user: &Supervised<User>,
        new: NewLink,
    ) -> Result<(), Error> {
        let (by, owner) = (Admin::of(ctx)?, user.owner());
        if user.identity.is_some() {
            return Err(Error::Conflict(NO_PASSWORD_HERE));
        }
        let id = self.0.runtime.new_id(InviteId::from_parts);
        let work = move |tx: &mut Tx<'_>| {
            forget_ended(tx)?;
            tx.execute("DELETE FROM links WHERE user_id = ?1", [owner.to_bytes()])?;
            tx.execute(
                "INSERT INTO links (id, hash, kind, user_id, created_at, expires_at)
                 VALUES (?1, ?2, 'reset', ?3, ?4, ?5)",
                (
                    id.to_bytes(),
                    new.hash,
                    owner.to_bytes(),
                    tx.now().as_micros(),
                    new.expires_at.as_micros(),
                ),
            )?;
            let details = json!({ "expires_at": new.expires_at });
            by.record(tx, owner, "user.reset_link", owner.to_string(), details)
        };
        self.0.db.of_all().write(work).await
    }

    /// Whether a link of this hash can still set a password: asked before a new one is hashed, which takes time. As
    /// `for_background(Authentication)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else.
    pub async fn reset_link_is_good(
        &self,
        ctx: &UserExecutionContext,
        hash: [u8; 32],
    ) -> Result<bool, Error> {
        require_background(ctx, AUTHENTICATION)?;
        let now = self.0.runtime.now().as_micros();
        let read = move |c: &Connection| {
            let sql = "SELECT EXISTS (SELECT 1 FROM links
                       WHERE hash = ?1 AND kind = 'reset' AND expires_at > ?2)";
            let mut statement = c.prepare_cached(sql)?;
            Ok(statement.query_row((hash, now), |row| row.get(0))?)
        };
        self.0.db.of_all().read(read).await
    }

    /// Sets a password by a link, which is then used up, and ends all of the user's sessions. Gives whose it is. As
    /// `for_background(Authentication)` only.
    ///
    /// # Errors
    /// `NotFound` where the link is not good, or its user is disabled; `Forbidden` for anybody else.
    pub async fn password_reset(
        &self,
        ctx: &UserExecutionContext,
        link: [u8; 32],
        password_hash: String,
    ) -> Result<UserId, Error> {
        require_background(ctx, AUTHENTICATION)?;
        let origin = audit::Origin::of(ctx);
        let work = move |tx: &mut Tx<'_>| {
            let user = take_reset(tx, link)?.ok_or(Error::NotFound)?;
            set_password(tx, &origin, user, &password_hash)?;
            Ok(user)
        };
        self.0.db.of_all().write(work).await
    }

    /// Makes an invitation.
    ///
    /// # Errors
    /// `Conflict` where too many wait; `IdempotencyKeyReused`; `Forbidden` for anybody but an admin or the console.
    pub async fn invite_create(
        &self,
        ctx: &UserExecutionContext,
        (role, plan): (Role, Plan),
        new: NewLink,
        idempotency: Option<&Idempotency>,
    ) -> Result<Created<Invite>, Error> {
        let (by, admin) = (Admin::of(ctx)?, ctx.user_id());
        let invite = Invite {
            id: self.0.runtime.new_id(InviteId::from_parts),
            role,
            plan,
            created_at: self.0.runtime.now(),
            expires_at: new.expires_at,
            link: None,
        };
        let key = idempotency.cloned();
        let work = move |tx: &mut Tx<'_>| {
            let create = |tx: &mut Tx<'_>| insert_invite(tx, &by, invite, new.hash);
            match admin {
                Some(admin) => once(tx, admin, key.as_ref(), create),
                // The console does what it is told as often as it is told.
                None => Ok(Created::fresh(create(tx)?)),
            }
        };
        self.0.db.of_all().write(work).await
    }

    /// Invitations that nobody has taken, newest first, for admins and the console.
    ///
    /// # Errors
    /// `InvalidCursor`; `Forbidden` for anybody else.
    pub async fn invites(
        &self,
        ctx: &UserExecutionContext,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<Invite>, Error> {
        require_admin(ctx)?;
        let before = cursor.map(cursor::read).transpose()?;
        let before: [u8; 16] = before.unwrap_or(cursor::END);
        let now = self.0.runtime.now().as_micros();
        let read = move |connection: &Connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM links WHERE kind = 'invite' AND id < ?1 AND expires_at > ?2
                 ORDER BY id DESC LIMIT ?3"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query((before, now, limit + 1))?;
            let mut items = Vec::new();
            while let Some(row) = rows.next()? {
                items.push(invite(&row)?);
            }
            let next_cursor =
                cursor::next(&mut items, limit, |last| cursor::write(&last.id.to_bytes()));
            Ok(Page {
                items,
                next_cursor,
                as_of: None,
            })
        };
        self.0.db.of_all().read(read).await
    }

    /// Takes an invitation back.
    ///
    /// # Errors
    /// `NotFound` where there is none, or it was taken; `Forbidden` for anybody but an admin or the console.
    pub async fn invite_delete(
        &self,
        ctx: &UserExecutionContext,
        id: InviteId,
    ) -> Result<(), Error> {
        let by = Admin::of(ctx)?;
        let work = move |tx: &mut Tx<'_>| {
            let sql = "DELETE FROM links WHERE id = ?1 AND kind = 'invite' AND expires_at > ?2";
            if tx.execute(sql, (id.to_bytes(), tx.now().as_micros()))? == 0 {
                return Err(Error::NotFound);
            }
            by.record_own(tx, "invite.delete", id.to_string(), json!({}))
        };
        self.0.db.of_all().write(work).await
    }

    /// Whether there is an invitation of this hash, for a user with whatever it promises. As
    /// `for_background(Authentication)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else.
    pub async fn invite_by_hash(
        &self,
        ctx: &UserExecutionContext,
        hash: [u8; 32],
    ) -> Result<Option<Invite>, Error> {
        require_background(ctx, AUTHENTICATION)?;
        let now = self.0.runtime.now().as_micros();
        let read = move |c: &Connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM links
                 WHERE hash = ?1 AND kind = 'invite' AND expires_at > ?2"
            );
            let mut statement = c.prepare_cached(&sql)?;
            let mut rows = statement.query((hash, now))?;
            rows.next()?.map(|row| invite(&row)).transpose()
        };
        self.0.db.of_all().read(read).await
    }

    /// Makes the account of whoever takes an invitation, which is then used up: role and plan are the invitation's. As
    /// `for_background(Authentication)` only.
    ///
    /// # Errors
    /// `NotFound` where the invitation is not good; `NameTaken`, and then it stays; `Forbidden` for anybody else.
    pub async fn user_create_invited(
        &self,
        ctx: &UserExecutionContext,
        link: [u8; 32],
        name: String,
        password_hash: String,
    ) -> Result<User, Error> {
        require_background(ctx, AUTHENTICATION)?;
        let id = self.0.runtime.new_id(UserId::from_parts);
        let (base, origin) = (self.base_limits(), audit::Origin::of(ctx));
        let work = move |tx: &mut Tx<'_>| {
            let invite = take_invite(tx, link)?.ok_or(Error::NotFound)?;
            let new = NewUser {
                name,
                role: invite.role,
                plan: invite.plan,
                password_hash: Some(password_hash),
            };
            let user = account::insert(tx, id, &new, &base)?;
            let record = audit::AuditRecord {
                action: "invite.take",
                object: invite.id.to_string(),
                outcome: "ok",
                details: json!({ "role": user.role, "plan": user.plan }),
            };
            audit::insert(tx, &origin, id, &record)?;
            Ok(user)
        };
        self.0.db.of_all().write(work).await
    }
}
