//! The events of a user's log, as the contract's section 3 lists them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::approval::Decision;
use crate::error::Failure;
use crate::id::{ApprovalId, EventId, FileId, MessageId, RunId, ThreadId, ToolCallId};
use crate::message::{Content, MessageRole};
use crate::time::Timestamp;
use crate::usage::RunUsage;

/// The largest event, in bytes of JSON.
pub const MAX_EVENT_BYTES: usize = 256 * 1024;
/// The largest result within an event, in bytes of JSON; a larger one stands in the run alone.
pub const MAX_RESULT_BYTES: usize = 128 * 1024;

/// An event before the log has given it a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Never changes.
    pub event_id: EventId,
    /// When it happened.
    pub ts: Timestamp,
    /// The conversation.
    pub thread_id: ThreadId,
    /// The run.
    pub run_id: RunId,
    /// The agent that acts; absent in events of the run itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<String>,
    /// The step of the run in which it acts, from 1; absent in events of the run itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub step: Option<u32>,
    /// What happened: `type` and `data`.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// An event as a socket or an SSE stream carries it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WireEvent {
    /// The number of what was sent before it on this subscription.
    #[serde(default)]
    #[schema(required)]
    pub prev: u64,
    /// Its number in the user's log, from 1, in commit order.
    pub seq: u64,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// Why a run waits in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueueReason {
    /// All slots of the user are in use.
    Slots,
    /// The thread has an active run.
    ThreadBusy,
    /// The node has as many engines as it may have.
    Engines,
}

/// Who answered an approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct ResolvedBy(
    /// A user's id, `expiry` or `cancel`.
    pub String,
);

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum EventKind {
    /// It has to wait: no free slot, a busy thread, or a full node.
    RunQueued {
        /// From 1, in the user's own queue.
        queue_position: u32,
        /// What it waits for.
        reason: QueueReason,
    },
    /// The engine exists.
    RunStarted {
        /// The agent's name.
        agent: String,
        /// When the run ends by itself.
        deadline: Timestamp,
        /// From 1.
        attempt: u32,
        /// The message that asked.
        input_message_id: MessageId,
    },
    /// A person is asked, and the slot is given back until the answer.
    RunWaiting {
        /// For what.
        reason: String,
    },
    /// The run goes on, after a person, a crash or a drain.
    RunResumed {
        /// After what: `approval`, `crash` or `drain`.
        reason: String,
        /// From 1.
        attempt: u32,
        /// When the run ends by itself.
        deadline: Timestamp,
    },
    /// An agent (the run's own or a sub-agent) begins.
    AgentStarted {
        /// The agent's name.
        agent: String,
        /// The step of the agent that called it; absent for the run's own agent.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        parent_step: Option<u32>,
        /// What it is to do, in short.
        task: String,
    },
    /// A reasoning step, progress, or plan.
    AgentThinking {
        /// In words.
        message: String,
        /// From 0 to 1.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        progress: Option<f64>,
    },
    /// Text of the answer, as it is written.
    MessageDelta {
        /// The message that grows.
        message_id: MessageId,
        /// What is added.
        delta: String,
    },
    /// A whole message of the assistant; one for each that had a delta.
    MessageCompleted {
        /// The message.
        message_id: MessageId,
        /// Who speaks.
        role: MessageRole,
        /// What is said, in parts as in REST.
        content: Vec<Content>,
        /// True when it was cut off.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        incomplete: bool,
    },
    /// All checks passed; the tool is about to run.
    ToolExecuting {
        /// The call.
        tool_call_id: ToolCallId,
        /// The tool's name.
        tool_name: String,
        /// What it is called with, in short form.
        arguments: serde_json::Value,
        /// Why, in words.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        purpose: Option<String>,
    },
    /// A long tool goes on.
    ToolProgress {
        /// The call.
        tool_call_id: ToolCallId,
        /// From 0 to 1.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        progress: Option<f64>,
        /// In words.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        message: Option<String>,
    },
    /// Once for every `tool_executing`.
    ToolCompleted {
        /// The call.
        tool_call_id: ToolCallId,
        /// The tool's name.
        tool_name: String,
        /// Whether it gave a result.
        success: bool,
        /// From call to end, in milliseconds.
        duration_ms: u64,
        /// The result in short form.
        result: serde_json::Value,
        /// Size of the whole result, in bytes of JSON.
        result_bytes: u64,
        /// Why it failed.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        error: Option<Failure>,
    },
    /// A check said no; the tool did not run.
    ToolDenied {
        /// The call.
        tool_call_id: ToolCallId,
        /// The tool's name.
        tool_name: String,
        /// Which: `agent_list`, `policy`, `schema`, `limits`, `rate`, or `approval` where a person said no.
        layer: String,
        /// Why.
        reason: String,
    },
    /// A person is asked about a tool call.
    ApprovalRequested {
        /// To answer it by.
        approval_id: ApprovalId,
        /// The call that waits.
        tool_call_id: ToolCallId,
        /// What the tool would be called with, in short form.
        arguments: serde_json::Value,
        /// When it is denied by itself.
        expires_at: Timestamp,
    },
    /// The question is answered, once.
    ApprovalResolved {
        /// The question.
        approval_id: ApprovalId,
        /// The call that waited.
        tool_call_id: ToolCallId,
        /// Yes or no.
        decision: Decision,
        /// A user's id, `expiry` or `cancel`.
        by: ResolvedBy,
    },
    /// A file or a chart for the user was made.
    ArtifactCreated {
        /// The file.
        file_id: FileId,
        /// Its name.
        name: String,
        /// Its media type.
        media_type: String,
        /// Its size in bytes.
        bytes: u64,
    },
    /// An agent ends.
    AgentCompleted {
        /// The agent's name.
        agent: String,
        /// Whether it gave a result.
        success: bool,
        /// From start to end, in milliseconds.
        duration_ms: u64,
        /// The result in short form; null on failure.
        result: serde_json::Value,
    },
    /// The run has ended with a result.
    RunCompleted {
        /// The result; null where it is over 128 KiB.
        result: serde_json::Value,
        /// True where the result stands in the run alone.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        result_truncated: bool,
        /// What the run used.
        usage: RunUsage,
        /// From acceptance to end, in milliseconds.
        duration_ms: u64,
    },
    /// The run has ended with an error.
    RunFailed {
        /// Why.
        error: Failure,
        /// What the run used.
        usage: RunUsage,
        /// From acceptance to end, in milliseconds.
        duration_ms: u64,
    },
    /// A person or a later run stopped it.
    RunCancelled {
        /// By whom or what.
        error: Failure,
        /// What the run used.
        usage: RunUsage,
        /// From acceptance to end, in milliseconds.
        duration_ms: u64,
    },
    /// The run's deadline has passed.
    RunTimedOut {
        /// Which.
        error: Failure,
        /// What the run used.
        usage: RunUsage,
        /// From acceptance to end, in milliseconds.
        duration_ms: u64,
    },
    /// 80 % of a limit are used; at most once for each limit of a run.
    LimitWarning {
        /// The limit's key: `run_timeout_ms` (in milliseconds), `memory_mib` (in MiB, over all runs
        /// of the user), `budget_usd` or `budget_tokens` (over the user's day), `run_budget_usd` or
        /// `run_budget_tokens`.
        limit: String,
        /// What is used.
        used: f64,
        /// What is allowed.
        allowed: f64,
    },
}

impl EventKind {
    /// The `type` on the wire.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RunQueued { .. } => "run_queued",
            Self::RunStarted { .. } => "run_started",
            Self::RunWaiting { .. } => "run_waiting",
            Self::RunResumed { .. } => "run_resumed",
            Self::AgentStarted { .. } => "agent_started",
            Self::AgentThinking { .. } => "agent_thinking",
            Self::MessageDelta { .. } => "message_delta",
            Self::MessageCompleted { .. } => "message_completed",
            Self::ToolExecuting { .. } => "tool_executing",
            Self::ToolProgress { .. } => "tool_progress",
            Self::ToolCompleted { .. } => "tool_completed",
            Self::ToolDenied { .. } => "tool_denied",
            Self::ApprovalRequested { .. } => "approval_requested",
            Self::ApprovalResolved { .. } => "approval_resolved",
            Self::ArtifactCreated { .. } => "artifact_created",
            Self::AgentCompleted { .. } => "agent_completed",
            Self::RunCompleted { .. } => "run_completed",
            Self::RunFailed { .. } => "run_failed",
            Self::RunCancelled { .. } => "run_cancelled",
            Self::RunTimedOut { .. } => "run_timed_out",
            Self::LimitWarning { .. } => "limit_warning",
        }
    }

    /// Whether it is the last event of its run.
    pub const fn is_terminal(&self) -> bool {
        matches!(
            self,
            Self::RunCompleted { .. }
                | Self::RunFailed { .. }
                | Self::RunCancelled { .. }
                | Self::RunTimedOut { .. }
        )
    }

    /// Whether it is a piece of a message that a `message_completed` repeats whole.
    pub const fn is_delta(&self) -> bool {
        matches!(self, Self::MessageDelta { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            event_id: EventId::from_parts(1, 2),
            ts: Timestamp::from_micros(1_763_834_400_123_456),
            thread_id: ThreadId::from_parts(1, 3),
            run_id: RunId::from_parts(1, 4),
            agent: Some("data".into()),
            step: Some(3),
            kind: EventKind::AgentThinking {
                message: "hm".into(),
                progress: None,
            },
        }
    }

    #[test]
    fn type_and_data_stand_beside_the_envelope() {
        let json = serde_json::to_value(event()).unwrap();
        assert_eq!(json["type"], "agent_thinking");
        assert_eq!(json["data"], serde_json::json!({"message": "hm"}));
        assert_eq!(json["ts"], "2025-11-22T18:00:00.123456Z");
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event());
    }

    #[test]
    fn the_name_is_the_serialised_type() {
        let kind = event().kind;
        assert_eq!(serde_json::to_value(&kind).unwrap()["type"], kind.name());
    }

    #[test]
    fn a_wire_event_round_trips() {
        let wire = WireEvent {
            prev: 3,
            seq: 7,
            event: event(),
        };
        let text = serde_json::to_string(&wire).unwrap();
        assert_eq!(serde_json::from_str::<WireEvent>(&text).unwrap(), wire);
    }
}
