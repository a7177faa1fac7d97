//! The order that the contract promises for the events of one run, as a check. Tests of all levels
//! and `netra events verify` hold logs against it.

use std::collections::{HashMap, HashSet};

use netra_protocol::Event;
use netra_protocol::event::EventKind;
use netra_protocol::id::{ApprovalId, EventId, MessageId, RunId, ToolCallId};
use netra_protocol::message::Content;

/// Takes the events of one run one after the other. Holds what is open, and the ids of what is not.
#[derive(Debug, Default)]
pub struct RunOrder {
    run: Option<RunId>,
    ids: HashSet<EventId>,
    /// The beginning may be missing, so what was open at the first event is not known.
    cut: bool,
    queued: bool,
    started: bool,
    /// A person is asked, and nothing but the answer and the way back to a slot comes now.
    waiting: bool,
    approvals: HashSet<ApprovalId>,
    closed_approvals: HashSet<ApprovalId>,
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

fn check_so_far(events: &[Event]) -> Result<RunOrder, String> {
    let mut state = RunOrder::default();
    for (index, event) in events.iter().enumerate() {
        let at = |message: String| format!("event {index} ({}): {message}", event.kind.name());
        state.take(event).map_err(at)?;
    }
    Ok(state)
}

impl RunOrder {
    /// For a run whose first events may have been deleted: what ends may have begun among them.
    /// What is seen to begin has to end all the same.
    #[must_use]
    pub fn of_rest() -> Self {
        Self {
            cut: true,
            ..Self::default()
        }
    }

    /// Whether the terminal event was there.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes the next event.
    ///
    /// # Errors
    /// How it breaks the contract, in words.
    pub fn take(&mut self, event: &Event) -> Result<(), String> {
        require(
            *self.run.get_or_insert(event.run_id) == event.run_id,
            "it belongs to another run",
        )?;
        require(self.ids.insert(event.event_id), "its id was there before")?;
        require(!self.ended, "it comes after the terminal event")?;
        match &event.kind {
            EventKind::RunQueued { .. } => {
                require(
                    self.cut || self.waiting || (!self.queued && !self.started),
                    "a run is queued once, and first, or after it waited",
                )?;
                self.queued = true;
            }
            EventKind::RunStarted { .. } => {
                require(!self.started, "a run starts once")?;
                self.started = true;
                // Nothing was open before it.
                self.cut = false;
            }
            kind if kind.is_terminal() => self.end()?,
            // These are the run's own too, and come at any time after its start.
            EventKind::RunWaiting { .. } => {
                self.begun()?;
                require(!self.waiting, "the run waits already")?;
                self.waiting = true;
            }
            EventKind::RunResumed { .. } => {
                self.begun()?;
                require(self.approvals.is_empty(), "a person is still asked")?;
                self.waiting = false;
            }
            EventKind::LimitWarning { .. } => self.begun()?,
            _ => {
                self.begun()?;
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

    fn begun(&mut self) -> Result<(), String> {
        require(self.started || self.cut, "the run has not started")?;
        self.started = true;
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        require(self.agents.is_empty(), "an agent has not ended")?;
        require(self.calls.is_empty(), "a tool call has not ended")?;
        require(self.messages.is_empty(), "a message was not completed")?;
        require(self.approvals.is_empty(), "an approval was not resolved")?;
        require(
            !self.started || self.root_ended || self.cut,
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
                root == parent_step.is_none() || self.cut,
                "only the run's own agent has no parent",
            )?;
            self.agents.push((agent.to_owned(), step));
            return Ok(());
        }
        let active = self.agents.iter().any(|(name, _)| name == agent);
        require(active || self.cut, "the agent has not begun, or has ended")?;
        match kind {
            EventKind::AgentCompleted { .. } => self.agent_completed(agent, step),
            EventKind::ToolExecuting { tool_call_id, .. } => {
                let new = !self.denied.contains(tool_call_id)
                    && !self.closed_calls.contains(tool_call_id)
                    && self.calls.insert(*tool_call_id, agent.to_owned()).is_none();
                require(new, "the call's id was there before")
            }
            EventKind::ToolProgress { tool_call_id, .. } => {
                let unseen = self.cut && !self.closed_calls.contains(tool_call_id);
                let open = self.calls.contains_key(tool_call_id);
                require(open || unseen, "the call is not open")
            }
            EventKind::ToolCompleted { tool_call_id, .. } => {
                let unseen = self.closed_calls.insert(*tool_call_id) && self.cut;
                let open = self.calls.remove(tool_call_id).is_some();
                require(open || unseen, "the call is not open")
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
            EventKind::ApprovalResolved { approval_id, .. } => {
                let unseen = self.closed_approvals.insert(*approval_id) && self.cut;
                let open = self.approvals.remove(approval_id);
                require(open || unseen, "the approval is not open")
            }
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
                    Some((_, text)) => require(
                        is_text(&text, content, self.cut),
                        "its deltas are not its text",
                    ),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn agent_completed(&mut self, agent: &str, step: u32) -> Result<(), String> {
        let begun = |(name, first): &(String, u32)| name == agent && *first == step;
        let Some(index) = self.agents.iter().rposition(begun) else {
            return require(self.cut, "no such agent has begun in this step");
        };
        if self.cut {
            // Which agents are around it is not known. Its end tells of what is still open.
            self.agents.remove(index);
            return Ok(());
        }
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

/// Whether the deltas, joined, are the message's text, or the rest of it where the first ones may
/// be missing; one that became a file is told by its part.
fn is_text(deltas: &str, content: &[Content], cut: bool) -> bool {
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
    by_file || text == deltas || (cut && text.ends_with(deltas))
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
    use netra_protocol::id::ThreadId;
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
            // After two deltas.
            "message_completed2" => EventKind::MessageCompleted {
                message_id: id(),
                role: MessageRole::Assistant,
                content: vec![Content::Text {
                    text: "hihi".into(),
                }],
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

    fn events(names: &str) -> Vec<Event> {
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
        names.split_whitespace().enumerate().map(event).collect()
    }

    fn check(names: &str) -> Result<(), String> {
        check_order(&events(names))
    }

    /// The same for a run whose first events may be missing.
    fn check_rest(names: &str) -> Result<(), String> {
        let mut order = RunOrder::of_rest();
        events(names)
            .iter()
            .try_for_each(|event| order.take(event))?;
        require(order.has_ended(), "no terminal event")
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

    #[test]
    fn whatever_is_cut_off_at_the_beginning_the_rest_is_judged_and_right() {
        let whole = "run_started agent_started sub_started tool_executing message_delta \
                     message_delta tool_completed agent_completed agent_completed run_failed";
        // Two deltas, so that a cut between them leaves the rest of the text.
        let whole = whole.replacen("tool_completed", "message_completed2 tool_completed", 1);
        let names: Vec<&str> = whole.split_whitespace().collect();
        for cut in 0..names.len() {
            let rest = names[cut..].join(" ");
            assert_eq!(check_rest(&rest), Ok(()), "{rest}");
            assert!(check_rest(&rest.replacen("run_failed", "", 1)).is_err());
            assert!(check_rest(&format!("{rest} run_failed")).is_err());
        }
        for (begin, end) in [
            ("sub_started", "agent_completed"),
            ("tool_executing", "tool_completed"),
            ("message_delta", "message_completed2"),
        ] {
            let at = names.iter().position(|name| *name == begin).unwrap();
            let rest = names[at..].join(" ");
            let open = match begin {
                "sub_started" => rest.replace(end, ""),
                _ => rest.replacen(end, "", 1),
            };
            assert!(check_rest(&open).is_err(), "{open}");
        }
        for name in ["tool_completed", "message_completed2", "run_started"] {
            let twice = format!("agent_started {name} {name} agent_completed run_failed");
            assert!(check_rest(&twice).is_err(), "{twice}");
        }
    }
}
