//! Sign-ins and their rotating refresh tokens.

use netra_context::{BackgroundKind, Right, UserExecutionContext};
use netra_protocol::Timestamp;
use netra_protocol::account::{Session, User};
use netra_protocol::id::{SessionId, UserId};
use netra_protocol::limits::Limits;

use crate::Store;
use crate::account::user_by_id;
use crate::error::Error;
use crate::owner::{require, require_background};
use crate::revoked::Revoked;
use crate::sql::{Connection, OptionalExtension as _};
use crate::transaction::Tx;

const AUTHENTICATION: &[BackgroundKind] =
    &[BackgroundKind::Authentication, BackgroundKind::Console];

fn insert_token(tx: &Tx<'_>, session: SessionId, hash: [u8; 32]) -> Result<(), Error> {
    tx.put(
        "INSERT INTO refresh_tokens (hash, session_id) VALUES (?1, ?2)",
        (hash, session.to_bytes()),
    )?;
    Ok(())
}

fn revoke(tx: &Tx<'_>, session: SessionId) -> Result<usize, Error> {
    tx.revoke(Revoked::Session(session));
    tx.execute(
        "UPDATE sessions SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL",
        (session.to_bytes(), tx.now().as_micros()),
    )
}

/// Ends every session of a user, and says which.
pub(crate) fn revoke_all(tx: &Tx<'_>, user: UserId) -> Result<Vec<SessionId>, Error> {
    let mut statement = tx.connection().prepare_cached(
        "UPDATE sessions SET revoked_at = ?2 WHERE user_id = ?1 AND revoked_at IS NULL RETURNING id",
    )?;
    let ended = statement.query_map((user.to_bytes(), tx.now().as_micros()), |row| {
        Ok(SessionId::from_bytes(row.get(0)?))
    })?;
    let ended: Vec<SessionId> = ended.collect::<Result<_, _>>()?;
    for session in &ended {
        tx.revoke(Revoked::Session(*session));
    }
    Ok(ended)
}

/// The owner of a session that is neither revoked nor past its end.
fn live_owner(
    connection: &Connection,
    session: SessionId,
    now: Timestamp,
) -> Result<Option<UserId>, Error> {
    let sql = "SELECT user_id FROM sessions
               WHERE id = ?1 AND revoked_at IS NULL AND expires_at > ?2";
    let found: Option<[u8; 16]> = connection
        .prepare_cached(sql)?
        .query_row((session.to_bytes(), now.as_micros()), |row| row.get(0))
        .optional()?;
    Ok(found.map(UserId::from_bytes))
}

/// What became of a refresh token.
#[derive(Debug, Clone)]
pub enum Refreshed {
    /// It was traded for the next one.
    Rotated {
        /// Whose it is.
        user: Box<User>,
        /// The sign-in that goes on.
        session: SessionId,
    },
    /// It had been used before: the sign-in was revoked.
    Reused(SessionId),
    /// It is not good, or its sign-in or user is not.
    Unknown,
}

/// Trades a token for the next one. A token that was used before revokes its session.
fn rotate(
    tx: &Tx<'_>,
    old: [u8; 32],
    new: [u8; 32],
    expires_at: Timestamp,
    base: &Limits,
) -> Result<Refreshed, Error> {
    let found: Option<([u8; 16], Option<i64>)> = tx
        .prepare("SELECT session_id, used_at FROM refresh_tokens WHERE hash = ?1")?
        .query_row([old], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((session, used_at)) = found else {
        return Ok(Refreshed::Unknown);
    };
    let session = SessionId::from_bytes(session);
    if used_at.is_some() {
        revoke(tx, session)?;
        return Ok(Refreshed::Reused(session));
    }
    let Some(owner) = live_owner(tx.connection(), session, tx.now())? else {
        return Ok(Refreshed::Unknown);
    };
    let user = user_by_id(tx.connection(), owner, base)?;
    if user.disabled {
        return Ok(Refreshed::Unknown);
    }
    let now = tx.now().as_micros();
    tx.execute(
        "UPDATE refresh_tokens SET used_at = ?2 WHERE hash = ?1",
        (old, now),
    )?;
    insert_token(tx, session, new)?;
    tx.execute(
        "UPDATE sessions SET last_used_at = ?2, expires_at = ?3 WHERE id = ?1",
        (session.to_bytes(), now, expires_at.as_micros()),
    )?;
    Ok(Refreshed::Rotated {
        user: Box::new(user),
        session,
    })
}

impl Store {
    /// Begins a session. As `for_background(Authentication)` or `(Console)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else.
    pub async fn session_create(
        &self,
        ctx: &UserExecutionContext,
        user: UserId,
        refresh_hash: [u8; 32],
        expires_at: Timestamp,
    ) -> Result<SessionId, Error> {
        require_background(ctx, AUTHENTICATION)?;
        let id = self.0.runtime.new_id(SessionId::from_parts);
        let work = move |tx: &mut Tx<'_>| {
            let now = tx.now().as_micros();
            tx.execute(
                "INSERT INTO sessions (id, user_id, created_at, last_used_at, expires_at)
                 VALUES (?1, ?2, ?3, ?3, ?4)",
                (id.to_bytes(), user.to_bytes(), now, expires_at.as_micros()),
            )?;
            insert_token(tx, id, refresh_hash)?;
            Ok(id)
        };
        self.0.db.of(user).write(work).await
    }

    /// Trades a refresh token for the next one. Seeing a used token
    /// again revokes its session. As `for_background(Authentication)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else.
    pub async fn session_refresh(
        &self,
        ctx: &UserExecutionContext,
        old_hash: [u8; 32],
        new_hash: [u8; 32],
        expires_at: Timestamp,
    ) -> Result<Refreshed, Error> {
        require_background(ctx, AUTHENTICATION)?;
        let base = self.base_limits();
        self.0
            .db
            .of_all()
            .write(move |tx| rotate(tx, old_hash, new_hash, expires_at, &base))
            .await
    }

    /// The session that a refresh token belongs to, whether used or not. As
    /// `for_background(Authentication)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else.
    pub async fn session_of_token(
        &self,
        ctx: &UserExecutionContext,
        hash: [u8; 32],
    ) -> Result<Option<SessionId>, Error> {
        require_background(ctx, AUTHENTICATION)?;
        let sql = "SELECT session_id FROM refresh_tokens WHERE hash = ?1";
        let read = move |c: &Connection| {
            let found: Option<[u8; 16]> = c
                .prepare_cached(sql)?
                .query_row([hash], |row| row.get(0))
                .optional()?;
            Ok(found.map(SessionId::from_bytes))
        };
        self.0.db.of_all().read(read).await
    }

    /// Whether the session is neither revoked nor past its end. As
    /// `for_background(Authentication)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else.
    pub async fn session_alive(
        &self,
        ctx: &UserExecutionContext,
        session: SessionId,
    ) -> Result<bool, Error> {
        require_background(ctx, AUTHENTICATION)?;
        let now = self.0.runtime.now();
        self.0
            .db
            .of_all()
            .read(move |c| Ok(live_owner(c, session, now)?.is_some()))
            .await
    }

    /// When a session that is still good began. As `for_background(Authentication)` only.
    ///
    /// # Errors
    /// `NotFound` where there is none; `Forbidden` for anybody else.
    pub async fn session_began(
        &self,
        ctx: &UserExecutionContext,
        session: SessionId,
    ) -> Result<Timestamp, Error> {
        require_background(ctx, AUTHENTICATION)?;
        let read = move |c: &Connection| {
            let sql = "SELECT created_at FROM sessions WHERE id = ?1 AND revoked_at IS NULL";
            let mut statement = c.prepare_cached(sql)?;
            let began: i64 = statement.query_row([session.to_bytes()], |row| row.get(0))?;
            Ok(Timestamp::from_micros(began))
        };
        self.0.db.of_all().read(read).await
    }

    /// Ends a session: one's own, or any for `for_background(Authentication)`.
    ///
    /// # Errors
    /// `NotFound` when there is none, it has ended, or it is another's.
    pub async fn session_revoke(
        &self,
        ctx: &UserExecutionContext,
        session: SessionId,
    ) -> Result<(), Error> {
        let owner = match require_background(ctx, AUTHENTICATION) {
            Ok(()) => None,
            Err(_) => Some(require(ctx, Right::Account)?),
        };
        let work = move |tx: &mut Tx<'_>| {
            let found = live_owner(tx.connection(), session, tx.now())?.ok_or(Error::NotFound)?;
            if owner.is_some_and(|owner| owner != found) || revoke(tx, session)? == 0 {
                return Err(Error::NotFound);
            }
            Ok(())
        };
        self.0.db.of_all().write(work).await
    }

    /// Ends all of the user's own sessions, and says which.
    ///
    /// # Errors
    /// `Forbidden` without the right over the account.
    pub async fn sessions_revoke(
        &self,
        ctx: &UserExecutionContext,
    ) -> Result<Vec<SessionId>, Error> {
        let user = require(ctx, Right::Account)?;
        let work = move |tx: &mut Tx<'_>| revoke_all(tx, user);
        self.0.db.of(user).write(work).await
    }

    /// The user's own sessions that are still good, newest first.
    ///
    /// # Errors
    /// `Forbidden` without the right over the account.
    pub async fn sessions(&self, ctx: &UserExecutionContext) -> Result<Vec<Session>, Error> {
        let user = require(ctx, Right::Account)?;
        let current = ctx.principal().and_then(|principal| principal.session);
        let now = self.0.runtime.now();
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, created_at, last_used_at, expires_at FROM sessions
                 WHERE user_id = ?1 AND revoked_at IS NULL AND expires_at > ?2 ORDER BY id DESC",
            )?;
            let rows = statement.query_map((user.to_bytes(), now.as_micros()), |row| {
                let id = SessionId::from_bytes(row.get(0)?);
                Ok(Session {
                    id,
                    created_at: Timestamp::from_micros(row.get(1)?),
                    last_used_at: Timestamp::from_micros(row.get(2)?),
                    expires_at: Timestamp::from_micros(row.get(3)?),
                    current: current == Some(id),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        self.0.db.of(user).read(read).await
    }
}
