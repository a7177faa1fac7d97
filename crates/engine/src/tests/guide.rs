//! The supervisor of the agents guide, from the guide itself.

use std::path::Path;

use netra_model::scripted::{Answer, ScriptedModel};
use netra_model::{ChatRequest, Message as Said};
use netra_protocol::Event;
use netra_protocol::event::EventKind;
use serde_json::json;

use super::house::{Build, House, ask};

const GUIDE: &str = include_str!("../../../../docs/agents.md");

/// Writes the files of the guide's agents whose names begin like this: each is a block of code after its path.
fn write_agents(prefix: &str, to: &Path) -> usize {
    let mut lines = GUIDE.lines();
    let mut written = 0;
    while let Some(line) = lines.next() {
        let path = line.strip_prefix("`my-agents/");
        let path = path.and_then(|path| path.strip_suffix("`:"));
        let Some(path) = path.filter(|path| path.starts_with(prefix)) else {
            continue;
        };
        let mut block = lines.by_ref().skip_while(|line| !line.starts_with("```"));
        block.next().expect("a block of code after the path");
        let text: Vec<&str> = block.take_while(|line| *line != "```").collect();
        let file = to.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text.join("\n")).unwrap();
        written += 1;
    }
    written
}

fn house(model: ScriptedModel) -> House {
    let agents = tempfile::tempdir().unwrap();
    assert_eq!(write_agents("desk", agents.path()), 8);
    House::build(Build {
        agents: Some(agents),
        ..Build::new(model)
    })
}

fn is(request: &ChatRequest, words: &str) -> bool {
    request.system.as_deref().unwrap().contains(words)
}

fn agents_of(log: &[Event]) -> Vec<&str> {
    fn started(event: &Event) -> Option<&str> {
        match &event.kind {
            EventKind::AgentStarted { agent, .. } => Some(agent),
            _ => None,
        }
    }
    log.iter().filter_map(started).collect()
}

#[tokio::test]
async fn the_supervisor_of_the_guide_asks_both_and_answers() {
    let figures = json!({"figures": [{"name": "orders", "value": 3, "file": "orders.csv"}]});
    let found = figures.clone();
    let house = house(ScriptedModel::from_fn("test", move |request| {
        let first = request.messages.len() == 1;
        if is(request, "You answer customers") {
            return match first {
                true => Answer::new()
                    .tool_call(
                        "n",
                        "agent_desk-numbers",
                        json!({"text": "how many orders?"}),
                    )
                    .tool_call("r", "agent_desk-rules", json!({"text": "what of returns?"})),
                false => Answer::new().text("Three orders, each can be returned."),
            };
        }
        match (is(request, "Find the figures"), first) {
            (true, true) => Answer::new().tool_call("l", "list_files", json!({})),
            (true, false) => Answer::new().tool_call("f", "final_answer", found.clone()),
            (false, true) => Answer::new().tool_call("m", "recall", json!({"query": "returns"})),
            (false, false) => Answer::new().text("Returns within 30 days."),
        }
    }));
    for name in ["desk", "desk-numbers", "desk-rules", "desk-complaints"] {
        let agent = house.engine.agents().get(name).unwrap();
        assert_eq!(agent.problem, None, "{name}");
    }
    let ctx = house.user().await;
    let run = house
        .start(&ctx, ask("desk", "Can I return them?"))
        .await
        .unwrap()
        .run;
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(
        run.result,
        Some(json!({"text": "Three orders, each can be returned."}))
    );
    let mut agents = agents_of(&log);
    agents[1..].sort_unstable();
    assert_eq!(agents, ["desk", "desk-numbers", "desk-rules"]);
    let requests = house.model.requests();
    let Said::ToolResult { content, .. } = &requests.last().unwrap().messages[2] else {
        panic!()
    };
    assert_eq!(*content, figures.to_string());
    house.quiet().await;
}

#[tokio::test]
async fn the_supervisor_of_the_guide_hands_complaints_over() {
    let house = house(ScriptedModel::from_fn("test", |request| {
        if is(request, "You answer customers") {
            let message = json!({"message": "the parcel was wet"});
            return Answer::new().tool_call("h", "handoff_desk-complaints", message);
        }
        match request.messages.last().unwrap() {
            Said::User { .. } => {
                let file = json!({"name": "complaint.md", "content": "A wet parcel."});
                Answer::new().tool_call("s", "save_file", file)
            }
            _ => Answer::new().text("We call you back."),
        }
    }));
    let ctx = house.user().await;
    let run = house
        .start(&ctx, ask("desk", "It was wet!"))
        .await
        .unwrap()
        .run;
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.result, Some(json!({"text": "We call you back."})));
    assert_eq!(agents_of(&log), ["desk", "desk-complaints"]);
    assert!(
        log.iter()
            .any(|event| event.kind.name() == "artifact_created")
    );
    house.quiet().await;
}
