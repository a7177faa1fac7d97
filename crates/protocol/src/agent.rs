//! Agents, as users see them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How an agent is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentKind {
    /// A language model with instructions and tools.
    Model,
    /// A script in a worker process.
    Script,
    /// Compiled into the server.
    Native,
    /// Behind an HTTP endpoint.
    Http,
}

/// An agent that this user may run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// To start it by.
    pub name: String,
    /// For people.
    pub description: String,
    /// How it is made.
    pub kind: AgentKind,
    /// JSON Schema of the input. A text input stands for `{"text": …}`.
    pub input_schema: serde_json::Value,
    /// JSON Schema of the result.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub output_schema: Option<serde_json::Value>,
    /// Names of the tools that it may call.
    pub tools: Vec<String>,
    /// Whether it can run now.
    pub ready: bool,
    /// Why it cannot; of one that can, what is wrong with its newest files, which have not taken its place.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}
