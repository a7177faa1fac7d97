//! Conversations.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{MessageId, RunId, ThreadId};
use crate::page::AsOf;
use crate::time::Timestamp;

/// A conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Thread {
    /// Never changes.
    pub id: ThreadId,
    /// For people; at first the beginning of the first message.
    pub title: String,
    /// What the client keeps with it.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it or one of its messages last changed.
    pub updated_at: Timestamp,
    /// The run that is queued, running or waiting on it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub active_run_id: Option<RunId>,
    /// The log's position of this snapshot, when one thread was read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub as_of: Option<AsOf>,
}

/// Makes a thread.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateThread {
    /// At most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub title: Option<String>,
    /// At most 16 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Changes a thread; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateThread {
    /// At most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub title: Option<String>,
    /// Replaces the whole map; at most 16 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Makes a new thread of an old one's messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkThread {
    /// The last message to take; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_message_id: Option<MessageId>,
}
