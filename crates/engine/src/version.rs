//! A run goes on with the version of its agent that it began with, whatever its files are now.

use std::sync::Arc;

use netra_context::UserExecutionContext;
use netra_store::AgentVersion;

use crate::agents::Definition;
use crate::factory::Infra;

/// The version of an agent that a run began with; none where the server does not have it.
pub(crate) async fn of_run(
    ctx: &UserExecutionContext,
    infra: &Infra,
    name: &str,
    hash: &str,
) -> Option<Arc<Definition>> {
    if let Some(agent) = infra.agents.get(name).filter(|agent| agent.hash == hash) {
        return Some(agent);
    }
    match infra.store.agent_version(ctx, hash).await {
        Ok(version) => {
            let (registry, models) = (infra.tools.registry(), &infra.models);
            let agent = infra
                .agents
                .version(&version.name, version.files, registry, models);
            Some(Arc::new(agent))
        }
        Err(error) => {
            tracing::error!(agent = name, %error, "the version of an agent is not there");
            None
        }
    }
}

/// The versions of these agents, to be kept.
pub(crate) fn of_all<'a>(agents: impl Iterator<Item = &'a Arc<Definition>>) -> Vec<AgentVersion> {
    let whole = agents.filter(|agent| !agent.files.is_empty());
    let version = |agent: &Arc<Definition>| AgentVersion {
        hash: agent.hash.clone(),
        name: agent.name.clone(),
        files: agent.files.clone(),
    };
    whole.map(version).collect()
}
