//! Closing what is open: derived from the log, so that it is the same after a cancel, a panic and a
//! crash, and right whatever of an agent's last commit was written.

use netra_context::UserExecutionContext;
use netra_events::{Emission, UserWebSocketEmitter};
use netra_protocol::error::Failure;
use netra_protocol::event::EventKind;
use netra_protocol::id::{MessageId, ToolCallId};
use netra_protocol::message::{Content, Message, MessageRole};
use netra_protocol::run::RunStatus;
use netra_protocol::{Event, Timestamp};
use netra_store::{Changes, Error, RunUpdate, Store};
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

struct OpenMessage {
    id: MessageId,
    agent: String,
    step: u32,
    since: Timestamp,
    text: String,
}

/// What was begun in a run and has no end in its log yet.
#[derive(Default)]
pub(crate) struct Open {
    agents: Vec<OpenAgent>,
    calls: Vec<OpenCall>,
    messages: Vec<OpenMessage>,
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

    /// What closes it all, innermost first: calls (with this failure) and messages, then agents
    /// from the last begun to the first.
    pub(crate) fn close(
        self,
        emitter: &UserWebSocketEmitter,
        now: Timestamp,
        of_calls: &Failure,
    ) -> Last {
        let mut last = Last::default();
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
            let content = vec![Content::Text { text: message.text }];
            let kind = EventKind::MessageCompleted {
                message_id: message.id,
                role: MessageRole::Assistant,
                content: content.clone(),
                incomplete: true,
            };
            last.emissions
                .push(Emission::of_agent(&message.agent, message.step, kind));
            last.messages.push(Message {
                id: message.id,
                thread_id: emitter.run().thread_id,
                run_id: Some(emitter.run().id),
                role: MessageRole::Assistant,
                agent: Some(message.agent),
                content,
                complete: false,
                created_at: message.since,
            });
        }
        for agent in self.agents.into_iter().rev() {
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
}

/// What is open in a run whose agents have been dropped.
pub(crate) async fn open_in_log(
    ctx: &UserExecutionContext,
    store: &Store,
    emitter: &UserWebSocketEmitter,
) -> Result<Open, Error> {
    // A commit whose future was dropped may still be on its way. The writer takes commits in
    // order, so after one of our own that is written the log holds all that came before.
    let changes = Changes {
        run: Some(RunUpdate::to(RunStatus::Running)),
        ..Changes::default()
    };
    emitter.commit(ctx, changes, Vec::new()).await?;
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
