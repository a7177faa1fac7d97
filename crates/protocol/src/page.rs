//! Lists and positions in the log.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items, newest first unless the operation says otherwise.
    pub items: Vec<T>,
    /// Give this as `?cursor=` for the next page; null at the end.
    pub next_cursor: Option<String>,
    /// The log's position of this snapshot, where the operation promises one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub as_of: Option<AsOf>,
}

/// The number of items of a page when none is asked for.
pub const DEFAULT_LIMIT: u32 = 20;
/// The largest page.
pub const MAX_LIMIT: u32 = 100;

/// A position in a user's log. Subscribing after it misses nothing and repeats nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AsOf {
    /// Names the log; changes when the log is another than the client knew.
    pub epoch: String,
    /// The last event's number in the snapshot.
    pub seq: u64,
}
