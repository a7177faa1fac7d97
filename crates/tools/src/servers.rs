//! Tool servers as the rest of the server sees them: what they offer, to be listed, and to let go of a user.

use async_trait::async_trait;
use netra_context::UserExecutionContext;
use netra_protocol::id::UserId;
use netra_protocol::tool::{OwnToolServer, PutToolServer, ToolServer};
use netra_store::NewToolServer;

use crate::shelf::Source;

/// The servers that tools come from.
#[async_trait]
pub trait ToolServers: Send + Sync {
    /// Every configured server, by name, with where it stands.
    fn list(&self) -> Vec<ToolServer>;

    /// Those that this user has added, by name, each asked where it stands if that is not known.
    ///
    /// # Errors
    /// Those of the store.
    async fn own(
        &self,
        ctx: &UserExecutionContext,
    ) -> Result<Vec<OwnToolServer>, netra_store::Error>;

    /// Whether this user may add such a tool server, as far as can be told without asking it.
    ///
    /// # Errors
    /// Why not.
    fn judge(
        &self,
        ctx: &UserExecutionContext,
        name: &str,
        wanted: PutToolServer,
    ) -> Result<NewToolServer, NotAdded>;

    /// Lets go of what is known of the servers that this user has added, and of what runs there.
    fn forget_own(&self, user: UserId);

    /// Stops what runs for this user.
    fn forget(&self, user: UserId);
}

/// Why a user's tool server is not added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAdded {
    /// A field is wrong.
    Invalid {
        /// Which.
        field: &'static str,
        /// The rule that it breaks, as errors of the contract name it.
        rule: &'static str,
        /// The same in words.
        words: String,
    },
    /// No policy permits it, in words.
    Forbidden(String),
}

/// Tools that one user has and no other.
#[async_trait]
pub trait UserTools: Send + Sync {
    /// What the user's own sources have now; they are asked where that is not known.
    async fn of(&self, ctx: &UserExecutionContext) -> Vec<Source>;
}

/// None at all.
#[async_trait]
impl ToolServers for () {
    fn list(&self) -> Vec<ToolServer> {
        Vec::new()
    }

    async fn own(
        &self,
        _: &UserExecutionContext,
    ) -> Result<Vec<OwnToolServer>, netra_store::Error> {
        Ok(Vec::new())
    }

    fn judge(
        &self,
        _: &UserExecutionContext,
        _: &str,
        _: PutToolServer,
    ) -> Result<NewToolServer, NotAdded> {
        let words = "this server has no tool servers";
        Err(NotAdded::Forbidden(words.to_owned()))
    }

    fn forget_own(&self, _: UserId) {}

    fn forget(&self, _: UserId) {}
}

#[async_trait]
impl UserTools for () {
    async fn of(&self, _: &UserExecutionContext) -> Vec<Source> {
        Vec::new()
    }
}
