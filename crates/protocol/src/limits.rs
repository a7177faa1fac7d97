//! The limits of a user, with the contract's defaults.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What one user may use. Defaults are the contract's, section 4.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Concurrent executions over all threads and nodes.
    pub concurrent_runs: u32,
    /// Runs that may wait for a slot.
    pub queued_runs: u32,
    /// Memory of all the user's runs, workers and children on one node, in MiB.
    pub memory_mib: u64,
    /// Deadline of a run that names none: queued and running time, in milliseconds.
    pub run_timeout_ms: u64,
    /// The longest deadline that a run may ask for, in milliseconds.
    pub run_timeout_max_ms: u64,
    /// How long an approval may be answered, in milliseconds.
    pub approval_ttl_ms: u64,
    /// One model call, in milliseconds.
    pub model_call_ms: u64,
    /// One tool call, in milliseconds.
    pub tool_call_ms: u64,
    /// Steps of a run.
    pub steps: u32,
    /// Tool calls of a run.
    pub tool_calls: u32,
    /// Nesting of sub-agents.
    pub depth: u32,
    /// Attempts of a run after crashes.
    pub attempts: u32,
    /// Open WebSockets.
    pub sockets: u32,
    /// Sign-ins per minute for a pair of account and address.
    pub logins_per_minute: u32,
    /// HTTP requests per minute.
    pub requests_per_minute: u32,
    /// WebSocket messages per socket in ten seconds.
    pub messages_per_10s: u32,
    /// Money for models per day, in US dollars; none: without a bound.
    pub budget_usd: Option<f64>,
    /// Tokens of models per day; none: without a bound.
    pub budget_tokens: Option<u64>,
    /// The largest upload, in MiB.
    pub upload_mib: u64,
    /// The longest text of a message, in characters.
    pub message_chars: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent_runs: 5,
            queued_runs: 100,
            memory_mib: 1024,
            run_timeout_ms: 300_000,
            run_timeout_max_ms: 3_600_000,
            approval_ttl_ms: 86_400_000,
            model_call_ms: 120_000,
            tool_call_ms: 30_000,
            steps: 50,
            tool_calls: 100,
            depth: 5,
            attempts: 3,
            sockets: 20,
            logins_per_minute: 5,
            requests_per_minute: 600,
            messages_per_10s: 30,
            budget_usd: None,
            budget_tokens: None,
            upload_mib: 64,
            message_chars: 100_000,
        }
    }
}
