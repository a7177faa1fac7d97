//! Who of a run has what an agent keeps in its thread: one call of each agent at a time, from what it reads to
//! what it leaves, so that nothing is lost between calls side by side.

use std::collections::{HashMap, HashSet};
use std::pin::pin;

use netra_protocol::error::ErrorCode;
use netra_store::{Journal, JournalKind};
use netra_tools::Rest;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::agents::Definition;
use crate::execution::{Fault, is_within};
use crate::sub_agent::Began;

/// Of one run.
#[derive(Default)]
pub(crate) struct Custody {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// By the name of the agent: the key of the call that has it; an empty one for the run's own agent.
    held: HashMap<String, String>,
    /// Who waits: the key of a call, and the agent.
    wanted: Vec<(String, String)>,
}

impl Custody {
    /// Of a run with this agent. What a call of an earlier attempt has read and not left yet is its own again.
    pub(crate) fn of(journal: &Journal, root: &Definition) -> Self {
        let mut held = HashMap::new();
        for (key, began) in journal.keys_of_kind(JournalKind::AgentStarted) {
            let is_open = journal.get(key, JournalKind::AgentCompleted).is_none();
            if let Some(agent) = Began::keeper(began).filter(|_| is_open) {
                held.insert(agent.to_owned(), key.to_owned());
            }
        }
        if root.keeps_state {
            held.insert(root.name.clone(), String::new());
        }
        let state = State {
            held,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            ..Self::default()
        }
    }

    /// Waits until no other call of the agent has it.
    ///
    /// # Errors
    /// For one that would wait for itself; `Waiting` where a person is asked before its turn comes.
    pub(crate) async fn take(
        &self,
        rest: &Rest,
        agent: &str,
        key: &str,
    ) -> Result<Held<'_>, Fault> {
        let held = || Held {
            custody: self,
            agent: agent.to_owned(),
            key: key.to_owned(),
        };
        if self.state.lock().give(agent, key)? {
            return Ok(held());
        }
        let _wanted = self.want(agent, key);
        let turn = async {
            loop {
                let mut changed = pin!(self.changed.notified());
                changed.as_mut().enable();
                if self.state.lock().give(agent, key)? {
                    return Ok(held());
                }
                changed.await;
            }
        };
        rest.until(turn).await.unwrap_or(Err(Fault::Waiting))
    }

    fn want(&self, agent: &str, key: &str) -> Wanted<'_> {
        let wanted = (key.to_owned(), agent.to_owned());
        self.state.lock().wanted.push(wanted.clone());
        Wanted {
            custody: self,
            wanted,
        }
    }

    /// What these operations have, and what is within them, is free: they work no more.
    pub(crate) fn release_within(&self, operations: &[String]) {
        let within = |key: &String| operations.iter().any(|outer| is_within(key, outer));
        self.state.lock().held.retain(|_, key| !within(key));
        self.changed.notify_waiters();
    }
}

impl State {
    /// Gives it to this call, unless another one has it.
    fn give(&mut self, agent: &str, key: &str) -> Result<bool, Fault> {
        match self.held.get(agent) {
            Some(holder) if holder == key => Ok(true),
            Some(_) if self.closes_a_circle(agent, key) => {
                let words = format!(
                    "the agent {agent} keeps a state and is at work already; this call of it would wait for itself"
                );
                Err(Fault::agent(ErrorCode::AgentFailed, words))
            }
            Some(_) => Ok(false),
            None => {
                self.held.insert(agent.to_owned(), key.to_owned());
                Ok(true)
            }
        }
    }

    /// Whether who has it waits, over others or not, for the agent that makes this call.
    fn closes_a_circle(&self, agent: &str, key: &str) -> bool {
        let (mut agents, mut seen) = (vec![agent], HashSet::new());
        while let Some(agent) = agents.pop() {
            let Some(holder) = self.held.get(agent).filter(|_| seen.insert(agent)) else {
                continue;
            };
            if is_within(key, holder) {
                return true;
            }
            let waiting = self.wanted.iter().filter(|(key, _)| is_within(key, holder));
            agents.extend(waiting.map(|(_, agent)| agent.as_str()));
        }
        false
    }
}

/// What an agent keeps is this call's, until it is dropped.
pub(crate) struct Held<'a> {
    custody: &'a Custody,
    agent: String,
    key: String,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.custody.state.lock();
        if state.held.get(&self.agent) == Some(&self.key) {
            state.held.remove(&self.agent);
        }
        drop(state);
        self.custody.changed.notify_waiters();
    }
}

/// A call waits for its turn, until it is dropped.
struct Wanted<'a> {
    custody: &'a Custody,
    wanted: (String, String),
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        let mut state = self.custody.state.lock();
        state.wanted.retain(|wanted| *wanted != self.wanted);
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn one_call_of_an_agent_has_it_and_the_next_one_comes_after() {
        let (custody, rest) = (Custody::default(), Rest::default());
        assert!(rest.begun(1));
        let first = custody.take(&rest, "a", "1").await.unwrap();
        custody.take(&rest, "b", "2").await.unwrap();
        let mut second = pin!(custody.take(&rest, "a", "2"));
        assert!(poll!(second.as_mut()).is_pending());
        drop(first);
        second.await.unwrap();
    }

    #[tokio::test]
    async fn a_call_that_would_wait_for_itself_is_refused() {
        let (custody, rest) = (Custody::default(), Rest::default());
        assert!(rest.begun(3));
        let _a = custody.take(&rest, "a", "1").await.unwrap();
        let own = custody.take(&rest, "a", "1.1").await;
        assert!(matches!(own, Err(Fault::Agent(_))), "it is its own");
        let _b = custody.take(&rest, "b", "10").await.unwrap();
        // 10 is no part of 1.
        let mut waits = pin!(custody.take(&rest, "a", "10.1"));
        assert!(poll!(waits.as_mut()).is_pending());
        let circle = custody.take(&rest, "b", "1.2").await;
        assert!(matches!(circle, Err(Fault::Agent(_))), "10 waits for 1");
    }
}
