//! What is past its time goes: keys of repeated requests, ended sessions, uploads that broke off.

use std::fs::ReadDir;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use netra_context::{BackgroundKind, UserExecutionContext};
use netra_protocol::id::FileId;

use crate::error::Error;
use crate::file::{PART, removed};
use crate::idempotency::REMEMBERED_MS;
use crate::owner::require_background;
use crate::sql::Connection;
use crate::transaction::Tx;
use crate::{Store, departure};

/// How long an ended session is kept, so that a used token of it is still recognised: 30 days.
const SESSION_KEPT_MS: i64 = 30 * 24 * 3_600 * 1_000;
/// How long content that is being written, and so has no row, may stand still.
const CONTENT_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// How many entries of the content folder are looked at, asked for and removed at once.
const AT_ONCE: usize = 512;

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

/// Content that stood still for long, of one look at the folder.
#[derive(Default)]
struct Still {
    /// Whole, so that it may be recorded.
    whole: Vec<(FileId, PathBuf)>,
    /// What a writer has left behind that was killed.
    parts: Vec<PathBuf>,
}

/// Looks at the next entries of the content folder; none where there are no more.
fn next_still(entries: &mut ReadDir, now: SystemTime) -> Result<Option<Still>, Error> {
    let mut still = Still::default();
    let mut looked = 0;
    for entry in entries.take(AT_ONCE) {
        let entry = entry?;
        looked += 1;
        let modified = match entry.metadata().and_then(|metadata| metadata.modified()) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            modified => modified?,
        };
        if now.duration_since(modified).unwrap_or_default() <= CONTENT_KEPT {
            continue;
        }
        let name = entry.file_name();
        let name = name.to_string_lossy();
        match name.parse() {
            Ok(id) => still.whole.push((id, entry.path())),
            Err(_) if name.ends_with(PART) => still.parts.push(entry.path()),
            Err(_) => {}
        }
    }
    Ok((looked > 0).then_some(still))
}

/// All that is to be removed: its writer was killed before it was recorded, or it could not be removed with its row.
fn unseen(connection: &Connection, still: Still) -> Result<Vec<PathBuf>, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM files WHERE id = ?1)";
    let mut recorded = connection.prepare_cached(sql)?;
    let mut unseen = still.parts;
    for (id, path) in still.whole {
        if !recorded.query_row([id.to_bytes()], |row| row.get::<_, bool>(0))? {
            unseen.push(path);
        }
    }
    Ok(unseen)
}

fn remove(content: &[PathBuf]) -> Result<usize, Error> {
    let mut gone = 0;
    for path in content {
        gone += usize::from(removed(std::fs::remove_file(path))?);
    }
    Ok(gone)
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
        Ok(rows + self.sweep_content().await?)
    }

    /// Removes content that nobody can see, and returns how much. The disk is looked at and changed while no snapshot of
    /// the database is held: the write-ahead log could not begin anew for as long.
    async fn sweep_content(&self) -> Result<usize, Error> {
        let millis = Duration::from_millis(self.0.runtime.now().as_millis());
        let now = SystemTime::UNIX_EPOCH + millis;
        let dir = self.content_dir();
        let mut entries = self.on_disk(move || Ok(std::fs::read_dir(dir)?)).await?;
        let mut gone = 0;
        loop {
            let look = move || Ok((next_still(&mut entries, now)?, entries));
            let (still, rest) = self.on_disk(look).await?;
            let Some(still) = still else {
                return Ok(gone);
            };
            entries = rest;
            let unseen = self.0.db.of_all().read(move |c| unseen(c, still)).await?;
            gone += self.on_disk(move || remove(&unseen)).await?;
        }
    }

    /// Work that waits for the disk, and knows no database.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let done = self.0.runtime.spawn_blocking(work).await;
        done.map_err(|_| Error::Bug("a sweep panicked".into()))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_that_goes_away_while_it_is_swept_breaks_no_sweep_off() {
        let dir = tempfile::tempdir().unwrap();
        let [gone, there] = ["gone", "there"].map(|name| dir.path().join(name));
        std::fs::write(&there, "content").unwrap();
        assert_eq!(remove(&[gone, there.clone()]).unwrap(), 1);
        assert!(!there.exists());
    }
}
