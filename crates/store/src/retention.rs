//! Retention: events that are older than the operator keeps them go, from the beginning of each
//! user's log. Nothing else moves that beginning.

use netra_context::{BackgroundKind, UserExecutionContext};
use netra_protocol::Timestamp;
use netra_protocol::id::UserId;

use crate::Store;
use crate::error::Error;
use crate::owner::require_background;
use crate::sql::OptionalExtension as _;
use crate::transaction::Tx;

/// Users whose logs are cut in one transaction: writers wait for it.
const BATCH: u32 = 20;

/// Notes what was deleted from a user's log: so many events, with numbers in this span.
pub(crate) fn note(
    tx: &Tx<'_>,
    user: UserId,
    (after_seq, through): (u64, u64),
    events: u64,
    reason: &'static str,
) -> Result<(), Error> {
    if events > 0 {
        tx.execute(
            "INSERT INTO log_deletions (user_id, after_seq, through, events, reason, deleted_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            (
                user.to_bytes(),
                after_seq,
                through,
                events,
                reason,
                tx.now().as_micros(),
            ),
        )?;
    }
    Ok(())
}

/// Users with a run that ended before, whose events may still be there.
fn users(tx: &Tx<'_>, ended_before: Timestamp, after: [u8; 16]) -> Result<Vec<UserId>, Error> {
    let sql = "SELECT user_id FROM logs WHERE user_id > ?2 AND EXISTS (
                 SELECT 1 FROM runs r WHERE r.user_id = logs.user_id
                   AND r.ended_at < ?1 AND r.log_end >= logs.oldest_seq)
               ORDER BY user_id LIMIT ?3";
    let mut statement = tx.prepare(sql)?;
    let rows = statement.query_map((ended_before.as_micros(), after, BATCH), |row| {
        Ok(UserId::from_bytes(row.get(0)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The last number before the first run that has to stay whole.
fn end_of_expired(tx: &Tx<'_>, user: UserId, ended_before: Timestamp) -> Result<u64, Error> {
    let kept: Option<u64> = tx
        .prepare(
            "SELECT min(log_start) FROM runs
             WHERE user_id = ?1 AND (ended_at IS NULL OR ended_at >= ?2)",
        )?
        .query_row((user.to_bytes(), ended_before.as_micros()), |row| {
            row.get(0)
        })
        .optional()?
        .flatten();
    match kept {
        Some(log_start) => Ok(log_start),
        None => tx.latest_seq(user),
    }
}

fn cut(tx: &Tx<'_>, user: UserId, ended_before: Timestamp) -> Result<usize, Error> {
    let through = end_of_expired(tx, user, ended_before)?;
    let deleted = tx.execute(
        "DELETE FROM events WHERE user_id = ?1 AND seq <= ?2",
        (user.to_bytes(), through),
    )?;
    tx.execute(
        "UPDATE logs SET oldest_seq = CASE WHEN oldest_seq < ?2 THEN ?2 ELSE oldest_seq END WHERE user_id = ?1",
        (user.to_bytes(), through + 1),
    )?;
    note(tx, user, (0, through), deleted as u64, "retention")?;
    Ok(deleted)
}

impl Store {
    /// Deletes the events of runs that ended before this time, as far as every event before them in
    /// their user's log goes too, and returns how many that were. As `for_background(Sweep)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else; `Unavailable`.
    pub async fn expire(
        &self,
        ctx: &UserExecutionContext,
        ended_before: Timestamp,
    ) -> Result<usize, Error> {
        require_background(ctx, &[BackgroundKind::Sweep])?;
        let (mut deleted, mut after) = (0, [0; 16]);
        loop {
            let work = move |tx: &mut Tx<'_>| {
                let users = users(tx, ended_before, after)?;
                let cut = users.iter().map(|user| cut(tx, *user, ended_before));
                let deleted = cut.sum::<Result<usize, Error>>()?;
                Ok((deleted, users.last().copied()))
            };
            let (cut, last) = self.0.db.of_all().write(work).await?;
            deleted += cut;
            match last {
                Some(last) => after = last.to_bytes(),
                None => return Ok(deleted),
            }
        }
    }
}
