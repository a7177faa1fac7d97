//! Tools, as users see them, and the servers that they come from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::Timestamp;

/// How much harm a tool can do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// Reads the user's own data, or computes.
    Low,
    /// Changes the user's own data, or reaches out.
    Medium,
    /// Changes what cannot be undone.
    High,
}

/// A tool that this user may call or not, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tool {
    /// To call it by.
    pub name: String,
    /// For people and models.
    pub description: String,
    /// JSON Schema of the arguments.
    pub input_schema: serde_json::Value,
    /// The named permission that it needs.
    pub permission: String,
    /// How much harm it can do.
    pub risk: Risk,
    /// Whether this user may call it.
    pub allowed: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Whether a person is asked before each call.
    pub needs_approval: bool,
    /// Whether calling it twice does no harm.
    pub idempotent: bool,
}

/// A server that tools come from, as admins see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolServer {
    /// As it is configured; its tools are named `NAME__tool`.
    pub name: String,
    /// How it is reached.
    pub transport: ToolServerTransport,
    /// Whom one instance of it serves.
    pub scope: ToolServerScope,
    /// Where it stands.
    pub state: ToolServerState,
    /// Why it is away.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
    /// How it names itself and its version, once it has answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub title: Option<String>,
    /// The version of the protocol that is spoken with it, once it has answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub protocol: Option<String>,
    /// The names of its tools.
    pub tools: Vec<String>,
    /// Tools that it offers and Netra does not take, each with the reason.
    pub left_out: Vec<String>,
    /// How many instances of it run now.
    pub instances: u32,
    /// How many instances have ended by themselves since the start.
    pub crashes: u64,
}

/// A tool server of the user's own is to be there, in place of the one that had the name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutToolServer {
    /// Where it answers: `https://`, a public host, without user and password.
    pub url: String,
    /// Headers that are sent with every request, at most 10; their values are secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretUse>,
}

/// A secret by its name, where its value is to stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretUse {
    /// The name of the secret.
    pub secret: String,
    /// What stands before the value, such as `Bearer ` with the blank.
    #[serde(default)]
    pub prefix: String,
}

/// A tool server that a user has added for the own agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnToolServer {
    /// As the user has named it; its tools are named `my_NAME__tool`.
    pub name: String,
    /// Where it answers.
    pub url: String,
    /// The headers that are sent, with the names of their secrets.
    pub headers: BTreeMap<String, SecretUse>,
    /// Where it stands.
    pub state: ToolServerState,
    /// Why it is away.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
    /// How it names itself and its version, once it has answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub title: Option<String>,
    /// The version of the protocol that is spoken with it, once it has answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub protocol: Option<String>,
    /// The names of its tools.
    pub tools: Vec<String>,
    /// Tools that it offers and Netra does not take, each with the reason.
    pub left_out: Vec<String>,
    /// When the name came up.
    pub created_at: Timestamp,
    /// When it was put.
    pub updated_at: Timestamp,
}

/// How a tool server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolServerTransport {
    /// A child process in a sandbox.
    Stdio,
    /// Streamable HTTP.
    Http,
}

/// Whom one instance of a tool server serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolServerScope {
    /// One user.
    #[default]
    User,
    /// One run.
    Run,
    /// Everybody: for servers that keep nothing.
    Shared,
}

/// Where a tool server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolServerState {
    /// It has been asked for its tools and has not answered yet.
    Starting,
    /// Its tools are there.
    Ready,
    /// It does not answer; it is asked again.
    Away,
    /// Each user has an answer of one's own, because it is asked with the user's secret.
    PerUser,
}
