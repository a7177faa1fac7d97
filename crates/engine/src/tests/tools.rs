//! The dispatcher within a run: layers, one end for each begin, limits, defects of tools.

use netra_model::Message as Said;
use netra_model::scripted::Answer;
use netra_protocol::ErrorCode;
use netra_protocol::event::{EventKind, MAX_RESULT_BYTES};
use netra_protocol::limits::Limits;
use netra_protocol::run::RunStatus;
use netra_protocol::usage::ToolUsage;
use serde_json::{Value, json};

use super::house::{House, ask, failure_of, names_without_deltas};

fn last_result(house: &House) -> Value {
    let requests = house.model.requests();
    let Some(Said::ToolResult { content, .. }) = requests.last().unwrap().messages.last() else {
        panic!("the model was given no result");
    };
    serde_json::from_str(content).unwrap()
}

#[tokio::test]
async fn each_layer_names_itself_and_the_run_goes_on() {
    for (tool, arguments, layer) in [
        ("no_such_tool", json!({}), "agent_list"),
        ("unruled", json!({}), "policy"),
        ("time_now", json!({"zone": "Mars"}), "schema"),
        ("hold", json!({"n": "three"}), "schema"),
    ] {
        let house = House::answering([
            Answer::new().tool_call("c", tool, arguments),
            Answer::new().text("then not"),
        ]);
        let ctx = house.user().await;
        let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
        let (run, log) = house.ended(&ctx, run.id).await;
        assert_eq!(run.status, RunStatus::Completed);
        let expected = [
            "run_started",
            "agent_started",
            "tool_denied",
            "message_completed",
            "agent_completed",
            "run_completed",
        ];
        assert_eq!(names_without_deltas(&log), expected);
        let EventKind::ToolDenied { layer: named, .. } = &log[2].kind else {
            panic!()
        };
        assert_eq!(named, layer);
        assert_eq!(run.usage.tool_calls, 0);
        // It is counted as refused and as nothing else; of what is no tool the name is not kept.
        let refused = ToolUsage {
            tool: if layer == "agent_list" { "" } else { tool }.into(),
            calls: 0,
            failed: 0,
            denied: 1,
            duration_ms: 0,
            result_bytes: 0,
        };
        assert_eq!(house.store.tool_usage(&ctx).await.unwrap(), [refused]);
        assert_eq!(last_result(&house)["error"]["code"], "tool_denied");
        house.quiet().await;
    }
}

#[tokio::test]
async fn arguments_that_are_no_json_are_refused_by_the_schema() {
    let house = House::answering([
        Answer::new().invalid_tool_call("c", "time_now", "{broken"),
        Answer::new().text("sorry"),
    ]);
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (_, log) = house.ended(&ctx, run.id).await;
    let EventKind::ToolDenied { layer, .. } = &log[2].kind else {
        panic!("{:?}", log[2].kind)
    };
    assert_eq!(layer, "schema");
    house.quiet().await;
}

#[tokio::test]
async fn the_limit_of_calls_ends_the_run_by_its_name() {
    let house = House::answering([Answer::new()
        .tool_call("a", "time_now", json!({}))
        .tool_call("b", "time_now", json!({}))
        .tool_call("c", "time_now", json!({}))]);
    let ctx = house
        .user_with(Limits {
            tool_calls: 2,
            ..Limits::default()
        })
        .await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(failure_of(&log).code, ErrorCode::ToolCallLimitExceeded);
    assert_eq!(run.usage.tool_calls, 2);
    let count = |name| log.iter().filter(|event| event.kind.name() == name).count();
    assert_eq!(
        (
            count("tool_executing"),
            count("tool_completed"),
            count("tool_denied")
        ),
        (2, 2, 1)
    );
    house.quiet().await;
}

#[tokio::test]
async fn a_tool_that_fails_or_panics_has_failed_and_nothing_else() {
    for (tool, message) in [("fail", "no luck"), ("boom", "defect")] {
        let house = House::answering([
            Answer::new().tool_call("c", tool, json!({})),
            Answer::new().text("never mind"),
        ]);
        let ctx = house.user().await;
        let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
        let (run, log) = house.ended(&ctx, run.id).await;
        assert_eq!(run.status, RunStatus::Completed);
        let EventKind::ToolCompleted { success, error, .. } = &log[3].kind else {
            panic!()
        };
        assert!(!success);
        assert!(
            error.as_ref().unwrap().message.contains(message),
            "{error:?}"
        );
        house.quiet().await;
    }
}

#[tokio::test]
async fn a_call_that_takes_too_long_fails_and_the_run_goes_on() {
    let house = House::answering([
        Answer::new().tool_call("c", "hold", json!({})),
        Answer::new().text("then without"),
    ]);
    let ctx = house
        .user_with(Limits {
            tool_call_ms: 40,
            ..Limits::default()
        })
        .await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (run, _) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Completed);
    assert_eq!(last_result(&house)["error"]["code"], "tool_timeout");
    house.quiet().await;
}

#[tokio::test]
async fn a_held_call_gives_its_result_when_it_is_let() {
    let house = House::answering([
        Answer::new().tool_call("c", "hold", json!({"n": 3})),
        Answer::new().text("good"),
    ]);
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    house.held(1).await;
    house.let_go();
    let (_, log) = house.ended(&ctx, run.id).await;
    let EventKind::ToolProgress {
        progress, message, ..
    } = &log[3].kind
    else {
        panic!()
    };
    assert_eq!((*progress, message.as_deref()), (Some(0.5), Some("half")));
    assert_eq!(last_result(&house), "let go");
    house.quiet().await;
}

#[tokio::test]
async fn a_large_result_is_short_in_the_log() {
    let house = House::answering([
        Answer::new().tool_call("c", "large", json!({})),
        Answer::new().text("much"),
    ]);
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (_, log) = house.ended(&ctx, run.id).await;
    let EventKind::ToolCompleted {
        result,
        result_bytes,
        success,
        ..
    } = &log[3].kind
    else {
        panic!("{:?}", log[3].kind)
    };
    assert!(success);
    assert_eq!(*result_bytes, 400_002);
    assert!(result.to_string().len() <= MAX_RESULT_BYTES);
    house.quiet().await;
}

#[tokio::test]
async fn a_saved_file_is_the_users_and_is_told_of() {
    let arguments = json!({"name": "../report.md", "content": "# Report"});
    let house = House::answering([
        Answer::new().tool_call("c", "save_file", arguments),
        Answer::new().text("saved"),
    ]);
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (run, log) = house.ended(&ctx, run.id).await;
    let EventKind::ArtifactCreated {
        file_id,
        name,
        media_type,
        bytes,
    } = &log[3].kind
    else {
        panic!("{:?}", log[3].kind)
    };
    assert_eq!(
        (name.as_str(), media_type.as_str(), *bytes),
        ("report.md", "text/markdown", 8)
    );
    let file = house.store.file(&ctx, *file_id).for_read().await.unwrap();
    assert_eq!(file.run_id, Some(run.id));
    assert_eq!(
        std::fs::read(house.store.file_path(&file)).unwrap(),
        b"# Report"
    );
    let other = house.user().await;
    assert!(house.store.file(&other, *file_id).for_read().await.is_err());
    house.quiet().await;
}
