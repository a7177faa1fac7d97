//! What users used, by day.

use netra_context::{Right, UserExecutionContext};
use netra_protocol::id::UserId;
use netra_protocol::usage::{DayUsage, RunUsage};

use crate::Store;
use crate::error::Error;
use crate::owner::require;
use crate::sql::Connection;
use crate::transaction::Tx;

/// Adds an ended run to its user's day.
pub(crate) fn add_run(tx: &Tx<'_>, user: UserId, used: Option<&RunUsage>) -> Result<(), Error> {
    let used = used.cloned().unwrap_or_default();
    let day = tx.now().to_string().chars().take(10).collect::<String>();
    tx.put(
        "INSERT INTO usage_days (user_id, day, runs, input_tokens, output_tokens, cost_usd,
         tool_calls, model_calls) VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (user_id, day) DO UPDATE SET runs = usage_days.runs + 1,
         input_tokens = usage_days.input_tokens + excluded.input_tokens,
         output_tokens = usage_days.output_tokens + excluded.output_tokens,
         cost_usd = CASE WHEN usage_days.cost_usd IS NULL THEN excluded.cost_usd
                         ELSE usage_days.cost_usd + coalesce(excluded.cost_usd, 0) END,
         tool_calls = usage_days.tool_calls + excluded.tool_calls,
         model_calls = usage_days.model_calls + excluded.model_calls",
        (
            user.to_bytes(),
            day,
            used.input_tokens,
            used.output_tokens,
            used.cost_usd,
            used.tool_calls,
            used.model_calls,
        ),
    )?;
    Ok(())
}

impl Store {
    /// The last 90 days on which the user used something, newest first.
    ///
    /// # Errors
    /// `Forbidden` without the right to read.
    pub async fn usage(&self, ctx: &UserExecutionContext) -> Result<Vec<DayUsage>, Error> {
        let user = require(ctx, Right::Read)?;
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(
                "SELECT day, runs, input_tokens, output_tokens, cost_usd, tool_calls, model_calls
                 FROM usage_days WHERE user_id = ?1 ORDER BY day DESC LIMIT 90",
            )?;
            let rows = statement.query_map([user.to_bytes()], |row| {
                Ok(DayUsage {
                    day: row.get(0)?,
                    runs: row.get(1)?,
                    input_tokens: row.get(2)?,
                    output_tokens: row.get(3)?,
                    cost_usd: row.get(4)?,
                    tool_calls: row.get(5)?,
                    model_calls: row.get(6)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        self.0.db.of(user).read(read).await
    }
}
