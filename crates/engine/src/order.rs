//! The order that the contract promises for the events of one run, as a check. Tests of all levels
//! hold logs against it.

use std::collections::{HashMap, HashSet};

use netra_protocol::event::EventKind;
use netra_protocol::id::{ApprovalId, MessageId, ToolCallId};
use netra_protocol::message::Content;
use netra_protocol::{Event, id::RunId};

#[derive(Default)]
struct State {
    queued: bool,
    started: bool,
    /// A person is asked, and nothing but the answer and the way back to a slot comes now.
    waiting: bool,
    approvals: HashSet<ApprovalId>,
    ended: bool,
    root_ended: bool,
    /// Agents that have begun and not ended: name and first step.
    agents: Vec<(String, u32)>,
    calls: HashMap<ToolCallId, String>,
    denied: HashSet<ToolCallId>,
    closed_calls: HashSet<ToolCallId>,
    messages: HashMap<MessageId, (String, String)>,
    closed_messages: HashSet<MessageId>,
}

/// Checks the whole log of one run, from its first event to its last.
///
/// # Errors
/// The first place where the log breaks the contract, in words.
pub fn check_order(events: &[Event]) -> Result<(), String> {
    let mut state = check_so_far(events)?;
    if !std::mem::take(&mut state.ended) {
        return Err("the log has no terminal event".into());
    }
    Ok(())
}

/// Checks a log whose run may still go on.
///
/// # Errors
/// As [`check_order`].
pub fn check_prefix(events: &[Event]) -> Result<(), String> {
    check_so_far(events).map(drop)
}

fn check_so_far(events: &[Event]) -> Result<State, String> {
    let mut state = State::default();
    let run: Option<RunId> = events.first().map(|event| event.run_id);
    let mut ids = HashSet::new();
    for (index, event) in events.iter().enumerate() {
        let at = |message: String| format!("event {index} ({}): {message}", event.kind.name());
        if Some(event.run_id) != run {
            return Err(at("it belongs to another run".into()));
        }
        if !ids.insert(event.event_id) {
            return Err(at("its id was there before".into()));
        }
        state.take(event).map_err(at)?;
    }
    Ok(state)
}

impl State {
    fn take(&mut self, event: &Event) -> Result<(), String> {
        if self.ended {
            return Err("it comes after the terminal event".into());
        }
        match &event.kind {
            EventKind::RunQueued { .. } => {
                require(
                    self.waiting || (!self.queued && !self.started),
                    "a run is queued once, and first, or after it waited",
                )?;
                self.queued = true;
            }
            EventKind::RunStarted { .. } => {
                require(!self.started, "a run starts once")?;
                self.started = true;
            }
            kind if kind.is_terminal() => self.end()?,
            // These are the run's own too, and come at any time after its start.
            EventKind::RunWaiting { .. } => {
                require(self.started && !self.waiting, "the run does not execute")?;
                self.waiting = true;
            }
            EventKind::RunResumed { .. } => {
                require(self.started, "the run has not started")?;
                require(self.approvals.is_empty(), "a person is still asked")?;
                self.waiting = false;
            }
            EventKind::LimitWarning { .. } => require(self.started, "the run has not started")?,
            _ => {
                require(self.started, "the run has not started")?;
                let answers = matches!(event.kind, EventKind::ApprovalResolved { .. });
                // An end closes what is open, also while the run waits.
                let closes = matches!(event.kind, EventKind::AgentCompleted { .. });
                require(!self.waiting || answers || closes, "the run waits")?;
                let (Some(agent), Some(step)) = (&event.agent, event.step) else {
                    return Err("an agent's event names agent and step".into());
                };
                self.take_of_agent(agent, step, &event.kind)?;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        require(self.agents.is_empty(), "an agent has not ended")?;
        require(self.calls.is_empty(), "a tool call has not ended")?;
        require(self.messages.is_empty(), "a message was not completed")?;
        require(self.approvals.is_empty(), "an approval was not resolved")?;
        require(
            !self.started || self.root_ended,
            "the run started without an agent",
        )?;
        self.ended = true;
        Ok(())
    }

    fn take_of_agent(&mut self, agent: &str, step: u32, kind: &EventKind) -> Result<(), String> {
        if let EventKind::AgentStarted {
            agent: name,
            parent_step,
            ..
        } = kind
        {
            require(name == agent, "the envelope names another agent")?;
            require(!self.root_ended, "the run's own agent has ended")?;
            let root = self.agents.is_empty();
            require(
                root == parent_step.is_none(),
                "only the run's own agent has no parent",
            )?;
            self.agents.push((agent.to_owned(), step));
            return Ok(());
        }
        let active = self.agents.iter().any(|(name, _)| name == agent);
        require(active, "the agent has not begun, or has ended")?;
        match kind {
            EventKind::AgentCompleted { .. } => self.agent_completed(agent, step),
            EventKind::ToolExecuting { tool_call_id, .. } => {
                let new = !self.denied.contains(tool_call_id)
                    && !self.closed_calls.contains(tool_call_id)
                    && self.calls.insert(*tool_call_id, agent.to_owned()).is_none();
                require(new, "the call's id was there before")
            }
            EventKind::ToolProgress { tool_call_id, .. } => require(
                self.calls.contains_key(tool_call_id),
                "the call is not open",
            ),
            EventKind::ToolCompleted { tool_call_id, .. } => {
                self.closed_calls.insert(*tool_call_id);
                require(
                    self.calls.remove(tool_call_id).is_some(),
                    "the call is not open",
                )
            }
            EventKind::ToolDenied { tool_call_id, .. } => {
                let new = !self.calls.contains_key(tool_call_id)
                    && !self.closed_calls.contains(tool_call_id)
                    && self.denied.insert(*tool_call_id);
                require(new, "the call's id was there before")
            }
            EventKind::ApprovalRequested { approval_id, .. } => require(
                self.approvals.insert(*approval_id),
                "the approval was there before",
            ),
            EventKind::ApprovalResolved { approval_id, .. } => require(
                self.approvals.remove(approval_id),
                "the approval is not open",
            ),
            EventKind::MessageDelta { message_id, delta } => {
                require(
                    !self.closed_messages.contains(message_id),
                    "the message was completed",
                )?;
                let open = self.messages.entry(*message_id);
                open.or_insert_with(|| (agent.to_owned(), String::new()))
                    .1
                    .push_str(delta);
                Ok(())
            }
            EventKind::MessageCompleted {
                message_id,
                content,
                ..
            } => {
                require(
                    self.closed_messages.insert(*message_id),
                    "it was completed before",
                )?;
                match self.messages.remove(message_id) {
                    Some((_, text)) => {
                        require(is_text(&text, content), "its deltas are not its text")
                    }
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn agent_completed(&mut self, agent: &str, step: u32) -> Result<(), String> {
        let begun = |(name, first): &(String, u32)| name == agent && *first == step;
        let Some(index) = self.agents.iter().rposition(begun) else {
            return Err("no such agent has begun in this step".into());
        };
        require(
            index != 0 || self.agents.len() == 1,
            "a sub-agent has not ended",
        )?;
        self.agents.remove(index);
        // Another frame of the same agent may own what is open; the last one may not leave any.
        let last = !self.agents.iter().any(|(name, _)| name == agent);
        let calls = self.calls.values().any(|owner| owner == agent);
        require(!(last && calls), "one of its tool calls is open")?;
        let messages = self.messages.values().any(|(owner, _)| owner == agent);
        require(!(last && messages), "one of its messages is open")?;
        self.root_ended = self.agents.is_empty();
        Ok(())
    }
}

/// Whether the deltas, joined, are the message's text; one that became a file is told by its part.
fn is_text(deltas: &str, content: &[Content]) -> bool {
    let by_file = content
        .iter()
        .any(|part| matches!(part, Content::File { .. }));
    let text: String = content
        .iter()
        .filter_map(|part| match part {
            Content::Text { text } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    by_file || text == deltas
}

fn require(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(otherwise.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use netra_protocol::error::{ErrorCode, Failure};
    use netra_protocol::id::{EventId, ThreadId};
    use netra_protocol::message::MessageRole;
    use netra_protocol::{Timestamp, usage::RunUsage};
    use serde_json::Value;

    use super::*;

    fn id() -> MessageId {
        MessageId::from_parts(1, 1)
    }

    fn call() -> ToolCallId {
        ToolCallId::from_parts(1, 1)
    }

    /// A short, right run, by the names of its events.
    fn kind(name: &str) -> EventKind {
        let agent = || "a".to_owned();
        match name {
            "run_started" => EventKind::RunStarted {
                agent: agent(),
                deadline: Timestamp::from_micros(0),
                attempt: 1,
                input_message_id: id(),
            },
            "agent_started" => EventKind::AgentStarted {
                agent: agent(),
                parent_step: None,
                task: String::new(),
            },
            "sub_started" => EventKind::AgentStarted {
                agent: agent(),
                parent_step: Some(1),
                task: String::new(),
            },
            "message_delta" => EventKind::MessageDelta {
                message_id: id(),
                delta: "hi".into(),
            },
            "message_completed" => EventKind::MessageCompleted {
                message_id: id(),
                role: MessageRole::Assistant,
                content: vec![Content::Text { text: "hi".into() }],
                incomplete: false,
            },
            "tool_executing" => EventKind::ToolExecuting {
                tool_call_id: call(),
                tool_name: "t".into(),
                arguments: Value::Null,
                purpose: None,
            },
            "tool_completed" => EventKind::ToolCompleted {
                tool_call_id: call(),
                tool_name: "t".into(),
                success: true,
                duration_ms: 0,
                result: Value::Null,
                result_bytes: 4,
                error: None,
            },
            "agent_completed" => EventKind::AgentCompleted {
                agent: agent(),
                success: true,
                duration_ms: 0,
                result: Value::Null,
            },
            "run_failed" => EventKind::RunFailed {
                error: Failure::new(ErrorCode::Internal, ""),
                usage: RunUsage::default(),
                duration_ms: 0,
            },
            other => panic!("{other}"),
        }
    }

    fn check(names: &str) -> Result<(), String> {
        let event = |(index, name): (usize, &str)| {
            let of_run = name.starts_with("run_");
            Event {
                event_id: EventId::from_parts(1, index as u128),
                ts: Timestamp::from_micros(0),
                thread_id: ThreadId::from_parts(1, 1),
                run_id: RunId::from_parts(1, 1),
                agent: (!of_run).then(|| "a".to_owned()),
                step: (!of_run).then_some(1),
                kind: kind(name),
            }
        };
        check_order(
            &names
                .split_whitespace()
                .enumerate()
                .map(event)
                .collect::<Vec<_>>(),
        )
    }

    const RIGHT: &str = "run_started agent_started message_delta message_completed tool_executing \
                         tool_completed agent_completed run_failed";

    #[test]
    fn a_right_log_passes_and_one_without_any_of_its_ends_does_not() {
        assert_eq!(check(RIGHT), Ok(()));
        assert_eq!(check("run_failed"), Ok(()));
        for end in [
            "message_completed",
            "tool_completed",
            "agent_completed",
            "run_failed",
        ] {
            assert!(check(&RIGHT.replacen(end, "", 1)).is_err(), "without {end}");
        }
        for begin in ["run_started", "agent_started", "tool_executing"] {
            assert!(
                check(&RIGHT.replacen(begin, "", 1)).is_err(),
                "without {begin}"
            );
        }
        for name in RIGHT
            .split_whitespace()
            .filter(|name| *name != "message_delta")
        {
            assert!(
                check(&RIGHT.replacen(name, &format!("{name} {name}"), 1)).is_err(),
                "{name}"
            );
        }
    }

    #[test]
    fn sub_agents_end_before_the_one_that_called_them() {
        let nested =
            "run_started agent_started sub_started agent_completed agent_completed run_failed";
        assert_eq!(check(nested), Ok(()));
        assert!(check(&nested.replacen("agent_completed", "", 1)).is_err());
        assert!(
            check(
                "run_started agent_started message_delta message_delta message_completed \
                       agent_completed run_failed"
            )
            .is_err()
        );
    }
}
