//! Questions to a person.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{ApprovalId, RunId, ToolCallId};
use crate::time::Timestamp;

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The call may go on.
    Approve,
    /// The call may not.
    Deny,
}

/// Where an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Nobody has answered.
    Pending,
    /// Answered with yes.
    Approved,
    /// Answered with no, expired, or its run ended.
    Denied,
}

/// A tool call that waits for a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Approval {
    /// To answer it by.
    pub id: ApprovalId,
    /// The run that waits.
    pub run_id: RunId,
    /// The call that waits.
    pub tool_call_id: ToolCallId,
    /// The tool's name.
    pub tool_name: String,
    /// What it would be called with.
    pub arguments: serde_json::Value,
    /// Why a person is asked.
    pub reason: String,
    /// Where it stands.
    pub state: ApprovalState,
    /// When it is denied by itself.
    pub expires_at: Timestamp,
}

/// The answer to an approval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveApproval {
    /// Yes or no.
    pub decision: Decision,
    /// For the audit and the agent; at most 2,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2000)]
    pub note: Option<String>,
    /// Other arguments than asked for; validated again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<serde_json::Value>,
}
