//! Conversations that grow longer than the model takes.

use netra_model::scripted::{Answer, ScriptedModel};
use netra_model::{ChatRequest, Message as Said};
use netra_protocol::Event;
use netra_protocol::approval::Decision;
use netra_protocol::event::EventKind;
use serde_json::json;

use super::camera::{photographed, taken_up};
use super::house::{House, ask, names};

fn sums_up(request: &ChatRequest) -> bool {
    request.system.as_deref().unwrap().starts_with("Sum up")
}

/// What a request holds, so that another request gives another answer.
fn sign(request: &ChatRequest) -> String {
    let size = |said: &Said| match said {
        Said::User { text, .. } => format!("u{}", text.len()),
        Said::Assistant { tool_calls, .. } => format!("a{}", tool_calls.len()),
        Said::ToolResult { content, .. } => format!("r{}", content.len()),
    };
    request
        .messages
        .iter()
        .map(size)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Large results until there are so many rounds, then the answer.
fn rounds(most: usize) -> impl Fn(&ChatRequest) -> Answer + Send + Sync + 'static {
    move |request| {
        if sums_up(request) {
            return Answer::new().text("all x so far").usage(10, 5);
        }
        // A conversation that was cut does not say how long it was.
        let answered = request.messages.iter().any(
            |said| matches!(said, Said::ToolResult { tool_call_id, .. } if *tool_call_id == format!("c{most}")),
        );
        if answered {
            return Answer::new().text(sign(request));
        }
        let number: usize = match request.messages.last().unwrap() {
            Said::ToolResult { tool_call_id, .. } => tool_call_id[1..].parse().unwrap(),
            _ => 0,
        };
        Answer::new().tool_call(&format!("c{}", number + 1), "large", json!({}))
    }
}

fn thoughts(log: &[Event]) -> Vec<&str> {
    fn thought(event: &Event) -> Option<&str> {
        match &event.kind {
            EventKind::AgentThinking { message, .. } => Some(message),
            _ => None,
        }
    }
    log.iter().filter_map(thought).collect()
}

#[tokio::test]
async fn the_oldest_results_are_left_out_and_the_user_is_told() {
    let house = House::with_model(ScriptedModel::from_fn("test", rounds(4)));
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("trimmer", "x")).await.unwrap().run;
    let (run, log) = house.ended(&ctx, run.id).await;
    let told = thoughts(&log);
    assert!(
        !told.is_empty() && told[0].contains("4000 tokens"),
        "{told:?}"
    );
    assert!(
        told[0].contains("older results of tools were left out"),
        "{told:?}"
    );
    let requests = house.model.requests();
    let bytes = |request: &ChatRequest| serde_json::to_string(&request.messages).unwrap().len();
    assert!(requests.iter().all(|request| bytes(request) < 3 * 4_000));
    assert_eq!(requests.len(), 5);
    assert_eq!(run.usage.model_calls, 5);
    house.quiet().await;
}

#[tokio::test]
async fn what_is_older_is_summed_up_by_the_model_in_a_step_of_its_own() {
    let house = House::with_model(ScriptedModel::from_fn("test", rounds(4)));
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("summer", "x")).await.unwrap().run;
    let (run, log) = house.ended(&ctx, run.id).await;
    let told = thoughts(&log);
    assert!(told[0].contains("were summed up"), "{told:?}");
    let requests = house.model.requests();
    let asked = requests.iter().position(sums_up).unwrap();
    assert!(requests[asked].tools.is_empty());
    let Said::User { text, .. } = &requests[asked + 1].messages[0] else {
        panic!()
    };
    assert!(text.ends_with("\nall x so far"), "{text}");
    assert_eq!(requests[asked + 1].messages[1], Said::user("x"));
    assert_eq!(run.usage.model_calls, requests.len() as u64);
    let last = log.iter().filter_map(|event| event.step).max();
    assert_eq!(
        last,
        Some(requests.len() as u32),
        "each call of the model is a step"
    );
    house.quiet().await;
}

#[tokio::test]
async fn a_model_whose_window_is_known_needs_no_word_of_the_agent() {
    let model = ScriptedModel::from_fn("test", |request| match request.messages.len() {
        n if n < 7 => Answer::new().tool_call("c", "large", json!({})),
        _ => Answer::new().text("done"),
    });
    let house = House::with_model(model.with_window(4_000));
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (_, log) = house.ended(&ctx, run.id).await;
    assert!(!thoughts(&log).is_empty());
    house.quiet().await;
}

fn trimming() -> ScriptedModel {
    ScriptedModel::from_fn("test", rounds(4))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_any_two_commits_leaves_out_the_same() {
    for agent in ["trimmer", "summer"] {
        let (ctx, whole, shots) = photographed(trimming, ask(agent, "x")).await;
        let mut cut = 0;
        for (index, shot) in shots.iter().enumerate() {
            let Some(taken) = taken_up(trimming, shot, &ctx, whole.id, Decision::Approve).await
            else {
                assert_eq!(index, shots.len() - 1);
                continue;
            };
            let at = format!("{agent}, state {index}:\n{}", names(&taken.log).join("\n"));
            assert_eq!(taken.run.result, whole.result, "{at}");
            assert_eq!(taken.run.usage.model_calls, whole.usage.model_calls, "{at}");
            cut += usize::from(!thoughts(&taken.found).is_empty());
        }
        assert!(cut > 0, "{agent}: no state had something left out");
    }
}

fn window_then() -> ScriptedModel {
    ScriptedModel::from_fn("test", rounds(2)).with_window(3_000)
}

fn no_window_now() -> ScriptedModel {
    ScriptedModel::from_fn("test", rounds(2))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_left_out_stays_so_when_the_window_is_another_one() {
    let (ctx, whole, shots) = photographed(window_then, ask("plain", "x")).await;
    let mut taken_with_a_cut = 0;
    for shot in &shots {
        let taken = taken_up(no_window_now, shot, &ctx, whole.id, Decision::Approve).await;
        if let Some(taken) = taken.filter(|taken| !thoughts(&taken.found).is_empty()) {
            assert_eq!(taken.run.result, whole.result);
            taken_with_a_cut += 1;
        }
    }
    assert!(taken_with_a_cut > 0);
}
