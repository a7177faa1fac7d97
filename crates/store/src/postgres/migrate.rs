//! Migrations by the role that owns the tables, and what the server's role must and must not be able to do.
//!
//! Several nodes may start at once: one of them migrates, the others wait for it.

use super::address::Address;
use super::scope;
use super::session::Session;
use crate::error::Error;
use crate::migration::{self, Migration};
use crate::sql::{Connection, OptionalExtension as _};

/// Every migration, in order. Only ever append.
const MIGRATIONS: &[Migration] = &[
    (
        "first",
        include_str!("../migrations/postgres/0001_first.sql"),
    ),
    (
        "departures",
        include_str!("../migrations/postgres/0002_departures.sql"),
    ),
    (
        "logins",
        include_str!("../migrations/postgres/0003_logins.sql"),
    ),
    (
        "tool_usage",
        include_str!("../migrations/postgres/0004_tool_usage.sql"),
    ),
    (
        "nodes",
        include_str!("../migrations/postgres/0005_nodes.sql"),
    ),
    (
        "queue",
        include_str!("../migrations/postgres/0006_queue.sql"),
    ),
];

/// Brings the schema up to date, as its owner, and lets the server's role work with it. Returns the version.
pub(super) fn up(owner: &Address, server: &Address) -> Result<u32, Error> {
    let session = Session::connect(owner)?;
    // The lock goes with the transaction, and so does what a broken migration has done.
    session.batch("BEGIN")?;
    scope::lock_schema(&session)?;
    // A migration may change what users have.
    session.batch("SET LOCAL netra.everybody = 'on'")?;
    let connection = Connection::Postgres(session);
    let version = migration::apply(&connection, MIGRATIONS)?;
    connection.batch(&grants(&server.user))?;
    connection.batch("COMMIT")?;
    Ok(version)
}

/// The server's role reads and changes rows, and nothing else. Parts of tables are reached through their tables only.
fn grants(role: &str) -> String {
    let role = role.replace('\'', "''");
    format!(
        "DO $netra$
         DECLARE
             one regclass;
         BEGIN
             FOR one IN SELECT oid FROM pg_class
                 WHERE relkind IN ('r', 'p') AND NOT relispartition AND relowner = current_user::regrole
                   AND relnamespace = current_schema()::regnamespace AND relname <> 'migrations'
             LOOP
                 EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %I', one, '{role}');
             END LOOP;
             EXECUTE format('GRANT SELECT ON migrations TO %I', '{role}');
         END
         $netra$"
    )
}

/// Refuses a schema that this program cannot work with, and a role that row-level security does not bind.
pub(super) fn check(connection: &Connection) -> Result<(), Error> {
    let known = migration::known(MIGRATIONS)?;
    let sql = "SELECT to_regclass('migrations') IS NOT NULL";
    let is_there: bool = connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))?;
    let found = if is_there {
        migration::found(connection)?
    } else {
        None
    };
    migration::refuse_newer(found, known)?;
    if found != Some(known) {
        return Err(Error::Migration(format!(
            "the database has schema version {}, this program needs {known}: name the role that owns the tables in \
             `database.owner_url`, and the server brings it up to date at its start",
            found.unwrap_or(0)
        )));
    }
    refuse_unbound(connection)
}

fn refuse_unbound(connection: &Connection) -> Result<(), Error> {
    let sql = "SELECT r.rolsuper OR r.rolbypassrls, pg_has_role(current_user, c.relowner, 'MEMBER')
               FROM pg_roles r, pg_class c
               WHERE r.rolname = current_user AND c.oid = to_regclass('events')";
    let found: Option<(bool, bool)> = connection
        .prepare_cached(sql)?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let why = match found {
        Some((false, false)) => return Ok(()),
        Some((true, _)) => "is a superuser, or passes by row-level security",
        Some((_, true)) => "owns the tables",
        None => "cannot see the tables",
    };
    Err(Error::Migration(format!(
        "the role of `database.url` {why}: a server connects as a role that is bound to one user's rows at a time"
    )))
}
