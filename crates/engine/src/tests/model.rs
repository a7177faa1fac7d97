//! Model agents: streaming, tools, history, errors, limits.

use netra_model::scripted::Answer;
use netra_model::{Error as ModelError, Message as Said};
use netra_protocol::ErrorCode;
use netra_protocol::event::EventKind;
use netra_protocol::limits::Limits;
use netra_protocol::run::RunStatus;
use serde_json::{Value, json};

use super::house::{House, ask, failure_of, names_without_deltas};

#[tokio::test]
async fn tools_are_run_and_their_results_given_back() {
    let house = House::answering([
        Answer::new()
            .thinking("Which time is it?")
            .text("I look. ")
            .tool_call("c1", "time_now", json!({}))
            .usage(100, 10),
        Answer::new().text("It is ").text("late.").usage(150, 5),
    ]);
    let ctx = house.user().await;
    let run = house
        .start(&ctx, ask("assistant", "What time is it?"))
        .await
        .unwrap()
        .run;
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.result, Some(json!({"text": "It is late."})));
    let expected = [
        "run_started",
        "agent_started",
        "agent_thinking",
        "message_completed",
        "tool_executing",
        "tool_completed",
        "message_completed",
        "agent_completed",
        "run_completed",
    ];
    assert_eq!(names_without_deltas(&log), expected);
    let usage = &run.usage;
    assert_eq!((usage.input_tokens, usage.output_tokens), (250, 15));
    assert_eq!(
        (usage.model_calls, usage.tool_calls, usage.cost_usd),
        (2, 1, None)
    );
    let requests = house.model.requests();
    assert_eq!(requests[0].system.as_deref(), Some("Be brief."));
    assert_eq!(requests[0].messages, [Said::user("What time is it?")]);
    assert!(requests[0].tools.iter().any(|tool| tool.name == "time_now"));
    assert!(!requests[0].tools.iter().any(|tool| tool.name == "unruled"));
    let Said::ToolResult {
        tool_call_id,
        content,
    } = &requests[1].messages[2]
    else {
        panic!()
    };
    assert_eq!(tool_call_id, "c1");
    assert!(serde_json::from_str::<Value>(content).unwrap()["now"].is_string());
    let steps: Vec<Option<u32>> = log
        .iter()
        .filter(|event| event.kind.name().starts_with("message_c"))
        .map(|event| event.step)
        .collect();
    assert_eq!(steps, [Some(1), Some(2)]);
    house.quiet().await;
}

#[tokio::test]
async fn the_next_question_on_a_thread_comes_with_what_was_said() {
    let house = House::answering([Answer::new().text("Paris"), Answer::new().text("Seine")]);
    let ctx = house.user().await;
    let first = house
        .start(&ctx, ask("assistant", "Capital of France?"))
        .await
        .unwrap()
        .run;
    house.ended(&ctx, first.id).await;
    let again = ask("assistant", "And its river?");
    let second = house
        .start_on(&ctx, first.thread_id, again)
        .await
        .unwrap()
        .run;
    house.ended(&ctx, second.id).await;
    let said = &house.model.requests()[1].messages;
    let expected = [
        Said::user("Capital of France?"),
        Said::Assistant {
            text: "Paris".into(),
            tool_calls: vec![],
            keepsake: None,
        },
        Said::user("And its river?"),
    ];
    assert_eq!(said[..], expected);
    house.quiet().await;
}

#[tokio::test]
async fn an_error_of_the_provider_is_the_runs_error() {
    for (answer, code) in [
        (
            Answer::refuse(ModelError::NotConfigured("no key".into())),
            ErrorCode::ModelNotConfigured,
        ),
        (
            Answer::new().text("be").error(ModelError::Timeout {
                provider: "p".into(),
                limit_ms: 1,
            }),
            ErrorCode::ModelUnavailable,
        ),
        (Answer::new(), ErrorCode::AgentFailed),
    ] {
        let house = House::answering([answer]);
        let ctx = house.user().await;
        let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
        let (run, log) = house.ended(&ctx, run.id).await;
        assert_eq!(run.status, RunStatus::Failed);
        assert_eq!(failure_of(&log).code, code);
        house.quiet().await;
    }
}

#[tokio::test]
async fn a_model_that_never_ends_runs_out_of_steps() {
    let round = || Answer::new().tool_call("c", "time_now", json!({}));
    let house = House::answering((0..10).map(|_| round()));
    let ctx = house
        .user_with(Limits {
            steps: 3,
            ..Limits::default()
        })
        .await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Failed);
    assert_eq!(failure_of(&log).code, ErrorCode::StepLimitExceeded);
    assert_eq!(run.usage.model_calls, 3);
    let last = log.iter().filter_map(|event| event.step).max();
    assert_eq!(last, Some(3));
    let EventKind::RunFailed { usage, .. } = &log.last().unwrap().kind else {
        panic!()
    };
    assert_eq!(*usage, run.usage);
    house.quiet().await;
}
