//! Folding: after a run has ended, the pieces of its messages go. The whole messages stay, so a
//! replay tells the same in fewer events.

use netra_context::{BackgroundKind, UserExecutionContext};

use crate::Store;
use crate::error::Error;
use crate::journal;
use crate::owner::require_background;
use crate::sql::Row;
use crate::transaction::Tx;

/// How long the pieces stay after a run's end, so that who follows it live sees it as it was.
const KEPT_MS: i64 = 60_000;
/// Runs that are folded in one transaction: writers wait for it.
const BATCH: u32 = 100;

struct Ended {
    run: [u8; 16],
    user: [u8; 16],
    after: u64,
    through: u64,
}

fn ended(tx: &Tx<'_>) -> Result<Vec<Ended>, Error> {
    let sql = "SELECT id, user_id, log_start, coalesce(log_end, log_start) FROM runs
               WHERE folded IS NULL AND ended_at IS NOT NULL AND ended_at < ?1
               ORDER BY ended_at LIMIT ?2";
    let read = |row: &Row<'_>| {
        Ok(Ended {
            run: row.get(0)?,
            user: row.get(1)?,
            after: row.get(2)?,
            through: row.get(3)?,
        })
    };
    let before = tx.now().plus_millis(-KEPT_MS).as_micros();
    let mut statement = tx.prepare(sql)?;
    let rows = statement.query_map((before, BATCH), read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Folds some ended runs: their pieces, and what they had done, which no attempt needs any more.
fn fold(tx: &Tx<'_>) -> Result<(usize, usize), Error> {
    let ended = ended(tx)?;
    let mut pieces = 0;
    for run in &ended {
        let folded = tx.execute(
            "DELETE FROM events WHERE user_id = ?1 AND seq > ?2 AND seq <= ?3 AND run_id = ?4
             AND type = 'message_delta'",
            (run.user, run.after, run.through, run.run),
        )?;
        journal::fold(tx, &run.run)?;
        tx.execute(
            "UPDATE runs SET folded = ?2 WHERE id = ?1",
            (run.run, folded),
        )?;
        pieces += folded;
    }
    Ok((ended.len(), pieces))
}

impl Store {
    /// Folds the runs that ended a minute ago or earlier, and returns how many pieces went. As
    /// `for_background(Sweep)` only. Between two batches other writers have their turn.
    ///
    /// # Errors
    /// `Forbidden` for anybody else; `Unavailable`.
    pub async fn fold(&self, ctx: &UserExecutionContext) -> Result<usize, Error> {
        require_background(ctx, &[BackgroundKind::Sweep])?;
        let mut pieces = 0;
        loop {
            let (runs, folded) = self.0.db.of_all().write(|tx| fold(tx)).await?;
            pieces += folded;
            if runs < BATCH as usize {
                return Ok(pieces);
            }
        }
    }
}
