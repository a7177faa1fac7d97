//! What is past its time goes: keys of repeated requests, ended sessions, uploads that broke off.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime};

use netra_context::{BackgroundKind, UserExecutionContext};
use netra_protocol::id::FileId;

use crate::error::Error;
use crate::file::PART;
use crate::idempotency::REMEMBERED_MS;
use crate::owner::require_background;
use crate::sql::Connection;
use crate::transaction::Tx;
use crate::{Store, departure};

/// How long an ended session is kept, so that a used token of it is still recognised: 30 days.
const SESSION_KEPT_MS: i64 = 30 * 24 * 3_600 * 1_000;
/// How long content that is being written, and so has no row, may stand still.
const CONTENT_KEPT: Duration = Duration::from_secs(24 * 3_600);

fn sweep_rows(tx: &Tx<'_>) -> Result<usize, Error> {
    let before = |kept_ms: i64| tx.now().plus_millis(-kept_ms).as_micros();
    let keys = tx.execute(
        "DELETE FROM idempotency WHERE created_at < ?1",
        [before(REMEMBERED_MS)],
    )?;
    let ended = before(SESSION_KEPT_MS);
    let sessions = tx.execute(
        "DELETE FROM sessions WHERE expires_at < ?1 OR revoked_at < ?1",
        [ended],
    )?;
    if sessions > 0 {
        tx.execute(
            "DELETE FROM refresh_tokens WHERE session_id NOT IN (SELECT id FROM sessions)",
            [],
        )?;
    }
    let links = tx.execute(
        "DELETE FROM links WHERE expires_at < ?1",
        [tx.now().as_micros()],
    )?;
    Ok(keys + sessions + links + departure::sweep(tx)?)
}

/// Removes content that nobody can see: its writer was killed before it was recorded, or it could not be removed with
/// its row. Returns how many.
fn sweep_content(connection: &Connection, dir: &Path, now: SystemTime) -> Result<usize, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM files WHERE id = ?1)";
    let mut recorded = connection.prepare_cached(sql)?;
    let mut removed = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let modified = match entry.metadata().and_then(|metadata| metadata.modified()) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            modified => modified?,
        };
        if now.duration_since(modified).unwrap_or_default() <= CONTENT_KEPT {
            continue;
        }
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_left = match name.parse::<FileId>() {
            Ok(id) => !recorded.query_row([id.to_bytes()], |row| row.get::<_, bool>(0))?,
            Err(_) => name.ends_with(PART),
        };
        if is_left {
            match std::fs::remove_file(entry.path()) {
                // Whoever deletes it has been faster.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                outcome => outcome?,
            }
            removed += 1;
        }
    }
    Ok(removed)
}

impl Store {
    /// Deletes what is past its time and returns how many rows and files that were. As
    /// `for_background(Sweep)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else; `Unavailable`.
    pub async fn sweep(&self, ctx: &UserExecutionContext) -> Result<usize, Error> {
        require_background(ctx, &[BackgroundKind::Sweep])?;
        let rows = self.0.db.of_all().write(|tx| sweep_rows(tx)).await?;
        let dir = self.content_dir();
        let millis = Duration::from_millis(self.0.runtime.now().as_millis());
        let now = SystemTime::UNIX_EPOCH + millis;
        let sweep = move |c: &Connection| sweep_content(c, &dir, now);
        let files = self.0.db.of_all().read(sweep).await?;
        Ok(rows + files)
    }
}

#[cfg(test)]
mod tests {
    use netra_protocol::id::UserId;

    use super::*;

    #[test]
    fn content_that_nobody_can_see_is_removed_when_it_stood_still_for_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("netra.db");
        crate::sqlite::migrate_file(&path).unwrap();
        let database = rusqlite::Connection::open(&path).unwrap();
        let (user, file) = (UserId::from_parts(1, 1), |n| FileId::from_parts(1, n));
        database
            .execute(
                "INSERT INTO users (id, name, role, plan, created_at)
                 VALUES (?1, 'x', 'user', 'free', 0)",
                [user.to_bytes()],
            )
            .unwrap();
        database
            .execute(
                "INSERT INTO files (id, user_id, name, media_type, bytes, sha256, created_at)
                 VALUES (?1, ?2, '', '', 0, '', 0)",
                [file(1).to_bytes(), user.to_bytes()],
            )
            .unwrap();
        let connection = Connection::Sqlite(database);
        let content = dir.path().join("files");
        std::fs::create_dir(&content).unwrap();
        let (known, unseen) = (file(1).to_string(), file(2).to_string());
        let partial = format!("{}.part", file(3));
        for name in [&known, &unseen, &partial, "README"] {
            std::fs::write(content.join(name), "content").unwrap();
        }
        let modified = std::fs::metadata(content.join(&known)).unwrap();
        let modified = modified.modified().unwrap();
        let sweep = |age| sweep_content(&connection, &content, modified + age).unwrap();
        assert_eq!(sweep(Duration::from_secs(3_600)), 0);
        assert_eq!(sweep(CONTENT_KEPT * 2), 2);
        let there = |name: &str| content.join(name).exists();
        assert!(there(&known) && there("README"));
        assert!(!there(&unseen) && !there(&partial));
    }
}
