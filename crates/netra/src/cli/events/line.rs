//! An event as one line for people.

use netra_protocol::WireEvent;
use netra_protocol::event::EventKind;
use serde_json::Value;

/// The longest text of what happened, in characters.
const SHORT: usize = 120;

/// Number, time, run, agent, and what happened.
pub(super) fn of(wire: &WireEvent) -> String {
    let event = &wire.event;
    let run = event.run_id.to_string();
    let run = &run[run.len().saturating_sub(6)..];
    let agent = event.agent.as_deref().unwrap_or("-");
    let name = event.kind.name();
    let what = what(&event.kind);
    let line = format!(
        "{:>7}  {:?}  …{run}  {agent:<20}  {name:<18}  {what}",
        wire.seq, event.ts
    );
    line.trim_end().to_owned()
}

fn what(kind: &EventKind) -> String {
    let text = match kind {
        EventKind::AgentThinking { message, .. } => message.clone(),
        EventKind::MessageDelta { delta, .. } => delta.clone(),
        EventKind::ToolExecuting { tool_name, .. } => tool_name.clone(),
        EventKind::ToolCompleted {
            tool_name, error, ..
        } => match error {
            Some(failure) => format!("{tool_name}: {}: {}", failure.code, failure.message),
            None => tool_name.clone(),
        },
        EventKind::ToolDenied {
            tool_name, reason, ..
        } => format!("{tool_name}: {reason}"),
        EventKind::ArtifactCreated { name, .. } => name.clone(),
        EventKind::RunFailed { error, .. }
        | EventKind::RunCancelled { error, .. }
        | EventKind::RunTimedOut { error, .. } => format!("{}: {}", error.code, error.message),
        other => match serde_json::to_value(other) {
            Ok(Value::Object(fields)) => {
                fields.get("data").map(Value::to_string).unwrap_or_default()
            }
            _ => String::new(),
        },
    };
    let flat: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match flat.char_indices().nth(SHORT) {
        Some((end, _)) => format!("{}…", &flat[..end]),
        None => flat,
    }
}
