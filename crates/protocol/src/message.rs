//! Messages of a thread.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::Failure;
use crate::id::{FileId, MessageId, RunId, ThreadId, ToolCallId};
use crate::time::Timestamp;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessageRole {
    /// The person.
    User,
    /// The agent.
    Assistant,
    /// A tool, to the agent.
    Tool,
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Content {
    /// Text, Markdown in answers.
    Text {
        /// The text.
        text: String,
    },
    /// A file that belongs to the message.
    File {
        /// The file.
        file_id: FileId,
        /// Its name.
        name: String,
        /// Its media type.
        media_type: String,
        /// Its size in bytes.
        bytes: u64,
    },
    /// The agent calls a tool.
    ToolCall {
        /// The call.
        tool_call_id: ToolCallId,
        /// The tool's name.
        tool_name: String,
        /// The arguments.
        arguments: serde_json::Value,
    },
    /// What the tool answered.
    ToolResult {
        /// The call.
        tool_call_id: ToolCallId,
        /// The result; null after a failure.
        result: serde_json::Value,
        /// The failure.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        error: Option<Failure>,
    },
}

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// Never changes.
    pub id: MessageId,
    /// The conversation.
    pub thread_id: ThreadId,
    /// The run that it started or came from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run_id: Option<RunId>,
    /// Who speaks.
    pub role: MessageRole,
    /// The agent that speaks.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<String>,
    /// What is said.
    pub content: Vec<Content>,
    /// False while it is being written, or when it was cut off.
    pub complete: bool,
    /// When it began.
    pub created_at: Timestamp,
}
