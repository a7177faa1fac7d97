//! Files of a user: uploads, and what runs made.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{FileId, RunId};
use crate::time::Timestamp;

/// A file, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct File {
    /// Never changes.
    pub id: FileId,
    /// For people; not unique.
    pub name: String,
    /// The media type, such as `text/csv`.
    pub media_type: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
    /// The run that made it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run_id: Option<RunId>,
    /// When it was stored.
    pub created_at: Timestamp,
}
