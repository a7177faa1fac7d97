//! Answers of models that are kept for all nodes, of each user for that user alone.

use std::time::Duration;

use netra_context::{Right, UserExecutionContext};
use netra_protocol::id::UserId;

use super::link::Link;
use crate::Store;
use crate::error::Error;
use crate::owner::require;

/// Kept no longer than this, whatever the agent says: 24 hours. Whoever leaves takes nothing out of Redis.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

fn key(link: &Link, user: UserId, hash: &[u8; 32]) -> String {
    let name = link.seal().name(hash);
    format!("netra:{}:{user}:answers:{name}", link.epoch())
}

impl Store {
    /// The answer that any node keeps for the user under this hash; none too where Redis is not reached.
    ///
    /// # Errors
    /// `Forbidden` without the right to run agents.
    pub async fn answer(
        &self,
        ctx: &UserExecutionContext,
        hash: &[u8; 32],
    ) -> Result<Option<Vec<u8>>, Error> {
        let user = require(ctx, Right::Run)?;
        match self.0.db.link() {
            Some(link) => Ok(link.find(&key(link, user, hash)).await),
            None => Ok(None),
        }
    }

    /// Keeps an answer for the user under this hash, for so long and at most for a day. One of more than 256 KiB is not
    /// kept.
    ///
    /// # Errors
    /// `Forbidden` without the right to run agents.
    pub async fn answer_keep(
        &self,
        ctx: &UserExecutionContext,
        hash: &[u8; 32],
        content: &[u8],
        time: Duration,
    ) -> Result<(), Error> {
        let user = require(ctx, Right::Run)?;
        if let Some(link) = self.0.db.link() {
            let name = key(link, user, hash);
            link.keep(&name, content, time.min(LONGEST)).await;
        }
        Ok(())
    }

    /// Whether answers can be kept for all nodes now.
    pub fn keeps_answers(&self) -> bool {
        self.0.db.link().is_some_and(Link::is_up)
    }
}
