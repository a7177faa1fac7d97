//! The versions of agents that the server has had: a run goes on with the one it began with.

use std::collections::BTreeMap;

use netra_context::{BackgroundKind, Right, UserExecutionContext};

use crate::Store;
use crate::error::Error;
use crate::owner::{require, require_background};
use crate::sql::Connection;
use crate::transaction::Tx;

/// One version of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentVersion {
    /// SHA-256 over its files, in hexadecimal.
    pub hash: String,
    /// The agent's name.
    pub name: String,
    /// Its files by name.
    pub files: BTreeMap<String, String>,
}

fn insert(tx: &Tx<'_>, version: &AgentVersion) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO agent_versions (hash, name, files, created_at)
         VALUES (?1, ?2, ?3, ?4) ON CONFLICT (hash) DO NOTHING",
        (
            &version.hash,
            &version.name,
            serde_json::to_string(&version.files)?,
            tx.now().as_micros(),
        ),
    )?;
    Ok(())
}

impl Store {
    /// Keeps these versions for the runs that begin with them. As `for_background(Recovery)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else; `Unavailable`.
    pub async fn agent_versions_keep(
        &self,
        ctx: &UserExecutionContext,
        versions: Vec<AgentVersion>,
    ) -> Result<(), Error> {
        require_background(ctx, &[BackgroundKind::Recovery])?;
        let keep = move |tx: &mut Tx<'_>| versions.iter().try_for_each(|one| insert(tx, one));
        self.0.db.of_all().write(keep).await
    }

    /// The version of an agent with this hash.
    ///
    /// # Errors
    /// `NotFound` where the server never had it; `Forbidden` without the right to run agents.
    pub async fn agent_version(
        &self,
        ctx: &UserExecutionContext,
        hash: &str,
    ) -> Result<AgentVersion, Error> {
        let user = require(ctx, Right::Run)?;
        let hash = hash.to_owned();
        let sql = "SELECT name, files FROM agent_versions WHERE hash = ?1";
        let read = move |connection: &Connection| {
            let (name, files): (String, String) = connection
                .prepare_cached(sql)?
                .query_row([&hash], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(AgentVersion {
                files: serde_json::from_str(&files)?,
                hash,
                name,
            })
        };
        self.0.db.of(user).read(read).await
    }
}
