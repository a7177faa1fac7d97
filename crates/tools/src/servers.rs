//! Tool servers as the rest of the server sees them: to be listed, and to let go of a user.

use netra_protocol::id::UserId;
use netra_protocol::tool::ToolServer;

/// The servers that tools come from.
pub trait ToolServers: Send + Sync {
    /// Every configured server, by name, with where it stands.
    fn list(&self) -> Vec<ToolServer>;

    /// Stops what runs for this user.
    fn forget(&self, user: UserId);
}

/// None at all.
impl ToolServers for () {
    fn list(&self) -> Vec<ToolServer> {
        Vec::new()
    }

    fn forget(&self, _: UserId) {}
}
