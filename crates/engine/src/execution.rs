//! What the agents of one run share, and the frame that each of them works in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use netra_context::UserExecutionContext;
use netra_events::{Emission, UserWebSocketEmitter};
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::event::EventKind;
use netra_protocol::file::File;
use netra_protocol::id::{MessageId, ToolCallId};
use netra_protocol::limits::Limits;
use netra_protocol::message::{Content, Message, MessageRole};
use netra_tools::{Caller, Dispatcher, Request, cut_text, shorten};
use netra_worker::Meter;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::agents::Definition;
use crate::ending::Last;
use crate::factory::Infra;
use crate::perform;
use crate::usage::Counters;

/// The longest message of a thought in an event, in bytes.
const MAX_THOUGHT_BYTES: usize = 16 * 1024;
/// The longest task in an event, in bytes.
const MAX_TASK_BYTES: usize = 300;
/// The most of an agent's result in an event, in bytes of JSON.
const MAX_SHORT_RESULT_BYTES: usize = 16 * 1024;

/// Why an agent gave no result.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    /// The agent failed; an agent that called it may go on.
    Agent(Failure),
    /// The run cannot go on: a limit of it is passed, or the log cannot be written.
    Run(Failure),
}

impl Fault {
    pub(crate) fn agent(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Agent(Failure::new(code, message))
    }

    pub(crate) fn into_failure(self) -> Failure {
        match self {
            Self::Agent(failure) | Self::Run(failure) => failure,
        }
    }
}

/// The log cannot be written, so nothing may happen any more.
pub(crate) fn unwritten(error: &netra_store::Error) -> Fault {
    let words = format!("the run's events cannot be stored: {error}");
    Fault::Run(Failure::new(ErrorCode::Internal, words))
}

/// What an agent is to do, in short.
pub(crate) fn task_of(input: &Value) -> String {
    match input.get("text").and_then(Value::as_str) {
        Some(text) => cut_text(text, MAX_TASK_BYTES),
        None => cut_text(&input.to_string(), MAX_TASK_BYTES),
    }
}

/// What an agent gave, and what is to be committed together with its end.
pub(crate) struct Finished {
    pub(crate) result: Value,
    pub(crate) last: Last,
}

impl Finished {
    pub(crate) fn new(result: Value) -> Self {
        Self {
            result,
            last: Last::default(),
        }
    }
}

/// What the agents of one run share. Owned by the run's engine.
pub(crate) struct Execution {
    pub(crate) infra: Arc<Infra>,
    pub(crate) emitter: Arc<UserWebSocketEmitter>,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) files: Vec<File>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) counters: Counters,
    /// The workers of the run's scripts.
    pub(crate) workers: Mutex<Vec<Meter>>,
}

impl Execution {
    /// Memory that the run's worker processes hold now, in bytes.
    pub(crate) fn worker_bytes(&self) -> u64 {
        let scripts: u64 = self.workers.lock().iter().map(Meter::bytes).sum();
        scripts + self.dispatcher.scope().worker_bytes()
    }
}

/// One agent at work: the run's own, or a sub-agent.
pub(crate) struct Frame<'e> {
    pub(crate) execution: &'e Execution,
    pub(crate) ctx: &'e UserExecutionContext,
    pub(crate) agent: &'e Definition,
    pub(crate) input: Value,
    /// 0 for the run's own agent.
    pub(crate) depth: u32,
    first_step: u32,
    step: AtomicU32,
    /// Whether the step that the agent began in has not been used for anything yet.
    fresh: AtomicBool,
    began: Instant,
}

impl<'e> Frame<'e> {
    /// The frame of the run's own agent. Its first step is the run's first.
    pub(crate) fn root(
        execution: &'e Execution,
        ctx: &'e UserExecutionContext,
        agent: &'e Definition,
        input: Value,
    ) -> Self {
        // Even with a limit of no steps at all the agent begins somewhere.
        let first_step = execution
            .counters
            .next_step(execution.limits.steps)
            .unwrap_or(1);
        Self::begun(execution, ctx, agent, input, 0, first_step)
    }

    fn begun(
        execution: &'e Execution,
        ctx: &'e UserExecutionContext,
        agent: &'e Definition,
        input: Value,
        depth: u32,
        first_step: u32,
    ) -> Self {
        Self {
            execution,
            ctx,
            agent,
            input,
            depth,
            first_step,
            step: AtomicU32::new(first_step),
            fresh: AtomicBool::new(true),
            began: Instant::now(),
        }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.depth == 0
    }

    /// The step in which the agent acts now.
    pub(crate) fn step(&self) -> u32 {
        self.step.load(Relaxed)
    }

    /// Begins the agent's next step; the first one is the step that the agent began in.
    pub(crate) fn next_step(&self) -> Result<u32, Fault> {
        if self.fresh.swap(false, Relaxed) {
            return Ok(self.first_step);
        }
        let step = self.take_step()?;
        self.step.store(step, Relaxed);
        Ok(step)
    }

    fn take_step(&self) -> Result<u32, Fault> {
        let allowed = self.execution.limits.steps;
        self.execution.counters.next_step(allowed).ok_or_else(|| {
            let words = format!("the run may take {allowed} steps, and has taken them");
            Fault::Run(Failure::new(ErrorCode::StepLimitExceeded, words))
        })
    }

    /// An event of this agent, now.
    pub(crate) fn emission(&self, kind: EventKind) -> Emission {
        Emission::of_agent(&self.agent.name, self.step(), kind)
    }

    /// The event that this agent begins.
    pub(crate) fn started(&self, parent_step: Option<u32>) -> Emission {
        let task = task_of(&self.input);
        let agent = self.agent.name.clone();
        let kind = EventKind::AgentStarted {
            agent,
            parent_step,
            task,
        };
        Emission::of_agent(&self.agent.name, self.first_step, kind)
    }

    /// The event that this agent ends. It carries the step that the agent began in, so that begin
    /// and end are told apart from those of another call of the same agent.
    pub(crate) fn completed(&self, result: Option<&Value>) -> Emission {
        let kind = EventKind::AgentCompleted {
            agent: self.agent.name.clone(),
            success: result.is_some(),
            duration_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            result: result.map_or(Value::Null, |value| shorten(value, MAX_SHORT_RESULT_BYTES)),
        };
        Emission::of_agent(&self.agent.name, self.first_step, kind)
    }

    pub(crate) async fn emit(&self, kind: EventKind) -> Result<(), Fault> {
        let emission = self.emission(kind);
        let emitted = self.execution.emitter.emit(self.ctx, vec![emission]).await;
        emitted.map(drop).map_err(|error| unwritten(&error))
    }

    /// Tells the user a reasoning step, progress or plan.
    pub(crate) async fn think(&self, message: &str, progress: Option<f64>) -> Result<(), Fault> {
        let message = cut_text(message, MAX_THOUGHT_BYTES);
        let progress = progress.map(|fraction| fraction.clamp(0.0, 1.0));
        self.emit(EventKind::AgentThinking { message, progress })
            .await
    }

    /// Calls one of the agent's tools in the step that it is in.
    pub(crate) async fn call_tool(
        &self,
        id: ToolCallId,
        name: &str,
        arguments: Value,
    ) -> Result<Value, Fault> {
        let caller = Caller {
            agent: &self.agent.name,
            step: self.step(),
            allowed_tools: &self.agent.tools,
        };
        let request = Request {
            id,
            name: name.to_owned(),
            arguments,
            purpose: None,
        };
        let result = self
            .execution
            .dispatcher
            .call(self.ctx, &caller, request)
            .await;
        result.map_err(|error| match error {
            netra_tools::Error::Call(failure) => Fault::Agent(failure),
            netra_tools::Error::Run(failure) => Fault::Run(failure),
        })
    }

    /// Lets one of the agent's sub-agents work, in a frame of its own, and gives its result.
    pub(crate) async fn call_agent(&self, name: &str, input: Value) -> Result<Value, Fault> {
        let refused = |words: String| Fault::agent(ErrorCode::AgentFailed, words);
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
        let Some(agent) = self.execution.infra.agents.get(name) else {
            return Err(refused(format!("there is no agent named {name:?}")));
        };
        if let Some(problem) = &agent.problem {
            return Err(refused(format!("the agent {name} is not ready: {problem}")));
        }
        let input = agent.accept(input).map_err(|misfits| {
            let words = format!(
                "the input does not fit the agent {name}: {}",
                misfits.join("; ")
            );
            Fault::agent(ErrorCode::InvalidInput, words)
        })?;
        let ctx = self.ctx.child(format!("agent {name}"));
        let first_step = self.take_step()?;
        let frame = Frame::begun(
            self.execution,
            &ctx,
            agent,
            input,
            self.depth + 1,
            first_step,
        );
        frame.drive(self.step()).await
    }

    /// Begin, work and end of a sub-agent.
    async fn drive(self, parent_step: u32) -> Result<Value, Fault> {
        let emitter = &self.execution.emitter;
        let started = vec![self.started(Some(parent_step))];
        emitter
            .emit(self.ctx, started)
            .await
            .map_err(|error| unwritten(&error))?;
        let outcome = Box::pin(perform::perform(&self)).await;
        let (changes, mut emissions) = match &outcome {
            Ok(finished) => (
                netra_store::Changes {
                    messages: finished.last.messages.clone(),
                    journal: finished.last.journal.clone(),
                    ..netra_store::Changes::default()
                },
                finished.last.emissions.clone(),
            ),
            Err(_) => (netra_store::Changes::default(), Vec::new()),
        };
        emissions.push(self.completed(outcome.as_ref().ok().map(|finished| &finished.result)));
        let committed = emitter.commit(self.ctx, changes, emissions).await;
        committed.map_err(|error| unwritten(&error))?;
        outcome.map(|finished| finished.result)
    }

    /// A new id.
    pub(crate) fn new_id<T>(&self, from_parts: impl FnOnce(u64, u128) -> T) -> T {
        self.ctx.runtime().new_id(from_parts)
    }

    /// A message of this agent.
    pub(crate) fn message(&self, id: MessageId, content: Vec<Content>, complete: bool) -> Message {
        let run = self.execution.emitter.run();
        Message {
            id,
            thread_id: run.thread_id,
            run_id: Some(run.id),
            role: MessageRole::Assistant,
            agent: Some(self.agent.name.clone()),
            content,
            complete,
            created_at: self.ctx.runtime().now(),
        }
    }

    /// The files of the run, as agents see them.
    pub(crate) fn files(&self) -> Value {
        let file = |file: &File| {
            json!({
                "id": file.id,
                "name": file.name,
                "media_type": file.media_type,
                "bytes": file.bytes,
            })
        };
        self.execution.files.iter().map(file).collect()
    }
}
