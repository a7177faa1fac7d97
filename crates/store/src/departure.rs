//! Who was known elsewhere and has left: no more is kept than stands against coming back at once as somebody new.
//!
//! Who it was is kept as a keyed hash, beside the user's own limits, what the day's budget and rates of tools have
//! counted, and how new the last claims were. With the next return, or after 30 days, that goes too.

use netra_protocol::Timestamp;
use netra_protocol::account::Identity;
use netra_protocol::id::UserId;

use crate::error::Error;
use crate::reservation::today;
use crate::sql::OptionalExtension as _;
use crate::transaction::Tx;

/// How long a departure is kept, in milliseconds: tokens of before are past their end by then.
const KEPT_MS: i64 = 30 * DAY_MS;
const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// What is known of who comes back.
pub(crate) struct Departure {
    key: [u8; 16],
    /// When the newest claims about them were made.
    pub(crate) claimed_at: Option<Timestamp>,
    limits: String,
}

/// Keeps what is needed of a user who leaves and is known elsewhere as this. Counts are copied: the user's runs may still be
/// about to end, and what they settle from now on is counted as it was set aside.
pub(crate) fn keep(tx: &Tx<'_>, id: UserId, identity: &Identity) -> Result<(), Error> {
    let user = id.to_bytes();
    let key = tx.audit_key().of_identity(identity);
    tx.execute(
        "INSERT INTO departures (key, claimed_at, limits, left_at)
         SELECT ?1, i.claimed_at, u.limits, ?3 FROM users u JOIN identities i ON i.user_id = u.id
         WHERE u.id = ?2
         ON CONFLICT (key) DO UPDATE SET claimed_at = excluded.claimed_at,
             limits = excluded.limits, left_at = excluded.left_at",
        (key, user, tx.now().as_micros()),
    )?;
    tx.execute(
        "INSERT INTO budgets (user_id, purse, tokens, nano_usd)
         SELECT ?1, purse, tokens, nano_usd FROM budgets WHERE user_id = ?2 AND purse = ?3
         ON CONFLICT (user_id, purse) DO UPDATE
         SET tokens = excluded.tokens, nano_usd = excluded.nano_usd",
        (key, user, today(tx)),
    )?;
    tx.execute(
        "INSERT INTO tool_rates (user_id, tool, \"window\", began_at, calls)
         SELECT ?1, tool, \"window\", began_at, calls FROM tool_rates WHERE user_id = ?2
         ON CONFLICT (user_id, tool, \"window\") DO UPDATE
         SET began_at = excluded.began_at, calls = excluded.calls",
        (key, user),
    )?;
    Ok(())
}

/// What was kept of whoever comes back, once.
pub(crate) fn take(tx: &Tx<'_>, identity: &Identity) -> Result<Option<Departure>, Error> {
    let key = tx.audit_key().of_identity(identity);
    let sql = "DELETE FROM departures WHERE key = ?1 RETURNING claimed_at, limits";
    let taken = tx.prepare(sql)?.query_row([key], |row| {
        let claimed_at: Option<i64> = row.get(0)?;
        Ok(Departure {
            key,
            claimed_at: claimed_at.map(Timestamp::from_micros),
            limits: row.get(1)?,
        })
    });
    Ok(taken.optional()?)
}

impl Departure {
    /// Gives it to the user who they are now.
    pub(crate) fn carry_over(self, tx: &Tx<'_>, id: UserId) -> Result<(), Error> {
        let user = id.to_bytes();
        let sql = "UPDATE users SET limits = ?2 WHERE id = ?1";
        tx.execute(sql, (user, self.limits))?;
        for table in ["budgets", "tool_rates"] {
            let sql = format!("UPDATE {table} SET user_id = ?2 WHERE user_id = ?1");
            tx.execute(&sql, (self.key, user))?;
        }
        Ok(())
    }
}

/// Deletes what is no longer needed of those who did not come back, and returns how many rows that were.
pub(crate) fn sweep(tx: &Tx<'_>) -> Result<usize, Error> {
    let before = |kept_ms: i64| tx.now().plus_millis(-kept_ms).as_micros();
    let budgets = tx.execute(
        "DELETE FROM budgets WHERE user_id IN (SELECT key FROM departures) AND purse < ?1",
        [today(tx)],
    )?;
    // No window is longer than a day.
    let rates = tx.execute(
        "DELETE FROM tool_rates WHERE user_id IN (SELECT key FROM departures) AND began_at < ?1",
        [before(DAY_MS)],
    )?;
    let sql = "DELETE FROM departures WHERE left_at < ?1";
    Ok(budgets + rates + tx.execute(sql, [before(KEPT_MS)])?)
}
