//! The agents of the server: read once at start from what is built in and from a folder.
//!
//! A broken agent stops nothing: it is listed as not ready, with the file and line of its problem.

mod calls;
mod conduct;
mod definition;
mod load;
mod manifest;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use netra_context::UserExecutionContext;
use netra_model::Models;
use netra_protocol::agent::AgentKind;
use netra_tools::Registry;

pub use calls::Calls;
pub(crate) use conduct::{CALLS, FINAL_ANSWER, HANDS_OVER};
pub use conduct::{Conduct, Overflow};
pub(crate) use definition::Shape;
pub use definition::{Body, Definition, NeedsKey};
pub use load::EmbeddedAgent;

/// All agents by name; immutable after start.
pub struct Agents {
    by_name: BTreeMap<String, Arc<Definition>>,
}

/// What is wrong with one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The agent.
    pub agent: String,
    /// File, line where there is one, and what is wrong.
    pub problem: String,
}

impl Agents {
    /// Reads the built-in agents and those of the folder, which may take the place of a built-in
    /// one by its name. Never fails as a whole: what cannot be used is there as not ready.
    pub fn load(
        builtin: &[EmbeddedAgent],
        dir: Option<&Path>,
        tools: &Registry,
        models: &Models,
    ) -> Self {
        let mut drafts = load::embedded(builtin);
        if let Some(dir) = dir {
            for draft in load::folder(dir) {
                drafts.insert(draft.name().to_owned(), draft);
            }
        }
        let kinds: BTreeMap<String, AgentKind> = drafts
            .iter()
            .map(|(name, draft)| (name.clone(), draft.kind()))
            .collect();
        let by_name = drafts
            .into_iter()
            .map(|(name, draft)| (name, Arc::new(draft.finish(tools, models, &kinds))))
            .collect();
        Self { by_name }
    }

    /// An earlier version of an agent, from its files; the agents that it may call are those of now.
    pub(crate) fn version(
        &self,
        name: &str,
        files: BTreeMap<String, String>,
        tools: &Registry,
        models: &Models,
    ) -> Definition {
        let kind = |(name, agent): (&String, &Arc<Definition>)| (name.clone(), agent.kind);
        let kinds = self.by_name.iter().map(kind).collect();
        load::version(name, files).finish(tools, models, &kinds)
    }

    /// The agent of this name, whether it is ready or not, listed or not.
    pub fn get(&self, name: &str) -> Option<&Arc<Definition>> {
        self.by_name.get(name)
    }

    /// The agents that this user may start, by name; with the model providers that the user has keys of their own
    /// for, of [those](Self::wanted_keys) that agents lack one for.
    pub fn list_for(
        &self,
        ctx: &UserExecutionContext,
        own_keys: &BTreeSet<String>,
    ) -> Vec<netra_protocol::agent::Agent> {
        if ctx.user_id().is_none() {
            return Vec::new();
        }
        let described = |agent: &Arc<Definition>| agent.describe(own_keys);
        self.startable().map(described).collect()
    }

    /// The model providers that agents lack a key for which a user may have.
    pub fn wanted_keys(&self) -> BTreeSet<&str> {
        let wanted = self
            .by_name
            .values()
            .filter_map(|agent| agent.needs_key.as_ref());
        wanted.map(|needs| needs.provider.as_str()).collect()
    }

    /// The agent of this name, if this user may start it.
    pub fn get_for(&self, ctx: &UserExecutionContext, name: &str) -> Option<&Arc<Definition>> {
        ctx.user_id()?;
        self.by_name.get(name).filter(|agent| agent.listed)
    }

    /// Every agent, listed or not, by name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Definition>> {
        self.by_name.values()
    }

    /// What is wrong with those that are not ready.
    pub fn check(&self) -> Vec<Problem> {
        let problem = |agent: &Arc<Definition>| {
            let problem = agent.problem_with(&BTreeSet::new())?;
            Some(Problem {
                agent: agent.name.clone(),
                problem: problem.to_owned(),
            })
        };
        self.by_name.values().filter_map(problem).collect()
    }

    fn startable(&self) -> impl Iterator<Item = &Arc<Definition>> {
        self.by_name.values().filter(|agent| agent.listed)
    }
}

#[cfg(test)]
mod tests;
