//! Audit records, as their user reads them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;
use crate::id::{AuditId, RequestId};

/// Something that was done in a user's name or to what is the user's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Never changes.
    pub id: AuditId,
    /// The number in the user's chain, from 1; absent in records from before there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seq: Option<u64>,
    /// When.
    pub at: Timestamp,
    /// Who did it: a user's id, or a part of the server.
    pub actor: String,
    /// What was done, such as `tool.call`.
    pub action: String,
    /// To what: a name or an id.
    pub object: String,
    /// How it ended, such as `completed`, `denied` or `failed`.
    pub outcome: String,
    /// What else belongs to it; never content.
    pub details: serde_json::Value,
    /// The request that it belongs to.
    pub request_id: RequestId,
    /// The keyed hash over this record and the one before, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hash: Option<String>,
}
