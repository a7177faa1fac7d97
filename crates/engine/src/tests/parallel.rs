//! Several tools in one answer: which run beside each other, and that all else stays as it is.

use netra_model::Message as Said;
use netra_model::scripted::{Answer, ScriptedModel};
use netra_protocol::ErrorCode;
use netra_protocol::Event;
use netra_protocol::event::EventKind;
use netra_protocol::limits::Limits;
use netra_protocol::run::RunStatus;
use serde_json::json;

use super::camera::every_state_taken_up;
use super::house::{House, ask, failure_of};

/// The calls that begin and end, in the order of the log.
fn calls(log: &[Event]) -> Vec<String> {
    let of = |event: &Event| match &event.kind {
        EventKind::ToolExecuting { tool_name, .. } => Some(format!("+{tool_name}")),
        EventKind::ToolCompleted { tool_name, .. } => Some(format!("-{tool_name}")),
        _ => None,
    };
    log.iter().filter_map(of).collect()
}

#[tokio::test]
async fn tools_that_only_read_run_beside_each_other_and_answer_in_order() {
    let house = House::answering([
        Answer::new()
            .tool_call("a", "hold", json!({"n": 1}))
            .tool_call("b", "hold", json!({"n": 2}))
            .tool_call("c", "fail", json!({})),
        Answer::new().text("both"),
    ]);
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    // Neither goes on before both are reached.
    house.held(2).await;
    house.let_go();
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Completed);
    assert_eq!(run.usage.tool_calls, 3);
    assert_eq!(log.iter().filter_map(|event| event.step).max(), Some(2));
    let told: Vec<(String, bool)> = house.model.requests()[1].messages[2..]
        .iter()
        .map(|said| match said {
            Said::ToolResult {
                tool_call_id,
                content,
            } => (tool_call_id.clone(), content.contains("error")),
            other => panic!("{other:?}"),
        })
        .collect();
    let in_order = [("a", false), ("b", false), ("c", true)];
    assert_eq!(told, in_order.map(|(id, failed)| (id.to_owned(), failed)));
    house.quiet().await;
}

#[tokio::test]
async fn a_tool_that_changes_something_runs_alone_and_in_its_place() {
    let call = |answer: Answer, name: &str| answer.tool_call(name, name, json!({"n": 1}));
    let wanted = ["count", "once", "once", "count"];
    let house = House::answering([
        wanted.into_iter().fold(Answer::new(), call),
        Answer::new().text("done"),
    ]);
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (_, log) = house.ended(&ctx, run.id).await;
    let one_by_one: Vec<String> = wanted
        .iter()
        .flat_map(|name| [format!("+{name}"), format!("-{name}")])
        .collect();
    assert_eq!(calls(&log), one_by_one);
    house.quiet().await;
}

#[tokio::test]
async fn a_cancel_closes_all_calls_that_are_open() {
    let house = House::answering([Answer::new().tool_call("a", "hold", json!({})).tool_call(
        "b",
        "hold",
        json!({}),
    )]);
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    house.held(2).await;
    house.cancel(&ctx, run.id).await.unwrap();
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Cancelled);
    assert_eq!(calls(&log), ["+hold", "+hold", "-hold", "-hold"]);
    house.quiet().await;
}

#[tokio::test]
async fn the_limit_of_calls_holds_for_calls_side_by_side() {
    let all = (0..12).fold(Answer::new(), |answer, n| {
        answer.tool_call(&format!("c{n}"), "hold", json!({ "n": n }))
    });
    let house = House::answering([all]);
    let ctx = house
        .user_with(Limits {
            tool_calls: 3,
            ..Limits::default()
        })
        .await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(failure_of(&log).code, ErrorCode::ToolCallLimitExceeded);
    assert_eq!(run.usage.tool_calls, 3);
    assert!(calls(&log).iter().filter(|call| *call == "+hold").count() <= 3);
    house.quiet().await;
}

/// Four calls side by side, then one that changes something, then the answer.
fn side_by_side() -> ScriptedModel {
    ScriptedModel::from_fn("test", |request| {
        let answer = match request.messages.len() {
            1 => (0..4)
                .fold(Answer::new().text("I count. "), |answer, n| {
                    answer.tool_call(&format!("c{n}"), "count", json!({ "n": n }))
                })
                .tool_call("o", "once", json!({"n": 9}))
                .tool_call("s", "save_file", json!({"name": "n.md", "content": "four"})),
            _ => Answer::new().text("There are four."),
        };
        answer.usage(10, 5)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_any_two_commits_of_calls_side_by_side_changes_no_result() {
    let mut half_done = 0;
    every_state_taken_up(side_by_side, ask("assistant", "how many?"), |taken, at| {
        let done = |log: &[Event]| {
            let completed = |event: &&Event| {
                matches!(&event.kind, EventKind::ToolCompleted { tool_name, success: true, .. }
                    if tool_name == "count")
            };
            log.iter().filter(completed).count()
        };
        // What had ended is not done again, and what had not is.
        assert_eq!(done(&taken.log), 4, "{at}");
        half_done += usize::from((1..4).contains(&done(&taken.found)));
    })
    .await;
    assert!(
        half_done > 0,
        "no state had some calls ended and others not"
    );
}
