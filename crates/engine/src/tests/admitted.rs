//! Starting runs: what is refused before anything is stored, queues, slots, threads.

use netra_model::scripted::{Answer, ScriptedModel, gate};
use netra_protocol::ErrorCode;
use netra_protocol::event::{EventKind, QueueReason};
use netra_protocol::id::FileId;
use netra_protocol::limits::Limits;
use netra_protocol::message::{Content, MessageRole};
use netra_protocol::run::{OnBusy, OnLimit, RunStatus, StartRun};
use netra_store::Idempotency;
use serde_json::json;

use super::house::{House, ask, names, names_without_deltas};

#[tokio::test]
async fn echo_gives_its_input_back_with_the_events_of_the_contract() {
    let house = House::plain();
    let ctx = house.user().await;
    let started = house
        .start(&ctx, ask("echo", "Hello, all of you"))
        .await
        .unwrap();
    assert_eq!(started.run.run_id, Some(started.run.id));
    let (run, log) = house.ended(&ctx, started.run.id).await;
    assert_eq!(run.status, RunStatus::Completed);
    assert_eq!(run.result, Some(json!({"text": "Hello, all of you"})));
    let expected = [
        "run_started",
        "agent_started",
        "message_delta",
        "message_completed",
        "agent_completed",
        "run_completed",
    ];
    assert_eq!(names(&log), expected);
    assert!(log[0].agent.is_none() && log[1].agent.as_deref() == Some("echo"));
    let thread = house
        .store
        .thread(&ctx, run.thread_id)
        .for_read()
        .await
        .unwrap();
    assert_eq!(thread.title, "Hello, all of you");
    let messages = house
        .store
        .messages(&ctx, &thread, 10, None)
        .await
        .unwrap()
        .items;
    let said: Vec<_> = messages
        .iter()
        .map(|message| (message.role, message.complete))
        .collect();
    assert_eq!(
        said,
        [(MessageRole::User, true), (MessageRole::Assistant, true)]
    );
    house.quiet().await;
}

#[tokio::test]
async fn an_object_that_fits_is_as_good_as_a_text() {
    let house = House::plain();
    let ctx = house.user().await;
    let run = house
        .start(&ctx, ask("echo", json!({"text": "hi"})))
        .await
        .unwrap()
        .run;
    assert_eq!(
        house.ended(&ctx, run.id).await.0.result,
        Some(json!({"text": "hi"}))
    );
}

#[tokio::test]
async fn what_is_refused_leaves_nothing_behind() {
    let house = House::plain();
    let limits = Limits {
        message_chars: 10,
        ..Limits::default()
    };
    let ctx = house.user_with(limits).await;
    let foreign = house.runtime.new_id(FileId::from_parts);
    let metadata = json!({"k": "x".repeat(20_000)}).as_object().cloned();
    for (request, code) in [
        (ask("nobody", "x"), ErrorCode::NotFound),
        (ask("hidden", "x"), ErrorCode::NotFound),
        (ask("broken", "x"), ErrorCode::AgentNotReady),
        (ask("echo", json!({"txt": "x"})), ErrorCode::InvalidInput),
        (ask("echo", json!(7)), ErrorCode::InvalidInput),
        (ask("echo", "eleven long"), ErrorCode::InvalidInput),
        (
            StartRun {
                files: vec![foreign],
                ..ask("echo", "x")
            },
            ErrorCode::NotFound,
        ),
        (
            StartRun {
                metadata,
                ..ask("echo", "x")
            },
            ErrorCode::InvalidRequest,
        ),
        (
            StartRun {
                timeout_ms: Some(0),
                ..ask("echo", "x")
            },
            ErrorCode::InvalidRequest,
        ),
        (
            StartRun {
                timeout_ms: Some(3_600_001),
                ..ask("echo", "x")
            },
            ErrorCode::InvalidRequest,
        ),
    ] {
        let words = format!("{request:?}");
        assert_eq!(
            house.start(&ctx, request).await.unwrap_err().code(),
            code,
            "{words}"
        );
    }
    assert!(
        house
            .store
            .runs(&ctx, 10, None)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert_eq!(house.store.latest_seq(&ctx).await.unwrap(), 0);
    house.quiet().await;
}

#[tokio::test]
async fn a_user_beyond_the_slots_waits_is_refused_or_finds_the_queue_full() {
    let (gate, opener) = gate();
    let model =
        ScriptedModel::from_fn("test", move |_| Answer::new().wait(gate.clone()).text("ok"));
    let house = House::with_model(model);
    let limits = Limits {
        concurrent_runs: 2,
        queued_runs: 1,
        ..Limits::default()
    };
    let ctx = house.user_with(limits).await;
    let first = house.start(&ctx, ask("assistant", "1")).await.unwrap().run;
    let second = house.start(&ctx, ask("assistant", "2")).await.unwrap().run;
    let reject = StartRun {
        on_limit: OnLimit::Reject,
        ..ask("assistant", "3")
    };
    let refused = house.start(&ctx, reject).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::SlotsExhausted);
    let third = house.start(&ctx, ask("assistant", "3")).await.unwrap().run;
    assert_eq!(third.queue_position, Some(1));
    assert_eq!(third.status, RunStatus::Queued);
    let full = house.start(&ctx, ask("assistant", "4")).await.unwrap_err();
    assert_eq!(full.code(), ErrorCode::QueueFull);
    let slots = house.engine.slots(&ctx);
    assert_eq!((slots.running, slots.queued, slots.allowed), (2, 1, 2));
    // Another user is not held up.
    let other = house.user().await;
    let theirs = house.start(&other, ask("echo", "x")).await.unwrap().run;
    house.ended(&other, theirs.id).await;
    opener.open();
    for run in [first.id, second.id] {
        assert_eq!(house.ended(&ctx, run).await.0.status, RunStatus::Completed);
    }
    let (run, log) = house.ended(&ctx, third.id).await;
    assert_eq!(run.status, RunStatus::Completed);
    assert_eq!(names(&log)[..2], ["run_queued", "run_started"]);
    let EventKind::RunQueued {
        queue_position: 1,
        reason: QueueReason::Slots,
    } = log[0].kind
    else {
        panic!("{:?}", log[0].kind);
    };
    house.quiet().await;
}

#[tokio::test]
async fn a_full_node_queues_fairly_or_says_so() {
    let (gate, opener) = gate();
    let model =
        ScriptedModel::from_fn("test", move |_| Answer::new().wait(gate.clone()).text("ok"));
    let house = House::open(model, 1);
    let (ctx, other) = (house.user().await, house.user().await);
    let first = house.start(&ctx, ask("assistant", "1")).await.unwrap().run;
    let reject = StartRun {
        on_limit: OnLimit::Reject,
        ..ask("echo", "2")
    };
    assert_eq!(
        house.start(&other, reject).await.unwrap_err().code(),
        ErrorCode::Overloaded
    );
    let second = house.start(&other, ask("echo", "2")).await.unwrap().run;
    opener.open();
    house.ended(&ctx, first.id).await;
    let (_, log) = house.ended(&other, second.id).await;
    let EventKind::RunQueued {
        reason: QueueReason::Engines,
        ..
    } = log[0].kind
    else {
        panic!("{:?}", log[0].kind);
    };
    house.quiet().await;
}

#[tokio::test]
async fn a_thread_has_one_active_run() {
    let (gate, opener) = gate();
    let model =
        ScriptedModel::from_fn("test", move |_| Answer::new().wait(gate.clone()).text("ok"));
    let house = House::with_model(model);
    let ctx = house.user().await;
    let first = house.start(&ctx, ask("assistant", "1")).await.unwrap().run;
    let thread = first.thread_id;
    let reject = StartRun {
        on_busy: OnBusy::Reject,
        ..ask("echo", "2")
    };
    let busy = house.start_on(&ctx, thread, reject).await.unwrap_err();
    assert_eq!(busy.code(), ErrorCode::ThreadBusy);
    let second = house
        .start_on(&ctx, thread, ask("echo", "2"))
        .await
        .unwrap()
        .run;
    let elsewhere = house.start(&ctx, ask("echo", "3")).await.unwrap().run;
    house.ended(&ctx, elsewhere.id).await;
    assert_eq!(names(&house.log(&ctx, second.id).await), ["run_queued"]);
    opener.open();
    house.ended(&ctx, first.id).await;
    house.ended(&ctx, second.id).await;
    // The end of the first is in the log before the second begins.
    let all = house.store.events(&ctx, 0, 1000).await.unwrap();
    let seq = |run, kind: &str| {
        all.iter()
            .find(|e| e.run_id == run && e.kind.as_str() == kind)
            .map(|e| e.seq)
            .unwrap()
    };
    assert!(seq(first.id, "run_completed") < seq(second.id, "run_started"));
    house.quiet().await;
}

#[tokio::test]
async fn an_interrupting_run_takes_the_thread_from_all_before_it() {
    let model = ScriptedModel::from_fn("test", |_| Answer::new().text("half").hang());
    let house = House::with_model(model);
    let ctx = house.user().await;
    let first = house.start(&ctx, ask("assistant", "1")).await.unwrap().run;
    let second = house
        .start_on(&ctx, first.thread_id, ask("echo", "2"))
        .await
        .unwrap()
        .run;
    let bystander = house
        .start(&ctx, ask("assistant", "other thread"))
        .await
        .unwrap()
        .run;
    house.seen(&ctx, first.id, "message_delta").await;
    let interrupt = StartRun {
        on_busy: OnBusy::Interrupt,
        ..ask("echo", "3")
    };
    let third = house
        .start_on(&ctx, first.thread_id, interrupt)
        .await
        .unwrap()
        .run;
    let (run, log) = house.ended(&ctx, first.id).await;
    assert_eq!(run.status, RunStatus::Cancelled);
    assert!(names(&log).contains(&"message_completed"));
    let (run, log) = house.ended(&ctx, second.id).await;
    assert_eq!(run.status, RunStatus::Cancelled);
    assert_eq!(names(&log), ["run_queued", "run_cancelled"]);
    assert_eq!(
        house.ended(&ctx, third.id).await.0.status,
        RunStatus::Completed
    );
    house.cancel(&ctx, bystander.id).await.unwrap();
    house.ended(&ctx, bystander.id).await;
    house.quiet().await;
}

#[tokio::test]
async fn the_same_request_twice_is_one_run() {
    let house = House::plain();
    let ctx = house.user().await;
    let key = |hash: u8| Idempotency {
        key: "once".into(),
        operation: "run_start".into(),
        body_hash: [hash; 32],
    };
    let first = house
        .engine
        .start(&ctx, None, ask("echo", "x"), Some(key(1)))
        .await
        .unwrap();
    let again = house
        .engine
        .start(&ctx, None, ask("echo", "x"), Some(key(1)))
        .await
        .unwrap();
    assert!(!first.replayed && again.replayed);
    assert_eq!(first.run.id, again.run.id);
    let other = house
        .engine
        .start(&ctx, None, ask("echo", "y"), Some(key(2)))
        .await
        .unwrap_err();
    assert_eq!(other.code(), ErrorCode::IdempotencyKeyReused);
    house.ended(&ctx, first.run.id).await;
    let third = Idempotency {
        key: "race".into(),
        ..key(3)
    };
    let both = tokio::join!(
        house
            .engine
            .start(&ctx, None, ask("echo", "x"), Some(third.clone())),
        house
            .engine
            .start(&ctx, None, ask("echo", "x"), Some(third)),
    );
    let (one, two) = (both.0.unwrap(), both.1.unwrap());
    assert_eq!(one.run.id, two.run.id);
    house.ended(&ctx, one.run.id).await;
    assert_eq!(
        house.store.runs(&ctx, 10, None).await.unwrap().items.len(),
        2
    );
    house.quiet().await;
}

#[tokio::test]
async fn a_retry_is_a_new_run_of_the_same_question() {
    let house = House::answering([
        Answer::refuse(netra_model::Error::NotConfigured("none".into())),
        Answer::new().text("now it works"),
    ]);
    let ctx = house.user().await;
    let first = house
        .start(&ctx, ask("assistant", "try"))
        .await
        .unwrap()
        .run;
    assert_eq!(
        house.ended(&ctx, first.id).await.0.status,
        RunStatus::Failed
    );
    let ended = house.store.run(&ctx, first.id).for_read().await.unwrap();
    let again = house.engine.retry(&ctx, &ended, None).await.unwrap().run;
    let (run, _) = house.ended(&ctx, again.id).await;
    assert_eq!(run.result, Some(json!({"text": "now it works"})));
    assert_eq!(run.thread_id, first.thread_id);
    assert_ne!(run.id, first.id);
    house.quiet().await;
}

#[tokio::test]
async fn a_text_larger_than_an_event_becomes_a_file_and_stands_whole_in_the_run() {
    let house = House::plain();
    let ctx = house.user().await;
    let text = "€\u{1}".repeat(50_000);
    let run = house
        .start(&ctx, ask("echo", text.clone()))
        .await
        .unwrap()
        .run;
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.result, Some(json!({ "text": text })));
    let EventKind::RunCompleted {
        result,
        result_truncated,
        ..
    } = &log.last().unwrap().kind
    else {
        panic!("not completed");
    };
    assert!(result.is_null() && *result_truncated);
    assert!(names_without_deltas(&log).contains(&"artifact_created"));
    let deltas = log.iter().filter_map(|event| match &event.kind {
        EventKind::MessageDelta { delta, .. } => Some(delta.as_str()),
        _ => None,
    });
    assert_eq!(deltas.collect::<String>(), text);
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
    assert!(matches!(
        messages[1].content[1],
        Content::File { bytes: 200_000, .. }
    ));
    house.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_users_with_many_runs_all_end_and_nothing_is_left() {
    let house = std::sync::Arc::new(House::open(ScriptedModel::new("test", []), 7));
    let mut tasks = Vec::new();
    for _ in 0..6 {
        let house = house.clone();
        let ctx = house
            .user_with(Limits {
                concurrent_runs: 3,
                ..Limits::default()
            })
            .await;
        tasks.push(async move {
            let mut runs = Vec::new();
            for n in 0..20 {
                let run = house
                    .start(&ctx, ask("echo", n.to_string()))
                    .await
                    .unwrap()
                    .run;
                assert!(house.engine.slots(&ctx).running <= 3);
                if n % 5 == 0 {
                    // It may have ended before: both answers are right.
                    house.cancel(&ctx, run.id).await.ok();
                }
                runs.push(run.id);
            }
            for id in runs {
                house.ended(&ctx, id).await;
            }
        });
    }
    futures::future::join_all(tasks).await;
    house.quiet().await;
}
