//! Requests that meet: two at the same moment, and what changes while one waits.

use netra_model::scripted::{Answer, ScriptedModel, gate};
use netra_protocol::ErrorCode;
use netra_protocol::limits::Limits;
use netra_protocol::run::{OnBusy, OnLimit, RunStatus, StartRun};
use netra_protocol::thread::CreateThread;
use netra_store::Idempotency;

use super::house::{House, ask, names};

fn key(key: &str) -> Idempotency {
    Idempotency {
        key: key.into(),
        operation: "run_start".into(),
        body_hash: [1; 32],
    }
}

fn interrupt(agent: &str) -> StartRun {
    StartRun {
        on_busy: OnBusy::Interrupt,
        ..ask(agent, "x")
    }
}

/// Limits of a user who may have one run at once and this many in the queue.
fn narrow(queued_runs: u32) -> Limits {
    Limits {
        concurrent_runs: 1,
        queued_runs,
        ..Limits::default()
    }
}

#[tokio::test]
async fn of_two_interrupting_runs_at_once_the_later_one_runs() {
    let (gate, opener) = gate();
    let model =
        ScriptedModel::from_fn("test", move |_| Answer::new().wait(gate.clone()).text("ok"));
    let house = House::with_model(model);
    let ctx = house.user().await;
    let before = house.start(&ctx, ask("assistant", "0")).await.unwrap().run;
    let thread = before.thread_id;
    let (one, two) = tokio::join!(
        house.start_on(&ctx, thread, interrupt("assistant")),
        house.start_on(&ctx, thread, interrupt("assistant")),
    );
    opener.open();
    let mut statuses = Vec::new();
    for id in [before.id, one.unwrap().run.id, two.unwrap().run.id] {
        statuses.push(house.ended(&ctx, id).await.0.status);
    }
    assert_eq!(statuses[0], RunStatus::Cancelled);
    statuses.sort_by_key(|status| *status == RunStatus::Completed);
    assert_eq!(statuses[1..], [RunStatus::Cancelled, RunStatus::Completed]);
    house.quiet().await;
}

#[tokio::test]
async fn a_run_that_came_after_an_interrupting_one_is_not_cancelled_by_it() {
    let house = House::plain();
    let ctx = house.user().await;
    let before = house.start(&ctx, ask("echo", "0")).await.unwrap().run;
    house.ended(&ctx, before.id).await;
    let thread = house.store.thread(&ctx, before.thread_id);
    let thread = thread.for_write().await.unwrap();
    let start = |request| {
        house
            .engine
            .start(&ctx, Some(thread.clone()), request, None)
    };
    let (first, second) = tokio::join!(start(interrupt("echo")), start(ask("echo", "after")));
    for started in [first, second] {
        let (run, _) = house.ended(&ctx, started.unwrap().run.id).await;
        assert_eq!(run.status, RunStatus::Completed);
    }
    house.quiet().await;
}

#[tokio::test]
async fn a_repeat_while_the_first_is_on_its_way_is_not_refused_but_answered_alike() {
    let house = House::plain();
    let reject_busy = StartRun {
        on_busy: OnBusy::Reject,
        ..ask("echo", "x")
    };
    let reject_limit = StartRun {
        on_limit: OnLimit::Reject,
        ..ask("echo", "x")
    };
    for (name, request) in [
        ("busy", reject_busy),
        ("limit", reject_limit),
        ("full", ask("echo", "x")),
    ] {
        let ctx = house.user_with(narrow(0)).await;
        let new = CreateThread {
            title: None,
            metadata: None,
        };
        let thread = house.store.thread_create(&ctx, new, None).await.unwrap();
        let thread = house.store.thread(&ctx, thread.value.id);
        let thread = thread.for_write().await.unwrap();
        let start = || {
            house
                .engine
                .start(&ctx, Some(thread.clone()), request.clone(), Some(key(name)))
        };
        let (one, two) = tokio::join!(start(), start());
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(one.run.id, two.run.id, "{name}");
        assert!(one.replayed != two.replayed, "{name}");
        house.ended(&ctx, one.run.id).await;
        house.quiet().await;
    }
}

#[tokio::test]
async fn who_rejects_a_full_limit_does_not_wait_behind_a_queue_of_the_thread() {
    let house = House::with_model(ScriptedModel::from_fn("test", |_| Answer::new().hang()));
    let ctx = house.user_with(narrow(10)).await;
    let running = house.start(&ctx, ask("assistant", "1")).await.unwrap().run;
    let queued = house.start(&ctx, ask("echo", "2")).await.unwrap().run;
    for on_busy in [OnBusy::Queue, OnBusy::Interrupt] {
        let reject = StartRun {
            on_busy,
            on_limit: OnLimit::Reject,
            ..ask("echo", "3")
        };
        let refused = house.start_on(&ctx, queued.thread_id, reject).await;
        assert_eq!(refused.unwrap_err().code(), ErrorCode::SlotsExhausted);
    }
    // The slot of the run that it interrupts becomes its own.
    let over = StartRun {
        on_limit: OnLimit::Reject,
        ..interrupt("echo")
    };
    let over = house.start_on(&ctx, running.thread_id, over).await;
    for (id, status) in [
        (running.id, RunStatus::Cancelled),
        (queued.id, RunStatus::Completed),
        (over.unwrap().run.id, RunStatus::Completed),
    ] {
        assert_eq!(house.ended(&ctx, id).await.0.status, status);
    }
    house.quiet().await;
}

#[tokio::test]
async fn a_queued_run_of_a_user_who_has_left_when_its_slot_is_free_does_not_start() {
    let house = House::with_model(ScriptedModel::from_fn("test", |_| Answer::new().hang()));
    let ctx = house.user_with(narrow(10)).await;
    let running = house.start(&ctx, ask("assistant", "1")).await.unwrap().run;
    let queued = house.start(&ctx, ask("echo", "2")).await.unwrap().run;
    house.store.user_leave(&ctx).await.unwrap();
    house.cancel(&ctx, running.id).await.unwrap();
    house.ended(&ctx, running.id).await;
    let (run, log) = house.ended(&ctx, queued.id).await;
    assert_eq!(run.status, RunStatus::Cancelled);
    assert_eq!(names(&log), ["run_queued", "run_cancelled"]);
    house.quiet().await;
}

#[tokio::test]
async fn a_retry_of_a_run_whose_file_is_gone_is_not_found_and_not_run_without_it() {
    let house = House::plain();
    let ctx = house.user().await;
    let mut writer = house
        .store
        .file_begin(&ctx, "a.txt".into(), "text/plain".into(), None, 100)
        .await
        .unwrap();
    writer.write(b"abc").await.unwrap();
    let file = writer.finish(None).await.unwrap().value;
    let with_file = StartRun {
        files: vec![file.id],
        ..ask("echo", "x")
    };
    let run = house.start(&ctx, with_file).await.unwrap().run;
    house.ended(&ctx, run.id).await;
    let ended = house.store.run(&ctx, run.id).for_read().await.unwrap();
    let retry = |name| house.engine.retry(&ctx, &ended, Some(key(name)));
    let again = retry("first").await.unwrap().run;
    house.ended(&ctx, again.id).await;
    let file = house.store.file(&ctx, file.id).for_write().await.unwrap();
    house.store.file_delete(&ctx, file).await.unwrap();
    assert_eq!(
        retry("second").await.unwrap_err().code(),
        ErrorCode::NotFound
    );
    // The answer to a repeat is still the first one.
    let repeated = retry("first").await.unwrap();
    assert!(repeated.replayed && repeated.run.id == again.id);
    assert_eq!(
        house.store.runs(&ctx, 10, None).await.unwrap().items.len(),
        2
    );
    house.quiet().await;
}
