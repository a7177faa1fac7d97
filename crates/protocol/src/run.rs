//! Runs: start, state, result.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::Failure;
use crate::id::{FileId, RunId, ThreadId};
use crate::page::AsOf;
use crate::time::Timestamp;
use crate::usage::RunUsage;

/// Where a run stands: `queued → running ⇄ waiting → completed | failed | cancelled | timed_out`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Waits for a slot, or for its thread.
    Queued,
    /// An engine drives it.
    Running,
    /// A person is asked.
    Waiting,
    /// Ended with a result.
    Completed,
    /// Ended with an error.
    Failed,
    /// Ended by a person.
    Cancelled,
    /// Ended by its deadline.
    TimedOut,
}

impl RunStatus {
    /// Whether nothing follows.
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Cancelled | Self::TimedOut
        )
    }

    /// As it is written on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
        }
    }
}

/// Every change of a run's status that there is, and when it happens. The store refuses others.
pub const TRANSITIONS: [(RunStatus, RunStatus, &str); 14] = {
    use RunStatus::{Cancelled, Completed, Failed, Queued, Running, TimedOut, Waiting};
    [
        (Queued, Running, "a slot is free, and its thread too"),
        (Queued, Failed, "it cannot begin, or not go on"),
        (Queued, Cancelled, "cancelled, or replaced by another run"),
        (Queued, TimedOut, "its deadline passed while it waited"),
        (Running, Running, "it goes on, after a crash or a drain"),
        (Running, Waiting, "a person is asked"),
        (Running, Completed, "its agent gave a result"),
        (Running, Failed, "its agent failed, or a limit was passed"),
        (Running, Cancelled, "cancelled, or replaced by another run"),
        (Running, TimedOut, "its deadline passed"),
        (Waiting, Queued, "answered, by a person or by expiry"),
        (Waiting, Failed, "it cannot go on"),
        (Waiting, Cancelled, "cancelled, or replaced by another run"),
        (
            Waiting,
            TimedOut,
            "its deadline had passed when it was asked",
        ),
    ]
};

impl RunStatus {
    /// Whether [`TRANSITIONS`] has the change.
    pub fn may_become(self, next: Self) -> bool {
        TRANSITIONS
            .iter()
            .any(|(from, to, _)| (*from, *to) == (self, next))
    }
}

impl std::str::FromStr for RunStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "queued" => Self::Queued,
            "running" => Self::Running,
            "waiting" => Self::Waiting,
            "completed" => Self::Completed,
            "failed" => Self::Failed,
            "cancelled" => Self::Cancelled,
            "timed_out" => Self::TimedOut,
            _ => return Err("not a run status".into()),
        })
    }
}

/// What to do when all slots are in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLimit {
    /// Wait in the user's queue.
    #[default]
    Queue,
    /// Refuse with `slots_exhausted`.
    Reject,
}

/// What to do when the thread has an active run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBusy {
    /// Wait for it to end.
    #[default]
    Queue,
    /// Refuse with `thread_busy`.
    Reject,
    /// Cancel the thread's active and queued runs.
    Interrupt,
}

/// Starts a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartRun {
    /// The agent's name.
    pub agent: String,
    /// A text, or an object that fits the agent's schema.
    pub input: serde_json::Value,
    /// Files of this user for the run, at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 50)]
    pub files: Vec<FileId>,
    /// What the client keeps with it; at most 16 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// Queued and running time, in milliseconds; at most the user's limit `run_timeout_max_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub timeout_ms: Option<u64>,
    /// What to do when all slots are in use.
    #[serde(default)]
    pub on_limit: OnLimit,
    /// What to do when the thread has an active run.
    #[serde(default)]
    pub on_busy: OnBusy,
}

impl StartRun {
    /// With nothing but the agent and the input; everything else as it is when absent.
    pub fn new(agent: impl Into<String>, input: impl Into<serde_json::Value>) -> Self {
        Self {
            agent: agent.into(),
            input: input.into(),
            files: Vec::new(),
            metadata: None,
            timeout_ms: None,
            on_limit: OnLimit::default(),
            on_busy: OnBusy::default(),
        }
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// Never changes.
    pub id: RunId,
    /// The same, in the answer to starting it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run_id: Option<RunId>,
    /// Its conversation.
    pub thread_id: ThreadId,
    /// The agent's name.
    pub agent: String,
    /// Where it stands.
    pub status: RunStatus,
    /// From 1; rises after a crash or a lost lease only.
    pub attempt: u32,
    /// From 1, while it is queued.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub queue_position: Option<u32>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When its engine began.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended_at: Option<Timestamp>,
    /// When it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deadline: Option<Timestamp>,
    /// What it gave.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub result: Option<serde_json::Value>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<Failure>,
    /// What it used.
    pub usage: RunUsage,
    /// What the client keeps with it.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// The log's position of this snapshot, when one run was read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub as_of: Option<AsOf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_the_documents_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/run-lifecycle.md");
        let text = std::fs::read_to_string(path).unwrap();
        let begin = text
            .split("<!-- the table of TRANSITIONS -->")
            .nth(1)
            .unwrap();
        let table = begin.split("<!-- end of the table -->").next().unwrap();
        let row = |(from, to, when): (RunStatus, RunStatus, &str)| {
            format!("| `{}` | `{}` | {when} |\n", from.as_str(), to.as_str())
        };
        let rows: String = TRANSITIONS.into_iter().map(row).collect();
        assert_eq!(
            table,
            format!("\n| From | To | When |\n|---|---|---|\n{rows}")
        );
    }

    #[test]
    fn nothing_follows_an_end_and_every_state_is_left() {
        for (from, _, _) in TRANSITIONS {
            assert!(!from.is_terminal());
        }
        for state in [RunStatus::Queued, RunStatus::Running, RunStatus::Waiting] {
            assert!(state.may_become(RunStatus::Failed));
        }
        assert!(!RunStatus::Waiting.may_become(RunStatus::Running));
    }
}
