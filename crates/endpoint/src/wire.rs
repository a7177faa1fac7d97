//! What is said: one turn to the endpoint, and the steps that it answers with.

use netra_protocol::error::Failure;
use netra_protocol::id::{RunId, ThreadId, UserId};
use netra_protocol::message::MessageRole;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The name and version of the protocol; stands in each turn.
pub const PROTOCOL: &str = "netra.agent.v1";

/// All that the agent needs to begin or to go on.
#[derive(Debug, Serialize)]
pub struct Turn<'a> {
    /// [`PROTOCOL`].
    pub protocol: &'static str,
    /// The run.
    pub run_id: RunId,
    /// Its thread.
    pub thread_id: ThreadId,
    /// For whom it runs.
    pub user_id: Option<UserId>,
    /// The agent's name.
    pub agent: &'a str,
    /// From 1.
    pub turn: u32,
    /// How long the run may take from now on, in milliseconds.
    pub remaining_ms: Option<u64>,
    /// What the agent is asked, which fits its schema.
    pub input: &'a Value,
    /// The run's files, without content.
    pub files: &'a Value,
    /// The thread before this run, oldest first.
    pub messages: &'a [Said],
    /// The tools that the agent may call for this user.
    pub tools: &'a [Offer],
    /// The agents that it may call.
    pub agents: &'a [Offer],
    /// What the agent gave with its last calls; null in its first turn.
    pub state: &'a Value,
    /// What came of its last calls, in their order.
    pub results: &'a [Answered],
}

/// A message of the thread.
#[derive(Debug, Clone, Serialize)]
pub struct Said {
    /// By whom.
    pub role: MessageRole,
    /// Its text.
    pub text: String,
}

/// A tool or an agent that may be called.
#[derive(Debug, Clone, Serialize)]
pub struct Offer {
    /// To call it by.
    pub name: String,
    /// For a model.
    pub description: String,
    /// JSON Schema of what it takes.
    pub input_schema: Value,
}

/// What came of one call.
#[derive(Debug, Clone, Serialize)]
pub struct Answered {
    /// As the call had it.
    pub id: String,
    /// What it gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why it gave nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// One thing that the endpoint says in a turn. The last one is `Calls`, `Result` or `Error`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// For the user: what is being done.
    Think {
        /// In words.
        message: String,
        /// From 0 to 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        progress: Option<f64>,
    },
    /// A piece of the answer, as it is written.
    Text {
        /// The piece.
        text: String,
    },
    /// The agent wants these done, all at once, and then its next turn.
    Calls {
        /// At least one.
        calls: Vec<Call>,
        /// Comes back with the next turn.
        #[serde(default)]
        state: Value,
    },
    /// The agent is done.
    Result {
        /// Its result; a text stands for `{"text": …}`.
        result: Value,
    },
    /// The agent gives up.
    Error {
        /// Why.
        message: String,
    },
}

impl Step {
    /// Whether the turn ends with it.
    pub fn is_last(&self) -> bool {
        matches!(
            self,
            Self::Calls { .. } | Self::Result { .. } | Self::Error { .. }
        )
    }
}

/// Something that is to be done for the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Call {
    /// A call of a tool.
    Tool {
        /// Comes back with what the call gave.
        #[serde(default)]
        id: String,
        /// The tool's name.
        name: String,
        /// Its arguments.
        #[serde(default)]
        arguments: Map<String, Value>,
    },
    /// A call of another agent.
    Agent {
        /// Comes back with what the call gave.
        #[serde(default)]
        id: String,
        /// The agent's name.
        name: String,
        /// A text, or an object that fits its schema.
        input: Value,
    },
    /// One question to the agent's model.
    AskModel {
        /// Comes back with the answer.
        #[serde(default)]
        id: String,
        /// The question.
        prompt: String,
        /// The system prompt.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        system: Option<String>,
    },
}

impl Call {
    /// What the agent calls it by.
    pub fn id(&self) -> &str {
        match self {
            Self::Tool { id, .. } | Self::Agent { id, .. } | Self::AskModel { id, .. } => id,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_are_read_and_what_is_unknown_is_refused_by_name() {
        let read = |value: Value| Step::deserialize(value).map_err(|error| error.to_string());
        let calls = json!({"type": "calls", "state": [1], "calls": [
            {"type": "tool", "id": "a", "name": "time_now"},
            {"type": "agent", "name": "worker", "input": "x"},
            {"type": "ask_model", "prompt": "why?"},
        ]});
        let Ok(Step::Calls { calls, state }) = read(calls) else {
            panic!("these are calls");
        };
        assert_eq!((calls[0].id(), calls[1].id(), state), ("a", "", json!([1])));
        assert!(
            read(json!({"type": "result", "result": 1}))
                .unwrap()
                .is_last()
        );
        assert!(
            !read(json!({"type": "text", "text": "a"}))
                .unwrap()
                .is_last()
        );
        for (wrong, word) in [
            (json!({"type": "dance"}), "dance"),
            (
                json!({"type": "think", "message": "a", "loud": true}),
                "loud",
            ),
            (json!({"type": "result"}), "result"),
            (json!({"calls": []}), "type"),
            (json!([]), "type"),
        ] {
            let refused = read(wrong).unwrap_err();
            assert!(refused.contains(word), "{refused}");
        }
    }
}
