//! A run as a tree of agents and tools: folds events, draws lines.

use std::collections::HashMap;

use netra_context::duration;
use netra_protocol::event::EventKind;
use netra_protocol::id::{MessageId, ToolCallId};
use netra_protocol::{Event, Timestamp};

const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
/// The longest text of a task, an argument or an error within a line.
const SHORT: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Done,
    Failed,
}

#[derive(Debug)]
struct Node {
    depth: usize,
    name: String,
    is_agent: bool,
    text: String,
    state: State,
    progress: Option<f64>,
    since: Timestamp,
    took_ms: Option<u64>,
}

/// A file that the run made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artifact {
    pub(crate) id: netra_protocol::id::FileId,
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// What has happened so far.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    calls: HashMap<ToolCallId, usize>,
    steps: HashMap<u32, usize>,
    messages: HashMap<MessageId, String>,
    status: String,
    pub(crate) artifacts: Vec<Artifact>,
    pub(crate) last_message: Option<String>,
}

impl Tree {
    /// Takes an event in. Gives a plain line where the event is worth one.
    pub(crate) fn fold(&mut self, event: &Event) -> Option<String> {
        if let (Some(step), Some(agent)) = (event.step, &event.agent)
            && let Some(node) = self.open_agent(agent)
        {
            self.steps.insert(step, node);
        }
        match &event.kind {
            EventKind::RunQueued { queue_position, .. } => {
                self.say(format!("queued at place {queue_position}"))
            }
            EventKind::RunStarted { .. } => self.say("started".into()),
            EventKind::RunWaiting { reason } => self.say(format!("waiting: {reason}")),
            EventKind::RunResumed { reason, .. } => self.say(format!("goes on: {reason}")),
            EventKind::LimitWarning {
                limit,
                used,
                allowed,
            } => self.say(format!("{limit}: {used} of {allowed} used")),
            EventKind::AgentStarted { .. } | EventKind::AgentCompleted { .. } => {
                self.fold_agent(event)
            }
            EventKind::AgentThinking { message, progress } => {
                let node = self.node_of(event)?;
                self.nodes[node].text = short(message);
                self.nodes[node].progress = *progress;
                Some(format!("{}: {}", self.nodes[node].name, short(message)))
            }
            EventKind::MessageDelta { .. } | EventKind::MessageCompleted { .. } => {
                self.fold_message(event);
                None
            }
            EventKind::ArtifactCreated {
                file_id,
                name,
                bytes,
                ..
            } => {
                self.artifacts.push(Artifact {
                    id: *file_id,
                    name: name.clone(),
                    bytes: *bytes,
                });
                Some(format!("file {name} ({bytes} bytes)"))
            }
            EventKind::ApprovalRequested { .. } => self.say("waiting for an approval".into()),
            EventKind::ApprovalResolved { .. } => self.say(String::new()),
            EventKind::ToolExecuting { .. }
            | EventKind::ToolProgress { .. }
            | EventKind::ToolCompleted { .. }
            | EventKind::ToolDenied { .. } => self.fold_tool(event),
            EventKind::RunCompleted { .. }
            | EventKind::RunFailed { .. }
            | EventKind::RunCancelled { .. }
            | EventKind::RunTimedOut { .. } => self.say(String::new()),
        }
    }

    fn fold_agent(&mut self, event: &Event) -> Option<String> {
        match &event.kind {
            EventKind::AgentStarted {
                agent,
                parent_step,
                task,
            } => {
                let parent = parent_step.and_then(|step| self.steps.get(&step).copied());
                let depth = parent.map_or(0, |parent| self.nodes[parent].depth + 1);
                let node = Node {
                    depth,
                    name: agent.clone(),
                    is_agent: true,
                    text: short(task),
                    state: State::Open,
                    progress: None,
                    since: event.ts,
                    took_ms: None,
                };
                let place = self.insert(parent, node);
                if let Some(step) = event.step {
                    self.steps.insert(step, place);
                }
                Some(format!("{agent} started"))
            }
            EventKind::AgentCompleted {
                agent,
                success,
                duration_ms,
                ..
            } => {
                let node = self.open_agent(agent)?;
                self.close(node, *success, *duration_ms);
                let end = if *success { "done" } else { "failed" };
                Some(format!(
                    "{agent} {end} after {}",
                    duration::show(*duration_ms)
                ))
            }
            _ => None,
        }
    }

    fn fold_tool(&mut self, event: &Event) -> Option<String> {
        match &event.kind {
            EventKind::ToolExecuting {
                tool_call_id,
                tool_name,
                arguments,
                purpose,
            } => {
                let parent = self.node_of(event);
                let node = Node {
                    depth: parent.map_or(0, |parent| self.nodes[parent].depth + 1),
                    name: tool_name.clone(),
                    is_agent: false,
                    text: short(purpose.as_deref().unwrap_or(&arguments_text(arguments))),
                    state: State::Open,
                    progress: None,
                    since: event.ts,
                    took_ms: None,
                };
                let place = self.insert(parent, node);
                self.calls.insert(*tool_call_id, place);
                Some(format!("  {tool_name} …"))
            }
            EventKind::ToolProgress {
                tool_call_id,
                progress,
                message,
            } => {
                let node = *self.calls.get(tool_call_id)?;
                self.nodes[node].progress = *progress;
                if let Some(message) = message {
                    self.nodes[node].text = short(message);
                }
                None
            }
            EventKind::ToolCompleted {
                tool_call_id,
                tool_name,
                success,
                duration_ms,
                error,
                ..
            } => {
                let took = duration::show(*duration_ms);
                if let Some(node) = self.calls.get(tool_call_id).copied() {
                    self.close(node, *success, *duration_ms);
                    if let Some(error) = error {
                        self.nodes[node].text = short(&error.message);
                    }
                }
                Some(match error {
                    Some(error) => format!("  {tool_name} failed after {took}: {}", error.message),
                    None => format!("  {tool_name} done after {took}"),
                })
            }
            EventKind::ToolDenied {
                tool_name,
                layer,
                reason,
                ..
            } => Some(format!("  {tool_name} denied by {layer}: {reason}")),
            _ => None,
        }
    }

    fn fold_message(&mut self, event: &Event) {
        match &event.kind {
            EventKind::MessageDelta { message_id, delta } => {
                let text = self.messages.entry(*message_id).or_default();
                text.push_str(delta);
                let line = text
                    .trim_end()
                    .rsplit('\n')
                    .next()
                    .map(short)
                    .unwrap_or_default();
                if let Some(node) = self.node_of(event) {
                    self.nodes[node].text = line;
                }
            }
            EventKind::MessageCompleted {
                message_id,
                content,
                ..
            } => {
                self.messages.remove(message_id);
                let text = message_text(content);
                if !text.is_empty() {
                    self.last_message = Some(text);
                }
            }
            _ => {}
        }
    }

    fn say(&mut self, status: String) -> Option<String> {
        self.status = status;
        (!self.status.is_empty()).then(|| format!("run {}", self.status))
    }

    /// Puts a node behind everything that stands below its parent.
    fn insert(&mut self, parent: Option<usize>, node: Node) -> usize {
        let place = match parent {
            None => self.nodes.len(),
            Some(parent) => {
                let depth = self.nodes[parent].depth;
                let below = self.nodes[parent + 1..]
                    .iter()
                    .take_while(|node| node.depth > depth);
                parent + 1 + below.count()
            }
        };
        self.nodes.insert(place, node);
        let shift = |at: &mut usize| *at += usize::from(*at >= place);
        self.calls.values_mut().for_each(shift);
        self.steps.values_mut().for_each(shift);
        place
    }

    fn close(&mut self, node: usize, success: bool, took_ms: u64) {
        let node = &mut self.nodes[node];
        node.state = if success { State::Done } else { State::Failed };
        node.took_ms = Some(took_ms);
        node.progress = None;
    }

    /// The agent of this name that began last and has not ended.
    fn open_agent(&self, name: &str) -> Option<usize> {
        self.nodes
            .iter()
            .rposition(|node| node.is_agent && node.state == State::Open && node.name == name)
    }

    /// The agent that an event belongs to.
    fn node_of(&self, event: &Event) -> Option<usize> {
        let by_step = event.step.and_then(|step| self.steps.get(&step).copied());
        by_step.or_else(|| self.open_agent(event.agent.as_deref()?))
    }

    /// The lines to draw, at most `height`, each at most `width` characters.
    pub(crate) fn lines(
        &self,
        now: Timestamp,
        tick: usize,
        width: usize,
        height: usize,
    ) -> Vec<String> {
        let mut lines: Vec<_> = self
            .nodes
            .iter()
            .map(|node| cut(&node.line(now, tick), width))
            .collect();
        if !self.status.is_empty() && self.nodes.is_empty() {
            lines.push(cut(&format!("{} {}", spinner(tick), self.status), width));
        }
        let hidden = lines.len().saturating_sub(height);
        lines.drain(..hidden);
        lines
    }
}

impl Node {
    fn line(&self, now: Timestamp, tick: usize) -> String {
        let mark = match self.state {
            State::Open => spinner(tick),
            State::Done => '✓',
            State::Failed => '✗',
        };
        let took = duration::show(self.took_ms.unwrap_or_else(|| now.millis_since(self.since)));
        let progress = self.progress.map(|part| format!(" {:.0} %", part * 100.0));
        let indent = "  ".repeat(self.depth);
        let text = if self.text.is_empty() {
            String::new()
        } else {
            format!("  {}", self.text)
        };
        format!(
            "{indent}{mark} {}{}  {took}{text}",
            self.name,
            progress.unwrap_or_default()
        )
    }
}

fn spinner(tick: usize) -> char {
    SPINNER[tick % SPINNER.len()]
}

/// The text parts of a message.
pub(crate) fn message_text(content: &[netra_protocol::message::Content]) -> String {
    let texts = content.iter().filter_map(|part| match part {
        netra_protocol::message::Content::Text { text } => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}

fn arguments_text(arguments: &serde_json::Value) -> String {
    match arguments.as_object() {
        Some(object) if object.is_empty() => String::new(),
        _ => arguments.to_string(),
    }
}

/// One line without control characters, which could otherwise redraw the terminal.
fn short(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    cut(line.trim(), SHORT)
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests;
