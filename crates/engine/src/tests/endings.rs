//! Every way for a run to end, at every point: one terminal event, everything closed, slot back.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use netra_model::scripted::{Answer, ScriptedModel};
use netra_protocol::ErrorCode;
use netra_protocol::event::EventKind;
use netra_protocol::limits::Limits;
use netra_protocol::run::{RunStatus, StartRun};
use serde_json::json;

use crate::ExecutionEngineFactory;
use crate::live::StopReason;

use super::house::{House, ask, failure_of, names, names_without_deltas};

#[tokio::test]
async fn a_queued_run_that_is_cancelled_never_starts() {
    let house = House::with_model(ScriptedModel::from_fn("test", |_| Answer::new().hang()));
    let ctx = house
        .user_with(Limits {
            concurrent_runs: 1,
            ..Limits::default()
        })
        .await;
    let first = house.start(&ctx, ask("assistant", "1")).await.unwrap().run;
    let second = house.start(&ctx, ask("echo", "2")).await.unwrap().run;
    let third = house.start(&ctx, ask("echo", "3")).await.unwrap().run;
    assert_eq!(third.queue_position, Some(2));
    house.cancel(&ctx, second.id).await.unwrap();
    let (run, log) = house.ended(&ctx, second.id).await;
    assert_eq!(run.status, RunStatus::Cancelled);
    assert_eq!(names(&log), ["run_queued", "run_cancelled"]);
    let third_now = house.store.run(&ctx, third.id).for_read().await.unwrap();
    assert_eq!(third_now.queue_position, Some(1));
    house.cancel(&ctx, first.id).await.unwrap();
    house.ended(&ctx, first.id).await;
    assert_eq!(
        house.ended(&ctx, third.id).await.0.status,
        RunStatus::Completed
    );
    house.quiet().await;
}

#[tokio::test]
async fn a_cancel_in_the_middle_of_an_answer_keeps_what_was_said() {
    let house = House::answering([Answer::new().text("half an ").text("ans").hang()]);
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    house.seen(&ctx, run.id, "message_delta").await;
    let streams = house.model.open_streams();
    assert_eq!(*streams.borrow(), 1);
    house.cancel(&ctx, run.id).await.unwrap();
    house.cancel(&ctx, run.id).await.ok();
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Cancelled);
    assert_eq!(run.error.unwrap().code, ErrorCode::Cancelled);
    let expected = [
        "run_started",
        "agent_started",
        "message_completed",
        "agent_completed",
        "run_cancelled",
    ];
    assert_eq!(names_without_deltas(&log), expected);
    let thread = house
        .store
        .thread(&ctx, run.thread_id)
        .for_read()
        .await
        .unwrap();
    let messages = house
        .store
        .messages(&ctx, &thread, 10, None)
        .await
        .unwrap()
        .items;
    let said = serde_json::to_value(&messages[1].content).unwrap();
    assert_eq!(said, json!([{"type": "text", "text": "half an ans"}]));
    assert!(!messages[1].complete);
    assert_eq!(*streams.borrow(), 0, "the connection to the model is open");
    house.quiet().await;
    let ended = house.cancel(&ctx, run.id).await.unwrap_err();
    assert_eq!(ended.code(), ErrorCode::RunEnded);
}

#[tokio::test]
async fn a_cancel_takes_effect_at_once() {
    let house = House::with_model(ScriptedModel::from_fn("test", |_| Answer::new().hang()));
    let ctx = house.user().await;
    let mut fastest = Duration::MAX;
    // The bound is on the server's work; a busy machine may stretch one try, but not all of them.
    for _ in 0..5 {
        let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
        house.seen(&ctx, run.id, "agent_started").await;
        let began = std::time::Instant::now();
        house.cancel(&ctx, run.id).await.unwrap();
        house.ended(&ctx, run.id).await;
        house.quiet().await;
        fastest = fastest.min(began.elapsed());
    }
    assert!(fastest < Duration::from_millis(100), "{fastest:?}");
}

#[tokio::test]
async fn a_cancel_closes_the_tool_call_that_is_going_on() {
    let house = House::answering([Answer::new()
        .text("I look")
        .tool_call("c1", "hold", json!({}))]);
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    house.held(1).await;
    house.cancel(&ctx, run.id).await.unwrap();
    let (run, log) = house.ended(&ctx, run.id).await;
    let expected = [
        "run_started",
        "agent_started",
        "message_completed",
        "tool_executing",
        "tool_progress",
        "tool_completed",
        "agent_completed",
        "run_cancelled",
    ];
    assert_eq!(names_without_deltas(&log), expected);
    let completed = log
        .iter()
        .find(|event| event.kind.name() == "tool_completed")
        .unwrap();
    let EventKind::ToolCompleted { success, error, .. } = &completed.kind else {
        panic!()
    };
    assert!(!success);
    assert_eq!(error.as_ref().unwrap().code, ErrorCode::Cancelled);
    assert_eq!(run.usage.tool_calls, 1);
    house.quiet().await;
}

/// Cancels after each event that a run with thoughts, texts and tools has, one run for each.
#[tokio::test]
async fn a_cancel_at_any_event_leaves_nothing_open() {
    let model = ScriptedModel::from_fn("test", |request| match request.messages.len() {
        1 => Answer::new()
            .thinking("hm")
            .text("one ")
            .tool_call("a", "time_now", json!({})),
        3 => Answer::new().text("two ").tool_call("b", "fail", json!({})),
        _ => Answer::new().text("done"),
    });
    let house = House::with_model(model);
    let ctx = house.user().await;
    let mut cancelled = 0;
    for count in 0..20 {
        let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
        let ready = |log: &[netra_protocol::Event]| {
            log.len() >= count || log.last().is_some_and(|event| event.kind.is_terminal())
        };
        house.until(&ctx, run.id, ready).await;
        house.cancel(&ctx, run.id).await.ok();
        let (run, _) = house.ended(&ctx, run.id).await;
        assert!(matches!(
            run.status,
            RunStatus::Cancelled | RunStatus::Completed
        ));
        cancelled += usize::from(run.status == RunStatus::Cancelled);
    }
    assert!(
        cancelled > 5,
        "only {cancelled} of 20 runs were cancelled before their end"
    );
    house.quiet().await;
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_queue_ends_the_run_there() {
    let house = House::with_model(ScriptedModel::from_fn("test", |_| Answer::new().hang()));
    let ctx = house
        .user_with(Limits {
            concurrent_runs: 1,
            ..Limits::default()
        })
        .await;
    let first = house.start(&ctx, ask("assistant", "1")).await.unwrap().run;
    let hasty = StartRun {
        timeout_ms: Some(30),
        ..ask("echo", "2")
    };
    let asked = house.runtime.now();
    let second = house.start(&ctx, hasty).await.unwrap().run;
    let (run, log) = house.ended(&ctx, second.id).await;
    assert_eq!(run.status, RunStatus::TimedOut);
    assert!(run.ended_at.unwrap() >= asked.plus_millis(30));
    assert_eq!(names(&log), ["run_queued", "run_timed_out"]);
    assert_eq!(failure_of(&log).code, ErrorCode::DeadlineExceeded);
    house.cancel(&ctx, first.id).await.unwrap();
    house.ended(&ctx, first.id).await;
    house.quiet().await;
}

#[tokio::test]
async fn a_deadline_that_passes_at_work_warns_and_ends_the_run() {
    let house = House::answering([Answer::new().text("begun").hang()]);
    let ctx = house.user().await;
    let hasty = StartRun {
        timeout_ms: Some(3_000),
        ..ask("assistant", "x")
    };
    let asked = house.runtime.now();
    let run = house.start(&ctx, hasty).await.unwrap().run;
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::TimedOut);
    assert_eq!(failure_of(&log).code, ErrorCode::DeadlineExceeded);
    let warning = log
        .iter()
        .find(|event| event.kind.name() == "limit_warning")
        .unwrap();
    let EventKind::LimitWarning {
        limit,
        used,
        allowed,
    } = &warning.kind
    else {
        panic!()
    };
    assert_eq!((limit.as_str(), *allowed), ("run_timeout_ms", 3_000.0));
    assert!((0.8..1.0).contains(&(used / allowed)), "{used}");
    // The deadline counts from the request, and the run has all the time until then.
    let (deadline, ended) = (run.deadline.unwrap(), run.ended_at.unwrap());
    assert!(
        deadline >= asked.plus_millis(3_000),
        "{deadline:?} {asked:?}"
    );
    assert!(ended >= deadline, "{ended:?} {deadline:?}");
    // The duration counts from the moment that the run was stored.
    assert!(run.usage.duration_ms >= deadline.millis_since(run.created_at));
    house.quiet().await;
}

#[tokio::test]
async fn a_panic_ends_its_own_run_only() {
    let model = ScriptedModel::from_fn("test", |request| {
        let text = format!("{:?}", request.messages);
        assert!(!text.contains("panic"), "on purpose");
        Answer::new().text("fine")
    });
    let house = House::with_model(model);
    let ctx = house.user().await;
    let broken = house
        .start(&ctx, ask("assistant", "panic"))
        .await
        .unwrap()
        .run;
    let sound = house
        .start(&ctx, ask("assistant", "go on"))
        .await
        .unwrap()
        .run;
    let (run, log) = house.ended(&ctx, broken.id).await;
    assert_eq!(run.status, RunStatus::Failed);
    assert_eq!(failure_of(&log).code, ErrorCode::Internal);
    assert_eq!(
        house.ended(&ctx, sound.id).await.0.status,
        RunStatus::Completed
    );
    house.quiet().await;
}

#[tokio::test]
async fn a_drain_waits_then_lets_go_and_the_next_server_goes_on() {
    let house = House::with_model(ScriptedModel::from_fn("test", |_| Answer::new().hang()));
    let ctx = house
        .user_with(Limits {
            concurrent_runs: 1,
            ..Limits::default()
        })
        .await;
    let running = house.start(&ctx, ask("assistant", "1")).await.unwrap().run;
    let queued = house.start(&ctx, ask("echo", "2")).await.unwrap().run;
    house.seen(&ctx, running.id, "agent_started").await;
    house.engine.drain(Duration::from_millis(20)).await;
    for (id, status) in [
        (running.id, RunStatus::Running),
        (queued.id, RunStatus::Queued),
    ] {
        let run = house.store.run(&ctx, id).for_read().await.unwrap();
        assert_eq!(run.status, status);
    }
    let late = house.start(&ctx, ask("echo", "3")).await.unwrap_err();
    assert_eq!(late.code(), ErrorCode::Draining);
    house.quiet().await;

    let answers = ScriptedModel::new("test", [Answer::new().text("after all")]);
    let next = house.restarted(answers);
    let ctx = next.user_again(&ctx).await;
    assert_eq!(next.recover().await, 2);
    let (run, log) = next.ended(&ctx, running.id).await;
    assert_eq!(run.result, Some(json!({"text": "after all"})));
    assert_eq!(run.attempt, 1, "a drain is no crash");
    let resumed = log.iter().find_map(|event| match &event.kind {
        EventKind::RunResumed {
            reason, attempt, ..
        } => Some((reason.as_str(), *attempt)),
        _ => None,
    });
    assert_eq!(resumed, Some(("drain", 1)));
    let (run, log) = next.ended(&ctx, queued.id).await;
    assert_eq!(run.status, RunStatus::Completed);
    assert_eq!(names(&log)[..2], ["run_queued", "run_started"]);
    next.quiet().await;
}

#[tokio::test]
async fn a_drained_run_whose_agent_is_told_first_is_not_ended_as_cancelled() {
    let drain: Arc<OnceLock<ExecutionEngineFactory>> = Arc::default();
    let told = Arc::clone(&drain);
    // The stop fires while the agent is polled, and its call fails by it.
    let house = House::with_model(ScriptedModel::from_fn("test", move |_| {
        let engine = told.get().expect("the run was started after");
        engine.0.runs.stop_all(StopReason::Drained);
        Answer::refuse(netra_model::Error::Cancelled)
    }));
    let ctx = house.user().await;
    drain.set(house.engine.clone()).ok();
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    house.quiet().await;
    let run = house.store.run(&ctx, run.id).for_read().await.unwrap();
    assert_eq!(
        run.status,
        RunStatus::Running,
        "it was let go, to go on later"
    );
}
