//! A user leaves: first the account can do nothing any more, then all that was the user's goes, piece by piece.
//!
//! Audit records stay. They hold no content and no names of people, and a chain that ends with `user.leave` shows what
//! was done in the name of an id that nobody has any more.

use netra_context::{BackgroundKind, Right, UserExecutionContext};
use netra_protocol::account::Role;
use netra_protocol::id::{FileId, UserId};
use serde_json::json;

use crate::account::by_id;
use crate::admin::has_other_admin;
use crate::audit::{self, AuditRecord, Origin};
use crate::error::Error;
use crate::file::removed;
use crate::owner::{require, require_background};
use crate::postgres::piece;
use crate::revoked::Revoked;
use crate::sql::Connection;
use crate::transaction::Tx;
use crate::{Store, departure, key, session};

/// Rows that go in one transaction: writers wait for it.
const BATCH: u32 = 2_000;

/// What is the user's, those that others point to last, each by an index. The user is `?1`, the size of a batch `?2`.
const OWNED: &[(&str, &str)] = &[
    (
        "refresh_tokens",
        "rowid IN (SELECT t.rowid FROM sessions s JOIN refresh_tokens t ON t.session_id = s.id
         WHERE s.user_id = ?1 LIMIT ?2)",
    ),
    (
        "sessions",
        "rowid IN (SELECT rowid FROM sessions WHERE user_id = ?1 LIMIT ?2)",
    ),
    (
        "api_keys",
        "rowid IN (SELECT rowid FROM api_keys WHERE user_id = ?1 LIMIT ?2)",
    ),
    (
        "events",
        "rowid IN (SELECT rowid FROM events WHERE user_id = ?1 LIMIT ?2)",
    ),
    (
        "journal",
        "rowid IN (SELECT j.rowid FROM runs r JOIN journal j ON j.run_id = r.id
         WHERE r.user_id = ?1 LIMIT ?2)",
    ),
    (
        "approvals",
        "rowid IN (SELECT rowid FROM approvals WHERE user_id = ?1 LIMIT ?2)",
    ),
    (
        "messages",
        "ord IN (SELECT m.ord FROM threads t JOIN messages m ON m.thread_id = t.id
         WHERE t.user_id = ?1 LIMIT ?2)",
    ),
    (
        "runs",
        "rowid IN (SELECT rowid FROM runs WHERE user_id = ?1 LIMIT ?2)",
    ),
    (
        "threads",
        "rowid IN (SELECT rowid FROM threads WHERE user_id = ?1 LIMIT ?2)",
    ),
    (
        "log_deletions",
        "rowid IN (SELECT rowid FROM log_deletions WHERE user_id = ?1 LIMIT ?2)",
    ),
    (
        "note_words",
        "rowid IN (SELECT ord FROM notes WHERE user_id = ?1) AND ?2",
    ),
    (
        "notes",
        "ord IN (SELECT ord FROM notes WHERE user_id = ?1 LIMIT ?2)",
    ),
    (
        "idempotency",
        "rowid IN (SELECT rowid FROM idempotency WHERE user_id = ?1 LIMIT ?2)",
    ),
    ("logs", "user_id = ?1 AND ?2"),
    ("secrets", "user_id = ?1 AND ?2"),
    ("tool_rates", "user_id = ?1 AND ?2"),
    ("usage_days", "user_id = ?1 AND ?2"),
    ("tool_usage", "user_id = ?1 AND ?2"),
    ("budgets", "user_id = ?1 AND ?2"),
    ("reservations", "user_id = ?1 AND ?2"),
    ("tool_servers", "user_id = ?1 AND ?2"),
    ("links", "user_id = ?1 AND ?2"),
    ("identities", "user_id = ?1 AND ?2"),
];

/// How far the deletion of a user has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing is left of the user but audit records.
    Gone,
    /// A run still goes on; again when it has ended.
    RunsGoOn,
}

/// Whether the user is about to go. `NotFound` where there is none.
pub(crate) fn is_leaving(connection: &Connection, id: UserId) -> Result<bool, Error> {
    let sql = "SELECT leaving FROM users WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([id.to_bytes()], |row| row.get(0))?)
}

fn leave(tx: &Tx<'_>, origin: &Origin, id: UserId) -> Result<(), Error> {
    let user = by_id(tx.connection(), id, &Default::default())?.user;
    if user.role == Role::Admin && !has_other_admin(tx, id)? {
        return Err(Error::Conflict("this is the last admin"));
    }
    if has_end_users(tx.connection(), id)? {
        return Err(Error::Conflict(
            "this account has end users, whom nobody could reach without it: they leave first",
        ));
    }
    tx.revoke(Revoked::User(id));
    session::revoke_all(tx, id)?;
    key::delete_all(tx, id)?;
    // Whoever is known elsewhere and comes back is somebody new, but for what the day has counted.
    if let Some(identity) = &user.identity {
        departure::keep(tx, id, identity)?;
    }
    tx.execute("DELETE FROM identities WHERE user_id = ?1", [id.to_bytes()])?;
    tx.execute(
        "UPDATE users SET leaving = TRUE, disabled = TRUE, role = 'user', password_hash = NULL,
         groups = '[]', limits = '{}', name = ?2 WHERE id = ?1",
        (id.to_bytes(), id.to_string()),
    )?;
    let record = AuditRecord {
        action: "user.leave",
        object: id.to_string(),
        outcome: "ok",
        details: json!({}),
    };
    audit::insert(tx, origin, id, &record)
}

/// Whether there are users whom service tokens of this one have made.
fn has_end_users(connection: &Connection, id: UserId) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM identities WHERE issuer = ?1)";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([id.to_string()], |row| row.get(0))?)
}

fn has_active_runs(connection: &Connection, id: UserId) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM runs
               WHERE user_id = ?1 AND status IN ('queued', 'running', 'waiting'))";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([id.to_bytes()], |row| row.get(0))?)
}

/// A piece of what is the user's; whether there may be more.
fn erase(tx: &Tx<'_>, id: UserId) -> Result<bool, Error> {
    for (table, rows) in OWNED {
        let sqlite = format!("DELETE FROM {table} WHERE {rows}");
        let sql = tx.connection().either(Some(sqlite), piece(table));
        if let Some(sql) = sql
            && tx.execute(&sql, (id.to_bytes(), BATCH))? > 0
        {
            return Ok(true);
        }
    }
    tx.execute(
        "DELETE FROM users WHERE id = ?1 AND leaving",
        [id.to_bytes()],
    )?;
    Ok(false)
}

/// Some of the user's files.
fn some_files(connection: &Connection, id: UserId) -> Result<Vec<FileId>, Error> {
    let sql = "SELECT id FROM files WHERE user_id = ?1 LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((id.to_bytes(), BATCH), |row| {
        Ok(FileId::from_bytes(row.get(0)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

impl Store {
    /// Takes the user's own account away: from the answer on it can do nothing, and its name is free.
    ///
    /// # Errors
    /// `Conflict` where nobody would be left to run the server; `Forbidden` without the right over the account.
    pub async fn user_leave(&self, ctx: &UserExecutionContext) -> Result<(), Error> {
        let id = require(ctx, Right::Account)?;
        let origin = Origin::of(ctx);
        self.0
            .db
            .of_all()
            .write(move |tx| leave(tx, &origin, id))
            .await
    }

    /// Users who have left and of whom something is still there. As `for_background(Sweep)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else.
    pub async fn users_leaving(&self, ctx: &UserExecutionContext) -> Result<Vec<UserId>, Error> {
        require_background(ctx, &[BackgroundKind::Sweep])?;
        let read = move |connection: &Connection| {
            let sql = "SELECT id FROM users WHERE leaving LIMIT 100";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| Ok(UserId::from_bytes(row.get(0)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        self.0.db.of_all().read(read).await
    }

    /// Deletes all that is left of a user who has left, content of files too. As `for_background(Sweep)` or
    /// `(Authentication)` only.
    ///
    /// # Errors
    /// `NotFound` where there is no such user; `Conflict` where the user has not left; `Unavailable` where content cannot
    /// be removed: what is left is found again by `users_leaving`; `Forbidden` for anybody else.
    pub async fn user_erase(&self, ctx: &UserExecutionContext, id: UserId) -> Result<Left, Error> {
        require_background(
            ctx,
            &[BackgroundKind::Sweep, BackgroundKind::Authentication],
        )?;
        let check = move |c: &Connection| Ok((is_leaving(c, id)?, has_active_runs(c, id)?));
        match self.0.db.of_all().read(check).await? {
            (false, _) => return Err(Error::Conflict("this user has not left")),
            (true, true) => return Ok(Left::RunsGoOn),
            (true, false) => {}
        }
        loop {
            let files = self.0.db.of_all().read(move |c| some_files(c, id)).await?;
            if files.is_empty() {
                break;
            }
            // Content before its rows: what could not be removed is still known when it is tried again.
            self.remove_content(&files).await?;
            let forget = move |tx: &mut Tx<'_>| {
                let sql = "DELETE FROM files WHERE id = ?1 AND user_id = ?2";
                let gone = files
                    .iter()
                    .map(|file| tx.execute(sql, (file.to_bytes(), id.to_bytes())));
                gone.sum::<Result<usize, _>>()
            };
            self.0.db.of_all().write(forget).await?;
        }
        while self.0.db.of_all().write(move |tx| erase(tx, id)).await? {}
        Ok(Left::Gone)
    }

    /// Removes the content of files, for good when it returns.
    async fn remove_content(&self, files: &[FileId]) -> Result<(), Error> {
        for file in files {
            removed(tokio::fs::remove_file(self.content_path(*file)).await)?;
        }
        let folder = tokio::fs::File::open(self.content_dir()).await?;
        Ok(folder.sync_all().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What has a user and is not deleted row by row above: the audit stays, and files go with their content.
    const OTHERWISE: [&str; 3] = ["audit", "audit_heads", "files"];

    /// What is written with a row of a run that has not ended, or of a session, a thread or a note that is there, and so
    /// for nobody who is gone; the audit is written about those too.
    const WITH_ANOTHER: [&str; 13] = [
        "approvals",
        "audit",
        "audit_heads",
        "budgets",
        "events",
        "journal",
        "log_deletions",
        "logs",
        "messages",
        "reservations",
        "tool_rates",
        "tool_usage",
        "usage_days",
    ];

    #[test]
    fn a_row_for_a_user_who_is_gone_or_disabled_is_refused_in_every_table_with_a_user() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("netra.db");
        crate::sqlite::migrate_file(&path).unwrap();
        let connection = rusqlite::Connection::open(&path).unwrap();
        let sql = "INSERT INTO users (id, name, role, plan, disabled, created_at)
                   VALUES (?1, 'x', 'user', 'free', 1, 0)";
        let disabled = UserId::from_parts(1, 1);
        connection.execute(sql, [disabled.to_bytes()]).unwrap();
        for table in tables_with_a_user(&connection) {
            if WITH_ANOTHER.contains(&table.as_str()) {
                continue;
            }
            for user in [disabled, UserId::from_parts(1, 2)] {
                // A link to a new password may be made for who is disabled and comes back.
                if table == "links" && user == disabled {
                    continue;
                }
                let sql = format!("INSERT INTO {table} (user_id) VALUES (?1)");
                let refused = connection.execute(&sql, [user.to_bytes()]).unwrap_err();
                let refused = Error::from(refused);
                assert!(matches!(refused, Error::Forbidden), "{table}: {refused}");
            }
        }
    }

    fn tables_with_a_user(connection: &rusqlite::Connection) -> Vec<String> {
        let sql = "SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c
                   WHERE m.type = 'table' AND c.name = 'user_id'";
        let mut statement = connection.prepare(sql).unwrap();
        let tables = statement.query_map([], |row| row.get(0)).unwrap();
        tables.map(Result::unwrap).collect()
    }

    #[test]
    fn every_table_with_a_user_is_thought_of_and_every_statement_fits_the_schema() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("netra.db");
        crate::sqlite::migrate_file(&path).unwrap();
        let connection = crate::sqlite::open_to_read(&path).unwrap();
        let mut known = OWNED.iter().map(|(table, _)| *table).chain(OTHERWISE);
        for table in tables_with_a_user(&connection) {
            assert!(
                known.clone().any(|one| one == table),
                "what becomes of {table}?"
            );
        }
        assert!(known.any(|one| one == "events"));
        for (table, rows) in OWNED {
            let count = format!("SELECT count(*) FROM {table} WHERE {rows}");
            let user = UserId::from_parts(1, 1).to_bytes();
            let counted: u32 = connection
                .query_row(&count, (user, BATCH), |row| row.get(0))
                .unwrap();
            assert_eq!(counted, 0, "{table}");
        }
    }
}
