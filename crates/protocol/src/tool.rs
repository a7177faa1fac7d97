//! Tools, as users see them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
