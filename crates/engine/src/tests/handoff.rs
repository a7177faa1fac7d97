//! Model agents that hand the conversation over to others.

use netra_model::scripted::{Answer, ScriptedModel};
use netra_model::{Error as ModelError, Message as Said};
use netra_protocol::ErrorCode;
use netra_protocol::event::EventKind;
use netra_protocol::message::MessageRole;
use serde_json::json;

use super::house::{House, ask, failure_of, names_without_deltas};
use super::team::{lead, told, who};

#[tokio::test]
async fn the_conversation_is_handed_over_and_the_other_answers() {
    let house = House::with_model(lead(
        &[("handoff_billing", r#"{"message": "a refund of 3"}"#)],
        |_, request| match request.messages.len() {
            2 => Answer::new()
                .text("I look. ")
                .tool_call("b", "count", json!({"n": 3})),
            _ => Answer::new().text("You get ").text("3 back."),
        },
    ));
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("lead", "Refund!")).await.unwrap().run;
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.result, Some(json!({"text": "You get 3 back."})));
    assert_eq!(run.agent, "lead");
    let expected = [
        "run_started",
        "agent_started",
        "agent_started",
        "message_completed",
        "tool_executing",
        "tool_completed",
        "message_completed",
        "agent_completed",
        "agent_completed",
        "run_completed",
    ];
    assert_eq!(names_without_deltas(&log), expected);
    let deltas = log.iter().filter(|event| event.kind.is_delta());
    assert!(deltas.clone().count() > 0);
    assert!(
        deltas
            .clone()
            .all(|event| event.agent.as_deref() == Some("billing"))
    );
    let requests = house.model.requests();
    let expected = [
        Said::user("Refund!"),
        Said::user("[handed over by lead: a refund of 3]"),
    ];
    assert_eq!(requests[1].messages, expected);
    let thread = house
        .store
        .thread(&ctx, run.thread_id)
        .for_read()
        .await
        .unwrap();
    let messages = house.store.messages(&ctx, &thread, 10, None).await.unwrap();
    let by: Vec<_> = messages
        .items
        .iter()
        .filter(|message| message.role == MessageRole::Assistant)
        .map(|message| message.agent.as_deref())
        .collect();
    assert_eq!(by, [Some("billing"), Some("billing")]);
    house.quiet().await;
}

#[tokio::test]
async fn a_handoff_stands_alone_and_one_that_fails_is_an_answer() {
    let house = House::with_model(lead(
        &[("count", r#"{"n": 1}"#), ("handoff_billing", "{}")],
        |_, _| Answer::new().text("never"),
    ));
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("lead", "x")).await.unwrap().run;
    let (run, _) = house.ended(&ctx, run.id).await;
    assert_eq!(run.result, Some(json!({"text": "all done"})));
    let told = told(&house.model.requests()[1]);
    assert_eq!(
        (&told[0], &told[1]["error"]["code"]),
        (&json!({"n": 1}), &json!("invalid_request"))
    );
    house.quiet().await;

    let house = House::with_model(lead(&[("handoff_billing", "{}")], |_, _| {
        Answer::new().text("You get").error(ModelError::Cut {
            provider: "p".into(),
        })
    }));
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("lead", "x")).await.unwrap().run;
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.result, Some(json!({"text": "all done"})));
    let cut_off: Vec<bool> = log
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::MessageCompleted { incomplete, .. } => Some(*incomplete),
            _ => None,
        })
        .collect();
    assert_eq!(cut_off, [true, false], "what it had begun to say is closed");
    house.quiet().await;
}

#[tokio::test]
async fn agents_that_hand_over_in_a_circle_end_at_the_depth_of_the_run() {
    let house = House::with_model(ScriptedModel::from_fn("test", |request| {
        let to = match who(request) {
            "lead" => "handoff_desk",
            _ => "handoff_lead",
        };
        Answer::new().tool_call("h", to, json!({}))
    }));
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("lead", "x")).await.unwrap().run;
    let (_, log) = house.ended(&ctx, run.id).await;
    assert_eq!(failure_of(&log).code, ErrorCode::DepthLimitExceeded);
    house.quiet().await;
}
