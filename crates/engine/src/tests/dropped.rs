//! An engine that is dropped at any of its await points, as when a server is killed: everything it
//! owned is released, and the next start ends the run properly, whatever was written of it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use netra_context::{BackgroundKind, UserExecutionContext};
use netra_model::scripted::{Answer, ScriptedModel};
use netra_protocol::ErrorCode;
use netra_protocol::run::RunStatus;
use serde_json::json;

use super::house::{House, ask, failure_of};

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
async fn whatever_was_done_is_ended_at_the_next_start_and_all_is_released() {
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
    let mut interrupted = 0;
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
        interrupted += house.engine.recover(&recovery).await.unwrap();
        let (run, log) = house.ended(&ctx, id).await;
        if run.status == RunStatus::Failed {
            assert_eq!(failure_of(&log).code, ErrorCode::Interrupted);
        } else {
            assert_eq!(run.status, RunStatus::Completed);
        }
    }
    assert!(
        finished > 5 && interrupted > 5,
        "{finished} finished, {interrupted} interrupted"
    );
    house.quiet().await;
}
