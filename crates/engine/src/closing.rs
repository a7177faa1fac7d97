//! Closing what is open: derived from the log, so that it is the same after a cancel, a panic and a
//! crash, and right whatever of an agent's last commit was written. Questions to a person are closed
//! by the store, in the transaction of the end: an answer may come at the same moment.

use netra_context::UserExecutionContext;
use netra_events::{Emission, UserWebSocketEmitter};
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::event::EventKind;
use netra_protocol::id::{FileId, MessageId, ToolCallId};
use netra_protocol::message::{Content, Message, MessageRole};
use netra_protocol::{Event, Timestamp};
use netra_store::{Changes, Error, Store};
use netra_tools::audit_of_call;
use serde_json::Value;

use crate::ending::Last;

/// How many entries of the log are read at a time.
const BATCH: usize = 1000;

struct OpenAgent {
    agent: String,
    step: u32,
    since: Timestamp,
}

struct OpenCall {
    id: ToolCallId,
    tool_name: String,
    agent: String,
    step: u32,
    since: Timestamp,
}

/// A message that was begun and not ended.
#[derive(Debug)]
pub(crate) struct OpenMessage {
    pub(crate) id: MessageId,
    pub(crate) agent: String,
    step: u32,
    since: Timestamp,
    pub(crate) text: String,
}

impl OpenMessage {
    /// Its end, cut off as it is.
    pub(crate) fn cut_off(self, emitter: &UserWebSocketEmitter) -> (Emission, Message) {
        let content = vec![Content::Text { text: self.text }];
        let kind = EventKind::MessageCompleted {
            message_id: self.id,
            role: MessageRole::Assistant,
            content: content.clone(),
            incomplete: true,
        };
        let row = Message {
            id: self.id,
            thread_id: emitter.run().thread_id,
            run_id: Some(emitter.run().id),
            role: MessageRole::Assistant,
            agent: Some(self.agent.clone()),
            content,
            complete: false,
            created_at: self.since,
        };
        (Emission::of_agent(&self.agent, self.step, kind), row)
    }
}

/// What was begun in a run and has no end in its log yet.
#[derive(Default)]
pub(crate) struct Open {
    agents: Vec<OpenAgent>,
    calls: Vec<OpenCall>,
    messages: Vec<OpenMessage>,
    /// Files that the user was told of: closed by themselves.
    pub(crate) artifacts: Vec<FileId>,
    /// Limits that the user was warned of.
    pub(crate) warned: Vec<String>,
}

impl Open {
    /// Takes the run's next event.
    pub(crate) fn take(&mut self, event: Event) {
        let agent = event.agent.unwrap_or_default();
        let (step, since) = (event.step.unwrap_or(0), event.ts);
        match event.kind {
            EventKind::AgentStarted { .. } => self.agents.push(OpenAgent { agent, step, since }),
            EventKind::AgentCompleted { .. } => {
                let ended = |open: &OpenAgent| open.agent == agent && open.step == step;
                if let Some(index) = self.agents.iter().rposition(ended) {
                    self.agents.remove(index);
                }
            }
            EventKind::ToolExecuting {
                tool_call_id: id,
                tool_name,
                ..
            } => {
                self.calls.push(OpenCall {
                    id,
                    tool_name,
                    agent,
                    step,
                    since,
                });
            }
            EventKind::ToolCompleted { tool_call_id, .. } => {
                self.calls.retain(|open| open.id != tool_call_id);
            }
            EventKind::ArtifactCreated { file_id, .. } => self.artifacts.push(file_id),
            EventKind::LimitWarning { limit, .. } => self.warned.push(limit),
            EventKind::MessageDelta {
                message_id: id,
                delta,
            } => match self.messages.iter_mut().find(|open| open.id == id) {
                Some(open) => open.text.push_str(&delta),
                None => {
                    self.messages.push(OpenMessage {
                        id,
                        agent,
                        step,
                        since,
                        text: delta,
                    });
                }
            },
            EventKind::MessageCompleted { message_id, .. } => {
                self.messages.retain(|open| open.id != message_id);
            }
            _ => {}
        }
    }

    /// What closes it all, innermost first: calls (with this failure) and messages, then
    /// agents from the last begun to the first.
    pub(crate) fn close(
        mut self,
        emitter: &UserWebSocketEmitter,
        now: Timestamp,
        of_calls: &Failure,
    ) -> Last {
        let agents = std::mem::take(&mut self.agents);
        let mut last = Last::default();
        self.close_calls_and_messages(emitter, now, of_calls, &mut last);
        for agent in agents.into_iter().rev() {
            let kind = EventKind::AgentCompleted {
                agent: agent.agent.clone(),
                success: false,
                duration_ms: now.millis_since(agent.since),
                result: Value::Null,
            };
            last.emissions
                .push(Emission::of_agent(&agent.agent, agent.step, kind));
        }
        last
    }

    /// Keeps the agents that began in these steps, and these calls, only.
    pub(crate) fn retain(&mut self, agents: &[u32], calls: impl Fn(ToolCallId) -> bool) {
        self.agents.retain(|open| agents.contains(&open.step));
        self.calls.retain(|open| calls(open.id));
        self.messages.clear();
    }

    /// The tool of an open call.
    pub(crate) fn tool_of(&self, call: ToolCallId) -> Option<&str> {
        let open = self.calls.iter().find(|open| open.id == call)?;
        Some(&open.tool_name)
    }

    /// The messages that an agent has not ended.
    pub(crate) fn messages_of(self, agent: &str) -> impl Iterator<Item = OpenMessage> {
        let own = move |open: &OpenMessage| open.agent == agent;
        self.messages.into_iter().filter(own)
    }

    /// What closes the calls and messages that a stopped engine left: agents go on, and so do the
    /// messages of `goes_on`, which are given back.
    pub(crate) fn close_cut_off(
        mut self,
        emitter: &UserWebSocketEmitter,
        now: Timestamp,
        goes_on: impl Fn(&OpenMessage) -> bool,
    ) -> (Last, Vec<OpenMessage>) {
        let messages = std::mem::take(&mut self.messages);
        let (kept, cut_off) = messages.into_iter().partition(goes_on);
        self.messages = cut_off;
        let mut last = Last::default();
        self.close_calls_and_messages(emitter, now, &outcome_unknown(), &mut last);
        (last, kept)
    }

    fn close_calls_and_messages(
        self,
        emitter: &UserWebSocketEmitter,
        now: Timestamp,
        of_calls: &Failure,
        last: &mut Last,
    ) {
        for call in self.calls {
            last.audit.push(audit_of_call(
                call.id,
                &call.tool_name,
                &call.agent,
                "ended_with_run",
            ));
            let kind = EventKind::ToolCompleted {
                tool_call_id: call.id,
                tool_name: call.tool_name,
                success: false,
                duration_ms: now.millis_since(call.since),
                result: Value::Null,
                result_bytes: 0,
                error: Some(of_calls.clone()),
            };
            last.emissions
                .push(Emission::of_agent(&call.agent, call.step, kind));
        }
        for message in self.messages {
            let (emission, row) = message.cut_off(emitter);
            last.emissions.push(emission);
            last.messages.push(row);
        }
    }
}

/// Of a call that was begun nobody knows whether it did its work.
pub(crate) fn outcome_unknown() -> Failure {
    let words = "the call was begun, and its end is not known";
    Failure::new(ErrorCode::OutcomeUnknown, words)
}

/// What is open in a run whose agents have been dropped.
pub(crate) async fn open_in_log(
    ctx: &UserExecutionContext,
    store: &Store,
    emitter: &UserWebSocketEmitter,
) -> Result<Open, Error> {
    // A commit whose future was dropped may still be on its way. The writer takes commits in
    // order, so after one of our own that is written the log holds all that came before.
    emitter.commit(ctx, Changes::default(), Vec::new()).await?;
    read_open(ctx, store, emitter).await
}

/// What is open in the log as it stands.
pub(crate) async fn read_open(
    ctx: &UserExecutionContext,
    store: &Store,
    emitter: &UserWebSocketEmitter,
) -> Result<Open, Error> {
    let run = emitter.run();
    let mut after = store.run_span(ctx, run.as_readable()).await?.after_seq;
    let mut open = Open::default();
    loop {
        let entries = store.events(ctx, after, BATCH).await?;
        for entry in entries.iter().filter(|entry| entry.run_id == run.id) {
            open.take(entry.event()?);
        }
        match entries.last() {
            Some(last) if entries.len() == BATCH => after = last.seq,
            _ => return Ok(open),
        }
    }
}
