//! What users used, by day: runs, when they end, and calls of tools, each in the commit that ends it.

use netra_context::{Right, UserExecutionContext};
use netra_protocol::event::EventKind;
use netra_protocol::id::UserId;
use netra_protocol::usage::{DayUsage, RunUsage, ToolUsage};
use netra_protocol::{ErrorCode, Event};

use crate::Store;
use crate::error::Error;
use crate::owner::require;
use crate::reservation::today;
use crate::sql::Connection;
use crate::transaction::Tx;

/// How far back tools are told of, in milliseconds: 90 days.
const TOLD_MS: i64 = 90 * 24 * 3_600 * 1_000;
/// The most tools that are told of.
const MOST_TOOLS: u32 = 100;

/// Adds an ended run to its user's day.
pub(crate) fn add_run(tx: &Tx<'_>, user: UserId, used: Option<&RunUsage>) -> Result<(), Error> {
    let used = used.cloned().unwrap_or_default();
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
            today(tx),
            used.input_tokens,
            used.output_tokens,
            used.cost_usd,
            used.tool_calls,
            used.model_calls,
        ),
    )?;
    Ok(())
}

/// A call of a tool that has ended, or was refused.
pub(crate) struct EndedCall {
    tool: String,
    ran: bool,
    failed: bool,
    duration_ms: u64,
    result_bytes: u64,
}

impl EndedCall {
    /// The call that the event is the end of. Each has one such event, in the commit that ends it, and a replayed
    /// journal emits none: so it is counted by it.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        match &event.kind {
            EventKind::ToolCompleted {
                tool_name,
                success,
                duration_ms,
                result_bytes,
                error,
                ..
            } => Some(Self {
                tool: tool_name.clone(),
                ran: true,
                failed: !success,
                // Until its end was found out after a crash, there was no server.
                duration_ms: match error {
                    Some(error) if error.code == ErrorCode::OutcomeUnknown => 0,
                    _ => *duration_ms,
                },
                result_bytes: *result_bytes,
            }),
            EventKind::ToolDenied {
                tool_name, layer, ..
            } => Some(Self {
                // What a model makes up is no tool, and there is no end to such names.
                tool: match layer.as_str() {
                    "agent_list" => String::new(),
                    _ => tool_name.clone(),
                },
                ran: false,
                failed: false,
                duration_ms: 0,
                result_bytes: 0,
            }),
            _ => None,
        }
    }
}

/// Adds an ended call to its user's day.
pub(crate) fn add_call(tx: &Tx<'_>, user: UserId, call: &EndedCall) -> Result<(), Error> {
    tx.put(
        "INSERT INTO tool_usage
         (user_id, day, tool, calls, failed, denied, duration_ms, result_bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (user_id, day, tool) DO UPDATE SET
         calls = tool_usage.calls + excluded.calls,
         failed = tool_usage.failed + excluded.failed,
         denied = tool_usage.denied + excluded.denied,
         duration_ms = tool_usage.duration_ms + excluded.duration_ms,
         result_bytes = tool_usage.result_bytes + excluded.result_bytes",
        (
            user.to_bytes(),
            today(tx),
            &call.tool,
            u32::from(call.ran),
            u32::from(call.failed),
            u32::from(!call.ran),
            call.duration_ms,
            call.result_bytes,
        ),
    )
}

impl Store {
    /// What the user's calls of tools used in the last 90 days, the most called first.
    ///
    /// # Errors
    /// `Forbidden` without the right to read.
    pub async fn tool_usage(&self, ctx: &UserExecutionContext) -> Result<Vec<ToolUsage>, Error> {
        let user = require(ctx, Right::Read)?;
        let since = self.0.runtime.now().plus_millis(-TOLD_MS).to_string();
        let read = move |connection: &Connection| {
            // A day sorts before the times within it: that of the bound itself is not told of.
            let mut statement = connection.prepare_cached(
                "SELECT tool, CAST(sum(calls) AS BIGINT), CAST(sum(failed) AS BIGINT),
                 CAST(sum(denied) AS BIGINT), CAST(sum(duration_ms) AS BIGINT),
                 CAST(sum(result_bytes) AS BIGINT)
                 FROM tool_usage WHERE user_id = ?1 AND day > ?2
                 GROUP BY tool ORDER BY sum(calls) DESC, tool LIMIT ?3",
            )?;
            let rows = statement.query_map((user.to_bytes(), since, MOST_TOOLS), |row| {
                Ok(ToolUsage {
                    tool: row.get(0)?,
                    calls: row.get(1)?,
                    failed: row.get(2)?,
                    denied: row.get(3)?,
                    duration_ms: row.get(4)?,
                    result_bytes: row.get(5)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        self.0.db.of(user).read(read).await
    }

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
