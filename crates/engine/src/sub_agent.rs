//! Sub-agents: an agent calls another one, or hands its conversation over to it. Either way the other
//! works in a frame of its own, within this one.

use std::sync::Arc;

use netra_context::{Right, Rights};
use netra_model::Message as Said;
use netra_protocol::error::{ErrorCode, Failure};
use netra_store::{Changes, JournalEntry, JournalKind, Recorded};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::agents::Definition;
use crate::closing;
use crate::custody::Held;
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
pub(crate) struct Ended {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

impl Ended {
    pub(crate) fn failed(failure: &Failure) -> Self {
        Self {
            result: None,
            error: Some(failure.clone()),
        }
    }

    pub(crate) fn entry(&self, key: String, step: u32) -> JournalEntry {
        JournalEntry {
            key,
            kind: JournalKind::AgentCompleted,
            step,
            value: json!(self),
        }
    }

    fn outcome(self) -> Result<Value, Fault> {
        match self.error {
            None => Ok(self.result.unwrap_or_default()),
            Some(failure) => Err(Fault::Agent(failure)),
        }
    }
}

/// How a sub-agent began, as the journal keeps it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Began {
    /// With which version.
    agent_hash: String,
    /// In which step of the agent that called it.
    parent_step: u32,
    /// What it had kept in its thread, where it keeps something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<Kept>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    agent: String,
    state: Value,
}

impl Began {
    /// The name of the agent that keeps something in its thread, where the recorded one does.
    pub(crate) fn keeper(recorded: &Recorded) -> Option<&str> {
        recorded.value.get("kept")?.get("agent")?.as_str()
    }
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

/// Another agent, ready to work.
struct Other<'a> {
    agent: Arc<Definition>,
    input: Value,
    /// What it has kept in its thread, where it keeps something.
    kept: Option<Value>,
    _held: Option<Held<'a>>,
}

fn refused(words: String) -> Fault {
    Fault::agent(ErrorCode::AgentFailed, words)
}

impl Frame<'_> {
    /// Begins the step of a call of another agent, and gives it: the one of an earlier attempt where
    /// there was.
    pub(crate) fn step_of_errand(&self, key: &str) -> Result<u32, Fault> {
        let refused = || self.recorded(key, JournalKind::AgentCompleted);
        match self.began(key) {
            Some(began) => self.in_step(began.parent_step),
            None => match refused() {
                Some(refused) => self.in_step(refused.step),
                None => self.next_step()?,
            },
        }
        Ok(self.step())
    }

    fn began(&self, key: &str) -> Option<Began> {
        let recorded = self.recorded(key, JournalKind::AgentStarted)?;
        Began::deserialize(&recorded.value).ok()
    }

    /// Lets another agent work, in a frame of its own, and gives its result: an operation of its own.
    pub(crate) async fn let_work(&self, mut errand: Errand<'_>) -> Result<Value, Fault> {
        if let Some(ended) = self.recorded(&errand.key, JournalKind::AgentCompleted)
            && let Ok(ended) = Ended::deserialize(&ended.value)
        {
            return ended.outcome();
        }
        let began = self.recorded(&errand.key, JournalKind::AgentStarted);
        let other = match self.other(&mut errand).await {
            Ok(other) => other,
            Err(Fault::Agent(failure)) => {
                return Err(Box::pin(self.refuse(errand, began.is_some(), failure)).await);
            }
            Err(fault) => return Err(fault),
        };
        let agent = other.agent;
        let ctx = self.ctx.child(format!("agent {}", errand.agent));
        let ctx = ctx.narrowed(RIGHTS);
        let place = Place {
            depth: self.depth + 1,
            first_step: began.map_or_else(|| self.take_step(), |began| Ok(began.step))?,
            began: began.map_or_else(|| ctx.runtime().now(), |began| began.at),
            key: errand.key,
            speaks: errand.conversation.is_some() && self.speaks,
            conversation: errand.conversation,
            kept: other.kept,
        };
        let begin = (place.first_step, place.began);
        let span = AgentSpan::begin(self.execution, &ctx, &agent, begin);
        let own = span.context(&ctx);
        let ctx = own.as_deref().unwrap_or(&ctx);
        let frame = Frame::begun((self.execution, span), ctx, &agent, other.input, place);
        if began.is_none() {
            frame.begin(errand.parent_step).await?;
        }
        frame.drive().await
    }

    /// Who is to work, on what. It is ready, and what it keeps in its thread is its own.
    async fn other(&self, errand: &mut Errand<'_>) -> Result<Other<'_>, Fault> {
        let name = errand.agent;
        let hands_over = errand.conversation.is_some();
        let began = self.began(&errand.key);
        let agent = self.find(began.as_ref(), name, hands_over).await?;
        let input = agent.accept(std::mem::take(&mut errand.input));
        let input = input.map_err(|misfits| {
            let misfits = misfits.join("; ");
            let words = format!("the input does not fit the agent {name}: {misfits}");
            Fault::agent(ErrorCode::InvalidInput, words)
        })?;
        let mut other = Other {
            agent,
            input,
            kept: None,
            _held: None,
        };
        if other.agent.keeps_state {
            let custody = &self.execution.custody;
            let held = Box::pin(custody.take(self.rest(), name, &errand.key));
            other._held = Some(held.await?);
            other.kept = Some(match began.and_then(|began| began.kept) {
                Some(kept) => kept.state,
                None => perform::state::of(self, name).await?,
            });
        }
        Ok(other)
    }

    /// Notes that the other agent does not work on, and closes what an earlier attempt of it has left open.
    async fn refuse(&self, errand: Errand<'_>, began: bool, failure: Failure) -> Fault {
        let ended = match began {
            true => self.end_within(&[errand.key], &failure).await,
            false => {
                let entry = Ended::failed(&failure).entry(errand.key, errand.parent_step);
                let changes = Changes {
                    journal: vec![entry],
                    ..Changes::default()
                };
                self.commit(changes, Vec::new()).await
            }
        };
        ended.err().unwrap_or(Fault::Agent(failure))
    }

    /// The definition that the other agent began with, or the one of now.
    async fn find(
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
            kept: self.kept.clone().map(|state| Kept {
                agent: self.agent.name.clone(),
                state,
            }),
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
                (Ended::failed(&failure), Err(Fault::Agent(failure)))
            }
            Err(fault) => {
                self.span.stopped_by(&fault);
                return Err(fault);
            }
        };
        let entry = ended.entry(self.key.clone(), self.step());
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
