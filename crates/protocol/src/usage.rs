//! What runs used.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What one run used. Absent numbers were not measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RunUsage {
    /// Tokens given to models.
    pub input_tokens: u64,
    /// Tokens that models gave.
    pub output_tokens: u64,
    /// Cost of the models in US dollars; null where a price is not known.
    pub cost_usd: Option<f64>,
    /// The price lists that `cost_usd` is by, with their dates; absent where no price is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub price_sources: Vec<String>,
    /// Tool calls made.
    pub tool_calls: u64,
    /// Model calls made.
    pub model_calls: u64,
    /// The most memory that it held, in bytes; null where the server does not count it.
    pub peak_memory_bytes: Option<u64>,
    /// From acceptance to end, in milliseconds.
    pub duration_ms: u64,
}

/// What a user used in a day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DayUsage {
    /// The day in UTC, as `2026-11-22`.
    pub day: String,
    /// Runs that ended on this day.
    pub runs: u64,
    /// Tokens given to models.
    pub input_tokens: u64,
    /// Tokens that models gave.
    pub output_tokens: u64,
    /// Cost in US dollars; null where a price is not known.
    pub cost_usd: Option<f64>,
    /// Tool calls made.
    pub tool_calls: u64,
    /// Model calls made.
    pub model_calls: u64,
}

/// What a user's calls of one tool used. Each call counts when it ends, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolUsage {
    /// The tool's name; empty for calls of what the agent does not have, whatever they named.
    pub tool: String,
    /// Calls that ran.
    pub calls: u64,
    /// Those of them that gave no result.
    pub failed: u64,
    /// Calls that were refused, and did not run.
    pub denied: u64,
    /// How long the calls took together, in milliseconds.
    pub duration_ms: u64,
    /// What they gave together, in bytes of JSON.
    pub result_bytes: u64,
}

/// A user's own figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// The last 90 days on which something was used, newest first.
    pub days: Vec<DayUsage>,
    /// Slots in use and allowed, now.
    pub slots: SlotUsage,
    /// The tools that were called in the last 90 days, the most called first; at most 100.
    #[serde(default)]
    pub tools: Vec<ToolUsage>,
}

/// Slots of a user, now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotUsage {
    /// Runs that execute.
    pub running: u32,
    /// Runs that wait for a slot.
    pub queued: u32,
    /// Slots that the user has.
    pub allowed: u32,
}
