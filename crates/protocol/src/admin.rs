//! What admins see and change: accounts, and everybody's runs without their content.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::account::{Plan, Role, is_group_name};
use crate::error::ErrorCode;
use crate::id::{RunId, ThreadId, UserId};
use crate::run::RunStatus;
use crate::time::Timestamp;
use crate::usage::RunUsage;

/// Changes an account. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateUser {
    /// A disabled user can do nothing: sessions and API keys end for good, sockets close, runs are
    /// cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// What the user may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// What the user has booked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// The groups that the user is in from now on, for policies: at most 32, each of 1 to 64 letters, digits, `.`,
    /// `_` or `-`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
}

/// The most groups of one user.
const MAX_GROUPS: usize = 32;

impl UpdateUser {
    /// Whether the groups are such that there can be.
    pub fn has_good_groups(&self) -> bool {
        self.groups.as_ref().is_none_or(|groups| {
            groups.len() <= MAX_GROUPS && groups.iter().all(|name| is_group_name(name))
        })
    }
}

/// Somebody's run as admins see it: whose it is and how it goes, and nothing of what it is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AdminRun {
    /// Never changes.
    pub id: RunId,
    /// Whose it is.
    pub user_id: UserId,
    /// Its conversation.
    pub thread_id: ThreadId,
    /// The agent that answers.
    pub agent: String,
    /// Where it stands.
    pub status: RunStatus,
    /// Rises only after a crash or a lost lease.
    pub attempt: u32,
    /// The place in its user's queue, from 1, while it is queued on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<u32>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its first engine began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Why it failed, without the words, which may tell of its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<ErrorCode>,
    /// What it has used.
    pub usage: RunUsage,
}
