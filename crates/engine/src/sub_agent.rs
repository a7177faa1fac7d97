//! Sub-agents: an agent calls another one, which works in a frame of its own.

use std::sync::Arc;

use netra_protocol::error::{ErrorCode, Failure};
use netra_store::{Changes, JournalKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::agents::Definition;
use crate::execution::{Fault, Frame, Place};
use crate::perform;
use crate::version;

/// How a sub-agent ended, as the journal keeps it.
#[derive(Serialize, Deserialize)]
struct Ended {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
    /// Whether the error was that of the run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ends_run: bool,
}

/// How a sub-agent began, as the journal keeps it.
#[derive(Serialize, Deserialize)]
struct Began {
    /// With which version.
    agent_hash: String,
    /// In which step of the agent that called it.
    parent_step: u32,
}

fn refused(words: String) -> Fault {
    Fault::agent(ErrorCode::AgentFailed, words)
}

impl Frame<'_> {
    /// Lets one of the agent's sub-agents work, in a frame of its own, and gives its result: an
    /// operation of its own.
    pub(crate) async fn call_agent(
        &self,
        key: String,
        name: &str,
        input: Value,
    ) -> Result<Value, Fault> {
        let began = self.recorded(&key, JournalKind::AgentStarted);
        let how = began.and_then(|began| Began::deserialize(&began.value).ok());
        match &how {
            Some(how) => self.in_step(how.parent_step),
            None => self.next_step()?,
        }
        // Read before anything is awaited: another call may be at work beside this one.
        let parent_step = self.step();
        if let Some(ended) = self.recorded(&key, JournalKind::AgentCompleted)
            && let Ok(ended) = Ended::deserialize(&ended.value)
        {
            return match ended.error {
                None => Ok(ended.result.unwrap_or_default()),
                Some(failure) if ended.ends_run => Err(Fault::Run(failure)),
                Some(failure) => Err(Fault::Agent(failure)),
            };
        }
        let agent = self.sub_agent(how.as_ref(), name).await?;
        let input = agent.accept(input).map_err(|misfits| {
            let misfits = misfits.join("; ");
            let words = format!("the input does not fit the agent {name}: {misfits}");
            Fault::agent(ErrorCode::InvalidInput, words)
        })?;
        let ctx = self.ctx.child(format!("agent {name}"));
        let place = Place {
            depth: self.depth + 1,
            first_step: began.map_or_else(|| self.take_step(), |began| Ok(began.step))?,
            began: began.map_or_else(|| ctx.runtime().now(), |began| began.at),
            key,
        };
        let frame = Frame::begun(self.execution, &ctx, &agent, input, place);
        if began.is_none() {
            frame.begin(parent_step).await?;
        }
        frame.drive().await
    }

    /// The definition that the sub-agent began with, or the one of now.
    async fn sub_agent(&self, began: Option<&Began>, name: &str) -> Result<Arc<Definition>, Fault> {
        if !self.agent.sub_agents.iter().any(|agent| agent == name) {
            return Err(refused(format!(
                "the agent has no sub-agent named {name:?}"
            )));
        }
        let allowed = self.execution.limits.depth;
        if self.depth >= allowed {
            let words = format!("agents may be nested {allowed} deep");
            return Err(Fault::Run(Failure::new(
                ErrorCode::DepthLimitExceeded,
                words,
            )));
        }
        let infra = &self.execution.infra;
        let found = match began {
            Some(began) => version::of_run(self.ctx, infra, name, &began.agent_hash).await,
            None => infra.agents.get(name),
        };
        let Some(agent) = found else {
            return Err(refused(format!("there is no agent named {name:?}")));
        };
        match &agent.problem {
            Some(problem) => Err(refused(format!("the agent {name} is not ready: {problem}"))),
            None => Ok(agent),
        }
    }

    async fn begin(&self, parent_step: u32) -> Result<(), Fault> {
        let began = Began {
            agent_hash: self.agent.hash.clone(),
            parent_step,
        };
        let changes = Changes {
            journal: vec![self.entry(self.key.clone(), JournalKind::AgentStarted, json!(began))],
            ..Changes::default()
        };
        self.commit(changes, vec![self.started(Some(parent_step))])
            .await
    }

    /// Work and end of a sub-agent.
    async fn drive(self) -> Result<Value, Fault> {
        let outcome = Box::pin(perform::perform(&self)).await;
        let (mut changes, mut emissions) = (Changes::default(), Vec::new());
        let ended = match &outcome {
            Err(Fault::Waiting) => return Err(Fault::Waiting),
            Ok(finished) => {
                changes.messages.clone_from(&finished.last.messages);
                changes.journal.clone_from(&finished.last.journal);
                emissions.clone_from(&finished.last.emissions);
                Ended {
                    result: Some(finished.result.clone()),
                    error: None,
                    ends_run: false,
                }
            }
            Err(Fault::Agent(failure) | Fault::Run(failure)) => Ended {
                result: None,
                error: Some(failure.clone()),
                ends_run: matches!(outcome, Err(Fault::Run(_))),
            },
        };
        let entry = self.entry(self.key.clone(), JournalKind::AgentCompleted, json!(ended));
        changes.journal.push(entry);
        emissions.push(self.completed(ended.result.as_ref()));
        self.commit(changes, emissions).await?;
        outcome.map(|finished| finished.result)
    }
}
