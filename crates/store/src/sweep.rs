//! What is past its time goes: keys of repeated requests, ended sessions, uploads that broke off.

use std::time::{Duration, SystemTime};

use netra_context::{BackgroundKind, UserExecutionContext};

use crate::Store;
use crate::error::Error;
use crate::file::PART;
use crate::idempotency::REMEMBERED_MS;
use crate::owner::require_background;
use crate::transaction::Tx;

/// How long an ended session is kept, so that a used token of it is still recognised: 30 days.
const SESSION_KEPT_MS: i64 = 30 * 24 * 3_600 * 1_000;
/// How long content that is being written may stand still.
const UPLOAD_KEPT: Duration = Duration::from_secs(24 * 3_600);

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
    Ok(keys + sessions + links)
}

/// Removes content whose writer was killed; returns how many.
fn sweep_uploads(dir: &std::path::Path, now: SystemTime) -> std::io::Result<usize> {
    let mut removed = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let partial = entry.file_name().to_string_lossy().ends_with(PART);
        let age = now
            .duration_since(entry.metadata()?.modified()?)
            .unwrap_or_default();
        if partial && age > UPLOAD_KEPT {
            std::fs::remove_file(entry.path())?;
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
        let sweeping = self
            .0
            .runtime
            .spawn_blocking(move || sweep_uploads(&dir, SystemTime::UNIX_EPOCH + millis));
        let files = sweeping
            .await
            .map_err(|_| Error::Bug("a sweep panicked".into()))??;
        Ok(rows + files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_uploads_that_stood_still_for_a_day_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["fil_a", "fil_b.part"] {
            std::fs::write(dir.path().join(name), "content").unwrap();
        }
        let modified = std::fs::metadata(dir.path().join("fil_a"))
            .unwrap()
            .modified()
            .unwrap();
        let sweep = |age| sweep_uploads(dir.path(), modified + age).unwrap();
        assert_eq!(sweep(Duration::from_secs(3_600)), 0);
        assert_eq!(sweep(UPLOAD_KEPT * 2), 1);
        assert!(dir.path().join("fil_a").exists());
    }
}
