//! An agent of somebody's own code behind an HTTP endpoint: it is asked in turns, each of which ends
//! with calls that the server makes for it, or with its result. What a turn gave is in the run's
//! journal, so that no turn is asked twice; what it says meanwhile reaches the user as it is said.

use netra_context::memory::{self, OverLimit};
use netra_context::runtime::TaskKind;
use netra_context::{Secret, Trace};
use netra_endpoint::{Answered, Endpoint, Error, Offer, PROTOCOL, Said, Step, Turn};
use netra_model::{Message as Told, ToolSpec};
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::id::MessageId;
use netra_protocol::message::MessageRole;
use netra_store::{Changes, JournalKind};
use netra_tools::held_by;
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::code_calls::{self, Call};
use super::history::conversation;
use super::say;
use crate::ending::Last;
use crate::execution::{Fault, Finished, Frame, thought, unwritten};
use crate::message;

/// How often what a turn gave is held besides itself while it is written down: as the entry's value
/// and as its text.
const COPIES: usize = 2;

pub(super) async fn perform(frame: &Frame<'_>, endpoint: &Endpoint) -> Result<Finished, Fault> {
    let visit = Visit::begin(frame, endpoint).await?;
    let mut notice = Notice {
        visit: &visit,
        works: false,
    };
    let outcome = visit.turns(&mut notice).await;
    if matches!(outcome, Err(Fault::Run(_))) {
        notice.tell();
    }
    notice.works = false;
    outcome
}

/// All that stays the same from turn to turn.
struct Visit<'a> {
    frame: &'a Frame<'a>,
    endpoint: &'a Endpoint,
    secret: Option<Secret>,
    files: Value,
    messages: Vec<Said>,
    tools: Vec<Offer>,
    agents: Vec<Offer>,
}

/// What one turn is made of besides.
struct Asked {
    turn: u32,
    state: Value,
    results: Vec<Answered>,
}

/// What one turn gave, and what is to be committed with it.
struct Given {
    step: Step,
    last: Last,
    spoke: bool,
}

impl<'a> Visit<'a> {
    async fn begin(frame: &'a Frame<'a>, endpoint: &'a Endpoint) -> Result<Self, Fault> {
        let secret = match &endpoint.secret {
            None => None,
            Some(name) => {
                let scope = frame.execution.dispatcher.scope();
                let opened = scope.secret(frame.ctx, name, &endpoint.place()).await;
                Some(opened.map_err(|words| Fault::agent(ErrorCode::AgentFailed, words))?)
            }
        };
        Ok(Self {
            frame,
            endpoint,
            secret,
            files: frame.files(),
            messages: messages(frame).await?,
            tools: tools(frame).await,
            agents: agents(frame),
        })
    }

    async fn turns(&self, notice: &mut Notice<'_>) -> Result<Finished, Fault> {
        let frame = self.frame;
        let mut asked = Asked {
            turn: 1,
            state: Value::Null,
            results: Vec::new(),
        };
        loop {
            let key = frame.next_key();
            frame.step_for(&key)?;
            let recorded = frame.recorded(&key, JournalKind::Turn);
            let recorded = recorded.and_then(|entry| Step::deserialize(&entry.value).ok());
            let given = match recorded {
                Some(step) => Given {
                    step,
                    last: Last::default(),
                    spoke: false,
                },
                None => {
                    notice.works = true;
                    self.ask(&key, &asked).await?
                }
            };
            match given.step {
                Step::Calls { calls, state } => {
                    if !given.last.journal.is_empty() {
                        let Last {
                            journal,
                            messages,
                            emissions,
                            ..
                        } = given.last;
                        let changes = Changes {
                            journal,
                            messages,
                            ..Changes::default()
                        };
                        frame.commit(changes, emissions).await?;
                    }
                    asked = Asked {
                        turn: asked.turn + 1,
                        state,
                        results: self.make(calls).await?,
                    };
                }
                Step::Error { message } => {
                    return Err(Fault::agent(ErrorCode::AgentFailed, message));
                }
                Step::Result { result } => {
                    return finish(frame, result, given.last, given.spoke).await;
                }
                Step::Think { .. } | Step::Text { .. } => {
                    return Err(Fault::agent(ErrorCode::Internal, "a turn has no end"));
                }
            }
        }
    }

    /// Asks the endpoint, and tells the user what it says on its way to the turn's end.
    async fn ask(&self, key: &str, asked: &Asked) -> Result<Given, Fault> {
        let frame = self.frame;
        let run = frame.execution.emitter.run();
        let turn = Turn {
            protocol: PROTOCOL,
            run_id: run.id,
            thread_id: run.thread_id,
            user_id: frame.ctx.user_id(),
            agent: &frame.agent.name,
            turn: asked.turn,
            remaining_ms: remaining_ms(frame),
            input: &frame.input,
            files: &self.files,
            messages: &self.messages,
            tools: &self.tools,
            agents: &self.agents,
            state: &asked.state,
            results: &asked.results,
        };
        // The same in each attempt, so that the endpoint can know a turn again.
        let id = format!("{}/{key}", run.id);
        let endpoints = &frame.execution.infra.endpoints;
        let trace = frame.ctx.trace().filter(Trace::is_sampled);
        let answer = endpoints.ask(self.endpoint, self.secret.as_ref(), (&turn, &id), trace);
        let mut answer = answer.await.map_err(|error| failed(&error))?;
        let mut spoken = None::<(MessageId, String)>;
        let scope = frame.execution.dispatcher.scope();
        let emitter = &frame.execution.emitter;
        loop {
            let step = {
                let mut next = std::pin::pin!(answer.next(|value| scope.without_secrets(value)));
                loop {
                    tokio::select! {
                        biased;
                        step = &mut next => break step.map_err(|error| failed(&error))?,
                        () = emitter.flush_due() => {
                            let flushed = emitter.flush(frame.ctx).await;
                            flushed.map_err(|error| unwritten(&error))?;
                        }
                    }
                }
            };
            match step {
                Step::Think { message, progress } => {
                    frame.emit(thought(&message, progress)).await?;
                }
                // What a sub-agent writes is for the agent that called it.
                Step::Text { text } if frame.speaks && !text.is_empty() => {
                    let (id, whole) = match &mut spoken {
                        Some(spoken) => spoken,
                        None => spoken.insert((message::begin(frame).await?, String::new())),
                    };
                    message::write_piece(frame, *id, &text).await?;
                    whole.push_str(&text);
                }
                Step::Text { .. } => {}
                step => return self.ended(key, step, spoken).await,
            }
        }
    }

    /// What is to be written down of a turn that has ended.
    async fn ended(
        &self,
        key: &str,
        step: Step,
        spoken: Option<(MessageId, String)>,
    ) -> Result<Given, Fault> {
        let _room = memory::reserve(COPIES * held(&step)).map_err(|over| no_room(&over))?;
        let mut last = Last::default();
        let spoke = spoken.is_some();
        if let Some((id, text)) = spoken {
            let whole = message::complete(self.frame, id, &text, Vec::new(), false).await?;
            last.emissions.push(whole.emission);
            last.messages.push(whole.row);
        }
        let entry = self
            .frame
            .entry(key.to_owned(), JournalKind::Turn, json!(step));
        last.journal.push(entry);
        Ok(Given { step, last, spoke })
    }

    /// Makes the calls that a turn ended with.
    async fn make(&self, calls: Vec<netra_endpoint::Call>) -> Result<Vec<Answered>, Fault> {
        let ids: Vec<_> = calls.iter().map(|call| call.id().to_owned()).collect();
        let calls = calls.into_iter().map(call).collect();
        let answers = code_calls::together(self.frame, calls).await?;
        let answered = |(id, answer): (String, Result<Value, Failure>)| match answer {
            Ok(result) => Answered {
                id,
                result: Some(result),
                error: None,
            },
            Err(failure) => Answered {
                id,
                result: None,
                error: Some(failure),
            },
        };
        Ok(ids.into_iter().zip(answers).map(answered).collect())
    }
}

fn call(call: netra_endpoint::Call) -> Call {
    use netra_endpoint::Call as Wish;
    match call {
        Wish::Tool {
            name, arguments, ..
        } => Call::Tool { name, arguments },
        Wish::Agent { name, input, .. } => Call::Agent { name, input },
        Wish::AskModel { prompt, system, .. } => Call::AskModel { prompt, system },
    }
}

/// The thread before the run's own question. A sub-agent gets none of it.
async fn messages(frame: &Frame<'_>) -> Result<Vec<Said>, Fault> {
    let mut before = conversation(frame).await?;
    before.pop();
    let said = |told| match told {
        Told::User { text, .. } => Some((MessageRole::User, text)),
        Told::Assistant { text, .. } => Some((MessageRole::Assistant, text)),
        Told::ToolResult { .. } => None,
    };
    let said = before.into_iter().filter_map(said);
    Ok(said.map(|(role, text)| Said { role, text }).collect())
}

/// The tools that this user may call by the agent.
async fn tools(frame: &Frame<'_>) -> Vec<Offer> {
    let dispatcher = &frame.execution.dispatcher;
    dispatcher.settled(frame.ctx, &frame.agent.tools).await;
    let offer = |tool: ToolSpec| Offer {
        name: tool.name,
        description: tool.description,
        input_schema: tool.input_schema,
    };
    super::model::tools(frame).into_iter().map(offer).collect()
}

fn remaining_ms(frame: &Frame<'_>) -> Option<u64> {
    let left = frame
        .ctx
        .deadline()?
        .saturating_duration_since(Instant::now());
    u64::try_from(left.as_millis()).ok()
}

/// The agents that this one may call, as far as they are there.
fn agents(frame: &Frame<'_>) -> Vec<Offer> {
    let all = &frame.execution.infra.agents;
    let named = frame.agent.sub_agents.iter();
    let ready = named
        .filter_map(|name| all.get(name))
        .filter(|agent| agent.problem.is_none());
    ready
        .map(|agent| Offer {
            name: agent.name.clone(),
            description: agent.description.clone(),
            input_schema: agent.input.schema.clone(),
        })
        .collect()
}

/// The agent's result, and its message where it has not said one.
async fn finish(
    frame: &Frame<'_>,
    result: Value,
    last: Last,
    spoke: bool,
) -> Result<Finished, Fault> {
    let result = match result {
        Value::String(text) => json!({ "text": text }),
        other => other,
    };
    let mut finished = Finished { result, last };
    if !spoke {
        say(frame, &mut finished, &["report_markdown", "text"]).await?;
    }
    Ok(finished)
}

/// What the end of a turn holds, in bytes.
fn held(step: &Step) -> usize {
    match step {
        Step::Result { result } => held_by(result),
        Step::Error { message } => message.len(),
        Step::Think { .. } | Step::Text { .. } => 0,
        Step::Calls { calls, state } => {
            let of_call = |call: &netra_endpoint::Call| match call {
                netra_endpoint::Call::Tool { arguments, .. } => {
                    arguments.values().map(held_by).sum()
                }
                netra_endpoint::Call::Agent { input, .. } => held_by(input),
                netra_endpoint::Call::AskModel { prompt, .. } => prompt.len(),
            };
            held_by(state) + calls.iter().map(of_call).sum::<usize>()
        }
    }
}

fn no_room(over: &OverLimit) -> Fault {
    Fault::agent(ErrorCode::MemoryLimitExceeded, over.to_string())
}

fn failed(error: &Error) -> Fault {
    let code = match error {
        Error::Memory(_) => ErrorCode::MemoryLimitExceeded,
        _ => ErrorCode::AgentFailed,
    };
    let failure = Failure::new(code, error.to_string());
    Fault::Agent(failure.with_details(json!({ "endpoint": error.reason() })))
}

/// Tells the endpoint that its run has stopped: when it is dropped while the endpoint works.
struct Notice<'a> {
    visit: &'a Visit<'a>,
    works: bool,
}

impl Notice<'_> {
    fn tell(&self) {
        let (execution, endpoint) = (self.visit.frame.execution, self.visit.endpoint.clone());
        let endpoints = execution.infra.endpoints.clone();
        let (secret, run) = (self.visit.secret.clone(), execution.emitter.run().id);
        execution.infra.runtime.spawn(TaskKind::Part, async move {
            endpoints.cancel(&endpoint, secret.as_ref(), run).await;
        });
    }
}

impl Drop for Notice<'_> {
    fn drop(&mut self) {
        let frame = self.visit.frame;
        let late = frame
            .ctx
            .deadline()
            .is_some_and(|end| Instant::now() >= end);
        // A run that waits for a person, or for the next start of the server, has not stopped.
        let reason = frame.execution.live.stop.reason();
        let stops = late || reason.is_some_and(|reason| reason.ending().is_some());
        if self.works && stops {
            self.tell();
        }
    }
}
