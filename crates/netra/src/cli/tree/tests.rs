//! Tests of the tree on events as a run sends them.

use netra_protocol::id::{EventId, RunId, ThreadId};
use serde_json::json;

use super::*;

fn event(agent: Option<&str>, step: Option<u32>, kind: serde_json::Value) -> Event {
    Event {
        event_id: EventId::from_parts(1, 1),
        ts: Timestamp::from_micros(0),
        thread_id: ThreadId::from_parts(1, 1),
        run_id: RunId::from_parts(1, 1),
        agent: agent.map(str::to_owned),
        step,
        kind: serde_json::from_value(kind).unwrap(),
    }
}

fn started(agent: &str, parent_step: Option<u32>) -> serde_json::Value {
    json!({"type": "agent_started",
        "data": {"agent": agent, "parent_step": parent_step, "task": "look"}})
}

fn executing(call: u64, name: &str) -> serde_json::Value {
    json!({"type": "tool_executing", "data": {
        "tool_call_id": ToolCallId::from_parts(call, 0), "tool_name": name, "arguments": {}}})
}

fn completed(call: u64, name: &str) -> serde_json::Value {
    json!({"type": "tool_completed", "data": {
        "tool_call_id": ToolCallId::from_parts(call, 0), "tool_name": name, "success": true,
        "duration_ms": 80, "result": null, "result_bytes": 4}})
}

fn lines(tree: &Tree) -> Vec<String> {
    tree.lines(Timestamp::from_micros(2_000_000), 0, 80, 50)
}

#[test]
fn agents_and_tools_nest_as_they_called_each_other() {
    let mut tree = Tree::default();
    for event in [
        event(Some("boss"), Some(1), started("boss", None)),
        event(
            Some("boss"),
            Some(2),
            json!({"type": "agent_thinking", "data": {"message": "plan"}}),
        ),
        event(Some("data"), Some(3), started("data", Some(2))),
        event(Some("data"), Some(4), executing(1, "profile")),
        event(Some("cost"), Some(5), started("cost", Some(2))),
        event(Some("data"), Some(4), executing(2, "chart")),
        event(Some("data"), Some(4), completed(1, "profile")),
    ] {
        tree.fold(&event);
    }
    assert_eq!(
        lines(&tree),
        [
            "⠋ boss  2.0 s  plan",
            "  ⠋ data  2.0 s  look",
            "    ✓ profile  80 ms",
            "    ⠋ chart  2.0 s",
            "  ⠋ cost  2.0 s  look",
        ]
    );
}

#[test]
fn a_small_terminal_shows_the_end_and_no_line_is_too_long() {
    let mut tree = Tree::default();
    for name in ["first", "second", "third-with-a-long-name"] {
        tree.fold(&event(None, None, started(name, None)));
    }
    let lines = tree.lines(Timestamp::from_micros(0), 0, 12, 2);
    assert_eq!(lines, ["⠋ second  0…", "⠋ third-wit…"]);
}

#[test]
fn control_characters_of_others_do_not_reach_the_terminal() {
    let mut tree = Tree::default();
    let evil = json!({"type": "agent_started",
        "data": {"agent": "a", "task": "x\u{1b}[2Jy\nz"}});
    tree.fold(&event(None, None, evil));
    assert!(!lines(&tree).concat().contains(['\u{1b}', '\n']));
}

#[test]
fn messages_and_files_are_kept_for_the_end() {
    let mut tree = Tree::default();
    let message = json!({"type": "message_completed", "data": {
        "message_id": MessageId::from_parts(1, 1), "role": "assistant",
        "content": [{"type": "text", "text": "the answer"}]}});
    tree.fold(&event(None, None, message));
    let file = json!({"type": "artifact_created", "data": {
        "file_id": netra_protocol::id::FileId::from_parts(1, 1), "name": "a.svg",
        "media_type": "image/svg+xml", "bytes": 5}});
    assert_eq!(
        tree.fold(&event(None, None, file)).unwrap(),
        "file a.svg (5 bytes)"
    );
    assert_eq!(tree.last_message.as_deref(), Some("the answer"));
    assert_eq!(tree.artifacts.len(), 1);
}
