//! What the agents of one run share, and the frame that each of them works in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use netra_context::{Trace, UserExecutionContext};
use netra_events::{Emission, UserWebSocketEmitter};
use netra_model::Message as Said;
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::event::EventKind;
use netra_protocol::id::{MessageId, ToolCallId};
use netra_protocol::limits::Limits;
use netra_protocol::message::{Content, Message, MessageRole};
use netra_protocol::{Timestamp, file::File};
use netra_store::{Changes, Journal, JournalEntry, JournalKind, Recorded};
use netra_tools::{Caller, Dispatcher, Done, Past, Request, Rest, cut_text, shorten};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::agents::Definition;
use crate::budget::{Budget, Warned};
use crate::closing::OpenMessage;
use crate::custody::Custody;
use crate::ending::Last;
use crate::factory::Infra;
use crate::live::{Live, Workers};
use crate::spans::AgentSpan;
use crate::usage::Counters;

/// The longest message of a thought in an event, in bytes.
const MAX_THOUGHT_BYTES: usize = 16 * 1024;
/// The longest task in an event, in bytes.
const MAX_TASK_BYTES: usize = 300;
/// The most of an agent's result in an event, in bytes of JSON.
const MAX_SHORT_RESULT_BYTES: usize = 16 * 1024;

/// The step that the run's own agent begins in.
pub(crate) const FIRST_STEP: u32 = 1;

/// Why an agent gave no result.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    /// The agent failed; an agent that called it may go on.
    Agent(Failure),
    /// The run cannot go on: a limit of it is passed, or the log cannot be written.
    Run(Failure),
    /// A person has been asked: the run waits, and its engine is to be dropped.
    Waiting,
}

impl Fault {
    pub(crate) fn agent(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Agent(Failure::new(code, message))
    }

    /// The same as the end of an agent that let it pass: what is an error of a call, and not of runs, is why the agent
    /// failed.
    pub(crate) fn of_agent(self) -> Self {
        match self {
            Self::Agent(failure) if is_of_calls(failure.code) => Self::Agent(Failure {
                code: ErrorCode::AgentFailed,
                message: format!("{}: {}", failure.code, failure.message),
                details: failure.details,
            }),
            other => other,
        }
    }

    /// Why, where it is for a failure.
    pub(crate) fn failure(self) -> Option<Failure> {
        match self {
            Self::Agent(failure) | Self::Run(failure) => Some(failure),
            Self::Waiting => None,
        }
    }
}

/// Whether the contract has the code for calls of tools and agents, and not for runs.
const fn is_of_calls(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ToolFailed
            | ErrorCode::ToolTimeout
            | ErrorCode::ToolDenied
            | ErrorCode::OutcomeUnknown
            | ErrorCode::InvalidInput
    )
}

/// The log cannot be written, so nothing may happen any more.
pub(crate) fn unwritten(error: &netra_store::Error) -> Fault {
    let (code, words) = match error {
        netra_store::Error::Memory(_) => (ErrorCode::MemoryLimitExceeded, error.to_string()),
        _ => {
            let words = format!("the run's events cannot be stored: {error}");
            (ErrorCode::Internal, words)
        }
    };
    Fault::Run(Failure::new(code, words))
}

/// Whether the operation with this key in a run's journal is another one, or within it.
pub(crate) fn is_within(key: &str, outer: &str) -> bool {
    let rest = key.strip_prefix(outer);
    outer.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
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
    /// What the run's calls of models may come to.
    pub(crate) budget: Budget,
    /// What the user was told once.
    pub(crate) warned: Warned,
    /// What earlier attempts of the run have done.
    pub(crate) journal: Journal,
    /// Who has what agents keep in the thread.
    pub(crate) custody: Custody,
    /// Messages of an earlier attempt that go on.
    pub(crate) unfinished: Mutex<Vec<OpenMessage>>,
    /// The workers of the run's scripts and analyses.
    pub(crate) workers: Workers,
    /// The run in the list of this node, which knows why it has to stop.
    pub(crate) live: Arc<Live>,
    /// The run's place in its trace, where it is told of.
    pub(crate) trace: Option<Trace>,
}

/// One agent at work: the run's own, or a sub-agent.
pub(crate) struct Frame<'e> {
    pub(crate) execution: &'e Execution,
    pub(crate) ctx: &'e UserExecutionContext,
    pub(crate) agent: &'e Definition,
    pub(crate) input: Value,
    /// 0 for the run's own agent.
    pub(crate) depth: u32,
    /// The key of the call that the agent is for, in the run's journal; empty for the run's own.
    pub(crate) key: String,
    /// Whether what it says goes to the user: the run's own agent, and whoever it hands over to.
    pub(crate) speaks: bool,
    /// The conversation that was handed over to it.
    pub(crate) conversation: Option<Vec<Said>>,
    /// What a sub-agent had kept in its thread when it began, where it keeps something.
    pub(crate) kept: Option<Value>,
    operations: AtomicU32,
    first_step: u32,
    step: AtomicU32,
    /// Whether the step that the agent began in has not been used for anything yet.
    fresh: AtomicBool,
    began: Timestamp,
    pub(crate) span: AgentSpan<'e>,
}

/// Where a sub-agent stands in its run.
pub(crate) struct Place {
    pub(crate) depth: u32,
    pub(crate) key: String,
    pub(crate) first_step: u32,
    pub(crate) began: Timestamp,
    pub(crate) speaks: bool,
    pub(crate) conversation: Option<Vec<Said>>,
    pub(crate) kept: Option<Value>,
}

/// When the run's own agent began.
pub(crate) fn root_began(execution: &Execution, ctx: &UserExecutionContext) -> Timestamp {
    let run = execution.emitter.run();
    run.started_at.unwrap_or_else(|| ctx.runtime().now())
}

impl<'e> Frame<'e> {
    /// The frame of the run's own agent, in the context of its span. Its first step is the run's first.
    pub(crate) fn root(
        execution: &'e Execution,
        ctx: &'e UserExecutionContext,
        agent: &'e Definition,
        input: Value,
        (began, span): (Timestamp, AgentSpan<'e>),
    ) -> Self {
        let place = Place {
            depth: 0,
            key: String::new(),
            first_step: FIRST_STEP,
            began,
            speaks: true,
            conversation: None,
            kept: None,
        };
        Self::begun((execution, span), ctx, agent, input, place)
    }

    pub(crate) fn begun(
        (execution, span): (&'e Execution, AgentSpan<'e>),
        ctx: &'e UserExecutionContext,
        agent: &'e Definition,
        input: Value,
        place: Place,
    ) -> Self {
        Self {
            execution,
            ctx,
            agent,
            input,
            depth: place.depth,
            key: place.key,
            speaks: place.speaks,
            conversation: place.conversation,
            kept: place.kept,
            operations: AtomicU32::new(0),
            first_step: place.first_step,
            step: AtomicU32::new(place.first_step),
            fresh: AtomicBool::new(true),
            began: place.began,
            span,
        }
    }

    /// The key of the agent's next operation in the run's journal. Agents do the same things in
    /// the same order, so it is the same in each attempt.
    pub(crate) fn next_key(&self) -> String {
        let ordinal = self.operations.fetch_add(1, Relaxed) + 1;
        if self.key.is_empty() {
            ordinal.to_string()
        } else {
            format!("{}.{ordinal}", self.key)
        }
    }

    /// What an earlier attempt recorded of an operation.
    pub(crate) fn recorded(&self, key: &str, kind: JournalKind) -> Option<&'e Recorded> {
        self.execution.journal.get(key, kind)
    }

    /// An entry for the run's journal, in the step that the agent is in.
    pub(crate) fn entry(&self, key: String, kind: JournalKind, value: Value) -> JournalEntry {
        JournalEntry {
            key,
            kind,
            step: self.step(),
            value,
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
    pub(crate) fn next_step(&self) -> Result<(), Fault> {
        if !self.fresh.swap(false, Relaxed) {
            self.step.store(self.take_step()?, Relaxed);
        }
        Ok(())
    }

    /// Begins the step of this operation, which is the one of an earlier attempt where there was.
    pub(crate) fn step_for(&self, key: &str) -> Result<(), Fault> {
        match self.execution.journal.step_of(key) {
            Some(step) => {
                self.in_step(step);
                Ok(())
            }
            None => self.next_step(),
        }
    }

    /// Is in a step that an earlier attempt has taken.
    pub(crate) fn in_step(&self, step: u32) {
        self.fresh.store(false, Relaxed);
        self.step.store(step, Relaxed);
    }

    pub(crate) fn take_step(&self) -> Result<u32, Fault> {
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
        if result.is_some() {
            self.span.end();
        }
        let kind = EventKind::AgentCompleted {
            agent: self.agent.name.clone(),
            success: result.is_some(),
            duration_ms: self.ctx.runtime().now().millis_since(self.began),
            result: result.map_or(Value::Null, |value| shorten(value, MAX_SHORT_RESULT_BYTES)),
        };
        Emission::of_agent(&self.agent.name, self.first_step, kind)
    }

    pub(crate) async fn emit(&self, kind: EventKind) -> Result<(), Fault> {
        self.commit(Changes::default(), vec![self.emission(kind)])
            .await
    }

    /// Tells the user what a model thinks while it answers.
    pub(crate) async fn think_aloud(&self, message: &str) -> Result<(), Fault> {
        self.emit(thought(message, None)).await
    }

    /// Tells the user a reasoning step, progress or plan: an operation of its own, told once.
    pub(crate) async fn think(
        &self,
        key: String,
        message: &str,
        progress: Option<f64>,
    ) -> Result<(), Fault> {
        if self.recorded(&key, JournalKind::Thought).is_some() {
            return Ok(());
        }
        let changes = Changes {
            journal: vec![self.entry(key, JournalKind::Thought, Value::Null)],
            ..Changes::default()
        };
        let emissions = vec![self.emission(thought(message, progress))];
        self.commit(changes, emissions).await
    }

    pub(crate) async fn commit(
        &self,
        mut changes: Changes,
        emissions: Vec<Emission>,
    ) -> Result<(), Fault> {
        let Execution {
            emitter, budget, ..
        } = self.execution;
        let cut_off = budget.cut_off();
        changes.settled.extend(&cut_off);
        let committed = emitter.commit(self.ctx, changes, emissions).await;
        committed.map_err(|error| unwritten(&error))?;
        budget.settled(&cut_off);
        Ok(())
    }

    /// Calls one of the agent's tools, as an operation of its own. It gets this id, unless it has
    /// another one from an earlier attempt.
    pub(crate) async fn call_tool(
        &self,
        key: String,
        id: ToolCallId,
        name: &str,
        arguments: Value,
    ) -> Result<Done, Fault> {
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
            past: Past::of(&self.execution.journal, key),
        };
        let dispatcher = &self.execution.dispatcher;
        let result = dispatcher.call(self.ctx, &caller, request).await;
        result.map_err(|error| match error {
            netra_tools::Error::Call(failure) => Fault::Agent(failure),
            netra_tools::Error::Run(failure) => Fault::Run(failure),
            netra_tools::Error::Waiting => Fault::Waiting,
        })
    }

    /// Who of the run is at work.
    pub(crate) fn rest(&self) -> &'e Rest {
        self.execution.dispatcher.rest()
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

/// The event that tells of a thought.
pub(crate) fn thought(message: &str, progress: Option<f64>) -> EventKind {
    EventKind::AgentThinking {
        message: cut_text(message, MAX_THOUGHT_BYTES),
        progress: progress.map(|fraction| fraction.clamp(0.0, 1.0)),
    }
}
