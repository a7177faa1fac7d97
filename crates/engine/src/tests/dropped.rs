//! An engine that is dropped at any of its await points, as when a server is killed: everything it
//! owned is released, and the next start brings the run to its end, whatever was written of it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use futures::FutureExt as _;
use netra_context::{BackgroundKind, UserExecutionContext};
use netra_model::scripted::{Answer, ScriptedModel};
use netra_protocol::limits::Limits;
use netra_protocol::run::{OnBusy, RunStatus, StartRun};
use serde_json::json;

use super::house::{House, ask};

/// Polls a future this often and drops it; true if it was done before.
async fn polled(future: impl Future, mut times: usize) -> bool {
    let mut future = pin!(future);
    poll_fn(|context| {
        if times == 0 {
            return Poll::Ready(false);
        }
        times -= 1;
        future.as_mut().poll(context).map(|_| true)
    })
    .await
}

#[tokio::test]
async fn whatever_was_done_goes_on_at_the_next_start_and_all_is_released() {
    let model = ScriptedModel::from_fn("test", |request| match request.messages.len() {
        1 => Answer::new()
            .thinking("hm")
            .text("one ")
            .tool_call("a", "time_now", json!({})),
        _ => Answer::new().text("done"),
    });
    let house = House::with_model(model);
    let ctx = house.user().await;
    let recovery = UserExecutionContext::for_background(&house.runtime, BackgroundKind::Recovery);
    let mut finished = 0;
    let mut resumed = 0;
    for times in 0..40 {
        let (id, engine) = house.engine.for_test(&ctx, ask("assistant", "x")).await;
        assert_eq!(house.engine.load(), (1, 0));
        assert_eq!(house.engine.account(id).unwrap().current_bytes(), 0);
        let done = polled(Box::pin(engine.drive()), times).await;
        assert_eq!(house.engine.load(), (0, 0), "the slot was not given back");
        assert!(
            house.engine.account(id).is_none(),
            "the run is still listed"
        );
        assert_eq!(*house.model.open_streams().borrow(), 0);
        finished += usize::from(done);
        house.store.health().await.unwrap();
        resumed += house.engine.recover(&recovery).await.unwrap();
        let (run, _) = house.ended(&ctx, id).await;
        assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
        assert_eq!(run.result, Some(json!({"text": "done"})));
    }
    assert!(
        finished > 5 && resumed > 5,
        "{finished} finished, {resumed} resumed"
    );
    house.quiet().await;
}

#[tokio::test]
async fn a_run_that_is_cancelled_while_its_call_is_set_aside_or_settled_does_not_stay_charged() {
    let model = ScriptedModel::from_fn("test", |request| match request.messages.len() {
        1 => Answer::new()
            .tool_call("a", "time_now", json!({}))
            .usage(10, 5),
        _ => Answer::new().text("done").usage(10, 5),
    });
    let house = House::with_model(model);
    let bounded = Limits {
        budget_tokens: Some(1_000_000),
        ..Limits::default()
    };
    let ctx = house.user_with(bounded).await;
    let (mut before, mut cancelled, mut completed) = (0, 0, 0);
    for times in 0..30 {
        let (id, engine) = house.engine.for_test(&ctx, ask("assistant", "x")).await;
        let mut driven = Box::pin(engine.drive());
        if !polled(&mut driven, times).await {
            house.cancel(&ctx, id).await.ok();
            driven.await;
        }
        let (run, _) = house.ended(&ctx, id).await;
        match run.status {
            RunStatus::Cancelled => cancelled += 1,
            _ => completed += 1,
        }
        let used = house.used_today(&ctx).await;
        // Its request at the most, and what came of the answer; an answer may have 4,096 tokens.
        assert!(
            used - before < 4_096,
            "cancelled at poll {times}: {before}, then {used}"
        );
        before = used;
    }
    assert!(cancelled > 5 && completed > 5, "{cancelled}, {completed}");
    house.quiet().await;
}

/// As [`polled`]; with 0 the future is polled and dropped before anything else gets its turn.
async fn polled_once_or(future: impl Future, times: usize) -> bool {
    if times == 0 {
        return future.now_or_never().is_some();
    }
    polled(future, times).await
}

#[tokio::test]
async fn a_client_that_hangs_up_while_its_run_is_started_leaves_no_run_without_an_end() {
    let house = House::plain();
    let ctx = house.user().await;
    let (mut answered, mut stored) = (0, 0);
    for times in 0..6 {
        let start = Box::pin(house.start(&ctx, ask("echo", "x")));
        answered += usize::from(polled_once_or(start, times).await);
        // What was on its way to the store has arrived there.
        house.store.health().await.unwrap();
        house.quiet().await;
        let runs = house.store.runs(&ctx, 100, None).await.unwrap().items;
        stored = runs.len();
        for run in &runs {
            assert!(
                run.status.is_terminal(),
                "dropped at poll {times}: {:?}",
                run.status
            );
        }
    }
    assert!(
        answered < stored,
        "no run was stored for a client that had gone: {answered} of {stored}"
    );
}

#[tokio::test]
async fn a_client_that_hangs_up_while_its_run_interrupts_leaves_that_run_alone_on_the_thread() {
    let house = House::with_model(ScriptedModel::from_fn("test", |_| Answer::new().hang()));
    let ctx = house.user().await;
    for times in 0..6 {
        let first = house.start(&ctx, ask("assistant", "1")).await.unwrap().run;
        let interrupt = StartRun {
            on_busy: OnBusy::Interrupt,
            ..ask("echo", "2")
        };
        let thread = house.store.thread(&ctx, first.thread_id);
        let thread = thread.for_write().await.unwrap();
        let start = Box::pin(house.engine.start(&ctx, Some(thread), interrupt, None));
        polled_once_or(start, times).await;
        // It ends because the other one was stored.
        let (run, _) = house.ended(&ctx, first.id).await;
        assert_eq!(run.status, RunStatus::Cancelled);
        let runs = house.store.runs(&ctx, 100, None).await.unwrap().items;
        let second = runs
            .iter()
            .find(|run| run.thread_id == first.thread_id && run.id != first.id);
        let (run, _) = house.ended(&ctx, second.unwrap().id).await;
        assert_eq!(run.status, RunStatus::Completed);
    }
    house.quiet().await;
}
