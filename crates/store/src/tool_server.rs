//! Tool servers that users have added for their own agents: where each answers, and the names of the secrets that it is
//! sent.

use std::collections::BTreeMap;

use netra_context::{Right, UserExecutionContext};
use netra_protocol::Timestamp;
use netra_protocol::id::UserId;
use netra_protocol::tool::SecretUse;
use serde_json::json;

use crate::Store;
use crate::audit::{self, AuditRecord, Origin};
use crate::error::Error;
use crate::handle::Writable;
use crate::lookup::Lookup;
use crate::owner::require;
use crate::sql::{Connection, OptionalExtension as _, Row};
use crate::transaction::Tx;

/// The most tool servers of one user.
pub const MAX_TOOL_SERVERS: u32 = 10;

const COLUMNS: &str = "name, url, headers, created_at, updated_at";

/// A tool server as its user has put it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserToolServer {
    /// Stands for it among the user's tool servers.
    pub name: String,
    /// Where it answers.
    pub url: String,
    /// Headers by name, each with the secret that is its value.
    pub headers: BTreeMap<String, SecretUse>,
    /// When the name came up.
    pub created_at: Timestamp,
    /// When it was put.
    pub updated_at: Timestamp,
}

/// A tool server to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToolServer {
    /// As in [`UserToolServer`].
    pub name: String,
    /// As in [`UserToolServer`].
    pub url: String,
    /// The host of the URL, for the audit: a URL may hold more than others are to know.
    pub host: String,
    /// As in [`UserToolServer`].
    pub headers: BTreeMap<String, SecretUse>,
}

fn server(row: &Row<'_>) -> Result<UserToolServer, Error> {
    Ok(UserToolServer {
        name: row.get(0)?,
        url: row.get(1)?,
        headers: serde_json::from_str(&row.get::<_, String>(2)?)?,
        created_at: Timestamp::from_micros(row.get(3)?),
        updated_at: Timestamp::from_micros(row.get(4)?),
    })
}

fn find(connection: &Connection, user: UserId, name: &str) -> Result<UserToolServer, Error> {
    let sql = format!("SELECT {COLUMNS} FROM tool_servers WHERE user_id = ?1 AND name = ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query((user.to_bytes(), name))?;
    rows.next()?
        .map_or(Err(Error::NotFound), |row| server(&row))
}

fn all(connection: &Connection, user: UserId) -> Result<Vec<UserToolServer>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM tool_servers WHERE user_id = ?1 ORDER BY name");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([user.to_bytes()])?;
    let mut servers = Vec::new();
    while let Some(row) = rows.next()? {
        servers.push(server(&row)?);
    }
    Ok(servers)
}

fn keep(
    tx: &Tx<'_>,
    origin: &Origin,
    user: UserId,
    new: &NewToolServer,
) -> Result<UserToolServer, Error> {
    let old = tx
        .prepare("SELECT updated_at FROM tool_servers WHERE user_id = ?1 AND name = ?2")?
        .query_row((user.to_bytes(), &new.name), |row| row.get::<_, i64>(0))
        .optional()?;
    // What is known of a server goes by when it was put: two times are never the same.
    let now = tx.now().as_micros().max(old.map_or(0, |old| old + 1));
    tx.execute(
        "INSERT INTO tool_servers (user_id, name, url, headers, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5)
         ON CONFLICT (user_id, name) DO UPDATE
         SET url = excluded.url, headers = excluded.headers, updated_at = excluded.updated_at",
        (
            user.to_bytes(),
            &new.name,
            &new.url,
            serde_json::to_string(&new.headers)?,
            now,
        ),
    )?;
    let sql = "SELECT count(*) FROM tool_servers WHERE user_id = ?1";
    let count: u32 = tx
        .prepare(sql)?
        .query_row([user.to_bytes()], |row| row.get(0))?;
    if count > MAX_TOOL_SERVERS {
        return Err(Error::Conflict(
            "a user has at most 10 tool servers: delete one first",
        ));
    }
    let secrets: Vec<&String> = new.headers.values().map(|one| &one.secret).collect();
    let record = AuditRecord {
        action: "tool_server.put",
        object: new.name.clone(),
        outcome: "ok",
        details: json!({ "host": new.host, "secrets": secrets }),
    };
    audit::insert(tx, origin, user, &record)?;
    find(tx.connection(), user, &new.name)
}

impl Store {
    /// Looks a tool server of the user up.
    pub fn tool_server<'a>(
        &'a self,
        ctx: &'a UserExecutionContext,
        name: String,
    ) -> Lookup<'a, UserToolServer, String> {
        let find =
            |_: &Store, connection: &Connection, user, name: String| find(connection, user, &name);
        Lookup::new(self, ctx, name, Right::Account, find)
    }

    /// All tool servers of the user, by name: for who looks, who changes them, and runs.
    ///
    /// # Errors
    /// `NotFound` where no user asks; `Forbidden` without any of these rights.
    pub async fn tool_servers(
        &self,
        ctx: &UserExecutionContext,
    ) -> Result<Vec<UserToolServer>, Error> {
        let user = require(ctx, Right::Read)
            .or_else(|_| require(ctx, Right::Account))
            .or_else(|_| require(ctx, Right::Run))?;
        self.0
            .db
            .of(user)
            .read(move |connection: &Connection| all(connection, user))
            .await
    }

    /// Keeps a tool server of the user, in place of the one that had the name.
    ///
    /// # Errors
    /// `Forbidden` without the right to the account; `Conflict` when the user has too many.
    pub async fn tool_server_put(
        &self,
        ctx: &UserExecutionContext,
        new: NewToolServer,
    ) -> Result<UserToolServer, Error> {
        let (user, origin) = (require(ctx, Right::Account)?, Origin::of(ctx));
        let work = move |tx: &mut Tx<'_>| keep(tx, &origin, user, &new);
        self.0.db.of(user).write(work).await
    }

    /// Deletes a tool server.
    ///
    /// # Errors
    /// `NotFound` where it was deleted meanwhile.
    pub async fn tool_server_delete(
        &self,
        ctx: &UserExecutionContext,
        handle: Writable<UserToolServer>,
    ) -> Result<(), Error> {
        let (user, origin) = (handle.owner(), Origin::of(ctx));
        let work = move |tx: &mut Tx<'_>| {
            let sql = "DELETE FROM tool_servers WHERE user_id = ?1 AND name = ?2";
            if tx.execute(sql, (user.to_bytes(), &handle.name))? == 0 {
                return Err(Error::NotFound);
            }
            let record = AuditRecord {
                action: "tool_server.delete",
                object: handle.name.clone(),
                outcome: "ok",
                details: json!({}),
            };
            audit::insert(tx, &origin, user, &record)
        };
        self.0.db.of(user).write(work).await
    }
}
