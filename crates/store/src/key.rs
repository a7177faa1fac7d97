//! API keys: shown once, kept as keyed hashes, deleted when they are revoked.

use netra_context::{BackgroundKind, Right, Rights, UserExecutionContext};
use netra_protocol::account::{Key, User};
use netra_protocol::id::{KeyId, UserId};
use netra_protocol::limits::Limits;
use netra_protocol::{Page, Timestamp};
use serde_json::json;

use crate::Store;
use crate::account::user_by_id;
use crate::audit::{self, AuditRecord, Origin};
use crate::error::Error;
use crate::handle::Writable;
use crate::idempotency::{Created, Idempotency, once};
use crate::listing::Listing;
use crate::lookup::Lookup;
use crate::owner::{require, require_background};
use crate::revoked::Revoked;
use crate::sql::{self, Connection, Row};
use crate::transaction::Tx;

const COLUMNS: &str = "id, name, rights, created_at, expires_at, last_used_at";
/// The most keys of one user.
const MOST: u32 = 100;
const AUTHENTICATION: &[BackgroundKind] = &[BackgroundKind::Authentication];

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// For people.
    pub name: String,
    /// What it may do: no more than its maker.
    pub rights: Rights,
    /// When it ends; none for never.
    pub expires_at: Option<Timestamp>,
    /// The keyed hash of its secret.
    pub hash: [u8; 32],
}

/// Who a key stands for, as the database describes both now.
#[derive(Debug, Clone)]
pub struct KeyOwner {
    /// The key.
    pub key: KeyId,
    /// Whose it is.
    pub user: User,
    /// Its scopes. What it may do is no more than what its user may do.
    pub rights: Rights,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was last used.
    pub last_used_at: Option<Timestamp>,
}

fn time(row: &Row<'_>, column: usize) -> sql::Result<Option<Timestamp>> {
    let micros: Option<i64> = row.get(column)?;
    Ok(micros.map(Timestamp::from_micros))
}

fn key(row: &Row<'_>) -> Result<Key, Error> {
    let names = Rights::from_bits(row.get(2)?).names();
    Ok(Key {
        id: KeyId::from_bytes(row.get(0)?),
        name: row.get(1)?,
        scopes: names.map(str::to_owned).collect(),
        created_at: Timestamp::from_micros(row.get(3)?),
        expires_at: time(row, 4)?,
        last_used_at: time(row, 5)?,
        secret: None,
    })
}

fn find(connection: &Connection, user: UserId, id: KeyId) -> Result<Key, Error> {
    let sql = format!("SELECT {COLUMNS} FROM api_keys WHERE id = ?1 AND user_id = ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query((id.to_bytes(), user.to_bytes()))?;
    rows.next()?.map_or(Err(Error::NotFound), |row| key(&row))
}

fn insert(
    tx: &Tx<'_>,
    origin: &Origin,
    user: UserId,
    id: KeyId,
    new: &NewKey,
) -> Result<Key, Error> {
    let count: u32 = tx
        .prepare("SELECT count(*) FROM api_keys WHERE user_id = ?1")?
        .query_row([user.to_bytes()], |row| row.get(0))?;
    if count >= MOST {
        return Err(Error::Conflict(
            "a user has at most 100 API keys: revoke one first",
        ));
    }
    tx.execute(
        "INSERT INTO api_keys (id, user_id, name, hash, rights, created_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        (
            id.to_bytes(),
            user.to_bytes(),
            &new.name,
            new.hash,
            new.rights.bits(),
            tx.now().as_micros(),
            new.expires_at.map(Timestamp::as_micros),
        ),
    )?;
    let made = find(tx.connection(), user, id)?;
    let details = json!({ "scopes": made.scopes, "expires_at": made.expires_at });
    record(tx, origin, user, id, "key.create", details)?;
    Ok(made)
}

fn record(
    tx: &Tx<'_>,
    origin: &Origin,
    user: UserId,
    id: KeyId,
    action: &'static str,
    details: serde_json::Value,
) -> Result<(), Error> {
    let record = AuditRecord {
        action,
        object: id.to_string(),
        outcome: "ok",
        details,
    };
    audit::insert(tx, origin, user, &record)
}

/// Ends every key of a user.
pub(crate) fn delete_all(tx: &Tx<'_>, user: UserId) -> Result<(), Error> {
    tx.execute("DELETE FROM api_keys WHERE user_id = ?1", [user.to_bytes()])?;
    Ok(())
}

fn owner(
    connection: &Connection,
    column: &'static str,
    value: &[u8],
    base: &Limits,
) -> Result<Option<KeyOwner>, Error> {
    let sql = format!(
        "SELECT id, user_id, rights, expires_at, last_used_at FROM api_keys WHERE {column} = ?1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([value])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    Ok(Some(KeyOwner {
        key: KeyId::from_bytes(row.get(0)?),
        user: user_by_id(connection, UserId::from_bytes(row.get(1)?), base)?,
        rights: Rights::from_bits(row.get(2)?),
        expires_at: time(&row, 3)?,
        last_used_at: time(&row, 4)?,
    }))
}

impl Store {
    /// Makes a key of the context's user. What the idempotency key remembers has no secret in it.
    ///
    /// # Errors
    /// `Forbidden` without the right over the account, or where the key would have a right that
    /// its maker lacks; `Conflict` where there are too many; `IdempotencyKeyReused`.
    pub async fn key_create(
        &self,
        ctx: &UserExecutionContext,
        new: NewKey,
        idempotency: Option<&Idempotency>,
    ) -> Result<Created<Key>, Error> {
        let user = require(ctx, Right::Account)?;
        if !new.rights.is_within(ctx.rights()) {
            return Err(Error::Forbidden);
        }
        let id = self.0.runtime.new_id(KeyId::from_parts);
        let (origin, once_only) = (Origin::of(ctx), idempotency.cloned());
        let work = move |tx: &mut Tx<'_>| {
            once(tx, user, once_only.as_ref(), |tx| {
                insert(tx, &origin, user, id, &new)
            })
        };
        self.0.db.of(user).write(work).await
    }

    /// The user's keys, newest first, those past their end too.
    ///
    /// # Errors
    /// `InvalidCursor`; `Forbidden` without the right over the account.
    pub async fn keys(
        &self,
        ctx: &UserExecutionContext,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<Key>, Error> {
        let user = require(ctx, Right::Account)?;
        let listing = Listing {
            table: "api_keys",
            columns: COLUMNS,
            read: key,
            id: |one: &Key| one.id.to_bytes(),
        };
        listing.newest_of(self, user, limit, cursor).await
    }

    /// Looks a key up, to be revoked.
    pub fn key<'a>(&'a self, ctx: &'a UserExecutionContext, id: KeyId) -> Lookup<'a, Key, KeyId> {
        let find_one = |_: &Store, connection: &Connection, user, id| find(connection, user, id);
        Lookup::new(self, ctx, id, Right::Account, find_one)
    }

    /// Revokes a key for good.
    ///
    /// # Errors
    /// `NotFound` where it was revoked meanwhile.
    pub async fn key_delete(
        &self,
        ctx: &UserExecutionContext,
        handle: &Writable<Key>,
    ) -> Result<(), Error> {
        let (user, id, origin) = (handle.owner(), handle.id, Origin::of(ctx));
        let work = move |tx: &mut Tx<'_>| {
            let sql = "DELETE FROM api_keys WHERE id = ?1 AND user_id = ?2";
            if tx.execute(sql, (id.to_bytes(), user.to_bytes()))? == 0 {
                return Err(Error::NotFound);
            }
            tx.revoke(Revoked::Key(id));
            record(tx, &origin, user, id, "key.delete", json!({}))
        };
        self.0.db.of(user).write(work).await
    }

    /// Who the key of this hash stands for. The look-up by the hash is by an index over keyed
    /// hashes, so its duration tells nothing of any secret. As `for_background(Authentication)`.
    ///
    /// # Errors
    /// `Forbidden` for anybody else.
    pub async fn key_by_hash(
        &self,
        ctx: &UserExecutionContext,
        hash: [u8; 32],
    ) -> Result<Option<KeyOwner>, Error> {
        require_background(ctx, AUTHENTICATION)?;
        let base = self.base_limits();
        let read = move |c: &Connection| owner(c, "hash", &hash, &base);
        self.0.db.of_all().read(read).await
    }

    /// Who a key stands for that was verified before. As `for_background(Authentication)`.
    ///
    /// # Errors
    /// `Forbidden` for anybody else.
    pub async fn key_by_id(
        &self,
        ctx: &UserExecutionContext,
        id: KeyId,
    ) -> Result<Option<KeyOwner>, Error> {
        require_background(ctx, AUTHENTICATION)?;
        let base = self.base_limits();
        let read = move |c: &Connection| owner(c, "id", &id.to_bytes(), &base);
        self.0.db.of_all().read(read).await
    }

    /// Notes that a key is used now. As `for_background(Authentication)`.
    ///
    /// # Errors
    /// `Forbidden` for anybody else.
    pub async fn key_used(&self, ctx: &UserExecutionContext, id: KeyId) -> Result<(), Error> {
        require_background(ctx, AUTHENTICATION)?;
        let work = move |tx: &mut Tx<'_>| {
            tx.execute(
                "UPDATE api_keys SET last_used_at = ?2 WHERE id = ?1",
                (id.to_bytes(), tx.now().as_micros()),
            )?;
            Ok(())
        };
        self.0.db.of_all().write(work).await
    }
}
