//! What a server finds that was stopped in the middle: made by writing such a log by hand.

use netra_context::{BackgroundKind, UserExecutionContext};
use netra_events::Emission;
use netra_protocol::error::ErrorCode;
use netra_protocol::event::EventKind;
use netra_protocol::id::{MessageId, RunId, ThreadId, ToolCallId};
use netra_protocol::run::{Run, RunStatus};
use netra_store::{NewRun, Target, Writable};
use serde_json::{Map, json};

use super::house::{House, ask, failure_of, names, names_without_deltas};

/// A run that was stored and that no engine has.
async fn left_behind(house: &House, ctx: &UserExecutionContext) -> Writable<Run> {
    let runtime = &house.runtime;
    let target = Target::New {
        id: runtime.new_id(ThreadId::from_parts),
        title: "left behind".into(),
    };
    let new = NewRun {
        id: runtime.new_id(RunId::from_parts),
        agent: "assistant".into(),
        agent_hash: String::new(),
        input: json!("x"),
        files: Vec::new(),
        metadata: Map::new(),
        timeout_ms: 1_000,
        deadline: runtime.now().plus_millis(1_000),
        input_message_id: runtime.new_id(MessageId::from_parts),
        started: false,
        events: Vec::new(),
    };
    house
        .store
        .run_create(ctx, target, new, None)
        .await
        .unwrap()
        .value
}

fn recovering(house: &House) -> UserExecutionContext {
    UserExecutionContext::for_background(&house.runtime, BackgroundKind::Recovery)
}

#[tokio::test]
async fn what_was_open_is_closed_and_the_run_is_interrupted_once() {
    let house = House::plain();
    let ctx = house.user().await;
    let run = left_behind(&house, &ctx).await;
    let emitter = house.bridge.create_emitter(&run);
    let message_id = house.runtime.new_id(MessageId::from_parts);
    let of = |agent: &str, step, kind| Emission::of_agent(agent, step, kind);
    let started = EventKind::RunStarted {
        agent: "assistant".into(),
        deadline: house.runtime.now(),
        attempt: 1,
        input_message_id: message_id,
    };
    let begun = |agent: &str, parent_step| EventKind::AgentStarted {
        agent: agent.into(),
        parent_step,
        task: String::new(),
    };
    let executing = EventKind::ToolExecuting {
        tool_call_id: house.runtime.new_id(ToolCallId::from_parts),
        tool_name: "hold".into(),
        arguments: json!({}),
        purpose: None,
    };
    let emissions = vec![
        Emission::of_run(started),
        of("assistant", 1, begun("assistant", None)),
        of(
            "assistant",
            1,
            EventKind::MessageDelta {
                message_id,
                delta: "half".into(),
            },
        ),
        of("data", 2, begun("data", Some(1))),
        of("data", 2, executing),
    ];
    emitter.emit(&ctx, emissions).await.unwrap();
    assert_eq!(house.engine.recover(&recovering(&house)).await.unwrap(), 1);
    assert_eq!(house.engine.recover(&recovering(&house)).await.unwrap(), 0);
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Failed);
    assert_eq!(failure_of(&log).code, ErrorCode::Interrupted);
    let closing = [
        "tool_completed",
        "message_completed",
        "agent_completed",
        "agent_completed",
        "run_failed",
    ];
    assert_eq!(names_without_deltas(&log)[4..], closing);
    let EventKind::ToolCompleted {
        error: Some(error), ..
    } = &log[5].kind
    else {
        panic!()
    };
    assert_eq!(error.code, ErrorCode::OutcomeUnknown);
}

#[tokio::test]
async fn a_run_that_had_not_begun_is_interrupted_too() {
    let house = House::plain();
    let ctx = house.user().await;
    let run = left_behind(&house, &ctx).await;
    house.engine.recover(&recovering(&house)).await.unwrap();
    let (_, log) = house.ended(&ctx, run.id).await;
    assert_eq!(names(&log), ["run_failed"]);
    // The thread is free again.
    let next = house
        .start_on(&ctx, run.thread_id, ask("echo", "y"))
        .await
        .unwrap()
        .run;
    assert_eq!(
        house.ended(&ctx, next.id).await.0.status,
        RunStatus::Completed
    );
}

#[tokio::test]
async fn a_run_that_no_engine_has_can_still_be_cancelled() {
    let house = House::plain();
    let ctx = house.user().await;
    let run = left_behind(&house, &ctx).await;
    house.engine.cancel(&ctx, &run).await.unwrap();
    assert_eq!(
        house.ended(&ctx, run.id).await.0.status,
        RunStatus::Cancelled
    );
    let again = house.engine.cancel(&ctx, &run).await.unwrap_err();
    assert_eq!(again.code(), ErrorCode::RunEnded);
}
