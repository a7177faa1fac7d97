//! Sub-agents: an agent calls another one, or hands its conversation over to it. Either way the other
//! works in a frame of its own, within this one.

use std::sync::Arc;

use netra_context::{Right, Rights};
use netra_model::Message as Said;
use netra_protocol::error::{ErrorCode, Failure};
use netra_store::{Changes, JournalKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::agents::Definition;
use crate::closing;
use crate::execution::{Fault, Frame, Place, unwritten};
use crate::perform;
use crate::spans::AgentSpan;
use crate::version;

/// What a sub-agent may do at most: work for its user, and not speak for them.
const RIGHTS: Rights = Rights::NONE
    .with(Right::Read)
    .with(Right::Run)
    .with(Right::Files);

/// How a sub-agent ended, as the journal keeps it. One that ended with its run has no such entry.
#[derive(Serialize, Deserialize)]
struct Ended {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

/// How a sub-agent began, as the journal keeps it.
#[derive(Serialize, Deserialize)]
struct Began {
    /// With which version.
    agent_hash: String,
    /// In which step of the agent that called it.
    parent_step: u32,
}

/// What another agent is to do.
pub(crate) struct Errand<'a> {
    /// The key of the call in the run's journal.
    pub(crate) key: String,
    /// The step in which it is called.
    pub(crate) parent_step: u32,
    pub(crate) agent: &'a str,
    /// A text, or an object that fits its schema.
    pub(crate) input: Value,
    /// The conversation that it takes over; none where it gets its input only.
    pub(crate) conversation: Option<Vec<Said>>,
}

fn refused(words: String) -> Fault {
    Fault::agent(ErrorCode::AgentFailed, words)
}

impl Frame<'_> {
    /// Begins the step of a call of another agent, and gives it: the one of an earlier attempt where
    /// there was.
    pub(crate) fn step_of_errand(&self, key: &str) -> Result<u32, Fault> {
        match self.began(key) {
            Some(began) => self.in_step(began.parent_step),
            None => self.next_step()?,
        }
        Ok(self.step())
    }

    fn began(&self, key: &str) -> Option<Began> {
        let recorded = self.recorded(key, JournalKind::AgentStarted)?;
        Began::deserialize(&recorded.value).ok()
    }

    /// Lets another agent work, in a frame of its own, and gives its result: an operation of its own.
    pub(crate) async fn let_work(&self, errand: Errand<'_>) -> Result<Value, Fault> {
        let Errand {
            key,
            parent_step,
            agent: name,
            input,
            conversation,
        } = errand;
        if let Some(ended) = self.recorded(&key, JournalKind::AgentCompleted)
            && let Ok(ended) = Ended::deserialize(&ended.value)
        {
            return match ended.error {
                None => Ok(ended.result.unwrap_or_default()),
                Some(failure) => Err(Fault::Agent(failure)),
            };
        }
        let hands_over = conversation.is_some();
        let began = self.recorded(&key, JournalKind::AgentStarted);
        let agent = self
            .other(self.began(&key).as_ref(), name, hands_over)
            .await?;
        let input = agent.accept(input).map_err(|misfits| {
            let misfits = misfits.join("; ");
            let words = format!("the input does not fit the agent {name}: {misfits}");
            Fault::agent(ErrorCode::InvalidInput, words)
        })?;
        let ctx = self.ctx.child(format!("agent {name}")).narrowed(RIGHTS);
        let place = Place {
            depth: self.depth + 1,
            first_step: began.map_or_else(|| self.take_step(), |began| Ok(began.step))?,
            began: began.map_or_else(|| ctx.runtime().now(), |began| began.at),
            key,
            speaks: hands_over && self.speaks,
            conversation,
        };
        let begin = (place.first_step, place.began);
        let span = AgentSpan::begin(self.execution, &ctx, &agent, begin);
        let own = span.context(&ctx);
        let ctx = own.as_deref().unwrap_or(&ctx);
        let frame = Frame::begun((self.execution, span), ctx, &agent, input, place);
        if began.is_none() {
            frame.begin(parent_step).await?;
        }
        frame.drive().await
    }

    /// The definition that the other agent began with, or the one of now.
    async fn other(
        &self,
        began: Option<&Began>,
        name: &str,
        hands_over: bool,
    ) -> Result<Arc<Definition>, Fault> {
        let listed = match hands_over {
            true => &self.agent.conduct.handoffs,
            false => &self.agent.sub_agents,
        };
        if !listed.iter().any(|agent| agent == name) {
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

    /// Work and end of a sub-agent. Where the run ends or waits with it, that is no end of its own:
    /// the engine closes what is open, or goes on with it.
    async fn drive(self) -> Result<Value, Fault> {
        let (mut changes, mut emissions) = (Changes::default(), Vec::new());
        let (ended, outcome) = match Box::pin(perform::perform(&self)).await {
            Ok(finished) => {
                changes.messages = finished.last.messages;
                changes.journal = finished.last.journal;
                emissions = finished.last.emissions;
                let ended = Ended {
                    result: Some(finished.result.clone()),
                    error: None,
                };
                (ended, Ok(finished.result))
            }
            Err(Fault::Agent(failure)) => {
                self.span.stopped_by(&Fault::Agent(failure.clone()));
                if self.speaks {
                    self.cut_off(&mut changes, &mut emissions).await?;
                }
                let ended = Ended {
                    result: None,
                    error: Some(failure.clone()),
                };
                (ended, Err(Fault::Agent(failure)))
            }
            Err(fault) => {
                self.span.stopped_by(&fault);
                return Err(fault);
            }
        };
        let entry = self.entry(self.key.clone(), JournalKind::AgentCompleted, json!(ended));
        changes.journal.push(entry);
        emissions.push(self.completed(ended.result.as_ref()));
        self.commit(changes, emissions).await?;
        outcome
    }

    /// Closes the message that a failed agent was writing to the user.
    async fn cut_off(
        &self,
        changes: &mut Changes,
        emissions: &mut Vec<netra_events::Emission>,
    ) -> Result<(), Fault> {
        let (store, emitter) = (&self.execution.infra.store, &self.execution.emitter);
        let open = closing::open_in_log(self.ctx, store, emitter).await;
        let open = open.map_err(|error| unwritten(&error))?;
        for message in open.messages_of(&self.agent.name) {
            let (emission, row) = message.cut_off(emitter);
            emissions.push(emission);
            changes.messages.push(row);
        }
        Ok(())
    }
}
