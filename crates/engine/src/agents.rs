//! The agents of the server: read at start from what is built in, from the program that embeds the server,
//! and from a folder; read again when the folder's files change.
//!
//! A broken agent stops nothing: it is listed as not ready, with the file and line of its problem. A newer
//! version that is broken does not take the place of one that works; its problem is told beside it.

mod calls;
mod conduct;
mod definition;
mod load;
mod manifest;
mod stubs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use netra_context::UserExecutionContext;
use netra_model::Models;
use netra_protocol::agent::AgentKind;
use netra_tools::Registry;
use parking_lot::RwLock;

use crate::native::{Agent, Echo};

pub use calls::Calls;
pub(crate) use conduct::{CALLS, FINAL_ANSWER, HANDS_OVER};
pub use conduct::{Conduct, Overflow};
pub(crate) use definition::Shape;
pub use definition::{Body, Definition, NeedsKey};
pub use load::{EmbeddedAgent, check_name};
pub use stubs::stub;

/// All agents by name. What there is at a moment is replaced whole.
pub struct Agents {
    builtin: Vec<EmbeddedAgent>,
    native: BTreeMap<String, Arc<dyn Agent>>,
    dir: Option<PathBuf>,
    shelf: RwLock<Arc<Shelf>>,
}

type Shelf = BTreeMap<String, Listed>;

/// One agent as it is in force.
#[derive(Clone)]
struct Listed {
    agent: Arc<Definition>,
    /// What is wrong with its newest files, which have not taken its place.
    newer: Option<String>,
}

/// What is wrong with one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The agent.
    pub agent: String,
    /// File, line where there is one, and what is wrong.
    pub problem: String,
}

/// What a new reading of the files has changed of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is new, or new runs begin with another version.
    Taken(String),
    /// It is there no more.
    Gone(String),
    /// Its new files are wrong. The version before goes on, where there was one that worked.
    Broken(Problem),
}

/// The agents as their files have them now, not in force yet.
pub(crate) struct Reading {
    shelf: Shelf,
    changes: Vec<Change>,
}

impl Reading {
    pub(crate) fn agents(&self) -> impl Iterator<Item = &Arc<Definition>> {
        self.shelf.values().map(|listed| &listed.agent)
    }
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
        Self::load_with(Vec::new(), builtin, dir, tools, models)
    }

    /// The same with agents of the program that embeds the server; one of the folder takes the place of one
    /// of the same name.
    pub fn load_with(
        native: Vec<Arc<dyn Agent>>,
        builtin: &[EmbeddedAgent],
        dir: Option<&Path>,
        tools: &Registry,
        models: &Models,
    ) -> Self {
        let own: Arc<dyn Agent> = Arc::new(Echo);
        let native = std::iter::once(own).chain(native);
        let agents = Self {
            builtin: builtin.to_vec(),
            native: native
                .map(|agent| (agent.name().to_owned(), agent))
                .collect(),
            dir: dir.map(Path::to_owned),
            shelf: RwLock::default(),
        };
        let first = agents.read_again(tools, models);
        agents.put(first);
        agents
    }

    /// Reads all files anew. Nothing changes before this is put in force.
    pub(crate) fn read_again(&self, tools: &Registry, models: &Models) -> Reading {
        let mut drafts = load::embedded(&self.builtin);
        for (name, agent) in &self.native {
            // An agent that is built in says in its files what it is besides its code.
            let described = self.builtin.iter().any(|builtin| builtin.name == name);
            if !described && name != Echo::NAME {
                drafts.insert(name.clone(), load::native(agent));
            }
        }
        for draft in self.dir.iter().flat_map(|dir| load::folder(dir)) {
            drafts.insert(draft.name().to_owned(), draft);
        }
        let kind = |(name, draft): (&String, &load::Draft)| (name.clone(), draft.kind());
        let kinds: BTreeMap<String, AgentKind> = drafts.iter().map(kind).collect();
        let known = load::Known {
            tools,
            models,
            agents: &kinds,
            native: &self.native,
        };
        let before = self.now();
        let (mut shelf, mut changes) = (Shelf::new(), Vec::new());
        for (name, draft) in drafts {
            let (listed, change) = Listed::after(before.get(&name), draft.finish(&known));
            changes.extend(change);
            shelf.insert(name, listed);
        }
        let gone = before.keys().filter(|name| !shelf.contains_key(*name));
        changes.extend(gone.map(|name| Change::Gone(name.clone())));
        Reading { shelf, changes }
    }

    /// Puts a reading in force: runs that begin from now on begin with it.
    pub(crate) fn put(&self, reading: Reading) -> Vec<Change> {
        *self.shelf.write() = Arc::new(reading.shelf);
        reading.changes
    }

    fn now(&self) -> Arc<Shelf> {
        Arc::clone(&self.shelf.read())
    }

    /// An earlier version of an agent, from its files; the agents that it may call are those of now.
    pub(crate) fn version(
        &self,
        name: &str,
        files: BTreeMap<String, String>,
        tools: &Registry,
        models: &Models,
    ) -> Definition {
        let kind = |(name, listed): (&String, &Listed)| (name.clone(), listed.agent.kind);
        let kinds: BTreeMap<String, AgentKind> = self.now().iter().map(kind).collect();
        let known = load::Known {
            tools,
            models,
            agents: &kinds,
            native: &self.native,
        };
        load::version(name, files).finish(&known)
    }

    /// The folder that agents are read from besides the built-in ones.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// The agent of this name, whether it is ready or not, listed or not.
    pub fn get(&self, name: &str) -> Option<Arc<Definition>> {
        let shelf = self.now();
        shelf.get(name).map(|listed| Arc::clone(&listed.agent))
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
        let shelf = self.now();
        let startable = shelf.values().filter(|listed| listed.agent.listed);
        startable.map(|listed| listed.describe(own_keys)).collect()
    }

    /// The model providers that agents lack a key for which a user may have.
    pub fn wanted_keys(&self) -> BTreeSet<String> {
        let shelf = self.now();
        let wanted = shelf
            .values()
            .filter_map(|listed| listed.agent.needs_key.as_ref());
        wanted.map(|needs| needs.provider.clone()).collect()
    }

    /// The agent of this name, if this user may start it.
    pub fn get_for(&self, ctx: &UserExecutionContext, name: &str) -> Option<Arc<Definition>> {
        ctx.user_id()?;
        self.get(name).filter(|agent| agent.listed)
    }

    /// Every agent, listed or not, by name.
    pub fn all(&self) -> Vec<Arc<Definition>> {
        let shelf = self.now();
        shelf
            .values()
            .map(|listed| Arc::clone(&listed.agent))
            .collect()
    }

    /// What is wrong with those that are not ready, and with newer files of those that are.
    pub fn check(&self) -> Vec<Problem> {
        let none = BTreeSet::new();
        let problem = |(name, listed): (&String, &Listed)| {
            let problem = listed.agent.problem_with(&none).map(str::to_owned);
            Some(Problem {
                agent: name.clone(),
                problem: problem.or(listed.newer.clone())?,
            })
        };
        self.now().iter().filter_map(problem).collect()
    }
}

impl Listed {
    /// What is in force after this was read of the files, and what that has changed.
    fn after(before: Option<&Self>, read: Definition) -> (Self, Option<Change>) {
        let problem = read.problem.clone().map(|problem| Problem {
            agent: read.name.clone(),
            problem,
        });
        let Some(before) = before else {
            let change = Change::Taken(read.name.clone());
            return (Self::of(read), Some(problem.map_or(change, Change::Broken)));
        };
        let told = before.newer.as_ref().or(before.agent.problem.as_ref());
        match problem {
            Some(problem) => {
                let is_news = told != Some(&problem.problem);
                let listed = match before.agent.problem {
                    None => Self {
                        agent: Arc::clone(&before.agent),
                        newer: Some(problem.problem.clone()),
                    },
                    Some(_) => Self::of(read),
                };
                (listed, is_news.then_some(Change::Broken(problem)))
            }
            None if read.hash == before.agent.hash && told.is_none() => (before.clone(), None),
            None => {
                let change = Change::Taken(read.name.clone());
                (Self::of(read), Some(change))
            }
        }
    }

    fn of(agent: Definition) -> Self {
        Self {
            agent: Arc::new(agent),
            newer: None,
        }
    }

    fn describe(&self, own_keys: &BTreeSet<String>) -> netra_protocol::agent::Agent {
        let mut agent = self.agent.describe(own_keys);
        if let Some(newer) = &self.newer {
            agent.problem = Some(format!(
                "the newest files are wrong, and the version before goes on: {newer}"
            ));
        }
        agent
    }
}

#[cfg(test)]
mod tests;
