//! The same request twice makes one object: one mechanism for everything that creates.

use netra_context::{Right, UserExecutionContext};
use netra_protocol::id::UserId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Store;
use crate::error::Error;
use crate::json;
use crate::owner::require;
use crate::sql::{Connection, OptionalExtension as _};
use crate::transaction::Tx;

/// How long a key is remembered, in milliseconds: 24 h.
pub(crate) const REMEMBERED_MS: i64 = 24 * 3_600 * 1_000;

/// A key that the client gave to a request that creates.
#[derive(Debug, Clone)]
pub struct Idempotency {
    /// The client's; at most 255 bytes.
    pub key: String,
    /// What is done, and to what: the same key serves one operation only.
    pub operation: String,
    /// SHA-256 of the request's body.
    pub body_hash: [u8; 32],
}

/// An object that a request made, now or when it came first.
#[derive(Debug, Clone)]
pub struct Created<T> {
    /// The object as it was then.
    pub value: T,
    /// Whether the request had come before.
    pub replayed: bool,
}

impl<T> Created<T> {
    pub(crate) fn fresh(value: T) -> Self {
        Self {
            value,
            replayed: false,
        }
    }
}

/// What the key stands for, if it was used.
pub(crate) fn find<T: DeserializeOwned>(
    connection: &Connection,
    user: UserId,
    wanted: &Idempotency,
    now_micros: i64,
) -> Result<Option<T>, Error> {
    let found: Option<(String, [u8; 32], String, i64)> = connection
        .prepare_cached(
            "SELECT operation, body_hash, answer, created_at FROM idempotency
             WHERE user_id = ?1 AND key = ?2",
        )?
        .query_row((user.to_bytes(), &wanted.key), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    let Some((operation, body_hash, answer, created_at)) = found else {
        return Ok(None);
    };
    if now_micros - created_at > REMEMBERED_MS * 1_000 {
        return Ok(None);
    }
    if operation != wanted.operation || body_hash != wanted.body_hash {
        return Err(Error::IdempotencyKeyReused);
    }
    Ok(Some(json::read(&answer)?))
}

/// Carries `create` out unless the key was used; remembers the object in the same transaction.
pub(crate) fn once<T: Serialize + DeserializeOwned>(
    tx: &mut Tx<'_>,
    user: UserId,
    key: Option<&Idempotency>,
    create: impl FnOnce(&mut Tx<'_>) -> Result<T, Error>,
) -> Result<Created<T>, Error> {
    let Some(key) = key else {
        return Ok(Created::fresh(create(tx)?));
    };
    if let Some(value) = find(tx.connection(), user, key, tx.now().as_micros())? {
        return Ok(Created {
            value,
            replayed: true,
        });
    }
    let value = create(tx)?;
    tx.put(
        "INSERT INTO idempotency
         (user_id, key, operation, body_hash, answer, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (user_id, key) DO UPDATE
         SET operation = excluded.operation, body_hash = excluded.body_hash,
             answer = excluded.answer, created_at = excluded.created_at",
        (
            user.to_bytes(),
            &key.key,
            &key.operation,
            key.body_hash,
            serde_json::to_string(&value)?,
            tx.now().as_micros(),
        ),
    )?;
    Ok(Created::fresh(value))
}

impl Store {
    /// What the key stands for, if it was used: the check before work begins. Whoever creates
    /// checks again in the creating transaction.
    ///
    /// # Errors
    /// `IdempotencyKeyReused` when the key was used with another request.
    pub async fn replayed<T: DeserializeOwned + Send + 'static>(
        &self,
        ctx: &UserExecutionContext,
        key: &Idempotency,
    ) -> Result<Option<T>, Error> {
        let user = require(ctx, Right::Read)?;
        let key = key.clone();
        let now = self.0.runtime.now().as_micros();
        self.0
            .db
            .of(user)
            .read(move |connection| find(connection, user, &key, now))
            .await
    }
}
